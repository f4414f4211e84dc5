/* Speed of the CPU backend on random weights of a given shape, beside the roofs of the machine in the same run.
 *
 *   bench_kernels [-m 135m|1b|8l] [-f FORMAT] [-p ROWS] [-n TOKENS] [-d DEPTH] [-t THREADS] [-k F16|BF16|F32] [-r REPEATS]
 *
 * decode: TOKENS single rows at depth DEPTH; prefill: one step of ROWS rows. Roofs: reading pages of the same kind with
 * all threads, and multiply-adds of int8 in registers. Medians over the repeats, each of which does all in turn. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/team.h"
#include "kernels/formats/small.h"
#include "kernels/ops.h"
#include "runtime/ingot.h"

struct shape {
    const char *name;
    int hidden, heads, kv_heads, head_dim, inner, layers, vocab;
};

static const struct shape shapes[] = {
    {"135m", 576, 9, 3, 64, 1536, 30, 49152},
    {"1b", 2048, 32, 8, 64, 8192, 16, 49152},
    {"8l", 4096, 32, 8, 128, 14336, 4, 49152}, /* four layers of an 8B model */
};

static struct arena arena;
static unsigned char *pool;
static size_t used, pool_bytes = (size_t)3 << 30;
static uint64_t seed = 88172645463325252u;

static uint32_t next_random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 32);
}

static int weight(struct program *p, enum storage format, int64_t out, int64_t in)
{
    const struct storage_type *t = &storage_types[format];
    struct weight w = {.name = "random", .format = format, .out = out, .in = in, .experts = 1, .shard_axis = -1};
    w.row_bytes = in / t->block_elements * t->block_bytes;
    size_t bytes = (size_t)(w.row_bytes * out);
    unsigned char *data = pool + used;
    used += (bytes + 31) / 32 * 32; /* as GGUF aligns tensors */
    if (used > pool_bytes) {
        fprintf(stderr, "the model is too large for this bench\n");
        exit(1);
    }
    if (format_find(format)->encode) { /* 64 rows, again and again */
        float *values = malloc((size_t)in * sizeof *values);
        for (int64_t row = 0; row < out && row < 64; row++) {
            for (int64_t i = 0; i < in; i++)
                values[i] = ((float)(next_random() & 0xFFFF) / 32768.0f - 1.0f) / sqrtf((float)in);
            format_find(format)->encode(values, NULL, data + row * w.row_bytes, in);
        }
        for (int64_t row = 64; row < out; row++)
            memcpy(data + row * w.row_bytes, data + row % 64 * w.row_bytes, (size_t)w.row_bytes);
        free(values);
    } else {
        for (size_t i = 0; i + 4 <= bytes; i += 4) {
            uint32_t r = next_random();
            memcpy(data + i, &r, 4);
        }
        int halves[3] = {0, format == STORAGE_Q4_1 || format == STORAGE_Q5_1 || format == STORAGE_Q4_K || format == STORAGE_Q5_K ? 2 : -1, -1};
        if (format == STORAGE_Q6_K)
            halves[0] = 208;
        if (format == STORAGE_Q3_K)
            halves[0] = 108;
        if (format == STORAGE_Q2_K)
            halves[0] = 80, halves[1] = 82;
        if (format == STORAGE_IQ1_M)
            halves[0] = -1;
        for (size_t at = 0; format == STORAGE_IQ1_M && at < bytes; at += 56) /* d = 2^-11: a nibble in each of the last four words */
            for (int i = 0; i < 4; i++)
                data[at + 49 + 2 * (size_t)i] = (unsigned char)((data[at + 49 + 2 * i] & 15) | (0x1000 >> 4 * i & 15) << 4);
        for (size_t at = 0; at < bytes; at += (size_t)t->block_bytes)
            for (int *h = halves; *h >= 0; h++) {
                uint16_t half = float_to_half(0.0002f * (float)(1 + next_random() % 4));
                memcpy(data + at + *h, &half, 2);
            }
    }
    w.data = data;
    return program_weight(p, &w);
}

static int vector(struct program *p, int64_t n)
{
    float *v = arena_array(&arena, (size_t)n, sizeof *v);
    for (int64_t i = 0; i < n; i++)
        v[i] = 1;
    struct weight w = {.name = "norm", .format = STORAGE_F32, .out = 1, .in = n, .data = (unsigned char *)v, .row_bytes = n * 4, .experts = 1, .shard_axis = -1};
    return program_weight(p, &w);
}

static void norm(struct program *p, int x, int y)
{
    int w = vector(p, p->buffers[x].width);
    struct op *op = program_add(p, OP_NORM);
    op->x = x, op->y = y, op->w = w, op->epsilon = 1e-5f;
}

static void linear(struct program *p, enum storage format, int x, int y)
{
    int w = weight(p, format, p->buffers[y].width, p->buffers[x].width);
    struct op *op = program_add(p, OP_LINEAR);
    op->x = x, op->y = y, op->w = w;
}

static int build(struct program *p, const struct shape *s, enum storage format)
{
    p->arena = &arena;
    p->vocab = s->vocab;
    int wide = s->heads * s->head_dim, narrow = s->kv_heads * s->head_dim;
    int x = program_buffer(p, "x", s->hidden, ROWS_ALL), n = program_buffer(p, "n", s->hidden, ROWS_ALL);
    int q = program_buffer(p, "q", wide, ROWS_ALL), k = program_buffer(p, "k", narrow, ROWS_ALL), v = program_buffer(p, "v", narrow, ROWS_ALL);
    int a = program_buffer(p, "a", wide, ROWS_ALL), o = program_buffer(p, "o", s->hidden, ROWS_ALL);
    int g = program_buffer(p, "g", s->inner, ROWS_ALL), u = program_buffer(p, "u", s->inner, ROWS_ALL);
    int last = program_buffer(p, "last", s->hidden, ROWS_WANTED), logits = program_buffer(p, "logits", s->vocab, ROWS_WANTED);
    float *inverse = arena_array(&arena, (size_t)s->head_dim / 2, sizeof *inverse);
    for (int i = 0; i < s->head_dim / 2; i++)
        inverse[i] = powf(10000, -2.0f * (float)i / (float)s->head_dim);
    struct rope rope = {.dims = s->head_dim, .inverse_frequency = inverse, .magnitude = 1};
    int r = program_rope(p, &rope);
    struct state_group group = {.kind = STATE_PAGED, .layers = s->layers, .heads = s->kv_heads, .k_dim = s->head_dim, .v_dim = s->head_dim};
    int state = program_group(p, &group);
    int e = weight(p, format, s->vocab, s->hidden); /* tied with the head */
    struct op *op = program_add(p, OP_EMBED);
    op->y = x, op->w = e;
    for (int layer = 0; layer < s->layers; layer++) {
        norm(p, x, n);
        linear(p, format, n, q);
        linear(p, format, n, k);
        linear(p, format, n, v);
        op = program_add(p, OP_ROPE);
        op->x = q, op->heads = s->heads, op->head_dim = s->head_dim, op->rope = r;
        op = program_add(p, OP_ROPE);
        op->x = k, op->heads = s->kv_heads, op->head_dim = s->head_dim, op->rope = r;
        op = program_add(p, OP_STORE);
        op->x = k, op->z = v, op->group = state, op->layer = layer;
        op = program_add(p, OP_ATTEND);
        op->x = q, op->y = a, op->group = state, op->layer = layer, op->heads = s->heads, op->head_dim = s->head_dim;
        op->scale = 1 / sqrtf((float)s->head_dim);
        linear(p, format, a, o);
        op = program_add(p, OP_ADD);
        op->x = x, op->z = o, op->y = x;
        norm(p, x, n);
        linear(p, format, n, g);
        linear(p, format, n, u);
        op = program_add(p, OP_GATE);
        op->x = g, op->z = u, op->y = g, op->activation = ACT_SILU;
        linear(p, format, g, o);
        op = program_add(p, OP_ADD);
        op->x = x, op->z = o, op->y = x;
    }
    op = program_add(p, OP_SELECT);
    op->x = x, op->y = last;
    norm(p, last, last);
    op = program_add(p, OP_LINEAR);
    op->x = last, op->y = logits, op->w = e;
    program_output(p, "logits", logits);
    return logits;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, ascending);
    return v[n / 2];
}

static const struct backend *backend;
static struct compiled *compiled;
static struct state_memory state;
static int32_t *table;

static double step(int64_t cached, int rows, int output)
{
    static struct batch_row row[8192];
    for (int i = 0; i < rows; i++)
        row[i] = (struct batch_row){(int32_t)(next_random() % 1000), NULL, cached + i, 0};
    const int32_t *blocks[1] = {table};
    struct batch_sequence s = {.rows = rows, .cached = cached, .blocks = blocks, .adapter = -1};
    int32_t wanted[1] = {rows - 1};
    struct batch b = {.rows = rows, .sequences = 1, .wanted = output >= 0 ? 1 : 0, .row = row, .sequence = &s, .wanted_rows = wanted};
    const float *result;
    struct error err = {0};
    double from = clock_seconds();
    if (backend->step(compiled, &b, &state, output, &result, &err)) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    return clock_seconds() - from;
}

int main(int argc, char **argv)
{
    const struct shape *shape = &shapes[0];
    enum storage format = STORAGE_Q8_0, kv = STORAGE_F16;
    int prompt = 512, tokens = 64, depth = 0, threads = 0, repeats = 5;
    for (int c; (c = getopt(argc, argv, "m:f:p:n:d:t:k:r:")) != -1;) {
        int n = atoi(optarg);
        switch (c) {
        case 'm':
            for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
                if (!strcmp(optarg, shapes[i].name))
                    shape = &shapes[i];
            break;
        case 'f':
        case 'k':
            for (int i = 0; i < STORAGE_COUNT; i++)
                if (!strcmp(optarg, storage_types[i].name))
                    *(c == 'f' ? &format : &kv) = (enum storage)i;
            break;
        case 'p': prompt = n > 8192 ? 8192 : n; break;
        case 'n': tokens = n; break;
        case 'd': depth = n; break;
        case 't': threads = n; break;
        case 'r': repeats = n > 64 ? 64 : n; break;
        default: return 2;
        }
    }
    pool = mmap(NULL, pool_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pool == MAP_FAILED)
        return 1;
    if (getenv("HUGE"))
        madvise(pool, pool_bytes, MADV_HUGEPAGE);
    struct program p = {0};
    int logits = build(&p, shape, format);
    int64_t context = prompt > depth + tokens ? prompt : depth + tokens;
    struct compile_options o = {.threads = threads, .max_rows = prompt > 1 ? prompt : 1, .max_wanted = 1, .max_sequences = 1,
                                .max_context = context + 16, .k_type = kv, .v_type = kv, .deterministic = getenv("DETERMINISTIC") != NULL};
    struct error err = {0};
    struct compile_sizes sizes;
    if (!(backend = backend_cpu(&err)) || program_check(&p, &err) || backend->sizes(&p, &o, &sizes, &err) ||
        backend->compile(&compiled, &p, &o, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    int32_t blocks = (int32_t)(context / BLOCK_TOKENS + 2);
    table = malloc((size_t)blocks * sizeof *table);
    for (int32_t i = 0; i < blocks; i++)
        table[i] = i;
    size_t state_bytes = sizes.block_bytes[0] * (size_t)blocks;
    state.pool[0] = mmap(NULL, state_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(state.pool[0], 0, state_bytes);
    int team = threads ? threads : team_cores();
    char line[500];
    backend->describe(compiled, line, sizeof line);
    double weights = 0, products = 0;
    for (int i = 0; i < p.weight_count; i++) {
        const struct weight *w = &p.weights[i];
        if (w->out > 1) {
            weights += (double)w->row_bytes * (double)w->out;
            products += i ? 2.0 * (double)w->out * (double)w->in : 0; /* the head runs for one row only */
        }
    }
    printf("%s %s: %.0f MB of weights, %.2f GOP per prompt token; %s; scratch %.1f MB\n", shape->name, storage_types[format].name, weights / 1e6,
           products / 1e9, line, (double)sizes.scratch_bytes / 1e6);
    double read[64], rate[64], decode[64], prefill[64];
    for (int r = 0; r < repeats; r++) {
        read[r] = ingot_read_bandwidth(getenv("HUGE") ? INGOT_PAGES_HUGE : INGOT_PAGES_SMALL, team) / 1e9;
        decode[r] = 0;
        if (tokens) {
            step(depth, 1, logits);
            double from = clock_seconds();
            for (int i = 0; i < tokens; i++)
                step(depth + i, 1, logits);
            decode[r] = (clock_seconds() - from) / tokens;
        }
        rate[r] = cpu_peak(PEAK_INT8, team) / 1e9;
        prefill[r] = prompt ? step(0, prompt, logits) : 0;
    }
    double bandwidth = median(read, repeats), ops = median(rate, repeats), d = median(decode, repeats), f = median(prefill, repeats);
    printf("roofs: read %.1f GB/s, int8 %.0f GOP/s\n", bandwidth, ops);
    if (tokens)
        printf("decode at %d: %.1f tok/s (best %.1f), %.1f GB/s, %.0f %% of the read roof\n", depth, 1 / d, 1 / decode[0], weights / d / 1e9,
               100 * weights / d / 1e9 / bandwidth);
    if (prompt)
        printf("prefill %d: %.1f tok/s (best %.1f), %.0f GOP/s, %.0f %% of the int8 roof\n", prompt, prompt / f, prompt / prefill[0],
               products * prompt / f / 1e9, 100 * products * prompt / f / 1e9 / ops);
    return 0;
}
