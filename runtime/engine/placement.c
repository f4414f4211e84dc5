/* Devices: what was asked for, and which operations run where. A card too small for all layers has the last ones and the head, so
 * that logits are where they may be sampled; the CPU has the embedding, of which it reads a row, and the first layers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "runtime/engine/engine.h"

/* What of a card's free memory a plan leaves alone: for kernels, which the driver loads when they first run, for cuBLAS, and for
 * allocations, each of which ends at a multiple of 2 MiB: half of that on average. */
static uint64_t card_spare(const struct program *p) { return ((uint64_t)256 + (uint64_t)p->weight_count) << 20; }

static enum status bad_device(const char *device, struct error *err)
{
    return error_set(err, STATUS_USAGE, "--device: %s is none of auto, cpu, cuda, cuda:N, cuda:N,M", QUOTE(device, strlen(device)));
}

/* "cuda", "cuda:1", "cuda:0,1" */
static enum status read_cards(const char *device, struct placement *out, struct error *err)
{
    const char *at = device + strlen("cuda");
    char *end;
    if (!*at)
        return out->cards = 1, STATUS_OK;
    for (char before = ':'; *at == before; at = end, before = ',') {
        long card = strtol(at + 1, &end, 10);
        if (end == at + 1 || card < 0 || card > 63 || out->cards == MAX_SEGMENTS)
            return bad_device(device, err);
        out->card[out->cards++] = (int)card;
    }
    return *at ? bad_device(device, err) : STATUS_OK;
}

static enum status choose_cards(struct ingot_engine *e, const struct program *p, const struct ingot_engine_options *o, struct placement *out, struct error *err)
{
    const char *device = o->device && strcmp(o->device, "auto") ? o->device : "cuda";
    enum status status = read_cards(device, out, err);
    const struct backend *cuda = NULL;
    char *name = e->plan.device;
    size_t size = sizeof e->plan.device;
    uint64_t least = UINT64_MAX;
    snprintf(name, size, "cuda:");
    for (int i = 0; i < out->cards && !status; i++) {
        struct cuda_room room;
        if ((status = backend_cuda(&cuda, out->card[i], &room, err)))
            return error_prefix(err, "--device %s", device);
        uint64_t times = 0; /* that the card is named: so many parts share it */
        for (int k = 0; k < out->cards; k++)
            times += out->card[k] == out->card[i];
        uint64_t spare = card_spare(p), ours = room.free_bytes > spare ? room.free_bytes - spare : 0;
        out->card_bytes[i] = (o->memory ? o->memory : ours) / times;
        out->card_bandwidth[i] = (double)room.bandwidth / (double)times;
        least = out->card_bytes[i] < least ? out->card_bytes[i] : least;
        snprintf(name + strlen(name), size - strlen(name), "%s%d", i ? "," : "", out->card[i]);
        e->segments[i] = (struct segment){.backend = cuda, .device = out->card[i], .end = p->op_count, .rank = i, .ranks = out->cards};
    }
    if (status)
        return status;
    e->plan.available_bytes = least * (uint64_t)out->cards; /* matrices and cache are shared out evenly */
    e->plan.read_bandwidth = out->cards == 1 ? out->card_bandwidth[0] : 0; /* of several, each part's */
    e->compile.device = out->card[0];
    e->backend = cuda;
    if (out->cards > 1) {
        e->backend = backend_split(e->segments, out->cards);
        e->compile.segments = e->segments;
        e->compile.segment_count = out->cards;
    }
    return STATUS_OK;
}

enum status placement_choose(struct ingot_engine *e, const struct program *p, const struct ingot_engine_options *o, struct placement *out, struct error *err)
{
    const char *device = o->device ? o->device : "auto";
    *out = (struct placement){.host_bytes = plan_host_memory()};
    if (!strcmp(device, "mps"))
        return error_set(err, STATUS_DEVICE, "--device mps: Apple's GPUs are not supported; use --device cpu");
    if (!strncmp(device, "cuda", 4) && o->reference)
        return error_set(err, STATUS_USAGE, "--reference runs on the CPU alone: leave out --device %s", QUOTE(device, strlen(device)));
    if (!strncmp(device, "cuda", 4))
        return choose_cards(e, p, o, out, err);
    if (strcmp(device, "auto") && strcmp(device, "cpu"))
        return bad_device(device, err);
    if (o->gpu_layers && !strcmp(device, "auto") && !o->reference) {
        struct error why = {0};
        if (choose_cards(e, p, o, out, &why) == STATUS_OK)
            return STATUS_OK;
        out->cards = 0;
        log_line(LOG_SAY, "%s; all layers run on the CPU", why.text);
    }
    e->backend = o->reference ? &backend_reference : backend_cpu(err);
    snprintf(e->plan.device, sizeof e->plan.device, "cpu");
    e->plan.available_bytes = o->memory ? o->memory : out->host_bytes;
    return e->backend ? STATUS_OK : STATUS_DEVICE;
}

/* ---- layers that stay on the CPU ------------------------------------------------------------------------------------------ */

static uint64_t card_bytes(const struct ingot_engine *e, const struct program *p, const struct compile_sizes *whole, int first)
{
    uint64_t bytes = program_weight_bytes(p, first, p->op_count) + whole->scratch_bytes, blocks = plan_blocks(&e->plan);
    for (int g = 0; g < p->group_count; g++)
        bytes += blocks * whole->block_bytes[g] / (uint64_t)(p->groups[g].layers ? p->groups[g].layers : 1) *
                 (uint64_t)program_layers(p, g, first, p->op_count);
    return bytes;
}

/* The number of operations before the card's; -1: it has room for none. */
static int choose_cut(const struct ingot_engine *e, const struct program *p, const struct placement *at, int gpu_layers, const struct compile_sizes *whole,
                      const int *places, int count)
{
    int cut = -1;
    for (int i = 0; i < count && cut < 0; i++)
        if (card_bytes(e, p, whole, places[i]) <= at->card_bytes[0])
            cut = places[i];
    if (!gpu_layers || cut < 0)
        return cut;
    for (int i = 0; i < count; i++) /* where the layer begins, not in its middle */
        if (places[i] > cut && program_layers(p, 0, places[i], p->op_count) >= gpu_layers)
            cut = places[i];
    return cut;
}

enum status placement_offload(struct ingot_engine *e, const struct program *p, const struct placement *at, int gpu_layers, const struct compile_sizes *whole,
                              struct error *err)
{
    const struct backend *cpu = backend_cpu(err);
    int *places = calloc((size_t)p->op_count + 1, sizeof *places);
    int cut = places && cpu ? choose_cut(e, p, at, gpu_layers, whole, places, program_cuts(p, places)) : -1;
    bool memory = !places;
    free(places);
    if (memory || !cpu)
        return memory ? error_memory(err, "a plan") : STATUS_DEVICE;
    if (cut < 0 || !program_layers(p, 0, cut, p->op_count))
        return STATUS_NO_ROOM;
    e->segments[0] = (struct segment){.backend = cpu, .end = cut, .ranks = 1};
    e->segments[1] = (struct segment){.backend = e->backend, .device = at->card[0], .first = cut, .end = p->op_count, .ranks = 1};
    snprintf(e->plan.device, sizeof e->plan.device, "cpu+cuda:%d", at->card[0]);
    e->plan.read_bandwidth = 0;
    e->plan.available_bytes += at->host_bytes;
    e->backend = backend_split(e->segments, 2);
    e->compile.segments = e->segments;
    e->compile.segment_count = 2;
    return STATUS_OK;
}

/* ---- the plan ------------------------------------------------------------------------------------------------------------- */

enum status placement_parts(struct ingot_engine *e, const struct program *p, const struct placement *at, struct error *err)
{
    struct ingot_plan *plan = &e->plan;
    struct part_sizes sizes[MAX_SEGMENTS];
    enum status status = split_part_sizes(p, &e->compile, sizes, &plan->part_count, err);
    if (status)
        return status;
    plan->weights_bytes = plan->kv_bytes = plan->kv_bytes_per_token = plan->scratch_bytes = 0;
    plan->fits = true;
    for (int i = 0; i < plan->part_count; i++) {
        const struct segment *s = sizes[i].segment;
        struct ingot_plan_part *part = &plan->parts[i];
        uint64_t block = 0;
        for (int g = 0; g < p->group_count; g++)
            block += sizes[i].sizes.block_bytes[g];
        *part = (struct ingot_plan_part){.layers = sizes[i].layers, .shared = s->ranks > 1, .weights_bytes = sizes[i].weight_bytes,
                                         .kv_bytes = block * plan_blocks(plan), .scratch_bytes = sizes[i].sizes.scratch_bytes};
        bool card = at->cards > 1 || i > 0;
        snprintf(part->device, sizeof part->device, card ? "cuda:%d" : "cpu", s->device);
        part->read_bandwidth = card ? at->card_bandwidth[at->cards > 1 ? i : 0] : 0;
        part->available_bytes = !card ? at->host_bytes : at->card_bytes[at->cards > 1 ? i : 0];
        plan->fits &= part->weights_bytes + part->kv_bytes + part->scratch_bytes <= part->available_bytes;
        plan->weights_bytes += part->weights_bytes;
        plan->kv_bytes += part->kv_bytes;
        plan->kv_bytes_per_token += block / BLOCK_TOKENS;
        plan->scratch_bytes += part->scratch_bytes;
    }
    plan->total_bytes = plan->weights_bytes + plan->kv_bytes + plan->scratch_bytes;
    return STATUS_OK;
}
