/* Sets of characters, and the bytes that stand for them: plain UTF-8, or inside of a JSON string. */
#ifndef TOKENIZERS_GRAMMAR_CHARS_H
#define TOKENIZERS_GRAMMAR_CHARS_H

#include "tokenizers/grammar/expr.h"

struct char_range {
    uint32_t lo, hi;
};

/* `failed`: memory ran out. chars_expr() sees to it. */
struct chars {
    struct char_range *ranges;
    uint32_t count, capacity;
    bool failed;
};
void chars_add(struct chars *c, uint32_t lo, uint32_t hi);
void chars_add_all(struct chars *c, const struct chars *other);
void chars_negate(struct chars *c); /* within Unicode, surrogates excepted */
void chars_fold(struct chars *c);   /* adds the other case of every letter */
/* \d \w \s and their opposites, ASCII; false: no such class. */
bool chars_add_class(struct chars *c, char letter);
void chars_free(struct chars *c);

/* How text is written. In JSON what must be escaped is, everything else is not: one spelling for each character, so that
 * intersections and complements hold for what is written as for what is meant. */
enum spelling { SPELL_UTF8, SPELL_JSON };
expr chars_expr(struct pool *p, const struct chars *c, enum spelling spelling);
expr chars_any(struct pool *p, enum spelling spelling); /* one character */
expr chars_text(struct pool *p, const char *text, size_t size, enum spelling spelling); /* UTF-8 text, spelled so */
/* One character of a JSON string in any spelling: escapes where none is needed, surrogate pairs. */
expr chars_json(struct pool *p);

#endif
