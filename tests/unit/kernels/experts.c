/* Choosing experts by hand-made scores; ROUTE, EXPERTS and COMBINE of the reference against sums written down here, and of the CPU on every
 * instruction set against the reference. Bounds as in cpu.c: whole networks with quantised weights 6 %, floats 1e-5, BF16 1e-2. */
#include "mixture.h"

#include "kernels/cpu/cpu.h"

static const char *const names[] = {"scalar", "avx2", "avx512-vnni", "amx", "neon", "neon-dotprod", "neon-i8mm"};

static void expect(const struct expert_route *r, const float *scores, const float *bias, const int *ids, const float *weights)
{
    float out[16];
    route_choose(r, scores, bias, out);
    for (int i = 0; i < r->chosen; i++) {
        cr_assert_eq((int)out[i], ids[i], "place %d: expert %g, not %d", i, (double)out[i], ids[i]);
        cr_assert_float_eq(out[r->chosen + i], weights[i], 1e-6, "place %d: %g, not %g", i, (double)out[r->chosen + i], (double)weights[i]);
    }
}

Test(experts, choosing)
{
    const float two = logf(2), scores[] = {0, two, 2 * two, 0, two, 0}; /* probabilities 1, 2, 4, 1, 2, 1 of 11 */
    struct expert_route r = {.experts = 6, .chosen = 3, .scale = 1, .groups = 1};
    expect(&r, scores, NULL, (int[]){2, 1, 4}, (float[]){4 / 11.0f, 2 / 11.0f, 2 / 11.0f}); /* equals: the lower one first */
    r.normalised = true, r.scale = 10;
    expect(&r, scores, NULL, (int[]){2, 1, 4}, (float[]){5, 2.5f, 2.5f});
    /* the bias chooses, and is in no weight */
    r.normalised = false, r.scale = 1, r.sigmoid = true, r.chosen = 2;
    expect(&r, scores, (float[]){0, 0, -1, 1, 0, 0}, (int[]){3, 1}, (float[]){0.5f, 2 / 3.0f});
    /* groups of two by their sum: {1/2 + 2/3, 4/5 + 1/2, 2/3 + 1/2}: of one group both */
    r.groups = 3, r.groups_chosen = 1, r.group_best = 2;
    expect(&r, scores, NULL, (int[]){2, 3}, (float[]){0.8f, 0.5f});
    /* by their best alone, two groups: the third is closed though its best is the second of all */
    r.groups_chosen = 2, r.group_best = 1, r.chosen = 3;
    expect(&r, (float[]){0, 3, 2, 2.5f, 1, 1}, NULL, (int[]){1, 3, 2}, (float[]){1 / (1 + expf(-3)), 1 / (1 + expf(-2.5f)), 1 / (1 + expf(-2))});
}

Test(experts, choosing_among_no_numbers)
{
    const float strange[][4] = {{NAN, NAN, NAN, NAN}, {INFINITY, INFINITY, 0, 0}, {-INFINITY, -INFINITY, -INFINITY, -INFINITY}, {1, NAN, 2, NAN}};
    for (size_t i = 0; i < sizeof strange / sizeof *strange; i++)
        for (int kind = 0; kind < 4; kind++) {
            struct expert_route r = {.experts = 4, .chosen = 3, .sigmoid = kind % 2, .scale = 1, .groups = kind / 2 + 1, .groups_chosen = 2, .group_best = 2};
            float out[6];
            bool seen[4] = {false};
            route_choose(&r, strange[i], NULL, out);
            for (int k = 0; k < 3; k++) {
                cr_assert(out[k] >= 0 && out[k] < 4 && !seen[(int)out[k]], "%zu, %d: %g", i, kind, (double)out[k]);
                seen[(int)out[k]] = true;
            }
        }
}

/* W[expert] x + b[expert], in double. */
static void multiply(const struct mixture *m, const struct op *op, int expert, const double *x, double *y)
{
    const struct weight w = weight_expert(&m->p.weights[op->w], expert);
    float *row = malloc((size_t)w.in * sizeof *row), bias = 0;
    for (int64_t out = 0; out < w.out; out++) {
        format_find(w.format)->decode(w.data + out * w.row_bytes, row, w.in);
        y[out] = 0;
        for (int64_t i = 0; i < w.in; i++)
            y[out] += (double)row[i] * x[i];
        if (w.factor != 0)
            y[out] *= (double)w.factor;
        if (op->b >= 0)
            memcpy(&bias, m->p.weights[op->b].data + (expert * w.out + out) * 4, 4);
        y[out] += (double)bias;
    }
    free(row);
}

static const struct op *find(const struct program *p, enum op_kind kind, int number)
{
    for (int i = 0; i < p->op_count; i++)
        if (p->ops[i].kind == kind && !number--)
            return &p->ops[i];
    return NULL;
}

static void by_hand(const struct mixture *m, const float *x, float *y)
{
    const struct mixture_shape *s = &m->shape;
    const struct op *router = find(&m->p, OP_LINEAR, 0), *route = find(&m->p, OP_ROUTE, 0);
    double *in = malloc((size_t)s->in * sizeof *in), *gate = malloc((size_t)s->inner * sizeof *gate), *up = malloc((size_t)s->inner * sizeof *up),
           *out = malloc((size_t)s->in * sizeof *out);
    float *scores = malloc((size_t)s->experts * sizeof *scores), *routing = malloc((size_t)s->chosen * 2 * sizeof *routing),
          *bias = malloc((size_t)s->experts * sizeof *bias);
    for (int i = 0; i < s->in; i++)
        in[i] = (double)x[i], y[i] = 0;
    for (int e = 0; e < s->experts; e++) {
        double sum = 0;
        for (int i = 0; i < s->in; i++) {
            float v;
            memcpy(&v, m->p.weights[router->w].data + ((int64_t)e * s->in + i) * 4, 4);
            sum += (double)v * in[i];
        }
        scores[e] = (float)sum;
        if (route && route->b >= 0)
            memcpy(&bias[e], m->p.weights[route->b].data + e * 4, 4);
    }
    for (int e = 0; !route && e < s->experts; e++)
        routing[e] = (float)e, routing[s->experts + e] = scores[e];
    if (route)
        route_choose(&m->p.routes[0], scores, route->b >= 0 ? bias : NULL, routing);
    for (int slot = 0; slot < s->chosen; slot++) {
        int e = (int)routing[slot];
        multiply(m, find(&m->p, OP_EXPERTS, 0), e, in, gate);
        multiply(m, find(&m->p, OP_EXPERTS, 1), e, in, up);
        for (int i = 0; i < s->inner; i++)
            gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i];
        multiply(m, find(&m->p, OP_EXPERTS, 2), e, gate, out);
        for (int i = 0; i < s->in; i++)
            y[i] += routing[s->chosen + slot] * (float)out[i];
    }
    free(in), free(gate), free(up), free(out), free(scores), free(routing), free(bias);
}

static float *draw(int64_t count)
{
    float *x = malloc((size_t)count * sizeof *x);
    for (int64_t i = 0; i < count; i++)
        x[i] = tiny_float();
    return x;
}

static const struct mixture_shape shapes[] = {
    {STORAGE_F32, 48, 24, 6, 2, false, false, false, false, 0, false},
    {STORAGE_BF16, 40, 56, 5, 3, true, true, false, true, 0, false},
    {STORAGE_Q4_0, 96, 64, 8, 2, false, false, true, false, 0, false},
    {STORAGE_Q8_0, 64, 96, 8, 3, true, false, false, true, 4, false},
    {STORAGE_Q4_K, 256, 256, 4, 4, false, true, false, false, 0, false},
    {STORAGE_Q6_K, 512, 256, 16, 1, true, false, false, false, 0, false},
    {STORAGE_Q8_0, 96, 64, 5, 5, false, true, false, false, 0, true},
    {STORAGE_BF16, 40, 56, 9, 9, true, false, true, false, 0, true},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

Test(experts, reference_by_hand)
{
    for (int i = 0; i < SHAPES; i++) {
        struct mixture m;
        mixture_build(&m, &shapes[i]);
        int in = shapes[i].in, rows = 9;
        float *x = draw(rows * in), *got = malloc((size_t)(rows * in) * sizeof *got), *expected = malloc((size_t)(rows * in) * sizeof *expected);
        struct compiled *c = mixture_compile(&backend_reference, &m, false, rows);
        mixture_step(&backend_reference, c, &m, x, &rows, 1, got);
        for (int row = 0; row < rows; row++)
            by_hand(&m, x + row * in, expected + row * in);
        cr_assert_lt(tiny_error(got, expected, rows * in), 1e-5, "shape %d: %g", i, tiny_error(got, expected, rows * in));
        backend_reference.free(c);
        free(x), free(got), free(expected);
        arena_free(&m.arena);
    }
}

static double bound(enum storage f) { return f == STORAGE_F32 ? 1e-5 : f == STORAGE_BF16 ? 1e-2 : 6e-2; }

/* One sequence of 1 to 67 rows against the reference; the same rows beside others, the same bits; one by one where bits must not
 * depend on cuts. */
static void check(const char *isa, const struct mixture_shape *s)
{
    static const int counts[] = {1, 2, 5, 8, 31, 67};
    const struct backend *cpu = backend_cpu(NULL);
    struct mixture m;
    mixture_build(&m, s);
    size_t values = (size_t)(MIXTURE_ROWS * s->in);
    float *x = draw((int64_t)values), *expected = malloc(values * sizeof *x), *got = malloc(values * sizeof *x), *beside = malloc(values * sizeof *x);
    struct compiled *reference = mixture_compile(&backend_reference, &m, false, MIXTURE_ROWS), *usual = mixture_compile(cpu, &m, false, MIXTURE_ROWS),
                    *fixed = mixture_compile(cpu, &m, true, MIXTURE_ROWS);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        int n = counts[i], before = 1 + n % 7, after = 1 + n % 13;
        float *own = x + before * s->in;
        mixture_step(&backend_reference, reference, &m, own, &n, 1, expected);
        mixture_step(cpu, usual, &m, own, &n, 1, got);
        double error = tiny_error(got, expected, n * s->in);
        cr_assert_lt(error, bound(s->format), "%s, %s, %d rows: %g", isa, storage_types[s->format].name, n, error);
        mixture_step(cpu, usual, &m, x, (int[]){before, n, after}, 3, beside);
        cr_assert_eq(memcmp(beside + before * s->in, got, (size_t)(n * s->in) * sizeof *got), 0, "%s, %s: %d rows beside others differ", isa,
                     storage_types[s->format].name, n);
        mixture_step(cpu, fixed, &m, own, &n, 1, got);
        for (int row = 0; row < n; row++) {
            mixture_step(cpu, fixed, &m, own + row * s->in, (int[]){1}, 1, beside);
            cr_assert_eq(memcmp(beside, got + row * s->in, (size_t)s->in * sizeof *got), 0, "%s, %s: row %d of %d differs from it alone", isa,
                         storage_types[s->format].name, row, n);
        }
    }
    backend_reference.free(reference), cpu->free(usual), cpu->free(fixed);
    free(x), free(expected), free(got), free(beside);
    arena_free(&m.arena);
}

Test(experts, cpu)
{
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        if (!tiny_isa(names[n]))
            continue;
        setenv("INGOT_ISA", names[n], 1);
        for (int i = 0; i < SHAPES; i++)
            check(names[n], &shapes[i]);
    }
}

/* A sigmoid of its own score weighs an expert that all rows go to; in place. */
Test(experts, one_weight)
{
    struct arena arena = {0};
    struct program p = {.arena = &arena, .vocab = 1};
    float table[3] = {1, 2, 3}, score[3] = {0, 0, 1};
    struct weight e = {.name = "e", .format = STORAGE_F32, .out = 1, .in = 3, .data = (void *)table, .row_bytes = 12, .experts = 1};
    struct weight w = {.name = "w", .format = STORAGE_F32, .out = 1, .in = 3, .data = (void *)score, .row_bytes = 12, .experts = 1};
    int x = program_buffer(&p, "x", 3, ROWS_ALL), z = program_buffer(&p, "z", 1, ROWS_ALL);
    struct op *op = program_add(&p, OP_EMBED);
    op->y = x, op->w = program_weight(&p, &e);
    op = program_add(&p, OP_LINEAR);
    op->x = x, op->y = z, op->w = program_weight(&p, &w);
    op = program_add(&p, OP_COMBINE);
    op->x = op->y = x, op->z = z, op->activation = ACT_SIGMOID;
    program_output(&p, "x", x);
    const struct backend *backends[] = {&backend_reference, backend_cpu(NULL)};
    for (int i = 0; i < 2; i++) {
        struct mixture m = {.p = p, .shape = {.in = 3}, .y = x};
        float out[3];
        struct error err = {0};
        cr_assert_eq(program_check(&p, &err), STATUS_OK, "%s", err.text);
        struct compiled *c = mixture_compile(backends[i], &m, false, 1);
        mixture_step(backends[i], c, &m, table, (int[]){1}, 1, out);
        for (int k = 0; k < 3; k++)
            cr_assert_float_eq(out[k], table[k] / (1 + expf(-3)), 1e-5, "%s", backends[i]->name);
        backends[i]->free(c);
    }
    arena_free(&arena);
}

Test(experts, programs_that_do_not_fit)
{
    struct mixture m;
    struct error err = {0};
    mixture_build(&m, &shapes[0]);
    m.p.weights[m.p.ops[3].w].in--; /* the file's mistake: its weight is named */
    cr_assert_eq(program_check(&m.p, &err), STATUS_BAD_INPUT);
    cr_assert(strstr(err.text, "gate: 6 matrices of shape [24, 47] where 6 of [24, 48]"), "%s", err.text);
    m.p.weights[m.p.ops[3].w].in++;
    m.p.routes[0].chosen = 7;
    cr_assert_eq(program_check(&m.p, &err), STATUS_FAILED);
    m.p.routes[0].chosen = 2;
    m.p.routes[0].groups = 3, m.p.routes[0].groups_chosen = 1, m.p.routes[0].group_best = 3; /* groups of two */
    cr_assert_eq(program_check(&m.p, &err), STATUS_FAILED);
    cr_assert(strstr(err.text, "too few"), "%s", err.text);
    m.p.routes[0].groups = 1;
    cr_assert_eq(program_check(&m.p, &err), STATUS_OK, "%s", err.text);
    m.p.ops[1].w = m.p.ops[3].w; /* a LINEAR over a stack */
    cr_assert_eq(program_check(&m.p, &err), STATUS_FAILED);
    arena_free(&m.arena);
}
