/* Q2_0: 64 weights in 18 bytes: f16 d | 16 bytes. Bits 2(j % 4).. of byte j / 4 are weight j. w = d * (q - 1), q 0 to 3.
 * Source: ggml-common.h, ggml-quants.c. */
#include "kernels/formats/formats.h"
#include "kernels/formats/small.h"
#include "kernels/formats/ternary.h"

void q2_0_decode(const unsigned char *bytes, float *values, int64_t count)
{
    for (; count > 0; count -= 64, bytes += 18, values += 64) {
        float d = load_half(bytes);
        for (int i = 0; i < 64; i++)
            values[i] = d * (float)((bytes[2 + i / 4] >> 2 * (i % 4) & 3) - 1);
    }
}

void q2_0_encode(const float *values, const float *importance, unsigned char *bytes, int64_t count)
{
    (void)importance; /* its codes leave no choice worth a search */
    for (; count > 0; count -= 64, bytes += 18, values += 64) {
        signed char code[64];
        store_u16(bytes, ternary(values, 64, 2, code));
        memset(bytes + 2, 0, 16);
        for (int i = 0; i < 64; i++)
            bytes[2 + i / 4] |= (unsigned char)((code[i] + 1) << 2 * (i % 4));
    }
}
