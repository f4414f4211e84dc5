/* GBNF, llama.cpp's notation of grammars (grammars/README.md there). Rules may call themselves on the left, too. */
#include <string.h>

#include "base/utf8.h"
#include "tokenizers/grammar/frontends.h"
#include "tokenizers/grammar/reader.h"
#include "tokenizers/grammar/regex.h"

static bool is_name(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_'; }

static void skip_blank(struct reader *r, bool lines)
{
    for (;;) {
        char c = reader_peek(r, 0);
        if (c == '#')
            while (r->at < r->size && reader_peek(r, 0) != '\n' && reader_peek(r, 0) != '\r')
                r->at++;
        else if (r->at < r->size && (c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r'))))
            r->at++;
        else
            return;
    }
}

static uint32_t read_char(struct reader *r)
{
    uint32_t c = 0;
    if (reader_peek(r, 0) == '\\') {
        r->at++;
        char next = reader_peek(r, 0);
        if (escape_read(r->text, r->size, &r->at, &c))
            return c;
        if (!next || !strchr("\\\"[]^-.|/'", next)) {
            reader_fail(r, "an unknown escape \\%s", QUOTE(&next, 1));
            return 0;
        }
    }
    r->at += utf8_decode(r->text + r->at, r->size - r->at, &c);
    return c;
}

/* Behind the opening quote. */
static expr read_text(struct reader *r)
{
    struct str text = {0};
    while (r->at < r->size && reader_peek(r, 0) != '"' && !r->status) {
        char bytes[4];
        str_add(&text, bytes, utf8_encode(read_char(r), bytes));
    }
    if (!reader_take(r, "\""))
        reader_fail(r, "a text without its closing quote");
    if (text.failed)
        pool_fail(r->pool, STATUS_NO_ROOM, "the grammar needs too much memory");
    expr e = expr_text(r->pool, str_text(&text), text.size);
    str_free(&text);
    return e;
}

/* Behind '['. */
static expr read_class(struct reader *r)
{
    struct chars set = {0};
    bool negate = reader_take(r, "^");
    while (r->at < r->size && reader_peek(r, 0) != ']' && !r->status) {
        uint32_t lo = read_char(r), hi = lo;
        if (reader_peek(r, 0) == '-' && reader_peek(r, 1) != ']') {
            r->at++;
            if (r->at < r->size)
                hi = read_char(r);
        }
        if (hi < lo)
            reader_fail(r, "a range from the larger to the smaller character");
        chars_add(&set, lo, hi);
    }
    if (!reader_take(r, "]"))
        reader_fail(r, "a class [ without its ]");
    if (negate)
        chars_negate(&set);
    expr e = chars_expr(r->pool, &set, SPELL_UTF8);
    chars_free(&set);
    return e;
}

static expr read_choice(struct reader *r, bool nested);

static expr read_token(struct reader *r)
{
    if (reader_peek(r, 0) == '[' || reader_peek(r, 0) == '!')
        return reader_fail(r, "tokens by number or exclusion (<[id]>, !<...>) are not supported; name a special token as <text>");
    const char *end = memchr(r->text + r->at, '>', r->size - r->at);
    if (!end)
        return reader_fail(r, "a token < without its >");
    size_t from = r->at - 1;
    r->at = (size_t)(end - r->text) + 1;
    return special_token(r->pool, r->text + from, r->at - from);
}

static expr read_element(struct reader *r)
{
    if (reader_take(r, "\""))
        return read_text(r);
    if (reader_take(r, "["))
        return read_class(r);
    if (reader_take(r, "."))
        return chars_any(r->pool, SPELL_UTF8);
    if (reader_take(r, "!<"))
        return reader_fail(r, "excluded tokens (!<...>) are not supported");
    if (reader_take(r, "<"))
        return read_token(r);
    if (reader_take(r, "(")) {
        if (++r->depth > READER_NESTING)
            return reader_fail(r, "nested too deeply");
        skip_blank(r, true);
        expr e = read_choice(r, true);
        if (!reader_take(r, ")"))
            return reader_fail(r, "a group ( without its )");
        r->depth--;
        return e;
    }
    size_t from = r->at;
    while (is_name(reader_peek(r, 0)))
        r->at++;
    if (r->at == from)
        return reader_fail(r, "expected a text, a class, a rule or a group, not '%s'", QUOTE(r->text + from, 1));
    uint32_t name = reader_name(r, r->text + from, r->at - from);
    return name == UINT32_MAX ? NONE : expr_call(r->pool, r->names[name].rule);
}

static bool sequence_ends(const struct reader *r)
{
    char c = reader_peek(r, 0);
    return r->at >= r->size || c == '|' || c == ')' || c == '\n' || c == '\r';
}

static expr read_sequence(struct reader *r, bool nested)
{
    expr e = EMPTY;
    while (!sequence_ends(r) && !r->status) {
        expr next = read_element(r);
        e = expr_concat(r->pool, e, reader_repeat(r, next));
        skip_blank(r, nested);
    }
    return e;
}

static expr read_choice(struct reader *r, bool nested)
{
    expr e = read_sequence(r, nested);
    while (!r->status && reader_take(r, "|")) {
        skip_blank(r, true);
        e = expr_or2(r->pool, e, read_sequence(r, nested));
    }
    return e;
}

static void read_rule(struct reader *r)
{
    size_t from = r->at;
    while (is_name(reader_peek(r, 0)))
        r->at++;
    if (r->at == from) {
        reader_fail(r, "expected a rule's name, not '%s'", QUOTE(r->text + from, 1));
        return;
    }
    size_t end = r->at;
    skip_blank(r, false);
    if (!reader_take(r, "::=")) {
        reader_fail(r, "expected ::= behind '%s'", QUOTE(r->text + from, end - from));
        return;
    }
    uint32_t name = reader_name(r, r->text + from, end - from);
    skip_blank(r, true);
    if (name == UINT32_MAX)
        return;
    if (r->names[name].body) {
        reader_fail(r, "rule '%s' is defined twice", QUOTE(r->text + from, end - from));
        return;
    }
    r->names[name].body = r->at;
    expr body = read_choice(r, false);
    r->pool->rules[r->names[name].rule].body = body;
    if (!sequence_ends(r) || reader_peek(r, 0) == ')')
        reader_fail(r, "unexpected '%s'", QUOTE(r->text + r->at, r->at < r->size));
    skip_blank(r, true);
}

enum status gbnf_rules(struct pool *p, const char *text, size_t size, expr *out, struct error *err)
{
    struct reader r = {.pool = p, .format = "GBNF", .text = text, .size = size, .err = err};
    uint32_t root = reader_name(&r, "root", 4);
    *out = NONE;
    skip_blank(&r, true);
    while (!r.status && !p->failed && r.at < r.size)
        read_rule(&r);
    for (uint32_t i = 0; i < r.name_count && !r.status; i++)
        if (!r.names[i].body) {
            r.at = r.names[i].used;
            reader_fail(&r, "rule '%s' is not defined", QUOTE(r.names[i].text, r.names[i].size));
        }
    if (!r.status && root != UINT32_MAX)
        *out = expr_call(p, r.names[root].rule);
    reader_free(&r);
    return r.status;
}
