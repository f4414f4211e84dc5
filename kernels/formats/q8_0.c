/* Q8_0: 32 weights in 34 bytes: f16 d | 32 int8. w = d * q. */
#include "kernels/formats/formats.h"
#include "kernels/formats/search.h"
#include "kernels/formats/small.h"

void q8_0_decode(const unsigned char *bytes, float *values, int64_t count)
{
    for (; count > 0; count -= 32, bytes += 34, values += 32) {
        float d = load_half(bytes);
        for (int j = 0; j < 32; j++)
            values[j] = d * (float)(signed char)bytes[2 + j];
    }
}

void q8_0_encode(const float *values, const float *importance, unsigned char *bytes, int64_t count)
{
    for (int64_t at = 0; at < count; at += 32, bytes += 34) {
        float code[32];
        store_half(search_scale(values + at, importance ? importance + at : NULL, 32, (struct codes){-127, 127, NULL}, code), bytes);
        for (int j = 0; j < 32; j++)
            bytes[2 + j] = (unsigned char)(signed char)code[j];
    }
}

/* d = largest magnitude / 127. A value that is no finite number makes its whole group NaN. */
void q8_0_round(const float *values, unsigned char *bytes, int64_t count)
{
    for (; count > 0; count -= 32, bytes += 34, values += 32) {
        float d = group_most(values) / 127;
        uint16_t half = float_to_half(d);
        memcpy(bytes, &half, 2);
        if (!(d > 0x1p-26f)) { /* zero as a half float, or NaN */
            memset(bytes + 2, 0, 32);
            continue;
        }
        float inverse = 1 / d;
        for (int j = 0; j < 32; j++)
            bytes[2 + j] = (unsigned char)(int)nearest(values[j] * inverse);
    }
}
