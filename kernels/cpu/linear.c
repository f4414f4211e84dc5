/* A LINEAR stage: the input is prepared (normed, quantised, packed), then threads take runs of weight rows. */
#include <string.h>

#include "base/team.h"
#include "kernels/cpu/cpu.h"

/* With few rows a run is about this many bytes of weights: long enough to stream, short enough to share evenly. */
enum { RUN_BYTES = 16384 };

/* ---- which rows get which arithmetic ---------------------------------------------------------------------------------- */

static void put_row(struct compiled *c, enum buffer_rows kind, int32_t row, int32_t own_rows)
{
    struct sets *s = &c->sets[kind];
    enum row_set set = set_of(c, own_rows);
    s->row[set][s->count[set]++] = row;
}

void linear_sets(struct compiled *c)
{
    const struct batch *b = c->batch;
    for (int kind = 0; kind < 2; kind++)
        c->sets[kind].count[SET_FEW] = c->sets[kind].count[SET_MANY] = 0;
    for (int32_t row = 0; row < b->rows; row++)
        put_row(c, ROWS_ALL, row, b->sequence[b->row[row].sequence].rows);
    for (int32_t i = 0, end; i < b->wanted; i = end) {
        int32_t sequence = b->row[b->wanted_rows[i]].sequence;
        for (end = i; end < b->wanted && b->row[b->wanted_rows[end]].sequence == sequence;)
            end++;
        for (int32_t k = i; k < end; k++)
            put_row(c, ROWS_WANTED, k, end - i);
    }
}

static const struct sets *sets_of(const struct compiled *c, const struct stage *s) { return &c->sets[c->p->buffers[s->part[0].y].rows]; }

static int64_t runs(int64_t out, int64_t run) { return (out + run - 1) / run; }

static int64_t items_of(const struct stage *s, int64_t run)
{
    int64_t items = 0;
    for (int i = 0; i < (s->joint ? 1 : s->parts); i++)
        items += runs(s->part[i].w->out, run);
    return items;
}

int64_t stage_panel_rows(const struct stage *s)
{
    int64_t rows = INT64_MAX;
    for (int i = 0; i < s->parts; i++) {
        int64_t own = s->part[i].kernel->panel_rows ? s->part[i].kernel->panel_rows : PANEL_ROWS;
        rows = own < rows ? own : rows;
    }
    return rows;
}

/* Those, unless some threads would have fewer than four such panels. */
static int64_t panel_rows(const struct compiled *c, const struct stage *s)
{
    int64_t rows = stage_panel_rows(s);
    while (rows > PANEL_ROWS && items_of(s, rows) < 4 * c->threads)
        rows /= 2;
    return rows;
}

int64_t linear_few_rows(int64_t row_bytes)
{
    int64_t n = RUN_BYTES / row_bytes;
    if (n >= 4) /* whole vectors of results */
        n = n < 16 ? 16 : (n + 8) / 16 * 16;
    return n < 1 ? 1 : n > 256 ? 256 : n;
}

/* Weight rows in one item: a panel where there are many rows. */
static int64_t grain(const struct compiled *c, const struct stage *s)
{
    if (sets_of(c, s)->count[SET_MANY])
        return panel_rows(c, s);
    int64_t longest = 1;
    for (int i = 0; i < s->parts; i++) {
        longest = s->part[i].w->row_bytes > longest ? s->part[i].w->row_bytes : longest;
    }
    return linear_few_rows(longest);
}

int64_t stage_items(const struct compiled *c, const struct stage *s)
{
    if (!buffer_rows(c, s->part[0].y))
        return 0;
    return items_of(s, grain(c, s));
}

/* ---- the input ------------------------------------------------------------------------------------------------------- */

/* Rows that one thread prepares together: whole tiles of all packed forms. */
static int32_t unit_rows(const struct input *in)
{
    if (!(in->forms & FORM_TILES))
        return PACK_ROWS;
    return in->forms & FORMS_PACKED ? 3 * TILE_ROWS : TILE_ROWS;
}
_Static_assert(3 * TILE_ROWS % PACK_ROWS == 0, "both kinds of tiles end there");

/* keep: also into the norm's own buffer */
void linear_prepare(struct compiled *c, const struct stage *s, struct input *in, int32_t unit, bool keep)
{
    const int32_t first = unit * unit_rows(in), end = first + unit_rows(in) < in->rows ? first + unit_rows(in) : in->rows;
    for (int32_t i = first; i < end; i++) {
        int32_t row = in->from[i];
        if (s->norm)
            norm_row(c, s->norm, c->buffer[s->x] + row * c->p->buffers[s->x].width, in->floats + row * in->float_stride);
        if (keep)
            memcpy(c->buffer[s->norm->y] + row * in->n, in->floats + row * in->float_stride, (size_t)in->n * sizeof(float));
        if (in->forms & (FORM_INT8 | FORM_NIBBLE | FORM_TURNED | FORM_INT16))
            c->isa->quantise(in, i);
    }
    for (int32_t i = first; i < end && in->forms & FORMS_PACKED; i += PACK_ROWS)
        c->isa->pack(in, i / PACK_ROWS);
    for (int32_t i = first; i < end && in->forms & FORM_TILES; i += TILE_ROWS)
        c->isa->pack_tiles(in, i / TILE_ROWS, 0, in->n);
}

size_t normed_bytes(int64_t n, int32_t rows) { return (size_t)((n + UNIT - 1) / UNIT * UNIT) * (size_t)rows * sizeof(float); }

/* Both sets of a stage's input in one piece of memory, normed rows before them. */
static void place(struct compiled *c, const struct stage *s, unsigned char *memory, int32_t rows, struct input in[SETS])
{
    int64_t n = s->part[0].w->in;
    float *floats = c->buffer[s->x];
    if (s->norm) {
        floats = (float *)(void *)memory;
        memory += normed_bytes(n, rows);
    }
    for (int set = 0; set < SETS; set++) {
        unsigned forms = 0;
        for (int i = 0; i < s->parts; i++)
            forms |= set == SET_MANY ? s->part[i].kernel->many_forms : s->part[i].kernel->few_forms;
        int32_t own = sets_of(c, s)->count[set];
        input_place(&in[set], memory, n, own, forms);
        memory += input_bytes(n, own, forms);
        in[set].from = in[set].row = sets_of(c, s)->row[set];
        in[set].floats = floats;
        in[set].float_stride = s->norm ? in[set].padded : n;
    }
}

static bool all_many(const struct compiled *c, const struct stage *s) { return sets_of(c, s)->count[SET_FEW] == 0; }

int32_t linear_units(const struct input *in) { return (in->rows + unit_rows(in) - 1) / unit_rows(in); }

/* One row: every thread prepares its own copy, which costs less than meeting. Otherwise units are shared out. */
static void prepare(struct compiled *c, const struct stage *s, struct input in[SETS], int32_t rows, int thread, int threads)
{
    if (s->packed && all_many(c, s)) {
        place(c, s, c->packed, rows, in);
        return;
    }
    place(c, s, rows == 1 ? c->thread[thread].input : c->input, rows, in);
    int32_t few = linear_units(&in[SET_FEW]), all = few + linear_units(&in[SET_MANY]);
    bool keep = s->keeps && (rows > 1 || thread == 0);
    for (int32_t i = rows == 1 ? 0 : thread; i < all; i += rows == 1 ? 1 : threads)
        linear_prepare(c, s, i < few ? &in[SET_FEW] : &in[SET_MANY], i < few ? i : i - few, keep);
    if (rows > 1)
        team_barrier();
    struct input *many = &in[SET_MANY];
    if (!many->rows || !(many->forms & FORM_APART))
        return;
    int64_t blocks = many->padded / 32; /* neighbours: their bytes lie side by side */
    for (int64_t b = blocks * thread / threads; b < blocks * (thread + 1) / threads; b++)
        c->isa->gather(many, b);
    team_barrier();
}

/* ---- the work -------------------------------------------------------------------------------------------------------- */

void linear_compute(const struct part *part, const struct input in[SETS], int64_t first, int64_t end, void *scratch, float *y, int64_t stride)
{
    if (in[SET_FEW].rows)
        part->kernel->few(part->w, first, end, &in[SET_FEW], y, stride, scratch);
    if (in[SET_MANY].rows)
        part->kernel->many(part->w, first, end, &in[SET_MANY], y, stride, scratch);
    for (int set = 0; set < SETS && (part->w->factor != 0 || part->bias); set++)
        for (int32_t row = 0; row < in[set].rows; row++) {
            float *to = y + in[set].row[row] * stride;
            for (int64_t i = first; part->w->factor != 0 && i < end; i++)
                to[i] *= part->w->factor;
            for (int64_t i = first; part->bias && i < end; i++)
                to[i] += part->bias[i];
        }
}

/* Columns [first, end) of the next stage's input. */
static void pack_ahead(struct compiled *c, const struct stage *next, const struct elsewhere *from, int64_t first, int64_t end, int32_t rows)
{
    struct input in[SETS];
    place(c, next, c->packed, rows, in);
    in[SET_MANY].floats = from->at;
    in[SET_MANY].float_stride = from->stride;
    for (int32_t tile = 0; tile < (rows + TILE_ROWS - 1) / TILE_ROWS; tile++)
        c->isa->pack_tiles(&in[SET_MANY], tile, first, end);
}

/* The same columns of all parts, then what follows. A buffer's rows are often a power of two apart and share a few sets of the
 * caches: with many rows, columns that only the epilogue reads never go there. */
static void compute_joint(struct compiled *c, const struct stage *s, const struct input in[SETS], int64_t first, int64_t end, struct thread_memory *own,
                          int64_t run)
{
    struct elsewhere elsewhere[STAGE_PARTS];
    int count = 0;
    const bool packs = s->packs && all_many(c, s);
    const struct elsewhere to_pack = {c->p->ops[s->first_op + s->op_count - 1].y, own->local - first, run}; /* over what it is made of */
    int64_t rows = in[SET_FEW].rows + in[SET_MANY].rows;
    for (int i = 0; i < s->parts; i++) {
        const struct part *part = &s->part[i];
        bool local = part->local && in[SET_MANY].rows;
        struct elsewhere at = {part->y, c->buffer[part->y], part->w->out};
        if (local)
            elsewhere[count++] = at = (struct elsewhere){part->y, own->local + i * rows * run - first, run};
        linear_compute(part, in, first, end, own->scratch, at.at, at.stride);
    }
    for (int i = 0; i < s->op_count; i++) {
        const struct op *op = &c->p->ops[s->first_op + i];
        columns_op(c, op, first, end, elsewhere, count, packs && i + 1 == s->op_count ? &to_pack : NULL);
        for (int k = 0; k < count; k++) /* from now on the buffer has it */
            if (elsewhere[k].buffer == op->y)
                elsewhere[k].buffer = -1;
    }
    if (packs)
        pack_ahead(c, s + 1, &to_pack, first, end, (int32_t)rows);
}

void linear_stage(struct compiled *c, int stage, int thread, int threads)
{
    const struct stage *s = &c->stages[stage];
    int32_t rows = buffer_rows(c, s->part[0].y);
    if (!rows)
        return;
    struct input in[SETS];
    prepare(c, s, in, rows, thread, threads);
    int64_t run = grain(c, s), item, end;
    struct thread_memory *own = &c->thread[thread];
    while (share_take(c, stage, thread, threads, 1, &item, &end)) {
        const struct part *part = s->part;
        if (!s->joint) /* item counts through the parts */
            for (; item >= runs(part->w->out, run); part++)
                item -= runs(part->w->out, run);
        int64_t first = item * run, last = first + run < part->w->out ? first + run : part->w->out;
        if (s->joint)
            compute_joint(c, s, in, first, last, own, run);
        else
            linear_compute(part, in, first, last, own->scratch, c->buffer[part->y], part->w->out);
    }
}
