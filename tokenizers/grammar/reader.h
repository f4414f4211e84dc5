/* What the readers of grammar files share: a place in a text, errors with its line, names of rules. */
#ifndef TOKENIZERS_GRAMMAR_READER_H
#define TOKENIZERS_GRAMMAR_READER_H

#include "base/arena.h"
#include "tokenizers/grammar/chars.h"

/* A rule or terminal by its name. */
struct name {
    const char *text;
    size_t size;
    uint32_t rule;   /* in the pool */
    size_t body;     /* where it is defined; 0: nowhere */
    size_t used;     /* where it was used first */
    expr inlined;    /* Lark's terminals: their expression, once `ready` */
    bool ready, open;
};

struct reader {
    struct pool *pool;
    struct arena arena;
    const char *format; /* "GBNF", for errors */
    const char *text;
    size_t size, at;
    struct error *err;
    enum status status;
    int depth;
    struct name *names;
    uint32_t name_count, name_capacity;
    uint32_t *index, index_mask;
};

enum { READER_NESTING = 200, READER_COUNT = 1000000 };

/* Says what is wrong in the present line; always NONE. The first error counts. */
expr reader_fail(struct reader *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
void reader_free(struct reader *r);

/* The byte at the place plus ahead, 0 behind the end. */
static inline char reader_peek(const struct reader *r, size_t ahead) { return r->at + ahead < r->size ? r->text[r->at + ahead] : 0; }
bool reader_take(struct reader *r, const char *text); /* if it comes next */
bool reader_number(struct reader *r, uint32_t *out);  /* digits; false: none, or too large (failed) */

/* The entry of a name, made if it is new; UINT32_MAX when memory is out. */
uint32_t reader_name(struct reader *r, const char *text, size_t size);

/* A count behind an element: * + ? {n} {n,} {n,m} {,m}, or nothing. */
expr reader_repeat(struct reader *r, expr e);

#endif
