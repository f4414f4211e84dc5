/* Floats to codes by weighted least squares; private to kernels/formats.
 *
 * A block says x ~ scale * code + offset. With the codes fixed the best scale and offset solve normal equations; with those
 * fixed the best codes are the nearest ones. Neither is known at first: a ladder of scales is tried, each rung solved, and the
 * best one alternates between the two until nothing gets better. A super-block stores the scales of its sub-blocks as small
 * integers: they are found in the same way, with the curvature of each sub-block's error as weight, then moved by one as long
 * as that helps, and the common factors are solved for over all 256 values.
 *
 * Values are finite and below 65520 in size (what a half holds): the caller looks. */
#ifndef KERNELS_FORMATS_SEARCH_H
#define KERNELS_FORMATS_SEARCH_H

#include <stdbool.h>

enum { SUPER = 256 };

/* What a code can stand for: the whole numbers low..high, or 16 ascending values. */
struct codes {
    float low, high;
    const signed char *table; /* NULL: all of low..high */
};

/* How much each of n values counts: all alike, or after the importance of its column (mean squares of what it is multiplied
 * with), which counts more for large values. */
void search_weights(const float *x, const float *importance, int n, float *weights);

/* One block: the scale (rounded to half) for x ~ scale * code, and the codes nearest to it. n: 16 or 32. */
float search_scale(const float *x, const float *importance, int n, struct codes codes, float *code);

/* One block: x ~ scale * code + offset, codes 0..high; both rounded to half. */
void search_line(const float *x, const float *importance, int n, float high, float *scale, float *offset, float *code);

/* 256 values, x ~ d * scale[s] * code - dmin * min[s], sub-blocks of `sub` values. */
struct super_line {
    float d, dmin;
    unsigned char scale[16], min[16], code[SUPER];
};
void search_super_line(const float *x, const float *importance, int sub, int high, int most_scale, struct super_line *out);

/* 256 values, x ~ d * scale[s] * code. */
struct super_scale {
    float d;
    signed char scale[16], code[SUPER];
};
void search_super_scale(const float *x, const float *importance, int sub, struct codes scales, struct codes codes, struct super_scale *out);

#endif
