/* Little-endian loads and the conversions between 16-bit floats and float32; private to kernels/. GPUs run the same code. */
#ifndef KERNELS_FORMATS_SMALL_H
#define KERNELS_FORMATS_SMALL_H

#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define DEVICE __host__ __device__
#else
#define DEVICE
#endif

DEVICE static inline uint16_t load_u16(const unsigned char *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

DEVICE static inline uint32_t load_u32(const unsigned char *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

DEVICE static inline float float_of_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

DEVICE static inline uint32_t bits_of_float(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

/* IEEE half: s eeeee mmmmmmmmmm. Moving the 15 bits to float32's place leaves an exponent that is 112 too small; one
 * multiplication by 2^112 mends it for normal and subnormal halves alike. Infinity and NaN keep the top exponent. */
DEVICE static inline float half_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = (uint32_t)(h & 0x7FFF) << 13;
    if (rest >= (0x7C00u << 13))
        return float_of_bits(sign | 0x7F800000u | (rest & 0x007FFFFFu));
    return float_of_bits(sign | bits_of_float(float_of_bits(rest) * 0x1p112f));
}

/* Round to nearest, ties to even; overflow becomes infinity; NaN stays a (quiet) NaN. */
DEVICE static inline uint16_t float_to_half(float f)
{
    uint32_t bits = bits_of_float(f), sign = bits >> 16 & 0x8000, size = bits & 0x7FFFFFFF;
    if (size > 0x7F800000)
        return (uint16_t)(sign | 0x7E00 | (size >> 13 & 0x3FF));
    if (size >= 0x477FF000) /* 65520 and above round to infinity */
        return (uint16_t)(sign | 0x7C00);
    if (size < 0x38800000) { /* below 2^-14: adding 0.5 leaves the subnormal's bits at the bottom, rounded */
        float shifted = float_of_bits(size) + 0.5f;
        return (uint16_t)(sign | (bits_of_float(shifted) - 0x3F000000));
    }
    size += 0xFFF + (size >> 13 & 1);
    return (uint16_t)(sign | ((size - 0x38000000) >> 13));
}

/* bfloat16 is the upper half of a float32. */
DEVICE static inline float bf16_to_float(uint16_t h) { return float_of_bits((uint32_t)h << 16); }

DEVICE static inline uint16_t float_to_bf16(float f)
{
    uint32_t bits = bits_of_float(f);
    if ((bits & 0x7FFFFFFF) > 0x7F800000)
        return (uint16_t)(bits >> 16 | 0x40); /* rounding must not turn a NaN into infinity */
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

DEVICE static inline float load_half(const unsigned char *p) { return half_to_float(load_u16(p)); }
DEVICE static inline void store_u16(unsigned char *p, uint16_t v) { memcpy(p, &v, sizeof v); }

/* The largest magnitude among 32 values, NaN if one of them is no finite number. As whole numbers, which compilers make wide. */
DEVICE static inline float group_most(const float *values)
{
    int32_t most = 0;
    for (int i = 0; i < 32; i++) {
        int32_t size = (int32_t)(bits_of_float(values[i]) & 0x7FFFFFFF);
        most = size > most ? size : most;
    }
    return float_of_bits(most < 0x7F800000 ? (uint32_t)most : 0x7FC00000);
}

/* s eeee mmm: moved to float32's place the exponent is 120 too small; one multiplication mends normal and subnormal values
 * alike. 0x7F and 0xFF are NaN. */
DEVICE static inline float e4m3_to_float(unsigned char b)
{
    uint32_t sign = (uint32_t)(b & 0x80) << 24, rest = b & 0x7F;
    float size = rest == 0x7F ? float_of_bits(0x7FC00000) : float_of_bits(rest << 20) * 0x1p120f;
    return float_of_bits(bits_of_float(size) | sign);
}

/* To the nearest whole number, ties to even, for |x| < 2^22. */
DEVICE static inline float nearest(float x) { return (x + 12582912.0f) - 12582912.0f; }

DEVICE static inline void store_half(float f, unsigned char *p)
{
    uint16_t h = float_to_half(f);
    memcpy(p, &h, 2);
}

/* 2n codes of four bits: byte j gets low[j] and, above it, high[j]. */
DEVICE static inline void store_nibbles(const unsigned char *low, const unsigned char *high, int n, unsigned char *p)
{
    for (int j = 0; j < n; j++)
        p[j] = (unsigned char)((low[j] & 15) | (high[j] & 15) << 4);
}

/* 256 codes of two bits in 64 bytes, in two halves: bits 2k.. of byte j of half h are code 128h + 32k + j. */
DEVICE static inline void store_pairs(const unsigned char code[256], unsigned char *p)
{
    for (int h = 0; h < 2; h++, code += 128, p += 32)
        for (int j = 0; j < 32; j++)
            p[j] = (unsigned char)((code[j] & 3) | (code[32 + j] & 3) << 2 | (code[64 + j] & 3) << 4 | (code[96 + j] & 3) << 6);
}

/* The 12 bytes of Q4_K and Q5_K: 6-bit scales and minimums of 8 sub-blocks.
 *   bytes 0-3: low six bits scale 0-3, top two bits: bits 4-5 of scale 4-7
 *   bytes 4-7: low six bits min 0-3,   top two bits: bits 4-5 of min 4-7
 *   bytes 8-11: low nibble scale 4-7, high nibble min 4-7 */
DEVICE static inline void k_scales(const unsigned char *s, unsigned char scale[8], unsigned char min[8])
{
    for (int j = 0; j < 4; j++) {
        scale[j] = s[j] & 63;
        min[j] = s[j + 4] & 63;
        scale[j + 4] = (unsigned char)((s[j + 8] & 15) | s[j] >> 6 << 4);
        min[j + 4] = (unsigned char)(s[j + 8] >> 4 | s[j + 4] >> 6 << 4);
    }
}

DEVICE static inline void store_k_scales(const unsigned char scale[8], const unsigned char min[8], unsigned char *s)
{
    for (int j = 0; j < 4; j++) {
        s[j] = (unsigned char)(scale[j] | scale[j + 4] >> 4 << 6);
        s[j + 4] = (unsigned char)(min[j] | min[j + 4] >> 4 << 6);
        s[j + 8] = (unsigned char)((scale[j + 4] & 15) | (min[j + 4] & 15) << 4);
    }
}

/* IQ1_M's d: the upper nibbles of the four u16 at the end of its 56 bytes, first lowest. */
DEVICE static inline uint16_t iq1_m_half(const unsigned char *block)
{
    return (uint16_t)(block[49] >> 4 | (block[51] & 0xF0) | (block[53] & 0xF0) << 4 | (block[55] & 0xF0) << 8);
}

/* What the 4-bit codes of IQ4_NL and IQ4_XS stand for. */
#define IQ4_VALUES {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}
DEVICE static inline unsigned char table_index(const signed char table[16], signed char value)
{
    unsigned char i = 0;
    while (i < 15 && table[i] < value)
        i++;
    return i;
}

#endif
