/* What the names in tokenizer.ggml.pre mean. */
#ifndef TOKENIZERS_PRE_H
#define TOKENIZERS_PRE_H

#include "tokenizers/internal.h"

/* Regexes that several files name in their own way. */
#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define TAIL "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define LETTERS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
#define LLAMA3 CONTRACTIONS LETTERS "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" TAIL
#define QWEN2 CONTRACTIONS LETTERS "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" TAIL
/* words of o200k: an optional sign, capitals, small letters */
#define CAPITALS "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define SMALL "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define SIGN "[^\\r\\n\\p{L}\\p{N}]?"
#define GPT4O                                                                                                                         \
    SIGN CAPITALS "*" SMALL "+" CONTRACTIONS "?|" SIGN CAPITALS "+" SMALL "*" CONTRACTIONS "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" TAIL

enum { PRE_WHOLE = 1 /* ignore_merges */, PRE_BOS = 2 /* add_bos_token, where the file does not say */ };

/* A name and its steps, in the order in which they run. */
enum step_kind { STEP_END, STEP_NFC, STEP_SPLIT, STEP_DIGITS, STEP_DIGIT_RUNS, STEP_PUNCTUATION, STEP_GPT2, STEP_BYTES };

struct pre_step {
    enum step_kind kind;
    const char *regex; /* STEP_SPLIT */
};
struct pre_name {
    const char *name;
    unsigned flags;
    struct pre_step steps[8]; /* STEP_END behind the last */
};
extern const struct pre_name pre_names[]; /* name NULL behind the last */

/* NULL with words for an unknown name: guessing gives wrong ids. */
const struct pre_name *pre_get(const char *name, size_t size, struct error *err);

/* Adds the normalizers and pre-tokenizers of a name. STATUS_BAD_INPUT for an unknown one: guessing gives wrong ids. */
enum status pre_open(struct opening *o, const char *name, size_t size, unsigned *flags);

/* The steps of a name as tokenizer.json's "normalizer" and "pre_tokenizer". */
enum status pre_write(const char *name, size_t size, struct str *normalizer, struct str *pretokenizer, struct error *err);

/* The name whose steps a tokenizer.json has; NULL with words about what is in the way. whole: the model's ignore_merges. */
const char *pre_find(const struct json *normalizer, const struct json *pretokenizer, bool whole, struct error *err);

#endif
