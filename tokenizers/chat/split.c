/* str.split and its relatives. The pieces share the bytes of the whole. */
#include "tokenizers/chat/chat.h"

#include <string.h>

#include "base/utf8.h"

#define METHOD_OF(name) bool method_##name(struct vm *vm, struct value self, const struct args *args, struct value *out)

struct pieces {
    struct value *items;
    uint32_t count, room;
};

static bool add(struct vm *vm, struct pieces *p, struct value whole, uint32_t from, uint32_t to)
{
    if (p->count == p->room) {
        struct value *items = jinja_alloc(vm, (size_t)p->room * 2 + 8, sizeof *items);
        if (!items)
            return false;
        if (p->count)
            memcpy(items, p->items, p->count * sizeof *items);
        p->items = items;
        p->room = p->room * 2 + 8;
    }
    if (!jinja_step(vm) || !text_slice(vm, whole.text, from, to - from, &p->items[p->count]))
        return false;
    p->items[p->count++].safe = whole.safe;
    return true;
}

static uint32_t char_before(const struct text *t, uint32_t at, uint32_t *c)
{
    do
        at--;
    while (at && ((unsigned char)t->data[at] & 0xC0) == 0x80);
    utf8_decode(t->data + at, t->size - at, c);
    return at;
}

static bool split_spaces(struct vm *vm, struct pieces *p, struct value self, int64_t limit)
{
    const struct text *t = self.text;
    uint32_t at = 0, c, n;
    for (;;) {
        while (at < t->size && (n = (uint32_t)utf8_decode(t->data + at, t->size - at, &c), unicode_is_space(c)))
            at += n;
        if (at == t->size)
            return true;
        uint32_t from = at;
        if (limit == (int64_t)p->count) /* the rest, with the white space at its end */
            return add(vm, p, self, from, t->size);
        while (at < t->size && (n = (uint32_t)utf8_decode(t->data + at, t->size - at, &c), !unicode_is_space(c)))
            at += n;
        if (!add(vm, p, self, from, at))
            return false;
    }
}

static bool split_text(struct vm *vm, struct pieces *p, struct value self, const struct text *separator, int64_t limit)
{
    uint32_t from = 0;
    for (int64_t at; limit != (int64_t)p->count && (at = text_find(self.text, from, separator)) >= 0; from = (uint32_t)at + separator->size)
        if (!add(vm, p, self, from, (uint32_t)at))
            return false;
    return add(vm, p, self, from, self.text->size);
}

/* From the right; the pieces come in reverse order. */
static bool split_spaces_right(struct vm *vm, struct pieces *p, struct value self, int64_t limit)
{
    const struct text *t = self.text;
    uint32_t end = t->size, before, c;
    for (;;) {
        while (end && (before = char_before(t, end, &c), unicode_is_space(c)))
            end = before;
        if (!end)
            return true;
        uint32_t from = end;
        if (limit == (int64_t)p->count)
            return add(vm, p, self, 0, end);
        while (from && (before = char_before(t, from, &c), !unicode_is_space(c)))
            from = before;
        if (!add(vm, p, self, from, end))
            return false;
        end = from;
    }
}

static bool split_text_right(struct vm *vm, struct pieces *p, struct value self, const struct text *separator, int64_t limit)
{
    uint32_t end = self.text->size;
    for (int64_t at; limit != (int64_t)p->count; end = (uint32_t)at) {
        if (!text_find_last(vm, self.text, 0, end, separator, &at))
            return false;
        if (at < 0)
            break;
        if (!add(vm, p, self, (uint32_t)at + separator->size, end))
            return false;
    }
    return add(vm, p, self, 0, end);
}

static bool split(struct vm *vm, const char *name, struct value self, const struct args *args, bool right, struct value *out)
{
    struct value v[2];
    const struct text *separator = NULL;
    int64_t limit;
    struct pieces p = {0};
    if (!jinja_bind(vm, name, "sep? maxsplit?", args, v) || !jinja_int_or(vm, v[1], -1, &limit) ||
        (v[0].kind != K_MISSING && v[0].kind != K_NONE && !jinja_as_text(vm, v[0], &separator)) || !jinja_work(vm, self.text->size))
        return false;
    if (separator && !separator->size)
        return jinja_fail(vm, "empty separator");
    limit = limit < 0 ? INT64_MAX : limit;
    bool ok = right ? (separator ? split_text_right(vm, &p, self, separator, limit) : split_spaces_right(vm, &p, self, limit))
                    : (separator ? split_text(vm, &p, self, separator, limit) : split_spaces(vm, &p, self, limit));
    for (uint32_t i = 0, j = p.count - 1; right && p.count && i < j; i++, j--) {
        struct value swap = p.items[i];
        p.items[i] = p.items[j];
        p.items[j] = swap;
    }
    return ok && list_new(vm, K_LIST, p.items, p.count, out);
}

METHOD_OF(split) { return split(vm, "split", self, args, false, out); }
METHOD_OF(rsplit) { return split(vm, "rsplit", self, args, true, out); }

METHOD_OF(splitlines)
{
    struct value v;
    const struct text *t = self.text;
    bool keep;
    struct pieces p = {0};
    if (!jinja_bind(vm, "splitlines", "keepends?", args, &v) || !jinja_flag(vm, v, false, &keep) || !jinja_work(vm, t->size))
        return false;
    for (uint32_t from = 0, at = 0, c; from < t->size; from = at) {
        uint32_t end = t->size;
        while (at < t->size) {
            uint32_t n = (uint32_t)utf8_decode(t->data + at, t->size - at, &c);
            if (unicode_is_line_end(c)) {
                end = at;
                at += n;
                at += c == '\r' && at < t->size && t->data[at] == '\n';
                break;
            }
            at += n;
        }
        if (!add(vm, &p, self, from, keep ? at : end))
            return false;
    }
    return list_new(vm, K_LIST, p.items, p.count, out);
}

static bool partition(struct vm *vm, const char *name, struct value self, const struct args *args, bool last, struct value *out)
{
    struct value v;
    const struct text *separator, *t = self.text;
    struct pieces p = {0};
    if (!jinja_bind(vm, name, "sep /", args, &v) || !jinja_as_text(vm, v, &separator) || !jinja_work(vm, t->size))
        return false;
    if (!separator->size)
        return jinja_fail(vm, "empty separator");
    int64_t at = text_find(t, 0, separator);
    if (last && !text_find_last(vm, t, 0, t->size, separator, &at))
        return false;
    uint32_t from = at >= 0 ? (uint32_t)at : last ? 0 : t->size, to = at >= 0 ? from + separator->size : from;
    return add(vm, &p, self, 0, from) && add(vm, &p, self, from, to) && add(vm, &p, self, to, t->size) &&
           list_new(vm, K_TUPLE, p.items, p.count, out);
}

METHOD_OF(partition) { return partition(vm, "partition", self, args, false, out); }
METHOD_OF(rpartition) { return partition(vm, "rpartition", self, args, true, out); }
