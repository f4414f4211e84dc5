/* The CUDA backend under test: on the emulated device (emulator.h) or, with INGOT_TEST_CUDA=1, on the machine's card. */
#ifndef TESTS_UNIT_KERNELS_CUDA_BACKEND_H
#define TESTS_UNIT_KERNELS_CUDA_BACKEND_H

#include "tiny.h"

#include "emulator.h"
#include "kernels/cuda/cuda.h"

/* Relative error of float32 sums against double ones. */
static const double float_error = 2e-6;

static inline bool on_card(void) { return getenv("INGOT_TEST_CUDA"); }

/* The same for products by matrix units of what bf16 holds exactly: a card's cut bits off while they sum up. */
static inline double matrix_error(void) { return on_card() ? 5e-5 : float_error; }

static inline enum status emulated_compile(struct compiled **out, const struct program *p, const struct compile_options *o, struct error *err)
{
    return cuda_compile_with(&emulated_interface, out, p, o, err);
}

static inline enum status emulated_state_open(const struct program *p, const struct compile_options *o, const int32_t *blocks, struct state_memory *out, struct error *err)
{
    return cuda_state_open_with(&emulated_interface, p, o, blocks, out, err);
}

static inline void emulated_state_close(const struct compile_options *o, struct state_memory *memory) { cuda_state_close_with(&emulated_interface, o, memory); }

static inline const struct backend *emulated_backend(void)
{
    static struct backend b;
    b = cuda_backend;
    b.compile = emulated_compile;
    b.state_open = emulated_state_open;
    b.state_close = emulated_state_close;
    return &b;
}

static inline const struct backend *cuda_under_test(void)
{
    if (on_card()) {
        const struct backend *card;
        struct cuda_room room;
        struct error err;
        cr_assert_eq(backend_cuda(&card, 0, &room, &err), STATUS_OK, "%s", err.text);
        return card;
    }
    return emulated_backend();
}

static inline float *random_rows(int64_t count)
{
    float *x = (float *)malloc((size_t)count * sizeof *x);
    for (int64_t i = 0; i < count; i++)
        x[i] = 4 * tiny_float();
    return x;
}

/* Rows that become bytes without loss: multiples of a power of two, the largest of every 16 being 127 of them. */
static inline float *rows_of_bytes(int64_t rows, int64_t width)
{
    float *x = (float *)malloc((size_t)(rows * width) * sizeof *x);
    for (int64_t i = 0; i < rows * width; i++) {
        float size = ldexpf(1, (int)(i / 16 % 7) - 8);
        x[i] = size * (i % 16 == 5 ? (i & 32 ? 127.0f : -127.0f) : (float)((int)(tiny_random() % 255) - 127));
    }
    return x;
}

#endif
