/* The functions of kernels/formats/X.c, declared from formats.def. */
#ifndef KERNELS_FORMATS_FORMATS_H
#define KERNELS_FORMATS_FORMATS_H

#include <stdint.h>

#define WITH_0(declaration)
#define WITH_1(declaration) declaration
#define FORMAT(id, name, encode, round)                                                                                          \
    void name##_decode(const unsigned char *bytes, float *values, int64_t count);                                                \
    WITH_##encode(void name##_encode(const float *values, const float *importance, unsigned char *bytes, int64_t count);)        \
    WITH_##round(void name##_round(const float *values, unsigned char *bytes, int64_t count);)
#include "kernels/formats/formats.def"
#undef FORMAT
#undef WITH_0
#undef WITH_1

#endif
