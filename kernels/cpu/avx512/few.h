/* Kernels of the AVX-512 table. */
#ifndef KERNELS_CPU_AVX512_FEW_H
#define KERNELS_CPU_AVX512_FEW_H

#include <immintrin.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/wide/lanes.h"

enum { FEW_AHEAD = 4096 }; /* bytes that weights are prefetched ahead */

#define LINEAR_FUNCTION(name) \
    void name(const struct weight *w, int64_t first, int64_t end, const struct input *in, float *y, int64_t y_stride, void *scratch)

/* few.c and nibble.c: weights read straight from storage */
LINEAR_FUNCTION(avx512_few_q4_0);
LINEAR_FUNCTION(avx512_few_q4_1);
LINEAR_FUNCTION(avx512_few_q5_0);
LINEAR_FUNCTION(avx512_few_q5_1);
LINEAR_FUNCTION(avx512_few_q8_0);
LINEAR_FUNCTION(avx512_few_q2_k);
LINEAR_FUNCTION(avx512_few_q3_k);
LINEAR_FUNCTION(avx512_few_q4_k);
LINEAR_FUNCTION(avx512_few_q5_k);
LINEAR_FUNCTION(avx512_few_q6_k);
LINEAR_FUNCTION(avx512_few_iq4_nl);
LINEAR_FUNCTION(avx512_few_iq4_xs);
LINEAR_FUNCTION(avx512_few_iq2_xxs);
LINEAR_FUNCTION(avx512_few_iq2_xs);
LINEAR_FUNCTION(avx512_few_iq2_s);
LINEAR_FUNCTION(avx512_few_iq3_xxs);
LINEAR_FUNCTION(avx512_few_iq3_s);
LINEAR_FUNCTION(avx512_few_iq1_s);
LINEAR_FUNCTION(avx512_few_iq1_m);
LINEAR_FUNCTION(avx512_few_tq1_0);
LINEAR_FUNCTION(avx512_few_tq2_0);
LINEAR_FUNCTION(avx512_few_mxfp4);
LINEAR_FUNCTION(avx512_few_nvfp4);
LINEAR_FUNCTION(avx512_few_q1_0);
LINEAR_FUNCTION(avx512_few_q2_0);

/* Row ends: the lanes of up to 16 weight rows wait here, then become 16 sums at once. One by one, at 2048 weights a row,
 * sums over lanes took a quarter of the time. */
struct ends {
    _Alignas(64) float lanes[16][16];
};

/* y[0 .. count) = sums of the lanes of the first `count` rows */
INLINE void store_ends(struct ends *e, int count, float *y)
{
    __m512 a[16];
    for (int i = count; i < 16; i++)
        _mm512_store_ps(e->lanes[i], _mm512_setzero_ps());
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++)
        a[i] = _mm512_load_ps(e->lanes[i]);
    /* halves of neighbours side by side and added: 16 -> 8 -> 4 vectors; each 16-byte lane then has four rows' sums */
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        a[i] = _mm512_add_ps(_mm512_unpacklo_ps(a[2 * i], a[2 * i + 1]), _mm512_unpackhi_ps(a[2 * i], a[2 * i + 1]));
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        __m512d low = _mm512_castps_pd(a[2 * i]), high = _mm512_castps_pd(a[2 * i + 1]);
        a[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(low, high)), _mm512_castpd_ps(_mm512_unpackhi_pd(low, high)));
    }
    __m512 first = _mm512_add_ps(_mm512_shuffle_f32x4(a[0], a[1], 0x88), _mm512_shuffle_f32x4(a[0], a[1], 0xDD));
    __m512 second = _mm512_add_ps(_mm512_shuffle_f32x4(a[2], a[3], 0x88), _mm512_shuffle_f32x4(a[2], a[3], 0xDD));
    __m512 all = _mm512_add_ps(_mm512_shuffle_f32x4(first, second, 0x88), _mm512_shuffle_f32x4(first, second, 0xDD));
    _mm512_mask_storeu_ps(y, (__mmask16)((1u << count) - 1), all);
}

/* many.c: the same formats through unpacked panels */
LINEAR_FUNCTION(avx512_many_q4_0);
LINEAR_FUNCTION(avx512_many_q4_1);
LINEAR_FUNCTION(avx512_many_q5_0);
LINEAR_FUNCTION(avx512_many_q5_1);
LINEAR_FUNCTION(avx512_many_q8_0);
LINEAR_FUNCTION(avx512_many_q2_k);
LINEAR_FUNCTION(avx512_many_q3_k);
LINEAR_FUNCTION(avx512_many_q4_k);
LINEAR_FUNCTION(avx512_many_q5_k);
LINEAR_FUNCTION(avx512_many_q6_k);
LINEAR_FUNCTION(avx512_many_iq4_nl);
LINEAR_FUNCTION(avx512_many_iq4_xs);
LINEAR_FUNCTION(avx512_many_iq2_xxs);
LINEAR_FUNCTION(avx512_many_iq2_xs);
LINEAR_FUNCTION(avx512_many_iq2_s);
LINEAR_FUNCTION(avx512_many_iq3_xxs);
LINEAR_FUNCTION(avx512_many_iq3_s);
LINEAR_FUNCTION(avx512_many_iq1_s);
LINEAR_FUNCTION(avx512_many_iq1_m);
LINEAR_FUNCTION(avx512_many_tq1_0);
LINEAR_FUNCTION(avx512_many_tq2_0);
LINEAR_FUNCTION(avx512_many_mxfp4);
LINEAR_FUNCTION(avx512_many_nvfp4);
LINEAR_FUNCTION(avx512_many_q1_0);
LINEAR_FUNCTION(avx512_many_q2_0);
size_t avx512_panel_bytes(int64_t n, int32_t rows);

/* panel_bf16.c: only where the processor has AVX512-BF16 */
LINEAR_FUNCTION(avx512_many_bf16);
size_t avx512_bf16_panel_bytes(int64_t n, int32_t rows);
double avx512_peak_bf16(int64_t rounds);

#endif
