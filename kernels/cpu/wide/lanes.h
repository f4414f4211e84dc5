/* LANES floats at a time, whatever the instruction set: the templates in this folder are written once with these and
 * compiled by each instruction set's table.c with its own flags. */
#ifndef KERNELS_CPU_WIDE_LANES_H
#define KERNELS_CPU_WIDE_LANES_H

#include <stdint.h>
#include <string.h>

#include "kernels/formats/small.h"

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#if defined(__AVX512F__)
enum { LANES = 16 };
#elif defined(__AVX2__)
enum { LANES = 8 };
#else
enum { LANES = 4 };
#endif

/* k of a row that lie side by side in FORM_PACKED8: what a dot instruction adds up */
#if defined(__ARM_FEATURE_MATMUL_INT8)
enum { PACKED8_DEPTH = 8 };
#else
enum { PACKED8_DEPTH = 4 };
#endif

#define INLINE static inline __attribute__((always_inline, unused))

typedef float vf __attribute__((vector_size(LANES * 4)));
typedef int32_t vi __attribute__((vector_size(LANES * 4)));
typedef float vf_unaligned __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef int32_t vi_unaligned __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef uint16_t vh_unaligned __attribute__((vector_size(LANES * 2), aligned(1), may_alias));

INLINE vf v_load(const float *p) { return *(const vf_unaligned *)p; }
INLINE void v_store(float *p, vf v) { *(vf_unaligned *)p = v; }
INLINE vf v_zero(void) { return (vf){0}; }
INLINE vf v_set(float f) { return f - (vf){0}; }

#if defined(__AVX512F__)
INLINE vf v_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
INLINE vf v_max(vf a, vf b) { return _mm512_max_ps(a, b); }
INLINE vf v_min(vf a, vf b) { return _mm512_min_ps(a, b); }
INLINE vf v_round(vf a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE vf v_half(const unsigned char *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p)); }
INLINE vf v_bf16(const unsigned char *p)
{
    return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)p)), 16);
}
/* E4M3 moved to a half float's place is 2^8 too small. */
INLINE vf v_e4m3(const unsigned char *p)
{
    __m256i x = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p)), size = _mm256_slli_epi16(_mm256_and_si256(x, _mm256_set1_epi16(0x7F)), 7);
    __m256i nan = _mm256_and_si256(_mm256_cmpeq_epi16(size, _mm256_set1_epi16(0x3F80)), _mm256_set1_epi16(0x7E00));
    __m256i sign = _mm256_and_si256(_mm256_slli_epi16(x, 8), _mm256_set1_epi16((short)0x8000));
    return _mm512_cvtph_ps(_mm256_or_si256(_mm256_or_si256(size, nan), sign)) * _mm512_set1_ps(256);
}
INLINE vi v_int(vf a) { return (vi)_mm512_cvtps_epi32(a); }
#elif defined(__AVX2__)
INLINE vf v_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
INLINE vf v_max(vf a, vf b) { return _mm256_max_ps(a, b); }
INLINE vf v_min(vf a, vf b) { return _mm256_min_ps(a, b); }
INLINE vf v_round(vf a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE vf v_half(const unsigned char *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p)); }
INLINE vf v_bf16(const unsigned char *p)
{
    return (vf)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)), 16);
}
INLINE vf v_e4m3(const unsigned char *p) /* as above */
{
    __m128i x = _mm_cvtepu8_epi16(_mm_loadl_epi64((const __m128i *)(const void *)p)), size = _mm_slli_epi16(_mm_and_si128(x, _mm_set1_epi16(0x7F)), 7);
    __m128i nan = _mm_and_si128(_mm_cmpeq_epi16(size, _mm_set1_epi16(0x3F80)), _mm_set1_epi16(0x7E00));
    __m128i sign = _mm_and_si128(_mm_slli_epi16(x, 8), _mm_set1_epi16((short)0x8000));
    return _mm256_cvtph_ps(_mm_or_si128(_mm_or_si128(size, nan), sign)) * _mm256_set1_ps(256);
}
INLINE vi v_int(vf a) { return (vi)_mm256_cvtps_epi32(a); }
#else
#if defined(__aarch64__)
INLINE vf v_fma(vf a, vf b, vf c) { return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
INLINE vf v_half(const unsigned char *p)
{
    uint16_t h[4];
    memcpy(h, p, sizeof h);
    return (vf)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(h)));
}
/* sums[i] += 4 of 16 products of bytes each (without the dot instruction: other 4); |a b| at most 2^7 * 127, so pairs fit in 16 bits */
INLINE int32x4_t dot_16(int32x4_t sums, int8x16_t a, int8x16_t b)
{
#if defined(__ARM_FEATURE_DOTPROD)
    return vdotq_s32(sums, a, b);
#else
    return vpadalq_s16(sums, vmlal_high_s8(vmull_s8(vget_low_s8(a), vget_low_s8(b)), a, b));
#endif
}
#else
INLINE vf v_fma(vf a, vf b, vf c) { return a * b + c; }
INLINE vf v_half(const unsigned char *p)
{
    return (vf){load_half(p), load_half(p + 2), load_half(p + 4), load_half(p + 6)};
}
#endif
INLINE vf v_select(vi mask, vf a, vf b) { return (vf)((mask & (vi)a) | (~mask & (vi)b)); }
INLINE vf v_max(vf a, vf b) { return v_select(a > b, a, b); }
INLINE vf v_min(vf a, vf b) { return v_select(a < b, a, b); }
INLINE vf v_round(vf a) /* to nearest even, for |a| < 2^22 */
{
    vf magic = v_set(12582912.0f);
    return (a + magic) - magic;
}
INLINE vf v_bf16(const unsigned char *p)
{
    return (vf){bf16_to_float(load_u16(p)), bf16_to_float(load_u16(p + 2)), bf16_to_float(load_u16(p + 4)), bf16_to_float(load_u16(p + 6))};
}
INLINE vf v_e4m3(const unsigned char *p) { return (vf){e4m3_to_float(p[0]), e4m3_to_float(p[1]), e4m3_to_float(p[2]), e4m3_to_float(p[3])}; }
INLINE vi v_int(vf a) { return __builtin_convertvector(v_round(a), vi); }
#endif

#if defined(__AVX512F__)
INLINE float v_sum(vf v) { return _mm512_reduce_add_ps(v); }
INLINE float v_most(vf v) { return _mm512_reduce_max_ps(v); }
#elif defined(__AVX2__)
INLINE float v_sum(vf v)
{
    __m128 t = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    t = _mm_add_ps(t, _mm_movehl_ps(t, t));
    return _mm_cvtss_f32(_mm_add_ss(t, _mm_movehdup_ps(t)));
}

INLINE float v_most(vf v)
{
    __m128 t = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    t = _mm_max_ps(t, _mm_movehl_ps(t, t));
    return _mm_cvtss_f32(_mm_max_ss(t, _mm_movehdup_ps(t)));
}
#else
INLINE float v_sum(vf v)
{
    float t[LANES];
    v_store(t, v);
    for (int n = LANES / 2; n; n /= 2)
        for (int i = 0; i < n; i++)
            t[i] += t[i + n];
    return t[0];
}

INLINE float v_most(vf v)
{
    float t[LANES];
    v_store(t, v);
    float most = t[0];
    for (int i = 1; i < LANES; i++)
        most = t[i] > most ? t[i] : most;
    return most;
}
#endif

#if defined(__AVX2__)
/* f16 at stride `step` bytes as floats, `blocks` of 8, the others zero: nothing is read of blocks that are not there */
INLINE __m256 halves_at(const unsigned char *p, int step, int blocks)
{
    __m128i h = _mm_setzero_si128();
#define HALF(i) h = (i) < blocks ? _mm_insert_epi16(h, load_u16(p + (i) * step), i) : h
    HALF(0), HALF(1), HALF(2), HALF(3), HALF(4), HALF(5), HALF(6), HALF(7);
#undef HALF
    return _mm256_cvtph_ps(h);
}
#endif

/* exp(x), relative error below 3e-7; 0 below -87, infinity is never made (x is cut at 88). */
INLINE vf v_exp(vf x)
{
    vf cut = v_max(v_min(x, v_set(88.0f)), v_set(-87.5f));
    vf n = v_round(cut * v_set(1.44269504f));
    vf f = v_fma(n, v_set(-0.693359375f), cut); /* ln 2 in two parts, the first exact */
    f = v_fma(n, v_set(2.12194440e-4f), f);
    vf p = v_set(1.9875691e-4f);
    p = v_fma(p, f, v_set(1.3981999e-3f));
    p = v_fma(p, f, v_set(8.3334519e-3f));
    p = v_fma(p, f, v_set(4.1665795e-2f));
    p = v_fma(p, f, v_set(1.6666665e-1f));
    p = v_fma(p, f, v_set(0.5f));
    p = v_fma(p, f * f, f) + v_set(1.0f);
    vf result = p * (vf)((v_int(n) + 127) << 23);
    return (vf)((vi)result & (vi)(x > v_set(-87.0f)));
}

INLINE vf v_tanh(vf x)
{
    /* 1 - 2 / (exp(2x) + 1) loses digits near 0; there x - x^3/3 + 2x^5/15 - 17x^7/315 */
    vf a = v_max(v_min(x, v_set(20.0f)), v_set(-20.0f));
    vf big = v_set(1.0f) - v_set(2.0f) / (v_exp(a + a) + v_set(1.0f));
    vf s = a * a;
    vf small = a * v_fma(s, v_fma(s, v_fma(s, v_set(-17.0f / 315), v_set(2.0f / 15)), v_set(-1.0f / 3)), v_set(1.0f));
    vi near = (vi)(s < v_set(0.04f));
    return (vf)((near & (vi)small) | (~near & (vi)big));
}

INLINE float dot_floats(const float *a, const float *b, int64_t n)
{
    vf sum = v_zero();
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        sum = v_fma(v_load(a + i), v_load(b + i), sum);
    float s = v_sum(sum);
    for (; i < n; i++)
        s += a[i] * b[i];
    return s;
}

#endif
