/* AVX2 with FMA and F16C. */
#define TABLE isa_avx2
#define TABLE_NAME "avx2"
#include "kernels/cpu/wide/table.h"
