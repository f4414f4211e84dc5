#include "tokenizers/added.h"

#include <stdlib.h>
#include <string.h>

#include "tokenizers/internal.h"

enum status added_add(struct added *a, const char *text, size_t size, struct added_token token, struct error *err)
{
    if (a->count == a->capacity) {
        size_t capacity = a->capacity ? a->capacity * 2 : 64;
        struct added_token *tokens = realloc(a->tokens, capacity * sizeof *tokens);
        if (!tokens)
            return error_memory(err, "the added tokens");
        a->tokens = tokens;
        a->capacity = capacity;
    }
    enum status status = vocabulary_add(&a->texts, text, size, token.id, err);
    if (!status)
        a->tokens[a->count++] = token;
    return status;
}

static int compare_ids(const void *x, const void *y, void *tokens)
{
    const struct added_token *t = tokens;
    uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;
    return t[a].id != t[b].id ? (t[a].id < t[b].id ? -1 : 1) : a < b ? -1 : a > b;
}

const struct added_token *added_by_id(const struct added *a, int32_t id)
{
    size_t low = 0, high = a->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (a->tokens[a->order[middle]].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < a->count && a->tokens[a->order[low]].id == id ? &a->tokens[a->order[low]] : NULL;
}

const char *added_form(const struct added *a, const struct added_token *token, size_t *size)
{
    size_t i = (size_t)(token - a->tokens);
    *size = a->form_starts[i + 1] - a->form_starts[i];
    return str_text(&a->forms) + a->form_starts[i];
}

/* Tokens that are matched in normalised text are normalised themselves, by the tokenizer's own normalizers. */
static enum status make_forms(struct tokenizer *t, struct error *err)
{
    struct added *a = &t->added;
    struct scratch scratch = {0};
    struct str one = {0};
    enum status status = STATUS_OK;
    a->form_starts = calloc(a->count + 1, sizeof *a->form_starts);
    if (!a->form_starts)
        return error_memory(err, "the added tokens");
    for (size_t i = 0; i < a->count && !status; i++) {
        size_t size;
        const char *text = vocabulary_entry(&a->texts, (uint32_t)i, &size);
        if (a->tokens[i].normalized && t->normalizer_count) {
            str_clear(&one);
            status = normalize(t, &scratch, text, size, &one, err);
            text = str_text(&one);
            size = one.size;
        }
        str_add(&a->forms, text, size);
        a->form_starts[i + 1] = a->forms.size;
    }
    if (!status && a->forms.failed)
        status = error_memory(err, "the added tokens");
    str_free(&one);
    scratch_free(&scratch);
    return status;
}

enum pass { PASS_RAW, PASS_NORMALIZED, PASS_TRUSTED };

/* The automaton of one pass. */
static enum status build(struct added *a, enum pass pass, struct automaton *automaton, struct error *err)
{
    struct automaton_text *patterns = calloc(a->count + 1, sizeof *patterns);
    size_t n = 0;
    if (!patterns)
        return error_memory(err, "the added tokens");
    for (size_t i = 0; i < a->count; i++) {
        const struct added_token *token = &a->tokens[i];
        struct automaton_text *p = &patterns[n];
        if (pass == PASS_TRUSTED ? token->normalized && !token->special : token->normalized != (pass == PASS_NORMALIZED))
            continue;
        p->text = pass == PASS_NORMALIZED ? added_form(a, token, &p->size) : vocabulary_entry(&a->texts, (uint32_t)i, &p->size);
        p->pattern = (int32_t)i;
        n++;
    }
    enum status status = automaton_build(automaton, patterns, n, err);
    free(patterns);
    return status;
}

enum status added_finish(struct tokenizer *t, struct error *err)
{
    struct added *a = &t->added;
    enum status status = vocabulary_index(&a->texts, TWICE_FIRST, err);
    if (status)
        return error_prefix(err, "added_tokens");
    a->order = calloc(a->count + 1, sizeof *a->order);
    if (!a->order)
        return error_memory(err, "the added tokens");
    for (size_t i = 0; i < a->count; i++)
        a->order[i] = (uint32_t)i;
    if (a->count)
        qsort_r(a->order, a->count, sizeof *a->order, compare_ids, a->tokens);
    status = make_forms(t, err);
    if (!status)
        status = build(a, PASS_RAW, &a->raw, err);
    if (!status)
        status = build(a, PASS_NORMALIZED, &a->normalized, err);
    bool lost = false; /* special tokens that only the normalised pass would find */
    for (size_t i = 0; i < a->count; i++)
        lost |= t->normalizer_count && a->tokens[i].special && a->tokens[i].normalized;
    if (!status && lost)
        status = build(a, PASS_TRUSTED, &a->trusted, err);
    return status;
}

void added_free(struct added *a)
{
    free(a->tokens);
    free(a->order);
    free(a->form_starts);
    str_free(&a->forms);
    vocabulary_free(&a->texts);
    automaton_free(&a->raw);
    automaton_free(&a->normalized);
    automaton_free(&a->trusted);
}

static bool word_at(const char *text, size_t size)
{
    uint32_t c;
    return size && (text_next(text, size, &c), is_word(c));
}

static bool word_before(const char *text, size_t at)
{
    uint32_t c;
    if (!at)
        return false;
    size_t start = text_before(text, at);
    text_next(text + start, at - start, &c);
    return is_word(c);
}

/* May this match stand? Special tokens only where the text is allowed to spell them. */
static bool allowed(const struct added_cutter *c, const struct added_token *token, size_t start, size_t end)
{
    if (token->special && !c->marks && !c->parse_special)
        return false;
    for (size_t i = start; c->marks && token->special && i < end; i++)
        if (!c->marks[i])
            return false;
    return !token->single_word || (!word_before(c->text, start) && !word_at(c->text + end, c->size - end));
}

static size_t strip_left(const struct added_cutter *c, size_t start)
{
    while (start > c->done) {
        size_t before = text_before(c->text, start);
        uint32_t codepoint;
        text_next(c->text + before, start - before, &codepoint);
        if (!is_white(codepoint) || before < c->done)
            break;
        start = before;
    }
    return start > c->done ? start : c->done;
}

static size_t strip_right(const struct added_cutter *c, size_t end)
{
    uint32_t codepoint;
    while (end < c->size) {
        size_t n = text_next(c->text + end, c->size - end, &codepoint);
        if (!is_white(codepoint))
            break;
        end += n;
    }
    return end;
}

bool added_next(struct added_cutter *c, struct added_match *m)
{
    if (c->pending.token) {
        *m = c->pending;
        c->pending.token = NULL;
        c->done = m->end;
        return true;
    }
    int32_t pattern;
    size_t start, end;
    while (automaton_find(c->automaton, c->text, c->size, c->searched, &pattern, &start, &end, &c->steps) && !added_too_slow(c)) {
        const struct added_token *token = &c->added->tokens[pattern];
        c->searched = end;
        if (!allowed(c, token, start, end))
            continue;
        /* a match may lie in blanks that rstrip of the one before has swallowed; as in the package it stands, unless
         * lstrip leaves nothing of it */
        if (token->lstrip)
            start = strip_left(c, start);
        if (token->rstrip)
            end = strip_right(c, end);
        struct added_match found = {start, end, token};
        if (start <= c->done) {
            c->done = end;
            if (start >= end)
                continue;
            *m = found;
            return true;
        }
        c->pending = found;
        *m = (struct added_match){c->done, start, NULL};
        return true;
    }
    if (c->done >= c->size)
        return false;
    *m = (struct added_match){c->done, c->size, NULL};
    c->done = c->size;
    return true;
}
