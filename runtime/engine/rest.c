/* State at rest: what requests that nobody goes on with leave behind, for the next one that begins alike. Only what any fresh request
 * would compute again bit for bit is kept: whole pieces of PIECE tokens from the beginning (with --deterministic, where bits do not
 * depend on cuts, all of it). So what is remembered never shows in an answer, only in the time until its first token.
 *
 * State belongs to whom asked for it: another owner's is never gone on with, so that times tell nobody what others asked. It takes
 * room that no request needs, and goes when one does, what was used longest ago first. */
#include <stdlib.h>
#include <string.h>

#include "runtime/engine/engine.h"

enum { REST_MOST = 256 };

/* Tokens that both begin with. */
static size_t common(const struct ids *a, const int32_t *b, size_t count)
{
    size_t n = a->count < count ? a->count : count, i = 0;
    while (i < n && a->data[i] == b[i])
        i++;
    return i;
}

static void unlink_session(struct ingot_session *s)
{
    struct ingot_session **at = &s->engine->resting;
    while (*at != s)
        at = &(*at)->rest_next;
    *at = s->rest_next;
    s->engine->resting_count--;
}

static void link_session(struct ingot_session *s)
{
    s->rest_next = s->engine->resting;
    s->engine->resting = s;
    s->engine->resting_count++;
}

static bool in_pool(const struct ingot_session *s)
{
    int group = s->engine->pool.paged;
    return group < 0 ? s->mark_count > 0 : s->table[group].count > 0;
}

static void give_up(struct ingot_session *s)
{
    shelf_settle(s->engine); /* its blocks may still be on their way */
    unlink_session(s);
    shelf_drop(s);
    session_cut(s, 0);
    session_free(s);
}

static bool on_shelf(const struct ingot_session *s) { return s->placed && !s->claims; }
static bool unclaimed(const struct ingot_session *s) { return !s->claims; }

/* The one that was used longest ago, of those that are so. */
static struct ingot_session *oldest(const struct ingot_engine *e, bool (*is)(const struct ingot_session *), const struct ingot_session *but)
{
    struct ingot_session *last = NULL;
    for (struct ingot_session *s = e->resting; s; s = s->rest_next)
        if (s != but && is(s))
            last = s;
    return last;
}

bool rest_make_room(struct ingot_engine *e)
{
    struct ingot_session *s = oldest(e, in_pool, NULL);
    if (!s)
        return false;
    if (!s->placed || s->placed < s->table[e->pool.paged].count) {
        give_up(s);
        return true;
    }
    shelf_settle(e);
    for (int g = 0; g < e->pool.group_count; g++)
        while (s->table[g].count)
            pool_drop(&e->pool, g, s->table[g].blocks[--s->table[g].count]);
    return true;
}

bool rest_clear_shelf(struct ingot_engine *e, const struct ingot_session *but)
{
    struct ingot_session *s = oldest(e, on_shelf, but);
    if (!s)
        return false;
    if (in_pool(s))
        shelf_settle(e), shelf_drop(s);
    else
        give_up(s);
    return true;
}

/* What the new one has all of goes, and leaves it its places on the shelf. False: another has all that the new one has. */
static bool replaces(struct ingot_session *r)
{
    struct ingot_engine *e = r->engine;
    for (struct ingot_session *s = e->resting, *next; s; s = next) {
        next = s->rest_next;
        if (s->owner != r->owner || s->claims)
            continue;
        int64_t same = (int64_t)common(&s->tokens, r->tokens.data, r->tokens.count);
        if (same >= r->cached && s->cached >= r->cached) {
            unlink_session(s); /* used now */
            link_session(s);
            return false;
        }
        if (same >= s->cached) {
            shelf_settle(e);
            shelf_inherit(r, s);
            give_up(s);
        }
    }
    return true;
}

void session_rest(struct ingot_session *s)
{
    struct ingot_engine *e = s->engine;
    session_cut(s, e->compile.deterministic ? s->cached : s->alike);
    struct ingot_session *r = s->cached ? session_new(e) : NULL;
    if (!r) {
        session_cut(s, 0);
        return;
    }
    for (int64_t i = 0; i < s->cached; i++)
        ids_add(&r->tokens, s->tokens.data[i]);
    r->owner = s->owner;
    r->planned = s->planned;
    r->cached = r->alike = s->cached;
    r->mark_count = s->mark_count;
    memcpy(r->marks, s->marks, sizeof r->marks);
    memcpy(r->table, s->table, sizeof r->table);
    memset(s->table, 0, sizeof s->table);
    s->cached = s->alike = s->mark_count = 0;
    if (r->tokens.failed || !replaces(r)) {
        shelf_drop(r);
        session_cut(r, 0);
        session_free(r);
        return;
    }
    link_session(r);
    (void)shelf_put(r); /* what has no place there goes when its blocks are needed */
    struct ingot_session *last = e->resting_count > REST_MOST ? oldest(e, unclaimed, r) : NULL;
    if (last)
        give_up(last);
}

enum ingot_status ingot_session_begin(struct ingot_session **out, struct ingot_engine *engine, uint64_t owner, const int32_t *ids, size_t count,
                                      struct ingot_error *err)
{
    enum ingot_status status = ingot_session_open(out, engine, err);
    if (status)
        return status;
    struct ingot_session *begun = *out;
    begun->owner = owner;
    pthread_mutex_lock(&engine->lock);
    struct ingot_session *best = NULL;
    size_t most = BLOCK_TOKENS - 1; /* less is not worth a block */
    for (struct ingot_session *s = engine->resting; s; s = s->rest_next) {
        size_t same = s->owner == owner ? common(&s->tokens, ids, count) : 0;
        same = same < (size_t)s->cached ? same : (size_t)s->cached; /* some may have had to go */
        if (same > most)
            best = s, most = same;
    }
    /* the last token is computed in any case, in the piece that it would be in */
    int64_t piece = engine->compile.deterministic ? 1 : PIECE, same = (int64_t)(most < count ? most : count - 1) / piece * piece;
    if (best && same) {
        unlink_session(best); /* used now */
        link_session(best);
        if (!in_pool(best)) {
            begun->source = best;
            begun->source_tokens = same;
            begun->planned = best->planned;
            best->claims++;
        } else if (session_share(begun, best)) {
            session_cut(begun, same);
        }
    }
    pthread_mutex_unlock(&engine->lock);
    status = ingot_session_append(begun, ids, count, err);
    if (status) {
        ingot_session_close(begun);
        *out = NULL;
    }
    return status;
}

void rest_forget(struct ingot_session *s)
{
    if (s->source)
        s->source->claims--;
    s->source = NULL;
    s->source_tokens = 0;
}

void rest_bring(struct ingot_session *s)
{
    struct ingot_session *from = s->source;
    if (!from)
        return;
    s->cached = s->alike = shelf_bring(s, from, s->source_tokens) ? s->source_tokens : 0;
    rest_forget(s);
}

void rest_close(struct ingot_engine *e)
{
    while (e->resting)
        give_up(e->resting);
}
