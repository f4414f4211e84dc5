/* Going through values, and the filters that work while one goes through them (map, select, unique, ...): those give
 * an iterator that yields each item once and looks at the next one only when asked. */
#include "tokenizers/chat/chat.h"

#include <string.h>

#include "base/utf8.h"

bool iter_possible(struct value v)
{
    switch (v.kind) {
    case K_UNDEFINED:
    case K_STRING:
    case K_LIST:
    case K_TUPLE:
    case K_DICT:
    case K_RANGE:
    case K_VIEW:
    case K_ITERATOR:
    case K_LOOP:
        return true;
    default:
        return false;
    }
}

bool iter_begin(struct vm *vm, struct value v, struct iter *it)
{
    memset(it, 0, sizeof *it);
    switch (v.kind) {
    case K_UNDEFINED:
        it->type = ITER_EMPTY;
        return true;
    case K_STRING:
        it->type = ITER_STRING;
        it->text = v.text;
        return true;
    case K_LIST:
    case K_TUPLE:
        it->type = ITER_LIST;
        it->items = v.list->items;
        it->count = v.list->count;
        return true;
    case K_DICT:
        it->type = ITER_KEYS;
        it->dict = v.dict;
        return true;
    case K_VIEW:
        it->type = v.view->type == VIEW_KEYS ? ITER_KEYS : v.view->type == VIEW_VALUES ? ITER_VALUES : ITER_ITEMS;
        it->dict = v.view->dict;
        return true;
    case K_RANGE:
        it->type = ITER_RANGE;
        it->next = v.range->start;
        it->step = v.range->step;
        it->left = v.range->count;
        return true;
    case K_ITERATOR:
        it->type = ITER_NESTED;
        it->inner = v.iter;
        return true;
    case K_LOOP: /* going on with the loop's own items would need pairs with itself: of no use in a template */
    default:
        return jinja_fail(vm, "'%s' object is not iterable", jinja_type(&v));
    }
}

static int next_char(struct vm *vm, struct iter *it, struct value *out)
{
    if (it->offset >= it->text->size)
        return 0;
    uint32_t c, n = (uint32_t)utf8_decode(it->text->data + it->offset, it->text->size - it->offset, &c);
    if (!text_slice(vm, it->text, it->offset, n, out))
        return -1;
    it->offset += n;
    return 1;
}

static int next_entry(struct vm *vm, struct iter *it, struct value *out)
{
    if (it->entry >= it->dict->count)
        return 0;
    const struct entry *e = &it->dict->entries[it->entry++];
    if (it->type != ITER_ITEMS) {
        *out = it->type == ITER_KEYS ? e->key : e->value;
        return 1;
    }
    struct value *pair = jinja_alloc(vm, 2, sizeof *pair);
    if (!pair)
        return -1;
    pair[0] = e->key;
    pair[1] = e->value;
    return list_new(vm, K_TUPLE, pair, 2, out) ? 1 : -1;
}

/* The first look at a lazy filter's input; 0 if there is nothing. */
static int begin_pipeline(struct vm *vm, struct iter *it)
{
    struct pipeline *p = it->pipeline;
    bool some = true;
    it->begun = true;
    if ((it->type == ITER_MAP || it->type == ITER_SELECT) && !jinja_truth(vm, p->source, &some))
        return -1;
    if (!some || (it->type == ITER_LAZY_ITEMS && p->source.kind == K_UNDEFINED)) {
        p->done = true;
        return 0;
    }
    if (it->type == ITER_LAZY_ITEMS) {
        if (p->source.kind != K_DICT) {
            jinja_fail(vm, "can only get item pairs from a mapping");
            return -1;
        }
        p->from = (struct iter){.type = ITER_ITEMS, .dict = p->source.dict};
        return 1;
    }
    return iter_begin(vm, p->source, &p->from) ? 1 : -1;
}

static bool map_item(struct vm *vm, struct pipeline *p, struct value item, struct value *out)
{
    if (p->has_path)
        return pipeline_attribute(vm, item, p->path, p->fallback, out);
    return p->function(vm, item, &p->args, out);
}

static bool select_item(struct vm *vm, struct pipeline *p, struct value item, bool *keep)
{
    struct value tested = item, result;
    if (p->has_path && !pipeline_attribute(vm, item, p->path, MISSING_VALUE, &tested))
        return false;
    if (!p->function)
        return jinja_truth(vm, tested, keep) && ((*keep ^= p->invert), true);
    if (!p->function(vm, tested, &p->args, &result) || !jinja_truth(vm, result, keep))
        return false;
    *keep ^= p->invert;
    return true;
}

static bool unique_item(struct vm *vm, struct pipeline *p, struct value item, bool *keep)
{
    struct value key = item;
    const struct value *seen;
    if (p->has_path && !pipeline_attribute(vm, item, p->path, MISSING_VALUE, &key))
        return false;
    if ((!p->case_sensitive && !jinja_ignore_case(vm, key, &key)) || (!p->seen && !(p->seen = dict_new(vm, 0))) ||
        !dict_get(vm, p->seen, key, &seen))
        return false;
    *keep = !seen;
    return seen || dict_set(vm, p->seen, key, NONE_VALUE);
}

static bool loop_item(struct vm *vm, struct pipeline *p, struct value item, bool *keep)
{
    struct value result;
    p->test_env = jinja_enter(vm, p->env, p->loop->test_scope, p->test_env);
    return p->test_env && jinja_assign(vm, p->test_env, p->loop->items.items[0], item) && jinja_eval(vm, p->test_env, p->loop->c, &result) &&
           jinja_truth(vm, result, keep);
}

static int next_batch(struct vm *vm, struct pipeline *p, struct value *out)
{
    struct value item, *items = NULL;
    uint32_t count = 0, room = 0;
    int more = 1;
    while ((p->size <= 0 || count < p->size) && (more = iter_next(vm, &p->from, &item)) > 0) {
        if (count == room) {
            struct value *larger = jinja_alloc(vm, room * 2 + 4, sizeof *items);
            if (!larger)
                return -1;
            if (count)
                memcpy(larger, items, count * sizeof *items);
            items = larger;
            room = room * 2 + 4;
        }
        items[count++] = item;
    }
    if (more < 0 || !count)
        return more < 0 ? -1 : 0;
    if (p->fallback.kind != K_MISSING && p->fallback.kind != K_NONE && count < p->size) {
        struct value *filled = jinja_alloc(vm, (size_t)p->size, sizeof *items);
        if (!filled)
            return -1;
        for (int64_t i = 0; i < p->size; i++)
            filled[i] = i < count ? items[i] : p->fallback;
        items = filled;
        count = (uint32_t)p->size;
    }
    return list_new(vm, K_LIST, items, count, out) ? 1 : -1;
}

static int next_piped(struct vm *vm, struct iter *it, struct value *out)
{
    struct pipeline *p = it->pipeline;
    if (p->done || !jinja_deep(vm))
        return p->done ? 0 : -1;
    int more = it->begun ? 1 : begin_pipeline(vm, it);
    if (more <= 0)
        return more;
    if (it->type == ITER_BATCH)
        return next_batch(vm, p, out);
    struct value item;
    while ((more = iter_next(vm, &p->from, &item)) > 0) {
        bool keep = true, ok;
        *out = item;
        switch (it->type) {
        case ITER_MAP:
            ok = map_item(vm, p, item, out);
            break;
        case ITER_SELECT:
            ok = select_item(vm, p, item, &keep);
            break;
        case ITER_UNIQUE:
            ok = unique_item(vm, p, item, &keep);
            break;
        case ITER_FILTERED:
            ok = loop_item(vm, p, item, &keep);
            break;
        default:
            ok = true;
        }
        if (!ok)
            return -1;
        if (keep)
            return 1;
    }
    p->done = true;
    return more;
}

int iter_next(struct vm *vm, struct iter *it, struct value *out)
{
    if (!jinja_step(vm))
        return -1;
    switch (it->type) {
    case ITER_EMPTY:
        return 0;
    case ITER_LIST:
        if (it->at >= it->count)
            return 0;
        *out = it->items[it->at++];
        return 1;
    case ITER_LIST_REVERSED:
        if (!it->count)
            return 0;
        *out = it->items[--it->count];
        return 1;
    case ITER_STRING:
        return next_char(vm, it, out);
    case ITER_KEYS:
    case ITER_VALUES:
    case ITER_ITEMS:
        return next_entry(vm, it, out);
    case ITER_RANGE:
        if (!it->left)
            return 0;
        *out = INT_VALUE(it->next);
        it->left--;
        if (it->left)
            it->next += it->step;
        return 1;
    case ITER_NESTED:
        return jinja_deep(vm) ? iter_next(vm, it->inner, out) : -1;
    default:
        return next_piped(vm, it, out);
    }
}

bool iter_value(struct vm *vm, enum iter_type type, struct pipeline *p, struct value *out)
{
    struct iter *it = jinja_alloc(vm, 1, sizeof *it);
    if (!it)
        return false;
    it->type = (uint8_t)type;
    it->pipeline = p;
    *out = (struct value){.kind = K_ITERATOR, .iter = it};
    return true;
}

/* All items as an array (that of a list itself). */
bool iter_collect(struct vm *vm, struct value v, struct value **items, uint32_t *count)
{
    if (v.kind == K_LIST || v.kind == K_TUPLE) {
        *items = (struct value *)v.list->items;
        *count = v.list->count;
        return jinja_work(vm, (uint64_t)v.list->count * sizeof **items);
    }
    struct iter it;
    struct value item;
    uint32_t room = 0;
    int more;
    *items = NULL;
    *count = 0;
    if (!iter_begin(vm, v, &it))
        return false;
    while ((more = iter_next(vm, &it, &item)) > 0) {
        if (*count == room) {
            struct value *larger = jinja_alloc(vm, (size_t)room * 2 + 8, sizeof **items);
            if (!larger)
                return false;
            if (*count)
                memcpy(larger, *items, *count * sizeof **items);
            *items = larger;
            room = room * 2 + 8;
        }
        (*items)[(*count)++] = item;
    }
    return more == 0;
}

/* attribute="a.b.0" of an item: item by item, numbers as indices. */
bool pipeline_attribute(struct vm *vm, struct value item, struct value path, struct value fallback, struct value *out)
{
    if (path.kind == K_NONE || path.kind == K_MISSING) {
        *out = item;
        return true;
    }
    if (path.kind != K_STRING) {
        if (!jinja_getitem(vm, item, path, out))
            return false;
        if (out->kind == K_UNDEFINED && fallback.kind != K_MISSING && fallback.kind != K_NONE)
            *out = fallback;
        return true;
    }
    *out = item;
    const struct text *t = path.text;
    for (uint32_t from = 0, to; from <= t->size; from = to + 1) {
        const char *dot = memchr(t->data + from, '.', t->size - from);
        struct value key;
        int64_t index = 0;
        bool digits = true;
        to = dot ? (uint32_t)(dot - t->data) : t->size;
        for (uint32_t i = from; i < to; i++) {
            digits = digits && t->data[i] >= '0' && t->data[i] <= '9';
            index = digits && index < INT64_MAX / 100 ? index * 10 + t->data[i] - '0' : index;
        }
        if (digits && to > from)
            key = INT_VALUE(index);
        else if (!text_slice(vm, t, from, to - from, &key))
            return false;
        if (!jinja_getitem(vm, *out, key, out))
            return false;
        if (out->kind == K_UNDEFINED && fallback.kind != K_MISSING && fallback.kind != K_NONE)
            *out = fallback;
    }
    return true;
}

bool jinja_ignore_case(struct vm *vm, struct value v, struct value *out)
{
    *out = v;
    if (v.kind != K_STRING)
        return true;
    size_t begin = build_begin(vm);
    return text_change_case(vm, &vm->scratch, v.text, CASE_LOWER) && build_end(vm, begin, out);
}
