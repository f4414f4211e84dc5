/* The formats of 32 weights with 16 bytes of nibbles, times int8 activations, straight from storage.
 *
 * Four blocks (128 weights, 72 to 96 bytes) make a step. Two overlapping loads cover them; one permutation gathers the
 * 64 nibble bytes, another the scales (and minimums):
 *     bytes   b0[0..15] b1[0..15] b2[0..15] b3[0..15]       low nibbles: weights 0-15 of each block, high: 16-31
 *     halves  d0 d1 d2 d3 m0 m1 m2 m3                       (m: d again where there are no minimums)
 * Activations lie in the same order (FORM_NIBBLE), so the four integer lanes of a block take both halves, and one
 * conversion and one fma serve 128 weights. [d, m] times [activation scale, scale * sum] gives the lanes' factors and,
 * in its upper half, what minimums or the codes' offset contribute.
 * Measured against unpacking two blocks a register in natural order: 1.6 times as fast in the cache. */
#include "kernels/cpu/avx512/few.h"
#include "kernels/cpu/avx512/unit.h"

struct layout {
    int step, header; /* bytes of a block, before its nibbles */
    int high;         /* where 32 fifth bits are, 0: none */
    bool min, iq4;
    float offset;     /* of codes, without minimums */
};

/* Index of byte `at` of the four blocks in the concatenation of their first 64 bytes and their last 64. */
#define INDEX(at, step) ((at) < 64 ? (at) : 128 + (at) - 4 * (step))
#define NIBBLE(i, step, header) (char)INDEX((i) / 16 * (step) + (header) + (i) % 16, step)
#define NIBBLES_8(i, s, h) NIBBLE(i, s, h), NIBBLE(i + 1, s, h), NIBBLE(i + 2, s, h), NIBBLE(i + 3, s, h), NIBBLE(i + 4, s, h), NIBBLE(i + 5, s, h), \
                           NIBBLE(i + 6, s, h), NIBBLE(i + 7, s, h)
#define NIBBLES_64(s, h) NIBBLES_8(0, s, h), NIBBLES_8(8, s, h), NIBBLES_8(16, s, h), NIBBLES_8(24, s, h), NIBBLES_8(32, s, h), NIBBLES_8(40, s, h), \
                         NIBBLES_8(48, s, h), NIBBLES_8(56, s, h)
#define HALF(i, step, min) (short)(INDEX((i) % 4 * (step) + ((min) && (i) >= 4 ? 2 : 0), step) / 2)
#define HALVES_8(s, m) HALF(0, s, m), HALF(1, s, m), HALF(2, s, m), HALF(3, s, m), HALF(4, s, m), HALF(5, s, m), HALF(6, s, m), HALF(7, s, m)

struct tables {
    _Alignas(64) char nibbles[64];
    _Alignas(64) short halves[32]; /* the first 8 matter */
    _Alignas(64) char fifth[2][64]; /* where the fifth bits of low and high nibbles are: bit i % 8 of these */
};
/* byte i / 8 (of the upper 16 bits: 2 + i / 8) of each block's fifth bits for its nibble i */
#define FIFTH(i, step, at) (char)INDEX((i) / 16 * (step) + (at) + (i) % 16 / 8, step)
#define FIFTH_8(i, s, a) FIFTH(i, s, a), FIFTH(i + 1, s, a), FIFTH(i + 2, s, a), FIFTH(i + 3, s, a), FIFTH(i + 4, s, a), FIFTH(i + 5, s, a), \
                         FIFTH(i + 6, s, a), FIFTH(i + 7, s, a)
#define FIFTH_64(s, a) FIFTH_8(0, s, a), FIFTH_8(8, s, a), FIFTH_8(16, s, a), FIFTH_8(24, s, a), FIFTH_8(32, s, a), FIFTH_8(40, s, a), \
                       FIFTH_8(48, s, a), FIFTH_8(56, s, a)
#define TABLES(step, header, min, high) {{NIBBLES_64(step, header)}, {HALVES_8(step, min)}, {{FIFTH_64(step, high)}, {FIFTH_64(step, (high) + 2)}}}

struct four { /* blocks, decoded */
    __m512i low, high;
    __m256 scales; /* d0-d3, then m0-m3 or d0-d3 */
};

INLINE struct four decode_four(struct layout l, const struct tables *t, const unsigned char *p, int blocks, __mmask64 first, __mmask64 last)
{
    struct four f;
    __m512i a, b;
    int second = 4 * l.step - 64;
    if (blocks == 4) {
        a = _mm512_loadu_si512(p);
        b = _mm512_loadu_si512(p + second);
        __asm__("" : "+v"(b)); /* else it is loaded again for each permutation: loads that cross lines are what bounds this */
    } else { /* nothing behind the row is read; what is missing is zero */
        a = _mm512_maskz_loadu_epi8(first, p);
        b = _mm512_maskz_loadu_epi8(last, p + second);
    }
    __m512i v = _mm512_permutex2var_epi8(a, _mm512_load_si512(t->nibbles), b);
    f.low = _mm512_and_si512(v, bytes(15));
    f.high = _mm512_and_si512(_mm512_srli_epi16(v, 4), bytes(15));
    if (l.high) {
        const __m512i bit = _mm512_set1_epi64((long long)0x8040201008040201);
        __m512i low = _mm512_permutex2var_epi8(a, _mm512_load_si512(t->fifth[0]), b), high = _mm512_permutex2var_epi8(a, _mm512_load_si512(t->fifth[1]), b);
        f.low = _mm512_mask_add_epi8(f.low, _mm512_test_epi8_mask(low, bit), f.low, bytes(16));
        f.high = _mm512_mask_add_epi8(f.high, _mm512_test_epi8_mask(high, bit), f.high, bytes(16));
    }
    if (l.iq4) {
        f.low = iq4_values(f.low);
        f.high = iq4_values(f.high);
    }
    f.scales = _mm256_cvtph_ps(_mm512_castsi512_si128(_mm512_permutex2var_epi16(a, _mm512_load_si512(t->halves), b)));
    return f;
}

struct sums {
    __m512 products;
    __m256 rest; /* upper half: minimums or offsets */
};

INLINE void add_four(const struct four *f, const int8_t *q, const float *ds, struct sums *s)
{
    const __m512i spread = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    __m256 factor = _mm256_mul_ps(f->scales, _mm256_loadu_ps(ds));
    __m512i dot = _mm512_dpbusd_epi32(_mm512_setzero_si512(), f->low, _mm512_loadu_si512(q));
    dot = _mm512_dpbusd_epi32(dot, f->high, _mm512_loadu_si512(q + 64));
    s->products = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), _mm512_permutexvar_ps(spread, _mm512_castps256_ps512(factor)), s->products);
    s->rest = _mm256_add_ps(s->rest, factor);
}

/* What is to be summed over lanes. */
INLINE __m512 total(struct layout l, const struct sums *s)
{
    __m512 rest = _mm512_zextps128_ps512(_mm256_extractf128_ps(s->rest, 1));
    return l.min ? _mm512_add_ps(s->products, rest) : _mm512_fnmadd_ps(_mm512_set1_ps(l.offset), rest, s->products);
}

/* All weight rows for `rows` activation rows from `row` on. */
INLINE void few_rows(struct layout l, const struct tables *t, const struct weight *w, int64_t first, int64_t end, const struct input *in,
                     int32_t row, int rows, float *y, int64_t y_stride)
{
    const int8_t *q = in->nibble + row * in->padded;
    const float *ds = in->ds + row * (in->padded / 16);
    int64_t q_stride = in->padded, ds_stride = in->padded / 16, steps = w->in / 128;
    int blocks = (int)(w->in % 128) / 32, bytes_left = blocks * l.step, second = 4 * l.step - 64;
    __mmask64 mask = bytes_left >= 64 ? ~0ull : (1ull << bytes_left) - 1;
    __mmask64 mask_second = bytes_left > second ? (1ull << (bytes_left - second)) - 1 : 0;
    struct ends ends[8];
    for (int64_t out = first; out < end; out++) {
        struct sums s[8];
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
            s[r] = (struct sums){_mm512_setzero_ps(), _mm256_setzero_ps()};
        const unsigned char *p = w->data + out * w->row_bytes;
        int at = (int)(out - first) % 16;
        for (int64_t i = 0; i < steps; i++, p += 4 * l.step) {
            _mm_prefetch((const char *)p + FEW_AHEAD, _MM_HINT_T0);
            _mm_prefetch((const char *)p + FEW_AHEAD + 64, _MM_HINT_T0);
            struct four f = decode_four(l, t, p, 4, 0, 0);
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++)
                add_four(&f, q + r * q_stride + i * 128, ds + r * ds_stride + i * 8, s + r);
        }
        if (blocks) {
            struct four f = decode_four(l, t, p, blocks, mask, mask_second);
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++)
                add_four(&f, q + r * q_stride + steps * 128, ds + r * ds_stride + steps * 8, s + r);
        }
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
            _mm512_store_ps(ends[r].lanes[at], total(l, s + r));
        if (at == 15 || out + 1 == end)
            for (int r = 0; r < rows; r++)
                store_ends(&ends[r], at + 1, y + in->row[row + r] * y_stride + out - at);
    }
}

INLINE void few_nibbles(struct layout l, const struct tables *t, const struct weight *w, int64_t first, int64_t end, const struct input *in,
                        float *y, int64_t y_stride)
{
    int32_t row = 0, rows = in->rows;
    for (; row + 8 <= rows; row += 8) /* runs of weight rows are short enough to stay in the cache */
        few_rows(l, t, w, first, end, in, row, 8, y, y_stride);
    if (rows & 4)
        few_rows(l, t, w, first, end, in, row, 4, y, y_stride), row += 4;
    if (rows & 2)
        few_rows(l, t, w, first, end, in, row, 2, y, y_stride), row += 2;
    if (rows & 1)
        few_rows(l, t, w, first, end, in, row, 1, y, y_stride);
}

#define KERNEL(name, step_, header_, min_, high_, ...)                                                                                     \
    void avx512_few_##name(const struct weight *w, int64_t first, int64_t end, const struct input *in, float *y, int64_t y_stride, \
                           void *scratch)                                                                                    \
    {                                                                                                                        \
        static const struct tables t = TABLES(step_, header_, min_, high_);                                                          \
        (void)scratch;                                                                                                       \
        few_nibbles((struct layout){.step = step_, .header = header_, .min = min_, .high = high_, __VA_ARGS__}, &t, w, first, end, in, y, y_stride); \
    }
KERNEL(q4_0, 18, 2, false, 0, .offset = 8)
KERNEL(q4_1, 20, 4, true, 0, .offset = 0)
KERNEL(q5_0, 22, 6, false, 2, .offset = 16)
KERNEL(q5_1, 24, 8, true, 4, .offset = 0)
KERNEL(iq4_nl, 18, 2, false, 0, .iq4 = true, .offset = 128)
