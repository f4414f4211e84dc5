/* Q5_1: 32 weights in 24 bytes: f16 d | f16 m | u32 high | 16 bytes. Codes as in Q5_0, w = d * q + m. */
#include "kernels/formats/formats.h"
#include "kernels/formats/search.h"
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

void q5_1_encode(const float *values, const float *importance, unsigned char *bytes, int64_t count)
{
    for (int64_t at = 0; at < count; at += 32, bytes += 24) {
        float code[32], d, m;
        unsigned char q[32];
        uint32_t high = 0;
        search_line(values + at, importance ? importance + at : NULL, 32, 31, &d, &m, code);
        for (int j = 0; j < 32; j++) {
            q[j] = (unsigned char)code[j];
            high |= (uint32_t)(q[j] >> 4) << j;
        }
        store_half(d, bytes);
        store_half(m, bytes + 2);
        memcpy(bytes + 4, &high, 4);
        store_nibbles(q, q + 16, 16, bytes + 8);
    }
}
