/* The CPU backend, on every instruction set that this machine has, against the reference. Every case draws its numbers from
 * a seed of its own, so it is the same on every machine and in every order.
 *
 * Bounds on one LINEAR. Float weights: relative error 1e-5, and 1e-2 for BF16, whose activations may be rounded to bfloat16.
 * Quantised weights: activations are rounded to steps of d = largest / 127 of their 32, an error that is uniform in
 * [-d/2, d/2], so d / sqrt(12) in the root mean square; behind weights w its square adds up to the sum of w^2 d^2 / 12.
 * Within a row outputs share the rounding (weights with a common mean make them all err alike), so a row counts as one draw:
 * one row must stay within 4 times the expected error, many rows within a little more than once. AVX-512's panels round weights
 * that have scales for 16 as well, to steps of the largest of 32; all rows meet the same ones.
 * Tiles take both factors rounded to bfloat16: within 5e-3 of the reference, and within 1e-4 of what exact sums of products of the
 * rounded factors are (a weight may be rounded twice).
 * Whole tiny models with quantised weights: 6 % relative; 1e-4 where weights are F32 or F16. */
#include "tiny.h"

#include "base/team.h"
#include "kernels/cpu/cpu.h"

static const char *const names[] = {"scalar", "avx2", "avx512-vnni", "amx", "neon", "neon-dotprod", "neon-i8mm"};
static const enum storage formats[] = {STORAGE_F32,  STORAGE_F16,  STORAGE_BF16, STORAGE_Q4_0, STORAGE_Q4_1,   STORAGE_Q5_0,  STORAGE_Q5_1, STORAGE_Q8_0,
                                       STORAGE_Q2_K, STORAGE_Q3_K, STORAGE_Q4_K, STORAGE_Q5_K, STORAGE_Q6_K, STORAGE_IQ4_NL, STORAGE_IQ4_XS,
                                       STORAGE_IQ2_XXS, STORAGE_IQ2_XS, STORAGE_IQ2_S, STORAGE_IQ3_XXS, STORAGE_IQ3_S, STORAGE_IQ1_S, STORAGE_IQ1_M,
                                       STORAGE_TQ1_0, STORAGE_TQ2_0, STORAGE_MXFP4, STORAGE_NVFP4, STORAGE_Q1_0, STORAGE_Q2_0};
#if defined(TESTS_PLAIN_CRITERION_H) || defined(__SANITIZE_ADDRESS__)
enum { OWN_STEP = 5 }; /* under an emulator or sanitizers every fifth number of rows has to do */
#else
enum { OWN_STEP = 1 };
#endif
enum { FORMATS = sizeof formats / sizeof *formats };

static const enum storage kvs[] = {STORAGE_F32, STORAGE_F16, STORAGE_BF16, STORAGE_F8_E4M3, STORAGE_Q8_0, STORAGE_Q4_0};
enum { KVS = sizeof kvs / sizeof *kvs };

/* What a cache adds to a model's error: keys that differ in the last bit of their sums may round to neighbouring values, queries
 * and weights are rounded like the keys and values that they meet (bfloat16, 8 bits). */
static double kv_bound(enum storage kv)
{
    return kv == STORAGE_F32 ? 0 : kv == STORAGE_F16 ? 2e-3 : kv == STORAGE_F8_E4M3 || kv == STORAGE_Q4_0 ? 6e-2 : 2e-2;
}

static double model_bound(enum storage f) { return f == STORAGE_F32 || f == STORAGE_F16 ? 1e-4 : f == STORAGE_BF16 ? 2e-2 : 6e-2; }

/* ---- one LINEAR, from embeddings given as rows ---- */

/* One LINEAR with a bias over rows given as embeddings. */
struct one_linear {
    struct arena arena;
    struct program p;
    struct weight w;
    int y;
};

static void build_linear(struct one_linear *l, enum storage format, int out, int in)
{
    tiny_seed = 88172645463325252u + (uint64_t)format * 1000003 + (uint64_t)out * 1009 + (uint64_t)in;
    memset(l, 0, sizeof *l);
    struct program *p = &l->p;
    p->arena = &l->arena;
    p->vocab = 1;
    struct weight e = tiny_weight("embedding", STORAGE_F32, 1, in, 1), bias = tiny_weight("bias", STORAGE_F16, 1, out, 1);
    l->w = tiny_weight("w", format, out, in, 1);
    int x = program_buffer(p, "x", in, ROWS_ALL), y = program_buffer(p, "y", out, ROWS_ALL);
    struct op *op = program_add(p, OP_EMBED);
    op->y = x, op->w = program_weight(p, &e);
    op = program_add(p, OP_LINEAR);
    op->x = x, op->y = y, op->w = program_weight(p, &l->w), op->b = program_weight(p, &bias);
    program_output(p, "y", y);
    l->y = y;
}

enum { MOST = 2 * 67 };

static struct compiled *compile(const struct backend *backend, const struct one_linear *l, bool deterministic)
{
    struct compile_options o = tiny_options(STORAGE_F32);
    o.deterministic = deterministic;
    o.max_rows = o.max_wanted = o.max_sequences = MOST;
    struct compiled *c;
    struct error err = {0};
    cr_assert_eq(backend->compile(&c, &l->p, &o, &err), STATUS_OK, "%s", err.text);
    return c;
}

/* counts[s] rows of each sequence, all wanted. */
static void step_linear(const struct backend *backend, struct compiled *c, const struct one_linear *l, const float *x, const int *counts, int sequences,
                        float *out)
{
    static struct batch_row row[MOST];
    static int32_t wanted[MOST];
    static struct batch_sequence sequence[MOST];
    int64_t in = l->w.in, width = l->w.out;
    struct batch b = {.row = row, .sequence = sequence, .wanted_rows = wanted, .sequences = sequences};
    for (int s = 0; s < sequences; s++) {
        sequence[s] = (struct batch_sequence){.first_row = b.rows, .rows = counts[s]};
        for (int i = 0; i < counts[s]; i++, b.rows++) {
            row[b.rows] = (struct batch_row){-1, x + b.rows * in, i, s};
            wanted[b.rows] = b.rows;
        }
    }
    b.wanted = b.rows;
    const float *result;
    struct error err = {0};
    cr_assert_eq(backend->step(c, &b, &(struct state_memory){0}, l->y, &result, &err), STATUS_OK, "%s", err.text);
    memcpy(out, result, (size_t)(b.rows * width) * sizeof *out);
}

/* Largest value of each block of 32, and the value over which a prompt's block has 16 bits instead of 8 (WIDE_BLOCK in
 * kernels/cpu/cpu.h): twice the mean of the blocks that are not over it themselves. */
static double wide_limit_of(const float *x, int blocks, double *most)
{
    for (int b = 0; b < blocks; b++) {
        double largest = 0; /* no fmax: gcc 12 for AArch64 breaks off over it */
        for (int i = 0; i < 32; i++)
            largest = fabs((double)x[32 * b + i]) > largest ? fabs((double)x[32 * b + i]) : largest;
        most[b] = largest;
    }
    double limit = INFINITY;
    for (int round = 0; round < 4; round++) {
        double sum = 0;
        int count = 0;
        for (int b = 0; b < blocks; b++)
            if (most[b] <= limit && most[b] > 0)
                sum += most[b], count++;
        limit = count ? 2 * sum / count : limit;
    }
    return limit * 1.0001; /* a tie is either */
}

/* Formats that AVX-512 rounds to int8 for prompts (avx512/many.c). */
static bool is_folded(enum storage f)
{
    static const enum storage folded[] = {STORAGE_Q2_K,   STORAGE_Q3_K,  STORAGE_Q6_K, STORAGE_IQ2_XS,
                                          STORAGE_IQ2_S, STORAGE_IQ1_M, STORAGE_NVFP4};
    for (size_t i = 0; i < sizeof folded / sizeof *folded; i++)
        if (folded[i] == f)
            return true;
    return false;
}

/* The same of rounding the weights: of each block to 1 / 127 of its largest, which may be a little less than its scales allow. */
static double folded_bound(const struct weight *w, const float *x, int rows)
{
    double error = 0, squared = 0;
    float *values = malloc((size_t)w->in * sizeof *values);
    for (int64_t out = 0; out < w->out; out++) {
        format_find(w->format)->decode(w->data + out * w->row_bytes, values, w->in);
        for (int64_t b = 0; b < w->in; b += 32) {
            double largest = 0;
            for (int64_t i = b; i < b + 32; i++)
                largest = fabs((double)values[i]) > largest ? fabs((double)values[i]) : largest;
            double step = 1.2 * largest / 127;
            for (int64_t i = b; i < b + 32; i++) {
                double own = 0; /* of one weight, in all rows */
                for (int64_t row = 0; row < rows; row++)
                    own += step * step / 12 * x[row * w->in + i] * x[row * w->in + i];
                error += own;
                squared += own * own;
            }
        }
    }
    free(values);
    return squared > 0 ? sqrt(error) * (1 + 3 / sqrt(error * error / squared)) : 0;
}

/* Expected norm of the error of `rows` rows times what such a number of draws may exceed it by. */
static double linear_bound(const char *isa, const struct weight *w, const float *x, int rows, const float *expected)
{
    double size = 0, error = 0, squared = 0;
    for (int64_t i = 0; i < rows * w->out; i++)
        size += (double)expected[i] * expected[i];
    if (w->format == STORAGE_F32 || w->format == STORAGE_F16 || w->format == STORAGE_BF16)
        return sqrt(size) * (w->format == STORAGE_BF16 ? 1e-2 : 1e-5);
    int blocks = (int)w->in / 32;
    double *squares = calloc((size_t)blocks, sizeof *squares), *most = malloc((size_t)blocks * sizeof *most); /* squares: of weights, over all outputs */
    float *values = malloc((size_t)w->in * sizeof *values);
    for (int64_t out = 0; out < w->out; out++) {
        format_find(w->format)->decode(w->data + out * w->row_bytes, values, w->in);
        for (int64_t i = 0; i < w->in; i++)
            squares[i / 32] += (double)values[i] * values[i];
    }
    for (int row = 0; row < rows; row++) {
        double limit = wide_limit_of(x + row * w->in, blocks, most), own = 0;
        for (int b = 0; b < blocks; b++) {
            double step = most[b] / (rows >= 6 && most[b] > limit ? 127 * 256 : 127);
            own += squares[b] * step * step / 12;
        }
        error += own;
        squared += own * own;
    }
    free(squares), free(values), free(most);
    double draws = squared > 0 ? error * error / squared : rows; /* rows with large values count for more */
    double folded = rows >= 6 && !strcmp(isa, "avx512-vnni") && is_folded(w->format) ? folded_bound(w, x, rows) : 0;
    return hypot(sqrt(error) * (1 + 3 / sqrt(draws)), folded) + 1e-5 * sqrt(size);
}

/* What tiles get: the product of both factors rounded to bfloat16, and how far it is from the reference in all. */
static void check_tiles(const char *isa, const struct one_linear *l, const float *x, int rows, const float *expected, const float *got)
{
    const struct weight *w = &l->w;
    float *weights = malloc((size_t)(w->out * w->in) * sizeof *weights), *bias = malloc((size_t)w->out * sizeof *bias);
    format_find(STORAGE_F16)->decode(l->p.weights[2].data, bias, w->out);
    for (int64_t out = 0; out < w->out; out++) {
        format_find(w->format)->decode(w->data + out * w->row_bytes, weights + out * w->in, w->in);
        for (int64_t i = 0; i < w->in; i++)
            weights[out * w->in + i] = bf16_to_float(float_to_bf16(weights[out * w->in + i]));
    }
    double size = 0, error = 0, rounding = 0;
    for (int64_t row = 0; row < rows; row++)
        for (int64_t out = 0; out < w->out; out++) {
            double sum = bias[out], y = got[row * w->out + out], exact = expected[row * w->out + out];
            for (int64_t i = 0; i < w->in; i++)
                sum += (double)weights[out * w->in + i] * bf16_to_float(float_to_bf16(x[row * w->in + i]));
            rounding += (sum - y) * (sum - y);
            error += (exact - y) * (exact - y);
            size += exact * exact;
        }
    free(weights), free(bias);
    const char *format = storage_types[w->format].name;
    cr_assert(sqrt(rounding) <= 1e-4 * sqrt(size), "%s, %s [%d, %d], %d rows: %g of the rounded product", isa, format, (int)w->out, (int)w->in, rows,
              sqrt(rounding / size));
    cr_assert(sqrt(error) <= 5e-3 * sqrt(size), "%s, %s [%d, %d], %d rows: %g of the product", isa, format, (int)w->out, (int)w->in, rows, sqrt(error / size));
}

static void check_linear(const char *isa, enum storage format, int out, int in)
{
    struct one_linear l;
    build_linear(&l, format, out, in);
    float *input = malloc((size_t)(67 * in) * sizeof(float)), *expected = malloc((size_t)(67 * out) * sizeof(float)),
          *got = malloc((size_t)(67 * out) * sizeof(float)), *one = malloc((size_t)(67 * out) * sizeof(float));
    for (int i = 0; i < 67 * in; i++)
        input[i] = tiny_float() * (i % 997 == 0 ? 300.0f : i % 97 == 0 ? 3.0f : 1.0f); /* some beside which 8 bits are little */
    const struct backend *cpu = backend_cpu(NULL);
    struct compiled *reference = compile(&backend_reference, &l, false), *usual = compile(cpu, &l, false), *deterministic = compile(cpu, &l, true);
    step_linear(&backend_reference, reference, &l, input, (int[]){67}, 1, expected);
    static const int counts[] = {1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 31, 67};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        step_linear(cpu, usual, &l, input, counts + i, 1, got);
        bool tiles = counts[i] >= 6 && isa_find(isa)->linear(format)->many_forms & FORM_TILES;
        if (tiles)
            check_tiles(isa, &l, input, counts[i], expected, got);
        double error = 0, bound = tiles ? INFINITY : linear_bound(isa, &l.w, input, counts[i], expected);
        for (int k = 0; k < counts[i] * out; k++)
            error += ((double)got[k] - expected[k]) * ((double)got[k] - expected[k]);
        cr_assert(sqrt(error) <= bound, "%s, %s [%d, %d], %d rows: %g over %g", isa, storage_types[format].name, out, in, counts[i], sqrt(error), bound);
        step_linear(cpu, deterministic, &l, input, counts + i, 1, i ? got : one);
        if (i)
            cr_assert_eq(memcmp(got, one, (size_t)out * sizeof *one), 0, "%s, %s: row 0 of %d differs from row 0 alone", isa,
                         storage_types[format].name, counts[i]);
    }
    backend_reference.free(reference), cpu->free(usual), cpu->free(deterministic);
    free(input), free(expected), free(got), free(one);
    arena_free(&l.arena);
}

Test(cpu, linear)
{
    static const int shapes[][2] = {{33, 256}, {70, 512}, {5, 1024}, {64, 576}, {40, 32}, {35, 96}, {16, 2048}, {12, 640}};
    static const int odd[][2] = {{33, 48}, {7, 1}, {20, 100}, {3, 1030}, {2060, 700}}; /* the last: more than one of the tallest panels */
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        if (!tiny_isa(names[n]))
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

/* A weight's factor: what is multiplied, not what is added. */
Test(cpu, linear_factor)
{
    struct one_linear l;
    build_linear(&l, STORAGE_NVFP4, 20, 64);
    float x[7 * 64], plain[7 * 20], expected[7 * 20], got[7 * 20];
    for (int i = 0; i < 7 * 64; i++)
        x[i] = tiny_float();
    struct compiled *c = compile(&backend_reference, &l, false);
    step_linear(&backend_reference, c, &l, x, (int[]){7}, 1, plain);
    backend_reference.free(c);
    struct weight *w = &l.p.weights[1];
    cr_assert_eq(w->format, STORAGE_NVFP4);
    w->factor = 0.25f;
    const struct backend *backends[] = {&backend_reference, backend_cpu(NULL)};
    for (int k = 0; k < 2; k++)
        for (int rows = 1; rows <= 7; rows += 6) {
            c = compile(backends[k], &l, false);
            step_linear(backends[k], c, &l, x, &rows, 1, k ? got : expected);
            backends[k]->free(c);
            for (int i = 0; i < rows * 20; i++) {
                float bias;
                format_find(STORAGE_F16)->decode(l.p.weights[2].data + i % 20 * 2, &bias, 1);
                float exact = 0.25f * (plain[i] - bias) + bias;
                cr_assert_float_eq((k ? got : expected)[i], exact, k ? 0.05 : 1e-5, "%s", backends[k]->name);
            }
        }
    arena_free(&l.arena);
}

/* NaN and infinity in a scale or a minimum must not look like numbers, whatever becomes of the weights on their way. */
Test(cpu, broken_weights_show)
{
    enum { OUT = 20, IN = 512, BROKEN = 5 };
    static const struct {
        enum storage format;
        int at; /* the half float in the row's first block */
    } places[] = {{STORAGE_Q4_0, 0}, {STORAGE_Q8_0, 0}, {STORAGE_Q4_1, 0}, {STORAGE_Q4_1, 2},  {STORAGE_Q4_K, 0},
                  {STORAGE_Q4_K, 2}, {STORAGE_Q5_K, 2}, {STORAGE_Q2_K, 80}, {STORAGE_Q2_K, 82}, {STORAGE_Q6_K, 208}};
    static const uint16_t values[] = {0x7C00, 0xFC00, 0x7E00, 0x7FFF, 0xFFFF};
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        if (!tiny_isa(names[n]))
            continue;
        setenv("INGOT_ISA", names[n], 1);
        for (size_t i = 0; i < sizeof places / sizeof *places * 5; i++) {
            struct one_linear l;
            build_linear(&l, places[i / 5].format, OUT, IN);
            struct weight *w = &l.p.weights[1];
            memcpy((unsigned char *)(uintptr_t)w->data + BROKEN * w->row_bytes + places[i / 5].at, &values[i % 5], 2);
            static float x[12 * IN], got[12 * OUT];
            for (int k = 0; k < 12 * IN; k++)
                x[k] = tiny_float();
            struct compiled *c = compile(backend_cpu(NULL), &l, false);
            for (int rows = 1; rows <= 12; rows += 11) {
                step_linear(backend_cpu(NULL), c, &l, x, &rows, 1, got);
                for (int k = 0; k < rows * OUT; k++)
                    cr_assert_eq(!isfinite(got[k]), k % OUT == BROKEN, "%s, %s, %04x at %d, %d rows: %g", names[n],
                                 storage_types[places[i / 5].format].name, values[i % 5], places[i / 5].at, rows, got[k]);
            }
            backend_cpu(NULL)->free(c);
            arena_free(&l.arena);
        }
    }
}

/* ---- what else is in the batch never shows ---- */

/* `own` rows of a sequence alone, then behind, before and between the rows of others: 1 to 67 rows of both, the others one
 * sequence or many of all sizes. */
static void check_beside(const char *isa, enum storage format, int out, int in)
{
    struct one_linear l;
    build_linear(&l, format, out, in);
    const struct backend *cpu = backend_cpu(NULL);
    struct compiled *c = compile(cpu, &l, false);
    float *x = malloc((size_t)(3 * 67 * in) * sizeof *x), *y = malloc((size_t)(MOST * out) * sizeof *y), *alone = malloc((size_t)(67 * out) * sizeof *alone);
    for (int i = 0; i < 3 * 67 * in; i++)
        x[i] = tiny_float();
    for (int own = 1; own <= 67; own += OWN_STEP) {
        int others = own * 29 % 67 + 1, counts[MOST], sequences = 0, before = 0, after = 0;
        step_linear(cpu, c, &l, x + 67 * in, (int[]){own}, 1, alone);
        switch (own % 3) {
        case 0:
            before = counts[sequences++] = others;
            break;
        case 1:
            after = others;
            break;
        default: /* 1, 2, 3 ... rows each, about half of them before */
            for (int n = 1; before < others / 2; before += n++)
                counts[sequences++] = n;
            after = others > before ? others - before : 0;
        }
        counts[sequences++] = own;
        for (int n = 1, left = after; left; left -= counts[sequences++], n++)
            counts[sequences] = own % 3 == 1 || n > left ? left : n;
        step_linear(cpu, c, &l, x + (67 - before) * in, counts, sequences, y);
        cr_assert_eq(memcmp(y + before * out, alone, (size_t)(own * out) * sizeof *alone), 0, "%s, %s [%d, %d]: %d rows beside %d + %d others differ", isa,
                     storage_types[format].name, out, in, own, before, after);
    }
    cpu->free(c);
    free(x), free(y), free(alone);
    arena_free(&l.arena);
}

Test(cpu, linear_rows_do_not_depend_on_others)
{
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        if (!tiny_isa(names[n]))
            continue;
        setenv("INGOT_ISA", names[n], 1);
        for (int f = 0; f < FORMATS; f++) {
            check_beside(names[n], formats[f], 33, 256);
            if (storage_types[formats[f]].block_elements <= 32)
                check_beside(names[n], formats[f], 70, 96);
            if (f < 3)
                check_beside(names[n], formats[f], 19, 1030);
        }
    }
}

/* ---- whole models ---- */

static int32_t tokens[4][160];
static float expected[160 * 64], got[160 * 64], other[4][160 * 64];

/* A prompt of `own` rows and two more tokens, one by one: alone, and beside others that are at other places of theirs. */
static void check_model_beside(const char *isa, const struct tiny *t, const struct compile_options *o)
{
    const int vocab = t->shape.vocab;
    struct tiny_run run;
    tiny_open(&run, t, backend_cpu(NULL), o);
    for (int own = 1; own <= 67; own += OWN_STEP + own / 5) {
        for (int beside = 0; beside < 2; beside++) {
            memset(run.cached, 0, sizeof run.cached);
            run.last_only = own % 4 == 3; /* the usual way: logits of the last row only */
            float *to = beside ? got : expected;
            for (int step = 0, at = 0; step < 3; step++) {
                int rows = step ? 1 : own, others[3] = {1 + own * 29 % 20, own * 13 % 23, 1};
                if (step == 1)
                    others[0] = 1, others[1] = 37;
                tiny_step(&run, t, t->logits, (int[4]){beside * others[0], rows, beside * others[1], beside * others[2]},
                          (const int32_t *[4]){tokens[0], tokens[1] + at, tokens[2], tokens[3]}, (float *[4]){other[0], to, other[1], other[2]});
                to += (run.last_only ? 1 : rows) * vocab;
                at += rows;
            }
        }
        int rows = (run.last_only ? 1 : own) + 2;
        cr_assert_eq(memcmp(expected, got, (size_t)(rows * vocab) * sizeof *got), 0, "%s, %s, KV %s: %d rows beside others differ", isa,
                     storage_types[t->shape.format].name, storage_types[o->k_type].name, own);
    }
    tiny_close(&run);
}

static void check_model(const char *isa, const struct tiny_shape *shape, enum storage kv, bool deterministic)
{
    struct tiny t;
    tiny_seed = 88172645463325252u + (uint64_t)shape->format * 1000003 + (uint64_t)kv;
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
    double bound = model_bound(shape->format) + kv_bound(kv);
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
    check_model_beside(isa, &t, &o);
    arena_free(&t.arena);
}

Test(cpu, models)
{
    struct tiny_shape odd = {.hidden = 48, .heads = 6, .kv_heads = 2, .head_dim = 24, .inner = 80, .layers = 2, .vocab = 50, .format = STORAGE_F32, .head_format = STORAGE_F32};
    struct tiny_shape wide = {.hidden = 256, .heads = 8, .kv_heads = 1, .head_dim = 64, .inner = 512, .layers = 2, .vocab = 64, .format = STORAGE_Q4_K, .head_format = STORAGE_Q6_K};
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        if (!tiny_isa(names[n]))
            continue;
        setenv("INGOT_ISA", names[n], 1);
        for (int k = 0; k < KVS; k++) {
            struct tiny_shape s = odd;
            check_model(names[n], &s, kvs[k], k == 1);
            s.window = 20, s.cap = 10, s.interleaved = true, s.qk_norm = true;
            check_model(names[n], &s, kvs[k], k == 0);
            s = odd;
            s.experts = 5, s.chosen = 2;
            for (int fixed = 0; fixed < 2 && kvs[k] == STORAGE_F32; fixed++) /* caches that round more turn choices over */
                check_model(names[n], &s, kvs[k], fixed);
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
        struct state_memory state = {.pool = {aligned_alloc(64, (sizes.block_bytes[0] * BLOCKS + 63) / 64 * 64)}};
        for (int i = 0; i < LENGTH; i++)
            row[i] = (struct batch_row){(i * 7) % 30, NULL, i, 0};
        const int32_t *blocks[1] = {table};
        struct batch_sequence q = {0, LENGTH - 1, 0, blocks, -1, 0};
        struct batch batch = {.rows = LENGTH - 1, .sequences = 1, .wanted = 0, .row = row, .sequence = &q, .wanted_rows = NULL};
        const float *out;
        cr_assert_eq(b->step(c, &batch, &state, -1, &out, &err), STATUS_OK, "%s", err.text);
        struct batch_sequence last = {0, 1, LENGTH - 1, blocks, -1, 0};
        struct batch one = {.rows = 1, .sequences = 1, .wanted = 1, .row = row + LENGTH - 1, .sequence = &last, .wanted_rows = (int32_t[]){0}};
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
    struct tiny_shape s = {.hidden = 48, .heads = 4, .kv_heads = 2, .head_dim = 24, .inner = 64, .layers = 2, .vocab = 30, .format = STORAGE_F32, .head_format = STORAGE_F32};
    struct tiny t;
    tiny_build(&t, &s);
    for (int i = 0; i < 40; i++)
        tokens[0][i] = i % 30;
    for (int k = 0; k < KVS; k++) {
        float state[2][2 * 2 * 2 * 24];
        struct compile_options o = tiny_options(kvs[k]);
        struct tiny_run run;
        for (int which = 0; which < 2; which++) {
            tiny_open(&run, &t, which ? backend_cpu(NULL) : &backend_reference, &o);
            tiny_step(&run, &t, t.logits, (int[4]){20}, (const int32_t *[4]){tokens[0]}, (float *[4]){got});
            run.backend->read_state(run.compiled, &run.state, 0, run.table[0][1], 1, 1, state[which], NULL);
            float again[2 * 2 * 2 * 24];
            run.backend->write_state(run.compiled, &run.state, 0, run.table[2][3], 7, 1, state[which], NULL);
            run.backend->read_state(run.compiled, &run.state, 0, run.table[2][3], 7, 1, again, NULL);
            cr_assert_eq(memcmp(state[which], again, sizeof again), 0);
            tiny_close(&run);
        }
        cr_assert_lt(tiny_error(state[1], state[0], 2 * 2 * 2 * 24), kv_bound(kvs[k]) + 1e-4, "KV %s", storage_types[kvs[k]].name);
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
    if (!isa_find("amx"))
        return;
    cr_assert_str_eq(cpu_isa_name(), "amx");
    setenv("INGOT_ISA", "avx512-vnni", 1);
    cr_assert_str_eq(cpu_isa_name(), "avx512-vnni");
}

/* Twice: what the first one leaves configured would abort the second. */
Test(cpu, peaks)
{
    for (size_t n = 0; n < sizeof names / sizeof *names; n++)
        for (int kind = PEAK_INT8; tiny_isa(names[n]) && kind <= PEAK_F32; kind++) {
            double once = isa_find(names[n])->peak((enum peak)kind, 10), more = isa_find(names[n])->peak((enum peak)kind, 20);
            cr_assert_float_eq(more, 2 * once, 1e-9 * more, "%s: %g, %g operations", names[n], once, more);
        }
}
