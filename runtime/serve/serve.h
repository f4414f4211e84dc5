/* Private to runtime/serve: one HTTP exchange and what it is made of.
 *
 *   serve.c    the daemon: connections, bodies, routing, end      guard.c   who may ask
 *   reply.c    whole answers and errors in OpenAI's shape          models.c  which models, loaded when
 *   fields.c   reading and checking a request                      source.c  where tokens come from: engine or script
 *   messages.c a chat's messages and tools                         chunks.c  what a client is sent
 *   answer.c   /v1/chat/completions and /v1/completions: whole or streamed      logprobs.c  their log probabilities */
#ifndef RUNTIME_SERVE_H
#define RUNTIME_SERVE_H

#include <microhttpd.h>

#include "base/json.h"
#include "runtime/engine/engine.h"

enum { MAX_CHOICES = 128, MAX_PROMPTS = 128, MAX_STOPS = 64, MAX_BIAS = 1024 };

struct server;

/* ---- models --------------------------------------------------------------------------------------------------------- */

struct served {
    const char *id, *name;
    bool loading;                /* somebody does, without the lock: the others wait */
    struct ingot_model *model;   /* NULL while unloaded */
    struct ingot_engine *engine;
    int users;                   /* exchanges that hold it */
    double last_used;
    int64_t created;             /* seconds since 1970 */
};

struct served_list {
    pthread_mutex_t lock;  /* guards every served */
    pthread_cond_t loaded; /* ... or failed to */
    struct served *list;
    int count;
    const struct ingot_serve_options *options;
};
/* The model of a request ("" or NULL: the first), loaded if it is not. STATUS_NOT_FOUND: not served; STATUS_FAILED:
 * it could not be loaded, which is no fault of the request. */
enum status served_take(struct served_list *l, const char *id, size_t size, struct served **out, struct error *err);
void served_give(struct served_list *l, struct served *s);
enum status served_open(struct served_list *l, const struct ingot_serve_options *options, struct error *err);
/* STATUS_DEVICE: the device of a model that is loaded failed in its last step. */
enum status served_health(struct served_list *l, struct error *err);
void served_unload_idle(struct served_list *l, double now); /* now < 0: all that nobody holds */
void served_close(struct served_list *l);

/* ---- what a request asks for ------------------------------------------------------------------------------------------ */

struct prompt {
    int32_t *ids;
    size_t count;
};

struct ask {
    bool chat, stream, include_usage, echo;
    int n;
    int logprobs;              /* -1: none, else how many best */
    struct ingot_request_options options; /* stop, bias point into the arena; chat is ours */
    struct ingot_grammar *grammar; /* ours; options borrow it */
    struct prompt prompts[MAX_PROMPTS];
    int prompt_count;
    char *text;                /* the first prompt's text: what a script is matched against; of a chat: the chat has it */
};
/* Reads and checks the body of either endpoint. Errors are STATUS_USAGE (400) with *param naming the field. */
enum status ask_read(struct ask *a, struct arena *arena, const struct json *body, bool chat, struct ingot_model *model,
                     const struct ingot_chat_options *options, const char **param, struct error *err);
void ask_free(struct ask *a);

/* ---- where tokens come from ------------------------------------------------------------------------------------------- */

struct script; /* answers from a file, for tests */
enum status script_open(struct script **out, const char *path, struct error *err);
void script_close(struct script *s);

/* One choice of an answer: an engine's request, or a script's text. */
struct source {
    struct ingot_session *session;
    struct ingot_request *request;
    /* a script's */
    const char *text; /* its rest */
    size_t size;
    int64_t left;     /* tokens it may still give; -1: no limit */
    size_t given, prompt_tokens;
    struct parts parts;
    struct event_node *part; /* what the reader gave last */
    struct ingot_answer answer;
    bool reads, one_call, cut, ended;
};
enum status source_open_engine(struct source *s, struct ingot_session *session, const struct ingot_request_options *o, struct error *err);
enum status source_open_script(struct source *s, const struct script *script, const struct ask *a, uint64_t seed, size_t prompt_tokens, struct error *err);
/* As ingot_request_next. */
bool source_next(struct source *s, int timeout_ms, struct ingot_event *out);
void source_close(struct source *s);

/* ---- exchanges ------------------------------------------------------------------------------------------------------ */

struct choice {
    struct source source;
    struct str text;          /* whole answers: the content; calls as a JSON list without brackets */
    struct str reasoning, call_list;
    struct str warnings;      /* the same, until they are sent */
    size_t calls;             /* complete ones, at the end */
    struct str logprobs;      /* JSON of the entries so far */
    struct str legacy[3];     /* completions: tokens, token_logprobs, top_logprobs, as JSON lists without brackets */
    struct str offsets;
    size_t offset;            /* characters of text before the next token */
    int prompt;               /* which prompt */
    int finish;               /* -1: runs */
    bool opened;              /* the first chunk went out */
};

struct exchange {
    struct server *server;
    struct MHD_Connection *connection;
    struct arena arena;
    struct str body;
    bool too_large;
    double started;
    struct served *served;
    uint64_t owner;           /* which key asks; 0: there are none */
    struct ask ask;
    struct choice *choices;
    int choice_count;
    char id[40];
    int64_t created;
    struct str out;           /* bytes of a stream that wait to be sent */
    size_t sent;
    bool ended;               /* everything is in out */
    size_t prompt_tokens, completion_tokens, reused_tokens;
};

struct server {
    const struct ingot_serve_options *options;
    struct served_list models;
    struct script *script;
    struct arena arena;
    const char **keys;
    int key_count;
    struct MHD_Daemon *daemon;
    int listener; /* bound before models load, so that a port in use is known at once; then the daemon's */
    atomic_bool cutting;  /* the time to drain is over: answers end now */
    atomic_int waiting;   /* exchanges open */
};

/* guard.c: STATUS_OK, or the HTTP status in *code with words. */
enum status guard_check(const struct server *s, struct MHD_Connection *c, const char *method, unsigned *code, struct error *err);
/* Of a request that passed: its key's number from 1 on; 0: the server asks for none. */
uint64_t guard_owner(const struct server *s, struct MHD_Connection *c);
enum status guard_read_keys(struct server *s, const char *path, struct error *err);

/* reply.c */
enum MHD_Result reply_json(struct MHD_Connection *c, unsigned code, const struct str *body);
enum MHD_Result reply_error(struct MHD_Connection *c, unsigned code, const char *code_name, const char *param, const char *message);
/* 405, naming the method that the path does answer. */
enum MHD_Result reply_method(struct MHD_Connection *c, const char *method);
/* A browser asks beforehand whether a page of an allowed origin may call. */
bool reply_is_preflight(struct MHD_Connection *c, const char *method);
enum MHD_Result reply_preflight(struct MHD_Connection *c);
/* Lets the page of an allowed origin read the answer; others were refused by guard_check. */
void reply_add_origin(struct MHD_Connection *c, struct MHD_Response *r);
enum MHD_Result reply_status(struct MHD_Connection *c, const struct error *err, const char *param);
/* The JSON of an error, without newline. */
void error_object(struct str *out, unsigned code, const char *code_name, const char *param, const char *message);

/* logprobs.c */
void logprobs_chat(struct exchange *x, struct str *out, const struct ingot_event *e);
void logprobs_legacy(struct exchange *x, struct choice *c, int32_t id, const struct ingot_event *e);
void logprobs_legacy_object(struct str *out, struct choice *c); /* what was kept since the last one */

/* chunks.c: streams are written to x->out */
void write_head(const struct exchange *x, struct str *out, bool stream);
void write_usage(const struct exchange *x, struct str *out);
void write_warnings(const struct exchange *x, struct str *out); /* ", \"warnings\": [...]" where there are any */
void write_choice(const struct exchange *x, struct str *out, struct choice *c);
void choice_keep(struct choice *c, const struct ingot_answer *a);
void choice_warn(struct choice *c, const char *kind, const char *text, size_t size);
void chunk_text(struct exchange *x, struct choice *c, const char *key, const char *text, size_t size);
void chunk_call(struct exchange *x, struct choice *c, const struct ingot_event *e); /* its beginning, or more of its arguments */
void chunk_last(struct exchange *x, struct choice *c);
void end_stream(struct exchange *x);

/* answer.c: takes the exchange over; its memory goes with the connection. */
enum MHD_Result answer_completion(struct exchange *x, bool chat);
void answer_close(struct exchange *x);
/* False when the client closed its end. */
bool exchange_connected(const struct exchange *x);

#endif
