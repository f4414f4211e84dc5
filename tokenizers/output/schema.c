/* response_schema read and checked. */
#include "tokenizers/output/schema.h"

static enum status take_regex(struct pattern *p, const struct json *v, const struct at *outer, const char *key, struct error *err)
{
    struct at at = {outer, key, strlen(key)};
    struct error why;
    if (!v || v->kind == JSON_NULL)
        return STATUS_OK;
    if (v->kind != JSON_STRING)
        return declaration_refuse(&at, err, "a regex is needed, not %s", json_kind_name(v));
    enum status status = pattern_python(p, v->text, v->size, &why);
    if (status)
        return status == STATUS_BAD_INPUT ? declaration_refuse(&at, err, "%s", why.text) : error_memory(err, "a pattern");
    return STATUS_OK;
}

/* Named groups make an object; else one group is the value. */
static enum status check_groups(const struct pattern *p, const struct at *outer, const char *key, struct error *err)
{
    struct at at = {outer, key, strlen(key)};
    int number;
    return !p->code || pattern_name(p, 0, &number) || pattern_group_count(p) == 1
               ? STATUS_OK
               : declaration_refuse(&at, err, "it needs named groups, or exactly one without a name");
}

static enum status open_regexes(struct schema *s, const struct json *spec, const struct at *at, struct error *err)
{
    enum status status = take_regex(&s->regex, json_get(spec, "x-regex"), at, "x-regex", err);
    if (!status)
        status = check_groups(&s->regex, at, "x-regex", err);
    if (!status)
        status = take_regex(&s->each, json_get(spec, "x-regex-iterator"), at, "x-regex-iterator", err);
    if (!status)
        status = check_groups(&s->each, at, "x-regex-iterator", err);
    if (!status && s->each.code && s->type != SCHEMA_ARRAY)
        status = declaration_refuse(at, err, "x-regex-iterator needs the type array");
    if (!status)
        status = take_regex(&s->pairs, json_get(spec, "x-regex-key-value"), at, "x-regex-key-value", err);
    if (status || !s->pairs.code)
        return status;
    s->key = pattern_group(&s->pairs, "key");
    s->value = pattern_group(&s->pairs, "value");
    return s->key > 0 && s->value > 0 && s->type == SCHEMA_OBJECT
               ? STATUS_OK
               : declaration_refuse(at, err, "x-regex-key-value needs groups named key and value, and the type object");
}

static enum status open_substitutions(struct schema *s, const struct json *list, const struct at *outer, struct error *err)
{
    struct at at = {outer, "x-regex-substitutions", strlen("x-regex-substitutions")};
    if (list && (list->kind != JSON_ARRAY || list->size > MAX_SUBSTITUTIONS))
        return declaration_refuse(&at, err, "a list of at most %d pairs is needed", MAX_SUBSTITUTIONS);
    enum status status = STATUS_OK;
    for (uint32_t i = 0; list && i < list->size && !status; i++) {
        const struct json *pair = &list->items[i];
        if (pair->kind != JSON_ARRAY || pair->size != 2 || pair->items[1].kind != JSON_STRING ||
            pair->items[0].kind != JSON_STRING)
            return declaration_refuse(&at, err, "a pair of a regex and a text is needed");
        s->substitutions[i].by = &pair->items[1];
        s->substitution_count++;
        status = take_regex(&s->substitutions[i].pattern, &pair->items[0], &at, "regex", err);
    }
    return status;
}

static enum status open_parser(struct schema *s, const struct json *spec, const struct at *at, struct error *err)
{
    const struct json *parser = json_get(spec, "x-parser"), *args = json_get(spec, "x-parser-args");
    struct at in_args = {at, "x-parser-args", strlen("x-parser-args")};
    const struct json *transform = json_get(args, "transform"), *lax = json_get(args, "allow_non_json");
    s->parses = parser;
    s->gemma = json_is_text(parser, "gemma4-tool-call");
    if (parser && !s->gemma && !json_is_text(parser, "json"))
        return declaration_refuse(at, err, "the x-parser %s is not known; json and gemma4-tool-call are",
                                  parser->kind == JSON_STRING ? QUOTE(parser->text, parser->size) : json_kind_name(parser));
    if (lax && !json_bool(lax, &s->allow_non_json))
        return declaration_refuse(&in_args, err, "allow_non_json must be true or false");
    if (!transform || transform->kind == JSON_NULL)
        return STATUS_OK;
    s->transform = transform;
    struct arena arena = {0};
    struct output o = {0}; /* only to note that memory ran out */
    struct making_value m = {.o = &o, .arena = &arena, .good = true};
    struct json none = {.kind = JSON_NULL};
    bool good = transform->kind == JSON_STRING && jmespath_search(&m, transform, &none);
    arena_free(&arena);
    return good ? STATUS_OK
                : declaration_refuse(
                      &in_args, err,
                      "the transform %s is no JMESPath, or uses more of it than names, indices, [*], {...} and [...]",
                      transform->kind == JSON_STRING ? QUOTE(transform->text, transform->size) : json_kind_name(transform));
}

static enum status open_children(struct schema *s, struct arena *arena, const struct json *spec, const struct at *at, int depth,
                                 struct error *err)
{
    const struct json *properties = json_get(spec, "properties"), *items = json_get(spec, "items"),
                      *more = json_get(spec, "additionalProperties");
    struct at inside = {at, "properties", strlen("properties")};
    if (properties && (properties->kind != JSON_OBJECT || properties->size > MAX_PROPERTIES))
        return declaration_refuse(&inside, err, "an object with at most %d members is needed", MAX_PROPERTIES);
    enum status status = STATUS_OK;
    for (uint32_t i = 0; properties && i < properties->size && !status; i++) {
        const struct json_member *m = &properties->members[i];
        struct property *p = &s->properties[s->property_count++];
        *p = (struct property){.key = m->key, .size = m->key_size};
        status = schema_open(&p->schema, arena, &m->value, &(struct at){&inside, m->key, m->key_size}, depth + 1, err);
    }
    if (!status && items)
        status = schema_open(&s->items, arena, items, &(struct at){at, "items", 5}, depth + 1, err);
    s->closed = json_is(more, JSON_BOOL) && !more->truth;
    if (!status && json_is(more, JSON_OBJECT))
        status = schema_open(&s->additional, arena, more,
                             &(struct at){at, "additionalProperties", strlen("additionalProperties")}, depth + 1, err);
    return status;
}

static enum status open_type(struct schema *s, const struct json *type, const struct at *at, struct error *err)
{
    static const char *const types[] = {
        [SCHEMA_ANY] = "any",         [SCHEMA_OBJECT] = "object", [SCHEMA_ARRAY] = "array",    [SCHEMA_STRING] = "string",
        [SCHEMA_INTEGER] = "integer", [SCHEMA_NUMBER] = "number", [SCHEMA_BOOLEAN] = "boolean"};
    if (!type || type->kind == JSON_NULL)
        return STATUS_OK;
    for (int i = 0; i < (int)(sizeof types / sizeof *types); i++)
        if (json_is_text(type, types[i])) {
            s->type = (enum schema_type)i;
            return STATUS_OK;
        }
    return declaration_refuse(at, err, "the type %s is not known",
                              type->kind == JSON_STRING ? QUOTE(type->text, type->size) : json_kind_name(type));
}

enum status schema_open(struct schema **out, struct arena *arena, const struct json *spec, const struct at *at, int depth,
                        struct error *err)
{
    static const char *const known[] = {"x-regex",  "x-regex-iterator", "x-regex-key-value", "x-regex-substitutions",
                                        "x-parser", "x-parser-args"};
    struct schema *s = *out = arena_alloc(arena, sizeof *s);
    if (!s)
        return error_memory(err, "a response schema");
    if (depth > DECLARATION_DEPTH)
        return declaration_refuse(at, err, "nested too deeply");
    if (spec->kind != JSON_OBJECT)
        return declaration_refuse(at, err, "an object is needed, not %s", json_kind_name(spec));
    for (uint32_t i = 0; i < spec->size; i++) {
        const struct json_member *m = &spec->members[i];
        bool found = m->key_size < 2 || memcmp(m->key, "x-", 2);
        for (size_t k = 0; k < sizeof known / sizeof *known && !found; k++)
            found = strlen(known[k]) == m->key_size && !memcmp(known[k], m->key, m->key_size);
        if (!found || (m->key_size == 11 && !memcmp(m->key, "prefixItems", 11)))
            return declaration_refuse(at, err, "%s is not supported", QUOTE(m->key, m->key_size));
    }
    s->constant = json_get(spec, "const");
    s->otherwise = json_get(spec, "default");
    s->required = json_get(spec, "required");
    enum status status = open_type(s, json_get(spec, "type"), at, err);
    if (!status)
        status = open_substitutions(s, json_get(spec, "x-regex-substitutions"), at, err);
    if (!status)
        status = open_regexes(s, spec, at, err);
    if (!status)
        status = open_parser(s, spec, at, err);
    if (!status)
        status = open_children(s, arena, spec, at, depth, err);
    return !status && s->type == SCHEMA_ARRAY && !s->items ? declaration_refuse(at, err, "an array needs items") : status;
}

void schema_close(struct schema *s)
{
    if (!s)
        return;
    for (int i = 0; i < s->substitution_count; i++)
        pattern_free(&s->substitutions[i].pattern);
    pattern_free(&s->regex);
    pattern_free(&s->each);
    pattern_free(&s->pairs);
    for (int i = 0; i < s->property_count; i++)
        schema_close(s->properties[i].schema);
    schema_close(s->items);
    schema_close(s->additional);
}
