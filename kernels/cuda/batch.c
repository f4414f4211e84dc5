/* The step's batch as kernels see it: written to pinned memory, laid out so that steps of one class have everything at the same
 * address, and sent in one transfer. */
#include <string.h>

#include "kernels/cuda/step.h"

enum { SLOTS_OF_SEQUENCE = 2 };

static int64_t blocks_of(int64_t tokens) { return (tokens + BLOCK_TOKENS - 1) / BLOCK_TOKENS; }

/* Ids of a table: of blocks, or the slots that are read and written. */
static int64_t ids_of(int64_t tokens) { return blocks_of(tokens) > SLOTS_OF_SEQUENCE ? blocks_of(tokens) : SLOTS_OF_SEQUENCE; }

size_t cuda_step_bytes(const struct compiled *c)
{
    const struct compile_options *o = &c->options;
    struct room r = {0};
    room_take(&r, o->max_sequences, sizeof(struct device_sequence));
    room_take(&r, o->max_rows, sizeof(int64_t));
    room_take(&r, o->max_rows, sizeof(int32_t));
    room_take(&r, o->max_rows, sizeof(int32_t));
    room_take(&r, o->max_wanted, sizeof(int32_t));
    room_take(&r, o->max_sequences * c->p->group_count * ids_of(o->max_context), sizeof(int32_t));
    room_take(&r, c->p->rope_count * o->max_rows * c->rope_stride, sizeof(float));
    room_take(&r, o->max_rows * c->embedding_width, sizeof(float));
    room_take(&r, cuda_attend_arrivals(c, o->max_rows < c->tune.attend_split ? o->max_rows : c->tune.attend_split), sizeof(unsigned));
    room_take(&r, cuda_split_blocks(c, o->max_rows), sizeof(unsigned));
    return r.used;
}

/* Room for count things in both copies of the batch. */
static void *place(struct compiled *c, struct room *host, int64_t count, size_t size, const void *device_address)
{
    void *device = c->step + host->used;
    memcpy((void *)(uintptr_t)device_address, &device, sizeof device); /* a pointer to any type */
    return room_take(host, count, size);
}

/* The longest sequence, and the most rows of one that is no prompt to matrix units; up to the end of their class where the step may be replayed. */
static void find_longest(struct compiled *c)
{
    c->replayed = cuda_graph_serves(c);
    c->longest = 0;
    c->most_rows = 1;
    for (int i = 0; i < c->batch->sequences; i++) {
        int32_t rows = c->batch->sequence[i].rows;
        int64_t tokens = c->batch->sequence[i].cached + rows;
        c->longest = tokens > c->longest ? tokens : c->longest;
        c->most_rows = rows > c->most_rows && !cuda_prompt(c, rows) ? rows : c->most_rows;
    }
    if (c->replayed) {
        c->longest = cuda_round_up((c->longest + ATTEND_PIECE - 1) / ATTEND_PIECE) * ATTEND_PIECE;
        c->most_rows = (int32_t)cuda_round_up(c->most_rows);
    }
    if (c->longest > c->options.max_context)
        c->longest = c->options.max_context;
}

/* Ids of a sequence and group: as many as it has, or as any of the step's class can have. */
static int64_t stride_of(const struct compiled *c, const struct batch_sequence *s)
{
    return ids_of(c->replayed ? c->longest : s->cached + s->rows);
}

static void write_sequences(struct compiled *c, struct room *host)
{
    const struct batch *b = c->batch;
    int groups = c->p->group_count;
    int64_t all = 0, at = 0;
    for (int i = 0; i < b->sequences; i++)
        all += groups * stride_of(c, &b->sequence[i]);
    struct device_sequence *to = place(c, host, b->sequences, sizeof *to, &c->device_batch.sequences);
    int32_t *blocks = place(c, host, all, sizeof *blocks, &c->device_batch.blocks);
    for (int i = 0; i < b->sequences; i++) {
        const struct batch_sequence *s = &b->sequence[i];
        to[i] = (struct device_sequence){.total = s->cached + s->rows, .first = s->first_row, .rows = s->rows, .tables = at, .stride = stride_of(c, s)};
        for (int g = 0; g < groups; g++, at += to[i].stride)
            memcpy(blocks + at, s->blocks[g], (size_t)(c->p->groups[g].kind == STATE_RECURRENT ? SLOTS_OF_SEQUENCE : blocks_of(to[i].total)) * sizeof *blocks);
    }
}

static void write_rows(struct compiled *c, struct room *host)
{
    const struct batch *b = c->batch;
    struct device_batch *d = &c->device_batch;
    int32_t embeddings = 0;
    int64_t *slot = place(c, host, b->rows, sizeof *slot, &d->slot);
    int32_t *token = place(c, host, b->rows, sizeof *token, &d->token);
    int32_t *sequence = place(c, host, b->rows, sizeof *sequence, &d->sequence);
    int32_t *wanted = place(c, host, b->wanted, sizeof *wanted, &d->wanted);
    d->embedding_width = c->embedding_width;
    for (int32_t i = 0; i < b->rows; i++) {
        const struct batch_sequence *s = &b->sequence[b->row[i].sequence];
        slot[i] = s->cached + (i - s->first_row);
        sequence[i] = b->row[i].sequence;
        token[i] = b->row[i].token < 0 ? -1 - embeddings++ : b->row[i].token;
    }
    memcpy(wanted, b->wanted_rows, (size_t)b->wanted * sizeof *wanted);
}

static void write_ropes(struct compiled *c, struct room *host)
{
    const struct batch *b = c->batch;
    float *to = place(c, host, c->p->rope_count * b->rows * c->rope_stride, sizeof *to, &c->ropes);
    for (int r = 0; r < c->p->rope_count; r++)
        for (int32_t i = 0; i < b->rows; i++, to += c->rope_stride)
            rope_angles(&c->p->ropes[r], b->row[i].position, b->sequence[b->row[i].sequence].length, to, to + c->rope_stride / 2);
}

static void write_arrivals(struct compiled *c, struct room *host)
{
    int64_t pieces = cuda_attend_arrivals(c, c->batch->rows), classes = cuda_split_blocks(c, c->batch->rows);
    unsigned *to = place(c, host, pieces, sizeof *to, &c->arrived);
    memset(to, 0, (size_t)pieces * sizeof *to);
    to = place(c, host, classes, sizeof *to, &c->arrived_classes);
    memset(to, 0, (size_t)classes * sizeof *to);
}

/* Last: how many there are moves nothing else. */
static void write_embeddings(struct compiled *c, struct room *host)
{
    const struct batch *b = c->batch;
    int64_t count = 0, width = c->embedding_width;
    for (int32_t i = 0; i < b->rows; i++)
        count += b->row[i].token < 0;
    float *to = place(c, host, count * width, sizeof *to, &c->device_batch.embeddings);
    for (int32_t i = 0; i < b->rows; i++)
        if (b->row[i].token < 0) {
            memcpy(to, b->row[i].embedding, (size_t)width * sizeof *to);
            to += width;
        }
}

int cuda_send_batch(struct compiled *c)
{
    struct room host = {c->host_step, 0};
    find_longest(c);
    write_sequences(c, &host);
    write_rows(c, &host);
    write_ropes(c, &host);
    write_arrivals(c, &host);
    write_embeddings(c, &host);
    return c->cuda->upload(c->stream, c->step, c->host_step, host.used);
}
