/* Q1_0: 128 weights in 18 bytes: f16 d | 16 bytes. Bit j % 8 of byte j / 8: 1 is +d, 0 is -d.
 * Source: ggml-common.h, ggml-quants.c. */
#include <math.h>

#include "kernels/formats/formats.h"
#include "kernels/formats/small.h"

void q1_0_decode(const unsigned char *bytes, float *values, int64_t count)
{
    for (; count > 0; count -= 128, bytes += 18, values += 128) {
        float d = load_half(bytes);
        for (int i = 0; i < 128; i++)
            values[i] = bytes[2 + i / 8] >> i % 8 & 1 ? d : -d;
    }
}

void q1_0_encode(const float *values, const float *importance, unsigned char *bytes, int64_t count)
{
    (void)importance; /* its codes leave no choice worth a search */
    for (; count > 0; count -= 128, bytes += 18, values += 128) {
        float sum = 0; /* the mean magnitude has the least squared error */
        memset(bytes + 2, 0, 16);
        for (int i = 0; i < 128; i++) {
            sum += fabsf(values[i]);
            bytes[2 + i / 8] |= (unsigned char)((values[i] >= 0) << i % 8);
        }
        store_u16(bytes, float_to_half(sum / 128));
    }
}
