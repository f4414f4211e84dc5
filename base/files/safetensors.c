/* safetensors (github.com/huggingface/safetensors, "Format"):
 *
 *   u64 header length | JSON header {"name": {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__": {...}} | data
 *
 * Rules enforced: header of at most 100 MB inside the file, unique names, begin <= end, no overlap, no hole, no trailing
 * bytes, size = shape x dtype, metadata strings only. Tensors are aligned to nothing. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/files/private.h"
#include "base/json.h"

enum { HEADER_LIMIT = 100000000, INDEX_LIMIT = 256 << 20 };

struct reader {
    struct tensor_set *set;
    const struct mapping *file;
    uint64_t data_size; /* bytes behind the header */
    struct error *err;
};

static enum status bad_tensor(struct reader *r, const struct json_member *m, const char *what)
{
    return error_set(r->err, STATUS_BAD_INPUT, "%s: tensor %s: %s", r->file->path, QUOTE(m->key, m->key_size), what);
}

static enum status read_shape(struct reader *r, const struct json_member *m, const struct json *shape, struct tensor *t, uint64_t *elements)
{
    if (!json_is(shape, JSON_ARRAY))
        return bad_tensor(r, m, "no shape");
    if (shape->size > TENSOR_DIMS)
        return bad_tensor(r, m, "more than 8 dimensions");
    t->dims = (int)shape->size;
    *elements = 1;
    for (int d = 0; d < t->dims; d++) {
        if (!json_int(&shape->items[d], &t->shape[d]) || t->shape[d] < 0)
            return bad_tensor(r, m, "its shape holds something that is no size");
        if (__builtin_mul_overflow(*elements, (uint64_t)t->shape[d], elements) || *elements > INT64_MAX)
            return bad_tensor(r, m, "its shape does not fit 64 bits");
    }
    return STATUS_OK;
}

static enum status read_tensor(struct reader *r, const struct json_member *m, struct tensor *t, const unsigned char *data)
{
    const struct json *dtype = json_get(&m->value, "dtype"), *offsets = json_get(&m->value, "data_offsets");
    if (!json_is(&m->value, JSON_OBJECT) || !json_is(dtype, JSON_STRING))
        return bad_tensor(r, m, "no dtype");
    if (m->key_size == 0 || m->key_size > 65535 || memchr(m->key, 0, m->key_size))
        return bad_tensor(r, m, "its name is empty, too long or holds a NUL");
    t->type = STORAGE_COUNT;
    for (int s = 0; s < STORAGE_COUNT; s++)
        if (storage_types[s].safetensors && json_is_text(dtype, storage_types[s].safetensors))
            t->type = (enum storage)s;
    if (t->type == STORAGE_COUNT)
        return error_set(r->err, STATUS_BAD_INPUT, "%s: tensor %s: unknown dtype %s", r->file->path, QUOTE(m->key, m->key_size),
                         QUOTE(dtype->text, dtype->size));
    uint64_t elements = 0, wanted;
    enum status status = read_shape(r, m, json_get(&m->value, "shape"), t, &elements);
    if (status)
        return status;
    int64_t begin, end;
    if (!json_is(offsets, JSON_ARRAY) || offsets->size != 2 || !json_int(&offsets->items[0], &begin) || !json_int(&offsets->items[1], &end))
        return bad_tensor(r, m, "data_offsets are not two integers");
    if (begin < 0 || end < begin || (uint64_t)end > r->data_size)
        return bad_tensor(r, m, "its data lie outside the file; the download may be incomplete");
    if (!storage_bytes(t->type, elements, &wanted) || wanted != (uint64_t)(end - begin))
        return bad_tensor(r, m, "its bytes do not match shape and dtype");
    t->name = arena_copy(&r->set->arena, m->key, m->key_size);
    t->data = data + begin;
    t->bytes = wanted;
    return t->name ? STATUS_OK : error_memory(r->err, "names");
}

static int compare_data(const void *a, const void *b)
{
    const struct tensor *x = *(const struct tensor *const *)a, *y = *(const struct tensor *const *)b;
    if (x->data != y->data)
        return x->data < y->data ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* In order of their data the tensors must touch: no overlap, no hole, nothing behind the last. */
static enum status check_layout(struct reader *r, const struct tensor *tensors, uint64_t count, const unsigned char *data)
{
    const struct tensor **sorted = malloc((count + 1) * sizeof *sorted);
    if (!sorted)
        return error_memory(r->err, "the list of tensors");
    for (uint64_t i = 0; i < count; i++)
        sorted[i] = &tensors[i];
    qsort(sorted, count, sizeof *sorted, compare_data);
    enum status status = STATUS_OK;
    const unsigned char *at = data;
    for (uint64_t i = 0; i < count && !status; i++) {
        if (sorted[i]->data != at)
            status = error_set(r->err, STATUS_BAD_INPUT, "%s: tensor %s %s", r->file->path, QUOTE(sorted[i]->name, strlen(sorted[i]->name)),
                               sorted[i]->data < at ? "shares bytes with another tensor" : "leaves a hole in front of it");
        at = sorted[i]->data + sorted[i]->bytes;
    }
    if (!status && (uint64_t)(at - data) != r->data_size)
        status = error_set(r->err, STATUS_BAD_INPUT, "%s: %" PRIu64 " bytes follow the last tensor", r->file->path,
                           r->data_size - (uint64_t)(at - data));
    free(sorted);
    return status;
}

static enum status check_metadata(struct reader *r, const struct json *metadata)
{
    bool right = json_is(metadata, JSON_OBJECT);
    for (uint32_t i = 0; right && i < metadata->size; i++)
        right = metadata->members[i].value.kind == JSON_STRING;
    return right ? STATUS_OK : error_set(r->err, STATUS_BAD_INPUT, "%s: __metadata__ must map strings to strings", r->file->path);
}

static enum status parse_header(struct reader *r, const struct json *root, const unsigned char *data)
{
    struct tensor_set *set = r->set;
    uint64_t before = (uint64_t)set->tensor_count, count = 0;
    struct tensor *all = arena_array(&set->arena, before + root->size, sizeof *all);
    if (!all)
        return error_memory(r->err, "the list of tensors");
    if (before)
        memcpy(all, set->tensors, before * sizeof *all);
    for (uint32_t i = 0; i < root->size; i++) {
        const struct json_member *m = &root->members[i];
        bool metadata = m->key_size == 12 && memcmp(m->key, "__metadata__", 12) == 0;
        enum status status = metadata ? check_metadata(r, &m->value) : read_tensor(r, m, &all[before + count], data);
        if (status)
            return status;
        count += !metadata;
    }
    set->tensors = all;
    set->tensor_count = (int64_t)(before + count);
    return check_layout(r, all + before, count, data);
}

static enum status read_file(struct tensor_set *set, const char *path, enum mapping_kind kind, struct error *err)
{
    struct mapping *file;
    enum status status = tensor_set_add_file(set, path, kind, &file, err);
    if (status)
        return status;
    struct reader r = {.set = set, .file = file, .err = err};
    uint64_t length;
    if (file->size >= 8 && memcmp(file->data, "version ", 8) == 0)
        return error_set(err, STATUS_BAD_INPUT, "%s: a Git LFS pointer instead of the weights; fetch the file with git lfs pull", path);
    if (file->size < 8)
        return error_set(err, STATUS_BAD_INPUT, "%s: %zu bytes are no safetensors file (no header); fetch it again", path, file->size);
    memcpy(&length, file->data, 8);
    if (length == 0 || length > HEADER_LIMIT || length > file->size - 8)
        return error_set(err, STATUS_BAD_INPUT, "%s: a header of %" PRIu64 " bytes in a file of %zu; not a safetensors file, or cut short",
                         path, length, file->size);
    r.data_size = file->size - 8 - length;
    struct arena arena = {0};
    struct json root;
    struct json_options options = {.depth = 16, .unique = true};
    const char *text = (const char *)file->data + 8;
    if (text[0] != '{')
        status = error_set(err, STATUS_BAD_INPUT, "%s: the header is no JSON object; not a safetensors file", path);
    else if ((status = json_parse(&arena, text, length, &options, &root, err)))
        error_prefix(err, "%s: header", path);
    else
        status = parse_header(&r, &root, (const unsigned char *)text + length);
    arena_free(&arena);
    return status;
}

/* ---- shards --------------------------------------------------------------------------------------------------------- */

/* Drops tensors of the last file that the index gives to another shard. */
static void keep_mapped(struct tensor_set *set, int64_t from, const struct json *map, const struct json *shard)
{
    int64_t kept = from;
    for (int64_t i = from; i < set->tensor_count; i++) {
        const struct json *v = json_get(map, set->tensors[i].name);
        if (v && v->size == shard->size && memcmp(v->text, shard->text, v->size) == 0)
            set->tensors[kept++] = set->tensors[i];
    }
    set->tensor_count = kept;
}

static enum status read_shards(struct tensor_set *set, const char *folder, const char *index_path, const struct json *map,
                               enum mapping_kind kind, struct error *err)
{
    const struct json **seen = arena_array(&set->arena, map->size, sizeof *seen);
    uint32_t shards = 0;
    if (!seen)
        return error_memory(err, "the shards");
    for (uint32_t i = 0; i < map->size; i++) {
        const struct json *name = &map->members[i].value;
        if (name->kind != JSON_STRING)
            return error_set(err, STATUS_BAD_INPUT, "%s: weight_map: the file of %s is no string", index_path,
                             QUOTE(map->members[i].key, map->members[i].key_size));
        if (!file_is_plain_name(name->text, name->size))
            return error_set(err, STATUS_BAD_INPUT, "%s: weight_map names %s, which is no file name in this folder", index_path,
                             QUOTE(name->text, name->size));
        uint32_t s = 0;
        while (s < shards && (seen[s]->size != name->size || memcmp(seen[s]->text, name->text, name->size) != 0))
            s++;
        if (s < shards)
            continue;
        if (shards >= 4096)
            return error_set(err, STATUS_BAD_INPUT, "%s: more than 4096 shards", index_path);
        seen[shards++] = name;
    }
    for (uint32_t s = 0; s < shards; s++) {
        char *file = arena_copy(&set->arena, seen[s]->text, seen[s]->size), *path = file ? file_join(&set->arena, folder, file) : NULL;
        if (!path)
            return error_memory(err, "the shards");
        int64_t from = set->tensor_count;
        enum status status = read_file(set, path, kind, err);
        if (status)
            return status;
        keep_mapped(set, from, map, seen[s]);
    }
    return STATUS_OK;
}

/* Everything the map promises must be there. */
static enum status check_promises(const struct tensor_set *set, const char *index_path, const struct json *map, struct error *err)
{
    struct arena arena = {0};
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < map->size && !status; i++) {
        const struct json_member *m = &map->members[i];
        char *name = memchr(m->key, 0, m->key_size) ? NULL : arena_copy(&arena, m->key, m->key_size);
        if (!name || !tensor_find(set, name))
            status = error_set(err, STATUS_BAD_INPUT, "%s: tensor %s is not in %s, where weight_map puts it", index_path,
                               QUOTE(m->key, m->key_size), QUOTE(m->value.text, m->value.size));
    }
    arena_free(&arena);
    return status;
}

static enum status read_index(struct tensor_set *set, const char *folder, const char *index_path, enum mapping_kind kind, struct error *err)
{
    char *text;
    size_t size;
    struct json root;
    struct json_options options = {.depth = 16};
    enum status status = file_read(&set->arena, index_path, INDEX_LIMIT, &text, &size, err);
    if (status)
        return status;
    if ((status = json_parse(&set->arena, text, size, &options, &root, err)))
        return error_prefix(err, "%s", index_path), status;
    const struct json *map = json_get(&root, "weight_map");
    if (!json_is(map, JSON_OBJECT) || map->size == 0)
        return error_set(err, STATUS_BAD_INPUT, "%s: no weight_map", index_path);
    if ((status = read_shards(set, folder, index_path, map, kind, err)) || (status = tensor_set_index(set, err)))
        return status;
    return check_promises(set, index_path, map, err);
}

enum status safetensors_open(struct tensor_set **out, const char *path, enum mapping_kind kind, struct error *err)
{
    *out = NULL;
    struct tensor_set *set = calloc(1, sizeof *set);
    if (!set)
        return error_memory(err, "a checkpoint");
    enum status status;
    if (file_is_folder(path)) {
        char *index = file_join(&set->arena, path, "model.safetensors.index.json");
        char *single = file_join(&set->arena, path, "model.safetensors");
        if (!index || !single)
            status = error_memory(err, "a path");
        else if (file_exists(index))
            status = read_index(set, path, index, kind, err);
        else if (!(status = read_file(set, single, kind, err)) && (status = tensor_set_index(set, err)))
            error_prefix(err, "%s", single);
    } else if (!(status = read_file(set, path, kind, err)) && (status = tensor_set_index(set, err))) {
        error_prefix(err, "%s", path);
    }
    if (status) {
        tensor_set_close(set);
        return status;
    }
    *out = set;
    return STATUS_OK;
}
