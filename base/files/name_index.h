/* Names -> positions in a list, built once: open addressing, FNV-1a. Finds duplicates while it is built. */
#ifndef BASE_FILES_NAME_INDEX_H
#define BASE_FILES_NAME_INDEX_H

#include <stdint.h>
#include <string.h>

#include "base/arena.h"

struct tensor_index {
    uint32_t mask;
    int32_t *slots; /* -1: free */
};

static inline uint32_t name_hash(const char *name)
{
    uint32_t h = 2166136261u;
    for (const unsigned char *c = (const unsigned char *)name; *c; c++)
        h = (h ^ *c) * 16777619u;
    return h ^ h >> 15;
}

/* Room for count names; false when memory is out. */
static inline bool name_index_init(struct tensor_index *index, struct arena *arena, uint64_t count)
{
    uint32_t slots = 16;
    if (count > INT32_MAX / 4)
        return false;
    while (slots < count * 2)
        slots *= 2;
    index->mask = slots - 1;
    index->slots = arena_raw(arena, slots * sizeof *index->slots);
    if (index->slots)
        memset(index->slots, 0xFF, slots * sizeof *index->slots);
    return index->slots != NULL;
}

/* The slot of name: *slot is -1 if it is free. name_of(list, i) gives the name at position i. */
static inline int32_t *name_index_slot(const struct tensor_index *index, const char *name,
                                       const char *(*name_of)(const void *, int32_t), const void *list)
{
    uint32_t at = name_hash(name) & index->mask;
    while (index->slots[at] >= 0 && strcmp(name_of(list, index->slots[at]), name) != 0)
        at = (at + 1) & index->mask;
    return &index->slots[at];
}

#endif
