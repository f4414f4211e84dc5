/* AVX2 with FMA and F16C. */
#include "kernels/cpu/avx2/few.h"

static const struct linear_kernel *own_linear(enum storage format);

#define TABLE isa_avx2
#define TABLE_NAME "avx2"
#define TABLE_LINEAR own_linear
#include "kernels/cpu/wide/table.h"

/* Few rows straight from storage. Panels of bytes where codes have at most 6 bits, else the template's of 16 bits. */
#define BYTES(NAME, id)                                                        \
    [STORAGE_##NAME] = {.name = "int8 from storage, int8 panel",               \
                        .few_forms = FORM_INT8,                                \
                        .few = avx2_few_##id,                                  \
                        .many_forms = FORM_PACKED8,                            \
                        .many = avx2_many_##id,                                \
                        .scratch_bytes = avx2_bytes_scratch}
#define PAIRS(NAME, id)                                                        \
    [STORAGE_##NAME] = {.name = "int8 from storage, int16 panel",              \
                        .few_forms = FORM_INT8,                                \
                        .few = avx2_few_##id,                                  \
                        .many_forms = MANY_FORM,                               \
                        .many = many_##id,                                     \
                        .scratch_bytes = codes_scratch}
static const struct linear_kernel *own_linear(enum storage format)
{
    static const struct linear_kernel kernels[STORAGE_COUNT] = {
        BYTES(Q4_0, q4_0), BYTES(Q4_1, q4_1), BYTES(Q5_0, q5_0), BYTES(Q5_1, q5_1), BYTES(Q2_K, q2_k),     BYTES(Q3_K, q3_k),
        BYTES(Q4_K, q4_k), BYTES(Q5_K, q5_k), BYTES(Q6_K, q6_k), PAIRS(Q8_0, q8_0), PAIRS(IQ4_NL, iq4_nl), PAIRS(IQ4_XS, iq4_xs),
        PAIRS(IQ2_XXS, iq2_xxs), PAIRS(IQ2_XS, iq2_xs), PAIRS(IQ2_S, iq2_s), PAIRS(IQ3_XXS, iq3_xxs), PAIRS(IQ3_S, iq3_s), PAIRS(IQ1_S, iq1_s),
        PAIRS(IQ1_M, iq1_m), PAIRS(TQ1_0, tq1_0), PAIRS(TQ2_0, tq2_0), PAIRS(Q1_0, q1_0), PAIRS(Q2_0, q2_0), PAIRS(MXFP4, mxfp4), PAIRS(NVFP4, nvfp4),
    };
    return (unsigned)format < STORAGE_COUNT && kernels[format].few ? &kernels[format] : NULL;
}
