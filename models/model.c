/* Opening a checkpoint: container, configuration, family. */
#include "models/model.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "models/private.h"

#define FAMILY(model_type, architecture, file)                            \
    enum status family_##file(struct model *m, struct error *err);        \
    extern const struct weight_name family_##file##_names[]; \
    extern const int family_##file##_name_count;
#include "models/families.def"
#undef FAMILY

const struct family families[] = {
#define FAMILY(model_type, architecture, file) {model_type, architecture, family_##file, family_##file##_names, &family_##file##_name_count},
#include "models/families.def"
#undef FAMILY
};
const int family_count = sizeof families / sizeof *families;

const char *const model_families[] = {
#define FAMILY(model_type, architecture, file) model_type,
#include "models/families.def"
#undef FAMILY
    NULL};

const char *family_list(char *out, size_t size)
{
    size_t n = 0;
    out[0] = 0;
    for (int i = 0; i < family_count; i++) {
        size_t need = strlen(families[i].model_type);
        if (n + need + 3 > size)
            break;
        if (n) {
            memcpy(out + n, ", ", 2);
            n += 2;
        }
        memcpy(out + n, families[i].model_type, need + 1);
        n += need;
    }
    return out;
}

static enum status open_gguf(struct model *m, enum mapping_kind kind, const struct family **family, struct error *err)
{
    m->container = MODEL_GGUF;
    enum status status = gguf_open(&m->tensors, m->path, kind, err);
    if (!status && (status = config_read_gguf(m, family, err)))
        error_prefix(err, "%s", m->path);
    return status;
}

static enum status open_safetensors(struct model *m, enum mapping_kind kind, const struct family **family, struct error *err)
{
    m->container = MODEL_SAFETENSORS;
    char *slash = strrchr(m->path, '/');
    m->folder = file_is_folder(m->path) ? m->path : slash ? arena_copy(&m->arena, m->path, (size_t)(slash - m->path) + (slash == m->path)) : ".";
    char *config = m->folder ? file_join(&m->arena, m->folder, "config.json") : NULL;
    if (!config)
        return error_memory(err, "a path");
    if (access(config, F_OK) && file_is_folder(m->path))
        return error_set(err, STATUS_NOT_FOUND, "%s: the folder holds no config.json; is it the model's own folder? A .gguf file in it is named itself",
                         QUOTE(m->path, strlen(m->path)));
    if (access(config, F_OK))
        return error_set(err, STATUS_BAD_INPUT, "%s: neither a .gguf file, nor weights with a config.json beside them", QUOTE(m->path, strlen(m->path)));
    enum status status = config_read_json(m, config, family, err);
    return status ? status : safetensors_open(&m->tensors, m->path, kind, err);
}

enum status model_open(struct model **out, const char *path, enum mapping_kind kind, struct error *err)
{
    *out = NULL;
    struct model *m = calloc(1, sizeof *m);
    if (!m)
        return error_memory(err, "a model");
    m->program.arena = &m->arena;
    m->path = arena_copy(&m->arena, path, strlen(path));
    const struct family *family = NULL;
    size_t n = strlen(path);
    bool gguf = n > 5 && strcmp(path + n - 5, ".gguf") == 0;
    enum status status = !m->path                     ? error_memory(err, "a path")
                         : gguf || gguf_is(path)      ? open_gguf(m, kind, &family, err)
                                                      : open_safetensors(m, kind, &family, err);
    m->family = family;
    if (!status)
        status = family->write(m, err);
    if (!status)
        status = program_check(&m->program, err);
    if (status) {
        model_close(m);
        return status;
    }
    *out = m;
    return STATUS_OK;
}

void model_close(struct model *m)
{
    if (!m)
        return;
    tensor_set_close(m->tensors);
    tensor_set_close(m->quantised);
    arena_free(&m->arena);
    free(m);
}

const char *model_lost(const struct model *m)
{
    const char *lost = tensor_set_lost(m->tensors);
    return lost || !m->quantised ? lost : tensor_set_lost(m->quantised);
}

uint64_t model_read_bytes(const struct model *m)
{
    const struct program *p = &m->program;
    return m->weight_bytes - (program_weight_bytes(p, 0, p->op_count) - program_read_bytes(p, 0, p->op_count));
}

/* A view into a matrix (a slice of rows, an expert) becomes the same view into its blocks. */
static void use(struct weight *w, const struct tensor *from, const struct tensor *to)
{
    int64_t row = (w->data - from->data) / w->row_bytes, rows_of_expert = w->expert_bytes / w->row_bytes;
    w->row_bytes = w->in / storage_types[to->type].block_elements * storage_types[to->type].block_bytes;
    w->expert_bytes = rows_of_expert * w->row_bytes;
    w->data = to->data ? to->data + row * w->row_bytes : NULL;
    w->format = to->type;
    w->owner = WEIGHT_DERIVED;
}

/* Matrices of experts that are tensors of their own, by where they lie. */
struct place {
    const unsigned char *data;
    int weight, expert;
};

static int by_data(const void *a, const void *b)
{
    const struct place *p = a, *q = b;
    return p->data < q->data ? -1 : p->data > q->data;
}

static int64_t list_experts(const struct program *p, struct place *out)
{
    int64_t count = 0;
    for (int i = 0; i < p->weight_count; i++)
        for (int e = 0; p->weights[i].expert && e < p->weights[i].experts; e++, count++)
            if (out)
                out[count] = (struct place){p->weights[i].expert[e], i, e};
    return count;
}

/* All experts of a layer become blocks of one type, or none does. */
static enum status use_experts(struct model *m, const struct tensor *tensors, int64_t count, struct error *err)
{
    struct program *p = &m->program;
    int64_t experts = list_experts(p, NULL);
    struct place *places = experts ? malloc((size_t)experts * sizeof *places) : NULL;
    const unsigned char ***made = arena_array(&m->arena, (size_t)p->weight_count + 1, sizeof *made);
    if ((experts && !places) || !made) {
        free(places);
        return error_memory(err, "the experts");
    }
    list_experts(p, places);
    qsort(places, (size_t)experts, sizeof *places, by_data);
    enum status status = STATUS_OK;
    for (int64_t k = 0; k < count && experts && !status; k++) {
        const struct tensor *from = tensor_find(m->tensors, tensors[k].name);
        const struct place *at = from ? bsearch(&(struct place){.data = from->data}, places, (size_t)experts, sizeof *at, by_data) : NULL;
        if (!at)
            continue;
        struct weight *w = &p->weights[at->weight];
        if (!made[at->weight]) {
            made[at->weight] = arena_array(&m->arena, (size_t)w->experts, sizeof *w->expert);
            m->weight_bytes -= (uint64_t)(w->row_bytes * w->out * w->experts);
            w->row_bytes = w->in / storage_types[tensors[k].type].block_elements * storage_types[tensors[k].type].block_bytes;
            w->format = tensors[k].type;
            w->owner = WEIGHT_DERIVED;
            m->weight_bytes += (uint64_t)(w->row_bytes * w->out * w->experts);
        }
        if (made[at->weight])
            made[at->weight][at->expert] = tensors[k].data;
        else
            status = error_memory(err, "the experts");
    }
    for (int i = 0; i < p->weight_count && !status; i++)
        if (made[i]) {
            p->weights[i].expert = made[i];
            p->weights[i].data = made[i][0];
        }
    free(places);
    return status;
}

enum status model_use(struct model *m, const struct tensor *tensors, int64_t count, struct error *err)
{
    struct program *p = &m->program;
    enum status status = use_experts(m, tensors, count, err);
    if (status)
        return status;
    for (int i = 0; i < p->weight_count; i++) {
        struct weight *w = &p->weights[i];
        const struct tensor *from = w->expert ? NULL : tensor_find(m->tensors, w->name);
        bool view = from && from->data && w->data >= from->data && w->data < from->data + from->bytes; /* not made from it */
        for (int64_t k = 0; k < count && view && !w->transposed && !w->scales; k++) {
            if (strcmp(tensors[k].name, w->name) || from->shape[from->dims - 1] != w->in)
                continue;
            m->weight_bytes -= (uint64_t)(w->row_bytes * w->out * w->experts);
            use(w, from, &tensors[k]);
            m->weight_bytes += (uint64_t)(w->row_bytes * w->out * w->experts);
        }
    }
    return STATUS_OK;
}
