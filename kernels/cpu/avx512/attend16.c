/* Attention of prompts over a half float cache: vpdpwssd takes two dims of K, or two tokens of V, for 16 tokens (dims) at once,
 * twice what float32 does. Integers of 16 bits keep the 11 bits of half floats, but for values far below their token's others:
 *   K        a power of two for each token, by which its largest norm over CHUNK dims comes to [2^14, 2^15)
 *   queries  a factor for each, by which its norm over a chunk comes to at most 65500 and no value passes 32767: by Cauchy and
 *            Schwarz no sum of products over a chunk passes 2^31
 *   V        a power of two for each token, by which its largest value comes to [2^14, 2^15)
 *   weights  are multiplied by V's factor, then for each query and run by one more, by which those of the same place in all
 *            blocks add up to at most 65500 and none passes 32767: sums over such tokens stay below 2^31, too
 * So all sums are exact until they become floats: for each chunk of K, and for the tokens of one place in V's blocks. A token's
 * form depends on the token alone, a query's on the query; weights have theirs from what the query sees. NaN and infinity go
 * into the factors. To the error that half floats have (against a cache of float32) this adds 8 % (SmolLM2's logits). */
#include <immintrin.h>

#include "kernels/cpu/avx512/attend.h"
#include "kernels/cpu/wide/cache.h"

enum {
    CHUNK = 64,
    SCORE_QUERIES = 8, /* times two blocks */
    VALUE_QUERIES = 3, /* times four vectors, as integers and as floats */
    VALUE_VECTORS = 4,
    PAIRS = ATTEND_BLOCKS / 2,
};
#define TOTAL_MOST 65500.0f /* (2^15 + 4) (65500 + 4) < 2^31: rounding adds up to 4 to the norm of 64 dims, or to 8 weights */

static __m512 halves(const unsigned char *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p)); }

/* low and high, integers in [-2^15, 2^15), side by side in 16 bits each. Added to 1.5 * 2^23 they stand in the low bits. */
static __m512i side_by_side(__m512 low, __m512 low_factor, __m512 high, __m512 high_factor)
{
    const __m512 magic = _mm512_set1_ps(12582912.0f);
    __m512i l = _mm512_castps_si512(_mm512_fmadd_ps(low, low_factor, magic)),
            h = _mm512_castps_si512(_mm512_fmadd_ps(high, high_factor, magic));
    return _mm512_mask_blend_epi16(0xAAAAAAAA, l, _mm512_slli_epi32(h, 16));
}

static int pad_of(int dim) { return (dim + 15) / 16 * 16; } /* cache_pad, where it costs nothing */

/* sum += pairs of products. As a builtin it made gcc 12 copy each sum twice a round, and spill two. */
INLINE void dot(__m512i *sum, __m512i a, __m512i b) { __asm__("vpdpwssd %2, %1, %0" : "+v"(*sum) : "v"(a), "v"(b)); }

/* Of numbers that are not negative; NaN is the largest. */
static __m512 larger(__m512 a, __m512 b)
{
    return _mm512_castsi512_ps(_mm512_max_epu32(_mm512_castps_si512(a), _mm512_castps_si512(b)));
}
static float largest(__m512 v) { return float_of_bits(_mm512_reduce_max_epu32(_mm512_castps_si512(v))); }

/* Factors bring a size to 65500: that of all together as it is, that of the largest one, which may be 32767, times SIZE_OF_ONE.
 */
#define SIZE_OF_ONE (TOTAL_MOST / 32767)
static float factor_for(float size) { return TOTAL_MOST / (size <= 1e-30f ? 1e-30f : size); } /* NaN stays */
static float worth_for(float size) { return size / TOTAL_MOST; }

/* ---- scores ------------------------------------------------------------------------------------------------------------ */

/* A query: pairs of 16 bits, cache_pad dims of them, then what its integers are worth. */
static size_t worth_at(int query, int k_dim) { return ((size_t)query + 1) * attend_form_floats(k_dim) - 1; }

/* 16 dims of a query, zeros behind the head. */
static __m512 some_of(const float *q, int at, int dims)
{
    uint32_t there = dims - at < 16 ? (uint32_t)(dims - at) : 16; /* bzhi reads 8 bits */
    return _mm512_maskz_loadu_ps((__mmask16)_bzhi_u32(0xFFFF, there), q + at);
}

static void prepare(const struct attend_tile *a, void *form)
{
    int pad = pad_of(a->k_dim);
    for (int i = 0; i < a->queries; i++) {
        const float *q = a->q[i];
        __m512 most = _mm512_setzero_ps();
        float square = 0;
        for (int at = 0; at < pad; at += CHUNK) {
            __m512 sum = _mm512_setzero_ps();
            for (int d = at; d < at + CHUNK && d < pad; d += 16) {
                __m512 x = some_of(q, d, a->k_dim);
                sum = _mm512_fmadd_ps(x, x, sum);
                most = larger(most, x * x);
            }
            float chunk = _mm512_reduce_add_ps(sum);
            square = chunk > square || chunk != chunk ? chunk : square;
        }
        float single = largest(most) * (SIZE_OF_ONE * SIZE_OF_ONE), size = sqrtf(single > square ? single : square);
        __m512 factor = _mm512_set1_ps(factor_for(size));
        int16_t *to = (int16_t *)((float *)form + (size_t)i * attend_form_floats(a->k_dim));
        for (int d = 0; d < pad; d += 16)
            _mm256_storeu_si256((__m256i *)(void *)(to + d),
                                _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(some_of(q, d, a->k_dim) * factor)));
        ((float *)form)[worth_at(i, a->k_dim)] = worth_for(size);
    }
}

/* The shared form of K: [block][pad / 2][16 tokens][2 dims], then what the tokens' integers are worth: [block][16]. That of V:
 * [16 places][pair of blocks][pad][2 tokens], then the same. */
static size_t shared_words(int pad) { return (size_t)pad / 2 * ATTEND_TOKENS; }

static void share_block_k(const unsigned char *part, int pad, const unsigned char *ahead, size_t ahead_step, __m512i *to,
                          float *worth)
{
    __m512 most = _mm512_set1_ps(1e-30f);
    for (int at = 0; at < pad; at += CHUNK) {
        __m512 even = _mm512_setzero_ps(), odd = _mm512_setzero_ps();
        for (int d = at; d < at + CHUNK && d < pad; d += 2) {
            __m512 x = halves(part + d * 32), y = halves(part + d * 32 + 32);
            even = _mm512_fmadd_ps(x, x, even);
            odd = _mm512_fmadd_ps(y, y, odd);
        }
        most = larger(most, even + odd);
    }
    /* the square is below 2^(e + 1), so the norm is below 2^(floor(e / 2) + 1) */
    __m512 e = _mm512_roundscale_ps(_mm512_getexp_ps(most) * _mm512_set1_ps(0.5f), _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    __m512 one = _mm512_set1_ps(1), factor = _mm512_scalef_ps(one, _mm512_set1_ps(14) - e);
    _mm512_storeu_ps(worth, _mm512_scalef_ps(one, e - _mm512_set1_ps(14)));
    for (int d = 0; d < pad; d += 2) {
        for (size_t i = 0; i < ahead_step; i += 64)
            _mm_prefetch((const char *)ahead + (size_t)(d / 2) * ahead_step + i, _MM_HINT_T0);
        _mm512_storeu_si512(to + d / 2, side_by_side(halves(part + d * 32), factor, halves(part + d * 32 + 32), factor));
    }
}

static void share_k(const struct attend_tile *a, const struct attend_run *k, void *shared)
{
    int pad = pad_of(a->k_dim);
    size_t ahead_step = k->ahead_bytes / ((size_t)pad / 2);
    float *worth = (float *)shared + shared_words(pad);
    for (int b = 0; b < k->blocks; b++)
        if (k->part[b])
            share_block_k(k->part[b], pad, k->ahead[b], ahead_step, (__m512i *)shared + b * pad / 2, worth + b * BLOCK_TOKENS);
}

/* Queries against blocks b and c over dims [2 at, 2 end); `scores` has the sums of those before. */
INLINE void score_chunk(const struct attend_tile *a, int query, int queries, const void *form, const void *shared, int b, int c,
                        int at, int end, float *scores)
{
    int pad = pad_of(a->k_dim);
    size_t stride = attend_form_floats(a->k_dim);
    const __m512i *k[2] = {(const __m512i *)shared + b * pad / 2, (const __m512i *)shared + c * pad / 2};
    const float *worth = (const float *)shared + shared_words(pad);
    const int32_t *q = (const int32_t *)form + (size_t)query * stride;
    __m512i sum[SCORE_QUERIES][2];
#pragma GCC unroll 8
    for (int i = 0; i < queries; i++)
        sum[i][0] = sum[i][1] = _mm512_setzero_si512();
    for (int d = at; d < end; d++) {
        __m512i x = _mm512_loadu_si512(k[0] + d), y = _mm512_loadu_si512(k[1] + d);
#pragma GCC unroll 8
        for (int i = 0; i < queries; i++) {
            __m512i s = _mm512_set1_epi32(q[(size_t)i * stride + (size_t)d]);
            dot(&sum[i][0], x, s);
            dot(&sum[i][1], y, s);
        }
    }
    bool whole = end == pad / 2;
    __m512 token[2];
    for (int n = 0; n < 2; n++)
        token[n] = whole ? _mm512_loadu_ps(worth + (n ? c : b) * BLOCK_TOKENS) : _mm512_set1_ps(1);
#pragma GCC unroll 8
    for (int i = 0; i < queries; i++) {
        __m512 own = _mm512_set1_ps(whole ? ((const float *)form)[worth_at(query + i, a->k_dim)] * a->scale : 1);
#pragma GCC unroll 2
        for (int n = 0; n < 2; n++) {
            float *to = scores + (query + i) * ATTEND_TOKENS + n * BLOCK_TOKENS;
            __m512 s = _mm512_cvtepi32_ps(sum[i][n]);
            if (at)
                s += _mm512_loadu_ps(to);
            _mm512_storeu_ps(to, s * token[n] * own);
        }
    }
}

static void cap_scores(const struct attend_tile *a, int tokens, float *scores)
{
    const vf cap = v_set(a->cap);
    for (int i = 0; i < a->queries; i++)
        for (float *s = scores + i * ATTEND_TOKENS; s < scores + i * ATTEND_TOKENS + tokens; s += LANES)
            v_store(s, cap * v_tanh(v_load(s) / cap));
}

static void score(const struct attend_tile *a, const void *form, const struct attend_run *k, float *scores)
{
    int pairs = pad_of(a->k_dim) / 2;
    for (int b = 0; b < k->blocks; b += 2) {
        int c = b + 1 < k->blocks ? b + 1 : b; /* without a second one the first again, whose scores nobody sees */
        if (!k->part[b] && !k->part[c])
            continue;
        for (int at = 0; at < pairs; at += CHUNK / 2) {
            int end = at + CHUNK / 2 < pairs ? at + CHUNK / 2 : pairs, query = 0;
#define SOME(n, while_or_if)                                                                                                     \
    while_or_if(query + (n) <= a->queries)                                                                                       \
    {                                                                                                                            \
        score_chunk(a, query, n, form, k->shared, b, c, at, end, scores + b * BLOCK_TOKENS);                                     \
        query += (n);                                                                                                            \
    }
            SOME(8, while)
            SOME(4, if)
            SOME(2, if)
            SOME(1, if)
#undef SOME
        }
    }
    if (a->cap > 0)
        cap_scores(a, k->blocks * BLOCK_TOKENS, scores);
}

/* ---- values ------------------------------------------------------------------------------------------------------------ */

/* The largest of a token's values without signs, as a half float's bits. */
static uint16_t largest_half(const unsigned char *token, int pad)
{
    __m512i most = _mm512_setzero_si512();
    for (int d = 0; d < pad; d += 32) {
        __m512i x = _mm512_maskz_loadu_epi16(pad - d < 32 ? 0xFFFF : 0xFFFFFFFF, token + 2 * d);
        most = _mm512_max_epu16(most, _mm512_and_si512(x, _mm512_set1_epi16(0x7FFF)));
    }
    __m256i y = _mm256_max_epu16(_mm512_castsi512_si256(most), _mm512_extracti64x4_epi64(most, 1));
    __m128i z = _mm_max_epu16(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
    return (uint16_t)~_mm_cvtsi128_si32(
        _mm_minpos_epu16(_mm_xor_si128(z, _mm_set1_epi16(-1)))); /* only minima are found at once */
}

/* Factors for 16 tokens and what their integers are worth. Nobody's block: worth nothing. */
static void factors_v(const unsigned char *part, int pad, float *factor, float *worth)
{
    uint16_t most[BLOCK_TOKENS];
    for (int t = 0; t < BLOCK_TOKENS; t++)
        most[t] = part ? largest_half(part + t * pad * 2, pad) : 0;
    /* values are below 2^(e - 14) */
    __m512i e = _mm512_srli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)most)), 10);
    __mmask16 finite = _mm512_cmplt_epi32_mask(e, _mm512_set1_epi32(31));
    e = _mm512_max_epi32(e, _mm512_set1_epi32(1));
    _mm512_storeu_si512(factor, _mm512_slli_epi32(_mm512_sub_epi32(_mm512_set1_epi32(127 + 29), e), 23));
    __m512i value = _mm512_slli_epi32(_mm512_add_epi32(_mm512_set1_epi32(127 - 29), e), 23);
    _mm512_storeu_si512(worth, _mm512_mask_blend_epi32(finite, _mm512_set1_epi32(0x7FC00000), value));
}

static __m512 halves_of(const unsigned char *part, int at) { return part ? halves(part + 2 * at) : _mm512_setzero_ps(); }

static void share_v(const struct attend_tile *a, const struct attend_run *v, void *shared)
{
    int pad = pad_of(a->v_dim);
    size_t ahead_step = v->ahead_bytes / BLOCK_TOKENS;
    float *worth = (float *)shared + shared_words(pad), factor[2][BLOCK_TOKENS];
    for (int b = 0; b < v->blocks; b += 2) {
        const unsigned char *even = v->part[b], *odd = b + 1 < v->blocks ? v->part[b + 1] : NULL;
        factors_v(even, pad, factor[0], worth + b * BLOCK_TOKENS);
        factors_v(odd, pad, factor[1], worth + (b + 1) * BLOCK_TOKENS);
        for (int t = 0; t < BLOCK_TOKENS; t++) {
            __m512i *to = (__m512i *)shared + (t * PAIRS + b / 2) * (pad / 16);
            __m512 x = _mm512_set1_ps(factor[0][t]), y = _mm512_set1_ps(factor[1][t]);
            for (size_t i = 0; i < ahead_step; i += 64) {
                _mm_prefetch((const char *)v->ahead[b] + (size_t)t * ahead_step + i, _MM_HINT_T0);
                _mm_prefetch((const char *)v->ahead[b + 1] + (size_t)t * ahead_step + i, _MM_HINT_T0);
            }
            for (int d = 0; d < pad; d += 16)
                _mm512_storeu_si512(to + d / 16, side_by_side(halves_of(even, t * pad + d), x, halves_of(odd, t * pad + d), y));
        }
    }
}

/* A query's weights as pairs of 16 bits, [pair of blocks][place]; returns what one is worth. */
static float pair_weights(const float *weights, const float *worth, int blocks, int32_t *to)
{
    __m512 t[ATTEND_BLOCKS], most = _mm512_setzero_ps(), total = most;
    for (int b = 0; b < blocks; b++) {
        t[b] = _mm512_loadu_ps(weights + b * BLOCK_TOKENS) * _mm512_loadu_ps(worth + b * BLOCK_TOKENS);
        most = larger(most, t[b]);
        total += t[b];
    }
    if (blocks % 2)
        t[blocks] = _mm512_setzero_ps();
    float size = largest(larger(total, most * _mm512_set1_ps(SIZE_OF_ONE)));
    __m512 factor = _mm512_set1_ps(factor_for(size));
    for (int b = 0; b < blocks; b += 2)
        _mm512_storeu_si512(to + b / 2 * BLOCK_TOKENS, side_by_side(t[b], factor, t[b + 1], factor));
    return worth_for(size);
}

/* Queries over `vectors` vectors of V from the `at`-th on. pairs: [query][PAIRS][place]; unit: what a weight is worth */
INLINE void weigh_some(const struct attend_tile *a, int query, int queries, const int32_t (*pairs)[ATTEND_TOKENS / 2],
                       const float *unit, const void *shared, int used, int at, int vectors)
{
    int wide = pad_of(a->v_dim) / 16;
    const __m512i *row = (const __m512i *)shared + at;
    __m512 total[VALUE_QUERIES][VALUE_VECTORS];
#pragma GCC unroll 4
    for (int i = 0; i < queries; i++)
#pragma GCC unroll 4
        for (int c = 0; c < vectors; c++)
            total[i][c] = _mm512_setzero_ps();
    for (int t = 0; t < BLOCK_TOKENS; t++, row += PAIRS * wide) {
        __m512i sum[VALUE_QUERIES][VALUE_VECTORS];
#pragma GCC unroll 4
        for (int i = 0; i < queries; i++)
#pragma GCC unroll 4
            for (int c = 0; c < vectors; c++)
                sum[i][c] = _mm512_setzero_si512();
        for (int p = 0; p < used; p++) {
            __m512i v[VALUE_VECTORS];
#pragma GCC unroll 4
            for (int c = 0; c < vectors; c++)
                v[c] = _mm512_loadu_si512(row + p * wide + c);
#pragma GCC unroll 4
            for (int i = 0; i < queries; i++) {
                __m512i w = _mm512_set1_epi32(pairs[i][p * BLOCK_TOKENS + t]);
#pragma GCC unroll 4
                for (int c = 0; c < vectors; c++)
                    dot(&sum[i][c], v[c], w);
            }
        }
#pragma GCC unroll 4
        for (int i = 0; i < queries; i++)
#pragma GCC unroll 4
            for (int c = 0; c < vectors; c++)
                total[i][c] += _mm512_cvtepi32_ps(sum[i][c]);
    }
    float *out = a->out + query * a->out_stride + 16 * at;
#pragma GCC unroll 4
    for (int i = 0; i < queries; i++)
#pragma GCC unroll 4
        for (int c = 0; c < vectors; c++) {
            float *to = out + i * a->out_stride + 16 * c;
            _mm512_storeu_ps(to, _mm512_fmadd_ps(total[i][c], _mm512_set1_ps(unit[i]), _mm512_loadu_ps(to)));
        }
}

INLINE void weigh_queries(const struct attend_tile *a, int query, int queries, const float *weights, const struct attend_run *v)
{
    int32_t pairs[VALUE_QUERIES][ATTEND_TOKENS / 2];
    float unit[VALUE_QUERIES];
    int pad = pad_of(a->v_dim), used = (v->blocks + 1) / 2, at = 0;
    for (int i = 0; i < queries; i++)
        unit[i] = pair_weights(weights + (query + i) * ATTEND_TOKENS, (const float *)v->shared + shared_words(pad), v->blocks,
                               pairs[i]);
    for (; at + VALUE_VECTORS <= pad / 16; at += VALUE_VECTORS)
        weigh_some(a, query, queries, pairs, unit, v->shared, used, at, VALUE_VECTORS);
    for (; at < pad / 16; at++)
        weigh_some(a, query, queries, pairs, unit, v->shared, used, at, 1);
}

static void weigh(const struct attend_tile *a, const float *weights, const struct attend_run *v)
{
    int query = 0;
    for (; query + 3 <= a->queries; query += 3)
        weigh_queries(a, query, 3, weights, v);
    if (query + 2 <= a->queries) {
        weigh_queries(a, query, 2, weights, v);
        query += 2;
    }
    if (query < a->queries)
        weigh_queries(a, query, 1, weights, v);
}

const struct cache_kernel avx512_cache_f16 = {
    .name = "int16 dot", .prepare = prepare, .share_k = share_k, .share_v = share_v, .score = score, .weigh = weigh};
