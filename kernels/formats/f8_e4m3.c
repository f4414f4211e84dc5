/* F8_E4M3: s eeee mmm, exponent bias 7, no infinity; 0x7F and 0xFF are NaN, 448 is the largest value (OCP 8-bit floating point
 * specification, "E4M3"). Written: nearest, ties to even; larger values become 448, infinity and NaN become NaN. */
#include "kernels/formats/formats.h"
#include "kernels/formats/small.h"

void f8_e4m3_decode(const unsigned char *bytes, float *values, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        values[i] = e4m3_to_float(bytes[i]);
}

void f8_e4m3_encode(const float *values, const float *importance, unsigned char *bytes, int64_t count)
{
    (void)importance;
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits = bits_of_float(values[i]), size = bits & 0x7FFFFFFF, code;
        if (size >= 0x7F800000)
            code = 0x7F;
        else if (size < 0x3C800000) /* below 2^-6: adding 2^14 leaves the subnormal's bits at the bottom, rounded */
            code = bits_of_float(float_of_bits(size) + 0x1p14f) - 0x46800000;
        else
            code = ((size + 0x7FFFF + (size >> 20 & 1)) >> 20) - (120 << 3);
        if (size < 0x7F800000 && code > 0x7E)
            code = 0x7E;
        bytes[i] = (unsigned char)(code | (bits >> 24 & 0x80));
    }
}
