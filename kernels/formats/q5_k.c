/* Q5_K: 256 weights in 176 bytes: f16 d | f16 dmin | 12 bytes scales (k_scales) | 32 bytes fifth bits | 128 bytes codes.
 * As Q4_K; bit 4 of weight 32s + j is bit s of fifth-bit byte j. */
#include "kernels/formats/formats.h"
#include "kernels/formats/small.h"

void q5_k_decode(const unsigned char *bytes, float *values, int64_t count)
{
    for (; count > 0; count -= 256, bytes += 176, values += 256) {
        float d = load_half(bytes), dmin = load_half(bytes + 2);
        unsigned char scale[8], min[8];
        k_scales(bytes + 4, scale, min);
        for (int s = 0; s < 8; s++) {
            const unsigned char *run = bytes + 48 + 32 * (s >> 1);
            float ds = d * (float)scale[s], ms = dmin * (float)min[s];
            for (int j = 0; j < 32; j++) {
                int q = (run[j] >> (4 * (s & 1)) & 15) | (bytes[16 + j] >> s & 1) << 4;
                values[32 * s + j] = ds * (float)q - ms;
            }
        }
    }
}
