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

struct tables {
    __m512i nibbles, halves;
};

/* Index into the concatenation of 64 bytes at p and 64 bytes that end with the fourth block. */
static struct tables tables_of(struct layout l)
{
    uint8_t byte[64];
    uint16_t word[32] = {0};
    int second = 4 * l.step - 64;
    for (int i = 0; i < 64; i++) {
        int at = i / 16 * l.step + l.header + i % 16;
        byte[i] = (uint8_t)(at < 64 ? at : 64 + at - second);
    }
    for (int i = 0; i < 8; i++) {
        int at = i % 4 * l.step + (l.min && i >= 4 ? 2 : 0);
        word[i] = (uint16_t)(at < 64 ? at / 2 : 32 + (at - second) / 2);
    }
    struct tables t;
    t.nibbles = _mm512_loadu_si512(byte);
    t.halves = _mm512_loadu_si512(word);
    return t;
}

struct four { /* blocks, decoded */
    __m512i low, high;
    __m256 scales; /* d0-d3, then m0-m3 or d0-d3 */
};

INLINE struct four decode_four(struct layout l, struct tables t, const unsigned char *p, int blocks)
{
    struct four f;
    __m512i a, b;
    int second = 4 * l.step - 64;
    if (blocks == 4) {
        a = _mm512_loadu_si512(p);
        b = _mm512_loadu_si512(p + second);
    } else { /* nothing behind the row is read; what is missing is zero */
        int bytes_left = blocks * l.step;
        a = _mm512_maskz_loadu_epi8(bytes_left >= 64 ? ~0ull : (1ull << bytes_left) - 1, p);
        b = _mm512_maskz_loadu_epi8(bytes_left > second ? (1ull << (bytes_left - second)) - 1 : 0, p + second);
    }
    __m512i v = _mm512_permutex2var_epi8(a, t.nibbles, b);
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
    f.scales = _mm256_cvtph_ps(_mm512_castsi512_si128(_mm512_permutex2var_epi16(a, t.halves, b)));
    return f;
}

struct sums {
    __m512 products;
    __m256 rest; /* upper half: minimums or offsets */
};

INLINE void add_four(const struct four *f, const struct input *in, int32_t row, int64_t at, struct sums *s)
{
    const __m512i spread = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    const int8_t *q = in->nibble + row * in->padded + at;
    __m256 factor = _mm256_mul_ps(f->scales, _mm256_loadu_ps(in->ds + (row * in->padded + at) / 16));
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

INLINE void few_rows(struct layout l, struct tables t, const struct weight *w, int64_t out, const struct input *in, int32_t row, int rows, float *y,
                     int64_t y_stride)
{
    struct sums s[4];
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
        s[r] = (struct sums){_mm512_setzero_ps(), _mm256_setzero_ps()};
    const unsigned char *p = w->data + out * w->row_bytes;
    int64_t at = 0;
    for (; at + 128 <= w->in; at += 128, p += 4 * l.step) {
        _mm_prefetch((const char *)p + FEW_AHEAD, _MM_HINT_T0);
        if (l.step > 16)
            _mm_prefetch((const char *)p + FEW_AHEAD + 64, _MM_HINT_T0);
        struct four f = decode_four(l, t, p, 4);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++)
            add_four(&f, in, row + r, at, s + r);
    }
    if (at < w->in) {
        struct four f = decode_four(l, t, p, (int)(w->in - at) / 32);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++)
            add_four(&f, in, row + r, at, s + r);
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
        y[(row + r) * y_stride + out] = total(l, s + r);
}

INLINE void few_nibbles(struct layout l, const struct weight *w, int64_t first, int64_t end, const struct input *in, float *y, int64_t y_stride)
{
    struct tables t = tables_of(l);
    for (int64_t out = first; out < end; out++) {
        int32_t row = 0;
        for (; row + 4 <= in->rows; row += 4)
            few_rows(l, t, w, out, in, row, 4, y, y_stride);
        int left = in->rows - row;
        if (left == 1)
            few_rows(l, t, w, out, in, row, 1, y, y_stride);
        else if (left == 2)
            few_rows(l, t, w, out, in, row, 2, y, y_stride);
        else if (left == 3)
            few_rows(l, t, w, out, in, row, 3, y, y_stride);
    }
}

#define NIBBLES(name, ...)                                                                                                   \
    void avx512_few_##name(const struct weight *w, int64_t first, int64_t end, const struct input *in, float *y, int64_t y_stride, \
                           void *scratch)                                                                                    \
    {                                                                                                                        \
        (void)scratch;                                                                                                       \
        few_nibbles((struct layout){__VA_ARGS__}, w, first, end, in, y, y_stride);                                            \
    }
NIBBLES(q4_0, .step = 18, .header = 2, .offset = 8)
NIBBLES(q4_1, .step = 20, .header = 4, .min = true)
NIBBLES(q5_0, .step = 22, .header = 6, .high = 2, .offset = 16)
NIBBLES(q5_1, .step = 24, .header = 8, .high = 4, .min = true)
NIBBLES(iq4_nl, .step = 18, .header = 2, .iq4 = true, .offset = 128)
