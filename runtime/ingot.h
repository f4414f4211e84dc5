/* libingot: opens published transformer checkpoints and runs them. The public API; stands alone.
 *
 *     struct ingot_error err;
 *     struct ingot_model *model;      the checkpoint: weights (mapped), tokenizer, template; shared by counted references
 *     struct ingot_engine *engine;    runs it: compiled program, KV pool, one scheduler thread
 *     struct ingot_chat *chat;        messages made ready for a model: a prompt, and how its answer is read
 *     struct ingot_session *session;  one timeline of tokens; use from one thread at a time
 *     struct ingot_request *request;  a session waiting for tokens; yields events
 *
 * Every function that can fail returns an ingot_status and, where err is not NULL, words for a person in err->text.
 * Nothing prints, exits or aborts on input. Text is UTF-8; sizes are bytes; counts are tokens. */
#ifndef INGOT_H
#define INGOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

enum ingot_status {
    INGOT_OK, INGOT_FAILED, INGOT_DEVICE, INGOT_USAGE, INGOT_DENIED, INGOT_BAD_INPUT, INGOT_NOT_FOUND, INGOT_NO_ROOM, INGOT_NETWORK,
    INGOT_INTERRUPTED
};

struct ingot_error {
    int status;      /* enum ingot_status */
    char text[1200]; /* one paragraph: what, where, what to do */
};

struct ingot_model;
struct ingot_engine;
struct ingot_chat;
struct ingot_session;
struct ingot_request;

/* ---- models --------------------------------------------------------------------------------------------------------- */

struct ingot_model_options {
    bool offline;  /* never use the network (also HF_HUB_OFFLINE=1) */
    bool no_mmap;  /* copy weights into huge pages: faster decode, slower start */
    bool mlock;    /* keep weights in memory */
    /* "q8_0", "q4_k_m" ...: matrices of plain floats become blocks once, which are kept in ingot's cache folder for the next time.
     * NULL or "none": as they are. INGOT_USAGE: an unknown type, or a model that is quantised already; INGOT_FAILED: no space. */
    const char *quantize;
    bool sizes_only; /* with quantize: nothing is computed; the model is for ingot_plan_make() alone */
    /* Called while something is downloaded, at most 10 times a second; total 0: not known. May be NULL. */
    void (*progress)(void *context, const char *what, uint64_t done, uint64_t total);
    void *progress_context;
};

/* The path of a MODEL on this disk: an existing path, "default", or a name in the Hugging Face cache; fetched if that is needed
 * and possible. INGOT_NOT_FOUND, INGOT_NETWORK, INGOT_USAGE (the path does not fit). */
enum ingot_status ingot_find_model(const char *name, bool offline, char *path, size_t size, struct ingot_error *err);

/* Opens a MODEL: a folder in Hugging Face layout, a .gguf, a .safetensors beside its config.json, "default", or a name on the
 * Hub that is cached or can be fetched. options may be NULL. The caller owns one reference. */
enum ingot_status ingot_model_open(struct ingot_model **out, const char *name, const struct ingot_model_options *options, struct ingot_error *err);
struct ingot_model *ingot_model_share(struct ingot_model *model); /* one reference more */
void ingot_model_close(struct ingot_model *model);                /* one less; the last frees. NULL is fine */

/* Uses the Jinja text in a file instead of the model's own chat templates. Before the model is shared with an engine. */
enum ingot_status ingot_model_use_template(struct ingot_model *model, const char *path, struct ingot_error *err);

struct ingot_model_info {
    const char *path, *family, *dtype; /* live as long as the model; dtype: the most common weight type, "Q4_1" */
    int64_t vocab, context, layers, hidden, heads, kv_heads, head_dim;
    uint64_t parameters, weight_bytes;
    uint64_t read_bytes; /* of weight_bytes, for one token: a mixture's chosen experts alone */
    uint64_t products; /* multiplications by weights for each token of a prompt */
    bool has_tokenizer, has_template;
};
void ingot_model_info(const struct ingot_model *model, struct ingot_model_info *out);

/* Appends ids of text to a malloc'ed list (*ids, *count; start with NULL and 0; free() it). add_special: BOS and the like.
 * parse_special: control tokens in the text count as such. INGOT_USAGE if the model has no tokenizer. */
enum ingot_status ingot_tokenize(const struct ingot_model *model, const char *text, size_t size, bool add_special, bool parse_special,
                                 int32_t **ids, size_t *count, struct ingot_error *err);

/* One model of the shared Hugging Face cache. */
struct ingot_cached {
    const char *name, *path; /* "org/name"; its folder */
    uint64_t bytes;
    int files;
};
/* The folder of the shared cache, whether it is there yet or not. INGOT_USAGE: longer than size. */
enum ingot_status ingot_cache_folder(char *path, size_t size, struct ingot_error *err);
/* Calls each for every cached model; what it is given lives until it returns. */
enum ingot_status ingot_cache_list(void (*each)(void *context, const struct ingot_cached *model), void *context, struct ingot_error *err);
/* Removes a model by its name "org/name" for all tools that share the cache. INGOT_NOT_FOUND, INGOT_FAILED. */
enum ingot_status ingot_cache_remove(const char *name, struct ingot_error *err);

/* ---- conversion ----------------------------------------------------------------------------------------------------- */

struct ingot_convert_options {
    const char *to;   /* "safetensors" or "gguf"; NULL: gguf if the target's name ends so, else safetensors */
    const char *type; /* of the matrices: "f32", "f16", "bf16", "q8_0", "q4_k_m" ... (models/mixes.def); NULL: as they are */
    const char *imatrix; /* llama.cpp's importance file, for quantising; NULL: all columns count alike */
    struct ingot_model_options model;
    /* Called before anything is written (done 0) and for every MiB; false stops with INGOT_INTERRUPTED. May be NULL. */
    bool (*progress)(void *context, uint64_t done, uint64_t total);
    void *progress_context;
};
/* Writes a MODEL as a folder in Hugging Face layout or as one GGUF file, tokenizer and chat template included. The target must
 * not exist (or be empty) and appears only when it is complete. INGOT_USAGE: a wrong option, or the type must be named;
 * INGOT_BAD_INPUT: something of the model has no place in the target, named. options may be NULL. */
enum ingot_status ingot_convert(const char *name, const char *target, const struct ingot_convert_options *options, struct ingot_error *err);

/* ---- engines -------------------------------------------------------------------------------------------------------- */

struct ingot_engine_options {
    const char *device;   /* "auto", "cpu", "cuda", "cuda:N"; "cuda:N,M": matrices shared out over several; NULL: auto */
    int gpu_layers;       /* on the card, the rest on the CPU; 0: all, or as many as fit */
    int cpu_networks;     /* feed-forward networks, of the first layers, that stay on the CPU; -1: all; 0: as the plan has it */
    int stream_rows;      /* rows of a prompt's piece from which networks that stay on the CPU are sent to the card and done there; -1: never; 0: as
                           * the plan has it */
    int64_t kv_host;      /* bytes of the host's memory for state at rest, where the KV cache lies on a card; -1: none; 0: at most a quarter of what is free */
    const char *kv;       /* "f16", "bf16", "f32", "q8_0", "q4_0", "fp8" or "K,V"; NULL: f16 (reference: f32) */
    int64_t context;      /* tokens per sequence; 0: the model's own if it fits, else the largest that does */
    int parallel;         /* sequences that run together; 0: 1 */
    int threads;          /* 0: all cores this process may use */
    bool reference;       /* the naive path that judges all others */
    bool deterministic;   /* the same bits however a prompt is cut into pieces or reused; other requests never show anyway */
    uint64_t memory;      /* bytes that may be used; 0: what the system has available */
    /* Called while weights go to a device if that takes a while, at most 10 times a second. May be NULL. */
    void (*progress)(void *context, const char *what, uint64_t done, uint64_t total);
    void *progress_context;
};

/* What an engine would take; the same numbers that opening goes by. */
/* What one of several devices does and needs. */
struct ingot_plan_part {
    char device[12];
    int layers;            /* whose state lies there */
    bool shared;           /* with the parts beside it: each has a slice of the matrices */
    int stretches;         /* in which it does its work for a token: others work between them */
    uint64_t weights_bytes, kv_bytes, scratch_bytes, available_bytes;
    uint64_t read_bytes;   /* of the weights, for a token */
    double read_bandwidth; /* as in the plan */
};

/* Operations that a card cannot run and the CPU therefore has. */
struct ingot_plan_lack {
    char operation[16], format[16]; /* "linear", "Q4_K"; format is "" where there is no matrix */
    char reason[80];
    int count;
    uint64_t weights_bytes;
};

struct ingot_plan {
    char device[64]; /* "cpu", "cuda:0"; of several "cpu+cuda:0", "cuda:0,1" */
    const char *k_type, *v_type;
    int64_t context;
    int parallel, threads;
    uint64_t weights_bytes, kv_bytes_per_token, kv_bytes, scratch_bytes, total_bytes, available_bytes;
    uint64_t recurrent_bytes; /* of kv_bytes, what recurrent layers take, whatever the context */
    uint64_t rest_bytes; /* of the host's memory, taken as it is used, for state at rest of a cache on a card */
    uint64_t read_bytes; /* of the weights, for a token */
    bool fits;
    char advice[4][200];
    int advice_count;
    double read_bandwidth; /* bytes per second: of a card as its properties say; 0: not told, or the CPU, which somebody may measure */
    struct ingot_plan_part parts[16]; /* where there are several devices, in the order in which they begin */
    int part_count, hand_overs; /* in a step, from one to another */
    int stream_rows;       /* of a prompt's piece from which the card does what the CPU has for it; 0: never */
    uint64_t stream_bytes; /* that are sent for one */
    bool offloaded; /* the CPU has some of it because a card is too small */
    struct ingot_plan_lack lacks[16];
    int lack_count;
};
enum ingot_status ingot_plan_make(const struct ingot_model *model, const struct ingot_engine_options *options, struct ingot_plan *out,
                                  struct ingot_error *err);

/* Tokens a second that reading every weight once for each (of experts, the chosen ones) allows: parts work one after another, those that share matrices together,
 * and each time that another device goes on takes 20 us. host: bytes per second of the CPU's memory. A prediction, for a card from
 * nominal numbers. 0: a bandwidth is not known. */
double ingot_plan_decode_bound(const struct ingot_plan *plan, double host);

/* Bytes per second that `threads` threads (0: all cores) read from memory now, by the kind of its pages: those of mapped files,
 * or of copies (--no-mmap). Takes about 0.2 s. 0: no memory for it. */
enum ingot_pages { INGOT_PAGES_FILE, INGOT_PAGES_SMALL, INGOT_PAGES_HUGE };
double ingot_read_bandwidth(enum ingot_pages pages, int threads);

/* Operations (multiplications and additions) a second that they reach now with dot products of operands in registers, with the
 * instruction set that would run. 0: it has no such instruction. */
enum ingot_dots { INGOT_DOTS_INT8, INGOT_DOTS_BF16, INGOT_DOTS_F32 };
double ingot_dot_peak(enum ingot_dots dots, int threads);

/* Holds a reference to the model. INGOT_NO_ROOM (with the plan's advice) before anything large is allocated; INGOT_DEVICE
 * says what is missing. options may be NULL. */
enum ingot_status ingot_engine_open(struct ingot_engine **out, struct ingot_model *model, const struct ingot_engine_options *options,
                                    struct ingot_error *err);
/* All sessions must be closed first. Ends running requests with an error. NULL is fine. */
void ingot_engine_close(struct ingot_engine *engine);
/* INGOT_DEVICE with its words when the device failed in the last step; INGOT_OK again when a step succeeds. A card that was lost
 * needs a new process. Any thread. */
enum ingot_status ingot_engine_health(struct ingot_engine *engine, struct ingot_error *err);
const struct ingot_plan *ingot_engine_plan(const struct ingot_engine *engine);
struct ingot_model *ingot_engine_model(const struct ingot_engine *engine);
void ingot_engine_describe(const struct ingot_engine *engine, char *out, size_t size); /* backend, kernels; one line */

/* ---- sessions ------------------------------------------------------------------------------------------------------- */

enum ingot_status ingot_session_open(struct ingot_session **out, struct ingot_engine *engine, struct ingot_error *err);
/* A session with these ids, which starts from what requests with options.rest left behind, as far as it is the same: event.reused_tokens
 * tells how far. Answers are those of a session that starts from nothing. owner: whose it is; nobody gets what another left.
 * Errors are those of opening and appending; *out is then NULL. */
enum ingot_status ingot_session_begin(struct ingot_session **out, struct ingot_engine *engine, uint64_t owner, const int32_t *ids, size_t count,
                                      struct ingot_error *err);
void ingot_session_close(struct ingot_session *session); /* NULL is fine; ends a request that still runs on it */

/* Adds ids at the end; nothing is computed yet. INGOT_USAGE: an id outside the vocabulary; INGOT_NO_ROOM: both counts. */
enum ingot_status ingot_session_append(struct ingot_session *session, const int32_t *ids, size_t count, struct ingot_error *err);
/* Makes the session hold exactly these ids, keeping what it has in common with them. *kept (may be NULL): tokens kept. */
enum ingot_status ingot_session_sync(struct ingot_session *session, const int32_t *ids, size_t count, size_t *kept, struct ingot_error *err);
/* Cuts back to at most `position` tokens; returns the position reached. What recurrent layers remember cannot be cut: they go on from
 * the nearest state kept, and compute the tokens behind it again. */
size_t ingot_session_rewind(struct ingot_session *session, size_t position);
/* A second session with the same past; state is shared until either goes on. INGOT_USAGE: a request runs on it. */
enum ingot_status ingot_session_fork(struct ingot_session **out, struct ingot_session *session, struct ingot_error *err);
const int32_t *ingot_session_tokens(const struct ingot_session *session, size_t *count); /* until the next change */
/* Tokens always, state as it is in the cache; version, model and checksum are written and checked. Loading into an engine
 * with another KV type recomputes. INGOT_BAD_INPUT: damaged, or of another model. */
enum ingot_status ingot_session_save(const struct ingot_session *session, const char *path, struct ingot_error *err);
enum ingot_status ingot_session_load(struct ingot_session **out, struct ingot_engine *engine, const char *path, struct ingot_error *err);

/* ---- chat ----------------------------------------------------------------------------------------------------------- */

struct ingot_chat_options {
    bool strict_template; /* what the template refuses is an error; else requests are fitted to it, see ingot_chat_note() */
    const char *dialect;  /* how the model writes reasoning and tool calls (`ingot parse --list-dialects`); NULL: as its template says */
};

/* A chat request: JSON text {"messages": [...], "tools": [...], "documents": [...], "template_kwargs": {...}, "template_name": "...",
 * "add_generation_prompt": true}. Text that came from it never becomes a control token. options may be NULL.
 * INGOT_BAD_INPUT: not JSON, or the template refuses it; INGOT_USAGE: the model has no template or no tokenizer, or there is no
 * such dialect. */
enum ingot_status ingot_chat_open(struct ingot_chat **out, const struct ingot_model *model, const char *request, size_t size,
                                  const struct ingot_chat_options *options, struct ingot_error *err);
struct ingot_chat *ingot_chat_share(struct ingot_chat *chat); /* one reference more */
void ingot_chat_close(struct ingot_chat *chat);               /* one less; the last frees. NULL is fine */

/* The prompt: as ids, as text. Lives as long as the chat. */
const int32_t *ingot_chat_tokens(const struct ingot_chat *chat, size_t *count);
const char *ingot_chat_text(const struct ingot_chat *chat, size_t *size);
/* The dialect that answers are read in, and why it. */
const char *ingot_chat_dialect(const struct ingot_chat *chat, const char **why);
/* What was done to the request so that its template takes it: 0, 1, 2 ...; NULL behind the last. *reported: a client should hear of
 * it; else it changed nothing that could be missed. */
const char *ingot_chat_note(const struct ingot_chat *chat, int index, bool *reported);

/* ---- grammars ------------------------------------------------------------------------------------------------------- */

/* What answers are held to: a JSON Schema (draft 2020-12), a regular expression that the whole answer matches, a GBNF grammar
 * as llama.cpp documents it, or Lark. Immutable; any number of requests of any model may share one, at the same time.
 * INGOT_BAD_INPUT: it is malformed, holds what cannot be kept exactly (keyword and place are named), or allows no text. */
struct ingot_grammar;
enum ingot_status ingot_grammar_open_schema(struct ingot_grammar **out, const char *json, size_t size, struct ingot_error *err);
enum ingot_status ingot_grammar_open_regex(struct ingot_grammar **out, const char *text, size_t size, struct ingot_error *err);
enum ingot_status ingot_grammar_open_gbnf(struct ingot_grammar **out, const char *text, size_t size, struct ingot_error *err);
enum ingot_status ingot_grammar_open_lark(struct ingot_grammar **out, const char *text, size_t size, struct ingot_error *err);
void ingot_grammar_close(struct ingot_grammar *grammar); /* NULL is fine; requests that use it keep it */

/* ---- requests ------------------------------------------------------------------------------------------------------- */

struct ingot_bias { int32_t id; float value; };

/* Order: penalties, bias, temperature, top_k, top_p, min_p. Temperature 0 takes the best token, the lowest id on ties. */
struct ingot_sampling {
    double temperature, top_p, min_p, repeat_penalty, presence_penalty, frequency_penalty;
    int64_t top_k; /* 0: all */
    uint64_t seed;
    bool seeded;   /* false: a random seed */
    const struct ingot_bias *bias;
    int bias_count;
};
/* The model's own defaults (generation_config.json), else temperature 0.7, top_p 0.9, top_k 50. */
void ingot_sampling_defaults(const struct ingot_model *model, struct ingot_sampling *out);

struct ingot_request_options {
    struct ingot_sampling sampling;
    int64_t max_tokens;       /* -1: until the turn's end or the context's */
    const char *const *stop;  /* texts that end the answer; they are not part of it */
    int stop_count;
    const struct ingot_grammar *grammar; /* what the answer is held to, NULL: nothing. It ends where nothing can follow */
    bool ignore_end;          /* go on behind the model's end of turn */
    bool keep_special;        /* special tokens appear in the text */
    int top_logprobs;         /* -1: none; 0..20: logprob of each token and of so many best */
    struct ingot_chat *chat;  /* answers are read in its dialect: their parts come as events of their own. NULL: only text */
    bool prompt_logprobs;     /* the same for the prompt's tokens, as INGOT_EVENT_PROMPT_TOKEN */
    bool rest;                /* nobody goes on with the session: its state goes to rest with the last event (ingot_session_begin) */
    int chunk;                /* compute the prompt so many tokens at a time; 0: as it suits */
    /* Called on the engine's thread with the logits of every prompt row (or, with last_row, of the last one): [vocab]. */
    void (*row)(void *context, size_t position, const float *logits);
    void *row_context;
    bool last_row;
    size_t rows_from; /* rows before this position are not asked for again where their state is there (prompt_logprobs too) */
};
void ingot_request_defaults(const struct ingot_model *model, struct ingot_request_options *out);

enum ingot_event_kind {
    INGOT_EVENT_PROMPT_TOKEN, /* with prompt_logprobs: one per prompt token */
    INGOT_EVENT_TOKEN,        /* one per generated token; text may be empty (half a character, a held-back stop text) */
    /* With a chat, each certain and never taken back (text, size): */
    INGOT_EVENT_REASONING,    /* more reasoning */
    INGOT_EVENT_CONTENT,      /* more of the answer itself */
    INGOT_EVENT_CALL,         /* a tool call begins: index, id, name; the last one is complete or broken */
    INGOT_EVENT_ARGUMENTS,    /* more of the JSON object that is call index's arguments */
    INGOT_EVENT_CALL_END,     /* call index is complete */
    INGOT_EVENT_WARNING,      /* name: its kind ("truncated", "malformed" ...); text: what it is about */
    INGOT_EVENT_DONE,         /* the last event: finish_reason, counts and times */
    INGOT_EVENT_ERROR,        /* the last event instead */
};
enum ingot_finish { INGOT_FINISH_STOP, INGOT_FINISH_LENGTH, INGOT_FINISH_CANCELLED };

struct ingot_logprob { int32_t id; float logprob; };

/* A whole answer as its dialect reads it. Differs from the joined events in calls only: one that broke is content here. */
struct ingot_call {
    const char *id, *name; /* NUL-terminated */
    size_t name_size;
    const char *arguments; /* JSON text of an object */
    size_t arguments_size;
};
struct ingot_warning {
    const char *kind, *text; /* the raw text it is about */
    size_t size;
};
struct ingot_answer {
    const char *reasoning, *content;
    size_t reasoning_size, content_size;
    const struct ingot_call *calls;
    size_t call_count;
    const struct ingot_warning *warnings;
    size_t warning_count;
};

struct ingot_event {
    enum ingot_event_kind kind;
    int32_t token;
    const char *text;     /* what may be printed now; DONE: what was held back. Lives until the next event */
    size_t size;
    size_t index;         /* of a call, from 0 */
    const char *id, *name; /* of a call; name: of a warning */
    size_t calls;         /* DONE: complete calls */
    const struct ingot_answer *answer; /* DONE with a chat; lives as long as the request */
    float logprob;
    const struct ingot_logprob *top;
    int top_count;
    enum ingot_finish finish;
    size_t prompt_tokens, reused_tokens, generated_tokens;
    double prompt_seconds, generate_seconds; /* to the first token, and from then on */
    const struct ingot_error *error;
};

/* Starts computing the session's new tokens, then generates. options are copied. */
enum ingot_status ingot_request_start(struct ingot_request **out, struct ingot_session *session, const struct ingot_request_options *options,
                                      struct ingot_error *err);
/* Waits for the next event, at most timeout_ms (-1: for ever). False when the time ran out. After DONE or ERROR: false. */
bool ingot_request_next(struct ingot_request *request, int timeout_ms, struct ingot_event *out);
void ingot_request_cancel(struct ingot_request *request); /* any thread; ends with DONE, cancelled, within one token */
void ingot_request_free(struct ingot_request *request);   /* cancels and waits if it still runs. NULL is fine */

/* ---- serving -------------------------------------------------------------------------------------------------------- */

struct ingot_serve_options {
    const char *const *models; /* MODEL names; a model's id for clients is the name as given, or the alias */
    int model_count;
    const char *alias;         /* of the first model; NULL: none */
    struct ingot_model_options model;
    struct ingot_engine_options engine; /* context is per sequence; parallel: sequences that run together */
    const char *template_file; /* NULL: the models' own */
    struct ingot_chat_options chat;
    const char *host;          /* NULL: 127.0.0.1 */
    int port;                  /* 0: 8080 */
    const char *api_key_file;  /* NULL: no key is asked for, which only loopback addresses may do unless no_auth */
    bool no_auth;
    const char *const *allow_origins, *const *allow_hosts;
    int allow_origin_count, allow_host_count;
    size_t body_limit;         /* bytes; 0: 16 MiB */
    int idle_unload;           /* seconds; 0: load at start and keep; else load at the first request, unload after this long */
    const char *scripted;      /* file of answers, for tests; NULL: the models answer */
    void (*ready)(void *context, const char *address); /* called when requests are accepted; may be NULL */
    void *ready_context;
};
/* Serves the OpenAI protocol until ingot_serve_stop(): then new connections are refused, running answers get 10 seconds to
 * end. INGOT_FAILED: the port is in use; INGOT_USAGE: a foreign address without a key. */
enum ingot_status ingot_serve(const struct ingot_serve_options *options, struct ingot_error *err);
void ingot_serve_stop(void); /* may be called from a signal handler */

const char *ingot_version(void);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif
#endif
