/* x.a, x['a'] and slices. Attributes are only those that Python's types show to a sandboxed template, as values; there is
 * nothing behind them: what begins with an underscore is never given out. */
#include "tokenizers/chat/chat.h"

#include <string.h>

/* What every Python object has, and the sandbox refuses: asking for it gives undefined, not an error. */
static const char *const dunders[] = {
    "__class__", "__doc__", "__init__", "__new__", "__repr__", "__str__", "__hash__", "__eq__", "__ne__", "__lt__", "__le__",
    "__gt__", "__ge__", "__dir__", "__format__", "__getattribute__", "__setattr__", "__delattr__", "__reduce__", "__reduce_ex__",
    "__sizeof__", "__subclasshook__", "__init_subclass__", "__getstate__",
};

static const struct {
    uint8_t kind;
    const char *names; /* more of them, by type */
} more_dunders[] = {
    {K_STRING, " __len__ __getitem__ __iter__ __contains__ __add__ __mul__ __rmul__ __mod__ __rmod__ __getnewargs__ __html__ "},
    {K_LIST, " __len__ __getitem__ __iter__ __contains__ __add__ __mul__ __rmul__ __setitem__ __delitem__ __iadd__ __imul__ __reversed__ "},
    {K_TUPLE, " __len__ __getitem__ __iter__ __contains__ __add__ __mul__ __rmul__ __getnewargs__ "},
    {K_DICT, " __len__ __getitem__ __iter__ __contains__ __setitem__ __delitem__ __or__ __ror__ __ior__ __reversed__ "},
    {K_FUNCTION, " __call__ __name__ __module__ __globals__ __code__ __dict__ __self__ __closure__ __defaults__ __mro__ __subclasses__ "},
    {K_METHOD, " __call__ __name__ __self__ __func__ __module__ __qualname__ "},
    {K_MACRO, " __call__ __dict__ __module__ "},
    {K_INT, " __int__ __float__ __index__ __add__ __radd__ __sub__ __mul__ __bool__ __abs__ __neg__ "},
    {K_FLOAT, " __int__ __float__ __add__ __radd__ __sub__ __mul__ __bool__ __abs__ __neg__ "},
    {K_NAMESPACE, " "},
};

static bool has_dunder(const struct value *v, const struct text *name)
{
    if (v->kind == K_NAMESPACE) /* its attributes are only what was set */
        return text_is(name, "__class__");
    for (size_t i = 0; i < sizeof dunders / sizeof *dunders; i++)
        if (text_is(name, dunders[i]))
            return true;
    for (size_t i = 0; i < sizeof more_dunders / sizeof *more_dunders; i++) {
        const char *found = more_dunders[i].kind == v->kind ? memmem(more_dunders[i].names, strlen(more_dunders[i].names), name->data, name->size) : NULL;
        if (found && name->size && found[-1] == ' ' && found[name->size] == ' ')
            return true;
    }
    return false;
}

static bool refuse(struct vm *vm, const struct value *v, const struct text *name, struct value *out)
{
    if (!jinja_undefined(vm, name, v->kind, out))
        return false;
    ((struct undefined *)out->undefined)->unsafe = true;
    return true;
}

static bool method_value(struct vm *vm, struct value self, const struct method *m, struct value *out)
{
    struct bound *b = jinja_alloc(vm, 1, sizeof *b);
    if (!b)
        return false;
    *b = (struct bound){.self = self, .method = m};
    *out = (struct value){.kind = K_METHOD, .bound = b};
    return true;
}

static bool macro_attribute(struct vm *vm, const struct macro *m, const struct text *name, struct value *out)
{
    const struct signature *s = m->node->signature;
    if (text_is(name, "name")) {
        *out = m->node->text ? TEXT_VALUE(m->node->text) : NONE_VALUE;
    } else if (text_is(name, "arguments")) {
        struct value *items = jinja_alloc(vm, s->parameters.count, sizeof *items);
        for (uint32_t i = 0; items && i < s->parameters.count; i++)
            items[i] = TEXT_VALUE(s->parameters.items[i]->text);
        return items && list_new(vm, K_TUPLE, items, s->parameters.count, out);
    } else if (text_is(name, "catch_kwargs")) {
        *out = BOOL_VALUE(s->kwargs >= 0);
    } else if (text_is(name, "catch_varargs")) {
        *out = BOOL_VALUE(s->varargs >= 0);
    } else if (text_is(name, "caller")) {
        *out = BOOL_VALUE(s->caller >= 0);
    } else if (text_is(name, "explicit_caller")) {
        *out = BOOL_VALUE(s->explicit_caller);
    }
    return true;
}

/* Attributes that are plain values; out stays K_MISSING if there is no such one. */
static bool data_attribute(struct vm *vm, struct value v, const struct text *name, struct value *out)
{
    const struct value *found = NULL;
    switch (v.kind) {
    case K_NAMESPACE:
        found = dict_find(&v.space->attributes, name);
        break;
    case K_MACRO:
        return macro_attribute(vm, v.macro, name, out);
    case K_TUPLE:
        if (v.list->group && text_is(name, "grouper"))
            found = &v.list->items[0];
        else if (v.list->group && text_is(name, "list"))
            found = &v.list->items[1];
        break;
    case K_RANGE:
        if (text_is(name, "start"))
            *out = INT_VALUE(v.range->start);
        else if (text_is(name, "stop"))
            *out = INT_VALUE(v.range->stop);
        else if (text_is(name, "step"))
            *out = INT_VALUE(v.range->step);
        break;
    case K_CYCLER:
        if (text_is(name, "current"))
            found = &v.cycler->items->items[v.cycler->at];
        else if (text_is(name, "pos"))
            *out = INT_VALUE(v.cycler->at);
        else if (text_is(name, "items"))
            *out = (struct value){.kind = K_TUPLE, .list = v.cycler->items};
        break;
    case K_JOINER:
        if (text_is(name, "sep"))
            found = &v.joiner->separator;
        else if (text_is(name, "used"))
            *out = BOOL_VALUE(v.joiner->used);
        break;
    case K_BOOL:
    case K_INT:
    case K_BIG:
    case K_FLOAT:
        if (text_is(name, "real") || (v.kind != K_FLOAT && text_is(name, "numerator")))
            *out = as_integer(v);
        else if (text_is(name, "imag"))
            *out = v.kind == K_FLOAT ? FLOAT_VALUE(0) : INT_VALUE(0);
        else if (v.kind != K_FLOAT && text_is(name, "denominator"))
            *out = INT_VALUE(1);
        break;
    case K_BLOCK:
        if (text_is(name, "name"))
            *out = TEXT_VALUE(v.block->text);
        else if (text_is(name, "super"))
            return jinja_undefined_hint(vm, "there is no parent block", out);
        break;
    }
    if (found)
        *out = *found;
    return true;
}

/* getattr(v, name) as the sandbox allows it. found: false if Python would say AttributeError. */
bool jinja_attribute(struct vm *vm, struct value v, const struct text *name, struct value *out, bool *found)
{
    *found = true;
    *out = MISSING_VALUE;
    if (v.kind == K_LOOP) {
        if (!loop_attribute(vm, v.loop, name, out, found))
            return false;
        if (*found)
            return true;
        *found = true;
        *out = MISSING_VALUE;
    } else if (!data_attribute(vm, v, name, out)) {
        return false;
    }
    bool hidden = name->size && name->data[0] == '_';
    if (out->kind != K_MISSING)
        return !hidden || refuse(vm, &v, name, out);
    const struct method *m = jinja_find_method(v.kind == K_BOOL || v.kind == K_BIG ? K_INT : v.kind, name);
    if (m && m->kind != K_FUNCTION)
        return m->call ? method_value(vm, v, m, out) : refuse(vm, &v, name, out);
    if (m && v.function == jinja_find_global(&(struct text){.data = "dict", .size = 4})) /* dict.fromkeys */
        return method_value(vm, v, m, out);
    if (hidden && has_dunder(&v, name))
        return refuse(vm, &v, name, out);
    *found = false;
    return true;
}

/* v[key]; found is false where Python would raise a TypeError or LookupError. */
static bool item(struct vm *vm, struct value v, struct value key, struct value *out, bool *found)
{
    int64_t index = 0, count = 0;
    *found = false;
    if (v.kind == K_DICT) {
        const struct value *value;
        if (key.kind == K_LIST || key.kind == K_DICT) /* unhashable */
            return true;
        if (!dict_get(vm, v.dict, key, &value))
            return false;
        if (value) {
            *out = *value;
            *found = true;
        }
        return true;
    }
    if (v.kind == K_SELF && key.kind == K_STRING) {
        for (uint32_t i = 0; i < vm->template->blocks.count; i++)
            if (text_equal(vm->template->blocks.items[i]->text, key.text)) {
                *out = (struct value){.kind = K_BLOCK, .block = vm->template->blocks.items[i]};
                *found = true;
            }
        return true;
    }
    if ((v.kind != K_STRING && v.kind != K_LIST && v.kind != K_TUPLE && v.kind != K_RANGE) || !is_integer(&key) || key.kind == K_BIG)
        return true;
    index = as_integer(key).integer;
    if (!jinja_length(vm, v, &count, NULL))
        return false;
    if (index < 0)
        index += count;
    if (index < 0 || index >= count)
        return true;
    *found = true;
    if (v.kind == K_RANGE) {
        *out = INT_VALUE(v.range->start + index * v.range->step);
        return true;
    }
    if (v.kind != K_STRING) {
        *out = v.list->items[index];
        return true;
    }
    uint32_t from = text_offset(v.text, (uint32_t)index), to = from + 1;
    while (to < v.text->size && ((unsigned char)v.text->data[to] & 0xC0) == 0x80)
        to++;
    if (!jinja_work(vm, text_count(v.text) == v.text->size ? 0 : from) || !text_slice(vm, v.text, from, to - from, out))
        return false;
    out->safe = v.safe;
    return true;
}

bool jinja_getattr(struct vm *vm, struct value v, const struct text *name, struct value *out)
{
    bool found;
    if (v.kind == K_UNDEFINED) /* any lookup on it fails, but for what every object has */
        return name->size > 1 && name->data[0] == '_' && has_dunder(&v, name) ? refuse(vm, &v, name, out) : jinja_fail_undefined(vm, v);
    if (v.kind == K_DICT && !(name->size && name->data[0] == '_')) { /* the common case: a key, no method of that name */
        const struct value *value = jinja_find_method(K_DICT, name) ? NULL : dict_find(v.dict, name);
        if (value) {
            *out = *value;
            return true;
        }
    }
    if (!jinja_attribute(vm, v, name, out, &found))
        return false;
    if (!found && !item(vm, v, TEXT_VALUE(name), out, &found))
        return false;
    return found || jinja_undefined(vm, name, v.kind, out);
}

bool jinja_getitem(struct vm *vm, struct value v, struct value key, struct value *out)
{
    bool found;
    if (v.kind == K_UNDEFINED)
        return jinja_fail_undefined(vm, v);
    if (!item(vm, v, key, out, &found))
        return false;
    if (!found && key.kind == K_STRING && !jinja_attribute(vm, v, key.text, out, &found))
        return false;
    if (found)
        return true;
    return jinja_undefined(vm, key.kind == K_STRING ? key.text : NULL, v.kind, out);
}

/* ---- slices --------------------------------------------------------------------------------------------------------- */

static bool slice_index(struct vm *vm, struct value v, int64_t otherwise, int64_t *out)
{
    *out = otherwise;
    if (v.kind == K_NONE || v.kind == K_MISSING)
        return true;
    if (v.kind == K_BIG) {
        *out = v.big->negative ? INT64_MIN / 4 : INT64_MAX / 4;
        return true;
    }
    if (!is_integer(&v))
        return jinja_fail(vm, "slice indices must be integers or None, not %s", jinja_type(&v));
    int64_t i = as_integer(v).integer;
    *out = i > INT64_MAX / 4 ? INT64_MAX / 4 : i < INT64_MIN / 4 ? INT64_MIN / 4 : i;
    return true;
}

static int64_t clamp(int64_t i, int64_t low, int64_t high) { return i < low ? low : i > high ? high : i; }

static bool slice_text(struct vm *vm, struct value v, int64_t start, int64_t step, int64_t count, struct value *out)
{
    const struct text *t = v.text;
    bool ok;
    if (!jinja_work(vm, t->size))
        return false;
    if (step == 1) {
        uint32_t from = text_offset(t, (uint32_t)start), to = text_offset(t, (uint32_t)(start + count));
        ok = text_slice(vm, t, from, count ? to - from : 0, out);
    } else {
        uint32_t *offsets = NULL, at = 0, total = text_count(t);
        if (total != t->size) {
            if (!(offsets = jinja_alloc(vm, (size_t)total + 1, sizeof *offsets)))
                return false;
            for (uint32_t i = 0; i < t->size; i++)
                if (((unsigned char)t->data[i] & 0xC0) != 0x80)
                    offsets[at++] = i;
            offsets[at] = t->size;
        }
        size_t begin = build_begin(vm);
        for (int64_t i = 0; i < count; i++) {
            uint32_t index = (uint32_t)(start + i * step), from = offsets ? offsets[index] : index;
            if (!pile_add_slice(vm, &vm->scratch, t, from, (offsets ? offsets[index + 1] : index + 1) - from))
                return false;
        }
        ok = build_end(vm, begin, out);
    }
    out->safe = v.safe;
    return ok;
}

bool jinja_slice(struct vm *vm, struct value v, struct value vstart, struct value vstop, struct value vstep, struct value *out)
{
    int64_t length, start, stop, step, count;
    if (v.kind == K_UNDEFINED)
        return jinja_fail_undefined(vm, v);
    if (v.kind != K_STRING && v.kind != K_LIST && v.kind != K_TUPLE && v.kind != K_RANGE)
        return jinja_fail(vm, v.kind == K_DICT ? "a dict cannot be sliced" : "'%s' object is not subscriptable", jinja_type(&v));
    if (!jinja_length(vm, v, &length, NULL) || !slice_index(vm, vstep, 1, &step))
        return false;
    if (step == 0)
        return jinja_fail(vm, "slice step cannot be zero");
    if (!slice_index(vm, vstart, step > 0 ? 0 : length - 1, &start) || !slice_index(vm, vstop, step > 0 ? length : -length - 1, &stop))
        return false;
    int64_t low = step > 0 ? 0 : -1, high = step > 0 ? length : length - 1;
    start = clamp(start < 0 ? start + length : start, low, high);
    stop = clamp(stop < 0 ? stop + length : stop, low, high);
    count = step > 0 ? (stop > start ? (stop - start - 1) / step + 1 : 0) : (start > stop ? (start - stop - 1) / -step + 1 : 0);
    if (v.kind == K_STRING)
        return slice_text(vm, v, start, step, count, out);
    if (v.kind == K_RANGE) {
        struct range *r = jinja_alloc(vm, 1, sizeof *r);
        if (!r)
            return false;
        *r = (struct range){.start = v.range->start + start * v.range->step, .step = v.range->step * step, .count = count};
        r->stop = v.range->start + stop * v.range->step;
        *out = (struct value){.kind = K_RANGE, .range = r};
        return true;
    }
    if (step == 1) /* shares the items */
        return list_new(vm, v.kind, v.list->items + start, (uint32_t)count, out);
    struct value *items = jinja_alloc(vm, (size_t)count, sizeof *items);
    if (!items || !jinja_work(vm, (uint64_t)count * sizeof *items))
        return false;
    for (int64_t i = 0; i < count; i++)
        items[i] = v.list->items[start + i * step];
    return list_new(vm, v.kind, items, (uint32_t)count, out);
}
