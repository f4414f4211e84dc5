/* Angles of rotary embeddings: the one place that knows dynamic scaling. */
#include <math.h>

#include "kernels/ops.h"

void rope_angles(const struct rope *rope, int64_t position, int64_t length, float *cosine, float *sine)
{
    int pairs = rope->dims / 2;
    /* Dynamic NTK (transformers, _compute_dynamic_ntk_parameters): beyond the trained length the base grows with the whole
     * sequence's, so the slowest pair still turns once over it and every chunk sees the same angles. */
    int64_t reached = length > position ? length : position + 1;
    bool grown = rope->original > 0 && reached > rope->original;
    float base = 0;
    if (grown) {
        double reach = rope->factor * (double)reached / (double)rope->original - (rope->factor - 1);
        base = (float)(rope->base * pow(reach, (double)rope->dims / (rope->dims - 2)));
    }
    for (int i = 0; i < pairs; i++) {
        float inverse = grown ? 1.0f / powf(base, (float)(2 * i) / (float)rope->dims) : rope->inverse_frequency[i];
        float angle = (float)position * inverse;
        cosine[i] = (float)cos((double)angle) * rope->magnitude;
        sine[i] = (float)sin((double)angle) * rope->magnitude;
    }
}
