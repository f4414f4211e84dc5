/* Attention: which kernel, how many query heads a block serves, and whether a block does one piece of the cache or all of them. The
 * results are the same bits: only how many blocks there are changes. */
#include "kernels/cuda/cuda.h"

enum {
    SPLIT_ITEMS = 4096,  /* pieces of all rows */
    SHARED_BYTES = 48 << 10
};

static size_t shared_bytes(const struct state_group *g, int heads)
{
    int64_t floats = 2 * (ATTEND_PIECE / SLOTS_PER_BLOCK) + (int64_t)heads * (ATTEND_K_WIDE(g->k_dim) + ATTEND_PIECE + 2 * ATTEND_V_WIDE(g->v_dim));
    return (size_t)floats * sizeof(float);
}

/* Query heads of a block. */
static int group_of(const struct state_group *g, int heads)
{
    int shared = heads / g->heads, most = shared < ATTEND_HEADS ? shared : ATTEND_HEADS;
    while (most > 1 && shared_bytes(g, most) > SHARED_BYTES)
        most--;
    return most;
}

static int groups_of(const struct state_group *g, int heads)
{
    int group = group_of(g, heads);
    return g->heads * ((heads / g->heads + group - 1) / group);
}

/* Pieces that a row can see of a sequence of so many tokens. */
static int64_t pieces_of(const struct state_group *g, bool full, int64_t tokens)
{
    int64_t all = (tokens + ATTEND_PIECE - 1) / ATTEND_PIECE, seen = (full ? 2 : 1) * (int64_t)g->window;
    int64_t most = g->window ? (seen + ATTEND_PIECE - 2) / ATTEND_PIECE + 1 : all;
    return all < most ? all : most;
}

static int64_t split_items(const struct compiled *c)
{
    int64_t rows = c->options.max_rows < c->tune.attend_split ? c->options.max_rows : c->tune.attend_split;
    int64_t items = rows * cuda_round_pieces((c->options.max_context + ATTEND_PIECE - 1) / ATTEND_PIECE);
    return items < SPLIT_ITEMS ? items : SPLIT_ITEMS;
}

int64_t cuda_round_pieces(int64_t pieces)
{
    int64_t rounded = 1;
    while (rounded < pieces)
        rounded *= 2;
    return rounded;
}

int64_t cuda_attend_partial(const struct compiled *c)
{
    int64_t most = 0;
    for (int i = 0; i < c->p->op_count; i++)
        if (c->p->ops[i].kind == OP_ATTEND) {
            int64_t floats = (int64_t)c->p->ops[i].heads * ATTEND_V_WIDE(c->p->groups[c->p->ops[i].group].v_dim);
            most = floats > most ? floats : most;
        }
    return c->options.max_context > ATTEND_PIECE ? most * split_items(c) : 0;
}

int64_t cuda_attend_arrivals(const struct compiled *c, int32_t rows)
{
    int64_t most = 0;
    for (int i = 0; i < c->p->op_count; i++)
        if (c->p->ops[i].kind == OP_ATTEND) {
            int64_t groups = groups_of(&c->p->groups[c->p->ops[i].group], c->p->ops[i].heads);
            most = groups > most ? groups : most;
        }
    return c->options.max_context > ATTEND_PIECE && rows <= c->tune.attend_split ? most * rows : 0;
}

static enum cuda_kernel kernel_of(const struct device_state *s, int group)
{
    static const struct {
        int type, heads;
    } kernels[] = {
#define ANY -1
#define ATTEND(name, type, heads, blocks) {type, heads},
#include "kernels/cuda/attend.def"
#undef ATTEND
#undef ANY
    };
    int best = 0;
    for (int i = 0; i < (int)(sizeof kernels / sizeof *kernels); i++) /* its types before any, as few heads as suffice */
        if (kernels[i].heads >= group && (kernels[i].type < 0 || (kernels[i].type == s->k.type && kernels[i].type == s->v.type)) &&
            (kernels[best].heads < group || kernels[i].type > kernels[best].type))
            best = i;
    return (enum cuda_kernel)(CUDA_attend_any_4 + best);
}

/* ---- many rows of a sequence, by matrix units ------------------------------------------------------------------------------------ */

bool cuda_prompt(const struct compiled *c, int32_t rows)
{
    return !c->plain && !c->bytes && !c->options.deterministic && c->tune.prompt_rows && rows >= c->tune.prompt_rows;
}

static int prompt_dim(const struct attend_args *a)
{
    int dim = a->state.k.dim > a->state.v.dim ? a->state.k.dim : a->state.v.dim;
    return dim <= 64 ? 64 : dim <= 128 ? 128 : 0;
}

static enum cuda_kernel prompt_kernel(const struct attend_args *a)
{
    bool alike = a->state.k.type == a->state.v.type, large = prompt_dim(a) > 64;
    if (alike && a->state.k.type == STORAGE_F16)
        return large ? CUDA_prompt_f16_128 : CUDA_prompt_f16_64;
    if (alike && a->state.k.type == STORAGE_BF16)
        return large ? CUDA_prompt_bf16_128 : CUDA_prompt_bf16_64;
    return large ? CUDA_prompt_any_128 : CUDA_prompt_any_64;
}

/* Launches for sequences with many rows, if there are any; left: whether others are left. */
static int prompts(const struct compiled *c, struct attend_args *a, bool *left)
{
    int shared = a->heads / a->kv_heads, group = shared < PROMPT_ROWS ? shared : PROMPT_ROWS, rows = PROMPT_ROWS / group;
    int64_t blocks = 0;
    *left = false;
    for (int i = 0; i < c->batch->sequences; i++) {
        int32_t of = c->batch->sequence[i].rows;
        bool many = cuda_prompt(c, of) && prompt_dim(a) && !a->only_wanted;
        blocks += many ? (of + rows - 1) / rows : 0;
        *left |= !many;
    }
    if (!blocks)
        return 0;
    struct attend_args p = *a;
    p.group = group;
    p.many = a->many = c->tune.prompt_rows;
    unsigned heads = (unsigned)(a->kv_heads * ((shared + group - 1) / group));
    struct cuda_launch l = {prompt_kernel(a), (unsigned)blocks, heads, PROMPT_SHARED((size_t)prompt_dim(a)), &p, sizeof p, c->tune.early};
    return c->cuda->launch(c->stream, &l);
}

/* ---- launches ------------------------------------------------------------------------------------------------------------------- */

/* The rest of the arguments, and the launch. tokens: of the longest sequence. */
int cuda_attend(const struct compiled *c, const struct op *op, struct attend_args *a, int32_t rows, int64_t tokens)
{
    const struct state_group *g = &c->p->groups[op->group];
    int64_t pieces = pieces_of(g, a->full, tokens);
    bool left;
    int code = prompts(c, a, &left);
    if (code || !left)
        return code;
    a->group = group_of(g, op->heads);
    a->pieces = !c->plain && rows <= c->tune.attend_split && rows * pieces <= split_items(c) ? (int)pieces : 1;
    a->partial = c->partial;
    a->arrived = c->arrived;
    struct cuda_launch l = {kernel_of(&a->state, a->group), (unsigned)(rows * a->pieces), (unsigned)groups_of(g, op->heads), shared_bytes(g, a->group),
                            a, sizeof *a, c->tune.early};
    return rows ? c->cuda->launch(c->stream, &l) : 0;
}
