/* Private to runtime/: the engine's parts and who owns what.
 *
 *   engine   one lock guards its queue, its pool, every request's state and events, and the tables of sessions that run
 *   session  its caller's, except while a request runs on it: then the scheduler's
 *   request  the scheduler's until its last event; the consumer only takes events and may ask for a cancel */
#ifndef RUNTIME_ENGINE_H
#define RUNTIME_ENGINE_H

#include <pthread.h>
#include <stdatomic.h>

#include "kernels/ops.h"
#include "models/model.h"
#include "runtime/ingot.h"
#include "tokenizers/tokenizers.h"

/* The public error and ours have one layout. */
_Static_assert(sizeof(struct ingot_error) == sizeof(struct error), "struct ingot_error mirrors struct error");
static inline struct error *inner(struct ingot_error *err) { return (struct error *)err; }

/* A prompt is computed in pieces of PIECE tokens, of PIECE_WANTED where all its logits are asked for (they take memory). A step of the
 * CPU has up to PIECES whole ones, of different prompts, or of one while nobody else waits: weights are then unpacked less often, and
 * bits are the same. Beside answers it has one. */
enum { MAX_GROUPS = 8, MAX_PARALLEL = 512, PIECE = 256, PIECES = 2, PIECE_WANTED = 64, MAX_TOP = 20, MAX_CARDS = 15 };

/* A chat template in use: compiled, with what it can take and how its model writes. */
struct speech {
    struct chat_template *template;
    struct chat_abilities can;
    struct dialect_choice dialect;
    struct call_notation calls; /* as it prints them, or its dialect says */
};

struct ingot_model {
    atomic_int references;
    struct model *model;
    struct tokenizer *tokenizer; /* NULL: none */
    struct chat_source chat;
    struct speech *speech; /* [chat.count], filled at the first use under lock */
    struct grammar_vocabulary *vocabulary; /* opened at the first use under lock */
    pthread_mutex_t lock;
    int32_t end_ids[64]; /* that end a turn, from all places; sorted */
    int end_count;
    unsigned char identity[32]; /* hash of names, shapes, types and samples of the weights */
    struct ingot_model_info info;
};
/* runtime/convert/quantise.c: o->quantize carried out, from the cache or into it. identity: of the model as it is. */
enum status model_quantise(struct model *m, const unsigned char identity[32], const struct ingot_model_options *o, struct error *err);
/* The tokens as grammars see them; the model keeps them. STATUS_USAGE: it has no tokenizer. */
enum status model_vocabulary(struct ingot_model *m, const struct grammar_vocabulary **out, struct error *err);
bool model_ends_turn(const struct ingot_model *m, int32_t id);
/* The template of a request, ready for use; the model keeps it. STATUS_USAGE: the model has none. */
enum status model_speech(struct ingot_model *m, const char *template_name, bool has_tools, const struct speech **out, struct error *err);

struct ingot_chat {
    atomic_int references;
    struct ingot_model *model; /* shared: the dialect may be its own */
    struct arena arena;       /* the request */
    struct json tools;        /* as the client gave them; null: none */
    struct ids tokens;
    struct chat_text prompt;
    struct chat_notes notes;
    const struct dialect *dialect;
    char why[sizeof((struct dialect_choice *)0)->why]; /* this dialect */
    bool one_call;            /* the answer ends with its first call */
    struct grammar *grammar;  /* what the answer is held to behind its reasoning; NULL: nothing */
    bool released;            /* where the grammar ends, the answer goes on freely */
    int32_t think;            /* the token that opens reasoning, which may come before the grammar; -1: none */
    int64_t thinking_budget;  /* tokens of reasoning, then it is closed; -1: no limit */
};

/* Something that the client should hear of; a note too many is dropped. */
void chat_note(struct ingot_chat *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* constraint.c: response_format and tool_choice of a request as chat->grammar. */
enum status chat_constrain(struct ingot_chat *c, struct ingot_model *m, const struct speech *speech, const struct json *request, struct error *err);

/* ---- pool: blocks of paged state and slots of recurrent state, counted references ------------------------------------- */

struct pool {
    const struct backend *backend; /* whose memory it is */
    struct compile_options options;
    struct state_memory memory;
    int group_count;
    bool recurrent[MAX_GROUPS], remembers; /* which groups are; any is */
    int paged;                   /* the first that is not; -1: all are */
    int32_t blocks[MAX_GROUPS];
    int32_t *free[MAX_GROUPS];   /* stack of free ids */
    int32_t free_count[MAX_GROUPS];
    int32_t *references[MAX_GROUPS];
    int32_t reserved;            /* of each paged group, promised to running requests and not yet taken */
};
enum status pool_open(struct pool *p, const struct backend *backend, const struct compile_options *o, const struct program *program, const int32_t *blocks,
                      struct error *err);
void pool_close(struct pool *p);
int32_t pool_take(struct pool *p, int group); /* -1: none left */
void pool_share(struct pool *p, int group, int32_t block);
void pool_drop(struct pool *p, int group, int32_t block);

/* ---- sessions ------------------------------------------------------------------------------------------------------- */

struct block_table {
    int32_t *blocks;
    int32_t count, capacity;
};

/* What recurrent groups had behind `at` tokens. Such a state cannot be cut back, so some are kept on the way. */
struct mark {
    int64_t at;
    uint64_t made; /* when: the oldest go first where slots run out */
    int32_t slot[MAX_GROUPS];
};
/* Marks of a session; tokens between those of long texts; slots of each parallel sequence: two for steps, others to keep. */
enum { MARKS_MOST = 8, MARK_EVERY = 1024, SLOTS_EACH = 6 };

struct ingot_session {
    struct ingot_engine *engine;
    struct ingot_session *next; /* of the engine's */
    struct ids tokens;
    int64_t cached; /* tokens whose state is in blocks */
    struct mark marks[MARKS_MOST + 1]; /* ascending; where there are recurrent groups and cached > 0, the last is at `cached` */
    int mark_count;
    int32_t slots[MAX_GROUPS][2]; /* of a step that runs: what it reads and writes */
    bool stepping;                /* those that are written are ours */
    bool pinned;                  /* being saved: nothing is taken from it */
    int64_t planned; /* the length that rope scaling goes by where it depends on it */
    struct block_table table[MAX_GROUPS];
    struct ingot_request *active;
    /* rest.c, shelf.c */
    uint64_t owner;
    int64_t alike;                   /* of `cached`: computed in whole pieces from the beginning on, as any request would */
    struct ingot_session *rest_next; /* of state at rest, used longest ago last */
    int32_t *place, placed;          /* of its blocks on the shelf, the first ones */
    int claims;                      /* sessions that wait for what it has there alone */
    struct ingot_session *source;    /* such a one; it has */
    int64_t source_tokens;           /* so many that we want */
};
struct ingot_session *session_new(struct ingot_engine *engine); /* engine lock held; NULL: no memory */
void session_free(struct ingot_session *s);                     /* engine lock held; its state is gone already */
/* An empty session gets another's state, shared. Engine lock held. False: no memory, nothing is shared. */
bool session_share(struct ingot_session *copy, const struct ingot_session *s);
/* rest.c, engine lock held. A session's state goes to rest, and leaves it without any. */
void session_rest(struct ingot_session *s);
bool rest_make_room(struct ingot_engine *e); /* in the pool; false: nothing rests there */
bool rest_clear_shelf(struct ingot_engine *e, const struct ingot_session *but); /* for another; false: nothing can go */
void rest_bring(struct ingot_session *s);  /* what it waits for on the shelf, if it does, into blocks that it may take */
void rest_forget(struct ingot_session *s); /* it does not wait any more */
void rest_close(struct ingot_engine *e);
/* shelf.c, engine lock held. */
/* What of the host's memory an engine may take for it at most; asked: see ingot_engine_options.kv_host. */
uint64_t shelf_bytes(const struct ingot_engine *e, const struct program *p, int64_t asked);
enum status shelf_start(struct ingot_engine *e, uint64_t bytes, struct error *err);
void shelf_end(struct ingot_engine *e);
void shelf_settle(struct ingot_engine *e); /* nothing is on its way any more */
bool shelf_put(struct ingot_session *r);   /* all blocks that have no place yet; false: there is no room, or no shelf */
void shelf_drop(struct ingot_session *r);  /* settled: its places are free */
void shelf_inherit(struct ingot_session *r, struct ingot_session *from); /* places of whole blocks that both begin with */
bool shelf_bring(struct ingot_session *s, const struct ingot_session *from, int64_t tokens); /* false: s has blocks, but not these */
/* Makes the tables cover `tokens` tokens and the block that `cached` lies in our own. Engine lock held. STATUS_NO_ROOM. */
enum status session_reserve(struct ingot_session *s, int64_t tokens, struct error *err);
/* State of at most `cached` tokens stays: where there are recurrent groups, that of the nearest mark. Engine lock held. */
void session_cut(struct ingot_session *s, int64_t cached);
void session_keep(struct ingot_session *s, int64_t most); /* the same only where there is more, or more to come from the shelf */
/* marks.c, engine lock held. Before a step: s->slots, for which marks may go, of sessions without a request the last ones too. STATUS_NO_ROOM. */
enum status marks_begin(struct ingot_session *s, struct error *err);
/* Behind it: the state is that of `cached` tokens; the one before stays as a mark if it is worth it. */
void marks_advance(struct ingot_session *s, int64_t cached, bool keep);
void marks_give_up(struct ingot_session *s); /* the step failed: state is as it was */
int64_t marks_cut(struct ingot_session *s, int64_t cached); /* the tokens of the nearest mark */
void marks_share(struct ingot_session *copy, const struct ingot_session *s);
int32_t session_blocks_wanted(const struct ingot_session *s, int64_t tokens); /* beyond those it has */

/* ---- sampling ------------------------------------------------------------------------------------------------------- */

struct sampler {
    struct ingot_sampling options;
    uint64_t seed;
    /* what is known of single tokens: their bias and, for penalties, how often each was seen; a small open-addressed table */
    struct seen { int32_t id; int32_t prompt, answered; float bias; } *seen;
    uint32_t seen_mask, seen_count;
    struct score_edit *edits; /* [seen_mask + 1], filled for each choice */
    struct token_score *candidates; /* [vocab], only when not greedy or penalised */
    int64_t vocab;
    const uint32_t *allowed; /* [allowed_words] bits of the tokens that a grammar allows; NULL: all */
    size_t allowed_words;
};
static inline bool sampler_allows(const struct sampler *s, int32_t id)
{
    size_t word = (size_t)id >> 5;
    return !s->allowed || (word < s->allowed_words && (s->allowed[word] >> (id & 31) & 1));
}
enum status sampler_open(struct sampler *s, const struct ingot_sampling *options, int64_t vocab, struct error *err);
void sampler_close(struct sampler *s);
/* Remembers a token of the prompt or of the answer. */
enum status sampler_see(struct sampler *s, int32_t id, bool prompt, struct error *err);
/* The next token; draw: which draw of the seed's sequence this is (tokens generated so far). -1 if no score is a number, or
 * nothing is allowed. */
int32_t sampler_choose(struct sampler *s, const float *logits, uint64_t draw);

/* The same token, sooner where the row would have to be sorted: from its best values if they settle it. */
int32_t sampler_next(struct sampler *s, const float *logits, uint64_t draw);
/* The same where a backend chooses: what to ask for (at least `best`), and the token. Lists live until the sampler sees another
 * token. sampler_pick: SAMPLER_LACKS if the choice does not settle it and the row must. */
enum { SAMPLER_LACKS = -2 };
void sampler_ask(struct sampler *s, int32_t best, struct row_choice *out);
int32_t sampler_pick(struct sampler *s, const struct row_choice *choice, uint64_t draw);
/* The edits of single tokens, each id once. */
const struct score_edit *sampler_edits(struct sampler *s, int32_t *count);

/* Log probability of id and the `count` best, from the logits as the model gave them. */
float logprobs_best(const float *logits, int64_t vocab, int32_t id, struct ingot_logprob *top, int count);
/* The same from a choice whose scores are the logits in another unit; false: it does not list them all. */
bool logprobs_listed(const struct row_choice *choice, int32_t id, struct ingot_logprob *top, int count, float *own);
int32_t best_token(const float *logits, int64_t vocab); /* lowest id on ties; -1 if none is a number */

/* Samplers work on this; each file in samplers/ is one, the chain is runtime/samplers.def. */
struct candidates {
    struct token_score *list; /* scores are logits until the draw */
    int64_t count;
    bool sorted; /* best first */
    uint64_t rest; /* weight of what is not listed, none of it as good as the last of the list */
    bool lacking;  /* a sampler wanted to know what that is */
};
void candidates_sort(struct candidates *c); /* and drops those without a weight: a draw never takes them */
uint64_t candidates_weight(const struct candidates *c); /* sorted ones */

/* ---- requests ------------------------------------------------------------------------------------------------------- */

struct event_node {
    struct event_node *next;
    struct ingot_event event;
    char *text, *name;
    struct ingot_logprob top[MAX_TOP];
    struct ingot_error error;
};

/* parts.c: an answer's text on its way into events; whoever uses it takes them out one by one. */
struct parts {
    struct output *output;
    struct event_node *list, **end;
    size_t calls; /* complete ones */
    bool failed;  /* memory ran out */
};
enum status parts_open(struct parts *r, const struct ingot_chat *chat, uint64_t seed, struct error *err);
enum status parts_add(struct parts *r, const char *text, size_t size, struct error *err);
enum status parts_end(struct parts *r, bool cut, struct error *err);
struct event_node *parts_take(struct parts *r); /* NULL: no more for now; the caller frees it */
void parts_answer(const struct parts *r, struct ingot_answer *out); /* after parts_end(); borrows from the reader */
void parts_close(struct parts *r);

/* ENDED: its last event is out. GONE: the scheduler holds no pointer to it any more, so it may be freed. */
enum request_state { REQUEST_QUEUED, REQUEST_RUNNING, REQUEST_ENDED, REQUEST_GONE };

struct ingot_request {
    struct ingot_session *session;
    struct ingot_engine *engine;
    struct ingot_request_options options;
    char **stop;              /* our copies */
    size_t *stop_size;
    struct sampler sampler;
    struct grammar_state *grammar; /* how far the answer has come; NULL: free */
    const struct grammar_vocabulary *vocabulary; /* with a grammar; the model's */
    bool constrained;         /* it has begun */
    int64_t thought;          /* tokens of reasoning so far */
    struct ids forced;        /* tokens that come next, whatever the model says */
    size_t forced_at;
    uint32_t *allowed;             /* the sampler's */
    struct detokenizer detokenizer;
    bool detokenize;
    struct str held;          /* text that may be the beginning of a stop text */
    struct parts parts;       /* with options.chat */
    struct ingot_answer answer;
    enum request_state state;
    int32_t reserved;         /* blocks promised and not yet taken */
    int64_t limit;            /* tokens the session may reach */
    int64_t prompt_end;       /* tokens of the session when the request started */
    int64_t reused;
    int64_t turn_end;         /* tokens up to where a mark is kept: the prompt without what asks for the answer */
    int64_t generated;
    atomic_bool cancel;
    double started, first, ended;
    struct event_node *events, **events_end, *current;
    pthread_cond_t wake;
    struct ingot_request *next; /* in the queue or the running list */
};

/* deliver.c. The last row of a sequence behind a step: here, or still with the backend that chose from it. */
struct row {
    int32_t wanted;             /* which of the step's; -1: none */
    const float *logits;        /* NULL: not here */
    const struct row_choice *choice, *look; /* what was chosen; the logits as they are. NULL: nothing */
};
enum status row_logits(struct ingot_engine *e, struct row *row, struct error *err); /* brings them */

/* Scheduler side; engine lock held. */
void request_push(struct ingot_request *r, struct event_node *node);
struct event_node *event_new(enum ingot_event_kind kind); /* NULL: no memory */
bool event_text(struct event_node *node, const char *text, size_t size); /* copied; false: no memory */
void event_free(struct event_node *node);
void request_finish(struct ingot_request *r, enum ingot_finish finish);
void request_fail(struct ingot_request *r, const struct error *err);
void request_end(struct ingot_request *r, struct event_node *last); /* NULL: there is no memory for one */
struct event_node *event_failure(const struct error *err); /* NULL: no memory */
/* A sampled token on its way to the consumer: text, stop texts, end of turn, limits. */
void request_emit(struct ingot_request *r, int32_t token, struct row *row);
/* A prompt row's logits: callbacks and prompt logprobs. */
void request_row(struct ingot_request *r, int64_t position, const float *logits);
bool request_wants_rows(const struct ingot_request *r);
/* steer.c. The answer is held to a grammar, which begins behind its reasoning. */
enum status request_hold(struct ingot_request *r, const struct ingot_grammar *grammar, struct error *err);
/* Before a token: what the sampler may choose from; behind it: what was chosen. */
enum status request_constrain(struct ingot_request *r, struct error *err);
/* A token that comes next whatever the model says (the end of reasoning that used up its budget); -1: none. */
int32_t request_forced(struct ingot_request *r);
enum status request_follow(struct ingot_request *r, int32_t token, struct error *err);

/* ---- the engine ----------------------------------------------------------------------------------------------------- */

struct ingot_engine {
    struct ingot_model *model;
    struct ingot_plan plan;
    const struct backend *backend;
    struct compile_options compile;
    struct segment *segments; /* what compile.segments points to */
    int pieces;               /* whole ones of a prompt in a step, at most */
    struct compiled *compiled;
    int logits; /* output buffer */
    pthread_mutex_t lock;
    pthread_cond_t work; /* the scheduler waits here */
    pthread_t thread;
    bool started, closing;
    struct pool pool;
    struct ingot_session *sessions; /* all */
    struct ingot_session *resting;  /* rest.c */
    int resting_count;
    struct shelf *shelf; /* shelf.c; NULL: none */
    int32_t places, *free_place, free_places; /* of each paged group; which are free */
    bool shelf_busy;     /* moves may be on their way */
    uint64_t marks_made;
    struct ingot_request *queue, *running;
    int running_count;
    /* one step's batch; the scheduler's alone */
    struct batch_row *rows;
    struct batch_sequence *sequences;
    int32_t *wanted;
    const int32_t **tables; /* [sequence][group] */
    struct row_choice *choices; /* [2 * sequences], where the backend chooses */
    bool fetched; /* a row had to come whole nevertheless */
    bool streamed; /* the last step was of prompts that stream */
    struct error health; /* why the device failed in the last step; STATUS_OK: it did not. Under lock */
};
void *scheduler_main(void *engine);

struct step {
    struct batch batch;
    struct ingot_request *request[MAX_PARALLEL]; /* of each sequence */
    bool sampled[MAX_PARALLEL];                  /* its last row is wanted for sampling */
    struct row row[MAX_PARALLEL];                /* that one */
    int32_t forced[MAX_PARALLEL];                /* the token that comes whatever the row says; -1: none */
    bool failed[MAX_PARALLEL];                   /* before there was a token */
    struct event_node *failure[MAX_PARALLEL];
};
/* Runs a step and hands out what it gives. */
void step_run(struct ingot_engine *e, struct step *step);

/* plan.c: backend, compile, segments and plan of an engine that is otherwise empty. */
enum status engine_prepare(struct ingot_engine *e, const struct model *model, const struct ingot_engine_options *options, struct error *err);

/* placement.c: which devices there are to be, and what they can hold. */
struct placement {
    int cards; /* 0: the CPU alone */
    const struct backend *backend; /* the cards' */
    int card[MAX_CARDS]; /* one may be named twice */
    double card_bandwidth[MAX_CARDS];
    uint64_t card_bytes[MAX_CARDS], host_bytes; /* free */
    uint64_t weights_bytes, read_bytes; /* the model's; those that a token reads */
};
/* Without cards also the engine's backend, and the plan's device. */
enum status placement_choose(struct ingot_engine *e, const struct program *p, const struct ingot_engine_options *o, struct placement *out, struct error *err);
/* The engine's backend and segments, and the plan's device, where the CPU has the operations of cpu: [op]. */
enum status placement_divide(struct ingot_engine *e, const struct program *p, const struct placement *at, const bool *cpu, struct error *err);
void placement_clear(struct ingot_engine *e); /* frees the segments */
/* The plan's numbers, its parts and whether each fits, for a cache of plan.context tokens. */
enum status placement_measure(struct ingot_engine *e, const struct program *p, const struct placement *at, struct error *err);
bool part_fits(const struct ingot_plan_part *part);
/* offload.c: leaves to the CPU what the card cannot run, what the options say, and what does not fit beside a cache of plan.context
 * tokens; the plan lists the first. STATUS_NO_ROOM: not one layer fits. */
enum status offload_fit(struct ingot_engine *e, const struct program *p, const struct placement *at, const struct ingot_engine_options *options, struct error *err);
/* bandwidth.c: seconds that a token takes when `filled` of the cache is read; 0: a bandwidth is not known. */
double plan_seconds(const struct ingot_plan *p, double host, double filled);
void plan_total(struct ingot_plan *p); /* of what one device takes, and whether it fits */
uint64_t plan_blocks(const struct ingot_plan *p, const struct state_group *g); /* of the cache */
uint64_t plan_host_memory(void); /* what the system can give without swapping, within the cgroup's limit */

#endif
