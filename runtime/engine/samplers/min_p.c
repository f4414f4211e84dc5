/* Drops what is less likely than p times the best (arXiv 2407.01082). */
#include <math.h>

#include "runtime/engine/engine.h"

void sampler_min_p(struct sampler *s, struct candidates *c)
{
    if (s->options.min_p <= 0 || (c->count <= 1 && !c->rest))
        return;
    float best = c->list[0].score;
    for (int64_t i = 1; i < c->count; i++)
        best = fmaxf(best, c->list[i].score);
    float least = best + (float)log(s->options.min_p);
    int64_t kept = 0;
    for (int64_t i = 0; i < c->count; i++)
        if (c->list[i].score >= least)
            c->list[kept++] = c->list[i];
    if (kept < c->count) /* what is not listed is worse still */
        c->rest = 0;
    c->lacking |= c->rest > 0;
    c->count = kept;
}
