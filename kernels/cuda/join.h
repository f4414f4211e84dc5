/* What blocks of attention over a piece of the cache share: which tokens are seen, and how pieces become one result.
 *
 * The cache is taken in pieces of ATTEND_PIECE tokens that begin at multiples of it. A piece gives every column (a query head of a row)
 *   [v_dim] sums of weighted values, the sum of the weights, the largest score,
 * and pieces are put together from the first to the last, whoever does it: one block that walks through all of them, or a block for
 * each and the last that is ready. So a row's bits depend on nothing but its sequence. A piece of which a column sees nothing has
 * zeros and a largest score of -infinity, and changes no bit. */
#ifndef KERNELS_CUDA_JOIN_H
#define KERNELS_CUDA_JOIN_H

#include "kernels/cuda/cache.h"

/* What a block works on: columns are `heads` query heads of one K and V head, of one row or of neighbouring ones. */
struct attend_block {
    const struct attend_args *a;
    int64_t item;          /* of q and y: the first row */
    int32_t row, sequence; /* the same of the step */
    int64_t start, end;    /* tokens that any of its rows sees */
    int kv, first, heads;  /* K and V head; the first query head of that, and how many of a row */
    int columns;           /* heads of all rows */
    int v_wide;            /* floats of a column in piece and whole */
    int64_t *where;        /* [ATTEND_PIECE / SLOTS_PER_BLOCK]: offsets in the pool */
    float *piece, *whole;  /* [columns][v_wide]: see above; of a piece, of those so far */
    float *room;           /* [columns][room_wide]: for factors while pieces are put together; piece is not needed then */
    int room_wide;
    /* attend.h's own: values of a head in shared memory; [heads][k_wide], zeros behind k_dim; [heads][ATTEND_PIECE] scores, then weights */
    int k_wide;
    float *q, *scores;
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

/* Which head of all, and which row of q and y, a column is: an index of both. */
KERNEL_CODE int64_t attend_column(const struct attend_block *b, int column)
{
    return (b->item + column / b->heads) * b->a->heads + (int64_t)b->kv * (b->a->heads / b->a->kv_heads) + b->first + column % b->heads;
}

/* Where the piece's blocks are; those outside of what is seen may be gone. Seen by others behind a barrier. */
KERNEL_CODE void attend_find(const struct attend_block *b, int64_t origin, int from, int to)
{
    const struct attend_args *a = b->a;
    const struct device_sequence *s = &a->batch.sequences[b->sequence];
    int block = from / SLOTS_PER_BLOCK + THREAD;
    if (block * SLOTS_PER_BLOCK < to)
        b->where[block] = a->batch.blocks[s->tables + a->state.group * s->stride + origin / SLOTS_PER_BLOCK + block] * a->state.block_bytes;
}

/* The head in the block that has token t of the piece. */
KERNEL_CODE const unsigned char *attend_at(const struct attend_block *b, const struct device_part *part, int t)
{
    return b->a->state.pool + b->where[t / SLOTS_PER_BLOCK] + part->offset + b->kv * part->head_bytes;
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
    for (int i = THREAD; i < b->columns * b->v_wide; i += CUDA_THREADS)
        b->whole[i] = i % b->v_wide == b->a->state.v.dim + 1 ? -INFINITY : 0;
}

/* b->piece to b->whole. */
KERNEL_CODE void attend_fold(const struct attend_block *b)
{
    int v_dim = b->a->state.v.dim;
    BLOCK_BARRIER();
    for (int h = 0; h < b->columns; h++) {
        float *whole = b->whole + h * b->v_wide, *piece = b->piece + h * b->v_wide, before, next;
        attend_factors(whole[v_dim + 1], piece[v_dim + 1], &before, &next);
        for (int i = THREAD; i <= v_dim; i += CUDA_THREADS)
            whole[i] = whole[i] * before + piece[i] * next;
    }
    BLOCK_BARRIER();
    for (int h = THREAD; h < b->columns; h += CUDA_THREADS)
        b->whole[h * b->v_wide + v_dim + 1] = fmaxf(b->whole[h * b->v_wide + v_dim + 1], b->piece[h * b->v_wide + v_dim + 1]);
}

/* Where a column's first piece waits for the others; the next is all heads further. */
KERNEL_CODE float *attend_partial(const struct attend_block *b, int column)
{
    const struct attend_args *a = b->a;
    return a->partial + ((b->item + column / b->heads) * a->pieces * a->heads + attend_column(b, column) % a->heads) * b->v_wide;
}

/* The partial results of `count` pieces to b->whole, as many at a time as there is room: their largest scores, what the sums before
 * and the piece's own are multiplied with, then all values. */
KERNEL_CODE void attend_merge(const struct attend_block *b, int count)
{
    const struct attend_args *a = b->a;
    int v_dim = a->state.v.dim, most_pieces = b->room_wide / 3 < ATTEND_MERGE ? b->room_wide / 3 : ATTEND_MERGE;
    int64_t stride = (int64_t)a->heads * b->v_wide;
    for (int first = 0; first < count; first += most_pieces) {
        int pieces = count - first < most_pieces ? count - first : most_pieces;
        BLOCK_BARRIER();
        for (int i = THREAD; i < b->columns * pieces; i += CUDA_THREADS)
            b->room[i / pieces * b->room_wide + i % pieces] = attend_partial(b, i / pieces)[(first + i % pieces) * stride + v_dim + 1];
        BLOCK_BARRIER();
        for (int i = THREAD; i < b->columns * pieces; i += CUDA_THREADS) {
            int h = i / pieces, p = i % pieces;
            float *most = b->room + h * b->room_wide, before = b->whole[h * b->v_wide + v_dim + 1];
            for (int j = 0; j < p; j++)
                before = fmaxf(before, most[j]);
            attend_factors(before, most[p], &most[most_pieces + p], &most[2 * most_pieces + p]);
        }
        BLOCK_BARRIER();
        for (int i = THREAD; i < b->columns * b->v_wide; i += CUDA_THREADS) {
            const float *factors = b->room + i / b->v_wide * b->room_wide, *from = attend_partial(b, i / b->v_wide) + first * stride + i % b->v_wide;
            float sum = b->whole[i];
            UNROLL_BY(8) for (int p = 0; p < pieces && i % b->v_wide <= v_dim + 1; p++) {
                float next = from[p * stride];
                sum = i % b->v_wide == v_dim + 1 ? fmaxf(sum, next) : sum * factors[most_pieces + p] + next * factors[2 * most_pieces + p];
            }
            if (i % b->v_wide <= v_dim + 1)
                b->whole[i] = sum;
        }
    }
}

/* Hands in b->piece as number `piece` of `count`; whether it was the last to arrive, and then b->whole has them all. tile: the number of
 * the block's rows among all such. */
KERNEL_CODE int attend_hand_in(const struct attend_block *b, int64_t tile, int piece, int count)
{
    const struct attend_args *a = b->a;
    int64_t stride = (int64_t)a->heads * b->v_wide;
    for (int i = THREAD; i < b->columns * b->v_wide; i += CUDA_THREADS)
        if (i % b->v_wide <= a->state.v.dim + 1)
            attend_partial(b, i / b->v_wide)[piece * stride + i % b->v_wide] = b->piece[i];
    FENCE();
    BLOCK_BARRIER();
    unsigned *arrived = a->arrived + tile * GRID_Y + BLOCK_Y;
    if (THREAD == 0)
        b->where[0] = ATOMIC_ADD(arrived, 1u) + 1 == (unsigned)count;
    BLOCK_BARRIER();
    if (!b->where[0])
        return 0;
    FENCE();
    if (THREAD == 0)
        *arrived = 0; /* for the next layer */
    attend_merge(b, count);
    return 1;
}

KERNEL_CODE void attend_write(const struct attend_args *a, int64_t at, float value)
{
    a->y[at] = value;
    if (a->handed)
        a->handed[at] = float_to_bf16(value);
}

/* b->whole to y. */
KERNEL_CODE void attend_end(const struct attend_block *b)
{
    int v_dim = b->a->state.v.dim;
    BLOCK_BARRIER();
    for (int i = THREAD; i < b->columns * b->v_wide; i += CUDA_THREADS)
        if (i % b->v_wide < v_dim)
            attend_write(b->a, attend_column(b, i / b->v_wide) * v_dim + i % b->v_wide, b->whole[i] / b->whole[i / b->v_wide * b->v_wide + v_dim]);
}

/* ---- which pieces ---------------------------------------------------------------------------------------------------------------- */

KERNEL_CODE int attend_count(const struct attend_block *b) { return (int)((b->end - 1) / ATTEND_PIECE - b->start / ATTEND_PIECE) + 1; }

/* The block's first piece, of a.pieces of which each has a block, or of all; whether there is one. */
KERNEL_CODE int64_t attend_first(const struct attend_block *b) { return b->start / ATTEND_PIECE + BLOCK % b->a->pieces; }

KERNEL_CODE int attend_has(const struct attend_block *b) { return BLOCK % b->a->pieces < attend_count(b); }

/* Behind a piece: to the next one, or to what is left to do with all. tile: see attend_hand_in(). */
KERNEL_CODE int attend_next(const struct attend_block *b, int64_t tile, int64_t *piece)
{
    int count = attend_count(b), number = (int)(*piece - b->start / ATTEND_PIECE);
    if (b->a->pieces > 1 && count > 1) {
        if (attend_hand_in(b, tile, number, count))
            attend_end(b);
        return 0;
    }
    attend_fold(b);
    if (number + 1 < count) {
        (*piece)++;
        return 1;
    }
    attend_end(b);
    return 0;
}

#endif
