/* From logits to a token: the chain of samplers.def, then one draw from a counter-based generator, so that a request's
 * tokens depend on its seed alone, not on what else is in the batch. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "runtime/engine/engine.h"

#define SCORER(name) void sampler_##name(struct sampler *s, struct candidates *c);
#define SAMPLER(name) SCORER(name)
#include "runtime/samplers.def"

/* The chain's two parts. */
static void score(struct sampler *s, struct candidates *c)
{
#define SCORER(name) sampler_##name(s, c);
#include "runtime/samplers.def"
}

static void narrow(struct sampler *s, struct candidates *c)
{
#define SAMPLER(name) sampler_##name(s, c);
#include "runtime/samplers.def"
}

/* ---- what is known of single tokens ------------------------------------------------------------------------------------- */

static struct seen *seen_slot(struct seen *table, uint32_t mask, int32_t id)
{
    uint32_t at = (uint32_t)id * 2654435761u & mask;
    while (table[at].id >= 0 && table[at].id != id)
        at = (at + 1) & mask;
    return &table[at];
}

static enum status seen_grow(struct sampler *s, struct error *err)
{
    uint32_t mask = s->seen ? s->seen_mask * 2 + 1 : 255;
    struct seen *table = malloc(((size_t)mask + 1) * sizeof *table);
    struct score_edit *edits = malloc(((size_t)mask + 1) * sizeof *edits);
    if (!table || !edits) {
        free(table);
        free(edits);
        return error_memory(err, "penalties");
    }
    memset(table, 0xFF, ((size_t)mask + 1) * sizeof *table); /* id -1: free */
    for (uint32_t i = 0; s->seen && i <= s->seen_mask; i++)
        if (s->seen[i].id >= 0)
            *seen_slot(table, mask, s->seen[i].id) = s->seen[i];
    free(s->seen);
    free(s->edits);
    s->seen = table;
    s->edits = edits;
    s->seen_mask = mask;
    return STATUS_OK;
}

static enum status seen_find(struct sampler *s, int32_t id, struct seen **out, struct error *err)
{
    enum status status = !s->seen || s->seen_count * 2 > s->seen_mask ? seen_grow(s, err) : STATUS_OK;
    if (status)
        return status;
    *out = seen_slot(s->seen, s->seen_mask, id);
    if ((*out)->id < 0) {
        **out = (struct seen){.id = id};
        s->seen_count++;
    }
    return STATUS_OK;
}

enum status sampler_see(struct sampler *s, int32_t id, bool prompt, struct error *err)
{
    const struct ingot_sampling *o = &s->options;
    struct seen *seen;
    if (o->repeat_penalty == 1 && o->presence_penalty == 0 && o->frequency_penalty == 0)
        return STATUS_OK;
    enum status status = seen_find(s, id, &seen, err);
    if (status)
        return status;
    seen->prompt += prompt;
    seen->answered += !prompt;
    return STATUS_OK;
}

static enum status add_bias(struct sampler *s, const struct ingot_bias *bias, struct error *err)
{
    struct seen *seen;
    if (bias->id < 0 || bias->id >= s->vocab)
        return error_set(err, STATUS_USAGE, "logit_bias: token id %d lies outside the vocabulary of %lld", bias->id, (long long)s->vocab);
    enum status status = seen_find(s, bias->id, &seen, err);
    if (!status)
        seen->bias += bias->value;
    return status;
}

enum status sampler_open(struct sampler *s, const struct ingot_sampling *options, int64_t vocab, struct error *err)
{
    *s = (struct sampler){.options = *options, .vocab = vocab, .seed = options->seed};
    if (!options->seeded && getrandom(&s->seed, sizeof s->seed, 0) != sizeof s->seed)
        s->seed = (uint64_t)clock_ns();
    bool plain = options->temperature == 0 && options->repeat_penalty == 1 && options->presence_penalty == 0 &&
                 options->frequency_penalty == 0 && !options->bias_count;
    s->candidates = plain ? NULL : malloc((size_t)vocab * sizeof *s->candidates);
    enum status status = plain || s->candidates ? STATUS_OK : error_memory(err, "a sampler");
    for (int i = 0; i < options->bias_count && !status; i++)
        status = add_bias(s, &options->bias[i], err);
    return status;
}

void sampler_close(struct sampler *s)
{
    free(s->seen);
    free(s->edits);
    free(s->candidates);
    *s = (struct sampler){0};
}

/* ---- choosing --------------------------------------------------------------------------------------------------------- */

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
    const struct token_score *x = a, *y = b;
    return x->score != y->score ? (x->score > y->score ? -1 : 1) : (x->id > y->id) - (x->id < y->id);
}

void candidates_sort(struct candidates *c)
{
    float best = -INFINITY;
    int64_t kept = 0;
    if (c->sorted)
        return;
    for (int64_t i = 0; i < c->count; i++)
        best = fmaxf(best, c->list[i].score);
    for (int64_t i = 0; i < c->count && isfinite(best); i++)
        if (choice_bin(c->list[i].score, best) < CHOICE_BINS)
            c->list[kept++] = c->list[i];
    c->count = isfinite(best) ? kept : c->count;
    qsort(c->list, (size_t)c->count, sizeof *c->list, compare_candidates);
    c->sorted = true;
}

uint64_t candidates_weight(const struct candidates *c)
{
    uint64_t sum = c->rest;
    for (int64_t i = 0; i < c->count; i++)
        sum += choice_weight(c->list[i].score, c->list[0].score);
    return sum;
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

/* From scores on. SAMPLER_LACKS: what is not listed might be chosen. */
static int32_t choose(struct sampler *s, struct candidates *c, uint64_t draw)
{
    narrow(s, c);
    if (c->lacking)
        return SAMPLER_LACKS;
    if (c->count <= 1 && !c->rest)
        return c->count ? c->list[0].id : -1;
    candidates_sort(c); /* the order must not depend on how the list was selected */
    uint64_t at = (uint64_t)((unsigned __int128)philox(s->seed, draw) * candidates_weight(c) >> 64);
    for (int64_t i = 0; i < c->count; i++) {
        uint64_t weight = choice_weight(c->list[i].score, c->list[0].score);
        if (at < weight)
            return c->list[i].id;
        at -= weight;
    }
    return c->rest ? SAMPLER_LACKS : c->list[0].id;
}

int32_t sampler_choose(struct sampler *s, const float *logits, uint64_t draw)
{
    int32_t best = best_token(logits, s->vocab);
    if (best < 0 || !s->candidates)
        return best < 0 || !s->allowed ? best : best_allowed(s, logits);
    struct candidates c = {.list = s->candidates, .count = s->vocab};
    for (int64_t i = 0; i < s->vocab; i++)
        c.list[i] = (struct token_score){(int32_t)i, isnan(logits[i]) ? -INFINITY : logits[i]};
    score(s, &c);
    return choose(s, &c, draw);
}

void sampler_ask(struct sampler *s, int32_t best, struct row_choice *out)
{
    const struct ingot_sampling *o = &s->options;
    int64_t want = o->temperature == 0 ? 1 : o->top_k > 0 ? o->top_k : CHOICE_BEST;
    *out = (struct row_choice){.best = want > best ? (int32_t)(want < CHOICE_BEST ? want : CHOICE_BEST) : best, .temperature = o->temperature > 0 ? (float)o->temperature : 1,
                           .allowed = s->allowed, .allowed_words = s->allowed_words};
    out->edits = sampler_edits(s, &out->edit_count);
}

int32_t sampler_pick(struct sampler *s, const struct row_choice *choice, uint64_t draw)
{
    struct token_score list[CHOICE_ROOM]; /* samplers move it about */
    if (!isfinite(choice->most))
        return -1;
    if (!choice->count)
        return SAMPLER_LACKS;
    memcpy(list, choice->list, (size_t)choice->count * sizeof *list);
    struct candidates c = {.list = list, .count = choice->count, .rest = choice->total};
    float best = -INFINITY;
    for (int32_t i = 0; i < choice->count; i++)
        best = fmaxf(best, list[i].score);
    for (int32_t i = 0; i < choice->count; i++)
        c.rest -= choice_weight(list[i].score, best);
    return choose(s, &c, draw);
}

int32_t sampler_next(struct sampler *s, const float *logits, uint64_t draw)
{
    const struct ingot_sampling *o = &s->options;
    int32_t token = SAMPLER_LACKS;
    if (s->candidates && o->temperature > 0 && (o->top_k <= 0 || o->top_k > CHOICE_BEST)) {
        struct row_choice choice;
        struct token_score list[CHOICE_ROOM];
        float listed[CHOICE_ROOM];
        sampler_ask(s, 1, &choice);
        choice_make(&choice, logits, s->vocab, (float *)(void *)s->candidates, list, listed);
        token = sampler_pick(s, &choice, draw);
    }
    return token == SAMPLER_LACKS ? sampler_choose(s, logits, draw) : token;
}

/* ---- log probabilities ---------------------------------------------------------------------------------------------------- */

/* Insertion into a short list, best first and lower ids before; most values fail the first test. */
static void keep_best(struct ingot_logprob *top, int *have, int count, int32_t id, float logit)
{
    if (!count || (*have == count && !(logit > top[count - 1].logprob || (logit == top[count - 1].logprob && id < top[count - 1].id))))
        return;
    int at = *have < count ? (*have)++ : *have - 1;
    for (; at > 0 && (top[at - 1].logprob < logit || (top[at - 1].logprob == logit && top[at - 1].id > id)); at--)
        top[at] = top[at - 1];
    top[at] = (struct ingot_logprob){id, logit};
}

static float normalised(struct ingot_logprob *top, int have, float own, double norm)
{
    for (int i = 0; i < have; i++)
        top[i].logprob = (float)((double)top[i].logprob - norm);
    return (float)((double)own - norm);
}

bool logprobs_listed(const struct row_choice *q, int32_t id, struct ingot_logprob *top, int count, float *own)
{
    int have = 0, at = -1;
    for (int32_t i = 0; i < q->count; i++) {
        keep_best(top, &have, count, q->list[i].id, q->logits[i]);
        at = q->list[i].id == id ? i : at;
    }
    if (at < 0 || have < count)
        return false;
    *own = normalised(top, have, q->logits[at], (double)q->most + log((double)q->norm) - CHOICE_UNIT * log(2));
    return true;
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
    for (int64_t i = 0; i < vocab && count > 0; i++)
        keep_best(top, &have, count, (int32_t)i, logits[i]);
    return normalised(top, have, logits[id], norm);
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
