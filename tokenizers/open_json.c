/* tokenizer.json. The vocabulary and the merges, nearly all of the file, are read without a tree. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mapping.h"
#include "tokenizers/internal.h"

enum { LARGE_VOCAB = 1, LARGE_MERGES };

struct reading {
    struct tokenizer *t;
    bool in_model, vocab, merges; /* seen */
    bool indexed;                 /* the vocabulary is complete: merges are looked up as they come */
    bool vocab_list;              /* an array: Unigram's form */
    struct merge_texts texts;
};

/* ---- the large parts --------------------------------------------------------------------------------------------------- */

static bool is_key(const char *key, size_t size, const char *name) { return size == strlen(name) && memcmp(key, name, size) == 0; }

static int large(void *context, int depth, const char *key, size_t size)
{
    struct reading *r = context;
    if (depth == 1)
        r->in_model = is_key(key, size, "model");
    if (depth != 2 || !r->in_model)
        return 0;
    return is_key(key, size, "vocab") ? LARGE_VOCAB : is_key(key, size, "merges") ? LARGE_MERGES : 0;
}

static enum status vocab_child(struct reading *r, const struct json_member *m, struct error *err)
{
    int64_t id;
    if (!m->key) {
        r->vocab_list = true;
        return STATUS_OK;
    }
    if (!json_int(&m->value, &id) || id < 0 || id >= INT32_MAX)
        return error_set(err, STATUS_BAD_INPUT, "model: vocab: the id of \"%s\" is not a whole number of 0 to %d", QUOTE(m->key, m->key_size),
                         INT32_MAX - 1);
    return vocabulary_add(&r->t->vocabulary, m->key, m->key_size, (int32_t)id, err);
}

static enum status keep_merge(struct merge_texts *m, const char *left, size_t left_size, const char *right, size_t right_size, struct error *err)
{
    if (m->count + 2 > m->capacity) {
        size_t capacity = m->capacity ? m->capacity * 2 : 4096;
        uint32_t *sizes = realloc(m->sizes, capacity * sizeof *sizes);
        if (!sizes)
            return error_memory(err, "the merges");
        m->sizes = sizes;
        m->capacity = capacity;
    }
    str_add(&m->texts, left, left_size);
    str_add(&m->texts, right, right_size);
    m->sizes[m->count++] = (uint32_t)left_size;
    m->sizes[m->count++] = (uint32_t)right_size;
    return m->texts.failed ? error_memory(err, "the merges") : STATUS_OK;
}

static enum status look_up_merges(struct tokenizer *t, struct merge_texts *m, struct error *err)
{
    const char *at = str_text(&m->texts);
    enum status status = STATUS_OK;
    for (size_t i = 0; i < m->count && !status;) {
        struct merge_text batch[MERGE_BATCH];
        size_t n = 0;
        for (; n < MERGE_BATCH && i < m->count; n++, i += 2) {
            batch[n] = (struct merge_text){at, at + m->sizes[i], m->sizes[i], m->sizes[i + 1]};
            at += m->sizes[i] + m->sizes[i + 1];
        }
        status = bpe_add_merges(&t->bpe, batch, n, err);
    }
    m->count = 0;
    str_clear(&m->texts);
    return status;
}

static enum status merges_child(struct reading *r, const struct json_member *m, struct error *err)
{
    const struct json *v = &m->value;
    if (v->kind == JSON_ARRAY && v->size == 2 && v->items[0].kind == JSON_STRING && v->items[1].kind == JSON_STRING)
        return keep_merge(&r->texts, v->items[0].text, v->items[0].size, v->items[1].text, v->items[1].size, err);
    if (v->kind != JSON_STRING)
        return error_set(err, STATUS_BAD_INPUT, "model: merges: merge %zu must be \"a b\" or [\"a\", \"b\"]", r->texts.count / 2);
    if (v->size >= 8 && memcmp(v->text, "#version", 8) == 0)
        return STATUS_OK;
    const char *blank = memchr(v->text, ' ', v->size);
    size_t left = blank ? (size_t)(blank - v->text) : 0, right = blank ? v->size - left - 1 : 0;
    if (!blank || memchr(blank + 1, ' ', right))
        return error_set(err, STATUS_BAD_INPUT, "model: merges: merge %zu, \"%s\", must have two parts", r->texts.count / 2, QUOTE(v->text, v->size));
    return keep_merge(&r->texts, v->text, left, blank + 1, right, err);
}

static enum status child(void *context, int which, const struct json_member *m, struct error *err)
{
    struct reading *r = context;
    if (which == LARGE_VOCAB) {
        if (r->indexed)
            return error_set(err, STATUS_BAD_INPUT, "model: \"vocab\" occurs twice");
        r->vocab = true;
        return vocab_child(r, m, err);
    }
    enum status status = STATUS_OK;
    if (!r->merges && r->vocab && !r->vocab_list) {
        r->t->bpe.vocabulary = &r->t->vocabulary;
        status = vocabulary_index(&r->t->vocabulary, TWICE_REFUSED, err);
        r->indexed = !status;
    }
    r->merges = true;
    if (!status)
        status = merges_child(r, m, err);
    if (!status && r->indexed && r->texts.count >= 2 * MERGE_BATCH)
        status = look_up_merges(r->t, &r->texts, err);
    return status;
}

/* ---- BPE ------------------------------------------------------------------------------------------------------------------ */

static enum status run_bpe(const struct tokenizer *t, struct scratch *s, const char *piece, size_t size, struct ids *out, struct error *err)
{
    return bpe_encode(&t->bpe, &s->bpe, piece, size, out, err);
}

enum status open_bpe(struct opening *o, const struct json *v)
{
    struct tokenizer *t = o->t;
    struct bpe *b = &t->bpe;
    double dropout;
    if (json_double(json_get(v, "dropout"), &dropout) && dropout != 0)
        return error_set(o->err, STATUS_BAD_INPUT, "BPE: \"dropout\" is for training; a tokenizer that gives random ids cannot be run");
    const struct json *vocab = json_get(v, "vocab"), *merges = json_get(v, "merges");
    if (!json_is(vocab, JSON_OBJECT))
        return error_set(o->err, STATUS_BAD_INPUT, "BPE: \"vocab\" must be an object, not %s", json_kind_name(vocab));
    if (!json_is(merges, JSON_ARRAY))
        return error_set(o->err, STATUS_BAD_INPUT, "BPE: \"merges\" must be an array, not %s", json_kind_name(merges));
    struct str unk = {0};
    bool good = take_text(o, v, "BPE", "unk_token", &unk) && take_text(o, v, "BPE", "continuing_subword_prefix", &b->prefix) &&
                take_text(o, v, "BPE", "end_of_word_suffix", &b->suffix) && take_bool(o, v, "BPE", "fuse_unk", &b->fuse_unk) &&
                take_bool(o, v, "BPE", "byte_fallback", &b->byte_fallback) && take_bool(o, v, "BPE", "ignore_merges", &b->ignore_merges);
    b->vocabulary = &t->vocabulary;
    enum status status = good ? STATUS_OK : STATUS_BAD_INPUT;
    if (!status && !t->vocabulary.slots)
        status = vocabulary_index(&t->vocabulary, TWICE_REFUSED, o->err);
    if (!status)
        status = look_up_merges(t, o->merges, o->err);
    if (!status)
        status = bpe_finish(b, &unk, o->err);
    str_free(&unk);
    t->keeps_bytes |= b->byte_fallback;
    t->model = run_bpe;
    return status;
}

/* ---- added tokens ----------------------------------------------------------------------------------------------------------- */

struct wanted {
    const struct json *v, *content;
    uint32_t index;
    bool again; /* the same text came before */
};

static int compare_wanted(const void *a, const void *b)
{
    const struct wanted *x = *(const struct wanted *const *)a, *y = *(const struct wanted *const *)b;
    uint32_t n = x->content->size < y->content->size ? x->content->size : y->content->size;
    int order = n ? memcmp(x->content->text, y->content->text, n) : 0;
    if (order || x->content->size != y->content->size)
        return order ? order : x->content->size < y->content->size ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static enum status check_added(struct opening *o, const struct json *v, struct wanted *w)
{
    int64_t id;
    w->v = v;
    w->content = json_get(v, "content");
    if (!json_is(w->content, JSON_STRING))
        return error_set(o->err, STATUS_BAD_INPUT, "added_tokens: entry %u: \"content\" must be a string, not %s", w->index, json_kind_name(w->content));
    if (!json_int(json_get(v, "id"), &id) || id < 0 || id >= INT32_MAX)
        return error_set(o->err, STATUS_BAD_INPUT, "added_tokens: \"id\" of \"%s\" must be a whole number of 0 to %d",
                         QUOTE(w->content->text, w->content->size), INT32_MAX - 1);
    return STATUS_OK;
}

/* The id is the model's if it knows the text, else the next one behind all ids so far: the package ignores the file's
 * number. A file that means another one is worth a warning. */
static enum status add_added(struct opening *o, const struct wanted *w, int32_t *next)
{
    struct tokenizer *t = o->t;
    int64_t named = -1;
    struct added_token token = {.id = vocabulary_find(&t->vocabulary, w->content->text, w->content->size)};
    token.normalized = true; /* the package's default for a token that is not special */
    if (!take_bool(o, w->v, "added_tokens", "special", &token.special))
        return STATUS_BAD_INPUT;
    token.normalized = !token.special;
    if (!take_bool(o, w->v, "added_tokens", "normalized", &token.normalized) || !take_bool(o, w->v, "added_tokens", "lstrip", &token.lstrip) ||
        !take_bool(o, w->v, "added_tokens", "rstrip", &token.rstrip) || !take_bool(o, w->v, "added_tokens", "single_word", &token.single_word))
        return STATUS_BAD_INPUT;
    if (token.id < 0) {
        if (*next == INT32_MAX)
            return error_set(o->err, STATUS_BAD_INPUT, "added_tokens: there is no id left for \"%s\"", QUOTE(w->content->text, w->content->size));
        token.id = (*next)++;
    } else if (token.id >= *next) {
        *next = token.id + 1;
    }
    json_int(json_get(w->v, "id"), &named);
    if (named != token.id)
        log_line(LOG_VERBOSE, "tokenizer: the added token \"%s\" is numbered %lld in the file, but gets the id %d",
                 QUOTE(w->content->text, w->content->size), (long long)named, token.id);
    return added_add(&t->added, w->content->text, w->content->size, token, o->err);
}

static enum status open_added(struct opening *o, const struct json *list)
{
    if (!list || list->kind == JSON_NULL)
        return STATUS_OK;
    if (list->kind != JSON_ARRAY)
        return error_set(o->err, STATUS_BAD_INPUT, "\"added_tokens\" must be an array, not %s", json_kind_name(list));
    struct wanted *wanted = calloc(list->size + 1u, sizeof *wanted), **sorted = calloc(list->size + 1u, sizeof *sorted);
    enum status status = wanted && sorted ? STATUS_OK : error_memory(o->err, "the added tokens");
    for (uint32_t i = 0; i < list->size && !status; i++) {
        wanted[i].index = i;
        sorted[i] = &wanted[i];
        status = check_added(o, &list->items[i], &wanted[i]);
    }
    if (!status && list->size)
        qsort(sorted, list->size, sizeof *sorted, compare_wanted);
    for (uint32_t i = 1; i < list->size && !status; i++) {
        const struct json *a = sorted[i - 1]->content, *b = sorted[i]->content;
        sorted[i]->again = a->size == b->size && memcmp(a->text, b->text, a->size) == 0;
    }
    int32_t next = (int32_t)o->t->vocabulary.count;
    for (uint32_t i = 0; i < list->size && !status; i++)
        if (!wanted[i].again && wanted[i].content->size)
            status = add_added(o, &wanted[i], &next);
    free(wanted);
    free(sorted);
    return status;
}

/* ---- the file ----------------------------------------------------------------------------------------------------------------- */

static enum status open_parts(struct tokenizer *t, struct reading *r, const struct json *root, struct error *err)
{
    struct opening o = {.t = t, .merges = &r->texts, .err = err};
    if (!json_is(root, JSON_OBJECT))
        return error_set(err, STATUS_BAD_INPUT, "a tokenizer must be a JSON object, not %s", json_kind_name(root));
    if (!json_get(root, "model"))
        return error_set(err, STATUS_BAD_INPUT, "\"model\" is missing");
    enum status status = component_open(&o, ROLE_MODEL, json_get(root, "model"));
    if (!status)
        status = component_open(&o, ROLE_NORMALIZER, json_get(root, "normalizer"));
    if (!status)
        status = component_open(&o, ROLE_PRETOKENIZER, json_get(root, "pre_tokenizer"));
    if (!status)
        status = component_open(&o, ROLE_POSTPROCESSOR, json_get(root, "post_processor"));
    if (!status)
        status = component_open(&o, ROLE_DECODER, json_get(root, "decoder"));
    if (!status)
        status = open_added(&o, json_get(root, "added_tokens"));
    return status;
}

enum status tokenizer_open_memory(struct tokenizer **out, const char *name, const char *text, size_t size, struct error *err)
{
    *out = NULL;
    struct tokenizer *t = calloc(1, sizeof *t);
    if (!t)
        return error_memory(err, "a tokenizer");
    t->bos = t->eos = -1;
    struct reading r = {.t = t};
    struct json_options options = {.unique = true, .large = large, .child = child, .context = &r};
    struct arena arena = {0};
    struct json root;
    enum status status = json_parse(&arena, text, size, &options, &root, err);
    if (!status)
        status = open_parts(t, &r, &root, err);
    if (!status)
        status = tokenizer_finish(t, err);
    arena_free(&arena);
    str_free(&r.texts.texts);
    free(r.texts.sizes);
    if (status) {
        tokenizer_close(t);
        return error_prefix(err, "%s", name);
    }
    *out = t;
    return STATUS_OK;
}

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
            t->bos = named_token(t, &root, "bos_token");
            t->eos = named_token(t, &root, "eos_token");
        }
    }
    arena_free(&arena);
    return status;
}

enum status tokenizer_open(struct tokenizer **out, const char *path, struct error *err)
{
    *out = NULL;
    struct arena arena = {0};
    const char *file = file_is_folder(path) ? file_join(&arena, path, "tokenizer.json") : path;
    struct mapping *mapping = NULL;
    enum status status = file ? mapping_open(&mapping, file, MAPPING_FILE, err) : error_memory(err, "a path");
    if (!status)
        status = tokenizer_open_memory(out, file, (const char *)mapping->data, mapping->size, err);
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
