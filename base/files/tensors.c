/* What both containers share: lookup by name, metadata getters, closing. */
#include "base/files/tensors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/files/name_index.h"
#include "base/files/private.h"

static const char *tensor_name(const void *list, int32_t i) { return ((const struct tensor *)list)[i].name; }

enum status tensor_set_index(struct tensor_set *set, struct error *err)
{
    set->index = arena_alloc(&set->arena, sizeof *set->index);
    if (!set->index || !name_index_init(set->index, &set->arena, (uint64_t)set->tensor_count))
        return error_memory(err, "the list of tensors");
    for (int64_t i = 0; i < set->tensor_count; i++) {
        int32_t *slot = name_index_slot(set->index, set->tensors[i].name, tensor_name, set->tensors);
        if (*slot >= 0)
            return error_set(err, STATUS_BAD_INPUT, "two tensors are called %s",
                             QUOTE(set->tensors[i].name, strlen(set->tensors[i].name)));
        *slot = (int32_t)i;
        set->data_bytes += set->tensors[i].bytes;
    }
    return STATUS_OK;
}

const struct tensor *tensor_find(const struct tensor_set *set, const char *name)
{
    if (!set->index)
        return NULL;
    int32_t i = *name_index_slot(set->index, name, tensor_name, set->tensors);
    return i >= 0 ? &set->tensors[i] : NULL;
}

enum status tensor_set_add_file(struct tensor_set *set, const char *path, enum mapping_kind kind, struct mapping **out, struct error *err)
{
    struct mapping **files = realloc(set->files, (size_t)(set->file_count + 1) * sizeof *files);
    if (!files)
        return error_memory(err, "the list of files");
    set->files = files;
    enum status status = mapping_open(out, path, kind, err);
    if (!status)
        set->files[set->file_count++] = *out;
    return status;
}

void tensor_set_close(struct tensor_set *set)
{
    if (!set)
        return;
    for (int i = 0; i < set->file_count; i++)
        mapping_close(set->files[i]);
    free(set->files);
    arena_free(&set->arena);
    free(set);
}

const char *tensor_set_lost(const struct tensor_set *set)
{
    for (int i = 0; i < set->file_count; i++)
        if (mapping_lost(set->files[i]))
            return set->files[i]->path;
    return NULL;
}

/* ---- metadata ------------------------------------------------------------------------------------------------------- */

static const char *const type_names[] = {"u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64"};

const struct meta *meta_find(const struct tensor_set *set, const char *key)
{
    for (int64_t i = 0; i < set->meta_count; i++)
        if (strcmp(set->metas[i].key, key) == 0)
            return &set->metas[i];
    return NULL;
}

static enum status wrong_type(const struct meta *m, const char *wanted, struct error *err)
{
    return error_set(err, STATUS_BAD_INPUT, "%s: holds %s where %s is needed", m->key, type_names[m->type], wanted);
}

bool meta_integer(enum meta_type type, const unsigned char *data, int64_t *out)
{
    union {
        uint8_t u8;
        int8_t i8;
        uint16_t u16;
        int16_t i16;
        uint32_t u32;
        int32_t i32;
        uint64_t u64;
        int64_t i64;
    } v = {0};
    switch (type) {
    case META_U8: memcpy(&v, data, 1); *out = v.u8; return true;
    case META_I8: memcpy(&v, data, 1); *out = v.i8; return true;
    case META_U16: memcpy(&v, data, 2); *out = v.u16; return true;
    case META_I16: memcpy(&v, data, 2); *out = v.i16; return true;
    case META_U32: memcpy(&v, data, 4); *out = v.u32; return true;
    case META_I32: memcpy(&v, data, 4); *out = v.i32; return true;
    case META_U64: memcpy(&v, data, 8); *out = v.i64; return v.u64 <= INT64_MAX;
    case META_I64: memcpy(&v, data, 8); *out = v.i64; return true;
    default: return false;
    }
}

enum status meta_int(const struct tensor_set *set, const char *key, int64_t *out, bool *found, struct error *err)
{
    const struct meta *m = meta_find(set, key);
    if (found)
        *found = m != NULL;
    if (m && !meta_integer(m->type, m->data, out))
        return wrong_type(m, "an integer that fits 63 bits", err);
    return STATUS_OK;
}

enum status meta_float(const struct tensor_set *set, const char *key, double *out, bool *found, struct error *err)
{
    const struct meta *m = meta_find(set, key);
    int64_t integer;
    if (found)
        *found = m != NULL;
    if (!m)
        return STATUS_OK;
    if (m->type == META_F32) {
        float f;
        memcpy(&f, m->data, sizeof f);
        *out = (double)f;
    } else if (m->type == META_F64) {
        memcpy(out, m->data, sizeof *out);
    } else if (meta_integer(m->type, m->data, &integer)) {
        *out = (double)integer;
    } else {
        return wrong_type(m, "a number", err);
    }
    if (!isfinite(*out))
        return error_set(err, STATUS_BAD_INPUT, "%s: not a finite number", key);
    return STATUS_OK;
}

enum status meta_bool(const struct tensor_set *set, const char *key, bool *out, bool *found, struct error *err)
{
    const struct meta *m = meta_find(set, key);
    if (found)
        *found = m != NULL;
    if (!m)
        return STATUS_OK;
    if (m->type != META_BOOL)
        return wrong_type(m, "bool", err);
    *out = *m->data != 0;
    return STATUS_OK;
}

enum status meta_string(const struct tensor_set *set, const char *key, const char **out, uint64_t *size, bool *found, struct error *err)
{
    const struct meta *m = meta_find(set, key);
    if (found)
        *found = m != NULL;
    if (!m)
        return STATUS_OK;
    if (m->type != META_STRING)
        return wrong_type(m, "string", err);
    *out = (const char *)m->data;
    *size = m->count;
    return STATUS_OK;
}

enum status meta_array(const struct tensor_set *set, const char *key, enum meta_type element, const struct meta **out, struct error *err)
{
    const struct meta *m = meta_find(set, key);
    *out = NULL;
    if (!m)
        return STATUS_OK;
    if (m->type != META_ARRAY)
        return wrong_type(m, "array", err);
    if (m->element != element)
        return error_set(err, STATUS_BAD_INPUT, "%s: an array of %s where %s is needed", key, type_names[m->element], type_names[element]);
    *out = m;
    return STATUS_OK;
}

const char *meta_next_string(const struct meta *array, uint64_t *at, uint64_t *size)
{
    uint64_t n;
    memcpy(&n, array->data + *at, 8);
    const char *text = (const char *)array->data + *at + 8;
    *at += 8 + n;
    *size = n;
    return text;
}
