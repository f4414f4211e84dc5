#include "kernels/reference/reference.h"

static void body(struct reference *r, const struct op *op, int64_t row, int thread)
{
    (void)thread;
    int64_t n = r->p->buffers[op->y].width, slots = r->p->buffers[op->x].width / n;
    const float *x = r->buffer[op->x] + row * slots * n, *weight = r->buffer[op->z] + (row + 1) * r->p->buffers[op->z].width - slots;
    float *y = r->buffer[op->y] + row * n;
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int64_t s = 0; s < slots; s++)
            sum += reference_activate(op->activation, weight[s]) * x[s * n + i];
        y[i] = (float)sum;
    }
}

void reference_combine(struct reference *r, const struct op *op) { reference_each(r, op, reference_rows(r, op->y), body); }
