#include "tokenizers/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <limits.h>
#include <pcre2.h>
#include <string.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "tokenizers/scanner.h"
#include "tokenizers/unicode.h"

/* The classes as Oniguruma has them, to stand inside brackets. PCRE2's own \s takes U+180E in, its \w leaves marks out,
 * its \h is blanks where Ruby's is hexadecimal digits. */
#define WHITE "\\t-\\r \\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"
#define WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
#define WORD_OUTSIDE "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}" /* \w takes these in too, but not in brackets */
#define HEX "0-9A-Fa-f"

struct translation {
    const char *at, *end;
    struct str *out;
    int depth; /* of nested classes */
    struct error *err;
};

static enum status refuse(struct translation *t, const char *what)
{
    return error_set(t->err, STATUS_BAD_INPUT, "%s is not supported in a pattern", what);
}

static void add_set(struct translation *t, char letter, const char *set)
{
    str_add_text(t->out, set);
    if (letter == 'w' || letter == 'W') {
        add_newer_members("Alphabetic", 10, t->out);
        add_newer_members("M", 1, t->out);
        add_newer_members("Nd", 2, t->out);
    }
}

/* \p{X}, \pX, \p{^X}, \P{X} at t->at, with the characters that PCRE2 does not know yet. A negated one inside brackets
 * stays as it is: its complement cannot be said there. */
static enum status translate_property(struct translation *t, bool in_class)
{
    bool negated = t->at[1] == 'P';
    const char *name = t->at + 2, *end;
    if (name == t->end)
        return refuse(t, "\\p at the end");
    bool braces = *name == '{';
    end = braces ? memchr(name, '}', (size_t)(t->end - name)) : name + 1;
    if (!end)
        return refuse(t, "\\p{ without its brace");
    name += braces;
    if (name < end && *name == '^') {
        negated = !negated;
        name++;
    }
    size_t size = (size_t)(end - name);
    if (!in_class)
        str_add_text(t->out, negated ? "[^" : "[");
    str_add_text(t->out, in_class && negated ? "\\P{" : "\\p{");
    str_add(t->out, name, size);
    str_add_char(t->out, '}');
    if (!in_class || !negated)
        add_newer_members(name, size, t->out);
    if (!in_class)
        str_add_char(t->out, ']');
    t->at = end + braces;
    return STATUS_OK;
}

/* A backslash at t->at and what belongs to it. */
static enum status translate_escape(struct translation *t, bool in_class)
{
    if (t->end - t->at < 2)
        return refuse(t, "a backslash at the end");
    char c = t->at[1];
    if (c == 'p' || c == 'P')
        return translate_property(t, in_class);
    const char *set = c == 's' || c == 'S' ? WHITE : c == 'w' || c == 'W' ? WORD : c == 'h' || c == 'H' ? HEX : NULL;
    if (set && in_class && c == 'S') {
        str_add_text(t->out, "\\P{White_Space}");
    } else if (set && in_class && (c == 'W' || c == 'H')) {
        return refuse(t, c == 'W' ? "\\W in brackets" : "\\H in brackets");
    } else if (set && in_class) {
        add_set(t, c, set);
    } else if (set) {
        str_add_text(t->out, c >= 'A' && c <= 'Z' ? "[^" : "[");
        add_set(t, c, set);
        str_add_text(t->out, c == 'w' || c == 'W' ? WORD_OUTSIDE "]" : "]");
    } else if (c == 'u' && t->end - t->at >= 6) {
        str_add_text(t->out, "\\x{");
        str_add(t->out, t->at + 2, 4);
        str_add_text(t->out, "}");
        t->at += 4;
    } else {
        str_add(t->out, t->at, 2);
    }
    t->at += 2;
    return STATUS_OK;
}

/* [:name:] at t->at, inside brackets. */
static enum status translate_posix(struct translation *t)
{
    static const struct {
        const char *name, *members;
    } known[] = {{"[:alpha:]", "\\p{Alphabetic}"}, {"[:alnum:]", "\\p{Alphabetic}\\p{Nd}"}, {"[:digit:]", "\\p{Nd}"},
                 {"[:punct:]", "\\p{P}\\p{S}"},   {"[:space:]", WHITE},                       {"[:word:]", WORD},
                 {"[:upper:]", "\\p{Uppercase}"},  {"[:lower:]", "\\p{Lowercase}"},          {"[:xdigit:]", HEX},
                 {"[:cntrl:]", "\\p{Cc}"}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        size_t n = strlen(known[i].name);
        if ((size_t)(t->end - t->at) < n || memcmp(t->at, known[i].name, n) != 0)
            continue;
        str_add_text(t->out, known[i].members);
        t->at += n;
        return STATUS_OK;
    }
    return refuse(t, "this [:name:]");
}

/* The members of a class, t->at behind its "[" or "[^", up to the "]" or "&&" that ends them (not consumed). A nested
 * class that is not negated adds its members. */
static enum status translate_members(struct translation *t)
{
    bool first = true;
    while (t->at < t->end) {
        enum status status = STATUS_OK;
        if (*t->at == ']' && !first)
            return STATUS_OK;
        if (t->end - t->at >= 2 && t->at[0] == '&' && t->at[1] == '&')
            return STATUS_OK;
        if (*t->at == '\\') {
            status = translate_escape(t, true);
        } else if (*t->at == '[' && t->end - t->at >= 2 && t->at[1] == ':') {
            status = translate_posix(t);
        } else if (*t->at == '[') {
            if (t->end - t->at >= 2 && t->at[1] == '^')
                return refuse(t, "a negated class inside a class");
            if (++t->depth > 20)
                return refuse(t, "such deep nesting of classes");
            t->at++;
            if ((status = translate_members(t)))
                return status;
            if (t->at == t->end || *t->at != ']')
                return refuse(t, "an intersection in a nested class");
            t->at++;
            t->depth--;
        } else {
            str_add_char(t->out, *t->at++);
        }
        if (status)
            return status;
        first = false;
    }
    return STATUS_OK; /* PCRE2 says that the bracket is missing */
}

/* A class at t->at. [A&&[B]] becomes (?:(?=[B])[A]): one character that both accept. */
static enum status translate_class(struct translation *t)
{
    struct str body = {0}, *out = t->out;
    t->out = &body;
    str_add_char(&body, *t->at++);
    if (t->at < t->end && *t->at == '^')
        str_add_char(&body, *t->at++);
    enum status status = translate_members(t);
    str_add_char(&body, ']');
    bool both = !status && t->end - t->at >= 3 && t->at[0] == '&';
    if (both) {
        t->at += 2;
        bool negated = t->end - t->at >= 2 && t->at[0] == '[' && t->at[1] == '^';
        if (*t->at != '[' || body.data[1] == '^' || ++t->depth > 20) {
            status = refuse(t, "this form of intersection");
        } else {
            str_add_text(out, negated ? "(?:(?![" : "(?:(?=[");
            t->at += negated ? 2 : 1;
            t->out = out;
            status = translate_members(t);
            str_add_text(out, "])");
            t->depth--;
            if (!status && (t->end - t->at < 2 || t->at[0] != ']' || t->at[1] != ']'))
                status = refuse(t, "this form of intersection");
            t->at += status ? 0 : 1;
        }
    }
    t->out = out;
    if (!status && t->at < t->end && *t->at == ']') {
        str_add(out, body.data, body.size);
        t->at++;
    } else if (!status) {
        str_add(out, body.data, body.size - 1);
    }
    if (both)
        str_add_char(out, ')');
    out->failed |= body.failed;
    str_free(&body);
    return status;
}

enum status pattern_translate(const char *regex, size_t size, struct str *out, struct error *err)
{
    struct translation t = {.at = regex, .end = regex + size, .out = out, .err = err};
    enum status status = STATUS_OK;
    while (!status && t.at < t.end) {
        if (*t.at == '\\')
            status = translate_escape(&t, false);
        else if (*t.at == '[')
            status = translate_class(&t);
        else
            str_add_char(out, *t.at++);
    }
    if (!status && out->failed)
        status = error_memory(err, "a pattern");
    return status;
}

enum { PCRE_COMMON = PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C | PCRE2_USE_OFFSET_LIMIT };

/* text: p->source as PCRE2 writes it. */
/* jit: what for; 0: not yet */
static enum status compile(struct pattern *p, const struct str *text, uint32_t options, uint32_t jit, struct error *err)
{
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    int number;
    PCRE2_SIZE offset;
    if (!context)
        return error_memory(err, "a pattern");
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    pcre2_set_bsr(context, PCRE2_BSR_UNICODE);
    p->code = pcre2_compile((PCRE2_SPTR)str_text(text), text->size, PCRE_COMMON | options, &number, &offset, context);
    pcre2_compile_context_free(context);
    if (!p->code) {
        char words[120];
        pcre2_get_error_message(number, (PCRE2_UCHAR *)words, sizeof words);
        return error_set(err, STATUS_BAD_INPUT, "the pattern \"%s\" is no regular expression: %s", QUOTE(p->source.data, p->source.size), words);
    }
    if (jit)
        pcre2_jit_compile(p->code, jit); /* where there is none, the interpreter runs it */
    return STATUS_OK;
}

static enum status open_regex(struct pattern *p, const char *regex, size_t size, struct error *err)
{
    enum { LONGEST = 1 << 16 };
    if (size > LONGEST)
        return error_set(err, STATUS_BAD_INPUT, "a pattern of %zu bytes is over the limit of %d", size, LONGEST);
    return pattern_literal(p, regex, size, err);
}

enum status pattern_regex(struct pattern *p, const char *regex, size_t size, struct error *err)
{
    struct str translated = {0};
    enum status status = open_regex(p, regex, size, err);
    if (!status)
        status = pattern_translate(regex, size, &translated, err);
    if (!status) /* Ruby's ^ and $ hold at every line */
        status = compile(p, &translated, PCRE2_MULTILINE, 0, err);
    if (!status)
        status = scanner_compile(&p->scanner, regex, size, err);
    p->threes = threes_of(regex, size);
    if (!status && !p->scanner)
        pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE);
    str_free(&translated);
    return status;
}

enum status pattern_python(struct pattern *p, const char *regex, size_t size, struct error *err)
{
    struct str translated = {0};
    enum status status = open_regex(p, regex, size, err);
    for (size_t i = 0; i < size; i++) {
        bool pair = regex[i] == '\\' && i + 1 < size;
        if (pair && regex[i + 1] == 'Z') /* the very end, which is PCRE2's \z */
            str_add_text(&translated, "\\z");
        else
            str_add(&translated, regex + i, 1 + pair);
        i += pair;
    }
    if (!status)
        status = translated.failed ? error_memory(err, "a pattern")
                                   : compile(p, &translated, PCRE2_DOTALL | PCRE2_MATCH_INVALID_UTF, PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD, err);
    if (!status && pattern_group_count(p) >= PATTERN_GROUPS)
        status = error_set(err, STATUS_BAD_INPUT, "the pattern \"%s\" has more than %d groups", QUOTE(regex, size), PATTERN_GROUPS - 1);
    str_free(&translated);
    return status;
}

uint32_t pattern_group_count(const struct pattern *p)
{
    uint32_t count = 0;
    pcre2_pattern_info(p->code, PCRE2_INFO_CAPTURECOUNT, &count);
    return count;
}

const char *pattern_name(const struct pattern *p, uint32_t i, int *number)
{
    uint32_t count = 0, size = 0;
    PCRE2_SPTR table = NULL;
    pcre2_pattern_info(p->code, PCRE2_INFO_NAMECOUNT, &count);
    pcre2_pattern_info(p->code, PCRE2_INFO_NAMEENTRYSIZE, &size);
    pcre2_pattern_info(p->code, PCRE2_INFO_NAMETABLE, &table);
    if (i >= count)
        return NULL;
    const unsigned char *entry = table + (size_t)i * size; /* the number in two bytes, then the name */
    *number = entry[0] << 8 | entry[1];
    return (const char *)entry + 2;
}

int pattern_group(const struct pattern *p, const char *name)
{
    int number;
    const char *there;
    for (uint32_t i = 0; (there = pattern_name(p, i, &number)); i++)
        if (!strcmp(there, name))
            return number;
    return -1;
}

enum status pattern_literal(struct pattern *p, const char *text, size_t size, struct error *err)
{
    *p = (struct pattern){0};
    str_add(&p->source, text, size);
    return p->source.failed ? error_memory(err, "a pattern") : STATUS_OK;
}

enum status pattern_open(struct pattern *p, const struct json *v, const char *what, struct error *err)
{
    const struct json *literal = json_get(v, "String"), *regex = json_get(v, "Regex");
    *p = (struct pattern){0};
    enum status status;
    if (json_is(v, JSON_STRING))
        literal = v; /* as files of the package's first years have it */
    if (json_is(literal, JSON_STRING))
        status = pattern_literal(p, literal->text, literal->size, err);
    else if (json_is(regex, JSON_STRING))
        status = pattern_regex(p, regex->text, regex->size, err);
    else
        return error_set(err, STATUS_BAD_INPUT, "%s: \"pattern\" must be {\"String\": ...} or {\"Regex\": ...}", what);
    return status ? error_prefix(err, "%s", what) : STATUS_OK;
}

void pattern_free(struct pattern *p)
{
    str_free(&p->source);
    pcre2_code_free(p->code);
    scanner_free(p->scanner);
    p->code = NULL;
    p->scanner = NULL;
}

void pattern_run_free(struct pattern_run *run)
{
    pcre2_match_data_free(run->data);
    pcre2_match_context_free(run->context);
    pcre2_jit_stack_free(run->stack);
    *run = (struct pattern_run){0};
}

static enum status prepare(struct pattern_run *run, struct error *err)
{
    run->data = pcre2_match_data_create(PATTERN_GROUPS, NULL);
    run->context = pcre2_match_context_create(NULL);
    run->stack = pcre2_jit_stack_create(32 << 10, 1 << 20, NULL);
    if (!run->data || !run->context) {
        pattern_run_free(run);
        return error_memory(err, "a pattern's stack");
    }
    pcre2_set_match_limit(run->context, 10000000);
    pcre2_set_heap_limit(run->context, 64 << 10); /* KiB */
    if (run->stack)
        pcre2_jit_stack_assign(run->context, NULL, run->stack);
    return STATUS_OK;
}

static enum status find_literal(const struct pattern *p, const char *text, size_t size, size_t from, bool *found, size_t *start, size_t *end)
{
    const char *at = p->source.size && from < size ? memmem(text + from, size - from, p->source.data, p->source.size) : NULL;
    *found = at;
    if (at) {
        *start = (size_t)(at - text);
        *end = *start + p->source.size;
    }
    return STATUS_OK;
}

enum { OUT_OF_TIME = INT_MIN };

static enum status too_slow(const struct pattern *p, int result, struct error *err)
{
    char words[120] = "out of time";
    if (result != OUT_OF_TIME)
        pcre2_get_error_message(result, (PCRE2_UCHAR *)words, sizeof words);
    return error_set(err, STATUS_FAILED, "the pattern \"%s\" of the tokenizer takes too many steps on this text (%s)",
                     QUOTE(p->source.data, p->source.size), words);
}

/* PCRE2 counts its own steps, but not characters that a repeated class runs over: a pattern that tries every start and
 * reads to the end from each is quadratic without ever reaching a limit. So searches go in windows of starts, and the
 * clock is looked at between them. The bound is far above what any published tokenizer takes. */
static bool in_time(struct pattern_run *run, size_t size)
{
    if (!run->started)
        run->started = clock_ns();
    int64_t budget = run->budget ? run->budget : 5000000000;
    return (++run->calls % 16 && !run->budget) || clock_ns() - run->started < budget + (int64_t)size * (budget / 1000000);
}

/* One search over starts from `from` to the end, window by window. Returns PCRE2's result, or OUT_OF_TIME. */
static int search(const struct pattern *p, struct pattern_run *run, const char *text, size_t size, size_t from, uint32_t options)
{
    enum { STEPS = 1 << 26 }; /* starts x bytes to the end: at most about 0.1 s a window */
    for (;;) {
        size_t rest = size - from, window = STEPS / (rest + 1) + 16;
        size_t last = rest > window ? from + window : size;
        while (last < size && ((unsigned char)text[last] & 0xC0) == 0x80)
            last++;
        if (!in_time(run, size))
            return OUT_OF_TIME;
        pcre2_set_offset_limit(run->context, last);
        int n = pcre2_match(p->code, (PCRE2_SPTR)text, size, from, options, run->data, run->context);
        if (n != PCRE2_ERROR_NOMATCH || last == size)
            return n;
        from = last;
    }
}

/* A pattern that reads far and matches little is left to PCRE2, which has limits and tricks of its own. */
static bool scan(const struct pattern *p, struct pattern_run *run, const char *text, size_t size, size_t from, bool *found, size_t *start, size_t *end)
{
    uint64_t allowed = ((uint64_t)1 << 24) + size * 64;
    for (*start = from; *start < size && run->wasted <= allowed;) {
        size_t read;
        uint32_t c;
        *end = scanner_match(p->scanner, text, size, *start, &read);
        run->wasted += read - *end;
        if ((*found = *end > *start))
            return true;
        *start += text_next(text + *start, size - *start, &c);
    }
    return *start >= size;
}

enum status pattern_find(const struct pattern *p, struct pattern_run *run, const char *text, size_t size, size_t from, bool *found,
                         size_t *start, size_t *end, struct error *err)
{
    *found = false;
    if (from > size)
        return STATUS_OK;
    if (!p->code)
        return find_literal(p, text, size, from, found, start, end);
    if (p->scanner && scan(p, run, text, size, from, found, start, end))
        return STATUS_OK;
    if (!run->data) {
        enum status status = prepare(run, err);
        if (status)
            return status;
    }
    int n = search(p, run, text, size, from, PCRE2_NO_UTF_CHECK);
    if (n == PCRE2_ERROR_NOMATCH)
        return STATUS_OK;
    if (n < 0)
        return too_slow(p, n, err);
    const PCRE2_SIZE *bounds = pcre2_get_ovector_pointer(run->data);
    *found = true;
    *start = bounds[0];
    *end = bounds[1];
    if (*start > *end || *end > size) /* \K in a lookahead can swap them */
        return error_set(err, STATUS_FAILED, "the pattern \"%s\" of the tokenizer matched backwards", QUOTE(p->source.data, p->source.size));
    return STATUS_OK;
}

enum status pattern_match(const struct pattern *p, struct pattern_run *run, const char *text, size_t size, size_t from, bool more,
                          struct pattern_match *out, struct error *err)
{
    *out = (struct pattern_match){.found = MATCH_NONE};
    enum status status = run->data ? STATUS_OK : prepare(run, err);
    if (status || from > size)
        return status;
    size -= more ? utf8_unfinished(text, size) : 0;
    if (from > size)
        return STATUS_OK;
    run->started = clock_ns() - run->spent;
    int n = search(p, run, text, size, from, more ? PCRE2_PARTIAL_HARD : 0);
    run->spent = clock_ns() - run->started;
    if (n == PCRE2_ERROR_NOMATCH)
        return STATUS_OK;
    if (n < 0 && n != PCRE2_ERROR_PARTIAL)
        return too_slow(p, n, err);
    const PCRE2_SIZE *bounds = pcre2_get_ovector_pointer(run->data);
    out->found = n == PCRE2_ERROR_PARTIAL ? MATCH_PART : MATCH_WHOLE;
    for (int i = 0; i < PATTERN_GROUPS; i++) {
        bool took = (i < n || !i) && bounds[2 * i] != PCRE2_UNSET && bounds[2 * i] <= bounds[2 * i + 1];
        out->groups[i] = took ? (struct pattern_group){bounds[2 * i], bounds[2 * i + 1]} : (struct pattern_group){1, 0};
    }
    return out->groups[0].start > out->groups[0].end || out->groups[0].start < from ? too_slow(p, PCRE2_ERROR_INTERNAL, err) : STATUS_OK;
}

enum status pattern_next(const struct pattern *p, struct pattern_run *run, const char *text, size_t size, struct pattern_place *place,
                         bool *found, size_t *start, size_t *end, struct error *err)
{
    if (p->threes.categories) {
        size_t empty = place->any ? place->last : SIZE_MAX;
        *found = threes_find(&p->threes, &place->digits, text, size, place->from, empty, start, end);
        *place = (struct pattern_place){.from = *found ? *end : size, .last = *found ? *end : place->last, .any = place->any || *found, .digits = place->digits};
        return STATUS_OK;
    }
    for (;;) {
        enum status status = pattern_find(p, run, text, size, place->from, found, start, end, err);
        if (status || !*found)
            return status;
        if (*start < *end || !place->any || *end != place->last)
            break;
        uint32_t c;
        place->from += place->from < size ? text_next(text + place->from, size - place->from, &c) : 1;
    }
    *place = (struct pattern_place){.from = *end, .last = *end, .any = true};
    return STATUS_OK;
}
