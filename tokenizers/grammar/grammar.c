/* Finishing a compiled grammar, and the states that read by it. */
#include "tokenizers/grammar/grammar.h"

#include <stdlib.h>
#include <string.h>

#include "tokenizers/grammar/chars.h"

enum status pool_error(const struct pool *p, const char *what, struct error *err)
{
    return error_set(err, p->failed, "%s: %s", what, p->reason ? p->reason : "unknown");
}

/* ---- rules that can end, rules that may be empty -------------------------------------------------------------------- */

/* What holds for a node, given its rules; children come first. */
static bool node_holds(const struct pool *p, const bool *holds, const struct expr_node *n, bool nullable)
{
    bool any = false, all = true;
    switch (n->kind) {
    case KIND_NONE:
        return false;
    case KIND_BYTES:
        return !nullable;
    case KIND_CALL:
        return nullable ? p->rules[n->a].nullable : p->rules[n->a].productive;
    case KIND_CONCAT:
        return holds[n->a] && holds[n->b];
    case KIND_OR:
        for (uint32_t i = 0; i < n->b; i++)
            any |= holds[p->lists[n->a + i]];
        return any;
    case KIND_REPEAT:
        return n->lo == 0 || holds[n->a];
    case KIND_AND: /* without calls: emptiness was decided when it was made */
    case KIND_NOT:
    case KIND_MULTIPLE:
        return nullable ? n->nullable : true;
    }
    return all;
}

static void find_rules(struct pool *p, bool *holds, bool nullable)
{
    for (bool changed = true; changed;) {
        changed = false;
        for (uint32_t i = 0; i < p->count; i++)
            holds[i] = node_holds(p, holds, &p->nodes[i], nullable);
        for (uint32_t i = p->rule_count; i-- > 0;) {
            bool *flag = nullable ? &p->rules[i].nullable : &p->rules[i].productive;
            if (!*flag && holds[p->rules[i].body])
                *flag = changed = true;
        }
    }
}

/* Takes calls of rules that can never end out of all rules. */
static void drop_endless(struct pool *p, expr *to, uint32_t count)
{
    for (uint32_t i = 0; i < count && !p->failed; i++) {
        struct expr_node n = p->nodes[i];
        to[i] = i;
        if (!n.calls)
            continue;
        if (n.kind == KIND_CALL) {
            to[i] = p->rules[n.a].productive ? i : NONE;
        } else if (n.kind == KIND_CONCAT) {
            to[i] = expr_concat(p, to[n.a], to[n.b]);
        } else if (n.kind == KIND_REPEAT) {
            to[i] = expr_repeat(p, to[n.a], n.lo, n.hi);
        } else {
            expr e = NONE;
            for (uint32_t m = 0; m < n.b; m++)
                e = expr_or2(p, e, to[p->lists[n.a + m]]);
            to[i] = e;
        }
    }
    for (uint32_t i = 0; i < p->rule_count && !p->failed; i++)
        p->rules[i].body = to[p->rules[i].body];
}

static enum status settle_rules(struct pool *p, struct error *err)
{
    bool *holds = p->failed ? NULL : calloc(p->count, sizeof *holds);
    expr *to = p->failed ? NULL : calloc(p->count, sizeof *to);
    bool endless = false;
    if (holds && to) {
        find_rules(p, holds, false);
        find_rules(p, holds, true);
        for (uint32_t i = 0; i < p->rule_count; i++)
            endless |= !p->rules[i].productive;
        if (endless)
            drop_endless(p, to, p->count);
    }
    bool room = holds && to;
    free(holds);
    free(to);
    if (p->failed)
        return pool_error(p, "this grammar is too large", err);
    if (!room)
        return error_memory(err, "a grammar");
    if (!p->rules[0].productive)
        return error_set(err, STATUS_BAD_INPUT, "no text satisfies this; loosen what contradicts itself or never ends");
    return STATUS_OK;
}

/* ---- grammars ------------------------------------------------------------------------------------------------------- */

static void grammar_free(struct grammar *g)
{
    pthread_mutex_destroy(&g->lock);
    recogniser_free(&g->r);
    pool_free(&g->pool);
    free(g);
}

enum status grammar_finish(struct grammar **out, struct pool *pool, struct error *err)
{
    *out = NULL;
    expr any_char = chars_any(pool, SPELL_UTF8);
    enum status status = settle_rules(pool, err);
    struct grammar *g = status ? NULL : calloc(1, sizeof *g);
    if (!g) {
        pool_free(pool);
        return status ? status : error_memory(err, "a grammar");
    }
    atomic_init(&g->references, 1);
    pthread_mutex_init(&g->lock, NULL);
    g->pool = *pool;
    g->frozen = pool->count;
    g->any_char = any_char;
    g->class_count = pool->speaker_count;
    for (int i = 0; i < g->class_count; i++)
        for (int b = 0; b < 256; b++)
            if (pool->speaker[b] == pool->speakers[i])
                g->class_of[b] = (uint8_t)i;
    *pool = (struct pool){0};
    status = recogniser_open(g, err);
    if (status)
        grammar_free(g);
    else
        *out = g;
    return status;
}

struct grammar *grammar_share(struct grammar *g)
{
    atomic_fetch_add(&g->references, 1);
    return g;
}

void grammar_close(struct grammar *g)
{
    if (g && atomic_fetch_sub(&g->references, 1) == 1)
        grammar_free(g);
}

/* ---- states --------------------------------------------------------------------------------------------------------- */

static enum status open_at(struct grammar_state **out, struct grammar *g, const struct grammar_state *from, struct error *err)
{
    struct grammar_state *s = *out = calloc(1, sizeof *s);
    if (!s)
        return error_memory(err, "a grammar's state");
    pthread_mutex_lock(&g->lock);
    *s = (struct grammar_state){.grammar = grammar_share(g), .set = from ? from->set : g->start, .ended = from && from->ended};
    s->next = g->states;
    s->link = &g->states;
    if (s->next)
        s->next->link = &s->next;
    g->states = s;
    pthread_mutex_unlock(&g->lock);
    return STATUS_OK;
}

enum status grammar_state_open(struct grammar_state **out, struct grammar *g, struct error *err) { return open_at(out, g, NULL, err); }

enum status grammar_state_copy(struct grammar_state **out, const struct grammar_state *from, struct error *err)
{
    return open_at(out, from->grammar, from, err);
}

void grammar_state_close(struct grammar_state *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->grammar->lock);
    *s->link = s->next;
    if (s->next)
        s->next->link = s->link;
    pthread_mutex_unlock(&s->grammar->lock);
    grammar_close(s->grammar);
    free(s);
}

/* One byte further. A step that found no memory is taken again once what is not needed was forgotten. */
static enum status state_step(struct grammar_state *s, unsigned char byte, size_t at, struct error *err)
{
    struct grammar *g = s->grammar;
    uint32_t to = s->ended ? SET_DEAD : set_step(g, s->set, byte);
    if (g->pool.failed) {
        enum status status = recogniser_tidy(g, err);
        if (status)
            return status;
        to = set_step(g, s->set, byte);
        if (g->pool.failed)
            return pool_error(&g->pool, "the grammar", err);
    }
    if (to == SET_DEAD)
        return error_set(err, STATUS_USAGE, "byte %zu is not allowed by the grammar", at);
    s->set = to;
    return STATUS_OK;
}

enum status grammar_accept_bytes(struct grammar_state *s, const char *bytes, size_t size, size_t *taken, struct error *err)
{
    struct grammar *g = s->grammar;
    size_t at = 0;
    pthread_mutex_lock(&g->lock);
    enum status status = STATUS_OK;
    while (!status && at < size) {
        if ((at & 63) == 0)
            status = recogniser_tidy(g, err);
        if (!status)
            status = state_step(s, (unsigned char)bytes[at], at, err);
        at += !status;
    }
    pthread_mutex_unlock(&g->lock);
    if (taken)
        *taken = at;
    return status;
}

bool grammar_complete(const struct grammar_state *s)
{
    pthread_mutex_lock(&s->grammar->lock);
    bool accepts = s->ended || s->grammar->r.sets[s->set].accepts;
    pthread_mutex_unlock(&s->grammar->lock);
    return accepts;
}

/* The one byte that may come next, -1 where there are several or none. */
static int only_byte(struct grammar *g, uint32_t set, int *choices)
{
    int only = -1;
    *choices = 0;
    for (int b = 0; b < 256 && *choices < 2; b++)
        if (set_step(g, set, (unsigned char)b) != SET_DEAD) {
            only = b;
            ++*choices;
        }
    return *choices == 1 ? only : -1;
}

bool grammar_ended(const struct grammar_state *s)
{
    int choices = 0;
    pthread_mutex_lock(&s->grammar->lock);
    if (!s->ended)
        only_byte(s->grammar, s->set, &choices);
    pthread_mutex_unlock(&s->grammar->lock);
    return choices == 0;
}

enum status grammar_forced(struct grammar_state *s, size_t most, struct str *out, struct error *err)
{
    struct grammar *g = s->grammar;
    pthread_mutex_lock(&g->lock);
    enum status status = recogniser_tidy(g, err);
    uint32_t set = s->set;
    for (size_t i = 0; i < most && !status && !s->ended && !g->r.sets[set].accepts; i++) {
        int choices, byte = only_byte(g, set, &choices);
        if (byte < 0)
            break;
        set = set_step(g, set, (unsigned char)byte);
        str_add_char(out, (char)byte);
    }
    pthread_mutex_unlock(&g->lock);
    return status ? status : out->failed ? error_memory(err, "forced text") : STATUS_OK;
}
