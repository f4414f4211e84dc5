/* The whole tokenizer: encoding, look-ups, lifetime. */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "tokenizers/internal.h"
#include "tokenizers/scanner.h"

/* ---- small things ------------------------------------------------------------------------------------------------------- */

void ids_add(struct ids *ids, int32_t id)
{
    if (ids->failed)
        return;
    if (ids->count == ids->capacity) {
        size_t capacity = ids->capacity ? ids->capacity * 2 : 64;
        int32_t *data = realloc(ids->data, capacity * sizeof *data);
        if (!data) {
            ids->failed = true;
            return;
        }
        ids->data = data;
        ids->capacity = capacity;
    }
    ids->data[ids->count++] = id;
}

void ids_free(struct ids *ids)
{
    free(ids->data);
    *ids = (struct ids){0};
}

void scratch_free(struct scratch *s)
{
    pattern_run_free(&s->run);
    str_free(&s->cut.text);
    str_free(&s->text);
    free(s->cut.pieces.list);
    free(s->pieces.list);
    bpe_work_free(&s->bpe);
    unigram_work_free(&s->unigram);
    str_free(&s->word);
    str_free(&s->spelled);
    cache_free(&s->cache);
}

struct scratch *scratch_take(struct scratch_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    struct scratch *s = pool->first;
    if (s) {
        pool->first = s->next;
        pool->count--;
    }
    pthread_mutex_unlock(&pool->lock);
    if (!s)
        s = calloc(1, sizeof *s);
    if (s && !cache_start(&s->cache)) {
        scratch_free(s);
        free(s);
        s = NULL;
    }
    return s;
}

void scratch_give(struct scratch_pool *pool, struct scratch *s)
{
    enum { MOST = 16, LARGEST = 1 << 20 /* bytes of text; what a long text has made large does not stay */ };
    s->run.started = 0;
    s->run.calls = 0;
    s->run.wasted = 0;
    bool large = s->cut.text.capacity > LARGEST || s->text.capacity > LARGEST || s->bpe.capacity > LARGEST / 16 || s->unigram.capacity > LARGEST / 16;
    pthread_mutex_lock(&pool->lock);
    bool keep = !large && pool->count < MOST;
    if (keep) {
        s->next = pool->first;
        pool->first = s;
        pool->count++;
    }
    pthread_mutex_unlock(&pool->lock);
    if (keep)
        return;
    scratch_free(s);
    free(s);
}

void scratch_pool_free(struct scratch_pool *pool)
{
    for (struct scratch *s = pool ? pool->first : NULL, *next; s; s = next) {
        next = s->next;
        scratch_free(s);
        free(s);
    }
    if (pool)
        pthread_mutex_destroy(&pool->lock);
    free(pool);
}

void tokenizer_close(struct tokenizer *t)
{
    if (!t)
        return;
    vocabulary_free(&t->vocabulary);
    added_free(&t->added);
    bpe_free(&t->bpe);
    unigram_free(&t->unigram);
    words_free(&t->words);
    for (int i = 0; i < t->normalizer_count; i++) {
        pattern_free(&t->normalizers[i].pattern);
        str_free(&t->normalizers[i].content);
        charsmap_free(&t->normalizers[i].map);
        trie_free(&t->normalizers[i].user);
    }
    for (int i = 0; i < t->pretokenizer_count; i++) {
        pattern_free(&t->pretokenizers[i].pattern);
        str_free(&t->pretokenizers[i].replacement);
        trie_free(&t->pretokenizers[i].user);
    }
    for (int i = 0; i < t->decoder_count; i++) {
        pattern_free(&t->decoders[i].pattern);
        str_free(&t->decoders[i].content);
        str_free(&t->decoders[i].word);
    }
    ids_free(&t->prefix);
    ids_free(&t->suffix);
    ids_free(&t->named_ends);
    ids_free(&t->ends);
    scratch_pool_free(t->pool);
    free(t->borders);
    free(t);
}

/* ---- look-ups ------------------------------------------------------------------------------------------------------------ */

int32_t tokenizer_size(const struct tokenizer *t) { return t->size; }
int32_t tokenizer_bos(const struct tokenizer *t) { return t->bos; }
int32_t tokenizer_eos(const struct tokenizer *t) { return t->eos; }

bool tokenizer_adds_bos(const struct tokenizer *t) { return t->prefix.count > 0; }

const char *token_text(const struct tokenizer *t, int32_t id, size_t *size)
{
    const struct added_token *a = added_by_id(&t->added, id);
    return a ? added_form(&t->added, a, size) : vocabulary_text(&t->vocabulary, id, size);
}

int byte_token(const char *text, size_t size)
{
    int value = 0;
    if (size != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>')
        return -1;
    for (int i = 3; i < 5; i++) {
        char c = text[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

const char *tokenizer_piece(const struct tokenizer *t, int32_t id, size_t *size)
{
    const char *text = token_text(t, id, size);
    int byte = text && t->fallback_bytes ? byte_token(text, *size) : -1;
    if (byte < 0)
        return text;
    *size = 1;
    return t->byte_texts + byte;
}

int32_t tokenizer_find(const struct tokenizer *t, const char *text, size_t size)
{
    int32_t id = vocabulary_find(&t->added.texts, text, size);
    return id >= 0 ? id : vocabulary_find(&t->vocabulary, text, size);
}

bool tokenizer_is_special(const struct tokenizer *t, int32_t id)
{
    const struct added_token *a = added_by_id(&t->added, id);
    return a && a->special;
}

size_t tokenizer_end_ids(const struct tokenizer *t, int32_t *ids, size_t capacity)
{
    for (size_t i = 0; i < t->ends.count && i < capacity; i++)
        ids[i] = t->ends.data[i];
    return t->ends.count;
}

/* ---- encoding ------------------------------------------------------------------------------------------------------------- */

struct encoding {
    const struct tokenizer *t;
    struct scratch *scratch;
    bool parse_special;
    const char *marks; /* NULL: none */
    struct ids *out;
    struct error *err;
};

/* A piece that is left of all splitting, which the cache does not know. */
static enum status encode_new(struct encoding *e, const struct cache_slot *slot, const char *piece, size_t size)
{
    const struct tokenizer *t = e->t;
    struct scratch *s = e->scratch;
    size_t before = e->out->count, spelled_size = size;
    const char *spelled = piece;
    enum status status = STATUS_OK;
    bool known = t->bpe.byte_pairs && !t->bpe.ignore_merges && t->stand_ins && bpe_encode_bytes(&t->bpe, piece, size, e->out);
    if (!known && t->stand_ins) {
        str_clear(&s->spelled);
        add_stand_ins(&s->spelled, piece, size);
        spelled = s->spelled.data;
        spelled_size = s->spelled.size;
        if (s->spelled.failed)
            return error_memory(e->err, "a piece of text");
    }
    if (!known && t->stand_ins && t->bpe.byte_pairs) { /* a piece that is a token goes before its merges */
        int32_t id = vocabulary_find(&t->vocabulary, spelled, spelled_size);
        known = id >= 0;
        if (known)
            ids_add(e->out, id);
        else
            known = bpe_encode_bytes(&t->bpe, piece, size, e->out);
    }
    if (!known)
        status = t->model(t, s, spelled, spelled_size, e->out, e->err);
    if (!status && !e->out->failed)
        cache_put(&s->cache, slot, piece, size, e->out->data ? e->out->data + before : NULL, e->out->count - before);
    return status;
}

/* room: bytes of the text from the piece on. */
static inline enum status encode_piece(struct encoding *e, const char *piece, size_t size, size_t room)
{
    struct cache_slot slot;
    return cache_get(&e->scratch->cache, piece, size, room, &slot, e->out) ? STATUS_OK : encode_new(e, &slot, piece, size);
}

/* Text without added tokens, normalised. first: it begins where the input begins. */
static enum status encode_cut(struct encoding *e, const char *text, size_t size, bool first)
{
    struct cut *cut = &e->scratch->cut;
    str_clear(&cut->text);
    str_add(&cut->text, text, size);
    cut->first = first;
    if (cut->text.failed)
        return error_memory(e->err, "the text");
    enum status status = pretokenize(e->t, e->t->pretokenizer_count - e->t->stand_ins, e->scratch, cut, e->err);
    for (size_t i = 0; i < cut->pieces.count && !status; i++) {
        const struct piece *p = &cut->pieces.list[i];
        for (size_t at = p->start, end; at < p->end && !status; at = end) {
            end = e->t->borders ? borders_next(e->t->borders, cut->text.data, p->end, at) : p->end;
            status = encode_piece(e, cut->text.data + at, end - at, cut->text.size - at);
        }
    }
    return status;
}

/* The same where one scanner is all: pieces go to the model as they are found. */
static enum status encode_text(struct encoding *e, const char *text, size_t size, bool first)
{
    const struct pattern *p = e->t->scanned;
    uint64_t allowed = ((uint64_t)1 << 24) + size * 64;
    enum status status = STATUS_OK;
    if (!p)
        return encode_cut(e, text, size, first);
    for (size_t at = 0, end; at < size && !status; at = end) {
        size_t read;
        end = scanner_match(p->scanner, text, size, at, &read);
        e->scratch->run.wasted += read - end;
        if (e->scratch->run.wasted > allowed)
            return encode_cut(e, text + at, size - at, false); /* slowly, with the limits that pattern.c has */
        if (end == at) { /* characters that nothing matches are a piece as far as they reach */
            uint32_t c;
            for (size_t next = at; next == end && end < size;) {
                end += text_next(text + end, size - end, &c);
                next = end < size ? scanner_match(p->scanner, text, size, end, &read) : end;
                e->scratch->run.wasted += read - end;
                if (e->scratch->run.wasted > allowed)
                    return encode_cut(e, text + at, size - at, false);
            }
        }
        status = encode_piece(e, text + at, end - at, size - at);
    }
    return status;
}

static enum status too_slow(struct encoding *e)
{
    return error_set(e->err, STATUS_FAILED, "the added tokens of the tokenizer take too many steps on this text");
}

/* A stretch between the added tokens of the raw text. */
static enum status encode_stretch(struct encoding *e, const char *text, size_t size, bool first, const char *marks)
{
    const struct tokenizer *t = e->t;
    struct str normalized = {0};
    enum status status = STATUS_OK;
    if (t->normalizer_count) {
        status = normalize(t, e->scratch, text, size, &normalized, e->err);
        text = str_text(&normalized);
        size = normalized.size;
    }
    if (!status && !t->added.normalized.count) {
        status = size ? encode_text(e, text, size, first) : STATUS_OK;
        str_free(&normalized);
        return status;
    }
    /* behind a normalizer marks do not fit any more: the raw pass has taken the special tokens already */
    bool lost = marks && t->normalizer_count;
    struct added_cutter cutter = {.added = &t->added, .automaton = &t->added.normalized, .text = text, .size = size,
                                  .parse_special = lost ? false : e->parse_special, .marks = lost ? NULL : marks};
    struct added_match m = {0};
    while (!status && added_next(&cutter, &m)) {
        if (m.token)
            ids_add(e->out, m.token->id);
        else
            status = encode_text(e, text + m.start, m.end - m.start, first && m.start == 0);
    }
    str_free(&normalized);
    return !status && added_too_slow(&cutter) ? too_slow(e) : status;
}

static enum status encode_inside(struct encoding *e, const char *text, size_t size)
{
    const struct tokenizer *t = e->t;
    struct added_cutter cutter = {.added = &t->added, .text = text, .size = size, .parse_special = e->parse_special, .marks = e->marks,
                                  .automaton = e->marks && t->added.trusted.count ? &t->added.trusted : &t->added.raw};
    struct added_match m = {0};
    enum status status = STATUS_OK;
    while (!status && added_next(&cutter, &m)) {
        if (m.token)
            ids_add(e->out, m.token->id);
        else
            status = encode_stretch(e, text + m.start, m.end - m.start, m.start == 0, e->marks ? e->marks + m.start : NULL);
    }
    return !status && added_too_slow(&cutter) ? too_slow(e) : status;
}

static enum status encode(const struct tokenizer *t, const char *text, size_t size, struct encode_options options, const bool *trusted,
                          struct ids *out, struct error *err)
{
    enum { LONGEST = 1 << 28 }; /* offsets inside have 32 bits, and normalizers may make 48 times as much */
    if (size > LONGEST)
        return error_set(err, STATUS_NO_ROOM, "a text of %zu bytes is over the tokenizer's limit of %d; encode it in parts", size, LONGEST);
    struct encoding e = {.t = t, .parse_special = options.parse_special, .out = out, .err = err, .scratch = scratch_take(t->pool)};
    if (!e.scratch)
        return error_memory(err, "a tokenizer's cache");
    struct str inside = {0}, marks = {0};
    size_t before = out->count;
    if (!utf8_is_valid(text, size)) {
        text_enter(text, size, t->keeps_bytes, trusted, &inside, &marks);
        text = str_text(&inside);
        size = inside.size;
        e.marks = trusted ? str_text(&marks) : NULL;
    } else if (trusted) {
        e.marks = (const char *)trusted;
    }
    enum status status = inside.failed || marks.failed ? error_memory(err, "the text") : STATUS_OK;
    for (size_t i = 0; options.add_special && i < t->prefix.count; i++)
        ids_add(out, t->prefix.data[i]);
    if (!status)
        status = encode_inside(&e, text, size);
    for (size_t i = 0; options.add_special && i < t->suffix.count; i++)
        ids_add(out, t->suffix.data[i]);
    if (!status && out->failed)
        status = error_memory(err, "the ids of a text");
    if (status)
        out->count = before;
    str_free(&inside);
    str_free(&marks);
    scratch_give(t->pool, e.scratch);
    return status;
}

enum status tokenizer_encode(const struct tokenizer *t, const char *text, size_t size, struct encode_options options, struct ids *out,
                             struct error *err)
{
    return encode(t, text, size, options, NULL, out, err);
}

enum status tokenizer_encode_marked(const struct tokenizer *t, const char *text, size_t size, const bool *trusted, bool add_special,
                                    struct ids *out, struct error *err)
{
    struct encode_options options = {.add_special = add_special};
    return encode(t, text, size, options, trusted, out, err);
}

/* ---- the end of opening -------------------------------------------------------------------------------------------------------- */

static int compare_ids(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return x < y ? -1 : x > y;
}

/* Texts that end a turn in the chat formats of published models. */
static const char *const end_marks[] = {
    "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<end_of_turn>", "<turn|>", "<|end_of_turn|>", "<|END_OF_TURN_TOKEN|>",
    "<|endoftext|>", "<|end_of_text|>", "<|eot|>", "<|eom|>", "<|return|>", "<|call|>", "<EOT>", "_<EOT>", "<end_of_utterance>",
    ("<\xEF\xBD\x9C" "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>"), /* of DeepSeek; in two, or the e would be hexadecimal */
    "</s>",
};

static int32_t special_of(const struct tokenizer *t, const char *text)
{
    int32_t id = vocabulary_find(&t->added.texts, text, strlen(text));
    return id >= 0 && tokenizer_is_special(t, id) ? id : -1;
}

void tokenizer_collect_ends(struct tokenizer *t)
{
    t->ends.count = 0;
    /* in gpt-oss's format <|end|> ends a message inside a turn, <|return|> and <|call|> end the turn */
    bool harmony = special_of(t, "<|return|>") >= 0 && special_of(t, "<|call|>") >= 0;
    for (size_t i = 0; i < sizeof end_marks / sizeof *end_marks; i++) {
        int32_t id = special_of(t, end_marks[i]);
        if (id >= 0 && !(harmony && strcmp(end_marks[i], "<|end|>") == 0))
            ids_add(&t->ends, id);
    }
    if (t->eos >= 0)
        ids_add(&t->ends, t->eos);
    for (size_t i = 0; i < t->named_ends.count; i++)
        ids_add(&t->ends, t->named_ends.data[i]);
    t->ends.failed |= t->named_ends.failed;
    size_t kept = 0;
    if (t->ends.count)
        qsort(t->ends.data, t->ends.count, sizeof *t->ends.data, compare_ids);
    for (size_t i = 0; i < t->ends.count; i++)
        if (!kept || t->ends.data[kept - 1] != t->ends.data[i])
            t->ends.data[kept++] = t->ends.data[i];
    t->ends.count = kept;
}

/* Special tokens stand in a Unigram vocabulary as well, but plain text never becomes one. */
static enum status finish_unigram(struct tokenizer *t, struct error *err)
{
    for (size_t i = 0; i < t->added.count && t->unigram.scores; i++) {
        int64_t entry = t->added.tokens[i].special ? vocabulary_entry_of(&t->vocabulary, t->added.tokens[i].id) : -1;
        if (entry >= 0 && (t->unigram.single || t->added.tokens[i].id != t->unigram.unk))
            t->unigram.kinds[entry] = UNIGRAM_NEVER;
    }
    return t->unigram.scores ? unigram_finish(&t->unigram, err) : STATUS_OK;
}

/* What makes encoding fast, where it changes nothing. */
static enum status finish_paths(struct tokenizer *t, struct error *err)
{
    int steps = t->pretokenizer_count;
    t->pool = calloc(1, sizeof *t->pool);
    if (!t->pool)
        return error_memory(err, "a tokenizer");
    pthread_mutex_init(&t->pool->lock, NULL);
    t->stand_ins = steps && is_stand_ins(&t->pretokenizers[steps - 1]);
    if (steps - t->stand_ins == 1 && isolates_matches(&t->pretokenizers[0]))
        t->scanned = &t->pretokenizers[0].pattern;
    if (t->model == model_bpe && t->stand_ins)
        return bpe_start_bytes(&t->bpe, err);
    if (t->model != model_bpe || t->stand_ins || !bpe_is_local(&t->bpe))
        return STATUS_OK;
    t->borders = borders_make(&t->vocabulary);
    return t->borders ? STATUS_OK : error_memory(err, "a tokenizer");
}

enum status tokenizer_finish(struct tokenizer *t, struct error *err)
{
    enum status status = added_finish(t, err);
    if (!status)
        status = finish_unigram(t, err);
    if (status)
        return status;
    status = finish_paths(t, err);
    if (status)
        return status;
    t->size = t->vocabulary.size > t->added.texts.size ? t->vocabulary.size : t->added.texts.size;
    for (int i = 0; i < 256; i++)
        t->byte_texts[i] = (char)i;
    for (size_t i = 0; i < t->prefix.count + t->suffix.count; i++) {
        int32_t id = i < t->prefix.count ? t->prefix.data[i] : t->suffix.data[i - t->prefix.count];
        size_t size;
        if (!token_text(t, id, &size))
            return error_set(err, STATUS_BAD_INPUT, "post_processor adds the id %d, which the vocabulary does not have", id);
    }
    tokenizer_collect_ends(t);
    return t->ends.failed ? error_memory(err, "a tokenizer") : STATUS_OK;
}
