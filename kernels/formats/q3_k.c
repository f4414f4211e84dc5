/* Q3_K: 256 weights in 110 bytes: 32 bytes third bits | 64 bytes codes | 12 bytes scales | f16 d.
 * Low two bits of weight 128h + 32k + j as in Q2_K; its third bit is bit 4h + k of byte j; q = low + 4 * third - 4.
 * Scale of sub-block s (16 weights), 6 bits, minus 32: low nibbles of bytes 0-7 for s 0-7, high nibbles for s 8-15;
 * the upper two bits in bits 2 * (s / 4).. of byte 8 + s % 4. w = d * (sc - 32) * q. */
#include "kernels/formats/formats.h"
#include "kernels/formats/search.h"
#include "kernels/formats/small.h"

void q3_k_decode(const unsigned char *bytes, float *values, int64_t count)
{
    for (; count > 0; count -= 256, bytes += 110, values += 256) {
        float d = load_half(bytes + 108);
        const unsigned char *packed = bytes + 96;
        float scale[16];
        for (int s = 0; s < 16; s++) {
            int low = s < 8 ? packed[s] & 15 : packed[s - 8] >> 4;
            int high = packed[8 + s % 4] >> (2 * (s / 4)) & 3;
            scale[s] = d * (float)((low | high << 4) - 32);
        }
        for (int i = 0; i < 256; i++) {
            int half = i >> 7, k = i >> 5 & 3, j = i & 31;
            int q = (bytes[32 + 32 * half + j] >> (2 * k) & 3) + 4 * (bytes[j] >> (4 * half + k) & 1) - 4;
            values[i] = scale[i >> 4] * (float)q;
        }
    }
}

void q3_k_encode(const float *values, const float *importance, unsigned char *bytes, int64_t count)
{
    for (int64_t at = 0; at < count; at += 256, bytes += 110) {
        struct super_scale f;
        unsigned char q[256];
        search_super_scale(values + at, importance ? importance + at : NULL, 16, (struct codes){-32, 31, NULL}, (struct codes){-4, 3, NULL}, &f);
        memset(bytes, 0, 110);
        for (int i = 0; i < 256; i++) {
            q[i] = (unsigned char)(f.code[i] + 4);
            bytes[i & 31] |= (unsigned char)(q[i] >> 2 << (i >> 5));
        }
        store_pairs(q, bytes + 32);
        for (int s = 0; s < 16; s++) {
            unsigned char scale = (unsigned char)(f.scale[s] + 32);
            bytes[96 + s % 8] |= (unsigned char)((scale & 15) << (s < 8 ? 0 : 4));
            bytes[104 + s % 4] |= (unsigned char)(scale >> 4 << (2 * (s / 4)));
        }
        store_half(f.d, bytes + 108);
    }
}
