#include "kernels/reference/reference.h"

#include <string.h>

static void body(struct reference *r, const struct op *op, int64_t row, int thread)
{
    (void)thread;
    int64_t x = r->p->buffers[op->x].width / op->heads, z = r->p->buffers[op->z].width / op->heads;
    for (int64_t i = row * op->heads; i < (row + 1) * op->heads; i++) {
        memcpy(r->buffer[op->y] + i * (x + z), r->buffer[op->x] + i * x, (size_t)x * sizeof(float));
        memcpy(r->buffer[op->y] + i * (x + z) + x, r->buffer[op->z] + i * z, (size_t)z * sizeof(float));
    }
}

void reference_join(struct reference *r, const struct op *op) { reference_each(r, op, reference_rows(r, op->y), body); }
