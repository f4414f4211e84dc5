/* Codebooks of the IQ1, IQ2 and IQ3 types: an index stands for the 8 (IQ3: 4) weights of a point, one byte each, weight 0 first.
 *
 * In every grid a weight has one of 3 (IQ3: 8) values, and the points ascend when their weights' digits are read as a number of
 * that base, weight 0 lowest. So a grid is a set of numbers, and grids.def has it as a bit per number. In IQ2's grids the sum of
 * the digits is even, and so is the number: half the bits. The sets are ggml's (ggml-common.h), found by its authors as
 * those that frequent groups of weights lie near to. Expanded before main() into tables that are then constant. */
#ifndef KERNELS_FORMATS_GRIDS_H
#define KERNELS_FORMATS_GRIDS_H

#include <stdint.h>

/* grid_X: the values, 8 or 4 bytes a point. Values of IQ1 (IQ1_S's grid serves IQ1_M), in eighths above -1: 0, 8, 16; IQ2: 8, 25,
 * 43; IQ3_XXS: 4, 12, 20, 28, 36, 44, 52, 62; IQ3_S: 1, 3 .. 15. */
extern uint64_t grid_iq1_s[2048], grid_iq2_xxs[256], grid_iq2_xs[512], grid_iq2_s[1024];
extern uint32_t grid_iq3_xxs[256], grid_iq3_s[512];

/* The digits of a point in 16 bits, weight 0 lowest, 2 bits each (IQ3: 4), for kernels that look up in registers; bytes
 * of it apart in the planes. */
extern uint16_t digits_iq2_xxs[256], digits_iq2_xs[512];
extern unsigned char plane_iq1_s[2][2048], plane_iq2_s[2][1024], plane_iq3_xxs[2][256], plane_iq3_s[2][512];
/* The upper bytes of IQ1's points ascend slowly: 16 neighbours have at most two. Of each 16: the first, the last, and how many
 * have the first. */
extern unsigned char steps_iq1_s[3][128];

/* 7 bits of signs -> 8: the last makes the number of set bits even. */
static inline unsigned even_signs(unsigned seven) { return seven | (unsigned)__builtin_parity(seven) << 7; }

/* count (at most 8) weights of a point, negative where a bit of signs is set */
static inline void signed_point(const void *point, int count, unsigned signs, float scale, float *values)
{
    const signed char *p = point;
    for (int j = 0; j < count; j++)
        values[j] = scale * (float)(signs >> j & 1 ? -p[j] : p[j]);
}

#endif
