/* Attention over a bfloat16 cache: vdpbf16ps takes two dims of K, or two tokens of V, for 16 tokens (dims) at once. Queries and
 * weights are rounded to bfloat16 too. The instruction counts denormal numbers as zero. */
#include <immintrin.h>

#include "kernels/cpu/avx512/attend.h"
#include "kernels/cpu/wide/cache.h"

enum { QUERIES = 8, COLUMNS = 4 /* vectors of V that are summed up together */ };

static void prepare(const struct attend_tile *a, void *form)
{
    size_t stride = attend_form_floats(a->k_dim);
    for (int i = 0; i < a->queries; i++) {
        uint16_t *to = (uint16_t *)((float *)form + (size_t)i * stride);
        for (int d = 0; d < a->k_dim; d += 16) { /* zeros behind the head: K is zero there, but 0 has to stay 0 */
            __mmask16 some = (__mmask16)(a->k_dim - d < 16 ? (1 << (a->k_dim - d)) - 1 : 0xFFFF);
            _mm256_storeu_si256((__m256i *)(void *)(to + d), (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(some, a->q[i] + d)));
        }
    }
}

/* `queries` queries against two blocks */
INLINE void score_two(const struct attend_tile *a, int query, int queries, const uint32_t *form, const unsigned char *const *k,
                      const unsigned char *const *ahead, size_t ahead_bytes, float *scores)
{
    size_t stride = attend_form_floats(a->k_dim);
    __m512 sum[QUERIES][2];
#pragma GCC unroll 8
    for (int i = 0; i < queries; i++)
        sum[i][0] = sum[i][1] = _mm512_setzero_ps();
    const uint32_t *q = form + (size_t)query * stride;
    for (size_t d = 0; d < (size_t)(a->k_dim + 1) / 2; d++) {
        __m512bh k0 = (__m512bh)_mm512_loadu_si512(k[0] + 64 * d), k1 = (__m512bh)_mm512_loadu_si512(k[1] + 64 * d);
        if (ahead_bytes) {
            _mm_prefetch((const char *)ahead[0] + 64 * d, _MM_HINT_T0);
            _mm_prefetch((const char *)ahead[1] + 64 * d, _MM_HINT_T0);
        }
#pragma GCC unroll 8
        for (int i = 0; i < queries; i++) {
            __m512bh s = (__m512bh)_mm512_set1_epi32((int)q[(size_t)i * stride + d]);
            sum[i][0] = _mm512_dpbf16_ps(sum[i][0], k0, s);
            sum[i][1] = _mm512_dpbf16_ps(sum[i][1], k1, s);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < queries; i++)
        for (int b = 0; b < 2; b++)
            v_store(scores + (query + i) * ATTEND_TOKENS + b * BLOCK_TOKENS, v_score(a, (vf)sum[i][b]));
}

static void score(const struct attend_tile *a, const void *form, const struct attend_run *k, float *scores)
{
    for (int b = 0; b < k->blocks; b += 2, scores += 2 * BLOCK_TOKENS) {
        struct two two = attend_two(k, b);
        int query = 0;
        if (!two.part[0])
            continue;
#define SOME(n, while_or_if)                                                                          \
    while_or_if(query + (n) <= a->queries)                                                            \
    {                                                                                                 \
        score_two(a, query, n, form, two.part, two.ahead, query ? 0 : k->ahead_bytes, scores);        \
        query += (n);                                                                                 \
    }
        SOME(8, while)
        SOME(4, if)
        SOME(3, if)
        SOME(1, while)
#undef SOME
    }
}

/* `queries` queries over `columns` vectors of V from dim `at` on. pairs: [query][ATTEND_TOKENS / 2] */
INLINE void weigh_some(const struct attend_tile *a, int query, int queries, const uint32_t (*pairs)[ATTEND_TOKENS / 2], const struct attend_run *v, int pad,
                       int at, int columns, bool ahead)
{
    __m512 sum[4][COLUMNS];
    float *out = a->out + query * a->out_stride + at;
#pragma GCC unroll 4
    for (int i = 0; i < queries; i++)
#pragma GCC unroll 4
        for (int c = 0; c < columns; c++)
            sum[i][c] = _mm512_loadu_ps(out + i * a->out_stride + 16 * c);
    for (int b = 0; b < v->blocks; b++) {
        const unsigned char *part = v->part[b], *next = v->ahead[b];
        if (!part)
            continue;
        for (int t = 0; t < BLOCK_TOKENS / 2; t++) {
            __m512bh row[COLUMNS];
            size_t from = 4 * (size_t)(t * pad + at);
#pragma GCC unroll 4
            for (int c = 0; c < columns; c++) {
                row[c] = (__m512bh)_mm512_loadu_si512(part + from + 64 * (size_t)c);
                if (ahead)
                    _mm_prefetch((const char *)next + from + 64 * (size_t)c, _MM_HINT_T0);
            }
#pragma GCC unroll 4
            for (int i = 0; i < queries; i++) {
                __m512bh p = (__m512bh)_mm512_set1_epi32((int)pairs[i][b * BLOCK_TOKENS / 2 + t]);
#pragma GCC unroll 4
                for (int c = 0; c < columns; c++)
                    sum[i][c] = _mm512_dpbf16_ps(sum[i][c], row[c], p);
            }
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < queries; i++)
#pragma GCC unroll 4
        for (int c = 0; c < columns; c++)
            _mm512_storeu_ps(out + i * a->out_stride + 16 * c, sum[i][c]);
}

INLINE void weigh_queries(const struct attend_tile *a, int query, int queries, const float *weights, const struct attend_run *v)
{
    uint32_t pairs[4][ATTEND_TOKENS / 2];
    int pad = cache_pad(STORAGE_BF16, a->v_dim), at = 0;
    for (int i = 0; i < queries; i++)
        for (int t = 0; t < v->blocks * BLOCK_TOKENS; t += 32) {
            const float *p = weights + (query + i) * ATTEND_TOKENS + t;
            _mm512_storeu_si512(pairs[i] + t / 2, (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(p + 16), _mm512_loadu_ps(p)));
        }
    for (; at + 16 * COLUMNS <= pad; at += 16 * COLUMNS)
        weigh_some(a, query, queries, pairs, v, pad, at, COLUMNS, !query);
    for (; at < pad; at += 16)
        weigh_some(a, query, queries, pairs, v, pad, at, 1, !query);
}

static void weigh(const struct attend_tile *a, const float *weights, const struct attend_run *v)
{
    int query = 0;
    for (; query + 4 <= a->queries; query += 4)
        weigh_queries(a, query, 4, weights, v);
    if (query + 3 <= a->queries) {
        weigh_queries(a, query, 3, weights, v);
        query += 3;
    }
    for (; query < a->queries; query++)
        weigh_queries(a, query, 1, weights, v);
}

const struct cache_kernel avx512_cache_bf16 = {.name = "bfloat16 dot", .prepare = prepare, .score = score, .weigh = weigh, .weighs_bf16 = true};
