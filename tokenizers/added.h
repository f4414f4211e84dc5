/* Added tokens: texts that are cut out of the input as they are, before the model sees it. */
#ifndef TOKENIZERS_ADDED_H
#define TOKENIZERS_ADDED_H

#include "base/status.h"
#include "tokenizers/automaton.h"
#include "tokenizers/vocabulary.h"

struct tokenizer;
struct scratch;

struct added_token {
    int32_t id;
    bool lstrip, rstrip;  /* swallow white space on that side */
    bool single_word;     /* not inside a word */
    bool normalized;      /* matches in normalised text, in its own normalised form */
    bool special;
};

struct added {
    struct added_token *tokens;
    size_t count, capacity;
    struct vocabulary texts; /* entry i is the text of tokens[i] */
    uint32_t *order;         /* tokens by id */
    struct str forms;        /* how they decode: in their normalised form where `normalized` says so */
    size_t *form_starts;     /* count + 1 */
    struct automaton raw;        /* normalized: false */
    struct automaton normalized; /* normalized: true */
    struct automaton trusted;    /* raw and the special ones: for marked text whose normalizer would lose the marks */
};

/* text may be there already: then the later flags count (as in the package). */
enum status added_add(struct added *a, const char *text, size_t size, struct added_token token, struct error *err);
enum status added_finish(struct tokenizer *t, struct error *err);
void added_free(struct added *a);

/* NULL if the id is no added token. */
const struct added_token *added_by_id(const struct added *a, int32_t id);

const char *added_form(const struct added *a, const struct added_token *token, size_t *size);

/* A match, or the text in front of it. */
struct added_match {
    size_t start, end;
    const struct added_token *token; /* NULL: text between matches */
};

/* Cuts text: fills *m with the next part behind m->end, false behind the last. `steps` bounds hostile searches. */
struct added_cutter {
    const struct added *added;
    const struct automaton *automaton;
    const char *text;
    size_t size;
    const char *marks;   /* one byte each: may match special tokens; NULL: see parse_special */
    bool parse_special;
    size_t done, searched;
    struct added_match pending;
    uint64_t steps;
};
bool added_next(struct added_cutter *c, struct added_match *m);
static inline bool added_too_slow(const struct added_cutter *c) { return c->steps > ((uint64_t)1 << 28) + c->size * 64; }

#endif
