/* Blocks of the cache in pinned host memory, on a stream of their own: moves run beside steps. Memory is pinned in slabs as places are
 * used, since pinning all at once would take seconds and nobody may ever need it. */
#include <stdlib.h>

#include "kernels/cuda/cuda.h"

enum { SLAB = 16 << 20 };

struct shelf {
    const struct compiled *c;
    struct cuda_stream *stream;
    struct {
        int32_t places, of_slab;
        unsigned char **slab; /* [places / of_slab, rounded up]; NULL: not pinned yet */
    } room[8];                /* [group] */
};

static int32_t slabs(const struct shelf *s, int group)
{
    return s->room[group].of_slab ? (s->room[group].places + s->room[group].of_slab - 1) / s->room[group].of_slab : 0;
}

void cuda_shelf_close(struct shelf *s)
{
    if (!s)
        return;
    if (s->stream)
        s->c->cuda->close(s->stream);
    for (int g = 0; g < s->c->p->group_count; g++) {
        for (int32_t i = 0; s->room[g].slab && i < slabs(s, g); i++)
            s->c->cuda->unpin(s->c->options.device, s->room[g].slab[i]);
        free(s->room[g].slab);
    }
    free(s);
}

enum status cuda_shelf_open(struct shelf **out, const struct compiled *c, const int32_t *places, struct error *err)
{
    struct shelf *s = *out = calloc(1, sizeof *s);
    bool room = s != NULL;
    if (s)
        s->c = c;
    for (int g = 0; room && g < c->p->group_count; g++) {
        int64_t fit = c->block_bytes[g] ? SLAB / c->block_bytes[g] : 0;
        s->room[g].places = places[g];
        s->room[g].of_slab = fit > 1 ? (int32_t)fit : 1;
        room = (s->room[g].slab = calloc((size_t)slabs(s, g) + 1, sizeof *s->room[g].slab)) != NULL;
    }
    int code = room ? c->cuda->open(c->options.device, &s->stream) : 0;
    if (room && !code)
        return STATUS_OK;
    cuda_shelf_close(s);
    *out = NULL;
    return code ? cuda_failed(c, code, err, "opening a stream") : error_memory(err, "the cache's blocks at rest");
}

enum status cuda_shelf_move(struct shelf *s, const struct state_memory *state, int group, int32_t block, int32_t place, bool away, struct error *err)
{
    const struct compiled *c = s->c;
    size_t bytes = (size_t)c->block_bytes[group];
    int32_t of_slab = s->room[group].of_slab;
    unsigned char **slab = &s->room[group].slab[place / of_slab], *device = state->pool[group] + (size_t)block * bytes;
    int code = *slab ? 0 : c->cuda->pin(c->options.device, (void **)slab, (size_t)of_slab * bytes);
    unsigned char *host = code ? NULL : *slab + (size_t)(place % of_slab) * bytes;
    if (!code)
        code = away ? c->cuda->download(s->stream, host, device, bytes) : c->cuda->upload(s->stream, device, host, bytes);
    return code ? cuda_failed(c, code, err, "moving a block of %zu bytes of the cache %s", bytes, away ? "to the host" : "back") : STATUS_OK;
}

enum status cuda_shelf_wait(struct shelf *s, struct error *err)
{
    int code = s->c->cuda->wait(s->stream);
    return code ? cuda_failed(s->c, code, err, "moving blocks of the cache") : STATUS_OK;
}
