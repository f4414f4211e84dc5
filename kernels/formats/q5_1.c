/* Q5_1: 32 weights in 24 bytes: f16 d | f16 m | u32 high | 16 bytes. Codes as in Q5_0, w = d * q + m. */
#include "kernels/formats/formats.h"
#include "kernels/formats/small.h"

void q5_1_decode(const unsigned char *bytes, float *values, int64_t count)
{
    for (; count > 0; count -= 32, bytes += 24, values += 32) {
        float d = load_half(bytes), m = load_half(bytes + 2);
        uint32_t high = load_u32(bytes + 4);
        for (int j = 0; j < 16; j++) {
            int low = bytes[8 + j] & 15, up = bytes[8 + j] >> 4;
            values[j] = d * (float)(low | (int)(high >> j & 1) << 4) + m;
            values[j + 16] = d * (float)(up | (int)(high >> (j + 16) & 1) << 4) + m;
        }
    }
}
