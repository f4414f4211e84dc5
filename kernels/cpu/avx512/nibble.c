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
};
#define TABLES(step, header, min) {{NIBBLES_64(step, header)}, {HALVES_8(step, min)}}

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
    } else { /* nothing behind the row is read; what is missing is zero */
        a = _mm512_maskz_loadu_epi8(first, p);
        b = _mm512_maskz_loadu_epi8(last, p + second);
    }
    __m512i v = _mm512_permutex2var_epi8(a, _mm512_load_si512(t->nibbles), b);
    f.low = _mm512_and_si512(v, bytes(15));
    f.high = _mm512_and_si512(_mm512_srli_epi16(v, 4), bytes(15));
    if (l.high) {
        uint64_t low = 0, high = 0;
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            if (i < blocks) {
                uint64_t bits = load_u32(p + i * l.step + l.high);
                low |= (bits & 0xFFFF) << (16 * i);
                high |= (bits >> 16) << (16 * i);
            }
        f.low = _mm512_mask_add_epi8(f.low, low, f.low, bytes(16));
        f.high = _mm512_mask_add_epi8(f.high, high, f.high, bytes(16));
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

INLINE float total(struct layout l, const struct sums *s)
{
    __m128 rest = _mm256_extractf128_ps(s->rest, 1);
    rest = _mm_add_ps(rest, _mm_movehl_ps(rest, rest));
    rest = _mm_add_ss(rest, _mm_movehdup_ps(rest));
    float r = _mm_cvtss_f32(rest), p = _mm512_reduce_add_ps(s->products);
    return l.min ? p + r : p - l.offset * r;
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
    for (int64_t out = first; out < end; out++) {
        struct sums s[4];
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++)
            s[r] = (struct sums){_mm512_setzero_ps(), _mm256_setzero_ps()};
        const unsigned char *p = w->data + out * w->row_bytes;
        for (int64_t i = 0; i < steps; i++, p += 4 * l.step) {
            _mm_prefetch((const char *)p + FEW_AHEAD, _MM_HINT_T0);
            _mm_prefetch((const char *)p + FEW_AHEAD + 64, _MM_HINT_T0);
            struct four f = decode_four(l, t, p, 4, 0, 0);
#pragma GCC unroll 4
            for (int r = 0; r < rows; r++)
                add_four(&f, q + r * q_stride + i * 128, ds + r * ds_stride + i * 8, s + r);
        }
        if (blocks) {
            struct four f = decode_four(l, t, p, blocks, mask, mask_second);
#pragma GCC unroll 4
            for (int r = 0; r < rows; r++)
                add_four(&f, q + r * q_stride + steps * 128, ds + r * ds_stride + steps * 8, s + r);
        }
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++)
            y[in->row[row + r] * y_stride + out] = total(l, s + r);
    }
}

INLINE void few_nibbles(struct layout l, const struct tables *t, const struct weight *w, int64_t first, int64_t end, const struct input *in,
                        float *y, int64_t y_stride)
{
    int32_t row = 0;
    for (; row + 4 <= in->rows; row += 4) /* runs of weight rows are short enough to stay in the cache */
        few_rows(l, t, w, first, end, in, row, 4, y, y_stride);
    int left = in->rows - row;
    if (left == 1)
        few_rows(l, t, w, first, end, in, row, 1, y, y_stride);
    else if (left == 2)
        few_rows(l, t, w, first, end, in, row, 2, y, y_stride);
    else if (left == 3)
        few_rows(l, t, w, first, end, in, row, 3, y, y_stride);
}

#define KERNEL(name, step_, header_, min_, ...)                                                                                     \
    void avx512_few_##name(const struct weight *w, int64_t first, int64_t end, const struct input *in, float *y, int64_t y_stride, \
                           void *scratch)                                                                                    \
    {                                                                                                                        \
        static const struct tables t = TABLES(step_, header_, min_);                                                          \
        (void)scratch;                                                                                                       \
        few_nibbles((struct layout){.step = step_, .header = header_, .min = min_, __VA_ARGS__}, &t, w, first, end, in, y, y_stride); \
    }
KERNEL(q4_0, 18, 2, false, .offset = 8)
KERNEL(q4_1, 20, 4, true, .offset = 0)
KERNEL(q5_0, 22, 6, false, .high = 2, .offset = 16)
KERNEL(q5_1, 24, 8, true, .high = 4)
KERNEL(iq4_nl, 18, 2, false, .iq4 = true, .offset = 128)
