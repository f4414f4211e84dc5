/* F32: IEEE single, little-endian. */
#include "kernels/formats/formats.h"

#include <string.h>

void f32_decode(const unsigned char *bytes, float *values, int64_t count) { memcpy(values, bytes, (size_t)count * 4); }

void f32_encode(const float *values, const float *importance, unsigned char *bytes, int64_t count)
{
    (void)importance;
    memcpy(bytes, values, (size_t)count * 4);
}
