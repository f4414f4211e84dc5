/* Small programs without state on both backends: one operation or stage over given rows. */
#ifndef TESTS_UNIT_KERNELS_CUDA_PROGRAMS_H
#define TESTS_UNIT_KERNELS_CUDA_PROGRAMS_H

#include "cuda_backend.h"

enum { COMPUTE_ROWS = 300 };

/* Runs the program on rows of one new sequence; the output's wanted rows are copied to out. tokens NULL: embeddings
 * [rows, width]. Every third row is wanted, and the last. */
static inline int compute(const struct backend *b, const struct program *p, int rows, const int32_t *tokens, const float *embeddings, int64_t width, float *out)
{
    struct compile_options o = tiny_options(STORAGE_F32);
    struct error err = {0};
    struct compiled *c;
    struct batch_row row[COMPUTE_ROWS];
    int32_t wanted[COMPUTE_ROWS];
    const int32_t *const blocks[1] = {(int32_t[8]){0}};
    struct batch_sequence s = {.rows = rows, .adapter = -1, .blocks = blocks};
    struct batch batch = {.rows = rows, .sequences = 1, .row = row, .sequence = &s, .wanted_rows = wanted};
    for (int i = 0; i < rows; i++) {
        row[i] = (struct batch_row){tokens ? tokens[i] : -1, tokens ? NULL : embeddings + i * width, i, 0};
        if (i % 3 == 1 || i == rows - 1)
            wanted[batch.wanted++] = i;
    }
    const float *result;
    int output = p->outputs[0].buffer;
    o.max_rows = rows, o.max_wanted = batch.wanted; /* buffers end behind the last row */
    cr_assert_eq(program_check(p, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(b->compile(&c, p, &o, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(b->step(c, &batch, &(struct state_memory){0}, output, &result, &err), STATUS_OK, "%s", err.text);
    memcpy(out, result, (size_t)(batch.wanted * p->buffers[output].width) * sizeof *out);
    b->free(c);
    return batch.wanted;
}

/* Both backends; returns the relative error. */
static inline double compare(const struct program *p, int rows, const int32_t *tokens, const float *embeddings, int64_t width)
{
    int64_t wide = p->buffers[p->outputs[0].buffer].width;
    float *expected = (float *)malloc((size_t)(COMPUTE_ROWS * wide) * sizeof *expected), *got = (float *)malloc((size_t)(COMPUTE_ROWS * wide) * sizeof *got);
    compute(&backend_reference, p, rows, tokens, embeddings, width, expected);
    int wanted = compute(cuda_under_test(), p, rows, tokens, embeddings, width, got);
    double error = tiny_error(got, expected, wanted * wide);
    if (!on_card()) { /* the order in which threads run must not show */
        emulator.backwards = true;
        compute(cuda_under_test(), p, rows, tokens, embeddings, width, expected);
        emulator.backwards = false;
        if (memcmp(got, expected, (size_t)(wanted * wide) * sizeof *got))
            error = INFINITY;
    }
    free(expected), free(got);
    return error;
}

/* "plain" kernels, which read weights as they are stored, those for "bytes", or NULL: those that are used. */
static inline void use_kernels(const char *name) { name ? setenv("INGOT_CUDA_KERNELS", name, 1) : unsetenv("INGOT_CUDA_KERNELS"); }

/* One to three LINEARs over rows that are given, with what they can take along: nothing, ADD, GATE. */
enum with { WITH_NOTHING, WITH_NORM, WITH_ADD, WITH_GATE };
static inline double stage_error(const enum storage *formats, int count, int64_t in, int out, int rows, enum with with)
{
    struct arena arena = {0};
    struct program p = {.arena = &arena, .vocab = 1};
    struct weight e = tiny_weight("embedding", STORAGE_F32, 1, in, 1);
    int x = program_buffer(&p, "x", in, ROWS_ALL), normed = program_buffer(&p, "normed", in, ROWS_ALL), y[3] = {0}, all = x;
    struct op *op = program_add(&p, OP_EMBED);
    op->y = x, op->w = program_weight(&p, &e);
    if (with == WITH_NORM) {
        op = program_add(&p, OP_NORM);
        op->x = x, op->y = all = normed, op->epsilon = 1e-6f, op->w = tiny_vector(&p, "norm", (int)in, 1);
    } else if (with == WITH_ADD) {
        op = program_add(&p, OP_EMBED);
        op->y = normed, op->w = 0;
    }
    for (int i = 0; i < count; i++) {
        struct weight w = tiny_weight("linear", formats[i], out, in, 1);
        w.factor = i == 1 ? 0.37f : 0;
        y[i] = program_buffer(&p, "y", out, ROWS_ALL);
        int weight = program_weight(&p, &w), bias = i == 0 ? tiny_vector(&p, "bias", out, 0) : -1;
        op = program_add(&p, OP_LINEAR);
        op->x = all, op->y = y[i], op->w = weight, op->b = bias;
    }
    if (with == WITH_ADD) { /* in == out */
        op = program_add(&p, OP_ADD);
        op->x = op->y = normed, op->z = y[0], op->scale = -0.5f;
        y[0] = normed;
    } else if (with == WITH_GATE) {
        op = program_add(&p, OP_GATE);
        op->x = op->y = y[0], op->z = y[1], op->activation = ACT_SILU;
    }
    double error = 0;
    float *rows_of_x = rows_of_bytes(rows, in);
    for (int i = 0; i < (with == WITH_GATE ? 1 : count); i++) {
        p.output_count = 0;
        program_output(&p, "y", y[i]);
        double one = compare(&p, rows, NULL, rows_of_x, in);
        error = one > error ? one : error;
    }
    free(rows_of_x);
    arena_free(&arena);
    return error;
}

/* Rows of several sequences, x [rows of all, in], through one LINEAR without a bias, whose weights are the same at every call; out [rows
 * of all, outputs]. */
static inline void linear_rows(enum storage format, int in, int outputs, const int *counts, int sequences, bool deterministic, const float *x, float *out)
{
    struct arena arena = {0};
    struct program p = {.arena = &arena, .vocab = 1};
    tiny_seed = 88172645463325252u;
    struct weight e = tiny_weight("unused", STORAGE_F32, 1, in, 1), m = tiny_weight("linear", format, outputs, in, 1);
    int from = program_buffer(&p, "x", in, ROWS_ALL), to = program_buffer(&p, "y", outputs, ROWS_ALL);
    struct op *op = program_add(&p, OP_EMBED);
    op->y = from, op->w = program_weight(&p, &e);
    op = program_add(&p, OP_LINEAR);
    op->x = from, op->y = to, op->w = program_weight(&p, &m), op->b = -1;
    program_output(&p, "y", to);
    struct batch_row row[COMPUTE_ROWS];
    int32_t wanted[COMPUTE_ROWS];
    const int32_t *const blocks[1] = {(int32_t[64]){0}};
    struct batch_sequence s[TINY_SEQUENCES];
    struct batch batch = {.sequences = sequences, .row = row, .sequence = s, .wanted_rows = wanted};
    for (int k = 0; k < sequences; k++) {
        s[k] = (struct batch_sequence){batch.rows, counts[k], 0, blocks, -1, 0};
        for (int i = 0; i < counts[k]; i++, batch.rows++)
            row[batch.rows] = (struct batch_row){-1, x + batch.rows * in, i, k}, wanted[batch.wanted++] = batch.rows;
    }
    struct compile_options o = tiny_options(STORAGE_F32);
    struct compiled *c;
    struct error err = {0};
    const float *result;
    o.max_rows = o.max_wanted = batch.rows, o.deterministic = deterministic;
    cr_assert_eq(cuda_under_test()->compile(&c, &p, &o, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(cuda_under_test()->step(c, &batch, &(struct state_memory){0}, to, &result, &err), STATUS_OK, "%s", err.text);
    memcpy(out, result, (size_t)(batch.rows * outputs) * sizeof *out);
    cuda_under_test()->free(c);
    arena_free(&arena);
}

#endif
