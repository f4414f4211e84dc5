/* few_unit.h for the types with codebooks, the ternary ones, those of 4-bit floats and of 1 or 2 bits. Points of a codebook are loaded
 * from their table as they are, which are magnitudes; their signs go to the activations. */
#include "kernels/cpu/avx2/few_unit.h"
#include "kernels/formats/fp4.h"
#include "kernels/formats/grids.h"

INLINE __m128i load_64(const unsigned char *p) { return _mm_loadl_epi64((const __m128i *)(const void *)p); }
INLINE uint64_t load_u64(const unsigned char *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
INLINE __m256i words_of(__m128i bytes) { return _mm256_cvtepu8_epi32(bytes); }

/* ---- signs ------------------------------------------------------------------------------------------------------------- */

/* 1 or -1 for each of 32 bits */
INLINE __m256i signs_of(__m256i bits) { return _mm256_or_si256(bytes_of_bits(bits), _mm256_set1_epi8(1)); }

/* Bytes of 7 bits: the eighth makes the number of set bits even. */
INLINE __m256i even_bytes(__m256i x)
{
    __m256i fold = _mm256_xor_si256(x, _mm256_srli_epi16(x, 4));
    fold = _mm256_xor_si256(fold, _mm256_srli_epi16(fold, 2));
    fold = _mm256_xor_si256(fold, _mm256_srli_epi16(fold, 1)); /* bit 0 of each byte is its own parity, what came in from above aside */
    return _mm256_or_si256(x, _mm256_and_si256(_mm256_slli_epi16(fold, 7), _mm256_set1_epi8((char)0x80)));
}

/* The same of four times 7 bits in each word. */
INLINE __m256i even_words(__m256i v)
{
    __m256i a = _mm256_and_si256(v, _mm256_set1_epi32(0x7F)), b = _mm256_and_si256(v, _mm256_set1_epi32(0x3F80));
    __m256i c = _mm256_and_si256(v, _mm256_set1_epi32(0x1FC000)), d = _mm256_and_si256(v, _mm256_set1_epi32(0xFE00000));
    __m256i x = _mm256_or_si256(_mm256_or_si256(a, _mm256_slli_epi32(b, 1)), _mm256_or_si256(_mm256_slli_epi32(c, 2), _mm256_slli_epi32(d, 3)));
    return even_bytes(x);
}

/* ---- scales ------------------------------------------------------------------------------------------------------------ */

INLINE __m256 scaled(__m256i numbers, float plus, float d) { return _mm256_mul_ps(_mm256_add_ps(_mm256_cvtepi32_ps(numbers), _mm256_set1_ps(plus)), _mm256_set1_ps(d)); }

/* 16 nibbles of 8 bytes, low ones first, as 2 * nibble + 1 */
INLINE __m256i odd_nibbles(const unsigned char *p)
{
    __m128i v = load_64(p), low = _mm_set1_epi8(15);
    v = _mm_unpacklo_epi8(_mm_and_si128(v, low), _mm_and_si128(_mm_srli_epi16(v, 4), low));
    return both(_mm_add_epi8(_mm_add_epi8(v, v), _mm_set1_epi8(1)));
}

/* ---- points ------------------------------------------------------------------------------------------------------------ */

/* Broadcasts from memory and blends take no port that permutes. */
INLINE __m256i four_points(const uint64_t *grid, unsigned a, unsigned b, unsigned c, unsigned d)
{
    __m256i low = _mm256_blend_epi32(_mm256_set1_epi64x((long long)grid[a]), _mm256_set1_epi64x((long long)grid[b]), 0x0C);
    __m256i high = _mm256_blend_epi32(_mm256_set1_epi64x((long long)grid[c]), _mm256_set1_epi64x((long long)grid[d]), 0xC0);
    return _mm256_blend_epi32(low, high, 0xF0);
}

INLINE __m256i two_small(const uint32_t *grid, unsigned a, unsigned b) { return _mm256_blend_epi32(_mm256_set1_epi32((int)grid[a]), _mm256_set1_epi32((int)grid[b]), 0xAA); }
INLINE __m256i four_small(const uint32_t *grid, unsigned a, unsigned b, unsigned c, unsigned d) { return _mm256_blend_epi32(two_small(grid, a, b), two_small(grid, c, d), 0xCC); }

/* Points of 8 weights whose indices are four bytes, continued by bits of mask >> 8 in four fields of `group`, `field` bits apart. */
INLINE __m256i points_above(const uint64_t *grid, const unsigned char *low, unsigned group, int field, int mask)
{
    __m128i above = _mm_srlv_epi32(_mm_set1_epi32((int)(group << 8)), _mm_setr_epi32(0, field, 2 * field, 3 * field));
    __m128i index = _mm_or_si128(_mm_cvtepu8_epi32(_mm_cvtsi32_si128((int)load_u32(low))), _mm_and_si128(above, _mm_set1_epi32(mask)));
    uint64_t a = (uint64_t)_mm_cvtsi128_si64(index), b = (uint64_t)_mm_extract_epi64(index, 1);
    return four_points(grid, (uint32_t)a, a >> 32, (uint32_t)b, b >> 32);
}

/* ---- codebooks --------------------------------------------------------------------------------------------------------- */

INLINE struct unit unit_iq2_xxs(const unsigned char *p, int blocks)
{
    (void)blocks;
    /* groups of four indices and 28 bits of signs below four of the scale: the latter words of all */
    __m256 a = _mm256_castsi256_ps(load_256(p + 2)), b = _mm256_castsi256_ps(load_256(p + 34));
    __m256i bits = _mm256_permute4x64_epi64(_mm256_castps_si256(_mm256_shuffle_ps(a, b, 0xDD)), 0xD8);
    return (struct unit){.d = scaled(_mm256_srli_epi32(bits, 28), 0.5f, half_of(p) / 4), .signs = even_words(bits)};
}
INLINE struct codes read_iq2_xxs(const unsigned char *p, const uint32_t *signs, int block)
{
    const unsigned char *i = p + 2 + 8 * block;
    return (struct codes){four_points(grid_iq2_xxs, i[0], i[1], i[2], i[3]), signs_of(_mm256_set1_epi32((int)signs[block]))};
}

INLINE struct unit unit_iq2_xs(const unsigned char *p, int blocks)
{
    (void)blocks;
    __m256i a = _mm256_srli_epi16(load_256(p + 2), 9), b = _mm256_srli_epi16(load_256(p + 34), 9);
    return (struct unit){.d = _mm256_set1_ps(half_of(p) / 8), .scales = odd_nibbles(p + 66),
                         .signs = even_bytes(_mm256_permute4x64_epi64(_mm256_packus_epi16(a, b), 0xD8))};
}
INLINE struct codes read_iq2_xs(const unsigned char *p, const uint32_t *signs, int block)
{
    uint64_t w = load_u64(p + 2 + 8 * block);
    return (struct codes){four_points(grid_iq2_xs, w & 511, w >> 16 & 511, w >> 32 & 511, w >> 48 & 511), signs_of(_mm256_set1_epi32((int)signs[block]))};
}

INLINE struct unit unit_iq2_s(const unsigned char *p, int blocks)
{
    (void)blocks;
    return (struct unit){.d = _mm256_set1_ps(half_of(p) / 8), .scales = odd_nibbles(p + 74)};
}
INLINE struct codes read_iq2_s(const unsigned char *p, const uint32_t *signs, int block)
{
    __m256i sign = signs_of(_mm256_set1_epi32((int)load_u32(p + 34 + 4 * block)));
    return (void)signs, (struct codes){points_above(grid_iq2_s, p + 2 + 4 * block, p[66 + block], 2, 0x300), sign};
}

INLINE struct unit unit_iq3_xxs(const unsigned char *p, int blocks)
{
    (void)blocks;
    __m256i bits = load_256(p + 66);
    return (struct unit){.d = scaled(_mm256_srli_epi32(bits, 28), 0.5f, half_of(p) / 2), .signs = even_words(bits)};
}
INLINE struct codes read_iq3_xxs(const unsigned char *p, const uint32_t *signs, int block)
{
    const unsigned char *i = p + 2 + 8 * block;
    __m256i code = _mm256_blend_epi32(four_small(grid_iq3_xxs, i[0], i[1], i[2], i[3]), four_small(grid_iq3_xxs, i[4], i[5], i[6], i[7]), 0xF0);
    return (struct codes){code, signs_of(_mm256_set1_epi32((int)signs[block]))};
}

INLINE struct unit unit_iq3_s(const unsigned char *p, int blocks)
{
    (void)blocks;
    const __m256i nibble = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
    __m256i scales = _mm256_and_si256(_mm256_srlv_epi32(_mm256_set1_epi32((int)load_u32(p + 106)), nibble), _mm256_set1_epi32(15));
    return (struct unit){.d = scaled(_mm256_add_epi32(scales, scales), 1, half_of(p))};
}
INLINE struct codes read_iq3_s(const unsigned char *p, const uint32_t *signs, int block)
{
    const unsigned char *i = p + 2 + 8 * block;
    unsigned ninth = p[66 + block];
#define INDEX(k) (i[k] | (ninth << (8 - (k)) & 0x100))
    __m256i code = _mm256_blend_epi32(four_small(grid_iq3_s, INDEX(0), INDEX(1), INDEX(2), INDEX(3)),
                                      four_small(grid_iq3_s, INDEX(4), INDEX(5), INDEX(6), INDEX(7)), 0xF0);
#undef INDEX
    return (void)signs, (struct codes){code, signs_of(_mm256_set1_epi32((int)load_u32(p + 74 + 4 * block)))};
}

/* A point of IQ1 is 8 * (grid + 1), of which 9 or 7 are taken away: as a minimum. */
INLINE struct unit unit_iq1_s(const unsigned char *p, int blocks)
{
    (void)blocks;
    __m256i groups = _mm256_cvtepu16_epi32(load_128(p + 34));
    __m256i scales = _mm256_and_si256(_mm256_srli_epi32(groups, 11), _mm256_set1_epi32(14)), down = _mm256_srli_epi32(groups, 15);
    struct unit u = {.d = scaled(scales, 1, half_of(p) / 8)};
    u.min[0] = _mm256_mul_ps(u.d, scaled(down, 3.5f, -2)); /* -7 or -9 */
    return u;
}
INLINE struct codes read_iq1_s(const unsigned char *p, const uint32_t *signs, int block)
{
    return (void)signs, unsigned_codes(points_above(grid_iq1_s, p + 2 + 4 * block, load_u16(p + 34 + 2 * block), 3, 0x700));
}

INLINE struct unit unit_iq1_m(const unsigned char *p, int blocks)
{
    (void)blocks;
    const __m256i field = _mm256_setr_epi32(0, 3, 6, 9, 16, 19, 22, 25), seven = _mm256_set1_epi32(7);
    __m256i low = _mm256_and_si256(_mm256_srlv_epi32(_mm256_set1_epi32((int)load_u32(p + 48)), field), seven);
    __m256i high = _mm256_and_si256(_mm256_srlv_epi32(_mm256_set1_epi32((int)load_u32(p + 52)), field), seven);
    float d = half_to_float(iq1_m_half(p)) / 8;
    struct unit u = {.d16 = {scaled(_mm256_add_epi32(low, low), 1, d), scaled(_mm256_add_epi32(high, high), 1, d)}};
#pragma GCC unroll 2
    for (int k = 0; k < 2; k++)
        u.min[k] = _mm256_mul_ps(u.d16[k], _mm256_set1_ps(-9));
    return u;
}
INLINE struct codes read_iq1_m(const unsigned char *p, const uint32_t *signs, int block)
{
    static const uint64_t up[2] = {0x0202020202020202, 0};
    unsigned g = load_u16(p + 32 + 2 * block);
    __m256i shift = four_points(up, g >> 3 & 1, g >> 7 & 1, g >> 11 & 1, g >> 15);
    return (void)signs, unsigned_codes(_mm256_add_epi8(points_above(grid_iq1_s, p + 4 * block, g, 4, 0x700), shift));
}

/* ---- ternary, one and two bits ------------------------------------------------------------------------------------------ */

INLINE struct unit unit_tq2_0(const unsigned char *p, int blocks) { return (void)blocks, (struct unit){.d = _mm256_set1_ps(half_of(p + 64))}; }
INLINE struct codes read_tq2_0(const unsigned char *p, const uint32_t *signs, int block) { return (void)signs, unsigned_codes(two_bits(p, block)); }

/* 2 less the first digit of bytes, which is how many of 85 and 170 they are above. As signed bytes, which compare in one go. */
INLINE __m256i first_digit(__m256i v)
{
    __m256i moved = _mm256_xor_si256(v, _mm256_set1_epi8((char)0x80)), one = _mm256_cmpgt_epi8(moved, _mm256_set1_epi8(85 - 128));
    return _mm256_add_epi8(_mm256_add_epi8(one, _mm256_cmpgt_epi8(moved, _mm256_set1_epi8(170 - 128))), _mm256_set1_epi8(2));
}
INLINE __m256i threefold(__m256i v) { return _mm256_add_epi8(v, _mm256_add_epi8(v, v)); }

INLINE struct unit unit_tq1_0(const unsigned char *p, int blocks) { return (void)blocks, (struct unit){.d = _mm256_set1_ps(-half_of(p + 52))}; }

/* Five digits of 32 bytes, five of 16, four of 4. */
INLINE struct codes read_tq1_0(const unsigned char *p, const uint32_t *signs, int block)
{
    (void)signs;
    __m256i v;
    if (block < 5) {
        v = load_256(p);
        for (int k = 0; k < block; k++)
            v = threefold(v);
    } else {
        __m128i first = load_128(p + 32), second = _mm_add_epi8(first, _mm_add_epi8(first, first));
        v = _mm256_set_m128i(second, first);
        for (int k = 5; k < block; k++)
            v = threefold(threefold(v));
        if (block == 7) {
            __m128i once = _mm_set1_epi32((int)load_u32(p + 48)), odd = _mm_add_epi8(once, _mm_add_epi8(once, once));
            __m128i nine = _mm_add_epi8(odd, _mm_add_epi8(odd, odd)), most = _mm_add_epi8(nine, _mm_add_epi8(nine, nine));
            __m128i last = _mm_blend_epi32(_mm_blend_epi32(once, odd, 2), _mm_blend_epi32(nine, most, 8), 12);
            v = _mm256_inserti128_si256(v, last, 1);
        }
    }
    return unsigned_codes(first_digit(v));
}

/* blocks of 128: a scale, a bit for each weight */
INLINE struct unit unit_q1_0(const unsigned char *p, int blocks)
{
    __m128 a = _mm_set1_ps(half_of(p)), b = _mm_set1_ps(blocks > 4 ? half_of(p + 18) : 0);
    return (struct unit){.d = _mm256_set_m128(b, a)};
}
INLINE struct codes read_q1_0(const unsigned char *p, const uint32_t *signs, int block)
{
    __m256i bits = _mm256_set1_epi32((int)load_u32(p + 18 * (block / 4) + 2 + 4 * (block % 4)));
    return (void)signs, unsigned_codes(_mm256_and_si256(bytes_of_bits(bits), _mm256_set1_epi8(2)));
}

/* blocks of 64: a scale, four weights in a byte */
INLINE struct unit unit_q2_0(const unsigned char *p, int blocks)
{
    __m256 four = halves_at(p, 18, blocks / 2);
    return (struct unit){.d = _mm256_permutevar8x32_ps(four, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3))};
}
INLINE struct codes read_q2_0(const unsigned char *p, const uint32_t *signs, int block)
{
    __m256i v = words_of(load_64(p + 18 * (block / 2) + 2 + 8 * (block % 2)));
    v = _mm256_and_si256(_mm256_or_si256(v, _mm256_slli_epi32(v, 12)), _mm256_set1_epi32(0x000F000F));
    v = _mm256_and_si256(_mm256_or_si256(v, _mm256_slli_epi32(v, 6)), _mm256_set1_epi32(0x03030303));
    return (void)signs, unsigned_codes(v);
}

/* ---- 4-bit floats ------------------------------------------------------------------------------------------------------- */

INLINE struct codes fp4_codes(__m256i index) { return signed_codes(_mm256_shuffle_epi8(both(load_128(fp4_doubled)), index)); }

/* e8m0_half() of eight exponents: below 2 subnormals */
INLINE __m256 e8m0_halves(__m128i bytes)
{
    __m256i e = words_of(bytes), one = _mm256_set1_epi32(1);
    __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, one), 23), small = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), e);
    return _mm256_castsi256_ps(_mm256_blendv_epi8(small, normal, _mm256_cmpgt_epi32(e, one)));
}

INLINE struct unit unit_mxfp4(const unsigned char *p, int blocks)
{
    __m128i e = _mm_setzero_si128();
#define EXPONENT(i) e = (i) < blocks ? _mm_insert_epi8(e, p[17 * (i)], i) : e
    EXPONENT(0), EXPONENT(1), EXPONENT(2), EXPONENT(3), EXPONENT(4), EXPONENT(5), EXPONENT(6), EXPONENT(7);
#undef EXPONENT
    return (struct unit){.d = e8m0_halves(e)};
}
INLINE struct codes read_mxfp4(const unsigned char *p, const uint32_t *signs, int block) { return (void)signs, fp4_codes(nibbles(load_128(p + 17 * block + 1))); }

/* halves of eight E4M3 values, see fp4.h */
INLINE __m256 ue4m3_halves(__m128i bytes)
{
    __m256i s = _mm256_and_si256(words_of(bytes), _mm256_set1_epi32(0x7F));
    s = _mm256_andnot_si256(_mm256_cmpeq_epi32(s, _mm256_set1_epi32(0x7F)), s);
    return _mm256_mul_ps(_mm256_castsi256_ps(_mm256_slli_epi32(s, 20)), _mm256_set1_ps(0x1p119f));
}

/* blocks of 64: four scales, then 8 bytes each */
INLINE struct unit unit_nvfp4(const unsigned char *p, int blocks)
{
    __m128i s[4];
#pragma GCC unroll 4
    for (int b = 0; b < 4; b++)
        s[b] = _mm_cvtsi32_si128(2 * b < blocks ? (int)load_u32(p + 36 * b) : 0);
    return (struct unit){.d16 = {ue4m3_halves(_mm_unpacklo_epi32(s[0], s[1])), ue4m3_halves(_mm_unpacklo_epi32(s[2], s[3]))}};
}
INLINE struct codes read_nvfp4(const unsigned char *p, const uint32_t *signs, int block)
{
    __m128i v = load_128(p + 36 * (block / 2) + 4 + 16 * (block % 2)), fifteen = _mm_set1_epi8(15);
    __m128i low = _mm_and_si128(v, fifteen), high = _mm_and_si128(_mm_srli_epi16(v, 4), fifteen);
    return (void)signs, fp4_codes(_mm256_set_m128i(_mm_unpackhi_epi64(low, high), _mm_unpacklo_epi64(low, high)));
}

/* ---- the kernels -------------------------------------------------------------------------------------------------------- */

KERNEL(iq2_xxs, .bytes = 66, .group = 32, .is_signed = true, .signs = true)
KERNEL(iq2_xs, .bytes = 74, .group = 16, .integers = true, .is_signed = true, .signs = true)
KERNEL(iq2_s, .bytes = 82, .group = 16, .integers = true, .is_signed = true)
KERNEL(iq3_xxs, .bytes = 98, .group = 32, .is_signed = true, .signs = true)
KERNEL(iq3_s, .bytes = 110, .group = 32, .is_signed = true)
KERNEL(iq1_s, .bytes = 50, .group = 32, .min = true)
KERNEL(iq1_m, .bytes = 56, .group = 16, .min = true)
KERNEL(tq1_0, .bytes = 54, .group = 32, .offset = 1)
KERNEL(tq2_0, .bytes = 66, .group = 32, .offset = 1)
KERNEL(q1_0, .bytes = 36, .group = 32, .offset = 1)
KERNEL(q2_0, .bytes = 72, .group = 32, .offset = 1)
KERNEL(mxfp4, .bytes = 136, .group = 32, .is_signed = true)
KERNEL(nvfp4, .bytes = 144, .group = 16, .is_signed = true)
