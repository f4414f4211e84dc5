/* Products of many rows by cuBLAS: a weight is unpacked to bf16 tile by tile, activations are rounded to bf16, sums are float32.
 *
 * Each sequence with many rows in the step goes on its own, so that a row's bits do not depend on what else is in the batch. They do
 * depend on how a prompt is cut into pieces: not with `deterministic`. */
#include "kernels/cuda/cuda.h"

enum { GEMM_TILE = 32 << 20 /* bytes of an unpacked tile */ };

static int64_t parts(int64_t n, int64_t size) { return (n + size - 1) / size; }

void cuda_gemm_plan(struct compiled *c)
{
    const struct program *p = c->p;
    c->gemm = (struct gemm){.rows = c->options.deterministic || c->options.max_rows < c->tune.gemm_rows ? INT32_MAX : c->tune.gemm_rows};
    for (int i = 0; i < p->op_count && c->gemm.rows < INT32_MAX; i++)
        if (p->ops[i].kind == OP_LINEAR && p->buffers[p->ops[i].x].rows == ROWS_ALL) {
            const struct weight *w = &p->weights[p->ops[i].w];
            int64_t fits = GEMM_TILE / 2 / w->in, tile = (w->out < fits ? w->out : fits > 1 ? fits : 1) * w->in;
            c->gemm.tile_values = tile > c->gemm.tile_values ? tile : c->gemm.tile_values;
            c->gemm.widest = w->in > c->gemm.widest ? w->in : c->gemm.widest;
        }
}

bool cuda_gemm_serves(const struct compiled *c, const struct op *op, int32_t rows)
{
    return c->gemm.x && rows >= c->gemm.rows && c->p->buffers[op->x].rows == ROWS_ALL;
}

static int narrow(const struct compiled *c, const float *x, int64_t count)
{
    struct narrow_args a = {x, c->gemm.x, count};
    return c->cuda->launch(c->stream, &(struct cuda_launch){CUDA_narrow, (unsigned)parts(count, CUDA_THREADS), 1, 0, &a, sizeof a, c->tune.early});
}

static int spread(const struct compiled *c, const float *bias, float *y, int64_t out, int64_t count)
{
    struct spread_args a = {bias, y, out, count};
    return c->cuda->launch(c->stream, &(struct cuda_launch){CUDA_spread, (unsigned)parts(count, CUDA_THREADS), 1, 0, &a, sizeof a, c->tune.early});
}

/* Outputs first .. first + count of a weight as bf16. */
static int unpack(const struct compiled *c, const struct op *op, int64_t first, int64_t count)
{
    const struct weight *w = &c->p->weights[op->w];
    int64_t row_bytes = cuda_row_bytes(c, w);
    struct unpack_args a = {c->weight[op->w] + first * row_bytes, c->grids, c->gemm.tile, w->in, row_bytes, w->factor, w->format,
                            cuda_relay(c, w, &(struct relay_args){0})};
    return c->cuda->launch(c->stream, &(struct cuda_launch){CUDA_unpack, (unsigned)count, 1, 0, &a, sizeof a, c->tune.early});
}

int cuda_gemm_linear(const struct compiled *c, const struct op *op, int32_t first_row, int32_t rows)
{
    const struct weight *w = &c->p->weights[op->w];
    float *y = c->buffer[op->y] + first_row * w->out;
    int64_t tile = c->gemm.tile_values / w->in;
    int code = narrow(c, c->buffer[op->x] + first_row * w->in, rows * w->in);
    if (!code && op->b >= 0)
        code = spread(c, c->vector[op->b], y, w->out, rows * w->out);
    for (int64_t at = 0; at < w->out && !code; at += tile) {
        int64_t count = w->out - at < tile ? w->out - at : tile;
        struct cuda_gemm g = {.w = c->gemm.tile, .x = c->gemm.x, .y = y + at, .out = count, .rows = rows, .in = w->in, .y_stride = w->out, .add = op->b >= 0};
        if (!(code = unpack(c, op, at, count)))
            code = c->cuda->gemm(c->stream, &g);
    }
    return code;
}
