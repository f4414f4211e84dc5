/* The table of every NEON there is: the templates, and few rows straight from storage. */
#include "kernels/cpu/cpu.h"

static const struct linear_kernel *own_linear(enum storage format);
#define TABLE_LINEAR own_linear
#include "kernels/cpu/wide/table.h"

#include "kernels/cpu/neon/few.h"

#if defined(__ARM_FEATURE_DOTPROD)
#define KERNEL_NAME "int8 from storage, int8 panel"
#else
#define KERNEL_NAME "int8 from storage, int16 panel"
#endif
#define KERNEL(NAME, id)                              \
    [STORAGE_##NAME] = {.name = KERNEL_NAME,          \
                        .few_forms = FORM_INT8,       \
                        .few = stored_##id,           \
                        .many_forms = MANY_FORM,      \
                        .many = many_##id,            \
                        .scratch_bytes = codes_scratch}
static const struct linear_kernel *own_linear(enum storage format)
{
    static const struct linear_kernel kernels[STORAGE_COUNT] = {
        KERNEL(Q4_0, q4_0), KERNEL(Q4_1, q4_1), KERNEL(Q5_0, q5_0), KERNEL(Q5_1, q5_1), KERNEL(Q8_0, q8_0),     KERNEL(Q2_K, q2_k),
        KERNEL(Q3_K, q3_k), KERNEL(Q4_K, q4_k), KERNEL(Q5_K, q5_k), KERNEL(Q6_K, q6_k), KERNEL(IQ4_NL, iq4_nl), KERNEL(IQ4_XS, iq4_xs),
    };
    return (unsigned)format < STORAGE_COUNT && kernels[format].few ? &kernels[format] : NULL;
}
