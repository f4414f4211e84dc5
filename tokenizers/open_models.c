/* The models of tokenizer.json: how each reads its keys, and runs on a piece. */
#include <math.h>

#include "tokenizers/internal.h"

/* ---- BPE ------------------------------------------------------------------------------------------------------------------ */

enum status model_bpe(const struct tokenizer *t, struct scratch *s, const char *piece, size_t size, struct ids *out, struct error *err)
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
    enum status status = t->vocabulary.slots ? STATUS_OK : vocabulary_index(&t->vocabulary, TWICE_REFUSED, o->err);
    if (!status)
        queue_open(o->merges);
    if (!status)
        status = queue_finish(o->merges, o->err);
    if (status)
        return status;
    struct str unk = {0};
    bool good = take_text(o, v, "BPE", "unk_token", &unk) && take_text(o, v, "BPE", "continuing_subword_prefix", &b->prefix) &&
                take_text(o, v, "BPE", "end_of_word_suffix", &b->suffix) && take_bool(o, v, "BPE", "fuse_unk", &b->fuse_unk) &&
                take_bool(o, v, "BPE", "byte_fallback", &b->byte_fallback) && take_bool(o, v, "BPE", "ignore_merges", &b->ignore_merges);
    status = good ? STATUS_OK : STATUS_BAD_INPUT;
    if (!status)
        status = bpe_finish(b, &unk, o->err);
    str_free(&unk);
    t->keeps_bytes |= b->byte_fallback;
    t->model = model_bpe;
    return status;
}

/* ---- Unigram ---------------------------------------------------------------------------------------------------------------- */

enum status model_unigram(const struct tokenizer *t, struct scratch *s, const char *piece, size_t size, struct ids *out, struct error *err)
{
    return unigram_encode(&t->unigram, &s->unigram, piece, size, out, err);
}

enum status model_unigram_back(const struct tokenizer *t, struct scratch *s, const char *piece, size_t size, struct ids *out, struct error *err)
{
    return unigram_encode_back(&t->unigram, &s->unigram, piece, size, out, err);
}

enum status open_unigram(struct opening *o, const struct json *v)
{
    struct tokenizer *t = o->t;
    struct unigram *u = &t->unigram;
    const struct json *vocab = json_get(v, "vocab");
    int64_t unk = -1;
    if (!json_is(vocab, JSON_ARRAY))
        return error_set(o->err, STATUS_BAD_INPUT, "Unigram: \"vocab\" must be an array, not %s", json_kind_name(vocab));
    if (t->vocabulary.slots)
        return error_set(o->err, STATUS_BAD_INPUT, "Unigram: \"merges\" are not for this model");
    enum status status = vocabulary_index(&t->vocabulary, TWICE_LAST, o->err);
    if (!status)
        status = unigram_start(u, &t->vocabulary, o->err);
    if (status)
        return status;
    double lowest = INFINITY;
    for (size_t i = 0; i < o->scores->count; i++) {
        u->scores[i] = o->scores->list[i];
        lowest = u->scores[i] < lowest ? u->scores[i] : lowest;
    }
    u->unknown = lowest - 10;
    if (!take_int(o, v, "Unigram", "unk_id", 0, (int64_t)t->vocabulary.count - 1, &unk) ||
        !take_bool(o, v, "Unigram", "byte_fallback", &u->byte_fallback))
        return STATUS_BAD_INPUT;
    u->unk = (int32_t)unk;
    t->keeps_bytes |= u->byte_fallback;
    t->model = model_unigram;
    return STATUS_OK;
}

/* ---- words ------------------------------------------------------------------------------------------------------------------- */

enum status model_greedy(const struct tokenizer *t, struct scratch *s, const char *piece, size_t size, struct ids *out, struct error *err)
{
    (void)s;
    return greedy_encode(&t->words, piece, size, out, err);
}

enum status model_wordpiece(const struct tokenizer *t, struct scratch *s, const char *piece, size_t size, struct ids *out, struct error *err)
{
    return wordpiece_encode(&t->words, &s->word, piece, size, out, err);
}

static enum status model_wordlevel(const struct tokenizer *t, struct scratch *s, const char *piece, size_t size, struct ids *out, struct error *err)
{
    (void)s;
    return wordlevel_encode(&t->words, piece, size, out, err);
}

static enum status open_words(struct opening *o, const struct json *v, const char *component, const char *unk_default)
{
    struct tokenizer *t = o->t;
    const struct json *vocab = json_get(v, "vocab");
    if (!json_is(vocab, JSON_OBJECT))
        return error_set(o->err, STATUS_BAD_INPUT, "%s: \"vocab\" must be an object, not %s", component, json_kind_name(vocab));
    struct str unk = {0};
    str_add_text(&unk, unk_default);
    enum status status = take_text(o, v, component, "unk_token", &unk) ? STATUS_OK : STATUS_BAD_INPUT;
    if (!status && !t->vocabulary.slots)
        status = vocabulary_index(&t->vocabulary, TWICE_REFUSED, o->err);
    t->words.vocabulary = &t->vocabulary;
    t->words.unk = status ? -1 : vocabulary_find(&t->vocabulary, str_text(&unk), unk.size);
    str_free(&unk);
    return status;
}

enum status open_wordpiece(struct opening *o, const struct json *v)
{
    struct words *w = &o->t->words;
    w->longest = 100;
    str_add_text(&w->prefix, "##");
    if (!take_text(o, v, "WordPiece", "continuing_subword_prefix", &w->prefix) ||
        !take_int(o, v, "WordPiece", "max_input_chars_per_word", 0, 1 << 20, &w->longest))
        return STATUS_BAD_INPUT;
    o->t->model = model_wordpiece;
    return open_words(o, v, "WordPiece", "[UNK]");
}

enum status open_wordlevel(struct opening *o, const struct json *v)
{
    o->t->model = model_wordlevel;
    return open_words(o, v, "WordLevel", "<unk>");
}
