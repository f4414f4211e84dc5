#include "base/arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct arena_block {
    struct arena_block *next;
    size_t size;
};

enum { ALIGN = 16, FIRST = 4096, LARGEST = 4 << 20 };

static bool grow(struct arena *arena, size_t size)
{
    size_t want = arena->bytes < FIRST ? FIRST : arena->bytes > LARGEST ? LARGEST : arena->bytes;
    if (want < size)
        want = size;
    if (want > SIZE_MAX / 2)
        return false;
    if (arena->limit && arena->bytes + want > arena->limit) {
        want = size; /* the last stretch before the limit goes out in exact pieces */
        if (arena->bytes + want > arena->limit)
            return false;
    }
    struct arena_block *block = malloc(sizeof *block + want + ALIGN);
    if (!block)
        return false;
    block->next = arena->blocks;
    block->size = want;
    arena->blocks = block;
    arena->bytes += want;
    arena->at = (char *)(((uintptr_t)(block + 1) + ALIGN - 1) & ~(uintptr_t)(ALIGN - 1));
    arena->end = arena->at + want;
    return true;
}

void *arena_raw(struct arena *arena, size_t size)
{
    if (size > SIZE_MAX / 4)
        return NULL;
    size = (size + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    if (!arena->at || (size_t)(arena->end - arena->at) < size) {
        if (!grow(arena, size ? size : ALIGN))
            return NULL;
    }
    void *p = arena->at;
    arena->at += size;
    return p;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    void *p = arena_raw(arena, size);
    return p ? memset(p, 0, size) : NULL;
}

void *arena_array(struct arena *arena, size_t count, size_t size)
{
    size_t bytes;
    return __builtin_mul_overflow(count, size, &bytes) ? NULL : arena_alloc(arena, bytes);
}

char *arena_copy(struct arena *arena, const void *bytes, size_t size)
{
    if (size == SIZE_MAX)
        return NULL;
    char *p = arena_raw(arena, size + 1);
    if (!p)
        return NULL;
    if (size)
        memcpy(p, bytes, size);
    p[size] = 0;
    return p;
}

char *arena_format(struct arena *arena, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *p = n < 0 ? NULL : arena_raw(arena, (size_t)n + 1);
    if (!p)
        return NULL;
    va_start(args, format);
    vsnprintf(p, (size_t)n + 1, format, args);
    va_end(args);
    return p;
}

void arena_free(struct arena *arena)
{
    for (struct arena_block *b = arena->blocks, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    *arena = (struct arena){.limit = arena->limit};
}
