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

/* A text of up to 8 bytes as a number that no other text of its size has: its bytes, the first one lowest. */
static inline uint64_t hash_word(const char *text, size_t size)
{
    uint32_t low, high;
    if (size >= 4) {
        memcpy(&low, text, 4);
        memcpy(&high, text + size - 4, 4);
        return (uint64_t)high << (size * 8 - 32) | low;
    }
    if (!size)
        return 0;
    return (uint64_t)(unsigned char)text[size - 1] << (size * 8 - 8) | (uint64_t)(unsigned char)text[size / 2] << (size / 2 * 8) | (unsigned char)text[0];
}

/* The same where 8 bytes can be read. */
static inline uint64_t hash_padded_word(const char *text, size_t size)
{
    uint64_t word;
    memcpy(&word, text, 8);
    return size ? word & UINT64_MAX >> (64 - 8 * size) : 0;
}

/* word: hash_word() of the text if it has up to 8 bytes. */
static inline uint64_t hash_with_word(const char *text, size_t size, uint64_t word, uint64_t seed)
{
    uint64_t h = seed ^ size * 0x9E3779B97F4A7C15u;
    if (size > 8) {
        const char *last = text + size - 8;
        for (; text < last; text += 8) {
            memcpy(&word, text, 8);
            h = hash_mix(h ^ word, 0xA0761D6478BD642Fu);
        }
        memcpy(&word, last, 8);
    }
    return hash_mix(h ^ word, 0xE7037ED1A0B428DBu ^ seed);
}

static inline uint64_t hash_text(const char *text, size_t size, uint64_t seed)
{
    return hash_with_word(text, size, size <= 8 ? hash_word(text, size) : 0, seed);
}

/* memcmp() == 0 without the call: nearly all texts have at most 16 bytes. */
static inline int same_text(const char *a, const char *b, size_t size)
{
    uint64_t x, y, z, w;
    if (size > 16)
        return memcmp(a, b, size) == 0;
    if (size >= 8) {
        memcpy(&x, a, 8), memcpy(&y, b, 8), memcpy(&z, a + size - 8, 8), memcpy(&w, b + size - 8, 8);
        return ((x ^ y) | (z ^ w)) == 0;
    }
    return hash_word(a, size) == hash_word(b, size);
}

static inline uint64_t hash_pair(uint32_t a, uint32_t b, uint64_t seed)
{
    return hash_mix(((uint64_t)a << 32 | b) ^ seed, 0xA0761D6478BD642Fu);
}

/* Slots for count entries: a power of two, at most half full. 0 if that is too many. */
static inline size_t hash_slots(size_t count)
{
    size_t n = 16;
    while (n < count * 2)
        n *= 2;
    return count > UINT32_MAX / 4 ? 0 : n;
}

/* Zeroed room for a large table that is read here and there: on huge pages where the system has them. free() it; NULL: out of memory. */
void *hash_room(size_t count, size_t size);

uint64_t hash_seed(void); /* one for the process */

#endif
