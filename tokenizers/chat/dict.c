/* Dictionaries in order of insertion. Keys are equal as Python has it: 1, 1.0 and True are one key. */
#include "tokenizers/chat/chat.h"

#include <string.h>

enum { LINEAR = 8 }; /* up to here looking through all is faster than hashing */

struct dict *dict_new(struct vm *vm, uint32_t capacity)
{
    struct dict *d = jinja_alloc(vm, 1, sizeof *d);
    if (!d || (capacity && !(d->entries = jinja_alloc(vm, capacity, sizeof *d->entries))))
        return NULL;
    d->capacity = capacity;
    return d;
}

static uint32_t hash_text(const struct text *t)
{
    uint32_t h = 2166136261u;
    for (uint32_t i = 0; i < t->size; i++)
        h = (h ^ (unsigned char)t->data[i]) * 16777619u;
    return h ^ h >> 15;
}

bool jinja_hash(struct vm *vm, struct value v, uint32_t *out)
{
    *out = 0;
    switch (v.kind) {
    case K_STRING:
        *out = hash_text(v.text);
        return jinja_work(vm, v.text->size);
    case K_VIEW:
        if (v.view->type == VIEW_VALUES)
            return true;
        return jinja_fail(vm, "unhashable type: '%s'", jinja_type(&v));
    case K_LIST:
    case K_DICT:
        return jinja_fail(vm, "unhashable type: '%s'", jinja_type(&v));
    case K_TUPLE:
        if (!jinja_deep(vm))
            return false;
        for (uint32_t i = 0; i < v.list->count; i++) {
            uint32_t h;
            if (!jinja_step(vm) || !jinja_hash(vm, v.list->items[i], &h))
                return false;
            *out = *out * 31 + h;
        }
        return true;
    case K_BOOL:
    case K_INT:
    case K_BIG:
    case K_FLOAT: { /* numbers that are equal hash alike: through the double */
        double d;
        v = as_integer(v);
        d = v.kind == K_INT ? (double)v.integer : v.kind == K_BIG ? big_to_double(v.big) : v.real;
        uint64_t bits;
        d += 0.0; /* -0.0 is 0 */
        memcpy(&bits, &d, sizeof bits);
        *out = (uint32_t)(bits ^ bits >> 32) * 2654435761u;
        return true;
    }
    default:
        *out = v.kind;
        return true;
    }
}

static bool same_key(struct vm *vm, const struct entry *e, struct value key, uint32_t hash, bool *out)
{
    *out = false;
    if (e->key.kind == K_STRING || key.kind == K_STRING) {
        *out = e->key.kind == key.kind && text_equal(e->key.text, key.text);
        return true;
    }
    return e->hash != hash || jinja_equal(vm, e->key, key, out);
}

static bool look_up(struct vm *vm, const struct dict *d, struct value key, uint32_t hash, uint32_t *at)
{
    bool same;
    *at = UINT32_MAX;
    if (!d->index) {
        for (uint32_t i = 0; i < d->count; i++) {
            if (!same_key(vm, &d->entries[i], key, hash, &same))
                return false;
            if (same) {
                *at = i;
                break;
            }
        }
        return true;
    }
    for (uint32_t i = hash & (d->index_size - 1); d->index[i]; i = (i + 1) & (d->index_size - 1)) {
        const struct entry *e = &d->entries[d->index[i] - 1];
        if (!jinja_step(vm) || (e->hash == hash && !same_key(vm, e, key, hash, &same)))
            return false;
        if (e->hash == hash && same) {
            *at = d->index[i] - 1;
            break;
        }
    }
    return true;
}

static void index_entry(struct dict *d, uint32_t entry)
{
    uint32_t i = d->entries[entry].hash & (d->index_size - 1);
    while (d->index[i])
        i = (i + 1) & (d->index_size - 1);
    d->index[i] = entry + 1;
}

static bool grow(struct vm *vm, struct dict *d)
{
    if (d->count == d->capacity) {
        uint32_t capacity = d->capacity ? d->capacity * 2 : 4;
        struct entry *entries = jinja_alloc(vm, capacity, sizeof *entries);
        if (!entries)
            return false;
        if (d->count)
            memcpy(entries, d->entries, d->count * sizeof *entries);
        d->entries = entries;
        d->capacity = capacity;
    }
    if (d->count >= LINEAR && (d->count + 1) * 2 > d->index_size) {
        uint32_t size = d->index_size ? d->index_size * 2 : 64;
        while (size < (d->count + 1) * 2)
            size *= 2;
        if (!(d->index = jinja_alloc(vm, size, sizeof *d->index)))
            return false;
        d->index_size = size;
        for (uint32_t i = 0; i < d->count; i++)
            index_entry(d, i);
    }
    return true;
}

bool dict_set(struct vm *vm, struct dict *d, struct value key, struct value value)
{
    uint32_t hash, at;
    if (!jinja_hash(vm, key, &hash) || !look_up(vm, d, key, hash, &at))
        return false;
    if (at != UINT32_MAX) {
        d->entries[at].value = value;
        return true;
    }
    if (!grow(vm, d))
        return false;
    d->entries[d->count] = (struct entry){.key = key, .value = value, .hash = hash};
    d->count++;
    if (d->index)
        index_entry(d, d->count - 1);
    return true;
}

bool dict_get(struct vm *vm, const struct dict *d, struct value key, const struct value **out)
{
    uint32_t hash = 0, at;
    *out = NULL;
    if ((d->index || key.kind != K_STRING) && !jinja_hash(vm, key, &hash))
        return false;
    if (!look_up(vm, d, key, hash, &at))
        return false;
    if (at != UINT32_MAX)
        *out = &d->entries[at].value;
    return true;
}

const struct value *dict_find(const struct dict *d, const struct text *key)
{
    if (!d->index) {
        for (uint32_t i = 0; i < d->count; i++)
            if (d->entries[i].key.kind == K_STRING && text_equal(d->entries[i].key.text, key))
                return &d->entries[i].value;
        return NULL;
    }
    uint32_t hash = hash_text(key);
    for (uint32_t i = hash & (d->index_size - 1); d->index[i]; i = (i + 1) & (d->index_size - 1)) {
        const struct entry *e = &d->entries[d->index[i] - 1];
        if (e->hash == hash && e->key.kind == K_STRING && text_equal(e->key.text, key))
            return &e->value;
    }
    return NULL;
}

/* As dict(source) does: a mapping, or pairs. */
bool dict_from_pairs(struct vm *vm, struct dict *d, struct value source)
{
    if (source.kind == K_DICT) {
        for (uint32_t i = 0; i < source.dict->count; i++)
            if (!jinja_step(vm) || !dict_set(vm, d, source.dict->entries[i].key, source.dict->entries[i].value))
                return false;
        return true;
    }
    if (source.kind == K_UNDEFINED) /* Python looks for its keys first */
        return jinja_fail_undefined(vm, source);
    struct iter it;
    struct value pair, *items;
    uint32_t count;
    int more;
    if (!iter_begin(vm, source, &it))
        return false;
    while ((more = iter_next(vm, &it, &pair)) > 0) {
        if (!iter_collect(vm, pair, &items, &count))
            return false;
        if (count != 2)
            return jinja_fail(vm, "dictionary update sequence element has length %u; 2 is required", count);
        if (!dict_set(vm, d, items[0], items[1]))
            return false;
    }
    return more == 0;
}
