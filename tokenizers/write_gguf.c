/* A folder's tokenizer as GGUF's keys tokenizer.ggml.*. GGUF has fewer words than tokenizer.json: what it cannot say and what
 * would change ids is refused by name, what changes nothing but flags is told. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/files/writer.h"
#include "base/log.h"
#include "tokenizers/internal.h"
#include "tokenizers/pre.h"

enum token_type { NORMAL = 1, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE };
enum { FILE_LIMIT = 256 << 20 };

#define SPACE "\xE2\x96\x81"

struct writing {
    const struct tokenizer *t;
    const struct chat_source *chat;
    struct json normalizer, pretokenizer; /* of tokenizer.json; kind JSON_NULL where absent */
    struct arena arena;
    int64_t vocab;
    struct gguf_keys *keys;
    struct error *err;
};

/* ---- the file's own words ------------------------------------------------------------------------------------------- */

static int skip_large(void *context, int depth, const char *key, size_t size)
{
    (void)context;
    return depth == 2 && ((size == 5 && !memcmp(key, "vocab", 5)) || (size == 6 && !memcmp(key, "merges", 6)));
}

static enum status skip_child(void *context, int which, const struct json_member *m, struct error *err)
{
    (void)context, (void)which, (void)m, (void)err;
    return STATUS_OK;
}

static enum status read_file(struct writing *w, const char *folder)
{
    char *text, *path = file_join(&w->arena, folder, "tokenizer.json");
    size_t size;
    struct json root;
    struct json_options options = {.large = skip_large, .child = skip_child};
    enum status status = path ? file_read(&w->arena, path, FILE_LIMIT, &text, &size, w->err) : error_memory(w->err, "a path");
    if (!status)
        status = json_parse(&w->arena, text, size, &options, &root, w->err);
    const struct json *normalizer = status ? NULL : json_get(&root, "normalizer"), *pretokenizer = status ? NULL : json_get(&root, "pre_tokenizer");
    if (normalizer)
        w->normalizer = *normalizer;
    if (pretokenizer)
        w->pretokenizer = *pretokenizer;
    return status;
}

/* ---- tokens --------------------------------------------------------------------------------------------------------- */

static const char *spelling(const struct tokenizer *t, int32_t id, size_t *size)
{
    const struct added_token *a = added_by_id(&t->added, id);
    return a ? vocabulary_entry(&t->added.texts, (uint32_t)(a - t->added.tokens), size) : vocabulary_text(&t->vocabulary, id, size);
}

static enum token_type type_of(const struct writing *w, int32_t id, const char *text, size_t size, bool pieces)
{
    const struct added_token *a = added_by_id(&w->t->added, id);
    if (!text)
        return UNUSED;
    if (pieces && id == w->t->bpe.unk)
        return UNKNOWN;
    if (a)
        return a->special ? CONTROL : USER_DEFINED;
    return pieces && byte_token(text, size) >= 0 ? BYTE : NORMAL;
}

static enum status write_tokens(struct writing *w, bool pieces)
{
    const struct tokenizer *t = w->t;
    size_t size, flags = 0;
    int32_t *types = calloc((size_t)w->vocab + 1, sizeof *types);
    if (!types)
        return error_memory(w->err, "the vocabulary");
    if (t->size > w->vocab)
        log_line(LOG_SAY, "the tokenizer knows %" PRId32 " ids, the model %" PRId64 ": those beyond are left out", t->size, w->vocab);
    gguf_key_array(w->keys, "tokenizer.ggml.tokens", META_STRING, (uint64_t)w->vocab);
    for (int64_t id = 0; id < w->vocab; id++) {
        char unused[32];
        const char *text = id < t->size ? spelling(t, (int32_t)id, &size) : NULL;
        types[id] = (int32_t)type_of(w, (int32_t)id, text, size, pieces);
        if (!text)
            size = (size_t)snprintf(unused, sizeof unused, "[PAD%" PRId64 "]", id); /* as llama.cpp's converter fills holes */
        gguf_add_string(w->keys, text ? text : unused, size);
    }
    gguf_key_array(w->keys, "tokenizer.ggml.token_type", META_I32, (uint64_t)w->vocab);
    gguf_add_values(w->keys, types, (size_t)w->vocab * sizeof *types);
    free(types);
    for (size_t i = 0; i < t->added.count; i++)
        flags += t->added.tokens[i].lstrip || t->added.tokens[i].rstrip || t->added.tokens[i].single_word;
    if (flags)
        log_line(LOG_WARN, "%zu added tokens have lstrip, rstrip or single_word, which GGUF cannot say: white space beside them stays text", flags);
    return STATUS_OK;
}

/* ---- byte-level BPE ------------------------------------------------------------------------------------------------- */

static enum status write_merges(struct writing *w)
{
    const struct tokenizer *t = w->t;
    gguf_key_array(w->keys, "tokenizer.ggml.merges", META_STRING, t->bpe.merge_count);
    struct str line = {0};
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < t->bpe.merge_count && !status; i++) {
        size_t left, right;
        const char *a = vocabulary_text(&t->vocabulary, t->bpe.merges[i].left, &left), *b = vocabulary_text(&t->vocabulary, t->bpe.merges[i].right, &right);
        str_clear(&line);
        str_add(&line, a, left);
        str_add_char(&line, ' ');
        str_add(&line, b, right);
        if (memchr(a, ' ', left) || memchr(b, ' ', right))
            status = error_set(w->err, STATUS_BAD_INPUT, "merges: \"%s\" has a blank inside a token, which GGUF's merges cannot say", QUOTE(line.data, line.size));
        gguf_add_string(w->keys, str_text(&line), line.size);
    }
    w->keys->bytes.failed |= line.failed;
    str_free(&line);
    return status;
}

static enum status write_bytes_kind(struct writing *w)
{
    const struct bpe *b = &w->t->bpe;
    if (b->unk >= 0 || b->prefix.size || b->suffix.size)
        return error_set(w->err, STATUS_BAD_INPUT, "model: unk_token, continuing_subword_prefix and end_of_word_suffix of a BPE have no key in GGUF");
    const char *name = pre_find(&w->normalizer, &w->pretokenizer, b->ignore_merges, w->err);
    if (!name)
        return STATUS_BAD_INPUT;
    gguf_key_string(w->keys, "tokenizer.ggml.model", "gpt2", 4);
    gguf_key_string(w->keys, "tokenizer.ggml.pre", name, strlen(name));
    enum status status = write_tokens(w, false);
    return status ? status : write_merges(w);
}

/* ---- SentencePiece BPE ---------------------------------------------------------------------------------------------- */

static bool is_replace(const struct json *v)
{
    return json_is_text(json_get(v, "type"), "Replace") && json_is_text(json_get(json_get(v, "pattern"), "String"), " ") &&
           json_is_text(json_get(v, "content"), SPACE);
}

/* Blanks become U+2581, and perhaps one is put in front. */
static enum status find_prefix(struct writing *w, bool *prefix)
{
    const struct json *n = &w->normalizer, *p = &w->pretokenizer, *items = json_get(n, "normalizers");
    bool sequence = json_is_text(json_get(n, "type"), "Sequence") && json_is(items, JSON_ARRAY), split = true;
    if (json_is(p, JSON_NULL)) {
        bool both = sequence && items->size == 2 && json_is_text(json_get(&items->items[0], "type"), "Prepend") &&
                    json_is_text(json_get(&items->items[0], "prepend"), SPACE) && is_replace(&items->items[1]);
        *prefix = both;
        if (both || is_replace(n) || (sequence && items->size == 1 && is_replace(&items->items[0])))
            return STATUS_OK;
    }
    json_bool(json_get(p, "split"), &split);
    if (json_is(n, JSON_NULL) && json_is_text(json_get(p, "type"), "Metaspace") && json_is_text(json_get(p, "replacement"), SPACE) && !split) {
        const struct json *scheme = json_get(p, "prepend_scheme");
        bool old = false;
        *prefix = scheme ? !json_is_text(scheme, "never") : json_bool(json_get(p, "add_prefix_space"), &old) && old;
        if (*prefix)
            log_line(LOG_SAY, "pre_tokenizer Metaspace puts its blank only where a text does not begin with one; GGUF has no key for that: "
                              "texts that begin with a blank, and texts behind special tokens, get one more");
        return STATUS_OK;
    }
    return error_set(w->err, STATUS_BAD_INPUT, "normalizer and pre_tokenizer are not SentencePiece's (Prepend and Replace, or Metaspace without split); GGUF has no key for others");
}

/* Scores that make the same joins as the merges: a piece's score is minus the place of its first merge. That is the same
 * only if merges of one piece stand together and every way to join it is among them; both are checked. */
static enum status make_scores(const struct writing *w, float *scores)
{
    const struct tokenizer *t = w->t;
    const struct bpe *b = &t->bpe;
    uint32_t *ways = calloc((size_t)t->size + 1, sizeof *ways);
    if (!ways)
        return error_memory(w->err, "the scores");
    enum status status = STATUS_OK;
    size_t size;
    for (int64_t id = 0; id < w->vocab; id++)
        scores[id] = -(float)b->merge_count - (float)id - 1; /* never the result of a join: behind all others */
    int32_t last = -1, rank = 0;
    for (uint32_t i = 0; i < b->merge_count && !status; i++) {
        int32_t id = b->merges[i].result;
        rank += id != last;
        if (id != last && ways[id])
            status = error_set(w->err, STATUS_BAD_INPUT, "merges: those that make \"%s\" do not stand together, so no scores say the same",
                               QUOTE(spelling(t, id, &size), size));
        ways[id]++;
        if (id < w->vocab)
            scores[id] = -(float)(rank - 1);
        last = id;
    }
    for (uint32_t e = 0; e < t->vocabulary.count && !status; e++) {
        const char *text = vocabulary_entry(&t->vocabulary, e, &size);
        int32_t id = t->vocabulary.ids[e];
        uint32_t possible = 0;
        for (size_t at = 1; at < size && !added_by_id(&t->added, id); at++)
            if (((unsigned char)text[at] & 0xC0) != 0x80 && vocabulary_find(&t->vocabulary, text, at) >= 0 &&
                vocabulary_find(&t->vocabulary, text + at, size - at) >= 0)
                possible++;
        if (possible > ways[id] && byte_token(text, size) < 0)
            status = error_set(w->err, STATUS_BAD_INPUT, "merges: %" PRIu32 " of %" PRIu32 " ways to make \"%s\" are there; SentencePiece's scores allow all of them",
                               ways[id], possible, QUOTE(text, size));
    }
    free(ways);
    return status;
}

static enum status write_pieces_kind(struct writing *w)
{
    bool prefix = false;
    enum status status = find_prefix(w, &prefix);
    float *scores = calloc((size_t)w->vocab + 1, sizeof *scores);
    if (!scores)
        status = error_memory(w->err, "the scores");
    if (!status)
        status = make_scores(w, scores);
    if (!status) {
        gguf_key_string(w->keys, "tokenizer.ggml.model", "llama", 5);
        gguf_key_string(w->keys, "tokenizer.ggml.pre", "default", 7);
        gguf_key_int(w->keys, "tokenizer.ggml.add_space_prefix", META_BOOL, prefix);
        gguf_key_array(w->keys, "tokenizer.ggml.scores", META_F32, (uint64_t)w->vocab);
        gguf_add_values(w->keys, scores, (size_t)w->vocab * sizeof *scores);
        status = write_tokens(w, true);
    }
    free(scores);
    return status;
}

/* ---- ids by name ---------------------------------------------------------------------------------------------------- */

static void write_id(struct writing *w, const char *key, int32_t id)
{
    if (id >= 0 && id < w->vocab)
        gguf_key_int(w->keys, key, META_U32, id);
}

static int32_t named(const struct writing *w, const char *key)
{
    for (uint32_t i = 0; i < w->chat->token_count; i++) {
        const struct json_member *m = &w->chat->tokens[i];
        if (m->key_size == strlen(key) && !memcmp(m->key, key, m->key_size) && m->value.kind == JSON_STRING)
            return tokenizer_find(w->t, m->value.text, m->value.size);
    }
    return -1;
}

static enum status write_ids(struct writing *w, const int32_t *ends, int end_count)
{
    static const char *const more[] = {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"};
    const struct ids *prefix = &w->t->prefix, *suffix = &w->t->suffix;
    int32_t bos = w->t->bos >= 0 || !prefix->count ? w->t->bos : prefix->data[0];
    int32_t eos = w->t->eos >= 0 ? w->t->eos : end_count ? ends[0] : -1;
    if (prefix->count > 1 || (prefix->count && prefix->data[0] != bos) || suffix->count > 1 || (suffix->count && suffix->data[0] != eos))
        return error_set(w->err, STATUS_BAD_INPUT, "post_processor: GGUF can say BOS in front of a text and EOS behind it, this one puts other tokens there");
    write_id(w, "tokenizer.ggml.bos_token_id", bos);
    write_id(w, "tokenizer.ggml.eos_token_id", eos);
    write_id(w, "tokenizer.ggml.unknown_token_id", w->t->bpe.unk >= 0 ? w->t->bpe.unk : named(w, "unk_token"));
    write_id(w, "tokenizer.ggml.padding_token_id", named(w, "pad_token"));
    int used = 0;
    for (int i = 0; i < end_count; i++)
        if (ends[i] != eos && used < 2)
            write_id(w, more[used++], ends[i]);
    gguf_key_int(w->keys, "tokenizer.ggml.add_bos_token", META_BOOL, prefix->count > 0);
    gguf_key_int(w->keys, "tokenizer.ggml.add_eos_token", META_BOOL, suffix->count > 0);
    return STATUS_OK;
}

enum status tokenizer_write_gguf(const struct tokenizer *t, const char *folder, const struct chat_source *chat, int64_t vocab,
                                 const int32_t *ends, int end_count, struct gguf_keys *keys, struct error *err)
{
    struct writing w = {.t = t, .chat = chat, .vocab = vocab, .keys = keys, .err = err};
    enum status status = read_file(&w, folder);
    if (!status)
        status = t->bpe.byte_fallback ? write_pieces_kind(&w) : write_bytes_kind(&w);
    if (!status)
        status = write_ids(&w, ends, end_count);
    arena_free(&w.arena);
    if (status)
        return error_prefix(err, "%s/tokenizer.json", QUOTE(folder, strlen(folder)));
    return keys->bytes.failed ? error_memory(err, "the vocabulary") : STATUS_OK;
}
