/* The plain truth: what every operation means, written once without cleverness; all other backends are judged by it.
 * Rows or outputs of one operation are spread over the compute team so that real models are bearable; nothing else. */
#ifndef KERNELS_REFERENCE_REFERENCE_H
#define KERNELS_REFERENCE_REFERENCE_H

#include "kernels/ops.h"

enum { REFERENCE_HEAD_DIM = 2048 };

struct reference {
    const struct program *p;
    struct compile_options options;
    uint64_t block_bytes[8];
    float **buffer;      /* [program buffer] -> [bound on rows, width] */
    float *norm_weights; /* scratch: weights and biases of one NORM or LINEAR, decoded */
    float *row_scratch;  /* [threads, widest weight row] */
    float *scores;       /* [threads, max_context] */
    float *angles;       /* [threads, 2, widest rope / 2] */
    float *gathered;     /* output rows where a buffer holds all rows */
    int64_t widest_row, widest_rope;
    int threads;
    /* of the step that runs */
    const struct batch *batch;
    const struct state_memory *state;
    bool broken; /* another rank gave up */
};

/* Rows that a buffer holds in this step, and the batch row behind one of them. */
int32_t reference_rows(const struct reference *r, int buffer);
int32_t reference_batch_row(const struct reference *r, int buffer, int32_t row);

/* The float32 row of a weight; one value of it. */
void reference_weight_row(const struct weight *w, int64_t row, float *out);
float reference_value(const struct weight *w, int64_t row, int64_t column);
/* bias + sum of x * y */
float reference_dot(const float *x, const float *y, int64_t n, float bias);
double reference_activate(enum activation a, double x);

/* K or V of one token: block layout [layer][K: head][token][k_dim], [V: head][token][v_dim], in the types asked for. */
unsigned char *reference_slot(const struct reference *r, int group, int layer, int32_t block, int slot, int head, bool value);

/* Recurrent state of an operation (from op.at on) in the slot that the sequence reads (NULL: it begins, all is zero) or writes. */
float *reference_state(const struct reference *r, const struct op *op, const struct batch_sequence *s, bool written);

/* A head of K or V to and from its type; groups that it does not fill are filled up with zeros. */
void reference_encode(enum storage type, const float *values, int dim, unsigned char *to);
void reference_decode(enum storage type, const unsigned char *from, int dim, float *values);

/* Calls body(r, op, row, thread) for rows 0..count-1, shared out over the team. */
typedef void reference_body(struct reference *r, const struct op *op, int64_t row, int thread);
void reference_each(struct reference *r, const struct op *op, int64_t count, reference_body *body);

#define OP(kind, name) void reference_##name(struct reference *r, const struct op *op);
#include "kernels/ops.def"
#undef OP

#endif
