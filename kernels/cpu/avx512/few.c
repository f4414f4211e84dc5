/* Quantised weights times int8 activations, straight from storage: one weight row at a time, up to eight activation rows
 * share its decoded units. A row's arithmetic is the same however many there are.
 *
 * A unit's four registers of codes give 16 sums of 4 products each; those of a group take the same scale, which a
 * permutation spreads from the products of weight scales and activation scales. What the codes' offset or the minimums
 * contribute is added at once from the sums of the activations (one fma per unit).
 * Two weight rows at once were slower: two streams defeat the prefetchers. */
#include "kernels/cpu/avx512/few.h"
#include "kernels/cpu/avx512/few_unit.h"
#include "kernels/cpu/avx512/unit_iq.h"

INLINE void prefetch_unit(const unsigned char *p, int size)
{
    for (int i = 0; i < size; i += 64)
        _mm_prefetch((const char *)p + FEW_AHEAD + i, _MM_HINT_T0);
}

/* All weight rows for `rows` activation rows from `row` on. */
INLINE void few_rows(decode_function *decode, struct shape f, const struct weight *w, int64_t first, int64_t end, const struct input *in, int32_t row,
                     int rows, float *y, int64_t y_stride)
{
    int64_t groups = in->padded / f.group, units = w->in / UNIT, step = UNIT / f.group;
    const int8_t *q = in->q + row * in->padded;
    const float *d = (f.group == 16 ? in->d16 : in->d) + row * groups, *s = (f.group == 16 ? in->s16 : in->s) + row * groups;
    int blocks = (int)(w->in % UNIT) / 32;
    struct ends ends[8];
    for (int64_t out = first; out < end; out++) {
        __m512 sum[8][2];
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
            sum[r][0] = sum[r][1] = _mm512_setzero_ps();
        const unsigned char *p = w->data + out * w->row_bytes;
        for (int64_t i = 0; i < units; i++, p += f.unit_bytes) {
            prefetch_unit(p, f.unit_bytes);
            struct unit u = decode(p, 8);
            __m512 offset = f.min ? u.min : _mm512_mul_ps(u.scale, _mm512_set1_ps((float)-f.offset));
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++)
                add_unit(f, &u, offset, q + r * in->padded + UNIT * i, d + r * groups + step * i, s + r * groups + step * i, sum[r]);
        }
        if (blocks) {
            struct unit u = decode(p, blocks);
            __m512 offset = f.min ? u.min : _mm512_mul_ps(u.scale, _mm512_set1_ps((float)-f.offset));
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++)
                add_unit(f, &u, offset, q + r * in->padded + UNIT * units, d + r * groups + step * units, s + r * groups + step * units, sum[r]);
        }
        int at = (int)(out - first) % 16;
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
            _mm512_store_ps(ends[r].lanes[at], _mm512_add_ps(sum[r][0], sum[r][1]));
        if (at == 15 || out + 1 == end)
            for (int r = 0; r < rows; r++)
                store_ends(&ends[r], at + 1, y + in->row[row + r] * y_stride + out - at);
    }
}

INLINE void few_units(decode_function *decode, struct shape f, const struct weight *w, int64_t first, int64_t end, const struct input *in, float *y,
                      int64_t y_stride)
{
    int32_t row = 0, rows = in->rows;
    for (; row + 8 <= rows; row += 8) /* runs of weight rows are short enough to stay in the cache */
        few_rows(decode, f, w, first, end, in, row, 8, y, y_stride);
    if (rows & 4)
        few_rows(decode, f, w, first, end, in, row, 4, y, y_stride), row += 4;
    if (rows & 2)
        few_rows(decode, f, w, first, end, in, row, 2, y, y_stride), row += 2;
    if (rows & 1)
        few_rows(decode, f, w, first, end, in, row, 1, y, y_stride);
}

#define FEW(name, NAME, bytes, group_, has_min)                                                                              \
    void avx512_few_##name(const struct weight *w, int64_t first, int64_t end, const struct input *in, float *y, int64_t y_stride, \
                           void *scratch)                                                                                    \
    {                                                                                                                        \
        (void)scratch;                                                                                                       \
        few_units(decode_##name, (struct shape){.unit_bytes = bytes, .offset = NAME##_OFFSET, .group = group_, .min = has_min}, w, first, end, in, y, \
                  y_stride);                                                                                                 \
    }
UNIT_FORMATS(FEW)
IQ_FORMATS(FEW)
