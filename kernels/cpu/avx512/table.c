/* AVX-512 with VNNI and VBMI (Ice Lake, Zen 4 and later). */
#include "kernels/cpu/avx512/attend.h"
#include "kernels/cpu/avx512/few.h"

#define KERNEL(NAME, id, form)                                   \
    [STORAGE_##NAME] = {.name = "int8 from storage, int8 panel", \
                        .few_forms = form,                       \
                        .few = avx512_few_##id,                  \
                        .many_forms = FORM_APART,                \
                        .panel_rows = AVX512_PANEL_ROWS,         \
                        .many = avx512_many_##id,                \
                        .scratch_bytes = avx512_panel_bytes},
static const struct linear_kernel kernels[STORAGE_COUNT] = {FEW_FORMATS(KERNEL)};

/* defined below: its dot over few rows is the template's */
static const struct linear_kernel *own_bf16(void);

static const struct linear_kernel *own_linear(enum storage format)
{
    if (format == STORAGE_BF16 && __builtin_cpu_supports("avx512bf16"))
        return own_bf16();
    return (unsigned)format < STORAGE_COUNT && kernels[format].few ? &kernels[format] : NULL;
}

static double own_peak(enum peak kind, int64_t rounds);
static void own_pack(struct input *in, int32_t tile);

static const struct cache_kernel *own_cache(enum storage type, enum row_set set)
{
    switch (type) {
    case STORAGE_F16:
        return set == SET_MANY ? &avx512_cache_f16 : NULL;
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
#define TABLE_PACK own_pack
#define TABLE_GATHER avx512_gather
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
                                                .panel_rows = AVX512_PANEL_ROWS,
                                                .many = avx512_many_bf16,
                                                .scratch_bytes = avx512_bf16_panel_bytes};
    return &kernel;
}

static void own_pack(struct input *in, int32_t tile)
{
    avx512_pack(in, tile);
    if (in->forms & FORM_PACKED16)
        avx512_pack_bf16(in, tile);
}

static double own_peak(enum peak kind, int64_t rounds)
{
    if (kind == PEAK_BF16)
        return __builtin_cpu_supports("avx512bf16") ? avx512_peak_bf16(rounds) : 0;
    return wide_peak(kind, rounds);
}
