/* Rows of weights as bfloat16, in the order of tiles. Codes of quantised formats become float32 times their scale, plus their
 * minimum, exactly but for one rounding, then bfloat16: an error of at most 2^-8 of each weight. */
#include "kernels/cpu/amx/amx.h"
#include "kernels/cpu/amx/tiles.h"
#include "kernels/cpu/avx512/unit_iq.h"

/* 16 codes from byte `at` on as floats */
INLINE __m512 codes_as_floats(__m512i codes, int at)
{
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m512i index = _mm512_add_epi32(lanes, _mm512_set1_epi32(at));
    return _mm512_cvtepi32_ps(_mm512_maskz_permutexvar_epi8(0x1111111111111111, index, codes));
}

/* A unit's first `blocks` times 32 values. */
INLINE void store_unit(const struct unit *u, int blocks, int offset, int group, bool has_min, uint16_t *to)
{
    _Alignas(64) float scale[16], least[16];
    _mm512_store_ps(scale, u->scale);
    if (has_min)
        _mm512_store_ps(least, u->min);
    else /* exact: offsets have at most 8 bits, scales at most 19 */
        _mm512_store_ps(least, _mm512_mul_ps(u->scale, _mm512_set1_ps((float)-offset)));
    __asm__("" : "+m"(scale), "+m"(least)); /* read back: a broadcast from memory costs a load, from a register two shuffles */
#pragma GCC unroll 8
    for (int b = 0; b < 8; b++) {
        if (b >= blocks)
            break;
        __m512 v[2];
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++) {
            int g = (32 * b + 16 * half) / group;
            __m512 code = codes_as_floats(u->code[b / 2], b % 2 * 32 + half * 16);
            v[half] = _mm512_fmadd_ps(code, _mm512_set1_ps(scale[g]), _mm512_set1_ps(least[g]));
        }
        _mm512_store_si512(to + b * TILE_VALUES, (__m512i)_mm512_cvtne2ps_pbh(v[1], v[0]));
    }
}

#define UNPACK(name, NAME, unit_bytes, group, has_min, largest)                                             \
    static void unpack_##name(const unsigned char *p, int64_t count, uint16_t *to)                 \
    {                                                                                              \
        for (; count >= UNIT; count -= UNIT, p += unit_bytes, to += UNIT / 32 * TILE_VALUES) {     \
            struct unit u = decode_##name(p, 8);                                                   \
            store_unit(&u, 8, NAME##_OFFSET, group, has_min, to);                                  \
        }                                                                                          \
        if (count) {                                                                               \
            struct unit u = decode_##name(p, (int)count / 32);                                     \
            store_unit(&u, (int)count / 32, NAME##_OFFSET, group, has_min, to);                    \
        }                                                                                          \
    }
UNIT_FORMATS(UNPACK)
NIBBLE_FORMATS(UNPACK)
IQ_FORMATS(UNPACK)
PAIR_FORMATS(UNPACK)

static void unpack_bf16(const unsigned char *p, int64_t count, uint16_t *to)
{
    for (; count > 0; count -= 32, p += 64, to += TILE_VALUES)
        _mm512_store_si512(to, count >= 32 ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi16(~(__mmask32)0 >> (32 - count), p));
}

amx_unpack_function *amx_unpack_of(enum storage format)
{
#define ENTRY(name, NAME, unit_bytes, group, has_min, largest) [STORAGE_##NAME] = unpack_##name,
    static amx_unpack_function *const table[STORAGE_COUNT] = {
        UNIT_FORMATS(ENTRY) NIBBLE_FORMATS(ENTRY) IQ_FORMATS(ENTRY) PAIR_FORMATS(ENTRY)[STORAGE_BF16] = unpack_bf16,
    };
    return (unsigned)format < STORAGE_COUNT ? table[format] : NULL;
}
