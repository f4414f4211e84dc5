/* Running a step: all stages inside one run of the team, a barrier after each. */
#include <string.h>

#include "base/team.h"
#include "kernels/cpu/cpu.h"

int32_t buffer_rows(const struct compiled *c, int buffer)
{
    return c->p->buffers[buffer].rows == ROWS_WANTED ? c->batch->wanted : c->batch->rows;
}

int32_t batch_row_of(const struct compiled *c, int buffer, int32_t row)
{
    return c->p->buffers[buffer].rows == ROWS_WANTED ? c->batch->wanted_rows[row] : row;
}

/* ---- sharing items out ------------------------------------------------------------------------------------------------- */

void share_set(struct compiled *c, int stage, int thread, int threads, int64_t items)
{
    struct share *s = &c->shares[(int64_t)stage * c->threads + thread];
    s->end = items * (thread + 1) / threads;
    atomic_store_explicit(&s->next, items * thread / threads, memory_order_relaxed);
}

bool share_take(struct compiled *c, int stage, int thread, int threads, int64_t most, int64_t *first, int64_t *end)
{
    for (int i = 0; i < threads; i++) {
        struct share *s = &c->shares[(int64_t)stage * c->threads + (thread + i) % threads];
        if (atomic_load_explicit(&s->next, memory_order_relaxed) >= s->end)
            continue;
        *first = atomic_fetch_add_explicit(&s->next, most, memory_order_relaxed);
        if (*first >= s->end)
            continue;
        *end = *first + most < s->end ? *first + most : s->end;
        return true;
    }
    return false;
}

static int rows_buffer(const struct op *op) { return op_writes(op) >= 0 ? op_writes(op) : op->x; }

static int64_t items_of(const struct compiled *c, const struct stage *s)
{
    switch (s->kind) {
    case STAGE_ROWS:
        return buffer_rows(c, rows_buffer(&c->p->ops[s->first_op]));
    case STAGE_LINEAR:
        return stage_items(c, s);
    case STAGE_EXPERTS:
        return experts_items(c, s);
    case STAGE_ATTEND:
        return attend_items(c, s->attend);
    case STAGE_CONV:
        return conv_items(c, &c->p->ops[s->first_op]);
    case STAGE_SCAN:
        return scan_items(c, &c->p->ops[s->first_op]);
    }
    return 0;
}

/* ---- the work -------------------------------------------------------------------------------------------------------- */

static void rows_stage(struct compiled *c, int stage, int thread, int threads)
{
    const struct stage *s = &c->stages[stage];
    int64_t row, end;
    while (share_take(c, stage, thread, threads, 1, &row, &end))
        for (int i = 0; i < s->op_count; i++)
            rows_op(c, &c->p->ops[s->first_op + i], (int32_t)row);
}

static void rope_rows(struct compiled *c, int thread, int threads)
{
    for (int r = 0; r < c->p->rope_count; r++)
        for (int32_t row = thread; row < c->batch->rows; row += threads) {
            float *table = c->rope_table + ((int64_t)r * c->options.max_rows + row) * c->rope_stride;
            rope_angles(&c->p->ropes[r], c->batch->row[row].position, c->batch->sequence[c->batch->row[row].sequence].length, table, table + c->rope_stride / 2);
        }
}

static void work(void *argument, int thread, int threads)
{
    struct compiled *c = argument;
    for (int i = c->first_stage; i < c->end_stage; i++)
        share_set(c, i, thread, threads, items_of(c, &c->stages[i]));
    if (c->first_stage == 0)
        rope_rows(c, thread, threads);
    team_barrier();
    for (int i = c->first_stage; i < c->end_stage; i++) {
        switch (c->stages[i].kind) {
        case STAGE_ROWS:
            rows_stage(c, i, thread, threads);
            break;
        case STAGE_LINEAR:
            linear_stage(c, i, thread, threads);
            break;
        case STAGE_ATTEND:
            attend_stage(c, i, thread, threads);
            break;
        case STAGE_EXPERTS:
            experts_stage(c, i, thread, threads);
            break;
        case STAGE_CONV:
            conv_stage(c, i, thread, threads);
            break;
        case STAGE_SCAN:
            scan_stage(c, i, thread, threads);
            break;
        }
        team_barrier();
    }
}

/* ---- a step ---------------------------------------------------------------------------------------------------------- */

/* Stages that begin before an operation. */
static int stages_before(const struct compiled *c, int op)
{
    int n = 0;
    while (n < c->stage_count && c->stages[n].begin < op)
        n++;
    return n;
}

enum status cpu_step(struct compiled *c, const struct batch *b, const struct state_memory *state, int output, const float **result,
                     struct error *err)
{
    const struct compile_options *o = &c->options;
    if (b->rows > o->max_rows || b->wanted > o->max_wanted || b->sequences > o->max_sequences || output >= c->p->buffer_count)
        return error_set(err, STATUS_FAILED, "step: the batch exceeds what was compiled");
    for (int i = 0; i < b->sequences; i++)
        if (b->sequence[i].cached + b->sequence[i].rows > o->max_context)
            return error_set(err, STATUS_FAILED, "step: sequence %d is longer than the context that was compiled", i);
    c->batch = b;
    c->state = state;
    c->first_stage = stages_before(c, b->begin);
    c->end_stage = stages_before(c, batch_end(c->p, b, output));
    linear_sets(c);
    team_run(c->threads, work, c);
    if (!result)
        return STATUS_OK;
    bool whole = output >= 0 && batch_last(c->p, b);
    *result = whole ? c->buffer[output] : NULL;
    if (whole && c->p->buffers[output].rows == ROWS_ALL) {
        int64_t width = c->p->buffers[output].width;
        for (int32_t i = 0; i < b->wanted; i++)
            memcpy(c->gathered + i * width, c->buffer[output] + b->wanted_rows[i] * width, (size_t)width * sizeof(float));
        *result = c->gathered;
    }
    return STATUS_OK;
}
