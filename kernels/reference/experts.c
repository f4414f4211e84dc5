#include "kernels/reference/reference.h"

/* One output of one expert for all slots of all rows that chose it. */
static void body(struct reference *r, const struct op *op, int64_t item, int thread)
{
    const struct weight *stack = &r->p->weights[op->w], w = weight_expert(stack, (int)(item / stack->out));
    int64_t slots = op_slots(r->p, op), out = item % w.out, own = r->p->buffers[op->x].width != w.in; /* every slot has an input of its own */
    float *weight = r->row_scratch + thread * r->widest_row;
    bool decoded = false;
    for (int64_t slot = 0; slot < (int64_t)reference_rows(r, op->y) * slots; slot++) {
        int64_t row = slot / slots, expert = op->z < 0 ? slot % slots : (int64_t)r->buffer[op->z][row * 2 * slots + slot % slots];
        if (expert != item / w.out)
            continue;
        if (!decoded)
            reference_weight_row(&w, out, weight);
        decoded = true;
        float bias = op->b >= 0 ? reference_value(&r->p->weights[op->b], item / w.out, out) : 0;
        r->buffer[op->y][slot * w.out + out] = reference_dot(weight, r->buffer[op->x] + (own ? slot : row) * w.in, w.in, bias);
    }
}

void reference_experts(struct reference *r, const struct op *op)
{
    if (reference_rows(r, op->y))
        reference_each(r, op, r->p->weights[op->w].out * r->p->weights[op->w].experts, body);
}
