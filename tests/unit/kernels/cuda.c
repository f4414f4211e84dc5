/* The CUDA backend with its kernels' own code in emulated blocks of threads (emulator.h), judged by the reference. With
 * INGOT_TEST_CUDA=1 the same tests run on the machine's card. */
#include "cuda_attention.h"
#include "cuda_programs.h"

/* ---- programs without state -------------------------------------------------------------------------------------------- */

/* Token rows of an embedding, times a matrix of the same format. */
static double linear_error(enum storage format, int64_t in, int64_t out, int rows, bool bias, float factor)
{
    struct arena arena = {0};
    struct program p = {.arena = &arena, .vocab = 7};
    struct weight e = tiny_weight("embedding", format, 7, in, 1), w = tiny_weight("linear", format, out, in, 1);
    e.factor = w.factor = factor;
    int x = program_buffer(&p, "x", in, ROWS_ALL), y = program_buffer(&p, "y", out, ROWS_ALL), weight = program_weight(&p, &w);
    struct op *op = program_add(&p, OP_EMBED);
    op->y = x, op->w = program_weight(&p, &e), op->scale = 1.5f;
    op = program_add(&p, OP_LINEAR);
    op->x = x, op->y = y, op->w = weight, op->b = bias ? tiny_vector(&p, "bias", (int)out, 0) : -1;
    program_output(&p, "y", y);
    int32_t tokens[128];
    for (int i = 0; i < rows; i++)
        tokens[i] = (i * 5 + 3) % 7;
    double error = compare(&p, rows, tokens, NULL, 0);
    arena_free(&arena);
    return error;
}

Test(cuda, every_format)
{
    use_kernels("plain");
    static const enum storage formats[] = {
#define FORMAT(id, name, encode, round) STORAGE_##id,
#include "kernels/formats/formats.def"
#undef FORMAT
    };
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        if (formats[i] == STORAGE_F8_E4M3) /* weight_check() refuses it */
            continue;
        int block = storage_types[formats[i]].block_elements;
        struct {
            int64_t in, out;
            int rows;
        } shapes[] = {{block > 1 ? 3 * block : 301, 6, 3}, {block > 1 ? block : 5, 1, 1}, {block > 1 ? 2 * block : 64, 5, 10}};
        for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) {
            double error = linear_error(formats[i], shapes[k].in, shapes[k].out, shapes[k].rows, k != 1, k == 2 ? 0.37f : 0);
            cr_assert_lt(error, float_error, "%s [%d, %d], %d rows: %g", storage_types[formats[i]].name, (int)shapes[k].out, (int)shapes[k].in,
                         shapes[k].rows, error);
        }
    }
}

Test(cuda, fast)
{
    static const enum storage formats[] = {
#define FAST(id, name, kind) STORAGE_##id,
#include "kernels/cuda/fast.def"
#undef FAST
    };
    use_kernels("bytes");
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        int block = storage_types[formats[i]].block_elements;
        int64_t sizes[] = {block > 1 ? block : 8, block > 1 ? 3 * block : 104, 18 * 256, block > 32 ? 256 : 544};
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
            for (int rows = 1; rows <= 20; rows = rows * 3 + 2) {
                const enum storage one[] = {formats[i]}, two[] = {formats[i], formats[i]}, mixed[] = {formats[i], formats[i], STORAGE_Q6_K};
                const char *name = storage_types[formats[i]].name;
                double error = stage_error(one, 1, sizes[k], 9, rows, WITH_NOTHING);
                cr_assert_lt(error, float_error, "%s [9, %d], %d rows: %g", name, (int)sizes[k], rows, error);
                error = stage_error(two, 2, sizes[k], 5, rows, WITH_GATE);
                cr_assert_lt(error, 5 * float_error, "%s [5, %d], %d rows, gated: %g", name, (int)sizes[k], rows, error);
                if (k == 3 && sizes[k] % 256 == 0) {
                    error = stage_error(mixed, 3, sizes[k], 7, rows, WITH_NORM);
                    cr_assert_lt(error, 2e-2, "%s [7, %d], %d rows, three behind a norm: %g", name, (int)sizes[k], rows, error);
                }
                if (sizes[k] < 300) {
                    error = stage_error(one, 1, sizes[k], (int)sizes[k], rows, WITH_ADD);
                    cr_assert_lt(error, float_error, "%s [%d, %d], %d rows, added: %g", name, (int)sizes[k], (int)sizes[k], rows, error);
                }
            }
    }
}

/* The program `x = embedding; y = what op does to x (and z, a norm of x)`. */
static double op_error(enum op_kind kind, int width, int rows, void (*set)(struct program *p, struct op *op, int number), int number)
{
    struct arena arena = {0};
    struct program p = {.arena = &arena, .vocab = 1};
    struct weight e = tiny_weight("embedding", STORAGE_F32, 1, width, 1);
    int x = program_buffer(&p, "x", width, ROWS_ALL), z = program_buffer(&p, "z", width, ROWS_ALL), y = program_buffer(&p, "y", width, ROWS_ALL);
    struct op *op = program_add(&p, OP_EMBED);
    op->y = x, op->w = program_weight(&p, &e);
    op = program_add(&p, OP_NORM);
    op->x = x, op->y = z, op->epsilon = 1e-6f;
    op = program_add(&p, kind);
    op->x = x, op->y = y;
    if (kind == OP_ADD)
        op->z = z;
    set(&p, op, number);
    program_output(&p, "y", kind == OP_ROPE ? x : op->y);
    float *rows_of_x = random_rows((int64_t)rows * width);
    double error = compare(&p, rows, NULL, rows_of_x, width);
    free(rows_of_x);
    arena_free(&arena);
    return error;
}

static void set_gate(struct program *p, struct op *op, int number)
{
    (void)p;
    op->activation = (enum activation)(number / 2);
    op->z = number % 2 ? 1 : -1;
}

static void set_scale(struct program *p, struct op *op, int number) { (void)p, op->scale = -1.25f, op->cap = number ? 3 : 0; }

static void set_add(struct program *p, struct op *op, int number) { (void)p, op->scale = number ? -0.5f : 1; }

static void set_norm(struct program *p, struct op *op, int number)
{
    int width = (int)p->buffers[op->x].width;
    op->head_dim = number & 1 ? width / 3 : 0;
    int n = op->head_dim ? op->head_dim : width;
    op->centred = number & 2;
    op->w = number & 4 ? tiny_vector(p, "norm", n, 1) : -1;
    op->b = number & 8 ? tiny_vector(p, "bias", n, 0) : -1;
    op->epsilon = 1e-5f, op->offset = number & 1 ? 1 : 0;
    if (number & 8) /* in place */
        op->y = op->x;
}

static void set_select(struct program *p, struct op *op, int number)
{
    (void)number;
    op->y = program_buffer(p, "wanted", p->buffers[op->x].width, ROWS_WANTED);
}

static void set_rope(struct program *p, struct op *op, int number)
{
    static float inverse[8];
    for (int i = 0; i < 8; i++)
        inverse[i] = powf(100, -(float)i / 8);
    struct rope rope = {.dims = number & 1 ? 16 : 10, .interleaved = number & 2, .inverse_frequency = inverse, .magnitude = 1.25f};
    if (number & 4)
        rope.original = 2, rope.base = 100, rope.factor = 4;
    op->rope = program_rope(p, &rope);
    op->head_dim = 16, op->heads = (int)p->buffers[op->x].width / 16;
}

Test(cuda, operations)
{
    for (int n = 0; n < 2 * (ACT_TANH + 1); n++)
        cr_assert_lt(op_error(OP_GATE, 65, 3, set_gate, n), float_error, "activation %d", n / 2);
    for (int n = 0; n < 2; n++) {
        cr_assert_lt(op_error(OP_SCALE, 33, 5, set_scale, n), float_error);
        cr_assert_lt(op_error(OP_ADD, 200, 2, set_add, n), float_error);
    }
    for (int n = 0; n < 16; n++)
        cr_assert_lt(op_error(OP_NORM, n & 1 ? 120 : 333, 3, set_norm, n), float_error, "norm %d", n);
    for (int n = 0; n < 8; n++)
        cr_assert_lt(op_error(OP_ROPE, 48, 7, set_rope, n), float_error, "rope %d", n);
    cr_assert_lt(op_error(OP_SELECT, 31, 8, set_select, 0), 1e-30);
}

/* ---- whole models -------------------------------------------------------------------------------------------------------- */

enum { STEPS = 3 };
static const int counts[STEPS][TINY_SEQUENCES] = {{5, 1, 0, 17}, {1, 3, 9, 1}, {1, 1, 1, 2}};

/* Ragged batches of four sequences, whose blocks lie scattered; the logits of the last step. */
static int64_t run_model(const struct backend *b, const struct tiny *t, enum storage k_type, enum storage v_type, float *logits, float *state)
{
    struct tiny_run run;
    struct compile_options o = tiny_options(k_type);
    o.v_type = v_type;
    tiny_open(&run, t, b, &o);
    int64_t vocab = t->shape.vocab, rows = 0;
    for (int step = 0; step < STEPS; step++) {
        static int32_t tokens[TINY_SEQUENCES][32];
        const int32_t *from[TINY_SEQUENCES];
        float *out[TINY_SEQUENCES];
        rows = 0;
        for (int s = 0; s < TINY_SEQUENCES; s++) {
            for (int i = 0; i < counts[step][s]; i++)
                tokens[s][i] = (int32_t)((run.cached[s] + i) * 7 + s * 3) % t->shape.vocab;
            from[s] = tokens[s];
            out[s] = logits + rows * vocab;
            rows += counts[step][s];
        }
        tiny_step(&run, t, t->logits, counts[step], from, out);
    }
    struct error err = {0};
    if (state)
        cr_assert_eq(b->read_state(run.compiled, &run.state, 0, run.table[3][1], 2, 1, state, &err), STATUS_OK, "%s", err.text);
    tiny_close(&run);
    return rows * vocab;
}

static double model_error(const struct tiny_shape *shape, enum storage k_type, enum storage v_type)
{
    struct tiny t;
    static float expected[1024], got[1024];
    tiny_seed = 88172645463325252u;
    tiny_build(&t, shape);
    run_model(&backend_reference, &t, k_type, v_type, expected, NULL);
    int64_t count = run_model(cuda_under_test(), &t, k_type, v_type, got, NULL);
    arena_free(&t.arena);
    return tiny_error(got, expected, count);
}

static const struct tiny_shape plain_shape = {.hidden = 32, .heads = 4, .kv_heads = 2, .head_dim = 8, .inner = 32, .layers = 2, .vocab = 37,
                                              .format = STORAGE_Q4_0, .head_format = STORAGE_F16};

Test(cuda, models)
{
    struct tiny_shape s = plain_shape;
    cr_assert_lt(model_error(&s, STORAGE_F32, STORAGE_F32), 2e-2); /* activations as bytes */
    use_kernels("plain");
    cr_assert_lt(model_error(&s, STORAGE_F32, STORAGE_F32), 1e-5);
    use_kernels(NULL);
    s.layers = 1, s.window = 5, s.cap = 4, s.interleaved = s.qk_norm = true, s.format = STORAGE_BF16;
    cr_assert_lt(model_error(&s, STORAGE_F32, STORAGE_F16), 2e-2); /* activations as bf16 */
    use_kernels("bytes");
    cr_assert_lt(model_error(&s, STORAGE_F32, STORAGE_F16), 1e-3);
    use_kernels(NULL);
    s.kv_heads = 1, s.bias = s.layer_norm = true, s.qk_norm = false, s.window = 0, s.head_format = STORAGE_Q8_0;
    cr_assert_lt(model_error(&s, STORAGE_F32, STORAGE_F32), 2e-2);
}

/* A row's bits depend neither on what else is in the batch nor on how its sequence is cut into steps. */
Test(cuda, bits)
{
    struct tiny t;
    struct tiny_run run;
    struct compile_options o = tiny_options(STORAGE_F16);
    static int32_t tokens[TINY_SEQUENCES][32];
    static float whole[20 * 37], part[20 * 37], other[37 * 20];
    const int32_t *from[TINY_SEQUENCES] = {tokens[0], tokens[1], tokens[2], tokens[3]};
    float *out[TINY_SEQUENCES] = {whole, other, other, other};
    for (int i = 0; i < TINY_SEQUENCES * 32; i++)
        tokens[i / 32][i % 32] = i * 11 % 37;
    struct tiny_shape s = plain_shape;
    s.layers = 1;
    tiny_build(&t, &s);
    tiny_open(&run, &t, cuda_under_test(), &o);
    tiny_step(&run, &t, t.logits, (int[]){20, 0, 0, 0}, from, out);
    tiny_close(&run);
    tiny_open(&run, &t, cuda_under_test(), &o);
    for (int at = 0, n = 1; at < 20; at += n, n = 9 - n) {
        n = at + n > 20 ? 20 - at : n;
        from[0] = tokens[0] + at;
        out[0] = part + at * 37;
        tiny_step(&run, &t, t.logits, (int[]){n, at % 3, 2, 0}, from, out);
    }
    tiny_close(&run);
    arena_free(&t.arena);
    cr_assert_arr_eq(whole, part, sizeof whole);
}

/* Decoding with and without recorded steps gives the same bits; sequences of other lengths replay what others recorded. */
Test(cuda, graphs)
{
    enum { TOKENS = 6, VOCAB = 37 };
    struct tiny t;
    static float logits[2][TOKENS][TINY_SEQUENCES][VOCAB];
    struct compile_options o = tiny_options(STORAGE_F16);
    struct tiny_shape s = plain_shape;
    s.layers = 1;
    tiny_build(&t, &s);
    for (int k = 0; k < 2; k++) {
        struct tiny_run run;
        k ? setenv("INGOT_CUDA_GRAPHS", "0", 1) : unsetenv("INGOT_CUDA_GRAPHS");
        tiny_open(&run, &t, cuda_under_test(), &o);
        emulated_device.replays = 0;
        static float unused[32 * VOCAB];
        static int32_t prompt[32];
        tiny_step(&run, &t, t.logits, (int[]){14, 9, 3, 0}, (const int32_t *[]){prompt, prompt, prompt, prompt}, (float *[]){unused, unused, unused, unused});
        for (int i = 0; i < TOKENS; i++) { /* the first sequence gets a second block of its cache */
            int32_t tokens[TINY_SEQUENCES] = {i, 3 * i, 7, 9 + i};
            const int32_t *from[TINY_SEQUENCES] = {&tokens[0], &tokens[1], &tokens[2], &tokens[3]};
            float *out[TINY_SEQUENCES] = {logits[k][i][0], logits[k][i][1], logits[k][i][2], logits[k][i][3]};
            int first = i % 2; /* two rows, of other sequences each time; then three */
            tiny_step(&run, &t, t.logits, (int[]){!first, first, 1, i > 3}, from, out);
        }
        cr_assert_eq(emulated_device.replays, on_card() || k ? 0 : TOKENS - 2);
        tiny_close(&run);
    }
    unsetenv("INGOT_CUDA_GRAPHS");
    arena_free(&t.arena);
    cr_assert_arr_eq(logits[0], logits[1], sizeof *logits);
}

/* ---- the cache, and attention in floats -------------------------------------------------------------------------------------- */

static void check_attention(const struct attention *s, enum storage k_type, enum storage v_type, const float *values)
{
    static float expected[4096], got[4096], state[8192], state_got[8192];
    attend(&backend_reference, s, k_type, v_type, values, expected, state);
    attend(cuda_under_test(), s, k_type, v_type, values, got, state_got);
    double error = tiny_error(got, expected, (int64_t)s->rows * s->heads * s->v_dim);
    int per_token = 2 * s->kv_heads * (s->k_dim + (s->v_in_k ? 0 : s->v_dim));
    if (s->turned) { /* rounding falls elsewhere now and then: the same bits as one operation after another, see below */
        cr_assert_lt(error, k_type == STORAGE_F32 && v_type == STORAGE_F32 ? 1e-5 : 5e-2, "turned: %g", error);
        memcpy(state, state_got, sizeof state);
    } else
        cr_assert_lt(error, float_error, "KV %s,%s, %d heads over %d of %d and %d, window %d, cap %g, %d rows behind %d: %g", storage_types[k_type].name,
                 storage_types[v_type].name, s->heads, s->kv_heads, s->k_dim, s->v_dim, s->window, (double)s->cap, s->rows, s->cached, error);
    cr_assert_arr_eq(state, state_got, (size_t)(s->rows * per_token) * sizeof *state, "KV %s,%s of %d and %d is not stored as the reference does",
                     storage_types[k_type].name, storage_types[v_type].name, s->k_dim, s->v_dim);
    emulator.backwards = true;
    attend(cuda_under_test(), s, k_type, v_type, values, expected, state_got);
    emulator.backwards = false;
    cr_assert_arr_eq(state, state_got, (size_t)(s->rows * per_token) * sizeof *state);
    cr_assert_arr_eq(expected, got, (size_t)(s->rows * s->heads * s->v_dim) * sizeof *got);
    use_kernels("plain"); /* one block for all pieces of the cache */
    attend(cuda_under_test(), s, k_type, v_type, values, expected, state_got);
    use_kernels(NULL);
    cr_assert_arr_eq(expected, got, (size_t)(s->rows * s->heads * s->v_dim) * sizeof *got);
    cr_assert_arr_eq(state, state_got, (size_t)(s->rows * per_token) * sizeof *state);
}

static const enum storage kvs[] = {STORAGE_F32, STORAGE_F16, STORAGE_BF16, STORAGE_F8_E4M3, STORAGE_Q8_0, STORAGE_Q4_0};
enum { KVS = sizeof kvs / sizeof *kvs };

Test(cuda, attention)
{
    static const struct attention shapes[] = {
        {.heads = 4, .kv_heads = 2, .k_dim = 24, .v_dim = 40, .cached = 37, .rows = 1},
        {.heads = 3, .kv_heads = 1, .k_dim = 33, .v_dim = 7, .cached = 70, .rows = 2, .cap = 5},
        {.heads = 2, .kv_heads = 1, .k_dim = 64, .v_dim = 64, .window = 20, .cached = 90, .rows = 3},
        {.heads = 2, .kv_heads = 2, .k_dim = 16, .v_dim = 16, .window = 4, .cached = 30, .rows = 8, .full = true},
        {.heads = 2, .kv_heads = 2, .k_dim = 16, .v_dim = 160, .cached = 0, .rows = 5, .full = true},
        {.heads = 2, .kv_heads = 1, .k_dim = 72, .v_dim = 48, .v_in_k = true, .cached = 45, .rows = 2},
        {.heads = 12, .kv_heads = 2, .k_dim = 32, .v_dim = 64, .cached = 600, .rows = 2},
        {.heads = 4, .kv_heads = 2, .k_dim = 24, .v_dim = 40, .cached = 3, .rows = 5, .turned = true},
        {.heads = 3, .kv_heads = 3, .k_dim = 160, .v_dim = 8, .cached = 3, .rows = 2, .turned = true, .cap = 3},
        {.heads = 10, .kv_heads = 1, .k_dim = 40, .v_dim = 24, .cached = 511, .rows = 2, .window = 300, .cap = 9},
    };
    float *values = random_rows(8192);
    setenv("INGOT_CUDA_TUNE", "columns=0", 1);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int k = 0; k < KVS; k++)
            check_attention(&shapes[i], kvs[k], shapes[i].v_in_k ? kvs[k] : kvs[(k + (int)i) % KVS], values);
    free(values);
}

/* What is rounded: zeros, halves between two codes, subnormals, values beyond the type, infinity and NaN. */
Test(cuda, rounding)
{
    static float values[8192];
    static const float odd[] = {0, -0.0f, 0.5f, -1.5f, 2.5f, 1e-8f, -6e-8f, 3e-39f, 447, 449, -70000, 65519, 65520, 1e30f};
    for (int i = 0; i < 8192; i++)
        values[i] = i % 5 ? odd[i * 7 % (int)(sizeof odd / sizeof *odd)] : 0.0009765625f * (float)(i % 2048);
    struct attention s = {.heads = 1, .kv_heads = 1, .k_dim = 96, .v_dim = 96, .rows = 4};
    for (int k = 0; k < KVS; k++) {
        static float expected[4096], got[4096], state[8192], state_got[8192];
        attend(&backend_reference, &s, kvs[k], kvs[k], values, expected, state);
        attend(cuda_under_test(), &s, kvs[k], kvs[k], values, got, state_got);
        cr_assert_arr_eq(state, state_got, 4 * 2 * 2 * 96 * sizeof *state, "%s", storage_types[kvs[k]].name);
    }
    values[97] = NAN, values[300] = INFINITY, values[401] = -INFINITY;
    for (int k = 0; k < KVS; k++) { /* a NaN's bits are not compared */
        static float expected[4096], got[4096], state[8192], state_got[8192];
        attend(&backend_reference, &s, kvs[k], kvs[k], values, expected, state);
        attend(cuda_under_test(), &s, kvs[k], kvs[k], values, got, state_got);
        for (int i = 0; i < 4 * 2 * 2 * 96; i++)
            cr_assert(state[i] == state_got[i] || (isnan(state[i]) && isnan(state_got[i])), "%s: value %d is %g, not %g", storage_types[kvs[k]].name, i,
                      (double)state_got[i], (double)state[i]);
    }
}

/* ---- the backend ------------------------------------------------------------------------------------------------------------ */

/* A block's tokens go and come in runs of any length; each backend reads what another wrote. */
Test(cuda, runs_of_slots)
{
    enum { VALUES = 2 * 2 * 2 * 8 }; /* of a token: layers, K and V, heads, head_dim */
    struct tiny t;
    struct tiny_run run[2];
    struct compile_options o = tiny_options(STORAGE_F16);
    static float values[BLOCK_TOKENS][VALUES], got[BLOCK_TOKENS][VALUES], other[BLOCK_TOKENS][VALUES];
    struct error err = {0};
    tiny_build(&t, &plain_shape);
    tiny_open(&run[0], &t, cuda_under_test(), &o);
    tiny_open(&run[1], &t, &backend_reference, &o);
    for (int i = 0; i < BLOCK_TOKENS * VALUES; i++)
        values[i / VALUES][i % VALUES] = (float)(i % 2039) / 8;
    for (int k = 0; k < 2; k++) {
        const struct backend *b = run[k].backend;
        cr_assert_eq(b->write_state(run[k].compiled, &run[k].state, 0, 3, 0, BLOCK_TOKENS, *values, &err), STATUS_OK, "%s", err.text);
        cr_assert_eq(b->write_state(run[k].compiled, &run[k].state, 0, 3, 5, 4, values[0], &err), STATUS_OK, "%s", err.text);
        cr_assert_eq(b->read_state(run[k].compiled, &run[k].state, 0, 3, 0, 7, *got, &err), STATUS_OK, "%s", err.text);
        cr_assert_eq(b->read_state(run[k].compiled, &run[k].state, 0, 3, 7, BLOCK_TOKENS - 7, got[7], &err), STATUS_OK, "%s", err.text);
        for (int i = 0; i < BLOCK_TOKENS; i++)
            cr_assert_arr_eq(got[i], values[i >= 5 && i < 9 ? i - 5 : i], sizeof *got, "backend %d, token %d", k, i);
        if (k == 0)
            memcpy(other, got, sizeof got);
    }
    cr_assert_arr_eq(other, got, sizeof got);
    tiny_close(&run[0]), tiny_close(&run[1]);
    arena_free(&t.arena);
}

struct seen_progress {
    int calls;
    uint64_t done;
};

static void see_progress(void *context, uint64_t done, uint64_t total)
{
    struct seen_progress *s = (struct seen_progress *)context;
    cr_assert(done > s->done && done <= total && total >= 700 * 9000 * 4, "%llu of %llu behind %llu", (unsigned long long)done, (unsigned long long)total,
              (unsigned long long)s->done);
    s->calls++;
    s->done = done;
}

/* More bytes than the ring of pinned pieces holds, and rows that do not lie side by side. */
Test(cuda, ring)
{
    struct arena arena = {0};
    struct program p = {.arena = &arena, .vocab = 700};
    const int64_t in = 9000;
    float *bytes = (float *)malloc((size_t)(700 * (in + 8)) * sizeof *bytes);
    for (int64_t i = 0; i < 700 * (in + 8); i++)
        bytes[i] = (float)(i % 65521);
    struct weight e = {.name = "wide", .format = STORAGE_F32, .out = 700, .in = in, .data = (unsigned char *)bytes, .row_bytes = (in + 8) * 4, .experts = 1};
    int x = program_buffer(&p, "x", in, ROWS_ALL);
    struct op *op = program_add(&p, OP_EMBED);
    op->y = x, op->w = program_weight(&p, &e);
    program_output(&p, "x", x);
    int32_t tokens[] = {0, 699, 350, 120, 466, 583};
    cr_assert_lt(compare(&p, 6, tokens, NULL, 0), 1e-30);
    struct seen_progress seen = {0};
    struct compile_options o = tiny_options(STORAGE_F32);
    struct compiled *c;
    struct error err = {0};
    o.progress = see_progress, o.progress_context = &seen;
    for (int slow = 0; slow < 2; slow++) {
        emulated_device.slow = slow ? 200000 : 0;
        cr_assert_eq(emulated_compile(&c, &p, &o, &err), STATUS_OK, "%s", err.text);
        cr_assert(slow ? seen.calls > 2 && seen.done >= 700 * 9000 * 4 : !seen.calls, "slow %d: %d calls, %llu", slow, seen.calls, (unsigned long long)seen.done);
        cuda_backend.free(c);
    }
    emulated_device.slow = 0;
    free(bytes);
    arena_free(&arena);
}

Test(cuda, failures)
{
    struct tiny t;
    struct error err = {0};
    struct compiled *c;
    struct compile_options o = tiny_options(STORAGE_F16);
    tiny_build(&t, &plain_shape);
    o.k_type = STORAGE_Q5_0;
    cr_assert_eq(cuda_compile_with(&emulated_interface, &c, &t.p, &o, &err), STATUS_USAGE);
    cr_assert(strstr(err.text, "Q5_0"), "%s", err.text);
    o.k_type = STORAGE_F16;
    emulated_device.limit = 1000;
    cr_assert_eq(cuda_compile_with(&emulated_interface, &c, &t.p, &o, &err), STATUS_NO_ROOM);
    cr_assert(strstr(err.text, "cuda:0 (emulated): ") && strstr(err.text, "GiB of weights: out of memory"), "%s", err.text);
    emulated_device.limit = 0;
    for (int i = 0; i < EMULATED_ALLOCATIONS; i++)
        cr_assert_null(emulated_device.allocation[i].map, "device memory was not given back");

    cr_assert_eq(cuda_compile_with(&emulated_interface, &c, &t.p, &o, &err), STATUS_OK);
    int32_t table[1] = {0}, wanted[1] = {0};
    const int32_t *const blocks[1] = {table};
    struct batch_row row = {3, NULL, 0, 0};
    struct batch_sequence s = {.rows = 1, .blocks = blocks, .adapter = -1};
    struct batch batch = {.rows = 1, .sequences = 1, .wanted = 1, .row = &row, .sequence = &s, .wanted_rows = wanted};
    struct state_memory memory = tiny_state(emulated_backend(), &t.p, &o, 4);
    const float *result;
    emulated_device.fail_at = 3;
    cr_assert_eq(cuda_step(c, &batch, &memory, t.logits, &result, &err), STATUS_DEVICE);
    cr_assert(strstr(err.text, "operation 2, linear of [1, 32], weight [32, 32] Q4_0: invalid configuration argument"), "%s", err.text);
    cr_assert_null(result);
    cr_assert_eq(cuda_step(c, &batch, &memory, t.logits, &result, &err), STATUS_OK); /* and again */
    cr_assert(isfinite(result[0]));
    float before[2 * 2 * 2 * 8], copied[2 * 2 * 2 * 8];
    cr_assert_eq(cuda_copy_state(c, &memory, 0, 2, 0, &err), STATUS_OK);
    cr_assert_eq(cuda_read_state(c, &memory, 0, 0, 0, 1, before, &err), STATUS_OK);
    cr_assert_eq(cuda_read_state(c, &memory, 0, 2, 0, 1, copied, &err), STATUS_OK);
    cr_assert_arr_eq(before, copied, sizeof before);
    cr_assert(isfinite(before[0]));
    batch.rows = 1000;
    cr_assert_eq(cuda_step(c, &batch, &memory, t.logits, &result, &err), STATUS_FAILED);
    cuda_backend.free(c);
    emulated_state_close(&o, &memory);
    arena_free(&t.arena);
}

/* Without a driver the words say so; with one, whatever else is missing. */
Test(cuda, missing)
{
    const struct backend *b;
    struct cuda_room room;
    struct error err = {0};
    if (backend_cuda(&b, 0, &room, &err) == STATUS_OK)
        return;
    cr_assert_eq(err.status, STATUS_DEVICE);
    cr_assert(strstr(err.text, "cuda"), "%s", err.text);
}
