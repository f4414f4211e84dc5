/* From places of a value to rules; references; errors with their place. */
#include "tokenizers/grammar/schema/schema.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizers/grammar/frontends.h"
#include "tokenizers/hash.h"
#include "tokenizers/tokenizers.h"

enum { MOST_RULES = 20000, MOST_POINTER = 500 };

/* ---- errors --------------------------------------------------------------------------------------------------------- */

/* Writes the JSON pointer of target below v behind path; false: it is not there. */
static bool find_place(const struct json *v, const struct json *target, struct str *path, int depth)
{
    size_t before = path->size;
    if (v == target)
        return true;
    for (uint32_t i = 0; depth < 200 && (v->kind == JSON_ARRAY || v->kind == JSON_OBJECT) && i < v->size; i++) {
        if (v->kind == JSON_ARRAY) {
            str_format(path, "/%u", i);
        } else {
            str_add_char(path, '/');
            for (uint32_t k = 0; k < v->members[i].key_size; k++) {
                char c = v->members[i].key[k];
                str_add(path, c == '~' ? "~0" : c == '/' ? "~1" : &c, c == '~' || c == '/' ? 2 : 1);
            }
        }
        if (find_place(v->kind == JSON_ARRAY ? &v->items[i] : &v->members[i].value, target, path, depth + 1))
            return true;
        path->size = before;
    }
    return false;
}

bool schema_refuse(struct schema *s, const struct json *schema, const char *keyword, const char *format, ...)
{
    struct str path = {0};
    char words[500];
    va_list args;
    if (s->status)
        return false;
    va_start(args, format);
    vsnprintf(words, sizeof words, format, args);
    va_end(args);
    str_add_char(&path, '#');
    if (!find_place(s->root, schema, &path, 0))
        path.size = 1;
    if (keyword)
        str_format(&path, "/%s", keyword);
    size_t from = path.size > MOST_POINTER ? path.size - MOST_POINTER : 0; /* the end says more than the beginning */
    s->status = error_set(s->err, STATUS_BAD_INPUT, "schema, %s%.*s: %s", from ? "..." : "", (int)(path.size - from), str_text(&path) + from, words);
    str_free(&path);
    return false;
}

void *schema_alloc(struct schema *s, size_t size)
{
    void *p = s->status ? NULL : arena_alloc(&s->arena, size);
    if (!p && !s->status)
        s->status = error_set(s->err, STATUS_NO_ROOM, "the schema is too large");
    return p;
}

/* ---- references ----------------------------------------------------------------------------------------------------- */

static bool is_text(const struct json *v, const char *text, size_t size)
{
    return v && v->kind == JSON_STRING && v->size == size && memcmp(v->text, text, size) == 0;
}

/* The schema with this $anchor, or with this $id; data (enum, const) is passed over. */
static const struct json *find_name(const struct json *v, const char *text, size_t size, bool anchor, int depth)
{
    const struct json *found = NULL;
    if (depth > 200 || (v->kind != JSON_OBJECT && v->kind != JSON_ARRAY))
        return NULL;
    if (v->kind == JSON_OBJECT &&
        (anchor ? is_text(json_get(v, "$anchor"), text, size) : is_text(json_get(v, "$id"), text, size) || is_text(json_get(v, "id"), text, size)))
        return v;
    for (uint32_t i = 0; i < v->size && !found; i++) {
        if (v->kind == JSON_ARRAY) {
            found = find_name(&v->items[i], text, size, anchor, depth + 1);
        } else {
            const struct json_member *m = &v->members[i];
            bool data = (m->key_size == 4 && memcmp(m->key, "enum", 4) == 0) || (m->key_size == 5 && memcmp(m->key, "const", 5) == 0);
            found = data ? NULL : find_name(&m->value, text, size, anchor, depth + 1);
        }
    }
    return found;
}

static int hex_value(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* One step of a JSON pointer: %XX, ~0 and ~1 are what they stand for. */
static const struct json *point(const struct json *v, const char *text, size_t size)
{
    char key[1024];
    size_t n = 0;
    for (size_t i = 0; i < size && n < sizeof key; i++) {
        char c = text[i];
        if (c == '%' && i + 2 < size && hex_value(text[i + 1]) >= 0 && hex_value(text[i + 2]) >= 0) {
            c = (char)(hex_value(text[i + 1]) << 4 | hex_value(text[i + 2]));
            i += 2;
        }
        if (c == '~' && i + 1 < size && (text[i + 1] == '0' || text[i + 1] == '1'))
            c = text[++i] == '0' ? '~' : '/';
        key[n++] = c;
    }
    if (v->kind == JSON_OBJECT)
        return json_get_sized(v, key, n);
    uint64_t index = 0;
    for (size_t i = 0; i < n; i++)
        index = key[i] < '0' || key[i] > '9' || index > UINT32_MAX ? UINT64_MAX / 20 : index * 10 + (uint64_t)(key[i] - '0');
    return v->kind == JSON_ARRAY && n && index < v->size ? &v->items[index] : NULL;
}

const struct json *schema_resolve(struct schema *s, const struct json *schema, const struct json *ref)
{
    if (ref->kind != JSON_STRING) {
        schema_refuse(s, schema, "$ref", "expected a text, not %s", json_kind_name(ref));
        return NULL;
    }
    const char *hash = memchr(ref->text, '#', ref->size);
    size_t base = hash ? (size_t)(hash - ref->text) : ref->size, rest = hash ? ref->size - base - 1 : 0;
    const char *fragment = hash ? hash + 1 : "";
    const struct json *v = base ? find_name(s->root, ref->text, base, false, 0) : s->root;
    if (v && rest && *fragment != '/')
        v = find_name(v, fragment, rest, true, 0);
    for (size_t at = 0; v && rest && *fragment == '/' && at < rest;) {
        size_t end = ++at;
        while (end < rest && fragment[end] != '/')
            end++;
        v = point(v, fragment + at, end - at);
        at = end;
    }
    if (!v)
        schema_refuse(s, schema, "$ref", "'%s' is not in this schema; nothing is fetched", QUOTE(ref->text, ref->size));
    return v;
}

/* ---- literals ------------------------------------------------------------------------------------------------------- */

static bool is_trivial(const struct json *v, bool truth)
{
    return v->kind == JSON_BOOL ? v->truth == truth : truth && v->kind == JSON_OBJECT && v->size == 0;
}

/* Lists are kept sorted, so that equal ones look equal. */
const struct literal *literal_add(struct schema *s, const struct literal *list, const struct json *schema, bool negated)
{
    if (is_trivial(schema, !negated))
        return list;
    uintptr_t key = (uintptr_t)schema;
    if (list && ((uintptr_t)list->schema < key || (list->schema == schema && list->negated < negated))) {
        const struct literal *next = literal_add(s, list->next, schema, negated);
        if (next == list->next)
            return list;
        struct literal *copy = schema_alloc(s, sizeof *copy);
        if (copy)
            *copy = (struct literal){next, list->schema, list->negated};
        return copy;
    }
    if (list && list->schema == schema && list->negated == negated)
        return list;
    struct literal *added = schema_alloc(s, sizeof *added);
    if (added)
        *added = (struct literal){list, schema, negated};
    return added;
}

static uint32_t hash_literals(const struct literal *l)
{
    uint64_t h = 0x2545F491;
    for (; l; l = l->next)
        h = hash_mix(h ^ (uintptr_t)l->schema, 0xA0761D6478BD642Fu + l->negated);
    return (uint32_t)h;
}

static bool same_literals(const struct literal *a, const struct literal *b)
{
    for (; a && b; a = a->next, b = b->next)
        if (a->schema != b->schema || a->negated != b->negated)
            return false;
    return !a && !b;
}

static bool index_grow(struct schema *s)
{
    if (s->index && (uint64_t)s->rule_count * 2 < s->index_mask)
        return true;
    uint32_t mask = s->index ? s->index_mask * 2 + 1 : 63, *index = arena_array(&s->arena, (size_t)mask + 1, sizeof *index);
    if (!index) {
        s->status = error_memory(s->err, "a schema");
        return false;
    }
    for (uint32_t i = 0; i < s->rule_count; i++) {
        uint32_t at = hash_literals(s->rules[i].literals) & mask;
        while (index[at])
            at = (at + 1) & mask;
        index[at] = i + 1;
    }
    s->index = index;
    s->index_mask = mask;
    return true;
}

expr schema_call(struct schema *s, const struct literal *literals)
{
    for (const struct literal *l = literals; l; l = l->next)
        if (is_trivial(l->schema, l->negated))
            return NONE;
    if (s->status || !index_grow(s))
        return NONE;
    uint32_t at = hash_literals(literals) & s->index_mask;
    for (; s->index[at]; at = (at + 1) & s->index_mask)
        if (same_literals(s->rules[s->index[at] - 1].literals, literals))
            return expr_call(s->pool, s->rules[s->index[at] - 1].rule);
    if (s->rule_count >= MOST_RULES) {
        schema_refuse(s, s->root, NULL, "it describes more than %d different places", MOST_RULES);
        return NONE;
    }
    if (!pool_grow(s->pool, &s->rules, &s->rule_capacity, s->rule_count + 1, sizeof *s->rules))
        return NONE;
    s->rules[s->rule_count] = (struct schema_rule){literals, pool_rule(s->pool)};
    s->index[at] = ++s->rule_count;
    return expr_call(s->pool, s->rules[s->rule_count - 1].rule);
}

/* ---- rules ---------------------------------------------------------------------------------------------------------- */

/* The only keyword of a schema that says anything, NULL if there are more or none. */
static const struct json_member *only_keyword(const struct json *schema)
{
    static const char *const names[] = {
#define KEYWORD(name, function) name,
#include "tokenizers/grammar/schema/keywords.def"
#undef KEYWORD
        "then", "else"};
    const struct json_member *only = NULL;
    for (uint32_t i = 0; schema->kind == JSON_OBJECT && i < schema->size; i++)
        for (size_t k = 0; k < sizeof names / sizeof *names; k++)
            if (schema->members[i].key_size == strlen(names[k]) && memcmp(schema->members[i].key, names[k], strlen(names[k])) == 0) {
                if (only)
                    return NULL;
                only = &schema->members[i];
            }
    return only;
}

static const struct json *only_ref(struct schema *s, const struct json *schema)
{
    const struct json_member *m = only_keyword(schema);
    bool ref = m && m->key_size == 4 && memcmp(m->key, "$ref", 4) == 0;
    return ref ? schema_resolve(s, schema, &m->value) : NULL;
}

/* References that lead to each other and nowhere else (two feet, one twice as fast, meet in a circle). */
static bool circles(struct schema *s, const struct json *schema)
{
    const struct json *slow = only_ref(s, schema), *fast = slow ? only_ref(s, slow) : NULL;
    while (fast && slow != fast) {
        slow = only_ref(s, slow);
        fast = only_ref(s, fast);
        fast = fast ? only_ref(s, fast) : NULL;
    }
    return fast && !schema_refuse(s, schema, "$ref", "it refers to itself and says nothing else");
}

/* A schema that only refers to others is a choice of their rules: nothing is written twice. */
static bool refers(struct schema *s, const struct literal *literals, expr *out)
{
    const struct json_member *m = literals && !literals->next && !literals->negated ? only_keyword(literals->schema) : NULL;
    *out = NONE;
    if (m && m->key_size == 4 && memcmp(m->key, "$ref", 4) == 0) {
        if (circles(s, literals->schema))
            return true;
        const struct json *to = schema_resolve(s, literals->schema, &m->value);
        *out = to ? schema_call(s, literal_add(s, NULL, to, false)) : NONE;
        return true;
    }
    if (m && m->key_size == 5 && memcmp(m->key, "anyOf", 5) == 0 && m->value.kind == JSON_ARRAY && m->value.size) {
        for (uint32_t i = 0; i < m->value.size && !s->status; i++)
            *out = expr_or2(s->pool, *out, schema_call(s, literal_add(s, NULL, &m->value.items[i], false)));
        return true;
    }
    return false;
}

static void write_rule(struct schema *s, struct schema_rule rule)
{
    struct shapes shapes = {0};
    expr body;
    if (!refers(s, rule.literals, &body)) {
        schema_expand(s, rule.literals, &shapes);
        body = NONE;
        for (uint32_t i = 0; i < shapes.count && !s->status; i++)
            body = expr_or2(s->pool, body, shape_expr(s, &shapes.list[i]));
        free(shapes.list);
    }
    if (!s->status && !s->pool->failed)
        s->pool->rules[rule.rule].body = body;
}

enum status schema_rules(struct pool *p, const struct json *schema, const struct grammar_arguments *as, expr *out, struct error *err)
{
    static const char *const json[] = {"null", "true", "false"}, *const python[] = {"None", "True", "False"};
    struct schema s = {.pool = p, .root = schema, .err = err, .arena.limit = 64 << 20, .spelling = SPELL_JSON, .arguments = as,
                       .words = as && as->python ? python : json};
    s.mark = expr_byte(p, '"');
    s.unfit = NONE;
    if (as && as->mark) {
        s.bare = true;
        s.spelling = SPELL_UTF8;
        s.mark = as->quote;
        s.unfit = texts_with(p, as->mark);
    }
    *out = NONE;
    if (schema->kind != JSON_BOOL && schema->kind != JSON_OBJECT)
        return error_set(err, STATUS_BAD_INPUT, "schema, #: a schema is an object, true or false, not %s", json_kind_name(schema));
    const struct literal *whole = literal_add(&s, NULL, schema, false);
    expr root = as ? arguments_expr(&s, whole) : schema_call(&s, whole);
    while (s.done < s.rule_count && !s.status && !p->failed)
        write_rule(&s, s.rules[s.done++]);
    free(s.rules);
    arena_free(&s.arena);
    if (!s.status)
        *out = root;
    return s.status;
}
