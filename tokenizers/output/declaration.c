/* response_template read and checked; a declaration's life. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "tokenizers/output/schema.h"

/* ---- words ----------------------------------------------------------------------------------------------------------- */

static void write_place(const struct at *at, struct str *out)
{
    if (!at)
        return;
    write_place(at->outer, out);
    if (at->outer)
        str_add_char(out, '.');
    str_add_text(out, QUOTE(at->key, at->size));
}

enum status declaration_refuse(const struct at *at, struct error *err, const char *format, ...)
{
    struct str place = {0};
    char words[400];
    va_list args;
    va_start(args, format);
    vsnprintf(words, sizeof words, format, args);
    va_end(args);
    write_place(at, &place);
    enum status status = error_set(err, STATUS_BAD_INPUT, "%s: %s", str_text(&place), words);
    str_free(&place);
    return status;
}

enum part part_named(const char *name, size_t size)
{
    static const struct {
        const char *name;
        enum part part;
    } parts[] = {{"content", PART_CONTENT},
                 {"thinking", PART_REASONING},
                 {"reasoning", PART_REASONING},
                 {"reasoning_content", PART_REASONING},
                 {"tool_calls", PART_CALLS}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (strlen(parts[i].name) == size && !memcmp(parts[i].name, name, size))
            return parts[i].part;
    return PART_OTHER;
}

static bool is_absent(const struct json *v) { return !v || v->kind == JSON_NULL; }

/* Only these keys: an unknown one may change what is meant. */
static enum status check_keys(const struct json *v, const char *const *known, const struct at *at, struct error *err)
{
    for (uint32_t i = 0; i < v->size; i++) {
        const struct json_member *m = &v->members[i];
        const char *const *k = known;
        while (*k && (strlen(*k) != m->key_size || memcmp(*k, m->key, m->key_size)))
            k++;
        if (!*k)
            return declaration_refuse(at, err, "the key %s is not known", QUOTE(m->key, m->key_size));
    }
    return STATUS_OK;
}

/* ---- anchors --------------------------------------------------------------------------------------------------------- */

/* A literal, or several of which the longest counts. */
static enum status add_literal(struct str *regex, const struct json *v, const struct at *at, struct error *err)
{
    if (v->kind != JSON_STRING || !v->size)
        return declaration_refuse(at, err, "a text or a list of texts is needed, none of them empty");
    str_add_text(regex, regex->size ? "|" : "");
    for (uint32_t i = 0; i < v->size; i++) {
        unsigned char c = (unsigned char)v->text[i];
        bool plain = c >= 0x80 || (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') || c <= ' ';
        if (!c)
            return declaration_refuse(at, err, "a NUL character");
        str_add(regex, "\\", !plain);
        str_add_char(regex, (char)c);
    }
    return STATUS_OK;
}

static int longest_first(const void *a, const void *b)
{
    const struct json *const *x = a, *const *y = b;
    return ((*x)->size < (*y)->size) - ((*x)->size > (*y)->size);
}

static enum status literal_regex(struct str *regex, const struct json *v, const struct at *at, struct error *err)
{
    const struct json *sorted[64];
    if (v->kind != JSON_ARRAY)
        return add_literal(regex, v, at, err);
    if (!v->size || v->size > 64)
        return declaration_refuse(at, err, "a list of 1 to 64 texts is needed");
    for (uint32_t i = 0; i < v->size; i++)
        sorted[i] = &v->items[i];
    for (uint32_t i = 0; i < v->size; i++)
        if (sorted[i]->kind != JSON_STRING)
            return declaration_refuse(at, err, "a list of texts is needed");
    qsort(sorted, v->size, sizeof *sorted, longest_first);
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < v->size && !status; i++)
        status = add_literal(regex, sorted[i], at, err);
    return status;
}

/* spec[literal] or spec[pattern]; *there false: neither. text may be NULL. */
static enum status open_anchor(struct declaration *d, const struct json *spec, const char *literal, const char *pattern,
                               struct pattern *out, bool *there, const char **text, const struct at *outer, struct error *err)
{
    const struct json *words = json_get(spec, literal), *regex = json_get(spec, pattern);
    struct at at = {outer, words ? literal : pattern, strlen(words ? literal : pattern)};
    struct str made = {0};
    *there = words || regex;
    if (!*there)
        return STATUS_OK;
    if (words && regex)
        return declaration_refuse(&at, err, "only one of %s and %s may be there", literal, pattern);
    enum status status = STATUS_OK;
    if (words)
        status = literal_regex(&made, words, &at, err);
    else if (regex->kind == JSON_STRING)
        str_add(&made, regex->text, regex->size);
    else
        status = declaration_refuse(&at, err, "a regex is needed, not %s", json_kind_name(regex));
    struct error why;
    if (!status && made.failed)
        status = error_memory(err, "a pattern");
    if (!status && (status = pattern_python(out, str_text(&made), made.size, &why)))
        status = status == STATUS_BAD_INPUT ? declaration_refuse(&at, err, "%s", why.text) : error_memory(err, "a pattern");
    str_free(&made);
    if (!status && text && words) {
        *text = json_copy(&d->arena, words->kind == JSON_ARRAY ? words->items : words);
        status = *text ? STATUS_OK : error_memory(err, "a pattern");
    }
    return status;
}

/* ---- fields ---------------------------------------------------------------------------------------------------------- */

/* "{name}" and "{name.key}" stand alone. */
static enum status check_transform(const struct json *v, const struct at *at, int depth, struct error *err)
{
    enum status status = STATUS_OK;
    if (depth > DECLARATION_DEPTH)
        return declaration_refuse(at, err, "nested too deeply");
    if (v->kind == JSON_STRING && placeholder_in(v->text, v->size) == PLACEHOLDER_MIXED)
        return declaration_refuse(at, err, "the transform %s mixes a {placeholder} with other text", QUOTE(v->text, v->size));
    for (uint32_t i = 0; !status && v->kind == JSON_ARRAY && i < v->size; i++)
        status = check_transform(&v->items[i], at, depth + 1, err);
    for (uint32_t i = 0; !status && v->kind == JSON_OBJECT && i < v->size; i++)
        status = check_transform(&v->members[i].value, at, depth + 1, err);
    return status;
}

/* Named groups that nothing reads would be lost. */
static bool has_names(const struct pattern *p)
{
    int number;
    return p->code && pattern_name(p, 0, &number);
}

static enum status open_flags(struct declaration *d, struct field *f, const struct json *spec, const struct at *at,
                              struct error *err)
{
    const struct json *join = json_get(spec, "join"), *each = json_get(spec, "transform_each"),
                      *transform = json_get(spec, "transform");
    const struct json *repeats = json_get(spec, "repeats");
    bool repeated = false;
    if (!is_absent(repeats) && !json_bool(repeats, &repeated))
        return declaration_refuse(at, err, "repeats must be true or false");
    if (!is_absent(join) && (join->kind != JSON_STRING || !repeated))
        return declaration_refuse(at, err, "join must be a text, and needs repeats");
    if (each && !json_bool(each, &f->each))
        return declaration_refuse(at, err, "transform_each must be true or false");
    if (f->each && is_absent(transform))
        return declaration_refuse(at, err, "transform_each needs a transform");
    f->transform = is_absent(transform) ? NULL : transform;
    if (!f->transform && (has_names(&f->open) || has_names(&f->close)))
        return declaration_refuse(at, err, "named groups need a transform that reads them");
    if (!is_absent(join) && !(f->join = json_copy(&d->arena, join)))
        return error_memory(err, "a field");
    return f->transform ? check_transform(f->transform, at, 0, err) : STATUS_OK;
}

static enum status open_field(struct declaration *d, const struct json_member *m, const struct at *outer, struct error *err)
{
    static const char *const known[] = {"open",    "open_pattern", "close",    "close_pattern", "content",        "content_args",
                                        "repeats", "join",         "optional", "transform",     "transform_each", NULL};
    struct at at = {outer, m->key, m->key_size};
    const struct json *spec = &m->value;
    if (d->field_count == MAX_FIELDS)
        return declaration_refuse(outer, err, "more than %d fields", MAX_FIELDS);
    struct field *f = &d->fields[d->field_count++];
    if (spec->kind != JSON_OBJECT)
        return declaration_refuse(&at, err, "an object is needed, not %s", json_kind_name(spec));
    enum status status = check_keys(spec, known, &at, err);
    f->part = part_named(m->key, m->key_size);
    f->name = arena_copy(&d->arena, m->key, m->key_size);
    if (!status && !f->name)
        status = error_memory(err, "a field");
    if (!status)
        status = open_anchor(d, spec, "open", "open_pattern", &f->open, &f->has_open, &f->open_text, &at, err);
    if (!status)
        status = open_anchor(d, spec, "close", "close_pattern", &f->close, &f->has_close, &f->close_text, &at, err);
    if (!status)
        status = contents_open(&f->contents, &d->arena, json_get(spec, "content"), json_get(spec, "content_args"), &at, err);
    if (!status)
        status = open_flags(d, f, spec, &at, err);
    if (!status && !f->has_open && d->implicit >= 0)
        status = declaration_refuse(&at, err, "only one field may be without open; %s is another", d->fields[d->implicit].name);
    if (!status && !f->has_open)
        d->implicit = d->field_count - 1;
    return status;
}

static enum status open_template(struct declaration *d, const struct json *spec, struct error *err)
{
    static const char *const known[] = {"version", "defaults", "fields", "start_anchor", "start_anchor_pattern", NULL};
    const struct at at = {NULL, "response_template", strlen("response_template")}, in_fields = {&at, "fields", strlen("fields")};
    const struct json *version = json_get(spec, "version"), *fields = json_get(spec, "fields");
    int64_t number = 1;
    bool anchored;
    if (spec->kind != JSON_OBJECT)
        return declaration_refuse(&at, err, "an object is needed, not %s", json_kind_name(spec));
    if (version && (!json_int(version, &number) || number != 1))
        return declaration_refuse(&at, err, "its version is not 1");
    enum status status = check_keys(spec, known, &at, err);
    if (!status && (!json_is(fields, JSON_OBJECT) || !fields->size))
        status = declaration_refuse(&in_fields, err, "an object with fields is needed, not %s", json_kind_name(fields));
    for (uint32_t i = 0; !status && i < fields->size; i++)
        status = open_field(d, &fields->members[i], &in_fields, err);
    if (!status)
        status = open_anchor(d, spec, "start_anchor", "start_anchor_pattern", &d->anchor, &anchored, NULL, &at, err);
    return !status && !anchored ? declaration_refuse(&at, err, "it needs start_anchor or start_anchor_pattern") : status;
}

static enum status open_schema(struct declaration *d, const struct json *spec, struct error *err)
{
    const struct at at = {NULL, "response_schema", strlen("response_schema")};
    enum status status = schema_open(&d->schema, &d->arena, spec, &at, 0, err);
    return !status && d->schema->type != SCHEMA_OBJECT ? declaration_refuse(&at, err, "its type must be object") : status;
}

static enum status open_declaration(struct declaration **out, const char *text, size_t size,
                                    enum status (*read)(struct declaration *d, const struct json *spec, struct error *err),
                                    struct error *err)
{
    struct declaration *d = calloc(1, sizeof *d);
    struct json spec;
    *out = NULL;
    if (!d)
        return error_memory(err, "a declaration");
    d->implicit = -1;
    char *copy = arena_copy(&d->arena, text, size); /* transforms borrow from it */
    enum status status = copy ? json_parse(&d->arena, copy, size, NULL, &spec, err) : error_memory(err, "a declaration");
    if (!status)
        status = read(d, &spec, err);
    if (status)
        declaration_close(d);
    else
        *out = d;
    return status;
}

enum status declaration_open_template(struct declaration **out, const char *text, size_t size, struct error *err)
{
    return open_declaration(out, text, size, open_template, err);
}

enum status declaration_open_schema(struct declaration **out, const char *text, size_t size, struct error *err)
{
    return open_declaration(out, text, size, open_schema, err);
}

void declaration_close(struct declaration *d)
{
    if (!d)
        return;
    for (int i = 0; i < d->field_count; i++) {
        pattern_free(&d->fields[i].open);
        pattern_free(&d->fields[i].close);
        contents_close(&d->fields[i].contents);
    }
    pattern_free(&d->anchor);
    schema_close(d->schema);
    arena_free(&d->arena);
    free(d);
}
