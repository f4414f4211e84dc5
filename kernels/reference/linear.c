#include "kernels/reference/reference.h"

/* One output for all rows: its weight row is decoded once. */
static void body(struct reference *r, const struct op *op, int64_t out, int thread)
{
    const struct weight *w = &r->p->weights[op->w];
    float *weight = r->row_scratch + thread * r->widest_row, bias = op->b >= 0 ? reference_value(&r->p->weights[op->b], 0, out) : 0;
    int32_t rows = reference_rows(r, op->x);
    reference_weight_row(w, out, weight);
    for (int32_t row = 0; row < rows; row++)
        r->buffer[op->y][row * w->out + out] = reference_dot(weight, r->buffer[op->x] + row * w->in, w->in, bias);
}

void reference_linear(struct reference *r, const struct op *op)
{
    if (reference_rows(r, op->x))
        reference_each(r, op, r->p->weights[op->w].out, body);
}
