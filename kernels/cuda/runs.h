/* Weights of quantised formats, 64 values at a time: codes as signed bytes in the order of the dot products, and for every 16 of them
 * a scale and a shift: value = d * q + m. Rows lie in planes (planes.def). A lane reads 16 bytes at a time, and 32 lanes what lies
 * side by side. */
#ifndef KERNELS_CUDA_RUNS_H
#define KERNELS_CUDA_RUNS_H

#include "kernels/cuda/read.h"

enum { RUN_CODES = 64, RUN_GROUPS = 4, GROUP = 16 };

struct run {
    uint32_t q[RUN_GROUPS][4];
    float d[RUN_GROUPS], m[RUN_GROUPS];
};

/* 16 bytes of a row, which lies in shared memory if it is near. */
#define CODES(near, p) ((near) ? WORDS(p) : WORDS_ONCE(p))

KERNEL_CODE int64_t plane_end(int64_t bytes) { return (bytes + 15) / 16 * 16; }

/* Where in the row group g of run r begins. Formats whose bytes hold several sub-blocks have their groups 32 apart. */
KERNEL_CODE int64_t run_group(int format, int64_t r, int g)
{
    if (format == STORAGE_Q2_K || format == STORAGE_Q3_K || format == STORAGE_Q6_K)
        return r / 2 * 128 + r % 2 * GROUP + g * 32;
    return r * RUN_CODES + g * GROUP;
}

/* At a multiple of what is read. */
KERNEL_CODE float half_at(const unsigned char *p) { return HALF_FLOAT(*(const uint16_t *)(const void *)p); }
KERNEL_CODE uint32_t word_at(const unsigned char *p) { return *(const uint32_t *)(const void *)p; }

/* ---- blocks of 32: two to a run; the second may be missing at a row's end -------------------------------------------------- */

/* Defines run_NAME from block_NAME: block b of n into half h of the run. */
#define TWO_BLOCKS(name)                                                                             \
    KERNEL_CODE void run_##name(const unsigned char *row, int64_t n, int64_t r, int near, struct run *o)      \
    {                                                                                                \
        UNROLL for (int h = 0; h < 2; h++) if (2 * r + h < n) block_##name(row, n, 2 * r + h, h, near, o); \
    }

/* 16 bytes of nibbles as 32 codes, low ones first. */
KERNEL_CODE void nibbles(struct words from, uint32_t (*q)[4])
{
    UNROLL for (int i = 0; i < 4; i++) {
        q[0][i] = from.w[i] & 0x0F0F0F0F;
        q[1][i] = from.w[i] >> 4 & 0x0F0F0F0F;
    }
}

/* Bits 0..3 to bit 4 of four bytes each. */
KERNEL_CODE uint32_t fifth_bits(uint32_t bits) { return (bits & 15) * 0x00204081 << 4 & 0x10101010; }

KERNEL_CODE void add_fifth(uint32_t high, uint32_t (*q)[4])
{
    UNROLL for (int i = 0; i < 4; i++) {
        q[0][i] |= fifth_bits(high >> (4 * i));
        q[1][i] |= fifth_bits(high >> (16 + 4 * i));
    }
}

/* Four codes of a table of 16 signed bytes. */
KERNEL_CODE uint32_t look_up(const uint32_t *table, uint32_t codes)
{
    uint32_t low = codes & 0x07070707, select = (low | low >> 4) & 0x00FF00FF;
    select = (select | select >> 8) & 0xFFFF; /* a nibble for each */
    uint32_t lower = CHOOSE_BYTES(table[0], table[1], select), upper = CHOOSE_BYTES(table[2], table[3], select);
    uint32_t is_upper = ((codes & 0x08080808) >> 3) * 255; /* all bits of each byte, or none */
    return (lower & ~is_upper) | (upper & is_upper);
}

/* Codes of four bits that name values of a table. */
KERNEL_CODE void named(const uint32_t *table, struct words from, uint32_t (*q)[4])
{
    nibbles(from, q);
    UNROLL for (int i = 0; i < 4; i++) {
        q[0][i] = look_up(table, q[0][i]);
        q[1][i] = look_up(table, q[1][i]);
    }
}

KERNEL_TABLE uint32_t iq4_words[4] = {0xBFAD9881, 0xF6EADDCF, 0x26190D01, 0x71594535}; /* IQ4_VALUES */
KERNEL_TABLE uint32_t fp4_words[4] = {0x03020100, 0x0C080604, 0xFDFEFF00, 0xF4F8FAFC}; /* FP4_DOUBLED */

/* Scale and shift of both groups of half h */
KERNEL_CODE void set_half(struct run *o, int h, float d, float m)
{
    o->d[2 * h] = o->d[2 * h + 1] = d;
    o->m[2 * h] = o->m[2 * h + 1] = m;
}

/* A word of two halves: scale, shift. */
KERNEL_CODE void set_both(struct run *o, int h, uint32_t both) { set_half(o, h, HALF_FLOAT((uint16_t)both), HALF_FLOAT((uint16_t)(both >> 16))); }

KERNEL_CODE void block_q4_0(const unsigned char *row, int64_t n, int64_t b, int h, int near, struct run *o)
{
    float d = half_at(row + plane_end(n * 16) + 2 * b);
    nibbles(CODES(near, row + 16 * b), o->q + 2 * h);
    set_half(o, h, d, -8 * d);
}
TWO_BLOCKS(q4_0)

KERNEL_CODE void block_q4_1(const unsigned char *row, int64_t n, int64_t b, int h, int near, struct run *o)
{
    nibbles(CODES(near, row + 16 * b), o->q + 2 * h);
    set_both(o, h, word_at(row + plane_end(n * 16) + 4 * b));
}
TWO_BLOCKS(q4_1)

KERNEL_CODE void block_q5_0(const unsigned char *row, int64_t n, int64_t b, int h, int near, struct run *o)
{
    const unsigned char *high = row + plane_end(n * 16);
    float d = half_at(high + plane_end(n * 4) + 2 * b);
    nibbles(CODES(near, row + 16 * b), o->q + 2 * h);
    add_fifth(word_at(high + 4 * b), o->q + 2 * h);
    set_half(o, h, d, -16 * d);
}
TWO_BLOCKS(q5_0)

KERNEL_CODE void block_q5_1(const unsigned char *row, int64_t n, int64_t b, int h, int near, struct run *o)
{
    const unsigned char *high = row + plane_end(n * 16);
    nibbles(CODES(near, row + 16 * b), o->q + 2 * h);
    add_fifth(word_at(high + 4 * b), o->q + 2 * h);
    set_both(o, h, word_at(high + plane_end(n * 4) + 4 * b));
}
TWO_BLOCKS(q5_1)

KERNEL_CODE void block_q8_0(const unsigned char *row, int64_t n, int64_t b, int h, int near, struct run *o)
{
    struct words low = CODES(near, row + 32 * b), high = CODES(near, row + 32 * b + 16);
    UNROLL for (int i = 0; i < 4; i++) {
        o->q[2 * h][i] = low.w[i];
        o->q[2 * h + 1][i] = high.w[i];
    }
    set_half(o, h, half_at(row + plane_end(n * 32) + 2 * b), 0);
}
TWO_BLOCKS(q8_0)

KERNEL_CODE void block_iq4_nl(const unsigned char *row, int64_t n, int64_t b, int h, int near, struct run *o)
{
    named(iq4_words, CODES(near, row + 16 * b), o->q + 2 * h);
    set_half(o, h, half_at(row + plane_end(n * 16) + 2 * b), 0);
}
TWO_BLOCKS(iq4_nl)

KERNEL_CODE void block_mxfp4(const unsigned char *row, int64_t n, int64_t b, int h, int near, struct run *o)
{
    named(fp4_words, CODES(near, row + 16 * b), o->q + 2 * h);
    set_half(o, h, e8m0_half(row[plane_end(n * 16) + b]), 0);
}
TWO_BLOCKS(mxfp4)

#undef TWO_BLOCKS

/* ---- blocks of 256: four runs ------------------------------------------------------------------------------------------------- */

/* 32 bytes of nibbles hold two sub-blocks of 32: low ones, then high ones. */
KERNEL_CODE void two_rows(struct words low, struct words high, uint32_t (*q)[4])
{
    UNROLL for (int i = 0; i < 4; i++) {
        q[0][i] = low.w[i] & 0x0F0F0F0F;
        q[1][i] = high.w[i] & 0x0F0F0F0F;
        q[2][i] = low.w[i] >> 4 & 0x0F0F0F0F;
        q[3][i] = high.w[i] >> 4 & 0x0F0F0F0F;
    }
}

/* Scales and minima of sub-blocks 2 p and 2 p + 1 from a header of d, dmin and 12 bytes (k_scale()). */
KERNEL_CODE void k_pair(struct words head, int p, struct run *o)
{
    float d = HALF_FLOAT((uint16_t)head.w[0]), least = HALF_FLOAT((uint16_t)(head.w[0] >> 16));
    uint32_t low = head.w[1], middle = head.w[2], high = head.w[3]; /* bytes 0..3, 4..7, 8..11 */
    uint32_t scales = p < 2 ? low & 0x3F3F3F3F : (high & 0x0F0F0F0F) | (low >> 2 & 0x30303030);
    uint32_t minima = p < 2 ? middle & 0x3F3F3F3F : (high >> 4 & 0x0F0F0F0F) | (middle >> 2 & 0x30303030);
    UNROLL for (int h = 0; h < 2; h++) {
        int shift = 16 * (p % 2) + 8 * h;
        set_half(o, h, d * (float)(scales >> shift & 63), -least * (float)(minima >> shift & 63));
    }
}

KERNEL_CODE void run_q4_k(const unsigned char *row, int64_t n, int64_t r, int near, struct run *o)
{
    const unsigned char *b = row + r / 4 * BYTES_Q4_K, *codes = b + 16 + r % 4 * 32;
    (void)n;
    two_rows(CODES(near, codes), CODES(near, codes + 16), o->q);
    k_pair(WORDS(b), (int)(r % 4), o);
}

KERNEL_CODE void run_q5_k(const unsigned char *row, int64_t n, int64_t r, int near, struct run *o)
{
    const unsigned char *b = row + r / 4 * BYTES_Q5_K, *codes = b + 48 + r % 4 * 32;
    int p = (int)(r % 4);
    (void)n;
    two_rows(CODES(near, codes), CODES(near, codes + 16), o->q);
    struct words low = WORDS(b + 16), high = WORDS(b + 32);
    UNROLL for (int i = 0; i < 4; i++) {
        o->q[0][i] |= low.w[i] >> (2 * p) << 4 & 0x10101010;
        o->q[1][i] |= high.w[i] >> (2 * p) << 4 & 0x10101010;
        o->q[2][i] |= low.w[i] >> (2 * p + 1) << 4 & 0x10101010;
        o->q[3][i] |= high.w[i] >> (2 * p + 1) << 4 & 0x10101010;
    }
    k_pair(WORDS(b), p, o);
}

KERNEL_CODE void run_iq4_xs(const unsigned char *row, int64_t n, int64_t r, int near, struct run *o)
{
    const unsigned char *b = row + r / 4 * 128 + r % 4 * 32;
    const uint32_t *head = (const uint32_t *)(const void *)(row + plane_end(n * 128) + r / 4 * 8); /* d, high bits; low nibbles */
    float d = HALF_FLOAT((uint16_t)head[0]);
    named(iq4_words, CODES(near, b), o->q);
    named(iq4_words, CODES(near, b + 16), o->q + 2);
    UNROLL for (int h = 0; h < 2; h++) {
        int s = (int)(r % 4) * 2 + h;
        int scale = (int)(head[1] >> (4 * s) & 15) | (int)(head[0] >> (16 + 2 * s) & 3) << 4;
        set_half(o, h, d * (float)(scale - 32), 0);
    }
}

/* Part r of the types whose 16 bytes hold groups of four sub-blocks: half h of the block, group s in them. */
struct quarter {
    int64_t block;
    int half, s;
};
KERNEL_CODE struct quarter quarter_of(int64_t r)
{
    struct quarter q = {r / 4, (int)(r / 2 % 2), (int)(r % 2)};
    return q;
}

KERNEL_CODE void run_q2_k(const unsigned char *row, int64_t n, int64_t r, int near, struct run *o)
{
    struct quarter at = quarter_of(r);
    const unsigned char *scales = row + n * 64 + at.block * 16 + at.half * 8 + at.s;
    uint32_t both = word_at(row + n * 80 + at.block * 4);
    float d = HALF_FLOAT((uint16_t)both), least = HALF_FLOAT((uint16_t)(both >> 16));
    struct words codes = CODES(near, row + at.block * 64 + at.half * 32 + at.s * 16);
    UNROLL for (int k = 0; k < RUN_GROUPS; k++) {
        UNROLL for (int i = 0; i < 4; i++)
            o->q[k][i] = codes.w[i] >> (2 * k) & 0x03030303;
        o->d[k] = d * (float)(scales[2 * k] & 15);
        o->m[k] = -least * (float)(scales[2 * k] >> 4);
    }
}

KERNEL_CODE void run_q3_k(const unsigned char *row, int64_t n, int64_t r, int near, struct run *o)
{
    struct quarter at = quarter_of(r);
    const unsigned char *masks = row + n * 64, *scales = masks + n * 32, *p = scales + at.block * 12;
    float d = half_at(scales + plane_end(n * 12) + at.block * 2);
    struct words codes = CODES(near, row + at.block * 64 + at.half * 32 + at.s * 16), mask = CODES(near, masks + at.block * 32 + at.s * 16);
    UNROLL for (int k = 0; k < RUN_GROUPS; k++) {
        int s = at.half * 8 + 2 * k + at.s;
        int low = at.half ? p[s - 8] >> 4 : p[s] & 15, high = p[8 + s % 4] >> (2 * (s / 4)) & 3;
        UNROLL for (int i = 0; i < 4; i++)
            o->q[k][i] = (codes.w[i] >> (2 * k) & 0x03030303) | (mask.w[i] >> (4 * at.half + k) << 2 & 0x04040404);
        o->d[k] = d * (float)((low | high << 4) - 32);
        o->m[k] = -4 * o->d[k];
    }
}

KERNEL_CODE void run_q6_k(const unsigned char *row, int64_t n, int64_t r, int near, struct run *o)
{
    struct quarter at = quarter_of(r);
    const unsigned char *pairs = row + n * 128, *scales = pairs + n * 64;
    const signed char *scale = (const signed char *)scales + at.block * 16 + at.half * 8 + at.s;
    float d = half_at(scales + n * 16 + at.block * 2);
    const unsigned char *codes = row + at.block * 128 + at.half * 64 + at.s * 16;
    struct words even = CODES(near, codes), odd = CODES(near, codes + 32), high = CODES(near, pairs + at.block * 64 + at.half * 32 + at.s * 16);
    UNROLL for (int k = 0; k < RUN_GROUPS; k++) {
        UNROLL for (int i = 0; i < 4; i++)
            o->q[k][i] = ((k % 2 ? odd.w[i] : even.w[i]) >> (k / 2 * 4) & 0x0F0F0F0F) | (high.w[i] >> (2 * k) << 4 & 0x30303030);
        o->d[k] = d * (float)scale[2 * k];
        o->m[k] = -32 * o->d[k];
    }
}

/* Run r of a row of `in` values; what lies behind them is 0. format is a constant where speed matters; near: the row lies in shared
 * memory, a constant. */
KERNEL_CODE void read_codes_from(int format, int near, const unsigned char *row, int64_t in, int64_t r, struct run *o)
{
    UNROLL for (int g = 0; g < RUN_GROUPS; g++) {
        UNROLL for (int i = 0; i < 4; i++)
            o->q[g][i] = 0;
        o->d[g] = o->m[g] = 0;
    }
    switch (format) {
#define RUNS(id, name)                                   \
    case STORAGE_##id:                                   \
        run_##name(row, in / ELEMENTS_##id, r, near, o); \
        break;
#define PLAIN(id, name)
#define FLOATS(id, name)
#define FAST(id, name, kind) kind(id, name)
#include "kernels/cuda/fast.def"
#undef FAST
#undef FLOATS
#undef PLAIN
#undef RUNS
    }
}

/* Of weights in the device's memory, which nobody reads again soon. */
KERNEL_CODE void read_codes(int format, const unsigned char *row, int64_t in, int64_t r, struct run *o) { read_codes_from(format, 0, row, in, r, o); }

/* Value i of a run of 64 consecutive ones, or of a group of it. */
KERNEL_CODE float code_value(const struct run *o, int g, int i) { return o->d[g] * (float)(signed char)(o->q[g][i / 4] >> (8 * (i % 4))) + o->m[g]; }

#endif
