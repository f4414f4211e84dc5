#include "tokenizers/trie.h"

#include <stdlib.h>
#include <string.h>

/* What a text begins with, as a number in the order of its bytes: most comparisons need nothing else. */
struct sortable {
    uint64_t head;
    const struct trie_text *text;
};

static uint64_t head_of(const struct trie_text *t)
{
    unsigned char bytes[8] = {0};
    memcpy(bytes, t->text, t->size < 8 ? t->size : 8);
    uint64_t head = 0;
    for (int i = 0; i < 8; i++)
        head = head << 8 | bytes[i];
    return head;
}

static int compare(const void *a, const void *b)
{
    const struct sortable *x = a, *y = b;
    if (x->head != y->head)
        return x->head < y->head ? -1 : 1;
    const struct trie_text *s = x->text, *t = y->text;
    int order = memcmp(s->text, t->text, s->size < t->size ? s->size : t->size);
    if (order)
        return order;
    if (s->size != t->size)
        return s->size < t->size ? -1 : 1;
    return s < t ? -1 : s > t;
}

static enum status sort(struct trie_text *texts, size_t count, struct error *err)
{
    struct sortable *list = malloc(count * sizeof *list);
    struct trie_text *sorted = malloc(count * sizeof *sorted);
    if (list && sorted) {
        for (size_t i = 0; i < count; i++)
            list[i] = (struct sortable){head_of(&texts[i]), &texts[i]};
        qsort(list, count, sizeof *list, compare);
        for (size_t i = 0; i < count; i++)
            sorted[i] = *list[i].text;
        memcpy(texts, sorted, count * sizeof *sorted);
    }
    enum status status = list && sorted ? STATUS_OK : error_memory(err, "the vocabulary");
    free(list);
    free(sorted);
    return status;
}

/* The sorted texts that begin with a node's bytes. */
struct range {
    uint32_t low, high, depth;
};

/* One level after the other: the children of a node split its range by their next byte. ranges is as long as nodes. */
static void grow(struct trie *t, const struct trie_text *texts, size_t count, struct range *ranges)
{
    t->count = 1;
    t->nodes[0] = (struct trie_node){.value = -1};
    ranges[0] = (struct range){0, (uint32_t)count, 0};
    for (size_t n = 0; n < t->count; n++) {
        struct trie_node *node = &t->nodes[n];
        struct range here = ranges[n];
        uint32_t i = here.low;
        for (; i < here.high && texts[i].size == here.depth; i++)
            node->value = texts[i].value;
        node->first_child = (uint32_t)t->count;
        while (i < here.high) {
            unsigned char byte = (unsigned char)texts[i].text[here.depth];
            struct range *r = &ranges[t->count];
            t->nodes[t->count++] = (struct trie_node){.value = -1, .byte = byte};
            node->children++;
            *r = (struct range){i, i, here.depth + 1};
            while (i < here.high && (unsigned char)texts[i].text[here.depth] == byte)
                i++;
            r->high = i;
        }
    }
    for (uint32_t c = 0; c < t->nodes[0].children; c++)
        t->root[t->nodes[t->nodes[0].first_child + c].byte] = t->nodes[0].first_child + c;
}

enum status trie_build(struct trie *t, struct trie_text *texts, size_t count, struct error *err)
{
    *t = (struct trie){0};
    size_t bytes = 1, kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (!texts[i].size)
            continue;
        bytes += texts[i].size;
        texts[kept++] = texts[i];
    }
    if (bytes > UINT32_MAX / 4)
        return error_set(err, STATUS_NO_ROOM, "%zu bytes of tokens are over the limit", bytes);
    enum status status = kept ? sort(texts, kept, err) : STATUS_OK;
    if (status)
        return status;
    t->nodes = malloc(bytes * sizeof *t->nodes);
    struct range *ranges = malloc(bytes * sizeof *ranges);
    if (!t->nodes || !ranges) {
        free(ranges);
        trie_free(t);
        return error_memory(err, "the vocabulary");
    }
    grow(t, texts, kept, ranges);
    free(ranges);
    struct trie_node *smaller = realloc(t->nodes, t->count * sizeof *smaller);
    t->nodes = smaller ? smaller : t->nodes;
    return STATUS_OK;
}

enum status trie_build_copy(struct trie *t, const struct trie_text *texts, size_t count, struct error *err)
{
    struct trie_text *copy = malloc(count * sizeof *copy + 1);
    if (!copy)
        return error_memory(err, "the vocabulary");
    memcpy(copy, texts, count * sizeof *copy);
    enum status status = trie_build(t, copy, count, err);
    free(copy);
    return status;
}

void trie_free(struct trie *t)
{
    free(t->nodes);
    *t = (struct trie){0};
}

int32_t trie_longest(const struct trie *t, const char *text, size_t size, size_t *length, uint64_t *steps)
{
    int32_t value = -1;
    uint32_t node = 0;
    for (size_t at = 0; at < size && (node = trie_next(t, node, (unsigned char)text[at])); at++, ++*steps)
        if (t->nodes[node].value >= 0) {
            value = t->nodes[node].value;
            *length = at + 1;
        }
    return value;
}
