/* The pattern of a scanner as a program of single steps (scanner.h). */
#ifndef TOKENIZERS_REGEX_H
#define TOKENIZERS_REGEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A set of characters: those of some categories, and ranges; or all others. */
struct regex_range {
    uint32_t low, high;
};
struct regex_set {
    uint32_t categories; /* bits of enum utf8proc_category_t */
    uint32_t first, count; /* ranges */
    bool negated;
};

enum regex_kind {
    REGEX_SET,    /* a character of the set, then the next step */
    REGEX_SPLIT,  /* to a, or else to b */
    REGEX_JUMP,   /* to a */
    REGEX_AHEAD,  /* the next character is of the set, and is not taken; the end of the text is of none */
    REGEX_BEHIND, /* the next character is not of the set, or the text ends */
    REGEX_MATCH,
};
struct regex_step {
    uint8_t kind;
    uint32_t a, b; /* steps; a: the number of a set */
};

enum { REGEX_STEPS = 4096, REGEX_SETS = 64, REGEX_RANGES = 1024 };

struct regex {
    struct regex_step steps[REGEX_STEPS];
    struct regex_set sets[REGEX_SETS];
    struct regex_range ranges[REGEX_RANGES];
    uint32_t step_count, set_count, range_count;
};

/* False where the pattern uses what is not compiled. */
bool regex_parse(struct regex *r, const char *text, size_t size);

#endif
