#include "kernels/exchange.h"

#include <stdlib.h>

static bool make_room(struct exchange *x, const struct program *p, const struct compile_options *o, const bool *crosses, int64_t values)
{
    bool ok = (x->rows = arena_array(&x->arena, (size_t)p->buffer_count + 1, sizeof *x->rows)) &&
              (x->partial = arena_array(&x->arena, (size_t)x->ranks, sizeof *x->partial)) &&
              (x->device = arena_array(&x->arena, (size_t)x->ranks, sizeof *x->device));
    for (int i = 0; i < p->buffer_count && ok; i++) {
        int32_t rows = p->buffers[i].rows == ROWS_WANTED ? o->max_wanted : o->max_rows;
        if (crosses[i])
            ok = (x->rows[i] = arena_raw(&x->arena, (size_t)p->buffers[i].width * (size_t)rows * sizeof(float)));
    }
    for (int i = 0; i < x->ranks && values && ok; i++)
        ok = (x->partial[i] = arena_raw(&x->arena, (size_t)values * sizeof(float)));
    return ok;
}

enum status exchange_open(struct exchange **out, const struct program *p, const struct compile_options *o, const bool *crosses, int ranks, int64_t values,
                          struct error *err)
{
    struct exchange *x = calloc(1, sizeof *x);
    if (!x)
        return error_memory(err, "a split program");
    x->ranks = ranks;
    pthread_mutex_init(&x->lock, NULL);
    pthread_cond_init(&x->all_here, NULL);
    if (!make_room(x, p, o, crosses, values)) {
        exchange_close(x);
        return error_memory(err, "what a split program's parts hand each other");
    }
    *out = x;
    return STATUS_OK;
}

void exchange_close(struct exchange *x)
{
    if (!x)
        return;
    if (x->group.handle)
        x->group.close(&x->group);
    arena_free(&x->arena);
    pthread_cond_destroy(&x->all_here);
    pthread_mutex_destroy(&x->lock);
    free(x);
}

bool exchange_meet(struct exchange *x)
{
    pthread_mutex_lock(&x->lock);
    long mine = x->meetings;
    if (++x->here == x->ranks) {
        x->here = 0;
        x->meetings++;
        pthread_cond_broadcast(&x->all_here);
    }
    while (x->meetings == mine && !x->broken)
        pthread_cond_wait(&x->all_here, &x->lock);
    bool met = x->meetings != mine;
    pthread_mutex_unlock(&x->lock);
    return met;
}

void exchange_break(struct exchange *x)
{
    pthread_mutex_lock(&x->lock);
    if (x->group.handle && !x->broken)
        x->group.abort(&x->group); /* others may wait in it */
    x->broken = true;
    pthread_cond_broadcast(&x->all_here);
    pthread_mutex_unlock(&x->lock);
}

void exchange_mend(struct exchange *x)
{
    pthread_mutex_lock(&x->lock);
    if (x->broken && x->group.handle) {
        x->group.close(&x->group);
        x->group.handle = NULL;
    }
    x->broken = false;
    x->here = 0;
    pthread_mutex_unlock(&x->lock);
}

bool exchange_sum(struct exchange *x, float *out, int64_t count)
{
    if (!exchange_meet(x))
        return false;
    for (int64_t i = 0; i < count; i++) {
        float sum = x->partial[0][i];
        for (int rank = 1; rank < x->ranks; rank++)
            sum += x->partial[rank][i];
        out[i] = sum;
    }
    return exchange_meet(x); /* nobody writes its part anew while others read it */
}
