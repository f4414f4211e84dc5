/* Vocabularies of pieces inside a GGUF: SentencePiece's two models and BERT's. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizers/gguf_file.h"

/* ---- SentencePiece BPE ("llama") -------------------------------------------------------------------------------------------- */

/* Only ordinary pieces are joined; unused ones too, but they are taken apart again. */
static enum status rank_scores(struct gguf_file *f)
{
    const struct vocabulary *v = &f->t->vocabulary;
    struct bpe *b = &f->t->bpe;
    float *scores = malloc((v->count + 1u) * sizeof *scores);
    b->vocabulary = v;
    for (uint32_t e = 0; e < v->count && scores; e++) {
        enum token_type type = gguf_type(f, v->ids[e]);
        scores[e] = type == NORMAL || type == UNUSED ? gguf_score(f, v->ids[e]) : NAN;
    }
    enum status status = scores ? bpe_rank(b, scores, f->err) : error_memory(f->err, "the vocabulary");
    for (uint32_t e = 0; e < v->count && !status; e++)
        if (gguf_type(f, v->ids[e]) == UNUSED)
            status = bpe_set_unused(b, e, f->err);
    free(scores);
    return status;
}

enum status gguf_open_llama(struct gguf_file *f)
{
    struct tokenizer *t = f->t;
    struct opening o = {.t = t, .err = f->err};
    bool prefix = true;
    if (!f->scores)
        return error_set(f->err, STATUS_BAD_INPUT, "tokenizer.ggml.scores is missing");
    enum status status = gguf_read_tokens(f, true);
    if (!status)
        status = meta_bool(f->set, "tokenizer.ggml.add_space_prefix", &prefix, NULL, f->err);
    if (!status && prefix)
        status = add_prepend(&o, "\xE2\x96\x81");
    if (!status)
        status = add_replace(&o, " ", "\xE2\x96\x81");
    if (!status)
        status = add_piece_decoders(&o, prefix);
    if (!status)
        status = rank_scores(f);
    t->bpe.vocabulary = &t->vocabulary;
    t->bpe.byte_fallback = t->bpe.fuse_unk = t->keeps_bytes = true;
    if (!status)
        status = bpe_finish(&t->bpe, NULL, f->err);
    if (!status)
        status = gguf_read_id(f, "tokenizer.ggml.unknown_token_id", 0, &t->bpe.unk);
    t->model = model_bpe;
    return status ? status : gguf_read_ends(f, 1, 2, true, false);
}

/* ---- SentencePiece Unigram ("t5") --------------------------------------------------------------------------------------------- */

/* Scores, kinds and the user's own pieces. */
static enum status read_scores(struct gguf_file *f, struct trie_text *user, size_t *users)
{
    struct unigram *u = &f->t->unigram;
    const struct vocabulary *v = &f->t->vocabulary;
    double lowest = INFINITY;
    u->highest = -INFINITY;
    for (uint32_t e = 0; e < v->count; e++) {
        enum token_type type = gguf_type(f, v->ids[e]);
        float score = gguf_score(f, v->ids[e]);
        u->scores[e] = score == score ? score : -INFINITY;
        u->kinds[e] = type == NORMAL ? UNIGRAM_NORMAL : type == USER_DEFINED ? UNIGRAM_USER : UNIGRAM_NEVER;
        if (type == USER_DEFINED) {
            size_t size;
            const char *text = vocabulary_entry(v, e, &size);
            user[(*users)++] = (struct trie_text){text, (uint32_t)size, v->ids[e]};
        }
        if (type != NORMAL)
            continue;
        lowest = u->scores[e] < lowest ? u->scores[e] : lowest;
        u->highest = u->scores[e] > u->highest ? u->scores[e] : u->highest;
    }
    u->unknown = (float)lowest - 10.0f;
    u->single = true;
    return STATUS_OK;
}

/* Bytes of an array of i8 or u8, NULL if it is absent. */
static enum status read_map(struct gguf_file *f, struct piece_rules *rules)
{
    const char *key = "tokenizer.ggml.precompiled_charsmap";
    const struct meta *map = meta_find(f->set, key);
    enum meta_type element = map && map->type == META_ARRAY && map->element == META_I8 ? META_I8 : META_U8;
    enum status status = meta_array(f->set, key, element, &map, f->err);
    if (!status && map) {
        rules->map = (const char *)map->data;
        rules->map_size = (size_t)map->count;
    }
    return status;
}

static enum status add_unigram_steps(struct gguf_file *f, const struct piece_rules *rules)
{
    struct tokenizer *t = f->t;
    struct opening o = {.t = t, .err = f->err};
    struct trie_text *user = malloc((t->vocabulary.count + 1u) * sizeof *user);
    size_t users = 0;
    enum status status = user ? unigram_start(&t->unigram, &t->vocabulary, f->err) : error_memory(f->err, "the vocabulary");
    if (!status)
        status = read_scores(f, user, &users);
    if (!status)
        status = add_pieces_normalizer(&o, rules, user, users);
    free(user);
    if (!status)
        status = gguf_read_id(f, "tokenizer.ggml.unknown_token_id", 2, &t->unigram.unk);
    return status ? status : add_pieces_decoder(&o, rules, t->unigram.unk, " \xE2\x81\x87 ", 5);
}

enum status gguf_open_t5(struct gguf_file *f)
{
    struct tokenizer *t = f->t;
    struct piece_rules rules = {.escape = true};
    if (!f->scores)
        return error_set(f->err, STATUS_BAD_INPUT, "tokenizer.ggml.scores is missing");
    enum status status = gguf_read_tokens(f, false);
    if (!status)
        status = meta_bool(f->set, "tokenizer.ggml.add_space_prefix", &rules.prefix, NULL, f->err);
    if (!status)
        status = meta_bool(f->set, "tokenizer.ggml.remove_extra_whitespaces", &rules.extra, NULL, f->err);
    if (!status)
        status = meta_bool(f->set, "tokenizer.ggml.escape_whitespaces", &rules.escape, NULL, f->err);
    if (!status)
        status = meta_bool(f->set, "tokenizer.ggml.treat_whitespace_as_suffix", &rules.suffix, NULL, f->err);
    if (!status)
        status = read_map(f, &rules);
    if (!status)
        status = add_unigram_steps(f, &rules);
    t->model = model_unigram;
    return status ? status : gguf_read_ends(f, -1, 1, false, true);
}

/* ---- PLaMo 2 ("plamo2") ------------------------------------------------------------------------------------------------------- */

/* Scores in ten-thousandths; below twice what bytes cost a piece is never taken. */
static enum status read_costs(struct gguf_file *f)
{
    struct unigram *u = &f->t->unigram;
    const struct vocabulary *v = &f->t->vocabulary;
    for (uint32_t e = 0; e < v->count; e++) {
        enum token_type type = gguf_type(f, v->ids[e]);
        double score = round((double)gguf_score(f, v->ids[e]) * 1e4);
        bool text = (type == NORMAL || type == USER_DEFINED) && score > -2e7 && score < 2e9;
        u->scores[e] = text ? score : 0;
        u->kinds[e] = text ? UNIGRAM_NORMAL : UNIGRAM_NEVER;
    }
    for (int i = 0; i < 256; i++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", i);
        if (vocabulary_find(v, name, 6) < 0)
            return error_set(f->err, STATUS_BAD_INPUT, "there is no token %s; all 256 bytes must be there", name);
    }
    return STATUS_OK;
}

enum status gguf_open_plamo(struct gguf_file *f)
{
    struct tokenizer *t = f->t;
    struct opening o = {.t = t, .err = f->err};
    if (!f->scores)
        return error_set(f->err, STATUS_BAD_INPUT, "tokenizer.ggml.scores is missing");
    enum status status = gguf_read_tokens(f, false);
    if (!status)
        status = unigram_start(&t->unigram, &t->vocabulary, f->err);
    if (!status)
        status = read_costs(f);
    if (!status)
        status = open_byte_fallback(&o, NULL);
    t->keeps_bytes = true;
    t->model = model_unigram_back;
    return status ? status : gguf_read_ends(f, 1, 2, true, false);
}

/* ---- WordPiece ("bert") -------------------------------------------------------------------------------------------------------- */

/* A word's beginning is marked there, its continuation is not: the other way round as in BERT's own files. */
static enum status read_words(struct gguf_file *f)
{
    struct tokenizer *t = f->t;
    struct str word = {0};
    uint64_t at = 0, size;
    enum status status = STATUS_OK;
    for (int64_t id = 0; id < f->count && !status; id++) {
        const char *text = meta_next_string(f->tokens, &at, &size);
        enum token_type type = gguf_type(f, id);
        bool mark = size >= 3 && memcmp(text, "\xE2\x96\x81", 3) == 0, brackets = size > 2 && text[0] == '[' && text[size - 1] == ']';
        bool special = type == CONTROL || type == UNKNOWN;
        str_clear(&word);
        if (!special && !mark && !brackets)
            str_add_text(&word, "##");
        size_t skip = mark && !special ? 3 : 0;
        str_add(&word, text + skip, (size_t)size - skip);
        status = word.failed ? error_memory(f->err, "the vocabulary") : vocabulary_add(&t->vocabulary, str_text(&word), word.size, (int32_t)id, f->err);
    }
    str_free(&word);
    return status ? status : vocabulary_index(&t->vocabulary, TWICE_FIRST, f->err);
}

/* Special tokens: those that keys name, and those whose type says so. */
static enum status add_words(struct gguf_file *f, const int32_t *named, size_t count)
{
    struct tokenizer *t = f->t;
    enum status status = STATUS_OK;
    for (int32_t id = 0; id < f->count && !status; id++) {
        enum token_type type = gguf_type(f, id);
        bool special = type == CONTROL || type == UNKNOWN, user = type == USER_DEFINED;
        for (size_t i = 0; i < count; i++)
            special |= named[i] == id;
        size_t size;
        const char *text = special || user ? vocabulary_text(&t->vocabulary, id, &size) : NULL;
        if (text)
            status = added_add(&t->added, text, size, (struct added_token){.id = id, .special = special}, f->err);
    }
    return status;
}

enum status gguf_open_bert(struct gguf_file *f)
{
    struct tokenizer *t = f->t;
    struct opening o = {.t = t, .err = f->err};
    bool lower = true, accents;
    enum { PAD, UNK, CLS, SEP, MASK, NAMED };
    static const struct {
        const char *key, *other; /* as it was misspelled for years */
        int64_t missing;
    } keys[NAMED] = {[PAD] = {"padding_token_id", NULL, 0},
                     [UNK] = {"unknown_token_id", NULL, 100},
                     [CLS] = {"bos_token_id", "cls_token_id", 101},
                     [SEP] = {"separator_token_id", "seperator_token_id", 102},
                     [MASK] = {"mask_token_id", NULL, 103}};
    int32_t named[NAMED];
    enum status status = read_words(f);
    for (int i = 0; i < NAMED && !status; i++) {
        char key[64];
        snprintf(key, sizeof key, "tokenizer.ggml.%s", keys[i].other ? keys[i].other : keys[i].key);
        if (!meta_find(f->set, key))
            snprintf(key, sizeof key, "tokenizer.ggml.%s", keys[i].key);
        status = gguf_read_id(f, key, keys[i].missing, &named[i]);
    }
    if (!status)
        status = add_words(f, named, NAMED);
    if (!status)
        status = meta_bool(f->set, "tokenizer.ggml.normalizer.lowercase", &lower, NULL, f->err);
    accents = lower;
    if (!status)
        status = meta_bool(f->set, "tokenizer.ggml.normalizer.strip_accents", &accents, NULL, f->err);
    if (!status)
        status = add_bert_normalizer(&o, lower, accents);
    if (!status)
        status = add_bert_pretokenizers(&o);
    if (!status)
        status = add_wordpiece_decoder(&o);
    if (status)
        return status;
    t->words = (struct words){.vocabulary = &t->vocabulary, .unk = named[UNK], .longest = 100};
    str_add_text(&t->words.prefix, "##");
    t->model = model_wordpiece;
    t->bos = named[CLS];
    t->eos = named[SEP];
    return gguf_read_around(f, true, true);
}
