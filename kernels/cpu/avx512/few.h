/* Kernels of the AVX-512 table. */
#ifndef KERNELS_CPU_AVX512_FEW_H
#define KERNELS_CPU_AVX512_FEW_H

#include <immintrin.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/wide/lanes.h"
#include "kernels/cpu/wide/reach.h"

#define LINEAR_FUNCTION(name) \
    void name(const struct weight *w, int64_t first, int64_t end, const struct input *in, float *y, int64_t y_stride, void *scratch)

/* Quantised formats and the form of activations that their rows are multiplied with. */
#define FEW_FORMATS(X)                                                                                                     \
    X(Q4_0, q4_0, FORM_NIBBLE) X(Q4_1, q4_1, FORM_NIBBLE) X(Q5_0, q5_0, FORM_NIBBLE) X(Q5_1, q5_1, FORM_NIBBLE)              \
    X(Q8_0, q8_0, FORM_TURNED) X(Q2_K, q2_k, FORM_TURNED) X(Q3_K, q3_k, FORM_TURNED) X(Q4_K, q4_k, FORM_TURNED)                      \
    X(Q5_K, q5_k, FORM_TURNED) X(Q6_K, q6_k, FORM_TURNED) X(IQ4_NL, iq4_nl, FORM_NIBBLE) X(IQ4_XS, iq4_xs, FORM_TURNED)            \
    X(IQ2_XXS, iq2_xxs, FORM_TURNED) X(IQ2_XS, iq2_xs, FORM_TURNED) X(IQ2_S, iq2_s, FORM_TURNED) X(IQ3_XXS, iq3_xxs, FORM_TURNED)    \
    X(IQ3_S, iq3_s, FORM_TURNED) X(IQ1_S, iq1_s, FORM_TURNED) X(IQ1_M, iq1_m, FORM_TURNED) X(TQ1_0, tq1_0, FORM_TURNED)              \
    X(TQ2_0, tq2_0, FORM_TURNED) X(MXFP4, mxfp4, FORM_TURNED) X(NVFP4, nvfp4, FORM_TURNED) X(Q1_0, q1_0, FORM_TURNED)                \
    X(Q2_0, q2_0, FORM_TURNED)

/* few.c, few_iq.c and nibble.c: weights read straight from storage; many.c: the same formats through unpacked panels */
#define DECLARE(NAME, id, form)             \
    LINEAR_FUNCTION(avx512_few_##id);       \
    LINEAR_FUNCTION(avx512_many_##id);
FEW_FORMATS(DECLARE)
#undef DECLARE
enum { AVX512_PANEL_ROWS = 2 * PANEL_ROWS };
size_t avx512_panel_bytes(int64_t n, int32_t rows);
/* pack.c: FORM_APART, FORM_PACKED32; see struct isa */
void avx512_pack(struct input *in, int32_t tile);
void avx512_gather(struct input *in, int64_t block);

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

/* panel_bf16.c: only where the processor has AVX512-BF16 */
LINEAR_FUNCTION(avx512_many_bf16);
void avx512_pack_bf16(struct input *in, int32_t tile); /* FORM_PACKED16 */
size_t avx512_bf16_panel_bytes(int64_t n, int32_t rows);
double avx512_peak_bf16(int64_t rounds);

#endif
