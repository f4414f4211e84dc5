/* Preparing activations: quantising to int8 and packing rows side by side (see enum form). */
#ifndef KERNELS_CPU_WIDE_INPUT_H
#define KERNELS_CPU_WIDE_INPUT_H

#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/wide/lanes.h"

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

static void wide_quantise(struct input *in, int32_t row)
{
    const float *x = in->floats + in->row[row] * in->float_stride;
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
    if (!(in->forms & FORM_NIBBLE))
        return;
    int8_t *nibble = in->nibble + row * in->padded;
    float *ds = in->ds + row * (in->padded / 16);
    for (int64_t at = 0; at < in->padded; at += 128)
        for (int b = 0; b < 4; b++) {
            ds[at / 16 + b] = d[at / 32 + b];
            ds[at / 16 + 4 + b] = s[at / 32 + b];
            memcpy(nibble + at + 16 * b, q + at + 32 * b, 16);
            memcpy(nibble + at + 64 + 16 * b, q + at + 32 * b + 16, 16);
        }
}

static void pack_int8(struct input *in, int32_t tile)
{
    uint8_t *p = in->p8 + (int64_t)tile * in->padded * PACK_ROWS;
    float *pd = in->pd + (int64_t)tile * (in->padded / 32) * PACK_ROWS, *ps = in->ps + (int64_t)tile * (in->padded / 32) * PACK_ROWS;
    float *ps16 = in->ps16 + (int64_t)tile * (in->padded / 16) * PACK_ROWS;
    for (int r = 0; r < PACK_ROWS; r++) {
        int32_t row = tile * PACK_ROWS + r;
        const float *x = in->floats + in->row[row < in->rows ? row : 0] * in->float_stride;
        int64_t n = row < in->rows ? in->n : 0;
        bool broken = any_nan(x, n);
        for (int64_t b = 0; b < in->padded / 32; b++) {
            int8_t q[32];
            int sum[2];
            float d = quantise_block(x + 32 * b, n - 32 * b, q, sum);
            d = broken ? NAN : d;
            pd[b * PACK_ROWS + r] = d;
            ps[b * PACK_ROWS + r] = d * (float)(sum[0] + sum[1]);
            ps16[2 * b * PACK_ROWS + r] = d * (float)sum[0];
            ps16[(2 * b + 1) * PACK_ROWS + r] = d * (float)sum[1];
            for (int k = 0; k < 8; k++) {
                uint32_t four;
                memcpy(&four, q + 4 * k, 4);
                four ^= 0x80808080u; /* q + 128 */
                memcpy(p + ((b * 8 + k) * PACK_ROWS + r) * 4, &four, 4);
            }
        }
    }
}

static void wide_pack(struct input *in, int32_t tile)
{
    if (in->forms & FORM_PACKED8)
        pack_int8(in, tile);
    for (int r = 0; r < PACK_ROWS; r++) {
        int32_t row = tile * PACK_ROWS + r;
        const float *x = in->floats + in->row[row < in->rows ? row : 0] * in->float_stride;
        int64_t n = row < in->rows ? in->n : 0;
        if (in->forms & FORM_PACKED32) {
            float *p = in->p32 + (int64_t)tile * in->padded * PACK_ROWS + r;
            for (int64_t k = 0; k < in->padded; k++)
                p[k * PACK_ROWS] = k < n ? x[k] : 0;
        }
        if (in->forms & FORM_PACKED16) {
            uint16_t *p = in->p16 + (int64_t)tile * in->padded * PACK_ROWS + 2 * r;
            for (int64_t k = 0; k < in->padded; k += 2) {
                p[k * PACK_ROWS] = k < n ? float_to_bf16(x[k]) : 0;
                p[k * PACK_ROWS + 1] = k + 1 < n ? float_to_bf16(x[k + 1]) : 0;
            }
        }
    }
}

#endif
