/* CONV and SCAN: which kernels, and for which rows. */
#include "kernels/cuda/step.h"

/* Rows of the sequence that has most, at least: what a step that is recorded goes by follows from its class. */
static int32_t most_rows(const struct compiled *c)
{
    int32_t most = c->most_rows;
    for (int32_t i = 0; i < c->batch->sequences && !c->replayed; i++)
        most = c->batch->sequence[i].rows > most ? c->batch->sequence[i].rows : most;
    return most;
}

/* Up to a piece of rows a block does all of a sequence's; beyond, blocks have pieces of them, and the state follows. */
int cuda_run_conv(const struct compiled *c, const struct op *op)
{
    const struct weight *w = &c->p->weights[op->w];
    struct conv_args a = {.batch = c->device_batch, .state = cuda_layer_state(c, op), .x = buffer(c, op->x), .w = vector(c, op->w), .bias = vector(c, op->b),
                          .y = buffer(c, op->y), .at = op->at, .width = w->out, .pass = most_rows(c) <= CONV_PIECE ? CONV_ALL : CONV_ROWS, .taps = (int)w->in,
                          .activation = op->activation, .rows = c->batch->rows};
    int64_t blocks = parts(w->out, CUDA_THREADS);
    int code = a.pass == CONV_ROWS ? LAUNCH(conv, blocks, parts(a.rows, CONV_PIECE), 0, a) : 0;
    if (code)
        return code;
    a.pass = a.pass == CONV_ROWS ? CONV_KEEP : CONV_ALL;
    return LAUNCH(conv, blocks, c->batch->sequences, 0, a);
}

/* The first kernel row by row that has room for a key. */
static enum cuda_kernel rows_kernel(int k_dim)
{
    int i = 0;
    while (64 << i < k_dim)
        i++;
    return nth(CUDA_scan_rows_64, i);
}

/* A chunk takes three products of 2^11 multiplications where a row's sums take shuffles: by both counts a quarter of the time, but no chunk
 * is done before its last row. */
bool cuda_scan_many(const struct compiled *c, int32_t rows)
{
    return c->p->scan_count && !c->plain && !c->bytes && !c->options.deterministic && c->tune.scan_rows && rows >= c->tune.scan_rows;
}

static int run_chunks(const struct compiled *c, const struct scan_args *a)
{
    bool wide = a->k_dim > 64;
    return launch(c, wide ? CUDA_scan_chunks_128 : CUDA_scan_chunks_64, a->heads * parts(a->v_dim, CHUNK_COLUMNS), c->batch->sequences,
                  CHUNK_SHARED((size_t)(wide ? 128 : 64)), a, sizeof *a);
}

int cuda_run_scan(const struct compiled *c, const struct op *op)
{
    const struct scan *s = &c->p->scans[op->scan];
    struct scan_args a = {.batch = c->device_batch, .state = cuda_layer_state(c, op), .x = buffer(c, op->x), .z = buffer(c, op->z), .w = vector(c, op->w),
                          .y = buffer(c, op->y), .at = op->at, .x_width = c->p->buffers[op->x].width, .q = s->q, .k = s->k, .v = s->v, .heads = s->heads,
                          .key_heads = s->key_heads, .k_dim = s->k_dim, .v_dim = s->v_dim, .tiled = s->tiled, .delta = s->delta,
                          .normalised = s->normalised, .dt_least = s->dt_least, .dt_most = s->dt_most, .scale = op->scale};
    a.wide = c->p->groups[op->group].values % 4 == 0 && op->at % 4 == 0 && s->v_dim % 4 == 0;
    int32_t many = 0;
    for (int32_t i = 0; i < c->batch->sequences && s->k_dim <= 128; i++)
        many += cuda_scan_many(c, c->batch->sequence[i].rows);
    if (many) {
        a.many = c->tune.scan_rows;
        int code = run_chunks(c, &a);
        if (code || many == c->batch->sequences)
            return code;
    }
    return launch(c, rows_kernel(s->k_dim), s->heads * parts(s->v_dim, SCAN_COLUMNS), c->batch->sequences, 0, &a, sizeof a);
}
