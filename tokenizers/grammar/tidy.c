/* Forgetting: when what was learnt takes too much memory, only what the states stand on is kept.
 *
 * Expressions and sets are numbered so that children and origins come first, and numbers keep their order here, so one pass
 * upwards rewrites everything. */
#include <stdlib.h>
#include <string.h>

#include "tokenizers/grammar/grammar.h"

/* Expressions behind the grammar's own that are kept, out of the pool. */
struct kept {
    bool *sets, *exprs;
    uint32_t *set_to;
    expr *to;
    struct expr_node *nodes;
    struct byte_set *bytes;
    uint32_t *lists, list_count;
    struct item *items;
    uint32_t *counts; /* kernel items of each set */
};

static void mark(const struct grammar *g, struct kept *k)
{
    const struct recogniser *r = &g->r;
    const struct pool *p = &g->pool;
    k->sets[g->start] = true;
    for (const struct grammar_state *s = g->states; s; s = s->next)
        k->sets[s->set] = true;
    for (uint32_t i = r->set_count; i-- > 2;)
        for (uint32_t j = 0; k->sets[i] && j < r->sets[i].kernel_count; j++) {
            const struct item *x = &r->items[r->sets[i].items + j];
            k->sets[x->origin] = k->exprs[x->left] = true;
        }
    for (uint32_t i = p->count; i-- > g->frozen;) {
        const struct expr_node *n = &p->nodes[i];
        if (!k->exprs[i])
            continue;
        if (n->kind == KIND_CONCAT || n->kind == KIND_NOT || n->kind == KIND_REPEAT)
            k->exprs[n->a] = true;
        if (n->kind == KIND_CONCAT)
            k->exprs[n->b] = true;
        for (uint32_t m = 0; (n->kind == KIND_OR || n->kind == KIND_AND) && m < n->b; m++)
            k->exprs[p->lists[n->a + m]] = true;
    }
}

static bool kept_open(const struct grammar *g, struct kept *k)
{
    const struct pool *p = &g->pool;
    k->sets = calloc(g->r.set_count, sizeof *k->sets);
    k->set_to = calloc(g->r.set_count, sizeof *k->set_to);
    k->counts = calloc(g->r.set_count, sizeof *k->counts);
    k->exprs = calloc(p->count, sizeof *k->exprs);
    k->to = calloc(p->count, sizeof *k->to);
    k->nodes = malloc(p->count * sizeof *k->nodes);
    k->bytes = malloc((p->set_count + 1) * sizeof *k->bytes);
    k->lists = malloc((p->list_count + 1) * sizeof *k->lists);
    k->items = malloc((g->r.item_count + 1) * sizeof *k->items);
    if (!k->sets || !k->set_to || !k->counts || !k->exprs || !k->to || !k->nodes || !k->bytes || !k->lists || !k->items)
        return false;
    memcpy(k->nodes, p->nodes, p->count * sizeof *k->nodes);
    if (p->set_count)
        memcpy(k->bytes, p->sets, p->set_count * sizeof *k->bytes);
    if (p->list_count)
        memcpy(k->lists, p->lists, p->list_count * sizeof *k->lists);
    uint32_t at = 0;
    for (uint32_t i = 0; i < g->r.set_count; i++) {
        k->counts[i] = g->r.sets[i].kernel_count;
        if (k->counts[i])
            memcpy(k->items + at, g->r.items + g->r.sets[i].items, k->counts[i] * sizeof *k->items);
        at += k->counts[i];
    }
    return true;
}

static void kept_free(struct kept *k)
{
    free(k->sets);
    free(k->set_to);
    free(k->counts);
    free(k->exprs);
    free(k->to);
    free(k->nodes);
    free(k->bytes);
    free(k->lists);
    free(k->items);
}

/* One expression written anew; its parts are there already. */
static expr renew(struct pool *p, const struct kept *k, uint32_t i)
{
    struct expr_node n = k->nodes[i];
    expr *list = &k->lists[n.a];
    switch (n.kind) {
    case KIND_BYTES:
        return expr_bytes(p, &k->bytes[n.a]);
    case KIND_CONCAT:
        return expr_concat(p, k->to[n.a], k->to[n.b]);
    case KIND_NOT:
        return expr_raw_not(p, k->to[n.a]);
    case KIND_REPEAT:
        return expr_repeat(p, k->to[n.a], n.lo, n.hi);
    case KIND_CALL:
        return expr_call(p, n.a);
    case KIND_MULTIPLE:
        return expr_multiple_state(p, n.a, n.b, n.lo | (uint64_t)n.hi << 32);
    case KIND_OR:
    case KIND_AND:
        for (uint32_t m = 0; m < n.b; m++) /* lists are not shared between expressions */
            list[m] = k->to[list[m]];
        return n.kind == KIND_OR ? expr_or(p, list, n.b) : expr_raw_and(p, list, n.b);
    }
    return i;
}

static void rewrite(struct grammar *g, struct kept *k, uint32_t expr_count, uint32_t set_count)
{
    for (uint32_t i = 0; i < expr_count; i++) {
        if (i < g->frozen)
            k->to[i] = i;
        else if (k->exprs[i])
            k->to[i] = renew(&g->pool, k, i);
    }
    const struct item *item = k->items;
    for (uint32_t i = 0; i < set_count; item += k->counts[i++]) {
        k->set_to[i] = i < 2 ? i : SET_DEAD;
        if (i >= 2 && k->sets[i])
            k->set_to[i] = set_renew(g, item, k->counts[i], k->to, k->set_to);
    }
    g->start = k->set_to[g->start];
    for (struct grammar_state *s = g->states; s; s = s->next)
        s->set = k->set_to[s->set];
}

enum status recogniser_tidy(struct grammar *g, struct error *err)
{
    struct pool *p = &g->pool;
    if (!p->failed && p->bytes <= p->limit / 2)
        return STATUS_OK;
    if (p->failed && p->failed != STATUS_NO_ROOM)
        return pool_error(p, "the grammar", err);
    struct kept k = {0};
    uint32_t exprs = p->count, sets = g->r.set_count;
    if (!kept_open(g, &k)) {
        kept_free(&k);
        return error_memory(err, "a grammar's state");
    }
    mark(g, &k);
    pool_truncate(p, g->frozen);
    recogniser_free(&g->r);
    enum status status = recogniser_reset(g) ? STATUS_OK : STATUS_NO_ROOM;
    if (!status)
        rewrite(g, &k, exprs, sets);
    kept_free(&k);
    if (status || p->failed || p->bytes > p->limit / 2)
        return error_set(err, STATUS_NO_ROOM, "the text makes the grammar's state too large");
    return STATUS_OK;
}
