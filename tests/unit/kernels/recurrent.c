/* Recurrent operations by hand: CONV, SCAN, JOIN and stacks of matrices without a choice; whole, in pieces, and beside others; every
 * instruction set of this machine against the reference. */
#include "kernels/cpu/cpu.h"
#include "tiny.h"

enum { ROWS = 23, HEADS = 4, KEYS = 2, K = 3, V = 5, TAPS = 4, MIX = 2 * KEYS * K + HEADS * V, HIDDEN = 12, VOCAB = 40 };

struct layer {
    struct arena arena;
    struct program p;
    int mix, out, joined;
    struct weight table, stack, gates, taps, parameters;
};

static struct op *add(struct program *p, enum op_kind kind, int x, int z, int y)
{
    struct op *op = program_add(p, kind);
    op->x = x, op->z = z, op->y = y;
    return op;
}

/* embedding -> [stack without a choice | LINEAR] -> JOIN -> CONV -> SCAN */
static void build(struct layer *l, bool delta, bool tiled)
{
    *l = (struct layer){.p = {.vocab = VOCAB}};
    struct program *p = &l->p;
    p->arena = &l->arena;
    l->table = tiny_weight("table", STORAGE_F32, VOCAB, HIDDEN, 1);
    l->stack = tiny_weight("stack", STORAGE_F32, 2 * KEYS * K, HIDDEN, 1);
    l->gates = tiny_weight("gates", STORAGE_F32, HEADS * (delta ? 2 : 1), HIDDEN, 1);
    l->taps = tiny_weight("taps", STORAGE_F32, MIX, TAPS, 1);
    l->parameters = tiny_weight("parameters", STORAGE_F32, 3, HEADS, 0.5f);
    struct weight stack = l->stack, values = tiny_weight("values", STORAGE_F32, HEADS * V, HIDDEN, 1), bias = tiny_weight("bias", STORAGE_F32, 1, MIX, 0.1f);
    stack.experts = 2 * KEYS;
    stack.out = K;
    stack.expert_bytes = K * stack.row_bytes;
    for (int h = 0; h < HEADS; h++) { /* decays are negative */
        float *decay = (float *)(uintptr_t)l->parameters.data + h, x;
        memcpy(&x, decay, sizeof x);
        x = -fabsf(x);
        memcpy(decay, &x, sizeof x);
    }
    struct scan s = {.heads = HEADS, .key_heads = KEYS, .k_dim = K, .v_dim = V, .q = 0, .k = KEYS * K, .v = 2 * KEYS * K, .tiled = tiled, .delta = delta,
                     .normalised = delta, .dt_most = delta ? INFINITY : 1.5f};
    struct state_group g = {.kind = STATE_RECURRENT, .layers = 2, .values = 7 + (TAPS - 1) * MIX + HEADS * K * V};
    int group = program_group(p, &g), x = program_buffer(p, "x", HIDDEN, ROWS_ALL), qk = program_buffer(p, "qk", 2 * KEYS * K, ROWS_ALL);
    int v = program_buffer(p, "v", HEADS * V, ROWS_ALL), z = program_buffer(p, "z", HEADS * (delta ? 2 : 1), ROWS_ALL);
    l->joined = program_buffer(p, "joined", MIX, ROWS_ALL);
    l->mix = program_buffer(p, "mix", MIX, ROWS_ALL);
    l->out = program_buffer(p, "out", HEADS * V, ROWS_ALL);
    add(p, OP_EMBED, -1, -1, x)->w = program_weight(p, &l->table);
    add(p, OP_EXPERTS, x, -1, qk)->w = program_weight(p, &stack);
    add(p, OP_LINEAR, x, -1, v)->w = program_weight(p, &values);
    add(p, OP_LINEAR, x, -1, z)->w = program_weight(p, &l->gates);
    add(p, OP_JOIN, qk, v, l->joined)->heads = 1;
    struct op *op = add(p, OP_CONV, l->joined, -1, l->mix);
    op->w = program_weight(p, &l->taps), op->b = program_weight(p, &bias), op->activation = ACT_SILU, op->group = group, op->layer = 1, op->at = 7;
    op = add(p, OP_SCAN, l->mix, z, l->out);
    op->w = program_weight(p, &l->parameters), op->scan = program_scan(p, &s), op->group = group, op->layer = 1, op->at = 7 + (TAPS - 1) * MIX, op->scale = 0.7f;
    program_output(p, "out", l->out);
    program_output(p, "mix", l->mix);
    struct error err = {0};
    cr_assert_eq(program_check(p, &err), STATUS_OK, "%s", err.text);
}

struct runner {
    struct compiled *compiled;
    struct state_memory state;
    struct compile_options o;
    const struct backend *backend;
};

static void open_runner(struct runner *r, struct layer *l, const struct backend *backend)
{
    struct error err = {0};
    r->backend = backend;
    r->o = tiny_options(STORAGE_F32);
    cr_assert_eq(backend->compile(&r->compiled, &l->p, &r->o, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(backend->state_open(&l->p, &r->o, (const int32_t[]){6}, &r->state, &err), STATUS_OK, "%s", err.text);
    memset(r->state.pool[0], 0x7f, r->state.bytes[0]); /* a slot that nobody wrote is not looked at */
}

static void close_runner(struct runner *r)
{
    r->backend->state_close(&r->o, &r->state);
    r->backend->free(r->compiled);
}

/* `rows` rows of a sequence after `cached` ones, from one slot to another; every row of the output is kept. */
static void step(struct runner *r, int output, int64_t width, const int32_t *tokens, int cached, int rows, int32_t in, int32_t out, float *results)
{
    struct batch_row row[ROWS];
    int32_t wanted[ROWS], slots[2] = {in, out};
    const int32_t *blocks[1] = {slots};
    for (int i = 0; i < rows; i++)
        row[i] = (struct batch_row){.token = tokens[cached + i], .position = cached + i}, wanted[i] = i;
    struct batch_sequence s = {.rows = rows, .cached = cached, .blocks = blocks, .adapter = -1, .length = ROWS};
    struct batch b = {.rows = rows, .sequences = 1, .wanted = rows, .row = row, .sequence = &s, .wanted_rows = wanted};
    const float *result;
    struct error err = {0};
    cr_assert_eq(r->backend->step(r->compiled, &b, &r->state, output, &result, &err), STATUS_OK, "%s", err.text);
    memcpy(results + cached * width, result, (size_t)(rows * width) * sizeof(float));
}

static void tokens_make(int32_t *tokens)
{
    for (int i = 0; i < ROWS; i++)
        tokens[i] = (int32_t)(tiny_random() % VOCAB);
}

Test(recurrent, stacks_without_a_choice_are_linear)
{
    struct layer l;
    build(&l, false, false);
    struct runner r;
    open_runner(&r, &l, &backend_reference);
    int32_t tokens[ROWS];
    float mix[ROWS * MIX];
    tokens_make(tokens);
    program_output(&l.p, "joined", l.joined);
    step(&r, l.joined, MIX, tokens, 0, ROWS, -1, 2, mix);
    for (int row = 0; row < ROWS; row++)
        for (int i = 0; i < 2 * KEYS * K; i++) {
            double sum = 0;
            for (int j = 0; j < HIDDEN; j++) {
                float w, x;
                memcpy(&w, l.stack.data + (i * HIDDEN + j) * 4, 4);
                memcpy(&x, l.table.data + (tokens[row] * HIDDEN + j) * 4, 4);
                sum += (double)w * x;
            }
            cr_assert_float_eq(mix[row * MIX + i], sum, 1e-5);
        }
    close_runner(&r);
    arena_free(&l.arena);
}

Test(recurrent, in_pieces_is_whole)
{
    for (int kind = 0; kind < 4; kind++) {
        struct layer l;
        build(&l, kind & 1, kind & 2);
        struct runner r;
        int32_t tokens[ROWS];
        float whole[ROWS * HEADS * V], parts[ROWS * HEADS * V];
        tokens_make(tokens);
        open_runner(&r, &l, &backend_reference);
        step(&r, l.out, HEADS * V, tokens, 0, ROWS, -1, 0, whole);
        for (int piece = 1; piece < 7; piece++) { /* shorter than the taps, and longer; in place, and from slot to slot */
            int slot = 1;
            for (int at = 0; at < ROWS; at += piece) {
                int next = piece & 1 ? slot : slot % 5 + 1;
                step(&r, l.out, HEADS * V, tokens, at, at + piece < ROWS ? piece : ROWS - at, slot, next, parts);
                slot = next;
            }
            cr_assert_eq(memcmp(parts, whole, sizeof whole), 0, "kind %d, pieces of %d", kind, piece);
        }
        close_runner(&r);
        arena_free(&l.arena);
    }
}

/* The state after n rows, written out as a sum over all rows before: no recurrence. Without the delta rule
 *   S_n = sum over i of exp(sum of decay * dt over the rows behind i) * dt_i * k_i v_i^T. */
Test(recurrent, scan_is_its_sum)
{
    struct layer l;
    build(&l, false, false);
    struct runner r;
    int32_t tokens[ROWS];
    float mix[ROWS * MIX], out[ROWS * HEADS * V];
    tokens_make(tokens);
    open_runner(&r, &l, &backend_reference);
    step(&r, l.mix, MIX, tokens, 0, ROWS, -1, 0, mix);
    step(&r, l.out, HEADS * V, tokens, 0, ROWS, -1, 0, out);
    for (int h = 0; h < HEADS; h++) {
        float decay, bias, skip;
        memcpy(&decay, l.parameters.data + 4 * h, 4);
        memcpy(&bias, l.parameters.data + 4 * (HEADS + h), 4);
        memcpy(&skip, l.parameters.data + 4 * (2 * HEADS + h), 4);
        double dt[ROWS];
        for (int row = 0; row < ROWS; row++) {
            double gate = bias;
            for (int j = 0; j < HIDDEN; j++) {
                float w, x;
                memcpy(&w, l.gates.data + (h * HIDDEN + j) * 4, 4);
                memcpy(&x, l.table.data + (tokens[row] * HIDDEN + j) * 4, 4);
                gate += (double)w * x;
            }
            dt[row] = fmin(log1p(exp(gate)), 1.5);
        }
        for (int row = 0; row < ROWS; row++)
            for (int j = 0; j < V; j++) {
                const float *q = mix + row * MIX + h / 2 * K;
                double sum = skip * mix[row * MIX + 2 * KEYS * K + h * V + j], faded = 0;
                for (int i = row; i >= 0; faded += decay * dt[i--]) {
                    const float *k = mix + i * MIX + KEYS * K + h / 2 * K;
                    double dot = 0;
                    for (int n = 0; n < K; n++)
                        dot += (double)q[n] * k[n];
                    sum += 0.7f * dot * exp(faded) * dt[i] * mix[i * MIX + 2 * KEYS * K + h * V + j];
                }
                cr_assert_float_eq(out[(row * HEADS + h) * V + j], sum, 1e-4, "head %d row %d: %g, %g", h, row, out[(row * HEADS + h) * V + j], sum);
            }
    }
    close_runner(&r);
    arena_free(&l.arena);
}

/* ---- the CPU's instruction sets ------------------------------------------------------------------------------------------ */

struct sizes {
    int heads, keys, k, v, taps;
    bool delta, tiled, biased;
};
static const struct sizes odd_sizes[] = {
    {4, 2, 3, 5, 4, false, false, true},   {4, 2, 3, 5, 4, true, true, false}, {2, 1, 16, 64, 3, true, false, true}, {3, 3, 17, 37, 2, false, true, false},
    {2, 2, 40, 129, 1, true, false, true}, {6, 2, 8, 16, 7, true, true, false}, {1, 1, 128, 96, 4, false, false, true},
};
enum { SIZES = sizeof odd_sizes / sizeof *odd_sizes, MOST_OUT = 2 * 129 };

/* Two tables give rows of x and of gates: CONV, then SCAN. */
static int build_sizes(struct layer *l, const struct sizes *s)
{
    int mix = 2 * s->keys * s->k + s->heads * s->v, gates = s->heads * (s->delta ? 2 : 1);
    *l = (struct layer){.p = {.vocab = VOCAB}};
    struct program *p = &l->p;
    p->arena = &l->arena;
    l->table = tiny_weight("table", STORAGE_F32, VOCAB, mix, 1);
    l->gates = tiny_weight("gates", STORAGE_F32, VOCAB, gates, 2);
    l->taps = tiny_weight("taps", STORAGE_F16, mix, s->taps, 1);
    l->parameters = tiny_weight("parameters", STORAGE_F32, 3, s->heads, 0.5f);
    struct weight bias = tiny_weight("bias", STORAGE_BF16, 1, mix, 0.1f);
    for (int h = 0; h < s->heads; h++)
        ((unsigned char *)(uintptr_t)l->parameters.data)[4 * h + 3] |= 0x80; /* decays are negative */
    struct scan scan = {.heads = s->heads, .key_heads = s->keys, .k_dim = s->k, .v_dim = s->v, .q = s->heads * s->v, .k = s->heads * s->v + s->keys * s->k, .v = 0,
                        .tiled = s->tiled, .delta = s->delta, .normalised = s->delta, .dt_least = 0.01f, .dt_most = s->delta ? INFINITY : 1.5f};
    struct state_group g = {.kind = STATE_RECURRENT, .layers = 2, .values = 5 + (s->taps - 1) * mix + s->heads * s->k * s->v};
    int group = program_group(p, &g), x = program_buffer(p, "x", mix, ROWS_ALL), z = program_buffer(p, "z", gates, ROWS_ALL);
    l->mix = program_buffer(p, "mix", mix, ROWS_ALL);
    l->out = program_buffer(p, "out", s->heads * s->v, ROWS_ALL);
    add(p, OP_EMBED, -1, -1, x)->w = program_weight(p, &l->table);
    add(p, OP_EMBED, -1, -1, z)->w = program_weight(p, &l->gates);
    struct op *op = add(p, OP_CONV, x, -1, l->mix);
    op->w = program_weight(p, &l->taps), op->b = s->biased ? program_weight(p, &bias) : -1, op->activation = ACT_SILU, op->group = group, op->layer = 1, op->at = 5;
    op = add(p, OP_SCAN, l->mix, z, l->out);
    op->w = program_weight(p, &l->parameters), op->scan = program_scan(p, &scan), op->group = group, op->layer = 1, op->at = 5 + (s->taps - 1) * mix, op->scale = 0.7f;
    program_output(p, "out", l->out);
    struct error err = {0};
    cr_assert_eq(program_check(p, &err), STATUS_OK, "%s", err.text);
    return s->heads * s->v;
}

static const char *const isa_names[] = {"scalar", "avx2", "avx512-vnni", "amx", "neon", "neon-dotprod", "neon-i8mm"};

static void open_isa(struct runner *r, struct layer *l, const struct isa *isa, int threads)
{
    struct error err = {0};
    r->backend = backend_cpu(&err);
    r->o = tiny_options(STORAGE_F32);
    r->o.threads = threads;
    cr_assert_eq(cpu_compile_with(isa, &r->compiled, &l->p, &r->o, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(r->backend->state_open(&l->p, &r->o, (const int32_t[]){6}, &r->state, &err), STATUS_OK, "%s", err.text);
    memset(r->state.pool[0], 0x7f, r->state.bytes[0]);
}

/* By how much two lists are apart, of the length of the second. */
static double apart(const float *a, const float *b, int n)
{
    double difference = 0, length = 0;
    for (int i = 0; i < n; i++)
        difference += (double)(a[i] - b[i]) * (a[i] - b[i]), length += (double)b[i] * b[i];
    return sqrt(difference / length);
}

Test(recurrent, cpu_is_the_reference_however_it_is_cut)
{
    int32_t tokens[ROWS];
    static float truth[ROWS * MOST_OUT], whole[ROWS * MOST_OUT], parts[ROWS * MOST_OUT];
    tokens_make(tokens);
    for (int i = 0; i < SIZES; i++) {
        struct layer l;
        struct runner r;
        int width = build_sizes(&l, &odd_sizes[i]);
        open_runner(&r, &l, &backend_reference);
        step(&r, l.out, width, tokens, 0, ROWS, -1, 0, truth);
        close_runner(&r);
        for (size_t n = 0; n < sizeof isa_names / sizeof *isa_names; n++) {
            const struct isa *isa = isa_find(isa_names[n]);
            if (!isa)
                continue;
            open_isa(&r, &l, isa, 3); /* many threads share a head's columns out */
            step(&r, l.out, width, tokens, 0, ROWS, -1, 0, whole);
            close_runner(&r);
            cr_assert_lt(apart(whole, truth, ROWS * width), 2e-6, "%s, sizes %d: %g", isa->name, i, apart(whole, truth, ROWS * width));
            open_isa(&r, &l, isa, 1);
            for (int piece = 1; piece < 7; piece++) {
                int slot = 1;
                for (int at = 0; at < ROWS; at += piece) {
                    int next = piece & 1 ? slot : slot % 5 + 1;
                    step(&r, l.out, width, tokens, at, at + piece < ROWS ? piece : ROWS - at, slot, next, parts);
                    slot = next;
                }
                cr_assert_eq(memcmp(parts, whole, (size_t)(ROWS * width) * sizeof *parts), 0, "%s, sizes %d, pieces of %d", isa->name, i, piece);
            }
            close_runner(&r);
        }
        arena_free(&l.arena);
    }
}

/* Sequences of one batch have the bits that each has alone, and leave the slot that they read as it was. */
Test(recurrent, beside_others_is_alone)
{
    enum { FIRST = 7, COUNT = 3 };
    for (int i = 0; i < SIZES; i++) {
        struct layer l;
        struct runner r;
        struct error err = {0};
        int width = build_sizes(&l, &odd_sizes[i]);
        int32_t tokens[ROWS];
        static float alone[COUNT][ROWS * MOST_OUT];
        tokens_make(tokens);
        open_isa(&r, &l, isa_best(&err), 2);
        step(&r, l.out, width, tokens, 0, FIRST, -1, 0, alone[0]);
        size_t bytes = r.state.bytes[0] / 6;
        unsigned char *before = malloc(bytes);
        memcpy(before, r.state.pool[0], bytes);
        const int rows[COUNT] = {9, 1, 6}, cached[COUNT] = {FIRST, FIRST, 0}; /* two go on from one slot */
        for (int s = 0; s < COUNT; s++)
            step(&r, l.out, width, tokens, cached[s], rows[s], 0, 1 + s, alone[s]);
        struct batch_row row[ROWS];
        struct batch_sequence sequence[COUNT];
        int32_t wanted[ROWS], slots[COUNT][2];
        const int32_t *blocks[COUNT][1];
        struct batch b = {.row = row, .sequence = sequence, .wanted_rows = wanted};
        for (int s = 0; s < COUNT; s++) {
            slots[s][0] = 0, slots[s][1] = 3 + s, blocks[s][0] = slots[s];
            sequence[s] = (struct batch_sequence){b.rows, rows[s], cached[s], blocks[s], -1, ROWS};
            for (int k = 0; k < rows[s]; k++, b.rows++)
                row[b.rows] = (struct batch_row){.token = tokens[cached[s] + k], .position = cached[s] + k, .sequence = s}, wanted[b.rows] = b.rows;
        }
        b.sequences = COUNT, b.wanted = b.rows;
        const float *result;
        cr_assert_eq(r.backend->step(r.compiled, &b, &r.state, l.out, &result, &err), STATUS_OK, "%s", err.text);
        for (int s = 0; s < COUNT; s++)
            cr_assert_eq(memcmp(result + sequence[s].first_row * width, alone[s] + cached[s] * width, (size_t)(rows[s] * width) * sizeof *result), 0,
                         "sizes %d, sequence %d", i, s);
        cr_assert_eq(memcmp(before, r.state.pool[0], bytes), 0, "what was read stays");
        free(before);
        close_runner(&r);
        arena_free(&l.arena);
    }
}
