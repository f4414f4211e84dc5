/* JSON Schema to rules.
 *
 * A place in the value is described by a list of literals: schemas that hold for it and schemas that do not. expand.c writes
 * their keywords out as alternatives of shapes, each a plain conjunction by type. Shapes become expressions: emit.c for arrays and
 * objects, number.c, text.c, value.c for the rest. Every list of literals met below becomes a rule of its own, once. */
#ifndef TOKENIZERS_GRAMMAR_SCHEMA_H
#define TOKENIZERS_GRAMMAR_SCHEMA_H

#include "base/arena.h"
#include "base/json.h"
#include "tokenizers/grammar/chars.h"
#include "tokenizers/grammar/expr.h"

struct literal {
    const struct literal *next;
    const struct json *schema;
    bool negated;
};

/* A name, perhaps with what holds for its value. */
struct named_literal {
    const struct named_literal *next;
    const char *name;
    uint32_t size;
    const struct literal *literal; /* NULL: only the name counts */
};

/* A decimal number: digits without leading zeros ("" is 0), the last `scale` of them behind the point. */
struct decimal {
    const char *digits;
    uint32_t count, scale;
    bool negative;
};

struct bound {
    struct decimal at;
    bool given, exclusive;
};

struct multiple_of {
    const struct multiple_of *next;
    struct decimal of;
    bool negated;
};

struct contains {
    const struct contains *next;
    const struct literal *literal;
    uint32_t least, most;
};

/* An object schema's own view of members: which it names, and what holds for the others. */
struct view {
    const struct view *next;
    const struct json *properties, *patterns, *additional; /* NULL: absent */
    bool unevaluated; /* `additional` holds for what no other view names */
};

struct list_view {
    const struct list_view *next;
    const struct json *prefix, *items; /* NULL: absent */
    const struct literal *at;          /* instead: holds for the item at index */
    uint32_t index;
};

struct value_link {
    const struct value_link *next;
    const struct json *value;
};

/* A choice not yet made. */
enum fork_kind {
    FORK_OPTIONS,        /* one of `options`, lists of literals */
    FORK_DENIED,         /* one of the keywords of `schema` does not hold */
    FORK_NOT_REQUIRED,   /* one of the names `value` is missing */
    FORK_NOT_PROPERTIES, /* one of the members of `value` is there and not as it should be */
    FORK_NOT_PREFIX,     /* the same for the first items */
    FORK_DEPENDENT,      /* the name `key` is missing, or there with all that `value` asks for */
};
struct fork {
    const struct fork *next;
    enum fork_kind kind;
    uint32_t count;
    const struct literal **options;
    const struct json *schema, *value;
    const struct json_member *member;
};

enum { TYPE_NULL = 1, TYPE_TRUE = 2, TYPE_FALSE = 4, TYPE_INTEGER = 8, TYPE_FRACTION = 16, TYPE_STRING = 32, TYPE_ARRAY = 64, TYPE_OBJECT = 128,
       TYPE_NUMBER = TYPE_INTEGER | TYPE_FRACTION, TYPE_ALL = 255 };

/* A conjunction. Its lists are shared with other shapes and never changed. */
struct shape {
    unsigned types;
    struct bound minimum, maximum;
    const struct multiple_of *multiples;
    expr text;                       /* contents of strings in canonical spelling, EMPTY + has_text */
    bool has_text;
    uint32_t min_length, max_length;
    uint32_t min_items, max_items;
    const struct list_view *lists;
    const struct contains *contains;
    uint32_t min_properties, max_properties;
    const struct view *views;
    const struct named_literal *required, *forbidden, *members; /* members: literals for single names */
    const struct literal *names;     /* propertyNames */
    const struct json *unique;       /* the schema that says uniqueItems */
    bool has_values;
    const struct value_link *values; /* enum, const */
    const struct value_link *excluded;
    const struct fork *forks;
};

struct schema_rule {
    const struct literal *literals;
    uint32_t rule;
};

struct schema {
    struct pool *pool;
    struct arena arena;
    const struct json *root;
    struct error *err;
    enum status status;
    struct schema_rule *rules; /* by literals; those from `done` on are still to be written */
    uint32_t rule_count, rule_capacity, done;
    uint32_t *index, index_mask;
    uint32_t string_rule;      /* any string; 0: not made yet */
    expr blank, comma, colon;   /* see emit.c; 0: not made yet */
    expr mark;                 /* what stands around strings: a quote; for Gemma marks, raw text between them, which `unfit` must not match */
    expr unfit;
    bool bare;                 /* names stand without marks, and nothing is spaced */
    enum spelling spelling;    /* of strings in shapes: JSON's, but for the raw text of a tag or between marks */
    const struct grammar_arguments *arguments; /* how members are written just now; NULL: as JSON has them */
    const char *const *words;  /* null, true, false */
    const struct json *top;    /* the one schema that is being expanded; NULL: several */
    int looking;               /* levels of schema_satisfiable */
    uint32_t shapes;           /* made so far, of all rules: bounded */
    int depth;
};

/* ---- schema.c ------------------------------------------------------------------------------------------------------- */

/* Refuses a keyword of a schema, with its place. Always false. */
bool schema_refuse(struct schema *s, const struct json *schema, const char *keyword, const char *format, ...) __attribute__((format(printf, 4, 5)));
void *schema_alloc(struct schema *s, size_t size); /* NULL: failed, and said so */
const struct literal *literal_add(struct schema *s, const struct literal *list, const struct json *schema, bool negated);
/* The schema that a $ref names; NULL with words. */
const struct json *schema_resolve(struct schema *s, const struct json *schema, const struct json *ref);
/* A call of the rule of these literals; NONE if one of them is false. */
expr schema_call(struct schema *s, const struct literal *literals);

/* ---- expand.c ------------------------------------------------------------------------------------------------------- */

struct shapes {
    struct shape *list;
    uint32_t count, capacity;
};
/* The alternatives that literals come to. False: refused. The list is malloc'ed. */
bool schema_expand(struct schema *s, const struct literal *literals, struct shapes *out);
/* Whether any value fits; true where that cannot be said quickly. */
bool schema_holds(struct schema *s, const struct literal *literals, const struct json *v); /* v fits */
bool schema_satisfiable(struct schema *s, const struct literal *literals, int depth);

/* ---- emit.c, arguments.c, value.c, number.c, text.c -------------------------------------------------------------------------------- */

expr shape_expr(struct schema *s, const struct shape *shape);
expr shape_members(struct schema *s, const struct shape *shape); /* of an object, without its brackets */
expr texts_with(struct pool *p, const char *text); /* all that hold this one, raw */
/* The members of objects that fit, written as s->arguments says. */
expr arguments_expr(struct schema *s, const struct literal *literals);
/* A name that the notation can hold without quotes, as s->spelling has it. declared: its schema, NULL: undeclared. */
expr bare_name(struct schema *s, expr name, const struct json *declared);
/* One of them. name: as s->spelling has it; declared: its schema (NULL: undeclared), which readers of calls go by. */
expr argument_expr(struct schema *s, expr name, const struct json *declared, const struct literal *value);
/* What holds for a member's value. */
const struct literal *member_literals(struct schema *s, const struct shape *shape, const char *name, uint32_t size);
const struct literal *item_literals(struct schema *s, const struct shape *shape, uint32_t index); /* UINT32_MAX: behind all prefixes */

bool json_same(const struct json *a, const struct json *b); /* 1 and 1.0 are the same */
bool value_fits(struct schema *s, const struct shape *shape, const struct json *v);
expr expr_word(struct schema *s, int word); /* of s->words */
expr value_expr(struct schema *s, const struct json *v); /* the value in all its white space */

bool decimal_read(struct schema *s, const char *text, uint32_t size, struct decimal *out);
int decimal_compare(const struct decimal *a, const struct decimal *b);
bool decimal_is_integer(const struct decimal *d);
bool decimal_divides(const struct decimal *d, const struct decimal *by); /* |by| < 2^60 */
expr number_expr(struct schema *s, const struct shape *shape);

/* Contents of strings, without the quotes, as s->spelling has them. Any spelling where nothing but their length counts. */
expr text_contents(struct schema *s, const struct shape *shape);
expr text_of_literals(struct schema *s, const struct literal *literals); /* of all strings that fit */
bool text_pattern(struct schema *s, const struct json *schema, const char *keyword, const char *pattern, size_t size, expr *out);
bool text_format(struct schema *s, const struct json *format, expr *out); /* false: unknown, says nothing */
bool text_matches(struct schema *s, expr contents, const char *text, uint32_t size);
expr text_quoted(struct schema *s, expr contents); /* between the marks of strings */

#endif
