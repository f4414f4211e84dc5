/* What the files that ask for a step's work share. */
#ifndef KERNELS_CUDA_STEP_H
#define KERNELS_CUDA_STEP_H

#include "kernels/cuda/cuda.h"

static inline int32_t rows_of(const struct compiled *c, int buffer) { return c->p->buffers[buffer].rows == ROWS_WANTED ? c->batch->wanted : c->batch->rows; }

static inline int only_wanted(const struct compiled *c, int buffer) { return c->p->buffers[buffer].rows == ROWS_WANTED; }

static inline float *buffer(const struct compiled *c, int i) { return i >= 0 ? c->buffer[i] : NULL; }

static inline const float *vector(const struct compiled *c, int i) { return i >= 0 ? c->vector[i] : NULL; }

static inline int64_t values_of(const struct compiled *c, int i) { return rows_of(c, i) * c->p->buffers[i].width; }

static inline int64_t parts(int64_t n, int64_t size) { return (n + size - 1) / size; }

/* Of kernels that follow one another from `first` on. */
static inline enum cuda_kernel nth(enum cuda_kernel first, int i) { return (enum cuda_kernel)((int)first + i); }

/* No rows: nothing to do. */
static inline int launch(const struct compiled *c, enum cuda_kernel kernel, int64_t x, int64_t y, size_t shared, const void *args, size_t size)
{
    struct cuda_launch l = {kernel, (unsigned)x, (unsigned)y, shared, args, size, c->tune.early};
    return x && y ? c->cuda->launch(c->stream, &l) : 0;
}
#define LAUNCH(name, x, y, shared, args) launch(c, CUDA_##name, (x), (y), (shared), &(args), sizeof(args))

/* Operations of their own; the table of all is in step.c. */
int cuda_run_norm(const struct compiled *c, const struct op *op);
int cuda_run_add(const struct compiled *c, const struct op *op);
int cuda_run_gate(const struct compiled *c, const struct op *op);

/* linear.c */
int cuda_run_linear(const struct compiled *c, const struct op *op);
int cuda_run_stage(const struct compiled *c, const struct stage *s); /* LINEARs, and what is done with them */

/* experts.c */
int cuda_run_route(const struct compiled *c, const struct op *op);
int cuda_run_experts(const struct compiled *c, const struct op *op);
int cuda_run_combine(const struct compiled *c, const struct op *op);
int cuda_run_combined(const struct compiled *c, const struct op *op, const struct op *add); /* and an ADD of it; NULL: none */
int cuda_run_expert_stage(const struct compiled *c, const struct stage *s);

/* parts.c */
int cuda_run_send(const struct compiled *c, const struct op *op);
int cuda_run_receive(const struct compiled *c, const struct op *op);
int cuda_run_reduce(const struct compiled *c, const struct op *op);
void cuda_hand_over(const struct compiled *c); /* what the stretch's operations have sent, once it is done */

/* batch.c */
int cuda_send_batch(struct compiled *c);

#endif
