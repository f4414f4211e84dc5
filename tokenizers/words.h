/* Models that look words up: WordPiece (the longest beginning, then the longest continuation ...), WordLevel, and the longest token
 * again and again. */
#ifndef TOKENIZERS_WORDS_H
#define TOKENIZERS_WORDS_H

#include "base/status.h"
#include "base/str.h"
#include "tokenizers/tokenizers.h"
#include "tokenizers/trie.h"
#include "tokenizers/vocabulary.h"

struct words {
    const struct vocabulary *vocabulary;
    struct str prefix; /* of a piece that continues a word */
    int32_t unk;       /* -1: none, an unknown word is an error */
    int64_t longest;   /* characters; a longer word is unknown as a whole */
    struct trie tokens; /* greedy: values are ids */
};
void words_free(struct words *w);

/* Append the ids of one word of inside text; room: what a call works with. STATUS_FAILED: the word is unknown and the file has no
 * token for that. */
enum status wordpiece_encode(const struct words *w, struct str *room, const char *word, size_t size, struct ids *out, struct error *err);
enum status wordlevel_encode(const struct words *w, const char *word, size_t size, struct ids *out, struct error *err);

/* The longest token, then the longest behind it. The vocabulary is complete, and all characters of every text are in it. */
enum status greedy_start(struct words *w, const struct vocabulary *v, struct error *err);
enum status greedy_encode(const struct words *w, const char *text, size_t size, struct ids *out, struct error *err);

#endif
