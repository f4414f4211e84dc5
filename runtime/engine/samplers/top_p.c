/* Nucleus sampling (arXiv 1904.09751): the smallest set of best tokens that makes up p, at least one. */
#include "runtime/engine/engine.h"

void sampler_top_p(struct sampler *s, struct candidates *c)
{
    double p = s->options.top_p, total;
    uint64_t sum = 0;
    if (p >= 1 || (c->count <= 1 && !c->rest))
        return;
    candidates_sort(c);
    total = (double)candidates_weight(c);
    for (int64_t i = 0; i < c->count; i++) {
        sum += choice_weight(c->list[i].score, c->list[0].score);
        if ((double)sum >= p * total) {
            c->count = i + 1;
            c->rest = 0;
            return;
        }
    }
    c->lacking = c->rest > 0;
}
