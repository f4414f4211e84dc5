#include "kernels/reference/reference.h"

static void body(struct reference *r, const struct op *op, int64_t row, int thread)
{
    (void)thread;
    const struct expert_route *route = &r->p->routes[op->route];
    route_choose(route, r->buffer[op->x] + row * route->experts, op->b >= 0 ? r->norm_weights : NULL, r->buffer[op->y] + row * 2 * route->chosen);
}

void reference_route(struct reference *r, const struct op *op)
{
    if (op->b >= 0)
        reference_weight_row(&r->p->weights[op->b], 0, r->norm_weights);
    reference_each(r, op, reference_rows(r, op->y), body);
}
