/* Values as such: undefined, truth, equality, order, length, and how a request's JSON becomes values. */
#include "tokenizers/chat/chat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- undefined ------------------------------------------------------------------------------------------------------ */

bool jinja_undefined(struct vm *vm, const struct text *name, enum kind owner, struct value *out)
{
    struct undefined *u = jinja_alloc(vm, 1, sizeof *u);
    if (!u)
        return false;
    u->name = name;
    u->owner = (uint8_t)owner;
    *out = (struct value){.kind = K_UNDEFINED, .undefined = u};
    return true;
}

bool jinja_undefined_hint(struct vm *vm, const char *hint, struct value *out)
{
    struct undefined *u = jinja_alloc(vm, 1, sizeof *u);
    if (!u)
        return false;
    u->hint = hint;
    *out = (struct value){.kind = K_UNDEFINED, .undefined = u};
    return true;
}

/* Any operation that undefined does not stand. */
bool jinja_fail_undefined(struct vm *vm, struct value v)
{
    const struct undefined *u = v.undefined;
    if (u->hint)
        return jinja_fail(vm, "%s", u->hint);
    const char *owner = jinja_type(&(struct value){.kind = u->owner});
    if (!u->name)
        return jinja_fail(vm, "%s has no such element", owner);
    const char *name = QUOTE(u->name->data, u->name->size);
    if (u->unsafe)
        return jinja_fail(vm, "access to attribute '%s' of '%s' object is unsafe", name, owner);
    if (u->owner == K_MISSING)
        return jinja_fail(vm, "'%s' is undefined", name);
    return jinja_fail(vm, "'%s%s' has no attribute '%s'", u->owner == K_NONE ? "None" : owner, u->owner == K_NONE ? "" : " object", name);
}

/* ---- truth and length ----------------------------------------------------------------------------------------------- */

bool jinja_length(struct vm *vm, struct value v, int64_t *out, bool *has)
{
    if (has)
        *has = true;
    *out = 0;
    switch (v.kind) {
    case K_UNDEFINED:
        return true;
    case K_STRING:
        *out = text_count(v.text);
        return jinja_work(vm, 0);
    case K_LIST:
    case K_TUPLE:
        *out = v.list->count;
        return true;
    case K_DICT:
        *out = v.dict->count;
        return true;
    case K_VIEW:
        *out = v.view->dict->count;
        return true;
    case K_RANGE:
        *out = v.range->count;
        return true;
    case K_LOOP:
        return loop_length(vm, v.loop, out);
    default:
        if (has)
            *has = false;
        return has ? true : jinja_fail(vm, "object of type '%s' has no len()", jinja_type(&v));
    }
}

bool jinja_truth(struct vm *vm, struct value v, bool *out)
{
    int64_t length;
    switch (v.kind) {
    case K_MISSING:
    case K_UNDEFINED:
    case K_NONE:
        *out = false;
        return true;
    case K_BOOL:
        *out = v.truth;
        return true;
    case K_INT:
        *out = v.integer != 0;
        return true;
    case K_FLOAT:
        *out = v.real != 0;
        return true;
    case K_STRING:
        *out = v.text->size != 0;
        return true;
    case K_LIST:
    case K_TUPLE:
    case K_DICT:
    case K_VIEW:
    case K_RANGE:
    case K_LOOP:
        if (!jinja_length(vm, v, &length, NULL))
            return false;
        *out = length != 0;
        return true;
    default:
        *out = true;
        return true;
    }
}

/* ---- equality and order --------------------------------------------------------------------------------------------- */

bool jinja_same(struct value a, struct value b)
{
    if (a.kind != b.kind)
        return false;
    switch (a.kind) {
    case K_NONE:
    case K_MISSING:
        return true;
    case K_BOOL:
        return a.truth == b.truth;
    case K_INT:
        return a.integer == b.integer;
    case K_FLOAT:
        return memcmp(&a.real, &b.real, sizeof a.real) == 0;
    case K_STRING:
        return a.text == b.text || (a.text->size <= 1 && text_equal(a.text, b.text));
    case K_LIST:
        return a.list == b.list;
    case K_TUPLE:
        return a.list == b.list || (!a.list->count && !b.list->count);
    default:
        return a.object == b.object;
    }
}

static bool equal_lists(struct vm *vm, const struct list *a, const struct list *b, bool *out)
{
    *out = a->count == b->count;
    for (uint32_t i = 0; *out && i < a->count; i++)
        if (!jinja_step(vm) || !jinja_equal(vm, a->items[i], b->items[i], out))
            return false;
    return true;
}

static bool equal_dicts(struct vm *vm, const struct dict *a, const struct dict *b, bool *out)
{
    *out = a->count == b->count;
    for (uint32_t i = 0; *out && i < a->count; i++) {
        const struct value *other;
        if (!jinja_step(vm) || !dict_get(vm, b, a->entries[i].key, &other))
            return false;
        *out = other != NULL;
        if (other && !jinja_equal(vm, a->entries[i].value, *other, out))
            return false;
    }
    return true;
}

bool jinja_equal(struct vm *vm, struct value a, struct value b, bool *out)
{
    if (is_number(&a) && is_number(&b)) {
        *out = number_compare(a, b) == 0;
        return true;
    }
    *out = false;
    if (a.kind != b.kind)
        return true;
    switch (a.kind) {
    case K_STRING:
        *out = text_equal(a.text, b.text);
        return jinja_work(vm, a.text->size == b.text->size ? a.text->size : 0);
    case K_LIST:
    case K_TUPLE:
        return jinja_deep(vm) && equal_lists(vm, a.list, b.list, out);
    case K_DICT:
        return jinja_deep(vm) && equal_dicts(vm, a.dict, b.dict, out);
    case K_UNDEFINED:
        *out = true;
        return true;
    case K_RANGE:
        *out = a.range->count == b.range->count && (!a.range->count || (a.range->start == b.range->start &&
                                                                        (a.range->count == 1 || a.range->step == b.range->step)));
        return true;
    case K_METHOD:
        *out = a.bound->method == b.bound->method && jinja_same(a.bound->self, b.bound->self);
        return true;
    default:
        *out = jinja_same(a, b);
        return true;
    }
}

static bool holds(enum comparison op, int order)
{
    switch (op) {
    case CMP_LT:
        return order == -1;
    case CMP_LE:
        return order == -1 || order == 0;
    case CMP_GT:
        return order == 1;
    default:
        return order == 1 || order == 0;
    }
}

static bool order_lists(struct vm *vm, const struct list *a, const struct list *b, enum comparison op, bool *out)
{
    uint32_t count = a->count < b->count ? a->count : b->count;
    for (uint32_t i = 0; i < count; i++) {
        bool equal;
        if (!jinja_step(vm) || !jinja_equal(vm, a->items[i], b->items[i], &equal))
            return false;
        if (!equal)
            return jinja_less(vm, a->items[i], b->items[i], op, out);
    }
    *out = holds(op, (a->count > b->count) - (a->count < b->count));
    return true;
}

/* a < b, or whichever of the four orders op is. */
bool jinja_less(struct vm *vm, struct value a, struct value b, enum comparison op, bool *out)
{
    static const char *const signs[] = {[CMP_LT] = "<", [CMP_LE] = "<=", [CMP_GT] = ">", [CMP_GE] = ">="};
    if (is_number(&a) && is_number(&b)) {
        *out = holds(op, number_compare(a, b));
        return true;
    }
    if (a.kind == K_STRING && b.kind == K_STRING) {
        *out = holds(op, text_order(a.text, b.text));
        return jinja_work(vm, a.text->size < b.text->size ? a.text->size : b.text->size);
    }
    if ((a.kind == K_LIST || a.kind == K_TUPLE) && a.kind == b.kind)
        return jinja_deep(vm) && order_lists(vm, a.list, b.list, op, out);
    if (a.kind == K_UNDEFINED || b.kind == K_UNDEFINED)
        return jinja_fail_undefined(vm, a.kind == K_UNDEFINED ? a : b);
    return jinja_fail(vm, "'%s' not supported between instances of '%s' and '%s'", signs[op], jinja_type(&a), jinja_type(&b));
}

/* ---- making values -------------------------------------------------------------------------------------------------- */

bool list_new(struct vm *vm, enum kind kind, const struct value *items, uint32_t count, struct value *out)
{
    struct list *l = jinja_alloc(vm, 1, sizeof *l);
    if (!l)
        return false;
    *l = (struct list){.items = items, .count = count};
    *out = (struct value){.kind = (uint8_t)kind, .list = l};
    return true;
}

static bool number_from_json(struct vm *vm, const struct json *j, struct value *out)
{
    bool real = false;
    for (uint32_t i = 0; i < j->size; i++)
        real |= j->text[i] == '.' || (j->text[i] | 0x20) == 'e';
    if (!real) {
        bool negative = j->size && j->text[0] == '-';
        return big_parse(vm, j->text + negative, j->size - negative, 10, negative, out);
    }
    char small[64], *text = j->size < sizeof small ? small : malloc((size_t)j->size + 1);
    if (!text)
        return jinja_memory(vm);
    memcpy(text, j->text, j->size);
    text[j->size] = 0;
    *out = FLOAT_VALUE(strtod(text, NULL));
    if (text != small)
        free(text);
    return true;
}

static bool text_from_json(struct vm *vm, const char *data, uint32_t size, bool own, struct value *out)
{
    struct text *t = arena_raw(&vm->arena, sizeof *t);
    if (!t)
        return jinja_memory(vm);
    *t = (struct text){.data = data, .size = size, .count = COUNT_UNKNOWN, .own = own};
    *out = TEXT_VALUE(t);
    return true;
}

bool jinja_from_json(struct vm *vm, const struct json *j, struct value *out)
{
    if (!jinja_deep(vm))
        return false;
    switch (j->kind) {
    case JSON_NULL:
        *out = NONE_VALUE;
        return true;
    case JSON_BOOL:
        *out = BOOL_VALUE(j->truth);
        return true;
    case JSON_NUMBER:
        return number_from_json(vm, j, out);
    case JSON_STRING: /* truth marks what chat_context() trusts */
        return text_from_json(vm, j->text, j->size, j->truth, out);
    case JSON_ARRAY: {
        struct value *items = jinja_alloc(vm, j->size, sizeof *items);
        for (uint32_t i = 0; items && i < j->size; i++)
            if (!jinja_from_json(vm, &j->items[i], &items[i]))
                return false;
        return items && list_new(vm, K_LIST, items, j->size, out);
    }
    default: {
        struct dict *d = dict_new(vm, j->size);
        for (uint32_t i = 0; d && i < j->size; i++) {
            struct value key, value;
            if (!text_from_json(vm, j->members[i].key, j->members[i].key_size, false, &key) ||
                !jinja_from_json(vm, &j->members[i].value, &value) || !dict_set(vm, d, key, value))
                return false;
        }
        *out = (struct value){.kind = K_DICT, .dict = d};
        return d != NULL;
    }
    }
}
