/* Opening and closing an engine. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "runtime/engine/engine.h"

static enum status no_room(const struct ingot_plan *p, struct error *err)
{
    char advice[900] = "";
    for (int i = 0; i < p->advice_count; i++)
        snprintf(advice + strlen(advice), sizeof advice - strlen(advice), "%s%s", i ? "; " : "", p->advice[i]);
    return error_set(err, STATUS_NO_ROOM, "%.2f GiB are needed (weights %.2f, KV cache %.2f for %lld tokens, scratch %.2f), %.2f GiB are available: %s",
                     (double)p->total_bytes / 0x1p30, (double)p->weights_bytes / 0x1p30, (double)p->kv_bytes / 0x1p30, (long long)p->context,
                     (double)p->scratch_bytes / 0x1p30, (double)p->available_bytes / 0x1p30, advice);
}

/* Memory that the plan counted on is not there, though it was a moment ago: what can be done, by a plan for what is there now. */
static enum status no_room_after_all(const struct ingot_engine *e, const struct ingot_engine_options *o, struct error *err)
{
    struct ingot_engine now = {0};
    struct error ignored;
    char advice[600];
    if (!engine_prepare(&now, e->model->model, o, &ignored) && !now.plan.fits)
        no_room(&now.plan, &ignored);
    else
        snprintf(ignored.text, sizeof ignored.text, "the plan counted %.2f GiB of %.2f GiB that were free: other programs may have taken some since; --context %lld halves the KV cache",
                 (double)e->plan.total_bytes / 0x1p30, (double)e->plan.available_bytes / 0x1p30, (long long)e->plan.context / 2);
    placement_clear(&now);
    snprintf(advice, sizeof advice, "%.590s", ignored.text);
    char failed[600];
    snprintf(failed, sizeof failed, "%.590s", err->text);
    return error_set(err, STATUS_NO_ROOM, "%s; %s", failed, advice);
}

static enum status allocate(struct ingot_engine *e, struct error *err)
{
    int parallel = e->plan.parallel;
    e->rows = calloc((size_t)e->compile.max_rows, sizeof *e->rows);
    e->wanted = calloc((size_t)e->compile.max_wanted + 1, sizeof *e->wanted);
    e->sequences = calloc((size_t)parallel, sizeof *e->sequences);
    e->tables = calloc((size_t)parallel * MAX_GROUPS, sizeof *e->tables);
    e->choices = calloc((size_t)parallel * 2, sizeof *e->choices);
    if (!e->rows || !e->wanted || !e->sequences || !e->tables || !e->choices)
        return error_memory(err, "an engine");
    const struct program *p = &e->model->model->program;
    int32_t blocks[MAX_GROUPS] = {0};
    for (int g = 0; g < p->group_count; g++) {
        uint64_t count = plan_blocks(&e->plan, &p->groups[g]);
        if (count > INT32_MAX)
            return error_set(err, STATUS_NO_ROOM, "a KV cache of %llu blocks is over the limit; take a smaller --context", (unsigned long long)count);
        blocks[g] = (int32_t)count;
    }
    return pool_open(&e->pool, e->backend, &e->compile, p, blocks, err);
}

struct uploading {
    const struct ingot_engine_options *options;
    char what[80];
};

static void show_upload(void *context, uint64_t done, uint64_t total)
{
    const struct uploading *u = context;
    u->options->progress(u->options->progress_context, u->what, done, total);
}

static enum status compile(struct ingot_engine *e, const struct ingot_engine_options *o, struct error *err)
{
    struct uploading u = {.options = o};
    struct compile_options c = e->compile;
    snprintf(u.what, sizeof u.what, "weights to %s", e->plan.device);
    c.progress = o->progress ? show_upload : NULL;
    c.progress_context = &u;
    return e->backend->compile(&e->compiled, &e->model->model->program, &c, err);
}

enum ingot_status ingot_engine_open(struct ingot_engine **out, struct ingot_model *model, const struct ingot_engine_options *options,
                                    struct ingot_error *error)
{
    struct error *err = inner(error);
    const struct ingot_engine_options *o = options ? options : &(struct ingot_engine_options){0};
    *out = NULL;
    struct ingot_engine *e = calloc(1, sizeof *e);
    if (!e)
        return (enum ingot_status)error_memory(err, "an engine");
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->work, NULL);
    e->model = ingot_model_share(model);
    e->logits = program_find_output(&model->model->program, "logits");
    enum status status = engine_prepare(e, model->model, o, err);
    if (!status && !e->plan.fits)
        status = no_room(&e->plan, err);
    if (!status && e->logits < 0)
        status = error_set(err, STATUS_BAD_INPUT, "this model has no logits: it cannot generate text");
    if (!status)
        status = allocate(e, err);
    if (!status)
        status = compile(e, o, err);
    if (!status)
        status = shelf_start(e, e->plan.rest_bytes, err);
    if (status == STATUS_NO_ROOM && e->plan.fits)
        status = no_room_after_all(e, o, err);
    if (!status && pthread_create(&e->thread, NULL, scheduler_main, e))
        status = error_set(err, STATUS_FAILED, "cannot start the scheduler's thread");
    e->started = !status;
    if (status) {
        ingot_engine_close(e);
        return (enum ingot_status)status;
    }
    for (int i = 0; i < e->plan.advice_count; i++)
        log_line(LOG_SAY, "%s", e->plan.advice[i]);
    for (int i = 0; i < e->plan.lack_count; i++) {
        const struct ingot_plan_lack *lack = &e->plan.lacks[i];
        log_line(LOG_SAY, "%d x %s%s%s on the CPU: %s", lack->count, lack->operation, *lack->format ? " " : "", lack->format, lack->reason);
    }
    *out = e;
    return INGOT_OK;
}

void ingot_engine_close(struct ingot_engine *e)
{
    if (!e)
        return;
    if (e->started) {
        pthread_mutex_lock(&e->lock);
        e->closing = true;
        pthread_cond_signal(&e->work);
        pthread_mutex_unlock(&e->lock);
        pthread_join(e->thread, NULL);
    }
    rest_close(e);
    shelf_end(e);
    if (e->compiled)
        e->backend->free(e->compiled);
    pool_close(&e->pool);
    placement_clear(e);
    free(e->rows);
    free(e->wanted);
    free(e->sequences);
    free(e->tables);
    free(e->choices);
    ingot_model_close(e->model);
    pthread_cond_destroy(&e->work);
    pthread_mutex_destroy(&e->lock);
    free(e);
}

enum ingot_status ingot_engine_health(struct ingot_engine *e, struct ingot_error *err)
{
    pthread_mutex_lock(&e->lock);
    enum status status = e->health.status;
    if (status)
        error_set(inner(err), status, "%s", e->health.text);
    pthread_mutex_unlock(&e->lock);
    return (enum ingot_status)status;
}

const struct ingot_plan *ingot_engine_plan(const struct ingot_engine *e) { return &e->plan; }

struct ingot_model *ingot_engine_model(const struct ingot_engine *e) { return e->model; }

void ingot_engine_describe(const struct ingot_engine *e, char *out, size_t size) { e->backend->describe(e->compiled, out, size); }

const char *ingot_version(void) { return INGOT_VERSION; }
