#include "tokenizers/grammar/reader.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizers/hash.h"

expr reader_fail(struct reader *r, const char *format, ...)
{
    char words[400];
    va_list args;
    size_t line = 1;
    if (r->status)
        return NONE;
    for (size_t i = 0; i < r->at && i < r->size; i++)
        line += r->text[i] == '\n';
    va_start(args, format);
    vsnprintf(words, sizeof words, format, args);
    va_end(args);
    r->status = error_set(r->err, STATUS_BAD_INPUT, "%s grammar, line %zu: %s", r->format, line, words);
    return NONE;
}

void reader_free(struct reader *r)
{
    arena_free(&r->arena);
    free(r->names);
    free(r->index);
}

bool reader_take(struct reader *r, const char *text)
{
    size_t n = strlen(text);
    if (r->at > r->size || r->size - r->at < n || memcmp(r->text + r->at, text, n) != 0)
        return false;
    r->at += n;
    return true;
}

bool reader_number(struct reader *r, uint32_t *out)
{
    size_t from = r->at;
    uint64_t value = 0;
    for (; reader_peek(r, 0) >= '0' && reader_peek(r, 0) <= '9'; r->at++)
        value = value > READER_COUNT ? value : value * 10 + (uint64_t)(reader_peek(r, 0) - '0');
    if (value > READER_COUNT)
        reader_fail(r, "a repetition count above %d", READER_COUNT);
    *out = (uint32_t)value;
    return r->at > from && !r->status;
}

static bool grow_index(struct reader *r)
{
    if (r->index && (uint64_t)r->name_count * 2 < r->index_mask)
        return true;
    uint32_t mask = r->index ? r->index_mask * 2 + 1 : 63, *index = calloc((size_t)mask + 1, sizeof *index);
    if (!index)
        return false;
    for (uint32_t i = 0; i < r->name_count; i++) {
        uint32_t at = (uint32_t)hash_text(r->names[i].text, r->names[i].size, hash_seed()) & mask;
        while (index[at])
            at = (at + 1) & mask;
        index[at] = i + 1;
    }
    free(r->index);
    r->index = index;
    r->index_mask = mask;
    return true;
}

uint32_t reader_name(struct reader *r, const char *text, size_t size)
{
    if (!grow_index(r) || !pool_grow(r->pool, &r->names, &r->name_capacity, r->name_count + 1, sizeof *r->names)) {
        pool_fail(r->pool, STATUS_NO_ROOM, "the grammar needs too much memory");
        return UINT32_MAX;
    }
    uint32_t at = (uint32_t)hash_text(text, size, hash_seed()) & r->index_mask;
    for (; r->index[at]; at = (at + 1) & r->index_mask) {
        const struct name *n = &r->names[r->index[at] - 1];
        if (n->size == size && memcmp(n->text, text, size) == 0)
            return r->index[at] - 1;
    }
    r->names[r->name_count] = (struct name){.text = text, .size = size, .used = r->at, .rule = pool_rule(r->pool)};
    r->index[at] = ++r->name_count;
    return r->name_count - 1;
}

static bool read_bounds(struct reader *r, uint32_t *lo, uint32_t *hi)
{
    r->at++;
    while (reader_peek(r, 0) == ' ')
        r->at++;
    bool low = reader_number(r, lo);
    *hi = *lo;
    while (reader_peek(r, 0) == ' ')
        r->at++;
    if (reader_take(r, ",")) {
        while (reader_peek(r, 0) == ' ')
            r->at++;
        if (!reader_number(r, hi))
            *hi = UNLIMITED;
        low = low || *hi != UNLIMITED;
    }
    while (reader_peek(r, 0) == ' ')
        r->at++;
    if (!low || !reader_take(r, "}"))
        return reader_fail(r, "expected a count {n}, {n,} or {n,m}") != NONE;
    if (*lo > *hi)
        return reader_fail(r, "a repetition whose least count is above its most") != NONE;
    return !r->status;
}

expr reader_repeat(struct reader *r, expr e)
{
    for (;;) {
        uint32_t lo = 0, hi = UNLIMITED;
        char c = reader_peek(r, 0);
        if (c == '*' || c == '+' || c == '?') {
            lo = c == '+';
            hi = c == '?' ? 1 : UNLIMITED;
            r->at++;
        } else if (c != '{' || !read_bounds(r, &lo, &hi)) {
            return e;
        }
        e = expr_repeat(r->pool, e, lo, hi);
    }
}
