/* Q2_K: 256 weights in 84 bytes: 16 bytes scales | 64 bytes codes | f16 d | f16 dmin.
 * Sub-block s of 16 weights: low nibble of scales[s] is its scale, high nibble its minimum.
 * Codes: two halves of 32 bytes; bits 2k..2k+1 of byte j of half h are weight 128h + 32k + j. w = d*sc*q - dmin*m. */
#include "kernels/formats/formats.h"
#include "kernels/formats/search.h"
#include "kernels/formats/small.h"

void q2_k_decode(const unsigned char *bytes, float *values, int64_t count)
{
    for (; count > 0; count -= 256, bytes += 84, values += 256) {
        float d = load_half(bytes + 80), dmin = load_half(bytes + 82);
        for (int i = 0; i < 256; i++) {
            int half = i >> 7, k = i >> 5 & 3, j = i & 31;
            int q = bytes[16 + 32 * half + j] >> (2 * k) & 3;
            unsigned char s = bytes[i >> 4];
            values[i] = d * (float)(s & 15) * (float)q - dmin * (float)(s >> 4);
        }
    }
}

void q2_k_encode(const float *values, const float *importance, unsigned char *bytes, int64_t count)
{
    for (int64_t at = 0; at < count; at += 256, bytes += 84) {
        struct super_line f;
        search_super_line(values + at, importance ? importance + at : NULL, 16, 3, 15, &f);
        for (int s = 0; s < 16; s++)
            bytes[s] = (unsigned char)(f.scale[s] | f.min[s] << 4);
        store_pairs(f.code, bytes + 16);
        store_half(f.d, bytes + 80);
        store_half(f.dmin, bytes + 82);
    }
}
