#include "tokenizers/merge_queue.h"

#include <stdlib.h>

#include "base/team.h"
#include "base/utf8.h"

static void free_chunk(struct merge_chunk *c)
{
    arena_free(&c->unescaped);
    free(c);
}

/* Takes the first chunk off the queue and puts its merges into the table, unless an earlier one had an error. Called with the lock. */
static void look_up_first(struct merge_queue *q)
{
    struct merge_chunk *c = q->first;
    bool good = !q->status;
    struct error err = {0};
    q->first = c->next;
    pthread_mutex_unlock(&q->lock);
    enum status status = good ? bpe_add_merges(q->bpe, c->halves, c->count / 2, &err) : STATUS_OK;
    free_chunk(c);
    pthread_mutex_lock(&q->lock);
    if (status) {
        q->status = status;
        q->error = err;
    }
}

/* A piece more of the text, while there is no chunk to look up. False: nothing is left to do so. Called with the lock. */
static bool check_more(struct merge_queue *q)
{
    enum { PIECE = 256 << 10 };
    size_t rest = (size_t)(q->end - q->text) - q->checked, size = rest < PIECE ? rest : PIECE;
    if (q->open || q->ended || !size)
        return false;
    pthread_mutex_unlock(&q->lock);
    size_t valid = utf8_valid_prefix(q->text + q->checked, size); /* the end may cut a character */
    pthread_mutex_lock(&q->lock);
    q->checked += valid;
    return valid;
}

static void *work(void *argument)
{
    struct merge_queue *q = argument;
    pthread_mutex_lock(&q->lock);
    while (check_more(q))
        ;
    for (;;) {
        if (q->open && q->first)
            look_up_first(q);
        else if (q->ended)
            break;
        else
            pthread_cond_wait(&q->changed, &q->lock);
    }
    pthread_mutex_unlock(&q->lock);
    return NULL;
}

void queue_start(struct merge_queue *q, struct bpe *bpe, const char *text, size_t size)
{
    enum { LARGE = 1 << 20 /* bytes: below, a thread costs more than it saves */ };
    *q = (struct merge_queue){.text = text, .end = text + size, .bpe = bpe};
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->changed, NULL);
    q->threaded = size >= LARGE && team_cores() > 1 && pthread_create(&q->thread, NULL, work, q) == 0;
}

/* Hands the chunk over that is being filled. */
static void hand_over(struct merge_queue *q)
{
    struct merge_chunk *c = q->filling;
    q->filling = NULL;
    pthread_mutex_lock(&q->lock);
    if (c && q->first)
        q->last = q->last->next = c;
    else if (c)
        q->first = q->last = c;
    pthread_cond_broadcast(&q->changed);
    while (!q->threaded && q->open && q->first)
        look_up_first(q);
    pthread_mutex_unlock(&q->lock);
}

static bool add_half(struct merge_queue *q, struct wanted_text half)
{
    struct merge_chunk *c = q->filling;
    if (half.text < q->text || half.text >= q->end) {
        half.text = arena_copy(&c->unescaped, half.text, half.size);
    } else {
        half.padded = q->end - half.text >= 8;
        q->merges = q->merges ? q->merges : half.text;
        q->behind = half.text + half.size;
    }
    c->halves[c->count++] = half;
    return half.text;
}

enum status queue_add(struct merge_queue *q, struct wanted_text left, struct wanted_text right, struct error *err)
{
    if (!q->filling && (q->filling = malloc(sizeof *q->filling))) {
        q->filling->next = NULL;
        q->filling->count = 0;
        q->filling->unescaped = (struct arena){0};
    }
    if (!q->filling || !add_half(q, left) || !add_half(q, right))
        return error_memory(err, "the merges");
    q->count++;
    if (q->filling->count == QUEUE_CHUNK)
        hand_over(q);
    return STATUS_OK;
}

void queue_open(struct merge_queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->open = true;
    pthread_mutex_unlock(&q->lock);
    hand_over(q);
}

static void join(struct merge_queue *q)
{
    hand_over(q);
    pthread_mutex_lock(&q->lock);
    q->ended = true;
    pthread_cond_broadcast(&q->changed);
    pthread_mutex_unlock(&q->lock);
    if (q->threaded)
        pthread_join(q->thread, NULL);
    q->threaded = false;
}

enum status queue_finish(struct merge_queue *q, struct error *err)
{
    join(q);
    if (q->status)
        *err = q->error;
    return q->status;
}

bool queue_rest_is_valid(struct merge_queue *q)
{
    pthread_mutex_lock(&q->lock);
    size_t checked = q->checked, size = (size_t)((q->merges ? q->merges : q->end) - q->text);
    pthread_mutex_unlock(&q->lock);
    return (checked >= size || utf8_is_valid(q->text + checked, size - checked)) &&
           (!q->merges || utf8_is_valid(q->behind, (size_t)(q->end - q->behind)));
}

bool queue_found_all(const struct merge_queue *q) { return !q->merges || (q->open && !q->threaded && !q->status); }

void queue_end(struct merge_queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->status = q->status ? q->status : STATUS_FAILED; /* what still waits is wanted no more */
    pthread_mutex_unlock(&q->lock);
    join(q);
    while (q->first) { /* the vocabulary never came */
        struct merge_chunk *c = q->first;
        q->first = c->next;
        free_chunk(c);
    }
    pthread_cond_destroy(&q->changed);
    pthread_mutex_destroy(&q->lock);
}
