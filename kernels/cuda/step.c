/* A step: the batch goes over in one transfer, every operation is one or two launches, the rows that were asked for come back. */
#include <stdio.h>

#include "kernels/cuda/step.h"

/* ---- operations --------------------------------------------------------------------------------------------------------- */

static int cuda_run_embed(const struct compiled *c, const struct op *op)
{
    const struct weight *w = &c->p->weights[op->w];
    struct embed_args a = {.batch = c->device_batch, .y = buffer(c, op->y), .weight = c->weight[op->w], .grids = c->grids, .width = w->in,
                           .row_bytes = cuda_row_bytes(c, w), .scale = op->scale, .factor = w->factor, .format = w->format, .planes = cuda_relay(c, w, &(struct relay_args){0}),
                           .only_wanted = only_wanted(c, op->y)};
    return LAUNCH(embed, rows_of(c, op->y), 1, 0, a);
}

/* Groups of n values that a norm's weight or bias has. */
static int norm_groups(const struct compiled *c, int w, int64_t n) { return w >= 0 ? (int)(c->p->weights[w].in / n) : 1; }

static struct norm_args norm_of(const struct compiled *c, const struct op *op)
{
    int64_t width = c->p->buffers[op->x].width, n = op->head_dim > 0 ? op->head_dim : width;
    return (struct norm_args){.x = buffer(c, op->x), .y = buffer(c, op->y), .weight = vector(c, op->w), .bias = vector(c, op->b), .n = n,
                          .epsilon = op->epsilon, .offset = op->offset, .centred = op->centred, .weight_groups = norm_groups(c, op->w, n),
                          .bias_groups = norm_groups(c, op->b, n)};
}

int cuda_run_norm(const struct compiled *c, const struct op *op)
{
    struct norm_args a = norm_of(c, op);
    return LAUNCH(norm, rows_of(c, op->x) * (c->p->buffers[op->x].width / a.n), 1, CUDA_WARPS * sizeof(float), a);
}

static struct rope_args rope_of(const struct compiled *c, const struct op *op)
{
    const struct rope *rope = &c->p->ropes[op->rope];
    int pairs = rope->dims / 2;
    return (struct rope_args){.batch = c->device_batch, .x = buffer(c, op->x), .table = c->ropes + (int64_t)op->rope * c->batch->rows * c->rope_stride,
                          .stride = c->rope_stride, .count = (int64_t)rows_of(c, op->x) * op->heads * pairs, .heads = op->heads,
                          .head_dim = op->head_dim, .pairs = pairs, .interleaved = rope->interleaved, .only_wanted = only_wanted(c, op->x)};
}

static int cuda_run_rope(const struct compiled *c, const struct op *op)
{
    struct rope_args a = rope_of(c, op);
    return LAUNCH(rope, parts(a.count, CUDA_THREADS), 1, 0, a);
}

struct device_state cuda_layer_state(const struct compiled *c, const struct op *op)
{
    struct device_state s = c->state[op->group];
    s.pool = c->memory->pool[op->group] + op->layer * c->layer_bytes[op->group];
    return s;
}

static int cuda_run_store(const struct compiled *c, const struct op *op)
{
    const struct state_group *g = &c->p->groups[op->group];
    struct store_args a = {.batch = c->device_batch, .state = cuda_layer_state(c, op), .x = buffer(c, op->x)};
    a.part = a.state.k;
    int code = LAUNCH(store, c->batch->rows, g->heads, 0, a);
    if (code || g->v_in_k)
        return code;
    a.part = a.state.v;
    a.x = buffer(c, op->z);
    return LAUNCH(store, c->batch->rows, g->heads, 0, a);
}

static int run_attend(const struct compiled *c, const struct op *op, bool hands)
{
    const struct state_group *g = &c->p->groups[op->group];
    struct attend_args a = {.batch = c->device_batch, .state = cuda_layer_state(c, op), .q = buffer(c, op->x), .y = buffer(c, op->y), .heads = op->heads,
                            .kv_heads = g->heads, .window = g->window, .full = op->mask == MASK_FULL, .only_wanted = only_wanted(c, op->x),
                            .scale = op->scale, .cap = op->cap, .handed = hands ? c->handed : NULL};
    return cuda_attend(c, op, &a, rows_of(c, op->x), c->longest);
}

static int cuda_run_attend(const struct compiled *c, const struct op *op) { return run_attend(c, op, false); }

int cuda_run_add(const struct compiled *c, const struct op *op)
{
    struct add_args a = {buffer(c, op->x), buffer(c, op->z), buffer(c, op->y), op->scale, values_of(c, op->y)};
    return LAUNCH(add, parts(a.count, CUDA_THREADS), 1, 0, a);
}

int cuda_run_gate(const struct compiled *c, const struct op *op)
{
    struct gate_args a = {buffer(c, op->x), buffer(c, op->z), buffer(c, op->y), op->activation, values_of(c, op->y)};
    return LAUNCH(gate, parts(a.count, CUDA_THREADS), 1, 0, a);
}

static int cuda_run_scale(const struct compiled *c, const struct op *op)
{
    struct scale_args a = {buffer(c, op->x), buffer(c, op->y), op->scale, op->cap, values_of(c, op->y)};
    return LAUNCH(scale, parts(a.count, CUDA_THREADS), 1, 0, a);
}

static int cuda_run_join(const struct compiled *c, const struct op *op)
{
    struct join_args a = {.x = buffer(c, op->x), .z = buffer(c, op->z), .y = buffer(c, op->y), .n_x = c->p->buffers[op->x].width / op->heads,
                          .n_z = c->p->buffers[op->z].width / op->heads, .count = values_of(c, op->y)};
    return LAUNCH(join, parts(a.count, CUDA_THREADS), 1, 0, a);
}

static int select_rows(const struct compiled *c, const float *x, float *y, const int32_t *rows, int64_t width, int64_t count)
{
    struct select_args a = {x, y, rows, width, count * width};
    return LAUNCH(select, parts(a.count, CUDA_THREADS), 1, 0, a);
}

static int cuda_run_select(const struct compiled *c, const struct op *op)
{
    const int32_t *rows = only_wanted(c, op->x) ? NULL : c->device_batch.wanted;
    return select_rows(c, buffer(c, op->x), buffer(c, op->y), rows, c->p->buffers[op->y].width, rows_of(c, op->y));
}

/* Norms and ropes of q and k, then STORE. */
static int run_turn(const struct compiled *c, const struct stage *s)
{
    const struct op *store = s->store, *q = s->rope[0] ? s->rope[0] : s->head_norm[0];
    const struct state_group *g = &c->p->groups[store->group];
    struct turn_args a = {.batch = c->device_batch, .state = cuda_layer_state(c, store)};
    if (q)
        a.part[0] = (struct turn_part){.x = buffer(c, q->x), .heads = (int)(c->p->buffers[q->x].width / g->k_dim), .dim = g->k_dim, .kept = 1};
    a.part[1] = (struct turn_part){.x = buffer(c, store->x), .heads = g->heads, .dim = g->k_dim};
    a.part[1].kept = program_live(c->p, store->x, s->first + s->ops);
    if (!g->v_in_k)
        a.part[2] = (struct turn_part){.x = buffer(c, store->z), .heads = g->heads, .dim = g->v_dim};
    for (int i = 0; i < 2; i++) {
        if (s->head_norm[i])
            a.part[i].norm = norm_of(c, s->head_norm[i]);
        if (s->rope[i])
            a.part[i].rope = rope_of(c, s->rope[i]);
    }
    int64_t longest = g->k_dim > g->v_dim ? g->k_dim : g->v_dim;
    return LAUNCH(turn, c->batch->rows, a.part[0].heads + a.part[1].heads + a.part[2].heads, (size_t)(CUDA_WARPS + longest) * sizeof(float), a);
}

static int (*const run[OP_COUNT])(const struct compiled *, const struct op *) = {
#define OP(kind, name) [OP_##kind] = cuda_run_##name,
#include "kernels/ops.def"
#undef OP
};

/* ---- a step ------------------------------------------------------------------------------------------------------------- */

/* What an operation was about to do, for the message when it could not. */
static enum status op_failed(const struct compiled *c, const struct op *op, int code, struct error *err)
{
    const struct program *p = c->p;
    int of = op->y >= 0 ? op->y : op->x;
    if (code == RANK_GAVE_UP)
        return error_set(err, STATUS_FAILED, "cuda:%d: another device gave up", c->options.device);
    char weight[100] = "";
    if (op->w >= 0)
        snprintf(weight, sizeof weight, ", weight [%lld, %lld] %s", (long long)p->weights[op->w].out, (long long)p->weights[op->w].in,
                 storage_types[p->weights[op->w].format].name);
    return cuda_failed(c, code, err, "operation %d, %s of [%d, %lld]%s", (int)(op - p->ops), op_names[op->kind], (int)rows_of(c, of),
                       (long long)p->buffers[of].width, weight);
}

static enum status check_batch(const struct compiled *c, int output, struct error *err)
{
    const struct compile_options *o = &c->options;
    const struct batch *b = c->batch;
    if (b->rows > o->max_rows || b->wanted > o->max_wanted || b->sequences > o->max_sequences || output >= c->p->buffer_count)
        return error_set(err, STATUS_FAILED, "step: the batch exceeds what was compiled");
    for (int i = 0; i < b->sequences; i++)
        if (b->sequence[i].cached + b->sequence[i].rows > o->max_context)
            return error_set(err, STATUS_FAILED, "step: sequence %d is longer than the context that was compiled", i);
    return STATUS_OK;
}

/* The wanted rows of a buffer to the host. */
static int fetch(const struct compiled *c, int output)
{
    int64_t width = c->p->buffers[output].width;
    const float *from = c->buffer[output];
    int code = 0;
    if (!only_wanted(c, output)) {
        code = select_rows(c, from, c->gathered, c->device_batch.wanted, width, c->batch->wanted);
        from = c->gathered;
    }
    if (!code && c->batch->wanted)
        code = c->cuda->download(c->stream, c->result, from, (size_t)(c->batch->wanted * width) * sizeof(float));
    return code;
}

static int run_stage(const struct compiled *c, const struct stage *s, const struct op *op)
{
    if (s->experts)
        return cuda_run_expert_stage(c, s);
    if (s->combine)
        return cuda_run_combined(c, s->combine, s->tail);
    return s->linears ? cuda_run_stage(c, s) : s->store ? run_turn(c, s) : op->kind == OP_ATTEND ? run_attend(c, op, s->hands) : run[op->kind](c, op);
}

/* What is streamed comes before the stage that begins it, and its room is free behind the one that ends it. */
static int run_streamed(const struct compiled *c, const struct stage *s, const struct op *op)
{
    int code = cuda_stream_bring(c, s->first);
    if (!code)
        code = run_stage(c, s, op);
    return code ? code : cuda_stream_leave(c, s->first + s->ops - 1);
}

static enum status run_all(const struct compiled *c, struct error *err)
{
    cuda_stream_begin(c);
    for (int i = 0; i < c->stages && c->stage[i].first < c->end; i++) {
        const struct stage *s = &c->stage[i];
        if (s->first < c->begin)
            continue;
        const struct op *op = s->experts ? s->expert[0] : s->linears ? s->linear[0] : s->store ? s->store : &c->p->ops[s->first];
        int code = c->p->ops[s->first].streamed ? run_streamed(c, s, op) : run_stage(c, s, op);
        if (code)
            return op_failed(c, op, code, err);
    }
    return STATUS_OK;
}

/* All operations, recorded before if need be. */
static enum status run_graph(const struct compiled *c, struct graph *g, struct error *err)
{
    int code = 0;
    if (!g->graph) {
        if ((code = c->cuda->record(c->stream)))
            return cuda_failed(c, code, err, "recording a step of %d rows", c->batch->rows);
        enum status status = run_all(c, err);
        code = c->cuda->recorded(c->stream, &g->graph);
        if (status || code) {
            c->cuda->drop(c->options.device, g->graph);
            g->graph = NULL;
            return status ? status : cuda_failed(c, code, err, "recording a step of %d rows (INGOT_CUDA_GRAPHS=0 does without)", c->batch->rows);
        }
    }
    code = c->cuda->replay(c->stream, g->graph);
    return code ? cuda_failed(c, code, err, "replaying a step of %d rows", c->batch->rows) : STATUS_OK;
}

static enum status ask(struct compiled *c, int output, bool whole, struct error *err)
{
    int code = c->begin == 0 ? cuda_send_batch(c) : 0; /* once for all stretches */
    if (code)
        return cuda_failed(c, code, err, "sending a batch of %d rows", c->batch->rows);
    struct graph *graph = c->replayed ? cuda_graph_find(c, output) : NULL;
    enum status status = graph ? run_graph(c, graph, err) : run_all(c, err);
    if (status)
        return status;
    if (output >= 0 && whole && (code = fetch(c, output)))
        return cuda_failed(c, code, err, "fetching %s", c->p->buffers[output].name);
    return STATUS_OK;
}

enum status cuda_complete(struct compiled *c, struct error *err)
{
    int code = c->pending ? c->cuda->wait(c->stream) : 0;
    if (c->pending && !code)
        cuda_hand_over(c);
    c->pending = false;
    return code ? cuda_failed(c, code, err, "running a step of %d rows (CUDA_LAUNCH_BLOCKING=1 in the environment names the operation)", c->batch->rows)
                : STATUS_OK;
}

enum status cuda_step(struct compiled *c, const struct batch *b, const struct state_memory *state, int output, const float **result, struct error *err)
{
    enum status status = cuda_complete(c, err); /* a step before, whose rows nobody asked for */
    c->batch = b;
    c->memory = state;
    c->output = output;
    c->begin = b->begin, c->end = batch_end(c->p, b, output);
    if (status || (status = check_batch(c, output, err)))
        return status;
    c->pending = true;
    bool last = batch_last(c->p, b);
    status = ask(c, output, result != NULL && last, err);
    if (!status && !result && last)
        return STATUS_OK;
    enum status waited = cuda_complete(c, status ? NULL : err); /* always: what was asked for reads the batch and writes the result */
    status = status ? status : waited;
    if (result)
        *result = status || output < 0 || !last ? NULL : c->result;
    return status;
}
