/* SentencePiece's precompiled_charsmap: replacements of short texts. Its bytes are a u32 (bytes of the trie), the trie (a double array
 * of Darts-clone, u32 units), then the replacements, each ended by a NUL. */
#ifndef TOKENIZERS_CHARSMAP_H
#define TOKENIZERS_CHARSMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "base/str.h"

struct charsmap {
    uint32_t *units;
    size_t count;
    struct str texts;
};

/* Copies; STATUS_BAD_INPUT when sizes or text are wrong. No bytes at all: a map without replacements. */
enum status charsmap_open(struct charsmap *m, const char *bytes, size_t size, struct error *err);
void charsmap_free(struct charsmap *m);

/* The replacement of the shortest or longest text of the map that `text` begins with. *length: bytes that are replaced. */
bool charsmap_find(const struct charsmap *m, const char *text, size_t size, bool longest, size_t *length, const char **with, size_t *with_size);

/* The `tokenizers` package's way over inside text: grapheme by grapheme. */
void charsmap_normalize(const struct charsmap *m, const char *text, size_t size, struct str *out);

#endif
