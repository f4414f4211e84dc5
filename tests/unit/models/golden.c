/* Whole models against logits that numpy computed in float64 (tests/golden/make_expected.py), from the same seeds: on the
 * reference path, on the default path, in chunks. INGOT_TEST_DEVICE=cuda: on that device. INGOT_TEST_GOLDEN=NAME: one model alone. */
#include <criterion/criterion.h>
#include <math.h>

#include "runtime/ingot.h"
#include "tests/golden/expected.h"
#include "tests/tiny_model.h"

enum { TOKENS = 40, VOCAB = 300 };

static void keep_row(void *context, size_t position, const float *logits) { memcpy((float *)context + position * VOCAB, logits, VOCAB * sizeof(float)); }

/* Asked for by name, so that it is the same on a machine with a card. */
static const char *device(void) { return getenv("INGOT_TEST_DEVICE") ? getenv("INGOT_TEST_DEVICE") : "cpu"; }

static void compute(const char *folder, bool reference, const char *kv, int chunk, float *logits)
{
    struct ingot_error err;
    struct ingot_model *model;
    struct ingot_engine *engine;
    struct ingot_session *session;
    struct ingot_request *request;
    struct ingot_request_options o;
    struct ingot_event e;
    int32_t ids[TOKENS];
    for (int i = 0; i < TOKENS; i++)
        ids[i] = (i * 37 + 11) % VOCAB;
    cr_assert_eq(ingot_model_open(&model, folder, NULL, &err), INGOT_OK, "%s", err.text);
    cr_assert_eq(ingot_engine_open(&engine, model, &(struct ingot_engine_options){.device = reference ? NULL : device(), .reference = reference, .kv = kv, .threads = 2}, &err), INGOT_OK, "%s", err.text);
    cr_assert_eq(ingot_session_open(&session, engine, &err), INGOT_OK);
    cr_assert_eq(ingot_session_append(session, ids, TOKENS, &err), INGOT_OK, "%s", err.text);
    ingot_request_defaults(model, &o);
    o.max_tokens = 0;
    o.chunk = chunk;
    o.row = keep_row;
    o.row_context = logits;
    cr_assert_eq(ingot_request_start(&request, session, &o, &err), INGOT_OK, "%s", err.text);
    while (ingot_request_next(request, -1, &e))
        cr_assert(e.kind != INGOT_EVENT_ERROR, "%s", e.error->text);
    ingot_request_free(request);
    ingot_session_close(session);
    ingot_engine_close(engine);
    ingot_model_close(model);
}

static double difference(const struct expected *x, const float *logits)
{
    double worst = 0;
    for (int r = 0; r < EXPECTED_ROWS; r++) {
        const float *row = logits + expected_rows[r] * VOCAB;
        double norm = 0;
        int best = 0;
        for (int i = 0; i < VOCAB; i++) {
            norm += (double)row[i] * (double)row[i];
            best = row[i] > row[best] ? i : best;
        }
        worst = fmax(worst, fabs(sqrt(norm) - x->norm[r]) / x->norm[r]);
        for (int i = 0; i < EXPECTED_KEPT; i++)
            worst = fmax(worst, fabs((double)row[i] - x->values[r][i]) / (x->norm[r] / sqrt(VOCAB)));
        cr_assert_eq(best, x->best[r], "%s: best token of row %d", x->model, expected_rows[r]);
    }
    return worst;
}

Test(golden, models)
{
    float *logits = malloc((size_t)TOKENS * VOCAB * sizeof *logits);
    const char *one = getenv("INGOT_TEST_GOLDEN");
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        if (one && strcmp(one, expected[i].model))
            continue;
        char *folder = tiny_make(expected[i].model);
        compute(folder, true, NULL, 0, logits);
        cr_assert_lt(difference(&expected[i], logits), 1e-4, "%s: reference differs by %g", expected[i].model, difference(&expected[i], logits));
        static const struct {
            const char *kv;
            int chunk;
            double bound; /* in standard deviations of the logits */
        } runs[] = {{"f32", 0, 2e-3}, {"f32", 1, 2e-3}, {"f32", 7, 2e-3}, {"f16", 0, 2e-2}, {"f16", 3, 2e-2}, {"bf16", 0, 1e-1}, {"f16,f32", 5, 2e-2}};
        for (size_t k = 0; k < sizeof runs / sizeof *runs; k++) {
            compute(folder, false, runs[k].kv, runs[k].chunk, logits);
            double d = difference(&expected[i], logits);
            cr_assert_lt(d, runs[k].bound, "%s, kv %s, chunk %d: differs by %g", expected[i].model, runs[k].kv, runs[k].chunk, d);
        }
        tiny_remove(folder);
    }
    free(logits);
}
