/* Device, context, KV type, threads and what fits, decided before anything large is allocated. `ingot plan` prints the
 * numbers that opening an engine goes by. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/team.h"
#include "runtime/engine/engine.h"

static uint64_t read_number(const char *path)
{
    unsigned long long v = 0;
    FILE *f = fopen(path, "re");
    if (f) {
        if (fscanf(f, "%llu", &v) != 1)
            v = 0;
        fclose(f);
    }
    return v;
}

/* Pages of files count as used in a cgroup, though the kernel takes them back when they are needed. */
static uint64_t cgroup_file_pages(void)
{
    char line[128];
    unsigned long long n, sum = 0;
    FILE *f = fopen("/sys/fs/cgroup/memory.stat", "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "inactive_file %llu", &n) == 1 || sscanf(line, "active_file %llu", &n) == 1)
            sum += n;
    if (f)
        fclose(f);
    return sum;
}

/* What the system can give without swapping, within the cgroup's limit. */
uint64_t plan_host_memory(void)
{
    uint64_t available = 0;
    char line[128];
    FILE *f = fopen("/proc/meminfo", "re");
    unsigned long long kib;
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %llu", &kib) == 1)
            available = (uint64_t)kib * 1024;
    if (f)
        fclose(f);
    if (!available)
        available = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t limit = read_number("/sys/fs/cgroup/memory.max"), used = read_number("/sys/fs/cgroup/memory.current");
    uint64_t files = cgroup_file_pages();
    used -= files < used ? files : used;
    if (limit && limit - (used < limit ? used : limit) < available)
        available = limit - (used < limit ? used : limit);
    return available;
}

static enum status kv_type(const char *text, size_t size, enum storage *out, struct error *err)
{
    static const struct {
        const char *name;
        enum storage type;
    } known[] = {{"f16", STORAGE_F16}, {"bf16", STORAGE_BF16}, {"f32", STORAGE_F32}, {"q8_0", STORAGE_Q8_0}, {"q4_0", STORAGE_Q4_0}, {"fp8", STORAGE_F8_E4M3},
                 {"float16", STORAGE_F16}, {"bfloat16", STORAGE_BF16}, {"float32", STORAGE_F32}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strlen(known[i].name) == size && !memcmp(known[i].name, text, size)) {
            *out = known[i].type;
            return STATUS_OK;
        }
    return error_set(err, STATUS_USAGE, "--kv: %s is not supported (f16, bf16, f32, q8_0, q4_0, fp8 are)", QUOTE(text, size));
}

static enum status choose_kv(const char *kv, struct compile_options *c, bool reference, struct error *err)
{
    c->k_type = c->v_type = reference ? STORAGE_F32 : STORAGE_F16;
    if (!kv)
        return STATUS_OK;
    const char *comma = strchr(kv, ',');
    enum status status = kv_type(kv, comma ? (size_t)(comma - kv) : strlen(kv), &c->k_type, err);
    c->v_type = c->k_type;
    return status || !comma ? status : kv_type(comma + 1, strlen(comma + 1), &c->v_type, err);
}

static void advise(struct ingot_plan *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void advise(struct ingot_plan *p, const char *format, ...)
{
    if (p->advice_count == (int)(sizeof p->advice / sizeof *p->advice))
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(p->advice[p->advice_count++], sizeof p->advice[0], format, args);
    va_end(args);
}

static uint64_t paged_blocks(const struct ingot_plan *p) { return (uint64_t)((p->context + BLOCK_TOKENS - 1) / BLOCK_TOKENS + 1) * (uint64_t)p->parallel; }

uint64_t plan_blocks(const struct ingot_plan *p, const struct state_group *g)
{
    return g->kind == STATE_PAGED ? paged_blocks(p) : (uint64_t)SLOTS_EACH * (uint64_t)p->parallel;
}

void plan_total(struct ingot_plan *p)
{
    p->kv_bytes = paged_blocks(p) * BLOCK_TOKENS * p->kv_bytes_per_token + p->recurrent_bytes;
    p->total_bytes = p->weights_bytes + p->kv_bytes + p->scratch_bytes;
    p->fits = p->total_bytes <= p->available_bytes;
}

/* The context of a plan on one device: what was asked for, else the model's own if it fits, else the largest that does. */
static void choose_context(struct ingot_plan *p, int64_t asked, int64_t own)
{
    p->context = asked ? asked : own;
    plan_total(p);
    if (p->fits || asked)
        return;
    uint64_t fixed = p->weights_bytes + p->scratch_bytes + p->recurrent_bytes, per_token = p->kv_bytes_per_token * (uint64_t)p->parallel;
    int64_t most = p->available_bytes > fixed && per_token ? (int64_t)((p->available_bytes - fixed) / per_token) - 2 * BLOCK_TOKENS : 0;
    most -= most % BLOCK_TOKENS;
    if (most >= 512) {
        advise(p, "the model's own context of %" PRId64 " does not fit: it was cut to %" PRId64, own, most);
        p->context = most;
        plan_total(p);
    }
}

/* What would help a plan that does not fit. */
static void advise_room(struct ingot_plan *p)
{
    uint64_t fixed = p->weights_bytes + p->scratch_bytes + p->recurrent_bytes, per_token = p->kv_bytes_per_token * (uint64_t)p->parallel;
    int64_t most = p->available_bytes > fixed && per_token ? (int64_t)((p->available_bytes - fixed) / per_token) - 2 * BLOCK_TOKENS : 0;
    most -= most % BLOCK_TOKENS;
    if (most > 0 && most < p->context)
        advise(p, "--context %" PRId64 " would fit", most);
    if (p->available_bytes < fixed - p->recurrent_bytes)
        advise(p, "the weights alone take %.1f GiB of %.1f GiB: take a smaller model, or one quantised to fewer bits",
               (double)(fixed - p->recurrent_bytes) / 0x1p30, (double)p->available_bytes / 0x1p30);
    else
        advise(p, "a model quantised to fewer bits leaves more room");
    if (p->parallel > 1)
        advise(p, "--parallel %d multiplies the KV cache", p->parallel);
}

static enum status check_options(const struct ingot_engine_options *o, const struct ingot_plan *p, struct error *err)
{
    if (o->context < 0 || o->context > (int64_t)1 << 32)
        return error_set(err, STATUS_USAGE, "--context %" PRId64 " is out of range", o->context);
    if (p->parallel > MAX_PARALLEL)
        return error_set(err, STATUS_USAGE, "--parallel %d is over the limit of %d", p->parallel, MAX_PARALLEL);
    if (p->threads > 256)
        return error_set(err, STATUS_USAGE, "--threads %d is over the limit of 256", p->threads);
    return STATUS_OK;
}

enum { OFFLOAD_CONTEXT = 4096 }; /* tokens that a card must have room for beside the weights, before layers leave it */

/* The largest context, up to the model's own, with which every device's part fits: OFFLOAD_CONTEXT does. */
static enum status grow_context(struct ingot_engine *e, const struct program *p, const struct placement *at, int64_t own, struct error *err)
{
    struct ingot_plan *plan = &e->plan;
    int64_t fits = plan->context, end = own + 1;
    while (fits < own && fits + BLOCK_TOKENS < end) {
        plan->context = end > own ? own : fits + (end - fits) / 2 / BLOCK_TOKENS * BLOCK_TOKENS;
        enum status status = placement_measure(e, p, at, err);
        if (status)
            return status;
        *(plan->fits ? &fits : &end) = plan->context;
    }
    plan->context = fits;
    if (fits < own)
        advise(plan, "the model's own context of %" PRId64 " does not fit: it was cut to %" PRId64, own, fits);
    return placement_measure(e, p, at, err);
}

/* The context, and which operations the CPU has although there are cards. */
static enum status fit_cards(struct ingot_engine *e, const struct model *model, const struct ingot_engine_options *o, const struct placement *at, struct error *err)
{
    struct ingot_plan *p = &e->plan;
    int64_t own = model->config.context;
    p->context = o->context ? o->context : own < OFFLOAD_CONTEXT ? own : OFFLOAD_CONTEXT;
    enum status status = offload_fit(e, &model->program, at, o, err);
    if (status && status != STATUS_NO_ROOM)
        return status;
    if (!p->fits) { /* the plan says so */
        advise_room(p);
        advise(p, "not one layer fits on the card: --device cpu");
        return STATUS_OK;
    }
    if (!p->offloaded)
        return o->context ? STATUS_OK : grow_context(e, &model->program, at, own, err);
    if (!o->context && p->context < own)
        advise(p, "the context is %" PRId64 ", so that more layers fit on the card; --context asks for another", p->context);
    return STATUS_OK;
}

/* Whole pieces of a prompt in a step, beside single rows of all others. */
static void take_pieces(struct ingot_engine *e, int pieces)
{
    e->pieces = pieces;
    e->compile.max_rows = pieces * PIECE + e->plan.parallel;
}

static enum status fit_cpu(struct ingot_engine *e, const struct model *model, const struct ingot_engine_options *o, const struct placement *at, struct error *err)
{
    struct ingot_plan *p = &e->plan;
    p->context = e->compile.max_context = o->context ? o->context : model->config.context;
    enum status status = placement_measure(e, &model->program, at, err);
    if (status)
        return status;
    choose_context(p, o->context, model->config.context);
    e->compile.max_context = p->context;
    if (!p->fits && e->pieces > 1) { /* a step of fewer rows takes less */
        take_pieces(e, 1);
        return fit_cpu(e, model, o, at, err);
    }
    if (!p->fits)
        advise_room(p);
    return STATUS_OK;
}

static enum status prepare(struct ingot_engine *e, const struct model *model, const struct ingot_engine_options *o, struct error *err)
{
    struct ingot_plan *p = &e->plan;
    struct compile_options *c = &e->compile;
    struct placement at;
    placement_clear(e); /* of another try */
    *p = (struct ingot_plan){.parallel = o->parallel > 0 ? o->parallel : 1, .threads = o->threads > 0 ? o->threads : team_cores()};
    *c = (struct compile_options){.threads = p->threads, .deterministic = o->deterministic};
    enum status status = check_options(o, p, err);
    if (status || (status = choose_kv(o->kv, c, o->reference, err)))
        return status;
    if (o->context > model->config.context)
        log_line(LOG_WARN, "a context of %" PRId64 " is beyond the %" PRId64 " positions this model was made for; answers may get worse", o->context,
                 model->config.context);
    c->max_sequences = p->parallel;
    c->max_wanted = PIECE_WANTED + p->parallel;
    p->k_type = storage_types[c->k_type].name;
    p->v_type = storage_types[c->v_type].name;
    if ((status = placement_choose(e, &model->program, o, &at, err)))
        return status;
    take_pieces(e, at.cards ? 1 : PIECES);
    at.weights_bytes = model->weight_bytes;
    at.read_bytes = model_read_bytes(model);
    status = at.cards ? fit_cards(e, model, o, &at, err) : fit_cpu(e, model, o, &at, err);
    p->rest_bytes = status ? 0 : shelf_bytes(e, &model->program, o->kv_host);
    return status;
}

/* Whether the plan, which has parts on the CPU, promises more than the CPU alone. */
static bool promises_more(const struct ingot_plan *plan, const struct model *model)
{
    double host = plan->part_count ? ingot_read_bandwidth(INGOT_PAGES_FILE, plan->threads) : 0;
    return host <= 0 || plan_seconds(plan, host, 0) < (double)model_read_bytes(model) / host;
}

/* The card, if there is one, the model fits, the plan promises more than the CPU, and a trial computes right; else `why` says what not. */
static enum status prepare_card(struct ingot_engine *e, const struct model *model, const struct ingot_engine_options *o, struct error *why)
{
    struct ingot_engine_options card = *o;
    const struct backend *cuda;
    struct cuda_room room;
    card.device = "cuda";
    enum status status = prepare(e, model, &card, why);
    if (!status && !e->plan.fits)
        return error_set(why, STATUS_NO_ROOM, "the model does not fit the card");
    if (!status && !promises_more(&e->plan, model))
        return error_set(why, STATUS_NO_ROOM, "the plan for the card, of which the CPU has a part, promises less");
    if (!status)
        status = backend_cuda(&cuda, 0, &room, why);
    if (!status && (status = backend_trial(cuda, &model->program, &e->compile, why)))
        log_line(LOG_SAY, "--device auto does not take the card: %s", why->text);
    return status;
}

enum status engine_prepare(struct ingot_engine *e, const struct model *model, const struct ingot_engine_options *o, struct error *err)
{
    bool automatic = !o->device || !strcmp(o->device, "auto"), asked = o->gpu_layers || o->cpu_networks; /* for a card */
    struct error why = {0};
    if (o->reference || !automatic || asked)
        return prepare(e, model, o, err);
    if (prepare_card(e, model, o, &why)) {
        log_line(LOG_VERBOSE, "--device auto: the CPU; %s", why.text);
        return prepare(e, model, o, err);
    }
    log_line(LOG_VERBOSE, "--device auto: %s; the model fits, and a trial computed as the reference does", e->plan.device);
    return STATUS_OK;
}

enum ingot_status ingot_plan_make(const struct ingot_model *model, const struct ingot_engine_options *o, struct ingot_plan *out, struct ingot_error *err)
{
    struct ingot_engine e = {0};
    enum status status = engine_prepare(&e, model->model, o ? o : &(struct ingot_engine_options){0}, inner(err));
    *out = e.plan;
    placement_clear(&e);
    return (enum ingot_status)status;
}
