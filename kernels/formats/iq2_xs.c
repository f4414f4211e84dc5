/* IQ2_XS: 256 weights in 74 bytes: f16 d | 32 u16 | 8 bytes of scales.
 * u16 l (8 weights): bits 0-8 index the grid, bits 9-15 are signs (even_signs). Scales: nibbles, low first, one for 16 weights.
 * w = d * (scale + 1/2) / 4 * grid, negative where its sign bit is set. Source: ggml-common.h, ggml-quants.c. */
#include "kernels/formats/formats.h"
#include "kernels/formats/grids.h"
#include "kernels/formats/lattice.h"
#include "kernels/formats/small.h"

void iq2_xs_decode(const unsigned char *bytes, float *values, int64_t count)
{
    for (; count > 0; count -= 256, bytes += 74, values += 256) {
        float d = load_half(bytes) / 4;
        for (int l = 0; l < 32; l++) {
            unsigned code = load_u16(bytes + 2 + 2 * l);
            float scale = d * (0.5f + (float)(bytes[66 + l / 4] >> 4 * (l / 2 % 2) & 15));
            signed_point(&grid_iq2_xs[code & 511], 8, even_signs(code >> 9), scale, values + 8 * l);
        }
    }
}

void iq2_xs_encode(const float *values, const float *importance, unsigned char *bytes, int64_t count)
{
    for (int64_t at = 0; at < count; at += 256, bytes += 74) {
        struct lattice_fit f;
        lattice_search(values + at, importance ? importance + at : NULL, LATTICE_IQ2_XS, EVEN_SIGNS, 16, 15, 8, &f);
        store_half(f.d, bytes);
        for (int l = 0; l < 32; l++) {
            uint16_t code = (uint16_t)(f.point[l] | (f.signs[l] & 127) << 9);
            memcpy(bytes + 2 + 2 * l, &code, 2);
        }
        for (int s = 0; s < 8; s++)
            bytes[66 + s] = (unsigned char)(f.scale[2 * s] | f.scale[2 * s + 1] << 4);
    }
}
