/* Rows on their way between the parts of a split program (kernels/split.c). */
#include <string.h>

#include "kernels/cuda/step.h"
#include "kernels/exchange.h"

static size_t row_bytes(const struct compiled *c, int buffer) { return (size_t)values_of(c, buffer) * sizeof(float); }

/* What other parts read when the step is done: see cuda_hand_over(). */
int cuda_run_send(const struct compiled *c, const struct op *op)
{
    if (c->batch->streams)
        return 0;
    return c->cuda->download(c->stream, c->staged[op->x], buffer(c, op->x), row_bytes(c, op->x));
}

void cuda_hand_over(const struct compiled *c)
{
    for (int i = c->begin; i < c->end; i++)
        if (c->p->ops[i].kind == OP_SEND && c->options.rank == 0 && !c->batch->streams) /* ranks have the same rows */
            memcpy(c->options.exchange->rows[c->p->ops[i].x], c->staged[c->p->ops[i].x], row_bytes(c, c->p->ops[i].x));
}

int cuda_run_receive(const struct compiled *c, const struct op *op)
{
    if (c->batch->streams)
        return 0;
    memcpy(c->staged[op->y], c->options.exchange->rows[op->y], row_bytes(c, op->y));
    return c->cuda->upload(c->stream, buffer(c, op->y), c->staged[op->y], row_bytes(c, op->y));
}

/* By NCCL where it serves; else through the host's memory, which is right with any devices, also when two ranks are one card, and
 * has one order of sums. */
int cuda_run_reduce(const struct compiled *c, const struct op *op)
{
    struct exchange *x = c->options.exchange;
    size_t bytes = row_bytes(c, op->x);
    if (x->group.handle && bytes)
        return c->cuda->sum(c->stream, x->group.handle, c->options.rank, buffer(c, op->x), (size_t)values_of(c, op->x));
    int code = c->cuda->download(c->stream, c->reduced, buffer(c, op->x), bytes);
    if (code || (code = c->cuda->wait(c->stream)))
        return code;
    memcpy(x->partial[c->options.rank], c->reduced, bytes);
    if (!exchange_sum(x, c->reduced, values_of(c, op->x)))
        return RANK_GAVE_UP;
    return c->cuda->upload(c->stream, buffer(c, op->x), c->reduced, bytes);
}
