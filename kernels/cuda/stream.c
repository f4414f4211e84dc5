/* Matrices that have no room on the card and come for each step that streams (ops.h: op.streamed): through a pinned ring on a stream of
 * their own into one of two slots, while what was asked for before still computes.
 *
 *   host    | layer 0 to slot 0 | ask for 0 | layer 1 to slot 1 | ask for 1 | wait for 0; layer 2 to slot 0 | ...
 *   card                        | attention 0, network 0        | ...
 */
#include <stdlib.h>

#include "kernels/cuda/step.h"

enum { SLOTS = 2 };

struct streaming {
    struct cuda_stream *stream;
    struct ring *ring;
    unsigned char *slots;
    size_t slot_bytes;
    bool used[SLOTS]; /* in the step that runs: the slot has a mark behind what reads it */
};

/* The end of a stretch of streamed operations. */
static int stretch_end(const struct program *p, int first)
{
    int end = first + 1;
    while (end < p->op_count && p->ops[end].streamed && !p->ops[end].begins)
        end++;
    return end;
}

static bool begins(const struct op *op) { return op->streamed && op->begins; }

/* Matrices that one stretch of streamed operations has and nothing else. Of experts all come: a step that is long enough goes to most. */
bool cuda_streamed(const struct program *p, int weight)
{
    int stretch = 0, owner = 0;
    for (int i = 0; i < p->op_count; i++) {
        stretch += begins(&p->ops[i]);
        if (p->ops[i].w != weight)
            continue;
        if (!p->ops[i].streamed || (owner && owner != stretch))
            return false;
        owner = stretch;
    }
    return owner && cuda_is_matrix(p, weight) && !cuda_is_vector(p, weight);
}

/* Gives the stretch's matrices their places from `at` on; NULL: only counts. */
static size_t lay_out(const struct compiled *c, int first, unsigned char *at)
{
    const struct program *p = c->p;
    size_t bytes = 0;
    for (int w = 0; w < p->weight_count; w++)
        for (int i = first; i < stretch_end(p, first); i++)
            if (p->ops[i].w == w && cuda_streamed(p, w)) {
                if (at)
                    c->weight[w] = at + bytes;
                bytes += ((size_t)(p->weights[w].out * p->weights[w].experts * cuda_row_bytes(c, &p->weights[w])) + 255) / 256 * 256;
                break;
            }
    return bytes;
}

size_t cuda_stream_bytes(const struct compiled *c)
{
    size_t most = 0;
    for (int i = 0; i < c->p->op_count; i++) {
        size_t bytes = begins(&c->p->ops[i]) ? lay_out(c, i, NULL) : 0;
        most = bytes > most ? bytes : most;
    }
    return SLOTS * most;
}

enum status cuda_stream_open(struct compiled *c, unsigned char *slots, struct error *err)
{
    int count = 0;
    struct streaming *s = c->streaming = calloc(1, sizeof *s);
    if (!s)
        return error_memory(err, "weights on their way");
    s->slots = slots;
    s->slot_bytes = cuda_stream_bytes(c) / SLOTS;
    for (int i = 0; i < c->p->op_count; i++)
        if (begins(&c->p->ops[i]))
            lay_out(c, i, slots + (size_t)(count++ % SLOTS) * s->slot_bytes);
    int code = c->cuda->open(c->options.device, &s->stream);
    return code ? cuda_failed(c, code, err, "opening a stream") : cuda_ring_open(c, s->stream, &s->ring, err);
}

void cuda_stream_close(struct compiled *c)
{
    struct streaming *s = c->streaming;
    if (!s)
        return;
    cuda_ring_close(s->ring);
    if (s->stream)
        c->cuda->close(s->stream);
    free(s);
    c->streaming = NULL;
}

void cuda_stream_begin(const struct compiled *c)
{
    for (int i = 0; c->streaming && i < SLOTS; i++)
        c->streaming->used[i] = false;
}

static int slot_of(const struct compiled *c, int op)
{
    int count = -1;
    for (int i = 0; i <= op; i++)
        count += begins(&c->p->ops[i]);
    return count % SLOTS;
}

/* Before the operation: its stretch's matrices, if it begins one. */
int cuda_stream_bring(const struct compiled *c, int op)
{
    const struct program *p = c->p;
    struct streaming *s = c->streaming;
    if (!begins(&p->ops[op]))
        return 0;
    int slot = slot_of(c, op), code = s->used[slot] ? c->cuda->reach(c->stream, slot) : 0;
    for (int w = 0; w < p->weight_count && !code; w++)
        for (int i = op; i < stretch_end(p, op) && !code; i++)
            if (p->ops[i].w == w && cuda_streamed(p, w)) {
                code = cuda_ring_send(s->ring, &p->weights[w], c->weight[w]);
                break;
            }
    int ended = cuda_ring_end(s->ring);
    return code ? code : ended;
}

/* Behind operation `op`: what reads the slot has been asked for, if it ends a stretch. */
int cuda_stream_leave(const struct compiled *c, int op)
{
    if (!c->p->ops[op].streamed || (op + 1 < c->p->op_count && c->p->ops[op + 1].streamed && !c->p->ops[op + 1].begins))
        return 0;
    int slot = slot_of(c, op);
    c->streaming->used[slot] = true;
    return c->cuda->mark(c->stream, slot);
}
