/* Tools, calls and results, as a template takes them. */
#include <string.h>

#include "tokenizers/chat/adapt.h"

static const struct json *calls_of(const struct json *message)
{
    const struct json *calls = json_get(message, "tool_calls");
    return json_is(calls, JSON_ARRAY) && calls->size ? calls : NULL;
}

/* A call's part that holds name and arguments: {"function": {...}}, or the call itself. */
static const struct json *function_of(const struct json *call)
{
    const struct json *f = json_get(call, "function");
    return json_is(f, JSON_OBJECT) ? f : call;
}

/* Changes every call of every message by one function, which says whether it did. */
static bool change_calls(struct adapting *a, bool (*change)(struct adapting *a, struct json *call))
{
    bool changed = false;
    for (uint32_t i = 0; i < a->count && !a->status; i++) {
        const struct json *calls = calls_of(&a->messages[i]);
        if (!calls)
            continue;
        struct json *copy = arena_array(a->arena, calls->size, sizeof *copy);
        if (!copy)
            return adapt_failed(a);
        bool any = false;
        for (uint32_t k = 0; k < calls->size; k++) {
            copy[k] = calls->items[k];
            any |= copy[k].kind == JSON_OBJECT && change(a, &copy[k]);
        }
        if (any)
            adapt_set(a, &a->messages[i], "tool_calls", (struct json){.kind = JSON_ARRAY, .size = calls->size, .items = copy});
        changed |= any;
    }
    return changed;
}

static void set_arguments(struct adapting *a, struct json *call, struct json value)
{
    const struct json *f = json_get(call, "function");
    if (!json_is(f, JSON_OBJECT)) {
        adapt_set(a, call, "arguments", value);
        return;
    }
    struct json changed = *f;
    adapt_set(a, &changed, "arguments", value);
    adapt_set(a, call, "function", changed);
}

/* ---- arguments -------------------------------------------------------------------------------------------------------- */

/* The object that a text of arguments holds; {} with a note for what holds none. */
static struct json parse_arguments(struct adapting *a, const struct json *text)
{
    struct json v = {.kind = JSON_OBJECT};
    struct error ignored;
    size_t at = 0;
    while (at < text->size && strchr(" \t\r\n", text->text[at]))
        at++;
    if (at == text->size)
        return v;
    if (json_parse(a->arena, text->text, text->size, &(struct json_options){.depth = 100}, &v, &ignored) || v.kind != JSON_OBJECT) {
        adapt_note(a, true, "arguments that are no JSON object count as {}: %s", QUOTE(text->text, text->size));
        return (struct json){.kind = JSON_OBJECT};
    }
    return v;
}

static bool to_object(struct adapting *a, struct json *call)
{
    const struct json *arguments = json_get(function_of(call), "arguments");
    if (json_is(arguments, JSON_OBJECT))
        return false;
    set_arguments(a, call, json_is(arguments, JSON_STRING) ? parse_arguments(a, arguments) : (struct json){.kind = JSON_OBJECT});
    return true;
}

bool adapt_arguments_to_object(struct adapting *a)
{
    return (a->can->arguments_object || !a->can->arguments_text) && change_calls(a, to_object);
}

static bool to_text(struct adapting *a, struct json *call)
{
    const struct json *arguments = json_get(function_of(call), "arguments");
    struct str text = {0};
    if (json_is(arguments, JSON_STRING))
        return false;
    if (json_is(arguments, JSON_OBJECT))
        json_write_spaced(&text, arguments);
    else
        str_add_text(&text, "{}");
    set_arguments(a, call, adapt_take(a, &text));
    return true;
}

bool adapt_arguments_to_text(struct adapting *a)
{
    return !a->can->arguments_object && a->can->arguments_text && change_calls(a, to_text);
}

/* ---- calls and their results ------------------------------------------------------------------------------------------ */

/* The result of a call among the `count` that follow: by its id, else the first that is left. Taken ones are set to null. */
static bool take_result(struct json *results, uint32_t count, const struct json *id, struct json *out)
{
    uint32_t found = UINT32_MAX;
    for (uint32_t i = 0; i < count; i++) {
        const struct json *of = json_get(&results[i], "tool_call_id");
        bool same = json_is(of, JSON_STRING) && json_is(id, JSON_STRING) && of->size == id->size && memcmp(of->text, id->text, id->size) == 0;
        if (results[i].kind == JSON_OBJECT && (same || found == UINT32_MAX))
            found = i;
        if (same && found == i)
            break;
    }
    if (found == UINT32_MAX)
        return false;
    *out = results[found];
    results[found].kind = JSON_NULL;
    return true;
}

/* One message for each call of messages[at], each followed by its result, and results that no call asked for; the number written. */
static uint32_t split_one(struct adapting *a, uint32_t at, uint32_t results, struct json *to)
{
    const struct json *calls = calls_of(&a->messages[at]);
    uint32_t count = 0;
    for (uint32_t k = 0; k < calls->size; k++) {
        struct json one = a->messages[at];
        adapt_set(a, &one, "tool_calls", (struct json){.kind = JSON_ARRAY, .size = 1, .items = &calls->items[k]});
        if (k)
            adapt_set(a, &one, "content", json_text("", 0));
        to[count++] = one;
        count += take_result(&a->messages[at + 1], results, json_get(&calls->items[k], "id"), &to[count]);
    }
    for (uint32_t i = 0; i < results; i++)
        if (a->messages[at + 1 + i].kind == JSON_OBJECT)
            to[count++] = a->messages[at + 1 + i];
    return count;
}

bool adapt_split_calls(struct adapting *a)
{
    enum { MOST_CALLS = 128 }; /* of one message: each is looked for among its results */
    size_t total = a->count;
    if (a->can->parallel || !a->can->calls)
        return false;
    for (uint32_t i = 0; i < a->count; i++) {
        const struct json *calls = calls_of(&a->messages[i]);
        if (calls && calls->size > MOST_CALLS)
            return false;
        total += calls ? calls->size : 0;
    }
    struct json *messages = arena_array(a->arena, total, sizeof *messages);
    uint32_t count = 0;
    bool changed = false;
    if (!messages)
        return adapt_failed(a);
    for (uint32_t i = 0, results; i < a->count; i += 1 + results) {
        const struct json *calls = calls_of(&a->messages[i]);
        results = 0;
        if (!calls || calls->size < 2) {
            messages[count++] = a->messages[i];
            continue;
        }
        while (i + 1 + results < a->count && adapt_is(&a->messages[i + 1 + results], "tool"))
            results++;
        count += split_one(a, i, results, messages + count);
        changed = true;
    }
    a->messages = messages;
    a->count = count;
    return changed;
}

bool adapt_content_to_empty(struct adapting *a)
{
    bool changed = false;
    for (uint32_t i = 0; i < a->count && !a->can->no_content; i++)
        if (adapt_is(&a->messages[i], "assistant") && !json_given(json_get(&a->messages[i], "content"))) {
            adapt_set(a, &a->messages[i], "content", json_text("", 0));
            changed = true;
        }
    return changed;
}

/* A user who speaks right behind a tool's result, where the template wants the model's turn in between: an empty one, or a
 * blank where the template takes no empty one. */
bool adapt_reply_to_results(struct adapting *a)
{
    if (a->can->user_at_result || !(a->can->empty_reply || a->can->blank_reply))
        return false;
    struct json *messages = arena_array(a->arena, 2 * (size_t)a->count, sizeof *messages);
    uint32_t count = 0;
    if (!messages)
        return adapt_failed(a);
    for (uint32_t i = 0; i < a->count; i++) {
        if (i && adapt_is(&a->messages[i], "user") && adapt_is(&a->messages[i - 1], "tool"))
            messages[count++] = adapt_message(a, "assistant", json_text(" ", a->can->empty_reply ? 0 : 1));
        messages[count++] = a->messages[i];
    }
    bool changed = count != a->count;
    a->messages = messages;
    a->count = count;
    return changed;
}

/* Nine letters or digits: as it is if it is so, else the same nine for the same id (FNV-1a). */
static struct json short_id(struct adapting *a, const struct json *id)
{
    static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    bool good = id->size == 9;
    uint64_t hash = 14695981039346656037u;
    for (uint32_t i = 0; i < id->size; i++) {
        good = good && id->text[i] && strchr(digits, id->text[i]);
        hash = (hash ^ (unsigned char)id->text[i]) * 1099511628211u;
    }
    char *text = arena_alloc(a->arena, 10);
    if (good || !text)
        return *id;
    for (int i = 0; i < 9; i++, hash /= 62)
        text[i] = digits[hash % 62];
    return json_text(text, 9);
}

static bool shorten(struct adapting *a, struct json *object, const char *key)
{
    const struct json *id = json_get(object, key);
    if (!json_is(id, JSON_STRING))
        return false;
    struct json other = short_id(a, id);
    if (other.text == id->text)
        return false;
    adapt_set(a, object, key, other);
    return true;
}

static bool shorten_call(struct adapting *a, struct json *call) { return shorten(a, call, "id"); }

bool adapt_call_ids(struct adapting *a)
{
    if (a->can->any_id || !a->can->calls)
        return false;
    bool changed = change_calls(a, shorten_call);
    for (uint32_t i = 0; i < a->count; i++)
        changed |= shorten(a, &a->messages[i], "tool_call_id");
    return changed;
}

/* ---- tools ------------------------------------------------------------------------------------------------------------ */

static bool has_tools(const struct adapting *a) { return a->tools.kind == JSON_ARRAY && a->tools.size; }

/* A variable of JSON text that one loader's templates read for tools. */
bool adapt_supply_functions(struct adapting *a)
{
    const struct json *kwargs = object_get(&a->request, "template_kwargs");
    if (!a->can->reads_functions || a->can->tools || json_given(json_get(kwargs, "functions")) || (json_given(kwargs) && kwargs->kind != JSON_OBJECT))
        return false;
    struct str text = {0};
    str_add_char(&text, '[');
    for (uint32_t i = 0; has_tools(a) && i < a->tools.size; i++) {
        str_add_text(&text, i ? ", " : "");
        json_write_spaced(&text, function_of(&a->tools.items[i]));
    }
    str_add_char(&text, ']');
    struct object o = object_of(a->arena, kwargs);
    object_set(&o, "functions", adapt_take(a, &text));
    object_set(&a->request, "template_kwargs", object_json(&o));
    a->tools = (struct json){.kind = JSON_NULL};
    return (!o.failed && !a->request.failed) || adapt_failed(a);
}

bool adapt_supply_tools(struct adapting *a)
{
    if (!a->can->needs_tools || a->tools.kind == JSON_ARRAY)
        return false;
    a->tools = (struct json){.kind = JSON_ARRAY};
    return true;
}

/* {"type": "object", "properties": {...}} with a description for each property. */
static struct json described(struct adapting *a, const struct json *parameters)
{
    struct json whole = *parameters;
    const struct json *properties = json_get(parameters, "properties");
    struct object o = object_of(a->arena, properties);
    for (uint32_t i = 0; i < o.count; i++)
        if (o.members[i].value.kind == JSON_OBJECT && !json_given(json_get(&o.members[i].value, "description")))
            adapt_set(a, &o.members[i].value, "description", json_text("", 0));
    adapt_set(a, &whole, "properties", object_json(&o));
    return whole;
}

/* Templates read descriptions and parameters without asking whether they are there. */
bool adapt_complete_tools(struct adapting *a)
{
    if ((a->can->bare_tools && a->can->bare_parameters) || !has_tools(a))
        return false;
    struct json *tools = arena_array(a->arena, a->tools.size, sizeof *tools);
    if (!tools)
        return adapt_failed(a);
    for (uint32_t i = 0; i < a->tools.size; i++) {
        tools[i] = a->tools.items[i];
        const struct json *f = json_get(&tools[i], "function"), *parameters = json_get(f, "parameters");
        struct json whole = f ? *f : tools[i], empty = {.kind = JSON_OBJECT};
        if (!json_is(f, JSON_OBJECT))
            continue;
        adapt_set(a, &empty, "type", json_text("object", 6));
        adapt_set(a, &empty, "properties", (struct json){.kind = JSON_OBJECT});
        if (!json_given(json_get(f, "description")))
            adapt_set(a, &whole, "description", json_text("", 0));
        if (!json_given(parameters))
            adapt_set(a, &whole, "parameters", empty);
        else if (!a->can->bare_parameters && parameters->kind == JSON_OBJECT)
            adapt_set(a, &whole, "parameters", described(a, parameters));
        adapt_set(a, &tools[i], "function", whole);
    }
    a->tools.items = tools;
    return true;
}

/* Calls as text, in the form that the system text asks for (dialect hermes). */
static void calls_into_content(struct adapting *a, struct json *message)
{
    const struct json *calls = calls_of(message);
    struct str text = {0};
    for (uint32_t i = 0; i < calls->size; i++) {
        const struct json *f = function_of(&calls->items[i]), *name = json_get(f, "name"), *arguments = json_get(f, "arguments");
        struct json object = json_is(arguments, JSON_STRING) ? parse_arguments(a, arguments)
                             : json_is(arguments, JSON_OBJECT) ? *arguments : (struct json){.kind = JSON_OBJECT};
        str_format(&text, "%s<tool_call>\n{\"name\": ", i ? "\n" : "");
        json_write(&text, json_is(name, JSON_STRING) ? name : &(struct json){.kind = JSON_NULL});
        str_add_text(&text, ", \"arguments\": ");
        json_write_spaced(&text, &object);
        str_add_text(&text, "}\n</tool_call>");
    }
    struct json both[] = {adapt_content(message), adapt_take(a, &text)};
    struct object o = object_of(a->arena, message);
    object_remove(&o, "tool_calls");
    object_set(&o, "content", adapt_join(a, both, 2, "\n"));
    *message = object_json(&o);
    if (o.failed)
        adapt_failed(a);
}

static void result_into_user(struct adapting *a, struct json *message)
{
    struct json content[] = {json_text("<tool_response>\n", 16), adapt_content(message), json_text("\n</tool_response>", 17)};
    *message = adapt_message(a, "user", adapt_join(a, content, 3, ""));
}

static void describe_tools(struct adapting *a)
{
    struct str text = {0};
    str_add_text(&text, "You can call tools. These are their signatures, one a line:\n<tools>\n");
    for (uint32_t i = 0; i < a->tools.size; i++) {
        json_write_spaced(&text, function_of(&a->tools.items[i]));
        str_add_char(&text, '\n');
    }
    str_add_text(&text, "</tools>\n\nTo call one, write its name and arguments as JSON between <tool_call> and </tool_call>; several calls one after "
                        "the other:\n<tool_call>\n{\"name\": \"the tool's name\", \"arguments\": {\"parameter\": \"value\"}}\n</tool_call>\nThe results come "
                        "back between <tool_response> and </tool_response>. Call no tool where none is needed.");
    adapt_add_system(a, &text);
    str_free(&text);
}

/* A template that shows no tools: they are described in the system message, calls and results are text. */
bool adapt_tools_into_system(struct adapting *a)
{
    bool changed = false;
    if (a->can->tools || (a->can->reads_functions && !has_tools(a)))
        return false;
    if (has_tools(a)) {
        describe_tools(a);
        a->tools = (struct json){.kind = JSON_NULL};
        a->notes->calls_as_text = changed = true;
    }
    for (uint32_t i = 0; i < a->count && !a->status; i++) {
        if (calls_of(&a->messages[i]) && (changed || !a->can->calls)) {
            calls_into_content(a, &a->messages[i]);
            a->notes->calls_as_text = true;
        } else if (adapt_is(&a->messages[i], "tool") && (changed || a->notes->calls_as_text || !a->can->results)) {
            result_into_user(a, &a->messages[i]);
        } else {
            continue;
        }
        changed = true;
    }
    return changed;
}
