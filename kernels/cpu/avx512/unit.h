/* A unit of 256 weights in registers: unsigned codes in their natural order, and per GROUP weights (16 or 32) a scale:
 *     weight = scale * (code - OFFSET)        formats without minimums
 *     weight = scale * code + min             formats with minimums
 * Eight scales lie in the lower half of their register, over zeros. `blocks` < 8 only for the last unit of a row of 32-blocks: nothing behind the
 * row is read, missing codes and scales are zero. The layouts are drawn in kernels/formats/X.c. */
#ifndef KERNELS_CPU_AVX512_UNIT_H
#define KERNELS_CPU_AVX512_UNIT_H

#include <immintrin.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/wide/lanes.h"

struct unit {
    __m512i code[4];
    __m512 scale, min; /* [UNIT / GROUP]; min: only where the format has minimums */
};
typedef struct unit decode_function(const unsigned char *p, int blocks);

struct shape { /* of a format */
    int unit_bytes, offset, group;
    bool min;
    int largest; /* of |code - offset|; with minimums, of the codes; 0 where nobody asks (many.c) */
};

enum {
    Q8_0_OFFSET = 128,
    Q3_K_OFFSET = 4,
    Q6_K_OFFSET = 32,
    IQ4_XS_OFFSET = 128,
    Q2_K_OFFSET = 0,
    Q4_K_OFFSET = 0,
    Q5_K_OFFSET = 0,
    Q4_0_OFFSET = 8,
    Q4_1_OFFSET = 0,
    Q5_0_OFFSET = 16,
    Q5_1_OFFSET = 0,
    IQ4_NL_OFFSET = 128,
};

INLINE __m256i load_256(const unsigned char *p) { return _mm256_loadu_si256((const __m256i *)(const void *)p); }
INLINE __m128i load_128(const unsigned char *p) { return _mm_loadu_si128((const __m128i *)(const void *)p); }
/* 32 bytes in both halves */
INLINE __m512i load_twice(const unsigned char *p) { return _mm512_broadcast_i64x4(load_256(p)); }

/* words of the lower half shifted right by a, of the upper half by b */
INLINE __m512i shifts(int a, int b) { return _mm512_inserti64x4(_mm512_set1_epi16((short)a), _mm256_set1_epi16((short)b), 1); }
INLINE __m512i bytes(int v) { return _mm512_set1_epi8((char)v); }
/* bytes of the lower half a, of the upper half b */
INLINE __m512i halves(int a, int b) { return _mm512_inserti64x4(_mm512_set1_epi8((char)a), _mm256_set1_epi8((char)b), 1); }

INLINE __m512 eight(__m256 v) { return _mm512_zextps256_ps512(v); }
INLINE __m256 floats_of_bytes(uint64_t eight) { return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)eight))); }

/* The scales of four blocks of Q8_0 in the lowest words: 0, 34, 68 and 102 bytes from p. */
INLINE __m128i four_scales(const unsigned char *p)
{
    const __m512i words = _mm512_zextsi128_si512(_mm_setr_epi16(0, 17, 34, 51, 0, 0, 0, 0));
    return _mm512_castsi512_si128(_mm512_permutex2var_epi16(_mm512_loadu_si512(p), words, _mm512_loadu_si512(p + 64)));
}

INLINE struct unit decode_q8_0(const unsigned char *p, int blocks)
{
    struct unit u;
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) { /* two blocks: 2 + 32 + 2 + 32 bytes; a masked load brings the upper half into place */
        const unsigned char *q = p + 68 * k;
        __m512i v = _mm512_setzero_si512();
        if (2 * k < blocks)
            v = _mm512_zextsi256_si512(load_256(q + 2));
        if (2 * k + 1 < blocks)
            v = _mm512_mask_loadu_epi64(v, 0xF0, q + 4);
        u.code[k] = _mm512_xor_si512(v, bytes(0x80));
    }
    u.scale = eight(blocks == 8 ? _mm256_cvtph_ps(_mm_unpacklo_epi64(four_scales(p), four_scales(p + 136))) : halves_at(p, 34, blocks));
    return u;
}

/* 16 bytes of nibbles of each of two blocks -> 64 codes */
INLINE __m512i nibbles_of_two(__m128i first, __m128i second)
{
    __m512i v = _mm512_inserti64x4(_mm512_zextsi256_si512(_mm256_broadcastsi128_si256(first)), _mm256_broadcastsi128_si256(second), 1);
    const __m512i by = _mm512_broadcast_i64x4(_mm256_inserti128_si256(_mm256_setzero_si256(), _mm_set1_epi16(4), 1));
    return _mm512_and_si512(_mm512_srlv_epi16(v, by), bytes(15));
}

/* The formats of 32 weights with 16 bytes of nibbles: `header` bytes before them, `step` from block to block. */
INLINE struct unit decode_nibbles(const unsigned char *p, int blocks, int step, int header, int high_at, bool has_min)
{
    struct unit u;
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        const unsigned char *q = p + 2 * k * step;
        __m128i first = 2 * k < blocks ? load_128(q + header) : _mm_setzero_si128();
        __m128i second = 2 * k + 1 < blocks ? load_128(q + step + header) : _mm_setzero_si128();
        u.code[k] = nibbles_of_two(first, second);
        if (high_at) {
            uint64_t high = 2 * k < blocks ? load_u32(q + high_at) : 0;
            high |= 2 * k + 1 < blocks ? (uint64_t)load_u32(q + step + high_at) << 32 : 0;
            u.code[k] = _mm512_mask_add_epi8(u.code[k], high, u.code[k], bytes(16));
        }
    }
    u.scale = eight(halves_at(p, step, blocks));
    if (has_min)
        u.min = eight(halves_at(p + 2, step, blocks));
    return u;
}

INLINE struct unit decode_q4_0(const unsigned char *p, int blocks) { return decode_nibbles(p, blocks, 18, 2, 0, false); }
INLINE struct unit decode_q4_1(const unsigned char *p, int blocks) { return decode_nibbles(p, blocks, 20, 4, 0, true); }
INLINE struct unit decode_q5_0(const unsigned char *p, int blocks) { return decode_nibbles(p, blocks, 22, 6, 2, false); }
INLINE struct unit decode_q5_1(const unsigned char *p, int blocks) { return decode_nibbles(p, blocks, 24, 8, 4, true); }

/* codes of the IQ4 formats, + 128 */
INLINE __m512i iq4_values(__m512i index)
{
    static const int8_t table[16] __attribute__((aligned(16))) = IQ4_VALUES;
    __m512i t = _mm512_broadcast_i32x4(_mm_load_si128((const __m128i *)(const void *)table));
    return _mm512_xor_si512(_mm512_shuffle_epi8(t, index), bytes(0x80));
}

INLINE struct unit decode_iq4_nl(const unsigned char *p, int blocks)
{
    struct unit u = decode_nibbles(p, blocks, 18, 2, 0, false);
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++)
        u.code[k] = iq4_values(u.code[k]);
    return u;
}

INLINE struct unit decode_iq4_xs(const unsigned char *p, int blocks)
{
    (void)blocks;
    struct unit u;
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++)
        u.code[k] = iq4_values(nibbles_of_two(load_128(p + 8 + 32 * k), load_128(p + 24 + 32 * k)));
    /* scales: four low bits each in 4 bytes, two upper bits each in a word */
    __m256i low = _mm256_srlv_epi32(_mm256_set1_epi32((int)load_u32(p + 4)), _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
    __m256i high = _mm256_srlv_epi32(_mm256_set1_epi32(load_u16(p + 2)), _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14));
    __m256i s = _mm256_or_si256(_mm256_and_si256(low, _mm256_set1_epi32(15)), _mm256_slli_epi32(_mm256_and_si256(high, _mm256_set1_epi32(3)), 4));
    __m256 d = _mm256_set1_ps(_cvtsh_ss(load_u16(p)));
    u.scale = eight(_mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_sub_epi32(s, _mm256_set1_epi32(32)))));
    return u;
}

/* Scales and minimums of Q4_K and Q5_K (k_scales in formats/small.h, four bytes at a time). */
INLINE void decode_k_scales(const unsigned char *p, struct unit *u)
{
    uint32_t a = load_u32(p + 4), b = load_u32(p + 8), c = load_u32(p + 12);
    uint64_t scale = (uint64_t)(a & 0x3F3F3F3F) | (uint64_t)((c & 0x0F0F0F0F) | (a >> 2 & 0x30303030)) << 32;
    uint64_t min = (uint64_t)(b & 0x3F3F3F3F) | (uint64_t)((c >> 4 & 0x0F0F0F0F) | (b >> 2 & 0x30303030)) << 32;
    __m128 d = _mm_cvtph_ps(_mm_cvtsi32_si128((int)load_u32(p)));
    u->scale = eight(_mm256_mul_ps(floats_of_bytes(scale), _mm256_broadcastss_ps(d)));
    u->min = eight(_mm256_mul_ps(floats_of_bytes(min), _mm256_broadcastss_ps(_mm_sub_ps(_mm_setzero_ps(), _mm_movehdup_ps(d)))));
}

INLINE struct unit decode_q4_k(const unsigned char *p, int blocks)
{
    (void)blocks;
    struct unit u;
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++)
        u.code[k] = _mm512_and_si512(_mm512_srlv_epi16(load_twice(p + 16 + 32 * k), shifts(0, 4)), bytes(15));
    decode_k_scales(p, &u);
    return u;
}

INLINE struct unit decode_q5_k(const unsigned char *p, int blocks)
{
    (void)blocks;
    struct unit u;
    __m512i high = load_twice(p + 16);
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        __m512i low = _mm512_and_si512(_mm512_srlv_epi16(load_twice(p + 48 + 32 * k), shifts(0, 4)), bytes(15));
        __mmask64 fifth = _mm512_test_epi8_mask(high, halves(1 << (2 * k), 2 << (2 * k)));
        u.code[k] = _mm512_mask_add_epi8(low, fifth, low, bytes(16));
    }
    decode_k_scales(p, &u);
    return u;
}

INLINE struct unit decode_q6_k(const unsigned char *p, int blocks)
{
    (void)blocks;
    struct unit u;
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        __m512i low = _mm512_loadu_si512(p + 64 * h), high = load_twice(p + 128 + 32 * h);
        /* bits 0-1 and 2-3 of the high bytes go to bits 4-5; bits 4-5 lie there; bits 6-7 come down by two */
        __m512i a = _mm512_and_si512(_mm512_sllv_epi16(high, shifts(4, 2)), bytes(0x30));
        __m512i b = _mm512_and_si512(_mm512_srlv_epi16(high, shifts(0, 2)), bytes(0x30));
        u.code[2 * h] = _mm512_or_si512(_mm512_and_si512(low, bytes(15)), a);
        u.code[2 * h + 1] = _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi16(low, 4), bytes(15)), b);
    }
    __m512 d = _mm512_set1_ps(_cvtsh_ss(load_u16(p + 208)));
    u.scale = _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load_128(p + 192))));
    return u;
}

/* two bits of each byte, four times: 128 weights of Q2_K and Q3_K */
INLINE void two_bits(const unsigned char *p, __m512i out[2])
{
    __m512i v = load_twice(p);
    out[0] = _mm512_and_si512(_mm512_srlv_epi16(v, shifts(0, 2)), bytes(3));
    out[1] = _mm512_and_si512(_mm512_srlv_epi16(v, shifts(4, 6)), bytes(3));
}

INLINE struct unit decode_q2_k(const unsigned char *p, int blocks)
{
    (void)blocks;
    struct unit u;
    two_bits(p + 16, u.code);
    two_bits(p + 48, u.code + 2);
    __m512i s = _mm512_cvtepu8_epi32(load_128(p));
    __m512 d = _mm512_set1_ps(_cvtsh_ss(load_u16(p + 80))), dmin = _mm512_set1_ps(-_cvtsh_ss(load_u16(p + 82)));
    u.scale = _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_and_si512(s, _mm512_set1_epi32(15))));
    u.min = _mm512_mul_ps(dmin, _mm512_cvtepi32_ps(_mm512_srli_epi32(s, 4)));
    return u;
}

INLINE struct unit decode_q3_k(const unsigned char *p, int blocks)
{
    (void)blocks;
    struct unit u;
    __m512i third = load_twice(p);
    two_bits(p + 32, u.code);
    two_bits(p + 64, u.code + 2);
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        __mmask64 m = _mm512_test_epi8_mask(third, halves(1 << (2 * k), 2 << (2 * k)));
        u.code[k] = _mm512_mask_add_epi8(u.code[k], m, u.code[k], bytes(4));
    }
    /* scales: nibbles of 8 bytes (low ones first), upper two bits in 4 bytes, bits 2 * (s / 4) of byte s % 4 */
    __m128i low = _mm_loadl_epi64((const __m128i *)(const void *)(p + 96));
    low = _mm_and_si128(_mm_unpacklo_epi64(low, _mm_srli_epi16(low, 4)), _mm_set1_epi8(15));
    __m128i high = _mm_srlv_epi32(_mm_set1_epi32((int)load_u32(p + 104)), _mm_setr_epi32(0, 2, 4, 6));
    high = _mm_slli_epi16(_mm_and_si128(high, _mm_set1_epi8(3)), 4);
    __m512i s = _mm512_sub_epi32(_mm512_cvtepu8_epi32(_mm_or_si128(low, high)), _mm512_set1_epi32(32));
    u.scale = _mm512_mul_ps(_mm512_set1_ps(_cvtsh_ss(load_u16(p + 108))), _mm512_cvtepi32_ps(s));
    return u;
}

/* Of struct shape: bytes, group, min, largest */
#define UNIT_FORMATS(X)                                                                                                      \
    X(q8_0, Q8_0, 272, 32, 0, 0) X(q2_k, Q2_K, 84, 16, 1, 3) X(q3_k, Q3_K, 110, 16, 0, 4) X(q4_k, Q4_K, 144, 32, 1, 15)        \
    X(q5_k, Q5_K, 176, 32, 1, 31) X(q6_k, Q6_K, 210, 16, 0, 32) X(iq4_xs, IQ4_XS, 136, 32, 0, 0)
/* the others have an order of their own in nibble.c */
#define NIBBLE_FORMATS(X)                                                                                                   \
    X(q4_0, Q4_0, 144, 32, 0, 0) X(q4_1, Q4_1, 160, 32, 1, 15) X(q5_0, Q5_0, 176, 32, 0, 0) X(q5_1, Q5_1, 192, 32, 1, 31)     \
    X(iq4_nl, IQ4_NL, 144, 32, 0, 0)

#endif
