/* Reading K and V as they lie in the cache: LANES values at a time, or a whole block made float32. */
#ifndef KERNELS_CPU_WIDE_CACHE_H
#define KERNELS_CPU_WIDE_CACHE_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/wide/lanes.h"

INLINE bool has_scales(enum storage type) { return type == STORAGE_Q8_0 || type == STORAGE_Q4_0; }

/* Types that are read where they lie. */
#define FOR_PLAIN(type, call_with)                \
    do {                                          \
        switch (type) {                           \
        case STORAGE_F32:                         \
            call_with(STORAGE_F32);               \
            break;                                \
        case STORAGE_F16:                         \
            call_with(STORAGE_F16);               \
            break;                                \
        case STORAGE_BF16:                        \
            call_with(STORAGE_BF16);              \
            break;                                \
        default:                                  \
            call_with(STORAGE_F8_E4M3);           \
            break;                                \
        }                                         \
    } while (0)

INLINE vf v_score(const struct attend_tile *a, vf s)
{
    s *= v_set(a->scale);
    return a->cap > 0 ? v_set(a->cap) * v_tanh(s / v_set(a->cap)) : s;
}

/* Dim d of K for the tokens from t on. BF16: 32 bits hold the values of an even and an odd dim. */
INLINE vf k_vector(const unsigned char *part, enum storage type, int d, int t)
{
    int at = d * BLOCK_TOKENS + t;
    if (type == STORAGE_F32)
        return v_load((const float *)(const void *)part + at);
    if (type == STORAGE_F16)
        return v_half(part + 2 * at);
    if (type == STORAGE_F8_E4M3)
        return v_e4m3(part + at);
    vi pair = *(const vi_unaligned *)(const void *)(part + 4 * ((d >> 1) * BLOCK_TOKENS + t));
    return (vf)(d & 1 ? pair & (int32_t)0xFFFF0000 : pair << 16);
}

/* V of token t from dim `at` on. BF16: 32 bits hold the values of an even and an odd token. */
INLINE vf v_vector(const unsigned char *part, enum storage type, int pad, int t, int at)
{
    if (type == STORAGE_F32)
        return v_load((const float *)(const void *)part + t * pad + at);
    if (type == STORAGE_F16)
        return v_half(part + 2 * (t * pad + at));
    if (type == STORAGE_F8_E4M3)
        return v_e4m3(part + t * pad + at);
    vi pair = *(const vi_unaligned *)(const void *)(part + 4 * ((t >> 1) * pad + at));
    return (vf)(t & 1 ? pair & (int32_t)0xFFFF0000 : pair << 16);
}

/* Byte j of each 32 bits as a number: signed, or 4 bits of it, less 8. */
INLINE vf v_byte(vi x, int j) { return __builtin_convertvector((x << (24 - 8 * j)) >> 24, vf); }
INLINE vf v_nibble(vi x, int shift) { return __builtin_convertvector(((x >> shift) & 15) - 8, vf); }

/* Q8_0 and Q4_0 of K as [dim][16 tokens]. Padding behind k_dim is written too. */
INLINE void widen_k_scaled(const unsigned char *part, enum storage type, int k_dim, float *to)
{
    int groups = (k_dim + 31) / 32, fours = type == STORAGE_Q8_0 ? 8 : 4; /* 32-bit words of a token in a group */
    const unsigned char *scales = part + groups * fours * 4 * BLOCK_TOKENS;
    for (int g = 0; g < groups; g++, part += fours * 4 * BLOCK_TOKENS, scales += 2 * BLOCK_TOKENS, to += 32 * BLOCK_TOKENS)
        for (int t = 0; t < BLOCK_TOKENS; t += LANES) {
            vf scale = v_half(scales + 2 * t);
            for (int i = 0; i < fours; i++) {
                vi x = *(const vi_unaligned *)(const void *)(part + 4 * (i * BLOCK_TOKENS + t));
                float *row = to + 4 * i * BLOCK_TOKENS + t;
                if (type == STORAGE_Q8_0)
                    x ^= (int32_t)0x80808080;
#pragma GCC unroll 4
                for (int j = 0; j < 4; j++) {
                    v_store(row + j * BLOCK_TOKENS, scale * (type == STORAGE_Q8_0 ? v_byte(x, j) : v_nibble(x, 8 * j)));
                    if (type == STORAGE_Q4_0)
                        v_store(row + (16 + j) * BLOCK_TOKENS, scale * v_nibble(x, 8 * j + 4));
                }
            }
        }
}

/* K of a block as float32 [dim][16 tokens]. */
static __attribute__((unused)) void widen_k(const unsigned char *part, enum storage type, int k_dim, float *to)
{
    if (type == STORAGE_Q8_0) {
        widen_k_scaled(part, STORAGE_Q8_0, k_dim, to);
        return;
    }
    if (type == STORAGE_Q4_0) {
        widen_k_scaled(part, STORAGE_Q4_0, k_dim, to);
        return;
    }
#define WIDEN(type)                                                       \
    for (int d = 0; d < k_dim; d++)                                       \
        for (int t = 0; t < BLOCK_TOKENS; t += LANES)                     \
            v_store(to + d * BLOCK_TOKENS + t, k_vector(part, type, d, t))
    FOR_PLAIN(type, WIDEN);
#undef WIDEN
}

/* Q8_0 and Q4_0 of V as [16 tokens][wide]. */
INLINE void widen_v_scaled(const unsigned char *part, enum storage type, int pad, float *to, int wide)
{
    int each = type == STORAGE_Q8_0 ? 32 : 16, bytes = pad / 32 * each; /* of a token in a group, in all */
    for (int g = 0; g < pad / 32; g++) {
        float scale[BLOCK_TOKENS];
        for (int t = 0; t < BLOCK_TOKENS; t += LANES)
            v_store(scale + t, v_half(part + bytes * BLOCK_TOKENS + 2 * (g * BLOCK_TOKENS + t)));
        for (int t = 0; t < BLOCK_TOKENS; t += 4)
            for (int i = 0; i < each; i += LANES) {
                vi x = *(const vi_unaligned *)(const void *)(part + t * bytes + 4 * (g * each + i));
                float *row = to + t * wide + 32 * g + i;
#pragma GCC unroll 4
                for (int j = 0; j < 4; j++, row += wide) {
                    v_store(row, v_set(scale[t + j]) * (type == STORAGE_Q8_0 ? v_byte(x, j) : v_nibble(x, 8 * j)));
                    if (type == STORAGE_Q4_0)
                        v_store(row + 16, v_set(scale[t + j]) * v_nibble(x, 8 * j + 4));
                }
            }
    }
}

/* V of a block as float32 [16 tokens][wide]. */
static __attribute__((unused)) void widen_v(const unsigned char *part, enum storage type, int pad, float *to, int wide)
{
    if (type == STORAGE_Q8_0) {
        widen_v_scaled(part, STORAGE_Q8_0, pad, to, wide);
        return;
    }
    if (type == STORAGE_Q4_0) {
        widen_v_scaled(part, STORAGE_Q4_0, pad, to, wide);
        return;
    }
#define WIDEN(type)                                                  \
    for (int t = 0; t < BLOCK_TOKENS; t++)                           \
        for (int i = 0; i < pad; i += LANES)                         \
            v_store(to + t * wide + i, v_vector(part, type, pad, t, i))
    FOR_PLAIN(type, WIDEN);
#undef WIDEN
}

/* V that is the first dims of K, of the tokens before `tokens`; zeros behind them. between: [k_dim][16]. */
static __attribute__((unused)) void turn_k(const unsigned char *part, enum storage type, int k_dim, int v_dim, int tokens, float *between, float *to, int wide)
{
    widen_k(part, type, k_dim, between);
    for (int t = 0; t < BLOCK_TOKENS; t++)
        for (int d = 0; d < wide; d++)
            to[t * wide + d] = t < tokens && d < v_dim ? between[d * BLOCK_TOKENS + t] : 0;
}

#endif
