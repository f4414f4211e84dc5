/* What the machine can do at most. */
#ifndef BENCH_ROOF_H
#define BENCH_ROOF_H

#include <stddef.h>

/* GB/s of all threads reading `bytes` once, a contiguous part each. */
double roof_read(int threads, const unsigned char *memory, size_t bytes);

/* 1e9 int8 multiplications and additions a second of all threads, operands in registers. 0 where the machine has no
 * int8 dot instruction that this bench knows. */
double roof_int8(int threads);

#endif
