/* Transposing 16 x 16 words in registers. */
#ifndef KERNELS_CPU_AVX512_TURN_H
#define KERNELS_CPU_AVX512_TURN_H

#include <immintrin.h>

#include "kernels/cpu/wide/lanes.h"

/* v: 16 rows of 16 words, turned inside their 16-byte lanes; turned_column() then puts a column's four lanes together. */
INLINE void turn_lanes(__m512i v[16])
{
    __m512i pair[16];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) { /* pairs of rows side by side */
        pair[2 * i] = _mm512_unpacklo_epi32(v[2 * i], v[2 * i + 1]);
        pair[2 * i + 1] = _mm512_unpackhi_epi32(v[2 * i], v[2 * i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) { /* four rows: v[4 i + c] has column c of every 16-byte lane */
        v[4 * i] = _mm512_unpacklo_epi64(pair[4 * i], pair[4 * i + 2]);
        v[4 * i + 1] = _mm512_unpackhi_epi64(pair[4 * i], pair[4 * i + 2]);
        v[4 * i + 2] = _mm512_unpacklo_epi64(pair[4 * i + 1], pair[4 * i + 3]);
        v[4 * i + 3] = _mm512_unpackhi_epi64(pair[4 * i + 1], pair[4 * i + 3]);
    }
}

/* Column `column` of the 16 rows that turn_lanes() was given: lane column / 4 of four registers. */
INLINE __m512i turned_column(const __m512i v[16], int column)
{
    int c = column % 4;
    __m512i even, odd;
    if (column < 8) {
        even = _mm512_shuffle_i32x4(v[c], v[4 + c], 0x44);
        odd = _mm512_shuffle_i32x4(v[8 + c], v[12 + c], 0x44);
    } else {
        even = _mm512_shuffle_i32x4(v[c], v[4 + c], 0xEE);
        odd = _mm512_shuffle_i32x4(v[8 + c], v[12 + c], 0xEE);
    }
    return column / 4 % 2 ? _mm512_shuffle_i32x4(even, odd, 0xDD) : _mm512_shuffle_i32x4(even, odd, 0x88);
}

/* 256 values in their order, 64 bytes a register, to v[j]: bytes 4j .. 4j + 3 of each run of 16 values, a run in a lane. Run t comes to
 * lane t % 4 * 4 + t / 4: that takes eight instructions, to lane t it would take twelve. */
INLINE void turn_words(__m512i v[4])
{
    __m512i a = _mm512_unpacklo_epi32(v[0], v[1]), b = _mm512_unpackhi_epi32(v[0], v[1]);
    __m512i c = _mm512_unpacklo_epi32(v[2], v[3]), d = _mm512_unpackhi_epi32(v[2], v[3]);
    v[0] = _mm512_unpacklo_epi64(a, c);
    v[1] = _mm512_unpackhi_epi64(a, c);
    v[2] = _mm512_unpacklo_epi64(b, d);
    v[3] = _mm512_unpackhi_epi64(b, d);
}

/* One value for each run, in the order of those lanes. */
INLINE __m512 turn_runs(__m512 v)
{
    return _mm512_permutexvar_ps(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), v);
}
/* The same of eight values for two runs each. */
INLINE __m512 turn_eight(__m512 v)
{
    return _mm512_permutexvar_ps(_mm512_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6, 1, 3, 5, 7, 1, 3, 5, 7), v);
}

#endif
