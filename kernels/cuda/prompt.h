/* Attention by matrix units, for sequences with many rows in a step: scores and sums of values as products of tiles, the softmax
 * online in float32 between them (FlashAttention-2, Dao 2023, arXiv 2307.08691).
 *
 * A block has one K and V head, and PROMPT_ROWS rows of the product: its query heads (a.group of them) of neighbouring rows of one
 * sequence. A warp has 16 of these. The cache comes in tiles of PROMPT_TOKENS tokens that begin at multiples of it, in shared memory
 * as values of two bytes: K by row, so that eight values are one load (which eight of q is free, as in matrix.h), V turned on the way to
 * registers. While scores are made V is on its way, and while values are summed the next K.
 *
 * Rounded: q, and weights before they are summed with V; K and V where they are neither f16 nor bf16. f16 where the cache is: three more
 * bits, and no larger numbers than K has room for. A tile of which a row sees nothing changes none of its bits. */
#ifndef KERNELS_CUDA_PROMPT_H
#define KERNELS_CUDA_PROMPT_H

#include "kernels/cuda/attend.h"

enum { PROMPT_TILES = PROMPT_TOKENS / 8, PROMPT_MOST = 128 /* values of a head */ };

struct prompt_block {
    const struct attend_args *a;
    int32_t sequence;
    int64_t row, rows;  /* of the step; rows of this block */
    int kv, head;       /* K and V head; the first query head */
    int heads;          /* query heads of a row */
    int64_t start, end; /* tokens that any of its rows sees */
    uint16_t *k, *v;    /* [PROMPT_TOKENS] rows of PROMPT_K_STRIDE, PROMPT_V_STRIDE */
};

/* A lane's two rows of the product: g and g + 8 of its warp's. */
struct prompt_row {
    int64_t q, start, end; /* which (row, query head) of all; tokens it sees. Nobody's: end 0 */
};

/* ---- which rows ---------------------------------------------------------------------------------------------------------------- */

/* Sequences with many rows one after another, each with as many blocks as it needs. */
KERNEL_CODE void prompt_find(struct prompt_block *b, int64_t number)
{
    const struct attend_args *a = b->a;
    int rows = PROMPT_ROWS / a->group, s = 0;
    for (;; s++) {
        int64_t blocks = a->batch.sequences[s].rows < a->many ? 0 : (a->batch.sequences[s].rows + rows - 1) / rows;
        if (number < blocks)
            break;
        number -= blocks;
    }
    const struct device_sequence *q = &a->batch.sequences[s];
    b->sequence = s;
    b->row = q->first + number * rows;
    b->rows = q->first + q->rows - b->row < rows ? q->first + q->rows - b->row : rows;
}

KERNEL_CODE struct prompt_row prompt_seen(const struct prompt_block *b, int m)
{
    const struct attend_args *a = b->a;
    int64_t row = b->row + m / a->group, end, start;
    int head = m % a->group;
    struct prompt_row r = {0, 0, 0};
    if (row >= b->row + b->rows || head >= b->heads)
        return r;
    attend_range(a, a->batch.slot[row], a->batch.sequences[b->sequence].total, &start, &end);
    r.q = row * a->heads + b->head + head, r.start = start, r.end = end;
    return r;
}

/* ---- tiles in shared memory ------------------------------------------------------------------------------------------------------ */

/* Tokens from `origin` on of one part, `dim` values each, zeros where there is nothing. Seen by others behind COPY_WAIT and a barrier. */
KERNEL_CODE void prompt_fetch(int type, const struct prompt_block *b, const struct device_part *part, int64_t origin, int dim, int stride, uint16_t *to)
{
    const struct attend_args *a = b->a;
    int filled = (part->dim + 7) / 8 * 8;
    UNROLL_BY(4) for (int i = THREAD; i < PROMPT_TOKENS * dim / 8; i += CUDA_THREADS) {
        int token = i / (dim / 8), at = i % (dim / 8) * 8;
        uint16_t *here = to + token * stride + at;
        if (origin + token >= b->start && origin + token < b->end && at < filled) {
            const unsigned char *p = cache_at(&a->batch, &a->state, part, b->sequence, origin + token, b->kv);
            if (type == STORAGE_F16 || type == STORAGE_BF16) {
                COPY_ASYNC(here, p + 2 * at);
                continue;
            }
            float v[RUN_VALUES];
            struct words w;
            cache_run(part->type, p, at, v);
            UNROLL for (int k = 0; k < 4; k++)
                w.w[k] = BF16_PAIR(v[2 * k], v[2 * k + 1]);
            STORE_WORDS(here, w);
        } else {
            struct words none = {{0, 0, 0, 0}};
            STORE_WORDS(here, none);
        }
    }
    COPY_GROUP();
}

/* ---- products -------------------------------------------------------------------------------------------------------------------- */

KERNEL_CODE uint32_t prompt_pair(int half, float low, float high) { return half ? HALF_PAIR(low, high) : BF16_PAIR(low, high); }

KERNEL_CODE void prompt_multiply(int half, float *c, const uint32_t *a, const uint32_t *b)
{
    if (half)
        MMA_HALF(c, a, b);
    else
        MMA(c, a, b);
}

/* What f16 has no room for becomes its largest value. */
KERNEL_CODE float prompt_bound(int half, float x) { return half && x > 65504 ? 65504 : half && x < -65504 ? -65504 : x; }

/* The lane's values of q, eight for each 32 of the head: [dim / 32][row g, g + 8]. */
KERNEL_CODE void prompt_q(int half, int dim, const struct prompt_block *b, const struct prompt_row *rows, struct words (*q)[2])
{
    UNROLL for (int s = 0; s < dim / 32; s++)
        UNROLL for (int r = 0; r < 2; r++)
            UNROLL for (int k = 0; k < 4; k++) {
                float pair[2];
                UNROLL for (int j = 0; j < 2; j++) {
                    int at = 32 * s + THREAD % 4 * 8 + 2 * k + j;
                    pair[j] = rows[r].end && at < b->a->state.k.dim ? prompt_bound(half, b->a->q[rows[r].q * b->a->state.k.dim + at]) : 0;
                }
                q[s][r].w[k] = prompt_pair(half, pair[0], pair[1]);
            }
}

/* scores[tile][..] = q k, of the tile in shared memory */
KERNEL_CODE void prompt_scores(int half, int dim, const struct prompt_block *b, struct words (*q)[2], float (*scores)[4])
{
    UNROLL for (int n = 0; n < PROMPT_TILES; n++) {
        const uint16_t *k = b->k + (8 * n + THREAD % 32 / 4) * PROMPT_K_STRIDE(dim) + THREAD % 4 * 8;
        UNROLL for (int i = 0; i < 4; i++)
            scores[n][i] = 0;
        UNROLL for (int s = 0; s < dim / 32; s++) {
            struct words x = WORDS(k + 32 * s);
            UNROLL for (int i = 0; i < 2; i++) {
                const uint32_t a[4] = {q[s][0].w[2 * i], q[s][1].w[2 * i], q[s][0].w[2 * i + 1], q[s][1].w[2 * i + 1]};
                prompt_multiply(half, scores[n], a, &x.w[2 * i]);
            }
        }
    }
}

/* A token of the tile, or an end of it. */
KERNEL_CODE int prompt_within(int64_t token) { return token < 0 ? 0 : token > PROMPT_TOKENS ? PROMPT_TOKENS : (int)token; }

/* Scores to weights in the units of the largest so far; factor: what sums so far are multiplied with. */
KERNEL_CODE void prompt_weights(const struct prompt_block *b, const struct prompt_row *rows, int64_t origin, float (*scores)[4], float *most,
                                float *total, float *factor)
{
    const struct attend_args *a = b->a;
    UNROLL for (int r = 0; r < 2; r++) {
        float before = most[r], sum = 0;
        int from = prompt_within(rows[r].start - origin), to = prompt_within(rows[r].end - origin);
        UNROLL for (int n = 0; n < PROMPT_TILES; n++)
            UNROLL for (int i = 2 * r; i < 2 * r + 2; i++) {
                int token = 8 * n + THREAD % 4 * 2 + i % 2;
                float score = scores[n][i] * a->scale;
                if (a->cap > 0) /* cap * tanh(score / cap) */
                    score = a->cap - 2 * a->cap / (EXP_FAST(score * (2 / a->cap)) + 1);
                scores[n][i] = token >= from && token < to ? score : -INFINITY;
                most[r] = fmaxf(most[r], scores[n][i]);
            }
        most[r] = fmaxf(most[r], LANE_FLOAT(most[r], 1));
        most[r] = fmaxf(most[r], LANE_FLOAT(most[r], 2));
        factor[r] = before == most[r] ? 1 : EXP_FAST(before - most[r]);
        float unit = most[r] == -INFINITY ? 0 : most[r];
        UNROLL for (int n = 0; n < PROMPT_TILES; n++)
            UNROLL for (int i = 2 * r; i < 2 * r + 2; i++) {
                scores[n][i] = EXP_FAST(scores[n][i] - unit);
                sum += scores[n][i];
            }
        total[r] = total[r] * factor[r] + sum; /* of this lane's tokens */
    }
}

/* sums += weights v; the layout of scores is that of a product's first factor. */
KERNEL_CODE void prompt_values(int half, int dim, const struct prompt_block *b, float (*weights)[4], float (*sums)[4])
{
    int lane = THREAD % 32;
    const uint16_t *v = b->v + (lane % 8 + lane / 8 % 2 * 8) * PROMPT_V_STRIDE(dim) + lane / 16 * 8;
    UNROLL for (int s = 0; s < PROMPT_TOKENS / 16; s++) {
        uint32_t a[4];
        UNROLL for (int i = 0; i < 4; i++)
            a[i] = prompt_pair(half, weights[2 * s + i / 2][i % 2 * 2], weights[2 * s + i / 2][i % 2 * 2 + 1]);
        UNROLL for (int n = 0; n < dim / 16; n++) {
            uint32_t x[4];
            LOAD_TURNED(x, v + 16 * s * PROMPT_V_STRIDE(dim) + 16 * n);
            prompt_multiply(half, sums[2 * n], a, x);
            prompt_multiply(half, sums[2 * n + 1], a, x + 2);
        }
    }
}

/* ---- a block ---------------------------------------------------------------------------------------------------------------------- */

KERNEL_CODE void prompt_write(int dim, const struct prompt_block *b, const struct prompt_row *rows, const float *total, float (*sums)[4])
{
    UNROLL for (int r = 0; r < 2; r++) {
        float sum = total[r];
        sum += LANE_FLOAT(sum, 1);
        sum += LANE_FLOAT(sum, 2);
        float inverse = 1 / sum;
        UNROLL for (int n = 0; n < dim / 8; n++)
            UNROLL for (int i = 0; i < 2; i++) {
                int at = 8 * n + THREAD % 4 * 2 + i;
                if (rows[r].end && at < b->a->state.v.dim)
                    attend_write(b->a, rows[r].q * b->a->state.v.dim + at, sums[n][2 * r + i] * inverse);
            }
    }
}

/* Grid: (blocks of all sequences with many rows; kv_heads * groups of a.group query heads). Shared: PROMPT_SHARED(dim) bytes. type,
 * half, dim: constants. */
KERNEL_CODE void prompt_body(int type, int half, int dim, const struct attend_args *a)
{
    SHARED_FLOATS(room);
    int shared = a->heads / a->kv_heads, groups = (shared + a->group - 1) / a->group, first = (int)BLOCK_Y % groups * a->group;
    struct prompt_block b;
    b.a = a, b.kv = (int)BLOCK_Y / groups, b.head = b.kv * shared + first, b.heads = shared - first < a->group ? shared - first : a->group;
    b.k = (uint16_t *)(void *)room, b.v = b.k + PROMPT_TOKENS * PROMPT_K_STRIDE(dim);
    prompt_find(&b, BLOCK);
    int64_t unused, total_tokens = a->batch.sequences[b.sequence].total;
    attend_range(a, a->batch.slot[b.row], total_tokens, &b.start, &unused);
    attend_range(a, a->batch.slot[b.row + b.rows - 1], total_tokens, &unused, &b.end);
    int m = THREAD / 32 * 16 + THREAD % 32 / 4;
    const struct prompt_row rows[2] = {prompt_seen(&b, m), prompt_seen(&b, m + 8)};
    struct words q[PROMPT_MOST / 32][2];
    float sums[PROMPT_MOST / 8][4], most[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0};
    prompt_q(half, dim, &b, rows, q);
    UNROLL for (int n = 0; n < dim / 8; n++)
        UNROLL for (int i = 0; i < 4; i++)
            sums[n][i] = 0;
    int64_t origin = b.start / PROMPT_TOKENS * PROMPT_TOKENS;
    prompt_fetch(type, &b, &a->state.k, origin, dim, PROMPT_K_STRIDE(dim), b.k);
    for (; origin < b.end; origin += PROMPT_TOKENS) {
        float scores[PROMPT_TILES][4], factor[2];
        prompt_fetch(type, &b, &a->state.v, origin, dim, PROMPT_V_STRIDE(dim), b.v);
        COPY_WAIT(1);
        BLOCK_BARRIER();
        prompt_scores(half, dim, &b, q, scores);
        BLOCK_BARRIER(); /* K has been read */
        if (origin + PROMPT_TOKENS < b.end)
            prompt_fetch(type, &b, &a->state.k, origin + PROMPT_TOKENS, dim, PROMPT_K_STRIDE(dim), b.k);
        else
            COPY_GROUP();
        prompt_weights(&b, rows, origin, scores, most, total, factor);
        UNROLL for (int n = 0; n < dim / 8; n++)
            UNROLL for (int i = 0; i < 4; i++)
                sums[n][i] *= factor[i / 2];
        COPY_WAIT(1);
        BLOCK_BARRIER();
        prompt_values(half, dim, &b, scores, sums);
        BLOCK_BARRIER(); /* V has been read */
    }
    COPY_WAIT(0);
    prompt_write(dim, &b, rows, total, sums);
}

#endif
