/* Quantised weights times many activation rows of 8 or 16 bits: 32 weight rows are unpacked, CHUNK weights at a time, to a
 * panel in the first-level cache, then tiles of PACK_ROWS activation rows run over it.
 *
 * Panel:
 *     codes [CHUNK / 4][32 rows][4]   int8: one register holds 4 k of 16 rows, as the dot instruction wants its operand
 *     start [CHUNK / 32][32]          int32: -128 * sum of the block's codes, since activations come as bytes + 128
 *     scale [CHUNK / 32][32]          float32
 *     rest [CHUNK / 64][32][2]        bfloat16, of formats with minimums
 * A minimum becomes a whole offset of the codes and a rest of half a step at most, which meets the sums of the activations: one
 * dot product of pairs for two blocks, where the minimum itself would be an fma for each (78 and 72 % of the roof in the cache).
 * Groups of 16 are folded: a block of 32 is rounded to int8 of one new scale, an error as that of the activations' own 8 bits.
 * With scales of their own they reach 62 %, this 82 as formats with one scale for 32 and no minimum do, which are unpacked as
 * they are.
 *
 * A tile keeps 6 x 2 integer and 6 x 2 float registers; per block: 96 dot products, then for each of the 12 a conversion, weight
 * scale times activation scale, and an fma. Two panels share every tile of activations. Totals wait in [row][32] between chunks.
 * The high bytes of blocks that have 16 bits come first, as rows of their own (pack.c).
 *
 * Only two units multiply, and dot products fill them; conversions, additions and vscalefps run beside. So products of scales are
 * made by the latter: 96 of 108 slots are dot products, 89 % of the roof. */
#include "kernels/cpu/avx512/few.h"
#include "kernels/cpu/avx512/turn.h"
#include "kernels/cpu/avx512/unit_iq.h"

/* TILES_AT_ONCE: activations of so many tiles stay in the second-level cache while all panels meet them */
enum { CHUNK = APART_CHUNK, TILES_AT_ONCE = 32 };

struct panel {
    int8_t *code;
    int32_t *start;
    float *scale;
    uint32_t *rest;
    float *total; /* [activation row][32] */
};

static size_t panel_bytes(int32_t rows)
{
    return PANEL_ROWS * (CHUNK + 2 * CHUNK / 32 * 4 + CHUNK / 64 * 4 + (size_t)(rows + 2 * PACK_ROWS) * 4);
}

size_t avx512_panel_bytes(int64_t n, int32_t rows)
{
    (void)n;
    return AVX512_PANEL_ROWS / PANEL_ROWS * panel_bytes(rows) + 64;
}

static struct panel place_panel(void *scratch, int32_t rows, int number)
{
    struct panel p;
    p.code = (int8_t *)(((uintptr_t)scratch + 63) / 64 * 64) + (size_t)number * panel_bytes(rows);
    p.start = (int32_t *)(void *)(p.code + PANEL_ROWS * CHUNK);
    p.scale = (float *)(p.start + PANEL_ROWS * CHUNK / 32);
    p.rest = (uint32_t *)(void *)(p.scale + PANEL_ROWS * CHUNK / 32);
    p.total = (float *)(void *)(p.rest + PANEL_ROWS * CHUNK / 64);
    return p;
}

/* ---- unpacking ----------------------------------------------------------------------------------------------------------- */

/* 16 bytes of the rows 0, 4, 8, 12 (+ `row`) side by side */
INLINE __m512i four_rows(const int8_t *p, int row)
{
    const __m128i *at = (const __m128i *)(const void *)(p + row * UNIT);
    __m512i v = _mm512_castsi128_si512(_mm_load_si128(at));
    v = _mm512_inserti32x4(v, _mm_load_si128(at + 4 * UNIT / 16), 1);
    v = _mm512_inserti32x4(v, _mm_load_si128(at + 8 * UNIT / 16), 2);
    return _mm512_inserti32x4(v, _mm_load_si128(at + 12 * UNIT / 16), 3);
}

/* rows [16][UNIT] of codes -> the panel's registers, transposing 4 x 4 words inside the 16-byte lanes */
INLINE void turn_codes(const int8_t *rows, int8_t *panel, int32_t *start)
{
    for (int block = 0; block < UNIT / 32; block++) {
        __m512i sum = _mm512_setzero_si512();
#pragma GCC unroll 2
        for (int k = 32 * block; k < 32 * block + 32; k += 16) {
            __m512i a = four_rows(rows + k, 0), b = four_rows(rows + k, 1), c = four_rows(rows + k, 2),
                    d = four_rows(rows + k, 3);
            __m512i ab = _mm512_unpacklo_epi32(a, b), AB = _mm512_unpackhi_epi32(a, b);
            __m512i cd = _mm512_unpacklo_epi32(c, d), CD = _mm512_unpackhi_epi32(c, d);
            __m512i out[4] = {_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd), _mm512_unpacklo_epi64(AB, CD),
                              _mm512_unpackhi_epi64(AB, CD)};
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) {
                _mm512_store_si512(panel + (k / 4 + i) * PANEL_ROWS * 4, out[i]);
                sum = _mm512_dpbusd_epi32(sum, bytes(0x80), out[i]);
            }
        }
        _mm512_store_si512(start + block * PANEL_ROWS, _mm512_sub_epi32(_mm512_setzero_si512(), sum));
    }
}

/* rows [16][16] -> the first eight columns as 16 values at to, to + PANEL_ROWS, ... */
INLINE void turn_scales(const float rows[16][16], float *to)
{
    __m512i v[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++)
        v[i] = _mm512_load_si512(rows[i]);
    turn_lanes(v);
#pragma GCC unroll 8
    for (int column = 0; column < 8; column++)
        _mm512_store_si512(to + column * PANEL_ROWS, turned_column(v, column));
}

/* rows [16][16] -> pairs of the first eight columns as 16 pairs of bfloat16 at to, to + PANEL_ROWS, ... */
INLINE void turn_rests(const float rows[16][16], uint32_t *to)
{
    const __m512i half = _mm512_set1_epi32(0x8000);
    _Alignas(64) float column[8][PANEL_ROWS];
    turn_scales(rows, column[0]);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        __m512i low = _mm512_srli_epi32(_mm512_add_epi32(_mm512_load_si512(column[2 * i]), half), 16);
        __m512i high = _mm512_add_epi32(_mm512_load_si512(column[2 * i + 1]), half);
        _mm512_store_si512(to + i * PANEL_ROWS, _mm512_mask_mov_epi16(low, 0xAAAAAAAA, high));
    }
}

/* A unit of int8 codes: weight = scale * code + rest. */
struct codes {
    __m512i code[4];
    __m512 scale, rest; /* [8] */
};

/* scale * code + min = scale * (code - offset) + rest */
INLINE struct codes split_min(struct unit u)
{
    /* What does not fit stays with the rest. NaN and infinity do not, and must not get lost in bfloat16: broken. */
    __m512 offset = _mm512_roundscale_ps(_mm512_div_ps(_mm512_sub_ps(_mm512_setzero_ps(), u.min), u.scale), 0);
    offset = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(_mm512_abs_ps(offset), _mm512_set1_ps(96), _CMP_LE_OQ), offset);
    __m128i offsets = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(offset));
    struct codes c = {.rest = _mm512_fmadd_ps(offset, u.scale, u.min)};
    __m512 broken = _mm512_mul_ps(_mm512_add_ps(u.min, u.scale), _mm512_setzero_ps());
    c.scale = _mm512_add_ps(u.scale, broken);
    __m512i by = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi8(1), 1), all = _mm512_broadcast_i32x4(offsets);
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++)
        c.code[k] = _mm512_sub_epi8(u.code[k], _mm512_shuffle_epi8(all, _mm512_add_epi8(by, bytes(2 * k))));
    return c;
}

/* Codes of 16 that share a scale to int8 with one scale for 32: times a factor of 8 bits behind the point, plus what it begins
 * with. */
INLINE struct codes fold(struct shape f, struct unit u)
{
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 0, 0, 0, 0, 0, 0, 0, 0);
    __m512 min = f.min ? u.min : _mm512_setzero_ps();
    __m512 most = _mm512_abs_ps(_mm512_fmadd_ps(u.scale, _mm512_set1_ps((float)f.largest), min));
    most = f.min ? _mm512_max_ps(most, _mm512_abs_ps(min)) : most;
    most = _mm512_max_ps(most, _mm512_permute_ps(most, 0xB1));
    /* 2^-14 beside the true reciprocal makes a hundredth of a code */
    __m512 inverse = _mm512_maskz_rcp14_ps(_mm512_cmp_ps_mask(most, _mm512_set1_ps(1e-30f), _CMP_GT_OQ), most);
    inverse = _mm512_mul_ps(inverse, _mm512_set1_ps(127 * 256));
    __m512i factor = _mm512_cvtps_epi32(_mm512_mul_ps(u.scale, inverse));
    __m512i begin =
        f.min ? _mm512_cvtps_epi32(_mm512_mul_ps(min, inverse)) : _mm512_mullo_epi32(factor, _mm512_set1_epi32(-f.offset));
    __m512i factors = _mm512_zextsi256_si512(_mm512_cvtepi32_epi16(factor));
    __m512i begins =
        _mm512_zextsi256_si512(_mm512_cvtepi32_epi16(_mm512_add_epi32(begin, _mm512_set1_epi32(128)))); /* 128: to nearest */
    const __m512i ones = _mm512_set1_epi16(1),
                  lane =
                      _mm512_add_epi16(_mm512_maskz_mov_epi64(0xFC, ones),
                                       _mm512_add_epi16(_mm512_maskz_mov_epi64(0xF0, ones), _mm512_maskz_mov_epi64(0xC0, ones)));
    struct codes c = {.rest = _mm512_setzero_ps()};
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) { /* a lane is a run of 16 */
        __m512i run = _mm512_add_epi16(lane, _mm512_set1_epi16((short)(4 * k))), zero = _mm512_setzero_si512();
        __m512i by = _mm512_permutexvar_epi16(run, factors), from = _mm512_permutexvar_epi16(run, begins);
        __m512i low = _mm512_add_epi16(_mm512_mullo_epi16(_mm512_unpacklo_epi8(u.code[k], zero), by), from);
        __m512i high = _mm512_add_epi16(_mm512_mullo_epi16(_mm512_unpackhi_epi8(u.code[k], zero), by), from);
        c.code[k] = _mm512_packs_epi16(_mm512_srai_epi16(low, 8), _mm512_srai_epi16(high, 8));
    }
    __m512 broken = _mm512_mul_ps(_mm512_add_ps(u.scale, min), _mm512_setzero_ps()); /* comparisons drop NaN, sums do not */
    broken = _mm512_add_ps(broken, _mm512_permute_ps(broken, 0xB1));
    c.scale = _mm512_permutexvar_ps(even, _mm512_fmadd_ps(most, _mm512_set1_ps(1.0f / 127), broken));
    return c;
}

INLINE struct codes codes_of(struct shape f, struct unit u)
{
    if (f.group == 16)
        return fold(f, u);
    if (f.min)
        return split_min(u);
    struct codes c = {.scale = u.scale, .rest = _mm512_setzero_ps()};
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++)
        c.code[k] = _mm512_sub_epi8(u.code[k], bytes(f.offset));
    return c;
}

INLINE bool has_rest(struct shape f) { return f.group == 32 && f.min; }

/* 16 weight rows of one unit into the panel's columns [column, column + 16) */
INLINE void unpack_16(decode_function *decode, struct shape f, const unsigned char *const p[16], int blocks, struct panel to,
                      int64_t at, int column)
{
    _Alignas(64) int8_t codes[16][UNIT];
    _Alignas(64) float scale[16][16], rest[16][16];
    for (int r = 0; r < 16; r++) {
        struct codes c = codes_of(f, decode(p[r], blocks));
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++)
            _mm512_store_si512(codes[r] + 64 * k, c.code[k]);
        _mm512_store_ps(scale[r], c.scale);
        if (has_rest(f))
            _mm512_store_ps(rest[r], c.rest);
    }
    turn_codes(codes[0], to.code + at * PANEL_ROWS + column * 4, to.start + at / 32 * PANEL_ROWS + column);
    turn_scales(scale, to.scale + at / 32 * PANEL_ROWS + column);
    if (has_rest(f))
        turn_rests(rest, to.rest + at / 64 * PANEL_ROWS + column);
}

/* ---- tiles --------------------------------------------------------------------------------------------------------------- */

/* sum[row] += a block of weights times one byte of each activation */
INLINE void dots(int rows, const int8_t *code, const uint8_t *x, __m512i sum[PACK_ROWS][2])
{
#pragma GCC unroll 8
    for (int k = 0; k < 8; k++) {
        __m512i w0 = _mm512_load_si512(code + 128 * k), w1 = _mm512_load_si512(code + 128 * k + 64);
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            int32_t four;
            memcpy(&four, x + 4 * (PACK_ROWS * k + r), 4);
            __m512i v = _mm512_set1_epi32(four);
            sum[r][0] = _mm512_dpbusd_epi32(sum[r][0], v, w0);
            sum[r][1] = _mm512_dpbusd_epi32(sum[r][1], v, w1);
        }
    }
}

INLINE void start_sums(int rows, const int32_t *start, __m512i sum[PACK_ROWS][2])
{
    __m512i start0 = _mm512_load_si512(start), start1 = _mm512_load_si512(start + 16);
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
        sum[r][0] = start0, sum[r][1] = start1;
}

/* scale * (2^e + 2^f): both products are exact, so it is rounded once, as a product would be. */
INLINE __m512 times_powers(__m512 scale, float e, float f)
{
    return _mm512_add_ps(_mm512_scalef_ps(scale, _mm512_set1_ps(e)), _mm512_scalef_ps(scale, _mm512_set1_ps(f)));
}

INLINE void load_total(int rows, const float *from, __m512 total[PACK_ROWS][2])
{
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        total[r][0] = _mm512_load_ps(from + r * PANEL_ROWS);
        total[r][1] = _mm512_load_ps(from + r * PANEL_ROWS + 16);
    }
}

INLINE void store_total(int rows, __m512 total[PACK_ROWS][2], float *to)
{
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        _mm512_store_ps(to + r * PANEL_ROWS, total[r][0]);
        _mm512_store_ps(to + r * PANEL_ROWS + 16, total[r][1]);
    }
}

/* total + the rests of two blocks times the sums of both, bfloat16 */
typedef __m512 rest_function(__m512 total, __m512i rest, __m512i sum);

INLINE __m512 rest_floats(__m512 total, __m512i rest, __m512i sum)
{
    const __m512i high = _mm512_set1_epi32((int)0xFFFF0000);
    total =
        _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_slli_epi32(rest, 16)), _mm512_castsi512_ps(_mm512_slli_epi32(sum, 16)), total);
    return _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_and_si512(rest, high)), _mm512_castsi512_ps(_mm512_and_si512(sum, high)),
                           total);
}

#define WITH_BF16 __attribute__((target("avx512bf16")))
WITH_BF16 INLINE __m512 rest_pairs(__m512 total, __m512i rest, __m512i sum)
{
    return _mm512_dpbf16_ps(total, (__m512bh)rest, (__m512bh)sum);
}

/* `rows` activation rows of a packed tile times `blocks` blocks of the panel, onto memory[row][32]. Of the tile: the bytes, the
 * exponents of the scales [block][2][PACK_ROWS] and the sums [block / 2][PACK_ROWS][2]. Arguments apart, not in a struct:
 * compilers pass those through memory in other pieces than they read, which waits until all stores before have left the core. */
INLINE void run_tile(int rows, rest_function *rest, const struct panel *panel, int64_t blocks, const uint8_t *x,
                     const float *exponent, const uint32_t *sums, float *memory)
{
    __m512 total[PACK_ROWS][2];
    load_total(rows, memory, total);
    for (int64_t b = 0; b < blocks; b++) {
        __m512i sum[PACK_ROWS][2];
        start_sums(rows, panel->start + b * PANEL_ROWS, sum);
        dots(rows, panel->code + b * 32 * PANEL_ROWS, x + b * 32 * PACK_ROWS, sum);
        __m512 scale0 = _mm512_load_ps(panel->scale + b * PANEL_ROWS),
               scale1 = _mm512_load_ps(panel->scale + b * PANEL_ROWS + 16);
        const float *e = exponent + 2 * b * PACK_ROWS, *f = e + PACK_ROWS;
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            total[r][0] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[r][0]), times_powers(scale0, e[r], f[r]), total[r][0]);
            total[r][1] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[r][1]), times_powers(scale1, e[r], f[r]), total[r][1]);
        }
    }
    for (int64_t pair = 0; rest && pair < (blocks + 1) / 2; pair++) {
        __m512i rest0 = _mm512_load_si512(panel->rest + pair * PANEL_ROWS),
                rest1 = _mm512_load_si512(panel->rest + pair * PANEL_ROWS + 16);
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            __m512i sum = _mm512_set1_epi32((int)sums[pair * PACK_ROWS + r]);
            total[r][0] = rest(total[r][0], rest0, sum);
            total[r][1] = rest(total[r][1], rest1, sum);
        }
    }
    store_total(rows, total, memory);
}

/* Functions of their own, since all formats share them and compilers find registers for them alone. */
typedef void tile_function(const struct panel *panel, int64_t blocks, const uint8_t *x, const float *exponent,
                           const uint32_t *sums, float *memory);
#define TILE(name, rows, rest, attribute)                                                                                        \
    attribute static __attribute__((noinline)) void name(const struct panel *panel, int64_t blocks, const uint8_t *x,            \
                                                         const float *exponent, const uint32_t *sums, float *memory)             \
    {                                                                                                                            \
        run_tile(rows, rest, panel, blocks, x, exponent, sums, memory);                                                          \
    }
#define TILES(kind, rest, attribute)                                                                                             \
    TILE(tile_2_##kind, 2, rest, attribute) TILE(tile_4_##kind, 4, rest, attribute) TILE(tile_6_##kind, 6, rest, attribute)
TILES(plain, NULL, )
TILES(floats, rest_floats, ) TILES(pairs, rest_pairs, WITH_BF16)

    static tile_function *tile_of(bool rest, int rows)
{
    static tile_function *const functions[3][PACK_ROWS / 2] = {{tile_2_plain, tile_4_plain, tile_6_plain},
                                                               {tile_2_floats, tile_4_floats, tile_6_floats},
                                                               {tile_2_pairs, tile_4_pairs, tile_6_pairs}};
    return functions[!rest ? 0 : __builtin_cpu_supports("avx512bf16") ? 2 : 1][(rows - 1) / 2];
}

/* The high bytes of the rows that have 16 bits in a block, block by block of the panel (its first is the weights' block `first`),
 * onto those rows' totals. */
static __attribute__((noinline)) void run_high(struct panel panel, int64_t blocks, const struct input *in, int64_t first,
                                               float *total)
{
    int64_t packed = (in->rows + PACK_ROWS - 1) / PACK_ROWS * PACK_ROWS;
    for (int64_t b = 0; b < blocks; b++)
        for (int32_t i = 0; i < in->high_rows[first + b]; i += PACK_ROWS) {
            int64_t place = (first + b) * packed + i;
            __m512i sum[PACK_ROWS][2];
            start_sums(PACK_ROWS, panel.start + b * PANEL_ROWS, sum);
            dots(PACK_ROWS, panel.code + b * 32 * PANEL_ROWS, in->high + place * 32, sum);
            __m512 scale0 = _mm512_load_ps(panel.scale + b * PANEL_ROWS),
                   scale1 = _mm512_load_ps(panel.scale + b * PANEL_ROWS + 16);
#pragma GCC unroll 6
            for (int r = 0; r < PACK_ROWS; r++) {
                float *t = total + in->high_row[place + r] * PANEL_ROWS;
                __m512 d = _mm512_set1_ps(in->high_d[place + r]);
                _mm512_store_ps(t, _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[r][0]), _mm512_mul_ps(scale0, d), _mm512_load_ps(t)));
                _mm512_store_ps(t + 16,
                                _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[r][1]), _mm512_mul_ps(scale1, d), _mm512_load_ps(t + 16)));
            }
        }
}

/* ---- panels -------------------------------------------------------------------------------------------------------------- */

/* Of 16 rows, from the second-level cache: rows are too short for the hardware to see them coming. */
INLINE void prefetch_16(const unsigned char *const p[16], int unit_bytes)
{
    for (int r = 0; r < 16; r++)
        for (int i = 0; i < unit_bytes; i += 64)
            _mm_prefetch((const char *)p[r] + i, _MM_HINT_T0);
}

/* Weights [at, at + count) of 32 rows (count < CHUNK only at the row's end) to the panel; blocks that it holds. Rows behind
 * `end` repeat the last one; what comes of them is not used. */
INLINE int64_t unpack(decode_function *decode, struct shape f, const struct weight *w, int64_t first, int64_t end, int64_t at,
                      struct panel panel)
{
    int64_t count = w->in - at < CHUNK ? w->in - at : CHUNK;
    const unsigned char *p[PANEL_ROWS];
    for (int r = 0; r < PANEL_ROWS; r++)
        p[r] = w->data + (first + r < end ? first + r : end - 1) * w->row_bytes + at / UNIT * f.unit_bytes;
    prefetch_16(p, f.unit_bytes);
    for (int64_t k = 0; k < count; k += UNIT)
        for (int column = 0; column < PANEL_ROWS; column += 16) {
            const unsigned char *const *next = column ? p : p + 16; /* behind a row's end nothing comes of it */
            int blocks = count - k < UNIT ? (int)(count - k) / 32 : 8;
            if (blocks == 8)
                unpack_16(decode, f, p + column, 8, panel, k, column);
            else
                unpack_16(decode, f, p + column, blocks, panel, k, column);
            for (int r = column; r < column + 16; r++)
                p[r] += f.unit_bytes;
            prefetch_16(next, f.unit_bytes);
        }
    return (count + 31) / 32;
}

/* While a tile runs: its share of the next chunk of 32 rows, which lies in as many streams. A row or a few at a time: more lines
 * than the core can wait for would be dropped. */
INLINE void prefetch_next(int unit_bytes, const struct weight *w, int64_t first, int64_t at, int32_t tile, int32_t step)
{
    int64_t next = at + CHUNK;
    if (next >= w->in)
        next = 0, first += AVX512_PANEL_ROWS;
    int64_t bytes = w->in - next < CHUNK ? (w->in - next) * unit_bytes / UNIT : CHUNK / UNIT * unit_bytes;
    for (int32_t r = tile * step; r < (tile + 1) * step && r < PANEL_ROWS && first + r < w->out; r++) {
        uintptr_t from = (uintptr_t)(w->data + (first + r) * w->row_bytes + next / UNIT * unit_bytes),
                  end = from + (uintptr_t)bytes;
        for (uintptr_t line = from & ~(uintptr_t)63; line < end; line += 64)
            _mm_prefetch((const char *)line, _MM_HINT_T1);
    }
}

/* A tile's totals to y, `count` columns. Right behind its last chunk: stores that miss all caches then wait beside dot products.
 */
INLINE void store_tile(const struct input *in, int32_t tile, const float *total, float *y, int64_t y_stride, int64_t count)
{
    __mmask32 columns = ~(__mmask32)0 >> (PANEL_ROWS - count);
    for (int32_t row = tile * PACK_ROWS; row < in->rows && row < (tile + 1) * PACK_ROWS; row++) {
        float *to = y + in->row[row] * y_stride;
        _mm512_mask_storeu_ps(to, (__mmask16)columns, _mm512_load_ps(total + row * PANEL_ROWS));
        _mm512_mask_storeu_ps(to + 16, (__mmask16)(columns >> 16), _mm512_load_ps(total + row * PANEL_ROWS + 16));
    }
}

INLINE void many_units(decode_function *decode, struct shape f, const struct weight *w, int64_t first, int64_t end,
                       const struct input *in, float *y, int64_t y_stride, void *scratch)
{
    struct panel panel[AVX512_PANEL_ROWS / PANEL_ROWS];
    int panels = (int)((end - first + PANEL_ROWS - 1) / PANEL_ROWS);
    int32_t tiles = (in->rows + PACK_ROWS - 1) / PACK_ROWS, step = (PANEL_ROWS + tiles - 1) / tiles;
    for (int i = 0; i < panels; i++) {
        panel[i] = place_panel(scratch, in->rows, i);
        memset(panel[i].total, 0, (size_t)(tiles + 1) * PACK_ROWS * PANEL_ROWS * sizeof *panel->total);
    }
    for (int64_t at = 0; at < w->in; at += CHUNK) {
        int64_t blocks = 0;
        for (int i = 0; i < panels; i++) {
            blocks = unpack(decode, f, w, first + i * PANEL_ROWS, end, at, panel[i]);
            run_high(panel[i], blocks, in, at / 32, panel[i].total);
        }
        for (int32_t from = 0; from < tiles; from += TILES_AT_ONCE)
            for (int i = 0; i < panels; i++)
                for (int32_t tile = from; tile < tiles && tile < from + TILES_AT_ONCE; tile++) {
                    prefetch_next(f.unit_bytes, w, first + i * PANEL_ROWS, at, tile, step);
                    int64_t place = chunk_place(in, APART_CHUNK, tile, at);
                    int rows = in->rows - tile * PACK_ROWS < PACK_ROWS ? in->rows - tile * PACK_ROWS : PACK_ROWS;
                    tile_of(has_rest(f), rows)(&panel[i], blocks, in->p8 + place * PACK_ROWS, in->pe + place / 16 * PACK_ROWS,
                                               in->sums + place / 64 * PACK_ROWS, panel[i].total + tile * PACK_ROWS * PANEL_ROWS);
                    int64_t column = first + i * PANEL_ROWS, count = end - column < PANEL_ROWS ? end - column : PANEL_ROWS;
                    if (at + CHUNK >= w->in)
                        store_tile(in, tile, panel[i].total, y + column, y_stride, count);
                }
    }
}

#define MANY(name, NAME, unit_bytes, group, has_min, largest)                                                                    \
    void avx512_many_##name(const struct weight *w, int64_t first, int64_t end, const struct input *in, float *y,                \
                            int64_t y_stride, void *scratch)                                                                     \
    {                                                                                                                            \
        const struct shape f = {unit_bytes, NAME##_OFFSET, group, has_min, largest};                                             \
        many_units(decode_##name, f, w, first, end, in, y, y_stride, scratch);                                                   \
    }
UNIT_FORMATS(MANY)
NIBBLE_FORMATS(MANY)
IQ_FORMATS(MANY)
PAIR_FORMATS(MANY)
