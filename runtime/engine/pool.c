/* The block pool: every group has the same number of blocks, each covering BLOCK_TOKENS tokens of one sequence. The process's own
 * memory is mapped at once and touched by use, so an idle context costs address space only. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "runtime/engine/engine.h"

static enum status map_memory(unsigned char **out, size_t bytes, struct error *err)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return error_set(err, STATUS_NO_ROOM, "no memory for a KV cache of %zu bytes; take a smaller --context", bytes);
    madvise(memory, bytes, MADV_HUGEPAGE);
    *out = memory;
    return STATUS_OK;
}

enum status pool_open(struct pool *p, const struct backend *backend, const struct compile_options *o, const struct program *program,
                      const struct compile_sizes *sizes, int32_t blocks, struct error *err)
{
    *p = (struct pool){.backend = backend, .options = *o, .group_count = program->group_count, .blocks = blocks};
    for (int g = 0; g < p->group_count; g++) {
        size_t bytes;
        p->block_bytes[g] = sizes->block_bytes[g];
        if (__builtin_mul_overflow((size_t)blocks, (size_t)p->block_bytes[g], &bytes))
            return error_set(err, STATUS_NO_ROOM, "a KV cache of %d blocks does not fit the address space", blocks);
        p->free[g] = malloc((size_t)blocks * sizeof *p->free[g]);
        p->references[g] = calloc((size_t)blocks, sizeof *p->references[g]);
        if (!p->free[g] || !p->references[g])
            return error_memory(err, "the KV cache's blocks");
        enum status status = backend->state_open ? backend->state_open(o, bytes, &p->memory.pool[g], err) : map_memory(&p->memory.pool[g], bytes, err);
        if (status)
            return status;
        p->mapped_bytes[g] = bytes;
        for (int32_t i = 0; i < blocks; i++) /* low ids first: they stay in few pages */
            p->free[g][i] = blocks - 1 - i;
        p->free_count[g] = blocks;
    }
    return STATUS_OK;
}

void pool_close(struct pool *p)
{
    for (int g = 0; g < p->group_count; g++) {
        if (p->memory.pool[g] && p->backend->state_close)
            p->backend->state_close(&p->options, p->memory.pool[g]);
        else if (p->memory.pool[g])
            munmap(p->memory.pool[g], p->mapped_bytes[g]);
        free(p->free[g]);
        free(p->references[g]);
    }
    *p = (struct pool){0};
}

int32_t pool_take(struct pool *p, int group)
{
    if (!p->free_count[group])
        return -1;
    int32_t block = p->free[group][--p->free_count[group]];
    p->references[group][block] = 1;
    return block;
}

void pool_share(struct pool *p, int group, int32_t block) { p->references[group][block]++; }

void pool_drop(struct pool *p, int group, int32_t block)
{
    if (--p->references[group][block] == 0)
        p->free[group][p->free_count[group]++] = block;
}
