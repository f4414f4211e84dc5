/* unpack.h's functions for the types with codebooks, the ternary ones and those of 4-bit floats. A weight of IQ1 is 8 * grid
 * plus or minus 1, times an eighth of its scale. Codes below 0 where a type has none never appear: every bit pattern of an
 * index is inside its grid. */
#ifndef KERNELS_CPU_WIDE_UNPACK_IQ_H
#define KERNELS_CPU_WIDE_UNPACK_IQ_H

#include "kernels/cpu/wide/unpack.h"
#include "kernels/formats/fp4.h"
#include "kernels/formats/grids.h"

enum {
    IQ2_XXS_GROUP = 32, IQ2_XXS_MIN = 0,
    IQ2_XS_GROUP = 16, IQ2_XS_MIN = 0,
    IQ2_S_GROUP = 16, IQ2_S_MIN = 0,
    IQ3_XXS_GROUP = 32, IQ3_XXS_MIN = 0,
    IQ3_S_GROUP = 32, IQ3_S_MIN = 0,
    IQ1_S_GROUP = 32, IQ1_S_MIN = 0,
    IQ1_M_GROUP = 16, IQ1_M_MIN = 0,
    TQ1_0_GROUP = 32, TQ1_0_MIN = 0,
    TQ2_0_GROUP = 32, TQ2_0_MIN = 0,
    MXFP4_GROUP = 32, MXFP4_MIN = 0,
    NVFP4_GROUP = 16, NVFP4_MIN = 0,
    Q1_0_GROUP = 32, Q1_0_MIN = 0,
    Q2_0_GROUP = 32, Q2_0_MIN = 0,
};

INLINE uint64_t load_u64(const unsigned char *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* ---- signs ----------------------------------------------------------------------------------------------------------- */

/* even_signs() of four times 7 bits, a byte each: bit 0 of the folded word is the parity of its own byte alone */
INLINE uint32_t even_signs_of_four(uint32_t bits)
{
    uint32_t x = (bits & 0x7F) | (bits & 0x3F80) << 1 | (bits & 0x1FC000) << 2 | (bits & 0xFE00000) << 3, fold = x ^ x >> 4;
    fold ^= fold >> 2;
    fold ^= fold >> 1;
    return x | (fold & 0x01010101) << 7;
}

/* The same for all 8 words of a unit. */
INLINE void even_signs_of_unit(const uint32_t bits[8], uint32_t signs[8])
{
    for (int s = 0; s < 8; s++)
        signs[s] = even_signs_of_four(bits[s]);
}

#if defined(__AVX2__)
/* 0xFF in byte j where bit j is set */
INLINE __m256i bytes_of_bits(uint32_t bits)
{
    const __m256i byte = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
    const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201);
    return _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32((int)bits), byte), bit), bit);
}

/* 32 codes from four groups of 8, negative where a bit of signs is set */
INLINE void put_signed(const uint64_t eight[4], uint32_t signs, int8_t *code)
{
    __m256i v = _mm256_set_epi64x((long long)eight[3], (long long)eight[2], (long long)eight[1], (long long)eight[0]);
    __m256i minus = bytes_of_bits(signs);
    _mm256_storeu_si256((__m256i *)(void *)code, _mm256_sub_epi8(_mm256_xor_si256(v, minus), minus));
}
#else
/* 1 in byte j where bit j of eight is set */
INLINE uint64_t ones_of_bits(uint32_t eight)
{
    uint64_t x = (eight & 0xFF) * 0x0101010101010101u & 0x8040201008040201u;
    return (((x & 0x7F7F7F7F7F7F7F7Fu) + 0x7F7F7F7F7F7F7F7Fu) | x) >> 7 & 0x0101010101010101u;
}

INLINE void put_signed(const uint64_t eight[4], uint32_t signs, int8_t *code)
{
    for (int i = 0; i < 4; i++, signs >>= 8, code += 8) { /* no code is 0, so adding 1 never carries */
        uint64_t minus = ones_of_bits(signs), v = (eight[i] ^ minus * 0xFF) + minus;
        memcpy(code, &v, 8);
    }
}
#endif

/* ---- scales and indices ---------------------------------------------------------------------------------------------- */

/* What a unit's 8 groups have of each kind, in one vector of 8 numbers. */
typedef uint32_t v8u __attribute__((vector_size(32)));
typedef uint32_t v8u_at __attribute__((vector_size(32), aligned(1), may_alias)); /* a copy in two halves would not forward to one load */
typedef int32_t v8i __attribute__((vector_size(32)));
typedef float v8f __attribute__((vector_size(32)));
INLINE void put_floats(float *to, const v8u *codes, float factor, float plus)
{
    *(v8u_at *)to = (v8u)((__builtin_convertvector((v8i)*codes, v8f) + plus) * factor);
}

/* nibbles of 8 bytes, low ones first: (nibble + 1/2) * d */
INLINE void nibble_scales(uint64_t nibbles, float d, float *scale)
{
    const v8u by = {0, 4, 8, 12, 16, 20, 24, 28}, half[2] = {(uint32_t)nibbles >> by & 15, (uint32_t)(nibbles >> 32) >> by & 15};
    put_floats(scale, half, d, 0.5f);
    put_floats(scale + 8, half + 1, d, 0.5f);
}

/* the upper four bits: (bits + 1/2) * d */
INLINE void scales_above_signs(const uint32_t bits[8], float d, float *scale)
{
    v8u upper = *(const v8u_at *)bits >> 28;
    put_floats(scale, &upper, d, 0.5f);
}

/* even_signs() of the upper 7 bits of 32 words */
INLINE void signs_above_indices(const unsigned char *from, uint32_t signs[8])
{
#if defined(__AVX2__)
    __m256i a = _mm256_srli_epi16(_mm256_loadu_si256((const __m256i *)(const void *)from), 9);
    __m256i b = _mm256_srli_epi16(_mm256_loadu_si256((const __m256i *)(const void *)(from + 32)), 9);
    __m256i x = _mm256_permute4x64_epi64(_mm256_packus_epi16(a, b), 0xD8), fold = _mm256_xor_si256(x, _mm256_srli_epi16(x, 4));
    fold = _mm256_xor_si256(fold, _mm256_srli_epi16(fold, 2));
    fold = _mm256_xor_si256(fold, _mm256_srli_epi16(fold, 1)); /* bit 0 of each byte is its parity */
    x = _mm256_or_si256(x, _mm256_and_si256(_mm256_slli_epi16(fold, 7), _mm256_set1_epi8((char)0x80)));
    _mm256_storeu_si256((__m256i *)(void *)signs, x);
#else
    for (int s = 0; s < 8; s++) {
        uint64_t w = load_u64(from + 8 * s);
        signs[s] = even_signs_of_four((uint32_t)(w >> 9 & 0x7F) | (uint32_t)(w >> 18 & 0x3F80) | (uint32_t)(w >> 27 & 0x1FC000) | (uint32_t)(w >> 36 & 0xFE00000));
    }
#endif
}

/* Eight indices: bytes, and above them what is in `high` */
INLINE void put_indices(const unsigned char *low, const v8u *high, uint32_t *index)
{
#if defined(__AVX2__)
    v8u bytes = (v8u)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)low));
#else
    v8u bytes = {low[0], low[1], low[2], low[3], low[4], low[5], low[6], low[7]};
#endif
    *(v8u_at *)index = bytes | *high;
    __asm__("" : "+m"(*(uint32_t(*)[8])index)); /* to be read from there: taking numbers out of a register one by one costs more */
}

/* 32 indices of points of 8 weights. group: 8 numbers of four fields, `field` bits apart, whose bits of mask >> 8 continue an
 * index. */
INLINE void put_point_indices(const unsigned char *low, const uint32_t group[8], unsigned field, uint32_t mask, uint32_t index[32])
{
    const v8u by = {0, field, 2 * field, 3 * field, 0, field, 2 * field, 3 * field};
    for (int k = 0; k < 4; k++) {
        uint32_t a = group[2 * k] << 8, b = group[2 * k + 1] << 8;
        v8u high = (v8u){a, a, a, a, b, b, b, b} >> by & mask;
        put_indices(low + 8 * k, &high, index + 8 * k);
    }
}

/* ---- codebooks ------------------------------------------------------------------------------------------------------- */

INLINE void unpack_iq2_xxs(const unsigned char *restrict from, int n, int8_t *restrict code, float *restrict scale, float *restrict min)
{
    (void)n, (void)min;
    uint32_t bits[8], signs[8];
    for (int s = 0; s < 8; s++)
        bits[s] = load_u32(from + 6 + 8 * s);
    scales_above_signs(bits, half_at(from) / 4, scale);
    even_signs_of_unit(bits, signs);
    for (int s = 0; s < 8; s++) {
        const unsigned char *p = from + 2 + 8 * s;
        put_signed((uint64_t[]){grid_iq2_xxs[p[0]], grid_iq2_xxs[p[1]], grid_iq2_xxs[p[2]], grid_iq2_xxs[p[3]]}, signs[s], code + 32 * s);
    }
}

INLINE void unpack_iq2_xs(const unsigned char *restrict from, int n, int8_t *restrict code, float *restrict scale, float *restrict min)
{
    (void)n, (void)min;
    uint32_t signs[8];
    nibble_scales(load_u64(from + 66), half_at(from) / 4, scale);
    signs_above_indices(from + 2, signs);
    for (int s = 0; s < 8; s++) {
        uint64_t w = load_u64(from + 2 + 8 * s);
        put_signed((uint64_t[]){grid_iq2_xs[w & 511], grid_iq2_xs[w >> 16 & 511], grid_iq2_xs[w >> 32 & 511], grid_iq2_xs[w >> 48 & 511]}, signs[s],
                   code + 32 * s);
    }
}

INLINE void unpack_iq2_s(const unsigned char *restrict from, int n, int8_t *restrict code, float *restrict scale, float *restrict min)
{
    (void)n, (void)min;
    uint32_t group[8], index[32];
    nibble_scales(load_u64(from + 74), half_at(from) / 4, scale);
    for (int s = 0; s < 8; s++)
        group[s] = from[66 + s];
    put_point_indices(from + 2, group, 2, 0x300, index);
    for (int s = 0; s < 8; s++) {
        const uint32_t *i = index + 4 * s;
        put_signed((uint64_t[]){grid_iq2_s[i[0]], grid_iq2_s[i[1]], grid_iq2_s[i[2]], grid_iq2_s[i[3]]}, load_u32(from + 34 + 4 * s), code + 32 * s);
    }
}

INLINE uint64_t two_points(const uint32_t *grid, unsigned first, unsigned second)
{
#if defined(__AVX2__) /* the second goes straight from memory into the vector */
    return (uint64_t)_mm_cvtsi128_si64(_mm_insert_epi32(_mm_cvtsi32_si128((int)grid[first]), (int)grid[second], 1));
#else
    return grid[first] | (uint64_t)grid[second] << 32;
#endif
}

INLINE void unpack_iq3_xxs(const unsigned char *restrict from, int n, int8_t *restrict code, float *restrict scale, float *restrict min)
{
    (void)n, (void)min;
    uint32_t bits[8], signs[8];
    *(v8u_at *)bits = *(const v8u_at *)(from + 66);
    scales_above_signs(bits, half_at(from) / 2, scale);
    even_signs_of_unit(bits, signs);
    for (int s = 0; s < 8; s++) {
        const unsigned char *p = from + 2 + 8 * s;
        put_signed((uint64_t[]){two_points(grid_iq3_xxs, p[0], p[1]), two_points(grid_iq3_xxs, p[2], p[3]), two_points(grid_iq3_xxs, p[4], p[5]),
                                two_points(grid_iq3_xxs, p[6], p[7])},
                   signs[s], code + 32 * s);
    }
}

INLINE void unpack_iq3_s(const unsigned char *restrict from, int n, int8_t *restrict code, float *restrict scale, float *restrict min)
{
    (void)n, (void)min;
    const v8u by = {0, 4, 8, 12, 16, 20, 24, 28}, scales = (load_u32(from + 106) >> by & 15) << 1, bit = {8, 7, 6, 5, 4, 3, 2, 1};
    put_floats(scale, &scales, half_at(from), 1);
    for (int s = 0; s < 8; s++) {
        v8u high = (uint32_t)from[66 + s] << bit & 0x100;
        uint32_t i[8];
        put_indices(from + 2 + 8 * s, &high, i);
        put_signed((uint64_t[]){two_points(grid_iq3_s, i[0], i[1]), two_points(grid_iq3_s, i[2], i[3]), two_points(grid_iq3_s, i[4], i[5]),
                                two_points(grid_iq3_s, i[6], i[7])},
                   load_u32(from + 74 + 4 * s), code + 32 * s);
    }
}

/* 32 codes of IQ1 from four points and what is added to them, in all bytes: -9 or -7, as 8 * (grid + 1) is stored */
typedef int8_t v32 __attribute__((vector_size(32), aligned(1), may_alias));
typedef uint64_t v4_points __attribute__((vector_size(32)));
INLINE void put_shifted(const uint32_t index[4], uint64_t a, uint64_t b, uint64_t c, uint64_t d, int8_t *code)
{
    v4_points points = {grid_iq1_s[index[0]], grid_iq1_s[index[1]], grid_iq1_s[index[2]], grid_iq1_s[index[3]]}, shift = {a, b, c, d};
    *(v32 *)(void *)code = (v32)points + (v32)shift;
}
static const uint64_t shifts_iq1[2] __attribute__((unused)) = {0xF9F9F9F9F9F9F9F9, 0xF7F7F7F7F7F7F7F7};

INLINE void unpack_iq1_s(const unsigned char *restrict from, int n, int8_t *restrict code, float *restrict scale, float *restrict min)
{
    (void)n, (void)min;
    uint32_t group[8], index[32];
    for (int s = 0; s < 8; s++)
        group[s] = load_u16(from + 34 + 2 * s);
    put_point_indices(from + 2, group, 3, 0x700, index);
    v8u scales = *(const v8u_at *)group >> 11 & 14;
    put_floats(scale, &scales, half_at(from) / 8, 1);
    for (int s = 0; s < 8; s++) {
        uint64_t shift = shifts_iq1[group[s] >> 15];
        put_shifted(index + 4 * s, shift, shift, shift, shift, code + 32 * s);
    }
}

INLINE void unpack_iq1_m(const unsigned char *restrict from, int n, int8_t *restrict code, float *restrict scale, float *restrict min)
{
    (void)n, (void)min;
    uint32_t group[8], index[32];
    uint64_t words = load_u64(from + 48);
    float d = half_to_float(iq1_m_half(from)) / 8;
    const v8u by = {0, 3, 6, 9, 16, 19, 22, 25}, scales[2] = {((uint32_t)words >> by & 7) << 1, ((uint32_t)(words >> 32) >> by & 7) << 1};
    put_floats(scale, scales, d, 1);
    put_floats(scale + 8, scales + 1, d, 1);
    for (int s = 0; s < 8; s++)
        group[s] = load_u16(from + 32 + 2 * s);
    put_point_indices(from, group, 4, 0x700, index);
    for (int s = 0; s < 8; s++) {
        uint32_t g = group[s];
        put_shifted(index + 4 * s, shifts_iq1[g >> 3 & 1], shifts_iq1[g >> 7 & 1], shifts_iq1[g >> 11 & 1], shifts_iq1[g >> 15], code + 32 * s);
    }
}

/* ---- ternary --------------------------------------------------------------------------------------------------------- */

INLINE void same_scales(float *scale, float d, int count)
{
    for (int s = 0; s < count; s++)
        scale[s] = d;
}

/* A byte's next digit is byte * 3 >> 8, which is how many of 85 and 170 it is above; less 1. As signed bytes, which compare
 * faster. */
typedef int8_t v16s __attribute__((vector_size(16), aligned(1), may_alias));
INLINE v16s ternary_digit(v16 bytes)
{
    v16s moved = (v16s)(bytes ^ 0x80);
    return -1 - (v16s)(moved > 85 - 128) - (v16s)(moved > 170 - 128);
}

INLINE void unpack_tq1_0(const unsigned char *restrict from, int n, int8_t *restrict code, float *restrict scale, float *restrict min)
{
    (void)n, (void)min;
    same_scales(scale, half_at(from + 52), 8);
    for (int run = 0; run < 3; run++) {
        v16 bytes = *(const v16 *)(from + 16 * run);
        int8_t *to = code + (run < 2 ? 16 * run : 160);
        for (int k = 0; k < 5; k++, bytes = bytes + bytes + bytes, to += run < 2 ? 32 : 16)
            *(v16s *)(void *)to = ternary_digit(bytes);
    }
    const v16 power = {1, 1, 1, 1, 3, 3, 3, 3, 9, 9, 9, 9, 27, 27, 27, 27};
    typedef uint32_t v4u __attribute__((vector_size(16)));
    uint32_t last = load_u32(from + 48);
    *(v16s *)(void *)(code + 240) = ternary_digit((v16)(v4u){last, last, last, last} * power);
}

INLINE void unpack_tq2_0(const unsigned char *restrict from, int n, int8_t *restrict code, float *restrict scale, float *restrict min)
{
    (void)n, (void)min;
    same_scales(scale, half_at(from + 64), 8);
    for (int run = 0; run < 4; run++) {
        v16 bytes = *(const v16 *)(from + 16 * run);
        for (int k = 0; k < 4; k++, bytes >>= 2)
            *(v16 *)(void *)(code + run / 2 * 128 + run % 2 * 16 + 32 * k) = (bytes & 3) - 1;
    }
}

INLINE void unpack_q1_0(const unsigned char *restrict from, int n, int8_t *restrict code, float *restrict scale, float *restrict min)
{
    (void)min;
    for (int b = 0; b < n / 128; b++, from += 18, code += 128) {
        same_scales(scale + 4 * b, half_at(from), 4);
        for (int k = 0; k < 4; k++) {
#if defined(__AVX2__)
            __m256i zeros = bytes_of_bits(~load_u32(from + 2 + 4 * k));
            _mm256_storeu_si256((__m256i *)(void *)(code + 32 * k), _mm256_or_si256(zeros, _mm256_set1_epi8(1)));
#else
            for (int i = 0; i < 4; i++) {
                uint64_t v = ones_of_bits(~(uint32_t)from[2 + 4 * k + i]) * 0xFF | 0x0101010101010101u;
                memcpy(code + 32 * k + 8 * i, &v, 8);
            }
#endif
        }
    }
}

INLINE void unpack_q2_0(const unsigned char *restrict from, int n, int8_t *restrict code, float *restrict scale, float *restrict min)
{
    (void)min;
    for (int b = 0; b < n / 64; b++, from += 18, code += 64) {
        same_scales(scale + 2 * b, half_at(from), 2);
        for (int i = 0; i < 16; i++) { /* codes to bits 0, 8, 16, 24 of a word; less 1 without a borrow */
            uint32_t v = from[2 + i];
            v = (v | v << 12) & 0x000F000F;
            v = (v | v << 6) & 0x03030303;
            v = ((v | 0x80808080) - 0x01010101) ^ 0x80808080;
            memcpy(code + 4 * i, &v, 4);
        }
    }
}

/* ---- 4-bit floats ---------------------------------------------------------------------------------------------------- */

INLINE void unpack_mxfp4(const unsigned char *restrict from, int n, int8_t *restrict code, float *restrict scale, float *restrict min)
{
    (void)min;
    for (int b = 0; b < n / 32; b++, from += 17, code += 32) {
        scale[b] = e8m0_half(from[0]);
        table_codes(fp4_doubled, from + 1, code);
    }
}

INLINE void unpack_nvfp4(const unsigned char *restrict from, int n, int8_t *restrict code, float *restrict scale, float *restrict min)
{
    (void)min;
    typedef uint64_t v2 __attribute__((vector_size(16)));
    for (int b = 0; b < n / 64; b++, from += 36, code += 64)
        for (int s = 0; s < 4; s++) { /* 8 bytes: their low nibbles, then their high ones */
            uint64_t nibbles = load_u64(from + 4 + 8 * s);
            v2 both = (v2){nibbles, nibbles >> 4} & 0x0F0F0F0F0F0F0F0F;
            scale[4 * b + s] = ue4m3_half(from[s]);
            look_up(fp4_doubled, (const unsigned char *)&both, code + 16 * s);
        }
}

#endif
