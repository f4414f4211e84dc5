/* Kernels of the AVX2 table: weights read straight from storage, and panels of bytes. */
#ifndef KERNELS_CPU_AVX2_FEW_H
#define KERNELS_CPU_AVX2_FEW_H

#include "kernels/cpu/cpu.h"

#define LINEAR_FUNCTION(name) \
    void name(const struct weight *w, int64_t first, int64_t end, const struct input *in, float *y, int64_t y_stride, void *scratch)
LINEAR_FUNCTION(avx2_few_q4_0);
LINEAR_FUNCTION(avx2_few_q4_1);
LINEAR_FUNCTION(avx2_few_q5_0);
LINEAR_FUNCTION(avx2_few_q5_1);
LINEAR_FUNCTION(avx2_few_q8_0);
LINEAR_FUNCTION(avx2_few_iq4_nl);
LINEAR_FUNCTION(avx2_few_q2_k);
LINEAR_FUNCTION(avx2_few_q3_k);
LINEAR_FUNCTION(avx2_few_q4_k);
LINEAR_FUNCTION(avx2_few_q5_k);
LINEAR_FUNCTION(avx2_few_q6_k);
LINEAR_FUNCTION(avx2_few_iq4_xs);
LINEAR_FUNCTION(avx2_few_iq2_xxs);
LINEAR_FUNCTION(avx2_few_iq2_xs);
LINEAR_FUNCTION(avx2_few_iq2_s);
LINEAR_FUNCTION(avx2_few_iq3_xxs);
LINEAR_FUNCTION(avx2_few_iq3_s);
LINEAR_FUNCTION(avx2_few_iq1_s);
LINEAR_FUNCTION(avx2_few_iq1_m);
LINEAR_FUNCTION(avx2_few_tq1_0);
LINEAR_FUNCTION(avx2_few_tq2_0);
LINEAR_FUNCTION(avx2_few_q1_0);
LINEAR_FUNCTION(avx2_few_q2_0);
LINEAR_FUNCTION(avx2_few_mxfp4);
LINEAR_FUNCTION(avx2_few_nvfp4);

LINEAR_FUNCTION(avx2_many_q4_0);
LINEAR_FUNCTION(avx2_many_q4_1);
LINEAR_FUNCTION(avx2_many_q5_0);
LINEAR_FUNCTION(avx2_many_q5_1);
LINEAR_FUNCTION(avx2_many_q2_k);
LINEAR_FUNCTION(avx2_many_q3_k);
LINEAR_FUNCTION(avx2_many_q4_k);
LINEAR_FUNCTION(avx2_many_q5_k);
LINEAR_FUNCTION(avx2_many_q6_k);
size_t avx2_bytes_scratch(int64_t n, int32_t rows);

#endif
