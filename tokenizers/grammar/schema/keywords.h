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

/* False: no memory, or refused. */
bool context_push(struct context *c, const struct json *schema, bool negated); /* a literal more to apply */
struct fork *context_fork(struct context *c, enum fork_kind kind, uint32_t count);
bool context_name(struct context *c, const struct named_literal **list, const char *name, uint32_t size, const struct literal *literal);
bool context_require(struct context *c, const struct json *name);

#endif
