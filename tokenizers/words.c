#include "tokenizers/words.h"

#include <stdlib.h>

#include "tokenizers/unicode.h"

void words_free(struct words *w)
{
    str_free(&w->prefix);
    trie_free(&w->tokens);
    *w = (struct words){0};
}

static enum status add_unknown(const struct words *w, const char *word, size_t size, struct ids *out, struct error *err)
{
    if (w->unk < 0)
        return error_set(err, STATUS_FAILED, "the word \"%s\" is unknown to the tokenizer, and its unk_token is not in the vocabulary", QUOTE(word, size));
    ids_add(out, w->unk);
    return STATUS_OK;
}

/* Characters of text, or limit + 1 when there are more. */
static int64_t count_characters(const char *text, size_t size, int64_t limit)
{
    int64_t count = 0;
    uint32_t c;
    for (size_t at = 0; at < size && count <= limit; count++)
        at += text_next(text + at, size - at, &c);
    return count;
}

/* The id of the longest token that the rest of the word begins with; *end: where it ends. */
static int32_t longest(const struct words *w, struct str *room, const char *word, size_t start, size_t size, size_t *end)
{
    size_t mark = start ? w->prefix.size : 0, most = w->vocabulary->longest;
    if (most < mark)
        return -1;
    *end = size - start > most - mark ? start + (most - mark) : size;
    while (*end < size && *end > start && ((unsigned char)word[*end] & 0xC0) == 0x80)
        --*end;
    str_clear(room);
    str_add(room, str_text(&w->prefix), mark);
    str_add(room, word + start, *end - start);
    for (; *end > start && !room->failed; *end = text_before(word, *end)) {
        int32_t id = vocabulary_find(w->vocabulary, room->data, mark + *end - start);
        if (id >= 0)
            return id;
    }
    return -1;
}

enum status wordpiece_encode(const struct words *w, struct str *room, const char *word, size_t size, struct ids *out, struct error *err)
{
    size_t before = out->count;
    if (count_characters(word, size, w->longest) > w->longest)
        return add_unknown(w, word, size, out, err);
    for (size_t start = 0, end; start < size; start = end) {
        int32_t id = longest(w, room, word, start, size, &end);
        if (room->failed)
            return error_memory(err, "a word");
        if (id < 0) {
            out->count = before;
            return add_unknown(w, word, size, out, err);
        }
        ids_add(out, id);
    }
    return STATUS_OK;
}

enum status wordlevel_encode(const struct words *w, const char *word, size_t size, struct ids *out, struct error *err)
{
    int32_t id = vocabulary_find(w->vocabulary, word, size);
    if (id < 0)
        return add_unknown(w, word, size, out, err);
    ids_add(out, id);
    return STATUS_OK;
}

enum status greedy_start(struct words *w, const struct vocabulary *v, struct error *err)
{
    struct trie_text *texts = malloc((v->count + 1u) * sizeof *texts);
    if (!texts)
        return error_memory(err, "the vocabulary");
    for (uint32_t e = 0; e < v->count; e++) {
        size_t size;
        const char *text = vocabulary_entry(v, e, &size);
        texts[e] = (struct trie_text){text, (uint32_t)size, v->ids[e]};
    }
    w->vocabulary = v;
    w->unk = -1;
    enum status status = trie_build(&w->tokens, texts, v->count, err);
    free(texts);
    return status;
}

enum status greedy_encode(const struct words *w, const char *text, size_t size, struct ids *out, struct error *err)
{
    uint64_t steps = 0;
    for (size_t at = 0, length = 0; at < size; at += length) {
        int32_t id = trie_longest(&w->tokens, text + at, size - at, &length, &steps);
        if (id < 0)
            return add_unknown(w, text + at, size - at, out, err);
        ids_add(out, id);
    }
    return STATUS_OK;
}
