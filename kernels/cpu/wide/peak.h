/* The most that an instruction set's dot products reach, operands in registers: what "share of the roof" is a share of. */
#ifndef KERNELS_CPU_WIDE_PEAK_H
#define KERNELS_CPU_WIDE_PEAK_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/wide/lanes.h"

/* PEAK_CHAINS independent sums hide the latency; the empty statement keeps them apart and in registers. */
enum { PEAK_CHAINS = 12 };
#define PEAK_LOOP(type, constraint, step)                                \
    type sum[PEAK_CHAINS];                                               \
    _Pragma("GCC unroll 12") for (int i = 0; i < PEAK_CHAINS; i++)       \
        sum[i] = (type){0};                                              \
    for (int64_t n = 0; n < rounds; n++) {                               \
        _Pragma("GCC unroll 12") for (int i = 0; i < PEAK_CHAINS; i++) { \
            step;                                                        \
            __asm__ volatile("" : constraint(sum[i]));                   \
        }                                                                \
    }

INLINE double peak_f32(int64_t rounds)
{
    vf x = v_set(0.5f), y = v_set(0.25f);
#if defined(__x86_64__)
    PEAK_LOOP(vf, "+v", sum[i] = v_fma(x, y, sum[i]))
#else
    PEAK_LOOP(vf, "+w", sum[i] = v_fma(x, y, sum[i]))
#endif
    return 2.0 * LANES * PEAK_CHAINS * (double)rounds;
}

INLINE double peak_int8(int64_t rounds)
{
#if defined(__AVX512VNNI__)
    __m512i x = _mm512_set1_epi8(3), y = _mm512_set1_epi8(2);
    PEAK_LOOP(__m512i, "+v", sum[i] = _mm512_dpbusd_epi32(sum[i], x, y))
    return 128.0 * PEAK_CHAINS * (double)rounds;
#elif defined(__AVX2__)
    __m256i x = _mm256_set1_epi8(3), y = _mm256_set1_epi8(2), ones = _mm256_set1_epi16(1), t;
    PEAK_LOOP(__m256i, "+x", __asm__ volatile("vpmaddubsw %2, %3, %1\n\tvpmaddwd %4, %1, %1\n\tvpaddd %1, %0, %0"
                                              : "+x"(sum[i]), "=&x"(t)
                                              : "x"(y), "x"(x), "x"(ones)))
    return 64.0 * PEAK_CHAINS * (double)rounds;
#elif defined(__ARM_FEATURE_MATMUL_INT8)
    int8x16_t x = vdupq_n_s8(3), y = vdupq_n_s8(2);
    PEAK_LOOP(int32x4_t, "+w", sum[i] = vmmlaq_s32(sum[i], x, y))
    return 64.0 * PEAK_CHAINS * (double)rounds;
#elif defined(__ARM_FEATURE_DOTPROD)
    int8x16_t x = vdupq_n_s8(3), y = vdupq_n_s8(2);
    PEAK_LOOP(int32x4_t, "+w", sum[i] = vdotq_s32(sum[i], x, y))
    return 32.0 * PEAK_CHAINS * (double)rounds;
#else
    (void)rounds;
    return 0;
#endif
}

/* Runs `rounds` of the loop; the operations (multiplications and additions) that it did, 0: no such instruction. */
static __attribute__((unused)) double wide_peak(enum peak kind, int64_t rounds)
{
    return kind == PEAK_INT8 ? peak_int8(rounds) : kind == PEAK_F32 ? peak_f32(rounds) : 0;
}

#endif
