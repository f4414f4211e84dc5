#include "kernels/exchange.h"
#include "kernels/reference/reference.h"

#include <string.h>

void reference_reduce(struct reference *r, const struct op *op)
{
    struct exchange *x = r->options.exchange;
    int64_t count = reference_rows(r, op->x) * r->p->buffers[op->x].width;
    memcpy(x->partial[r->options.rank], r->buffer[op->x], (size_t)count * sizeof(float));
    r->broken = !exchange_sum(x, r->buffer[op->x], count);
}
