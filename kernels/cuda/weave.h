/* x in the order in which Hopper's products meet the weights of a format (hopper.h). A run of 256 values is four groups of 16 for each of
 * four lanes (run_group). Product k of stage j has of lane t in columns 2t, 2t+1, 2t+8, 2t+9 the values 4k .. 4k+3 of its group j, so
 *     woven[64 j + 16 k + 8 h + 2 t + e] = x[run_group(t, j) + 4 k + 2 h + e]        h, e: 0 or 1 */
#ifndef KERNELS_CUDA_WEAVE_H
#define KERNELS_CUDA_WEAVE_H

#include "kernels/cuda/runs.h"

/* Group `number` of 16 values of a row, as pairs, to where they belong. */
KERNEL_CODE void weave_group(int format, const uint32_t *pairs, int64_t number, uint16_t *row)
{
    int i = (int)(number % 16), far = run_group(format, 0, 1) != GROUP; /* groups of a lane lie apart */
    int t = far ? i / 8 * 2 + i % 2 : i / 4, j = far ? i / 2 % 4 : i % 4;
    uint32_t *run = (uint32_t *)(void *)(row + number / 16 * 256);
    UNROLL for (int k = 0; k < 8; k++)
        run[32 * j + 4 * k + t] = pairs[k];
}

/* Of what was written as bf16 already. */
KERNEL_CODE void weave_body(struct weave_args a)
{
    int64_t i = BLOCK * CUDA_THREADS + THREAD;
    if (i >= a.count)
        return;
    struct words low = WORDS(a.x + 16 * i), high = WORDS(a.x + 16 * i + 8);
    const uint32_t pairs[8] = {low.w[0], low.w[1], low.w[2], low.w[3], high.w[0], high.w[1], high.w[2], high.w[3]};
    weave_group(a.format, pairs, i, a.y);
}

#endif
