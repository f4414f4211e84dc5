/* How far ahead kernels that read weights straight from storage ask for them. */
#ifndef KERNELS_CPU_WIDE_REACH_H
#define KERNELS_CPU_WIDE_REACH_H

#include "kernels/cpu/wide/lanes.h"

/* Bytes ahead, for the first-level cache, and for the second (0: not).
 * Intel: a core waits for at most 16 lines at once with its first-level cache, for 48 with its second. Lines that are already
 * in the second leave room in the first's queue for activations that were driven out. Measured on Sapphire Rapids, one core,
 * rows of 2048 and 8192 weights: 10 to 30 % faster than 4096 alone; between 2048, 4608 and 3584, 6144 it is all the same. */
struct reach {
    int near, far;
};
static const struct reach reach_intel = {2560, 5632}, reach_others = {4096, 0};

/* Line by line: three lines for one cache, then three for the other took up to a tenth longer. */
INLINE void ask_ahead(struct reach reach, const unsigned char *p, int bytes)
{
    for (int i = 0; i < bytes; i += 64) {
        __builtin_prefetch(p + reach.near + i, 0, 3);
        if (reach.far)
            __builtin_prefetch(p + reach.far + i, 0, 2);
    }
}

/* Calls a loop with its reach as a constant: as variables they take registers that it needs. */
#if defined(__x86_64__)
#define WITH_REACH(loop, ...) (__builtin_cpu_is("intel") ? loop(reach_intel, __VA_ARGS__) : loop(reach_others, __VA_ARGS__))
#else
#define WITH_REACH(loop, ...) loop(reach_others, __VA_ARGS__)
#endif

#endif
