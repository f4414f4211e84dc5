/* IQ4_NL: 32 weights in 18 bytes: f16 d | 16 bytes as in Q4_0; a nibble is an index into 16 values. w = d * value. */
#include "kernels/formats/formats.h"
#include "kernels/formats/small.h"

static const signed char table[16] = IQ4_VALUES;

void iq4_nl_decode(const unsigned char *bytes, float *values, int64_t count)
{
    for (; count > 0; count -= 32, bytes += 18, values += 32) {
        float d = load_half(bytes);
        for (int j = 0; j < 16; j++) {
            values[j] = d * (float)table[bytes[2 + j] & 15];
            values[j + 16] = d * (float)table[bytes[2 + j] >> 4];
        }
    }
}
