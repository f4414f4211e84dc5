/* Private to kernels/cpu/avx512: attention's kernels by cache type. */
#ifndef KERNELS_CPU_AVX512_ATTEND_H
#define KERNELS_CPU_AVX512_ATTEND_H

#include "kernels/cpu/cpu.h"

/* Blocks b and b + 1 of a run as score kernels take them; the second may be the first again, whose scores nobody sees then.
 * part[0] is NULL where nobody sees either. */
struct two {
    const unsigned char *part[2], *ahead[2];
};

static inline struct two attend_two(const struct attend_run *k, int b)
{
    int second = b + 1 < k->blocks ? b + 1 : b;
    const unsigned char *first = k->part[b] ? k->part[b] : k->part[second];
    return (struct two){{first, k->part[second] ? k->part[second] : first}, {k->ahead[b], k->ahead[second]}};
}

extern const struct cache_kernel avx512_cache_f16; /* for many rows of a sequence */
extern const struct cache_kernel avx512_cache_q8_0, avx512_cache_q4_0;
extern const struct cache_kernel avx512_cache_bf16; /* needs AVX512-BF16 */

#endif
