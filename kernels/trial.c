/* A trial of a device before it is trusted: a small model of numbers drawn here, with the formats, the head width and the cache types of
 * the one that is to run, its scans and stacks without a choice if it has any, step by step on the device and on the reference. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/ops.h"

enum { WIDE = 256, HEADS = 2, VOCAB = 96, PROMPT = 18, WANTED = 2, CONTEXT = 2 * BLOCK_TOKENS, LAYERS = 4, DISTINCT = 61 /* rows of a matrix: a prime */,
       TAPS = 4, EXPERTS = 3 /* all are chosen: which one is the last would hang on rounding */ };

/* What two correct ways may differ by, of the largest logit: activations as bytes, caches of four bits. */
static const double apart_at_most = 0.05;

struct trial {
    struct arena arena;
    struct program p;
    uint32_t state; /* of the numbers drawn */
    int head_dim, logits;
    bool experts, heads; /* to be chosen from; all rows to all of them */
    bool recurrent;
    struct scan scan;
};

static float draw(struct trial *t)
{
    t->state = t->state * 1664525u + 1013904223u;
    return (float)(t->state >> 8) / 0x1p23f - 1;
}

/* -1: no memory */
static int matrix(struct trial *t, enum storage format, int64_t out, int64_t in)
{
    if (!format_find(format)->encode || in % storage_types[format].block_elements)
        format = STORAGE_F32;
    const struct storage_type *type = &storage_types[format];
    struct weight w = {.name = "trial", .format = format, .out = out, .in = in, .experts = 1, .shard_axis = -1};
    w.row_bytes = in / type->block_elements * type->block_bytes;
    unsigned char *data = arena_raw(&t->arena, (size_t)(w.row_bytes * out));
    float *row = arena_array(&t->arena, (size_t)in, sizeof *row);
    for (int64_t i = 0; i < out && data && row; i++) {
        for (int64_t k = 0; k < in && i < DISTINCT; k++)
            row[k] = draw(t) * 2 / sqrtf((float)in);
        if (i < DISTINCT)
            format_find(format)->encode(row, NULL, data + i * w.row_bytes, in);
        else
            memcpy(data + i * w.row_bytes, data + (i - DISTINCT) * w.row_bytes, (size_t)w.row_bytes);
    }
    w.data = data;
    t->p.failed |= !data || !row;
    return program_weight(&t->p, &w);
}

static struct op *add(struct trial *t, enum op_kind kind, int x, int z, int y)
{
    struct op *op = program_add(&t->p, kind);
    op->x = x, op->z = z, op->y = y;
    return op;
}

static void linear(struct trial *t, enum storage format, int x, int y)
{
    int w = matrix(t, format, t->p.buffers[y].width, t->p.buffers[x].width);
    add(t, OP_LINEAR, x, -1, y)->w = w;
}

static void norm(struct trial *t, int x, int y)
{
    int w = matrix(t, STORAGE_F32, 1, t->p.buffers[x].width);
    struct op *op = add(t, OP_NORM, x, -1, y);
    op->w = w, op->epsilon = 1e-5f;
}

static int buffer(struct trial *t, const char *name, int64_t width, enum buffer_rows rows) { return program_buffer(&t->p, name, width, rows); }

static void add_rope(struct trial *t)
{
    int pairs = t->head_dim / 2;
    float *inverse = arena_array(&t->arena, (size_t)pairs + 1, sizeof *inverse);
    for (int i = 0; i < pairs && inverse; i++)
        inverse[i] = powf(10000, -(float)i / (float)pairs);
    t->p.failed |= !inverse;
    program_rope(&t->p, &(struct rope){.dims = 2 * pairs, .inverse_frequency = inverse, .magnitude = 1});
}

struct buffers {
    int x, n, q, k, v, a, o, g, u;
    int scores, routing, expert_gate, expert_up, expert_down;
    int joined, mix, mixed, gates, scanned;
};

static struct op *stack(struct trial *t, enum storage format, int x, int z, int y)
{
    int id = matrix(t, format, (int64_t)WIDE * EXPERTS, WIDE);
    struct op *op = add(t, OP_EXPERTS, x, z, y);
    op->w = id, op->route = z < 0 ? -1 : 0;
    struct weight *w = &t->p.weights[id];
    w->out = WIDE, w->experts = EXPERTS, w->expert_bytes = w->row_bytes * WIDE;
    return op;
}

/* One input for all matrices, then one for each; both side by side. */
static void add_heads(struct trial *t, const struct buffers *b, enum storage format)
{
    stack(t, format, b->n, -1, b->expert_gate);
    stack(t, format, b->expert_gate, -1, b->expert_up);
    add(t, OP_JOIN, b->expert_gate, b->expert_up, b->joined)->heads = EXPERTS;
    linear(t, STORAGE_F32, b->joined, b->o);
    add(t, OP_ADD, b->x, b->o, b->x);
}

/* Decay, bias and skip of each head; what a head remembers fades. */
static int parameters_of(struct trial *t)
{
    int heads = t->scan.heads;
    struct weight w = {.name = "trial", .format = STORAGE_F32, .out = 3, .in = heads, .row_bytes = heads * (int64_t)sizeof(float), .experts = 1, .shard_axis = -1};
    float *values = arena_array(&t->arena, 3 * (size_t)heads, sizeof *values);
    for (int i = 0; i < 3 * heads && values; i++)
        values[i] = i < heads ? -0.1f - fabsf(draw(t)) : draw(t);
    w.data = (const unsigned char *)values;
    t->p.failed |= !values;
    return program_weight(&t->p, &w);
}

/* A convolution and a scan over what a norm has made. */
static void add_scan(struct trial *t, const struct buffers *b, int layer)
{
    int64_t mix = t->p.buffers[b->mix].width;
    linear(t, STORAGE_F32, b->n, b->mix);
    linear(t, STORAGE_F32, b->n, b->gates);
    int taps = matrix(t, STORAGE_F32, mix, TAPS), parameters = parameters_of(t);
    struct op *op = add(t, OP_CONV, b->mix, -1, b->mixed);
    op->w = taps, op->activation = ACT_SILU, op->group = 1, op->layer = layer;
    op = add(t, OP_SCAN, b->mixed, b->gates, b->scanned);
    op->w = parameters, op->scan = 0, op->group = 1, op->layer = layer, op->at = (TAPS - 1) * mix, op->scale = 1 / sqrtf((float)t->scan.k_dim);
    linear(t, STORAGE_F32, b->scanned, b->o);
    add(t, OP_ADD, b->x, b->o, b->x);
}

/* Experts over what a norm has made. */
static void add_experts(struct trial *t, const struct buffers *b, enum storage format)
{
    const int x[] = {b->n, b->n, b->expert_gate}, y[] = {b->expert_gate, b->expert_up, b->expert_down};
    linear(t, STORAGE_F32, b->n, b->scores);
    add(t, OP_ROUTE, b->scores, -1, b->routing)->route = 0;
    for (int i = 0; i < 3; i++) {
        if (i == 2)
            add(t, OP_GATE, b->expert_gate, b->expert_up, b->expert_gate)->activation = ACT_SILU;
        stack(t, format, x[i], b->routing, y[i]);
    }
    add(t, OP_COMBINE, b->expert_down, b->routing, b->o);
    add(t, OP_ADD, b->x, b->o, b->x);
}

static void add_layer(struct trial *t, const struct buffers *b, enum storage format, int layer)
{
    const struct {
        int buffer, heads;
    } turned[] = {{b->q, HEADS}, {b->k, 1}};
    norm(t, b->x, b->n);
    linear(t, format, b->n, b->q);
    linear(t, format, b->n, b->k);
    linear(t, format, b->n, b->v);
    for (int i = 0; i < 2; i++) {
        struct op *op = add(t, OP_ROPE, turned[i].buffer, -1, -1);
        op->rope = 0, op->heads = turned[i].heads, op->head_dim = t->head_dim;
    }
    struct op *op = add(t, OP_STORE, b->k, b->v, -1);
    op->group = 0, op->layer = layer;
    op = add(t, OP_ATTEND, b->q, -1, b->a);
    op->group = 0, op->layer = layer, op->heads = HEADS, op->head_dim = t->head_dim, op->scale = 1 / sqrtf((float)t->head_dim);
    linear(t, format, b->a, b->o);
    add(t, OP_ADD, b->x, b->o, b->x);
    norm(t, b->x, b->n);
    linear(t, format, b->n, b->g);
    linear(t, format, b->n, b->u);
    add(t, OP_GATE, b->g, b->u, b->g)->activation = ACT_SILU;
    linear(t, format, b->g, b->o);
    add(t, OP_ADD, b->x, b->o, b->x);
    if (t->experts)
        add_experts(t, b, format);
    if (t->heads)
        add_heads(t, b, format);
    if (t->recurrent)
        add_scan(t, b, layer);
}

/* The formats of `like`, LAYERS at most, and its head width. */
static int take_after(struct trial *t, const struct program *like, enum storage formats[LAYERS])
{
    int count = 0;
    for (int i = like->op_count - 1; i >= 0; i--) {
        const struct op *op = &like->ops[i];
        bool seen = (op->kind != OP_LINEAR && op->kind != OP_EXPERTS) || count == LAYERS;
        t->experts |= op->kind == OP_EXPERTS && op->z >= 0;
        t->heads |= op->kind == OP_JOIN || (op->kind == OP_EXPERTS && op->z < 0);
        t->recurrent |= op->kind == OP_CONV || op->kind == OP_SCAN;
        if (op->kind == OP_SCAN)
            t->scan = like->scans[op->scan];
        for (int k = 0; k < count && !seen; k++)
            seen = formats[k] == like->weights[op->w].format;
        if (!seen)
            formats[count++] = like->weights[op->w].format;
        if (op->kind == OP_ATTEND)
            t->head_dim = like->groups[op->group].k_dim & ~1;
    }
    return count;
}

/* Two heads of `like`'s scan, or of a common one, that share a key. */
static void write_scan(struct trial *t, struct buffers *b, int layers)
{
    struct scan *s = &t->scan;
    if (!s->heads)
        *s = (struct scan){.k_dim = 64, .v_dim = 64, .dt_most = INFINITY};
    s->heads = 2, s->key_heads = 1;
    s->q = 0, s->k = s->k_dim, s->v = 2 * s->k_dim;
    int64_t mix = 2 * (s->k_dim + s->v_dim);
    b->mix = buffer(t, "mix", mix, ROWS_ALL), b->mixed = buffer(t, "mixed", mix, ROWS_ALL);
    b->gates = buffer(t, "gates", s->heads * (s->delta ? 2 : 1), ROWS_ALL), b->scanned = buffer(t, "scanned", s->heads * s->v_dim, ROWS_ALL);
    program_scan(&t->p, s);
    program_group(&t->p, &(struct state_group){.kind = STATE_RECURRENT, .layers = layers, .values = (TAPS - 1) * mix + (int64_t)s->heads * s->k_dim * s->v_dim});
}

/* A layer for each format. */
static enum status write_program(struct trial *t, const struct program *like, struct error *err)
{
    enum storage formats[LAYERS] = {STORAGE_Q8_0, STORAGE_BF16};
    t->p.arena = &t->arena;
    t->p.vocab = VOCAB;
    t->head_dim = 64;
    int layers = like ? take_after(t, like, formats) : 2;
    layers = layers ? layers : 1;
    int wide = HEADS * t->head_dim;
    struct buffers b = {buffer(t, "x", WIDE, ROWS_ALL), buffer(t, "n", WIDE, ROWS_ALL),        buffer(t, "q", wide, ROWS_ALL),
                        buffer(t, "k", t->head_dim, ROWS_ALL), buffer(t, "v", t->head_dim, ROWS_ALL), buffer(t, "a", wide, ROWS_ALL),
                        buffer(t, "o", WIDE, ROWS_ALL), buffer(t, "g", WIDE, ROWS_ALL),        buffer(t, "u", WIDE, ROWS_ALL),
                        buffer(t, "scores", EXPERTS, ROWS_ALL), buffer(t, "routing", 2 * EXPERTS, ROWS_ALL), buffer(t, "expert_gate", EXPERTS * WIDE, ROWS_ALL),
                        buffer(t, "expert_up", EXPERTS * WIDE, ROWS_ALL), buffer(t, "expert_down", EXPERTS * WIDE, ROWS_ALL),
                        .joined = buffer(t, "joined", 2 * EXPERTS * WIDE, ROWS_ALL)};
    int last = buffer(t, "last", WIDE, ROWS_WANTED);
    t->logits = buffer(t, "logits", VOCAB, ROWS_WANTED);
    add_rope(t);
    program_route(&t->p, &(struct expert_route){.experts = EXPERTS, .chosen = EXPERTS, .scale = 32 /* or they would hardly count */, .groups = 1});
    program_group(&t->p, &(struct state_group){.kind = STATE_PAGED, .layers = layers, .heads = 1, .k_dim = t->head_dim, .v_dim = t->head_dim});
    if (t->recurrent)
        write_scan(t, &b, layers);
    int embedding = matrix(t, STORAGE_F32, VOCAB, WIDE);
    add(t, OP_EMBED, -1, -1, b.x)->w = embedding;
    for (int i = 0; i < layers && !t->p.failed; i++)
        add_layer(t, &b, formats[i], i);
    add(t, OP_SELECT, b.x, -1, last);
    norm(t, last, last);
    linear(t, formats[0], last, t->logits);
    program_output(&t->p, "logits", t->logits);
    return program_check(&t->p, err);
}

/* A prompt, then a token alone: the logits of WANTED rows of the first and of the second, [WANTED + 1, VOCAB]. */
static enum status run(const struct trial *t, const struct backend *b, const struct compile_options *o, float *out, struct error *err)
{
    const int32_t blocks[] = {1, 0}, slots[][2] = {{0, 1}, {1, 0}};
    struct compiled *c = NULL;
    struct state_memory state = {0};
    struct batch_row rows[PROMPT];
    const int32_t wanted[] = {PROMPT - 2, PROMPT - 1}, alone[] = {0};
    enum status status = b->state_open(&t->p, o, (const int32_t[]){2, 2}, &state, err);
    if (!status)
        status = b->compile(&c, &t->p, o, err);
    for (int step = 0; step < 2 && !status; step++) {
        const int32_t *const tables[] = {blocks, slots[step]};
        struct batch_sequence s = {.rows = step ? 1 : PROMPT, .cached = step ? PROMPT : 0, .blocks = tables, .adapter = -1, .length = CONTEXT};
        struct batch batch = {.rows = s.rows, .sequences = 1, .wanted = step ? 1 : WANTED, .row = rows, .sequence = &s, .wanted_rows = step ? alone : wanted};
        const float *result = NULL;
        for (int i = 0; i < s.rows; i++)
            rows[i] = (struct batch_row){.token = (int32_t)((s.cached + i) * 29 % VOCAB), .position = s.cached + i};
        status = b->step(c, &batch, &state, t->logits, &result, err);
        if (!status)
            memcpy(out + step * WANTED * VOCAB, result, (size_t)batch.wanted * VOCAB * sizeof *out);
    }
    if (c)
        b->free(c);
    b->state_close(o, &state);
    return status;
}

/* Who runs which operation, as a plan would have it: segments for backend_split(). */
static int segments_of(const struct trial *t, const struct backend *b, const struct backend *other, const struct compile_options *o, struct segment *out)
{
    int count = 0;
    bool stores = true; /* and attends */
    char why[80];
    for (int i = 0; i < t->p.op_count && b->runs; i++)
        stores &= t->p.ops[i].group < 0 || b->runs(&t->p, o, i, why, sizeof why);
    for (int i = 0; i < t->p.op_count; i++) {
        bool own = !b->runs || (t->p.ops[i].group < 0 ? b->runs(&t->p, o, i, why, sizeof why) : stores);
        const struct backend *who = own ? b : other;
        if (count && out[count - 1].backend == who)
            out[count - 1].end = i + 1;
        else
            out[count++] = (struct segment){who, own ? o->device : 0, i, i + 1, 0, 1};
    }
    return count;
}

static enum status compare(const float *got, const float *expected, const struct compile_options *o, struct error *err)
{
    double most = 0, apart = 0;
    for (int i = 0; i < (WANTED + 1) * VOCAB; i++) {
        double difference = fabs((double)got[i] - (double)expected[i]);
        most = fmax(most, fabs((double)expected[i]));
        apart = isnan(difference) ? INFINITY : fmax(apart, difference);
    }
    if (apart <= apart_at_most * most)
        return STATUS_OK;
    return error_set(err, STATUS_DEVICE, "device %d computes wrong: a trial's logits are %.3g apart, of %.3g at most", o->device, apart, most);
}

enum status backend_trial(const struct backend *b, const struct program *like, const struct compile_options *options, struct error *err)
{
    struct trial t = {.state = 1};
    struct compile_options o = {.threads = options->threads, .deterministic = options->deterministic, .device = options->device}, split;
    o.k_type = options->k_type, o.v_type = options->v_type;
    o.max_rows = PROMPT, o.max_wanted = WANTED, o.max_sequences = 1, o.max_context = CONTEXT;
    split = o;
    enum status status = write_program(&t, like, err);
    float *out = arena_array(&t.arena, 2 * (WANTED + 1) * VOCAB, sizeof *out), *expected = out ? out + (WANTED + 1) * VOCAB : NULL;
    struct segment *segments = arena_array(&t.arena, (size_t)t.p.op_count + 1, sizeof *segments);
    const struct backend *cpu = backend_cpu(err), *who = b;
    if (!status && (!out || !segments || !cpu))
        status = cpu ? error_memory(err, "a trial") : STATUS_DEVICE;
    if (!status)
        split.segment_count = segments_of(&t, b, cpu, &o, segments);
    if (!status && (split.segment_count > 1 || segments->backend != b)) {
        split.segments = segments;
        who = backend_split(segments, split.segment_count);
    }
    if (!status)
        status = run(&t, &backend_reference, &o, expected, err);
    for (int i = 0; i <= !o.deterministic && !status; i++) { /* few rows, then the same as if they were many */
        o.prompt_rows = split.prompt_rows = i ? PROMPT / 2 : 0;
        status = run(&t, who, who == b ? &o : &split, out, err);
        if (!status)
            status = compare(out, expected, &o, err);
    }
    arena_free(&t.arena);
    return status;
}
