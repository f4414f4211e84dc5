/* Q3_K: 256 weights in 110 bytes: 32 bytes third bits | 64 bytes codes | 12 bytes scales | f16 d.
 * Low two bits of weight 128h + 32k + j as in Q2_K; its third bit is bit 4h + k of byte j; q = low + 4 * third - 4.
 * Scale of sub-block s (16 weights), 6 bits, minus 32: low nibbles of bytes 0-7 for s 0-7, high nibbles for s 8-15;
 * the upper two bits in bits 2 * (s / 4).. of byte 8 + s % 4. w = d * (sc - 32) * q. */
#include "kernels/formats/formats.h"
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
