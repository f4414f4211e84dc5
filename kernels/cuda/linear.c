/* LINEAR: which kernel, for which rows. Rows of a sequence choose by their own number, whatever else is in the batch. */
#include "kernels/cuda/step.h"

static int linear_rows(const struct compiled *c, const struct op *op, int32_t first, int32_t rows)
{
    static const enum cuda_kernel kernels[STORAGE_COUNT] = {
#define FORMAT(id, name, encode, round) [STORAGE_##id] = CUDA_linear_##name,
#include "kernels/formats/formats.def"
#undef FORMAT
    };
    const struct weight *w = &c->p->weights[op->w];
    struct linear_args a = {.x = buffer(c, op->x) + first * w->in, .y = buffer(c, op->y) + first * w->out, .weight = c->weight[op->w],
                            .grids = c->grids, .bias = vector(c, op->b), .in = w->in, .out = w->out, .row_bytes = cuda_row_bytes(c, w), .factor = w->factor,
                            .rows = rows};
    return launch(c, kernels[w->format], parts(w->out, CUDA_WARPS), parts(a.rows, LINEAR_ROWS), 0, &a, sizeof a);
}

int cuda_run_linear(const struct compiled *c, const struct op *op) { return linear_rows(c, op, 0, rows_of(c, op->x)); }

/* x as bytes, behind the stage's norm if it has one. */
static int run_input(const struct compiled *c, const struct stage *s)
{
    const struct op *norm = s->norm, *first = s->linear[0];
    int x = norm ? norm->x : first->x;
    int64_t n = c->p->buffers[x].width;
    struct input_args a = {.x = buffer(c, x), .q = c->input, .scales = c->input_scales, .n = n, .padded = parts(n, INPUT_UNIT) * INPUT_UNIT};
    if (norm) {
        a.norm = 1, a.centred = norm->centred, a.epsilon = norm->epsilon, a.offset = norm->offset;
        a.weight = vector(c, norm->w), a.bias = vector(c, norm->b);
        a.y = s->floats ? buffer(c, norm->y) : NULL;
    }
    return LAUNCH(input, rows_of(c, x), 1, CUDA_WARPS * sizeof(float), a);
}

/* Rows of a step. */
struct range {
    int32_t first, rows;
};

/* Linears of one format, and the stage's last operation if it is theirs. */
static int run_gemv(const struct compiled *c, const struct stage *s, int from, int count, const struct op *tail, struct range r)
{
    static const enum cuda_kernel kernels[STORAGE_COUNT] = { /* the first of four: see interface.h */
#define FAST(id, name, kind) [STORAGE_##id] = CUDA_gemv_##name,
#include "kernels/cuda/fast.def"
#undef FAST
    };
    const struct op *first = s->linear[from];
    int64_t in = c->p->weights[first->w].in;
    bool gated = tail && tail->kind == OP_GATE;
    struct gemv_args a = {.parts = count, .rows = r.rows, .in = in, .padded = parts(in, INPUT_UNIT) * INPUT_UNIT};
    a.x = buffer(c, first->x) + r.first * in;
    a.q = c->input + r.first * a.padded;
    a.scales = c->input_scales + r.first * a.padded / 16 * 2;
    for (int i = 0; i < count; i++) {
        const struct op *op = s->linear[from + i];
        const struct weight *w = &c->p->weights[op->w];
        a.part[i] = (struct gemv_part){.weight = c->weight[op->w], .bias = vector(c, op->b), .y = buffer(c, tail ? tail->y : op->y) + r.first * w->out, .out = w->out,
                                       .row_bytes = cuda_row_bytes(c, w), .factor = w->factor};
        a.outs += gated && i ? 0 : w->out;
    }
    if (gated)
        a.activation = tail->activation;
    else if (tail)
        a.add = buffer(c, tail->x) + r.first * a.outs, a.scale = tail->scale;
    int many = a.rows > 1;
    enum cuda_kernel kernel = (enum cuda_kernel)((int)kernels[c->p->weights[first->w].format] + many + 2 * gated);
    return launch(c, kernel, parts(a.outs, CUDA_WARPS), parts(a.rows, many ? GEMV_TILE : 1), 0, &a, sizeof a);
}

/* All linears of the stage, for rows that are handled one by one. */
static int run_few(const struct compiled *c, const struct stage *s, const struct op *tail, struct range r)
{
    int code = 0;
    for (int i = 0, count; i < s->linears && r.rows && !code; i += count) {
        const struct weight *w = &c->p->weights[s->linear[i]->w];
        bool fast = cuda_fast(c, w);
        count = 1;
        while (fast && i + count < s->linears && c->p->weights[s->linear[i + count]->w].format == w->format && cuda_fast(c, &c->p->weights[s->linear[i + count]->w]))
            count++;
        code = fast ? run_gemv(c, s, i, count, tail, r) : linear_rows(c, s->linear[i], r.first, r.rows);
    }
    return code;
}

/* Sequences with many rows go through cuBLAS, from floats; what lies between them as always. Then the stage's last operation is one
 * of its own: the same arithmetic. */
static int run_mixed(const struct compiled *c, const struct stage *s)
{
    int code = s->norm ? cuda_run_norm(c, s->norm) : 0;
    if (!code && s->bytes)
        code = run_input(c, s);
    struct range few = {0, 0};
    for (int32_t i = 0; i < c->batch->sequences && !code; i++) {
        const struct batch_sequence *q = &c->batch->sequence[i];
        if (!cuda_gemm_serves(c, s->linear[0], q->rows))
            continue;
        few.rows = q->first_row - few.first;
        code = run_few(c, s, NULL, few);
        for (int k = 0; k < s->linears && !code; k++)
            code = cuda_gemm_linear(c, s->linear[k], q->first_row, q->rows);
        few.first = q->first_row + q->rows;
    }
    few.rows = rows_of(c, s->linear[0]->x) - few.first;
    if (!code)
        code = run_few(c, s, NULL, few);
    return code || !s->tail ? code : s->tail->kind == OP_ADD ? cuda_run_add(c, s->tail) : cuda_run_gate(c, s->tail);
}

int cuda_run_stage(const struct compiled *c, const struct stage *s)
{
    for (int32_t i = 0; i < c->batch->sequences; i++)
        if (cuda_gemm_serves(c, s->linear[0], c->batch->sequence[i].rows))
            return run_mixed(c, s);
    int code = s->bytes ? run_input(c, s) : s->norm ? cuda_run_norm(c, s->norm) : 0;
    return code ? code : run_few(c, s, s->tail, (struct range){0, rows_of(c, s->linear[0]->x)});
}
