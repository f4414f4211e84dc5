/* From names to weight views. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/team.h"
#include "models/private.h"

void weight_spell(const struct weight_name *n, const char *prefix, int layer, int expert, char *out, size_t size)
{
    char format[160];
    int number[] = {layer, expert}, numbers = 0;
    snprintf(format, sizeof format, "%s%s", prefix && n->base ? prefix : "", prefix ? n->hf : n->gguf);
    size_t at = 0;
    for (const char *c = format; *c && at + 12 < size; c++) /* our own tables: at most two %d */
        if (c[0] == '%' && c[1] == 'd' && numbers < 2)
            at += (size_t)snprintf(out + at, size - at, "%d", number[numbers++]), c++;
        else
            out[at++] = *c;
    out[at] = 0;
}

bool weight_per_expert(const struct weight_name *n, bool gguf)
{
    const char *name = gguf ? n->gguf : n->hf, *first = name ? strstr(name, "%d") : NULL;
    return first && strstr(first + 1, "%d");
}

static bool in_gguf(const struct binder *b) { return b->m->container == MODEL_GGUF; }

static void name_weight(const struct binder *b, const struct weight_name *n, int layer, int expert, char *out, size_t size)
{
    weight_spell(n, in_gguf(b) ? NULL : b->prefix, layer, expert, out, size);
}

const char *weight_prefix(const struct model *m, const struct weight_name *embedding)
{
    static const char *const prefixes[] = {"model.", "", "transformer.", "backbone.", "model.language_model.", "language_model.model."};
    char name[200];
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        weight_spell(embedding, prefixes[i], 0, 0, name, sizeof name);
        if (tensor_find(m->tensors, name))
            return prefixes[i];
    }
    return prefixes[0];
}

void binder_init(struct binder *b, struct model *m, const struct weight_name *embedding, struct error *err)
{
    *b = (struct binder){m, err, weight_prefix(m, embedding), STATUS_OK};
}

bool binder_has(struct binder *b, const struct weight_name *n, int layer)
{
    char name[200];
    if (!n->hf)
        return false;
    name_weight(b, n, layer, 0, name, sizeof name);
    return tensor_find(b->m->tensors, name) != NULL;
}

enum status weight_factor(const struct tensor_set *set, const char *name, const struct tensor **tensor, float *factor, struct error *err)
{
    static const char tail[] = "weight";
    char other[200];
    size_t n = strlen(name), stem = n - (sizeof tail - 1);
    *tensor = NULL;
    *factor = 0;
    if (n < sizeof tail || n >= sizeof other || strcmp(name + stem, tail))
        return STATUS_OK;
    snprintf(other, sizeof other, "%.*sscale", (int)stem, name);
    *tensor = tensor_find(set, other);
    if (!*tensor)
        return STATUS_OK;
    if ((*tensor)->type == STORAGE_F32 && (*tensor)->bytes == sizeof *factor)
        memcpy(factor, (*tensor)->data, sizeof *factor);
    if (!isfinite(*factor) || *factor == 0)
        return error_set(err, STATUS_BAD_INPUT, "tensor %s: one F32 is needed that is finite and not 0", QUOTE(other, strlen(other)));
    return STATUS_OK;
}

/* NULL where it is absent, which is the binder's failure unless it is optional. */
static const struct tensor *find(struct binder *b, const struct weight_name *n, int layer, int expert, bool optional)
{
    char name[200];
    name_weight(b, n, layer, expert, name, sizeof name);
    const struct tensor *t = tensor_find(b->m->tensors, name);
    if (!t && !optional)
        b->status = error_set(b->err, STATUS_BAD_INPUT, "%s: tensor %s is missing", b->m->path, name);
    return t;
}

static void add_shape(char *out, size_t size, const int64_t *shape, int dims)
{
    for (int d = 0; d < dims && d < 4; d++)
        snprintf(out + strlen(out), size - strlen(out), "%s%" PRId64, d ? ", " : "", shape[d]);
}

static bool check(struct binder *b, const struct tensor *t, const int64_t *shape, int dims)
{
    bool same = t->dims == dims;
    for (int d = 0; d < dims && same; d++)
        same = t->shape[d] == shape[d];
    if (!same) {
        char has[96] = "", needed[96] = "";
        add_shape(has, sizeof has, t->shape, t->dims);
        add_shape(needed, sizeof needed, shape, dims);
        b->status = error_set(b->err, STATUS_BAD_INPUT, "%s: tensor %s has shape [%s] where [%s] is needed", b->m->path, t->name, has, needed);
        return false;
    }
    bool plain = t->type == STORAGE_F32 || t->type == STORAGE_F16 || t->type == STORAGE_BF16;
    if (!format_find(t->type) || (dims == 1 && !plain))
        b->status = error_set(b->err, STATUS_BAD_INPUT, "%s: tensor %s: type %s is not supported%s", b->m->path, t->name, storage_types[t->type].name,
                              dims == 1 ? " for norms and biases" : " yet");
    return !b->status;
}

/* Into the program. matrix: what keeps its factor apart in GGUF. */
static int keep(struct binder *b, const struct tensor *t, struct weight *w, bool matrix)
{
    const struct tensor *factor;
    w->name = t->name;
    w->format = t->type;
    w->shard_axis = -1;
    w->owner = WEIGHT_MAPPED;
    if (matrix && in_gguf(b) && (b->status = weight_factor(b->m->tensors, t->name, &factor, &w->factor, b->err))) {
        error_prefix(b->err, "%s", b->m->path);
        return -1;
    }
    b->m->weight_bytes += (uint64_t)(w->row_bytes * w->out * w->experts);
    b->m->parameters += (uint64_t)(w->out * w->in * w->experts);
    return program_weight(&b->m->program, w);
}

int weight_bind(struct binder *b, const struct weight_name *n, int layer, int64_t out, int64_t in, bool optional)
{
    const struct tensor *t = b->status ? NULL : find(b, n, layer, 0, optional);
    bool vector = t && out == 1 && t->dims != 2; /* one row may be written either way */
    bool half = !in_gguf(b) && n->rows >= ROWS_FIRST_HALF;
    int64_t rows = half ? 2 * out : out;
    if (!t || !check(b, t, vector ? &in : (int64_t[]){rows, in}, vector ? 1 : 2))
        return -1;
    int64_t row_bytes = (int64_t)(t->bytes / (uint64_t)rows);
    struct weight w = {.out = out, .in = in, .data = t->data + (half && n->rows == ROWS_SECOND_HALF ? out * row_bytes : 0), .row_bytes = row_bytes, .experts = 1};
    return keep(b, t, &w, !vector);
}

int part_bind(struct binder *b, const struct weight_name *n, int layer, int64_t total, int64_t first, int64_t count, bool optional)
{
    const struct tensor *t = b->status ? NULL : find(b, n, layer, 0, optional);
    if (!t || !check(b, t, &total, 1))
        return -1;
    int64_t size = storage_types[t->type].block_bytes;
    struct weight w = {.out = 1, .in = count, .data = t->data + first * size, .row_bytes = count * size, .experts = 1};
    return keep(b, t, &w, false);
}

int slices_bind(struct binder *b, const struct weight_name *n, int layer, const struct row_slices *r, bool optional)
{
    const struct tensor *t = b->status ? NULL : find(b, n, layer, 0, optional);
    if (!t || !check(b, t, &r->total, 1))
        return -1;
    int64_t size = storage_types[t->type].block_bytes;
    struct weight w = {.out = r->pieces, .in = r->out, .data = t->data + r->first * size, .row_bytes = r->stride * size, .experts = 1};
    return keep(b, t, &w, false);
}

/* Values in plain floats of any shape: vectors that some write with dimensions of 1, or by groups. */
static const struct tensor *find_flat(struct binder *b, const struct weight_name *n, int layer, int64_t count, bool optional)
{
    const struct tensor *t = b->status || !n->hf ? NULL : find(b, n, layer, 0, optional);
    if (t && (t->type == STORAGE_F32 || t->type == STORAGE_F16 || t->type == STORAGE_BF16) && t->bytes == (uint64_t)(count * storage_types[t->type].block_bytes))
        return t;
    if (t)
        b->status = error_set(b->err, STATUS_BAD_INPUT, "%s: tensor %s: %" PRId64 " values of F32, F16 or BF16 are needed", b->m->path, t->name, count);
    return NULL;
}

int flat_bind(struct binder *b, const struct weight_name *n, int layer, int64_t out, int64_t in, bool optional)
{
    const struct tensor *t = find_flat(b, n, layer, out * in, optional);
    struct weight w = {.out = out, .in = in, .experts = 1};
    if (!t)
        return -1;
    if (out > 1 && t->shape[t->dims - 1] != in) {
        b->status = error_set(b->err, STATUS_BAD_INPUT, "%s: tensor %s: rows of %" PRId64 " values where %" PRId64 " are needed", b->m->path, t->name,
                              t->shape[t->dims - 1], in);
        return -1;
    }
    w.data = t->data;
    w.row_bytes = in * storage_types[t->type].block_bytes;
    return keep(b, t, &w, false);
}

bool values_read(struct binder *b, const struct weight_name *n, int layer, int64_t count, float *out, bool optional)
{
    const struct tensor *t = find_flat(b, n, layer, count, optional);
    if (t)
        format_find(t->type)->decode(t->data, out, count);
    return t != NULL;
}

int rows_bind(struct binder *b, const struct weight_name *n, int layer, const struct row_slices *r, int64_t in)
{
    const struct tensor *t = b->status ? NULL : find(b, n, layer, 0, false);
    if (!t || !check(b, t, (int64_t[]){r->total, in}, 2))
        return -1;
    int64_t row_bytes = (int64_t)(t->bytes / (uint64_t)r->total);
    struct weight w = {.out = r->out, .in = in, .data = t->data + r->first * row_bytes, .row_bytes = row_bytes, .experts = r->pieces,
                       .expert_bytes = r->stride * row_bytes};
    return keep(b, t, &w, true);
}

/* Slices [out, in] of t that are turned over into to: [pieces][in, out]. */
struct turning {
    const struct tensor *t;
    const struct row_slices *rows;
    int64_t in, row_bytes, size; /* size: bytes of a value made */
    unsigned char *to;
};

/* 32 values of 32 rows at a time: of both sides whole cache lines. */
static void turn_some(const struct turning *x, const unsigned char *from, int64_t first, int64_t rows, unsigned char *to)
{
    enum { SOME = 32, MOST = 256 }; /* values of a block at most */
    const struct storage_type *type = &storage_types[x->t->type];
    int64_t step = type->block_elements > SOME ? type->block_elements : SOME;
    for (int64_t at = 0; at < x->in; at += step)
        for (int64_t r = first; r < first + rows; r++) {
            float values[MOST];
            int64_t n = x->in - at < step ? x->in - at : step;
            const unsigned char *some = from + r * x->row_bytes + at / type->block_elements * type->block_bytes;
            if (type->block_elements > 1)
                format_find(x->t->type)->decode(some, values, n), some = (const unsigned char *)values;
            for (int64_t c = 0; c < n; c++)
                memcpy(to + ((at + c) * x->rows->out + r) * x->size, some + c * x->size, (size_t)x->size);
        }
}

static void turn_over(void *argument, int thread, int threads)
{
    const struct turning *x = argument;
    for (int i = thread; i < x->rows->pieces; i += threads)
        for (int64_t r = 0; r < x->rows->out; r += 32)
            turn_some(x, x->t->data + (x->rows->first + i * x->rows->stride) * x->row_bytes, r, x->rows->out - r < 32 ? x->rows->out - r : 32,
                      x->to + (int64_t)i * x->rows->out * x->in * x->size);
}

int rows_bind_transposed(struct binder *b, const struct weight_name *n, int layer, const struct row_slices *r, int64_t in)
{
    const struct tensor *t = b->status ? NULL : find(b, n, layer, 0, false);
    if (!t || !check(b, t, (int64_t[]){r->total, in}, 2))
        return -1;
    bool plain = storage_types[t->type].block_elements == 1;
    enum storage type = plain ? t->type : STORAGE_F32;
    int64_t row_bytes = (int64_t)(t->bytes / (uint64_t)r->total), size = storage_types[type].block_bytes, slice = r->out * in * size;
    unsigned char *made = arena_array(&b->m->arena, (size_t)(slice * r->pieces) + 63, 1);
    if (!made) {
        b->status = error_memory(b->err, "a transposed matrix");
        return -1;
    }
    made += -(uintptr_t)made & 63;
    team_run(team_cores(), turn_over, &(struct turning){t, r, in, row_bytes, size, made});
    struct weight w = {.out = in, .in = r->out, .data = made, .row_bytes = r->out * size, .experts = r->pieces, .expert_bytes = slice};
    int id = keep(b, t, &w, true);
    if (id >= 0) {
        b->m->program.weights[id].format = type;
        b->m->program.weights[id].owner = WEIGHT_DERIVED;
    }
    return id;
}

int stack_bind(struct binder *b, const struct weight_name *n, int layer, int experts, int64_t out, int64_t in)
{
    const unsigned char **expert = NULL;
    const struct tensor *t = NULL, *first = b->status ? NULL : find(b, n, layer, 0, false);
    bool apart = weight_per_expert(n, in_gguf(b)), half = !in_gguf(b) && n->rows >= ROWS_FIRST_HALF;
    const int64_t rows = half ? 2 * out : out, shape[] = {experts, rows, in};
    if (!first || !check(b, first, apart ? shape + 1 : shape, apart ? 2 : 3))
        return -1;
    int64_t row_bytes = (int64_t)(first->bytes / (uint64_t)(apart ? rows : rows * experts)), skip = half && n->rows == ROWS_SECOND_HALF ? out * row_bytes : 0;
    if (apart && !(expert = arena_array(&b->m->arena, (size_t)experts, sizeof *expert))) {
        b->status = error_memory(b->err, "the experts");
        return -1;
    }
    for (int e = 0; apart && e < experts; e++) {
        if (!(t = find(b, n, layer, e, false)) || !check(b, t, shape + 1, 2))
            return -1;
        if (t->type != first->type) {
            b->status = error_set(b->err, STATUS_BAD_INPUT, "%s: tensor %s is %s, but %s is %s: the experts of a layer must have one type", b->m->path, t->name,
                                  storage_types[t->type].name, first->name, storage_types[first->type].name);
            return -1;
        }
        expert[e] = t->data + skip;
    }
    struct weight w = {.out = out, .in = in, .data = first->data + skip, .row_bytes = row_bytes, .experts = experts, .expert_bytes = row_bytes * rows,
                       .expert = expert};
    return keep(b, first, &w, true);
}
