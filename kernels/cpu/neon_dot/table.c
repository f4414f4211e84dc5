/* AArch64 with sdot (FEAT_DotProd: Cortex-A55, A75, Neoverse N1 and later). */
#define TABLE isa_neon_dot
#define TABLE_NAME "neon-dotprod"
#include "kernels/cpu/neon/table.h"
