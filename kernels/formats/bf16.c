/* BF16: the upper half of an IEEE single, little-endian. */
#include "kernels/formats/formats.h"
#include "kernels/formats/small.h"

void bf16_decode(const unsigned char *bytes, float *values, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        values[i] = bf16_to_float(load_u16(bytes + 2 * i));
}

void bf16_encode(const float *values, const float *importance, unsigned char *bytes, int64_t count)
{
    (void)importance;
    for (int64_t i = 0; i < count; i++) {
        uint16_t h = float_to_bf16(values[i]);
        memcpy(bytes + 2 * i, &h, 2);
    }
}
