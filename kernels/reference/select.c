#include "kernels/reference/reference.h"

#include <string.h>

static void body(struct reference *r, const struct op *op, int64_t row, int thread)
{
    (void)thread;
    int64_t width = r->p->buffers[op->y].width;
    bool all = r->p->buffers[op->x].rows == ROWS_ALL;
    memcpy(r->buffer[op->y] + row * width, r->buffer[op->x] + (all ? r->batch->wanted_rows[row] : row) * width,
           (size_t)width * sizeof(float));
}

void reference_select(struct reference *r, const struct op *op) { reference_each(r, op, reference_rows(r, op->y), body); }
