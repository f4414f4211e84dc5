/* Text -> tokens, as jinja2's lexer with trim_blocks and lstrip_blocks sees it. Newlines are made LF and one final
 * newline dropped before anything else. */
#include "tokenizers/chat/chat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/utf8.h"

struct lexer {
    struct compiler *c;
    const char *text;
    uint32_t size, at, line;
    bool line_starting; /* the last token ended in a newline (or there was none) */
    char open[TREE_DEPTH + 1];
    int depth;
};

static bool add(struct lexer *l, struct token token)
{
    struct compiler *c = l->c;
    if (c->count == c->capacity) {
        uint32_t capacity = c->capacity ? c->capacity * 2 : 256;
        struct token *tokens = realloc(c->tokens, capacity * sizeof *tokens);
        if (!tokens)
            return compile_fail(c, l->line, "out of memory");
        c->tokens = tokens;
        c->capacity = capacity;
    }
    token.line = l->line;
    c->tokens[c->count++] = token;
    return true;
}

static bool add_text(struct lexer *l, enum token_kind kind, const char *data, uint32_t size)
{
    struct text *t = arena_alloc(&l->c->template->arena, sizeof *t);
    if (!t)
        return compile_fail(l->c, l->line, "out of memory");
    *t = (struct text){.data = data, .size = size, .count = COUNT_UNKNOWN, .own = true};
    text_count(t);
    return add(l, (struct token){.kind = (uint8_t)kind, .text = t});
}

static bool starts(const struct lexer *l, uint32_t at, const char *word)
{
    size_t n = strlen(word);
    return l->size - at >= n && memcmp(l->text + at, word, n) == 0;
}

static uint32_t skip_space(const struct lexer *l, uint32_t at)
{
    while (at < l->size) {
        uint32_t c;
        size_t n = utf8_decode(l->text + at, l->size - at, &c);
        if (!unicode_is_space(c))
            break;
        at += (uint32_t)n;
    }
    return at;
}

static void move(struct lexer *l, uint32_t to)
{
    if (to > l->at)
        l->line_starting = l->text[to - 1] == '\n';
    for (; l->at < to; l->at++)
        l->line += l->text[l->at] == '\n';
}

/* The end of a tag at `at`: "+%}", "-%}" and white space, "%}" and a newline. 0 if there is none. */
static uint32_t tag_end(const struct lexer *l, uint32_t at, const char *end, bool plus, bool newline)
{
    char sign = at < l->size ? l->text[at] : 0;
    uint32_t n = (uint32_t)strlen(end);
    if (sign == '+' && plus && starts(l, at + 1, end))
        return at + 1 + n;
    if (sign == '-' && starts(l, at + 1, end))
        return skip_space(l, at + 1 + n);
    if (!starts(l, at, end))
        return 0;
    at += n;
    return at + (newline && at < l->size && l->text[at] == '\n');
}

/* Text before a tag that begins at `tag` with this sign: what of it stays. */
static bool add_data(struct lexer *l, uint32_t tag, char sign, bool variable)
{
    uint32_t from = l->at, to = tag;
    if (sign == '-') {
        while (to > from) {
            uint32_t last = to - 1, c;
            while (last > from && ((unsigned char)l->text[last] & 0xC0) == 0x80)
                last--;
            utf8_decode(l->text + last, to - last, &c);
            if (!unicode_is_space(c))
                break;
            to = last;
        }
    } else if (sign != '+' && !variable) {
        uint32_t line = to;
        while (line > from && l->text[line - 1] != '\n')
            line--;
        if ((line > from || l->line_starting) && skip_space(l, line) >= tag)
            to = line;
    }
    bool ok = to == from || add_text(l, T_DATA, l->text + from, to - from);
    move(l, tag);
    return ok;
}

/* {% raw %} at `at`: the offset behind it, 0 if it is something else. */
static uint32_t raw_begin(const struct lexer *l, uint32_t at, const char *word)
{
    at += 2;
    if (at < l->size && (l->text[at] == '-' || l->text[at] == '+'))
        at++;
    at = skip_space(l, at);
    if (!starts(l, at, word))
        return 0;
    return skip_space(l, at + (uint32_t)strlen(word));
}

static bool lex_raw(struct lexer *l)
{
    for (uint32_t at = l->at; at < l->size; at++) {
        uint32_t end = starts(l, at, "{%") ? raw_begin(l, at, "endraw") : 0;
        if (end && (end = tag_end(l, end, "%}", true, true))) {
            char sign = l->text[at + 2];
            return add_data(l, at, sign, false) && (move(l, end), true);
        }
    }
    if (l->at == l->size) /* at the very end jinja2 does not miss it */
        return true;
    return compile_fail(l->c, l->line, "{%% raw %%} without its {%% endraw %%}");
}

static bool lex_comment(struct lexer *l)
{
    uint32_t line = l->line;
    for (uint32_t at = l->at; at < l->size; at++) {
        uint32_t end = tag_end(l, at, "#}", true, true);
        if (end) {
            move(l, end);
            return true;
        }
    }
    if (l->at == l->size)
        return true;
    return compile_fail(l->c, line, "a comment without its closing #}");
}

static bool digit_of(char c, int base)
{
    if (base <= 10)
        return c >= '0' && c < '0' + base;
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* Digits with single underscores between them, from `at`; the offset behind. */
static uint32_t skip_digits(const struct lexer *l, uint32_t at, int base)
{
    while (at < l->size && (digit_of(l->text[at], base) || (l->text[at] == '_' && at + 1 < l->size && digit_of(l->text[at + 1], base))))
        at++;
    return at;
}

static bool lex_number(struct lexer *l)
{
    uint32_t start = l->at, at = skip_digits(l, start, 10), point = at;
    bool real = false;
    if (at + 1 < l->size && l->text[at] == '.' && digit_of(l->text[at + 1], 10)) {
        point = skip_digits(l, at + 1, 10);
        real = true;
    }
    uint32_t e = point;
    if (e < l->size && (l->text[e] == 'e' || l->text[e] == 'E')) {
        e++;
        if (e < l->size && (l->text[e] == '+' || l->text[e] == '-'))
            e++;
        if (e < l->size && digit_of(l->text[e], 10)) {
            point = skip_digits(l, e, 10);
            real = true;
        }
    }
    if (start > 0 && l->text[start - 1] == '.')
        real = false; /* a.0.1 is two items */
    int base = 10;
    uint32_t digits = start;
    if (real) {
        at = point;
    } else if (l->text[start] == '0') {
        char x = start + 1 < l->size ? l->text[start + 1] | 0x20 : 0;
        base = x == 'x' ? 16 : x == 'o' ? 8 : x == 'b' ? 2 : 10;
        uint32_t more = base == 10 ? 0 : skip_digits(l, start + 2, base);
        if (more > start + 2) {
            digits = start + 2;
            at = more;
        } else {
            base = 10;
            for (at = start; at < l->size && (l->text[at] == '0' || (l->text[at] == '_' && at + 1 < l->size && l->text[at + 1] == '0')); at++)
                ;
        }
    }
    char *plain = arena_raw(&l->c->template->arena, at - digits + 1);
    if (!plain)
        return compile_fail(l->c, l->line, "out of memory");
    uint32_t n = 0;
    for (uint32_t i = digits; i < at; i++)
        if (l->text[i] != '_')
            plain[n++] = l->text[i];
    plain[n] = 0;
    struct token token = {.kind = real ? T_FLOAT : T_INTEGER};
    l->c->vm.line = l->line;
    if (real)
        token.value = FLOAT_VALUE(strtod(plain, NULL));
    else if (!big_parse(&l->c->vm, plain, n, base, false, &token.value))
        return false;
    if (!add(l, token))
        return false;
    move(l, at);
    return true;
}

static const struct {
    const char *name;
    uint32_t codepoint;
} character_names[] = {
#define NAME(text, codepoint) {text, codepoint},
#include "tokenizers/chat/names.def"
#undef NAME
};

/* One escape behind a backslash at s[0]; *used is what it takes. Unknown ones stay as they are. */
static bool unescape(struct lexer *l, const char *s, uint32_t left, char *out, uint32_t *written, uint32_t *used)
{
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    const char *simple = s[0] ? strchr(from, s[0]) : NULL;
    *used = 1;
    *written = 0;
    if (s[0] == '\n')
        return true;
    if (simple) {
        out[(*written)++] = to[simple - from];
        return true;
    }
    uint32_t c = 0, need = s[0] == 'x' ? 2 : s[0] == 'u' ? 4 : s[0] == 'U' ? 8 : 0;
    if (need) {
        for (uint32_t i = 0; i < need; i++, (*used)++) {
            if (*used >= left || !digit_of(s[*used], 16))
                return compile_fail(l->c, l->line, "a truncated \\%c escape", s[0]);
            char d = s[*used];
            c = c * 16 + (uint32_t)(d <= '9' ? d - '0' : (d | 0x20) - 'a' + 10);
        }
        if (c > 0x10FFFF)
            return compile_fail(l->c, l->line, "an illegal Unicode character in a string");
    } else if (s[0] >= '0' && s[0] <= '7') {
        for (*used = 0; *used < 3 && *used < left && digit_of(s[*used], 8); (*used)++)
            c = c * 8 + (uint32_t)(s[*used] - '0');
    } else if (s[0] == 'N') {
        const char *close = left > 2 && s[1] == '{' ? memchr(s, '}', left) : NULL;
        size_t n = close ? (size_t)(close - s) - 2 : 0, i = 0;
        for (; close && i < sizeof character_names / sizeof *character_names; i++)
            if (strlen(character_names[i].name) == n && strncasecmp(character_names[i].name, s + 2, n) == 0)
                break;
        if (!close || i == sizeof character_names / sizeof *character_names)
            return compile_fail(l->c, l->line, "an unknown character name in \\N{...}; write \\u and its number");
        c = character_names[i].codepoint;
        *used = (uint32_t)n + 3;
    } else {
        out[(*written)++] = '\\';
        *used = 0;
        uint32_t wide;
        if ((unsigned char)s[0] >= 0x80) { /* Python sees the backslash and the character's own escape: \xe9 */
            *used = (uint32_t)utf8_decode(s, left, &wide);
            *written += (uint32_t)sprintf(out + 1, wide < 0x100 ? "x%02x" : wide < 0x10000 ? "u%04x" : "U%08x", wide);
        }
        return true;
    }
    *written = (uint32_t)utf8_encode(c, out);
    return true;
}

static bool lex_string(struct lexer *l)
{
    char quotation = l->text[l->at];
    uint32_t start = l->at + 1, end = start;
    while (end < l->size && l->text[end] != quotation)
        end += l->text[end] == '\\' ? 2 : 1;
    if (end >= l->size)
        return compile_fail(l->c, l->line, "a string without its closing %c", quotation);
    const char *s = l->text + start;
    uint32_t size = end - start, n = 0;
    if (!memchr(s, '\\', size)) {
        if (!add_text(l, T_STRING, s, size))
            return false;
        move(l, end + 1);
        return true;
    }
    char *out = arena_raw(&l->c->template->arena, (size_t)size * 3 + 16);
    if (!out)
        return compile_fail(l->c, l->line, "out of memory");
    for (uint32_t i = 0; i < size;) {
        if (s[i] != '\\') {
            out[n++] = s[i++];
            continue;
        }
        char piece[16];
        uint32_t written, used;
        i++;
        if (!unescape(l, s + i, size - i, piece, &written, &used))
            return false;
        memcpy(out + n, piece, written);
        n += written;
        i += used;
    }
    if (!add_text(l, T_STRING, out, n))
        return false;
    move(l, end + 1);
    return true;
}

static bool lex_name(struct lexer *l, bool *found)
{
    uint32_t at = l->at, c;
    while (at < l->size) {
        size_t n = utf8_decode(l->text + at, l->size - at, &c);
        if (!unicode_is_name(c, at == l->at))
            break;
        at += (uint32_t)n;
    }
    *found = at > l->at;
    if (!*found)
        return true;
    uint32_t from = l->at;
    if (!add_text(l, T_NAME, l->text + from, at - from))
        return false;
    move(l, at);
    return true;
}

static bool balance(struct lexer *l, enum token_kind kind)
{
    char close = kind == T_LBRACE ? '}' : kind == T_LPAREN ? ')' : kind == T_LBRACKET ? ']' : 0;
    if (close) {
        if (l->depth == TREE_DEPTH)
            return compile_fail(l->c, l->line, "more than %d brackets nested", TREE_DEPTH);
        l->open[l->depth++] = close;
        return true;
    }
    close = kind == T_RBRACE ? '}' : kind == T_RPAREN ? ')' : kind == T_RBRACKET ? ']' : 0;
    if (!close)
        return true;
    if (!l->depth)
        return compile_fail(l->c, l->line, "unexpected '%c'", close);
    if (l->open[--l->depth] != close)
        return compile_fail(l->c, l->line, "unexpected '%c', expected '%c'", close, l->open[l->depth]);
    return true;
}

static bool lex_operator(struct lexer *l)
{
    static const struct {
        const char *text;
        enum token_kind kind;
    } operators[] = {
        {"//", T_FLOORDIV}, {"**", T_POW},    {"==", T_EQ},       {"!=", T_NE},       {">=", T_GTEQ},  {"<=", T_LTEQ},
        {"+", T_ADD},       {"-", T_SUB},     {"/", T_DIV},       {"*", T_MUL},       {"%", T_MOD},    {"~", T_TILDE},
        {"[", T_LBRACKET},  {"]", T_RBRACKET}, {"(", T_LPAREN},   {")", T_RPAREN},    {"{", T_LBRACE}, {"}", T_RBRACE},
        {">", T_GT},        {"<", T_LT},      {"=", T_ASSIGN},    {".", T_DOT},       {":", T_COLON},  {"|", T_PIPE},
        {",", T_COMMA},     {";", T_SEMICOLON},
    };
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
        if (!starts(l, l->at, operators[i].text))
            continue;
        if (!balance(l, operators[i].kind) || !add(l, (struct token){.kind = (uint8_t)operators[i].kind}))
            return false;
        move(l, l->at + (uint32_t)strlen(operators[i].text));
        return true;
    }
    uint32_t c;
    size_t n = utf8_decode(l->text + l->at, l->size - l->at, &c);
    return compile_fail(l->c, l->line, "unexpected character '%s'", QUOTE(l->text + l->at, n));
}

/* The inside of {{ }} or {% %}. */
static bool lex_tag(struct lexer *l, bool variable)
{
    l->depth = 0;
    while (l->at < l->size) {
        uint32_t end = l->depth ? 0 : tag_end(l, l->at, variable ? "}}" : "%}", !variable, !variable);
        if (end) {
            if (!add(l, (struct token){.kind = variable ? T_VARIABLE_END : T_BLOCK_END}))
                return false;
            move(l, end);
            return true;
        }
        uint32_t space = skip_space(l, l->at);
        if (space > l->at) {
            move(l, space);
            continue;
        }
        char c = l->text[l->at];
        bool named = false;
        if (c >= '0' && c <= '9') {
            if (!lex_number(l))
                return false;
            continue;
        }
        if (c == '\'' || c == '"') {
            if (!lex_string(l))
                return false;
            continue;
        }
        if (!lex_name(l, &named) || (!named && !lex_operator(l)))
            return false;
    }
    return true; /* the parser says what is missing */
}

static bool lex_root(struct lexer *l)
{
    while (l->at < l->size) {
        uint32_t at = l->at;
        for (;; at++) {
            const char *brace = at < l->size ? memchr(l->text + at, '{', l->size - at) : NULL;
            at = brace ? (uint32_t)(brace - l->text) : l->size;
            if (at == l->size || starts(l, at, "{%") || starts(l, at, "{{") || starts(l, at, "{#"))
                break;
        }
        if (at == l->size) {
            bool ok = add_text(l, T_DATA, l->text + l->at, at - l->at);
            move(l, at);
            return ok;
        }
        char type = l->text[at + 1], sign = at + 2 < l->size ? l->text[at + 2] : 0;
        if (sign != '-' && sign != '+')
            sign = 0;
        uint32_t raw = type == '%' ? raw_begin(l, at, "raw") : 0;
        if (raw)
            raw = tag_end(l, raw, "%}", false, false);
        if (!add_data(l, at, sign, type == '{'))
            return false;
        if (raw) {
            move(l, raw);
            if (!lex_raw(l))
                return false;
            continue;
        }
        if (type != '#' && !add(l, (struct token){.kind = type == '{' ? T_VARIABLE_BEGIN : T_BLOCK_BEGIN}))
            return false;
        move(l, at + 2 + (sign != 0));
        if (type == '#' ? !lex_comment(l) : !lex_tag(l, type == '{'))
            return false;
    }
    return true;
}

bool compile_tokens(struct compiler *c, const char *text, size_t size)
{
    char *copy = arena_raw(&c->template->arena, size + 1);
    if (!copy)
        return compile_fail(c, 1, "out of memory");
    uint32_t n = 0;
    for (size_t i = 0; i < size; i++) {
        copy[n++] = text[i] == '\r' ? '\n' : text[i];
        if (text[i] == '\r' && i + 1 < size && text[i + 1] == '\n')
            i++;
    }
    if (n && copy[n - 1] == '\n')
        n--;
    copy[n] = 0;
    struct lexer l = {.c = c, .text = copy, .size = n, .line = 1, .line_starting = true};
    return lex_root(&l) && add(&l, (struct token){.kind = T_EOF});
}
