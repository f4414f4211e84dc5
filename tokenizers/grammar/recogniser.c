/* Earley's algorithm over expressions.
 *
 * An item (A, e, o): rule A began in set o, and e is left of it. Reading a byte derives e. Where e may be empty, A is
 * complete: items of set o that wait for A go on behind it. Where e may begin with a call of B, B begins here.
 *
 * - A call that ends a rule (e is CALL B or has it as an alternative) needs no return: B's body takes the place of e. Right
 *   recursion thereby costs nothing and comes back to the same set (what Leo 1991 does with memory).
 * - Rules that may be empty are passed over where they are called (Aycock and Horspool 2002), so an item that began in a set
 *   never has to be completed within it. */
#include <stdlib.h>
#include <string.h>

#include "tokenizers/grammar/grammar.h"
#include "tokenizers/hash.h"

/* ---- making a set --------------------------------------------------------------------------------------------------- */

static void add_item(struct grammar *g, uint32_t rule, expr left, uint32_t origin)
{
    struct recogniser *r = &g->r;
    struct set *s = &r->sets[r->set_count - 1];
    if (left == NONE || g->pool.failed)
        return;
    if (s->item_count >= 16) { /* many: look them up by hash */
        if ((uint64_t)s->item_count * 2 > r->seen_mask || s->item_count == 16) {
            uint32_t mask = s->item_count == 16 ? 63 : r->seen_mask * 2 + 1;
            uint32_t *table = realloc(r->seen, ((size_t)mask + 1) * sizeof *table);
            if (!table) {
                pool_fail(&g->pool, STATUS_NO_ROOM, "the grammar needs too much memory");
                return;
            }
            memset(table, 0, ((size_t)mask + 1) * sizeof *table);
            r->seen = table;
            r->seen_mask = mask;
            for (uint32_t i = 0; i < s->item_count; i++) {
                const struct item *x = &r->items[s->items + i];
                uint32_t at = (uint32_t)hash_pair(x->rule ^ x->origin * 0x9E3779B9u, x->left, 0) & mask;
                while (table[at])
                    at = (at + 1) & mask;
                table[at] = i + 1;
            }
        }
        uint32_t at = (uint32_t)hash_pair(rule ^ origin * 0x9E3779B9u, left, 0) & r->seen_mask;
        for (; r->seen[at]; at = (at + 1) & r->seen_mask) {
            const struct item *x = &r->items[s->items + r->seen[at] - 1];
            if (x->rule == rule && x->left == left && x->origin == origin)
                return;
        }
        r->seen[at] = s->item_count + 1;
    } else {
        for (uint32_t i = 0; i < s->item_count; i++) {
            const struct item *x = &r->items[s->items + i];
            if (x->rule == rule && x->left == left && x->origin == origin)
                return;
        }
    }
    if (!pool_grow(&g->pool, &r->items, &r->item_capacity, r->item_count + 1, sizeof *r->items))
        return;
    r->items[r->item_count++] = (struct item){rule, left, origin};
    s->item_count++;
}

static void call(struct grammar *g, uint32_t item, uint32_t rule)
{
    struct recogniser *r = &g->r;
    uint32_t id = r->set_count - 1;
    struct item from = r->items[item];
    if (!pool_grow(&g->pool, &r->waiters, &r->waiter_capacity, r->waiter_count + 1, sizeof *r->waiters))
        return;
    r->waiters[r->waiter_count++] = (struct waiter){rule, item};
    r->sets[id].waiter_count++;
    if (g->pool.rules[rule].nullable)
        add_item(g, from.rule, expr_derive(&g->pool, from.left, SYMBOL_CALL + rule), from.origin);
    if (r->predicted[rule] == r->round)
        return;
    r->predicted[rule] = r->round;
    add_item(g, rule, g->pool.rules[rule].body, id);
}

/* Calls that an expression may begin with. */
static void calls(struct grammar *g, uint32_t item, expr e)
{
    for (;;) {
        struct expr_node n = g->pool.nodes[e];
        if (!n.calls)
            return;
        if (n.kind == KIND_CALL) {
            call(g, item, n.a);
            return;
        }
        if (n.kind == KIND_OR) {
            for (uint32_t i = 0; i < n.b; i++)
                calls(g, item, g->pool.lists[n.a + i]);
            return;
        }
        if (n.kind == KIND_CONCAT) {
            calls(g, item, n.a);
            if (!g->pool.nodes[n.a].nullable)
                return;
            e = n.b;
        } else if (n.kind == KIND_REPEAT) {
            e = n.a;
        } else {
            return;
        }
    }
}

static void begin(struct grammar *g, uint32_t item)
{
    struct item from = g->r.items[item];
    struct expr_node n = g->pool.nodes[from.left];
    if (n.kind == KIND_CALL) {
        add_item(g, from.rule, g->pool.rules[n.a].body, from.origin);
    } else if (n.kind == KIND_OR) {
        for (uint32_t i = 0; i < n.b; i++) {
            expr member = g->pool.lists[n.a + i];
            if (g->pool.nodes[member].kind == KIND_CALL)
                add_item(g, from.rule, g->pool.rules[g->pool.nodes[member].a].body, from.origin);
            else
                calls(g, item, member);
        }
    } else {
        calls(g, item, from.left);
    }
}

static void complete(struct grammar *g, uint32_t rule, uint32_t origin)
{
    struct recogniser *r = &g->r;
    if (rule == 0 && origin == SET_OUTSIDE)
        r->sets[r->set_count - 1].accepts = true;
    uint32_t first = r->sets[origin].waiters, count = r->sets[origin].waiter_count;
    for (uint32_t i = 0; i < count; i++) {
        if (r->waiters[first + i].rule != rule)
            continue;
        struct item from = r->items[r->waiters[first + i].item];
        add_item(g, from.rule, expr_derive(&g->pool, from.left, SYMBOL_CALL + rule), from.origin);
    }
}

static bool rounds_begin(struct grammar *g)
{
    struct recogniser *r = &g->r;
    uint32_t before = r->predicted_capacity;
    if (!pool_grow(&g->pool, &r->predicted, &r->predicted_capacity, g->pool.rule_count, sizeof *r->predicted))
        return false;
    if (r->predicted_capacity > before)
        memset(r->predicted + before, 0, (r->predicted_capacity - before) * sizeof *r->predicted);
    if (++r->round == 0) {
        memset(r->predicted, 0, r->predicted_capacity * sizeof *r->predicted);
        r->round = 1;
    }
    return true;
}

static int compare_items(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    if (x->origin != y->origin)
        return x->origin < y->origin ? -1 : 1;
    if (x->rule != y->rule)
        return x->rule < y->rule ? -1 : 1;
    return (x->left > y->left) - (x->left < y->left);
}

/* Sorts the kernel; what is left of one rule from one origin becomes one expression. */
static void join_kernel(struct grammar *g)
{
    struct recogniser *r = &g->r;
    uint32_t kept = 0;
    if (r->kernel_count > 1)
        qsort(r->kernel, r->kernel_count, sizeof *r->kernel, compare_items);
    for (uint32_t i = 0; i < r->kernel_count; i++) {
        struct item *last = kept ? &r->kernel[kept - 1] : NULL;
        if (last && last->rule == r->kernel[i].rule && last->origin == r->kernel[i].origin)
            last->left = expr_or2(&g->pool, last->left, r->kernel[i].left);
        else
            r->kernel[kept++] = r->kernel[i];
    }
    r->kernel_count = kept;
}

static void add_kernel(struct grammar *g, uint32_t rule, expr left, uint32_t origin)
{
    struct recogniser *r = &g->r;
    if (left != NONE && pool_grow(&g->pool, &r->kernel, &r->kernel_capacity, r->kernel_count + 1, sizeof *r->kernel))
        r->kernel[r->kernel_count++] = (struct item){rule, left, origin};
}

static uint32_t hash_items(const struct item *items, uint32_t count)
{
    return (uint32_t)hash_text((const char *)items, count * sizeof *items, 0x51ED270B);
}

static bool index_sets(struct grammar *g)
{
    struct recogniser *r = &g->r;
    if (r->index && (uint64_t)r->set_count * 2 < r->index_mask)
        return true;
    uint32_t mask = r->index ? r->index_mask * 2 + 1 : 255, *index = calloc((size_t)mask + 1, sizeof *index);
    if (!index) {
        pool_fail(&g->pool, STATUS_NO_ROOM, "the grammar needs too much memory");
        return false;
    }
    for (uint32_t i = 2; i < r->set_count; i++) {
        uint32_t at = hash_items(r->items + r->sets[i].items, r->sets[i].kernel_count) & mask;
        while (index[at])
            at = (at + 1) & mask;
        index[at] = i;
    }
    g->pool.bytes += ((size_t)mask - r->index_mask) * sizeof *index;
    free(r->index);
    r->index = index;
    r->index_mask = mask;
    return true;
}

static bool new_set(struct grammar *g)
{
    struct recogniser *r = &g->r;
    if (!pool_grow(&g->pool, &r->sets, &r->set_capacity, r->set_count + 1, sizeof *r->sets))
        return false;
    r->sets[r->set_count++] = (struct set){.items = r->item_count, .waiters = r->waiter_count};
    return true;
}

/* The set of the kernel that was gathered; made if it is new. */
static uint32_t kernel_set(struct grammar *g)
{
    struct recogniser *r = &g->r;
    join_kernel(g);
    if (!r->kernel_count || g->pool.failed || !index_sets(g))
        return SET_DEAD;
    uint32_t at = hash_items(r->kernel, r->kernel_count) & r->index_mask, id;
    for (; (id = r->index[at]); at = (at + 1) & r->index_mask)
        if (r->sets[id].kernel_count == r->kernel_count &&
            memcmp(r->items + r->sets[id].items, r->kernel, r->kernel_count * sizeof *r->kernel) == 0)
            return id;
    if (!rounds_begin(g) || !new_set(g))
        return SET_DEAD;
    id = r->set_count - 1;
    for (uint32_t i = 0; i < r->kernel_count; i++)
        add_item(g, r->kernel[i].rule, r->kernel[i].left, r->kernel[i].origin);
    r->sets[id].kernel_count = r->kernel_count;
    for (uint32_t i = 0; i < r->sets[id].item_count && !g->pool.failed; i++) {
        struct item x = r->items[r->sets[id].items + i];
        if (g->pool.nodes[x.left].nullable && x.origin != id)
            complete(g, x.rule, x.origin);
        begin(g, r->sets[id].items + i);
    }
    if (g->pool.failed)
        return SET_DEAD;
    r->index[at] = id;
    return id;
}

/* ---- the interface -------------------------------------------------------------------------------------------------- */

uint32_t set_step(struct grammar *g, uint32_t set, unsigned char byte)
{
    struct recogniser *r = &g->r;
    uint8_t class = g->class_of[byte];
    if (r->sets[set].next && r->sets[set].next[class])
        return r->sets[set].next[class];
    if (g->pool.failed)
        return SET_DEAD;
    if (!r->sets[set].next) {
        if (!(r->sets[set].next = calloc((size_t)g->class_count, sizeof *r->sets[set].next))) {
            pool_fail(&g->pool, STATUS_NO_ROOM, "the grammar needs too much memory");
            return SET_DEAD;
        }
        g->pool.bytes += (size_t)g->class_count * sizeof *r->sets[set].next;
    }
    r->kernel_count = 0;
    for (uint32_t i = 0; i < r->sets[set].item_count; i++) {
        struct item x = r->items[r->sets[set].items + i];
        add_kernel(g, x.rule, expr_derive(&g->pool, x.left, byte), x.origin);
    }
    uint32_t to = kernel_set(g);
    if (!g->pool.failed)
        r->sets[set].next[class] = to;
    return to;
}

uint32_t set_alone(struct grammar *g, expr left)
{
    g->r.kernel_count = 0;
    add_kernel(g, 0, left, SET_OUTSIDE);
    return kernel_set(g);
}

uint32_t set_behind(struct grammar *g, uint32_t rule, uint32_t origin)
{
    struct recogniser *r = &g->r;
    r->kernel_count = 0;
    for (uint32_t i = 0; i < r->sets[origin].waiter_count; i++) {
        struct waiter w = r->waiters[r->sets[origin].waiters + i];
        struct item from = r->items[w.item];
        if (w.rule == rule)
            add_kernel(g, from.rule, expr_derive(&g->pool, from.left, SYMBOL_CALL + rule), from.origin);
    }
    return kernel_set(g);
}

uint32_t set_renew(struct grammar *g, const struct item *kernel, uint32_t count, const expr *exprs, const uint32_t *sets)
{
    g->r.kernel_count = 0;
    for (uint32_t i = 0; i < count; i++)
        add_kernel(g, kernel[i].rule, exprs[kernel[i].left], sets[kernel[i].origin]);
    return kernel_set(g);
}

bool recogniser_reset(struct grammar *g) { return new_set(g) && new_set(g); }

enum status recogniser_open(struct grammar *g, struct error *err)
{
    if (!recogniser_reset(g))
        return pool_error(&g->pool, "the grammar", err);
    g->start = set_alone(g, g->pool.rules[0].body);
    return g->pool.failed ? pool_error(&g->pool, "the grammar", err) : STATUS_OK;
}

void recogniser_free(struct recogniser *r)
{
    for (uint32_t i = 0; i < r->set_count; i++) {
        free(r->sets[i].next);
        inner_free(r->sets[i].inner);
        inner_free(r->sets[i].mask);
    }
    free(r->sets);
    free(r->items);
    free(r->waiters);
    free(r->index);
    free(r->kernel);
    free(r->seen);
    free(r->predicted);
    *r = (struct recogniser){0};
}
