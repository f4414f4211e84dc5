/* From logits to a token: the chain of samplers.def, then one draw from a counter-based generator, so that a request's
 * tokens depend on its seed alone, not on what else is in the batch. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "runtime/engine/engine.h"

#define SAMPLER(name) void sampler_##name(struct sampler *s, struct candidates *c);
#include "runtime/samplers.def"
#undef SAMPLER

enum status sampler_open(struct sampler *s, const struct ingot_sampling *options, int64_t vocab, struct error *err)
{
    *s = (struct sampler){.options = *options, .vocab = vocab, .seed = options->seed};
    if (!options->seeded && getrandom(&s->seed, sizeof s->seed, 0) != sizeof s->seed)
        s->seed = (uint64_t)clock_ns();
    bool plain = options->temperature == 0 && options->repeat_penalty == 1 && options->presence_penalty == 0 &&
                 options->frequency_penalty == 0 && !options->bias_count;
    s->bias = malloc(((size_t)options->bias_count + 1) * sizeof *s->bias);
    s->candidates = plain ? NULL : malloc((size_t)vocab * sizeof *s->candidates);
    if (!s->bias || (!plain && !s->candidates))
        return error_memory(err, "a sampler");
    for (int i = 0; i < options->bias_count; i++) {
        s->bias[i] = options->bias[i];
        if (s->bias[i].id < 0 || s->bias[i].id >= vocab)
            return error_set(err, STATUS_USAGE, "logit_bias: token id %d lies outside the vocabulary of %lld", s->bias[i].id, (long long)vocab);
    }
    return STATUS_OK;
}

void sampler_close(struct sampler *s)
{
    free(s->bias);
    free(s->seen);
    free(s->candidates);
    *s = (struct sampler){0};
}

static struct seen *seen_slot(struct seen *table, uint32_t mask, int32_t id)
{
    uint32_t at = (uint32_t)id * 2654435761u & mask;
    while (table[at].id >= 0 && table[at].id != id)
        at = (at + 1) & mask;
    return &table[at];
}

enum status sampler_see(struct sampler *s, int32_t id, bool prompt, struct error *err)
{
    const struct ingot_sampling *o = &s->options;
    if (o->repeat_penalty == 1 && o->presence_penalty == 0 && o->frequency_penalty == 0)
        return STATUS_OK;
    if (!s->seen || s->seen_count * 2 > s->seen_mask) {
        uint32_t mask = s->seen ? s->seen_mask * 2 + 1 : 255;
        struct seen *table = malloc(((size_t)mask + 1) * sizeof *table);
        if (!table)
            return error_memory(err, "penalties");
        memset(table, 0xFF, ((size_t)mask + 1) * sizeof *table); /* id -1: free */
        for (uint32_t i = 0; s->seen && i <= s->seen_mask; i++)
            if (s->seen[i].id >= 0)
                *seen_slot(table, mask, s->seen[i].id) = s->seen[i];
        free(s->seen);
        s->seen = table;
        s->seen_mask = mask;
    }
    struct seen *slot = seen_slot(s->seen, s->seen_mask, id);
    if (slot->id < 0) {
        *slot = (struct seen){.id = id};
        s->seen_count++;
    }
    slot->prompt += prompt;
    slot->answered += !prompt;
    return STATUS_OK;
}

/* Philox 4x32-10 (Salmon et al., SC 2011): the same key and counter give the same bits everywhere. */
static uint64_t philox(uint64_t seed, uint64_t counter)
{
    uint32_t c[4] = {(uint32_t)counter, (uint32_t)(counter >> 32), 0, 0}, k[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c[0], b = (uint64_t)0xCD9E8D57u * c[2];
        uint32_t next[4] = {(uint32_t)(b >> 32) ^ c[1] ^ k[0], (uint32_t)b, (uint32_t)(a >> 32) ^ c[3] ^ k[1], (uint32_t)a};
        memcpy(c, next, sizeof c);
        k[0] += 0x9E3779B9u;
        k[1] += 0xBB67AE85u;
    }
    return (uint64_t)c[1] << 32 | c[0];
}

static int compare_candidates(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    return x->score != y->score ? (x->score > y->score ? -1 : 1) : (x->id > y->id) - (x->id < y->id);
}

void candidates_sort(struct candidates *c)
{
    if (!c->sorted)
        qsort(c->list, (size_t)c->count, sizeof *c->list, compare_candidates);
    c->sorted = true;
}

int32_t best_token(const float *logits, int64_t vocab)
{
    int32_t best = -1;
    float score = -INFINITY;
    for (int64_t i = 0; i < vocab; i++)
        if (logits[i] > score) { /* false for NaN */
            score = logits[i];
            best = (int32_t)i;
        }
    return best >= 0 && isfinite(score) ? best : -1;
}

static int32_t best_allowed(const struct sampler *s, const float *logits)
{
    int32_t best = -1;
    for (int32_t i = 0; i < s->vocab; i++)
        if (sampler_allows(s, i) && !isnan(logits[i]) && (best < 0 || logits[i] > logits[best]))
            best = i;
    return best;
}

int32_t sampler_choose(struct sampler *s, const float *logits, uint64_t draw)
{
    int32_t best = best_token(logits, s->vocab);
    if (best < 0 || !s->candidates)
        return best < 0 || !s->allowed ? best : best_allowed(s, logits);
    struct candidates c = {s->candidates, s->vocab, false};
    for (int64_t i = 0; i < s->vocab; i++)
        c.list[i] = (struct candidate){(int32_t)i, isnan(logits[i]) ? -INFINITY : logits[i]};
#define SAMPLER(name) sampler_##name(s, &c);
#include "runtime/samplers.def"
#undef SAMPLER
    if (c.count <= 1)
        return c.count ? c.list[0].id : -1;
    /* the order of the list must not depend on how it was selected */
    candidates_sort(&c);
    double total = 0, at = (double)(philox(s->seed, draw) >> 11) * 0x1p-53, sum = 0;
    for (int64_t i = 0; i < c.count; i++)
        total += exp((double)(c.list[i].score - c.list[0].score));
    for (int64_t i = 0; i < c.count; i++) {
        sum += exp((double)(c.list[i].score - c.list[0].score));
        if (at * total < sum)
            return c.list[i].id;
    }
    return c.list[0].id;
}

float logprobs_best(const float *logits, int64_t vocab, int32_t id, struct ingot_logprob *top, int count)
{
    float most = -INFINITY;
    double total = 0;
    for (int64_t i = 0; i < vocab; i++)
        most = fmaxf(most, logits[i]);
    for (int64_t i = 0; i < vocab; i++)
        total += exp((double)(logits[i] - most));
    double norm = (double)most + log(total);
    int have = 0;
    for (int64_t i = 0; i < vocab && count > 0; i++) { /* insertion into a short list; most values fail the first test */
        if (have == count && !(logits[i] > top[have - 1].logprob))
            continue;
        int at = have < count ? have++ : have - 1;
        while (at > 0 && top[at - 1].logprob < logits[i]) {
            top[at] = top[at - 1];
            at--;
        }
        top[at] = (struct ingot_logprob){(int32_t)i, logits[i]};
    }
    for (int i = 0; i < have; i++)
        top[i].logprob = (float)((double)top[i].logprob - norm);
    return (float)((double)logits[id] - norm);
}

void ingot_sampling_defaults(const struct ingot_model *model, struct ingot_sampling *out)
{
    const struct sampling_defaults *d = &model->model->sampling;
    *out = (struct ingot_sampling){
        .temperature = isnan(d->temperature) ? 0.7 : d->temperature,
        .top_p = isnan(d->top_p) ? 0.9 : d->top_p,
        .min_p = isnan(d->min_p) ? 0 : d->min_p,
        .repeat_penalty = isnan(d->repetition_penalty) ? 1 : d->repetition_penalty,
        .top_k = d->top_k < 0 ? 50 : d->top_k,
    };
}
