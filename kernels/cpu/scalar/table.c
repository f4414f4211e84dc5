/* What every compiler makes of the templates: the baseline of the architecture (on AArch64 that has NEON). */
#define TABLE isa_scalar
#define TABLE_NAME "scalar"
#include "kernels/cpu/wide/table.h"
