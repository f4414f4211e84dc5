/* What the names in tokenizer.ggml.pre mean. */
#ifndef TOKENIZERS_PRE_H
#define TOKENIZERS_PRE_H

#include "tokenizers/internal.h"

enum { PRE_WHOLE = 1 /* ignore_merges */, PRE_BOS = 2 /* add_bos_token, where the file does not say */ };

/* Adds the normalizers and pre-tokenizers of a name. STATUS_BAD_INPUT for an unknown one: guessing gives wrong ids. */
enum status pre_open(struct opening *o, const char *name, size_t size, unsigned *flags);

#endif
