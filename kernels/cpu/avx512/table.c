/* AVX-512 with VNNI and VBMI (Ice Lake, Zen 4 and later). */
#include "kernels/cpu/avx512/attend.h"
#include "kernels/cpu/avx512/few.h"

#define KERNEL(NAME, id, form)                                   \
    [STORAGE_##NAME] = {.name = "int8 from storage, int8 panel", \
                        .few_forms = form,                       \
                        .few = avx512_few_##id,                  \
                        .many_forms = FORM_PACKED8,              \
                        .many = avx512_many_##id,                \
                        .scratch_bytes = avx512_panel_bytes}
static const struct linear_kernel kernels[STORAGE_COUNT] = {
    KERNEL(Q4_0, q4_0, FORM_NIBBLE),
    KERNEL(Q4_1, q4_1, FORM_NIBBLE),
    KERNEL(Q5_0, q5_0, FORM_NIBBLE),
    KERNEL(Q5_1, q5_1, FORM_NIBBLE),
    KERNEL(Q8_0, q8_0, FORM_INT8),
    KERNEL(Q2_K, q2_k, FORM_INT8),
    KERNEL(Q3_K, q3_k, FORM_INT8),
    KERNEL(Q4_K, q4_k, FORM_INT8),
    KERNEL(Q5_K, q5_k, FORM_INT8),
    KERNEL(Q6_K, q6_k, FORM_INT8),
    KERNEL(IQ4_NL, iq4_nl, FORM_NIBBLE),
    KERNEL(IQ4_XS, iq4_xs, FORM_INT8),
    KERNEL(IQ2_XXS, iq2_xxs, FORM_INT8),
    KERNEL(IQ2_XS, iq2_xs, FORM_INT8),
    KERNEL(IQ2_S, iq2_s, FORM_INT8),
    KERNEL(IQ3_XXS, iq3_xxs, FORM_INT8),
    KERNEL(IQ3_S, iq3_s, FORM_INT8),
    KERNEL(IQ1_S, iq1_s, FORM_INT8),
    KERNEL(IQ1_M, iq1_m, FORM_INT8),
    KERNEL(TQ1_0, tq1_0, FORM_INT8),
    KERNEL(TQ2_0, tq2_0, FORM_INT8),
    KERNEL(MXFP4, mxfp4, FORM_INT8),
    KERNEL(NVFP4, nvfp4, FORM_INT8),
    KERNEL(Q1_0, q1_0, FORM_INT8),
    KERNEL(Q2_0, q2_0, FORM_INT8),
};

/* defined below: its dot over few rows is the template's */
static const struct linear_kernel *own_bf16(void);

static const struct linear_kernel *own_linear(enum storage format)
{
    if (format == STORAGE_BF16 && __builtin_cpu_supports("avx512bf16"))
        return own_bf16();
    return (unsigned)format < STORAGE_COUNT && kernels[format].few ? &kernels[format] : NULL;
}

static double own_peak(enum peak kind, int64_t rounds);

static const struct cache_kernel *own_cache(enum storage type)
{
    switch (type) {
    case STORAGE_BF16:
        return __builtin_cpu_supports("avx512bf16") ? &avx512_cache_bf16 : NULL;
    case STORAGE_Q8_0:
        return &avx512_cache_q8_0;
    case STORAGE_Q4_0:
        return &avx512_cache_q4_0;
    default:
        return NULL;
    }
}

#define TABLE isa_avx512
#define TABLE_CACHE own_cache
#define TABLE_PEAK own_peak
#define TABLE_NAME "avx512-vnni"
#define TABLE_LINEAR own_linear
#define TABLE_FLOATS_ONLY
#include "kernels/cpu/wide/table.h"

static const struct linear_kernel *own_bf16(void)
{
    static const struct linear_kernel kernel = {.name = "float dot, bfloat16 panel",
                                                .few_forms = FORM_FLOATS,
                                                .few = few_bf16,
                                                .many_forms = FORM_PACKED16,
                                                .many = avx512_many_bf16,
                                                .scratch_bytes = avx512_bf16_panel_bytes};
    return &kernel;
}

static double own_peak(enum peak kind, int64_t rounds)
{
    if (kind == PEAK_BF16)
        return __builtin_cpu_supports("avx512bf16") ? avx512_peak_bf16(rounds) : 0;
    return wide_peak(kind, rounds);
}
