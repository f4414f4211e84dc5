/* Operations that keep a state of their own: convolutions over rows and scans (struct scan in ops.h), row by row. */
#ifndef KERNELS_CUDA_SCAN_H
#define KERNELS_CUDA_SCAN_H

#include "kernels/cuda/rows.h"

/* The operation's floats in the slot of a sequence that is read (0: nothing was before), or in the one that is written. */
KERNEL_CODE float *slot_of(const struct device_batch *b, const struct device_state *s, const struct device_sequence *q, int written, int64_t at)
{
    if (!written && q->total == q->rows)
        return 0;
    int64_t slot = b->blocks[q->tables + s->group * q->stride + written];
    return (float *)(void *)(s->pool + slot * s->block_bytes) + at;
}

/* ---- CONV ------------------------------------------------------------------------------------------------------------------------ */

/* What x was `from` rows behind the sequence's first in this step; read: of rows before it. */
KERNEL_CODE float conv_value(const struct conv_args *a, const struct device_sequence *q, const float *read, int64_t from, int64_t channel)
{
    if (from >= 0)
        return a->x[(q->first + from) * a->width + channel];
    return read ? read[(from + a->taps - 1) * a->width + channel] : 0;
}

KERNEL_CODE void conv_row(const struct conv_args *a, const struct device_sequence *q, const float *read, int64_t row, int64_t channel)
{
    float sum = a->bias ? a->bias[channel] : 0;
    for (int k = 0; k < a->taps; k++)
        sum = fmaf(a->w[channel * a->taps + k], conv_value(a, q, read, row + k - (a->taps - 1), channel), sum);
    a->y[(q->first + row) * a->width + channel] = activate(a->activation, sum);
}

/* A thread for each channel. Grid: (channels / CUDA_THREADS rounded up, sequences), or for CONV_ROWS pieces of the step's rows. */
KERNEL_CODE void conv_body(struct conv_args a)
{
    int64_t channel = BLOCK * CUDA_THREADS + THREAD;
    if (channel >= a.width)
        return;
    if (a.pass == CONV_ROWS) {
        for (int64_t row = BLOCK_Y * CONV_PIECE; row < (BLOCK_Y + 1) * CONV_PIECE && row < a.rows; row++) {
            const struct device_sequence *q = &a.batch.sequences[a.batch.sequence[row]];
            conv_row(&a, q, slot_of(&a.batch, &a.state, q, 0, a.at), row - q->first, channel);
        }
        return;
    }
    const struct device_sequence *q = &a.batch.sequences[BLOCK_Y];
    const float *read = slot_of(&a.batch, &a.state, q, 0, a.at);
    float *write = slot_of(&a.batch, &a.state, q, 1, a.at);
    for (int64_t row = 0; a.pass == CONV_ALL && row < q->rows; row++)
        conv_row(&a, q, read, row, channel);
    for (int64_t k = 0; k < a.taps - 1; k++) /* upwards: what is still read lies above what is written */
        write[k * a.width + channel] = conv_value(&a, q, read, q->rows + k - (a.taps - 1), channel);
}

/* ---- SCAN ------------------------------------------------------------------------------------------------------------------------ */

/* A head's numbers, and what a row makes of its gates. */
struct scan_head {
    int64_t head, key;
    float decay, bias, skip;
};

struct scan_gates {
    float step, fade, beta; /* fade: the logarithm of what S is multiplied by; beta: of delta, else step */
};

KERNEL_CODE struct scan_head scan_head_of(const struct scan_args *a, int64_t head)
{
    struct scan_head h;
    h.head = head;
    h.key = a->tiled ? head % a->key_heads : head / (a->heads / a->key_heads);
    h.decay = a->w[head], h.bias = a->w[a->heads + head], h.skip = a->w[2 * a->heads + head];
    return h;
}

KERNEL_CODE struct scan_gates scan_gates_of(const struct scan_args *a, const struct scan_head *h, float z, float beta)
{
    float x = z + h->bias;
    struct scan_gates g;
    g.step = fminf(fmaxf(x > 30 ? x : log1pf(expf(x)), a->dt_least), a->dt_most);
    g.fade = h->decay * g.step;
    g.beta = a->delta ? 1 / (1 + expf(-beta)) : g.step;
    return g;
}

/* The sum over lanes that differ in more than the lowest bit. */
KERNEL_CODE float half_warp_sum(float v)
{
    for (int lanes = 16; lanes > 1; lanes /= 2)
        v += LANE_FLOAT(v, lanes);
    return v;
}

/* A row's values as a lane has them: keys i * 16 + lane / 2, four columns. */
struct scan_row {
    float q[16], k[16], v[4], z, beta;
};

KERNEL_CODE void scan_read(int keys, const struct scan_args *a, const struct scan_head *h, int64_t row, int64_t column, struct scan_row *r)
{
    const float *x = a->x + row * a->x_width, *q = x + a->q + h->key * a->k_dim, *k = x + a->k + h->key * a->k_dim, *v = x + a->v + h->head * a->v_dim;
    UNROLL for (int i = 0; i < keys; i++) {
        int at = 16 * i + THREAD % 32 / 2;
        r->q[i] = at < a->k_dim ? q[at] : 0;
        r->k[i] = at < a->k_dim ? k[at] : 0;
    }
    UNROLL for (int j = 0; j < 4; j++)
        r->v[j] = column + j < a->v_dim ? v[column + j] : 0;
    const float *z = a->z + row * (a->delta ? 2 : 1) * a->heads + h->head;
    r->z = z[0];
    r->beta = a->delta ? z[a->heads] : 0;
}

/* S as a lane has it: [keys][4], or back. from 0: nothing was before. */
KERNEL_CODE void scan_load(int keys, const struct scan_args *a, const float *from, int64_t column, float (*s)[4])
{
    UNROLL for (int i = 0; i < keys; i++) {
        int at = 16 * i + THREAD % 32 / 2;
        UNROLL for (int j = 0; j < 4; j++)
            s[i][j] = 0;
        if (!from || at >= a->k_dim)
            continue;
        const float *p = from + (int64_t)at * a->v_dim + column;
        if (a->wide && column < a->v_dim) {
            struct words w = WORDS(p);
            UNROLL for (int j = 0; j < 4; j++)
                s[i][j] = float_of_bits(w.w[j]);
        } else
            UNROLL for (int j = 0; j < 4; j++)
                if (column + j < a->v_dim)
                    s[i][j] = p[j];
    }
}

KERNEL_CODE void scan_store(int keys, const struct scan_args *a, float *to, int64_t column, float (*s)[4])
{
    to += (int64_t)(THREAD % 32 / 2) * a->v_dim + column;
    if (a->wide) {
        UNROLL for (int i = 0; i < keys; i++) {
            struct words w;
            UNROLL for (int j = 0; j < 4; j++)
                w.w[j] = bits_of_float(s[i][j]);
            if (16 * i + THREAD % 32 / 2 < a->k_dim && column < a->v_dim)
                STORE_WORDS_WHOLE(to + 16 * (int64_t)i * a->v_dim, w);
        }
        return;
    }
    UNROLL for (int i = 0; i < keys; i++)
        UNROLL for (int j = 0; j < 4; j++)
            if (16 * i + THREAD % 32 / 2 < a->k_dim && column + j < a->v_dim)
                to[16 * (int64_t)i * a->v_dim + j] = s[i][j];
}

/* One row: S and the lane's four values of y, without skip. */
KERNEL_CODE void scan_step(int keys, const struct scan_args *a, const struct scan_head *h, const struct scan_row *r, float (*s)[4], float *y)
{
    struct scan_gates g = scan_gates_of(a, h, r->z, r->beta);
    float fade = expf(g.fade), q_unit = 1, k_unit = 1, u[4];
    if (a->normalised) {
        float q = 0, k = 0;
        UNROLL for (int i = 0; i < keys; i++) {
            q = fmaf(r->q[i], r->q[i], q);
            k = fmaf(r->k[i], r->k[i], k);
        }
        q_unit = 1 / sqrtf(half_warp_sum(q) + 1e-6f);
        k_unit = 1 / sqrtf(half_warp_sum(k) + 1e-6f);
    }
    UNROLL for (int j = 0; j < 4; j++) {
        float held = 0;
        UNROLL for (int i = 0; i < keys; i++) {
            s[i][j] *= fade;
            held = fmaf(r->k[i], s[i][j], held);
        }
        u[j] = k_unit * g.beta * (a->delta ? r->v[j] - k_unit * half_warp_sum(held) : r->v[j]);
        y[j] = 0;
        UNROLL for (int i = 0; i < keys; i++) {
            s[i][j] = fmaf(r->k[i], u[j], s[i][j]);
            y[j] = fmaf(r->q[i], s[i][j], y[j]);
        }
        y[j] = q_unit * half_warp_sum(y[j]);
    }
}

/* A warp has eight columns of a head's S in its registers, from the first of a sequence's rows to the last: two lanes share a key, so
 * each 32 bytes that memory moves are wanted, and sums need no barrier. Each value of S is read and written once. Grid: (heads times 32
 * columns, sequences). keys: of a lane, a constant. */
KERNEL_CODE void scan_rows_body(int keys, const struct scan_args *a)
{
    const struct device_sequence *q = &a->batch.sequences[BLOCK_Y];
    int64_t slices = (a->v_dim + SCAN_COLUMNS - 1) / SCAN_COLUMNS, column = BLOCK % slices * SCAN_COLUMNS + THREAD / 32 * 8;
    if (column >= a->v_dim || (a->many && q->rows >= a->many))
        return; /* the whole warp */
    column += THREAD % 2 * 4;
    struct scan_head h = scan_head_of(a, BLOCK / slices);
    int64_t at = a->at + h.head * a->k_dim * a->v_dim, last = q->first + q->rows;
    struct scan_row row, next;
    float s[16][4], y[4];
    scan_load(keys, a, slot_of(&a->batch, &a->state, q, 0, at), column, s);
    scan_read(keys, a, &h, q->first, column, &next);
    UNROLL_BY(1) for (int64_t i = q->first; i < last; i++) {
        row = next;
        scan_read(keys, a, &h, i + 1 < last ? i + 1 : i, column, &next); /* asked for while this one is worked on */
        scan_step(keys, a, &h, &row, s, y);
        float *to = a->y + (i * a->heads + h.head) * a->v_dim + column;
        if (THREAD % 32 < 2) /* all lanes have them */
            UNROLL for (int j = 0; j < 4; j++)
                if (column + j < a->v_dim)
                    to[j] = fmaf(h.skip, row.v[j], a->scale * y[j]);
    }
    scan_store(keys, a, slot_of(&a->batch, &a->state, q, 1, at), column, s);
}

#endif
