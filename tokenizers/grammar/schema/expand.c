/* Literals to shapes: keywords narrow a shape, choices are put off and taken one after the other. */
#include <stdlib.h>
#include <string.h>

#include "tokenizers/grammar/schema/keywords.h"

enum { MOST_SHAPES = 2000, MOST_SHAPES_IN_ALL = 200000, MOST_EXPANSIONS = 300 };

/* False: nothing fits any more, or refused. */
static bool apply(struct schema *s, struct shape *shape, const struct literal **work, const struct literal *l)
{
    struct context c = {s, shape, work, l->schema, NULL};
    if (l->schema->kind == JSON_BOOL)
        return l->schema->truth != l->negated;
    if (l->schema->kind != JSON_OBJECT)
        return schema_refuse(s, l->schema, NULL, "expected a schema, not %s", json_kind_name(l->schema));
    if (l->negated) {
        struct fork *f = context_fork(&c, FORK_DENIED, l->schema->size);
        return f != NULL;
    }
    for (uint32_t i = 0; i < l->schema->size; i++) {
        const struct keyword *k = keyword_find(&l->schema->members[i]);
        c.keyword = k ? k->name : NULL;
        if (k && !k->assert(&c, &l->schema->members[i].value))
            return false;
    }
    return true;
}

/* Option i of a fork. False: it cannot be taken. */
static bool take(struct schema *s, struct shape *shape, const struct fork *f, uint32_t i, const struct literal **work)
{
    struct context c = {s, shape, work, f->schema, "dependentRequired"};
    if (f->kind == FORK_OPTIONS) {
        for (const struct literal *l = f->options[i]; l; l = l->next)
            if (!context_push(&c, l->schema, l->negated))
                return false;
        return true;
    }
    if (f->kind == FORK_DENIED) {
        const struct keyword *k = keyword_find(&f->schema->members[i]);
        c.keyword = k ? k->name : NULL;
        return k && k->deny(&c, &f->schema->members[i].value);
    }
    if (f->kind == FORK_NOT_REQUIRED)
        return json_is(&f->value->items[i], JSON_STRING) && context_name(&c, &shape->forbidden, f->value->items[i].text, f->value->items[i].size, NULL);
    if (f->kind == FORK_NOT_PROPERTIES) {
        const struct json_member *m = &f->value->members[i];
        return context_name(&c, &shape->required, m->key, m->key_size, NULL) &&
               context_name(&c, &shape->members, m->key, m->key_size, literal_add(s, NULL, &m->value, true));
    }
    if (f->kind == FORK_NOT_PREFIX) {
        struct list_view *view = schema_alloc(s, sizeof *view);
        if (!view)
            return false;
        *view = (struct list_view){.next = shape->lists, .at = literal_add(s, NULL, &f->value->items[i], true), .index = i};
        shape->lists = view;
        shape->min_items = shape->min_items > i + 1 ? shape->min_items : i + 1;
        return true;
    }
    const struct json *value = &f->member->value;
    if (i == 0)
        return context_name(&c, &shape->forbidden, f->member->key, f->member->key_size, NULL);
    bool ok = context_name(&c, &shape->required, f->member->key, f->member->key_size, NULL);
    if (value->kind != JSON_ARRAY)
        return ok && context_push(&c, value, false);
    for (uint32_t n = 0; ok && n < value->size; n++)
        ok = context_require(&c, &value->items[n]);
    return ok;
}

static void expand(struct schema *s, struct shape shape, const struct literal *work, struct shapes *out)
{
    const struct fork *f;
    for (int applied = 0; work; applied++) {
        const struct literal *l = work;
        work = work->next;
        if (applied > MOST_EXPANSIONS) {
            schema_refuse(s, l->schema, NULL, "it refers to itself without end, or joins too many schemas");
            return;
        }
        if (!apply(s, &shape, &work, l))
            return;
    }
    if ((f = shape.forks)) {
        shape.forks = f->next;
        if (++s->depth > MOST_EXPANSIONS)
            schema_refuse(s, f->schema, NULL, "it refers to itself without end, or nests too deeply");
        for (uint32_t i = 0; i < f->count && !s->status; i++) {
            struct shape copy = shape;
            const struct literal *more = NULL;
            if (take(s, &copy, f, i, &more))
                expand(s, copy, more, out);
        }
        s->depth--;
        return;
    }
    if (out->count >= MOST_SHAPES || ++s->shapes > MOST_SHAPES_IN_ALL) {
        schema_refuse(s, s->top ? s->top : s->root, NULL, "its alternatives multiply to too many combinations");
        return;
    }
    if (out->count == out->capacity) {
        uint32_t capacity = out->capacity ? out->capacity * 2 : 4;
        struct shape *list = realloc(out->list, capacity * sizeof *list);
        if (!list) {
            s->status = error_memory(s->err, "a schema");
            return;
        }
        out->list = list;
        out->capacity = capacity;
    }
    out->list[out->count++] = shape;
}

bool schema_expand(struct schema *s, const struct literal *literals, struct shapes *out)
{
    const struct json *top = s->top;
    s->top = literals && !literals->next && !literals->negated ? literals->schema : NULL;
    expand(s, (struct shape){.types = TYPE_ALL, .max_length = UNLIMITED, .max_items = UNLIMITED, .max_properties = UNLIMITED}, literals, out);
    s->top = top;
    return !s->status;
}
