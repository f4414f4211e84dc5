#include "kernels/reference/reference.h"

static void body(struct reference *r, const struct op *op, int64_t row, int thread)
{
    const struct rope *rope = &r->p->ropes[op->rope];
    int pairs = rope->dims / 2;
    float *cosine = r->angles + thread * 2 * r->widest_rope, *sine = cosine + r->widest_rope;
    const struct batch_row *at = &r->batch->row[reference_batch_row(r, op->x, (int32_t)row)];
    rope_angles(rope, at->position, r->batch->sequence[at->sequence].length, cosine, sine);
    for (int head = 0; head < op->heads; head++) {
        float *x = r->buffer[op->x] + (row * op->heads + head) * op->head_dim;
        for (int i = 0; i < pairs; i++) {
            float *a = x + (rope->interleaved ? 2 * i : i), *b = x + (rope->interleaved ? 2 * i + 1 : i + pairs);
            double p = *a, q = *b, c = cosine[i], s = sine[i];
            *a = (float)(p * c - q * s);
            *b = (float)(q * c + p * s);
        }
    }
}

void reference_rope(struct reference *r, const struct op *op) { reference_each(r, op, reference_rows(r, op->x), body); }
