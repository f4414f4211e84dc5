/* What cuBLAS is handed: weights and activations as bf16; and the bias that its sums are added to. */
#ifndef KERNELS_CUDA_UNPACK_H
#define KERNELS_CUDA_UNPACK_H

#include "kernels/cuda/runs.h"

/* 16 values of a run, 32 bytes at a multiple of 16 */
KERNEL_CODE void unpack_group(const struct run *w, int g, float factor, uint16_t *y)
{
    UNROLL for (int half = 0; half < 2; half++) {
        struct words out;
        UNROLL for (int i = 0; i < 4; i++) {
            uint32_t low = float_to_bf16(factor * code_value(w, g, 8 * half + 2 * i)), high = float_to_bf16(factor * code_value(w, g, 8 * half + 2 * i + 1));
            out.w[i] = low | high << 16;
        }
        STORE_WORDS(y + 8 * half, out);
    }
}

KERNEL_CODE void unpack_codes(const struct unpack_args *a, const unsigned char *row, uint16_t *y)
{
    for (int64_t r = THREAD; r * RUN_CODES < (a->in + 255) / 256 * 256; r += CUDA_THREADS) {
        struct run w;
        read_codes(a->format, row, a->in, r, &w);
        UNROLL for (int g = 0; g < RUN_GROUPS; g++)
            if (run_group(a->format, r, g) < a->in)
                unpack_group(&w, g, a->factor != 0 ? a->factor : 1, y + run_group(a->format, r, g));
    }
}

/* A block for each row of a weight. */
KERNEL_CODE void unpack_body(struct unpack_args a)
{
    if (a.planes) {
        unpack_codes(&a, a.weight + BLOCK * a.row_bytes, a.y + BLOCK * a.in);
        return;
    }
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
