/* few.c for the types whose codebooks are looked up for two units at a time. */
#include "kernels/cpu/avx512/few.h"
#include "kernels/cpu/avx512/unit_iq.h"

/* Where an activation row's numbers lie, and its sums. */
struct row {
    const int8_t *q;
    const float *d16, *s16;
    __m512 sum[2], offset;
};

INLINE void add_unit(const struct unit *u, struct row *x, int64_t unit)
{
    const __m512i spread = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    __m512 product = _mm512_mul_ps(u->scale, _mm512_loadu_ps(x->d16 + 16 * unit));
    x->offset = _mm512_fmadd_ps(u->scale, _mm512_loadu_ps(x->s16 + 16 * unit), x->offset);
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        __m512i dot = _mm512_dpbusd_epi32(_mm512_setzero_si512(), u->code[k], _mm512_loadu_si512(x->q + UNIT * unit + 64 * k));
        __m512 factor = _mm512_permutexvar_ps(_mm512_add_epi32(spread, _mm512_set1_epi32(4 * k)), product);
        x->sum[k & 1] = _mm512_fmadd_ps(floats(dot), factor, x->sum[k & 1]);
    }
}

INLINE void few_rows(decode_pair_function *decode, decode_function *alone, int unit_bytes, int offset, const struct weight *w, int64_t first,
                     int64_t end, const struct input *in, int32_t row, int rows, float *y, int64_t y_stride)
{
    int64_t units = w->in / UNIT;
    for (int64_t out = first; out < end; out++) {
        struct row x[2];
#pragma GCC unroll 2
        for (int r = 0; r < rows; r++) {
            int64_t group = (row + r) * (in->padded / 16);
            x[r] = (struct row){.q = in->q + (row + r) * in->padded, .d16 = in->d16 + group, .s16 = in->s16 + group};
        }
        const unsigned char *p = w->data + out * w->row_bytes;
        int64_t i = 0;
        for (; i + 2 <= units; i += 2, p += 2 * unit_bytes) {
            struct unit u[2];
            _mm_prefetch((const char *)p + FEW_AHEAD, _MM_HINT_T0);
            _mm_prefetch((const char *)p + FEW_AHEAD + 64, _MM_HINT_T0);
            decode(p, p + unit_bytes, u);
#pragma GCC unroll 2
            for (int r = 0; r < rows; r++) {
                add_unit(u, x + r, i);
                add_unit(u + 1, x + r, i + 1);
            }
        }
        if (i < units) {
            struct unit u = alone(p, 8);
#pragma GCC unroll 2
            for (int r = 0; r < rows; r++)
                add_unit(&u, x + r, i);
        }
#pragma GCC unroll 2
        for (int r = 0; r < rows; r++) {
            __m512 total = _mm512_fnmadd_ps(_mm512_set1_ps((float)offset), x[r].offset, _mm512_add_ps(x[r].sum[0], x[r].sum[1]));
            y[in->row[row + r] * y_stride + out] = _mm512_reduce_add_ps(total);
        }
    }
}

#define FEW(name, NAME, unit_bytes, group, has_min)                                                                          \
    void avx512_few_##name(const struct weight *w, int64_t first, int64_t end, const struct input *in, float *y, int64_t y_stride, \
                           void *scratch)                                                                                    \
    {                                                                                                                        \
        (void)scratch;                                                                                                       \
        int32_t row = 0;                                                                                                     \
        for (; row + 2 <= in->rows; row += 2)                                                                                \
            few_rows(decode_##name##_pair, decode_##name, unit_bytes, NAME##_OFFSET, w, first, end, in, row, 2, y, y_stride);  \
        if (row < in->rows)                                                                                                  \
            few_rows(decode_##name##_pair, decode_##name, unit_bytes, NAME##_OFFSET, w, first, end, in, row, 1, y, y_stride);  \
    }
PAIR_FORMATS(FEW)
