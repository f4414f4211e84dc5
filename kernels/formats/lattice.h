/* Floats to points of the IQ1, IQ2 and IQ3 codebooks by weighted least squares; private to kernels/formats.
 *
 * 256 values, x ~ unit * (2 scale + 1) * point, scales for sub-blocks of `sub` values, points of 8 (IQ3: 4) of them with their
 * signs (IQ1: without, shifted by an eighth up or down). A sub-block tries a ladder of scales: with one fixed, the nearest points
 * are found; with the points fixed, the best scale solves a linear equation. Then the unit and the small scales are chosen
 * together, and the points once more. The nearest point is looked for among those that lie nearest to the rounded values: a
 * table made at the first use. */
#ifndef KERNELS_FORMATS_LATTICE_H
#define KERNELS_FORMATS_LATTICE_H

#include <stdint.h>

enum lattice { LATTICE_IQ1, LATTICE_IQ2_XXS, LATTICE_IQ2_XS, LATTICE_IQ2_S, LATTICE_IQ3_XXS, LATTICE_IQ3_S, LATTICES };
/* What is free beside the points: signs (EVEN: of eight weights an even number is negative), or shifts of a sub-block or a point. */
enum lattice_side { SIGNS, EVEN_SIGNS, SHIFT_OF_SUB, SHIFT_OF_POINT };

struct lattice_fit {
    float d; /* as stored: unit * per_unit, rounded to a half */
    unsigned char scale[16];
    uint16_t point[64];
    unsigned char signs[32]; /* of 8 weights each: set bits are negative */
    unsigned char down[32];  /* of each point of IQ1: shifted by -1/8, not +1/8 */
};
/* most: the largest scale; per_unit: what d is for a unit of 1. */
void lattice_search(const float *x, const float *importance, enum lattice which, enum lattice_side side, int sub, int most, float per_unit,
                    struct lattice_fit *out);

#endif
