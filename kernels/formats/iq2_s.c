/* IQ2_S: 256 weights in 82 bytes: f16 d | 32 bytes indices | 32 bytes signs | 8 bytes high | 8 bytes scales.
 * Point l (8 weights): index byte l, above it bits 2(l % 4).. of high[l / 4]; sign bit j of byte l is weight j's.
 * Scales: nibbles, low first, one for 16 weights. w = d * (scale + 1/2) / 4 * grid, negative where its sign bit is set.
 * Source: ggml-common.h, ggml-quants.c. */
#include "kernels/formats/formats.h"
#include "kernels/formats/grids.h"
#include "kernels/formats/lattice.h"
#include "kernels/formats/small.h"

void iq2_s_decode(const unsigned char *bytes, float *values, int64_t count)
{
    for (; count > 0; count -= 256, bytes += 82, values += 256) {
        float d = load_half(bytes) / 4;
        for (int l = 0; l < 32; l++) {
            int index = bytes[2 + l] | (bytes[66 + l / 4] >> 2 * (l % 4) & 3) << 8;
            float scale = d * (0.5f + (float)(bytes[74 + l / 4] >> 4 * (l / 2 % 2) & 15));
            signed_point(&grid_iq2_s[index], 8, bytes[34 + l], scale, values + 8 * l);
        }
    }
}

void iq2_s_encode(const float *values, const float *importance, unsigned char *bytes, int64_t count)
{
    for (int64_t at = 0; at < count; at += 256, bytes += 82) {
        struct lattice_fit f;
        lattice_search(values + at, importance ? importance + at : NULL, LATTICE_IQ2_S, SIGNS, 16, 15, 8, &f);
        store_half(f.d, bytes);
        memset(bytes + 66, 0, 8);
        for (int l = 0; l < 32; l++) {
            bytes[2 + l] = (unsigned char)f.point[l];
            bytes[66 + l / 4] |= (unsigned char)(f.point[l] >> 8 << 2 * (l % 4));
        }
        memcpy(bytes + 34, f.signs, 32);
        for (int s = 0; s < 8; s++)
            bytes[74 + s] = (unsigned char)(f.scale[2 * s] | f.scale[2 * s + 1] << 4);
    }
}
