/* YAML through libyaml, into the same tree as JSON. Plain scalars resolve as in YAML's core schema; aliases are refused, as
 * they can grow without bound. */
#include "agent/shell/yaml.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum { DEPTH = 64, MOST_KEYS = 1000 };

struct reader {
    struct arena *arena;
    yaml_document_t document;
    int depth;
    struct error *err;
};

static bool is_number(const char *text)
{
    char *end;
    if (!*text || !strpbrk(text, "0123456789") || strspn(text, "0123456789+-.eE") != strlen(text))
        return false;
    strtod(text, &end);
    return !*end;
}

static enum status convert_scalar(struct reader *r, const yaml_node_t *n, struct json *out)
{
    const char *text = (const char *)n->data.scalar.value;
    size_t size = n->data.scalar.length;
    bool plain = n->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    char *copy = arena_copy(r->arena, text, size);
    if (!copy)
        return error_memory(r->err, "a YAML file");
    *out = (struct json){.kind = JSON_STRING, .size = (uint32_t)size, .text = copy};
    if (!plain)
        return STATUS_OK;
    if (!*copy || !strcmp(copy, "~") || !strcasecmp(copy, "null"))
        out->kind = JSON_NULL;
    else if (!strcasecmp(copy, "true") || !strcasecmp(copy, "false"))
        *out = (struct json){.kind = JSON_BOOL, .truth = copy[0] == 't' || copy[0] == 'T'};
    else if (is_number(copy))
        out->kind = JSON_NUMBER;
    return STATUS_OK;
}

/* As in JSON files: of two values for one key neither is meant (R4). */
static enum status check_key(struct reader *r, const struct json_member *members, size_t at, size_t line)
{
    const struct json_member *m = &members[at];
    if (at >= MOST_KEYS)
        return error_set(r->err, STATUS_BAD_INPUT, "YAML: over %d keys in one place (line %zu)", MOST_KEYS, line);
    for (size_t i = 0; i < at; i++)
        if (members[i].key_size == m->key_size && !memcmp(members[i].key, m->key, m->key_size))
            return error_set(r->err, STATUS_BAD_INPUT, "YAML: the key %s stands twice (line %zu)", QUOTE(m->key, m->key_size), line);
    return STATUS_OK;
}

static enum status convert(struct reader *r, int index, struct json *out)
{
    yaml_node_t *n = yaml_document_get_node(&r->document, index);
    enum status status = STATUS_OK;
    if (!n || ++r->depth > DEPTH)
        return error_set(r->err, STATUS_BAD_INPUT, "YAML: nested too deeply");
    if (n->type == YAML_SCALAR_NODE) {
        status = convert_scalar(r, n, out);
    } else if (n->type == YAML_SEQUENCE_NODE) {
        size_t count = (size_t)(n->data.sequence.items.top - n->data.sequence.items.start);
        struct json *items = arena_array(r->arena, count + 1, sizeof *items);
        if (!items)
            return error_memory(r->err, "a YAML file");
        for (size_t i = 0; i < count && !status; i++)
            status = convert(r, n->data.sequence.items.start[i], &items[i]);
        *out = (struct json){.kind = JSON_ARRAY, .size = (uint32_t)count, .items = items};
    } else {
        size_t count = (size_t)(n->data.mapping.pairs.top - n->data.mapping.pairs.start);
        struct json_member *members = arena_array(r->arena, count + 1, sizeof *members);
        if (!members)
            return error_memory(r->err, "a YAML file");
        for (size_t i = 0; i < count && !status; i++) {
            struct json key = {0};
            if (!(status = convert(r, n->data.mapping.pairs.start[i].key, &key)) && key.kind > JSON_STRING)
                status = error_set(r->err, STATUS_BAD_INPUT, "YAML: a key is no text (line %zu)", n->start_mark.line + 1);
            members[i].key = key.text ? key.text : "";
            members[i].key_size = key.text ? key.size : 0;
            if (!status)
                status = check_key(r, members, i, n->start_mark.line + 1);
            if (!status)
                status = convert(r, n->data.mapping.pairs.start[i].value, &members[i].value);
        }
        *out = (struct json){.kind = JSON_OBJECT, .size = (uint32_t)count, .members = members};
    }
    r->depth--;
    return status;
}

static bool has_alias(const char *text, size_t size)
{
    yaml_parser_t p;
    yaml_event_t e;
    bool found = false, end = false;
    if (!yaml_parser_initialize(&p))
        return true;
    yaml_parser_set_input_string(&p, (const unsigned char *)text, size);
    while (!end && yaml_parser_parse(&p, &e)) {
        found |= e.type == YAML_ALIAS_EVENT;
        end = e.type == YAML_STREAM_END_EVENT || found;
        yaml_event_delete(&e);
    }
    yaml_parser_delete(&p);
    return found;
}

enum status yaml_read(struct arena *arena, const char *text, size_t size, struct json *out, struct error *err)
{
    yaml_parser_t p;
    struct reader r = {.arena = arena, .err = err};
    if (has_alias(text, size))
        return error_set(err, STATUS_BAD_INPUT, "YAML: aliases (*name) are not supported");
    if (!yaml_parser_initialize(&p))
        return error_memory(err, "a YAML file");
    yaml_parser_set_input_string(&p, (const unsigned char *)text, size);
    enum status status = STATUS_OK;
    if (!yaml_parser_load(&p, &r.document)) {
        status = error_set(err, STATUS_BAD_INPUT, "YAML: %s in line %zu", p.problem ? p.problem : "not readable", p.problem_mark.line + 1);
    } else {
        if (yaml_document_get_root_node(&r.document))
            status = convert(&r, 1, out);
        else
            *out = (struct json){.kind = JSON_NULL};
        yaml_document_delete(&r.document);
    }
    yaml_parser_delete(&p);
    return status;
}
