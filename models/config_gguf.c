/* GGUF metadata. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "models/private.h"

enum { REQUIRED = -1 };

/* A number, or the largest of a list that has one for each layer (hybrids have no kv heads in some). */
static enum status read_int(const struct tensor_set *set, const char *key, int64_t *out, bool *found, struct error *err)
{
    const struct meta *m = meta_find(set, key), *list;
    if (!m || m->type != META_ARRAY)
        return meta_int(set, key, out, found, err);
    enum status status = meta_array(set, key, m->element == META_U32 ? META_U32 : META_I32, &list, err);
    int64_t most = 0;
    for (uint64_t i = 0; !status && i < list->count; i++) {
        int32_t value;
        memcpy(&value, list->data + 4 * i, 4);
        most = value > most ? value : most;
    }
    *found = true;
    *out = most;
    return status;
}

static enum status read_size(const struct tensor_set *set, const char *arch, const char *suffix, int64_t low, int64_t high,
                             int64_t standard, int64_t *out, struct error *err)
{
    char key[160];
    bool found;
    *out = standard;
    if (!suffix)
        return STATUS_OK;
    for (const char *at = suffix; at; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL) { /* the first that is there, or else the last */
        snprintf(key, sizeof key, "%s.%.*s", arch, (int)strcspn(at, "|"), at);
        if (meta_find(set, key))
            break;
    }
    enum status status = read_int(set, key, out, &found, err);
    if (status)
        return status;
    if (!found)
        return standard == REQUIRED ? error_set(err, STATUS_BAD_INPUT, "%s is missing", key) : STATUS_OK;
    if (*out == 0 && standard == 0)
        return STATUS_OK;
    if (*out < low || *out > high)
        return error_set(err, STATUS_BAD_INPUT, "%s is %" PRId64 "; %" PRId64 " to %" PRId64 " are possible", key, *out, low, high);
    return STATUS_OK;
}

static enum status read_real(const struct tensor_set *set, const char *arch, const char *suffix, double standard, double *out, struct error *err)
{
    char key[160];
    snprintf(key, sizeof key, "%s.%s", arch, suffix);
    *out = standard;
    return meta_float(set, key, out, NULL, err);
}

static enum status read_values(struct model *m, const char *arch, struct error *err)
{
    struct config *c = &m->config;
    const struct tensor_set *set = m->tensors;
    enum status status;
#define SIZE(field, key, gguf, low, high, standard)                                      \
    if ((status = read_size(set, arch, gguf, low, high, standard, &c->field, err))) \
        return status;
#define REAL(field, key, gguf, standard)                                         \
    if ((status = read_real(set, arch, gguf, standard, &c->field, err))) \
        return status;
#define SWITCH(field, key, standard) c->field = standard;
#include "models/config.def"
#undef SIZE
#undef REAL
#undef SWITCH
    return STATUS_OK;
}

/* llama's files have the rows of rotated heads in the order of neighbouring pairs; most others leave them alone. */
static bool turns_neighbours(const struct family *f)
{
    for (int i = 0; i < *f->name_count; i++)
        if (f->names[i].rows == ROWS_OF_HEADS)
            return true;
    return false;
}

enum status config_read_gguf(struct model *m, const struct family **family, struct error *err)
{
    const char *text = NULL;
    uint64_t size = 0;
    bool found;
    enum status status = meta_string(m->tensors, "general.architecture", &text, &size, &found, err);
    if (status)
        return status;
    if (!found)
        return error_set(err, STATUS_BAD_INPUT, "general.architecture is missing");
    *family = NULL;
    for (int i = 0; i < family_count; i++)
        if (families[i].architecture && strlen(families[i].architecture) == size && !memcmp(families[i].architecture, text, size))
            *family = &families[i];
    char known[512];
    if (!*family)
        return error_set(err, STATUS_BAD_INPUT, "architecture %s is not supported; built in are %s", QUOTE(text, size),
                         family_list(known, sizeof known));
    const char *arch = (*family)->architecture;
    m->config.family = arch;
    m->config.dtype = "";
    m->config.activation = ACT_SILU;
    m->sampling = (struct sampling_defaults){NAN, NAN, NAN, NAN, -1, -1};
    if ((status = read_values(m, arch, err)))
        return status;
    const struct tensor *embedding = tensor_find(m->tensors, "token_embd.weight");
    if (!embedding || embedding->dims != 2)
        return error_set(err, STATUS_BAD_INPUT, "token_embd.weight is missing or no matrix; is this a vocabulary-only file?");
    m->config.vocab = embedding->shape[0]; /* what is there counts, vocab_size is only said */
    m->config.tied = tensor_find(m->tensors, "output.weight") == NULL;
    if ((status = rope_read_gguf(m, arch, err)))
        return status;
    m->config.rope.interleaved = turns_neighbours(*family);
    m->config.dt_most = INFINITY;
    if (!strcmp(arch, "granitehybrid")) { /* says so by a key of another use */
        bool turns = true;
        if ((status = meta_bool(m->tensors, "granitehybrid.rope.scaling.finetuned", &turns, NULL, err)))
            return status;
        m->config.nope = !turns;
    }
    return config_finish(m, err);
}
