#include "kernels/reference/reference.h"

#include <math.h>

static void body(struct reference *r, const struct op *op, int64_t row, int thread)
{
    (void)thread;
    int64_t width = r->p->buffers[op->x].width, n = op->head_dim > 0 ? op->head_dim : width;
    const float *weight = op->w >= 0 ? r->norm_weights : NULL, *bias = op->b >= 0 ? r->norm_weights + r->widest_row : NULL;
    const float *x = r->buffer[op->x] + row * width;
    float *y = r->buffer[op->y] + row * width;
    int64_t wide_weight = weight && r->p->weights[op->w].in > n, wide_bias = bias && r->p->weights[op->b].in > n; /* values of their own for each head */
    for (int64_t at = 0; at < width; at += n, x += n, y += n) {
        double mean = 0, square = 0;
        if (op->centred) {
            for (int64_t i = 0; i < n; i++)
                mean += x[i];
            mean /= (double)n;
        }
        for (int64_t i = 0; i < n; i++)
            square += (x[i] - mean) * (x[i] - mean);
        double scale = 1 / sqrt(square / (double)n + op->epsilon);
        for (int64_t i = 0; i < n; i++) {
            double v = (x[i] - mean) * scale;
            if (weight)
                v *= (double)weight[i + at * wide_weight] + op->offset;
            y[i] = (float)(bias ? v + bias[i + at * wide_bias] : v);
        }
    }
}

void reference_norm(struct reference *r, const struct op *op)
{
    if (op->w >= 0)
        reference_weight_row(&r->p->weights[op->w], 0, r->norm_weights);
    if (op->b >= 0)
        reference_weight_row(&r->p->weights[op->b], 0, r->norm_weights + r->widest_row);
    reference_each(r, op, reference_rows(r, op->x), body);
}
