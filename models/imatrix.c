/* llama.cpp's imatrix files: for each matrix, by its GGUF name, the sum of squares of every input column.
 *
 *   GGUF   tensors NAME.in_sum2 [matrices, columns] and NAME.counts [matrices]
 *   .dat   i32 entries | each: i32 size, name | i32 calls | i32 values | float32 values | then remarks
 *
 * Only the ratio of columns within a matrix matters, so counts are not looked at; an expert that was never met has sums of 0, which
 * count alike. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mapping.h"
#include "models/private.h"

struct entry {
    const char *name;
    const float *values; /* [count], in the arena */
    int64_t count;
};

struct imatrix {
    struct arena arena;
    char *path;
    struct entry *entries; /* by name */
    int64_t count;
};

static int by_name(const void *a, const void *b) { return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name); }

/* A copy that is aligned and known to be numbers. */
static enum status take(struct imatrix *im, struct entry *e, const char *name, size_t size, const unsigned char *data, uint64_t count, struct error *err)
{
    char *kept = arena_copy(&im->arena, name, size);
    float *values = arena_array(&im->arena, (size_t)count, sizeof *values);
    if (!kept || !values)
        return error_memory(err, "an imatrix");
    memcpy(values, data, (size_t)count * sizeof *values);
    for (uint64_t i = 0; i < count; i++)
        if (!(values[i] >= 0 && values[i] < INFINITY))
            return error_set(err, STATUS_BAD_INPUT, "%s: the importance of column %" PRIu64 " is %g", QUOTE(name, size), i, (double)values[i]);
    *e = (struct entry){kept, values, (int64_t)count};
    return STATUS_OK;
}

static enum status read_gguf(struct imatrix *im, struct error *err)
{
    static const char sums[] = ".in_sum2";
    struct tensor_set *set;
    enum status status = gguf_open(&set, im->path, MAPPING_FILE, err);
    if (status)
        return status;
    im->entries = arena_array(&im->arena, (size_t)set->tensor_count + 1, sizeof *im->entries);
    if (!im->entries)
        status = error_memory(err, "an imatrix");
    for (int64_t i = 0; i < set->tensor_count && !status; i++) {
        const struct tensor *t = &set->tensors[i];
        size_t n = strlen(t->name), tail = sizeof sums - 1;
        if (n <= tail || strcmp(t->name + n - tail, sums))
            continue;
        if (t->type != STORAGE_F32)
            status = error_set(err, STATUS_BAD_INPUT, "tensor %s is %s; sums are F32", QUOTE(t->name, n), storage_types[t->type].name);
        else
            status = take(im, &im->entries[im->count++], t->name, n - tail, t->data, t->bytes / 4, err);
    }
    tensor_set_close(set);
    return status;
}

/* The next integer of the .dat form; so many times `unit` bytes must follow it. */
static enum status next_int(const struct mapping *m, size_t *at, uint64_t unit, int32_t *out, struct error *err)
{
    if (m->size - *at < 4)
        return error_set(err, STATUS_BAD_INPUT, "the file ends within an entry, or is no imatrix");
    memcpy(out, m->data + *at, 4);
    *at += 4;
    if (*out < 0 || (uint64_t)*out * unit > m->size - *at)
        return error_set(err, STATUS_BAD_INPUT, "%" PRId32 " at byte %zu is more than the file holds; is it an imatrix?", *out, *at - 4);
    return STATUS_OK;
}

static enum status read_dat(struct imatrix *im, struct error *err)
{
    struct mapping *m;
    enum status status = mapping_open(&m, im->path, MAPPING_FILE, err);
    if (status)
        return status;
    size_t at = 0;
    int32_t entries = 0, size = 0, calls, count = 0;
    status = next_int(m, &at, 16, &entries, err); /* an entry has at least its integers and one value */
    if (!status && !entries)
        status = error_set(err, STATUS_BAD_INPUT, "no entries");
    im->entries = status ? NULL : arena_array(&im->arena, (size_t)entries, sizeof *im->entries);
    if (!status && !im->entries)
        status = error_memory(err, "an imatrix");
    while (!status && im->count < entries) {
        const char *name = NULL;
        if (!(status = next_int(m, &at, 1, &size, err))) {
            name = (const char *)m->data + at;
            at += (size_t)size;
        }
        if (!status && !(status = next_int(m, &at, 0, &calls, err)) && !(status = next_int(m, &at, 4, &count, err))) {
            status = take(im, &im->entries[im->count++], name, (size_t)size, m->data + at, (uint64_t)count, err);
            at += (size_t)count * 4;
        }
    }
    mapping_close(m);
    return status;
}

enum status imatrix_open(struct imatrix **out, const char *path, struct error *err)
{
    struct imatrix *im = *out = calloc(1, sizeof *im);
    if (!im || !(im->path = arena_copy(&im->arena, path, strlen(path)))) {
        imatrix_close(im);
        *out = NULL;
        return error_memory(err, "an imatrix");
    }
    enum status status = gguf_is(path) ? read_gguf(im, err) : read_dat(im, err);
    if (!status && !im->count)
        status = error_set(err, STATUS_BAD_INPUT, "no tensor NAME.in_sum2: is it an imatrix?");
    if (status) {
        error_prefix(err, "%s", path);
        imatrix_close(im);
        *out = NULL;
        return status;
    }
    qsort(im->entries, (size_t)im->count, sizeof *im->entries, by_name);
    return STATUS_OK;
}

void imatrix_close(struct imatrix *im)
{
    if (!im)
        return;
    arena_free(&im->arena);
    free(im);
}

enum status imatrix_find(const struct imatrix *im, const char *name, int64_t matrices, int64_t columns, const float **out, struct error *err)
{
    const struct entry *e = bsearch(&(struct entry){.name = name}, im->entries, (size_t)im->count, sizeof *e, by_name);
    *out = e ? e->values : NULL;
    if (e && (e->count % columns || e->count / columns != matrices))
        return error_set(err, STATUS_BAD_INPUT, "%s: %" PRId64 " values for %s, which has %" PRId64 " columns; is it of another model?", im->path, e->count,
                         QUOTE(name, strlen(name)), columns);
    return STATUS_OK;
}
