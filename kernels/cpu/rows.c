/* Operations that need only their own row, and those that need only their own columns. */
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/exchange.h"

static float *row_of(const struct compiled *c, int buffer, int32_t row) { return c->buffer[buffer] + row * c->p->buffers[buffer].width; }

/* first: of x in its row. */
static void norm_slice(const struct compiled *c, const struct op *op, int64_t first, const float *x, float *y, int64_t width)
{
    struct norm_shape shape = {.n = op->head_dim > 0 ? op->head_dim : width,
                               .weight = op->w >= 0 ? c->vector[op->w] : NULL,
                               .bias = op->b >= 0 ? c->vector[op->b] : NULL,
                               .epsilon = op->epsilon,
                               .offset = op->offset,
                               .centred = op->centred};
    int64_t weight = op->w >= 0 && c->p->weights[op->w].in > shape.n, bias = op->b >= 0 && c->p->weights[op->b].in > shape.n;
    if (!weight && !bias) {
        c->isa->norm(&shape, x, y, width);
        return;
    }
    for (int64_t at = 0; at < width; at += shape.n) { /* values of their own for each head */
        struct norm_shape own = shape;
        own.weight += weight * (first + at);
        own.bias += bias * (first + at);
        c->isa->norm(&own, x + at, y + at, shape.n);
    }
}

void norm_row(const struct compiled *c, const struct op *op, const float *x, float *y)
{
    norm_slice(c, op, 0, x, y, c->p->buffers[op->x].width);
}

static void embed(struct compiled *c, const struct op *op, int32_t row)
{
    int64_t width = c->p->buffers[op->y].width;
    float *y = row_of(c, op->y, row);
    const struct batch_row *in = &c->batch->row[batch_row_of(c, op->y, row)];
    if (in->token < 0) { /* an embedding from outside is what EMBED would have made: not scaled again */
        memcpy(y, in->embedding, (size_t)width * sizeof *y);
        return;
    }
    const struct weight *w = &c->p->weights[op->w];
    format_find(w->format)->decode(w->data + in->token * w->row_bytes, y, width);
    float scale = w->factor != 0 ? op->scale * w->factor : op->scale;
    for (int64_t i = 0; scale != 1 && i < width; i++)
        y[i] *= scale;
}

/* K and V of the kv heads [first, end) of a row into its block. */
static void store(struct compiled *c, const struct op *op, int32_t row, int first, int end)
{
    const struct state_group *g = &c->p->groups[op->group];
    const struct state_layout *l = &c->layout[op->group];
    const struct batch_sequence *s = &c->batch->sequence[c->batch->row[row].sequence];
    int64_t token = s->cached + (row - s->first_row);
    unsigned char *block = c->state->pool[op->group] + (uint64_t)s->blocks[op->group][token / BLOCK_TOKENS] * l->block_bytes +
                           (uint64_t)op->layer * l->layer_bytes;
    int slot = (int)(token % BLOCK_TOKENS);
    for (int head = first; head < end; head++) {
        unsigned char *at = block + (uint64_t)head * (l->k_bytes + l->v_bytes);
        cache_write(c->options.k_type, true, g->k_dim, slot, row_of(c, op->x, row) + head * g->k_dim, at, c->isa->narrow);
        if (!g->v_in_k)
            cache_write(c->options.v_type, false, g->v_dim, slot, row_of(c, op->z, row) + head * g->v_dim, at + l->k_bytes, c->isa->narrow);
    }
}

static void rope(struct compiled *c, const struct op *op, int32_t row, int first, int end)
{
    const struct rope *r = &c->p->ropes[op->rope];
    int32_t at = batch_row_of(c, op->x, row);
    const float *table = c->rope_table + ((int64_t)op->rope * c->options.max_rows + at) * c->rope_stride;
    c->isa->rope(row_of(c, op->x, row) + first * op->head_dim, end - first, op->head_dim, table, table + c->rope_stride / 2, r->dims / 2,
                 r->interleaved);
}

void head_op(struct compiled *c, const struct op *op, int32_t row, int first, int end)
{
    if (op->kind == OP_STORE)
        store(c, op, row, first, end);
    else if (op->kind == OP_ROPE)
        rope(c, op, row, first, end);
    else
        norm_slice(c, op, first * op->head_dim, row_of(c, op->x, row) + first * op->head_dim, row_of(c, op->y, row) + first * op->head_dim,
                   (int64_t)(end - first) * op->head_dim);
}

/* n columns of one row */
static void columns(const struct compiled *c, const struct op *op, const float *x, const float *z, float *y, int64_t n)
{
    if (op->kind == OP_ADD) {
        c->isa->add(x, z, op->scale, y, n);
    } else if (op->kind == OP_GATE) {
        c->isa->activate(op->activation, x, z, y, n);
    } else {
        float inner = op->cap > 0 ? op->scale / op->cap : op->scale;
        for (int64_t i = 0; i < n; i++)
            y[i] = x[i] * inner;
        if (op->cap > 0) {
            c->isa->activate(ACT_TANH, y, NULL, y, n);
            for (int64_t i = 0; i < n; i++)
                y[i] *= op->cap;
        }
    }
}

enum { ROWS_AHEAD = 6, LINE_FLOATS = 64 / sizeof(float) };

/* Column `first` of a buffer's row 0, and how far the next row is. */
static float *place_of(const struct compiled *c, int buffer, int64_t first, const struct elsewhere *elsewhere, int count, int64_t *stride)
{
    for (int i = 0; i < count; i++)
        if (elsewhere[i].buffer == buffer) {
            *stride = elsewhere[i].stride;
            return elsewhere[i].at + first;
        }
    *stride = c->p->buffers[buffer].width;
    return c->buffer[buffer] + first;
}

void columns_op(struct compiled *c, const struct op *op, int64_t first, int64_t end, const struct elsewhere *elsewhere, int count,
                const struct elsewhere *to)
{
    int64_t x_stride, z_stride = 0, y_stride;
    const float *x = place_of(c, op->x, first, elsewhere, count, &x_stride);
    const float *z = op->z >= 0 ? place_of(c, op->z, first, elsewhere, count, &z_stride) : NULL;
    float *y = place_of(c, op->y, first, to, to != NULL, &y_stride);
    for (int64_t row = 0, rows = buffer_rows(c, op->y); row < rows; row++) {
        /* rows may be pages apart: the hardware sees nothing coming */
        for (int64_t i = 0; i < end - first && row + ROWS_AHEAD < rows; i += LINE_FLOATS)
            __builtin_prefetch(y + (row + ROWS_AHEAD) * y_stride + i, 1);
        columns(c, op, x + row * x_stride, z ? z + row * z_stride : NULL, y + row * y_stride, end - first);
    }
}

void cells_op(struct compiled *c, const struct op *op, int64_t first, int64_t end)
{
    columns(c, op, c->buffer[op->x] + first, op->z >= 0 ? c->buffer[op->z] + first : NULL, c->buffer[op->y] + first, end - first);
}

/* Slots times their weights, the first slot first. */
static void combine(struct compiled *c, const struct op *op, int32_t row)
{
    int64_t n = c->p->buffers[op->y].width, slots = c->p->buffers[op->x].width / n;
    const float *x = row_of(c, op->x, row), *weights = row_of(c, op->z, row) + c->p->buffers[op->z].width - slots;
    float *y = row_of(c, op->y, row);
    for (int64_t s = 0; s < slots; s++) {
        float weight;
        c->isa->activate(op->activation, weights + s, NULL, &weight, 1);
        for (int64_t i = 0; i < n && !s; i++)
            y[i] = weight * x[i];
        if (s)
            c->isa->add(y, x + s * n, weight, y, n);
    }
}

static void join(struct compiled *c, const struct op *op, int32_t row)
{
    int64_t nx = c->p->buffers[op->x].width / op->heads, nz = c->p->buffers[op->z].width / op->heads;
    const float *x = row_of(c, op->x, row), *z = row_of(c, op->z, row);
    float *y = row_of(c, op->y, row);
    for (int i = 0; i < op->heads; i++, x += nx, z += nz, y += nx + nz) {
        memcpy(y, x, (size_t)nx * sizeof *y);
        memcpy(y + nx, z, (size_t)nz * sizeof *y);
    }
}

void rows_op(struct compiled *c, const struct op *op, int32_t row)
{
    switch (op->kind) {
    case OP_EMBED:
        embed(c, op, row);
        break;
    case OP_NORM:
        norm_row(c, op, row_of(c, op->x, row), row_of(c, op->y, row));
        break;
    case OP_ROPE:
        rope(c, op, row, 0, op->heads);
        break;
    case OP_STORE:
        store(c, op, row, 0, c->p->groups[op->group].heads);
        break;
    case OP_ROUTE:
        route_choose(&c->p->routes[op->route], row_of(c, op->x, row), op->b >= 0 ? c->vector[op->b] : NULL, row_of(c, op->y, row));
        break;
    case OP_COMBINE:
        combine(c, op, row);
        break;
    case OP_JOIN:
        join(c, op, row);
        break;
    case OP_SELECT: {
        bool all = c->p->buffers[op->x].rows == ROWS_ALL && c->p->buffers[op->y].rows == ROWS_WANTED;
        memcpy(row_of(c, op->y, row), row_of(c, op->x, all ? c->batch->wanted_rows[row] : row),
               (size_t)c->p->buffers[op->y].width * sizeof(float));
        break;
    }
    case OP_SEND:
        if (!c->batch->streams)
            memcpy(c->options.exchange->rows[op->x] + row * c->p->buffers[op->x].width, row_of(c, op->x, row),
                   (size_t)c->p->buffers[op->x].width * sizeof(float));
        break;
    case OP_RECEIVE:
        if (!c->batch->streams)
            memcpy(row_of(c, op->y, row), c->options.exchange->rows[op->y] + row * c->p->buffers[op->y].width,
                   (size_t)c->p->buffers[op->y].width * sizeof(float));
        break;
    case OP_ADD:
    case OP_GATE:
    case OP_SCALE:
        columns(c, op, row_of(c, op->x, row), op->z >= 0 ? row_of(c, op->z, row) : NULL, row_of(c, op->y, row), c->p->buffers[op->y].width);
        break;
    default:
        break;
    }
}
