/* A trial of the emulated card passes where it computes right, and fails where it does not. */
#include "cuda_backend.h"

static struct tiny like(enum storage format, enum storage head_format, int head_dim)
{
    struct tiny t;
    struct tiny_shape s = {.hidden = 256, .heads = 2, .kv_heads = 1, .head_dim = head_dim, .inner = 256, .layers = 1, .vocab = 10, .format = format,
                           .head_format = head_format};
    tiny_build(&t, &s);
    return t;
}

Test(cuda_trial, heads_and_caches)
{
    static const enum storage types[] = {STORAGE_Q8_0, STORAGE_Q4_0};
    struct error err = {0};
    for (int i = 0; i < 2; i++) {
        struct tiny t = like(STORAGE_Q8_0, STORAGE_Q8_0, i ? 256 : 80);
        struct compile_options o = tiny_options(types[i]);
        cr_assert_eq(backend_trial(emulated_backend(), &t.p, &o, &err), STATUS_OK, "%s: %s", storage_types[types[i]].name, err.text);
        arena_free(&t.arena);
    }
}

/* ---- what is wrong -------------------------------------------------------------------------------------------------------- */

static int wrong_kernel = -1;

/* The emulated card, but for one kernel that does nothing. */
static int forgetful_launch(struct cuda_stream *s, const struct cuda_launch *l) { return (int)l->kernel == wrong_kernel ? 0 : emulated_launch(s, l); }

static struct cuda_interface forgetful;

static enum status forgetful_compile(struct compiled **out, const struct program *p, const struct compile_options *o, struct error *err)
{
    forgetful = emulated_interface;
    forgetful.launch = forgetful_launch;
    return cuda_compile_with(&forgetful, out, p, o, err);
}

Test(cuda_trial, a_kernel_that_does_nothing)
{
    static const int kernels[] = {CUDA_turn, CUDA_matrix_q8_0_8, CUDA_columns_32, CUDA_select, CUDA_prompt_f16_64, CUDA_hopper_q8_0_128, CUDA_weave};
    struct error err = {0};
    struct backend b = *emulated_backend();
    struct tiny t = like(STORAGE_Q8_0, STORAGE_Q8_0, 64);
    struct compile_options o = tiny_options(STORAGE_F16);
    b.compile = forgetful_compile;
    emulated_device.maps = true;
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
        wrong_kernel = kernels[i];
        cr_assert_eq(backend_trial(&b, &t.p, &o, &err), STATUS_DEVICE, "without %s", cuda_kernel_name((enum cuda_kernel)wrong_kernel));
        cr_assert(strstr(err.text, "computes wrong"), "%s", err.text);
    }
    wrong_kernel = -1;
    cr_assert_eq(backend_trial(&b, &t.p, &o, &err), STATUS_OK, "%s", err.text);
    arena_free(&t.arena);
}

/* What the device lacks, the CPU does; what it cannot do at all fails with its own words. */
static bool no_norms(const struct program *p, const struct compile_options *o, int op, char *why, size_t size)
{
    (void)o, (void)why, (void)size;
    return p->ops[op].kind != OP_NORM && p->ops[op].kind != OP_STORE;
}

Test(cuda_trial, lacks)
{
    struct error err = {0};
    struct backend b = *emulated_backend();
    struct tiny t = like(STORAGE_Q4_0, STORAGE_F32, 64);
    struct compile_options o = tiny_options(STORAGE_F16);
    b.runs = no_norms;
    cr_assert_eq(backend_trial(&b, &t.p, &o, &err), STATUS_OK, "%s", err.text);
    b = *emulated_backend();
    emulated_device.fail_at = 30;
    cr_assert_eq(backend_trial(&b, &t.p, &o, &err), STATUS_DEVICE);
    cr_assert(strstr(err.text, "emulated"), "%s", err.text);
    emulated_device.fail_at = 0;
    arena_free(&t.arena);
}

/* Scans of one kind each, and stacks without a choice, where the model has them. */
Test(cuda_trial, recurrent)
{
    static const struct scan scans[] = {{.heads = 32, .key_heads = 16, .k_dim = 128, .v_dim = 128, .delta = true, .normalised = true, .dt_most = INFINITY},
                                        {.heads = 24, .key_heads = 1, .k_dim = 16, .v_dim = 60, .tiled = true, .dt_least = 0.001f, .dt_most = 0.1f}};
    static const int kernels[] = {CUDA_conv, CUDA_scan_rows_64, CUDA_scan_rows_128, CUDA_scan_chunks_64, CUDA_scan_chunks_128, CUDA_join, CUDA_experts_q8_0_8, CUDA_gather};
    struct error err = {0};
    struct backend b = *emulated_backend();
    struct compile_options o = tiny_options(STORAGE_F16);
    b.compile = forgetful_compile;
    for (int i = 0; i < 2; i++) {
        struct tiny t = like(STORAGE_Q8_0, STORAGE_Q8_0, 64);
        program_add(&t.p, OP_SCAN)->scan = program_scan(&t.p, &scans[i]); /* never run: what is asked is whether there is one */
        program_add(&t.p, OP_JOIN);
        cr_assert_eq(backend_trial(&b, &t.p, &o, &err), STATUS_OK, "%s", err.text);
        for (size_t k = 0; k < sizeof kernels / sizeof *kernels; k++) {
            if (kernels[k] == (i ? CUDA_scan_rows_128 : CUDA_scan_rows_64) || kernels[k] == (i ? CUDA_scan_chunks_128 : CUDA_scan_chunks_64))
                continue; /* for other keys */
            wrong_kernel = kernels[k];
            cr_assert_eq(backend_trial(&b, &t.p, &o, &err), STATUS_DEVICE, "without %s", cuda_kernel_name((enum cuda_kernel)wrong_kernel));
        }
        wrong_kernel = -1;
        arena_free(&t.arena);
    }
}
