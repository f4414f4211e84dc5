/* The tokens of a vocabulary as bytes, sorted, and the tree of their beginnings. */
#ifndef TOKENIZERS_GRAMMAR_VOCABULARY_H
#define TOKENIZERS_GRAMMAR_VOCABULARY_H

#include "tokenizers/tokenizers.h"

/* Nodes in depth-first order: a node's subtree is [node, skip). */
struct branch {
    uint32_t skip;
    uint32_t tokens; /* the first of those that end here, in `order` */
    uint16_t count;  /* how many do */
    uint16_t depth;  /* bytes from the root, which has 0 */
    uint8_t byte;
    bool text;       /* all tokens of the subtree are whole characters, none of them '<' */
    uint8_t plain;   /* characters of the longest token in the subtree, NOT_PLAIN: some hold others than plain characters */
};
enum { NOT_PLAIN = 255 };

/* The tokens of at most so many plain characters: those that JSON strings need not escape, none cut in the middle. */
struct slice {
    uint32_t characters;
    uint32_t *bits;
};
enum { SLICES = 17 };

struct grammar_vocabulary {
    struct branch *branches; /* 0: the root */
    uint32_t branch_count;
    int32_t *order;          /* ids by bytes */
    char *bytes;             /* of all tokens */
    uint32_t *starts;        /* [size + 1]; none: a token that may never come */
    int32_t size;
    struct slice slices[SLICES]; /* by characters */
    uint32_t *texts;         /* bits of the tokens that are whole characters, none of them '<' */
    uint32_t longest;        /* bytes of a token, at most LONGEST */
    int32_t *ends;
    size_t end_count;
    uint64_t id;             /* different for every vocabulary of the process */
};

enum { LONGEST = 1024 }; /* longer tokens are never allowed */

/* Special tokens are this byte, which no text holds, and their spelling. */
enum { SPECIAL_BYTE = 0xFF };

#endif
