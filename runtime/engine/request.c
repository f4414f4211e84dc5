/* Requests: from sampled tokens to events. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "runtime/engine/engine.h"

void ingot_request_defaults(const struct ingot_model *model, struct ingot_request_options *out)
{
    *out = (struct ingot_request_options){.max_tokens = -1, .top_logprobs = -1};
    ingot_sampling_defaults(model, &out->sampling);
}

/* ---- events --------------------------------------------------------------------------------------------------------- */

struct event_node *event_new(enum ingot_event_kind kind)
{
    struct event_node *node = calloc(1, sizeof *node);
    if (node) {
        node->event.kind = kind;
        node->event.text = "";
        node->event.token = -1;
    }
    return node;
}

void event_free(struct event_node *node)
{
    if (node) {
        free(node->text);
        free(node->name);
    }
    free(node);
}

bool event_text(struct event_node *node, const char *text, size_t size)
{
    node->text = malloc(size + 1);
    if (!node->text)
        return false;
    memcpy(node->text, text, size);
    node->text[size] = 0;
    node->event.text = node->text;
    node->event.size = size;
    return true;
}

void request_push(struct ingot_request *r, struct event_node *node)
{
    pthread_mutex_lock(&r->engine->lock);
    *r->events_end = node;
    r->events_end = &node->next;
    pthread_cond_broadcast(&r->wake);
    pthread_mutex_unlock(&r->engine->lock);
}

/* node may be NULL when memory is out, an error's too: the consumer then sees the end by the state alone. */
void request_end(struct ingot_request *r, struct event_node *node)
{
    r->ended = clock_seconds();
    if (node) {
        struct ingot_event *e = &node->event;
        e->prompt_tokens = (size_t)r->prompt_end;
        e->reused_tokens = (size_t)r->reused;
        e->generated_tokens = (size_t)r->generated;
        e->prompt_seconds = (r->first ? r->first : r->ended) - r->started;
        e->generate_seconds = r->first ? r->ended - r->first : 0;
    }
    pthread_mutex_lock(&r->engine->lock);
    if (node) {
        *r->events_end = node;
        r->events_end = &node->next;
    }
    r->engine->pool.reserved -= r->reserved;
    r->reserved = 0;
    r->session->active = NULL;
    marks_give_up(r->session);
    if (r->options.rest)
        session_rest(r->session);
    r->state = REQUEST_ENDED;
    pthread_cond_broadcast(&r->wake);
    pthread_mutex_unlock(&r->engine->lock);
}

/* What the reader made of the text so far goes to the consumer. */
static void push_parts(struct ingot_request *r)
{
    for (struct event_node *node; (node = parts_take(&r->parts));)
        request_push(r, node);
}

static enum status read_text(struct ingot_request *r, const char *text, size_t size, struct error *err)
{
    return r->options.chat ? parts_add(&r->parts, text, size, err) : STATUS_OK;
}

/* The answer's last text, behind which nothing comes. */
static bool read_rest(struct ingot_request *r, const struct str *rest, bool cut)
{
    struct error err;
    if (!r->options.chat)
        return true;
    bool good = !parts_add(&r->parts, str_text(rest), rest->size, &err) && !parts_end(&r->parts, cut, &err);
    push_parts(r);
    return good;
}

void request_finish(struct ingot_request *r, enum ingot_finish finish)
{
    struct event_node *node = event_new(INGOT_EVENT_DONE);
    if (node) {
        struct str rest = {0};
        str_add(&rest, str_text(&r->held), r->held.size); /* the beginning of a stop text that never came */
        if (r->detokenize)
            detokenizer_finish(&r->detokenizer, &rest);
        bool whole = !rest.failed && event_text(node, str_text(&rest), rest.size) && read_rest(r, &rest, finish != INGOT_FINISH_STOP);
        str_free(&rest);
        node->event.finish = finish;
        if (r->options.chat && whole) {
            parts_answer(&r->parts, &r->answer);
            node->event.answer = &r->answer;
            node->event.calls = r->answer.call_count;
        }
        if (!whole) { /* an answer that lacks its end must not look like one */
            node->event.kind = INGOT_EVENT_ERROR;
            node->event.error = &node->error;
            error_memory(inner(&node->error), "an answer's text");
        }
    }
    request_end(r, node);
}

struct event_node *event_failure(const struct error *err)
{
    struct event_node *node = event_new(INGOT_EVENT_ERROR);
    if (node) {
        memcpy(&node->error, err, sizeof node->error);
        node->event.error = &node->error;
    }
    return node;
}

void request_fail(struct ingot_request *r, const struct error *err) { request_end(r, event_failure(err)); }

/* ---- text ----------------------------------------------------------------------------------------------------------- */

/* Where the first stop text begins in `held`, or the size. *holding: where a stop text may have begun. */
static size_t find_stop(const struct ingot_request *r, size_t *holding)
{
    const char *text = str_text(&r->held);
    size_t size = r->held.size;
    *holding = size;
    for (size_t at = 0; at < size; at++)
        for (int i = 0; i < r->options.stop_count; i++) {
            size_t n = r->stop_size[i], have = size - at;
            if (memcmp(text + at, r->stop[i], n < have ? n : have) != 0)
                continue;
            if (n <= have)
                return at;
            if (at < *holding)
                *holding = at;
        }
    return size;
}

static enum status add_logprobs(struct ingot_request *r, struct event_node *node, struct row *row, int32_t token, struct error *err)
{
    if (r->options.top_logprobs < 0)
        return STATUS_OK;
    int64_t vocab = r->engine->model->info.vocab;
    int count = r->options.top_logprobs > MAX_TOP ? MAX_TOP : r->options.top_logprobs;
    node->event.top = node->top;
    node->event.top_count = count < vocab ? count : (int)vocab;
    if (row->look && logprobs_listed(row->look, token, node->top, count, &node->event.logprob))
        return STATUS_OK;
    enum status status = row_logits(r->engine, row, err);
    if (!status)
        node->event.logprob = logprobs_best(row->logits, vocab, token, node->top, count);
    return status;
}

void request_emit(struct ingot_request *r, int32_t token, struct row *row)
{
    struct event_node *node = event_new(INGOT_EVENT_TOKEN);
    struct error err;
    if (!node) {
        error_memory(&err, "an event");
        request_fail(r, &err);
        return;
    }
    r->generated++;
    bool ends = !r->options.ignore_end && model_ends_turn(r->engine->model, token), stopped = false;
    node->event.token = token;
    if (add_logprobs(r, node, row, token, &err)) {
        event_free(node);
        request_fail(r, &err);
        return;
    }
    if (r->detokenize && !ends) {
        /* embeddings may have more rows than the tokenizer has tokens: those stand for nothing */
        bool known = token < tokenizer_size(r->engine->model->tokenizer);
        if (known && detokenizer_add(&r->detokenizer, token, &r->held, &err)) {
            event_free(node);
            request_fail(r, &err);
            return;
        }
        size_t holding, stop = find_stop(r, &holding);
        stopped = stop < r->held.size;
        size_t now = stopped ? stop : holding;
        if (r->held.failed || !event_text(node, str_text(&r->held), now)) {
            event_free(node);
            error_memory(&err, "an answer's text");
            request_fail(r, &err);
            return;
        }
        memmove(r->held.data ? r->held.data : (char[1]){0}, str_text(&r->held) + now, r->held.size - now);
        r->held.size -= now;
        if (stopped) {
            str_clear(&r->held);
            detokenizer_free(&r->detokenizer); /* what follows the stop text is not part of the answer */
            detokenizer_init(&r->detokenizer, r->engine->model->tokenizer, r->options.keep_special);
        }
    }
    if (read_text(r, node->event.text, node->event.size, &err)) {
        event_free(node);
        request_fail(r, &err);
        return;
    }
    request_push(r, node);
    push_parts(r);
    if (ends || stopped || (r->grammar && grammar_ended(r->grammar)) || (r->options.chat && r->options.chat->one_call && r->parts.calls))
        request_finish(r, INGOT_FINISH_STOP);
    else if ((r->options.max_tokens >= 0 && r->generated >= r->options.max_tokens) || (int64_t)r->session->tokens.count >= r->limit)
        request_finish(r, INGOT_FINISH_LENGTH);
}

bool request_wants_rows(const struct ingot_request *r) { return r->options.prompt_logprobs || (r->options.row && !r->options.last_row); }

/* Row i predicts token i + 1: its logits are the logprobs of that one. */
void request_row(struct ingot_request *r, int64_t position, const float *logits)
{
    if (r->options.row)
        r->options.row(r->options.row_context, (size_t)position, logits);
    if (!r->options.prompt_logprobs || position + 1 >= r->prompt_end || r->state != REQUEST_RUNNING)
        return;
    struct event_node *node = event_new(INGOT_EVENT_PROMPT_TOKEN);
    struct row row = {.logits = logits};
    struct error err;
    if (!node) {
        error_memory(&err, "an event");
        request_fail(r, &err);
        return;
    }
    node->event.token = r->session->tokens.data[position + 1];
    (void)add_logprobs(r, node, &row, node->event.token, &err); /* the row is here: nothing can fail */
    request_push(r, node);
}

/* ---- the consumer's side -------------------------------------------------------------------------------------------- */

static enum status copy_stops(struct ingot_request *r, const struct ingot_request_options *o, struct error *err)
{
    r->stop = calloc((size_t)o->stop_count + 1, sizeof *r->stop);
    r->stop_size = calloc((size_t)o->stop_count + 1, sizeof *r->stop_size);
    if (!r->stop || !r->stop_size)
        return error_memory(err, "stop texts");
    r->options.stop_count = 0;
    for (int i = 0; i < o->stop_count; i++) {
        size_t n = strlen(o->stop[i]);
        if (!n)
            continue;
        char *copy = strdup(o->stop[i]);
        if (!copy)
            return error_memory(err, "stop texts");
        r->stop[r->options.stop_count] = copy;
        r->stop_size[r->options.stop_count++] = n;
    }
    return STATUS_OK;
}

static void request_release(struct ingot_request *r)
{
    for (struct event_node *n = r->events, *next; n; n = next) {
        next = n->next;
        event_free(n);
    }
    event_free(r->current);
    for (int i = 0; r->stop && i < r->options.stop_count; i++)
        free(r->stop[i]);
    free(r->stop);
    free(r->stop_size);
    sampler_close(&r->sampler);
    grammar_state_close(r->grammar);
    free(r->allowed);
    ids_free(&r->forced);
    if (r->detokenize)
        detokenizer_free(&r->detokenizer);
    str_free(&r->held);
    if (r->options.chat)
        parts_close(&r->parts);
    ingot_chat_close(r->options.chat);
    pthread_cond_destroy(&r->wake);
    free(r);
}

static enum status prepare(struct ingot_request *r, const struct ingot_request_options *o, struct error *err)
{
    struct ingot_session *s = r->session;
    struct ingot_engine *e = r->engine;
    enum status status = copy_stops(r, o, err);
    if (!status)
        status = sampler_open(&r->sampler, &r->options.sampling, e->model->info.vocab, err);
    if (!status && o->grammar && o->chat && o->chat->grammar)
        status = error_set(err, STATUS_USAGE, "the chat and the request both hold the answer to a grammar; one is possible");
    const struct ingot_grammar *grammar = o->grammar ? o->grammar : o->chat ? (const struct ingot_grammar *)o->chat->grammar : NULL;
    if (!status && grammar)
        status = request_hold(r, grammar, err);
    for (size_t i = 0; i < s->tokens.count && !status; i++)
        status = sampler_see(&r->sampler, s->tokens.data[i], true, err);
    if (status)
        return status;
    r->detokenize = e->model->tokenizer != NULL;
    if (r->detokenize)
        detokenizer_init(&r->detokenizer, e->model->tokenizer, r->options.keep_special);
    if (o->chat) {
        /* the same seed gives the same ids of calls, n answers of one prompt have others */
        status = parts_open(&r->parts, o->chat, r->sampler.seed, err);
        if (status)
            return status;
    }
    r->prompt_end = (int64_t)s->tokens.count;
    r->limit = o->max_tokens >= 0 && o->max_tokens < e->plan.context - r->prompt_end ? r->prompt_end + o->max_tokens : e->plan.context;
    return STATUS_OK;
}

/* A rope that depends on the sequence's length makes cached keys worthless when another length is planned. Lock held. */
static void plan_length(struct ingot_request *r)
{
    struct ingot_session *s = r->session;
    const struct program *p = &r->engine->model->model->program;
    for (int i = 0; i < p->rope_count; i++) {
        int64_t original = p->ropes[i].original;
        if (original && (s->planned > original || r->limit > original) && s->planned != r->limit)
            session_keep(s, 0);
    }
    s->planned = r->limit;
}

/* Where a prompt of a recurrent model is worth a mark: the next one may differ from what asks for this answer on, or be the same. Its
 * last token is computed again in any case. */
static int64_t find_turn_end(const struct ingot_request *r)
{
    enum { NEAR = 64 }; /* tokens that are as well computed again */
    int64_t at = r->prompt_end - 1, least = at > NEAR ? at - NEAR : 0;
    if (request_wants_rows(r) || r->options.rest || !least)
        return 0;
    while (at > least && !model_ends_turn(r->engine->model, r->session->tokens.data[at - 1]))
        at--;
    return at > least ? at : r->prompt_end - 1;
}

enum ingot_status ingot_request_start(struct ingot_request **out, struct ingot_session *s, const struct ingot_request_options *o,
                                      struct ingot_error *err)
{
    *out = NULL;
    if (s->active)
        return (enum ingot_status)error_set(inner(err), STATUS_USAGE, "a request still runs on this session");
    if (!s->tokens.count)
        return (enum ingot_status)error_set(inner(err), STATUS_USAGE, "the prompt is empty: there is nothing to go on from");
    struct ingot_engine *e = s->engine;
    struct ingot_request *r = calloc(1, sizeof *r);
    if (!r)
        return (enum ingot_status)error_memory(inner(err), "a request");
    *r = (struct ingot_request){.session = s, .engine = e, .options = *o, .events_end = &r->events, .started = clock_seconds()};
    if (o->chat) { /* markers of reasoning and calls may be special tokens */
        r->options.chat = ingot_chat_share(o->chat);
        r->options.keep_special = true;
    }
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&r->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    enum status status = prepare(r, o, inner(err));
    if (status) {
        request_release(r);
        return (enum ingot_status)status;
    }
    pthread_mutex_lock(&e->lock);
    plan_length(r);
    /* rows that are to be seen must be computed again; otherwise the last token alone is */
    int64_t keep = r->prompt_end - 1;
    if (request_wants_rows(r) && (int64_t)r->options.rows_from < keep)
        keep = (int64_t)r->options.rows_from;
    session_keep(s, keep);
    r->turn_end = e->pool.remembers ? find_turn_end(r) : 0;
    s->active = r;
    struct ingot_request **at = &e->queue;
    while (*at)
        at = &(*at)->next;
    *at = r;
    pthread_cond_signal(&e->work);
    pthread_mutex_unlock(&e->lock);
    *out = r;
    return INGOT_OK;
}

bool ingot_request_next(struct ingot_request *r, int timeout_ms, struct ingot_event *out)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += timeout_ms % 1000 * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&r->engine->lock);
    int waited = 0;
    while (!r->events && r->state < REQUEST_ENDED && !waited) {
        if (timeout_ms < 0)
            pthread_cond_wait(&r->wake, &r->engine->lock);
        else
            waited = pthread_cond_timedwait(&r->wake, &r->engine->lock, &until);
    }
    event_free(r->current);
    r->current = r->events;
    if (r->current) {
        r->events = r->current->next;
        if (!r->events)
            r->events_end = &r->events;
        *out = r->current->event;
    }
    pthread_mutex_unlock(&r->engine->lock);
    return r->current != NULL;
}

void ingot_request_cancel(struct ingot_request *r)
{
    atomic_store(&r->cancel, true);
    pthread_mutex_lock(&r->engine->lock);
    pthread_cond_signal(&r->engine->work);
    pthread_mutex_unlock(&r->engine->lock);
}

void ingot_request_free(struct ingot_request *r)
{
    if (!r)
        return;
    ingot_request_cancel(r);
    pthread_mutex_lock(&r->engine->lock);
    while (r->state != REQUEST_GONE)
        pthread_cond_wait(&r->wake, &r->engine->lock);
    pthread_mutex_unlock(&r->engine->lock);
    request_release(r);
}
