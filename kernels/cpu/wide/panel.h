/* Quantised weights times many activation rows, for AVX2 and NEON.
 *
 * COLUMNS weight rows are unpacked, CHUNK weights at a time, to a panel in the first-level cache; tiles of PACK_ROWS activation
 * rows run over it:
 *     codes [CHUNK / DEPTH][COLUMNS][DEPTH]     DEPTH k of a column side by side, as one multiplication takes them
 *     scale, min [CHUNK / GROUP][COLUMNS]       each as often as a column has lanes in a vector of sums
 * and a vector of sums holds LANES columns of one activation row:
 *
 *                     codes   activations            products in a multiplication   for a vector of 8 or 4 sums
 *     AVX2            int16   16 bits, FORM_PAIRS    2 k x 8 columns                vpmaddwd, vpaddd
 *     NEON            int16   16 bits, FORM_PAIRS    1 k x 4 columns                smlal, activation from a lane
 *     NEON, dotprod   int8    FORM_PACKED8           4 k x 4 columns                sdot, activations from a lane
 *     NEON, i8mm      int8    FORM_PACKED8           8 k x 2 columns x 2 rows       smmla; see below
 *
 * Without dot instructions products of bytes cost nearly as much as those of 16 bits (AVX2: one more to widen pairs, one to
 * move signs; NEON: smull, smlal, sadalp for 16 products instead of four smlal), so activations may as well keep 16 bits, and
 * nothing saturates. With them 16 bits everywhere would cost twice as much: there only blocks with outliers have them, whose
 * upper bytes are multiplied first; those sums are shifted and the lower bytes go on top.
 *
 * smmla's sums are 2 x 2: columns c and c + 1 for rows r and r + 1,
 *     [c, r]  [c, r + 1]  [c + 1, r]  [c + 1, r + 1]
 * so scales of columns are kept twice and those of activation rows are read in pairs; totals are put in order at the end. */
#ifndef KERNELS_CPU_WIDE_PANEL_H
#define KERNELS_CPU_WIDE_PANEL_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/wide/unpack.h"

#if defined(PANEL_BYTES)
typedef int8_t code_t;
enum { DEPTH = PACKED8_DEPTH, SUM_ROWS = 1, MANY_FORM = FORM_PACKED8, SPLIT = 1 };
#elif defined(__AVX2__)
typedef int16_t code_t;
enum { DEPTH = 2, SUM_ROWS = 1, MANY_FORM = FORM_PAIRS, SPLIT = 0 };
#elif defined(__ARM_FEATURE_MATMUL_INT8)
typedef int8_t code_t;
enum { DEPTH = PACKED8_DEPTH, SUM_ROWS = 2, MANY_FORM = FORM_PACKED8, SPLIT = 1 };
#elif defined(__ARM_FEATURE_DOTPROD)
typedef int8_t code_t;
enum { DEPTH = PACKED8_DEPTH, SUM_ROWS = 1, MANY_FORM = FORM_PACKED8, SPLIT = 1 };
#else
typedef int16_t code_t;
enum { DEPTH = 1, SUM_ROWS = 1, MANY_FORM = FORM_PAIRS, SPLIT = 0 };
#endif

/* SPLIT: 16 bits are two bytes, apart. VECTORS of sums for every SUM_ROWS activation rows */
enum { CHUNK = UNIT, COLUMNS = 16, VECTORS = COLUMNS * SUM_ROWS / LANES };

struct panel {
    code_t *code;
    float *scale, *min;
    float *total;   /* [tile][PACK_ROWS / SUM_ROWS][VECTORS][LANES] */
    int8_t *rows;   /* [8][CHUNK]: codes as unpacked */
    float *groups;  /* [2][CHUNK / 16]: scales and minimums of one row */
};

static size_t panel_scratch(int32_t rows)
{
    return COLUMNS * CHUNK * sizeof(code_t) + 2 * COLUMNS * SUM_ROWS * (CHUNK / 16) * 4 + 8 * CHUNK + 2 * (CHUNK / 16) * 4 +
           (size_t)(rows + PACK_ROWS) * COLUMNS * 4 + 64;
}

INLINE struct panel place_panel(void *scratch)
{
    struct panel p;
    p.code = (code_t *)(((uintptr_t)scratch + 63) / 64 * 64);
    p.scale = (float *)(void *)(p.code + COLUMNS * CHUNK);
    p.min = p.scale + COLUMNS * SUM_ROWS * (CHUNK / 16);
    p.rows = (int8_t *)(p.min + COLUMNS * SUM_ROWS * (CHUNK / 16));
    p.groups = (float *)(void *)(p.rows + 8 * CHUNK);
    p.total = p.groups + 2 * (CHUNK / 16);
    return p;
}

/* ---- what differs: turning unpacked rows, multiplying ------------------------------------------------------------------- */

/* turn: 8 rows of 16 codes, `CHUNK` apart -> [16 / DEPTH][COLUMNS][DEPTH] (these rows' half of it)
 * add_group: sums of `rows` activation rows += codes . x over `count` k; x as it was packed; most: the largest |code| */
#if defined(PANEL_BYTES)
#include "kernels/cpu/avx2/bytes.h"
#elif defined(__AVX2__)
INLINE void turn(const int8_t *rows, code_t *to)
{
    __m256i a[8], b[8];
#pragma GCC unroll 8
    for (int r = 0; r < 8; r++)
        a[r] = _mm256_cvtepi8_epi16(_mm_load_si128((const __m128i *)(const void *)(rows + r * CHUNK)));
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        b[2 * i] = _mm256_unpacklo_epi32(a[2 * i], a[2 * i + 1]);
        b[2 * i + 1] = _mm256_unpackhi_epi32(a[2 * i], a[2 * i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) { /* four rows: a[4 i + c] has pair c of each half */
        a[4 * i] = _mm256_unpacklo_epi64(b[4 * i], b[4 * i + 2]);
        a[4 * i + 1] = _mm256_unpackhi_epi64(b[4 * i], b[4 * i + 2]);
        a[4 * i + 2] = _mm256_unpacklo_epi64(b[4 * i + 1], b[4 * i + 3]);
        a[4 * i + 3] = _mm256_unpackhi_epi64(b[4 * i + 1], b[4 * i + 3]);
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        _mm256_store_si256((__m256i *)(void *)(to + c * 2 * COLUMNS), _mm256_permute2x128_si256(a[c], a[4 + c], 0x20));
        _mm256_store_si256((__m256i *)(void *)(to + (c + 4) * 2 * COLUMNS), _mm256_permute2x128_si256(a[c], a[4 + c], 0x31));
    }
}

/* sum += w . v. As two intrinsics compilers multiply for all rows first, run out of registers, and half the time goes into
 * moving sums. */
INLINE void add_pairs(vi *sum, __m256i w, __m256i v)
{
    __m256i product;
    __asm__("vpmaddwd %2, %3, %1\n\tvpaddd %1, %0, %0" : "+x"(*sum), "=&x"(product) : "x"(v), "x"(w));
}

INLINE void add_group(vi sum[][VECTORS], int rows, const code_t *code, const code_t *x, int count, int most)
{
    (void)most;
    for (int k = 0; k < count / DEPTH; k++, code += DEPTH * COLUMNS, x += DEPTH * PACK_ROWS) {
        __m256i w0 = _mm256_load_si256((const __m256i *)(const void *)code), w1 = _mm256_load_si256((const __m256i *)(const void *)(code + COLUMNS));
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            int32_t pair;
            memcpy(&pair, x + 2 * r, 4);
            __m256i v = _mm256_set1_epi32(pair);
            add_pairs(&sum[r][0], w0, v);
            add_pairs(&sum[r][1], w1, v);
        }
    }
}
#else
#include "kernels/cpu/neon/panel.h"
#endif

/* Scales of the SUM_ROWS activation rows at d, each where its sums are. */
INLINE vf spread(const float *d)
{
    if (SUM_ROWS == 1)
        return v_set(*d);
    double both;
    memcpy(&both, d, sizeof both);
    typedef double pairs __attribute__((vector_size(LANES * 4)));
    return (vf)(both - (pairs){0});
}

/* ---- the same everywhere ------------------------------------------------------------------------------------------------ */

/* Weights [at, at + count) of 16 rows. Rows behind `end` repeat the last one; what comes of them is not used. */
INLINE void unpack_panel(unpack_function *unpack, int unit_bytes, int group, bool has_min, int bias, const struct weight *w, int64_t first, int64_t end, int64_t at,
                         int64_t count, struct panel p)
{
    for (int column = 0; column < COLUMNS; column += 8) {
        for (int r = 0; r < 8; r++) {
            int64_t row = first + column + r < end ? first + column + r : end - 1;
            unpack(w->data + row * w->row_bytes + at / UNIT * unit_bytes, (int)count, p.rows + r * CHUNK, p.groups, p.groups + CHUNK / 16);
            for (int64_t g = 0; g < count / group; g++)
                for (int i = 0; i < SUM_ROWS; i++) {
                    p.scale[(g * COLUMNS + column + r) * SUM_ROWS + i] = p.groups[g];
                    if (has_min || bias)
                        p.min[(g * COLUMNS + column + r) * SUM_ROWS + i] = (has_min ? p.groups[CHUNK / 16 + g] : 0) - (float)bias * p.groups[g];
                }
            for (int64_t i = 0; bias && i < count; i++)
                p.rows[r * CHUNK + i] = (int8_t)(p.rows[r * CHUNK + i] + bias);
        }
        for (int64_t k = 0; k < count; k += 16)
            turn(p.rows + k, p.code + k * COLUMNS + DEPTH * column);
    }
}

/* A packed tile's numbers at the panel's first weight. high, wide: NULL unless SPLIT. */
struct tile {
    const code_t *low, *high;
    const uint8_t *wide;
    const float *d, *s;
};

/* `rows` activation rows times `groups` groups of the panel, onto `total` where there were chunks before */
INLINE void run_tile(int rows, int group, bool has_min, int most, struct panel p, int64_t groups, struct tile x, bool onto, float *total)
{
    if (!onto)
        memset(total, 0, (size_t)rows * COLUMNS * sizeof *total);
    for (int64_t g = 0; g < groups; g++) {
        vi sum[PACK_ROWS / SUM_ROWS][VECTORS];
#pragma GCC unroll 6
        for (int r = 0; r < rows / SUM_ROWS; r++)
#pragma GCC unroll 8
            for (int v = 0; v < VECTORS; v++)
                sum[r][v] = (vi){0};
        const code_t *code = p.code + g * group * COLUMNS;
        if (SPLIT && x.wide[g * group / 32]) {
            add_group(sum, rows, code, x.high + g * group * PACK_ROWS, group, most);
#pragma GCC unroll 6
            for (int r = 0; r < rows / SUM_ROWS; r++)
#pragma GCC unroll 8
                for (int v = 0; v < VECTORS; v++)
                    sum[r][v] <<= 8;
        }
        add_group(sum, rows, code, x.low + g * group * PACK_ROWS, group, most);
        const float *d = x.d + g * group / 32 * PACK_ROWS, *s = x.s + g * PACK_ROWS;
#pragma GCC unroll 6
        for (int r = 0; r < rows / SUM_ROWS; r++) {
            vf dr = spread(d + r * SUM_ROWS), sr = has_min ? spread(s + r * SUM_ROWS) : v_zero();
#pragma GCC unroll 8
            for (int v = 0; v < VECTORS; v++) {
                float *to = total + (r * VECTORS + v) * LANES;
                vf factor = v_load(p.scale + (g * VECTORS + v) * LANES) * dr;
                vf t = v_fma(__builtin_convertvector(sum[r][v], vf), factor, v_load(to));
                if (has_min)
                    t = v_fma(v_load(p.min + (g * VECTORS + v) * LANES), sr, t);
                v_store(to, t);
            }
        }
    }
}

/* Columns of one activation row; total: of its tile. */
INLINE void take_row(const float *total, int row, size_t columns, float *y)
{
    const float *from = total + row / SUM_ROWS * SUM_ROWS * COLUMNS + row % SUM_ROWS;
    if (SUM_ROWS == 1)
        memcpy(y, from, columns * sizeof *y);
    else
        for (size_t i = 0; i < columns; i++)
            y[i] = from[SUM_ROWS * i];
}

INLINE struct tile tile_at(const struct input *in, int32_t tile, int64_t at, int group)
{
    int64_t values = tile * in->padded + at;
    struct tile x = {.d = in->pd + values / 32 * PACK_ROWS, .s = group == 32 ? in->ps + values / 32 * PACK_ROWS : in->ps16 + values / 16 * PACK_ROWS};
    if (SPLIT) {
        x.low = (const code_t *)(const void *)(in->p8 + values * PACK_ROWS);
        x.high = (const code_t *)(const void *)(in->p8_high + values * PACK_ROWS);
        x.wide = in->wide + values / 32;
    } else {
        x.low = (const code_t *)(const void *)(in->pairs + values * PACK_ROWS);
    }
    return x;
}

/* Codes are used as code + bias, none larger than most. */
INLINE void many_biased(unpack_function *unpack, int unit_bytes, int group, bool has_min, int bias, int most, const struct weight *w, int64_t first,
                        int64_t end, const struct input *in, float *y, int64_t y_stride, void *scratch)
{
    struct panel p = place_panel(scratch);
    const bool min = has_min || bias;
    for (; first < end; first += COLUMNS) {
        for (int64_t at = 0; at < w->in; at += CHUNK) {
            int64_t count = w->in - at < CHUNK ? w->in - at : CHUNK;
            unpack_panel(unpack, unit_bytes, group, has_min, bias, w, first, end, at, count, p);
            for (int32_t tile = 0; tile * PACK_ROWS < in->rows; tile++) {
                struct tile x = tile_at(in, tile, at, group);
                float *total = p.total + tile * PACK_ROWS * COLUMNS;
                int rows = in->rows - tile * PACK_ROWS;
                if (rows <= 2)
                    run_tile(2, group, min, most, p, count / group, x, at, total);
                else if (rows <= 4)
                    run_tile(4, group, min, most, p, count / group, x, at, total);
                else
                    run_tile(6, group, min, most, p, count / group, x, at, total);
            }
        }
        size_t columns = (size_t)(end - first < COLUMNS ? end - first : COLUMNS);
        for (int32_t r = 0; r < in->rows; r++)
            take_row(p.total + r / PACK_ROWS * PACK_ROWS * COLUMNS, r % PACK_ROWS, columns, y + in->row[r] * y_stride + first);
    }
}

INLINE void many_codes(unpack_function *unpack, int unit_bytes, int group, bool has_min, const struct weight *w, int64_t first, int64_t end,
                       const struct input *in, float *y, int64_t y_stride, void *scratch)
{
    many_biased(unpack, unit_bytes, group, has_min, 0, 128, w, first, end, in, y, y_stride, scratch);
}

#endif
