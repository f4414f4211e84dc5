/* IQ1_S: 256 weights in 50 bytes: f16 d | 32 bytes indices (8 weights each) | 8 u16, one for 32 weights.
 * Index l: byte l, above it bits 3(l % 4).. (three of them) of u16 l / 4; its bits 12-14 are the scale, bit 15 the shift's sign.
 * w = d * (2 * scale + 1) * (grid +- 1/8), minus where bit 15 is set. Source: ggml-common.h, ggml-quants.c. */
#include "kernels/formats/formats.h"
#include "kernels/formats/grids.h"
#include "kernels/formats/lattice.h"
#include "kernels/formats/small.h"

void iq1_s_decode(const unsigned char *bytes, float *values, int64_t count)
{
    for (; count > 0; count -= 256, bytes += 50, values += 256) {
        float d = load_half(bytes);
        for (int l = 0; l < 32; l++) {
            unsigned high = load_u16(bytes + 34 + 2 * (l / 4));
            const signed char *point = (const signed char *)&grid_iq1_s[bytes[2 + l] | (high >> 3 * (l % 4) & 7) << 8];
            float scale = d * (float)(2 * (high >> 12 & 7) + 1) / 8, shift = high & 0x8000 ? -9 : -7;
            for (int j = 0; j < 8; j++)
                values[8 * l + j] = scale * ((float)point[j] + shift); /* (8 * (grid + 1) - 8 +- 1) / 8 */
        }
    }
}

void iq1_s_encode(const float *values, const float *importance, unsigned char *bytes, int64_t count)
{
    for (int64_t at = 0; at < count; at += 256, bytes += 50) {
        struct lattice_fit f;
        lattice_search(values + at, importance ? importance + at : NULL, LATTICE_IQ1, SHIFT_OF_SUB, 32, 7, 1, &f);
        store_half(f.d, bytes);
        for (int s = 0; s < 8; s++) {
            uint16_t high = (uint16_t)(f.scale[s] << 12 | (f.down[4 * s] ? 0x8000 : 0));
            for (int l = 0; l < 4; l++) {
                bytes[2 + 4 * s + l] = (unsigned char)f.point[4 * s + l];
                high = (uint16_t)(high | f.point[4 * s + l] >> 8 << 3 * l);
            }
            memcpy(bytes + 34 + 2 * s, &high, 2);
        }
    }
}
