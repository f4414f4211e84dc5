/* Convolutions over a sequence's rows and scans, LANES channels or columns of S at a time. Every channel and every column has its own
 * sums, in one order, so bits depend neither on how rows are cut into steps nor on how columns are shared out.
 *
 * A scan is done row by row, a few columns of S at a time, which stay in the first-level cache meanwhile. With the delta rule a row
 * needs k S before it changes S; q S is taken from the old one in the same pass, since q (f S + k u) = f (q S) + (q k) u, and the
 * change is made on the way of the next row's pass: S is read and written once a row. */
#ifndef KERNELS_CPU_WIDE_SCAN_H
#define KERNELS_CPU_WIDE_SCAN_H

#include <math.h>

#include "kernels/cpu/wide/rows.h"

enum { SCAN_VECTORS = LANES == 16 ? 2 : 4 };

/* n of LANES values, the others zero; n is LANES where the compiler can see it */
INLINE vf load_some(const float *p, int64_t n)
{
    if (n == LANES)
        return v_load(p);
    float t[LANES] = {0};
    memcpy(t, p, (size_t)n * sizeof *t);
    return v_load(t);
}

INLINE void store_some(float *p, vf v, int64_t n)
{
    if (n == LANES) {
        v_store(p, v);
        return;
    }
    float t[LANES];
    v_store(t, v);
    memcpy(p, t, (size_t)n * sizeof *t);
}

/* ---- convolutions ----------------------------------------------------------------------------------------------------- */

INLINE void conv_channels(const struct conv_part *c, int64_t at, int64_t n)
{
    int past = c->taps - 1;
    for (int32_t row = 0; row < c->rows; row++) {
        vf sum = c->bias ? load_some(c->bias + at, n) : v_zero();
        for (int k = 0; k <= past; k++) {
            int32_t from = row + k - past;
            if (from < 0 && !c->read)
                continue;
            const float *x = from >= 0 ? c->x + from * c->x_stride : c->read + (from + past) * c->width;
            sum = v_fma(load_some(c->w + k * c->width + at, n), load_some(x + at, n), sum);
        }
        store_some(c->y + row * c->y_stride + at, v_activate(c->activation, sum), n);
    }
    for (int k = 0; k < past; k++) { /* upwards: what is still read lies above what is written */
        int32_t from = c->rows + k - past;
        vf v = from >= 0 ? load_some(c->x + from * c->x_stride + at, n) : c->read ? load_some(c->read + (from + past) * c->width + at, n) : v_zero();
        store_some(c->write + k * c->width + at, v, n);
    }
}

static void wide_conv(const struct conv_part *c, int64_t first, int64_t end)
{
    int64_t at = first;
    for (; at + LANES <= end; at += LANES)
        conv_channels(c, at, LANES);
    if (at < end)
        conv_channels(c, at, end - at);
}

/* ---- scans ------------------------------------------------------------------------------------------------------------ */

/* Sums of k S and q S over the rows of S; fade and u: what S becomes on the way, S = fade * S + k_before u. from NULL: zeros. */
struct scan_sums {
    vf held[SCAN_VECTORS], got[SCAN_VECTORS];
};

INLINE struct scan_sums delta_first(const struct scan_part *s, const float *from, int vectors, int64_t n)
{
    struct scan_sums sums;
    for (int v = 0; v < vectors; v++)
        sums.held[v] = sums.got[v] = v_zero();
    for (int i = 0; from && i < s->k_dim; i++) {
        vf k = v_set(s->k[i]), q = v_set(s->q[i]);
        for (int v = 0; v < vectors; v++) {
            vf old = load_some(from + (int64_t)i * s->stride + v * LANES, n);
            sums.held[v] = v_fma(k, old, sums.held[v]);
            sums.got[v] = v_fma(q, old, sums.got[v]);
        }
    }
    return sums;
}

INLINE void delta_columns(const struct scan_part *s, int64_t at, int vectors, int64_t n)
{
    const float *from = s->from ? s->from + at : NULL;
    float *to = s->to + at;
    struct scan_sums sums = delta_first(s, from, vectors, n);
    for (int r = 0; r < s->rows; r++, from = to) {
        const float *k = s->k + (int64_t)r * s->k_dim, *next = k + s->k_dim, *next_q = s->q + (int64_t)(r + 1) * s->k_dim;
        bool last = r + 1 == s->rows;
        vf fade = v_set(s->fade[r]), u[SCAN_VECTORS];
        for (int v = 0; v < vectors; v++) {
            vf value = load_some(s->v + r * s->v_stride + at + v * LANES, n);
            u[v] = v_set(s->rate[r]) * (value - fade * sums.held[v]);
            vf y = v_set(s->scale) * v_fma(v_set(s->qk[r]), u[v], fade * sums.got[v]);
            store_some(s->y + r * s->y_stride + at + v * LANES, v_fma(v_set(s->skip), value, y), n);
            sums.held[v] = sums.got[v] = v_zero();
        }
        for (int i = 0; i < s->k_dim; i++) {
            vf own = v_set(k[i]), kk = v_set(last ? 0 : next[i]), qq = v_set(last ? 0 : next_q[i]);
            for (int v = 0; v < vectors; v++) {
                vf old = from ? load_some(from + (int64_t)i * s->stride + v * LANES, n) : v_zero(), now = v_fma(own, u[v], fade * old);
                store_some(to + (int64_t)i * s->stride + v * LANES, now, n);
                sums.held[v] = v_fma(kk, now, sums.held[v]);
                sums.got[v] = v_fma(qq, now, sums.got[v]);
            }
        }
    }
}

INLINE void plain_columns(const struct scan_part *s, int64_t at, int vectors, int64_t n)
{
    const float *from = s->from ? s->from + at : NULL;
    float *to = s->to + at;
    for (int r = 0; r < s->rows; r++, from = to) {
        const float *k = s->k + (int64_t)r * s->k_dim, *q = s->q + (int64_t)r * s->k_dim;
        vf fade = v_set(s->fade[r]), u[SCAN_VECTORS], value[SCAN_VECTORS], sum[SCAN_VECTORS];
        for (int v = 0; v < vectors; v++) {
            value[v] = load_some(s->v + r * s->v_stride + at + v * LANES, n);
            u[v] = v_set(s->rate[r]) * value[v];
            sum[v] = v_zero();
        }
        for (int i = 0; i < s->k_dim; i++) {
            vf kk = v_set(k[i]), qq = v_set(q[i]);
            for (int v = 0; v < vectors; v++) {
                vf old = from ? load_some(from + (int64_t)i * s->stride + v * LANES, n) : v_zero(), now = v_fma(kk, u[v], fade * old);
                store_some(to + (int64_t)i * s->stride + v * LANES, now, n);
                sum[v] = v_fma(qq, now, sum[v]);
            }
        }
        for (int v = 0; v < vectors; v++)
            store_some(s->y + r * s->y_stride + at + v * LANES, v_fma(v_set(s->skip), value[v], v_set(s->scale) * sum[v]), n);
    }
}

INLINE void scan_columns(const struct scan_part *s, int64_t at, int vectors, int64_t n)
{
    if (s->delta)
        delta_columns(s, at, vectors, n);
    else
        plain_columns(s, at, vectors, n);
}

static void wide_scan(const struct scan_part *s, int64_t first, int64_t end)
{
    int64_t at = first;
    for (; at + SCAN_VECTORS * LANES <= end; at += SCAN_VECTORS * LANES)
        scan_columns(s, at, SCAN_VECTORS, LANES);
    for (; at + LANES <= end; at += LANES)
        scan_columns(s, at, 1, LANES);
    if (at < end)
        scan_columns(s, at, 1, end - at);
}

/* y = x times what makes its length 1, if unit; returns nothing but that. */
static void wide_unit(const float *x, float *y, int64_t n, bool unit)
{
    float by = unit ? 1 / sqrtf(sum_squares(x, n, 0) + 1e-6f) : 1;
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] * by;
}

static float wide_dot(const float *x, const float *y, int64_t n) { return dot_floats(x, y, n); }

#endif
