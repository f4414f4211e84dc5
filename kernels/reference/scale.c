#include "kernels/reference/reference.h"

#include <math.h>

static void body(struct reference *r, const struct op *op, int64_t row, int thread)
{
    (void)thread;
    int64_t width = r->p->buffers[op->y].width;
    const float *x = r->buffer[op->x] + row * width;
    float *y = r->buffer[op->y] + row * width;
    for (int64_t i = 0; i < width; i++) {
        double v = (double)op->scale * x[i];
        y[i] = (float)(op->cap > 0 ? op->cap * tanh(v / op->cap) : v);
    }
}

void reference_scale(struct reference *r, const struct op *op) { reference_each(r, op, reference_rows(r, op->y), body); }
