/* Attention over a cache of 8 or 4 bits: vpdpbusd takes four dims of K, or four tokens of V, for 16 tokens (dims) at once.
 *   scores   queries are rounded to int8 with a scale for every 32 dims:
 *            score[token] = sum over groups of scale_k[token] * scale_q * (sum of k * q)
 *   values   weight times V's scale, for each group of 32 dims, is rounded to 16 bits of the largest of the run, in two bytes:
 *            out[dim] += unit * (256 * sum of high * v + sum of low * v)
 * Unsigned operands are K as stored (q + 128, or a nibble: q + 8), with the correction as the start of the sum, and the weights'
 * bytes. A scale of Q4_0 may be negative, so its weights are signed: there the nibbles are the unsigned operand of the high byte. */
#include <immintrin.h>

#include "kernels/cpu/avx512/attend.h"
#include "kernels/cpu/wide/cache.h"

enum { GROUP = 32, QUERIES = 4 };

/* A query: [k_dim rounded up] int8, then for every group its scale and -offset * sum of q. */
struct query8 {
    const int8_t *q;
    const float *scale;
    const int32_t *start;
};

static struct query8 query_at(const struct attend_tile *a, const void *form, int query)
{
    int pad = cache_pad(STORAGE_Q8_0, a->k_dim);
    const int8_t *q = (const int8_t *)((const float *)form + (size_t)query * attend_form_floats(a->k_dim));
    const float *scale = (const float *)(const void *)(q + pad);
    return (struct query8){q, scale, (const int32_t *)(const void *)(scale + pad / GROUP)};
}

INLINE void prepare(const struct attend_tile *a, void *form, int offset)
{
    for (int i = 0; i < a->queries; i++) {
        struct query8 f = query_at(a, form, i);
        for (int d = 0; d < a->k_dim; d += GROUP) {
            uint32_t some = a->k_dim - d < GROUP ? (1u << (a->k_dim - d)) - 1 : 0xFFFFFFFF;
            __m512 x = _mm512_maskz_loadu_ps((__mmask16)some, a->q[i] + d), y = _mm512_maskz_loadu_ps((__mmask16)(some >> 16), a->q[i] + d + 16);
            /* as numbers without sign, so that NaN is the largest */
            __m512i most = _mm512_max_epu32(_mm512_castps_si512(_mm512_abs_ps(x)), _mm512_castps_si512(_mm512_abs_ps(y)));
            float scale = float_of_bits(_mm512_reduce_max_epu32(most)) / 127;
            __m512 inverse = _mm512_set1_ps(scale > 1e-30f ? 1 / scale : 0);
            __m512i u = _mm512_cvtps_epi32(x * inverse), v = _mm512_cvtps_epi32(y * inverse);
            _mm_storeu_si128((__m128i *)(void *)(f.q + d), _mm512_cvtsepi32_epi8(u));
            _mm_storeu_si128((__m128i *)(void *)(f.q + d + 16), _mm512_cvtsepi32_epi8(v));
            ((float *)f.scale)[d / GROUP] = scale;
            ((int32_t *)f.start)[d / GROUP] = -offset * _mm512_reduce_add_epi32(_mm512_add_epi32(u, v));
        }
    }
}

static __m512 halves(const unsigned char *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p)); }
static __m512i four_of(const int8_t *q) { return _mm512_set1_epi32((int32_t)load_u32((const unsigned char *)q)); }

/* `queries` queries against two blocks */
INLINE void score_two(const struct attend_tile *a, int query, int queries, bool nibbles, const void *form, const unsigned char *const *k,
                      const unsigned char *const *ahead, size_t ahead_bytes, float *scores)
{
    int groups = (a->k_dim + GROUP - 1) / GROUP, each = nibbles ? 4 : 8;
    struct query8 f[QUERIES];
    __m512 sum[QUERIES][2];
#pragma GCC unroll 4
    for (int i = 0; i < queries; i++) {
        f[i] = query_at(a, form, query + i);
        sum[i][0] = sum[i][1] = _mm512_setzero_ps();
    }
    const __m512i low = _mm512_set1_epi8(15);
    for (int g = 0; g < groups; g++) {
        __m512i dot[QUERIES][2];
#pragma GCC unroll 4
        for (int i = 0; i < queries; i++)
            dot[i][0] = dot[i][1] = _mm512_set1_epi32(f[i].start[g]);
#pragma GCC unroll 8
        for (int n = 0; n < each; n++) {
            size_t at = (size_t)(g * each + n) * 64;
            __m512i k0 = _mm512_loadu_si512(k[0] + at), k1 = _mm512_loadu_si512(k[1] + at);
            if (ahead_bytes) {
                _mm_prefetch((const char *)ahead[0] + at, _MM_HINT_T0);
                _mm_prefetch((const char *)ahead[1] + at, _MM_HINT_T0);
            }
            for (int half = 0; half < (nibbles ? 2 : 1); half++) {
                __m512i u0 = nibbles ? _mm512_and_si512(half ? _mm512_srli_epi16(k0, 4) : k0, low) : k0;
                __m512i u1 = nibbles ? _mm512_and_si512(half ? _mm512_srli_epi16(k1, 4) : k1, low) : k1;
#pragma GCC unroll 4
                for (int i = 0; i < queries; i++) {
                    __m512i q = four_of(f[i].q + g * GROUP + 16 * half + 4 * n);
                    dot[i][0] = _mm512_dpbusd_epi32(dot[i][0], u0, q);
                    dot[i][1] = _mm512_dpbusd_epi32(dot[i][1], u1, q);
                }
            }
        }
#pragma GCC unroll 2
        for (int b = 0; b < 2; b++) {
            __m512 scale = halves(k[b] + (size_t)(groups * each * 64 + g * 2 * BLOCK_TOKENS));
#pragma GCC unroll 4
            for (int i = 0; i < queries; i++)
                sum[i][b] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[i][b]) * scale, _mm512_set1_ps(f[i].scale[g]), sum[i][b]);
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < queries; i++)
        for (int b = 0; b < 2; b++)
            v_store(scores + (query + i) * ATTEND_TOKENS + b * BLOCK_TOKENS, v_score(a, (vf)sum[i][b]));
}

INLINE void score(const struct attend_tile *a, bool nibbles, const void *form, const struct attend_run *k, float *scores)
{
    for (int b = 0; b < k->blocks; b += 2, scores += 2 * BLOCK_TOKENS) {
        struct two two = attend_two(k, b);
        int query = 0;
        if (!two.part[0])
            continue;
        for (; query + 4 <= a->queries; query += 4)
            score_two(a, query, 4, nibbles, form, two.part, two.ahead, query ? 0 : k->ahead_bytes, scores);
        if (query + 3 <= a->queries) {
            score_two(a, query, 3, nibbles, form, two.part, two.ahead, query ? 0 : k->ahead_bytes, scores);
            query += 3;
        }
        for (; query < a->queries; query++)
            score_two(a, query, 1, nibbles, form, two.part, two.ahead, query ? 0 : k->ahead_bytes, scores);
    }
}

/* Weights times scales of one query and group in two bytes; what one step of them is worth. */
struct bytes {
    uint8_t high[ATTEND_TOKENS], low[ATTEND_TOKENS];
    float unit;
    int32_t sum; /* of all, for V's offset */
};

INLINE void split(const float *weights, const __m512 *scale, int blocks, bool negative, struct bytes *to)
{
    __m512 t[ATTEND_BLOCKS];
    __m512i most = _mm512_setzero_si512(), sum = _mm512_setzero_si512();
    for (int b = 0; b < blocks; b++) {
        t[b] = _mm512_loadu_ps(weights + b * BLOCK_TOKENS) * scale[b];
        most = _mm512_max_epu32(most, _mm512_castps_si512(_mm512_abs_ps(t[b]))); /* NaN is the largest */
    }
    to->unit = float_of_bits(_mm512_reduce_max_epu32(most)) / (negative ? 32767 : 65535);
    __m512 inverse = _mm512_set1_ps(to->unit > 1e-30f ? 1 / to->unit : 0);
    for (int b = 0; b < blocks; b++) {
        __m512i p = _mm512_cvtps_epi32(t[b] * inverse);
        _mm_storeu_si128((__m128i *)(void *)(to->high + b * BLOCK_TOKENS), _mm512_cvtepi32_epi8(_mm512_srai_epi32(p, 8)));
        _mm_storeu_si128((__m128i *)(void *)(to->low + b * BLOCK_TOKENS), _mm512_cvtepi32_epi8(p));
        sum = _mm512_add_epi32(sum, p);
    }
    to->sum = negative ? _mm512_reduce_add_epi32(sum) : 0;
}

/* `queries` queries over the 32 dims of a group */
INLINE void weigh_group(const struct attend_tile *a, int query, int queries, bool nibbles, int g, const float *weights, const struct attend_run *v)
{
    int each = nibbles ? 16 : 32, wide = cache_pad(STORAGE_Q8_0, a->v_dim) / GROUP * each; /* bytes of a token: in the group, in all */
    struct bytes p[QUERIES];
    __m512 scale[ATTEND_BLOCKS];
    for (int b = 0; b < v->blocks; b++)
        scale[b] = v->part[b] ? halves(v->part[b] + wide * BLOCK_TOKENS + g * 2 * BLOCK_TOKENS) : _mm512_setzero_ps();
    for (int i = 0; i < queries; i++)
        split(weights + (query + i) * ATTEND_TOKENS, scale, v->blocks, nibbles, &p[i]);
    __m512i high[QUERIES][2], low[QUERIES][2];
    const __m512i nibble = _mm512_set1_epi8(15);
#pragma GCC unroll 4
    for (int i = 0; i < queries; i++)
#pragma GCC unroll 2
        for (int c = 0; c < 2; c++)
            high[i][c] = low[i][c] = _mm512_setzero_si512();
    for (int b = 0; b < v->blocks; b++) {
        if (!v->part[b])
            continue;
        for (int t = 0; t < BLOCK_TOKENS; t += 4) {
            size_t at = (size_t)(t * wide + 4 * g * each);
            const unsigned char *from = v->part[b] + at;
            __m512i row[2];
            row[0] = _mm512_loadu_si512(from);
            row[1] = nibbles ? _mm512_and_si512(_mm512_srli_epi16(row[0], 4), nibble) : _mm512_loadu_si512(from + 64);
            row[0] = nibbles ? _mm512_and_si512(row[0], nibble) : row[0];
            if (!query) {
                _mm_prefetch((const char *)v->ahead[b] + at, _MM_HINT_T0);
                if (!nibbles)
                    _mm_prefetch((const char *)v->ahead[b] + at + 64, _MM_HINT_T0);
            }
#pragma GCC unroll 4
            for (int i = 0; i < queries; i++) {
                __m512i h = four_of((const int8_t *)p[i].high + b * BLOCK_TOKENS + t), l = four_of((const int8_t *)p[i].low + b * BLOCK_TOKENS + t);
#pragma GCC unroll 2
                for (int c = 0; c < 2; c++) {
                    high[i][c] = nibbles ? _mm512_dpbusd_epi32(high[i][c], row[c], h) : _mm512_dpbusd_epi32(high[i][c], h, row[c]);
                    low[i][c] = _mm512_dpbusd_epi32(low[i][c], l, row[c]);
                }
            }
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < queries; i++)
#pragma GCC unroll 2
        for (int c = 0; c < 2; c++) {
            float *out = a->out + (query + i) * a->out_stride + g * GROUP + 16 * c;
            __m512i sum = _mm512_add_epi32(_mm512_slli_epi32(high[i][c], 8), low[i][c]);
            if (nibbles)
                sum = _mm512_sub_epi32(sum, _mm512_set1_epi32(8 * p[i].sum));
            _mm512_storeu_ps(out, _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(p[i].unit), _mm512_loadu_ps(out)));
        }
}

INLINE void weigh(const struct attend_tile *a, bool nibbles, const float *weights, const struct attend_run *v)
{
    for (int g = 0; g < (a->v_dim + GROUP - 1) / GROUP; g++) {
        int query = 0;
        for (; query + 4 <= a->queries; query += 4)
            weigh_group(a, query, 4, nibbles, g, weights, v);
        if (query + 3 <= a->queries) {
            weigh_group(a, query, 3, nibbles, g, weights, v);
            query += 3;
        }
        for (; query < a->queries; query++)
            weigh_group(a, query, 1, nibbles, g, weights, v);
    }
}

#define KERNEL(type, nibbles, offset)                                                                                               \
    static void prepare_##type(const struct attend_tile *a, void *form) { prepare(a, form, offset); }                               \
    static void score_##type(const struct attend_tile *a, const void *form, const struct attend_run *k, float *scores)              \
    {                                                                                                                               \
        score(a, nibbles, form, k, scores);                                                                                         \
    }                                                                                                                               \
    static void weigh_##type(const struct attend_tile *a, const float *weights, const struct attend_run *v) { weigh(a, nibbles, weights, v); } \
    const struct cache_kernel avx512_cache_##type = {.name = "int8 dot", .prepare = prepare_##type, .score = score_##type, .weigh = weigh_##type};
KERNEL(q8_0, false, 128)
KERNEL(q4_0, true, 8)
