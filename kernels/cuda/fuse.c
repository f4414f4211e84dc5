/* Which operations are done together:
 *   NORM, then LINEARs over its result    the norm while their input is made bytes
 *   LINEARs over one input                one launch for those of one format (q, k, v)
 *   LINEAR, then ADD of its result        the sum by whoever computed it (o, down)
 *   two LINEARs, then GATE of both        one launch (gate, up)
 *   NORM, ROPE of heads of q and k, STORE one launch
 *   GATE or ATTEND, then a LINEAR         the LINEAR's input as bf16 by whoever computed it
 *   two EXPERTS, then GATE of both        one launch (gate, up)
 *   COMBINE, then ADD of its result       one launch
 * Everything else is a launch of its own, and none has operations of two stretches of a split program (op.begins). */
#include "kernels/cuda/cuda.h"

enum fast cuda_fast(const struct compiled *c, const struct weight *w)
{
    enum fast kind = c->plain ? FAST_NOT : cuda_format_kernels[w->format].fast;
    if (kind == FAST_BYTES)
        return c->bytes ? FAST_BYTES : FAST_MATRIX;
    if (kind && w->in % 8) /* 16 bytes at a time */
        return FAST_NOT;
    return c->bytes && kind ? FAST_FLOATS : kind;
}

static enum fast fast(const struct compiled *c, const struct op *op) { return cuda_fast(c, &c->p->weights[op->w]); }

static int linears_over(const struct compiled *c, int first, int x)
{
    const struct program *p = c->p;
    int i = first;
    while (i < p->op_count && i - first < STAGE_LINEARS && p->ops[i].kind == OP_LINEAR && p->ops[i].x == x && p->ops[i].y != x &&
           !(i > first && p->ops[i].begins))
        i++;
    return i - first;
}

/* The stage's last operation, that its linears can do with their results; they are then written nowhere else. */
static bool takes(const struct compiled *c, const struct stage *s, const struct op *op, int behind)
{
    const struct op *one = s->linear[0], *two = s->linear[s->linears - 1];
    enum fast kind = fast(c, two);
    if (!kind || op->y == one->x || op->begins)
        return false;
    if (op->kind == OP_ADD)
        return s->linears == 1 && op->z == one->y && op->x != one->y && !program_live(c->p, one->y, behind);
    return op->kind == OP_GATE && s->linears == 2 && op->x == one->y && op->z == two->y && one->y != two->y &&
           c->p->weights[one->w].format == c->p->weights[two->w].format && (op->y == one->y || !program_live(c->p, one->y, behind)) &&
           (op->y == two->y || !program_live(c->p, two->y, behind));
}

/* Whether op, in place, is the next thing that happens to the heads of one of two buffers. */
static bool turns(const struct compiled *c, struct stage *s, const struct op *op, int which, int head_dim)
{
    bool norm = op->kind == OP_NORM;
    if (op->head_dim != head_dim || (norm ? s->head_norm : s->rope)[which] || (norm && s->rope[which]))
        return false;
    (norm ? s->head_norm : s->rope)[which] = op;
    return c->p->buffers[op->x].rows == ROWS_ALL;
}

/* Norms and ropes of q and k up to the STORE of k and v; 0: something else. */
static int turn_stage(const struct compiled *c, struct stage *s, int i)
{
    const struct program *p = c->p;
    int end = i, q = -1;
    while (end < p->op_count && end - i < 4 && (p->ops[end].kind == OP_ROPE || (p->ops[end].kind == OP_NORM && p->ops[end].x == p->ops[end].y)))
        end++;
    if (c->plain || end == p->op_count || p->ops[end].kind != OP_STORE)
        return 0;
    const struct op *store = &p->ops[end];
    const struct state_group *g = &p->groups[store->group];
    *s = (struct stage){.first = i, .ops = end - i + 1, .store = store};
    for (int k = i; k < end; k++) {
        const struct op *op = &p->ops[k];
        if (p->ops[k + 1].begins)
            return 0;
        int which = op->x == store->x;
        if (!which && q < 0)
            q = op->x;
        if (op->x == store->z || (!which && op->x != q) || !turns(c, s, op, which, g->k_dim))
            return 0;
    }
    return store->x == store->z ? 0 : s->ops;
}

bool cuda_experts_matrix(const struct compiled *c, const struct op *op)
{
    const struct weight *w = &c->p->weights[op->w];
    enum fast kind = cuda_fast(c, w);
    return kind == FAST_MATRIX || kind == FAST_BYTES || (kind == FAST_FLOATS && w->format != STORAGE_F32); /* planes have no other reader */
}

static int experts_stage(const struct compiled *c, struct stage *s, int i)
{
    const struct program *p = c->p;
    const struct op *one = &p->ops[i], *two = one + 1, *gate = one + 2;
    *s = (struct stage){.first = i, .ops = 1, .experts = 1, .expert = {one}};
    bool pair = i + 2 < p->op_count && two->kind == OP_EXPERTS && gate->kind == OP_GATE && !two->begins && !gate->begins && cuda_experts_matrix(c, one) &&
                two->x == one->x && two->z == one->z && two->route == one->route && p->weights[two->w].format == p->weights[one->w].format &&
                p->weights[two->w].out == p->weights[one->w].out;
    if (pair && gate->x == one->y && gate->z == two->y && one->y != two->y && gate->y != one->x && one->y != one->x && two->y != one->x &&
        (gate->y == one->y || !program_live(p, one->y, i + 3)) && (gate->y == two->y || !program_live(p, two->y, i + 3)))
        *s = (struct stage){.first = i, .ops = 3, .experts = 2, .expert = {one, two}, .tail = gate};
    const struct stage *before = i ? s - 1 : NULL; /* the order is still there */
    s->orders = !before || one->begins || !before->experts || before->expert[0]->z != one->z || !cuda_experts_matrix(c, before->expert[0]);
    return s->ops;
}

static int combine_stage(const struct compiled *c, struct stage *s, int i)
{
    const struct op *op = &c->p->ops[i], *add = op + 1;
    bool added = i + 1 < c->p->op_count && add->kind == OP_ADD && !add->begins && add->z == op->y && add->x != op->y && add->y != op->x && add->y != op->z &&
                 (add->y == op->y || !program_live(c->p, op->y, i + 2));
    *s = (struct stage){.first = i, .ops = 1 + added, .combine = op, .tail = added ? add : NULL};
    return s->ops;
}

static int next_stage(const struct compiled *c, struct stage *s, int i)
{
    const struct program *p = c->p;
    const struct op *op = &p->ops[i];
    int turned = turn_stage(c, s, i);
    if (turned)
        return turned;
    if (op->kind == OP_EXPERTS)
        return experts_stage(c, s, i);
    if (op->kind == OP_COMBINE)
        return combine_stage(c, s, i);
    bool norm = op->kind == OP_NORM && op->head_dim == 0;
    norm = norm && i + 1 < p->op_count && !p->ops[i + 1].begins;
    int first = i + norm, count = norm || op->kind == OP_LINEAR ? linears_over(c, first, norm ? op->y : op->x) : 0;
    *s = (struct stage){.first = i, .ops = 1};
    if (!count)
        return 1;
    for (int k = 0; k < count; k++) {
        s->linear[k] = &p->ops[first + k];
        s->bytes |= fast(c, s->linear[k]) == FAST_BYTES;
        s->narrow |= fast(c, s->linear[k]) == FAST_MATRIX;
        s->floats |= fast(c, s->linear[k]) == FAST_FLOATS || fast(c, s->linear[k]) == FAST_NOT;
        if (norm && s->linear[k]->y == op->x) /* the norm's own input is written while others still read it */
            return *s = (struct stage){.first = i, .ops = 1}, 1;
    }
    s->linears = count;
    s->norm = norm ? op : NULL;
    s->ops = norm + count;
    int behind = i + s->ops + 1;
    if (behind <= p->op_count && takes(c, s, &p->ops[behind - 1], behind)) {
        s->tail = &p->ops[behind - 1];
        s->ops++;
    }
    s->floats |= norm && program_live(p, op->y, i + s->ops);
    return s->ops;
}

/* Whether s can write as bf16 what `next` reads so: then nothing is launched in between. Rows are as wide there as they are padded. */
static bool hands(const struct compiled *c, const struct stage *s, const struct stage *next)
{
    const struct program *p = c->p;
    if (s->experts && next->experts) /* in the same order */
        return c->tune.handed && s->tail && !next->orders && next->expert[0]->x == s->tail->y && cuda_experts_matrix(c, next->expert[0]) &&
               c->p->weights[next->expert[0]->w].in % INPUT_UNIT == 0;
    if (s->experts || !c->tune.handed || !next->linears || next->norm || !next->narrow || next->bytes)
        return false;
    const struct op *last = &p->ops[s->first + s->ops - 1];
    bool gated = !s->handed && s->tail && last->kind == OP_GATE && fast(c, s->linear[0]) == FAST_MATRIX;
    return ((gated && p->buffers[s->linear[0]->x].rows == p->buffers[last->y].rows) || (!s->linears && !s->store && last->kind == OP_ATTEND)) &&
           last->y == next->linear[0]->x && p->buffers[last->y].width % INPUT_UNIT == 0;
}

void cuda_fuse(struct compiled *c)
{
    c->stages = 0;
    for (int i = 0; i < c->p->op_count; c->stages++)
        i += next_stage(c, &c->stage[c->stages], i);
    for (int i = 0; i + 1 < c->stages; i++)
        c->stage[i].hands = c->stage[i + 1].handed = hands(c, &c->stage[i], &c->stage[i + 1]);
}

int64_t cuda_widest_handed(const struct compiled *c)
{
    int64_t widest = 0;
    for (int i = 0; i < c->stages; i++)
        if (c->stage[i].handed && c->stage[i].linears && c->p->weights[c->stage[i].linear[0]->w].in > widest)
            widest = c->p->weights[c->stage[i].linear[0]->w].in;
    return widest;
}

int64_t cuda_widest_input(const struct compiled *c, enum fast kind)
{
    int64_t widest = 0;
    for (int i = 0; i < c->p->op_count; i++)
        if (c->p->ops[i].kind == OP_LINEAR && fast(c, &c->p->ops[i]) == kind && c->p->weights[c->p->ops[i].w].in > widest)
            widest = c->p->weights[c->p->ops[i].w].in;
    return (widest + INPUT_UNIT - 1) / INPUT_UNIT * INPUT_UNIT;
}
