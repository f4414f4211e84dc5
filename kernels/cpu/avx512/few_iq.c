/* few.c for the types whose codebooks are looked up for two units at a time. */
#include "kernels/cpu/avx512/few.h"
#include "kernels/cpu/avx512/few_unit.h"
#include "kernels/cpu/avx512/unit_iq.h"

INLINE void few_rows(struct reach reach, decode_pair_function *decode, decode_function *alone, struct shape f,
                     const struct weight *w, int64_t first, int64_t end, const struct input *in, int32_t row, int rows, float *y,
                     int64_t y_stride)
{
    int64_t units = w->in / UNIT;
    const struct turned *x = in->turned + row;
    struct ends ends[2];
    for (int64_t out = first; out < end; out++) {
        __m512 sum[2];
#pragma GCC unroll 2
        for (int r = 0; r < rows; r++)
            sum[r] = _mm512_setzero_ps();
        const unsigned char *p = w->data + out * w->row_bytes;
        int64_t i = 0;
        for (; i + 2 <= units; i += 2, p += 2 * f.unit_bytes) {
            struct unit u[2];
            ask_ahead(reach, p, 128);
            decode(p, p + f.unit_bytes, u);
#pragma GCC unroll 2
            for (int k = 0; k < 2; k++) {
                struct turned_weights t = turn_unit(f, u + k);
#pragma GCC unroll 2
                for (int r = 0; r < rows; r++)
                    sum[r] = add_unit(&t, x + (i + k) * in->rows + r, sum[r]);
            }
        }
        if (i < units) {
            struct unit u = alone(p, 8);
            struct turned_weights t = turn_unit(f, &u);
#pragma GCC unroll 2
            for (int r = 0; r < rows; r++)
                sum[r] = add_unit(&t, x + i * in->rows + r, sum[r]);
        }
        int at = (int)(out - first) % 16;
#pragma GCC unroll 2
        for (int r = 0; r < rows; r++)
            _mm512_store_ps(ends[r].lanes[at], sum[r]);
        if (at == 15 || out + 1 == end)
            for (int r = 0; r < rows; r++)
                store_ends(&ends[r], at + 1, y + in->row[row + r] * y_stride + out - at);
    }
}

#define FEW(name, NAME, bytes, group_, has_min, largest)                                                                         \
    void avx512_few_##name(const struct weight *w, int64_t first, int64_t end, const struct input *in, float *y, int64_t y_stride, \
                           void *scratch)                                                                                        \
    {                                                                                                                            \
        (void)scratch;                                                                                                           \
        const struct shape f = {.unit_bytes = bytes, .offset = NAME##_OFFSET, .group = group_};                                  \
        int32_t row = 0;                                                                                                         \
        for (; row + 2 <= in->rows; row += 2)                                                                                    \
            WITH_REACH(few_rows, decode_##name##_pair, decode_##name, f, w, first, end, in, row, 2, y, y_stride);                \
        if (row < in->rows)                                                                                                      \
            WITH_REACH(few_rows, decode_##name##_pair, decode_##name, f, w, first, end, in, row, 1, y, y_stride);                \
    }
PAIR_FORMATS(FEW)
