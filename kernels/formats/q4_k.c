/* Q4_K: 256 weights in 144 bytes: f16 d | f16 dmin | 12 bytes scales (k_scales) | 128 bytes codes.
 * Sub-blocks of 32. Run c of 32 bytes: low nibbles are sub-block 2c, high nibbles 2c + 1. w = d*sc*q - dmin*m. */
#include "kernels/formats/formats.h"
#include "kernels/formats/search.h"
#include "kernels/formats/small.h"

void q4_k_decode(const unsigned char *bytes, float *values, int64_t count)
{
    for (; count > 0; count -= 256, bytes += 144, values += 256) {
        float d = load_half(bytes), dmin = load_half(bytes + 2);
        unsigned char scale[8], min[8];
        k_scales(bytes + 4, scale, min);
        for (int s = 0; s < 8; s++) {
            const unsigned char *run = bytes + 16 + 32 * (s >> 1);
            float ds = d * (float)scale[s], ms = dmin * (float)min[s];
            for (int j = 0; j < 32; j++)
                values[32 * s + j] = ds * (float)(run[j] >> (4 * (s & 1)) & 15) - ms;
        }
    }
}

void q4_k_encode(const float *values, const float *importance, unsigned char *bytes, int64_t count)
{
    for (int64_t at = 0; at < count; at += 256, bytes += 144) {
        struct super_line f;
        search_super_line(values + at, importance ? importance + at : NULL, 32, 15, 63, &f);
        store_half(f.d, bytes);
        store_half(f.dmin, bytes + 2);
        store_k_scales(f.scale, f.min, bytes + 4);
        for (int c = 0; c < 4; c++)
            store_nibbles(f.code + 64 * c, f.code + 64 * c + 32, 32, bytes + 16 + 32 * c);
    }
}
