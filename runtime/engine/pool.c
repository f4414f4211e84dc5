/* The block pool: every group has the same number of blocks, each covering BLOCK_TOKENS tokens of one sequence. */
#include <stdlib.h>

#include "runtime/engine/engine.h"

enum status pool_open(struct pool *p, const struct backend *backend, const struct compile_options *o, const struct program *program, int32_t blocks,
                      struct error *err)
{
    *p = (struct pool){.backend = backend, .options = *o, .group_count = program->group_count, .blocks = blocks};
    for (int g = 0; g < p->group_count; g++) {
        p->free[g] = malloc((size_t)blocks * sizeof *p->free[g]);
        p->references[g] = calloc((size_t)blocks, sizeof *p->references[g]);
        if (!p->free[g] || !p->references[g])
            return error_memory(err, "the KV cache's blocks");
        for (int32_t i = 0; i < blocks; i++) /* low ids first: they stay in few pages */
            p->free[g][i] = blocks - 1 - i;
        p->free_count[g] = blocks;
    }
    return backend->state_open(program, o, blocks, &p->memory, err);
}

void pool_close(struct pool *p)
{
    if (p->backend)
        p->backend->state_close(&p->options, &p->memory);
    for (int g = 0; g < p->group_count; g++) {
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
