/* Reading: what is left of an expression behind a byte or a call, and whether anything is left at all. */
#include <stdlib.h>
#include <string.h>

#include "tokenizers/grammar/expr.h"
#include "tokenizers/hash.h"

enum { UNKNOWN, ALIVE, DEAD, VISITED };
/* Before an intersection counts as too hard: derivatives taken, and expressions (with their members) made by them. */
enum { MOST_DERIVED = 1 << 19, MOST_MADE = 1 << 19 };
enum { INSIDE = 1u << 31 };    /* of a symbol: under AND and NOT, where results are not searched for emptiness */

static expr derive(struct pool *p, expr e, uint32_t symbol);

/* ---- first bytes ---------------------------------------------------------------------------------------------------- */

static struct byte_set set_union(struct byte_set a, const struct byte_set *b)
{
    for (int i = 0; i < 4; i++)
        a.word[i] |= b->word[i];
    return a;
}

static struct byte_set set_intersection(struct byte_set a, const struct byte_set *b)
{
    for (int i = 0; i < 4; i++)
        a.word[i] &= b->word[i];
    return a;
}

/* Of a node whose children are in the pool. A call begins with no byte: its rule is an item of its own. */
struct byte_set expr_first(const struct pool *p, const struct expr_node *n)
{
    static const struct byte_set none, all = {{UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX}};
    struct byte_set first = n->kind == KIND_AND ? all : none;
    switch (n->kind) {
    case KIND_BYTES:
        return p->sets[n->a];
    case KIND_CONCAT:
        return p->nodes[n->a].nullable ? set_union(p->nodes[n->a].first, &p->nodes[n->b].first) : p->nodes[n->a].first;
    case KIND_REPEAT:
        return p->nodes[n->a].first;
    case KIND_OR:
        for (uint32_t i = 0; i < n->b; i++)
            first = set_union(first, &p->nodes[p->lists[n->a + i]].first);
        return first;
    case KIND_AND:
        for (uint32_t i = 0; i < n->b; i++)
            first = set_intersection(first, &p->nodes[p->lists[n->a + i]].first);
        return first;
    case KIND_NOT:
    case KIND_MULTIPLE:
        return all;
    }
    return first;
}

/* ---- results are remembered ----------------------------------------------------------------------------------------- */

static struct derived *find_derived(struct pool *p, expr e, uint32_t symbol)
{
    uint32_t at = (uint32_t)hash_pair(e, symbol, 0) & p->derived_mask;
    while (p->derived[at].symbol && (p->derived[at].expr != e || p->derived[at].symbol != symbol + 1))
        at = (at + 1) & p->derived_mask;
    return &p->derived[at];
}

static bool derived_grow(struct pool *p)
{
    if (p->derived && p->derived_count * 2 < p->derived_mask)
        return true;
    uint32_t mask = p->derived ? p->derived_mask * 2 + 1 : 1023, old_mask = p->derived_mask;
    struct derived *old = p->derived, *table = NULL;
    if (p->bytes + mask * sizeof *table <= p->limit)
        table = calloc((size_t)mask + 1, sizeof *table);
    if (!table) {
        pool_fail(p, STATUS_NO_ROOM, "the grammar needs too much memory");
        return false;
    }
    p->derived = table;
    p->derived_mask = mask;
    for (uint32_t i = 0; old && i <= old_mask; i++)
        if (old[i].symbol)
            *find_derived(p, old[i].expr, old[i].symbol - 1) = old[i];
    p->bytes += ((size_t)mask - old_mask) * sizeof *table;
    free(old);
    return true;
}

/* ---- one step ------------------------------------------------------------------------------------------------------- */

static expr derive_multiple(struct pool *p, const struct expr_node *n, uint32_t symbol)
{
    const struct multiple *m = &p->multiples[n->a];
    uint64_t remainder = n->lo | (uint64_t)n->hi << 32;
    if (symbol == '.') {
        bool whole = n->b == IN_INTEGER || n->b == AFTER_ZERO;
        return whole && m->scale ? expr_multiple_state(p, n->a, AFTER_POINT, remainder) : NONE;
    }
    if (symbol < '0' || symbol > '9' || n->b == AFTER_ZERO)
        return NONE;
    uint32_t digit = symbol - '0', decimals = n->b == BEFORE_DIGITS ? (digit ? IN_INTEGER : AFTER_ZERO) : n->b == AFTER_POINT ? 1 : n->b;
    if (n->b == AFTER_POINT || n->b < AFTER_POINT) { /* decimals: those beyond the scale are zeros */
        if (n->b != AFTER_POINT && n->b >= m->scale)
            return digit ? NONE : expr_multiple_state(p, n->a, n->b, remainder);
        decimals = n->b == AFTER_POINT ? 1 : n->b + 1;
    }
    return expr_multiple_state(p, n->a, decimals, (uint64_t)(((unsigned __int128)remainder * 10 + digit) % m->modulus));
}

/* Members of an OR, AND or along a CONCAT, derived one by one. */
static expr derive_members(struct pool *p, expr e, uint32_t symbol)
{
    struct expr_node n = p->nodes[e];
    expr some[16], *list = n.b <= 16 ? some : malloc(n.b * sizeof *list), result;
    if (!list) {
        pool_fail(p, STATUS_NO_ROOM, "the grammar needs too much memory");
        return NONE;
    }
    for (uint32_t i = 0; i < n.b; i++)
        list[i] = derive(p, p->lists[n.a + i], n.kind == KIND_AND ? symbol | INSIDE : symbol);
    result = n.kind == KIND_AND ? expr_raw_and(p, list, n.b) : expr_or(p, list, n.b);
    if (list != some)
        free(list);
    return result;
}

static expr derive_concat(struct pool *p, expr e, uint32_t symbol)
{
    expr some[32];
    uint32_t count = 0;
    for (;;) { /* down the right side while the left may be empty */
        struct expr_node n = p->nodes[e];
        if (n.kind != KIND_CONCAT || count == 31) {
            some[count++] = derive(p, e, symbol);
            break;
        }
        some[count] = expr_concat(p, derive(p, n.a, symbol), n.b);
        count += some[count] != NONE;
        if (!p->nodes[n.a].nullable)
            break;
        e = n.b;
    }
    return expr_or(p, some, count);
}

static expr derive_node(struct pool *p, expr e, uint32_t symbol)
{
    struct expr_node n = p->nodes[e];
    uint32_t plain = symbol & ~(uint32_t)INSIDE;
    switch (n.kind) {
    case KIND_BYTES:
        return plain < SYMBOL_CALL && (p->sets[n.a].word[plain >> 6] >> (plain & 63) & 1) ? EMPTY : NONE;
    case KIND_CALL:
        return plain == SYMBOL_CALL + n.a ? EMPTY : NONE;
    case KIND_CONCAT:
        return derive_concat(p, e, symbol);
    case KIND_REPEAT:
        return expr_concat(p, derive(p, n.a, symbol),
                           expr_repeat(p, n.a, n.lo ? n.lo - 1 : 0, n.hi == UNLIMITED ? UNLIMITED : n.hi - 1));
    case KIND_NOT:
        return expr_raw_not(p, derive(p, n.a, symbol | INSIDE));
    case KIND_OR:
    case KIND_AND:
        return derive_members(p, e, symbol);
    case KIND_MULTIPLE:
        return derive_multiple(p, &n, plain);
    }
    return NONE;
}

static expr derive(struct pool *p, expr e, uint32_t symbol)
{
    const struct expr_node *n = &p->nodes[e];
    if (e <= EMPTY || p->failed)
        return NONE;
    uint32_t plain = symbol & ~(uint32_t)INSIDE;
    if (plain < SYMBOL_CALL ? !(n->first.word[plain >> 6] >> (plain & 63) & 1) : !n->calls)
        return NONE;
    if (!n->logic)
        symbol &= ~(uint32_t)INSIDE;
    if (n->kind == KIND_BYTES || n->kind == KIND_CALL)
        return derive_node(p, e, symbol);
    if (n->kind == KIND_CONCAT && p->nodes[n->a].kind == KIND_BYTES)
        return plain < SYMBOL_CALL ? n->b : NONE;
    if (!derived_grow(p))
        return NONE;
    struct derived *d = find_derived(p, e, symbol);
    if (d->symbol)
        return d->result;
    bool search = (n->kind == KIND_AND || n->kind == KIND_NOT) && !(symbol & INSIDE);
    expr result = derive_node(p, e, symbol);
    if (search && !expr_alive(p, result))
        result = NONE;
    if (p->failed || !derived_grow(p))
        return NONE;
    d = find_derived(p, e, symbol); /* the table may have moved */
    p->derived_count += !d->symbol;
    *d = (struct derived){e, symbol + 1, result};
    return result;
}

expr expr_derive(struct pool *p, expr e, uint32_t symbol) { return derive(p, e, symbol < SYMBOL_CALL ? p->speaker[symbol] : symbol); }

bool expr_matches(struct pool *p, expr e, const char *text, size_t size)
{
    for (size_t i = 0; i < size && e != NONE; i++)
        e = expr_derive(p, e, (unsigned char)text[i]);
    return p->nodes[e].nullable;
}

/* ---- emptiness ------------------------------------------------------------------------------------------------------ */

struct visit {
    expr e;
    uint32_t from;
};

struct search {
    struct visit *list;
    uint32_t count, capacity;
};

/* True once a state with a text is reached. */
static bool visit(struct pool *p, struct search *s, expr e, uint32_t from)
{
    struct expr_node *n = &p->nodes[e];
    if (n->nullable || n->alive == ALIVE || (!n->logic && e != NONE))
        return true;
    if (e == NONE || n->alive == DEAD || n->alive == VISITED || !pool_grow(p, &s->list, &s->capacity, s->count + 1, sizeof *s->list))
        return false;
    p->nodes[e].alive = VISITED;
    s->list[s->count++] = (struct visit){e, from};
    return false;
}

/* Breadth first through derivatives for the shortest text of an intersection or a complement. */
static bool search_text(struct pool *p, expr e)
{
    struct search s = {0};
    bool found = visit(p, &s, e, 0);
    uint32_t at = 0, derived = 0;
    uint64_t before = (uint64_t)p->count + p->list_count;
    for (; at < s.count && !found && !p->failed; at += !found)
        for (int i = 0; i < p->speaker_count && !found; i++) {
            if (++derived > MOST_DERIVED || (uint64_t)p->count + p->list_count - before > MOST_MADE)
                pool_fail(p, STATUS_BAD_INPUT, "an intersection or a complement is too large to decide");
            found = visit(p, &s, derive(p, s.list[at].e, p->speakers[i] | INSIDE), at);
        }
    for (uint32_t i = 0; i < s.count; i++)
        p->nodes[s.list[i].e].alive = found || p->failed ? UNKNOWN : DEAD;
    for (uint32_t i = at; found && s.count; i = s.list[i].from) {
        p->nodes[s.list[i].e].alive = ALIVE;
        if (i == 0)
            break;
    }
    p->bytes -= (size_t)s.capacity * sizeof *s.list;
    free(s.list);
    return found;
}

bool expr_alive(struct pool *p, expr e)
{
    const struct expr_node *n = &p->nodes[e];
    if (e == NONE || p->failed)
        return false;
    if (n->nullable || !n->logic || n->alive == ALIVE)
        return true;
    if (n->alive == DEAD)
        return false;
    bool alive = false;
    if (n->kind == KIND_CONCAT)
        alive = expr_alive(p, n->a) && expr_alive(p, p->nodes[e].b);
    else if (n->kind == KIND_REPEAT)
        alive = expr_alive(p, n->a);
    else if (n->kind == KIND_OR)
        for (uint32_t i = 0; i < p->nodes[e].b && !alive; i++)
            alive = expr_alive(p, p->lists[p->nodes[e].a + i]);
    else
        alive = search_text(p, e);
    if (!p->failed)
        p->nodes[e].alive = alive ? ALIVE : DEAD;
    return alive;
}

/* ---- clamping ------------------------------------------------------------------------------------------------------- */

enum { SYMBOL_CLAMP = 1 << 30 };

static expr clamp_node(struct pool *p, expr e, uint32_t limit)
{
    struct expr_node n = p->nodes[e];
    expr some[16] = {0}, *list = n.kind != KIND_OR || n.b <= 16 ? some : malloc(n.b * sizeof *list), result = e;
    if (!list) {
        pool_fail(p, STATUS_NO_ROOM, "the grammar needs too much memory");
        return NONE;
    }
    if (n.kind == KIND_CONCAT) {
        expr a = expr_clamp(p, n.a, limit);
        result = expr_concat(p, a, expr_clamp(p, n.b, limit));
    } else if (n.kind == KIND_REPEAT) {
        result = expr_repeat(p, expr_clamp(p, n.a, limit), n.lo > limit ? limit + 1 : n.lo, n.hi > limit ? UNLIMITED : n.hi);
    } else if (n.kind == KIND_OR) {
        for (uint32_t i = 0; i < n.b; i++)
            list[i] = expr_clamp(p, p->lists[n.a + i], limit);
        result = expr_or(p, list, n.b);
    }
    if (list != some)
        free(list);
    return result;
}

/* Intersections stay as they are: counts on their two sides may say together what neither says alone. */
expr expr_clamp(struct pool *p, expr e, uint32_t limit)
{
    if (!p->nodes[e].counts || p->failed || !derived_grow(p))
        return p->failed ? NONE : e;
    struct derived *d = find_derived(p, e, SYMBOL_CLAMP + limit);
    if (d->symbol)
        return d->result;
    expr result = clamp_node(p, e, limit);
    if (p->failed || !derived_grow(p))
        return NONE;
    d = find_derived(p, e, SYMBOL_CLAMP + limit);
    p->derived_count += !d->symbol;
    *d = (struct derived){e, SYMBOL_CLAMP + limit + 1, result};
    return result;
}
