/* Characters that byte-level merging may begin with, instead of with their bytes: the ids are the same. */
#ifndef TOKENIZERS_BPE_CHARACTERS_H
#define TOKENIZERS_BPE_CHARACTERS_H

#include "tokenizers/bpe.h"

struct bpe_character {
    int32_t id;
    uint64_t before, behind; /* bit b: it may, where the byte 10b stands before it, and where the byte 11b stands behind it */
};

/* By code: the 11 or 16 bits that two or three bytes carry in UTF-8. */
struct bpe_characters {
    uint32_t count;
    uint16_t index[0x10000]; /* place + 1 in list, 0: none */
    struct bpe_character list[];
};

/* bytes: ids of single bytes, -1: none. The vocabulary must be dense. free() it; NULL: out of memory. */
struct bpe_characters *bpe_characters_make(const struct bpe *b, const int32_t bytes[256]);

/* The character of 2 or 3 bytes at bytes[at], which may begin as one token; NULL: not. */
static inline const struct bpe_character *bpe_character_at(const struct bpe_characters *c, const unsigned char *bytes, uint32_t count, uint32_t at,
                                                           uint32_t *size)
{
    const unsigned char *s = bytes + at;
    uint32_t code;
    if (s[0] < 0xC0 || s[0] >= 0xF0)
        return NULL;
    *size = s[0] < 0xE0 ? 2 : 3;
    if (count - at < *size || s[1] >> 6 != 2 || s[*size - 1] >> 6 != 2)
        return NULL;
    code = *size == 2 ? (s[0] & 31u) << 6 | (s[1] & 63u) : (s[0] & 15u) << 12 | (s[1] & 63u) << 6 | (s[2] & 63u);
    if (*size == 2 ? code < 0x80 : code < 0x800)
        return NULL;
    uint32_t place = c->index[code];
    const struct bpe_character *found = place ? &c->list[place - 1] : NULL;
    if (!place || (at && (s[-1] >> 6 != 2 || !(found->before >> (s[-1] & 63) & 1))))
        return NULL;
    return count - at == *size || (s[*size] >> 6 == 3 && found->behind >> (s[*size] & 63) & 1) ? found : NULL;
}

#endif
