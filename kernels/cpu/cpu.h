/* Inside of the CPU backend: what an instruction set provides, what a compiled program consists of.
 *
 * A step runs inside one team_run(). Its work is a list of stages; threads meet at a barrier after each. Inside a stage
 * every thread takes items (rows, runs of weight rows, attention tiles) from its own share first, then from the others'. */
#ifndef KERNELS_CPU_CPU_H
#define KERNELS_CPU_CPU_H

#include <stdatomic.h>

#include "kernels/ops.h"

/* ---- the input of linear operations ---------------------------------------------------------------------------------- */

/* A row of activations is prepared in the forms that the kernels of a stage need:
 *   FLOATS   float32, as computed
 *   INT8     value = d * q: int8 q with a float scale for every 32 values, zero-padded to whole units of 256
 *   TURNED   AVX-512: the same q, turned so that dot products of a unit add up inside its runs of 16 values (avx512/few_unit.h)
 *   NIBBLE   AVX-512: the same q, the 128 values of every four blocks in the order of 4-bit storage: first halves, second halves
 *   INT16    value = d * q: int16 q of 8 or 16 bits (see WIDE_BLOCK) with a float scale for every 32 values
 *   PACKED8  PACK_ROWS rows side by side [k / 4][row][4] (ARM's i8mm: [k / 8][row][8]), the low and the high bytes of the same q,
 *            + 128 on x86; scales [block][row]
 *   APART    AVX-512: PACK_ROWS rows side by side [k / 4][row][4], the low bytes of such a q, + 128; scales [block][row], also as
 *            exponents of two powers of two [block][2][row]; scale * sum of q of two blocks as bfloat16 [block / 2][row][2]; high bytes
 *            by block, of the rows that have 16 bits there. In chunks: what a panel meets one after the other lies so (chunk_place)
 *   PAIRS    PACK_ROWS rows side by side [k / 2][row][2], int16 q of 16 bits; scales [block][row]
 *   PACKED16 PACK_ROWS rows side by side [k / 2][row][2], bfloat16; in chunks
 *   PACKED32 PACK_ROWS rows side by side [k][row], float32
 *   TILES    TILE_ROWS rows side by side [k / 2][row][2], bfloat16: tiles of AMX one after the other */
enum form {
    FORM_FLOATS = 1,
    FORM_INT8 = 2,
    FORM_NIBBLE = 4,
    FORM_INT16 = 8,
    FORM_PACKED8 = 16,
    FORM_PAIRS = 32,
    FORM_PACKED16 = 64,
    FORM_PACKED32 = 128,
    FORM_TILES = 256,
    FORM_APART = 512,
    FORM_TURNED = 1024,
    FORMS_PACKED = FORM_PACKED8 | FORM_APART | FORM_PAIRS | FORM_PACKED16 | FORM_PACKED32
};

enum { UNIT = 256, PACK_ROWS = 6, TILE_ROWS = 16, PANEL_ROWS = 32, HEAD_DIM_MOST = 1024, TAPS_MOST = 256 };

/* Which arithmetic a row gets depends on its own sequence alone: on how many of the sequence's rows are in this step
 * (rows that are wanted, behind SELECT). So what else runs never shows in an answer. Below six rows a sequence's rows are
 * handled one by one: unpacking a panel of weights costs about as much as five rows do. */
enum row_set { SET_FEW, SET_MANY, SETS };
enum { MANY_FROM = 6 };

/* Prompts: a block of 32 activations whose scale is over twice the row's usual one gets 16 bits instead of 8. Such blocks
 * hold an outlier beside which 8 bits leave little of the other 31, and they are few, so most of the error of plain int8
 * goes for little work. A prompt's keys and values stay, so its error would be in every later answer.
 * SmolLM2 Q4_1 against float, relative error of the logits (KL): no such blocks 3.4e-2 (3.7e-3); over 4 times, 5 % of the
 * blocks, 1.9e-2 (1.3e-3); over twice, 15 %, 1.3e-2 (5.7e-4); over 1.25 times, 31 %, 1.0e-2 (3.2e-4); all 1e-3 (3e-5). */
#define WIDE_BLOCK 2.0f

/* A unit of TURNED: lane l of the 16 is run l % 4 * 4 + l / 4. */
struct turned {
    int8_t q[4][16][4]; /* [j][lane]: values 4j .. 4j + 3 of the lane's run of 16 */
    float d[16], s[16]; /* [lane]: scale; scale * sum of q */
};

/* A unit of NIBBLE. In one piece: with q and ds apart, answers of rows of 8192 weights took 5 % longer on Intel's processors. */
struct nibbles {
    int8_t q[2][128]; /* of four blocks: values 0-15 of each, then 16-31 */
    float ds[2][8];   /* four scales, then four scale * sum of q */
};

/* Pointers into the prepared rows of one set. `padded` is n rounded up to whole units. */
struct input {
    int64_t n, padded;
    int32_t rows;
    unsigned forms;
    const int32_t *from, *row; /* [rows]: where each prepared row is read, and where its results go */
    float *floats;        /* [buffer row][float_stride] */
    int64_t float_stride;
    int8_t *q;            /* [row][padded] */
    struct nibbles *nibble; /* [padded / UNIT][row], as */
    struct turned *turned; /* [padded / UNIT][row]: what is used together lies together, and rows do not share sets of the cache */
    int16_t *q16;         /* [row][padded] */
    float *d, *s;         /* [row][padded / 32]: scale; scale * sum of q */
    float *d16, *s16;     /* [row][padded / 16]: the same for every 16 values */
    uint8_t *p8, *p8_high; /* [tile][padded / 4 or 8][PACK_ROWS][4 or 8]; high: only where `wide` says so; APART: chunk_place */
    uint8_t *wide;        /* [tile][padded / 32]: which rows of the tile have 16 bits in the block, a bit each; PACKED8: whether any has */
    uint8_t *high;        /* [padded / 32][tile][8][PACK_ROWS][4]: of the block's `high_rows` rows that have 16 bits */
    uint8_t *high_list;   /* [tile][PACK_ROWS * padded / 32][32]: the same bytes as each tile packed them, by block, then row */
    float *high_list_d;   /* [tile][PACK_ROWS * padded / 32]: their scales */
    int32_t *high_first;  /* [tile][padded / 32]: how many stand before the block's own */
    int32_t *high_rows, *high_row; /* [padded / 32]; [padded / 32][tile][PACK_ROWS]: the row, behind high_rows that behind all tiles */
    float *high_d;        /* [padded / 32][tile][PACK_ROWS]: scales of the high bytes */
    int16_t *pairs;       /* [tile][padded / 2][PACK_ROWS][2] */
    float *pd, *ps;       /* [tile][padded / 32][PACK_ROWS] */
    float *pe;            /* [2][PACK_ROWS] for 32 values: exponents; chunk_place */
    float *ps16;          /* [tile][padded / 16][PACK_ROWS] */
    uint32_t *sums;       /* [PACK_ROWS] pairs of bfloat16 for 64 values: scale * sum of q; chunk_place */
    uint16_t *p16;        /* [PACK_ROWS][2] for 2 values; chunk_place */
    float *p32;           /* [tile][padded][PACK_ROWS] */
    uint16_t *tiles;      /* [rows / TILE_ROWS][padded / 2][TILE_ROWS][2]; behind n, in whole tiles of 32 k, zeros */
};

/* Where the values of a tile from `at` on lie in a form of chunks, [chunk][tile][values of a chunk]: how many stand before them, of one
 * row. */
enum { APART_CHUNK = 2 * UNIT, PACKED16_CHUNK = UNIT };
static inline int64_t chunk_place(const struct input *in, int chunk, int32_t tile, int64_t at)
{
    int64_t tiles = (in->rows + PACK_ROWS - 1) / PACK_ROWS, first = at / chunk * chunk;
    int64_t count = in->padded - first < chunk ? in->padded - first : chunk;
    return first * tiles + tile * count + at - first;
}

/* How the weights of one format are multiplied: y[in->row[i] * y_stride + out] for out in [first, end) of the weight's rows.
 * few: rows are handled one by one.
 * many: weight rows, at most panel_rows, are unpacked and all activation rows run over them.
 * In both a row's bits depend neither on the number of rows nor on its place among them. scratch: see scratch_bytes. */
struct linear_kernel {
    const char *name;
    unsigned few_forms, many_forms;
    int panel_rows; /* PANEL_ROWS times a power of two; 0: PANEL_ROWS */
    void (*few)(const struct weight *w, int64_t first, int64_t end, const struct input *in, float *y, int64_t y_stride, void *scratch);
    void (*many)(const struct weight *w, int64_t first, int64_t end, const struct input *in, float *y, int64_t y_stride, void *scratch);
    size_t (*scratch_bytes)(int64_t n, int32_t rows); /* per thread, for weights [., n] and so many activation rows */
};

/* ---- attention ------------------------------------------------------------------------------------------------------- */

/* A part: K or V of one layer and kv head inside a block of 16 tokens, `pad` dims long (cache_pad: the head's dims rounded up
 * to 16, to 32 where there are scales; behind the head are zeros). What lies side by side is what one dot instruction takes:
 *   F32, F16, F8_E4M3: K [dim][16 tokens], V [16 tokens][dim]
 *   BF16:  K [dim / 2][16 tokens][2 dims], V [8][dim][2 tokens]
 *   Q8_0:  K [dim / 4][16 tokens][4 dims] as q + 128, V [4][dim][4 tokens] as q;
 *          both followed by the scales, half floats [dim / 32][16 tokens]
 *   Q4_0:  the same with bytes in the place of dims: byte j of 16 in a group of 32 dims holds dim j (low nibble) and dim j + 16 */
int cache_pad(enum storage type, int dim);
size_t cache_part_bytes(enum storage type, int dim); /* whole cache lines */
/* A token's values to and from a part. narrow: of struct isa. */
void cache_write(enum storage type, bool key, int dim, int slot, const float *values, unsigned char *part,
                 void (*narrow)(const float *x, uint16_t *y, int64_t n, bool half));
void cache_read(enum storage type, bool key, int dim, int slot, const unsigned char *part, float *values);
/* V of the first `tokens` tokens, zeros behind them: what was never stored may be anything, NaN too. */
void cache_cut_v(enum storage type, int dim, int tokens, const unsigned char *part, unsigned char *to);

/* A sequence's tokens in pieces, and those in runs: partial results are merged piece by piece within a run, then run by run,
 * whoever computed them and however many threads there are. */
enum { ATTEND_PIECE = 256, ATTEND_RUN = 4096, ATTEND_QUERIES = 24, ATTEND_STACK = 16 /* most tiles that are computed together */ };
enum { ATTEND_FORMS_BEHIND = 32 }; /* queries whose forms may be read, and not used, behind those of the last tile */

/* A tile of queries that share a kv head: rows of one sequence times the heads of a group. Query i sees the tokens
 * [start[i], end[i]). */
struct attend_tile {
    int queries, k_dim, v_dim;
    enum row_set set;                /* of the rows */
    const float *q[ATTEND_QUERIES];  /* [k_dim], scaled by nobody yet */
    int64_t start[ATTEND_QUERIES], end[ATTEND_QUERIES];
    float scale, cap;
    enum storage k_type, v_type;
    const unsigned char *pool;       /* of the group: block b's K at pool + b * block_bytes + k_offset */
    uint64_t block_bytes, k_offset, v_offset;
    bool v_in_k;
    const int32_t *blocks;
    float *form;                     /* attend_form_floats for each query, behind those of the tile before, */
    bool formed;                     /* once this is set */
    float *scratch;                  /* attend_scratch_floats; tiles that are computed together share it */
    /* out: for every query most = largest score, sum = sum of exp(score - most), out [v_dim] = that sum over V */
    float *most, *sum, *out;
    int64_t out_stride;
};
/* Tokens whose scores are computed before V is read, and their blocks. */
enum { ATTEND_TOKENS = 128, ATTEND_BLOCKS = ATTEND_TOKENS / BLOCK_TOKENS };

/* K or V of such blocks. */
struct attend_run {
    int blocks, tokens;
    const unsigned char *part[ATTEND_BLOCKS];  /* NULL: nobody sees its tokens */
    const unsigned char *ahead[ATTEND_BLOCKS]; /* [ahead_bytes]: asked for from memory while the block is worked on */
    size_t ahead_bytes;
    const void *shared; /* what share_k, share_v made of the blocks */
};

/* How K and V of one type are multiplied. What a query gets depends neither on the other queries nor on their number. */
struct cache_kernel {
    const char *name;
    /* Queries in the form that score reads: k_dim rounded up to 32 floats for each. NULL: as they are. */
    void (*prepare)(const struct attend_tile *a, void *form);
    /* K or V of a run in the form that score or weigh reads, once for all tiles that are computed together; attend_shared_floats.
     * NULL: they are read where they lie. */
    void (*share_k)(const struct attend_tile *a, const struct attend_run *k, void *shared);
    void (*share_v)(const struct attend_tile *a, const struct attend_run *v, void *shared);
    /* scores[query][ATTEND_TOKENS] = attend_score(q . k); of blocks that nobody sees: anything */
    void (*score)(const struct attend_tile *a, const void *form, const struct attend_run *k, float *scores);
    /* out[query] += weights[query][ATTEND_TOKENS] . V */
    void (*weigh)(const struct attend_tile *a, const float *weights, const struct attend_run *v);
    bool weighs_bf16; /* weights are rounded to bfloat16 before they are summed up */
};

static inline size_t attend_form_floats(int k_dim) { return (size_t)(k_dim + 31) / 32 * 32; }

/* 16 bits for every value of a run, 32 for every token. */
static inline size_t attend_shared_floats(int dim) { return ATTEND_TOKENS * (attend_form_floats(dim) / 2 + 1); }

/* Scores, two blocks of K and of V as float32, a cut part of V, the shared forms of K and V. */
static inline size_t attend_scratch_floats(int k_dim, int v_dim)
{
    size_t k = attend_form_floats(k_dim), v = attend_form_floats(v_dim);
    return ATTEND_QUERIES * ATTEND_TOKENS + 2 * BLOCK_TOKENS * (k + v) + BLOCK_TOKENS * v + attend_shared_floats(k_dim) + attend_shared_floats(v_dim);
}

/* ---- instruction sets -------------------------------------------------------------------------------------------------- */

struct norm_shape {
    int64_t n; /* values normalised together */
    const float *weight, *bias; /* NULL: none */
    float epsilon, offset;      /* offset: added to the weight */
    bool centred;
};

/* Channels of a CONV over the rows of a sequence. */
struct conv_part {
    int32_t rows;
    int taps;
    int64_t width;          /* channels: of rows of w [taps][width] and of the states, the last rows of x [taps - 1][width] */
    const float *x, *w, *bias; /* bias: NULL or [width] */
    float *y;
    int64_t x_stride, y_stride;
    enum activation activation;
    const float *read;      /* NULL: zeros; may be what is written */
    float *write;
};

/* A head of a SCAN over some rows of a sequence. */
struct scan_part {
    int rows, k_dim;
    bool delta;
    const float *q, *k;        /* [rows][k_dim] */
    const float *fade, *rate, *qk; /* [rows]: what S is multiplied by; dt, or beta; q k, with the delta rule */
    const float *v;
    float *y;
    int64_t v_stride, y_stride; /* from one row to the next */
    const float *from;         /* S [k_dim][stride]; NULL: zeros; may be what is written */
    float *to;
    int64_t stride;
    float scale, skip;
};

struct isa {
    const char *name;
    const struct linear_kernel *(*linear)(enum storage format); /* NULL: none */
    void (*norm)(const struct norm_shape *shape, const float *x, float *y, int64_t width);
    void (*add)(const float *x, const float *z, float scale, float *y, int64_t n);
    void (*activate)(enum activation a, const float *x, const float *z, float *y, int64_t n); /* z: NULL or a factor */
    void (*rope)(float *x, int heads, int head_dim, const float *cosine, const float *sine, int pairs, bool interleaved);
    void (*conv)(const struct conv_part *c, int64_t first, int64_t end); /* channels [first, end) */
    void (*scan)(const struct scan_part *s, int64_t first, int64_t end); /* columns [first, end) of S */
    void (*unit)(const float *x, float *y, int64_t n, bool unit); /* y = x, or x / sqrt(sum of x^2 + 1e-6) */
    float (*dot)(const float *x, const float *y, int64_t n);
    void (*narrow)(const float *x, uint16_t *y, int64_t n, bool half); /* to F16 or BF16, nearest even */
    void (*quantise)(struct input *in, int32_t row); /* floats -> INT8, NIBBLE, INT16 */
    void (*pack)(struct input *in, int32_t tile);    /* floats -> PACKED forms of one tile of PACK_ROWS rows */
    void (*gather)(struct input *in, int64_t block); /* APART, when all tiles are packed: the block's high bytes; else NULL */
    /* floats -> TILES of one tile of TILE_ROWS rows, values [first, end); first is a multiple of 32, and so is end but at the row's.
     * NULL: no kernel wants it */
    void (*pack_tiles)(struct input *in, int32_t tile, int64_t first, int64_t end);
    /* Tiles of one kv head over the tokens [first, last) of their sequence; first is a multiple of ATTEND_PIECE. */
    void (*attend)(struct attend_tile *const *tiles, int count, int64_t first, int64_t last);
    size_t (*attend_floats)(int k_dim, int v_dim); /* scratch beyond attend_scratch_floats; NULL: none */
    int most_stacked; /* tiles that are computed together; at most ATTEND_STACK */
    double (*peak)(enum peak kind, int64_t rounds); /* does so many rounds of dot products; operations done, 0: cannot */
    /* total += part, both as attend leaves them; n: a multiple of 32 */
    void (*merge)(float *most, float *sum, float *out, float part_most, float part_sum, const float *part_out, int64_t n);
    void (*finish)(const float *out, float sum, float *y, int64_t n); /* y = out / sum */
};

/* The backend with a given instruction set; for tests. */
enum status cpu_compile_with(const struct isa *isa, struct compiled **out, const struct program *p, const struct compile_options *o,
                             struct error *err);

#define ISA(id, name, check) extern const struct isa isa_##id;
#include "kernels/cpu/isa.def"
#undef ISA

/* The best instruction set of this machine, at most what INGOT_ISA names; NULL with words in err. */
const struct isa *isa_best(struct error *err);
/* By name, for tests; NULL if this machine or build lacks it. */
const struct isa *isa_find(const char *name);
#if defined(__x86_64__)
/* Whether the processor has AMX's tiles and dot products of bfloat16, and the kernel lets this process use them, which is asked
 * for here: a permission that all threads have that start later. why: may be NULL; gets words where only the kernel refuses. */
bool amx_usable(const char **why);
#endif

/* ---- compiled programs ------------------------------------------------------------------------------------------------- */

enum stage_kind { STAGE_ROWS, STAGE_LINEAR, STAGE_ATTEND, STAGE_EXPERTS, STAGE_CONV, STAGE_SCAN };

struct part { /* one LINEAR, or EXPERTS */
    const struct weight *w;
    const struct linear_kernel *kernel;
    const float *bias; /* EXPERTS: [experts][out] */
    int y;
    bool local; /* only the stage's epilogue reads y: it stays with the thread that computes it, where there are many rows */
};

enum { STAGE_PARTS = 8 };

struct stage {
    enum stage_kind kind;
    int begin;              /* first operation of the program that belongs to it */
    int first_op, op_count; /* ROWS: done row by row; LINEAR: epilogue, done column range by column range;
                               ATTEND: done head by head before */
    int x;                  /* LINEAR, EXPERTS: input buffer */
    const struct op *norm;  /* LINEAR: done to the input first */
    bool keeps;             /* somebody else reads what the norm makes, too */
    int z;                  /* EXPERTS: what ROUTE made, or -1 */
    int experts, slots;     /* matrices, and how many of them each row goes to */
    int parts;
    struct part part[STAGE_PARTS];
    bool joint;             /* items are the same columns of all parts, followed by the epilogue */
    bool packs;             /* only the next stage reads what comes of that, as TILES: where all rows are many, it is packed at once */
    bool packed;            /* the stage before packs for this one */
    const struct op *attend;
};

struct share { /* a thread's items of a stage */
    _Alignas(64) _Atomic int64_t next;
    int64_t end;
};

struct state_layout { /* of a group; recurrent ones have no k and v */
    uint64_t k_bytes, v_bytes; /* one kv head in one layer */
    uint64_t layer_bytes, block_bytes;
};

struct thread_memory {
    unsigned char *input;   /* a private prepared row */
    float *local;           /* results that only the epilogue reads: [part][row][columns of an item] */
    void *scratch;          /* of linear kernels */
    unsigned char *experts; /* lists of an EXPERTS stage */
    float *attend;          /* tile scratch, outputs and rows */
    float *scan;            /* q, k and gates of some rows */
};

struct compiled {
    const struct isa *isa;
    const struct program *p;
    struct compile_options options;
    int threads;
    struct stage *stages;
    int stage_count;
    struct share *shares;      /* [stage][threads] */
    struct state_layout layout[8];
    float **vector;            /* [weight]: norm weights, biases and scans' parameters as float32; convolutions' [taps][channels] */
    float **buffer;            /* [program buffer] -> [rows, width] */
    float *rope_table;         /* [rope][row][2][pairs] of this step */
    int64_t rope_stride;       /* floats of one row of one rope: 2 * most pairs */
    float *gathered;
    unsigned char *input;      /* the shared prepared input */
    struct thread_memory *thread;
    unsigned char *packed;      /* the input of a stage that the one before packs for */
    float *partial;             /* attention: results of [tile][piece or run] */
    _Atomic int *partial_done;  /* [tile]: those that are done */
    /* of the step that runs */
    const struct batch *batch;
    const struct state_memory *state;
    int first_stage, end_stage;
    struct sets {
        int32_t *row[SETS], count[SETS];
    } sets[2]; /* [enum buffer_rows]: all rows (or wanted ones) by their arithmetic */
    void *memory; /* all of the above in one piece */
};

/* The arithmetic of rows that their sequence has so many of. */
static inline enum row_set set_of(const struct compiled *c, int32_t rows) { return rows >= MANY_FROM && !c->options.deterministic ? SET_MANY : SET_FEW; }

/* plan.c */
void plan_stages(struct compiled *c);
/* input.c */
/* Of all forms but FLOATS. */
size_t input_bytes(int64_t n, int32_t rows, unsigned forms);
void input_place(struct input *in, unsigned char *memory, int64_t n, int32_t rows, unsigned forms);
/* rows.c */
void rows_op(struct compiled *c, const struct op *op, int32_t row);
void head_op(struct compiled *c, const struct op *op, int32_t row, int first, int end); /* heads [first, end) of op's buffer */
/* Columns [first, end) of all rows. Operands that lie elsewhere than in their buffer: row r, column i of `buffer` at
 * at[r * stride + i]. */
struct elsewhere {
    int buffer;
    float *at;
    int64_t stride;
};
/* to: where its result goes; NULL: to its buffer */
void columns_op(struct compiled *c, const struct op *op, int64_t first, int64_t end, const struct elsewhere *elsewhere, int count,
                const struct elsewhere *to);
/* Values [first, end) of the whole buffers. */
void cells_op(struct compiled *c, const struct op *op, int64_t first, int64_t end);
void norm_row(const struct compiled *c, const struct op *op, const float *x, float *y);
/* linear.c, attend.c */
size_t normed_bytes(int64_t n, int32_t rows); /* what a stage's norm makes, before its forms */
void linear_sets(struct compiled *c); /* before a step: fills c->sets */
/* The most weight rows that all kernels of a LINEAR stage take at once. */
int64_t stage_panel_rows(const struct stage *s);
void linear_stage(struct compiled *c, int stage, int thread, int threads);
/* Rows [., n) of a part for all rows of both sets, with factor and bias; y: see struct linear_kernel. */
void linear_compute(const struct part *part, const struct input in[SETS], int64_t first, int64_t end, void *scratch, float *y, int64_t stride);
/* Prepared rows come in units that one thread makes at once. */
int32_t linear_units(const struct input *in);
void linear_prepare(struct compiled *c, const struct stage *s, struct input *in, int32_t unit, bool keep);
/* Weight rows of so many bytes in one item where there are few activation rows. */
int64_t linear_few_rows(int64_t row_bytes);
/* experts.c */
void experts_stage(struct compiled *c, int stage, int thread, int threads);
int64_t experts_items(const struct compiled *c, const struct stage *s); /* known before the step; 0: the stage finds out */
size_t experts_input_bytes(const struct stage *s, int64_t rows, bool alone); /* prepared rows of the shared memory, or of a thread's own */
size_t experts_list_bytes(const struct stage *s, int64_t rows);
void attend_stage(struct compiled *c, int stage, int thread, int threads);
enum { ATTEND_ITEMS = 8 }; /* for each thread: with fewer tiles their tokens are shared out too */
int64_t attend_items(const struct compiled *c, const struct op *op);
int64_t attend_partial_floats(const struct compile_options *o, int threads, int v_dim);
int64_t attend_thread_floats(const struct isa *isa, int k_dim, int v_dim);
/* scan.c */
void conv_stage(struct compiled *c, int stage, int thread, int threads);
void scan_stage(struct compiled *c, int stage, int thread, int threads);
int64_t conv_items(const struct compiled *c, const struct op *op);
int64_t scan_items(const struct compiled *c, const struct op *op);
int64_t scan_thread_floats(const struct program *p);
/* step.c */
enum status cpu_step(struct compiled *c, const struct batch *b, const struct state_memory *state, int output, const float **result,
                     struct error *err);
int32_t buffer_rows(const struct compiled *c, int buffer);
int32_t batch_row_of(const struct compiled *c, int buffer, int32_t row);
/* Before the step's first barrier a thread fills its own share of every stage; take() then hands out runs of at most
 * `most` items: the thread's own first, then those of others. False when none are left. */
void share_set(struct compiled *c, int stage, int thread, int threads, int64_t items);
bool share_take(struct compiled *c, int stage, int thread, int threads, int64_t most, int64_t *first, int64_t *end);
int64_t stage_items(const struct compiled *c, const struct stage *s); /* of a LINEAR stage */

#endif
