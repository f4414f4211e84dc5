/* Q5_K: 256 weights in 176 bytes: f16 d | f16 dmin | 12 bytes scales (k_scales) | 32 bytes fifth bits | 128 bytes codes.
 * As Q4_K; bit 4 of weight 32s + j is bit s of fifth-bit byte j. */
#include "kernels/formats/formats.h"
#include "kernels/formats/search.h"
#include "kernels/formats/small.h"

void q5_k_decode(const unsigned char *bytes, float *values, int64_t count)
{
    for (; count > 0; count -= 256, bytes += 176, values += 256) {
        float d = load_half(bytes), dmin = load_half(bytes + 2);
        unsigned char scale[8], min[8];
        k_scales(bytes + 4, scale, min);
        for (int s = 0; s < 8; s++) {
            const unsigned char *run = bytes + 48 + 32 * (s >> 1);
            float ds = d * (float)scale[s], ms = dmin * (float)min[s];
            for (int j = 0; j < 32; j++) {
                int q = (run[j] >> (4 * (s & 1)) & 15) | (bytes[16 + j] >> s & 1) << 4;
                values[32 * s + j] = ds * (float)q - ms;
            }
        }
    }
}

void q5_k_encode(const float *values, const float *importance, unsigned char *bytes, int64_t count)
{
    for (int64_t at = 0; at < count; at += 256, bytes += 176) {
        struct super_line f;
        search_super_line(values + at, importance ? importance + at : NULL, 32, 31, 63, &f);
        store_half(f.d, bytes);
        store_half(f.dmin, bytes + 2);
        store_k_scales(f.scale, f.min, bytes + 4);
        memset(bytes + 16, 0, 32);
        for (int i = 0; i < 256; i++)
            bytes[16 + (i & 31)] |= (unsigned char)(f.code[i] >> 4 << (i >> 5));
        for (int c = 0; c < 4; c++)
            store_nibbles(f.code + 64 * c, f.code + 64 * c + 32, 32, bytes + 48 + 32 * c);
    }
}
