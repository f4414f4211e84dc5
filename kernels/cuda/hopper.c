/* LINEAR by Hopper's warpgroups (hopper.h): whether this card does it, and one launch. */
#include "kernels/cuda/step.h"

#include "base/log.h"

/* The library has them for this card alone: compute capability 9.0a. Sums are in an order of their own: not with `deterministic`. */
void cuda_hopper_find(struct compiled *c)
{
    const struct program *p = c->p;
    bool asked = false;
    c->hopper = !c->options.deterministic && !c->plain && !c->bytes && c->options.max_rows >= c->tune.hopper_rows;
    for (int i = 0; i < p->op_count && c->hopper; i++)
        if (p->ops[i].kind == OP_LINEAR && cuda_fast(c, &p->weights[p->ops[i].w]) == FAST_MATRIX) {
            enum cuda_kernel first = cuda_format_kernels[p->weights[p->ops[i].w].format].hopper;
            asked = true;
            c->hopper = c->cuda->has(c->options.device, first) && c->cuda->has(c->options.device, nth(first, 1));
        }
    c->hopper = c->hopper && asked;
    if (c->hopper && !c->cuda->maps()) {
        c->hopper = false;
        log_line(LOG_VERBOSE, "cuda:%d: the driver makes no tensor maps (cuTensorMapEncodeTiled): prompts do without wgmma", c->options.device);
    }
}

/* Rows of a tile: as many as there may be, unless fewer keep more multiprocessors busy. Time is as if each did its tiles one by one. */
static int tile_rows(const struct compiled *c, const struct gemv_args *g)
{
    int64_t time[2];
    for (int i = 0; i < 2; i++) {
        int64_t rows = HOPPER_ROWS >> i;
        time[i] = parts(parts(g->rows, rows) * g->blocks, c->info.processors) * rows;
    }
    return time[1] < time[0] ? HOPPER_ROWS / 2 : HOPPER_ROWS;
}

static int map_weights(const struct compiled *c, const struct gemv_args *g, struct hopper_args *a)
{
    int code = 0;
    for (int i = 0; i < g->parts && !code; i++)
        code = c->cuda->map(&a->weight[i], &(struct cuda_boxes){g->part[i].weight, g->in, g->part[i].out, g->part[i].row_bytes, g->gated ? 8 : HOPPER_OUTS});
    return code;
}

int cuda_hopper_run(const struct compiled *c, enum storage format, const struct gemv_args *g)
{
    struct hopper_args a = {.g = *g};
    bool runs = storage_types[format].block_elements > 1;
    a.g.blocks = 0;
    for (int i = 0; i < (g->gated ? 1 : g->parts); i++)
        a.g.blocks += parts(g->part[i].out, g->gated ? HOPPER_OUTS / 2 : HOPPER_OUTS);
    int rows = tile_rows(c, &a.g), wide = rows == HOPPER_ROWS;
    int64_t tiles = parts(g->rows, rows) * a.g.blocks;
    int code = c->cuda->map(&a.x, &(struct cuda_boxes){g->narrow, g->padded, g->rows, g->padded * 2, rows});
    if (!code && !runs)
        code = map_weights(c, g, &a);
    return code ? code
                : launch(c, nth(cuda_format_kernels[format].hopper, wide), tiles < c->info.processors ? tiles : c->info.processors, 1,
                         (size_t)HOPPER_SHARED(runs, rows), &a, sizeof a);
}
