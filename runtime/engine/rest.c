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

static void give_up(struct ingot_session *s)
{
    unlink_session(s);
    session_cut(s, 0);
    session_free(s);
}

bool rest_give_up_oldest(struct ingot_engine *e)
{
    struct ingot_session *last = e->resting;
    if (!last)
        return false;
    while (last->rest_next)
        last = last->rest_next;
    give_up(last);
    return true;
}

/* Those that say no more than the new one; false: one of them says as much as it and more, and counts as used now. */
static bool replaces(struct ingot_engine *e, uint64_t owner, const struct ids *tokens)
{
    for (struct ingot_session *s = e->resting, *next; s; s = next) {
        next = s->rest_next;
        if (s->owner != owner)
            continue;
        size_t same = common(&s->tokens, tokens->data, tokens->count);
        if (same == tokens->count) {
            unlink_session(s);
            s->rest_next = e->resting;
            e->resting = s;
            e->resting_count++;
            return false;
        }
        if (same == s->tokens.count)
            give_up(s);
    }
    return true;
}

void session_rest(struct ingot_session *s)
{
    struct ingot_engine *e = s->engine;
    session_cut(s, e->compile.deterministic ? s->cached : s->alike);
    struct ids kept = {0};
    for (int64_t i = 0; i < s->cached; i++)
        ids_add(&kept, s->tokens.data[i]);
    struct ingot_session *r = kept.count && !kept.failed && replaces(e, s->owner, &kept) ? session_new(e) : NULL;
    if (!r) {
        ids_free(&kept);
        session_cut(s, 0);
        return;
    }
    r->tokens = kept;
    r->owner = s->owner;
    r->planned = s->planned;
    r->cached = r->alike = s->cached;
    r->mark_count = s->mark_count;
    memcpy(r->marks, s->marks, sizeof r->marks);
    memcpy(r->table, s->table, sizeof r->table);
    memset(s->table, 0, sizeof s->table);
    s->cached = s->alike = s->mark_count = 0;
    r->rest_next = e->resting;
    e->resting = r;
    if (++e->resting_count > REST_MOST)
        rest_give_up_oldest(e);
}

enum ingot_status ingot_session_begin(struct ingot_session **out, struct ingot_engine *engine, uint64_t owner, const int32_t *ids, size_t count,
                                      struct ingot_error *err)
{
    enum ingot_status status = ingot_session_open(out, engine, err);
    if (status)
        return status;
    (*out)->owner = owner;
    pthread_mutex_lock(&engine->lock);
    struct ingot_session *best = NULL;
    size_t most = BLOCK_TOKENS - 1; /* less is not worth a block */
    for (struct ingot_session *s = engine->resting; s; s = s->rest_next) {
        size_t same = s->owner == owner ? common(&s->tokens, ids, count) : 0;
        same = same < (size_t)s->cached ? same : (size_t)s->cached; /* some may have had to go */
        if (same > most)
            best = s, most = same;
    }
    if (best && session_share(*out, best)) {
        /* the last token is computed in any case, in the piece that it would be in */
        int64_t piece = engine->compile.deterministic ? 1 : PIECE, same = (int64_t)(most < count ? most : count - 1);
        session_cut(*out, same / piece * piece);
        unlink_session(best); /* used now */
        best->rest_next = engine->resting;
        engine->resting = best;
        engine->resting_count++;
    }
    pthread_mutex_unlock(&engine->lock);
    status = ingot_session_append(*out, ids, count, err);
    if (status) {
        ingot_session_close(*out);
        *out = NULL;
    }
    return status;
}

void rest_close(struct ingot_engine *e)
{
    while (rest_give_up_oldest(e))
        ;
}
