/* What each keyword of keywords.def says about a shape, and what its opposite says. */
#include <stdlib.h>
#include <string.h>

#include "tokenizers/grammar/schema/keywords.h"

enum { MOST_COUNT = 1000000000 };

bool context_expected(struct context *c, const char *what, const struct json *v)
{
    return REFUSE(c, "expected %s, not %s", what, json_kind_name(v));
}

bool context_push(struct context *c, const struct json *schema, bool negated)
{
    struct literal *l = NEW(c, struct literal);
    if (!l)
        return false;
    if (schema->kind != JSON_OBJECT && schema->kind != JSON_BOOL)
        return context_expected(c, "a schema", schema);
    *l = (struct literal){*c->work, schema, negated};
    *c->work = l;
    return true;
}

struct fork *context_fork(struct context *c, enum fork_kind kind, uint32_t count)
{
    struct fork *f = NEW(c, struct fork);
    const struct literal **options = f && kind == FORK_OPTIONS ? schema_alloc(c->s, (count + 1) * sizeof *options) : NULL;
    if (!f || (kind == FORK_OPTIONS && !options))
        return NULL;
    *f = (struct fork){.next = c->shape->forks, .kind = kind, .count = count, .options = options, .schema = c->schema};
    c->shape->forks = f;
    return f;
}

/* An option of a fork: a list for context_push(), in any order. */
static bool add_option(struct context *c, struct fork *f, uint32_t i, const struct json *schema, bool negated)
{
    struct literal *l = f ? NEW(c, struct literal) : NULL;
    if (!l)
        return false;
    if (schema->kind != JSON_OBJECT && schema->kind != JSON_BOOL)
        return context_expected(c, "a schema", schema);
    *l = (struct literal){f->options[i], schema, negated};
    f->options[i] = l;
    return true;
}

bool context_fork_value(struct context *c, enum fork_kind kind, const struct json *v, uint32_t count)
{
    struct fork *f = context_fork(c, kind, count);
    if (f)
        f->value = v;
    return f != NULL;
}

bool context_name(struct context *c, const struct named_literal **list, const char *name, uint32_t size, const struct literal *literal)
{
    struct named_literal *n = NEW(c, struct named_literal);
    if (n) {
        *n = (struct named_literal){*list, name, size, literal};
        *list = n;
    }
    return n != NULL;
}

bool context_require(struct context *c, const struct json *name)
{
    if (name->kind != JSON_STRING)
        return context_expected(c, "a list of names", name);
    return context_name(c, &c->shape->required, name->text, name->size, NULL);
}

/* ---- types and values ----------------------------------------------------------------------------------------------- */

static bool type_bits(struct context *c, const struct json *v, unsigned *out)
{
    static const struct {
        const char *name;
        unsigned bits;
    } names[] = {{"null", TYPE_NULL}, {"boolean", TYPE_TRUE | TYPE_FALSE}, {"integer", TYPE_INTEGER}, {"number", TYPE_NUMBER},
                 {"string", TYPE_STRING}, {"array", TYPE_ARRAY}, {"object", TYPE_OBJECT}};
    if (v->kind == JSON_ARRAY) {
        for (uint32_t i = 0; i < v->size; i++)
            if (!json_is(&v->items[i], JSON_STRING) || !type_bits(c, &v->items[i], out))
                return c->s->status ? false : context_expected(c, "names of types", &v->items[i]);
        return true;
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (json_is_text(v, names[i].name)) {
            *out |= names[i].bits;
            return true;
        }
    return v->kind == JSON_STRING ? REFUSE(c, "no type is called '%s'", QUOTE(v->text, v->size)) : context_expected(c, "a type's name or a list of them", v);
}

static bool assert_type(struct context *c, const struct json *v)
{
    unsigned bits = 0;
    return type_bits(c, v, &bits) && context_only(c, bits);
}

static bool deny_type(struct context *c, const struct json *v)
{
    unsigned bits = 0;
    return type_bits(c, v, &bits) && context_only(c, ~bits);
}

static bool assert_values(struct context *c, const struct json *values, uint32_t count)
{
    const struct value_link *kept = NULL;
    for (uint32_t i = count; i-- > 0;) {
        bool there = !c->shape->has_values;
        for (const struct value_link *x = c->shape->values; x && !there; x = x->next)
            there = json_same(x->value, &values[i]);
        struct value_link *link = there ? NEW(c, struct value_link) : NULL;
        if (there && !link)
            return false;
        if (there) {
            *link = (struct value_link){kept, &values[i]};
            kept = link;
        }
    }
    c->shape->has_values = true;
    c->shape->values = kept;
    return kept != NULL;
}

static bool deny_values(struct context *c, const struct json *values, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct json *v = &values[i];
        unsigned single = v->kind == JSON_NULL ? TYPE_NULL : v->kind == JSON_BOOL ? (v->truth ? TYPE_TRUE : TYPE_FALSE) : 0;
        struct value_link *link = NEW(c, struct value_link);
        if (!link)
            return false;
        *link = (struct value_link){c->shape->excluded, v};
        if (single)
            c->shape->types &= ~single;
        else
            c->shape->excluded = link;
    }
    return c->shape->types != 0;
}

static bool assert_enum(struct context *c, const struct json *v)
{
    return v->kind == JSON_ARRAY ? assert_values(c, v->items, v->size) : context_expected(c, "a list of values", v);
}
static bool deny_enum(struct context *c, const struct json *v)
{
    return v->kind == JSON_ARRAY ? deny_values(c, v->items, v->size) : context_expected(c, "a list of values", v);
}
static bool assert_const(struct context *c, const struct json *v) { return assert_values(c, v, 1); }
static bool deny_const(struct context *c, const struct json *v) { return deny_values(c, v, 1); }

/* ---- schemas of schemas --------------------------------------------------------------------------------------------- */

static bool assert_ref(struct context *c, const struct json *v)
{
    const struct json *to = schema_resolve(c->s, c->schema, v);
    return to && context_push(c, to, false);
}
static bool deny_ref(struct context *c, const struct json *v)
{
    const struct json *to = schema_resolve(c->s, c->schema, v);
    return to && context_push(c, to, true);
}

static bool is_list(struct context *c, const struct json *v)
{
    return (v->kind == JSON_ARRAY && v->size) || (v->kind == JSON_ARRAY ? REFUSE(c, "the list is empty") : context_expected(c, "a list of schemas", v));
}

static bool push_all(struct context *c, const struct json *v, bool negated)
{
    bool ok = is_list(c, v);
    for (uint32_t i = ok ? v->size : 0; ok && i-- > 0;) /* the first is applied first: properties keep their order */
        ok = context_push(c, &v->items[i], negated);
    return ok;
}

static bool fork_all(struct context *c, const struct json *v, bool negated)
{
    struct fork *f = is_list(c, v) ? context_fork(c, FORK_OPTIONS, v->size) : NULL;
    for (uint32_t i = 0; f && i < v->size; i++)
        if (!add_option(c, f, i, &v->items[i], negated))
            return false;
    return f != NULL;
}

static bool assert_all_of(struct context *c, const struct json *v) { return push_all(c, v, false); }
static bool deny_all_of(struct context *c, const struct json *v) { return fork_all(c, v, true); }
static bool assert_any_of(struct context *c, const struct json *v) { return fork_all(c, v, false); }
static bool deny_any_of(struct context *c, const struct json *v) { return push_all(c, v, true); }
static bool assert_not(struct context *c, const struct json *v) { return context_push(c, v, true); }
static bool deny_not(struct context *c, const struct json *v) { return context_push(c, v, false); }

/* Each alternative without the others, where they may overlap. */
static bool assert_one_of(struct context *c, const struct json *v)
{
    struct fork *f = is_list(c, v) ? context_fork(c, FORK_OPTIONS, v->size) : NULL;
    if (!f)
        return false;
    for (uint32_t i = 0; i < v->size; i++)
        if (!add_option(c, f, i, &v->items[i], false))
            return false;
    for (uint32_t i = 0; i < v->size; i++)
        for (uint32_t j = i + 1; j < v->size; j++) {
            const struct literal *both = literal_add(c->s, literal_add(c->s, NULL, &v->items[i], false), &v->items[j], false);
            if (schema_satisfiable(c->s, both, 0) &&
                (!add_option(c, f, i, &v->items[j], true) || !add_option(c, f, j, &v->items[i], true)))
                return false;
            if (c->s->status)
                return false;
        }
    return true;
}

/* None of them, or two of them. */
static bool deny_one_of(struct context *c, const struct json *v)
{
    uint32_t n = is_list(c, v) ? v->size : 0, at = 1;
    struct fork *f = n && n <= 64 ? context_fork(c, FORK_OPTIONS, 1 + n * (n - 1) / 2) : NULL;
    for (uint32_t i = 0; f && i < n; i++) {
        if (!add_option(c, f, 0, &v->items[i], true))
            return false;
        for (uint32_t j = i + 1; j < n; j++, at++)
            if (!add_option(c, f, at, &v->items[i], false) || !add_option(c, f, at, &v->items[j], false))
                return false;
    }
    return f != NULL || (n > 64 && REFUSE(c, "so many alternatives cannot be denied"));
}

static bool branch_if(struct context *c, const struct json *v, bool denied)
{
    const struct json *then = json_get(c->schema, "then"), *otherwise = json_get(c->schema, "else");
    static const struct json nothing = {.kind = JSON_BOOL, .truth = true};
    if (!then && !otherwise)
        return !denied;
    struct fork *f = context_fork(c, FORK_OPTIONS, 2);
    return add_option(c, f, 0, v, false) && add_option(c, f, 0, then ? then : &nothing, denied) && add_option(c, f, 1, v, true) &&
           add_option(c, f, 1, otherwise ? otherwise : &nothing, denied);
}
static bool assert_if(struct context *c, const struct json *v) { return branch_if(c, v, false); }
static bool deny_if(struct context *c, const struct json *v) { return branch_if(c, v, true); }

/* ---- numbers -------------------------------------------------------------------------------------------------------- */

static bool read_bound(struct context *c, const struct json *v, struct decimal *out)
{
    return v->kind == JSON_NUMBER ? decimal_read(c->s, v->text, v->size, out) : context_expected(c, "a number", v);
}

static bool at_least(struct context *c, const struct decimal *d, bool exclusive)
{
    struct bound *b = &c->shape->minimum;
    int order = b->given ? decimal_compare(d, &b->at) : 1;
    if (order > 0 || (order == 0 && exclusive))
        *b = (struct bound){*d, true, exclusive};
    return true;
}

static bool at_most(struct context *c, const struct decimal *d, bool exclusive)
{
    struct bound *b = &c->shape->maximum;
    int order = b->given ? decimal_compare(d, &b->at) : -1;
    if (order < 0 || (order == 0 && exclusive))
        *b = (struct bound){*d, true, exclusive};
    return true;
}

/* Older drafts: exclusiveMinimum true is about minimum. */
static bool also_exclusive(const struct context *c, const char *keyword)
{
    const struct json *v = json_get(c->schema, keyword);
    return v && v->kind == JSON_BOOL && v->truth;
}

static bool assert_minimum(struct context *c, const struct json *v)
{
    struct decimal d;
    return read_bound(c, v, &d) && at_least(c, &d, also_exclusive(c, "exclusiveMinimum"));
}
static bool deny_minimum(struct context *c, const struct json *v)
{
    struct decimal d;
    return read_bound(c, v, &d) && context_only(c, TYPE_NUMBER) && at_most(c, &d, !also_exclusive(c, "exclusiveMinimum"));
}
static bool assert_maximum(struct context *c, const struct json *v)
{
    struct decimal d;
    return read_bound(c, v, &d) && at_most(c, &d, also_exclusive(c, "exclusiveMaximum"));
}
static bool deny_maximum(struct context *c, const struct json *v)
{
    struct decimal d;
    return read_bound(c, v, &d) && context_only(c, TYPE_NUMBER) && at_least(c, &d, !also_exclusive(c, "exclusiveMaximum"));
}
static bool assert_exclusive_minimum(struct context *c, const struct json *v)
{
    struct decimal d;
    return v->kind == JSON_BOOL || (read_bound(c, v, &d) && at_least(c, &d, true));
}
static bool deny_exclusive_minimum(struct context *c, const struct json *v)
{
    struct decimal d;
    return v->kind != JSON_BOOL && read_bound(c, v, &d) && context_only(c, TYPE_NUMBER) && at_most(c, &d, false);
}
static bool assert_exclusive_maximum(struct context *c, const struct json *v)
{
    struct decimal d;
    return v->kind == JSON_BOOL || (read_bound(c, v, &d) && at_most(c, &d, true));
}
static bool deny_exclusive_maximum(struct context *c, const struct json *v)
{
    struct decimal d;
    return v->kind != JSON_BOOL && read_bound(c, v, &d) && context_only(c, TYPE_NUMBER) && at_least(c, &d, false);
}

static bool add_multiple(struct context *c, const struct json *v, bool negated)
{
    struct multiple_of *m = NEW(c, struct multiple_of);
    if (!m || !read_bound(c, v, &m->of))
        return false;
    if (m->of.negative || !m->of.count)
        return REFUSE(c, "expected a number above 0");
    m->next = c->shape->multiples;
    m->negated = negated;
    c->shape->multiples = m;
    return true;
}
static bool assert_multiple_of(struct context *c, const struct json *v) { return add_multiple(c, v, false); }
static bool deny_multiple_of(struct context *c, const struct json *v) { return add_multiple(c, v, true) && context_only(c, TYPE_NUMBER); }

/* ---- counts --------------------------------------------------------------------------------------------------------- */

static bool read_count(struct context *c, const struct json *v, uint32_t *out)
{
    struct decimal d;
    *out = 0;
    if (!read_bound(c, v, &d))
        return false;
    if (d.negative || !decimal_is_integer(&d))
        return REFUSE(c, "expected a whole number of 0 or more");
    for (uint32_t i = 0; i < d.count; i++)
        *out = *out > MOST_COUNT ? *out : *out * 10 + (uint32_t)(d.digits[i] - '0');
    if (d.count > 10 || *out > MOST_COUNT)
        *out = UNLIMITED - 1;
    return true;
}

/* minX, maxX and their opposites, which hold for one type only. */
#define COUNT_KEYWORDS(what, min, max, type)                                                              \
    static bool assert_min_##what(struct context *c, const struct json *v)                                \
    {                                                                                                     \
        uint32_t n;                                                                                       \
        if (!read_count(c, v, &n))                                                                        \
            return false;                                                                                 \
        c->shape->min = n > c->shape->min ? n : c->shape->min;                                            \
        return true;                                                                                      \
    }                                                                                                     \
    static bool assert_max_##what(struct context *c, const struct json *v)                                \
    {                                                                                                     \
        uint32_t n;                                                                                       \
        if (!read_count(c, v, &n))                                                                        \
            return false;                                                                                 \
        c->shape->max = n < c->shape->max ? n : c->shape->max;                                            \
        return true;                                                                                      \
    }                                                                                                     \
    static bool deny_min_##what(struct context *c, const struct json *v)                                  \
    {                                                                                                     \
        uint32_t n;                                                                                       \
        if (!read_count(c, v, &n) || !n || !context_only(c, type))                                                \
            return false;                                                                                 \
        c->shape->max = n - 1 < c->shape->max ? n - 1 : c->shape->max;                                    \
        return true;                                                                                      \
    }                                                                                                     \
    static bool deny_max_##what(struct context *c, const struct json *v)                                  \
    {                                                                                                     \
        uint32_t n;                                                                                       \
        if (!read_count(c, v, &n) || !context_only(c, type))                                                      \
            return false;                                                                                 \
        c->shape->min = n + 1 > c->shape->min ? n + 1 : c->shape->min;                                    \
        return true;                                                                                      \
    }
COUNT_KEYWORDS(length, min_length, max_length, TYPE_STRING)
COUNT_KEYWORDS(items, min_items, max_items, TYPE_ARRAY)
COUNT_KEYWORDS(properties, min_properties, max_properties, TYPE_OBJECT)

/* ---- strings -------------------------------------------------------------------------------------------------------- */

static bool add_text(struct context *c, expr e, bool negated)
{
    struct pool *p = c->s->pool;
    struct shape *shape = c->shape;
    expr all = expr_repeat(p, chars_any(p, c->s->spelling), 0, UNLIMITED);
    if (negated && !context_only(c, TYPE_STRING))
        return false;
    e = negated ? expr_minus(p, all, e) : e;
    shape->text = shape->has_text ? expr_and2(p, shape->text, e) : e;
    shape->has_text = true;
    if (shape->text == NONE)
        shape->types &= ~(unsigned)TYPE_STRING;
    return shape->types != 0;
}

static bool add_pattern(struct context *c, const struct json *v, bool negated)
{
    expr e;
    if (v->kind != JSON_STRING)
        return context_expected(c, "a regular expression", v);
    return text_pattern(c->s, c->schema, c->keyword, v->text, v->size, &e) && add_text(c, e, negated);
}
static bool assert_pattern(struct context *c, const struct json *v) { return add_pattern(c, v, false); }
static bool deny_pattern(struct context *c, const struct json *v) { return add_pattern(c, v, true); }

static bool assert_format(struct context *c, const struct json *v)
{
    expr e;
    return !text_format(c->s, v, &e) || (!c->s->status && add_text(c, e, false));
}
static bool deny_format(struct context *c, const struct json *v)
{
    expr e;
    return text_format(c->s, v, &e) && !c->s->status && add_text(c, e, true);
}

/* ---- arrays --------------------------------------------------------------------------------------------------------- */

static bool add_list(struct context *c, const struct json *prefix, const struct json *items)
{
    struct list_view *view = NEW(c, struct list_view);
    if (!view)
        return false;
    if (prefix && prefix->kind != JSON_ARRAY)
        return context_expected(c, "a list of schemas", prefix);
    *view = (struct list_view){.next = c->shape->lists, .prefix = prefix, .items = items};
    c->shape->lists = view;
    return true;
}

/* Older drafts: a list of schemas, then additionalItems. */
static bool assert_items(struct context *c, const struct json *v)
{
    const struct json *prefix = json_get(c->schema, "prefixItems");
    if (v->kind == JSON_ARRAY)
        return add_list(c, v, json_get(c->schema, "additionalItems"));
    if (v->kind != JSON_OBJECT && v->kind != JSON_BOOL)
        return context_expected(c, "a schema", v);
    return add_list(c, prefix, v);
}
static bool assert_prefix_items(struct context *c, const struct json *v)
{
    return json_get(c->schema, "items") ? true : add_list(c, v, NULL);
}

static bool add_contains(struct context *c, const struct json *v, bool negated, uint32_t least, uint32_t most)
{
    struct contains *x = NEW(c, struct contains);
    if (!x)
        return false;
    *x = (struct contains){c->shape->contains, literal_add(c->s, NULL, v, negated), least, most};
    c->shape->contains = x;
    return !c->s->status;
}

/* Some item behind the first ones is not as it should be. */
static bool deny_items(struct context *c, const struct json *v)
{
    if (json_get(c->schema, "prefixItems") || v->kind == JSON_ARRAY)
        return REFUSE(c, "the opposite of items behind prefixItems cannot be constrained");
    return context_only(c, TYPE_ARRAY) && add_contains(c, v, true, 1, UNLIMITED);
}
static bool deny_prefix_items(struct context *c, const struct json *v)
{
    if (v->kind != JSON_ARRAY)
        return context_expected(c, "a list of schemas", v);
    return context_only(c, TYPE_ARRAY) && context_fork_value(c, FORK_NOT_PREFIX, v, v->size);
}

static bool contains_bounds(struct context *c, uint32_t *least, uint32_t *most)
{
    const struct json *min = json_get(c->schema, "minContains"), *max = json_get(c->schema, "maxContains");
    *least = 1;
    *most = UNLIMITED;
    return (!min || read_count(c, min, least)) && (!max || read_count(c, max, most));
}
static bool assert_contains(struct context *c, const struct json *v)
{
    uint32_t least, most;
    return contains_bounds(c, &least, &most) && ((least == 0 && most == UNLIMITED) || add_contains(c, v, false, least, most));
}
static bool deny_contains(struct context *c, const struct json *v)
{
    uint32_t least, most;
    if (!contains_bounds(c, &least, &most) || !context_only(c, TYPE_ARRAY))
        return false;
    if (most != UNLIMITED)
        return REFUSE(c, "the opposite of contains with maxContains cannot be constrained");
    return least > 0 && add_contains(c, v, false, 0, least - 1);
}

static bool assert_unique_items(struct context *c, const struct json *v)
{
    if (v->kind != JSON_BOOL)
        return context_expected(c, "true or false", v);
    if (v->truth)
        c->shape->unique = c->schema;
    return true;
}
static bool deny_unique_items(struct context *c, const struct json *v)
{
    return json_is(v, JSON_BOOL) && v->truth && REFUSE(c, "the opposite of uniqueItems cannot be constrained");
}

static bool assert_refused(struct context *c, const struct json *v)
{
    (void)v;
    return REFUSE(c, "this keyword is not supported");
}
static bool deny_refused(struct context *c, const struct json *v) { return assert_refused(c, v); }

/* ---- the table ------------------------------------------------------------------------------------------------------ */

static const struct keyword keywords[] = {
#define KEYWORD(name, function) {name, assert_##function, deny_##function},
#include "tokenizers/grammar/schema/keywords.def"
#undef KEYWORD
};

const struct keyword *keyword_find(const struct json_member *m)
{
    for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++)
        if (strlen(keywords[i].name) == m->key_size && memcmp(keywords[i].name, m->key, m->key_size) == 0)
            return &keywords[i];
    return NULL;
}
