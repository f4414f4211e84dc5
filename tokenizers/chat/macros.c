/* Calling macros and the bodies of call blocks. */
#include "tokenizers/chat/chat.h"

#include <string.h>

/* A keyword by name, taken out of the list. */
static bool take(struct keyword *named, uint32_t *count, const struct text *name, struct value *out)
{
    for (uint32_t i = 0; i < *count; i++)
        if (text_equal(named[i].name, name)) {
            *out = named[i].value;
            memmove(named + i, named + i + 1, (*count - i - 1) * sizeof *named);
            --*count;
            return true;
        }
    return false;
}

static bool take_caller(struct vm *vm, struct keyword *named, uint32_t *count, struct value *out)
{
    static const struct text caller = {.data = "caller", .size = 6, .count = 6, .own = true};
    if (take(named, count, &caller, out) && out->kind != K_NONE)
        return true;
    return jinja_undefined_hint(vm, "no caller defined", out);
}

static bool keywords_dict(struct vm *vm, const struct keyword *named, uint32_t count, struct value *out)
{
    struct dict *d = dict_new(vm, count);
    for (uint32_t i = 0; d && i < count; i++)
        if (!dict_set(vm, d, TEXT_VALUE(named[i].name), named[i].value))
            return false;
    *out = (struct value){.kind = K_DICT, .dict = d};
    return d != NULL;
}

/* What no parameter takes: kwargs and varargs, if the body reads them, else an error. */
static bool take_rest(struct vm *vm, const struct macro *m, struct env *env, const struct args *args, struct keyword *named, uint32_t named_count)
{
    const struct signature *s = m->node->signature;
    uint32_t parameters = s->parameters.count;
    const struct text *name = m->node->text ? m->node->text : &text_empty;
    if (s->kwargs >= 0) {
        if (!keywords_dict(vm, named, named_count, &env->slots[s->kwargs]))
            return false;
    } else if (named_count) {
        return jinja_fail(vm, "macro '%s' takes no keyword argument '%s'", QUOTE(name->data, name->size),
                          QUOTE(named[0].name->data, named[0].name->size));
    }
    uint32_t surplus = args->count > parameters ? args->count - parameters : 0;
    if (s->varargs >= 0)
        return list_new(vm, K_TUPLE, args->items + (surplus ? parameters : 0), surplus, &env->slots[s->varargs]);
    return !surplus || jinja_fail(vm, "macro '%s' takes not more than %u argument(s)", QUOTE(name->data, name->size), parameters);
}

static bool fill_defaults(struct vm *vm, const struct signature *s, struct env *env)
{
    uint32_t required = s->parameters.count - s->defaults.count;
    for (uint32_t i = 0; i < s->parameters.count; i++) {
        struct value *slot = &env->slots[s->parameters.items[i]->slot];
        if (slot->kind != K_MISSING)
            continue;
        const struct text *name = s->parameters.items[i]->text;
        if (i >= required ? !jinja_eval(vm, env, s->defaults.items[i - required], slot) : !jinja_undefined(vm, name, K_MISSING, slot))
            return false;
    }
    return true;
}

bool macro_call(struct vm *vm, const struct macro *m, const struct args *args, struct value *out)
{
    const struct signature *s = m->node->signature;
    struct env *env = jinja_enter(vm, m->env, m->node->scope, NULL);
    struct keyword *named = NULL;
    uint32_t named_count = args->named_count;
    if (!env || (named_count && !(named = jinja_alloc(vm, named_count, sizeof *named))))
        return false;
    if (named_count)
        memcpy(named, args->named, named_count * sizeof *named);
    for (uint32_t i = 0; i < s->parameters.count; i++) {
        const struct node *p = s->parameters.items[i];
        if (i < args->count)
            env->slots[p->slot] = args->items[i];
        else
            take(named, &named_count, p->text, &env->slots[p->slot]);
    }
    if ((s->caller >= 0 && !take_caller(vm, named, &named_count, &env->slots[s->caller])) ||
        !take_rest(vm, m, env, args, named, named_count) || !fill_defaults(vm, s, env))
        return false;
    size_t begin = vm->out.size;
    if (jinja_execute(vm, env, &m->node->body) == FLOW_FAIL || !pile_take(vm, &vm->out, begin, out))
        return false;
    out->safe = vm->autoescape;
    return true;
}
