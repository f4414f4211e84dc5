/* Choosing experts: the one place that knows how, on the host. */
#include <math.h>

#include "kernels/ops.h"

static void find_probabilities(const struct expert_route *r, const float *scores, float *out)
{
    float most = scores[0], sum = 0;
    for (int i = 1; i < r->experts; i++)
        most = scores[i] > most ? scores[i] : most;
    for (int i = 0; i < r->experts; i++)
        sum += out[i] = r->sigmoid ? 1 / (1 + expf(-scores[i])) : expf(scores[i] - most);
    for (int i = 0; i < r->experts && !r->sigmoid; i++)
        out[i] /= sum;
}

/* What is no number comes last, as the least there is. */
static float ordered(float v) { return isnan(v) ? -INFINITY : v; }

/* The largest of count values that is not taken, the first of equals. */
static int best_of(const float *values, const bool *taken, int count)
{
    int best = -1;
    for (int i = 0; i < count; i++)
        if (!taken[i] && (best < 0 || values[i] > values[best]))
            best = i;
    return best;
}

/* Takes all experts of the groups that are not chosen. */
static void close_groups(const struct expert_route *r, const float *values, bool *taken)
{
    int size = r->experts / r->groups;
    float sums[EXPERTS_MOST];
    bool open[EXPERTS_MOST] = {false};
    for (int g = 0; g < r->groups; g++) {
        bool counted[EXPERTS_MOST] = {false};
        sums[g] = 0;
        for (int i = 0; i < r->group_best; i++) {
            int best = best_of(values + g * size, counted, size);
            counted[best] = true;
            sums[g] += values[g * size + best];
        }
        sums[g] = ordered(sums[g]);
    }
    for (int i = 0; i < r->groups_chosen; i++)
        open[best_of(sums, open, r->groups)] = true;
    for (int i = 0; i < r->experts; i++)
        taken[i] = !open[i / size];
}

void route_choose(const struct expert_route *r, const float *scores, const float *bias, float *out)
{
    float probability[EXPERTS_MOST], value[EXPERTS_MOST], sum = 0;
    bool taken[EXPERTS_MOST] = {false};
    find_probabilities(r, scores, probability);
    for (int i = 0; i < r->experts; i++)
        value[i] = ordered(bias ? probability[i] + bias[i] : probability[i]);
    if (r->groups > 1)
        close_groups(r, value, taken);
    for (int i = 0; i < r->chosen; i++) {
        int best = best_of(value, taken, r->experts);
        taken[best] = true;
        out[i] = (float)best;
        sum += out[r->chosen + i] = probability[best];
    }
    float scale = r->normalised ? r->scale / (sum > 1e-20f ? sum : 1e-20f) : r->scale;
    for (int i = 0; i < r->chosen; i++)
        out[r->chosen + i] *= scale;
}
