/* What an answer is held to: response_format, and tools that must be called, as one grammar over the model's own notation. */
#include <stdio.h>
#include <string.h>

#include "runtime/engine/engine.h"

struct making {
    struct ingot_chat *chat;
    struct ingot_model *model;
    const struct speech *speech;
    struct grammar_builder *b;
    struct error *err;
};

/* ---- text with special tokens in it ------------------------------------------------------------------------------------ */

/* The special token whose spelling stands first in text (of two at one place the longer); false: none. */
static bool find_special(const struct tokenizer *t, const char *text, size_t size, size_t *at, size_t *length)
{
    *at = size;
    for (int32_t id = 0; id < tokenizer_size(t); id++) {
        size_t n;
        const char *piece = tokenizer_is_special(t, id) ? tokenizer_piece(t, id, &n) : NULL;
        const char *found = piece && n ? memmem(text, size, piece, n) : NULL;
        size_t place = found ? (size_t)(found - text) : size;
        if (found && (place < *at || (place == *at && n > *length))) {
            *at = place;
            *length = n;
        }
    }
    return *at < size;
}

/* Plain bytes; an id is nine letters or digits. */
static grammar_part plain(struct making *k, const char *text, size_t size)
{
    grammar_part parts[32], id;
    size_t count = 0;
    for (const char *at; (at = memchr(text, NOTATION_ID, size)) && count < 30;) {
        struct error ignored;
        parts[count++] = grammar_part_text(k->b, text, (size_t)(at - text));
        if (!grammar_part_regex(k->b, "[a-zA-Z0-9]{9}", 14, &id, &ignored))
            parts[count++] = id;
        size -= (size_t)(at - text) + 1;
        text = at + 1;
    }
    parts[count++] = grammar_part_text(k->b, text, size);
    return grammar_part_sequence(k->b, parts, count);
}

static grammar_part spelled(struct making *k, const char *text, size_t size)
{
    grammar_part parts[32];
    size_t count = 0, at, length = 0;
    while (count < 30 && find_special(k->model->tokenizer, text, size, &at, &length)) {
        if (at)
            parts[count++] = plain(k, text, at);
        parts[count++] = grammar_part_token(k->b, text + at, length);
        text += at + length;
        size -= at + length;
        length = 0;
    }
    if (size)
        parts[count++] = plain(k, text, size);
    return grammar_part_sequence(k->b, parts, count);
}

static grammar_part words(struct making *k, const char *text) { return spelled(k, text, strlen(text)); }

static grammar_part either(struct making *k, grammar_part a, grammar_part b) { return grammar_part_choice(k->b, (grammar_part[]){a, b}, 2); }

/* ---- tools ------------------------------------------------------------------------------------------------------------- */

static const struct json *function_of(const struct json *tool)
{
    const struct json *f = json_get(tool, "function");
    return f ? f : tool;
}

/* A tool's arguments by its schema. One that cannot be kept leaves its own tool free, and is told. */
static grammar_part arguments(struct making *k, const struct json *tool)
{
    static const struct json_member kind = {.key = "type", .key_size = 4, .value = {.kind = JSON_STRING, .size = 6, .text = "object"}};
    const struct json object = {.kind = JSON_OBJECT, .size = 1, .members = &kind};
    const struct json *f = function_of(tool), *schema = json_get(f, "parameters"), *name = json_get(f, "name");
    grammar_part part;
    struct error why;
    if (json_is(schema, JSON_OBJECT) && schema->size && grammar_part_schema(k->b, schema, &part, &why) == STATUS_OK)
        return part;
    if (json_is(schema, JSON_OBJECT) && schema->size)
        chat_note(k->chat, "%.40s: its arguments are not held to their schema: %.100s", QUOTE(name->text, name->size), why.text);
    if (grammar_part_schema(k->b, &object, &part, &why) == STATUS_OK)
        return part;
    return grammar_part_free(k->b);
}

static bool is_named(const struct json *tool, const struct json *name)
{
    const struct json *own = json_get(function_of(tool), "name");
    return json_is(own, JSON_STRING) && json_is(name, JSON_STRING) && own->size == name->size && !memcmp(own->text, name->text, own->size);
}

/* NAME between ARGUMENTS, of one of the tools that may be called. */
static enum status one_call(struct making *k, const struct call_notation *n, const struct json *only, grammar_part *out)
{
    const struct json *tools = &k->chat->tools;
    grammar_part *calls = arena_array(&k->chat->arena, (size_t)tools->size + 1, sizeof *calls);
    size_t count = 0;
    if (!calls)
        return error_memory(k->err, "tools");
    for (uint32_t i = 0; i < tools->size; i++) {
        const struct json *name = json_get(function_of(&tools->items[i]), "name");
        if (!json_is(name, JSON_STRING) || (only && !is_named(&tools->items[i], only)))
            continue;
        grammar_part parts[3] = {plain(k, name->text, name->size)};
        parts[1] = spelled(k, str_text(&n->between), n->between.size);
        if (n->known)
            parts[2] = arguments(k, &tools->items[i]);
        calls[count++] = grammar_part_sequence(k->b, parts, n->known ? 3 : 2);
    }
    if (!count)
        return error_set(k->err, STATUS_USAGE, "tool_choice: there is no tool %s", only ? QUOTE(only->text, only->size) : "to call");
    *out = grammar_part_choice(k->b, calls, count);
    return STATUS_OK;
}

/* How far the prompt's end already is the notation's beginning (a prompt may end with "<|start|>assistant" or ">>>"). */
static size_t overlap(const struct ingot_chat *c, const struct str *before)
{
    const struct str *prompt = &c->prompt.text;
    for (size_t n = before->size < prompt->size ? before->size : prompt->size; n; n--)
        if (!memcmp(str_text(prompt) + prompt->size - n, str_text(before), n))
            return n;
    return 0;
}

/* Calls from behind `from` bytes of the notation's beginning on, one or (where that is possible) several. */
static enum status calls(struct making *k, const struct call_notation *n, size_t from, const struct json *only, grammar_part *out)
{
    grammar_part call = 0, parts[4];
    enum status status = one_call(k, n, only, &call);
    if (status)
        return status;
    parts[0] = spelled(k, str_text(&n->before) + from, n->before.size - from);
    parts[1] = call;
    if (!n->known) {
        *out = grammar_part_sequence(k->b, parts, 2);
        return STATUS_OK;
    }
    parts[2] = grammar_part_sequence(k->b, (grammar_part[]){spelled(k, str_text(&n->separator), n->separator.size), call}, 2);
    parts[2] = grammar_part_repeat(k->b, parts[2], 0, k->chat->one_call || !n->separator.size || only ? 0 : GRAMMAR_ANY_NUMBER);
    parts[3] = spelled(k, str_text(&n->after), n->after.size);
    *out = grammar_part_sequence(k->b, parts, 4);
    return STATUS_OK;
}

/* Text up to the marker that opens calls, then calls by their schemas: for tools that are strict but need not be called. */
static enum status free_calls(struct making *k, const struct call_notation *n, grammar_part *out)
{
    const char *text = str_text(&n->before);
    size_t marker = n->before.size, at, length = 0;
    while (marker && !strchr(">]", text[marker - 1])) /* what follows the marker proper may be spaced in other ways */
        marker--;
    if (!marker)
        marker = n->before.size;
    struct grammar_marker m = {.text = text, .size = marker};
    if (find_special(k->model->tokenizer, text, marker, &at, &length) && !at) {
        m.size = marker = length;
        m.token = true;
    }
    enum status status = calls(k, n, marker, NULL, &m.then);
    if (!status)
        *out = grammar_part_lazy(k->b, &m, 1);
    return status;
}

static const struct json *chosen_name(const struct json *choice)
{
    const struct json *name = json_get(json_get(choice, "function"), "name");
    return json_is(name, JSON_STRING) ? name : NULL;
}

static bool any_strict(const struct json *tools)
{
    for (uint32_t i = 0; tools->kind == JSON_ARRAY && i < tools->size; i++) {
        const struct json *strict = json_get(function_of(&tools->items[i]), "strict");
        if (json_is(strict, JSON_BOOL) && strict->truth)
            return true;
    }
    return false;
}

/* *made: there is something to hold the answer to. beside: the answer may also be content of a fixed form, so that calls need one. */
static enum status make_tools(struct making *k, const struct json *choice, bool beside, grammar_part *out, bool *made)
{
    const struct json *only = chosen_name(choice);
    bool must = only || json_is_text(choice, "required"), strict = any_strict(&k->chat->tools);
    struct call_notation n;
    *made = false;
    if (k->chat->tools.kind != JSON_ARRAY || !(must || strict || beside))
        return STATUS_OK;
    enum status status = call_notation_find(&n, k->chat->dialect, k->chat->notes.calls_as_text ? NULL : k->speech->template, &k->model->chat, k->err);
    const char *name = dialect_name(k->chat->dialect);
    if (!status && !n.known && !n.partial && (must || beside)) {
        status = error_set(k->err, STATUS_USAGE, "tool_choice: calls as %s writes them cannot be forced; use auto without response_format", name);
    } else if (!status && !n.known && !must) {
        chat_note(k->chat, "calls of dialect %s are not held to their schemas%s", name, "");
        status = beside ? error_set(k->err, STATUS_USAGE, "response_format with tools: calls as %s writes them have no fixed form; use tool_choice none or required", name)
                        : STATUS_OK;
    } else if (!status) {
        status = must || beside ? calls(k, &n, overlap(k->chat, &n.before), only, out) : free_calls(k, &n, out);
        *made = !status;
        k->chat->released = !n.known; /* arguments in tags: the marker and the name are forced, the rest is the model's own */
    }
    call_notation_free(&n);
    return status;
}

/* ---- response_format --------------------------------------------------------------------------------------------------- */

static enum status make_format(struct making *k, const struct json *format, grammar_part *out, bool *made)
{
    static const struct json_member kind = {.key = "type", .key_size = 4, .value = {.kind = JSON_STRING, .size = 6, .text = "object"}};
    const struct json object = {.kind = JSON_OBJECT, .size = 1, .members = &kind};
    const struct json *type = json_get(format, "type"), *wrapped = json_get(format, "json_schema"), *regex = json_get(format, "regex");
    *made = false;
    if (!format || format->kind == JSON_NULL || json_is_text(type, "text"))
        return STATUS_OK;
    *made = true;
    if (json_is_text(type, "regex") && json_is(regex, JSON_STRING))
        return grammar_part_regex(k->b, regex->text, regex->size, out, k->err);
    if (json_is_text(type, "json_object")) {
        const struct json *own = json_get(format, "schema"); /* as llama.cpp's clients send it */
        return grammar_part_schema(k->b, json_is(own, JSON_OBJECT) ? own : &object, out, k->err);
    }
    const struct json *schema = json_get(wrapped, "schema");
    if (json_is_text(type, "json_schema") && (json_is(schema, JSON_OBJECT) || json_is(schema, JSON_BOOL)))
        return grammar_part_schema(k->b, schema, out, k->err);
    return error_set(k->err, STATUS_USAGE, "response_format: text, json_object, regex with \"regex\", or json_schema with \"json_schema\": {\"schema\": {...}} is needed");
}

/* ---- all of it --------------------------------------------------------------------------------------------------------- */

/* Channels: an answer is the message of the final channel, perhaps behind one of analysis. */
static grammar_part in_channels(struct making *k, grammar_part content)
{
    grammar_part answer[] = {words(k, "<|channel|>final<|message|>"), content};
    grammar_part whole = grammar_part_sequence(k->b, answer, 2);
    grammar_part then[] = {words(k, "<|start|>assistant"), whole};
    struct grammar_marker end = {.text = "<|end|>", .size = 7, .token = true, .then = grammar_part_sequence(k->b, then, 2)};
    grammar_part thought[] = {words(k, "<|channel|>analysis<|message|>"), grammar_part_lazy(k->b, &end, 1)};
    return either(k, whole, grammar_part_sequence(k->b, thought, 2));
}

static enum status make(struct making *k, const struct json *request)
{
    grammar_part content, tools, root;
    bool has_content, has_tools;
    enum status status = make_format(k, json_get(request, "response_format"), &content, &has_content);
    if (status)
        return error_prefix(k->err, "response_format"), status;
    if ((status = make_tools(k, json_get(request, "tool_choice"), has_content, &tools, &has_tools)))
        return status;
    if (has_content && dialect_has_channels(k->chat->dialect))
        content = in_channels(k, content);
    if (!has_content && !has_tools)
        return STATUS_OK;
    root = !has_content ? tools : !has_tools ? content : either(k, content, tools);
    return grammar_builder_finish(k->b, root, &k->chat->grammar, k->err);
}

/* The token that may open reasoning before the answer proper: a tag of the dialect that the vocabulary has whole. */
static int32_t think_token(const struct ingot_chat *c, const struct ingot_model *m)
{
    const char *open, *close;
    for (size_t i = 0; dialect_reasoning(c->dialect, i, &open, &close); i++) {
        int32_t id = tokenizer_find(m->tokenizer, open, strlen(open));
        if (id >= 0)
            return id;
    }
    return -1;
}

enum status chat_constrain(struct ingot_chat *c, struct ingot_model *m, const struct speech *speech, const struct json *request, struct error *err)
{
    struct making k = {.chat = c, .model = m, .speech = speech, .err = err};
    enum status status = grammar_builder_open(&k.b, err);
    c->think = think_token(c, m);
    if (!status)
        status = make(&k, request);
    grammar_builder_close(k.b);
    return status;
}
