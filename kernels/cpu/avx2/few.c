/* few_unit.h for the formats of 32-blocks, the k-quants and IQ4. */
#include "kernels/cpu/avx2/few_unit.h"

/* 32 bits -> 16 in the bytes whose bit is set */
INLINE __m256i fifth_bits(uint32_t bits) { return _mm256_and_si256(bytes_of_bits(_mm256_set1_epi32((int)bits)), _mm256_set1_epi8(16)); }

INLINE __m256i iq4_codes(__m256i index)
{
    static const int8_t table[16] __attribute__((aligned(16))) = IQ4_VALUES;
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(load_128(table)), index);
}

/* ---- blocks of 32 with a float scale ----------------------------------------------------------------------------------- */

INLINE struct unit plain(const unsigned char *p, int step, int blocks) { return (struct unit){.d = halves_at(p, step, blocks)}; }
INLINE struct unit with_min(const unsigned char *p, int step, int blocks)
{
    return (struct unit){.d = halves_at(p, step, blocks), .min = {halves_at(p + 2, step, blocks)}};
}
INLINE struct unit unit_q4_0(const unsigned char *p, int blocks) { return plain(p, 18, blocks); }
INLINE struct unit unit_q4_1(const unsigned char *p, int blocks) { return with_min(p, 20, blocks); }
INLINE struct unit unit_q5_0(const unsigned char *p, int blocks) { return plain(p, 22, blocks); }
INLINE struct unit unit_q5_1(const unsigned char *p, int blocks) { return with_min(p, 24, blocks); }
INLINE struct unit unit_q8_0(const unsigned char *p, int blocks) { return plain(p, 34, blocks); }
INLINE struct unit unit_iq4_nl(const unsigned char *p, int blocks) { return plain(p, 18, blocks); }

INLINE __m256i codes_q4_0(const unsigned char *p, int b) { return nibbles(load_128(p + 18 * b + 2)); }
INLINE __m256i codes_q4_1(const unsigned char *p, int b) { return nibbles(load_128(p + 20 * b + 4)); }
INLINE __m256i codes_q5_0(const unsigned char *p, int b) { return _mm256_or_si256(nibbles(load_128(p + 22 * b + 6)), fifth_bits(load_u32(p + 22 * b + 2))); }
INLINE __m256i codes_q5_1(const unsigned char *p, int b) { return _mm256_or_si256(nibbles(load_128(p + 24 * b + 8)), fifth_bits(load_u32(p + 24 * b + 4))); }
INLINE __m256i codes_q8_0(const unsigned char *p, int b) { return load_256(p + 34 * b + 2); }
INLINE __m256i codes_iq4_nl(const unsigned char *p, int b) { return iq4_codes(nibbles(load_128(p + 18 * b + 2))); }

/* ---- units of 256 with integer scales ------------------------------------------------------------------------------------ */

INLINE __m256 floats_of(__m128i bytes) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)); }

/* scales and minimums of Q4_K and Q5_K: see k_scales in formats/small.h */
INLINE struct unit unit_k(const unsigned char *p)
{
    uint32_t a = load_u32(p + 4), b = load_u32(p + 8), c = load_u32(p + 12);
    uint64_t scale = (uint64_t)(a & 0x3F3F3F3F) | (uint64_t)((c & 0x0F0F0F0F) | (a >> 2 & 0x30303030)) << 32;
    uint64_t min = (uint64_t)(b & 0x3F3F3F3F) | (uint64_t)((c >> 4 & 0x0F0F0F0F) | (b >> 2 & 0x30303030)) << 32;
    struct unit u = {.d = _mm256_set1_ps(half_of(p))};
    __m128i eight = _mm_cvtsi64_si128((long long)scale);
    u.scales = both(_mm_unpacklo_epi8(eight, eight)); /* each twice */
    u.min[0] = _mm256_mul_ps(floats_of(_mm_cvtsi64_si128((long long)min)), _mm256_set1_ps(-half_of(p + 2)));
    return u;
}
INLINE struct unit unit_q4_k(const unsigned char *p, int blocks) { return (void)blocks, unit_k(p); }
INLINE struct unit unit_q5_k(const unsigned char *p, int blocks) { return (void)blocks, unit_k(p); }

INLINE __m256i codes_q4_k(const unsigned char *p, int block)
{
    __m256i v = load_256(p + 16 + block / 2 * 32);
    return _mm256_and_si256(block % 2 ? _mm256_srli_epi16(v, 4) : v, _mm256_set1_epi8(15));
}

INLINE __m256i codes_q5_k(const unsigned char *p, int block)
{
    __m256i v = load_256(p + 48 + block / 2 * 32), bit = _mm256_set1_epi8((char)(1 << block));
    __m256i fifth = _mm256_cmpeq_epi8(_mm256_and_si256(load_256(p + 16), bit), bit);
    v = _mm256_and_si256(block % 2 ? _mm256_srli_epi16(v, 4) : v, _mm256_set1_epi8(15));
    return _mm256_or_si256(v, _mm256_and_si256(fifth, _mm256_set1_epi8(16)));
}

/* minimums: the codes' offset */
INLINE struct unit with_offset(float d, __m128i scales, float offset)
{
    __m256 by = _mm256_set1_ps(-offset * d);
    return (struct unit){.d = _mm256_set1_ps(d), .scales = both(scales),
                         .min = {_mm256_mul_ps(floats_of(scales), by), _mm256_mul_ps(floats_of(_mm_srli_si128(scales, 8)), by)}};
}

INLINE struct unit unit_q6_k(const unsigned char *p, int blocks) { return (void)blocks, with_offset(half_of(p + 208), load_128(p + 192), 32); }

INLINE __m256i codes_q6_k(const unsigned char *p, int block)
{
    int half = block / 4, part = block % 4;
    __m256i low = load_256(p + 64 * half + 32 * (part % 2)), high = load_256(p + 128 + 32 * half);
    low = _mm256_and_si256(part / 2 ? _mm256_srli_epi16(low, 4) : low, _mm256_set1_epi8(15));
    high = part == 0 ? _mm256_slli_epi16(high, 4) : part == 1 ? _mm256_slli_epi16(high, 2) : part == 2 ? high : _mm256_srli_epi16(high, 2);
    return _mm256_or_si256(low, _mm256_and_si256(high, _mm256_set1_epi8(0x30)));
}

INLINE struct unit unit_q2_k(const unsigned char *p, int blocks)
{
    (void)blocks;
    __m128i s = load_128(p), low = _mm_set1_epi8(15);
    __m128i min = _mm_and_si128(_mm_srli_epi16(s, 4), low);
    __m256 factor = _mm256_set1_ps(-half_of(p + 82));
    struct unit u = {.d = _mm256_set1_ps(half_of(p + 80)), .scales = both(_mm_and_si128(s, low))};
    u.min[0] = _mm256_mul_ps(floats_of(min), factor);
    u.min[1] = _mm256_mul_ps(floats_of(_mm_srli_si128(min, 8)), factor);
    return u;
}
INLINE __m256i codes_q2_k(const unsigned char *p, int block) { return two_bits(p + 16, block); }

INLINE struct unit unit_q3_k(const unsigned char *p, int blocks)
{
    (void)blocks;
    /* nibbles of 8 bytes (low ones first), upper two bits in 4 bytes, bits 2 * (s / 4) of byte s % 4; 32 too high */
    __m128i low = _mm_loadl_epi64((const __m128i *)(const void *)(p + 96));
    low = _mm_and_si128(_mm_unpacklo_epi64(low, _mm_srli_epi16(low, 4)), _mm_set1_epi8(15));
    __m128i high = _mm_srlv_epi32(_mm_set1_epi32((int)load_u32(p + 104)), _mm_setr_epi32(0, 2, 4, 6));
    high = _mm_slli_epi16(_mm_and_si128(high, _mm_set1_epi8(3)), 4);
    return with_offset(half_of(p + 108), _mm_sub_epi8(_mm_or_si128(low, high), _mm_set1_epi8(32)), 4);
}

INLINE __m256i codes_q3_k(const unsigned char *p, int block)
{
    __m256i bit = _mm256_set1_epi8((char)(1 << block)), third = _mm256_cmpeq_epi8(_mm256_and_si256(load_256(p), bit), bit);
    return _mm256_or_si256(two_bits(p + 32, block), _mm256_and_si256(third, _mm256_set1_epi8(4)));
}

INLINE struct unit unit_iq4_xs(const unsigned char *p, int blocks)
{
    (void)blocks;
    /* four low bits each in 4 bytes, two upper bits each in a word; 32 too high */
    __m128i low = _mm_cvtsi32_si128((int)load_u32(p + 4));
    low = _mm_and_si128(_mm_unpacklo_epi8(low, _mm_srli_epi16(low, 4)), _mm_set1_epi8(15));
    uint64_t bits = load_u16(p + 2), high = 0;
    for (int i = 0; i < 8; i++)
        high |= (bits >> (2 * i) & 3) << (8 * i + 4);
    __m128i s = _mm_sub_epi8(_mm_or_si128(low, _mm_cvtsi64_si128((long long)high)), _mm_set1_epi8(32));
    return (struct unit){.d = _mm256_set1_ps(half_of(p)), .scales = both(_mm_unpacklo_epi8(s, s))};
}
INLINE __m256i codes_iq4_xs(const unsigned char *p, int block) { return iq4_codes(nibbles(load_128(p + 8 + 16 * block))); }

/* ---- the kernels ----------------------------------------------------------------------------------------------------------- */

#define FEW(name, kind, ...)                                                                                                            \
    INLINE struct codes read_##name(const unsigned char *p, const uint32_t *signs, int block) { return (void)signs, kind(codes_##name(p, block)); } \
    KERNEL(name, __VA_ARGS__)
#define UNSIGNED(name, ...) FEW(name, unsigned_codes, __VA_ARGS__)
#define SIGNED(name, ...) FEW(name, signed_codes, .is_signed = true, __VA_ARGS__)
UNSIGNED(q4_0, .bytes = 144, .group = 32, .offset = 8)
UNSIGNED(q4_1, .bytes = 160, .group = 32, .min = true)
UNSIGNED(q5_0, .bytes = 176, .group = 32, .offset = 16)
UNSIGNED(q5_1, .bytes = 192, .group = 32, .min = true)
SIGNED(q8_0, .bytes = 272, .group = 32, .wide = true)
SIGNED(iq4_nl, .bytes = 144, .group = 32)
UNSIGNED(q2_k, .bytes = 84, .group = 16, .integers = true, .min = true)
UNSIGNED(q3_k, .bytes = 110, .group = 16, .integers = true, .offset = 4)
UNSIGNED(q4_k, .bytes = 144, .group = 32, .integers = true, .min = true)
UNSIGNED(q5_k, .bytes = 176, .group = 32, .integers = true, .min = true)
UNSIGNED(q6_k, .bytes = 210, .group = 16, .integers = true, .offset = 32)
SIGNED(iq4_xs, .bytes = 136, .group = 32, .integers = true)
