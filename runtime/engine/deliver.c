/* What a step computed becomes tokens and events: whole rows of logits or, where the backend chooses (kernels/choice.h), what it
 * found. Masks and lists are made while the device still runs the step. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "runtime/engine/engine.h"

/* ---- rows ----------------------------------------------------------------------------------------------------------- */

enum status row_logits(struct ingot_engine *e, struct row *row, struct error *err)
{
    if (row->logits)
        return STATUS_OK;
    if (!e->fetched)
        log_line(LOG_VERBOSE, "sampling: the best values do not settle every choice (flat logits, many penalties); such rows come to the host whole");
    e->fetched = true;
    return e->backend->fetch(e->compiled, row->wanted, &row->logits, err);
}

/* Somebody looks at more of a row than a choice tells. */
static bool wants_whole(const struct step *step)
{
    for (int32_t i = 0; i < step->batch.sequences; i++)
        if (step->request[i]->options.row || step->request[i]->options.prompt_logprobs)
            return true;
    return false;
}

static int top_count(const struct ingot_request *r) { return r->options.top_logprobs > MAX_TOP ? MAX_TOP : r->options.top_logprobs; }

/* What a sequence's last row is asked for. A token that comes anyway, and logits that others than the best may lead after edits,
 * want a second look at the row as it is. */
static int32_t ask(struct ingot_request *r, int32_t forced, struct row *row, struct row_choice *list)
{
    int32_t count = 0;
    int top = top_count(r);
    if (forced < 0) {
        sampler_ask(&r->sampler, top > 1 ? top : 1, &list[count]);
        list[count].wanted = row->wanted;
        row->choice = row->look = &list[count++];
    }
    bool edited = row->choice && (row->choice->edit_count || row->choice->allowed);
    if ((forced >= 0 && top >= 0) || (edited && top > 0)) {
        list[count] = (struct row_choice){.wanted = row->wanted, .best = top > 1 ? top : 1, .temperature = 1};
        row->look = &list[count++];
    }
    return count;
}

/* ---- one sequence --------------------------------------------------------------------------------------------------- */

static bool reached_limit(const struct ingot_request *r)
{
    return r->options.max_tokens == 0 || (int64_t)r->session->tokens.count >= r->limit;
}

/* What the next token depends on beside the logits. Nobody hears of a failure before the step is done with the session's state. */
static void prepare(struct ingot_engine *e, struct step *step, int32_t *choices)
{
    for (int32_t i = 0; i < step->batch.sequences; i++) {
        struct ingot_request *r = step->request[i];
        struct error err;
        step->forced[i] = -1;
        step->failure[i] = NULL;
        step->failed[i] = false;
        if (!step->sampled[i] || reached_limit(r))
            continue;
        if (request_constrain(r, &err)) {
            step->failed[i] = true;
            step->failure[i] = event_failure(&err);
            continue;
        }
        step->forced[i] = request_forced(r);
        if (choices)
            *choices += ask(r, step->forced[i], &step->row[i], e->choices + *choices);
    }
}

static enum status choose_token(struct ingot_request *r, struct row *row, int32_t *token, struct error *err)
{
    uint64_t draw = (uint64_t)r->generated;
    *token = row->choice ? sampler_pick(&r->sampler, row->choice, draw) : SAMPLER_LACKS;
    if (*token == SAMPLER_LACKS) {
        enum status status = row_logits(r->engine, row, err);
        if (status)
            return status;
        *token = sampler_next(&r->sampler, row->logits, draw);
    }
    return *token >= 0 ? STATUS_OK
                       : error_set(err, STATUS_FAILED, "the logits behind token %zu are not numbers; the weights may be damaged", r->session->tokens.count);
}

static enum status next_token(struct ingot_request *r, struct row *row, int32_t token, struct error *err)
{
    enum status status = token < 0 ? choose_token(r, row, &token, err) : STATUS_OK;
    if (!status)
        status = request_follow(r, token, err);
    if (status)
        return status;
    ids_add(&r->session->tokens, token);
    if (r->session->tokens.failed || sampler_see(&r->sampler, token, false, err))
        return error_memory(err, "tokens");
    request_emit(r, token, row);
    return STATUS_OK;
}

/* Its prompt rows that somebody wants to see. */
static void show_rows(struct ingot_engine *e, const struct step *step, int32_t i, int32_t *at, const float *logits)
{
    struct ingot_request *r = step->request[i];
    const struct batch_sequence *q = &e->sequences[i];
    for (; *at < step->batch.wanted && e->wanted[*at] < q->first_row + q->rows; ++*at) {
        int64_t position = q->cached + e->wanted[*at] - q->first_row;
        if (logits && position < r->prompt_end && (request_wants_rows(r) || (r->options.row && position == r->prompt_end - 1)))
            request_row(r, position, logits + *at * e->model->info.vocab);
    }
}

/* ---- a step --------------------------------------------------------------------------------------------------------- */

/* The session has the state of the step's rows. Marks stay at the ends of earlier requests, in front of what asked for this answer, at
 * the end of what will rest, and every so many tokens. */
static void advance(struct ingot_request *r, const struct batch_sequence *q)
{
    struct ingot_session *s = r->session;
    pthread_mutex_lock(&r->engine->lock);
    bool alike = q->cached == s->alike, whole = q->rows % PIECE == 0;
    s->alike += alike && whole ? q->rows : 0;
    if (!r->engine->pool.remembers) {
        s->cached = q->cached + q->rows;
        pthread_mutex_unlock(&r->engine->lock);
        return;
    }
    int64_t before = s->mark_count > 1 ? s->marks[s->mark_count - 2].at : 0;
    bool rests = r->options.rest && alike && !whole; /* up to here it will */
    marks_advance(s, q->cached + q->rows, rests || q->cached == r->reused || q->cached == r->turn_end || q->cached / MARK_EVERY > before / MARK_EVERY);
    pthread_mutex_unlock(&r->engine->lock);
}

static void deliver(struct ingot_engine *e, struct step *step, const float *logits)
{
    int32_t at = 0; /* in wanted rows */
    for (int32_t i = 0; i < step->batch.sequences; i++) {
        struct ingot_request *r = step->request[i];
        struct error err;
        advance(r, &e->sequences[i]);
        show_rows(e, step, i, &at, logits);
        if (step->failed[i] && r->state == REQUEST_RUNNING)
            request_end(r, step->failure[i]);
        else if (step->failed[i])
            event_free(step->failure[i]);
        if (!step->sampled[i] || r->state != REQUEST_RUNNING)
            continue;
        if (!r->first)
            r->first = clock_seconds();
        if (reached_limit(r))
            request_finish(r, INGOT_FINISH_LENGTH);
        else if (next_token(r, &step->row[i], step->forced[i], &err))
            request_fail(r, &err);
    }
}

static enum status compute(struct ingot_engine *e, struct step *step, const float **logits, struct error *err)
{
    bool whole = !e->backend->choose || wants_whole(step);
    int32_t choices = 0;
    enum status status = e->backend->step(e->compiled, &step->batch, &e->pool.memory, e->logits, whole ? logits : NULL, err);
    if (!status)
        prepare(e, step, whole ? NULL : &choices);
    if (!status && !whole && (status = e->backend->choose(e->compiled, e->choices, choices, err)))
        for (int32_t i = 0; i < step->batch.sequences; i++)
            event_free(step->failure[i]);
    for (int32_t i = 0; !status && whole && i < step->batch.sequences; i++)
        if (step->sampled[i])
            step->row[i].logits = *logits + step->row[i].wanted * e->model->info.vocab;
    return status;
}

/* What ingot_engine_health() tells. */
static void note_health(struct ingot_engine *e, const struct error *err)
{
    pthread_mutex_lock(&e->lock);
    if (err && !e->health.status)
        log_line(LOG_WARN, "%s", err->text);
    e->health = err ? *err : (struct error){0};
    pthread_mutex_unlock(&e->lock);
}

void step_run(struct ingot_engine *e, struct step *step)
{
    const float *logits = NULL;
    struct error err = {0};
    enum status status = compute(e, step, &logits, &err);
    const char *lost = model_lost(e->model->model);
    if (lost)
        status = error_set(&err, STATUS_FAILED, "%s: the file was cut short while in use; put it back and load the model again", lost);
    if (status == STATUS_DEVICE || e->health.status) /* which this thread alone writes */
        note_health(e, status ? &err : NULL);
    if (!status) {
        deliver(e, step, logits);
        return;
    }
    for (int32_t i = 0; i < step->batch.sequences; i++) /* the batch is lost, sessions keep their last state */
        request_fail(step->request[i], &err);
}
