/* response_schema: a JSON schema whose nodes say by regex and parser how they are cut out of the answer. */
#ifndef TOKENIZERS_OUTPUT_SCHEMA_H
#define TOKENIZERS_OUTPUT_SCHEMA_H

#include "tokenizers/output/declaration.h"

enum { MAX_PROPERTIES = 32, MAX_SUBSTITUTIONS = 16 };

enum schema_type { SCHEMA_ANY, SCHEMA_OBJECT, SCHEMA_ARRAY, SCHEMA_STRING, SCHEMA_INTEGER, SCHEMA_NUMBER, SCHEMA_BOOLEAN };

struct schema {
    enum schema_type type;
    const struct json *constant, *otherwise; /* const, default; NULL: none */
    struct pattern regex, each, pairs;       /* x-regex, x-regex-iterator, x-regex-key-value; code NULL: none */
    int key, value;                          /* groups of pairs */
    struct substitution {
        struct pattern pattern;
        const struct json *by;
    } substitutions[MAX_SUBSTITUTIONS];
    int substitution_count;
    bool parses, gemma, allow_non_json; /* x-parser; gemma: its own notation first */
    const struct json *transform;       /* JMESPath; NULL: none */
    struct property {
        const char *key;
        size_t size;
        struct schema *schema;
    } properties[MAX_PROPERTIES];
    int property_count;
    bool closed;                       /* no additional properties */
    struct schema *additional, *items; /* NULL: as they are; none */
    const struct json *required;
};

/* A node and all below it, into the arena. STATUS_BAD_INPUT names the key. */
enum status schema_open(struct schema **out, struct arena *arena, const struct json *spec, const struct at *at, int depth,
                        struct error *err);
void schema_close(struct schema *s); /* its patterns; NULL is fine */

/* What a node makes of v. m->good is false where transformers would raise. matched: told of every match in v's own text; may be
 * NULL. */
struct matches {
    void (*add)(void *context, const char *from, const char *to);
    void *context;
};
struct json schema_value(struct making_value *m, const struct schema *s, struct json v, const struct matches *matches);

/* The whole answer, `in` behind the prompt's tail, as the schema says; where it does not fit, all of it is content. */
void schema_read(struct output *o, const struct schema *s, struct pattern_run *run, size_t prompt);

/* Searches *v by a JMESPath expression; false: it is none that is understood. */
bool jmespath_search(struct making_value *m, const struct json *expression, struct json *v);

#endif
