/* Attention of a tile of queries over a range of tokens: scores of ATTEND_TOKENS tokens, their softmax, then V.
 * All queries share every load of K and V. A query's arithmetic (order of sums, where maxima are taken) depends only
 * on its own tokens, so its result is the same in every tile. */
#ifndef KERNELS_CPU_WIDE_ATTEND_H
#define KERNELS_CPU_WIDE_ATTEND_H

#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/wide/lanes.h"

enum {
    PAIR = 2 * BLOCK_TOKENS,      /* tokens whose scores are computed together: two blocks */
    PAIR_VECTORS = PAIR / LANES,  /* vectors that hold one value of them */
    SCORE_QUERIES = LANES == 16 ? 8 : LANES == 8 ? 2 : 1,
    VALUE_QUERIES = 4,
    VALUE_VECTORS = LANES == 4 ? 2 : LANES == 8 ? 2 : 4,
};
static const float nothing_yet = -3.0e38f; /* maximum of no scores */

/* K of a block as float32 into [dim][PAIR tokens], 16 of the columns. */
INLINE void widen_k(const unsigned char *from, enum storage type, int k_dim, float *to)
{
    for (int i = 0; i < k_dim; i++)
        for (int t = 0; t < BLOCK_TOKENS; t += LANES) {
            float *at = to + i * PAIR + t;
            if (type == STORAGE_F32) {
                v_store(at, v_load((const float *)(const void *)from + i * BLOCK_TOKENS + t));
            } else if (type == STORAGE_F16) {
                v_store(at, v_half(from + 2 * (i * BLOCK_TOKENS + t)));
            } else { /* 32 bits hold the values of an even and an odd dim */
                vi pair = *(const vi_unaligned *)(const void *)(from + 4 * (i / 2 * BLOCK_TOKENS + t));
                *(vi_unaligned *)(void *)at = i & 1 ? pair & (int32_t)0xFFFF0000 : pair << 16;
            }
        }
}

/* V of a block as float32 [16 tokens][wide], the tokens before `tokens` only. */
INLINE void widen_v(const unsigned char *from, enum storage type, int v_dim, int v_pad, int tokens, float *to, int wide)
{
    if (type == STORAGE_BF16) {
        for (int t = 0; t < tokens; t += 2)
            for (int i = 0; i < v_dim; i++) {
                to[t * wide + i] = bf16_to_float(load_u16(from + 4 * (t / 2 * v_pad + i)));
                to[(t + 1) * wide + i] = bf16_to_float(load_u16(from + 4 * (t / 2 * v_pad + i) + 2));
            }
        return;
    }
    for (int t = 0; t < tokens; t++) {
        if (type == STORAGE_F32) {
            memcpy(to + t * wide, from + (size_t)4 * (size_t)(t * v_pad), (size_t)v_dim * sizeof(float));
            continue;
        }
        int i = 0;
        for (; i + LANES <= v_dim; i += LANES)
            v_store(to + t * wide + i, v_half(from + 2 * (t * v_pad + i)));
        for (; i < v_dim; i++)
            to[t * wide + i] = load_half(from + 2 * (t * v_pad + i));
    }
}

/* V that is the first dims of K. */
INLINE void turn_k(const float *k, int v_dim, int tokens, float *to, int wide)
{
    for (int t = 0; t < tokens; t++)
        for (int i = 0; i < v_dim; i++)
            to[t * wide + i] = k[i * PAIR + t];
}

/* scores[query][PAIR tokens] = q . k for `queries` queries from `query` on; one chain of sums per score */
INLINE void score_pair(const struct attend_tile *a, int query, int queries, const float *k, float *scores)
{
    vf sum[SCORE_QUERIES][PAIR_VECTORS];
#pragma GCC unroll 8
    for (int i = 0; i < queries; i++)
#pragma GCC unroll 8
        for (int v = 0; v < PAIR_VECTORS; v++)
            sum[i][v] = v_zero();
    for (int d = 0; d < a->k_dim; d++) {
        vf row[PAIR_VECTORS];
#pragma GCC unroll 8
        for (int v = 0; v < PAIR_VECTORS; v++)
            row[v] = v_load(k + d * PAIR + v * LANES);
#pragma GCC unroll 8
        for (int i = 0; i < queries; i++) {
            vf s = v_set(a->q[query + i][d]);
#pragma GCC unroll 8
            for (int v = 0; v < PAIR_VECTORS; v++)
                sum[i][v] = v_fma(row[v], s, sum[i][v]);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < queries; i++)
#pragma GCC unroll 8
        for (int v = 0; v < PAIR_VECTORS; v++) {
            vf s = sum[i][v] * v_set(a->scale);
            if (a->cap > 0)
                s = v_set(a->cap) * v_tanh(s / v_set(a->cap));
            v_store(scores + (query + i) * ATTEND_TOKENS + v * LANES, s);
        }
}

static void score_all(const struct attend_tile *a, const float *k, float *scores)
{
    int query = 0;
    for (; query + SCORE_QUERIES <= a->queries; query += SCORE_QUERIES)
        score_pair(a, query, SCORE_QUERIES, k, scores);
    if (SCORE_QUERIES > 4 && query + 4 <= a->queries) {
        score_pair(a, query, SCORE_QUERIES > 4 ? 4 : 1, k, scores);
        query += 4;
    }
    if (SCORE_QUERIES > 3 && query + 3 <= a->queries) {
        score_pair(a, query, SCORE_QUERIES > 3 ? 3 : 1, k, scores);
        query += 3;
    }
    for (; query < a->queries; query++)
        score_pair(a, query, 1, k, scores);
}

/* Scores of tokens [token, token + PAIR) that a query does not see become -infinity. */
INLINE void mask_pair(const struct attend_tile *a, int64_t token, float *scores)
{
    for (int i = 0; i < a->queries; i++) {
        int from = a->start[i] > token ? (int)(a->start[i] - token < PAIR ? a->start[i] - token : PAIR) : 0;
        int end = a->end[i] < token + PAIR ? (int)(a->end[i] > token ? a->end[i] - token : 0) : PAIR;
        float *s = scores + i * ATTEND_TOKENS;
        for (int t = 0; t < from; t++)
            s[t] = -INFINITY;
        for (int t = end; t < PAIR; t++)
            s[t] = -INFINITY;
    }
}

/* Scores to weights exp(score - most); what was summed before under a smaller maximum is scaled down. */
INLINE void soften(const struct attend_tile *a, int i, float *scores, int tokens)
{
    vf most = v_set(a->most[i]);
    for (int t = 0; t < tokens; t += LANES)
        most = v_max(v_load(scores + t), most); /* operands in this order: NaN scores are kept by the sum below */
    float now = v_most(most);
    vf sum = v_zero(), m = v_set(now);
    for (int t = 0; t < tokens; t += LANES) {
        vf s = v_load(scores + t) - m;
        vf e = v_exp(s) + (vf)((vi)s & (vi)(s != s));
        v_store(scores + t, e);
        sum += e;
    }
    if (now > a->most[i]) {
        float smaller = expf(a->most[i] - now);
        a->sum[i] *= smaller;
        float *out = a->out + i * a->out_stride;
        for (int64_t k = 0; k < a->out_stride; k++)
            out[k] *= smaller;
        a->most[i] = now;
    }
    a->sum[i] += v_sum(sum);
}

/* out[query] += weights[query] . V over `tokens` tokens, for `queries` queries and `vectors` vectors of V from `at` on */
INLINE void weigh(const struct attend_tile *a, int query, int queries, const float *weights, const float *v, int wide, int at, int vectors, int tokens)
{
    vf sum[VALUE_QUERIES][VALUE_VECTORS];
    float *out = a->out + query * a->out_stride + at;
    const float *p = weights + query * ATTEND_TOKENS;
#pragma GCC unroll 4
    for (int i = 0; i < queries; i++)
#pragma GCC unroll 4
        for (int k = 0; k < vectors; k++)
            sum[i][k] = v_load(out + i * a->out_stride + k * LANES);
    for (int t = 0; t < tokens; t++) {
        vf row[VALUE_VECTORS];
#pragma GCC unroll 4
        for (int k = 0; k < vectors; k++)
            row[k] = v_load(v + t * wide + at + k * LANES);
#pragma GCC unroll 4
        for (int i = 0; i < queries; i++) {
            vf s = v_set(p[i * ATTEND_TOKENS + t]);
#pragma GCC unroll 4
            for (int k = 0; k < vectors; k++)
                sum[i][k] = v_fma(row[k], s, sum[i][k]);
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < queries; i++)
#pragma GCC unroll 4
        for (int k = 0; k < vectors; k++)
            v_store(out + i * a->out_stride + k * LANES, sum[i][k]);
}

INLINE void weigh_columns(const struct attend_tile *a, const float *weights, const float *v, int wide, int at, int vectors, int tokens)
{
    int query = 0;
    for (; query + 4 <= a->queries; query += 4)
        weigh(a, query, 4, weights, v, wide, at, vectors, tokens);
    if (query + 3 <= a->queries) {
        weigh(a, query, 3, weights, v, wide, at, vectors, tokens);
        query += 3;
    }
    for (; query < a->queries; query++)
        weigh(a, query, 1, weights, v, wide, at, vectors, tokens);
}

static void weigh_all(const struct attend_tile *a, const float *weights, const float *v, int wide, int tokens)
{
    int at = 0;
    for (; at + VALUE_VECTORS * LANES <= wide; at += VALUE_VECTORS * LANES)
        weigh_columns(a, weights, v, wide, at, VALUE_VECTORS, tokens);
    for (; at < wide; at += LANES)
        weigh_columns(a, weights, v, wide, at, 1, tokens);
}

static const unsigned char *block_at(const struct attend_tile *a, int64_t token)
{
    return a->pool + (uint64_t)a->blocks[token / BLOCK_TOKENS] * a->block_bytes;
}

static void wide_attend(const struct attend_tile *a, int64_t first, int64_t last)
{
    int wide = (a->v_dim + LANES - 1) / LANES * LANES, v_pad = (a->v_dim + 1) & ~1;
    float *scores = a->scratch, *k_pair = scores + ATTEND_QUERIES * ATTEND_TOKENS, *v_pair = k_pair + PAIR * a->k_dim;
    int64_t low = last, high = first; /* tokens that anyone sees */
    for (int i = 0; i < a->queries; i++) {
        a->most[i] = nothing_yet;
        a->sum[i] = 0;
        memset(a->out + i * a->out_stride, 0, (size_t)a->out_stride * sizeof(float));
        low = a->start[i] < low ? a->start[i] : low;
        high = a->end[i] > high ? a->end[i] : high;
    }
    low = low < first ? first : low;
    high = high > last ? last : high;
    memset(v_pair, 0, (size_t)(PAIR * wide) * sizeof(float));
    memset(k_pair, 0, (size_t)(PAIR * a->k_dim) * sizeof(float));
    for (int64_t at = first; at < high; at += ATTEND_TOKENS) {
        int64_t end = at + ATTEND_TOKENS < high ? at + ATTEND_TOKENS : high;
        if (end <= low)
            continue;
        for (int64_t token = at; token < end; token += PAIR) {
            float *s = scores + (token - at);
            bool seen = false; /* blocks behind a window may be gone, those beyond the end may not exist: not touched */
            for (int64_t block = token; block < token + PAIR && block < end; block += BLOCK_TOKENS)
                if (block + BLOCK_TOKENS > low) {
                    widen_k(block_at(a, block) + a->k_offset, a->k_type, a->k_dim, k_pair + (block - token));
                    seen = true;
                }
            if (seen)
                score_all(a, k_pair, s);
            mask_pair(a, token, s);
        }
        int tokens = (int)((end - at + PAIR - 1) / PAIR * PAIR);
        for (int i = 0; i < a->queries; i++)
            soften(a, i, scores + i * ATTEND_TOKENS, tokens);
        for (int64_t token = at; token < end; token += PAIR) {
            if (token + PAIR <= low)
                continue;
            int count = (int)(high - token < PAIR ? high - token : PAIR);
            for (int64_t block = token; block < token + count; block += BLOCK_TOKENS) {
                float *v = v_pair + (block - token) * wide;
                int n = (int)(high - block < BLOCK_TOKENS ? high - block : BLOCK_TOKENS);
                if (block + BLOCK_TOKENS <= low) {
                    memset(v, 0, (size_t)(BLOCK_TOKENS * wide) * sizeof *v);
                } else if (a->v_in_k) {
                    widen_k(block_at(a, block) + a->k_offset, a->k_type, a->k_dim, k_pair + (block - token));
                    turn_k(k_pair + (block - token), a->v_dim, n, v, wide);
                } else {
                    widen_v(block_at(a, block) + a->v_offset, a->v_type, a->v_dim, v_pad, n, v, wide);
                }
            }
            weigh_all(a, scores + (token - at), v_pair, wide, count);
        }
    }
}

static void wide_merge(float *most, float *sum, float *out, float part_most, float part_sum, const float *part_out, int64_t n)
{
    float now = part_most > *most ? part_most : *most;
    float old = expf(*most - now), new = expf(part_most - now);
    *sum = *sum * old + part_sum * new;
    for (int64_t i = 0; i < n; i++)
        out[i] = out[i] * old + part_out[i] * new;
    *most = now;
}

#endif
