/* The parts of wide/panel.h that NEON does its own way: see the table there. Lanes are constants even to compilers that want
 * them written out, hence the macros. */
#ifndef KERNELS_CPU_NEON_PANEL_H
#define KERNELS_CPU_NEON_PANEL_H

/* Zipping registers i and i + 4 of eight, for all i, turns the bits of (register, place) round by one: three times and the
 * register of 8 has become the place within 8 neighbours. */
#define ZIP_ALL(suffix, type, a, b)                               \
    _Pragma("GCC unroll 4") for (int i = 0; i < 4; i++) {         \
        b[2 * i] = (int8x16_t)vzip1q_##suffix((type)a[i], (type)a[i + 4]);     \
        b[2 * i + 1] = (int8x16_t)vzip2q_##suffix((type)a[i], (type)a[i + 4]); \
    }

INLINE void load_rows(const int8_t *rows, int8x16_t a[8])
{
#pragma GCC unroll 8
    for (int r = 0; r < 8; r++)
        a[r] = vld1q_s8(rows + r * CHUNK);
}

/* Activations of tile rows 0 to 5, 8 bytes each in FORM_PAIRS: 0 to 3 in x[0], 2 to 5 in x[1] (nothing is read behind them). */
#if defined(__ARM_FEATURE_MATMUL_INT8)

INLINE void turn(const int8_t *rows, code_t *to) /* pairs of rows: 8 k of one, 8 k of the other */
{
    int8x16_t a[8];
    load_rows(rows, a);
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
        vst1q_s8(to + 8 * i, (int8x16_t)vzip1q_s64((int64x2_t)a[i], (int64x2_t)a[i + 1]));
        vst1q_s8(to + 8 * i + 8 * COLUMNS, (int8x16_t)vzip2q_s64((int64x2_t)a[i], (int64x2_t)a[i + 1]));
    }
}

INLINE void add_group(vi sum[][VECTORS], int rows, const code_t *code, const code_t *x, int count, int most)
{
    (void)most;
#pragma GCC unroll 1
    for (int k = 0; k < count / DEPTH; k++, code += DEPTH * COLUMNS, x += DEPTH * PACK_ROWS) {
        int8x16_t v[PACK_ROWS / 2];
#pragma GCC unroll 3
        for (int r = 0; r < rows / 2; r++)
            v[r] = vld1q_s8(x + 16 * r);
#pragma GCC unroll 4
        for (int c = 0; c < VECTORS; c += 2) {
            int8x16_t w0 = vld1q_s8(code + 16 * c), w1 = vld1q_s8(code + 16 * c + 16);
#pragma GCC unroll 3
            for (int r = 0; r < rows / 2; r++) {
                sum[r][c] = (vi)vmmlaq_s32((int32x4_t)sum[r][c], w0, v[r]);
                sum[r][c + 1] = (vi)vmmlaq_s32((int32x4_t)sum[r][c + 1], w1, v[r]);
            }
            __asm__ volatile("" ::: "memory"); /* no loads ahead: 24 sums, 3 rows and 2 columns are all that fits */
        }
    }
}

#elif defined(__ARM_FEATURE_DOTPROD)

INLINE void turn(const int8_t *rows, code_t *to) /* words of 4 k: register = word and upper bit of the row */
{
    int8x16_t a[8], b[8];
    load_rows(rows, a);
    ZIP_ALL(s32, int32x4_t, a, b)
    ZIP_ALL(s32, int32x4_t, b, a)
    ZIP_ALL(s32, int32x4_t, a, b)
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        vst1q_s8(to + i / 2 * 4 * COLUMNS + i % 2 * 16, b[i]);
}

INLINE void add_group(vi sum[][VECTORS], int rows, const code_t *code, const code_t *x, int count, int most)
{
    (void)most;
#pragma GCC unroll 1
    for (int k = 0; k < count / DEPTH; k++, code += DEPTH * COLUMNS, x += DEPTH * PACK_ROWS) {
        int8x16_t w[VECTORS], x0 = vld1q_s8(x), x2 = rows > 4 ? vld1q_s8(x + 8) : x0; /* tile rows 0 to 3, 2 to 5 */
#pragma GCC unroll 4
        for (int c = 0; c < VECTORS; c++)
            w[c] = vld1q_s8(code + 16 * c);
#define ROW(r, x, lane)                         \
    if (r < rows)                               \
        _Pragma("GCC unroll 4") for (int c = 0; c < VECTORS; c++) \
            sum[r][c] = (vi)vdotq_laneq_s32((int32x4_t)sum[r][c], w[c], x, lane);
        ROW(0, x0, 0)
        ROW(1, x0, 1)
        ROW(2, x0, 2)
        ROW(3, x0, 3)
        ROW(4, x2, 2)
        ROW(5, x2, 3)
#undef ROW
    }
}

#else

INLINE void turn(const int8_t *rows, code_t *to) /* bytes: register = pair of k, place = [2 k][8 rows] */
{
    int8x16_t a[8], b[8];
    load_rows(rows, a);
    ZIP_ALL(s8, int8x16_t, a, b)
    ZIP_ALL(s8, int8x16_t, b, a)
    ZIP_ALL(s8, int8x16_t, a, b)
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        vst1q_s16(to + 2 * i * COLUMNS, vmovl_s8(vget_low_s8(b[i])));
        vst1q_s16(to + (2 * i + 1) * COLUMNS, vmovl_high_s8(b[i]));
    }
}

INLINE void add_group(vi sum[][VECTORS], int rows, const code_t *code, const code_t *x, int count, int most)
{
    (void)most;
#pragma GCC unroll 1
    for (int k = 0; k < count; k += 2, code += 2 * COLUMNS, x += 2 * PACK_ROWS) {
        int16x8_t x0 = vld1q_s16(x), x2 = rows > 4 ? vld1q_s16(x + 4) : x0; /* tile rows 0 to 3, 2 to 5: pairs of k */
#define ROW(r, x, lane)                                                                           \
    if (r < rows) {                                                                               \
        sum[r][0] = (vi)vmlal_laneq_s16((int32x4_t)sum[r][0], vget_low_s16(w0), x, lane);         \
        sum[r][1] = (vi)vmlal_high_laneq_s16((int32x4_t)sum[r][1], w0, x, lane);                  \
        sum[r][2] = (vi)vmlal_laneq_s16((int32x4_t)sum[r][2], vget_low_s16(w1), x, lane);         \
        sum[r][3] = (vi)vmlal_high_laneq_s16((int32x4_t)sum[r][3], w1, x, lane);                  \
    }
#define ONE_K(k)                                                                              \
    {                                                                                         \
        int16x8_t w0 = vld1q_s16(code + k * COLUMNS), w1 = vld1q_s16(code + k * COLUMNS + 8); \
        ROW(0, x0, k)                                                                         \
        ROW(1, x0, 2 + k)                                                                     \
        ROW(2, x0, 4 + k)                                                                     \
        ROW(3, x0, 6 + k)                                                                     \
        ROW(4, x2, 4 + k)                                                                     \
        ROW(5, x2, 6 + k)                                                                     \
    }
        ONE_K(0)
        ONE_K(1)
#undef ONE_K
#undef ROW
    }
}

#endif
#endif
