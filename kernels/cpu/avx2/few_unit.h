/* Quantised weights times int8 activations, straight from storage: one weight row at a time, up to four activation rows
 * share its decoded codes. A row's arithmetic is the same however many there are.
 *
 * 32 codes (one register, natural order) times 32 activations: vpmaddubsw gives 16 sums of two, vpmaddwd sums pairs of them
 * times the integer scales of their groups (or 1), then one conversion and one fma with the float scale of the block, of
 * which eight are made at once. Codes are unsigned; what their offset contributes comes from the sums of the activations. Signed
 * codes give their signs to the activations instead (|w| <= 128, |x| <= 127: pairs stay below 2^15).
 *
 * A format is a unit_X, what 256 weights have in common, and a read_X, 32 codes of it. */
#ifndef KERNELS_CPU_AVX2_FEW_UNIT_H
#define KERNELS_CPU_AVX2_FEW_UNIT_H

#include "kernels/cpu/avx2/few.h"

#include <immintrin.h>

#include "kernels/cpu/wide/lanes.h"

enum { AHEAD = 4096 }; /* bytes that weights are prefetched ahead */

INLINE __m256i load_256(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
INLINE __m128i load_128(const void *p) { return _mm_loadu_si128((const __m128i *)p); }
INLINE float half_of(const unsigned char *p) { return _cvtsh_ss(load_u16(p)); }
INLINE __m256i both(__m128i v) { return _mm256_broadcastsi128_si256(v); }

INLINE void prefetch(const unsigned char *p, int size)
{
    for (int i = 0; i < size; i += 64)
        _mm_prefetch((const char *)p + AHEAD + i, _MM_HINT_T0);
}

struct layout { /* of a format */
    int bytes, group;  /* of a unit of 256; weights that share a scale */
    bool integers;     /* groups have integer scales beside the unit's float */
    bool is_signed;    /* codes */
    bool signs;        /* a unit has words of signs */
    bool wide;         /* codes fill their bytes: the kernel waits for loads rather than for ports that permute */
    bool min;
    float offset;      /* of unsigned codes without minimums */
};

/* What a unit's blocks have in common. */
struct unit {
    __m256 d;        /* [8]: float factor of each block */
    __m256 d16[2];   /* or of its halves, where GROUP is 16 and scales are no integers */
    __m256i scales;  /* integers: the groups' scales as bytes, in both halves */
    __m256 min[2];   /* minimums of the groups, [8] where GROUP is 32 */
    __m256i signs;   /* a bit for each weight, a word for each block */
};

/* 32 codes, and where they are signed numbers of their signs. */
struct codes {
    __m256i code, sign;
};
typedef struct unit unit_function(const unsigned char *p, int blocks);
typedef struct codes codes_function(const unsigned char *p, const uint32_t signs[8], int block);

/* To be read from memory from here on, where a broadcast costs nothing: out of a register it takes the ports that permute, which are what
 * these kernels wait for. */
#define IN_MEMORY(array) __asm__("" : "+m"(array))

INLINE struct codes unsigned_codes(__m256i v) { return (struct codes){v, v}; }
INLINE struct codes signed_codes(__m256i v) { return (struct codes){_mm256_abs_epi8(v), v}; }

/* 8 sums of 4 products, pairs times `factor` */
INLINE __m256 dot_32(struct codes c, bool is_signed, const int8_t *q, __m256i factor)
{
    __m256i x = load_256(q), pairs = _mm256_maddubs_epi16(c.code, is_signed ? _mm256_sign_epi8(x, c.sign) : x);
    return _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs, factor));
}

/* 16 bytes of nibbles -> 32 codes: low ones, then high ones */
INLINE __m256i nibbles(__m128i v)
{
    return _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(v, 4), v), _mm256_set1_epi8(15));
}

/* 0xFF in byte j where bit j is set */
INLINE __m256i bytes_of_bits(__m256i bits)
{
    const __m256i byte = _mm256_setr_epi64x(0x0000000000000000, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201);
    return _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(bits, byte), bit), bit);
}

INLINE __m256i two_bits(const unsigned char *p, int block)
{
    __m256i v = load_256(p + block / 4 * 32);
    int part = block % 4;
    v = part == 0 ? v : part == 1 ? _mm256_srli_epi16(v, 2) : part == 2 ? _mm256_srli_epi16(v, 4) : _mm256_srli_epi16(v, 6);
    return _mm256_and_si256(v, _mm256_set1_epi8(3));
}

/* words of the scales of groups 2 * block and 2 * block + 1, each over half a register */
INLINE __m256i factor_of(__m256i scales, int block)
{
    __m256i index = _mm256_set_m128i(_mm_set1_epi16((short)(0x0101 * (2 * block + 1))), _mm_set1_epi16((short)(0x0101 * (2 * block))));
    return _mm256_srai_epi16(_mm256_shuffle_epi8(scales, index), 8);
}

/* numbers 2 * block and 2 * block + 1, each over half a register */
INLINE __m256 half_factors(__m256 v, int block)
{
    return _mm256_permutevar8x32_ps(v, _mm256_add_epi32(_mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1), _mm256_set1_epi32(2 * block)));
}

/* An activation row's numbers at a unit. */
struct row {
    const int8_t *q;
    const float *d, *s;
};

/* Sums of even and odd blocks: one chain of fma would be what all waits for. */
struct sums {
    __m256 even, odd;
};

INLINE void add_unit(unit_function *unit, codes_function *codes, struct layout l, const unsigned char *p, int blocks, int rows, const struct row x[4],
                     struct sums sum[4])
{
    struct unit u = unit(p, blocks);
    if (!l.min && !l.integers && !l.is_signed)
        u.min[0] = _mm256_mul_ps(u.d, _mm256_set1_ps(-l.offset));
    float factor[4][8];
    uint32_t signs[8];
    if (l.signs) {
        _mm256_storeu_si256((__m256i *)(void *)signs, u.signs);
        IN_MEMORY(signs);
    }
    __m256 halves[4][2];
    bool floats16 = l.group == 16 && !l.integers;
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
        if (floats16)
            halves[r][0] = _mm256_mul_ps(_mm256_loadu_ps(x[r].d), u.d16[0]), halves[r][1] = _mm256_mul_ps(_mm256_loadu_ps(x[r].d + 8), u.d16[1]);
        else
            _mm256_storeu_ps(factor[r], _mm256_mul_ps(_mm256_loadu_ps(x[r].d), u.d));
        if (!l.wide)
            IN_MEMORY(factor[r]);
        if (!l.is_signed)
            sum[r].even = _mm256_fmadd_ps(u.min[0], _mm256_loadu_ps(x[r].s), sum[r].even);
        if (l.group == 16 && !l.is_signed)
            sum[r].odd = _mm256_fmadd_ps(u.min[1], _mm256_loadu_ps(x[r].s + 8), sum[r].odd);
    }
#pragma GCC unroll 8
    for (int b = 0; b < blocks; b++) {
        struct codes code = codes(p, signs, b);
        __m256i by = l.integers ? factor_of(u.scales, b) : _mm256_set1_epi16(1);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            __m256 *to = b % 2 ? &sum[r].odd : &sum[r].even;
            __m256 scale = floats16 ? half_factors(halves[r][b / 4], b % 4) : _mm256_set1_ps(factor[r][b]);
            *to = _mm256_fmadd_ps(dot_32(code, l.is_signed, x[r].q + 32 * b, by), scale, *to);
        }
    }
}

INLINE void few_rows(unit_function *unit, codes_function *codes, struct layout l, const struct weight *w, int64_t first, int64_t end,
                     const struct input *in, int32_t row, int rows, float *y, int64_t y_stride)
{
    int64_t groups = in->padded / l.group;
    const float *s = l.group == 16 ? in->s16 : in->s, *d = l.group == 16 && !l.integers ? in->d16 : in->d;
    int scales = l.group == 16 && !l.integers ? 16 : 8; /* of activations at a unit */
    int blocks = (int)(w->in % UNIT) / 32;
    for (int64_t out = first; out < end; out++) {
        const unsigned char *p = w->data + out * w->row_bytes;
        struct sums sum[4];
        struct row x[4];
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            sum[r] = (struct sums){_mm256_setzero_ps(), _mm256_setzero_ps()};
            x[r] = (struct row){in->q + (row + r) * in->padded, d + (row + r) * (in->padded / UNIT * scales), s + (row + r) * groups};
        }
        for (int64_t i = 0; i < w->in / UNIT; i++, p += l.bytes) {
            prefetch(p, l.bytes);
            add_unit(unit, codes, l, p, 8, rows, x, sum);
#pragma GCC unroll 4
            for (int r = 0; r < rows; r++)
                x[r].q += UNIT, x[r].d += scales, x[r].s += UNIT / l.group;
        }
        switch (blocks) { /* the last of a row of 32-blocks */
#define CASE(n)                                          \
    case n:                                              \
        add_unit(unit, codes, l, p, n, rows, x, sum);    \
        break
            CASE(1);
            CASE(2);
            CASE(3);
            CASE(4);
            CASE(5);
            CASE(6);
            CASE(7);
#undef CASE
        }
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++)
            y[in->row[row + r] * y_stride + out] = v_sum((vf)_mm256_add_ps(sum[r].even, sum[r].odd));
    }
}

/* Four activation rows at a time, then the rest. */
#define KERNEL(name, ...)                                                                                        \
    LINEAR_FUNCTION(avx2_few_##name)                                                                             \
    {                                                                                                            \
        (void)scratch;                                                                                           \
        const struct layout l = {__VA_ARGS__};                                                                   \
        int32_t row = 0;                                                                                         \
        for (; row + 4 <= in->rows; row += 4)                                                                    \
            few_rows(unit_##name, read_##name, l, w, first, end, in, row, 4, y, y_stride);                       \
        if (in->rows & 2)                                                                                        \
            few_rows(unit_##name, read_##name, l, w, first, end, in, row, 2, y, y_stride), row += 2;             \
        if (in->rows & 1)                                                                                        \
            few_rows(unit_##name, read_##name, l, w, first, end, in, row, 1, y, y_stride);                       \
    }

#endif
