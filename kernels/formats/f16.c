/* F16: IEEE half, little-endian. */
#include "kernels/formats/formats.h"
#include "kernels/formats/small.h"

void f16_decode(const unsigned char *bytes, float *values, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        values[i] = load_half(bytes + 2 * i);
}

void f16_encode(const float *values, const float *importance, unsigned char *bytes, int64_t count)
{
    (void)importance;
    for (int64_t i = 0; i < count; i++) {
        uint16_t h = float_to_half(values[i]);
        memcpy(bytes + 2 * i, &h, 2);
    }
}
