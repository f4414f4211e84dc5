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

#endif
