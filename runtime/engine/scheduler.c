/* The scheduler: one thread per engine. Each step takes single tokens of all answers first, then pieces of prompts, as one
 * ragged batch.
 *
 * Answers do not depend on load: backends let a row's bits depend on its sequence's rows in the step alone, so a prompt must
 * be cut into the same pieces whatever else runs. Its pieces have one size, from where the request started computing on,
 * and are taken whole or not at all. Nobody starves: beside single rows of all others there is always room for one piece
 * (see engine_prepare), and the request that came first is asked first. */
#include <string.h>

#include "runtime/engine/engine.h"

/* The scheduler lets go of a request that ended. Lock held. */
static void let_go(struct ingot_request *r)
{
    r->state = REQUEST_GONE;
    pthread_cond_broadcast(&r->wake);
}

static int32_t blocks_of(const struct ingot_session *s)
{
    return s->engine->pool.paged < 0 ? 0 : s->table[s->engine->pool.paged].count;
}

/* Its session had `before` blocks: what it took since is not to come any more. */
static void took(struct ingot_engine *e, struct ingot_request *r, int32_t before)
{
    int32_t taken = blocks_of(r->session) - before;
    r->reserved -= taken < r->reserved ? taken : r->reserved;
    e->pool.reserved -= taken < e->pool.reserved ? taken : e->pool.reserved;
}

/* Moves requests from the queue to the running list while there is room for the tokens they may come to. */
static void admit(struct ingot_engine *e)
{
    while (e->queue && e->running_count < e->plan.parallel) {
        struct ingot_request *r = e->queue;
        int32_t want = session_blocks_wanted(r->session, r->limit);
        while (want && want > e->pool.free_count[e->pool.paged] - e->pool.reserved && rest_make_room(e))
            ;
        if (want && want > e->pool.free_count[e->pool.paged] - e->pool.reserved) {
            if (e->running)
                return; /* somebody will give blocks back */
            struct error err;
            error_set(
                &err, STATUS_NO_ROOM,
                "the KV cache is held by open sessions on which no request runs; close some, or start with more --parallel");
            e->queue = r->next;
            pthread_mutex_unlock(&e->lock);
            request_fail(r, &err);
            pthread_mutex_lock(&e->lock);
            let_go(r);
            continue;
        }
        e->pool.reserved += r->reserved = want;
        int32_t before = blocks_of(r->session);
        rest_bring(r->session);
        took(e, r, before);
        r->reused = r->session->cached; /* now: while it waited, others may have taken what the session remembered */
        e->queue = r->next;
        r->next = NULL;
        r->state = REQUEST_RUNNING;
        struct ingot_request **at = &e->running; /* first come, first served */
        while (*at)
            at = &(*at)->next;
        *at = r;
        e->running_count++;
    }
}

/* Drops what ended (or was cancelled while queued). Lock held. */
static void sweep(struct ingot_engine *e)
{
    for (struct ingot_request **at = &e->queue; *at;) {
        struct ingot_request *r = *at;
        if (!atomic_load(&r->cancel)) {
            at = &r->next;
            continue;
        }
        *at = r->next;
        pthread_mutex_unlock(&e->lock);
        request_finish(r, INGOT_FINISH_CANCELLED);
        pthread_mutex_lock(&e->lock);
        let_go(r);
        at = &e->queue; /* the list may have changed meanwhile */
    }
    for (struct ingot_request **at = &e->running; *at;) {
        struct ingot_request *r = *at;
        if (r->state == REQUEST_ENDED) {
            *at = r->next;
            e->running_count--;
            let_go(r);
        } else {
            at = &r->next;
        }
    }
}

static void fail_list(struct ingot_engine *e, struct ingot_request *list, const struct error *err)
{
    for (struct ingot_request *r = list, *next; r; r = next) {
        next = r->next;
        if (r->state < REQUEST_ENDED)
            request_fail(r, err);
        pthread_mutex_lock(&e->lock);
        let_go(r);
        pthread_mutex_unlock(&e->lock);
    }
}

/* ---- one step ------------------------------------------------------------------------------------------------------- */

/* Adds the `rows` next tokens of a session to the batch. Lock held. */
static enum status add_rows(struct ingot_engine *e, struct step *step, struct ingot_request *r, int64_t rows, struct error *err)
{
    struct ingot_session *s = r->session;
    struct batch *b = &step->batch;
    int32_t before = blocks_of(s);
    enum status status = session_reserve(s, s->cached + rows, err);
    if (!status && e->pool.remembers)
        status = marks_begin(s, err);
    if (status)
        return status;
    took(e, r, before);
    int32_t sequence = b->sequences;
    const int32_t **tables = &e->tables[sequence * MAX_GROUPS];
    for (int g = 0; g < e->pool.group_count; g++)
        tables[g] = e->pool.recurrent[g] ? s->slots[g] : s->table[g].blocks;
    e->sequences[sequence] = (struct batch_sequence){b->rows, (int32_t)rows, s->cached, tables, -1, s->planned};
    bool last = s->cached + rows == (int64_t)s->tokens.count, all = request_wants_rows(r) && s->cached < r->prompt_end;
    for (int64_t i = 0; i < rows; i++) {
        int64_t at = s->cached + i;
        e->rows[b->rows] = (struct batch_row){.token = s->tokens.data[at], .position = at, .sequence = sequence};
        if (all || (last && i == rows - 1))
            e->wanted[b->wanted++] = b->rows;
        b->rows++;
    }
    step->request[sequence] = r;
    step->sampled[sequence] = last;
    step->row[sequence] = (struct row){.wanted = b->wanted - 1};
    b->sequences++;
    return STATUS_OK;
}

/* Rows of the piece that begins at `at`; depends on nothing but the request. */
static int64_t piece_at(const struct ingot_request *r, int64_t at)
{
    int64_t rows = (int64_t)r->session->tokens.count - at, most = request_wants_rows(r) ? PIECE_WANTED : PIECE;
    if (r->options.chunk > 0 && r->options.chunk < most)
        most = r->options.chunk;
    rows = rows < most ? rows : most;
    int64_t left = r->turn_end - at;
    return left > 0 && left < rows ? left : rows;
}

static int64_t next_piece(const struct ingot_request *r) { return piece_at(r, r->session->cached); }

/* With the whole pieces that follow a whole one, as many as a step takes. */
static int64_t join_pieces(const struct ingot_engine *e, const struct ingot_request *r, int64_t rows)
{
    while (!r->options.chunk && rows % PIECE == 0 && rows < e->pieces * PIECE && piece_at(r, r->session->cached + rows) == PIECE)
        rows += PIECE;
    return rows;
}

static bool is_long(const struct ingot_engine *e, int64_t rows)
{
    return e->compile.stream_rows && rows >= e->compile.stream_rows;
}

/* Whether the step is one of pieces that stream: these share none with others, whose rows would go another way for it. By turns.
 */
static bool streams_now(struct ingot_engine *e)
{
    bool any[2] = {false, false};
    for (struct ingot_request *r = e->running; r; r = r->next) {
        int64_t rows = r->state == REQUEST_RUNNING ? next_piece(r) : 0;
        if (rows > 0)
            any[is_long(e, rows)] = true;
    }
    return e->streamed = any[1] && !(any[0] && e->streamed);
}

/* Answers first: they are one row each and somebody waits for them. Beside them there is room for one piece. Lock held. */
static void build(struct ingot_engine *e, struct step *step)
{
    struct error err;
    bool streams = streams_now(e);
    step->batch = (struct batch){.row = e->rows, .sequence = e->sequences, .wanted_rows = e->wanted};
    for (int prompts = 0; prompts < 2; prompts++) {
        int64_t room = step->batch.rows ? PIECE + e->plan.parallel : e->compile.max_rows;
        for (struct ingot_request *r = e->running; r; r = r->next) {
            if (r->state != REQUEST_RUNNING)
                continue;
            int64_t rows = next_piece(r), wanted = request_wants_rows(r) ? rows : 1;
            if (rows < 1 || (rows == 1) != (prompts == 0) || is_long(e, rows) != streams || rows > room - step->batch.rows ||
                wanted > e->compile.max_wanted - step->batch.wanted)
                continue;
            if (e->running_count == 1) /* nobody else waits */
                rows = join_pieces(e, r, rows);
            if (add_rows(e, step, r, rows, &err)) {
                pthread_mutex_unlock(&e->lock);
                request_fail(r, &err);
                pthread_mutex_lock(&e->lock);
            }
        }
    }
}

static void finish_cancelled(struct ingot_engine *e)
{
    for (struct ingot_request *r = e->running; r; r = r->next)
        if (r->state == REQUEST_RUNNING && atomic_load(&r->cancel))
            request_finish(r, INGOT_FINISH_CANCELLED);
}

void *scheduler_main(void *argument)
{
    struct ingot_engine *e = argument;
    struct step step;
    pthread_mutex_lock(&e->lock);
    for (;;) {
        pthread_mutex_unlock(&e->lock);
        finish_cancelled(e);
        pthread_mutex_lock(&e->lock);
        sweep(e);
        if (e->closing)
            break;
        admit(e);
        build(e, &step);
        if (!step.batch.rows) {
            sweep(e);
            if (!e->running && !e->queue)
                pthread_cond_wait(&e->work, &e->lock);
            continue;
        }
        pthread_mutex_unlock(&e->lock);
        step_run(e, &step);
        pthread_mutex_lock(&e->lock);
    }
    struct error err;
    error_set(&err, STATUS_INTERRUPTED, "the engine is shutting down");
    struct ingot_request *queue = e->queue;
    e->queue = NULL;
    pthread_mutex_unlock(&e->lock);
    fail_list(e, e->running, &err);
    fail_list(e, queue, &err);
    e->running = NULL;
    return NULL;
}
