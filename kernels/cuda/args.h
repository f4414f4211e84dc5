/* What kernels are handed, by value. All pointers are the device's. C and C++. */
#ifndef KERNELS_CUDA_ARGS_H
#define KERNELS_CUDA_ARGS_H

#include <stdalign.h>
#include <stdint.h>

#include "kernels/choice.h"

enum { PREFETCH_LINE = 128 }; /* bytes that PREFETCH brings */
enum { CUDA_THREADS = 128, CUDA_WARPS = CUDA_THREADS / 32 }; /* of every block */
enum { LINEAR_ROWS = 8 };    /* activation rows that share a decoded weight */
enum { GEMV_ROWS = 4, GEMV_TILE = 16 }; /* the same for bytes, and rows that a block does one such group after another */
enum { /* by matrix units (matrix.h): values of a run; classes of runs, each summed up alone; parts of the arithmetic */
    MATRIX_RUN = 256,
    MATRIX_CLASSES = CUDA_WARPS
};
enum { /* tiles of 8 rows: of a block at most, up to which weights are not shared by warps; halves of a run in shared memory */
    MATRIX_TILES = 8,
    MATRIX_FEW_TILES = 2,
    MATRIX_STAGES = 3
};
enum { /* by Hopper's warpgroups (hopper.h): outputs of a tile, and rows at most; values of a row in a stage; a run is in the stages at once */
    HOPPER_OUTS = 128,
    HOPPER_ROWS = 256,
    HOPPER_DEPTH = 64,
    HOPPER_STAGES = MATRIX_RUN / HOPPER_DEPTH,
    HOPPER_SLOTS = 2,
    HOPPER_GROUPS = 2, /* that multiply */
    HOPPER_THREADS = 128 * (HOPPER_GROUPS + 1),
    HOPPER_ROW_BYTES = 17 * 16, /* of a run in a slot: the longest, of Q8_0; odd, so that neighbours do not ask the same banks */
    HOPPER_SLOT_BYTES = HOPPER_OUTS * HOPPER_ROW_BYTES,
    HOPPER_RESULT_BYTES = HOPPER_GROUPS * 32 * (64 + 4) * 4
};
/* Of a stage; of a block, with what is lost by alignment and 8 bytes for each barrier. */
#define HOPPER_STAGE_BYTES(runs, rows) (((rows) + ((runs) ? 0 : HOPPER_OUTS)) * HOPPER_DEPTH * 2)
#define HOPPER_SHARED(runs, rows)                                                                                                  \
    (1024 + HOPPER_STAGES * HOPPER_STAGE_BYTES(runs, rows) + ((runs) ? HOPPER_SLOTS * HOPPER_SLOT_BYTES : 0) + HOPPER_RESULT_BYTES + \
     2 * (HOPPER_STAGES + HOPPER_SLOTS) * 8)
enum { ATTEND_PIECE = 256 }; /* tokens whose sums are taken together: part of the arithmetic */
enum { ATTEND_HEADS = 8, ATTEND_MERGE = 64 }; /* query heads of a block at most; pieces that are put together at once */
/* Floats that a head of K and V takes in shared memory; of V also where pieces wait for each other. */
#define ATTEND_K_WIDE(dim) (((dim) + 7) / 8 * 8)
#define ATTEND_V_WIDE(dim) (((dim) + 2 + 7) / 8 * 8)
/* Bytes that columns of few rows share (columns.h). */
#define COLUMNS_SHARED(columns, k_dim, v_dim)                                                                            \
    (ATTEND_PIECE / SLOTS_PER_BLOCK * 8 + CUDA_THREADS * 32 + (columns) * (2 * 8 + ((k_dim) + 31) / 32 * 32 * 2 + 3 * CUDA_WARPS * 4 + 2 * 4 * ATTEND_V_WIDE(v_dim)))
/* By matrix units (prompt.h): rows of a block, each of one query head; tokens of a tile; 2-byte values of a row in shared memory, so that
 * no bank is asked twice at once. */
enum { PROMPT_ROWS = 64 };
#define PROMPT_TOKENS(dim) ((dim) > 128 ? 32 : 64)
#define PROMPT_VALUES(dim) ((dim) > 192 ? 128 : (dim)) /* of V that a block sums up: registers have no room for more */
#define PROMPT_K_STRIDE(dim) ((dim) + 32)
#define PROMPT_V_STRIDE(dim) ((dim) + 8)
#define PROMPT_SHARED(dim) (PROMPT_TOKENS(dim) * 2 * (PROMPT_K_STRIDE(dim) + PROMPT_V_STRIDE(PROMPT_VALUES(dim))))
enum { CHOOSE_SLICE = 1024 };  /* values of a row that a block looks at */
enum { SLOTS_PER_BLOCK = 16 }; /* BLOCK_TOKENS */

/* Codebooks of the IQ types (formats/grids.h), one copy on each device. */
struct grids {
    uint64_t iq1_s[2048], iq2_xxs[256], iq2_xs[512], iq2_s[1024];
    uint32_t iq3_xxs[256], iq3_s[512];
};

/* A sequence of the step's batch. */
struct device_sequence {
    int64_t total;  /* tokens in its cache behind this step's STOREs */
    int32_t first, rows; /* of the step */
    int64_t tables; /* of group 0 in the list of block ids; other groups follow, `stride` ids each */
    int64_t stride;
};

/* The step's batch as kernels see it; written anew before each step. */
struct device_batch {
    const int32_t *token;    /* [rows]; -1 - i: embedding i */
    const float *embeddings; /* [i][embedding_width] */
    const int32_t *sequence; /* [rows] */
    const int64_t *slot;     /* [rows]: its token's place in the sequence, the cache slot */
    const int32_t *wanted;   /* [wanted] -> row */
    const struct device_sequence *sequences;
    const int32_t *blocks;
    int64_t embedding_width;
};

struct embed_args {
    struct device_batch batch;
    float *y; /* [rows, width] */
    const unsigned char *weight;
    const struct grids *grids;
    int64_t width, row_bytes;
    float scale, factor; /* factor 0: none */
    int format;          /* enum storage */
    int planes;          /* the weight's rows are planes */
    int only_wanted;     /* y's rows are the wanted ones */
};

struct norm_args { /* a block for each group of n values */
    const float *x;
    float *y;
    const float *weight, *bias; /* [weight_groups, n], [bias_groups, n]; NULL: none */
    int64_t n;
    float epsilon, offset;
    int centred;
    int weight_groups, bias_groups; /* of a row that have values of their own; 1: all have the same */
};

struct linear_args { /* a warp for each output, LINEAR_ROWS rows at a time */
    const float *x; /* [rows, in] */
    float *y;       /* [rows, out] */
    const unsigned char *weight;
    const struct grids *grids;
    const float *bias; /* [out], NULL: none */
    int64_t in, out, row_bytes;
    float factor; /* 0: none */
    int rows;
};

struct device_plane { /* of a block: bytes [offset, offset + bytes) go to the row's bytes from `start` on */
    int offset, bytes;
    int64_t start;
};

struct relay_args {
    const unsigned char *from; /* [blocks][block_bytes] */
    unsigned char *to;         /* the weight's first row */
    int64_t first, blocks, row_blocks, row_bytes; /* first: number of the first block in the weight */
    int block_bytes, planes;
    struct device_plane plane[4];
};

struct input_args { /* a block for each row */
    const float *x;  /* [rows, n] */
    float *y;        /* [rows, n] floats too; NULL: none */
    uint16_t *narrow; /* [rows, padded] bf16; NULL: none */
    signed char *q;  /* [rows, padded]; NULL: none */
    float *scales;   /* [rows, padded / 16][2]: scale; scale * sum of the codes */
    int64_t n, padded; /* padded: to 256 */
    const float *weight, *bias; /* of the norm */
    float epsilon, offset;
    int norm, centred;
    int woven; /* 1 + enum storage: `narrow` in the order of its runs (weave.h); 0: in its own */
};

struct weave_args { /* a thread for each 16 values */
    const uint16_t *x; /* [rows, n] bf16, n a multiple of 256 */
    uint16_t *y;       /* the same, woven */
    int64_t count;     /* groups of 16 */
    int format;
};

struct gemv_part {
    const unsigned char *weight;
    const float *bias; /* [out], NULL: none */
    float *y;          /* [rows, out] */
    int64_t out, row_bytes;
    float factor; /* 0: none */
};

struct gemv_args { /* of LINEARs of one format over one input: a warp for each output, or by matrix units */
    struct gemv_part part[3];
    int parts;
    int rows;
    int64_t outs, in, padded; /* outs: of all parts, of one where two are gated */
    const float *x;           /* [rows, in] */
    const signed char *q;     /* [rows, padded] */
    const float *scales;
    const uint16_t *narrow;   /* [rows, padded] bf16 */
    const float *add;         /* [rows, out]: y = add + scale * (W x + b); NULL: nothing */
    float scale;
    int activation;
    int prefetch; /* bytes of a row of weights that are asked for before the kernel may begin */
    int gated; /* what follows: matrix units. Part 0 goes through the activation and is multiplied with part 1 */
    int split; /* a block for each class of runs */
    int64_t blocks; /* in x */
    float *partial;    /* [blocks, classes, tiles * 4, CUDA_THREADS] */
    unsigned *arrived; /* [blocks]: zeros before and behind */
    uint16_t *handed;  /* the gated result as bf16, too, [rows, out]; NULL: not */
    const int32_t *to; /* [rows]: where a row's results go in y (handed: not); NULL: as they come */
    int64_t between;   /* then so many rows of y lie between one and the next */
};

struct route_args { /* a block for each row; shared memory: ROUTE_SHARED(experts, groups) */
    const float *scores, *bias; /* [rows, experts]; [experts] or NULL */
    float *y;                   /* [rows, 2, chosen] */
    int experts, chosen, sigmoid, normalised, groups, groups_chosen, group_best;
    float scale;
};
#define ROUTE_SHARED(experts, groups) ((CUDA_WARPS + 2 * (experts) + 2 * (groups)) * 4)

/* Slots (row and place) by the expert that they go to, and tiles of tile_rows of them at most: [0] how many tiles, then for each: its
 * expert, its first place in the order, its slots. One block; shared memory: GROUP_SHARED(experts). */
struct group_args {
    const float *routing; /* [rows, 2, chosen] */
    int32_t *order, *tiles;
    int rows, chosen, experts, tile_rows;
};
#define GROUP_SHARED(experts) ((CUDA_THREADS + 2 * (experts)) * 4)

struct gather_args { /* a block for each place in the order, or without one for each slot of all rows, then the next; the rows behind them, as bf16 */
    const float *x; /* [., n] */
    uint16_t *y;    /* [places, padded] */
    const int32_t *order; /* NULL: slots go to the matrix of their number */
    int64_t n, padded;
    int slots; /* that share a row of x; without an order: slots of x */
    int rows;  /* without an order */
};

struct experts_args { /* by a plain kernel: a warp for each output, y: a slot */
    const float *x, *routing; /* routing NULL: slot i has matrix i */
    float *y; /* [rows, chosen, out] */
    const unsigned char *weight;
    const struct grids *grids;
    const float *bias; /* [experts, out], NULL: none */
    int64_t in, out, row_bytes, stack; /* stack: bytes from one expert to the next */
    float factor; /* 0: none */
    int experts, chosen, own, format; /* own: every slot has a row of x */
};

struct experts_matrix_args { /* by matrix units: blocks of g as they are for one expert's rows; y: a tile */
    struct gemv_args g; /* narrow: in the order; to: the order */
    const int32_t *tiles; /* NULL: all rows to all matrices, slot by slot */
    int64_t row_tiles;    /* then of each matrix */
    int own;              /* and whether every slot has rows of its own */
    int64_t stack[2]; /* of each part */
};

struct combine_args { /* a thread for each value */
    const float *x;       /* [rows, slots, n] */
    const float *weights; /* [rows, stride]: the last are the slots' */
    const float *add;     /* [rows, n]: y = add + scale * sum; NULL: nothing */
    float *y;
    float scale;
    int64_t n, stride, count; /* count: rows * n */
    int slots, activation;
};

/* A matrix of which tensor copies take boxes, as the driver has it (cuTensorMapEncodeTiled). */
struct tensor_map {
    alignas(64) uint64_t words[16];
};

struct hopper_args { /* g.blocks: tiles of outputs of all parts */
    struct tensor_map x;         /* boxes of HOPPER_DEPTH values of a tile's rows */
    struct tensor_map weight[3]; /* of two bytes a value: of HOPPER_OUTS rows, of 8 where two are gated */
    struct gemv_args g;
};

struct rope_args {
    struct device_batch batch;
    float *x;           /* [rows, heads, head_dim] */
    const float *table; /* [batch row][stride]: cosines, then at stride / 2 sines */
    int64_t stride, count; /* count: rows * heads * pairs */
    int heads, head_dim, pairs, interleaved, only_wanted;
};

/* K or V in one layer of a block: [head][head_bytes], see place.h. */
struct device_part {
    int type, dim, filled; /* enum storage; values of a head, and filled up */
    int64_t offset, head_bytes; /* head_bytes: of all slots */
};

struct device_state {
    unsigned char *pool; /* of the group; block b at pool + b * block_bytes */
    int64_t block_bytes;
    int group;
    struct device_part k, v;
};

struct store_args { /* a block for each (row, head) of one part */
    struct device_batch batch;
    struct device_state state;
    struct device_part part;
    const float *x; /* [rows, heads, dim] */
};

/* Which of it one launch does: rows and state of a sequence in one block, where sequences have few rows; else the rows first. */
enum conv_pass { CONV_ALL, CONV_ROWS, CONV_KEEP };
enum { CONV_PIECE = 16 }; /* rows of a block */

struct conv_args { /* a thread for each channel */
    struct device_batch batch;
    struct device_state state;
    const float *x, *w, *bias; /* [rows, width]; [width, taps]; [width] or NULL */
    float *y;
    int64_t at, width;         /* at: of the operation's state in the layer's */
    enum conv_pass pass;
    int taps, activation, rows;
};

enum { SCAN_COLUMNS = 8 * CUDA_WARPS, SCAN_KEYS = 256 }; /* of S, of a block; values of a key at most */
/* Of many rows (chunks.h): columns of a block, rows of a chunk; bytes for q, k and two matrices of a chunk, in two parts each, and its gates. */
enum { CHUNK_COLUMNS = 16 * CUDA_WARPS, CHUNK_ROWS = 32 };
#define CHUNK_SHARED(keys) (CHUNK_ROWS * (3 * 4 + 2 * 2 * 2 * ((keys) + 8 + CHUNK_ROWS + 8)))
struct scan_args {
    struct device_batch batch;
    struct device_state state;
    const float *x, *z, *w; /* [rows, x_width]; [rows, 1 or 2, heads]; [3, heads] */
    float *y;               /* [rows, heads, v_dim] */
    int64_t at, x_width, q, k, v;
    int heads, key_heads, k_dim, v_dim;
    int tiled, delta, normalised;
    int wide; /* S lies at multiples of 16 bytes, and so do its rows */
    int many; /* rows of a sequence from which another kernel does it; 0: none does */
    float dt_least, dt_most, scale;
};

struct turn_part { /* q, k or v */
    float *x; /* [rows, heads, dim] */
    int heads, dim;
    int kept;              /* written back, not only to the cache */
    struct norm_args norm; /* n 0: none */
    struct rope_args rope; /* pairs 0: none */
};

struct turn_args { /* a block for each (row, head) of all parts; shared memory: CUDA_WARPS floats and the longest head */
    struct device_batch batch;
    struct device_state state;
    struct turn_part part[3];
};

struct attend_args { /* a block for each (row or rows, K and V head, group of its query heads), and for each piece of the cache where pieces > 1 */
    struct device_batch batch;
    struct device_state state;
    const float *q; /* [rows, heads, k_dim] */
    float *y;       /* [rows, heads, v_dim] */
    uint16_t *handed; /* the same as bf16; NULL: not */
    float *partial; /* [rows, pieces, heads, ATTEND_V_WIDE(v_dim)] */
    unsigned *arrived; /* [rows, groups of all heads]: zeros before and behind */
    int heads, kv_heads, window, full, only_wanted;
    int group;          /* query heads of a block */
    int pieces;
    int many;           /* rows of a sequence from which prompt.h does it; 0: never */
    int rows, sequences, ahead; /* columns.h: neighbouring rows of a block; of the step; whether V is asked for before K is read */
    float scale, cap;
};

struct add_args {
    const float *x, *z;
    float *y;
    float scale;
    int64_t count;
};

struct gate_args {
    const float *x, *z; /* z: NULL or a factor */
    float *y;
    int activation; /* enum activation */
    int64_t count;
};

struct scale_args {
    const float *x;
    float *y;
    float scale, cap;
    int64_t count;
};

struct join_args { /* a thread for each value: n_x of x, then n_z of z, piece by piece */
    const float *x, *z;
    float *y;
    int64_t n_x, n_z, count;
};

struct select_args { /* y[i] = x[rows[i]] */
    const float *x;
    float *y;
    const int32_t *rows; /* NULL: i itself */
    int64_t width, count; /* count: rows * width */
};

/* A struct row_choice on the device; edits and words are those of all choices, one after another. */
struct choose_row {
    int64_t row; /* of the logits */
    int64_t first_word; /* -1: all are allowed */
    int64_t words;
    int32_t best, first_edit, edits;
    float temperature;
};

struct choose_found {
    unsigned long long norm, total;
    float most, best;
    unsigned count, unused;
};

/* Shared memory: scores [CHOOSE_SLICE], bins [CHOICE_BINS], two sums of weights, CUDA_THREADS words. */
enum {
    CHOOSE_BINS_AT = CHOOSE_SLICE,
    CHOOSE_SUMS_AT = CHOOSE_BINS_AT + CHOICE_BINS,
    CHOOSE_ROOM_AT = CHOOSE_SUMS_AT + 4,
    CHOOSE_SHARED_BYTES = (CHOOSE_ROOM_AT + CUDA_THREADS) * 4
};

enum choose_pass { CHOOSE_MOST, CHOOSE_WEIGH, CHOOSE_LIST };

struct choose_args { /* blocks: (slices of the row, choices); shared memory: CHOOSE_SHARED_BYTES */
    enum choose_pass pass;
    int room; /* of a list */
    const float *logits; /* [rows, vocab] */
    int64_t vocab;
    const struct choose_row *rows;  /* [choices] */
    const struct score_edit *edits;
    const uint32_t *allowed;
    float *slices;                  /* [choices][slices][2]: the best score, the largest logit */
    unsigned *bins;                 /* [choices][CHOICE_BINS]: how many scores */
    struct choose_found *found;     /* [choices] */
    struct token_score *list;         /* [choices][room] */
    float *listed_logits;           /* [choices][room] */
};

struct unpack_args { /* a block for each row */
    const unsigned char *weight;
    const struct grids *grids;
    uint16_t *y; /* [rows, in], bf16 */
    int64_t in, row_bytes;
    float factor; /* 0: none */
    int format;   /* enum storage */
    int planes;   /* rows are planes */
};

struct narrow_args {
    const float *x;
    uint16_t *y; /* bf16 */
    int64_t count;
};

struct spread_args {
    const float *bias; /* [out] */
    float *y;          /* [rows, out] */
    int64_t out, count;
};

#endif
