/* {% for %} and the loop variable. */
#include "tokenizers/chat/chat.h"

#include <string.h>

static bool peek_next(struct vm *vm, struct loop *l)
{
    if (l->after.kind != K_MISSING)
        return true;
    int more = iter_next(vm, &l->iter, &l->after);
    if (more <= 0)
        l->after = MISSING_VALUE;
    return more >= 0;
}

/* len() of what is gone through; an iterator is read to its end for it. */
bool loop_length(struct vm *vm, struct loop *l, int64_t *out)
{
    bool has;
    if (l->length < 0) {
        if (!jinja_length(vm, l->iterable, &l->length, &has))
            return false;
        if (!has) {
            struct value rest, *items;
            uint32_t count;
            struct iter *inner = jinja_alloc(vm, 1, sizeof *inner);
            if (!inner)
                return false;
            *inner = l->iter;
            rest = (struct value){.kind = K_ITERATOR, .iter = inner};
            if (!iter_collect(vm, rest, &items, &count))
                return false;
            l->length = count + l->index0 + 1 + (l->after.kind != K_MISSING);
            l->iter = (struct iter){.type = ITER_LIST, .items = items, .count = count};
        }
    }
    *out = l->length;
    return true;
}

bool loop_attribute(struct vm *vm, struct loop *l, const struct text *name, struct value *out, bool *found)
{
    int64_t length;
    *found = true;
    if (text_is(name, "index")) {
        *out = INT_VALUE(l->index0 + 1);
    } else if (text_is(name, "index0")) {
        *out = INT_VALUE(l->index0);
    } else if (text_is(name, "first")) {
        *out = BOOL_VALUE(l->index0 == 0);
    } else if (text_is(name, "last")) {
        if (!peek_next(vm, l))
            return false;
        *out = BOOL_VALUE(l->after.kind == K_MISSING);
    } else if (text_is(name, "length") || text_is(name, "revindex") || text_is(name, "revindex0")) {
        if (!loop_length(vm, l, &length))
            return false;
        *out = INT_VALUE(name->size == 6 ? length : length - l->index0 - (name->size == 9));
    } else if (text_is(name, "previtem")) {
        *out = l->before;
        return l->index0 > 0 || jinja_undefined_hint(vm, "there is no previous item", out);
    } else if (text_is(name, "nextitem")) {
        if (!peek_next(vm, l))
            return false;
        *out = l->after;
        return out->kind != K_MISSING || jinja_undefined_hint(vm, "there is no next item", out);
    } else if (text_is(name, "depth")) {
        *out = INT_VALUE(l->depth0 + 1);
    } else if (text_is(name, "depth0")) {
        *out = INT_VALUE(l->depth0);
    } else {
        *found = false;
    }
    return true;
}

bool method_loop_cycle(struct vm *vm, struct value self, const struct args *args, struct value *out)
{
    if (!args->count || args->named_count)
        return jinja_fail(vm, "loop.cycle() needs items");
    *out = args->items[self.loop->index0 % args->count];
    return true;
}

bool method_loop_changed(struct vm *vm, struct value self, const struct args *args, struct value *out)
{
    struct value now;
    bool equal = false;
    struct loop *l = self.loop;
    if (args->named_count)
        return jinja_fail(vm, "loop.changed() takes no keyword arguments");
    if (!list_new(vm, K_TUPLE, args->items, args->count, &now) || (l->changed.kind != K_MISSING && !jinja_equal(vm, l->changed, now, &equal)))
        return false;
    l->changed = now;
    *out = BOOL_VALUE(!equal);
    return true;
}

/* The iterable behind the loop's own if. */
static bool filtered(struct vm *vm, struct env *env, const struct node *n, struct value *iterable)
{
    struct pipeline *p = n->c ? jinja_alloc(vm, 1, sizeof *p) : NULL;
    if (!n->c)
        return true;
    if (!p)
        return false;
    *p = (struct pipeline){.source = *iterable, .loop = n, .env = env};
    return iter_value(vm, ITER_FILTERED, p, iterable);
}

static bool begin_round(struct vm *vm, struct env *inner, const struct node *n, struct loop *l, struct value item)
{
    l->index0++;
    l->before = l->current;
    l->current = item;
    if (n->extended)
        inner->slots[0] = (struct value){.kind = K_LOOP, .loop = l};
    vm->line = n->line;
    return jinja_assign(vm, inner, n->a, item);
}

/* All of a loop. env: the scope around it. As jinja2 has it, else runs if no round reached the body's end, be it by break
 * or continue. */
static enum flow run(struct vm *vm, struct env *env, const struct node *n, struct value iterable, int depth0)
{
    struct loop *l = jinja_alloc(vm, 1, sizeof *l);
    struct env *inner = NULL;
    bool whole = false;
    int more;
    if (!l || !filtered(vm, env, n, &iterable))
        return FLOW_FAIL;
    *l = (struct loop){.iterable = iterable, .index0 = -1, .length = -1, .depth0 = depth0, .node = n->flag ? n : NULL, .env = env};
    l->current = l->before = l->after = l->changed = MISSING_VALUE;
    if (!iter_begin(vm, iterable, &l->iter))
        return FLOW_FAIL;
    for (;;) {
        struct value item = l->after;
        l->after = MISSING_VALUE;
        more = item.kind == K_MISSING ? iter_next(vm, &l->iter, &item) : 1;
        if (more <= 0)
            break;
        if (!(inner = jinja_enter(vm, env, n->scope, inner)) || !begin_round(vm, inner, n, l, item))
            return FLOW_FAIL;
        enum flow flow = jinja_execute(vm, inner, &n->body);
        if (flow == FLOW_FAIL)
            return flow;
        if (flow == FLOW_BREAK)
            break;
        whole |= flow == FLOW_NEXT;
    }
    if (more < 0)
        return FLOW_FAIL;
    if (whole || !n->orelse.count)
        return FLOW_NEXT;
    inner = jinja_enter(vm, env, n->else_scope, NULL);
    return inner ? jinja_execute(vm, inner, &n->orelse) : FLOW_FAIL;
}

bool loop_recurse(struct vm *vm, struct loop *outer, const struct args *args, struct value *out)
{
    struct value iterable;
    if (!outer->node)
        return jinja_fail(vm, "the loop must have the 'recursive' marker to be called");
    if (!jinja_bind(vm, "loop", "iterable", args, &iterable))
        return false;
    size_t begin = vm->out.size;
    if (run(vm, outer->env, outer->node, iterable, outer->depth0 + 1) == FLOW_FAIL || !pile_take(vm, &vm->out, begin, out))
        return false;
    out->safe = outer->node->op == ESCAPE_YES || (outer->node->op == ESCAPE_ASK && vm->autoescape);
    return true;
}

enum flow loop_run(struct vm *vm, struct env *env, const struct node *n)
{
    struct value iterable;
    if (!jinja_eval(vm, env, n->b, &iterable))
        return FLOW_FAIL;
    vm->line = n->line;
    return run(vm, env, n, iterable, 0);
}
