/* What a response schema makes of an answer: transformers' recursive_parse (5.8). */
#include "tokenizers/output/schema.h"

static const struct json null_value = {.kind = JSON_NULL};

static struct json fail(struct making_value *m)
{
    m->good = false;
    return null_value;
}

static struct json text_value(const char *text, size_t size)
{
    return (struct json){.kind = JSON_STRING, .size = (uint32_t)size, .text = text};
}

static size_t behind(const char *text, size_t size, struct pattern_group all)
{
    size_t at = all.end > all.start ? all.end : all.end + 1;
    while (at < size && ((unsigned char)text[at] & 0xC0) == 0x80)
        at++;
    return at;
}

static bool match_at(struct making_value *m, const struct pattern *p, const struct json *v, size_t from,
                     struct pattern_match *out, const struct matches *told)
{
    struct error err = {0};
    enum status status = pattern_match(p, m->run, v->text, v->size, from, false, out, &err);
    m->o->failed |= status == STATUS_NO_ROOM;
    m->good &= !status;
    if (status || out->found != MATCH_WHOLE)
        return false;
    if (told)
        told->add(told->context, v->text + out->groups[0].start, v->text + out->groups[0].end);
    return true;
}

static void tell_all(const struct matches *told, const struct json *v)
{
    if (told && v->kind == JSON_STRING)
        told->add(told->context, v->text, v->text + v->size);
}

static struct json group(const struct json *v, struct pattern_group g)
{
    return g.start <= g.end ? text_value(v->text + g.start, g.end - g.start) : null_value;
}

/* An object of the named groups that took part, or the only group. */
static struct json groups_value(struct making_value *m, const struct pattern *p, const struct json *v,
                                const struct pattern_match *match)
{
    int number;
    const char *name = pattern_name(p, 0, &number);
    if (!name)
        return group(v, match->groups[1]);
    struct json_member *list = arena_array(m->arena, PATTERN_GROUPS, sizeof *list);
    uint32_t n = 0;
    m->o->failed |= !list;
    for (uint32_t i = 0; list && n < PATTERN_GROUPS && (name = pattern_name(p, i, &number)); i++) {
        struct json one = group(v, match->groups[number]);
        if (one.kind != JSON_NULL)
            list[n++] = (struct json_member){.key = name, .key_size = (uint32_t)strlen(name), .value = one};
    }
    return (struct json){.kind = JSON_OBJECT, .size = n, .members = list};
}

/* A list that grows; the arena keeps the old ones, which together are no longer than the last. */
static void *grow(struct making_value *m, void *list, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity)
        return list;
    void *more = arena_array(m->arena, *capacity = count ? 2 * count : 8, size);
    if (more && count)
        memcpy(more, list, count * size);
    m->o->failed |= !more;
    return more;
}

static struct json every_match(struct making_value *m, const struct pattern *p, const struct json *v, const struct matches *told)
{
    struct pattern_match match;
    struct json *items = NULL;
    size_t n = 0, capacity = 0;
    for (size_t at = 0; at <= v->size && match_at(m, p, v, at, &match, told); at = behind(v->text, v->size, match.groups[0])) {
        if (!(items = grow(m, items, n, &capacity, sizeof *items)))
            return fail(m);
        items[n++] = groups_value(m, p, v, &match);
    }
    return n ? (struct json){.kind = JSON_ARRAY, .size = (uint32_t)n, .items = items} : null_value;
}

static struct json every_pair(struct making_value *m, const struct schema *s, const struct json *v, const struct matches *told)
{
    struct pattern_match match;
    struct json_member *members = NULL;
    size_t n = 0, capacity = 0;
    for (size_t at = 0; at <= v->size && match_at(m, &s->pairs, v, at, &match, told);
         at = behind(v->text, v->size, match.groups[0])) {
        struct json key = group(v, match.groups[s->key]), value = group(v, match.groups[s->value]);
        if (key.kind != JSON_STRING || value.kind != JSON_STRING || !(members = grow(m, members, n, &capacity, sizeof *members)))
            return fail(m);
        members[n++] = (struct json_member){.key = key.text, .key_size = key.size, .value = value};
    }
    return n ? (struct json){.kind = JSON_OBJECT, .size = (uint32_t)n, .members = members} : null_value;
}

/* ---- substitutions --------------------------------------------------------------------------------------------------- */

/* \1, \g<1>, \g<name>, \n, \t and \\ in what is put in. */
static void put_in(struct making_value *m, const struct substitution *s, const struct json *v, const struct pattern_match *match,
                   struct str *out)
{
    const char *at = s->by->text, *end = at + s->by->size;
    while (at < end) {
        char c = *at++, next = at < end ? *at : 0;
        char name[64] = "";
        int number = -1;
        if (c != '\\') {
            str_add_char(out, c);
            continue;
        }
        at += at < end;
        if (next >= '0' && next <= '9')
            number = next - '0';
        const char *close = next == 'g' && at < end && *at == '<' ? memchr(at, '>', (size_t)(end - at)) : NULL;
        if (close && close - at - 1 < (ptrdiff_t)sizeof name) {
            memcpy(name, at + 1, (size_t)(close - at - 1));
            number = *name >= '0' && *name <= '9' && !name[1] ? *name - '0' : pattern_group(&s->pattern, name);
            at = close + 1;
        }
        if (number >= 0 && match->groups[number].start <= match->groups[number].end)
            str_add(out, v->text + match->groups[number].start, match->groups[number].end - match->groups[number].start);
        else if (number < 0 && (next == 'g' || !next))
            m->good = false;
        else if (number < 0)
            str_add_char(out, next == 'n' ? '\n' : next == 't' ? '\t' : next);
    }
}

static struct json substituted(struct making_value *m, const struct substitution *s, struct json v, const struct matches *told)
{
    enum { LARGEST = 64 << 20 };
    struct pattern_match match;
    struct str out = {0};
    size_t done = 0;
    tell_all(told, &v); /* what becomes of the changed text cannot be told any more */
    for (size_t at = 0; at <= v.size && match_at(m, &s->pattern, &v, at, &match, NULL) && out.size < LARGEST;
         at = behind(v.text, v.size, match.groups[0])) {
        str_add(&out, v.text + done, match.groups[0].start - done);
        put_in(m, s, &v, &match, &out);
        done = match.groups[0].end;
    }
    m->good &= out.size < LARGEST;
    if (!done && !out.size)
        return v;
    str_add(&out, v.text + done, v.size - done);
    char *copy = out.failed ? NULL : arena_copy(m->arena, str_text(&out), out.size);
    struct json made = text_value(copy ? copy : "", copy ? out.size : 0);
    m->o->failed |= !copy;
    str_free(&out);
    return made;
}

/* ---- nodes ----------------------------------------------------------------------------------------------------------- */

static struct json parsed(struct making_value *m, const struct schema *s, const struct json *v)
{
    const struct contents plain = {.kind = CONTENT_JSON, .keep_space = true, .allow_non_json = s->allow_non_json};
    const struct contents gemma = {.kind = CONTENT_JSON,
                                   .keep_space = true,
                                   .allow_non_json = s->allow_non_json,
                                   .unquoted_keys = true,
                                   .delims = {{"<|\"|>", "<|\"|>"}}};
    struct json made = contents_value(m, s->gemma ? &gemma : &plain, v->text, v->size);
    if (m->good && s->transform && !jmespath_search(m, s->transform, &made))
        return fail(m);
    return made;
}

static const struct property *property_of(const struct schema *s, const struct json_member *m)
{
    for (int i = 0; i < s->property_count; i++)
        if (s->properties[i].size == m->key_size && !memcmp(s->properties[i].key, m->key, m->key_size))
            return &s->properties[i];
    return NULL;
}

static struct json object_value(struct making_value *m, const struct schema *s, struct json v, const struct matches *told)
{
    uint32_t most = (v.kind == JSON_OBJECT ? v.size : 0) + (uint32_t)s->property_count, n = 0;
    struct json_member *list = arena_array(m->arena, (size_t)most + 1, sizeof *list);
    m->o->failed |= !list;
    if (!list || (v.kind != JSON_OBJECT && (v.kind != JSON_STRING || !s->property_count)))
        return fail(m);
    for (int i = 0; i < s->property_count && m->good; i++) {
        const struct property *p = &s->properties[i];
        const struct json *there = v.kind == JSON_OBJECT ? json_get_sized(&v, p->key, p->size) : &v;
        struct json made = null_value;
        if (p->schema->constant || there)
            made = schema_value(m, p->schema, there ? *there : null_value, there == &v ? told : NULL);
        else if (p->schema->otherwise)
            made = *p->schema->otherwise;
        if (made.kind != JSON_NULL || (there && v.kind == JSON_OBJECT))
            list[n++] = (struct json_member){.key = p->key, .key_size = (uint32_t)p->size, .value = made};
    }
    for (uint32_t i = 0; v.kind == JSON_OBJECT && !s->closed && i < v.size && m->good; i++)
        if (!property_of(s, &v.members[i])) {
            list[n] = v.members[i];
            if (s->additional)
                list[n].value = schema_value(m, s->additional, v.members[i].value, NULL);
            n++;
        }
    const struct json made = {.kind = JSON_OBJECT, .size = n, .members = list};
    for (uint32_t i = 0; json_is(s->required, JSON_ARRAY) && i < s->required->size; i++)
        m->good &= json_get_sized(&made, s->required->items[i].kind == JSON_STRING ? s->required->items[i].text : "",
                                  s->required->items[i].size) != NULL;
    return made;
}

static struct json array_value(struct making_value *m, const struct schema *s, struct json v)
{
    if (v.kind != JSON_ARRAY)
        return v.kind == JSON_STRING && !v.size ? (struct json){.kind = JSON_ARRAY} : fail(m);
    struct json *items = arena_array(m->arena, (size_t)v.size + 1, sizeof *items);
    m->o->failed |= !items;
    for (uint32_t i = 0; items && i < v.size && m->good; i++)
        items[i] = schema_value(m, s->items, v.items[i], NULL);
    return items ? (struct json){.kind = JSON_ARRAY, .size = v.size, .items = items} : fail(m);
}

static struct json scalar_value(struct making_value *m, const struct schema *s, struct json v)
{
    static const enum content_kind kinds[] = {
        [SCHEMA_INTEGER] = CONTENT_INT, [SCHEMA_NUMBER] = CONTENT_FLOAT, [SCHEMA_BOOLEAN] = CONTENT_BOOL};
    static const int types[] = {[SCHEMA_STRING] = JSON_STRING,
                                [SCHEMA_INTEGER] = JSON_NUMBER,
                                [SCHEMA_NUMBER] = JSON_NUMBER,
                                [SCHEMA_BOOLEAN] = JSON_BOOL};
    if (v.kind == types[s->type])
        return v;
    if (v.kind != JSON_STRING)
        return fail(m);
    const struct contents c = {.kind = kinds[s->type]};
    return contents_value(m, &c, v.text, v.size);
}

struct json schema_value(struct making_value *m, const struct schema *s, struct json v, const struct matches *told)
{
    struct pattern_match match;
    if (s->constant)
        return *s->constant;
    if (v.kind == JSON_NULL)
        return v;
    bool cuts = s->substitution_count || s->regex.code || s->each.code || s->pairs.code || s->parses;
    if (cuts && v.kind != JSON_STRING)
        return fail(m);
    for (int i = 0; i < s->substitution_count && m->good; i++, told = NULL)
        v = substituted(m, &s->substitutions[i], v, told);
    if (s->regex.code) {
        if (!match_at(m, &s->regex, &v, 0, &match, told))
            return null_value;
        v = groups_value(m, &s->regex, &v, &match);
        told = NULL;
    }
    if (s->each.code && m->good)
        v = v.kind == JSON_STRING ? every_match(m, &s->each, &v, told) : fail(m);
    else if (s->pairs.code && m->good)
        v = v.kind == JSON_STRING ? every_pair(m, s, &v, told) : fail(m);
    told = s->each.code || s->pairs.code ? NULL : told;
    if (v.kind == JSON_NULL || !m->good)
        return null_value;
    if (s->parses || s->type != SCHEMA_OBJECT)
        tell_all(told, &v);
    if (s->parses)
        v = v.kind == JSON_STRING ? parsed(m, s, &v) : fail(m);
    if (!m->good || s->type == SCHEMA_ANY)
        return v;
    return s->type == SCHEMA_OBJECT  ? object_value(m, s, v, told)
           : s->type == SCHEMA_ARRAY ? array_value(m, s, v)
                                     : scalar_value(m, s, v);
}
