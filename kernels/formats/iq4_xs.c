/* IQ4_XS: 256 weights in 136 bytes: f16 d | u16 scales_h | 4 bytes scales_l | 128 bytes codes.
 * Scale of sub-block s (32 weights): nibble s % 2 of scales_l[s / 2], bits 2s.. of scales_h above it, minus 32.
 * 16 bytes a sub-block: low nibbles weights 0-15, high 16-31, indices into 16 values. w = d * (sc - 32) * value. */
#include "kernels/formats/formats.h"
#include "kernels/formats/search.h"
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

void iq4_xs_encode(const float *values, const float *importance, unsigned char *bytes, int64_t count)
{
    for (int64_t at = 0; at < count; at += 256, bytes += 136) {
        struct super_scale f;
        unsigned char q[256];
        uint16_t high = 0;
        search_super_scale(values + at, importance ? importance + at : NULL, 32, (struct codes){-32, 31, NULL}, (struct codes){-127, 113, table}, &f);
        for (int j = 0; j < 256; j++)
            q[j] = table_index(table, f.code[j]);
        for (int s = 0; s < 8; s++) {
            unsigned char scale = (unsigned char)(f.scale[s] + 32);
            bytes[4 + s / 2] = (unsigned char)((s & 1 ? bytes[4 + s / 2] : 0) | (scale & 15) << (4 * (s & 1)));
            high |= (uint16_t)(scale >> 4 << (2 * s));
            store_nibbles(q + 32 * s, q + 32 * s + 16, 16, bytes + 8 + 16 * s);
        }
        store_half(f.d, bytes);
        memcpy(bytes + 2, &high, 2);
    }
}
