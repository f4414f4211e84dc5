/* Scores of single tokens: repetition (CTRL, arXiv 1909.05858: prompt and answer), presence and frequency (OpenAI: the answer's
 * tokens only), then the bias. */
#include "runtime/engine/engine.h"

const struct score_edit *sampler_edits(struct sampler *s, int32_t *count)
{
    const struct ingot_sampling *o = &s->options;
    *count = 0;
    for (uint32_t i = 0; s->seen && i <= s->seen_mask; i++) {
        const struct seen *seen = &s->seen[i];
        if (seen->id < 0)
            continue;
        s->edits[(*count)++] = (struct score_edit){
            .id = seen->id,
            .repeat = seen->prompt + seen->answered ? (float)o->repeat_penalty : 1,
            .minus = seen->answered ? (float)(o->presence_penalty + o->frequency_penalty * seen->answered) : 0,
            .bias = seen->bias,
        };
    }
    return s->edits;
}

void sampler_edit(struct sampler *s, struct candidates *c)
{
    int32_t count;
    const struct score_edit *edits = sampler_edits(s, &count);
    for (int32_t i = 0; i < count; i++) /* first in the chain: list[id] is still id */
        c->list[edits[i].id].score = choice_edited(c->list[edits[i].id].score, &edits[i]);
}
