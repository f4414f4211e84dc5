/* What recurrent layers remember: slots of a fixed size, one state each, which cannot be cut back to any prefix. Every step reads one
 * slot and writes another, so a failed step changes nothing, forks need no copy, and keeping an earlier state (a mark) is not giving
 * its slot back. Marks are few: a session's are thinned out, and where slots run out the oldest of all go. */
#include <string.h>

#include "runtime/engine/engine.h"

static void drop_slots(struct ingot_session *s, const int32_t *slot)
{
    for (int g = 0; g < s->engine->pool.group_count; g++)
        if (s->engine->pool.recurrent[g])
            pool_drop(&s->engine->pool, g, slot[g]);
}

static void drop_mark(struct ingot_session *s, int i)
{
    drop_slots(s, s->marks[i].slot);
    memmove(&s->marks[i], &s->marks[i + 1], (size_t)(--s->mark_count - i) * sizeof *s->marks);
}

int64_t marks_cut(struct ingot_session *s, int64_t cached)
{
    while (s->mark_count && s->marks[s->mark_count - 1].at > cached)
        drop_mark(s, s->mark_count - 1);
    return s->mark_count ? s->marks[s->mark_count - 1].at : 0;
}

/* ---- room ----------------------------------------------------------------------------------------------------------- */

/* The last mark of a session in work is its state; so is that of one at rest, but it can be computed again. */
static int marks_to_spare(const struct ingot_session *s)
{
    bool works = s->stepping || (s->active && s->active->state == REQUEST_RUNNING);
    return s->pinned ? 0 : s->mark_count - (works && s->mark_count);
}

/* Gives up the oldest mark of all sessions; false: there is none to spare. */
static bool give_up_oldest(struct ingot_engine *e)
{
    struct ingot_session *owner = NULL;
    int oldest = 0;
    for (struct ingot_session *s = e->sessions; s; s = s->next)
        for (int i = 0; i < marks_to_spare(s); i++)
            if (!owner || s->marks[i].made < owner->marks[oldest].made)
                owner = s, oldest = i;
    if (!owner)
        return false;
    if (oldest == owner->mark_count - 1) /* blocks behind the mark before it go, too */
        session_cut(owner, owner->marks[oldest].at - 1);
    else
        drop_mark(owner, oldest);
    return true;
}

static int32_t take_slot(struct ingot_session *s, int group)
{
    struct pool *p = &s->engine->pool;
    int32_t slot;
    while ((slot = pool_take(p, group)) < 0)
        if (!give_up_oldest(s->engine)) /* shared ones may not come free by one */
            return -1;
    return slot;
}

/* ---- steps ---------------------------------------------------------------------------------------------------------- */

enum status marks_begin(struct ingot_session *s, struct error *err)
{
    struct pool *p = &s->engine->pool;
    for (int g = 0; g < p->group_count; g++) {
        if (!p->recurrent[g])
            continue;
        int32_t slot = take_slot(s, g);
        if (slot < 0) {
            for (int k = 0; k < g; k++)
                if (p->recurrent[k])
                    pool_drop(p, k, s->slots[k][1]);
            return error_set(err, STATUS_NO_ROOM, "sessions that are being saved hold what recurrent layers remember; try again, or start with more --parallel");
        }
        s->slots[g][0] = s->mark_count ? s->marks[s->mark_count - 1].slot[g] : -1;
        s->slots[g][1] = slot;
    }
    s->stepping = true;
    return STATUS_OK;
}

/* The mark that is missed least: whose neighbours are nearest to each other. The last is the state itself. */
static int least_missed(const struct ingot_session *s)
{
    int least = 0;
    int64_t gap = INT64_MAX;
    for (int i = 0; i + 1 < s->mark_count; i++) {
        int64_t own = s->marks[i + 1].at - (i ? s->marks[i - 1].at : 0);
        if (own < gap)
            gap = own, least = i;
    }
    return least;
}

void marks_advance(struct ingot_session *s, int64_t cached, bool keep)
{
    struct mark now = {.at = cached, .made = ++s->engine->marks_made};
    for (int g = 0; g < s->engine->pool.group_count; g++)
        now.slot[g] = s->slots[g][1];
    if (s->mark_count && !keep)
        drop_mark(s, s->mark_count - 1);
    else if (s->mark_count > MARKS_MOST - 1)
        drop_mark(s, least_missed(s));
    s->marks[s->mark_count++] = now;
    s->cached = cached;
    s->stepping = false;
}

void marks_give_up(struct ingot_session *s)
{
    for (int g = 0; g < s->engine->pool.group_count && s->stepping; g++)
        if (s->engine->pool.recurrent[g])
            pool_drop(&s->engine->pool, g, s->slots[g][1]);
    s->stepping = false;
}

void marks_share(struct ingot_session *copy, const struct ingot_session *s)
{
    struct pool *p = &s->engine->pool;
    memcpy(copy->marks, s->marks, sizeof copy->marks);
    copy->mark_count = s->mark_count;
    for (int i = 0; i < s->mark_count; i++)
        for (int g = 0; g < p->group_count; g++)
            if (p->recurrent[g])
                pool_share(p, g, s->marks[i].slot[g]);
}
