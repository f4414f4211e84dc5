/* The contract between models, engine and backends: weight views, programs, batches, state.
 *
 * A model family writes a `program` once: a flat list of operations over weights, buffers and state. A backend
 * compiles it and runs steps. Each step takes one ragged batch: prompt pieces and single tokens of many sequences
 * together. No operation asks the host. No family touches numbers; no backend knows a family. */
#ifndef KERNELS_OPS_H
#define KERNELS_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/files/tensors.h"
#include "base/status.h"
#include "kernels/choice.h"

/* ---- weights -------------------------------------------------------------------------------------------------------- */

enum weight_owner { WEIGHT_MAPPED, WEIGHT_DERIVED };

/* A view of a matrix [out, in] (a vector is [1, n]); it never owns bytes. Slices of fused tensors, expert stacks,
 * transposed storage and companions of a quantisation scheme are fields, so they need no special path. */
struct weight {
    const char *name;    /* as the file has it, for messages */
    int id;              /* index in the program: stable, what adapters refer to */
    enum storage format; /* what `data` holds */
    int64_t out, in;
    const unsigned char *data; /* row 0; no alignment is promised */
    int64_t row_bytes;         /* from one row to the next */
    const unsigned char *scales, *zeros; /* companions of schemes that store them apart; else NULL */
    float factor;                        /* of all values, where a file keeps one apart (NVFP4); 0: none */
    const int32_t *permutation;          /* order of the input channels (act-order); else NULL */
    bool transposed;                     /* stored [in, out] */
    int experts;                         /* matrices of one shape, a stack; 1 for an ordinary weight */
    int64_t expert_bytes;                /* from one of the stack to the next */
    const unsigned char *const *expert;  /* [experts]: row 0 of each, where they are no stack but tensors of their own; else NULL */
    int shard_axis;                      /* -1 whole, 0 rows, 1 columns are split over ranks */
    enum weight_owner owner;
};

/* One matrix of a stack, as an ordinary weight. */
struct weight weight_expert(const struct weight *stack, int expert);

/* ---- programs ------------------------------------------------------------------------------------------------------- */

enum op_kind {
#define OP(kind, name) OP_##kind,
#include "kernels/ops.def"
#undef OP
    OP_COUNT
};
extern const char *const op_names[OP_COUNT];

enum activation {
#define ACTIVATION(name) ACT_##name,
#include "kernels/activations.def"
#undef ACTIVATION
};

/* Rotary embedding: pair i of a head turns by position * inverse_frequency[i], its length by magnitude. */
struct rope {
    int dims;                        /* rotated values per head: 2 * pairs; the rest of the head passes */
    bool interleaved;                /* pairs are (2i, 2i+1) instead of (i, i + dims/2) */
    const float *inverse_frequency;  /* [dims/2], scaling (linear, llama3, yarn) applied */
    float magnitude;                 /* of cos and sin (yarn's attention factor), 1 otherwise */
    /* dynamic NTK: for sequences longer than `original` the base grows with the sequence's planned length; 0: not used */
    int64_t original;
    double base, factor;
};

/* cos and sin (times magnitude) of every pair at a position of a sequence planned for `length` tokens; the one place that knows
 * dynamic scaling. cosine, sine: [dims/2]. Angles are computed in float32 as the checkpoints' own code does. */
void rope_angles(const struct rope *rope, int64_t position, int64_t length, float *cosine, float *sine);

/* How scores become choices: those `chosen` experts that have the largest probability + bias. Equals: the lower one. */
enum { EXPERTS_MOST = 1024 };
struct expert_route {
    int experts, chosen; /* of each row */
    bool sigmoid;        /* a probability is the sigmoid of its score; else they are the softmax of all scores */
    bool normalised;     /* the chosen ones' probabilities are divided by their sum (which is the softmax of the chosen scores alone) */
    float scale;         /* of the weights, at last */
    /* Only experts of groups_chosen groups of equal size: those whose group_best largest sum up to most. groups 1: no groups */
    int groups, groups_chosen, group_best;
};
/* Of one row. scores: [experts]; bias: [experts], for choosing alone, or NULL; out: [2][chosen]: which experts, the best first, as
 * whole numbers, then their weights. Scores that are no numbers choose too: ids are in range and differ, always. */
void route_choose(const struct expert_route *route, const float *scores, const float *bias, float *out);

/* A linear recurrence: state space models (Mamba 2, arXiv:2405.21060) and gated delta nets (arXiv:2412.06464). Every head has a matrix
 * S [k_dim][v_dim], zero at a sequence's begin. For one row after the other:
 *   dt = softplus(z[head] + bias[head]), kept within dt_least and dt_most
 *   S  = exp(decay[head] * dt) * S
 *   u  = delta ? sigmoid(z[heads + head]) * (v - k S) : dt * v
 *   S += k^T u
 *   y[head] = scale * q S + skip[head] * v
 * x: q and k [key_heads][k_dim] and v [heads][v_dim], each from its place in the row on. w: [3, heads] in F32: decay, bias, skip. */
struct scan {
    int heads, key_heads, k_dim, v_dim;
    int64_t q, k, v;      /* first value of each in a row of x */
    bool tiled;           /* head h has q and k of key head h % key_heads; else of h / (heads / key_heads) */
    bool delta;           /* z: [2][heads], u by the delta rule; else z: [heads] */
    bool normalised;      /* q and k are divided by their length: x / sqrt(sum of x^2 + 1e-6) */
    float dt_least, dt_most; /* dt_most INFINITY: no bound */
};

/* Groups of layers whose state has one shape and one length. */
enum state_kind { STATE_PAGED, STATE_RECURRENT };
struct state_group {
    enum state_kind kind;
    int layers;            /* layers that have a slot in it: op.layer < layers */
    int heads, k_dim, v_dim; /* PAGED: kv heads and values per head */
    int window;            /* PAGED: tokens a query sees, itself included; 0: all */
    bool v_in_k;           /* PAGED: V is the first v_dim values of K (latent attention) */
    int64_t values;        /* RECURRENT: floats per layer, shared out among its operations (op.at); zero before the first token */
};

enum mask { MASK_CAUSAL, MASK_FULL };
enum buffer_rows { ROWS_ALL, ROWS_WANTED };

struct buffer {
    const char *name;
    int64_t width;          /* values per row */
    enum buffer_rows rows;  /* one row per batch row, or per wanted row */
};

/* One operation. Buffers, weights and groups are indices into the program, -1: none. */
struct op {
    enum op_kind kind;
    int x, z, y;     /* inputs and output (ADD, GATE: x and z; ROPE, REDUCE: x only, in place; STORE: x = k, z = v; ATTEND: x = q;
                        EXPERTS: z = what ROUTE made, -1: slot i has matrix i; COMBINE: z = that, or weights alone;
                        CONV: z: none; SCAN: x = q, k, v, z = gates) */
    int w, b;        /* weight, bias */
    int group, layer;
    int64_t at;      /* CONV, SCAN: where its state begins in the layer's: the last rows of x [taps - 1][width], oldest first;
                        S [heads][k_dim][v_dim] */
    int heads, head_dim; /* ROPE, ATTEND: of x; JOIN: pieces of a row; NORM: head_dim > 0 normalises every head_dim values on their own,
                            by a w (and b) of so many values, or as wide as x */
    float epsilon;   /* NORM */
    float scale;     /* EMBED, ADD, SCALE, ATTEND, SCAN */
    float cap;       /* SCALE; ATTEND: scores = cap * tanh(scores / cap) before the mask; 0: none */
    float offset;    /* NORM: w + offset (Gemma's 1 + w) */
    bool centred;    /* NORM: layer norm */
    enum activation activation;
    enum mask mask;
    int rope;        /* ROPE: index of struct rope */
    int route;       /* ROUTE, EXPERTS: index of struct expert_route; -1 where EXPERTS has no z */
    int scan;        /* SCAN: index of struct scan */
    bool begins;     /* of a part of a split program: other parts may work between what stands before it and this */
    bool streamed;   /* of a part: another part's, done here in steps that stream; its matrices come for each of these */
};

struct output {
    const char *name; /* "logits", "hidden" */
    int buffer;
};

struct program {
    struct arena *arena; /* owner of all lists; belongs to the model */
    struct op *ops;
    int op_count;
    struct buffer *buffers;
    int buffer_count;
    struct weight *weights;
    int weight_count;
    struct rope *ropes;
    int rope_count;
    struct expert_route *routes;
    int route_count;
    struct scan *scans;
    int scan_count;
    struct state_group *groups;
    int group_count;
    struct output outputs[4];
    int output_count;
    int64_t vocab; /* rows of the embedding: token ids are below it */
    bool failed;   /* memory ran out while it was written; program_check reports it */
};

/* Writing a program: each returns the new index (or appends an operation). Memory running out is remembered. */
int program_buffer(struct program *p, const char *name, int64_t width, enum buffer_rows rows);
int program_weight(struct program *p, const struct weight *w);
int program_rope(struct program *p, const struct rope *r);
int program_route(struct program *p, const struct expert_route *r);
int program_scan(struct program *p, const struct scan *s);
int program_group(struct program *p, const struct state_group *g);
struct op *program_add(struct program *p, enum op_kind kind); /* all indices -1, scale 1; never NULL */
void program_output(struct program *p, const char *name, int buffer);
int program_find_output(const struct program *p, const char *name); /* buffer, or -1 */

/* Operations up to the last one that the output (-1: none), another part, or the state of later steps, depends on. */
int program_needed(const struct program *p, int output);

/* Up to where a step of the batch runs, and whether these are the program's last operations. */
struct batch;
int batch_end(const struct program *p, const struct batch *b, int output);
bool batch_last(const struct program *p, const struct batch *b);

/* The buffer that an operation writes; -1: none (STORE, SEND). */
int op_writes(const struct op *op);
/* Does it write state, which later steps need? */
bool op_keeps(const struct op *op);
/* Slots of an EXPERTS. */
int op_slots(const struct program *p, const struct op *op);
/* Is what lies in the buffer before operation `from` read by it or a later one, before it is written again, or an output? */
bool program_live(const struct program *p, int buffer, int from);

/* What every backend so far asks of a weight: a format that is read, whole blocks in a row, plain storage.
 * STATUS_BAD_INPUT names the weight and what is wrong. */
enum status weight_check(const struct weight *w, struct error *err);

/* Shapes of every operation against its weights, buffers and groups: a wrong program is our mistake, a weight that
 * does not fit is the file's; both are told by name. Run once before compiling. */
enum status program_check(const struct program *p, struct error *err);

/* ---- batches -------------------------------------------------------------------------------------------------------- */

enum { BLOCK_TOKENS = 16 }; /* tokens in one block of paged state */

struct batch_row {
    int32_t token;          /* below program.vocab, or -1: `embedding` holds the row */
    const float *embedding; /* [width of EMBED's output] */
    int64_t position;       /* for ROPE; the cache slot is cached + index within the sequence */
    int32_t sequence;
};

struct batch_sequence {
    int32_t first_row, rows;       /* its rows are consecutive */
    int64_t cached;                /* tokens in the cache before this step */
    /* [group] -> block ids. PAGED: covering cached + rows tokens (blocks left behind by a window: -1). RECURRENT: the slot that is read
     * (any number if nothing is cached yet), and the one that is written, which may be the same. */
    const int32_t *const *blocks;
    int32_t adapter;               /* -1: none */
    int64_t length;                /* tokens it is planned for: what length-dependent rope goes by, the same for all its steps */
};

struct batch {
    int32_t rows, sequences, wanted;
    const struct batch_row *row;
    const struct batch_sequence *sequence;
    const int32_t *wanted_rows; /* ascending rows whose outputs are asked for */
    int begin, end; /* operations [begin, end) alone, from one that `begins` up to the next: the others are run by calls before and
                     * behind this one, with the same batch. Results come with the last ones. end 0: all */
    bool streams;   /* of a part: streamed operations are run, too, and there is nothing to SEND or RECEIVE */
};

/* ---- backends ------------------------------------------------------------------------------------------------------- */

struct segment;  /* below */
struct exchange; /* exchange.h */

struct compile_options {
    int threads;                /* of the compute team; 0: all cores */
    int32_t max_rows;           /* bound on batch.rows */
    int32_t max_wanted;         /* bound on batch.wanted */
    int32_t max_sequences;
    int64_t max_context;        /* bound on cached + rows */
    enum storage k_type, v_type; /* of paged state: see state_storage */
    bool deterministic;         /* the same bits for a row however its sequence is cut into steps */
    int32_t prompt_rows;        /* of a sequence in a step, from which what is only for prompts is used at the latest: a trial's; 0: as it pays */
    int device;                 /* which one, where a backend has several */
    const struct segment *segments; /* backend_split(): who runs what */
    int segment_count;
    /* Where one part begins and ends the program and the other has no state: steps in which each sequence has so many rows are wholly
     * the first one's, which can run it all and fetches the other's matrices while it works. 0: never. */
    int32_t stream_rows;
    struct exchange *exchange;  /* where SEND, RECEIVE and REDUCE meet the other parts; NULL: the program has none */
    int rank;                   /* of this part among those that share its matrices */
    /* Called while weights go to a device if that takes a while, at most 10 times a second. NULL: nobody looks. */
    void (*progress)(void *context, uint64_t done, uint64_t total);
    void *progress_context;
};

/* Types that K and V of paged state can have: F32, F16, BF16, F8_E4M3, Q8_0, Q4_0. Those with a scale have one for every 32
 * values of one head of one token (the last group of a head is filled up with zeros): never one for several tokens. */
bool state_storage(enum storage type);

/* What compiling would allocate, known before anything is: the planner's numbers. */
struct compile_sizes {
    uint64_t scratch_bytes;  /* buffers, packed activations, everything but state and weights */
    uint64_t block_bytes[8]; /* [group]: one block (BLOCK_TOKENS tokens, all layers of the group); RECURRENT: one slot */
};

/* Memory for state: blocks (RECURRENT: slots), so many for each group. Made by the backend whose steps use it; handed to every step. */
struct state_memory {
    unsigned char *pool[8];     /* [group]: block b at pool + b * block_bytes; where the backend's steps reach it */
    size_t bytes[8];            /* of the pools */
    struct state_memory *parts; /* backend_split: [part]; else NULL */
};

struct compiled;
struct shelf;

struct backend {
    const char *name;
    /* Whether it can run an operation of the program, in its format and shape, where options.device is a device that was found; else
     * `why` says what it lacks, in few words. Another backend then runs it (split programs). NULL: it runs all that pass
     * program_check and weight_check. */
    bool (*runs)(const struct program *p, const struct compile_options *o, int op, char *why, size_t size);
    enum status (*sizes)(const struct program *p, const struct compile_options *o, struct compile_sizes *out, struct error *err);
    /* The program must outlive the result. STATUS_BAD_INPUT names a weight whose format has no kernel. */
    enum status (*compile)(struct compiled **out, const struct program *p, const struct compile_options *o, struct error *err);
    /* Runs one batch. A row's bits depend on its own sequence alone (its state and its rows in this step), never on what
     * else is in the batch. output: a buffer that is one of the program's outputs, or -1: only the state is written. result[i]
     * is the output buffer's row of wanted row i: [wanted, width], valid until the next step.
     * One step at a time per compiled program. NaN or infinite results are returned as they are; the engine looks. */
    enum status (*step)(struct compiled *c, const struct batch *b, const struct state_memory *state, int output,
                        const float **result, struct error *err);
    /* Where rows are better chosen from than moved; else both are NULL. A step whose result is NULL may return before it is done and
     * keeps its rows. Then choose() has to be called once, with at most 2 * max_sequences choices or none: it waits for the step,
     * whose errors may come only now, and answers (see choice.h). Behind it, fetch() brings a wanted row whole, valid until the next
     * fetch or step. */
    enum status (*choose)(struct compiled *c, struct row_choice *choices, int32_t count, struct error *err);
    enum status (*fetch)(struct compiled *c, int32_t wanted, const float **row, struct error *err);
    /* Paged state of `count` tokens of a block, from slot `first` (0..BLOCK_TOKENS-1) on: each token in canonical order
     * [layer][head][k_dim] then [layer][head][v_dim], as float32, for saving, loading and moving between devices and types.
     * Recurrent state: all of it, whatever first and count say. These and state_copy may be called
     * by any thread, also while a step runs that has nothing to do with the block. STATUS_DEVICE: it was lost. */
    enum status (*read_state)(const struct compiled *c, const struct state_memory *state, int group, int32_t block, int first, int count,
                              float *out, struct error *err);
    enum status (*write_state)(const struct compiled *c, struct state_memory *state, int group, int32_t block, int first, int count,
                               const float *in, struct error *err);
    /* blocks: [group]. The caller owns the memory and never looks inside. STATUS_NO_ROOM: there is none; *out then holds nothing. */
    enum status (*state_open)(const struct program *p, const struct compile_options *o, const int32_t *blocks, struct state_memory *out, struct error *err);
    void (*state_close)(const struct compile_options *o, struct state_memory *memory); /* zeroed memory is fine */
    enum status (*state_copy)(const struct compiled *c, struct state_memory *state, int group, int32_t to, int32_t from, struct error *err);
    /* Blocks of paged state at rest, in the host's memory beside a device's. Room for so many of each group, taken bit by bit as it is
     * used; then moves there (`away`) and back, asked for in order and done beside steps, until shelf_wait(). A block must stay what it
     * is while it moves away, and not be used before it is back. One thread at a time. NULL: state lies in the host's memory anyway. */
    enum status (*shelf_open)(struct shelf **out, const struct compiled *c, const int32_t *places, struct error *err);
    enum status (*shelf_move)(struct shelf *s, const struct state_memory *state, int group, int32_t block, int32_t place, bool away, struct error *err);
    enum status (*shelf_wait)(struct shelf *s, struct error *err);
    void (*shelf_close)(struct shelf *s); /* NULL is fine */
    /* One line for -v: instruction set, threads, which kernel serves which weight format. */
    void (*describe)(const struct compiled *c, char *out, size_t size);
    void (*free)(struct compiled *c);
};

/* What choose() answers, from a row on the host: its plain twin. scores: [vocab], scratch. */
void choice_make(struct row_choice *c, const float *row, int64_t vocab, float *scores, struct token_score list[CHOICE_ROOM], float logits[CHOICE_ROOM]);

/* state_open and state_close of backends that run in the process's own memory: mapped at once and touched by use, so an idle context
 * costs address space only. sizes: of the program. */
enum status state_map(const struct program *p, const struct compile_sizes *sizes, const int32_t *blocks, struct state_memory *out, struct error *err);
void state_unmap(struct state_memory *memory);

/* The plain truth: one operation after the other, float with double sums, K and V in float32 unless asked otherwise. */
extern const struct backend backend_reference;
/* The CPU with the best instruction set of this machine, at most what INGOT_ISA names. NULL with words in err when the
 * processor lacks what the build needs (AVX2 on x86-64). */
const struct backend *backend_cpu(struct error *err);
/* NVIDIA GPU number `device`, through libingot-cuda.so, which is looked for here. STATUS_DEVICE says what is missing: the driver,
 * that file, the device, a version. */
struct cuda_room {
    char name[128];
    uint64_t free_bytes; /* of its memory, now */
    uint64_t bandwidth;  /* nominal: bytes a second; 0: not told */
};
enum status backend_cuda(const struct backend **out, int device, struct cuda_room *room, struct error *err);
/* A small model with the formats, the head width and the cache types of `like` (NULL: common ones), on a device of the backend and on the reference (on the
 * CPU what the device lacks). STATUS_DEVICE: what went wrong, or that their logits are apart. Takes about 0.1 s. */
enum status backend_trial(const struct backend *b, const struct program *like, const struct compile_options *options, struct error *err);
/* Operations (multiplications and additions) a second that `threads` threads (0: all cores) reach now with dot products of
 * operands in registers, with the instruction set that backend_cpu() runs. 0: it has no such instruction. Takes about 0.1 s. */
enum peak { PEAK_INT8, PEAK_BF16, PEAK_F32 };
double cpu_peak(enum peak kind, int threads);
const char *cpu_isa_name(void); /* "amx", "avx512-vnni", "avx2", "neon", "scalar" ... */
const char *cpu_isa_refused(void); /* why a better one that the processor has is not used, though INGOT_ISA allows it; NULL: none is */

/* ---- split programs --------------------------------------------------------------------------------------------------- */

/* Operations [first, end) of the whole program, on a device. compile_options.segments lists them in order; those of several ranks
 * have the same operations and stand side by side, ranks ascending. All segments of one device are compiled as one part. */
struct segment {
    const struct backend *backend;
    int device;
    int first, end;
    int rank, ranks; /* 0 of 1: alone; else every rank has slices of the matrices */
};

/* Runs compile_options.segments: one after another, ranks at the same time. Arithmetic is that of the backends; ranks sum up in
 * their order. STATUS_USAGE from sizes or compile: the program cannot be shared out over so many ranks. */
const struct backend *backend_split(const struct segment *segments, int count);

/* What each part takes, in the order of their first segments. out: [count], room for as many as there are segments. */
struct part_sizes {
    const struct segment *segment; /* its first */
    uint64_t weight_bytes;
    int layers; /* that have state there */
    int stretches; /* that it does in a step: others work between them */
    struct compile_sizes sizes;
};
enum status split_part_sizes(const struct program *p, const struct compile_options *o, struct part_sizes *out, int *count, struct error *err);

/* Where a program can be cut between two operations with one buffer of all rows to hand over: places[i] is the number of
 * operations before it, ascending; [op_count] are enough. Returns how many. */
int program_cuts(const struct program *p, int *places);
/* Bytes of the weights that the operations [first, end) have; each counts once. */
uint64_t program_weight_bytes(const struct program *p, int first, int end);
/* Those of them that a step of one token reads: of experts the chosen ones, of an embedding all. */
uint64_t program_read_bytes(const struct program *p, int first, int end);
/* Layers of a group that the operations [first, end) store. */
int program_layers(const struct program *p, int group, int first, int end);

/* ---- formats -------------------------------------------------------------------------------------------------------- */

/* One storage format (kernels/formats/X.c, a line in formats.def): how its bytes read and how floats become bytes. */
struct format {
    enum storage storage;
    /* count values (whole blocks) */
    void (*decode)(const unsigned char *bytes, float *values, int64_t count);
    /* count values (whole blocks), finite; importance: of each value's column, [count], positive, or NULL: all alike. Plain floats
     * are rounded to nearest and look at no importance; blocks want sizes below 65520. NULL: cannot be written. */
    void (*encode)(const float *values, const float *importance, unsigned char *bytes, int64_t count);
    /* The same without a search, for values that are made while running (a cache): the scale of the largest value, what is no
     * number stays none. NULL: encode is as simple. */
    void (*round)(const float *values, unsigned char *bytes, int64_t count);
};
/* NULL where no kernel reads this storage type. */
const struct format *format_find(enum storage storage);
/* round, or else encode, of a type that has one. */
void format_round(enum storage storage, const float *values, unsigned char *bytes, int64_t count);

#endif
