/* Activations for the panels of bytes: FORM_APART.
 *
 * A row's usual block of 32 values has 8 bits. A block whose largest value is over WIDE_APART times the usual one has 16: the
 * low byte stands among the others, the high byte apart, where rows that have one in the same block stand together again.
 * So outliers cost what they are, however they lie: in a tile of six rows one wide row would make six.
 *
 * A tile's six rows are packed together, a strip of 8 blocks (a unit) after the other. Scales of a strip, and what is like them,
 * are three registers [2 rows][8 blocks]. A value times the block's inverse scale, plus a number whose last bit is worth 1, has
 * its code in the last bits of the sum, rounded once: there its bytes only have to be picked. */
#include <math.h>

#include "kernels/cpu/avx512/few.h"
#include "kernels/cpu/avx512/weave.h"

/* In units of a row's usual largest value. Relative error of SmolLM2's logits: 5.6e-3 (at 2: 6.7e-3, with exact scales 5.8e-3).
 */
#define WIDE_APART 1.75f

enum { STRIP = UNIT / 32, PAIRS = PACK_ROWS / 2, STRIP_FLOATS = PACK_ROWS * STRIP };
_Static_assert(STRIP == 8, "two rows' blocks in a register");

/* ---- scales -------------------------------------------------------------------------------------------------------------- */

/* The largest of each of 16 registers: pairs, fours, then the lanes of 16 bytes. */
INLINE __m512i most_of_each(__m512i v[16])
{
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        v[i] = _mm512_max_epu32(_mm512_unpacklo_epi32(v[2 * i], v[2 * i + 1]), _mm512_unpackhi_epi32(v[2 * i], v[2 * i + 1]));
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        v[i] = _mm512_max_epu32(_mm512_unpacklo_epi64(v[2 * i], v[2 * i + 1]), _mm512_unpackhi_epi64(v[2 * i], v[2 * i + 1]));
    for (int i = 0; i < 2; i++)
        v[i] = _mm512_max_epu32(_mm512_shuffle_i32x4(v[2 * i], v[2 * i + 1], 0x88),
                                _mm512_shuffle_i32x4(v[2 * i], v[2 * i + 1], 0xDD));
    return _mm512_max_epu32(_mm512_shuffle_i32x4(v[0], v[1], 0x88), _mm512_shuffle_i32x4(v[0], v[1], 0xDD));
}

/* The largest magnitude of each block of two rows in a strip. As integers, above which NaN and infinity stay. */
INLINE __m512 largest_of_blocks(const struct rows *rows, bool whole, int pair, int64_t strip)
{
    const __m512i magnitude = _mm512_set1_epi32(0x7FFFFFFF);
    __m512i v[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) {
        int r = 2 * pair + i / STRIP;
        int64_t at = strip * UNIT + i % STRIP * 32;
        v[i] = _mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(load_16(rows, whole, r, at)), magnitude),
                                _mm512_and_si512(_mm512_castps_si512(load_16(rows, whole, r, at + 16)), magnitude));
    }
    return _mm512_castsi512_ps(most_of_each(v));
}

/* largest: [strip][pair][2 rows][8 blocks] */
static void find_largest(const struct rows *rows, float *largest)
{
    for (int pair = 0; pair < PAIRS; pair++)
        for (int64_t strip = 0; strip < rows->strips; strip++) {
            __m512 most =
                strip < rows->whole ? largest_of_blocks(rows, true, pair, strip) : largest_of_blocks(rows, false, pair, strip);
            _mm512_storeu_ps(largest + strip * STRIP_FLOATS + 16 * pair, most);
        }
}

/* The sum of each half's lanes, in all of them. */
INLINE __m512 sum_halves(__m512 v)
{
    v = _mm512_add_ps(v, _mm512_shuffle_f32x4(v, v, 0xB1));
    v = _mm512_add_ps(v, _mm512_permute_ps(v, 0x4E));
    return _mm512_add_ps(v, _mm512_permute_ps(v, 0xB1));
}

/* As wide_limit() in wide/input.h: over it a block is wide; the usual largest value is the mean of those under it. */
static void find_limits(const float *largest, int64_t strips, __m512 limit[PAIRS])
{
    for (int pair = 0; pair < PAIRS; pair++)
        limit[pair] = _mm512_set1_ps(INFINITY);
    for (int round = 0; round < 4; round++) {
        __m512 sum[PAIRS] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()},
               count[PAIRS] = {sum[0], sum[0], sum[0]};
        for (int64_t strip = 0; strip < strips; strip++)
#pragma GCC unroll 3
            for (int pair = 0; pair < PAIRS; pair++) {
                __m512 v = _mm512_loadu_ps(largest + strip * STRIP_FLOATS + 16 * pair);
                __mmask16 some = _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_GT_OQ);
                __mmask16 usual = _mm512_mask_cmp_ps_mask(some, v, limit[pair], _CMP_LE_OQ);
                sum[pair] = _mm512_mask_add_ps(sum[pair], usual, sum[pair], v);
                count[pair] = _mm512_mask_add_ps(count[pair], usual, count[pair], _mm512_set1_ps(1));
            }
#pragma GCC unroll 3
        for (int pair = 0; pair < PAIRS; pair++) {
            __m512 all = sum_halves(count[pair]);
            __mmask16 any = _mm512_cmp_ps_mask(all, _mm512_setzero_ps(), _CMP_GT_OQ);
            limit[pair] =
                _mm512_mask_div_ps(limit[pair], any, _mm512_mul_ps(_mm512_set1_ps(WIDE_APART), sum_halves(sum[pair])), all);
        }
    }
}

/* Scales rounded up to a sum of two powers of two, whose exponents go to e: 10 % more (the root of the mean square). Then weight
 * scale times it is an addition (vscalefps), and adders are idle while dot products keep both multipliers busy (many.c). */
INLINE __m512 round_up(__m512 scale, __m512 e[2])
{
    const __m512i power = _mm512_set1_epi32(0x7F800000);
    __m512 first = _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(scale), power));
    __m512i rest = _mm512_castps_si512(_mm512_sub_ps(scale, first));
    __m512 second = _mm512_castsi512_ps(_mm512_and_si512(_mm512_add_epi32(rest, _mm512_set1_epi32(0x7FFFFF)), power));
    e[0] = _mm512_getexp_ps(first), e[1] = _mm512_getexp_ps(second);
    return _mm512_add_ps(first, second);
}

/* [pair][which] to [8 blocks][2][6 rows] */
INLINE void weave_exponents(__m512 e[PAIRS][2], float *to)
{
    const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 8, 24, 9, 25, 10, 26, 11, 27);
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
        __m512i v[PAIRS], index = _mm512_add_epi32(low, _mm512_set1_epi32(4 * half));
#pragma GCC unroll 3
        for (int pair = 0; pair < PAIRS; pair++)
            v[pair] = _mm512_castps_si512(_mm512_permutex2var_ps(e[pair][0], index, e[pair][1]));
        weave_eights(v, to + STRIP_FLOATS * half);
    }
}

/* Bits [row][block] to [block][row]. */
INLINE uint64_t turn_bits(uint64_t v)
{
    uint64_t t = (v ^ v >> 7) & 0x00AA00AA00AA00AA;
    v ^= t ^ t << 7;
    t = (v ^ v >> 14) & 0x0000CCCC0000CCCC;
    v ^= t ^ t << 14;
    t = (v ^ v >> 28) & 0x00000000F0F0F0F0;
    return v ^ t ^ t << 28;
}

/* What is known of a strip before its codes. Vectors are read and written whole, single values read from them: a load of what was
 * written in other pieces waits until all stores before have left the core. */
struct strip {
    _Alignas(64) float scale[PACK_ROWS][STRIP], inverse[PACK_ROWS][STRIP];
    _Alignas(64) int32_t start[STRIP][16]; /* sums of the codes of a block begin with this, [6 rows], then zeros */
};

/* A strip's largest values, at d, to scales [block][row] in their place and exponents at e. Returns which rows are wide, a byte
 * for each block. */
INLINE uint64_t find_scales(const __m512 limit[PAIRS], float *d, float *e, struct strip *strip)
{
    __m512i scale[PAIRS];
    __m512 power[PAIRS][2];
    uint64_t wide = 0;
#pragma GCC unroll 3
    for (int pair = 0; pair < PAIRS; pair++) {
        __m512 v = _mm512_loadu_ps(d + 16 * pair);
        __mmask16 over = _mm512_cmp_ps_mask(v, limit[pair], _CMP_GT_OQ);
        __m512 least =
            _mm512_mul_ps(v, _mm512_mask_blend_ps(over, _mm512_set1_ps(1.0f / 127), _mm512_set1_ps(1.0f / (127 * 256))));
        /* below this a reciprocal would be infinite: such a block is as good as zero */
        least = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(v, _mm512_set1_ps(1e-30f), _CMP_GT_OQ), least);
        __m512 rounded = round_up(least, power[pair]);
        __mmask16 some = _mm512_cmp_ps_mask(rounded, _mm512_setzero_ps(), _CMP_GT_OQ);
        _mm512_store_ps(strip->inverse[2 * pair], _mm512_maskz_div_ps(some, _mm512_set1_ps(1), rounded));
        /* NaN and infinity must not look like numbers */
        __mmask16 broken = _mm512_cmp_ps_mask(v, _mm512_set1_ps(INFINITY), _CMP_NLT_UQ);
        const __m512 nan = _mm512_set1_ps(NAN);
        scale[pair] = _mm512_castps_si512(_mm512_mask_mov_ps(rounded, broken, nan));
        _mm512_store_si512(strip->scale[2 * pair], scale[pair]);
        power[pair][0] = _mm512_mask_mov_ps(power[pair][0], broken, nan);
        power[pair][1] = _mm512_mask_mov_ps(power[pair][1], broken, nan);
        wide |= (uint64_t)over << 16 * pair;
    }
    weave_eights(scale, d);
    weave_exponents(power, e);
    return turn_bits(wide);
}

/* ---- codes --------------------------------------------------------------------------------------------------------------- */

/* 1.5 x 2^23, whose last bit is worth 1, and 128, so that the low byte of code + 128 stands in the sum's last byte. */
#define LOW_BYTE (12582912.0f + 128)
/* In the sum's last byte but one the high byte, + 128. */
#define HIGH_BYTE (LOW_BYTE + 128 * 256)

/* The low bytes of a block, [8][6 rows][4] */
INLINE void low_bytes(const struct rows *rows, bool whole, int64_t at, const float *inverse, __m512i out[3])
{
#define INDEX(k) (0x4C4844400C080400LL + (k) % 4 * 0x1010101010101010LL) /* the lowest bytes of four words of both rows */
    const __m512i order[3] = WEAVE_ORDERS(INDEX);
#undef INDEX
    const __mmask8 second[3] = {0xB4, 0x69, 0xD2}; /* slots of k = 4 to 7 */
    const __m512 plus = _mm512_set1_ps(LOW_BYTE);
    __m512i pair[PAIRS];
#pragma GCC unroll 3
    for (int p = 0; p < PAIRS; p++) {
        __m512i half[2];
#pragma GCC unroll 2
        for (int i = 0; i < 2; i++) {
            __m512 a = _mm512_fmadd_ps(load_16(rows, whole, 2 * p, at + 16 * i), _mm512_set1_ps(inverse[2 * p * STRIP]), plus);
            __m512 b =
                _mm512_fmadd_ps(load_16(rows, whole, 2 * p + 1, at + 16 * i), _mm512_set1_ps(inverse[(2 * p + 1) * STRIP]), plus);
            half[i] = _mm512_permutex2var_epi8(_mm512_castps_si512(a), order[p], _mm512_castps_si512(b));
        }
        pair[p] = _mm512_mask_mov_epi64(half[0], second[p], half[1]);
    }
    weave(pair, out);
}

/* A block's 32 high bytes of one row, in their order. */
INLINE __m256i high_bytes(const struct rows *rows, int r, int64_t at, float inverse)
{
    const __m512 by = _mm512_set1_ps(inverse), plus = _mm512_set1_ps(HIGH_BYTE);
    const __m512i order =
        _mm512_setr_epi64(0x1D1915110D090501, 0x3D3935312D292521, 0x5D5955514D494541, 0x7D7975716D696561, 0, 0, 0, 0);
    __m512 a = _mm512_fmadd_ps(load_16(rows, false, r, at), by, plus),
           b = _mm512_fmadd_ps(load_16(rows, false, r, at + 16), by, plus);
    return _mm512_castsi512_si256(_mm512_permutex2var_epi8(_mm512_castps_si512(a), order, _mm512_castps_si512(b)));
}

/* Where a tile's high bytes go, one wide block after the other. */
struct list {
    uint8_t *byte; /* [32] */
    float *d;
    int32_t *first, count; /* first: [block], how many are before its own */
};

/* The high bytes of a strip's wide blocks to the list, their sums to start. */
INLINE void list_high(const struct rows *rows, int64_t at, uint64_t wide, struct strip *strip, struct list *list)
{
    for (int b = 0; b < STRIP; b++) {
        list->first[at / 32 + b] = list->count + __builtin_popcountll(wide & (((uint64_t)1 << 8 * b) - 1));
        _mm512_store_si512(strip->start[b], _mm512_maskz_set1_epi32(0x3F, -32 * 128)); /* bytes are codes + 128 */
    }
    for (; wide; wide &= wide - 1, list->count++) {
        int b = __builtin_ctzll(wide) / 8, r = __builtin_ctzll(wide) % 8;
        __m256i bytes = high_bytes(rows, r, at + 32 * b, strip->inverse[r][b]);
        _mm256_storeu_si256((__m256i *)(void *)(list->byte + 32 * (int64_t)list->count), bytes);
        list->d[list->count] = 256 * strip->scale[r][b];
        __m256i sum = _mm256_sad_epu8(bytes, _mm256_setzero_si256());
        sum = _mm256_add_epi64(sum, _mm256_unpackhi_epi64(sum, sum));
        int32_t all = _mm256_extract_epi32(sum, 0) + _mm256_extract_epi32(sum, 4) - 32 * 128;
        __m512i v = _mm512_load_si512(strip->start[b]);
        _mm512_store_si512(strip->start[b], _mm512_mask_add_epi32(v, (__mmask16)(1 << r), v, _mm512_set1_epi32(256 * all)));
    }
}

/* start + the sums of a block's low bytes [8][6 rows][4], in the first six words */
INLINE __m512i sum_block(const __m512i low[3], __m512i start)
{
    const __m512i one = _mm512_set1_epi8(1);
    __m512i sum = _mm512_dpbusd_epi32(start, low[0], one); /* twelve words, two k of all rows, then those behind them */
    sum = _mm512_dpbusd_epi32(sum, _mm512_alignr_epi32(low[1], low[0], 12), one);
    sum = _mm512_dpbusd_epi32(sum, _mm512_alignr_epi32(low[2], low[1], 8), one);
    sum = _mm512_dpbusd_epi32(sum, _mm512_alignr_epi32(low[2], low[2], 4), one);
    return _mm512_add_epi32(sum, _mm512_alignr_epi32(sum, sum, PACK_ROWS));
}

/* Block b's scales of all rows, in the first six words. */
INLINE __m512 scales_of_block(const struct strip *strip, int b)
{
    const __m512i first = _mm512_setr_epi32(0, 8, 16, 24, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    const __m512i index = _mm512_add_epi32(first, _mm512_set1_epi32(b));
    const __mmask16 last = 0x30; /* rows 4 and 5 */
    __m512 four = _mm512_permutex2var_ps(_mm512_load_ps(strip->scale[0]), index, _mm512_load_ps(strip->scale[2]));
    return _mm512_mask_permutexvar_ps(four, last, index, _mm512_load_ps(strip->scale[4]));
}

/* Low bytes of a strip, [8 blocks][8][6 rows][4]; sums times scales, [4][6 rows][2 blocks] */
INLINE void pack_strip(const struct rows *rows, bool whole, int64_t at, const struct strip *strip, uint8_t *low, uint32_t *sums)
{
    const __m512i half = _mm512_set1_epi32(0x8000);
    for (int b = 0; b < STRIP; b += 2, sums += PACK_ROWS) {
        __m512i both[2];
#pragma GCC unroll 2
        for (int i = 0; i < 2; i++, low += 32 * PACK_ROWS) {
            __m512i out[3];
            low_bytes(rows, whole, at + 32 * (b + i), strip->inverse[0] + b + i, out);
#pragma GCC unroll 3
            for (int k = 0; k < 3; k++)
                _mm512_storeu_si512(low + 64 * k, out[k]);
            __m512 sum = _mm512_cvtepi32_ps(sum_block(out, _mm512_load_si512(strip->start[b + i])));
            both[i] = _mm512_add_epi32(_mm512_castps_si512(_mm512_mul_ps(scales_of_block(strip, b + i), sum)), half);
        }
        _mm512_mask_storeu_epi32(sums, 0x3F, _mm512_mask_mov_epi16(_mm512_srli_epi32(both[0], 16), 0xAAAAAAAA, both[1]));
    }
}

/* ---- the forms ----------------------------------------------------------------------------------------------------------- */

/* Where a strip lies: the values before it. */
static int64_t place_of(const struct input *in, int32_t tile, int64_t strip)
{
    return chunk_place(in, APART_CHUNK, tile, strip * UNIT);
}

static void claim_strip(struct input *in, int64_t place)
{
    claim(in->p8 + place * PACK_ROWS, UNIT * PACK_ROWS);
    claim(in->pe + place / 16 * PACK_ROWS, UNIT / 16 * PACK_ROWS * sizeof *in->pe);
    claim(in->sums + place / 64 * PACK_ROWS, UNIT / 64 * PACK_ROWS * sizeof *in->sums);
}

static void pack_apart(struct input *in, int32_t tile)
{
    enum { AHEAD = 2 };
    struct rows rows = rows_of(in, tile);
    int64_t blocks = in->padded / 32, first = tile * blocks * PACK_ROWS; /* block of a row */
    struct list list = {in->high_list + 32 * first, in->high_list_d + first, in->high_first + tile * blocks, 0};
    float *d = in->pd + first;
    struct strip strip;
    __m512 limit[PAIRS];
    find_largest(&rows, d);
    find_limits(d, rows.strips, limit);
    for (int64_t i = -AHEAD; i < rows.strips; i++) {
        if (i + AHEAD < rows.strips)
            claim_strip(in, place_of(in, tile, i + AHEAD));
        if (i < 0)
            continue;
        int64_t place = place_of(in, tile, i);
        uint8_t *low = in->p8 + place * PACK_ROWS;
        uint32_t *sums = in->sums + place / 64 * PACK_ROWS;
        uint64_t wide = find_scales(limit, d + i * STRIP_FLOATS, in->pe + place / 16 * PACK_ROWS, &strip);
        memcpy(in->wide + tile * blocks + i * STRIP, &wide, sizeof wide);
        list_high(&rows, i * UNIT, wide, &strip, &list);
        if (i < rows.whole)
            pack_strip(&rows, true, i * UNIT, &strip, low, sums);
        else
            pack_strip(&rows, false, i * UNIT, &strip, low, sums);
    }
}

static void pack_floats(struct input *in, int32_t tile)
{
    struct rows rows = rows_of(in, tile);
    float *to = in->p32 + tile * in->padded * PACK_ROWS;
    for (int64_t at = 0; at < in->padded; at += 16, to += 16 * PACK_ROWS) {
        const bool whole = at < rows.whole * UNIT;
        __m512i v[PACK_ROWS];
#pragma GCC unroll 6
        for (int r = 0; r < PACK_ROWS; r++)
            v[r] = _mm512_castps_si512(load_16(&rows, whole, r, at));
        weave_rows(v, to);
    }
}

void avx512_pack(struct input *in, int32_t tile)
{
    if (in->forms & FORM_APART)
        pack_apart(in, tile);
    if (in->forms & FORM_PACKED32)
        pack_floats(in, tile);
}

/* ---- the high bytes of all rows ------------------------------------------------------------------------------------------ */

/* Six rows' high bytes of a block, to [8][6 rows][4] */
INLINE void weave_high(const uint8_t *const row[PACK_ROWS], uint8_t *to)
{
    __m512i v[PAIRS];
    for (int pair = 0; pair < PAIRS; pair++)
        v[pair] = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)(const void *)row[2 * pair])),
                                     _mm256_loadu_si256((const __m256i *)(const void *)row[2 * pair + 1]), 1);
    weave_eights(v, to);
}

void avx512_gather(struct input *in, int64_t b)
{
    uint8_t nothing[32];
    memset(nothing, 0x80, sizeof nothing);
    int32_t tiles = (in->rows + PACK_ROWS - 1) / PACK_ROWS, count = 0;
    int64_t blocks = in->padded / 32, packed = (int64_t)tiles * PACK_ROWS;
    uint8_t *high = in->high + b * 32 * packed;
    int32_t *to = in->high_row + b * packed;
    float *d = in->high_d + b * packed;
    const uint8_t *row[PACK_ROWS];
    for (int32_t tile = 0; tile < tiles; tile++) {
        int64_t from = tile * blocks * PACK_ROWS + in->high_first[tile * blocks + b];
        for (unsigned rows = in->wide[tile * blocks + b]; rows; rows &= rows - 1, from++, count++) {
            row[count % PACK_ROWS] = in->high_list + 32 * from;
            _mm_prefetch((const char *)row[count % PACK_ROWS] + 128, _MM_HINT_T0); /* of the next blocks */
            to[count] = tile * PACK_ROWS + __builtin_ctz(rows);
            d[count] = in->high_list_d[from];
            if (count % PACK_ROWS == PACK_ROWS - 1)
                weave_high(row, high + (count + 1 - PACK_ROWS) * 32);
        }
    }
    in->high_rows[b] = count;
    if (count % PACK_ROWS == 0)
        return;
    for (; count % PACK_ROWS; count++) { /* rows that nobody reads */
        row[count % PACK_ROWS] = nothing;
        to[count] = (int32_t)packed;
        d[count] = 0;
    }
    weave_high(row, high + (count - PACK_ROWS) * 32);
}
