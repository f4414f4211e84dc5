/* Quantised weights times int8 activations, one row of weights after the other: a row is unpacked to int8 codes in the
 * first-level cache, then every activation row runs over it. The arithmetic of a row does not depend on how many there
 * are. Serves every quantised format on every instruction set. */
#ifndef KERNELS_CPU_WIDE_DOT8_H
#define KERNELS_CPU_WIDE_DOT8_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/wide/unpack_iq.h"

/* A weight row unpacked: codes [padded], scales and minimums [padded / GROUP], zero behind the row's end. */
struct codes {
    int8_t *code;
    float *scale, *min;
};

static size_t dot8_scratch(int64_t n)
{
    size_t padded = (size_t)((n + UNIT - 1) / UNIT * UNIT);
    return padded + 2 * padded / 16 * sizeof(float) + 64;
}

INLINE struct codes place_codes(void *scratch, int64_t padded)
{
    struct codes c;
    c.scale = scratch;
    c.min = c.scale + padded / 16;
    c.code = (int8_t *)(c.min + padded / 16);
    return c;
}

INLINE void unpack_row(unpack_function *unpack, const unsigned char *from, int64_t n, int unit_bytes, int group, bool has_min, struct codes c)
{
    for (; n >= UNIT; n -= UNIT, from += unit_bytes) {
        unpack(from, UNIT, c.code, c.scale, c.min);
        c.code += UNIT, c.scale += UNIT / group, c.min += UNIT / group;
    }
    if (n) {
        memset(c.code, 0, UNIT);
        memset(c.scale, 0, (size_t)(UNIT / group) * sizeof(float));
        if (has_min)
            memset(c.min, 0, (size_t)(UNIT / group) * sizeof(float));
        unpack(from, (int)n, c.code, c.scale, c.min);
    }
}

/* sum over groups of scale * d * (codes . q): `padded` values */
#if defined(__AVX2__)
INLINE float dot_codes(const int8_t *code, const float *scale, const int8_t *q, const float *d, int64_t padded, int group)
{
    const __m256i ones = _mm256_set1_epi16(1);
    __m256 sum[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()}; /* each a chain of its own */
    for (int64_t at = 0; at < padded; at += UNIT) {
        __m256 dx = _mm256_loadu_ps(d + at / 32);
        float factor[16];
        if (group == 32) {
            _mm256_storeu_ps(factor, _mm256_mul_ps(_mm256_loadu_ps(scale + at / 32), dx));
        } else {
            __m256 low = _mm256_permutevar8x32_ps(dx, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3));
            __m256 high = _mm256_permutevar8x32_ps(dx, _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7));
            _mm256_storeu_ps(factor, _mm256_mul_ps(_mm256_loadu_ps(scale + at / 16), low));
            _mm256_storeu_ps(factor + 8, _mm256_mul_ps(_mm256_loadu_ps(scale + at / 16 + 8), high));
        }
#pragma GCC unroll 8
        for (int k = 0; k < 8; k++) {
            __m256i w = _mm256_loadu_si256((const __m256i *)(const void *)(code + at + 32 * k));
            __m256i x = _mm256_loadu_si256((const __m256i *)(const void *)(q + at + 32 * k));
            /* |w| * (x with w's sign): pairs stay below 2^15 since |x| <= 127 and |w| <= 128 */
            __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
            __m256 f = _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs, ones));
            __m256 by = group == 32 ? _mm256_broadcast_ss(factor + k)
                                    : _mm256_blend_ps(_mm256_broadcast_ss(factor + 2 * k), _mm256_broadcast_ss(factor + 2 * k + 1), 0xF0);
            sum[k & 3] = _mm256_fmadd_ps(f, by, sum[k & 3]);
        }
    }
    return v_sum((vf)_mm256_add_ps(_mm256_add_ps(sum[0], sum[1]), _mm256_add_ps(sum[2], sum[3])));
}
#elif defined(__aarch64__)
INLINE float dot_codes(const int8_t *code, const float *scale, const int8_t *q, const float *d, int64_t padded, int group)
{
    const int32x4_t zero = vdupq_n_s32(0);
    float32x4_t sum[4] = {vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0)}; /* each a chain of its own */
    for (int64_t at = 0; at < padded; at += 64)
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) {
            int64_t i = at + 16 * k;
            int32x4_t t = dot_16(zero, vld1q_s8(code + i), vld1q_s8(q + i));
            if (group == 16) {
                sum[k] = vfmaq_n_f32(sum[k], vcvtq_f32_s32(t), scale[i / 16] * d[i / 32]);
            } else if (k % 2 == 0) {
                t = dot_16(t, vld1q_s8(code + i + 16), vld1q_s8(q + i + 16));
                sum[k] = vfmaq_n_f32(sum[k], vcvtq_f32_s32(t), scale[i / 32] * d[i / 32]);
            }
        }
    return vaddvq_f32(vaddq_f32(vaddq_f32(sum[0], sum[1]), vaddq_f32(sum[2], sum[3])));
}
#else
INLINE float dot_codes(const int8_t *code, const float *scale, const int8_t *q, const float *d, int64_t padded, int group)
{
    float sum = 0;
    for (int64_t at = 0; at < padded; at += group) {
        int32_t t = 0;
        for (int i = 0; i < group; i++)
            t += code[at + i] * q[at + i];
        sum += (float)t * (scale[at / group] * d[at / 32]);
    }
    return sum;
}
#endif

INLINE void few_codes(unpack_function *unpack, int unit_bytes, int group, bool has_min, const struct weight *w, int64_t first, int64_t end,
                      const struct input *in, float *y, int64_t y_stride, void *scratch)
{
    struct codes c = place_codes(scratch, in->padded);
    for (int64_t out = first; out < end; out++) {
        unpack_row(unpack, w->data + out * w->row_bytes, w->in, unit_bytes, group, has_min, c);
        for (int32_t row = 0; row < in->rows; row++) {
            float sum = dot_codes(c.code, c.scale, in->q + row * in->padded, in->d + row * (in->padded / 32), in->padded, group);
            if (has_min)
                sum += group == 32 ? dot_floats(c.min, in->s + row * (in->padded / 32), in->padded / 32)
                                   : dot_floats(c.min, in->s16 + row * (in->padded / 16), in->padded / 16);
            y[in->row[row] * y_stride + out] = sum;
        }
    }
}

#if defined(__AVX2__) || defined(__aarch64__)
#include "kernels/cpu/wide/panel.h"
static size_t codes_scratch(int64_t n, int32_t rows)
{
    size_t few = dot8_scratch(n), many = panel_scratch(rows);
    return few > many ? few : many;
}
#else
enum { MANY_FORM = FORM_INT16 };
static size_t codes_scratch(int64_t n, int32_t rows)
{
    (void)rows;
    return dot8_scratch(n);
}

/* codes times activations of 8 or 16 bits; a group's products fit in 32 bits (32 * 2^15 * 2^7) */
INLINE float dot_wide(const int8_t *code, const float *scale, const int16_t *q, const float *d, int64_t padded, int group)
{
    float sum = 0;
    for (int64_t at = 0; at < padded; at += group) {
        int32_t t = 0;
        for (int i = 0; i < group; i++)
            t += (int16_t)code[at + i] * q[at + i];
        sum += (float)t * (scale[at / group] * d[at / 32]);
    }
    return sum;
}

INLINE void many_codes(unpack_function *unpack, int unit_bytes, int group, bool has_min, const struct weight *w, int64_t first, int64_t end,
                       const struct input *in, float *y, int64_t y_stride, void *scratch)
{
    struct codes c = place_codes(scratch, in->padded);
    for (int64_t out = first; out < end; out++) {
        unpack_row(unpack, w->data + out * w->row_bytes, w->in, unit_bytes, group, has_min, c);
        for (int32_t row = 0; row < in->rows; row++) {
            float sum = dot_wide(c.code, c.scale, in->q16 + row * in->padded, in->d + row * (in->padded / 32), in->padded, group);
            if (has_min)
                sum += group == 32 ? dot_floats(c.min, in->s + row * (in->padded / 32), in->padded / 32)
                                   : dot_floats(c.min, in->s16 + row * (in->padded / 16), in->padded / 16);
            y[in->row[row] * y_stride + out] = sum;
        }
    }
}

#endif

/* few_q4_0(), many_q4_0() ... : two functions per format; unit_bytes is what 256 weights take */
#define CODE_KERNELS(name, NAME, unit_bytes)                                                                                         \
    static __attribute__((unused)) void few_##name(const struct weight *w, int64_t first, int64_t end, const struct input *in,      \
                                                   float *y, int64_t y_stride, void *scratch)                                      \
    {                                                                                                                             \
        few_codes(unpack_##name, unit_bytes, NAME##_GROUP, NAME##_MIN, w, first, end, in, y, y_stride, scratch);                    \
    }                                                                                                                             \
    static __attribute__((unused)) void many_##name(const struct weight *w, int64_t first, int64_t end, const struct input *in,     \
                                                    float *y, int64_t y_stride, void *scratch)                                      \
    {                                                                                                                             \
        many_codes(unpack_##name, unit_bytes, NAME##_GROUP, NAME##_MIN, w, first, end, in, y, y_stride, scratch);                   \
    }
CODE_KERNELS(q4_0, Q4_0, 144)
CODE_KERNELS(q4_1, Q4_1, 160)
CODE_KERNELS(q5_0, Q5_0, 176)
CODE_KERNELS(q5_1, Q5_1, 192)
CODE_KERNELS(q8_0, Q8_0, 272)
CODE_KERNELS(q2_k, Q2_K, 84)
CODE_KERNELS(q3_k, Q3_K, 110)
CODE_KERNELS(q4_k, Q4_K, 144)
CODE_KERNELS(q5_k, Q5_K, 176)
CODE_KERNELS(q6_k, Q6_K, 210)
CODE_KERNELS(iq4_nl, IQ4_NL, 144)
CODE_KERNELS(iq4_xs, IQ4_XS, 136)
CODE_KERNELS(iq2_xxs, IQ2_XXS, 66)
CODE_KERNELS(iq2_xs, IQ2_XS, 74)
CODE_KERNELS(iq2_s, IQ2_S, 82)
CODE_KERNELS(iq3_xxs, IQ3_XXS, 98)
CODE_KERNELS(iq3_s, IQ3_S, 110)
CODE_KERNELS(iq1_s, IQ1_S, 50)
CODE_KERNELS(iq1_m, IQ1_M, 56)
CODE_KERNELS(tq1_0, TQ1_0, 54)
CODE_KERNELS(tq2_0, TQ2_0, 66)
CODE_KERNELS(mxfp4, MXFP4, 136)
CODE_KERNELS(nvfp4, NVFP4, 144)
CODE_KERNELS(q1_0, Q1_0, 36)
CODE_KERNELS(q2_0, Q2_0, 72)

#endif
