/* Q4_1: 32 weights in 20 bytes: f16 d | f16 m | 16 bytes as in Q4_0. w = d * q + m. */
#include "kernels/formats/formats.h"
#include "kernels/formats/search.h"
#include "kernels/formats/small.h"

void q4_1_decode(const unsigned char *bytes, float *values, int64_t count)
{
    for (; count > 0; count -= 32, bytes += 20, values += 32) {
        float d = load_half(bytes), m = load_half(bytes + 2);
        for (int j = 0; j < 16; j++) {
            values[j] = d * (float)(bytes[4 + j] & 15) + m;
            values[j + 16] = d * (float)(bytes[4 + j] >> 4) + m;
        }
    }
}

void q4_1_encode(const float *values, const float *importance, unsigned char *bytes, int64_t count)
{
    for (int64_t at = 0; at < count; at += 32, bytes += 20) {
        float code[32], d, m;
        unsigned char q[32];
        search_line(values + at, importance ? importance + at : NULL, 32, 15, &d, &m, code);
        for (int j = 0; j < 32; j++)
            q[j] = (unsigned char)code[j];
        store_half(d, bytes);
        store_half(m, bytes + 2);
        store_nibbles(q, q + 16, 16, bytes + 4);
    }
}
