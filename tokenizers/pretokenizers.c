/* Pre-tokenizers: each splits the pieces of the one before, or respells them. */
#include <stdlib.h>
#include <string.h>

#include "tokenizers/internal.h"

void pieces_add(struct pieces *p, size_t start, size_t end)
{
    if (start >= end || p->failed)
        return;
    if (p->count == p->capacity) {
        size_t capacity = p->capacity ? p->capacity * 2 : 256;
        struct piece *list = realloc(p->list, capacity * sizeof *list);
        if (!list) {
            p->failed = true;
            return;
        }
        p->list = list;
        p->capacity = capacity;
    }
    p->list[p->count++] = (struct piece){(uint32_t)start, (uint32_t)end};
}

/* ---- splitting: matches and gaps, joined as the behaviour says ------------------------------------------------------------ */

/* Receives the parts of one piece from left to right and puts the resulting pieces into out. */
struct splitter {
    struct pieces *out;
    enum behavior behavior;
    bool invert;
    bool any, before; /* a part came before in this piece; it was a match */
    size_t start, end; /* the piece in the making; start == end: none */
};

static void flush(struct splitter *s)
{
    pieces_add(s->out, s->start, s->end);
    s->start = s->end;
}

static void begin_piece(struct splitter *s, size_t at)
{
    s->any = s->before = false;
    s->start = s->end = at;
}

static void add_part(struct splitter *s, size_t start, size_t end, bool match)
{
    bool is = match != s->invert, joins = false;
    switch (s->behavior) {
    case REMOVED:
    case ISOLATED:
        break;
    case CONTIGUOUS:
        joins = s->any && is == s->before;
        break;
    case MERGED_WITH_PREVIOUS:
        joins = s->any && is && !s->before;
        break;
    case MERGED_WITH_NEXT:
        joins = s->any && !is && s->before; /* a run of matches: only its last one goes to the next part */
        break;
    }
    if (!joins) {
        flush(s);
        s->start = start;
    }
    s->end = end;
    if (s->behavior == REMOVED && is)
        s->start = s->end;
    s->before = is;
    s->any = true;
}

static enum status split_by_pattern(const struct pretokenizer *p, struct scratch *s, const char *text, struct piece piece,
                                    struct splitter *splitter, struct error *err)
{
    const char *base = text + piece.start; /* lookaround and anchors see only this piece */
    size_t size = piece.end - piece.start, done = 0, start, end;
    struct pattern_place place = {0};
    begin_piece(splitter, piece.start);
    for (;;) {
        bool found;
        enum status status = pattern_next(&p->pattern, &s->run, base, size, &place, &found, &start, &end, err);
        if (status)
            return status;
        if (!found)
            break;
        if (start > done)
            add_part(splitter, piece.start + done, piece.start + start, false);
        add_part(splitter, piece.start + start, piece.start + end, true);
        done = end;
    }
    if (done < size)
        add_part(splitter, piece.start + done, piece.end, false);
    flush(splitter);
    return STATUS_OK;
}

static void split_by_class(const struct pretokenizer *p, const char *text, struct piece piece, struct splitter *splitter)
{
    size_t done = piece.start;
    begin_piece(splitter, piece.start);
    for (size_t at = piece.start, size; at < piece.end; at += size) {
        uint32_t c;
        size = text_next(text + at, piece.end - at, &c);
        if (!p->class(c))
            continue;
        if (at > done)
            add_part(splitter, done, at, false);
        add_part(splitter, at, at + size, true);
        done = at + size;
    }
    if (done < piece.end)
        add_part(splitter, done, piece.end, false);
    flush(splitter);
}

enum status take_pieces_over(struct scratch *s, struct cut *cut, struct error *err)
{
    if (s->pieces.failed)
        return error_memory(err, "the pieces of a text");
    struct pieces swap = cut->pieces;
    cut->pieces = s->pieces;
    s->pieces = swap;
    return STATUS_OK;
}

static enum status run_split(const struct pretokenizer *p, struct scratch *s, struct cut *cut, struct error *err)
{
    s->pieces.count = 0;
    struct splitter splitter = {.out = &s->pieces, .behavior = p->behavior, .invert = p->invert};
    for (size_t i = 0; i < cut->pieces.count; i++) {
        enum status status = STATUS_OK;
        if (p->class)
            split_by_class(p, cut->text.data, cut->pieces.list[i], &splitter);
        else
            status = split_by_pattern(p, s, cut->text.data, cut->pieces.list[i], &splitter, err);
        if (status)
            return status;
    }
    return take_pieces_over(s, cut, err);
}

/* ---- respelling ------------------------------------------------------------------------------------------------------------ */

/* Replaces the text of the cut by what is in scratch. */
static enum status take_text_over(struct scratch *s, struct cut *cut, struct error *err)
{
    if (s->text.failed || s->text.size > UINT32_MAX / 4)
        return error_memory(err, "the pieces of a text");
    struct str text = cut->text;
    cut->text = s->text;
    s->text = text;
    return take_pieces_over(s, cut, err);
}

/* Stand-ins take at most two bytes: room for all is made first, the loop only writes. */
void add_stand_ins(struct str *out, const char *text, size_t size)
{
    enum { ROOM = 256 };
    for (size_t at = 0; at < size;) {
        char bytes[ROOM];
        size_t n = 0;
        while (at < size && n + 4 < sizeof bytes) {
            unsigned char b = (unsigned char)text[at];
            size_t length = 1;
            if (b == 0xED) {
                uint32_t c;
                length = text_next(text + at, size - at, &c);
                if (text_is_stray(c))
                    b = (unsigned char)c;
                else
                    length = 1;
            }
            uint32_t c = byte_stand_in[b];
            if (c < 0x80) {
                bytes[n++] = (char)c;
            } else {
                bytes[n++] = (char)(0xC0 | c >> 6);
                bytes[n++] = (char)(0x80 | (c & 0x3F));
            }
            at += length;
        }
        str_add(out, bytes, n);
    }
}

static enum status run_byte_level(const struct pretokenizer *p, struct scratch *s, struct cut *cut, struct error *err)
{
    str_clear(&s->text);
    s->pieces.count = 0;
    for (size_t i = 0; i < cut->pieces.count; i++) {
        const struct piece *piece = &cut->pieces.list[i];
        size_t start = s->text.size;
        if (p->prefix && cut->text.data[piece->start] != ' ')
            str_add_char(&s->text, ' ');
        str_add(&s->text, cut->text.data + piece->start, piece->end - piece->start);
        pieces_add(&s->pieces, start, s->text.size);
    }
    return take_text_over(s, cut, err);
}

static enum status run_stand_ins(const struct pretokenizer *p, struct scratch *s, struct cut *cut, struct error *err)
{
    (void)p;
    str_clear(&s->text);
    s->pieces.count = 0;
    for (size_t i = 0; i < cut->pieces.count; i++) {
        const struct piece *piece = &cut->pieces.list[i];
        size_t start = s->text.size;
        add_stand_ins(&s->text, cut->text.data + piece->start, piece->end - piece->start);
        pieces_add(&s->pieces, start, s->text.size);
    }
    return take_text_over(s, cut, err);
}

static enum status run_metaspace(const struct pretokenizer *p, struct scratch *s, struct cut *cut, struct error *err)
{
    const char *mark = str_text(&p->replacement);
    size_t mark_size = p->replacement.size;
    str_clear(&s->text);
    s->pieces.count = 0;
    for (size_t i = 0; i < cut->pieces.count; i++) {
        const struct piece *piece = &cut->pieces.list[i];
        const char *text = cut->text.data + piece->start;
        size_t size = piece->end - piece->start, start = s->text.size;
        bool marked = text[0] == ' ' || (size >= mark_size && memcmp(text, mark, mark_size) == 0);
        bool wanted = p->scheme == PREPEND_ALWAYS || (p->scheme == PREPEND_FIRST && cut->first && piece->start == 0);
        if (wanted && !marked)
            str_add(&s->text, mark, mark_size);
        for (const char *blank; size && (blank = memchr(text, ' ', size)); size -= (size_t)(blank - text) + 1, text = blank + 1) {
            str_add(&s->text, text, (size_t)(blank - text));
            str_add(&s->text, mark, mark_size);
        }
        str_add(&s->text, text, size);
        pieces_add(&s->pieces, start, s->text.size);
    }
    return take_text_over(s, cut, err);
}

bool is_stand_ins(const struct pretokenizer *p) { return p->run == run_stand_ins; }
bool isolates_matches(const struct pretokenizer *p)
{
    return p->run == run_split && p->pattern.scanner && !p->class && p->behavior == ISOLATED && !p->invert;
}

enum status pretokenize(const struct tokenizer *t, int steps, struct scratch *s, struct cut *cut, struct error *err)
{
    cut->pieces.count = 0;
    pieces_add(&cut->pieces, 0, cut->text.size);
    enum status status = cut->pieces.failed ? error_memory(err, "the pieces of a text") : STATUS_OK;
    for (int i = 0; i < steps && !status; i++)
        status = t->pretokenizers[i].run(&t->pretokenizers[i], s, cut, err);
    return status;
}

/* ---- opening --------------------------------------------------------------------------------------------------------------- */

enum status open_pretokenizers(struct opening *o, const struct json *v)
{
    const struct json *list = json_get(v, "pretokenizers");
    if (!json_is(list, JSON_ARRAY))
        return error_set(o->err, STATUS_BAD_INPUT, "pre_tokenizer Sequence: \"pretokenizers\" must be an array, not %s", json_kind_name(list));
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < list->size && !status; i++)
        status = component_open(o, ROLE_PRETOKENIZER, &list->items[i]);
    return status;
}

static bool take_behavior(struct opening *o, const struct json *v, const char *component, enum behavior *out)
{
    static const struct {
        const char *name;
        enum behavior behavior;
    } names[] = {{"Removed", REMOVED},
                 {"Isolated", ISOLATED},
                 {"MergedWithPrevious", MERGED_WITH_PREVIOUS},
                 {"MergedWithNext", MERGED_WITH_NEXT},
                 {"Contiguous", CONTIGUOUS}};
    const struct json *value = json_get(v, "behavior");
    if (!value || value->kind == JSON_NULL)
        return true;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (json_is_text(value, names[i].name)) {
            *out = names[i].behavior;
            return true;
        }
    bool text = value->kind == JSON_STRING;
    error_set(o->err, STATUS_BAD_INPUT, "%s: \"behavior\" is %s; it must be Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous",
              component, text ? QUOTE(value->text, value->size) : json_kind_name(value));
    return false;
}

struct pretokenizer *add_split(struct opening *o)
{
    struct pretokenizer *p = add_pretokenizer(o);
    if (p) {
        p->run = run_split;
        p->behavior = ISOLATED;
    }
    return p;
}

enum status open_split(struct opening *o, const struct json *v)
{
    struct pretokenizer *p = add_split(o);
    if (!p)
        return STATUS_BAD_INPUT;
    enum status status = pattern_open(&p->pattern, json_get(v, "pattern"), "Split", o->err);
    if (!status && !(take_behavior(o, v, "Split", &p->behavior) && take_bool(o, v, "Split", "invert", &p->invert)))
        status = STATUS_BAD_INPUT;
    return status;
}

enum status add_split_regex(struct opening *o, const char *regex)
{
    struct pretokenizer *p = add_split(o);
    return p ? pattern_regex(&p->pattern, regex, strlen(regex), o->err) : STATUS_BAD_INPUT;
}

enum status add_class_split(struct opening *o, bool (*class)(uint32_t), enum behavior behavior)
{
    struct pretokenizer *p = add_pretokenizer(o);
    if (!p)
        return STATUS_BAD_INPUT;
    p->run = run_split;
    p->class = class;
    p->behavior = behavior;
    return STATUS_OK;
}

enum status open_digits(struct opening *o, const struct json *v)
{
    bool individual = false;
    if (!take_bool(o, v, "Digits", "individual_digits", &individual))
        return STATUS_BAD_INPUT;
    return add_class_split(o, is_numeric, individual ? ISOLATED : CONTIGUOUS);
}

enum status open_punctuation(struct opening *o, const struct json *v)
{
    enum behavior behavior = ISOLATED;
    if (!take_behavior(o, v, "Punctuation", &behavior))
        return STATUS_BAD_INPUT;
    return add_class_split(o, is_punctuation, behavior);
}

enum status open_whitespace_split(struct opening *o, const struct json *v) { return (void)v, add_class_split(o, is_white, REMOVED); }

/* Runs of word characters, and runs of all others; white space goes. */
static enum status run_words(const struct pretokenizer *p, struct scratch *s, struct cut *cut, struct error *err)
{
    (void)p;
    enum kind { WHITE, WORD, OTHER };
    s->pieces.count = 0;
    for (size_t i = 0; i < cut->pieces.count; i++) {
        size_t start = cut->pieces.list[i].start, end = cut->pieces.list[i].end, at = start;
        enum kind before = WHITE;
        for (size_t size; at < end; at += size) {
            uint32_t c;
            size = text_next(cut->text.data + at, end - at, &c);
            enum kind kind = is_white(c) ? WHITE : is_word(c) ? WORD : OTHER;
            if (kind == before)
                continue;
            if (before != WHITE)
                pieces_add(&s->pieces, start, at);
            start = at;
            before = kind;
        }
        if (before != WHITE)
            pieces_add(&s->pieces, start, end);
    }
    return take_pieces_over(s, cut, err);
}

enum status open_whitespace(struct opening *o, const struct json *v)
{
    (void)v;
    struct pretokenizer *p = add_pretokenizer(o);
    if (!p)
        return STATUS_BAD_INPUT;
    p->run = run_words;
    return STATUS_OK;
}

static enum status run_fixed_length(const struct pretokenizer *p, struct scratch *s, struct cut *cut, struct error *err)
{
    s->pieces.count = 0;
    for (size_t i = 0; i < cut->pieces.count; i++) {
        size_t start = cut->pieces.list[i].start, end = cut->pieces.list[i].end;
        for (size_t at = start; at < end; start = at) {
            uint32_t c;
            for (int64_t n = 0; n < p->length && at < end; n++)
                at += text_next(cut->text.data + at, end - at, &c);
            pieces_add(&s->pieces, start, at);
        }
    }
    return take_pieces_over(s, cut, err);
}

enum status open_fixed_length(struct opening *o, const struct json *v)
{
    struct pretokenizer *p = add_pretokenizer(o);
    if (!p)
        return STATUS_BAD_INPUT;
    p->run = run_fixed_length;
    p->length = 5;
    return take_int(o, v, "FixedLength", "length", 1, INT32_MAX, &p->length) ? STATUS_OK : STATUS_BAD_INPUT;
}

enum status open_char_delimiter(struct opening *o, const struct json *v)
{
    struct pretokenizer *p = add_pretokenizer(o);
    const struct json *delimiter = json_get(v, "delimiter");
    if (!p)
        return STATUS_BAD_INPUT;
    p->run = run_split;
    p->behavior = REMOVED;
    if (!json_is(delimiter, JSON_STRING) || !delimiter->size)
        return error_set(o->err, STATUS_BAD_INPUT, "CharDelimiterSplit: \"delimiter\" must be one character");
    return pattern_literal(&p->pattern, delimiter->text, delimiter->size, o->err);
}

/* GPT-2's own pattern (openai/gpt-2, encoder.py) */
#define GPT2_REGEX "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

static enum status add_byte_level_steps(struct opening *o, bool prefix, bool regex)
{
    struct pretokenizer *p = NULL;
    if (prefix && !(p = add_pretokenizer(o)))
        return STATUS_BAD_INPUT;
    if (p) {
        p->run = run_byte_level;
        p->prefix = true;
    }
    enum status status = regex ? add_split_regex(o, GPT2_REGEX) : STATUS_OK;
    if (status || !(p = add_pretokenizer(o)))
        return STATUS_BAD_INPUT;
    p->run = run_stand_ins;
    o->t->keeps_bytes = true;
    return STATUS_OK;
}

enum status open_byte_level(struct opening *o, const struct json *v)
{
    bool prefix = true, regex = true;
    if (!take_bool(o, v, "ByteLevel", "add_prefix_space", &prefix) || !take_bool(o, v, "ByteLevel", "use_regex", &regex))
        return STATUS_BAD_INPUT;
    return add_byte_level_steps(o, prefix, regex);
}

enum status add_byte_level(struct opening *o, bool gpt2_regex) { return add_byte_level_steps(o, false, gpt2_regex); }

bool take_scheme(struct opening *o, const struct json *v, enum scheme *out)
{
    bool prefix = true;
    if (!take_bool(o, v, "Metaspace", "add_prefix_space", &prefix))
        return false;
    const struct json *scheme = json_get(v, "prepend_scheme");
    *out = prefix ? PREPEND_ALWAYS : PREPEND_NEVER;
    if (!scheme || scheme->kind == JSON_NULL || json_is_text(scheme, "always")) {
        if (json_is(scheme, JSON_STRING))
            *out = PREPEND_ALWAYS;
    } else if (json_is_text(scheme, "first")) {
        *out = PREPEND_FIRST;
    } else if (json_is_text(scheme, "never")) {
        *out = PREPEND_NEVER;
    } else {
        error_set(o->err, STATUS_BAD_INPUT, "Metaspace: \"prepend_scheme\" must be always, first or never");
        return false;
    }
    return true;
}

enum status open_metaspace(struct opening *o, const struct json *v)
{
    struct pretokenizer *p = add_pretokenizer(o);
    if (!p)
        return STATUS_BAD_INPUT;
    p->run = run_metaspace;
    str_add_text(&p->replacement, "\xE2\x96\x81");
    bool split = true;
    if (!take_text(o, v, "Metaspace", "replacement", &p->replacement) || !take_scheme(o, v, &p->scheme) ||
        !take_bool(o, v, "Metaspace", "split", &split))
        return STATUS_BAD_INPUT;
    if (!p->replacement.size)
        return error_set(o->err, STATUS_BAD_INPUT, "Metaspace: \"replacement\" must be one character");
    struct pretokenizer *splitter = split ? add_pretokenizer(o) : NULL;
    if (!splitter)
        return split ? STATUS_BAD_INPUT : STATUS_OK;
    splitter->run = run_split;
    splitter->behavior = MERGED_WITH_NEXT;
    return pattern_literal(&splitter->pattern, p->replacement.data, p->replacement.size, o->err);
}
