/* Divides the scores; temperature 0 keeps the best alone, the lowest id on ties. */
#include "runtime/engine/engine.h"

void sampler_temperature(struct sampler *s, struct candidates *c)
{
    float t = (float)s->options.temperature;
    if (t > 0) {
        for (int64_t i = 0; i < c->count; i++)
            c->list[i].score /= t;
        return;
    }
    int64_t best = 0;
    for (int64_t i = 1; i < c->count; i++)
        if (c->list[i].score > c->list[best].score)
            best = i;
    c->list[0] = c->list[best];
    c->count = 1;
    c->sorted = true;
}
