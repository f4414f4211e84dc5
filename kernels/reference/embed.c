#include "kernels/reference/reference.h"

#include <string.h>

static void body(struct reference *r, const struct op *op, int64_t row, int thread)
{
    (void)thread;
    int64_t width = r->p->buffers[op->y].width;
    float *y = r->buffer[op->y] + row * width;
    const struct batch_row *in = &r->batch->row[reference_batch_row(r, op->y, (int32_t)row)];
    if (in->token < 0) { /* an embedding from outside (an image's) is what EMBED would have made: not scaled again */
        memcpy(y, in->embedding, (size_t)width * sizeof *y);
        return;
    }
    reference_weight_row(&r->p->weights[op->w], in->token, y);
    for (int64_t i = 0; i < width; i++)
        y[i] *= op->scale;
}

void reference_embed(struct reference *r, const struct op *op) { reference_each(r, op, reference_rows(r, op->y), body); }
