/* Experts on the CUDA backend against the reference: every format by the kernels that are used, and some by the plain ones; few and many
 * rows; the same bits alone, beside others and in pieces. Bounds as in cuda_matrix.c: two products behind one another, 2e-2. */
#include "cuda_backend.h"
#include "mixture.h"

static float *draw(int64_t count)
{
    float *x = (float *)malloc((size_t)count * sizeof *x);
    for (int64_t i = 0; i < count; i++)
        x[i] = tiny_float();
    return x;
}

static void check(const struct mixture_shape *s, const char *kernels, double bound)
{
    static const int counts[] = {1, 3, 17, 60};
    kernels ? setenv("INGOT_CUDA_KERNELS", kernels, 1) : unsetenv("INGOT_CUDA_KERNELS");
    const struct backend *cuda = cuda_under_test();
    struct mixture m;
    mixture_build(&m, s);
    size_t values = (size_t)(MIXTURE_ROWS * s->in);
    float *x = draw((int64_t)values), *expected = (float *)malloc(values * sizeof *x), *got = (float *)malloc(values * sizeof *x), *beside = (float *)malloc(values * sizeof *x);
    struct compiled *reference = mixture_compile(&backend_reference, &m, false, MIXTURE_ROWS), *device = mixture_compile(cuda, &m, false, MIXTURE_ROWS);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        int n = counts[i], before = 2;
        float *own = x + before * s->in;
        mixture_step(&backend_reference, reference, &m, own, &n, 1, expected);
        mixture_step(cuda, device, &m, own, &n, 1, got);
        double error = tiny_error(got, expected, n * s->in);
        cr_assert_lt(error, bound, "%s, %s, %d rows: %g", kernels ? kernels : "", storage_types[s->format].name, n, error);
        emulator.backwards = true; /* the order in which threads run must not show, nor what else is in the batch */
        mixture_step(cuda, device, &m, x, (int[]){before, n, 5}, 3, beside);
        emulator.backwards = false;
        cr_assert_eq(memcmp(beside + before * s->in, got, (size_t)(n * s->in) * sizeof *got), 0, "%s: %d rows beside others differ", storage_types[s->format].name, n);
        if (n == 17)
            for (int row = 0; row < n; row += 5) {
                mixture_step(cuda, device, &m, own + row * s->in, (int[]){1}, 1, beside);
                cr_assert_eq(memcmp(beside, got + row * s->in, (size_t)s->in * sizeof *got), 0, "%s: row %d differs from it alone", storage_types[s->format].name, row);
            }
    }
    backend_reference.free(reference), cuda->free(device);
    free(x), free(expected), free(got), free(beside);
    arena_free(&m.arena);
    unsetenv("INGOT_CUDA_KERNELS");
}

Test(cuda_experts, every_fast_format)
{
    static const enum storage formats[] = {
#define FAST(id, name, kind) STORAGE_##id,
#include "kernels/cuda/fast.def"
#undef FAST
    };
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        struct mixture_shape s = {formats[i], 256, 256, 6, 2, i % 2 == 1, i % 3 == 0, i % 3 == 1, false, 0, false};
        check(&s, NULL, formats[i] == STORAGE_F32 ? 1e-5 : 2e-2);
    }
}

Test(cuda_experts, shapes)
{
    static const struct mixture_shape shapes[] = {
        {STORAGE_BF16, 40, 56, 5, 3, true, true, false, true, 0, false}, /* nothing is a whole run */
        {STORAGE_Q4_0, 96, 64, 8, 2, false, false, true, false, 0, false},
        {STORAGE_Q8_0, 64, 96, 8, 3, true, false, false, true, 4, false},
        {STORAGE_Q4_K, 256, 512, 3, 1, false, true, false, false, 0, false},
        {STORAGE_IQ3_XXS, 256, 256, 4, 2, false, false, false, false, 0, false}, /* from stored bytes */
        {STORAGE_Q8_0, 32, 32, 160, 2, false, false, false, true, 8, false},     /* more experts than threads */
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        check(&shapes[i], NULL, shapes[i].format == STORAGE_IQ3_XXS ? 1e-5 : 2e-2);
}

Test(cuda_experts, plain)
{
    struct mixture_shape s = {STORAGE_Q4_K, 256, 256, 6, 2, true, true, true, false, 0, false};
    check(&s, "plain", 1e-5);
    s.format = STORAGE_BF16;
    check(&s, "plain", 1e-5);
    check(&s, "bytes", 2e-2);
    s.format = STORAGE_Q5_0;
    check(&s, "bytes", 2e-2);
}
