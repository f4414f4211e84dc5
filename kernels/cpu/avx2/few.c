/* Quantised weights times int8 activations, straight from storage: one weight row at a time, up to four activation rows
 * share its decoded codes. A row's arithmetic is the same however many there are.
 *
 * 32 codes (one register, natural order) times 32 activations: vpmaddubsw gives 16 sums of two, vpmaddwd sums pairs of them
 * times the integer scales of their groups (or 1), then one conversion and one fma with the float scale of the block, of
 * which eight are made at once. Codes are unsigned; what their offset contributes comes from the sums of the activations. Formats of 8-bit codes move the codes' signs to the
 * activations instead (|w| <= 128, |x| <= 127: pairs stay below 2^15). */
#include "kernels/cpu/avx2/few.h"

#include <immintrin.h>

#include "kernels/cpu/wide/lanes.h"

enum { AHEAD = 4096 }; /* bytes that weights are prefetched ahead */

INLINE __m256i load_256(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
INLINE __m128i load_128(const void *p) { return _mm_loadu_si128((const __m128i *)p); }
INLINE float half_at(const unsigned char *p) { return _cvtsh_ss(load_u16(p)); }

INLINE void prefetch(const unsigned char *p, int size)
{
    for (int i = 0; i < size; i += 64)
        _mm_prefetch((const char *)p + AHEAD + i, _MM_HINT_T0);
}

/* 8 sums of 4 products, pairs times `factor` */
INLINE __m256 dot_32(__m256i code, bool is_signed, const int8_t *q, __m256i factor)
{
    __m256i x = load_256(q);
    __m256i pairs = is_signed ? _mm256_maddubs_epi16(_mm256_abs_epi8(code), _mm256_sign_epi8(x, code)) : _mm256_maddubs_epi16(code, x);
    return _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs, factor));
}

/* 16 bytes of nibbles -> 32 codes: low ones, then high ones */
INLINE __m256i nibbles(__m128i v)
{
    return _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(v, 4), v), _mm256_set1_epi8(15));
}

/* 32 bits -> 16 in the bytes whose bit is set */
INLINE __m256i fifth_bits(uint32_t bits)
{
    const __m256i byte = _mm256_setr_epi64x(0x0000000000000000, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201);
    __m256i v = _mm256_shuffle_epi8(_mm256_set1_epi32((int)bits), byte);
    return _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(v, bit), bit), _mm256_set1_epi8(16));
}

INLINE __m256i iq4_codes(__m256i index)
{
    static const int8_t table[16] __attribute__((aligned(16))) = IQ4_VALUES;
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(load_128(table)), index);
}

struct layout { /* of a format */
    int bytes, group;  /* of a unit of 256; weights that share a scale */
    bool integers;     /* groups have integer scales beside the unit's float */
    bool is_signed;    /* codes */
    bool min;
    float offset;      /* of unsigned codes without minimums */
};

/* What a unit's blocks have in common. */
struct unit {
    __m256 d;        /* [8]: float factor of each block */
    __m256i scales;  /* integers: the groups' scales as bytes, in both halves */
    __m256 min[2];   /* minimums of the groups, [8] where GROUP is 32 */
};
typedef struct unit unit_function(const unsigned char *p, int blocks);
typedef __m256i codes_function(const unsigned char *p, int block);

/* ---- blocks of 32 with a float scale ----------------------------------------------------------------------------------- */

INLINE struct unit plain(const unsigned char *p, int step, int blocks) { return (struct unit){.d = halves_at(p, step, blocks)}; }
INLINE struct unit with_min(const unsigned char *p, int step, int blocks)
{
    return (struct unit){.d = halves_at(p, step, blocks), .min = {halves_at(p + 2, step, blocks)}};
}
INLINE struct unit unit_q4_0(const unsigned char *p, int blocks) { return plain(p, 18, blocks); }
INLINE struct unit unit_q4_1(const unsigned char *p, int blocks) { return with_min(p, 20, blocks); }
INLINE struct unit unit_q5_0(const unsigned char *p, int blocks) { return plain(p, 22, blocks); }
INLINE struct unit unit_q5_1(const unsigned char *p, int blocks) { return with_min(p, 24, blocks); }
INLINE struct unit unit_q8_0(const unsigned char *p, int blocks) { return plain(p, 34, blocks); }
INLINE struct unit unit_iq4_nl(const unsigned char *p, int blocks) { return plain(p, 18, blocks); }

INLINE __m256i codes_q4_0(const unsigned char *p, int b) { return nibbles(load_128(p + 18 * b + 2)); }
INLINE __m256i codes_q4_1(const unsigned char *p, int b) { return nibbles(load_128(p + 20 * b + 4)); }
INLINE __m256i codes_q5_0(const unsigned char *p, int b) { return _mm256_or_si256(nibbles(load_128(p + 22 * b + 6)), fifth_bits(load_u32(p + 22 * b + 2))); }
INLINE __m256i codes_q5_1(const unsigned char *p, int b) { return _mm256_or_si256(nibbles(load_128(p + 24 * b + 8)), fifth_bits(load_u32(p + 24 * b + 4))); }
INLINE __m256i codes_q8_0(const unsigned char *p, int b) { return load_256(p + 34 * b + 2); }
INLINE __m256i codes_iq4_nl(const unsigned char *p, int b) { return iq4_codes(nibbles(load_128(p + 18 * b + 2))); }

/* ---- units of 256 with integer scales ------------------------------------------------------------------------------------ */

INLINE __m256i both(__m128i v) { return _mm256_broadcastsi128_si256(v); }
INLINE __m256 floats_of(__m128i bytes) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)); }

/* scales and minimums of Q4_K and Q5_K: see k_scales in formats/small.h */
INLINE struct unit unit_k(const unsigned char *p)
{
    uint32_t a = load_u32(p + 4), b = load_u32(p + 8), c = load_u32(p + 12);
    uint64_t scale = (uint64_t)(a & 0x3F3F3F3F) | (uint64_t)((c & 0x0F0F0F0F) | (a >> 2 & 0x30303030)) << 32;
    uint64_t min = (uint64_t)(b & 0x3F3F3F3F) | (uint64_t)((c >> 4 & 0x0F0F0F0F) | (b >> 2 & 0x30303030)) << 32;
    struct unit u = {.d = _mm256_set1_ps(half_at(p))};
    __m128i eight = _mm_cvtsi64_si128((long long)scale);
    u.scales = both(_mm_unpacklo_epi8(eight, eight)); /* each twice */
    u.min[0] = _mm256_mul_ps(floats_of(_mm_cvtsi64_si128((long long)min)), _mm256_set1_ps(-half_at(p + 2)));
    return u;
}
INLINE struct unit unit_q4_k(const unsigned char *p, int blocks) { return (void)blocks, unit_k(p); }
INLINE struct unit unit_q5_k(const unsigned char *p, int blocks) { return (void)blocks, unit_k(p); }

INLINE __m256i codes_q4_k(const unsigned char *p, int block)
{
    __m256i v = load_256(p + 16 + block / 2 * 32);
    return _mm256_and_si256(block % 2 ? _mm256_srli_epi16(v, 4) : v, _mm256_set1_epi8(15));
}

INLINE __m256i codes_q5_k(const unsigned char *p, int block)
{
    __m256i v = load_256(p + 48 + block / 2 * 32), bit = _mm256_set1_epi8((char)(1 << block));
    __m256i fifth = _mm256_cmpeq_epi8(_mm256_and_si256(load_256(p + 16), bit), bit);
    v = _mm256_and_si256(block % 2 ? _mm256_srli_epi16(v, 4) : v, _mm256_set1_epi8(15));
    return _mm256_or_si256(v, _mm256_and_si256(fifth, _mm256_set1_epi8(16)));
}

/* minimums: the codes' offset */
INLINE struct unit with_offset(float d, __m128i scales, float offset)
{
    __m256 by = _mm256_set1_ps(-offset * d);
    return (struct unit){_mm256_set1_ps(d), both(scales),
                         {_mm256_mul_ps(floats_of(scales), by), _mm256_mul_ps(floats_of(_mm_srli_si128(scales, 8)), by)}};
}

INLINE struct unit unit_q6_k(const unsigned char *p, int blocks) { return (void)blocks, with_offset(half_at(p + 208), load_128(p + 192), 32); }

INLINE __m256i codes_q6_k(const unsigned char *p, int block)
{
    int half = block / 4, part = block % 4;
    __m256i low = load_256(p + 64 * half + 32 * (part % 2)), high = load_256(p + 128 + 32 * half);
    low = _mm256_and_si256(part / 2 ? _mm256_srli_epi16(low, 4) : low, _mm256_set1_epi8(15));
    high = part == 0 ? _mm256_slli_epi16(high, 4) : part == 1 ? _mm256_slli_epi16(high, 2) : part == 2 ? high : _mm256_srli_epi16(high, 2);
    return _mm256_or_si256(low, _mm256_and_si256(high, _mm256_set1_epi8(0x30)));
}

INLINE __m256i two_bits(const unsigned char *p, int block)
{
    __m256i v = load_256(p + block / 4 * 32);
    int part = block % 4;
    v = part == 0 ? v : part == 1 ? _mm256_srli_epi16(v, 2) : part == 2 ? _mm256_srli_epi16(v, 4) : _mm256_srli_epi16(v, 6);
    return _mm256_and_si256(v, _mm256_set1_epi8(3));
}

INLINE struct unit unit_q2_k(const unsigned char *p, int blocks)
{
    (void)blocks;
    __m128i s = load_128(p), low = _mm_set1_epi8(15);
    __m128i min = _mm_and_si128(_mm_srli_epi16(s, 4), low);
    __m256 factor = _mm256_set1_ps(-half_at(p + 82));
    struct unit u = {.d = _mm256_set1_ps(half_at(p + 80)), .scales = both(_mm_and_si128(s, low))};
    u.min[0] = _mm256_mul_ps(floats_of(min), factor);
    u.min[1] = _mm256_mul_ps(floats_of(_mm_srli_si128(min, 8)), factor);
    return u;
}
INLINE __m256i codes_q2_k(const unsigned char *p, int block) { return two_bits(p + 16, block); }

INLINE struct unit unit_q3_k(const unsigned char *p, int blocks)
{
    (void)blocks;
    /* nibbles of 8 bytes (low ones first), upper two bits in 4 bytes, bits 2 * (s / 4) of byte s % 4; 32 too high */
    __m128i low = _mm_loadl_epi64((const __m128i *)(const void *)(p + 96));
    low = _mm_and_si128(_mm_unpacklo_epi64(low, _mm_srli_epi16(low, 4)), _mm_set1_epi8(15));
    __m128i high = _mm_srlv_epi32(_mm_set1_epi32((int)load_u32(p + 104)), _mm_setr_epi32(0, 2, 4, 6));
    high = _mm_slli_epi16(_mm_and_si128(high, _mm_set1_epi8(3)), 4);
    return with_offset(half_at(p + 108), _mm_sub_epi8(_mm_or_si128(low, high), _mm_set1_epi8(32)), 4);
}

INLINE __m256i codes_q3_k(const unsigned char *p, int block)
{
    __m256i bit = _mm256_set1_epi8((char)(1 << block)), third = _mm256_cmpeq_epi8(_mm256_and_si256(load_256(p), bit), bit);
    return _mm256_or_si256(two_bits(p + 32, block), _mm256_and_si256(third, _mm256_set1_epi8(4)));
}

INLINE struct unit unit_iq4_xs(const unsigned char *p, int blocks)
{
    (void)blocks;
    /* four low bits each in 4 bytes, two upper bits each in a word; 32 too high */
    __m128i low = _mm_cvtsi32_si128((int)load_u32(p + 4));
    low = _mm_and_si128(_mm_unpacklo_epi8(low, _mm_srli_epi16(low, 4)), _mm_set1_epi8(15));
    uint64_t bits = load_u16(p + 2), high = 0;
    for (int i = 0; i < 8; i++)
        high |= (bits >> (2 * i) & 3) << (8 * i + 4);
    __m128i s = _mm_sub_epi8(_mm_or_si128(low, _mm_cvtsi64_si128((long long)high)), _mm_set1_epi8(32));
    return (struct unit){.d = _mm256_set1_ps(half_at(p)), .scales = both(_mm_unpacklo_epi8(s, s))};
}
INLINE __m256i codes_iq4_xs(const unsigned char *p, int block) { return iq4_codes(nibbles(load_128(p + 8 + 16 * block))); }

/* words of the scales of groups 2 * block and 2 * block + 1, each over half a register */
INLINE __m256i factor_of(__m256i scales, int block)
{
    __m256i index = _mm256_set_m128i(_mm_set1_epi16((short)(0x0101 * (2 * block + 1))), _mm_set1_epi16((short)(0x0101 * (2 * block))));
    return _mm256_srai_epi16(_mm256_shuffle_epi8(scales, index), 8);
}

/* An activation row's numbers at a unit. */
struct row {
    const int8_t *q;
    const float *d, *s;
};

/* Sums of even and odd blocks: one chain of fma would be what all waits for. */
struct sums {
    __m256 even, odd;
};

INLINE void add_unit(unit_function *unit, codes_function *codes, struct layout l, const unsigned char *p, int blocks, int rows, const struct row x[4],
                     struct sums sum[4])
{
    struct unit u = unit(p, blocks);
    if (!l.min && !l.integers && !l.is_signed)
        u.min[0] = _mm256_mul_ps(u.d, _mm256_set1_ps(-l.offset));
    float factor[4][8];
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
        _mm256_storeu_ps(factor[r], _mm256_mul_ps(_mm256_loadu_ps(x[r].d), u.d));
        if (!l.is_signed)
            sum[r].even = _mm256_fmadd_ps(u.min[0], _mm256_loadu_ps(x[r].s), sum[r].even);
        if (l.group == 16)
            sum[r].odd = _mm256_fmadd_ps(u.min[1], _mm256_loadu_ps(x[r].s + 8), sum[r].odd);
    }
#pragma GCC unroll 8
    for (int b = 0; b < blocks; b++) {
        __m256i code = codes(p, b), by = l.integers ? factor_of(u.scales, b) : _mm256_set1_epi16(1);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            __m256 *to = b % 2 ? &sum[r].odd : &sum[r].even;
            *to = _mm256_fmadd_ps(dot_32(code, l.is_signed, x[r].q + 32 * b, by), _mm256_set1_ps(factor[r][b]), *to);
        }
    }
}

INLINE void few_rows(unit_function *unit, codes_function *codes, struct layout l, const struct weight *w, int64_t first, int64_t end,
                     const struct input *in, int32_t row, int rows, float *y, int64_t y_stride)
{
    int64_t groups = in->padded / l.group;
    const float *s = l.group == 16 ? in->s16 : in->s;
    int blocks = (int)(w->in % UNIT) / 32;
    for (int64_t out = first; out < end; out++) {
        const unsigned char *p = w->data + out * w->row_bytes;
        struct sums sum[4];
        struct row x[4];
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            sum[r] = (struct sums){_mm256_setzero_ps(), _mm256_setzero_ps()};
            x[r] = (struct row){in->q + (row + r) * in->padded, in->d + (row + r) * (in->padded / 32), s + (row + r) * groups};
        }
        for (int64_t i = 0; i < w->in / UNIT; i++, p += l.bytes) {
            prefetch(p, l.bytes);
            add_unit(unit, codes, l, p, 8, rows, x, sum);
#pragma GCC unroll 4
            for (int r = 0; r < rows; r++)
                x[r].q += UNIT, x[r].d += 8, x[r].s += UNIT / l.group;
        }
        switch (blocks) { /* the last of a row of 32-blocks */
#define CASE(n)                                          \
    case n:                                              \
        add_unit(unit, codes, l, p, n, rows, x, sum);    \
        break
            CASE(1);
            CASE(2);
            CASE(3);
            CASE(4);
            CASE(5);
            CASE(6);
            CASE(7);
#undef CASE
        }
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++)
            y[in->row[row + r] * y_stride + out] = v_sum((vf)_mm256_add_ps(sum[r].even, sum[r].odd));
    }
}

/* ---- the kernels ----------------------------------------------------------------------------------------------------------- */

/* Four activation rows at a time, then the rest. */
#define KERNEL(name, ...)                                                                                        \
    LINEAR_FUNCTION(avx2_few_##name)                                                                             \
    {                                                                                                            \
        (void)scratch;                                                                                           \
        const struct layout l = {__VA_ARGS__};                                                                   \
        int32_t row = 0;                                                                                         \
        for (; row + 4 <= in->rows; row += 4)                                                                    \
            few_rows(unit_##name, codes_##name, l, w, first, end, in, row, 4, y, y_stride);                      \
        if (in->rows & 2)                                                                                        \
            few_rows(unit_##name, codes_##name, l, w, first, end, in, row, 2, y, y_stride), row += 2;            \
        if (in->rows & 1)                                                                                        \
            few_rows(unit_##name, codes_##name, l, w, first, end, in, row, 1, y, y_stride);                      \
    }
KERNEL(q4_0, .bytes = 144, .group = 32, .offset = 8)
KERNEL(q4_1, .bytes = 160, .group = 32, .min = true)
KERNEL(q5_0, .bytes = 176, .group = 32, .offset = 16)
KERNEL(q5_1, .bytes = 192, .group = 32, .min = true)
KERNEL(q8_0, .bytes = 272, .group = 32, .is_signed = true)
KERNEL(iq4_nl, .bytes = 144, .group = 32, .is_signed = true)
KERNEL(q2_k, .bytes = 84, .group = 16, .integers = true, .min = true)
KERNEL(q3_k, .bytes = 110, .group = 16, .integers = true, .offset = 4)
KERNEL(q4_k, .bytes = 144, .group = 32, .integers = true, .min = true)
KERNEL(q5_k, .bytes = 176, .group = 32, .integers = true, .min = true)
KERNEL(q6_k, .bytes = 210, .group = 16, .integers = true, .offset = 32)
KERNEL(iq4_xs, .bytes = 136, .group = 32, .integers = true, .is_signed = true)
