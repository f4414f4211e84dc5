/* A vocabulary inside a GGUF file while it is opened: shared by open_gguf.c, open_gguf_pieces.c and open_gguf_rwkv.c. */
#ifndef TOKENIZERS_GGUF_FILE_H
#define TOKENIZERS_GGUF_FILE_H

#include "tokenizers/internal.h"

enum token_type { NORMAL = 1, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE };

struct gguf_file {
    struct tokenizer *t;
    const struct tensor_set *set;
    const struct meta *tokens, *types, *scores;
    int64_t count;
    struct error *err;
};

enum token_type gguf_type(const struct gguf_file *f, int64_t id);
float gguf_score(const struct gguf_file *f, int64_t id);

/* All tokens become vocabulary and added tokens; user: user-defined ones are added tokens. */
enum status gguf_read_tokens(struct gguf_file *f, bool user);
/* An id that a key names; beyond the vocabulary it is ignored, as other readers do. */
enum status gguf_read_id(const struct gguf_file *f, const char *key, int64_t missing, int32_t *out);
/* What stands around a text: add_bos_token and add_eos_token, or these where the file does not say. */
enum status gguf_read_around(struct gguf_file *f, bool bos, bool eos);
/* The same behind bos_token_id and eos_token_id, or these where the file does not name them. */
enum status gguf_read_ends(struct gguf_file *f, int64_t bos_id, int64_t eos_id, bool bos, bool eos);

enum status gguf_open_llama(struct gguf_file *f); /* SentencePiece BPE */
enum status gguf_open_t5(struct gguf_file *f);    /* SentencePiece Unigram */
enum status gguf_open_rwkv(struct gguf_file *f);  /* longest match of bytes */
enum status gguf_open_bert(struct gguf_file *f);  /* WordPiece */
enum status gguf_open_plamo(struct gguf_file *f); /* Unigram from the end of the text */

#endif
