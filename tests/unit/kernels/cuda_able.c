/* What a card says that it cannot run: kernels that the library has no code of, heads that are too wide. */
#include "cuda_backend.h"

static const char *missing; /* a kernel's name */

static bool has(int device, enum cuda_kernel kernel) { return (void)device, strcmp(cuda_kernel_name(kernel), missing) != 0; }

/* Operations that it cannot run, as bits of their kinds; the last one's reason in why. */
static unsigned lacking(const struct tiny *t, const char *kernel, char why[80])
{
    struct cuda_interface cuda = emulated_interface;
    struct compile_options o = tiny_options(STORAGE_F16);
    unsigned kinds = 0;
    cuda.has = has;
    missing = kernel;
    for (int i = 0; i < t->p.op_count; i++)
        kinds |= cuda_runs_with(&cuda, &t->p, &o, i, why, 80) ? 0 : 1u << t->p.ops[i].kind;
    return kinds;
}

Test(cuda_able, kernels)
{
    static const struct {
        const char *kernel;
        unsigned kinds;
    } cases[] = {
        {"", 0},
        {"linear_q4_k", 1u << OP_LINEAR},
        {"gemv_q4_k", 1u << OP_LINEAR},
        {"gated_q4_k_many", 1u << OP_LINEAR},
        {"input", 1u << OP_LINEAR},
        {"linear_q5_k", 0}, /* not a format of this model */
        {"attend_any_8", 1u << OP_ATTEND},
        {"turn", 1u << OP_STORE},
        {"norm", 1u << OP_NORM},
        {"embed", 1u << OP_EMBED},
        {"choose", 0}, /* no operation */
        {"route", 1u << OP_ROUTE},
        {"combine", 1u << OP_COMBINE},
        {"experts", 1u << OP_EXPERTS},
        {"group", 1u << OP_EXPERTS},
        {"experts_q4_k_64", 1u << OP_EXPERTS},
        {"experts_q5_k_64", 0},
    };
    struct tiny_shape s = {.hidden = 256, .heads = 2, .kv_heads = 1, .head_dim = 64, .inner = 256, .layers = 1, .vocab = 10, .format = STORAGE_Q4_K,
                           .head_format = STORAGE_F16, .experts = 3, .chosen = 2};
    struct tiny t;
    tiny_build(&t, &s);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char why[80] = "", expected[80];
        cr_assert_eq(lacking(&t, cases[i].kernel, why), cases[i].kinds, "without %s", cases[i].kernel);
        snprintf(expected, sizeof expected, "no kernel %s for this device", cases[i].kernel);
        cr_assert_str_eq(why, cases[i].kinds ? expected : "");
    }
    t.p.groups[0].k_dim = CUDA_HEAD_DIM + 8;
    char why[80];
    cr_assert_eq(lacking(&t, "", why), 1u << OP_STORE | 1u << OP_ATTEND);
    cr_assert_str_eq(why, "heads of more than 2048 values");
    arena_free(&t.arena);
}

/* What keeps a state of its own, and stacks without a choice, which need no order. */
Test(cuda_able, recurrent)
{
    static const struct {
        const char *kernel;
        unsigned kinds;
    } cases[] = {
        {"", 0},
        {"join", 1u << OP_JOIN},
        {"conv", 1u << OP_CONV},
        {"scan_rows_256", 1u << OP_SCAN},
        {"scan_chunks_128", 1u << OP_SCAN},
        {"gather", 1u << OP_EXPERTS},
        {"experts", 1u << OP_EXPERTS},
        {"group", 0},
    };
    struct tiny_shape shape = {.hidden = 256, .heads = 2, .kv_heads = 1, .head_dim = 64, .inner = 256, .layers = 1, .vocab = 10, .format = STORAGE_Q4_K,
                               .head_format = STORAGE_F16};
    struct tiny t;
    tiny_build(&t, &shape);
    int group = program_group(&t.p, &(struct state_group){.kind = STATE_RECURRENT, .layers = 1, .values = 100});
    struct weight w = tiny_weight("heads", STORAGE_Q4_K, 8, 256, 1);
    w.experts = 2, w.out = 4, w.expert_bytes = 4 * w.row_bytes;
    program_add(&t.p, OP_EXPERTS)->w = program_weight(&t.p, &w);
    program_add(&t.p, OP_JOIN)->heads = 1;
    program_add(&t.p, OP_CONV)->group = group;
    struct op *scan = program_add(&t.p, OP_SCAN);
    scan->group = group, scan->scan = program_scan(&t.p, &(struct scan){.heads = 1, .key_heads = 1, .k_dim = 256, .v_dim = 3});
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char why[80];
        cr_assert_eq(lacking(&t, cases[i].kernel, why), cases[i].kinds, "without %s", cases[i].kernel);
    }
    t.p.scans[0].k_dim = 257;
    char why[80];
    cr_assert_eq(lacking(&t, "", why), 1u << OP_SCAN);
    cr_assert_str_eq(why, "scans with keys of more than 256 values");
    arena_free(&t.arena);
}
