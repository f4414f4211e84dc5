/* The CPU backend: what compiling checks and allocates, and the canonical form of state. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/team.h"
#include "kernels/cpu/cpu.h"

/* ---- checks ---------------------------------------------------------------------------------------------------------- */

static enum status check_weight(const struct isa *isa, const struct weight *w, bool linear, struct error *err)
{
    enum status status = weight_check(w, err);
    if (!status && linear && !isa->linear(w->format))
        status = error_set(err, STATUS_BAD_INPUT, "%s: no kernel multiplies its type %s", QUOTE(w->name, strlen(w->name)), storage_types[w->format].name);
    return status;
}

static enum status check(const struct isa *isa, const struct program *p, const struct compile_options *o, struct error *err)
{
    for (int i = 0; i < p->weight_count; i++) {
        bool linear = false;
        for (int k = 0; k < p->op_count; k++)
            linear |= (p->ops[k].kind == OP_LINEAR || p->ops[k].kind == OP_EXPERTS) && p->ops[k].w == i;
        enum status status = check_weight(isa, &p->weights[i], linear, err);
        if (status)
            return status;
    }
    if (p->group_count > 8)
        return error_set(err, STATUS_FAILED, "program: more than 8 state groups");
    for (int i = 0; i < p->group_count; i++)
        if (p->groups[i].layers && (p->groups[i].k_dim > HEAD_DIM_MOST || p->groups[i].v_dim > HEAD_DIM_MOST))
            return error_set(err, STATUS_BAD_INPUT, "heads of more than %d values are not supported", HEAD_DIM_MOST);
    for (int i = 0; i < 2; i++)
        if (!state_storage(i ? o->v_type : o->k_type))
            return error_set(err, STATUS_USAGE, "a KV cache of type %s is not supported", storage_types[i ? o->v_type : o->k_type].name);
    for (int i = 0; i < p->op_count; i++)
        if (p->ops[i].kind == OP_CONV && p->weights[p->ops[i].w].in > TAPS_MOST)
            return error_set(err, STATUS_BAD_INPUT, "convolutions of more than %d taps are not supported", TAPS_MOST);
        else if (p->ops[i].kind == OP_REDUCE) /* one compute team serves the process: ranks would wait for each other in it */
            return error_set(err, STATUS_USAGE, "the CPU cannot be one of several devices that share matrices");
    return STATUS_OK;
}

/* ---- memory ---------------------------------------------------------------------------------------------------------- */

static void layouts(struct compiled *c)
{
    for (int i = 0; i < c->p->group_count; i++) {
        const struct state_group *g = &c->p->groups[i];
        struct state_layout *l = &c->layout[i];
        if (g->kind == STATE_RECURRENT) {
            l->layer_bytes = (uint64_t)g->values * sizeof(float);
        } else {
            l->k_bytes = cache_part_bytes(c->options.k_type, g->k_dim);
            l->v_bytes = g->v_in_k ? 0 : cache_part_bytes(c->options.v_type, g->v_dim);
            l->layer_bytes = (uint64_t)g->heads * (l->k_bytes + l->v_bytes);
        }
        l->block_bytes = (uint64_t)g->layers * l->layer_bytes;
    }
}

struct room { /* memory handed out piece by piece; base NULL: only counted */
    unsigned char *base;
    size_t used;
};

static void *take(struct room *r, int64_t count, size_t size)
{
    void *here = r->base ? r->base + r->used : NULL;
    r->used += ((size_t)count * size + 63) / 64 * 64;
    return here;
}

static bool is_vector(const struct program *p, int weight)
{
    for (int k = 0; k < p->op_count; k++)
        if (p->ops[k].b == weight || ((p->ops[k].kind == OP_NORM || p->ops[k].kind == OP_CONV || p->ops[k].kind == OP_SCAN) && p->ops[k].w == weight))
            return true;
    return false;
}

static int64_t rows_of(const struct compiled *c, int buffer)
{
    return c->p->buffers[buffer].rows == ROWS_WANTED ? c->options.max_wanted : c->options.max_rows;
}

/* What linear stages need: prepared inputs and kernels' scratch. */
static void linear_room(struct compiled *c, struct room *r)
{
    size_t shared = 0, private = 0, scratch = 0, local = 0, lists = 0, packed = 0;
    for (int i = 0; i < c->stage_count; i++) {
        const struct stage *s = &c->stages[i];
        if (s->kind != STAGE_LINEAR && s->kind != STAGE_EXPERTS)
            continue;
        unsigned few = 0, forms = 0;
        int64_t n = s->part[0].w->in;
        int32_t rows = (int32_t)rows_of(c, s->part[0].y);
        for (int k = 0; k < s->parts; k++) {
            const struct linear_kernel *kernel = s->part[k].kernel;
            few |= kernel->few_forms;
            forms |= kernel->few_forms | kernel->many_forms;
            size_t bytes = kernel->scratch_bytes(n, rows);
            scratch = bytes > scratch ? bytes : scratch;
        }
        if (s->kind == STAGE_EXPERTS) {
            size_t one = experts_input_bytes(s, 1, true), all = experts_input_bytes(s, rows, false), list = experts_list_bytes(s, rows);
            private = one > private ? one : private;
            shared = all > shared ? all : shared;
            lists = list > lists ? list : lists;
            continue;
        }
        size_t columns = (size_t)(s->joint ? stage_panel_rows(s) * rows * s->parts : 0);
        local = columns > local ? columns : local;
        /* a set with no rows takes nothing; two sets round their parts up once more: at most 64 bytes for each of 16 */
        size_t one = input_bytes(n, 1, few), all = input_bytes(n, rows, forms) + 16 * 64;
        one += s->norm ? normed_bytes(n, 1) : 0;
        all += s->norm ? normed_bytes(n, rows) : 0;
        private = one > private ? one : private;
        shared = all > shared ? all : shared;
        size_t tiles = s->packed ? input_bytes(n, rows, FORM_TILES) : 0;
        packed = tiles > packed ? tiles : packed;
    }
    c->input = take(r, 1, shared);
    c->packed = take(r, 1, packed);
    for (int t = 0; t < c->threads; t++) {
        unsigned char *input = take(r, 1, private);
        float *columns = take(r, (int64_t)local, sizeof(float));
        void *memory = take(r, 1, scratch);
        unsigned char *experts = take(r, 1, lists);
        if (c->thread)
            c->thread[t].input = input, c->thread[t].scratch = memory, c->thread[t].local = columns, c->thread[t].experts = experts;
    }
}

static void attend_room(struct compiled *c, struct room *r)
{
    int64_t partial = 0, own = 0;
    for (int i = 0; i < c->p->group_count; i++) {
        const struct state_group *g = &c->p->groups[i];
        if (g->kind != STATE_PAGED)
            continue;
        int64_t p = attend_partial_floats(&c->options, c->threads, g->v_dim), o = attend_thread_floats(c->isa, g->k_dim, g->v_dim);
        partial = p > partial ? p : partial;
        own = o > own ? o : own;
    }
    c->partial = take(r, partial, sizeof(float));
    c->partial_done = take(r, ATTEND_ITEMS * c->threads, sizeof *c->partial_done);
    for (int t = 0; t < c->threads; t++) {
        float *memory = take(r, own, sizeof(float)), *scan = take(r, scan_thread_floats(c->p), sizeof(float));
        if (c->thread)
            c->thread[t].attend = memory, c->thread[t].scan = scan;
    }
}

/* All scratch memory, in the order of struct compiled. c->stages and their plan exist. */
static size_t lay_out(struct compiled *c, unsigned char *base)
{
    const struct program *p = c->p;
    struct room r = {base, 0};
    c->shares = take(&r, (int64_t)c->stage_count * c->threads, sizeof *c->shares);
    for (int i = 0; i < p->weight_count; i++)
        if (is_vector(p, i)) {
            float *v = take(&r, p->weights[i].out * p->weights[i].in, sizeof(float));
            if (c->vector)
                c->vector[i] = v;
        }
    for (int i = 0; i < p->buffer_count; i++) {
        float *b = take(&r, p->buffers[i].width * rows_of(c, i), sizeof(float));
        if (c->buffer)
            c->buffer[i] = b;
    }
    int dims = 2;
    for (int i = 0; i < p->rope_count; i++)
        dims = p->ropes[i].dims > dims ? p->ropes[i].dims : dims;
    c->rope_stride = (dims + 31) / 32 * 32;
    c->rope_table = take(&r, (int64_t)p->rope_count * c->options.max_rows * c->rope_stride, sizeof(float));
    for (int kind = 0; kind < 2; kind++)
        for (int set = 0; set < SETS; set++)
            c->sets[kind].row[set] = take(&r, kind == ROWS_ALL ? c->options.max_rows : c->options.max_wanted, sizeof(int32_t));
    int64_t widest = 1;
    for (int i = 0; i < p->output_count; i++)
        widest = p->buffers[p->outputs[i].buffer].width > widest ? p->buffers[p->outputs[i].buffer].width : widest;
    c->gathered = take(&r, widest * c->options.max_wanted, sizeof(float));
    linear_room(c, &r);
    attend_room(c, &r);
    return r.used;
}

/* ---- compiling --------------------------------------------------------------------------------------------------------- */

static void cpu_free(struct compiled *c)
{
    if (!c)
        return;
    free(c->stages);
    free(c->memory);
    free(c->vector);
    free(c->buffer);
    free(c->thread);
    free(c);
}

/* Everything but the memory. */
static enum status plan(const struct isa *isa, struct compiled **out, const struct program *p, const struct compile_options *o, struct error *err)
{
    enum status status = check(isa, p, o, err);
    if (status)
        return status;
    struct compiled *c = calloc(1, sizeof *c);
    if (!c || !(c->stages = calloc((size_t)p->op_count + 1, sizeof *c->stages))) {
        free(c);
        return error_memory(err, "the CPU backend");
    }
    c->isa = isa;
    c->p = p;
    c->options = *o;
    c->threads = o->threads > 0 ? o->threads : team_cores();
    if (c->threads > 256)
        c->threads = 256;
    layouts(c);
    plan_stages(c);
    *out = c;
    return STATUS_OK;
}

/* All rows as float32; a convolution's [channels, taps] turned over. */
static void read_vector(const struct program *p, int weight, float *out)
{
    const struct weight *w = &p->weights[weight];
    bool conv = false;
    for (int k = 0; k < p->op_count; k++)
        conv |= p->ops[k].kind == OP_CONV && p->ops[k].w == weight;
    for (int64_t row = 0; row < w->out; row++) {
        const unsigned char *from = w->data + row * w->row_bytes;
        float taps[TAPS_MOST];
        format_find(w->format)->decode(from, conv ? taps : out + row * w->in, w->in);
        for (int64_t k = 0; conv && k < w->in; k++)
            out[k * w->out + row] = taps[k];
    }
}

enum status cpu_compile_with(const struct isa *isa, struct compiled **out, const struct program *p, const struct compile_options *o,
                             struct error *err)
{
    struct compiled *c;
    enum status status = plan(isa, &c, p, o, err);
    if (status)
        return status;
    size_t bytes = lay_out(c, NULL);
    c->vector = calloc((size_t)p->weight_count + 1, sizeof *c->vector);
    c->buffer = calloc((size_t)p->buffer_count + 1, sizeof *c->buffer);
    c->thread = calloc((size_t)c->threads, sizeof *c->thread);
    c->memory = calloc(1, bytes + 64);
    if (!c->vector || !c->buffer || !c->thread || !c->memory) {
        cpu_free(c);
        return error_memory(err, "the CPU backend's buffers");
    }
    unsigned char *base = c->memory;
    lay_out(c, base + (64 - (uintptr_t)base % 64) % 64);
    plan_stages(c); /* again: biases have addresses now */
    for (int i = 0; i < p->weight_count; i++)
        if (c->vector[i])
            read_vector(p, i, c->vector[i]);
    *out = c;
    return STATUS_OK;
}

static enum status cpu_compile(struct compiled **out, const struct program *p, const struct compile_options *o, struct error *err)
{
    const struct isa *isa = isa_best(err);
    return isa ? cpu_compile_with(isa, out, p, o, err) : err ? err->status : STATUS_DEVICE;
}

static enum status cpu_sizes(const struct program *p, const struct compile_options *o, struct compile_sizes *out, struct error *err)
{
    const struct isa *isa = isa_best(err);
    if (!isa)
        return err ? err->status : STATUS_DEVICE;
    struct compiled *c;
    enum status status = plan(isa, &c, p, o, err);
    if (status)
        return status;
    memset(out, 0, sizeof *out);
    out->scratch_bytes = lay_out(c, NULL) + 64;
    for (int i = 0; i < p->group_count; i++)
        out->block_bytes[i] = c->layout[i].block_bytes;
    cpu_free(c);
    return STATUS_OK;
}

/* ---- state ----------------------------------------------------------------------------------------------------------- */

/* One token; returns how many values it has. */
static int64_t each_value(const struct compiled *c, unsigned char *at, int group, int slot, float *out, const float *in)
{
    const struct state_group *g = &c->p->groups[group];
    const struct state_layout *l = &c->layout[group];
    int64_t done = 0;
    for (int value = 0; value < (g->v_in_k ? 1 : 2); value++) {
        enum storage type = value ? c->options.v_type : c->options.k_type;
        int dim = value ? g->v_dim : g->k_dim;
        for (int layer = 0; layer < g->layers; layer++)
            for (int head = 0; head < g->heads; head++, done += dim) {
                unsigned char *part = at + (uint64_t)layer * l->layer_bytes + (uint64_t)head * (l->k_bytes + l->v_bytes) +
                                      (value ? l->k_bytes : 0);
                if (out)
                    cache_read(type, !value, dim, slot, part, out + done);
                else
                    cache_write(type, !value, dim, slot, in + done, part, c->isa->narrow);
            }
    }
    return done;
}

static enum status cpu_read(const struct compiled *c, const struct state_memory *state, int group, int32_t block, int first, int count, float *out,
                            struct error *err)
{
    unsigned char *at = state->pool[group] + (uint64_t)block * c->layout[group].block_bytes;
    (void)err;
    if (c->p->groups[group].kind == STATE_RECURRENT)
        memcpy(out, at, c->layout[group].block_bytes);
    for (int i = 0; i < count && c->p->groups[group].kind == STATE_PAGED; i++)
        out += each_value(c, at, group, first + i, out, NULL);
    return STATUS_OK;
}

static enum status cpu_write(const struct compiled *c, struct state_memory *state, int group, int32_t block, int first, int count, const float *in,
                             struct error *err)
{
    unsigned char *at = state->pool[group] + (uint64_t)block * c->layout[group].block_bytes;
    (void)err;
    if (c->p->groups[group].kind == STATE_RECURRENT)
        memcpy(at, in, c->layout[group].block_bytes);
    for (int i = 0; i < count && c->p->groups[group].kind == STATE_PAGED; i++)
        in += each_value(c, at, group, first + i, NULL, in);
    return STATUS_OK;
}

static enum status cpu_state_open(const struct program *p, const struct compile_options *o, const int32_t *blocks, struct state_memory *out, struct error *err)
{
    struct compile_sizes sizes;
    enum status status = cpu_sizes(p, o, &sizes, err);
    return status ? status : state_map(p, &sizes, blocks, out, err);
}

static void cpu_state_close(const struct compile_options *o, struct state_memory *memory)
{
    (void)o;
    state_unmap(memory);
}

static enum status cpu_copy(const struct compiled *c, struct state_memory *state, int group, int32_t to, int32_t from, struct error *err)
{
    (void)err;
    uint64_t bytes = c->layout[group].block_bytes;
    memcpy(state->pool[group] + (uint64_t)to * bytes, state->pool[group] + (uint64_t)from * bytes, bytes);
    return STATUS_OK;
}

static void cpu_describe(const struct compiled *c, char *out, size_t size)
{
    int n = snprintf(out, size, "cpu, %s, %d threads", c->isa->name, c->threads);
    for (int format = 0; format < STORAGE_COUNT && n > 0 && (size_t)n < size; format++)
        for (int i = 0; i < c->p->op_count; i++)
            if ((c->p->ops[i].kind == OP_LINEAR || c->p->ops[i].kind == OP_EXPERTS) && (int)c->p->weights[c->p->ops[i].w].format == format) {
                n += snprintf(out + n, size - (size_t)n, "; %s: %s", storage_types[format].name, c->isa->linear((enum storage)format)->name);
                break;
            }
}

static const struct backend cpu = {
    .name = "cpu",
    .sizes = cpu_sizes,
    .compile = cpu_compile,
    .step = cpu_step,
    .read_state = cpu_read,
    .write_state = cpu_write,
    .state_open = cpu_state_open,
    .state_close = cpu_state_close,
    .state_copy = cpu_copy,
    .describe = cpu_describe,
    .free = cpu_free,
};

const struct backend *backend_cpu(struct error *err) { return isa_best(err) ? &cpu : NULL; }
