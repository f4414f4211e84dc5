/* Operations that handle every row on its own. */
#ifndef KERNELS_CUDA_ROWS_H
#define KERNELS_CUDA_ROWS_H

#include "kernels/cuda/runs.h"

KERNEL_CODE int32_t batch_row(const struct device_batch *b, int only_wanted, int64_t row) { return only_wanted ? b->wanted[row] : (int32_t)row; }

KERNEL_CODE void embed_codes(const struct embed_args *a, const unsigned char *row, float *y)
{
    float scale = a->factor != 0 ? a->factor * a->scale : a->scale;
    for (int64_t r = THREAD; r * RUN_CODES < (a->width + 255) / 256 * 256; r += CUDA_THREADS) {
        struct run w;
        read_codes(a->format, row, a->width, r, &w);
        for (int g = 0; g < RUN_GROUPS; g++) {
            int64_t at = run_group(a->format, r, g);
            for (int i = 0; i < GROUP && at + i < a->width; i++)
                y[at + i] = code_value(&w, g, i) * scale;
        }
    }
}

/* A block for each row. An embedding from outside is what EMBED would have made: not scaled again. */
KERNEL_CODE void embed_body(struct embed_args a)
{
    int32_t token = a.batch.token[batch_row(&a.batch, a.only_wanted, BLOCK)];
    float *y = a.y + BLOCK * a.width;
    if (token < 0) {
        const float *from = a.batch.embeddings + (int64_t)(-1 - token) * a.batch.embedding_width;
        for (int64_t i = THREAD; i < a.width; i += CUDA_THREADS)
            y[i] = from[i];
        return;
    }
    if (a.planes) {
        embed_codes(&a, a.weight + token * a.row_bytes, y);
        return;
    }
    for (int64_t at = (int64_t)THREAD * RUN_VALUES; at < a.width; at += CUDA_THREADS * RUN_VALUES) {
        float v[RUN_VALUES];
        read_run(a.format, a.grids, a.weight + token * a.row_bytes, at, a.width, v);
        for (int j = 0; j < RUN_VALUES && at + j < a.width; j++)
            y[at + j] = (a.factor != 0 ? v[j] * a.factor : v[j]) * a.scale;
    }
}

/* n values by a block; x and y may be the same. room: CUDA_WARPS shared floats. */
KERNEL_CODE void norm_group(const struct norm_args *a, const float *x, float *y, unsigned group, float *room)
{
    const float *weight = a->weight ? a->weight + group % (unsigned)a->weight_groups * a->n : 0;
    const float *bias = a->bias ? a->bias + group % (unsigned)a->bias_groups * a->n : 0;
    float mean = 0, square = 0;
    if (a->centred) {
        for (int64_t i = THREAD; i < a->n; i += CUDA_THREADS)
            mean += x[i];
        mean = block_sum(mean, room) / (float)a->n;
    }
    for (int64_t i = THREAD; i < a->n; i += CUDA_THREADS)
        square = fmaf(x[i] - mean, x[i] - mean, square);
    float scale = 1 / sqrtf(block_sum(square, room) / (float)a->n + a->epsilon);
    for (int64_t i = THREAD; i < a->n; i += CUDA_THREADS) {
        float v = (x[i] - mean) * scale;
        if (weight)
            v *= weight[i] + a->offset;
        y[i] = bias ? v + bias[i] : v;
    }
}

/* A block for each n values. Shared: CUDA_WARPS floats. */
KERNEL_CODE void norm_body(struct norm_args a)
{
    SHARED_FLOATS(room);
    norm_group(&a, a.x + BLOCK * a.n, a.y + BLOCK * a.n, (unsigned)BLOCK, room);
}

/* Turns one pair of a head in place; angles: of the row. */
KERNEL_CODE void rope_pair(const struct rope_args *a, float *x, int pair, const float *angles)
{
    float c = angles[pair], s = angles[a->stride / 2 + pair];
    float *p = x + (a->interleaved ? 2 * pair : pair), *q = x + (a->interleaved ? 2 * pair + 1 : pair + a->pairs);
    float old_p = *p, old_q = *q;
    *p = old_p * c - old_q * s;
    *q = old_q * c + old_p * s;
}

/* A thread for each pair. */
KERNEL_CODE void rope_body(struct rope_args a)
{
    int64_t i = BLOCK * CUDA_THREADS + THREAD;
    if (i >= a.count)
        return;
    int64_t head = i / a.pairs, row = head / a.heads; /* head: of all rows */
    rope_pair(&a, a.x + head * a.head_dim, (int)(i % a.pairs), a.table + batch_row(&a.batch, a.only_wanted, row) * a.stride);
}

KERNEL_CODE void add_body(struct add_args a)
{
    int64_t i = BLOCK * CUDA_THREADS + THREAD;
    if (i < a.count)
        a.y[i] = a.x[i] + a.scale * a.z[i];
}

KERNEL_CODE float activate(int activation, float x)
{
    switch (activation) {
    case ACT_SILU:
        return x / (1 + expf(-x));
    case ACT_GELU:
        return 0.5f * x * (1 + erff(x * 0.70710678118654752f));
    case ACT_GELU_TANH:
        return 0.5f * x * (1 + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
    case ACT_RELU:
        return x > 0 ? x : 0;
    case ACT_RELU2:
        return x > 0 ? x * x : 0;
    case ACT_QUICK_GELU:
        return x / (1 + expf(-1.702f * x));
    case ACT_SIGMOID:
        return 1 / (1 + expf(-x));
    case ACT_TANH:
        return tanhf(x);
    }
    return x; /* ACT_NONE */
}

KERNEL_CODE void gate_body(struct gate_args a)
{
    int64_t i = BLOCK * CUDA_THREADS + THREAD;
    if (i >= a.count)
        return;
    float v = activate(a.activation, a.x[i]);
    a.y[i] = a.z ? v * a.z[i] : v;
}

KERNEL_CODE void scale_body(struct scale_args a)
{
    int64_t i = BLOCK * CUDA_THREADS + THREAD;
    if (i >= a.count)
        return;
    float v = a.scale * a.x[i];
    a.y[i] = a.cap > 0 ? a.cap * tanhf(v / a.cap) : v;
}

KERNEL_CODE void join_body(struct join_args a)
{
    int64_t i = BLOCK * CUDA_THREADS + THREAD;
    if (i >= a.count)
        return;
    int64_t piece = i / (a.n_x + a.n_z), at = i % (a.n_x + a.n_z);
    a.y[i] = at < a.n_x ? a.x[piece * a.n_x + at] : a.z[piece * a.n_z + at - a.n_x];
}

KERNEL_CODE void select_body(struct select_args a)
{
    int64_t i = BLOCK * CUDA_THREADS + THREAD;
    if (i >= a.count)
        return;
    int64_t row = i / a.width;
    a.y[i] = a.x[(a.rows ? a.rows[row] : row) * a.width + i % a.width];
}

#endif
