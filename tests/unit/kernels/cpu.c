/* The CPU backend, on every instruction set that this machine has, against the reference.
 *
 * Bounds on the relative error |a - b| / |b|: activations are quantised to int8 per 32 values (about 0.5 % for one
 * product of random values), so 2 % for one LINEAR and 6 % for whole tiny models with quantised weights; 1e-5 and 1e-4
 * where weights are F32 or F16, 1e-2 where BF16 weights may meet bfloat16 activations. */
#include "tiny.h"

#include "base/team.h"
#include "kernels/cpu/cpu.h"

static const char *const names[] = {"scalar", "avx2", "avx512-vnni", "neon"};
static const enum storage formats[] = {STORAGE_F32,  STORAGE_F16,  STORAGE_BF16, STORAGE_Q4_0, STORAGE_Q4_1,   STORAGE_Q5_0,  STORAGE_Q5_1, STORAGE_Q8_0,
                                       STORAGE_Q2_K, STORAGE_Q3_K, STORAGE_Q4_K, STORAGE_Q5_K, STORAGE_Q6_K, STORAGE_IQ4_NL, STORAGE_IQ4_XS};
enum { FORMATS = sizeof formats / sizeof *formats };

static double one_bound(enum storage f) { return f == STORAGE_F32 || f == STORAGE_F16 ? 1e-5 : f == STORAGE_BF16 ? 1e-2 : 2e-2; }
static double model_bound(enum storage f) { return f == STORAGE_F32 || f == STORAGE_F16 ? 1e-4 : f == STORAGE_BF16 ? 2e-2 : 6e-2; }

/* ---- one LINEAR, from embeddings given as rows ---- */

static void run_linear(const struct backend *backend, const struct program *p, int y, const float *x, int rows, bool deterministic, float *out)
{
    struct compile_options o = tiny_options(STORAGE_F32);
    o.deterministic = deterministic;
    struct compiled *c;
    struct error err = {0};
    cr_assert_eq(backend->compile(&c, p, &o, &err), STATUS_OK, "%s", err.text);
    static struct batch_row row[128];
    static int32_t wanted[128];
    int64_t in = p->buffers[0].width, width = p->buffers[y].width;
    for (int i = 0; i < rows; i++) {
        row[i] = (struct batch_row){-1, x + i * in, i, 0};
        wanted[i] = i;
    }
    struct batch_sequence s = {.rows = rows};
    struct batch b = {rows, 1, rows, row, &s, wanted};
    const float *result;
    cr_assert_eq(backend->step(c, &b, &(struct state_memory){0}, y, &result, &err), STATUS_OK, "%s", err.text);
    memcpy(out, result, (size_t)(rows * width) * sizeof *out);
    backend->free(c);
}

static void check_linear(const char *isa, enum storage format, int out, int in)
{
    struct arena arena = {0};
    struct program p = {.arena = &arena, .vocab = 1};
    struct weight e = tiny_weight("embedding", STORAGE_F32, 1, in, 1), w = tiny_weight("w", format, out, in, 1);
    struct weight bias = tiny_weight("bias", STORAGE_F16, 1, out, 1);
    int x = program_buffer(&p, "x", in, ROWS_ALL), y = program_buffer(&p, "y", out, ROWS_ALL);
    struct op *op = program_add(&p, OP_EMBED);
    op->y = x, op->w = program_weight(&p, &e);
    op = program_add(&p, OP_LINEAR);
    op->x = x, op->y = y, op->w = program_weight(&p, &w), op->b = program_weight(&p, &bias);
    program_output(&p, "y", y);
    float *input = malloc((size_t)(67 * in) * sizeof(float)), *expected = malloc((size_t)(67 * out) * sizeof(float)),
          *got = malloc((size_t)(67 * out) * sizeof(float)), *one = malloc((size_t)(67 * out) * sizeof(float));
    for (int i = 0; i < 67 * in; i++)
        input[i] = tiny_float() * (i % 97 == 0 ? 3.0f : 1.0f);
    run_linear(&backend_reference, &p, y, input, 67, false, expected);
    static const int counts[] = {1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 31, 67};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        run_linear(backend_cpu(NULL), &p, y, input, counts[i], false, got);
        double error = tiny_error(got, expected, (int64_t)counts[i] * out);
        cr_assert_lt(error, one_bound(format), "%s, %s [%d, %d], %d rows: %g", isa, storage_types[format].name, out, in, counts[i], error);
        run_linear(backend_cpu(NULL), &p, y, input, counts[i], true, i ? got : one);
        if (i)
            cr_assert_eq(memcmp(got, one, (size_t)out * sizeof *one), 0, "%s, %s: row 0 of %d differs from row 0 alone", isa,
                         storage_types[format].name, counts[i]);
    }
    free(input), free(expected), free(got), free(one);
    arena_free(&arena);
}

Test(cpu, linear)
{
    static const int shapes[][2] = {{33, 256}, {70, 512}, {5, 1024}, {64, 576}, {40, 32}, {35, 96}, {16, 2048}};
    static const int odd[][2] = {{33, 48}, {7, 1}, {20, 100}, {3, 1030}};
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        if (!isa_find(names[n]))
            continue;
        setenv("INGOT_ISA", names[n], 1);
        cr_assert_str_eq(cpu_isa_name(), names[n]);
        for (int f = 0; f < FORMATS; f++) {
            for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
                if (shapes[s][1] % storage_types[formats[f]].block_elements == 0)
                    check_linear(names[n], formats[f], shapes[s][0], shapes[s][1]);
            for (size_t s = 0; f < 3 && s < sizeof odd / sizeof *odd; s++)
                check_linear(names[n], formats[f], odd[s][0], odd[s][1]);
        }
    }
}

/* ---- whole models ---- */

static int32_t tokens[4][160];
static float expected[160 * 64], got[160 * 64], other[4][160 * 64];

static void check_model(const char *isa, const struct tiny_shape *shape, enum storage kv, bool deterministic)
{
    struct tiny t;
    tiny_build(&t, shape);
    for (int s = 0; s < 4; s++)
        for (int i = 0; i < 160; i++)
            tokens[s][i] = (int32_t)(tiny_random() % (uint32_t)shape->vocab);
    const int length = 120, vocab = shape->vocab;
    struct compile_options o = tiny_options(kv);
    o.deterministic = deterministic;
    struct tiny_run run;
    tiny_open(&run, &t, &backend_reference, &o);
    tiny_step(&run, &t, t.logits, (int[4]){length}, (const int32_t *[4]){tokens[0]}, (float *[4]){expected});
    tiny_close(&run);
    double bound = model_bound(shape->format) + (kv == STORAGE_BF16 ? 2e-2 : kv == STORAGE_F16 ? 2e-3 : 0);
    tiny_open(&run, &t, backend_cpu(NULL), &o);
    tiny_step(&run, &t, t.logits, (int[4]){length}, (const int32_t *[4]){tokens[0]}, (float *[4]){got});
    double error = tiny_error(got, expected, (int64_t)length * vocab);
    cr_assert_lt(error, bound, "%s, %s, KV %s, whole: %g", isa, storage_types[shape->format].name, storage_types[kv].name, error);
    tiny_close(&run);
    tiny_open(&run, &t, backend_cpu(NULL), &o);
    float *parts = other[3];
    for (int at = 0; at < length;) { /* pieces of 1, 8, 15, 1 ... beside other sequences of other lengths */
        int piece = 1 + at * 7 % 22;
        piece = piece > length - at ? length - at : piece;
        int side = at % 3 * 2;
        tiny_step(&run, &t, t.logits, (int[4]){piece, side, at == 0 ? 40 : 0}, (const int32_t *[4]){tokens[0] + at, tokens[1], tokens[2]},
                  (float *[4]){parts + at * vocab, other[1], other[2]});
        at += piece;
    }
    error = tiny_error(parts, expected, (int64_t)length * vocab);
    cr_assert_lt(error, bound, "%s, %s, KV %s, chunked: %g", isa, storage_types[shape->format].name, storage_types[kv].name, error);
    if (deterministic)
        cr_assert_eq(memcmp(parts, got, (size_t)(length * vocab) * sizeof *got), 0, "%s: chunked differs", isa);
    tiny_close(&run);
    arena_free(&t.arena);
}

Test(cpu, models)
{
    static const enum storage kvs[] = {STORAGE_F32, STORAGE_F16, STORAGE_BF16};
    struct tiny_shape odd = {.hidden = 48, .heads = 6, .kv_heads = 2, .head_dim = 24, .inner = 80, .layers = 2, .vocab = 50, .format = STORAGE_F32, .head_format = STORAGE_F32};
    struct tiny_shape wide = {.hidden = 256, .heads = 8, .kv_heads = 1, .head_dim = 64, .inner = 512, .layers = 2, .vocab = 64, .format = STORAGE_Q4_K, .head_format = STORAGE_Q6_K};
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        if (!isa_find(names[n]))
            continue;
        setenv("INGOT_ISA", names[n], 1);
        for (int k = 0; k < 3; k++) {
            struct tiny_shape s = odd;
            check_model(names[n], &s, kvs[k], k == 1);
            s.window = 20, s.cap = 10, s.interleaved = true, s.qk_norm = true;
            check_model(names[n], &s, kvs[k], k == 0);
            s = odd;
            s.bias = s.layer_norm = true, s.format = STORAGE_BF16, s.head_format = STORAGE_F16;
            check_model(names[n], &s, kvs[k], k == 2);
            s = wide;
            check_model(names[n], &s, kvs[k], k == 1);
            s.format = STORAGE_Q4_1, s.head_format = STORAGE_Q4_1, s.window = 33;
            check_model(names[n], &s, kvs[k], k == 0);
        }
    }
}

Test(cpu, long_context_is_split_and_merged)
{
    /* one sequence of 1200 tokens: more than two splits, decoded with one row */
    struct tiny_shape s = {.hidden = 48, .heads = 4, .kv_heads = 1, .head_dim = 24, .inner = 64, .layers = 1, .vocab = 30, .format = STORAGE_F32, .head_format = STORAGE_F32};
    struct tiny t;
    tiny_build(&t, &s);
    enum { LENGTH = 1200, BLOCKS = 76 };
    struct batch_row row[LENGTH];
    int32_t table[BLOCKS];
    for (int i = 0; i < BLOCKS; i++)
        table[i] = (i * 29) % BLOCKS;
    float result[2][30];
    for (int which = 0; which < 2; which++) {
        const struct backend *b = which ? backend_cpu(NULL) : &backend_reference;
        struct compile_options o = {.threads = 2, .max_rows = LENGTH, .max_wanted = 1, .max_sequences = 1, .max_context = LENGTH, .k_type = STORAGE_F16, .v_type = STORAGE_F16};
        struct compile_sizes sizes;
        struct error err = {0};
        struct compiled *c;
        cr_assert_eq(b->sizes(&t.p, &o, &sizes, &err), STATUS_OK);
        cr_assert_eq(b->compile(&c, &t.p, &o, &err), STATUS_OK);
        struct state_memory state = {{aligned_alloc(64, (sizes.block_bytes[0] * BLOCKS + 63) / 64 * 64)}};
        for (int i = 0; i < LENGTH; i++)
            row[i] = (struct batch_row){(i * 7) % 30, NULL, i, 0};
        const int32_t *blocks[1] = {table};
        struct batch_sequence q = {0, LENGTH - 1, 0, blocks, -1, 0};
        struct batch batch = {LENGTH - 1, 1, 0, row, &q, NULL};
        const float *out;
        cr_assert_eq(b->step(c, &batch, &state, -1, &out, &err), STATUS_OK, "%s", err.text);
        struct batch_sequence last = {0, 1, LENGTH - 1, blocks, -1, 0};
        struct batch one = {1, 1, 1, row + LENGTH - 1, &last, (int32_t[]){0}};
        cr_assert_eq(b->step(c, &one, &state, t.logits, &out, &err), STATUS_OK, "%s", err.text);
        memcpy(result[which], out, sizeof result[which]);
        b->free(c);
        free(state.pool[0]);
    }
    cr_assert_lt(tiny_error(result[1], result[0], 30), 1e-4);
    arena_free(&t.arena);
}

Test(cpu, state_there_and_back_and_like_the_reference)
{
    static const enum storage kvs[] = {STORAGE_F32, STORAGE_F16, STORAGE_BF16};
    struct tiny_shape s = {.hidden = 48, .heads = 4, .kv_heads = 2, .head_dim = 24, .inner = 64, .layers = 2, .vocab = 30, .format = STORAGE_F32, .head_format = STORAGE_F32};
    struct tiny t;
    tiny_build(&t, &s);
    for (int i = 0; i < 40; i++)
        tokens[0][i] = i % 30;
    for (int k = 0; k < 3; k++) {
        float state[2][2 * 2 * 2 * 24];
        struct compile_options o = tiny_options(kvs[k]);
        struct tiny_run run;
        for (int which = 0; which < 2; which++) {
            tiny_open(&run, &t, which ? backend_cpu(NULL) : &backend_reference, &o);
            tiny_step(&run, &t, t.logits, (int[4]){20}, (const int32_t *[4]){tokens[0]}, (float *[4]){got});
            run.backend->read_state(run.compiled, &run.state, 0, run.table[0][1], 1, state[which]);
            float again[2 * 2 * 2 * 24];
            run.backend->write_state(run.compiled, &run.state, 0, run.table[2][3], 7, state[which]);
            run.backend->read_state(run.compiled, &run.state, 0, run.table[2][3], 7, again);
            cr_assert_eq(memcmp(state[which], again, sizeof again), 0);
            tiny_close(&run);
        }
        cr_assert_lt(tiny_error(state[1], state[0], 2 * 2 * 2 * 24), kvs[k] == STORAGE_BF16 ? 1e-3 : 1e-4);
    }
    arena_free(&t.arena);
}

Test(cpu, isa_names)
{
    struct error err = {0};
    setenv("INGOT_ISA", "sse9", 1);
    cr_assert_null(backend_cpu(&err));
    cr_assert_eq(err.status, STATUS_USAGE);
    cr_assert(strstr(err.text, "sse9"), "%s", err.text);
    setenv("INGOT_ISA", "scalar", 1);
    cr_assert_str_eq(cpu_isa_name(), "scalar");
    unsetenv("INGOT_ISA");
    cr_assert(backend_cpu(&err));
}
