/* The CUDA backend: what compiling checks and allocates. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "kernels/cuda/cuda.h"
#include "kernels/exchange.h"

enum status cuda_failed(const struct compiled *c, int code, struct error *err, const char *format, ...)
{
    char what[300];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    const char *name = QUOTE(c->info.name, strlen(c->info.name)), *words = c->cuda->words(code);
    if (code == c->cuda->no_memory)
        return error_set(err, STATUS_NO_ROOM, "cuda:%d (%s): %s: %s", c->options.device, name, what, words);
    struct cuda_info ignored; /* behind a fault, every call of the process on this device fails */
    bool lost = c->cuda->info(c->options.device, &ignored);
    return error_set(err, STATUS_DEVICE, "cuda:%d (%s): %s: %s%s", c->options.device, name, what, words,
                     lost ? "; nothing more works on it in this process: start ingot again" : "");
}

/* ---- checks ---------------------------------------------------------------------------------------------------------- */

static enum status check(const struct program *p, const struct compile_options *o, struct error *err)
{
    for (int i = 0; i < p->weight_count; i++) {
        enum status status = weight_check(&p->weights[i], err);
        if (status)
            return status;
    }
    if (p->group_count > 8)
        return error_set(err, STATUS_FAILED, "program: more than 8 state groups");
    for (int i = 0; i < p->group_count; i++)
        if (p->groups[i].layers && (p->groups[i].k_dim > CUDA_HEAD_DIM || p->groups[i].v_dim > CUDA_HEAD_DIM))
            return error_set(err, STATUS_BAD_INPUT, "heads of more than %d values are not supported", CUDA_HEAD_DIM);
    for (int i = 0; i < 2; i++)
        if (!state_storage(i ? o->v_type : o->k_type))
            return error_set(err, STATUS_USAGE, "a KV cache of type %s is not supported", storage_types[i ? o->v_type : o->k_type].name);
    return STATUS_OK;
}

bool cuda_is_vector(const struct program *p, int weight)
{
    for (int k = 0; k < p->op_count; k++)
        if (p->ops[k].b == weight || (p->ops[k].kind == OP_NORM && p->ops[k].w == weight))
            return true;
    return false;
}

bool cuda_is_matrix(const struct program *p, int weight)
{
    for (int k = 0; k < p->op_count; k++)
        if (p->ops[k].w == weight && (p->ops[k].kind == OP_LINEAR || p->ops[k].kind == OP_EXPERTS || p->ops[k].kind == OP_EMBED))
            return true;
    return false;
}

int64_t cuda_rows_bound(const struct program *p, const struct compile_options *o, int buffer)
{
    return p->buffers[buffer].rows == ROWS_WANTED ? o->max_wanted : o->max_rows;
}

/* ---- memory ---------------------------------------------------------------------------------------------------------- */

void *room_take(struct room *r, int64_t count, size_t size)
{
    void *here = r->base ? r->base + r->used : NULL;
    r->used += ((size_t)count * size + 255) / 256 * 256;
    return here;
}

static void *device_take(const struct compiled *c, struct device_room *r, int64_t count, size_t size)
{
    size_t bytes = ((size_t)count * size + 255) / 256 * 256;
    void *memory = NULL;
    r->used += bytes;
    if (r->list && !r->code && !(r->code = c->cuda->allocate(c->options.device, &memory, (size_t)count * size + !bytes)))
        r->list[r->count++] = memory;
    return memory;
}

static void device_release(const struct compiled *c, struct device_room *r)
{
    for (int i = 0; i < r->count; i++)
        c->cuda->release(c->options.device, r->list[i]);
    free(r->list);
}

int64_t cuda_widest_output(const struct compiled *c)
{
    const struct program *p = c->p;
    int64_t widest = 1;
    for (int i = 0; i < p->output_count; i++)
        widest = p->buffers[p->outputs[i].buffer].width > widest ? p->buffers[p->outputs[i].buffer].width : widest;
    return widest;
}

/* The lists of addresses are there when the memory is asked for, not when it is counted. */
static void take_weights(struct compiled *c)
{
    const struct program *p = c->p;
    for (int i = 0; i < p->weight_count; i++)
        if (cuda_is_matrix(p, i) && !cuda_streamed(p, i)) {
            unsigned char *at = device_take(c, &c->weights, p->weights[i].out * p->weights[i].experts, (size_t)cuda_row_bytes(c, &p->weights[i]));
            if (c->weight)
                c->weight[i] = at;
        }
}

static void take_scratch(struct compiled *c)
{
    const struct program *p = c->p;
    struct device_room *r = &c->scratch;
    for (int i = 0; i < p->weight_count; i++)
        if (cuda_is_vector(p, i)) {
            float *at = device_take(c, r, p->weights[i].out * p->weights[i].in, sizeof(float));
            if (c->vector)
                c->vector[i] = at;
        }
    for (int i = 0; i < p->buffer_count; i++) {
        float *at = device_take(c, r, p->buffers[i].width * cuda_rows_bound(p, &c->options, i), sizeof(float));
        if (c->buffer)
            c->buffer[i] = at;
    }
    c->gathered = device_take(c, r, cuda_widest_output(c) * c->options.max_wanted, sizeof(float));
    c->grids = device_take(c, r, 1, sizeof *c->grids);
    int64_t widest = cuda_widest_input(c, FAST_BYTES);
    c->input = device_take(c, r, widest * c->options.max_rows, 1);
    c->input_scales = device_take(c, r, widest / 16 * 2 * c->options.max_rows, sizeof(float));
    c->narrow = device_take(c, r, cuda_widest_input(c, FAST_MATRIX) * c->options.max_rows, sizeof(uint16_t));
    c->handed = device_take(c, r, cuda_widest_handed(c) * c->options.max_rows, sizeof(uint16_t));
    c->split = device_take(c, r, cuda_split_floats(c), sizeof(float));
    struct experts_sizes experts;
    cuda_experts_sizes(c, &experts);
    c->expert_order = device_take(c, r, experts.slots, sizeof(int32_t));
    c->expert_tiles = device_take(c, r, experts.tiles, sizeof(int32_t));
    c->expert_rows = device_take(c, r, experts.values, sizeof(uint16_t));
    c->expert_handed = device_take(c, r, experts.values, sizeof(uint16_t));
    c->step = device_take(c, r, 1, cuda_step_bytes(c));
    c->partial = device_take(c, r, cuda_attend_partial(c), sizeof(float));
    if (c->gemm.widest && (!c->cuda || c->cuda->gemm_library())) {
        c->gemm.tile = device_take(c, r, c->gemm.tile_values, sizeof(uint16_t));
        c->gemm.x = device_take(c, r, c->options.max_rows * c->gemm.widest, sizeof(uint16_t));
        r->used += CUDA_GEMM_WORKSPACE;
    }
    size_t streamed = cuda_stream_bytes(c);
    c->slots = device_take(c, r, 1, streamed);
    r->used += streamed ? cuda_ring_bytes() : 0;
    int64_t choices = cuda_most_choices(c), slices = (cuda_widest_output(c) + CHOOSE_SLICE - 1) / CHOOSE_SLICE;
    c->chooser.asked = device_take(c, r, 1, cuda_asked_bytes(c));
    c->chooser.slices = device_take(c, r, choices * slices * 2, sizeof(float));
    c->chooser.bins = device_take(c, r, choices * CHOICE_BINS, sizeof(unsigned));
    c->chooser.answer = device_take(c, r, 1, cuda_answer_bytes((int32_t)choices, CHOICE_ROOM));
}

static size_t lay_out_pinned(struct compiled *c, unsigned char *base)
{
    struct room r = {base, 0};
    int64_t largest = 0;
    for (int i = 0; i < c->p->group_count; i++)
        largest = c->block_bytes[i] > largest ? c->block_bytes[i] : largest;
    c->host_step = room_take(&r, 1, cuda_step_bytes(c));
    c->result = room_take(&r, cuda_widest_output(c) * c->options.max_wanted, sizeof(float));
    c->chooser.host_asked = room_take(&r, 1, cuda_asked_bytes(c));
    c->chooser.host_answer = room_take(&r, 1, cuda_answer_bytes(cuda_most_choices(c), CHOICE_ROOM));
    int64_t reduced = 0;
    for (int i = 0; i < c->p->op_count; i++) {
        const struct op *op = &c->p->ops[i];
        int crossing = op->kind == OP_SEND || op->kind == OP_REDUCE ? op->x : op->kind == OP_RECEIVE ? op->y : -1;
        int64_t values = crossing < 0 ? 0 : c->p->buffers[crossing].width * cuda_rows_bound(c->p, &c->options, crossing);
        if (op->kind == OP_REDUCE)
            reduced = values > reduced ? values : reduced;
        else if (crossing >= 0)
            c->staged[crossing] = room_take(&r, values, sizeof(float));
    }
    c->reduced = room_take(&r, reduced, sizeof(float));
    unsigned char *block = room_take(&r, largest, 1);
    if (c->transfers)
        c->transfers->block = block;
    return r.used;
}

/* ---- compiling ------------------------------------------------------------------------------------------------------- */

static void cuda_free(struct compiled *c)
{
    if (!c)
        return;
    if (c->stream) {
        c->cuda->close(c->stream);
        cuda_graph_close(c);
    }
    if (c->transfers) {
        if (c->transfers->stream)
            c->cuda->close(c->transfers->stream);
        pthread_mutex_destroy(&c->transfers->lock);
        free(c->transfers);
    }
    cuda_stream_close(c);
    if (c->cuda) {
        device_release(c, &c->weights);
        device_release(c, &c->scratch);
        c->cuda->unpin(c->options.device, c->pinned);
    }
    free(c->weight);
    free(c->vector);
    free(c->buffer);
    free(c->staged);
    free(c->stage);
    free(c);
}

/* Everything but the device. */
static enum status plan(struct compiled **out, const struct program *p, const struct compile_options *o, struct error *err)
{
    enum status status = check(p, o, err);
    if (status)
        return status;
    struct compiled *c = calloc(1, sizeof *c);
    if (!c || !(c->stage = calloc((size_t)p->op_count + 1, sizeof *c->stage))) {
        free(c);
        return error_memory(err, "the CUDA backend");
    }
    const char *kernels = getenv("INGOT_CUDA_KERNELS");
    if ((status = cuda_tuning(&c->tune, err))) {
        free(c->stage);
        free(c);
        return status;
    }
    for (int i = 0; i < 3 && o->prompt_rows; i++) {
        int *rows[] = {&c->tune.hopper_rows, &c->tune.gemm_rows, &c->tune.prompt_rows};
        *rows[i] = *rows[i] < o->prompt_rows ? *rows[i] : o->prompt_rows;
    }
    c->p = p;
    c->options = *o;
    c->plain = kernels && !strcmp(kernels, "plain");
    c->bytes = !c->tune.matrix || (kernels && !strcmp(kernels, "bytes"));
    cuda_fuse(c);
    cuda_state_layout(c);
    for (int i = 0; i < p->op_count; i++)
        if (p->ops[i].kind == OP_EMBED && p->buffers[p->ops[i].y].width > c->embedding_width)
            c->embedding_width = p->buffers[p->ops[i].y].width;
    for (int i = 0; i < p->rope_count; i++)
        c->rope_stride = p->ropes[i].dims > c->rope_stride ? p->ropes[i].dims : c->rope_stride;
    cuda_gemm_plan(c);
    cuda_graph_plan(c);
    *out = c;
    return STATUS_OK;
}

static bool allocate_lists(struct compiled *c)
{
    size_t weights = (size_t)c->p->weight_count + 1, buffers = (size_t)c->p->buffer_count + 1;
    c->weight = calloc(weights, sizeof *c->weight);
    c->vector = calloc(weights, sizeof *c->vector);
    c->buffer = calloc(buffers, sizeof *c->buffer);
    c->weights = (struct device_room){.list = calloc(weights, sizeof(void *))};
    c->scratch = (struct device_room){.list = calloc(weights + buffers + 28, sizeof(void *))};
    c->staged = calloc(buffers, sizeof *c->staged);
    c->transfers = calloc(1, sizeof *c->transfers);
    if (c->transfers)
        pthread_mutex_init(&c->transfers->lock, NULL);
    return c->weight && c->vector && c->buffer && c->staged && c->weights.list && c->scratch.list && c->transfers;
}

static enum status allocate(struct compiled *c, struct error *err)
{
    const struct cuda_interface *cuda = c->cuda;
    int device = c->options.device, code;
    if (!allocate_lists(c))
        return error_memory(err, "the CUDA backend");
    size_t pinned = lay_out_pinned(c, NULL);
    if ((code = cuda->open(device, &c->stream)) || (code = cuda->open(device, &c->transfers->stream)))
        return cuda_failed(c, code, err, "opening a stream");
    take_weights(c);
    if (c->weights.code)
        return cuda_failed(c, c->weights.code, err, "%.2f GiB of weights", (double)c->weights.used / 0x1p30);
    take_scratch(c);
    if (c->scratch.code)
        return cuda_failed(c, c->scratch.code, err, "%.2f GiB of buffers", (double)c->scratch.used / 0x1p30);
    if ((code = cuda->pin(device, (void **)&c->pinned, pinned + 1)))
        return cuda_failed(c, code, err, "%.2f GiB of pinned memory", (double)pinned / 0x1p30);
    lay_out_pinned(c, c->pinned);
    return STATUS_OK;
}

static void group_abort(struct exchange_group *g) { ((const struct cuda_interface *)g->owner)->group_abort(g->handle); }
static void group_close(struct exchange_group *g) { ((const struct cuda_interface *)g->owner)->group_close(g->handle); }

/* The first rank opens the group of all, if the cards are different ones. A row's sum there may depend on how many rows there are:
 * not with `deterministic`. */
static void open_group(const struct compiled *c)
{
    struct exchange *x = c->options.exchange;
    struct cuda_group *group = NULL;
    bool apart = x && x->ranks > 1 && !x->group.handle && !c->options.deterministic && c->options.rank == 0 && c->cuda->group_library();
    for (int i = 0; apart && i < x->ranks; i++)
        for (int k = 0; k < i; k++)
            apart &= x->device[i] != x->device[k];
    if (!apart)
        return;
    int code = c->cuda->group_open(x->device, x->ranks, &group);
    if (code)
        log_line(LOG_SAY, "cuda: %s: %s; sums of several cards go through the host's memory", c->cuda->group_library(), c->cuda->words(code));
    x->group = (struct exchange_group){.handle = group, .owner = c->cuda, .abort = group_abort, .close = group_close};
}

enum status cuda_compile_with(const struct cuda_interface *cuda, struct compiled **out, const struct program *p, const struct compile_options *o,
                              struct error *err)
{
    struct compiled *c;
    enum status status = plan(&c, p, o, err);
    if (status)
        return status;
    c->cuda = cuda;
    int code = cuda->info(o->device, &c->info);
    status = code ? cuda_failed(c, code, err, "asking for the device") : allocate(c, err);
    if (!status && cuda_stream_bytes(c))
        status = cuda_stream_open(c, c->slots, err);
    if (!status)
        cuda_hopper_find(c);
    if (!status)
        status = cuda_upload(c, err);
    if (!status)
        open_group(c);
    c->options.progress = NULL; /* it was for this call */
    if (status) {
        cuda_free(c);
        return status;
    }
    *out = c;
    return STATUS_OK;
}

static enum status cuda_compile(struct compiled **out, const struct program *p, const struct compile_options *o, struct error *err)
{
    const struct cuda_interface *cuda;
    struct cuda_info info;
    enum status status = cuda_library(&cuda, o->device, &info, err);
    return status ? status : cuda_compile_with(cuda, out, p, o, err);
}

static enum status cuda_sizes(const struct program *p, const struct compile_options *o, struct compile_sizes *out, struct error *err)
{
    struct compiled *c;
    enum status status = plan(&c, p, o, err);
    if (status)
        return status;
    memset(out, 0, sizeof *out);
    take_scratch(c);
    out->scratch_bytes = c->scratch.used;
    for (int i = 0; i < p->group_count; i++)
        out->block_bytes[i] = (uint64_t)c->block_bytes[i];
    cuda_free(c);
    return STATUS_OK;
}

void cuda_state_close_with(const struct cuda_interface *cuda, const struct compile_options *o, struct state_memory *memory)
{
    for (size_t g = 0; g < sizeof memory->pool / sizeof *memory->pool; g++)
        cuda->release(o->device, memory->pool[g]);
    *memory = (struct state_memory){0};
}

enum status cuda_state_open_with(const struct cuda_interface *cuda, const struct program *p, const struct compile_options *o, const int32_t *blocks,
                                 struct state_memory *out, struct error *err)
{
    struct compile_sizes sizes;
    *out = (struct state_memory){0};
    enum status status = cuda_sizes(p, o, &sizes, err);
    for (int g = 0; g < p->group_count && !status; g++) {
        out->bytes[g] = (size_t)sizes.block_bytes[g] * (size_t)blocks[g];
        int code = out->bytes[g] ? cuda->allocate(o->device, (void **)&out->pool[g], out->bytes[g]) : 0;
        if (code)
            status = error_set(err, code == cuda->no_memory ? STATUS_NO_ROOM : STATUS_DEVICE, "cuda:%d: %.2f GiB for the KV cache: %s", o->device,
                               (double)out->bytes[g] / 0x1p30, cuda->words(code));
    }
    if (status)
        cuda_state_close_with(cuda, o, out);
    return status;
}

static enum status cuda_state_open(const struct program *p, const struct compile_options *o, const int32_t *blocks, struct state_memory *out, struct error *err)
{
    const struct cuda_interface *cuda;
    struct cuda_info info;
    *out = (struct state_memory){0};
    enum status status = cuda_library(&cuda, o->device, &info, err);
    return status ? status : cuda_state_open_with(cuda, p, o, blocks, out, err);
}

static void cuda_state_close(const struct compile_options *o, struct state_memory *memory)
{
    const struct cuda_interface *cuda;
    struct cuda_info info;
    if (!cuda_library(&cuda, o->device, &info, NULL))
        cuda_state_close_with(cuda, o, memory);
}

static void cuda_describe(const struct compiled *c, char *out, size_t size)
{
    int n = snprintf(out, size, "cuda:%d, %s, compute capability %d.%d, %d multiprocessors; %.2f GiB of weights uploaded at %.1f GB/s", c->options.device,
                     c->info.name, c->info.major, c->info.minor, c->info.processors, (double)c->upload_bytes / 0x1p30,
                     c->upload_seconds > 0 ? (double)c->upload_bytes / c->upload_seconds / 1e9 : 0);
    if (n > 0 && (size_t)n < size)
        n += snprintf(out + n, size - (size_t)n, "; %s%s", c->plain ? "plain kernels (INGOT_CUDA_KERNELS)" : c->bytes ? "kernels for bytes" : "matrix units",
                      c->plain ? "" : ", attention split by 256 tokens");
    if (n > 0 && (size_t)n < size && c->hopper)
        n += snprintf(out + n, size - (size_t)n, ", products of %d rows and more by warpgroups", c->tune.hopper_rows);
    if (n > 0 && (size_t)n < size && c->streaming)
        n += snprintf(out + n, size - (size_t)n, ", %.1f MiB for matrices that come with prompts", (double)cuda_stream_bytes(c) / 0x1p20);
    if (n > 0 && (size_t)n < size && c->gemm.x)
        snprintf(out + n, size - (size_t)n, ", products of %d rows and more by %s", c->gemm.rows, c->cuda->gemm_library());
    else if (n > 0 && (size_t)n < size)
        snprintf(out + n, size - (size_t)n, "%s", c->options.deterministic ? "" : "; no cuBLAS was found for prompts");
}

const struct backend cuda_backend = {
    .name = "cuda",
    .runs = cuda_runs,
    .sizes = cuda_sizes,
    .compile = cuda_compile,
    .step = cuda_step,
    .choose = cuda_choose,
    .fetch = cuda_fetch,
    .read_state = cuda_read_state,
    .write_state = cuda_write_state,
    .state_open = cuda_state_open,
    .state_close = cuda_state_close,
    .state_copy = cuda_copy_state,
    .shelf_open = cuda_shelf_open,
    .shelf_move = cuda_shelf_move,
    .shelf_wait = cuda_shelf_wait,
    .shelf_close = cuda_shelf_close,
    .describe = cuda_describe,
    .free = cuda_free,
};

enum status backend_cuda(const struct backend **out, int device, struct cuda_room *room, struct error *err)
{
    const struct cuda_interface *library;
    struct cuda_info info;
    enum status status = cuda_library(&library, device, &info, err);
    if (status)
        return status;
    *out = &cuda_backend;
    snprintf(room->name, sizeof room->name, "%s", info.name);
    room->free_bytes = info.free_bytes;
    room->bandwidth = info.bandwidth;
    return STATUS_OK;
}
