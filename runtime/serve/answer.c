/* Answers of /v1/chat/completions and /v1/completions: whole, or as server-sent events. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>

#include "base/utf8.h"
#include "runtime/serve/serve.h"

enum { WAIT_MS = 100, KEEP_ALIVE_MS = 5000, IDLE_SECONDS = 60 };

static const char *const finishes[] = {"stop", "length", "stop"};

bool exchange_connected(const struct exchange *x)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    char byte;
    if (!info)
        return true;
    ssize_t n = recv(info->connect_fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR));
}

/* ---- log probabilities ------------------------------------------------------------------------------------------------ */

static void token_json(struct str *out, const struct str *bytes, bool legacy)
{
    if (!legacy || utf8_is_valid(str_text(bytes), bytes->size)) {
        json_write_string(out, str_text(bytes), bytes->size);
        return;
    }
    str_add_text(out, "\"bytes:"); /* as OpenAI spells tokens that are no text, so that they stay apart */
    for (size_t i = 0; i < bytes->size; i++)
        str_format(out, "\\\\x%02x", (unsigned char)bytes->data[i]);
    str_add_char(out, '"');
}

static struct str token_bytes(struct exchange *x, int32_t id)
{
    struct str bytes = {0};
    if (x->served->model->tokenizer)
        tokenizer_bytes(x->served->model->tokenizer, id, &bytes);
    return bytes;
}

static void chat_entry(struct exchange *x, struct str *out, int32_t id, float logprob)
{
    struct str bytes = token_bytes(x, id);
    str_add_text(out, "{\"token\": ");
    token_json(out, &bytes, false);
    str_format(out, ", \"logprob\": %.9g, \"bytes\": [", (double)logprob);
    for (size_t i = 0; i < bytes.size; i++)
        str_format(out, "%s%d", i ? ", " : "", (unsigned char)bytes.data[i]);
    str_add_text(out, "]");
    str_free(&bytes);
}

static void chat_logprobs(struct exchange *x, struct str *out, const struct ingot_event *e)
{
    chat_entry(x, out, e->token, e->logprob);
    str_add_text(out, ", \"top_logprobs\": [");
    for (int i = 0; i < e->top_count; i++) {
        str_add_text(out, i ? ", " : "");
        chat_entry(x, out, e->top[i].id, e->top[i].logprob);
        str_add_char(out, '}');
    }
    str_add_text(out, "]}");
}

static size_t characters(const char *text, size_t size)
{
    size_t n = 0;
    for (size_t i = 0; i < size; i++)
        n += ((unsigned char)text[i] & 0xC0) != 0x80;
    return n;
}

static void legacy_top(struct exchange *x, struct str *out, int32_t id, float logprob, bool first)
{
    struct str bytes = token_bytes(x, id);
    str_add_text(out, first ? "" : ", ");
    token_json(out, &bytes, true);
    str_format(out, ": %.9g", (double)logprob);
    str_free(&bytes);
}

/* One entry of the legacy lists; e NULL: the prompt's first token, which nothing predicts. */
static void legacy_logprobs(struct exchange *x, struct choice *c, int32_t id, const struct ingot_event *e)
{
    struct str *tokens = &c->legacy[0], *values = &c->legacy[1], *top = &c->legacy[2];
    const char *comma = tokens->size ? ", " : "";
    struct str bytes = token_bytes(x, id);
    str_add_text(tokens, comma);
    token_json(tokens, &bytes, true);
    str_format(&c->offsets, "%s%zu", comma, c->offset);
    c->offset += characters(str_text(&bytes), bytes.size);
    str_free(&bytes);
    if (!e) {
        str_add_text(values, "null");
        str_add_text(top, "null");
        return;
    }
    str_format(values, "%s%.9g", comma, (double)e->logprob);
    str_format(top, "%s{", comma);
    bool own = false;
    for (int i = 0; i < e->top_count; i++) {
        legacy_top(x, top, e->top[i].id, e->top[i].logprob, i == 0);
        own |= e->top[i].id == id;
    }
    if (!own)
        legacy_top(x, top, id, e->logprob, e->top_count == 0);
    str_add_char(top, '}');
}

static void legacy_object(struct str *out, struct choice *c)
{
    str_format(out, "{\"tokens\": [%s], \"token_logprobs\": [%s], \"top_logprobs\": [%s], \"text_offset\": [%s]}", str_text(&c->legacy[0]),
               str_text(&c->legacy[1]), str_text(&c->legacy[2]), str_text(&c->offsets));
    for (int i = 0; i < 3; i++)
        str_clear(&c->legacy[i]);
    str_clear(&c->offsets);
}

/* ---- pieces of both forms --------------------------------------------------------------------------------------------- */

static void write_head(struct exchange *x, struct str *out, const char *object)
{
    str_format(out, "{\"id\": \"%s\", \"object\": \"%s\", \"created\": %lld, \"model\": ", x->id, object, (long long)x->created);
    json_write_string(out, x->served->id, strlen(x->served->id));
    str_add_text(out, ", \"choices\": [");
}

static void write_usage(struct exchange *x, struct str *out)
{
    str_format(out, "\"usage\": {\"prompt_tokens\": %zu, \"completion_tokens\": %zu, \"total_tokens\": %zu, \"prompt_tokens_details\": {\"cached_tokens\": %zu}}",
               x->prompt_tokens, x->completion_tokens, x->prompt_tokens + x->completion_tokens, x->reused_tokens);
}

/* A chunk of one choice: text (may be empty) and, with finish, its end. */
static void write_chunk(struct exchange *x, struct choice *c, const char *text, size_t size, const char *finish)
{
    struct str *out = &x->out;
    int index = (int)(c - x->choices);
    str_add_text(out, "data: ");
    write_head(x, out, x->ask.chat ? "chat.completion.chunk" : "text_completion");
    if (x->ask.chat) {
        str_format(out, "{\"index\": %d, \"delta\": {", index);
        if (!c->opened)
            str_add_text(out, "\"role\": \"assistant\", ");
        if (size || !c->opened || !finish) {
            str_add_text(out, "\"content\": ");
            json_write_string(out, text, size);
        }
        str_add_text(out, "}, \"logprobs\": ");
        if (c->logprobs.size)
            str_format(out, "{\"content\": [%s]}", str_text(&c->logprobs));
        else
            str_add_text(out, "null");
        str_clear(&c->logprobs);
    } else {
        str_format(out, "{\"index\": %d, \"text\": ", index);
        json_write_string(out, text, size);
        str_add_text(out, ", \"logprobs\": ");
        if (c->legacy[0].size)
            legacy_object(out, c);
        else
            str_add_text(out, "null");
    }
    c->opened = true;
    str_format(out, ", \"finish_reason\": %s%s%s}]}\n\n", finish ? "\"" : "", finish ? finish : "null", finish ? "\"" : "");
}

static void end_stream(struct exchange *x)
{
    if (x->ask.include_usage) {
        str_add_text(&x->out, "data: ");
        write_head(x, &x->out, x->ask.chat ? "chat.completion.chunk" : "text_completion");
        str_add_text(&x->out, "], ");
        write_usage(x, &x->out);
        str_add_text(&x->out, "}\n\n");
    }
    str_add_text(&x->out, "data: [DONE]\n\n");
    x->ended = true;
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

static void add_text(struct exchange *x, struct choice *c, const char *text, size_t size, bool with_logprobs)
{
    if (!x->ask.stream)
        str_add(&c->text, text, size);
    else if (size || with_logprobs)
        write_chunk(x, c, text, size, NULL);
}

static enum status take_event(struct exchange *x, struct choice *c, const struct ingot_event *e, struct error *err)
{
    bool logprobs = x->ask.logprobs >= 0 && e->token >= 0;
    switch (e->kind) {
    case INGOT_EVENT_PROMPT_TOKEN:
        legacy_logprobs(x, c, e->token, e);
        break;
    case INGOT_EVENT_TOKEN:
        if (logprobs && x->ask.chat) {
            str_add_text(&c->logprobs, c->logprobs.size ? ", " : "");
            chat_logprobs(x, &c->logprobs, e);
        } else if (logprobs) {
            legacy_logprobs(x, c, e->token, e);
        }
        add_text(x, c, e->text, e->size, logprobs);
        break;
    case INGOT_EVENT_DONE:
        add_text(x, c, e->text, e->size, false);
        c->finish = e->finish;
        x->completion_tokens += e->generated_tokens;
        x->prompt_tokens += c - x->choices == 0 || c[-1].prompt != c->prompt ? e->prompt_tokens : 0;
        x->reused_tokens += x->ask.n == 1 ? e->reused_tokens : 0;
        if (x->ask.stream)
            write_chunk(x, c, "", 0, finishes[e->finish]);
        break;
    case INGOT_EVENT_ERROR:
        return error_set(err, (enum status)e->error->status, "%s", e->error->text);
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
    o.discard = true; /* of n answers only some run at a time, and a client may never read: the others need the room */
    if (x->ask.echo && x->served->model->tokenizer) {
        if (x->ask.logprobs >= 0)
            legacy_logprobs(x, c, x->ask.prompts[c->prompt].ids[0], NULL);
        struct str text = {0};
        echo_text(x, c, &text);
        add_text(x, c, str_text(&text), text.size, false);
        str_free(&text);
    }
    if (x->server->script) {
        source_open_script(&c->source, x->server->script, &x->arena, &x->ask, x->ask.prompts[c->prompt].count);
        ingot_session_close(session);
        return STATUS_OK;
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
    enum status status = (enum status)ingot_session_open(&first, x->served->engine, e);
    if (!status)
        status = (enum status)ingot_session_append(first, a->prompts[prompt].ids, a->prompts[prompt].count, e);
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
    if ((status = ask_read(&x->ask, &x->arena, &body, chat, x->served->model, param, err)))
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

static void write_choice(struct exchange *x, struct str *out, struct choice *c)
{
    int index = (int)(c - x->choices);
    str_format(out, "%s{\"index\": %d, ", index ? ", " : "", index);
    if (x->ask.chat) {
        str_add_text(out, "\"message\": {\"role\": \"assistant\", \"content\": ");
        json_write_string(out, str_text(&c->text), c->text.size);
        str_add_text(out, ", \"refusal\": null}, \"logprobs\": ");
        if (x->ask.logprobs >= 0)
            str_format(out, "{\"content\": [%s]}", str_text(&c->logprobs));
        else
            str_add_text(out, "null");
    } else {
        str_add_text(out, "\"text\": ");
        json_write_string(out, str_text(&c->text), c->text.size);
        str_add_text(out, ", \"logprobs\": ");
        if (x->ask.logprobs >= 0)
            legacy_object(out, c);
        else
            str_add_text(out, "null");
    }
    str_format(out, ", \"finish_reason\": \"%s\"}", finishes[c->finish]);
}

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
    write_head(x, &body, x->ask.chat ? "chat.completion" : "text_completion");
    for (int i = 0; i < x->choice_count; i++)
        write_choice(x, &body, &x->choices[i]);
    str_add_text(&body, "], ");
    write_usage(x, &body);
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
