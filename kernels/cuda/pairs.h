/* Values two to a word, as matrix units take them: f16 (half) or bf16; and the cache's units of 16 bytes (place.h) as such words. */
#ifndef KERNELS_CUDA_PAIRS_H
#define KERNELS_CUDA_PAIRS_H

#include "kernels/cuda/cache.h"

KERNEL_CODE uint32_t pair_rounded(int half, float low, float high) { return half ? HALF_PAIR(low, high) : BF16_PAIR(low, high); }

KERNEL_CODE void pair_multiply(int half, float *c, const uint32_t *a, const uint32_t *b)
{
    if (half)
        MMA_HALF(c, a, b);
    else
        MMA(c, a, b);
}

/* What f16 has no room for becomes its largest value. */
KERNEL_CODE float pair_bound(int half, float x) { return half && x > 65504 ? 65504 : half && x < -65504 ? -65504 : x; }

/* The e4m3 of the lower two bytes as f16: exponents are eight less, and NaN stays NaN. */
KERNEL_CODE uint32_t pair_e4m3(uint32_t bytes)
{
#ifdef E4M3_PAIR
    return E4M3_PAIR(bytes);
#else
    uint32_t wide = CHOOSE_BYTES(bytes, 0, 0x1404), size = (wide >> 1) & 0x3F803F80;
    return MUL_HALVES((wide & 0x80008000) | size, 0x5C005C00) | ((size + 0x00800080) & 0x40004000) >> 1;
#endif
}

/* Eight codes of a byte, or of half of one, as f16 of 1024 + code, then less what zero is and times the scale. */
KERNEL_CODE void pair_bytes(uint32_t low, uint32_t high, uint32_t scale, uint32_t *w)
{
    UNROLL for (int k = 0; k < 4; k++) {
        uint32_t codes = (k < 2 ? low : high) ^ 0x80808080;
        w[k] = MUL_HALVES(ADD_HALVES(CHOOSE_BYTES(codes, 0x64646464, k % 2 ? 0x4342 : 0x4140), 0xE480E480), scale);
    }
}

KERNEL_CODE void pair_nibbles(uint32_t codes, uint32_t scale, uint32_t *w)
{
    UNROLL for (int k = 0; k < 4; k++)
        w[k] = MUL_HALVES(ADD_HALVES((codes >> (4 * k) & 0x000F000F) | 0x64006400, 0xE408E408), scale);
}

/* ---- runs of four tokens --------------------------------------------------------------------------------------------------------- */

enum { PAIR_TOKENS = 4 };

/* Where one is: the head in its block, in the pool; from there on `at`, of each token where they lie apart; scales; which of the four are
 * seen, as bits. */
struct pair_run {
    int64_t head;
    int at[PAIR_TOKENS], scales, seen;
};

/* Of tokens first .. first + 3 of a block, of which [from, to) may be read, one at least. */
KERNEL_CODE void pair_find(int type, int filled, int64_t head, int first, int from, int to, struct pair_run *r)
{
    r->head = head;
    r->seen = 0;
    r->scales = cache_scale(type, filled, first, 0);
    UNROLL for (int i = 0; i < PAIR_TOKENS; i++) {
        int token = first + i;
        r->seen |= (token >= from && token < to) << i;
        token = token < from ? from : token >= to ? to - 1 : token;
        r->at[i] = cache_place(type, filled, cache_together(type) > 1 ? first + i / cache_together(type) * cache_together(type) : token, 0);
    }
}

/* A unit; what no token has filled is read as well, and makes no difference. */
KERNEL_CODE struct words pair_unit(const unsigned char *pool, const struct pair_run *r, int which, int i) { return WORDS(pool + r->head + r->at[which] + 2 * i); }

/* Values i .. i + 7 of the four tokens, i a multiple of 8: w[token].w[k] has 2k and 2k + 1. Behind the head's end others of its values are
 * read, so that nothing branches: nobody looks at what comes of them, or q is zero there. What is not seen is zero in types of less
 * than two bytes, and else the values of a token that is: in neither case it is a NaN of memory that nobody wrote. */
KERNEL_CODE void pair_read(int type, int filled, const unsigned char *pool, const struct pair_run *r, int i, struct words *w)
{
    i = i < filled ? i : filled - 8;
    if (type == STORAGE_F16 || type == STORAGE_BF16) {
        UNROLL for (int t = 0; t < PAIR_TOKENS; t++)
            w[t] = pair_unit(pool, r, t, i);
    } else if (type == STORAGE_F8_E4M3) {
        UNROLL for (int t = 0; t < PAIR_TOKENS; t += 2) {
            struct words unit = pair_unit(pool, r, t, i);
            UNROLL for (int k = 0; k < 8; k++) {
                uint32_t codes = unit.w[k / 2] >> (k % 2 * 16) & 0xFFFF;
                w[t + k / 4].w[k % 4] = r->seen >> (t + k / 4) & 1 ? pair_e4m3(codes) : 0;
            }
        }
    } else if (type == STORAGE_Q8_0) {
        UNROLL for (int t = 0; t < PAIR_TOKENS; t += 2) {
            struct words unit = pair_unit(pool, r, t, i);
            uint32_t scales = *(const uint32_t *)(const void *)(pool + r->head + r->scales + i / 32 * SLOTS_PER_BLOCK * 2 + t * 2);
            UNROLL for (int k = 0; k < 2; k++)
                pair_bytes(unit.w[2 * k], unit.w[2 * k + 1], r->seen >> (t + k) & 1 ? CHOOSE_BYTES(scales, 0, k ? 0x3232 : 0x1010) : 0, w[t + k].w);
        }
    } else { /* Q4_0 */
        struct words unit = pair_unit(pool, r, 0, i);
        const uint32_t *scales = (const uint32_t *)(const void *)(pool + r->head + r->scales + i / 32 * SLOTS_PER_BLOCK * 2);
        uint32_t both[2] = {scales[0], scales[1]};
        UNROLL for (int t = 0; t < PAIR_TOKENS; t++)
            pair_nibbles(unit.w[t], r->seen >> t & 1 ? CHOOSE_BYTES(both[t / 2], 0, t % 2 ? 0x3232 : 0x1010) : 0, w[t].w);
    }
}

#endif
