/* Memory for things that live together: many allocations, one release. Not thread-safe; one owner. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stdbool.h>
#include <stddef.h>

struct arena_block;

struct arena {
    struct arena_block *blocks;
    char *at, *end;
    size_t bytes; /* asked of malloc so far */
    size_t limit; /* 0: none. Allocations that would exceed it return NULL */
};

/* Zeroed memory, aligned to 16. NULL when memory (or the limit) is exhausted. size 0 is fine. */
void *arena_alloc(struct arena *arena, size_t size);

/* Not zeroed, aligned to 16: for what is written at once. */
void *arena_raw(struct arena *arena, size_t size);

/* count * size with an overflow check. */
void *arena_array(struct arena *arena, size_t count, size_t size);

/* A NUL-terminated copy of size bytes. */
char *arena_copy(struct arena *arena, const void *bytes, size_t size);
char *arena_format(struct arena *arena, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Releases everything; the arena is empty and usable again. */
void arena_free(struct arena *arena);

#endif
