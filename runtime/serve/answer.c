/* Answers of /v1/chat/completions and /v1/completions: whole, or as server-sent events. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>

#include "runtime/serve/serve.h"

enum { WAIT_MS = 100, KEEP_ALIVE_MS = 5000, IDLE_SECONDS = 60 };

bool exchange_connected(const struct exchange *x)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    char byte;
    if (!info)
        return true;
    ssize_t n = recv(info->connect_fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR));
}

/* ---- events ----------------------------------------------------------------------------------------------------------- */

/* The prompt's own text in front of an echoed answer. */
static void echo_text(struct exchange *x, struct choice *c, struct str *out)
{
    struct detokenizer d;
    const struct prompt *p = &x->ask.prompts[c->prompt];
    struct error err;
    detokenizer_init(&d, x->served->model->tokenizer, true);
    for (size_t i = 0; i < p->count; i++)
        if (detokenizer_add(&d, p->ids[i], out, &err))
            break;
    detokenizer_finish(&d, out);
    detokenizer_free(&d);
}

/* Text that is no part of a chat's answer: echoed, or of a completion. */
static void add_text(struct exchange *x, struct choice *c, const char *text, size_t size, bool with_logprobs)
{
    if (!x->ask.stream)
        str_add(&c->text, text, size);
    else if (size || with_logprobs)
        chunk_text(x, c, "content", text, size);
}

static void take_token(struct exchange *x, struct choice *c, const struct ingot_event *e)
{
    bool logprobs = x->ask.logprobs >= 0 && e->token >= 0;
    if (!x->ask.chat) {
        if (logprobs)
            logprobs_legacy(x, c, e->token, e);
        add_text(x, c, e->text, e->size, logprobs);
    } else if (logprobs) { /* they go out with what the reader makes of the token, or with what comes next */
        str_add_text(&c->logprobs, c->logprobs.size ? ", " : "");
        logprobs_chat(x, &c->logprobs, e);
    }
}

static void take_end(struct exchange *x, struct choice *c, const struct ingot_event *e)
{
    if (!x->ask.chat)
        add_text(x, c, e->text, e->size, false);
    else if (!x->ask.stream)
        choice_keep(c, e->answer);
    c->finish = e->finish;
    x->completion_tokens += e->generated_tokens;
    x->prompt_tokens += c - x->choices == 0 || c[-1].prompt != c->prompt ? e->prompt_tokens : 0;
    x->reused_tokens += x->ask.n == 1 ? e->reused_tokens : 0;
    if (x->ask.stream)
        chunk_last(x, c);
}

static enum status take_event(struct exchange *x, struct choice *c, const struct ingot_event *e, struct error *err)
{
    switch (e->kind) {
    case INGOT_EVENT_PROMPT_TOKEN: logprobs_legacy(x, c, e->token, e); break;
    case INGOT_EVENT_TOKEN: take_token(x, c, e); break;
    case INGOT_EVENT_REASONING:
    case INGOT_EVENT_CONTENT:
        if (x->ask.stream)
            chunk_text(x, c, e->kind == INGOT_EVENT_CONTENT ? "content" : "reasoning_content", e->text, e->size);
        break;
    case INGOT_EVENT_CALL:
    case INGOT_EVENT_ARGUMENTS:
        if (x->ask.stream)
            chunk_call(x, c, e);
        break;
    case INGOT_EVENT_CALL_END: c->calls++; break;
    case INGOT_EVENT_WARNING: choice_warn(c, e->name, e->text, e->size); break;
    case INGOT_EVENT_DONE: take_end(x, c, e); break;
    case INGOT_EVENT_ERROR: return error_set(err, (enum status)e->error->status, "%s", e->error->text);
    }
    return STATUS_OK;
}

/* Waits for events of any choice; *busy: something happened. All ended: *busy false and nothing runs. */
static enum status pump(struct exchange *x, int timeout_ms, bool *busy, bool *running, struct error *err)
{
    *busy = *running = false;
    int alone = -1;
    for (int pass = 0; pass < 2 && !*busy; pass++)
        for (int i = 0; i < x->choice_count; i++) {
            struct choice *c = &x->choices[i];
            struct ingot_event e;
            if (c->finish >= 0)
                continue;
            *running = true;
            alone = alone < 0 || alone == i ? i : INT32_MAX;
            if (!source_next(&c->source, pass == 0 ? 0 : alone == i && x->choice_count == 1 ? timeout_ms : 5, &e))
                continue;
            *busy = true;
            enum status status = take_event(x, c, &e, err);
            if (status)
                return status;
        }
    return STATUS_OK;
}

/* ---- starting --------------------------------------------------------------------------------------------------------- */

static enum status start_choice(struct exchange *x, struct choice *c, int number, struct ingot_session *session, struct error *err)
{
    struct ingot_request_options o = x->ask.options;
    o.sampling.seed += (uint64_t)number; /* n answers of one seed differ, and repeat */
    o.rest = true; /* a client may never read, and others need the room */
    if (x->ask.echo && x->served->model->tokenizer) {
        if (x->ask.logprobs >= 0)
            logprobs_legacy(x, c, x->ask.prompts[c->prompt].ids[0], NULL);
        struct str text = {0};
        echo_text(x, c, &text);
        add_text(x, c, str_text(&text), text.size, false);
        str_free(&text);
    }
    if (x->server->script) {
        ingot_session_close(session);
        return source_open_script(&c->source, x->server->script, &x->ask, o.sampling.seed, x->ask.prompts[c->prompt].count, err);
    }
    return source_open_engine(&c->source, session, &o, err);
}

/* The prompt is computed once, n sessions share it. */
static enum status compute_prompt(struct ingot_session *session, const struct ask *a, struct error *err)
{
    struct ingot_request *request;
    struct ingot_request_options o = a->options;
    struct ingot_event e;
    o.max_tokens = 0;
    o.prompt_logprobs = false;
    o.top_logprobs = -1;
    enum status status = (enum status)ingot_request_start(&request, session, &o, (struct ingot_error *)err);
    if (status)
        return status;
    while (ingot_request_next(request, -1, &e))
        if (e.kind == INGOT_EVENT_ERROR)
            status = error_set(err, (enum status)e.error->status, "%s", e.error->text);
    ingot_request_free(request);
    return status;
}

static enum status start_prompt(struct exchange *x, int prompt, struct error *err)
{
    struct ask *a = &x->ask;
    struct ingot_error *e = (struct ingot_error *)err;
    struct ingot_session *first = NULL;
    enum status status = (enum status)ingot_session_begin(&first, x->served->engine, x->owner, a->prompts[prompt].ids, a->prompts[prompt].count, e);
    if (!status && a->n > 1 && !x->server->script)
        status = compute_prompt(first, a, err);
    struct ingot_session *sessions[MAX_CHOICES] = {first};
    for (int i = 1; i < a->n && !status; i++) /* all forks before the first goes on */
        status = (enum status)ingot_session_fork(&sessions[i], first, e);
    for (int i = 0; i < a->n; i++) {
        struct choice *c = &x->choices[x->choice_count];
        if (status) {
            ingot_session_close(sessions[i]);
            continue;
        }
        x->choice_count++;
        c->prompt = prompt;
        c->finish = -1;
        c->source.session = sessions[i];
        status = start_choice(x, c, i, sessions[i], err);
    }
    return status;
}

static enum status start(struct exchange *x, bool chat, const char **param, struct error *err)
{
    struct json body;
    struct json_options options = {.depth = 100};
    *param = NULL;
    enum status status = json_parse(&x->arena, str_text(&x->body), x->body.size, &options, &body, err);
    if (status)
        return status;
    if (body.kind != JSON_OBJECT)
        return error_set(err, STATUS_USAGE, "the body is %s; an object is needed", json_kind_name(&body));
    const struct json *model = json_get(&body, "model");
    *param = "model";
    if (model && model->kind != JSON_STRING && model->kind != JSON_NULL)
        return error_set(err, STATUS_USAGE, "model is %s; a name is needed", json_kind_name(model));
    bool named = json_is(model, JSON_STRING);
    if ((status = served_take(&x->server->models, named ? model->text : "", named ? model->size : 0, &x->served, err)))
        return status;
    if ((status = ask_read(&x->ask, &x->arena, &body, chat, x->served->model, &x->server->options->chat, param, err)))
        return status;
    x->choices = arena_array(&x->arena, (size_t)x->ask.prompt_count * (size_t)x->ask.n, sizeof *x->choices);
    if (!x->choices)
        return error_memory(err, "answers");
    unsigned long long name[2] = {0};
    if (getrandom(name, sizeof name, 0) < 0)
        name[0] = (unsigned long long)(uintptr_t)x;
    snprintf(x->id, sizeof x->id, "%s-%016llx%08llx", chat ? "chatcmpl" : "cmpl", name[0], name[1] & 0xFFFFFFFF);
    x->created = time(NULL);
    *param = chat ? "messages" : "prompt";
    for (int i = 0; i < x->ask.prompt_count && !status; i++)
        status = start_prompt(x, i, err);
    return status;
}

void answer_close(struct exchange *x)
{
    for (int i = 0; i < x->choice_count; i++) /* tell all before waiting for each */
        if (x->choices[i].source.request)
            ingot_request_cancel(x->choices[i].source.request);
    for (int i = 0; i < x->choice_count; i++) {
        struct choice *c = &x->choices[i];
        source_close(&c->source);
        str_free(&c->text);
        str_free(&c->reasoning);
        str_free(&c->call_list);
        str_free(&c->warnings);
        str_free(&c->logprobs);
        for (int k = 0; k < 3; k++)
            str_free(&c->legacy[k]);
        str_free(&c->offsets);
    }
    x->choice_count = 0;
    ask_free(&x->ask);
    if (x->served)
        served_give(&x->server->models, x->served);
    x->served = NULL;
}

/* ---- whole ------------------------------------------------------------------------------------------------------------ */

static enum MHD_Result answer_whole(struct exchange *x)
{
    struct error err;
    bool busy, running = true;
    MHD_set_connection_option(x->connection, MHD_CONNECTION_OPTION_TIMEOUT, 0);
    while (running) {
        enum status status = pump(x, WAIT_MS, &busy, &running, &err);
        if (status)
            return reply_status(x->connection, &err, NULL);
        if (running && atomic_load(&x->server->cutting))
            return reply_error(x->connection, 503, "shutting_down", NULL, "the server is shutting down");
        if (running && !exchange_connected(x))
            return MHD_NO; /* nobody is there to answer */
    }
    MHD_set_connection_option(x->connection, MHD_CONNECTION_OPTION_TIMEOUT, IDLE_SECONDS);
    struct str body = {0};
    write_head(x, &body, false);
    for (int i = 0; i < x->choice_count; i++)
        write_choice(x, &body, &x->choices[i]);
    str_add_text(&body, "], ");
    write_usage(x, &body);
    write_warnings(x, &body);
    str_add_text(&body, "}");
    enum MHD_Result result = body.failed ? reply_error(x->connection, 500, NULL, NULL, "out of memory for the answer")
                                         : reply_json(x->connection, 200, &body);
    str_free(&body);
    return result;
}

/* ---- streams ---------------------------------------------------------------------------------------------------------- */

/* MHD asks for bytes; the connection's own thread waits here for the next event. */
static ssize_t read_stream(void *context, uint64_t position, char *buffer, size_t size)
{
    struct exchange *x = context;
    (void)position;
    struct error err;
    bool busy, running;
    int waited = 0;
    MHD_set_connection_option(x->connection, MHD_CONNECTION_OPTION_TIMEOUT, 0);
    while (x->sent == x->out.size && !x->ended) {
        if (!exchange_connected(x) || atomic_load(&x->server->cutting) || x->out.failed)
            return MHD_CONTENT_READER_END_WITH_ERROR;
        str_clear(&x->out);
        x->sent = 0;
        if (pump(x, WAIT_MS, &busy, &running, &err)) {
            str_add_text(&x->out, "data: ");
            error_object(&x->out, 500, NULL, NULL, err.text);
            str_add_text(&x->out, "\n\n");
            x->ask.include_usage = false;
            end_stream(x);
        } else if (!running) {
            end_stream(x);
        } else if (!busy && (waited += WAIT_MS) >= KEEP_ALIVE_MS) {
            str_add_text(&x->out, ": still computing\n\n"); /* a comment: keeps proxies and clients patient */
            waited = 0;
        }
    }
    MHD_set_connection_option(x->connection, MHD_CONNECTION_OPTION_TIMEOUT, IDLE_SECONDS);
    size_t n = x->out.size - x->sent < size ? x->out.size - x->sent : size;
    if (!n)
        return MHD_CONTENT_READER_END_OF_STREAM;
    memcpy(buffer, x->out.data + x->sent, n);
    x->sent += n;
    return (ssize_t)n;
}

static enum MHD_Result answer_stream(struct exchange *x)
{
    struct MHD_Response *r = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 1 << 14, read_stream, x, NULL);
    if (!r)
        return MHD_NO;
    MHD_add_response_header(r, "Content-Type", "text/event-stream");
    MHD_add_response_header(r, "Cache-Control", "no-store");
    MHD_add_response_header(r, "X-Accel-Buffering", "no");
    reply_add_origin(x->connection, r);
    enum MHD_Result result = MHD_queue_response(x->connection, 200, r);
    MHD_destroy_response(r);
    return result;
}

enum MHD_Result answer_completion(struct exchange *x, bool chat)
{
    struct error err = {0};
    const char *param;
    enum status status = start(x, chat, &param, &err);
    if (status)
        return reply_status(x->connection, &err, param);
    return x->ask.stream ? answer_stream(x) : answer_whole(x);
}
