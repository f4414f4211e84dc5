/* Sessions: tokens, block tables, fork by copy on write. */
#include <stdlib.h>
#include <string.h>

#include "runtime/engine/engine.h"

struct ingot_session *session_new(struct ingot_engine *engine)
{
    struct ingot_session *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->engine = engine;
    s->next = engine->sessions;
    engine->sessions = s;
    return s;
}

void session_free(struct ingot_session *s)
{
    struct ingot_session **at = &s->engine->sessions;
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    for (int g = 0; g < MAX_GROUPS; g++)
        free(s->table[g].blocks);
    free(s->place);
    ids_free(&s->tokens);
    free(s);
}

enum ingot_status ingot_session_open(struct ingot_session **out, struct ingot_engine *engine, struct ingot_error *err)
{
    pthread_mutex_lock(&engine->lock);
    *out = session_new(engine);
    pthread_mutex_unlock(&engine->lock);
    return *out ? INGOT_OK : (enum ingot_status)error_memory(inner(err), "a session");
}

void session_cut(struct ingot_session *s, int64_t cached)
{
    if (cached < s->cached)
        cached = s->cached = s->engine->pool.remembers ? marks_cut(s, cached) : cached;
    if (s->alike > s->cached)
        s->alike = s->cached / PIECE * PIECE;
    int32_t keep = (int32_t)((cached + BLOCK_TOKENS - 1) / BLOCK_TOKENS);
    for (int g = 0; g < s->engine->pool.group_count; g++)
        while (s->table[g].count > keep)
            pool_drop(&s->engine->pool, g, s->table[g].blocks[--s->table[g].count]);
}

void session_keep(struct ingot_session *s, int64_t most)
{
    if (s->source_tokens > most)
        rest_forget(s);
    if (s->cached > most)
        session_cut(s, most);
}

void ingot_session_close(struct ingot_session *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->engine->lock);
    while (s->active) { /* a caller's mistake; its blocks must not go while a step writes to them */
        atomic_store(&s->active->cancel, true);
        pthread_cond_signal(&s->engine->work);
        pthread_cond_wait(&s->active->wake, &s->engine->lock);
    }
    struct ingot_engine *e = s->engine;
    rest_forget(s);
    session_cut(s, 0);
    session_free(s);
    pthread_mutex_unlock(&e->lock);
}

int32_t session_blocks_wanted(const struct ingot_session *s, int64_t tokens)
{
    int group = s->engine->pool.paged;
    if (group < 0)
        return 0;
    int32_t want = (int32_t)((tokens + BLOCK_TOKENS - 1) / BLOCK_TOKENS) - s->table[group].count;
    /* a shared block that is not full will be copied */
    return (want > 0 ? want : 0) + (s->cached % BLOCK_TOKENS != 0);
}

/* -1: none is left, nothing at rest that could go. */
static int32_t take_block(struct ingot_session *s, int group)
{
    int32_t block;
    while ((block = pool_take(&s->engine->pool, group)) < 0 && rest_make_room(s->engine))
        ;
    return block;
}

/* The block that the next token goes into must not be somebody else's too. */
static enum status own_last(struct ingot_session *s, int group, struct error *err)
{
    struct pool *p = &s->engine->pool;
    struct block_table *t = &s->table[group];
    int32_t at = (int32_t)(s->cached / BLOCK_TOKENS);
    if (s->cached % BLOCK_TOKENS == 0 || at >= t->count || p->references[group][t->blocks[at]] == 1)
        return STATUS_OK;
    int32_t block = take_block(s, group);
    if (block < 0)
        return error_set(err, STATUS_NO_ROOM, "the KV cache is full");
    enum status status = p->backend->state_copy(s->engine->compiled, &p->memory, group, block, t->blocks[at], err);
    pool_drop(p, group, status ? block : t->blocks[at]);
    t->blocks[at] = status ? t->blocks[at] : block;
    return status;
}

enum status session_reserve(struct ingot_session *s, int64_t tokens, struct error *err)
{
    int32_t want = (int32_t)((tokens + BLOCK_TOKENS - 1) / BLOCK_TOKENS);
    for (int g = 0; g < s->engine->pool.group_count; g++) {
        struct block_table *t = &s->table[g];
        if (s->engine->pool.recurrent[g])
            continue;
        enum status status = own_last(s, g, err);
        if (status)
            return status;
        if (want > t->capacity) {
            int32_t capacity = want + want / 2 + 16;
            int32_t *blocks = realloc(t->blocks, (size_t)capacity * sizeof *blocks);
            if (!blocks)
                return error_memory(err, "a block table");
            t->blocks = blocks;
            t->capacity = capacity;
        }
        while (t->count < want) {
            int32_t block = take_block(s, g);
            if (block < 0)
                return error_set(err, STATUS_NO_ROOM, "the KV cache is full");
            t->blocks[t->count++] = block;
        }
    }
    return STATUS_OK;
}

static enum status check_ids(const struct ingot_session *s, const int32_t *ids, size_t count, size_t before, struct error *err)
{
    int64_t vocab = s->engine->model->info.vocab, context = s->engine->plan.context;
    if (s->active)
        return error_set(err, STATUS_USAGE, "a request still runs on this session");
    for (size_t i = 0; i < count; i++)
        if (ids[i] < 0 || ids[i] >= vocab)
            return error_set(err, STATUS_USAGE, "token id %d lies outside the vocabulary of %lld", ids[i], (long long)vocab);
    if (before + count > (size_t)context)
        return error_set(err, STATUS_NO_ROOM, "%zu tokens do not fit into the context of %lld; shorten the prompt or raise --context",
                         before + count, (long long)context);
    return STATUS_OK;
}

enum ingot_status ingot_session_append(struct ingot_session *s, const int32_t *ids, size_t count, struct ingot_error *err)
{
    enum status status = check_ids(s, ids, count, s->tokens.count, inner(err));
    for (size_t i = 0; i < count && !status; i++)
        ids_add(&s->tokens, ids[i]);
    return (enum ingot_status)(s->tokens.failed ? error_memory(inner(err), "tokens") : status);
}

size_t ingot_session_rewind(struct ingot_session *s, size_t position)
{
    if (s->active || position >= s->tokens.count)
        return s->tokens.count;
    s->tokens.count = position;
    pthread_mutex_lock(&s->engine->lock);
    session_keep(s, (int64_t)position);
    pthread_mutex_unlock(&s->engine->lock);
    return position;
}

enum ingot_status ingot_session_sync(struct ingot_session *s, const int32_t *ids, size_t count, size_t *kept, struct ingot_error *err)
{
    enum status status = check_ids(s, ids, count, 0, inner(err));
    if (status)
        return (enum ingot_status)status;
    size_t same = 0;
    while (same < count && same < s->tokens.count && s->tokens.data[same] == ids[same])
        same++;
    same = ingot_session_rewind(s, same);
    if (kept)
        *kept = same;
    return ingot_session_append(s, ids + same, count - same, err);
}

bool session_share(struct ingot_session *copy, const struct ingot_session *s)
{
    struct pool *p = &s->engine->pool;
    for (int g = 0; g < p->group_count; g++) {
        const struct block_table *from = &s->table[g];
        struct block_table *to = &copy->table[g];
        to->capacity = from->count + 16;
        to->blocks = malloc((size_t)to->capacity * sizeof *to->blocks);
        if (!to->blocks)
            return session_cut(copy, 0), false;
        for (; to->count < from->count; to->count++) {
            to->blocks[to->count] = from->blocks[to->count];
            pool_share(p, g, to->blocks[to->count]);
        }
    }
    marks_share(copy, s);
    copy->cached = s->cached;
    copy->alike = s->alike;
    copy->owner = s->owner;
    copy->planned = s->planned;
    return true;
}

enum ingot_status ingot_session_fork(struct ingot_session **out, struct ingot_session *s, struct ingot_error *err)
{
    *out = NULL;
    if (s->active)
        return (enum ingot_status)error_set(inner(err), STATUS_USAGE, "a request still runs on this session");
    enum ingot_status status = ingot_session_open(out, s->engine, err);
    if (status)
        return status;
    struct ingot_session *copy = *out;
    for (size_t i = 0; i < s->tokens.count; i++)
        ids_add(&copy->tokens, s->tokens.data[i]);
    pthread_mutex_lock(&s->engine->lock);
    bool failed = copy->tokens.failed || !session_share(copy, s);
    pthread_mutex_unlock(&s->engine->lock);
    if (failed) {
        ingot_session_close(copy);
        *out = NULL;
        return (enum ingot_status)error_memory(inner(err), "a session");
    }
    return INGOT_OK;
}

const int32_t *ingot_session_tokens(const struct ingot_session *s, size_t *count)
{
    *count = s->tokens.count;
    return s->tokens.data;
}
