/* tojson: json.dumps as transformers' filter calls it. Key order is the input's, nothing is escaped for HTML; strings
 * keep their marks, brackets and numbers are the template's own. */
#include "tokenizers/chat/chat.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

struct writer {
    struct vm *vm;
    struct pile *out;
    bool ascii, sort, indented;
    const struct text *indent, *comma, *colon;
};

static bool write_value(struct writer *w, struct value v, int64_t depth);

static bool word(struct writer *w, const char *text) { return pile_add_word(w->vm, w->out, text); }

static bool write_string(struct writer *w, const struct text *t)
{
    uint32_t plain = 0;
    if (!word(w, "\""))
        return false;
    for (uint32_t at = 0, n; at < t->size; at += n) {
        uint32_t c = (unsigned char)t->data[at];
        char escape[16];
        int size = 0;
        n = 1;
        if (c >= 0x80)
            n = w->ascii ? (uint32_t)utf8_decode(t->data + at, t->size - at, &c) : 1;
        const char *simple = c && c < 0x80 ? strchr("\"\"\\\\\bb\ff\nn\rr\tt", (char)c) : NULL;
        if (simple && (c == '"' || c == '\\' || c < 0x20))
            size = sprintf(escape, "\\%c", simple[1]);
        else if (c < 0x20 || (w->ascii && c >= 0x80 && c < 0x10000))
            size = sprintf(escape, "\\u%04x", c);
        else if (w->ascii && c == 0x7F)
            size = 0;
        else if (w->ascii && c >= 0x10000)
            size = sprintf(escape, "\\u%04x\\u%04x", 0xD800 + ((c - 0x10000) >> 10), 0xDC00 + ((c - 0x10000) & 0x3FF));
        if (!size)
            continue;
        if (!pile_add_slice(w->vm, w->out, t, plain, at - plain) || !pile_add_like(w->vm, w->out, t, at, escape, (size_t)size))
            return false;
        plain = at + n;
    }
    return pile_add_slice(w->vm, w->out, t, plain, t->size - plain) && word(w, "\"");
}

static bool write_float(struct writer *w, double d)
{
    char text[40];
    if (isfinite(d))
        return pile_add(w->vm, w->out, text, float_print(d, text), true);
    return word(w, isnan(d) ? "NaN" : d > 0 ? "Infinity" : "-Infinity");
}

static bool new_line(struct writer *w, int64_t depth)
{
    return !w->indented || (word(w, "\n") && pile_repeat(w->vm, w->out, w->indent, depth));
}

static bool write_list(struct writer *w, const struct list *l, int64_t depth)
{
    if (!l->count)
        return word(w, "[]");
    if (!word(w, "["))
        return false;
    for (uint32_t i = 0; i < l->count; i++)
        if ((i && !pile_add_text(w->vm, w->out, w->comma)) || !new_line(w, depth + 1) || !write_value(w, l->items[i], depth + 1))
            return false;
    return new_line(w, depth) && word(w, "]");
}

static bool write_key(struct writer *w, struct value key)
{
    switch (key.kind) {
    case K_STRING:
        return write_string(w, key.text);
    case K_NONE:
    case K_BOOL:
    case K_INT:
    case K_BIG:
    case K_FLOAT:
        return word(w, "\"") && write_value(w, key, 0) && word(w, "\"");
    default:
        return jinja_fail(w->vm, "keys must be str, int, float, bool or None, not %s", jinja_type(&key));
    }
}

/* Members in the order of their keys. */
static bool sorted_members(struct writer *w, const struct dict *d, struct value **members)
{
    struct value *keys = jinja_alloc(w->vm, d->count, sizeof *keys);
    *members = jinja_alloc(w->vm, d->count, sizeof **members);
    if (!keys || !*members)
        return false;
    for (uint32_t i = 0; i < d->count; i++) {
        keys[i] = d->entries[i].key;
        (*members)[i] = INT_VALUE(i);
    }
    return jinja_sort(w->vm, *members, keys, d->count, false);
}

static bool write_dict(struct writer *w, const struct dict *d, int64_t depth)
{
    struct value *order = NULL;
    if (!d->count)
        return word(w, "{}");
    if ((w->sort && !sorted_members(w, d, &order)) || !word(w, "{"))
        return false;
    for (uint32_t i = 0; i < d->count; i++) {
        const struct entry *e = &d->entries[order ? (uint32_t)order[i].integer : i];
        if ((i && !pile_add_text(w->vm, w->out, w->comma)) || !new_line(w, depth + 1) || !write_key(w, e->key) ||
            !pile_add_text(w->vm, w->out, w->colon) || !write_value(w, e->value, depth + 1))
            return false;
    }
    return new_line(w, depth) && word(w, "}");
}

static bool write_value(struct writer *w, struct value v, int64_t depth)
{
    if (!jinja_step(w->vm) || !jinja_deep(w->vm))
        return false;
    switch (v.kind) {
    case K_NONE:
        return word(w, "null");
    case K_BOOL:
        return word(w, v.truth ? "true" : "false");
    case K_INT:
    case K_BIG:
        return jinja_repr(w->vm, w->out, v);
    case K_FLOAT:
        return write_float(w, v.real);
    case K_STRING:
        return write_string(w, v.text);
    case K_LIST:
    case K_TUPLE:
        return write_list(w, v.list, depth);
    case K_DICT:
        return write_dict(w, v.dict, depth);
    default:
        return jinja_fail(w->vm, "Object of type %s is not JSON serializable", jinja_type(&v));
    }
}

/* indent: a number of spaces or the text itself. */
static bool read_indent(struct writer *w, struct value v)
{
    static const struct text space = {.data = " ", .size = 1, .count = 1, .own = true};
    int64_t n;
    struct value text;
    if (v.kind == K_MISSING || v.kind == K_NONE)
        return true;
    w->indented = true;
    if (v.kind == K_STRING) {
        w->indent = v.text;
        return true;
    }
    size_t begin = build_begin(w->vm);
    if (!jinja_as_int(w->vm, v, &n) || !pile_repeat(w->vm, &w->vm->scratch, &space, n) || !build_end(w->vm, begin, &text))
        return false;
    w->indent = text.text;
    return true;
}

static bool read_separators(struct writer *w, struct value v)
{
    static const struct text comma_space = {.data = ", ", .size = 2, .count = 2, .own = true}, comma = {.data = ",", .size = 1, .count = 1, .own = true},
                             colon = {.data = ": ", .size = 2, .count = 2, .own = true};
    struct value *items;
    uint32_t count;
    w->comma = w->indented ? &comma : &comma_space;
    w->colon = &colon;
    if (v.kind == K_MISSING || v.kind == K_NONE)
        return true;
    if (!iter_collect(w->vm, v, &items, &count))
        return false;
    if (count != 2)
        return jinja_fail(w->vm, "separators must be two strings");
    return jinja_as_text(w->vm, items[0], &w->comma) && jinja_as_text(w->vm, items[1], &w->colon);
}

bool filter_tojson(struct vm *vm, struct value self, const struct args *args, struct value *out)
{
    struct value v[4];
    struct writer w = {.vm = vm, .out = &vm->scratch, .indent = &text_empty};
    if (!jinja_bind(vm, "tojson", "ensure_ascii? indent? separators? sort_keys?", args, v) || !jinja_flag(vm, v[0], false, &w.ascii) ||
        !read_indent(&w, v[1]) || !read_separators(&w, v[2]) || !jinja_flag(vm, v[3], false, &w.sort))
        return false;
    size_t begin = build_begin(vm);
    return write_value(&w, self, 0) && build_end(vm, begin, out);
}
