/* Repetition (CTRL, arXiv 1909.05858: prompt and answer), presence and frequency (OpenAI: the answer's tokens only). */
#include "runtime/engine/engine.h"

void sampler_penalties(struct sampler *s, struct candidates *c)
{
    const struct ingot_sampling *o = &s->options;
    if (o->repeat_penalty == 1 && o->presence_penalty == 0 && o->frequency_penalty == 0)
        return;
    for (uint32_t i = 0; s->seen && i <= s->seen_mask; i++) {
        const struct seen *seen = &s->seen[i];
        if (seen->id < 0)
            continue;
        float *score = &c->list[seen->id].score; /* first in the chain: list[id] is still id */
        *score = *score > 0 ? *score / (float)o->repeat_penalty : *score * (float)o->repeat_penalty;
        if (seen->answered)
            *score -= (float)(o->presence_penalty + o->frequency_penalty * seen->answered);
    }
}
