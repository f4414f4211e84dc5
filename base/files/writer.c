/* Writing containers: header, then the tensors' bytes, padded. */
#include "base/files/writer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

enum { BUFFER = 1 << 20, GGUF_ALIGNMENT = 32, SAFETENSORS_ALIGNMENT = 8, SAFETENSORS_HEADER = 100000000 };

/* ---- bytes ---------------------------------------------------------------------------------------------------------- */

static enum status flush(struct tensor_writer *w, struct error *err)
{
    size_t size = w->buffered;
    w->buffered = 0;
    return size ? file_writer_write(&w->file, w->buffer, size, err) : STATUS_OK;
}

static enum status put(struct tensor_writer *w, const void *data, size_t size, struct error *err)
{
    enum status status = STATUS_OK;
    if (size > BUFFER - w->buffered)
        status = flush(w, err);
    if (!status && size >= BUFFER)
        return file_writer_write(&w->file, data, size, err);
    if (!status) {
        memcpy(w->buffer + w->buffered, data, size);
        w->buffered += size;
    }
    return status;
}

static uint64_t padded(uint64_t bytes, uint32_t alignment) { return (bytes + alignment - 1) / alignment * alignment; }

/* On to the next tensor that has bytes. */
static enum status advance(struct tensor_writer *w, struct error *err)
{
    static const unsigned char zeros[GGUF_ALIGNMENT];
    enum status status = STATUS_OK;
    while (!status && w->current < w->count && w->left == 0) {
        uint64_t bytes = w->list[w->current].bytes;
        if (w->alignment) /* safetensors allows no gaps */
            status = put(w, zeros, (size_t)(padded(bytes, w->alignment) - bytes), err);
        if (++w->current < w->count)
            w->left = w->list[w->current].bytes;
    }
    return status;
}

static enum status begin(struct tensor_writer *w, const char *path, const struct str *header, const struct tensor *list, int64_t count,
                         uint32_t alignment, struct error *err)
{
    *w = (struct tensor_writer){.file.fd = -1, .list = list, .count = count, .alignment = alignment, .left = count ? list[0].bytes : 0};
    w->buffer = malloc(BUFFER);
    enum status status = header->failed || !w->buffer ? error_memory(err, "a file's header") : file_writer_begin(&w->file, path, err);
    if (!status)
        status = put(w, header->data, header->size, err);
    if (!status)
        status = advance(w, err);
    if (status)
        tensor_writer_abandon(w);
    return status;
}

enum status tensor_writer_add(struct tensor_writer *w, const void *data, size_t size, struct error *err)
{
    if (w->current >= w->count || size > w->left) {
        tensor_writer_abandon(w);
        return error_set(err, STATUS_FAILED, "more bytes for a tensor than its shape has");
    }
    enum status status = put(w, data, size, err);
    w->left -= size;
    if (!status)
        status = advance(w, err);
    if (status)
        tensor_writer_abandon(w);
    return status;
}

enum status tensor_writer_commit(struct tensor_writer *w, struct error *err)
{
    enum status status = w->current < w->count ? error_set(err, STATUS_FAILED, "tensor %s is incomplete", w->list[w->current].name) : flush(w, err);
    if (!status)
        status = file_writer_commit(&w->file, err);
    tensor_writer_abandon(w);
    return status;
}

void tensor_writer_abandon(struct tensor_writer *w)
{
    file_writer_abandon(&w->file);
    free(w->buffer);
    w->buffer = NULL;
    w->buffered = 0;
}

/* ---- safetensors ---------------------------------------------------------------------------------------------------- */

enum status safetensors_begin(struct tensor_writer *w, const char *path, const struct tensor *list, int64_t count, struct error *err)
{
    struct str text = {0};
    uint64_t at = 0;
    str_add(&text, "\0\0\0\0\0\0\0\0", 8);
    str_add_text(&text, "{\"__metadata__\":{\"format\":\"pt\"}"); /* transformers refuses a file without it */
    *w = (struct tensor_writer){.file.fd = -1};
    for (int64_t i = 0; i < count; i++) {
        const struct tensor *t = &list[i];
        if (!storage_types[t->type].safetensors) {
            str_free(&text);
            return error_set(err, STATUS_USAGE, "tensor %s: a safetensors file cannot hold %s", QUOTE(t->name, strlen(t->name)), storage_types[t->type].name);
        }
        str_add_char(&text, ',');
        json_write_string(&text, t->name, strlen(t->name));
        str_format(&text, ":{\"dtype\":\"%s\",\"shape\":[", storage_types[t->type].safetensors);
        for (int d = 0; d < t->dims; d++)
            str_format(&text, "%s%" PRId64, d ? "," : "", t->shape[d]);
        str_format(&text, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", at, at + t->bytes);
        at += t->bytes;
    }
    str_add_char(&text, '}');
    while (text.size % SAFETENSORS_ALIGNMENT && !text.failed)
        str_add_char(&text, ' ');
    uint64_t size = text.size - 8;
    enum status status = STATUS_OK;
    if (size > SAFETENSORS_HEADER)
        status = error_set(err, STATUS_FAILED, "%s: a header of %" PRIu64 " bytes is over the format's limit", path, size);
    if (!text.failed)
        memcpy(text.data, &size, 8);
    if (!status)
        status = begin(w, path, &text, list, count, 0, err);
    str_free(&text);
    return status;
}

/* ---- GGUF ----------------------------------------------------------------------------------------------------------- */

static void add_u32(struct str *s, uint32_t v) { str_add(s, &v, 4); }
static void add_u64(struct str *s, uint64_t v) { str_add(s, &v, 8); }

static void add_text(struct str *s, const char *text, size_t size)
{
    add_u64(s, size);
    str_add(s, text, size);
}

static void add_key(struct gguf_keys *k, const char *key, enum meta_type type)
{
    add_text(&k->bytes, key, strlen(key));
    add_u32(&k->bytes, (uint32_t)type);
    k->count++;
}

static size_t scalar_bytes(enum meta_type type)
{
    static const unsigned char bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return bytes[type];
}

void gguf_key_int(struct gguf_keys *k, const char *key, enum meta_type type, int64_t value)
{
    add_key(k, key, type);
    str_add(&k->bytes, &value, scalar_bytes(type)); /* little-endian: the low bytes come first */
}

void gguf_key_float(struct gguf_keys *k, const char *key, float value)
{
    add_key(k, key, META_F32);
    str_add(&k->bytes, &value, 4);
}

void gguf_key_string(struct gguf_keys *k, const char *key, const char *text, size_t size)
{
    add_key(k, key, META_STRING);
    add_text(&k->bytes, text, size);
}

void gguf_key_array(struct gguf_keys *k, const char *key, enum meta_type element, uint64_t count)
{
    add_key(k, key, META_ARRAY);
    add_u32(&k->bytes, (uint32_t)element);
    add_u64(&k->bytes, count);
}

void gguf_add_string(struct gguf_keys *k, const char *text, size_t size) { add_text(&k->bytes, text, size); }

void gguf_add_values(struct gguf_keys *k, const void *values, size_t bytes) { str_add(&k->bytes, values, bytes); }

void gguf_key_copy(struct gguf_keys *k, const struct meta *m)
{
    uint64_t at = 0, size;
    if (m->type == META_STRING) {
        gguf_key_string(k, m->key, (const char *)m->data, m->count);
    } else if (m->type != META_ARRAY) {
        add_key(k, m->key, m->type);
        str_add(&k->bytes, m->data, scalar_bytes(m->type));
    } else {
        gguf_key_array(k, m->key, m->element, m->count);
        for (uint64_t i = 0; m->element == META_STRING && i < m->count; i++)
            meta_next_string(m, &at, &size);
        str_add(&k->bytes, m->data, m->element == META_STRING ? at : m->count * scalar_bytes(m->element));
    }
}

enum status gguf_begin(struct tensor_writer *w, const char *path, const struct gguf_keys *keys, const struct tensor *list, int64_t count,
                       struct error *err)
{
    struct str header = {0};
    uint64_t at = 0;
    *w = (struct tensor_writer){.file.fd = -1};
    str_add_text(&header, "GGUF");
    add_u32(&header, 3);
    add_u64(&header, (uint64_t)count);
    add_u64(&header, keys->count);
    str_add(&header, str_text(&keys->bytes), keys->bytes.size);
    header.failed |= keys->bytes.failed;
    for (int64_t i = 0; i < count; i++) {
        const struct tensor *t = &list[i];
        if (storage_types[t->type].gguf < 0 || t->dims > 4) {
            str_free(&header);
            return error_set(err, STATUS_USAGE, "tensor %s: a GGUF file cannot hold %s%s", QUOTE(t->name, strlen(t->name)),
                             storage_types[t->type].name, t->dims > 4 ? " with more than 4 dimensions" : "");
        }
        add_text(&header, t->name, strlen(t->name));
        add_u32(&header, (uint32_t)(t->dims ? t->dims : 1));
        for (int d = t->dims - 1; d >= 0; d--)
            add_u64(&header, (uint64_t)t->shape[d]);
        if (!t->dims)
            add_u64(&header, 1);
        add_u32(&header, (uint32_t)storage_types[t->type].gguf);
        add_u64(&header, at);
        at += padded(t->bytes, GGUF_ALIGNMENT);
    }
    while (header.size % GGUF_ALIGNMENT && !header.failed)
        str_add_char(&header, 0);
    enum status status = begin(w, path, &header, list, count, GGUF_ALIGNMENT, err);
    str_free(&header);
    return status;
}
