/* Storage formats as kernels read them: eight values at a time, which in every format share one scale or nearly so. The layouts
 * are drawn in kernels/formats/X.c, which is the judge. Bytes are loaded one by one: blocks lie at any address. */
#ifndef KERNELS_CUDA_READ_H
#define KERNELS_CUDA_READ_H

#include "kernels/cuda/code.h"

enum { RUN_VALUES = 8 };

/* v[0..7] = values at..at+7 of block b, at a multiple of 8. Formats without blocks: v[0] alone. g: used by the IQ types. */
#define RUN(name) \
    KERNEL_CODE void name##_run(__attribute__((unused)) const struct grids *g, const unsigned char *b, __attribute__((unused)) int at, float *v)
#define EACH UNROLL for (int j = 0; j < RUN_VALUES; j++)

RUN(f32) { v[0] = float_of_bits(load_u32(b)); }
RUN(f16) { v[0] = load_half(b); }
RUN(bf16) { v[0] = bf16_to_float(load_u16(b)); }
RUN(f8_e4m3) { v[0] = e4m3_to_float(b[0]); }

/* ---- blocks of 32: Q4_0 and its kin ----------------------------------------------------------------------------------- */

/* Nibble of value at + j where 16 bytes hold 32: the low ones first, then the high ones. */
KERNEL_CODE int nibble(const unsigned char *q, int at, int j) { return q[at % 16 + j] >> (at / 16 * 4) & 15; }

RUN(q4_0)
{
    float d = load_half(b);
    EACH v[j] = d * (float)(nibble(b + 2, at, j) - 8);
}

RUN(q4_1)
{
    float d = load_half(b), m = load_half(b + 2);
    EACH v[j] = d * (float)nibble(b + 4, at, j) + m;
}

RUN(q5_0)
{
    float d = load_half(b);
    uint32_t high = load_u32(b + 2) >> at;
    EACH v[j] = d * (float)((nibble(b + 6, at, j) | (int)(high >> j & 1) << 4) - 16);
}

RUN(q5_1)
{
    float d = load_half(b), m = load_half(b + 2);
    uint32_t high = load_u32(b + 4) >> at;
    EACH v[j] = d * (float)(nibble(b + 8, at, j) | (int)(high >> j & 1) << 4) + m;
}

RUN(q8_0)
{
    float d = load_half(b);
    EACH v[j] = d * (float)(signed char)b[2 + at + j];
}

KERNEL_TABLE signed char iq4_values[16] = IQ4_VALUES;

RUN(iq4_nl)
{
    float d = load_half(b);
    EACH v[j] = d * (float)iq4_values[nibble(b + 2, at, j)];
}

KERNEL_TABLE signed char fp4_values[16] = FP4_DOUBLED;

RUN(mxfp4)
{
    float half = e8m0_half(b[0]);
    EACH v[j] = half * (float)fp4_values[nibble(b + 1, at, j)];
}

RUN(nvfp4)
{
    float half = ue4m3_half(b[at / 16]);
    const unsigned char *q = b + 4 + at / 16 * 8;
    EACH v[j] = half * (float)fp4_values[q[j] >> (at % 16 < 8 ? 0 : 4) & 15];
}

/* ---- blocks of 256: the K types --------------------------------------------------------------------------------------- */

/* Two bits of value at + j where 32 bytes hold 128: bits 2k of byte i are value 32k + i. */
KERNEL_CODE int pair(const unsigned char *q, int at, int j) { return q[at / 128 * 32 + at % 32 + j] >> (at / 32 % 4 * 2) & 3; }

RUN(q2_k)
{
    float d = load_half(b + 80) * (float)(b[at / 16] & 15), m = load_half(b + 82) * (float)(b[at / 16] >> 4);
    EACH v[j] = d * (float)pair(b + 16, at, j) - m;
}

RUN(q3_k)
{
    int s = at / 16;
    int low = s < 8 ? b[96 + s] & 15 : b[88 + s] >> 4, high = b[104 + s % 4] >> (2 * (s / 4)) & 3;
    float d = load_half(b + 108) * (float)((low | high << 4) - 32);
    EACH v[j] = d * (float)(pair(b + 32, at, j) + 4 * (b[at % 32 + j] >> (at / 32) & 1) - 4);
}

/* Scale and minimum of sub-block s from the 12 bytes of k_scales(). */
KERNEL_CODE void k_scale(const unsigned char *p, int s, int *scale, int *min)
{
    if (s < 4) {
        *scale = p[s] & 63;
        *min = p[s + 4] & 63;
    } else {
        *scale = (p[s + 4] & 15) | p[s - 4] >> 6 << 4;
        *min = p[s + 4] >> 4 | p[s] >> 6 << 4;
    }
}

/* Nibble of value at + j where runs of 32 bytes hold 64. */
KERNEL_CODE int k_nibble(const unsigned char *q, int at, int j) { return q[at / 64 * 32 + at % 32 + j] >> (at / 32 % 2 * 4) & 15; }

RUN(q4_k)
{
    int scale, min;
    k_scale(b + 4, at / 32, &scale, &min);
    float d = load_half(b) * (float)scale, m = load_half(b + 2) * (float)min;
    EACH v[j] = d * (float)k_nibble(b + 16, at, j) - m;
}

RUN(q5_k)
{
    int scale, min;
    k_scale(b + 4, at / 32, &scale, &min);
    float d = load_half(b) * (float)scale, m = load_half(b + 2) * (float)min;
    EACH v[j] = d * (float)(k_nibble(b + 48, at, j) | (b[16 + at % 32 + j] >> (at / 32) & 1) << 4) - m;
}

RUN(q6_k)
{
    int half = at / 128, k = at / 32 % 4;
    const unsigned char *low = b + 64 * half + 32 * (k % 2) + at % 32;
    float d = load_half(b + 208) * (float)(signed char)b[192 + at / 16];
    EACH v[j] = d * (float)(((low[j] >> (k / 2 * 4) & 15) | pair(b + 128, at, j) << 4) - 32);
}

RUN(iq4_xs)
{
    int s = at / 32, scale = (b[4 + s / 2] >> (s % 2 * 4) & 15) | (load_u16(b + 2) >> (2 * s) & 3) << 4;
    float d = load_half(b) * (float)(scale - 32);
    EACH v[j] = d * (float)iq4_values[nibble(b + 8 + 16 * s, at % 32, j)];
}

/* ---- ternary and binary ----------------------------------------------------------------------------------------------- */

RUN(tq1_0)
{
    float d = load_half(b + 52);
    EACH {
        int i = at + j, byte = i < 160 ? i % 32 : i < 240 ? 32 + (i - 160) % 16 : 48 + (i - 240) % 4;
        int digit = i < 160 ? i / 32 : i < 240 ? (i - 160) / 16 : (i - 240) / 4;
        unsigned rest = b[byte];
        for (int k = 0; k < digit; k++)
            rest = rest * 3 & 255;
        v[j] = d * (float)((int)(rest * 3 >> 8) - 1);
    }
}

RUN(tq2_0)
{
    float d = load_half(b + 64);
    EACH v[j] = d * (float)(pair(b, at, j) - 1);
}

RUN(q1_0)
{
    float d = load_half(b);
    EACH v[j] = b[2 + at / 8] >> j & 1 ? d : -d;
}

RUN(q2_0)
{
    float d = load_half(b);
    EACH v[j] = d * (float)((b[2 + at / 4 + j / 4] >> (2 * (j % 4)) & 3) - 1);
}

/* ---- codebooks ---------------------------------------------------------------------------------------------------------- */

/* n values of a point, negative where a bit of signs is set */
KERNEL_CODE void point_values(const void *point, int n, unsigned signs, float scale, float *v)
{
    const signed char *p = (const signed char *)point;
    UNROLL for (int j = 0; j < n; j++)
        v[j] = scale * (float)(signs >> j & 1 ? -p[j] : p[j]);
}

/* 7 bits of signs -> 8: the last makes the number of set bits even. */
KERNEL_CODE unsigned all_signs(unsigned seven)
{
    unsigned parity = seven ^ seven >> 4;
    parity ^= parity >> 2;
    parity ^= parity >> 1;
    return seven | (parity & 1) << 7;
}

RUN(iq2_xxs)
{
    const unsigned char *group = b + 2 + 8 * (at / 32);
    int l = at / 8 % 4;
    uint32_t bits = load_u32(group + 4);
    point_values(&g->iq2_xxs[group[l]], 8, all_signs(bits >> (7 * l) & 127), load_half(b) / 4 * (0.5f + (float)(bits >> 28)), v);
}

/* Nibble at / 16 of the scales, plus a half. */
KERNEL_CODE float iq2_scale(const unsigned char *scales, int at) { return 0.5f + (float)(scales[at / 32] >> (at / 16 % 2 * 4) & 15); }

RUN(iq2_xs)
{
    unsigned code = load_u16(b + 2 + at / 4);
    point_values(&g->iq2_xs[code & 511], 8, all_signs(code >> 9), load_half(b) / 4 * iq2_scale(b + 66, at), v);
}

RUN(iq2_s)
{
    int l = at / 8, index = b[2 + l] | (b[66 + l / 4] >> (2 * (l % 4)) & 3) << 8;
    point_values(&g->iq2_s[index], 8, b[34 + l], load_half(b) / 4 * iq2_scale(b + 74, at), v);
}

RUN(iq3_xxs)
{
    int l = at / 8;
    uint32_t bits = load_u32(b + 66 + 4 * (at / 32));
    float scale = load_half(b) / 2 * (0.5f + (float)(bits >> 28));
    unsigned signs = all_signs(bits >> (7 * (l % 4)) & 127);
    point_values(&g->iq3_xxs[b[2 + 2 * l]], 4, signs, scale, v);
    point_values(&g->iq3_xxs[b[3 + 2 * l]], 4, signs >> 4, scale, v + 4);
}

RUN(iq3_s)
{
    int l = at / 8;
    float scale = load_half(b) * (float)(2 * (b[106 + at / 64] >> (at / 32 % 2 * 4) & 15) + 1);
    UNROLL for (int k = 0; k < 2; k++) {
        int i = 2 * l + k, index = b[2 + i] | (b[66 + i / 8] >> (i % 8) & 1) << 8;
        point_values(&g->iq3_s[index], 4, b[74 + l] >> (4 * k), scale, v + 4 * k);
    }
}

/* Point of IQ1's grid in eighths, moved by an eighth up or down. */
KERNEL_CODE void iq1_values(const struct grids *g, unsigned index, int down, float scale, float *v)
{
    const signed char *p = (const signed char *)&g->iq1_s[index];
    EACH v[j] = scale * ((float)p[j] + (down ? -9.0f : -7.0f));
}

RUN(iq1_s)
{
    int l = at / 8;
    unsigned high = load_u16(b + 34 + 2 * (l / 4));
    float scale = load_half(b) * (float)(2 * (high >> 12 & 7) + 1) / 8;
    iq1_values(g, b[2 + l] | (high >> (3 * (l % 4)) & 7) << 8, (high & 0x8000) != 0, scale, v);
}

RUN(iq1_m)
{
    int l = at / 8;
    unsigned high = b[32 + l / 2] >> (4 * (l % 2)) & 15;
    float scale = half_to_float(iq1_m_half(b)) * (float)(2 * (load_u16(b + 48 + 2 * (l / 8)) >> (3 * (l / 2 % 4)) & 7) + 1) / 8;
    iq1_values(g, b[l] | (high & 7) << 8, (high & 8) != 0, scale, v);
}

/* ---- rows --------------------------------------------------------------------------------------------------------------- */

/* v[0..7] = values at.. of a row (at a multiple of 8), zeros behind its n values. format is a constant where speed matters. */
KERNEL_CODE void read_run(int format, const struct grids *g, const unsigned char *row, int64_t at, int64_t n, float *v)
{
    switch (format) {
#define FORMAT(id, name, encode, round)                                                               \
    case STORAGE_##id:                                                                                \
        if (ELEMENTS_##id > 1)                                                                        \
            name##_run(g, row + at / ELEMENTS_##id * BYTES_##id, (int)(at % ELEMENTS_##id), v);        \
        else                                                                                          \
            EACH                                                                                      \
            {                                                                                         \
                v[j] = 0;                                                                             \
                if (at + j < n)                                                                       \
                    name##_run(g, row + (at + j) * BYTES_##id, 0, v + j);                              \
            }                                                                                         \
        break;
#include "kernels/formats/formats.def"
#undef FORMAT
    default: /* weight_check() lets no other through */
        EACH v[j] = NAN;
    }
}

#undef RUN
#undef EACH

#endif
