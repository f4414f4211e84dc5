/* IQ3_S: 256 weights in 110 bytes: f16 d | 64 bytes indices (4 weights each) | 8 bytes high | 32 bytes signs | 4 bytes scales.
 * Index i: byte i, above it bit i % 8 of high[i / 8]. Sign bit j of byte l is that of weight 8l + j. Scales: nibbles, low first,
 * one for 32 weights. w = d * (2 * scale + 1) * grid, negative where its sign bit is set. Source: ggml-common.h, ggml-quants.c. */
#include "kernels/formats/formats.h"
#include "kernels/formats/grids.h"
#include "kernels/formats/lattice.h"
#include "kernels/formats/small.h"

void iq3_s_decode(const unsigned char *bytes, float *values, int64_t count)
{
    for (; count > 0; count -= 256, bytes += 110, values += 256) {
        float d = load_half(bytes);
        for (int i = 0; i < 64; i++) {
            int index = bytes[2 + i] | (bytes[66 + i / 8] >> i % 8 & 1) << 8;
            float scale = d * (float)(2 * (bytes[106 + i / 16] >> 4 * (i / 8 % 2) & 15) + 1);
            signed_point(&grid_iq3_s[index], 4, bytes[74 + i / 2] >> 4 * (i % 2), scale, values + 4 * i);
        }
    }
}

void iq3_s_encode(const float *values, const float *importance, unsigned char *bytes, int64_t count)
{
    for (int64_t at = 0; at < count; at += 256, bytes += 110) {
        struct lattice_fit f;
        lattice_search(values + at, importance ? importance + at : NULL, LATTICE_IQ3_S, SIGNS, 32, 15, 1, &f);
        store_half(f.d, bytes);
        memset(bytes + 66, 0, 8);
        for (int i = 0; i < 64; i++) {
            bytes[2 + i] = (unsigned char)f.point[i];
            bytes[66 + i / 8] |= (unsigned char)(f.point[i] >> 8 << i % 8);
        }
        memcpy(bytes + 74, f.signs, 32);
        for (int s = 0; s < 4; s++)
            bytes[106 + s] = (unsigned char)(f.scale[2 * s] | f.scale[2 * s + 1] << 4);
    }
}
