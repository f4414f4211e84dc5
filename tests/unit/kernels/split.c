/* Split programs against whole ones: segments in every cut, ranks, state, a rank that fails. */
#include "tiny.h"

#include "kernels/split.h"

static const struct tiny_shape shape = {.hidden = 32, .heads = 4, .kv_heads = 4, .head_dim = 8, .inner = 64, .layers = 3, .vocab = 40,
                                        .format = STORAGE_F32, .head_format = STORAGE_F32, .bias = true};

static const struct backend *best_cpu(void)
{
    struct error err = {0};
    const struct backend *cpu = backend_cpu(&err);
    cr_assert(cpu, "%s", err.text);
    return cpu;
}

static int32_t tokens[TINY_SEQUENCES][40];

/* Three steps of four sequences, prompts and single tokens; logits of the rows wanted, one after another. */
static int64_t conversation(struct tiny_run *run, const struct tiny *t, float *out)
{
    static const int counts[3][TINY_SEQUENCES] = {{9, 1, 17, 0}, {1, 1, 1, 20}, {1, 7, 1, 1}};
    int64_t vocab = t->p.buffers[t->logits].width, at = 0;
    int done[TINY_SEQUENCES] = {0};
    for (int i = 0; i < TINY_SEQUENCES * 40; i++)
        tokens[i / 40][i % 40] = (int32_t)((i * 7 + i / 40) % t->p.vocab);
    for (int step = 0; step < 3; step++) {
        const int32_t *from[TINY_SEQUENCES];
        float *to[TINY_SEQUENCES];
        for (int s = 0; s < TINY_SEQUENCES; s++) {
            from[s] = tokens[s] + done[s];
            to[s] = out + at;
            at += counts[step][s] * vocab;
            done[s] += counts[step][s];
        }
        tiny_step(run, t, t->logits, counts[step], from, to);
    }
    return at;
}

enum { MOST = 60 * 40 * 2 };

static int64_t run_with(const struct tiny *t, const struct backend *backend, const struct compile_options *o, float *out)
{
    struct tiny_run run;
    tiny_open(&run, t, backend, o);
    int64_t n = conversation(&run, t, out);
    tiny_close(&run);
    return n;
}

static int64_t run_split(const struct tiny *t, const struct segment *segments, int count, float *out)
{
    struct compile_options o = tiny_options(STORAGE_F32);
    o.segments = segments, o.segment_count = count;
    return run_with(t, backend_split(segments, count), &o, out);
}

Test(split, cuts)
{
    static float whole[MOST], parts[MOST];
    struct tiny t;
    int places[128];
    struct compile_options o = tiny_options(STORAGE_F32);
    tiny_build(&t, &shape);
    int count = program_cuts(&t.p, places);
    cr_assert_eq(count, 2 * shape.layers + 1, "%d", count); /* behind EMBED and behind both halves of each layer: "hidden" still comes out */
    int64_t n = run_with(&t, best_cpu(), &o, whole);
    for (int i = 0; i < count; i++) {
        struct segment two[] = {{best_cpu(), 0, 0, places[i], 0, 1}, {best_cpu(), 0, places[i], t.p.op_count, 0, 1}};
        memset(parts, 0, sizeof parts);
        cr_assert_eq(run_split(&t, two, 2, parts), n);
        cr_assert_arr_eq(whole, parts, (size_t)n * sizeof *whole, "cut at %d", places[i]);
    }
    struct segment three[] = {{&backend_reference, 0, 0, places[1], 0, 1}, {best_cpu(), 0, places[1], places[4], 0, 1},
                              {&backend_reference, 0, places[4], t.p.op_count, 0, 1}};
    run_split(&t, three, 3, parts);
    cr_assert_lt(tiny_error(parts, whole, n), 1e-5);
    arena_free(&t.arena);
}

/* An operation alone on another backend, wherever it stands: several buffers cross. */
Test(split, single_operations)
{
    static float whole[MOST], parts[MOST];
    struct tiny t;
    struct compile_options o = tiny_options(STORAGE_F32);
    struct tiny_shape s = shape;
    s.layers = 1, s.qk_norm = true, s.cap = 5;
    tiny_build(&t, &s);
    int64_t n = run_with(&t, &backend_reference, &o, whole);
    for (int i = 1; i < t.p.op_count - 1; i++) {
        struct segment three[] = {{&backend_reference, 0, 0, i, 0, 1}, {best_cpu(), 0, i, i + 1, 0, 1}, {&backend_reference, 0, i + 1, t.p.op_count, 0, 1}};
        if (t.p.ops[i].kind == OP_STORE || t.p.ops[i].kind == OP_ATTEND)
            continue; /* one without the other's state */
        run_split(&t, three, 3, parts);
        cr_assert_lt(tiny_error(parts, whole, n), 1e-5, "operation %d, %s", i, op_names[t.p.ops[i].kind]);
    }
    arena_free(&t.arena);
}

/* Two backends by turns, as chance has it: a layer's state on one of them, each compiled once. All rows, logits or state alone. */
Test(split, by_turns)
{
    static float whole[MOST], parts[MOST];
    struct tiny t;
    struct compile_options o = tiny_options(STORAGE_F32);
    struct tiny_shape s = shape;
    s.qk_norm = true, s.cap = 5;
    tiny_build(&t, &s);
    int64_t n = run_with(&t, &backend_reference, &o, whole);
    for (unsigned seed = 1; seed <= 12; seed++) {
        struct segment list[200];
        int count = 0;
        unsigned state = seed * 7919;
        for (int i = 0; i < t.p.op_count; i++) {
            const struct op *op = &t.p.ops[i];
            state = state * 1103515245 + 12345;
            unsigned one = op->group >= 0 ? ((unsigned)op->layer + seed) % 2 : state >> 16 & 1;
            const struct backend *backend = one ? best_cpu() : &backend_reference;
            if (count && list[count - 1].backend == backend)
                list[count - 1].end = i + 1;
            else
                list[count++] = (struct segment){backend, 0, i, i + 1, 0, 1};
        }
        memset(parts, 0, sizeof parts);
        cr_assert_eq(run_split(&t, list, count, parts), n);
        cr_assert_lt(tiny_error(parts, whole, n), 1e-5, "%d stretches, seed %u", count, seed);
    }
    arena_free(&t.arena);
}

/* A layer's state cannot be on two devices. */
Test(split, state_apart)
{
    struct tiny t;
    struct tiny_run run;
    struct error err = {0};
    struct compile_options o = tiny_options(STORAGE_F32);
    int attend = 0;
    tiny_build(&t, &shape);
    while (t.p.ops[attend].kind != OP_ATTEND)
        attend++;
    struct segment two[] = {{&backend_reference, 0, 0, attend, 0, 1}, {best_cpu(), 0, attend, t.p.op_count, 0, 1}};
    o.segments = two, o.segment_count = 2;
    cr_assert_eq(backend_split(two, 2)->compile(&run.compiled, &t.p, &o, &err), STATUS_FAILED);
    cr_assert(strstr(err.text, "layer 0 of the cache is on two devices"), "%s", err.text);
    arena_free(&t.arena);
}

static void check_ranks(const struct tiny_shape *s, int ranks)
{
    static float whole[MOST], parts[MOST];
    struct tiny t;
    struct compile_options o = tiny_options(STORAGE_F32);
    struct segment list[5];
    tiny_build(&t, s);
    int64_t n = run_with(&t, &backend_reference, &o, whole);
    for (int i = 0; i < ranks; i++)
        list[i] = (struct segment){&backend_reference, i, 0, t.p.op_count, i, ranks};
    run_split(&t, list, ranks, parts);
    double error = tiny_error(parts, whole, n);
    cr_assert_lt(error, 1e-6, "%d ranks, %d heads over %d: %g", ranks, s->heads, s->kv_heads, error);
    arena_free(&t.arena);
}

Test(split, ranks)
{
    struct tiny_shape s = shape;
    check_ranks(&s, 2);
    check_ranks(&s, 4);
    s.kv_heads = 2, s.qk_norm = true, s.cap = 5;
    check_ranks(&s, 2);
    s.kv_heads = 1; /* attention stays whole, the rest is shared */
    check_ranks(&s, 2);
    s.vocab = 39; /* so do the logits */
    check_ranks(&s, 2);
    s.kv_heads = 2, s.vocab = 40, s.experts = 5, s.chosen = 2; /* inner widths of experts, too */
    check_ranks(&s, 2);
    s.bias = true;
    check_ranks(&s, 2);
    s.bias = false, s.experts = 0;
    s.inner = 128, s.format = STORAGE_Q8_0; /* blocks of 32: only the inner width can be cut by columns */
    check_ranks(&s, 2);
}

/* Ranks whose work another device interrupts. */
Test(split, ranks_and_another)
{
    static float whole[MOST], parts[MOST];
    struct tiny t;
    struct compile_options o = tiny_options(STORAGE_F32);
    struct segment list[64];
    int places[128], count = 0;
    tiny_build(&t, &shape);
    int64_t n = run_with(&t, &backend_reference, &o, whole);
    int cuts = program_cuts(&t.p, places);
    places[cuts] = t.p.op_count;
    for (int i = 0, first = 0; i <= cuts; first = places[i++])
        if (i % 2) {
            list[count++] = (struct segment){best_cpu(), 0, first, places[i], 0, 1};
        } else {
            list[count++] = (struct segment){&backend_reference, 0, first, places[i], 0, 2};
            list[count++] = (struct segment){&backend_reference, 1, first, places[i], 1, 2};
        }
    run_split(&t, list, count, parts);
    double error = tiny_error(parts, whole, n);
    cr_assert_lt(error, 1e-5, "%g", error);
    arena_free(&t.arena);
}

/* What is shared out is read by one rank alone. */
Test(split, shares)
{
    struct tiny t;
    struct program rank;
    struct arena arena = {0};
    struct error err = {0};
    tiny_build(&t, &shape);
    uint64_t whole = program_weight_bytes(&t.p, 0, t.p.op_count), own;
    for (int ranks = 2; ranks <= 4; ranks *= 2) {
        cr_assert_eq(program_shard(&rank, &t.p, 1, ranks, &arena, &err), STATUS_OK, "%s", err.text);
        own = 0;
        for (int i = 0; i < rank.op_count; i++)
            if (rank.ops[i].kind == OP_LINEAR)
                own += (uint64_t)(rank.weights[rank.ops[i].w].out * rank.weights[rank.ops[i].w].in) * 4;
        cr_assert_lt(own, whole / (uint64_t)ranks + 1, "%d ranks", ranks);
    }
    cr_assert_eq(program_shard(&rank, &t.p, 1, 7, &arena, &err), STATUS_USAGE);
    cr_assert(strstr(err.text, "cannot be shared out over 7"), "%s", err.text);
    arena_free(&arena);
    arena_free(&t.arena);
}

/* A token's state reads and writes the same through any split. */
Test(split, state)
{
    struct tiny t;
    struct tiny_run whole, parts;
    struct error err = {0};
    static float out[MOST], expected[2 * 3 * 2 * 4 * 8], got[2 * 3 * 2 * 4 * 8];
    struct compile_options o = tiny_options(STORAGE_F32), split = o;
    tiny_build(&t, &shape);
    int places[128], count = program_cuts(&t.p, places), middle = places[count / 2], end = t.p.op_count;
    /* the CPU has the first and the last layer, ranks the one between */
    struct segment list[] = {{best_cpu(), 0, 0, places[1], 0, 1}, {&backend_reference, 0, places[1], middle, 0, 2}, {&backend_reference, 0, places[1], middle, 1, 2},
                             {best_cpu(), 0, middle, end, 0, 1}};
    split.segments = list, split.segment_count = 4;
    tiny_open(&whole, &t, &backend_reference, &o);
    tiny_open(&parts, &t, backend_split(list, 4), &split);
    conversation(&whole, &t, out);
    conversation(&parts, &t, out);
    for (int slot = 0; slot < 8; slot++) { /* two tokens at once */
        cr_assert_eq(whole.backend->read_state(whole.compiled, &whole.state, 0, whole.table[0][0], slot, 2, expected, &err), STATUS_OK);
        cr_assert_eq(parts.backend->read_state(parts.compiled, &parts.state, 0, parts.table[0][0], slot, 2, got, &err), STATUS_OK);
        cr_assert_lt(tiny_error(got, expected, 2 * 3 * 2 * 4 * 8), 1e-5);
        cr_assert_eq(parts.backend->write_state(parts.compiled, &parts.state, 0, 60, 14 - slot, 2, expected, &err), STATUS_OK);
        cr_assert_eq(parts.backend->state_copy(parts.compiled, &parts.state, 0, 61, 60, &err), STATUS_OK);
        cr_assert_eq(parts.backend->read_state(parts.compiled, &parts.state, 0, 61, 14 - slot, 2, got, &err), STATUS_OK);
        cr_assert_arr_eq(got, expected, sizeof got);
    }
    tiny_close(&whole);
    tiny_close(&parts);
    arena_free(&t.arena);
}

/* ---- steps that one part has alone ---------------------------------------------------------------------------------------- */

static int steps_of_networks;

static enum status counting_step(struct compiled *c, const struct batch *b, const struct state_memory *state, int output, const float **result, struct error *err)
{
    steps_of_networks++;
    return backend_reference.step(c, b, state, output, result, err);
}

/* Where all sequences have many rows, networks that are another part's are done by the one that has all else. */
Test(split, streams)
{
    static const struct {
        int counts[TINY_SEQUENCES];
        bool streams;
    } steps[] = {{{9, 0, 17, 0}, true}, {{1, 9, 20, 0}, false}, {{0, 10, 0, 0}, true}, {{1, 1, 1, 1}, false}, {{8, 0, 0, 9}, false}};
    static float expected[40 * 40], got[40 * 40];
    struct tiny t;
    struct tiny_run whole, parts;
    struct compile_options o = tiny_options(STORAGE_F32), split = o;
    struct backend counting = backend_reference;
    struct segment list[16];
    int places[128], count = 0, first = 0;
    counting.step = counting_step;
    tiny_build(&t, &shape);
    program_cuts(&t.p, places);
    for (int layer = 0; layer < shape.layers; layer++, first = list[count - 1].end) {
        list[count++] = (struct segment){&backend_reference, 0, first, places[1 + 2 * layer], 0, 1};
        list[count++] = (struct segment){&counting, 0, places[1 + 2 * layer], places[2 + 2 * layer], 0, 1};
    }
    list[count++] = (struct segment){&backend_reference, 0, first, t.p.op_count, 0, 1};
    split.segments = list, split.segment_count = count, split.stream_rows = 9;
    for (int k = 0; k < 3; k++) { /* as it is; deterministic; one sequence's cut shows where it goes, never what comes of it */
        split.deterministic = k == 1;
        split.stream_rows = k == 2 ? 0 : 9;
        tiny_open(&whole, &t, &backend_reference, &o);
        tiny_open(&parts, &t, backend_split(list, count), &split);
        for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
            const int32_t *const from[] = {tokens[0], tokens[1], tokens[2], tokens[3]};
            float *to[2][TINY_SEQUENCES];
            int64_t rows = 0;
            for (int s = 0; s < TINY_SEQUENCES; rows += steps[i].counts[s++])
                to[0][s] = expected + rows * shape.vocab, to[1][s] = got + rows * shape.vocab;
            steps_of_networks = 0;
            tiny_step(&whole, &t, t.logits, steps[i].counts, from, to[0]);
            tiny_step(&parts, &t, t.logits, steps[i].counts, from, to[1]);
            cr_assert_eq(steps_of_networks, !k && steps[i].streams ? 0 : shape.layers, "step %d: %d", (int)i, steps_of_networks);
            cr_assert_arr_eq(got, expected, (size_t)(rows * shape.vocab) * sizeof *got, "step %d", (int)i);
        }
        tiny_close(&whole);
        tiny_close(&parts);
    }
    arena_free(&t.arena);
}

/* ---- a rank that fails ------------------------------------------------------------------------------------------------ */

static int fail_rank = -1;

static enum status failing_compile(struct compiled **out, const struct program *p, const struct compile_options *o, struct error *err);
static struct compiled *second;

static enum status failing_step(struct compiled *c, const struct batch *b, const struct state_memory *state, int output, const float **result, struct error *err)
{
    if (c == second && fail_rank == 1)
        return error_set(err, STATUS_DEVICE, "this card burnt down");
    return backend_reference.step(c, b, state, output, result, err);
}

static enum status failing_compile(struct compiled **out, const struct program *p, const struct compile_options *o, struct error *err)
{
    enum status status = backend_reference.compile(out, p, o, err);
    second = o->rank == 1 ? *out : second;
    return status;
}

Test(split, a_rank_that_fails, .timeout = 60)
{
    struct tiny t;
    struct tiny_run run;
    struct error err = {0};
    struct backend failing = backend_reference;
    failing.step = failing_step;
    failing.compile = failing_compile;
    tiny_build(&t, &shape);
    struct segment list[] = {{&failing, 0, 0, t.p.op_count, 0, 2}, {&failing, 1, 0, t.p.op_count, 1, 2}};
    struct compile_options o = tiny_options(STORAGE_F32);
    o.segments = list, o.segment_count = 2;
    tiny_open(&run, &t, backend_split(list, 2), &o);
    static float out[MOST];
    conversation(&run, &t, out);
    int32_t wanted[1] = {0};
    const int32_t *const blocks[1] = {run.table[0]};
    struct batch_row row = {3, NULL, 0, 0};
    struct batch_sequence s = {.rows = 1, .blocks = blocks, .adapter = -1};
    struct batch batch = {.rows = 1, .sequences = 1, .wanted = 1, .row = &row, .sequence = &s, .wanted_rows = wanted};
    const float *result;
    fail_rank = 1;
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(run.backend->step(run.compiled, &batch, &run.state, t.logits, &result, &err), STATUS_DEVICE);
        cr_assert_str_eq(err.text, "this card burnt down");
    }
    fail_rank = -1;
    cr_assert_eq(run.backend->step(run.compiled, &batch, &run.state, t.logits, &result, &err), STATUS_OK);
    tiny_close(&run);
    arena_free(&t.arena);
}
