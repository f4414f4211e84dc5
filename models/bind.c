/* From names to weight views. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "models/private.h"

void weight_spell(const struct weight_name *n, const char *prefix, int layer, char *out, size_t size)
{
    char format[160];
    if (prefix)
        snprintf(format, sizeof format, "%s%s", n->base ? prefix : "", n->hf);
    else
        snprintf(format, sizeof format, "%s", n->gguf);
    const char *percent = strstr(format, "%d"); /* our own tables: at most one %d */
    if (percent)
        snprintf(out, size, "%.*s%d%s", (int)(percent - format), format, layer, percent + 2);
    else
        snprintf(out, size, "%s", format);
}

static void name_weight(const struct binder *b, const struct weight_name *n, int layer, char *out, size_t size)
{
    weight_spell(n, b->m->container == MODEL_GGUF ? NULL : b->prefix, layer, out, size);
}

const char *weight_prefix(const struct model *m, const struct weight_name *embedding)
{
    static const char *const prefixes[] = {"model.", "", "transformer.", "model.language_model.", "language_model.model."};
    char name[200];
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        weight_spell(embedding, prefixes[i], 0, name, sizeof name);
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
    name_weight(b, n, layer, name, sizeof name);
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

int weight_bind(struct binder *b, const struct weight_name *n, int layer, int64_t out, int64_t in, bool optional)
{
    if (b->status)
        return -1;
    char name[200];
    name_weight(b, n, layer, name, sizeof name);
    const struct tensor *t = tensor_find(b->m->tensors, name);
    if (!t) {
        if (!optional)
            b->status = error_set(b->err, STATUS_BAD_INPUT, "%s: tensor %s is missing", b->m->path, name);
        return -1;
    }
    bool vector = out == 1;
    int64_t rows = t->dims == 2 ? t->shape[0] : 1, columns = t->dims ? t->shape[t->dims - 1] : 0;
    if (t->dims != (vector ? 1 : 2) || rows != out || columns != in) {
        char shape[64] = "";
        for (int d = 0; d < t->dims && d < 3; d++)
            snprintf(shape + strlen(shape), sizeof shape - strlen(shape), "%s%" PRId64, d ? ", " : "", t->shape[d]);
        b->status = error_set(b->err, STATUS_BAD_INPUT, "%s: tensor %s has shape [%s] where [%s%" PRId64 "] is needed", b->m->path, name, shape,
                              vector ? "" : (char[32]){0}, in);
        if (!vector)
            b->status = error_set(b->err, STATUS_BAD_INPUT, "%s: tensor %s has shape [%s] where [%" PRId64 ", %" PRId64 "] is needed",
                                  b->m->path, name, shape, out, in);
        return -1;
    }
    bool plain = t->type == STORAGE_F32 || t->type == STORAGE_F16 || t->type == STORAGE_BF16;
    if (!format_find(t->type) || (vector && !plain)) {
        b->status = error_set(b->err, STATUS_BAD_INPUT, "%s: tensor %s: type %s is not supported%s", b->m->path, name, storage_types[t->type].name,
                              vector ? " for norms and biases" : " yet");
        return -1;
    }
    struct weight w = {.name = t->name,
                       .format = t->type,
                       .out = out,
                       .in = in,
                       .data = t->data,
                       .row_bytes = (int64_t)(t->bytes / (uint64_t)out),
                       .experts = 1,
                       .shard_axis = -1,
                       .owner = WEIGHT_MAPPED};
    const struct tensor *factor;
    if (!vector && b->m->container == MODEL_GGUF && (b->status = weight_factor(b->m->tensors, t->name, &factor, &w.factor, b->err))) {
        error_prefix(b->err, "%s", b->m->path);
        return -1;
    }
    b->m->weight_bytes += t->bytes;
    b->m->parameters += (uint64_t)(out * in);
    return program_weight(&b->m->program, &w);
}
