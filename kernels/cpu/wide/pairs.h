/* Quantised weights times many activation rows, for AVX2: products of int16 pairs.
 *
 * 16 weight rows are unpacked, CHUNK weights at a time, to int16 in the first-level cache; tiles of PACK_ROWS activation
 * rows (FORM_PAIRS, 16 bits) run over them:
 *     codes [CHUNK / 2][16 rows][2]     two registers hold two k of 8 rows each
 *     scale, min [CHUNK / GROUP][16]
 * Products of int8 cost as many instructions here: bytes need one more to widen their pairs and, where weights have 8 bits,
 * one to move the sign; so activations may as well keep 16 bits, and nothing saturates. */
#ifndef KERNELS_CPU_WIDE_PAIRS_H
#define KERNELS_CPU_WIDE_PAIRS_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/wide/unpack.h"

enum { CHUNK = UNIT, COLUMNS = 16 };

struct panel {
    int16_t *code;
    float *scale, *min;
    float *total;   /* [activation row][16] */
    int8_t *rows;   /* [8][CHUNK]: codes as unpacked */
    float *groups;  /* [2][CHUNK / 16]: scales and minimums of one row */
};

static size_t pairs_scratch(int32_t rows)
{
    return COLUMNS * CHUNK * 2 + 2 * COLUMNS * (CHUNK / 16) * 4 + 8 * CHUNK + 2 * (CHUNK / 16) * 4 + (size_t)(rows + PACK_ROWS) * COLUMNS * 4 + 64;
}

INLINE struct panel place_panel(void *scratch)
{
    struct panel p;
    p.code = (int16_t *)(((uintptr_t)scratch + 63) / 64 * 64);
    p.scale = (float *)(void *)(p.code + COLUMNS * CHUNK);
    p.min = p.scale + COLUMNS * (CHUNK / 16);
    p.rows = (int8_t *)(p.min + COLUMNS * (CHUNK / 16));
    p.groups = (float *)(void *)(p.rows + 8 * CHUNK);
    p.total = p.groups + 2 * (CHUNK / 16);
    return p;
}

/* 8 rows of 16 codes, `CHUNK` apart -> [8][16 rows][2] (these rows' half of it), turning 8 x 8 pairs */
INLINE void turn_pairs(const int8_t *rows, int16_t *to)
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

/* Weights [at, at + count) of 16 rows. Rows behind `end` repeat the last one; what comes of them is not used. */
INLINE void unpack_panel(unpack_function *unpack, int unit_bytes, int group, bool has_min, const struct weight *w, int64_t first, int64_t end, int64_t at,
                         int64_t count, struct panel p)
{
    for (int column = 0; column < COLUMNS; column += 8) {
        for (int r = 0; r < 8; r++) {
            int64_t row = first + column + r < end ? first + column + r : end - 1;
            unpack(w->data + row * w->row_bytes + at / UNIT * unit_bytes, (int)count, p.rows + r * CHUNK, p.groups, p.groups + CHUNK / 16);
            for (int64_t g = 0; g < count / group; g++) {
                p.scale[g * COLUMNS + column + r] = p.groups[g];
                if (has_min)
                    p.min[g * COLUMNS + column + r] = p.groups[CHUNK / 16 + g];
            }
        }
        for (int64_t k = 0; k < count; k += 16)
            turn_pairs(p.rows + k, p.code + k * COLUMNS + 2 * column);
    }
}

/* A packed tile's numbers at the panel's first weight. */
struct tile {
    const int16_t *pairs;
    const float *d, *s;
};

/* sum += w . v. As two intrinsics compilers multiply for all rows first, run out of registers, and half the time goes into
 * moving sums. */
INLINE void add_pairs(__m256i *sum, __m256i w, __m256i v)
{
    __m256i product;
    __asm__("vpmaddwd %2, %3, %1\n\tvpaddd %1, %0, %0" : "+x"(*sum), "=&x"(product) : "x"(v), "x"(w));
}

/* `rows` activation rows times `groups` groups of the panel, onto `total` where there were chunks before */
INLINE void run_tile(int rows, int group, bool has_min, struct panel p, int64_t groups, struct tile x, bool onto, float *total)
{
    if (!onto)
        memset(total, 0, (size_t)rows * COLUMNS * sizeof *total);
    for (int64_t g = 0; g < groups; g++) {
        __m256i sum[PACK_ROWS][2];
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++)
            sum[r][0] = sum[r][1] = _mm256_setzero_si256();
        const int16_t *code = p.code + g * group * COLUMNS, *pairs = x.pairs + g * group * PACK_ROWS;
        for (int k = 0; k < group / 2; k++, code += 2 * COLUMNS, pairs += 2 * PACK_ROWS) {
            __m256i w0 = _mm256_load_si256((const __m256i *)(const void *)code), w1 = _mm256_load_si256((const __m256i *)(const void *)(code + COLUMNS));
#pragma GCC unroll 6
            for (int r = 0; r < rows; r++) {
                int32_t pair;
                memcpy(&pair, pairs + 2 * r, 4);
                __m256i v = _mm256_set1_epi32(pair);
                add_pairs(&sum[r][0], w0, v);
                add_pairs(&sum[r][1], w1, v);
            }
        }
        const float *d = x.d + g * group / 32 * PACK_ROWS;
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
            for (int half = 0; half < 2; half++) {
                float *to = total + r * COLUMNS + 8 * half;
                __m256 factor = _mm256_mul_ps(_mm256_load_ps(p.scale + g * COLUMNS + 8 * half), _mm256_set1_ps(d[r]));
                __m256 t = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[r][half]), factor, _mm256_load_ps(to));
                if (has_min)
                    t = _mm256_fmadd_ps(_mm256_load_ps(p.min + g * COLUMNS + 8 * half), _mm256_set1_ps(x.s[g * PACK_ROWS + r]), t);
                _mm256_store_ps(to, t);
            }
    }
}

INLINE void many_pairs(unpack_function *unpack, int unit_bytes, int group, bool has_min, const struct weight *w, int64_t first, int64_t end,
                       const struct input *in, float *y, int64_t y_stride, void *scratch)
{
    struct panel p = place_panel(scratch);
    for (; first < end; first += COLUMNS) {
        for (int64_t at = 0; at < w->in; at += CHUNK) {
            int64_t count = w->in - at < CHUNK ? w->in - at : CHUNK;
            unpack_panel(unpack, unit_bytes, group, has_min, w, first, end, at, count, p);
            for (int32_t tile = 0; tile * PACK_ROWS < in->rows; tile++) {
                int64_t values = tile * in->padded + at;
                struct tile x = {in->pairs + values * PACK_ROWS, in->pd + values / 32 * PACK_ROWS,
                                 group == 32 ? in->ps + values / 32 * PACK_ROWS : in->ps16 + values / 16 * PACK_ROWS};
                float *total = p.total + tile * PACK_ROWS * COLUMNS;
                int rows = in->rows - tile * PACK_ROWS;
                if (rows <= 2)
                    run_tile(2, group, has_min, p, count / group, x, at, total);
                else if (rows <= 4)
                    run_tile(4, group, has_min, p, count / group, x, at, total);
                else
                    run_tile(6, group, has_min, p, count / group, x, at, total);
            }
        }
        size_t columns = (size_t)(end - first < COLUMNS ? end - first : COLUMNS);
        for (int32_t r = 0; r < in->rows; r++)
            memcpy(y + in->row[r] * y_stride + first, p.total + r * COLUMNS, columns * sizeof *y);
    }
}

#endif
