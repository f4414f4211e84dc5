/* Methods of lists, dicts and numbers, and the table of all methods. */
#include "tokenizers/chat/chat.h"

#include <math.h>
#include <string.h>

#define METHOD_OF(name) bool method_##name(struct vm *vm, struct value self, const struct args *args, struct value *out)

METHOD_OF(copy)
{
    *out = self; /* nothing can change either of them */
    return jinja_bind(vm, "copy", "", args, NULL);
}

METHOD_OF(list_count)
{
    struct value wanted, item;
    struct iter it;
    int64_t count = 0;
    int more;
    bool equal;
    if (!jinja_bind(vm, "count", "value /", args, &wanted) || !iter_begin(vm, self, &it))
        return false;
    while ((more = iter_next(vm, &it, &item)) > 0) {
        if (!jinja_equal(vm, item, wanted, &equal))
            return false;
        count += equal;
    }
    *out = INT_VALUE(count);
    return more == 0;
}

METHOD_OF(list_index)
{
    struct value v[3] = {MISSING_VALUE, MISSING_VALUE, MISSING_VALUE}, *items;
    uint32_t count;
    int64_t from, to;
    bool equal;
    if (!jinja_bind(vm, "index", self.kind == K_RANGE ? "value /" : "value start? stop? /", args, v) || !jinja_int_or(vm, v[1], 0, &from) ||
        !jinja_int_or(vm, v[2], INT64_MAX, &to) || !iter_collect(vm, self, &items, &count))
        return false;
    from = from < 0 ? (from + count < 0 ? 0 : from + count) : from;
    to = to < 0 ? to + count : to;
    for (int64_t i = from; i < count && i < to; i++) {
        if (!jinja_equal(vm, items[i], v[0], &equal))
            return false;
        if (equal) {
            *out = INT_VALUE(i);
            return true;
        }
    }
    return jinja_fail(vm, "the value is not in the %s", jinja_type(&self));
}

METHOD_OF(dict_get)
{
    struct value v[2];
    const struct value *found;
    if (!jinja_bind(vm, "get", "key default? /", args, v) || !dict_get(vm, self.dict, v[0], &found))
        return false;
    *out = found ? *found : v[1].kind == K_MISSING ? NONE_VALUE : v[1];
    return true;
}

static bool dict_view(struct vm *vm, const char *name, struct value self, const struct args *args, enum view_type type, struct value *out)
{
    struct view *view = jinja_alloc(vm, 1, sizeof *view);
    if (!view || !jinja_bind(vm, name, "", args, NULL))
        return false;
    *view = (struct view){.type = type, .dict = self.dict};
    *out = (struct value){.kind = K_VIEW, .view = view};
    return true;
}

METHOD_OF(dict_keys) { return dict_view(vm, "keys", self, args, VIEW_KEYS, out); }
METHOD_OF(dict_values) { return dict_view(vm, "values", self, args, VIEW_VALUES, out); }
METHOD_OF(dict_items) { return dict_view(vm, "items", self, args, VIEW_ITEMS, out); }

/* ---- numbers -------------------------------------------------------------------------------------------------------- */

METHOD_OF(conjugate)
{
    *out = as_integer(self);
    return jinja_bind(vm, "conjugate", "", args, NULL);
}

METHOD_OF(float_is_integer)
{
    *out = BOOL_VALUE(isfinite(self.real) && self.real == floor(self.real));
    return jinja_bind(vm, "is_integer", "", args, NULL);
}

METHOD_OF(int_ratio)
{
    struct value *pair = jinja_alloc(vm, 2, sizeof *pair);
    if (!pair || !jinja_bind(vm, "as_integer_ratio", "", args, NULL))
        return false;
    pair[0] = as_integer(self);
    pair[1] = INT_VALUE(1);
    return list_new(vm, K_TUPLE, pair, 2, out);
}

static uint64_t magnitude(int64_t i) { return i < 0 ? -(uint64_t)i : (uint64_t)i; }

METHOD_OF(int_bit_length)
{
    self = as_integer(self);
    int64_t bits = 0;
    if (self.kind == K_BIG)
        bits = (int64_t)self.big->size * 32 - __builtin_clz(self.big->limbs[self.big->size - 1]);
    else
        for (uint64_t m = magnitude(self.integer); m; m >>= 1)
            bits++;
    *out = INT_VALUE(bits);
    return jinja_bind(vm, "bit_length", "", args, NULL);
}

METHOD_OF(int_bit_count)
{
    self = as_integer(self);
    int64_t bits = 0;
    if (self.kind == K_BIG)
        for (uint32_t i = 0; i < self.big->size; i++)
            bits += __builtin_popcount(self.big->limbs[i]);
    else
        bits = __builtin_popcountll(magnitude(self.integer));
    *out = INT_VALUE(bits);
    return jinja_bind(vm, "bit_count", "", args, NULL);
}

const struct method *jinja_find_method(enum kind kind, const struct text *name)
{
    static const struct method methods[] = {
#define METHOD(kind, name, function) {kind, name, function},
#define REFUSED(kind, name) {kind, name, NULL},
#include "tokenizers/chat/methods.def"
#undef METHOD
#undef REFUSED
    };
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (methods[i].kind == kind && methods[i].name[0] == (name->size ? name->data[0] : 0) && text_is(name, methods[i].name))
            return &methods[i];
    return NULL;
}
