/* BF16 weights times many activation rows rounded to bfloat16: panels of 32 weight rows, dot products of pairs.
 *
 * Panel [K / 2][32 rows][2]: one register holds a pair of 16 rows, as the dot instruction wants its operand. Products are
 * exact and summed in float32, so the rounding of the activations is the only error (about 2^-9 of each). */
#include "kernels/cpu/avx512/few.h"
#include "kernels/cpu/avx512/unit.h"
#include "kernels/cpu/avx512/weave.h"
#include "kernels/cpu/wide/peak.h"

/* A chunk of a panel stays in the first-level cache, activations of TILES_AT_ONCE tiles in the second while all panels meet them.
 */
enum { CHUNK = PACKED16_CHUNK, PANELS = AVX512_PANEL_ROWS / PANEL_ROWS, TILES_AT_ONCE = 32 };

static int64_t total_floats(int32_t rows) { return (int64_t)PANEL_ROWS * (rows + 2 * PACK_ROWS); }

size_t avx512_bf16_panel_bytes(int64_t n, int32_t rows)
{
    (void)n;
    return PANELS * (PANEL_ROWS * CHUNK * sizeof(uint16_t) + (size_t)total_floats(rows) * sizeof(float)) + 64;
}

/* 16 bytes (4 pairs) of a row; zero behind its end */
INLINE __m128i row_part(const unsigned char *p, int64_t left)
{
    return left >= 8 ? load_128(p) : _mm_maskz_loadu_epi16((__mmask8)((1u << (left > 0 ? left : 0)) - 1), p);
}

INLINE __m512i four_rows(const unsigned char *const *p, int64_t at, int64_t left)
{
    __m512i v = _mm512_castsi128_si512(row_part(p[0] + at, left));
    v = _mm512_inserti32x4(v, row_part(p[4] + at, left), 1);
    v = _mm512_inserti32x4(v, row_part(p[8] + at, left), 2);
    return _mm512_inserti32x4(v, row_part(p[12] + at, left), 3);
}

/* 16 weight rows, values [0, count) of p, into columns of the panel */
static void unpack_16(const unsigned char *const p[16], int64_t count, uint16_t *panel)
{
    for (int64_t k = 0; k < count; k += 8) {
        __m512i a = four_rows(p, 2 * k, count - k), b = four_rows(p + 1, 2 * k, count - k),
                c = four_rows(p + 2, 2 * k, count - k), d = four_rows(p + 3, 2 * k, count - k);
        __m512i ab = _mm512_unpacklo_epi32(a, b), AB = _mm512_unpackhi_epi32(a, b);
        __m512i cd = _mm512_unpacklo_epi32(c, d), CD = _mm512_unpackhi_epi32(c, d);
        uint16_t *to = panel + k * PANEL_ROWS;
        _mm512_store_si512(to, _mm512_unpacklo_epi64(ab, cd));
        _mm512_store_si512(to + 2 * PANEL_ROWS, _mm512_unpackhi_epi64(ab, cd));
        _mm512_store_si512(to + 4 * PANEL_ROWS, _mm512_unpacklo_epi64(AB, CD));
        _mm512_store_si512(to + 6 * PANEL_ROWS, _mm512_unpackhi_epi64(AB, CD));
    }
}

/* `rows` activation rows of packed tiles, the second tile `next` values behind the first, times the panel, onto what `onto`
 * holds of earlier chunks (NULL: nothing). Two tiles at once hide the latency of the instruction. */
INLINE void run_tiles(int rows, const uint16_t *panel, int64_t count, const uint16_t *x, int64_t next, const float *onto,
                      float *const *to, __mmask32 columns)
{
    __m512 sum[2 * PACK_ROWS][2];
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
        sum[r][0] = onto ? _mm512_load_ps(onto + r * PANEL_ROWS) : _mm512_setzero_ps();
        sum[r][1] = onto ? _mm512_load_ps(onto + r * PANEL_ROWS + 16) : _mm512_setzero_ps();
    }
    for (int64_t k = 0; k < count; k += 2, panel += 2 * PANEL_ROWS, x += 2 * PACK_ROWS) {
        __m512bh w0 = (__m512bh)_mm512_load_si512(panel), w1 = (__m512bh)_mm512_load_si512(panel + PANEL_ROWS);
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++) {
            int32_t pair;
            memcpy(&pair, r < PACK_ROWS ? x + 2 * r : x + next + 2 * (r - PACK_ROWS), 4);
            __m512bh v = (__m512bh)_mm512_set1_epi32(pair);
            sum[r][0] = _mm512_dpbf16_ps(sum[r][0], w0, v);
            sum[r][1] = _mm512_dpbf16_ps(sum[r][1], w1, v);
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
        _mm512_mask_storeu_ps(to[r], (__mmask16)columns, sum[r][0]);
        _mm512_mask_storeu_ps(to[r] + 16, (__mmask16)(columns >> 16), sum[r][1]);
    }
}

/* Weights [at, at + count) of 32 rows; rows behind `end` repeat the last one, what comes of them is not used. */
static void unpack(const struct weight *w, int64_t first, int64_t end, int64_t at, int64_t count, uint16_t *panel)
{
    for (int column = 0; column < PANEL_ROWS; column += 16) {
        const unsigned char *p[16];
        for (int r = 0; r < 16; r++)
            p[r] = w->data + (first + column + r < end ? first + column + r : end - 1) * w->row_bytes + 2 * at;
        unpack_16(p, count, panel + 2 * column);
    }
}

/* While a pair of tiles runs: its share of the next chunk of a panel's rows. */
INLINE void prefetch_next(const struct weight *w, int64_t first, int64_t at, int32_t tile, int32_t step)
{
    int64_t next = at + CHUNK;
    if (next >= w->in)
        next = 0, first += AVX512_PANEL_ROWS;
    int64_t bytes = 2 * (w->in - next < CHUNK ? w->in - next : CHUNK);
    for (int32_t r = tile / 2 * step; r < (tile / 2 + 1) * step && r < PANEL_ROWS && first + r < w->out; r++)
        for (int64_t i = 0; i < bytes; i += 64)
            _mm_prefetch((const char *)w->data + (first + r) * w->row_bytes + 2 * next + i, _MM_HINT_T1);
}

void avx512_many_bf16(const struct weight *w, int64_t first, int64_t end, const struct input *in, float *y, int64_t y_stride,
                      void *scratch)
{
    uint16_t *panel[PANELS];
    float *totals[PANELS];
    int panels = (int)((end - first + PANEL_ROWS - 1) / PANEL_ROWS);
    int32_t tiles = (in->rows + PACK_ROWS - 1) / PACK_ROWS, step = (2 * PANEL_ROWS + tiles - 1) / tiles;
    panel[0] = (uint16_t *)(((uintptr_t)scratch + 63) / 64 * 64);
    totals[0] = (float *)(void *)(panel[0] + PANELS * PANEL_ROWS * CHUNK);
    for (int i = 1; i < panels; i++)
        panel[i] = panel[0] + i * PANEL_ROWS * CHUNK, totals[i] = totals[0] + i * total_floats(in->rows);
    for (int64_t at = 0; at < w->in; at += CHUNK) {
        int64_t count = w->in - at < CHUNK ? w->in - at : CHUNK,
                next = (in->padded - at < CHUNK ? in->padded - at : CHUNK) * PACK_ROWS;
        bool last = at + CHUNK >= w->in;
        for (int i = 0; i < panels; i++)
            unpack(w, first + i * PANEL_ROWS, end, at, count, panel[i]);
        for (int32_t from = 0; from < tiles; from += TILES_AT_ONCE)
            for (int i = 0; i < panels; i++)
                for (int32_t tile = from; tile < tiles && tile < from + TILES_AT_ONCE; tile += 2) {
                    int64_t column = first + i * PANEL_ROWS;
                    prefetch_next(w, column, at, tile, step);
                    const uint16_t *x = in->p16 + chunk_place(in, CHUNK, tile, at) * PACK_ROWS;
                    int32_t row = tile * PACK_ROWS;
                    float *total = totals[i] + row * PANEL_ROWS, *to[2 * PACK_ROWS];
                    for (int r = 0; r < 2 * PACK_ROWS; r++)
                        to[r] = last && row + r < in->rows ? y + in->row[row + r] * y_stride + column : total + r * PANEL_ROWS;
                    __mmask32 columns = ~(__mmask32)0 >> (last && end - column < PANEL_ROWS ? PANEL_ROWS - (end - column) : 0);
                    int left = in->rows - row;
                    if (left > PACK_ROWS)
                        run_tiles(2 * PACK_ROWS, panel[i], count, x, next, at ? total : NULL, to, columns);
                    else if (left > 2)
                        run_tiles(PACK_ROWS, panel[i], count, x, next, at ? total : NULL, to, columns);
                    else
                        run_tiles(2, panel[i], count, x, next, at ? total : NULL, to, columns);
                }
    }
}

void avx512_pack_bf16(struct input *in, int32_t tile)
{
    enum { AHEAD = 256 };
    struct rows rows = rows_of(in, tile);
    for (int64_t at = 0; at < in->padded; at += 32) {
        const bool whole = at < rows.whole * UNIT;
        uint16_t *to = in->p16 + chunk_place(in, CHUNK, tile, at) * PACK_ROWS;
        if (at + AHEAD < in->padded)
            claim(in->p16 + chunk_place(in, CHUNK, tile, at + AHEAD) * PACK_ROWS, 32 * PACK_ROWS * sizeof *to);
        __m512i v[PACK_ROWS];
#pragma GCC unroll 6
        for (int r = 0; r < PACK_ROWS; r++)
            v[r] = (__m512i)_mm512_cvtne2ps_pbh(load_16(&rows, whole, r, at + 16), load_16(&rows, whole, r, at));
        weave_rows(v, to);
    }
}

double avx512_peak_bf16(int64_t rounds)
{
    __m512bh x = (__m512bh)_mm512_set1_epi16(0x3F00), y = (__m512bh)_mm512_set1_epi16(0x3E80);
    PEAK_LOOP(__m512, "+v", sum[i] = _mm512_dpbf16_ps(sum[i], x, y))
    return 64.0 * PEAK_CHAINS * (double)rounds;
}
