/* Preparing activations: quantising to int8 and packing rows side by side (see enum form). */
#ifndef KERNELS_CPU_WIDE_INPUT_H
#define KERNELS_CPU_WIDE_INPUT_H

#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/wide/lanes.h"
#if defined(__AVX512F__)
#include "kernels/cpu/avx512/turn.h"
#endif

/* 32 values -> int8 with the scale of the largest; the sums of both halves as integers. */
INLINE float quantise_32(const float *x, int8_t *q, int sum[2])
{
    vf most = v_zero();
    for (int i = 0; i < 32; i += LANES) {
        vf v = v_load(x + i);
        most = v_max(most, v_max(v, -v));
    }
    float largest = v_most(most), d = largest / 127;
    /* below this the reciprocal would be infinite: such a block is as good as zero */
    float inverse = largest > 1e-36f ? 127 / largest : 0;
#if defined(__AVX512F__)
    for (int i = 0; i < 2; i++) {
        __m512i v = (__m512i)v_int(v_load(x + 16 * i) * v_set(inverse));
        _mm_storeu_si128((__m128i *)(void *)(q + 16 * i), _mm512_cvtepi32_epi8(v));
        sum[i] = _mm512_reduce_add_epi32(v);
    }
#else
    int32_t code[32];
    for (int i = 0; i < 32; i += LANES)
        *(vi_unaligned *)(code + i) = v_int(v_load(x + i) * v_set(inverse));
    sum[0] = sum[1] = 0;
    for (int i = 0; i < 16; i++) {
        q[i] = (int8_t)code[i];
        q[i + 16] = (int8_t)code[i + 16];
        sum[0] += code[i];
        sum[1] += code[i + 16];
    }
#endif
    return largest < INFINITY ? d : NAN; /* NaN and infinity must not look like numbers */
}

/* One block of a row that may end inside it. */
INLINE float quantise_block(const float *x, int64_t left, int8_t *q, int sum[2])
{
    if (left >= 32)
        return quantise_32(x, q, sum);
    float t[32] = {0};
    if (left > 0)
        memcpy(t, x, (size_t)left * sizeof *t);
    return quantise_32(t, q, sum);
}

INLINE bool any_nan(const float *x, int64_t n)
{
    vf a = v_zero(); /* x * 0 is NaN for NaN and infinity */
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        a += v_load(x + i) * v_zero();
    float sum = v_sum(a);
    for (; i < n; i++)
        sum += x[i] * 0;
    return sum != 0 || sum != sum;
}

#if defined(__AVX512F__)
/* FORM_TURNED of a row from its INT8 */
static void turn_row(struct input *in, int32_t row)
{
    for (int64_t unit = 0; unit < in->padded / UNIT; unit++) {
        int64_t at = row * in->padded + unit * UNIT;
        struct turned *to = in->turned + unit * in->rows + row;
        __m512i v[4];
        for (int k = 0; k < 4; k++)
            v[k] = _mm512_loadu_si512(in->q + at + 64 * k);
        turn_words(v);
        for (int j = 0; j < 4; j++)
            _mm512_storeu_si512(to->q[j], v[j]);
        _mm512_storeu_ps(to->d, turn_runs(_mm512_loadu_ps(in->d16 + at / 16)));
        _mm512_storeu_ps(to->s, turn_runs(_mm512_loadu_ps(in->s16 + at / 16)));
    }
}
#endif

static void quantise_8(struct input *in, int32_t row)
{
    const float *x = in->floats + in->from[row] * in->float_stride;
    int8_t *q = in->q + row * in->padded;
    float *d = in->d + row * (in->padded / 32), *s = in->s + row * (in->padded / 32), *s16 = in->s16 + row * (in->padded / 16);
    float *d16 = in->d16 + row * (in->padded / 16);
    bool broken = any_nan(x, in->n); /* comparisons drop NaN: said here once for the row */
    for (int64_t b = 0; b < in->padded / 32; b++) {
        int sum[2];
        d[b] = quantise_block(x + 32 * b, in->n - 32 * b, q + 32 * b, sum);
        if (broken)
            d[b] = NAN;
        s[b] = d[b] * (float)(sum[0] + sum[1]);
        d16[2 * b] = d16[2 * b + 1] = d[b];
        s16[2 * b] = d[b] * (float)sum[0];
        s16[2 * b + 1] = d[b] * (float)sum[1];
    }
#if defined(__AVX512F__)
    if (in->forms & FORM_TURNED)
        turn_row(in, row);
#endif
    if (!(in->forms & FORM_NIBBLE))
        return;
    for (int64_t at = 0; at < in->padded; at += 128) {
        struct nibbles *to = in->nibble + at / UNIT * in->rows + row;
        int half = (int)(at / 128 % 2);
        for (int b = 0; b < 4; b++) {
            to->ds[half][b] = d[at / 32 + b];
            to->ds[half][4 + b] = s[at / 32 + b];
            memcpy(to->q[half] + 16 * b, q + at + 32 * b, 16);
            memcpy(to->q[half] + 64 + 16 * b, q + at + 32 * b + 16, 16);
        }
    }
}

/* ---- 8 or 16 bits ------------------------------------------------------------------------------------------------------- */

/* The largest value of each block, `step` floats apart; whether any is NaN or infinite. */
INLINE bool largest_of_blocks(const float *x, int64_t n, int64_t blocks, float *largest, int64_t step)
{
    vf broken = v_zero(); /* x * 0 is NaN for NaN and infinity; comparisons would drop it */
    for (int64_t b = 0; b < blocks; b++, x += 32, n -= 32) {
        float t[32] = {0};
        const float *from = x;
        if (n < 32)
            from = n > 0 ? memcpy(t, x, (size_t)n * sizeof *t) : t;
        vf most = v_zero();
        for (int i = 0; i < 32; i += LANES) {
            vf v = v_load(from + i);
            most = v_max(most, v_max(v, -v));
            broken = v_fma(v, v_zero(), broken);
        }
        largest[b * step] = v_most(most);
    }
    float sum = v_sum(broken);
    return sum != sum;
}

/* Blocks with a larger value than this get 16 bits. The usual largest value is the mean over the blocks that are not
 * themselves over the limit, found by leaving out ever more; largest: one of each block, `step` floats apart. */
INLINE float wide_limit(const float *largest, int64_t blocks, int64_t step)
{
    float limit = INFINITY;
    for (int round = 0; round < 4; round++) {
        float sum = 0, count = 0;
        for (int64_t b = 0; b < blocks; b++) {
            float v = largest[b * step];
            bool usual = v <= limit && v > 0;
            sum += usual ? v : 0;
            count += usual ? 1 : 0;
        }
        limit = count > 0 ? WIDE_BLOCK * sum / count : limit;
    }
    return limit;
}

/* How a block is rounded: codes = x * inverse, x = codes * d. */
struct scale {
    float inverse, d;
};

INLINE struct scale scale_of(float largest, float limit)
{
    float most = largest > limit ? 127 * 256 : 127;
    /* below this the reciprocal would be infinite: such a block is as good as zero; NaN and infinity must not look like numbers */
    return (struct scale){largest > 1e-34f ? most / largest : 0, largest < INFINITY ? largest / most : NAN};
}

/* The 32 values at x, `left` of which exist; t: room for them. */
INLINE const float *whole_block(const float *x, int64_t left, float t[32])
{
    if (left >= 32)
        return x;
    memset(t, 0, 32 * sizeof *t);
    return left > 0 ? memcpy(t, x, (size_t)left * sizeof *t) : t;
}

/* How an instruction set wants the codes of many rows: bytes side by side, pairs of 16 bits, or 16 bits row by row. AVX-512 has
 * its own way (avx512/pack.c). */
#if (defined(__AVX2__) && !defined(__AVX512F__)) || defined(__ARM_FEATURE_DOTPROD)
#define PACKS_BYTES
#endif
#if (defined(__AVX2__) && !defined(__AVX512F__)) || (defined(__aarch64__) && !defined(__ARM_FEATURE_DOTPROD))
#define PACKS_PAIRS
#endif

#if !defined(__AVX512F__)
/* Codes of a block, and the sums of both halves. */
INLINE void codes_32(const float *x, int64_t left, float inverse, int32_t code[32], int32_t sum[2])
{
    float t[32];
    x = whole_block(x, left, t);
    for (int i = 0; i < 32; i += LANES)
        *(vi_unaligned *)(code + i) = v_int(v_load(x + i) * v_set(inverse));
    int32_t first = 0, second = 0;
    for (int i = 0; i < 16; i++)
        first += code[i], second += code[i + 16];
    sum[0] = first, sum[1] = second;
}
#endif

#if defined(PACKS_BYTES)
/* A block's codes as the low and high bytes of 16 bits; sums of both halves. */
struct block {
    _Alignas(32) uint8_t low[32], high[32];
    int32_t sum[2];
};

INLINE void bytes_32(const float *x, int64_t left, float inverse, struct block *q)
{
    int32_t code[32];
    codes_32(x, left, inverse, code, q->sum);
    for (int i = 0; i < 32; i++) {
        q->low[i] = (uint8_t)code[i];
        q->high[i] = (uint8_t)((code[i] + 128) >> 8);
    }
}
/* 32 bytes to [32 / PACKED8_DEPTH][row][PACKED8_DEPTH] */
INLINE void pack_bytes(const uint8_t q[32], uint8_t *to)
{
    for (int k = 0; k < 32; k += PACKED8_DEPTH)
        memcpy(to + k * PACK_ROWS, q + k, PACKED8_DEPTH);
}

static void pack_8(struct input *in, int32_t tile)
{
    int64_t blocks = in->padded / 32;
    uint8_t *low = in->p8 + tile * in->padded * PACK_ROWS, *high = in->p8_high + tile * in->padded * PACK_ROWS, *wide = in->wide + tile * blocks;
    float *d = in->pd + tile * blocks * PACK_ROWS, *s = in->ps + tile * blocks * PACK_ROWS, *s16 = in->ps16 + 2 * tile * blocks * PACK_ROWS;
    float limit[PACK_ROWS];
    bool broken[PACK_ROWS];
    memset(wide, 0, (size_t)blocks);
    for (int r = 0; r < PACK_ROWS; r++) {
        int32_t row = tile * PACK_ROWS + r;
        const float *x = in->floats + in->from[row < in->rows ? row : 0] * in->float_stride;
        broken[r] = largest_of_blocks(x, row < in->rows ? in->n : 0, blocks, d + r, PACK_ROWS);
        limit[r] = wide_limit(d + r, blocks, PACK_ROWS);
        for (int64_t b = 0; b < blocks; b++)
            wide[b] |= d[b * PACK_ROWS + r] > limit[r];
    }
    for (int r = 0; r < PACK_ROWS; r++) {
        int32_t row = tile * PACK_ROWS + r;
        const float *x = in->floats + in->from[row < in->rows ? row : 0] * in->float_stride;
        int64_t n = row < in->rows ? in->n : 0;
        for (int64_t b = 0; b < blocks; b++) {
            struct scale k = scale_of(d[b * PACK_ROWS + r], limit[r]);
            struct block q;
            bytes_32(x + 32 * b, n - 32 * b, k.inverse, &q);
            pack_bytes(q.low, low + 32 * b * PACK_ROWS + PACKED8_DEPTH * r);
            if (wide[b])
                pack_bytes(q.high, high + 32 * b * PACK_ROWS + PACKED8_DEPTH * r);
            float scale = broken[r] ? NAN : k.d;
            d[b * PACK_ROWS + r] = scale;
            s[b * PACK_ROWS + r] = scale * (float)(q.sum[0] + q.sum[1]);
            s16[2 * b * PACK_ROWS + r] = scale * (float)q.sum[0];
            s16[(2 * b + 1) * PACK_ROWS + r] = scale * (float)q.sum[1];
        }
    }
}

#endif
#if defined(PACKS_PAIRS)
static void pack_pairs(struct input *in, int32_t tile)
{
    int64_t blocks = in->padded / 32;
    int16_t *to = in->pairs + tile * in->padded * PACK_ROWS;
    float *d = in->pd + tile * blocks * PACK_ROWS, *s = in->ps + tile * blocks * PACK_ROWS, *s16 = in->ps16 + 2 * tile * blocks * PACK_ROWS;
    for (int r = 0; r < PACK_ROWS; r++) {
        int32_t row = tile * PACK_ROWS + r;
        const float *x = in->floats + in->from[row < in->rows ? row : 0] * in->float_stride;
        int64_t n = row < in->rows ? in->n : 0;
        bool broken = largest_of_blocks(x, n, blocks, d + r, PACK_ROWS);
        for (int64_t b = 0; b < blocks; b++) {
            struct scale k = scale_of(d[b * PACK_ROWS + r], -1); /* all have 16 bits */
            int32_t code[32], sum[2];
            codes_32(x + 32 * b, n - 32 * b, k.inverse, code, sum);
            for (int i = 0; i < 16; i++) {
                int32_t pair = (code[2 * i] & 0xFFFF) | (int32_t)((uint32_t)code[2 * i + 1] << 16);
                memcpy(to + (32 * b + 2 * i) * PACK_ROWS + 2 * r, &pair, sizeof pair);
            }
            float scale = broken ? NAN : k.d;
            d[b * PACK_ROWS + r] = scale;
            s[b * PACK_ROWS + r] = scale * (float)(sum[0] + sum[1]);
            s16[2 * b * PACK_ROWS + r] = scale * (float)sum[0];
            s16[(2 * b + 1) * PACK_ROWS + r] = scale * (float)sum[1];
        }
    }
}
#endif

#if !defined(PACKS_BYTES) && !defined(PACKS_PAIRS) && !defined(__AVX512F__)
static void quantise_16(struct input *in, int32_t row)
{
    const float *x = in->floats + in->from[row] * in->float_stride;
    int16_t *q = in->q16 + row * in->padded;
    float *d = in->d + row * (in->padded / 32), *s = in->s + row * (in->padded / 32), *s16 = in->s16 + row * (in->padded / 16);
    bool broken = largest_of_blocks(x, in->n, in->padded / 32, d, 1);
    float limit = wide_limit(d, in->padded / 32, 1);
    for (int64_t b = 0; b < in->padded / 32; b++) {
        struct scale k = scale_of(d[b], limit);
        int32_t code[32], sum[2];
        codes_32(x + 32 * b, in->n - 32 * b, k.inverse, code, sum);
        for (int i = 0; i < 32; i++)
            q[32 * b + i] = (int16_t)code[i];
        d[b] = broken ? NAN : k.d;
        s[b] = d[b] * (float)(sum[0] + sum[1]);
        s16[2 * b] = d[b] * (float)sum[0];
        s16[2 * b + 1] = d[b] * (float)sum[1];
    }
}
#endif

/* ---- the functions of a table ---------------------------------------------------------------------------------------------- */

static void wide_quantise(struct input *in, int32_t row)
{
    if (in->forms & (FORM_INT8 | FORM_NIBBLE | FORM_TURNED))
        quantise_8(in, row);
#if !defined(PACKS_BYTES) && !defined(PACKS_PAIRS) && !defined(__AVX512F__)
    if (in->forms & FORM_INT16)
        quantise_16(in, row);
#endif
}

#if !defined(__AVX512F__)
static void wide_pack(struct input *in, int32_t tile)
{
#if defined(PACKS_BYTES)
    if (in->forms & FORM_PACKED8)
        pack_8(in, tile);
#endif
#if defined(PACKS_PAIRS)
    if (in->forms & FORM_PAIRS)
        pack_pairs(in, tile);
#endif
    for (int r = 0; r < PACK_ROWS && in->forms & FORM_PACKED32; r++) {
        int32_t row = tile * PACK_ROWS + r;
        const float *x = in->floats + in->from[row < in->rows ? row : 0] * in->float_stride;
        int64_t n = row < in->rows ? in->n : 0;
        float *p = in->p32 + (int64_t)tile * in->padded * PACK_ROWS + r;
        for (int64_t k = 0; k < in->padded; k++)
            p[k * PACK_ROWS] = k < n ? x[k] : 0;
    }
}
#endif

#endif
