#include "tokenizers/cache.h"

#include <stdlib.h>

enum { CACHE_BYTES = CACHE_PAIRS * 2 * sizeof(struct cache_entry) };

bool cache_start(struct cache *c)
{
    if (c->entries)
        return true;
    c->memory = calloc(1, CACHE_BYTES + 64); /* untouched pages cost nothing */
    c->entries = (struct cache_entry *)(((uintptr_t)c->memory + 63) & ~(uintptr_t)63);
    c->texts = malloc(CACHE_TEXTS);
    c->ids = malloc(CACHE_IDS * sizeof *c->ids);
    c->seed = hash_seed();
    if (!c->memory || !c->texts || !c->ids)
        cache_free(c);
    return c->entries;
}

void cache_free(struct cache *c)
{
    free(c->memory);
    free(c->texts);
    free(c->ids);
    *c = (struct cache){0};
}

bool cache_get_long(const struct cache *c, const char *text, size_t size, struct cache_slot *slot, struct ids *out)
{
    slot->pair = NULL;
    if (size > CACHE_TEXT)
        return false;
    slot->key[0] = hash_text(text, size, c->seed);
    slot->pair = &c->entries[slot->key[0] % CACHE_PAIRS * 2];
    for (const struct cache_entry *e = slot->pair; e < slot->pair + 2; e++)
        if (e->size == size && e->key[0] == slot->key[0] && memcmp(c->texts + e->key[1], text, size) == 0) {
            cache_add(c, e, out);
            return true;
        }
    return false;
}

/* Both heaps only grow; pieces that were pushed out of the table leave their bytes behind until all is forgotten. */
static void forget(struct cache *c)
{
    memset(c->entries, 0, CACHE_BYTES);
    c->text_count = c->id_count = 0;
}

void cache_put(struct cache *c, const struct cache_slot *slot, const char *text, size_t size, const int32_t *ids, size_t count)
{
    bool long_text = size > 16, many = count > CACHE_INLINE;
    if (!slot->pair || count > CACHE_TEXT)
        return;
    if ((long_text && CACHE_TEXTS - c->text_count < size) || (many && CACHE_IDS - c->id_count < count))
        forget(c);
    struct cache_entry *e = slot->pair;
    e[1] = e[0];
    *e = (struct cache_entry){.key = {slot->key[0], slot->key[1]}, .size = (uint32_t)size, .count = (uint32_t)count};
    if (long_text) {
        e->key[1] = c->text_count;
        memcpy(c->texts + c->text_count, text, size);
        c->text_count += size;
    }
    if (many) {
        e->ids[0] = (int32_t)c->id_count;
        memcpy(c->ids + c->id_count, ids, count * sizeof *ids);
        c->id_count += count;
    } else if (count) {
        memcpy(e->ids, ids, count * sizeof *ids);
    }
}
