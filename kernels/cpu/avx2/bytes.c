/* Prompts on AVX2 in formats whose codes have at most 6 bits: panels of bytes. */
#define PANEL_BYTES
#include "kernels/cpu/avx2/few.h"
#include "kernels/cpu/wide/panel.h"

size_t avx2_bytes_scratch(int64_t n, int32_t rows)
{
    (void)n;
    return panel_scratch(rows);
}

/* bias: what makes the smallest code 0 */
#define BYTE_KERNEL(id, NAME, unit_bytes, bias, most)                                                                              \
    void avx2_many_##id(const struct weight *w, int64_t first, int64_t end, const struct input *in, float *y, int64_t y_stride, void *scratch) \
    {                                                                                                                              \
        many_biased(unpack_##id, unit_bytes, NAME##_GROUP, NAME##_MIN, bias, most, w, first, end, in, y, y_stride, scratch);         \
    }
BYTE_KERNEL(q4_0, Q4_0, 144, 8, 15)
BYTE_KERNEL(q4_1, Q4_1, 160, 0, 15)
BYTE_KERNEL(q5_0, Q5_0, 176, 16, 31)
BYTE_KERNEL(q5_1, Q5_1, 192, 0, 31)
BYTE_KERNEL(q2_k, Q2_K, 84, 0, 3)
BYTE_KERNEL(q3_k, Q3_K, 110, 4, 7)
BYTE_KERNEL(q4_k, Q4_K, 144, 0, 15)
BYTE_KERNEL(q5_k, Q5_K, 176, 0, 31)
BYTE_KERNEL(q6_k, Q6_K, 210, 32, 63)
