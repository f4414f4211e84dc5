/* The reference backend against itself: whole, chunked and ragged runs are one computation; errors name the weight. */
#include "tiny.h"

static const struct tiny_shape shape = {.hidden = 48, .heads = 4, .kv_heads = 2, .head_dim = 24, .inner = 80, .layers = 2, .vocab = 50,
                                        .format = STORAGE_F32, .head_format = STORAGE_F32};

static int32_t tokens[4][64];
static float whole[64 * 50], parts[64 * 50], other[64 * 50];

static void fill_tokens(void)
{
    for (int s = 0; s < 4; s++)
        for (int i = 0; i < 64; i++)
            tokens[s][i] = (int32_t)(tiny_random() % 50);
}

Test(reference, chunked_is_whole)
{
    static const enum storage types[] = {STORAGE_F32, STORAGE_F16, STORAGE_BF16, STORAGE_F8_E4M3, STORAGE_Q8_0, STORAGE_Q4_0};
    fill_tokens();
    for (int window = 0; window < 20; window += 7)
        for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
            struct tiny t;
            struct tiny_shape s = shape;
            s.window = window;
            s.interleaved = k == 1;
            s.qk_norm = k == 2;
            s.cap = k ? 20 : 0;
            s.layer_norm = s.bias = k == 1;
            tiny_build(&t, &s);
            struct compile_options o = tiny_options(types[k]);
            struct tiny_run run;
            tiny_open(&run, &t, &backend_reference, &o);
            tiny_step(&run, &t, t.logits, (int[4]){40}, (const int32_t *[4]){tokens[0]}, (float *[4]){whole});
            tiny_close(&run);
            tiny_open(&run, &t, &backend_reference, &o);
            for (int at = 0; at < 40; at += 5) /* another sequence rides along */
                tiny_step(&run, &t, t.logits, (int[4]){5, 3}, (const int32_t *[4]){tokens[0] + at, tokens[1] + at},
                          (float *[4]){parts + at * 50, other});
            tiny_close(&run);
            cr_assert_lt(tiny_error(parts, whole, 40 * 50), 1e-12);
            arena_free(&t.arena);
        }
}

Test(reference, one_linear_by_hand)
{
    /* y = 2 x0 - x1 + 0.5 */
    struct arena arena = {0};
    struct program p = {.arena = &arena, .vocab = 2};
    float table[4] = {1, 2, 3, 4}, matrix[2] = {2, -1}, bias[1] = {0.5f};
    struct weight e = {.name = "e", .format = STORAGE_F32, .out = 2, .in = 2, .data = (void *)table, .row_bytes = 8, .experts = 1};
    struct weight m = {.name = "m", .format = STORAGE_F32, .out = 1, .in = 2, .data = (void *)matrix, .row_bytes = 8, .experts = 1};
    struct weight b = {.name = "b", .format = STORAGE_F32, .out = 1, .in = 1, .data = (void *)bias, .row_bytes = 4, .experts = 1};
    int x = program_buffer(&p, "x", 2, ROWS_ALL), y = program_buffer(&p, "y", 1, ROWS_ALL);
    struct op *op = program_add(&p, OP_EMBED);
    op->y = x, op->w = program_weight(&p, &e);
    op = program_add(&p, OP_LINEAR);
    op->x = x, op->y = y, op->w = program_weight(&p, &m), op->b = program_weight(&p, &b);
    program_output(&p, "y", y);
    struct compile_options o = tiny_options(STORAGE_F32);
    struct compiled *c;
    struct error err = {0};
    cr_assert_eq(program_check(&p, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(backend_reference.compile(&c, &p, &o, &err), STATUS_OK, "%s", err.text);
    struct batch_row rows[2] = {{.token = 0}, {.token = 1, .position = 1}};
    struct batch_sequence sequence = {.rows = 2};
    struct batch batch = {.rows = 2, .sequences = 1, .wanted = 1, .row = rows, .sequence = &sequence, .wanted_rows = (int32_t[]){1}};
    const float *result;
    cr_assert_eq(backend_reference.step(c, &batch, &(struct state_memory){0}, y, &result, &err), STATUS_OK, "%s", err.text);
    cr_assert_float_eq(result[0], 2 * 3 - 4 + 0.5, 1e-6);
    backend_reference.free(c);
    p.weights[1].transposed = true;
    cr_assert_eq(backend_reference.compile(&c, &p, &o, &err), STATUS_BAD_INPUT);
    cr_assert(strstr(err.text, "m") && strstr(err.text, "transposed"), "%s", err.text);
    arena_free(&arena);
}

Test(reference, state_there_and_back)
{
    fill_tokens();
    struct tiny t;
    tiny_build(&t, &shape);
    struct compile_options o = tiny_options(STORAGE_F16);
    struct tiny_run run;
    tiny_open(&run, &t, &backend_reference, &o);
    tiny_step(&run, &t, t.logits, (int[4]){20}, (const int32_t *[4]){tokens[0]}, (float *[4]){whole});
    float state[2 * 2 * 2 * 24], again[2 * 2 * 2 * 24];
    run.backend->read_state(run.compiled, &run.state, 0, run.table[0][1], 2, 1, state, NULL);
    run.backend->write_state(run.compiled, &run.state, 0, run.table[2][3], 7, 1, state, NULL);
    run.backend->read_state(run.compiled, &run.state, 0, run.table[2][3], 7, 1, again, NULL);
    cr_assert_eq(memcmp(state, again, sizeof state), 0);
    for (size_t i = 0; i < sizeof state / sizeof *state; i++)
        cr_assert(isfinite(state[i]));
    tiny_close(&run);
    arena_free(&t.arena);
}
