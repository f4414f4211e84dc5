/* Unigram: the pieces whose log scores sum up highest (Kudo, 2018; Viterbi over the places between characters). */
#ifndef TOKENIZERS_UNIGRAM_H
#define TOKENIZERS_UNIGRAM_H

#include "base/status.h"
#include "tokenizers/tokenizers.h"
#include "tokenizers/trie.h"
#include "tokenizers/vocabulary.h"

/* What kind of entry a piece is. */
enum unigram_kind { UNIGRAM_NORMAL, UNIGRAM_NEVER /* control, unknown, unused, byte: text never becomes one */, UNIGRAM_USER };

struct unigram {
    const struct vocabulary *vocabulary;
    struct trie trie;    /* values are ids */
    double *scores;      /* by vocabulary entry; NULL: the model is another one */
    uint8_t *kinds;      /* by vocabulary entry, enum unigram_kind */
    double unknown;      /* score of a character that no piece has */
    double highest;      /* of the normal pieces: a user's own are given length x this - 0.1 */
    int32_t unk;         /* -1: none, an unknown character is an error */
    bool byte_fallback;
    bool single;         /* sums are rounded to float, as in SentencePiece; else double, as in the package */
    int32_t bytes[256];  /* of <0xNN>, -1: none */
};

/* The best way to one place of a piece. */
struct unigram_place {
    double score;
    uint32_t start; /* of the last piece on it */
    int32_t id;     /* -1: not reached */
};
struct unigram_work {
    struct unigram_place *places;
    size_t capacity;
};
void unigram_work_free(struct unigram_work *w);

/* Room for scores and kinds of every entry; the vocabulary is complete. */
enum status unigram_start(struct unigram *u, const struct vocabulary *v, struct error *err);
/* Scores and kinds are set: builds the trie. */
enum status unigram_finish(struct unigram *u, struct error *err);
void unigram_free(struct unigram *u);

/* Appends the ids of one piece of inside text. STATUS_FAILED: a character is unknown and the file has no token for that, or the
 * vocabulary makes it take too many steps. */
enum status unigram_encode(const struct unigram *u, struct unigram_work *w, const char *piece, size_t size, struct ids *out, struct error *err);

/* The same as PLaMo 2 does it: worked out from the end of the text, where of equal ways the longer next piece counts, and a character
 * that is dearer as a piece becomes its bytes. Scores are whole numbers, and every byte has a token. */
enum status unigram_encode_back(const struct unigram *u, struct unigram_work *w, const char *piece, size_t size, struct ids *out, struct error *err);

/* Room for the places 0 to size. */
enum status unigram_room(struct unigram_work *w, size_t size, struct error *err);
/* More steps than any vocabulary takes for a text of this size? */
static inline bool unigram_endless(uint64_t steps, size_t size) { return steps > ((uint64_t)1 << 28) + size * 256; }

#endif
