/* Nucleus sampling (arXiv 1904.09751): the smallest set of best tokens that makes up p, at least one. */
#include <math.h>

#include "runtime/engine/engine.h"

void sampler_top_p(struct sampler *s, struct candidates *c)
{
    double p = s->options.top_p, total = 0, sum = 0;
    if (p >= 1 || c->count <= 1)
        return;
    candidates_sort(c);
    for (int64_t i = 0; i < c->count; i++)
        total += exp((double)(c->list[i].score - c->list[0].score));
    for (int64_t i = 0; i < c->count; i++) {
        sum += exp((double)(c->list[i].score - c->list[0].score));
        if (sum >= p * total) {
            c->count = i + 1;
            return;
        }
    }
}
