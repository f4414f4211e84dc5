/* Attention in floats, in pieces that join.h puts together: nothing but K and V is rounded.
 *
 * A block serves up to `most` query heads of one K and V head from one read. Scores: four lanes for each token, 8 values at a time, so
 * that the eight tokens of a warp are loads of whole sectors. Values: as many lanes for a token as it has eights (to a power of two),
 * the tokens spread over the rest; then lanes are summed as a tree and warps one after another.
 *
 * Operations: 2 multiplications for each value and head, as float32. With four heads and two bytes a value that is 2 flops a byte:
 * at 4.3 TB/s a third of what an H200 has, conversions and addresses included. */
#ifndef KERNELS_CUDA_ATTEND_H
#define KERNELS_CUDA_ATTEND_H

#include "kernels/cuda/join.h"

enum { ANY = -1, HALVES = -2 }; /* types that the arguments name; of these those whose values f16 holds */

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
            cache_run(type == ANY ? a->state.k.type : type, a->state.k.filled, k, t % SLOTS_PER_BLOCK, i, v);
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
            cache_run(type == ANY ? a->state.v.type : type, a->state.v.filled, attend_at(b, &a->state.v, t), t % SLOTS_PER_BLOCK, i, v);
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
    int64_t origin = number * ATTEND_PIECE;
    int from = b->start > origin ? (int)(b->start - origin) : 0, to = b->end - origin < ATTEND_PIECE ? (int)(b->end - origin) : ATTEND_PIECE;
    attend_find(b, origin, from, to);
    BLOCK_BARRIER();
    attend_scores(type, most, b, from, to);
    BLOCK_BARRIER();
    attend_weights(b, from, to);
    BLOCK_BARRIER();
    attend_values(type, most, b, from, to); /* ends with a barrier */
}

/* ---- a block -------------------------------------------------------------------------------------------------------------------- */

/* Grid: (rows * pieces, kv_heads * groups); pieces 1: a block walks through all of them. type, most: constants. */
KERNEL_CODE void attend_body(int type, int most, struct attend_args a)
{
    SHARED_FLOATS(room);
    int64_t item = BLOCK / a.pieces;
    if (a.many && a.batch.sequences[a.batch.sequence[item]].rows >= a.many)
        return; /* the whole block: prompt.h has it */
    int shared = a.heads / a.kv_heads, groups = (shared + a.group - 1) / a.group;
    struct attend_block b;
    b.a = &a, b.item = item, b.row = batch_row(&a.batch, a.only_wanted, item);
    b.kv = (int)BLOCK_Y / groups, b.first = (int)BLOCK_Y % groups * a.group;
    b.k_wide = ATTEND_K_WIDE(a.state.k.dim), b.v_wide = ATTEND_V_WIDE(a.state.v.dim);
    b.heads = b.columns = shared - b.first < a.group ? shared - b.first : a.group;
    b.sequence = a.batch.sequence[b.row];
    attend_range(&a, a.batch.slot[b.row], a.batch.sequences[b.sequence].total, &b.start, &b.end);
    if (!attend_has(&b))
        return; /* the whole block */
    b.where = (int64_t *)(void *)room;
    b.q = room + 2 * (ATTEND_PIECE / SLOTS_PER_BLOCK);
    b.scores = b.room = b.q + a.group * b.k_wide;
    b.room_wide = ATTEND_PIECE;
    b.piece = b.scores + a.group * ATTEND_PIECE;
    b.whole = b.piece + a.group * b.v_wide;
    for (int i = THREAD; i < b.heads * b.k_wide; i += CUDA_THREADS)
        b.q[i] = i % b.k_wide < a.state.k.dim ? a.q[attend_column(&b, i / b.k_wide) * a.state.k.dim + i % b.k_wide] : 0;
    attend_begin(&b);
    int64_t piece = attend_first(&b);
    do
        attend_piece(type, most, &b, piece);
    while (attend_next(&b, item, &piece));
}

#endif
