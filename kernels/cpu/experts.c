/* An EXPERTS stage: rows are grouped by the expert that they go to (matrices without a choice: all rows to each), each group's rows are
 * prepared side by side, then threads take runs of experts' weight rows, so only chosen experts are read, and unpacked once for all
 * their rows.
 *
 * As with LINEAR a row's arithmetic depends on its own sequence alone: on how many of the sequence's rows in this step go to the
 * same expert. One row alone is prepared by every thread for itself, and the run of items is known before the step: no barrier. */
#include <string.h>

#include "base/team.h"
#include "kernels/cpu/cpu.h"

/* Rows of one expert. */
struct group {
    int expert;
    int64_t run, item; /* weight rows in an item; items of the groups before it */
    struct input in[SETS];
};

/* A thread's view of the stage: all threads make the same. */
struct work {
    struct group *group; /* [least of experts and slots] */
    int groups;
    int32_t *to, *from;    /* [rows * slots]: slots in the order of groups: where results go, where the input is read */
    unsigned char *set;    /* [rows * slots]: of each slot */
    int32_t (*count)[SETS], *own; /* [experts]: slots of it; those of one sequence */
};

enum { MOST_PARTS = 32 }; /* pieces of a prepared input, which begin at cache lines */

static bool own_inputs(const struct compiled *c, const struct stage *s) { return c->p->buffers[s->x].width != s->part[0].w->in; }

static unsigned forms_of(const struct stage *s, int set)
{
    unsigned forms = 0;
    for (int i = 0; i < s->parts; i++)
        forms |= set == SET_MANY ? s->part[i].kernel->many_forms : s->part[i].kernel->few_forms;
    return forms;
}

/* ---- memory ---------------------------------------------------------------------------------------------------------- */

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Groups round their rows up to whole tiles, and their parts to whole cache lines. */
size_t experts_input_bytes(const struct stage *s, int64_t rows, bool alone)
{
    int64_t n = s->part[0].w->in, slots = rows * s->slots, groups = least(s->experts, slots);
    if (alone)
        return input_bytes(n, 1, forms_of(s, SET_FEW));
    int64_t many = least(s->experts, slots / MANY_FROM);
    return input_bytes(n, (int32_t)(slots + many * TILE_ROWS), forms_of(s, SET_FEW) | forms_of(s, SET_MANY)) + (size_t)(groups + many + 1) * MOST_PARTS * 64;
}

static void *take(unsigned char *base, size_t *at, int64_t count, size_t size)
{
    void *here = base ? base + *at : NULL;
    *at += ((size_t)count * size + 63) / 64 * 64;
    return here;
}

static size_t place_lists(struct work *w, unsigned char *base, const struct stage *s, int64_t rows)
{
    size_t at = 0;
    int64_t slots = rows * s->slots;
    w->group = take(base, &at, least(s->experts, slots), sizeof *w->group);
    w->to = take(base, &at, slots, sizeof *w->to);
    w->from = take(base, &at, slots, sizeof *w->from);
    w->set = take(base, &at, slots, sizeof *w->set);
    w->count = take(base, &at, s->experts, sizeof *w->count);
    w->own = take(base, &at, s->experts, sizeof *w->own);
    return at;
}

size_t experts_list_bytes(const struct stage *s, int64_t rows)
{
    struct work w;
    return place_lists(&w, NULL, s, rows);
}

/* ---- groups ---------------------------------------------------------------------------------------------------------- */

/* Another device may have made the choice: one that computes wrong must show as wrong numbers, not as a fault. */
static int expert_of(const struct compiled *c, const struct stage *s, int64_t slot)
{
    if (s->z < 0)
        return (int)(slot % s->slots);
    float id = c->buffer[s->z][slot / s->slots * 2 * s->slots + slot % s->slots];
    return id >= 0 && id < (float)s->experts ? (int)id : 0;
}

/* Which arithmetic each slot gets, and how many slots each expert has. */
static void count_slots(const struct compiled *c, const struct stage *s, struct work *w)
{
    const struct batch *b = c->batch;
    memset(w->count, 0, (size_t)s->experts * sizeof *w->count);
    memset(w->own, 0, (size_t)s->experts * sizeof *w->own);
    for (int q = 0; q < b->sequences; q++) {
        int64_t first = b->sequence[q].first_row * s->slots, end = first + b->sequence[q].rows * s->slots;
        for (int64_t i = first; i < end; i++)
            w->own[expert_of(c, s, i)]++;
        for (int64_t i = first; i < end; i++) {
            int e = expert_of(c, s, i);
            w->set[i] = set_of(c, w->own[e]);
            w->count[e][w->set[i]]++;
        }
        for (int64_t i = first; i < end; i++)
            w->own[expert_of(c, s, i)] = 0;
    }
}

static int64_t run_of(const struct stage *s, const struct group *g)
{
    int64_t longest = 1;
    if (g->in[SET_MANY].rows)
        return stage_panel_rows(s);
    for (int i = 0; i < s->parts; i++)
        longest = s->part[i].w->row_bytes > longest ? s->part[i].w->row_bytes : longest;
    return linear_few_rows(longest);
}

static int64_t runs(const struct stage *s, int64_t run) { return (s->part[0].w->out + run - 1) / run; }

/* Fills all lists; returns the items of the stage. */
static int64_t group_slots(const struct compiled *c, const struct stage *s, struct work *w)
{
    int64_t slots = (int64_t)buffer_rows(c, s->part[0].y) * s->slots, items = 0;
    int32_t at = 0;
    bool own = own_inputs(c, s);
    count_slots(c, s, w);
    w->groups = 0;
    for (int e = 0; e < s->experts; e++) {
        struct group *g = &w->group[w->groups];
        if (!w->count[e][SET_FEW] && !w->count[e][SET_MANY])
            continue;
        *g = (struct group){.expert = e};
        for (int set = 0; set < SETS; set++) {
            g->in[set] = (struct input){.rows = w->count[e][set], .from = w->from + at, .row = w->to + at};
            w->count[e][set] = at; /* from now on: where the next one goes */
            at += g->in[set].rows;
        }
        g->run = run_of(s, g);
        g->item = items;
        items += runs(s, g->run);
        w->groups++;
    }
    for (int64_t i = 0; i < slots; i++) {
        int32_t to = w->count[expert_of(c, s, i)][w->set[i]]++;
        w->to[to] = (int32_t)i;
        w->from[to] = (int32_t)(own ? i : i / s->slots);
    }
    return items;
}

/* ---- the input ------------------------------------------------------------------------------------------------------- */

/* All prepared rows, group by group. alone: one row, which is every group's. */
static void place(const struct compiled *c, const struct stage *s, struct work *w, unsigned char *memory, bool alone)
{
    int64_t n = s->part[0].w->in;
    for (int i = 0; i < w->groups; i++)
        for (int set = 0; set < SETS; set++) {
            struct input *in = &w->group[i].in[set], old = *in;
            if (!old.rows)
                continue;
            input_place(in, memory, n, old.rows, forms_of(s, set));
            memory += alone ? 0 : input_bytes(n, old.rows, forms_of(s, set));
            in->from = old.from;
            in->row = old.row;
            in->floats = c->buffer[s->x];
            in->float_stride = n;
        }
}

static void prepare(struct compiled *c, const struct stage *s, struct work *w, int thread, int threads)
{
    int32_t turn = 0, many = 0;
    for (int i = 0; i < w->groups; i++)
        for (int set = 0; set < SETS; set++, many += w->group[i].in[SET_MANY].rows)
            for (int32_t unit = 0, units = linear_units(&w->group[i].in[set]); unit < units; unit++)
                if (turn++ % threads == thread)
                    linear_prepare(c, s, &w->group[i].in[set], unit, false);
    team_barrier();
    if (!many || !(forms_of(s, SET_MANY) & FORM_APART))
        return;
    turn = 0;
    for (int i = 0; i < w->groups; i++)
        for (int64_t b = 0; w->group[i].in[SET_MANY].rows && b < w->group[i].in[SET_MANY].padded / 32; b++)
            if (turn++ % threads == thread)
                c->isa->gather(&w->group[i].in[SET_MANY], b);
    team_barrier();
}

/* ---- the work -------------------------------------------------------------------------------------------------------- */

static bool is_alone(const struct compiled *c, const struct stage *s) { return buffer_rows(c, s->part[0].y) == 1 && !own_inputs(c, s); }

int64_t experts_items(const struct compiled *c, const struct stage *s)
{
    struct group few = {0};
    return is_alone(c, s) ? s->slots * runs(s, run_of(s, &few)) : 0;
}

static void compute(struct compiled *c, const struct stage *s, const struct group *g, int64_t first, int64_t end, void *scratch)
{
    int64_t out = s->part[0].w->out;
    for (int i = 0; i < s->parts; i++) {
        struct part part = s->part[i];
        struct weight w = weight_expert(part.w, g->expert);
        part.w = &w;
        part.bias = part.bias ? part.bias + g->expert * out : NULL;
        linear_compute(&part, g->in, first, end, scratch, c->buffer[part.y], out);
    }
    for (int i = 0; i < s->op_count; i++)
        for (int set = 0; set < SETS; set++)
            for (int32_t row = 0; row < g->in[set].rows; row++)
                cells_op(c, &c->p->ops[s->first_op + i], g->in[set].row[row] * out + first, g->in[set].row[row] * out + end);
}

void experts_stage(struct compiled *c, int stage, int thread, int threads)
{
    const struct stage *s = &c->stages[stage];
    if (!buffer_rows(c, s->part[0].y))
        return;
    struct thread_memory *own = &c->thread[thread];
    struct work w;
    bool alone = is_alone(c, s);
    place_lists(&w, own->experts, s, c->options.max_rows);
    int64_t items = group_slots(c, s, &w), item, end;
    place(c, s, &w, alone ? own->input : c->input, alone);
    if (alone) {
        linear_prepare(c, s, &w.group[0].in[SET_FEW], 0, false);
    } else {
        share_set(c, stage, thread, threads, items);
        prepare(c, s, &w, thread, threads);
    }
    while (share_take(c, stage, thread, threads, 1, &item, &end)) {
        int i = w.groups - 1;
        while (w.group[i].item > item)
            i--;
        const struct group *g = &w.group[i];
        int64_t first = (item - g->item) * g->run, out = s->part[0].w->out;
        compute(c, s, g, first, first + g->run < out ? first + g->run : out, own->scratch);
    }
}
