/* IQ2_XXS: 256 weights in 66 bytes: f16 d | 8 groups of 8 bytes, 32 weights each.
 * Group: 4 indices into the grid (8 weights each) | u32: four times 7 sign bits (even_signs), above them a 4-bit scale.
 * w = d * (scale + 1/2) / 4 * grid, negative where its sign bit is set. Source: ggml-common.h, ggml-quants.c. */
#include "kernels/formats/formats.h"
#include "kernels/formats/grids.h"
#include "kernels/formats/lattice.h"
#include "kernels/formats/small.h"

void iq2_xxs_decode(const unsigned char *bytes, float *values, int64_t count)
{
    for (; count > 0; count -= 256, bytes += 66, values += 256) {
        float d = load_half(bytes) / 4;
        for (int l = 0; l < 32; l++) {
            const unsigned char *group = bytes + 2 + 8 * (l / 4);
            uint32_t bits = load_u32(group + 4);
            float scale = d * (0.5f + (float)(bits >> 28));
            signed_point(&grid_iq2_xxs[group[l % 4]], 8, even_signs(bits >> 7 * (l % 4) & 127), scale, values + 8 * l);
        }
    }
}

void iq2_xxs_encode(const float *values, const float *importance, unsigned char *bytes, int64_t count)
{
    for (int64_t at = 0; at < count; at += 256, bytes += 66) {
        struct lattice_fit f;
        lattice_search(values + at, importance ? importance + at : NULL, LATTICE_IQ2_XXS, EVEN_SIGNS, 32, 15, 8, &f);
        store_half(f.d, bytes);
        for (int s = 0; s < 8; s++) {
            uint32_t bits = (uint32_t)f.scale[s] << 28;
            for (int l = 0; l < 4; l++) {
                bytes[2 + 8 * s + l] = (unsigned char)f.point[4 * s + l];
                bits |= (uint32_t)(f.signs[4 * s + l] & 127) << 7 * l;
            }
            memcpy(bytes + 6 + 8 * s, &bits, 4);
        }
    }
}
