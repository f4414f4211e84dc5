/* Attention of few rows by matrix units: while decoding, and for prompts and guesses of some rows. Pieces are those of join.h.
 *
 * A block has one K and V head. Columns of its products are query heads of one row, or of neighbouring rows of a sequence: 8 to 32. A
 * warp has 64 tokens of the piece, and reads K and V straight from the cache, 16 bytes a load, into the fragments of
 *   scores [tokens][columns] = K [tokens][k] q^T [k][columns]
 *   sums   [values][columns] = V^T [values][tokens] weights [tokens][columns]
 * without shared memory, since which token or value a row of a product is, and which value a k of it, is free. Tokens come in
 * steps of 32: run n of 4 tokens is row n of two tiles of 16 rows (tokens 0 and 2) and row n + 8 (tokens 1 and 3).
 *   K: lane 4 g + t reads 8 values of the tokens of run g; values 32 s + 8 t .. of q are the same k.
 *   V: it reads values 64 j + 8 g .. of the tokens of runs 2t and 2t + 1, and puts tokens together in pairs; value 2 m and 2 m + 1 of
 *      the eight are rows g and g + 8 of tile m. Weights are turned to meet them by one movmatrix for 8 x 8.
 * So every type has one body. Warps then bring their sums to a common unit and add them up, the first one first.
 *
 * For 64 tokens of 128 values and 8 columns a warp has about 1400 instructions of 9.0 in f16 (K: 81 for 32 values, of which 8 load and 8
 * multiply), 2000 in Q8_0 and 2100 in Q4_0 (185 and 216: codes become f16 by a word for two, and are scaled). Memory gives an H200 room
 * for 7000, 3700 and 2000 meanwhile. Floats (attend.h) take 1400 for one head and 6000 for eight, of f16.
 *
 * Rounded: q and the weights, to f16, or to bf16 where K or V is; values of Q8_0 and Q4_0 to f16. */
#ifndef KERNELS_CUDA_COLUMNS_H
#define KERNELS_CUDA_COLUMNS_H

#include "kernels/cuda/join.h"
#include "kernels/cuda/pairs.h"

enum {
    COLUMNS_TOKENS = ATTEND_PIECE / CUDA_WARPS, /* of a warp */
    COLUMNS_STEP = 8 * PAIR_TOKENS,
    COLUMNS_STEPS = COLUMNS_TOKENS / COLUMNS_STEP,
    COLUMNS_TILES = COLUMNS_TOKENS / 16,
    COLUMNS_RUNS = COLUMNS_TOKENS / PAIR_TOKENS,
    COLUMNS_VALUES = 64 /* of V at a time */
};

struct columns_block {
    struct attend_block b;
    struct pair_run *runs; /* [K, V][warp][COLUMNS_RUNS]: one is found by each thread */
    uint16_t *q;     /* [32 values][tile][lane][8] */
    int64_t *range;  /* [column][2]: tokens that its row sees; none where there is no such column */
    float *edges;    /* [warp][column][2]: the sum of weights, the largest score */
    float *factors;  /* [warp][column]: what brings the warp's sums to the units of the piece */
    int most;        /* columns there is room for */
    /* of the warp, in the piece that is done: its first token, and which of its tokens any column sees */
    int64_t origin;
    int from, to;
};

/* A lane's columns of a tile are 8 n + 2t and the next. */
KERNEL_CODE int columns_of(int n, int j) { return 8 * n + THREAD % 4 * 2 + j; }

/* The lane's token of a tile: rows g (upper 0) and g + 8. */
KERNEL_CODE int columns_token(int tile, int upper) { return tile / 2 * COLUMNS_STEP + THREAD % 32 / 4 * PAIR_TOKENS + tile % 2 * 2 + upper; }

/* ---- which rows ------------------------------------------------------------------------------------------------------------------ */

/* Rows of the block: a.rows neighbours at most of one sequence, sequences one after another; false: no block of these. */
KERNEL_CODE int columns_find(const struct attend_args *a, int64_t tile, struct attend_block *b, int *rows)
{
    *rows = 1;
    b->item = tile;
    b->row = (int32_t)tile;
    if (a->rows == 1) {
        b->row = batch_row(&a->batch, a->only_wanted, tile);
        b->sequence = a->batch.sequence[b->row];
        return !a->many || a->batch.sequences[b->sequence].rows < a->many;
    }
    for (int s = 0; s < a->sequences; s++) {
        const struct device_sequence *q = &a->batch.sequences[s];
        int64_t tiles = a->many && q->rows >= a->many ? 0 : (q->rows + a->rows - 1) / a->rows;
        if (tile < tiles) {
            b->sequence = s;
            b->row = (int32_t)(q->first + tile * a->rows);
            b->item = b->row;
            *rows = q->first + q->rows - b->row < a->rows ? q->first + q->rows - b->row : a->rows;
            return 1;
        }
        tile -= tiles;
    }
    return 0;
}

/* What each column sees, and what any does; q as the second factor of products. Behind a barrier. */
KERNEL_CODE void columns_begin(int tiles, struct columns_block *c, int rows)
{
    struct attend_block *b = &c->b;
    const struct attend_args *a = b->a;
    int64_t total = a->batch.sequences[b->sequence].total, unused;
    attend_range(a, a->batch.slot[b->row], total, &b->start, &unused);
    attend_range(a, a->batch.slot[b->row + rows - 1], total, &unused, &b->end);
    b->columns = rows * b->heads;
    if (THREAD < c->most) {
        int64_t start = 0, end = 0;
        if (THREAD < b->columns)
            attend_range(a, a->batch.slot[b->row + THREAD / b->heads], total, &start, &end);
        c->range[2 * THREAD] = start, c->range[2 * THREAD + 1] = end;
    }
    int half = a->state.k.type != STORAGE_BF16, k_dim = a->state.k.dim, eights = (k_dim + 31) / 32 * tiles * 32;
    for (int i = THREAD; i < eights; i += CUDA_THREADS) {
        int column = i / 32 % tiles * 8 + i % 32 / 4, at = i / (32 * tiles) * 32 + i % 4 * 8;
        const float *q = a->q + (column < b->columns ? attend_column(b, column) : 0) * k_dim;
        struct words w;
        UNROLL for (int k = 0; k < 4; k++) {
            float pair[2];
            UNROLL for (int j = 0; j < 2; j++)
                pair[j] = column < b->columns && at + 2 * k + j < k_dim ? pair_bound(half, q[at + 2 * k + j]) : 0;
            w.w[k] = pair_rounded(half, pair[0], pair[1]);
        }
        STORE_WORDS(c->q + (int64_t)i * 8, w);
    }
}

/* ---- a warp's tokens ------------------------------------------------------------------------------------------------------------- */

/* The runs of all warps, of the piece's tokens [from, to). Where none of a run's tokens may be read, another run is: nobody needs its
 * values. Behind a barrier. */
KERNEL_CODE void columns_runs(const struct columns_block *c, int from, int to)
{
    const struct device_part part = THREAD < CUDA_WARPS * COLUMNS_RUNS ? c->b.a->state.k : c->b.a->state.v;
    int warp = THREAD / COLUMNS_RUNS % CUDA_WARPS, n = THREAD % COLUMNS_RUNS + warp * COLUMNS_RUNS;
    int first = warp * COLUMNS_TOKENS, end = first + COLUMNS_TOKENS;
    from = from > first ? from : first, to = to < end ? to : end;
    if (from >= to)
        return;
    int least = from / PAIR_TOKENS, most = (to - 1) / PAIR_TOKENS, run = n < least ? least : n > most ? most : n;
    int token = run * PAIR_TOKENS, slot = token % SLOTS_PER_BLOCK, block = token - slot;
    struct pair_run *found = &c->runs[THREAD];
    pair_find(part.type, part.filled, attend_at(&c->b, &part, token) - c->b.a->state.pool, slot, from - block, to - block, found);
    found->seen = n == run ? found->seen : 0;
}

/* Run n of the warp's. */
KERNEL_CODE struct pair_run columns_run(const struct columns_block *c, int of_v, int n)
{
    return c->runs[(of_v * CUDA_WARPS + THREAD / 32) * COLUMNS_RUNS + n];
}

/* The part's bytes of the warp's tokens, asked for before they are needed. */
KERNEL_CODE void columns_ahead(const struct columns_block *c, const struct device_part *part)
{
    for (int t = c->from / SLOTS_PER_BLOCK * SLOTS_PER_BLOCK; t < c->to; t += SLOTS_PER_BLOCK) {
        const unsigned char *head = attend_at(&c->b, part, THREAD / 32 * COLUMNS_TOKENS + t);
        for (int i = THREAD % 32 * PREFETCH_LINE; i < part->head_bytes; i += 32 * PREFETCH_LINE)
            PREFETCH(head + i);
    }
}

/* scores[tile][n] += K q */
KERNEL_CODE void columns_scores(int type, int tiles, const struct columns_block *c, float (*scores)[4][4])
{
    const struct device_part *part = &c->b.a->state.k;
    struct pair_run run[COLUMNS_STEPS];
    UNROLL for (int step = 0; step < COLUMNS_STEPS; step++)
        run[step] = columns_run(c, 0, step * 8 + THREAD % 32 / 4);
    UNROLL_BY(1) for (int at = 0; at < part->filled; at += 32) {
        struct words q[4];
        UNROLL for (int n = 0; n < tiles; n++)
            q[n] = WORDS(c->q + ((at / 32 * tiles + n) * 32 + THREAD % 32) * 8);
        UNROLL for (int step = 0; step < COLUMNS_STEPS; step++) {
            struct words k[PAIR_TOKENS];
            pair_read(type, part->filled, c->b.a->state.pool, &run[step], at + THREAD % 4 * 8, k);
            UNROLL for (int x = 0; x < 2; x++)
                UNROLL for (int i = 0; i < 2; i++) {
                    const uint32_t a[4] = {k[2 * x].w[2 * i], k[2 * x + 1].w[2 * i], k[2 * x].w[2 * i + 1], k[2 * x + 1].w[2 * i + 1]};
                    UNROLL for (int n = 0; n < tiles; n++)
                        pair_multiply(type != STORAGE_BF16, scores[2 * step + x][n], a, &q[n].w[2 * i]);
                }
        }
    }
}

/* Scores of a column to weights in the units of its largest; the sum of weights and that score. */
KERNEL_CODE void columns_weights(const struct columns_block *c, int n, int j, float (*scores)[4][4], float *total, float *most)
{
    const struct attend_args *a = c->b.a;
    const int64_t *range = c->range + 2 * columns_of(n, j);
    int64_t start = range[0] - c->origin, end = range[1] - c->origin;
    int from = start < 0 ? 0 : start > COLUMNS_TOKENS ? COLUMNS_TOKENS : (int)start, to = end < 0 ? 0 : end > COLUMNS_TOKENS ? COLUMNS_TOKENS : (int)end;
    float largest = -INFINITY, sum = 0;
    UNROLL for (int tile = 0; tile < COLUMNS_TILES; tile++)
        UNROLL for (int upper = 0; upper < 2; upper++) {
            float *score = &scores[tile][n][2 * upper + j];
            int token = columns_token(tile, upper);
            *score *= a->scale;
            if (a->cap > 0) /* cap * tanh(score / cap) */
                *score = a->cap - 2 * a->cap / (EXP_FAST(*score * (2 / a->cap)) + 1);
            *score = token >= from && token < to ? *score : -INFINITY;
            largest = fmaxf(largest, *score);
        }
    UNROLL for (int lanes = 4; lanes < 32; lanes *= 2)
        largest = fmaxf(largest, LANE_FLOAT(largest, lanes));
    float unit = largest == -INFINITY ? 0 : largest;
    UNROLL for (int tile = 0; tile < COLUMNS_TILES; tile++)
        UNROLL for (int upper = 0; upper < 2; upper++) {
            float *score = &scores[tile][n][2 * upper + j];
            *score = EXP_FAST(*score - unit);
            sum += *score;
        }
    UNROLL for (int lanes = 4; lanes < 32; lanes *= 2)
        sum += LANE_FLOAT(sum, lanes);
    *total = sum;
    *most = largest;
}

/* sums[m][n] += V^T weights, of COLUMNS_VALUES values from `at` on */
KERNEL_CODE void columns_values(int type, int tiles, const struct columns_block *c, int at, uint32_t (*weights)[4][2], float (*sums)[4][4])
{
    const struct device_part *part = &c->b.a->state.v;
    UNROLL for (int step = 0; step < COLUMNS_STEPS; step++) {
        struct words v[2][PAIR_TOKENS];
        UNROLL for (int k = 0; k < 2; k++) {
            const struct pair_run run = columns_run(c, 1, step * 8 + THREAD % 4 * 2 + k);
            pair_read(type, part->filled, c->b.a->state.pool, &run, at + THREAD % 32 / 4 * 8, v[k]);
        }
        UNROLL for (int x = 0; x < 2; x++)
            UNROLL for (int m = 0; m < 4; m++) {
                uint32_t a[4];
                UNROLL for (int i = 0; i < 4; i++)
                    a[i] = CHOOSE_BYTES(v[0][2 * x + i / 2].w[m], v[1][2 * x + i / 2].w[m], i % 2 ? 0x7632 : 0x5410);
                UNROLL for (int n = 0; n < tiles; n++)
                    pair_multiply(type != STORAGE_BF16, sums[m][n], a, weights[2 * step + x][n]);
            }
    }
}

/* ---- a piece --------------------------------------------------------------------------------------------------------------------- */

/* A body for each type, of which one is gone through. */
#define COLUMNS_TYPES(type, call)             \
    switch (type) {                           \
    case STORAGE_F16: call(STORAGE_F16); break; \
    case STORAGE_BF16: call(STORAGE_BF16); break; \
    case STORAGE_F8_E4M3: call(STORAGE_F8_E4M3); break; \
    case STORAGE_Q8_0: call(STORAGE_Q8_0); break; \
    case STORAGE_Q4_0: call(STORAGE_Q4_0); break; \
    }

/* The lane's values of two columns of a tile, added to those of the warps before. */
KERNEL_CODE void columns_add(const struct columns_block *c, int n, int at, float (*sums)[4][4])
{
    UNROLL for (int j = 0; j < 2; j++) {
        int column = columns_of(n, j), i = at + THREAD % 32 / 4 * 8;
        float factor = c->factors[THREAD / 32 * c->most + column];
        float *to = c->b.piece + column * c->b.v_wide + i;
        if (column < c->b.columns && i < c->b.a->state.v.dim)
            UNROLL for (int part = 0; part < 2; part++) {
                struct words w;
                if (THREAD >= 32)
                    w = WORDS(to + 4 * part);
                UNROLL for (int k = 0; k < 4; k++) {
                    float mine = sums[2 * part + k / 2][n][k % 2 * 2 + j] * factor;
                    w.w[k] = bits_of_float(THREAD >= 32 ? float_of_bits(w.w[k]) + mine : mine);
                }
                STORE_WORDS(to + 4 * part, w);
            }
    }
}

/* The largest score of all warps. */
KERNEL_CODE float columns_most(const struct columns_block *c, int column)
{
    float most = -INFINITY;
    UNROLL for (int warp = 0; warp < CUDA_WARPS; warp++)
        most = fmaxf(most, c->edges[2 * (warp * c->most + column) + 1]);
    return most;
}

/* Behind a barrier. */
KERNEL_CODE void columns_factors(const struct columns_block *c)
{
    for (int i = THREAD; i < CUDA_WARPS * c->most; i += CUDA_THREADS) {
        float own = c->edges[2 * i + 1], most = columns_most(c, i % c->most);
        c->factors[i] = own == most ? 1 : EXP_FAST(own - most);
    }
}

/* The sums of weights and the largest scores of all columns. */
KERNEL_CODE void columns_edges(const struct columns_block *c)
{
    int v_dim = c->b.a->state.v.dim;
    if (THREAD < c->b.columns) {
        float sum = 0;
        UNROLL for (int warp = 0; warp < CUDA_WARPS; warp++)
            sum += c->edges[2 * (warp * c->most + THREAD)] * c->factors[warp * c->most + THREAD];
        c->b.piece[THREAD * c->b.v_wide + v_dim] = sum;
        c->b.piece[THREAD * c->b.v_wide + v_dim + 1] = columns_most(c, THREAD);
    }
}

/* Scores and weights of the warp's tokens; weights as the second factor of products. */
KERNEL_CODE void columns_attend(int tiles, const struct columns_block *c, uint32_t (*weights)[4][2])
{
    const struct attend_args *a = c->b.a;
    int half = a->state.v.type != STORAGE_BF16;
    float scores[COLUMNS_TILES][4][4];
    UNROLL for (int i = 0; i < COLUMNS_TILES * tiles * 4; i++)
        scores[i / (4 * tiles)][i / 4 % tiles][i % 4] = 0;
#define SCORES(type) columns_scores(type, tiles, c, scores)
    if (c->from < c->to)
        COLUMNS_TYPES(a->state.k.type, SCORES)
#undef SCORES
    UNROLL for (int n = 0; n < tiles; n++)
        UNROLL for (int j = 0; j < 2; j++) {
            float total, most;
            columns_weights(c, n, j, scores, &total, &most);
            if (THREAD % 32 < 4) {
                float *edge = c->edges + 2 * (THREAD / 32 * c->most + columns_of(n, j));
                edge[0] = total, edge[1] = most;
            }
        }
    UNROLL for (int tile = 0; tile < COLUMNS_TILES; tile++)
        UNROLL for (int n = 0; n < tiles; n++)
            UNROLL for (int upper = 0; upper < 2; upper++)
                weights[tile][n][upper] = TURN_PAIRS(pair_rounded(half, scores[tile][n][2 * upper], scores[tile][n][2 * upper + 1]));
}

/* Piece `number` of what the block's rows see, into b.piece. */
KERNEL_CODE void columns_piece(int tiles, struct columns_block *c, int64_t number)
{
    const struct attend_block *b = &c->b;
    int64_t origin = number * ATTEND_PIECE;
    int from = b->start > origin ? (int)(b->start - origin) : 0, to = b->end - origin < ATTEND_PIECE ? (int)(b->end - origin) : ATTEND_PIECE;
    int mine = THREAD / 32 * COLUMNS_TOKENS, v_dim = b->a->state.v.dim;
    uint32_t weights[COLUMNS_TILES][4][2];
    attend_find(b, origin, from, to);
    c->origin = origin + mine;
    c->from = from > mine ? from - mine : 0;
    c->to = to - mine < COLUMNS_TOKENS ? to - mine : COLUMNS_TOKENS;
    BLOCK_BARRIER();
    columns_runs(c, from, to);
    if (b->a->ahead)
        columns_ahead(c, &b->a->state.v);
    BLOCK_BARRIER();
    columns_attend(tiles, c, weights);
    BLOCK_BARRIER();
    columns_factors(c);
    BLOCK_BARRIER();
    UNROLL_BY(1) for (int at = 0; at < v_dim; at += COLUMNS_VALUES) {
        float sums[4][4][4];
        UNROLL for (int i = 0; i < 4 * tiles * 4; i++)
            sums[i / (4 * tiles)][i / 4 % tiles][i % 4] = 0;
#define VALUES(type) columns_values(type, tiles, c, at, weights, sums)
        if (c->from < c->to)
            COLUMNS_TYPES(b->a->state.v.type, VALUES)
#undef VALUES
        for (int warp = 0; warp < CUDA_WARPS; warp++) {
            if (THREAD / 32 == warp)
                UNROLL for (int n = 0; n < tiles; n++)
                    columns_add(c, n, at, sums);
            BLOCK_BARRIER();
        }
    }
    columns_edges(c); /* in the place of values that fill up the last eight */
    BLOCK_BARRIER();
}

/* ---- a block --------------------------------------------------------------------------------------------------------------------- */

/* Grid: (tiles of a.rows rows * pieces, kv_heads * groups of a.group heads); pieces 1: a block walks through all of them. Shared: see
 * COLUMNS_SHARED. tiles: a constant, of 8 columns. */
KERNEL_CODE void columns_body(int tiles, const struct attend_args *a)
{
    SHARED_FLOATS(room);
    int shared = a->heads / a->kv_heads, groups = (shared + a->group - 1) / a->group, rows;
    int64_t tile = BLOCK / a->pieces;
    struct columns_block c;
    struct attend_block *b = &c.b;
    b->a = a, b->kv = (int)BLOCK_Y / groups, b->first = (int)BLOCK_Y % groups * a->group;
    b->heads = shared - b->first < a->group ? shared - b->first : a->group;
    b->v_wide = b->room_wide = ATTEND_V_WIDE(a->state.v.dim);
    if (!columns_find(a, tile, b, &rows))
        return; /* the whole block */
    c.most = 8 * tiles;
    b->where = (int64_t *)(void *)room;
    c.runs = (struct pair_run *)(void *)(b->where + ATTEND_PIECE / SLOTS_PER_BLOCK);
    c.range = (int64_t *)(void *)(c.runs + CUDA_THREADS);
    c.q = (uint16_t *)(void *)(c.range + 2 * c.most);
    c.edges = (float *)(void *)(c.q + (a->state.k.dim + 31) / 32 * 32 * c.most);
    c.factors = c.edges + 2 * CUDA_WARPS * c.most;
    b->piece = b->room = c.factors + CUDA_WARPS * c.most;
    b->whole = b->piece + c.most * b->v_wide;
    columns_begin(tiles, &c, rows);
    if (!attend_has(b))
        return;
    attend_begin(b);
    int64_t piece = attend_first(b);
    do
        columns_piece(tiles, &c, piece);
    while (attend_next(b, tile, &piece));
}

#endif
