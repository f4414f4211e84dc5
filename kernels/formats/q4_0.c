/* Q4_0: 32 weights in 18 bytes: f16 d | 16 bytes. Byte j: low nibble weight j, high nibble weight j + 16.
 * w = d * (q - 8); d may be negative. */
#include "kernels/formats/formats.h"
#include "kernels/formats/small.h"

void q4_0_decode(const unsigned char *bytes, float *values, int64_t count)
{
    for (; count > 0; count -= 32, bytes += 18, values += 32) {
        float d = load_half(bytes);
        for (int j = 0; j < 16; j++) {
            values[j] = d * (float)((bytes[2 + j] & 15) - 8);
            values[j + 16] = d * (float)((bytes[2 + j] >> 4) - 8);
        }
    }
}
