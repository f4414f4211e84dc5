/* Models that look words up: WordPiece (the longest beginning, then the longest continuation ...) and WordLevel. */
#ifndef TOKENIZERS_WORDS_H
#define TOKENIZERS_WORDS_H

#include "base/status.h"
#include "base/str.h"
#include "tokenizers/tokenizers.h"
#include "tokenizers/vocabulary.h"

struct words {
    const struct vocabulary *vocabulary;
    struct str prefix; /* of a piece that continues a word */
    int32_t unk;       /* -1: none, an unknown word is an error */
    int64_t longest;   /* characters; a longer word is unknown as a whole */
};
void words_free(struct words *w);

/* Append the ids of one word of inside text; room: what a call works with. STATUS_FAILED: the word is unknown and the file has no
 * token for that. */
enum status wordpiece_encode(const struct words *w, struct str *room, const char *word, size_t size, struct ids *out, struct error *err);
enum status wordlevel_encode(const struct words *w, const char *word, size_t size, struct ids *out, struct error *err);

#endif
