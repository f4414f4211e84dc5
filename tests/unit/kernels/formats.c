/* Every storage format against values that independent decoders read, and the 16-bit floats bit by bit. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernels/formats/fp4.h"
#include "kernels/formats/small.h"
#include "kernels/ops.h"
#include "format_vectors.h"

static void check(enum storage storage, const char *name, const unsigned char *bytes, const float *expected, int64_t count)
{
    const struct format *f = format_find(storage);
    cr_assert(f, "%s is not found", name);
    float values[512];
    for (int shift = 0; shift < 3; shift++) { /* data lies at any byte offset */
        unsigned char moved[600];
        size_t size = (size_t)count / (size_t)storage_types[storage].block_elements * (size_t)storage_types[storage].block_bytes;
        memcpy(moved + shift, bytes, size);
        f->decode(moved + shift, values, count);
        for (int64_t i = 0; i < count; i++) /* a float32 product or difference rounds where the float64 one does not */
            cr_assert(fabsf(values[i] - expected[i]) <= 1e-5f + 1e-6f * fabsf(expected[i]), "%s: value %d is %.9g, not %.9g", name, (int)i,
                      (double)values[i], (double)expected[i]);
    }
}

Test(formats, decode)
{
#define CHECK(name) check(STORAGE_##name, #name, name##_bytes, name##_values, sizeof name##_values / sizeof(float));
    FORMAT_VECTORS(CHECK)
}

/* Squared error of what encode wrote, over that of leaving everything away. */
static double lost(enum storage storage, const float *values, int count)
{
    const struct format *f = format_find(storage);
    unsigned char bytes[600];
    float back[512];
    double error = 0, all = 0;
    f->encode(values, NULL, bytes, count);
    f->decode(bytes, back, count);
    for (int i = 0; i < count; i++) {
        error += ((double)back[i] - values[i]) * ((double)back[i] - values[i]);
        all += (double)values[i] * values[i];
    }
    return error / all;
}

/* What the gguf package's encoders lose of the values below; ggml's rule for NVFP4, Q1_0 and Q2_0, which it cannot write. */
#define ENCODE_ERRORS(X) \
    X(TQ1_0, 0.368432) X(TQ2_0, 0.368432) X(MXFP4, 0.0123297) X(NVFP4, 0.0102362) X(Q1_0, 0.419429) X(Q2_0, 0.347999)
Test(formats, encode_is_not_worse_than_others)
{
    float values[512];
    for (int i = 0; i < 512; i++)
        values[i] = sinf((float)(i * i) * 0.37f) * expf(cosf((float)i * 1.3f) - 1) * 0.3f;
#define THEIRS(name, error) \
    cr_assert(lost(STORAGE_##name, values, 512) <= (error) * 1.0001, "%s: %g over %g", #name, lost(STORAGE_##name, values, 512), error);
    ENCODE_ERRORS(THEIRS)
    /* what is already ternary comes back as it was; nothing is written but numbers for zeros and what is no number */
    for (int i = 0; i < 512; i++)
        values[i] = (float)(i * 7 % 3 - 1) * 0.03125f;
    cr_assert_eq(lost(STORAGE_TQ1_0, values, 512), 0);
    cr_assert_eq(lost(STORAGE_TQ2_0, values, 512), 0);
    cr_assert_eq(lost(STORAGE_Q2_0, values, 512), 0);
    static const enum storage written[] = {STORAGE_TQ1_0, STORAGE_TQ2_0, STORAGE_MXFP4, STORAGE_NVFP4, STORAGE_Q1_0, STORAGE_Q2_0};
    for (size_t k = 0; k < sizeof written / sizeof *written; k++) {
        unsigned char bytes[600];
        const struct format *f = format_find(written[k]);
        memset(values, 0, sizeof values);
        f->encode(values, NULL, bytes, 256);
        f->decode(bytes, values, 256);
        for (int i = 0; i < 256; i++)
            cr_assert_eq(values[i], 0);
        values[3] = 1e30f, values[100] = 1e-40f;
        f->encode(values, NULL, bytes, 256);
        values[5] = INFINITY, values[6] = -INFINITY, values[7] = NAN;
        f->encode(values, NULL, bytes, 256);
    }
}

Test(formats, small_floats_by_hand)
{
    cr_assert_eq(e8m0_half(127), 0.5f);
    cr_assert_eq(e8m0_half(0), 0x1p-128f);
    cr_assert_eq(e8m0_half(1), 0x1p-127f);
    cr_assert_eq(e8m0_half(255), 0x1p127f);
    cr_assert_eq(ue4m3_half(0x38), 0.5f);
    cr_assert_eq(ue4m3_half(0xB8), 0.5f);
    cr_assert_eq(ue4m3_half(0x7E), 224);
    cr_assert_eq(ue4m3_half(0x7F), 0);
    cr_assert_eq(ue4m3_half(1), 0x1p-10f);
    for (int s = 0; s < 0x7F; s++)
        cr_assert_eq(ue4m3_nearest(2 * ue4m3_half((unsigned char)s)), s);
    for (unsigned code = 0; code < 16; code++)
        cr_assert_eq(fp4_doubled[fp4_nearest(fp4_doubled[code])], fp4_doubled[code]);
    /* halfway: 1/4 -> 0, 3/4 -> 1, 5/4 -> 1, 7/4 -> 2, 5/2 -> 2, 7/2 -> 4, 5 -> 4 */
    static const float middle[] = {0.5f, 1.5f, 2.5f, 3.5f, 5, 7, 10};
    static const unsigned even[] = {0, 2, 2, 4, 4, 6, 6};
    for (int i = 0; i < 7; i++)
        cr_assert_eq(fp4_nearest(-middle[i]), even[i] | 8);
}

Test(formats, unknown)
{
    cr_assert_null(format_find(STORAGE_I64));
    cr_assert_null(format_find(STORAGE_COUNT));
}

Test(formats, half_by_hand)
{
    static const struct {
        uint16_t half;
        float value;
    } cases[] = {{0x0000, 0},        {0x3C00, 1},        {0xC000, -2},         {0x7BFF, 65504},      {0x0001, 0x1p-24f},
                 {0x03FF, 0x3FFp-24f}, {0x0400, 0x1p-14f}, {0x3555, 0x1.554p-2f}, {0x7C00, INFINITY}, {0xFC00, -INFINITY}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cr_assert_eq(half_to_float(cases[i].half), cases[i].value);
        cr_assert_eq(float_to_half(cases[i].value), cases[i].half);
    }
    cr_assert(isnan(half_to_float(0x7E00)));
    cr_assert(isnan(half_to_float(float_to_half(NAN))));
}

Test(formats, half_there_and_back)
{
    for (uint32_t h = 0; h < 0x10000; h++) {
        float f = half_to_float((uint16_t)h);
        if (!isnan(f))
            cr_assert_eq(float_to_half(f), h, "half %04x", h);
        float b = bf16_to_float((uint16_t)h);
        if (!isnan(b))
            cr_assert_eq(float_to_bf16(b), h, "bf16 %04x", h);
    }
}

Test(formats, rounding_to_nearest_even)
{
    /* halfway between 1 and the next half is 1 + 2^-11: to the even one; a little more: up */
    cr_assert_eq(float_to_half(1 + 0x1p-11f), 0x3C00);
    cr_assert_eq(float_to_half(1 + 0x1.8p-10f), 0x3C02);
    cr_assert_eq(float_to_half(1 + 0x1p-11f + 0x1p-20f), 0x3C01);
    cr_assert_eq(float_to_half(65519), 0x7BFF);
    cr_assert_eq(float_to_half(65520), 0x7C00);
    cr_assert_eq(float_to_half(0x1p-25f), 0x0000);
    cr_assert_eq(float_to_half(0x1.8p-25f), 0x0001);
    cr_assert_eq(float_to_bf16(1 + 0x1p-8f), 0x3F80);
    cr_assert_eq(float_to_bf16(1 + 0x1.8p-7f), 0x3F82);
    cr_assert_eq(float_to_bf16(1 + 0x1p-8f + 0x1p-16f), 0x3F81);
    cr_assert(isnan(bf16_to_float(float_to_bf16(float_of_bits(0x7F800001)))));
}

Test(formats, rope_plain_and_dynamic)
{
    float inverse[4] = {1, 0.1f, 0.01f, 0.001f}, cosine[4], sine[4];
    struct rope r = {.dims = 8, .inverse_frequency = inverse, .magnitude = 2};
    rope_angles(&r, 3, 0, cosine, sine);
    cr_assert_float_eq(cosine[1], 2 * cos(0.3), 1e-6);
    cr_assert_float_eq(sine[2], 2 * sin(0.03), 1e-6);
    r.original = 16, r.base = 10000, r.factor = 4, r.magnitude = 1;
    rope_angles(&r, 15, 0, cosine, sine); /* still inside the trained length */
    cr_assert_float_eq(sine[3], sin(0.015), 1e-6);
    rope_angles(&r, 31, 0, cosine, sine);
    double base = 10000 * pow(4.0 * 32 / 16 - 3, 8.0 / 6);
    for (int i = 0; i < 4; i++)
        cr_assert_float_eq(sine[i], sin(31 / pow(base, 2 * i / 8.0)), 2e-6);
}

Test(formats, e4m3_there_and_back)
{
    const struct format *f = format_find(STORAGE_F8_E4M3);
    for (int code = 0; code < 256; code++) {
        unsigned char byte = (unsigned char)code, again;
        float value;
        f->decode(&byte, &value, 1);
        cr_assert_eq(isnan(value), (code & 0x7F) == 0x7F, "code %02x", code);
        f->encode(&value, NULL, &again, 1);
        cr_assert_eq(again, byte, "code %02x is %g", code, (double)value);
    }
    static const struct {
        float value;
        unsigned char code;
    } cases[] = {{1, 0x38}, {448, 0x7E}, {1e9f, 0x7E}, {-1e9f, 0xFE}, {0x1p-9f, 1}, {0x1p-10f, 0}, {0x1.8p-9f, 2}, {1.0625f, 0x38}, {1.1875f, 0x3A}, {INFINITY, 0x7F}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        unsigned char code;
        f->encode(&cases[i].value, NULL, &code, 1);
        cr_assert_eq(code, cases[i].code, "%g became %02x", (double)cases[i].value, code);
    }
}

/* Groups with a scale: the error is half a step, what was decoded encodes to the same bytes, what is no number stays none. */
Test(formats, scaled_there_and_back)
{
    static const enum storage types[] = {STORAGE_Q8_0, STORAGE_Q4_0};
    for (size_t k = 0; k < 2; k++) {
        const struct format *f = format_find(types[k]);
        size_t bytes = (size_t)storage_types[types[k]].block_bytes;
        for (int n = 0; n < 200; n++) {
            float values[32], read[32], most = 0;
            unsigned char code[34], again[34];
            for (int i = 0; i < 32; i++) {
                values[i] = sinf((float)(n * 37 + i * i)) * powf(10, (float)(n % 7 - 2));
                most = fabsf(values[i]) > most ? fabsf(values[i]) : most;
            }
            f->round(values, code, 32);
            f->decode(code, read, 32);
            float step = most / (k ? 8 : 127); /* the largest of the other sign has no code of its own in Q4_0 */
            for (int i = 0; i < 32; i++)
                cr_assert(fabsf(read[i] - values[i]) <= step * (k ? 1.01f : 0.6f) + 1e-7f, "%s: %g became %g", storage_types[types[k]].name, (double)values[i],
                          (double)read[i]);
            f->round(read, again, 32);
            cr_assert_eq(memcmp(code, again, bytes), 0, "%s, case %d", storage_types[types[k]].name, n);
        }
        static const float bad[] = {NAN, INFINITY, -INFINITY};
        for (int i = 0; i < 3; i++) {
            float values[32] = {1, 2, 3}, read[32];
            unsigned char code[34];
            values[17] = bad[i];
            f->round(values, code, 32);
            f->decode(code, read, 32);
            cr_assert(isnan(read[0]) && isnan(read[17]));
            float nothing[32] = {0};
            f->round(nothing, code, 32);
            f->decode(code, read, 32);
            cr_assert(read[0] == 0 && read[31] == 0);
        }
    }
}
