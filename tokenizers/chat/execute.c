/* Statements. */
#include "tokenizers/chat/chat.h"

#include <string.h>

/* ---- scopes --------------------------------------------------------------------------------------------------------- */

static void resolve_name(const struct vm *vm, const struct env *env, const struct text *name, struct value *out)
{
    const struct value *found = env->exported ? dict_find(env->exported, name) : NULL;
    if (!found)
        found = dict_find(vm->context, name);
    const struct function *f = found ? NULL : jinja_find_global(name);
    *out = found ? *found : f ? (struct value){.kind = K_FUNCTION, .function = f} : MISSING_VALUE;
}

/* Variables as the scope has them at its beginning; reuse: those of the round before. NULL after failing. */
struct env *jinja_enter(struct vm *vm, struct env *parent, const struct scope *scope, struct env *reuse)
{
    struct env *env = reuse;
    if (!env) {
        if (!(env = jinja_alloc(vm, 1, sizeof *env + scope->count * sizeof *env->slots)))
            return NULL;
        env->parent = parent;
        env->exported = parent ? parent->exported : vm->exported;
        env->slots = (struct value *)(env + 1);
    }
    for (uint32_t i = 0; i < scope->count; i++) {
        const struct slot *slot = &scope->slots[i];
        env->slots[i] = MISSING_VALUE;
        if (slot->load == LOAD_RESOLVE)
            resolve_name(vm, env, slot->name, &env->slots[i]);
        if (slot->load == LOAD_ALIAS) {
            struct env *from = parent;
            for (uint16_t up = slot->up; up; up--)
                from = from->parent;
            env->slots[i] = from->slots[slot->index];
        }
    }
    return jinja_step(vm) ? env : NULL;
}

static struct value *slot_of(struct env *env, const struct node *n)
{
    for (uint16_t up = n->up; up; up--)
        env = env->parent;
    return &env->slots[n->slot];
}

/* Blocks see what the template set at its top. */
static bool export_name(struct vm *vm, const struct text *name, struct value v)
{
    return !vm->exported || dict_set(vm, vm->exported, TEXT_VALUE(name), v);
}

static bool export_target(struct vm *vm, struct env *env, const struct node *target)
{
    for (uint32_t i = 0; i < target->items.count; i++)
        if (!export_target(vm, env, target->items.items[i]))
            return false;
    return target->kind != N_NAME || export_name(vm, target->text, *slot_of(env, target));
}

static bool assign_items(struct vm *vm, struct env *env, const struct node *target, struct value v)
{
    struct iter it;
    struct value *items = jinja_alloc(vm, target->items.count, sizeof *items), extra;
    if (!items || !iter_begin(vm, v, &it))
        return false;
    for (uint32_t i = 0; i < target->items.count; i++) {
        int more = iter_next(vm, &it, &items[i]);
        if (more < 0)
            return false;
        if (!more)
            return jinja_fail(vm, "not enough values to unpack (expected %u, got %u)", target->items.count, i);
    }
    int more = iter_next(vm, &it, &extra);
    if (more)
        return more > 0 ? jinja_fail(vm, "too many values to unpack (expected %u)", target->items.count) : false;
    for (uint32_t i = 0; i < target->items.count; i++)
        if (!jinja_assign(vm, env, target->items.items[i], items[i]))
            return false;
    return true;
}

bool jinja_assign(struct vm *vm, struct env *env, const struct node *target, struct value v)
{
    if (target->kind == N_NAME) {
        *slot_of(env, target) = v;
        return true;
    }
    vm->line = target->line;
    if (target->kind == N_TUPLE)
        return assign_items(vm, env, target, v);
    struct value space = *slot_of(env, target);
    if (space.kind != K_NAMESPACE)
        return jinja_fail(vm, "cannot assign attribute on non-namespace object");
    if (target->attribute->size && target->attribute->data[0] == '_')
        return jinja_fail(vm, "a namespace cannot hold '%s': names with a leading underscore are refused",
                          QUOTE(target->attribute->data, target->attribute->size));
    return dict_set(vm, &space.space->attributes, TEXT_VALUE(target->attribute), v);
}

/* ns.x must name a namespace before the value is computed. */
static bool check_references(struct vm *vm, struct env *env, const struct node *target)
{
    for (uint32_t i = 0; i < target->items.count; i++)
        if (!check_references(vm, env, target->items.items[i]))
            return false;
    return target->kind != N_NSREF || slot_of(env, target)->kind == K_NAMESPACE ||
           (vm->line = target->line, jinja_fail(vm, "cannot assign attribute on non-namespace object"));
}

/* ---- output --------------------------------------------------------------------------------------------------------- */

static bool escaping(const struct vm *vm, uint8_t op) { return op == ESCAPE_YES || (op == ESCAPE_ASK && vm->autoescape); }

static bool print_value(struct vm *vm, const struct node *output, struct value v)
{
    if (escaping(vm, output->op) && !jinja_escape(vm, v, &v))
        return false;
    return jinja_print(vm, &vm->out, v);
}

static bool output(struct vm *vm, struct env *env, const struct node *n)
{
    for (uint32_t i = 0; i < n->items.count; i++) {
        const struct node *child = n->items.items[i];
        struct value v;
        if (child->kind == N_DATA) {
            if (!pile_add_text(vm, &vm->out, child->text))
                return false;
            continue;
        }
        if (!jinja_eval(vm, env, child, &v) || !print_value(vm, n, v))
            return false;
    }
    return true;
}

/* The body's text as a value. FLOW_NEXT if out holds it. */
static enum flow capture(struct vm *vm, struct env *env, const struct nodes *body, struct value *out)
{
    size_t begin = vm->out.size;
    enum flow flow = jinja_execute(vm, env, body);
    if (flow == FLOW_FAIL || !pile_take(vm, &vm->out, begin, out))
        return FLOW_FAIL;
    return flow;
}

/* ---- statements ----------------------------------------------------------------------------------------------------- */

static enum flow run_if(struct vm *vm, struct env *env, const struct node *n)
{
    for (;; n = n->c) {
        struct value test;
        bool truth;
        vm->line = n->line;
        if (!jinja_eval(vm, env, n->a, &test) || !jinja_truth(vm, test, &truth))
            return FLOW_FAIL;
        if (truth)
            return jinja_execute(vm, env, &n->body);
        if (!n->c)
            return jinja_execute(vm, env, &n->orelse);
    }
}

static enum flow run_set(struct vm *vm, struct env *env, const struct node *n)
{
    struct value v;
    bool ok = check_references(vm, env, n->a) && jinja_eval(vm, env, n->b, &v) && jinja_assign(vm, env, n->a, v) &&
              (!n->flag || export_target(vm, env, n->a));
    return ok ? FLOW_NEXT : FLOW_FAIL;
}

static enum flow run_set_block(struct vm *vm, struct env *env, const struct node *n)
{
    struct value v;
    struct env *inner = jinja_enter(vm, env, n->scope, NULL);
    enum flow flow = inner ? capture(vm, inner, &n->body, &v) : FLOW_FAIL;
    if (flow != FLOW_NEXT)
        return flow;
    v.safe = vm->autoescape;
    if (n->b && !jinja_eval_filter(vm, inner, n->b, v, &v))
        return FLOW_FAIL;
    if (vm->autoescape && v.kind == K_STRING)
        v.safe = true;
    return check_references(vm, env, n->a) && jinja_assign(vm, env, n->a, v) && (!n->flag || export_target(vm, env, n->a)) ? FLOW_NEXT
                                                                                                                     : FLOW_FAIL;
}

static enum flow run_filter_block(struct vm *vm, struct env *env, const struct node *n)
{
    struct value v;
    struct env *inner = jinja_enter(vm, env, n->scope, NULL);
    enum flow flow = inner ? capture(vm, inner, &n->body, &v) : FLOW_FAIL;
    if (flow != FLOW_NEXT)
        return flow;
    v.safe = vm->autoescape;
    return jinja_eval_filter(vm, inner, n->b, v, &v) && jinja_print(vm, &vm->out, v) ? FLOW_NEXT : FLOW_FAIL;
}

static enum flow run_with(struct vm *vm, struct env *env, const struct node *n)
{
    struct env *inner = jinja_enter(vm, env, n->scope, NULL);
    for (uint32_t i = 0; i < n->items.count; i += 2) {
        struct value v;
        if (!inner || !jinja_eval(vm, env, n->items.items[i + 1], &v) || !jinja_assign(vm, inner, n->items.items[i], v))
            return FLOW_FAIL;
    }
    return inner ? jinja_execute(vm, inner, &n->body) : FLOW_FAIL;
}

static enum flow run_autoescape(struct vm *vm, struct env *env, const struct node *n)
{
    struct env *inner = jinja_enter(vm, env, n->scope, NULL);
    struct value v;
    bool before = vm->autoescape;
    if (!inner || !jinja_eval(vm, inner, n->a, &v) || !jinja_truth(vm, v, &vm->autoescape))
        return FLOW_FAIL;
    enum flow flow = jinja_execute(vm, inner, &n->body);
    vm->autoescape = before;
    return flow;
}

static bool new_macro(struct vm *vm, struct env *env, const struct node *n, struct value *out)
{
    struct macro *m = jinja_alloc(vm, 1, sizeof *m);
    if (!m)
        return false;
    *m = (struct macro){.node = n, .env = env};
    *out = (struct value){.kind = K_MACRO, .macro = m};
    return true;
}

static enum flow run_macro(struct vm *vm, struct env *env, const struct node *n)
{
    struct value v;
    if (!new_macro(vm, env, n, &v))
        return FLOW_FAIL;
    *slot_of(env, n) = v;
    return !n->flag || export_name(vm, n->text, v) ? FLOW_NEXT : FLOW_FAIL;
}

/* {% call %}: the body becomes `caller` of what is called; {% generation %} has no call and just renders its body. */
static enum flow run_call_block(struct vm *vm, struct env *env, const struct node *n)
{
    struct value body, callee, result;
    struct args args = {0};
    if (!new_macro(vm, env, n, &body))
        return FLOW_FAIL;
    callee = body;
    if (n->a && (!jinja_eval(vm, env, n->a->a, &callee) || !jinja_eval_args(vm, env, n->a->args, body, &args)))
        return FLOW_FAIL;
    vm->line = n->line;
    if (!jinja_call(vm, callee, &args, &result))
        return FLOW_FAIL;
    return jinja_print(vm, &vm->out, result) ? FLOW_NEXT : FLOW_FAIL;
}

/* What a scoped block sees: what is set around it counts as set at the top. */
static struct dict *scoped_exports(struct vm *vm, struct env *env, const struct node *n)
{
    const struct dict *outer = env->exported;
    struct dict *d = dict_new(vm, 0);
    for (uint32_t i = 0; d && outer && i < outer->count; i++)
        if (!dict_set(vm, d, outer->entries[i].key, outer->entries[i].value))
            return NULL;
    for (uint32_t i = 0; d && i < n->items.count; i++) {
        struct value v = *slot_of(env, n->items.items[i]);
        if (v.kind != K_MISSING && !dict_set(vm, d, TEXT_VALUE(n->items.items[i]->text), v))
            return NULL;
    }
    return d;
}

bool jinja_run_block(struct vm *vm, struct env *env, const struct node *n)
{
    struct dict *root = vm->exported;
    if (!jinja_deep(vm) || ++vm->depth > vm->limits.depth)
        return jinja_fail(vm, "blocks nested more than %d deep", vm->limits.depth);
    if (env && !(vm->exported = n->flag ? scoped_exports(vm, env, n) : env->exported))
        return false;
    struct env *inner = jinja_enter(vm, NULL, n->scope, NULL);
    vm->exported = root;
    for (uint32_t i = 0; inner && i < n->scope->count; i++)
        if (n->scope->slots[i].load == LOAD_PARAMETER && text_is(n->scope->slots[i].name, "self"))
            inner->slots[i] = (struct value){.kind = K_SELF};
    bool ok = inner && jinja_execute(vm, inner, &n->body) != FLOW_FAIL;
    vm->depth--;
    return ok;
}

static enum flow run_statement(struct vm *vm, struct env *env, const struct node *n)
{
    switch (n->kind) {
    case N_OUTPUT:
        return output(vm, env, n) ? FLOW_NEXT : FLOW_FAIL;
    case N_IF:
        return run_if(vm, env, n);
    case N_FOR:
        return loop_run(vm, env, n);
    case N_SET:
        return run_set(vm, env, n);
    case N_SET_BLOCK:
        return run_set_block(vm, env, n);
    case N_MACRO:
        return run_macro(vm, env, n);
    case N_CALL_BLOCK:
        return run_call_block(vm, env, n);
    case N_FILTER_BLOCK:
        return run_filter_block(vm, env, n);
    case N_WITH:
        return run_with(vm, env, n);
    case N_AUTOESCAPE:
        return run_autoescape(vm, env, n);
    case N_BLOCK:
        return jinja_run_block(vm, env, n) ? FLOW_NEXT : FLOW_FAIL;
    case N_BREAK:
        return FLOW_BREAK;
    case N_CONTINUE:
        return FLOW_CONTINUE;
    default:
        jinja_fail(vm, "'%s' needs other templates, and a chat template has none", n->text ? QUOTE(n->text->data, n->text->size) : "block");
        return FLOW_FAIL;
    }
}

enum flow jinja_execute(struct vm *vm, struct env *env, const struct nodes *body)
{
    if (!jinja_deep(vm))
        return FLOW_FAIL;
    for (uint32_t i = 0; i < body->count; i++) {
        const struct node *n = body->items[i];
        vm->line = n->line;
        if (!jinja_step(vm))
            return FLOW_FAIL;
        enum flow flow = run_statement(vm, env, n);
        if (flow != FLOW_NEXT)
            return flow;
    }
    return FLOW_NEXT;
}
