/* The part of JMESPath (jmespath.org) that response schemas use to rearrange parsed JSON: @, names, .name, [n], [*], {key: e,
 * ...}, [e, ...], 'text', `json`, e | e. No functions, filters, slices or flattening. */
#include <stdlib.h>

#include "tokenizers/output/declaration.h"

struct path {
    struct making_value *m;
    const char *at, *end;
    int depth;
    bool wrong; /* the expression is none */
};

static const struct json null_value = {.kind = JSON_NULL};

static struct json pipe_of(struct path *p, const struct json *v);

static void blanks(struct path *p)
{
    while (p->at < p->end && out_space(*p->at))
        p->at++;
}

static bool take(struct path *p, char c)
{
    blanks(p);
    bool there = p->at < p->end && *p->at == c;
    p->at += there;
    return there;
}

static bool is_name(char c) { return c == '_' || (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z'); }

static struct json wrong(struct path *p)
{
    p->wrong = true;
    p->at = p->end;
    return null_value;
}

/* Between marks; a backslash before the mark keeps it. */
static struct json quoted(struct path *p, char mark)
{
    const char *from = ++p->at;
    while (p->at < p->end && *p->at != mark)
        p->at += *p->at == '\\' && p->end - p->at > 1 ? 2 : 1;
    if (p->at >= p->end)
        return wrong(p);
    size_t size = (size_t)(p->at++ - from);
    struct json v = {.kind = JSON_STRING, .size = (uint32_t)size, .text = from};
    if (mark == '\'')
        return v;
    if (mark == '"') /* a name, escaped as JSON has it */
        from--, size += 2;
    return json_value(p->m->arena, from, size, &v, &p->m->o->failed) ? v : wrong(p);
}

static struct json name(struct path *p)
{
    blanks(p);
    if (p->at < p->end && *p->at == '"') {
        struct json v = quoted(p, '"');
        return v.kind == JSON_STRING ? v : wrong(p);
    }
    const char *from = p->at;
    while (p->at < p->end && is_name(*p->at))
        p->at++;
    return p->at > from && !(*from >= '0' && *from <= '9')
               ? (struct json){.kind = JSON_STRING, .size = (uint32_t)(p->at - from), .text = from}
               : wrong(p);
}

static struct json member_of(const struct json *v, const struct json *key)
{
    const struct json *found = key->kind == JSON_STRING ? json_get_sized(v, key->text, key->size) : NULL;
    return found ? *found : null_value;
}

enum { MOST = 64 }; /* members of a {...} or [...] */

/* {key: e, ...} behind its brace, [e, ...] behind its bracket. */
static struct json select_many(struct path *p, const struct json *v, bool keys)
{
    struct json_member *members = arena_array(p->m->arena, MOST, sizeof *members);
    struct json *items = arena_array(p->m->arena, MOST, sizeof *items);
    uint32_t n = 0;
    p->m->o->failed |= !members || !items;
    do {
        struct json key = keys ? name(p) : null_value;
        if (!members || !items || n == MOST || (keys && !take(p, ':')))
            return wrong(p);
        struct json value = pipe_of(p, v);
        members[n] = (struct json_member){.key = key.text, .key_size = key.size, .value = value};
        items[n++] = value;
    } while (take(p, ','));
    if (!take(p, keys ? '}' : ']'))
        return wrong(p);
    if (v->kind == JSON_NULL)
        return null_value;
    return keys ? (struct json){.kind = JSON_OBJECT, .size = n, .members = members}
                : (struct json){.kind = JSON_ARRAY, .size = n, .items = items};
}

static struct json rest_of(struct path *p, struct json v);

/* What follows [*] is done to every item; nulls fall out. */
static struct json project(struct path *p, const struct json *list)
{
    const char *from = p->at, *behind = p->at;
    if (++p->depth > DECLARATION_DEPTH)
        return wrong(p);
    uint32_t count = list->kind == JSON_ARRAY ? list->size : 0, kept = 0;
    struct json *items = arena_array(p->m->arena, (size_t)count + 1, sizeof *items);
    p->m->o->failed |= !items;
    if (!count)
        rest_of(p, null_value);
    behind = p->at > behind ? p->at : behind;
    for (uint32_t i = 0; items && i < count && !p->wrong; i++) {
        p->at = from;
        struct json v = rest_of(p, list->items[i]);
        behind = p->at;
        if (v.kind != JSON_NULL)
            items[kept++] = v;
    }
    p->at = behind;
    p->depth--;
    return list->kind == JSON_ARRAY ? (struct json){.kind = JSON_ARRAY, .size = kept, .items = items} : null_value;
}

static struct json indexed(struct path *p, const struct json *v)
{
    char digits[12] = "";
    size_t n = 0;
    while (p->at < p->end && n < sizeof digits - 1 && (*p->at == '-' || (*p->at >= '0' && *p->at <= '9')))
        digits[n++] = *p->at++;
    if (!n || !take(p, ']'))
        return wrong(p);
    long i = strtol(digits, NULL, 10);
    i += i < 0 && v->kind == JSON_ARRAY ? (long)v->size : 0;
    return v->kind == JSON_ARRAY && i >= 0 && i < (long)v->size ? v->items[i] : null_value;
}

/* Behind a '[' that continues an expression. */
static struct json bracket(struct path *p, const struct json *v)
{
    if (take(p, '*'))
        return take(p, ']') ? project(p, v) : wrong(p);
    return indexed(p, v);
}

static struct json rest_of(struct path *p, struct json v)
{
    while (!p->wrong) {
        if (take(p, '.')) {
            blanks(p);
            if (take(p, '{'))
                v = select_many(p, &v, true);
            else if (take(p, '['))
                v = select_many(p, &v, false);
            else {
                struct json key = name(p);
                v = member_of(&v, &key);
            }
        } else if (take(p, '[')) {
            v = bracket(p, &v);
        } else {
            return v;
        }
    }
    return null_value;
}

static struct json first_of(struct path *p, const struct json *v)
{
    blanks(p);
    char c = p->at < p->end ? *p->at : 0, next = p->end - p->at > 1 ? p->at[1] : 0;
    if (c == '\'' || c == '`')
        return quoted(p, c);
    if (take(p, '@'))
        return *v;
    if (take(p, '{'))
        return select_many(p, v, true);
    if (take(p, '['))
        return next == '*' || next == '-' || (next >= '0' && next <= '9') ? bracket(p, v) : select_many(p, v, false);
    struct json key = name(p);
    return member_of(v, &key);
}

static struct json pipe_of(struct path *p, const struct json *v)
{
    struct json value = *v;
    if (++p->depth > DECLARATION_DEPTH)
        return wrong(p);
    do
        value = rest_of(p, first_of(p, &value));
    while (!p->wrong && take(p, '|'));
    p->depth--;
    return value;
}

bool jmespath_search(struct making_value *m, const struct json *expression, struct json *v)
{
    struct path p = {.m = m, .at = expression->text, .end = expression->text + expression->size};
    *v = pipe_of(&p, v);
    blanks(&p);
    return !p.wrong && p.at == p.end && !m->o->failed;
}
