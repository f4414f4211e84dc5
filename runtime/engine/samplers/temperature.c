/* Divides the scores; 0 leaves them to the next sampler. */
#include "runtime/engine/engine.h"

void sampler_temperature(struct sampler *s, struct candidates *c)
{
    float t = (float)s->options.temperature;
    for (int64_t i = 0; i < c->count && t > 0; i++)
        c->list[i].score /= t;
}
