/* What a device can run: an operation whose kernels the library has no code of for this device, or whose shape is beyond them, is left to
 * another backend. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/cuda.h"

struct asking {
    const struct cuda_interface *cuda;
    int device;
    char *why; /* [size] */
    size_t size;
};

static bool has(const struct asking *a, int first, int count)
{
    for (int i = first; i < first + count; i++)
        if (!a->cuda->has(a->device, (enum cuda_kernel)i)) {
            snprintf(a->why, a->size, "no kernel %s for this device", cuda_kernel_name((enum cuda_kernel)i));
            return false;
        }
    return true;
}

/* Those of a format: the plain one, and where there are others, all of them, and what makes bytes or bf16 of their input. */
static bool has_linear(const struct asking *a, enum storage format)
{
    const struct format_kernels *k = &cuda_format_kernels[format];
    return has(a, k->plain, 1) && (!k->gemv || has(a, k->gemv, 4)) && (!k->matrix || (has(a, k->matrix, 4) && has(a, CUDA_input, 1)));
}

/* The plain kernel; where matrix units do it, both, and what puts rows in order. */
static bool has_experts(const struct asking *a, enum storage format)
{
    enum cuda_kernel matrix = cuda_format_kernels[format].experts;
    return has(a, CUDA_experts, 1) && (!matrix || (has(a, matrix, 2) && has(a, CUDA_group, 1) && has(a, CUDA_gather, 1)));
}

static bool heads_fit(const struct asking *a, const struct state_group *g)
{
    if (g->k_dim <= CUDA_HEAD_DIM && g->v_dim <= CUDA_HEAD_DIM)
        return true;
    snprintf(a->why, a->size, "heads of more than %d values", CUDA_HEAD_DIM);
    return false;
}

enum {
    ATTENDS = 0 /* those by matrix units lie behind them */
#define ATTEND(name, type, most, blocks) +1
#include "kernels/cuda/attend.def"
#undef ATTEND
#define COLUMNS(columns, tiles, blocks) +1
#include "kernels/cuda/columns.def"
#undef COLUMNS
#define PROMPT(name, type, half, dim) +1
#include "kernels/cuda/prompt.def"
#undef PROMPT
};

bool cuda_runs_with(const struct cuda_interface *cuda, const struct program *p, const struct compile_options *o, int op, char *why, size_t size)
{
    static const struct {
        int first, count;
    } kernels[OP_COUNT] = { /* what goes between parts needs transfers alone */
        [OP_EMBED] = {CUDA_embed, 1}, [OP_NORM] = {CUDA_norm, 1}, [OP_ROPE] = {CUDA_rope, 1},   [OP_STORE] = {CUDA_store, 1}, [OP_ATTEND] = {CUDA_attend_any_4, ATTENDS},
        [OP_ADD] = {CUDA_add, 1},     [OP_GATE] = {CUDA_gate, 1}, [OP_SCALE] = {CUDA_scale, 1}, [OP_SELECT] = {CUDA_select, 1},
        [OP_ROUTE] = {CUDA_route, 1}, [OP_COMBINE] = {CUDA_combine, 1},
    };
    const struct asking a = {cuda, o->device, why, size};
    const struct op *asked = &p->ops[op];
    if (asked->kind == OP_JOIN || asked->kind == OP_CONV || asked->kind == OP_SCAN || (asked->kind == OP_EXPERTS && asked->z < 0)) {
        snprintf(why, size, "no kernel for %s", asked->kind == OP_EXPERTS ? "stacks of matrices without a choice" : op_names[asked->kind]);
        return false;
    }
    if (asked->kind == OP_NORM && asked->head_dim > 0 && asked->w >= 0 && p->weights[asked->w].in > asked->head_dim) {
        snprintf(why, size, "norms of groups by weights of their own");
        return false;
    }
    if (asked->group >= 0 && !heads_fit(&a, &p->groups[asked->group]))
        return false;
    if (asked->kind == OP_LINEAR)
        return has_linear(&a, p->weights[asked->w].format);
    if (asked->kind == OP_EXPERTS)
        return has_experts(&a, p->weights[asked->w].format);
    return has(&a, kernels[asked->kind].first, kernels[asked->kind].count) && (asked->kind != OP_STORE || has(&a, CUDA_turn, 1));
}

bool cuda_runs(const struct program *p, const struct compile_options *o, int op, char *why, size_t size)
{
    const struct cuda_interface *cuda;
    if (cuda_open_library(&cuda, NULL)) /* compiling tells what is missing */
        return true;
    return cuda_runs_with(cuda, p, o, op, why, size);
}
