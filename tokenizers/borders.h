/* Places in a text that no token lies across: between two characters that stand side by side in no token of the vocabulary, nothing
 * can ever be merged. A text without a pre-tokenizer falls apart there into pieces that come again and again. */
#ifndef TOKENIZERS_BORDERS_H
#define TOKENIZERS_BORDERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "tokenizers/vocabulary.h"

/* Pairs of neighbours: those of ASCII exactly, the others by a hash, where a pair that only seems to be there costs a border. */
enum { BORDER_BITS = 1 << 21 };
struct borders {
    uint64_t ascii[128][2];
    uint64_t others[BORDER_BITS / 64];
};

/* All neighbours of all texts; NULL: out of memory. */
struct borders *borders_make(const struct vocabulary *v);

static inline uint32_t borders_place(uint32_t a, uint32_t b)
{
    return (uint32_t)((((uint64_t)a << 21 | b) * 0x9E3779B97F4A7C15u) >> 43); /* 21 bits */
}

/* May a token lie across the place between a and b? */
static inline bool borders_joined(const struct borders *s, uint32_t a, uint32_t b)
{
    if ((a | b) < 128)
        return s->ascii[a][b >> 6] >> (b & 63) & 1;
    uint32_t place = borders_place(a, b);
    return s->others[place >> 6] >> (place & 63) & 1;
}

/* The end of the piece that begins at `from` in inside text. */
size_t borders_next(const struct borders *s, const char *text, size_t size, size_t from);

#endif
