/* What pieces of text became: a piece comes again far more often than not. One table of fixed size, two entries to a cache line; the
 * older one makes room for a new piece. A cache answers for one model only, and one thread uses it at a time. */
#ifndef TOKENIZERS_CACHE_H
#define TOKENIZERS_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tokenizers/hash.h"
#include "tokenizers/tokenizers.h"

enum {
    CACHE_PAIRS = 1 << 15,   /* of entries: 2 MiB */
    CACHE_INLINE = 2,        /* ids that lie in the entry itself */
    CACHE_TEXT = 256,        /* longest piece, bytes */
    CACHE_TEXTS = 1 << 20,   /* bytes of pieces over 16 bytes, and */
    CACHE_IDS = 1 << 17,     /* ids of pieces with more than two: full, all is forgotten */
};

struct cache_entry {
    uint64_t key[2]; /* up to 16 bytes: the piece (cache_key); more: its hash and its place in texts */
    uint32_t size;   /* bytes of the piece, 0: empty */
    uint32_t count;  /* ids */
    int32_t ids[CACHE_INLINE]; /* or the place of all in ids */
};

struct cache {
    void *memory;
    struct cache_entry *entries; /* in it, at a cache line; NULL until the first piece */
    char *texts;
    int32_t *ids;
    size_t text_count, id_count;
    uint64_t seed;
};

void cache_free(struct cache *c);

/* Where to look: also what cache_put() wants. */
struct cache_slot {
    struct cache_entry *pair; /* NULL: the piece is none for the cache */
    uint64_t key[2];
};

/* Up to 16 bytes as two numbers, zeros behind; with the size they are the piece. room: bytes that may be read from text on: 16 spare
 * the branches on the size. */
static inline void cache_key(const char *text, size_t size, size_t room, uint64_t key[2])
{
    if (room < 16) {
        key[0] = key[1] = 0;
        memcpy(key, text, size);
        return;
    }
    memcpy(key, text, 16);
    key[0] &= size < 8 ? ((uint64_t)1 << 8 * size) - 1 : UINT64_MAX;
    key[1] &= size <= 8 ? 0 : UINT64_MAX >> (128 - 8 * size);
}

bool cache_start(struct cache *c);
bool cache_get_long(const struct cache *c, const char *text, size_t size, struct cache_slot *slot, struct ids *out);
void cache_put(struct cache *c, const struct cache_slot *slot, const char *text, size_t size, const int32_t *ids, size_t count);

static inline void cache_add(const struct cache *c, const struct cache_entry *e, struct ids *out)
{
    if (e->count <= CACHE_INLINE && out->capacity - out->count >= CACHE_INLINE) {
        memcpy(out->data + out->count, e->ids, sizeof e->ids);
        out->count += e->count;
        return;
    }
    const int32_t *ids = e->count <= CACHE_INLINE ? e->ids : c->ids + e->ids[0];
    for (uint32_t i = 0; i < e->count; i++)
        ids_add(out, ids[i]);
}

/* True: the ids were appended. False: they are to be found, and kept by cache_put(). */
static inline bool cache_get(const struct cache *c, const char *text, size_t size, size_t room, struct cache_slot *slot, struct ids *out)
{
    if (size > 16)
        return cache_get_long(c, text, size, slot, out);
    cache_key(text, size, room, slot->key);
    uint64_t h = hash_mix(slot->key[0] ^ c->seed, slot->key[1] ^ size ^ 0xA0761D6478BD642Fu);
    const struct cache_entry *e = slot->pair = &c->entries[h % CACHE_PAIRS * 2];
    if (e->key[0] != slot->key[0] || e->key[1] != slot->key[1] || e->size != size)
        e++;
    if (e->key[0] != slot->key[0] || e->key[1] != slot->key[1] || e->size != size)
        return false;
    cache_add(c, e, out);
    return true;
}

#endif
