/* Attention of a tile of queries over a range of tokens: scores of ATTEND_TOKENS tokens, their softmax, then V.
 * All queries share every load of K and V. A query's arithmetic (order of sums, where maxima are taken) depends only
 * on its own tokens, so its result is the same in every tile. */
#ifndef KERNELS_CPU_WIDE_ATTEND_H
#define KERNELS_CPU_WIDE_ATTEND_H

#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/wide/lanes.h"

enum {
    TOKEN_VECTORS = BLOCK_TOKENS / LANES, /* vectors that hold one value of 16 tokens */
    SCORE_QUERIES = LANES == 16 ? 8 : LANES == 8 ? 4 : 2,
    VALUE_QUERIES = 4,
    VALUE_VECTORS = 2,
};
static const float nothing_yet = -3.0e38f; /* maximum of no scores */

/* K of a block as float32 [dim][16 tokens]; may point into the block itself. */
INLINE const float *widen_k(const unsigned char *from, enum storage type, int k_dim, float *to)
{
    if (type == STORAGE_F32)
        return (const float *)(const void *)from;
    if (type == STORAGE_F16)
        for (int i = 0; i < k_dim * BLOCK_TOKENS; i += LANES)
            v_store(to + i, v_half(from + 2 * i));
    else
        for (int i = 0; i < k_dim; i += 2) /* 32 bits hold the values of an even and an odd dim */
            for (int t = 0; t < BLOCK_TOKENS; t += LANES) {
                vi pair = *(const vi_unaligned *)(const void *)(from + 2 * (i * BLOCK_TOKENS + 2 * t));
                *(vi_unaligned *)(void *)(to + i * BLOCK_TOKENS + t) = pair << 16;
                *(vi_unaligned *)(void *)(to + (i + 1) * BLOCK_TOKENS + t) = pair & (int32_t)0xFFFF0000;
            }
    return to;
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
            to[t * wide + i] = k[i * BLOCK_TOKENS + t];
}

/* scores[query][0..15] = q . k for `queries` queries from `query` on */
INLINE void score_block(const struct attend_tile *a, int query, int queries, const float *k, float *scores)
{
    vf sum[SCORE_QUERIES][TOKEN_VECTORS];
    for (int i = 0; i < SCORE_QUERIES; i++)
        for (int v = 0; v < TOKEN_VECTORS; v++)
            sum[i][v] = v_zero();
    const float *q[SCORE_QUERIES];
#pragma GCC unroll 8
    for (int i = 0; i < SCORE_QUERIES; i++)
        q[i] = a->q[query + (i < queries ? i : 0)];
    for (int d = 0; d < a->k_dim; d++) {
        vf row[TOKEN_VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < TOKEN_VECTORS; v++)
            row[v] = v_load(k + d * BLOCK_TOKENS + v * LANES);
#pragma GCC unroll 8
        for (int i = 0; i < SCORE_QUERIES; i++) {
            vf s = v_set(q[i][d]);
#pragma GCC unroll 4
            for (int v = 0; v < TOKEN_VECTORS; v++)
                sum[i][v] = v_fma(row[v], s, sum[i][v]);
        }
    }
    for (int i = 0; i < queries; i++)
        for (int v = 0; v < TOKEN_VECTORS; v++) {
            vf s = sum[i][v] * v_set(a->scale);
            if (a->cap > 0)
                s = v_set(a->cap) * v_tanh(s / v_set(a->cap));
            v_store(scores + (query + i) * ATTEND_TOKENS + v * LANES, s);
        }
}

/* Scores of tokens that a query does not see become -infinity. */
INLINE void mask_block(const struct attend_tile *a, int64_t token, float *scores)
{
    for (int i = 0; i < a->queries; i++)
        if (a->start[i] > token || a->end[i] < token + BLOCK_TOKENS)
            for (int t = 0; t < BLOCK_TOKENS; t++)
                if (token + t < a->start[i] || token + t >= a->end[i])
                    scores[i * ATTEND_TOKENS + t] = -INFINITY;
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

/* out[query] += weights[query] . V over `tokens` tokens of a block */
INLINE void weigh_block(const struct attend_tile *a, const float *weights, const float *v, int wide, int tokens)
{
    for (int query = 0; query < a->queries; query += VALUE_QUERIES) {
        int queries = a->queries - query < VALUE_QUERIES ? a->queries - query : VALUE_QUERIES;
        const float *p[VALUE_QUERIES];
        float *out[VALUE_QUERIES];
#pragma GCC unroll 4
        for (int i = 0; i < VALUE_QUERIES; i++) {
            p[i] = weights + (query + (i < queries ? i : 0)) * ATTEND_TOKENS;
            out[i] = a->out + (query + (i < queries ? i : 0)) * a->out_stride;
        }
        for (int at = 0; at < wide; at += VALUE_VECTORS * LANES) {
            vf sum[VALUE_QUERIES][VALUE_VECTORS];
#pragma GCC unroll 4
            for (int i = 0; i < VALUE_QUERIES; i++)
#pragma GCC unroll 2
                for (int k = 0; k < VALUE_VECTORS; k++)
                    sum[i][k] = v_load(out[i] + at + k * LANES);
            for (int t = 0; t < tokens; t++) {
                vf row[VALUE_VECTORS];
#pragma GCC unroll 2
                for (int k = 0; k < VALUE_VECTORS; k++)
                    row[k] = v_load(v + t * wide + at + k * LANES);
#pragma GCC unroll 4
                for (int i = 0; i < VALUE_QUERIES; i++) {
                    vf s = v_set(p[i][t]);
#pragma GCC unroll 2
                    for (int k = 0; k < VALUE_VECTORS; k++)
                        sum[i][k] = v_fma(row[k], s, sum[i][k]);
                }
            }
#pragma GCC unroll 4
            for (int i = VALUE_QUERIES - 1; i >= 0; i--) /* downwards: repeated queries are query 0, stored last and right */
#pragma GCC unroll 2
                for (int k = 0; k < VALUE_VECTORS; k++)
                    v_store(out[i] + at + k * LANES, sum[i][k]);
        }
    }
}

static void wide_attend(const struct attend_tile *a, int64_t first, int64_t last)
{
    int wide = (a->v_dim + VALUE_VECTORS * LANES - 1) / (VALUE_VECTORS * LANES) * (VALUE_VECTORS * LANES);
    int k_pad = (a->k_dim + 1) & ~1, v_pad = (a->v_dim + 1) & ~1;
    float *scores = a->scratch, *k_block = scores + ATTEND_QUERIES * ATTEND_TOKENS, *v_block = k_block + 16 * k_pad;
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
    memset(v_block, 0, (size_t)(16 * wide) * sizeof(float));
    for (int64_t at = first; at < high; at += ATTEND_TOKENS) {
        int64_t end = at + ATTEND_TOKENS < high ? at + ATTEND_TOKENS : high;
        if (end <= low)
            continue;
        for (int64_t token = at; token < end; token += BLOCK_TOKENS) {
            float *s = scores + (token - at);
            if (token + BLOCK_TOKENS <= low) {
                for (int i = 0; i < a->queries; i++)
                    for (int t = 0; t < BLOCK_TOKENS; t++)
                        s[i * ATTEND_TOKENS + t] = -INFINITY;
                continue;
            }
            const unsigned char *block = a->pool + (uint64_t)a->blocks[token / BLOCK_TOKENS] * a->block_bytes;
            const float *k = widen_k(block + a->k_offset, a->k_type, k_pad, k_block);
            for (int query = 0; query < a->queries; query += SCORE_QUERIES)
                score_block(a, query, a->queries - query < SCORE_QUERIES ? a->queries - query : SCORE_QUERIES, k, s);
            mask_block(a, token, s);
        }
        int tokens = (int)((end - at + BLOCK_TOKENS - 1) / BLOCK_TOKENS * BLOCK_TOKENS);
        for (int i = 0; i < a->queries; i++)
            soften(a, i, scores + i * ATTEND_TOKENS, tokens);
        for (int64_t token = at; token < end; token += BLOCK_TOKENS) {
            if (token + BLOCK_TOKENS <= low)
                continue;
            int count = (int)(high - token < BLOCK_TOKENS ? high - token : BLOCK_TOKENS);
            const unsigned char *block = a->pool + (uint64_t)a->blocks[token / BLOCK_TOKENS] * a->block_bytes;
            if (a->v_in_k)
                turn_k(widen_k(block + a->k_offset, a->k_type, k_pad, k_block), a->v_dim, count, v_block, wide);
            else
                widen_v(block + a->v_offset, a->v_type, a->v_dim, v_pad, count, v_block, wide);
            weigh_block(a, scores + (token - at), v_block, wide, count);
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
