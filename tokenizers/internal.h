/* The parts of a tokenizer, shared by the files of this folder.
 *
 *   bytes -> added tokens cut out -> normalizers -> added tokens cut out -> pre-tokenizers -> model -> post-processor
 *
 * Every part is a list of small steps in the order in which they run (a Sequence of the file is laid flat). A new kind
 * of step is a function in one of the files and a line in components.def. */
#ifndef TOKENIZERS_INTERNAL_H
#define TOKENIZERS_INTERNAL_H

#include <pthread.h>

#include "tokenizers/tokenizers.h"
#include "tokenizers/added.h"
#include "tokenizers/borders.h"
#include "tokenizers/bpe.h"
#include "tokenizers/cache.h"
#include "tokenizers/charsmap.h"
#include "tokenizers/merge_queue.h"
#include "tokenizers/pattern.h"
#include "tokenizers/unicode.h"
#include "tokenizers/unigram.h"
#include "tokenizers/vocabulary.h"
#include "tokenizers/words.h"

enum { MOST_STEPS = 64 }; /* of one part */

/* Normalizers may make this much of a text (NFKD: 11, blanks to U+2581: 3); a chain that multiplies is refused. */
enum { MOST_GROWTH = 48 };

/* Text on its way through the pre-tokenizers: pieces are byte ranges of text, in order. */
struct piece {
    uint32_t start, end;
};
struct pieces {
    struct piece *list;
    size_t count, capacity;
    bool failed;
};
void pieces_add(struct pieces *p, size_t start, size_t end); /* empty ones are dropped */

struct cut {
    struct str text;
    struct pieces pieces;
    bool first; /* text begins where the whole input begins */
};

/* What one call of encode works with. A tokenizer keeps those of earlier calls, with what they remember. */
struct scratch {
    struct scratch *next;
    struct cache cache;
    struct str spelled; /* a piece in stand-ins */
    struct pattern_run run;
    struct cut cut;
    struct pieces pieces; /* the next list of pieces */
    struct str text;      /* the next text */
    size_t room;          /* bytes that normalizers may make of the present text */
    struct bpe_work bpe;
    struct unigram_work unigram;
    struct str word;
};
void scratch_free(struct scratch *s);

/* Scratches that wait for the next call, at most a few; locked. */
struct scratch_pool {
    pthread_mutex_t lock;
    struct scratch *first;
    int count;
};
struct scratch *scratch_take(struct scratch_pool *pool); /* NULL: out of memory */
void scratch_give(struct scratch_pool *pool, struct scratch *s);
void scratch_pool_free(struct scratch_pool *pool);

struct normalizer {
    enum status (*run)(const struct normalizer *n, struct scratch *s, const struct str *in, struct str *out, struct error *err);
    struct pattern pattern;
    struct str content;
    struct charsmap map;
    int form; /* utf8proc's options of a normal form */
    bool left, right;                       /* Strip: the sides; SentencePiece: where its blank goes */
    struct trie user;                       /* SentencePiece: texts that stay as they are */
    bool extra, escape;                     /* SentencePiece: blanks are made one, blanks become marks */
    bool clean, ideographs, accents, lower; /* BertNormalizer */
};

enum behavior { REMOVED, ISOLATED, MERGED_WITH_PREVIOUS, MERGED_WITH_NEXT, CONTIGUOUS };
enum scheme { PREPEND_ALWAYS, PREPEND_FIRST, PREPEND_NEVER };

struct pretokenizer {
    enum status (*run)(const struct pretokenizer *p, struct scratch *s, struct cut *cut, struct error *err);
    struct pattern pattern;
    bool (*class)(uint32_t); /* what a splitter by character class looks for */
    enum behavior behavior;
    enum scheme scheme;
    struct str replacement;
    int64_t length; /* characters */
    struct trie user; /* SentencePiece: pieces that stand alone */
    bool invert, prefix;
};

/* Decoders see one token after the other; `text` is the token so far, changed in place. */
struct decoder {
    void (*run)(const struct decoder *d, struct detokenizer *state, struct str *text);
    struct pattern pattern;
    struct str content, word; /* word: CTC's mark of a word's end */
    uint32_t character;
    int64_t start, stop;
    int32_t unk; /* SentencePiece: prints as content */
    bool never, cleanup, extra;
};

struct tokenizer {
    struct vocabulary vocabulary; /* the model's own */
    struct added added;
    struct normalizer normalizers[MOST_STEPS];
    struct pretokenizer pretokenizers[MOST_STEPS];
    struct decoder decoders[MOST_STEPS];
    int normalizer_count, pretokenizer_count, decoder_count;
    bool stand_ins;                /* the last pre-tokenizer spells bytes: it is left to those pieces that the cache does not know */
    const struct pattern *scanned; /* the only other one isolates the matches of this pattern; NULL: there are others */
    struct borders *borders;       /* NULL: pieces go to the model as they are */
    struct scratch_pool *pool;

    /* the model: ids of one piece */
    enum status (*model)(const struct tokenizer *t, struct scratch *s, const char *piece, size_t size, struct ids *out, struct error *err);
    struct bpe bpe;
    struct unigram unigram;
    struct words words;
    bool keeps_bytes; /* some part gives every stray byte a token */

    struct ids prefix, suffix; /* what the post-processor puts around a text */

    /* decoding: what follows the token-wise decoders */
    bool has_decoder;        /* none: tokens are joined by blanks */
    bool fallback_bytes;     /* <0xNN> is a byte */
    bool fused;              /* later decoders see the whole text */
    int64_t strip_start;     /* characters `strip` that are cut from the start of the whole text */
    uint32_t strip;

    int32_t bos, eos;
    struct ids named_ends; /* that a file names beside eos */
    struct ids ends;
    int32_t size;
    char byte_texts[256]; /* what tokenizer_piece gives for byte tokens */
};

/* ---- opening -------------------------------------------------------------------------------------------------------- */

/* Scores of a vocabulary that a file writes as a list, entry by entry. */
struct scores {
    double *list;
    size_t count, capacity;
};

enum role { ROLE_NORMALIZER, ROLE_PRETOKENIZER, ROLE_MODEL, ROLE_POSTPROCESSOR, ROLE_DECODER };

struct opening {
    struct tokenizer *t;
    struct merge_queue *merges;  /* NULL for GGUF */
    const struct scores *scores; /* of a vocabulary that is a list; NULL for GGUF */
    struct error *err;
};

/* A component of tokenizer.json by its "type"; v null or absent is fine except for the model. */
enum status component_open(struct opening *o, enum role role, const struct json *v);

/* Each reads its own keys and appends its steps. The names follow components.def. */
#define COMPONENT(role, name, open) enum status open(struct opening *o, const struct json *v);
#define PENDING(role, name)
#include "tokenizers/components.def"
#undef COMPONENT
#undef PENDING

/* A new step at the end of its list; NULL with a message when the list is full. */
struct normalizer *add_normalizer(struct opening *o);
struct pretokenizer *add_pretokenizer(struct opening *o);
struct decoder *add_decoder(struct opening *o);

/* Typed keys of components: false in case of a wrong type, with a message that names component and key. An absent or
 * null key leaves *out as it is. */
bool take_bool(struct opening *o, const struct json *v, const char *component, const char *key, bool *out);
bool take_int(struct opening *o, const struct json *v, const char *component, const char *key, int64_t low, int64_t high, int64_t *out);
bool take_text(struct opening *o, const struct json *v, const char *component, const char *key, struct str *out);

/* Steps that GGUF names without a JSON text. */
bool take_scheme(struct opening *o, const struct json *v, enum scheme *out);
struct pretokenizer *add_split(struct opening *o); /* isolated matches of a pattern that the caller sets; NULL: as add_pretokenizer() */
enum status add_split_regex(struct opening *o, const char *regex);
enum status add_class_split(struct opening *o, bool (*class)(uint32_t), enum behavior behavior);
enum status add_byte_level(struct opening *o, bool gpt2_regex);
enum status add_bert_normalizer(struct opening *o, bool lower, bool accents);
enum status add_bert_pretokenizers(struct opening *o);
enum status add_wordpiece_decoder(struct opening *o);
enum status add_prepend(struct opening *o, const char *text);
enum status add_replace(struct opening *o, const char *from, const char *to);
enum status add_byte_level_decoder(struct opening *o);

/* SentencePiece's normalizer_spec. */
struct piece_rules {
    bool prefix, suffix, extra, escape; /* add_dummy_prefix, treat_whitespace_as_suffix, remove_extra_whitespaces, escape_whitespaces */
    const char *map;                    /* precompiled_charsmap */
    size_t map_size;
};
void add_stand_ins(struct str *out, const char *text, size_t size);
bool is_stand_ins(const struct pretokenizer *p);
bool isolates_matches(const struct pretokenizer *p); /* of a pattern that has a scanner */
enum status add_pieces_normalizer(struct opening *o, const struct piece_rules *rules, const struct trie_text *user, size_t count);
enum status add_user_split(struct opening *o, const struct trie_text *user, size_t count);
enum status add_pieces_decoder(struct opening *o, const struct piece_rules *rules, int32_t unk, const char *surface, size_t surface_size);
enum status take_pieces_over(struct scratch *s, struct cut *cut, struct error *err); /* the pieces in scratch become the cut's */
enum status add_piece_decoders(struct opening *o, bool strip_first_blank);

/* The models, ready to run; vocabulary and tables are set. */
enum status model_bpe(const struct tokenizer *t, struct scratch *s, const char *piece, size_t size, struct ids *out, struct error *err);
enum status model_unigram(const struct tokenizer *t, struct scratch *s, const char *piece, size_t size, struct ids *out, struct error *err);
enum status model_unigram_back(const struct tokenizer *t, struct scratch *s, const char *piece, size_t size, struct ids *out, struct error *err);
enum status model_greedy(const struct tokenizer *t, struct scratch *s, const char *piece, size_t size, struct ids *out, struct error *err);
enum status model_wordpiece(const struct tokenizer *t, struct scratch *s, const char *piece, size_t size, struct ids *out, struct error *err);

/* tokenizer.json held in memory; name is what errors call it. The text may be freed afterwards. */
enum status tokenizer_open_memory(struct tokenizer **out, const char *name, const char *text, size_t size, struct error *err);

/* The other files that hold a tokenizer, in memory: into an empty tokenizer, which the caller finishes or closes. */
enum status open_tokenizer_json(struct tokenizer *t, const char *text, size_t size, struct error *err);
enum status open_sentencepiece(struct tokenizer *t, const char *data, size_t size, struct error *err); /* tokenizer.model */
enum status open_tiktoken(struct tokenizer *t, const char *data, size_t size, struct error *err);      /* lines of base64 and rank */
enum status open_tekken(struct tokenizer *t, const char *data, size_t size, struct error *err);        /* tekken.json */
/* Any of the four by what the file holds, finished. */
enum status tokenizer_open_bytes(struct tokenizer **out, const char *name, const char *data, size_t size, struct error *err);

/* Called when all parts are there: automata, sizes, ids that end a turn. */
enum status tokenizer_finish(struct tokenizer *t, struct error *err);
void tokenizer_collect_ends(struct tokenizer *t); /* anew, when eos became known later */

/* ---- running -------------------------------------------------------------------------------------------------------- */

/* Runs all normalizers over in; the result is in out (in and out differ). */
enum status normalize(const struct tokenizer *t, struct scratch *s, const char *text, size_t size, struct str *out, struct error *err);
/* The first `steps` pre-tokenizers over the text of the cut. */
enum status pretokenize(const struct tokenizer *t, int steps, struct scratch *s, struct cut *cut, struct error *err);

/* A token's text: added tokens first. NULL for a hole. */
const char *token_text(const struct tokenizer *t, int32_t id, size_t *size);

/* The byte of a token spelled <0xNN>, exactly; -1 for all others. */
int byte_token(const char *text, size_t size);

#endif
