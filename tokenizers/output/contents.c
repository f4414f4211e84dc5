/* The text of a declared region as a value: transformers' content parsers. */
#include <stdio.h>

#include "tokenizers/output/declaration.h"

static const struct json nothing = {.kind = JSON_NULL};

static struct json fail(struct making_value *m)
{
    m->good = false;
    return nothing;
}

static struct json no_room(struct making_value *m)
{
    m->o->failed = true;
    return fail(m);
}

static struct json text_value(const char *text, size_t size, bool unread)
{
    return (struct json){.kind = JSON_STRING, .truth = unread, .size = (uint32_t)size, .text = text};
}

static void trim(const char **text, size_t *size)
{
    while (*size && out_space(**text))
        (*text)++, (*size)--;
    while (*size && out_space((*text)[*size - 1]))
        (*size)--;
}

/* ---- reading the declaration ------------------------------------------------------------------------------------------ */

static const char *const kinds[] = {[CONTENT_TEXT] = "text",        [CONTENT_INT] = "int",   [CONTENT_FLOAT] = "float",
                                    [CONTENT_BOOL] = "bool",        [CONTENT_JSON] = "json", [CONTENT_XML_INLINE] = "xml-inline",
                                    [CONTENT_KV_LINES] = "kv-lines"};

static enum status open_flag(const struct json *args, const char *key, bool *out, const struct at *outer, struct error *err)
{
    const struct json *v = json_get(args, key);
    struct at at = {outer, key, strlen(key)};
    return !v || json_bool(v, out) ? STATUS_OK
                                   : declaration_refuse(&at, err, "true or false is needed, not %s", json_kind_name(v));
}

static enum status open_text(struct arena *arena, const struct json *args, const char *key, const char *otherwise,
                             const char **out, const struct at *outer, struct error *err)
{
    const struct json *v = json_get(args, key);
    struct at at = {outer, key, strlen(key)};
    *out = otherwise;
    if (!v)
        return STATUS_OK;
    if (v->kind != JSON_STRING || !v->size || memchr(v->text, 0, v->size))
        return declaration_refuse(&at, err, "a text is needed, not empty");
    *out = json_copy(arena, v);
    return *out ? STATUS_OK : error_memory(err, "a declaration");
}

static enum status open_delims(struct contents *c, struct arena *arena, const struct json *v, const struct at *outer,
                               struct error *err)
{
    struct at at = {outer, "string_delims", strlen("string_delims")};
    if (v && (v->kind != JSON_ARRAY || v->size > MAX_DELIMS))
        return declaration_refuse(&at, err, "a list of at most %d pairs is needed", MAX_DELIMS);
    for (uint32_t i = 0; v && i < v->size; i++) {
        const struct json *pair = &v->items[i];
        bool good = pair->kind == JSON_ARRAY && pair->size == 2;
        for (uint32_t k = 0; good && k < 2; k++)
            good =
                pair->items[k].kind == JSON_STRING && pair->items[k].size && !memchr(pair->items[k].text, 0, pair->items[k].size);
        if (!good)
            return declaration_refuse(&at, err, "a pair of marks is needed, both texts");
        c->delims[i] = (struct delims){json_copy(arena, &pair->items[0]), json_copy(arena, &pair->items[1])};
        if (!c->delims[i].open || !c->delims[i].close)
            return error_memory(err, "a declaration");
    }
    return STATUS_OK;
}

static enum status open_tag(struct contents *c, const struct json *args, const struct at *outer, struct error *err)
{
    const struct json *v = json_get(args, "tag_pattern");
    struct at at = {outer, "tag_pattern", strlen("tag_pattern")};
    struct error why;
    if (!json_is(v, JSON_STRING))
        return declaration_refuse(&at, err, "a regex is needed, not %s", json_kind_name(v));
    enum status status = pattern_python(&c->tag, v->text, v->size, &why);
    if (status == STATUS_NO_ROOM)
        return error_memory(err, "a pattern");
    if (status)
        return declaration_refuse(&at, err, "%s", why.text);
    c->key = pattern_group(&c->tag, "key");
    c->value = pattern_group(&c->tag, "value");
    return c->key > 0 ? STATUS_OK : declaration_refuse(&at, err, "it needs a group named key");
}

static enum status open_values(struct contents *c, struct arena *arena, const struct json *v, const struct at *outer,
                               struct error *err)
{
    struct at at = {outer, "value_parser", strlen("value_parser")};
    int depth = 0;
    if (!v || v->kind == JSON_NULL)
        return STATUS_OK;
    for (const struct at *up = outer; up; up = up->outer)
        if (++depth > DECLARATION_DEPTH)
            return declaration_refuse(&at, err, "nested too deeply");
    if (v->kind != JSON_OBJECT)
        return declaration_refuse(&at, err, "an object with a name is needed, not %s", json_kind_name(v));
    if (!(c->values = arena_alloc(arena, sizeof *c->values)))
        return error_memory(err, "a declaration");
    return contents_open(c->values, arena, json_get(v, "name"), json_get(v, "args"), &at, err);
}

enum status contents_open(struct contents *c, struct arena *arena, const struct json *kind, const struct json *args,
                          const struct at *outer, struct error *err)
{
    struct at at = {outer, "content_args", strlen("content_args")};
    bool strip = true;
    int k = kind ? 0 : -1;
    *c = (struct contents){.key = -1, .value = -1};
    while (k >= 0 && k < (int)(sizeof kinds / sizeof *kinds) && !json_is_text(kind, kinds[k]))
        k++;
    if (k == sizeof kinds / sizeof *kinds)
        return declaration_refuse(outer, err,
                                  "the content %s is not known; text, int, float, bool, json, xml-inline and kv-lines are",
                                  kind->kind == JSON_STRING ? QUOTE(kind->text, kind->size) : json_kind_name(kind));
    if (args && args->kind != JSON_OBJECT)
        return declaration_refuse(&at, err, "an object is needed, not %s", json_kind_name(args));
    c->kind = k < 0 ? CONTENT_TEXT : (enum content_kind)k;
    enum status status = open_flag(args, "strip", &strip, &at, err);
    c->keep_space = !strip;
    if (!status)
        status = open_flag(args, "unquoted_keys", &c->unquoted_keys, &at, err);
    if (!status)
        status = open_flag(args, "allow_non_json", &c->allow_non_json, &at, err);
    if (!status)
        status = open_flag(args, "merge_duplicates", &c->merge, &at, err);
    if (!status)
        status = open_delims(c, arena, json_get(args, "string_delims"), &at, err);
    if (!status && c->kind == CONTENT_XML_INLINE)
        status = open_tag(c, args, &at, err);
    if (!status)
        status = open_text(arena, args, "line_sep", "\n", &c->line_sep, &at, err);
    if (!status)
        status = open_text(arena, args, "kv_sep", ":", &c->kv_sep, &at, err);
    return status ? status : open_values(c, arena, json_get(args, "value_parser"), &at, err);
}

void contents_close(struct contents *c)
{
    for (; c; c = c->values)
        pattern_free(&c->tag);
}

/* ---- json ------------------------------------------------------------------------------------------------------------ */

static bool starts(const char *text, size_t size, const char *with)
{
    size_t n = strlen(with);
    return n <= size && !memcmp(text, with, n);
}

static bool is_word(char c)
{
    return (unsigned char)c >= 0x80 || c == '_' || (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
}

enum { UNCLOSED = -1 };

/* Bytes of a string at `text` with its marks, written as JSON; 0: there is none; UNCLOSED. */
static ptrdiff_t write_marked(const struct contents *c, const char *text, size_t size, struct str *out)
{
    for (int i = 0; i < MAX_DELIMS && c->delims[i].open; i++) {
        if (!starts(text, size, c->delims[i].open))
            continue;
        size_t from = strlen(c->delims[i].open), n = strlen(c->delims[i].close);
        const char *end = memmem(text + from, size - from, c->delims[i].close, n);
        if (!end)
            return UNCLOSED;
        json_write_string(out, text + from, (size_t)(end - text) - from);
        return end - text + (ptrdiff_t)n;
    }
    if (*text != '"')
        return 0;
    size_t at = 1;
    while (at < size && text[at] != '"')
        at += text[at] == '\\' ? 2 : 1;
    if (at >= size)
        return UNCLOSED;
    str_add(out, text, at + 1);
    return (ptrdiff_t)at + 1;
}

/* What the declaration lets differ from JSON, as JSON; false: it is none. */
static bool write_plain(const struct contents *c, const char *text, size_t size, struct str *out)
{
    bool key = false; /* behind '{' or ',' */
    for (size_t at = 0; at < size;) {
        ptrdiff_t n = write_marked(c, text + at, size - at, out);
        size_t word = at;
        if (n == UNCLOSED)
            return false;
        if (n) {
            at += (size_t)n;
            key = false;
            continue;
        }
        while (key && c->unquoted_keys && word < size && is_word(text[word]))
            word++;
        if (word > at && word < size && text[word] == ':') {
            json_write_string(out, text + at, word - at);
            at = word;
        }
        key = text[at] == '{' || text[at] == ',' || (key && out_space(text[at]));
        str_add_char(out, text[at++]);
    }
    return true;
}

/* A copy that values may borrow from. */
static struct json parse_text(struct making_value *m, const char *text, size_t size)
{
    struct str fixed = {0};
    struct json v = nothing;
    json_fix_controls(&fixed, text, size);
    char *copy = fixed.failed ? NULL : arena_copy(m->arena, str_text(&fixed), fixed.size);
    size = fixed.size;
    str_free(&fixed);
    if (!copy)
        return no_room(m);
    return json_value(m->arena, copy, size, &v, &m->o->failed) ? v : fail(m);
}

static struct json read_json(struct making_value *m, const struct contents *c, const char *text, size_t size)
{
    struct str plain = {0};
    bool differs = (c->unquoted_keys || c->delims[0].open) && write_plain(c, text, size, &plain);
    m->o->failed |= plain.failed;
    struct json v = differs ? parse_text(m, str_text(&plain), plain.size) : parse_text(m, text, size);
    str_free(&plain);
    if (m->good || !c->allow_non_json)
        return v;
    m->good = !m->o->failed;
    if (!c->keep_space)
        trim(&text, &size);
    return text_value(text, size, false);
}

/* ---- pairs ----------------------------------------------------------------------------------------------------------- */

enum { PAIRS = 1000 }; /* parameters are few: a text with more of them is none */

struct pairs {
    struct making_value *m;
    struct json_member *list;
    uint32_t count, capacity;
    bool merge;
};

static void append_item(struct making_value *m, struct json *list, struct json v)
{
    struct json *items = list->size < PAIRS ? arena_array(m->arena, (size_t)list->size + 1, sizeof *items) : NULL;
    if (!items) {
        m->o->failed |= list->size < PAIRS;
        m->good = false;
        return;
    }
    if (list->size)
        memcpy(items, list->items, list->size * sizeof *items);
    items[list->size] = v;
    *list = (struct json){.kind = JSON_ARRAY, .size = list->size + 1, .items = items};
}

static bool repeated(struct pairs *p, const char *key, size_t size, struct json v)
{
    for (uint32_t i = 0; i < p->count; i++) {
        struct json *there = &p->list[i].value, first = *there;
        if (p->list[i].key_size != size || memcmp(p->list[i].key, key, size))
            continue;
        if (!p->merge) {
            *there = v;
            return true;
        }
        if (first.kind != JSON_ARRAY) {
            *there = (struct json){.kind = JSON_ARRAY};
            append_item(p->m, there, first);
        }
        append_item(p->m, there, v);
        return true;
    }
    return false;
}

static void add_pair(struct pairs *p, const char *key, size_t size, struct json v)
{
    if (repeated(p, key, size, v))
        return;
    if (p->count == p->capacity) {
        uint32_t capacity = p->capacity ? 2 * p->capacity : 8;
        struct json_member *list = p->count < PAIRS ? arena_array(p->m->arena, capacity, sizeof *list) : NULL;
        if (!list) {
            p->m->o->failed |= p->count < PAIRS;
            p->m->good = false;
            return;
        }
        if (p->count)
            memcpy(list, p->list, p->count * sizeof *list);
        p->list = list;
        p->capacity = capacity;
    }
    p->list[p->count++] = (struct json_member){.key = key, .key_size = (uint32_t)size, .value = v};
}

static struct json read_tags(struct making_value *m, const struct contents *c, const char *text, size_t size)
{
    struct pairs p = {.m = m, .merge = c->merge};
    struct pattern_match match;
    for (size_t at = 0; m->good && at <= size;) {
        if (pattern_match(&c->tag, m->run, text, size, at, false, &match, NULL))
            return fail(m);
        if (match.found != MATCH_WHOLE) {
            bool failed = m->unclosed && pattern_match(&c->tag, m->run, text, size, at, true, &match, NULL);
            m->good &= !failed && !(m->unclosed && match.found == MATCH_PART);
            break;
        }
        struct pattern_group all = match.groups[0], key = match.groups[c->key], value = {1, 0};
        if (c->value > 0)
            value = match.groups[c->value];
        if (key.start > key.end)
            return fail(m);
        bool has = value.start <= value.end;
        add_pair(&p, text + key.start, key.end - key.start,
                 text_value(has ? text + value.start : text, has ? value.end - value.start : 0, true));
        at = all.end > all.start ? all.end : all.end + 1;
        while (at < size && ((unsigned char)text[at] & 0xC0) == 0x80)
            at++;
    }
    return (struct json){.kind = JSON_OBJECT, .size = p.count, .members = p.list};
}

static struct json read_lines(struct making_value *m, const struct contents *c, const char *text, size_t size)
{
    struct pairs p = {.m = m};
    size_t separator = strlen(c->line_sep), between = strlen(c->kv_sep);
    for (const char *end = text + size; m->good && text <= end;) {
        const char *next = memmem(text, (size_t)(end - text), c->line_sep, separator), *line = text;
        size_t n = (size_t)((next ? next : end) - text), key_size;
        text = next ? next + separator : end + 1;
        if (!c->keep_space)
            trim(&line, &n);
        const char *middle = memmem(line, n, c->kv_sep, between), *value;
        if (!middle)
            continue;
        value = middle + between;
        n -= (size_t)(value - line);
        key_size = (size_t)(middle - line);
        if (!c->keep_space) {
            trim(&line, &key_size);
            trim(&value, &n);
        }
        add_pair(&p, line, key_size, text_value(value, n, true));
    }
    return (struct json){.kind = JSON_OBJECT, .size = p.count, .members = p.list};
}

/* ---- values ---------------------------------------------------------------------------------------------------------- */

static struct json read_number(struct making_value *m, const struct contents *c, const char *text, size_t size)
{
    struct json v = parse_text(m, text, size);
    if (v.kind != JSON_NUMBER)
        return fail(m);
    for (uint32_t i = 0; c->kind == CONTENT_INT && i < v.size; i++)
        if (strchr(".eE", v.text[i]))
            return fail(m);
    return v;
}

struct json contents_value(struct making_value *m, const struct contents *c, const char *text, size_t size)
{
    switch (c->kind) {
    case CONTENT_JSON:
        return read_json(m, c, text, size);
    case CONTENT_XML_INLINE:
        return read_tags(m, c, text, size);
    case CONTENT_KV_LINES:
        return read_lines(m, c, text, size);
    case CONTENT_INT:
    case CONTENT_FLOAT:
        return read_number(m, c, text, size);
    default:
        if (!c->keep_space || c->kind == CONTENT_BOOL)
            trim(&text, &size);
        if (c->kind == CONTENT_TEXT)
            return text_value(text, size, false);
        return (struct json){.kind = JSON_BOOL,
                             .truth = (size == 4 && !strncasecmp(text, "true", 4)) || (size == 1 && *text == '1')};
    }
}

/* ---- transforms ------------------------------------------------------------------------------------------------------ */

/* {word.word} at text: its bytes, or 0. */
static size_t placeholder_at(const char *text, size_t size)
{
    size_t at = 1;
    if (size < 3 || *text != '{')
        return 0;
    for (;; at++) {
        size_t word = at;
        while (at < size && is_word(text[at]))
            at++;
        if (at == word || at == size || (text[at] != '.' && text[at] != '}'))
            return 0;
        if (text[at] == '}')
            return at + 1;
    }
}

enum placeholder placeholder_in(const char *text, size_t size)
{
    for (size_t at = 0; at < size; at++) {
        size_t n = placeholder_at(text + at, size - at);
        if (n)
            return n == size ? PLACEHOLDER_WHOLE : PLACEHOLDER_MIXED;
    }
    return PLACEHOLDER_NONE;
}

/* Names are looked up in the objects of scope, the last first. */
struct scope {
    const struct json *list[2];
};

static struct json look_up(struct making_value *m, const struct scope *s, const char *path, size_t size)
{
    const struct json *v = NULL;
    for (size_t at = 0; at < size;) {
        const char *dot = memchr(path + at, '.', size - at);
        size_t n = dot ? (size_t)(dot - path) - at : size - at;
        if (at)
            v = json_get_sized(v, path + at, n);
        for (int i = 1; !at && i >= 0 && !v; i--)
            v = json_get_sized(s->list[i], path, n);
        if (!v)
            return fail(m);
        at += n + 1;
    }
    return v ? *v : fail(m);
}

static struct json apply(struct making_value *m, const struct json *t, const struct scope *s)
{
    if (t->kind == JSON_STRING)
        return placeholder_in(t->text, t->size) == PLACEHOLDER_WHOLE ? look_up(m, s, t->text + 1, t->size - 2) : *t;
    if (t->kind == JSON_ARRAY) {
        struct json *items = arena_array(m->arena, t->size + 1, sizeof *items);
        for (uint32_t i = 0; items && i < t->size; i++)
            items[i] = apply(m, &t->items[i], s);
        return items ? (struct json){.kind = JSON_ARRAY, .size = t->size, .items = items} : no_room(m);
    }
    if (t->kind == JSON_OBJECT) {
        struct json_member *members = arena_array(m->arena, t->size + 1, sizeof *members);
        for (uint32_t i = 0; members && i < t->size; i++)
            members[i] = (struct json_member){
                .key = t->members[i].key, .key_size = t->members[i].key_size, .value = apply(m, &t->members[i].value, s)};
        return members ? (struct json){.kind = JSON_OBJECT, .size = t->size, .members = members} : no_room(m);
    }
    return *t;
}

struct json transform_value(struct making_value *m, const struct field *f, const struct json *captures, const struct json *value)
{
    if (!f->transform || !m->good)
        return *value;
    if (!f->each) {
        const struct json_member content = {.key = "content", .key_size = 7, .value = *value};
        const struct json own = {.kind = JSON_OBJECT, .size = 1, .members = &content};
        return apply(m, f->transform, &(struct scope){{captures, &own}});
    }
    struct json *items = value->kind == JSON_ARRAY ? arena_array(m->arena, (size_t)value->size + 1, sizeof *items) : NULL;
    if (!items)
        return value->kind == JSON_ARRAY ? no_room(m) : fail(m);
    for (uint32_t i = 0; i < value->size; i++)
        items[i] =
            value->items[i].kind == JSON_OBJECT ? apply(m, f->transform, &(struct scope){{captures, &value->items[i]}}) : fail(m);
    return (struct json){.kind = JSON_ARRAY, .size = value->size, .items = items};
}
