/* A LINEAR stage: the input is prepared (normed, quantised, packed), then threads take runs of weight rows. */
#include "base/team.h"
#include "kernels/cpu/cpu.h"

/* With few rows a run is about this many bytes of weights: long enough to stream, short enough to share evenly. */
enum { RUN_BYTES = 16384 };

static bool many(const struct compiled *c, const struct part *part, int32_t rows)
{
    return !c->options.deterministic && part->kernel->many_from && rows >= part->kernel->many_from;
}

/* Weight rows in one item: whole panels where panels are used. */
static int64_t grain(const struct compiled *c, const struct stage *s, int32_t rows)
{
    int64_t longest = 1;
    for (int i = 0; i < s->parts; i++) {
        if (many(c, &s->part[i], rows))
            return PANEL_ROWS;
        longest = s->part[i].w->row_bytes > longest ? s->part[i].w->row_bytes : longest;
    }
    int64_t n = RUN_BYTES / longest;
    return n < 1 ? 1 : n > 256 ? 256 : n;
}

static int64_t runs(int64_t out, int64_t run) { return (out + run - 1) / run; }

int64_t stage_items(const struct compiled *c, const struct stage *s)
{
    int32_t rows = buffer_rows(c, s->part[0].y);
    if (!rows)
        return 0;
    int64_t run = grain(c, s, rows), items = 0;
    for (int i = 0; i < (s->joint ? 1 : s->parts); i++)
        items += runs(s->part[i].w->out, run);
    return items;
}

/* ---- the input ------------------------------------------------------------------------------------------------------- */

static void prepare_row(struct compiled *c, const struct stage *s, struct input *in, int32_t row)
{
    if (s->norm)
        norm_row(c, s->norm, c->buffer[s->x] + row * c->p->buffers[s->x].width, in->floats + row * in->float_stride);
    if (in->forms & (FORM_INT8 | FORM_NIBBLE))
        c->isa->quantise(in, row);
}

static void prepare_tile(struct compiled *c, const struct stage *s, struct input *in, int32_t tile)
{
    for (int32_t row = tile * PACK_ROWS; row < (tile + 1) * PACK_ROWS && row < in->rows; row++)
        prepare_row(c, s, in, row);
    if (in->forms & (FORM_PACKED8 | FORM_PACKED16 | FORM_PACKED32))
        c->isa->pack(in, tile);
}

/* One row: every thread prepares its own copy, which costs less than meeting. Otherwise tiles are shared out. */
static void prepare(struct compiled *c, const struct stage *s, struct input *in, int32_t rows, int thread, int threads)
{
    unsigned forms = s->norm ? FORM_FLOATS : 0;
    for (int i = 0; i < s->parts; i++)
        forms |= many(c, &s->part[i], rows) ? s->part[i].kernel->many_forms : s->part[i].kernel->few_forms;
    int64_t n = s->part[0].w->in;
    unsigned stored = s->norm ? forms : forms & ~(unsigned)FORM_FLOATS;
    input_place(in, rows == 1 ? c->thread[thread].input : c->input, n, rows, stored);
    if (!s->norm) {
        in->floats = c->buffer[s->x];
        in->float_stride = n;
    }
    if (rows == 1) {
        prepare_tile(c, s, in, 0);
        return;
    }
    for (int32_t tile = thread; tile * PACK_ROWS < rows; tile += threads)
        prepare_tile(c, s, in, tile);
    team_barrier();
}

/* ---- the work -------------------------------------------------------------------------------------------------------- */

static void compute(struct compiled *c, const struct part *part, const struct input *in, int64_t first, int64_t end, void *scratch)
{
    float *y = c->buffer[part->y];
    int64_t stride = part->w->out;
    if (many(c, part, in->rows))
        part->kernel->many(part->w, first, end, in, y, stride, scratch);
    else
        part->kernel->few(part->w, first, end, in, y, stride, scratch);
    for (int32_t row = 0; part->bias && row < in->rows; row++)
        for (int64_t i = first; i < end; i++)
            y[row * stride + i] += part->bias[i];
}

void linear_stage(struct compiled *c, int stage, int thread, int threads)
{
    const struct stage *s = &c->stages[stage];
    int32_t rows = buffer_rows(c, s->part[0].y);
    if (!rows)
        return;
    struct input in;
    prepare(c, s, &in, rows, thread, threads);
    int64_t run = grain(c, s, rows), item, end;
    void *scratch = c->thread[thread].scratch;
    while (share_take(c, stage, thread, threads, 1, &item, &end)) {
        const struct part *part = s->part;
        if (!s->joint) /* item counts through the parts */
            for (; item >= runs(part->w->out, run); part++)
                item -= runs(part->w->out, run);
        int64_t first = item * run, last = first + run < part->w->out ? first + run : part->w->out;
        compute(c, part, &in, first, last, scratch);
        if (!s->joint)
            continue;
        for (int i = 1; i < s->parts; i++)
            compute(c, part + i, &in, first, last, scratch);
        for (int i = 0; i < s->op_count; i++)
            columns_op(c, &c->p->ops[s->first_op + i], first, last);
    }
}
