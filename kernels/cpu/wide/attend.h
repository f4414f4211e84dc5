/* Attention of tiles of queries over a range of tokens: scores of ATTEND_TOKENS tokens, their softmax, then V.
 * All queries of a tile share every load of K and V. A query's arithmetic (order of sums, where maxima are taken) depends
 * only on its own tokens, so its result is the same in every tile. */
#ifndef KERNELS_CPU_WIDE_ATTEND_H
#define KERNELS_CPU_WIDE_ATTEND_H

#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/wide/cache.h"
#include "kernels/cpu/wide/lanes.h"

enum {
    UNIT_BLOCKS = LANES == 16 ? 2 : 1, /* whose scores are computed together */
    SCORE_VECTORS = UNIT_BLOCKS * BLOCK_TOKENS / LANES,
    SCORE_QUERIES = LANES == 16 ? 8 : 4,
    VALUE_QUERIES = 4,
    VALUE_VECTORS = LANES == 16 ? 4 : 2,
};
static const float nothing_yet = -3.0e38f; /* maximum of no scores */

/* ---- scores ------------------------------------------------------------------------------------------------------------ */

/* Memory that is asked for step by step while something else is worked on: all at once would be more than can be on its way. */
struct ahead {
    const unsigned char *part[2];
    size_t step; /* bytes for every dim of K or token of V; 0: none */
};

INLINE void ask(const struct ahead *ahead, int parts, int i)
{
    for (size_t at = 0; at < ahead->step; at += 64)
        for (int k = 0; k < parts; k++)
            __builtin_prefetch(ahead->part[k] + (size_t)i * ahead->step + at);
}

/* `queries` queries from `query` on against the blocks of a unit; one chain of sums per score */
INLINE void score_unit(const struct attend_tile *a, int query, int queries, const unsigned char *const *k, enum storage type, const struct ahead *ahead,
                       float *scores)
{
    vf sum[SCORE_QUERIES][SCORE_VECTORS];
#pragma GCC unroll 8
    for (int i = 0; i < queries; i++)
#pragma GCC unroll 8
        for (int v = 0; v < SCORE_VECTORS; v++)
            sum[i][v] = v_zero();
    for (int d = 0; d < a->k_dim; d++) {
        vf row[SCORE_VECTORS];
        if (!query)
            ask(ahead, UNIT_BLOCKS, d);
#pragma GCC unroll 8
        for (int v = 0; v < SCORE_VECTORS; v++)
            row[v] = k_vector(k[v * LANES / BLOCK_TOKENS], type, d, v * LANES % BLOCK_TOKENS);
#pragma GCC unroll 8
        for (int i = 0; i < queries; i++) {
            vf s = v_set(a->q[query + i][d]);
#pragma GCC unroll 8
            for (int v = 0; v < SCORE_VECTORS; v++)
                sum[i][v] = v_fma(row[v], s, sum[i][v]);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < queries; i++)
#pragma GCC unroll 8
        for (int v = 0; v < SCORE_VECTORS; v++)
            v_store(scores + (query + i) * ATTEND_TOKENS + v * LANES, v_score(a, sum[i][v]));
}

INLINE void score_as(const struct attend_tile *a, const unsigned char *const *k, enum storage type, const struct ahead *ahead, float *scores)
{
    int query = 0;
    for (; query + SCORE_QUERIES <= a->queries; query += SCORE_QUERIES)
        score_unit(a, query, SCORE_QUERIES, k, type, ahead, scores);
    if (SCORE_QUERIES > 4 && query + 4 <= a->queries) {
        score_unit(a, query, 4, k, type, ahead, scores);
        query += 4;
    }
    if (query + 3 <= a->queries) {
        score_unit(a, query, 3, k, type, ahead, scores);
        query += 3;
    }
    for (; query < a->queries; query++)
        score_unit(a, query, 1, k, type, ahead, scores);
}

/* K is read where it lies when each value of it is used once, else it is made float32 first. */
static void wide_score(const struct attend_tile *a, const void *form, const struct attend_run *k, float *scores)
{
    float *wide = a->scratch + ATTEND_QUERIES * ATTEND_TOKENS;
    bool direct = a->k_type == STORAGE_F32 || (!has_scales(a->k_type) && a->queries <= SCORE_QUERIES);
    (void)form;
    for (int b = 0; b < k->blocks; b += UNIT_BLOCKS) {
        const unsigned char *unit[2] = {k->part[b], UNIT_BLOCKS > 1 && b + 1 < k->blocks ? k->part[b + 1] : NULL}, *any = unit[0] ? unit[0] : unit[1];
        struct ahead ahead = {{k->ahead[b], k->ahead[b + 1 < k->blocks ? b + 1 : b]}, k->ahead_bytes / (size_t)a->k_dim};
        if (!any)
            continue;
        for (int i = 0; i < UNIT_BLOCKS; i++) {
            unit[i] = unit[i] ? unit[i] : any; /* scores of nobody */
            float *to = wide + (size_t)i * BLOCK_TOKENS * attend_form_floats(a->k_dim);
            if (!direct) {
                widen_k(unit[i], a->k_type, a->k_dim, to);
                unit[i] = (const unsigned char *)to;
            }
        }
#define SCORE(type) score_as(a, unit, type, &ahead, scores + b * BLOCK_TOKENS)
        FOR_PLAIN(direct ? a->k_type : STORAGE_F32, SCORE);
#undef SCORE
    }
}

/* ---- softmax ----------------------------------------------------------------------------------------------------------- */

/* Scores of tokens that a query does not see become -infinity. */
INLINE void mask_scores(const struct attend_tile *a, int64_t at, int tokens, float *scores)
{
    for (int i = 0; i < a->queries; i++, scores += ATTEND_TOKENS) {
        int64_t from = a->start[i] - at, end = a->end[i] - at;
        for (int t = 0; t < tokens && t < from; t++)
            scores[t] = -INFINITY;
        for (int t = end > 0 ? (int)(end < tokens ? end : tokens) : 0; t < tokens; t++)
            scores[t] = -INFINITY;
    }
}

/* exp(x) of x <= 0, relative error below 3e-7; 0 below -87. NaN stays. */
INLINE vf v_weight(vf x)
{
#if defined(__AVX512F__)
    __m512 t = (__m512)x * _mm512_set1_ps(1.44269504f);
    __mmask16 seen = _mm512_cmp_ps_mask(t, _mm512_set1_ps(-125.5f), _CMP_NLT_UQ);
    __m512 n = _mm512_roundscale_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), f = t - n;
    __m512 p = _mm512_set1_ps(1.32647e-3f); /* 2^f, |f| <= 1/2 */
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(9.67151e-3f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.550734e-2f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.4022242e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.9314698e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f));
    return (vf)_mm512_maskz_scalef_ps(seen, p, n);
#else
    return v_exp(x) + (vf)((vi)x & (vi)(x != x));
#endif
}

/* Largest scores so far; what was summed before under smaller ones is scaled down. */
static void raise_most(const struct attend_tile *a, const float *scores, int tokens)
{
    enum { PADDED = (ATTEND_QUERIES + LANES - 1) / LANES * LANES };
    float now[PADDED], smaller[PADDED] = {0};
    memcpy(smaller, a->most, (size_t)a->queries * sizeof *smaller);
    memcpy(now, smaller, sizeof now);
    for (int i = 0; i < a->queries; i++, scores += ATTEND_TOKENS) {
        vf most = v_set(now[i]);
        for (int t = 0; t < tokens; t += LANES)
            most = v_max(v_load(scores + t), most); /* operands in this order: NaN scores are kept by the sums below */
        now[i] = v_most(most);
    }
    for (int i = 0; i < PADDED; i += LANES)
        v_store(smaller + i, v_weight(v_load(smaller + i) - v_load(now + i)));
    for (int i = 0; i < a->queries; i++) {
        a->most[i] = now[i];
        a->sum[i] *= smaller[i];
        float *out = a->out + i * a->out_stride;
        for (int64_t k = 0, n = a->out_stride; k < n; k += LANES)
            v_store(out + k, v_load(out + k) * v_set(smaller[i]));
    }
}

/* Scores to weights exp(score - most). */
INLINE void soften(const struct attend_tile *a, int i, float *scores, int tokens, bool bf16)
{
    vf sum = v_zero(), m = v_set(a->most[i]);
    for (int t = 0; t < tokens; t += LANES) {
        vf s = v_load(scores + t) - m, e = v_weight(s);
        if (bf16) /* half up: weights are positive; NaN might become 0 */
            e = (vf)(((vi)e + 0x8000) & (int32_t)0xFFFF0000) + (vf)((vi)s & (vi)(s != s));
        v_store(scores + t, e);
        sum += e;
    }
    a->sum[i] += v_sum(sum);
}

/* ---- values ------------------------------------------------------------------------------------------------------------ */

/* Blocks of V, all of one type; pad: dims of a token in memory. */
struct values {
    const unsigned char *part[ATTEND_BLOCKS], *const *ahead;
    size_t ahead_step; /* bytes for every token */
    int blocks, pad;
};

/* `queries` queries from `query` on and `vectors` vectors of V from dim `at` on */
INLINE void weigh(const struct attend_tile *a, int query, int queries, const float *weights, const struct values *v, enum storage type, int at, int vectors)
{
    vf sum[VALUE_QUERIES][VALUE_VECTORS];
    float *out = a->out + query * a->out_stride + at;
    const float *p = weights + query * ATTEND_TOKENS;
#pragma GCC unroll 4
    for (int i = 0; i < queries; i++)
#pragma GCC unroll 4
        for (int k = 0; k < vectors; k++)
            sum[i][k] = v_load(out + i * a->out_stride + k * LANES);
    for (int b = 0; b < v->blocks; b++, p += BLOCK_TOKENS) {
        const unsigned char *part = v->part[b];
        if (!part)
            continue;
        struct ahead ahead = {{v->ahead[b]}, v->ahead_step};
        for (int t = 0; t < BLOCK_TOKENS; t++) {
            vf row[VALUE_VECTORS];
            if (!query && !at)
                ask(&ahead, 1, t);
#pragma GCC unroll 4
            for (int k = 0; k < vectors; k++)
                row[k] = v_vector(part, type, v->pad, t, at + k * LANES);
#pragma GCC unroll 4
            for (int i = 0; i < queries; i++) {
                vf s = v_set(p[i * ATTEND_TOKENS + t]);
#pragma GCC unroll 4
                for (int k = 0; k < vectors; k++)
                    sum[i][k] = v_fma(row[k], s, sum[i][k]);
            }
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < queries; i++)
#pragma GCC unroll 4
        for (int k = 0; k < vectors; k++)
            v_store(out + i * a->out_stride + k * LANES, sum[i][k]);
}

INLINE void weigh_columns(const struct attend_tile *a, const float *weights, const struct values *v, enum storage type, int at, int vectors)
{
    int query = 0;
    for (; query + 4 <= a->queries; query += 4)
        weigh(a, query, 4, weights, v, type, at, vectors);
    if (query + 3 <= a->queries) {
        weigh(a, query, 3, weights, v, type, at, vectors);
        query += 3;
    }
    for (; query < a->queries; query++)
        weigh(a, query, 1, weights, v, type, at, vectors);
}

INLINE void weigh_as(const struct attend_tile *a, const float *weights, const struct values *v, enum storage type)
{
    int at = 0;
    for (; at + VALUE_VECTORS * LANES <= v->pad; at += VALUE_VECTORS * LANES)
        weigh_columns(a, weights, v, type, at, VALUE_VECTORS);
    for (; at < v->pad; at += LANES)
        weigh_columns(a, weights, v, type, at, 1);
}

static void wide_weigh(const struct attend_tile *a, const float *weights, const struct attend_run *v)
{
    enum storage type = a->v_in_k ? a->k_type : a->v_type;
    bool direct = !a->v_in_k && (type == STORAGE_F32 || (!has_scales(type) && a->queries <= VALUE_QUERIES));
    size_t k_floats = attend_form_floats(a->k_dim), v_floats = attend_form_floats(a->v_dim);
    float *turned = a->scratch + ATTEND_QUERIES * ATTEND_TOKENS, *wide = turned + 2 * BLOCK_TOKENS * k_floats;
    int step = direct ? ATTEND_BLOCKS : 2;
    for (int b = 0; b < v->blocks; b += step) {
        struct values some = {.blocks = v->blocks - b < step ? v->blocks - b : step, .pad = direct ? cache_pad(type, a->v_dim) : (int)v_floats,
                              .ahead = v->ahead + b, .ahead_step = v->ahead_bytes / BLOCK_TOKENS};
        for (int i = 0; i < some.blocks; i++) {
            float *to = wide + (size_t)i * BLOCK_TOKENS * v_floats;
            some.part[i] = v->part[b + i];
            if (!some.part[i] || direct)
                continue;
            if (a->v_in_k)
                turn_k(some.part[i], type, a->k_dim, a->v_dim, v->tokens - (b + i) * BLOCK_TOKENS, turned, to, (int)v_floats);
            else
                widen_v(some.part[i], type, cache_pad(type, a->v_dim), to, (int)v_floats);
            some.part[i] = (const unsigned char *)to;
        }
#define WEIGH(type) weigh_as(a, weights + b * BLOCK_TOKENS, &some, type)
        FOR_PLAIN(direct ? type : STORAGE_F32, WEIGH);
#undef WEIGH
    }
}

/* ---- the whole --------------------------------------------------------------------------------------------------------- */

static const struct cache_kernel *kernel_of(enum storage type, enum row_set set)
{
    static const struct cache_kernel kernel = {.name = "float", .score = wide_score, .weigh = wide_weigh};
#ifdef TABLE_CACHE
    const struct cache_kernel *better = TABLE_CACHE(type, set);
    if (better)
        return better;
#endif
    (void)type, (void)set;
    return &kernel;
}

/* V that lies in K is turned over: no kernel but the template does that. */
static const struct cache_kernel *kernel_of_k(const struct attend_tile *a) { return kernel_of(a->k_type, a->v_in_k ? SET_FEW : a->set); }
static const struct cache_kernel *kernel_of_v(const struct attend_tile *a)
{
    return a->v_in_k ? kernel_of(STORAGE_F32, SET_FEW) : kernel_of(a->v_type, a->set);
}

/* Parts of the blocks of tokens [at, end) that somebody sees. */
static void find_parts(const struct attend_tile *a, int64_t at, int64_t end, int64_t low, struct attend_run *k, struct attend_run *v)
{
    k->tokens = v->tokens = (int)(end - at);
    k->blocks = v->blocks = (k->tokens + BLOCK_TOKENS - 1) / BLOCK_TOKENS;
    for (int b = 0; b < k->blocks; b++) {
        int64_t token = at + b * BLOCK_TOKENS;
        /* blocks behind a window may be gone, those beyond the end may not exist: not touched */
        const unsigned char *block = token + BLOCK_TOKENS > low ? a->pool + (uint64_t)a->blocks[token / BLOCK_TOKENS] * a->block_bytes : NULL;
        k->part[b] = block ? block + a->k_offset : NULL;
        v->part[b] = block ? block + (a->v_in_k ? a->k_offset : a->v_offset) : NULL;
    }
}

/* Blocks of a sequence lie anywhere: hardware does not foresee the next one. V is asked for while K of the same blocks is
 * multiplied, K of the next blocks while V is. */
static void foresee(const struct attend_tile *a, int64_t next, int64_t end, struct attend_run *k, struct attend_run *v)
{
    k->ahead_bytes = a->v_in_k ? 0 : cache_part_bytes(a->v_type, a->v_dim);
    v->ahead_bytes = cache_part_bytes(a->k_type, a->k_dim);
    for (int b = 0; b < ATTEND_BLOCKS; b++) {
        int64_t token = next + b * BLOCK_TOKENS;
        k->ahead[b] = b < k->blocks && v->part[b] ? v->part[b] : a->pool;
        v->ahead[b] = token < end ? a->pool + (uint64_t)a->blocks[token / BLOCK_TOKENS] * a->block_bytes + a->k_offset : a->pool;
    }
}

/* The tokens of [first, last) that any query sees; where the last one ends wherever that is. */
struct seen {
    int64_t low, high, end;
};

static struct seen seen_by(const struct attend_tile *a, int64_t first, int64_t last)
{
    struct seen s = {last, first, first};
    for (int i = 0; i < a->queries; i++) {
        s.low = a->start[i] < s.low ? a->start[i] : s.low;
        s.high = a->end[i] > s.high ? a->end[i] : s.high;
    }
    s.end = s.high;
    s.low = s.low < first ? first : s.low;
    s.high = s.high > last ? last : s.high;
    return s;
}

static void no_result(const struct attend_tile *a)
{
    for (int i = 0; i < a->queries; i++) {
        a->most[i] = nothing_yet;
        a->sum[i] = 0;
        memset(a->out + i * a->out_stride, 0, (size_t)a->out_stride * sizeof(float));
    }
}

/* Queries come from far; asked for while the tile before them is computed they cost nothing. */
static void ask_query(const struct attend_tile *a, int i)
{
    if (a && i < a->queries)
        for (int d = 0; d < a->k_dim; d += 16)
            __builtin_prefetch(a->q[i] + d);
}

static void form_queries(struct attend_tile *a)
{
    const struct cache_kernel *on_k = kernel_of_k(a);
    if (on_k->prepare && !a->formed)
        on_k->prepare(a, a->form);
    a->formed = true;
}

/* A tile over the run at token `at`; next: the tile whose queries are asked for, or NULL. */
static void attend_tokens(const struct attend_tile *a, int64_t at, const struct attend_run *k, const struct attend_run *v, const struct attend_tile *next)
{
    const struct cache_kernel *on_v = kernel_of_v(a);
    float *scores = a->scratch;
    int tokens = k->blocks * BLOCK_TOKENS;
    kernel_of_k(a)->score(a, a->form, k, scores);
    mask_scores(a, at, tokens, scores);
    raise_most(a, scores, tokens);
    for (int i = 0; i < a->queries; i++)
        ask_query(next, i), soften(a, i, scores + i * ATTEND_TOKENS, tokens, on_v->weighs_bf16);
    on_v->weigh(a, scores, v);
}

static void wide_attend(struct attend_tile *const *tiles, int count, int64_t first, int64_t last)
{
    const struct attend_tile *any = tiles[0];
    const struct cache_kernel *on_k = kernel_of_k(any), *on_v = kernel_of_v(any);
    size_t k_floats = attend_form_floats(any->k_dim), v_floats = attend_form_floats(any->v_dim);
    float *cut = any->scratch + ATTEND_QUERIES * ATTEND_TOKENS + 2 * BLOCK_TOKENS * (k_floats + v_floats);
    float *shared_k = cut + BLOCK_TOKENS * v_floats, *shared_v = shared_k + attend_shared_floats(any->k_dim);
    struct seen seen[ATTEND_STACK], all = {last, first, first};
    for (int i = 0; i < count; i++) {
        no_result(tiles[i]);
        seen[i] = seen_by(tiles[i], first, last);
        all.low = seen[i].low < all.low ? seen[i].low : all.low;
        all.high = seen[i].high > all.high ? seen[i].high : all.high;
        all.end = seen[i].end > all.end ? seen[i].end : all.end;
    }
    for (int64_t at = all.low / ATTEND_TOKENS * ATTEND_TOKENS; at < all.high; at += ATTEND_TOKENS) {
        int64_t end = at + ATTEND_TOKENS < all.high ? at + ATTEND_TOKENS : all.high;
        struct attend_run k, v;
        find_parts(any, at, end, all.low, &k, &v);
        foresee(any, at + ATTEND_TOKENS, all.end, &k, &v); /* behind `last`, too: who computes a piece often gets the next one */
        if (end % BLOCK_TOKENS && !any->v_in_k) { /* what follows was perhaps never stored */
            const unsigned char **part = &v.part[v.blocks - 1];
            cache_cut_v(any->v_type, any->v_dim, (int)(end % BLOCK_TOKENS), *part, (unsigned char *)cut);
            *part = (const unsigned char *)cut;
        }
        if (on_k->share_k)
            on_k->share_k(any, &k, shared_k);
        if (on_v->share_v)
            on_v->share_v(any, &v, shared_v);
        k.shared = shared_k, v.shared = shared_v;
        for (int i = 0; i < count; i++) {
            int64_t tile_end = seen[i].high < end ? seen[i].high : end;
            if (tile_end <= at || seen[i].low >= end)
                continue;
            k.tokens = v.tokens = (int)(tile_end - at);
            k.blocks = v.blocks = (k.tokens + BLOCK_TOKENS - 1) / BLOCK_TOKENS;
            form_queries(tiles[i]);
            attend_tokens(tiles[i], at, &k, &v, i + 1 < count && !tiles[i + 1]->formed ? tiles[i + 1] : NULL);
            k.ahead_bytes = v.ahead_bytes = 0; /* once is enough */
        }
    }
}

static void wide_merge(float *most, float *sum, float *out, float part_most, float part_sum, const float *part_out, int64_t n)
{
    float now = part_most > *most ? part_most : *most;
    vf old = v_weight(v_set(*most - now)), new = v_weight(v_set(part_most - now));
    *sum = *sum * old[0] + part_sum * new[0];
    for (int64_t i = 0; i < n; i += LANES)
        v_store(out + i, v_load(out + i) * old + v_load(part_out + i) * new);
    *most = now;
}

static void wide_finish(const float *out, float sum, float *y, int64_t n)
{
    vf share = v_set(1 / sum);
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        v_store(y + i, v_load(out + i) * share);
    for (; i < n; i++)
        y[i] = out[i] * share[0];
}

#endif
