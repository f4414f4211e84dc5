/* Quantised weights times many activation rows of 8 or 16 bits: 32 weight rows are unpacked, CHUNK weights at a time, to a
 * panel in the first-level cache, then tiles of PACK_ROWS activation rows run over it.
 *
 * Panel, GROUP weights sharing a scale:
 *     codes [CHUNK / 4][32 rows][4]     int8: one register holds 4 k of 16 rows, as the dot instruction wants its operand
 *     start [CHUNK / GROUP][32]         int32: -128 * sum of the group's codes, since activations come as bytes + 128
 *     scale, min [CHUNK / GROUP][32]    float32
 * A tile keeps 6 x 2 integer and 6 x 2 float registers: per group, 12 * GROUP / 4 dot products, then a conversion, a
 * product of weight and activation scale and an fma for each of the 12. Blocks of 16-bit activations take their upper
 * bytes first, then those sums are shifted and the lower bytes go on top. Totals wait in [row][32] between chunks.
 *
 * The least that a group of 32 costs are 96 dot products and 24 more operations of the same two units: 80 % of the roof. */
#include "kernels/cpu/avx512/few.h"
#include "kernels/cpu/avx512/turn.h"
#include "kernels/cpu/avx512/unit_iq.h"

enum { CHUNK = 2 * UNIT };

struct panel {
    int8_t *code;
    int32_t *start;
    float *scale, *min;
    float *total; /* [activation row][32] */
};

size_t avx512_panel_bytes(int64_t n, int32_t rows)
{
    (void)n;
    return PANEL_ROWS * (CHUNK + 3 * CHUNK / 16 * 4 + (size_t)(rows + PACK_ROWS) * 4) + 64;
}

static struct panel place_panel(void *scratch)
{
    struct panel p;
    p.code = (int8_t *)(((uintptr_t)scratch + 63) / 64 * 64);
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

/* A packed tile's numbers at the panel's first weight. */
struct tile {
    const uint8_t *low, *high; /* bytes of activations + 128 */
    const uint8_t *wide;       /* [32-block]: 1 where some row has 16 bits */
    const float *d, *s;
};

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

/* `rows` activation rows times `groups` groups of the panel, onto what `onto` holds of earlier chunks (NULL: nothing), to
 * rows of `columns` values */
INLINE void run_tile(int rows, int group, bool has_min, struct panel panel, int64_t groups, struct tile x, const float *onto, float *const *to,
                     __mmask32 columns)
{
    __m512 total[PACK_ROWS][2];
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        total[r][0] = onto ? _mm512_load_ps(onto + r * PANEL_ROWS) : _mm512_setzero_ps();
        total[r][1] = onto ? _mm512_load_ps(onto + r * PANEL_ROWS + 16) : _mm512_setzero_ps();
    }
    for (int64_t g = 0; g < groups; g++) {
        const int8_t *code = panel.code + g * group * PANEL_ROWS;
        __m512i sum[PACK_ROWS][2];
        __m512i start0 = _mm512_load_si512(panel.start + g * PANEL_ROWS), start1 = _mm512_load_si512(panel.start + g * PANEL_ROWS + 16);
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++)
            sum[r][0] = start0, sum[r][1] = start1;
        const uint8_t *low = x.low + g * group * PACK_ROWS, *byte = x.wide[g * group / 32] ? x.high + g * group * PACK_ROWS : low;
        for (;; byte = low) {
            __asm__ volatile("" : "+r"(code)); /* else the compiler keeps the weights for both rounds and spills the totals */
            dots(rows, group, code, byte, sum);
            if (byte == low)
                break;
#pragma GCC unroll 6
            for (int r = 0; r < rows; r++) {
                sum[r][0] = _mm512_add_epi32(_mm512_slli_epi32(sum[r][0], 8), start0);
                sum[r][1] = _mm512_add_epi32(_mm512_slli_epi32(sum[r][1], 8), start1);
            }
        }
        __m512 scale0 = _mm512_load_ps(panel.scale + g * PANEL_ROWS), scale1 = _mm512_load_ps(panel.scale + g * PANEL_ROWS + 16);
        const float *d = x.d + g * group / 32 * PACK_ROWS;
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            __m512 dr = _mm512_set1_ps(d[r]);
            total[r][0] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[r][0]), _mm512_mul_ps(scale0, dr), total[r][0]);
            total[r][1] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[r][1]), _mm512_mul_ps(scale1, dr), total[r][1]);
        }
        if (has_min) {
            __m512 min0 = _mm512_load_ps(panel.min + g * PANEL_ROWS), min1 = _mm512_load_ps(panel.min + g * PANEL_ROWS + 16);
#pragma GCC unroll 6
            for (int r = 0; r < rows; r++) {
                __m512 sr = _mm512_set1_ps(x.s[g * PACK_ROWS + r]);
                total[r][0] = _mm512_fmadd_ps(min0, sr, total[r][0]);
                total[r][1] = _mm512_fmadd_ps(min1, sr, total[r][1]);
            }
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        _mm512_mask_storeu_ps(to[r], (__mmask16)columns, total[r][0]);
        _mm512_mask_storeu_ps(to[r] + 16, (__mmask16)(columns >> 16), total[r][1]);
    }
}

/* Weights [at, at + count) of 32 rows (count < CHUNK only at the row's end) to the panel; groups that it holds. Rows behind
 * `end` repeat the last one; what comes of them is not used. */
INLINE int64_t unpack(decode_function *decode, int unit_bytes, int offset, int group, bool has_min, const struct weight *w, int64_t first, int64_t end,
                      int64_t at, struct panel panel)
{
    int64_t count = w->in - at < CHUNK ? w->in - at : CHUNK, k = 0;
    for (int column = 0; column < PANEL_ROWS; column += 16) {
        const unsigned char *p[16];
        for (int r = 0; r < 16; r++)
            p[r] = w->data + (first + column + r < end ? first + column + r : end - 1) * w->row_bytes + at / UNIT * unit_bytes;
        for (k = 0; k + UNIT <= count; k += UNIT) {
            unpack_16(decode, offset, group, has_min, p, 8, panel, k, column);
            for (int r = 0; r < 16; r++)
                p[r] += unit_bytes;
        }
        if (k < count)
            unpack_16(decode, offset, group, has_min, p, (int)(count - k) / 32, panel, k, column);
    }
    return (count + group - 1) / group;
}

/* While tile `tile` of `tiles` runs: its share of the next chunk, which lies in as many streams as the panel has rows. */
INLINE void prefetch_next(int unit_bytes, const struct weight *w, int64_t first, int64_t at, int32_t tile, int32_t tiles)
{
    int64_t next = at + CHUNK;
    if (next >= w->in)
        next = 0, first += PANEL_ROWS;
    int64_t bytes = w->in - next < CHUNK ? (w->in - next) * unit_bytes / UNIT : CHUNK / UNIT * unit_bytes;
    for (int64_t r = first + (int64_t)PANEL_ROWS * tile / tiles, last = first + (int64_t)PANEL_ROWS * (tile + 1) / tiles; r < last && r < w->out; r++)
        for (int64_t i = 0; i < bytes; i += 64)
            _mm_prefetch((const char *)w->data + r * w->row_bytes + next / UNIT * unit_bytes + i, _MM_HINT_T1);
}

/* Where a tile's rows go: to y when the last chunk is done; rows that only fill the tile stay behind. */
INLINE void targets(const struct input *in, int32_t row, bool last, float *y, int64_t y_stride, float *total, float *to[PACK_ROWS])
{
    for (int r = 0; r < PACK_ROWS; r++)
        to[r] = last && row + r < in->rows ? y + in->row[row + r] * y_stride : total + r * PANEL_ROWS;
}

INLINE void many_units(decode_function *decode, int unit_bytes, int offset, int group, bool has_min, const struct weight *w, int64_t first, int64_t end,
                       const struct input *in, float *y, int64_t y_stride, void *scratch)
{
    struct panel panel = place_panel(scratch);
    int32_t tiles = (in->rows + PACK_ROWS - 1) / PACK_ROWS;
    __mmask32 all = ~(__mmask32)0, columns = all >> (PANEL_ROWS - (end - first));
    for (int64_t at = 0; at < w->in; at += CHUNK) {
        int64_t groups = unpack(decode, unit_bytes, offset, group, has_min, w, first, end, at, panel);
        bool last = at + CHUNK >= w->in;
        for (int32_t tile = 0; tile < tiles; tile++) {
            prefetch_next(unit_bytes, w, first, at, tile, tiles);
            int64_t values = tile * in->padded + at;
            struct tile x = {in->p8 + values * PACK_ROWS, in->p8_high + values * PACK_ROWS, in->wide + values / 32, in->pd + values / 32 * PACK_ROWS,
                             group == 32 ? in->ps + values / 32 * PACK_ROWS : in->ps16 + values / 16 * PACK_ROWS};
            float *total = panel.total + tile * PACK_ROWS * PANEL_ROWS, *to[PACK_ROWS];
            targets(in, tile * PACK_ROWS, last, y + first, y_stride, total, to);
            int rows = in->rows - tile * PACK_ROWS;
            if (rows <= 2)
                run_tile(2, group, has_min, panel, groups, x, at ? total : NULL, to, last ? columns : all);
            else if (rows <= 4)
                run_tile(4, group, has_min, panel, groups, x, at ? total : NULL, to, last ? columns : all);
            else
                run_tile(6, group, has_min, panel, groups, x, at ? total : NULL, to, last ? columns : all);
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
