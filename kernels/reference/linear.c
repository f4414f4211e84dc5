#include "kernels/reference/reference.h"

/* One output for all rows: its weight row is decoded once. */
static void body(struct reference *r, const struct op *op, int64_t out, int thread)
{
    const struct weight *w = &r->p->weights[op->w];
    float *weight = r->row_scratch + thread * r->widest_row;
    int32_t rows = reference_rows(r, op->x);
    float bias = 0;
    if (op->b >= 0) {
        const struct weight *b = &r->p->weights[op->b];
        const struct storage_type *type = &storage_types[b->format];
        float block[256];
        format_find(b->format)->decode(b->data + out / type->block_elements * type->block_bytes, block, type->block_elements);
        bias = block[out % type->block_elements];
    }
    reference_weight_row(w, out, weight);
    for (int32_t row = 0; row < rows; row++) {
        const float *x = r->buffer[op->x] + row * w->in;
        double sum[4] = {0}; /* four chains, so that a real model's wait is bearable */
        int64_t i = 0;
        for (; i + 4 <= w->in; i += 4)
            for (int k = 0; k < 4; k++)
                sum[k] += (double)weight[i + k] * x[i + k];
        for (; i < w->in; i++)
            sum[0] += (double)weight[i] * x[i];
        r->buffer[op->y][row * w->out + out] = (float)(sum[0] + sum[1] + sum[2] + sum[3] + bias);
    }
}

void reference_linear(struct reference *r, const struct op *op)
{
    if (reference_rows(r, op->x))
        reference_each(r, op, r->p->weights[op->w].out, body);
}
