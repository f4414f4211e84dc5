/* Quantised weights times int8 activations, straight from storage: one weight row at a time, up to four activation rows
 * share its decoded units. A row's arithmetic is the same however many there are.
 *
 * A unit's four registers of codes give 16 sums of 4 products each; those of 16 weights take the same scale, which a
 * permutation spreads from the 16 products of weight scale and activation scale. What the codes' offset or the minimums
 * contribute is added at once from the sums of the activations (one fma per unit). */
#include "kernels/cpu/avx512/few.h"
#include "kernels/cpu/avx512/unit_iq.h"

INLINE void prefetch_unit(const unsigned char *p, int size)
{
    for (int i = 0; i < size; i += 64)
        _mm_prefetch((const char *)p + FEW_AHEAD + i, _MM_HINT_T0);
}

/* Where an activation row's numbers lie. */
struct row {
    const int8_t *q;
    const float *d16, *s16;
};

INLINE void add_unit(const struct unit *u, bool has_min, struct row x, int64_t unit, __m512 *sum, __m512 *offset)
{
    const __m512i spread = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    __m512 product = _mm512_mul_ps(u->scale, _mm512_loadu_ps(x.d16 + 16 * unit));
    *offset = _mm512_fmadd_ps(has_min ? u->min : u->scale, _mm512_loadu_ps(x.s16 + 16 * unit), *offset);
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        __m512i dot = _mm512_dpbusd_epi32(_mm512_setzero_si512(), u->code[k], _mm512_loadu_si512(x.q + UNIT * unit + 64 * k));
        __m512 factor = _mm512_permutexvar_ps(_mm512_add_epi32(spread, _mm512_set1_epi32(4 * k)), product);
        sum[k & 1] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), factor, sum[k & 1]);
    }
}

/* All weight rows for `rows` activation rows from `row` on. */
INLINE void few_rows(decode_function *decode, int unit_bytes, int offset, bool has_min, const struct weight *w, int64_t first, int64_t end,
                     const struct input *in, int32_t row, int rows, float *y, int64_t y_stride)
{
    struct row x[4];
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
        int64_t group = (row + r) * (in->padded / 16);
        x[r] = (struct row){in->q + (row + r) * in->padded, in->d16 + group, in->s16 + group};
    }
    int64_t units = w->in / UNIT;
    int blocks = (int)(w->in % UNIT) / 32;
    for (int64_t out = first; out < end; out++) {
        __m512 sum[4][2], offsets[4];
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++)
            sum[r][0] = sum[r][1] = offsets[r] = _mm512_setzero_ps();
        const unsigned char *p = w->data + out * w->row_bytes;
        for (int64_t i = 0; i < units; i++, p += unit_bytes) {
            prefetch_unit(p, unit_bytes);
            struct unit u = decode(p, 8);
#pragma GCC unroll 4
            for (int r = 0; r < rows; r++)
                add_unit(&u, has_min, x[r], i, sum[r], offsets + r);
        }
        if (blocks) {
            struct unit u = decode(p, blocks);
#pragma GCC unroll 4
            for (int r = 0; r < rows; r++)
                add_unit(&u, has_min, x[r], units, sum[r], offsets + r);
        }
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            __m512 total = _mm512_add_ps(sum[r][0], sum[r][1]);
            total = has_min ? _mm512_add_ps(total, offsets[r]) : _mm512_fnmadd_ps(_mm512_set1_ps((float)offset), offsets[r], total);
            y[in->row[row + r] * y_stride + out] = _mm512_reduce_add_ps(total);
        }
    }
}

INLINE void few_units(decode_function *decode, int unit_bytes, int offset, bool has_min, const struct weight *w, int64_t first, int64_t end,
                      const struct input *in, float *y, int64_t y_stride)
{
    int32_t row = 0;
    for (; row + 4 <= in->rows; row += 4) /* runs of weight rows are short enough to stay in the cache */
        few_rows(decode, unit_bytes, offset, has_min, w, first, end, in, row, 4, y, y_stride);
    int left = in->rows - row;
    if (left == 1)
        few_rows(decode, unit_bytes, offset, has_min, w, first, end, in, row, 1, y, y_stride);
    else if (left == 2)
        few_rows(decode, unit_bytes, offset, has_min, w, first, end, in, row, 2, y, y_stride);
    else if (left == 3)
        few_rows(decode, unit_bytes, offset, has_min, w, first, end, in, row, 3, y, y_stride);
}

#define FEW(name, NAME, unit_bytes, group, has_min)                                                                          \
    void avx512_few_##name(const struct weight *w, int64_t first, int64_t end, const struct input *in, float *y, int64_t y_stride, \
                           void *scratch)                                                                                    \
    {                                                                                                                        \
        (void)scratch;                                                                                                       \
        few_units(decode_##name, unit_bytes, NAME##_OFFSET, has_min, w, first, end, in, y, y_stride);                         \
    }
UNIT_FORMATS(FEW)
IQ_FORMATS(FEW)
