/* The table of an instruction set made of the templates alone. Define TABLE (isa_x) and TABLE_NAME, then include. An
 * instruction set with better kernels for some formats defines TABLE_LINEAR, for some cache types TABLE_CACHE: functions that are
 * asked first; one with more kinds of dot products defines TABLE_PEAK, one whose kernels take FORM_TILES TABLE_PACK_TILES, one with
 * attention of its own TABLE_ATTEND, TABLE_ATTEND_FLOATS and TABLE_STACK, one whose kernels take FORM_APART TABLE_PACK and TABLE_GATHER. One whose TABLE_LINEAR has every format of codes defines
 * TABLE_FLOATS_ONLY: the templates for codes are then left out. */
#include "kernels/cpu/wide/attend.h"
#ifndef TABLE_FLOATS_ONLY
#include "kernels/cpu/wide/dot8.h"
#endif
#include "kernels/cpu/wide/float.h"
#include "kernels/cpu/wide/input.h"
#include "kernels/cpu/wide/peak.h"
#include "kernels/cpu/wide/rows.h"
#include "kernels/cpu/wide/scan.h"

#define CODES(NAME, id)                                                                                                    \
    [STORAGE_##NAME] = {.name = "int8 dot, 16 bits for prompts",                                                             \
                        .few_forms = FORM_INT8,                                                                              \
                        .few = few_##id,                                                                                   \
                        .many_forms = MANY_FORM,                                                                             \
                        .many = many_##id,                                                                                 \
                        .scratch_bytes = codes_scratch}
#define FLOATS(NAME, id)                                                                                                   \
    [STORAGE_##NAME] = {.name = "float dot and panel",                                                                       \
                        .few_forms = FORM_FLOATS,                                                                            \
                        .few = few_##id,                                                                                   \
                        .many_forms = FORM_PACKED32,                                                                         \
                        .many = many_##id,                                                                                 \
                        .scratch_bytes = float_scratch}
static const struct linear_kernel wide_kernels[STORAGE_COUNT] = {
    FLOATS(F32, f32),   FLOATS(F16, f16),   FLOATS(BF16, bf16),
#ifndef TABLE_FLOATS_ONLY
    CODES(Q4_0, q4_0), CODES(Q4_1, q4_1),
    CODES(Q5_0, q5_0),  CODES(Q5_1, q5_1),  CODES(Q8_0, q8_0),  CODES(Q2_K, q2_k), CODES(Q3_K, q3_k),
    CODES(Q4_K, q4_k),  CODES(Q5_K, q5_k),  CODES(Q6_K, q6_k),  CODES(IQ4_NL, iq4_nl), CODES(IQ4_XS, iq4_xs),
    CODES(IQ2_XXS, iq2_xxs), CODES(IQ2_XS, iq2_xs), CODES(IQ2_S, iq2_s), CODES(IQ3_XXS, iq3_xxs), CODES(IQ3_S, iq3_s),
    CODES(IQ1_S, iq1_s), CODES(IQ1_M, iq1_m), CODES(TQ1_0, tq1_0), CODES(TQ2_0, tq2_0), CODES(MXFP4, mxfp4),
    CODES(NVFP4, nvfp4), CODES(Q1_0, q1_0), CODES(Q2_0, q2_0),
#endif
};

static const struct linear_kernel *wide_linear(enum storage format)
{
#ifdef TABLE_LINEAR
    const struct linear_kernel *better = TABLE_LINEAR(format);
    if (better)
        return better;
#endif
    return (unsigned)format < STORAGE_COUNT && wide_kernels[format].few ? &wide_kernels[format] : NULL;
}

const struct isa TABLE = {
    .name = TABLE_NAME,
    .linear = wide_linear,
    .norm = wide_norm,
    .add = wide_add,
    .activate = wide_activate,
    .rope = wide_rope,
    .conv = wide_conv,
    .scan = wide_scan,
    .unit = wide_unit,
    .dot = wide_dot,
    .narrow = wide_narrow,
    .quantise = wide_quantise,
#ifdef TABLE_PACK
    .pack = TABLE_PACK,
    .gather = TABLE_GATHER,
#else
    .pack = wide_pack,
#endif
#ifdef TABLE_PACK_TILES
    .pack_tiles = TABLE_PACK_TILES,
#endif
#ifdef TABLE_ATTEND
    .attend = TABLE_ATTEND,
    .attend_floats = TABLE_ATTEND_FLOATS,
    .most_stacked = TABLE_STACK,
#else
    .attend = wide_attend,
    .most_stacked = 8,
#endif
    .merge = wide_merge,
    .finish = wide_finish,
#ifdef TABLE_PEAK
    .peak = TABLE_PEAK,
#else
    .peak = wide_peak,
#endif
};
