/* Kernels of the AVX-512 table. */
#ifndef KERNELS_CPU_AVX512_FEW_H
#define KERNELS_CPU_AVX512_FEW_H

#include "kernels/cpu/cpu.h"

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
size_t avx512_panel_bytes(int64_t n);

/* panel_bf16.c: only where the processor has AVX512-BF16 */
LINEAR_FUNCTION(avx512_many_bf16);
size_t avx512_bf16_panel_bytes(int64_t n);

#endif
