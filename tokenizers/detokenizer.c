/* Ids to text, one by one. A token's text goes through the decoders, then waits in `pending` until it is certain:
 * whole characters, broken bytes as U+FFFD. */
#include <string.h>

#include "base/utf8.h"
#include "tokenizers/internal.h"

void detokenizer_init(struct detokenizer *d, const struct tokenizer *t, bool keep_special)
{
    *d = (struct detokenizer){.tokenizer = t, .keep_special = keep_special};
}

void detokenizer_free(struct detokenizer *d) { str_free(&d->pending); }

enum status detokenizer_copy(struct detokenizer *to, const struct detokenizer *from, struct error *err)
{
    *to = *from;
    to->pending = (struct str){0};
    str_add(&to->pending, str_text(&from->pending), from->pending.size);
    return to->pending.failed ? error_memory(err, "a detokenizer") : STATUS_OK;
}

/* Bytes of text that no later token can change any more. */
static void print(struct detokenizer *d, const char *text, size_t size, struct str *out)
{
    const struct tokenizer *t = d->tokenizer;
    while (size && d->stripped < t->strip_start) {
        uint32_t c;
        size_t n = text_next(text, size, &c);
        if (c != t->strip) {
            d->stripped = t->strip_start;
            break;
        }
        d->stripped++;
        text += n;
        size -= n;
    }
    str_add(out, text, size);
}

static void print_broken(struct detokenizer *d, size_t bytes, struct str *out)
{
    /* byte tokens stand for single bytes, and each broken one is one U+FFFD (as in SentencePiece); elsewhere a maximal
     * broken part is */
    for (size_t i = 0; i < (d->tokenizer->fallback_bytes ? bytes : 1); i++)
        print(d, "\xEF\xBF\xBD", 3, out);
}

/* Prints what is certain of pending; all: what is left as well. */
static void drain(struct detokenizer *d, bool all, struct str *out)
{
    const char *text = str_text(&d->pending);
    size_t size = d->pending.size, at = 0;
    size_t end = all ? size : size - utf8_unfinished(text, size);
    while (at < end) {
        size_t good = utf8_valid_prefix(text + at, end - at);
        print(d, text + at, good, out);
        at += good;
        if (at == end)
            break;
        uint32_t c;
        size_t bad = utf8_decode(text + at, size - at, &c);
        print_broken(d, bad, out);
        at += bad;
    }
    if (at) {
        memmove(d->pending.data, d->pending.data + at, size - at);
        d->pending.size = size - at;
    }
}

void tokenizer_bytes(const struct tokenizer *t, int32_t id, struct str *out)
{
    size_t size;
    const char *text = id >= 0 && id < t->size ? token_text(t, id, &size) : NULL;
    int byte = text && t->fallback_bytes ? byte_token(text, size) : -1;
    if (byte >= 0)
        str_add_char(out, (char)byte);
    if (!text || byte >= 0)
        return;
    struct detokenizer running = {.tokenizer = t, .started = true, .begun = true, .present = id, .last = -1};
    struct str token = {0};
    str_add(&token, text, size);
    for (int i = 0; i < t->decoder_count; i++)
        t->decoders[i].run(&t->decoders[i], &running, &token);
    str_add(out, str_text(&token), token.size);
    out->failed |= token.failed;
    str_free(&token);
}

enum status detokenizer_add(struct detokenizer *d, int32_t id, struct str *out, struct error *err)
{
    const struct tokenizer *t = d->tokenizer;
    if (id < 0 || id >= t->size)
        return error_set(err, STATUS_USAGE, "the id %d is outside the vocabulary of %d tokens", id, t->size);
    size_t size;
    const char *text = token_text(t, id, &size);
    d->present = id;
    if (!text || (!d->keep_special && tokenizer_is_special(t, id)))
        return STATUS_OK;
    int byte = t->fallback_bytes ? byte_token(text, size) : -1;
    if (byte >= 0) {
        str_add_char(&d->pending, (char)byte);
        d->begun = true;
    } else {
        struct str token = {0};
        if (!t->has_decoder && d->started)
            str_add_char(&token, ' ');
        str_add(&token, text, size);
        for (int i = 0; i < t->decoder_count; i++)
            t->decoders[i].run(&t->decoders[i], d, &token);
        str_add(&d->pending, str_text(&token), token.size);
        d->pending.failed |= token.failed;
        str_free(&token);
    }
    d->started = true;
    d->last = id;
    drain(d, false, out);
    return d->pending.failed || out->failed ? error_memory(err, "a detokenizer") : STATUS_OK;
}

void detokenizer_finish(struct detokenizer *d, struct str *out)
{
    drain(d, true, out);
    d->held_blank = false; /* the blank of a last suffix is none */
}
