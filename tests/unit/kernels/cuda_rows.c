/* What the CUDA backend does with many rows of one LINEAR, and with the rows that tokens are chosen from. */
#include "cuda_backend.h"

/* ---- products of many rows -------------------------------------------------------------------------------------------------- */

enum { PRODUCT_OUT = 11, PRODUCT_MANY = 260, PRODUCT_ROWS = PRODUCT_MANY + 3 + 257 };

/* Rows of three sequences through one LINEAR; tile_rows: outputs unpacked at a time, 0: as planned. */
static void product(const struct backend *b, enum storage format, int64_t in, bool deterministic, int tile_rows, bool one_alone, const float *x, float *out)
{
    struct arena arena = {0};
    struct program p = {.arena = &arena, .vocab = 1};
    tiny_seed = 88172645463325252u;
    struct weight e = tiny_weight("unused", STORAGE_F32, 1, in, 1), w = tiny_weight("linear", format, PRODUCT_OUT, in, 1);
    w.factor = 0.75f;
    int from = program_buffer(&p, "x", in, ROWS_ALL), to = program_buffer(&p, "y", PRODUCT_OUT, ROWS_ALL);
    struct op *op = program_add(&p, OP_EMBED);
    op->y = from, op->w = program_weight(&p, &e);
    op = program_add(&p, OP_LINEAR);
    op->x = from, op->y = to, op->w = program_weight(&p, &w), op->b = tile_rows ? tiny_vector(&p, "bias", PRODUCT_OUT, 0) : -1;
    program_output(&p, "y", to);
    struct compile_options o = tiny_options(STORAGE_F32);
    struct compiled *c;
    struct error err = {0};
    o.max_rows = o.max_wanted = PRODUCT_ROWS, o.max_context = 2 * PRODUCT_MANY, o.deterministic = deterministic;
    cr_assert_eq(b->compile(&c, &p, &o, &err), STATUS_OK, "%s", err.text);
    if (tile_rows && b != &backend_reference)
        c->gemm.tile_values = tile_rows * in;
    static struct batch_row row[PRODUCT_ROWS];
    static int32_t wanted[PRODUCT_ROWS];
    const int32_t *const blocks[1] = {(int32_t[64]){0}};
    struct batch_sequence s[3] = {{.rows = PRODUCT_MANY, .blocks = blocks, .adapter = -1}, {.first_row = PRODUCT_MANY, .rows = 3, .blocks = blocks, .adapter = -1},
                                  {.first_row = PRODUCT_MANY + 3, .rows = 257, .blocks = blocks, .adapter = -1}};
    struct batch batch = {.rows = PRODUCT_ROWS, .sequences = 3, .wanted = PRODUCT_ROWS, .row = row, .sequence = s, .wanted_rows = wanted};
    for (int i = 0; i < PRODUCT_ROWS; i++)
        row[i] = (struct batch_row){-1, x + i * in, i, i < PRODUCT_MANY ? 0 : i < PRODUCT_MANY + 3 ? 1 : 2}, wanted[i] = i;
    if (one_alone)
        batch.rows = batch.wanted = PRODUCT_MANY, batch.sequences = 1;
    const float *result;
    cr_assert_eq(b->step(c, &batch, &(struct state_memory){0}, to, &result, &err), STATUS_OK, "%s", err.text);
    memcpy(out, result, (size_t)(batch.wanted * PRODUCT_OUT) * sizeof *out);
    b->free(c);
    arena_free(&arena);
}

Test(cuda, products_of_many_rows)
{
    enum { IN = 512 };
    static const enum storage formats[] = {STORAGE_F32, STORAGE_BF16, STORAGE_Q4_0, STORAGE_Q6_K};
    static float expected[PRODUCT_ROWS * PRODUCT_OUT], got[PRODUCT_ROWS * PRODUCT_OUT], alone[PRODUCT_ROWS * PRODUCT_OUT];
    const struct backend *b = cuda_under_test();
    float *x = rows_of_bytes(PRODUCT_ROWS, IN); /* so that few rows are exact */
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        int tile = i % 2 ? 4 : 0;
        product(&backend_reference, formats[i], IN, false, tile, false, x, expected);
        emulated_device.gemms = 0;
        product(b, formats[i], IN, false, tile, false, x, got);
        cr_assert_eq(emulated_device.gemms, on_card() ? 0 : tile ? 6 : 2);
        double bound = formats[i] == STORAGE_F32 ? float_error : formats[i] == STORAGE_BF16 ? matrix_error() : 6e-3;
        double error = tiny_error(got, expected, PRODUCT_ROWS * PRODUCT_OUT);
        double between = tiny_error(got + PRODUCT_MANY * PRODUCT_OUT, expected + PRODUCT_MANY * PRODUCT_OUT, 3 * PRODUCT_OUT);
        cr_assert(error < 4e-3 && between < bound, "%s: %g, few rows %g", storage_types[formats[i]].name, error, between);
        product(b, formats[i], IN, false, tile, true, x, alone);
        cr_assert_arr_eq(got, alone, PRODUCT_MANY * PRODUCT_OUT * sizeof *got, "a sequence's bits depend on what else is in the batch");
    }
    for (int k = 0; k < 2; k++) { /* where every cut of a prompt has to give the same bits; where there is no library */
        emulated_device.gemms = 0, emulated_device.no_gemm = k;
        product(b, STORAGE_Q4_0, IN, !k, 0, false, x, got);
        product(&backend_reference, STORAGE_Q4_0, IN, false, 0, false, x, expected);
        cr_assert_eq(emulated_device.gemms, 0);
        cr_assert(k && on_card() ? true : tiny_error(got, expected, PRODUCT_ROWS * PRODUCT_OUT) < 6e-3);
    }
    emulated_device.no_gemm = false;
    free(x);
}

/* ---- choices -------------------------------------------------------------------------------------------------------------- */

enum { CHOICE_WIDE = 2500, CHOICE_ROWS = 5, CHOICE_MOST = 8 };

static int by_id(const void *a, const void *b) { return ((const int32_t *)a)[0] - ((const int32_t *)b)[0]; }

/* One row's choice against its twin's, in an order that neither promises. */
static void same_choice(const struct row_choice *got, const float *row, int number)
{
    struct { int32_t id; float score, logit; } list[2][CHOICE_ROOM];
    static struct token_score tokens[CHOICE_ROOM];
    static float logits[CHOICE_ROOM], scores[CHOICE_WIDE];
    struct row_choice want = *got;
    choice_make(&want, row, CHOICE_WIDE, scores, tokens, logits);
    cr_assert_eq(got->count, want.count, "choice %d: %d are listed, not %d", number, got->count, want.count);
    cr_assert(got->most == want.most && got->norm == want.norm && got->total == want.total, "choice %d: %g %llx %llx", number, (double)got->most,
              (unsigned long long)got->norm, (unsigned long long)got->total);
    for (int k = 0; k < 2; k++) {
        const struct row_choice *c = k ? &want : got;
        for (int32_t i = 0; i < c->count; i++)
            list[k][i].id = c->list[i].id, list[k][i].score = c->list[i].score, list[k][i].logit = c->logits[i];
        qsort(list[k], (size_t)c->count, sizeof **list, by_id);
    }
    cr_assert_arr_eq(list[0], list[1], (size_t)want.count * sizeof **list, "choice %d", number);
}

static void choose_rows(const struct backend *b, const float *rows)
{
    struct arena arena = {0};
    struct program p = {.arena = &arena, .vocab = 1};
    struct weight w = tiny_weight("unused", STORAGE_F32, 1, CHOICE_WIDE, 1);
    int x = program_buffer(&p, "x", CHOICE_WIDE, ROWS_ALL);
    struct op *op = program_add(&p, OP_EMBED);
    op->y = x, op->w = program_weight(&p, &w);
    program_output(&p, "x", x);
    struct compile_options o = tiny_options(STORAGE_F32);
    struct compiled *c;
    struct error err = {0};
    cr_assert_eq(b->compile(&c, &p, &o, &err), STATUS_OK, "%s", err.text);
    struct batch_row row[CHOICE_ROWS];
    int32_t wanted[] = {0, 2, 3, 4};
    const int32_t *const blocks[1] = {(int32_t[8]){0}};
    struct batch_sequence s = {.rows = CHOICE_ROWS, .adapter = -1, .blocks = blocks};
    struct batch batch = {.rows = CHOICE_ROWS, .sequences = 1, .wanted = 4, .row = row, .sequence = &s, .wanted_rows = wanted};
    for (int i = 0; i < CHOICE_ROWS; i++)
        row[i] = (struct batch_row){-1, rows + i * CHOICE_WIDE, i, 0};
    cr_assert_eq(b->step(c, &batch, &(struct state_memory){0}, x, NULL, &err), STATUS_OK, "%s", err.text);

    uint32_t allowed[CHOICE_WIDE / 32];
    static struct score_edit edits[40], many[CHOICE_WIDE];
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
        allowed[i] = i % 2 ? 0x10208041u * (unsigned)i : 0;
    for (int i = 0; i < CHOICE_WIDE; i++)
        many[i] = (struct score_edit){i, 1.1f, i % 3 ? 0 : 0.25f, i % 7 ? 0 : 1.5f};
    for (int i = 0; i < 40; i++)
        edits[i] = many[i * 61];
    struct row_choice choice[CHOICE_MOST] = {
        {.wanted = 0, .best = 1, .temperature = 1},
        {.wanted = 1, .best = 50, .temperature = 0.7f, .edits = edits, .edit_count = 40},
        {.wanted = 3, .best = 20, .temperature = 1.3f, .allowed = allowed, .allowed_words = sizeof allowed / sizeof *allowed},
        {.wanted = 1, .best = CHOICE_BEST, .temperature = 1, .edits = many, .edit_count = CHOICE_WIDE, .allowed = allowed, .allowed_words = 30},
        {.wanted = 2, .best = 20, .temperature = 1}, /* a flat row */
        {.wanted = 0, .best = CHOICE_BEST, .temperature = 5},
        {.wanted = 3, .best = 3, .temperature = 1, .allowed = allowed, .allowed_words = 0}, /* nothing may be chosen */
        {.wanted = 1, .best = 7, .temperature = 0.01f},
    };
    cr_assert_eq(b->choose(c, choice, CHOICE_MOST, &err), STATUS_OK, "%s", err.text);
    for (int i = 0; i < CHOICE_MOST; i++)
        same_choice(&choice[i], rows + wanted[choice[i].wanted] * CHOICE_WIDE, i);
    cr_assert(choice[0].count && choice[1].count >= 50 && !choice[4].count && !choice[6].count);
    const float *whole;
    cr_assert_eq(b->fetch(c, 2, &whole, &err), STATUS_OK, "%s", err.text);
    cr_assert_arr_eq(whole, rows + wanted[2] * CHOICE_WIDE, CHOICE_WIDE * sizeof *whole);
    cr_assert_eq(b->choose(c, choice, CHOICE_MOST + 1, &err), STATUS_FAILED, "more than was compiled for");
    b->free(c);
    arena_free(&arena);
}

Test(cuda, choices)
{
    float *rows = random_rows(CHOICE_ROWS * CHOICE_WIDE);
    for (int i = 0; i < CHOICE_WIDE; i++) {
        rows[3 * CHOICE_WIDE + i] = 0.25f;      /* flat */
        rows[i] = rintf(rows[i] * 3);           /* many are equal */
        rows[2 * CHOICE_WIDE + i] *= 4;
    }
    rows[2 * CHOICE_WIDE + 5] = NAN, rows[2 * CHOICE_WIDE + 6] = -INFINITY;
    choose_rows(cuda_under_test(), rows);
    emulator.backwards = true;
    choose_rows(cuda_under_test(), rows);
    emulator.backwards = false;
    free(rows);
}
