/* Weights on their way to the device: through a ring of pinned pieces, so that the disk, the copy and the transfer run
 * at the same time, and no second copy of a weight ever lies in the host's memory. Once for all, or (stream.c) for each step. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/team.h"
#include "kernels/cuda/cuda.h"
#include "kernels/formats/grids.h"

enum { COPY_THREADS = 4, COPY_ALONE = 1 << 20, AHEAD = 64 << 20, AHEAD_STEP = 256 << 10 };

struct ring {
    const struct compiled *c;
    struct cuda_stream *stream;
    unsigned char *memory; /* [UPLOAD_PIECES][UPLOAD_PIECE], pinned */
    int piece;
    size_t filled;     /* bytes of the piece */
    unsigned char *to; /* where they belong */
    bool used[UPLOAD_PIECES];
    unsigned char *staging; /* on the device, as large: where blocks wait that are moved into planes */
    struct relay_args relay;
    bool moved; /* the weight's blocks are */
    int code;
    const char *name; /* of the weight, for words */
    /* how far the system was asked to read files */
    int ahead_weight, ahead_expert;
    int64_t ahead_at; /* bytes of that weight */
    uint64_t ahead;   /* bytes of all */
    uint64_t sent, total; /* total: to send; for progress */
    double begin, shown;
};

/* Keeps the disk busy: files are read AHEAD bytes before they are copied, in the order in which weights go over. One call reads no
 * more than the device's window of read-ahead, so it is asked in small steps. */
static void read_ahead(struct ring *r)
{
    const struct program *p = r->c->p;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    while (r->ahead < r->sent + AHEAD && r->ahead_weight < p->weight_count) {
        const struct weight one = weight_expert(&p->weights[r->ahead_weight], r->ahead_expert), *w = &one;
        int64_t size = w->out * w->row_bytes, now = size - r->ahead_at < AHEAD_STEP ? size - r->ahead_at : AHEAD_STEP;
        uintptr_t from = ((uintptr_t)w->data + (uintptr_t)r->ahead_at) / page * page;
        if (r->c->weight[r->ahead_weight] && !cuda_streamed(p, r->ahead_weight))
            (void)madvise((void *)from, (uintptr_t)w->data + (uintptr_t)(r->ahead_at + now) - from, MADV_WILLNEED); /* a hint */
        r->ahead_at += now;
        r->ahead += (uint64_t)now;
        if (r->ahead_at < size)
            continue;
        r->ahead_at = 0;
        if (++r->ahead_expert == p->weights[r->ahead_weight].experts)
            r->ahead_weight++, r->ahead_expert = 0;
    }
}

/* From 0.3 s on: what is shorter needs no bar. */
static void show(struct ring *r)
{
    const struct compile_options *o = &r->c->options;
    double now = clock_seconds();
    bool end = r->sent >= r->total;
    if (!o->progress || (end ? !r->shown : now - r->begin < 0.3 || now - r->shown < 0.1))
        return;
    o->progress(o->progress_context, r->sent < r->total ? r->sent : r->total, r->total);
    r->shown = now;
}

/* The piece's blocks, at `at` on the device, to their planes. */
static int move_blocks(struct ring *r, const unsigned char *at)
{
    struct relay_args a = r->relay;
    a.from = at;
    a.blocks = (int64_t)(r->filled / (size_t)a.block_bytes);
    r->relay.first += a.blocks;
    struct cuda_launch l = {CUDA_relay, (unsigned)((r->filled + CUDA_THREADS - 1) / CUDA_THREADS), 1, 0, &a, sizeof a, 0};
    return r->c->cuda->launch(r->stream, &l);
}

/* Of a piece: whole blocks where they are moved. */
static size_t piece_bytes(const struct ring *r) { return r->moved ? UPLOAD_PIECE / (size_t)r->relay.block_bytes * (size_t)r->relay.block_bytes : UPLOAD_PIECE; }

/* Sends what the piece holds and waits until the next one is free. */
static void flush(struct ring *r)
{
    const struct cuda_interface *cuda = r->c->cuda;
    if (r->code || !r->filled)
        return;
    unsigned char *at = r->moved ? r->staging + (size_t)r->piece * UPLOAD_PIECE : r->to;
    r->code = cuda->upload(r->stream, at, r->memory + (size_t)r->piece * UPLOAD_PIECE, r->filled);
    if (!r->code && r->moved)
        r->code = move_blocks(r, at);
    if (!r->code)
        r->code = cuda->mark(r->stream, r->piece);
    r->used[r->piece] = true;
    r->sent += r->filled;
    r->to += r->filled;
    r->filled = 0;
    show(r);
    r->piece = (r->piece + 1) % UPLOAD_PIECES;
    if (!r->code && r->used[r->piece])
        r->code = cuda->reach(r->stream, r->piece);
}

static void start(struct ring *r, void *to, const char *name)
{
    if (r->code)
        return;
    flush(r);
    r->to = to;
    r->moved = false;
    r->name = r->code ? r->name : name;
}

struct copying {
    unsigned char *to;
    const unsigned char *from;
    size_t size;
};

static void copy_part(void *argument, int thread, int threads)
{
    const struct copying *c = argument;
    size_t from = c->size * (size_t)thread / (size_t)threads, to = c->size * (size_t)(thread + 1) / (size_t)threads;
    memcpy(c->to + from, c->from + from, to - from);
}

/* Pages that are not there yet are waited for at several places at once, and one core does not copy as fast as PCIe sends. */
static void copy(unsigned char *to, const unsigned char *from, size_t size)
{
    struct copying c = {to, from, size};
    int cores = team_cores();
    if (size < COPY_ALONE)
        copy_part(&c, 0, 1);
    else
        team_run(cores < COPY_THREADS ? cores : COPY_THREADS, copy_part, &c);
}

static void add(struct ring *r, const void *bytes, size_t size)
{
    const unsigned char *from = bytes;
    while (size && !r->code) {
        size_t room = piece_bytes(r) - r->filled, now = size < room ? size : room;
        copy(r->memory + (size_t)r->piece * UPLOAD_PIECE + r->filled, from, now);
        r->filled += now, from += now, size -= now;
        if (r->filled == piece_bytes(r)) {
            flush(r);
            read_ahead(r);
        }
    }
}

static void add_matrix(struct ring *r, const struct weight *w, unsigned char *to)
{
    int64_t bytes = w->in / storage_types[w->format].block_elements * storage_types[w->format].block_bytes;
    start(r, to, w->name);
    r->moved = cuda_relay(r->c, w, &r->relay);
    r->relay.to = to;
    if (bytes == w->row_bytes)
        add(r, w->data, (size_t)(w->out * bytes));
    else
        for (int64_t row = 0; row < w->out; row++)
            add(r, w->data + row * w->row_bytes, (size_t)bytes);
}

static void add_weight(struct ring *r, const struct weight *w, unsigned char *to)
{
    for (int e = 0; e < w->experts; e++) {
        const struct weight one = weight_expert(w, e);
        add_matrix(r, &one, to + e * w->out * cuda_row_bytes(r->c, w));
    }
}

static void add_vector(struct ring *r, const struct weight *w, float *to)
{
    const struct storage_type *type = &storage_types[w->format];
    float values[256];
    start(r, to, w->name);
    for (int64_t row = 0; row < w->out; row++)
        for (int64_t at = 0; at < w->in; at += type->block_elements) {
            format_find(w->format)->decode(w->data + row * w->row_bytes + at / type->block_elements * type->block_bytes, values, type->block_elements);
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

/* ---- rings ------------------------------------------------------------------------------------------------------------------------ */

size_t cuda_ring_bytes(void) { return (size_t)UPLOAD_PIECES * UPLOAD_PIECE; }

void cuda_ring_close(struct ring *r)
{
    if (!r)
        return;
    (void)r->c->cuda->wait(r->stream); /* transfers may still read it */
    r->c->cuda->release(r->c->options.device, r->staging);
    r->c->cuda->unpin(r->c->options.device, r->memory);
    free(r);
}

enum status cuda_ring_open(const struct compiled *c, struct cuda_stream *stream, struct ring **out, struct error *err)
{
    struct ring *r = *out = calloc(1, sizeof *r);
    if (!r)
        return error_memory(err, "weights on their way");
    r->c = c, r->stream = stream, r->name = "", r->begin = clock_seconds(), r->ahead_weight = c->p->weight_count;
    int code = c->cuda->pin(c->options.device, (void **)&r->memory, cuda_ring_bytes());
    if (!code)
        code = c->cuda->allocate(c->options.device, (void **)&r->staging, cuda_ring_bytes());
    if (!code)
        return STATUS_OK;
    bool pinned = r->memory;
    cuda_ring_close(r);
    *out = NULL;
    return cuda_failed(c, code, err, "%zu MiB %s", cuda_ring_bytes() >> 20, pinned ? "for weights on their way" : "of pinned memory");
}

int cuda_ring_send(struct ring *r, const struct weight *w, unsigned char *to)
{
    add_weight(r, w, to);
    return r->code;
}

/* Until all is there; the ring can be used again, unless it failed. */
int cuda_ring_end(struct ring *r)
{
    flush(r);
    int waited = r->c->cuda->wait(r->stream); /* also behind an error */
    memset(r->used, 0, sizeof r->used);
    return r->code ? r->code : waited;
}

enum status cuda_upload(struct compiled *c, struct error *err)
{
    struct ring *r;
    enum status status = cuda_ring_open(c, c->stream, &r, err);
    if (status)
        return status;
    r->total = c->weights.used;
    r->ahead_weight = 0;
    add_grids(r, c->grids);
    for (int i = 0; i < c->p->weight_count; i++) {
        if (c->weight[i] && !cuda_streamed(c->p, i))
            add_weight(r, &c->p->weights[i], c->weight[i]);
        if (c->vector[i])
            add_vector(r, &c->p->weights[i], c->vector[i]);
    }
    int code = cuda_ring_end(r);
    c->upload_seconds = clock_seconds() - r->begin;
    c->upload_bytes = r->sent;
    if (code)
        status = cuda_failed(c, code, err, "uploading %s", QUOTE(r->name, strlen(r->name)));
    cuda_ring_close(r);
    return status;
}
