/* From operations to stages: which neighbours are done together.
 *   NORM, then LINEARs over its result      -> one stage; the norm is done while the input is prepared
 *   LINEARs over one input                  -> one stage (q, k, v; gate, up)
 *   LINEARs, then ADD or GATE or SCALE of their results column by column
 *                                           -> the same stage; done by whoever computed the columns, and packed for the next one
 *   EXPERTS over one input, then ADD or GATE or SCALE of their results
 *                                           -> one stage
 *   norms, ROPE and STORE of single heads, then ATTEND -> one stage
 *   CONV, SCAN                             -> a stage each
 *   anything else that needs only its own row -> runs of such operations, row by row
 * A barrier stands only between stages, and none holds operations of two stretches of a split program (op.begins). */
#include <string.h>

#include "kernels/cpu/cpu.h"

static bool elementwise(enum op_kind kind) { return kind == OP_ADD || kind == OP_GATE || kind == OP_SCALE; }

/* Needs other rows of its sequence, too, in their order. */
static bool over_rows(const struct op *op) { return op->kind == OP_CONV || op->kind == OP_SCAN; }

static int linears_over(const struct program *p, int first, int x)
{
    int i = first;
    while (i < p->op_count && i - first < STAGE_PARTS && p->ops[i].kind == OP_LINEAR && p->ops[i].x == x && p->ops[i].y != x &&
           (i == first || !p->ops[i].begins))
        i++;
    return i - first;
}

static int experts_over(const struct program *p, int first)
{
    const struct op *one = &p->ops[first], *op = one;
    int i = first;
    for (; i < p->op_count && i - first < STAGE_PARTS && op->kind == OP_EXPERTS && op->x == one->x && op->z == one->z && op->route == one->route &&
           op_slots(p, op) == op_slots(p, one);
         op = &p->ops[++i])
        if (op->y == one->x || p->weights[op->w].out != p->weights[one->w].out || (i > first && op->begins))
            break;
    return i - first;
}

/* Elementwise operations behind the LINEARs or EXPERTS [first, first + count) that only need columns that the same thread has made:
 * every operand is one of their results (or of such an operation), or was complete before the stage. All widths equal. */
static int epilogue(const struct program *p, int first, int count, int input)
{
    int64_t out = p->buffers[p->ops[first].y].width;
    enum buffer_rows rows = p->buffers[p->ops[first].y].rows;
    for (int i = first; i < first + count; i++)
        if (p->buffers[p->ops[i].y].width != out)
            return 0;
    int n = 0;
    for (int i = first + count; i < p->op_count && elementwise(p->ops[i].kind); i++, n++) {
        const struct op *op = &p->ops[i];
        /* the stage's input is being read by others while columns are written */
        if (p->buffers[op->y].width != out || p->buffers[op->y].rows != rows || op->y == input || op->begins)
            break;
    }
    return n;
}

/* Whether nobody but the epilogue reads the linears' result y. Parts that share a y would have to share its place. */
static bool stays(const struct program *p, const struct stage *s, int y)
{
    int same = 0;
    for (int k = 0; k < s->parts; k++)
        same += s->part[k].y == y;
    bool rewritten = false;
    for (int i = s->first_op; i < s->first_op + s->op_count; i++)
        rewritten |= p->ops[i].y == y;
    return same == 1 && (rewritten || !program_live(p, y, s->first_op + s->op_count));
}

/* May the norm be done by whoever prepares the input of these linears? Its own result is then written only if others read it. */
static bool norm_fits(const struct program *p, const struct op *norm, int first, int count)
{
    for (int i = first; i < first + count; i++)
        if (p->ops[i].y == norm->x)
            return false;
    return count > 0 && !p->ops[first].begins && (norm->x != norm->y || !program_live(p, norm->y, first + count));
}

static void add_linear(struct compiled *c, struct stage *s, const struct op *op)
{
    const struct weight *w = &c->p->weights[op->w];
    s->part[s->parts++] = (struct part){w, c->isa->linear(w->format), op->b >= 0 && c->vector ? c->vector[op->b] : NULL, op->y, false};
}

/* Operations on single heads right before an ATTEND (norms of q and k, ROPE, STORE): whoever attends over a kv head can do
 * them for it. Returns how many start at operation i, 0 where what follows them is no ATTEND that fits. */
static int head_ops(const struct program *p, int i)
{
    int n = 0, stored = -1;
    for (; i + n < p->op_count; n++) {
        const struct op *op = &p->ops[i + n];
        if (n && op->begins)
            return 0;
        if (op->kind == OP_STORE)
            stored = i + n;
        else if (op->kind != OP_ROPE && !(op->kind == OP_NORM && op->head_dim > 0 && op->x == op->y))
            break;
    }
    if (i + n >= p->op_count || (n && p->ops[i + n].begins) || p->ops[i + n].kind != OP_ATTEND || stored != i + n - 1)
        return 0;
    const struct op *attend = &p->ops[i + n], *store = &p->ops[stored];
    const struct state_group *g = &p->groups[attend->group];
    if (store->group != attend->group || store->layer != attend->layer || p->buffers[attend->x].rows != ROWS_ALL)
        return 0;
    for (int k = i; k < stored; k++) {
        const struct op *op = &p->ops[k];
        int64_t heads = op->head_dim > 0 ? p->buffers[op->x].width / op->head_dim : 0;
        if (op->kind == OP_STORE || heads != (op->x == attend->x ? attend->heads : g->heads) ||
            (op->x != attend->x && op->x != store->x && (g->v_in_k || op->x != store->z)))
            return 0;
    }
    return n;
}

static int experts_stage_at(struct compiled *c, struct stage *s, int i)
{
    const struct op *op = &c->p->ops[i];
    int count = experts_over(c->p, i);
    s->kind = STAGE_EXPERTS;
    s->x = op->x;
    s->z = op->z;
    s->experts = c->p->weights[op->w].experts;
    s->slots = op_slots(c->p, op);
    for (int k = i; k < i + count; k++)
        add_linear(c, s, &c->p->ops[k]);
    s->first_op = i + count;
    s->op_count = epilogue(c->p, i, count, s->x);
    return count + s->op_count;
}

/* A stage that starts at operation i; returns the operations it takes. */
static int next_stage(struct compiled *c, struct stage *s, int i)
{
    const struct program *p = c->p;
    const struct op *op = &p->ops[i];
    memset(s, 0, sizeof *s);
    s->begin = i;
    int before = head_ops(p, i);
    if (before || op->kind == OP_ATTEND) {
        s->kind = STAGE_ATTEND;
        s->first_op = i;
        s->op_count = before;
        s->attend = op + before;
        return before + 1;
    }
    const struct op *norm = op->kind == OP_NORM && op->head_dim == 0 ? op : NULL;
    int first = norm ? i + 1 : i, x = norm ? norm->y : op->x;
    int count = norm || op->kind == OP_LINEAR ? linears_over(p, first, x) : 0;
    if (norm && !norm_fits(p, norm, first, count))
        count = 0;
    if (count) {
        s->kind = STAGE_LINEAR;
        s->norm = norm;
        s->keeps = norm && program_live(p, norm->y, first + count);
        s->x = norm ? norm->x : op->x;
        for (int k = first; k < first + count; k++)
            add_linear(c, s, &p->ops[k]);
        s->first_op = first + count;
        s->op_count = epilogue(p, first, count, s->x);
        s->joint = s->op_count > 0;
        for (int k = 0; k < s->parts; k++)
            s->part[k].local = s->joint && stays(p, s, s->part[k].y);
        return first - i + count + s->op_count;
    }
    if (op->kind == OP_EXPERTS)
        return experts_stage_at(c, s, i);
    s->first_op = i;
    if (over_rows(op)) {
        s->kind = op->kind == OP_CONV ? STAGE_CONV : STAGE_SCAN;
        return s->op_count = 1;
    }
    s->kind = STAGE_ROWS;
    enum buffer_rows rows = p->buffers[op_writes(op) >= 0 ? op_writes(op) : op->x].rows;
    int n = 0;
    for (; i + n < p->op_count; n++) {
        const struct op *o = &p->ops[i + n];
        if (o->kind == OP_LINEAR || o->kind == OP_ATTEND || o->kind == OP_EXPERTS || over_rows(o) || head_ops(p, i + n) || (n && o->begins))
            break;
        int target = op_writes(o) >= 0 ? op_writes(o) : o->x;
        if (n && (o->kind == OP_SELECT || p->buffers[target].rows != rows)) /* other rows: a stage of its own */
            break;
        if (n && o->kind == OP_NORM && o->head_dim == 0 && norm_fits(p, o, i + n + 1, linears_over(p, i + n + 1, o->y)))
            break; /* better done while its linears' input is prepared */
    }
    s->op_count = n;
    return n;
}

/* May stage s pack its result for the next one, which alone reads it? It is made where the first part's own result was, column
 * range by column range, and never comes to its buffer. */
static bool packs(const struct program *p, const struct stage *s, const struct stage *next)
{
    if (s->kind != STAGE_LINEAR || !s->op_count || !s->part[0].local || next->kind != STAGE_LINEAR || next->norm || p->ops[next->begin].begins)
        return false;
    int y = p->ops[s->first_op + s->op_count - 1].y;
    bool fits = next->x == y && p->buffers[next->part[0].y].rows == p->buffers[y].rows && !program_live(p, y, next->begin + next->parts);
    for (int k = 0; k < next->parts; k++)
        fits &= next->part[k].kernel->many_forms == FORM_TILES && next->part[k].y != y;
    return fits;
}

void plan_stages(struct compiled *c)
{
    c->stage_count = 0;
    for (int i = 0; i < c->p->op_count; c->stage_count++)
        i += next_stage(c, &c->stages[c->stage_count], i);
    for (int i = 0; i + 1 < c->stage_count; i++)
        c->stages[i].packs = c->stages[i + 1].packed = packs(c->p, &c->stages[i], &c->stages[i + 1]);
}
