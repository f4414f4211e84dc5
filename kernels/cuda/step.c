/* A step: the batch goes over in one transfer, every operation is one or two launches, the rows that were asked for come back. */
#include <stdio.h>
#include <string.h>

#include "kernels/cuda/cuda.h"
#include "kernels/exchange.h"

/* ---- the batch -------------------------------------------------------------------------------------------------------- */

static int64_t blocks_of(int64_t tokens) { return (tokens + BLOCK_TOKENS - 1) / BLOCK_TOKENS; }

size_t cuda_step_bytes(const struct compiled *c)
{
    const struct compile_options *o = &c->options;
    struct room r = {0};
    room_take(&r, o->max_sequences, sizeof(struct device_sequence));
    room_take(&r, o->max_rows, sizeof(int64_t));
    room_take(&r, o->max_rows, sizeof(int32_t));
    room_take(&r, o->max_rows, sizeof(int32_t));
    room_take(&r, o->max_wanted, sizeof(int32_t));
    room_take(&r, o->max_sequences * c->p->group_count * blocks_of(o->max_context), sizeof(int32_t));
    room_take(&r, c->p->rope_count * o->max_rows * c->rope_stride, sizeof(float));
    room_take(&r, o->max_rows * c->embedding_width, sizeof(float));
    room_take(&r, cuda_attend_arrivals(c, o->max_rows < SPLIT_ROWS ? o->max_rows : SPLIT_ROWS), sizeof(unsigned));
    return r.used;
}

/* Room for count things in both copies of the batch. */
static void *place(struct compiled *c, struct room *host, int64_t count, size_t size, const void *device_address)
{
    void *device = c->step + host->used;
    memcpy((void *)(uintptr_t)device_address, &device, sizeof device); /* a pointer to any type */
    return room_take(host, count, size);
}

/* The longest sequence; up to the end of its class where the step may be replayed. */
static void find_longest(struct compiled *c)
{
    c->replayed = cuda_graph_serves(c);
    c->longest = 0;
    for (int i = 0; i < c->batch->sequences; i++) {
        int64_t tokens = c->batch->sequence[i].cached + c->batch->sequence[i].rows;
        c->longest = tokens > c->longest ? tokens : c->longest;
    }
    if (c->replayed)
        c->longest = cuda_round_pieces((c->longest + ATTEND_PIECE - 1) / ATTEND_PIECE) * ATTEND_PIECE;
    if (c->longest > c->options.max_context)
        c->longest = c->options.max_context;
}

/* Block ids of a sequence and group: as many as it has, or as any of the step's class can have. */
static int64_t stride_of(const struct compiled *c, const struct batch_sequence *s)
{
    return blocks_of(c->replayed ? c->longest : s->cached + s->rows);
}

static void write_sequences(struct compiled *c, struct room *host)
{
    const struct batch *b = c->batch;
    int groups = c->p->group_count;
    int64_t all = 0, at = 0;
    for (int i = 0; i < b->sequences; i++)
        all += groups * stride_of(c, &b->sequence[i]);
    struct device_sequence *to = place(c, host, b->sequences, sizeof *to, &c->device_batch.sequences);
    int32_t *blocks = place(c, host, all, sizeof *blocks, &c->device_batch.blocks);
    for (int i = 0; i < b->sequences; i++) {
        const struct batch_sequence *s = &b->sequence[i];
        to[i] = (struct device_sequence){.total = s->cached + s->rows, .tables = at, .stride = stride_of(c, s)};
        for (int g = 0; g < groups; g++, at += to[i].stride)
            memcpy(blocks + at, s->blocks[g], (size_t)blocks_of(to[i].total) * sizeof *blocks);
    }
}

static void write_rows(struct compiled *c, struct room *host)
{
    const struct batch *b = c->batch;
    struct device_batch *d = &c->device_batch;
    int32_t embeddings = 0;
    int64_t *slot = place(c, host, b->rows, sizeof *slot, &d->slot);
    int32_t *token = place(c, host, b->rows, sizeof *token, &d->token);
    int32_t *sequence = place(c, host, b->rows, sizeof *sequence, &d->sequence);
    int32_t *wanted = place(c, host, b->wanted, sizeof *wanted, &d->wanted);
    d->embedding_width = c->embedding_width;
    for (int32_t i = 0; i < b->rows; i++) {
        const struct batch_sequence *s = &b->sequence[b->row[i].sequence];
        slot[i] = s->cached + (i - s->first_row);
        sequence[i] = b->row[i].sequence;
        token[i] = b->row[i].token < 0 ? -1 - embeddings++ : b->row[i].token;
    }
    memcpy(wanted, b->wanted_rows, (size_t)b->wanted * sizeof *wanted);
}

static void write_ropes(struct compiled *c, struct room *host)
{
    const struct batch *b = c->batch;
    float *to = place(c, host, c->p->rope_count * b->rows * c->rope_stride, sizeof *to, &c->ropes);
    for (int r = 0; r < c->p->rope_count; r++)
        for (int32_t i = 0; i < b->rows; i++, to += c->rope_stride)
            rope_angles(&c->p->ropes[r], b->row[i].position, b->sequence[b->row[i].sequence].length, to, to + c->rope_stride / 2);
}

static void write_arrivals(struct compiled *c, struct room *host)
{
    int64_t count = cuda_attend_arrivals(c, c->batch->rows);
    unsigned *to = place(c, host, count, sizeof *to, &c->arrived);
    memset(to, 0, (size_t)count * sizeof *to);
}

/* Last: how many there are moves nothing else. */
static void write_embeddings(struct compiled *c, struct room *host)
{
    const struct batch *b = c->batch;
    int64_t count = 0, width = c->embedding_width;
    for (int32_t i = 0; i < b->rows; i++)
        count += b->row[i].token < 0;
    float *to = place(c, host, count * width, sizeof *to, &c->device_batch.embeddings);
    for (int32_t i = 0; i < b->rows; i++)
        if (b->row[i].token < 0) {
            memcpy(to, b->row[i].embedding, (size_t)width * sizeof *to);
            to += width;
        }
}

/* ---- operations --------------------------------------------------------------------------------------------------------- */

static int32_t rows_of(const struct compiled *c, int buffer) { return c->p->buffers[buffer].rows == ROWS_WANTED ? c->batch->wanted : c->batch->rows; }

static int only_wanted(const struct compiled *c, int buffer) { return c->p->buffers[buffer].rows == ROWS_WANTED; }

static float *buffer(const struct compiled *c, int i) { return i >= 0 ? c->buffer[i] : NULL; }

static const float *vector(const struct compiled *c, int i) { return i >= 0 ? c->vector[i] : NULL; }

static int64_t values_of(const struct compiled *c, int i) { return rows_of(c, i) * c->p->buffers[i].width; }

static int64_t parts(int64_t n, int64_t size) { return (n + size - 1) / size; }

/* No rows: nothing to do. */
static int launch(const struct compiled *c, enum cuda_kernel kernel, int64_t x, int64_t y, size_t shared, const void *args, size_t size)
{
    struct cuda_launch l = {kernel, (unsigned)x, (unsigned)y, shared, args, size};
    return x && y ? c->cuda->launch(c->stream, &l) : 0;
}
#define LAUNCH(name, x, y, shared, args) launch(c, CUDA_##name, (x), (y), (shared), &(args), sizeof(args))

static int run_embed(const struct compiled *c, const struct op *op)
{
    const struct weight *w = &c->p->weights[op->w];
    struct embed_args a = {.batch = c->device_batch, .y = buffer(c, op->y), .weight = c->weight[op->w], .grids = c->grids, .width = w->in,
                           .row_bytes = cuda_row_bytes(c, w), .scale = op->scale, .factor = w->factor, .format = w->format, .planes = cuda_relay(c, w, &(struct relay_args){0}),
                           .only_wanted = only_wanted(c, op->y)};
    return LAUNCH(embed, rows_of(c, op->y), 1, 0, a);
}

static struct norm_args norm_of(const struct compiled *c, const struct op *op)
{
    int64_t width = c->p->buffers[op->x].width, n = op->head_dim > 0 ? op->head_dim : width;
    return (struct norm_args){.x = buffer(c, op->x), .y = buffer(c, op->y), .weight = vector(c, op->w), .bias = vector(c, op->b), .n = n,
                          .epsilon = op->epsilon, .offset = op->offset, .centred = op->centred};
}

static int run_norm(const struct compiled *c, const struct op *op)
{
    struct norm_args a = norm_of(c, op);
    return LAUNCH(norm, rows_of(c, op->x) * (c->p->buffers[op->x].width / a.n), 1, CUDA_WARPS * sizeof(float), a);
}

static int linear_rows(const struct compiled *c, const struct op *op, int32_t first, int32_t rows)
{
    static const enum cuda_kernel kernels[STORAGE_COUNT] = {
#define FORMAT(id, name, encode, round) [STORAGE_##id] = CUDA_linear_##name,
#include "kernels/formats/formats.def"
#undef FORMAT
    };
    const struct weight *w = &c->p->weights[op->w];
    struct linear_args a = {.x = buffer(c, op->x) + first * w->in, .y = buffer(c, op->y) + first * w->out, .weight = c->weight[op->w],
                            .grids = c->grids, .bias = vector(c, op->b), .in = w->in, .out = w->out, .row_bytes = cuda_row_bytes(c, w), .factor = w->factor,
                            .rows = rows};
    return launch(c, kernels[w->format], parts(w->out, CUDA_WARPS), parts(a.rows, LINEAR_ROWS), 0, &a, sizeof a);
}

static int run_linear(const struct compiled *c, const struct op *op) { return linear_rows(c, op, 0, rows_of(c, op->x)); }

static struct rope_args rope_of(const struct compiled *c, const struct op *op)
{
    const struct rope *rope = &c->p->ropes[op->rope];
    int pairs = rope->dims / 2;
    return (struct rope_args){.batch = c->device_batch, .x = buffer(c, op->x), .table = c->ropes + (int64_t)op->rope * c->batch->rows * c->rope_stride,
                          .stride = c->rope_stride, .count = (int64_t)rows_of(c, op->x) * op->heads * pairs, .heads = op->heads,
                          .head_dim = op->head_dim, .pairs = pairs, .interleaved = rope->interleaved, .only_wanted = only_wanted(c, op->x)};
}

static int run_rope(const struct compiled *c, const struct op *op)
{
    struct rope_args a = rope_of(c, op);
    return LAUNCH(rope, parts(a.count, CUDA_THREADS), 1, 0, a);
}

/* A group's state in one layer. */
static struct device_state layer_state(const struct compiled *c, const struct op *op)
{
    struct device_state s = c->state[op->group];
    s.pool = c->memory->pool[op->group] + op->layer * c->layer_bytes[op->group];
    return s;
}

static int run_store(const struct compiled *c, const struct op *op)
{
    const struct state_group *g = &c->p->groups[op->group];
    struct store_args a = {.batch = c->device_batch, .state = layer_state(c, op), .x = buffer(c, op->x)};
    a.part = a.state.k;
    int code = LAUNCH(store, c->batch->rows, g->heads, 0, a);
    if (code || g->v_in_k)
        return code;
    a.part = a.state.v;
    a.x = buffer(c, op->z);
    return LAUNCH(store, c->batch->rows, g->heads, 0, a);
}

static int run_attend(const struct compiled *c, const struct op *op)
{
    const struct state_group *g = &c->p->groups[op->group];
    struct attend_args a = {.batch = c->device_batch, .state = layer_state(c, op), .q = buffer(c, op->x), .y = buffer(c, op->y), .heads = op->heads,
                            .kv_heads = g->heads, .window = g->window, .full = op->mask == MASK_FULL, .only_wanted = only_wanted(c, op->x),
                            .scale = op->scale, .cap = op->cap};
    return cuda_attend(c, op, &a, rows_of(c, op->x), c->longest);
}

static int run_add(const struct compiled *c, const struct op *op)
{
    struct add_args a = {buffer(c, op->x), buffer(c, op->z), buffer(c, op->y), op->scale, values_of(c, op->y)};
    return LAUNCH(add, parts(a.count, CUDA_THREADS), 1, 0, a);
}

static int run_gate(const struct compiled *c, const struct op *op)
{
    struct gate_args a = {buffer(c, op->x), buffer(c, op->z), buffer(c, op->y), op->activation, values_of(c, op->y)};
    return LAUNCH(gate, parts(a.count, CUDA_THREADS), 1, 0, a);
}

static int run_scale(const struct compiled *c, const struct op *op)
{
    struct scale_args a = {buffer(c, op->x), buffer(c, op->y), op->scale, op->cap, values_of(c, op->y)};
    return LAUNCH(scale, parts(a.count, CUDA_THREADS), 1, 0, a);
}

static int select_rows(const struct compiled *c, const float *x, float *y, const int32_t *rows, int64_t width, int64_t count)
{
    struct select_args a = {x, y, rows, width, count * width};
    return LAUNCH(select, parts(a.count, CUDA_THREADS), 1, 0, a);
}

static int run_select(const struct compiled *c, const struct op *op)
{
    const int32_t *rows = only_wanted(c, op->x) ? NULL : c->device_batch.wanted;
    return select_rows(c, buffer(c, op->x), buffer(c, op->y), rows, c->p->buffers[op->y].width, rows_of(c, op->y));
}

/* ---- stages ------------------------------------------------------------------------------------------------------------- */

/* x as bytes, behind the stage's norm if it has one. */
static int run_input(const struct compiled *c, const struct stage *s)
{
    const struct op *norm = s->norm, *first = s->linear[0];
    int x = norm ? norm->x : first->x;
    int64_t n = c->p->buffers[x].width;
    struct input_args a = {.x = buffer(c, x), .q = c->input, .scales = c->input_scales, .n = n, .padded = parts(n, INPUT_UNIT) * INPUT_UNIT};
    if (norm) {
        a.norm = 1, a.centred = norm->centred, a.epsilon = norm->epsilon, a.offset = norm->offset;
        a.weight = vector(c, norm->w), a.bias = vector(c, norm->b);
        a.y = s->floats ? buffer(c, norm->y) : NULL;
    }
    return LAUNCH(input, rows_of(c, x), 1, CUDA_WARPS * sizeof(float), a);
}

/* Norms and ropes of q and k, then STORE. */
static int run_turn(const struct compiled *c, const struct stage *s)
{
    const struct op *store = s->store, *q = s->rope[0] ? s->rope[0] : s->head_norm[0];
    const struct state_group *g = &c->p->groups[store->group];
    struct turn_args a = {.batch = c->device_batch, .state = layer_state(c, store)};
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

/* Rows of a step. */
struct range {
    int32_t first, rows;
};

/* Linears of one format, and the stage's last operation if it is theirs. */
static int run_gemv(const struct compiled *c, const struct stage *s, int from, int count, const struct op *tail, struct range r)
{
    static const enum cuda_kernel kernels[STORAGE_COUNT] = { /* the first of four: see interface.h */
#define FAST(id, name, kind) [STORAGE_##id] = CUDA_gemv_##name,
#include "kernels/cuda/fast.def"
#undef FAST
    };
    const struct op *first = s->linear[from];
    int64_t in = c->p->weights[first->w].in;
    bool gated = tail && tail->kind == OP_GATE;
    struct gemv_args a = {.parts = count, .rows = r.rows, .in = in, .padded = parts(in, INPUT_UNIT) * INPUT_UNIT};
    a.x = buffer(c, first->x) + r.first * in;
    a.q = c->input + r.first * a.padded;
    a.scales = c->input_scales + r.first * a.padded / 16 * 2;
    for (int i = 0; i < count; i++) {
        const struct op *op = s->linear[from + i];
        const struct weight *w = &c->p->weights[op->w];
        a.part[i] = (struct gemv_part){.weight = c->weight[op->w], .bias = vector(c, op->b), .y = buffer(c, tail ? tail->y : op->y) + r.first * w->out, .out = w->out,
                                       .row_bytes = cuda_row_bytes(c, w), .factor = w->factor};
        a.outs += gated && i ? 0 : w->out;
    }
    if (gated)
        a.activation = tail->activation;
    else if (tail)
        a.add = buffer(c, tail->x) + r.first * a.outs, a.scale = tail->scale;
    int many = a.rows > 1;
    enum cuda_kernel kernel = (enum cuda_kernel)((int)kernels[c->p->weights[first->w].format] + many + 2 * gated);
    return launch(c, kernel, parts(a.outs, CUDA_WARPS), parts(a.rows, many ? GEMV_TILE : 1), 0, &a, sizeof a);
}

/* All linears of the stage, for rows that are handled one by one. */
static int run_few(const struct compiled *c, const struct stage *s, const struct op *tail, struct range r)
{
    int code = 0;
    for (int i = 0, count; i < s->linears && r.rows && !code; i += count) {
        const struct weight *w = &c->p->weights[s->linear[i]->w];
        bool fast = cuda_fast(c, w);
        count = 1;
        while (fast && i + count < s->linears && c->p->weights[s->linear[i + count]->w].format == w->format && cuda_fast(c, &c->p->weights[s->linear[i + count]->w]))
            count++;
        code = fast ? run_gemv(c, s, i, count, tail, r) : linear_rows(c, s->linear[i], r.first, r.rows);
    }
    return code;
}

/* Sequences with many rows go through cuBLAS, from floats; what lies between them as always. Then the stage's last operation is one
 * of its own: the same arithmetic. */
static int run_mixed(const struct compiled *c, const struct stage *s)
{
    int code = s->norm ? run_norm(c, s->norm) : 0;
    if (!code && s->bytes)
        code = run_input(c, s);
    struct range few = {0, 0};
    for (int32_t i = 0; i < c->batch->sequences && !code; i++) {
        const struct batch_sequence *q = &c->batch->sequence[i];
        if (!cuda_gemm_serves(c, s->linear[0], q->rows))
            continue;
        few.rows = q->first_row - few.first;
        code = run_few(c, s, NULL, few);
        for (int k = 0; k < s->linears && !code; k++)
            code = cuda_gemm_linear(c, s->linear[k], q->first_row, q->rows);
        few.first = q->first_row + q->rows;
    }
    few.rows = rows_of(c, s->linear[0]->x) - few.first;
    if (!code)
        code = run_few(c, s, NULL, few);
    return code || !s->tail ? code : s->tail->kind == OP_ADD ? run_add(c, s->tail) : run_gate(c, s->tail);
}

static int run_stage(const struct compiled *c, const struct stage *s)
{
    for (int32_t i = 0; i < c->batch->sequences; i++)
        if (cuda_gemm_serves(c, s->linear[0], c->batch->sequence[i].rows))
            return run_mixed(c, s);
    int code = s->bytes ? run_input(c, s) : s->norm ? run_norm(c, s->norm) : 0;
    return code ? code : run_few(c, s, s->tail, (struct range){0, rows_of(c, s->linear[0]->x)});
}

/* ---- between parts ------------------------------------------------------------------------------------------------------ */

static size_t row_bytes(const struct compiled *c, int buffer) { return (size_t)values_of(c, buffer) * sizeof(float); }

/* What other parts read when the step is done: see hand_over(). */
static int run_send(const struct compiled *c, const struct op *op)
{
    return c->cuda->download(c->stream, c->staged[op->x], buffer(c, op->x), row_bytes(c, op->x));
}

static void hand_over(const struct compiled *c)
{
    for (int i = c->begin; i < c->end; i++)
        if (c->p->ops[i].kind == OP_SEND && c->options.rank == 0) /* ranks have the same rows */
            memcpy(c->options.exchange->rows[c->p->ops[i].x], c->staged[c->p->ops[i].x], row_bytes(c, c->p->ops[i].x));
}

static int run_receive(const struct compiled *c, const struct op *op)
{
    memcpy(c->staged[op->y], c->options.exchange->rows[op->y], row_bytes(c, op->y));
    return c->cuda->upload(c->stream, buffer(c, op->y), c->staged[op->y], row_bytes(c, op->y));
}

/* By NCCL where it serves; else through the host's memory, which is right with any devices, also when two ranks are one card, and
 * has one order of sums. */
static int run_reduce(const struct compiled *c, const struct op *op)
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

static int (*const run[OP_COUNT])(const struct compiled *, const struct op *) = {
#define OP(kind, name) [OP_##kind] = run_##name,
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

static enum status run_all(const struct compiled *c, struct error *err)
{
    for (int i = 0; i < c->stages && c->stage[i].first < c->end; i++) {
        const struct stage *s = &c->stage[i];
        if (s->first < c->begin)
            continue;
        const struct op *op = s->linears ? s->linear[0] : s->store ? s->store : &c->p->ops[s->first];
        int code = s->linears ? run_stage(c, s) : s->store ? run_turn(c, s) : run[op->kind](c, op);
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

/* What all of a step's stretches go by. */
static enum status send_batch(struct compiled *c, struct error *err)
{
    struct room host = {c->host_step, 0};
    find_longest(c);
    write_sequences(c, &host);
    write_rows(c, &host);
    write_ropes(c, &host);
    write_arrivals(c, &host);
    write_embeddings(c, &host);
    int code = c->cuda->upload(c->stream, c->step, c->host_step, host.used);
    return code ? cuda_failed(c, code, err, "sending a batch of %d rows", c->batch->rows) : STATUS_OK;
}

static enum status ask(struct compiled *c, int output, bool whole, struct error *err)
{
    enum status status = c->batch->begin == 0 ? send_batch(c, err) : STATUS_OK;
    if (status)
        return status;
    struct graph *graph = c->replayed ? cuda_graph_find(c, output) : NULL;
    status = graph ? run_graph(c, graph, err) : run_all(c, err);
    int code = !status && output >= 0 && whole ? fetch(c, output) : 0;
    return code ? cuda_failed(c, code, err, "fetching %s", c->p->buffers[output].name) : status;
}

enum status cuda_complete(struct compiled *c, struct error *err)
{
    int code = c->pending ? c->cuda->wait(c->stream) : 0;
    if (c->pending && !code)
        hand_over(c);
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
