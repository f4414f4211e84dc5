/* MXFP4 as GGUF has it: 32 weights in 17 bytes: e8m0 e | 16 bytes. Byte j: low nibble weight j, high nibble weight j + 16, codes
 * of E2M1. w = 2^(e - 127) * value. Source: OCP Microscaling Formats 1.0; ggml-common.h, ggml-quants.c. */
#include <math.h>

#include "kernels/formats/formats.h"
#include "kernels/formats/fp4.h"

void mxfp4_decode(const unsigned char *bytes, float *values, int64_t count)
{
    for (; count > 0; count -= 32, bytes += 17, values += 32) {
        float half = e8m0_half(bytes[0]);
        for (int j = 0; j < 16; j++) {
            values[j] = half * (float)fp4_doubled[bytes[1 + j] & 15];
            values[j + 16] = half * (float)fp4_doubled[bytes[1 + j] >> 4];
        }
    }
}

static double encode_as(const float *values, int e, unsigned char *bytes)
{
    float half = e8m0_half((unsigned char)e);
    double error = 0;
    bytes[0] = (unsigned char)e;
    for (int j = 0; j < 32; j++) {
        unsigned code = fp4_nearest(values[j] / half);
        double off = (double)values[j] - (double)half * fp4_doubled[code];
        error += off * off;
        bytes[1 + j % 16] = (unsigned char)(j < 16 ? code : bytes[1 + j % 16] | code << 4);
    }
    return error;
}

/* The standard's exponent lets the largest weight be cut by up to a quarter; the next one does not. The better is taken. */
void mxfp4_encode(const float *values, const float *importance, unsigned char *bytes, int64_t count)
{
    (void)importance; /* its codes leave no choice worth a search */
    for (; count > 0; count -= 32, bytes += 17, values += 32) {
        float most = 0;
        for (int j = 0; j < 32; j++)
            most = fmaxf(most, fabsf(values[j]));
        int exponent = 0;
        frexpf(most, &exponent); /* most = m * 2^exponent, 1/2 <= m < 1 */
        int e = most > 0 ? exponent - 1 - 2 + 127 : 0;
        e = e < 0 ? 0 : e > 253 ? 253 : e;
        unsigned char wider[17];
        double first = encode_as(values, e, bytes);
        if (encode_as(values, e + 1, wider) < first)
            memcpy(bytes, wider, sizeof wider);
    }
}
