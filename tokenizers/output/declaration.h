/* A checkpoint's own word on how its answers are read (tokenizer_config.json): response_template, regions between anchors
 * (transformers since 5.9), or response_schema, regexes over the whole answer (5.0 to 5.8). Immutable once read; a dialect owns
 * it.
 *
 * Fields of the message that it describes: content; thinking, reasoning or reasoning_content; tool_calls. Others have no place in
 * an answer: their text is content. */
#ifndef TOKENIZERS_OUTPUT_DECLARATION_H
#define TOKENIZERS_OUTPUT_DECLARATION_H

#include "tokenizers/output/output.h"
#include "tokenizers/pattern.h"

enum { MAX_FIELDS = 16, MAX_DELIMS = 8, MAX_CAPTURES = 8, DECLARATION_DEPTH = 24 };

enum part { PART_OTHER, PART_CONTENT, PART_REASONING, PART_CALLS };
enum part part_named(const char *name, size_t size);

/* How the text of a region becomes a value: a row of contents.c. */
enum content_kind { CONTENT_TEXT, CONTENT_INT, CONTENT_FLOAT, CONTENT_BOOL, CONTENT_JSON, CONTENT_XML_INLINE, CONTENT_KV_LINES };

struct contents {
    enum content_kind kind;
    bool keep_space;                    /* text is not trimmed */
    bool unquoted_keys, allow_non_json; /* json */
    struct delims {
        const char *open, *close;
    } delims[MAX_DELIMS]; /* json: marks around strings beside '"' */
    bool merge;           /* xml-inline: values of a key given twice are a list */
    struct pattern tag;   /* ... its groups key and value */
    int key, value;
    const char *line_sep, *kv_sep; /* kv-lines */
    struct contents *values;       /* of xml-inline and kv-lines; NULL: text as it stands */
};

struct field {
    const char *name;
    enum part part;
    struct pattern open, close;
    bool has_open, has_close;           /* without open: what no other field opens belongs to it */
    const char *open_text, *close_text; /* of literal anchors, the first; NULL: patterns */
    struct contents contents;
    const char *join; /* between repeated texts */
    bool each;        /* transform is for every item of a list */
    const struct json *transform;
};

struct declaration {
    struct arena arena;
    struct field fields[MAX_FIELDS];
    int field_count, implicit; /* the field without open; -1: none */
    struct pattern anchor;     /* where an assistant's message begins in a prompt */
    struct schema *schema;     /* response_schema; NULL: regions */
};

/* Reads response_template: its JSON text. STATUS_BAD_INPUT names the key. The text is copied. */
enum status declaration_open_template(struct declaration **out, const char *text, size_t size, struct error *err);
enum status declaration_open_schema(struct declaration **out, const char *text, size_t size,
                                    struct error *err); /* response_schema */
void declaration_close(struct declaration *d);          /* NULL is fine */

/* What tells a key's place in messages: "fields.tool_calls.content_args". */
struct at {
    const struct at *outer;
    const char *key;
    size_t size;
};
enum status declaration_refuse(const struct at *at, struct error *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
enum status contents_open(struct contents *c, struct arena *arena, const struct json *kind, const struct json *args,
                          const struct at *at, struct error *err);
void contents_close(struct contents *c);

/* A value being made; `good` false: the text is not what was declared. */
struct making_value {
    struct output *o;
    struct arena *arena;
    struct pattern_run *run;
    bool good;
    bool unclosed; /* the text ends where the output did: what has begun and is not finished is no value */
};

/* The value of text. Texts that a values parser would still read (arguments, by their declared types first) are strings with
 * `truth` set. */
struct json contents_value(struct making_value *m, const struct contents *c, const char *text, size_t size);
/* "{name}" or "{name.key}" in a transform: none, alone, among other text. */
enum placeholder { PLACEHOLDER_NONE, PLACEHOLDER_WHOLE, PLACEHOLDER_MIXED } placeholder_in(const char *text, size_t size);
/* A field's value through its transform; captures: the opening's named groups, an object. */
struct json transform_value(struct making_value *m, const struct field *f, const struct json *captures, const struct json *value);

/* {"type": "function", "function": {"name", "arguments"}}, one or a list, as calls; values reads what contents_value() left.
 * False: none, or one is no call. */
bool declared_calls(struct making_value *m, const struct json *v, const struct contents *values);

#endif
