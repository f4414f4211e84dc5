/* Opening a tokenizer by path: which file it is, and what tokenizer_config.json says beside it. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mapping.h"
#include "tokenizers/internal.h"

/* ---- in memory ------------------------------------------------------------------------------------------------------------ */

typedef enum status (*opener)(struct tokenizer *t, const char *data, size_t size, struct error *err);

static enum status open_with(opener open, struct tokenizer **out, const char *name, const char *data, size_t size, struct error *err)
{
    *out = NULL;
    struct tokenizer *t = calloc(1, sizeof *t);
    if (!t)
        return error_memory(err, "a tokenizer");
    t->bos = t->eos = -1;
    enum status status = open(t, data, size, err);
    if (!status)
        status = tokenizer_finish(t, err);
    if (status) {
        tokenizer_close(t);
        return error_prefix(err, "%s", name);
    }
    *out = t;
    return STATUS_OK;
}

enum status tokenizer_open_memory(struct tokenizer **out, const char *name, const char *text, size_t size, struct error *err)
{
    return open_with(open_tokenizer_json, out, name, text, size, err);
}

static bool holds(const char *data, size_t size, const char *text)
{
    return memmem(data, size, text, strlen(text)) != NULL;
}

/* JSON begins with a brace (or blanks), SentencePiece with its first piece (field 1, a message), tiktoken with base64. A tekken.json has
 * "token_bytes" right at its start; its config may stand in front. */
static opener opener_of(const char *data, size_t size)
{
    enum { START = 4096 };
    size_t start = size < START ? size : START, at = 0;
    while (at < start && (data[at] == ' ' || data[at] == '\n' || data[at] == '\t' || data[at] == '\r'))
        at++;
    if (at < start && data[at] == '{')
        return holds(data, start, "\"token_bytes\"") || holds(data, start, "\"default_num_special_tokens\"") ? open_tekken : open_tokenizer_json;
    if (size && data[0] == 0x0A)
        return open_sentencepiece;
    const char *blank = memchr(data, ' ', start);
    return blank && blank + 1 < data + size && blank[1] >= '0' && blank[1] <= '9' ? open_tiktoken : open_tokenizer_json;
}

enum status tokenizer_open_bytes(struct tokenizer **out, const char *name, const char *data, size_t size, struct error *err)
{
    return open_with(opener_of(data, size), out, name, data, size, err);
}

/* ---- tokenizer_config.json ------------------------------------------------------------------------------------------------- */

/* bos_token, eos_token: a string, or an object with "content". */
static int32_t named_token(const struct tokenizer *t, const struct json *config, const char *key)
{
    const struct json *v = json_get(config, key);
    if (json_is(v, JSON_OBJECT))
        v = json_get(v, "content");
    return json_is(v, JSON_STRING) ? tokenizer_find(t, v->text, v->size) : -1;
}

/* What tokenizer_config.json names. It is optional, and its own readers report what is wrong in it. */
static enum status read_config(struct tokenizer *t, const char *path, struct error *err)
{
    struct arena arena = {0};
    const char *slash = strrchr(path, '/');
    char *folder = arena_copy(&arena, path, slash ? (size_t)(slash - path) : 0);
    char *config = folder ? file_join(&arena, slash ? folder : ".", "tokenizer_config.json") : NULL;
    char *text;
    size_t size;
    struct json root;
    enum status status = config ? STATUS_OK : error_memory(err, "a path");
    if (!status && file_exists(config)) {
        status = file_read(&arena, config, 64 << 20, &text, &size, err);
        if (!status && (status = json_parse(&arena, text, size, NULL, &root, err)))
            status = error_prefix(err, "%s", config);
        if (!status) {
            int32_t bos = named_token(t, &root, "bos_token"), eos = named_token(t, &root, "eos_token");
            t->bos = bos >= 0 ? bos : t->bos; /* a tokenizer.model or tekken.json names its own */
            t->eos = eos >= 0 ? eos : t->eos;
        }
    }
    arena_free(&arena);
    return status;
}

/* ---- files --------------------------------------------------------------------------------------------------------------------- */

/* What a folder may hold, the first that is there: the truth about a model is its tokenizer.json. */
static const char *file_in(struct arena *arena, const char *folder)
{
    static const char *const names[] = {"tokenizer.json", "tekken.json", "tokenizer.model"};
    const char *first = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *path = file_join(arena, folder, names[i]);
        if (path && file_exists(path))
            return path;
        first = first ? first : path;
    }
    return first; /* and the error names it */
}

enum status tokenizer_open(struct tokenizer **out, const char *path, struct error *err)
{
    *out = NULL;
    struct arena arena = {0};
    const char *file = file_is_folder(path) ? file_in(&arena, path) : path;
    struct mapping *mapping = NULL;
    enum status status = file ? mapping_open(&mapping, file, MAPPING_FILE, err) : error_memory(err, "a path");
    if (!status)
        status = tokenizer_open_bytes(out, file, (const char *)mapping->data, mapping->size, err);
    if (mapping && mapping_lost(mapping)) {
        tokenizer_close(*out);
        *out = NULL;
        status = error_set(err, STATUS_FAILED, "%s: the file became shorter while it was read", file);
    }
    mapping_close(mapping);
    if (!status)
        status = read_config(*out, file, err);
    if (!status)
        tokenizer_collect_ends(*out);
    if (status) {
        tokenizer_close(*out);
        *out = NULL;
    }
    arena_free(&arena);
    return status;
}
