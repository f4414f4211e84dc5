/* 4-bit floats (E2M1: s ee m) and the 8-bit floats that scale them. Values are kept doubled, which makes them whole, and scales
 * halved; private to kernels/. */
#ifndef KERNELS_FORMATS_FP4_H
#define KERNELS_FORMATS_FP4_H

#include <math.h>

#include "kernels/formats/small.h"

/* 0, 1/2, 1, 3/2, 2, 3, 4, 6 and their negatives, doubled */
#define FP4_DOUBLED {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}
static const signed char fp4_doubled[16] __attribute__((aligned(16), unused)) = FP4_DOUBLED;

/* The nearest code of a doubled value; halfway between two, the one with an even mantissa bit. NaN: 0. */
static inline unsigned fp4_nearest(float doubled)
{
    static const float middle[] = {0.5f, 1.5f, 2.5f, 3.5f, 5, 7, 10};
    float size = fabsf(doubled);
    unsigned code = 0;
    while (code < 7 && (code & 1 ? size >= middle[code] : size > middle[code]))
        code++;
    return code | (doubled < 0) << 3;
}

/* half of 2^(e - 127); the two smallest are float32 subnormals */
DEVICE static inline float e8m0_half(unsigned char e) { return float_of_bits(e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23); }

/* Half of an E4M3 value (eeee mmm, bias 7, the lowest exponent subnormal) whose sign bit is ignored; 0x7F, a NaN, is 0 as in
 * ggml. Moving the bits to float32's place leaves an exponent that is 120 too small. */
DEVICE static inline float ue4m3_half(unsigned char s)
{
    s &= 0x7F;
    return s == 0x7F ? 0 : float_of_bits((uint32_t)s << 20) * 0x1p119f;
}

/* The nearest of a value that is not negative, at most 448. */
static inline unsigned char ue4m3_nearest(float value)
{
    unsigned char code = 0;
    while (code < 0x7E && value > ue4m3_half(code) + ue4m3_half((unsigned char)(code + 1)))
        code++;
    return code;
}

#endif
