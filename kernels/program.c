/* Writing and checking programs. */
#include "kernels/ops.h"

#include <string.h>

const char *const op_names[OP_COUNT] = {
#define OP(kind, name) #name,
#include "kernels/ops.def"
#undef OP
};

/* Appends one element to a list in the program's arena; lists double, the old copy stays in the arena. */
static void *append(struct program *p, void *list, int *count, size_t size)
{
    if ((*count & (*count - 1)) == 0) { /* a power of two: full */
        size_t capacity = *count ? (size_t)*count * 2 : 1;
        void *bigger = arena_array(p->arena, capacity, size);
        if (!bigger) {
            p->failed = true;
            return NULL;
        }
        if (*count)
            memcpy(bigger, list, (size_t)*count * size);
        list = bigger;
    }
    ++*count;
    return list;
}

#define APPEND(p, list, count, element)                                   \
    do {                                                                  \
        void *grown = append((p), (p)->list, &(p)->count, sizeof *(p)->list); \
        if (!grown)                                                       \
            return 0;                                                     \
        (p)->list = grown;                                                \
        (p)->list[(p)->count - 1] = (element);                            \
        return (p)->count - 1;                                            \
    } while (0)

int program_buffer(struct program *p, const char *name, int64_t width, enum buffer_rows rows)
{
    struct buffer b = {name, width, rows};
    APPEND(p, buffers, buffer_count, b);
}

int program_weight(struct program *p, const struct weight *w)
{
    struct weight copy = *w;
    copy.id = p->weight_count;
    APPEND(p, weights, weight_count, copy);
}

int program_rope(struct program *p, const struct rope *r) { APPEND(p, ropes, rope_count, *r); }

int program_route(struct program *p, const struct expert_route *r) { APPEND(p, routes, route_count, *r); }

int program_group(struct program *p, const struct state_group *g) { APPEND(p, groups, group_count, *g); }

struct op *program_add(struct program *p, enum op_kind kind)
{
    static _Thread_local struct op nowhere; /* where writes go once memory ran out */
    const struct op fresh = {.kind = kind, .x = -1, .z = -1, .y = -1, .w = -1, .b = -1, .group = -1, .scale = 1, .rope = -1, .route = -1};
    void *grown = append(p, p->ops, &p->op_count, sizeof *p->ops);
    if (!grown) {
        nowhere = fresh;
        return &nowhere;
    }
    p->ops = grown;
    p->ops[p->op_count - 1] = fresh;
    return &p->ops[p->op_count - 1];
}

void program_output(struct program *p, const char *name, int buffer)
{
    if (p->output_count < (int)(sizeof p->outputs / sizeof *p->outputs))
        p->outputs[p->output_count++] = (struct output){name, buffer};
    else
        p->failed = true;
}

int program_find_output(const struct program *p, const char *name)
{
    for (int i = 0; i < p->output_count; i++)
        if (strcmp(p->outputs[i].name, name) == 0)
            return p->outputs[i].buffer;
    return -1;
}

int op_writes(const struct op *op) { return op->kind == OP_ROPE || op->kind == OP_REDUCE ? op->x : op->y; }

int program_needed(const struct program *p, int output)
{
    for (int i = p->op_count; i > 0; i--) {
        const struct op *op = &p->ops[i - 1];
        if (op->kind == OP_STORE || op->kind == OP_SEND || (output >= 0 && op_writes(op) == output))
            return i;
    }
    return 0;
}

bool batch_last(const struct program *p, const struct batch *b) { return b->end == 0 || b->end == p->op_count; }

int batch_end(const struct program *p, const struct batch *b, int output)
{
    int needed = program_needed(p, output);
    return b->end && b->end < needed ? b->end : needed;
}

bool program_live(const struct program *p, int buffer, int from)
{
    for (int i = from; i < p->op_count; i++) {
        if (p->ops[i].x == buffer || p->ops[i].z == buffer)
            return true;
        if (op_writes(&p->ops[i]) == buffer)
            return false;
    }
    for (int i = 0; i < p->output_count; i++)
        if (p->outputs[i].buffer == buffer)
            return true;
    return false;
}

/* ---- checking ------------------------------------------------------------------------------------------------------- */

struct check {
    const struct program *p;
    const struct op *op;
    int at;
    struct error *err;
};

static enum status wrong(struct check *c, const char *what)
{
    const char *name = (unsigned)c->op->kind < OP_COUNT ? op_names[c->op->kind] : "?";
    return error_set(c->err, STATUS_FAILED, "program: operation %d (%s): %s", c->at, name, what);
}

static int64_t width(struct check *c, int buffer)
{
    return buffer >= 0 && buffer < c->p->buffer_count ? c->p->buffers[buffer].width : -1;
}

static enum status check_weight(struct check *c, int id, int64_t out, int64_t in)
{
    if (id < 0)
        return STATUS_OK;
    if (id >= c->p->weight_count)
        return wrong(c, "no such weight");
    const struct weight *w = &c->p->weights[id];
    if (w->experts > 1)
        return wrong(c, "a stack of matrices where one is needed");
    if (w->out != out || w->in != in)
        return error_set(c->err, STATUS_BAD_INPUT, "%s: shape [%lld, %lld] where [%lld, %lld] is needed", QUOTE(w->name, strlen(w->name)),
                         (long long)w->out, (long long)w->in, (long long)out, (long long)in);
    return STATUS_OK;
}

static bool all_rows(const struct check *c, int buffer) { return c->p->buffers[buffer].rows == ROWS_ALL; }

/* width: of the routing */
static enum status check_route(struct check *c, int64_t width)
{
    const struct expert_route *r = c->op->route >= 0 && c->op->route < c->p->route_count ? &c->p->routes[c->op->route] : NULL;
    if (!r || r->chosen < 1 || r->chosen > r->experts || r->experts > EXPERTS_MOST || width != 2 * (int64_t)r->chosen)
        return wrong(c, "has no route, or one of another width");
    if (r->groups > 1 && (r->experts % r->groups || r->groups_chosen < 1 || r->groups_chosen > r->groups || r->group_best < 1 ||
                          r->group_best > r->experts / r->groups || r->chosen > r->experts / r->groups * r->groups_chosen))
        return wrong(c, "the groups of its route leave too few experts");
    return STATUS_OK;
}

static enum status check_experts(struct check *c)
{
    const struct op *op = c->op;
    int64_t x = width(c, op->x), y = width(c, op->y);
    enum status status = check_route(c, width(c, op->z));
    if (status)
        return status;
    const struct expert_route *r = &c->p->routes[op->route];
    if (x < 0 || y < 0 || y % r->chosen || op->w < 0 || op->w >= c->p->weight_count || !all_rows(c, op->y))
        return wrong(c, "needs x, w and a y of all rows with a place for each slot");
    const struct weight *w = &c->p->weights[op->w];
    int64_t in = x == w->in * r->chosen ? w->in : x;
    if (w->experts != r->experts || w->out != y / r->chosen || w->in != in)
        return error_set(c->err, STATUS_BAD_INPUT, "%s: %d matrices of shape [%lld, %lld] where %d of [%lld, %lld] are needed", QUOTE(w->name, strlen(w->name)),
                         w->experts, (long long)w->out, (long long)w->in, r->experts, (long long)(y / r->chosen), (long long)in);
    return check_weight(c, op->b, r->experts, w->out);
}

static enum status check_op(struct check *c)
{
    const struct op *op = c->op;
    int64_t x = width(c, op->x), y = width(c, op->y), z = width(c, op->z);
    const struct state_group *g = op->group >= 0 && op->group < c->p->group_count ? &c->p->groups[op->group] : NULL;
    enum status status = STATUS_OK;
    switch (op->kind) {
    case OP_EMBED:
        return y < 0 || op->w < 0 ? wrong(c, "needs y and w") : check_weight(c, op->w, c->p->vocab, y);
    case OP_NORM: {
        int64_t n = op->head_dim ? op->head_dim : x;
        if (x < 0 || x != y || n <= 0 || x % n)
            return wrong(c, "x and y must have one width");
        if (!(status = check_weight(c, op->w, 1, n)))
            status = check_weight(c, op->b, 1, n);
        return status;
    }
    case OP_LINEAR:
        if (x < 0 || y < 0 || op->w < 0)
            return wrong(c, "needs x, y and w");
        if (!(status = check_weight(c, op->w, y, x)))
            status = check_weight(c, op->b, 1, y);
        return status;
    case OP_ROPE:
        if (op->rope < 0 || op->rope >= c->p->rope_count || x != (int64_t)op->heads * op->head_dim || c->p->ropes[op->rope].dims > op->head_dim)
            return wrong(c, "x is not heads * head_dim, or it has no rope");
        return STATUS_OK;
    case OP_STORE:
        if (!g || g->kind != STATE_PAGED || op->layer >= g->layers || x != (int64_t)g->heads * g->k_dim ||
            (!g->v_in_k && z != (int64_t)g->heads * g->v_dim))
            return wrong(c, "k or v does not fit its state group");
        return STATUS_OK;
    case OP_ATTEND:
        if (!g || g->kind != STATE_PAGED || op->layer >= g->layers || op->heads % g->heads || op->head_dim != g->k_dim ||
            x != (int64_t)op->heads * g->k_dim || y != (int64_t)op->heads * g->v_dim)
            return wrong(c, "q does not fit its state group");
        return STATUS_OK;
    case OP_ADD:
        return x < 0 || x != y || x != z ? wrong(c, "x, y, z must have one width") : STATUS_OK;
    case OP_GATE:
        return x < 0 || x != y || (op->z >= 0 && x != z) ? wrong(c, "x, y, z must have one width") : STATUS_OK;
    case OP_ROUTE:
        if ((status = check_route(c, y)))
            return status;
        if (x != c->p->routes[op->route].experts || !all_rows(c, op->y))
            return wrong(c, "x is not a score for each expert");
        return check_weight(c, op->b, 1, x);
    case OP_EXPERTS:
        return check_experts(c);
    case OP_COMBINE:
        return x < 0 || y < 1 || x % y || (z != x / y && z != x / y * 2) || !all_rows(c, op->y) ? wrong(c, "x is not a y for each weight") : STATUS_OK;
    case OP_SCALE:
    case OP_SELECT:
        return x < 0 || x != y ? wrong(c, "x and y must have one width") : STATUS_OK;
    case OP_SEND:
    case OP_REDUCE:
        return x < 0 ? wrong(c, "needs x") : STATUS_OK;
    case OP_RECEIVE:
        return y < 0 ? wrong(c, "needs y") : STATUS_OK;
    case OP_COUNT:
        break;
    }
    return wrong(c, "unknown kind");
}

struct weight weight_expert(const struct weight *stack, int expert)
{
    struct weight w = *stack;
    w.data = stack->expert ? stack->expert[expert] : stack->data ? stack->data + expert * stack->expert_bytes : NULL;
    w.experts = 1;
    w.expert = NULL;
    return w;
}

enum status weight_check(const struct weight *w, struct error *err)
{
    const char *name = QUOTE(w->name, strlen(w->name));
    if (!format_find(w->format) || w->format == STORAGE_F8_E4M3) /* one byte floats: so far in the cache only */
        return error_set(err, STATUS_BAD_INPUT, "%s: no kernel reads its type %s", name, storage_types[w->format].name);
    if (w->in % storage_types[w->format].block_elements)
        return error_set(err, STATUS_BAD_INPUT, "%s: rows of %lld values are no whole number of %s blocks", name, (long long)w->in,
                         storage_types[w->format].name);
    if (w->transposed || w->scales || w->zeros || w->permutation)
        return error_set(err, STATUS_BAD_INPUT, "%s: %s weights are not supported yet", name,
                         w->transposed    ? "transposed"
                         : w->permutation ? "permuted"
                                          : "separately scaled");
    return STATUS_OK;
}

bool state_storage(enum storage type)
{
    return type == STORAGE_F32 || type == STORAGE_F16 || type == STORAGE_BF16 || type == STORAGE_F8_E4M3 || type == STORAGE_Q8_0 || type == STORAGE_Q4_0;
}

enum status program_check(const struct program *p, struct error *err)
{
    if (p->failed)
        return error_memory(err, "the model's program");
    for (int i = 0; i < p->op_count; i++) {
        struct check c = {p, &p->ops[i], i, err};
        enum status status = check_op(&c);
        if (status)
            return status;
    }
    return STATUS_OK;
}
