/* Texts of a vocabulary by their first bytes: finds every text that a place in the input begins with. */
#ifndef TOKENIZERS_TRIE_H
#define TOKENIZERS_TRIE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Nodes in breadth-first order: the children of a node lie side by side, sorted by byte. Node 0 is the root. */
struct trie_node {
    uint32_t first_child;
    int32_t value;     /* of the text that ends here, -1: none */
    uint16_t children; /* 0..256 */
    unsigned char byte;
};

struct trie {
    struct trie_node *nodes;
    size_t count;
    uint32_t root[256]; /* node behind the root, 0: none */
};

struct trie_text {
    const char *text;
    uint32_t size;
    int32_t value; /* 0 or more; of equal texts the last in the list counts */
};

/* The texts are sorted in place; empty ones are left out. */
enum status trie_build(struct trie *t, struct trie_text *texts, size_t count, struct error *err);
/* The same of texts that must stay in their order. */
enum status trie_build_copy(struct trie *t, const struct trie_text *texts, size_t count, struct error *err);
void trie_free(struct trie *t);

/* The node behind this one by a byte, 0: none. Begin with node 0. */
static inline uint32_t trie_next(const struct trie *t, uint32_t node, unsigned char byte)
{
    if (!node)
        return t->root[byte];
    const struct trie_node *n = &t->nodes[node], *c = t->nodes + n->first_child;
    uint32_t low = 0, high = n->children;
    while (high - low > 8) {
        uint32_t middle = (low + high) / 2;
        if (c[middle].byte <= byte)
            low = middle;
        else
            high = middle;
    }
    for (; low < high; low++)
        if (c[low].byte == byte)
            return n->first_child + low;
    return 0;
}

/* The longest text that text begins with: its value, and its bytes in *length; -1 if there is none. *steps counts the bytes looked at. */
int32_t trie_longest(const struct trie *t, const char *text, size_t size, size_t *length, uint64_t *steps);

#endif
