/* Reading a request: every field is checked before anything is computed, and an error names the field. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/serve/fields.h"

static const char *spelled(const struct json *v, struct quoted *q)
{
    return v->kind == JSON_NUMBER ? quote(q, v->text, v->size) : json_kind_name(v);
}

static enum status read_number(struct reading *r, const char *key, double low, double high, double *out)
{
    const struct json *v = get(r, key);
    struct quoted q;
    if (!v)
        return STATUS_OK;
    if (!json_double(v, out) || *out < low || *out > high)
        return WRONG(r, key, "%s is %s; a number from %g to %g is needed", key, spelled(v, &q), low, high);
    return STATUS_OK;
}

static enum status read_whole(struct reading *r, const char *key, int64_t low, int64_t high, int64_t *out)
{
    const struct json *v = get(r, key);
    struct quoted q;
    if (!v)
        return STATUS_OK;
    if (!json_int(v, out) || *out < low || *out > high)
        return WRONG(r, key, "%s is %s; a whole number from %" PRId64 " to %" PRId64 " is needed", key, spelled(v, &q), low, high);
    return STATUS_OK;
}

static enum status read_switch(struct reading *r, const char *key, bool *out)
{
    const struct json *v = get(r, key);
    if (v && !json_bool(v, out))
        return WRONG(r, key, "%s is %s; true or false is needed", key, json_kind_name(v));
    return STATUS_OK;
}

/* ---- what is not supported yet ---------------------------------------------------------------------------------------- */

/* Values of these fields that ask for nothing. */
static bool asks_nothing(const char *key, const struct json *v)
{
    if (v->kind == JSON_NULL || ((v->kind == JSON_ARRAY || v->kind == JSON_STRING || v->kind == JSON_OBJECT) && v->size == 0))
        return true;
    if (!strcmp(key, "function_call"))
        return json_is_text(v, "none");
    if (!strcmp(key, "response_format"))
        return json_is_text(json_get(v, "type"), "text");
    if (!strcmp(key, "modalities"))
        return v->kind == JSON_ARRAY && v->size == 1 && json_is_text(&v->items[0], "text");
    if (!strcmp(key, "best_of"))
        return v->kind == JSON_NUMBER && v->size == 1 && v->text[0] == '1';
    return false;
}

static enum status refuse_unsupported(struct reading *r)
{
    static const char *const fields[] = {"functions", "function_call", "modalities", "audio",
                                         "suffix", "best_of", "chat_template", "guided_json", "web_search_options"};
    char named[300] = "";
    const char *first = NULL;
    if (!r->a->chat && json_get(r->body, "tools") && !asks_nothing("tools", json_get(r->body, "tools")))
        return WRONG(r, "tools", "tools belong to /v1/chat/completions");
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        const struct json *v = json_get(r->body, fields[i]);
        if (!v || asks_nothing(fields[i], v))
            continue;
        if (!first)
            first = fields[i];
        size_t n = strlen(named);
        snprintf(named + n, sizeof named - n, "%s%s", n ? ", " : "", fields[i]);
    }
    return first ? WRONG(r, first, "not supported yet: %s; leave out what would change the answer", named) : STATUS_OK;
}

/* ---- what the answer is held to ---------------------------------------------------------------------------------------- */

/* The schema that response_format or json_schema holds, as JSON text; a chat's is read by messages.c. */
static enum status read_schema(struct reading *r, struct str *out)
{
    const struct json *schema = get(r, "json_schema"), *format = get(r, "response_format");
    const struct json *type = json_get(format, "type"), *inner = json_get(json_get(format, "json_schema"), "schema");
    if (r->a->chat || (!schema && (!format || json_is_text(type, "text"))))
        return STATUS_OK;
    if (schema)
        json_write(out, schema);
    else if (json_is_text(type, "json_object"))
        str_add_text(out, "{\"type\": \"object\"}");
    else if (json_is_text(type, "json_schema") && inner)
        json_write(out, inner);
    else
        return WRONG(r, "response_format", "response_format: text, json_object, or json_schema with \"json_schema\": {\"schema\": {...}} is needed");
    return STATUS_OK;
}

static enum status read_grammar(struct reading *r)
{
    const struct json *grammar = get(r, "grammar");
    struct ingot_error *e = (struct ingot_error *)r->err;
    struct str schema = {0};
    enum status status = read_schema(r, &schema);
    if (!status && grammar && grammar->kind != JSON_STRING)
        status = WRONG(r, "grammar", "grammar is %s; GBNF text is needed", json_kind_name(grammar));
    if (!status && grammar && (schema.size || (r->a->chat && (get(r, "response_format") || get(r, "json_schema")))))
        status = WRONG(r, "grammar", "grammar excludes response_format and json_schema");
    *r->param = schema.size ? "response_format" : "grammar";
    if (!status && schema.size)
        status = (enum status)ingot_grammar_open_schema(&r->a->grammar, str_text(&schema), schema.size, e);
    else if (!status && grammar)
        status = (enum status)ingot_grammar_open_gbnf(&r->a->grammar, grammar->text, grammar->size, e);
    r->a->options.grammar = r->a->chat ? NULL : r->a->grammar; /* messages.c puts a chat's behind the reasoning */
    str_free(&schema);
    return status;
}

/* ---- plain fields ----------------------------------------------------------------------------------------------------- */

static enum status read_plain(struct reading *r)
{
    struct ask *a = r->a;
    enum status status;
    int64_t n = 1;
#define NUMBER(key, low, high, target) \
    if ((status = read_number(r, key, low, high, &target))) \
        return status;
#define WHOLE(key, low, high, target) \
    if ((status = read_whole(r, key, low, high, &target))) \
        return status;
#define SWITCH(key, target) \
    if ((status = read_switch(r, key, &target))) \
        return status;
#include "runtime/serve/fields.def"
#undef NUMBER
#undef WHOLE
#undef SWITCH
    a->n = (int)n;
    if (a->options.sampling.top_k < 0)
        a->options.sampling.top_k = 0;
    const struct json *seed = get(r, "seed"), *stream_options = get(r, "stream_options");
    int64_t value = 0;
    if (seed && !json_int(seed, &value))
        return WRONG(r, "seed", "seed is %s; a whole number is needed", json_kind_name(seed));
    a->options.sampling.seed = (uint64_t)value;
    a->options.sampling.seeded = seed != NULL;
    if (stream_options && stream_options->kind != JSON_OBJECT)
        return WRONG(r, "stream_options", "stream_options is %s; an object is needed", json_kind_name(stream_options));
    const struct json *usage = json_get(stream_options, "include_usage");
    if (usage && usage->kind != JSON_NULL && !json_bool(usage, &a->include_usage))
        return WRONG(r, "stream_options", "stream_options.include_usage is %s; true or false is needed", json_kind_name(usage));
    return STATUS_OK;
}

static enum status read_logprobs(struct reading *r)
{
    struct ask *a = r->a;
    const struct json *v = get(r, "logprobs");
    int64_t top = 0;
    bool on = false;
    enum status status = STATUS_OK;
    a->logprobs = -1;
    if (!a->chat) { /* legacy: a number */
        if (v && v->kind == JSON_BOOL) {
            if (v->truth)
                return WRONG(r, "logprobs", "logprobs is a boolean; a whole number from 0 to %d is needed", MAX_TOP);
        } else if (v && !(status = read_whole(r, "logprobs", 0, MAX_TOP, &top))) {
            a->logprobs = (int)top;
        }
    } else if (!(status = read_switch(r, "logprobs", &on)) && !(status = read_whole(r, "top_logprobs", 0, MAX_TOP, &top))) {
        if (top && !on)
            return WRONG(r, "top_logprobs", "top_logprobs needs logprobs: true");
        a->logprobs = on ? (int)top : -1;
    }
    a->options.top_logprobs = a->logprobs;
    return status;
}

static enum status read_stop(struct reading *r)
{
    const struct json *v = get(r, "stop");
    if (!v)
        return STATUS_OK;
    bool list = v->kind == JSON_ARRAY;
    if (!list && v->kind != JSON_STRING)
        return WRONG(r, "stop", "stop is %s; a text or a list of texts is needed", json_kind_name(v));
    uint32_t count = list ? v->size : 1;
    if (count > MAX_STOPS)
        return WRONG(r, "stop", "stop holds %u texts; at most %d are possible", count, MAX_STOPS);
    const char **stop = arena_array(r->arena, count + 1, sizeof *stop);
    if (!stop)
        return error_memory(r->err, "stop texts");
    for (uint32_t i = 0; i < count; i++) {
        const struct json *one = list ? &v->items[i] : v;
        if (one->kind != JSON_STRING || memchr(one->text, 0, one->size))
            return WRONG(r, "stop", "stop[%u] is no text", i);
        if (!(stop[i] = json_copy(r->arena, one)))
            return error_memory(r->err, "stop texts");
    }
    r->a->options.stop = stop;
    r->a->options.stop_count = (int)count;
    return STATUS_OK;
}

static enum status read_bias(struct reading *r)
{
    const struct json *v = get(r, "logit_bias");
    if (!v)
        return STATUS_OK;
    if (v->kind != JSON_OBJECT || v->size > MAX_BIAS)
        return WRONG(r, "logit_bias", "logit_bias must be an object of at most %d token ids", MAX_BIAS);
    struct ingot_bias *bias = arena_array(r->arena, v->size + 1, sizeof *bias);
    if (!bias)
        return error_memory(r->err, "logit_bias");
    for (uint32_t i = 0; i < v->size; i++) {
        const struct json_member *m = &v->members[i];
        struct json key = {.kind = JSON_NUMBER, .size = m->key_size, .text = m->key};
        int64_t id;
        double value;
        bool number = m->key_size && m->key_size < 12 && m->key[0] >= '0' && m->key[0] <= '9';
        if (!number || !json_int(&key, &id) || id >= r->model->info.vocab)
            return WRONG(r, "logit_bias", "logit_bias: %s is no token id of this model (0 to %" PRId64 ")", QUOTE(m->key, m->key_size), r->model->info.vocab - 1);
        if (!json_double(&m->value, &value) || value < -100 || value > 100)
            return WRONG(r, "logit_bias", "logit_bias of %" PRId64 " must be a number from -100 to 100", id);
        bias[i] = (struct ingot_bias){(int32_t)id, (float)value};
    }
    r->a->options.sampling.bias = bias;
    r->a->options.sampling.bias_count = (int)v->size;
    return STATUS_OK;
}

/* ---- prompts ---------------------------------------------------------------------------------------------------------- */

static enum status add_text(struct reading *r, const struct json *v)
{
    struct prompt *p = &r->a->prompts[r->a->prompt_count++];
    if (!r->a->text)
        r->a->text = strndup(v->text, v->size);
    return (enum status)ingot_tokenize(r->model, v->text, v->size, true, true, &p->ids, &p->count, (struct ingot_error *)r->err);
}

static enum status add_ids(struct reading *r, const struct json *v)
{
    struct prompt *p = &r->a->prompts[r->a->prompt_count++];
    p->ids = malloc(((size_t)v->size + 1) * sizeof *p->ids);
    if (!p->ids)
        return error_memory(r->err, "a prompt");
    for (uint32_t i = 0; i < v->size; i++) {
        int64_t id;
        struct quoted q;
        if (!json_int(&v->items[i], &id) || id < 0 || id >= r->model->info.vocab)
            return WRONG(r, "prompt", "prompt: token id %s is not in this model's vocabulary (0 to %" PRId64 ")", spelled(&v->items[i], &q), r->model->info.vocab - 1);
        p->ids[p->count++] = (int32_t)id;
    }
    return STATUS_OK;
}

static enum status read_prompt(struct reading *r)
{
    const struct json *v = get(r, "prompt");
    *r->param = "prompt";
    if (json_is(v, JSON_STRING))
        return add_text(r, v);
    if (!json_is(v, JSON_ARRAY) || !v->size)
        return WRONG(r, "prompt", "prompt is %s; a text, a list of texts, a list of token ids or a list of such lists is needed", json_kind_name(v));
    if (v->items[0].kind == JSON_NUMBER)
        return add_ids(r, v);
    if (v->size > MAX_PROMPTS || (int64_t)v->size * r->a->n > MAX_CHOICES)
        return WRONG(r, "prompt", "prompt: %u prompts with n %d are over the limit of %d answers", v->size, r->a->n, MAX_CHOICES);
    for (uint32_t i = 0; i < v->size; i++) {
        const struct json *one = &v->items[i];
        enum status status = one->kind == JSON_STRING ? add_text(r, one) : one->kind == JSON_ARRAY && one->size ? add_ids(r, one)
                             : WRONG(r, "prompt", "prompt[%u] is neither a text nor a list of token ids", i);
        if (status)
            return status;
    }
    return STATUS_OK;
}

enum status ask_read(struct ask *a, struct arena *arena, const struct json *body, bool chat, struct ingot_model *model,
                     const struct ingot_chat_options *options, const char **param, struct error *err)
{
    struct reading r = {.a = a, .arena = arena, .body = body, .model = model, .param = param, .err = err};
    a->chat = chat;
    *param = NULL;
    ingot_request_defaults(model, &a->options);
    enum status status;
    if ((status = read_plain(&r)) || (status = read_logprobs(&r)) || (status = read_stop(&r)) || (status = read_bias(&r)) ||
        (status = refuse_unsupported(&r)) || (status = read_grammar(&r)) || (status = chat ? messages_read(&r, options) : read_prompt(&r)))
        return status;
    if (chat)
        a->echo = false;
    a->options.prompt_logprobs = a->echo && a->logprobs >= 0;
    if (!chat && !a->text && !(a->text = strdup("")))
        return error_memory(err, "a prompt");
    for (int i = 0; i < a->prompt_count; i++)
        if (!a->prompts[i].count)
            return WRONG(&r, chat ? "messages" : "prompt", "the prompt is empty");
    *param = NULL;
    return STATUS_OK;
}

void ask_free(struct ask *a)
{
    for (int i = 0; i < a->prompt_count; i++)
        free(a->prompts[i].ids);
    free(a->text);
    ingot_chat_close(a->options.chat);
    ingot_grammar_close(a->grammar);
    *a = (struct ask){0};
}
