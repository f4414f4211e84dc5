#include "base/toml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

enum { DEPTH = 64 };

/* Tables grow while the file is read, so they are lists until the end, when they are laid out as JSON. */
struct table;

struct item {
    const char *key;
    uint32_t key_size;
    struct json value;    /* a plain value, unless table or tables is set */
    struct table *table;
    struct table *tables; /* array of tables: the first, linked by next */
    struct item *next;
};

struct table {
    struct item *items, **end;
    struct table *next; /* in an array of tables */
    bool closed;        /* inline tables cannot grow */
    uint32_t count;
};

struct reader {
    struct arena *arena;
    const char *at, *end;
    int line, depth;
    struct error *err;
};

static enum status fail(struct reader *r, const char *what) { return error_set(r->err, STATUS_BAD_INPUT, "TOML: %s in line %d", what, r->line); }

static enum status no_memory(struct reader *r) { return error_memory(r->err, "a TOML file"); }

static void skip_blanks(struct reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t'))
        r->at++;
}

static void skip_comment(struct reader *r)
{
    skip_blanks(r);
    if (r->at < r->end && *r->at == '#')
        while (r->at < r->end && *r->at != '\n')
            r->at++;
}

/* Blanks, comments and line ends. */
static void skip_lines(struct reader *r)
{
    for (;;) {
        skip_comment(r);
        if (r->at < r->end && *r->at == '\r')
            r->at++;
        if (r->at == r->end || *r->at != '\n')
            return;
        r->at++;
        r->line++;
    }
}

static bool take(struct reader *r, const char *word)
{
    size_t n = strlen(word);
    if ((size_t)(r->end - r->at) < n || memcmp(r->at, word, n) != 0)
        return false;
    r->at += n;
    return true;
}

/* ---- strings ---------------------------------------------------------------------------------------------------------- */

static enum status escape(struct reader *r, struct str *out)
{
    static const char from[] = "btnfre\"\\", to[] = "\b\t\n\f\r\033\"\\";
    char c = r->at < r->end ? *r->at++ : 0;
    const char *simple = c ? strchr(from, c) : NULL;
    if (simple) {
        str_add_char(out, to[simple - from]);
        return STATUS_OK;
    }
    int digits = c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (!digits || r->end - r->at < digits)
        return fail(r, "a bad escape");
    char text[9] = {0}, *stop, bytes[4];
    memcpy(text, r->at, (size_t)digits);
    unsigned long codepoint = strtoul(text, &stop, 16);
    if (*stop || codepoint > 0x10FFFF)
        return fail(r, "a bad escape");
    r->at += digits;
    str_add(out, bytes, utf8_encode((uint32_t)codepoint, bytes));
    return STATUS_OK;
}

/* At the opening quote; basic strings know escapes, literal ones do not; three quotes span lines. */
static enum status read_string(struct reader *r, const char **text, uint32_t *size)
{
    char quote = *r->at;
    const char three[4] = {quote, quote, quote, 0};
    bool many = take(r, three), basic = quote == '"';
    struct str out = {0};
    enum status status = STATUS_OK;
    if (!many)
        r->at++;
    else if (take(r, "\n") || take(r, "\r\n"))
        r->line++;
    for (;; ) {
        if (r->at == r->end || (!many && *r->at == '\n')) {
            status = fail(r, "a string without its closing quote");
            break;
        }
        if (many ? take(r, three) : *r->at == quote) {
            if (!many)
                r->at++;
            while (many && r->at < r->end && *r->at == quote && out.size < UINT32_MAX) /* up to two quotes may end the text */
                str_add_char(&out, *r->at++);
            break;
        }
        if (*r->at == '\n')
            r->line++;
        if (basic && *r->at == '\\') {
            r->at++;
            const char *before = r->at;
            skip_blanks(r);
            if (many && r->at < r->end && (*r->at == '\n' || *r->at == '\r')) { /* the line goes on */
                while (r->at < r->end && strchr(" \t\r\n", *r->at))
                    r->line += *r->at++ == '\n';
                continue;
            }
            r->at = before;
            if ((status = escape(r, &out)))
                break;
            continue;
        }
        str_add_char(&out, *r->at++);
    }
    if (!status && (out.failed || !(*text = arena_copy(r->arena, str_text(&out), out.size))))
        status = no_memory(r);
    *size = (uint32_t)out.size;
    str_free(&out);
    return status;
}

/* ---- keys and tables --------------------------------------------------------------------------------------------------- */

static bool bare(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-'; }

static enum status read_key(struct reader *r, const char **key, uint32_t *size)
{
    skip_blanks(r);
    if (r->at < r->end && (*r->at == '"' || *r->at == '\''))
        return read_string(r, key, size);
    const char *start = r->at;
    while (r->at < r->end && bare(*r->at))
        r->at++;
    if (r->at == start)
        return fail(r, "a key was expected");
    *size = (uint32_t)(r->at - start);
    return (*key = arena_copy(r->arena, start, *size)) ? STATUS_OK : no_memory(r);
}

static struct table *new_table(struct reader *r)
{
    struct table *t = arena_alloc(r->arena, sizeof *t);
    if (t)
        t->end = &t->items;
    return t;
}

static struct item *find(const struct table *t, const char *key, uint32_t size)
{
    for (struct item *i = t->items; i; i = i->next)
        if (i->key_size == size && memcmp(i->key, key, size) == 0)
            return i;
    return NULL;
}

static struct item *add(struct reader *r, struct table *t, const char *key, uint32_t size)
{
    struct item *i = arena_alloc(r->arena, sizeof *i);
    if (!i)
        return NULL;
    i->key = key;
    i->key_size = size;
    *t->end = i;
    t->end = &i->next;
    t->count++;
    return i;
}

/* The table under a key, made if it is not there; of an array of tables the last one. */
static enum status enter(struct reader *r, struct table **t, const char *key, uint32_t size)
{
    struct item *i = find(*t, key, size);
    if (!i) {
        if (!(i = add(r, *t, key, size)) || !(i->table = new_table(r)))
            return no_memory(r);
    }
    struct table *inside = i->table;
    for (struct table *last = i->tables; last; last = last->next)
        inside = last;
    if (!inside || inside->closed)
        return error_set(r->err, STATUS_BAD_INPUT, "TOML: %s in line %d is no table that can grow", QUOTE(key, size), r->line);
    *t = inside;
    return STATUS_OK;
}

static enum status read_value(struct reader *r, struct item *out);

/* a.b.key: enters a and b, leaves the last key to the caller. */
static enum status read_dotted(struct reader *r, struct table **t, const char **key, uint32_t *size)
{
    for (;;) {
        enum status status = read_key(r, key, size);
        if (status)
            return status;
        skip_blanks(r);
        if (!take(r, "."))
            return STATUS_OK;
        if ((status = enter(r, t, *key, *size)))
            return status;
    }
}

/* key.key = value, into t. */
static enum status read_pair(struct reader *r, struct table *t)
{
    const char *key;
    uint32_t size;
    enum status status = read_dotted(r, &t, &key, &size);
    if (status)
        return status;
    if (!take(r, "="))
        return fail(r, "an equals sign was expected");
    if (find(t, key, size))
        return error_set(r->err, STATUS_BAD_INPUT, "TOML: the key %s occurs twice (line %d)", QUOTE(key, size), r->line);
    struct item *i = add(r, t, key, size);
    return i ? read_value(r, i) : no_memory(r);
}

/* [a.b] or [[a.b]] */
static enum status read_header(struct reader *r, struct table *root, struct table **current)
{
    bool array = take(r, "[[");
    const char *key;
    uint32_t size;
    struct table *t = root;
    if (!array)
        r->at++;
    enum status status = read_dotted(r, &t, &key, &size);
    if (status)
        return status;
    if (!take(r, array ? "]]" : "]"))
        return fail(r, "a closing bracket was expected");
    if (!array) {
        *current = t;
        return enter(r, current, key, size);
    }
    struct item *i = find(t, key, size);
    struct table *fresh = new_table(r);
    if (!fresh || (!i && !(i = add(r, t, key, size))))
        return no_memory(r);
    if (i->table || i->value.kind != JSON_NULL)
        return fail(r, "a value is no array of tables");
    struct table **end = &i->tables;
    while (*end)
        end = &(*end)->next;
    *current = *end = fresh;
    return STATUS_OK;
}

/* ---- values ----------------------------------------------------------------------------------------------------------- */

static enum status lay_out(struct reader *r, const struct table *t, struct json *out);

static enum status lay_out_item(struct reader *r, const struct item *i, struct json *out)
{
    if (i->table)
        return lay_out(r, i->table, out);
    if (!i->tables) {
        *out = i->value;
        return STATUS_OK;
    }
    uint32_t count = 0, at = 0;
    for (const struct table *t = i->tables; t; t = t->next)
        count++;
    struct json *items = arena_array(r->arena, count, sizeof *items);
    if (!items)
        return no_memory(r);
    enum status status = STATUS_OK;
    for (const struct table *t = i->tables; t && !status; t = t->next)
        status = lay_out(r, t, &items[at++]);
    *out = (struct json){.kind = JSON_ARRAY, .size = count, .items = items};
    return status;
}

static enum status lay_out(struct reader *r, const struct table *t, struct json *out)
{
    struct json_member *members = arena_array(r->arena, (size_t)t->count + 1, sizeof *members);
    uint32_t at = 0;
    enum status status = STATUS_OK;
    if (!members)
        return no_memory(r);
    if (++r->depth > DEPTH)
        return fail(r, "nested too deeply");
    for (const struct item *i = t->items; i && !status; i = i->next, at++) {
        members[at].key = i->key;
        members[at].key_size = i->key_size;
        status = lay_out_item(r, i, &members[at].value);
    }
    r->depth--;
    *out = (struct json){.kind = JSON_OBJECT, .size = t->count, .members = members};
    return status;
}

static enum status read_array(struct reader *r, struct json *out)
{
    struct table list = {.end = &list.items};
    enum status status;
    r->at++;
    for (;;) {
        skip_lines(r);
        if (take(r, "]"))
            break;
        struct item *i = add(r, &list, "", 0);
        if (!i)
            return no_memory(r);
        if ((status = read_value(r, i)))
            return status;
        skip_lines(r);
        if (take(r, "]"))
            break;
        if (!take(r, ","))
            return fail(r, "a comma or a closing bracket was expected");
    }
    struct json *items = arena_array(r->arena, (size_t)list.count + 1, sizeof *items);
    uint32_t at = 0;
    if (!items)
        return no_memory(r);
    for (const struct item *i = list.items; i; i = i->next)
        if ((status = lay_out_item(r, i, &items[at++])))
            return status;
    *out = (struct json){.kind = JSON_ARRAY, .size = list.count, .items = items};
    return STATUS_OK;
}

static enum status read_inline(struct reader *r, struct item *out)
{
    r->at++;
    if (!(out->table = new_table(r)))
        return no_memory(r);
    skip_blanks(r);
    bool end = take(r, "}");
    while (!end) {
        enum status status = read_pair(r, out->table);
        if (status)
            return status;
        skip_blanks(r);
        end = take(r, "}");
        if (!end && !take(r, ","))
            return fail(r, "a comma or a closing brace was expected");
    }
    out->table->closed = true;
    return STATUS_OK;
}

/* Integers become decimal text, floats keep theirs without underscores. */
static enum status read_number(struct reader *r, struct json *out)
{
    char text[80];
    size_t n = 0;
    const char *start = r->at;
    while (r->at < r->end && (bare(*r->at) || strchr("+.:", *r->at)) && n < sizeof text - 1) {
        if (*r->at != '_')
            text[n++] = *r->at;
        r->at++;
    }
    text[n] = 0;
    char *digits = text + (*text == '+'), *stop;
    int base = !strncmp(digits, "0x", 2) ? 16 : !strncmp(digits, "0o", 2) ? 8 : !strncmp(digits, "0b", 2) ? 2 : 0;
    if (base) {
        unsigned long long v = strtoull(digits + 2, &stop, base);
        if (*stop || !digits[2])
            return fail(r, "a bad number");
        digits = arena_format(r->arena, "%llu", v);
    } else {
        if (strchr(text, ':') || (n >= 10 && text[4] == '-' && text[7] == '-'))
            return fail(r, "dates and times are not supported:");
        strtod(digits, &stop);
        if (*stop || !*digits || strspn(digits, "0123456789+-.eE") != strlen(digits))
            return error_set(r->err, STATUS_BAD_INPUT, "TOML: %s in line %d is no value", QUOTE(start, (size_t)(r->at - start)), r->line);
        digits = arena_copy(r->arena, digits, strlen(digits));
    }
    if (!digits)
        return no_memory(r);
    *out = (struct json){.kind = JSON_NUMBER, .size = (uint32_t)strlen(digits), .text = digits};
    return STATUS_OK;
}

static enum status read_value(struct reader *r, struct item *out)
{
    enum status status;
    skip_blanks(r);
    if (r->at == r->end)
        return fail(r, "a value was expected");
    if (++r->depth > DEPTH)
        return fail(r, "nested too deeply");
    if (*r->at == '"' || *r->at == '\'') {
        out->value.kind = JSON_STRING;
        status = read_string(r, &out->value.text, &out->value.size);
    } else if (*r->at == '[') {
        status = read_array(r, &out->value);
    } else if (*r->at == '{') {
        status = read_inline(r, out);
    } else if (take(r, "true") || take(r, "false")) {
        out->value = (struct json){.kind = JSON_BOOL, .truth = r->at[-2] == 'u'};
        status = STATUS_OK;
    } else {
        status = read_number(r, &out->value);
    }
    r->depth--;
    return status;
}

enum status toml_parse(struct arena *arena, const char *text, size_t size, struct json *out, struct error *err)
{
    struct reader r = {arena, text, text + size, 1, 0, err};
    struct table *root = new_table(&r), *current = root;
    if (!root)
        return no_memory(&r);
    if (!utf8_is_valid(text, size))
        return fail(&r, "the file is not UTF-8; first seen");
    for (;;) {
        skip_lines(&r);
        if (r.at == r.end)
            return lay_out(&r, root, out);
        enum status status = *r.at == '[' ? read_header(&r, root, &current) : read_pair(&r, current);
        if (status)
            return status;
        skip_comment(&r);
        if (r.at < r.end && *r.at != '\n' && *r.at != '\r')
            return fail(&r, "something follows the value");
    }
}
