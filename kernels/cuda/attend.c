/* Attention: which kernel, how many query heads and rows a block serves, and whether a block does one piece of the cache or all of them.
 * But for many rows of a sequence (prompt.h) the kernel follows from the program alone, and the results are the same bits: only how many
 * blocks there are changes. */
#include "kernels/cuda/cuda.h"

enum {
    SPLIT_ITEMS = 4096,  /* pieces of all rows */
    SHARED_BYTES = 48 << 10,
    LATENT_BYTES = 99 << 10, /* a block of every card can have so much: 16 of many heads of one key share a read then, instead of 8 */
    ANY = -1, HALVES = -2 /* types of attend.def, prompt.def */
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

/* Pieces that `rows` neighbouring rows can see of a sequence of so many tokens. */
static int64_t pieces_of(const struct state_group *g, bool full, int64_t tokens, int rows)
{
    int64_t all = (tokens + ATTEND_PIECE - 1) / ATTEND_PIECE, seen = (full ? 2 : 1) * (int64_t)g->window + rows - 1;
    int64_t most = g->window ? (seen + ATTEND_PIECE - 2) / ATTEND_PIECE + 1 : all;
    return all < most ? all : most;
}

static int64_t split_items(const struct compiled *c)
{
    int64_t rows = c->options.max_rows < c->tune.attend_split ? c->options.max_rows : c->tune.attend_split;
    int64_t items = rows * cuda_round_up((c->options.max_context + ATTEND_PIECE - 1) / ATTEND_PIECE);
    return items < SPLIT_ITEMS ? items : SPLIT_ITEMS;
}

int64_t cuda_round_up(int64_t count)
{
    int64_t rounded = 1;
    while (rounded < count)
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
#define ATTEND(name, type, heads, blocks) {type, heads},
#include "kernels/cuda/attend.def"
#undef ATTEND
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

/* Whether values of one of prompt.def's types are the cache's. */
static bool fits_type(int type, int cache)
{
    return type == cache || type == ANY || (type == HALVES && (cache == STORAGE_F16 || cache == STORAGE_F8_E4M3 || cache == STORAGE_Q8_0 || cache == STORAGE_Q4_0));
}

/* The first kernel that has room for the heads, of those for their types; CUDA_KERNELS: none has. */
static enum cuda_kernel prompt_kernel(const struct attend_args *a, int *room)
{
    static const struct {
        int type, dim;
    } kernels[] = {
#define PROMPT(name, type, half, dim) {type, dim},
#include "kernels/cuda/prompt.def"
#undef PROMPT
    };
    int dim = a->state.k.dim > a->state.v.dim ? a->state.k.dim : a->state.v.dim;
    for (int i = 0; i < (int)(sizeof kernels / sizeof *kernels); i++)
        if (dim <= kernels[i].dim && fits_type(kernels[i].type, a->state.k.type) && fits_type(kernels[i].type, a->state.v.type)) {
            *room = kernels[i].dim;
            return (enum cuda_kernel)(CUDA_prompt_f16_64 + i);
        }
    return CUDA_KERNELS;
}

/* Launches for sequences with many rows, if there are any; left: whether others are left. */
static int prompts(const struct compiled *c, struct attend_args *a, bool *left)
{
    int shared = a->heads / a->kv_heads, group = shared < PROMPT_ROWS ? shared : PROMPT_ROWS, rows = PROMPT_ROWS / group;
    int dim = 0;
    enum cuda_kernel kernel = prompt_kernel(a, &dim);
    int64_t blocks = 0;
    *left = false;
    for (int i = 0; i < c->batch->sequences; i++) {
        int32_t of = c->batch->sequence[i].rows;
        bool many = cuda_prompt(c, of) && kernel != CUDA_KERNELS && !a->only_wanted;
        blocks += many ? (of + rows - 1) / rows : 0;
        *left |= !many;
    }
    if (!blocks)
        return 0;
    struct attend_args p = *a;
    p.group = group;
    p.many = a->many = c->tune.prompt_rows;
    unsigned heads = (unsigned)(a->kv_heads * ((shared + group - 1) / group) * ((a->state.v.dim + PROMPT_VALUES(dim) - 1) / PROMPT_VALUES(dim)));
    struct cuda_launch l = {kernel, (unsigned)blocks, heads, PROMPT_SHARED((size_t)dim), &p, sizeof p, c->tune.early};
    return c->cuda->launch(c->stream, &l);
}

/* ---- few rows, by matrix units --------------------------------------------------------------------------------------------------- */

static size_t columns_bytes(const struct state_group *g, int columns) { return COLUMNS_SHARED((size_t)columns, (size_t)g->k_dim, (size_t)g->v_dim); }

static size_t columns_most(const struct state_group *g) { return g->v_in_k ? LATENT_BYTES : SHARED_BYTES; }

/* Whatever rows there are: a sequence's bits must not depend on how it is cut. F32 keeps what it was chosen for. */
static bool columns_serve(const struct compiled *c, const struct state_group *g, int heads)
{
    return !c->plain && !c->bytes && c->tune.columns && heads / g->heads >= c->tune.columns && c->options.k_type != STORAGE_F32 &&
           c->options.v_type != STORAGE_F32 && columns_bytes(g, 8) <= columns_most(g);
}

/* As many columns as a sequence has rows for, and memory has room for; how many heads and rows these are. */
static enum cuda_kernel columns_kernel(const struct compiled *c, const struct state_group *g, struct attend_args *a, size_t *bytes)
{
    static const int columns[] = {
#define COLUMNS(columns, tiles, blocks) columns,
#include "kernels/cuda/columns.def"
#undef COLUMNS
    };
    int shared = a->heads / a->kv_heads, most = a->only_wanted ? 1 : c->most_rows, i = 0;
    while (i + 1 < (int)(sizeof columns / sizeof *columns) && columns[i] < (int64_t)shared * most && columns_bytes(g, columns[i + 1]) <= columns_most(g))
        i++;
    a->group = shared < columns[i] ? shared : columns[i];
    a->rows = columns[i] / shared < most ? columns[i] / shared : most;
    a->rows = a->rows > 1 ? a->rows : 1;
    *bytes = columns_bytes(g, columns[i]);
    return (enum cuda_kernel)(CUDA_columns_8 + i);
}

/* ---- launches ------------------------------------------------------------------------------------------------------------------- */

/* The rest of the arguments, and the launch. tokens: of the longest sequence. */
int cuda_attend(const struct compiled *c, const struct op *op, struct attend_args *a, int32_t rows, int64_t tokens)
{
    const struct state_group *g = &c->p->groups[op->group];
    bool left;
    int code = prompts(c, a, &left);
    if (code || !left || !rows)
        return code;
    a->group = group_of(g, op->heads);
    a->rows = 1;
    size_t shared = shared_bytes(g, a->group);
    enum cuda_kernel kernel = columns_serve(c, g, op->heads) ? columns_kernel(c, g, a, &shared) : kernel_of(&a->state, a->group);
    int groups = (op->heads / g->heads + a->group - 1) / a->group;
    int64_t pieces = pieces_of(g, a->full, tokens, a->rows), blocks = a->rows == 1 ? rows : (rows + (int64_t)(a->rows - 1) * c->batch->sequences) / a->rows;
    a->pieces = !c->plain && rows <= c->tune.attend_split && rows * pieces <= split_items(c) ? (int)pieces : 1;
    a->partial = c->partial;
    a->arrived = c->arrived;
    a->sequences = c->batch->sequences;
    a->ahead = c->tune.ahead;
    struct cuda_launch l = {kernel, (unsigned)(blocks * a->pieces), (unsigned)(g->heads * groups), shared, a, sizeof *a, c->tune.early};
    return c->cuda->launch(c->stream, &l);
}
