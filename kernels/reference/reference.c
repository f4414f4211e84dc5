/* The reference backend: buffers, dispatch, state. */
#include "kernels/reference/reference.h"

#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "base/team.h"

struct compiled {
    struct reference r;
};

static void (*const run[OP_COUNT])(struct reference *, const struct op *) = {
#define OP(kind, name) [OP_##kind] = reference_##name,
#include "kernels/ops.def"
#undef OP
};

int32_t reference_rows(const struct reference *r, int buffer)
{
    return r->p->buffers[buffer].rows == ROWS_WANTED ? r->batch->wanted : r->batch->rows;
}

int32_t reference_batch_row(const struct reference *r, int buffer, int32_t row)
{
    return r->p->buffers[buffer].rows == ROWS_WANTED ? r->batch->wanted_rows[row] : row;
}

void reference_weight_row(const struct weight *w, int64_t row, float *out)
{
    format_find(w->format)->decode(w->data + row * w->row_bytes, out, w->in);
    for (int64_t i = 0; w->factor != 0 && i < w->in; i++)
        out[i] *= w->factor;
}

float reference_value(const struct weight *w, int64_t row, int64_t column)
{
    const struct storage_type *type = &storage_types[w->format];
    float block[256];
    format_find(w->format)->decode(w->data + row * w->row_bytes + column / type->block_elements * type->block_bytes, block, type->block_elements);
    return block[column % type->block_elements];
}

float reference_dot(const float *x, const float *y, int64_t n, float bias)
{
    double sum[4] = {0}; /* four chains, so that a real model's wait is bearable */
    int64_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (int k = 0; k < 4; k++)
            sum[k] += (double)x[i + k] * y[i + k];
    for (; i < n; i++)
        sum[0] += (double)x[i] * y[i];
    return (float)(sum[0] + sum[1] + sum[2] + sum[3] + bias);
}

/* ---- the team ------------------------------------------------------------------------------------------------------- */

struct each {
    struct reference *r;
    const struct op *op;
    int64_t count;
    reference_body *body;
};

static void each_work(void *argument, int thread, int threads)
{
    struct each *e = argument;
    for (int64_t i = thread; i < e->count; i += threads)
        e->body(e->r, e->op, i, thread);
}

void reference_each(struct reference *r, const struct op *op, int64_t count, reference_body *body)
{
    struct each e = {r, op, count, body};
    if (count == 1)
        each_work(&e, 0, 1);
    else if (count > 1)
        team_run(r->threads, each_work, &e);
}

/* ---- state ---------------------------------------------------------------------------------------------------------- */

/* Values of a head in memory: whole blocks of its type. */
static int padded(enum storage type, int dim)
{
    int block = storage_types[type].block_elements;
    return (dim + block - 1) / block * block;
}

static int64_t head_bytes(enum storage type, int dim)
{
    return (int64_t)padded(type, dim) / storage_types[type].block_elements * storage_types[type].block_bytes;
}

void reference_encode(enum storage type, const float *values, int dim, unsigned char *to)
{
    float whole[REFERENCE_HEAD_DIM] = {0};
    memcpy(whole, values, (size_t)dim * sizeof *whole);
    format_round(type, whole, to, padded(type, dim));
}

void reference_decode(enum storage type, const unsigned char *from, int dim, float *values)
{
    float whole[REFERENCE_HEAD_DIM];
    format_find(type)->decode(from, whole, padded(type, dim));
    memcpy(values, whole, (size_t)dim * sizeof *whole);
}

static int64_t layer_k_bytes(const struct compile_options *o, const struct state_group *g)
{
    return (int64_t)g->heads * BLOCK_TOKENS * head_bytes(o->k_type, g->k_dim);
}

static int64_t layer_bytes(const struct compile_options *o, const struct state_group *g)
{
    int64_t v = g->v_in_k ? 0 : (int64_t)g->heads * BLOCK_TOKENS * head_bytes(o->v_type, g->v_dim);
    return layer_k_bytes(o, g) + v;
}

unsigned char *reference_slot(const struct reference *r, int group, int layer, int32_t block, int slot, int head, bool value)
{
    const struct state_group *g = &r->p->groups[group];
    const struct compile_options *o = &r->options;
    unsigned char *base = r->state->pool[group] + (uint64_t)block * r->block_bytes[group] + layer * layer_bytes(o, g);
    if (value && !g->v_in_k)
        return base + layer_k_bytes(o, g) + ((int64_t)head * BLOCK_TOKENS + slot) * head_bytes(o->v_type, g->v_dim);
    return base + ((int64_t)head * BLOCK_TOKENS + slot) * head_bytes(o->k_type, g->k_dim);
}

float *reference_state(const struct reference *r, const struct op *op, const struct batch_sequence *s, bool written)
{
    if (!written && s->cached == 0)
        return NULL;
    unsigned char *slot = r->state->pool[op->group] + (uint64_t)s->blocks[op->group][written] * r->block_bytes[op->group];
    return (float *)(void *)slot + op->layer * r->p->groups[op->group].values + op->at;
}

static void each_part(const struct compiled *c, const struct state_memory *state, int group, int32_t block, int first, int count, float *out,
                      const float *in)
{
    struct reference r = c->r;
    r.state = state;
    const struct state_group *g = &r.p->groups[group];
    if (g->kind == STATE_RECURRENT) {
        float *values = (float *)(void *)(state->pool[group] + (uint64_t)block * r.block_bytes[group]);
        size_t size = (size_t)g->layers * (size_t)g->values * sizeof(float);
        out ? memcpy(out, values, size) : memcpy(values, in, size);
        return;
    }
    for (int slot = first; slot < first + count; slot++)
        for (int value = 0; value < (g->v_in_k ? 1 : 2); value++) {
            enum storage type = value ? r.options.v_type : r.options.k_type;
            int dim = value ? g->v_dim : g->k_dim;
            for (int layer = 0; layer < g->layers; layer++)
                for (int head = 0; head < g->heads; head++) {
                    unsigned char *at = reference_slot(&r, group, layer, block, slot, head, value);
                    if (out)
                        reference_decode(type, at, dim, out), out += dim;
                    else
                        reference_encode(type, in, dim, at), in += dim;
                }
        }
}

static enum status reference_sizes(const struct program *p, const struct compile_options *o, struct compile_sizes *out, struct error *err);

static enum status reference_read(const struct compiled *c, const struct state_memory *state, int group, int32_t block, int first, int count, float *out,
                                  struct error *err)
{
    (void)err;
    each_part(c, state, group, block, first, count, out, NULL);
    return STATUS_OK;
}

static enum status reference_write(const struct compiled *c, struct state_memory *state, int group, int32_t block, int first, int count,
                                   const float *in, struct error *err)
{
    (void)err;
    each_part(c, state, group, block, first, count, NULL, in);
    return STATUS_OK;
}

static enum status reference_state_open(const struct program *p, const struct compile_options *o, const int32_t *blocks, struct state_memory *out, struct error *err)
{
    struct compile_sizes sizes;
    enum status status = reference_sizes(p, o, &sizes, err);
    return status ? status : state_map(p, &sizes, blocks, out, err);
}

static void reference_state_close(const struct compile_options *o, struct state_memory *memory)
{
    (void)o;
    state_unmap(memory);
}

static enum status reference_state_copy(const struct compiled *c, struct state_memory *state, int group, int32_t to, int32_t from, struct error *err)
{
    (void)err;
    uint64_t bytes = c->r.block_bytes[group];
    memcpy(state->pool[group] + (uint64_t)to * bytes, state->pool[group] + (uint64_t)from * bytes, bytes);
    return STATUS_OK;
}

/* ---- compiling ------------------------------------------------------------------------------------------------------ */

static enum status check_weights(const struct program *p, struct error *err)
{
    enum status status = STATUS_OK;
    for (int i = 0; i < p->weight_count && !status; i++)
        status = weight_check(&p->weights[i], err);
    return status;
}

static uint64_t buffer_bytes(const struct program *p, const struct compile_options *o, int i)
{
    const struct buffer *b = &p->buffers[i];
    return (uint64_t)b->width * (uint64_t)(b->rows == ROWS_WANTED ? o->max_wanted : o->max_rows) * sizeof(float);
}

static void widths(const struct program *p, struct reference *r)
{
    r->widest_row = r->widest_rope = 1;
    for (int i = 0; i < p->weight_count; i++)
        if (p->weights[i].in > r->widest_row)
            r->widest_row = p->weights[i].in;
    for (int i = 0; i < p->rope_count; i++)
        if (p->ropes[i].dims > r->widest_rope)
            r->widest_rope = p->ropes[i].dims;
}

static uint64_t gathered_bytes(const struct program *p, const struct compile_options *o)
{
    int64_t widest = 1;
    for (int i = 0; i < p->output_count; i++)
        if (p->buffers[p->outputs[i].buffer].width > widest)
            widest = p->buffers[p->outputs[i].buffer].width;
    return (uint64_t)widest * (uint64_t)o->max_wanted * sizeof(float);
}

static enum status reference_sizes(const struct program *p, const struct compile_options *o, struct compile_sizes *out, struct error *err)
{
    enum status status = check_weights(p, err);
    if (status)
        return status;
    if (p->group_count > 8)
        return error_set(err, STATUS_FAILED, "program: more than 8 state groups");
    for (int i = 0; i < p->group_count; i++)
        if (p->groups[i].layers && (p->groups[i].k_dim > REFERENCE_HEAD_DIM || p->groups[i].v_dim > REFERENCE_HEAD_DIM))
            return error_set(err, STATUS_BAD_INPUT, "heads of more than %d values are not supported", REFERENCE_HEAD_DIM);
    for (int i = 0; i < 2; i++)
        if (!state_storage(i ? o->v_type : o->k_type))
            return error_set(err, STATUS_USAGE, "a KV cache of type %s is not supported", storage_types[i ? o->v_type : o->k_type].name);
    struct reference r = {0};
    widths(p, &r);
    uint64_t threads = (uint64_t)(o->threads > 0 ? o->threads : team_cores());
    memset(out, 0, sizeof *out);
    for (int i = 0; i < p->buffer_count; i++)
        out->scratch_bytes += buffer_bytes(p, o, i);
    out->scratch_bytes += (threads * (uint64_t)(r.widest_row + o->max_context + 2 * r.widest_rope) + 2 * (uint64_t)r.widest_row) * sizeof(float);
    out->scratch_bytes += gathered_bytes(p, o);
    for (int i = 0; i < p->group_count; i++) {
        const struct state_group *g = &p->groups[i];
        out->block_bytes[i] = g->kind == STATE_PAGED ? (uint64_t)g->layers * (uint64_t)layer_bytes(o, g)
                                                     : (uint64_t)g->layers * (uint64_t)g->values * sizeof(float);
    }
    return STATUS_OK;
}

static void reference_free(struct compiled *c)
{
    if (!c)
        return;
    struct reference *r = &c->r;
    for (int i = 0; r->buffer && i < r->p->buffer_count; i++)
        free(r->buffer[i]);
    free(r->buffer);
    free(r->row_scratch);
    free(r->scores);
    free(r->angles);
    free(r->gathered);
    free(c);
}

static enum status reference_compile(struct compiled **out, const struct program *p, const struct compile_options *o, struct error *err)
{
    struct compile_sizes sizes;
    enum status status = reference_sizes(p, o, &sizes, err);
    if (status)
        return status;
    struct compiled *c = calloc(1, sizeof *c);
    if (!c)
        return error_memory(err, "the reference backend");
    struct reference *r = &c->r;
    r->p = p;
    r->options = *o;
    r->threads = o->threads > 0 ? o->threads : team_cores();
    memcpy(r->block_bytes, sizes.block_bytes, sizeof r->block_bytes);
    widths(p, r);
    bool ok = (r->buffer = calloc((size_t)p->buffer_count + 1, sizeof *r->buffer)) != NULL;
    for (int i = 0; ok && i < p->buffer_count; i++)
        ok = (r->buffer[i] = calloc(1, buffer_bytes(p, o, i) + 1)) != NULL;
    size_t threads = (size_t)r->threads;
    ok = ok && (r->row_scratch = calloc(threads + 2, (size_t)r->widest_row * sizeof(float))) != NULL;
    ok = ok && (r->scores = calloc(threads, (size_t)o->max_context * sizeof(float) + 1)) != NULL;
    ok = ok && (r->angles = calloc(threads, 2 * (size_t)r->widest_rope * sizeof(float))) != NULL;
    ok = ok && (r->gathered = calloc(1, gathered_bytes(p, o) + 1)) != NULL;
    if (!ok) {
        reference_free(c);
        return error_memory(err, "the reference backend's buffers");
    }
    r->norm_weights = r->row_scratch + threads * (size_t)r->widest_row;
    *out = c;
    return STATUS_OK;
}

/* ---- a step --------------------------------------------------------------------------------------------------------- */

static enum status reference_step(struct compiled *c, const struct batch *b, const struct state_memory *state, int output,
                                  const float **result, struct error *err)
{
    struct reference *r = &c->r;
    const struct program *p = r->p;
    if (b->rows > r->options.max_rows || b->wanted > r->options.max_wanted || b->sequences > r->options.max_sequences ||
        output >= p->buffer_count)
        return error_set(err, STATUS_FAILED, "step: the batch exceeds what was compiled");
    for (int i = 0; i < b->sequences; i++)
        if (b->sequence[i].cached + b->sequence[i].rows > r->options.max_context)
            return error_set(err, STATUS_FAILED, "step: sequence %d is longer than the context that was compiled", i);
    r->batch = b;
    r->state = state;
    int end = batch_end(p, b, output);
    for (int i = b->begin; i < end && !r->broken; i++)
        run[p->ops[i].kind](r, &p->ops[i]);
    if (r->broken)
        return r->broken = false, error_set(err, STATUS_FAILED, "step: another rank gave up");
    if (!result)
        return STATUS_OK;
    *result = NULL;
    if (output < 0 || !batch_last(p, b))
        return STATUS_OK;
    *result = r->buffer[output];
    if (p->buffers[output].rows == ROWS_ALL) {
        int64_t width = p->buffers[output].width;
        for (int i = 0; i < b->wanted; i++)
            memcpy(r->gathered + i * width, r->buffer[output] + b->wanted_rows[i] * width, (size_t)width * sizeof(float));
        *result = r->gathered;
    }
    return STATUS_OK;
}

static void reference_describe(const struct compiled *c, char *out, size_t size)
{
    snprintf(out, size, "reference, %d threads, float32 with double sums", c->r.threads);
}

const struct backend backend_reference = {
    .name = "reference",
    .sizes = reference_sizes,
    .compile = reference_compile,
    .step = reference_step,
    .read_state = reference_read,
    .write_state = reference_write,
    .state_open = reference_state_open,
    .state_close = reference_state_close,
    .state_copy = reference_state_copy,
    .describe = reference_describe,
    .free = reference_free,
};
