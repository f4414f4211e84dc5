/* Single values: whether they fit, how they are written, whether anything fits at all. */
#include <stdlib.h>
#include <string.h>

#include "tokenizers/grammar/schema/schema.h"

enum { MOST_LOOKS = 4 }; /* levels that schema_satisfiable() looks into */

static bool same_number(const struct json *a, const struct json *b)
{
    struct error ignored;
    struct schema scratch = {.err = &ignored, .root = a};
    struct decimal x, y;
    bool same = decimal_read(&scratch, a->text, a->size, &x) && decimal_read(&scratch, b->text, b->size, &y) && decimal_compare(&x, &y) == 0;
    arena_free(&scratch.arena);
    return same;
}

bool json_same(const struct json *a, const struct json *b)
{
    if (a->kind != b->kind || (a->kind != JSON_NUMBER && a->size != b->size))
        return false;
    switch ((enum json_kind)a->kind) {
    case JSON_NULL:
        return true;
    case JSON_BOOL:
        return a->truth == b->truth;
    case JSON_NUMBER:
        return same_number(a, b);
    case JSON_STRING:
        return !a->size || memcmp(a->text, b->text, a->size) == 0;
    case JSON_ARRAY:
        for (uint32_t i = 0; i < a->size; i++)
            if (!json_same(&a->items[i], &b->items[i]))
                return false;
        return true;
    case JSON_OBJECT:
        for (uint32_t i = 0; i < a->size; i++) {
            const struct json *other = json_get_sized(b, a->members[i].key, a->members[i].key_size);
            if (!other || !json_same(&a->members[i].value, other))
                return false;
        }
        return true;
    }
    return false;
}

/* ---- fitting -------------------------------------------------------------------------------------------------------- */

bool schema_holds(struct schema *s, const struct literal *literals, const struct json *v)
{
    struct shapes shapes = {0};
    bool fits = false;
    if (s->depth > 100)
        return schema_refuse(s, s->root, NULL, "a value nests too deeply");
    s->depth++;
    schema_expand(s, literals, &shapes);
    for (uint32_t i = 0; i < shapes.count && !fits && !s->status; i++) {
        fits = !shapes.list[i].has_values;
        for (const struct value_link *x = shapes.list[i].values; x && !fits; x = x->next)
            fits = json_same(x->value, v);
        fits = fits && value_fits(s, &shapes.list[i], v);
    }
    free(shapes.list);
    s->depth--;
    return fits;
}

static bool number_fits(struct schema *s, const struct shape *shape, const struct json *v)
{
    struct decimal d;
    if (!decimal_read(s, v->text, v->size, &d) || !(shape->types & (decimal_is_integer(&d) ? TYPE_INTEGER : TYPE_FRACTION)))
        return false;
    int low = shape->minimum.given ? decimal_compare(&d, &shape->minimum.at) : 1;
    int high = shape->maximum.given ? decimal_compare(&d, &shape->maximum.at) : -1;
    if (low < 0 || high > 0 || (low == 0 && shape->minimum.exclusive) || (high == 0 && shape->maximum.exclusive))
        return false;
    for (const struct multiple_of *m = shape->multiples; m; m = m->next)
        if (decimal_divides(&d, &m->of) == m->negated)
            return false;
    return true;
}

static bool list_fits(struct schema *s, const struct shape *shape, const struct json *v)
{
    if (!(shape->types & TYPE_ARRAY) || v->size < shape->min_items || v->size > shape->max_items)
        return false;
    for (uint32_t i = 0; i < v->size; i++) {
        if (!schema_holds(s, item_literals(s, shape, i), &v->items[i]))
            return false;
        for (uint32_t j = 0; shape->unique && j < i; j++)
            if (json_same(&v->items[i], &v->items[j]))
                return false;
    }
    for (const struct contains *c = shape->contains; c; c = c->next) {
        uint32_t found = 0;
        for (uint32_t i = 0; i < v->size; i++)
            found += schema_holds(s, c->literal, &v->items[i]);
        if (found < c->least || found > c->most)
            return false;
    }
    return true;
}

static bool object_fits(struct schema *s, const struct shape *shape, const struct json *v)
{
    if (!(shape->types & TYPE_OBJECT) || v->size < shape->min_properties || v->size > shape->max_properties)
        return false;
    for (const struct named_literal *n = shape->required; n; n = n->next)
        if (!json_get_sized(v, n->name, n->size))
            return false;
    for (const struct named_literal *n = shape->forbidden; n; n = n->next)
        if (json_get_sized(v, n->name, n->size))
            return false;
    expr names = shape->names ? text_of_literals(s, shape->names) : NONE;
    for (uint32_t i = 0; i < v->size; i++) {
        const struct json_member *m = &v->members[i];
        if (!schema_holds(s, member_literals(s, shape, m->key, m->key_size), &m->value) ||
            (shape->names && !text_matches(s, names, m->key, m->key_size)))
            return false;
    }
    return true;
}

bool value_fits(struct schema *s, const struct shape *shape, const struct json *v)
{
    for (const struct value_link *x = shape->excluded; x; x = x->next)
        if (json_same(x->value, v))
            return false;
    switch ((enum json_kind)v->kind) {
    case JSON_NULL:
        return shape->types & TYPE_NULL;
    case JSON_BOOL:
        return shape->types & (v->truth ? TYPE_TRUE : TYPE_FALSE);
    case JSON_NUMBER:
        return number_fits(s, shape, v);
    case JSON_STRING:
        return (shape->types & TYPE_STRING) && text_matches(s, text_contents(s, shape), v->text, v->size);
    case JSON_ARRAY:
        return list_fits(s, shape, v);
    case JSON_OBJECT:
        return object_fits(s, shape, v);
    }
    return false;
}

static bool shape_satisfiable(struct schema *s, const struct shape *shape, int depth)
{
    if (shape->has_values) {
        for (const struct value_link *v = shape->values; v; v = v->next)
            if (value_fits(s, shape, v->value))
                return true;
        return false;
    }
    if ((shape->types & (TYPE_NULL | TYPE_TRUE | TYPE_FALSE)) || ((shape->types & TYPE_STRING) && text_contents(s, shape) != NONE) ||
        ((shape->types & TYPE_NUMBER) && number_expr(s, shape) != NONE))
        return true;
    if ((shape->types & TYPE_ARRAY) && shape->min_items <= shape->max_items) {
        bool all = true;
        for (uint32_t i = 0; i < shape->min_items && i < 8 && all; i++)
            all = schema_satisfiable(s, item_literals(s, shape, i), depth + 1);
        if (all)
            return true;
    }
    if (!(shape->types & TYPE_OBJECT) || shape->min_properties > shape->max_properties)
        return false;
    for (const struct named_literal *n = shape->required; n; n = n->next)
        if (!schema_satisfiable(s, member_literals(s, shape, n->name, n->size), depth + 1))
            return false;
    return true;
}

bool schema_satisfiable(struct schema *s, const struct literal *literals, int depth)
{
    struct shapes shapes = {0};
    bool any = depth > MOST_LOOKS;
    if (any || s->status)
        return true;
    if (++s->looking > 200) { /* alternatives within alternatives */
        s->looking--;
        return true;
    }
    schema_expand(s, literals, &shapes);
    for (uint32_t i = 0; i < shapes.count && !any && !s->status; i++)
        any = shape_satisfiable(s, &shapes.list[i], depth);
    free(shapes.list);
    s->looking--;
    return any;
}

/* ---- writing -------------------------------------------------------------------------------------------------------- */

/* A number as the schema writes it; 1.0 also as 1. */
static expr number_text(struct schema *s, const struct json *v)
{
    struct decimal d;
    expr e = expr_text(s->pool, v->text, v->size);
    if (!decimal_read(s, v->text, v->size, &d) || !decimal_is_integer(&d))
        return e;
    struct str whole = {0};
    str_format(&whole, "%s%.*s", d.negative ? "-" : "", d.count ? (int)d.count : 1, d.count ? d.digits : "0");
    e = expr_or2(s->pool, e, expr_text(s->pool, str_text(&whole), whole.size));
    str_free(&whole);
    return e;
}

expr expr_word(struct schema *s, int word) { return expr_text(s->pool, s->words[word], strlen(s->words[word])); }

expr value_expr(struct schema *s, const struct json *v)
{
    struct pool *p = s->pool;
    bool object = v->kind == JSON_OBJECT;
    expr e = s->blank;
    switch ((enum json_kind)v->kind) {
    case JSON_NULL:
        return expr_word(s, 0);
    case JSON_BOOL:
        return expr_word(s, v->truth ? 1 : 2);
    case JSON_NUMBER:
        return number_text(s, v);
    case JSON_STRING:
        return text_quoted(s, chars_text(p, v->text, v->size, s->spelling));
    case JSON_ARRAY:
    case JSON_OBJECT:
        break;
    }
    for (uint32_t i = v->size; i-- > 0;) {
        const struct json *x = object ? &v->members[i].value : &v->items[i];
        expr one = value_expr(s, x);
        expr name = object ? chars_text(p, v->members[i].key, v->members[i].key_size, s->spelling) : EMPTY;
        if (object)
            one = expr_concat(p, s->bare ? bare_name(s, name, x) : text_quoted(s, name), expr_concat(p, s->colon, one));
        e = expr_concat(p, i ? s->comma : s->blank, expr_concat(p, one, e));
    }
    return expr_concat(p, expr_byte(p, object ? '{' : '['), expr_concat(p, e, expr_byte(p, object ? '}' : ']')));
}
