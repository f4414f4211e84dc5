/* A tiny random transformer and the batches to run it, shared by the tests of the backends. */
#ifndef TESTS_UNIT_KERNELS_TINY_H
#define TESTS_UNIT_KERNELS_TINY_H

#include <criterion/criterion.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/ops.h"
#include "kernels/formats/small.h"

struct isa; /* kernels/cpu/cpu.h */
const struct isa *isa_find(const char *name);

static uint64_t tiny_seed = 88172645463325252u;

/* Does this machine have the instruction set, and is it one of those that INGOT_TEST_ISA names (several with commas; all by
 * default, or what the program was compiled for)? An emulator is slow enough to be asked for some. */
static inline bool tiny_isa(const char *name)
{
    const char *named = getenv("INGOT_TEST_ISA");
#ifdef TEST_ISA
    named = named ? named : TEST_ISA;
#endif
    const char *only = named;
    for (size_t n = strlen(name); only; only = strchr(only, ',') ? strchr(only, ',') + 1 : NULL)
        if (strncmp(only, name, n) == 0 && (only[n] == ',' || !only[n]))
            return isa_find(name);
    return !named && isa_find(name);
}

static inline uint32_t tiny_random(void)
{
    tiny_seed ^= tiny_seed << 13;
    tiny_seed ^= tiny_seed >> 7;
    tiny_seed ^= tiny_seed << 17;
    return (uint32_t)(tiny_seed >> 32);
}

/* in [-1, 1) */
static inline float tiny_float(void) { return (float)(tiny_random() & 0xFFFFFF) / 0x800000 - 1.0f; }

/* Offsets of the half floats in a block, -1: none. */
static inline const int *tiny_halves(enum storage s)
{
    static const int first[] = {0, -1}, both[] = {0, 2, -1}, q2[] = {80, 82, -1}, q3[] = {108, -1}, q6[] = {208, -1}, tq1[] = {52, -1}, tq2[] = {64, -1};
    switch (s) {
    case STORAGE_Q4_1: case STORAGE_Q5_1: case STORAGE_Q4_K: case STORAGE_Q5_K: return both;
    case STORAGE_Q2_K: return q2;
    case STORAGE_Q3_K: return q3;
    case STORAGE_Q6_K: return q6;
    case STORAGE_TQ1_0: return tq1;
    case STORAGE_TQ2_0: return tq2;
    default: return first;
    }
}

/* Sets a block's scale. Signs of scales and the sizes of the smaller ones vary. */
static inline void tiny_scale(enum storage s, unsigned char *block, float scale)
{
    int exponent;
    frexpf(scale, &exponent);
    if (s == STORAGE_MXFP4) {
        block[0] = (unsigned char)(127 + exponent - 1);
    } else if (s == STORAGE_NVFP4) { /* four E4M3; 7 is the exponent's bias */
        for (int i = 0; i < 4; i++)
            block[i] = (unsigned char)((block[i] & 0x87) | (exponent + 6) << 3);
    } else if (s == STORAGE_IQ1_M) { /* a nibble in each of the last four words */
        unsigned half = float_to_half(scale);
        for (int i = 0; i < 4; i++)
            block[49 + 2 * i] = (unsigned char)((block[49 + 2 * i] & 15) | (half >> 4 * i & 15) << 4);
    } else {
        for (const int *h = tiny_halves(s), *first = h; *h >= 0; h++) {
            uint16_t half = float_to_half(scale * (h > first ? 0.5f : tiny_random() & 1 ? -1.0f : 1.0f));
            memcpy(block + *h, &half, 2);
        }
    }
}

/* A random weight whose last byte lies right before a page that faults, so that reading beyond it is seen; its first
 * byte has whatever alignment follows. Never freed: the test's process ends. */
static inline struct weight tiny_weight(const char *name, enum storage format, int64_t out, int64_t in, float size)
{
    const struct storage_type *t = &storage_types[format];
    struct weight w = {.name = name, .format = format, .out = out, .in = in, .experts = 1, .shard_axis = -1};
    w.row_bytes = in / t->block_elements * t->block_bytes;
    size_t bytes = (size_t)(w.row_bytes * out), page = 4096, whole = (bytes + page - 1) / page * page;
    unsigned char *map = mmap(NULL, whole + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert(map != MAP_FAILED);
    mprotect(map + whole, page, PROT_NONE);
    unsigned char *data = map + whole - bytes;
    w.data = data;
    const struct format *f = format_find(format);
    if (t->block_elements == 1) {
        for (int64_t i = 0; i < out * in; i++) {
            float v = size * tiny_float();
            f->encode(&v, NULL, data + i * t->block_bytes, 1);
        }
        return w;
    }
    for (size_t i = 0; i < bytes; i++)
        data[i] = (unsigned char)tiny_random();
    for (size_t at = 0; at < bytes; at += (size_t)t->block_bytes) {
        /* scale the block so that its largest value is about `size` */
        float values[256], most = 1e-9f;
        for (int pass = 0; pass < 2; pass++) {
            tiny_scale(format, data + at, pass ? size / most : 1);
            f->decode(data + at, values, t->block_elements);
            for (int i = 0; !pass && i < t->block_elements; i++)
                most = fabsf(values[i]) > most ? fabsf(values[i]) : most;
        }
    }
    return w;
}

struct tiny_shape {
    int hidden, heads, kv_heads, head_dim, inner, layers, vocab, window;
    float cap;
    bool interleaved, qk_norm, bias, layer_norm;
    enum storage format, head_format; /* of linears; of embedding and head */
    int experts, chosen; /* 0: a plain network */
};

struct tiny {
    struct arena arena;
    struct program p;
    struct tiny_shape shape;
    int logits, hidden;
};

static inline int tiny_vector(struct program *p, const char *name, int n, float about)
{
    struct weight w = tiny_weight(name, STORAGE_F32, 1, n, 0.2f);
    float *v = (float *)(void *)(uintptr_t)w.data;
    for (int i = 0; i < n; i++) {
        float x;
        memcpy(&x, (char *)v + 4 * i, 4);
        x += about;
        memcpy((char *)v + 4 * i, &x, 4);
    }
    return program_weight(p, &w);
}

static inline void tiny_linear(struct tiny *t, int x, int y, enum storage format)
{
    struct program *p = &t->p;
    int64_t in = p->buffers[x].width, out = p->buffers[y].width;
    struct weight w = tiny_weight("linear", format, out, in, 2 / sqrtf((float)in));
    int id = program_weight(p, &w), b = t->shape.bias ? tiny_vector(p, "bias", (int)out, 0) : -1;
    struct op *op = program_add(p, OP_LINEAR);
    op->x = x, op->y = y, op->w = id, op->b = b;
}

static inline void tiny_norm(struct tiny *t, int x, int y, int head_dim)
{
    struct program *p = &t->p;
    int n = head_dim ? head_dim : (int)p->buffers[x].width;
    int w = tiny_vector(p, "norm", n, 1), b = t->shape.layer_norm ? tiny_vector(p, "norm.bias", n, 0) : -1;
    struct op *op = program_add(p, OP_NORM);
    op->x = x, op->y = y, op->w = w, op->b = b, op->epsilon = 1e-5f, op->head_dim = head_dim, op->centred = t->shape.layer_norm;
}

static inline void tiny_experts(struct tiny *t, int x, int routing, int y)
{
    struct program *p = &t->p;
    int chosen = t->shape.chosen, experts = t->shape.experts;
    int64_t out = p->buffers[y].width / chosen, in = out == t->shape.inner ? t->shape.hidden : t->shape.inner;
    struct weight w = tiny_weight("experts", t->shape.format, out * experts, in, 2 / sqrtf((float)in));
    w.out = out, w.experts = experts, w.expert_bytes = w.row_bytes * out;
    int id = program_weight(p, &w), b = -1;
    if (t->shape.bias) {
        w = tiny_weight("biases", STORAGE_F32, experts, out, 0.2f);
        b = program_weight(p, &w);
    }
    struct op *op = program_add(p, OP_EXPERTS);
    op->x = x, op->z = routing, op->y = y, op->w = id, op->b = b, op->route = 0;
}

/* n -> o. Buffers of the first layer serve all. */
static inline void tiny_mixture(struct tiny *t, int n, int o, int *b)
{
    struct program *p = &t->p;
    const struct tiny_shape *s = &t->shape;
    if (!p->route_count) {
        program_route(p, &(struct expert_route){.experts = s->experts, .chosen = s->chosen, .normalised = true, .scale = 1, .groups = 1});
        b[0] = program_buffer(p, "scores", s->experts, ROWS_ALL);
        b[1] = program_buffer(p, "routing", 2 * s->chosen, ROWS_ALL);
        b[2] = program_buffer(p, "expert_gate", s->chosen * s->inner, ROWS_ALL);
        b[3] = program_buffer(p, "expert_up", s->chosen * s->inner, ROWS_ALL);
        b[4] = program_buffer(p, "expert_down", s->chosen * s->hidden, ROWS_ALL);
    }
    tiny_linear(t, n, b[0], STORAGE_F32);
    struct op *op = program_add(p, OP_ROUTE);
    op->x = b[0], op->y = b[1], op->route = 0;
    tiny_experts(t, n, b[1], b[2]);
    tiny_experts(t, n, b[1], b[3]);
    op = program_add(p, OP_GATE);
    op->x = op->y = b[2], op->z = b[3], op->activation = ACT_SILU;
    tiny_experts(t, b[2], b[1], b[4]);
    op = program_add(p, OP_COMBINE);
    op->x = b[4], op->z = b[1], op->y = o;
}

static inline void tiny_build(struct tiny *t, const struct tiny_shape *s)
{
    memset(t, 0, sizeof *t);
    t->shape = *s;
    struct program *p = &t->p;
    p->arena = &t->arena;
    p->vocab = s->vocab;
    int wide = s->heads * s->head_dim, narrow = s->kv_heads * s->head_dim;
    int x = program_buffer(p, "x", s->hidden, ROWS_ALL), n = program_buffer(p, "n", s->hidden, ROWS_ALL);
    int q = program_buffer(p, "q", wide, ROWS_ALL), k = program_buffer(p, "k", narrow, ROWS_ALL), v = program_buffer(p, "v", narrow, ROWS_ALL);
    int a = program_buffer(p, "a", wide, ROWS_ALL), o = program_buffer(p, "o", s->hidden, ROWS_ALL);
    int g = program_buffer(p, "g", s->inner, ROWS_ALL), u = program_buffer(p, "u", s->inner, ROWS_ALL);
    int last = program_buffer(p, "last", s->hidden, ROWS_WANTED), logits = program_buffer(p, "logits", s->vocab, ROWS_WANTED);
    float *inverse = arena_array(&t->arena, (size_t)s->head_dim / 2, sizeof *inverse);
    for (int i = 0; i < s->head_dim / 2; i++)
        inverse[i] = powf(10000, -2.0f * (float)i / (float)s->head_dim);
    struct rope rope = {.dims = s->head_dim, .interleaved = s->interleaved, .inverse_frequency = inverse, .magnitude = 1};
    int r = program_rope(p, &rope);
    struct state_group group = {.kind = STATE_PAGED, .layers = s->layers, .heads = s->kv_heads, .k_dim = s->head_dim, .v_dim = s->head_dim,
                                .window = s->window};
    int state = program_group(p, &group);
    struct weight embedding = tiny_weight("embedding", s->head_format, s->vocab, s->hidden, 1);
    int e = program_weight(p, &embedding);
    struct op *op = program_add(p, OP_EMBED);
    op->y = x, op->w = e;
    int mixture[5] = {0};
    for (int layer = 0; layer < s->layers; layer++) {
        tiny_norm(t, x, n, 0);
        tiny_linear(t, n, q, s->format);
        tiny_linear(t, n, k, s->format);
        tiny_linear(t, n, v, s->format);
        if (s->qk_norm) {
            tiny_norm(t, q, q, s->head_dim);
            tiny_norm(t, k, k, s->head_dim);
        }
        op = program_add(p, OP_ROPE);
        op->x = q, op->heads = s->heads, op->head_dim = s->head_dim, op->rope = r;
        op = program_add(p, OP_ROPE);
        op->x = k, op->heads = s->kv_heads, op->head_dim = s->head_dim, op->rope = r;
        op = program_add(p, OP_STORE);
        op->x = k, op->z = v, op->group = state, op->layer = layer;
        op = program_add(p, OP_ATTEND);
        op->x = q, op->y = a, op->group = state, op->layer = layer, op->heads = s->heads, op->head_dim = s->head_dim;
        op->scale = 1 / sqrtf((float)s->head_dim), op->cap = s->cap;
        tiny_linear(t, a, o, s->format);
        op = program_add(p, OP_ADD);
        op->x = x, op->z = o, op->y = x;
        tiny_norm(t, x, n, 0);
        if (s->experts) {
            tiny_mixture(t, n, o, mixture);
        } else {
            tiny_linear(t, n, g, s->format);
            tiny_linear(t, n, u, s->format);
            op = program_add(p, OP_GATE);
            op->x = g, op->z = u, op->y = g, op->activation = ACT_SILU;
            tiny_linear(t, g, o, s->format);
        }
        op = program_add(p, OP_ADD);
        op->x = x, op->z = o, op->y = x;
    }
    op = program_add(p, OP_SELECT);
    op->x = x, op->y = last;
    tiny_norm(t, last, last, 0);
    op = program_add(p, OP_LINEAR);
    op->x = last, op->y = logits, op->w = e;
    if (s->cap > 0) {
        op = program_add(p, OP_SCALE);
        op->x = logits, op->y = logits, op->cap = 30;
    }
    program_output(p, "logits", logits);
    program_output(p, "hidden", x);
    t->logits = logits;
    t->hidden = x;
    struct error err = {0};
    cr_assert_eq(program_check(p, &err), STATUS_OK, "%s", err.text);
}

/* A compiled program with a pool of its own; sequences use blocks in a scrambled order. */
enum { TINY_SEQUENCES = 4, TINY_BLOCKS = 16 };
struct tiny_run {
    const struct backend *backend;
    struct compiled *compiled;
    struct compile_sizes sizes;
    struct state_memory state;
    int32_t table[TINY_SEQUENCES][TINY_BLOCKS];
    int64_t cached[TINY_SEQUENCES];
    bool last_only; /* only the last row of each sequence is wanted */
    struct compile_options options;
};

/* Memory for state; the process's own is NaN everywhere: what was never stored must not be used. */
static inline struct state_memory tiny_state(const struct backend *backend, const struct program *p, const struct compile_options *o, int32_t blocks)
{
    struct state_memory memory;
    struct error err = {0};
    const int32_t each[8] = {blocks, blocks, blocks, blocks, blocks, blocks, blocks, blocks};
    cr_assert_eq(backend->state_open(p, o, each, &memory, &err), STATUS_OK, "%s", err.text);
    for (int g = 0; g < 8 && strcmp(backend->name, "cuda"); g++)
        if (memory.pool[g])
            memset(memory.pool[g], 0xFF, memory.bytes[g]);
    return memory;
}

static inline struct compile_options tiny_options(enum storage kv)
{
    return (struct compile_options){.threads = 2, .max_rows = 128, .max_wanted = 128, .max_sequences = TINY_SEQUENCES,
                                    .max_context = TINY_BLOCKS * BLOCK_TOKENS, .k_type = kv, .v_type = kv};
}

static inline void tiny_open(struct tiny_run *run, const struct tiny *t, const struct backend *backend, const struct compile_options *o)
{
    struct error err = {0};
    memset(run, 0, sizeof *run);
    run->backend = backend;
    cr_assert_eq(backend->sizes(&t->p, o, &run->sizes, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(backend->compile(&run->compiled, &t->p, o, &err), STATUS_OK, "%s", err.text);
    run->options = *o;
    run->state = tiny_state(backend, &t->p, o, TINY_SEQUENCES * TINY_BLOCKS);
    for (int i = 0; i < TINY_SEQUENCES * TINY_BLOCKS; i++)
        run->table[i % TINY_SEQUENCES][i / TINY_SEQUENCES] = (i * 37) % (TINY_SEQUENCES * TINY_BLOCKS);
}

static inline void tiny_close(struct tiny_run *run)
{
    run->backend->free(run->compiled);
    run->backend->state_close(&run->options, &run->state);
}

/* Runs counts[s] further tokens of each sequence (its tokens start at tokens[s]), all rows wanted unless run->last_only;
 * the output's rows are copied to out[s]. */
static inline void tiny_step(struct tiny_run *run, const struct tiny *t, int output, const int *counts, const int32_t *const *tokens,
                             float *const *out)
{
    static struct batch_row rows[128];
    static int32_t wanted[128];
    struct batch_sequence sequences[TINY_SEQUENCES];
    const int32_t *blocks[TINY_SEQUENCES][1];
    int which[TINY_SEQUENCES];
    struct batch b = {.row = rows, .sequence = sequences, .wanted_rows = wanted};
    for (int s = 0; s < TINY_SEQUENCES; s++) {
        if (!counts[s])
            continue;
        blocks[b.sequences][0] = run->table[s];
        which[b.sequences] = s;
        sequences[b.sequences] = (struct batch_sequence){b.rows, counts[s], run->cached[s], blocks[b.sequences], -1, 0};
        for (int i = 0; i < counts[s]; i++, b.rows++) {
            rows[b.rows] = (struct batch_row){tokens[s][i], NULL, run->cached[s] + i, b.sequences};
            if (!run->last_only || i == counts[s] - 1)
                wanted[b.wanted++] = b.rows;
        }
        run->cached[s] += counts[s];
        b.sequences++;
    }
    const float *result;
    struct error err = {0};
    cr_assert_eq(run->backend->step(run->compiled, &b, &run->state, output, &result, &err), STATUS_OK, "%s", err.text);
    int64_t width = t->p.buffers[output].width;
    for (int i = 0; i < b.sequences; i++) {
        int64_t count = run->last_only ? 1 : sequences[i].rows;
        memcpy(out[which[i]], result, (size_t)(count * width) * sizeof(float));
        result += count * width;
    }
}

/* |a - b| / |b| */
static inline double tiny_error(const float *a, const float *b, int64_t n)
{
    double d = 0, s = 1e-30;
    for (int64_t i = 0; i < n; i++)
        d += ((double)a[i] - b[i]) * ((double)a[i] - b[i]), s += (double)b[i] * b[i];
    return isfinite(d) ? sqrt(d / s) : INFINITY;
}

#endif
