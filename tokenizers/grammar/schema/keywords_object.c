/* Keywords about the members of objects. */
#include <string.h>

#include "tokenizers/grammar/schema/keywords.h"

bool assert_required(struct context *c, const struct json *v)
{
    if (v->kind == JSON_BOOL) /* draft 3; says nothing since */
        return true;
    bool ok = v->kind == JSON_ARRAY || context_expected(c, "a list of names", v);
    for (uint32_t i = v->kind == JSON_ARRAY ? v->size : 0; ok && i-- > 0;) /* the list is in the order written */
        ok = context_require(c, &v->items[i]);
    return ok;
}
bool deny_required(struct context *c, const struct json *v)
{
    if (v->kind != JSON_ARRAY)
        return v->kind != JSON_BOOL && context_expected(c, "a list of names", v);
    return context_only(c, TYPE_OBJECT) && context_fork_value(c, FORK_NOT_REQUIRED, v, v->size);
}

/* The view of this schema, added by whichever of its keywords comes first. */
static bool add_view(struct context *c, const struct json *v, bool object)
{
    struct view view = {c->shape->views, json_get(c->schema, "properties"), json_get(c->schema, "patternProperties"),
                        json_get(c->schema, "additionalProperties"), false};
    if (object && v->kind != JSON_OBJECT)
        return context_expected(c, "an object of schemas", v);
    if (!object && v->kind != JSON_OBJECT && v->kind != JSON_BOOL)
        return context_expected(c, "a schema", v);
    for (const struct view *x = c->shape->views; x; x = x->next)
        if (!x->unevaluated && x->properties == view.properties && x->patterns == view.patterns && x->additional == view.additional)
            return true;
    struct view *added = NEW(c, struct view);
    if (added)
        c->shape->views = memcpy(added, &view, sizeof view);
    return added != NULL;
}
bool assert_properties(struct context *c, const struct json *v) { return add_view(c, v, true); }
bool assert_pattern_properties(struct context *c, const struct json *v) { return add_view(c, v, true); }
bool assert_additional_properties(struct context *c, const struct json *v) { return add_view(c, v, false); }

bool deny_properties(struct context *c, const struct json *v)
{
    if (v->kind != JSON_OBJECT)
        return context_expected(c, "an object of schemas", v);
    return context_only(c, TYPE_OBJECT) && context_fork_value(c, FORK_NOT_PROPERTIES, v, v->size);
}
bool deny_pattern_properties(struct context *c, const struct json *v)
{
    return v->size && REFUSE(c, "its opposite cannot be constrained");
}
bool deny_additional_properties(struct context *c, const struct json *v)
{
    bool trivial = (v->kind == JSON_BOOL && v->truth) || (v->kind == JSON_OBJECT && !v->size);
    return !trivial && REFUSE(c, "its opposite cannot be constrained");
}

bool assert_property_names(struct context *c, const struct json *v)
{
    if (v->kind != JSON_OBJECT && v->kind != JSON_BOOL)
        return context_expected(c, "a schema", v);
    c->shape->names = literal_add(c->s, c->shape->names, v, false);
    return !c->s->status;
}
bool deny_property_names(struct context *c, const struct json *v)
{
    (void)v;
    return REFUSE(c, "its opposite cannot be constrained");
}

static bool depend(struct context *c, const struct json *v, bool lists, bool schemas)
{
    if (v->kind != JSON_OBJECT)
        return context_expected(c, "an object", v);
    for (uint32_t i = 0; i < v->size; i++) {
        const struct json *x = &v->members[i].value;
        if (!(lists && x->kind == JSON_ARRAY) && !(schemas && (x->kind == JSON_OBJECT || x->kind == JSON_BOOL)))
            return context_expected(c, lists ? "lists of names" : "schemas", x);
        struct fork *f = context_fork(c, FORK_DEPENDENT, 2);
        if (!f)
            return false;
        f->member = &v->members[i];
    }
    return true;
}
bool assert_dependent_required(struct context *c, const struct json *v) { return depend(c, v, true, false); }
bool assert_dependent_schemas(struct context *c, const struct json *v) { return depend(c, v, false, true); }
bool assert_dependencies(struct context *c, const struct json *v) { return depend(c, v, true, true); }
bool deny_dependent_required(struct context *c, const struct json *v)
{
    (void)v;
    return REFUSE(c, "its opposite cannot be constrained");
}
bool deny_dependent_schemas(struct context *c, const struct json *v) { return deny_dependent_required(c, v); }
bool deny_dependencies(struct context *c, const struct json *v) { return deny_dependent_required(c, v); }

bool assert_unevaluated_properties(struct context *c, const struct json *v)
{
    struct view *view = NEW(c, struct view);
    if (c->schema != c->s->top)
        return REFUSE(c, "only supported where nothing else describes the same object");
    if (view) {
        *view = (struct view){.next = c->shape->views, .additional = v, .unevaluated = true};
        c->shape->views = view;
    }
    return view != NULL;
}
bool deny_unevaluated_properties(struct context *c, const struct json *v) { return deny_dependent_required(c, v); }
