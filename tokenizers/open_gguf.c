/* A vocabulary inside a GGUF file (tokenizer.ggml.*). What such a file does not say (regexes, normalizers) comes from
 * its tokenizer.ggml.pre by name: pre.def. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "tokenizers/gguf_file.h"
#include "tokenizers/pre.h"

static int32_t read_i32(const unsigned char *at)
{
    return (int32_t)((uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24);
}

enum token_type gguf_type(const struct gguf_file *f, int64_t id) { return f->types ? (enum token_type)read_i32(f->types->data + 4 * id) : NORMAL; }

float gguf_score(const struct gguf_file *f, int64_t id)
{
    int32_t bits = read_i32(f->scores->data + 4 * id);
    float score;
    memcpy(&score, &bits, sizeof score);
    return score;
}

/* ---- reading ------------------------------------------------------------------------------------------------------------ */

static enum status same_length(const struct gguf_file *f, const struct meta *array)
{
    if (array && (int64_t)array->count != f->count)
        return error_set(f->err, STATUS_BAD_INPUT, "%s has %llu entries for %lld tokens", array->key, (unsigned long long)array->count,
                         (long long)f->count);
    return STATUS_OK;
}

static enum status read_arrays(struct gguf_file *f)
{
    enum status status = meta_array(f->set, "tokenizer.ggml.tokens", META_STRING, &f->tokens, f->err);
    if (status)
        return status;
    if (!f->tokens || f->tokens->count == 0)
        return error_set(f->err, STATUS_BAD_INPUT, "tokenizer.ggml.tokens is missing");
    if (f->tokens->count >= INT32_MAX)
        return error_set(f->err, STATUS_BAD_INPUT, "tokenizer.ggml.tokens has too many entries");
    f->count = (int64_t)f->tokens->count;
    const struct meta *types = meta_find(f->set, "tokenizer.ggml.token_type");
    enum meta_type element = types && types->type == META_ARRAY && types->element == META_U32 ? META_U32 : META_I32;
    status = meta_array(f->set, "tokenizer.ggml.token_type", element, &f->types, f->err);
    if (!status)
        status = same_length(f, f->types);
    if (!status)
        status = meta_array(f->set, "tokenizer.ggml.scores", META_F32, &f->scores, f->err);
    return status ? status : same_length(f, f->scores);
}

/* Control tokens are not part of the model's vocabulary: no text may become one by merging. */
enum status gguf_read_tokens(struct gguf_file *f, bool user)
{
    struct tokenizer *t = f->t;
    uint64_t at = 0, size;
    enum status status = STATUS_OK;
    for (int64_t id = 0; id < f->count && !status; id++) {
        const char *text = meta_next_string(f->tokens, &at, &size);
        enum token_type type = gguf_type(f, id);
        if (type != CONTROL)
            status = vocabulary_add(&t->vocabulary, text, size, (int32_t)id, f->err);
        if (!status && (type == CONTROL || (type == USER_DEFINED && user) || type == UNKNOWN))
            status = added_add(&t->added, text, size, (struct added_token){.id = (int32_t)id, .special = type != USER_DEFINED}, f->err);
    }
    return status ? status : vocabulary_index(&t->vocabulary, TWICE_FIRST, f->err);
}

enum status gguf_read_id(const struct gguf_file *f, const char *key, int64_t missing, int32_t *out)
{
    int64_t id = missing;
    bool found = false;
    enum status status = meta_int(f->set, key, &id, &found, f->err);
    if (status)
        return status;
    if (found && (id < 0 || id >= f->count)) {
        log_line(LOG_WARN, "%s is %lld, but there are %lld tokens: ignored", key, (long long)id, (long long)f->count);
        id = -1;
    }
    *out = id < f->count ? (int32_t)id : -1;
    return STATUS_OK;
}

enum status gguf_read_around(struct gguf_file *f, bool bos, bool eos)
{
    struct tokenizer *t = f->t;
    enum status status = meta_bool(f->set, "tokenizer.ggml.add_bos_token", &bos, NULL, f->err);
    if (!status)
        status = meta_bool(f->set, "tokenizer.ggml.add_eos_token", &eos, NULL, f->err);
    if (!status && bos && t->bos >= 0)
        ids_add(&t->prefix, t->bos);
    if (!status && eos && t->eos >= 0)
        ids_add(&t->suffix, t->eos);
    return status;
}

enum status gguf_read_ends(struct gguf_file *f, int64_t bos_id, int64_t eos_id, bool bos, bool eos)
{
    enum status status = gguf_read_id(f, "tokenizer.ggml.bos_token_id", bos_id, &f->t->bos);
    if (!status)
        status = gguf_read_id(f, "tokenizer.ggml.eos_token_id", eos_id, &f->t->eos);
    return status ? status : gguf_read_around(f, bos, eos);
}

static enum status read_turn_ends(struct gguf_file *f)
{
    static const char *const keys[] = {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"};
    enum status status = STATUS_OK;
    for (size_t i = 0; i < sizeof keys / sizeof *keys && !status; i++) {
        int32_t id = -1;
        status = gguf_read_id(f, keys[i], -1, &id);
        if (id >= 0)
            ids_add(&f->t->named_ends, id);
    }
    return status;
}

/* ---- byte-level BPE ("gpt2") --------------------------------------------------------------------------------------------- */

static enum status read_merges(struct gguf_file *f)
{
    const struct meta *merges;
    enum status status = meta_array(f->set, "tokenizer.ggml.merges", META_STRING, &merges, f->err);
    if (!status && !merges)
        status = error_set(f->err, STATUS_BAD_INPUT, "tokenizer.ggml.merges is missing");
    uint64_t at = 0, size;
    for (uint64_t i = 0; !status && i < merges->count;) {
        struct wanted_text halves[2 * MERGE_BATCH];
        size_t n = 0;
        for (; n < MERGE_BATCH && i < merges->count; n++, i++) {
            const char *text = meta_next_string(merges, &at, &size);
            const char *blank = size > 1 && size < UINT32_MAX ? memchr(text + 1, ' ', size - 1) : NULL;
            if (!blank)
                return error_set(f->err, STATUS_BAD_INPUT, "tokenizer.ggml.merges: entry %llu, \"%s\", must have two parts",
                                 (unsigned long long)i, QUOTE(text, size));
            size_t left = (size_t)(blank - text);
            halves[2 * n] = (struct wanted_text){text, (uint32_t)left, false};
            halves[2 * n + 1] = (struct wanted_text){blank + 1, (uint32_t)(size - left - 1), false};
        }
        if ((status = bpe_add_merges(&f->t->bpe, halves, n, f->err)))
            error_prefix(f->err, "tokenizer.ggml");
    }
    return status;
}

static enum status open_characters(struct gguf_file *f, bool bos);
static enum status open_words(struct gguf_file *f);

static bool is_name(const char *name, uint64_t size, const char *other) { return strlen(other) == size && !memcmp(name, other, size); }

static enum status open_gpt2(struct gguf_file *f)
{
    struct tokenizer *t = f->t;
    const char *name = "default";
    uint64_t size = strlen(name);
    bool found = false;
    enum status status = meta_string(f->set, "tokenizer.ggml.pre", &name, &size, &found, f->err);
    if (status)
        return status;
    if (!found)
        log_line(LOG_WARN, "the file has no tokenizer.ggml.pre: it is old, and its text may be split in other places than the model knows");
    bool sarvam = is_name(name, size, "sarvam-moe");
    if (sarvam || is_name(name, size, "granite-embed-multi-311m") || is_name(name, size, "gemma4"))
        return open_characters(f, !sarvam);
    if (is_name(name, size, "whitespace"))
        return open_words(f);
    struct opening o = {.t = t, .err = f->err};
    unsigned flags;
    t->bpe.vocabulary = &t->vocabulary;
    status = gguf_read_tokens(f, true);
    if (!status)
        status = pre_open(&o, name, size, &flags);
    if (!status)
        status = read_merges(f);
    if (!status)
        status = bpe_finish(&t->bpe, NULL, f->err);
    if (!status)
        status = add_byte_level_decoder(&o);
    t->bpe.ignore_merges = !status && flags & PRE_WHOLE;
    t->model = model_bpe;
    return status ? status : gguf_read_ends(f, -1, -1, flags & PRE_BOS, false);
}

/* ---- pieces by merges ("gemma4", "whitespace" and a few names) ------------------------------------------------------------ */

/* Characters, not bytes; what is no token becomes byte tokens. */
static enum status finish_characters(struct gguf_file *f, bool bos)
{
    struct tokenizer *t = f->t;
    t->bpe.vocabulary = &t->vocabulary;
    t->bpe.byte_fallback = t->bpe.fuse_unk = t->keeps_bytes = true;
    t->model = model_bpe;
    enum status status = gguf_read_tokens(f, true);
    if (!status)
        status = read_merges(f);
    if (!status)
        status = bpe_finish(&t->bpe, NULL, f->err);
    if (!status)
        status = gguf_read_id(f, "tokenizer.ggml.unknown_token_id", -1, &t->bpe.unk);
    return status ? status : gguf_read_ends(f, -1, -1, bos, false);
}

/* Blanks are marks. */
static enum status open_characters(struct gguf_file *f, bool bos)
{
    struct opening o = {.t = f->t, .err = f->err};
    enum status status = add_replace(&o, " ", "\xE2\x96\x81");
    if (!status)
        status = add_piece_decoders(&o, false);
    return status ? status : finish_characters(f, bos);
}

static enum status open_gemma4(struct gguf_file *f) { return open_characters(f, true); }

/* Words between blanks, which are lost. */
static enum status open_words(struct gguf_file *f)
{
    struct opening o = {.t = f->t, .err = f->err};
    bool lower = false;
    enum status status = meta_bool(f->set, "tokenizer.ggml.normalizer.lowercase", &lower, NULL, f->err);
    if (!status && lower)
        status = open_lowercase(&o, NULL);
    if (!status)
        status = open_whitespace_split(&o, NULL);
    if (!status)
        status = open_byte_fallback(&o, NULL);
    return status ? status : finish_characters(f, false);
}

/* ---- all kinds ------------------------------------------------------------------------------------------------------------------ */

static enum status open_kind(struct gguf_file *f, const char *model, uint64_t size)
{
    static const struct {
        const char *name;
        enum status (*open)(struct gguf_file *f);
    } kinds[] = {{"gpt2", open_gpt2}, {"llama", gguf_open_llama}, {"t5", gguf_open_t5}, {"bert", gguf_open_bert}, {"gemma4", open_gemma4},
                 {"rwkv", gguf_open_rwkv}, {"plamo2", gguf_open_plamo}, {"whitespace", open_words}};
    enum status status = read_arrays(f);
    if (status)
        return status;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (is_name(model, size, kinds[i].name))
            return kinds[i].open(f);
    return error_set(f->err, STATUS_BAD_INPUT, "tokenizer.ggml.model is \"%s\", which is unknown; a newer version of ingot may know it",
                     QUOTE(model, size));
}

enum status tokenizer_open_gguf(struct tokenizer **out, const struct tensor_set *set, struct error *err)
{
    *out = NULL;
    const char *model = NULL;
    uint64_t size = 0;
    bool found = false;
    enum status status = meta_string(set, "tokenizer.ggml.model", &model, &size, &found, err);
    if (status)
        return status;
    if (!found || is_name(model, size, "none") || is_name(model, size, "no_vocab"))
        return error_set(err, STATUS_NOT_FOUND, "the file holds no vocabulary (tokenizer.ggml.model is %s)", found ? QUOTE(model, size) : "missing");
    struct tokenizer *t = calloc(1, sizeof *t);
    if (!t)
        return error_memory(err, "a tokenizer");
    t->bos = t->eos = -1;
    struct gguf_file f = {.t = t, .set = set, .err = err};
    status = open_kind(&f, model, size);
    if (!status)
        status = read_turn_ends(&f);
    if (!status)
        status = tokenizer_finish(t, err);
    if (!status)
        *out = t;
    else
        tokenizer_close(t);
    return status;
}
