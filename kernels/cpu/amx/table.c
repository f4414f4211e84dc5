/* AMX with bfloat16, beside all of AVX-512 (Sapphire Rapids and later): single rows as there, prompts on tiles. */
#include "kernels/cpu/amx/amx.h"
#include "kernels/cpu/avx512/attend.h"
#include "kernels/cpu/avx512/few.h"

static const struct linear_kernel *own_linear(enum storage format);
static double own_peak(enum peak kind, int64_t rounds);
static void own_attend(struct attend_tile *const *tiles, int count, int64_t first, int64_t last);

static const struct cache_kernel *own_cache(enum storage type, enum row_set set)
{
    switch (type) {
    case STORAGE_F16:
        return set == SET_MANY ? &avx512_cache_f16 : NULL;
    case STORAGE_BF16:
        return &avx512_cache_bf16;
    case STORAGE_Q8_0:
        return &avx512_cache_q8_0;
    case STORAGE_Q4_0:
        return &avx512_cache_q4_0;
    default:
        return NULL;
    }
}

#define TABLE isa_amx
#define TABLE_CACHE own_cache
#define TABLE_ATTEND own_attend
#define TABLE_ATTEND_FLOATS amx_attend_floats
#define TABLE_STACK ATTEND_STACK
#define TABLE_PEAK own_peak
#define TABLE_PACK avx512_pack
#define TABLE_GATHER avx512_gather
#define TABLE_PACK_TILES amx_pack_tiles
#define TABLE_NAME "amx"
#define TABLE_LINEAR own_linear
#define TABLE_FLOATS_ONLY
#include "kernels/cpu/wide/table.h"

#define TILES .many_forms = FORM_TILES, .panel_rows = AMX_PANEL_ROWS, .many = amx_many, .scratch_bytes = amx_panel_bytes
#define KERNEL(NAME, id, form) \
    [STORAGE_##NAME] = {.name = "int8 from storage, bfloat16 tiles", .few_forms = form, .few = avx512_few_##id, TILES},

static const struct linear_kernel *own_linear(enum storage format)
{
    static const struct linear_kernel kernels[STORAGE_COUNT] = {
        FEW_FORMATS(KERNEL)[STORAGE_BF16] = {.name = "float dot, bfloat16 tiles", .few_forms = FORM_FLOATS, .few = few_bf16, TILES},
    };
    return (unsigned)format < STORAGE_COUNT && kernels[format].few ? &kernels[format] : NULL;
}

static double own_peak(enum peak kind, int64_t rounds) { return kind == PEAK_BF16 ? amx_peak_bf16(rounds) : wide_peak(kind, rounds); }

static void own_attend(struct attend_tile *const *tiles, int count, int64_t first, int64_t last)
{
    if (amx_attends(tiles[0]))
        amx_attend(tiles, count, first);
    else
        wide_attend(tiles, count, first, last);
}
