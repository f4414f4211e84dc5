/* Attention alone: STORE and ATTEND of all layers over a cache of random values, beside the roof of reading memory.
 *
 *   bench_attend [-m 135m|1b|8l] [-k K[,V]] [-d DEPTH] [-p ROWS] [-t THREADS] [-r REPEATS]
 *
 * decode: one row with DEPTH tokens in the cache; counted are the bytes of K and V. prompt: ROWS rows behind DEPTH tokens, in
 * one step; counted are the multiplications and additions that causal attention needs. Medians over the repeats. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/team.h"
#include "runtime/ingot.h"
#include "kernels/ops.h"

struct shape {
    const char *name;
    int heads, kv_heads, head_dim, layers;
};
static const struct shape shapes[] = {{"135m", 9, 3, 64, 30}, {"1b", 32, 8, 64, 16}, {"8l", 32, 8, 128, 32}};

static struct arena arena;
static uint64_t seed = 88172645463325252u;

static float next_random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (float)(seed >> 40) / 0x800000 - 1;
}

static int build(struct program *p, const struct shape *s)
{
    p->arena = &arena;
    p->vocab = 1;
    int wide = s->heads * s->head_dim, narrow = s->kv_heads * s->head_dim;
    int q = program_buffer(p, "q", wide, ROWS_ALL), k = program_buffer(p, "k", narrow, ROWS_ALL), v = program_buffer(p, "v", narrow, ROWS_ALL);
    int y = program_buffer(p, "y", wide, ROWS_ALL), into[3] = {q, k, v};
    struct state_group group = {.kind = STATE_PAGED, .layers = s->layers, .heads = s->kv_heads, .k_dim = s->head_dim, .v_dim = s->head_dim};
    int state = program_group(p, &group);
    for (int i = 0; i < 3; i++) { /* rows are given as embeddings: the weight is never read */
        struct weight w = {.name = "rows", .format = STORAGE_F32, .out = 1, .in = p->buffers[into[i]].width, .experts = 1, .shard_axis = -1};
        w.row_bytes = w.in * 4;
        w.data = arena_array(&arena, (size_t)w.in, 4);
        int id = program_weight(p, &w);
        struct op *op = program_add(p, OP_EMBED);
        op->y = into[i], op->w = id;
    }
    for (int layer = 0; layer < s->layers; layer++) {
        struct op *op = program_add(p, OP_STORE);
        op->x = k, op->z = v, op->group = state, op->layer = layer;
        op = program_add(p, OP_ATTEND);
        op->x = q, op->y = y, op->group = state, op->layer = layer, op->heads = s->heads, op->head_dim = s->head_dim;
        op->scale = 1 / sqrtf((float)s->head_dim);
    }
    program_output(p, "y", y);
    return y;
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

static enum storage type_of(const char *name, size_t size)
{
    if (size == 3 && !strncmp(name, "fp8", 3))
        return STORAGE_F8_E4M3;
    for (int i = 0; i < STORAGE_COUNT; i++)
        if (strlen(storage_types[i].name) == size && !strncasecmp(storage_types[i].name, name, size))
            return (enum storage)i;
    fprintf(stderr, "unknown type %s\n", name);
    exit(2);
}

static const struct backend *backend;
static struct compiled *compiled;
static struct state_memory state;
static int32_t *table;

static double step(const float *embeddings, int64_t width, int64_t cached, int rows, int output)
{
    static struct batch_row row[8192];
    for (int i = 0; i < rows; i++)
        row[i] = (struct batch_row){-1, embeddings + i * width, cached + i, 0};
    const int32_t *blocks[1] = {table};
    struct batch_sequence s = {.rows = rows, .cached = cached, .blocks = blocks, .adapter = -1};
    int32_t wanted[1] = {rows - 1};
    struct batch b = {.rows = rows, .sequences = 1, .wanted = 1, .row = row, .sequence = &s, .wanted_rows = wanted};
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
    const struct shape *shape = &shapes[1];
    enum storage k_type = STORAGE_F16, v_type = STORAGE_F16;
    int prompt = 512, depth = 4096, threads = 0, repeats = 9;
    for (int c; (c = getopt(argc, argv, "m:k:p:d:t:r:")) != -1;) {
        int n = atoi(optarg);
        const char *comma = strchr(optarg, ',');
        switch (c) {
        case 'm':
            for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
                if (!strcmp(optarg, shapes[i].name))
                    shape = &shapes[i];
            break;
        case 'k':
            k_type = v_type = type_of(optarg, comma ? (size_t)(comma - optarg) : strlen(optarg));
            if (comma)
                v_type = type_of(comma + 1, strlen(comma + 1));
            break;
        case 'p': prompt = n > 8192 ? 8192 : n; break;
        case 'd': depth = n; break;
        case 't': threads = n; break;
        case 'r': repeats = n > 64 ? 64 : n; break;
        default: return 2;
        }
    }
    struct program p = {0};
    int output = build(&p, shape), team = threads ? threads : team_cores();
    int64_t width = p.buffers[0].width, context = depth + (prompt > 1 ? prompt : 1) + BLOCK_TOKENS;
    struct compile_options o = {.threads = threads, .max_rows = prompt > 1 ? prompt : 1, .max_wanted = 1, .max_sequences = 1,
                                .max_context = context, .k_type = k_type, .v_type = v_type, .deterministic = getenv("DETERMINISTIC") != NULL};
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
    if (state.pool[0] == MAP_FAILED)
        return 1;
    madvise(state.pool[0], state_bytes, MADV_HUGEPAGE); /* as the engine does */
    int64_t values = 2 * (int64_t)shape->layers * shape->kv_heads * shape->head_dim, most = prompt > 1 ? prompt : 1;
    float *token = malloc((size_t)values * sizeof *token), *embeddings = malloc((size_t)(most * width) * sizeof *embeddings);
    for (int32_t t = 0; t < depth + 1; t++) {
        for (int64_t i = 0; i < values; i++)
            token[i] = next_random();
        backend->write_state(compiled, &state, 0, table[t / BLOCK_TOKENS], t % BLOCK_TOKENS, 1, token, &err);
    }
    for (int64_t i = 0; i < most * width; i++)
        embeddings[i] = next_random();
    double read[64], decode[64], prefill[64];
    for (int r = 0; r < repeats; r++) {
        read[r] = ingot_read_bandwidth(INGOT_PAGES_HUGE, team) / 1e9;
        step(embeddings, width, depth, 1, output);
        decode[r] = step(embeddings, width, depth, 1, output);
        prefill[r] = prompt ? step(embeddings, width, depth, prompt, output) : 0;
    }
    double roof = median(read, repeats), d = median(decode, repeats), f = median(prefill, repeats);
    double bytes = (double)sizes.block_bytes[0] / BLOCK_TOKENS * (depth + 1);
    double products = 4.0 * shape->layers * shape->heads * shape->head_dim * prompt * (depth + (prompt + 1) / 2.0);
    printf("%s %s/%s, %d threads, %.0f MB at %d; read roof %.1f GB/s\n", shape->name, storage_types[k_type].name, storage_types[v_type].name, team,
           bytes / 1e6, depth, roof);
    printf("decode: %.3f ms (best %.3f), %.1f GB/s, %.0f %% of the read roof\n", d * 1e3, decode[0] * 1e3, bytes / d / 1e9, bytes / d / 1e7 / roof);
    if (prompt)
        printf("prompt of %d: %.1f ms (best %.1f), %.0f GFLOP/s\n", prompt, f * 1e3, prefill[0] * 1e3, products / f / 1e9);
    return 0;
}
