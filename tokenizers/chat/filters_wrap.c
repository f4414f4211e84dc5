/* Filters that lay text out: wordwrap, urlize, pprint. */
#include "tokenizers/chat/chat.h"

#include <string.h>

#include "base/utf8.h"

/* ---- wordwrap: textwrap.wrap per line ------------------------------------------------------------------------------- */

struct wrap {
    struct vm *vm;
    const struct text *t;
    int64_t width;
    bool break_long, break_hyphens;
    const struct text *newline;
    bool some; /* a line was written */
};

static uint32_t chars(const struct text *t, uint32_t from, uint32_t to)
{
    uint32_t n = 0;
    for (uint32_t i = from; i < to; i++)
        n += ((unsigned char)t->data[i] & 0xC0) != 0x80;
    return n;
}

static bool blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* The end of the chunk at `at`: a run of blanks, or a word (up to behind a hyphen between letters). */
static uint32_t chunk_end(const struct wrap *w, uint32_t at, uint32_t end)
{
    const char *s = w->t->data;
    uint32_t i = at;
    if (blank(s[at])) {
        while (i < end && blank(s[i]))
            i++;
        return i;
    }
    for (; i < end && !blank(s[i]); i++) {
        bool letters = i > at + 1 && i + 2 < end && (unsigned char)s[i - 1] > '9' && (unsigned char)s[i - 2] > '9' && (unsigned char)s[i + 1] > '9' &&
                       (unsigned char)s[i + 2] > '9';
        if (w->break_hyphens && s[i] == '-' && letters)
            return i + 1;
    }
    return i;
}

static bool put_line(struct wrap *w, uint32_t from, uint32_t to, bool trim)
{
    while (trim && to > from && blank(w->t->data[to - 1]))
        to--;
    if (w->some && !pile_add_text(w->vm, &w->vm->scratch, w->newline))
        return false;
    w->some = true;
    return pile_add_slice(w->vm, &w->vm->scratch, w->t, from, to - from);
}

static bool wrap_line(struct wrap *w, uint32_t from, uint32_t end)
{
    uint32_t line = from, at = from;
    int64_t used = 0;
    bool wrote = false;
    while (at < end) {
        uint32_t next = chunk_end(w, at, end);
        int64_t size = chars(w->t, at, next);
        if (at == line && wrote && blank(w->t->data[at])) { /* white space is dropped where a line breaks */
            line = at = next;
            continue;
        }
        if (used + size <= w->width) {
            used += size;
            at = next;
            continue;
        }
        bool full = size > w->width && w->break_long && used == w->width; /* textwrap adds an empty piece: nothing is trimmed */
        if (size > w->width && w->break_long && w->width > used) {
            next = at;
            for (int64_t k = used; k < w->width && next < end; k++) {
                uint32_t c;
                next += (uint32_t)utf8_decode(w->t->data + next, end - next, &c);
            }
            at = next;
        } else if (at == line) {
            at = next;
        }
        if (!jinja_step(w->vm) || !put_line(w, line, at, !full))
            return false;
        wrote = true;
        line = at;
        used = 0;
    }
    return line == end || put_line(w, line, end, true);
}

bool filter_wordwrap(struct vm *vm, struct value self, const struct args *args, struct value *out)
{
    static const struct text newline = {.data = "\n", .size = 1, .count = 1, .own = true};
    struct value v[4], lines;
    struct wrap w = {.vm = vm, .newline = &newline};
    if (!jinja_bind(vm, "wordwrap", "width? break_long_words? wrapstring? break_on_hyphens?", args, v) ||
        !jinja_int_or(vm, v[0], 79, &w.width) || !jinja_flag(vm, v[1], true, &w.break_long) || !jinja_flag(vm, v[3], true, &w.break_hyphens))
        return false;
    if (v[2].kind != K_MISSING && v[2].kind != K_NONE && !jinja_as_text(vm, v[2], &w.newline))
        return false;
    if (w.width <= 0)
        return jinja_fail(vm, "invalid width %lld (must be > 0)", (long long)w.width);
    if (!jinja_as_text(vm, self, &w.t) || !method_splitlines(vm, self, &(struct args){0}, &lines))
        return false;
    size_t begin = build_begin(vm);
    for (uint32_t i = 0; i < lines.list->count; i++) {
        const struct text *t = w.t = lines.list->items[i].text;
        bool ok = t->size ? wrap_line(&w, 0, t->size) : put_line(&w, 0, 0, true);
        if (!ok)
            return false;
    }
    return build_end(vm, begin, out);
}

/* ---- urlize --------------------------------------------------------------------------------------------------------- */

static bool begins(const struct text *t, uint32_t at, uint32_t end, const char *word)
{
    size_t n = strlen(word);
    return end - at >= n && memcmp(t->data + at, word, n) == 0;
}

static bool link(struct vm *vm, const struct text *t, uint32_t from, uint32_t to, bool bare, int64_t limit, const struct text *rel, const struct text *target)
{
    struct pile *p = &vm->scratch;
    uint32_t shown = to;
    bool cut = limit >= 0 && chars(t, from, to) > limit;
    for (int64_t k = 0; cut && (k == 0 || k < limit); k++) {
        uint32_t c;
        shown = k == 0 ? from : shown;
        if (limit > 0)
            shown += (uint32_t)utf8_decode(t->data + shown, to - shown, &c);
    }
    return pile_add_word(vm, p, "<a href=\"") && (!bare || pile_add_word(vm, p, "https://")) && pile_add_slice(vm, p, t, from, to - from) &&
           pile_add_word(vm, p, "\"") && (!rel->size || (pile_add_word(vm, p, " rel=\"") && text_escape(vm, p, rel) && pile_add_word(vm, p, "\""))) &&
           (!target->size || (pile_add_word(vm, p, " target=\"") && text_escape(vm, p, target) && pile_add_word(vm, p, "\""))) &&
           pile_add_word(vm, p, ">") && pile_add_slice(vm, p, t, from, shown - from) && (!cut || pile_add_word(vm, p, "...")) &&
           pile_add_word(vm, p, "</a>");
}

/* Addresses that begin with http://, https:// or www. become links; jinja2's guesses at bare domains and mail are left out. */
bool filter_urlize(struct vm *vm, struct value self, const struct args *args, struct value *out)
{
    struct value v[5], escaped;
    int64_t limit;
    bool nofollow;
    const struct text *rel = &text_empty, *target = &text_empty;
    struct text noopener = {.data = "noopener", .size = 8, .count = 8, .own = true}, both = {.data = "nofollow noopener", .size = 17, .count = 17, .own = true};
    if (!jinja_bind(vm, "urlize", "trim_url_limit? nofollow? target? rel? extra_schemes?", args, v) ||
        !jinja_int_or(vm, v[0].kind == K_NONE ? MISSING_VALUE : v[0], -1, &limit) || !jinja_flag(vm, v[1], false, &nofollow) ||
        (v[2].kind == K_STRING && !jinja_as_text(vm, v[2], &target)) || !jinja_escape(vm, self, &escaped))
        return false;
    rel = v[3].kind == K_STRING ? v[3].text : nofollow ? &both : &noopener;
    const struct text *t = escaped.text;
    size_t begin = build_begin(vm);
    for (uint32_t at = 0, to; at < t->size; at = to) {
        bool space = blank(t->data[at]);
        for (to = at; to < t->size && blank(t->data[to]) == space; to++)
            ;
        uint32_t from = at, end = to;
        while (from < end && strchr("(<", t->data[from]))
            from++;
        while (end > from && strchr(")>.,", t->data[end - 1]))
            end--;
        bool bare = begins(t, from, end, "www.");
        bool url = !space && (bare || begins(t, from, end, "http://") || begins(t, from, end, "https://"));
        if (!url ? !pile_add_slice(vm, &vm->scratch, t, at, to - at)
                 : !pile_add_slice(vm, &vm->scratch, t, at, from - at) || !link(vm, t, from, end, bare, limit, rel, target) ||
                       !pile_add_slice(vm, &vm->scratch, t, end, to - end))
            return false;
    }
    if (!build_end(vm, begin, out))
        return false;
    out->safe = vm->autoescape;
    return true;
}

/* ---- pprint --------------------------------------------------------------------------------------------------------- */

static bool pretty(struct vm *vm, struct value v, int64_t indent, int64_t allowance);

static bool line_break(struct vm *vm, int64_t indent)
{
    static const struct text space = {.data = " ", .size = 1, .count = 1, .own = true};
    return pile_add_word(vm, &vm->scratch, ",\n") && pile_repeat(vm, &vm->scratch, &space, indent);
}

/* Keys in order, as pprint shows them. */
static bool sorted_dict(struct vm *vm, struct value v, struct value *out)
{
    struct value items;
    if (!filter_dictsort(vm, v, &(struct args){.items = &BOOL_VALUE(true), .count = 1}, &items))
        return false;
    struct dict *d = dict_new(vm, items.list->count);
    for (uint32_t i = 0; d && i < items.list->count; i++)
        if (!dict_set(vm, d, items.list->items[i].list->items[0], items.list->items[i].list->items[1]))
            return false;
    *out = (struct value){.kind = K_DICT, .dict = d};
    return d != NULL;
}

static bool pretty_dict(struct vm *vm, const struct dict *d, int64_t indent, int64_t allowance)
{
    for (uint32_t i = 0; i < d->count; i++) {
        size_t before = vm->scratch.size;
        bool last = i + 1 == d->count;
        if (i ? !line_break(vm, indent + 1) : !pile_add_word(vm, &vm->scratch, "{"))
            return false;
        before = vm->scratch.size;
        if (!jinja_repr(vm, &vm->scratch, d->entries[i].key) || !pile_add_word(vm, &vm->scratch, ": "))
            return false;
        int64_t width = (int64_t)(vm->scratch.size - before);
        if (!pretty(vm, d->entries[i].value, indent + 1 + width, last ? allowance + 1 : 1))
            return false;
    }
    return pile_add_word(vm, &vm->scratch, "}");
}

static bool pretty_list(struct vm *vm, struct value v, int64_t indent, int64_t allowance)
{
    bool tuple = v.kind == K_TUPLE;
    for (uint32_t i = 0; i < v.list->count; i++)
        if ((i ? !line_break(vm, indent + 1) : !pile_add_word(vm, &vm->scratch, tuple ? "(" : "[")) ||
            !pretty(vm, v.list->items[i], indent + 1, i + 1 == v.list->count ? allowance + 1 : 1))
            return false;
    return pile_add_word(vm, &vm->scratch, tuple ? (v.list->count == 1 ? ",)" : ")") : "]");
}

static bool pretty(struct vm *vm, struct value v, int64_t indent, int64_t allowance)
{
    struct value text;
    if (!jinja_deep(vm) || (v.kind == K_DICT && !sorted_dict(vm, v, &v)))
        return false;
    size_t begin = build_begin(vm);
    if (!jinja_repr(vm, &vm->scratch, v) || !build_end(vm, begin, &text))
        return false;
    bool fits = text_count(text.text) <= 80 - indent - allowance;
    if (!fits && v.kind == K_DICT && v.dict->count)
        return pretty_dict(vm, v.dict, indent, allowance);
    if (!fits && (v.kind == K_LIST || v.kind == K_TUPLE) && v.list->count)
        return pretty_list(vm, v, indent, allowance);
    return pile_add_text(vm, &vm->scratch, text.text);
}

bool filter_pprint(struct vm *vm, struct value self, const struct args *args, struct value *out)
{
    size_t begin = build_begin(vm);
    return jinja_bind(vm, "pprint", "", args, NULL) && pretty(vm, self, 0, 0) && build_end(vm, begin, out);
}
