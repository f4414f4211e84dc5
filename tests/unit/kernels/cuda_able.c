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
