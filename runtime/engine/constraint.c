/* What an answer is held to: response_format, and tools that must be called, as one grammar over the model's own notation. */
#include <stdio.h>
#include <string.h>

#include "runtime/engine/engine.h"

struct making {
    struct ingot_chat *chat;
    struct ingot_model *model;
    const struct speech *speech;
    struct grammar_builder *b;
    struct special {
        const char *text;
        size_t size;
    } *specials; /* spellings of the special tokens: few of a large vocabulary, looked for in every text */
    int32_t special_count;
    struct error *err;
};

/* ---- text with special tokens in it ------------------------------------------------------------------------------------ */

static enum status list_specials(struct making *k)
{
    const struct tokenizer *t = k->model->tokenizer;
    int32_t count = 0;
    for (int32_t id = 0; id < tokenizer_size(t); id++)
        count += tokenizer_is_special(t, id);
    k->specials = arena_array(&k->chat->arena, (size_t)count + 1, sizeof *k->specials);
    if (!k->specials)
        return error_memory(k->err, "special tokens");
    for (int32_t id = 0; id < tokenizer_size(t) && k->special_count < count; id++) {
        struct special *s = &k->specials[k->special_count];
        s->text = tokenizer_is_special(t, id) ? tokenizer_piece(t, id, &s->size) : NULL;
        k->special_count += s->text && s->size;
    }
    return STATUS_OK;
}

/* The special token whose spelling stands first in text (of two at one place the longer); false: none. */
static bool find_special(const struct making *k, const char *text, size_t size, size_t *at, size_t *length)
{
    *at = size;
    for (const struct special *s = k->specials; s < k->specials + k->special_count; s++) {
        const char *found = memmem(text, size, s->text, s->size);
        size_t place = found ? (size_t)(found - text) : size;
        if (found && (place < *at || (place == *at && s->size > *length))) {
            *at = place;
            *length = s->size;
        }
    }
    return *at < size;
}

/* Plain bytes; an id is nine letters or digits, an index a small number. */
static grammar_part plain(struct making *k, const char *text, size_t size)
{
    grammar_part parts[32], number;
    size_t count = 0, at = 0;
    for (size_t i = 0; i < size && count < 30; i++) {
        const char *regex = text[i] == NOTATION_ID ? "[a-zA-Z0-9]{9}" : text[i] == NOTATION_INDEX ? "0|[1-9][0-9]{0,3}" : NULL;
        struct error ignored;
        if (!regex)
            continue;
        parts[count++] = grammar_part_text(k->b, text + at, i - at);
        if (!grammar_part_regex(k->b, regex, strlen(regex), &number, &ignored))
            parts[count++] = number;
        at = i + 1;
    }
    parts[count++] = grammar_part_text(k->b, text + at, size - at);
    return grammar_part_sequence(k->b, parts, count);
}

static grammar_part spelled(struct making *k, const char *text, size_t size)
{
    grammar_part parts[32];
    size_t count = 0, at, length = 0;
    while (count < 30 && find_special(k, text, size, &at, &length)) {
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

/* How a call notation has members of arguments written. */
static struct grammar_arguments members_of(struct making *k, const struct call_notation *n)
{
    static const char *const types[] = {[JSON_NULL] = "null",     [JSON_BOOL] = "boolean", [JSON_NUMBER] = "number",
                                        [JSON_STRING] = "string", [JSON_ARRAY] = "array",  [JSON_OBJECT] = "object"};
    struct grammar_arguments as = {.until = n->until, .python = n->python, .key = spelled(k, str_text(&n->key), n->key.size),
                                   .close = spelled(k, str_text(&n->close), n->close.size), .joint = spelled(k, str_text(&n->joint), n->joint.size),
                                   .mark = n->mark, .quote = n->mark ? words(k, n->mark) : 0};
    const char *other = str_text(&n->other), *type = memchr(other, NOTATION_TYPE, n->other.size);
    size_t before = type ? (size_t)(type - other) : n->other.size;
    as.marked = n->value.size != n->other.size || memcmp(str_text(&n->value), other, n->other.size) != 0;
    for (int kind = JSON_NULL; kind <= JSON_OBJECT; kind++) {
        grammar_part parts[] = {spelled(k, other, before), words(k, type ? types[kind] : ""), spelled(k, other + before + !!type, n->other.size - before - !!type)};
        as.value[kind] = kind == JSON_STRING ? spelled(k, str_text(&n->value), n->value.size) : grammar_part_sequence(k->b, parts, 3);
    }
    return as;
}

static enum status arguments_part(struct making *k, const struct json *schema, const struct grammar_arguments *as, grammar_part *out, struct error *why)
{
    return as ? grammar_part_arguments(k->b, schema, as, out, why) : grammar_part_schema(k->b, schema, out, why);
}

/* A tool's arguments by its schema. One that cannot be kept leaves its own tool free, and is told. */
static grammar_part arguments(struct making *k, const struct json *tool, const struct grammar_arguments *as)
{
    static const struct json_member kind = {.key = "type", .key_size = 4, .value = {.kind = JSON_STRING, .size = 6, .text = "object"}};
    const struct json object = {.kind = JSON_OBJECT, .size = 1, .members = &kind};
    const struct json *f = function_of(tool), *schema = json_get(f, "parameters"), *name = json_get(f, "name");
    grammar_part part;
    struct error why;
    if (json_is(schema, JSON_OBJECT) && schema->size && arguments_part(k, schema, as, &part, &why) == STATUS_OK)
        return part;
    if (json_is(schema, JSON_OBJECT) && schema->size)
        chat_note(k->chat, "%.40s: its arguments are not held to their schema: %.100s", QUOTE(name->text, name->size), why.text);
    if (arguments_part(k, &object, as, &part, &why) == STATUS_OK)
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
    grammar_part between = spelled(k, str_text(&n->between), n->between.size);
    struct grammar_arguments as = members_of(k, n);
    size_t count = 0;
    if (!calls)
        return error_memory(k->err, "tools");
    for (uint32_t i = 0; i < tools->size; i++) {
        const struct json *name = json_get(function_of(&tools->items[i]), "name");
        if (!json_is(name, JSON_STRING) || (only && !is_named(&tools->items[i], only)))
            continue;
        grammar_part parts[3] = {grammar_part_text(k->b, name->text, name->size), between};
        if (n->known)
            parts[2] = arguments(k, &tools->items[i], n->members ? &as : NULL);
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
    if (find_special(k, text, marker, &at, &length) && !at) {
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

static bool must_call(const struct json *choice) { return chosen_name(choice) || json_is_text(choice, "required"); }
static bool asks_calls(const struct ingot_chat *c, const struct json *choice) { return c->tools.kind == JSON_ARRAY && (must_call(choice) || any_strict(&c->tools)); }

/* *made: there is something to hold the answer to. beside: the answer may also be content of a fixed form, so that calls need one. */
static enum status make_tools(struct making *k, const struct json *choice, bool beside, grammar_part *out, bool *made)
{
    const struct json *only = chosen_name(choice);
    bool must = must_call(choice);
    struct call_notation n;
    *made = false;
    if (k->chat->tools.kind != JSON_ARRAY || !(beside || asks_calls(k->chat, choice)))
        return STATUS_OK;
    enum status status = call_notation_find(&n, k->chat->dialect, k->chat->notes.calls_as_text ? NULL : k->speech->template, &k->model->chat, k->err);
    const char *name = dialect_name(k->chat->dialect);
    if (!status && !n.known && !n.partial && (must || beside)) {
        status = error_set(k->err, STATUS_USAGE, "tool_choice: calls as %s writes them cannot be forced; use auto without response_format", name);
    } else if (!status && (!n.known || (n.unmarked && !beside)) && !must) {
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

static bool asks_format(const struct json *format) { return format && format->kind != JSON_NULL && !json_is_text(json_get(format, "type"), "text"); }

static enum status make_format(struct making *k, const struct json *format, grammar_part *out, bool *made)
{
    static const struct json_member kind = {.key = "type", .key_size = 4, .value = {.kind = JSON_STRING, .size = 6, .text = "object"}};
    const struct json object = {.kind = JSON_OBJECT, .size = 1, .members = &kind};
    static const struct {
        const char *type; /* and the field that holds the text */
        enum status (*part)(struct grammar_builder *, const char *, size_t, grammar_part *, struct error *);
    } texts[] = {{"regex", grammar_part_regex}, {"gbnf", grammar_part_gbnf}, {"lark", grammar_part_lark}};
    const struct json *type = json_get(format, "type"), *wrapped = json_get(format, "json_schema");
    *made = asks_format(format);
    if (!*made)
        return STATUS_OK;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        const struct json *text = json_get(format, texts[i].type);
        if (json_is_text(type, texts[i].type) && json_is(text, JSON_STRING))
            return texts[i].part(k->b, text->text, text->size, out, k->err);
    }
    if (json_is_text(type, "json_object")) {
        const struct json *own = json_get(format, "schema"); /* as llama.cpp's clients send it */
        return grammar_part_schema(k->b, json_is(own, JSON_OBJECT) ? own : &object, out, k->err);
    }
    const struct json *schema = json_get(wrapped, "schema");
    if (json_is_text(type, "json_schema") && (json_is(schema, JSON_OBJECT) || json_is(schema, JSON_BOOL)))
        return grammar_part_schema(k->b, schema, out, k->err);
    return error_set(k->err, STATUS_USAGE, "response_format: text, json_object, json_schema with \"json_schema\": {\"schema\": {...}}, or regex, gbnf or lark with the "
                     "text under that name is needed");
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
    c->think = think_token(c, m);
    if (!asks_format(json_get(request, "response_format")) && !asks_calls(c, json_get(request, "tool_choice"))) /* nearly always */
        return STATUS_OK;
    enum status status = grammar_builder_open(&k.b, err);
    if (!status)
        status = list_specials(&k);
    if (!status)
        status = make(&k, request);
    grammar_builder_close(k.b);
    return status;
}
