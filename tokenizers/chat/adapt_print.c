/* Calls of earlier turns as text, for templates that take tools and drop the calls that were made: the model would see results of
 * calls it never saw. They are written as the model writes them (call_notation_find). */
#include <string.h>

#include "tokenizers/chat/adapt.h"

struct printing {
    const struct call_notation *n;
    struct str text;
    const struct json *id; /* of the present call */
    uint32_t index;
    bool plain;            /* nothing that was filled in could be taken for markup */
};

static void add_value(struct printing *p, const char *text, size_t size)
{
    p->plain = p->plain && !memchr(text, '<', size) && !memchr(text, '[', size);
    str_add(&p->text, text, size);
}

static void add_words(struct printing *p, const struct str *words)
{
    for (size_t i = 0; i < words->size; i++) {
        char c = words->data[i];
        if (c == NOTATION_INDEX)
            str_format(&p->text, "%u", p->index);
        else if (c != NOTATION_ID)
            str_add_char(&p->text, c);
        else if (json_is(p->id, JSON_STRING))
            add_value(p, p->id->text, p->id->size);
        else
            str_format(&p->text, "%09u", p->index);
    }
}

static void add_json(struct printing *p, const struct json *v)
{
    struct str json = {0};
    json_write_spaced(&json, v);
    add_value(p, str_text(&json), json.size);
    p->text.failed |= json.failed;
    str_free(&json);
}

static void add_python(struct printing *p, const struct json *v)
{
    if (v->kind == JSON_NULL || v->kind == JSON_BOOL)
        str_add_text(&p->text, v->kind == JSON_NULL ? "None" : v->truth ? "True" : "False");
    else
        add_json(p, v); /* the same in both languages, but for these words deep inside, which readers take */
}

/* `other` with the name of the value's type filled in. */
static void add_other(struct printing *p, const struct json *v)
{
    static const char *const types[] = {[JSON_NULL] = "null",     [JSON_BOOL] = "boolean", [JSON_NUMBER] = "number",
                                        [JSON_STRING] = "string", [JSON_ARRAY] = "array",  [JSON_OBJECT] = "object"};
    const char *other = str_text(&p->n->other), *type = memchr(other, NOTATION_TYPE, p->n->other.size);
    size_t before = type ? (size_t)(type - other) : p->n->other.size;
    str_add(&p->text, other, before);
    if (type) {
        str_add_text(&p->text, types[v->kind]);
        str_add(&p->text, type + 1, p->n->other.size - before - 1);
    }
}

static void add_members(struct printing *p, const struct json *arguments)
{
    const struct call_notation *n = p->n;
    for (uint32_t i = 0; i < arguments->size; i++) {
        const struct json *v = &arguments->members[i].value;
        if (i)
            add_words(p, &n->joint);
        add_words(p, &n->key);
        add_value(p, arguments->members[i].key, arguments->members[i].key_size);
        if (v->kind == JSON_STRING)
            add_words(p, &n->value);
        else
            add_other(p, v);
        if (v->kind == JSON_STRING && n->until)
            add_value(p, v->text, v->size);
        else
            (n->python ? add_python : add_json)(p, v);
        add_words(p, &n->close);
    }
}

static void add_call(struct printing *p, const struct json *call)
{
    static const struct json empty = {.kind = JSON_OBJECT};
    const struct call_notation *n = p->n;
    const struct json *inner = json_get(call, "function"), *f = json_is(inner, JSON_OBJECT) ? inner : call;
    const struct json *name = json_get(f, "name"), *arguments = json_get(f, "arguments");
    if (p->index && n->separator.size) {
        add_words(p, &n->separator);
    } else {
        add_words(p, p->index ? &n->after : &(struct str){0});
        add_words(p, &n->before);
    }
    p->id = json_get(call, "id");
    if (json_is(name, JSON_STRING))
        add_value(p, name->text, name->size);
    add_words(p, &n->between);
    (n->members ? add_members : add_json)(p, json_is(arguments, JSON_OBJECT) ? arguments : &empty);
    p->index++;
}

static void print_calls(struct adapting *a, struct json *message, const struct json *calls)
{
    struct printing p = {.n = a->calls, .plain = true};
    struct json content = adapt_content(message);
    for (uint32_t i = 0; i < calls->size; i++)
        add_call(&p, &calls->items[i]);
    add_words(&p, &a->calls->after);
    p.plain = p.plain && (content.kind == JSON_NULL || (content.kind == JSON_STRING && !content.size));
    struct json both[] = {content, adapt_take(a, &p.text)};
    both[1].truth = p.plain; /* its markers are the model's own; with a user's words in it that could be markers, none is */
    struct object o = object_of(a->arena, message);
    object_remove(&o, "tool_calls");
    object_set(&o, "content", p.plain ? both[1] : adapt_join(a, both, 2, "\n"));
    *message = object_json(&o);
    if (o.failed)
        adapt_failed(a);
}

bool adapt_print_calls(struct adapting *a)
{
    const struct chat_abilities *can = a->can;
    bool changed = false;
    if (!a->calls || !a->calls->known || !can->tools || !can->calls || can->arguments_object || can->arguments_text)
        return false;
    for (uint32_t i = 0; i < a->count && !a->status; i++) {
        const struct json *calls = json_get(&a->messages[i], "tool_calls");
        if (!adapt_is(&a->messages[i], "assistant") || !json_is(calls, JSON_ARRAY) || !calls->size)
            continue;
        print_calls(a, &a->messages[i], calls);
        changed = true;
    }
    return changed;
}
