/* unit.h's decoders for the types with codebooks, the ternary ones, those of 4-bit floats and of 1 or 2 bits.
 *
 * A codebook is looked up in registers: a permutation of two registers picks from 64 words (128 bytes), the index's upper bits
 * then choose between permutations. A point comes as digits of 2 (IQ3: 4) bits; a shift per byte brings each digit to the bottom
 * of a byte of its own, and a last permutation, which looks at the lowest six bits only, makes it the weight. Signs are mask
 * bits: a code is OFFSET plus or minus the weight. */
#ifndef KERNELS_CPU_AVX512_UNIT_IQ_H
#define KERNELS_CPU_AVX512_UNIT_IQ_H

#include "kernels/cpu/avx512/unit.h"
#include "kernels/formats/fp4.h"
#include "kernels/formats/grids.h"

enum {
    IQ2_XXS_OFFSET = 64,
    IQ2_XS_OFFSET = 64,
    IQ2_S_OFFSET = 64,
    IQ3_XXS_OFFSET = 64,
    IQ3_S_OFFSET = 64,
    IQ1_S_OFFSET = 9,
    IQ1_M_OFFSET = 9,
    TQ1_0_OFFSET = 1,
    TQ2_0_OFFSET = 1,
    MXFP4_OFFSET = 12,
    NVFP4_OFFSET = 12,
    Q1_0_OFFSET = 1,
    Q2_0_OFFSET = 1,
};

#define EIGHT(a, b, c, d, e, f, g, h) \
    _mm512_set1_epi64((long long)((uint64_t)(h) << 56 | (uint64_t)(g) << 48 | (uint64_t)(f) << 40 | (uint64_t)(e) << 32 | (uint64_t)(d) << 24 | (c) << 16 | (b) << 8 | (a)))

INLINE uint64_t load_64(const unsigned char *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE __m512 floats(__m512i v) { return _mm512_cvtepi32_ps(v); }
INLINE __m512 half_everywhere(const unsigned char *p) { return _mm512_cvtph_ps(_mm256_set1_epi16((short)load_u16(p))); }

/* 16 nibbles of 8 bytes, low ones first */
INLINE __m512 nibbles_of_8(const unsigned char *p)
{
    __m128i v = _mm_loadl_epi64((const __m128i *)(const void *)p), low = _mm_set1_epi8(15);
    return floats(_mm512_cvtepu8_epi32(_mm_unpacklo_epi8(_mm_and_si128(v, low), _mm_and_si128(_mm_srli_epi16(v, 4), low))));
}

/* ---- looking up ------------------------------------------------------------------------------------------------------ */

/* 64 entries of a table of words, then twice as many from two halves each */
INLINE __m512i look_64(const uint16_t *table, __m512i index)
{
    return _mm512_permutex2var_epi16(_mm512_loadu_si512(table), index, _mm512_loadu_si512(table + 32));
}

/* 128 entries of a table of bytes */
INLINE __m512i look_bytes_128(const unsigned char *table, __m512i index)
{
    return _mm512_permutex2var_epi8(_mm512_loadu_si512(table), index, _mm512_loadu_si512(table + 64));
}

#define LOOK(entries, half)                                                                                                \
    INLINE __m512i look_##entries(const uint16_t *table, __m512i index)                                                    \
    {                                                                                                                      \
        __mmask32 upper = _mm512_test_epi16_mask(index, _mm512_set1_epi16(half));                                          \
        return _mm512_mask_blend_epi16(upper, look_##half(table, index), look_##half(table + half, index));                \
    }
LOOK(128, 64)
LOOK(256, 128)
LOOK(512, 256)

INLINE __m512i look_bytes_256(const unsigned char *table, __m512i index)
{
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(index), look_bytes_128(table, index), look_bytes_128(table + 128, index));
}

/* Digits of 64 points: IQ1's and IQ2_S's codebooks are so large that two units are looked up together. */
struct points {
    __m512i low, high;
};

/* plane: entries a power of two from 256 on. upper: bits 8, 9 .. of the indices. */
INLINE __m512i look_bytes(const unsigned char *plane, int entries, __m512i index, const __mmask64 *upper)
{
    __m512i part[8];
#pragma GCC unroll 8
    for (int i = 0; i < entries / 256; i++)
        part[i] = look_bytes_256(plane + 256 * i, index);
#pragma GCC unroll 3
    for (int n = entries / 512, bit = 0; n; n /= 2, bit++)
#pragma GCC unroll 4
        for (int i = 0; i < n; i++)
            part[i] = _mm512_mask_blend_epi8(upper[bit], part[2 * i], part[2 * i + 1]);
    return part[0];
}

/* ---- codes ----------------------------------------------------------------------------------------------------------- */

/* 8 points of 8 digits, 2 bits each, at the bottom of 64-bit words -> codes. value: of digits 0, 1, 2, with the offset. */
INLINE __m512i codes_of_digits(__m512i points, int a, int b, int c)
{
    const __m512i shift = EIGHT(0, 2, 4, 6, 8, 10, 12, 14), value = _mm512_set1_epi32(c << 16 | b << 8 | a);
    return _mm512_permutexvar_epi8(_mm512_multishift_epi64_epi8(shift, points), value);
}

INLINE void codes_of_words(__m512i points, int a, int b, int c, __m512i code[4])
{
    const __m512i spread = _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0); /* what lies above a point does not matter */
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++)
        code[k] = codes_of_digits(_mm512_permutexvar_epi16(_mm512_add_epi64(spread, _mm512_set1_epi64(8 * k)), points), a, b, c);
}

/* 64 points of 4 digits, 4 bits each, the lower two in `low` -> codes. value: of the digits 0-7, with the offset. */
INLINE void codes_of_fours(__m512i low, __m512i high, __m512i value, __m512i code[4])
{
    const __m512i shift = EIGHT(0, 12, 16, 28, 32, 44, 48, 60); /* of low, low, high, high of one point, then of the next */
    const __m512i spread = _mm512_add_epi8(_mm512_broadcast_i32x4(_mm_setr_epi8(0, 0, 64, 64, 1, 1, 65, 65, 2, 2, 66, 66, 3, 3, 67, 67)),
                                           _mm512_set_epi64(0x0C0C0C0C0C0C0C0C, 0x0C0C0C0C0C0C0C0C, 0x0808080808080808, 0x0808080808080808,
                                                            0x0404040404040404, 0x0404040404040404, 0, 0));
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        __m512i digits = _mm512_permutex2var_epi8(low, _mm512_add_epi8(spread, bytes(16 * k)), high);
        code[k] = _mm512_permutexvar_epi8(_mm512_multishift_epi64_epi8(shift, digits), value);
    }
}

/* OFFSET + weight -> OFFSET - weight where a bit is set */
INLINE __m512i negate(__m512i code, __mmask64 minus, int offset) { return _mm512_mask_sub_epi8(code, minus, bytes(2 * offset), code); }

/* Four times 7 bits of signs per 64-bit word, brought to bytes by `shift`: the eighth of each makes the number of set bits
 * even. The permutation looks at seven bits of its index and so is the table of all 128 cases. */
INLINE void even_signs_of_unit(__m512i words, __m512i shift, struct unit *u)
{
#define PARITY(i) ((i) ^ (i) >> 4 ^ (i) >> 2 ^ (i) >> 6 ^ (i) >> 1 ^ (i) >> 5 ^ (i) >> 3)
#define SIGNS(i) (char)((i) | (PARITY(i) & 1) << 7)
#define SIGNS_8(i) SIGNS(i), SIGNS((i) + 1), SIGNS((i) + 2), SIGNS((i) + 3), SIGNS((i) + 4), SIGNS((i) + 5), SIGNS((i) + 6), SIGNS((i) + 7)
#define SIGNS_64(i) SIGNS_8(i), SIGNS_8((i) + 8), SIGNS_8((i) + 16), SIGNS_8((i) + 24), SIGNS_8((i) + 32), SIGNS_8((i) + 40), SIGNS_8((i) + 48), SIGNS_8((i) + 56)
    static const char table[128] __attribute__((aligned(64))) = {SIGNS_64(0), SIGNS_64(64)};
    __m512i signs = look_bytes_128((const unsigned char *)table, _mm512_multishift_epi64_epi8(shift, words));
    __m256i four = _mm512_cvtepi64_epi32(signs); /* the lower four bytes of each word */
    uint64_t minus[4];
    _mm256_storeu_si256((__m256i *)(void *)minus, four);
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++)
        u->code[k] = negate(u->code[k], minus[k], 64);
}

INLINE void plain_signs_of_unit(const unsigned char *p, struct unit *u)
{
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++)
        u->code[k] = negate(u->code[k], load_64(p + 8 * k), 64);
}

/* ---- codebooks ------------------------------------------------------------------------------------------------------- */

/* bits from `from` on of each 64-bit word */
INLINE __m512 top_of_words(__m512i words, int from)
{
    return eight(_mm256_cvtepi32_ps(_mm512_cvtepi64_epi32(_mm512_srli_epi64(words, (unsigned)from))));
}

INLINE struct unit decode_iq2_xxs(const unsigned char *p, int blocks)
{
    (void)blocks;
    struct unit u;
    __m512i groups = _mm512_loadu_si512(p + 2); /* four indices, then 28 bits of signs and four of the scale */
    __m512i index = _mm512_cvtepu8_epi16(_mm512_cvtepi64_epi32(groups));
    codes_of_words(look_256(digits_iq2_xxs, index), 64 + 8, 64 + 25, 64 + 43, u.code);
    even_signs_of_unit(groups, EIGHT(32, 39, 46, 53, 0, 0, 0, 0), &u);
    __m512 d = _mm512_mul_ps(half_everywhere(p), _mm512_set1_ps(0.25f));
    __m512 scale = top_of_words(groups, 60);
    u.scale = _mm512_mul_ps(d, _mm512_add_ps(scale, _mm512_set1_ps(0.5f)));
    return u;
}

INLINE struct unit decode_iq2_xs(const unsigned char *p, int blocks)
{
    (void)blocks;
    struct unit u;
    __m512i words = _mm512_loadu_si512(p + 2);
    codes_of_words(look_512(digits_iq2_xs, words), 64 + 8, 64 + 25, 64 + 43, u.code);
    even_signs_of_unit(words, EIGHT(9, 25, 41, 57, 0, 0, 0, 0), &u);
    __m512 d = _mm512_mul_ps(half_everywhere(p), _mm512_set1_ps(0.25f));
    u.scale = _mm512_mul_ps(d, _mm512_add_ps(nibbles_of_8(p + 66), _mm512_set1_ps(0.5f)));
    return u;
}

INLINE struct unit decode_iq3_xxs(const unsigned char *p, int blocks)
{
    (void)blocks;
    struct unit u;
    __m512i index = _mm512_loadu_si512(p + 2), bits = _mm512_cvtepu32_epi64(load_256(p + 66));
    codes_of_fours(look_bytes_256(plane_iq3_xxs[0], index), look_bytes_256(plane_iq3_xxs[1], index), EIGHT(68, 76, 84, 92, 100, 108, 116, 126),
                   u.code);
    even_signs_of_unit(bits, EIGHT(0, 7, 14, 21, 0, 0, 0, 0), &u);
    __m512 d = _mm512_mul_ps(half_everywhere(p), _mm512_set1_ps(0.5f));
    __m512 scale = top_of_words(bits, 28);
    u.scale = _mm512_mul_ps(d, _mm512_add_ps(scale, _mm512_set1_ps(0.5f)));
    return u;
}

INLINE struct unit decode_iq3_s(const unsigned char *p, int blocks)
{
    (void)blocks;
    struct unit u;
    __m512i index = _mm512_loadu_si512(p + 2), plane[2];
    __mmask64 upper = load_64(p + 66);
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++)
        plane[i] = _mm512_mask_blend_epi8(upper, look_bytes_256(plane_iq3_s[i], index), look_bytes_256(plane_iq3_s[i] + 256, index));
    codes_of_fours(plane[0], plane[1], EIGHT(65, 67, 69, 71, 73, 75, 77, 79), u.code);
    plain_signs_of_unit(p + 74, &u);
    uint32_t s = load_u32(p + 106);
    __m256i scale = _mm256_srlv_epi32(_mm256_set1_epi32((int)s), _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
    scale = _mm256_or_si256(_mm256_slli_epi32(_mm256_and_si256(scale, _mm256_set1_epi32(15)), 1), _mm256_set1_epi32(1));
    u.scale = _mm512_mul_ps(half_everywhere(p), eight(_mm256_cvtepi32_ps(scale)));
    return u;
}

/* ---- codebooks, two units together ------------------------------------------------------------------------------------ */

INLINE __m512i join(__m256i first, __m256i second) { return _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1); }

/* points 32 * half + 8 * k .., one in each 64-bit word */
INLINE __m512i eight_points(struct points points, int half, int k)
{
    const __m512i spread = _mm512_set_epi64(0x4707, 0x4606, 0x4505, 0x4404, 0x4303, 0x4202, 0x4101, 0x4000);
    return _mm512_permutex2var_epi8(points.low, _mm512_add_epi8(spread, bytes(32 * half + 8 * k)), points.high);
}

/* a field of each 16-bit (8-bit) group's bits, by `shift`, to a byte of its own: 32 bytes */
INLINE __m256i fields(__m512i groups, __m512i shift) { return _mm512_cvtepi64_epi32(_mm512_multishift_epi64_epi8(shift, groups)); }

INLINE void decode_iq2_s_pair(const unsigned char *p, const unsigned char *next, struct unit *u)
{
    const __m512i by = EIGHT(0, 2, 4, 6, 0, 0, 0, 0);
    const unsigned char *from[2] = {p, next};
    __m512i high = join(fields(_mm512_cvtepu8_epi64(_mm_loadl_epi64((const __m128i *)(const void *)(p + 66))), by),
                        fields(_mm512_cvtepu8_epi64(_mm_loadl_epi64((const __m128i *)(const void *)(next + 66))), by));
    __m512i index = join(load_256(p + 2), load_256(next + 2));
    __mmask64 upper[2] = {_mm512_test_epi8_mask(high, bytes(1)), _mm512_test_epi8_mask(high, bytes(2))};
    struct points points = {look_bytes(plane_iq2_s[0], 1024, index, upper), look_bytes(plane_iq2_s[1], 1024, index, upper)};
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++)
            u[i].code[k] = codes_of_digits(eight_points(points, i, k), 64 + 8, 64 + 25, 64 + 43);
        plain_signs_of_unit(from[i] + 34, u + i);
        __m512 d = _mm512_mul_ps(half_everywhere(from[i]), _mm512_set1_ps(0.25f));
        u[i].scale = _mm512_mul_ps(d, _mm512_add_ps(nibbles_of_8(from[i] + 74), _mm512_set1_ps(0.5f)));
    }
}

/* low: 64 index bytes; high: above them three bits each */
INLINE struct points look_iq1(__m512i low, __m512i high)
{
    __mmask64 upper[3] = {_mm512_test_epi8_mask(high, bytes(1)), _mm512_test_epi8_mask(high, bytes(2)), _mm512_test_epi8_mask(high, bytes(4))};
    /* which 16, from bits 4-10 */
    __m512i block = _mm512_ternarylogic_epi32(_mm512_srli_epi16(low, 4), _mm512_slli_epi16(high, 4), bytes(15), 0xE4);
    __mmask64 later = _mm512_cmpge_epu8_mask(_mm512_and_si512(low, bytes(15)), look_bytes_128(steps_iq1_s[2], block));
    __m512i first = look_bytes_128(steps_iq1_s[0], block), last = look_bytes_128(steps_iq1_s[1], block);
    return (struct points){look_bytes(plane_iq1_s[0], 2048, low, upper), _mm512_mask_mov_epi8(first, later, last)};
}

/* 8 * digit, and 2 where a shift is up */
INLINE __m512i codes_of_iq1(__m512i points, __mmask64 up)
{
    __m512i code = _mm512_and_si512(_mm512_multishift_epi64_epi8(EIGHT(61, 63, 1, 3, 5, 7, 9, 11), points), bytes(24));
    return _mm512_mask_add_epi8(code, up, code, bytes(2));
}

INLINE void decode_iq1_s_pair(const unsigned char *p, const unsigned char *next, struct unit *u)
{
    const __m512i by = EIGHT(0, 3, 6, 9, 0, 0, 0, 0);
    const unsigned char *from[2] = {p, next};
    __m128i high[2] = {load_128(p + 34), load_128(next + 34)};
    struct points points = look_iq1(join(load_256(p + 2), load_256(next + 2)),
                                    join(fields(_mm512_cvtepu16_epi64(high[0]), by), fields(_mm512_cvtepu16_epi64(high[1]), by)));
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        uint64_t up = ~(uint64_t)_mm_movepi16_mask(high[i]); /* bit 15 is clear: a bit for 32 codes */
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++, up >>= 2)
            u[i].code[k] = codes_of_iq1(eight_points(points, i, k), (up & 1) * 0xFFFFFFFF | (up >> 1 & 1) * 0xFFFFFFFF00000000);
        __m256i scale = _mm256_and_si256(_mm256_srli_epi32(_mm256_cvtepu16_epi32(high[i]), 11), _mm256_set1_epi32(14));
        __m512 d = _mm512_mul_ps(half_everywhere(from[i]), _mm512_set1_ps(0.125f));
        u[i].scale = _mm512_mul_ps(d, eight(_mm256_cvtepi32_ps(_mm256_or_si256(scale, _mm256_set1_epi32(1)))));
    }
}

INLINE void decode_iq1_m_pair(const unsigned char *p, const unsigned char *next, struct unit *u)
{
    const __m512i by = EIGHT(0, 4, 8, 12, 0, 0, 0, 0);
    const unsigned char *from[2] = {p, next};
    __m512i high = join(fields(_mm512_cvtepu16_epi64(load_128(p + 32)), by), fields(_mm512_cvtepu16_epi64(load_128(next + 32)), by));
    struct points points = look_iq1(join(load_256(p), load_256(next)), high);
    uint64_t up = ~_mm512_movepi8_mask(_mm512_slli_epi16(high, 4)); /* bit 3 is clear: a bit for 8 codes */
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++, up >>= 8)
            u[i].code[k] = codes_of_iq1(eight_points(points, i, k), _pdep_u64(up, 0x0101010101010101) * 255);
        /* three bits at 0, 3, 6, 9 of each of four words */
        __m256i words = _mm256_castsi128_si256(_mm_loadl_epi64((const __m128i *)(const void *)(from[i] + 48)));
        words = _mm256_permutexvar_epi16(_mm256_setr_epi16(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3), words);
        __m512i scale = _mm512_srlv_epi32(_mm512_cvtepu16_epi32(words), _mm512_set4_epi32(9, 6, 3, 0));
        scale = _mm512_or_si512(_mm512_slli_epi32(_mm512_and_si512(scale, _mm512_set1_epi32(7)), 1), _mm512_set1_epi32(1));
        u[i].scale = _mm512_mul_ps(_mm512_set1_ps(_cvtsh_ss(iq1_m_half(from[i])) / 8), floats(scale));
    }
}

typedef void decode_pair_function(const unsigned char *p, const unsigned char *next, struct unit *u);

/* one unit alone: the same with itself */
#define ALONE(name)                                                              \
    INLINE struct unit decode_##name(const unsigned char *p, int blocks)         \
    {                                                                            \
        struct unit u[2];                                                        \
        (void)blocks;                                                            \
        decode_##name##_pair(p, p, u);                                           \
        return u[0];                                                             \
    }
ALONE(iq2_s)
ALONE(iq1_s)
ALONE(iq1_m)
#undef ALONE

/* ---- ternary, one and two bits --------------------------------------------------------------------------------------- */

INLINE struct unit decode_tq2_0(const unsigned char *p, int blocks)
{
    (void)blocks;
    struct unit u;
    two_bits(p, u.code);
    two_bits(p + 32, u.code + 2);
    u.scale = half_everywhere(p + 64);
    return u;
}

/* each byte's next digit of base 3: byte * 3 >> 8 */
INLINE __m512i digit(__m512i v)
{
    __mmask64 one = _mm512_cmpgt_epu8_mask(v, bytes(85)), two = _mm512_cmpgt_epu8_mask(v, bytes(170));
    return _mm512_mask_mov_epi8(_mm512_maskz_mov_epi8(one, bytes(1)), two, bytes(2));
}
/* Bytes times 3^k modulo 256; the factors are the same in both bytes of a word. */
INLINE __m512i powers(__m512i v, __m512i factor)
{
    __m512i even = _mm512_mullo_epi16(v, factor), odd = _mm512_mullo_epi16(_mm512_andnot_si512(_mm512_set1_epi16(255), v), factor);
    return _mm512_ternarylogic_epi32(_mm512_set1_epi16(255), even, odd, 0xCA); /* the lower byte of even, the upper one of odd */
}

INLINE struct unit decode_tq1_0(const unsigned char *p, int blocks)
{
    (void)blocks;
    struct unit u;
    __m512i a = load_twice(p), b = _mm512_broadcast_i32x4(load_128(p + 32));
    __m512i c = _mm512_set1_epi32((int)load_u32(p + 48));
    /* 32 bytes of the first 32 five times; the 16 behind them five times; four bytes four times */
    __m512i mixed = _mm512_inserti64x4(b, _mm512_castsi512_si256(a), 0), last = _mm512_mask_blend_epi64(0xC0, b, c);
#define FACTORS(a, b, c, d) _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_setr_m128i(_mm_set1_epi16(a), _mm_set1_epi16(b))), \
                                               _mm256_setr_m128i(_mm_set1_epi16(c), _mm_set1_epi16(d)), 1)
    const __m512i last_factors = _mm512_mullo_epi32(_mm512_setr_epi32(9, 9, 9, 9, 27, 27, 27, 27, 81, 81, 81, 81, 1, 3, 9, 27), _mm512_set1_epi32(0x10001));
    u.code[0] = digit(powers(a, FACTORS(1, 1, 3, 3)));
    u.code[1] = digit(powers(a, FACTORS(9, 9, 27, 27)));
    u.code[2] = digit(powers(mixed, FACTORS(81, 81, 1, 3)));
    u.code[3] = digit(powers(last, last_factors));
#undef FACTORS
    u.scale = half_everywhere(p + 52);
    return u;
}

/* Behind the last block of a row nothing is read: what is there of a unit goes into a buffer of zeros. */
INLINE const unsigned char *whole_unit(const unsigned char *p, int bytes_there, int unit_bytes, unsigned char *buffer)
{
    if (bytes_there == unit_bytes)
        return p;
    memset(buffer, 0, (size_t)unit_bytes);
    return memcpy(buffer, p, (size_t)bytes_there);
}

INLINE struct unit decode_q1_0(const unsigned char *p, int blocks)
{
    struct unit u;
    unsigned char buffer[36];
    p = whole_unit(p, blocks / 4 * 18, 36, buffer);
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++)
        u.code[k] = _mm512_maskz_mov_epi8(load_64(p + 2 + k / 2 * 18 + k % 2 * 8), bytes(2));
    u.scale = _mm512_mask_blend_ps(0xF0, half_everywhere(p), half_everywhere(p + 18));
    return u;
}

INLINE struct unit decode_q2_0(const unsigned char *p, int blocks)
{
    struct unit u;
    unsigned char buffer[72];
    p = whole_unit(p, blocks / 2 * 18, 72, buffer);
    __m512 d[4];
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        __m512i v = _mm512_cvtepu8_epi32(load_128(p + 2 + 18 * k));
        u.code[k] = _mm512_and_si512(_mm512_multishift_epi64_epi8(EIGHT(0, 2, 4, 6, 32, 34, 36, 38), v), bytes(3));
        d[k] = half_everywhere(p + 18 * k);
    }
    u.scale = _mm512_mask_blend_ps(0xF0, _mm512_mask_blend_ps(0xC, d[0], d[1]), _mm512_mask_blend_ps(0xC0, d[2], d[3]));
    return u;
}

/* ---- 4-bit floats ---------------------------------------------------------------------------------------------------- */

/* nibbles -> doubled values, + 12 */
INLINE __m512i fp4_codes(__m512i nibbles)
{
    const __m512i table = _mm512_broadcast_i32x4(_mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0));
    return _mm512_shuffle_epi8(table, nibbles);
}

INLINE struct unit decode_mxfp4(const unsigned char *p, int blocks)
{
    struct unit u;
    unsigned char buffer[136];
    p = whole_unit(p, blocks * 17, 136, buffer);
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++)
        u.code[k] = fp4_codes(nibbles_of_two(load_128(p + 34 * k + 1), load_128(p + 34 * k + 18)));
    /* half of 2^(e - 127): e - 1 becomes the exponent; 0 and 1 are subnormals */
    const __m512i at = _mm512_castsi128_si512(_mm_setr_epi8(0, 17, 34, 51, 68, 85, 102, 119, 0, 0, 0, 0, 0, 0, 0, 0));
    __m256i e = _mm256_cvtepu8_epi32(_mm512_castsi512_si128(_mm512_permutex2var_epi8(_mm512_loadu_si512(p), at, _mm512_loadu_si512(p + 64))));
    __m256i bits = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
    bits = _mm256_mask_sllv_epi32(bits, _mm256_cmplt_epi32_mask(e, _mm256_set1_epi32(2)), _mm256_set1_epi32(0x00200000), e);
    u.scale = eight(_mm256_castsi256_ps(bits));
    return u;
}

INLINE struct unit decode_nvfp4(const unsigned char *p, int blocks)
{
    struct unit u;
    unsigned char buffer[144];
    p = whole_unit(p, blocks / 2 * 36, 144, buffer);
    const __m512i pairs = _mm512_setr_epi64(0, 0, 1, 1, 2, 2, 3, 3), by = _mm512_setr_epi64(0, 4, 0, 4, 0, 4, 0, 4);
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        __m512i v = _mm512_permutexvar_epi64(pairs, _mm512_castsi256_si512(load_256(p + 36 * k + 4)));
        u.code[k] = fp4_codes(_mm512_and_si512(_mm512_srlv_epi64(v, by), bytes(15)));
    }
    __m512i s = _mm512_cvtepu8_epi32(_mm_setr_epi32((int)load_u32(p), (int)load_u32(p + 36), (int)load_u32(p + 72), (int)load_u32(p + 108)));
    s = _mm512_and_si512(s, _mm512_set1_epi32(0x7F)); /* see ue4m3_half */
    s = _mm512_maskz_slli_epi32(_mm512_cmplt_epi32_mask(s, _mm512_set1_epi32(0x7F)), s, 20);
    u.scale = _mm512_mul_ps(_mm512_castsi512_ps(s), _mm512_set1_ps(0x1p119f));
    return u;
}

/* as UNIT_FORMATS */
#define IQ_FORMATS(X)                                                                                                       \
    X(iq2_xxs, IQ2_XXS, 66, 32, 0, 0) X(iq2_xs, IQ2_XS, 74, 16, 0, 43) X(iq3_xxs, IQ3_XXS, 98, 32, 0, 0) X(iq3_s, IQ3_S, 110, 32, 0, 0) \
    X(tq1_0, TQ1_0, 54, 32, 0, 0) X(tq2_0, TQ2_0, 66, 32, 0, 0) X(mxfp4, MXFP4, 136, 32, 0, 0) X(nvfp4, NVFP4, 144, 16, 0, 12)  \
    X(q1_0, Q1_0, 36, 32, 0, 0) X(q2_0, Q2_0, 72, 32, 0, 0)
/* those of few_iq.c */
#define PAIR_FORMATS(X) X(iq2_s, IQ2_S, 82, 16, 0, 43) X(iq1_s, IQ1_S, 50, 32, 0, 0) X(iq1_m, IQ1_M, 56, 16, 0, 9)

#endif
