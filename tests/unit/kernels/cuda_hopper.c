/* Hopper's words (hopper_words.h), and LINEAR for prompts by them (hopper.h), in emulated blocks of threads or on a card. On a card that
 * is none of Hopper's the LINEARs go elsewhere and are right, too. */
#include "cuda_programs.h"

/* ---- words ------------------------------------------------------------------------------------------------------------------ */

enum { WORDS_SHARED = 60 << 10, BOX_ROWS = 128, BOX_WIDE = 80 };

static struct {
    struct tensor_map map;
    _Alignas(16) uint16_t x[100][BOX_WIDE]; /* of which a box has too many rows and some columns */
    uint16_t before, found[BOX_ROWS][HOPPER_DEPTH];
    float sums[2][64][128];
    uint32_t matrices[32][4];
} w;

static void run_words(int threads, void (*body)(const void *))
{
    static _Alignas(16) unsigned char shared[WORDS_SHARED];
    emulator.shared_bytes = WORDS_SHARED;
    emulator.shared = shared;
    emulator.body = body;
    emulator.threads = threads;
    emulate_block();
    emulator.threads = CUDA_THREADS;
}

/* Shared memory from its first multiple of 1024 bytes on; barriers lie at its end. */
static unsigned char *boxes(void)
{
    SHARED_FLOATS(room);
    unsigned char *base = (unsigned char *)room;
    return base + (1024 - SHARED_ADDRESS(base) % 1024) % 1024;
}

static uint32_t barrier(int number) { return SHARED_ADDRESS(boxes()) + 57 * 1024 + 8 * (uint32_t)number; }

/* A box at column 32 and row 4 of x: its bytes are there once it is waited for, swizzled. */
static void copy_box(const void *unused)
{
    (void)unused;
    uint16_t *box = (uint16_t *)(void *)boxes();
    if (THREAD == 0) {
        box[0] = 77;
        MBARRIER_INIT(barrier(0), 2);
        MBARRIER_READY();
    }
    BLOCK_BARRIER();
    if (THREAD == 32) {
        MBARRIER_EXPECT(barrier(0), BOX_ROWS * HOPPER_DEPTH * 2);
        TENSOR_LOAD(SHARED_ADDRESS(box), &w.map, 32, 4, barrier(0));
        w.before = box[0];
        MBARRIER_ARRIVE(barrier(0));
    }
    if (THREAD)
        return;
    MBARRIER_WAIT(barrier(0), 0);
    for (int r = 0; r < BOX_ROWS; r++)
        for (int i = 0; i < HOPPER_DEPTH; i++)
            w.found[r][i] = box[r * HOPPER_DEPTH + ((i / 8) ^ (r % 8)) * 8 + i % 8];
}

/* Two groups: a from registers and from shared memory, b 16 values from the second product's worth on. */
static void multiply(const void *unused)
{
    (void)unused;
    unsigned char *box = boxes();
    int group = THREAD / 128, lane = THREAD % 32, g = lane / 4, t = lane % 4, m = THREAD % 128 / 32 * 16 + g;
    if (THREAD == 0) {
        MBARRIER_INIT(barrier(0), 1);
        MBARRIER_READY();
        MBARRIER_EXPECT(barrier(0), BOX_ROWS * HOPPER_DEPTH * 2);
        TENSOR_LOAD(SHARED_ADDRESS(box), &w.map, 0, 0, barrier(0));
    }
    BLOCK_BARRIER();
    MBARRIER_WAIT(barrier(0), 0);
    uint32_t a[16] = {0}, at = SHARED_ADDRESS(box);
    for (int i = 0; i < 4; i++) { /* the same rows and columns that the operand in shared memory has */
        const uint16_t *from = &w.x[m + i % 2 * 8][16 + 2 * t + i / 2 * 8];
        a[i] = from[0] | (uint32_t)from[1] << 16;
    }
    float c[64];
    for (int i = 0; i < 64; i++)
        c[i] = NAN;
    WGMMA_BEGIN(128, c, a);
    for (int twice = 0; twice < 2; twice++)
        if (group)
            WGMMA_SHARED(128, c, WGMMA_OPERAND(at + 32), WGMMA_OPERAND(at + 32), twice);
        else
            WGMMA(128, c, a, WGMMA_OPERAND(at + 32), twice);
    WGMMA_WAIT(128, c, a);
    for (int i = 0; i < 64; i++)
        w.sums[group][m + i / 2 % 2 * 8][i / 4 * 8 + 2 * t + i % 2] = c[i];
    if (THREAD < 32)
        LOAD_MATRICES(w.matrices[THREAD], box + (THREAD % 16) * 128 + ((2 + THREAD / 16) ^ (THREAD % 8)) * 16);
}

Test(cuda, hopper_words)
{
    for (int r = 0; r < 100; r++)
        for (int i = 0; i < BOX_WIDE; i++)
            w.x[r][i] = float_to_bf16((float)((r * 5 + i * 3) % 23 - 11));
    cr_assert_eq(emulated_map(&w.map, &(struct cuda_boxes){w.x, BOX_WIDE, 100, BOX_WIDE * 2, BOX_ROWS}), 0);
    cr_assert(emulated_map(&(struct tensor_map){0}, &(struct cuda_boxes){(char *)w.x + 2, BOX_WIDE, 100, BOX_WIDE * 2, BOX_ROWS}));
    for (int k = 0; k < 2; k++) {
        emulator.backwards = k;
        memset(w.found, 0xFF, sizeof w.found);
        run_words(64, copy_box);
        for (int r = 0; r < BOX_ROWS; r++)
            for (int i = 0; i < HOPPER_DEPTH; i++)
                cr_assert_eq(w.found[r][i], r + 4 < 100 && i + 32 < BOX_WIDE ? w.x[r + 4][i + 32] : 0, "row %d, column %d", r, i);
        cr_assert_eq(w.before == 77, !k, "a box is copied as late as it may be, or at once");
        run_words(256, multiply);
        for (int m = 0; m < 64; m++)
            for (int n = 0; n < 128; n++) {
                float sum = 0;
                for (int i = 16; i < 32 && n < 100; i++)
                    sum += bf16_to_float(w.x[m][i]) * bf16_to_float(w.x[n][i]);
                cr_assert(w.sums[0][m][n] == 2 * sum && w.sums[1][m][n] == 2 * sum, "%d, %d: %g, %g and not %g", m, n, (double)w.sums[0][m][n],
                          (double)w.sums[1][m][n], 2 * (double)sum);
            }
        for (int l = 0; l < 32; l++)
            for (int i = 0; i < 4; i++) {
                const uint16_t *from = &w.x[l / 4 + i % 2 * 8][16 + 2 * (l % 4) + i / 2 * 8];
                cr_assert_eq(w.matrices[l][i], from[0] | (uint32_t)from[1] << 16);
            }
    }
    emulator.backwards = false;
}

/* ---- LINEAR ----------------------------------------------------------------------------------------------------------------- */

static const enum storage formats[] = {
#define RUNS(id) STORAGE_##id,
#define PLAIN(id) STORAGE_##id,
#define FLOATS(id)
#define FAST(id, name, kind) kind(id)
#include "kernels/cuda/fast.def"
#undef FAST
#undef FLOATS
#undef PLAIN
#undef RUNS
};

static void use_hopper(const char *tuning)
{
    emulated_device.maps = true;
    emulated_device.hoppers = 0;
    use_kernels(NULL);
    setenv("INGOT_CUDA_TUNE", tuning, 1);
}

static void used_hopper(int launches, const char *what)
{
    if (!on_card())
        cr_assert_geq(emulated_device.hoppers, launches, "%s: %d launches", what, emulated_device.hoppers);
    emulated_device.hoppers = 0;
}

/* One tile, rows that fill none; two tiles of rows in two of outputs, which one block does one after another; parts that share x, in
 * formats whose orders differ. What is done with the results. */
static void check_format(enum storage format)
{
    int block = storage_types[format].block_elements;
    int64_t odd = block > 1 ? 9 * block : 328, one_run = block > 32 ? block : 256;
    double bound = format == STORAGE_BF16 ? matrix_error() : 6e-3;
    const char *name = storage_types[format].name;
    const enum storage one[] = {format}, two[] = {format, format}, mixed[] = {format, format, STORAGE_Q6_K};
    const struct {
        const enum storage *formats;
        int count, out, rows;
        int64_t in;
        enum with with;
        double bound;
    } cases[] = {{one, 1, 9, 20, odd < 600 ? odd : one_run, WITH_NOTHING, bound}, {one, 1, 130, 141, 2 * one_run, WITH_NOTHING, bound},
                 {two, 2, 70, 33, 2 * one_run, WITH_GATE, 3 * bound},             {one, 1, (int)one_run, 3, one_run, WITH_ADD, bound},
                 {mixed, 3, 19, 17, one_run, WITH_NORM, 1e-2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        emulated_device.processors = 1 + (int)i % 3; /* blocks that share tiles out */
        double error = stage_error(cases[i].formats, cases[i].count, cases[i].in, cases[i].out, cases[i].rows, cases[i].with);
        cr_assert_lt(error, cases[i].bound, "%s [%d, %d], %d rows: %g", name, cases[i].out, (int)cases[i].in, cases[i].rows, error);
        used_hopper(1, name);
    }
}

Test(cuda, hopper)
{
    use_hopper("hopper_rows=1");
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        check_format(formats[i]);
}

/* ---- which rows ------------------------------------------------------------------------------------------------------------- */

enum { MIX_OUT = 37, MIX_IN = 512, MIX_ROWS = 40 + 5 + 33 };

/* Rows of three sequences, or of the first alone. */
static void mix(enum storage format, bool alone, bool deterministic, const float *x, float *out)
{
    linear_rows(format, MIX_IN, MIX_OUT, (int[]){40, 5, 33}, alone ? 1 : 3, deterministic, x, out);
}

/* A sequence chooses by its own rows: whatever is beside it, its bits are the same; few rows have those of other kernels. */
Test(cuda, hopper_rows)
{
    static const enum storage some[] = {STORAGE_BF16, STORAGE_Q4_K, STORAGE_Q6_K};
    static float all[MIX_ROWS * MIX_OUT], alone[MIX_ROWS * MIX_OUT], own[MIX_ROWS * MIX_OUT];
    float *x = random_rows(MIX_ROWS * MIX_IN);
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        const char *name = storage_types[some[i]].name;
        use_hopper("hopper_rows=6");
        mix(some[i], false, false, x, all);
        used_hopper(2, name);
        mix(some[i], true, false, x, alone);
        cr_assert_arr_eq(all, alone, 40 * MIX_OUT * sizeof *all, "%s: a sequence's bits depend on what else is in the batch", name);
        mix(some[i], false, true, x, own);
        if (!on_card())
            cr_assert_eq(emulated_device.hoppers, 1, "%s: deterministic", name); /* the one that was alone */
        cr_assert_arr_eq(all + 40 * MIX_OUT, own + 40 * MIX_OUT, 5 * MIX_OUT * sizeof *all, "%s: few rows", name);
        cr_assert_lt(tiny_error(all, own, MIX_ROWS * MIX_OUT), matrix_error(), "%s", name);
    }
    use_hopper("hopper_rows=6,nibble_any_few_short=0"); /* the table says who does it */
    mix(STORAGE_Q4_K, false, false, x, all);
    cr_assert_eq(emulated_device.hoppers, 0);
    use_hopper("hopper_rows=6,gemm_rows=6,nibble_any_few_short=2");
    emulated_device.gemms = 0;
    mix(STORAGE_Q4_K, false, false, x, all);
    cr_assert(emulated_device.hoppers == 0 && (on_card() || emulated_device.gemms == 2));
    use_hopper("hopper_rows=6");
    emulated_device.maps = false; /* an old driver */
    mix(STORAGE_Q4_K, false, false, x, all);
    cr_assert_eq(emulated_device.hoppers, 0);
    free(x);
}

/* A whole model whose prompts go through every product; attention and gates hand bf16 on, also to a stage that chooses another product. */
Test(cuda, hopper_model)
{
    enum { VOCAB = 19, ROWS = 18 };
    static const struct tiny_shape shape = {.hidden = 32, .heads = 4, .kv_heads = 2, .head_dim = 64, .inner = 256, .layers = 2, .vocab = VOCAB,
                                            .format = STORAGE_Q8_0, .head_format = STORAGE_F16};
    static const char *const tunings[] = {"hopper_rows=4096", "hopper_rows=8", "hopper_rows=8,handed=0", "hopper_rows=8,gemm_rows=8,byte_any_few_short=2"};
    static float logits[4][TINY_SEQUENCES * ROWS * VOCAB];
    static int32_t tokens[ROWS];
    struct tiny t;
    struct compile_options o = tiny_options(STORAGE_F16);
    tiny_build(&t, &shape);
    for (int i = 0; i < ROWS; i++)
        tokens[i] = i * 11 % VOCAB;
    for (int k = 0; k < 4; k++) {
        struct tiny_run run;
        use_hopper(tunings[k]);
        tiny_open(&run, &t, cuda_under_test(), &o);
        float *out[TINY_SEQUENCES];
        for (int s = 0; s < TINY_SEQUENCES; s++)
            out[s] = logits[k] + s * ROWS * VOCAB;
        for (int step = 0; step < 2; step++)
            tiny_step(&run, &t, t.logits, step ? (int[]){1, 1, 0, 1} : (int[]){ROWS, 3, 0, 16}, (const int32_t *[]){tokens, tokens, tokens, tokens}, out);
        tiny_close(&run);
        if (k == 1 || k == 2)
            used_hopper(2 * 4 * 2, tunings[k]); /* two sequences, four stages, two layers */
        double error = tiny_error(logits[k], logits[0], TINY_SEQUENCES * ROWS * VOCAB);
        cr_assert_lt(error, 2e-2, "%s: %g", tunings[k], error);
    }
    cr_assert_arr_eq(logits[1], logits[2], sizeof *logits, "what is handed on is what would have been made");
    arena_free(&t.arena);
}
