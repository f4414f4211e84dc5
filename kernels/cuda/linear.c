/* LINEAR: which kernel, for which rows. Rows of a sequence choose by their own number, whatever else is in the batch. */
#include "kernels/cuda/step.h"

static int linear_rows(const struct compiled *c, const struct op *op, int32_t first, int32_t rows)
{
    const struct weight *w = &c->p->weights[op->w];
    struct linear_args a = {.x = buffer(c, op->x) + first * w->in, .y = buffer(c, op->y) + first * w->out, .weight = c->weight[op->w],
                            .grids = c->grids, .bias = vector(c, op->b), .in = w->in, .out = w->out, .row_bytes = cuda_row_bytes(c, w), .factor = w->factor,
                            .rows = rows};
    return launch(c, cuda_format_kernels[w->format].plain, parts(w->out, CUDA_WARPS), parts(a.rows, LINEAR_ROWS), 0, &a, sizeof a);
}

int cuda_run_linear(const struct compiled *c, const struct op *op) { return linear_rows(c, op, 0, rows_of(c, op->x)); }

static bool uses_cublas(const struct compiled *c, const struct stage *s)
{
    for (int32_t i = 0; i < c->batch->sequences; i++)
        if (cuda_product(c, s, c->batch->sequence[i].rows) == PRODUCT_CUBLAS)
            return true;
    return false;
}

/* Rows of a step. */
struct range {
    int32_t first, rows;
};

/* Whether the stage before has written the input as bf16: cuBLAS leaves its last operation, which does so, to others. */
static bool handed(const struct compiled *c, const struct stage *s) { return s->handed && !(s[-1].linears && uses_cublas(c, s - 1)); }

/* x as its linears read it, behind the stage's norm if it has one; woven: 1 + the format whose order it gets, or 0. */
static int run_input(const struct compiled *c, const struct stage *s, struct range r, int woven)
{
    const struct op *norm = s->norm, *first = s->linear[0];
    int x = norm ? norm->x : first->x;
    int64_t n = c->p->buffers[x].width, padded = parts(n, INPUT_UNIT) * INPUT_UNIT;
    struct input_args a = {.x = buffer(c, x) + r.first * n, .n = n, .padded = padded, .woven = woven};
    if (s->bytes)
        a.q = c->input + r.first * padded, a.scales = c->input_scales + r.first * padded / 16 * 2;
    a.narrow = s->handed && !woven ? c->handed + r.first * padded : s->narrow ? c->narrow + r.first * padded : NULL;
    if (norm) {
        a.norm = 1, a.centred = norm->centred, a.epsilon = norm->epsilon, a.offset = norm->offset;
        a.weight = vector(c, norm->w), a.bias = vector(c, norm->b);
        a.y = s->floats ? buffer(c, norm->y) + r.first * n : NULL;
    }
    return LAUNCH(input, r.rows, 1, CUDA_WARPS * sizeof(float), a);
}

/* Linears of one format, and the stage's last operation if it is theirs. */
static struct gemv_args gemv_of(const struct compiled *c, const struct stage *s, int from, int count, const struct op *tail, struct range r)
{
    const struct op *first = s->linear[from];
    int64_t in = c->p->weights[first->w].in;
    struct gemv_args a = {.parts = count, .rows = r.rows, .in = in, .padded = parts(in, INPUT_UNIT) * INPUT_UNIT, .gated = tail && tail->kind == OP_GATE,
                          .prefetch = c->tune.prefetch};
    a.x = buffer(c, first->x) + r.first * in;
    a.q = c->input + r.first * a.padded;
    a.scales = c->input_scales + r.first * a.padded / 16 * 2;
    a.narrow = (s->handed ? c->handed : c->narrow) + r.first * a.padded;
    for (int i = 0; i < count; i++) {
        const struct op *op = s->linear[from + i];
        const struct weight *w = &c->p->weights[op->w];
        a.part[i] = (struct gemv_part){.weight = c->weight[op->w], .bias = vector(c, op->b), .y = buffer(c, tail ? tail->y : op->y) + r.first * w->out, .out = w->out,
                                       .row_bytes = cuda_row_bytes(c, w), .factor = w->factor};
        a.outs += a.gated && i ? 0 : w->out;
    }
    if (a.gated)
        a.activation = tail->activation, a.handed = s->hands ? c->handed + r.first * a.outs : NULL;
    else if (tail)
        a.add = buffer(c, tail->x) + r.first * a.outs, a.scale = tail->scale;
    return a;
}

static int run_gemv(const struct compiled *c, enum storage format, const struct gemv_args *a)
{
    int many = a->rows > 1;
    enum cuda_kernel kernel = nth(cuda_format_kernels[format].gemv, many + 2 * a->gated);
    return launch(c, kernel, parts(a->outs, CUDA_WARPS), parts(a->rows, many ? GEMV_TILE : 1), 0, a, sizeof *a);
}

/* ---- matrix units --------------------------------------------------------------------------------------------------------------- */

/* Tiles of 8 rows that a block does. */
static int tiles_for(const struct compiled *c, int32_t rows)
{
    int tiles = 1;
    while (tiles < MATRIX_TILES && tiles < c->tune.matrix_tiles && tiles * 8 < rows)
        tiles *= 2;
    return tiles;
}

/* Blocks, in x, of outputs that need so many tiles; of one part where two are gated. */
static int64_t blocks_for(int64_t tiles, int row_tiles, bool gated)
{
    return row_tiles <= MATRIX_FEW_TILES ? tiles : parts(tiles, gated ? CUDA_WARPS / 2 : CUDA_WARPS);
}

static int64_t matrix_blocks(const struct gemv_args *a, int row_tiles)
{
    int64_t tiles = 0;
    for (int i = 0; i < (a->gated ? 1 : a->parts); i++)
        tiles += parts(a->part[i].out, 16);
    return blocks_for(tiles, row_tiles, a->gated);
}

/* Blocks of outputs and rows that may be split, of all LINEARs at most. */
int64_t cuda_split_blocks(const struct compiled *c, int32_t rows)
{
    int64_t most = 0, rows_in_y = parts(rows, 8 * tiles_for(c, rows));
    if (tiles_for(c, rows) <= MATRIX_FEW_TILES)
        return 0;
    for (int i = 0; i < c->stages; i++) {
        int64_t tiles = 0;
        for (int k = 0; k < c->stage[i].linears; k++)
            if (cuda_fast(c, &c->p->weights[c->stage[i].linear[k]->w]) == FAST_MATRIX)
                tiles += parts(c->p->weights[c->stage[i].linear[k]->w].out, 16);
        int64_t blocks = (parts(tiles, CUDA_WARPS) + 1) * rows_in_y; /* gated ones may have one more */
        most = blocks > most ? blocks : most;
    }
    return most < c->tune.matrix_split ? most : c->tune.matrix_split;
}

int64_t cuda_split_floats(const struct compiled *c)
{
    int32_t rows = c->options.max_rows;
    return cuda_split_blocks(c, rows) * MATRIX_CLASSES * tiles_for(c, rows) * 4 * CUDA_THREADS;
}

static int run_matrix(const struct compiled *c, enum storage format, struct gemv_args *a)
{
    int tiles = tiles_for(c, a->rows), number = 0;
    while (1 << number < tiles)
        number++;
    int64_t y = parts(a->rows, 8 * tiles);
    bool few = tiles <= MATRIX_FEW_TILES;
    size_t shared = few ? sizeof(float) * CUDA_THREADS * 4 * (size_t)tiles : (size_t)MATRIX_STAGES * (size_t)tiles * 2048;
    a->blocks = matrix_blocks(a, tiles);
    a->split = !few && a->blocks * y <= cuda_split_blocks(c, a->rows);
    a->partial = c->split, a->arrived = c->arrived_classes;
    return launch(c, nth(cuda_format_kernels[format].matrix, number), a->blocks, a->split ? y * MATRIX_CLASSES : y, shared, a, sizeof *a);
}

/* ---- a stage -------------------------------------------------------------------------------------------------------------------- */

/* Linears of one format, from number i on. */
static int alike(const struct compiled *c, const struct stage *s, int i)
{
    const struct weight *w = &c->p->weights[s->linear[i]->w];
    int count = 1;
    while (i + count < s->linears && c->p->weights[s->linear[i + count]->w].format == w->format && cuda_fast(c, &c->p->weights[s->linear[i + count]->w]))
        count++;
    return count;
}

/* All linears of the stage, by kernels that give a row the same bits whatever is beside it. */
static int run_own(const struct compiled *c, const struct stage *s, const struct op *tail, struct range r)
{
    int code = handed(c, s) ? 0 : s->bytes || s->narrow ? run_input(c, s, r, 0) : 0;
    for (int i = 0, count; i < s->linears && !code; i += count) {
        const struct weight *w = &c->p->weights[s->linear[i]->w];
        enum fast kind = cuda_fast(c, w);
        count = kind ? alike(c, s, i) : 1;
        struct gemv_args a = gemv_of(c, s, i, count, tail, r);
        code = kind == FAST_MATRIX ? run_matrix(c, w->format, &a) : kind ? run_gemv(c, w->format, &a) : linear_rows(c, s->linear[i], r.first, r.rows);
    }
    return code;
}

/* Input as Hopper's products of a format read it; where it lies. */
static int weave(const struct compiled *c, const struct stage *s, struct range r, enum storage format, const uint16_t **x)
{
    int64_t padded = parts(c->p->weights[s->linear[0]->w].in, INPUT_UNIT) * INPUT_UNIT;
    bool runs = storage_types[format].block_elements > 1, there = handed(c, s);
    const uint16_t *natural = (s->handed ? c->handed : c->narrow) + r.first * padded;
    struct weave_args a = {natural, c->narrow + r.first * padded, r.rows * padded / 16, (int)format};
    *x = runs ? a.y : natural;
    if (there && runs)
        return LAUNCH(weave, parts(a.count, CUDA_THREADS), 1, 0, a);
    return there ? 0 : run_input(c, s, r, runs ? 1 + (int)format : 0);
}

/* The same by warpgroups, for the rows of one sequence. */
static int run_hopper(const struct compiled *c, const struct stage *s, const struct op *tail, struct range r)
{
    int code = 0;
    for (int i = 0, count; i < s->linears && !code; i += count) {
        enum storage format = c->p->weights[s->linear[i]->w].format;
        count = alike(c, s, i);
        struct gemv_args a = gemv_of(c, s, i, count, tail, r);
        code = weave(c, s, r, format, &a.narrow);
        code = code ? code : cuda_hopper_run(c, format, &a);
    }
    return code;
}

static int run_range(const struct compiled *c, const struct stage *s, const struct op *tail, struct range r, enum product product)
{
    int code = 0;
    if (product != PRODUCT_CUBLAS || !r.rows)
        return !r.rows ? 0 : product == PRODUCT_HOPPER ? run_hopper(c, s, tail, r) : run_own(c, s, tail, r);
    for (int k = 0; k < s->linears && !code; k++)
        code = cuda_gemm_linear(c, s->linear[k], r.first, r.rows);
    return code;
}

/* Sequences with many rows choose their product, each for itself; what lies between them goes as always. cuBLAS reads floats, and leaves
 * the stage's last operation to one of its own: the same arithmetic. */
int cuda_run_stage(const struct compiled *c, const struct stage *s)
{
    bool apart = uses_cublas(c, s);
    bool floats = s->norm && (apart || !(s->bytes || s->narrow)); /* nobody else does the norm */
    const struct op *tail = apart ? NULL : s->tail;
    struct range rest = {0, 0};
    int code = floats ? cuda_run_norm(c, s->norm) : 0;
    for (int32_t i = 0; i < c->batch->sequences && !code; i++) {
        const struct batch_sequence *q = &c->batch->sequence[i];
        enum product product = cuda_product(c, s, q->rows);
        if (product == PRODUCT_OWN)
            continue;
        rest.rows = q->first_row - rest.first;
        code = run_range(c, s, tail, rest, PRODUCT_OWN);
        if (!code)
            code = run_range(c, s, tail, (struct range){q->first_row, q->rows}, product);
        rest.first = q->first_row + q->rows;
    }
    rest.rows = rows_of(c, s->linear[0]->x) - rest.first;
    if (!code)
        code = run_range(c, s, tail, rest, PRODUCT_OWN);
    return code || !apart || !s->tail ? code : s->tail->kind == OP_ADD ? cuda_run_add(c, s->tail) : cuda_run_gate(c, s->tail);
}
