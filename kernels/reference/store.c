#include "kernels/reference/reference.h"

static void body(struct reference *r, const struct op *op, int64_t row, int thread)
{
    (void)thread;
    const struct state_group *g = &r->p->groups[op->group];
    const struct batch_sequence *s = &r->batch->sequence[r->batch->row[row].sequence];
    int64_t token = s->cached + (row - s->first_row);
    int32_t block = s->blocks[op->group][token / BLOCK_TOKENS];
    for (int value = 0; value < (g->v_in_k ? 1 : 2); value++) {
        int dim = value ? g->v_dim : g->k_dim;
        const struct format *f = format_find(value ? r->options.v_type : r->options.k_type);
        for (int head = 0; head < g->heads; head++)
            f->encode(r->buffer[value ? op->z : op->x] + (row * g->heads + head) * dim, NULL,
                      reference_slot(r, op->group, op->layer, block, (int)(token % BLOCK_TOKENS), head, value), dim);
    }
}

void reference_store(struct reference *r, const struct op *op) { reference_each(r, op, r->batch->rows, body); }
