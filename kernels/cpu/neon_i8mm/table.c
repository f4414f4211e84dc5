/* AArch64 with sdot and smmla (FEAT_I8MM: Cortex-A510, X2, Neoverse V1, N2 and later). */
#define TABLE isa_neon_i8mm
#define TABLE_NAME "neon-i8mm"
#include "kernels/cpu/neon/table.h"
