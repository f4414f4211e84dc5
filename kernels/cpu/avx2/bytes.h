/* Panels of bytes for AVX2: vpmaddubsw multiplies codes 0 .. most by activations of a byte and adds pairs in 16 bits. These hold
 * 32767 / (2 * 128 * most) steps of 4 k before they must be widened: 8 for codes of 4 bits, 4 for 5, 2 for 6. Half the instructions
 * of pairs of 16 bits (panel.h); codes of 8 bits would overflow at once. */
#ifndef KERNELS_CPU_AVX2_BYTES_H
#define KERNELS_CPU_AVX2_BYTES_H

/* 8 rows of 16 codes -> words of 4 k, word by word, row by row */
INLINE void turn(const int8_t *rows, code_t *to)
{
    __m256i a[4], b[4];
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++) /* rows r and r + 4 in the two halves */
        a[r] = _mm256_set_m128i(_mm_load_si128((const __m128i *)(const void *)(rows + (r + 4) * CHUNK)),
                                _mm_load_si128((const __m128i *)(const void *)(rows + r * CHUNK)));
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        b[2 * i] = _mm256_unpacklo_epi32(a[2 * i], a[2 * i + 1]);
        b[2 * i + 1] = _mm256_unpackhi_epi32(a[2 * i], a[2 * i + 1]);
    }
    a[0] = _mm256_unpacklo_epi64(b[0], b[2]);
    a[1] = _mm256_unpackhi_epi64(b[0], b[2]);
    a[2] = _mm256_unpacklo_epi64(b[1], b[3]);
    a[3] = _mm256_unpackhi_epi64(b[1], b[3]);
#pragma GCC unroll 4
    for (int word = 0; word < 4; word++)
        _mm256_store_si256((__m256i *)(void *)(to + word * DEPTH * COLUMNS), a[word]);
}

/* sum += w . v, pairs of 16 bits. As two intrinsics compilers run out of registers (see add_pairs in panel.h). */
INLINE void add_bytes(__m256i *sum, __m256i w, __m256i v)
{
    __m256i product;
    __asm__("vpmaddubsw %2, %3, %1\n\tvpaddw %1, %0, %0" : "+x"(*sum), "=&x"(product) : "x"(v), "x"(w));
}

INLINE void add_group(vi sum[][VECTORS], int rows, const code_t *code, const code_t *x, int count, int most)
{
    const int steps = 32767 / (2 * 128 * most), words = count / DEPTH;
    const __m256i ones = _mm256_set1_epi16(1);
#pragma GCC unroll 4
    for (int from = 0; from < words; from += steps) {
        __m256i part[PACK_ROWS][2];
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++)
            part[r][0] = part[r][1] = _mm256_setzero_si256();
        for (int k = from; k < words && k < from + steps; k++, code += DEPTH * COLUMNS, x += DEPTH * PACK_ROWS) {
            __m256i w0 = _mm256_load_si256((const __m256i *)(const void *)code), w1 = _mm256_load_si256((const __m256i *)(const void *)(code + 32));
#pragma GCC unroll 6
            for (int r = 0; r < rows; r++) {
                int32_t word;
                memcpy(&word, x + DEPTH * r, 4);
                __m256i v = _mm256_set1_epi32(word);
                add_bytes(&part[r][0], w0, v);
                add_bytes(&part[r][1], w1, v);
            }
        }
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
            for (int half = 0; half < 2; half++)
                sum[r][half] += (vi)_mm256_madd_epi16(part[r][half], ones);
    }
}

#endif
