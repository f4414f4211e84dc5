/* A declared tool_calls value, {"type": "function", "function": {"name", "arguments"}} or a list of them, as calls. */
#include "tokenizers/output/declaration.h"

static const struct json *member(const struct json *item, const char *const *names)
{
    const struct json *v = NULL;
    for (; *names && !v; names++)
        v = json_get(item, *names);
    return v;
}

static void write_arguments(struct making_value *m, const struct json *args, const struct json *schema,
                            const struct contents *values, struct str *out);

/* A text that the declared type, or else the values parser, reads. */
static void write_text(struct making_value *m, const struct json *v, const struct contents *values, int types, struct str *out)
{
    if (types && (v->truth || !(types & TYPE_STRING))) {
        if (!value_write(out, types, v->text, v->size))
            warn(m->o, "type", v->text, v->size);
    } else if (v->truth && values) {
        struct json read = contents_value(m, values, v->text, v->size);
        if (read.kind == JSON_OBJECT)
            write_arguments(m, &read, NULL, values->values, out); /* a parser of pairs leaves texts of its own */
        else
            json_write(out, &read);
    } else {
        json_write_string(out, v->text, v->size);
    }
}

static void write_value(struct making_value *m, const struct json *v, const struct contents *values, int types,
                        const struct json *items, struct str *out)
{
    if (v->kind == JSON_STRING) {
        write_text(m, v, values, types, out);
    } else if (v->kind == JSON_ARRAY && v->size && v->items->kind == JSON_STRING && v->items->truth) { /* merged duplicates */
        str_add_char(out, '[');
        for (uint32_t i = 0; i < v->size; i++) {
            str_add_text(out, i ? ", " : "");
            write_text(m, &v->items[i], values, types & TYPE_ARRAY ? types_of(items) : types, out);
        }
        str_add_char(out, ']');
    } else {
        json_write(out, v);
    }
}

/* An object's members, by their declared types. */
static void write_arguments(struct making_value *m, const struct json *args, const struct json *schema,
                            const struct contents *values, struct str *out)
{
    str_add_char(out, '{');
    for (uint32_t i = 0; i < args->size; i++) {
        const struct json_member *a = &args->members[i];
        const struct json *declared = tool_property(schema, a->key, a->key_size);
        str_add_text(out, i ? ", " : "");
        json_write_string(out, a->key, a->key_size);
        str_add_text(out, ": ");
        write_value(m, &a->value, values, types_of(declared), tool_items(declared), out);
    }
    str_add_char(out, '}');
}

/* Arguments as an object: a text may hold one; nothing is an empty one. */
static bool take_arguments(struct making_value *m, const struct json *v, struct json *out)
{
    *out = (struct json){.kind = JSON_OBJECT};
    if (!v || v->kind == JSON_NULL)
        return true;
    if (v->kind == JSON_OBJECT) {
        *out = *v;
        return true;
    }
    size_t at = 0;
    while (v->kind == JSON_STRING && at < v->size && out_space(v->text[at]))
        at++;
    if (v->kind != JSON_STRING)
        return false;
    return at == v->size || (json_value(m->arena, v->text, v->size, out, &m->o->failed) && out->kind == JSON_OBJECT);
}

static bool one_call(struct making_value *m, const struct json *item, const struct contents *values)
{
    static const char *const arguments[] = {"arguments", "parameters", NULL}, *const ids[] = {"id", "tool_call_id", NULL};
    const struct json *inner = json_get(item, "function"), *f = json_is(inner, JSON_OBJECT) ? inner : item;
    const struct json *name = json_get(f, "name"), *id = member(item, ids);
    struct json args;
    struct str text = {0};
    if (!json_is(name, JSON_STRING) || !name->size || !take_arguments(m, member(f, arguments), &args))
        return false;
    write_arguments(m, &args, tool_find(m->o, name->text, name->size), values, &text);
    bool has_id = json_is(id, JSON_STRING) && !memchr(id->text, 0, id->size);
    m->o->failed |= text.failed;
    if (m->good && !m->o->failed) {
        call_begin(m->o, name->text, name->size, has_id ? id->text : NULL, has_id ? id->size : 0);
        call_add(m->o, str_text(&text), text.size);
        m->good = call_end(m->o);
    }
    str_free(&text);
    return m->good;
}

bool declared_calls(struct making_value *m, const struct json *v, const struct contents *values)
{
    if (v->kind != JSON_ARRAY)
        return one_call(m, v, values);
    for (uint32_t i = 0; i < v->size; i++)
        if (!one_call(m, &v->items[i], values))
            return false;
    return true;
}
