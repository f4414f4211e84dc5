/* A few rows of activations (-r, 1) times a matrix that stays in the second-level cache, on one core: what a format's kernel itself
 * does, for every instruction set; the time of 256 weights for each row. Time is the thread's own, so that it can be measured beside
 * others; the best of many runs.
 *
 *   bench_gemv [-k COLUMNS] [-r ROWS] [-g libggml-cpu.so] [FORMAT ...]
 *
 * -g also times llama.cpp's dot product of the same bytes (its own activations, quantised beforehand as ours are). */
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "kernels/cpu/cpu.h"
#include "kernels/formats/small.h"

enum { ROWS = 256, RUNS = 160, MOST_ROWS = 64 };

static double own_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Encoded where that is possible, else random bits with a small scale. */
static unsigned char *fill(enum storage format, int64_t columns, const float *values, int64_t row_bytes)
{
    const struct storage_type *t = &storage_types[format];
    unsigned char *data = malloc((size_t)(row_bytes * ROWS));
    for (int64_t i = 0; i < row_bytes * ROWS; i++)
        data[i] = (unsigned char)(rand() >> 7);
    for (int row = 0; format_find(format)->encode && row < ROWS; row++)
        format_find(format)->encode(values, NULL, data + row * row_bytes, columns);
    static const int half_at[STORAGE_COUNT] = {[STORAGE_Q2_K] = 80, [STORAGE_Q3_K] = 108, [STORAGE_Q6_K] = 208};
    for (int64_t at = 0; !format_find(format)->encode && at < row_bytes * ROWS; at += t->block_bytes) {
        uint16_t half = float_to_half(0.01f);
        memcpy(data + at + half_at[format], &half, 2);
        if (format == STORAGE_Q4_1 || format == STORAGE_Q5_1 || format == STORAGE_Q4_K || format == STORAGE_Q5_K || format == STORAGE_Q2_K)
            memcpy(data + at + half_at[format] + 2, &half, 2);
        for (int i = 0; format == STORAGE_IQ1_M && i < 4; i++) /* a nibble in each of the last four words */
            data[at + 49 + 2 * i] = (unsigned char)((data[at + 49 + 2 * i] & 15) | (0x1000 >> 4 * i & 15) << 4);
    }
    return data;
}

static void report(const char *name, double best, const struct weight *w, int32_t rows)
{
    printf("  %s %.2f ns %.1f GB/s", name, best / (double)(ROWS * w->in / 256 * rows) * 1e9, (double)(ROWS * w->row_bytes) / best / 1e9);
}

/* x: one row, which stands for all of them */
static void ours(const struct isa *isa, const struct weight *w, float *x, int32_t rows)
{
    const struct linear_kernel *l = isa->linear(w->format);
    float y[ROWS * MOST_ROWS];
    int32_t row[MOST_ROWS];
    struct input in;
    unsigned char *memory = aligned_alloc(64, (input_bytes(w->in, rows, l->few_forms) + 127) / 64 * 64);
    void *scratch = aligned_alloc(64, (l->scratch_bytes(w->in, rows) + 127) / 64 * 64);
    input_place(&in, memory, w->in, rows, l->few_forms);
    in.from = in.row = row, in.floats = x, in.float_stride = 0;
    for (int32_t i = 0; i < rows; i++) {
        row[i] = i;
        isa->quantise(&in, i);
    }
    double best = 1e9;
    for (int run = 0; run < RUNS; run++) {
        double from = own_seconds();
        l->few(w, 0, ROWS, &in, y, ROWS, scratch);
        best = fmin(best, own_seconds() - from);
    }
    report(isa->name, best, w, rows);
    free(memory), free(scratch);
}

/* ggml-cpu.h's struct ggml_type_traits_cpu */
struct peer {
    void (*from_float)(const float *, void *, int64_t);
    void (*dot)(int, float *, size_t, const void *, size_t, const void *, size_t, int);
    int activations;
    int64_t rows;
};

static void theirs(const struct peer *(*traits)(int), const struct weight *w, const float *x)
{
    const struct peer *p = traits(storage_types[w->format].gguf);
    if (!p || !p->dot)
        return;
    void *q = malloc((size_t)w->in * 8);
    float y;
    traits(p->activations)->from_float(x, q, w->in);
    double best = 1e9;
    for (int run = 0; run < RUNS; run++) {
        double from = own_seconds();
        for (int row = 0; row < ROWS; row++)
            p->dot((int)w->in, &y, 0, w->data + row * w->row_bytes, 0, q, 0, 1);
        best = fmin(best, own_seconds() - from);
    }
    report("ggml", best, w, 1);
    free(q);
}

int main(int argc, char **argv)
{
    int64_t columns = 2048;
    int32_t rows = 1;
    const struct peer *(*traits)(int) = NULL;
    for (int c; (c = getopt(argc, argv, "k:r:g:")) != -1;) {
        if (c == 'k') {
            columns = atoi(optarg) / 256 * 256;
        } else if (c == 'r') {
            rows = atoi(optarg) > 0 && atoi(optarg) <= MOST_ROWS ? atoi(optarg) : 1;
        } else if (c == 'g') {
            void *library = dlopen(optarg, RTLD_NOW);
            void (*init)(void) = library ? (void (*)(void))dlsym(library, "ggml_cpu_init") : NULL;
            traits = library ? (const struct peer *(*)(int))dlsym(library, "ggml_get_type_traits_cpu") : NULL;
            if (!init || !traits) {
                fprintf(stderr, "%s: %s\n", optarg, library ? "not ggml's CPU library" : dlerror());
                return 1;
            }
            init();
        } else {
            return 2;
        }
    }
    float *x = malloc((size_t)columns * sizeof *x);
    for (int64_t i = 0; i < columns; i++)
        x[i] = sinf((float)i * 1.1f);
    for (int f = 0; f < STORAGE_COUNT; f++) {
        bool wanted = optind == argc && format_find((enum storage)f) && storage_types[f].block_elements > 1;
        for (int i = optind; i < argc; i++)
            wanted |= !strcmp(argv[i], storage_types[f].name) && format_find((enum storage)f);
        if (!wanted)
            continue;
        const struct storage_type *t = &storage_types[f];
        struct weight w = {.name = t->name, .format = (enum storage)f, .out = ROWS, .in = columns, .experts = 1,
                           .row_bytes = columns / t->block_elements * t->block_bytes};
        unsigned char *data = fill(w.format, columns, x, w.row_bytes);
        w.data = data;
        printf("%-8s", t->name);
        static const char *const names[] = {"scalar", "avx2", "avx512-vnni", "neon"};
        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
            if (isa_find(names[i]))
                ours(isa_find(names[i]), &w, x, rows);
        if (traits)
            theirs(traits, &w, x);
        puts("");
        free(data);
    }
    free(x);
    return 0;
}
