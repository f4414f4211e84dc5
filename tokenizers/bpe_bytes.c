/* Merging of byte-level pieces: most of what a cache does not know is a word of some dozen bytes. Symbols begin as bytes, so the first
 * pairs come from an array, and the lowest rank is found by looking at all of a short list. */
#include <stdlib.h>
#include <string.h>

#include "tokenizers/bpe_characters.h"
#include "tokenizers/unicode.h"

enum { MOST = 192 /* symbols */, GROUP = 16 };

struct bpe_bytes {
    int32_t ids[256]; /* of single bytes, -1: none */
    struct {
        int32_t rank, result;
    } pairs[256][256];
    struct bpe_characters *characters; /* NULL: ids are too far apart */
};

enum status bpe_start_bytes(struct bpe *b, struct error *err)
{
    struct bpe_bytes *t = malloc(sizeof *t);
    if (!t)
        return error_memory(err, "the merges");
    bool all = true;
    for (int i = 0; i < 256; i++) {
        t->ids[i] = b->characters[byte_stand_in[i]];
        all &= t->ids[i] >= 0;
    }
    if (b->ranks || b->prefix.size || b->suffix.size || (!all && (b->unk >= 0 || b->byte_fallback))) {
        free(t); /* the general way */
        return STATUS_OK;
    }
    for (int i = 0; i < 256; i++)
        for (int k = 0; k < 256; k++)
            t->pairs[i][k].rank = NO_RANK;
    for (int i = 0; i < 256; i++)
        for (int k = 0; k < 256 && t->ids[i] >= 0; k++) {
            const struct bpe_pair *p = t->ids[k] >= 0 ? bpe_find_pair(b, t->ids[i], t->ids[k]) : NULL;
            if (p) {
                t->pairs[i][k].rank = p->rank - 1;
                t->pairs[i][k].result = p->result;
            }
        }
    t->characters = b->vocabulary->dense ? bpe_characters_make(b, t->ids) : NULL;
    b->byte_pairs = t;
    return t->characters || !b->vocabulary->dense ? STATUS_OK : error_memory(err, "the merges");
}

void bpe_free_bytes(struct bpe *b)
{
    if (b->byte_pairs)
        free(b->byte_pairs->characters);
    free(b->byte_pairs);
}

/* Symbols as columns. What was joined away keeps its place with NO_RANK and is skipped by next and previous. */
struct columns {
    int32_t ranks[MOST + GROUP]; /* of a symbol with the next */
    int32_t lowest[MOST / GROUP + 1]; /* rank of each group */
    int32_t ids[MOST], results[MOST];
    uint8_t next[MOST], previous[MOST];
};

typedef int32_t quad __attribute__((vector_size(16)));

static inline quad lower(quad a, quad b)
{
    quad less = a < b;
    return (a & less) | (b & ~less);
}

static inline int32_t lowest_of(const int32_t *ranks)
{
    quad q[4];
    memcpy(q, ranks, sizeof q);
    q[0] = lower(lower(q[0], q[1]), lower(q[2], q[3]));
    int32_t a = q[0][0] < q[0][1] ? q[0][0] : q[0][1], b = q[0][2] < q[0][3] ? q[0][2] : q[0][3];
    return a < b ? a : b;
}

/* A pair on its way: the filter's word is asked for before the first answer is looked at. */
struct asked {
    uint64_t hash, word;
};

static inline struct asked ask(const struct bpe *b, int32_t left, int32_t right)
{
    uint64_t hash = hash_pair((uint32_t)left, (uint32_t)right, b->seed);
    __builtin_prefetch(&b->pairs[(size_t)hash & b->mask]);
    return (struct asked){hash, b->filter[hash >> b->filter_shift >> 6]};
}

static inline void answer(const struct bpe *b, struct columns *c, uint32_t left, uint32_t right, struct asked a)
{
    c->ranks[left] = NO_RANK;
    if (!(a.word >> (a.hash >> b->filter_shift & 63) & 1))
        return;
    const struct bpe_pair *p = bpe_slot(b, c->ids[left], c->ids[right], a.hash);
    c->ranks[left] = p->rank ? p->rank - 1 : NO_RANK;
    c->results[left] = p->result;
}

static void merge(const struct bpe *b, struct columns *c, uint32_t count)
{
    uint32_t groups = (count + GROUP - 1) / GROUP;
    for (uint32_t g = 0; g < groups; g++)
        c->lowest[g] = lowest_of(c->ranks + g * GROUP);
    for (;;) {
        int32_t low = c->lowest[0];
        uint32_t g = 0;
        for (uint32_t i = 1; i < groups; i++)
            if (c->lowest[i] < low)
                low = c->lowest[i], g = i; /* the leftmost of equals */
        if (low == NO_RANK)
            return;
        uint32_t at = g * GROUP;
        while (c->ranks[at] != low)
            at++;
        uint32_t right = c->next[at], after = c->next[right], before = c->previous[at];
        c->ids[at] = c->results[at];
        c->next[at] = (uint8_t)after;
        c->ranks[at] = c->ranks[right] = NO_RANK;
        struct asked behind = {0}, ahead = {0};
        if (after < count)
            behind = ask(b, c->ids[at], c->ids[after]);
        if (before < count)
            ahead = ask(b, c->ids[before], c->ids[at]);
        if (after < count) {
            c->previous[after] = (uint8_t)at;
            answer(b, c, at, after, behind);
        }
        if (before < count) {
            answer(b, c, before, at, ahead);
            c->lowest[before / GROUP] = lowest_of(c->ranks + before / GROUP * GROUP);
        }
        c->lowest[right / GROUP] = lowest_of(c->ranks + right / GROUP * GROUP);
        c->lowest[g] = lowest_of(c->ranks + g * GROUP);
    }
}

/* The bytes of inside text: stray ones stand there as surrogates. Those without a token vanish. */
static uint32_t take_bytes(const struct bpe_bytes *t, const char *piece, size_t size, unsigned char *bytes)
{
    uint32_t count = 0;
    for (size_t at = 0, length; at < size; at += length) {
        unsigned char byte = (unsigned char)piece[at];
        length = 1;
        if (byte == 0xED) {
            uint32_t c;
            size_t n = text_next(piece + at, size - at, &c);
            if (text_is_stray(c)) {
                byte = (unsigned char)c;
                length = n;
            }
        }
        bytes[count] = byte;
        count += t->ids[byte] >= 0;
    }
    return count;
}

/* The symbols to begin with, and the bytes of those that are single ones (-1: a character). */
static uint32_t take_symbols(const struct bpe_bytes *t, const unsigned char *bytes, uint32_t count, struct columns *c, int16_t *single)
{
    uint32_t symbols = 0, size;
    for (uint32_t at = 0; at < count; at += size) {
        const struct bpe_character *whole = t->characters ? bpe_character_at(t->characters, bytes, count, at, &size) : NULL;
        size = whole ? size : 1;
        single[symbols] = whole ? -1 : bytes[at];
        c->ids[symbols++] = whole ? whole->id : t->ids[bytes[at]];
    }
    return symbols;
}

static void rank_symbols(const struct bpe *b, struct columns *c, const int16_t *single, uint32_t count)
{
    struct asked asked[MOST];
    for (uint32_t i = 0; i + 1 < count; i++)
        if (single[i] < 0 || single[i + 1] < 0)
            asked[i] = ask(b, c->ids[i], c->ids[i + 1]);
    for (uint32_t i = 0; i + 1 < count; i++) {
        if (single[i] < 0 || single[i + 1] < 0) {
            answer(b, c, i, i + 1, asked[i]);
        } else {
            c->ranks[i] = b->byte_pairs->pairs[single[i]][single[i + 1]].rank;
            c->results[i] = b->byte_pairs->pairs[single[i]][single[i + 1]].result;
        }
    }
    for (uint32_t i = count - 1; i < (count + GROUP - 1) / GROUP * GROUP; i++)
        c->ranks[i] = NO_RANK;
}

bool bpe_encode_bytes(const struct bpe *b, const char *piece, size_t size, struct ids *out)
{
    unsigned char bytes[MOST + 1];
    int16_t single[MOST];
    struct columns c;
    if (size > MOST)
        return false;
    uint32_t count = take_bytes(b->byte_pairs, piece, size, bytes);
    if (!count)
        return true;
    count = take_symbols(b->byte_pairs, bytes, count, &c, single);
    for (uint32_t i = 0; i < count; i++) {
        c.next[i] = (uint8_t)(i + 1);
        c.previous[i] = i ? (uint8_t)(i - 1) : 0xFF;
    }
    rank_symbols(b, &c, single, count);
    merge(b, &c, count);
    for (uint32_t i = 0; i < count; i = c.next[i])
        ids_add(out, c.ids[i]);
    return true;
}
