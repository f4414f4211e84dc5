/* A small network of experts over rows that are given, shared by the tests of the backends: scores, ROUTE, EXPERTS, COMBINE. */
#ifndef TESTS_UNIT_KERNELS_MIXTURE_H
#define TESTS_UNIT_KERNELS_MIXTURE_H

#include "tiny.h"

struct mixture_shape {
    enum storage format;
    int in, inner, experts, chosen;
    bool apart;  /* every expert's matrices lie on their own */
    bool bias, factor, sigmoid;
    int groups;
    bool all; /* every row goes to all experts, slot i to the i-th: chosen is experts, and scores are weights */
};

struct mixture {
    struct arena arena;
    struct program p;
    struct mixture_shape shape;
    int y;
};

/* A stack, or matrices here and there. */
static inline int mixture_weight(struct mixture *m, const char *name, int out, int in)
{
    int experts = m->shape.experts;
    struct weight w = tiny_weight(name, m->shape.format, m->shape.apart ? out : (int64_t)out * experts, in, 2 / sqrtf((float)in));
    w.out = out;
    w.experts = experts;
    w.expert_bytes = m->shape.apart ? 0 : w.row_bytes * out;
    w.factor = m->shape.factor ? 0.75f : 0;
    if (m->shape.apart) {
        const unsigned char **expert = (const unsigned char **)arena_array(&m->arena, (size_t)experts, sizeof *expert);
        expert[0] = w.data;
        for (int e = 1; e < experts; e++)
            expert[e] = tiny_weight(name, m->shape.format, out, in, 2 / sqrtf((float)in)).data;
        w.expert = expert;
    }
    return program_weight(&m->p, &w);
}

static inline struct op *mixture_experts(struct mixture *m, int x, int routing, int y, const char *name)
{
    struct program *p = &m->p;
    int out = (int)p->buffers[y].width / m->shape.chosen, in = x == 0 ? m->shape.in : m->shape.inner;
    int w = mixture_weight(m, name, out, in), b = -1;
    if (m->shape.bias) {
        struct weight bias = tiny_weight("biases", STORAGE_F32, m->shape.experts, out, 1);
        b = program_weight(p, &bias);
    }
    struct op *op = program_add(p, OP_EXPERTS);
    op->x = x, op->z = routing, op->y = y, op->w = w, op->b = b, op->route = routing < 0 ? -1 : 0;
    return op;
}

static inline void mixture_build(struct mixture *m, const struct mixture_shape *s)
{
    memset(m, 0, sizeof *m);
    m->shape = *s;
    struct program *p = &m->p;
    p->arena = &m->arena;
    p->vocab = 1;
    int x = program_buffer(p, "x", s->in, ROWS_ALL), scores = program_buffer(p, "scores", s->experts, ROWS_ALL);
    int routing = s->all ? -1 : program_buffer(p, "routing", 2 * s->chosen, ROWS_ALL);
    int gate = program_buffer(p, "gate", s->chosen * s->inner, ROWS_ALL), up = program_buffer(p, "up", s->chosen * s->inner, ROWS_ALL);
    int down = program_buffer(p, "down", s->chosen * s->in, ROWS_ALL);
    m->y = program_buffer(p, "y", s->in, ROWS_ALL);
    program_route(p, &(struct expert_route){.experts = s->experts, .chosen = s->chosen, .sigmoid = s->sigmoid, .normalised = true, .scale = 1.5f,
                                     .groups = s->groups ? s->groups : 1, .groups_chosen = 2, .group_best = 1});
    struct weight e = tiny_weight("embedding", STORAGE_F32, 1, s->in, 1), router = tiny_weight("router", STORAGE_F32, s->experts, s->in, 1);
    struct op *op = program_add(p, OP_EMBED);
    op->y = x, op->w = program_weight(p, &e);
    op = program_add(p, OP_LINEAR);
    op->x = x, op->y = scores, op->w = program_weight(p, &router);
    if (!s->all) {
        int bias = s->sigmoid ? tiny_vector(p, "choosing", s->experts, 0) : -1;
        op = program_add(p, OP_ROUTE);
        op->x = scores, op->y = routing, op->route = 0, op->b = bias;
    }
    mixture_experts(m, x, routing, gate, "gate");
    mixture_experts(m, x, routing, up, "up");
    op = program_add(p, OP_GATE);
    op->x = op->y = gate, op->z = up, op->activation = ACT_SILU;
    mixture_experts(m, gate, routing, down, "down");
    op = program_add(p, OP_COMBINE);
    op->x = down, op->z = s->all ? scores : routing, op->y = m->y;
    program_output(p, "y", m->y);
    struct error err = {0};
    cr_assert_eq(program_check(p, &err), STATUS_OK, "%s", err.text);
}

enum { MIXTURE_ROWS = 2 * 67 };

static inline struct compiled *mixture_compile(const struct backend *b, const struct mixture *m, bool deterministic, int rows)
{
    struct compile_options o = tiny_options(STORAGE_F32);
    o.deterministic = deterministic;
    o.max_rows = o.max_wanted = o.max_sequences = rows;
    struct compiled *c;
    struct error err = {0};
    cr_assert_eq(b->compile(&c, &m->p, &o, &err), STATUS_OK, "%s", err.text);
    return c;
}

/* counts[s] rows of each sequence, all wanted. x: [rows, in], out: [rows, in] */
static inline void mixture_step(const struct backend *backend, struct compiled *c, const struct mixture *m, const float *x, const int *counts, int sequences, float *out)
{
    static struct batch_row row[MIXTURE_ROWS];
    static int32_t wanted[MIXTURE_ROWS];
    static struct batch_sequence sequence[MIXTURE_ROWS];
    const int32_t *const blocks[1] = {(int32_t[8]){0}};
    struct batch b = {.row = row, .sequence = sequence, .wanted_rows = wanted, .sequences = sequences};
    for (int s = 0; s < sequences; s++) {
        sequence[s] = (struct batch_sequence){.first_row = b.rows, .rows = counts[s], .blocks = blocks, .adapter = -1};
        for (int i = 0; i < counts[s]; i++, b.rows++) {
            row[b.rows] = (struct batch_row){-1, x + b.rows * m->shape.in, i, s};
            wanted[b.rows] = b.rows;
        }
    }
    b.wanted = b.rows;
    const float *result;
    struct error err = {0};
    cr_assert_eq(backend->step(c, &b, &(struct state_memory){0}, m->y, &result, &err), STATUS_OK, "%s", err.text);
    memcpy(out, result, (size_t)b.rows * (size_t)m->shape.in * sizeof *out);
}

#endif
