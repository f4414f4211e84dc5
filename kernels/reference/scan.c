#include "kernels/reference/reference.h"

#include <math.h>
#include <string.h>

static double softplus(double x) { return x > 30 ? x : log1p(exp(x)); }

/* What q or k is multiplied by to have a length of 1. */
static double unit(const float *x, int n)
{
    double sum = 1e-6;
    for (int i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    return 1 / sqrt(sum);
}

/* One head of one sequence; S is rounded to float32 after each row, as if every row were a step of its own. */
static void body(struct reference *r, const struct op *op, int64_t item, int thread)
{
    (void)thread;
    const struct scan *scan = &r->p->scans[op->scan];
    const struct batch_sequence *s = &r->batch->sequence[item / scan->heads];
    const struct weight *w = &r->p->weights[op->w];
    int head = (int)(item % scan->heads), key = scan->tiled ? head % scan->key_heads : head / (scan->heads / scan->key_heads);
    int n = scan->k_dim, m = scan->v_dim;
    double decay = reference_value(w, 0, head), bias = reference_value(w, 1, head), skip = reference_value(w, 2, head);
    const float *read = reference_state(r, op, s, 0);
    float *S = reference_state(r, op, s, 1) + (int64_t)head * n * m;
    if (!read)
        memset(S, 0, (size_t)n * (size_t)m * sizeof *S);
    else if (read + (int64_t)head * n * m != S)
        memcpy(S, read + (int64_t)head * n * m, (size_t)n * (size_t)m * sizeof *S);
    for (int64_t row = s->first_row; row < s->first_row + s->rows; row++) {
        const float *x = r->buffer[op->x] + row * r->p->buffers[op->x].width, *z = r->buffer[op->z] + row * r->p->buffers[op->z].width;
        const float *q = x + scan->q + key * n, *k = x + scan->k + key * n, *v = x + scan->v + (int64_t)head * m;
        double q_unit = scan->normalised ? unit(q, n) : 1, k_unit = scan->normalised ? unit(k, n) : 1;
        double dt = fmin(fmax(softplus(z[head] + bias), scan->dt_least), scan->dt_most), fade = exp(decay * dt);
        double beta = scan->delta ? reference_activate(ACT_SIGMOID, z[scan->heads + head]) : 0;
        for (int j = 0; j < m; j++) {
            double held = 0, sum = 0;
            for (int i = 0; scan->delta && i < n; i++)
                held += k_unit * k[i] * fade * S[i * m + j];
            double u = scan->delta ? beta * (v[j] - held) : dt * v[j];
            for (int i = 0; i < n; i++) {
                S[i * m + j] = (float)(fade * S[i * m + j] + k_unit * k[i] * u);
                sum += q_unit * q[i] * S[i * m + j];
            }
            r->buffer[op->y][(row * scan->heads + head) * m + j] = (float)(op->scale * sum + skip * v[j]);
        }
    }
}

void reference_scan(struct reference *r, const struct op *op) { reference_each(r, op, (int64_t)r->batch->sequences * r->p->scans[op->scan].heads, body); }
