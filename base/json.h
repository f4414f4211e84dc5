/* JSON as templates and tokenizers need it: key order and the text of numbers are kept (1 and 1.0 differ,
 * integers of any size), a lone surrogate reads as U+FFFD, NUL is allowed in strings, depth is limited.
 *
 * The tree is compact (16 bytes a value) and borrows from the text: strings without escapes and all numbers
 * point into it, so the text must outlive the tree. Strings are not NUL-terminated; use size. */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/status.h"
#include "base/str.h"

enum json_kind { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json_member;

struct json {
    uint8_t kind; /* enum json_kind */
    bool truth;   /* JSON_BOOL */
    uint32_t size; /* bytes of text, items, members */
    union {
        const char *text;                  /* JSON_NUMBER (as written), JSON_STRING (unescaped UTF-8) */
        const struct json *items;          /* JSON_ARRAY */
        const struct json_member *members; /* JSON_OBJECT, in the order written */
    };
};

struct json_member {
    const char *key;
    uint32_t key_size;
    struct json value;
};

struct json_options {
    int depth;   /* deepest nesting allowed; 0 means 500 */
    bool unchecked; /* whoever calls sees to it that the text is UTF-8, at the latest before anything is believed: json_check() */
    bool infinite; /* NaN, Infinity and -Infinity are numbers, too, as Python writes them; json_double() still wants finite ones */
    bool unique; /* a key that occurs twice in an object is an error that names it */

    /* Containers too large for a tree (a vocabulary costs a page fault for every 128 entries). large() is asked about
     * every member that is an array or object, depth 1 being those of the outermost object; NULL: none is. A number other
     * than 0 sends the container's children with that number to child(), in order, and the tree holds an empty
     * container instead. m->key is NULL in arrays; what m points to lives until child() returns. `unique` does not look
     * into such a container. */
    int (*large)(void *context, int depth, const char *key, size_t key_size);
    enum status (*child)(void *context, int which, const struct json_member *m, struct error *err);
    void *context;
};

/* Parses the whole text (UTF-8; anything else is an error; white space may surround the value). options may
 * be NULL. Errors are STATUS_BAD_INPUT with line and column; memory running out is STATUS_NO_ROOM. */
enum status json_parse(struct arena *arena, const char *text, size_t size, const struct json_options *options,
                       struct json *out, struct error *err);

/* STATUS_BAD_INPUT with line and column if the text is not UTF-8. */
enum status json_check(const char *text, size_t size, struct error *err);

/* Member of an object, NULL if absent or if v is NULL or no object. Of duplicates the last one wins. */
const struct json *json_get(const struct json *v, const char *key);
const struct json *json_get_sized(const struct json *v, const char *key, size_t size);

/* Typed readers: false if v is NULL or of another kind. Integers must be written as such (5, not 5.0) and fit;
 * doubles must be finite. */
bool json_int(const struct json *v, int64_t *out);
bool json_double(const struct json *v, double *out);
bool json_bool(const struct json *v, bool *out);
bool json_is_text(const struct json *v, const char *text); /* a string equal to text */
static inline bool json_is(const struct json *v, enum json_kind kind) { return v && v->kind == kind; }
const char *json_kind_name(const struct json *v); /* "an array", "null", "nothing" for NULL ... for messages */

/* A NUL-terminated copy of a string value in the arena; NULL if v is no string or memory is out. */
char *json_copy(struct arena *arena, const struct json *v);

/* Writing: appends to a str. Strings are escaped as Python's json.dumps(ensure_ascii=False) does; bytes that are
 * not UTF-8 become U+FFFD. Doubles print as the shortest text that reads back (1.0 keeps its point). */
void json_write_string(struct str *out, const char *text, size_t size);
void json_write_double(struct str *out, double value);
void json_write(struct str *out, const struct json *v);        /* compact, key order kept */
void json_write_spaced(struct str *out, const struct json *v); /* ", " and ": ", as json.dumps does where nothing else is said */

#endif
