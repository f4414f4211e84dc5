/* GGUF, versions 2 and 3 (ggml/docs/gguf.md):
 *
 *   "GGUF" | u32 version | i64 tensors | i64 keys | keys | tensor infos | padding to general.alignment | data
 *   key:  string | u32 type | value             string: u64 length, bytes
 *   info: string | u32 dims | u64 dim[dims], innermost first | u32 type | u64 offset into data
 *
 * Numbers turn into checked ones here and nowhere else (R1): a cursor that never passes the end, counts held against
 * the bytes left before anything is allocated, offsets and sizes against the data section. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/files/name_index.h"
#include "base/files/private.h"
#include "base/utf8.h"

struct reader {
    struct tensor_set *set;
    const struct mapping *file;
    const unsigned char *at, *end;
    struct error *err;
};

static uint64_t left(const struct reader *r) { return (uint64_t)(r->end - r->at); }

static enum status bad(struct reader *r, const char *what)
{
    return error_set(r->err, STATUS_BAD_INPUT, "%s: %s (byte %zu)", r->file->path, what, (size_t)(r->at - r->file->data));
}

static bool take(struct reader *r, void *out, size_t size)
{
    if (left(r) < size)
        return false;
    memcpy(out, r->at, size);
    r->at += size;
    return true;
}

static bool take_string(struct reader *r, const char **text, uint64_t *size)
{
    if (!take(r, size, 8) || *size > left(r))
        return false;
    *text = (const char *)r->at;
    r->at += *size;
    return true;
}

/* A name that becomes a C string: no NUL, valid UTF-8, not absurdly long. */
static enum status take_name(struct reader *r, const char *what, const char **out)
{
    const char *text;
    uint64_t size;
    if (!take_string(r, &text, &size))
        return error_set(r->err, STATUS_BAD_INPUT, "%s: the file ends inside the name of a %s", r->file->path, what);
    if (size == 0 || size > 65535 || memchr(text, 0, size) || !utf8_is_valid(text, size))
        return error_set(r->err, STATUS_BAD_INPUT, "%s: the name of a %s is empty, too long or not UTF-8", r->file->path, what);
    *out = arena_copy(&r->set->arena, text, size);
    return *out ? STATUS_OK : error_memory(r->err, "names");
}

static int scalar_bytes(enum meta_type type)
{
    static const int bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return bytes[type];
}

static enum status read_array(struct reader *r, struct meta *m)
{
    uint32_t element;
    if (!take(r, &element, 4) || !take(r, &m->count, 8))
        return bad(r, "the file ends inside an array");
    if (element > META_F64)
        return error_set(r->err, STATUS_BAD_INPUT, "%s: %s: array of unknown type %u", r->file->path, m->key, element);
    if (element == META_ARRAY)
        return error_set(r->err, STATUS_BAD_INPUT, "%s: %s: an array of arrays is not supported", r->file->path, m->key);
    m->element = (enum meta_type)element;
    m->data = r->at;
    uint64_t smallest = element == META_STRING ? 8 : (uint64_t)scalar_bytes(m->element);
    if (m->count > left(r) / smallest)
        return error_set(r->err, STATUS_BAD_INPUT, "%s: %s: %" PRIu64 " elements do not fit into the %" PRIu64 " bytes left",
                         r->file->path, m->key, m->count, left(r));
    if (element != META_STRING) {
        r->at += m->count * smallest;
        return STATUS_OK;
    }
    for (uint64_t i = 0; i < m->count; i++) {
        const char *text;
        uint64_t size;
        if (!take_string(r, &text, &size))
            return error_set(r->err, STATUS_BAD_INPUT, "%s: %s: string %" PRIu64 " passes the end of the file", r->file->path, m->key, i);
    }
    return STATUS_OK;
}

static enum status read_value(struct reader *r, struct meta *m)
{
    uint32_t type;
    if (!take(r, &type, 4))
        return bad(r, "the file ends inside the metadata");
    if (type > META_F64)
        return error_set(r->err, STATUS_BAD_INPUT, "%s: %s: unknown value type %u", r->file->path, m->key, type);
    m->type = (enum meta_type)type;
    if (type == META_ARRAY)
        return read_array(r, m);
    if (type == META_STRING) {
        const char *text;
        if (!take_string(r, &text, &m->count))
            return error_set(r->err, STATUS_BAD_INPUT, "%s: %s: the string passes the end of the file", r->file->path, m->key);
        m->data = (const unsigned char *)text;
        return STATUS_OK;
    }
    m->data = r->at;
    if (left(r) < (uint64_t)scalar_bytes(m->type))
        return bad(r, "the file ends inside the metadata");
    r->at += scalar_bytes(m->type);
    return STATUS_OK;
}

static const char *meta_key(const void *list, int32_t i) { return ((const struct meta *)list)[i].key; }

static enum status read_metadata(struct reader *r, uint64_t count)
{
    struct tensor_set *set = r->set;
    struct tensor_index index;
    if (count > left(r) / 13) /* the smallest: an 8-byte length, a type, one byte */
        return error_set(r->err, STATUS_BAD_INPUT, "%s: %" PRIu64 " metadata keys do not fit into the file", r->file->path, count);
    set->metas = arena_array(&set->arena, count, sizeof *set->metas);
    if (!set->metas || !name_index_init(&index, &set->arena, count))
        return error_memory(r->err, "metadata");
    for (uint64_t i = 0; i < count; i++) {
        struct meta *m = &set->metas[i];
        enum status status = take_name(r, "metadata key", &m->key);
        if (!status)
            status = read_value(r, m);
        if (status)
            return status;
        int32_t *slot = name_index_slot(&index, m->key, meta_key, set->metas);
        if (*slot >= 0)
            return error_set(r->err, STATUS_BAD_INPUT, "%s: the key %s occurs twice", r->file->path, QUOTE(m->key, strlen(m->key)));
        *slot = (int32_t)i;
        set->meta_count = (int64_t)i + 1;
    }
    return STATUS_OK;
}

static enum status tensor_bad(struct reader *r, const struct tensor *t, const char *what)
{
    return error_set(r->err, STATUS_BAD_INPUT, "%s: tensor %s: %s", r->file->path, QUOTE(t->name, strlen(t->name)), what);
}

static enum status read_info(struct reader *r, struct tensor *t, uint64_t *offset)
{
    uint32_t dims, type;
    enum status status = take_name(r, "tensor", &t->name);
    if (status)
        return status;
    if (!take(r, &dims, 4))
        return bad(r, "the file ends inside the list of tensors");
    if (dims < 1 || dims > 4)
        return tensor_bad(r, t, "the number of dimensions is not 1 to 4");
    t->dims = (int)dims;
    uint64_t elements = 1;
    for (uint32_t d = 0; d < dims; d++) {
        uint64_t n;
        if (!take(r, &n, 8))
            return bad(r, "the file ends inside the list of tensors");
        if (n == 0 || n > INT64_MAX || __builtin_mul_overflow(elements, n, &elements) || elements > INT64_MAX)
            return tensor_bad(r, t, "a dimension is 0 or the shape is absurdly large");
        t->shape[dims - 1 - d] = (int64_t)n;
    }
    if (!take(r, &type, 4) || !take(r, offset, 8))
        return bad(r, "the file ends inside the list of tensors");
    t->type = STORAGE_COUNT;
    for (int s = 0; s < STORAGE_COUNT; s++)
        if (storage_types[s].gguf >= 0 && (uint32_t)storage_types[s].gguf == type)
            t->type = (enum storage)s;
    if (t->type == STORAGE_COUNT)
        return error_set(r->err, STATUS_BAD_INPUT, "%s: tensor %s: type %u is unknown or was removed from the format", r->file->path,
                         QUOTE(t->name, strlen(t->name)), type);
    if (t->shape[dims - 1] % storage_types[t->type].block_elements)
        return error_set(r->err, STATUS_BAD_INPUT, "%s: tensor %s: rows of %" PRId64 " are no whole number of %s blocks", r->file->path,
                         QUOTE(t->name, strlen(t->name)), t->shape[dims - 1], storage_types[t->type].name);
    if (!storage_bytes(t->type, elements, &t->bytes))
        return tensor_bad(r, t, "its size does not fit 64 bits");
    return STATUS_OK;
}

struct span {
    uint64_t begin, end;
    const struct tensor *tensor;
};

static int compare_spans(const void *a, const void *b)
{
    const struct span *x = a, *y = b;
    return x->begin != y->begin ? (x->begin < y->begin ? -1 : 1) : (x->end > y->end) - (x->end < y->end);
}

static enum status check_overlaps(struct reader *r, struct span *spans, uint64_t count)
{
    qsort(spans, count, sizeof *spans, compare_spans);
    for (uint64_t i = 1; i < count; i++)
        if (spans[i].begin < spans[i - 1].end) {
            /* of two, name the one that comes later in the file's list: it made the conflict */
            const struct tensor *t = spans[i].tensor > spans[i - 1].tensor ? spans[i].tensor : spans[i - 1].tensor;
            return tensor_bad(r, t, "shares bytes with another tensor");
        }
    return STATUS_OK;
}

static enum status read_tensors(struct reader *r, uint64_t count, int64_t alignment_key)
{
    struct tensor_set *set = r->set;
    if (count > left(r) / 33) /* name length, dims, one dimension, type, offset, one byte of name */
        return error_set(r->err, STATUS_BAD_INPUT, "%s: %" PRIu64 " tensors do not fit into the file", r->file->path, count);
    uint64_t before = (uint64_t)set->tensor_count, total = before + count;
    struct tensor *all = arena_array(&set->arena, total, sizeof *all);
    struct span *spans = malloc((count + 1) * sizeof *spans);
    if (!all || !spans) {
        free(spans);
        return error_memory(r->err, "the list of tensors");
    }
    if (before)
        memcpy(all, set->tensors, before * sizeof *all);
    set->tensors = all;
    enum status status = STATUS_OK;
    for (uint64_t i = 0; i < count && !status; i++) {
        status = read_info(r, &all[before + i], &spans[i].begin);
        spans[i].tensor = &all[before + i];
    }
    uint64_t start = (uint64_t)(r->at - r->file->data), alignment = (uint64_t)alignment_key;
    uint64_t data = (start + alignment - 1) & ~(alignment - 1);
    if (!status && count && data > r->file->size)
        status = bad(r, "the data section begins behind the end of the file");
    uint64_t room = data > r->file->size ? 0 : r->file->size - data;
    for (uint64_t i = 0; i < count && !status; i++) {
        struct tensor *t = &all[before + i];
        if (spans[i].begin % alignment)
            status = tensor_bad(r, t, "its offset is not a multiple of the alignment");
        else if (spans[i].begin > room || t->bytes > room - spans[i].begin)
            status = tensor_bad(r, t, "its data pass the end of the file; the download may be incomplete");
        if (status)
            break;
        spans[i].end = spans[i].begin + t->bytes;
        t->data = r->file->data + data + spans[i].begin;
    }
    if (!status)
        status = check_overlaps(r, spans, count);
    free(spans);
    set->tensor_count = (int64_t)total;
    return status;
}

static enum status read_header(struct reader *r, uint64_t *tensors, uint64_t *keys)
{
    uint32_t version;
    char magic[4];
    if (!take(r, magic, 4) || memcmp(magic, "GGUF", 4) != 0)
        return error_set(r->err, STATUS_BAD_INPUT, "%s: not a GGUF file", r->file->path);
    if (!take(r, &version, 4))
        return bad(r, "the file ends inside the header");
    if (version == 0x02000000 || version == 0x03000000)
        return error_set(r->err, STATUS_BAD_INPUT, "%s: a big-endian GGUF file; convert it to little-endian first", r->file->path);
    if (version != 2 && version != 3)
        return error_set(r->err, STATUS_BAD_INPUT, "%s: GGUF version %u; versions 2 and 3 are supported", r->file->path, version);
    if (!take(r, tensors, 8) || !take(r, keys, 8))
        return bad(r, "the file ends inside the header");
    return STATUS_OK;
}

/* One file of the set. The first one's metadata stays; that of further parts is read and dropped. */
static enum status read_part(struct tensor_set *set, const char *path, enum mapping_kind kind, bool first, struct error *err)
{
    struct mapping *file;
    enum status status = tensor_set_add_file(set, path, kind, &file, err);
    if (status)
        return status;
    struct reader r = {set, file, file->data, file->data + file->size, err};
    struct meta *metas = set->metas;
    int64_t meta_count = set->meta_count, alignment = 32;
    uint64_t tensors = 0, keys = 0;
    if ((status = read_header(&r, &tensors, &keys)) || (status = read_metadata(&r, keys)))
        return status;
    if ((status = meta_int(set, "general.alignment", &alignment, NULL, err)))
        return error_prefix(err, "%s", path), status;
    if (alignment < 1 || alignment > 1 << 30 || alignment & (alignment - 1))
        return error_set(err, STATUS_BAD_INPUT, "%s: general.alignment is %" PRId64 ", not a power of two up to 2^30", path, alignment);
    if (!first) {
        set->metas = metas;
        set->meta_count = meta_count;
    }
    return read_tensors(&r, tensors, alignment);
}

/* Splits are called NAME-00001-of-00003.gguf. */
static bool split_name(const char *path, char *stem, size_t capacity, int *count)
{
    size_t n = strlen(path);
    int part, used = 0;
    if (n < 20 || n - 20 >= capacity || sscanf(path + n - 20, "-%5d-of-%5d.gguf%n", &part, count, &used) != 2 || used != 20)
        return false;
    memcpy(stem, path, n - 20);
    stem[n - 20] = 0;
    return part >= 1 && *count >= part;
}

static enum status read_parts(struct tensor_set *set, const char *path, enum mapping_kind kind, struct error *err)
{
    char stem[4096], part[4200];
    int count = 0;
    bool named = split_name(path, stem, sizeof stem, &count);
    if (named)
        snprintf(part, sizeof part, "%s-%05d-of-%05d.gguf", stem, 1, count);
    enum status status = read_part(set, named ? part : path, kind, true, err);
    int64_t declared = 0;
    if (!status)
        status = meta_int(set, "split.count", &declared, NULL, err);
    if (status)
        return status;
    if (declared > 1 && !named)
        return error_set(err, STATUS_BAD_INPUT, "%s: split.count says %" PRId64 " parts, but its name is not NAME-00001-of-%05" PRId64 ".gguf; give the parts their names back",
                         path, declared, declared);
    if (named && declared != count && declared > 1)
        return error_set(err, STATUS_BAD_INPUT, "%s: split.count says %" PRId64 " parts, the name says %d", part, declared, count);
    for (int i = 2; named && declared > 1 && i <= count && !status; i++) {
        snprintf(part, sizeof part, "%s-%05d-of-%05d.gguf", stem, i, count);
        status = read_part(set, part, kind, false, err);
        if (status == STATUS_NOT_FOUND)
            status = error_set(err, STATUS_NOT_FOUND, "%s: part %d of %d is missing; fetch it again", part, i, count);
    }
    int64_t total = 0;
    bool found;
    if (!status && declared > 1 && !(status = meta_int(set, "split.tensors.count", &total, &found, err)) && found && total != set->tensor_count)
        status = error_set(err, STATUS_BAD_INPUT, "%s: the parts hold %" PRId64 " tensors, split.tensors.count says %" PRId64, path,
                           set->tensor_count, total);
    return status;
}

enum status gguf_open(struct tensor_set **out, const char *path, enum mapping_kind kind, struct error *err)
{
    *out = NULL;
    struct tensor_set *set = calloc(1, sizeof *set);
    if (!set)
        return error_memory(err, "a GGUF file");
    enum status status = read_parts(set, path, kind, err);
    if (!status && (status = tensor_set_index(set, err)))
        error_prefix(err, "%s", path);
    if (status) {
        tensor_set_close(set);
        return status;
    }
    *out = set;
    return STATUS_OK;
}

bool gguf_is(const char *path)
{
    FILE *f = file_exists(path) ? fopen(path, "rbe") : NULL;
    char magic[4] = {0};
    bool is = f && fread(magic, 1, 4, f) == 4 && memcmp(magic, "GGUF", 4) == 0;
    if (f)
        fclose(f);
    return is;
}
