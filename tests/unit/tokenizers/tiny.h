/* Tiny tokenizers written in the tests themselves. */
#ifndef TESTS_TOKENIZERS_TINY_H
#define TESTS_TOKENIZERS_TINY_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tokenizers/internal.h"

static inline struct tokenizer *tiny_open(const char *json)
{
    struct tokenizer *t;
    struct error err = {0};
    cr_assert_eq(tokenizer_open_memory(&t, "tiny.json", json, strlen(json), &err), STATUS_OK, "%s", err.text);
    return t;
}

/* The file must be refused, with all of these words in the message. */
static inline void tiny_refused(const char *json, const char *word)
{
    struct tokenizer *t = NULL;
    struct error err = {0};
    cr_assert_eq(tokenizer_open_memory(&t, "tiny.json", json, strlen(json), &err), STATUS_BAD_INPUT, "%s was accepted", json);
    cr_assert_null(t);
    cr_assert(strstr(err.text, word), "\"%s\" does not name %s", err.text, word);
}

static inline void tiny_expect_sized(const struct tokenizer *t, const char *text, size_t size, struct encode_options how, const char *want)
{
    struct ids ids = {0};
    struct error err = {0};
    struct str got = {0};
    cr_assert_eq(tokenizer_encode(t, text, size, how, &ids, &err), STATUS_OK, "%s", err.text);
    for (size_t i = 0; i < ids.count; i++) {
        size_t n;
        const char *piece = token_text(t, ids.data[i], &n);
        if (i)
            str_add_char(&got, '|');
        str_add(&got, piece, n);
    }
    cr_expect_str_eq(str_text(&got), want, "\"%s\": %s, expected %s", text, str_text(&got), want);
    ids_free(&ids);
    str_free(&got);
}

/* text as the spellings of its tokens, joined by '|'. */
static inline void tiny_expect(const struct tokenizer *t, const char *text, const char *want)
{
    tiny_expect_sized(t, text, strlen(text), (struct encode_options){0}, want);
}

#define MODEL(extra, vocab, merges) "\"model\": {\"type\": \"BPE\", " extra "\"vocab\": {" vocab "}, \"merges\": [" merges "]}"

#endif
