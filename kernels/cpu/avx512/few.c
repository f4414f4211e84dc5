/* Quantised weights times int8 activations, straight from storage: one weight row at a time, up to eight activation rows
 * share its decoded units. A row's arithmetic is the same however many there are.
 *
 * Two weight rows at once were slower: two streams defeat the prefetchers. */
#include "kernels/cpu/avx512/few.h"
#include "kernels/cpu/avx512/few_unit.h"
#include "kernels/cpu/avx512/unit_iq.h"

/* All weight rows for `rows` activation rows from `row` on. Sixteen weight rows go over the units in chunks whose activations, 3 KB for
 * 2048 values, stay in the first-level cache: eight rows of 8192 took twice the time. */
INLINE void few_rows(struct reach reach, decode_function *decode, struct shape f, const struct weight *w, int64_t first,
                     int64_t end, const struct input *in, int32_t row, int rows, float *y, int64_t y_stride)
{
    int64_t units = w->in / UNIT, chunk = 64 / rows;
    int blocks = (int)(w->in % UNIT) / 32;
    int rows_ahead = (int)(reach.near / (chunk * f.unit_bytes)) + 1;
    const struct reach from_there = {0, reach.far ? reach.far - reach.near : 0};
    const struct turned *x = in->turned + row;
    struct ends ends[8];
    for (int64_t out = first; out < end; out += 16) {
        int count = end - out < 16 ? (int)(end - out) : 16;
        int64_t from = 0, to;
        do {
            to = units - from < chunk ? units : from + chunk;
            for (int at = 0; at < count; at++) {
                __m512 sum[8];
#pragma GCC unroll 8
                for (int r = 0; r < rows; r++)
                    sum[r] = from ? _mm512_load_ps(ends[r].lanes[at]) : _mm512_setzero_ps();
                const unsigned char *p = w->data + (out + at) * w->row_bytes + from * f.unit_bytes, *ahead = p + reach.near;
                if (units > chunk) /* what comes later: of a row further on, in the next chunk of one of the first rows, or of the next rows */
                    ahead = at + rows_ahead < count ? p + rows_ahead * w->row_bytes
                            : to < units            ? p + (rows_ahead - count) * w->row_bytes + chunk * f.unit_bytes
                                                    : p + rows_ahead * w->row_bytes - from * f.unit_bytes;
                for (int64_t i = from; i < to; i++, p += f.unit_bytes) {
                    ask_ahead(from_there, ahead + (i - from) * f.unit_bytes, f.unit_bytes);
                    struct unit u = decode(p, 8);
                    struct turned_weights t = turn_unit(f, &u);
#pragma GCC unroll 8
                    for (int r = 0; r < rows; r++)
                        sum[r] = add_unit(&t, x + i * in->rows + r, sum[r]);
                }
                if (to == units && blocks) {
                    struct unit u = decode(p, blocks);
                    struct turned_weights t = turn_unit(f, &u);
#pragma GCC unroll 8
                    for (int r = 0; r < rows; r++)
                        sum[r] = add_unit(&t, x + units * in->rows + r, sum[r]);
                }
#pragma GCC unroll 8
                for (int r = 0; r < rows; r++)
                    _mm512_store_ps(ends[r].lanes[at], sum[r]);
            }
            from = to;
        } while (from < units);
        for (int r = 0; r < rows; r++)
            store_ends(&ends[r], count, y + in->row[row + r] * y_stride + out);
    }
}

/* The same for one activation row, all units of a weight row one after the other. */
INLINE void few_alone(struct reach reach, decode_function *decode, struct shape f, const struct weight *w, int64_t first,
                      int64_t end, const struct input *in, int32_t row, float *y)
{
    const int64_t units = w->in / UNIT, x_stride = in->rows;
    const int blocks = (int)(w->in % UNIT) / 32;
    struct ends ends;
    for (int64_t out = first; out < end; out++) {
        const struct turned *x = in->turned + row;
        const unsigned char *p = w->data + out * w->row_bytes;
        __m512 sum = _mm512_setzero_ps();
        for (int64_t i = 0; i < units; i++, p += f.unit_bytes, x += x_stride) {
            ask_ahead(reach, p, f.unit_bytes);
            struct unit u = decode(p, 8);
            struct turned_weights t = turn_unit(f, &u);
            sum = add_unit(&t, x, sum);
        }
        if (blocks) {
            struct unit u = decode(p, blocks);
            struct turned_weights t = turn_unit(f, &u);
            sum = add_unit(&t, x, sum);
        }
        int at = (int)(out - first) % 16;
        _mm512_store_ps(ends.lanes[at], sum);
        if (at == 15 || out + 1 == end)
            store_ends(&ends, at + 1, y + out - at);
    }
}

INLINE void few_units(decode_function *decode, struct shape f, const struct weight *w, int64_t first, int64_t end, const struct input *in, float *y,
                      int64_t y_stride)
{
    int32_t row = 0, rows = in->rows;
    for (; row + 8 <= rows; row += 8) /* runs of weight rows are short enough to stay in the cache; memory can wait */
        few_rows(reach_others, decode, f, w, first, end, in, row, 8, y, y_stride);
    if (rows & 4)
        WITH_REACH(few_rows, decode, f, w, first, end, in, row, 4, y, y_stride), row += 4;
    if (rows & 2)
        WITH_REACH(few_rows, decode, f, w, first, end, in, row, 2, y, y_stride), row += 2;
    if (rows & 1 && w->in > 64 * UNIT) /* its activations alone fill the first-level cache */
        few_rows(reach_others, decode, f, w, first, end, in, row, 1, y, y_stride);
    else if (rows & 1)
        WITH_REACH(few_alone, decode, f, w, first, end, in, row, y + in->row[row] * y_stride);
}

#define FEW(name, NAME, bytes, group_, has_min, largest)                                                                     \
    void avx512_few_##name(const struct weight *w, int64_t first, int64_t end, const struct input *in, float *y, int64_t y_stride, \
                           void *scratch)                                                                                    \
    {                                                                                                                        \
        (void)scratch;                                                                                                       \
        few_units(decode_##name, (struct shape){.unit_bytes = bytes, .offset = NAME##_OFFSET, .group = group_, .min = has_min}, w, first, end, in, y, \
                  y_stride);                                                                                                 \
    }
UNIT_FORMATS(FEW)
IQ_FORMATS(FEW)
