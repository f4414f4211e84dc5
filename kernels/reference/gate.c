#include "kernels/reference/reference.h"

#include <math.h>

double reference_activate(enum activation a, double x)
{
    switch (a) {
    case ACT_NONE:
        return x;
    case ACT_SILU:
        return x / (1 + exp(-x));
    case ACT_GELU:
        return 0.5 * x * (1 + erf(x * 0.70710678118654752440));
    case ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)));
    case ACT_RELU:
        return x > 0 ? x : 0;
    case ACT_RELU2:
        return x > 0 ? x * x : 0;
    case ACT_QUICK_GELU:
        return x / (1 + exp(-1.702 * x));
    case ACT_SIGMOID:
        return 1 / (1 + exp(-x));
    case ACT_TANH:
        return tanh(x);
    }
    return x;
}

static void body(struct reference *r, const struct op *op, int64_t row, int thread)
{
    (void)thread;
    int64_t width = r->p->buffers[op->y].width;
    const float *x = r->buffer[op->x] + row * width, *z = op->z >= 0 ? r->buffer[op->z] + row * width : NULL;
    float *y = r->buffer[op->y] + row * width;
    for (int64_t i = 0; i < width; i++) {
        double v = reference_activate(op->activation, x[i]);
        y[i] = (float)(z ? v * z[i] : v);
    }
}

void reference_gate(struct reference *r, const struct op *op) { reference_each(r, op, reference_rows(r, op->y), body); }
