/* Chat requests: messages in, a prompt and a way to read the answer out. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/engine/engine.h"

/* The request fitted to its template and rendered. */
static enum status render(struct ingot_chat *c, struct ingot_model *m, const struct json *request, bool strict, const struct speech **speech, struct error *err)
{
    const struct json *name = json_get(request, "template_name"), *tools = json_get(request, "tools");
    struct json fitted = *request, context;
    enum status status = model_speech(m, json_is(name, JSON_STRING) ? json_copy(&c->arena, name) : NULL, json_is(tools, JSON_ARRAY), speech, err);
    if (!status && !strict)
        status = chat_adapt(&c->arena, request, &(*speech)->can, &(*speech)->calls, NULL, &fitted, &c->notes, err);
    if (!status)
        status = chat_context(&c->arena, &fitted, &m->chat, &context, err);
    return status ? status : chat_render((*speech)->template, &context, NULL, NULL, &c->prompt, err);
}

void chat_note(struct ingot_chat *c, const char *format, ...)
{
    struct chat_notes *n = &c->notes;
    va_list args;
    if (n->count == (int)(sizeof n->list / sizeof *n->list))
        return;
    va_start(args, format);
    vsnprintf(n->list[n->count].text, sizeof n->list->text, format, args);
    va_end(args);
    n->list[n->count++].reported = true;
}

static enum status choose_dialect(struct ingot_chat *c, const struct speech *speech, const char *asked, struct error *err)
{
    const char *name = asked ? asked : c->notes.calls_as_text ? "hermes" : NULL; /* the form that chat_adapt asks for */
    c->dialect = name ? dialect_find(name, strlen(name)) : speech->dialect.dialect;
    if (!c->dialect)
        return error_set(err, STATUS_USAGE, "there is no dialect %s; `ingot parse --list-dialects` names them", QUOTE(name, strlen(name)));
    const char *why = asked ? "it was asked for" : name ? "the template prints no tools, so they are described in this form" : speech->dialect.why;
    memcpy(c->why, why, strlen(why) + 1);
    if (!name && speech->dialect.warning[0])
        chat_note(c, "%s; answers are read as %s", speech->dialect.warning, dialect_name(c->dialect));
    return STATUS_OK;
}

static enum status fill(struct ingot_chat *c, struct ingot_model *m, const char *request, size_t size, const struct ingot_chat_options *o, struct error *err)
{
    struct json root;
    const struct speech *speech;
    char *text = arena_copy(&c->arena, request, size); /* the tools point into it as long as the chat lives */
    enum status status = text ? json_parse(&c->arena, text, size, NULL, &root, err) : error_memory(err, "a request");
    if (!status)
        status = render(c, m, &root, o->strict_template, &speech, err);
    if (!status)
        status = choose_dialect(c, speech, o->dialect, err);
    if (!status && !m->tokenizer)
        status = error_set(err, STATUS_USAGE, "%s has no tokenizer; give token ids (--tokens)", m->info.path);
    if (status)
        return status;
    const struct json *tools = json_get(&root, "tools");
    const struct json *parallel = json_get(&root, "parallel_tool_calls");
    c->one_call = json_is(parallel, JSON_BOOL) && !parallel->truth;
    c->tools = json_is(tools, JSON_ARRAY) && tools->size ? *tools : (struct json){.kind = JSON_NULL};
    const struct json *budget = json_get(&root, "thinking_budget");
    if (!json_int(budget, &c->thinking_budget))
        c->thinking_budget = -1;
    if ((status = chat_constrain(c, m, speech, &root, err)))
        return status;
    return tokenizer_encode_marked(m->tokenizer, str_text(&c->prompt.text), c->prompt.text.size, c->prompt.marks, false, &c->tokens, err);
}

enum ingot_status ingot_chat_open(struct ingot_chat **out, const struct ingot_model *model, const char *request, size_t size,
                                  const struct ingot_chat_options *options, struct ingot_error *err)
{
    struct ingot_model *m = (struct ingot_model *)(uintptr_t)model; /* only what it keeps of its templates changes */
    struct ingot_chat_options o = options ? *options : (struct ingot_chat_options){0};
    struct ingot_chat *c = calloc(1, sizeof *c);
    *out = NULL;
    if (!c)
        return (enum ingot_status)error_memory(inner(err), "a chat");
    atomic_init(&c->references, 1);
    c->model = ingot_model_share(m);
    enum status status = fill(c, m, request, size, &o, inner(err));
    if (status) {
        ingot_chat_close(c);
        return (enum ingot_status)status;
    }
    *out = c;
    return INGOT_OK;
}

struct ingot_chat *ingot_chat_share(struct ingot_chat *c)
{
    atomic_fetch_add(&c->references, 1);
    return c;
}

void ingot_chat_close(struct ingot_chat *c)
{
    if (!c || atomic_fetch_sub(&c->references, 1) > 1)
        return;
    grammar_close(c->grammar);
    ingot_model_close(c->model);
    ids_free(&c->tokens);
    chat_text_free(&c->prompt);
    arena_free(&c->arena);
    free(c);
}

const int32_t *ingot_chat_tokens(const struct ingot_chat *c, size_t *count)
{
    *count = c->tokens.count;
    return c->tokens.data;
}

const char *ingot_chat_text(const struct ingot_chat *c, size_t *size)
{
    if (size)
        *size = c->prompt.text.size;
    return str_text(&c->prompt.text);
}

const char *ingot_chat_dialect(const struct ingot_chat *c, const char **why)
{
    if (why)
        *why = c->why;
    return dialect_name(c->dialect);
}

const char *ingot_chat_note(const struct ingot_chat *c, int index, bool *reported)
{
    if (index < 0 || index >= c->notes.count)
        return NULL;
    if (reported)
        *reported = c->notes.list[index].reported;
    return c->notes.list[index].text;
}
