/* Attention of a tile of queries over a range of tokens: scores of ATTEND_TOKENS tokens, their softmax, then V.
 * All queries share every load of K and V. A query's arithmetic (order of sums, where maxima are taken) depends only
 * on its own tokens, so its result is the same in every tile. */
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
    float *wide = a->scratch + ATTEND_QUERIES * (attend_form_floats(a->k_dim) + ATTEND_TOKENS);
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

/* Scores to weights exp(score - most); what was summed before under a smaller maximum is scaled down. */
INLINE void soften(const struct attend_tile *a, int i, float *scores, int tokens, bool bf16)
{
    vf most = v_set(a->most[i]);
    for (int t = 0; t < tokens; t += LANES)
        most = v_max(v_load(scores + t), most); /* operands in this order: NaN scores are kept by the sum below */
    float now = v_most(most);
    vf sum = v_zero(), m = v_set(now);
    for (int t = 0; t < tokens; t += LANES) {
        vf s = v_load(scores + t) - m;
        vf e = v_exp(s);
        if (bf16) /* half up: weights are positive */
            e = (vf)(((vi)e + 0x8000) & (int32_t)0xFFFF0000);
        e += (vf)((vi)s & (vi)(s != s));
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
    float *turned = a->scratch + ATTEND_QUERIES * (k_floats + ATTEND_TOKENS), *wide = turned + 2 * BLOCK_TOKENS * k_floats;
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

static const struct cache_kernel *kernel_of(enum storage type)
{
    static const struct cache_kernel kernel = {.name = "float", .score = wide_score, .weigh = wide_weigh};
#ifdef TABLE_CACHE
    const struct cache_kernel *better = TABLE_CACHE(type);
    if (better)
        return better;
#endif
    (void)type;
    return &kernel;
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
static void foresee(const struct attend_tile *a, int64_t next, int64_t high, struct attend_run *k, struct attend_run *v)
{
    k->ahead_bytes = a->v_in_k ? 0 : cache_part_bytes(a->v_type, a->v_dim);
    v->ahead_bytes = cache_part_bytes(a->k_type, a->k_dim);
    for (int b = 0; b < ATTEND_BLOCKS; b++) {
        int64_t token = next + b * BLOCK_TOKENS;
        k->ahead[b] = b < k->blocks && v->part[b] ? v->part[b] : a->pool;
        v->ahead[b] = token < high ? a->pool + (uint64_t)a->blocks[token / BLOCK_TOKENS] * a->block_bytes + a->k_offset : a->pool;
    }
}

static void wide_attend(const struct attend_tile *a, int64_t first, int64_t last)
{
    const struct cache_kernel *on_k = kernel_of(a->k_type), *on_v = a->v_in_k ? kernel_of(STORAGE_F32) : kernel_of(a->v_type);
    size_t k_floats = attend_form_floats(a->k_dim), v_floats = attend_form_floats(a->v_dim);
    float *form = a->scratch, *scores = form + ATTEND_QUERIES * k_floats, *cut = scores + ATTEND_QUERIES * ATTEND_TOKENS + 2 * BLOCK_TOKENS * (k_floats + v_floats);
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
    if (on_k->prepare)
        on_k->prepare(a, form);
    for (int64_t at = low / ATTEND_TOKENS * ATTEND_TOKENS; at < high; at += ATTEND_TOKENS) {
        int64_t end = at + ATTEND_TOKENS < high ? at + ATTEND_TOKENS : high;
        struct attend_run k, v;
        find_parts(a, at, end, low, &k, &v);
        foresee(a, at + ATTEND_TOKENS, high, &k, &v);
        int tokens = k.blocks * BLOCK_TOKENS;
        on_k->score(a, form, &k, scores);
        mask_scores(a, at, tokens, scores);
        for (int i = 0; i < a->queries; i++)
            soften(a, i, scores + i * ATTEND_TOKENS, tokens, on_v->weighs_bf16);
        if (end % BLOCK_TOKENS && !a->v_in_k) { /* what follows was perhaps never stored */
            const unsigned char **part = &v.part[v.blocks - 1];
            cache_cut_v(a->v_type, a->v_dim, (int)(end % BLOCK_TOKENS), *part, (unsigned char *)cut);
            *part = (const unsigned char *)cut;
        }
        on_v->weigh(a, scores, &v);
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
