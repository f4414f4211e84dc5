#include "tokenizers/automaton.h"

#include <stdlib.h>
#include <string.h>

static int compare(const void *a, const void *b)
{
    const struct automaton_text *x = a, *y = b;
    size_t n = x->size < y->size ? x->size : y->size;
    int order = n ? memcmp(x->text, y->text, n) : 0;
    if (order)
        return order;
    if (x->size != y->size)
        return x->size < y->size ? -1 : 1;
    return x->pattern < y->pattern ? -1 : x->pattern > y->pattern;
}

static uint32_t child(const struct automaton *a, uint32_t node, unsigned char byte)
{
    if (node == 0)
        return a->root[byte];
    const struct automaton_node *n = &a->nodes[node], *c = a->nodes + n->first_child;
    for (uint32_t low = 0, high = n->children; low < high;) {
        uint32_t middle = (low + high) / 2;
        if (c[middle].byte == byte)
            return n->first_child + middle;
        if (c[middle].byte < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return 0;
}

/* The sorted patterns that begin with a node's text. */
struct range {
    uint32_t low, high;
};

/* One level after the other: the children of a node split its range by their next byte. ranges is as long as nodes. */
static void grow(struct automaton *a, const struct automaton_text *patterns, size_t count, struct range *ranges)
{
    a->count = 1;
    a->nodes[0] = (struct automaton_node){.pattern = -1};
    ranges[0] = (struct range){0, (uint32_t)count};
    for (size_t n = 0; n < a->count; n++) {
        struct automaton_node *node = &a->nodes[n];
        uint32_t i = ranges[n].low, high = ranges[n].high;
        if (patterns[i].size == node->depth)
            node->pattern = patterns[i].pattern;
        while (i < high && patterns[i].size == node->depth)
            i++;
        node->first_child = (uint32_t)a->count;
        while (i < high) {
            unsigned char byte = (unsigned char)patterns[i].text[node->depth];
            struct range *r = &ranges[a->count];
            a->nodes[a->count++] = (struct automaton_node){.depth = node->depth + 1, .pattern = -1, .byte = byte};
            node->children++;
            r->low = i;
            while (i < high && (unsigned char)patterns[i].text[node->depth] == byte)
                i++;
            r->high = i;
        }
    }
}

/* Parents come before children, so a node's fail link is ready when its children ask for it. */
static void link_failures(struct automaton *a)
{
    for (uint32_t c = 0; c < a->nodes[0].children; c++)
        a->root[a->nodes[a->nodes[0].first_child + c].byte] = a->nodes[0].first_child + c;
    a->first = a->nodes[0].children == 1 ? a->nodes[a->nodes[0].first_child].byte : -1;
    for (size_t n = 0; n < a->count; n++) {
        const struct automaton_node *node = &a->nodes[n];
        for (uint32_t c = node->first_child; c < node->first_child + node->children; c++) {
            uint32_t f = node->fail, next = 0;
            while (n && !(next = child(a, f, a->nodes[c].byte)) && f)
                f = a->nodes[f].fail;
            a->nodes[c].fail = next;
            if (a->nodes[c].pattern < 0)
                a->nodes[c].pattern = a->nodes[next].pattern;
        }
    }
}

enum status automaton_build(struct automaton *a, struct automaton_text *patterns, size_t count, struct error *err)
{
    *a = (struct automaton){0};
    size_t bytes = 1;
    size_t kept = 0;
    int32_t most = 0;
    for (size_t i = 0; i < count; i++) {
        if (!patterns[i].size)
            continue;
        most = patterns[i].pattern >= most ? patterns[i].pattern + 1 : most;
        bytes += patterns[i].size;
        patterns[kept++] = patterns[i];
    }
    if (!kept)
        return STATUS_OK;
    if (bytes > UINT32_MAX / 4)
        return error_set(err, STATUS_NO_ROOM, "added_tokens: %zu bytes of text are over the limit", bytes);
    qsort(patterns, kept, sizeof *patterns, compare);
    a->nodes = malloc(bytes * sizeof *a->nodes);
    a->lengths = calloc((size_t)most, sizeof *a->lengths);
    struct range *ranges = malloc(bytes * sizeof *ranges);
    if (!a->nodes || !a->lengths || !ranges) {
        free(ranges);
        automaton_free(a);
        return error_memory(err, "the added tokens");
    }
    for (size_t i = 0; i < kept; i++)
        a->lengths[patterns[i].pattern] = (uint32_t)patterns[i].size;
    grow(a, patterns, kept, ranges);
    link_failures(a);
    free(ranges);
    struct automaton_node *smaller = realloc(a->nodes, a->count * sizeof *smaller);
    a->nodes = smaller ? smaller : a->nodes;
    return STATUS_OK;
}

void automaton_free(struct automaton *a)
{
    free(a->nodes);
    free(a->lengths);
    *a = (struct automaton){0};
}

bool automaton_find(const struct automaton *a, const char *text, size_t size, size_t from, int32_t *pattern, size_t *start, size_t *end,
                    uint64_t *steps)
{
    if (!a->count)
        return false;
    const unsigned char *s = (const unsigned char *)text;
    uint32_t node = 0;
    bool found = false;
    size_t at = from;
    while (at < size) {
        if (!node && !found) {
            const unsigned char *next = a->first >= 0 ? memchr(s + at, a->first, size - at) : NULL;
            if (a->first >= 0)
                at = next ? (size_t)(next - s) : size;
            while (at < size && !a->root[s[at]])
                at++;
            if (at == size)
                break;
        }
        uint32_t next;
        while (!(next = child(a, node, s[at])) && node) {
            node = a->nodes[node].fail;
            ++*steps;
        }
        node = next;
        at++;
        ++*steps;
        /* all that can still come begins where this node's text begins */
        if (found && at - a->nodes[node].depth > *start)
            break;
        int32_t p = a->nodes[node].pattern;
        if (p >= 0 && (!found || at - a->lengths[p] <= *start)) {
            found = true;
            *pattern = p;
            *start = at - a->lengths[p];
            *end = at;
        }
    }
    return found;
}
