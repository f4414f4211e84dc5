/* Filters over lists and other things that can be gone through. */
#include "tokenizers/chat/chat.h"

#include <string.h>

#define LIST(name) bool filter_##name(struct vm *vm, struct value self, const struct args *args, struct value *out)

static bool none(struct vm *vm, const char *name, const struct args *args) { return jinja_bind(vm, name, "", args, NULL); }

LIST(length)
{
    int64_t length;
    if (!none(vm, "length", args) || !jinja_length(vm, self, &length, NULL))
        return false;
    *out = INT_VALUE(length);
    return true;
}

LIST(list)
{
    struct value *items;
    uint32_t count;
    return none(vm, "list", args) && iter_collect(vm, self, &items, &count) && list_new(vm, K_LIST, items, count, out);
}

LIST(first)
{
    struct iter it;
    if (!none(vm, "first", args) || !iter_begin(vm, self, &it))
        return false;
    int more = iter_next(vm, &it, out);
    return more > 0 || (more == 0 && jinja_undefined_hint(vm, "no first item, the sequence was empty", out));
}

static bool reversible(const struct value *v)
{
    return v->kind == K_LIST || v->kind == K_TUPLE || v->kind == K_STRING || v->kind == K_DICT || v->kind == K_RANGE || v->kind == K_VIEW;
}

LIST(last)
{
    struct value *items;
    uint32_t count;
    if (!none(vm, "last", args))
        return false;
    if (self.kind == K_UNDEFINED)
        return jinja_undefined_hint(vm, "no last item, the sequence was empty", out);
    if (!reversible(&self))
        return jinja_fail(vm, "'%s' object is not reversible", jinja_type(&self));
    if (self.kind == K_STRING) {
        bool found = self.text->size > 0;
        if (!found)
            return jinja_undefined_hint(vm, "no last item, the sequence was empty", out);
        if (!jinja_getitem(vm, self, INT_VALUE(-1), out))
            return false;
        out->safe = false;
        return true;
    }
    if (!iter_collect(vm, self, &items, &count))
        return false;
    if (!count)
        return jinja_undefined_hint(vm, "no last item, the sequence was empty", out);
    *out = items[count - 1];
    return true;
}

LIST(random)
{
    int64_t length;
    bool has;
    if (!none(vm, "random", args) || !jinja_length(vm, self, &length, &has))
        return false;
    if (!has || self.kind == K_VIEW || self.kind == K_LOOP || (self.kind == K_DICT && length))
        return jinja_fail(vm, "'%s' is no sequence to choose from", jinja_type(&self));
    if (!length)
        return jinja_undefined_hint(vm, "no random item, the sequence was empty", out);
    vm->random ^= vm->random << 13;
    vm->random ^= vm->random >> 7;
    vm->random ^= vm->random << 17;
    return jinja_getitem(vm, self, INT_VALUE((int64_t)(vm->random % (uint64_t)length)), out);
}

LIST(reverse)
{
    struct value *items;
    uint32_t count;
    if (!none(vm, "reverse", args))
        return false;
    if (self.kind == K_STRING)
        return jinja_slice(vm, self, NONE_VALUE, NONE_VALUE, INT_VALUE(-1), out);
    bool lazy = reversible(&self);
    if (!iter_collect(vm, self, &items, &count))
        return false;
    struct iter *it = jinja_alloc(vm, 1, sizeof *it);
    if (!it)
        return false;
    *it = (struct iter){.type = ITER_LIST_REVERSED, .items = items, .count = count};
    *out = (struct value){.kind = K_ITERATOR, .iter = it};
    return lazy || (iter_collect(vm, *out, &items, &count) && list_new(vm, K_LIST, items, count, out));
}

LIST(join)
{
    struct value v[2], item, separator = TEXT_VALUE(&text_empty);
    struct iter it;
    int more;
    if (!jinja_bind(vm, "join", "d? attribute?", args, v))
        return false;
    if (v[0].kind != K_MISSING && !jinja_soft_str(vm, v[0], &separator))
        return false;
    struct value *items;
    uint32_t count = 0, i = 0;
    bool safe = vm->autoescape && separator.safe;
    if (vm->autoescape) { /* one safe item makes all be escaped */
        if (!iter_collect(vm, self, &items, &count))
            return false;
        for (i = 0; i < count; i++)
            safe |= items[i].kind == K_STRING && items[i].safe;
        if (!list_new(vm, K_LIST, items, count, &self))
            return false;
    }
    if (safe && !jinja_escape(vm, separator, &separator))
        return false;
    size_t begin = build_begin(vm);
    if (!iter_begin(vm, self, &it))
        return false;
    for (i = 0; (more = iter_next(vm, &it, &item)) > 0; i++)
        if ((v[1].kind != K_MISSING && !pipeline_attribute(vm, item, v[1], MISSING_VALUE, &item)) ||
            (i && !pile_add_text(vm, &vm->scratch, separator.text)) || (safe && !jinja_escape(vm, item, &item)) ||
            !jinja_print(vm, &vm->scratch, item))
            return false;
    if (more < 0 || !build_end(vm, begin, out))
        return false;
    out->safe = safe;
    return true;
}

/* ---- order ---------------------------------------------------------------------------------------------------------- */

/* The key of one item: the attribute, without regard to case. */
static bool sort_key(struct vm *vm, struct value item, struct value path, struct value fallback, bool case_sensitive, struct value *out)
{
    return pipeline_attribute(vm, item, path, fallback, out) && (case_sensitive || jinja_ignore_case(vm, *out, out));
}

/* attribute="a,b": a list of keys. */
static bool multi_key(struct vm *vm, struct value item, struct value path, bool case_sensitive, struct value *out)
{
    uint32_t count = 1;
    for (uint32_t i = 0; path.kind == K_STRING && i < path.text->size; i++)
        count += path.text->data[i] == ',';
    struct value *keys = jinja_alloc(vm, count, sizeof *keys);
    if (!keys)
        return false;
    for (uint32_t i = 0, from = 0; i < count; i++) {
        struct value part = path;
        if (path.kind == K_STRING) {
            const char *comma = memchr(path.text->data + from, ',', path.text->size - from);
            uint32_t to = comma ? (uint32_t)(comma - path.text->data) : path.text->size;
            if (!text_slice(vm, path.text, from, to - from, &part))
                return false;
            from = to + 1;
        }
        if (!sort_key(vm, item, part, MISSING_VALUE, case_sensitive, &keys[i]))
            return false;
    }
    return list_new(vm, K_LIST, keys, count, out);
}

static struct value *copy_items(struct vm *vm, const struct value *items, uint32_t count)
{
    struct value *copy = jinja_alloc(vm, count, sizeof *copy);
    if (copy && count)
        memcpy(copy, items, count * sizeof *copy);
    return copy;
}

LIST(sort)
{
    struct value v[3], *items, *keys;
    uint32_t count;
    bool reverse, sensitive;
    if (!jinja_bind(vm, "sort", "reverse? case_sensitive? attribute?", args, v) || !jinja_flag(vm, v[0], false, &reverse) ||
        !jinja_flag(vm, v[1], false, &sensitive) || !iter_collect(vm, self, &items, &count) ||
        !(keys = jinja_alloc(vm, count, sizeof *keys)) || !(items = copy_items(vm, items, count)))
        return false;
    for (uint32_t i = 0; i < count; i++)
        if (!multi_key(vm, items[i], v[2], sensitive, &keys[i]))
            return false;
    return jinja_sort(vm, items, keys, count, reverse) && list_new(vm, K_LIST, items, count, out);
}

LIST(dictsort)
{
    struct value v[3], *items, *keys, pairs;
    uint32_t count;
    bool sensitive, reverse, by_value = false;
    const struct text *by;
    if (!jinja_bind(vm, "dictsort", "case_sensitive? by? reverse?", args, v) || !jinja_flag(vm, v[0], false, &sensitive) ||
        !jinja_flag(vm, v[2], false, &reverse))
        return false;
    if (v[1].kind != K_MISSING) {
        if (!jinja_as_text(vm, v[1], &by))
            return false;
        by_value = text_is(by, "value");
        if (!by_value && !text_is(by, "key"))
            return jinja_fail(vm, "dictsort sorts by 'key' or 'value'");
    }
    if (self.kind != K_DICT)
        return self.kind == K_UNDEFINED ? jinja_fail_undefined(vm, self) : jinja_fail(vm, "'%s' object has no attribute 'items'", jinja_type(&self));
    if (!method_dict_items(vm, self, &(struct args){0}, &pairs) || !iter_collect(vm, pairs, &items, &count) ||
        !(keys = jinja_alloc(vm, count, sizeof *keys)))
        return false;
    for (uint32_t i = 0; i < count; i++)
        if (!sort_key(vm, items[i].list->items[by_value], NONE_VALUE, MISSING_VALUE, sensitive, &keys[i]))
            return false;
    return jinja_sort(vm, items, keys, count, reverse) && list_new(vm, K_LIST, items, count, out);
}

static bool extreme(struct vm *vm, const char *name, struct value self, const struct args *args, enum comparison op, struct value *out)
{
    struct value v[2], *items, best, key;
    uint32_t count;
    bool sensitive, better;
    if (!jinja_bind(vm, name, "case_sensitive? attribute?", args, v) || !jinja_flag(vm, v[0], false, &sensitive) ||
        !iter_collect(vm, self, &items, &count))
        return false;
    if (!count)
        return jinja_undefined_hint(vm, "no aggregated item, the sequence was empty", out);
    *out = items[0];
    if (!sort_key(vm, items[0], v[1], MISSING_VALUE, sensitive, &best))
        return false;
    for (uint32_t i = 1; i < count; i++) {
        if (!sort_key(vm, items[i], v[1], MISSING_VALUE, sensitive, &key) || !jinja_less(vm, key, best, op, &better))
            return false;
        if (better) {
            best = key;
            *out = items[i];
        }
    }
    return true;
}

LIST(min) { return extreme(vm, "min", self, args, CMP_LT, out); }
LIST(max) { return extreme(vm, "max", self, args, CMP_GT, out); }

static bool add_group(struct vm *vm, struct value *groups, uint32_t *count, struct value key, const struct value *items, uint32_t size)
{
    struct value *pair = jinja_alloc(vm, 2, sizeof *pair);
    if (!pair || !list_new(vm, K_LIST, items, size, &pair[1]) || !list_new(vm, K_TUPLE, pair, 2, &groups[*count]))
        return false;
    pair[0] = key;
    ((struct list *)groups[(*count)++].list)->group = true;
    return true;
}

LIST(groupby)
{
    struct value v[3], *items, *keys, *groups;
    uint32_t count, found = 0;
    bool sensitive;
    if (!jinja_bind(vm, "groupby", "attribute default? case_sensitive?", args, v) || !jinja_flag(vm, v[2], false, &sensitive) ||
        !iter_collect(vm, self, &items, &count) || !(keys = jinja_alloc(vm, count, sizeof *keys)) ||
        !(groups = jinja_alloc(vm, count, sizeof *groups)) || !(items = copy_items(vm, items, count)))
        return false;
    for (uint32_t i = 0; i < count; i++)
        if (!sort_key(vm, items[i], v[0], v[1], sensitive, &keys[i]))
            return false;
    if (!jinja_sort(vm, items, keys, count, false))
        return false;
    for (uint32_t from = 0, to; from < count; from = to) {
        struct value key, other;
        bool equal = true;
        if (!sort_key(vm, items[from], v[0], v[1], sensitive, &key))
            return false;
        for (to = from + 1; to < count; to++) {
            if (!sort_key(vm, items[to], v[0], v[1], sensitive, &other) || !jinja_equal(vm, key, other, &equal))
                return false;
            if (!equal)
                break;
        }
        if (!pipeline_attribute(vm, items[from], v[0], v[1], &key) || !add_group(vm, groups, &found, key, items + from, to - from))
            return false;
    }
    return list_new(vm, K_LIST, groups, found, out);
}

/* ---- lazy ones ------------------------------------------------------------------------------------------------------ */

static struct pipeline *pipeline_new(struct vm *vm, struct value source)
{
    struct pipeline *p = jinja_alloc(vm, 1, sizeof *p);
    if (p) {
        p->source = source;
        p->path = p->fallback = MISSING_VALUE;
    }
    return p;
}

LIST(items)
{
    struct pipeline *p = pipeline_new(vm, self);
    return p && none(vm, "items", args) && iter_value(vm, ITER_LAZY_ITEMS, p, out);
}

LIST(unique)
{
    struct value v[2];
    struct pipeline *p = pipeline_new(vm, self);
    if (!p || !jinja_bind(vm, "unique", "case_sensitive? attribute?", args, v) || !jinja_flag(vm, v[0], false, &p->case_sensitive))
        return false;
    p->path = v[1];
    p->has_path = v[1].kind != K_MISSING;
    return iter_value(vm, ITER_UNIQUE, p, out);
}

LIST(batch)
{
    struct value v[2];
    struct pipeline *p = pipeline_new(vm, self);
    if (!p || !jinja_bind(vm, "batch", "linecount fill_with?", args, v) || !jinja_as_int(vm, v[0], &p->size))
        return false;
    if (p->size > 10000000)
        return jinja_memory(vm);
    p->fallback = v[1];
    return iter_value(vm, ITER_BATCH, p, out);
}

LIST(slice)
{
    struct value v[2], *items, *slices, list;
    uint32_t count;
    int64_t n;
    if (!jinja_bind(vm, "slice", "slices fill_with?", args, v) || !jinja_as_int(vm, v[0], &n) || !iter_collect(vm, self, &items, &count))
        return false;
    if (n == 0)
        return jinja_fail(vm, "integer division or modulo by zero");
    n = n < 0 ? 0 : n;
    if (!(slices = jinja_alloc(vm, (size_t)n, sizeof *slices)))
        return false;
    uint32_t each = n ? count / (uint64_t)n : 0, extra = n ? count % (uint64_t)n : 0, at = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t size = each + (i < extra);
        bool fill = v[1].kind != K_MISSING && v[1].kind != K_NONE && i >= extra;
        struct value *part = jinja_alloc(vm, (size_t)size + fill, sizeof *part);
        if (!part || !jinja_step(vm))
            return false;
        if (size)
            memcpy(part, items + at, size * sizeof *part);
        if (fill)
            part[size] = v[1];
        if (!list_new(vm, K_LIST, part, size + fill, &slices[i]))
            return false;
        at += size;
    }
    struct iter *it = jinja_alloc(vm, 1, sizeof *it);
    if (!it || !list_new(vm, K_LIST, slices, (uint32_t)n, &list) || !iter_begin(vm, list, it))
        return false;
    *out = (struct value){.kind = K_ITERATOR, .iter = it};
    return true;
}

LIST(map)
{
    struct pipeline *p = pipeline_new(vm, self);
    if (!p)
        return false;
    const struct text *name;
    struct value v[2];
    if (!args->count && args->named_count) {
        if (!jinja_bind(vm, "map", "attribute default?", args, v))
            return false;
        p->has_path = true;
        p->path = v[0];
        p->fallback = v[1];
        return iter_value(vm, ITER_MAP, p, out);
    }
    if (!args->count)
        return jinja_fail(vm, "map requires a filter argument");
    if (!jinja_as_text(vm, args->items[0], &name))
        return false;
    if (!(p->function = jinja_find_filter(name->data, name->size)))
        return jinja_fail(vm, "no filter named '%s'", QUOTE(name->data, name->size));
    p->args = *args;
    p->args.items++;
    p->args.count--;
    return iter_value(vm, ITER_MAP, p, out);
}

static bool choose(struct vm *vm, const char *word, struct value self, const struct args *args, bool invert, bool attribute, struct value *out)
{
    struct pipeline *p = pipeline_new(vm, self);
    const struct text *name;
    if (!p)
        return false;
    p->invert = invert;
    p->args = *args;
    if (attribute) {
        if (!args->count)
            return jinja_fail(vm, "%s needs the name of an attribute", word);
        p->has_path = true;
        p->path = args->items[0];
        p->args.items++;
        p->args.count--;
    }
    if (p->args.count) {
        if (!jinja_as_text(vm, p->args.items[0], &name))
            return false;
        if (!(p->function = jinja_find_test(name->data, name->size)))
            return jinja_fail(vm, "no test named '%s'", QUOTE(name->data, name->size));
        p->args.items++;
        p->args.count--;
    }
    return iter_value(vm, ITER_SELECT, p, out);
}

LIST(select) { return choose(vm, "select", self, args, false, false, out); }
LIST(reject) { return choose(vm, "reject", self, args, true, false, out); }
LIST(selectattr) { return choose(vm, "selectattr", self, args, false, true, out); }
LIST(rejectattr) { return choose(vm, "rejectattr", self, args, true, true, out); }

/* ---- sums ----------------------------------------------------------------------------------------------------------- */

LIST(sum)
{
    struct value v[2], item;
    struct iter it;
    int more;
    if (!jinja_bind(vm, "sum", "attribute? start?", args, v) || !iter_begin(vm, self, &it))
        return false;
    *out = v[1].kind == K_MISSING ? INT_VALUE(0) : v[1];
    if (out->kind == K_STRING)
        return jinja_fail(vm, "sum() can't sum strings; use join");
    while ((more = iter_next(vm, &it, &item)) > 0)
        if ((v[0].kind != K_MISSING && !pipeline_attribute(vm, item, v[0], MISSING_VALUE, &item)) || !jinja_binary(vm, OP_ADD, *out, item, out))
            return false;
    return more == 0;
}
