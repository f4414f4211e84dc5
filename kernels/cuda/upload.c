/* Weights on their way to the device: through a ring of pinned pieces, so that the disk (a weight's pages are read when they are
 * copied), the copy and the transfer run at the same time, and no second copy of a weight ever lies in the host's memory. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "kernels/cuda/cuda.h"
#include "kernels/formats/grids.h"

struct ring {
    struct compiled *c;
    unsigned char *memory; /* [UPLOAD_PIECES][UPLOAD_PIECE], pinned */
    int piece;
    size_t filled;     /* bytes of the piece */
    unsigned char *to; /* where they belong */
    bool used[UPLOAD_PIECES];
    int code;
    const char *name; /* of the weight, for words */
};

/* Sends what the piece holds and waits until the next one is free. */
static void flush(struct ring *r)
{
    const struct cuda_interface *cuda = r->c->cuda;
    if (r->code || !r->filled)
        return;
    r->code = cuda->upload(r->c->stream, r->to, r->memory + (size_t)r->piece * UPLOAD_PIECE, r->filled);
    if (!r->code)
        r->code = cuda->mark(r->c->stream, r->piece);
    r->used[r->piece] = true;
    r->c->upload_bytes += r->filled;
    r->to += r->filled;
    r->filled = 0;
    r->piece = (r->piece + 1) % UPLOAD_PIECES;
    if (!r->code && r->used[r->piece])
        r->code = cuda->reach(r->c->stream, r->piece);
}

static void start(struct ring *r, void *to, const char *name)
{
    if (r->code)
        return;
    flush(r);
    r->to = to;
    r->name = r->code ? r->name : name;
}

static void add(struct ring *r, const void *bytes, size_t size)
{
    const unsigned char *from = bytes;
    while (size && !r->code) {
        size_t room = UPLOAD_PIECE - r->filled, now = size < room ? size : room;
        memcpy(r->memory + (size_t)r->piece * UPLOAD_PIECE + r->filled, from, now);
        r->filled += now, from += now, size -= now;
        if (r->filled == UPLOAD_PIECE)
            flush(r);
    }
}

static void add_weight(struct ring *r, const struct weight *w, unsigned char *to)
{
    int64_t bytes = cuda_row_bytes(w);
    start(r, to, w->name);
    if (bytes == w->row_bytes)
        add(r, w->data, (size_t)(w->out * bytes));
    else
        for (int64_t row = 0; row < w->out; row++)
            add(r, w->data + row * w->row_bytes, (size_t)bytes);
}

static void add_vector(struct ring *r, const struct weight *w, float *to)
{
    const struct storage_type *type = &storage_types[w->format];
    float values[256];
    start(r, to, w->name);
    for (int64_t at = 0; at < w->in; at += type->block_elements) {
        format_find(w->format)->decode(w->data + at / type->block_elements * type->block_bytes, values, type->block_elements);
        for (int i = 0; w->factor != 0 && i < type->block_elements; i++)
            values[i] *= w->factor;
        add(r, values, (size_t)type->block_elements * sizeof *values);
    }
}

static void add_grids(struct ring *r, struct grids *to)
{
    start(r, to, "codebooks");
    add(r, grid_iq1_s, sizeof to->iq1_s);
    add(r, grid_iq2_xxs, sizeof to->iq2_xxs);
    add(r, grid_iq2_xs, sizeof to->iq2_xs);
    add(r, grid_iq2_s, sizeof to->iq2_s);
    add(r, grid_iq3_xxs, sizeof to->iq3_xxs);
    add(r, grid_iq3_s, sizeof to->iq3_s);
}

enum status cuda_upload(struct compiled *c, struct error *err)
{
    struct ring r = {.c = c, .name = ""};
    double begin = clock_seconds();
    int code = c->cuda->pin(c->options.device, (void **)&r.memory, (size_t)UPLOAD_PIECES * UPLOAD_PIECE);
    if (code)
        return cuda_failed(c, code, err, "%d MiB of pinned memory", UPLOAD_PIECES * (UPLOAD_PIECE >> 20));
    add_grids(&r, c->grids);
    for (int i = 0; i < c->p->weight_count; i++) {
        if (c->weight[i])
            add_weight(&r, &c->p->weights[i], c->weight[i]);
        if (c->vector[i])
            add_vector(&r, &c->p->weights[i], c->vector[i]);
    }
    flush(&r);
    int waited = c->cuda->wait(c->stream); /* also behind an error: transfers may still read the ring */
    c->cuda->unpin(c->options.device, r.memory);
    c->upload_seconds = clock_seconds() - begin;
    if (r.code || waited)
        return cuda_failed(c, r.code ? r.code : waited, err, "uploading %s", QUOTE(r.name, strlen(r.name)));
    return STATUS_OK;
}
