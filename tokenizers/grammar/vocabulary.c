#include "tokenizers/grammar/vocabulary.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

/* A token with its first bytes as a number: most comparisons need no more. */
struct sorted {
    uint64_t head;
    int32_t id;
    uint32_t size;
    const char *text;
};

static int compare_sorted(const void *a, const void *b)
{
    const struct sorted *x = a, *y = b;
    if (x->head != y->head)
        return x->head < y->head ? -1 : 1;
    uint32_t n = x->size < y->size ? x->size : y->size;
    int c = n > 8 ? memcmp(x->text + 8, y->text + 8, n - 8) : 0;
    if (c || x->size != y->size)
        return c ? c : x->size < y->size ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

static uint64_t head_of(const char *text, uint32_t size)
{
    uint64_t head = 0;
    for (uint32_t i = 0; i < 8; i++)
        head = head << 8 | (i < size ? (unsigned char)text[i] : 0);
    return head;
}

static bool is_end(const struct grammar_vocabulary *v, int32_t id)
{
    for (size_t i = 0; i < v->end_count; i++)
        if (v->ends[i] == id)
            return true;
    return false;
}

/* The bytes of all tokens; those that may never come get none. */
static enum status gather(struct grammar_vocabulary *v, const struct tokenizer *t, struct error *err)
{
    struct str all = {0};
    for (int32_t id = 0; id < v->size; id++) {
        size_t before = v->starts[id] = (uint32_t)all.size;
        if (is_end(v, id))
            continue;
        if (tokenizer_is_special(t, id))
            str_add_char(&all, (char)SPECIAL_BYTE);
        tokenizer_bytes(t, id, &all);
        if (all.size - before > LONGEST)
            all.size = before;
        if (all.failed || all.size > UINT32_MAX / 2) {
            str_free(&all);
            return error_memory(err, "a vocabulary");
        }
    }
    v->starts[v->size] = (uint32_t)all.size;
    v->bytes = all.data;
    return STATUS_OK;
}

static size_t sort_tokens(const struct grammar_vocabulary *v, struct sorted *list)
{
    size_t count = 0;
    for (int32_t id = 0; id < v->size; id++) {
        uint32_t size = v->starts[id + 1] - v->starts[id];
        const char *text = v->bytes + v->starts[id];
        if (size)
            list[count++] = (struct sorted){head_of(text, size), id, size, text};
    }
    qsort(list, count, sizeof *list, compare_sorted);
    return count;
}

/* Characters of a token of plain ones only, else NOT_PLAIN. */
static uint8_t plain_characters(const char *text, size_t size)
{
    unsigned count = 0;
    if (!utf8_is_valid(text, size))
        return NOT_PLAIN;
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c < 0x20 || c == '"' || c == '\\')
            return NOT_PLAIN;
        count += (c & 0xC0) != 0x80;
    }
    return count < NOT_PLAIN ? (uint8_t)count : NOT_PLAIN;
}

static bool is_text(const char *text, size_t size) { return !memchr(text, '<', size) && utf8_is_valid(text, size); }

static bool cut_slices(struct grammar_vocabulary *v, const struct sorted *list, size_t count)
{
    static const uint32_t characters[SLICES] = {1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 24, 32, 64, 128, 254};
    for (int s = 0; s < SLICES; s++) {
        v->slices[s].characters = characters[s];
        if (!(v->slices[s].bits = calloc(grammar_vocabulary_words(v), sizeof *v->slices[s].bits)))
            return false;
    }
    if (!(v->texts = calloc(grammar_vocabulary_words(v), sizeof *v->texts)))
        return false;
    for (size_t i = 0; i < count; i++) {
        uint8_t plain = plain_characters(list[i].text, list[i].size);
        if (is_text(list[i].text, list[i].size))
            v->texts[list[i].id >> 5] |= 1u << (list[i].id & 31);
        for (int s = 0; s < SLICES && plain != NOT_PLAIN; s++)
            if (plain <= characters[s])
                v->slices[s].bits[list[i].id >> 5] |= 1u << (list[i].id & 31);
    }
    return true;
}

/* A branch is complete: its parent learns what is below. */
static void leave(struct grammar_vocabulary *v, const uint32_t *path, uint32_t depth, uint32_t used)
{
    struct branch *b = &v->branches[path[depth]], *parent = depth ? &v->branches[path[depth - 1]] : b;
    b->skip = used;
    parent->plain = b->plain > parent->plain ? b->plain : parent->plain;
    parent->text &= b->text;
}

/* Branches in depth-first order out of sorted texts. */
static void grow_tree(struct grammar_vocabulary *v, const struct sorted *list, size_t count)
{
    uint32_t path[LONGEST + 1] = {0}, depth = 0, used = 1;
    v->branches[0] = (struct branch){.text = true};
    for (size_t i = 0; i < count; i++) {
        const struct sorted *x = &list[i], *before = i ? &list[i - 1] : NULL;
        uint32_t same = 0;
        while (before && same < x->size && same < before->size && x->text[same] == before->text[same])
            same++;
        while (depth > same)
            leave(v, path, depth--, used);
        while (depth < x->size) {
            v->branches[used] = (struct branch){.tokens = (uint32_t)i, .depth = (uint16_t)(depth + 1), .byte = (uint8_t)x->text[depth], .text = true};
            path[++depth] = used++;
        }
        struct branch *end = &v->branches[path[depth]];
        if (!end->count)
            end->tokens = (uint32_t)i;
        end->count += end->count < UINT16_MAX;
        uint8_t plain = plain_characters(x->text, x->size);
        end->plain = plain > end->plain ? plain : end->plain;
        end->text &= is_text(x->text, x->size);
        v->order[i] = x->id;
        v->longest = x->size > v->longest ? x->size : v->longest;
    }
    for (;; depth--) {
        leave(v, path, depth, used);
        if (!depth)
            break;
    }
    v->branch_count = used;
}

enum status grammar_vocabulary_open(struct grammar_vocabulary **out, const struct tokenizer *t, const int32_t *ends, size_t end_count,
                                    struct error *err)
{
    static atomic_ullong opened;
    struct grammar_vocabulary *v = *out = calloc(1, sizeof *v);
    if (!v)
        return error_memory(err, "a vocabulary");
    v->size = tokenizer_size(t);
    v->id = atomic_fetch_add(&opened, 1) + 1;
    v->end_count = end_count;
    size_t room = (size_t)v->size + 1;
    v->ends = malloc((end_count + 1) * sizeof *v->ends);
    v->starts = malloc(room * sizeof *v->starts);
    v->order = malloc(room * sizeof *v->order);
    struct sorted *list = malloc(room * sizeof *list);
    enum status status = v->ends && v->starts && v->order && list ? STATUS_OK : error_memory(err, "a vocabulary");
    if (!status) {
        if (end_count)
            memcpy(v->ends, ends, end_count * sizeof *ends);
        status = gather(v, t, err);
    }
    if (!status && !(v->branches = malloc(((size_t)v->starts[v->size] + 1) * sizeof *v->branches)))
        status = error_memory(err, "a vocabulary");
    if (!status) {
        size_t count = sort_tokens(v, list);
        grow_tree(v, list, count);
        status = cut_slices(v, list, count) ? STATUS_OK : error_memory(err, "a vocabulary");
        struct branch *less = realloc(v->branches, v->branch_count * sizeof *less);
        v->branches = less ? less : v->branches;
    }
    free(list);
    if (status) {
        grammar_vocabulary_close(v);
        *out = NULL;
    }
    return status;
}

void grammar_vocabulary_close(struct grammar_vocabulary *v)
{
    if (!v)
        return;
    free(v->branches);
    free(v->order);
    free(v->bytes);
    free(v->starts);
    free(v->ends);
    free(v->texts);
    for (int s = 0; s < SLICES; s++)
        free(v->slices[s].bits);
    free(v);
}

size_t grammar_vocabulary_words(const struct grammar_vocabulary *v) { return ((size_t)v->size + 31) / 32; }
