/* Decoders: each respells one token; Fuse ends that, what follows sees the whole text (detokenizer.c). */
#include <string.h>

#include "tokenizers/internal.h"

enum status open_decoders(struct opening *o, const struct json *v)
{
    const struct json *list = json_get(v, "decoders");
    if (!json_is(list, JSON_ARRAY))
        return error_set(o->err, STATUS_BAD_INPUT, "decoder Sequence: \"decoders\" must be an array, not %s", json_kind_name(list));
    o->t->has_decoder = true;
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < list->size && !status; i++)
        status = component_open(o, ROLE_DECODER, &list->items[i]);
    return status;
}

static void put_back(struct str *text, struct str *made)
{
    str_clear(text);
    str_add(text, str_text(made), made->size);
    text->failed |= made->failed;
    str_free(made);
}

/* A token of stand-ins becomes its bytes; one with any other character is taken as it is. */
static void run_byte_level(const struct decoder *d, struct detokenizer *state, struct str *text)
{
    (void)d, (void)state;
    struct str bytes = {0};
    for (size_t at = 0; at < text->size;) {
        uint32_t c;
        at += text_next(text->data + at, text->size - at, &c);
        int byte = stand_in_byte(c);
        if (byte < 0) {
            str_free(&bytes);
            return;
        }
        str_add_char(&bytes, (char)byte);
    }
    put_back(text, &bytes);
}

static void run_replace(const struct decoder *d, struct detokenizer *state, struct str *text)
{
    (void)state;
    struct pattern_run run = {0};
    struct str made = {0};
    struct pattern_place place = {0};
    size_t done = 0, start, end;
    bool found;
    while (!pattern_next(&d->pattern, &run, str_text(text), text->size, &place, &found, &start, &end, NULL) && found) {
        str_add(&made, text->data + done, start - done);
        str_add(&made, str_text(&d->content), d->content.size);
        done = end;
    }
    pattern_run_free(&run);
    if (done || made.size) {
        str_add(&made, text->data + done, text->size - done);
        put_back(text, &made);
    }
    str_free(&made);
}

/* The mark becomes a blank, in the first token nothing. */
static void run_metaspace(const struct decoder *d, struct detokenizer *state, struct str *text)
{
    struct str made = {0};
    for (size_t at = 0, size; at < text->size; at += size) {
        uint32_t c;
        size = text_next(text->data + at, text->size - at, &c);
        if (c != d->character)
            str_add(&made, text->data + at, size);
        else if (state->started || d->never)
            str_add_char(&made, ' ');
    }
    put_back(text, &made);
}

static void run_strip(const struct decoder *d, struct detokenizer *state, struct str *text)
{
    (void)state;
    size_t start = 0, end = text->size;
    uint32_t c;
    for (int64_t n = 0; n < d->start && start < end; n++) {
        size_t size = text_next(text->data + start, end - start, &c);
        if (c != d->character)
            break;
        start += size;
    }
    for (int64_t n = 0; n < d->stop && end > start; n++) {
        size_t before = text_before(text->data, end);
        text_next(text->data + before, end - before, &c);
        if (c != d->character)
            break;
        end = before;
    }
    if (start == 0 && end == text->size)
        return;
    struct str made = {0};
    str_add(&made, text->data + start, end - start);
    put_back(text, &made);
}

/* The suffix of a word becomes a blank, unless the text ends there: the last blank is held back. */
static void run_bpe(const struct decoder *d, struct detokenizer *state, struct str *text)
{
    struct str made = {0};
    const char *at = str_text(text), *end = at + text->size, *suffix;
    if (state->held_blank)
        str_add_char(&made, ' ');
    state->held_blank = false;
    while (d->content.size && (suffix = memmem(at, (size_t)(end - at), d->content.data, d->content.size))) {
        str_add(&made, at, (size_t)(suffix - at));
        at = suffix + d->content.size;
        if (at == end)
            state->held_blank = true;
        else
            str_add_char(&made, ' ');
    }
    str_add(&made, at, (size_t)(end - at));
    put_back(text, &made);
}

/* All of `from` in text becomes `to`. */
static void replace_all(struct str *text, const char *from, size_t from_size, const char *to)
{
    struct str made = {0};
    const char *at = str_text(text), *end = at + text->size, *found;
    if (!from_size || !memmem(at, text->size, from, from_size))
        return;
    for (; (found = memmem(at, (size_t)(end - at), from, from_size)); at = found + from_size) {
        str_add(&made, at, (size_t)(found - at));
        str_add_text(&made, to);
    }
    str_add(&made, at, (size_t)(end - at));
    put_back(text, &made);
}

/* Blanks that English spelling does not have. */
static void clean_up(struct str *text)
{
    static const char *const pairs[][2] = {{" .", "."}, {" ?", "?"}, {" !", "!"}, {" ,", ","}, {" ' ", "'"}, {" n't", "n't"}, {" 'm", "'m"},
                                           {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        replace_all(text, pairs[i][0], strlen(pairs[i][0]), pairs[i][1]);
}

/* Pieces that continue a word lose their prefix, others get a blank in front. */
static void run_wordpiece(const struct decoder *d, struct detokenizer *state, struct str *text)
{
    struct str made = {0};
    bool continues = text->size >= d->content.size && (!d->content.size || memcmp(text->data, d->content.data, d->content.size) == 0);
    size_t from = state->started && continues ? d->content.size : 0;
    if (state->started && !continues)
        str_add_char(&made, ' ');
    str_add(&made, str_text(text) + from, text->size - from);
    put_back(text, &made);
    if (d->cleanup)
        clean_up(text);
}

/* A token right behind itself is one; the pad token is nothing. */
static void run_ctc(const struct decoder *d, struct detokenizer *state, struct str *text)
{
    if (state->started && state->last == state->present) {
        str_clear(text);
        return;
    }
    replace_all(text, str_text(&d->content), d->content.size, "");
    if (!d->cleanup)
        return;
    clean_up(text);
    replace_all(text, str_text(&d->word), d->word.size, " ");
}

/* ---- opening ---------------------------------------------------------------------------------------------------------- */

static struct decoder *add_run(struct opening *o, void (*run)(const struct decoder *, struct detokenizer *, struct str *))
{
    o->t->has_decoder = true;
    if (o->t->fused) {
        error_set(o->err, STATUS_BAD_INPUT, "decoder: only Strip is supported behind Fuse");
        return NULL;
    }
    struct decoder *d = add_decoder(o);
    if (d)
        d->run = run;
    return d;
}

enum status open_byte_level_decoder(struct opening *o, const struct json *v)
{
    (void)v;
    return add_run(o, run_byte_level) ? STATUS_OK : STATUS_BAD_INPUT;
}

enum status open_replace_decoder(struct opening *o, const struct json *v)
{
    struct decoder *d = add_run(o, run_replace);
    if (!d)
        return STATUS_BAD_INPUT;
    enum status status = pattern_open(&d->pattern, json_get(v, "pattern"), "decoder Replace", o->err);
    return status ? status : take_text(o, v, "decoder Replace", "content", &d->content) ? STATUS_OK : STATUS_BAD_INPUT;
}

static bool take_character(struct opening *o, const struct json *v, const char *component, const char *key, uint32_t *out)
{
    struct str text = {0};
    bool good = take_text(o, v, component, key, &text);
    if (good && text.size && text_next(text.data, text.size, out) != text.size) {
        error_set(o->err, STATUS_BAD_INPUT, "%s: \"%s\" must be one character", component, key);
        good = false;
    }
    str_free(&text);
    return good;
}

enum status open_metaspace_decoder(struct opening *o, const struct json *v)
{
    struct decoder *d = add_run(o, run_metaspace);
    enum scheme scheme = PREPEND_ALWAYS;
    if (!d)
        return STATUS_BAD_INPUT;
    d->character = 0x2581;
    if (!take_character(o, v, "decoder Metaspace", "replacement", &d->character) || !take_scheme(o, v, &scheme))
        return STATUS_BAD_INPUT;
    d->never = scheme == PREPEND_NEVER;
    return STATUS_OK;
}

enum status open_byte_fallback(struct opening *o, const struct json *v)
{
    (void)v;
    o->t->has_decoder = o->t->fallback_bytes = true;
    return STATUS_OK;
}

enum status open_fuse(struct opening *o, const struct json *v)
{
    (void)v;
    o->t->has_decoder = o->t->fused = true;
    return STATUS_OK;
}

enum status open_strip_decoder(struct opening *o, const struct json *v)
{
    struct tokenizer *t = o->t;
    uint32_t character = ' ';
    int64_t start = 0, stop = 0;
    if (!take_character(o, v, "decoder Strip", "content", &character) || !take_int(o, v, "decoder Strip", "start", 0, 1 << 20, &start) ||
        !take_int(o, v, "decoder Strip", "stop", 0, 1 << 20, &stop))
        return STATUS_BAD_INPUT;
    t->has_decoder = true;
    if (t->fused) {
        if (stop || t->strip_start)
            return error_set(o->err, STATUS_BAD_INPUT, "decoder Strip: \"stop\" behind Fuse is not supported");
        t->strip_start = start;
        t->strip = character;
        return STATUS_OK;
    }
    struct decoder *d = add_run(o, run_strip);
    if (!d)
        return STATUS_BAD_INPUT;
    d->character = character;
    d->start = start;
    d->stop = stop;
    return STATUS_OK;
}

enum status open_bpe_decoder(struct opening *o, const struct json *v)
{
    struct decoder *d = add_run(o, run_bpe);
    if (!d)
        return STATUS_BAD_INPUT;
    str_add_text(&d->content, "</w>");
    return take_text(o, v, "BPEDecoder", "suffix", &d->content) ? STATUS_OK : STATUS_BAD_INPUT;
}

enum status open_wordpiece_decoder(struct opening *o, const struct json *v)
{
    struct decoder *d = add_run(o, run_wordpiece);
    if (!d)
        return STATUS_BAD_INPUT;
    d->cleanup = true;
    str_add_text(&d->content, "##");
    bool good = take_text(o, v, "decoder WordPiece", "prefix", &d->content) && take_bool(o, v, "decoder WordPiece", "cleanup", &d->cleanup);
    return good ? STATUS_OK : STATUS_BAD_INPUT;
}

enum status add_wordpiece_decoder(struct opening *o) { return open_wordpiece_decoder(o, NULL); }

enum status open_ctc_decoder(struct opening *o, const struct json *v)
{
    struct decoder *d = add_run(o, run_ctc);
    if (!d)
        return STATUS_BAD_INPUT;
    d->cleanup = true;
    str_add_text(&d->content, "<pad>");
    str_add_text(&d->word, "|");
    bool good = take_text(o, v, "CTC", "pad_token", &d->content) && take_text(o, v, "CTC", "word_delimiter_token", &d->word) &&
                take_bool(o, v, "CTC", "cleanup", &d->cleanup);
    return good ? STATUS_OK : STATUS_BAD_INPUT;
}

enum status add_byte_level_decoder(struct opening *o) { return open_byte_level_decoder(o, NULL); }

/* SentencePiece: marks to blanks, byte tokens to bytes, one blank at the start of the whole text away. */
enum status add_piece_decoders(struct opening *o, bool strip_first_blank)
{
    struct decoder *d = add_run(o, run_replace);
    if (!d)
        return STATUS_BAD_INPUT;
    str_add_text(&d->content, " ");
    o->t->fallback_bytes = o->t->fused = true;
    o->t->strip = ' ';
    o->t->strip_start = strip_first_blank;
    return pattern_literal(&d->pattern, "\xE2\x96\x81", 3, o->err);
}
