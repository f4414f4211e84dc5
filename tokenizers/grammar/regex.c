/* A regular expression becomes a small tree, then an expression. Anchors and look-aheads are about the whole text, so groups
 * that hold them are multiplied out until they stand in the outermost sequence. */
#include "tokenizers/grammar/regex.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/utf8.h"

enum { MOST_NESTING = 200, MOST_BRANCHES = 2000, MOST_COUNT = 1000000, MOST_COPIES = 1000000000 };

enum node_kind { NODE_CHARS, NODE_SEQUENCE, NODE_CHOICE, NODE_REPEAT, NODE_START, NODE_END, NODE_LOOK };

struct node {
    enum node_kind kind;
    bool special;          /* an anchor or a look-ahead is inside */
    bool negative;         /* LOOK */
    expr chars;
    uint32_t lo, hi;       /* REPEAT */
    double copies;         /* of the innermost part, were bounds written out */
    struct node **list;    /* SEQUENCE, CHOICE; REPEAT and LOOK: one */
    uint32_t count, capacity;
};

struct parser {
    struct pool *pool;
    struct arena arena;
    const char *text;
    size_t size, at;
    struct regex_options options;
    struct error *err;
    enum status status;
    int depth;
    uint32_t branches;
};

static struct node *fail(struct parser *r, const char *what)
{
    if (!r->status)
        r->status = error_set(r->err, STATUS_BAD_INPUT, "regex \"%s\", byte %zu: %s", QUOTE(r->text, r->size), r->at, what);
    return NULL;
}

static struct node *new_node(struct parser *r, enum node_kind kind)
{
    struct node *n = r->status ? NULL : arena_alloc(&r->arena, sizeof *n);
    if (!n) {
        if (!r->status)
            r->status = error_memory(r->err, "a regex");
        return NULL;
    }
    n->kind = kind;
    return n;
}

static bool add_node(struct parser *r, struct node *to, struct node *n)
{
    if (!to || !n)
        return false;
    if (to->count == to->capacity) {
        uint32_t capacity = to->capacity ? to->capacity * 2 : 4;
        struct node **list = arena_array(&r->arena, capacity, sizeof *list);
        if (!list) {
            r->status = error_memory(r->err, "a regex");
            return false;
        }
        if (to->count)
            memcpy(list, to->list, to->count * sizeof *list);
        to->list = list;
        to->capacity = capacity;
    }
    to->list[to->count++] = n;
    to->copies = to->copies > n->copies ? to->copies : n->copies;
    to->special |= n->special;
    return true;
}

/* ---- characters ----------------------------------------------------------------------------------------------------- */

static bool hex(const char *text, size_t size, size_t at, size_t digits, uint32_t *out)
{
    *out = 0;
    if (size - at < digits)
        return false;
    for (size_t i = 0; i < digits; i++) {
        unsigned c = (unsigned char)text[at + i], value = c - '0';
        if (value > 9)
            value = (c | 32) - 'a' + 10;
        if (value > 15 || (value > 9 && (c | 32) < 'a'))
            return false;
        *out = *out << 4 | value;
    }
    return true;
}

bool escape_read(const char *text, size_t size, size_t *at, uint32_t *c)
{
    static const char names[] = "ntrfv0", values[] = "\n\t\r\f\v\0";
    if (*at >= size)
        return false;
    char letter = text[*at];
    const char *name = letter ? strchr(names, letter) : NULL;
    if (name) {
        *c = (unsigned char)values[name - names];
        ++*at;
        return true;
    }
    size_t digits = letter == 'x' ? 2 : letter == 'u' ? 4 : letter == 'U' ? 8 : 0, from = *at + 1;
    if (digits && digits < 8 && from < size && text[from] == '{') { /* \u{1F600} */
        const char *close = memchr(text + from, '}', size - from);
        size_t n = close ? (size_t)(close - text) - from - 1 : 0;
        if (n < 1 || n > 6 || !hex(text, size, from + 1, n, c))
            return false;
        *at = from + n + 2;
        return *c <= 0x10FFFF;
    }
    if (!digits || !hex(text, size, from, digits, c) || *c > 0x10FFFF)
        return false;
    *at = from + digits;
    uint32_t low;
    if (*c - 0xD800 < 0x400 && size - *at >= 6 && text[*at] == '\\' && text[*at + 1] == 'u' && hex(text, size, *at + 2, 4, &low) &&
        low - 0xDC00 < 0x400) {
        *c = 0x10000 + ((*c - 0xD800) << 10 | (low - 0xDC00));
        *at += 6;
    }
    return true;
}

/* Behind a backslash: a class into *set, or one character. */
static bool read_escape(struct parser *r, struct chars *set, uint32_t *c, bool *is_class)
{
    *is_class = false;
    if (r->at >= r->size)
        return fail(r, "nothing behind the backslash") != NULL;
    char letter = r->text[r->at];
    if (letter && strchr("dDwWsS", letter)) {
        r->at++;
        *is_class = true;
        return chars_add_class(set, letter);
    }
    if (letter >= '1' && letter <= '9')
        return fail(r, "back references cannot be constrained") != NULL;
    if (escape_read(r->text, r->size, &r->at, c))
        return true;
    if ((letter | 32) >= 'a' && (letter | 32) <= 'z')
        return fail(r, letter == 'b' || letter == 'B' ? "word boundaries (\\b) are not supported"
                       : letter == 'p' || letter == 'P' ? "Unicode properties (\\p) are not supported; write ranges"
                                                        : "an unknown escape") != NULL;
    uint32_t codepoint;
    r->at += utf8_decode(r->text + r->at, r->size - r->at, &codepoint);
    *c = codepoint;
    return true;
}

static struct node *chars_node(struct parser *r, struct chars *set)
{
    struct node *n = new_node(r, NODE_CHARS);
    if (n) {
        if (r->options.ignore_case)
            chars_fold(set);
        n->chars = chars_expr(r->pool, set, r->options.spelling);
    }
    chars_free(set);
    return n;
}

static struct node *char_node(struct parser *r, uint32_t c)
{
    struct chars set = {0};
    chars_add(&set, c, c);
    return chars_node(r, &set);
}

static bool read_one(struct parser *r, struct chars *set, uint32_t *c, bool *is_class)
{
    *is_class = false;
    if (r->text[r->at] == '\\') {
        r->at++;
        if (r->at < r->size && r->text[r->at] == 'b') { /* a backspace here */
            r->at++;
            *c = '\b';
            return true;
        }
        return read_escape(r, set, c, is_class);
    }
    r->at += utf8_decode(r->text + r->at, r->size - r->at, c);
    return true;
}

/* Behind '['. */
static struct node *read_set(struct parser *r)
{
    struct chars set = {0};
    bool negate = r->at < r->size && r->text[r->at] == '^', first = true, ok = true;
    r->at += negate;
    for (; ok && r->at < r->size && (r->text[r->at] != ']' || first); first = false) {
        uint32_t lo = 0, hi = 0;
        bool is_class, ends_range = false;
        ok = read_one(r, &set, &lo, &is_class);
        if (!ok || is_class)
            continue;
        hi = lo;
        if (r->size - r->at >= 2 && r->text[r->at] == '-' && r->text[r->at + 1] != ']') {
            size_t dash = r->at++;
            ok = read_one(r, &set, &hi, &ends_range);
            if (ok && ends_range) { /* [a-\d]: a dash of its own */
                chars_add(&set, '-', '-');
                hi = lo;
            } else if (ok && hi < lo) {
                r->at = dash;
                ok = fail(r, "a range from the larger to the smaller character") != NULL;
            }
        }
        chars_add(&set, lo, hi);
    }
    if (ok && r->at >= r->size)
        ok = fail(r, "a set [ without its ]") != NULL;
    r->at++;
    if (!ok) {
        chars_free(&set);
        return NULL;
    }
    if (r->options.ignore_case)
        chars_fold(&set);
    if (negate)
        chars_negate(&set);
    struct node *n = new_node(r, NODE_CHARS);
    if (n)
        n->chars = chars_expr(r->pool, &set, r->options.spelling);
    chars_free(&set);
    return n;
}

static struct node *any_node(struct parser *r)
{
    struct chars set = {0};
    if (!r->options.dot_all)
        chars_add(&set, '\n', '\n');
    chars_negate(&set);
    return chars_node(r, &set);
}

/* ---- structure ------------------------------------------------------------------------------------------------------ */

static struct node *read_choice(struct parser *r);

static bool starts(struct parser *r, const char *text)
{
    size_t n = strlen(text);
    if (r->size - r->at < n || memcmp(r->text + r->at, text, n) != 0)
        return false;
    r->at += n;
    return true;
}

/* Flags of (?i) and (?i:...). */
static bool read_flags(struct parser *r)
{
    for (bool on = true; r->at < r->size && r->text[r->at] != ')' && r->text[r->at] != ':'; r->at++) {
        switch (r->text[r->at]) {
        case '-':
            on = false;
            break;
        case 'i':
            r->options.ignore_case = on;
            break;
        case 's':
            r->options.dot_all = on;
            break;
        case 'a':
        case 'u':
            break;
        default:
            return fail(r, "an unknown kind of group") != NULL;
        }
    }
    return true;
}

/* Behind '('. */
static struct node *read_group(struct parser *r)
{
    struct regex_options before = r->options;
    struct node *n = NULL, *inside;
    bool closed = false;
    if (++r->depth > MOST_NESTING)
        return fail(r, "nested too deeply");
    if (starts(r, "?=") || starts(r, "?!")) {
        n = new_node(r, NODE_LOOK);
        if (n)
            n->negative = r->text[r->at - 1] == '!';
    } else if (starts(r, "?<=") || starts(r, "?<!")) {
        return fail(r, "look-behind is not supported");
    } else if (starts(r, "?>")) {
        return fail(r, "atomic groups are not supported");
    } else if (starts(r, "?P<") || starts(r, "?<")) {
        const char *end = memchr(r->text + r->at, '>', r->size - r->at);
        if (!end)
            return fail(r, "a group's name without its >");
        r->at = (size_t)(end - r->text) + 1;
    } else if (starts(r, "?P")) {
        return fail(r, "references to groups cannot be constrained");
    } else if (starts(r, "?#")) {
        const char *end = memchr(r->text + r->at, ')', r->size - r->at);
        r->at = end ? (size_t)(end - r->text) : r->size;
    } else if (starts(r, "?:")) {
        ;
    } else if (starts(r, "?")) {
        if (!read_flags(r))
            return NULL;
        if (r->at < r->size && r->text[r->at] == ')') { /* for the rest of the enclosing group */
            r->at++;
            r->depth--;
            return new_node(r, NODE_SEQUENCE);
        }
        r->at++;
    }
    inside = read_choice(r);
    closed = r->at < r->size && r->text[r->at] == ')';
    if (!closed)
        return fail(r, "a group ( without its )");
    r->at++;
    r->depth--;
    r->options = before;
    if (!n)
        return inside;
    add_node(r, n, inside);
    n->special = true;
    return n;
}

static struct node *anchor(struct parser *r, enum node_kind kind)
{
    struct node *n = new_node(r, kind);
    if (n)
        n->special = true;
    return n;
}

static struct node *read_atom(struct parser *r)
{
    struct chars set = {0};
    uint32_t c;
    bool is_class;
    switch (r->text[r->at++]) {
    case '(':
        return read_group(r);
    case '[':
        return read_set(r);
    case '.':
        return any_node(r);
    case '^':
        return anchor(r, NODE_START);
    case '$':
        return anchor(r, NODE_END);
    case '*':
    case '+':
    case '?':
        r->at--;
        return fail(r, "a repetition of nothing");
    case '\\':
        if (r->at < r->size && strchr("AzZ", r->text[r->at]) && r->text[r->at])
            return anchor(r, r->text[r->at++] == 'A' ? NODE_START : NODE_END);
        if (!read_escape(r, &set, &c, &is_class)) {
            chars_free(&set);
            return NULL;
        }
        if (!is_class)
            chars_add(&set, c, c);
        return chars_node(r, &set);
    }
    r->at--;
    r->at += utf8_decode(r->text + r->at, r->size - r->at, &c);
    return char_node(r, c);
}

static bool read_number(struct parser *r, uint32_t *out)
{
    size_t from = r->at;
    *out = 0;
    for (; r->at < r->size && r->text[r->at] >= '0' && r->text[r->at] <= '9'; r->at++)
        *out = *out > MOST_COUNT ? *out : *out * 10 + (uint32_t)(r->text[r->at] - '0');
    return r->at > from;
}

/* {n} {n,} {n,m} {,m}; anything else behind { is text. */
static bool read_bounds(struct parser *r, uint32_t *lo, uint32_t *hi)
{
    size_t from = r->at++;
    bool low = read_number(r, lo), high = low;
    *hi = *lo;
    if (r->at < r->size && r->text[r->at] == ',') {
        r->at++;
        high = read_number(r, hi);
        if (!high)
            *hi = UNLIMITED;
        high |= low;
    }
    if (high && r->at < r->size && r->text[r->at] == '}') {
        r->at++;
        return true;
    }
    r->at = from;
    return false;
}

static struct node *read_repeated(struct parser *r)
{
    struct node *n = read_atom(r);
    while (n && r->at < r->size) {
        uint32_t lo = 0, hi = UNLIMITED;
        char c = r->text[r->at];
        if (c == '*' || c == '+' || c == '?') {
            lo = c == '+';
            hi = c == '?' ? 1 : UNLIMITED;
            r->at++;
        } else if (c != '{' || !read_bounds(r, &lo, &hi)) {
            break;
        }
        if (lo > MOST_COUNT || (hi != UNLIMITED && hi > MOST_COUNT))
            return fail(r, "a repetition count above 1000000");
        if (lo > hi)
            return fail(r, "a repetition whose least count is above its most");
        if (r->at < r->size && r->text[r->at] == '?')
            r->at++; /* lazy: the same texts */
        else if (r->at < r->size && r->text[r->at] == '+')
            return fail(r, "possessive repetition is not supported");
        struct node *repeat = new_node(r, NODE_REPEAT);
        if (!add_node(r, repeat, n))
            return NULL;
        repeat->lo = lo;
        repeat->hi = hi;
        repeat->copies = (n->copies > 1 ? n->copies : 1) * (hi == UNLIMITED ? lo > 1 ? lo : 1 : hi);
        if (repeat->copies > MOST_COPIES)
            return fail(r, "repetitions within repetitions that multiply to over 10^9");
        n = repeat;
    }
    return n;
}

static struct node *read_choice(struct parser *r)
{
    struct node *choice = new_node(r, NODE_CHOICE), *sequence = new_node(r, NODE_SEQUENCE);
    struct regex_options before = r->options;
    while (!r->status && r->at < r->size && r->text[r->at] != ')') {
        if (r->text[r->at] == '|') {
            r->at++;
            add_node(r, choice, sequence);
            sequence = new_node(r, NODE_SEQUENCE);
        } else {
            add_node(r, sequence, read_repeated(r));
        }
    }
    r->options.ignore_case = before.ignore_case; /* a flag in the middle ends with its group */
    r->options.dot_all = before.dot_all;
    if (r->status || !choice)
        return NULL;
    if (!choice->count)
        return sequence;
    return add_node(r, choice, sequence) ? choice : NULL;
}

/* ---- to expressions ------------------------------------------------------------------------------------------------- */

/* Without anchors and look-aheads. */
static expr plain(struct parser *r, const struct node *n)
{
    struct pool *p = r->pool;
    expr e = NONE;
    switch (n->kind) {
    case NODE_CHARS:
        return n->chars;
    case NODE_SEQUENCE:
        e = EMPTY;
        for (uint32_t i = n->count; i-- > 0;)
            e = expr_concat(p, plain(r, n->list[i]), e);
        return e;
    case NODE_CHOICE:
        for (uint32_t i = 0; i < n->count; i++)
            e = expr_or2(p, e, plain(r, n->list[i]));
        return e;
    case NODE_REPEAT:
        return expr_repeat(p, plain(r, n->list[0]), n->lo, n->hi);
    default:
        return NONE;
    }
}

static expr anything(struct parser *r) { return expr_repeat(r->pool, chars_any(r->pool, r->options.spelling), 0, UNLIMITED); }

static expr branch(struct parser *r, struct node *const *list, uint32_t count, bool left, bool right);

/* list with its node `at` replaced. */
static expr replaced(struct parser *r, struct node *const *list, uint32_t count, uint32_t at, struct node *const *by, uint32_t by_count,
                     bool left, bool right)
{
    struct node **all = arena_array(&r->arena, (size_t)count + by_count, sizeof *all);
    if (++r->branches > MOST_BRANCHES || r->depth > MOST_NESTING) {
        fail(r, "too many alternatives hold anchors");
        return NONE;
    }
    if (!all) {
        r->status = error_memory(r->err, "a regex");
        return NONE;
    }
    if (at)
        memcpy(all, list, at * sizeof *all);
    if (by_count)
        memcpy(all + at, by, by_count * sizeof *all);
    memcpy(all + at + by_count, list + at + 1, (count - at - 1) * sizeof *all);
    r->depth++;
    expr e = branch(r, all, count - 1 + by_count, left, right);
    r->depth--;
    return e;
}

static expr expand(struct parser *r, struct node *const *list, uint32_t count, uint32_t at, bool left, bool right)
{
    struct node *n = list[at];
    if (n->kind == NODE_SEQUENCE)
        return replaced(r, list, count, at, n->list, n->count, left, right);
    if (n->kind == NODE_CHOICE) {
        expr e = NONE;
        for (uint32_t i = 0; i < n->count && !r->status; i++)
            e = expr_or2(r->pool, e, replaced(r, list, count, at, &n->list[i], 1, left, right));
        return e;
    }
    if (n->kind == NODE_REPEAT && n->hi == 1) { /* {0,1}: without and with */
        expr e = n->lo ? NONE : replaced(r, list, count, at, NULL, 0, left, right);
        return expr_or2(r->pool, e, replaced(r, list, count, at, n->list, 1, left, right));
    }
    fail(r, "an anchor or a look-ahead inside of a repetition");
    return NONE;
}

/* All of list may be empty. */
static bool may_vanish(struct parser *r, struct node *const *list, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (list[i]->special && (list[i]->kind == NODE_START || list[i]->kind == NODE_END))
            continue;
        expr e = list[i]->special ? NONE : plain(r, list[i]); /* which may move the nodes */
        if (!r->pool->nodes[e].nullable)
            return false;
    }
    return true;
}

/* A sequence at the top level; left, right: nothing may stand before or behind it. */
static expr branch(struct parser *r, struct node *const *list, uint32_t count, bool left, bool right)
{
    struct pool *p = r->pool;
    uint32_t at = 0;
    if (r->status)
        return NONE;
    while (at < count && !list[at]->special)
        at++;
    if (at < count && list[at]->kind == NODE_START)
        return may_vanish(r, list, at) ? branch(r, list + at + 1, count - at - 1, true, right) : NONE;
    if (at < count && list[at]->kind == NODE_END) {
        for (uint32_t i = at + 1; i < count; i++)
            if (list[i]->special && list[i]->kind != NODE_END) {
                fail(r, "something stands behind an end anchor");
                return NONE;
            }
        return may_vanish(r, list + at + 1, count - at - 1) ? branch(r, list, at, left, true) : NONE;
    }
    if (at < count && list[at]->kind != NODE_LOOK)
        return expand(r, list, count, at, left, right);
    expr e;
    if (at < count) {
        struct node *look = list[at];
        expr rest = branch(r, list + at + 1, count - at - 1, true, right), ahead = branch(r, look->list, 1, true, false);
        e = look->negative ? expr_minus(p, rest, ahead) : expr_and2(p, rest, ahead);
    } else {
        e = right ? EMPTY : anything(r);
    }
    while (at-- > 0)
        e = expr_concat(p, plain(r, list[at]), e);
    return left ? e : expr_concat(p, anything(r), e);
}

enum status regex_expr(struct pool *p, const char *text, size_t size, struct regex_options options, expr *out, struct error *err)
{
    struct parser r = {.pool = p, .text = text, .size = size, .options = options, .err = err};
    *out = NONE;
    struct node *top = read_choice(&r);
    if (!r.status && r.at < size)
        fail(&r, "a ) without its (");
    if (!r.status && top) {
        r.options = options;
        *out = branch(&r, &top, 1, !options.search, !options.search);
    }
    arena_free(&r.arena);
    return r.status;
}
