/* Hashing of short texts and id pairs. Seeded, because the keys come from files: a file made of colliding keys would
 * otherwise load in quadratic time. */
#ifndef TOKENIZERS_HASH_H
#define TOKENIZERS_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t hash_mix(uint64_t a, uint64_t b)
{
    unsigned __int128 p = (unsigned __int128)a * b;
    return (uint64_t)p ^ (uint64_t)(p >> 64);
}

static inline uint64_t hash_text(const char *text, size_t size, uint64_t seed)
{
    uint64_t h = seed ^ size * 0x9E3779B97F4A7C15u, word;
    for (; size > 8; text += 8, size -= 8) {
        memcpy(&word, text, 8);
        h = hash_mix(h ^ word, 0xA0761D6478BD642Fu);
    }
    word = 0;
    if (size >= 4) {
        uint32_t low, high;
        memcpy(&low, text, 4);
        memcpy(&high, text + size - 4, 4);
        word = (uint64_t)high << 32 | low;
    } else if (size) {
        word = (uint64_t)(unsigned char)text[0] << 16 | (uint64_t)(unsigned char)text[size / 2] << 8 | (unsigned char)text[size - 1];
    }
    return hash_mix(h ^ word, 0xE7037ED1A0B428DBu ^ seed);
}

static inline uint64_t hash_pair(uint32_t a, uint32_t b, uint64_t seed)
{
    return hash_mix(((uint64_t)a << 32 | b) ^ seed, 0xA0761D6478BD642Fu);
}

/* A slot of an open-addressed table: the hash's upper half beside the entry's number + 1 (0: empty), so that a miss
 * costs one cache line. */
struct hash_slot {
    uint32_t tag, entry;
};

/* Slots for count entries: a power of two, at most half full. 0 if that is too many. */
static inline size_t hash_slots(size_t count)
{
    size_t n = 16;
    while (n < count * 2)
        n *= 2;
    return count > UINT32_MAX / 4 ? 0 : n;
}

uint64_t hash_seed(void); /* one for the process */

#endif
