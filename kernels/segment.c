/* Cutting a program into parts: what each device does of it, and what they hand each other. */
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

static uint64_t matrix_bytes(const struct weight *w)
{
    const struct storage_type *type = &storage_types[w->format];
    return (uint64_t)(w->out * (w->in / type->block_elements) * type->block_bytes);
}

/* reads: of a stack, only what one row chooses. */
static uint64_t sum_bytes(const struct program *p, int first, int end, bool reads)
{
    uint64_t bytes = 0;
    for (int w = 0; w < p->weight_count; w++)
        for (int i = first; i < end; i++)
            if (!p->ops[i].streamed && (p->ops[i].w == w || p->ops[i].b == w)) {
                bool some = reads && p->weights[w].experts > 1;
                bytes += matrix_bytes(&p->weights[w]) * (uint64_t)(some ? op_slots(p, &p->ops[i]) : p->weights[w].experts);
                break;
            }
    return bytes;
}

uint64_t program_weight_bytes(const struct program *p, int first, int end) { return sum_bytes(p, first, end, false); }

uint64_t program_read_bytes(const struct program *p, int first, int end) { return sum_bytes(p, first, end, true); }

int program_layers(const struct program *p, int group, int first, int end)
{
    int most = -1, least = INT32_MAX;
    for (int i = first; i < end; i++)
        if (p->ops[i].group == group) {
            least = p->ops[i].layer < least ? p->ops[i].layer : least;
            most = p->ops[i].layer > most ? p->ops[i].layer : most;
        }
    return most < 0 ? 0 : most - least + 1;
}

/* ---- who has which operations ------------------------------------------------------------------------------------------- */

bool split_same_part(const struct segment *a, const struct segment *b)
{
    return a->backend == b->backend && a->device == b->device && a->rank == b->rank && a->ranks == b->ranks;
}

int split_parts(const struct segment *segments, int count, int *part)
{
    int parts = 0;
    for (int i = 0; i < count; i++) {
        int k = 0;
        while (!split_same_part(&segments[k], &segments[i]))
            k++;
        part[i] = k < i ? part[k] : parts++;
    }
    return parts;
}

/* Where the values of buffers are while the program runs. */
struct whereabouts {
    const struct division *d;
    bool *here; /* [part][buffer]: it has the value that counts */
    int *writer; /* [buffer]: the stretch that wrote it; -1: none yet */
};

/* The stretch reads the buffer: whoever wrote it sends it, unless it is here. */
static void fetch(struct whereabouts *w, int reader, int buffer)
{
    struct stretch *s = w->d->stretch;
    bool *here = w->here + (int64_t)s[reader].part * w->d->p->buffer_count;
    if (buffer < 0 || here[buffer] || w->writer[buffer] < 0)
        return;
    s[reader].receives[buffer] = s[w->writer[buffer]].sends[buffer] = here[buffer] = true;
}

static void write(struct whereabouts *w, int writer, int buffer)
{
    if (buffer < 0)
        return;
    for (int i = 0; i < w->d->parts; i++)
        w->here[(int64_t)i * w->d->p->buffer_count + buffer] = i == w->d->stretch[writer].part;
    w->writer[buffer] = writer;
}

/* A layer's state lies where it is stored, and is read there. */
static enum status check_state(const struct division *d, struct arena *arena, struct error *err)
{
    for (int g = 0; g < d->p->group_count; g++) {
        int *part = arena_array(arena, (size_t)d->p->groups[g].layers + 1, sizeof *part); /* [layer], and 1 */
        if (!part)
            return error_memory(err, "a split program");
        for (int s = 0; s < d->stretches; s++)
            for (int i = d->stretch[s].first; i < d->stretch[s].end; i++) {
                const struct op *op = &d->p->ops[i];
                if (op->group == g && part[op->layer] && part[op->layer] != d->stretch[s].part + 1)
                    return error_set(err, STATUS_FAILED, "split: layer %d of the cache is on two devices", op->layer);
                if (op->group == g)
                    part[op->layer] = d->stretch[s].part + 1;
            }
    }
    return STATUS_OK;
}

enum status program_divide(struct division *d, const struct program *p, const struct segment *segments, int count, struct arena *arena, struct error *err)
{
    size_t buffers = (size_t)p->buffer_count + 1;
    int *part = arena_array(arena, (size_t)count + 1, sizeof *part);
    *d = (struct division){.p = p, .stretch = arena_array(arena, (size_t)count + 1, sizeof *d->stretch)};
    if (!part || !d->stretch)
        return error_memory(err, "a split program");
    d->parts = split_parts(segments, count, part);
    struct whereabouts w = {d, arena_array(arena, (size_t)d->parts * buffers, sizeof *w.here), arena_array(arena, buffers, sizeof *w.writer)};
    if (!w.here || !w.writer)
        return error_memory(err, "a split program");
    memset(w.writer, -1, buffers * sizeof *w.writer);
    for (int i = 0; i < count; i += segments[i].ranks) {
        struct stretch *s = &d->stretch[d->stretches++];
        *s = (struct stretch){segments[i].first, segments[i].end, part[i], segments[i].ranks, arena_array(arena, buffers, sizeof(bool)),
                              arena_array(arena, buffers, sizeof(bool))};
        if (!s->receives || !s->sends)
            return error_memory(err, "a split program");
        for (int k = s->first; k < s->end; k++) {
            fetch(&w, d->stretches - 1, p->ops[k].x);
            fetch(&w, d->stretches - 1, p->ops[k].z);
            write(&w, d->stretches - 1, op_writes(&p->ops[k]));
        }
    }
    for (int i = 0; i < p->output_count; i++) /* the last part hands them out */
        fetch(&w, d->stretches - 1, p->outputs[i].buffer);
    return check_state(d, arena, err);
}

/* ---- the program of a part ---------------------------------------------------------------------------------------------- */

/* Copies of the lists that a part changes. Only the last part has outputs. */
static bool copy_lists(struct program *out, const struct division *d, int part, struct arena *arena)
{
    const struct program *p = d->p;
    *out = *p;
    out->arena = arena;
    out->ops = NULL;
    out->op_count = 0;
    out->output_count = part == d->stretch[d->stretches - 1].part ? p->output_count : 0;
    out->buffers = arena_array(arena, (size_t)p->buffer_count + 1, sizeof *out->buffers);
    out->groups = arena_array(arena, (size_t)p->group_count + 1, sizeof *out->groups);
    if (!out->buffers || !out->groups)
        return false;
    memcpy(out->buffers, p->buffers, (size_t)p->buffer_count * sizeof *out->buffers);
    if (p->group_count)
        memcpy(out->groups, p->groups, (size_t)p->group_count * sizeof *out->groups);
    return true;
}

/* The group's layers that the part has, ascending: what they are called in its own program is their place in the list. */
static enum status find_layers(struct program *out, int *layers[8], const struct division *d, int part, struct error *err)
{
    for (int g = 0; g < d->p->group_count && g < 8; g++) {
        bool *has = arena_array(out->arena, (size_t)d->p->groups[g].layers + 1, sizeof *has);
        layers[g] = arena_array(out->arena, (size_t)d->p->groups[g].layers + 1, sizeof *layers[g]);
        if (!has || !layers[g])
            return error_memory(err, "a part of the model's program");
        for (int s = 0; s < d->stretches; s++)
            for (int i = d->stretch[s].first; i < d->stretch[s].end && d->stretch[s].part == part; i++)
                if (d->p->ops[i].group == g)
                    has[d->p->ops[i].layer] = true;
        out->groups[g].layers = 0;
        for (int i = 0; i < d->p->groups[g].layers; i++)
            if (has[i])
                layers[g][out->groups[g].layers++] = i;
    }
    return STATUS_OK;
}

static int place_of(const int *list, int count, int value)
{
    int i = 0;
    while (i < count && list[i] != value)
        i++;
    return i;
}

static void add_stretch(struct program *out, int *const layers[8], const struct program *p, const struct stretch *s)
{
    int begin = out->op_count;
    for (int b = 0; b < p->buffer_count; b++)
        if (s->receives[b])
            program_add(out, OP_RECEIVE)->y = b;
    for (int i = s->first; i < s->end; i++) {
        struct op *op = program_add(out, p->ops[i].kind);
        *op = p->ops[i];
        if (op->group >= 0)
            op->layer = place_of(layers[op->group], out->groups[op->group].layers, op->layer);
    }
    for (int b = 0; b < p->buffer_count; b++)
        if (s->sends[b])
            program_add(out, OP_SEND)->x = b;
    if (begin < out->op_count)
        out->ops[begin].begins = true;
}

/* Another part's operations, which have no state; what they read and write is here while the step streams. */
static void add_streamed(struct program *out, const struct program *p, const struct stretch *s)
{
    for (int i = s->first; i < s->end; i++) {
        struct op *op = program_add(out, p->ops[i].kind);
        *op = p->ops[i];
        op->streamed = true;
        op->begins = i == s->first;
    }
}

enum status program_part(struct program *out, int *layers[8], const struct division *d, int part, bool streamed, struct arena *arena, struct error *err)
{
    if (!copy_lists(out, d, part, arena))
        return error_memory(err, "a part of the model's program");
    enum status status = find_layers(out, layers, d, part, err);
    if (status)
        return status;
    for (int s = 0; s < d->stretches; s++)
        if (d->stretch[s].part == part)
            add_stretch(out, layers, d->p, &d->stretch[s]);
        else if (streamed)
            add_streamed(out, d->p, &d->stretch[s]);
    for (int b = 0; b < d->p->buffer_count; b++) { /* no memory for what only others use */
        bool used = false;
        for (int i = 0; i < out->op_count && !used; i++)
            used = op_reads(&out->ops[i], b) || op_writes(&out->ops[i]) == b;
        if (!used)
            out->buffers[b].width = 0;
    }
    return program_check(out, err);
}
