#include "tokenizers/grammar/chars.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"

enum { LAST = 0x10FFFF, SURROGATES = 0xD800, SURROGATES_END = 0xDFFF, MOST_FOLDED = 4096 };

void chars_add(struct chars *c, uint32_t lo, uint32_t hi)
{
    if (c->count == c->capacity) {
        uint32_t capacity = c->capacity ? c->capacity * 2 : 8;
        struct char_range *ranges = realloc(c->ranges, capacity * sizeof *ranges);
        if (!ranges) {
            c->failed = true;
            return;
        }
        c->ranges = ranges;
        c->capacity = capacity;
    }
    c->ranges[c->count++] = (struct char_range){lo, hi};
}

void chars_add_all(struct chars *c, const struct chars *other)
{
    for (uint32_t i = 0; i < other->count; i++)
        chars_add(c, other->ranges[i].lo, other->ranges[i].hi);
}

void chars_free(struct chars *c)
{
    free(c->ranges);
    *c = (struct chars){0};
}

static int compare_ranges(const void *a, const void *b)
{
    const struct char_range *x = a, *y = b;
    return (x->lo > y->lo) - (x->lo < y->lo);
}

/* Sorted, apart from each other. */
static void normalise(struct chars *c)
{
    uint32_t kept = 0;
    if (c->count)
        qsort(c->ranges, c->count, sizeof *c->ranges, compare_ranges);
    for (uint32_t i = 0; i < c->count; i++) {
        struct char_range r = c->ranges[i];
        if (kept && r.lo <= c->ranges[kept - 1].hi + 1) {
            if (r.hi > c->ranges[kept - 1].hi)
                c->ranges[kept - 1].hi = r.hi;
        } else {
            c->ranges[kept++] = r;
        }
    }
    c->count = kept;
}

void chars_negate(struct chars *c)
{
    struct chars out = {.failed = c->failed};
    uint32_t next = 0;
    normalise(c);
    for (uint32_t i = 0; i < c->count; i++) {
        if (c->ranges[i].lo > next)
            chars_add(&out, next, c->ranges[i].lo - 1);
        next = c->ranges[i].hi + 1;
    }
    if (next <= LAST)
        chars_add(&out, next, LAST);
    chars_free(c);
    *c = out;
}

void chars_fold(struct chars *c)
{
    uint32_t folded = 0, count = c->count;
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t x = c->ranges[i].lo; x <= c->ranges[i].hi && x <= LAST && folded < MOST_FOLDED; x++, folded++) {
            uint32_t lower = (uint32_t)utf8proc_tolower((utf8proc_int32_t)x), upper = (uint32_t)utf8proc_toupper((utf8proc_int32_t)x);
            if (lower != x)
                chars_add(c, lower, lower);
            if (upper != x)
                chars_add(c, upper, upper);
        }
}

bool chars_add_class(struct chars *c, char letter)
{
    struct chars own = {0};
    switch (letter | 0x20) {
    case 'd':
        chars_add(&own, '0', '9');
        break;
    case 'w':
        chars_add(&own, '0', '9');
        chars_add(&own, 'A', 'Z');
        chars_add(&own, '_', '_');
        chars_add(&own, 'a', 'z');
        break;
    case 's':
        chars_add(&own, '\t', '\r');
        chars_add(&own, ' ', ' ');
        break;
    default:
        return false;
    }
    if (!(letter & 0x20))
        chars_negate(&own);
    chars_add_all(c, &own);
    c->failed |= own.failed;
    chars_free(&own);
    return true;
}

/* ---- bytes ---------------------------------------------------------------------------------------------------------- */

static expr byte_range(struct pool *p, unsigned lo, unsigned hi)
{
    struct byte_set set = {{0}};
    for (unsigned b = lo; b <= hi; b++)
        set.word[b >> 6] |= 1ull << (b & 63);
    return expr_bytes(p, &set);
}

/* Characters of one encoded length, from the bytes lo to the bytes hi. */
static expr encoded(struct pool *p, const unsigned char *lo, const unsigned char *hi, size_t n)
{
    static const unsigned char least[3] = {0x80, 0x80, 0x80}, most[3] = {0xBF, 0xBF, 0xBF};
    if (n == 1)
        return byte_range(p, lo[0], hi[0]);
    if (lo[0] == hi[0])
        return expr_concat(p, byte_range(p, lo[0], lo[0]), encoded(p, lo + 1, hi + 1, n - 1));
    expr e = NONE;
    unsigned first = lo[0], last = hi[0];
    if (memcmp(lo + 1, least, n - 1) != 0)
        e = expr_or2(p, e, expr_concat(p, byte_range(p, first, first), encoded(p, lo + 1, most, n - 1))), first++;
    if (memcmp(hi + 1, most, n - 1) != 0)
        e = expr_or2(p, e, expr_concat(p, byte_range(p, last, last), encoded(p, least, hi + 1, n - 1))), last--;
    if (first <= last)
        e = expr_or2(p, e, expr_concat(p, byte_range(p, first, last), encoded(p, least, most, n - 1)));
    return e;
}

static expr utf8_range(struct pool *p, uint32_t lo, uint32_t hi)
{
    static const uint32_t ends[] = {0x7F, 0x7FF, 0xFFFF, LAST};
    expr e = NONE;
    for (int i = 0; i < 4; i++) {
        uint32_t first = i ? ends[i - 1] + 1 : 0, from = lo > first ? lo : first, to = hi < ends[i] ? hi : ends[i];
        char a[4], b[4];
        if (from > to)
            continue;
        size_t n = utf8_encode(from, a);
        utf8_encode(to, b);
        e = expr_or2(p, e, encoded(p, (unsigned char *)a, (unsigned char *)b, n));
    }
    return e;
}

/* A range without surrogates: they are no characters. */
static expr plain_range(struct pool *p, uint32_t lo, uint32_t hi)
{
    if (hi > LAST)
        hi = LAST;
    if (lo > hi)
        return NONE;
    if (hi < SURROGATES || lo > SURROGATES_END)
        return utf8_range(p, lo, hi);
    expr e = lo < SURROGATES ? utf8_range(p, lo, SURROGATES - 1) : NONE;
    return expr_or2(p, e, hi > SURROGATES_END ? utf8_range(p, SURROGATES_END + 1, hi) : NONE);
}

static expr hex_digit(struct pool *p, unsigned lo, unsigned hi)
{
    expr e = lo <= 9 ? byte_range(p, '0' + lo, '0' + (hi < 9 ? hi : 9)) : NONE;
    if (hi > 9) {
        unsigned from = lo > 10 ? lo - 10 : 0;
        e = expr_or2(p, e, byte_range(p, 'a' + from, 'a' + hi - 10));
        e = expr_or2(p, e, byte_range(p, 'A' + from, 'A' + hi - 10));
    }
    return e;
}

static expr escaped(struct pool *p, uint32_t c)
{
    static const char letters[] = "\"\\\b\f\n\r\t", names[] = "\"\\bfnrt";
    const char *at = c ? strchr(letters, (int)c) : NULL;
    if (at)
        return expr_text(p, (char[]){'\\', names[at - letters]}, 2);
    return expr_concat(p, expr_text(p, "\\u00", 4), expr_concat(p, hex_digit(p, c >> 4, c >> 4), hex_digit(p, c & 15, c & 15)));
}

static bool needs_escape(uint32_t c) { return c < 0x20 || c == '"' || c == '\\'; }

static expr json_range(struct pool *p, uint32_t lo, uint32_t hi)
{
    expr e = NONE;
    uint32_t from = lo;
    for (uint32_t c = lo; c <= hi && c <= '\\'; c++)
        if (needs_escape(c)) {
            e = expr_or2(p, e, escaped(p, c));
            if (c > from)
                e = expr_or2(p, e, plain_range(p, from, c - 1));
            from = c + 1;
        }
    return expr_or2(p, e, from <= hi ? plain_range(p, from, hi) : NONE);
}

expr chars_expr(struct pool *p, const struct chars *c, enum spelling spelling)
{
    struct chars own = {0};
    expr e = NONE;
    chars_add_all(&own, c);
    normalise(&own);
    if (own.failed || c->failed)
        pool_fail(p, STATUS_NO_ROOM, "the grammar needs too much memory");
    for (uint32_t i = 0; i < own.count; i++)
        e = expr_or2(p, e, spelling == SPELL_JSON ? json_range(p, own.ranges[i].lo, own.ranges[i].hi)
                                                  : plain_range(p, own.ranges[i].lo, own.ranges[i].hi));
    chars_free(&own);
    return e;
}

expr chars_any(struct pool *p, enum spelling spelling)
{
    return spelling == SPELL_JSON ? json_range(p, 0, LAST) : plain_range(p, 0, LAST);
}

expr chars_text(struct pool *p, const char *text, size_t size, enum spelling spelling)
{
    if (spelling == SPELL_UTF8)
        return expr_text(p, text, size);
    expr e = EMPTY;
    while (size > 0) {
        unsigned char c = (unsigned char)text[--size];
        e = expr_concat(p, c < 0x80 && needs_escape(c) ? escaped(p, c) : expr_byte(p, c), e);
    }
    return e;
}

expr chars_json(struct pool *p)
{
    expr hex = hex_digit(p, 0, 15), raw = NONE, two = expr_concat(p, hex, hex), named;
    struct byte_set names = {{0}};
    for (const char *n = "\"\\/bfnrt"; *n; n++)
        names.word[*n >> 6] |= 1ull << (*n & 63);
    named = expr_bytes(p, &names);
    raw = expr_or(p, (expr[]){plain_range(p, 0x20, '"' - 1), plain_range(p, '"' + 1, '\\' - 1), plain_range(p, '\\' + 1, LAST)}, 3);
    /* \uXXXX but for surrogates, then pairs of surrogates */
    expr d = hex_digit(p, 13, 13), not_d = expr_or2(p, hex_digit(p, 0, 12), hex_digit(p, 14, 15));
    expr single = expr_or2(p, expr_concat(p, not_d, expr_concat(p, hex, two)), expr_concat(p, d, expr_concat(p, hex_digit(p, 0, 7), two)));
    expr high = expr_concat(p, d, expr_concat(p, hex_digit(p, 8, 11), two));
    expr low = expr_concat(p, expr_text(p, "\\u", 2), expr_concat(p, d, expr_concat(p, hex_digit(p, 12, 15), two)));
    expr coded = expr_concat(p, expr_byte(p, 'u'), expr_or2(p, single, expr_concat(p, high, low)));
    return expr_or2(p, raw, expr_concat(p, expr_byte(p, '\\'), expr_or2(p, named, coded)));
}
