/* Attention by matrix units (kernels/cuda/prompt.h), in emulated blocks of threads or on a card. */
#include "cuda_attention.h"

static const enum storage kvs[] = {STORAGE_F16, STORAGE_BF16, STORAGE_F32, STORAGE_F8_E4M3, STORAGE_Q8_0, STORAGE_Q4_0};
enum { KVS = sizeof kvs / sizeof *kvs, VALUES = 90 * 1024 };

static const struct attention shapes[] = {
    {.heads = 4, .kv_heads = 2, .k_dim = 24, .v_dim = 40, .cached = 37, .rows = 16},
    {.heads = 3, .kv_heads = 1, .k_dim = 33, .v_dim = 7, .cached = 70, .rows = 50, .cap = 5},
    {.heads = 2, .kv_heads = 1, .k_dim = 128, .v_dim = 128, .window = 20, .cached = 150, .rows = 40},
    {.heads = 2, .kv_heads = 2, .k_dim = 16, .v_dim = 16, .window = 4, .cached = 30, .rows = 17, .full = true},
    {.heads = 2, .kv_heads = 2, .k_dim = 16, .v_dim = 100, .cached = 0, .rows = 66, .full = true},
    {.heads = 2, .kv_heads = 1, .k_dim = 72, .v_dim = 48, .v_in_k = true, .cached = 45, .rows = 20},
    {.heads = 70, .kv_heads = 1, .k_dim = 8, .v_dim = 8, .cached = 100, .rows = 16},
    {.heads = 2, .kv_heads = 1, .k_dim = 192, .v_dim = 128, .cached = 75, .rows = 35},
    {.heads = 1, .kv_heads = 1, .k_dim = 256, .v_dim = 256, .window = 40, .cached = 60, .rows = 70, .cap = 9},
    {.heads = 3, .kv_heads = 1, .k_dim = 136, .v_dim = 200, .cached = 17, .rows = 18},
};

static bool is_half(enum storage type) { return type != STORAGE_F32 && type != STORAGE_BF16; }

Test(cuda, prompts)
{
    static float expected[90 * 1024], got[90 * 1024], other[90 * 1024], state[VALUES];
    float *values = random_rows(VALUES);
    setenv("INGOT_CUDA_TUNE", "prompt_rows=16", 1);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int k = 0; k < KVS; k += i ? 2 + (int)i % 2 : 1) {
            const struct attention *s = &shapes[i];
            enum storage k_type = kvs[k], v_type = s->v_in_k || i % 3 ? kvs[k] : kvs[(k + (int)i) % KVS];
            int64_t count = (int64_t)s->rows * s->heads * s->v_dim;
            attend(&backend_reference, s, k_type, v_type, values, expected, state);
            attend(cuda_under_test(), s, k_type, v_type, values, got, state);
            double error = tiny_error(got, expected, count);
            cr_assert(error < (is_half(k_type) && is_half(v_type) ? 2e-3 : 1.5e-2) && (on_card() || error > 1e-5),
                      "KV %s,%s, %d heads over %d of %d and %d, window %d, cap %g, %d rows behind %d: %g", storage_types[k_type].name,
                      storage_types[v_type].name, s->heads, s->kv_heads, s->k_dim, s->v_dim, s->window, (double)s->cap, s->rows, s->cached, error);
            emulator.backwards = true;
            attend(cuda_under_test(), s, k_type, v_type, values, other, state);
            emulator.backwards = false;
            cr_assert_arr_eq(got, other, (size_t)count * sizeof *got);
        }
    free(values);
}

/* A prompt's bits depend neither on what else is in the batch nor, from enough rows on, on how it is cut; tokens one by one go elsewhere. */
Test(cuda, prompt_bits)
{
    enum { ROWS = 52, VOCAB = 37 };
    static const int beside[][TINY_SEQUENCES - 1] = {{0, 0, 0}, {17, 1, 30}, {3, 0, 16}};
    static const struct tiny_shape shape = {.hidden = 32, .heads = 4, .kv_heads = 2, .head_dim = 8, .inner = 32, .layers = 2, .vocab = VOCAB,
                                            .format = STORAGE_Q4_0, .head_format = STORAGE_F16};
    static int32_t tokens[ROWS];
    static float whole[ROWS * VOCAB], got[ROWS * VOCAB], other[ROWS * VOCAB];
    struct tiny t;
    struct compile_options o = tiny_options(STORAGE_F16);
    setenv("INGOT_CUDA_TUNE", "prompt_rows=16", 1);
    tiny_build(&t, &shape);
    for (int i = 0; i < ROWS; i++)
        tokens[i] = i * 11 % VOCAB;
    for (size_t k = 0; k < sizeof beside / sizeof *beside; k++)
        for (int cut = 0; cut < 2; cut++) {
            struct tiny_run run;
            tiny_open(&run, &t, cuda_under_test(), &o);
            for (int at = 0, rows; at < ROWS; at += rows) {
                rows = cut ? (at ? ROWS - 19 : 19) : ROWS;
                int counts[TINY_SEQUENCES] = {rows, beside[k][0], beside[k][1], beside[k][2]};
                tiny_step(&run, &t, t.logits, counts, (const int32_t *[]){tokens + at, tokens, tokens, tokens},
                          (float *[]){(k || cut ? got : whole) + at * VOCAB, other, other, other});
            }
            tiny_close(&run);
            if (k || cut)
                cr_assert_arr_eq(whole, got, sizeof whole, "beside %d: cut %d", (int)k, cut);
        }
    arena_free(&t.arena);
}
