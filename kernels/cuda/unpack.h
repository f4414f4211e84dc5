/* What cuBLAS is handed: weights and activations as bf16; and the bias that its sums are added to. */
#ifndef KERNELS_CUDA_UNPACK_H
#define KERNELS_CUDA_UNPACK_H

#include "kernels/cuda/read.h"

/* A block for each row of a weight. */
KERNEL_CODE void unpack_body(struct unpack_args a)
{
    for (int64_t at = (int64_t)THREAD * RUN_VALUES; at < a.in; at += CUDA_THREADS * RUN_VALUES) {
        float v[RUN_VALUES];
        read_run(a.format, a.grids, a.weight + BLOCK * a.row_bytes, at, a.in, v);
        for (int j = 0; j < RUN_VALUES && at + j < a.in; j++)
            a.y[BLOCK * a.in + at + j] = float_to_bf16(a.factor != 0 ? v[j] * a.factor : v[j]);
    }
}

KERNEL_CODE void narrow_body(struct narrow_args a)
{
    int64_t i = BLOCK * CUDA_THREADS + THREAD;
    if (i < a.count)
        a.y[i] = float_to_bf16(a.x[i]);
}

/* y[row][i] = bias[i] */
KERNEL_CODE void spread_body(struct spread_args a)
{
    int64_t i = BLOCK * CUDA_THREADS + THREAD;
    if (i < a.count)
        a.y[i] = a.bias[i % a.out];
}

#endif
