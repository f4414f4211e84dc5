/* Quantised weights times many activation rows of 8 or 16 bits: 32 weight rows are unpacked, CHUNK weights at a time, to a
 * panel in the first-level cache, then tiles of PACK_ROWS activation rows run over it.
 *
 * Panel, GROUP weights sharing a scale:
 *     codes [CHUNK / 4][32 rows][4]     int8: one register holds 4 k of 16 rows, as the dot instruction wants its operand
 *     start [CHUNK / GROUP][32]         int32: -128 * sum of the group's codes, since activations come as bytes + 128
 *     scale, min [CHUNK / GROUP][32]    float32
 * A tile keeps 6 x 2 integer and 6 x 2 float registers; per group of 32: 96 dot products, then for each of the 12 a conversion,
 * weight scale times activation scale, and an fma. Two panels share every tile of activations. Totals wait in [row][32] between
 * chunks. The high bytes of blocks that have 16 bits come first, as rows of their own (pack.c).
 *
 * Only two units multiply, and dot products fill them; conversions, additions and vscalefps run beside. So products of scales
 * are made by the latter: 96 of 108 slots are dot products, 89 % of the roof; 78 are reached with a panel in the cache (with a
 * multiplication: 80 and 76). With minimums 96 of 132, groups of 16 96 of 132. */
#include "kernels/cpu/avx512/few.h"
#include "kernels/cpu/avx512/turn.h"
#include "kernels/cpu/avx512/unit_iq.h"

/* TILES_AT_ONCE: activations of so many tiles stay in the second-level cache while all panels meet them */
enum { CHUNK = 2 * UNIT, TILES_AT_ONCE = 32 };

struct panel {
    int8_t *code;
    int32_t *start;
    float *scale, *min;
    float *total; /* [activation row][32] */
};

static size_t panel_bytes(int32_t rows) { return PANEL_ROWS * (CHUNK + 3 * CHUNK / 16 * 4 + (size_t)(rows + 2 * PACK_ROWS) * 4); }

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
    p.scale = (float *)(p.start + PANEL_ROWS * CHUNK / 16);
    p.min = p.scale + PANEL_ROWS * CHUNK / 16;
    p.total = p.min + PANEL_ROWS * CHUNK / 16;
    return p;
}

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
INLINE void turn_codes(const int8_t *rows, int8_t *panel, int32_t *start, int group)
{
    __m512i sum = _mm512_setzero_si512();
    for (int k = 0; k < UNIT; k += 16) {
        __m512i a = four_rows(rows + k, 0), b = four_rows(rows + k, 1), c = four_rows(rows + k, 2), d = four_rows(rows + k, 3);
        __m512i ab = _mm512_unpacklo_epi32(a, b), AB = _mm512_unpackhi_epi32(a, b);
        __m512i cd = _mm512_unpacklo_epi32(c, d), CD = _mm512_unpackhi_epi32(c, d);
        __m512i out[4] = {_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd), _mm512_unpacklo_epi64(AB, CD), _mm512_unpackhi_epi64(AB, CD)};
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            _mm512_store_si512(panel + (k / 4 + i) * PANEL_ROWS * 4, out[i]);
            sum = _mm512_dpbusd_epi32(sum, bytes(0x80), out[i]);
        }
        if ((k + 16) % group == 0) {
            _mm512_store_si512(start + k / group * PANEL_ROWS, _mm512_sub_epi32(_mm512_setzero_si512(), sum));
            sum = _mm512_setzero_si512();
        }
    }
}

/* rows [16][16] -> the first `columns` columns (8 or 16) as 16 values at to, to + PANEL_ROWS, ... */
INLINE void turn_floats(const float rows[16][16], float *to, int columns)
{
    __m512i v[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++)
        v[i] = _mm512_load_si512(rows[i]);
    turn_lanes(v);
#pragma GCC unroll 16
    for (int column = 0; column < columns; column++)
        _mm512_store_si512(to + column * PANEL_ROWS, turned_column(v, column));
}

/* 16 weight rows of one unit into the panel's columns [column, column + 16) */
INLINE void unpack_16(decode_function *decode, int offset, int group, bool has_min, const unsigned char *const p[16], int blocks, struct panel to,
                      int64_t at, int column)
{
    _Alignas(64) int8_t codes[16][UNIT];
    _Alignas(64) float scale[16][16], min[16][16];
    for (int r = 0; r < 16; r++) {
        struct unit u = decode(p[r], blocks);
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++)
            _mm512_store_si512(codes[r] + 64 * k, _mm512_sub_epi8(u.code[k], bytes(offset)));
        _mm512_store_ps(scale[r], u.scale);
        if (has_min)
            _mm512_store_ps(min[r], u.min);
    }
    turn_codes(codes[0], to.code + at * PANEL_ROWS + column * 4, to.start + at / group * PANEL_ROWS + column, group);
    turn_floats(scale, to.scale + at / group * PANEL_ROWS + column, UNIT / group);
    if (has_min)
        turn_floats(min, to.min + at / group * PANEL_ROWS + column, UNIT / group);
}

/* sum[row] += GROUP weights times one byte of each activation */
INLINE void dots(int rows, int group, const int8_t *code, const uint8_t *x, __m512i sum[PACK_ROWS][2])
{
#pragma GCC unroll 8
    for (int k = 0; k < group / 4; k++) {
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

/* A packed tile at the panel's first weight: `low`, the bytes; `scale`, the scales [block][PACK_ROWS], but of groups of 32
 * without minimums their exponents [block][2][PACK_ROWS]; `s`, the sums. Apart, not in a struct: compilers pass those through memory in other pieces than
 * they read, which waits until all stores before have left the core. */

/* total += min * s, for one group */
INLINE void add_min(int rows, const float *min, const float *s, __m512 total[PACK_ROWS][2])
{
    __m512 min0 = _mm512_load_ps(min), min1 = _mm512_load_ps(min + 16);
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        total[r][0] = _mm512_fmadd_ps(min0, _mm512_set1_ps(s[r]), total[r][0]);
        total[r][1] = _mm512_fmadd_ps(min1, _mm512_set1_ps(s[r]), total[r][1]);
    }
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

/* `rows` activation rows times `blocks` blocks of the panel, whose groups are blocks, onto memory[row][32] */
INLINE void run_32(int rows, bool has_min, const struct panel *panel, int64_t blocks, const uint8_t *low, const float *scale, const float *s, float *memory)
{
    __m512 total[PACK_ROWS][2];
    load_total(rows, memory, total);
    for (int64_t b = 0; b < blocks; b++) {
        __m512i sum[PACK_ROWS][2];
        start_sums(rows, panel->start + b * PANEL_ROWS, sum);
        dots(rows, 32, panel->code + b * 32 * PANEL_ROWS, low + b * 32 * PACK_ROWS, sum);
        __m512 scale0 = _mm512_load_ps(panel->scale + b * PANEL_ROWS), scale1 = _mm512_load_ps(panel->scale + b * PANEL_ROWS + 16);
        const float *d = scale + b * PACK_ROWS, *e = scale + 2 * b * PACK_ROWS, *f = e + PACK_ROWS;
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            __m512 both0 = has_min ? _mm512_mul_ps(scale0, _mm512_set1_ps(d[r])) : times_powers(scale0, e[r], f[r]);
            __m512 both1 = has_min ? _mm512_mul_ps(scale1, _mm512_set1_ps(d[r])) : times_powers(scale1, e[r], f[r]);
            total[r][0] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[r][0]), both0, total[r][0]);
            total[r][1] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[r][1]), both1, total[r][1]);
        }
        if (has_min)
            add_min(rows, panel->min + b * PANEL_ROWS, s + b * PACK_ROWS, total);
    }
    store_total(rows, total, memory);
}

/* The same with two groups of 16 in a block: theirs are summed first, since the activations' scale is the same for both. Totals
 * stay in memory, there are no registers for them. */
INLINE void run_16(int rows, bool has_min, const struct panel *panel, int64_t blocks, const uint8_t *low, const float *scale, const float *s, float *memory)
{
    for (int64_t b = 0; b < blocks; b++) {
        __m512 part[PACK_ROWS][2];
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++) {
            int64_t g = 2 * b + half;
            __m512i sum[PACK_ROWS][2];
            start_sums(rows, panel->start + g * PANEL_ROWS, sum);
            dots(rows, 16, panel->code + g * 16 * PANEL_ROWS, low + g * 16 * PACK_ROWS, sum);
            __m512 scale0 = _mm512_load_ps(panel->scale + g * PANEL_ROWS), scale1 = _mm512_load_ps(panel->scale + g * PANEL_ROWS + 16);
#pragma GCC unroll 6
            for (int r = 0; r < rows; r++) {
                __m512 sum0 = _mm512_cvtepi32_ps(sum[r][0]), sum1 = _mm512_cvtepi32_ps(sum[r][1]);
                part[r][0] = half ? _mm512_fmadd_ps(sum0, scale0, part[r][0]) : _mm512_mul_ps(sum0, scale0);
                part[r][1] = half ? _mm512_fmadd_ps(sum1, scale1, part[r][1]) : _mm512_mul_ps(sum1, scale1);
                __asm__ volatile("" : "+v"(part[r][0]), "+v"(part[r][1])); /* now: else compilers keep the sums, too many */
            }
            __asm__ volatile("" ::: "memory"); /* nor totals in registers */
        }
        __m512 total[PACK_ROWS][2];
        load_total(rows, memory, total);
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            __m512 d = _mm512_set1_ps(scale[b * PACK_ROWS + r]);
            total[r][0] = _mm512_fmadd_ps(part[r][0], d, total[r][0]);
            total[r][1] = _mm512_fmadd_ps(part[r][1], d, total[r][1]);
        }
        for (int half = 0; half < 2 && has_min; half++)
            add_min(rows, panel->min + (2 * b + half) * PANEL_ROWS, s + (2 * b + half) * PACK_ROWS, total);
        store_total(rows, total, memory);
    }
}

/* Functions of their own, since all formats share them and compilers find registers for them alone. */
typedef void tile_function(const struct panel *panel, int64_t blocks, const uint8_t *low, const float *scale, const float *s, float *memory);
#define TILE(rows, group, has_min)                                                                                                      \
    static __attribute__((noinline)) void tile_##rows##_##group##_##has_min(const struct panel *panel, int64_t blocks, const uint8_t *low, const float *scale, const float *s, float *memory) \
    {                                                                                                                                   \
        run_##group(rows, has_min, panel, blocks, low, scale, s, memory);                                                                           \
    }
#define TILES(group, has_min) TILE(2, group, has_min) TILE(4, group, has_min) TILE(6, group, has_min)
TILES(32, 0) TILES(32, 1) TILES(16, 0) TILES(16, 1)
static tile_function *const tile_functions[2][2][PACK_ROWS / 2] = { /* [groups of 16][has_min][(rows - 1) / 2] */
    {{tile_2_32_0, tile_4_32_0, tile_6_32_0}, {tile_2_32_1, tile_4_32_1, tile_6_32_1}},
    {{tile_2_16_0, tile_4_16_0, tile_6_16_0}, {tile_2_16_1, tile_4_16_1, tile_6_16_1}},
};

/* The high bytes of the rows that have 16 bits in a block, block by block of the panel (its first is the weights' block `first`),
 * onto those rows' totals. */
INLINE void run_high(int group, struct panel panel, int64_t blocks, const struct input *in, int64_t first, float *total)
{
    int64_t packed = (in->rows + PACK_ROWS - 1) / PACK_ROWS * PACK_ROWS;
    for (int64_t b = 0; b < blocks; b++)
        for (int32_t i = 0; i < in->high_rows[first + b]; i += PACK_ROWS) {
            int64_t place = (first + b) * packed + i;
            for (int64_t g = b * 32 / group; g < (b + 1) * 32 / group; g++) {
                __m512i sum[PACK_ROWS][2];
                start_sums(PACK_ROWS, panel.start + g * PANEL_ROWS, sum);
                dots(PACK_ROWS, group, panel.code + g * group * PANEL_ROWS, in->high + place * 32 + g * group % 32 * PACK_ROWS, sum);
                __m512 scale0 = _mm512_load_ps(panel.scale + g * PANEL_ROWS), scale1 = _mm512_load_ps(panel.scale + g * PANEL_ROWS + 16);
#pragma GCC unroll 6
                for (int r = 0; r < PACK_ROWS; r++) {
                    float *t = total + in->high_row[place + r] * PANEL_ROWS;
                    __m512 d = _mm512_set1_ps(in->high_d[place + r]);
                    _mm512_store_ps(t, _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[r][0]), _mm512_mul_ps(scale0, d), _mm512_load_ps(t)));
                    _mm512_store_ps(t + 16, _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[r][1]), _mm512_mul_ps(scale1, d), _mm512_load_ps(t + 16)));
                }
            }
        }
}

static __attribute__((noinline)) void high_32(struct panel panel, int64_t blocks, const struct input *in, int64_t first, float *total)
{
    run_high(32, panel, blocks, in, first, total);
}

static __attribute__((noinline)) void high_16(struct panel panel, int64_t blocks, const struct input *in, int64_t first, float *total)
{
    run_high(16, panel, blocks, in, first, total);
}

/* Of 16 rows, from the second-level cache: rows are too short for the hardware to see them coming. */
INLINE void prefetch_16(const unsigned char *const p[16], int unit_bytes)
{
    for (int r = 0; r < 16; r++)
        for (int i = 0; i < unit_bytes; i += 64)
            _mm_prefetch((const char *)p[r] + i, _MM_HINT_T0);
}

/* Weights [at, at + count) of 32 rows (count < CHUNK only at the row's end) to the panel; blocks that it holds. Rows behind
 * `end` repeat the last one; what comes of them is not used. */
INLINE int64_t unpack(decode_function *decode, int unit_bytes, int offset, int group, bool has_min, const struct weight *w, int64_t first, int64_t end,
                      int64_t at, struct panel panel)
{
    int64_t count = w->in - at < CHUNK ? w->in - at : CHUNK;
    const unsigned char *p[PANEL_ROWS];
    for (int r = 0; r < PANEL_ROWS; r++)
        p[r] = w->data + (first + r < end ? first + r : end - 1) * w->row_bytes + at / UNIT * unit_bytes;
    prefetch_16(p, unit_bytes);
    for (int64_t k = 0; k < count; k += UNIT)
        for (int column = 0; column < PANEL_ROWS; column += 16) {
            const unsigned char *const *next = column ? p : p + 16; /* behind a row's end nothing comes of it */
            int blocks = count - k < UNIT ? (int)(count - k) / 32 : 8;
            if (blocks == 8)
                unpack_16(decode, offset, group, has_min, p + column, 8, panel, k, column);
            else
                unpack_16(decode, offset, group, has_min, p + column, blocks, panel, k, column);
            for (int r = column; r < column + 16; r++)
                p[r] += unit_bytes;
            prefetch_16(next, unit_bytes);
        }
    return (count + 31) / 32;
}

/* While a tile runs: its share of the next chunk of 32 rows, which lies in as many streams. A few lines at a time: more than the
 * core can wait for would be dropped. */
INLINE void prefetch_next(int unit_bytes, const struct weight *w, int64_t first, int64_t at, int32_t tile, int32_t tiles)
{
    int64_t next = at + CHUNK;
    if (next >= w->in)
        next = 0, first += AVX512_PANEL_ROWS;
    int64_t bytes = w->in - next < CHUNK ? (w->in - next) * unit_bytes / UNIT : CHUNK / UNIT * unit_bytes;
    for (int64_t r = first + PANEL_ROWS * tile / tiles, last = first + PANEL_ROWS * (tile + 1) / tiles; r < last && r < w->out; r++)
        for (int64_t i = 0; i < bytes; i += 64)
            _mm_prefetch((const char *)w->data + r * w->row_bytes + next / UNIT * unit_bytes + i, _MM_HINT_T1);
}

/* A tile's totals to y, `count` columns. Right behind its last chunk: stores that miss all caches then wait beside dot products. */
INLINE void store_tile(const struct input *in, int32_t tile, const float *total, float *y, int64_t y_stride, int64_t count)
{
    __mmask32 columns = ~(__mmask32)0 >> (PANEL_ROWS - count);
    for (int32_t row = tile * PACK_ROWS; row < in->rows && row < (tile + 1) * PACK_ROWS; row++) {
        float *to = y + in->row[row] * y_stride;
        _mm512_mask_storeu_ps(to, (__mmask16)columns, _mm512_load_ps(total + row * PANEL_ROWS));
        _mm512_mask_storeu_ps(to + 16, (__mmask16)(columns >> 16), _mm512_load_ps(total + row * PANEL_ROWS + 16));
    }
}

INLINE void run_tile(int group, bool has_min, const struct panel *panel, int64_t blocks, const struct input *in, int64_t at, int32_t tile)
{
    int64_t values = tile * in->padded + at;
    const float *scale = group == 32 && !has_min ? in->pe + values / 16 * PACK_ROWS : in->pd + values / 32 * PACK_ROWS;
    const float *s = group == 32 ? in->ps + values / 32 * PACK_ROWS : in->ps16 + values / 16 * PACK_ROWS;
    int rows = in->rows - tile * PACK_ROWS < PACK_ROWS ? in->rows - tile * PACK_ROWS : PACK_ROWS;
    tile_functions[group == 16][has_min][(rows - 1) / 2](panel, blocks, in->p8 + values * PACK_ROWS, scale, s, panel->total + tile * PACK_ROWS * PANEL_ROWS);
}

INLINE void many_units(decode_function *decode, int unit_bytes, int offset, int group, bool has_min, const struct weight *w, int64_t first, int64_t end,
                       const struct input *in, float *y, int64_t y_stride, void *scratch)
{
    struct panel panel[AVX512_PANEL_ROWS / PANEL_ROWS];
    int panels = (int)((end - first + PANEL_ROWS - 1) / PANEL_ROWS);
    int32_t tiles = (in->rows + PACK_ROWS - 1) / PACK_ROWS;
    for (int i = 0; i < panels; i++) {
        panel[i] = place_panel(scratch, in->rows, i);
        memset(panel[i].total, 0, (size_t)(tiles + 1) * PACK_ROWS * PANEL_ROWS * sizeof *panel->total);
    }
    for (int64_t at = 0; at < w->in; at += CHUNK) {
        int64_t blocks = 0;
        for (int i = 0; i < panels; i++) {
            blocks = unpack(decode, unit_bytes, offset, group, has_min, w, first + i * PANEL_ROWS, end, at, panel[i]);
            (group == 32 ? high_32 : high_16)(panel[i], blocks, in, at / 32, panel[i].total);
        }
        for (int32_t from = 0; from < tiles; from += TILES_AT_ONCE)
            for (int i = 0; i < panels; i++)
                for (int32_t tile = from; tile < tiles && tile < from + TILES_AT_ONCE; tile++) {
                    prefetch_next(unit_bytes, w, first + i * PANEL_ROWS, at, tile, tiles);
                    run_tile(group, has_min, &panel[i], blocks, in, at, tile);
                    int64_t column = first + i * PANEL_ROWS, count = end - column < PANEL_ROWS ? end - column : PANEL_ROWS;
                    if (at + CHUNK >= w->in)
                        store_tile(in, tile, panel[i].total, y + column, y_stride, count);
                }
    }
}

#define MANY(name, NAME, unit_bytes, group, has_min)                                                                          \
    void avx512_many_##name(const struct weight *w, int64_t first, int64_t end, const struct input *in, float *y, int64_t y_stride, \
                            void *scratch)                                                                                    \
    {                                                                                                                         \
        many_units(decode_##name, unit_bytes, NAME##_OFFSET, group, has_min, w, first, end, in, y, y_stride, scratch);           \
    }
UNIT_FORMATS(MANY)
NIBBLE_FORMATS(MANY)
IQ_FORMATS(MANY)
PAIR_FORMATS(MANY)
