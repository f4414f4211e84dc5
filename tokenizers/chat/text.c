/* Strings: immutable bytes with a mark for where each came from, and the pile they are built on. */
#include "tokenizers/chat/chat.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

const struct text text_empty = {.data = "", .own = true};

/* ---- the pile ------------------------------------------------------------------------------------------------------- */

static bool reserve(struct vm *vm, struct pile *p, size_t more)
{
    if (more <= p->capacity - p->size)
        return true;
    if (more > p->limit || p->size > p->limit - more) {
        if (p == &vm->out)
            return jinja_fail(vm, "the output is over its limit of %zu bytes", p->limit);
        return jinja_memory(vm);
    }
    size_t want = p->capacity ? p->capacity * 2 : 4096;
    while (want < p->size + more)
        want *= 2;
    char *data = realloc(p->data, want);
    if (data)
        p->data = data;
    bool *marks = data ? realloc(p->marks, want) : NULL;
    if (!marks)
        return jinja_memory(vm);
    p->marks = marks;
    p->capacity = want;
    return true;
}

bool pile_add(struct vm *vm, struct pile *p, const char *bytes, size_t size, bool own)
{
    if (!jinja_work(vm, size) || !reserve(vm, p, size))
        return false;
    if (size) {
        memcpy(p->data + p->size, bytes, size);
        memset(p->marks + p->size, own, size);
    }
    p->size += size;
    return true;
}

bool pile_add_word(struct vm *vm, struct pile *p, const char *word) { return pile_add(vm, p, word, strlen(word), true); }

bool pile_add_slice(struct vm *vm, struct pile *p, const struct text *t, uint32_t from, uint32_t size)
{
    size_t at = p->size;
    if (!pile_add(vm, p, t->data + from, size, t->own))
        return false;
    if (t->marks && size)
        memcpy(p->marks + at, t->marks + from, size);
    return true;
}

bool pile_add_text(struct vm *vm, struct pile *p, const struct text *t) { return pile_add_slice(vm, p, t, 0, t->size); }

bool pile_add_like(struct vm *vm, struct pile *p, const struct text *t, uint32_t at, const char *bytes, size_t size)
{
    return pile_add(vm, p, bytes, size, t->marks && at < t->size ? t->marks[at] : t->own);
}

bool pile_repeat(struct vm *vm, struct pile *p, const struct text *t, int64_t times)
{
    if (times <= 0 || !t->size)
        return true;
    size_t total;
    if (__builtin_mul_overflow((size_t)times, (size_t)t->size, &total))
        return jinja_memory(vm);
    if (!reserve(vm, p, total) || !jinja_work(vm, total))
        return false;
    for (int64_t i = 0; i < times; i++) {
        memcpy(p->data + p->size, t->data, t->size);
        if (t->marks)
            memcpy(p->marks + p->size, t->marks, t->size);
        else
            memset(p->marks + p->size, t->own, t->size);
        p->size += t->size;
    }
    return true;
}

void pile_free(struct pile *p)
{
    free(p->data);
    free(p->marks);
    *p = (struct pile){.limit = p->limit};
}

/* Moves what lies above begin into a string of its own. */
bool pile_take(struct vm *vm, struct pile *p, size_t begin, struct value *out)
{
    size_t size = p->size - begin;
    p->size = begin;
    if (!size) {
        *out = TEXT_VALUE(&text_empty);
        return true;
    }
    if (size >= UINT32_MAX)
        return jinja_memory(vm);
    const bool *marks = p->marks + begin;
    bool mixed = memchr(marks, !marks[0], size) != NULL;
    struct text *t = arena_raw(&vm->arena, sizeof *t + (mixed ? 2 * size : size));
    if (!t)
        return jinja_memory(vm);
    char *data = (char *)(t + 1);
    memcpy(data, p->data + begin, size);
    *t = (struct text){.data = data, .size = (uint32_t)size, .count = COUNT_UNKNOWN, .own = marks[0]};
    if (mixed)
        t->marks = memcpy(data + size, marks, size);
    *out = TEXT_VALUE(t);
    return true;
}

size_t build_begin(struct vm *vm) { return vm->scratch.size; }

bool build_end(struct vm *vm, size_t begin, struct value *out) { return pile_take(vm, &vm->scratch, begin, out); }

/* ---- strings -------------------------------------------------------------------------------------------------------- */

bool text_new(struct vm *vm, const char *bytes, size_t size, bool own, struct value *out)
{
    size_t begin = build_begin(vm);
    return pile_add(vm, &vm->scratch, bytes, size, own) && build_end(vm, begin, out);
}

bool text_word(struct vm *vm, const char *word, struct value *out)
{
    struct text *t = jinja_alloc(vm, 1, sizeof *t);
    if (!t)
        return false;
    *t = (struct text){.data = word, .size = (uint32_t)strlen(word), .count = COUNT_UNKNOWN, .own = true};
    *out = TEXT_VALUE(t);
    return true;
}

bool text_slice(struct vm *vm, const struct text *t, uint32_t from, uint32_t size, struct value *out)
{
    if (from == 0 && size == t->size) {
        *out = TEXT_VALUE(t);
        return true;
    }
    struct text *s = jinja_alloc(vm, 1, sizeof *s);
    if (!s)
        return false;
    *s = (struct text){.data = t->data + from, .size = size, .count = COUNT_UNKNOWN, .own = t->own};
    if (t->marks)
        s->marks = t->marks + from;
    if (t->count == t->size)
        s->count = size; /* ASCII stays ASCII */
    *out = TEXT_VALUE(s);
    return true;
}

uint32_t text_count(const struct text *t)
{
    if (t->count != COUNT_UNKNOWN)
        return t->count;
    uint32_t count = 0;
    for (uint32_t i = 0; i < t->size; i++)
        count += ((unsigned char)t->data[i] & 0xC0) != 0x80;
    if (t != &text_empty)
        ((struct text *)t)->count = count; /* strings of a running template are its alone; a compiled one's are counted */
    return count;
}

uint32_t text_offset(const struct text *t, uint32_t index)
{
    if (text_count(t) == t->size)
        return index < t->size ? index : t->size;
    uint32_t at = 0;
    while (at < t->size) {
        if (((unsigned char)t->data[at] & 0xC0) != 0x80 && index-- == 0)
            break;
        at++;
    }
    return at;
}

int64_t text_find(const struct text *t, uint32_t from, const struct text *what)
{
    if (from > t->size)
        return -1;
    const char *found = what->size ? memmem(t->data + from, t->size - from, what->data, what->size) : t->data + from;
    return found ? found - t->data : -1;
}

/* Counts what it compares: from the right there is no way that is quick on every input. */
bool text_find_last(struct vm *vm, const struct text *t, uint32_t from, uint32_t to, const struct text *what, int64_t *at)
{
    *at = -1;
    if (what->size > to || from > to - what->size)
        return jinja_work(vm, 0);
    uint32_t start = to - what->size, i = start + 1;
    while (i-- > from && *at < 0) {
        if (memcmp(t->data + i, what->data, what->size) == 0)
            *at = i;
        if (what->size > 64 && !jinja_work(vm, what->size))
            return false;
    }
    return jinja_work(vm, (uint64_t)(start - i) * (what->size < 64 ? 1 + what->size / 8 : 1));
}

bool text_is(const struct text *t, const char *word) { return t->size == strlen(word) && memcmp(t->data, word, t->size) == 0; }

bool text_equal(const struct text *a, const struct text *b)
{
    return a == b || (a->size == b->size && memcmp(a->data, b->data, a->size) == 0);
}

int text_order(const struct text *a, const struct text *b)
{
    /* UTF-8 sorts as its code points do */
    int order = memcmp(a->data, b->data, a->size < b->size ? a->size : b->size);
    return order ? (order < 0 ? -1 : 1) : (a->size > b->size) - (a->size < b->size);
}

static bool in_set(uint32_t c, const struct text *chars)
{
    if (!chars)
        return unicode_is_space(c);
    for (uint32_t at = 0; at < chars->size;) {
        uint32_t d;
        at += (uint32_t)utf8_decode(chars->data + at, chars->size - at, &d);
        if (c == d)
            return true;
    }
    return false;
}

static bool set_holds(struct vm *vm, const struct text *chars, uint32_t c, bool *out)
{
    *out = in_set(c, chars);
    return jinja_work(vm, chars ? chars->size : 8);
}

bool text_trim(struct vm *vm, const struct text *t, const struct text *chars, bool left, bool right, struct value *out)
{
    uint32_t from = 0, to = t->size, c;
    bool inside = true;
    while (left && from < to) {
        size_t n = utf8_decode(t->data + from, to - from, &c);
        if (!set_holds(vm, chars, c, &inside))
            return false;
        if (!inside)
            break;
        from += (uint32_t)n;
    }
    while (right && from < to) {
        uint32_t last = to - 1;
        while (last > from && ((unsigned char)t->data[last] & 0xC0) == 0x80)
            last--;
        utf8_decode(t->data + last, to - last, &c);
        if (!set_holds(vm, chars, c, &inside))
            return false;
        if (!inside)
            break;
        to = last;
    }
    return text_slice(vm, t, from, to - from, out);
}

bool text_escape(struct vm *vm, struct pile *p, const struct text *t)
{
    uint32_t plain = 0;
    for (uint32_t i = 0; i < t->size; i++) {
        const char *name = NULL;
        switch (t->data[i]) {
        case '&':
            name = "&amp;";
            break;
        case '<':
            name = "&lt;";
            break;
        case '>':
            name = "&gt;";
            break;
        case '"':
            name = "&#34;";
            break;
        case '\'':
            name = "&#39;";
            break;
        }
        if (!name)
            continue;
        if (!pile_add_slice(vm, p, t, plain, i - plain) || !pile_add_like(vm, p, t, i, name, strlen(name)))
            return false;
        plain = i + 1;
    }
    return pile_add_slice(vm, p, t, plain, t->size - plain);
}

bool jinja_escape(struct vm *vm, struct value v, struct value *out)
{
    if (v.kind == K_STRING && v.safe) {
        *out = v;
        return true;
    }
    size_t begin = build_begin(vm);
    if (!jinja_str(vm, v, &v) || !text_escape(vm, &vm->scratch, v.text) || !build_end(vm, begin, out))
        return false;
    out->safe = true;
    return true;
}

bool jinja_as_text(struct vm *vm, struct value v, const struct text **out)
{
    if (v.kind != K_STRING)
        return v.kind == K_UNDEFINED ? jinja_fail_undefined(vm, v) : jinja_fail(vm, "a string was expected, not %s", jinja_type(&v));
    *out = v.text;
    return true;
}
