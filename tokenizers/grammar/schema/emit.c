/* Shapes to expressions. White space is what json.dumps prints: nothing, one blank behind commas and colons, or a line break
 * and indentation; bounded, so that no model writes blanks for ever. */
#include <stdlib.h>
#include <string.h>

#include "tokenizers/grammar/schema/schema.h"
#include "tokenizers/tokenizers.h"

enum { MOST_INDENT = 40, MOST_PATTERNS = 8, MOST_STATES = 50000, MOST_UNIQUE = 10, MOST_CONTAINED = 64 };

static void spaces(struct schema *s)
{
    struct pool *p = s->pool;
    struct byte_set blanks = {{1ull << ' ' | 1ull << '\t', 0, 0, 0}};
    expr space = expr_byte(p, ' '), line = expr_concat(p, expr_byte(p, '\n'), expr_repeat(p, expr_bytes(p, &blanks), 0, MOST_INDENT));
    if (s->comma)
        return;
    if (s->bare) {
        s->blank = EMPTY;
        s->colon = expr_byte(p, ':');
        s->comma = expr_byte(p, ',');
        return;
    }
    s->blank = expr_repeat(p, expr_or2(p, space, line), 0, 1);
    s->colon = expr_concat(p, expr_byte(p, ':'), expr_repeat(p, space, 0, 1));
    s->comma = expr_concat(p, expr_byte(p, ','), s->blank);
}

static expr in_brackets(struct schema *s, char open, expr inside, char close)
{
    struct pool *p = s->pool;
    expr e = inside == EMPTY ? s->blank : expr_concat(p, s->blank, expr_concat(p, inside, s->blank));
    return inside == NONE ? NONE : expr_concat(p, expr_byte(p, (unsigned char)open), expr_concat(p, e, expr_byte(p, (unsigned char)close)));
}

static uint32_t less(uint32_t n, uint32_t by) { return n == UNLIMITED ? n : n > by ? n - by : 0; }

/* ---- arrays --------------------------------------------------------------------------------------------------------- */

const struct literal *item_literals(struct schema *s, const struct shape *shape, uint32_t index)
{
    const struct literal *list = NULL;
    for (const struct list_view *v = shape->lists; v; v = v->next) {
        const struct json *item = v->prefix && index < v->prefix->size ? &v->prefix->items[index] : v->items;
        if (v->at) {
            if (v->index == index)
                list = literal_add(s, list, v->at->schema, v->at->negated);
        } else if (item) {
            if (item->kind != JSON_OBJECT && item->kind != JSON_BOOL)
                schema_refuse(s, item, NULL, "expected a schema, not %s", json_kind_name(item));
            else
                list = literal_add(s, list, item, false);
        }
    }
    return list;
}

static uint32_t prefix_length(const struct shape *shape)
{
    uint32_t n = 0;
    for (const struct list_view *v = shape->lists; v; v = v->next) {
        uint32_t own = v->at ? v->index + 1 : v->prefix ? v->prefix->size : 0;
        n = own > n ? own : n;
    }
    return n;
}

/* `least` to `most` of item, with `comma` between them. */
static expr separated(struct schema *s, expr item, expr comma, uint32_t least, uint32_t most)
{
    struct pool *p = s->pool;
    expr more = expr_repeat(p, expr_concat(p, comma, item), less(least, 1), less(most, 1));
    expr e = most ? expr_concat(p, item, more) : NONE;
    return least ? e : expr_or2(p, EMPTY, e);
}

static expr plain_items(struct schema *s, const struct shape *shape)
{
    struct pool *p = s->pool;
    uint32_t n = prefix_length(shape), least = shape->min_items, most = shape->max_items;
    expr rest = schema_call(s, item_literals(s, shape, UINT32_MAX));
    if (least > most)
        return NONE;
    if (!n)
        return separated(s, rest, s->comma, least, most);
    expr e = expr_repeat(p, expr_concat(p, s->comma, rest), less(least, n), less(most, n));
    for (uint32_t i = n; i-- > 0;) {
        expr item = schema_call(s, item_literals(s, shape, i));
        e = most <= i ? EMPTY : expr_concat(p, i ? expr_concat(p, s->comma, item) : item, e);
        if (least <= i)
            e = expr_or2(p, EMPTY, e);
    }
    return e;
}

/* Different values out of a few: what may follow depends on which were taken. */
static expr unique_items(struct schema *s, const struct shape *shape)
{
    struct pool *p = s->pool;
    struct shapes shapes = {0};
    expr values[MOST_UNIQUE], *state = NULL, e = NONE;
    const struct json *seen[MOST_UNIQUE];
    uint32_t n = 0;
    bool few = !shape->contains && !prefix_length(shape) && schema_expand(s, item_literals(s, shape, UINT32_MAX), &shapes);
    for (uint32_t i = 0; few && i < shapes.count; i++) {
        few = shapes.list[i].has_values;
        for (const struct value_link *v = shapes.list[i].values; few && v; v = v->next) {
            bool again = !value_fits(s, &shapes.list[i], v->value);
            for (uint32_t k = 0; k < n && !again; k++)
                again = json_same(seen[k], v->value);
            if (again)
                continue;
            few = n < MOST_UNIQUE;
            if (few)
                seen[n] = v->value, values[n++] = value_expr(s, v->value);
        }
    }
    free(shapes.list);
    if (few && (state = malloc(sizeof *state << n)))
        for (uint32_t taken = 1u << n; taken-- > 0;) {
            uint32_t count = (uint32_t)__builtin_popcount(taken);
            state[taken] = count >= shape->min_items && count <= shape->max_items ? EMPTY : NONE;
            for (uint32_t k = 0; k < n; k++)
                if (!(taken >> k & 1) && count < shape->max_items)
                    state[taken] = expr_or2(p, state[taken], expr_concat(p, taken ? s->comma : EMPTY, expr_concat(p, values[k], state[taken | 1u << k])));
            e = state[taken];
        }
    else if (!s->status)
        schema_refuse(s, shape->unique, "uniqueItems", "can only be kept where items are one of at most %d values, or maxItems is 1", MOST_UNIQUE);
    free(state);
    return e;
}

/* Some items must fit more than the others. */
static expr containing_items(struct schema *s, const struct shape *shape)
{
    struct pool *p = s->pool;
    const struct contains *c = shape->contains;
    const struct literal *all = item_literals(s, shape, UINT32_MAX);
    expr any = schema_call(s, all), one = schema_call(s, literal_add(s, all, c->literal->schema, c->literal->negated)), e = NONE;
    bool bounded = shape->min_items > 0 || shape->max_items != UNLIMITED;
    if (c->next || prefix_length(shape) || (bounded && (c->least != 1 || c->most != UNLIMITED || shape->min_items > MOST_CONTAINED ||
                                                        (shape->max_items != UNLIMITED && shape->max_items > MOST_CONTAINED)))) {
        schema_refuse(s, s->top ? s->top : s->root, "contains", "cannot be kept together with these other keywords of arrays");
        return NONE;
    }
    if (c->most != UNLIMITED) { /* exactly so many fit: the others must not */
        expr other = schema_call(s, literal_add(s, all, c->literal->schema, !c->literal->negated));
        expr others = expr_repeat(p, expr_concat(p, other, s->comma), 0, UNLIMITED);
        expr after = expr_repeat(p, expr_concat(p, s->comma, other), 0, UNLIMITED);
        expr each = expr_repeat(p, expr_concat(p, s->comma, expr_concat(p, others, one)), less(c->least, 1), less(c->most, 1));
        if (c->most)
            e = expr_concat(p, others, expr_concat(p, one, expr_concat(p, each, after)));
        return c->least ? e : expr_or2(p, e, separated(s, other, s->comma, 0, UNLIMITED));
    }
    if (!bounded) {
        expr before = expr_repeat(p, expr_concat(p, any, s->comma), 0, UNLIMITED), after = expr_repeat(p, expr_concat(p, s->comma, any), 0, UNLIMITED);
        expr each = expr_repeat(p, expr_concat(p, s->comma, expr_concat(p, before, one)), less(c->least, 1), less(c->least, 1));
        return expr_concat(p, before, expr_concat(p, one, expr_concat(p, each, after)));
    }
    uint32_t places = shape->max_items == UNLIMITED ? shape->min_items : shape->max_items;
    for (uint32_t k = 0; k < places; k++) { /* k items before one that fits */
        bool last = shape->max_items == UNLIMITED && k + 1 == places;
        expr before = expr_repeat(p, expr_concat(p, any, s->comma), k, last ? UNLIMITED : k);
        expr after = expr_repeat(p, expr_concat(p, s->comma, any), less(shape->min_items, k + 1), less(shape->max_items, k + 1));
        e = expr_or2(p, e, expr_concat(p, before, expr_concat(p, one, after)));
    }
    return e;
}

static expr array_expr(struct schema *s, const struct shape *shape)
{
    expr e = shape->unique && shape->max_items > 1 ? unique_items(s, shape) : shape->contains ? containing_items(s, shape) : plain_items(s, shape);
    return in_brackets(s, '[', e, ']');
}

/* ---- objects -------------------------------------------------------------------------------------------------------- */

static bool name_matches(struct schema *s, const struct json_member *pattern, const char *name, uint32_t size)
{
    expr e;
    return text_pattern(s, s->root, "patternProperties", pattern->key, pattern->key_size, &e) && text_matches(s, e, name, size);
}

static const struct literal *add_schema(struct schema *s, const struct literal *list, const struct json *schema)
{
    if (schema->kind == JSON_OBJECT || schema->kind == JSON_BOOL)
        return literal_add(s, list, schema, false);
    schema_refuse(s, schema, NULL, "expected a schema, not %s", json_kind_name(schema));
    return list;
}

/* What a view says about a name; *named: it does not count as additional there. */
static const struct literal *view_literals(struct schema *s, const struct view *v, const char *name, uint32_t size, const struct literal *list,
                                           bool *named)
{
    const struct json *declared = v->properties ? json_get_sized(v->properties, name, size) : NULL;
    *named = declared != NULL;
    if (declared)
        list = add_schema(s, list, declared);
    for (uint32_t i = 0; v->patterns && i < v->patterns->size; i++)
        if (name_matches(s, &v->patterns->members[i], name, size)) {
            list = add_schema(s, list, &v->patterns->members[i].value);
            *named = true;
        }
    if (!*named && v->additional && !v->unevaluated) {
        list = add_schema(s, list, v->additional);
        *named = true;
    }
    return list;
}

const struct literal *member_literals(struct schema *s, const struct shape *shape, const char *name, uint32_t size)
{
    const struct literal *list = NULL;
    bool evaluated = false, named;
    for (const struct view *v = shape->views; v; v = v->next)
        if (!v->unevaluated) {
            list = view_literals(s, v, name, size, list, &named);
            evaluated |= named;
        }
    for (const struct view *v = shape->views; v; v = v->next)
        if (v->unevaluated && !evaluated)
            list = add_schema(s, list, v->additional);
    for (const struct named_literal *n = shape->members; n; n = n->next)
        if (n->size == size && memcmp(n->name, name, size) == 0)
            list = literal_add(s, list, n->literal->schema, n->literal->negated);
    return list;
}

/* Members that are known by name, in their order. */
struct members {
    struct member {
        const char *name;
        uint32_t size;
        bool required;
        expr body; /* member_expr() */
    } *list;
    uint32_t count, capacity;
};

static bool has_name(const struct named_literal *list, const char *name, uint32_t size)
{
    for (; list; list = list->next)
        if (list->size == size && memcmp(list->name, name, size) == 0)
            return true;
    return false;
}

static expr separator(const struct schema *s) { return s->arguments ? s->arguments->joint : s->comma; }

/* "NAME": VALUE, or as the arguments of calls are written. */
static expr member_expr(struct schema *s, expr name, const struct json *declared, const struct literal *value)
{
    struct pool *p = s->pool;
    if (s->arguments)
        return argument_expr(s, name, declared, value);
    return expr_concat(p, s->bare ? bare_name(s, name, declared) : text_quoted(s, name), expr_concat(p, s->colon, schema_call(s, value)));
}

static void add_member(struct schema *s, struct members *m, const struct shape *shape, expr names, const char *name, uint32_t size)
{
    struct pool *p = s->pool;
    bool fits = !has_name(shape->forbidden, name, size);
    for (uint32_t i = 0; i < m->count; i++)
        if (m->list[i].size == size && memcmp(m->list[i].name, name, size) == 0)
            return;
    if (!pool_grow(p, &m->list, &m->capacity, m->count + 1, sizeof *m->list))
        return;
    if (shape->names && fits)
        fits = text_matches(s, names, name, size);
    const struct json *declared = json_get_sized(json_get(s->root, "properties"), name, size);
    expr body = fits ? member_expr(s, chars_text(p, name, size, s->spelling), declared, member_literals(s, shape, name, size)) : NONE;
    m->list[m->count++] = (struct member){name, size, has_name(shape->required, name, size), body};
}

static void known_members(struct schema *s, const struct shape *shape, expr names, struct members *m)
{
    const struct view *views[256];
    uint32_t count = 0;
    for (const struct view *v = shape->views; v && count < 256; v = v->next)
        views[count++] = v;
    while (count-- > 0) /* the first view was added first */
        for (uint32_t i = 0; views[count]->properties && i < views[count]->properties->size; i++)
            add_member(s, m, shape, names, views[count]->properties->members[i].key, views[count]->properties->members[i].key_size);
    for (const struct named_literal *n = shape->required; n; n = n->next)
        add_member(s, m, shape, names, n->name, n->size);
    for (const struct named_literal *n = shape->forbidden; n; n = n->next)
        add_member(s, m, shape, names, n->name, n->size);
}

/* Members that are not known by name: kinds of names by the patterns they match, each with what holds for its values. */
static expr other_members(struct schema *s, const struct shape *shape, expr names, const struct members *known)
{
    struct pool *p = s->pool;
    const struct json_member *patterns[MOST_PATTERNS];
    expr match[MOST_PATTERNS], e = NONE, any = expr_repeat(p, chars_any(p, s->spelling), 0, UNLIMITED), taken = NONE;
    uint32_t n = 0;
    for (uint32_t i = 0; i < known->count; i++)
        taken = expr_or2(p, taken, chars_text(p, known->list[i].name, known->list[i].size, s->spelling));
    any = shape->names ? expr_and2(p, any, names) : any;
    any = taken == NONE ? any : expr_minus(p, any, taken);
    for (const struct view *v = shape->views; v; v = v->next)
        for (uint32_t i = 0; v->patterns && i < v->patterns->size; i++) {
            if (n == MOST_PATTERNS) {
                schema_refuse(s, v->patterns, NULL, "more than %d patterns of names meet in one object", MOST_PATTERNS);
                return NONE;
            }
            patterns[n] = &v->patterns->members[i];
            if (!text_pattern(s, v->patterns, NULL, patterns[n]->key, patterns[n]->key_size, &match[n]))
                return NONE;
            n++;
        }
    for (uint32_t set = 0; set < 1u << n && !s->status; set++) {
        const struct literal *list = NULL;
        expr name = any;
        bool evaluated = false;
        uint32_t at = 0;
        for (uint32_t i = 0; i < n && name != NONE; i++)
            name = set >> i & 1 ? expr_and2(p, name, match[i]) : expr_minus(p, name, match[i]);
        if (name == NONE)
            continue;
        for (const struct view *v = shape->views; v; v = v->next) {
            bool named = false;
            for (uint32_t i = 0; v->patterns && i < v->patterns->size; i++, at++)
                if (set >> at & 1) {
                    list = add_schema(s, list, &v->patterns->members[i].value);
                    named = true;
                }
            if (!named && v->additional && !v->unevaluated) {
                list = add_schema(s, list, v->additional);
                named = true;
            }
            evaluated |= named;
        }
        for (const struct view *v = shape->views; v; v = v->next)
            if (v->unevaluated && !evaluated)
                list = add_schema(s, list, v->additional);
        e = expr_or2(p, e, member_expr(s, name, NULL, list));
    }
    return e;
}

/* What may follow when `count` members are written and only others are left. */
static expr other_tail(struct schema *s, const struct shape *shape, expr others, uint32_t count)
{
    struct pool *p = s->pool;
    uint32_t least = less(shape->min_properties, count), most = less(shape->max_properties, count);
    if (others == NONE)
        return least ? NONE : EMPTY;
    return count ? expr_repeat(p, expr_concat(p, separator(s), others), least, most) : separated(s, others, separator(s), least, most);
}

/* state[c]: what may follow when c members are written, from the last known member to the first. Counts beyond what is asked
 * for are one. */
static expr member_states(struct schema *s, const struct shape *shape, const struct members *m, expr others)
{
    struct pool *p = s->pool;
    uint32_t top = shape->max_properties != UNLIMITED ? shape->max_properties : shape->min_properties > 1 ? shape->min_properties : 1;
    if (top > m->count + 1 && shape->max_properties == UNLIMITED)
        top = top > m->count + 2 ? m->count + 2 : top;
    if (shape->max_properties != UNLIMITED && top > m->count + 1)
        top = m->count + 1; /* what others add is counted by repetition */
    if ((uint64_t)(top + 1) * (m->count + 1) > MOST_STATES) {
        schema_refuse(s, s->top ? s->top : s->root, NULL, "so many properties cannot be counted");
        return NONE;
    }
    expr *state = malloc((top + 2) * sizeof *state), e;
    if (!state) {
        s->status = error_memory(s->err, "a schema");
        return NONE;
    }
    for (uint32_t c = 0; c <= top; c++)
        state[c] = other_tail(s, shape, others, c);
    for (uint32_t i = m->count; i-- > 0;) {
        const struct member *x = &m->list[i];
        for (uint32_t c = 0; c <= top; c++) { /* upwards: state[c + 1] is still that of the member behind */
            expr after = state[c < top ? c + 1 : c], with = expr_concat(p, c ? expr_concat(p, separator(s), x->body) : x->body, after);
            if (shape->max_properties != UNLIMITED && c >= shape->max_properties)
                with = NONE;
            if (x->required)
                state[c] = with;
            else if (c && after == state[c] && with != NONE)
                state[c] = expr_concat(p, expr_repeat(p, expr_concat(p, separator(s), x->body), 0, 1), after);
            else
                state[c] = expr_or2(p, with, state[c]);
        }
    }
    e = state[0];
    free(state);
    return e;
}

expr shape_members(struct schema *s, const struct shape *shape)
{
    struct members m = {0};
    spaces(s);
    expr names = shape->names ? text_of_literals(s, shape->names) : NONE, e = NONE;
    uint32_t required = 0;
    known_members(s, shape, names, &m);
    expr others = other_members(s, shape, names, &m);
    for (uint32_t i = 0; i < m.count; i++)
        required += m.list[i].required;
    /* a name written twice counts once: members without a known name cannot be counted up */
    if (others != NONE && shape->min_properties > required + 1)
        schema_refuse(s, s->top ? s->top : s->root, "minProperties", "can only count properties that are declared or required, and one more");
    else if (shape->min_properties <= shape->max_properties)
        e = member_states(s, shape, &m, others);
    s->pool->bytes -= (size_t)m.capacity * sizeof *m.list;
    free(m.list);
    return e;
}

/* ---- all of it ------------------------------------------------------------------------------------------------------ */

static expr string_expr(struct schema *s, const struct shape *shape)
{
    struct pool *p = s->pool;
    bool any = !shape->has_text && !shape->min_length && shape->max_length == UNLIMITED && !shape->excluded;
    if (!any)
        return text_quoted(s, text_contents(s, shape));
    if (!s->string_rule) {
        s->string_rule = pool_rule(p);
        expr body = text_quoted(s, text_contents(s, shape));
        if (!p->failed)
            p->rules[s->string_rule].body = body;
    }
    return expr_call(p, s->string_rule);
}

/* A string that has one spelling, which is its own. */
static bool is_plain(const struct json *v, enum spelling spelling)
{
    for (uint32_t i = 0; spelling == SPELL_JSON && v->kind == JSON_STRING && i < v->size; i++)
        if ((unsigned char)v->text[i] < 0x20 || v->text[i] == '"' || v->text[i] == '\\' || v->text[i] == 0x7F)
            return false;
    return v->kind == JSON_STRING;
}

/* One of the values, which may be thousands: plain strings share their beginnings. */
static expr values_expr(struct schema *s, const struct shape *shape)
{
    struct pool *p = s->pool;
    size_t count = 0, plain = 0;
    expr e = NONE;
    for (const struct value_link *v = shape->values; v; v = v->next)
        count++;
    struct text_range *texts = calloc(count + 1, sizeof *texts);
    if (!texts) {
        pool_fail(p, STATUS_NO_ROOM, "the schema is too large");
        return NONE;
    }
    for (const struct value_link *v = shape->values; v && !s->status; v = v->next)
        if (!value_fits(s, shape, v->value))
            continue;
        else if (is_plain(v->value, s->spelling))
            texts[plain++] = (struct text_range){v->value->text, v->value->size};
        else
            e = expr_or2(p, e, value_expr(s, v->value));
    if (plain)
        e = expr_or2(p, e, text_quoted(s, expr_texts(p, texts, plain)));
    free(texts);
    return e;
}

expr shape_expr(struct schema *s, const struct shape *shape)
{
    struct pool *p = s->pool;
    expr e = NONE;
    spaces(s);
    if (shape->has_values)
        return values_expr(s, shape);
    for (const struct value_link *x = shape->excluded; x; x = x->next)
        if ((x->value->kind == JSON_ARRAY && (shape->types & TYPE_ARRAY)) || (x->value->kind == JSON_OBJECT && (shape->types & TYPE_OBJECT))) {
            schema_refuse(s, s->top ? s->top : s->root, "not", "single arrays and objects cannot be left out");
            return NONE;
        }
    if (shape->types & TYPE_NULL)
        e = expr_or2(p, e, expr_word(s, 0));
    if (shape->types & TYPE_TRUE)
        e = expr_or2(p, e, expr_word(s, 1));
    if (shape->types & TYPE_FALSE)
        e = expr_or2(p, e, expr_word(s, 2));
    if (shape->types & TYPE_NUMBER)
        e = expr_or2(p, e, number_expr(s, shape));
    if (shape->types & TYPE_STRING)
        e = expr_or2(p, e, string_expr(s, shape));
    if (shape->types & TYPE_ARRAY)
        e = expr_or2(p, e, array_expr(s, shape));
    if (shape->types & TYPE_OBJECT)
        e = expr_or2(p, e, in_brackets(s, '{', shape_members(s, shape), '}'));
    return e;
}
