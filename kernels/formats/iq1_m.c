/* IQ1_M: 256 weights in 56 bytes: 32 bytes indices (8 weights each) | 16 bytes high | 4 u16 scales.
 * Index l: byte l, above it bits 0-2 of nibble l of high (low nibble first); its bit 3 is the shift's sign.
 * Low 12 bits of u16 k: four 3-bit scales, one for 16 weights. The upper nibbles of the four, first lowest, are the f16 d.
 * w = d * (2 * scale + 1) * (grid +- 1/8), minus where bit 3 is set. Grid: IQ1_S's. Source: ggml-common.h, ggml-quants.c. */
#include "kernels/formats/formats.h"
#include "kernels/formats/grids.h"
#include "kernels/formats/lattice.h"
#include "kernels/formats/small.h"

void iq1_m_decode(const unsigned char *bytes, float *values, int64_t count)
{
    for (; count > 0; count -= 256, bytes += 56, values += 256) {
        float d = half_to_float(iq1_m_half(bytes));
        for (int l = 0; l < 32; l++) {
            unsigned high = bytes[32 + l / 2] >> 4 * (l % 2) & 15;
            const signed char *point = (const signed char *)&grid_iq1_s[bytes[l] | (high & 7) << 8];
            float scale = d * (float)(2 * (load_u16(bytes + 48 + 2 * (l / 8)) >> 3 * (l / 2 % 4) & 7) + 1) / 8, shift = high & 8 ? -9 : -7;
            for (int j = 0; j < 8; j++)
                values[8 * l + j] = scale * ((float)point[j] + shift); /* (8 * (grid + 1) - 8 +- 1) / 8 */
        }
    }
}

void iq1_m_encode(const float *values, const float *importance, unsigned char *bytes, int64_t count)
{
    for (int64_t at = 0; at < count; at += 256, bytes += 56) {
        struct lattice_fit f;
        unsigned char half[2];
        lattice_search(values + at, importance ? importance + at : NULL, LATTICE_IQ1, SHIFT_OF_POINT, 16, 7, 1, &f);
        store_half(f.d, half);
        memset(bytes + 32, 0, 16);
        for (int l = 0; l < 32; l++) {
            bytes[l] = (unsigned char)f.point[l];
            bytes[32 + l / 2] |= (unsigned char)((f.point[l] >> 8 | f.down[l] << 3) << 4 * (l % 2));
        }
        for (int k = 0; k < 4; k++) {
            unsigned scales = (unsigned)((half[k / 2] >> 4 * (k % 2)) & 15) << 12;
            for (int s = 0; s < 4; s++)
                scales |= (unsigned)f.scale[4 * k + s] << 3 * s;
            bytes[48 + 2 * k] = (unsigned char)scales;
            bytes[49 + 2 * k] = (unsigned char)(scales >> 8);
        }
    }
}
