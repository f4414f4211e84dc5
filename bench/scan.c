/* Scans alone: SCAN of all layers, beside the roof of reading memory.
 *
 *   bench_scan [-m delta|mamba2] [-p ROWS] [-t THREADS] [-r REPEATS]
 *
 * Shapes of Qwen 3 Next 80B and of Mamba 2 2.7B. decode: one row, from one slot to another as the engine does; counted is S, read and
 * written once. prompt: ROWS rows in one step; counted are the multiplications and additions that the recurrence needs. Medians. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/team.h"
#include "kernels/ops.h"
#include "runtime/ingot.h"

struct shape {
    const char *name;
    struct scan scan;
    int layers;
};
static const struct shape shapes[] = {
    {"delta", {.heads = 32, .key_heads = 16, .k_dim = 128, .v_dim = 128, .delta = true, .normalised = true, .dt_most = INFINITY}, 36},
    {"mamba2", {.heads = 80, .key_heads = 1, .k_dim = 128, .v_dim = 64, .dt_most = INFINITY}, 64},
};

static struct arena arena;

static float noise(void)
{
    static uint64_t seed = 88172645463325252u;
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (float)(seed >> 40) / 0x800000 - 1;
}

static int matrix(struct program *p, int64_t out, int64_t in)
{
    float *values = arena_array(&arena, (size_t)(out * in), sizeof *values);
    for (int64_t i = 0; i < out * in; i++)
        values[i] = noise();
    struct weight w = {.name = "noise", .format = STORAGE_F32, .out = out, .in = in, .row_bytes = in * 4, .experts = 1, .shard_axis = -1};
    w.data = (const unsigned char *)values;
    return program_weight(p, &w);
}

static void build(struct program *p, const struct shape *s)
{
    const struct scan *scan = &s->scan;
    int64_t keys = (int64_t)scan->key_heads * scan->k_dim, values = (int64_t)scan->heads * scan->v_dim;
    *p = (struct program){.arena = &arena, .vocab = 64};
    struct state_group g = {.kind = STATE_RECURRENT, .layers = s->layers, .values = values * scan->k_dim};
    struct scan placed = *scan;
    placed.k = keys, placed.v = 2 * keys;
    int group = program_group(p, &g), id = program_scan(p, &placed), x = program_buffer(p, "x", 2 * keys + values, ROWS_ALL);
    int z = program_buffer(p, "z", scan->heads * (scan->delta ? 2 : 1), ROWS_ALL), y = program_buffer(p, "y", values, ROWS_ALL);
    for (int i = 0; i < 2; i++) {
        struct op *op = program_add(p, OP_EMBED);
        op->y = i ? z : x, op->w = matrix(p, 64, p->buffers[op->y].width);
    }
    int parameters = matrix(p, 3, scan->heads);
    for (int h = 0; h < scan->heads; h++)
        ((float *)(uintptr_t)p->weights[parameters].data)[h] = -0.01f;
    for (int layer = 0; layer < s->layers; layer++) {
        struct op *op = program_add(p, OP_SCAN);
        op->x = x, op->z = z, op->y = y, op->w = parameters, op->scan = id, op->group = group, op->layer = layer;
    }
    program_output(p, "y", y);
}

static const struct backend *backend;
static struct compiled *compiled;
static struct state_memory state;

static double step(int rows, int64_t cached, int32_t from)
{
    struct batch_row row[1024];
    int32_t wanted = rows - 1, slots[2] = {from, 1 - from};
    const int32_t *blocks[] = {slots};
    for (int i = 0; i < rows; i++)
        row[i] = (struct batch_row){.token = (i * 7 + (int)cached) % 64, .position = cached + i};
    struct batch_sequence s = {.rows = rows, .cached = cached, .blocks = blocks, .adapter = -1};
    struct batch b = {.rows = rows, .sequences = 1, .wanted = 1, .row = row, .sequence = &s, .wanted_rows = &wanted};
    const float *result;
    struct error err;
    double begin = clock_seconds();
    if (backend->step(compiled, &b, &state, -1, &result, &err))
        exit(1);
    return clock_seconds() - begin;
}

static int compare(const void *a, const void *b) { return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b); }

int main(int argc, char **argv)
{
    const struct shape *shape = &shapes[0];
    int rows = 256, threads = 0, repeats = 15;
    for (int c; (c = getopt(argc, argv, "m:p:t:r:")) != -1;) {
        int n = optarg ? atoi(optarg) : 0;
        if (c == 'm')
            shape = strcmp(optarg, "mamba2") ? &shapes[0] : &shapes[1];
        else if (c == 'p')
            rows = n > 1024 ? 1024 : n;
        else if (c == 't')
            threads = n;
        else if (c == 'r')
            repeats = n > 64 ? 64 : n;
        else
            return 2;
    }
    struct program p;
    build(&p, shape);
    struct compile_options o = {.threads = threads, .max_rows = rows, .max_wanted = 1, .max_sequences = 1, .max_context = 1 << 20, .k_type = STORAGE_F32, .v_type = STORAGE_F32};
    struct error err = {0};
    if (!(backend = backend_cpu(&err)) || program_check(&p, &err) || backend->compile(&compiled, &p, &o, &err) ||
        backend->state_open(&p, &o, (const int32_t[]){2}, &state, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    double decode[64], prompt[64], read[64];
    step(rows, 0, 1);
    step(1, rows, 0);
    for (int r = 0; r < repeats; r++) {
        read[r] = ingot_read_bandwidth(INGOT_PAGES_HUGE, threads ? threads : team_cores()) / 1e9;
        decode[r] = step(1, 1000 + r, r & 1);
        prompt[r] = step(rows, 1000 + r, r & 1);
    }
    qsort(read, (size_t)repeats, sizeof *read, compare);
    qsort(decode, (size_t)repeats, sizeof *decode, compare);
    qsort(prompt, (size_t)repeats, sizeof *prompt, compare);
    double s = (double)state.bytes[0] / 2, d = decode[repeats / 2], f = prompt[repeats / 2], roof = read[repeats / 2];
    printf("%s, %s, %d threads: S %.1f MB in %d layers; read roof %.1f GB/s\n", shape->name, cpu_isa_name(), threads ? threads : team_cores(), s / 1e6, shape->layers, roof);
    printf("decode: %.2f ms, S read and written at %.1f GB/s\n", d * 1e3, 2 * s / d / 1e9);
    printf("prompt of %d: %.1f ms, %.0f us a row, %.1f GFLOP/s\n", rows, f * 1e3, f / rows * 1e6, (shape->scan.delta ? 8.0 : 5.0) * s / 4 * rows / f / 1e9);
    return 0;
}
