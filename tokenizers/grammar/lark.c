/* Lark's notation, the part that llguidance documents: rules in small letters, terminals in capitals, texts, regexes, ranges,
 * %ignore, %import common, %json. All of it is read as one language; no lexer runs before, so a terminal may match less than
 * it could where only that fits. What is ignored may stand behind every terminal. */
#include <string.h>

#include "base/utf8.h"
#include "tokenizers/grammar/frontends.h"
#include "tokenizers/grammar/reader.h"
#include "tokenizers/grammar/regex.h"

struct lark {
    struct reader r;
    expr ignored; /* any number of what is ignored */
    bool terminal; /* the body being read is a terminal's */
};

/* %import common.NAME: Lark's own grammars/common.lark as regexes. */
static const struct {
    const char *name, *regex;
} common[] = {
    {"DIGIT", "[0-9]"}, {"HEXDIGIT", "[a-fA-F0-9]"}, {"INT", "[0-9]+"}, {"SIGNED_INT", "[+-]?[0-9]+"},
    {"DECIMAL", "[0-9]+\\.[0-9]*|\\.[0-9]+"}, {"FLOAT", "[0-9]+[eE][+-]?[0-9]+|([0-9]+\\.[0-9]*|\\.[0-9]+)([eE][+-]?[0-9]+)?"},
    {"SIGNED_FLOAT", "[+-]?([0-9]+[eE][+-]?[0-9]+|([0-9]+\\.[0-9]*|\\.[0-9]+)([eE][+-]?[0-9]+)?)"},
    {"NUMBER", "[0-9]+([eE][+-]?[0-9]+)?|([0-9]+\\.[0-9]*|\\.[0-9]+)([eE][+-]?[0-9]+)?"},
    {"SIGNED_NUMBER", "[+-]?([0-9]+([eE][+-]?[0-9]+)?|([0-9]+\\.[0-9]*|\\.[0-9]+)([eE][+-]?[0-9]+)?)"},
    {"ESCAPED_STRING", "\"([^\"\\\\\\n]|\\\\.)*\""}, {"LCASE_LETTER", "[a-z]"}, {"UCASE_LETTER", "[A-Z]"}, {"LETTER", "[A-Za-z]"},
    {"WORD", "[A-Za-z]+"}, {"CNAME", "[_A-Za-z][_A-Za-z0-9]*"}, {"WS_INLINE", "[ \\t]+"}, {"WS", "[ \\t\\f\\r\\n]+"}, {"CR", "\\r"},
    {"LF", "\\n"}, {"NEWLINE", "(\\r?\\n)+"},
};

static bool is_name(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; }

/* A name is a terminal's if its first letter is a capital. */
static bool is_terminal(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (text[i] != '_')
            return text[i] >= 'A' && text[i] <= 'Z';
    return false;
}

static void skip_blank(struct reader *r, bool lines)
{
    for (;;) {
        char c = reader_peek(r, 0);
        if ((c == '/' && reader_peek(r, 1) == '/') || c == '#')
            while (r->at < r->size && reader_peek(r, 0) != '\n')
                r->at++;
        else if (r->at < r->size && (c == ' ' || c == '\t' || c == '\r' || (lines && c == '\n')))
            r->at++;
        else
            return;
    }
}

/* What stands behind a backslash, unless the text ends there. */
static void skip_escaped(struct reader *r) { r->at += r->at + 1 < r->size; }

/* A rule goes on in the next line if that begins with a bar. */
static void skip_to_bar(struct reader *r)
{
    size_t from = r->at;
    skip_blank(r, true);
    if (reader_peek(r, 0) != '|')
        r->at = from;
}

static expr read_choice(struct lark *l, bool nested);

/* ---- terminals ------------------------------------------------------------------------------------------------------ */

/* A quoted text, unescaped as Python would. */
static void read_string(struct reader *r, struct str *out)
{
    r->at++;
    while (r->at < r->size && reader_peek(r, 0) != '"' && reader_peek(r, 0) != '\n') {
        char bytes[4];
        uint32_t c = 0;
        bool escape = reader_take(r, "\\");
        if (r->at >= r->size)
            break;
        if (!escape || !escape_read(r->text, r->size, &r->at, &c))
            r->at += utf8_decode(r->text + r->at, r->size - r->at, &c);
        str_add(out, bytes, utf8_encode(c, bytes));
    }
    if (!reader_take(r, "\""))
        reader_fail(r, "a text without its closing quote");
    if (out->failed)
        pool_fail(r->pool, STATUS_NO_ROOM, "the grammar needs too much memory");
}

static expr text_expr(struct reader *r, const struct str *text, bool ignore_case)
{
    expr e = EMPTY;
    if (!ignore_case)
        return expr_text(r->pool, str_text(text), text->size);
    for (size_t at = 0; at < text->size;) {
        struct chars set = {0};
        uint32_t c;
        at += utf8_decode(text->data + at, text->size - at, &c);
        chars_add(&set, c, c);
        chars_fold(&set);
        e = expr_concat(r->pool, e, chars_expr(r->pool, &set, SPELL_UTF8));
        chars_free(&set);
    }
    return e;
}

/* "text", "text"i, "a".."z" */
static expr read_text(struct reader *r)
{
    struct str text = {0}, last = {0};
    expr e;
    read_string(r, &text);
    if (reader_take(r, "..")) {
        uint32_t lo = 0, hi = 0;
        struct chars set = {0};
        if (reader_peek(r, 0) == '"')
            read_string(r, &last);
        bool one = text.size && last.size && utf8_decode(text.data, text.size, &lo) == text.size &&
                   utf8_decode(last.data, last.size, &hi) == last.size && lo <= hi;
        if (!one)
            reader_fail(r, "a range must be \"a\"..\"z\", from the smaller to the larger character");
        chars_add(&set, lo, hi);
        e = chars_expr(r->pool, &set, SPELL_UTF8);
        chars_free(&set);
    } else {
        e = text_expr(r, &text, reader_take(r, "i"));
    }
    str_free(&text);
    str_free(&last);
    return e;
}

/* Behind the opening slash. A slash within [...] needs no escape. */
static expr read_regex(struct reader *r)
{
    size_t from = r->at;
    expr e = NONE;
    bool set = false;
    for (; r->at < r->size && (reader_peek(r, 0) != '/' || set) && reader_peek(r, 0) != '\n'; r->at++) {
        char c = reader_peek(r, 0);
        if (c == '\\')
            skip_escaped(r);
        else if (c == '[' || c == ']')
            set = c == '[';
    }
    size_t end = r->at;
    if (r->at >= r->size || !reader_take(r, "/"))
        return reader_fail(r, "a regex / without its closing /");
    struct regex_options o = {.spelling = SPELL_UTF8};
    for (char c; (c = reader_peek(r, 0)) && strchr("imsux", c); r->at++) {
        o.ignore_case |= c == 'i';
        o.dot_all |= c == 's';
        if (c == 'x' || c == 'm')
            return reader_fail(r, "the regex flag %c is not supported", c);
    }
    if (!r->status && (r->status = regex_expr(r->pool, r->text + from, end - from, o, &e, r->err)))
        error_prefix(r->err, "%s grammar", r->format);
    return e;
}

/* A terminal's own expression, read when it is first needed. */
static expr inlined(struct lark *l, uint32_t name)
{
    struct reader *r = &l->r;
    size_t back = r->at;
    bool before = l->terminal;
    if (r->names[name].ready)
        return r->names[name].inlined;
    if (r->names[name].open)
        return reader_fail(r, "terminal %s is made of itself; write a rule in small letters", QUOTE(r->names[name].text, r->names[name].size));
    if (!r->names[name].body)
        return reader_fail(r, "%s is not defined", QUOTE(r->names[name].text, r->names[name].size));
    if (++r->depth > READER_NESTING)
        return reader_fail(r, "nested too deeply");
    r->names[name].open = l->terminal = true;
    r->at = r->names[name].body;
    expr e = read_choice(l, false);
    r->at = back;
    r->depth--;
    l->terminal = before;
    r->names[name].open = false;
    r->names[name].ready = true;
    return r->names[name].inlined = e;
}

/* ---- bodies --------------------------------------------------------------------------------------------------------- */

/* The JSON text at the place, by its brackets. */
static expr read_json(struct lark *l)
{
    struct reader *r = &l->r;
    struct json schema;
    expr e = NONE;
    size_t from, depth = 0;
    bool string = false;
    skip_blank(r, true);
    from = r->at;
    if (reader_peek(r, 0) != '{')
        return reader_fail(r, "expected a schema {...} behind %%json");
    do {
        char c = reader_peek(r, 0);
        if (string && c == '\\')
            skip_escaped(r);
        else if (c == '"')
            string = !string;
        else if (!string)
            depth += (c == '{' || c == '[') ? 1u : (c == '}' || c == ']') ? -(size_t)1 : 0;
        r->at++;
    } while (r->at < r->size && depth);
    size_t end = r->at < r->size ? r->at : r->size;
    if (!r->status && (r->status = json_parse(&r->arena, r->text + from, end - from, NULL, &schema, r->err)))
        error_prefix(r->err, "%s grammar, %%json", r->format);
    if (!r->status && (r->status = schema_rules(r->pool, &schema, NULL, &e, r->err)))
        error_prefix(r->err, "%s grammar, %%json", r->format);
    return e;
}

static expr read_group(struct lark *l, const char *close)
{
    struct reader *r = &l->r;
    r->at++;
    if (++r->depth > READER_NESTING)
        return reader_fail(r, "nested too deeply");
    skip_blank(r, true);
    expr e = read_choice(l, true);
    skip_blank(r, true);
    if (!reader_take(r, close))
        return reader_fail(r, "a group without its %s", close);
    r->depth--;
    return *close == ']' ? expr_repeat(r->pool, e, 0, 1) : e;
}

/* Behind a terminal in a rule may stand what is ignored. */
static expr token(const struct lark *l, expr e) { return l->terminal ? e : expr_concat(l->r.pool, e, l->ignored); }

static expr read_special(struct lark *l)
{
    struct reader *r = &l->r;
    const char *end = memchr(r->text + r->at, '>', r->size - r->at);
    size_t from = r->at;
    if (!end || reader_peek(r, 1) == '[' || l->terminal)
        return reader_fail(r, "a special token is written <name>, in a rule");
    r->at = (size_t)(end - r->text) + 1;
    return token(l, special_token(r->pool, r->text + from, r->at - from));
}

static expr read_atom(struct lark *l)
{
    struct reader *r = &l->r;
    char c = reader_peek(r, 0);
    size_t from = r->at;
    if (c == '"')
        return token(l, read_text(r));
    if (c == '(')
        return read_group(l, ")");
    if (c == '[')
        return read_group(l, "]");
    if (c == '<')
        return read_special(l);
    if (reader_take(r, "/"))
        return token(l, read_regex(r));
    if (reader_take(r, "%json"))
        return l->terminal ? reader_fail(r, "%%json stands in rules, not in terminals") : token(l, read_json(l));
    if (c == '%')
        return reader_fail(r, "only %%json may stand in a rule");
    while (is_name(reader_peek(r, 0)))
        r->at++;
    if (r->at == from)
        return reader_fail(r, "expected a text, a regex, a name or a group, not '%s'", QUOTE(r->text + from, 1));
    uint32_t name = reader_name(r, r->text + from, r->at - from);
    if (name == UINT32_MAX)
        return NONE;
    if (is_terminal(r->text + from, r->at - from))
        return token(l, inlined(l, name));
    if (l->terminal)
        return reader_fail(r, "a terminal cannot hold the rule %s", QUOTE(r->text + from, r->at - from));
    return expr_call(r->pool, r->names[name].rule);
}

/* ~n, ~n..m beside the usual counts. */
static expr read_counts(struct reader *r, expr e)
{
    uint32_t lo, hi;
    e = reader_repeat(r, e);
    skip_blank(r, false);
    if (reader_peek(r, 0) != '~')
        return e;
    r->at++;
    skip_blank(r, false);
    if (!reader_number(r, &lo))
        return reader_fail(r, "expected a count behind ~");
    hi = lo;
    if (reader_take(r, "..") && !reader_number(r, &hi))
        return reader_fail(r, "expected a count behind ..");
    return lo > hi ? reader_fail(r, "a repetition whose least count is above its most") : expr_repeat(r->pool, e, lo, hi);
}

static expr read_sequence(struct lark *l, bool nested)
{
    struct reader *r = &l->r;
    expr e = EMPTY;
    for (;;) {
        skip_blank(r, nested);
        char c = reader_peek(r, 0);
        if (r->status || r->at >= r->size || c == '|' || c == ')' || c == ']' || c == '\n' || c == '&')
            return e;
        if (reader_take(r, "->")) { /* an alias: names a tree, which nobody builds */
            skip_blank(r, false);
            while (is_name(reader_peek(r, 0)))
                r->at++;
            continue;
        }
        bool complement = l->terminal && reader_take(r, "~");
        expr next = read_atom(l);
        next = read_counts(r, next);
        if (complement)
            next = expr_minus(r->pool, expr_repeat(r->pool, chars_any(r->pool, SPELL_UTF8), 0, UNLIMITED), next);
        e = expr_concat(r->pool, e, next);
    }
}

/* a & b: both, in terminals. */
static expr read_both(struct lark *l, bool nested)
{
    struct reader *r = &l->r;
    expr e = read_sequence(l, nested);
    while (!r->status && reader_peek(r, 0) == '&') {
        if (!l->terminal)
            return reader_fail(r, "& joins terminals, not rules");
        r->at++;
        e = expr_and2(r->pool, e, read_sequence(l, nested));
    }
    return e;
}

static expr read_choice(struct lark *l, bool nested)
{
    struct reader *r = &l->r;
    skip_blank(r, nested);
    if (!nested)
        skip_to_bar(r);
    if (reader_peek(r, 0) == '|')
        r->at++;
    expr e = read_both(l, nested);
    for (;;) {
        if (!nested)
            skip_to_bar(r);
        if (r->status || !reader_take(r, "|"))
            return e;
        e = expr_or2(r->pool, e, read_both(l, nested));
    }
}

/* ---- statements ----------------------------------------------------------------------------------------------------- */

/* Past a body, without reading it. */
static void skip_body(struct reader *r)
{
    for (int depth = 0; r->at < r->size; r->at++) {
        char c = reader_peek(r, 0);
        if ((c == '/' && reader_peek(r, 1) == '/') || c == '#') {
            while (r->at < r->size && reader_peek(r, 0) != '\n')
                r->at++;
            r->at--; /* the loop steps on */
        } else if (c == '"' || c == '/') {
            bool set = false;
            for (r->at++; r->at < r->size && (reader_peek(r, 0) != c || set) && reader_peek(r, 0) != '\n'; r->at++) {
                if (reader_peek(r, 0) == '\\')
                    skip_escaped(r);
                else if (c == '/' && (reader_peek(r, 0) == '[' || reader_peek(r, 0) == ']'))
                    set = reader_peek(r, 0) == '[';
            }
        } else if (c == '(' || c == '[' || c == '{') {
            depth++;
        } else if (c == ')' || c == ']' || c == '}') {
            depth--;
        } else if (c == '\n' && depth <= 0) {
            skip_to_bar(r);
            if (reader_peek(r, 0) != '|')
                return;
        }
    }
    r->at = r->size;
}

static void read_import(struct lark *l)
{
    struct reader *r = &l->r;
    skip_blank(r, false);
    bool known = reader_take(r, "common.");
    size_t from = r->at;
    while (is_name(reader_peek(r, 0)))
        r->at++;
    size_t size = r->at - from, alias = from, alias_size = size;
    skip_blank(r, false);
    if (reader_take(r, "->")) {
        skip_blank(r, false);
        for (alias = r->at; is_name(reader_peek(r, 0));)
            r->at++;
        alias_size = r->at - alias;
    }
    for (size_t i = 0; known && i < sizeof common / sizeof *common; i++) {
        if (strlen(common[i].name) != size || memcmp(common[i].name, r->text + from, size) != 0)
            continue;
        uint32_t name = reader_name(r, r->text + alias, alias_size);
        expr e;
        if (name == UINT32_MAX)
            return;
        r->status = regex_expr(r->pool, common[i].regex, strlen(common[i].regex), (struct regex_options){.spelling = SPELL_UTF8}, &e, r->err);
        r->names[name].ready = true;
        r->names[name].body = r->at;
        r->names[name].inlined = e;
        return;
    }
    reader_fail(r, "only single names can be imported from common; '%s' is none", QUOTE(r->text + from, size));
}

/* A definition: its name and where its body begins. */
static void find_definition(struct reader *r)
{
    size_t from;
    while (reader_peek(r, 0) == '?' || reader_peek(r, 0) == '!')
        r->at++;
    for (from = r->at; is_name(reader_peek(r, 0));)
        r->at++;
    size_t size = r->at - from;
    if (!size) {
        reader_fail(r, "expected a rule, a terminal or %%..., not '%s'", QUOTE(r->text + r->at, r->at < r->size));
        return;
    }
    if (reader_take(r, ".")) /* priorities choose among parses of one text; the texts are the same */
        while (reader_peek(r, 0) >= '0' && reader_peek(r, 0) <= '9')
            r->at++;
    if (reader_peek(r, 0) == '[' || reader_peek(r, 0) == '{')
        reader_fail(r, "attributes and templates of rules are not supported");
    skip_blank(r, false);
    if (!reader_take(r, ":")) {
        reader_fail(r, "expected : behind '%s'", QUOTE(r->text + from, size));
        return;
    }
    uint32_t name = reader_name(r, r->text + from, size);
    if (name == UINT32_MAX)
        return;
    if (r->names[name].body)
        reader_fail(r, "'%s' is defined twice", QUOTE(r->text + from, size));
    r->names[name].body = r->at;
    skip_body(r);
}

/* The first pass finds definitions; bodies of %ignore are read when all of them are known. */
static void find_statements(struct lark *l, bool ignored)
{
    struct reader *r = &l->r;
    r->at = 0;
    for (skip_blank(r, true); !r->status && !r->pool->failed && r->at < r->size; skip_blank(r, true)) {
        if (reader_take(r, "%ignore")) {
            l->terminal = true;
            expr e = ignored ? read_choice(l, false) : (skip_body(r), NONE);
            l->ignored = expr_or2(r->pool, l->ignored, e);
            l->terminal = false;
        } else if (reader_take(r, "%import") && !ignored) {
            read_import(l);
        } else if (reader_peek(r, 0) == '%' && !ignored) {
            reader_fail(r, "this %% statement is not supported");
        } else if (ignored) {
            skip_body(r);
        } else {
            find_definition(r);
        }
    }
}

static void set_body(struct lark *l, uint32_t rule)
{
    expr body = read_choice(l, false); /* which may move the rules */
    l->r.pool->rules[rule].body = body;
}

enum status lark_rules(struct pool *p, const char *text, size_t size, expr *out, struct error *err)
{
    struct lark l = {.r = {.pool = p, .format = "Lark", .text = text, .size = size, .err = err}};
    struct reader *r = &l.r;
    *out = NONE;
    uint32_t start = reader_name(r, "start", 5);
    find_statements(&l, false);
    if (!r->status)
        find_statements(&l, true);
    l.ignored = expr_repeat(p, l.ignored, 0, UNLIMITED);
    for (uint32_t i = 0; i < r->name_count && !r->status && !p->failed; i++) {
        struct name n = r->names[i];
        r->at = n.body ? n.body : n.used;
        if (!n.body)
            reader_fail(r, "%s is not defined", QUOTE(n.text, n.size));
        else if (is_terminal(n.text, n.size))
            inlined(&l, i);
        else
            set_body(&l, n.rule);
        skip_blank(r, false);
        if (!is_terminal(n.text, n.size) && r->at < r->size && reader_peek(r, 0) != '\n')
            reader_fail(r, "unexpected '%s'", QUOTE(r->text + r->at, 1));
    }
    if (!r->status && start != UINT32_MAX)
        *out = expr_call(p, r->names[start].rule);
    reader_free(r);
    return r->status;
}
