/* Text that tags carry, as JSON (toolcalls.md, rule 10); strings and values of a JSON text. */
#include <math.h>

#include "tokenizers/output/output.h"
#include "tokenizers/output/reading.h"

bool json_value(struct arena *arena, const char *text, size_t size, struct json *out, bool *failed)
{
    struct json_options options = {.depth = JSON_SCAN_DEPTH};
    enum status status = json_parse(arena, text, size, &options, out, NULL);
    *failed |= status == STATUS_NO_ROOM;
    return !status;
}

bool json_string_decode(struct output *o, const char *quoted, size_t size, const char **text, size_t *out)
{
    struct str fixed = {0};
    struct json v = {0};
    json_fix_controls(&fixed, quoted, size);
    char *copy = arena_copy(&o->arena, str_text(&fixed), fixed.size); /* the value borrows from it */
    size_t fixed_size = fixed.size;
    o->failed |= fixed.failed || !copy;
    str_free(&fixed);
    if (!copy || !json_value(&o->arena, copy, fixed_size, &v, &o->failed) || v.kind != JSON_STRING)
        return false;
    *text = v.text;
    *out = v.size;
    return true;
}

static bool is_integer(const struct json *v)
{
    double d;
    for (uint32_t i = 0; i < v->size; i++)
        if (strchr(".eE", v->text[i]))
            return json_double(v, &d) && d == floor(d);
    return true;
}

static bool fits(const struct json *v, int types)
{
    switch (v->kind) {
    case JSON_NULL:
        return types & TYPE_NULL;
    case JSON_BOOL:
        return types & TYPE_BOOLEAN;
    case JSON_NUMBER:
        return types & TYPE_NUMBER || (types & TYPE_INTEGER && is_integer(v));
    case JSON_ARRAY:
        return types & TYPE_ARRAY;
    case JSON_OBJECT:
        return types & TYPE_OBJECT;
    default:
        return false; /* a declared string is the text as it stands */
    }
}

/* JSON text that fits, as it was written. types 0: any value fits. */
static bool write_json(struct str *out, int types, const char *text, size_t size)
{
    struct arena arena = {0};
    struct str fixed = {0};
    struct json v;
    json_fix_controls(&fixed, text, size);
    out->failed |= fixed.failed;
    bool good = json_value(&arena, str_text(&fixed), fixed.size, &v, &out->failed) && (!types || fits(&v, types));
    if (good)
        str_add(out, fixed.data, fixed.size);
    str_free(&fixed);
    arena_free(&arena);
    return good;
}

static bool write_python(struct str *out, int types, const char *text, size_t size)
{
    struct str json = {0};
    bool good = python_write(&json, text, size);
    out->failed |= json.failed;
    good = good && write_json(out, types, str_text(&json), json.size);
    str_free(&json);
    return good;
}

bool value_write(struct str *out, int types, const char *text, size_t size)
{
    const char *trimmed = text;
    size_t n = size;
    while (n && out_space(*trimmed))
        trimmed++, n--;
    while (n && out_space(trimmed[n - 1]))
        n--;
    bool none = (size == 4 && !memcmp(text, "null", 4)) || (size == 4 && !memcmp(text, "None", 4));
    bool sought = types & ~(TYPE_STRING | TYPE_NULL) || !types;
    if (types & TYPE_STRING && types & TYPE_NULL && none) {
        str_add_text(out, "null");
        return true;
    }
    if (!types && write_json(out, 0, trimmed, n))
        return true;
    if (types && (sought || !(types & TYPE_STRING)) && n) {
        int others = types & TYPE_STRING ? types & ~TYPE_NULL : types; /* beside strings, null is null only when exact */
        if (write_json(out, others, trimmed, n) || write_python(out, others, trimmed, n))
            return true;
    }
    json_write_string(out, text, size);
    return !types || types & TYPE_STRING;
}

enum tag_reading tag_reading(const struct json *schema, struct str *reserved)
{
    static const struct {
        int types;
        const char *regex;
    } looks[] = { /* as value_write() takes them for more than text */
        {TYPE_NULL, "null|None"},
        {TYPE_BOOLEAN, "\\s*([tT]rue|[fF]alse)\\s*"},
        {TYPE_NUMBER | TYPE_INTEGER, "\\s*[-+]*\\.?([0-9]|[nN]a[nN]|[iI]nf)[0-9a-zA-Z_.+-]*\\s*"},
        {TYPE_ARRAY, "\\s*[\\[(][\\s\\S]*[\\])]\\s*"},
        {TYPE_OBJECT, "\\s*\\{[\\s\\S]*\\}\\s*"},
    };
    int types = types_of(schema);
    if (!types || types == TYPE_STRING)
        return types ? TAG_TEXT : TAG_ANY;
    if (!(types & TYPE_STRING))
        return TAG_JSON;
    for (size_t i = 0; i < sizeof looks / sizeof *looks; i++)
        if (types & looks[i].types)
            str_format(reserved, "%s(%s)", reserved->size ? "|" : "", looks[i].regex);
    return TAG_EITHER;
}
