/* NVFP4 as GGUF has it: 64 weights in 36 bytes: 4 scales, E4M3 without sign | 32 bytes.
 * 8 bytes a sub-block of 16: low nibbles weights 0-7, high nibbles 8-15, codes of E2M1. w = scale * value; a factor for the whole
 * tensor stands in a tensor of its own (NAME.scale beside NAME.weight) and is struct weight's. Source: ggml-quants.c. */
#include <math.h>

#include "kernels/formats/formats.h"
#include "kernels/formats/fp4.h"

void nvfp4_decode(const unsigned char *bytes, float *values, int64_t count)
{
    for (; count > 0; count -= 64, bytes += 36, values += 64)
        for (int i = 0; i < 64; i++) {
            int nibble = bytes[4 + i / 16 * 8 + i % 8] >> (i % 16 < 8 ? 0 : 4) & 15;
            values[i] = ue4m3_half(bytes[i / 16]) * (float)fp4_doubled[nibble];
        }
}

void nvfp4_encode(const float *values, const float *importance, unsigned char *bytes, int64_t count)
{
    (void)importance; /* its codes leave no choice worth a search */
    for (; count > 0; count -= 64, bytes += 36, values += 64)
        for (int s = 0; s < 4; s++) {
            const float *x = values + 16 * s;
            float most = 0;
            for (int j = 0; j < 16; j++)
                most = fmaxf(most, fabsf(x[j]));
            unsigned char scale = ue4m3_nearest(most / 6);
            float half = ue4m3_half(scale);
            bytes[s] = scale;
            for (int j = 0; j < 8; j++) {
                unsigned low = half > 0 ? fp4_nearest(x[j] / half) : 0, high = half > 0 ? fp4_nearest(x[j + 8] / half) : 0;
                bytes[4 + 8 * s + j] = (unsigned char)(low | high << 4);
            }
        }
}
