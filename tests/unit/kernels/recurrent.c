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
