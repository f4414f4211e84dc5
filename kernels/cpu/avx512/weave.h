/* Six rows side by side, as panels want activations: [k][6 rows][4 bytes], eight k at once.
 *
 * Three registers hold a pair of rows each, a k in every 8 bytes. Pair c of k belongs at place 3 k + c of the three registers that are
 * stored, so into slot (3 k + c) % 8 of one of them. Three and eight have no common factor: a pair's eight k need eight different slots.
 * So the permutation that made the pair can put them there, and blends do the rest. */
#ifndef KERNELS_CPU_AVX512_WEAVE_H
#define KERNELS_CPU_AVX512_WEAVE_H

#include <immintrin.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/wide/lanes.h"

_Static_assert(PACK_ROWS == 6, "three pairs");

/* ---- a tile's rows ------------------------------------------------------------------------------------------------------- */

struct rows {
    const float *x[PACK_ROWS];
    int64_t n[PACK_ROWS];  /* values; none behind the last row */
    int64_t strips, whole; /* strips of UNIT values; those before `whole` are there in all rows */
};

INLINE struct rows rows_of(const struct input *in, int32_t tile)
{
    struct rows rows = {.strips = in->padded / UNIT, .whole = in->n / UNIT};
    for (int r = 0; r < PACK_ROWS; r++) {
        int32_t row = tile * PACK_ROWS + r;
        bool there = row < in->rows;
        rows.x[r] = in->floats + in->from[there ? row : 0] * in->float_stride;
        rows.n[r] = there ? in->n : 0;
        rows.whole = there ? rows.whole : 0;
    }
    return rows;
}

/* 16 values of row r from `at` on, zeros behind its end */
INLINE __m512 load_16(const struct rows *rows, bool whole, int r, int64_t at)
{
    int64_t left = rows->n[r] - at;
    if (whole || left >= 16)
        return _mm512_loadu_ps(rows->x[r] + at);
    return _mm512_maskz_loadu_ps(left > 0 ? (__mmask16)((1u << left) - 1) : 0, rows->x[r] + at);
}

/* Asks for lines that will be written: a store that misses the caches holds up all stores behind it. */
INLINE void claim(void *p, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 64)
        __builtin_prefetch((char *)p + i, 1);
}

/* ---- weaving ------------------------------------------------------------------------------------------------------------- */

/* Which k of pair c stands in slots 0 to 7: 3 (slot - c) % 8, since 3 x 3 = 1. X(k) makes an index of 8 bytes. */
#define WEAVE_ORDERS(X)                                              \
    {                                                                \
        _mm512_setr_epi64(X(0), X(3), X(6), X(1), X(4), X(7), X(2), X(5)), \
        _mm512_setr_epi64(X(5), X(0), X(3), X(6), X(1), X(4), X(7), X(2)), \
        _mm512_setr_epi64(X(2), X(5), X(0), X(3), X(6), X(1), X(4), X(7)), \
    }

/* pair[c]: as those orders have it. to: [8 k][3 pairs][8 bytes] */
INLINE void weave(const __m512i pair[3], void *to)
{
    const __mmask8 b[3] = {0x92, 0x24, 0x49}, c[3] = {0x24, 0x49, 0x92}; /* where place % 3 is 1, is 2 */
    char *at = to;
#pragma GCC unroll 3
    for (int i = 0; i < 3; i++)
        _mm512_storeu_si512(at + 64 * i, _mm512_mask_mov_epi64(_mm512_mask_mov_epi64(pair[0], b[i], pair[1]), c[i], pair[2]));
}

/* v[c]: rows 2 c and 2 c + 1, eight words of each. to: [8][6] words */
INLINE void weave_eights(const __m512i v[3], void *to)
{
#define INDEX(k) ((k) | (8LL + (k)) << 32)
    const __m512i order[3] = WEAVE_ORDERS(INDEX);
#undef INDEX
    const __m512i pair[3] = {_mm512_permutexvar_epi32(order[0], v[0]), _mm512_permutexvar_epi32(order[1], v[1]),
                             _mm512_permutexvar_epi32(order[2], v[2])};
    weave(pair, to);
}

/* Sixteen words of each row. to: [16][6] words */
INLINE void weave_rows(const __m512i row[6], void *to)
{
#define INDEX(k) ((k) | (16LL + (k)) << 32)
    const __m512i order[3] = WEAVE_ORDERS(INDEX);
#undef INDEX
    char *at = to;
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
        __m512i pair[3];
#pragma GCC unroll 3
        for (int c = 0; c < 3; c++)
            pair[c] = _mm512_permutex2var_epi32(row[2 * c], _mm512_add_epi32(order[c], _mm512_set1_epi32(8 * half)), row[2 * c + 1]);
        weave(pair, at + 192 * half);
    }
}

#endif
