/* Sharing a program out over ranks. Every buffer is either whole, the same on all ranks, or split: rank r has the r-th slice of
 * each row. Which it is follows from the operations alone: what norms, embeddings and sums with whole rows touch is whole, all
 * else is split where heads, widths and blocks of the weights allow. Then a LINEAR
 *   whole -> split  has a slice of the weight's rows,
 *   split -> whole  a slice of its columns, and the ranks' results are summed,
 *   whole -> whole  everything.
 * EXPERTS is such a LINEAR slot by slot: a split buffer has a slice of each slot. Sums of its results wait until COMBINE has added up
 * the slots, which is less to hand around. */
#include <string.h>

#include "kernels/split.h"

struct sharing {
    const struct program *p;
    int ranks;
    bool *split; /* [buffer] */
    bool *partial; /* [buffer]: whole, but the ranks' values are still to be summed */
    bool changed;
    bool settled; /* all rules but that of two split sides hold */
};

static bool divides(const struct sharing *s, int64_t n) { return n % s->ranks == 0; }

static void make_whole(struct sharing *s, int buffer)
{
    if (buffer >= 0 && s->split[buffer]) {
        s->split[buffer] = false;
        s->changed = true;
    }
}

/* Buffers that go value by value: all split or all whole. */
static void alike(struct sharing *s, int x, int y, int z)
{
    int buffers[] = {x, y, z};
    for (int i = 0; i < 3; i++)
        if (buffers[i] >= 0 && !s->split[buffers[i]]) {
            make_whole(s, x);
            make_whole(s, y);
            make_whole(s, z);
        }
}

static void settle(struct sharing *s, const struct op *op)
{
    const struct program *p = s->p;
    const struct weight *w = op->w >= 0 ? &p->weights[op->w] : NULL;
    bool heads = op->group >= 0 ? divides(s, p->groups[op->group].heads) && !p->groups[op->group].v_in_k : op->heads > 0 && divides(s, op->heads);
    switch (op->kind) {
    case OP_EMBED:
    case OP_SEND:
    case OP_RECEIVE:
        make_whole(s, op->kind == OP_SEND ? op->x : op->y);
        break;
    case OP_NORM:
        if (op->head_dim == 0 || (op->w >= 0 && p->weights[op->w].in > op->head_dim) || !divides(s, p->buffers[op->x].width / op->head_dim))
            make_whole(s, op->x), make_whole(s, op->y);
        alike(s, op->x, op->y, -1);
        break;
    case OP_ROUTE:
        make_whole(s, op->x);
        make_whole(s, op->y);
        break;
    case OP_JOIN: /* pieces of a row, and channels that a scan takes for heads, are nobody's slices */
    case OP_CONV:
    case OP_SCAN:
    case OP_COMBINE: /* weights are nobody's slices, and slots are told apart by their widths */
        make_whole(s, op->x);
        make_whole(s, op->y);
        make_whole(s, op->z);
        break;
    case OP_EXPERTS:
        make_whole(s, op->z);
        if (op->z < 0) /* slots stand for heads here, whose neighbours do not split */
            make_whole(s, op->x), make_whole(s, op->y);
        if (p->buffers[op->x].width == w->in)
            make_whole(s, op->x);
        /* fall through */
    case OP_LINEAR:
        if (!divides(s, w->in) || w->in / s->ranks % storage_types[w->format].block_elements)
            make_whole(s, op->x);
        if (!divides(s, w->out) || (s->settled && s->split[op->x]))
            make_whole(s, op->y);
        break;
    case OP_ROPE:
        if (!heads)
            make_whole(s, op->x);
        break;
    case OP_STORE: /* all of the group's: its heads are split, or they are not */
        if (!heads)
            make_whole(s, op->x), make_whole(s, op->z);
        alike(s, op->x, op->z, -1);
        break;
    case OP_ATTEND:
        if (!heads || op->heads % s->ranks)
            make_whole(s, op->x), make_whole(s, op->y);
        alike(s, op->x, op->y, -1);
        for (int i = 0; i < p->op_count; i++)
            if (p->ops[i].kind == OP_STORE && p->ops[i].group == op->group)
                alike(s, op->x, p->ops[i].x, p->ops[i].z);
        break;
    case OP_ADD:
    case OP_GATE:
    case OP_SCALE:
    case OP_SELECT:
        alike(s, op->x, op->y, op->z);
        break;
    default:
        break;
    }
}

/* A slice of a weight's rows, of its columns (a vector's values are its columns). */
static int slice(struct program *out, const struct weight *w, int rank, int ranks, bool columns)
{
    struct weight part = *w;
    const struct storage_type *type = &storage_types[w->format];
    const unsigned char **expert = w->expert ? arena_array(out->arena, (size_t)w->experts, sizeof *expert) : NULL;
    int64_t skip = columns ? rank * (w->in / ranks / type->block_elements * type->block_bytes) : rank * (w->out / ranks) * w->row_bytes;
    part.in /= columns ? ranks : 1;
    part.out /= columns ? 1 : ranks;
    part.data += skip;
    part.shard_axis = columns;
    for (int e = 0; expert && e < w->experts; e++)
        expert[e] = w->expert[e] + skip;
    part.expert = expert;
    out->failed |= w->expert && !expert;
    return program_weight(out, &part);
}

/* A LINEAR or EXPERTS; next: the operation behind it, or NULL. */
static void add_linear(struct program *out, const struct sharing *s, const struct op *from, const struct op *next, int rank)
{
    const struct program *p = s->p;
    bool x = s->split[from->x], y = s->split[from->y];
    struct op op = *from;
    if (x || y)
        op.w = slice(out, &p->weights[op.w], rank, s->ranks, x);
    if (y && op.b >= 0)
        op.b = slice(out, &p->weights[op.b], rank, s->ranks, true);
    if (x && rank) /* one of them adds it */
        op.b = -1;
    *program_add(out, op.kind) = op;
    s->partial[op.y] = x && op.kind == OP_EXPERTS && next && next->kind == OP_COMBINE && next->x == op.y;
    if (x && !s->partial[op.y])
        program_add(out, OP_REDUCE)->x = op.y;
}

static void add_op(struct program *out, const struct sharing *s, const struct op *from, const struct op *next, int rank)
{
    if (from->kind == OP_LINEAR || from->kind == OP_EXPERTS) {
        add_linear(out, s, from, next, rank);
        return;
    }
    struct op *op = program_add(out, from->kind);
    *op = *from;
    if ((op->kind == OP_ROPE || op->kind == OP_ATTEND) && s->split[op->x])
        op->heads /= s->ranks;
    if (op->kind == OP_COMBINE && s->partial[op->x])
        program_add(out, OP_REDUCE)->x = op->y;
}

enum status program_shard(struct program *out, const struct program *p, int rank, int ranks, struct arena *arena, struct error *err)
{
    struct sharing s = {.p = p, .ranks = ranks, .split = arena_array(arena, (size_t)p->buffer_count + 1, sizeof(bool)),
                        .partial = arena_array(arena, (size_t)p->buffer_count + 1, sizeof(bool)), .changed = true};
    *out = *p;
    out->arena = arena;
    out->ops = NULL;
    out->weights = NULL;
    out->op_count = out->weight_count = 0;
    out->buffers = arena_array(arena, (size_t)p->buffer_count + 1, sizeof *out->buffers);
    out->groups = arena_array(arena, (size_t)p->group_count + 1, sizeof *out->groups);
    if (!s.split || !s.partial || !out->buffers || !out->groups)
        return error_memory(err, "a rank's part of the model's program");
    for (int b = 0; b < p->buffer_count; b++)
        s.split[b] = divides(&s, p->buffers[b].width);
    while (s.changed || !s.settled) {
        s.settled = !s.changed;
        s.changed = false;
        for (int i = 0; i < p->op_count; i++)
            settle(&s, &p->ops[i]);
    }
    bool any = false;
    for (int b = 0; b < p->buffer_count; b++) {
        out->buffers[b] = p->buffers[b];
        out->buffers[b].width /= s.split[b] ? ranks : 1;
        any |= s.split[b] && p->buffers[b].width;
    }
    if (!any)
        return error_set(err, STATUS_USAGE, "the heads and widths of this model cannot be shared out over %d devices", ranks);
    memcpy(out->groups, p->groups, (size_t)p->group_count * sizeof *out->groups);
    for (int i = 0; i < p->weight_count; i++) /* ids stay */
        program_weight(out, &p->weights[i]);
    for (int i = 0; i < p->op_count; i++) {
        add_op(out, &s, &p->ops[i], i + 1 < p->op_count ? &p->ops[i + 1] : NULL, rank);
        if (p->ops[i].kind == OP_STORE && s.split[p->ops[i].x])
            out->groups[p->ops[i].group].heads = p->groups[p->ops[i].group].heads / ranks;
    }
    return program_check(out, err);
}
