/* What a piece of the tree mentions: jinja2 decides by it which loops have a loop variable and which macros take caller,
 * kwargs and varargs. */
#include "tokenizers/chat/chat.h"

struct mention {
    const char *name;
    bool done, read; /* done: met, be it read or assigned */
};

static void mention_list(const struct nodes *list, struct mention *m);

static void mention_args(const struct call_args *args, struct mention *m);

/* Goes on through c in a loop: an if may have any number of elifs. */
static void mention(const struct node *n, struct mention *m)
{
    for (; n && n->kind != N_BLOCK; n = n->c) {
        if (n->kind == N_NAME && text_is(n->text, m->name)) {
            m->read |= !n->flag && !m->done;
            m->done = true;
            return;
        }
        mention(n->a, m);
        mention(n->b, m);
        mention_list(&n->items, m);
        if (n->signature) {
            mention_list(&n->signature->parameters, m);
            mention_list(&n->signature->defaults, m);
        }
        mention_list(&n->body, m);
        mention_list(&n->orelse, m);
        if (n->args)
            mention_args(n->args, m);
    }
}

static void mention_args(const struct call_args *args, struct mention *m)
{
    mention_list(&args->items, m);
    mention_list(&args->named, m);
    mention(args->star, m);
    mention(args->stars, m);
}

static void mention_list(const struct nodes *list, struct mention *m)
{
    for (uint32_t i = 0; i < list->count; i++)
        mention(list->items[i], m);
}

bool mentions_read(const struct nodes *body, const char *name)
{
    struct mention m = {.name = name};
    mention_list(body, &m);
    return m.read;
}

/* Is the name the target of a set or for below n (macro parameters and with do not count)? */
static bool sets_loop_in(const struct nodes *list)
{
    for (uint32_t i = 0; i < list->count; i++)
        if (mentions_set_loop(list->items[i]))
            return true;
    return false;
}

bool mentions_set_loop(const struct node *n)
{
    for (; n && n->kind != N_BLOCK; n = n->kind == N_IF ? n->c : NULL) {
        if (n->kind == N_NAME)
            return n->flag && text_is(n->text, "loop");
        bool target = n->kind == N_SET || n->kind == N_SET_BLOCK || n->kind == N_FOR;
        if ((n->kind == N_TUPLE && sets_loop_in(&n->items)) || (target && mentions_set_loop(n->a)) || sets_loop_in(&n->body) || sets_loop_in(&n->orelse))
            return true;
    }
    return false;
}

bool mentions_scoped_block(const struct nodes *body)
{
    for (uint32_t i = 0; i < body->count; i++)
        for (const struct node *n = body->items[i]; n; n = n->kind == N_IF ? n->c : NULL)
            if ((n->kind == N_BLOCK && n->flag) || mentions_scoped_block(&n->body) || mentions_scoped_block(&n->orelse))
                return true;
    return false;
}
