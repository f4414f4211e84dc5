/* What goes to a client: the chunks of streams and the choices of whole answers, in both of OpenAI's forms. */
#include <string.h>

#include "runtime/serve/serve.h"

static const char *finish_name(const struct choice *c)
{
    static const char *const names[] = {"stop", "length", "stop"};
    return c->calls && c->finish == INGOT_FINISH_STOP ? "tool_calls" : names[c->finish];
}

static int choice_index(const struct exchange *x, const struct choice *c) { return (int)(c - x->choices); }

void write_head(const struct exchange *x, struct str *out, bool stream)
{
    const char *object = x->ask.chat ? stream ? "chat.completion.chunk" : "chat.completion" : "text_completion";
    str_format(out, "{\"id\": \"%s\", \"object\": \"%s\", \"created\": %lld, \"model\": ", x->id, object, (long long)x->created);
    json_write_string(out, x->served->id, strlen(x->served->id));
    str_add_text(out, ", \"choices\": [");
}

void write_usage(const struct exchange *x, struct str *out)
{
    str_format(out, "\"usage\": {\"prompt_tokens\": %zu, \"completion_tokens\": %zu, \"total_tokens\": %zu, \"prompt_tokens_details\": {\"cached_tokens\": %zu}}",
               x->prompt_tokens, x->completion_tokens, x->prompt_tokens + x->completion_tokens, x->reused_tokens);
}

/* Warnings of an answer, an extension: what the request's history was made into, what of the output was dropped or malformed. */
static void add_warning(struct str *out, const char *kind, const char *text, size_t size)
{
    str_add_text(out, out->size ? ", {\"kind\": " : "{\"kind\": ");
    json_write_string(out, kind, strlen(kind));
    str_add_text(out, ", \"text\": ");
    json_write_string(out, text, size);
    str_add_char(out, '}');
}

void write_warnings(const struct exchange *x, struct str *out)
{
    struct str list = {0};
    bool reported;
    const char *note;
    for (int i = 0; x->ask.options.chat && (note = ingot_chat_note(x->ask.options.chat, i, &reported)); i++)
        if (reported)
            add_warning(&list, "adapted", note, strlen(note));
    for (int i = 0; i < x->choice_count; i++) {
        if (x->choices[i].warnings.size)
            str_format(&list, "%s%s", list.size ? ", " : "", str_text(&x->choices[i].warnings));
        str_clear(&x->choices[i].warnings);
    }
    if (list.size)
        str_format(out, ", \"warnings\": [%s]", str_text(&list));
    out->failed |= list.failed;
    str_free(&list);
}

void choice_warn(struct choice *c, const char *kind, const char *text, size_t size) { add_warning(&c->warnings, kind, text, size); }

/* ---- chunks ----------------------------------------------------------------------------------------------------------- */

static void begin_chunk(struct exchange *x, struct choice *c)
{
    str_add_text(&x->out, "data: ");
    write_head(x, &x->out, true);
    str_format(&x->out, "{\"index\": %d, ", choice_index(x, c));
    if (!x->ask.chat)
        return;
    str_add_text(&x->out, "\"delta\": {");
    if (!c->opened)
        str_add_text(&x->out, "\"role\": \"assistant\", \"content\": \"\"");
}

/* Between the delta's members, the first of which may be the role. */
static void delta_comma(struct exchange *x, const struct choice *c) { str_add_text(&x->out, c->opened ? "" : ", "); }

static void end_chunk(struct exchange *x, struct choice *c, bool last)
{
    struct str *out = &x->out;
    str_add_text(out, x->ask.chat ? "}, \"logprobs\": " : ", \"logprobs\": ");
    if (x->ask.chat && c->logprobs.size)
        str_format(out, "{\"content\": [%s]}", str_text(&c->logprobs));
    else if (!x->ask.chat && c->legacy[0].size)
        logprobs_legacy_object(out, c);
    else
        str_add_text(out, "null");
    str_clear(&c->logprobs);
    c->opened = true;
    str_format(out, ", \"finish_reason\": %s%s%s}]", last ? "\"" : "", last ? finish_name(c) : "null", last ? "\"" : "");
    if (last)
        write_warnings(x, out);
    str_add_text(out, "}\n\n");
}

void chunk_text(struct exchange *x, struct choice *c, const char *key, const char *text, size_t size)
{
    begin_chunk(x, c);
    if (!x->ask.chat) {
        str_add_text(&x->out, "\"text\": ");
        json_write_string(&x->out, text, size);
    } else if (size) {
        delta_comma(x, c);
        str_format(&x->out, "\"%s\": ", key);
        json_write_string(&x->out, text, size);
    }
    end_chunk(x, c, false);
}

void chunk_call(struct exchange *x, struct choice *c, const struct ingot_event *e)
{
    begin_chunk(x, c);
    delta_comma(x, c);
    str_format(&x->out, "\"tool_calls\": [{\"index\": %zu, ", e->index);
    if (e->kind == INGOT_EVENT_CALL) {
        str_add_text(&x->out, "\"id\": ");
        json_write_string(&x->out, e->id, strlen(e->id));
        str_add_text(&x->out, ", \"type\": \"function\", \"function\": {\"name\": ");
        json_write_string(&x->out, e->name, strlen(e->name));
        str_add_text(&x->out, ", ");
    } else {
        str_add_text(&x->out, "\"function\": {");
    }
    str_add_text(&x->out, "\"arguments\": ");
    json_write_string(&x->out, e->text, e->size);
    str_add_text(&x->out, "}}]");
    end_chunk(x, c, false);
}

void chunk_last(struct exchange *x, struct choice *c)
{
    begin_chunk(x, c);
    if (!x->ask.chat)
        str_add_text(&x->out, "\"text\": \"\"");
    end_chunk(x, c, true);
}

void end_stream(struct exchange *x)
{
    if (x->ask.include_usage) {
        str_add_text(&x->out, "data: ");
        write_head(x, &x->out, true);
        str_add_text(&x->out, "], ");
        write_usage(x, &x->out);
        str_add_text(&x->out, "}\n\n");
    }
    str_add_text(&x->out, "data: [DONE]\n\n");
    x->ended = true;
}

/* ---- whole answers ---------------------------------------------------------------------------------------------------- */

void choice_keep(struct choice *c, const struct ingot_answer *a)
{
    str_add(&c->text, a->content, a->content_size);
    str_add(&c->reasoning, a->reasoning, a->reasoning_size);
    for (size_t i = 0; i < a->call_count; i++) {
        const struct ingot_call *call = &a->calls[i];
        str_add_text(&c->call_list, i ? ", {\"id\": " : "{\"id\": ");
        json_write_string(&c->call_list, call->id, strlen(call->id));
        str_add_text(&c->call_list, ", \"type\": \"function\", \"function\": {\"name\": ");
        json_write_string(&c->call_list, call->name, call->name_size);
        str_add_text(&c->call_list, ", \"arguments\": ");
        json_write_string(&c->call_list, call->arguments, call->arguments_size);
        str_add_text(&c->call_list, "}}");
    }
    c->calls = a->call_count;
}

void write_choice(const struct exchange *x, struct str *out, struct choice *c)
{
    int index = choice_index(x, c);
    str_format(out, "%s{\"index\": %d, ", index ? ", " : "", index);
    if (x->ask.chat) {
        str_add_text(out, "\"message\": {\"role\": \"assistant\", \"content\": ");
        if (c->calls && !c->text.size)
            str_add_text(out, "null");
        else
            json_write_string(out, str_text(&c->text), c->text.size);
        if (c->reasoning.size) {
            str_add_text(out, ", \"reasoning_content\": ");
            json_write_string(out, str_text(&c->reasoning), c->reasoning.size);
        }
        if (c->calls)
            str_format(out, ", \"tool_calls\": [%s]", str_text(&c->call_list));
        str_add_text(out, ", \"refusal\": null}, \"logprobs\": ");
    } else {
        str_add_text(out, "\"text\": ");
        json_write_string(out, str_text(&c->text), c->text.size);
        str_add_text(out, ", \"logprobs\": ");
    }
    if (x->ask.logprobs < 0)
        str_add_text(out, "null");
    else if (x->ask.chat)
        str_format(out, "{\"content\": [%s]}", str_text(&c->logprobs));
    else
        logprobs_legacy_object(out, c);
    str_format(out, ", \"finish_reason\": \"%s\"}", finish_name(c));
}
