/* Matrix units: the words that kernels say (code.h), and LINEAR by them (matrix.h), in emulated blocks of threads or on a card. */
#include "cuda_programs.h"

/* ---- words ------------------------------------------------------------------------------------------------------------------ */

static struct {
    float a[16][16], b[16][8], c[16][8];
    uint16_t square[32][8]; /* four 8 x 8 matrices */
    uint32_t turned[32][4];
    _Alignas(16) float from[4], early, late;
} w;

static void run_words(void (*body)(const void *))
{
    emulator.shared_bytes = 256;
    static _Alignas(16) unsigned char shared[256];
    emulator.shared = shared;
    emulator.body = body;
    emulate_block();
}

static uint32_t pair_of(float low, float high) { return BF16_PAIR(low, high); }

static void multiply(const void *unused)
{
    (void)unused;
    int g = THREAD % 32 / 4, t = THREAD % 4;
    if (THREAD >= 32)
        return; /* a whole warp */
    uint32_t a[4], b[2];
    for (int i = 0; i < 4; i++)
        a[i] = pair_of(w.a[g + i % 2 * 8][2 * t + i / 2 * 8], w.a[g + i % 2 * 8][2 * t + 1 + i / 2 * 8]);
    for (int i = 0; i < 2; i++)
        b[i] = pair_of(w.b[2 * t + 8 * i][g], w.b[2 * t + 1 + 8 * i][g]);
    float c[4] = {1, 2, 3, 4};
    MMA(c, a, b);
    for (int i = 0; i < 4; i++)
        w.c[g + i / 2 * 8][2 * t + i % 2] = c[i];
}

static void turn(const void *unused)
{
    (void)unused;
    if (THREAD < 32)
        LOAD_TURNED(w.turned[THREAD], w.square[THREAD]);
}

static void copy_late(const void *unused)
{
    SHARED_FLOATS(room);
    (void)unused;
    if (THREAD)
        return;
    room[0] = room[4] = 1;
    COPY_ASYNC(room, w.from);
    COPY_GROUP();
    COPY_ASYNC(room + 4, w.from);
    COPY_GROUP();
    w.early = room[0];
    COPY_WAIT(1);
    w.late = room[0] * 10 + room[4];
    COPY_WAIT(0);
    w.early = w.early * 10 + room[4];
}

Test(cuda, words)
{
    for (int i = 0; i < 16; i++)
        for (int k = 0; k < 16; k++)
            w.a[i][k] = (float)((i * 5 + k * 3) % 11 - 5), w.b[i][k % 8] = (float)((i * 7 + k % 8) % 13 - 6);
    run_words(multiply);
    for (int i = 0; i < 16; i++)
        for (int n = 0; n < 8; n++) {
            float sum = (float)(1 + n % 2 + i / 8 * 2);
            for (int k = 0; k < 16; k++)
                sum += w.a[i][k] * w.b[k][n];
            cr_assert_eq(w.c[i][n], sum, "c[%d][%d]", i, n);
        }
    for (int i = 0; i < 32; i++)
        for (int k = 0; k < 8; k++)
            w.square[i][k] = (uint16_t)(i * 8 + k);
    run_words(turn);
    for (int l = 0; l < 32; l++)
        for (int i = 0; i < 4; i++) {
            int row = 8 * i + 2 * (l % 4), column = l / 4;
            cr_assert_eq(w.turned[l][i], (uint32_t)(row * 8 + column) | (uint32_t)((row + 1) * 8 + column) << 16);
        }
    w.from[0] = 7;
    run_words(copy_late);
    cr_assert(w.late == 71 && w.early == 17, "%g %g: copies are not there before they are waited for", (double)w.late, (double)w.early);
    uint32_t one = pair_of(1, 1), third = pair_of(3, -0.3359375f);
    cr_assert_eq(FMA_PAIR(third, third, one), pair_of(10, 1.11285400390625f));
    cr_assert_eq(FMA_PAIR(pair_of(1, 0x1.02p0f), pair_of(0x1p-8f, 0x1p-9f), one), pair_of(1, 1)); /* a tie to even; less than half */
    cr_assert_eq(FMA_PAIR(pair_of(0x1.02p0f, 1), pair_of(0x1p-8f, 0x1p-60f), pair_of(1, 0x1.02p0f)), pair_of(0x1.02p0f, 0x1.02p0f)); /* more; hardly more */
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

/* x is exact as bf16, weights of BF16 too; others are rounded to it. */
Test(cuda, matrix)
{
    static const int rows[] = {1, 9, 20, 70}; /* a tile each of 8, 16, 32 and 64, the last with a second block */
    use_kernels(NULL);
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        int block = storage_types[formats[i]].block_elements;
        int64_t sizes[] = {block > 1 ? block : 8, block > 1 ? 9 * block : 328};
        double bound = formats[i] == STORAGE_BF16 ? matrix_error() : 6e-3;
        const char *name = storage_types[formats[i]].name;
        for (size_t k = 0; k < 4; k++)
            for (size_t n = 0; n < 2; n++) {
                const enum storage one[] = {formats[i]}, two[] = {formats[i], formats[i]}, mixed[] = {formats[i], formats[i], STORAGE_Q6_K};
                double error = stage_error(one, 1, sizes[n], n ? 9 : 70, rows[k], WITH_NOTHING);
                cr_assert_lt(error, bound, "%s [%d, %d], %d rows: %g", name, n ? 9 : 70, (int)sizes[n], rows[k], error);
                error = stage_error(two, 2, sizes[n], n ? 21 : 5, rows[k], WITH_GATE);
                cr_assert_lt(error, 3 * bound, "%s [%d, %d], %d rows, gated: %g", name, n ? 21 : 5, (int)sizes[n], rows[k], error);
                if (sizes[n] % 256 == 0 && !n) {
                    error = stage_error(mixed, 3, sizes[n], 19, rows[k], WITH_NORM);
                    cr_assert_lt(error, 1e-2, "%s [19, %d], %d rows, three behind a norm: %g", name, (int)sizes[n], rows[k], error);
                }
                if (sizes[n] < 40) {
                    error = stage_error(one, 1, sizes[n], (int)sizes[n], rows[k], WITH_ADD);
                    cr_assert_lt(error, bound, "%s [%d, %d], %d rows, added: %g", name, (int)sizes[n], (int)sizes[n], rows[k], error);
                }
            }
    }
}

enum { BITS_OUT = 37, BITS_MOST = 140, BITS_IN = 5 * 256 + 128 };

static void rows_of_matrix(enum storage format, int first, int rows, const float *x, float *out)
{
    linear_rows(format, BITS_IN, BITS_OUT, &rows, 1, false, x + first * BITS_IN, out);
}

/* A row's bits are the same whatever is beside it, whichever kernel that chooses. */
Test(cuda, matrix_bits)
{
    static const enum storage some[] = {STORAGE_BF16, STORAGE_Q8_0, STORAGE_Q5_1};
    static const int counts[] = {1, 2, 8, 11, 16, 17, 31, 33, 64, 65, 67};
    static float all[BITS_MOST * BITS_OUT], part[BITS_MOST * BITS_OUT];
    float *x = random_rows(BITS_MOST * BITS_IN);
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        setenv("INGOT_CUDA_TUNE", "matrix_split=0", 1); /* a block does all classes */
        rows_of_matrix(some[i], 0, BITS_MOST, x, all);
        unsetenv("INGOT_CUDA_TUNE");
        for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
            int first = (int)k * 5;
            rows_of_matrix(some[i], first, counts[k], x, part);
            cr_assert_arr_eq(all + first * BITS_OUT, part, (size_t)(counts[k] * BITS_OUT) * sizeof *part, "%s, %d rows", storage_types[some[i]].name, counts[k]);
        }
        setenv("INGOT_CUDA_TUNE", "matrix_tiles=2", 1);
        rows_of_matrix(some[i], 0, BITS_MOST, x, part);
        unsetenv("INGOT_CUDA_TUNE");
        cr_assert_arr_eq(all, part, sizeof all);
    }
    free(x);
}

/* What attention and gates write as bf16 is what would have been made of their results. */
Test(cuda, handed)
{
    enum { VOCAB = 19, ROWS = 18 };
    static const struct tiny_shape shape = {.hidden = 32, .heads = 4, .kv_heads = 2, .head_dim = 64, .inner = 256, .layers = 2, .vocab = VOCAB,
                                            .format = STORAGE_Q8_0, .head_format = STORAGE_F16};
    static float logits[2][TINY_SEQUENCES * ROWS * VOCAB];
    static int32_t tokens[ROWS];
    static int launches[2];
    struct tiny t;
    struct compile_options o = tiny_options(STORAGE_F16);
    tiny_build(&t, &shape);
    for (int i = 0; i < ROWS; i++)
        tokens[i] = i * 11 % VOCAB;
    for (int k = 0; k < 2; k++) {
        struct tiny_run run;
        setenv("INGOT_CUDA_TUNE", k ? "handed=0,prompt_rows=16" : "prompt_rows=16", 1);
        tiny_open(&run, &t, cuda_under_test(), &o);
        for (int i = 0; i < run.compiled->stages; i++)
            launches[k] += run.compiled->stage[i].handed;
        float *out[TINY_SEQUENCES];
        for (int s = 0; s < TINY_SEQUENCES; s++)
            out[s] = logits[k] + s * ROWS * VOCAB;
        for (int step = 0; step < 2; step++)
            tiny_step(&run, &t, t.logits, step ? (int[]){1, 1, 0, 1} : (int[]){ROWS, 3, 0, 16}, (const int32_t *[]){tokens, tokens, tokens, tokens}, out);
        tiny_close(&run);
    }
    arena_free(&t.arena);
    cr_assert(launches[0] == 4 && !launches[1], "%d inputs are handed on", launches[0]);
    cr_assert_arr_eq(logits[0], logits[1], sizeof *logits);
    cr_assert(logits[0][0] != 0 && isfinite(logits[0][0]));
}
