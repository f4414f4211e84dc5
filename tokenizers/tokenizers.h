/* Text in and out: bytes <-> token ids, chat templates. The one header of this folder that others include.
 *
 * A tokenizer is immutable after opening and safe to use from any thread. */
#ifndef TOKENIZERS_TOKENIZERS_H
#define TOKENIZERS_TOKENIZERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/files/tensors.h"
#include "base/json.h"
#include "base/status.h"
#include "base/str.h"

struct tokenizer;

/* Opens tokenizer.json, Mistral's tekken.json, or tokenizer.model (SentencePiece's file, or tiktoken's ranks under that name): path of
 * the file, or of a folder that holds one of them, the first in this order. STATUS_NOT_FOUND if there is none; STATUS_BAD_INPUT names
 * the key that is wrong or the component that is not supported. */
enum status tokenizer_open(struct tokenizer **out, const char *path, struct error *err);

/* From a GGUF's metadata (tokenizer.ggml.*). STATUS_NOT_FOUND if the file holds no vocabulary. The set may be closed
 * afterwards: everything needed is copied. */
enum status tokenizer_open_gguf(struct tokenizer **out, const struct tensor_set *set, struct error *err);

void tokenizer_close(struct tokenizer *t); /* NULL is fine */

/* Ids that can be decoded are 0..size-1 (holes decode to nothing). */
int32_t tokenizer_size(const struct tokenizer *t);

/* A growing list of ids; `failed` is set when memory ran out. */
struct ids {
    int32_t *data;
    size_t count, capacity;
    bool failed;
};
void ids_add(struct ids *ids, int32_t id);
void ids_free(struct ids *ids);

struct encode_options {
    bool add_special;   /* what the post-processor adds (BOS, EOS) */
    bool parse_special; /* special tokens (special: true) in the text match; others are matched always */
};

/* Appends the ids of text (any bytes; what is not UTF-8 goes through byte tokens where the vocabulary has them, else
 * reads as U+FFFD). Fails only with STATUS_NO_ROOM, or STATUS_FAILED when a pattern of the file runs into its step limit. */
enum status tokenizer_encode(const struct tokenizer *t, const char *text, size_t size, struct encode_options options,
                             struct ids *out, struct error *err);

/* The same for a text of which only some bytes may match special tokens: trusted[i] is true for the template's own
 * bytes and false for what a user typed (see chat.h: marks). */
enum status tokenizer_encode_marked(const struct tokenizer *t, const char *text, size_t size, const bool *trusted,
                                    bool add_special, struct ids *out, struct error *err);

/* Exact streaming detokenisation: feed ids one by one, take the bytes that are certain; never half a character. */
struct detokenizer {
    const struct tokenizer *tokenizer;
    bool keep_special; /* print special tokens too */
    bool started;      /* a token was taken (the first one is decoded differently) */
    int32_t present, last; /* the token being taken, and the one before it */
    bool begun;        /* something was printed (SentencePiece: its first blank is none) */
    bool held_blank;   /* a word's end that is a blank only if more follows (BPEDecoder) */
    int64_t stripped;  /* leading characters taken off the whole text so far */
    struct str pending; /* bytes of an unfinished character, or pieces that a later one may change */
};
void detokenizer_init(struct detokenizer *d, const struct tokenizer *t, bool keep_special);
/* Appends to out what can be printed after this id (perhaps nothing). Ids outside the vocabulary: STATUS_USAGE. */
enum status detokenizer_add(struct detokenizer *d, int32_t id, struct str *out, struct error *err);
void detokenizer_finish(struct detokenizer *d, struct str *out); /* what is left, broken bytes as U+FFFD */
void detokenizer_free(struct detokenizer *d);
/* An independent copy (fork, n > 1). */
enum status detokenizer_copy(struct detokenizer *to, const struct detokenizer *from, struct error *err);

/* The token's own text as the vocabulary spells it (bytes for byte tokens); NULL for a hole. Not NUL-terminated. */
const char *tokenizer_piece(const struct tokenizer *t, int32_t id, size_t *size);
/* Appends the bytes that this token stands for in running text: a leading space included, perhaps half a character;
 * special tokens their spelling; nothing for a hole. */
void tokenizer_bytes(const struct tokenizer *t, int32_t id, struct str *out);
/* The id of a token by its vocabulary spelling (added tokens too), -1 if there is none. */
int32_t tokenizer_find(const struct tokenizer *t, const char *text, size_t size);
bool tokenizer_is_special(const struct tokenizer *t, int32_t id);

/* Ids that the files name: -1 if they name none. */
int32_t tokenizer_bos(const struct tokenizer *t);
int32_t tokenizer_eos(const struct tokenizer *t);
bool tokenizer_adds_bos(const struct tokenizer *t); /* add_special puts it in front of a text */

/* Ids that end a turn, from all the places that tokenizer files put them: eos_token, tokenizer.ggml.eos/eot/eom ids, and
 * special tokens whose text is a known end-of-turn mark. Sorted, at most *count written; returns the number. */
size_t tokenizer_end_ids(const struct tokenizer *t, int32_t *ids, size_t capacity);

/* ---- conversion ----------------------------------------------------------------------------------------------------- */

/* A tokenizer opened from a GGUF as tokenizer.json, with the same ids for every text; set is the GGUF it came from.
 * STATUS_BAD_INPUT names what tokenizer.json cannot say. */
enum status tokenizer_write_json(const struct tokenizer *t, const struct tensor_set *set, struct str *out, struct error *err);

/* A tokenizer opened from a folder as the keys tokenizer.ggml.*. vocab: rows of the model's embedding, which is how many
 * tokens are written; ends: ids that the model's own files name as the end of an answer, the first is the eos of a file that names
 * none. STATUS_BAD_INPUT names what GGUF has no word for. */
struct gguf_keys;
struct chat_source;
enum status tokenizer_write_gguf(const struct tokenizer *t, const char *folder, const struct chat_source *chat, int64_t vocab,
                                 const int32_t *ends, int end_count, struct gguf_keys *keys, struct error *err);

/* ---- chat templates ------------------------------------------------------------------------------------------------- */

struct chat_template; /* compiled; immutable, any thread */

/* What a template may use up (security.md R10). */
struct chat_limits {
    uint64_t steps;  /* default 10^7 */
    size_t output;   /* bytes, default 16 MiB */
    size_t memory;   /* bytes, default 64 MiB */
    int depth;       /* default 200 */
};
extern const struct chat_limits chat_default_limits;

/* Compiles Jinja text; name is what errors call it. STATUS_BAD_INPUT names template and line. The text is copied. */
enum status chat_compile(struct chat_template **out, const char *name, const char *text, size_t size, struct error *err);
void chat_free(struct chat_template *t);

/* A rendered prompt. marks[i] is true where text[i] came from the template itself, false where it came from a value
 * of the request: only the former may match special tokens. */
struct chat_text {
    struct str text;
    bool *marks; /* text.size entries */
};
void chat_text_free(struct chat_text *t);

/* Renders with context (a JSON object: the variables; see chat_context for what counts as trusted). now: the clock that
 * strftime_now reads, "2026-01-02T03:04:05", NULL for the real one. Errors of the template language are errors of the
 * request (STATUS_BAD_INPUT with template and line); nothing partial is left in out. limits may be NULL. The calling thread
 * needs 2 MiB of stack. */
enum status chat_render(const struct chat_template *t, const struct json *context, const char *now,
                        const struct chat_limits *limits, struct chat_text *out, struct error *err);

/* The templates of a model by name ("default", "tool_use", ...), and the special tokens that templates read. */
struct chat_source {
    struct arena arena;
    struct chat_named {
        const char *name, *text;
        size_t size;
    } *templates;
    int count;
    struct json_member *tokens; /* bos_token, eos_token, ... -> string; missing ones are absent */
    uint32_t token_count;
};

/* From a folder (tokenizer_config.json, chat_template.jinja, additional_chat_templates/) or a GGUF's metadata.
 * A model without a template gives count 0 and STATUS_OK. */
enum status chat_source_open(struct chat_source *out, const char *folder, struct error *err);
enum status chat_source_open_gguf(struct chat_source *out, const struct tensor_set *set, const struct tokenizer *t, struct error *err);
void chat_source_close(struct chat_source *s);

/* Templates and named tokens as tokenizer_config.json; context: model_max_length. adds: whether encoding puts a BOS in front. */
void chat_source_write_json(const struct chat_source *s, int64_t context, bool adds_bos, struct str *out);
/* The templates as GGUF keys. */
void chat_source_write_gguf(const struct chat_source *s, struct gguf_keys *keys);

/* The template that a request gets: template_name if given, else "tool_use" if it exists and tools are present, else
 * "default" (or the only one). NULL with STATUS_NOT_FOUND words in err. */
const struct chat_named *chat_choose(const struct chat_source *s, const char *template_name, bool has_tools, struct error *err);

/* Builds the context that transformers builds from a request object {"messages", "tools", "documents",
 * "add_generation_prompt", "template_kwargs"}: nulls in messages dropped, reasoning aliased, special tokens added,
 * template_kwargs over them. Everything lives in arena or borrows from request and source.
 *
 * Trust: a JSON string of the context whose `truth` is set counts as the template's own in chat_text's marks. Set are the
 * model's special tokens (source->tokens) and roles that APIs define (user, assistant, tool ...); json_parse() never sets
 * it. Numbers, booleans and null print as the template's own, as a template counts images and turns with them. */
enum status chat_context(struct arena *arena, const struct json *request, const struct chat_source *source,
                         struct json *context, struct error *err);

#endif
