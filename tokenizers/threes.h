/* Digits cut in threes from the right, as \d{1,3}(?=(?:\d{3})*\b) and its kin write it. An engine looks from every place to the end of
 * its digits, which takes the square of their number; here each run of digits is counted once. */
#ifndef TOKENIZERS_THREES_H
#define TOKENIZERS_THREES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct threes {
    uint32_t categories; /* of digits, bits of enum utf8proc_category_t; 0: the pattern is another one */
    bool takes;          /* a match is a group; else it is the empty place in front of one */
    bool bounded;        /* no word character may follow the run (\b); else no digit may, which always holds */
};

/* How far the runs are known; starts as {0}. */
struct threes_run {
    size_t at, end; /* the next digit of the run, and where the run ends */
    size_t left;    /* digits from `at` on */
    bool good;      /* its groups are matches */
};

struct threes threes_of(const char *regex, size_t size);

/* The first match at or behind `from` in inside text, not an empty one at `empty` (SIZE_MAX: wherever). Places are asked for in order. */
bool threes_find(const struct threes *t, struct threes_run *run, const char *text, size_t size, size_t from, size_t empty, size_t *start, size_t *end);

#endif
