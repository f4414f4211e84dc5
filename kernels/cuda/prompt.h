/* Attention by matrix units, for sequences with many rows in a step: scores and sums of values as products of tiles, the softmax
 * online in float32 between them (FlashAttention-2, Dao 2023, arXiv 2307.08691).
 *
 * A block has one K and V head, and PROMPT_ROWS rows of the product: its query heads (a.group of them) of neighbouring rows of one
 * sequence. A warp has 16 of these. The cache comes in tiles of 64 tokens (32 where heads are wide) that begin at multiples of it, in shared memory
 * as values of two bytes: K by row, so that eight values are one load (which eight of q is free, as in matrix.h), V turned on the way to
 * registers. While scores are made V is on its way, and while values are summed the next K.
 *
 * Rounded: q, and weights before they are summed with V; K and V where they are Q8_0, Q4_0 (to f16) or F32. f16 where the cache has no
 * larger numbers than that has room for: three more bits. A tile of which a row sees nothing changes none of its bits. */
#ifndef KERNELS_CUDA_PROMPT_H
#define KERNELS_CUDA_PROMPT_H

#include "kernels/cuda/attend.h"
#include "kernels/cuda/pairs.h"

enum { PROMPT_MOST = 256 /* values of a head */, PROMPT_SUMS = 192 /* of V that a block sums up */, PROMPT_TILES = 8 /* of 8 tokens at most */ };

struct prompt_block {
    const struct attend_args *a;
    int32_t sequence;
    int64_t row, rows;  /* of the step; rows of this block */
    int kv, head;       /* K and V head; the first query head */
    int heads;          /* query heads of a row */
    int first_value;    /* of V: a block for each PROMPT_VALUES of them, which make the same weights */
    int64_t start, end; /* tokens that any of its rows sees */
    uint16_t *k, *v;    /* [tokens] rows of PROMPT_K_STRIDE, PROMPT_V_STRIDE */
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

/* The same tokens of a type that f16 holds, four at once (pairs.h). */
KERNEL_CODE void prompt_decode(int type, const struct prompt_block *b, const struct device_part *part, int64_t origin, int tokens, int first_value, int dim, int stride,
                              uint16_t *to)
{
    const struct attend_args *a = b->a;
    for (int i = THREAD; i < tokens / PAIR_TOKENS * dim / 8; i += CUDA_THREADS) {
        int at = i % (dim / 8) * 8, first = i / (dim / 8) * PAIR_TOKENS, slot = (int)((origin + first) % SLOTS_PER_BLOCK);
        int64_t token = origin + first, from = b->start - token + slot, end = b->end - token + slot; /* in the block */
        struct words w[PAIR_TOKENS] = {{{0, 0, 0, 0}}, {{0, 0, 0, 0}}, {{0, 0, 0, 0}}, {{0, 0, 0, 0}}};
        if (from < slot + PAIR_TOKENS && end > slot) {
            struct pair_run run;
            pair_find(type, part->filled, cache_at(&a->batch, &a->state, part, b->sequence, token, b->kv) - a->state.pool, slot, from < 0 ? 0 : (int)from,
                      end > SLOTS_PER_BLOCK ? SLOTS_PER_BLOCK : (int)end, &run);
            pair_read(type, part->filled, a->state.pool, &run, first_value + at, w);
        }
        UNROLL for (int t = 0; t < PAIR_TOKENS; t++)
            STORE_WORDS(to + (first + t) * stride + at, w[t]);
    }
}

/* Tokens from `origin` on of one part, `dim` values of each from first_value on, zeros where there is nothing. Seen by others behind COPY_WAIT and a barrier. */
KERNEL_CODE void prompt_fetch(int type, const struct prompt_block *b, const struct device_part *part, int64_t origin, int tokens, int first_value, int dim, int stride,
                              uint16_t *to)
{
    const struct attend_args *a = b->a;
    if (type == HALVES) {
        switch (part->type) {
        case STORAGE_F16: prompt_decode(STORAGE_F16, b, part, origin, tokens, first_value, dim, stride, to); break;
        case STORAGE_F8_E4M3: prompt_decode(STORAGE_F8_E4M3, b, part, origin, tokens, first_value, dim, stride, to); break;
        case STORAGE_Q8_0: prompt_decode(STORAGE_Q8_0, b, part, origin, tokens, first_value, dim, stride, to); break;
        case STORAGE_Q4_0: prompt_decode(STORAGE_Q4_0, b, part, origin, tokens, first_value, dim, stride, to); break;
        }
        COPY_GROUP();
        return;
    }
    UNROLL_BY(4) for (int i = THREAD; i < tokens * dim / 8; i += CUDA_THREADS) {
        int token = i / (dim / 8), at = first_value + i % (dim / 8) * 8;
        uint16_t *here = to + token * stride + i % (dim / 8) * 8;
        if (origin + token >= b->start && origin + token < b->end && at < part->filled) {
            const unsigned char *head = cache_at(&a->batch, &a->state, part, b->sequence, origin + token, b->kv);
            int slot = (int)((origin + token) % SLOTS_PER_BLOCK);
            if (type == STORAGE_F16 || type == STORAGE_BF16) {
                COPY_ASYNC(here, head + cache_place(type, part->filled, slot, at));
                continue;
            }
            float v[RUN_VALUES];
            struct words w;
            cache_run(part->type, part->filled, head, slot, at, v);
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

/* The lane's values of q, eight for each 32 of the head: [dim / 32][row g, g + 8]. */
KERNEL_CODE void prompt_q(int half, int dim, const struct prompt_block *b, int m, struct words (*q)[2])
{
    UNROLL for (int r = 0; r < 2; r++) {
        const struct prompt_row row = prompt_seen(b, m + 8 * r);
        UNROLL for (int s = 0; s < dim / 32; s++)
            UNROLL for (int k = 0; k < 4; k++) {
                float pair[2];
                UNROLL for (int j = 0; j < 2; j++) {
                    int at = 32 * s + THREAD % 4 * 8 + 2 * k + j;
                    pair[j] = row.end && at < b->a->state.k.dim ? pair_bound(half, b->a->q[row.q * b->a->state.k.dim + at]) : 0;
                }
                q[s][r].w[k] = pair_rounded(half, pair[0], pair[1]);
            }
    }
}

/* scores[tile][..] = q k, of the tile in shared memory */
KERNEL_CODE void prompt_scores(int half, int dim, const struct prompt_block *b, struct words (*q)[2], float (*scores)[4])
{
    UNROLL for (int n = 0; n < PROMPT_TOKENS(dim) / 8; n++) {
        const uint16_t *k = b->k + (8 * n + THREAD % 32 / 4) * PROMPT_K_STRIDE(dim) + THREAD % 4 * 8;
        UNROLL for (int i = 0; i < 4; i++)
            scores[n][i] = 0;
        UNROLL for (int s = 0; s < dim / 32; s++) {
            struct words x = WORDS(k + 32 * s);
            UNROLL for (int i = 0; i < 2; i++) {
                const uint32_t a[4] = {q[s][0].w[2 * i], q[s][1].w[2 * i], q[s][0].w[2 * i + 1], q[s][1].w[2 * i + 1]};
                pair_multiply(half, scores[n], a, &x.w[2 * i]);
            }
        }
    }
}

/* Scores to weights in the units of the largest so far; factor: what sums so far are multiplied with. seen: tokens that the lane's rows see,
 * from and to; both and origin counted from the block's first tile on. */
KERNEL_CODE void prompt_weights(int dim, const struct prompt_block *b, const int (*seen)[2], int origin, float (*scores)[4], float *most, float *total,
                                float *factor)
{
    const struct attend_args *a = b->a;
    UNROLL for (int r = 0; r < 2; r++) {
        float before = most[r], sum = 0;
        int from = seen[r][0] - origin, to = seen[r][1] - origin;
        UNROLL for (int n = 0; n < PROMPT_TOKENS(dim) / 8; n++)
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
        UNROLL for (int n = 0; n < PROMPT_TOKENS(dim) / 8; n++)
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
    const uint16_t *v = b->v + (lane % 8 + lane / 8 % 2 * 8) * PROMPT_V_STRIDE(PROMPT_VALUES(dim)) + lane / 16 * 8;
    UNROLL for (int s = 0; s < PROMPT_TOKENS(dim) / 16; s++) {
        uint32_t a[4];
        UNROLL for (int i = 0; i < 4; i++)
            a[i] = pair_rounded(half, weights[2 * s + i / 2][i % 2 * 2], weights[2 * s + i / 2][i % 2 * 2 + 1]);
        UNROLL for (int n = 0; n < PROMPT_VALUES(dim) / 16; n++) {
            uint32_t x[4];
            LOAD_TURNED(x, v + 16 * s * PROMPT_V_STRIDE(PROMPT_VALUES(dim)) + 16 * n);
            pair_multiply(half, sums[2 * n], a, x);
            pair_multiply(half, sums[2 * n + 1], a, x + 2);
        }
    }
}

/* ---- a block ---------------------------------------------------------------------------------------------------------------------- */

KERNEL_CODE void prompt_write(int dim, const struct prompt_block *b, int m, const float *total, float (*sums)[4])
{
    UNROLL for (int r = 0; r < 2; r++) {
        const struct prompt_row row = prompt_seen(b, m + 8 * r);
        float sum = total[r];
        sum += LANE_FLOAT(sum, 1);
        sum += LANE_FLOAT(sum, 2);
        float inverse = 1 / sum;
        UNROLL for (int n = 0; n < PROMPT_VALUES(dim) / 8; n++)
            UNROLL for (int i = 0; i < 2; i++) {
                int at = b->first_value + 8 * n + THREAD % 4 * 2 + i;
                if (row.end && at < b->a->state.v.dim)
                    attend_write(b->a, row.q * b->a->state.v.dim + at, sums[n][2 * r + i] * inverse);
            }
    }
}

/* Grid: (blocks of all sequences with many rows; kv_heads * groups of a.group query heads * parts of V). Shared: PROMPT_SHARED(dim) bytes. type,
 * half, dim: constants. */
KERNEL_CODE void prompt_body(int type, int half, int dim, const struct attend_args *a)
{
    SHARED_FLOATS(room);
    int shared = a->heads / a->kv_heads, groups = (shared + a->group - 1) / a->group, parts = (a->state.v.dim + PROMPT_VALUES(dim) - 1) / PROMPT_VALUES(dim);
    int group = (int)BLOCK_Y / parts, first = group % groups * a->group;
    struct prompt_block b;
    b.a = a, b.kv = group / groups, b.head = b.kv * shared + first, b.heads = shared - first < a->group ? shared - first : a->group;
    b.first_value = (int)BLOCK_Y % parts * PROMPT_VALUES(dim);
    b.k = (uint16_t *)(void *)room, b.v = b.k + PROMPT_TOKENS(dim) * PROMPT_K_STRIDE(dim);
    prompt_find(&b, BLOCK);
    int64_t unused, total_tokens = a->batch.sequences[b.sequence].total;
    attend_range(a, a->batch.slot[b.row], total_tokens, &b.start, &unused);
    attend_range(a, a->batch.slot[b.row + b.rows - 1], total_tokens, &unused, &b.end);
    int m = THREAD / 32 * 16 + THREAD % 32 / 4, seen[2][2];
    struct words q[PROMPT_MOST / 32][2];
    float sums[PROMPT_SUMS / 8][4], most[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0};
    int64_t begin = b.start / PROMPT_TOKENS(dim) * PROMPT_TOKENS(dim);
    prompt_q(half, dim, &b, m, q);
    UNROLL for (int r = 0; r < 2; r++) {
        const struct prompt_row row = prompt_seen(&b, m + 8 * r);
        seen[r][0] = (int)(row.start - begin), seen[r][1] = (int)(row.end - begin);
    }
    UNROLL for (int n = 0; n < PROMPT_VALUES(dim) / 8; n++)
        UNROLL for (int i = 0; i < 4; i++)
            sums[n][i] = 0;
    prompt_fetch(type, &b, &a->state.k, begin, PROMPT_TOKENS(dim), 0, dim, PROMPT_K_STRIDE(dim), b.k);
    for (int origin = 0; begin + origin < b.end; origin += PROMPT_TOKENS(dim)) {
        float scores[PROMPT_TILES][4], factor[2];
        prompt_fetch(type, &b, &a->state.v, begin + origin, PROMPT_TOKENS(dim), b.first_value, PROMPT_VALUES(dim), PROMPT_V_STRIDE(PROMPT_VALUES(dim)), b.v);
        COPY_WAIT(1);
        BLOCK_BARRIER();
        prompt_scores(half, dim, &b, q, scores);
        BLOCK_BARRIER(); /* K has been read */
        if (begin + origin + PROMPT_TOKENS(dim) < b.end)
            prompt_fetch(type, &b, &a->state.k, begin + origin + PROMPT_TOKENS(dim), PROMPT_TOKENS(dim), 0, dim, PROMPT_K_STRIDE(dim), b.k);
        else
            COPY_GROUP();
        prompt_weights(dim, &b, seen, origin, scores, most, total, factor);
        UNROLL for (int n = 0; n < PROMPT_VALUES(dim) / 8; n++)
            UNROLL for (int i = 0; i < 4; i++)
                sums[n][i] *= factor[i / 2];
        COPY_WAIT(1);
        BLOCK_BARRIER();
        prompt_values(half, dim, &b, scores, sums);
        BLOCK_BARRIER(); /* V has been read */
    }
    COPY_WAIT(0);
    prompt_write(dim, &b, m, total, sums);
}

#endif
