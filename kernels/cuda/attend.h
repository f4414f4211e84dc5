/* Attention over the cache, in pieces of ATTEND_PIECE tokens that begin at multiples of it. A piece gives every head
 *   [v_dim] sums of weighted values, the sum of the weights, the largest score,
 * and pieces are put together from the first to the last, whoever does it: one block that walks through all of them (prompts), or a
 * block for each and the last that is ready (decoding). So a row's bits depend on nothing but its sequence.
 *
 * A block serves up to `most` query heads of one K and V head from one read. Scores: four lanes for each token, 8 values at a time, so
 * that the eight tokens of a warp are loads of whole sectors. Values: as many lanes for a token as it has eights (to a power of two),
 * the tokens spread over the rest; then lanes are summed as a tree and warps one after another.
 *
 * Operations: 2 multiplications for each value and head, as float32. With four heads and two bytes a value that is 2 flops a byte:
 * at 4.3 TB/s a third of what an H200 has, conversions and addresses included. */
#ifndef KERNELS_CUDA_ATTEND_H
#define KERNELS_CUDA_ATTEND_H

#include "kernels/cuda/cache.h"

enum { ANY = -1 };

/* What a block works on. */
struct attend_block {
    const struct attend_args *a;
    int32_t row, sequence;
    int64_t start, end;     /* tokens that the row sees */
    int kv, first, heads;   /* K and V head; the first query head of that, and how many */
    int k_wide, v_wide;     /* values of a head in shared memory */
    int64_t *where;         /* [ATTEND_PIECE / SLOTS_PER_BLOCK]: offsets in the pool */
    float *q;               /* [heads][k_wide], zeros behind k_dim */
    float *scores;          /* [heads][ATTEND_PIECE]: then weights */
    float *piece, *whole;   /* [heads][v_wide]: see above; of a piece, of those so far */
};

/* Tokens that a row sees. */
KERNEL_CODE void attend_range(const struct attend_args *a, int64_t self, int64_t total, int64_t *start, int64_t *end)
{
    *start = 0;
    *end = a->full ? total : self + 1;
    if (a->window) {
        *start = self + 1 > a->window ? self + 1 - a->window : 0;
        *end = *end > self + a->window ? self + a->window : *end;
    }
}

KERNEL_CODE const unsigned char *attend_at(const struct attend_block *b, const struct device_part *part, int t)
{
    return b->a->state.pool + b->where[t / SLOTS_PER_BLOCK] + part->offset + ((int64_t)b->kv * SLOTS_PER_BLOCK + t % SLOTS_PER_BLOCK) * part->head_bytes;
}

/* ---- a piece ------------------------------------------------------------------------------------------------------------------ */

/* scores[head][t] for t in [from, to) of the piece. */
KERNEL_CODE void attend_scores(int type, int most, const struct attend_block *b, int from, int to)
{
    const struct attend_args *a = b->a;
    for (int t0 = from / (CUDA_THREADS / 4) * (CUDA_THREADS / 4); t0 < to; t0 += CUDA_THREADS / 4) {
        int t = t0 + THREAD / 4, seen = t >= from && t < to;
        float sums[ATTEND_HEADS];
        UNROLL for (int h = 0; h < most; h++)
            sums[h] = 0;
        const unsigned char *k = seen ? attend_at(b, &a->state.k, t) : NULL;
        UNROLL_BY(2) for (int i = THREAD % 4 * RUN_VALUES; seen && i < b->k_wide; i += 4 * RUN_VALUES) {
            float v[RUN_VALUES];
            cache_run(type == ANY ? a->state.k.type : type, k, i, v);
            UNROLL for (int h = 0; h < most; h++)
                if (h < b->heads)
                    UNROLL for (int j = 0; j < RUN_VALUES; j++)
                        sums[h] = fmaf(b->q[h * b->k_wide + i + j], v[j], sums[h]);
        }
        UNROLL for (int h = 0; h < most; h++)
            if (h < b->heads) {
                float score = sums[h];
                score += LANE_FLOAT(score, 1);
                score += LANE_FLOAT(score, 2);
                score *= a->scale;
                if (a->cap > 0)
                    score = a->cap * tanhf(score / a->cap);
                if (seen && THREAD % 4 == 0)
                    b->scores[h * ATTEND_PIECE + t] = score;
            }
    }
}

/* Scores to weights; a warp for each head. */
KERNEL_CODE void attend_weights(const struct attend_block *b, int from, int to)
{
    int v_dim = b->a->state.v.dim;
    for (int h = THREAD / 32; h < b->heads; h += CUDA_WARPS) {
        float *scores = b->scores + h * ATTEND_PIECE, most = -INFINITY, total = 0;
        for (int t = from + THREAD % 32; t < to; t += 32)
            most = fmaxf(most, scores[t]);
        most = warp_most(most);
        for (int t = from + THREAD % 32; t < to; t += 32) {
            scores[t] = expf(scores[t] - most);
            total += scores[t];
        }
        total = warp_sum(total);
        if (THREAD % 32 == 0) {
            b->piece[h * b->v_wide + v_dim] = total;
            b->piece[h * b->v_wide + v_dim + 1] = most;
        }
    }
}

/* Sums of the lanes that hold the same values, then of the warps. */
KERNEL_CODE void attend_collect(int most, const struct attend_block *b, int lanes, int i, float (*sums)[RUN_VALUES])
{
    UNROLL for (int h = 0; h < most; h++)
        if (h < b->heads)
            UNROLL for (int j = 0; j < RUN_VALUES; j++)
                for (int other = 16; other >= lanes; other /= 2)
                    sums[h][j] += LANE_FLOAT(sums[h][j], other);
    for (int warp = 0; warp < CUDA_WARPS; warp++) {
        if (THREAD / 32 == warp && THREAD % 32 < lanes)
            UNROLL for (int h = 0; h < most; h++)
                if (h < b->heads)
                    UNROLL for (int j = 0; j < RUN_VALUES; j++)
                        if (i + j < b->a->state.v.dim) {
                            float *to = &b->piece[h * b->v_wide + i + j];
                            *to = warp ? *to + sums[h][j] : sums[h][j];
                        }
        BLOCK_BARRIER();
    }
}

KERNEL_CODE void attend_values(int type, int most, const struct attend_block *b, int from, int to)
{
    const struct attend_args *a = b->a;
    int v_dim = a->state.v.dim, lanes = 1;
    while (lanes < 32 && lanes * RUN_VALUES < v_dim)
        lanes *= 2;
    for (int at = 0; at < v_dim; at += lanes * RUN_VALUES) {
        int i = at + THREAD % lanes * RUN_VALUES;
        float sums[ATTEND_HEADS][RUN_VALUES];
        UNROLL for (int h = 0; h < most; h++)
            UNROLL for (int j = 0; j < RUN_VALUES; j++)
                sums[h][j] = 0;
        UNROLL_BY(2) for (int t = from + THREAD / lanes; i < v_dim && t < to; t += CUDA_THREADS / lanes) {
            float v[RUN_VALUES];
            cache_run(type == ANY ? a->state.v.type : type, attend_at(b, &a->state.v, t), i, v);
            UNROLL for (int h = 0; h < most; h++)
                if (h < b->heads) {
                    float weight = b->scores[h * ATTEND_PIECE + t];
                    UNROLL for (int j = 0; j < RUN_VALUES; j++)
                        sums[h][j] = fmaf(weight, v[j], sums[h][j]);
                }
        }
        attend_collect(most, b, lanes, i, sums);
    }
}

/* Piece `number` of what the row sees, into b->piece. */
KERNEL_CODE void attend_piece(int type, int most, const struct attend_block *b, int64_t number)
{
    const struct attend_args *a = b->a;
    const struct device_sequence *s = &a->batch.sequences[b->sequence];
    int64_t origin = number * ATTEND_PIECE;
    int from = b->start > origin ? (int)(b->start - origin) : 0, to = b->end - origin < ATTEND_PIECE ? (int)(b->end - origin) : ATTEND_PIECE;
    int block = from / SLOTS_PER_BLOCK + THREAD;
    if (block * SLOTS_PER_BLOCK < to)
        b->where[block] = a->batch.blocks[s->tables + a->state.group * s->stride + origin / SLOTS_PER_BLOCK + block] * a->state.block_bytes;
    BLOCK_BARRIER();
    attend_scores(type, most, b, from, to);
    BLOCK_BARRIER();
    attend_weights(b, from, to);
    BLOCK_BARRIER();
    attend_values(type, most, b, from, to); /* ends with a barrier */
}

/* ---- pieces together ------------------------------------------------------------------------------------------------------------ */

/* What the pieces before and the next one are multiplied with. */
KERNEL_CODE void attend_factors(float before, float next, float *a, float *b)
{
    float most = fmaxf(before, next);
    *a = before == most ? 1 : expf(before - most);
    *b = next == most ? 1 : expf(next - most);
}

KERNEL_CODE void attend_begin(const struct attend_block *b)
{
    for (int i = THREAD; i < b->heads * b->v_wide; i += CUDA_THREADS)
        b->whole[i] = i % b->v_wide == b->a->state.v.dim + 1 ? -INFINITY : 0;
}

/* b->piece to b->whole. */
KERNEL_CODE void attend_fold(const struct attend_block *b)
{
    int v_dim = b->a->state.v.dim;
    BLOCK_BARRIER();
    for (int h = 0; h < b->heads; h++) {
        float *whole = b->whole + h * b->v_wide, *piece = b->piece + h * b->v_wide, before, next;
        attend_factors(whole[v_dim + 1], piece[v_dim + 1], &before, &next);
        for (int i = THREAD; i <= v_dim; i += CUDA_THREADS)
            whole[i] = whole[i] * before + piece[i] * next;
    }
    BLOCK_BARRIER();
    for (int h = THREAD; h < b->heads; h += CUDA_THREADS)
        b->whole[h * b->v_wide + v_dim + 1] = fmaxf(b->whole[h * b->v_wide + v_dim + 1], b->piece[h * b->v_wide + v_dim + 1]);
}

/* The partial results of `count` pieces to b->whole, ATTEND_MERGE at a time: their largest scores, what the sums before and the
 * piece's own are multiplied with, then all values. */
KERNEL_CODE void attend_merge(const struct attend_block *b, const float *partial, int64_t stride, int count)
{
    int v_dim = b->a->state.v.dim;
    for (int first = 0; first < count; first += ATTEND_MERGE) {
        int pieces = count - first < ATTEND_MERGE ? count - first : ATTEND_MERGE;
        const float *from = partial + first * stride;
        BLOCK_BARRIER();
        for (int i = THREAD; i < b->heads * pieces; i += CUDA_THREADS)
            b->scores[i / pieces * ATTEND_PIECE + i % pieces] = from[i % pieces * stride + i / pieces * b->v_wide + v_dim + 1];
        BLOCK_BARRIER();
        for (int i = THREAD; i < b->heads * pieces; i += CUDA_THREADS) {
            int h = i / pieces, p = i % pieces;
            float *most = b->scores + h * ATTEND_PIECE, before = b->whole[h * b->v_wide + v_dim + 1];
            for (int j = 0; j < p; j++)
                before = fmaxf(before, most[j]);
            attend_factors(before, most[p], &most[ATTEND_MERGE + p], &most[2 * ATTEND_MERGE + p]);
        }
        BLOCK_BARRIER();
        for (int i = THREAD; i < b->heads * b->v_wide; i += CUDA_THREADS) {
            const float *factors = b->scores + i / b->v_wide * ATTEND_PIECE;
            float sum = b->whole[i];
            UNROLL_BY(8) for (int p = 0; p < pieces; p++) {
                float next = from[p * stride + i];
                sum = i % b->v_wide == v_dim + 1 ? fmaxf(sum, next) : sum * factors[ATTEND_MERGE + p] + next * factors[2 * ATTEND_MERGE + p];
            }
            if (i % b->v_wide <= v_dim + 1)
                b->whole[i] = sum;
        }
    }
}

/* ---- a block -------------------------------------------------------------------------------------------------------------------- */

/* Hands in b->piece as number `piece` of `count`; whether it was the last to arrive, and then b->whole has them all. */
KERNEL_CODE int attend_hand_in(const struct attend_block *b, int64_t row, int piece, int count)
{
    const struct attend_args *a = b->a;
    int64_t stride = (int64_t)a->heads * b->v_wide, head = (int64_t)b->kv * (a->heads / a->kv_heads) + b->first;
    float *partial = a->partial + row * a->pieces * stride + head * b->v_wide;
    for (int i = THREAD; i < b->heads * b->v_wide; i += CUDA_THREADS)
        if (i % b->v_wide <= a->state.v.dim + 1)
            partial[piece * stride + i] = b->piece[i];
    FENCE();
    BLOCK_BARRIER();
    unsigned *arrived = a->arrived + row * GRID_Y + BLOCK_Y;
    if (THREAD == 0)
        b->where[0] = ATOMIC_ADD(arrived, 1u) + 1 == (unsigned)count;
    BLOCK_BARRIER();
    if (!b->where[0])
        return 0;
    FENCE();
    if (THREAD == 0)
        *arrived = 0; /* for the next layer */
    attend_merge(b, partial, stride, count);
    return 1;
}

KERNEL_CODE void attend_write(const struct attend_args *a, int64_t at, float value)
{
    a->y[at] = value;
    if (a->handed)
        a->handed[at] = float_to_bf16(value);
}

/* Grid: (rows * pieces, kv_heads * groups); pieces 1: a block walks through all of them. type, most: constants. */
KERNEL_CODE void attend_body(int type, int most, struct attend_args a)
{
    SHARED_FLOATS(room);
    int64_t item = BLOCK / a.pieces;
    if (a.many && a.batch.sequences[a.batch.sequence[item]].rows >= a.many)
        return; /* the whole block: prompt.h has it */
    int shared = a.heads / a.kv_heads, groups = (shared + a.group - 1) / a.group, v_dim = a.state.v.dim;
    struct attend_block b = {&a, batch_row(&a.batch, a.only_wanted, item), 0, 0, 0, (int)BLOCK_Y / groups, (int)BLOCK_Y % groups * a.group, 0,
                             ATTEND_K_WIDE(a.state.k.dim), ATTEND_V_WIDE(v_dim), (int64_t *)(void *)room, NULL, NULL, NULL, NULL};
    b.heads = shared - b.first < a.group ? shared - b.first : a.group;
    b.sequence = a.batch.sequence[b.row];
    attend_range(&a, a.batch.slot[b.row], a.batch.sequences[b.sequence].total, &b.start, &b.end);
    int64_t first = b.start / ATTEND_PIECE, mine = BLOCK % a.pieces;
    int count = (int)((b.end - 1) / ATTEND_PIECE - first) + 1;
    if (mine >= count)
        return; /* the whole block */
    b.q = room + 2 * (ATTEND_PIECE / SLOTS_PER_BLOCK);
    b.scores = b.q + a.group * b.k_wide;
    b.piece = b.scores + a.group * ATTEND_PIECE;
    b.whole = b.piece + a.group * b.v_wide;
    int64_t head = item * a.heads + b.kv * shared + b.first;
    for (int i = THREAD; i < b.heads * b.k_wide; i += CUDA_THREADS)
        b.q[i] = i % b.k_wide < a.state.k.dim ? a.q[(head + i / b.k_wide) * a.state.k.dim + i % b.k_wide] : 0;
    attend_begin(&b);
    for (int64_t piece = mine; piece < (a.pieces > 1 ? mine + 1 : count); piece++) {
        attend_piece(type, most, &b, first + piece);
        if (a.pieces == 1 || count == 1)
            attend_fold(&b);
        else if (!attend_hand_in(&b, item, (int)piece, count))
            return; /* the whole block */
    }
    BLOCK_BARRIER();
    for (int i = THREAD; i < b.heads * b.v_wide; i += CUDA_THREADS)
        if (i % b.v_wide < v_dim)
            attend_write(&a, (head + i / b.v_wide) * v_dim + i % b.v_wide, b.whole[i] / b.whole[i / b.v_wide * b.v_wide + v_dim]);
}

#endif
