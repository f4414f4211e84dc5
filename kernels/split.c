/* The backend that others run for. Each device has one part, compiled once, and does it in stretches, one after another; ranks that
 * share matrices run at the same time, each in a thread of its own, rank 0 in the caller's. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/exchange.h"
#include "kernels/split.h"

struct step {
    const struct batch *batch;
    const struct state_memory *state;
    int output;
    bool keeps_rows, streams;
};

struct part {
    const struct segment *segment; /* its first */
    struct program program;
    struct compile_options options;
    struct compiled *compiled;
    int *layers[8]; /* [group]: of the whole program, in this one's order */
    int stretches;
    /* of the step that runs */
    struct batch batch; /* of its last stretch */
    const float *result;
    enum status status;
    struct error err;
    /* ranks above 0 */
    struct compiled *whole;
    pthread_t thread;
    bool started;
};

struct compiled {
    const struct program *p;
    struct compile_options options;
    struct arena arena; /* of the parts' programs */
    struct division division;
    struct part *part; /* [division.parts] */
    int count;
    int streaming;   /* the part that has all of a step that streams; -1: none does */
    float *gathered; /* an output of which every rank has a slice, as one */
    struct step step;
    /* the ranks' threads wait for the next run of theirs */
    pthread_mutex_t lock;
    pthread_cond_t begin, end;
    long runs;
    const struct stretch *stretch; /* that runs, by parts [part, part + ranks) */
    int running;                   /* so many threads are not done */
    bool closing;
};

/* ---- the parts ------------------------------------------------------------------------------------------------------- */

static enum status make_part(struct compiled *c, int at, struct error *err)
{
    struct part *part = &c->part[at];
    const struct segment *s = part->segment;
    part->options = c->options;
    part->options.segments = NULL;
    part->options.segment_count = 0;
    part->options.device = s->device;
    part->options.rank = s->rank;
    enum status status = program_part(&part->program, part->layers, &c->division, at - s->rank, at == c->streaming, &c->arena, err);
    struct program whole = part->program;
    if (!status && s->ranks > 1)
        status = program_shard(&part->program, &whole, s->rank, s->ranks, &c->arena, err);
    for (int i = 0; i < part->program.op_count && !status; i++)
        part->stretches += part->program.ops[i].begins && !part->program.ops[i].streamed;
    return status;
}

static bool has_state(const struct program *p, const struct stretch *s)
{
    for (int i = s->first; i < s->end; i++)
        if (p->ops[i].group >= 0)
            return true;
    return false;
}

/* The part that a step which streams is left to: see compile_options. */
static int streaming_part(const struct compiled *c)
{
    const struct stretch *s = c->division.stretch;
    int last = c->division.stretches - 1;
    bool serves = c->options.stream_rows > 0 && !c->options.deterministic && c->division.parts == 2 && last > 0 && s[0].part == s[last].part && s[0].ranks == 1;
    for (int i = 0; i <= last; i++)
        serves &= s[i].part == s[0].part || !has_state(c->p, &s[i]);
    return serves ? s[0].part : -1;
}

static void split_free(struct compiled *c)
{
    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    c->closing = true;
    pthread_cond_broadcast(&c->begin);
    pthread_mutex_unlock(&c->lock);
    for (int i = 0; i < c->count; i++) {
        if (c->part[i].started)
            pthread_join(c->part[i].thread, NULL);
        if (c->part[i].compiled)
            c->part[i].segment->backend->free(c->part[i].compiled);
    }
    pthread_cond_destroy(&c->begin);
    pthread_cond_destroy(&c->end);
    pthread_mutex_destroy(&c->lock);
    exchange_close(c->options.exchange);
    arena_free(&c->arena);
    free(c->gathered);
    free(c->part);
    free(c);
}

/* Everything but the devices. */
static enum status plan(struct compiled **out, const struct program *p, const struct compile_options *o, struct error *err)
{
    struct compiled *c = calloc(1, sizeof *c);
    int *part = calloc((size_t)o->segment_count + 1, sizeof *part);
    if (!c || !part || !(c->part = calloc((size_t)o->segment_count + 1, sizeof *c->part))) {
        free(c);
        free(part);
        return error_memory(err, "a split program");
    }
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->begin, NULL);
    pthread_cond_init(&c->end, NULL);
    c->p = p;
    c->options = *o;
    enum status status = program_divide(&c->division, p, o->segments, o->segment_count, &c->arena, err);
    split_parts(o->segments, o->segment_count, part);
    c->streaming = status ? -1 : streaming_part(c);
    for (int i = o->segment_count - 1; i >= 0; i--)
        c->part[part[i]].segment = &o->segments[i];
    for (c->count = 0; c->count < c->division.parts && !status; c->count++)
        status = make_part(c, c->count, err);
    free(part);
    if (status)
        split_free(c);
    else
        *out = c;
    return status;
}

static enum status open_exchange(struct compiled *c, struct error *err)
{
    bool *crosses = arena_array(&c->arena, (size_t)c->p->buffer_count + 1, sizeof *crosses);
    int ranks = 1;
    int64_t values = 0;
    if (!crosses)
        return error_memory(err, "a split program");
    for (int i = 0; i < c->count; i++) {
        const struct program *p = &c->part[i].program;
        ranks = c->part[i].segment->ranks > ranks ? c->part[i].segment->ranks : ranks;
        for (int k = 0; k < p->op_count; k++) {
            int x = p->ops[k].x;
            if (p->ops[k].kind == OP_SEND)
                crosses[x] = true;
            int64_t rows = p->ops[k].kind != OP_REDUCE ? 0 : p->buffers[x].rows == ROWS_WANTED ? c->options.max_wanted : c->options.max_rows;
            values = rows && rows * p->buffers[x].width > values ? rows * p->buffers[x].width : values;
        }
    }
    enum status status = exchange_open(&c->options.exchange, c->p, &c->options, crosses, ranks, values, err);
    for (int i = 0; i < c->count && !status; i++)
        if (c->part[i].segment->ranks > 1)
            c->options.exchange->device[c->part[i].segment->rank] = c->part[i].segment->device;
    return status;
}

/* ---- a step ---------------------------------------------------------------------------------------------------------- */

static bool is_last(const struct compiled *c, const struct stretch *s) { return s == &c->division.stretch[c->division.stretches - 1]; }

/* The part's next stretch: from where it stands up to the next operation that begins one. */
static void next_stretch(struct part *part, const struct batch *b)
{
    const struct program *p = &part->program;
    int begin = part->batch.end;
    while (p->ops[begin].streamed)
        begin++;
    int end = begin + 1;
    while (end < p->op_count && !p->ops[end].begins)
        end++;
    part->batch = *b;
    part->batch.begin = begin, part->batch.end = end;
}

/* Parts that hand the output out compute all that it depends on; only their last stretch may return before it is done, if the whole
 * step may. */
static void run_part(struct compiled *c, struct part *part)
{
    const struct step *s = &c->step;
    bool last = is_last(c, c->stretch), outputs = part->program.output_count > 0;
    if (s->streams)
        part->batch = *s->batch, part->batch.streams = true;
    else
        next_stretch(part, s->batch);
    part->status = part->segment->backend->step(part->compiled, &part->batch, &s->state->parts[part - c->part], outputs ? s->output : -1,
                                                last && s->keeps_rows ? NULL : &part->result, &part->err);
    if (part->status && part->segment->ranks > 1)
        exchange_break(c->options.exchange);
}

static void *rank_main(void *argument)
{
    struct part *part = argument;
    struct compiled *c = part->whole;
    int me = (int)(part - c->part);
    long seen = 0;
    pthread_mutex_lock(&c->lock);
    for (;;) {
        while (!c->closing && (c->runs == seen || me < c->stretch->part || me >= c->stretch->part + c->stretch->ranks)) {
            seen = c->runs;
            pthread_cond_wait(&c->begin, &c->lock);
        }
        if (c->closing)
            break;
        seen = c->runs;
        pthread_mutex_unlock(&c->lock);
        run_part(c, part);
        pthread_mutex_lock(&c->lock);
        if (--c->running == 0)
            pthread_cond_signal(&c->end);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* c->stretch, by ranks at the same time. */
static void run_ranks(struct compiled *c, const struct stretch *s)
{
    pthread_mutex_lock(&c->lock);
    c->stretch = s;
    c->running = s->ranks - 1;
    c->runs += s->ranks > 1;
    if (s->ranks > 1)
        pthread_cond_broadcast(&c->begin);
    pthread_mutex_unlock(&c->lock);
    run_part(c, &c->part[s->part]);
    pthread_mutex_lock(&c->lock);
    while (c->running)
        pthread_cond_wait(&c->end, &c->lock);
    pthread_mutex_unlock(&c->lock);
}

/* The rank that failed first tells why; others only that somebody gave up. */
static enum status report(const struct compiled *c, const struct stretch *s, struct error *err)
{
    const struct part *worst = NULL;
    for (int i = s->part; i < s->part + s->ranks; i++)
        if (c->part[i].status && (!worst || worst->status == STATUS_FAILED))
            worst = &c->part[i];
    if (worst && s->ranks > 1)
        exchange_mend(c->options.exchange);
    if (worst && err)
        *err = worst->err;
    return worst ? worst->status : STATUS_OK;
}

static const struct part *last_part(const struct compiled *c) { return &c->part[c->division.stretch[c->division.stretches - 1].part]; }

/* The output of the last part, [wanted, width]: rank r has columns [r * width / ranks, ...). */
static const float *gather(struct compiled *c, int output)
{
    const struct part *part = last_part(c);
    int64_t width = c->p->buffers[output].width, own = part->program.buffers[output].width;
    if (own == width)
        return part->result;
    for (int r = 0; r < part->segment->ranks; r++)
        for (int32_t i = 0; i < c->step.batch->wanted; i++)
            memcpy(c->gathered + i * width + r * own, part[r].result + i * own, (size_t)own * sizeof(float));
    return c->gathered;
}

/* Of sequences with many rows alone: none goes elsewhere for what others have. */
static bool step_streams(const struct compiled *c, const struct batch *b)
{
    bool streams = c->streaming >= 0;
    for (int i = 0; i < b->sequences; i++)
        streams &= b->sequence[i].rows >= c->options.stream_rows;
    return streams;
}

static enum status split_step(struct compiled *c, const struct batch *b, const struct state_memory *state, int output, const float **result, struct error *err)
{
    c->step = (struct step){b, state, output, !result, step_streams(c, b)};
    for (int i = 0; i < c->count; i++)
        c->part[i].batch.end = 0;
    for (int i = c->step.streams ? c->division.stretches - 1 : 0; i < c->division.stretches; i++) {
        const struct stretch *s = &c->division.stretch[i];
        run_ranks(c, s);
        enum status status = report(c, s, err);
        if (status)
            return status;
    }
    if (result)
        *result = output >= 0 ? gather(c, output) : NULL;
    return STATUS_OK;
}

static enum status split_choose(struct compiled *c, struct row_choice *choices, int32_t count, struct error *err)
{
    const struct part *last = last_part(c);
    return last->segment->backend->choose(last->compiled, choices, count, err);
}

static enum status split_fetch(struct compiled *c, int32_t wanted, const float **row, struct error *err)
{
    const struct part *last = last_part(c);
    return last->segment->backend->fetch(last->compiled, wanted, row, err);
}

/* ---- state ----------------------------------------------------------------------------------------------------------- */

static void split_state_close(const struct compile_options *o, struct state_memory *memory)
{
    for (int i = 0, part = 0; memory->parts && i < o->segment_count; i++) {
        bool first = true; /* of its part, which are in the order of their first segments */
        for (int k = 0; k < i; k++)
            first &= !split_same_part(&o->segments[k], &o->segments[i]);
        if (!first)
            continue;
        struct compile_options own = *o;
        own.device = o->segments[i].device;
        o->segments[i].backend->state_close(&own, &memory->parts[part++]);
    }
    free(memory->parts);
    *memory = (struct state_memory){0};
}

static enum status split_state_open(const struct program *p, const struct compile_options *o, const int32_t *blocks, struct state_memory *out, struct error *err)
{
    struct compiled *c;
    *out = (struct state_memory){0};
    enum status status = plan(&c, p, o, err);
    if (status)
        return status;
    out->parts = calloc((size_t)c->count + 1, sizeof *out->parts);
    if (!out->parts)
        status = error_memory(err, "a split KV cache");
    for (int i = 0; i < c->count && !status; i++)
        status = c->part[i].segment->backend->state_open(&c->part[i].program, &c->part[i].options, blocks, &out->parts[i], err);
    if (status)
        split_state_close(o, out);
    split_free(c);
    return status;
}

static enum status split_state_copy(const struct compiled *c, struct state_memory *state, int group, int32_t to, int32_t from, struct error *err)
{
    enum status status = STATUS_OK;
    for (int i = 0; i < c->count && !status; i++)
        if (c->part[i].program.groups[group].layers)
            status = c->part[i].segment->backend->state_copy(c->part[i].compiled, &state->parts[i], group, to, from, err);
    return status;
}

/* Between a token's values of the whole group, [layer][head][k_dim] then [layer][head][v_dim], and those of one part. */
static void each_head(const struct compiled *c, const struct part *part, int group, float *whole, float *own, bool out)
{
    const struct state_group *g = &c->p->groups[group], *mine = &part->program.groups[group];
    for (int value = 0; value < (g->v_in_k ? 1 : 2); value++) {
        int dim = value ? g->v_dim : g->k_dim;
        for (int layer = 0; layer < mine->layers; layer++) {
            int first = mine->heads < g->heads ? part->segment->rank * mine->heads : 0;
            float *at = whole + ((int64_t)part->layers[group][layer] * g->heads + first) * dim;
            size_t size = (size_t)mine->heads * (size_t)dim;
            memcpy(out ? at : own, out ? own : at, size * sizeof *at);
            own += size;
        }
        whole += (int64_t)g->layers * g->heads * dim;
    }
}

static int64_t token_values(const struct state_group *g) { return (int64_t)g->layers * g->heads * (g->k_dim + (g->v_in_k ? 0 : g->v_dim)); }

/* A run of slots of one block. */
struct slots {
    struct state_memory *state;
    int group, first, count;
    int32_t block;
};

static enum status part_slots(const struct part *part, const struct slots *s, struct state_memory *memory, float *values, bool out, struct error *err)
{
    const struct backend *b = part->segment->backend;
    return out ? b->read_state(part->compiled, memory, s->group, s->block, s->first, s->count, values, err)
               : b->write_state(part->compiled, memory, s->group, s->block, s->first, s->count, values, err);
}

static enum status paged_part(const struct compiled *c, const struct part *part, const struct slots *s, float *values, float *own, bool out, struct error *err)
{
    int64_t whole = token_values(&c->p->groups[s->group]), mine = token_values(&part->program.groups[s->group]);
    for (int i = 0; i < s->count && !out; i++)
        each_head(c, part, s->group, values + i * whole, own + i * mine, false);
    enum status status = part_slots(part, s, &s->state->parts[part - c->part], own, out, err);
    for (int i = 0; i < s->count && out && !status; i++)
        each_head(c, part, s->group, values + i * whole, own + i * mine, true);
    return status;
}

static enum status recurrent_part(const struct compiled *c, const struct part *part, const struct slots *s, float *values, float *own, bool out,
                                  struct error *err)
{
    int64_t each = c->p->groups[s->group].values;
    int layers = part->program.groups[s->group].layers;
    size_t bytes = (size_t)each * sizeof *own;
    for (int i = 0; i < layers && !out; i++)
        memcpy(own + i * each, values + part->layers[s->group][i] * each, bytes);
    enum status status = part_slots(part, s, &s->state->parts[part - c->part], own, out, err);
    for (int i = 0; i < layers && out && !status; i++)
        memcpy(values + part->layers[s->group][i] * each, own + i * each, bytes);
    return status;
}

static enum status each_part(const struct compiled *c, const struct slots *s, float *values, bool out, struct error *err)
{
    const struct state_group *g = &c->p->groups[s->group];
    bool recurrent = g->kind == STATE_RECURRENT;
    int64_t count = recurrent ? g->layers * g->values : token_values(g) * s->count;
    float *own = malloc((size_t)count * sizeof *own + 1);
    enum status status = own ? STATUS_OK : error_memory(err, "tokens' state");
    for (int i = 0; i < c->count && !status; i++) {
        const struct part *part = &c->part[i];
        const struct state_group *mine = &part->program.groups[s->group];
        if (!mine->layers || (part->segment->rank && mine->heads == g->heads && out))
            continue;
        if (recurrent)
            status = recurrent_part(c, part, s, values, own, out, err);
        else
            status = paged_part(c, part, s, values, own, out, err);
    }
    free(own);
    return status;
}

static enum status split_read(const struct compiled *c, const struct state_memory *state, int group, int32_t block, int first, int count, float *out,
                              struct error *err)
{
    struct slots s = {(struct state_memory *)(uintptr_t)state, group, first, count, block};
    return each_part(c, &s, out, true, err);
}

static enum status split_write(const struct compiled *c, struct state_memory *state, int group, int32_t block, int first, int count, const float *in,
                               struct error *err)
{
    struct slots s = {state, group, first, count, block};
    return each_part(c, &s, (float *)(uintptr_t)in, false, err);
}

/* ---- compiling ------------------------------------------------------------------------------------------------------- */

static int64_t widest_output(const struct program *p)
{
    int64_t widest = 1;
    for (int i = 0; i < p->output_count; i++)
        widest = p->buffers[p->outputs[i].buffer].width > widest ? p->buffers[p->outputs[i].buffer].width : widest;
    return widest;
}

static enum status split_compile(struct compiled **out, const struct program *p, const struct compile_options *o, struct error *err)
{
    struct compiled *c;
    enum status status = plan(&c, p, o, err);
    if (status)
        return status;
    status = open_exchange(c, err);
    c->gathered = malloc((size_t)(widest_output(p) * o->max_wanted) * sizeof *c->gathered);
    if (!status && !c->gathered)
        status = error_memory(err, "a split program's outputs");
    for (int i = 0; i < c->count && !status; i++) {
        struct part *part = &c->part[i];
        part->whole = c;
        part->options.exchange = c->options.exchange;
        status = part->segment->backend->compile(&part->compiled, &part->program, &part->options, err);
        if (!status && part->segment->rank && pthread_create(&part->thread, NULL, rank_main, part))
            status = error_set(err, STATUS_FAILED, "cannot start a thread for device %d", part->segment->device);
        part->started = !status && part->segment->rank;
    }
    if (status)
        split_free(c);
    else
        *out = c;
    return status;
}

enum status split_part_sizes(const struct program *p, const struct compile_options *o, struct part_sizes *out, int *count, struct error *err)
{
    struct compiled *c;
    enum status status = plan(&c, p, o, err);
    if (status)
        return status;
    *count = c->count;
    for (int i = 0; i < c->count && !status; i++) {
        const struct part *part = &c->part[i];
        out[i] = (struct part_sizes){.segment = part->segment, .weight_bytes = program_weight_bytes(&part->program, 0, part->program.op_count),
                                     .stretches = part->stretches};
        for (int g = 0; g < part->program.group_count; g++)
            out[i].layers += part->program.groups[g].layers;
        status = part->segment->backend->sizes(&part->program, &part->options, &out[i].sizes, err);
    }
    split_free(c);
    return status;
}

static enum status split_sizes(const struct program *p, const struct compile_options *o, struct compile_sizes *out, struct error *err)
{
    struct part_sizes *parts = calloc((size_t)o->segment_count + 1, sizeof *parts);
    int count = 0;
    enum status status = parts ? split_part_sizes(p, o, parts, &count, err) : error_memory(err, "a split program");
    memset(out, 0, sizeof *out);
    for (int i = 0; i < count && !status; i++) {
        out->scratch_bytes += parts[i].sizes.scratch_bytes;
        for (int g = 0; g < p->group_count && g < 8; g++)
            out->block_bytes[g] += parts[i].sizes.block_bytes[g];
    }
    free(parts);
    return status;
}

static void split_describe(const struct compiled *c, char *out, size_t size)
{
    size_t n = 0;
    for (int i = 0; i < c->count && n + 1 < size; i++) {
        const struct part *part = &c->part[i];
        const struct segment *s = part->segment;
        if (part->stretches == 1)
            n += (size_t)snprintf(out + n, size - n, "%soperations %d to %d", i ? " | " : "", s->first, s->end - 1);
        else
            n += (size_t)snprintf(out + n, size - n, "%soperations from %d on, in %d stretches", i ? " | " : "", s->first, part->stretches);
        if (s->ranks > 1 && n < size)
            n += (size_t)snprintf(out + n, size - n, ", rank %d of %d", s->rank, s->ranks);
        if (n + 2 < size) {
            n += (size_t)snprintf(out + n, size - n, ": ");
            s->backend->describe(part->compiled, out + n, size - n);
            n += strlen(out + n);
        }
    }
}

#define SPLIT_BACKEND                                                                                                       \
    .name = "split", .sizes = split_sizes, .compile = split_compile, .step = split_step, .read_state = split_read,           \
    .write_state = split_write, .state_open = split_state_open, .state_close = split_state_close, .state_copy = split_state_copy, \
    .describe = split_describe, .free = split_free

const struct backend *backend_split(const struct segment *segments, int count)
{
    static const struct backend plain = {SPLIT_BACKEND}, chooses = {SPLIT_BACKEND, .choose = split_choose, .fetch = split_fetch};
    const struct segment *last = &segments[count - 1];
    return last->ranks == 1 && last->backend->choose ? &chooses : &plain; /* ranks have slices of rows */
}
