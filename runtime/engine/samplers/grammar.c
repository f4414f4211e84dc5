/* Only what the grammar allows. Behind the samplers that look tokens up by id, before those that choose. */
#include "runtime/engine/engine.h"

void sampler_grammar(struct sampler *s, struct candidates *c)
{
    int64_t kept = 0;
    if (!s->allowed)
        return;
    for (int64_t i = 0; i < c->count; i++)
        if (sampler_allows(s, c->list[i].id))
            c->list[kept++] = c->list[i];
    c->count = kept;
}
