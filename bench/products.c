/* LINEAR of many rows on a card by each of the products that kernels/cuda/products.def chooses among: a line for each class of it, rows
 * and shape as real models have them, in microseconds.
 *
 *   bench_products [-q] [-d DEVICE] [-s SECONDS]     -q: the smallest classes alone, with small shapes, to see that it runs
 *
 * Sixteen LINEARs of two weights in turns over two inputs in turns, so that nothing is fused and a step's own costs are shared by all;
 * making bf16 of the input is part of the time, as it is in a model. The best of the steps that fit. Classes that were not reached in
 * time are absent. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "kernels/cuda/cuda.h"

enum { LINEARS = 16, TOKENS = 61, STEPS = 5 };
static const char *const products[] = {"mma.sync", "warpgroups", "cuBLAS"}; /* enum product */

static const struct class {
    const char *name, *bits, *rows, *outs, *in;
    size_t at; /* in struct tuning */
} classes[] = {
#define PRODUCT(bits, rows, outs, in, standard) {#bits "_" #rows "_" #outs "_" #in, #bits, #rows, #outs, #in, offsetof(struct tuning, bits##_##rows##_##outs##_##in)},
#include "kernels/cuda/products.def"
#undef PRODUCT
};
enum { CLASSES = sizeof classes / sizeof *classes };

static _Noreturn void give_up(const char *words)
{
    fprintf(stderr, "bench_products: %s\n", words);
    exit(1);
}

static uint64_t seed = 88172645463325252u;

static uint32_t random_word(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 32);
}

/* Random codes with small scales: d, and dmin, are the block's first halves. */
static struct weight draw(enum storage format, int64_t out, int64_t in)
{
    const struct storage_type *t = &storage_types[format];
    struct weight w = {.name = "weight", .format = format, .out = out, .in = in, .experts = 1, .shard_axis = -1};
    const uint16_t small = 0x2000; /* 2^-7 as f16 */
    w.row_bytes = in / t->block_elements * t->block_bytes;
    size_t bytes = (size_t)(w.row_bytes * out);
    unsigned char *data = malloc(bytes);
    if (!data)
        give_up("no memory");
    for (size_t i = 0; i + 4 <= bytes; i += 4) {
        uint32_t word = random_word();
        if (format == STORAGE_BF16) /* between 2^-8 and 2^-7 */
            word = (word & 0x807F807F) | 0x3B803B80;
        memcpy(data + i, &word, 4);
    }
    for (size_t i = 0; format != STORAGE_BF16 && i < bytes; i += (size_t)t->block_bytes)
        for (int k = 0; k < (format == STORAGE_Q4_K ? 2 : 1); k++)
            memcpy(data + i + 2 * k, &small, 2);
    w.data = data;
    return w;
}

static struct compiled *open_program(const struct backend *cuda, struct program *p, enum storage format, int64_t out, int64_t in, int32_t rows, int device)
{
    struct weight weights[] = {draw(STORAGE_BF16, TOKENS, in), draw(format, out, in), draw(format, out, in)};
    int x[2] = {program_buffer(p, "x0", in, ROWS_ALL), program_buffer(p, "x1", in, ROWS_ALL)}, y = program_buffer(p, "y", out, ROWS_ALL), id[3];
    for (int i = 0; i < 3; i++)
        id[i] = program_weight(p, &weights[i]);
    for (int i = 0; i < 2 + LINEARS; i++) {
        struct op *op = program_add(p, i < 2 ? OP_EMBED : OP_LINEAR);
        op->w = i < 2 ? id[0] : id[1 + i % 2], op->b = -1;
        op->x = i < 2 ? -1 : x[i % 2], op->y = i < 2 ? x[i] : y;
    }
    program_output(p, "y", y);
    struct compile_options o = {.max_rows = rows, .max_wanted = 1, .max_sequences = 1, .max_context = rows, .device = device, .k_type = STORAGE_F16, .v_type = STORAGE_F16};
    struct error err = {0};
    struct compiled *c;
    if (program_check(p, &err) || cuda->compile(&c, p, &o, &err))
        give_up(err.text);
    for (int i = 0; i < 3; i++)
        free((void *)(uintptr_t)weights[i].data);
    return c;
}

/* Seconds of one LINEAR; the first step loads kernels. */
static double time_steps(const struct backend *cuda, struct compiled *c, const struct program *p, int32_t rows)
{
    struct batch_row *row = calloc((size_t)rows, sizeof *row);
    int32_t wanted = rows - 1;
    double best = 1e9;
    const int32_t *const blocks[1] = {&wanted};
    struct batch_sequence s = {.rows = rows, .blocks = blocks, .adapter = -1, .length = rows};
    struct batch b = {.rows = rows, .sequences = 1, .wanted = 1, .row = row, .sequence = &s, .wanted_rows = &wanted};
    if (!row)
        give_up("no memory");
    for (int i = 0; i < rows; i++)
        row[i] = (struct batch_row){.token = i % TOKENS, .position = i};
    for (int i = 0; i <= STEPS; i++) {
        const float *result;
        struct error err = {0};
        double begin = clock_seconds();
        if (cuda->step(c, &b, &(struct state_memory){0}, p->outputs[0].buffer, &result, &err))
            give_up(err.text);
        double seconds = (clock_seconds() - begin) / LINEARS;
        best = i && seconds < best ? seconds : best;
    }
    free(row);
    return best;
}

static int32_t rows_of_class(const struct class *k, bool quick) { return quick ? 20 : !strcmp(k->rows, "any") ? 256 : atoi(k->rows); }

/* All products of a class; what the card has not is left out. */
static void measure(const struct backend *cuda, struct compiled *c, const struct program *p, const struct class *k, bool quick)
{
    int *setting = (int *)(void *)((char *)&c->tune + k->at);
    int32_t rows = rows_of_class(k, quick);
    const struct stage *stage = &c->stage[c->stages - 1];
    for (int product = PRODUCT_OWN; product <= PRODUCT_CUBLAS; product++) {
        *setting = product;
        if ((int)cuda_product(c, stage, rows) == product)
            printf("%s,%s,%d,%.2f\n", k->name, products[product], product, 1e6 * time_steps(cuda, c, p, rows));
    }
    fflush(stdout);
}

int main(int argc, char **argv)
{
    bool quick = false;
    int device = 0;
    double end = clock_seconds() + 1e6;
    for (int option; (option = getopt(argc, argv, "qd:s:")) != -1;)
        switch (option) {
        case 'q': quick = true; break;
        case 'd': device = atoi(optarg); break;
        case 's': end = clock_seconds() + atof(optarg); break;
        default: return 2;
        }
    const struct backend *cuda;
    struct cuda_room room;
    struct error err = {0};
    if (backend_cuda(&cuda, device, &room, &err))
        give_up(err.text);
    setenv("INGOT_CUDA_TUNE", quick ? "hopper_rows=1,gemm_rows=1" : "hopper_rows=1,gemm_rows=64", 1);
    puts("class,product,value,microseconds");
    for (int i = 0; i < CLASSES; i++) { /* shapes of one format and size share weights: those that differ by rows alone */
        const struct class *k = &classes[i];
        bool few = !strcmp(k->outs, "few"), brief = !strcmp(k->in, "short");
        if (strcmp(k->rows, "any") || (quick && (!few || !brief)) || clock_seconds() > end)
            continue;
        struct arena arena = {0};
        struct program p = {.arena = &arena, .vocab = TOKENS};
        enum storage format = !strcmp(k->bits, "plain") ? STORAGE_BF16 : !strcmp(k->bits, "byte") ? STORAGE_Q8_0 : STORAGE_Q4_K;
        struct compiled *c = open_program(cuda, &p, format, quick ? 144 : few ? 4096 : 28672, quick ? 256 : brief ? 4096 : few ? 14336 : 8192, quick ? 20 : 2048, device);
        for (int j = i; j < CLASSES && clock_seconds() < end; j++)
            if (!strcmp(classes[j].bits, k->bits) && !strcmp(classes[j].outs, k->outs) && !strcmp(classes[j].in, k->in) && (!quick || j == i))
                measure(cuda, c, &p, &classes[j], quick);
        cuda->free(c);
        arena_free(&arena);
    }
    return 0;
}
