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

/* K or V of the two blocks of a pair: in the cache itself, or widened to float32 in scratch. pad: V's dims in memory. */
struct source {
    const unsigned char *block[2];
    enum storage type;
    int pad;
};

/* Vector v of dim d of K: tokens v * LANES on, the second block's behind the first's. BF16: 32 bits hold the values of an
 * even and an odd dim. */
INLINE vf k_vector(struct source k, enum storage type, int d, int v)
{
    const unsigned char *from = k.block[v * LANES / BLOCK_TOKENS];
    int t = v * LANES % BLOCK_TOKENS;
    if (type == STORAGE_F32)
        return v_load((const float *)(const void *)from + d * BLOCK_TOKENS + t);
    if (type == STORAGE_F16)
        return v_half(from + 2 * (d * BLOCK_TOKENS + t));
    vi pair = *(const vi_unaligned *)(const void *)(from + 4 * ((d >> 1) * BLOCK_TOKENS + t));
    return (vf)(d & 1 ? pair & (int32_t)0xFFFF0000 : pair << 16);
}

/* LANES values of V from dim `at` on, for token t of the pair. BF16: 32 bits hold the values of an even and an odd token. */
INLINE vf v_vector(struct source v, enum storage type, int t, int at)
{
    const unsigned char *from = v.block[t / BLOCK_TOKENS];
    t %= BLOCK_TOKENS;
    if (type == STORAGE_F32)
        return v_load((const float *)(const void *)from + t * v.pad + at);
    if (type == STORAGE_F16)
        return v_half(from + 2 * (t * v.pad + at));
    vi pair = *(const vi_unaligned *)(const void *)(from + 4 * ((t >> 1) * v.pad + at));
    return (vf)(t & 1 ? pair & (int32_t)0xFFFF0000 : pair << 16);
}

/* K of a block as float32 [dim][16 tokens]. */
INLINE void widen_k(const unsigned char *from, enum storage type, int k_dim, float *to)
{
    struct source k = {.block = {from, from}};
    for (int d = 0; d < k_dim; d++)
        for (int v = 0; v < BLOCK_TOKENS / LANES; v++)
            v_store(to + d * BLOCK_TOKENS + v * LANES, k_vector(k, type, d, v));
}

/* V of a block as float32 [16 tokens][wide], the tokens before `tokens` only. */
INLINE void widen_v(const unsigned char *from, enum storage type, int v_dim, int v_pad, int tokens, float *to, int wide)
{
    struct source v = {.block = {from, from}, .pad = v_pad};
    for (int t = 0; t < tokens; t++) {
        int i = 0;
        for (; i + LANES <= v_dim; i += LANES)
            v_store(to + t * wide + i, v_vector(v, type, t, i));
        for (; i < v_dim; i++)
            to[t * wide + i] = type == STORAGE_F32   ? ((const float *)(const void *)from)[t * v_pad + i]
                               : type == STORAGE_F16 ? load_half(from + 2 * (t * v_pad + i))
                                                     : bf16_to_float(load_u16(from + 4 * (t / 2 * v_pad + i) + 2 * (t & 1)));
    }
}

/* V that is the first dims of K. */
INLINE void turn_k(const unsigned char *from, enum storage type, int v_dim, int tokens, float *to, int wide)
{
    float row[BLOCK_TOKENS];
    struct source k = {.block = {from, from}};
    for (int d = 0; d < v_dim; d++) {
        for (int v = 0; v < BLOCK_TOKENS / LANES; v++)
            v_store(row + v * LANES, k_vector(k, type, d, v));
        for (int t = 0; t < tokens; t++)
            to[t * wide + d] = row[t];
    }
}

#define FOR_TYPE(type, call_with)          \
    do {                                   \
        if ((type) == STORAGE_F32)         \
            call_with(STORAGE_F32);        \
        else if ((type) == STORAGE_F16)    \
            call_with(STORAGE_F16);        \
        else                               \
            call_with(STORAGE_BF16);       \
    } while (0)

/* scores[query][PAIR tokens] = q . k for `queries` queries from `query` on; one chain of sums per score */
INLINE void score_pair(const struct attend_tile *a, int query, int queries, struct source k, enum storage type, float *scores)
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
            row[v] = k_vector(k, type, d, v);
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

INLINE void score_as(const struct attend_tile *a, struct source k, enum storage type, float *scores)
{
    int query = 0;
    for (; query + SCORE_QUERIES <= a->queries; query += SCORE_QUERIES)
        score_pair(a, query, SCORE_QUERIES, k, type, scores);
    if (SCORE_QUERIES > 4 && query + 4 <= a->queries) {
        score_pair(a, query, SCORE_QUERIES > 4 ? 4 : 1, k, type, scores);
        query += 4;
    }
    if (SCORE_QUERIES > 3 && query + 3 <= a->queries) {
        score_pair(a, query, SCORE_QUERIES > 3 ? 3 : 1, k, type, scores);
        query += 3;
    }
    for (; query < a->queries; query++)
        score_pair(a, query, 1, k, type, scores);
}

static void score_all(const struct attend_tile *a, struct source k, float *scores)
{
#define SCORE(type) score_as(a, k, type, scores)
    FOR_TYPE(k.type, SCORE);
#undef SCORE
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

/* out[query] += weights[query] . V over the pair's tokens [first, tokens), for `queries` queries and `vectors` vectors of V
 * from dim `at` on */
INLINE void weigh(const struct attend_tile *a, int query, int queries, const float *weights, struct source v, enum storage type, int at, int vectors,
                  int first, int tokens)
{
    vf sum[VALUE_QUERIES][VALUE_VECTORS];
    float *out = a->out + query * a->out_stride + at;
    const float *p = weights + query * ATTEND_TOKENS;
#pragma GCC unroll 4
    for (int i = 0; i < queries; i++)
#pragma GCC unroll 4
        for (int k = 0; k < vectors; k++)
            sum[i][k] = v_load(out + i * a->out_stride + k * LANES);
    for (int t = first; t < tokens; t++) {
        vf row[VALUE_VECTORS];
#pragma GCC unroll 4
        for (int k = 0; k < vectors; k++)
            row[k] = v_vector(v, type, t, at + k * LANES);
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

INLINE void weigh_columns(const struct attend_tile *a, const float *weights, struct source v, enum storage type, int at, int vectors, int first, int tokens)
{
    int query = 0;
    for (; query + 4 <= a->queries; query += 4)
        weigh(a, query, 4, weights, v, type, at, vectors, first, tokens);
    if (query + 3 <= a->queries) {
        weigh(a, query, 3, weights, v, type, at, vectors, first, tokens);
        query += 3;
    }
    for (; query < a->queries; query++)
        weigh(a, query, 1, weights, v, type, at, vectors, first, tokens);
}

INLINE void weigh_as(const struct attend_tile *a, const float *weights, struct source v, enum storage type, int wide, int first, int tokens)
{
    int at = 0;
    for (; at + VALUE_VECTORS * LANES <= wide; at += VALUE_VECTORS * LANES)
        weigh_columns(a, weights, v, type, at, VALUE_VECTORS, first, tokens);
    for (; at < wide; at += LANES)
        weigh_columns(a, weights, v, type, at, 1, first, tokens);
}

static void weigh_all(const struct attend_tile *a, const float *weights, struct source v, int wide, int first, int tokens)
{
#define WEIGH(type) weigh_as(a, weights, v, type, wide, first, tokens)
    FOR_TYPE(v.type, WEIGH);
#undef WEIGH
}

static const unsigned char *block_at(const struct attend_tile *a, int64_t token)
{
    return a->pool + (uint64_t)a->blocks[token / BLOCK_TOKENS] * a->block_bytes;
}

/* Blocks of a sequence lie anywhere: hardware does not foresee the next one. V of these tokens and K of those two pairs
 * ahead are asked for while K is multiplied. */
static void prefetch_pair(const struct attend_tile *a, int64_t token, int64_t high)
{
    size_t k_bytes = (size_t)(a->v_offset - a->k_offset), v_bytes = a->v_in_k ? 0 : (size_t)((a->v_dim + 1) & ~1) * BLOCK_TOKENS;
    v_bytes *= a->v_type == STORAGE_F32 ? 4 : 2;
    for (int64_t block = token; block < token + PAIR; block += BLOCK_TOKENS) {
        if (block < high && a->blocks[block / BLOCK_TOKENS] >= 0)
            for (size_t i = 0; i < v_bytes; i += 64)
                __builtin_prefetch(block_at(a, block) + a->v_offset + i);
        int64_t next = block + 2 * PAIR;
        if (next < high && a->blocks[next / BLOCK_TOKENS] >= 0)
            for (size_t i = 0; i < k_bytes; i += 64)
                __builtin_prefetch(block_at(a, next) + a->k_offset + i);
    }
}

/* Where the kernels read K of a pair: in the cache itself where every value is used by one run of queries only. */
static struct source k_source(const struct attend_tile *a, int64_t token, int64_t low, int64_t end, float *scratch)
{
    bool direct = a->k_type == STORAGE_F32 || a->queries <= SCORE_QUERIES;
    struct source k = {.type = direct ? a->k_type : STORAGE_F32};
    for (int i = 0; i < 2; i++) {
        int64_t block = token + i * BLOCK_TOKENS;
        float *to = scratch + i * BLOCK_TOKENS * a->k_dim;
        /* blocks behind a window may be gone, those beyond the end may not exist: not touched, their scores are masked */
        bool there = block < end && block + BLOCK_TOKENS > low;
        const unsigned char *from = there ? block_at(a, block) + a->k_offset : NULL;
        k.block[i] = direct && there ? from : (const unsigned char *)to;
#define WIDEN(type) widen_k(from, type, a->k_dim, to)
        if (there && !direct)
            FOR_TYPE(a->k_type, WIDEN);
#undef WIDEN
    }
    return k;
}

static struct source v_source(const struct attend_tile *a, int64_t token, int64_t low, int64_t high, float *scratch, int wide)
{
    int v_pad = (a->v_dim + 1) & ~1;
    bool direct = !a->v_in_k && a->v_dim % LANES == 0 && (a->v_type == STORAGE_F32 || a->queries <= VALUE_QUERIES);
    struct source v = {.type = direct ? a->v_type : STORAGE_F32, .pad = direct ? v_pad : wide};
    for (int i = 0; i < 2; i++) {
        int64_t block = token + i * BLOCK_TOKENS;
        float *to = scratch + i * BLOCK_TOKENS * wide;
        bool there = block < high && block + BLOCK_TOKENS > low;
        const unsigned char *from = there ? block_at(a, block) + (a->v_in_k ? a->k_offset : a->v_offset) : NULL;
        v.block[i] = direct && there ? from : (const unsigned char *)to;
        int tokens = (int)(high - block < BLOCK_TOKENS ? high - block : BLOCK_TOKENS);
#define TURN(type) turn_k(from, type, a->v_dim, tokens, to, wide)
#define WIDEN(type) widen_v(from, type, a->v_dim, v_pad, tokens, to, wide)
        if (there && a->v_in_k)
            FOR_TYPE(a->k_type, TURN);
        else if (there && !direct)
            FOR_TYPE(a->v_type, WIDEN);
#undef TURN
#undef WIDEN
    }
    return v;
}

static void wide_attend(const struct attend_tile *a, int64_t first, int64_t last)
{
    int wide = (a->v_dim + LANES - 1) / LANES * LANES;
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
    memset(k_pair, 0, (size_t)(PAIR * (a->k_dim + wide)) * sizeof(float));
    for (int64_t at = first; at < high; at += ATTEND_TOKENS) {
        int64_t end = at + ATTEND_TOKENS < high ? at + ATTEND_TOKENS : high;
        if (end <= low)
            continue;
        for (int64_t token = at; token < end; token += PAIR) {
            prefetch_pair(a, token, high);
            if (token + PAIR > low)
                score_all(a, k_source(a, token, low, end, k_pair), scores + (token - at));
            mask_pair(a, token, scores + (token - at));
        }
        int tokens = (int)((end - at + PAIR - 1) / PAIR * PAIR);
        for (int i = 0; i < a->queries; i++)
            soften(a, i, scores + i * ATTEND_TOKENS, tokens);
        for (int64_t token = at; token < end; token += PAIR)
            if (token + PAIR > low) {
                /* tokens of a block that is gone are left out: their weights are zero */
                int from = low >= token + BLOCK_TOKENS ? BLOCK_TOKENS : 0, count = (int)(high - token < PAIR ? high - token : PAIR);
                weigh_all(a, scores + (token - at), v_source(a, token, low, high, v_pair, wide), wide, from, count);
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
