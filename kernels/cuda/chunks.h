/* SCAN of many rows by matrix units: a chunk of rows at a time as if they were one (Mamba 2's duality, arXiv:2405.21060; the delta rule's UT
 * transform, arXiv:2406.06484 and 2412.06464). Within a chunk G is the sum of the logarithms of what S fades by, up to each row, and S the
 * state before it:
 *   A = lower(q k^T exp(G_t - G_s))       of a row t what it sees of row s, itself included
 *   L = strictly lower(beta_t k k^T exp(G_t - G_s)),  T = (I + L)^-1
 *   U = T beta (v - exp(G) k S)           by the delta rule; else dt v
 *   y = exp(G) q S + A U
 *   S = exp(G_last) S + (k exp(G_last - G_t))^T U
 * Differences of sums, never quotients of exponentials: a chunk may fade to nothing.
 *
 * A block has 64 columns of a head, a warp 16 of them: S^T lies in its registers as results of products lie there, which is how their first
 * factor lies, too. So does U^T. Only q, k, A, T go through shared memory. S stays float32; factors are two bf16 each, high and low, and a
 * product three, which is 2^-16 of each value off: rounded once, errors of all rows would add up in S. */
#ifndef KERNELS_CUDA_CHUNKS_H
#define KERNELS_CUDA_CHUNKS_H

#include "kernels/cuda/scan.h"

enum { CHUNK_TILES = CHUNK_ROWS / 8, CHUNK_STRIDE = CHUNK_ROWS + 8 /* no bank is asked twice at once */, CHUNK_LOWER = CHUNK_ROWS + 4 };

/* Two values, and what is left of them: words of two bf16. */
struct split {
    uint32_t high, low;
};

KERNEL_CODE struct split split_of(float a, float b)
{
    struct split s;
    s.high = BF16_PAIR(a, b);
    s.low = BF16_PAIR(a - bf16_to_float((uint16_t)s.high), b - bf16_to_float((uint16_t)(s.high >> 16)));
    return s;
}

/* A matrix in shared memory, rows of `stride` values. */
struct split_rows {
    uint16_t *high, *low;
    int stride;
};

KERNEL_CODE void split_store(const struct split_rows *m, int row, int at, struct split s)
{
    *(uint32_t *)(void *)(m->high + row * m->stride + at) = s.high;
    *(uint32_t *)(void *)(m->low + row * m->stride + at) = s.low;
}

/* c += a b, a: a first factor's four words, b: those of a second */
KERNEL_CODE void split_multiply(float *c, const struct split *a, const struct split *b)
{
    const uint32_t a_high[4] = {a[0].high, a[1].high, a[2].high, a[3].high}, a_low[4] = {a[0].low, a[1].low, a[2].low, a[3].low};
    const uint32_t b_high[2] = {b[0].high, b[1].high}, b_low[2] = {b[0].low, b[1].low};
    MMA(c, a_low, b_high);
    MMA(c, a_high, b_low);
    MMA(c, a_high, b_high);
}

KERNEL_CODE struct split split_word(const struct split_rows *m, int row, int at)
{
    struct split s;
    s.high = *(const uint32_t *)(const void *)(m->high + row * m->stride + at);
    s.low = *(const uint32_t *)(const void *)(m->low + row * m->stride + at);
    return s;
}

/* The second factor m^T: 16 of k from `at` on, columns are eight rows of m from `row` on. */
KERNEL_CODE void split_second(const struct split_rows *m, int row, int at, struct split *b)
{
    UNROLL for (int i = 0; i < 2; i++)
        b[i] = split_word(m, row + THREAD % 32 / 4, at + THREAD % 4 * 2 + 8 * i);
}

/* Two tiles of results as a first factor. */
KERNEL_CODE void split_first(const float *one, const float *two, struct split *a)
{
    a[0] = split_of(one[0], one[1]), a[1] = split_of(one[2], one[3]);
    a[2] = split_of(two[0], two[1]), a[3] = split_of(two[2], two[3]);
}

/* ---- a chunk in shared memory ------------------------------------------------------------------------------------------------------ */

struct chunk {
    const struct scan_args *a;
    struct scan_head head;
    struct split_rows q, k, seen, solved; /* seen: A; solved: T, in whose place L^T [CHUNK_ROWS][CHUNK_LOWER] lies before */
    float *lower, *faded, *sums, *beta;   /* faded: of each row; sums: G */
    int64_t first, column;                /* row of the step; column of the warp */
    int rows;
};

KERNEL_CODE struct split_rows split_room(uint16_t **at, int stride)
{
    struct split_rows m = {*at, *at + CHUNK_ROWS * stride, stride};
    *at += 2 * CHUNK_ROWS * stride;
    return m;
}

/* Rows of q and k, divided by their length if need be, zeros behind them; what their gates make. */
KERNEL_CODE void chunk_read(int keys, const struct chunk *c)
{
    const struct scan_args *a = c->a;
    int lane = THREAD % 32;
    UNROLL_BY(2) for (int row = THREAD / 32; row < CHUNK_ROWS; row += CUDA_WARPS) {
        const float *x = a->x + (c->first + row) * a->x_width + c->head.key * a->k_dim;
        UNROLL for (int which = 0; which < 2; which++) {
            const struct split_rows *to = which ? &c->k : &c->q;
            float v[4], unit = 1, sum = 0;
            UNROLL for (int i = 0; i < keys / 32; i++) {
                int at = i / 2 * 64 + 2 * lane + i % 2;
                v[i] = row < c->rows && at < a->k_dim ? x[(which ? a->k : a->q) + at] : 0;
                sum = fmaf(v[i], v[i], sum);
            }
            if (a->normalised)
                unit = 1 / sqrtf(warp_sum(sum) + 1e-6f);
            UNROLL for (int i = 0; i < keys / 64; i++)
                split_store(to, row, 64 * i + 2 * lane, split_of(v[2 * i] * unit, v[2 * i + 1] * unit));
        }
    }
    if (THREAD < CHUNK_ROWS) {
        const float *z = a->z + (c->first + THREAD) * (a->delta ? 2 : 1) * a->heads + c->head.head;
        struct scan_gates g = {0, 0, 0};
        if (THREAD < c->rows)
            g = scan_gates_of(a, &c->head, z[0], a->delta ? z[a->heads] : 0);
        c->faded[THREAD] = g.fade;
        c->beta[THREAD] = g.beta;
    }
    BLOCK_BARRIER();
    if (THREAD < CHUNK_ROWS) {
        float sum = 0;
        for (int i = 0; i <= THREAD; i++)
            sum += c->faded[i];
        c->sums[THREAD] = sum;
    }
    BLOCK_BARRIER();
}

/* A, and by the delta rule L: a warp has 16 rows of one of them, or of half of A. */
KERNEL_CODE void chunk_products(int keys, const struct chunk *c)
{
    int warp = THREAD / 32, g = THREAD % 32 / 4, t = THREAD % 4, first = warp % 2 * 16, lower = c->a->delta && warp / 2;
    const struct split_rows from = {lower ? c->k.high : c->q.high, lower ? c->k.low : c->q.low, c->q.stride}; /* no index: it would lie in memory */
    UNROLL for (int n = 0; n < CHUNK_TILES; n++) {
        float dot[4] = {0, 0, 0, 0};
        if (!c->a->delta && n / 2 != warp / 2)
            continue; /* the whole warp, as below */
        if (8 * n < first + 16)
            UNROLL for (int i = 0; i < keys; i += 16) {
                struct split x[4], y[2];
                UNROLL for (int w = 0; w < 4; w++)
                    x[w] = split_word(&from, first + g + w % 2 * 8, i + 2 * t + w / 2 * 8);
                split_second(&c->k, 8 * n, i, y);
                split_multiply(dot, x, y);
            }
        UNROLL for (int i = 0; i < 4; i++) {
            int row = first + g + i / 2 * 8, other = 8 * n + 2 * t + i % 2;
            dot[i] = other + lower <= row ? dot[i] * expf(c->sums[row] - c->sums[other]) : 0;
            if (lower)
                c->lower[other * CHUNK_LOWER + row] = c->beta[row] * dot[i];
        }
        UNROLL for (int i = 0; i < 2; i++)
            if (!lower)
                split_store(&c->seen, first + g + 8 * i, 8 * n + 2 * t, split_of(dot[2 * i], dot[2 * i + 1]));
    }
}

/* A column of T to each lane of a warp: what is left of a column of I once all rows above have been taken. */
KERNEL_CODE void chunk_solve(const struct chunk *c, float *x)
{
    UNROLL for (int t = 0; t < CHUNK_ROWS; t++)
        x[t] = t == THREAD;
    UNROLL for (int s = 0; s + 1 < CHUNK_ROWS; s++)
        UNROLL for (int n = (s + 1) / 4; n < CHUNK_ROWS / 4; n++) { /* L is zero up to its diagonal */
            struct words w = WORDS(c->lower + s * CHUNK_LOWER + 4 * n);
            UNROLL for (int i = 0; i < 4; i++)
                x[4 * n + i] = fmaf(-float_of_bits(w.w[i]), x[s], x[4 * n + i]);
        }
}

/* ---- a warp's columns -------------------------------------------------------------------------------------------------------------- */

/* Results of a lane: column g or g + 8 of the warp's, row 8 n + 2 t or the next of the chunk. */
KERNEL_CODE int chunk_row(int n, int i) { return 8 * n + THREAD % 4 * 2 + i % 2; }

KERNEL_CODE int64_t chunk_column(const struct chunk *c, int i) { return c->column + THREAD % 32 / 4 + i / 2 * 8; }

KERNEL_CODE float chunk_value(const struct chunk *c, int n, int i)
{
    int64_t column = chunk_column(c, i), row = chunk_row(n, i);
    return row < c->rows && column < c->a->v_dim ? c->a->x[(c->first + row) * c->a->x_width + c->a->v + c->head.head * c->a->v_dim + column] : 0;
}

/* sums^T += (m S)^T, exp(G) times; from zero */
KERNEL_CODE void chunk_faded(int keys, const struct chunk *c, const struct split_rows *m, float (*s)[4], float (*sums)[4])
{
    UNROLL for (int n = 0; n < CHUNK_TILES; n++)
        UNROLL for (int i = 0; i < 4; i++)
            sums[n][i] = 0;
    UNROLL for (int k = 0; k < keys / 16; k++) {
        struct split a[4];
        split_first(s[2 * k], s[2 * k + 1], a);
        UNROLL for (int n = 0; n < CHUNK_TILES; n++) {
            struct split b[2];
            split_second(m, 8 * n, 16 * k, b);
            split_multiply(sums[n], a, b);
        }
    }
    UNROLL for (int n = 0; n < CHUNK_TILES; n++)
        UNROLL for (int i = 0; i < 4; i++)
            sums[n][i] *= expf(c->sums[chunk_row(n, i)]);
}

/* sums^T += (m u)^T, m lower triangular */
KERNEL_CODE void chunk_within(const struct split_rows *m, float (*u)[4], float (*sums)[4])
{
    UNROLL for (int k = 0; k < CHUNK_ROWS / 16; k++) {
        struct split a[4];
        split_first(u[2 * k], u[2 * k + 1], a);
        UNROLL for (int n = 2 * k; n < CHUNK_TILES; n++) {
            struct split b[2];
            split_second(m, 8 * n, 16 * k, b);
            split_multiply(sums[n], a, b);
        }
    }
}

/* S^T = exp(G_last) S^T + U^T (k exp(G_last - G)); u is spent */
KERNEL_CODE void chunk_keep(int keys, const struct chunk *c, float (*u)[4], float (*s)[4])
{
    int lane = THREAD % 32;
    float last = c->sums[CHUNK_ROWS - 1], fade = expf(last);
    UNROLL for (int n = 0; n < CHUNK_TILES; n++)
        UNROLL for (int i = 0; i < 4; i++)
            u[n][i] *= expf(last - c->sums[chunk_row(n, i)]);
    UNROLL for (int j = 0; j < keys / 8; j++)
        UNROLL for (int i = 0; i < 4; i++)
            s[j][i] *= fade;
    UNROLL for (int k = 0; k < CHUNK_ROWS / 16; k++) {
        struct split a[4];
        split_first(u[2 * k], u[2 * k + 1], a);
        int from = (16 * k + lane % 8 + lane / 8 % 2 * 8) * c->k.stride + lane / 16 * 8;
        UNROLL for (int j = 0; j < keys / 8; j += 2) {
            uint32_t high[4], low[4];
            LOAD_TURNED(high, c->k.high + from + 8 * j);
            LOAD_TURNED(low, c->k.low + from + 8 * j);
            UNROLL for (int i = 0; i < 2; i++) {
                const struct split b[2] = {{high[2 * i], low[2 * i]}, {high[2 * i + 1], low[2 * i + 1]}};
                split_multiply(s[j + i], a, b);
            }
        }
    }
}

KERNEL_CODE void chunk_write(const struct chunk *c, float (*y)[4])
{
    const struct scan_args *a = c->a;
    UNROLL for (int n = 0; n < CHUNK_TILES; n++)
        UNROLL for (int i = 0; i < 4; i++) {
            int64_t row = chunk_row(n, i), column = chunk_column(c, i);
            if (row < c->rows && column < a->v_dim)
                a->y[((c->first + row) * a->heads + c->head.head) * a->v_dim + column] = fmaf(c->head.skip, chunk_value(c, n, i), a->scale * y[n][i]);
        }
}

/* One chunk; s: the warp's S^T, tiles of eight keys. */
KERNEL_CODE void chunk_run(int keys, const struct chunk *c, float (*s)[4])
{
    const struct scan_args *a = c->a;
    float y[CHUNK_TILES][4], u[CHUNK_TILES][4], column[CHUNK_ROWS];
    BLOCK_BARRIER(); /* what is there may still be read */
    chunk_read(keys, c);
    chunk_products(keys, c);
    BLOCK_BARRIER();
    if (a->delta) {
        if (THREAD < 32)
            chunk_solve(c, column);
        BLOCK_BARRIER(); /* T comes where L is */
        UNROLL for (int t = 0; t < CHUNK_ROWS; t++)
            if (THREAD < 32) {
                uint16_t high = float_to_bf16(column[t]);
                c->solved.high[t * CHUNK_STRIDE + THREAD] = high;
                c->solved.low[t * CHUNK_STRIDE + THREAD] = float_to_bf16(column[t] - bf16_to_float(high));
            }
        BLOCK_BARRIER();
        chunk_faded(keys, c, &c->k, s, y);
    }
    UNROLL for (int n = 0; n < CHUNK_TILES; n++)
        UNROLL for (int i = 0; i < 4; i++)
            u[n][i] = c->beta[chunk_row(n, i)] * (a->delta ? chunk_value(c, n, i) - y[n][i] : chunk_value(c, n, i));
    if (a->delta) {
        UNROLL for (int n = 0; n < CHUNK_TILES; n++)
            UNROLL for (int i = 0; i < 4; i++)
                y[n][i] = 0;
        chunk_within(&c->solved, u, y);
        UNROLL for (int n = 0; n < CHUNK_TILES; n++)
            UNROLL for (int i = 0; i < 4; i++)
                u[n][i] = y[n][i];
    }
    chunk_faded(keys, c, &c->q, s, y);
    chunk_within(&c->seen, u, y);
    chunk_write(c, y);
    chunk_keep(keys, c, u, s);
}

/* Where value i of S^T's tile j is in S. */
KERNEL_CODE int64_t chunk_place(const struct chunk *c, int j, int i) { return chunk_row(j, i) * (int64_t)c->a->v_dim + chunk_column(c, i); }

/* Sequences with `many` rows and more. Grid: (heads times 64 columns, sequences). Shared: CHUNK_SHARED(keys). keys: 64 or 128, a constant. */
KERNEL_CODE void scan_chunks_body(int keys, const struct scan_args *a)
{
    SHARED_FLOATS(room);
    const struct device_sequence *q = &a->batch.sequences[BLOCK_Y];
    if (q->rows < a->many)
        return; /* the whole block */
    int64_t slices = (a->v_dim + CHUNK_COLUMNS - 1) / CHUNK_COLUMNS;
    uint16_t *at = (uint16_t *)(void *)(room + 3 * CHUNK_ROWS);
    struct chunk c;
    c.a = a, c.head = scan_head_of(a, BLOCK / slices), c.column = BLOCK % slices * CHUNK_COLUMNS + THREAD / 32 * 16;
    c.faded = room, c.sums = room + CHUNK_ROWS, c.beta = room + 2 * CHUNK_ROWS;
    c.q = split_room(&at, keys + 8), c.k = split_room(&at, keys + 8), c.seen = split_room(&at, CHUNK_STRIDE);
    c.lower = (float *)(void *)at;
    c.solved = split_room(&at, CHUNK_STRIDE);
    int64_t of = a->at + c.head.head * a->k_dim * a->v_dim;
    const float *read = slot_of(&a->batch, &a->state, q, 0, of);
    float s[16][4];
    UNROLL for (int j = 0; j < keys / 8; j++)
        UNROLL for (int i = 0; i < 4; i++)
            s[j][i] = read && chunk_row(j, i) < a->k_dim && chunk_column(&c, i) < a->v_dim ? read[chunk_place(&c, j, i)] : 0;
    UNROLL_BY(1) for (int done = 0; done < q->rows; done += CHUNK_ROWS) {
        c.first = q->first + done;
        c.rows = q->rows - done < CHUNK_ROWS ? q->rows - done : CHUNK_ROWS;
        chunk_run(keys, &c, s);
    }
    float *write = slot_of(&a->batch, &a->state, q, 1, of);
    UNROLL for (int j = 0; j < keys / 8; j++)
        UNROLL for (int i = 0; i < 4; i++)
            if (chunk_row(j, i) < a->k_dim && chunk_column(&c, i) < a->v_dim)
                write[chunk_place(&c, j, i)] = s[j][i];
}

#endif
