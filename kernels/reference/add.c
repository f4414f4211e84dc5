#include "kernels/reference/reference.h"

static void body(struct reference *r, const struct op *op, int64_t row, int thread)
{
    (void)thread;
    int64_t width = r->p->buffers[op->y].width;
    const float *x = r->buffer[op->x] + row * width, *z = r->buffer[op->z] + row * width;
    float *y = r->buffer[op->y] + row * width;
    for (int64_t i = 0; i < width; i++)
        y[i] = x[i] + op->scale * z[i];
}

void reference_add(struct reference *r, const struct op *op) { reference_each(r, op, reference_rows(r, op->y), body); }
