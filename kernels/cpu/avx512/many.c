/* Quantised weights times many int8 activation rows: 32 weight rows are unpacked to a panel in the second-level cache,
 * then tiles of PACK_ROWS activation rows run over it.
 *
 * Panel, K padded to whole units, GROUP weights sharing a scale:
 *     codes [K / 4][32 rows][4]     int8: one register holds 4 k of 16 rows, as the dot instruction wants its operand
 *     start [K / GROUP][32]         int32: -128 * sum of the group's codes, since activations come as q + 128
 *     scale, min [K / GROUP][32]    float32
 * A tile keeps 6 x 2 integer and 6 x 2 float registers: per group, 12 * GROUP / 4 dot products, then a conversion, a
 * product of weight and activation scale and an fma for each of the 12. */
#include "kernels/cpu/avx512/few.h"
#include "kernels/cpu/avx512/unit_iq.h"

struct panel {
    int8_t *code;
    int32_t *start;
    float *scale, *min;
};

size_t avx512_panel_bytes(int64_t n)
{
    size_t padded = (size_t)((n + UNIT - 1) / UNIT * UNIT);
    return PANEL_ROWS * (padded + 3 * padded / 16 * 4) + 256;
}

static struct panel place_panel(void *scratch, int64_t padded)
{
    struct panel p;
    p.code = (int8_t *)(((uintptr_t)scratch + 63) / 64 * 64);
    p.start = (int32_t *)(void *)(p.code + PANEL_ROWS * padded);
    p.scale = (float *)(p.start + PANEL_ROWS * padded / 16);
    p.min = p.scale + PANEL_ROWS * padded / 16;
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

/* 16 weight rows of one unit into the panel's columns [column, column + 16) */
INLINE void unpack_16(decode_function *decode, int offset, int group, bool has_min, const unsigned char *const p[16], int blocks, struct panel to,
                      int64_t at, int column)
{
    _Alignas(64) int8_t codes[16][UNIT];
    float scale[16][16], min[16][16];
    for (int r = 0; r < 16; r++) {
        struct unit u = decode(p[r], blocks);
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++)
            _mm512_store_si512(codes[r] + 64 * k, _mm512_sub_epi8(u.code[k], bytes(offset)));
        _mm512_storeu_ps(scale[r], u.scale);
        _mm512_storeu_ps(min[r], u.min);
    }
    turn_codes(codes[0], to.code + at * PANEL_ROWS + column * 4, to.start + at / group * PANEL_ROWS + column, group);
    for (int g = 0; g < UNIT / group; g++) {
        float *s = to.scale + (at / group + g) * PANEL_ROWS + column, *m = to.min + (at / group + g) * PANEL_ROWS + column;
        for (int r = 0; r < 16; r++)
            s[r] = scale[r][g * (group / 16)];
        for (int r = 0; has_min && r < 16; r++)
            m[r] = min[r][g * (group / 16)];
    }
}

/* `rows` activation rows (of a packed tile) times the panel: out[row][32] */
INLINE void run_tile(int rows, int group, bool has_min, struct panel panel, int64_t padded, const uint8_t *x, const float *d, const float *s,
                     float out[PACK_ROWS][PANEL_ROWS])
{
    __m512 total[PACK_ROWS][2];
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
        total[r][0] = total[r][1] = _mm512_setzero_ps();
    const int8_t *code = panel.code;
    for (int64_t g = 0; g < padded / group; g++) {
        __m512i sum[PACK_ROWS][2];
        __m512i start0 = _mm512_load_si512(panel.start + g * PANEL_ROWS), start1 = _mm512_load_si512(panel.start + g * PANEL_ROWS + 16);
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++)
            sum[r][0] = start0, sum[r][1] = start1;
#pragma GCC unroll 8
        for (int k = 0; k < group / 4; k++) {
            __m512i w0 = _mm512_load_si512(code), w1 = _mm512_load_si512(code + 64);
#pragma GCC unroll 6
            for (int r = 0; r < rows; r++) {
                int32_t four;
                memcpy(&four, x + 4 * r, 4);
                __m512i v = _mm512_set1_epi32(four);
                sum[r][0] = _mm512_dpbusd_epi32(sum[r][0], v, w0);
                sum[r][1] = _mm512_dpbusd_epi32(sum[r][1], v, w1);
            }
            code += 128, x += 4 * PACK_ROWS;
        }
        __m512 scale0 = _mm512_load_ps(panel.scale + g * PANEL_ROWS), scale1 = _mm512_load_ps(panel.scale + g * PANEL_ROWS + 16);
        const float *dg = d + g * group / 32 * PACK_ROWS;
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            __m512 dr = _mm512_set1_ps(dg[r]);
            total[r][0] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[r][0]), _mm512_mul_ps(scale0, dr), total[r][0]);
            total[r][1] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[r][1]), _mm512_mul_ps(scale1, dr), total[r][1]);
        }
        if (has_min) {
            __m512 min0 = _mm512_load_ps(panel.min + g * PANEL_ROWS), min1 = _mm512_load_ps(panel.min + g * PANEL_ROWS + 16);
#pragma GCC unroll 6
            for (int r = 0; r < rows; r++) {
                __m512 sr = _mm512_set1_ps(s[g * PACK_ROWS + r]);
                total[r][0] = _mm512_fmadd_ps(min0, sr, total[r][0]);
                total[r][1] = _mm512_fmadd_ps(min1, sr, total[r][1]);
            }
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        _mm512_storeu_ps(out[r], total[r][0]);
        _mm512_storeu_ps(out[r] + 16, total[r][1]);
    }
}

INLINE void many_units(decode_function *decode, int unit_bytes, int offset, int group, bool has_min, const struct weight *w, int64_t first, int64_t end,
                       const struct input *in, float *y, int64_t y_stride, void *scratch)
{
    struct panel panel = place_panel(scratch, in->padded);
    for (int64_t from = first; from < end; from += PANEL_ROWS) {
        for (int column = 0; column < PANEL_ROWS; column += 16) {
            const unsigned char *p[16];
            for (int r = 0; r < 16; r++) /* rows behind the end repeat the last one; their results are not stored */
                p[r] = w->data + (from + column + r < end ? from + column + r : end - 1) * w->row_bytes;
            int64_t at = 0;
            for (; at + UNIT <= w->in; at += UNIT) {
                unpack_16(decode, offset, group, has_min, p, 8, panel, at, column);
                for (int r = 0; r < 16; r++)
                    p[r] += unit_bytes;
            }
            if (at < w->in)
                unpack_16(decode, offset, group, has_min, p, (int)(w->in - at) / 32, panel, at, column);
        }
        for (int32_t tile = 0; tile * PACK_ROWS < in->rows; tile++) {
            float out[PACK_ROWS][PANEL_ROWS];
            const uint8_t *x = in->p8 + (int64_t)tile * in->padded * PACK_ROWS;
            const float *d = in->pd + (int64_t)tile * (in->padded / 32) * PACK_ROWS;
            const float *s = group == 32 ? in->ps + (int64_t)tile * (in->padded / 32) * PACK_ROWS : in->ps16 + (int64_t)tile * (in->padded / 16) * PACK_ROWS;
            int rows = in->rows - tile * PACK_ROWS < PACK_ROWS ? in->rows - tile * PACK_ROWS : PACK_ROWS;
            if (rows <= 2)
                run_tile(2, group, has_min, panel, in->padded, x, d, s, out);
            else if (rows <= 4)
                run_tile(4, group, has_min, panel, in->padded, x, d, s, out);
            else
                run_tile(6, group, has_min, panel, in->padded, x, d, s, out);
            int64_t columns = end - from < PANEL_ROWS ? end - from : PANEL_ROWS;
            for (int r = 0; r < rows; r++)
                memcpy(y + in->row[tile * PACK_ROWS + r] * y_stride + from, out[r], (size_t)columns * sizeof(float));
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
