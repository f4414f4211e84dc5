/* Byte-pair merging: the pair of the lowest rank first, the leftmost of equals.
 *
 * Ranks come from one of two places: a list of merges (tokenizer.json, GGUF "gpt2"), where the rank is the position in
 * the list, or the scores of the joined pieces (SentencePiece, GGUF "llama"), the highest score having rank 0. */
#ifndef TOKENIZERS_BPE_H
#define TOKENIZERS_BPE_H

#include "base/status.h"
#include "base/str.h"
#include "tokenizers/tokenizers.h"
#include "tokenizers/vocabulary.h"

enum { NO_RANK = 0x7FFFFFFF, /* does not join; also one more than the largest rank */
       WHOLE_RANK = -1 };    /* a piece that is exactly this is taken as it is (SentencePiece's user-defined ones) */

struct merge {
    int32_t left, right, result; /* ids */
};

/* The same by its halves, for looking up: an open-addressed table whose slots hold all that is wanted to know. */
struct bpe_pair {
    int32_t left, right;
    int32_t rank; /* + 1; 0: empty */
    int32_t result;
};

struct bpe {
    const struct vocabulary *vocabulary;
    struct merge *merges; /* the position is the rank */
    uint32_t merge_count, merge_capacity;
    struct bpe_pair *pairs;
    size_t mask;
    uint64_t *filter; /* a bit for the hash of every pair, 16 bits a pair: what most pairs of neighbours are not in, and near memory */
    int filter_shift;
    uint64_t seed;
    struct bpe_bytes *byte_pairs; /* byte-level: the merges of two single bytes; NULL: not all bytes are there */
    int32_t *ranks; /* SentencePiece, tiktoken: rank of each vocabulary entry, NO_RANK: never joined; NULL: merges */
    bool *unused;   /* entries that join, but are taken apart again in the end; NULL: none */
    struct str prefix, suffix; /* continuing_subword_prefix, end_of_word_suffix */
    int32_t unk;               /* -1: none */
    bool ignore_merges, fuse_unk, byte_fallback;
    int32_t bytes[256];      /* of <0xNN>, -1: none */
    int32_t characters[512]; /* ids of the first characters, byte-level stand-ins among them, -1: none */
};

/* The pair's slot; one that is empty if it does not join. */
static inline const struct bpe_pair *bpe_slot(const struct bpe *b, int32_t left, int32_t right, uint64_t hash)
{
    size_t i = (size_t)hash & b->mask;
    while (b->pairs[i].rank && (b->pairs[i].left != left || b->pairs[i].right != right))
        i = (i + 1) & b->mask;
    return &b->pairs[i];
}

/* NULL: they do not join. */
static inline const struct bpe_pair *bpe_find_pair(const struct bpe *b, int32_t left, int32_t right)
{
    uint64_t hash = hash_pair((uint32_t)left, (uint32_t)right, b->seed), bit = hash >> b->filter_shift;
    if (!(b->filter[bit >> 6] >> (bit & 63) & 1))
        return NULL;
    const struct bpe_pair *p = bpe_slot(b, left, right, hash);
    return p->rank ? p : NULL;
}

/* One symbol of a piece that is being merged; `next` skips what was joined. */
struct bpe_symbol {
    int32_t id;
    int32_t rank;      /* of this one with the next, NO_RANK: they do not join */
    int32_t result;    /* of the two joined: the id (merges) or the vocabulary entry (ranks) */
    uint32_t next, previous;
    uint32_t start, end; /* bytes of the piece */
};
struct bpe_work {
    struct bpe_symbol *symbols;
    size_t count, capacity;
    uint64_t *heap; /* rank << 32 | symbol */
    size_t heap_count, heap_capacity;
    uint32_t *splits; /* by vocabulary entry, where some are unused: bytes of the left part that it was last made of */
};
void bpe_work_free(struct bpe_work *w);

/* Merges of the file, in rank order, as the texts of their halves: left, right, left, right ... The vocabulary must be indexed.
 * STATUS_BAD_INPUT names an unknown token. Faster with many at once (MERGE_BATCH): their look-ups wait for memory together. */
enum { MERGE_BATCH = VOCABULARY_MANY / 2 };
enum status bpe_add_merges(struct bpe *b, const struct wanted_text *halves, size_t merges, struct error *err);
/* Ranks by score, the highest first, equal scores share one; NAN: never joined. scores go by vocabulary entry. */
enum status bpe_rank(struct bpe *b, const float *scores, struct error *err);
enum status bpe_set_unused(struct bpe *b, uint32_t entry, struct error *err);
/* Builds the tables; unk: the unknown token's text or NULL. */
enum status bpe_finish(struct bpe *b, const struct str *unk, struct error *err);
/* Does every merge join characters that stand side by side in a token's text? Then text can be cut where none does (borders.h). Not
 * where unknown neighbours become one, or where byte tokens are merged. */
bool bpe_is_local(const struct bpe *b);
void bpe_free(struct bpe *b);

/* Byte-level vocabularies: makes what bpe_encode_bytes() needs. */
enum status bpe_start_bytes(struct bpe *b, struct error *err);
void bpe_free_bytes(struct bpe *b);
/* Appends the ids of one piece of inside text whose bytes were not spelled as stand-ins; false (and nothing appended) when the piece is
 * too long for that. byte_pairs must be there. */
bool bpe_encode_bytes(const struct bpe *b, const char *piece, size_t size, struct ids *out);

/* Appends the ids of one piece of inside text. */
enum status bpe_encode(const struct bpe *b, struct bpe_work *w, const char *piece, size_t size, struct ids *out, struct error *err);

#endif
