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

/* ---- codebooks ------------------------------------------------------------------------------------------------------- */

INLINE void unpack_iq2_xxs(const unsigned char *restrict from, int n, int8_t *restrict code, float *restrict scale, float *restrict min)
{
    (void)n, (void)min;
    float d = half_at(from) / 4;
    for (int s = 0; s < 8; s++) {
        const unsigned char *p = from + 2 + 8 * s;
        uint32_t bits = load_u32(p + 4);
        uint64_t eight[4] = {grid_iq2_xxs[p[0]], grid_iq2_xxs[p[1]], grid_iq2_xxs[p[2]], grid_iq2_xxs[p[3]]};
        scale[s] = d * (0.5f + (float)(bits >> 28));
        put_signed(eight, even_signs_of_four(bits), code + 32 * s);
    }
}

/* nibbles of 8 bytes, low ones first: (nibble + 1/2) * d */
INLINE void nibble_scales(const unsigned char *from, float d, float *scale)
{
    for (int s = 0; s < 16; s++)
        scale[s] = d * (0.5f + (float)(from[s / 2] >> 4 * (s % 2) & 15));
}

INLINE void unpack_iq2_xs(const unsigned char *restrict from, int n, int8_t *restrict code, float *restrict scale, float *restrict min)
{
    (void)n, (void)min;
    nibble_scales(from + 66, half_at(from) / 4, scale);
    for (int s = 0; s < 8; s++) {
        uint64_t w = load_u64(from + 2 + 8 * s), eight[4];
        uint32_t signs = (uint32_t)(w >> 9 & 0x7F) | (uint32_t)(w >> 18 & 0x3F80) | (uint32_t)(w >> 27 & 0x1FC000) | (uint32_t)(w >> 36 & 0xFE00000);
        for (int l = 0; l < 4; l++)
            eight[l] = grid_iq2_xs[w >> 16 * l & 511];
        put_signed(eight, even_signs_of_four(signs), code + 32 * s);
    }
}

INLINE void unpack_iq2_s(const unsigned char *restrict from, int n, int8_t *restrict code, float *restrict scale, float *restrict min)
{
    (void)n, (void)min;
    nibble_scales(from + 74, half_at(from) / 4, scale);
    for (int s = 0; s < 8; s++) {
        const unsigned char *p = from + 2 + 4 * s;
        uint32_t high = (uint32_t)from[66 + s] << 8;
        uint64_t eight[4] = {grid_iq2_s[p[0] | (high & 0x300)], grid_iq2_s[p[1] | (high >> 2 & 0x300)], grid_iq2_s[p[2] | (high >> 4 & 0x300)],
                             grid_iq2_s[p[3] | (high >> 6 & 0x300)]};
        put_signed(eight, load_u32(from + 34 + 4 * s), code + 32 * s);
    }
}

INLINE uint64_t two_points(const uint32_t *grid, unsigned first, unsigned second) { return grid[first] | (uint64_t)grid[second] << 32; }

INLINE void unpack_iq3_xxs(const unsigned char *restrict from, int n, int8_t *restrict code, float *restrict scale, float *restrict min)
{
    (void)n, (void)min;
    float d = half_at(from) / 2;
    for (int s = 0; s < 8; s++) {
        const unsigned char *p = from + 2 + 8 * s;
        uint32_t bits = load_u32(from + 66 + 4 * s);
        uint64_t eight[4];
        for (int l = 0; l < 4; l++)
            eight[l] = two_points(grid_iq3_xxs, p[2 * l], p[2 * l + 1]);
        scale[s] = d * (0.5f + (float)(bits >> 28));
        put_signed(eight, even_signs_of_four(bits), code + 32 * s);
    }
}

INLINE void unpack_iq3_s(const unsigned char *restrict from, int n, int8_t *restrict code, float *restrict scale, float *restrict min)
{
    (void)n, (void)min;
    float d = half_at(from);
    for (int s = 0; s < 8; s++) {
        const unsigned char *p = from + 2 + 8 * s;
        uint32_t high = (uint32_t)from[66 + s] << 8;
        uint64_t eight[4];
        for (int l = 0; l < 4; l++, high >>= 2)
            eight[l] = two_points(grid_iq3_s, p[2 * l] | (high & 0x100), p[2 * l + 1] | (high >> 1 & 0x100));
        scale[s] = d * (float)(2 * (from[106 + s / 2] >> 4 * (s % 2) & 15) + 1);
        put_signed(eight, load_u32(from + 74 + 4 * s), code + 32 * s);
    }
}

/* 32 codes of IQ1 from four points and their shifts, a byte of 1 or -1 eight times */
typedef int8_t v32 __attribute__((vector_size(32), aligned(1), may_alias));
typedef uint64_t v4_points __attribute__((vector_size(32)));
INLINE void put_shifted(const uint64_t eight[4], const uint64_t shift[4], int8_t *code)
{
    v32 g = (v32)(v4_points){eight[0], eight[1], eight[2], eight[3]};
    *(v32 *)(void *)code = (g << 3) + (v32)(v4_points){shift[0], shift[1], shift[2], shift[3]};
}
#define SHIFT(minus) ((minus) ? 0xFFFFFFFFFFFFFFFFu : 0x0101010101010101u)

INLINE void unpack_iq1_s(const unsigned char *restrict from, int n, int8_t *restrict code, float *restrict scale, float *restrict min)
{
    (void)n, (void)min;
    float d = half_at(from) / 8;
    for (int s = 0; s < 8; s++) {
        const unsigned char *p = from + 2 + 4 * s;
        uint32_t high = load_u16(from + 34 + 2 * s);
        uint64_t eight[4] = {grid_iq1_s[p[0] | (high << 8 & 0x700)], grid_iq1_s[p[1] | (high << 5 & 0x700)], grid_iq1_s[p[2] | (high << 2 & 0x700)],
                             grid_iq1_s[p[3] | (high >> 1 & 0x700)]};
        uint64_t shift = SHIFT(high >> 15);
        scale[s] = d * (float)(2 * (high >> 12 & 7) + 1);
        put_shifted(eight, (uint64_t[]){shift, shift, shift, shift}, code + 32 * s);
    }
}

INLINE void unpack_iq1_m(const unsigned char *restrict from, int n, int8_t *restrict code, float *restrict scale, float *restrict min)
{
    (void)n, (void)min;
    float d = half_to_float(iq1_m_half(from)) / 8;
    for (int s = 0; s < 8; s++) {
        const unsigned char *p = from + 4 * s;
        uint32_t high = load_u16(from + 32 + 2 * s), scales = load_u16(from + 48 + s / 2 * 2) >> 6 * (s % 2);
        uint64_t eight[4] = {grid_iq1_s[p[0] | (high << 8 & 0x700)], grid_iq1_s[p[1] | (high << 4 & 0x700)], grid_iq1_s[p[2] | (high & 0x700)],
                             grid_iq1_s[p[3] | (high >> 4 & 0x700)]};
        scale[2 * s] = d * (float)(2 * (scales & 7) + 1);
        scale[2 * s + 1] = d * (float)(2 * (scales >> 3 & 7) + 1);
        put_shifted(eight, (uint64_t[]){SHIFT(high & 0x8), SHIFT(high & 0x80), SHIFT(high & 0x800), SHIFT(high & 0x8000)}, code + 32 * s);
    }
}

/* ---- ternary --------------------------------------------------------------------------------------------------------- */

INLINE void same_scales(float *scale, float d, int count)
{
    for (int s = 0; s < count; s++)
        scale[s] = d;
}

/* A byte's next digit is byte * 3 >> 8, which is how many of 85 and 170 it is above. */
INLINE void unpack_tq1_0(const unsigned char *restrict from, int n, int8_t *restrict code, float *restrict scale, float *restrict min)
{
    (void)n, (void)min;
    same_scales(scale, half_at(from + 52), 8);
    for (int run = 0; run < 3; run++) {
        v16 bytes = *(const v16 *)(from + 16 * run);
        int8_t *to = code + (run < 2 ? 16 * run : 160);
        for (int k = 0; k < 5; k++, bytes = bytes + bytes + bytes, to += run < 2 ? 32 : 16)
            *(v16 *)(void *)to = 0xFF - (v16)(bytes > 85) - (v16)(bytes > 170);
    }
    for (int k = 0, power = 1; k < 4; k++, power *= 3)
        for (int j = 0; j < 4; j++)
            code[240 + 4 * k + j] = (int8_t)(((from[48 + j] * power & 255) * 3 >> 8) - 1);
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
    for (int b = 0; b < n / 16; b++) {
        const unsigned char *block = from + b / 4 * 36;
        scale[b] = ue4m3_half(block[b % 4]);
        if (b % 2) /* nibbles of two sub-blocks: their low ones, then their high ones */
            continue;
        int8_t both[32];
        table_codes(fp4_doubled, block + 4 + b % 4 * 8, both);
        memcpy(code + 16 * b, both, 8), memcpy(code + 16 * b + 8, both + 16, 8);
        memcpy(code + 16 * b + 16, both + 8, 8), memcpy(code + 16 * b + 24, both + 24, 8);
    }
}

#endif
