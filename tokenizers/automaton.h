/* Many texts searched at once (Aho-Corasick), leftmost match first, of those the longest. */
#ifndef TOKENIZERS_AUTOMATON_H
#define TOKENIZERS_AUTOMATON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Nodes in breadth-first order: the children of a node lie side by side, sorted by byte. Node 0 is the root. */
struct automaton_node {
    uint32_t first_child;
    uint32_t fail;     /* longest proper suffix that is a node too */
    uint32_t depth;    /* bytes from the root */
    int32_t pattern;   /* the longest pattern that ends here, -1: none */
    uint16_t children; /* 0..256 */
    unsigned char byte;
};

struct automaton {
    struct automaton_node *nodes;
    size_t count;
    uint32_t root[256]; /* node behind the root, 0: none */
    int first;          /* the byte that all patterns begin with, -1: they differ */
    uint32_t *lengths;  /* of the patterns */
};

struct automaton_text {
    const char *text;
    size_t size;
    int32_t pattern; /* what a match reports: 0 .. count - 1 */
};

/* Patterns are sorted in place; empty ones never match; of equal ones the first counts. */
enum status automaton_build(struct automaton *a, struct automaton_text *patterns, size_t count, struct error *err);
void automaton_free(struct automaton *a);

/* The first match at or behind `from`. steps counts the bytes looked at and is the caller's to bound. */
bool automaton_find(const struct automaton *a, const char *text, size_t size, size_t from, int32_t *pattern, size_t *start, size_t *end,
                    uint64_t *steps);

#endif
