/* Q8_0: 32 weights in 34 bytes: f16 d | 32 int8. w = d * q. */
#include "kernels/formats/formats.h"
#include "kernels/formats/small.h"

void q8_0_decode(const unsigned char *bytes, float *values, int64_t count)
{
    for (; count > 0; count -= 32, bytes += 34, values += 32) {
        float d = load_half(bytes);
        for (int j = 0; j < 32; j++)
            values[j] = d * (float)(signed char)bytes[2 + j];
    }
}
