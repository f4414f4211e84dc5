/* Python literals and Gemma's values as JSON: strings with their escapes, numbers, lists, tuples, dicts, True, False, None and
 * JSON's words for them. One pass with a stack, no recursion. */
#include "base/utf8.h"
#include "tokenizers/output/output.h"

enum { DEPTH = 100 };

struct literal {
    const char *at, *end;
    struct str *out;
    const char *quote; /* Gemma: what stands around strings; NULL: Python */
};

static void skip_space(struct literal *l)
{
    while (l->at < l->end && out_space(*l->at))
        l->at++;
}

static int hex_digits(struct literal *l, int digits)
{
    int value = 0;
    for (int i = 0; i < digits; i++, l->at++) {
        char c = l->at < l->end ? *l->at : 0;
        int d = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
        if (d < 0 || value > 0x10ffff)
            return -1;
        value = value * 16 + d;
    }
    return value;
}

/* \uD83D\uDE00 is two characters in Python; models mean the one that JSON reads. */
static int surrogates(struct literal *l, int high)
{
    if (high < 0xd800 || high > 0xdbff || l->end - l->at < 6 || l->at[0] != '\\' || l->at[1] != 'u')
        return high;
    const char *back = l->at;
    l->at += 2;
    int low = hex_digits(l, 4);
    if (low >= 0xdc00 && low <= 0xdfff)
        return 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
    l->at = back;
    return high;
}

static bool add_character(struct str *to, int c)
{
    char bytes[4];
    if (c < 0)
        return false;
    str_add(to, bytes, utf8_encode((uint32_t)c, bytes));
    return true;
}

static bool octal(struct literal *l, struct str *to)
{
    int value = 0;
    for (int i = 0; i < 3 && l->at < l->end && *l->at >= '0' && *l->at <= '7'; i++)
        value = value * 8 + (*l->at++ - '0');
    return add_character(to, value);
}

static bool escape(struct literal *l, struct str *to)
{
    static const char from[] = "\\'\"abfnrtv", into[] = "\\'\"\a\b\f\n\r\t\v";
    if (l->at == l->end)
        return false;
    char c = *l->at;
    const char *plain = c ? strchr(from, c) : NULL;
    if (c >= '0' && c <= '7')
        return octal(l, to);
    l->at++;
    if (plain)
        str_add_char(to, into[plain - from]);
    else if (c == 'x' || c == 'u' || c == 'U')
        return add_character(to, surrogates(l, hex_digits(l, c == 'x' ? 2 : c == 'u' ? 4 : 8)));
    else if (c != '\n') { /* a line continued; any other stays with its backslash, as in Python */
        str_add_char(to, '\\');
        str_add_char(to, c);
    }
    return true;
}

static bool python_string(struct literal *l)
{
    struct str text = {0};
    char quote = *l->at;
    bool triple = l->end - l->at >= 3 && l->at[1] == quote && l->at[2] == quote, good = true, closed = false;
    l->at += triple ? 3 : 1;
    while (good && l->at < l->end && !closed) {
        if (*l->at == quote && (!triple || (l->end - l->at >= 3 && l->at[1] == quote && l->at[2] == quote))) {
            closed = true;
            l->at += triple ? 3 : 1;
        } else if (*l->at == '\\') {
            l->at++;
            good = escape(l, &text);
        } else
            str_add_char(&text, *l->at++);
    }
    if (good && closed)
        json_write_string(l->out, str_text(&text), text.size);
    l->out->failed |= text.failed;
    str_free(&text);
    return good && closed;
}

static bool marked_string(struct literal *l)
{
    size_t n = strlen(l->quote);
    const char *from = l->at + n, *to = from <= l->end ? memmem(from, (size_t)(l->end - from), l->quote, n) : NULL;
    if (!to)
        return false;
    json_write_string(l->out, from, (size_t)(to - from));
    l->at = to + n;
    return true;
}

static bool is_word(char c) { return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') || strchr("+-._", c); }

/* A number in Python's notation as JSON's: 1_000, .5, 5., +1. */
static bool number(struct literal *l, const char *word, size_t size)
{
    char text[400];
    size_t n = 0;
    struct json_scan scan = {0};
    for (size_t i = size && *word == '+'; i < size; i++) {
        if (word[i] == '_')
            continue;
        if (n + 4 > sizeof text)
            return false;
        bool before = n && text[n - 1] >= '0' && text[n - 1] <= '9',
             after = i + 1 < size && word[i + 1] >= '0' && word[i + 1] <= '9';
        if (word[i] == '.' && !before)
            text[n++] = '0';
        text[n++] = word[i];
        if (word[i] == '.' && !after)
            text[n++] = '0';
    }
    json_scan_byte(&scan, '[');
    for (size_t i = 0; i < n; i++)
        if (json_scan_byte(&scan, (unsigned char)text[i]) & SCAN_BAD)
            return false;
    if (!n || !(json_scan_byte(&scan, ']') & SCAN_END_BEFORE))
        return false;
    str_add(l->out, text, n);
    return true;
}

static bool bare_word(struct literal *l)
{
    static const char *const words[][2] = {{"True", "true"}, {"False", "false"}, {"None", "null"},
                                           {"true", "true"}, {"false", "false"}, {"null", "null"}};
    const char *word = l->at;
    while (l->at < l->end && *l->at && is_word(*l->at))
        l->at++;
    size_t size = (size_t)(l->at - word);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strlen(words[i][0]) == size && !memcmp(words[i][0], word, size)) {
            str_add_text(l->out, words[i][1]);
            return true;
        }
    return number(l, word, size);
}

static bool string_here(const struct literal *l)
{
    if (l->at == l->end)
        return false;
    if (!l->quote)
        return *l->at == '"' || *l->at == '\'';
    size_t n = strlen(l->quote);
    return (size_t)(l->end - l->at) >= n && !memcmp(l->at, l->quote, n);
}

static bool scalar(struct literal *l)
{
    if (!string_here(l))
        return bare_word(l);
    if (l->quote)
        return marked_string(l);
    if (!python_string(l))
        return false;
    for (skip_space(l); string_here(l); skip_space(l)) { /* "a" "b" is one string */
        l->out->size--;
        size_t joint = l->out->size;
        if (!python_string(l) || l->out->failed)
            return false;
        memmove(l->out->data + joint, l->out->data + joint + 1, l->out->size - joint); /* the second opening quote */
        l->out->size--;
    }
    return true;
}

/* A dict's key and its colon. Gemma's keys are bare. */
static bool dict_key(struct literal *l)
{
    skip_space(l);
    if (string_here(l)) {
        if (!scalar(l))
            return false;
    } else {
        const char *key = l->at;
        while (l->at < l->end && *l->at != ':' && *l->at != ',' && *l->at != '}' && *l->at != '{')
            l->at++;
        size_t size = (size_t)(l->at - key);
        while (size && out_space(key[size - 1]))
            size--;
        if (!l->quote || !size)
            return false;
        json_write_string(l->out, key, size);
    }
    skip_space(l);
    if (l->at == l->end || *l->at++ != ':')
        return false;
    str_add_char(l->out, ':');
    return true;
}

/* The value at l->at, its containers on a stack. */
static bool value(struct literal *l)
{
    char stack[DEPTH]; /* the bracket that closes */
    int depth = 0;
    bool fresh = false; /* a container was just opened */
    for (;;) {
        skip_space(l);
        if (l->at == l->end)
            return false;
        bool closing = depth && *l->at == stack[depth - 1];
        if (!closing) {
            if (depth && stack[depth - 1] == '}' && !dict_key(l))
                return false;
            skip_space(l);
            char c = l->at < l->end ? *l->at : 0;
            if (c == '[' || c == '{' || (c == '(' && !l->quote)) {
                if (depth == DEPTH)
                    return false;
                stack[depth++] = c == '[' ? ']' : c == '{' ? '}' : ')';
                str_add_char(l->out, c == '{' ? '{' : '[');
                l->at++;
                fresh = true;
                continue;
            }
            if (!scalar(l))
                return false;
            fresh = false;
        }
        for (;;) { /* behind a value: close, or a comma and on */
            skip_space(l);
            if (!depth)
                return true;
            if (l->at == l->end)
                return false;
            if (*l->at == ',' && !fresh) {
                l->at++;
                skip_space(l);
                if (l->at < l->end && *l->at == stack[depth - 1])
                    continue; /* a comma before the closing bracket is fine */
                str_add_char(l->out, ',');
                break;
            }
            if (*l->at++ != stack[depth - 1])
                return false;
            str_add_char(l->out, stack[--depth] == '}' ? '}' : ']');
            fresh = false;
        }
    }
}

static bool whole(struct str *out, const char *text, size_t size, const char *quote)
{
    struct literal l = {.at = text, .end = text + size, .out = out, .quote = quote};
    if (!value(&l))
        return false;
    skip_space(&l);
    return l.at == l.end;
}

bool python_write(struct str *out, const char *text, size_t size) { return whole(out, text, size, NULL); }
bool gemma_write(struct str *out, const char *text, size_t size, const char *quote) { return whole(out, text, size, quote); }
