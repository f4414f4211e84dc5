/* ROUTE, EXPERTS and COMBINE: which kernels, and room for the order of experts. */
#include "kernels/cuda/step.h"

/* Slots that an expert may have on the average until tiles of 64 rows do it: they read its matrices less often. */
enum { FEW_SLOTS = 12 };

/* ---- room --------------------------------------------------------------------------------------------------------------------- */

static int32_t least(int64_t a, int64_t b) { return (int32_t)(a < b ? a : b); }

/* Tiles of so many rows that slots may come to: each expert may have one that is not full. */
static int64_t most_tiles(const struct expert_route *r, int64_t slots, int tile_rows) { return least(slots, slots / tile_rows + least(r->experts, slots)); }

void cuda_experts_sizes(const struct compiled *c, struct experts_sizes *out)
{
    *out = (struct experts_sizes){0};
    for (int i = 0; i < c->p->op_count; i++) {
        const struct op *op = &c->p->ops[i];
        if (op->kind != OP_EXPERTS)
            continue;
        const struct expert_route *r = &c->p->routes[op->route];
        int64_t slots = (int64_t)c->options.max_rows * r->chosen, tiles = 1 + 3 * most_tiles(r, slots, 8);
        int64_t values = slots * parts(c->p->weights[op->w].in, INPUT_UNIT) * INPUT_UNIT;
        out->slots = slots > out->slots ? slots : out->slots;
        out->tiles = tiles > out->tiles ? tiles : out->tiles;
        if (cuda_experts_matrix(c, op) && values > out->values)
            out->values = values;
    }
}

/* ---- operations ------------------------------------------------------------------------------------------------------------------- */

int cuda_run_route(const struct compiled *c, const struct op *op)
{
    const struct expert_route *r = &c->p->routes[op->route];
    struct route_args a = {.scores = buffer(c, op->x), .bias = vector(c, op->b), .y = buffer(c, op->y), .experts = r->experts, .chosen = r->chosen,
                           .sigmoid = r->sigmoid, .normalised = r->normalised, .groups = r->groups > 1 ? r->groups : 1, .groups_chosen = r->groups_chosen,
                           .group_best = r->group_best, .scale = r->scale};
    return LAUNCH(route, rows_of(c, op->y), 1, ROUTE_SHARED((size_t)a.experts, (size_t)a.groups), a);
}

int cuda_run_combined(const struct compiled *c, const struct op *op, const struct op *add)
{
    int64_t n = c->p->buffers[op->y].width;
    struct combine_args a = {.x = buffer(c, op->x), .weights = buffer(c, op->z), .add = add ? buffer(c, add->x) : NULL, .y = buffer(c, add ? add->y : op->y),
                             .scale = add ? add->scale : 1, .n = n, .stride = c->p->buffers[op->z].width, .count = values_of(c, op->y),
                             .slots = (int)(c->p->buffers[op->x].width / n), .activation = op->activation};
    return LAUNCH(combine, parts(a.count, CUDA_THREADS), 1, 0, a);
}

int cuda_run_combine(const struct compiled *c, const struct op *op) { return cuda_run_combined(c, op, NULL); }

/* From stored bytes. */
static int run_plain(const struct compiled *c, const struct op *op)
{
    const struct weight *w = &c->p->weights[op->w];
    const struct expert_route *r = &c->p->routes[op->route];
    struct experts_args a = {.x = buffer(c, op->x), .routing = buffer(c, op->z), .y = buffer(c, op->y), .weight = c->weight[op->w], .grids = c->grids,
                             .bias = vector(c, op->b), .in = w->in, .out = w->out, .row_bytes = cuda_row_bytes(c, w), .factor = w->factor,
                             .experts = r->experts, .chosen = r->chosen, .own = c->p->buffers[op->x].width != w->in, .format = w->format};
    a.stack = w->out * a.row_bytes;
    return LAUNCH(experts, parts(w->out, CUDA_WARPS), (int64_t)rows_of(c, op->y) * r->chosen, 0, a);
}

/* ---- by matrix units -------------------------------------------------------------------------------------------------------------- */

static bool few(const struct expert_route *r, int64_t slots) { return slots <= (int64_t)FEW_SLOTS * least(r->experts, slots); }

static int run_group(const struct compiled *c, const struct op *op, int32_t rows, bool few_rows)
{
    const struct expert_route *r = &c->p->routes[op->route];
    struct group_args a = {.routing = buffer(c, op->z), .order = c->expert_order, .tiles = c->expert_tiles, .rows = rows, .chosen = r->chosen,
                           .experts = r->experts, .tile_rows = few_rows ? 8 : 8 * MATRIX_TILES};
    return LAUNCH(group, rows > 0, 1, GROUP_SHARED((size_t)r->experts), a);
}

static int run_gather(const struct compiled *c, const struct op *op, int64_t slots)
{
    int64_t n = c->p->weights[op->w].in;
    struct gather_args a = {.x = buffer(c, op->x), .y = c->expert_rows, .order = c->expert_order, .n = n, .padded = parts(n, INPUT_UNIT) * INPUT_UNIT,
                            .slots = c->p->buffers[op->x].width == n ? c->p->routes[op->route].chosen : 1};
    return LAUNCH(gather, slots, 1, 0, a);
}

static struct experts_matrix_args matrix_of(const struct compiled *c, const struct stage *s)
{
    const struct op *first = s->expert[0];
    int64_t in = c->p->weights[first->w].in;
    struct experts_matrix_args a = {.tiles = c->expert_tiles};
    a.g = (struct gemv_args){.parts = s->experts, .outs = c->p->weights[first->w].out, .in = in, .padded = parts(in, INPUT_UNIT) * INPUT_UNIT,
                             .narrow = s->handed ? c->expert_handed : c->expert_rows, .gated = s->tail != NULL, .to = c->expert_order};
    for (int i = 0; i < s->experts; i++) {
        const struct op *op = s->expert[i];
        const struct weight *w = &c->p->weights[op->w];
        a.g.part[i] = (struct gemv_part){.weight = c->weight[op->w], .bias = vector(c, op->b), .y = buffer(c, s->tail ? s->tail->y : op->y), .out = w->out,
                                         .row_bytes = cuda_row_bytes(c, w), .factor = w->factor};
        a.stack[i] = w->out * a.g.part[i].row_bytes;
    }
    if (s->tail)
        a.g.activation = s->tail->activation, a.g.handed = s->hands ? c->expert_handed : NULL;
    return a;
}

int cuda_run_expert_stage(const struct compiled *c, const struct stage *s)
{
    const struct op *op = s->expert[0];
    const struct expert_route *r = &c->p->routes[op->route];
    int32_t rows = rows_of(c, op->y);
    if (!cuda_experts_matrix(c, op))
        return run_plain(c, op);
    int64_t slots = (int64_t)rows * r->chosen, out = parts(c->p->weights[op->w].out, 16);
    bool few_rows = few(r, slots);
    int tiles = few_rows ? 1 : MATRIX_TILES, code = s->orders ? run_group(c, op, rows, few_rows) : 0;
    if (!code && !s->handed)
        code = run_gather(c, op, slots);
    if (code)
        return code;
    struct experts_matrix_args a = matrix_of(c, s);
    size_t shared = few_rows ? sizeof(float) * CUDA_THREADS * 4 : (size_t)MATRIX_STAGES * MATRIX_TILES * 2048;
    a.g.blocks = few_rows ? out : parts(out, a.g.gated ? CUDA_WARPS / 2 : CUDA_WARPS);
    enum cuda_kernel kernel = nth(cuda_format_kernels[c->p->weights[op->w].format].experts, !few_rows);
    return launch(c, kernel, a.g.blocks, most_tiles(r, slots, 8 * tiles), shared, &a, sizeof a);
}

int cuda_run_experts(const struct compiled *c, const struct op *op)
{
    struct stage s = {.experts = 1, .expert = {op}, .orders = true};
    return cuda_run_expert_stage(c, &s);
}
