/* What one unit of weights adds to an activation row's sums. */
#ifndef KERNELS_CPU_AVX512_FEW_UNIT_H
#define KERNELS_CPU_AVX512_FEW_UNIT_H

#include "kernels/cpu/avx512/unit.h"

struct shape { /* of a format */
    int unit_bytes, offset, group;
    bool min;
};

/* UNIT / group floats */
INLINE __m512 load_groups(const float *p, int group) { return group == 16 ? _mm512_loadu_ps(p) : eight(_mm256_loadu_ps(p)); }

/* q, d, s: of an activation row at this unit; offset: what one unit of activation sum adds per group */
INLINE void add_unit(struct shape f, const struct unit *u, __m512 offset, const int8_t *q, const float *d, const float *s, __m512 sum[2])
{
    const __m512i spread16 = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    const __m512i spread32 = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
    __m512 product = _mm512_mul_ps(u->scale, load_groups(d, f.group));
    sum[1] = _mm512_fmadd_ps(offset, load_groups(s, f.group), sum[1]);
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        __m512i dot = _mm512_dpbusd_epi32(_mm512_setzero_si512(), u->code[k], _mm512_loadu_si512(q + 64 * k));
        __m512i lane = _mm512_add_epi32(f.group == 16 ? spread16 : spread32, _mm512_set1_epi32(64 / f.group * k));
        sum[k & 1] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), _mm512_permutexvar_ps(lane, product), sum[k & 1]);
    }
}

#endif
