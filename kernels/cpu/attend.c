/* An ATTEND stage: tiles of queries that share a kv head. With few tiles a tile's tokens are shared out over threads as well: in
 * runs where that makes enough items, else in their pieces (ATTEND_RUN, ATTEND_PIECE). Both have fixed sizes and are merged in
 * order by the same function whoever computed them, so the result does not depend on how the work was shared. Two levels keep
 * the partial results few: pieces are only shared out while there are few runs. With many tiles those of rows that follow one
 * another are stacked: they go over the tokens together, and what has to be made of K and V is made once. */
#include <string.h>

#include "base/team.h"
#include "kernels/cpu/cpu.h"

struct shape { /* of the stage in this step */
    const struct op *op;
    const struct state_group *g;
    int group_heads, head_tiles; /* query heads of a kv head; tiles that they make */
    int tile_rows, stack;        /* rows of a tile; tiles that are computed together */
    int64_t items, units;        /* stacks of tiles; parts of the context that are items of their own (then a stack is one tile), 1: none */
    int64_t unit;                /* their tokens: ATTEND_PIECE or ATTEND_RUN */
    int64_t wide;                /* floats from one query's output to the next */
};

static int64_t parts_of(int64_t tokens, int64_t size) { return (tokens + size - 1) / size; }

static int64_t wide_of(int v_dim) { return (v_dim + 31) / 32 * 32; }

static int32_t least(int32_t a, int32_t b) { return a < b ? a : b; }
static int64_t later(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t sooner(int64_t a, int64_t b) { return a < b ? a : b; }

/* Whether only rows behind SELECT attend: any of their sequences', so each is a tile of its own. */
static bool wants_some(const struct compiled *c, const struct op *op) { return c->p->buffers[op->x].rows == ROWS_WANTED; }

/* Tiles that may be stacked: their queries and results should stay in the second-level cache. */
static int most_stacked(const struct isa *isa, int k_dim, int v_dim)
{
    int stack = 256 * isa->most_stacked / (k_dim + v_dim);
    return stack < 1 ? 1 : stack > isa->most_stacked ? isa->most_stacked : stack;
}

/* Items of one part of the context, each of `stack` tiles but the last ones of a sequence. */
static int64_t items_stacked(const struct compiled *c, const struct shape *s, int stack)
{
    const struct batch *b = c->batch;
    int64_t items = 0, rows = s->tile_rows * stack;
    for (int i = 0; i < b->sequences; i++)
        items += parts_of(b->sequence[i].rows, rows);
    return (wants_some(c, s->op) ? b->wanted : items) * s->g->heads * s->head_tiles;
}

static struct shape shape_of(const struct compiled *c, const struct op *op)
{
    struct shape s = {.op = op, .g = &c->p->groups[op->group]};
    s.group_heads = op->heads / s.g->heads;
    s.head_tiles = (s.group_heads + ATTEND_QUERIES - 1) / ATTEND_QUERIES;
    s.tile_rows = s.head_tiles > 1 ? 1 : ATTEND_QUERIES / s.group_heads;
    s.wide = wide_of(s.g->v_dim);
    const struct batch *b = c->batch;
    int64_t longest = 0, enough = (int64_t)ATTEND_ITEMS * c->threads;
    for (int i = 0; i < b->sequences; i++)
        longest = later(longest, b->sequence[i].cached + b->sequence[i].rows);
    if (wants_some(c, op))
        s.tile_rows = 1;
    s.stack = 1;
    s.items = items_stacked(c, &s, 1);
    s.unit = s.items * parts_of(longest, ATTEND_RUN) < enough ? ATTEND_PIECE : ATTEND_RUN;
    s.units = s.items < enough && c->threads > 1 ? parts_of(longest, s.unit) : 1;
    for (int stack = 2; s.units == 1 && stack <= most_stacked(c->isa, s.g->k_dim, s.g->v_dim) && !wants_some(c, op); stack *= 2) {
        int64_t items = items_stacked(c, &s, stack);
        if (items < enough && c->threads > 1)
            break;
        s.stack = stack, s.items = items;
    }
    return s;
}

int64_t attend_items(const struct compiled *c, const struct op *op)
{
    struct shape s = shape_of(c, op);
    return s.items * s.units;
}

/* Partial results that there can be at once: pieces while tiles * runs are too few, else runs while tiles are. */
int64_t attend_partial_floats(const struct compile_options *o, int threads, int v_dim)
{
    int64_t enough = (int64_t)ATTEND_ITEMS * threads, pieces = parts_of(o->max_context, ATTEND_PIECE), runs = parts_of(o->max_context, ATTEND_RUN);
    int64_t most = enough * (pieces < ATTEND_RUN / ATTEND_PIECE ? pieces : ATTEND_RUN / ATTEND_PIECE);
    most = most > enough * runs ? most : enough * runs;
    return pieces > 1 && threads > 1 ? most * ATTEND_QUERIES * (2 + wide_of(v_dim)) : 0;
}

static int64_t scratch_floats(const struct isa *isa, int k_dim, int v_dim)
{
    return (int64_t)(attend_scratch_floats(k_dim, v_dim) + (isa->attend_floats ? isa->attend_floats(k_dim, v_dim) : 0));
}

static int64_t stack_form_floats(const struct isa *isa, int k_dim, int v_dim)
{
    return (most_stacked(isa, k_dim, v_dim) * ATTEND_QUERIES + ATTEND_FORMS_BEHIND) * (int64_t)attend_form_floats(k_dim);
}

int64_t attend_thread_floats(const struct isa *isa, int k_dim, int v_dim)
{
    /* scratch of the kernel; forms; for each tile three of most, sum, out: all, a run, a piece */
    int64_t tile = ATTEND_QUERIES * 3 * (2 + wide_of(v_dim));
    return scratch_floats(isa, k_dim, v_dim) + stack_form_floats(isa, k_dim, v_dim) + most_stacked(isa, k_dim, v_dim) * tile;
}

/* Item -> its rows (of the q buffer), sequence and heads. */
struct place {
    int32_t row, rows;
    const struct batch_sequence *sequence;
    int kv, first_head, heads;
};

static struct place place_of(const struct compiled *c, const struct shape *s, int64_t item)
{
    struct place p = {0};
    int per_row = s->g->heads * s->head_tiles, rows = s->tile_rows * s->stack;
    int64_t part = item / per_row;
    int rest = (int)(item % per_row);
    p.kv = rest / s->head_tiles;
    p.first_head = p.kv * s->group_heads + rest % s->head_tiles * ATTEND_QUERIES;
    p.heads = least(s->group_heads - rest % s->head_tiles * ATTEND_QUERIES, ATTEND_QUERIES);
    const struct batch *b = c->batch;
    if (wants_some(c, s->op)) {
        p.row = (int32_t)part;
        p.rows = 1;
        p.sequence = &b->sequence[b->row[b->wanted_rows[part]].sequence];
        return p;
    }
    const struct batch_sequence *q = b->sequence;
    for (; part >= parts_of(q->rows, rows); q++)
        part -= parts_of(q->rows, rows);
    p.sequence = q;
    p.row = q->first_row + (int32_t)part * rows;
    p.rows = least(rows, q->first_row + q->rows - p.row);
    return p;
}

static void fill_tile(const struct compiled *c, const struct shape *s, const struct place *p, struct attend_tile *t)
{
    const struct op *op = s->op;
    const struct state_layout *l = &c->layout[op->group];
    const struct batch_sequence *q = p->sequence;
    memset(t, 0, offsetof(struct attend_tile, q));
    t->set = wants_some(c, op) ? SET_FEW : set_of(c, q->rows);
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
    t->formed = false;
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
            c->isa->finish(out, *sum, y, s->g->v_dim);
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
    struct place place;
    struct attend_tile tile;
    int64_t low, high;
    struct result all, run, piece;
};

/* Those that are computed together. */
struct stack {
    struct compiled *c;
    const struct shape *shape;
    int count;
    int64_t low, high; /* tokens that any tile sees */
    struct work work[ATTEND_STACK];
};

enum { RUN_PIECES = ATTEND_RUN / ATTEND_PIECE };

/* What a tile begins with needs no merging: its first run is where all results come to, a run's first piece where the run's do. */
static struct result *run_result(struct work *w, int64_t run) { return run == w->low / ATTEND_RUN ? &w->all : &w->run; }

static struct result *piece_result(struct work *w, int64_t piece)
{
    bool first = piece == later(piece / RUN_PIECES * RUN_PIECES, w->low / ATTEND_PIECE);
    return first ? run_result(w, piece / RUN_PIECES) : &w->piece;
}

static bool sees(const struct work *w, int64_t part, int64_t size) { return w->low < (part + 1) * size && part * size < w->high; }

static void compute_piece(struct stack *s, int64_t piece)
{
    struct attend_tile *tiles[ATTEND_STACK];
    int count = 0;
    for (int i = 0; i < s->count; i++) {
        struct work *w = &s->work[i];
        if (!sees(w, piece, ATTEND_PIECE))
            continue;
        const struct result *r = piece_result(w, piece);
        w->tile.most = r->most, w->tile.sum = r->sum, w->tile.out = r->out;
        tiles[count++] = &w->tile;
    }
    if (count)
        s->c->isa->attend(tiles, count, piece * ATTEND_PIECE, (piece + 1) * ATTEND_PIECE);
}

/* The pieces of a run that are seen, merged in order. */
static void compute_run(struct stack *s, int64_t run)
{
    int64_t last = sooner((run + 1) * RUN_PIECES, parts_of(s->high, ATTEND_PIECE));
    for (int64_t k = later(run * RUN_PIECES, s->low / ATTEND_PIECE); k < last; k++) {
        compute_piece(s, k);
        for (struct work *w = s->work; w < s->work + s->count; w++)
            if (sees(w, k, ATTEND_PIECE) && piece_result(w, k) == &w->piece)
                merge_all(s->c, s->shape, w->tile.queries, *run_result(w, run), w->piece);
    }
}

static void compute_all(struct stack *s)
{
    for (int64_t k = s->low / ATTEND_RUN; k < parts_of(s->high, ATTEND_RUN); k++) {
        compute_run(s, k);
        for (struct work *w = s->work; w < s->work + s->count; w++)
            if (sees(w, k, ATTEND_RUN) && run_result(w, k) == &w->run)
                merge_all(s->c, s->shape, w->tile.queries, w->all, w->run);
    }
}

/* Merges the results of pieces into the first of each run, then those of runs; returns where all are. */
static struct result merge_units(const struct stack *s, float *partial)
{
    const struct shape *h = s->shape;
    int queries = s->work[0].tile.queries;
    int64_t first = s->low / h->unit, last = parts_of(s->high, h->unit), each = h->unit == ATTEND_RUN ? 1 : RUN_PIECES;
    struct result whole = result_at(partial + first * result_floats(h)), run = whole;
    for (int64_t k = first + 1; k < last; k++) {
        struct result next = result_at(partial + k * result_floats(h));
        if (k % each) {
            merge_all(s->c, h, queries, run, next);
            continue;
        }
        if (run.out != whole.out)
            merge_all(s->c, h, queries, whole, run);
        run = next;
    }
    if (run.out != whole.out)
        merge_all(s->c, h, queries, whole, run);
    return whole;
}

/* A part of the context is somebody's item: the last who is done with one merges all and returns true. */
static bool compute_unit(struct stack *s, int64_t item, int64_t unit)
{
    const struct shape *h = s->shape;
    float *partial = s->c->partial + item * h->units * result_floats(h);
    struct work *w = s->work;
    w->all = w->run = result_at(partial + unit * result_floats(h));
    if (h->unit == ATTEND_RUN) {
        compute_run(s, unit);
    } else {
        w->piece = w->all;
        compute_piece(s, unit);
    }
    if (atomic_fetch_add(&s->c->partial_done[item], 1) + 1 < h->units)
        return false;
    atomic_store(&s->c->partial_done[item], 0); /* for the next stage */
    w->all = merge_units(s, partial);
    return true;
}

/* The tiles of an item; `memory`: the thread's, attend_thread_floats. */
static void fill_stack(struct stack *s, const struct place *p, float *memory)
{
    const struct shape *h = s->shape;
    int64_t results = result_floats(h);
    float *scratch = memory, *form = memory + scratch_floats(s->c->isa, h->g->k_dim, h->g->v_dim);
    memory = form + stack_form_floats(s->c->isa, h->g->k_dim, h->g->v_dim);
    s->count = 0, s->low = INT64_MAX, s->high = 0;
    for (int32_t done = 0; done < p->rows; done += h->tile_rows, s->count++, memory += 3 * results) {
        struct work *w = &s->work[s->count];
        w->place = *p;
        w->place.row += done, w->place.rows = least(h->tile_rows, p->rows - done);
        fill_tile(s->c, h, &w->place, &w->tile);
        w->all = result_at(memory), w->run = result_at(memory + results), w->piece = result_at(memory + 2 * results);
        w->tile.form = form, w->tile.scratch = scratch;
        form += w->tile.queries * (int64_t)attend_form_floats(h->g->k_dim);
        w->low = w->tile.start[0], w->high = w->tile.end[0]; /* rows of a tile follow one another */
        for (int i = 1; i < w->tile.queries; i++)
            w->low = sooner(w->low, w->tile.start[i]), w->high = later(w->high, w->tile.end[i]);
        s->low = sooner(s->low, w->low), s->high = later(s->high, w->high);
    }
}

void attend_stage(struct compiled *c, int stage, int thread, int threads)
{
    struct shape h = shape_of(c, c->stages[stage].attend);
    bool own = prepares_itself(c, &h);
    if (!own && c->stages[stage].op_count)
        prepare_all(c, &c->stages[stage], &h, thread, threads);
    struct stack s = {.c = c, .shape = &h};
    int64_t next, end;
    while (share_take(c, stage, thread, threads, 1, &next, &end)) {
        int64_t item = next / h.units;
        struct place p = place_of(c, &h, item);
        if (own)
            prepare_head(c, &c->stages[stage], &h, p.row, p.kv);
        fill_stack(&s, &p, c->thread[thread].attend);
        if (h.units == 1)
            compute_all(&s);
        else if (!compute_unit(&s, item, next % h.units))
            continue;
        for (const struct work *w = s.work; w < s.work + s.count; w++)
            finish(c, &h, &w->place, w->all.sum, w->all.out);
    }
}
