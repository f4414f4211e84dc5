/* IQ4_XS: 256 weights in 136 bytes: f16 d | u16 scales_h | 4 bytes scales_l | 128 bytes codes.
 * Scale of sub-block s (32 weights): nibble s % 2 of scales_l[s / 2], bits 2s.. of scales_h above it, minus 32.
 * 16 bytes a sub-block: low nibbles weights 0-15, high 16-31, indices into 16 values. w = d * (sc - 32) * value. */
#include "kernels/formats/formats.h"
#include "kernels/formats/small.h"

static const signed char table[16] = IQ4_VALUES;

void iq4_xs_decode(const unsigned char *bytes, float *values, int64_t count)
{
    for (; count > 0; count -= 256, bytes += 136, values += 256) {
        float d = load_half(bytes);
        int high = load_u16(bytes + 2);
        for (int s = 0; s < 8; s++) {
            int scale = (bytes[4 + s / 2] >> (4 * (s & 1)) & 15) | (high >> (2 * s) & 3) << 4;
            float ds = d * (float)(scale - 32);
            const unsigned char *run = bytes + 8 + 16 * s;
            for (int j = 0; j < 16; j++) {
                values[32 * s + j] = ds * (float)table[run[j] & 15];
                values[32 * s + j + 16] = ds * (float)table[run[j] >> 4];
            }
        }
    }
}
