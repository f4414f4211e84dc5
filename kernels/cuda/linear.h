/* y = W x + b from stored bytes: a warp for each output. Lane l takes runs l, l + 32, ... of the row, decodes each once for
 * LINEAR_ROWS activation rows, and the lanes are summed as a tree: a row's bits depend on nothing but its own values. */
#ifndef KERNELS_CUDA_LINEAR_H
#define KERNELS_CUDA_LINEAR_H

#include "kernels/cuda/read.h"

/* Grid: (outputs / CUDA_WARPS, rows / LINEAR_ROWS), both rounded up. */
KERNEL_CODE void linear_body(int format, struct linear_args a)
{
    int64_t out = BLOCK * CUDA_WARPS + THREAD / 32, first = BLOCK_Y * LINEAR_ROWS;
    int lane = THREAD % 32;
    if (out >= a.out)
        return; /* the whole warp */
    const unsigned char *row = a.weight + out * a.row_bytes;
    const float *x = a.x + first * a.in;
    int rows = a.rows - (int)first < LINEAR_ROWS ? a.rows - (int)first : LINEAR_ROWS;
    float sum[LINEAR_ROWS] = {0};
    for (int64_t at = (int64_t)lane * RUN_VALUES; at < a.in; at += 32 * RUN_VALUES) {
        float v[RUN_VALUES];
        read_run(format, a.grids, row, at, a.in, v);
        UNROLL for (int r = 0; r < LINEAR_ROWS; r++)
            if (r < rows)
                UNROLL for (int j = 0; j < RUN_VALUES; j++)
                    if (at + j < a.in)
                        sum[r] = fmaf(v[j], x[r * a.in + at + j], sum[r]);
    }
    UNROLL for (int r = 0; r < LINEAR_ROWS; r++)
        if (r < rows) { /* the same for all lanes */
            float y = warp_sum(sum[r]);
            if (a.factor != 0)
                y *= a.factor;
            if (lane == 0)
                a.y[(first + r) * a.out + out] = a.bias ? y + a.bias[out] : y;
        }
}

#endif
