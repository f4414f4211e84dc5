/* LINEAR by matrix units: y = W x + b, weights decoded from their planes to bf16 in registers, x as bf16, sums as float32.
 *
 * Weights are the rows of a product (16 outputs), rows of x its columns (8 at a time: a tile). A run is 256 values of a row; lane
 * 4 g + t holds 64 of them of outputs g and g + 8, those that a reader of runs.h gives for run t of four (or of plain formats, eight at
 * a time), so every load of weights is 16 bytes, in the order in which they lie for GEMV. Which k meets which is free as long as x is
 * read in the same order: eight values of x are one load, too.
 *
 * Order of sums, whatever the number of rows: run r belongs to class r % 4; a class is summed from its first run to its last, eight
 * values of each lane after another, then the classes: ((0 + c0) + c1) + c2) + c3. So a row's bits depend on nothing but its own values.
 *   few rows (up to 16)   a block has 16 outputs, a warp for each class; weights and x straight from memory. Bound by bytes.
 *   many                  a block has 64 outputs, a warp for 16 of them, and up to 64 rows, whose x comes through shared memory in
 *                         stages of half a run; it does all classes or, where blocks are few, one: then the last that is ready sums up.
 *
 * Why not as signed bytes (m16n8k32): each 16 values of x have a scale of their own, so 4 float operations a lane for 64 products
 * would stand beside them, and a batch of 64 would be bound by those. */
#ifndef KERNELS_CUDA_MATRIX_H
#define KERNELS_CUDA_MATRIX_H

#include "kernels/cuda/gemv.h"

/* ---- fragments ---------------------------------------------------------------------------------------------------------------- */

/* What a lane holds of one row in a run: codes, or the values themselves. */
struct matrix_row {
    struct run codes;
    struct words plain[8];
};

/* Where in a run the eight values number i of lane t begin. */
KERNEL_CODE int matrix_eight(int format, int runs, int t, int i) { return runs ? (int)run_group(format, t, i / 2) + 8 * (i % 2) : 32 * i + 8 * t; }

KERNEL_CODE void matrix_read(int format, int runs, const unsigned char *row, int64_t in, int64_t run, int t, struct matrix_row *w)
{
    if (runs)
        read_codes(format, row, in, 4 * run + t, &w->codes);
    else
        UNROLL for (int i = 0; i < 8; i++) {
            int64_t at = run * MATRIX_RUN + 32 * i + 8 * t;
            if (at < in)
                w->plain[i] = WORDS_ONCE(row + 2 * at);
            else
                UNROLL for (int k = 0; k < 4; k++)
                    w->plain[i].w[k] = 0;
        }
}

/* Two codes, bytes of q that `select` names, as bf16. 0x43 over a byte is 128 + its lower seven bits, from which 128 is taken, or 256
 * where the eighth is set. */
KERNEL_CODE uint32_t code_pair(int format, uint32_t q, uint32_t select)
{
    const uint32_t one = 0x3F803F80, minus = 0xC300C300;
    uint32_t v = CHOOSE_BYTES(q, 0x43434343, select);
    if (format == STORAGE_Q8_0 || format == STORAGE_IQ4_NL || format == STORAGE_IQ4_XS || format == STORAGE_MXFP4) /* signed */
        return FMA_PAIR(v & 0xFF7FFF7F, one, (v & 0x00800080) | minus);
    return FMA_PAIR(v, one, minus);
}

KERNEL_CODE uint32_t half_pair_bf16(uint32_t halves) { return BF16_PAIR(HALF_FLOAT((uint16_t)halves), HALF_FLOAT((uint16_t)(halves >> 16))); }

/* Eight values as pairs of bf16: number i of the lane's. */
KERNEL_CODE void matrix_values(int format, int runs, const struct matrix_row *w, int i, uint32_t *v)
{
    if (runs) {
        uint32_t d = BF16_PAIR(w->codes.d[i / 2], w->codes.d[i / 2]), m = BF16_PAIR(w->codes.m[i / 2], w->codes.m[i / 2]);
        UNROLL for (int k = 0; k < 2; k++) {
            uint32_t q = w->codes.q[i / 2][2 * (i % 2) + k];
            v[2 * k] = FMA_PAIR(code_pair(format, q, 0x4140), d, m);
            v[2 * k + 1] = FMA_PAIR(code_pair(format, q, 0x4342), d, m);
        }
    } else
        UNROLL for (int k = 0; k < 4; k++)
            v[k] = format == STORAGE_F16 ? half_pair_bf16(w->plain[i].w[k]) : w->plain[i].w[k];
}

/* Two steps of 16: low, high: values of outputs g and g + 8; x: of row g of a tile */
KERNEL_CODE void matrix_times(float *sums, const uint32_t *low, const uint32_t *high, const struct words *x)
{
    UNROLL for (int k = 0; k < 2; k++) {
        const uint32_t a[4] = {low[2 * k], high[2 * k], low[2 * k + 1], high[2 * k + 1]};
        MMA(sums, a, &x->w[2 * k]);
    }
}

/* ---- outputs ------------------------------------------------------------------------------------------------------------------ */

/* Whose outputs the tile of 16 is; -1: nobody's. tile: then within that part. */
KERNEL_CODE int matrix_part(const struct gemv_args *a, int64_t *tile)
{
    for (int part = 0; part < a->parts; part++) {
        int64_t tiles = (a->part[part].out + 15) / 16;
        if (*tile < tiles)
            return part;
        *tile -= tiles;
    }
    return -1;
}

/* Row of weights `out`, or the last there is. */
KERNEL_CODE const unsigned char *matrix_weights(const struct gemv_part *p, int64_t out) { return p->weight + (out < p->out ? out : p->out - 1) * p->row_bytes; }

/* One result to where it belongs; gate: of part 0, where two parts are gated and `sum` is part 1's. */
KERNEL_CODE void matrix_finish(const struct gemv_args *a, const struct gemv_part *p, int64_t out, int64_t row, float sum, float gate)
{
    if (out >= p->out || row >= a->rows)
        return;
    float y = finished(p, out, sum);
    if (a->gated)
        y = activate(a->activation, finished(&a->part[0], out, gate)) * y;
    int64_t at = (a->to ? a->to[row] : row) * p->out + out;
    p->y[at] = a->add ? a->add[at] + a->scale * y : y;
    if (a->handed)
        a->handed[row * p->out + out] = float_to_bf16(y);
}

/* ---- few rows ------------------------------------------------------------------------------------------------------------------ */

/* One run of 16 outputs and 8 * tiles rows. */
KERNEL_CODE void matrix_run(int format, int runs, int tiles, const struct gemv_args *a, const unsigned char *low, const unsigned char *high, int64_t first,
                            int64_t run, float (*sums)[4])
{
    int g = THREAD % 32 / 4, t = THREAD % 4;
    struct matrix_row w[2];
    matrix_read(format, runs, low, a->in, run, t, &w[0]);
    matrix_read(format, runs, high, a->in, run, t, &w[1]);
    UNROLL for (int i = 0; i < 8; i++) {
        uint32_t v[2][4];
        matrix_values(format, runs, &w[0], i, v[0]);
        matrix_values(format, runs, &w[1], i, v[1]);
        UNROLL for (int n = 0; n < tiles; n++) {
            int64_t row = first + 8 * n + g < a->rows ? first + 8 * n + g : a->rows - 1;
            struct words x = WORDS(a->narrow + row * a->padded + run * MATRIX_RUN + matrix_eight(format, runs, t, i));
            matrix_times(sums[n], v[0], v[1], &x);
        }
    }
}

/* The warp's class of 16 outputs and 8 * tiles rows. */
KERNEL_CODE void matrix_class(int format, int runs, int tiles, const struct gemv_args *a, const struct gemv_part *p, int64_t out, int64_t first,
                              float (*sums)[4])
{
    const unsigned char *low = matrix_weights(p, out + THREAD % 32 / 4), *high = matrix_weights(p, out + THREAD % 32 / 4 + 8);
    UNROLL for (int n = 0; n < tiles; n++)
        UNROLL for (int i = 0; i < 4; i++)
            sums[n][i] = 0;
    if (runs && tiles == 1)
        UNROLL_BY(2) for (int64_t run = THREAD / 32; run * MATRIX_RUN < a->padded; run += MATRIX_CLASSES)
            matrix_run(format, runs, tiles, a, low, high, first, run, sums);
    else /* a lane asks for 256 bytes of one run, or has the registers for no more */
        UNROLL_BY(1) for (int64_t run = THREAD / 32; run * MATRIX_RUN < a->padded; run += MATRIX_CLASSES)
            matrix_run(format, runs, tiles, a, low, high, first, run, sums);
}

/* All classes of 16 outputs and 8 * tiles rows, a warp for each: in sum[tile], thread 32 i + l has result i of lane l, and in gate what sum
 * had before. room: CUDA_THREADS * 4 * tiles shared floats. lane: THREAD % 32, the caller's: found anew here it moved registers on 10.0
 * and 12.0. */
KERNEL_CODE void matrix_all(int format, int runs, int tiles, const struct gemv_args *a, const struct gemv_part *p, int64_t out, int64_t first, float *room,
                            int lane, float *sum, float *gate)
{
    int i = THREAD / 32;
    float sums[MATRIX_TILES][4];
    matrix_class(format, runs, tiles, a, p, out, first, sums);
    BLOCK_BARRIER(); /* room may still be read */
    UNROLL for (int n = 0; n < tiles; n++)
        UNROLL for (int j = 0; j < 4; j++)
            room[((i * tiles + n) * 4 + j) * 32 + lane] = sums[n][j];
    BLOCK_BARRIER();
    UNROLL for (int n = 0; n < tiles; n++) {
        gate[n] = sum[n];
        sum[n] = 0;
        UNROLL for (int class_ = 0; class_ < MATRIX_CLASSES; class_++)
            sum[n] += room[((class_ * tiles + n) * 4 + i) * 32 + lane];
    }
}

/* What `sharers` groups of 16 threads will read first of 16 rows, before the kernel may begin. */
KERNEL_CODE void matrix_prefetch(const struct gemv_args *a, const struct gemv_part *p, int64_t out, int sharer, int sharers)
{
    const unsigned char *row = matrix_weights(p, out + THREAD % 16);
    for (int at = sharer * PREFETCH_LINE; at < p->row_bytes && at < a->prefetch; at += sharers * PREFETCH_LINE)
        PREFETCH(row + at);
}

/* Grid: (tiles of 16 outputs of all parts, of one where two are gated; rows / (8 * tiles), rounded up). Shared: CUDA_THREADS * 4 * tiles
 * floats. */
KERNEL_CODE void matrix_few(int format, int runs, int tiles, const struct gemv_args *a)
{
    SHARED_FLOATS(room);
    int64_t tile = BLOCK, first = BLOCK_Y * 8 * tiles;
    int part = a->gated ? 0 : matrix_part(a, &tile), lane = THREAD % 32, i = THREAD / 32;
    float sum[MATRIX_TILES], gate[MATRIX_TILES];
    UNROLL for (int n = 0; n < tiles; n++)
        sum[n] = 0;
    for (int k = 0; k <= a->gated; k++)
        matrix_prefetch(a, &a->part[part + k], tile * 16, THREAD / 16, CUDA_THREADS / 16);
    GRID_WAIT();
    for (int k = 0; k <= a->gated; k++)
        matrix_all(format, runs, tiles, a, &a->part[part + k], tile * 16, first, room, lane, sum, gate);
    UNROLL for (int n = 0; n < tiles; n++)
        matrix_finish(a, &a->part[part + a->gated], tile * 16 + lane / 4 + i / 2 * 8, first + 8 * n + 2 * (lane % 4) + i % 2, sum[n], gate[n]);
}

/* ---- many rows ------------------------------------------------------------------------------------------------------------------ */

/* Runs of the classes from `class_` to `end`, one after another. */
struct matrix_walk {
    int64_t run, runs;
    int class_, end;
};

KERNEL_CODE int matrix_more(const struct matrix_walk *w) { return w->class_ < w->end; }

/* Past what is no run of its class. */
KERNEL_CODE void matrix_settle(struct matrix_walk *w)
{
    while (w->class_ < w->end && w->run >= w->runs)
        w->run = ++w->class_;
}

KERNEL_CODE struct matrix_walk matrix_begin(const struct gemv_args *a, int first, int end)
{
    struct matrix_walk w = {first, a->padded / MATRIX_RUN, first, end};
    matrix_settle(&w);
    return w;
}

/* Half a run of x to a stage, [tile][i][lane] eight values each; lanes are mixed with i so that no bank is asked twice at once. */
KERNEL_CODE int matrix_place(int n, int i, int lane) { return ((n * 4 + i) * 32 + (lane ^ 2 * i)) * 4; /* floats */ }

KERNEL_CODE void matrix_fetch(int format, int runs, int tiles, const struct gemv_args *a, int64_t first, int64_t run, int half, float *stage)
{
    UNROLL for (int n = 0; n < tiles; n++) { /* neighbours read what lies side by side */
        int i = THREAD % 4, t = THREAD / 4 % 4, g = THREAD / 16;
        int64_t row = first + 8 * n + g < a->rows ? first + 8 * n + g : a->rows - 1;
        COPY_ASYNC(stage + matrix_place(n, i, 4 * g + t), a->narrow + row * a->padded + run * MATRIX_RUN + matrix_eight(format, runs, t, 4 * half + i));
    }
}

/* What is asked for next: half a run, if there is one; a group in any case. */
struct matrix_ahead {
    struct matrix_walk walk;
    int half, stage;
};

KERNEL_CODE void matrix_ask(int format, int runs, int tiles, const struct gemv_args *a, int64_t first, struct matrix_ahead *ahead, float *room)
{
    if (matrix_more(&ahead->walk)) {
        matrix_fetch(format, runs, tiles, a, first, ahead->walk.run, ahead->half, room + ahead->stage * tiles * 512);
        ahead->stage = ahead->stage + 1 < MATRIX_STAGES ? ahead->stage + 1 : 0;
        ahead->half = !ahead->half;
        if (!ahead->half) {
            ahead->walk.run += MATRIX_CLASSES;
            matrix_settle(&ahead->walk);
        }
    }
    COPY_GROUP();
}

/* Half a run of the warp's 16 outputs. */
KERNEL_CODE void matrix_half(int format, int runs, int tiles, const struct matrix_row *w, int half, const float *stage, float (*sums)[4])
{
    UNROLL for (int i = 0; i < 4; i++) {
        uint32_t v[2][4];
        matrix_values(format, runs, &w[0], 4 * half + i, v[0]);
        matrix_values(format, runs, &w[1], 4 * half + i, v[1]);
        UNROLL for (int n = 0; n < tiles; n++) {
            struct words x = WORDS(stage + matrix_place(n, i, THREAD % 32));
            matrix_times(sums[n], v[0], v[1], &x);
        }
    }
}

KERNEL_CODE void matrix_fold(int tiles, float (*total)[4], float (*sums)[4])
{
    UNROLL for (int n = 0; n < tiles; n++)
        UNROLL for (int i = 0; i < 4; i++) {
            total[n][i] += sums[n][i];
            sums[n][i] = 0;
        }
}

/* The sums of classes first .. end - 1, one after another, of the warp's 16 outputs. */
KERNEL_CODE void matrix_sums(int format, int runs, int tiles, const struct gemv_args *a, const struct gemv_part *p, int64_t out, int64_t first_row,
                             int first, int end, float *room, float (*total)[4])
{
    int t = THREAD % 4, stage = 0, class_ = first;
    const unsigned char *low = matrix_weights(p, out + THREAD % 32 / 4), *high = matrix_weights(p, out + THREAD % 32 / 4 + 8);
    struct matrix_walk walk = matrix_begin(a, first, end);
    struct matrix_ahead ahead = {walk, 0, 0};
    float sums[MATRIX_TILES][4];
    UNROLL for (int n = 0; n < tiles; n++)
        UNROLL for (int i = 0; i < 4; i++)
            total[n][i] = sums[n][i] = 0;
    UNROLL for (int k = 0; k < MATRIX_STAGES - 1; k++)
        matrix_ask(format, runs, tiles, a, first_row, &ahead, room);
    struct matrix_row w[2], next[2];
    if (runs && matrix_more(&walk)) {
        matrix_read(format, runs, low, a->in, walk.run, t, &next[0]);
        matrix_read(format, runs, high, a->in, walk.run, t, &next[1]);
    }
    while (matrix_more(&walk)) {
        if (runs)
            w[0].codes = next[0].codes, w[1].codes = next[1].codes;
        else { /* 256 bytes a lane: as much as there are registers for */
            matrix_read(format, runs, low, a->in, walk.run, t, &w[0]);
            matrix_read(format, runs, high, a->in, walk.run, t, &w[1]);
        }
        if (walk.class_ != class_)
            matrix_fold(tiles, total, sums);
        class_ = walk.class_;
        walk.run += MATRIX_CLASSES;
        matrix_settle(&walk);
        if (runs && matrix_more(&walk)) { /* asked for while this one is multiplied */
            matrix_read(format, runs, low, a->in, walk.run, t, &next[0]);
            matrix_read(format, runs, high, a->in, walk.run, t, &next[1]);
        }
        UNROLL for (int half = 0; half < 2; half++) {
            COPY_WAIT(MATRIX_STAGES - 2);
            BLOCK_BARRIER(); /* all have copied this stage, and are done with the one before, which is filled next */
            matrix_ask(format, runs, tiles, a, first_row, &ahead, room);
            matrix_half(format, runs, tiles, w, half, room + stage * tiles * 512, sums);
            stage = stage + 1 < MATRIX_STAGES ? stage + 1 : 0;
        }
    }
    matrix_fold(tiles, total, sums);
    COPY_WAIT(0);
}

/* Hands in one class of the block's sums; whether it was the last to arrive, and then total has all. */
KERNEL_CODE int matrix_hand_in(int tiles, const struct gemv_args *a, int class_, float *room, float (*total)[4])
{
    int64_t block = BLOCK_Y / MATRIX_CLASSES * a->blocks + BLOCK;
    float *partial = a->partial + block * MATRIX_CLASSES * tiles * 4 * CUDA_THREADS + THREAD;
    int *last = (int *)(void *)room;
    UNROLL for (int n = 0; n < tiles; n++)
        UNROLL for (int i = 0; i < 4; i++)
            partial[((class_ * tiles + n) * 4 + i) * CUDA_THREADS] = total[n][i];
    FENCE();
    BLOCK_BARRIER();
    if (THREAD == 0)
        *last = ATOMIC_ADD(a->arrived + block, 1u) + 1 == MATRIX_CLASSES;
    BLOCK_BARRIER();
    if (!*last)
        return 0;
    FENCE();
    if (THREAD == 0)
        a->arrived[block] = 0; /* for the next product */
    UNROLL for (int n = 0; n < tiles; n++)
        UNROLL for (int i = 0; i < 4; i++) {
            total[n][i] = 0;
            UNROLL for (int k = 0; k < MATRIX_CLASSES; k++)
                total[n][i] += partial[((k * tiles + n) * 4 + i) * CUDA_THREADS];
        }
    return 1;
}

/* The part and the tile of 16 outputs that are warp `warp`'s. Beyond the last: the tile behind it, so that the warp goes along. */
KERNEL_CODE int matrix_tile(const struct gemv_args *a, int warp, int64_t *tile)
{
    *tile = a->gated ? BLOCK * 2 + warp % 2 : BLOCK * 4 + warp;
    int part = a->gated ? warp / 2 : matrix_part(a, tile);
    if (part >= 0)
        return part;
    *tile = (a->part[a->parts - 1].out + 15) / 16;
    return a->parts - 1;
}

enum { MATRIX_WIDE = 16 * CUDA_WARPS, MATRIX_STRIDE = MATRIX_WIDE + 4 /* no bank is asked twice at once */ };

/* Results through shared memory, so that neighbours write what lies side by side. */
KERNEL_CODE void matrix_write(int tiles, const struct gemv_args *a, int64_t first, float *room, float (*total)[4])
{
    float *mine = room + THREAD / 32 * 16 + THREAD % 32 / 4 + THREAD % 4 * 2 * MATRIX_STRIDE;
    BLOCK_BARRIER(); /* the last stage may still be read */
    UNROLL for (int n = 0; n < tiles; n++)
        UNROLL for (int i = 0; i < 4; i++)
            mine[(8 * n + i % 2) * MATRIX_STRIDE + i / 2 * 8] = total[n][i];
    BLOCK_BARRIER();
    int wide = a->gated ? MATRIX_WIDE / 2 : MATRIX_WIDE, out = THREAD % wide, upper = MATRIX_WIDE - wide;
    int64_t tile;
    int part = matrix_tile(a, (out + upper) / 16, &tile); /* of gated ones the second */
    UNROLL_BY(1) for (int row = THREAD / wide; row < 8 * tiles; row += CUDA_THREADS / wide)
        matrix_finish(a, &a->part[part], tile * 16 + out % 16, first + row, room[row * MATRIX_STRIDE + out + upper], room[row * MATRIX_STRIDE + out]);
}

/* Grid: (tiles of outputs / 4, where two are gated / 2; rows / (8 * tiles), times MATRIX_CLASSES where a.split), rounded up. Shared:
 * MATRIX_STAGES * tiles * 2 KiB. */
KERNEL_CODE void matrix_many(int format, int runs, int tiles, const struct gemv_args *a)
{
    SHARED_FLOATS(room);
    int class_ = a->split ? (int)(BLOCK_Y % MATRIX_CLASSES) : 0;
    int64_t tile, first = (a->split ? BLOCK_Y / MATRIX_CLASSES : BLOCK_Y) * 8 * tiles;
    int part = matrix_tile(a, THREAD / 32, &tile);
    float total[MATRIX_TILES][4];
    matrix_prefetch(a, &a->part[part], tile * 16, THREAD % 32 / 16, 2);
    GRID_WAIT();
    matrix_sums(format, runs, tiles, a, &a->part[part], tile * 16, first, class_, a->split ? class_ + 1 : MATRIX_CLASSES, room, total);
    if (!a->split || matrix_hand_in(tiles, a, class_, room, total))
        matrix_write(tiles, a, first, room, total);
}

/* format, runs (planes that runs.h reads, else values of two bytes), tiles of 8 rows: constants. */
KERNEL_CODE void matrix_body(int format, int runs, int tiles, const struct gemv_args *a)
{
    if (tiles <= MATRIX_FEW_TILES)
        matrix_few(format, runs, tiles, a);
    else
        matrix_many(format, runs, tiles, a);
}

#endif
