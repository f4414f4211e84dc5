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

int program_scan(struct program *p, const struct scan *s) { APPEND(p, scans, scan_count, *s); }

int program_group(struct program *p, const struct state_group *g) { APPEND(p, groups, group_count, *g); }

struct op *program_add(struct program *p, enum op_kind kind)
{
    static _Thread_local struct op nowhere; /* where writes go once memory ran out */
    const struct op fresh = {.kind = kind, .x = -1, .z = -1, .y = -1, .w = -1, .b = -1, .group = -1, .scale = 1, .rope = -1, .route = -1, .scan = -1};
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

bool op_keeps(const struct op *op) { return op->kind == OP_STORE || op->kind == OP_CONV || op->kind == OP_SCAN; }

int op_slots(const struct program *p, const struct op *op) { return op->z >= 0 ? p->routes[op->route].chosen : p->weights[op->w].experts; }

int program_needed(const struct program *p, int output)
{
    for (int i = p->op_count; i > 0; i--) {
        const struct op *op = &p->ops[i - 1];
        if (op_keeps(op) || op->kind == OP_SEND || (output >= 0 && op_writes(op) == output))
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
    enum status status = op->z >= 0 ? check_route(c, width(c, op->z)) : STATUS_OK;
    if (status)
        return status;
    if (x < 0 || op->w < 0 || op->w >= c->p->weight_count)
        return wrong(c, "needs x and w");
    const struct weight *w = &c->p->weights[op->w];
    int experts = op->z >= 0 ? c->p->routes[op->route].experts : w->experts, slots = op_slots(c->p, op);
    if (y < 0 || y % slots || !all_rows(c, op->y))
        return wrong(c, "needs a y of all rows with a place for each slot");
    int64_t in = x == w->in * slots ? w->in : x;
    if (w->experts != experts || w->out != y / slots || w->in != in)
        return error_set(c->err, STATUS_BAD_INPUT, "%s: %d matrices of shape [%lld, %lld] where %d of [%lld, %lld] are needed", QUOTE(w->name, strlen(w->name)),
                         w->experts, (long long)w->out, (long long)w->in, experts, (long long)(y / slots), (long long)in);
    return check_weight(c, op->b, experts, w->out);
}

/* The recurrent group of an operation that keeps `values` of each layer. */
static bool state_fits(const struct check *c, int64_t values)
{
    const struct op *op = c->op;
    const struct state_group *g = op->group >= 0 && op->group < c->p->group_count ? &c->p->groups[op->group] : NULL;
    return g && g->kind == STATE_RECURRENT && op->layer >= 0 && op->layer < g->layers && op->at >= 0 && op->at <= g->values - values;
}

static enum status check_conv(struct check *c)
{
    const struct op *op = c->op;
    int64_t x = width(c, op->x);
    if (x < 0 || x != width(c, op->y) || op->w < 0 || op->w >= c->p->weight_count || op->x == op->y || !all_rows(c, op->x) || !all_rows(c, op->y))
        return wrong(c, "needs w, and x and another y of one width and of all rows");
    int64_t taps = c->p->weights[op->w].in;
    if (taps < 1 || !state_fits(c, (taps - 1) * x))
        return wrong(c, "its state does not fit the group");
    enum status status = check_weight(c, op->w, x, taps);
    return status ? status : check_weight(c, op->b, 1, x);
}

static bool within(int64_t at, int64_t n, int64_t width) { return at >= 0 && at <= width - n; }

static enum status check_scan(struct check *c)
{
    const struct op *op = c->op;
    const struct scan *s = op->scan >= 0 && op->scan < c->p->scan_count ? &c->p->scans[op->scan] : NULL;
    int64_t x = width(c, op->x);
    if (!s || s->heads < 1 || s->key_heads < 1 || s->heads % s->key_heads || s->k_dim < 1 || s->v_dim < 1)
        return wrong(c, "has no scan, or one with heads that do not fit each other");
    int64_t keys = (int64_t)s->key_heads * s->k_dim, values = (int64_t)s->heads * s->v_dim;
    if (!within(s->q, keys, x) || !within(s->k, keys, x) || !within(s->v, values, x) || width(c, op->y) != values ||
        width(c, op->z) != s->heads * (s->delta ? 2 : 1) || !all_rows(c, op->x) || !all_rows(c, op->y) || !all_rows(c, op->z))
        return wrong(c, "x, y or z does not fit its heads");
    if (!state_fits(c, values * s->k_dim))
        return wrong(c, "its state does not fit the group");
    if (op->w < 0 || op->w >= c->p->weight_count || c->p->weights[op->w].format != STORAGE_F32)
        return wrong(c, "needs decay, bias and skip in F32");
    return check_weight(c, op->w, 3, s->heads);
}

/* A norm's weight has values for a head, or for all of them. */
static int64_t norm_values(const struct program *p, int w, int64_t head, int64_t all)
{
    return w >= 0 && w < p->weight_count && p->weights[w].in == all ? all : head;
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
        if (!(status = check_weight(c, op->w, 1, norm_values(c->p, op->w, n, x))))
            status = check_weight(c, op->b, 1, norm_values(c->p, op->b, n, x));
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
    case OP_JOIN:
        return x < 0 || z < 0 || x + z != y || op->heads < 1 || x % op->heads || z % op->heads ? wrong(c, "y is not as wide as x and z, or their heads differ") : STATUS_OK;
    case OP_CONV:
        return check_conv(c);
    case OP_SCAN:
        return check_scan(c);
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
