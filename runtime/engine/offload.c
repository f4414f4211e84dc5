/* Which operations the CPU has although there is a card: those that the card cannot run, and what does not fit on it. The latter are the
 * first layers as a whole, so that rows cross once, or else the feed-forward networks of the first layers (a mixture's experts are in
 * them), so that attention and its cache stay on the card: whichever predicts an exchange of some length to end sooner. Networks may also be
 * the CPU's for single tokens alone: for prompts, whose rows share what is read, their matrices are sent to the card, if that leaves room
 * for what comes and goes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/engine/engine.h"

struct offload {
    struct ingot_engine *e;
    const struct program *p;
    const struct placement *at;
    bool *lacks, *cpu; /* [op]: the card cannot run it; the CPU has it */
    int *places;       /* where the program may be cut, and its end */
    int pieces;        /* between them */
    int asked_rows;    /* see ingot_engine_options.stream_rows */
    double peak[2];    /* products a second of the CPU: with quantised weights, with floats; 0: not measured */
};

/* What the CPU has beyond what the card lacks: whole pieces from the first on, and so many feed-forward networks. */
struct share {
    int pieces, networks;
};

static int piece_begin(const struct offload *o, int piece) { return piece ? o->places[piece - 1] : 0; }

static bool has_state(const struct offload *o, int first, int end)
{
    for (int i = first; i < end; i++)
        if (o->p->ops[i].group >= 0)
            return true;
    return false;
}

/* Neither what comes before the first layer nor the head. */
static bool is_network(const struct offload *o, int piece)
{
    return piece + 1 < o->pieces && has_state(o, 0, piece_begin(o, piece)) && !has_state(o, piece_begin(o, piece), o->places[piece]);
}

static int networks(const struct offload *o)
{
    int count = 0;
    for (int i = 0; i < o->pieces; i++)
        count += is_network(o, i);
    return count;
}

static int layers_from(const struct program *p, int first)
{
    int layers = 0;
    for (int g = 0; g < p->group_count; g++)
        layers += program_layers(p, g, first, p->op_count);
    return layers;
}

/* ---- who has what ----------------------------------------------------------------------------------------------------------- */

/* A layer's cache is where it is written and read. */
static void keep_state_together(struct offload *o)
{
    const struct program *p = o->p;
    for (int i = 0; i < p->op_count; i++)
        for (int k = 0; k < p->op_count && o->cpu[i] && p->ops[i].group >= 0; k++)
            o->cpu[k] |= p->ops[k].group == p->ops[i].group && p->ops[k].layer == p->ops[i].layer;
}

static bool multiplies(const struct op *op) { return op->kind == OP_LINEAR || op->kind == OP_EXPERTS; }

/* What reads no matrix and no cache goes along with neighbours on both sides: it costs less than two ways. */
static void go_along(struct offload *o)
{
    const struct op *ops = o->p->ops;
    for (int i = 1, end; i < o->p->op_count; i = end + 1) {
        for (end = i; end < o->p->op_count && !o->cpu[end] && ops[end].group < 0 && !multiplies(&ops[end]) && ops[end].kind != OP_EMBED;)
            end++;
        if (end < o->p->op_count && o->cpu[i - 1] && o->cpu[end])
            memset(o->cpu + i, true, (size_t)(end - i) * sizeof *o->cpu);
    }
}

/* Marks it, and makes the plan of it. */
static enum status place(struct offload *o, struct share s, struct error *err)
{
    for (int i = 0; i < o->p->op_count; i++)
        o->cpu[i] = o->lacks[i] || i < piece_begin(o, s.pieces);
    for (int i = 0; i < o->pieces && s.networks; i++)
        if (is_network(o, i)) {
            memset(o->cpu + piece_begin(o, i), true, (size_t)(o->places[i] - piece_begin(o, i)) * sizeof *o->cpu);
            s.networks--;
        }
    keep_state_together(o);
    go_along(o);
    enum status status = placement_divide(o->e, o->p, o->at, o->cpu, err);
    return status ? status : placement_measure(o->e, o->p, o->at, err);
}

static bool cards_fit(const struct ingot_plan *p)
{
    bool fit = p->part_count || p->fits;
    for (int i = 0; i < p->part_count; i++)
        fit &= !strcmp(p->parts[i].device, "cpu") || part_fits(&p->parts[i]);
    return fit;
}

/* The least of one kind, above `from` and up to `most`, that lets the rest fit. 0: none does. */
static enum status search(struct offload *o, struct share base, bool pieces, int most, int *found, struct error *err)
{
    int from = pieces ? base.pieces : base.networks, end = most + 1;
    *found = 0;
    while (from + 1 < end) {
        int middle = from + (end - from) / 2;
        *(pieces ? &base.pieces : &base.networks) = middle;
        enum status status = place(o, base, err);
        if (status)
            return status;
        *(cards_fit(&o->e->plan) ? &end : &from) = middle;
    }
    *found = end <= most ? end : 0;
    return STATUS_OK;
}

/* ---- prompts ------------------------------------------------------------------------------------------------------------------ */

/* Bytes a second from a mapped file through pinned memory to a card, with copies on both sides: an assumption (PCIe 4.0 with 16 lanes
 * has 25 GB/s of its own), not measured here. */
static const double stream_bandwidth = 12e9;
/* Of the dot products that registers reach, what the CPU's kernels do over many rows. */
static const double cpu_share = 0.5;

/* What the CPU multiplies with: bytes, and seconds that it takes for a row of a prompt; 0: nobody knows. */
static void cpu_matrices(struct offload *o, uint64_t *bytes, double *row_seconds)
{
    int threads = o->e->plan.threads;
    double products[2] = {0, 0}; /* of quantised weights, of floats */
    *bytes = 0;
    for (int i = 0; i < o->p->op_count; i++) {
        const struct op *op = &o->p->ops[i];
        if (!o->cpu[i] || !multiplies(op))
            continue;
        const struct weight *w = &o->p->weights[op->w];
        int slots = op->kind == OP_EXPERTS ? op_slots(o->p, op) : 1;
        products[storage_types[w->format].block_elements == 1] += 2 * (double)w->out * (double)w->in * slots;
        *bytes += program_weight_bytes(o->p, i, i + 1);
    }
    if (!o->peak[0] && *bytes) /* measured once */
        o->peak[0] = cpu_peak(PEAK_INT8, threads), o->peak[1] = cpu_peak(PEAK_F32, threads);
    if (o->peak[0] <= 0)
        o->peak[0] = o->peak[1];
    *row_seconds = o->peak[1] > 0 ? (products[0] / o->peak[0] + products[1] / o->peak[1]) / cpu_share : 0;
}

/* Whether a card could do all that the CPU has, which has no state: see compile_options. */
static bool may_stream(const struct offload *o)
{
    const struct compile_options *c = &o->e->compile;
    bool may = o->at->cards == 1 && c->segment_count > 1 && !c->deterministic && !o->cpu[0] && !o->cpu[o->p->op_count - 1];
    for (int i = 0; i < o->p->op_count; i++)
        may &= !o->cpu[i] || (!o->lacks[i] && o->p->ops[i].group < 0);
    return may;
}

/* Rows from which the card does what the CPU has now, whose matrices are sent: as many as was asked for, or as pay. 0: none. */
static int32_t stream_rows(struct offload *o)
{
    double row_seconds, rows = o->asked_rows;
    uint64_t bytes;
    if (o->asked_rows < 0 || !may_stream(o))
        return 0;
    cpu_matrices(o, &bytes, &row_seconds);
    if (!o->asked_rows)
        rows = row_seconds > 0 ? ceil((double)bytes / stream_bandwidth / row_seconds) : 0;
    return rows <= PIECE ? (int32_t)rows : 0; /* no step has more of one sequence */
}

/* ---- what it takes ------------------------------------------------------------------------------------------------------------ */

/* Seconds of an exchange, a prompt and an answer with a half full cache; negative: the plan does not fit. streams: rows, or 0. */
static enum status weigh(struct offload *o, struct share s, int32_t streams, double host, double *seconds, struct error *err)
{
    enum { PROMPT = 1024, ANSWER = 256 };
    double row_seconds;
    uint64_t bytes;
    o->e->compile.stream_rows = streams;
    enum status status = place(o, s, err);
    *seconds = -1;
    if (status || !o->e->plan.fits)
        return status;
    cpu_matrices(o, &bytes, &row_seconds);
    *seconds = ANSWER * plan_seconds(&o->e->plan, host, 0.5) + PROMPT * (streams ? (double)bytes / stream_bandwidth / PIECE : row_seconds);
    return STATUS_OK;
}

/* STATUS_NO_ROOM: not one layer fits. */
static enum status make_room(struct offload *o, struct share least, struct error *err)
{
    struct candidate {
        struct share share;
        int32_t streams;
        double seconds;
    } list[3] = {{least, 0, -1}, {least, 0, -1}, {least, 0, -1}}, *best = NULL; /* whole layers, networks, networks that are sent */
    int most = o->pieces - 1;
    while (most > 0 && !layers_from(o->p, piece_begin(o, most)))
        most--;
    struct share all = {least.pieces, networks(o)};
    enum status status = place(o, all, err);
    list[2].streams = status ? 0 : stream_rows(o);
    for (int i = 0; i < 3 && !status; i++) {
        int found = 0;
        o->e->compile.stream_rows = list[i].streams;
        if (i < 2 || list[i].streams)
            status = search(o, least, i == 0, i ? all.networks : most, &found, err);
        *(i ? &list[i].share.networks : &list[i].share.pieces) = found;
    }
    double host = status ? 0 : ingot_read_bandwidth(INGOT_PAGES_FILE, o->e->plan.threads);
    for (int i = 0; i < 3 && !status; i++) {
        struct candidate *c = &list[i];
        if (i ? c->share.networks : c->share.pieces)
            status = weigh(o, c->share, c->streams, host, &c->seconds, err);
        if (c->seconds >= 0 && (!best || c->seconds < best->seconds || (o->asked_rows > 0 && c->streams)))
            best = c;
    }
    if (status)
        return status;
    o->e->compile.stream_rows = best ? best->streams : 0;
    status = place(o, best ? best->share : least, err);
    return status ? status : best ? STATUS_OK : STATUS_NO_ROOM;
}

/* Networks that stay on the CPU because somebody asked for it: sent for prompts if there is room. */
static enum status stream_asked(struct offload *o, struct share least, struct error *err)
{
    struct compile_options *c = &o->e->compile;
    c->stream_rows = stream_rows(o);
    enum status status = c->stream_rows ? place(o, least, err) : STATUS_OK;
    if (status || o->e->plan.fits)
        return status;
    c->stream_rows = 0;
    return place(o, least, err);
}

/* ---- what the card lacks ---------------------------------------------------------------------------------------------------- */

static void list(struct ingot_plan *plan, const struct program *p, const struct op *op, const char *why)
{
    enum { MOST = sizeof plan->lacks / sizeof *plan->lacks };
    const char *format = op->w >= 0 && (multiplies(op) || op->kind == OP_EMBED) ? storage_types[p->weights[op->w].format].name : "";
    struct ingot_plan_lack lack = {.count = 0};
    snprintf(lack.operation, sizeof lack.operation, "%s", op_names[op->kind]);
    snprintf(lack.format, sizeof lack.format, "%s", format);
    snprintf(lack.reason, sizeof lack.reason, "%s", why);
    int i = 0;
    while (i < plan->lack_count && (strcmp(plan->lacks[i].operation, lack.operation) || strcmp(plan->lacks[i].format, lack.format) ||
                                    strcmp(plan->lacks[i].reason, lack.reason)))
        i++;
    if (i == MOST) { /* counted all the same, with the last */
        struct ingot_plan_lack *last = &plan->lacks[--i];
        *last = (struct ingot_plan_lack){.operation = "others", .count = last->count, .weights_bytes = last->weights_bytes};
    } else if (i == plan->lack_count) {
        plan->lacks[plan->lack_count++] = lack;
    }
    plan->lacks[i].count++;
    if (multiplies(op))
        plan->lacks[i].weights_bytes += program_weight_bytes(p, (int)(op - p->ops), (int)(op - p->ops) + 1);
}

static void find_lacks(struct offload *o)
{
    struct compile_options c = o->e->compile;
    o->e->plan.lack_count = 0;
    for (int i = 0; i < o->p->op_count; i++)
        for (int card = 0; card < o->at->cards && !o->lacks[i] && o->at->backend->runs; card++) {
            char why[sizeof o->e->plan.lacks->reason] = "";
            c.device = o->at->card[card];
            o->lacks[i] = !o->at->backend->runs(o->p, &c, i, why, sizeof why);
            if (o->lacks[i])
                list(&o->e->plan, o->p, &o->p->ops[i], why);
        }
}

/* ---- all of it ---------------------------------------------------------------------------------------------------------------- */

/* Pieces before so many of the last layers. */
static int pieces_before(const struct offload *o, int layers)
{
    int pieces = 0;
    for (int i = 1; i < o->pieces && layers && layers < layers_from(o->p, 0); i++) /* where the layer begins, not in its middle */
        if (layers_from(o->p, piece_begin(o, i)) >= layers)
            pieces = i;
    return pieces;
}

static bool open_lists(struct offload *o)
{
    size_t ops = (size_t)o->p->op_count + 1;
    o->lacks = calloc(ops, sizeof *o->lacks);
    o->cpu = calloc(ops, sizeof *o->cpu);
    o->places = calloc(ops, sizeof *o->places);
    if (!o->lacks || !o->cpu || !o->places)
        return false;
    o->pieces = program_cuts(o->p, o->places);
    o->places[o->pieces++] = o->p->op_count;
    return true;
}

enum status offload_fit(struct ingot_engine *e, const struct program *p, const struct placement *at, const struct ingot_engine_options *options, struct error *err)
{
    struct offload o = {.e = e, .p = p, .at = at, .asked_rows = options->stream_rows};
    enum status status = open_lists(&o) ? STATUS_OK : error_memory(err, "a plan");
    if (!status) {
        int all = networks(&o), asked = options->cpu_networks;
        struct share least = {pieces_before(&o, options->gpu_layers), asked < 0 || asked > all ? all : asked};
        find_lacks(&o);
        status = place(&o, least, err);
        if (!status && e->plan.fits)
            status = stream_asked(&o, least, err);
        else if (!status) {
            e->plan.offloaded = true;
            status = make_room(&o, least, err);
        }
    }
    double ignored;
    e->plan.stream_rows = e->compile.stream_rows;
    if (e->plan.stream_rows)
        cpu_matrices(&o, &e->plan.stream_bytes, &ignored);
    free(o.lacks);
    free(o.cpu);
    free(o.places);
    return status;
}
