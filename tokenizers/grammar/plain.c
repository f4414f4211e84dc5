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

/* Whether a character that is left of in `rest` leads from `at` to `e`, whatever its bytes. */
static bool comes_back(struct grammar *g, expr e, expr at, expr rest)
{
    struct pool *p = &g->pool;
    if (rest == EMPTY || at == NONE || p->failed)
        return at == e && rest == EMPTY;
    for (int i = 0; i < p->speaker_count; i++) {
        uint32_t byte = p->speakers[i];
        expr more = byte == p->speaker['<'] ? NONE : expr_derive(p, rest, byte);
        if (more != NONE && !comes_back(g, e, expr_derive(p, at, byte), more))
            return false;
    }
    return true;
}

bool text_loops(struct grammar *g, expr e)
{
    struct pool *p = &g->pool;
    struct expr_node n = p->nodes[e];
    bool loops = false;
    if (n.kind == KIND_CONCAT)
        return text_loops(g, n.a);
    for (uint32_t i = 0; n.kind == KIND_OR && i < n.b && !loops; i++)
        loops = text_loops(g, p->lists[n.a + i]);
    if (n.kind != KIND_AND || p->failed)
        return loops;
    if (n.loops == UNKNOWN) {
        loops = comes_back(g, e, e, g->any_char);
        if (!p->failed)
            p->nodes[e].loops = loops ? YES : NO;
    }
    return p->nodes[e].loops == YES;
}
