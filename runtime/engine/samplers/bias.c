/* Added to the scores of single tokens. */
#include "runtime/engine/engine.h"

void sampler_bias(struct sampler *s, struct candidates *c)
{
    for (int i = 0; i < s->options.bias_count; i++)
        c->list[s->bias[i].id].score += s->bias[i].value; /* nothing was removed or moved yet */
}
