/* + - * / // % **, comparisons, `in`, and sorting. */
#include "tokenizers/chat/chat.h"

#include <string.h>

static bool unsupported(struct vm *vm, const char *sign, struct value a, struct value b)
{
    if (a.kind == K_UNDEFINED || b.kind == K_UNDEFINED)
        return jinja_fail_undefined(vm, a.kind == K_UNDEFINED ? a : b);
    return jinja_fail(vm, "unsupported operand type(s) for %s: '%s' and '%s'", sign, jinja_type(&a), jinja_type(&b));
}

static bool add_strings(struct vm *vm, struct value a, struct value b, struct value *out)
{
    bool safe = a.safe || b.safe;
    if (safe && (!jinja_escape(vm, a, &a) || !jinja_escape(vm, b, &b)))
        return false;
    size_t begin = build_begin(vm);
    if (!pile_add_text(vm, &vm->scratch, a.text) || !pile_add_text(vm, &vm->scratch, b.text) || !build_end(vm, begin, out))
        return false;
    out->safe = safe;
    return true;
}

static bool add_lists(struct vm *vm, struct value a, struct value b, struct value *out)
{
    uint32_t count;
    if (__builtin_add_overflow(a.list->count, b.list->count, &count))
        return jinja_memory(vm);
    struct value *items = jinja_alloc(vm, count, sizeof *items);
    if (!items || !jinja_work(vm, (uint64_t)count * sizeof *items))
        return false;
    if (a.list->count)
        memcpy(items, a.list->items, a.list->count * sizeof *items);
    if (b.list->count)
        memcpy(items + a.list->count, b.list->items, b.list->count * sizeof *items);
    return list_new(vm, a.kind, items, count, out);
}

static bool add(struct vm *vm, struct value a, struct value b, struct value *out)
{
    if (a.kind == K_STRING && b.kind == K_STRING)
        return add_strings(vm, a, b, out);
    if ((a.kind == K_LIST || a.kind == K_TUPLE) && a.kind == b.kind)
        return add_lists(vm, a, b, out);
    if (b.kind != K_UNDEFINED && (a.kind == K_STRING || a.kind == K_LIST || a.kind == K_TUPLE))
        return jinja_fail(vm, "can only concatenate %s (not \"%s\") to %s", jinja_type(&a), jinja_type(&b), jinja_type(&a));
    return unsupported(vm, "+", a, b);
}

static bool repeat(struct vm *vm, struct value v, struct value times, struct value *out)
{
    int64_t n;
    if (!jinja_as_int(vm, times, &n))
        return false;
    if (v.kind == K_STRING) {
        size_t begin = build_begin(vm);
        if (!pile_repeat(vm, &vm->scratch, v.text, n) || !build_end(vm, begin, out))
            return false;
        out->safe = v.safe;
        return true;
    }
    uint32_t count = 0;
    if (n > 0 && v.list->count && (n > UINT32_MAX || __builtin_mul_overflow(v.list->count, (uint32_t)n, &count)))
        return jinja_memory(vm);
    struct value *items = jinja_alloc(vm, count, sizeof *items);
    if (!items || !jinja_work(vm, (uint64_t)count * sizeof *items))
        return false;
    for (uint32_t i = 0; i < count; i++)
        items[i] = v.list->items[i % v.list->count];
    return list_new(vm, v.kind, items, count, out);
}

static bool is_sequence(const struct value *v) { return v->kind == K_STRING || v->kind == K_LIST || v->kind == K_TUPLE; }

bool jinja_binary(struct vm *vm, enum operator op, struct value a, struct value b, struct value *out)
{
    static const char *const signs[] = {"+", "-", "*", "/", "//", "%", "** or pow()"};
    if (is_number(&a) && is_number(&b))
        return number_binary(vm, op, a, b, out);
    if (op == OP_ADD)
        return add(vm, a, b, out);
    if (op == OP_MOD && a.kind == K_STRING)
        return format_percent(vm, a, b, out);
    if (op == OP_MUL && is_sequence(&a) && is_integer(&b))
        return repeat(vm, a, b, out);
    if (op == OP_MUL && is_integer(&a) && is_sequence(&b))
        return repeat(vm, b, a, out);
    return unsupported(vm, signs[op], a, b);
}

static bool range_contains(const struct range *r, struct value v)
{
    if (v.kind == K_FLOAT && v.real == (double)(int64_t)v.real && v.real > -1e15 && v.real < 1e15)
        v = INT_VALUE((int64_t)v.real);
    v = as_integer(v);
    if (v.kind != K_INT || !r->count)
        return false;
    int64_t last = r->start + (r->count - 1) * r->step;
    bool between = r->step > 0 ? v.integer >= r->start && v.integer <= last : v.integer <= r->start && v.integer >= last;
    return between && (v.integer - r->start) % r->step == 0;
}

static bool list_contains(struct vm *vm, struct value container, struct value v, bool *out)
{
    struct iter it;
    struct value item;
    int more;
    *out = false;
    if (!iter_begin(vm, container, &it))
        return false;
    while (!*out && (more = iter_next(vm, &it, &item)) != 0)
        if (more < 0 || (!(*out = jinja_same(item, v)) && !jinja_equal(vm, item, v, out)))
            return false;
    return true;
}

bool jinja_contains(struct vm *vm, struct value container, struct value v, bool *out)
{
    const struct value *found;
    switch (container.kind) {
    case K_STRING:
        if (v.kind != K_STRING)
            return jinja_fail(vm, "'in <string>' requires string as left operand, not %s", jinja_type(&v));
        *out = text_find(container.text, 0, v.text) >= 0;
        return jinja_work(vm, container.text->size);
    case K_DICT:
        if (!dict_get(vm, container.dict, v, &found))
            return false;
        *out = found != NULL;
        return true;
    case K_RANGE:
        *out = range_contains(container.range, v);
        return true;
    default:
        if (!iter_possible(container))
            return jinja_fail(vm, "argument of type '%s' is not iterable", jinja_type(&container));
        return list_contains(vm, container, v, out);
    }
}

bool jinja_compare(struct vm *vm, enum comparison op, struct value a, struct value b, bool *out)
{
    switch (op) {
    case CMP_EQ:
    case CMP_NE:
        if (!jinja_equal(vm, a, b, out))
            return false;
        *out ^= op == CMP_NE;
        return true;
    case CMP_IN:
    case CMP_NOT_IN:
        if (!jinja_contains(vm, b, a, out))
            return false;
        *out ^= op == CMP_NOT_IN;
        return true;
    default:
        return jinja_less(vm, a, b, op, out);
    }
}

/* ---- sorting -------------------------------------------------------------------------------------------------------- */

struct sorted {
    struct value key, item;
};

/* Merges two sorted runs; equal items keep their order. Reverse keeps it too, as Python's does. */
static bool merge(struct vm *vm, struct sorted *from, struct sorted *to, uint32_t left, uint32_t middle, uint32_t right, bool reverse)
{
    uint32_t i = left, j = middle;
    for (uint32_t k = left; k < right; k++) {
        bool second = i == middle;
        if (!second && j < right) {
            const struct sorted *a = reverse ? &from[i] : &from[j], *b = reverse ? &from[j] : &from[i];
            if (!jinja_step(vm) || !jinja_less(vm, a->key, b->key, CMP_LT, &second))
                return false;
        }
        to[k] = second ? from[j++] : from[i++];
    }
    return true;
}

bool jinja_sort(struct vm *vm, struct value *items, struct value *keys, uint32_t count, bool reverse)
{
    struct sorted *from = jinja_alloc(vm, (size_t)count * 2, sizeof *from), *to = from + count;
    if (!from)
        return false;
    for (uint32_t i = 0; i < count; i++)
        from[i] = (struct sorted){.key = keys[i], .item = items[i]};
    for (uint64_t width = 1; width < count; width *= 2) {
        for (uint64_t left = 0; left < count; left += 2 * width) {
            uint64_t middle = left + width < count ? left + width : count, right = left + 2 * width < count ? left + 2 * width : count;
            if (!merge(vm, from, to, (uint32_t)left, (uint32_t)middle, (uint32_t)right, reverse))
                return false;
        }
        struct sorted *swap = from;
        from = to;
        to = swap;
    }
    for (uint32_t i = 0; i < count; i++)
        items[i] = from[i].item;
    return true;
}
