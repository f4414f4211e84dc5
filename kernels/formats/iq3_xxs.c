/* IQ3_XXS: 256 weights in 98 bytes: f16 d | 64 bytes indices (4 weights each) | 8 u32, one for 32 weights.
 * u32: four times 7 sign bits (even_signs, 8 weights each), above them a 4-bit scale.
 * w = d * (scale + 1/2) / 2 * grid, negative where its sign bit is set. Source: ggml-common.h, ggml-quants.c. */
#include "kernels/formats/formats.h"
#include "kernels/formats/grids.h"
#include "kernels/formats/lattice.h"
#include "kernels/formats/small.h"

void iq3_xxs_decode(const unsigned char *bytes, float *values, int64_t count)
{
    for (; count > 0; count -= 256, bytes += 98, values += 256) {
        float d = load_half(bytes) / 2;
        for (int l = 0; l < 32; l++) {
            uint32_t bits = load_u32(bytes + 66 + 4 * (l / 4));
            float scale = d * (0.5f + (float)(bits >> 28));
            unsigned signs = even_signs(bits >> 7 * (l % 4) & 127);
            signed_point(&grid_iq3_xxs[bytes[2 + 2 * l]], 4, signs, scale, values + 8 * l);
            signed_point(&grid_iq3_xxs[bytes[3 + 2 * l]], 4, signs >> 4, scale, values + 8 * l + 4);
        }
    }
}

void iq3_xxs_encode(const float *values, const float *importance, unsigned char *bytes, int64_t count)
{
    for (int64_t at = 0; at < count; at += 256, bytes += 98) {
        struct lattice_fit f;
        lattice_search(values + at, importance ? importance + at : NULL, LATTICE_IQ3_XXS, EVEN_SIGNS, 32, 15, 4, &f);
        store_half(f.d, bytes);
        for (int i = 0; i < 64; i++)
            bytes[2 + i] = (unsigned char)f.point[i];
        for (int s = 0; s < 8; s++) {
            uint32_t bits = (uint32_t)f.scale[s] << 28;
            for (int l = 0; l < 4; l++)
                bits |= (uint32_t)(f.signs[4 * s + l] & 127) << 7 * l;
            memcpy(bytes + 66 + 4 * s, &bits, 4);
        }
    }
}
