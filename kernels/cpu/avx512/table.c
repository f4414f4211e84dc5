/* AVX-512 with VNNI and VBMI (Ice Lake, Zen 4 and later). */
#define TABLE isa_avx512
#define TABLE_NAME "avx512-vnni"
#include "kernels/cpu/wide/table.h"
