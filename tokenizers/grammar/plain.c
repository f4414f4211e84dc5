/* Free text: most tokens are plain characters and most masks are asked for where any of them may come. That is seen from the
 * expression, so those tokens need no walk. */
#include "tokenizers/grammar/grammar.h"

enum { UNKNOWN, YES, NO };

/* Whether e holds every plain character and goes no further with it. */
static bool is_whole(struct grammar *g, expr e)
{
    struct pool *p = &g->pool;
    if (p->nodes[e].whole == UNKNOWN) {
        bool whole = true;
        for (int b = 0x20; b < 0x80 && whole; b++)
            whole = b == '"' || b == '\\' || expr_derive(p, e, (uint32_t)b) == EMPTY;
        for (int b = 0x80; b < 0x100 && whole; b++)
            whole = expr_derive(p, e, (uint32_t)b) == expr_derive(p, g->any_char, (uint32_t)b);
        if (p->failed)
            return false;
        p->nodes[e].whole = whole ? YES : NO;
    }
    return p->nodes[e].whole == YES;
}

/* All texts of plain characters but a few. */
static bool nearly_all(struct grammar *g, expr e)
{
    struct expr_node n = g->pool.nodes[e];
    bool free = false;
    for (uint32_t i = 0; i < n.b; i++) {
        struct expr_node x = g->pool.nodes[g->pool.lists[n.a + i]];
        if (x.kind == KIND_REPEAT && x.hi == UNLIMITED && is_whole(g, x.a))
            free = true;
        else if (x.kind != KIND_NOT || !g->pool.nodes[x.a].finite)
            return false;
    }
    return free;
}

uint32_t plain_reach(struct grammar *g, expr e)
{
    struct expr_node n = g->pool.nodes[e];
    uint32_t most = 0;
    switch (n.kind) {
    case KIND_CONCAT:
        return plain_reach(g, n.a);
    case KIND_REPEAT:
        return is_whole(g, n.a) ? n.hi : 0;
    case KIND_AND:
        return nearly_all(g, e) ? UNLIMITED : 0;
    case KIND_OR:
        for (uint32_t i = 0; i < n.b; i++) {
            uint32_t reach = plain_reach(g, g->pool.lists[n.a + i]);
            most = reach > most ? reach : most;
        }
    }
    return most;
}
