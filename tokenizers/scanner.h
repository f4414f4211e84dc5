/* Patterns without a regex engine: a table of states over classes of characters, one look-up for a character. It answers what a
 * backtracking engine would (the first alternative counts, repetition is greedy), because a state is the ordered list of the places in
 * the pattern where that engine could be (Cox, "Regular Expression Matching: the Virtual Machine Approach", 2009).
 *
 * Only what the patterns of tokenizers use is compiled: alternatives, groups, (?i:...), classes, properties, ? * + {m,n}, looking at
 * one character ahead, $ and \z. Everything else stays with PCRE2. */
#ifndef TOKENIZERS_SCANNER_H
#define TOKENIZERS_SCANNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { SCANNER_TABLE = 0x32400 }; /* characters from here on are looked up by category: no letters, no scripts */

struct scanner {
    uint8_t *classes;    /* [SCANNER_TABLE] */
    uint8_t beyond[32];  /* classes of the rest, by category */
    uint8_t end_class;   /* what stands behind the text */
    uint32_t stride;     /* of a state's row: 2 to the power of shift */
    uint32_t shift;
    uint32_t *rows;      /* [state][class]: offset of the next state's row, | 1 if a match ends in front of this character */
    struct scanner_loop {
        uint64_t ascii[2]; /* characters that lead from a state back to it */
        bool match;        /* and a match ends in front of each */
    } *loops;            /* of each state */
    uint32_t start;      /* the first state's row; row 0 is where nothing can match any more */
};

/* *out stays NULL where the pattern has a part that is not compiled. Fails only for lack of memory. */
enum status scanner_compile(struct scanner **out, const char *regex, size_t size, struct error *err);
void scanner_free(struct scanner *s); /* NULL is fine */

/* The end of the match that begins at `from` in inside text, or `from` if there is none (an empty match is none). *read: how far it
 * looked. */
size_t scanner_match(const struct scanner *s, const char *text, size_t size, size_t from, size_t *read);

#endif
