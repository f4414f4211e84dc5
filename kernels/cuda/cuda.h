/* Private to kernels/cuda: the backend's side in C. The other side are the kernels (code.h and what includes it) and the device
 * (interface.h). */
#ifndef KERNELS_CUDA_CUDA_H
#define KERNELS_CUDA_CUDA_H

#include <pthread.h>

#include "kernels/cuda/interface.h"
#include "kernels/ops.h"

enum { CUDA_HEAD_DIM = 2048, UPLOAD_PIECE = 4 << 20, UPLOAD_PIECES = 4 };

/* tune.c. Settings by name (tune.def, products.def); STATUS_USAGE where the environment's cannot be read. */
struct tuning {
#define TUNE(setting, standard) int setting;
#include "kernels/cuda/tune.def"
#undef TUNE
#define PRODUCT(bits, rows, outs, in, standard) int bits##_##rows##_##outs##_##in;
#include "kernels/cuda/products.def"
#undef PRODUCT
};
enum status cuda_tuning(struct tuning *out, struct error *err);

/* Memory of the host handed out piece by piece, each at a multiple of 256; base NULL: only counted. */
struct room {
    unsigned char *base;
    size_t used;
};
void *room_take(struct room *r, int64_t count, size_t size);

/* Memory of the device: an allocation for each piece, so that tools that watch memory see where one ends. */
struct device_room {
    void **list; /* [capacity]; NULL: only counted */
    int count, capacity;
    size_t used;
    int code; /* of the first allocation that failed */
};

/* Blocks of state on their way to or from the host, beside the steps. */
struct transfers {
    pthread_mutex_t lock;
    struct cuda_stream *stream;
    unsigned char *block; /* pinned: one block */
};

/* Room for choices; on the device but for the host_ ones, which are pinned. */
struct chooser {
    unsigned char *asked, *host_asked; /* rows, edits, words */
    size_t asked_bytes;
    float *slices;
    unsigned *bins;
    unsigned char *answer, *host_answer; /* [choices] found, [choices][room] candidates, then logits */
};

/* How a LINEAR is done: by the plain kernel, from bytes, from floats, by matrix units from bf16. */
enum fast { FAST_NOT, FAST_BYTES, FAST_FLOATS, FAST_MATRIX };
enum { STAGE_LINEARS = 3, INPUT_UNIT = 256 };

/* formats.c. What there is for a format: its kernels follow one another from the first of each kind on; 0 (CUDA_embed): none of it. */
struct format_kernels {
    enum fast fast; /* besides `plain`, with no matrix units for codes; cuda_fast() says what is taken */
    enum cuda_kernel plain, gemv, matrix, hopper, experts; /* one; four (interface.h); four, two, two, by rows (matrix.def, hopper.def, experts.def) */
};
extern const struct format_kernels cuda_format_kernels[STORAGE_COUNT];

/* Operations that are done together (fuse.c). */
struct stage {
    int first, ops;
    int linears; /* 0: one operation by itself */
    const struct op *norm, *linear[STAGE_LINEARS], *tail; /* norm, tail: NULL where there is none */
    bool bytes, floats, narrow; /* what the linears read */
    bool hands, handed; /* writes bf16 for the stage behind; reads what the one before has written */
    int experts; /* EXPERTS by `expert`, and their GATE as tail; or a COMBINE, and its ADD */
    const struct op *expert[2], *combine;
    bool orders; /* makes the order of experts first, that those behind it use */
    const struct op *store, *head_norm[2], *rope[2]; /* of q and k, in front of a STORE; NULL where there is none */
};

/* Of LINEARs by matrix units; the numbers of products.def. */
enum product { PRODUCT_OWN, PRODUCT_HOPPER, PRODUCT_CUBLAS };

struct ring;      /* upload.c */
struct streaming; /* stream.c */

/* Products by cuBLAS (gemm.c). */
struct gemm {
    int32_t rows; /* of a sequence at least */
    int64_t tile_values, widest;
    uint16_t *tile, *x; /* on the device; NULL: no cuBLAS */
};

/* Steps that are replayed (graph.c). */
enum { CUDA_GRAPHS = 16 };
struct graph_class {
    int32_t rows, sequences, wanted;
    int output;
    int32_t most_rows; /* of a sequence, as are */
    int64_t tokens;    /* at most */
    void *pool[8];
};
struct graph {
    struct graph_class class;
    struct cuda_graph *graph; /* NULL: seen once */
    uint64_t used;            /* number of the step; 0: never */
};
struct graphs {
    bool off;
    uint64_t steps;
    struct graph list[CUDA_GRAPHS];
};

struct compiled {
    const struct cuda_interface *cuda;
    struct cuda_stream *stream;
    struct transfers *transfers;
    struct cuda_info info;
    const struct program *p;
    struct compile_options options;
    struct device_state state[8]; /* [group], of layer 0; pool is the step's */
    int64_t layer_bytes[8];
    int64_t block_bytes[8];
    int64_t embedding_width;      /* the widest EMBED's */
    int64_t rope_stride;          /* floats of one row of one rope */
    double upload_seconds;
    uint64_t upload_bytes;
    /* on the device */
    struct device_room weights, scratch;
    unsigned char **weight;       /* [weight]: stored bytes, rows one after another; NULL: no LINEAR or EMBED has it */
    float **vector;               /* [weight]: norm weights and biases as float32 */
    float **buffer;               /* [buffer]: [rows, width] */
    struct grids *grids;
    unsigned char *step;          /* the step's batch */
    float *gathered;
    unsigned char *slots;         /* of streamed matrices */
    float *partial;               /* sums of pieces of the cache (attend.c) */
    /* pinned, on the host */
    unsigned char *pinned;        /* the allocation */
    unsigned char *host_step;     /* what goes to `step` */
    float *result;
    float **staged;               /* [buffer]: rows on their way to or from other parts */
    float *reduced;
    bool plain;                   /* INGOT_CUDA_KERNELS=plain: no fast kernels, weights as they are stored */
    bool bytes;                   /* INGOT_CUDA_KERNELS=bytes: no matrix units */
    struct tuning tune;
    struct stage *stage;          /* [stages] */
    int stages;
    signed char *input;           /* a stage's input as bytes, [rows, widest] */
    float *input_scales;
    uint16_t *narrow;             /* or as bf16, [rows, widest] */
    uint16_t *handed;             /* the same, written by the stage before */
    float *split;                 /* sums of classes (matrix.h) */
    int32_t *expert_order, *expert_tiles;   /* of the latest ROUTE (experts.c) */
    uint16_t *expert_rows, *expert_handed;  /* inputs of experts as bf16, in that order */
    /* of the step that runs */
    const struct batch *batch;
    int begin, end; /* its operations */
    const struct state_memory *memory;
    struct device_batch device_batch;
    const float *ropes; /* [rope][row][rope_stride] */
    unsigned *arrived;  /* blocks that are done with their piece; see attend_args */
    unsigned *arrived_classes; /* and with their class; see gemv_args */
    int64_t longest;    /* tokens of a sequence */
    int32_t most_rows;  /* of one, prompt.h's aside */
    bool replayed;      /* the batch lies where its class has it */
    int output;         /* the buffer that rows are chosen from */
    bool pending;       /* the step may still run */
    struct chooser chooser;
    struct gemm gemm;
    bool hopper;        /* prompts may go through warpgroups (hopper.c) */
    struct graphs graphs;
    struct streaming *streaming; /* NULL: no operation is streamed */
};

enum { RANK_GAVE_UP = -1 }; /* beside the device's own numbers */

/* backend.c */
extern const struct backend cuda_backend;
enum status cuda_compile_with(const struct cuda_interface *cuda, struct compiled **out, const struct program *p, const struct compile_options *o,
                              struct error *err);
enum status cuda_state_open_with(const struct cuda_interface *cuda, const struct program *p, const struct compile_options *o, const int32_t *blocks,
                                 struct state_memory *out, struct error *err);
void cuda_state_close_with(const struct cuda_interface *cuda, const struct compile_options *o, struct state_memory *memory);
/* A call that failed: "cuda:0 (name): what: words". Out of memory is STATUS_NO_ROOM, all else STATUS_DEVICE. */
enum status cuda_failed(const struct compiled *c, int code, struct error *err, const char *format, ...) __attribute__((format(printf, 4, 5)));
int64_t cuda_rows_bound(const struct program *p, const struct compile_options *o, int buffer);
bool cuda_is_vector(const struct program *p, int weight);
bool cuda_is_matrix(const struct program *p, int weight);
int64_t cuda_row_bytes(const struct compiled *c, const struct weight *w); /* on the device */

/* relay.c. How the weight's blocks are moved when they arrive; false: they stay as they are. */
bool cuda_relay(const struct compiled *c, const struct weight *w, struct relay_args *out);

/* fuse.c */
enum fast cuda_fast(const struct compiled *c, const struct weight *w);
bool cuda_experts_matrix(const struct compiled *c, const struct op *op); /* by matrix units */
void cuda_fuse(struct compiled *c);
int64_t cuda_widest_input(const struct compiled *c, enum fast kind); /* of LINEARs done so, padded; 0: none */

int64_t cuda_widest_handed(const struct compiled *c); /* of inputs that the stage before writes as bf16 */

/* linear.c */
int64_t cuda_split_blocks(const struct compiled *c, int32_t rows); /* of a LINEAR that blocks share out by classes, at most */
int64_t cuda_split_floats(const struct compiled *c);               /* that their sums wait in */

/* shelf.c: see struct backend */
enum status cuda_shelf_open(struct shelf **out, const struct compiled *c, const int32_t *places, struct error *err);
enum status cuda_shelf_move(struct shelf *s, const struct state_memory *state, int group, int32_t block, int32_t place, bool away, struct error *err);
enum status cuda_shelf_wait(struct shelf *s, struct error *err);
void cuda_shelf_close(struct shelf *s);
/* experts.c */
struct experts_sizes {
    int64_t slots, tiles, values; /* places in the order; numbers of the list of tiles; of inputs as bf16 */
};
void cuda_experts_sizes(const struct compiled *c, struct experts_sizes *out);

/* attend.c */
int64_t cuda_round_up(int64_t count); /* to a power of two */
int64_t cuda_attend_partial(const struct compiled *c); /* floats that pieces wait in */
int64_t cuda_attend_arrivals(const struct compiled *c, int32_t rows); /* zeros that a step of so many rows brings along */
bool cuda_prompt(const struct compiled *c, int32_t rows); /* matrix units attend for a sequence with so many, where they can */
int cuda_attend(const struct compiled *c, const struct op *op, struct attend_args *a, int32_t rows, int64_t tokens);

/* graph.c */
void cuda_graph_plan(struct compiled *c);
bool cuda_graph_serves(const struct compiled *c); /* the step's batch may be replayed */
struct graph *cuda_graph_find(struct compiled *c, int output); /* of the step's class; NULL: it is the first */
void cuda_graph_close(struct compiled *c);

/* batch.c */
size_t cuda_step_bytes(const struct compiled *c); /* of the batch at most */

/* step.c */
enum status cuda_step(struct compiled *c, const struct batch *b, const struct state_memory *state, int output, const float **result, struct error *err);
enum status cuda_complete(struct compiled *c, struct error *err); /* waits for it */

/* choose.c */
int32_t cuda_most_choices(const struct compiled *c);
size_t cuda_asked_bytes(const struct compiled *c);
size_t cuda_answer_bytes(int32_t choices, int32_t room);
int64_t cuda_widest_output(const struct compiled *c);
enum status cuda_choose(struct compiled *c, struct row_choice *choices, int32_t count, struct error *err);
enum status cuda_fetch(struct compiled *c, int32_t wanted, const float **row, struct error *err);

/* gemm.c */
void cuda_gemm_plan(struct compiled *c);
bool cuda_gemm_serves(const struct compiled *c, const struct op *op, int32_t rows);
int cuda_gemm_linear(const struct compiled *c, const struct op *op, int32_t first_row, int32_t rows);

/* hopper.c */
void cuda_hopper_find(struct compiled *c); /* c->hopper, once the device is known */
int cuda_hopper_run(const struct compiled *c, enum storage format, const struct gemv_args *g); /* x in the order of the format (weave.h) */

/* product.c */
enum product cuda_product(const struct compiled *c, const struct stage *s, int32_t rows); /* for a sequence with so many rows in the step */
bool cuda_product_many(const struct compiled *c, int32_t rows); /* so many may choose something else than PRODUCT_OWN */

/* able.c */
bool cuda_runs(const struct program *p, const struct compile_options *o, int op, char *why, size_t size);
bool cuda_runs_with(const struct cuda_interface *cuda, const struct program *p, const struct compile_options *o, int op, char *why, size_t size);

/* upload.c: weights, vectors and codebooks to where they belong. */
enum status cuda_upload(struct compiled *c, struct error *err);
/* A ring for weights that are sent later; numbers as the device has them. */
size_t cuda_ring_bytes(void); /* on the device, and pinned */
enum status cuda_ring_open(const struct compiled *c, struct cuda_stream *stream, struct ring **out, struct error *err);
int cuda_ring_send(struct ring *r, const struct weight *w, unsigned char *to);
int cuda_ring_end(struct ring *r); /* all of it is there */
void cuda_ring_close(struct ring *r); /* NULL is fine */

/* stream.c */
bool cuda_streamed(const struct program *p, int weight); /* it comes with a step; else it is there */
size_t cuda_stream_bytes(const struct compiled *c); /* on the device; 0: nothing is streamed */
enum status cuda_stream_open(struct compiled *c, unsigned char *slots, struct error *err);
void cuda_stream_close(struct compiled *c);
void cuda_stream_begin(const struct compiled *c); /* a step */
int cuda_stream_bring(const struct compiled *c, int op); /* before an operation, what it needs */
int cuda_stream_leave(const struct compiled *c, int op); /* behind it */

/* state.c */
void cuda_state_layout(struct compiled *c);
enum status cuda_read_state(const struct compiled *c, const struct state_memory *state, int group, int32_t block, int first, int count, float *out,
                            struct error *err);
enum status cuda_write_state(const struct compiled *c, struct state_memory *state, int group, int32_t block, int first, int count, const float *in,
                             struct error *err);
enum status cuda_copy_state(const struct compiled *c, struct state_memory *state, int group, int32_t to, int32_t from, struct error *err);

/* library.c: libingot-cuda.so, once all that a device needs is there; STATUS_DEVICE says what is missing. */
enum status cuda_open_library(const struct cuda_interface **out, struct error *err); /* whatever devices there are */
enum status cuda_library(const struct cuda_interface **out, int device, struct cuda_info *info, struct error *err);

#endif
