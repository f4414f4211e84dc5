/* SentencePiece's own way from text to pieces' text and back (google/sentencepiece, normalizer.cc, sentencepiece_processor.cc): for
 * tokenizer.model and GGUF's "t5", where no list of components says it. */
#include <string.h>

#include "tokenizers/internal.h"

#define MARK "\xE2\x96\x81" /* U+2581 stands for a blank */

/* What the text begins with, normalised: a user's own piece stays as it is, then the map, then the character itself. */
static const char *next_part(const struct normalizer *n, const char *text, size_t size, size_t *length, size_t *made, uint64_t *steps)
{
    const char *with;
    uint32_t c;
    if (n->user.count && trie_longest(&n->user, text, size, length, steps) >= 0)
        return *made = *length, text;
    if (charsmap_find(&n->map, text, size, true, length, &with, made))
        return with;
    *made = *length = text_next(text, size, &c);
    return text;
}

static void add_escaped(const struct normalizer *n, const char *part, size_t size, struct str *out)
{
    const char *blank;
    for (; n->escape && size && (blank = memchr(part, ' ', size)); size -= (size_t)(blank + 1 - part), part = blank + 1) {
        str_add(out, part, (size_t)(blank - part));
        str_add_text(out, MARK);
    }
    str_add(out, part, size);
}

static enum status run_pieces(const struct normalizer *n, struct scratch *s, const struct str *in, struct str *out, struct error *err)
{
    const char *text = str_text(in), *mark = n->escape ? MARK : " ";
    size_t size = in->size, length, made;
    bool blank_before = n->extra, any = false;
    uint64_t steps = 0;
    for (size_t at = 0; at < size; at += length) {
        const char *part = next_part(n, text + at, size - at, &length, &made, &steps);
        if (!any && n->extra && made == 1 && *part == ' ')
            continue; /* blanks in front do not count as text */
        if (!any && n->left)
            str_add_text(out, mark);
        any = true;
        for (; blank_before && made && *part == ' '; part++, made--)
            continue;
        add_escaped(n, part, made, out);
        if (made)
            blank_before = n->extra && part[made - 1] == ' ';
        if (out->size > s->room)
            break; /* normalize() refuses it */
        if (steps > ((uint64_t)1 << 28) + size * 256)
            return error_set(err, STATUS_FAILED, "the pieces of the tokenizer take too many steps on this text");
    }
    size_t mark_size = strlen(mark);
    while (n->extra && out->size >= mark_size && memcmp(out->data + out->size - mark_size, mark, mark_size) == 0)
        out->size -= mark_size;
    if (any && n->right)
        str_add_text(out, mark);
    return STATUS_OK;
}

enum status add_pieces_normalizer(struct opening *o, const struct piece_rules *rules, const struct trie_text *user, size_t count)
{
    struct normalizer *n = add_normalizer(o);
    if (!n)
        return STATUS_BAD_INPUT;
    n->run = run_pieces;
    n->left = rules->prefix && !rules->suffix;
    n->right = rules->prefix && rules->suffix;
    n->extra = rules->extra;
    n->escape = rules->escape;
    enum status status = charsmap_open(&n->map, rules->map, rules->map_size, o->err);
    if (!status && count)
        status = trie_build_copy(&n->user, user, count, o->err);
    return status;
}

/* ---- splitting ---------------------------------------------------------------------------------------------------------- */

/* A user's own pieces are never joined with anything: each is a piece of its own. */
static enum status run_user(const struct pretokenizer *p, struct scratch *s, struct cut *cut, struct error *err)
{
    uint64_t steps = 0;
    s->pieces.count = 0;
    for (size_t i = 0; i < cut->pieces.count; i++) {
        size_t start = cut->pieces.list[i].start, end = cut->pieces.list[i].end;
        for (size_t at = start, length; at < end; at += length) {
            uint32_t c;
            if (trie_longest(&p->user, cut->text.data + at, end - at, &length, &steps) < 0) {
                length = text_next(cut->text.data + at, end - at, &c);
                continue;
            }
            pieces_add(&s->pieces, start, at);
            pieces_add(&s->pieces, at, at + length);
            start = at + length;
        }
        pieces_add(&s->pieces, start, end);
    }
    if (steps > ((uint64_t)1 << 28) + cut->text.size * 256)
        return error_set(err, STATUS_FAILED, "the pieces of the tokenizer take too many steps on this text");
    return take_pieces_over(s, cut, err);
}

enum status add_user_split(struct opening *o, const struct trie_text *user, size_t count)
{
    struct pretokenizer *p = add_pretokenizer(o);
    if (!p)
        return STATUS_BAD_INPUT;
    p->run = run_user;
    return trie_build_copy(&p->user, user, count, o->err);
}

/* ---- and back ----------------------------------------------------------------------------------------------------------- */

/* Marks are blanks; those that the prefix may have put in front go: one, or one of each piece until there is text. */
static void run_marks(const struct decoder *d, struct detokenizer *state, struct str *text)
{
    struct str made = {0};
    const char *at = str_text(text), *end = at + text->size, *mark;
    if (state->present == d->unk) {
        str_clear(text);
        str_add(text, str_text(&d->content), d->content.size);
        state->begun = true;
        return;
    }
    if (!state->begun && (d->start || d->extra) && text->size >= 3 && memcmp(at, MARK, 3) == 0) {
        at += 3;
        state->begun = !d->extra;
    }
    for (; (mark = memmem(at, (size_t)(end - at), MARK, 3)); at = mark + 3) {
        str_add(&made, at, (size_t)(mark - at));
        str_add_char(&made, ' ');
    }
    str_add(&made, at, (size_t)(end - at));
    state->begun |= made.size > 0;
    str_clear(text);
    str_add(text, str_text(&made), made.size);
    text->failed |= made.failed;
    str_free(&made);
}

enum status add_pieces_decoder(struct opening *o, const struct piece_rules *rules, int32_t unk, const char *surface, size_t surface_size)
{
    struct decoder *d = add_decoder(o);
    if (!d)
        return STATUS_BAD_INPUT;
    o->t->has_decoder = o->t->fallback_bytes = true;
    d->run = run_marks;
    d->start = rules->prefix;
    d->extra = rules->extra;
    d->unk = unk;
    str_add(&d->content, surface, surface_size);
    return d->content.failed ? error_memory(o->err, "a decoder") : STATUS_OK;
}
