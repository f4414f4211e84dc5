/* Activations for the panels of bytes: FORM_APART.
 *
 * A row's usual block of 32 values has 8 bits. A block whose largest value is over WIDE_APART times the usual one has 16: the
 * low byte stands among the others, the high byte apart, where rows that have one in the same block stand together again.
 * So outliers cost what they are, however they lie: in a tile of six rows one wide row would make six.
 *
 * A block's scale is rounded up to a sum of two powers of two, 10 % more (the root of the mean square): then weight scale times it is
 * an addition (vscalefps), and adders are idle while dot products keep both multipliers busy (many.c). */
#include <math.h>

#include "kernels/cpu/avx512/few.h"

/* In units of a row's usual largest value. Relative error of SmolLM2's logits: 5.6e-3 (at 2: 6.7e-3, with exact scales 5.8e-3). */
#define WIDE_APART 1.75f

enum { BLOCKS_AT_ONCE = 16 };

/* The 32 values of block b, zeros behind the row's end. */
INLINE void load_block(const float *x, int64_t n, int64_t b, __m512 v[2])
{
    for (int i = 0; i < 2; i++) {
        int64_t left = n - 32 * b - 16 * i;
        __mmask16 there = left >= 16 ? 0xFFFF : left > 0 ? (__mmask16)((1u << left) - 1) : 0;
        v[i] = _mm512_maskz_loadu_ps(there, x + 32 * b + 16 * i);
    }
}

/* The largest value of each block; whether any is NaN or infinite. largest: [whole units] */
static bool find_largest(const float *x, int64_t n, int64_t blocks, float *largest)
{
    __m512 broken = _mm512_setzero_ps(); /* x * 0 is NaN for NaN and infinity; comparisons would drop it */
    for (int64_t b = 0; b < blocks; b += BLOCKS_AT_ONCE) {
        int count = blocks - b < BLOCKS_AT_ONCE ? (int)(blocks - b) : BLOCKS_AT_ONCE;
        __m512 most = _mm512_setzero_ps(); /* stored at once: a vector that is read must not have been written in parts */
        for (int i = 0; i < count; i++) {
            __m512 v[2];
            load_block(x, n, b + i, v);
            broken = _mm512_fmadd_ps(v[0], _mm512_setzero_ps(), _mm512_fmadd_ps(v[1], _mm512_setzero_ps(), broken));
            float one = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(v[0]), _mm512_abs_ps(v[1])));
            most = _mm512_mask_mov_ps(most, (__mmask16)(1u << i), _mm512_set1_ps(one));
        }
        _mm512_mask_storeu_ps(largest + b, (__mmask16)((1u << count) - 1), most);
    }
    float sum = _mm512_reduce_add_ps(broken);
    return sum != sum;
}

/* As wide_limit() in wide/input.h: over it a block is wide; the usual largest value is the mean of those under it. */
static float find_limit(const float *largest, int64_t blocks)
{
    float limit = INFINITY;
    for (int round = 0; round < 4; round++) {
        __m512 sum = _mm512_setzero_ps();
        int64_t count = 0;
        for (int64_t b = 0; b < blocks; b += BLOCKS_AT_ONCE) {
            __mmask16 there = blocks - b >= BLOCKS_AT_ONCE ? 0xFFFF : (__mmask16)((1u << (blocks - b)) - 1);
            __m512 v = _mm512_maskz_loadu_ps(there, largest + b);
            __mmask16 usual = _mm512_cmp_ps_mask(v, _mm512_set1_ps(limit), _CMP_LE_OQ) & _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_GT_OQ);
            sum = _mm512_mask_add_ps(sum, usual, sum, v);
            count += __builtin_popcount(usual);
        }
        limit = count ? WIDE_APART * _mm512_reduce_add_ps(sum) / (float)count : limit;
    }
    return limit;
}

/* Largest values to scales, in place and to d [block][PACK_ROWS]; the exponents of their powers to e [block][2][PACK_ROWS]. NaN where the row is broken. */
static void find_scales(float *largest, int64_t blocks, float limit, bool broken, float *d, float *e)
{
    const __m512i power = _mm512_set1_epi32(0x7F800000), places = _mm512_setr_epi32(0, 6, 12, 18, 24, 30, 36, 42, 48, 54, 60, 66, 72, 78, 84, 90);
    _Static_assert(PACK_ROWS == 6, "places");
    for (int64_t b = 0; b < blocks; b += BLOCKS_AT_ONCE) {
        __mmask16 there = blocks - b >= BLOCKS_AT_ONCE ? 0xFFFF : (__mmask16)((1u << (blocks - b)) - 1);
        __m512 v = _mm512_maskz_loadu_ps(there, largest + b);
        __mmask16 wide = _mm512_cmp_ps_mask(v, _mm512_set1_ps(limit), _CMP_GT_OQ);
        __m512 least = _mm512_mul_ps(v, _mm512_mask_blend_ps(wide, _mm512_set1_ps(1.0f / 127), _mm512_set1_ps(1.0f / (127 * 256))));
        /* below this a reciprocal would be infinite: such a block is as good as zero */
        least = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(v, _mm512_set1_ps(1e-30f), _CMP_GT_OQ), least);
        __m512 first = _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(least), power));
        __m512i rest = _mm512_castps_si512(_mm512_sub_ps(least, first));
        __m512 second = _mm512_castsi512_ps(_mm512_and_si512(_mm512_add_epi32(rest, _mm512_set1_epi32(0x7FFFFF)), power));
        __m512 scale = _mm512_add_ps(first, second), e0 = _mm512_getexp_ps(first), e1 = _mm512_getexp_ps(second);
        if (broken)
            scale = e0 = e1 = _mm512_set1_ps(NAN);
        _mm512_mask_storeu_ps(largest + b, there, scale);
        _mm512_mask_i32scatter_ps(d + b * PACK_ROWS, there, places, scale, 4);
        _mm512_mask_i32scatter_ps(e + 2 * b * PACK_ROWS, there, places, e0, 8);
        _mm512_mask_i32scatter_ps(e + (2 * b + 1) * PACK_ROWS, there, places, e1, 8);
    }
}

/* A block as integers of its scale. */
INLINE void round_block(const float *x, int64_t n, int64_t b, float scale, __m512i q[2])
{
    __m512 v[2], inverse = _mm512_set1_ps(scale > 0 ? 1 / scale : 0);
    load_block(x, n, b, v);
    for (int i = 0; i < 2; i++)
        q[i] = _mm512_cvtps_epi32(_mm512_mul_ps(v[i], inverse));
}

/* Bytes + 128: the low ones, and what is then left for the high ones. */
INLINE __m256i low_bytes(const __m512i q[2])
{
    return _mm256_xor_si256(_mm256_set_m128i(_mm512_cvtepi32_epi8(q[1]), _mm512_cvtepi32_epi8(q[0])), _mm256_set1_epi8((char)0x80));
}

INLINE __m256i high_bytes(const __m512i q[2])
{
    const __m512i half = _mm512_set1_epi32(128);
    __m512i high[2] = {_mm512_srai_epi32(_mm512_add_epi32(q[0], half), 8), _mm512_srai_epi32(_mm512_add_epi32(q[1], half), 8)};
    return low_bytes(high);
}

/* 32 bytes to [8][PACK_ROWS][4] */
INLINE void place_bytes(__m256i bytes, uint8_t *to)
{
    _Alignas(32) uint32_t word[8];
    _mm256_store_si256((__m256i *)(void *)word, bytes);
    for (int k = 0; k < 8; k++)
        memcpy(to + 4 * k * PACK_ROWS, word + k, 4);
}

/* Sums of bytes + 128 over 16 of them: in lanes 0 and 2. */
INLINE __m256i sums(__m256i bytes)
{
    __m256i sum = _mm256_sad_epu8(bytes, _mm256_setzero_si256());
    return _mm256_add_epi64(sum, _mm256_unpackhi_epi64(sum, sum));
}

static void pack_row(struct input *in, int32_t tile, int r)
{
    int64_t blocks = in->padded / 32, row = (int64_t)tile * PACK_ROWS + r, n = row < in->rows ? in->n : 0;
    const float *x = in->floats + in->from[row < in->rows ? row : 0] * in->float_stride;
    uint8_t *low = in->p8 + tile * in->padded * PACK_ROWS + 4 * r, *wide = in->wide + tile * blocks;
    float *d = in->d + row * blocks, *s = in->ps + tile * blocks * PACK_ROWS + r, *s16 = in->ps16 + 2 * tile * blocks * PACK_ROWS + r;
    bool broken = find_largest(x, n, blocks, d);
    float limit = find_limit(d, blocks);
    for (int64_t b = 0; b < blocks; b++)
        wide[b] |= (uint8_t)((d[b] > limit && !broken) << r);
    find_scales(d, blocks, limit, broken, in->pd + tile * blocks * PACK_ROWS + r, in->pe + 2 * tile * blocks * PACK_ROWS + r);
    for (int64_t b = 0; b < blocks; b++) {
        __m512i q[2];
        round_block(x, n, b, d[b], q);
        __m256i bytes = low_bytes(q), sum = sums(bytes);
        place_bytes(bytes, low + 32 * b * PACK_ROWS);
        int32_t first = _mm256_extract_epi32(sum, 0) - 16 * 128, second = _mm256_extract_epi32(sum, 4) - 16 * 128;
        if (wide[b] >> r & 1) {
            sum = sums(high_bytes(q));
            first += 256 * (_mm256_extract_epi32(sum, 0) - 16 * 128);
            second += 256 * (_mm256_extract_epi32(sum, 4) - 16 * 128);
        }
        s[b * PACK_ROWS] = d[b] * (float)(first + second);
        s16[2 * b * PACK_ROWS] = d[b] * (float)first;
        s16[(2 * b + 1) * PACK_ROWS] = d[b] * (float)second;
    }
}

void avx512_pack(struct input *in, int32_t tile)
{
    memset(in->wide + tile * (in->padded / 32), 0, (size_t)(in->padded / 32));
    for (int r = 0; r < PACK_ROWS; r++)
        pack_row(in, tile, r);
}

void avx512_gather(struct input *in, int64_t b)
{
    int32_t tiles = (in->rows + PACK_ROWS - 1) / PACK_ROWS, count = 0;
    int64_t blocks = in->padded / 32, packed = (int64_t)tiles * PACK_ROWS;
    uint8_t *high = in->high + b * 32 * packed;
    int32_t *to = in->high_row + b * packed;
    float *d = in->high_d + b * packed;
    for (int32_t tile = 0; tile < tiles; tile++)
        for (unsigned rows = in->wide[tile * blocks + b]; rows; rows &= rows - 1, count++) {
            int64_t row = (int64_t)tile * PACK_ROWS + __builtin_ctz(rows);
            __m512i q[2];
            round_block(in->floats + in->from[row] * in->float_stride, in->n, b, in->d[row * blocks + b], q);
            place_bytes(high_bytes(q), high + count / PACK_ROWS * 32 * PACK_ROWS + count % PACK_ROWS * 4);
            to[count] = (int32_t)row;
            d[count] = 256 * in->d[row * blocks + b];
        }
    in->high_rows[b] = count;
    for (; count % PACK_ROWS; count++) { /* a row that nobody reads */
        place_bytes(_mm256_set1_epi8((char)0x80), high + count / PACK_ROWS * 32 * PACK_ROWS + count % PACK_ROWS * 4);
        to[count] = (int32_t)packed;
        d[count] = 0;
    }
}
