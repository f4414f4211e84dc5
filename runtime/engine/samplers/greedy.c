/* Temperature 0 keeps the best alone, the lowest id on ties. */
#include "runtime/engine/engine.h"

void sampler_greedy(struct sampler *s, struct candidates *c)
{
    if (s->options.temperature > 0 || !c->count)
        return;
    struct token_score best = c->list[0];
    for (int64_t i = 1; i < c->count; i++)
        if (c->list[i].score > best.score || (c->list[i].score == best.score && c->list[i].id < best.id))
            best = c->list[i];
    c->list[0] = best;
    c->count = 1;
    c->rest = 0;
}
