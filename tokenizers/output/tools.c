/* What the caller declared: names, parameters, types. */
#include "tokenizers/output/output.h"

static const struct json *function_of(const struct json *tool)
{
    const struct json *inner = json_get(tool, "function");
    return json_is(inner, JSON_OBJECT) ? inner : tool;
}

const struct json *tool_find(const struct output *o, const char *name, size_t size)
{
    static const struct json none = {.kind = JSON_OBJECT};
    for (size_t i = 0; i < o->tool_count; i++) {
        const struct json *f = function_of(&o->tools->items[i]), *declared = json_get(f, "name");
        if (!json_is(declared, JSON_STRING) || declared->size != size || memcmp(declared->text, name, size))
            continue;
        const struct json *p = json_get(f, "parameters");
        p = p ? p : json_get(f, "input_schema"); /* Anthropic's word */
        return p ? p : &none;
    }
    return NULL;
}

const struct json *tool_property(const struct json *schema, const char *key, size_t size)
{
    return json_get_sized(json_get(schema, "properties"), key, size);
}

const struct json *tool_items(const struct json *schema) { return json_get(schema, "items"); }

int type_named(const char *name, size_t size)
{
    static const struct {
        const char *name;
        int type;
    } types[] = {
        {"string", TYPE_STRING}, {"number", TYPE_NUMBER}, {"integer", TYPE_INTEGER}, {"boolean", TYPE_BOOLEAN},
        {"object", TYPE_OBJECT}, {"array", TYPE_ARRAY},   {"null", TYPE_NULL},
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strlen(types[i].name) == size && !memcmp(types[i].name, name, size))
            return types[i].type;
    return 0;
}

static int type_of_value(const struct json *v)
{
    static const int kinds[] = {[JSON_NULL] = TYPE_NULL,     [JSON_BOOL] = TYPE_BOOLEAN, [JSON_NUMBER] = TYPE_NUMBER,
                                [JSON_STRING] = TYPE_STRING, [JSON_ARRAY] = TYPE_ARRAY,  [JSON_OBJECT] = TYPE_OBJECT};
    return kinds[v->kind];
}

/* One level of anyOf and oneOf: deeper ones say nothing. */
static int types_here(const struct json *schema)
{
    const struct json *type = json_get(schema, "type"), *values = json_get(schema, "enum"), *one = json_get(schema, "const");
    int types = 0;
    if (json_is(type, JSON_STRING))
        return type_named(type->text, type->size);
    if (json_is(type, JSON_ARRAY)) {
        for (uint32_t i = 0; i < type->size; i++)
            if (type->items[i].kind == JSON_STRING)
                types |= type_named(type->items[i].text, type->items[i].size);
        return types;
    }
    if (one)
        return type_of_value(one);
    if (json_is(values, JSON_ARRAY))
        for (uint32_t i = 0; i < values->size; i++)
            types |= type_of_value(&values->items[i]);
    return types;
}

int types_of(const struct json *schema)
{
    static const char *const choices[] = {"anyOf", "oneOf"};
    int types = types_here(schema);
    for (int c = 0; c < 2 && !types; c++) {
        const struct json *list = json_get(schema, choices[c]);
        if (!json_is(list, JSON_ARRAY))
            continue;
        for (uint32_t i = 0; i < list->size; i++) {
            int more = types_here(&list->items[i]);
            if (!more)
                return 0; /* anything */
            types |= more;
        }
    }
    return types;
}
