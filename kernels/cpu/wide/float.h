/* F32, F16 and BF16 weights times float32 activations.
 * few: one weight row after the other, straight from storage. many: PANEL weight rows transposed to [k][PANEL] float32,
 * PACK_ROWS activation rows at a time against them. */
#ifndef KERNELS_CPU_WIDE_FLOAT_H
#define KERNELS_CPU_WIDE_FLOAT_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/wide/lanes.h"
#include "kernels/cpu/wide/reach.h"

typedef vf load_function(const unsigned char *p);
INLINE vf load_f32(const unsigned char *p)
{
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}
INLINE vf load_f16(const unsigned char *p) { return v_half(p); }
INLINE vf load_bf16(const unsigned char *p) { return v_bf16(p); }

/* The last, partial group of LANES weights, zero behind the end. */
INLINE vf load_tail(load_function *load, const unsigned char *p, int64_t count, int bytes)
{
    unsigned char t[LANES * 4] = {0};
    memcpy(t, p, (size_t)(count * bytes));
    return load(t);
}

enum { FEW_AT_ONCE = 4 };

/* rows <= FEW_AT_ONCE activation rows share the loads of one weight row; two chains per row hide the latency */
INLINE void dot_rows(struct reach reach, load_function *load, int bytes, const unsigned char *w, const float *const *x, int64_t n,
                     int rows, float *const *y)
{
    vf even[FEW_AT_ONCE], odd[FEW_AT_ONCE];
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
        even[r] = odd[r] = v_zero();
    int64_t i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        ask_ahead(reach, w + i * bytes, 2 * LANES * bytes);
        vf a = load(w + i * bytes), b = load(w + (i + LANES) * bytes);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            even[r] = v_fma(a, v_load(x[r] + i), even[r]);
            odd[r] = v_fma(b, v_load(x[r] + i + LANES), odd[r]);
        }
    }
    for (; i < n; i += LANES) {
        int64_t left = n - i < LANES ? n - i : LANES;
        vf a = load_tail(load, w + i * bytes, left, bytes);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            float t[LANES] = {0};
            memcpy(t, x[r] + i, (size_t)left * sizeof *t);
            even[r] = v_fma(a, v_load(t), even[r]);
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
        *y[r] = v_sum(even[r] + odd[r]);
}

INLINE void few_floats(struct reach reach, load_function *load, int bytes, const struct weight *w, int64_t first, int64_t end,
                       const struct input *in, float *y, int64_t y_stride)
{
    for (int64_t out = first; out < end; out++) {
        const unsigned char *row = w->data + out * w->row_bytes;
        for (int32_t r = 0; r < in->rows;) {
            const float *x[FEW_AT_ONCE];
            float *to[FEW_AT_ONCE];
            int rows = in->rows - r < FEW_AT_ONCE ? 1 : FEW_AT_ONCE;
            for (int i = 0; i < rows; i++) {
                x[i] = in->floats + in->from[r + i] * in->float_stride;
                to[i] = y + in->row[r + i] * y_stride + out;
            }
            if (rows == FEW_AT_ONCE)
                dot_rows(reach, load, bytes, row, x, w->in, FEW_AT_ONCE, to);
            else
                dot_rows(reach, load, bytes, row, x, w->in, 1, to);
            r += rows;
        }
    }
}

/* ---- panels ---------------------------------------------------------------------------------------------------------- */

enum { FLOAT_PANEL = 2 * LANES, FLOAT_K = 1024 }; /* a panel of FLOAT_K k stays in the second-level cache */

static size_t float_scratch(int64_t n, int32_t rows)
{
    (void)n, (void)rows;
    return (size_t)FLOAT_PANEL * FLOAT_K * sizeof(float) + 64;
}

/* panel[k][row] = weight[first + row][from + k]; rows behind `end` repeat the last one and are not stored later */
INLINE void float_panel(load_function *load, int bytes, const struct weight *w, int64_t first, int64_t end, int64_t from, int64_t count, float *panel)
{
    for (int row = 0; row < FLOAT_PANEL; row++) {
        int64_t out = first + row < end ? first + row : end - 1;
        const unsigned char *p = w->data + out * w->row_bytes + from * bytes;
        for (int64_t k = 0; k < count; k += LANES) {
            float t[LANES];
            int64_t left = count - k < LANES ? count - k : LANES;
            v_store(t, left == LANES ? load(p + k * bytes) : load_tail(load, p + k * bytes, left, bytes));
            for (int64_t i = 0; i < left; i++)
                panel[(k + i) * FLOAT_PANEL + row] = t[i];
        }
    }
}

INLINE void many_floats(load_function *load, int bytes, const struct weight *w, int64_t first, int64_t end, const struct input *in, float *y,
                        int64_t y_stride, void *scratch)
{
    float *panel = scratch;
    for (int64_t out = first; out < end; out += FLOAT_PANEL)
        for (int64_t from = 0; from < w->in; from += FLOAT_K) {
            int64_t count = w->in - from < FLOAT_K ? w->in - from : FLOAT_K;
            float_panel(load, bytes, w, out, end, from, count, panel);
            for (int32_t tile = 0; tile * PACK_ROWS < in->rows; tile++) {
                const float *x = in->p32 + ((int64_t)tile * in->padded + from) * PACK_ROWS;
                vf a[PACK_ROWS], b[PACK_ROWS];
#pragma GCC unroll 6
                for (int r = 0; r < PACK_ROWS; r++)
                    a[r] = b[r] = v_zero();
                for (int64_t k = 0; k < count; k++) {
                    vf u = v_load(panel + k * FLOAT_PANEL), v = v_load(panel + k * FLOAT_PANEL + LANES);
#pragma GCC unroll 6
                    for (int r = 0; r < PACK_ROWS; r++) {
                        vf s = v_set(x[k * PACK_ROWS + r]);
                        a[r] = v_fma(u, s, a[r]);
                        b[r] = v_fma(v, s, b[r]);
                    }
                }
                for (int r = 0; r < PACK_ROWS && tile * PACK_ROWS + r < in->rows; r++) {
                    float t[FLOAT_PANEL], *to = y + in->row[tile * PACK_ROWS + r] * y_stride + out;
                    int64_t wide = end - out < FLOAT_PANEL ? end - out : FLOAT_PANEL;
                    v_store(t, a[r]);
                    v_store(t + LANES, b[r]);
                    for (int64_t i = 0; i < wide; i++)
                        to[i] = from ? to[i] + t[i] : t[i];
                }
            }
        }
}

#define FLOAT_KERNELS(name, bytes)                                                                                               \
    static void few_##name(const struct weight *w, int64_t first, int64_t end, const struct input *in, float *y, int64_t y_stride, \
                           void *scratch)                                                                                        \
    {                                                                                                                            \
        (void)scratch;                                                                                                           \
        WITH_REACH(few_floats, load_##name, bytes, w, first, end, in, y, y_stride);                                              \
    }                                                                                                                            \
    static __attribute__((unused)) void many_##name(const struct weight *w, int64_t first, int64_t end, const struct input *in,  \
                                                    float *y, int64_t y_stride, void *scratch)                                   \
    {                                                                                                                            \
        many_floats(load_##name, bytes, w, first, end, in, y, y_stride, scratch);                                                \
    }
FLOAT_KERNELS(f32, 4)
FLOAT_KERNELS(f16, 2)
FLOAT_KERNELS(bf16, 2)

#endif
