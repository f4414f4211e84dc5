/* The block pool: blocks of paged groups, each covering BLOCK_TOKENS tokens of one sequence, and slots of recurrent ones. */
#include <stdlib.h>

#include "runtime/engine/engine.h"

enum status pool_open(struct pool *p, const struct backend *backend, const struct compile_options *o, const struct program *program, const int32_t *blocks,
                      struct error *err)
{
    *p = (struct pool){.backend = backend, .options = *o, .group_count = program->group_count, .paged = -1};
    for (int g = 0; g < p->group_count; g++) {
        int32_t count = p->blocks[g] = blocks[g];
        p->recurrent[g] = program->groups[g].kind == STATE_RECURRENT;
        p->remembers |= p->recurrent[g];
        p->paged = p->paged < 0 && !p->recurrent[g] ? g : p->paged;
        p->free[g] = malloc((size_t)count * sizeof *p->free[g]);
        p->references[g] = calloc((size_t)count, sizeof *p->references[g]);
        if (!p->free[g] || !p->references[g])
            return error_memory(err, "the KV cache's blocks");
        for (int32_t i = 0; i < count; i++) /* low ids first: they stay in few pages */
            p->free[g][i] = count - 1 - i;
        p->free_count[g] = count;
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
