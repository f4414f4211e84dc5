/* TQ2_0: 256 weights in 66 bytes: 64 bytes codes | f16 d.
 * Codes: two halves of 32 bytes; bits 2k..2k+1 of byte j of half h are weight 128h + 32k + j. w = d * (q - 1), q 0 to 2 (3 is
 * read as 2 * d, as ggml reads it). Source: ggml-common.h, ggml-quants.c. */
#include "kernels/formats/formats.h"
#include "kernels/formats/small.h"
#include "kernels/formats/ternary.h"

void tq2_0_decode(const unsigned char *bytes, float *values, int64_t count)
{
    for (; count > 0; count -= 256, bytes += 66, values += 256) {
        float d = load_half(bytes + 64);
        for (int i = 0; i < 256; i++)
            values[i] = d * (float)((bytes[i / 128 * 32 + i % 32] >> 2 * (i / 32 % 4) & 3) - 1);
    }
}

void tq2_0_encode(const float *values, const float *importance, unsigned char *bytes, int64_t count)
{
    (void)importance; /* its codes leave no choice worth a search */
    for (; count > 0; count -= 256, bytes += 66, values += 256) {
        signed char code[256];
        store_u16(bytes + 64, ternary(values, 256, 1, code));
        memset(bytes, 0, 64);
        for (int i = 0; i < 256; i++)
            bytes[i / 128 * 32 + i % 32] |= (unsigned char)((code[i] + 1) << 2 * (i / 32 % 4));
    }
}
