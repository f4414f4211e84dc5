/* Q5_0: 32 weights in 22 bytes: f16 d | u32 high | 16 bytes as in Q4_0. Bit j of high is bit 4 of weight j.
 * w = d * (q - 16). */
#include "kernels/formats/formats.h"
#include "kernels/formats/search.h"
#include "kernels/formats/small.h"

void q5_0_decode(const unsigned char *bytes, float *values, int64_t count)
{
    for (; count > 0; count -= 32, bytes += 22, values += 32) {
        float d = load_half(bytes);
        uint32_t high = load_u32(bytes + 2);
        for (int j = 0; j < 16; j++) {
            int low = bytes[6 + j] & 15, up = bytes[6 + j] >> 4;
            values[j] = d * (float)((low | (int)(high >> j & 1) << 4) - 16);
            values[j + 16] = d * (float)((up | (int)(high >> (j + 16) & 1) << 4) - 16);
        }
    }
}

void q5_0_encode(const float *values, const float *importance, unsigned char *bytes, int64_t count)
{
    for (int64_t at = 0; at < count; at += 32, bytes += 22) {
        float code[32];
        unsigned char q[32];
        uint32_t high = 0;
        store_half(search_scale(values + at, importance ? importance + at : NULL, 32, (struct codes){-16, 15, NULL}, code), bytes);
        for (int j = 0; j < 32; j++) {
            q[j] = (unsigned char)(code[j] + 16);
            high |= (uint32_t)(q[j] >> 4) << j;
        }
        memcpy(bytes + 2, &high, 4);
        store_nibbles(q, q + 16, 16, bytes + 6);
    }
}
