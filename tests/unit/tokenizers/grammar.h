/* Grammars in tests: compiling, and asking about texts. */
#ifndef TESTS_TOKENIZERS_GRAMMAR_H
#define TESTS_TOKENIZERS_GRAMMAR_H

#include <criterion/criterion.h>
#include <string.h>

#include "tests/unit/tokenizers/tiny.h"
#include "tokenizers/tokenizers.h"

enum kind { SCHEMA, REGEX, GBNF, LARK };

static inline enum status compile(enum kind kind, const char *source, struct grammar **out, struct error *err)
{
    struct arena arena = {0};
    struct json schema;
    enum status status = STATUS_OK;
    *out = NULL;
    if (kind == REGEX)
        return grammar_compile_regex(out, source, strlen(source), err);
    if (kind == GBNF)
        return grammar_compile_gbnf(out, source, strlen(source), err);
    if (kind == LARK)
        return grammar_compile_lark(out, source, strlen(source), err);
    cr_assert_eq(json_parse(&arena, source, strlen(source), NULL, &schema, err), STATUS_OK, "%s: %s", source, err->text);
    status = grammar_compile_schema(out, &schema, err);
    arena_free(&arena);
    return status;
}

static inline struct grammar *compiled(enum kind kind, const char *source)
{
    struct grammar *g;
    struct error err = {0};
    cr_assert_eq(compile(kind, source, &g, &err), STATUS_OK, "%s: %s", source, err.text);
    return g;
}

/* Whether the text is a beginning, and whether it is whole. A text's beginnings must be beginnings. */
static inline bool beginning(struct grammar *g, const char *text, size_t size, bool *whole)
{
    struct grammar_state *s;
    size_t taken;
    struct error err = {0};
    cr_assert_eq(grammar_state_open(&s, g, &err), STATUS_OK);
    enum status status = grammar_accept_bytes(s, text, size, &taken, &err);
    cr_assert(status == STATUS_OK || status == STATUS_USAGE, "%s", err.text);
    cr_assert(status == STATUS_OK ? taken == size : taken < size);
    *whole = !status && grammar_complete(s);
    grammar_state_close(s);
    return !status;
}

/* One language: texts that are in it and texts that are not, each list ended by NULL. */
struct language {
    enum kind kind;
    const char *source;
    const char *in[16], *out[16];
};

static inline void check_texts(struct grammar *g, const struct language *l)
{
    bool whole;
    for (int i = 0; l->in[i]; i++) {
        cr_expect(beginning(g, l->in[i], strlen(l->in[i]), &whole) && whole, "%s refuses '%s'", l->source, l->in[i]);
        for (size_t n = 0; n < strlen(l->in[i]); n++)
            cr_expect(beginning(g, l->in[i], n, &whole), "%s refuses the first %zu bytes of '%s'", l->source, n, l->in[i]);
    }
    for (int i = 0; l->out[i]; i++) {
        beginning(g, l->out[i], strlen(l->out[i]), &whole);
        cr_expect(!whole, "%s allows '%s'", l->source, l->out[i]);
    }
}

static inline void check_language(const struct language *l)
{
    struct grammar *g = compiled(l->kind, l->source);
    check_texts(g, l);
    grammar_close(g);
}

/* The source is refused, with all words in the message. */
static inline void check_refused(enum kind kind, const char *source, const char *words)
{
    struct grammar *g;
    struct error err = {0};
    cr_expect_eq(compile(kind, source, &g, &err), STATUS_BAD_INPUT, "%s was accepted", source);
    cr_expect_null(g);
    cr_expect(strstr(err.text, words), "%s: '%s' does not say '%s'", source, err.text, words);
}

#endif
