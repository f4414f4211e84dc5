/* Attention of few rows by matrix units (kernels/cuda/columns.h), in emulated blocks of threads or on a card. */
#include "cuda_attention.h"
#include "kernels/cuda/pairs.h"

static const enum storage kvs[] = {STORAGE_F16, STORAGE_BF16, STORAGE_F8_E4M3, STORAGE_Q8_0, STORAGE_Q4_0};
enum { KVS = sizeof kvs / sizeof *kvs, VALUES = 90 * 1024 };

static float expected[VALUES], got[VALUES], other[VALUES], state[VALUES];

static void use_tuning(const char *tuning) { tuning ? setenv("INGOT_CUDA_TUNE", tuning, 1) : unsetenv("INGOT_CUDA_TUNE"); }

/* Against the reference; then the other way round, in other cuts, and with one block for all pieces: the same bits. */
static void check(const struct attention *s, enum storage k_type, enum storage v_type, const float *values)
{
    int64_t count = (int64_t)s->rows * s->heads * s->v_dim;
    char what[200];
    snprintf(what, sizeof what, "KV %s,%s, %d heads over %d of %d and %d, window %d, cap %g, %d rows behind %d", storage_types[k_type].name,
             storage_types[v_type].name, s->heads, s->kv_heads, s->k_dim, s->v_dim, s->window, (double)s->cap, s->rows, s->cached);
    attend(&backend_reference, s, k_type, v_type, values, expected, state);
    attend(cuda_under_test(), s, k_type, v_type, values, got, state);
    double error = tiny_error(got, expected, count), bound = k_type == STORAGE_BF16 || v_type == STORAGE_BF16 ? 1.5e-2 : 2e-3;
    cr_assert_lt(error, bound, "%s: %g", what, error);
    struct attention cut = *s;
    emulator.backwards = true;
    for (int rows = s->full ? 0 : 1; rows < s->rows; rows = rows ? rows * 5 : s->rows) {
        cut.cut = rows;
        attend(cuda_under_test(), &cut, k_type, v_type, values, other, state);
        emulator.backwards = false;
        cr_assert_arr_eq(got, other, (size_t)count * sizeof *got, "%s: %d at a time", what, rows);
    }
    emulator.backwards = false;
    use_tuning("attend_split=0,ahead=0");
    attend(cuda_under_test(), s, k_type, v_type, values, other, state);
    use_tuning(NULL);
    cr_assert_arr_eq(got, other, (size_t)count * sizeof *got, "%s: pieces by one block", what);
}

Test(cuda, columns)
{
    static const struct attention shapes[] = {
        {.heads = 8, .kv_heads = 1, .k_dim = 128, .v_dim = 128, .cached = 300, .rows = 1},
        {.heads = 8, .kv_heads = 2, .k_dim = 64, .v_dim = 64, .cached = 37, .rows = 7},
        {.heads = 3, .kv_heads = 1, .k_dim = 33, .v_dim = 7, .cached = 250, .rows = 12, .cap = 5},
        {.heads = 2, .kv_heads = 2, .k_dim = 24, .v_dim = 40, .window = 20, .cached = 270, .rows = 33},
        {.heads = 4, .kv_heads = 2, .k_dim = 16, .v_dim = 16, .window = 4, .cached = 30, .rows = 8, .full = true},
        {.heads = 5, .kv_heads = 1, .k_dim = 192, .v_dim = 128, .cached = 91, .rows = 3},
        {.heads = 2, .kv_heads = 1, .k_dim = 256, .v_dim = 256, .cached = 14, .rows = 9, .window = 11},
        {.heads = 4, .kv_heads = 1, .k_dim = 72, .v_dim = 48, .v_in_k = true, .cached = 45, .rows = 6},
        {.heads = 10, .kv_heads = 1, .k_dim = 40, .v_dim = 24, .cached = 509, .rows = 5, .window = 300, .cap = 9},
        {.heads = 20, .kv_heads = 1, .k_dim = 80, .v_dim = 96, .cached = 600, .rows = 2},
        {.heads = 40, .kv_heads = 1, .k_dim = 8, .v_dim = 8, .cached = 3, .rows = 2},
        {.heads = 9, .kv_heads = 1, .k_dim = 576, .v_dim = 512, .v_in_k = true, .cached = 20, .rows = 2},
    };
    float *values = random_rows(VALUES);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int k = 0; k < KVS; k += i < 2 ? 1 : 2 + (int)i % 2)
            check(&shapes[i], kvs[k], shapes[i].v_in_k || i % 3 == 0 ? kvs[k] : kvs[(k + (int)i) % KVS], values);
    free(values);
}

/* Which rows a cache holds is all that shows: several sequences, of which one gives many rows and others one, two or none, in steps that are
 * recorded and replayed, or not. */
Test(cuda, columns_beside)
{
    enum { ROWS = 40, VOCAB = 37 };
    static const int cuts[][12] = {{40}, {1, 1, 1, 3, 3, 3, 3, 3, 16, 6}, {30, 2, 2, 2, 2, 2}};
    static const struct tiny_shape shape = {.hidden = 64, .heads = 8, .kv_heads = 2, .head_dim = 8, .inner = 32, .layers = 2, .vocab = VOCAB,
                                            .format = STORAGE_Q4_0, .head_format = STORAGE_F16};
    static int32_t tokens[ROWS];
    static float whole[ROWS * VOCAB], part[ROWS * VOCAB], unused[ROWS * VOCAB];
    struct tiny t;
    tiny_build(&t, &shape);
    for (int i = 0; i < ROWS; i++)
        tokens[i] = i * 11 % VOCAB;
    for (size_t k = 0; k < sizeof cuts / sizeof *cuts; k++) {
        struct compile_options o = tiny_options(STORAGE_Q8_0);
        struct tiny_run run;
        tiny_open(&run, &t, cuda_under_test(), &o);
        for (int at = 0, step = 0; at < ROWS; at += cuts[k][step++]) {
            int counts[TINY_SEQUENCES] = {k == 1 ? step % 3 : 0, cuts[k][step], k ? 1 : 0, k == 2 ? 5 : 0};
            tiny_step(&run, &t, t.logits, counts, (const int32_t *[]){tokens, tokens + at, tokens, tokens},
                      (float *[]){unused, (k ? part : whole) + at * VOCAB, unused, unused});
        }
        tiny_close(&run);
        if (k)
            cr_assert_arr_eq(whole, part, sizeof whole, "cut %d", (int)k);
    }
    arena_free(&t.arena);
}

/* Codes that are no number, and what cards without a word for it make of each: as formats/small.h has it. */
Test(cuda, e4m3_pairs)
{
    for (uint32_t code = 0; code < 256; code++) {
        uint32_t pair = pair_e4m3(code | (255 - code) << 8);
        for (int i = 0; i < 2; i++) {
            float value = half_to_float((uint16_t)(pair >> (16 * i))), want = e4m3_to_float((unsigned char)(i ? 255 - code : code));
            cr_assert(value == want || (isnan(value) && isnan(want)), "%u: %g, not %g", code, (double)value, (double)want);
        }
    }
}
