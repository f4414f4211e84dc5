/* Quantising: how far the values that are read back lie from those that went in. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernels/ops.h"

enum { COUNT = 8192 };

/* Bell-shaped values whose spread changes from block to block, as weights do; every sixth block does not lie around 0.
 * The recorded errors are those of llama.cpp's quantisers (ggml_quantize_chunk, 0.3.36 of llama-cpp-python) on the same values. */
static void draw(float *values)
{
    uint64_t state = 1;
    for (int i = 0; i < COUNT; i++) {
        int32_t sum = 0;
        for (int k = 0; k < 4; k++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            sum += (int32_t)(state >> 48) - 32768;
        }
        int block = i / 32;
        values[i] = (float)sum * (float)(1 + block % 5) * 0x1p-20f + (block % 6 == 5 ? 0.0625f : 0);
    }
}

static const struct {
    enum storage storage;
    double llama; /* relative RMS error without importance */
} formats[] = {
    {STORAGE_Q8_0, 0.004963}, {STORAGE_Q6_K, 0.017055}, {STORAGE_Q5_K, 0.033729}, {STORAGE_Q5_1, 0.035530},
    {STORAGE_Q5_0, 0.040010}, {STORAGE_Q4_K, 0.067120}, {STORAGE_IQ4_XS, 0.073140}, {STORAGE_IQ4_NL, 0.072374},
    {STORAGE_Q4_1, 0.073574}, {STORAGE_Q4_0, 0.080288}, {STORAGE_Q3_K, 0.143122}, {STORAGE_Q2_K, 0.285588},
};
enum { FORMATS = sizeof formats / sizeof *formats };

/* Codebooks: zero is none of their values, and what they have said is not always found again. */
static const struct {
    enum storage storage;
    double llama, aimed; /* llama.cpp's errors on the same values: all alike (its importance 1), and where importance_moves... says */
} books[] = {
    {STORAGE_IQ3_S, 0.136107, 0.076810},   {STORAGE_IQ3_XXS, 0.179871, 0.078956}, {STORAGE_IQ2_S, 0.244452, 0.142850}, {STORAGE_IQ2_XS, 0.298645, 0.146747},
    {STORAGE_IQ2_XXS, 0.342212, 0.230711}, {STORAGE_IQ1_M, 0.445746, 0.197247},   {STORAGE_IQ1_S, 0.475363, 0.320145},
};

static const char *name(int i) { return storage_types[formats[i].storage].name; }

static void there_and_back(enum storage storage, const float *values, const float *importance, float *back, int count)
{
    static unsigned char bytes[4 * COUNT + 64];
    const struct format *f = format_find(storage);
    size_t size = (size_t)(count / storage_types[storage].block_elements * storage_types[storage].block_bytes);
    cr_assert(f && f->encode, "%s cannot be written", storage_types[storage].name);
    memset(bytes, 0xAA, sizeof bytes); /* nothing is left over from before, nothing is written behind */
    f->encode(values, importance, bytes + 1, count);
    cr_assert_eq(bytes[0], 0xAA);
    cr_assert_eq(bytes[1 + size], 0xAA, "%s writes behind its end", storage_types[storage].name);
    f->decode(bytes + 1, back, count);
}

static double error_of(const float *values, const float *back, const float *weights)
{
    double squares = 0, errors = 0;
    for (int i = 0; i < COUNT; i++) {
        double w = weights ? weights[i] : 1, e = (double)values[i] - back[i];
        squares += w * values[i] * values[i];
        errors += w * e * e;
    }
    return sqrt(errors / squares);
}

Test(encode, no_worse_than_recorded)
{
    static float values[COUNT], back[COUNT];
    draw(values);
    for (int i = 0; i < FORMATS; i++) {
        there_and_back(formats[i].storage, values, NULL, back, COUNT);
        double error = error_of(values, back, NULL);
        cr_expect_leq(error, formats[i].llama, "%s: error %.6f, llama.cpp's %.6f", name(i), error, formats[i].llama);
        cr_expect_geq(error, 0.6 * formats[i].llama, "%s: error %.6f is too good to be true", name(i), error);
    }
}

Test(encode, codebooks_no_worse_than_recorded)
{
    static float values[COUNT], importance[COUNT], back[COUNT];
    draw(values);
    for (int i = 0; i < COUNT; i++)
        importance[i] = i % 8 ? 0.01f : 10;
    for (size_t i = 0; i < sizeof books / sizeof *books; i++) {
        const char *title = storage_types[books[i].storage].name;
        there_and_back(books[i].storage, values, NULL, back, COUNT);
        double error = error_of(values, back, NULL);
        cr_expect(error <= books[i].llama && error >= 0.6 * books[i].llama, "%s: error %.6f, llama.cpp's %.6f", title, error, books[i].llama);
        there_and_back(books[i].storage, values, importance, back, COUNT);
        error = error_of(values, back, importance);
        cr_expect(error <= books[i].aimed && error >= 0.5 * books[i].aimed, "%s: error %.6f where it counts, llama.cpp's %.6f", title, error, books[i].aimed);
        memset(back, 0, sizeof back);
        there_and_back(books[i].storage, back, NULL, back, COUNT);
        for (int k = 0; k < COUNT; k++)
            cr_assert_eq(back[k], 0, "%s: zero became %g", title, (double)back[k]);
    }
}

Test(encode, importance_moves_the_error)
{
    static float values[COUNT], importance[COUNT], plain[COUNT], aimed[COUNT];
    draw(values);
    for (int i = 0; i < COUNT; i++)
        importance[i] = i % 8 ? 0.01f : 10;
    for (int i = 0; i < FORMATS; i++) {
        there_and_back(formats[i].storage, values, NULL, plain, COUNT);
        there_and_back(formats[i].storage, values, importance, aimed, COUNT);
        double before = error_of(values, plain, importance), after = error_of(values, aimed, importance);
        cr_expect_lt(after, 0.9 * before, "%s: %.6f of %.6f where it counts", name(i), after, before);
        memset(importance, 0, sizeof importance); /* says nothing: as without */
        there_and_back(formats[i].storage, values, importance, aimed, COUNT);
        cr_expect_leq(error_of(values, aimed, NULL), 1.0001 * error_of(values, plain, NULL), "%s", name(i));
        for (int k = 0; k < COUNT; k++)
            importance[k] = k % 8 ? 0.01f : 10;
    }
}

/* What a format has said once it says again: the scales are found, not approached. */
Test(encode, again_is_exact)
{
    static float values[COUNT], once[COUNT], twice[COUNT];
    draw(values);
    for (int i = 0; i < FORMATS; i++) {
        there_and_back(formats[i].storage, values, NULL, once, COUNT);
        there_and_back(formats[i].storage, once, NULL, twice, COUNT);
        bool super = storage_types[formats[i].storage].block_elements == 256; /* several scales can say nearly the same */
        cr_expect_leq(error_of(once, twice, NULL), super ? 0.35 * formats[i].llama : 0, "%s: %.9f", name(i), error_of(once, twice, NULL));
    }
}

Test(encode, plain_cases)
{
    static float values[256], back[256];
    for (int i = 0; i < FORMATS; i++) {
        there_and_back(formats[i].storage, values, NULL, back, 256); /* zeros */
        for (int k = 0; k < 256; k++)
            cr_assert_eq(back[k], 0, "%s: zero became %g", name(i), (double)back[k]);
        for (int sign = -1; sign <= 1; sign += 2) { /* one value alone, at either end of a block */
            for (int at = 0; at < 256; at += 31) {
                memset(values, 0, sizeof values);
                values[at] = 0.37f * (float)sign;
                there_and_back(formats[i].storage, values, NULL, back, 256);
                cr_assert_float_eq(back[at], values[at], 2e-3, "%s: %g alone became %g", name(i), (double)values[at], (double)back[at]);
                for (int k = 0; k < 256; k++)
                    cr_assert(k == at || fabsf(back[k]) < 4e-3f, "%s: zero beside it became %g", name(i), (double)back[k]);
            }
            for (int k = 0; k < 256; k++) /* all alike */
                values[k] = 0.37f * (float)sign;
            there_and_back(formats[i].storage, values, NULL, back, 256);
            for (int k = 0; k < 256; k++)
                cr_assert_float_eq(back[k], values[k], 4e-3, "%s: %g became %g", name(i), (double)values[k], (double)back[k]);
        }
        memset(values, 0, sizeof values);
    }
}

Test(encode, extremes)
{
    static const float sizes[] = {65000, 1e3f, 1e-3f, 1e-6f, 1e-9f, 1e-20f, 1e-38f, 1e-45f};
    static float values[256], back[256];
    for (int i = 0; i < FORMATS; i++)
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            for (int k = 0; k < 256; k++)
                values[k] = sizes[s] * (float)(k % 13 - 6) / 6;
            there_and_back(formats[i].storage, values, NULL, back, 256);
            for (int k = 0; k < 256; k++)
                cr_assert(fabsf(back[k] - values[k]) <= 0.4f * sizes[s] + 1e-6f, "%s: %g became %g", name(i), (double)values[k], (double)back[k]);
        }
}
