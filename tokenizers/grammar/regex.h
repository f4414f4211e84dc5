/* Regular expressions as people write them for JSON Schema, Python and Lark. */
#ifndef TOKENIZERS_GRAMMAR_REGEX_H
#define TOKENIZERS_GRAMMAR_REGEX_H

#include "tokenizers/grammar/chars.h"

struct regex_options {
    enum spelling spelling;
    bool search;      /* the text holds a match somewhere; else all of it is one */
    bool ignore_case;
    bool dot_all;     /* . is any character, line feeds too */
};

/* What is refused (back references, \b, look-behind) is named with its byte. The pool's own failure is not told here. */
enum status regex_expr(struct pool *p, const char *text, size_t size, struct regex_options options, expr *out, struct error *err);

/* One character behind a backslash, shared with GBNF: n t r f v 0 xHH uHHHH UHHHHHHHH; at stands behind the backslash.
 * False: none of these. */
bool escape_read(const char *text, size_t size, size_t *at, uint32_t *c);

#endif
