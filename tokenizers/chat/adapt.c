/* Requests that a template would refuse, or of which it would drop a part, become ones that it takes: roles, turns, content. */
#include "tokenizers/chat/adapt.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- what steps are made of ------------------------------------------------------------------------------------------- */

bool adapt_failed(struct adapting *a)
{
    if (!a->status)
        a->status = error_memory(a->err, "a request");
    return false;
}

void adapt_note(struct adapting *a, bool reported, const char *format, ...)
{
    struct chat_notes *n = a->notes;
    if (n->count == (int)(sizeof n->list / sizeof *n->list))
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(n->list[n->count].text, sizeof n->list->text, format, args);
    va_end(args);
    n->list[n->count++].reported = reported;
}

void adapt_set(struct adapting *a, struct json *message, const char *key, struct json value)
{
    struct object o = object_of(a->arena, message);
    if (key)
        object_set(&o, key, value);
    *message = object_json(&o);
    if (o.failed)
        adapt_failed(a);
}

struct json adapt_message(struct adapting *a, const char *role, struct json content)
{
    struct json message = {.kind = JSON_OBJECT};
    adapt_set(a, &message, "role", json_text(role, strlen(role)));
    adapt_set(a, &message, "content", content);
    return message;
}

void adapt_put_front(struct adapting *a, struct json message)
{
    struct json *messages = arena_array(a->arena, (size_t)a->count + 1, sizeof *messages);
    if (!messages) {
        adapt_failed(a);
        return;
    }
    messages[0] = message;
    memcpy(messages + 1, a->messages, a->count * sizeof *messages);
    a->messages = messages;
    a->count++;
}

bool adapt_is(const struct json *message, const char *role) { return json_is_text(json_get(message, "role"), role); }

struct json adapt_take(struct adapting *a, struct str *text)
{
    char *copy = text->failed ? NULL : arena_copy(a->arena, str_text(text), text->size);
    struct json v = copy ? json_text(copy, text->size) : (struct json){.kind = JSON_NULL};
    if (!copy)
        adapt_failed(a);
    str_free(text);
    return v;
}

static struct json text_part(struct adapting *a, const struct json *text)
{
    struct json part = {.kind = JSON_OBJECT};
    adapt_set(a, &part, "type", json_text("text", 4));
    adapt_set(a, &part, "text", *text);
    return part;
}

/* All as one list of parts. */
static struct json join_parts(struct adapting *a, const struct json *contents, uint32_t count)
{
    size_t total = 0;
    for (uint32_t i = 0; i < count; i++)
        total += contents[i].kind == JSON_ARRAY ? contents[i].size : 1;
    struct json *items = arena_array(a->arena, total, sizeof *items), parts = {.kind = JSON_ARRAY, .items = items};
    if (!items) {
        adapt_failed(a);
        return (struct json){.kind = JSON_NULL};
    }
    for (uint32_t i = 0; i < count; i++)
        if (contents[i].kind == JSON_ARRAY)
            for (uint32_t k = 0; k < contents[i].size; k++)
                items[parts.size++] = contents[i].items[k];
        else if (contents[i].kind == JSON_STRING)
            items[parts.size++] = text_part(a, &contents[i]);
    return parts;
}

struct json adapt_join(struct adapting *a, const struct json *contents, uint32_t count, const char *separator)
{
    struct str text = {0};
    for (uint32_t i = 0; i < count; i++)
        if (contents[i].kind == JSON_ARRAY)
            return str_free(&text), join_parts(a, contents, count);
        else if (contents[i].kind == JSON_STRING) {
            str_add_text(&text, text.size && contents[i].size ? separator : "");
            str_add(&text, contents[i].text, contents[i].size);
        }
    return adapt_take(a, &text);
}

struct json adapt_content(const struct json *message)
{
    const struct json *content = json_get(message, "content");
    return content ? *content : (struct json){.kind = JSON_NULL};
}

void adapt_add_system(struct adapting *a, const struct str *text)
{
    struct str copy = {0};
    str_add(&copy, str_text(text), text->size);
    copy.failed |= text->failed;
    struct json content = adapt_take(a, &copy);
    if (a->count && (adapt_is(&a->messages[0], "system") || adapt_is(&a->messages[0], "developer"))) {
        struct json both[] = {adapt_content(&a->messages[0]), content};
        adapt_set(a, &a->messages[0], "content", adapt_join(a, both, 2, "\n\n"));
    } else {
        adapt_put_front(a, adapt_message(a, "system", content));
    }
}

/* ---- variables -------------------------------------------------------------------------------------------------------- */

/* template_kwargs gets a value unless the request has one. */
static bool supply(struct adapting *a, const char *key, const char *text, size_t size)
{
    const struct json *kwargs = object_get(&a->request, "template_kwargs");
    if (json_given(json_get(kwargs, key)) || (json_given(kwargs) && kwargs->kind != JSON_OBJECT))
        return false;
    char *copy = arena_copy(a->arena, text, size);
    struct object o = object_of(a->arena, kwargs);
    object_set(&o, key, json_text(copy, size));
    object_set(&a->request, "template_kwargs", object_json(&o));
    return (copy && !o.failed && !a->request.failed) || adapt_failed(a);
}

/* By the day: a prompt's head that changes more often would be computed anew each time. */
bool adapt_supply_date(struct adapting *a)
{
    struct tm day = {0};
    char text[32];
    time_t seconds = time(NULL);
    if (!a->can->reads_date_string && !a->can->reads_datetime)
        return false;
    if (!a->now || sscanf(a->now, "%4d-%2d-%2d", &day.tm_year, &day.tm_mon, &day.tm_mday) != 3)
        localtime_r(&seconds, &day);
    else
        day.tm_year -= 1900, day.tm_mon -= day.tm_mon > 0 && day.tm_mon <= 12;
    bool changed = false;
    if (a->can->reads_date_string && strftime(text, sizeof text, "%d %b %Y", &day))
        changed |= supply(a, "date_string", text, strlen(text));
    if (a->can->reads_datetime && strftime(text, sizeof text, "%b %d %Y", &day))
        changed |= supply(a, "datetime", text, strlen(text));
    return changed;
}

/* ---- roles ------------------------------------------------------------------------------------------------------------ */

bool adapt_developer_to_system(struct adapting *a)
{
    bool changed = false;
    for (uint32_t i = 0; i < a->count && !a->can->developer; i++)
        if (adapt_is(&a->messages[i], "developer")) {
            adapt_set(a, &a->messages[i], "role", json_text("system", 6));
            changed = true;
        }
    return changed;
}

/* All system messages become the first. */
bool adapt_systems_to_front(struct adapting *a)
{
    bool late = false, several = false;
    for (uint32_t i = 1; i < a->count; i++)
        if (adapt_is(&a->messages[i], "system")) {
            several |= adapt_is(&a->messages[i - 1], "system");
            late |= !adapt_is(&a->messages[i - 1], "system");
        }
    if (!((late && !a->can->late_system) || (several && !a->can->systems)))
        return false;
    struct json *all = arena_array(a->arena, a->count, sizeof *all);
    uint32_t systems = 0, kept = 0;
    if (!all)
        return adapt_failed(a);
    for (uint32_t i = 0; i < a->count; i++)
        if (adapt_is(&a->messages[i], "system"))
            all[systems++] = adapt_content(&a->messages[i]);
        else
            a->messages[kept++] = a->messages[i];
    a->count = kept;
    adapt_put_front(a, adapt_message(a, "system", adapt_join(a, all, systems, "\n\n")));
    return true;
}

bool adapt_system_into_user(struct adapting *a)
{
    if (!a->count || !adapt_is(&a->messages[0], "system") || (a->can->system && (a->count > 1 || a->can->lone_system)))
        return false;
    struct json both[] = {adapt_content(&a->messages[0]), {.kind = JSON_NULL}};
    if (a->count > 1 && adapt_is(&a->messages[1], "user")) {
        both[1] = adapt_content(&a->messages[1]);
        a->messages++;
        a->count--;
    }
    adapt_set(a, &a->messages[0], "role", json_text("user", 4));
    adapt_set(a, &a->messages[0], "content", adapt_join(a, both, 2, "\n\n"));
    return true;
}

static bool has_calls(const struct json *message)
{
    const struct json *calls = json_get(message, "tool_calls");
    return json_is(calls, JSON_ARRAY) && calls->size;
}

/* May the next message be joined to one of the same role? Calls stay with what was said before them. */
static bool joins(const struct adapting *a, const struct json *before, const struct json *next)
{
    return (!a->can->users && adapt_is(before, "user") && adapt_is(next, "user")) ||
           (!a->can->assistants && adapt_is(before, "assistant") && adapt_is(next, "assistant") && !has_calls(before));
}

bool adapt_merge_turns(struct adapting *a)
{
    uint32_t kept = 0, end;
    struct json *contents = a->can->users && a->can->assistants ? NULL : arena_array(a->arena, a->count, sizeof *contents);
    if (!contents)
        return a->can->users && a->can->assistants ? false : adapt_failed(a);
    for (uint32_t i = 0; i < a->count; i = end) {
        for (end = i + 1; end < a->count && joins(a, &a->messages[end - 1], &a->messages[end]);)
            end++;
        struct json message = a->messages[i];
        for (uint32_t k = i; k < end; k++)
            contents[k - i] = adapt_content(&a->messages[k]);
        if (has_calls(&a->messages[end - 1]))
            message = a->messages[end - 1];
        if (end - i > 1)
            adapt_set(a, &message, "content", adapt_join(a, contents, end - i, "\n\n"));
        a->messages[kept++] = message;
    }
    bool changed = kept != a->count;
    a->count = kept;
    return changed;
}

/* ---- content ---------------------------------------------------------------------------------------------------------- */

/* Parts become the lines of one text. A template for text alone comes from a model that sees nothing else. */
static bool join_texts(struct adapting *a, uint32_t at, const struct json *parts, struct str *text)
{
    for (uint32_t i = 0; i < parts->size; i++) {
        const struct json *part = &parts->items[i], *type = json_get(part, "type"), *words = json_get(part, "text");
        if (part->kind == JSON_STRING)
            words = part;
        if (!json_is(words, JSON_STRING)) {
            a->status = error_set(a->err, STATUS_BAD_INPUT, "messages[%u].content[%u]: this model's template takes text only, not %s", at, i,
                                  json_is(type, JSON_STRING) ? QUOTE(type->text, type->size) : json_kind_name(part));
            return false;
        }
        if (i)
            str_add_char(text, '\n');
        str_add(text, words->text, words->size);
    }
    return true;
}

bool adapt_parts_to_text(struct adapting *a)
{
    bool changed = false;
    for (uint32_t i = 0; i < a->count; i++) {
        const struct json *m = &a->messages[i], *content = json_get(m, "content");
        struct str text = {0};
        bool taken = adapt_is(m, "user") ? a->can->parts : adapt_is(m, "system") ? a->can->system_parts : a->can->reply_parts;
        if (taken || !json_is(content, JSON_ARRAY))
            continue;
        if (!join_texts(a, i, content, &text)) {
            str_free(&text);
            return false;
        }
        adapt_set(a, &a->messages[i], "content", adapt_take(a, &text));
        changed = true;
    }
    return changed;
}

bool adapt_text_to_parts(struct adapting *a)
{
    bool changed = false;
    for (uint32_t i = 0; i < a->count && !a->can->text && a->can->parts; i++) {
        const struct json *content = json_get(&a->messages[i], "content");
        if (!json_is(content, JSON_STRING))
            continue;
        struct json *part = arena_array(a->arena, 1, sizeof *part);
        if (!part)
            return adapt_failed(a);
        *part = text_part(a, content);
        adapt_set(a, &a->messages[i], "content", (struct json){.kind = JSON_ARRAY, .size = 1, .items = part});
        changed = true;
    }
    return changed;
}

bool adapt_documents_into_system(struct adapting *a)
{
    const struct json *documents = object_get(&a->request, "documents");
    if (a->can->documents || !json_is(documents, JSON_ARRAY) || !documents->size)
        return false;
    struct str text = {0};
    str_add_text(&text, "Documents to answer from:\n");
    for (uint32_t i = 0; i < documents->size; i++) {
        const struct json *d = &documents->items[i], *title = json_get(d, "title"), *words = json_get(d, "text");
        if (!json_is(words, JSON_STRING))
            words = json_get(d, "contents");
        str_format(&text, "\n[%u]", i + 1);
        if (json_is(title, JSON_STRING)) {
            str_add_char(&text, ' ');
            str_add(&text, title->text, title->size);
        }
        str_add_char(&text, '\n');
        if (json_is(words, JSON_STRING))
            str_add(&text, words->text, words->size);
        else
            json_write(&text, d);
        str_add_char(&text, '\n');
    }
    adapt_add_system(a, &text);
    str_free(&text);
    object_remove(&a->request, "documents");
    return true;
}

/* ---- all of it -------------------------------------------------------------------------------------------------------- */

static const struct step {
    bool (*run)(struct adapting *a);
    const char *name;
    bool reported;
} steps[] = {
#define STEP(function, name, reported) {adapt_##function, name, reported},
#include "tokenizers/chat/adapt.def"
#undef STEP
};

enum status chat_adapt(struct arena *arena, const struct json *request, const struct chat_abilities *can, const struct call_notation *calls,
                       const char *now, struct json *out, struct chat_notes *notes, struct error *err)
{
    const struct json *messages = json_get(request, "messages"), *tools = json_get(request, "tools");
    *notes = (struct chat_notes){0};
    *out = *request;
    if (!can->known || !json_is(messages, JSON_ARRAY))
        return STATUS_OK;
    for (uint32_t i = 0; i < messages->size; i++)
        if (messages->items[i].kind != JSON_OBJECT)
            return STATUS_OK; /* chat_context has the words for it */
    struct adapting a = {.arena = arena, .can = can, .calls = calls, .now = now, .request = object_of(arena, request), .notes = notes, .err = err};
    a.messages = arena_array(arena, (size_t)messages->size + 1, sizeof *a.messages);
    if (!a.messages)
        return error_memory(err, "a request");
    memcpy(a.messages, messages->items, messages->size * sizeof *a.messages);
    a.count = messages->size;
    a.tools = json_is(tools, JSON_ARRAY) ? *tools : (struct json){.kind = JSON_NULL};
    for (size_t i = 0; i < sizeof steps / sizeof *steps && !a.status; i++)
        if (steps[i].run(&a))
            adapt_note(&a, steps[i].reported, "%s", steps[i].name);
    object_set(&a.request, "messages", (struct json){.kind = JSON_ARRAY, .size = a.count, .items = a.messages});
    if (json_given(object_get(&a.request, "tools")) || a.tools.kind == JSON_ARRAY)
        object_set(&a.request, "tools", a.tools);
    if (a.request.failed)
        adapt_failed(&a);
    *out = object_json(&a.request);
    return a.status;
}
