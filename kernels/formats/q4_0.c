/* Q4_0: 32 weights in 18 bytes: f16 d | 16 bytes. Byte j: low nibble weight j, high nibble weight j + 16.
 * w = d * (q - 8); d may be negative. */
#include "kernels/formats/formats.h"
#include "kernels/formats/search.h"
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

void q4_0_encode(const float *values, const float *importance, unsigned char *bytes, int64_t count)
{
    for (int64_t at = 0; at < count; at += 32, bytes += 18) {
        float code[32];
        unsigned char q[32];
        store_half(search_scale(values + at, importance ? importance + at : NULL, 32, (struct codes){-8, 7, NULL}, code), bytes);
        for (int j = 0; j < 32; j++)
            q[j] = (unsigned char)(code[j] + 8);
        store_nibbles(q, q + 16, 16, bytes + 2);
    }
}

/* The value of largest magnitude becomes -8. A value that is no finite number makes its whole group NaN. */
void q4_0_round(const float *values, unsigned char *bytes, int64_t count)
{
    for (; count > 0; count -= 32, bytes += 18, values += 32) {
        float most = group_most(values), d = most / 8;
        for (int j = 0; j < 32; j++)
            d = values[j] == most ? most / -8 : d;
        uint16_t half = float_to_half(d);
        memcpy(bytes, &half, 2);
        if (!(most > 0x1p-22f)) { /* the scale is zero as a half float, or NaN */
            memset(bytes + 2, 0x88, 16);
            continue;
        }
        float inverse = 1 / d;
        int code[32];
        for (int j = 0; j < 32; j++) {
            int q = (int)nearest(values[j] * inverse) + 8;
            code[j] = q > 15 ? 15 : q;
        }
        for (int j = 0; j < 16; j++)
            bytes[2 + j] = (unsigned char)(code[j] | code[j + 16] << 4);
    }
}
