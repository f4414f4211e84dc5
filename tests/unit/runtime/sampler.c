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

/* ---- choosing from candidates (kernels/choice.h) ------------------------------------------------------------------------- */

enum { WIDE = 3000 };

static uint64_t random_state = 88172645463325252u;
static float uniform(void)
{
    random_state ^= random_state << 13, random_state ^= random_state >> 7, random_state ^= random_state << 17;
    return (float)(random_state >> 40) * 0x1p-24f;
}

/* Rows as models have them: many alike, some far ahead; spread 0: all the same. */
static void make_row(float *row, float spread, bool ties)
{
    for (int i = 0; i < WIDE; i++) {
        row[i] = spread * (uniform() + uniform() + uniform() + uniform() - 2) + (uniform() < 0.01f ? spread * uniform() : 0);
        row[i] = ties ? rintf(row[i] * 4) / 4 : row[i];
    }
    if (spread > 3)
        row[7] = NAN, row[8] = -INFINITY;
}

static const struct ingot_sampling settings[] = {
    {.temperature = 0, .top_p = 1, .repeat_penalty = 1},
    {.temperature = 1, .top_p = 1, .repeat_penalty = 1},
    {.temperature = 0.7, .top_p = 0.9, .repeat_penalty = 1, .top_k = 50},
    {.temperature = 0.8, .top_p = 0.95, .repeat_penalty = 1.3, .presence_penalty = 0.5},
    {.temperature = 1.5, .top_p = 1, .repeat_penalty = 1, .min_p = 0.05, .frequency_penalty = -0.3},
    {.temperature = 0, .top_p = 1, .repeat_penalty = 0.8},
    {.temperature = 1, .top_p = 1, .repeat_penalty = 1, .top_k = 700},
    {.temperature = 5, .top_p = 0.5, .repeat_penalty = 1, .min_p = 1e-9},
};
enum { SETTINGS = sizeof settings / sizeof *settings };

/* Whatever is asked for, a choice from candidates is the choice from the row, or says that it lacks. Returns how often it does. */
static int compare_choices(const struct ingot_sampling *o, float spread, bool ties, const uint32_t *allowed, int draws)
{
    static float row[WIDE], scores[WIDE], logits[CHOICE_ROOM];
    static struct token_score list[CHOICE_ROOM];
    struct ingot_sampling seeded = *o;
    struct ingot_bias bias[2] = {{11, 2.5f}, {20, -100}};
    struct sampler s;
    struct error err;
    int lacks = 0;
    seeded.seeded = true, seeded.bias = bias, seeded.bias_count = spread > 2 ? 2 : 0;
    cr_assert_eq(sampler_open(&s, &seeded, WIDE, &err), STATUS_OK);
    s.allowed = allowed, s.allowed_words = (WIDE + 31) / 32 - 1; /* the last ids are of no grammar */
    for (int i = 0; i < draws; i++) {
        struct row_choice choice;
        make_row(row, spread, ties);
        sampler_ask(&s, 1, &choice);
        choice_make(&choice, row, WIDE, scores, list, logits);
        int32_t whole = sampler_choose(&s, row, (uint64_t)i), picked = sampler_pick(&s, &choice, (uint64_t)i);
        lacks += picked == SAMPLER_LACKS;
        cr_assert(picked == whole || picked == SAMPLER_LACKS, "temperature %g, top_k %d, top_p %g, spread %g: %d, not %d", o->temperature, (int)o->top_k,
                  o->top_p, (double)spread, picked, whole);
        cr_assert_eq(sampler_next(&s, row, (uint64_t)i), whole);
        cr_assert_eq(sampler_see(&s, whole, i % 2, &err), STATUS_OK);
    }
    sampler_close(&s);
    return lacks;
}

Test(sampler, choices_from_candidates_are_those_from_rows)
{
    uint32_t allowed[WIDE / 32 + 1];
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
        allowed[i] = i % 3 ? 0 : 0x80402011u;
    for (int k = 0; k < SETTINGS; k++)
        for (int ties = 0; ties < 2; ties++) {
            compare_choices(&settings[k], 0, ties, NULL, 20);
            compare_choices(&settings[k], 2, ties, NULL, 40);
            compare_choices(&settings[k], 20, ties, NULL, 60);
            compare_choices(&settings[k], 20, ties, allowed, 60);
        }
    /* rows are rarely needed where one setting or another truncates, or the model is sure of something */
    cr_assert_eq(compare_choices(&settings[0], 20, false, NULL, 100), 0);
    cr_assert_eq(compare_choices(&settings[2], 20, false, NULL, 100), 0);
    cr_assert_lt(compare_choices(&settings[1], 20, false, NULL, 100), 5);
    cr_assert_gt(compare_choices(&settings[1], 2, false, NULL, 100), 20, "a flat row cannot be told by its best values");
}

Test(sampler, weights_are_exponentials)
{
    cr_assert_eq(choice_weight(3, 3), (uint64_t)1 << CHOICE_UNIT);
    for (float x = 0; x < 27.9f; x += 0.0371f) {
        double want = exp(-(double)x);
        cr_assert_lt(fabs((double)choice_weight(-x, 0) * 0x1p-40 - want), 0x1p-41 + 1e-14 * want, "e^-%g", (double)x);
    }
    cr_assert_eq(choice_weight(-28.01f, 0), 0);
    cr_assert_eq(choice_weight(NAN, 0), 0);
    cr_assert_eq(choice_weight(-INFINITY, -INFINITY), 0);
}

Test(sampler, logprobs_from_candidates)
{
    static float row[WIDE], scores[WIDE], logits[CHOICE_ROOM];
    static struct token_score list[CHOICE_ROOM];
    struct ingot_logprob top[2][20];
    float own;
    for (int i = 0; i < 40; i++) {
        struct row_choice choice = {.best = 20, .temperature = 0.7f};
        make_row(row, 1 + (float)i, i % 2);
        row[9] = 2 * (1 + (float)i); /* among the best */
        row[7] = 0; /* a row with a NaN has no log probabilities */
        choice_make(&choice, row, WIDE, scores, list, logits);
        if (!logprobs_listed(&choice, 9, top[0], 20, &own)) {
            cr_assert_gt(i, 5);
            continue; /* 20 with a weight are not there */
        }
        double total = 0;
        for (int k = 0; k < WIDE; k++)
            total += exp((double)row[k] - choice.most);
        cr_assert_float_eq(log((double)choice.norm) - CHOICE_UNIT * log(2), log(total), 1e-8);
        cr_assert_float_eq(own, logprobs_best(row, WIDE, 9, top[1], 20), 2e-6); /* a unit of the last place */
        for (int k = 0; k < 20; k++) {
            cr_assert_eq(top[0][k].id, top[1][k].id);
            cr_assert_float_eq(top[0][k].logprob, top[1][k].logprob, 2e-6);
        }
        cr_assert_not(logprobs_listed(&choice, 8, top[0], 0, &own), "a token that is not listed");
    }
}
