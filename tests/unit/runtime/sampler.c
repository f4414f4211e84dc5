/* Samplers: the chain's effects one by one, and the distribution of many draws. */
#include <criterion/criterion.h>
#include <math.h>

#include "runtime/engine/engine.h"

enum { VOCAB = 64 };

static struct ingot_sampling plain(void) { return (struct ingot_sampling){.temperature = 1, .top_p = 1, .repeat_penalty = 1, .seeded = true, .seed = 7}; }

static void count(const struct ingot_sampling *o, const float *logits, int draws, int *counts)
{
    struct sampler s;
    struct error err;
    memset(counts, 0, VOCAB * sizeof *counts);
    cr_assert_eq(sampler_open(&s, o, VOCAB, &err), STATUS_OK, "%s", err.text);
    for (int i = 0; i < draws; i++)
        counts[sampler_choose(&s, logits, (uint64_t)i)]++;
    sampler_close(&s);
}

Test(sampler, greedy_takes_the_lowest_id_on_ties)
{
    float logits[VOCAB] = {0};
    int counts[VOCAB];
    logits[9] = logits[40] = 2;
    struct ingot_sampling o = plain();
    o.temperature = 0;
    count(&o, logits, 10, counts);
    cr_assert_eq(counts[9], 10);
    o.presence_penalty = 0.5; /* through the chain, not the short cut */
    count(&o, logits, 10, counts);
    cr_assert_eq(counts[9], 10);
}

Test(sampler, draws_follow_the_softmax)
{
    float logits[VOCAB];
    int counts[VOCAB], draws = 200000;
    double total = 0, chi = 0;
    for (int i = 0; i < VOCAB; i++)
        total += exp((double)(logits[i] = (float)(i % 7) * 0.5f));
    struct ingot_sampling o = plain();
    count(&o, logits, draws, counts);
    for (int i = 0; i < VOCAB; i++) {
        double want = draws * exp((double)logits[i]) / total;
        chi += (counts[i] - want) * (counts[i] - want) / want;
    }
    cr_assert_lt(chi, 110, "chi squared of 63 degrees: %g (110 has a chance of 0.0002)", chi);
}

Test(sampler, temperature_sharpens)
{
    float logits[VOCAB] = {[3] = 1};
    int warm[VOCAB], cold[VOCAB];
    struct ingot_sampling o = plain();
    count(&o, logits, 4000, warm);
    o.temperature = 0.1;
    count(&o, logits, 4000, cold);
    cr_assert(cold[3] > 3900 && warm[3] < 400, "%d %d", cold[3], warm[3]);
}

Test(sampler, top_k_top_p_min_p_cut)
{
    float logits[VOCAB];
    int counts[VOCAB];
    for (int i = 0; i < VOCAB; i++)
        logits[i] = (float)-i; /* probabilities 0.63, 0.23, 0.086, ... */
    struct ingot_sampling o = plain();
    o.top_k = 5;
    count(&o, logits, 5000, counts);
    cr_assert(counts[4] > 0 && counts[5] == 0);
    o = plain();
    o.top_p = 0.9; /* 0.63 + 0.23 + 0.086 passes it */
    count(&o, logits, 5000, counts);
    cr_assert(counts[2] > 0 && counts[3] == 0);
    o = plain();
    o.min_p = 0.1; /* e^-2 = 0.135, e^-3 = 0.0498 */
    count(&o, logits, 5000, counts);
    cr_assert(counts[2] > 0 && counts[3] == 0);
    o = plain();
    o.top_p = 0; /* at least one stays */
    count(&o, logits, 10, counts);
    cr_assert_eq(counts[0], 10);
}

Test(sampler, penalties_and_bias)
{
    float logits[VOCAB] = {[1] = 2, [2] = 1.9f, [3] = -0.5f};
    struct sampler s;
    struct error err;
    struct ingot_sampling o = plain();
    o.temperature = 0;
    o.repeat_penalty = 1.2;
    cr_assert_eq(sampler_open(&s, &o, VOCAB, &err), STATUS_OK);
    cr_assert_eq(sampler_choose(&s, logits, 0), 1);
    cr_assert_eq(sampler_see(&s, 1, true, &err), STATUS_OK);
    cr_assert_eq(sampler_choose(&s, logits, 1), 2, "the prompt counts for the repetition penalty");
    sampler_close(&s);
    o = plain();
    o.temperature = 0;
    o.frequency_penalty = 0.06;
    cr_assert_eq(sampler_open(&s, &o, VOCAB, &err), STATUS_OK);
    sampler_see(&s, 1, true, &err);
    cr_assert_eq(sampler_choose(&s, logits, 0), 1, "the prompt does not count for frequency");
    sampler_see(&s, 1, false, &err);
    cr_assert_eq(sampler_choose(&s, logits, 1), 1);
    sampler_see(&s, 1, false, &err);
    cr_assert_eq(sampler_choose(&s, logits, 2), 2);
    sampler_close(&s);
    struct ingot_bias bias = {3, 10}, bad = {VOCAB, 1};
    o = plain();
    o.bias = &bias;
    o.bias_count = 1;
    o.temperature = 0;
    cr_assert_eq(sampler_open(&s, &o, VOCAB, &err), STATUS_OK);
    cr_assert_eq(sampler_choose(&s, logits, 0), 3);
    sampler_close(&s);
    o.bias = &bad;
    cr_assert_eq(sampler_open(&s, &o, VOCAB, &err), STATUS_USAGE);
    sampler_close(&s);
}

Test(sampler, a_seed_repeats_and_draws_do_not_depend_on_order)
{
    float logits[VOCAB] = {0};
    struct sampler a, b;
    struct error err;
    struct ingot_sampling o = plain();
    sampler_open(&a, &o, VOCAB, &err);
    sampler_open(&b, &o, VOCAB, &err);
    int32_t forward[20];
    for (int i = 0; i < 20; i++)
        forward[i] = sampler_choose(&a, logits, (uint64_t)i);
    for (int i = 20; i-- > 0;)
        cr_assert_eq(sampler_choose(&b, logits, (uint64_t)i), forward[i]);
    sampler_close(&a);
    sampler_close(&b);
}

Test(sampler, not_numbers_are_found)
{
    float logits[VOCAB];
    struct sampler s;
    struct error err;
    struct ingot_sampling o = plain();
    for (int i = 0; i < VOCAB; i++)
        logits[i] = NAN;
    sampler_open(&s, &o, VOCAB, &err);
    cr_assert_eq(sampler_choose(&s, logits, 0), -1);
    logits[5] = 1; /* one number among them is still a choice */
    cr_assert_eq(sampler_choose(&s, logits, 0), 5);
    logits[6] = INFINITY;
    cr_assert_eq(sampler_choose(&s, logits, 0), -1);
    sampler_close(&s);
}

Test(sampler, logprobs)
{
    float logits[VOCAB] = {[10] = 3, [20] = 2};
    struct ingot_logprob top[3];
    double total = exp(3) + exp(2) + VOCAB - 2;
    float own = logprobs_best(logits, VOCAB, 20, top, 3);
    cr_assert_float_eq(own, 2 - log(total), 1e-5);
    cr_assert(top[0].id == 10 && top[1].id == 20 && top[2].id == 0);
    cr_assert_float_eq(top[0].logprob, 3 - log(total), 1e-5);
}
