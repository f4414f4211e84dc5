/* An ATTEND stage: tiles of queries that share a kv head. With few tiles a tile's tokens are shared out over threads as well: in
 * runs where that makes enough items, else in their pieces (ATTEND_RUN, ATTEND_PIECE). Both have fixed sizes and are merged in
 * order by the same function whoever computed them, so the result does not depend on how the work was shared. Two levels keep
 * the partial results few: pieces are only shared out while there are few runs. */
#include <string.h>

#include "base/team.h"
#include "kernels/cpu/cpu.h"

struct shape { /* of the stage in this step */
    const struct op *op;
    const struct state_group *g;
    int group_heads, head_tiles; /* query heads of a kv head; tiles that they make */
    int tile_rows;
    int64_t tiles, units;  /* units: parts of the context that are items of their own; 1: none */
    int64_t unit;          /* their tokens: ATTEND_PIECE or ATTEND_RUN */
    int64_t wide;          /* floats from one query's output to the next */
};

static int64_t parts_of(int64_t tokens, int64_t size) { return (tokens + size - 1) / size; }

static int64_t wide_of(int v_dim) { return (v_dim + 31) / 32 * 32; }

static int32_t least(int32_t a, int32_t b) { return a < b ? a : b; }

static struct shape shape_of(const struct compiled *c, const struct op *op)
{
    struct shape s = {.op = op, .g = &c->p->groups[op->group]};
    s.group_heads = op->heads / s.g->heads;
    s.head_tiles = (s.group_heads + ATTEND_QUERIES - 1) / ATTEND_QUERIES;
    s.tile_rows = s.head_tiles > 1 ? 1 : ATTEND_QUERIES / s.group_heads;
    s.wide = wide_of(s.g->v_dim);
    const struct batch *b = c->batch;
    int64_t row_tiles = 0, longest = 0;
    bool wanted = c->p->buffers[op->x].rows == ROWS_WANTED;
    if (wanted)
        s.tile_rows = 1, row_tiles = b->wanted;
    for (int i = 0; i < b->sequences; i++) {
        if (!wanted)
            row_tiles += (b->sequence[i].rows + s.tile_rows - 1) / s.tile_rows;
        int64_t total = b->sequence[i].cached + b->sequence[i].rows;
        longest = total > longest ? total : longest;
    }
    s.tiles = row_tiles * s.g->heads * s.head_tiles;
    int64_t enough = (int64_t)ATTEND_ITEMS * c->threads;
    s.unit = s.tiles * parts_of(longest, ATTEND_RUN) < enough ? ATTEND_PIECE : ATTEND_RUN;
    s.units = s.tiles < enough && c->threads > 1 ? parts_of(longest, s.unit) : 1;
    return s;
}

int64_t attend_items(const struct compiled *c, const struct op *op)
{
    struct shape s = shape_of(c, op);
    return s.tiles * s.units;
}

/* Partial results that there can be at once: pieces while tiles * runs are too few, else runs while tiles are. */
int64_t attend_partial_floats(const struct compile_options *o, int threads, int v_dim)
{
    int64_t enough = (int64_t)ATTEND_ITEMS * threads, pieces = parts_of(o->max_context, ATTEND_PIECE), runs = parts_of(o->max_context, ATTEND_RUN);
    int64_t most = enough * (pieces < ATTEND_RUN / ATTEND_PIECE ? pieces : ATTEND_RUN / ATTEND_PIECE);
    most = most > enough * runs ? most : enough * runs;
    return pieces > 1 && threads > 1 ? most * ATTEND_QUERIES * (2 + wide_of(v_dim)) : 0;
}

int64_t attend_thread_floats(int k_dim, int v_dim)
{
    /* scratch of the kernel, and three tiles of most, sum, out: all, a run, a piece */
    return (int64_t)attend_scratch_floats(k_dim, v_dim) + 3 * ATTEND_QUERIES * (2 + wide_of(v_dim));
}

/* Tile number -> its rows (of the q buffer), sequence and heads. */
struct place {
    int32_t row, rows;
    const struct batch_sequence *sequence;
    int kv, first_head, heads;
};

static struct place place_of(const struct compiled *c, const struct shape *s, int64_t tile)
{
    struct place p = {0};
    int per_row = s->g->heads * s->head_tiles;
    int64_t row_tile = tile / per_row;
    int rest = (int)(tile % per_row);
    p.kv = rest / s->head_tiles;
    p.first_head = p.kv * s->group_heads + rest % s->head_tiles * ATTEND_QUERIES;
    p.heads = least(s->group_heads - rest % s->head_tiles * ATTEND_QUERIES, ATTEND_QUERIES);
    const struct batch *b = c->batch;
    if (c->p->buffers[s->op->x].rows == ROWS_WANTED) {
        p.row = (int32_t)row_tile;
        p.rows = 1;
        p.sequence = &b->sequence[b->row[b->wanted_rows[row_tile]].sequence];
        return p;
    }
    const struct batch_sequence *q = b->sequence;
    for (;; q++) {
        int64_t tiles = (q->rows + s->tile_rows - 1) / s->tile_rows;
        if (row_tile < tiles)
            break;
        row_tile -= tiles;
    }
    p.sequence = q;
    p.row = q->first_row + (int32_t)row_tile * s->tile_rows;
    p.rows = least(s->tile_rows, q->first_row + q->rows - p.row);
    return p;
}

static void fill_tile(const struct compiled *c, const struct shape *s, const struct place *p, struct attend_tile *t)
{
    const struct op *op = s->op;
    const struct state_layout *l = &c->layout[op->group];
    const struct batch_sequence *q = p->sequence;
    memset(t, 0, offsetof(struct attend_tile, q));
    t->k_dim = s->g->k_dim, t->v_dim = s->g->v_dim, t->v_in_k = s->g->v_in_k;
    t->scale = op->scale, t->cap = op->cap;
    t->k_type = c->options.k_type, t->v_type = c->options.v_type;
    t->pool = c->state->pool[op->group];
    t->block_bytes = l->block_bytes;
    t->k_offset = (uint64_t)op->layer * l->layer_bytes + (uint64_t)p->kv * (l->k_bytes + l->v_bytes);
    t->v_offset = t->k_offset + l->k_bytes;
    t->blocks = q->blocks[op->group];
    t->out_stride = s->wide;
    t->queries = p->rows * p->heads;
    for (int32_t r = 0; r < p->rows; r++) {
        int64_t self = q->cached + (batch_row_of(c, op->x, p->row + r) - q->first_row), end = self + 1, start = 0;
        if (op->mask == MASK_FULL)
            end = q->cached + q->rows;
        if (s->g->window) {
            start = self + 1 > s->g->window ? self + 1 - s->g->window : 0;
            end = end > self + s->g->window ? self + s->g->window : end;
        }
        for (int h = 0; h < p->heads; h++) {
            int i = r * p->heads + h;
            t->q[i] = c->buffer[op->x] + ((int64_t)(p->row + r) * op->heads + p->first_head + h) * t->k_dim;
            t->start[i] = start;
            t->end[i] = end;
        }
    }
}

static void finish(const struct compiled *c, const struct shape *s, const struct place *p, const float *sum, const float *out)
{
    for (int32_t r = 0; r < p->rows; r++)
        for (int h = 0; h < p->heads; h++, out += s->wide, sum++) {
            float *y = c->buffer[s->op->y] + ((int64_t)(p->row + r) * s->op->heads + p->first_head + h) * s->g->v_dim;
            float share = 1 / *sum;
            for (int i = 0; i < s->g->v_dim; i++)
                y[i] = out[i] * share;
        }
}

/* Results of a tile over some of its tokens: most [queries], sum [queries], out [queries][wide]. */
struct result {
    float *most, *sum, *out;
};

static struct result result_at(float *at)
{
    return (struct result){at, at + ATTEND_QUERIES, at + 2 * ATTEND_QUERIES};
}

static int64_t result_floats(const struct shape *s) { return ATTEND_QUERIES * (2 + s->wide); }

static void merge_all(const struct compiled *c, const struct shape *s, int queries, struct result total, struct result part)
{
    for (int i = 0; i < queries; i++)
        c->isa->merge(total.most + i, total.sum + i, total.out + i * s->wide, part.most[i], part.sum[i], part.out + i * s->wide, s->wide);
}

/* What comes before attention for kv head `kv` of a row and the query heads that share it. */
static void prepare_head(struct compiled *c, const struct stage *s, const struct shape *h, int32_t row, int kv)
{
    for (int i = 0; i < s->op_count; i++) {
        const struct op *op = &c->p->ops[s->first_op + i];
        int heads = op->x == s->attend->x && op->kind != OP_STORE ? h->group_heads : 1;
        head_op(c, op, row, kv * heads, (kv + 1) * heads);
    }
}

/* Where every sequence has one row and no tile is split, each tile is prepared by who attends. Otherwise all heads of all
 * rows are prepared first: neighbouring rows by one thread, since they share cache lines of the state. */
static bool prepares_itself(const struct compiled *c, const struct shape *s)
{
    return s->units == 1 && s->head_tiles == 1 && c->batch->rows == c->batch->sequences;
}

static void prepare_all(struct compiled *c, const struct stage *s, const struct shape *h, int thread, int threads)
{
    int64_t pairs = (int64_t)c->batch->rows * h->g->heads;
    for (int64_t i = pairs * thread / threads; i < pairs * (thread + 1) / threads; i++)
        prepare_head(c, s, h, (int32_t)(i / h->g->heads), (int)(i % h->g->heads));
    team_barrier();
}

/* A tile in work: its queries, the tokens that any of them sees, and the thread's own memory for results. */
struct work {
    struct compiled *c;
    const struct shape *shape;
    struct attend_tile tile;
    int64_t low, high;
    struct result all, run, piece;
};

static int64_t later(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t sooner(int64_t a, int64_t b) { return a < b ? a : b; }

static void compute_piece(struct work *w, int64_t piece, struct result into)
{
    w->tile.most = into.most, w->tile.sum = into.sum, w->tile.out = into.out;
    w->c->isa->attend(&w->tile, piece * ATTEND_PIECE, (piece + 1) * ATTEND_PIECE);
}

/* The pieces of a run that are seen, merged in order. */
static void compute_run(struct work *w, int64_t run, struct result into)
{
    int64_t each = ATTEND_RUN / ATTEND_PIECE, first = later(run * each, w->low / ATTEND_PIECE);
    int64_t last = sooner((run + 1) * each, parts_of(w->high, ATTEND_PIECE));
    for (int64_t k = first; k < last; k++) {
        compute_piece(w, k, k == first ? into : w->piece);
        if (k > first)
            merge_all(w->c, w->shape, w->tile.queries, into, w->piece);
    }
}

static struct result compute_all(struct work *w)
{
    int64_t first = w->low / ATTEND_RUN, last = parts_of(w->high, ATTEND_RUN);
    for (int64_t k = first; k < last; k++) {
        compute_run(w, k, k == first ? w->all : w->run);
        if (k > first)
            merge_all(w->c, w->shape, w->tile.queries, w->all, w->run);
    }
    return w->all;
}

/* Merges the results of pieces into the first of each run, then those of runs; returns where all are. */
static struct result merge_units(struct work *w, float *partial)
{
    const struct shape *s = w->shape;
    int64_t first = w->low / s->unit, last = parts_of(w->high, s->unit), each = s->unit == ATTEND_RUN ? 1 : ATTEND_RUN / ATTEND_PIECE;
    struct result whole = result_at(partial + first * result_floats(s)), run = whole;
    for (int64_t k = first + 1; k < last; k++) {
        struct result next = result_at(partial + k * result_floats(s));
        if (k % each) {
            merge_all(w->c, s, w->tile.queries, run, next);
            continue;
        }
        if (run.out != whole.out)
            merge_all(w->c, s, w->tile.queries, whole, run);
        run = next;
    }
    if (run.out != whole.out)
        merge_all(w->c, s, w->tile.queries, whole, run);
    return whole;
}

void attend_stage(struct compiled *c, int stage, int thread, int threads)
{
    struct shape s = shape_of(c, c->stages[stage].attend);
    bool own = prepares_itself(c, &s);
    if (!own && c->stages[stage].op_count)
        prepare_all(c, &c->stages[stage], &s, thread, threads);
    float *mine = c->thread[thread].attend;
    int64_t floats = result_floats(&s), item, end;
    struct work w = {.c = c, .shape = &s, .all = result_at(mine), .run = result_at(mine + floats), .piece = result_at(mine + 2 * floats)};
    while (share_take(c, stage, thread, threads, 1, &item, &end)) {
        int64_t tile = item / s.units, unit = item % s.units;
        struct place p = place_of(c, &s, tile);
        if (own)
            prepare_head(c, &c->stages[stage], &s, p.row, p.kv);
        fill_tile(c, &s, &p, &w.tile);
        w.tile.scratch = mine + 3 * floats;
        w.low = w.tile.start[0], w.high = w.tile.end[0]; /* rows of a tile follow one another */
        for (int i = 1; i < w.tile.queries; i++)
            w.low = sooner(w.low, w.tile.start[i]), w.high = later(w.high, w.tile.end[i]);
        struct result whole;
        if (s.units == 1) {
            whole = compute_all(&w);
        } else {
            float *partial = c->partial + tile * s.units * floats;
            struct result mine_of_it = result_at(partial + unit * floats);
            if ((unit + 1) * s.unit > w.low && unit * s.unit < w.high) {
                if (s.unit == ATTEND_RUN)
                    compute_run(&w, unit, mine_of_it);
                else
                    compute_piece(&w, unit, mine_of_it);
            }
            if (atomic_fetch_add(&c->partial_done[tile], 1) + 1 < s.units)
                continue;
            atomic_store(&c->partial_done[tile], 0); /* for the next stage */
            whole = merge_units(&w, partial);
        }
        finish(c, &s, &p, whole.sum, whole.out);
    }
}
