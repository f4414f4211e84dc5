/* BF16 weights times many activation rows rounded to bfloat16: panels of 32 weight rows, dot products of pairs.
 *
 * Panel [K / 2][32 rows][2]: one register holds a pair of 16 rows, as the dot instruction wants its operand. Products are
 * exact and summed in float32, so the rounding of the activations is the only error (about 2^-9 of each). */
#include "kernels/cpu/avx512/few.h"
#include "kernels/cpu/avx512/unit.h"
#include "kernels/cpu/wide/peak.h"

enum { CHUNK = 256 }; /* 16 KB of panel, which stay in the first-level cache */

size_t avx512_bf16_panel_bytes(int64_t n, int32_t rows)
{
    (void)n;
    return (size_t)PANEL_ROWS * (CHUNK * 2 + (size_t)(rows + 2 * PACK_ROWS) * 4) + 64;
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
        __m512i a = four_rows(p, 2 * k, count - k), b = four_rows(p + 1, 2 * k, count - k), c = four_rows(p + 2, 2 * k, count - k),
                d = four_rows(p + 3, 2 * k, count - k);
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
INLINE void run_tiles(int rows, const uint16_t *panel, int64_t count, const uint16_t *x, int64_t next, const float *onto, float *const *to,
                      __mmask32 columns)
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

void avx512_many_bf16(const struct weight *w, int64_t first, int64_t end, const struct input *in, float *y, int64_t y_stride, void *scratch)
{
    uint16_t *panel = (uint16_t *)(((uintptr_t)scratch + 63) / 64 * 64);
    float *totals = (float *)(void *)(panel + PANEL_ROWS * CHUNK);
    __mmask32 all = ~(__mmask32)0, columns = all >> (PANEL_ROWS - (end - first));
    int64_t next = in->padded * PACK_ROWS;
    for (int64_t at = 0; at < w->in; at += CHUNK) {
        int64_t count = w->in - at < CHUNK ? w->in - at : CHUNK;
        for (int column = 0; column < PANEL_ROWS; column += 16) {
            const unsigned char *p[16];
            for (int r = 0; r < 16; r++) /* rows behind the end repeat the last one; their results are not used */
                p[r] = w->data + (first + column + r < end ? first + column + r : end - 1) * w->row_bytes + 2 * at;
            unpack_16(p, count, panel + 2 * column);
        }
        bool last = at + CHUNK >= w->in;
        for (int32_t row = 0; row < in->rows; row += 2 * PACK_ROWS) {
            const uint16_t *x = in->p16 + (row / PACK_ROWS * in->padded + at) * PACK_ROWS;
            float *total = totals + row * PANEL_ROWS, *to[2 * PACK_ROWS];
            for (int r = 0; r < 2 * PACK_ROWS; r++)
                to[r] = last && row + r < in->rows ? y + in->row[row + r] * y_stride + first : total + r * PANEL_ROWS;
            int left = in->rows - row;
            if (left > PACK_ROWS)
                run_tiles(2 * PACK_ROWS, panel, count, x, next, at ? total : NULL, to, last ? columns : all);
            else if (left > 2)
                run_tiles(PACK_ROWS, panel, count, x, next, at ? total : NULL, to, last ? columns : all);
            else
                run_tiles(2, panel, count, x, next, at ? total : NULL, to, last ? columns : all);
        }
    }
}

double avx512_peak_bf16(int64_t rounds)
{
    __m512bh x = (__m512bh)_mm512_set1_epi16(0x3F00), y = (__m512bh)_mm512_set1_epi16(0x3E80);
    PEAK_LOOP(__m512, "+v", sum[i] = _mm512_dpbf16_ps(sum[i], x, y))
    return 64.0 * PEAK_CHAINS * (double)rounds;
}
