/* Text in and out: bytes <-> token ids, chat templates, readers of model output, grammars. The one header of this folder that others
 * include.
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

/* ---- grammars (constrained output) ----------------------------------------------------------------------------------
 *
 *     struct grammar             a language over bytes: JSON Schema, regex, GBNF, Lark or put together by a builder
 *     struct grammar_vocabulary  a tokenizer's tokens as bytes; built once per tokenizer
 *     struct grammar_state       how far one answer has come
 *
 * No state is a dead end: whatever was accepted can be completed. A language without any text is refused when compiled. */

struct grammar;            /* immutable to its users; counted references; any thread (what it learns lies behind one lock) */
struct grammar_vocabulary; /* immutable; any thread; the tokenizer may be closed before it */
struct grammar_state;      /* one thread at a time; holds a reference to its grammar */

/* STATUS_BAD_INPUT names what is wrong: keyword and JSON pointer of a schema, line of a grammar, position of a regex. What
 * cannot be decided exactly is refused, never ignored. A schema's text may be freed afterwards.
 * Schemas: draft 2020-12; properties in the declared order, undeclared ones behind them; white space as Python's json.dumps
 * prints it: compact, default, indented. Regexes match the whole text; \d \w \s are ASCII. */
enum status grammar_compile_schema(struct grammar **out, const struct json *schema, struct error *err);
enum status grammar_compile_regex(struct grammar **out, const char *text, size_t size, struct error *err);
enum status grammar_compile_gbnf(struct grammar **out, const char *text, size_t size, struct error *err);
enum status grammar_compile_lark(struct grammar **out, const char *text, size_t size, struct error *err);
struct grammar *grammar_share(struct grammar *g); /* one reference more */
void grammar_close(struct grammar *g);            /* one less; the last frees. NULL is fine */

/* A grammar out of parts: literal texts, schemas, choices. Parts may be used several times, only in their own builder.
 * Failures stick (all parts behind them are void) and are told by grammar_builder_finish(); only what comes from a user has
 * its own status, so that one bad tool can be left unconstrained: grammar_part_schema(b, NULL, ...) is any JSON value. */
struct grammar_builder;
typedef uint32_t grammar_part;
#define GRAMMAR_ANY_NUMBER UINT32_MAX

enum status grammar_builder_open(struct grammar_builder **out, struct error *err);
void grammar_builder_close(struct grammar_builder *b); /* NULL is fine */
enum status grammar_part_schema(struct grammar_builder *b, const struct json *schema, grammar_part *out, struct error *err);
/* The arguments of a call as models write them that use no JSON object: key NAME value VALUE close for each member of the schema's
 * object, joint between two. Undeclared members have plain names. Fails as grammar_part_schema(). */
struct grammar_arguments {
    grammar_part key, value[6], close, joint; /* value: by json_kind of what follows it */
    const char *until;                        /* strings stand raw, up to this closing tag, which they never hold; NULL: as JSON has them */
    bool marked;                              /* `value` tells strings from others; else it takes a reader who knows the schema */
    bool python;                              /* True, False, None */
    const char *mark;                         /* at every depth strings stand raw between two of these, names bare; NULL: as JSON has them */
    grammar_part quote;                       /* that mark, as the vocabulary spells it */
};
enum status grammar_part_arguments(struct grammar_builder *b, const struct json *schema, const struct grammar_arguments *as, grammar_part *out,
                                   struct error *err);
enum status grammar_part_regex(struct grammar_builder *b, const char *text, size_t size, grammar_part *out, struct error *err);
enum status grammar_part_gbnf(struct grammar_builder *b, const char *text, size_t size, grammar_part *out, struct error *err);
enum status grammar_part_lark(struct grammar_builder *b, const char *text, size_t size, grammar_part *out, struct error *err);
grammar_part grammar_part_text(struct grammar_builder *b, const char *text, size_t size);  /* exactly these bytes */
grammar_part grammar_part_token(struct grammar_builder *b, const char *text, size_t size); /* the special token spelled so */
grammar_part grammar_part_free(struct grammar_builder *b);                                 /* any UTF-8 text */
grammar_part grammar_part_sequence(struct grammar_builder *b, const grammar_part *parts, size_t count);
grammar_part grammar_part_choice(struct grammar_builder *b, const grammar_part *parts, size_t count);
grammar_part grammar_part_repeat(struct grammar_builder *b, grammar_part part, uint32_t least, uint32_t most);
/* Free text in which the first marker to end decides how it goes on: a "lazy" grammar. The text may also end without any
 * marker. A marker is text, or with `token` a special token. What follows the markers says what comes behind them. */
struct grammar_marker {
    const char *text;
    size_t size;
    bool token;
    grammar_part then;
};
grammar_part grammar_part_lazy(struct grammar_builder *b, const struct grammar_marker *markers, size_t count);
/* The grammar whose texts are those of `root`. The builder stays open. */
enum status grammar_builder_finish(struct grammar_builder *b, grammar_part root, struct grammar **out, struct error *err);

/* ends: ids that end an answer; they are allowed exactly where the text may end, whatever they spell. Other special tokens
 * are allowed only where a grammar names them (grammar_part_token). */
enum status grammar_vocabulary_open(struct grammar_vocabulary **out, const struct tokenizer *t, const int32_t *ends, size_t end_count,
                                    struct error *err);
void grammar_vocabulary_close(struct grammar_vocabulary *v); /* NULL is fine */
size_t grammar_vocabulary_words(const struct grammar_vocabulary *v); /* of a mask: 32 tokens each, tokenizer_size() rounded up */

enum status grammar_state_open(struct grammar_state **out, struct grammar *g, struct error *err);
enum status grammar_state_copy(struct grammar_state **out, const struct grammar_state *from, struct error *err);
void grammar_state_close(struct grammar_state *s); /* NULL is fine */

/* Takes bytes as far as they are allowed; *taken (may be NULL) says how many. STATUS_USAGE: not all of them are allowed; the
 * state stands behind those that were. STATUS_NO_ROOM: memory. */
enum status grammar_accept_bytes(struct grammar_state *s, const char *bytes, size_t size, size_t *taken, struct error *err);
/* Takes a token. STATUS_USAGE: it is not allowed, and the state is as before. */
enum status grammar_accept_token(struct grammar_state *s, const struct grammar_vocabulary *v, int32_t id, struct error *err);
/* Bit id & 31 of bits[id >> 5] is set for every token that is allowed next; all words are written. */
enum status grammar_mask(struct grammar_state *s, const struct grammar_vocabulary *v, uint32_t *bits, struct error *err);
bool grammar_complete(const struct grammar_state *s); /* the text may end here */
bool grammar_ended(const struct grammar_state *s);    /* and nothing can follow */
/* Appends the bytes that must come next, at most `most`: nothing where there is a choice or the text may end. */
enum status grammar_forced(struct grammar_state *s, size_t most, struct str *out, struct error *err);

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
    struct chat_declaration {   /* how answers are read, as tokenizer_config.json declares it: JSON text; NULL: it does not */
        const char *text;
        size_t size;
    } response_template, response_schema;
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

/* What a template can take, found by rendering small requests with marker words (about thirty renderings). */
struct chat_abilities {
    bool known;                                 /* false: not even one user message can be rendered; nothing is adapted then */
    bool system, systems, late_system, lone_system; /* printed: one in front, several there, another later, with no other message */
    bool developer;                             /* printed as a role of its own */
    bool users, assistants;                     /* two in a row */
    bool text, parts, system_parts, reply_parts; /* content as a text, as a list of parts: a user's, system's, assistant's */
    bool documents;
    bool tools, bare_tools, bare_parameters;    /* printed; with a name alone; with parameters that nothing describes */
    bool needs_tools;                           /* fails without a list, which may be empty */
    bool calls, arguments_object, arguments_text, results, no_content, any_id, parallel;
    bool user_at_result;                        /* printed: a user right behind a tool's result ... */
    bool empty_reply, blank_reply;              /* ... with a reply between them that is empty, a blank */
    bool reads_functions, reads_date_string, reads_datetime; /* variables that only some loaders define */
};
void chat_probe(const struct chat_template *t, const struct chat_source *source, struct chat_abilities *out);

struct call_notation; /* below */

/* What was done to a request. */
struct chat_notes {
    struct chat_note {
        bool reported; /* something that a client should hear of; else for the curious */
        char text[240]; /* a step of chat/adapt.def by its name, or a sentence */
    } list[32];
    int count;
    bool calls_as_text; /* calls are asked for as the dialect "hermes" writes them */
};

/* Fits a request object to its template in named steps (chat/adapt.def): histories it would refuse or drop parts of, tools it does
 * not print. out borrows from request and arena. calls: how the model writes calls (NULL: not known), for templates that print none
 * of earlier turns. now: as for chat_render. STATUS_BAD_INPUT: content of a kind that the template has
 * no place for. */
enum status chat_adapt(struct arena *arena, const struct json *request, const struct chat_abilities *can, const struct call_notation *calls,
                       const char *now, struct json *out, struct chat_notes *notes, struct error *err);

/* Builds the context that transformers builds from a request object {"messages", "tools", "documents",
 * "add_generation_prompt", "template_kwargs"}: nulls in messages dropped, reasoning aliased, special tokens added,
 * template_kwargs over them. Everything lives in arena or borrows from request and source.
 *
 * Trust: a JSON string of the context whose `truth` is set counts as the template's own in chat_text's marks. Set are the
 * model's special tokens (source->tokens) and roles that APIs define (user, assistant, tool ...); json_parse() never sets
 * it. Numbers, booleans and null print as the template's own, as a template counts images and turns with them. */
enum status chat_context(struct arena *arena, const struct json *request, const struct chat_source *source,
                         struct json *context, struct error *err);

/* ---- model output --------------------------------------------------------------------------------------------------- */

/* How a model writes reasoning and tool calls: a line of dialects.def. */
struct dialect;

/* By name ("hermes", "gpt_oss" ...); NULL if there is none. */
const struct dialect *dialect_find(const char *name, size_t size);
/* All of them, by name in alphabetical order: 0, 1, 2 ...; NULL behind the last. */
const struct dialect *dialect_at(size_t index);
const char *dialect_name(const struct dialect *d);

struct dialect_choice {
    const struct dialect *dialect; /* never NULL: bare_json where nothing was found; lives until dialect_choice_free() */
    struct dialect *own;           /* one made for this model; NULL: it is a line of the table */
    char why[300];                 /* for a person, in one line */
    char warning[300];             /* a declaration of the model that cannot be followed: which key, and why; "": none */
};
void dialect_choice_free(struct dialect_choice *c); /* a zeroed one is fine */

/* The dialect that a chat template speaks: from what it renders, else from its text, else from the vocabulary; never from a
 * model's name. named is one of source's templates or NULL (a model without one); t may be NULL. A template that cannot be compiled
 * or rendered still has its text. Pairs of reasoning tags that the text or the vocabulary has and the dialect does not know are read
 * too: models are fine-tuned to think. Where the model declares itself how its answers are read (response_template), they are read
 * by that; the rest (how calls are written) is as detected. Fails only with STATUS_NO_ROOM. The calling thread needs 2 MiB of stack. */
enum status dialect_detect(struct dialect_choice *out, const struct chat_source *source, const struct chat_named *named,
                           const struct tokenizer *t, struct error *err);

/* How a call is written: before NAME between ARGUMENTS after; another call follows the arguments of the one before with
 * separator NAME between ARGUMENTS (size 0: there is only one call). ARGUMENTS are a JSON object, or with `members` the members of
 * one: key KEY value VALUE close for each, joint between two; `other` in place of `value` where VALUE is no string. NOTATION_ID
 * stands for an id of nine letters or digits, NOTATION_INDEX for a call's number, NOTATION_TYPE for the name of the value's type in
 * JSON Schema. */
enum { NOTATION_ID = 1, NOTATION_TYPE = 2, NOTATION_INDEX = 3 };
struct call_notation {
    bool known;     /* false: the dialect writes arguments in another way; then, perhaps */
    bool partial;   /* before, and in between the one byte behind NAME, are known all the same */
    bool unmarked;  /* nothing but the call's own shape tells it from text */
    bool members, python; /* python: values are Python's */
    struct str before, between, separator, after;
    struct str key, value, other, close, joint;
    const char *until; /* strings stand raw up to this closing tag; NULL: as JSON has them */
    const char *mark;  /* values are Gemma's: strings raw between two of these, names bare; NULL: they are not */
};
/* As the template t (NULL: none) prints it, else as the dialect says. Fails only with STATUS_NO_ROOM; the caller frees *out. */
enum status call_notation_find(struct call_notation *out, const struct dialect *d, const struct chat_template *t, const struct chat_source *source,
                               struct error *err);
void call_notation_free(struct call_notation *n);

/* One answer being read: bytes in, events out. The answer is the same whatever the pieces. An event is certain and never taken
 * back: what may still become markup is held. Time is linear in the output's length. One thread at a time. */
struct output;

enum output_event_kind {
    OUTPUT_REASONING, /* text: more reasoning */
    OUTPUT_CONTENT,   /* text: more content */
    OUTPUT_CALL,      /* a call begins: index, id, name. The last one is complete or broken */
    OUTPUT_ARGUMENTS, /* text: more of the JSON object that is the arguments of call index */
    OUTPUT_CALL_END,  /* call index is complete: its pieces are a JSON object. A call that breaks has no such event */
    OUTPUT_WARNING,   /* kind, text: what the answer's list of warnings gets */
};

struct output_event {
    enum output_event_kind kind;
    size_t index;         /* of a call, from 0 */
    const char *id;       /* of a call, NUL-terminated */
    const char *name;     /* of a call, name_size bytes and a NUL */
    size_t name_size;
    const char *warning;  /* its kind, NUL-terminated, static: "truncated", "malformed", "unknown-tool", "type", "unclosed-reasoning" */
    const char *text;     /* size bytes, no NUL behind them */
    size_t size;
};

struct output_options {
    const char *prompt_tail; /* the end of the prompt (64 bytes or more are plenty), prompt_tail_size bytes: where the output starts */
    size_t prompt_tail_size;
    const struct json *tools; /* OpenAI's list, or a list of bare functions; must live until output_close(). NULL: none declared */
    bool one_call;            /* the output is ended behind its first call, perhaps before its list is closed */
    uint64_t id_seed;         /* made-up ids of two answers differ where their seeds do */
    /* Called while output_add() and output_end() run; what e points to lives until it returns. May be NULL. */
    void (*event)(void *context, const struct output_event *e);
    void *context;
};

/* What is known after output_end(). Differs from the joined events in calls only: a call that broke is text here. */
struct output_answer {
    const char *reasoning, *content; /* sizes below; bytes as the model wrote them */
    size_t reasoning_size, content_size;
    struct output_call {
        const char *id, *name; /* NUL-terminated; ids are distinct unless the model repeats its own */
        size_t name_size;
        const char *arguments; /* JSON text of an object; of a key given twice the last counts */
        size_t arguments_size;
    } *calls;
    size_t call_count;
    struct output_warning {
        const char *kind, *text; /* the raw text it is about */
        size_t size;
    } *warnings;
    size_t warning_count;
};

/* Fails with STATUS_NO_ROOM, or STATUS_USAGE where tools is no list. options may be NULL. The text of options is copied,
 * tools is not. */
enum status output_open(struct output **out, const struct dialect *d, const struct output_options *options, struct error *err);
/* The next piece, cut anywhere. Fails with STATUS_NO_ROOM only. */
enum status output_add(struct output *o, const char *text, size_t size, struct error *err);
/* Nothing follows. cut: the length limit ended it, not the model. */
enum status output_end(struct output *o, bool cut, struct error *err);
/* Whole after output_end(); lives until output_close(). Before, what is certain by now. */
const struct output_answer *output_answer(const struct output *o);
void output_close(struct output *o); /* NULL is fine */
/* The tag that closes the reasoning in which the output stands now; NULL: it stands in none (or in a channel, which has no tag). */
const char *output_reasoning(const struct output *o);
/* Pairs of tags around reasoning that a dialect knows: 0, 1 ...; false behind the last. */
bool dialect_reasoning(const struct dialect *d, size_t index, const char **open, const char **close);
bool dialect_has_channels(const struct dialect *d); /* reasoning, answer and calls are messages of their own (harmony) */

#endif
