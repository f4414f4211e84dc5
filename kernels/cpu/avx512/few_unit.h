/* What one unit of weights adds to an activation row's sums.
 *
 * Codes and activations are turned (turn.h): a lane has 4 values of one run of 16 in each of four registers, so four dot products add
 * up to a run's sum, and a unit takes one conversion and one fma where its natural order takes four of both and four
 * permutations of scales. What the codes' offset or the minimums contribute is added from the sums of the activations. */
#ifndef KERNELS_CPU_AVX512_FEW_UNIT_H
#define KERNELS_CPU_AVX512_FEW_UNIT_H

#include "kernels/cpu/avx512/turn.h"
#include "kernels/cpu/avx512/unit.h"

/* A unit of weights in the order of struct turned: weight = scale * code + offset */
struct turned_weights {
    __m512i code[4];
    __m512 scale, offset;
};

INLINE struct turned_weights turn_unit(struct shape f, const struct unit *u)
{
    struct turned_weights t = {.code = {u->code[0], u->code[1], u->code[2], u->code[3]}};
    turn_words(t.code);
    t.scale = f.group == 16 ? turn_runs(u->scale) : turn_eight(u->scale);
    t.offset = !f.min ? _mm512_mul_ps(t.scale, _mm512_set1_ps((float)-f.offset)) : f.group == 16 ? turn_runs(u->min) : turn_eight(u->min);
    return t;
}

INLINE __m512 add_unit(const struct turned_weights *t, const struct turned *x, __m512 sum)
{
    __m512i dot = _mm512_setzero_si512();
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++)
        dot = _mm512_dpbusd_epi32(dot, t->code[j], _mm512_loadu_si512(x->q[j]));
    sum = _mm512_fmadd_ps(t->offset, _mm512_loadu_ps(x->s), sum);
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), _mm512_mul_ps(t->scale, _mm512_loadu_ps(x->d)), sum);
}

#endif
