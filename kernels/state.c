/* State in the process's own memory. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/ops.h"

enum status state_map(const struct program *p, const struct compile_sizes *sizes, const int32_t *blocks, struct state_memory *out, struct error *err)
{
    *out = (struct state_memory){0};
    for (int g = 0; g < p->group_count; g++) {
        size_t bytes;
        if (__builtin_mul_overflow((size_t)blocks[g], (size_t)sizes->block_bytes[g], &bytes)) {
            state_unmap(out);
            return error_set(err, STATUS_NO_ROOM, "a KV cache of %d blocks does not fit the address space", blocks[g]);
        }
        if (!bytes) /* none of the group's layers are here */
            continue;
        void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) {
            state_unmap(out);
            return error_set(err, STATUS_NO_ROOM, "no memory for a KV cache of %zu bytes; take a smaller --context", bytes);
        }
        madvise(memory, bytes, MADV_HUGEPAGE);
        out->pool[g] = memory;
        out->bytes[g] = bytes;
    }
    return STATUS_OK;
}

void state_unmap(struct state_memory *memory)
{
    for (size_t g = 0; g < sizeof memory->pool / sizeof *memory->pool; g++)
        if (memory->pool[g])
            munmap(memory->pool[g], memory->bytes[g]);
    *memory = (struct state_memory){0};
}
