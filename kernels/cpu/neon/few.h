/* Quantised weights times int8 activations, straight from storage: one weight row at a time, up to four activation rows
 * share its decoded codes. A row's arithmetic is the same however many there are.
 *
 * 16 codes (one register, natural order) times 16 activations: dot_16 makes 4 sums, of two registers where 32 codes share a
 * scale; then one conversion and one fma, by a lane that holds scale of weights times scale of activations. Of those four are
 * made at once. Codes are taken as they are stored; what their offset contributes comes from the sums of the activations, as
 * a minimum does. */
#ifndef KERNELS_CPU_NEON_FEW_H
#define KERNELS_CPU_NEON_FEW_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/wide/unpack.h"

struct layout { /* of a format */
    int bytes, group; /* of a unit of 256; weights that share a scale */
    bool min;         /* something is added: minimums or an offset of the codes */
};

/* A unit's groups, four to a register: weight = scale * code + min. */
struct unit {
    float32x4_t scale[4], min[4];
};

struct codes_32 {
    int8x16_t low, high; /* the first and the last 16 */
};
typedef struct unit unit_function(const unsigned char *p, int blocks);
typedef struct codes_32 codes_function(const unsigned char *p, int block);

INLINE uint8x16_t bytes_at(const unsigned char *p) { return vld1q_u8(p); }

/* 16 bytes of nibbles -> 32 codes: low ones, then high ones */
INLINE struct codes_32 nibbles(uint8x16_t v)
{
    return (struct codes_32){vreinterpretq_s8_u8(vandq_u8(v, vdupq_n_u8(15))), vreinterpretq_s8_u8(vshrq_n_u8(v, 4))};
}

/* + `value` where 16 bytes have one of the bits of `mask` */
INLINE int8x16_t plus_bit(int8x16_t code, uint8x16_t bytes, uint8x16_t mask, uint8_t value)
{
    return vorrq_s8(code, vreinterpretq_s8_u8(vandq_u8(vtstq_u8(bytes, mask), vdupq_n_u8(value))));
}

/* + 16 where a bit of 32 is set */
INLINE struct codes_32 plus_fifth(struct codes_32 c, uint32_t bits)
{
    const uint8x16_t byte = vcombine_u8(vdup_n_u8(0), vdup_n_u8(1)), bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201));
    uint8x16_t all = vreinterpretq_u8_u32(vdupq_n_u32(bits));
    c.low = plus_bit(c.low, vqtbl1q_u8(all, byte), bit, 16);
    c.high = plus_bit(c.high, vqtbl1q_u8(all, vaddq_u8(byte, vdupq_n_u8(2))), bit, 16);
    return c;
}

INLINE struct codes_32 iq4(uint8x16_t v)
{
    int8x16_t table = vld1q_s8(iq4_table);
    struct codes_32 c = nibbles(v);
    return (struct codes_32){vqtbl1q_s8(table, vreinterpretq_u8_s8(c.low)), vqtbl1q_s8(table, vreinterpretq_u8_s8(c.high))};
}

/* ---- blocks of 32 with a float scale ----------------------------------------------------------------------------------- */

/* f16 at stride `step`; nothing is read of blocks that are not there */
INLINE void halves_at(const unsigned char *p, int step, int blocks, float32x4_t to[2])
{
    uint16x4_t a = vdup_n_u16(0), b = a;
#define HALF(v, i, lane) v = (i) < blocks ? vset_lane_u16(load_u16(p + (i) * step), v, lane) : v
    HALF(a, 0, 0), HALF(a, 1, 1), HALF(a, 2, 2), HALF(a, 3, 3), HALF(b, 4, 0), HALF(b, 5, 1), HALF(b, 6, 2), HALF(b, 7, 3);
#undef HALF
    to[0] = vcvt_f32_f16(vreinterpret_f16_u16(a)), to[1] = vcvt_f32_f16(vreinterpret_f16_u16(b));
}

INLINE struct unit plain(const unsigned char *p, int step, int blocks, float offset)
{
    struct unit u;
    halves_at(p, step, blocks, u.scale);
    u.min[0] = vmulq_n_f32(u.scale[0], -offset), u.min[1] = vmulq_n_f32(u.scale[1], -offset);
    return u;
}
INLINE struct unit with_min(const unsigned char *p, int step, int blocks)
{
    struct unit u;
    halves_at(p, step, blocks, u.scale);
    halves_at(p + 2, step, blocks, u.min);
    return u;
}
INLINE struct unit unit_q4_0(const unsigned char *p, int blocks) { return plain(p, 18, blocks, 8); }
INLINE struct unit unit_q4_1(const unsigned char *p, int blocks) { return with_min(p, 20, blocks); }
INLINE struct unit unit_q5_0(const unsigned char *p, int blocks) { return plain(p, 22, blocks, 16); }
INLINE struct unit unit_q5_1(const unsigned char *p, int blocks) { return with_min(p, 24, blocks); }
INLINE struct unit unit_q8_0(const unsigned char *p, int blocks) { return plain(p, 34, blocks, 0); }
INLINE struct unit unit_iq4_nl(const unsigned char *p, int blocks) { return plain(p, 18, blocks, 0); }

INLINE struct codes_32 codes_q4_0(const unsigned char *p, int b) { return nibbles(bytes_at(p + 18 * b + 2)); }
INLINE struct codes_32 codes_q4_1(const unsigned char *p, int b) { return nibbles(bytes_at(p + 20 * b + 4)); }
INLINE struct codes_32 codes_q5_0(const unsigned char *p, int b) { return plus_fifth(nibbles(bytes_at(p + 22 * b + 6)), load_u32(p + 22 * b + 2)); }
INLINE struct codes_32 codes_q5_1(const unsigned char *p, int b) { return plus_fifth(nibbles(bytes_at(p + 24 * b + 8)), load_u32(p + 24 * b + 4)); }
INLINE struct codes_32 codes_q8_0(const unsigned char *p, int b)
{
    p += 34 * b + 2;
    return (struct codes_32){vreinterpretq_s8_u8(bytes_at(p)), vreinterpretq_s8_u8(bytes_at(p + 16))};
}
INLINE struct codes_32 codes_iq4_nl(const unsigned char *p, int b) { return iq4(bytes_at(p + 18 * b + 2)); }

/* ---- units of 256 with integer scales ------------------------------------------------------------------------------------ */

/* 8 signed bytes times d */
INLINE void scaled(int8x8_t bytes, float d, float32x4_t to[2])
{
    int16x8_t wide = vmovl_s8(bytes);
    to[0] = vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide))), d);
    to[1] = vmulq_n_f32(vcvtq_f32_s32(vmovl_high_s16(wide)), d);
}
INLINE void scaled_16(int8x16_t bytes, float d, float32x4_t to[4])
{
    scaled(vget_low_s8(bytes), d, to);
    scaled(vget_high_s8(bytes), d, to + 2);
}

/* scales and minimums of Q4_K and Q5_K: see k_scales in formats/small.h */
INLINE struct unit unit_k(const unsigned char *p)
{
    uint32_t a = load_u32(p + 4), b = load_u32(p + 8), c = load_u32(p + 12);
    uint64_t scale = (uint64_t)(a & 0x3F3F3F3F) | (uint64_t)((c & 0x0F0F0F0F) | (a >> 2 & 0x30303030)) << 32;
    uint64_t min = (uint64_t)(b & 0x3F3F3F3F) | (uint64_t)((c >> 4 & 0x0F0F0F0F) | (b >> 2 & 0x30303030)) << 32;
    struct unit u;
    scaled(vcreate_s8(scale), half_at(p), u.scale);
    scaled(vcreate_s8(min), -half_at(p + 2), u.min);
    return u;
}
INLINE struct unit unit_q4_k(const unsigned char *p, int blocks) { return (void)blocks, unit_k(p); }
INLINE struct unit unit_q5_k(const unsigned char *p, int blocks) { return (void)blocks, unit_k(p); }

/* low or high nibbles of 32 bytes */
INLINE struct codes_32 half_nibbles(const unsigned char *p, bool high)
{
    struct codes_32 a = nibbles(bytes_at(p)), b = nibbles(bytes_at(p + 16));
    return high ? (struct codes_32){a.high, b.high} : (struct codes_32){a.low, b.low};
}
INLINE struct codes_32 codes_q4_k(const unsigned char *p, int block) { return half_nibbles(p + 16 + block / 2 * 32, block % 2); }

/* + value where bit `bit` of 32 bytes is set */
INLINE struct codes_32 plus_bits(struct codes_32 c, const unsigned char *p, int bit, uint8_t value)
{
    uint8x16_t mask = vdupq_n_u8((uint8_t)(1 << bit));
    return (struct codes_32){plus_bit(c.low, bytes_at(p), mask, value), plus_bit(c.high, bytes_at(p + 16), mask, value)};
}
INLINE struct codes_32 codes_q5_k(const unsigned char *p, int block)
{
    return plus_bits(half_nibbles(p + 48 + block / 2 * 32, block % 2), p + 16, block, 16);
}

/* bits 2 * part and the one above of 16 bytes, moved to bit `to` */
INLINE uint8x16_t two_bits(const unsigned char *p, int part, int to)
{
    const uint8x16_t mask = vdupq_n_u8((uint8_t)(3 << to));
    uint8x16_t v = bytes_at(p);
    switch (2 * part - to) {
    case -4:
        return vandq_u8(vshlq_n_u8(v, 4), mask);
    case -2:
        return vandq_u8(vshlq_n_u8(v, 2), mask);
    case 0:
        return vandq_u8(v, mask);
    case 2:
        return vandq_u8(vshrq_n_u8(v, 2), mask);
    case 4:
        return vandq_u8(vshrq_n_u8(v, 4), mask);
    default:
        return vshrq_n_u8(v, 6);
    }
}

INLINE struct unit unit_q6_k(const unsigned char *p, int blocks)
{
    (void)blocks;
    struct unit u;
    scaled_16(vreinterpretq_s8_u8(bytes_at(p + 192)), half_at(p + 208), u.scale);
    for (int i = 0; i < 4; i++)
        u.min[i] = vmulq_n_f32(u.scale[i], -32);
    return u;
}
INLINE struct codes_32 codes_q6_k(const unsigned char *p, int block)
{
    int half = block / 4, part = block % 4;
    struct codes_32 c = half_nibbles(p + 64 * half + 32 * (part % 2), part / 2);
    c.low = vorrq_s8(c.low, vreinterpretq_s8_u8(two_bits(p + 128 + 32 * half, part, 4)));
    c.high = vorrq_s8(c.high, vreinterpretq_s8_u8(two_bits(p + 144 + 32 * half, part, 4)));
    return c;
}

INLINE struct codes_32 codes_of_two_bits(const unsigned char *p, int block)
{
    p += block / 4 * 32;
    return (struct codes_32){vreinterpretq_s8_u8(two_bits(p, block % 4, 0)), vreinterpretq_s8_u8(two_bits(p + 16, block % 4, 0))};
}

INLINE struct unit unit_q2_k(const unsigned char *p, int blocks)
{
    (void)blocks;
    struct unit u;
    struct codes_32 s = nibbles(bytes_at(p)); /* scales, minimums */
    scaled_16(s.low, half_at(p + 80), u.scale);
    scaled_16(s.high, -half_at(p + 82), u.min);
    return u;
}
INLINE struct codes_32 codes_q2_k(const unsigned char *p, int block) { return codes_of_two_bits(p + 16, block); }

INLINE struct unit unit_q3_k(const unsigned char *p, int blocks)
{
    (void)blocks;
    /* nibbles of 8 bytes (low ones first), upper two bits in 4 bytes, bits 2 * (s / 4) of byte s % 4; 32 too high */
    uint8x8_t low = vld1_u8(p + 96);
    uint32x4_t high = vshlq_u32(vdupq_n_u32(load_u32(p + 104)), (int32x4_t){0, -2, -4, -6});
    uint8x16_t s = vcombine_u8(vand_u8(low, vdup_n_u8(15)), vshr_n_u8(low, 4));
    s = vorrq_u8(s, vshlq_n_u8(vandq_u8(vreinterpretq_u8_u32(high), vdupq_n_u8(3)), 4));
    struct unit u;
    scaled_16(vreinterpretq_s8_u8(vsubq_u8(s, vdupq_n_u8(32))), half_at(p + 108), u.scale);
    for (int i = 0; i < 4; i++)
        u.min[i] = vmulq_n_f32(u.scale[i], -4);
    return u;
}
INLINE struct codes_32 codes_q3_k(const unsigned char *p, int block) { return plus_bits(codes_of_two_bits(p + 32, block), p, block, 4); }

INLINE struct unit unit_iq4_xs(const unsigned char *p, int blocks)
{
    (void)blocks;
    /* four low bits each in 4 bytes, two upper bits each in a word; 32 too high */
    const int8x8_t by_nibble = {0, -4, 0, -4, 0, -4, 0, -4};
    const int16x8_t by_two = {0, -2, -4, -6, -8, -10, -12, -14};
    uint8x8_t low = vreinterpret_u8_u32(vdup_n_u32(load_u32(p + 4)));
    low = vand_u8(vshl_u8(vzip1_u8(low, low), by_nibble), vdup_n_u8(15));
    uint8x8_t high = vand_u8(vmovn_u16(vshlq_u16(vdupq_n_u16(load_u16(p + 2)), by_two)), vdup_n_u8(3));
    struct unit u;
    scaled(vreinterpret_s8_u8(vsub_u8(vorr_u8(low, vshl_n_u8(high, 4)), vdup_n_u8(32))), half_at(p), u.scale);
    return u;
}
INLINE struct codes_32 codes_iq4_xs(const unsigned char *p, int block) { return iq4(bytes_at(p + 8 + 16 * block)); }

/* ---- rows ------------------------------------------------------------------------------------------------------------------ */

/* An activation row's numbers at a unit; d and s: of every group. */
struct row {
    const int8_t *q;
    const float *d, *s;
};

/* Sums of even and odd groups: one chain of fma would be what all waits for. */
struct sums {
    float32x4_t even, odd;
};

/* Blocks 4 * half to 4 * half + 3 of a unit, those of them that are there. The empty statement keeps compilers from loading all
 * blocks first, for which there are not enough registers. */
INLINE void add_half(const struct unit *u, codes_function *codes, int group, const unsigned char *p, int half, int blocks, int rows, const struct row x[4],
                     struct sums sum[4])
{
    const int32x4_t zero = vdupq_n_s32(0);
    float32x4_t factor[4]; /* of four groups */
#define BLOCK(b)                                                                                                              \
    if (4 * half + b < blocks) {                                                                                              \
        if (b % (group / 8) == 0)                                                                                             \
            _Pragma("GCC unroll 4") for (int r = 0; r < rows; r++)                                                            \
                factor[r] = vmulq_f32(u->scale[(4 * half + b) * 8 / group], vld1q_f32(x[r].d + (4 * half + b) * 32 / group)); \
        struct codes_32 c = codes(p, 4 * half + b);                                                                           \
        _Pragma("GCC unroll 4") for (int r = 0; r < rows; r++) {                                                              \
            const int8_t *q = x[r].q + 128 * half + 32 * b;                                                                   \
            int32x4_t t0 = dot_16(zero, c.low, vld1q_s8(q)), t1 = dot_16(group == 32 ? t0 : zero, c.high, vld1q_s8(q + 16));  \
            if (group == 16) {                                                                                                \
                sum[r].even = vfmaq_laneq_f32(sum[r].even, vcvtq_f32_s32(t0), factor[r], b % 2 * 2);                          \
                sum[r].odd = vfmaq_laneq_f32(sum[r].odd, vcvtq_f32_s32(t1), factor[r], b % 2 * 2 + 1);                        \
            } else if (b % 2) {                                                                                               \
                sum[r].odd = vfmaq_laneq_f32(sum[r].odd, vcvtq_f32_s32(t1), factor[r], b);                                    \
            } else {                                                                                                          \
                sum[r].even = vfmaq_laneq_f32(sum[r].even, vcvtq_f32_s32(t1), factor[r], b);                                  \
            }                                                                                                                 \
        }                                                                                                                     \
        __asm__ volatile("" ::: "memory");                                                                                    \
    }
    BLOCK(0)
    BLOCK(1)
    BLOCK(2)
    BLOCK(3)
#undef BLOCK
}

INLINE void add_unit(unit_function *unit, codes_function *codes, struct layout l, const unsigned char *p, int blocks, int rows, const struct row x[4],
                     struct sums sum[4])
{
    struct unit u = unit(p, blocks);
    if (l.min) {
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            sum[r].even = vfmaq_f32(sum[r].even, u.min[0], vld1q_f32(x[r].s));
            sum[r].odd = vfmaq_f32(sum[r].odd, u.min[1], vld1q_f32(x[r].s + 4));
            if (l.group == 16) {
                sum[r].even = vfmaq_f32(sum[r].even, u.min[2], vld1q_f32(x[r].s + 8));
                sum[r].odd = vfmaq_f32(sum[r].odd, u.min[3], vld1q_f32(x[r].s + 12));
            }
        }
    }
    add_half(&u, codes, l.group, p, 0, blocks, rows, x, sum);
    if (blocks > 4)
        add_half(&u, codes, l.group, p, 1, blocks, rows, x, sum);
}

INLINE void few_rows(unit_function *unit, codes_function *codes, struct layout l, const struct weight *w, int64_t first, int64_t end,
                     const struct input *in, int32_t row, int rows, float *y, int64_t y_stride)
{
    int64_t groups = in->padded / l.group;
    const float *d = l.group == 16 ? in->d16 : in->d, *s = l.group == 16 ? in->s16 : in->s;
    for (int64_t out = first; out < end; out++) {
        const unsigned char *p = w->data + out * w->row_bytes;
        struct sums sum[4];
        struct row x[4];
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            sum[r] = (struct sums){vdupq_n_f32(0), vdupq_n_f32(0)};
            x[r] = (struct row){in->q + (row + r) * in->padded, d + (row + r) * groups, s + (row + r) * groups};
        }
        for (int64_t i = 0; i < w->in / UNIT; i++, p += l.bytes) {
            add_unit(unit, codes, l, p, 8, rows, x, sum);
#pragma GCC unroll 4
            for (int r = 0; r < rows; r++)
                x[r].q += UNIT, x[r].d += UNIT / l.group, x[r].s += UNIT / l.group;
        }
        if (w->in % UNIT) /* the last blocks of a row of 32-blocks */
            add_unit(unit, codes, l, p, (int)(w->in % UNIT / 32), rows, x, sum);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++)
            y[in->row[row + r] * y_stride + out] = vaddvq_f32(vaddq_f32(sum[r].even, sum[r].odd));
    }
}

/* ---- the kernels ----------------------------------------------------------------------------------------------------------- */

/* Four activation rows at a time, then the rest. */
#define STORED(name, ...)                                                                                                       \
    static void stored_##name(const struct weight *w, int64_t first, int64_t end, const struct input *in, float *y, int64_t y_stride, \
                              void *scratch)                                                                                    \
    {                                                                                                                           \
        (void)scratch;                                                                                                          \
        const struct layout l = {__VA_ARGS__};                                                                                  \
        int32_t row = 0;                                                                                                        \
        for (; row + 4 <= in->rows; row += 4)                                                                                   \
            few_rows(unit_##name, codes_##name, l, w, first, end, in, row, 4, y, y_stride);                                     \
        if (in->rows & 2)                                                                                                       \
            few_rows(unit_##name, codes_##name, l, w, first, end, in, row, 2, y, y_stride), row += 2;                           \
        if (in->rows & 1)                                                                                                       \
            few_rows(unit_##name, codes_##name, l, w, first, end, in, row, 1, y, y_stride);                                     \
    }
STORED(q4_0, .bytes = 144, .group = 32, .min = true)
STORED(q4_1, .bytes = 160, .group = 32, .min = true)
STORED(q5_0, .bytes = 176, .group = 32, .min = true)
STORED(q5_1, .bytes = 192, .group = 32, .min = true)
STORED(q8_0, .bytes = 272, .group = 32)
STORED(iq4_nl, .bytes = 144, .group = 32)
STORED(q2_k, .bytes = 84, .group = 16, .min = true)
STORED(q3_k, .bytes = 110, .group = 16, .min = true)
STORED(q4_k, .bytes = 144, .group = 32, .min = true)
STORED(q5_k, .bytes = 176, .group = 32, .min = true)
STORED(q6_k, .bytes = 210, .group = 16, .min = true)
STORED(iq4_xs, .bytes = 136, .group = 32)

#endif
