/* Quantised weights as int8 codes in their natural order, with a scale (and a minimum) per group of GROUP weights:
 *     weight = scale[group] * code + min[group]
 * One function per storage format (the layouts are drawn in kernels/formats/X.c), for up to UNIT weights in whole
 * blocks. Plain loops that compilers make wide; the hottest formats have kernels of their own that skip this step. */
#ifndef KERNELS_CPU_WIDE_UNPACK_H
#define KERNELS_CPU_WIDE_UNPACK_H

#include "kernels/cpu/wide/lanes.h"

typedef void unpack_function(const unsigned char *restrict from, int n, int8_t *restrict code, float *restrict scale, float *restrict min);

#if defined(__AVX2__)
INLINE float half_at(const unsigned char *p) { return _cvtsh_ss(load_u16(p)); }
#elif defined(__aarch64__)
INLINE float half_at(const unsigned char *p)
{
    __fp16 h;
    memcpy(&h, p, sizeof h);
    return h;
}
#else
INLINE float half_at(const unsigned char *p) { return load_half(p); }
#endif

/* GROUP, HAS_MIN, and whether codes are 4 bits in the order that FORM_NIBBLE follows */
enum {
    Q4_0_GROUP = 32, Q4_0_MIN = 0,
    Q4_1_GROUP = 32, Q4_1_MIN = 1,
    Q5_0_GROUP = 32, Q5_0_MIN = 0,
    Q5_1_GROUP = 32, Q5_1_MIN = 1,
    Q8_0_GROUP = 32, Q8_0_MIN = 0,
    Q2_K_GROUP = 16, Q2_K_MIN = 1,
    Q3_K_GROUP = 16, Q3_K_MIN = 0,
    Q4_K_GROUP = 32, Q4_K_MIN = 1,
    Q5_K_GROUP = 32, Q5_K_MIN = 1,
    Q6_K_GROUP = 16, Q6_K_MIN = 0,
    IQ4_NL_GROUP = 32, IQ4_NL_MIN = 0,
    IQ4_XS_GROUP = 32, IQ4_XS_MIN = 0,
};

/* 16 bytes of nibbles: 16 codes of the low ones, then 16 of the high ones. Written with vectors since bytes may alias
 * anything, which keeps compilers from making a loop wide. */
typedef uint8_t v16 __attribute__((vector_size(16), aligned(1), may_alias));
INLINE void nibble_codes(const unsigned char *from, uint8_t offset, int8_t *low, int8_t *high)
{
    v16 v = *(const v16 *)from;
    *(v16 *)(void *)low = (v & 15) - offset;
    *(v16 *)(void *)high = (v >> 4) - offset;
}

INLINE void unpack_q4_0(const unsigned char *restrict from, int n, int8_t *restrict code, float *restrict scale, float *restrict min)
{
    (void)min;
    for (int b = 0; b < n / 32; b++, from += 18, code += 32) {
        scale[b] = half_at(from);
        nibble_codes(from + 2, 8, code, code + 16);
    }
}

INLINE void unpack_q4_1(const unsigned char *restrict from, int n, int8_t *restrict code, float *restrict scale, float *restrict min)
{
    for (int b = 0; b < n / 32; b++, from += 20, code += 32) {
        scale[b] = half_at(from);
        min[b] = half_at(from + 2);
        nibble_codes(from + 4, 0, code, code + 16);
    }
}

/* Adds bit j of 32 as `value` to code j. */
INLINE void add_bits(int8_t *code, uint32_t bits, int value)
{
    for (int j = 0; j < 32; j++)
        code[j] = (int8_t)(code[j] + (bits >> j & 1 ? value : 0));
}

INLINE void unpack_q5_0(const unsigned char *restrict from, int n, int8_t *restrict code, float *restrict scale, float *restrict min)
{
    (void)min;
    for (int b = 0; b < n / 32; b++, from += 22, code += 32) {
        scale[b] = half_at(from);
        nibble_codes(from + 6, 16, code, code + 16);
        add_bits(code, load_u32(from + 2), 16);
    }
}

INLINE void unpack_q5_1(const unsigned char *restrict from, int n, int8_t *restrict code, float *restrict scale, float *restrict min)
{
    for (int b = 0; b < n / 32; b++, from += 24, code += 32) {
        scale[b] = half_at(from);
        min[b] = half_at(from + 2);
        nibble_codes(from + 8, 0, code, code + 16);
        add_bits(code, load_u32(from + 4), 16);
    }
}

INLINE void unpack_q8_0(const unsigned char *restrict from, int n, int8_t *restrict code, float *restrict scale, float *restrict min)
{
    (void)min;
    for (int b = 0; b < n / 32; b++, from += 34, code += 32) {
        scale[b] = half_at(from);
        memcpy(code, from + 2, 32);
    }
}

INLINE void unpack_q2_k(const unsigned char *restrict from, int n, int8_t *restrict code, float *restrict scale, float *restrict min)
{
    (void)n;
    float d = half_at(from + 80), dmin = half_at(from + 82);
    for (int s = 0; s < 16; s++) {
        scale[s] = d * (float)(from[s] & 15);
        min[s] = -dmin * (float)(from[s] >> 4);
    }
    for (int half = 0; half < 2; half++)
        for (int k = 0; k < 4; k++)
            for (int j = 0; j < 32; j++)
                code[128 * half + 32 * k + j] = from[16 + 32 * half + j] >> (2 * k) & 3;
}

INLINE void unpack_q3_k(const unsigned char *restrict from, int n, int8_t *restrict code, float *restrict scale, float *restrict min)
{
    (void)n;
    (void)min;
    float d = half_at(from + 108);
    const unsigned char *packed = from + 96;
    for (int s = 0; s < 16; s++) {
        int low = s < 8 ? packed[s] & 15 : packed[s - 8] >> 4;
        scale[s] = d * (float)((low | (packed[8 + s % 4] >> (2 * (s / 4)) & 3) << 4) - 32);
    }
    for (int half = 0; half < 2; half++)
        for (int k = 0; k < 4; k++)
            for (int j = 0; j < 32; j++) {
                int third = from[j] >> (4 * half + k) & 1;
                code[128 * half + 32 * k + j] = (int8_t)((from[32 + 32 * half + j] >> (2 * k) & 3) + 4 * third - 4);
            }
}

/* scales and minimums of Q4_K and Q5_K */
INLINE void unpack_k_scales(const unsigned char *from, float *scale, float *min)
{
    float d = half_at(from), dmin = half_at(from + 2);
    unsigned char s[8], m[8];
    k_scales(from + 4, s, m);
    for (int i = 0; i < 8; i++) {
        scale[i] = d * (float)s[i];
        min[i] = -dmin * (float)m[i];
    }
}

INLINE void unpack_q4_k(const unsigned char *restrict from, int n, int8_t *restrict code, float *restrict scale, float *restrict min)
{
    (void)n;
    unpack_k_scales(from, scale, min);
    for (int c = 0; c < 4; c++) {
        nibble_codes(from + 16 + 32 * c, 0, code + 64 * c, code + 64 * c + 32);
        nibble_codes(from + 32 + 32 * c, 0, code + 64 * c + 16, code + 64 * c + 48);
    }
}

INLINE void unpack_q5_k(const unsigned char *restrict from, int n, int8_t *restrict code, float *restrict scale, float *restrict min)
{
    (void)n;
    unpack_k_scales(from, scale, min);
    for (int c = 0; c < 4; c++) {
        for (int j = 0; j < 32; j++)
            code[64 * c + j] = (int8_t)((from[48 + 32 * c + j] & 15) | (from[16 + j] >> (2 * c) & 1) << 4);
        for (int j = 0; j < 32; j++)
            code[64 * c + 32 + j] = (int8_t)(from[48 + 32 * c + j] >> 4 | (from[16 + j] >> (2 * c + 1) & 1) << 4);
    }
}

INLINE void unpack_q6_k(const unsigned char *restrict from, int n, int8_t *restrict code, float *restrict scale, float *restrict min)
{
    (void)n;
    (void)min;
    float d = half_at(from + 208);
    for (int s = 0; s < 16; s++)
        scale[s] = d * (float)(signed char)from[192 + s];
    for (int half = 0; half < 2; half++)
        for (int k = 0; k < 4; k++)
            for (int j = 0; j < 32; j++) {
                int low = from[64 * half + 32 * (k & 1) + j] >> (4 * (k >> 1)) & 15;
                code[128 * half + 32 * k + j] = (int8_t)((low | (from[128 + 32 * half + j] >> (2 * k) & 3) << 4) - 32);
            }
}

static const int8_t iq4_table[16] __attribute__((aligned(16), unused)) = IQ4_VALUES;

/* 16 indices below 16 -> codes of a table */
INLINE void look_up(const int8_t *table, const unsigned char *index, int8_t *code)
{
#if defined(__AVX2__)
    __m128i t = _mm_load_si128((const __m128i *)(const void *)table), v = _mm_loadu_si128((const __m128i *)(const void *)index);
    _mm_storeu_si128((__m128i *)(void *)code, _mm_shuffle_epi8(t, v));
#elif defined(__aarch64__)
    vst1q_s8(code, vqtbl1q_s8(vld1q_s8(table), vld1q_u8(index)));
#else
    for (int j = 0; j < 16; j++)
        code[j] = table[index[j]];
#endif
}

/* 16 bytes of nibbles -> 32 codes of a table: the low ones, then the high ones */
INLINE void table_codes(const int8_t *table, const unsigned char *from, int8_t *code)
{
    v16 v = *(const v16 *)from, low = v & 15, high = v >> 4;
    look_up(table, (const unsigned char *)&low, code);
    look_up(table, (const unsigned char *)&high, code + 16);
}

INLINE void unpack_iq4_nl(const unsigned char *restrict from, int n, int8_t *restrict code, float *restrict scale, float *restrict min)
{
    (void)min;
    for (int b = 0; b < n / 32; b++, from += 18, code += 32) {
        scale[b] = half_at(from);
        table_codes(iq4_table, from + 2, code);
    }
}

INLINE void unpack_iq4_xs(const unsigned char *restrict from, int n, int8_t *restrict code, float *restrict scale, float *restrict min)
{
    (void)n;
    (void)min;
    float d = half_at(from);
    int high = load_u16(from + 2);
    for (int s = 0; s < 8; s++) {
        int bits = (from[4 + s / 2] >> (4 * (s & 1)) & 15) | (high >> (2 * s) & 3) << 4;
        scale[s] = d * (float)(bits - 32);
        table_codes(iq4_table, from + 8 + 16 * s, code + 32 * s);
    }
}

#endif
