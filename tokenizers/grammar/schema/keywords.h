/* Keywords as functions over a shape. */
#ifndef TOKENIZERS_GRAMMAR_KEYWORDS_H
#define TOKENIZERS_GRAMMAR_KEYWORDS_H

#include "tokenizers/grammar/schema/schema.h"

struct context {
    struct schema *s;
    struct shape *shape;
    const struct literal **work; /* still to be applied; a plain list */
    const struct json *schema;   /* that the keyword stands in */
    const char *keyword;
};
typedef bool keyword_function(struct context *c, const struct json *v);

struct keyword {
    const char *name;
    keyword_function *assert, *deny; /* false: nothing fits any more, or refused */
};
const struct keyword *keyword_find(const struct json_member *m); /* NULL: says nothing */

/* keywords_object.c */
keyword_function assert_required, deny_required, assert_properties, assert_pattern_properties, assert_additional_properties,
    deny_properties, deny_pattern_properties, deny_additional_properties, assert_property_names, deny_property_names,
    assert_dependent_required, assert_dependent_schemas, assert_dependencies, deny_dependent_required, deny_dependent_schemas,
    deny_dependencies, assert_unevaluated_properties, deny_unevaluated_properties;

#define NEW(c, type) ((type *)schema_alloc((c)->s, sizeof(type)))
#define REFUSE(c, ...) schema_refuse((c)->s, (c)->schema, (c)->keyword, __VA_ARGS__)

/* Refuses the keyword's value: something else was expected. Always false. */
bool context_expected(struct context *c, const char *what, const struct json *v);
/* Nothing but these types; false: none is left. */
static inline bool context_only(struct context *c, unsigned types) { return (c->shape->types &= types) != 0; }

/* False: no memory, or refused. */
bool context_push(struct context *c, const struct json *schema, bool negated); /* a literal more to apply */
bool context_fork_value(struct context *c, enum fork_kind kind, const struct json *v, uint32_t count);
struct fork *context_fork(struct context *c, enum fork_kind kind, uint32_t count);
bool context_name(struct context *c, const struct named_literal **list, const char *name, uint32_t size, const struct literal *literal);
bool context_require(struct context *c, const struct json *name);

#endif
