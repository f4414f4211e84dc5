/* JOIN, CONV and SCAN on the CUDA backend against the reference: odd sizes, ragged batches of several sequences, in pieces and whole, from
 * slot to slot and in place. */
#include "cuda_backend.h"

enum { ROWS = 200, SEQUENCES = 3, SLOTS = 9, IN = 16, FRONT = 5 };

struct shape {
    int heads, key_heads, k_dim, v_dim, taps;
    bool tiled, delta, normalised, bias;
    float most;
};

struct recurrent {
    struct arena arena;
    struct program p;
    struct shape shape;
    int out, mix, group;
};

static struct op *add(struct program *p, enum op_kind kind, int x, int z, int y)
{
    struct op *op = program_add(p, kind);
    op->x = x, op->z = z, op->y = y;
    return op;
}

static void linear(struct program *p, int x, int y, float size)
{
    struct weight w = tiny_weight("linear", STORAGE_F32, p->buffers[y].width, p->buffers[x].width, size / 4);
    add(p, OP_LINEAR, x, -1, y)->w = program_weight(p, &w);
}

/* q, k and v from pieces of two products, joined and convolved. FRONT floats of the state are nobody's. */
static void build(struct recurrent *r, const struct shape *s)
{
    memset(r, 0, sizeof *r);
    r->shape = *s;
    struct program *p = &r->p;
    p->arena = &r->arena;
    p->vocab = 1;
    int64_t keys = (int64_t)s->key_heads * s->k_dim, values = (int64_t)s->heads * s->v_dim, mix = 2 * keys + values, front = s->v_dim % 4 ? FRONT : 0;
    int64_t past = (s->taps - 1) * mix;
    past += s->v_dim % 4 ? 0 : -past & 3;
    program_group(p, &(struct state_group){.kind = STATE_PAGED, .layers = 1, .heads = 1, .k_dim = 8, .v_dim = 8});
    r->group = program_group(p, &(struct state_group){.kind = STATE_RECURRENT, .layers = 2, .values = front + past + s->heads * s->k_dim * (int64_t)s->v_dim});
    int x = program_buffer(p, "x", IN, ROWS_ALL), qk = program_buffer(p, "qk", 2 * keys, ROWS_ALL), v = program_buffer(p, "v", values, ROWS_ALL);
    int z = program_buffer(p, "z", s->heads * (s->delta ? 2 : 1), ROWS_ALL), joined = program_buffer(p, "joined", mix, ROWS_ALL);
    r->mix = program_buffer(p, "mix", mix, ROWS_ALL), r->out = program_buffer(p, "out", values, ROWS_ALL);
    struct weight e = tiny_weight("unused", STORAGE_F32, 1, IN, 1), taps = tiny_weight("taps", STORAGE_BF16, mix, s->taps, 1);
    struct weight parameters = tiny_weight("parameters", STORAGE_F32, 3, s->heads, 0.5f);
    for (int h = 0; h < s->heads; h++) { /* decays are negative, some of them so that nothing is left a few rows later */
        float decay = h % 3 == 2 ? -30.0f : -0.05f * (float)(h + 1);
        memcpy((unsigned char *)(uintptr_t)parameters.data + 4 * h, &decay, 4);
    }
    add(p, OP_EMBED, -1, -1, x)->w = program_weight(p, &e);
    linear(p, x, qk, 1);
    linear(p, x, v, 1);
    linear(p, x, z, 1);
    add(p, OP_JOIN, qk, v, joined)->heads = s->key_heads == s->heads ? s->heads : 1;
    struct op *op = add(p, OP_CONV, joined, -1, r->mix);
    op->w = program_weight(p, &taps), op->b = s->bias ? tiny_vector(p, "bias", (int)mix, 0) : -1, op->activation = s->bias ? ACT_SILU : ACT_NONE;
    op->group = r->group, op->layer = 1, op->at = front;
    op = add(p, OP_SCAN, r->mix, z, r->out);
    op->w = program_weight(p, &parameters), op->group = r->group, op->layer = 1, op->at = front + past, op->scale = 0.7f;
    op->scan = program_scan(p, &(struct scan){.heads = s->heads, .key_heads = s->key_heads, .k_dim = s->k_dim, .v_dim = s->v_dim, .q = 0, .k = keys, .v = 2 * keys,
                                            .tiled = s->tiled, .delta = s->delta, .normalised = s->normalised, .dt_least = 0.001f, .dt_most = s->most});
    program_output(p, "out", r->out);
    program_output(p, "mix", r->mix);
    struct error err = {0};
    cr_assert_eq(program_check(p, &err), STATUS_OK, "%s", err.text);
}

struct runner {
    const struct backend *backend;
    struct compiled *compiled;
    struct state_memory state;
    struct compile_options o;
    int cached[SEQUENCES];
    int32_t slot[SEQUENCES];
};

/* Of a split program, set before it is opened. */
static const struct segment *segments;
static int segment_count;

static void open_runner(struct runner *r, struct recurrent *m, const struct backend *b, bool deterministic)
{
    struct error err = {0};
    *r = (struct runner){.backend = b, .o = tiny_options(STORAGE_F32)};
    r->o.deterministic = deterministic;
    r->o.segments = segments, r->o.segment_count = segment_count;
    r->o.max_rows = r->o.max_wanted = SEQUENCES * ROWS;
    cr_assert_eq(b->compile(&r->compiled, &m->p, &r->o, &err), STATUS_OK, "%s", err.text);
    r->state = tiny_state(b, &m->p, &r->o, SLOTS);
    for (int s = 0; s < SEQUENCES; s++)
        r->slot[s] = (s * 4 + 3) % SLOTS;
}

static void close_runner(struct runner *r)
{
    r->backend->state_close(&r->o, &r->state);
    r->backend->free(r->compiled);
}

/* counts[s] more rows of each sequence, to another slot if `moves`. x: [sequence][ROWS][IN]; out: [sequence][ROWS][width] */
static void step(struct runner *r, const struct recurrent *m, int output, const int *counts, bool moves, const float *x, float *out)
{
    static struct batch_row row[SEQUENCES * ROWS];
    static int32_t wanted[SEQUENCES * ROWS];
    struct batch_sequence sequence[SEQUENCES];
    int32_t slots[SEQUENCES][2], blocks[32] = {0};
    const int32_t *tables[SEQUENCES][2];
    struct batch b = {.row = row, .sequence = sequence, .wanted_rows = wanted};
    int64_t width = m->p.buffers[output].width;
    int which[SEQUENCES];
    for (int s = 0; s < SEQUENCES; s++) {
        int32_t next = moves ? (r->slot[s] + 3) % SLOTS : r->slot[s]; /* slots of one sequence: 3 s + 0, 1, 2 of them in turns */
        if (!counts[s])
            continue;
        slots[s][0] = r->cached[s] ? r->slot[s] : 1 << 30, slots[s][1] = next;
        tables[s][0] = blocks, tables[s][1] = slots[s];
        sequence[b.sequences] = (struct batch_sequence){.first_row = b.rows, .rows = counts[s], .cached = r->cached[s], .blocks = tables[s], .adapter = -1};
        for (int i = 0; i < counts[s]; i++, b.rows++) {
            row[b.rows] = (struct batch_row){-1, x + (s * ROWS + r->cached[s] + i) * IN, r->cached[s] + i, b.sequences};
            wanted[b.rows] = b.rows;
        }
        which[b.sequences++] = s;
        r->slot[s] = next;
    }
    b.wanted = b.rows;
    const float *result;
    struct error err = {0};
    cr_assert_eq(r->backend->step(r->compiled, &b, &r->state, output, &result, &err), STATUS_OK, "%s", err.text);
    for (int i = 0; i < b.sequences; i++) {
        int s = which[i];
        memcpy(out + (s * ROWS + r->cached[s]) * width, result + sequence[i].first_row * width, (size_t)(sequence[i].rows * width) * sizeof *out);
        r->cached[s] += sequence[i].rows;
    }
}

/* The slot of a sequence, as a saved session has it. */
static void keep(const struct runner *r, const struct recurrent *m, int s, float *out)
{
    struct error err = {0};
    cr_assert_eq(r->backend->read_state(r->compiled, &r->state, m->group, r->slot[s], 0, BLOCK_TOKENS, out, &err), STATUS_OK, "%s", err.text);
}

/* What layer 1 has of a slot, FRONT aside. */
static double state_error(const struct recurrent *m, const float *a, const float *b)
{
    int64_t values = m->p.groups[m->group].values, front = m->shape.v_dim % 4 ? FRONT : 0;
    const struct op *scan = &m->p.ops[m->p.op_count - 1], *conv = scan - 1;
    int64_t past = (m->shape.taps - 1) * m->p.buffers[conv->x].width;
    return fmax(tiny_error(a + values + front, b + values + front, past), tiny_error(a + values + scan->at, b + values + scan->at, values - scan->at));
}

/* The last is in pieces of all lengths; sequences begin and rest. */
static const int steps[][SEQUENCES] = {{17, 0, 3}, {1, 2, 1}, {1, 1, 0}, {33, 1, 16}, {2, 70, 1}, {1, 1, 1}, {64, 5, 45}};
enum { STEPS = sizeof steps / sizeof *steps };

/* All steps; the outputs, and what each sequence's slot holds then. */
static void run_steps(const struct backend *b, struct recurrent *m, bool deterministic, bool moves, const float *x, float *out, float *state)
{
    struct runner r;
    open_runner(&r, m, b, deterministic);
    int64_t values = 2 * m->p.groups[m->group].values;
    for (int i = 0; i < STEPS; i++) {
        struct runner before = r;
        step(&r, m, m->out, steps[i], moves, x, out);
        if (moves && i % 3 == 1) { /* what was read is still there, and what the slots hold now does not show */
            r = before;
            step(&r, m, m->out, steps[i], moves, x, out);
        }
    }
    for (int s = 0; s < SEQUENCES; s++)
        keep(&r, m, s, state + s * values);
    close_runner(&r);
}

static void check(const struct shape *s, double bound)
{
    struct recurrent m;
    build(&m, s);
    int64_t width = m.p.buffers[m.out].width, values = 2 * m.p.groups[m.group].values;
    size_t outs = (size_t)(SEQUENCES * ROWS * width);
    float *x = random_rows(SEQUENCES * ROWS * IN), *expected = (float *)calloc(3 * outs, sizeof *x), *got = expected + outs, *other = got + outs;
    float *states = (float *)calloc((size_t)(3 * SEQUENCES * values), sizeof *x), *state = states + SEQUENCES * values, *another = state + SEQUENCES * values;
    const struct backend *cuda = cuda_under_test();
    run_steps(&backend_reference, &m, false, true, x, expected, states);
    for (int deterministic = 0; deterministic < 2; deterministic++) {
        double most = deterministic ? 1e-5 : bound;
        run_steps(cuda, &m, deterministic, true, x, got, state);
        double error = tiny_error(got, expected, (int64_t)outs);
        cr_assert_lt(error, most, "%d heads of %d and %d, deterministic %d: %g", s->heads, s->k_dim, s->v_dim, deterministic, error);
        for (int i = 0; i < SEQUENCES; i++) {
            error = state_error(&m, state + i * values, states + i * values);
            cr_assert_lt(error, most, "%d heads of %d and %d, deterministic %d, sequence %d's state: %g", s->heads, s->k_dim, s->v_dim, deterministic, i, error);
        }
        emulator.backwards = true; /* nor does it matter whether the state moves, or who runs first */
        run_steps(cuda, &m, deterministic, false, x, other, another);
        emulator.backwards = false;
        cr_assert_arr_eq(got, other, outs * sizeof *got);
        struct runner r; /* alone and, where that may not show, whole */
        open_runner(&r, &m, cuda, deterministic);
        for (int i = 0; i < STEPS && !deterministic; i++)
            if (steps[i][1])
                step(&r, &m, m.out, (int[]){0, steps[i][1], 0}, false, x, other);
        if (deterministic)
            step(&r, &m, m.out, (int[]){0, 80, 0}, false, x, other);
        cr_assert_arr_eq(got + ROWS * width, other + ROWS * width, 80 * (size_t)width * sizeof *got);
        close_runner(&r);
    }
    free(x), free(expected), free(states);
    arena_free(&m.arena);
}

Test(cuda_recurrent, shapes)
{
    static const struct shape shapes[] = {
        {3, 3, 3, 5, 4, false, true, true, false, INFINITY},
        {6, 2, 17, 20, 4, true, false, false, true, 1.5f},
        {6, 3, 40, 33, 2, false, true, true, true, INFINITY},
        {1, 1, 128, 24, 4, false, false, false, true, INFINITY},
        {2, 1, 128, 68, 4, false, true, true, false, INFINITY},
        {1, 1, 130, 12, 3, true, true, true, false, INFINITY}, /* row by row alone */
        {1, 1, 64, 72, 1, false, false, true, false, 0.5f},   /* a convolution without a state */
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        check(&shapes[i], on_card() ? 1e-4 : 1e-5); /* sums of matrix units, some of whose bits a card cuts off */
}

/* The host begins, the device has the state: slots are those of its part, and sessions those of the whole. */
Test(cuda_recurrent, split)
{
    static const struct shape s = {3, 1, 16, 20, 4, false, true, true, true, INFINITY};
    struct recurrent m;
    build(&m, &s);
    int64_t width = m.p.buffers[m.out].width, values = 2 * m.p.groups[m.group].values;
    size_t outs = (size_t)(SEQUENCES * ROWS * width);
    float *x = random_rows(SEQUENCES * ROWS * IN), *out = (float *)calloc(2 * outs, sizeof *x), *state = (float *)calloc((size_t)(2 * SEQUENCES * values), sizeof *x);
    run_steps(cuda_under_test(), &m, false, true, x, out, state);
    const struct segment parts[] = {{&backend_reference, 0, 0, 1, 0, 1}, {cuda_under_test(), 0, 1, m.p.op_count, 0, 1}};
    segments = parts, segment_count = 2;
    run_steps(backend_split(parts, 2), &m, false, true, x, out + outs, state + SEQUENCES * values);
    segments = NULL, segment_count = 0;
    cr_assert_arr_eq(out, out + outs, outs * sizeof *out);
    for (int i = 0; i < SEQUENCES; i++)
        cr_assert_eq(state_error(&m, state + i * values, state + (SEQUENCES + i) * values), 0);
    free(x), free(out), free(state);
    arena_free(&m.arena);
}
