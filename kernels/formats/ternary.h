/* Codes of a block of weights that are small whole multiples of one scale; private to kernels/formats/. */
#ifndef KERNELS_FORMATS_TERNARY_H
#define KERNELS_FORMATS_TERNARY_H

#include <math.h>

#include "kernels/formats/small.h"

/* Codes -1 to `most` for count values, and the scale as a half. Starts at the largest magnitude, which gives weights that are
 * ternary already back exactly; then scale and codes in turn are made the best for the other, which never adds to the
 * squared error. */
static inline uint16_t ternary(const float *values, int count, int most, signed char *code)
{
    float d = 0;
    for (int i = 0; i < count; i++)
        d = fmaxf(d, fabsf(values[i]));
    for (int pass = 0; pass < 4 && d > 0; pass++) {
        float rounded = half_to_float(float_to_half(d)), products = 0, squares = 0;
        for (int i = 0; i < count; i++) {
            float q = rounded > 0 ? roundf(values[i] / rounded) : 0;
            code[i] = (signed char)fminf(fmaxf(q, -1), (float)most);
            products += values[i] * (float)code[i];
            squares += (float)(code[i] * code[i]);
        }
        if (pass == 3 || !(products > 0))
            return float_to_half(rounded);
        d = products / squares;
    }
    memset(code, 0, (size_t)count);
    return 0;
}

#endif
