/* Q6_K: 256 weights in 210 bytes: 128 bytes low | 64 bytes high | 16 int8 scales | f16 d.
 * Weight 128h + 32k + j (k 0-3, j 0-31): low four bits in low[64h + 32 * (k % 2) + j], nibble k / 2; upper two in
 * high[32h + j], bits 2k. A scale for 16 weights. w = d * sc * (q - 32). */
#include "kernels/formats/formats.h"
#include "kernels/formats/search.h"
#include "kernels/formats/small.h"

void q6_k_decode(const unsigned char *bytes, float *values, int64_t count)
{
    for (; count > 0; count -= 256, bytes += 210, values += 256) {
        float d = load_half(bytes + 208);
        for (int i = 0; i < 256; i++) {
            int half = i >> 7, k = i >> 5 & 3, j = i & 31;
            int low = bytes[64 * half + 32 * (k & 1) + j] >> (4 * (k >> 1)) & 15;
            int high = bytes[128 + 32 * half + j] >> (2 * k) & 3;
            values[i] = d * (float)(signed char)bytes[192 + (i >> 4)] * (float)((low | high << 4) - 32);
        }
    }
}

void q6_k_encode(const float *values, const float *importance, unsigned char *bytes, int64_t count)
{
    for (int64_t at = 0; at < count; at += 256, bytes += 210) {
        struct super_scale f;
        unsigned char q[256], high[256];
        search_super_scale(values + at, importance ? importance + at : NULL, 16, (struct codes){-128, 127, NULL}, (struct codes){-32, 31, NULL}, &f);
        for (int i = 0; i < 256; i++) {
            q[i] = (unsigned char)(f.code[i] + 32);
            high[i] = q[i] >> 4;
        }
        for (int h = 0; h < 2; h++)
            store_nibbles(q + 128 * h, q + 128 * h + 64, 64, bytes + 64 * h);
        store_pairs(high, bytes + 128);
        memcpy(bytes + 192, f.scale, 16);
        store_half(f.d, bytes + 208);
    }
}
