/* Cutting a program into segments. */
#include <string.h>

#include "kernels/split.h"

static bool op_reads(const struct op *op, int buffer) { return op->x == buffer || op->z == buffer; }

static bool written(const struct program *p, int buffer, int first, int end)
{
    for (int i = first; i < end; i++)
        if (op_writes(&p->ops[i]) == buffer)
            return true;
    return false;
}

/* Read by the operations [first, end) before they write it, or an output that they are the last to hand out. */
static bool comes_in(const struct program *p, int buffer, int first, int end)
{
    if (!written(p, buffer, 0, first))
        return false;
    for (int i = first; i < end; i++) {
        if (op_reads(&p->ops[i], buffer))
            return true;
        if (op_writes(&p->ops[i]) == buffer)
            return false;
    }
    return end == p->op_count && program_live(p, buffer, end);
}

static bool goes_out(const struct program *p, int buffer, int first, int end)
{
    return end < p->op_count && written(p, buffer, first, end) && program_live(p, buffer, end);
}

int program_cuts(const struct program *p, int *places)
{
    int count = 0;
    for (int i = 1; i < p->op_count; i++) {
        int crossing = 0;
        for (int b = 0; b < p->buffer_count; b++)
            if (written(p, b, 0, i) && program_live(p, b, i))
                crossing += p->buffers[b].rows == ROWS_ALL ? 1 : 2;
        if (crossing == 1)
            places[count++] = i;
    }
    return count;
}

uint64_t program_weight_bytes(const struct program *p, int first, int end)
{
    uint64_t bytes = 0;
    for (int w = 0; w < p->weight_count; w++)
        for (int i = first; i < end; i++)
            if (p->ops[i].w == w || p->ops[i].b == w) {
                const struct storage_type *type = &storage_types[p->weights[w].format];
                bytes += (uint64_t)(p->weights[w].out * (p->weights[w].in / type->block_elements) * type->block_bytes);
                break;
            }
    return bytes;
}

int program_layers_from(const struct program *p, int group, int first, int end, int *start)
{
    int least = INT32_MAX, most = -1;
    for (int i = first; i < end; i++)
        if (p->ops[i].group == group) {
            least = p->ops[i].layer < least ? p->ops[i].layer : least;
            most = p->ops[i].layer > most ? p->ops[i].layer : most;
        }
    *start = most < 0 ? 0 : least;
    return most < 0 ? 0 : most - least + 1;
}

int program_layers(const struct program *p, int group, int first, int end)
{
    int start;
    return program_layers_from(p, group, first, end, &start);
}

/* Copies of the lists that the segment changes. */
static bool copy_lists(struct program *out, const struct program *p, struct arena *arena)
{
    *out = *p;
    out->arena = arena;
    out->ops = NULL;
    out->op_count = 0;
    out->buffers = arena_array(arena, (size_t)p->buffer_count + 1, sizeof *out->buffers);
    out->groups = arena_array(arena, (size_t)p->group_count + 1, sizeof *out->groups);
    if (!out->buffers || !out->groups)
        return false;
    memcpy(out->buffers, p->buffers, (size_t)p->buffer_count * sizeof *out->buffers);
    if (p->group_count)
        memcpy(out->groups, p->groups, (size_t)p->group_count * sizeof *out->groups);
    return true;
}

enum status program_segment(struct program *out, const struct program *p, int first, int end, struct arena *arena, struct error *err)
{
    int start[8];
    if (!copy_lists(out, p, arena))
        return error_memory(err, "a part of the model's program");
    for (int g = 0; g < p->group_count && g < 8; g++)
        out->groups[g].layers = program_layers_from(p, g, first, end, &start[g]);
    for (int b = 0; b < p->buffer_count; b++)
        if (comes_in(p, b, first, end))
            program_add(out, OP_RECEIVE)->y = b;
    for (int i = first; i < end; i++) {
        struct op *op = program_add(out, p->ops[i].kind);
        *op = p->ops[i];
        if (op->group >= 0)
            op->layer -= start[op->group];
    }
    for (int b = 0; b < p->buffer_count; b++)
        if (goes_out(p, b, first, end))
            program_add(out, OP_SEND)->x = b;
    for (int b = 0; b < p->buffer_count; b++) { /* no memory for what only others use */
        bool used = false;
        for (int i = 0; i < out->op_count && !used; i++)
            used = op_reads(&out->ops[i], b) || op_writes(&out->ops[i]) == b;
        if (!used)
            out->buffers[b].width = 0;
    }
    return program_check(out, err);
}
