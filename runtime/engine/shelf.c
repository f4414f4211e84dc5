/* State at rest in the host's memory, where the pool lies on a device: blocks move there as soon as they rest, beside the steps of
 * others, so that the pool can take theirs back at once; and back when somebody goes on with them. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "runtime/engine/engine.h"

uint64_t shelf_bytes(const struct ingot_engine *e, const struct program *p, int64_t asked)
{
    for (int g = 0; g < p->group_count; g++) /* what recurrent layers remember stays on the device */
        if (p->groups[g].kind == STATE_RECURRENT)
            return 0;
    return !e->backend->shelf_open || asked < 0 ? 0 : asked ? (uint64_t)asked : plan_host_memory() / 4;
}

enum status shelf_start(struct ingot_engine *e, uint64_t bytes, struct error *err)
{
    const struct program *p = &e->model->model->program;
    struct compile_sizes sizes;
    uint64_t block = 0;
    int32_t places[MAX_GROUPS] = {0};
    if (!bytes)
        return STATUS_OK;
    enum status status = e->backend->sizes(p, &e->compile, &sizes, err);
    for (int g = 0; g < e->pool.group_count; g++)
        block += sizes.block_bytes[g];
    e->places = status || !block || bytes / block > INT32_MAX ? 0 : (int32_t)(bytes / block);
    if (status || !e->places)
        return status;
    for (int g = 0; g < e->pool.group_count; g++)
        places[g] = e->places;
    if (!(e->free_place = malloc((size_t)e->places * sizeof *e->free_place)))
        return error_memory(err, "the KV cache's places in the host's memory");
    for (int32_t i = 0; i < e->places; i++)
        e->free_place[i] = e->places - 1 - i;
    e->free_places = e->places;
    return e->backend->shelf_open(&e->shelf, e->compiled, places, err);
}

void shelf_end(struct ingot_engine *e)
{
    if (e->shelf)
        e->backend->shelf_close(e->shelf);
    free(e->free_place);
}

static bool wait_for_moves(struct ingot_engine *e)
{
    struct error err;
    bool good = !e->shelf_busy || !e->backend->shelf_wait(e->shelf, &err);
    if (!good)
        log_line(LOG_WARN, "%s", err.text);
    e->shelf_busy = false;
    return good;
}

void shelf_settle(struct ingot_engine *e) { (void)wait_for_moves(e); }

static bool move(struct ingot_engine *e, const int32_t *block, int32_t place, bool away)
{
    struct error err;
    for (int g = 0; g < e->pool.group_count; g++) {
        e->shelf_busy = true;
        if (e->backend->shelf_move(e->shelf, &e->pool.memory, g, block[g], place, away, &err)) {
            log_line(LOG_WARN, "%s", err.text);
            return false;
        }
    }
    return true;
}

static void blocks_at(const struct ingot_session *s, int32_t i, int32_t out[MAX_GROUPS])
{
    for (int g = 0; g < s->engine->pool.group_count; g++)
        out[g] = i < s->table[g].count ? s->table[g].blocks[i] : -1;
}

void shelf_drop(struct ingot_session *r)
{
    while (r->placed)
        r->engine->free_place[r->engine->free_places++] = r->place[--r->placed];
}

void shelf_inherit(struct ingot_session *r, struct ingot_session *from)
{
    int32_t whole = (int32_t)(from->cached / BLOCK_TOKENS);
    if (!r->engine->shelf || r->placed || from->placed < whole)
        return;
    r->place = from->place;
    from->place = NULL;
    for (r->placed = from->placed, from->placed = 0; r->placed > whole;)
        r->engine->free_place[r->engine->free_places++] = r->place[--r->placed];
}

/* The next block to a place of its own. */
static bool put_one(struct ingot_session *r)
{
    struct ingot_engine *e = r->engine;
    int32_t block[MAX_GROUPS];
    if (!e->free_places && !rest_clear_shelf(e, r))
        return false;
    r->place[r->placed] = e->free_place[--e->free_places];
    blocks_at(r, r->placed, block);
    return move(e, block, r->place[r->placed++], true);
}

bool shelf_put(struct ingot_session *r)
{
    struct ingot_engine *e = r->engine;
    int32_t count = e->pool.paged < 0 ? 0 : r->table[e->pool.paged].count;
    if (!e->shelf || count > e->places)
        return false;
    int32_t *place = realloc(r->place, ((size_t)count + 1) * sizeof *place);
    if (!place)
        return false;
    r->place = place;
    while (r->placed < count)
        if (!put_one(r)) {
            shelf_settle(e);
            shelf_drop(r);
            return false;
        }
    return true;
}

bool shelf_bring(struct ingot_session *s, const struct ingot_session *from, int64_t tokens)
{
    struct ingot_engine *e = s->engine;
    struct error err;
    int32_t block[MAX_GROUPS];
    bool good = wait_for_moves(e) && !session_reserve(s, tokens, &err);
    for (int32_t i = 0; good && (int64_t)i * BLOCK_TOKENS < tokens; i++) {
        blocks_at(s, i, block);
        good = move(e, block, from->place[i], false);
    }
    return wait_for_moves(e) && good;
}
