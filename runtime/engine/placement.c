/* Devices: what was asked for, and the plan for operations that are shared out over them. A card too small for all layers has the last
 * ones and the head, so that logits are where they may be sampled; the CPU has the embedding, of which it reads a row, and the first
 * layers (offload.c). */
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
        if (end == at + 1 || card < 0 || card > 63 || out->cards == MAX_CARDS)
            return bad_device(device, err);
        out->card[out->cards++] = (int)card;
    }
    return *at ? bad_device(device, err) : STATUS_OK;
}

static enum status choose_cards(struct ingot_engine *e, const struct program *p, const struct ingot_engine_options *o, struct placement *out, struct error *err)
{
    const char *device = o->device && strcmp(o->device, "auto") ? o->device : "cuda";
    enum status status = read_cards(device, out, err);
    if (status)
        return status;
    for (int i = 0; i < out->cards; i++) {
        struct cuda_room room;
        if ((status = backend_cuda(&out->backend, out->card[i], &room, err)))
            return status;
        uint64_t times = 0; /* that the card is named: so many parts share it */
        for (int k = 0; k < out->cards; k++)
            times += out->card[k] == out->card[i];
        uint64_t spare = card_spare(p), ours = room.free_bytes > spare ? room.free_bytes - spare : 0;
        out->card_bytes[i] = (o->memory ? o->memory : ours) / times;
        out->card_bandwidth[i] = (double)room.bandwidth / (double)times;
    }
    e->compile.device = out->card[0];
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
    if ((o->gpu_layers || o->cpu_networks) && !strcmp(device, "auto") && !o->reference) {
        struct error why = {0};
        if (choose_cards(e, p, o, out, &why) == STATUS_OK)
            return STATUS_OK;
        out->cards = 0;
        log_line(LOG_SAY, "%s; all layers run on the CPU", why.text);
    }
    e->backend = o->reference ? &backend_reference : backend_cpu(err);
    snprintf(e->plan.device, sizeof e->plan.device, "cpu");
    out->host_bytes = o->memory ? o->memory : out->host_bytes;
    e->plan.available_bytes = out->host_bytes;
    return e->backend ? STATUS_OK : STATUS_DEVICE;
}

/* ---- segments ------------------------------------------------------------------------------------------------------------- */

void placement_clear(struct ingot_engine *e)
{
    free(e->segments);
    e->segments = NULL;
    e->compile.segments = NULL;
    e->compile.segment_count = 0;
}

static void name_devices(struct ingot_plan *plan, const struct placement *at, bool cpu)
{
    size_t n = 0;
    for (int i = 0; i < at->cards && n < sizeof plan->device; i++)
        n += (size_t)snprintf(plan->device + n, sizeof plan->device - n, i ? ",%d" : cpu ? "cpu+cuda:%d" : "cuda:%d", at->card[i]);
}

enum status placement_divide(struct ingot_engine *e, const struct program *p, const struct placement *at, const bool *cpu, struct error *err)
{
    const struct backend *host = backend_cpu(err);
    int runs = 1, count = 0;
    bool any = cpu[0];
    for (int i = 1; i < p->op_count; i++)
        runs += cpu[i] != cpu[i - 1], any |= cpu[i];
    placement_clear(e);
    name_devices(&e->plan, at, any);
    e->backend = at->backend;
    if (any && !host)
        return STATUS_DEVICE;
    if (!any && at->cards == 1)
        return STATUS_OK;
    struct segment *s = e->segments = calloc((size_t)runs * (size_t)at->cards, sizeof *s);
    if (!s)
        return error_memory(err, "a plan");
    for (int i = 0, end; i < p->op_count; i = end) {
        for (end = i + 1; end < p->op_count && cpu[end] == cpu[i];)
            end++;
        for (int rank = 0; rank < at->cards && !cpu[i]; rank++)
            s[count++] = (struct segment){at->backend, at->card[rank], i, end, rank, at->cards};
        if (cpu[i])
            s[count++] = (struct segment){host, 0, i, end, 0, 1};
    }
    e->compile.segments = s;
    e->compile.segment_count = count;
    e->backend = backend_split(s, count);
    return STATUS_OK;
}

/* ---- the plan ------------------------------------------------------------------------------------------------------------- */

/* Of an embedding that is nothing else, a row is read. */
static uint64_t read_bytes_of(const struct program *p, const struct segment *segments, int count, const struct segment *part)
{
    uint64_t bytes = 0;
    for (int i = 0; i < count; i++)
        if (segments[i].backend == part->backend && segments[i].device == part->device && segments[i].rank == part->rank)
            for (int k = segments[i].first; k < segments[i].end; k++)
                if (p->ops[k].kind != OP_EMBED)
                    bytes += program_read_bytes(p, k, k + 1);
    return bytes;
}

static struct ingot_plan_part part_of(const struct ingot_engine *e, const struct program *p, const struct placement *at, const struct part_sizes *sizes)
{
    const struct segment *s = sizes->segment;
    bool card = s->backend == at->backend;
    uint64_t cache = 0;
    for (int g = 0; g < p->group_count; g++)
        cache += sizes->sizes.block_bytes[g] * plan_blocks(&e->plan, &p->groups[g]);
    struct ingot_plan_part part = {.layers = sizes->layers, .stretches = sizes->stretches, .shared = s->ranks > 1, .weights_bytes = sizes->weight_bytes,
                                   .kv_bytes = cache, .scratch_bytes = sizes->sizes.scratch_bytes};
    uint64_t unread = program_weight_bytes(p, s->first, s->end) - program_read_bytes(p, s->first, s->end); /* ranks have one segment */
    part.read_bytes = s->ranks > 1 ? part.weights_bytes - unread / (uint64_t)s->ranks : read_bytes_of(p, e->compile.segments, e->compile.segment_count, s);
    snprintf(part.device, sizeof part.device, card ? "cuda:%d" : "cpu", s->device);
    part.read_bandwidth = card ? at->card_bandwidth[s->rank] : 0;
    part.available_bytes = card ? at->card_bytes[s->rank] : at->host_bytes;
    return part;
}

bool part_fits(const struct ingot_plan_part *part) { return part->weights_bytes + part->kv_bytes + part->scratch_bytes <= part->available_bytes; }

/* What a device has of the cache; sizes NULL: none has any yet. */
static void count_cache(struct ingot_plan *plan, const struct program *p, const struct compile_sizes *sizes)
{
    if (!sizes)
        plan->kv_bytes_per_token = plan->recurrent_bytes = 0;
    for (int g = 0; g < p->group_count && sizes; g++)
        if (p->groups[g].kind == STATE_RECURRENT)
            plan->recurrent_bytes += sizes->block_bytes[g] * plan_blocks(plan, &p->groups[g]);
        else
            plan->kv_bytes_per_token += sizes->block_bytes[g] / BLOCK_TOKENS;
}

static enum status measure_parts(struct ingot_engine *e, const struct program *p, const struct placement *at, struct error *err)
{
    struct ingot_plan *plan = &e->plan;
    struct part_sizes *sizes = calloc((size_t)e->compile.segment_count, sizeof *sizes);
    enum status status = sizes ? split_part_sizes(p, &e->compile, sizes, &plan->part_count, err) : error_memory(err, "a plan");
    plan->weights_bytes = plan->read_bytes = plan->kv_bytes = plan->scratch_bytes = plan->available_bytes = 0;
    plan->read_bandwidth = 0; /* each part's */
    plan->fits = true;
    plan->hand_overs = -1;
    count_cache(plan, p, NULL);
    for (int i = 0; i < plan->part_count && !status; i++) {
        struct ingot_plan_part *part = &plan->parts[i];
        *part = part_of(e, p, at, &sizes[i]);
        count_cache(plan, p, &sizes[i].sizes);
        plan->fits &= part_fits(part);
        plan->hand_overs += sizes[i].segment->rank ? 0 : part->stretches;
        plan->weights_bytes += part->weights_bytes;
        plan->read_bytes += part->read_bytes;
        plan->kv_bytes += part->kv_bytes;
        plan->scratch_bytes += part->scratch_bytes;
        plan->available_bytes += part->available_bytes;
    }
    plan->total_bytes = plan->weights_bytes + plan->kv_bytes + plan->scratch_bytes;
    free(sizes);
    return status;
}

enum status placement_measure(struct ingot_engine *e, const struct program *p, const struct placement *at, struct error *err)
{
    struct ingot_plan *plan = &e->plan;
    struct compile_sizes sizes;
    e->compile.max_context = plan->context;
    plan->part_count = plan->hand_overs = 0;
    if (e->compile.segment_count)
        return measure_parts(e, p, at, err);
    enum status status = e->backend->sizes(p, &e->compile, &sizes, err);
    if (status)
        return status;
    plan->weights_bytes = at->weights_bytes;
    plan->read_bytes = at->read_bytes;
    plan->scratch_bytes = sizes.scratch_bytes;
    count_cache(plan, p, NULL);
    count_cache(plan, p, &sizes);
    plan->available_bytes = at->cards ? at->card_bytes[0] : at->host_bytes;
    plan->read_bandwidth = at->cards ? at->card_bandwidth[0] : 0;
    plan_total(plan);
    return STATUS_OK;
}
