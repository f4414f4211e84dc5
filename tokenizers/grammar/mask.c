/* Which tokens may come next: the tree of the vocabulary walked through the sets.
 *
 * Most of a walk does not depend on where a rule stands. For each item (A, e, o) of a set's kernel, what lies inside of A
 * depends on e alone: it is walked once with an unknown origin and kept, `inner`: the tokens that fit and the branches where A
 * may end with more of a token to come. Only these few branches are walked on from the set behind A. A string's contents cost
 * one walk of the whole vocabulary per grammar; a mask within a string is a copy and the tokens that hold a quote.
 *
 * Counts that no token can use up do not count (expr_clamp), so maxLength 100000 has one inner for nearly all of its states. */
#include <stdlib.h>
#include <string.h>

#include "tokenizers/grammar/grammar.h"
#include "tokenizers/grammar/vocabulary.h"

struct inner {
    uint32_t *bits;
    uint32_t *exits; /* branches where the item is complete and that have branches behind them */
    uint32_t exit_count, exit_capacity;
};

void inner_free(struct inner *inner)
{
    if (inner) {
        free(inner->bits);
        free(inner->exits);
    }
    free(inner);
}

static struct inner *inner_new(struct grammar *g, const struct grammar_vocabulary *v)
{
    size_t words = grammar_vocabulary_words(v);
    struct inner *inner = calloc(1, sizeof *inner);
    if (inner && !(inner->bits = calloc(words, sizeof *inner->bits))) {
        free(inner);
        inner = NULL;
    }
    if (!inner)
        pool_fail(&g->pool, STATUS_NO_ROOM, "a mask needs too much memory");
    else
        g->pool.bytes += words * sizeof *inner->bits;
    return inner;
}

/* Tokens that are allowed without a look: of at most `plain` plain characters, with `text` all of whole characters without '<'. */
struct known {
    uint32_t plain;
    bool text;
};

/* Walks the subtree of branch `top` from set `from`, which stands at its end. exits: NULL if nobody asks. Subtrees of at most
 * `known.plain` plain characters, with `known.text` those of text, are left out: their tokens are known already. */
static void walk(struct grammar *g, const struct grammar_vocabulary *v, uint32_t top, uint32_t from, uint32_t *bits, struct inner *exits,
                 struct known known)
{
    uint32_t path[LONGEST + 1];
    const struct branch *b = v->branches;
    uint32_t end = b[top].skip, base = b[top].depth;
    path[base] = from;
    for (uint32_t i = top + 1; i < end;) {
        if (b[i].plain <= known.plain || (known.text && b[i].text)) {
            i = b[i].skip;
            continue;
        }
        uint32_t depth = b[i].depth, before = path[depth - 1], *next = g->r.sets[before].next;
        uint32_t to = next ? next[g->class_of[b[i].byte]] : 0;
        if (!to)
            to = set_step(g, before, b[i].byte);
        if (to == SET_DEAD) {
            if (g->pool.failed)
                return;
            i = b[i].skip;
            continue;
        }
        path[depth] = to;
        for (uint32_t t = 0; t < b[i].count; t++) {
            uint32_t id = (uint32_t)v->order[b[i].tokens + t];
            bits[id >> 5] |= 1u << (id & 31);
        }
        if (exits && g->r.sets[to].accepts && b[i].skip > i + 1) {
            if (!pool_grow(&g->pool, &exits->exits, &exits->exit_capacity, exits->exit_count + 1, sizeof *exits->exits))
                return;
            exits->exits[exits->exit_count++] = i;
        }
        i++;
    }
}

/* Sets the bits of tokens that fit for sure: all text without '<', or plain characters, up to so many. */
static struct known sure_tokens(struct grammar *g, const struct grammar_vocabulary *v, expr e, uint32_t *bits)
{
    if (text_loops(g, e)) {
        memcpy(bits, v->texts, grammar_vocabulary_words(v) * sizeof *bits);
        return (struct known){.text = true};
    }
    uint32_t reach = plain_reach(g, e);
    int s = SLICES;
    while (s > 0 && v->slices[s - 1].characters > reach)
        s--;
    if (s)
        memcpy(bits, v->slices[s - 1].bits, grammar_vocabulary_words(v) * sizeof *bits);
    return (struct known){.plain = s ? v->slices[s - 1].characters : 0};
}

/* What lies inside of an expression; NULL when memory is out. */
static const struct inner *inner_of(struct grammar *g, const struct grammar_vocabulary *v, expr e)
{
    uint32_t alone = set_alone(g, expr_clamp(&g->pool, e, v->longest));
    if (alone == SET_DEAD)
        return NULL;
    if (!g->r.sets[alone].inner) {
        struct inner *inner = inner_new(g, v);
        if (!inner)
            return NULL;
        if (g->r.sets[alone].accepts && pool_grow(&g->pool, &inner->exits, &inner->exit_capacity, 1, sizeof *inner->exits))
            inner->exits[inner->exit_count++] = 0;
        walk(g, v, 0, alone, inner->bits, inner, sure_tokens(g, v, e, inner->bits));
        if (g->pool.failed) {
            inner_free(inner);
            return NULL;
        }
        g->r.sets[alone].inner = inner;
    }
    return g->r.sets[alone].inner;
}

/* Sets whose masks are still to be joined: those behind rules that may be complete already. */
struct pending {
    uint32_t *list, count, capacity;
};

static void pending_add(struct grammar *g, struct pending *p, uint32_t set)
{
    for (uint32_t i = 0; i < p->count; i++)
        if (p->list[i] == set)
            return;
    if (set != SET_DEAD && pool_grow(&g->pool, &p->list, &p->capacity, p->count + 1, sizeof *p->list))
        p->list[p->count++] = set;
}

static void join(struct grammar *g, const struct grammar_vocabulary *v, struct item x, uint32_t *bits, struct pending *pending)
{
    const struct inner *inner = inner_of(g, v, x.left);
    size_t words = grammar_vocabulary_words(v);
    if (!inner)
        return;
    for (size_t i = 0; i < words; i++)
        bits[i] |= inner->bits[i];
    if (!inner->exit_count || x.origin == SET_OUTSIDE)
        return;
    uint32_t behind = set_behind(g, x.rule, x.origin);
    for (uint32_t i = 0; i < inner->exit_count && behind != SET_DEAD && !g->pool.failed; i++) {
        if (inner->exits[i] == 0)
            pending_add(g, pending, behind);
        else
            walk(g, v, inner->exits[i], behind, bits, NULL, (struct known){0});
    }
}

static void compute(struct grammar *g, const struct grammar_vocabulary *v, uint32_t set, uint32_t *bits)
{
    struct pending pending = {0};
    pending_add(g, &pending, set);
    for (uint32_t i = 0; i < pending.count && !g->pool.failed; i++)
        for (uint32_t k = 0; k < g->r.sets[pending.list[i]].kernel_count && !g->pool.failed; k++)
            join(g, v, g->r.items[g->r.sets[pending.list[i]].items + k], bits, &pending);
    g->pool.bytes -= (size_t)pending.capacity * sizeof *pending.list;
    free(pending.list);
}

/* Masks of another vocabulary are of no use. */
static void use_vocabulary(struct grammar *g, const struct grammar_vocabulary *v)
{
    if (g->vocabulary == v->id)
        return;
    g->vocabulary = v->id;
    for (uint32_t i = 0; i < g->r.set_count; i++) {
        inner_free(g->r.sets[i].inner);
        inner_free(g->r.sets[i].mask);
        g->r.sets[i].inner = g->r.sets[i].mask = NULL;
    }
}

static enum status fill(struct grammar *g, struct grammar_state *s, const struct grammar_vocabulary *v, uint32_t *bits, struct error *err)
{
    enum status status = recogniser_tidy(g, err);
    if (status)
        return status;
    use_vocabulary(g, v);
    struct inner *known = g->r.sets[s->set].mask;
    if (!known && (known = inner_new(g, v))) {
        compute(g, v, s->set, known->bits);
        if (g->pool.failed)
            inner_free(known);
        else
            g->r.sets[s->set].mask = known;
    }
    if (g->pool.failed)
        return pool_error(&g->pool, "the grammar", err);
    memcpy(bits, known->bits, grammar_vocabulary_words(v) * sizeof *bits);
    return STATUS_OK;
}

enum status grammar_mask(struct grammar_state *s, const struct grammar_vocabulary *v, uint32_t *bits, struct error *err)
{
    struct grammar *g = s->grammar;
    enum status status = STATUS_OK;
    pthread_mutex_lock(&g->lock);
    memset(bits, 0, grammar_vocabulary_words(v) * sizeof *bits);
    if (!s->ended) {
        status = fill(g, s, v, bits, err);
        if (status && g->pool.failed == STATUS_NO_ROOM) { /* once more with all the memory there is */
            status = recogniser_tidy(g, err);
            if (!status)
                status = fill(g, s, v, bits, err);
        }
    }
    bool accepts = s->ended || g->r.sets[s->set].accepts;
    for (size_t i = 0; i < v->end_count && accepts; i++)
        if (v->ends[i] >= 0 && v->ends[i] < v->size)
            bits[v->ends[i] >> 5] |= 1u << (v->ends[i] & 31);
    pthread_mutex_unlock(&g->lock);
    return status;
}

enum status grammar_accept_token(struct grammar_state *s, const struct grammar_vocabulary *v, int32_t id, struct error *err)
{
    if (id < 0 || id >= v->size)
        return error_set(err, STATUS_USAGE, "token %d lies outside the vocabulary", id);
    for (size_t i = 0; i < v->end_count; i++)
        if (v->ends[i] == id) {
            if (!grammar_complete(s))
                return error_set(err, STATUS_USAGE, "token %d ends the answer where the grammar wants more", id);
            s->ended = true;
            return STATUS_OK;
        }
    uint32_t size = v->starts[id + 1] - v->starts[id];
    if (!size)
        return error_set(err, STATUS_USAGE, "token %d stands for no text", id);
    struct grammar_state *trial;
    enum status status = grammar_state_copy(&trial, s, err);
    if (!status)
        status = grammar_accept_bytes(trial, v->bytes + v->starts[id], size, NULL, err);
    if (!status) { /* under the lock: numbers may move when memory is tidied */
        pthread_mutex_lock(&s->grammar->lock);
        s->set = trial->set;
        pthread_mutex_unlock(&s->grammar->lock);
    }
    grammar_state_close(trial);
    return status;
}
