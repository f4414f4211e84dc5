/* Served models: requests share one loaded model by counted references; loading at the first request and unloading when idle
 * are a setting. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "runtime/serve/serve.h"

/* Lock not held: `loading` keeps others from this model, and only from this one. */
static enum status load(struct served_list *l, struct served *s, struct error *err)
{
    double start = clock_seconds();
    struct ingot_error *e = (struct ingot_error *)err;
    struct ingot_model *model;
    struct ingot_engine *engine = NULL;
    enum status status = (enum status)ingot_model_open(&model, s->name, &l->options->model, e);
    if (!status && l->options->template_file)
        status = (enum status)ingot_model_use_template(model, l->options->template_file, e);
    if (!status)
        status = (enum status)ingot_engine_open(&engine, model, &l->options->engine, e);
    pthread_mutex_lock(&l->lock);
    s->model = status ? NULL : model;
    s->engine = engine;
    s->loading = false;
    pthread_cond_broadcast(&l->loaded);
    pthread_mutex_unlock(&l->lock);
    if (status) {
        ingot_model_close(model);
        return status;
    }
    const struct ingot_plan *p = ingot_engine_plan(engine);
    log_line(LOG_SAY, "%s: loaded in %.2f s; context %lld%s for each of %d sequences, KV cache %s/%s up to %.0f MiB, weights %.0f MiB, scratch %.0f MiB",
             s->id, clock_seconds() - start, (long long)p->context,
             l->options->engine.context                   ? " as asked"
             : p->context == model->info.context ? ", the model's own,"
                                                          : ", the largest that fits,",
             p->parallel, p->k_type, p->v_type, (double)p->kv_bytes / 0x1p20, (double)p->weights_bytes / 0x1p20, (double)p->scratch_bytes / 0x1p20);
    return STATUS_OK;
}

static void unload(struct served *s)
{
    ingot_engine_close(s->engine);
    ingot_model_close(s->model);
    s->engine = NULL;
    s->model = NULL;
}

enum status served_take(struct served_list *l, const char *id, size_t size, struct served **out, struct error *err)
{
    *out = NULL;
    pthread_mutex_lock(&l->lock);
    enum status status = STATUS_OK;
    for (int i = 0; i < l->count; i++) {
        struct served *s = &l->list[i];
        bool named = (strlen(s->id) == size && !memcmp(s->id, id, size)) || (strlen(s->name) == size && !memcmp(s->name, id, size));
        if (size && !named)
            continue;
        while (s->loading)
            pthread_cond_wait(&l->loaded, &l->lock);
        s->users++; /* from here on nobody unloads it */
        if (!s->engine) { /* the other models go on answering meanwhile */
            s->loading = true;
            pthread_mutex_unlock(&l->lock);
            status = load(l, s, err);
            pthread_mutex_lock(&l->lock);
        }
        s->users -= status != STATUS_OK;
        if (!status) {
            *out = s;
        }
        break;
    }
    pthread_mutex_unlock(&l->lock);
    if (status) {
        error_prefix(err, "the model %s cannot be loaded", QUOTE(id, size));
        log_line(LOG_WARN, "%s", err->text);
        return err->status = STATUS_FAILED;
    }
    if (!*out)
        status = error_set(err, STATUS_NOT_FOUND, "the model %s is not served here; GET /v1/models lists those that are", QUOTE(id, size));
    return status;
}

void served_give(struct served_list *l, struct served *s)
{
    pthread_mutex_lock(&l->lock);
    s->users--;
    s->last_used = clock_seconds();
    pthread_mutex_unlock(&l->lock);
}

enum status served_health(struct served_list *l, struct error *err)
{
    enum status status = STATUS_OK;
    pthread_mutex_lock(&l->lock);
    for (int i = 0; i < l->count && !status; i++)
        if (l->list[i].engine)
            status = (enum status)ingot_engine_health(l->list[i].engine, (struct ingot_error *)err);
    pthread_mutex_unlock(&l->lock);
    return status;
}

void served_unload_idle(struct served_list *l, double now)
{
    pthread_mutex_lock(&l->lock);
    for (int i = 0; i < l->count; i++) {
        struct served *s = &l->list[i];
        if (!s->engine || s->loading || s->users || (now >= 0 && now - s->last_used < l->options->idle_unload))
            continue;
        unload(s);
        if (now >= 0)
            log_line(LOG_SAY, "%s: unloaded after %d s without a request", s->id, l->options->idle_unload);
    }
    pthread_mutex_unlock(&l->lock);
}

enum status served_open(struct served_list *l, const struct ingot_serve_options *o, struct error *err)
{
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->loaded, NULL);
    l->options = o;
    l->list = calloc((size_t)o->model_count, sizeof *l->list);
    if (!l->list)
        return error_memory(err, "models");
    for (int i = 0; i < o->model_count; i++) {
        struct served *s = &l->list[l->count++];
        *s = (struct served){.id = i == 0 && o->alias ? o->alias : o->models[i], .name = o->models[i], .created = time(NULL), .last_used = clock_seconds()};
        enum status status = o->idle_unload ? STATUS_OK : load(l, s, err);
        if (status)
            return status;
    }
    return STATUS_OK;
}

void served_close(struct served_list *l)
{
    for (int i = 0; i < l->count; i++)
        unload(&l->list[i]);
    free(l->list);
    l->list = NULL;
    l->count = 0;
    pthread_cond_destroy(&l->loaded);
    pthread_mutex_destroy(&l->lock);
}
