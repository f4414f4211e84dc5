/* LINEAR for rows that come one by one (decoding): y = W x + b, from rows of planes, x as signed bytes with a scale for every 16, or
 * as it is. A warp for each output; lane l takes runs l, l + 32, ... and the lanes are summed as a tree, so a row's bits depend on
 * nothing but its own values: neither on other rows nor on what is done with the result.
 *
 * Bytes in flight: a lane asks for 32 to 64 bytes of weights before it uses any, a multiprocessor of 2048 threads for 64 to 128 KiB;
 * an H200's memory needs about 25 KiB each (4.8 TB/s, 0.7 us, 132 of them). Multiplying as bytes costs about 0.7 instructions a
 * weight, as float32 3.5, and 4.3 TB/s of 4-bit weights leave room for 3.4. */
#ifndef KERNELS_CUDA_GEMV_H
#define KERNELS_CUDA_GEMV_H

#include "kernels/cuda/rows.h"
#include "kernels/cuda/weave.h"

/* ---- x as bytes or bf16 ----------------------------------------------------------------------------------------------------- */

/* 16 values at x, normed where there is a norm; zeros behind n. */
KERNEL_CODE void input_group(const struct input_args *a, const float *x, int64_t at, float mean, float scale, float *v)
{
    UNROLL for (int i = 0; i < GROUP; i++) {
        v[i] = 0;
        if (at + i < a->n) {
            float value = x[at + i];
            if (a->norm) {
                value = (value - mean) * scale;
                if (a->weight)
                    value *= a->weight[at + i] + a->offset;
                if (a->bias)
                    value += a->bias[at + i];
            }
            v[i] = value;
        }
    }
}

/* Largest value 127. What is no number stays none: the scale says so. */
KERNEL_CODE void input_bytes(const float *v, struct words *q, float *d, float *s)
{
    float most = 0, sum = 0;
    UNROLL for (int i = 0; i < GROUP; i++) {
        float size = fabsf(v[i]);
        most = size > most || isnan(size) ? size : most;
    }
    *d = most / 127;
    float inverse = most > 0x1p-120f ? 127 / most : 0;
    UNROLL for (int i = 0; i < 4; i++) {
        q->w[i] = 0;
        UNROLL for (int k = 0; k < 4; k++) {
            float scaled = v[4 * i + k] * inverse;
            int code = isnan(scaled) ? 0 : (int)nearest(scaled);
            q->w[i] |= (uint32_t)(code & 255) << (8 * k);
            sum += (float)code;
        }
    }
    *s = *d * sum;
}

/* Group `number` of a row; woven: 1 + the format whose order it gets, or 0. */
KERNEL_CODE void input_narrow(const float *v, int woven, int64_t number, uint16_t *row)
{
    struct words out[2];
    UNROLL for (int i = 0; i < 8; i++)
        out[i / 4].w[i % 4] = BF16_PAIR(v[2 * i], v[2 * i + 1]);
    if (woven) {
        const uint32_t pairs[8] = {out[0].w[0], out[0].w[1], out[0].w[2], out[0].w[3], out[1].w[0], out[1].w[1], out[1].w[2], out[1].w[3]};
        weave_group(woven - 1, pairs, number, row);
        return;
    }
    STORE_WORDS(row + 16 * number, out[0]);
    STORE_WORDS(row + 16 * number + 8, out[1]);
}

/* A block for each row: an optional norm, then what is asked for: bf16; bytes and scales; floats. Shared: CUDA_WARPS floats. */
KERNEL_CODE void input_body(struct input_args a)
{
    SHARED_FLOATS(room);
    const float *x = a.x + BLOCK * a.n;
    float mean = 0, scale = 1;
    if (a.norm) {
        float square = 0;
        if (a.centred) {
            for (int64_t i = THREAD; i < a.n; i += CUDA_THREADS)
                mean += x[i];
            mean = block_sum(mean, room) / (float)a.n;
        }
        for (int64_t i = THREAD; i < a.n; i += CUDA_THREADS)
            square = fmaf(x[i] - mean, x[i] - mean, square);
        scale = 1 / sqrtf(block_sum(square, room) / (float)a.n + a.epsilon);
    }
    for (int64_t group = THREAD; group * GROUP < a.padded; group += CUDA_THREADS) {
        float v[GROUP], d, s;
        struct words q;
        input_group(&a, x, group * GROUP, mean, scale, v);
        if (a.narrow)
            input_narrow(v, a.woven, group, a.narrow + BLOCK * a.padded);
        if (a.q) {
            input_bytes(v, &q, &d, &s);
            STORE_WORDS(a.q + BLOCK * a.padded + group * GROUP, q);
            a.scales[2 * (BLOCK * (a.padded / GROUP) + group)] = d;
            a.scales[2 * (BLOCK * (a.padded / GROUP) + group) + 1] = s;
        }
        for (int i = 0; a.y && i < GROUP && group * GROUP + i < a.n; i++)
            a.y[BLOCK * a.n + group * GROUP + i] = v[i];
    }
}

/* ---- the products ----------------------------------------------------------------------------------------------------------- */

/* Which weight, and which of its outputs. */
KERNEL_CODE int part_of(const struct gemv_args *a, int64_t *out)
{
    int part = 0;
    while (part < a->parts - 1 && *out >= a->part[part].out)
        *out -= a->part[part++].out;
    return part;
}

/* sums[row] += run . x[row], of `rows` rows of which `real` are there */
KERNEL_CODE void run_times(int format, int rows, const struct gemv_args *a, int64_t first, int real, int64_t r, const struct run *w, float *sums)
{
    UNROLL for (int t = 0; t < rows; t++)
        if (t < real)
            UNROLL for (int g = 0; g < RUN_GROUPS; g++) {
                int64_t at = run_group(format, r, g);
                const float *scales = a->scales + 2 * ((first + t) * a->padded + at) / GROUP;
                struct words x = WORDS(a->q + (first + t) * a->padded + at);
                int dot = 0;
                UNROLL for (int i = 0; i < 4; i++)
                    dot = DOT4(w->q[g][i], x.w[i], dot);
                sums[t] = fmaf(w->d[g] * (float)dot, scales[0], sums[t]);
                sums[t] = fmaf(w->m[g], scales[1], sums[t]);
            }
}

KERNEL_CODE void run_step(int format, int rows, const struct gemv_args *a, const unsigned char *row, int64_t first, int real, int64_t r, float *sums)
{
    struct run w;
    read_codes(format, row, a->in, r, &w);
    run_times(format, rows, a, first, real, r, &w, sums);
}

/* Eight values of a plain format. */
KERNEL_CODE void read_plain(int format, const unsigned char *row, int64_t at, float *v)
{
    if (format == STORAGE_F32) {
        struct words low = WORDS_ONCE(row + 4 * at), high = WORDS_ONCE(row + 4 * at + 16);
        UNROLL for (int i = 0; i < 4; i++) {
            v[i] = float_of_bits(low.w[i]);
            v[4 + i] = float_of_bits(high.w[i]);
        }
        return;
    }
    struct words both = WORDS_ONCE(row + 2 * at);
    UNROLL for (int i = 0; i < 4; i++) {
        v[2 * i] = format == STORAGE_F16 ? HALF_FLOAT((uint16_t)both.w[i]) : float_of_bits(both.w[i] << 16);
        v[2 * i + 1] = format == STORAGE_F16 ? HALF_FLOAT((uint16_t)(both.w[i] >> 16)) : float_of_bits(both.w[i] & 0xFFFF0000);
    }
}

KERNEL_CODE void plain_times(int rows, const struct gemv_args *a, int64_t first, int real, int64_t at, const float *w, float *sums)
{
    UNROLL for (int t = 0; t < rows; t++)
        if (t < real) {
            struct words low = WORDS(a->x + (first + t) * a->in + at), high = WORDS(a->x + (first + t) * a->in + at + 4);
            UNROLL for (int i = 0; i < 4; i++)
                sums[t] = fmaf(w[i], float_of_bits(low.w[i]), sums[t]);
            UNROLL for (int i = 0; i < 4; i++)
                sums[t] = fmaf(w[4 + i], float_of_bits(high.w[i]), sums[t]);
        }
}

/* Sums of one output of each row, the same in every lane. */
KERNEL_CODE void gemv_sums(int format, int bytes, int rows, const struct gemv_args *a, const unsigned char *row, int64_t first, int real, float *sums)
{
    UNROLL for (int t = 0; t < rows; t++)
        sums[t] = 0;
    if (bytes && rows > 1) /* several rows keep a lane busy by themselves */
        for (int64_t r = THREAD % 32; r * RUN_CODES < a->padded; r += 32)
            run_step(format, rows, a, row, first, real, r, sums);
    else if (bytes)
        UNROLL_BY(2) for (int64_t r = THREAD % 32; r * RUN_CODES < a->padded; r += 32)
            run_step(format, rows, a, row, first, real, r, sums);
    else
        UNROLL_BY(2) for (int64_t at = THREAD % 32 * 8; at < a->in; at += 32 * 8) {
            float w[8];
            read_plain(format, row, at, w);
            plain_times(rows, a, first, real, at, w, sums);
        }
    UNROLL for (int t = 0; t < rows; t++)
        sums[t] = warp_sum(sums[t]);
}

KERNEL_CODE float finished(const struct gemv_part *p, int64_t out, float sum)
{
    if (p->factor != 0)
        sum *= p->factor;
    return p->bias ? sum + p->bias[out] : sum;
}

/* One output of the rows from `first` on. */
KERNEL_CODE void gemv_rows(int format, int bytes, int rows, int gated, const struct gemv_args *a, const struct gemv_part *p, int64_t out, int64_t first)
{
    int real = a->rows - (int)first < rows ? a->rows - (int)first : rows;
    float sums[GEMV_ROWS], others[GEMV_ROWS];
    gemv_sums(format, bytes, rows, a, p->weight + out * p->row_bytes, first, real, sums);
    if (gated)
        gemv_sums(format, bytes, rows, a, a->part[1].weight + out * a->part[1].row_bytes, first, real, others);
    UNROLL for (int t = 0; t < rows; t++)
        if (t < real && THREAD % 32 == 0) {
            float y = finished(p, out, sums[t]);
            if (gated)
                y = activate(a->activation, y) * finished(&a->part[1], out, others[t]);
            int64_t at = (first + t) * p->out + out;
            p->y[at] = a->add ? a->add[at] + a->scale * y : y;
        }
}

/* The beginning of one output's weights, before the kernel may begin. */
KERNEL_CODE void gemv_prefetch(const struct gemv_args *a, const struct gemv_part *p, int64_t out)
{
    for (int at = THREAD % 32 * PREFETCH_LINE; at < p->row_bytes && at < a->prefetch; at += 32 * PREFETCH_LINE)
        PREFETCH(p->weight + out * p->row_bytes + at);
}

/* Grid: (outputs / CUDA_WARPS, rows / GEMV_TILE), both rounded up; a row alone has a grid of its own. bytes: x as bytes; gated: part 0 goes through the activation and
 * is multiplied with part 1, which has as many outputs. All three are constants. */
KERNEL_CODE void gemv_body(int format, int bytes, int rows, int gated, struct gemv_args a)
{
    int64_t out = BLOCK * CUDA_WARPS + THREAD / 32;
    if (out >= a.outs) {
        GRID_WAIT();
        return; /* the whole warp */
    }
    const struct gemv_part *p = &a.part[gated ? 0 : part_of(&a, &out)];
    gemv_prefetch(&a, p, out);
    if (gated)
        gemv_prefetch(&a, &a.part[1], out);
    GRID_WAIT();
    if (rows == 1) {
        gemv_rows(format, bytes, 1, gated, &a, p, out, BLOCK_Y);
        return;
    }
    int64_t end = (BLOCK_Y + 1) * GEMV_TILE < a.rows ? (BLOCK_Y + 1) * GEMV_TILE : a.rows;
    for (int64_t first = BLOCK_Y * GEMV_TILE; first < end; first += rows) /* the weights are in the cache from the second time on */
        gemv_rows(format, bytes, rows, gated, &a, p, out, first);
}

#endif
