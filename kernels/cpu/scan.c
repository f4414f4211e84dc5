/* CONV and SCAN stages: what is done over the rows of a sequence. Items are runs of channels of a sequence, and heads of a sequence or,
 * where there are too few of these, runs of a head's columns. */
#include <math.h>

#include "base/team.h"
#include "kernels/cpu/cpu.h"

enum {
    CONV_CHANNELS = 128,
    SCAN_ROWS = 16,    /* whose q, k and gates are made at a time; a run of columns then passes over all of them */
    SCAN_COLUMNS = 32, /* of an item that is no whole head */
};

/* The sequence's slot: what is read (NULL: nothing was cached yet), or written. */
static float *state_of(const struct compiled *c, const struct op *op, const struct batch_sequence *s, bool written)
{
    if (!written && s->cached == 0)
        return NULL;
    unsigned char *slot = c->state->pool[op->group] + (uint64_t)s->blocks[op->group][written] * c->layout[op->group].block_bytes;
    return (float *)(void *)(slot + (uint64_t)op->layer * c->layout[op->group].layer_bytes) + op->at;
}

/* ---- convolutions ----------------------------------------------------------------------------------------------------- */

int64_t conv_items(const struct compiled *c, const struct op *op)
{
    return c->batch->sequences * ((c->p->weights[op->w].out + CONV_CHANNELS - 1) / CONV_CHANNELS);
}

void conv_stage(struct compiled *c, int stage, int thread, int threads)
{
    const struct op *op = &c->p->ops[c->stages[stage].first_op];
    const struct weight *w = &c->p->weights[op->w];
    int64_t runs = (w->out + CONV_CHANNELS - 1) / CONV_CHANNELS, item, end;
    while (share_take(c, stage, thread, threads, 1, &item, &end)) {
        const struct batch_sequence *s = &c->batch->sequence[item / runs];
        int64_t first = item % runs * CONV_CHANNELS, last = first + CONV_CHANNELS < w->out ? first + CONV_CHANNELS : w->out;
        struct conv_part part = {.rows = s->rows, .taps = (int)w->in, .width = w->out, .x = c->buffer[op->x] + s->first_row * w->out,
                                 .y = c->buffer[op->y] + s->first_row * w->out, .x_stride = w->out, .y_stride = w->out, .w = c->vector[op->w],
                                 .bias = op->b >= 0 ? c->vector[op->b] : NULL, .activation = op->activation, .read = state_of(c, op, s, false),
                                 .write = state_of(c, op, s, true)};
        c->isa->conv(&part, first, last);
    }
}

/* ---- scans ------------------------------------------------------------------------------------------------------------ */

/* q, k; fade, rate, q k */
int64_t scan_thread_floats(const struct program *p)
{
    int64_t most = 0;
    for (int i = 0; i < p->scan_count; i++)
        most = p->scans[i].k_dim > most ? p->scans[i].k_dim : most;
    return p->scan_count ? SCAN_ROWS * (2 * most + 3) : 0;
}

/* Runs of a head's columns that are items of their own. */
static int64_t runs_of(const struct compiled *c, const struct scan *scan)
{
    return (int64_t)c->batch->sequences * scan->heads < 2 * c->threads ? (scan->v_dim + SCAN_COLUMNS - 1) / SCAN_COLUMNS : 1;
}

int64_t scan_items(const struct compiled *c, const struct op *op)
{
    const struct scan *scan = &c->p->scans[op->scan];
    return (int64_t)c->batch->sequences * scan->heads * runs_of(c, scan);
}

static float softplus(float x) { return x > 20 ? x : log1pf(expf(x)); }

/* What all columns of a head need of rows [row, row + part->rows) of the batch. */
static void prepare(const struct compiled *c, const struct op *op, int head, int32_t row, struct scan_part *part, float *scratch)
{
    const struct scan *scan = &c->p->scans[op->scan];
    const float *decay = c->vector[op->w], *bias = decay + scan->heads;
    int key = scan->tiled ? head % scan->key_heads : head / (scan->heads / scan->key_heads), n = scan->k_dim;
    int64_t width = c->p->buffers[op->x].width, gates = c->p->buffers[op->z].width;
    float *q = scratch, *k = q + (int64_t)SCAN_ROWS * n, *fade = k + (int64_t)SCAN_ROWS * n, *rate = fade + SCAN_ROWS, *qk = rate + SCAN_ROWS;
    for (int r = 0; r < part->rows; r++) {
        const float *x = c->buffer[op->x] + (row + r) * width, *z = c->buffer[op->z] + (row + r) * gates;
        c->isa->unit(x + scan->q + (int64_t)key * n, q + (int64_t)r * n, n, scan->normalised);
        c->isa->unit(x + scan->k + (int64_t)key * n, k + (int64_t)r * n, n, scan->normalised);
        float dt = fminf(fmaxf(softplus(z[head] + bias[head]), scan->dt_least), scan->dt_most);
        fade[r] = expf(decay[head] * dt);
        rate[r] = scan->delta ? 1 / (1 + expf(-z[scan->heads + head])) : dt;
        qk[r] = scan->delta ? c->isa->dot(q + (int64_t)r * n, k + (int64_t)r * n, n) : 0;
    }
    part->q = q, part->k = k, part->fade = fade, part->rate = rate, part->qk = qk;
}

/* Columns [first, end) of a head over all rows of a sequence. */
static void scan_head(const struct compiled *c, const struct op *op, const struct batch_sequence *s, int head, int64_t first, int64_t end, float *scratch)
{
    const struct scan *scan = &c->p->scans[op->scan];
    int64_t width = c->p->buffers[op->x].width, values = (int64_t)scan->heads * scan->v_dim, own = (int64_t)head * scan->k_dim * scan->v_dim;
    const float *read = state_of(c, op, s, false);
    struct scan_part part = {.k_dim = scan->k_dim, .delta = scan->delta, .v_stride = width, .y_stride = values, .stride = scan->v_dim,
                             .from = read ? read + own : NULL, .to = state_of(c, op, s, true) + own, .scale = op->scale,
                             .skip = c->vector[op->w][2 * scan->heads + head]};
    for (int32_t row = s->first_row, last = row + s->rows; row < last; row += SCAN_ROWS, part.from = part.to) {
        part.rows = last - row < SCAN_ROWS ? last - row : SCAN_ROWS;
        prepare(c, op, head, row, &part, scratch);
        part.v = c->buffer[op->x] + row * width + scan->v + (int64_t)head * scan->v_dim;
        part.y = c->buffer[op->y] + row * values + (int64_t)head * scan->v_dim;
        c->isa->scan(&part, first, end);
    }
}

void scan_stage(struct compiled *c, int stage, int thread, int threads)
{
    const struct op *op = &c->p->ops[c->stages[stage].first_op];
    const struct scan *scan = &c->p->scans[op->scan];
    int64_t runs = runs_of(c, scan), item, end;
    while (share_take(c, stage, thread, threads, 1, &item, &end)) {
        int64_t first = runs > 1 ? item % runs * SCAN_COLUMNS : 0, last = runs > 1 && first + SCAN_COLUMNS < scan->v_dim ? first + SCAN_COLUMNS : scan->v_dim;
        scan_head(c, op, &c->batch->sequence[item / runs / scan->heads], (int)(item / runs % scan->heads), first, last, c->thread[thread].scan);
    }
}
