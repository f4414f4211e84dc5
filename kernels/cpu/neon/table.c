/* Plain AArch64: no dot product instructions assumed. */
#define TABLE isa_neon
#define TABLE_NAME "neon"
#include "kernels/cpu/neon/table.h"
