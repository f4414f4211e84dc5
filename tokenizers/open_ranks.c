/* Vocabularies of byte pairs by rank: tiktoken's files (a line is a token in base64 and its rank) and Mistral's tekken.json. Merging
 * takes the pair whose joined bytes have the lowest rank, so the merges need not be written down. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "tokenizers/internal.h"
#include "tokenizers/pre.h"

/* ---- the vocabulary -------------------------------------------------------------------------------------------------------- */

/* A token of bytes under its stand-ins, as byte-level vocabularies have it. */
static enum status add_token(struct tokenizer *t, const char *coded, size_t size, int64_t id, struct str *room, struct error *err)
{
    char text[4];
    str_clear(room);
    if (!base64_decode(coded, size, room) || !room->size)
        return error_set(err, STATUS_BAD_INPUT, "token %lld, \"%s\", is no base64", (long long)id, QUOTE(coded, size));
    if (id < 0 || id >= INT32_MAX)
        return error_set(err, STATUS_BAD_INPUT, "token \"%s\": its rank is over the limit", QUOTE(coded, size));
    size_t bytes = room->size;
    for (size_t i = 0; i < bytes; i++)
        str_add(room, text, text_put(byte_stand_in[(unsigned char)room->data[i]], text));
    return room->failed ? error_memory(err, "the vocabulary") : vocabulary_add(&t->vocabulary, room->data + bytes, room->size - bytes, (int32_t)id, err);
}

static enum status finish_ranks(struct tokenizer *t, struct error *err)
{
    struct vocabulary *v = &t->vocabulary;
    struct bpe *b = &t->bpe;
    struct opening o = {.t = t, .err = err};
    enum status status = vocabulary_index(v, TWICE_REFUSED, err);
    b->vocabulary = v;
    b->ignore_merges = true; /* a piece that is a token is never taken apart */
    b->ranks = calloc(v->count + 1u, sizeof *b->ranks);
    if (!status && !b->ranks)
        status = error_memory(err, "the vocabulary");
    for (uint32_t e = 0; e < v->count && !status; e++)
        b->ranks[e] = v->ids[e];
    if (!status)
        status = bpe_finish(b, NULL, err);
    for (int i = 0; i < 256 && !status; i++)
        if (b->characters[byte_stand_in[i]] < 0)
            status = error_set(err, STATUS_BAD_INPUT, "no token is the byte 0x%02X alone; all 256 must be there", i);
    t->model = model_bpe;
    return status ? status : add_byte_level_decoder(&o);
}

static enum status add_special(struct tokenizer *t, const char *text, size_t size, int64_t id, struct error *err)
{
    return added_add(&t->added, text, size, (struct added_token){.id = (int32_t)id, .special = true}, err);
}

/* ---- tiktoken ----------------------------------------------------------------------------------------------------------------- */

/* The two whose white space differs from what others took over from them: at the end of a text it is one piece. */
#define R50K "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s"
#define CL100K                                                                                                                        \
    "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s+\\z|\\s*[\\r\\n]|\\s+(?!\\S)|\\s"

struct special {
    int32_t id;
    const char *text;
};
struct known {
    const char *name;
    uint32_t count;
    const char *pattern;
    unsigned flags;
    struct special special[8];
};
static const struct known known[] = {
#define RANKS(name, count, pattern, flags) {name, count, pattern, flags, {
#define SPECIAL(id, text) {id, text},
#define END }},
#include "tokenizers/ranks.def"
#undef RANKS
#undef SPECIAL
#undef END
};

static enum status add_known(struct tokenizer *t, struct error *err)
{
    struct opening o = {.t = t, .err = err};
    const struct known *k = NULL;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].count == t->vocabulary.count)
            k = &known[i];
    if (!k)
        return error_set(err, STATUS_BAD_INPUT,
                         "a file of %u ranks is none of the published ones, and such a file does not say how text is split; use the model's tokenizer.json",
                         t->vocabulary.count);
    enum status status = add_split_regex(&o, k->pattern);
    if (!status)
        status = add_byte_level(&o, false);
    for (const struct special *s = k->special; s->text && !status; s++)
        status = add_special(t, s->text, strlen(s->text), s->id, err);
    if (k->flags & PRE_BOS) {
        t->bos = k->special[0].id;
        ids_add(&t->prefix, t->bos);
    }
    return status;
}

/* The rank behind the blank; -1: it is none. */
static int64_t read_rank(const char *text, const char *end)
{
    int64_t rank = 0;
    if (text == end || end - text > 10)
        return -1;
    for (; text < end; text++) {
        if (*text < '0' || *text > '9')
            return -1;
        rank = rank * 10 + (*text - '0');
    }
    return rank;
}

enum status open_tiktoken(struct tokenizer *t, const char *data, size_t size, struct error *err)
{
    const char *end = data + size;
    struct str room = {0};
    enum status status = STATUS_OK;
    uint32_t number = 1;
    for (const char *line = data, *next; line < end && !status; line = next, number++) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        next = stop ? stop + 1 : end;
        stop = stop ? stop : end;
        stop -= stop > line && stop[-1] == '\r';
        if (line == stop)
            continue;
        const char *blank = memchr(line, ' ', (size_t)(stop - line));
        int64_t rank = blank ? read_rank(blank + 1, stop) : -1;
        if (rank < 0)
            status = error_set(err, STATUS_BAD_INPUT, "line %u, \"%s\", is no token in base64 and its rank", number, QUOTE(line, (size_t)(stop - line)));
        else
            status = add_token(t, line, (size_t)(blank - line), rank, &room, err);
    }
    str_free(&room);
    if (!status)
        status = finish_ranks(t, err);
    return status ? status : add_known(t, err);
}

/* ---- tekken.json ----------------------------------------------------------------------------------------------------------------- */

struct tekken {
    struct tokenizer *t;
    struct str room;
    int64_t seen;
};

static int large(void *context, int depth, const char *key, size_t size)
{
    (void)context;
    return depth == 1 && size == 5 && memcmp(key, "vocab", 5) == 0;
}

/* Ids count the special tokens first, whose number stands in another part of the file: they are moved in the end. */
static enum status child(void *context, int which, const struct json_member *m, struct error *err)
{
    struct tekken *k = context;
    const struct json *bytes = json_get(&m->value, "token_bytes");
    int64_t rank;
    (void)which;
    if (!json_int(json_get(&m->value, "rank"), &rank) || rank != k->seen || !json_is(bytes, JSON_STRING))
        return error_set(err, STATUS_BAD_INPUT, "vocab: entry %lld must have \"rank\" %lld and \"token_bytes\"", (long long)k->seen, (long long)k->seen);
    k->seen++;
    return add_token(k->t, bytes->text, bytes->size, rank, &k->room, err);
}

/* Names that files of the first versions do not spell out (mistral-common, tekken.py). */
static const char *const first_names[] = {"<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
                                          "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]",
                                          "[SUFFIX]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]"};

static enum status add_names(struct tokenizer *t, const struct json *list, int64_t count, struct error *err)
{
    int64_t named = list ? list->size : (int64_t)(sizeof first_names / sizeof *first_names);
    enum status status = STATUS_OK;
    if (named > count)
        return error_set(err, STATUS_BAD_INPUT, "special_tokens: there are %lld, but default_num_special_tokens is %lld", (long long)named, (long long)count);
    for (int64_t id = 0; id < count && !status; id++) {
        char filler[40];
        int n = snprintf(filler, sizeof filler, "<SPECIAL_%lld>", (long long)id);
        const struct json *entry = list && id < named ? &list->items[id] : NULL, *text = json_get(entry, "token_str");
        int64_t rank = id;
        if (entry && (!json_is(text, JSON_STRING) || !text->size || !json_int(json_get(entry, "rank"), &rank) || rank != id))
            return error_set(err, STATUS_BAD_INPUT, "special_tokens: entry %lld must have \"rank\" %lld and \"token_str\"", (long long)id, (long long)id);
        if (entry)
            status = add_special(t, text->text, text->size, id, err);
        else if (id < named)
            status = add_special(t, first_names[id], strlen(first_names[id]), id, err);
        else
            status = add_special(t, filler, (size_t)n, id, err);
    }
    return status;
}

static int32_t id_of(const struct tokenizer *t, const char *text)
{
    for (size_t i = 0; i < t->added.count; i++) {
        size_t size;
        const char *name = vocabulary_entry(&t->added.texts, (uint32_t)i, &size);
        if (size == strlen(text) && memcmp(name, text, size) == 0)
            return t->added.tokens[i].id;
    }
    return -1;
}

static enum status build_tekken(struct tekken *k, const struct json *root, struct error *err)
{
    struct tokenizer *t = k->t;
    struct opening o = {.t = t, .err = err};
    const struct json *config = json_get(root, "config"), *pattern = json_get(config, "pattern"), *special = json_get(root, "special_tokens");
    int64_t size = -1, count = -1;
    if (!json_is(pattern, JSON_STRING))
        return error_set(err, STATUS_BAD_INPUT, "config: \"pattern\" must be a string, not %s", json_kind_name(pattern));
    if (special && special->kind != JSON_NULL && special->kind != JSON_ARRAY)
        return error_set(err, STATUS_BAD_INPUT, "\"special_tokens\" must be an array, not %s", json_kind_name(special));
    if (!take_int(&o, config, "config", "default_vocab_size", 1, INT32_MAX, &size) ||
        !take_int(&o, config, "config", "default_num_special_tokens", 0, 1 << 20, &count))
        return STATUS_BAD_INPUT;
    if (size < 0 || count < 0 || size < count || size - count > (int64_t)t->vocabulary.count)
        return error_set(err, STATUS_BAD_INPUT, "config: default_vocab_size %lld must be default_num_special_tokens %lld and at most the %u entries of vocab",
                         (long long)size, (long long)count, t->vocabulary.count);
    vocabulary_cut(&t->vocabulary, (uint32_t)(size - count), (int32_t)count);
    enum status status = finish_ranks(t, err);
    if (!status)
        status = add_names(t, json_is(special, JSON_ARRAY) ? special : NULL, count, err);
    struct pretokenizer *p = status ? NULL : add_split(&o);
    if (p)
        status = pattern_regex(&p->pattern, pattern->text, pattern->size, err);
    if (!status)
        status = add_byte_level(&o, false);
    t->bos = id_of(t, "<s>");
    t->eos = id_of(t, "</s>");
    if (t->bos >= 0)
        ids_add(&t->prefix, t->bos);
    return status;
}

enum status open_tekken(struct tokenizer *t, const char *data, size_t size, struct error *err)
{
    struct tekken k = {.t = t};
    struct json_options options = {.unique = true, .large = large, .child = child, .context = &k};
    struct arena arena = {0};
    struct json root;
    enum status status = json_parse(&arena, data, size, &options, &root, err);
    if (!status)
        status = build_tekken(&k, &root, err);
    str_free(&k.room);
    arena_free(&arena);
    return status;
}
