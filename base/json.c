#include "base/json.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

/* Values under construction wait on one stack; closing an array or object copies its part into the arena, so that
 * children lie side by side. Array items use the value part of a member. */
struct parser {
    struct arena *arena;
    const char *begin, *at, *end;
    int depth, limit;
    bool unique, infinite;
    const struct json_options *options; /* set if it asks for large containers */
    int which;                          /* the next container is this large one */
    struct arena scratch;               /* what the children of a large container point to */
    struct json_member *stack;
    size_t used, capacity;
    struct error *err;
};

static enum status fail(struct parser *p, const char *what)
{
    size_t line = 1, column = 1;
    for (const char *c = p->begin; c < p->at; c++) {
        column = *c == '\n' ? 1 : column + 1;
        line += *c == '\n';
    }
    return error_set(p->err, STATUS_BAD_INPUT, "JSON: %s at line %zu, column %zu", what, line, column);
}

static enum status no_memory(struct parser *p) { return error_memory(p->err, "a JSON document"); }

static inline bool is_space(char c)
{
    return (unsigned char)c <= ' ' && ((uint64_t)1 << (unsigned char)c & ((uint64_t)1 << ' ' | 1 << '\n' | 1 << '\r' | 1 << '\t'));
}

/* Indented files are mostly line ends with blanks behind them: up to 15 in one step without a branch, since how deep a line is indented
 * is hard to foresee. */
static const char *skip_blanks(const char *at, const char *end)
{
    while (at < end && is_space(*at)) {
        uint64_t low, high; /* zero bytes for blanks */
        if (end - ++at < 16)
            continue;
        memcpy(&low, at, 8);
        memcpy(&high, at + 8, 8);
        low ^= 0x2020202020202020u;
        high ^= 0x2020202020202020u;
        uint64_t all = low ? 0 : UINT64_MAX;
        at += (__builtin_ctzll(low | (high & all) | (uint64_t)1 << 63) >> 3) + (int)(all & 8);
    }
    return at;
}

static inline const char *behind_space(const char *at, const char *end) { return at < end && is_space(*at) ? skip_blanks(at, end) : at; }

static inline void skip_space(struct parser *p) { p->at = behind_space(p->at, p->end); }

/* First byte of s that a string may not hold as it is: a quote, a backslash, a control character. */
static inline const char *plain_end(const char *s, const char *end)
{
    const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;
    uint64_t w;
    for (; end - s >= 8; s += 8) {
        memcpy(&w, s, 8);
        uint64_t quote = w ^ ones * '"', slash = w ^ ones * '\\';
        uint64_t hit = (((quote - ones) & ~quote) | ((slash - ones) & ~slash) | ((w - ones * 0x20) & ~w)) & high;
        if (hit)
            return s + (__builtin_ctzll(hit) >> 3); /* borrows only spoil what lies behind the first hit */
    }
    while (s < end && *s != '"' && *s != '\\' && (unsigned char)*s >= 0x20)
        s++;
    return s;
}

static bool push(struct parser *p, const struct json_member *m)
{
    if (p->used == p->capacity) {
        size_t capacity = p->capacity ? p->capacity * 2 : 64;
        struct json_member *stack = realloc(p->stack, capacity * sizeof *stack);
        if (!stack)
            return false;
        p->stack = stack;
        p->capacity = capacity;
    }
    p->stack[p->used++] = *m;
    return true;
}

static int hex4(const char *s)
{
    int v = 0;
    for (int i = 0; i < 4; i++) {
        char c = s[i];
        int d = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (d < 0)
            return -1;
        v = v * 16 + d;
    }
    return v;
}

/* The string at p->at (behind its opening quote). Without escapes it stays where it is. */
static enum status parse_string(struct parser *p, const char **text, uint32_t *size)
{
    const char *start = p->at, *s = plain_end(start, p->end);
    if (s < p->end && *s == '"') {
        *text = start;
        *size = (uint32_t)(s - start);
        p->at = s + 1;
        return STATUS_OK;
    }
    const char *close = s; /* find the end first: the unescaped text is never longer */
    while (close < p->end && *close != '"')
        close += *close == '\\' && close + 1 < p->end ? 2 : 1;
    char *out = arena_raw(p->arena, (size_t)((close < p->end ? close : p->end) - start) + 1);
    if (!out)
        return no_memory(p);
    size_t n = (size_t)(s - start);
    memcpy(out, start, n);
    while (s < p->end && *s != '"') {
        unsigned char c = (unsigned char)*s;
        p->at = s;
        if (c < 0x20)
            return fail(p, "a control character in a string");
        if (c != '\\') {
            out[n++] = *s++;
            continue;
        }
        if (++s == p->end)
            break;
        static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
        const char *simple = *s ? strchr(from, *s) : NULL;
        if (simple) {
            out[n++] = to[simple - from];
            s++;
        } else if (*s == 'u' && p->end - s >= 5) {
            int v = hex4(s + 1);
            if (v < 0)
                return fail(p, "a bad \\u escape");
            s += 5;
            uint32_t codepoint = (uint32_t)v;
            if (v >= 0xD800 && v < 0xDC00 && p->end - s >= 6 && s[0] == '\\' && s[1] == 'u') {
                int low = hex4(s + 2);
                if (low >= 0xDC00 && low < 0xE000) {
                    codepoint = 0x10000 + ((uint32_t)(v - 0xD800) << 10) + (uint32_t)(low - 0xDC00);
                    s += 6;
                }
            }
            n += utf8_encode(codepoint, out + n); /* a lone surrogate becomes U+FFFD */
        } else {
            return fail(p, "a bad escape");
        }
    }
    p->at = s;
    if (s >= p->end)
        return fail(p, "a string without its closing quote");
    p->at = s + 1;
    *text = out;
    *size = (uint32_t)n;
    return STATUS_OK;
}

static bool digits(struct parser *p)
{
    const char *start = p->at;
    while (p->at < p->end && *p->at >= '0' && *p->at <= '9')
        p->at++;
    return p->at > start;
}

static bool word(struct parser *p, const char *text)
{
    size_t n = strlen(text);
    if ((size_t)(p->end - p->at) < n || memcmp(p->at, text, n) != 0)
        return false;
    p->at += n;
    return true;
}

static enum status parse_number(struct parser *p, struct json *v)
{
    const char *start = p->at;
    if (*p->at == '-')
        p->at++;
    if (p->infinite && (word(p, "Infinity") || (start == p->at && word(p, "NaN")))) {
        *v = (struct json){.kind = JSON_NUMBER, .size = (uint32_t)(p->at - start), .text = start};
        return STATUS_OK;
    }
    if (p->at < p->end && *p->at == '0')
        p->at++;
    else if (!digits(p))
        return fail(p, "neither a value nor a number");
    if (p->at < p->end && *p->at == '.') {
        p->at++;
        if (!digits(p))
            return fail(p, "a number without digits behind its point");
    }
    if (p->at < p->end && (*p->at == 'e' || *p->at == 'E')) {
        p->at++;
        if (p->at < p->end && (*p->at == '+' || *p->at == '-'))
            p->at++;
        if (!digits(p))
            return fail(p, "a number without an exponent");
    }
    *v = (struct json){.kind = JSON_NUMBER, .size = (uint32_t)(p->at - start), .text = start};
    return STATUS_OK;
}

static int compare_keys(const void *a, const void *b)
{
    const struct json_member *x = *(const struct json_member *const *)a, *y = *(const struct json_member *const *)b;
    if (x->key_size != y->key_size)
        return x->key_size < y->key_size ? -1 : 1;
    return memcmp(x->key, y->key, x->key_size);
}

static enum status check_unique(struct parser *p, const struct json_member *members, size_t count)
{
    const struct json_member **sorted = malloc((count + 1) * sizeof *sorted);
    if (!sorted)
        return no_memory(p);
    for (size_t i = 0; i < count; i++)
        sorted[i] = &members[i];
    qsort(sorted, count, sizeof *sorted, compare_keys);
    enum status status = STATUS_OK;
    for (size_t i = 1; i < count && !status; i++)
        if (compare_keys(&sorted[i - 1], &sorted[i]) == 0)
            status = error_set(p->err, STATUS_BAD_INPUT, "JSON: the key \"%s\" occurs twice in one object",
                               QUOTE(sorted[i]->key, sorted[i]->key_size));
    free(sorted);
    return status;
}

static enum status parse_value(struct parser *p, struct json *v);

static enum status parse_key(struct parser *p, struct json_member *m)
{
    if (p->at == p->end || *p->at != '"')
        return fail(p, "a key was expected");
    p->at++;
    enum status status = parse_string(p, &m->key, &m->key_size);
    if (status)
        return status;
    skip_space(p);
    if (p->at == p->end || *p->at != ':')
        return fail(p, "a colon was expected");
    p->at++;
    if (p->options) {
        skip_space(p);
        if (p->at < p->end && (*p->at == '{' || *p->at == '['))
            p->which = p->options->large(p->options->context, p->depth, m->key, m->key_size);
    }
    return STATUS_OK;
}

/* A short array of plain strings, such as a merge, of which files have hundreds of thousands: needs neither stack nor arena. False: it
 * is something else, and nothing was read. */
static bool parse_pair(struct parser *p, struct json *v, struct json items[2])
{
    const char *at = p->at, *end = p->end;
    if (at == end || *at != '[' || p->depth >= p->limit)
        return false;
    for (uint32_t count = 0; count < 2;) {
        const char *text = behind_space(at + 1, end);
        if (text == end || *text++ != '"')
            return false;
        at = plain_end(text, end);
        if (at == end || *at != '"')
            return false;
        items[count++] = (struct json){.kind = JSON_STRING, .size = (uint32_t)(at - text), .text = text};
        at = behind_space(at + 1, end);
        if (at < end && *at == ']') {
            p->at = at + 1;
            *v = (struct json){.kind = JSON_ARRAY, .size = count, .items = items};
            return true;
        }
        if (at == end || *at != ',')
            return false;
    }
    return false;
}

static bool stands_at(const char *at, const char *end, const char *text, size_t size)
{
    return (size_t)(end - at) >= size && memcmp(at, text, size) == 0;
}

/* Behind a pair: files repeat themselves, so what stands around its strings mostly stands around those of the next pairs, byte for byte,
 * and is compared instead of read. Hands over as many as are like that. */
static enum status repeat_pair(struct parser *p, const struct json_options *options, int which, struct json_member *m, struct json items[2])
{
    const char *inner = items[0].text + items[0].size, *outer = items[1].text + items[1].size, *end = p->end, *text = p->at;
    size_t inner_size = (size_t)(items[1].text - inner), close_size = (size_t)(p->at - outer);
    for (const char *mark = ",[\""; *mark; mark++) { /* up to the first string of the next pair */
        text = behind_space(text, end);
        if (text == end || *text++ != *mark)
            return STATUS_OK;
    }
    size_t outer_size = (size_t)(text - outer);
    enum status status = STATUS_OK;
    for (bool more = true; more && !status;) {
        const char *text_end = plain_end(text, end);
        if (!stands_at(text_end, end, inner, inner_size))
            break;
        const char *second = text_end + inner_size, *second_end = plain_end(second, end);
        more = stands_at(second_end, end, outer, outer_size);
        if (!more && !stands_at(second_end, end, outer, close_size))
            break;
        items[0] = (struct json){.kind = JSON_STRING, .size = (uint32_t)(text_end - text), .text = text};
        items[1] = (struct json){.kind = JSON_STRING, .size = (uint32_t)(second_end - second), .text = second};
        p->at = second_end + close_size;
        text = second_end + outer_size;
        status = options->child(options->context, which, m, p->err);
    }
    return status;
}

/* One child of a large container: parsed into the scratch arena, handed over, forgotten. */
static enum status parse_child(struct parser *p, int which, struct json_member *m)
{
    struct arena *outer = p->arena;
    const struct json_options *options = p->options;
    struct json items[2];
    p->arena = &p->scratch;
    p->options = NULL;
    p->which = 0;
    skip_space(p);
    bool pair = parse_pair(p, &m->value, items);
    enum status status = pair ? STATUS_OK : parse_value(p, &m->value);
    p->arena = outer;
    p->options = options;
    if (!status)
        status = options->child(options->context, which, m, p->err);
    return status || !pair || m->key || m->value.size != 2 ? status : repeat_pair(p, options, which, m, items);
}

static enum status parse_container(struct parser *p, struct json *v)
{
    bool object = *p->at++ == '{';
    char close = object ? '}' : ']';
    int which = p->which;
    p->which = 0;
    if (++p->depth > p->limit)
        return fail(p, "nested too deeply");
    size_t base = p->used;
    struct arena empty_scratch = p->scratch;
    skip_space(p);
    bool empty = p->at < p->end && *p->at == close;
    if (empty)
        p->at++;
    while (!empty) {
        struct json_member m = {0};
        enum status status;
        skip_space(p);
        struct arena *outer = p->arena;
        if (which)
            p->arena = &p->scratch; /* keys of a large container live no longer than its children */
        status = object ? parse_key(p, &m) : STATUS_OK;
        p->arena = outer;
        if (!status)
            status = which ? parse_child(p, which, &m) : parse_value(p, &m.value);
        if (status)
            return status;
        if (!which && !push(p, &m))
            return no_memory(p);
        if (which && p->scratch.blocks == empty_scratch.blocks)
            p->scratch.at = empty_scratch.at;
        else
            empty_scratch = p->scratch;
        skip_space(p);
        if (p->at == p->end)
            return fail(p, "the text ends inside an array or object");
        char c = *p->at++;
        if (c == close)
            break;
        if (c != ',') {
            p->at--;
            return fail(p, "a comma or a closing bracket was expected");
        }
    }
    size_t count = p->used - base;
    p->used = base;
    p->depth--;
    *v = (struct json){.kind = object ? JSON_OBJECT : JSON_ARRAY, .size = (uint32_t)count};
    if (object) {
        struct json_member *members = arena_raw(p->arena, count * sizeof *members);
        if (!members)
            return no_memory(p);
        if (count)
            memcpy(members, p->stack + base, count * sizeof *members);
        v->members = members;
        return p->unique && count > 1 ? check_unique(p, members, count) : STATUS_OK;
    }
    struct json *items = arena_raw(p->arena, count * sizeof *items);
    if (!items)
        return no_memory(p);
    for (size_t i = 0; i < count; i++)
        items[i] = p->stack[base + i].value;
    v->items = items;
    return STATUS_OK;
}

static enum status parse_value(struct parser *p, struct json *v)
{
    skip_space(p);
    if (p->at == p->end)
        return fail(p, "the text ends where a value was expected");
    *v = (struct json){.kind = JSON_NULL};
    switch (*p->at) {
    case '{':
    case '[':
        return parse_container(p, v);
    case '"':
        p->at++;
        v->kind = JSON_STRING;
        return parse_string(p, &v->text, &v->size);
    case 't':
    case 'f':
        v->kind = JSON_BOOL;
        v->truth = *p->at == 't';
        return word(p, v->truth ? "true" : "false") ? STATUS_OK : fail(p, "an unknown word");
    case 'n':
        return word(p, "null") ? STATUS_OK : fail(p, "an unknown word");
    default:
        return parse_number(p, v);
    }
}

enum status json_check(const char *text, size_t size, struct error *err)
{
    size_t valid = utf8_valid_prefix(text, size);
    struct parser p = {.begin = text, .at = text + valid, .end = text + size, .err = err};
    return valid == size ? STATUS_OK : fail(&p, "not UTF-8");
}

enum status json_parse(struct arena *arena, const char *text, size_t size, const struct json_options *options,
                       struct json *out, struct error *err)
{
    struct parser p = {.arena = arena, .begin = text, .at = text, .end = text + size, .limit = 500, .err = err};
    if (options) {
        p.limit = options->depth ? options->depth : p.limit;
        p.unique = options->unique;
        p.infinite = options->infinite;
        p.options = options->large ? options : NULL;
    }
    if (size > UINT32_MAX)
        return error_set(err, STATUS_BAD_INPUT, "JSON: a text of %zu bytes is over the limit of 4 GiB", size);
    enum status status = options && options->unchecked ? STATUS_OK : json_check(text, size, err);
    if (status)
        return status;
    status = parse_value(&p, out);
    if (!status) {
        skip_space(&p);
        if (p.at != p.end)
            status = fail(&p, "something follows the value");
    }
    free(p.stack);
    arena_free(&p.scratch);
    return status;
}

const struct json *json_get_sized(const struct json *v, const char *key, size_t size)
{
    if (!v || v->kind != JSON_OBJECT)
        return NULL;
    for (uint32_t i = v->size; i-- > 0;)
        if (v->members[i].key_size == size && memcmp(v->members[i].key, key, size) == 0)
            return &v->members[i].value;
    return NULL;
}

const struct json *json_get(const struct json *v, const char *key) { return json_get_sized(v, key, strlen(key)); }

bool json_int(const struct json *v, int64_t *out)
{
    char text[32];
    if (!v || v->kind != JSON_NUMBER || v->size >= sizeof text)
        return false;
    if (v->size <= 18 && v->text[0] != '-') { /* a plain number, which cannot overflow */
        int64_t value = 0;
        for (uint32_t i = 0; i < v->size; i++) {
            if (v->text[i] < '0' || v->text[i] > '9')
                return false;
            value = value * 10 + (v->text[i] - '0');
        }
        *out = value;
        return true;
    }
    memcpy(text, v->text, v->size);
    text[v->size] = 0;
    char *end;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (*end || errno)
        return false;
    *out = n;
    return true;
}

bool json_double(const struct json *v, double *out)
{
    if (!v || v->kind != JSON_NUMBER)
        return false;
    char small[64], *text = small;
    if (v->size >= sizeof small && !(text = malloc(v->size + 1)))
        return false;
    memcpy(text, v->text, v->size);
    text[v->size] = 0;
    *out = strtod(text, NULL);
    if (text != small)
        free(text);
    return isfinite(*out);
}

bool json_bool(const struct json *v, bool *out)
{
    if (!v || v->kind != JSON_BOOL)
        return false;
    *out = v->truth;
    return true;
}

bool json_is_text(const struct json *v, const char *text)
{
    return v && v->kind == JSON_STRING && v->size == strlen(text) && memcmp(v->text, text, v->size) == 0;
}

const char *json_kind_name(const struct json *v)
{
    static const char *const names[] = {"null", "a boolean", "a number", "a string", "an array", "an object"};
    return v ? names[v->kind] : "nothing";
}

char *json_copy(struct arena *arena, const struct json *v)
{
    return v && v->kind == JSON_STRING ? arena_copy(arena, v->text, v->size) : NULL;
}
