/* Expressions. */
#include "tokenizers/chat/chat.h"

#include <string.h>

/* ---- calls ---------------------------------------------------------------------------------------------------------- */

static bool add_keyword(struct vm *vm, struct keyword *named, uint32_t *count, const struct text *name, struct value v)
{
    for (uint32_t i = 0; i < *count; i++)
        if (text_equal(named[i].name, name))
            return jinja_fail(vm, "got multiple values for keyword argument '%s'", QUOTE(name->data, name->size));
    named[(*count)++] = (struct keyword){.name = name, .value = v};
    return jinja_work(vm, *count * 16);
}

/* Values of a list of expressions; NULL after failing (an empty list has room for none). */
static struct value *eval_list(struct vm *vm, struct env *env, const struct nodes *list)
{
    struct value *items = jinja_alloc(vm, list->count, sizeof *items);
    for (uint32_t i = 0; items && i < list->count; i++)
        if (!jinja_eval(vm, env, list->items[i], &items[i]))
            return NULL;
    return items;
}

/* *args: its items behind those that are there. */
static bool eval_star(struct vm *vm, struct env *env, const struct node *star, struct args *out)
{
    struct value v, *more;
    uint32_t count;
    if (!jinja_eval(vm, env, star, &v) || !iter_collect(vm, v, &more, &count))
        return false;
    struct value *all = jinja_alloc(vm, (size_t)out->count + count, sizeof *all);
    if (!all)
        return false;
    if (out->count)
        memcpy(all, out->items, out->count * sizeof *all);
    if (count)
        memcpy(all + out->count, more, count * sizeof *all);
    out->items = all;
    out->count += count;
    return true;
}

static bool eval_stars(struct vm *vm, struct env *env, const struct node *stars, struct value *out)
{
    if (!jinja_eval(vm, env, stars, out))
        return false;
    if (out->kind == K_UNDEFINED)
        return jinja_fail_undefined(vm, *out);
    return out->kind == K_DICT || jinja_fail(vm, "argument after ** must be a mapping, not %s", jinja_type(out));
}

static bool eval_keywords(struct vm *vm, struct env *env, const struct call_args *args, struct value caller, struct args *out)
{
    static const struct text caller_name = {.data = "caller", .size = 6, .count = 6, .own = true};
    struct value stars = MISSING_VALUE, *values = args ? eval_list(vm, env, &args->named) : NULL;
    if ((args && !values) || (args && args->star && !eval_star(vm, env, args->star, out)) ||
        (args && args->stars && !eval_stars(vm, env, args->stars, &stars)))
        return false;
    uint32_t room = (args ? args->named.count : 0) + (caller.kind != K_MISSING) + (stars.kind == K_DICT ? stars.dict->count : 0);
    struct keyword *named = jinja_alloc(vm, room, sizeof *named);
    if (!named)
        return false;
    for (uint32_t i = 0; args && i < args->named.count; i++)
        if (!add_keyword(vm, named, &out->named_count, args->names[i], values[i]))
            return false;
    if (caller.kind != K_MISSING && !add_keyword(vm, named, &out->named_count, &caller_name, caller))
        return false;
    for (uint32_t i = 0; stars.kind == K_DICT && i < stars.dict->count; i++) {
        const struct entry *e = &stars.dict->entries[i];
        if (e->key.kind != K_STRING)
            return jinja_fail(vm, "keywords must be strings");
        if (!add_keyword(vm, named, &out->named_count, e->key.text, e->value))
            return false;
    }
    out->named = named;
    return true;
}

/* Positional ones, keywords, *args, **kwargs: in the order Python computes them. caller: K_MISSING or what a call block adds. */
bool jinja_eval_args(struct vm *vm, struct env *env, const struct call_args *args, struct value caller, struct args *out)
{
    *out = (struct args){0};
    if (args && args->items.count) {
        if (!(out->items = eval_list(vm, env, &args->items)))
            return false;
        out->count = args->items.count;
    }
    bool more = (args && (args->named.count || args->star || args->stars)) || caller.kind != K_MISSING;
    return !more || eval_keywords(vm, env, args, caller, out);
}

static bool call_block(struct vm *vm, const struct node *block, struct value *out)
{
    size_t begin = vm->out.size;
    if (!jinja_run_block(vm, NULL, block) || !pile_take(vm, &vm->out, begin, out))
        return false;
    out->safe = vm->autoescape;
    return true;
}

static bool call_any(struct vm *vm, struct value callee, const struct args *args, struct value *out)
{
    switch (callee.kind) {
    case K_MACRO:
        return macro_call(vm, callee.macro, args, out);
    case K_METHOD:
        return callee.bound->method->call(vm, callee.bound->self, args, out);
    case K_FUNCTION:
        return callee.function->call(vm, callee, args, out);
    case K_LOOP:
        return loop_recurse(vm, callee.loop, args, out);
    case K_JOINER:
        if (args->count || args->named_count)
            return jinja_fail(vm, "a joiner takes no arguments");
        *out = callee.joiner->used ? callee.joiner->separator : TEXT_VALUE(&text_empty);
        callee.joiner->used = true;
        return true;
    case K_BLOCK:
        return call_block(vm, callee.block, out);
    case K_UNDEFINED:
        return jinja_fail_undefined(vm, callee);
    default:
        return jinja_fail(vm, "'%s' object is not callable", jinja_type(&callee));
    }
}

bool jinja_call(struct vm *vm, struct value callee, const struct args *args, struct value *out)
{
    if (!jinja_step(vm) || !jinja_deep(vm))
        return false;
    if (++vm->depth > vm->limits.depth)
        return jinja_fail(vm, "calls nested more than %d deep", vm->limits.depth);
    bool ok = call_any(vm, callee, args, out);
    vm->depth--;
    return ok;
}

static bool eval_call(struct vm *vm, struct env *env, const struct node *n, struct value *out)
{
    struct value callee;
    struct args args;
    if (!jinja_eval(vm, env, n->a, &callee))
        return false;
    if (callee.kind == K_UNDEFINED) /* before the arguments, as their errors would hide the cause */
        return vm->line = n->line, jinja_fail_undefined(vm, callee);
    if (!jinja_eval_args(vm, env, n->args, MISSING_VALUE, &args))
        return false;
    vm->line = n->line;
    return jinja_call(vm, callee, &args, out);
}

/* ---- filters and tests ---------------------------------------------------------------------------------------------- */

bool jinja_eval_filter(struct vm *vm, struct env *env, const struct node *n, struct value buffer, struct value *out)
{
    struct value self;
    struct args args;
    if (n->kind == N_BUFFER) {
        *out = buffer;
        return true;
    }
    if (n->kind != N_FILTER)
        return jinja_eval(vm, env, n, out);
    if (!n->function)
        return vm->line = n->line, jinja_fail(vm, "no filter named '%s'", QUOTE(n->text->data, n->text->size));
    if (!jinja_deep(vm) || !jinja_eval_filter(vm, env, n->a, buffer, &self) || !jinja_eval_args(vm, env, n->args, MISSING_VALUE, &args))
        return false;
    vm->line = n->line;
    return jinja_step(vm) && n->function(vm, self, &args, out);
}

static bool eval_test(struct vm *vm, struct env *env, const struct node *n, struct value *out)
{
    struct value self;
    struct args args;
    if (!n->function)
        return vm->line = n->line, jinja_fail(vm, "no test named '%s'", QUOTE(n->text->data, n->text->size));
    if (!jinja_eval(vm, env, n->a, &self) || !jinja_eval_args(vm, env, n->args, MISSING_VALUE, &args))
        return false;
    vm->line = n->line;
    return n->function(vm, self, &args, out);
}

/* ---- the rest ------------------------------------------------------------------------------------------------------- */

static bool eval_name(struct vm *vm, const struct env *env, const struct node *n, struct value *out)
{
    for (uint16_t up = n->up; up; up--)
        env = env->parent;
    *out = env->slots[n->slot];
    return out->kind != K_MISSING || jinja_undefined(vm, n->text, K_MISSING, out);
}

static bool eval_items(struct vm *vm, struct env *env, const struct node *n, struct value *out)
{
    struct value *items = jinja_alloc(vm, n->items.count, sizeof *items);
    for (uint32_t i = 0; items && i < n->items.count; i++)
        if (!jinja_eval(vm, env, n->items.items[i], &items[i]))
            return false;
    return items && list_new(vm, n->kind == N_LIST ? K_LIST : K_TUPLE, items, n->items.count, out);
}

static bool eval_dict(struct vm *vm, struct env *env, const struct node *n, struct value *out)
{
    struct dict *d = dict_new(vm, n->items.count / 2);
    for (uint32_t i = 0; d && i < n->items.count; i += 2) {
        struct value key, value;
        if (!jinja_eval(vm, env, n->items.items[i], &key) || !jinja_eval(vm, env, n->items.items[i + 1], &value) ||
            !dict_set(vm, d, key, value))
            return false;
    }
    *out = (struct value){.kind = K_DICT, .dict = d};
    return d != NULL;
}

static bool eval_part(struct vm *vm, struct env *env, const struct node *n, struct value *out)
{
    *out = NONE_VALUE;
    return !n || jinja_eval(vm, env, n, out);
}

static bool eval_getitem(struct vm *vm, struct env *env, const struct node *n, struct value *out)
{
    struct value v, key, parts[3];
    if (!jinja_eval(vm, env, n->a, &v))
        return false;
    if (n->b->kind == N_SLICE) {
        if (!eval_part(vm, env, n->b->a, &parts[0]) || !eval_part(vm, env, n->b->b, &parts[1]) || !eval_part(vm, env, n->b->c, &parts[2]))
            return false;
        vm->line = n->line;
        return jinja_slice(vm, v, parts[0], parts[1], parts[2], out);
    }
    if (!jinja_eval(vm, env, n->b, &key))
        return false;
    vm->line = n->line;
    return jinja_getitem(vm, v, key, out);
}

static bool eval_concat(struct vm *vm, struct env *env, const struct node *n, struct value *out)
{
    size_t begin = build_begin(vm);
    bool markup = n->op == ESCAPE_YES || (n->op == ESCAPE_ASK && vm->autoescape);
    struct value *parts = jinja_alloc(vm, n->items.count, sizeof *parts);
    bool safe = false;
    for (uint32_t i = 0; i < n->items.count; i++) {
        if (!parts || !jinja_eval(vm, env, n->items.items[i], &parts[i]))
            return false;
        safe |= markup && parts[i].kind == K_STRING && parts[i].safe; /* markup_join: one safe part escapes the others */
    }
    for (uint32_t i = 0; i < n->items.count; i++)
        if ((safe && !jinja_escape(vm, parts[i], &parts[i])) || !jinja_print(vm, &vm->scratch, parts[i]))
            return false;
    if (!build_end(vm, begin, out))
        return false;
    out->safe = safe;
    return true;
}

static bool eval_compare(struct vm *vm, struct env *env, const struct node *n, struct value *out)
{
    struct value left, right;
    bool result = true;
    if (!jinja_eval(vm, env, n->a, &left))
        return false;
    for (uint32_t i = 0; result && i < n->items.count; i++) {
        if (!jinja_eval(vm, env, n->items.items[i], &right))
            return false;
        vm->line = n->line;
        if (!jinja_compare(vm, n->ops[i], left, right, &result))
            return false;
        left = right;
    }
    *out = BOOL_VALUE(result);
    return true;
}

static bool eval_unary(struct vm *vm, struct env *env, const struct node *n, struct value *out)
{
    struct value v;
    if (!jinja_eval(vm, env, n->a, &v))
        return false;
    vm->line = n->line;
    if (!is_number(&v))
        return v.kind == K_UNDEFINED ? jinja_fail_undefined(vm, v)
                                     : jinja_fail(vm, "bad operand type for unary %c: '%s'", n->kind == N_NEG ? '-' : '+', jinja_type(&v));
    *out = v = as_integer(v);
    if (n->kind == N_POS)
        return true;
    if (v.kind == K_FLOAT)
        *out = FLOAT_VALUE(-v.real);
    else if (v.kind == K_BIG)
        return big_negate(vm, v.big, out);
    else
        return big_binary(vm, OP_SUB, INT_VALUE(0), v, out);
    return true;
}

static bool eval_logic(struct vm *vm, struct env *env, const struct node *n, struct value *out)
{
    bool truth;
    if (!jinja_eval(vm, env, n->a, out) || !jinja_truth(vm, *out, &truth))
        return false;
    return truth == (n->kind == N_OR) || jinja_eval(vm, env, n->b, out);
}

static bool eval_condition(struct vm *vm, struct env *env, const struct node *n, struct value *out)
{
    struct value test;
    bool truth;
    if (!jinja_eval(vm, env, n->a, &test) || !jinja_truth(vm, test, &truth))
        return false;
    if (truth)
        return jinja_eval(vm, env, n->b, out);
    if (n->c)
        return jinja_eval(vm, env, n->c, out);
    return jinja_undefined_hint(vm, "an inline if without else evaluated to false", out);
}

/* a + b + c of strings is put together at once: joined step by step a long message would be copied each time. */
static bool eval_sum(struct vm *vm, struct env *env, const struct node *n, struct value *out)
{
    const struct node *chain[TREE_DEPTH + 1];
    struct value parts[16];
    uint32_t count = 0;
    const struct node *first = n;
    for (; first->kind == N_BINARY && first->op == OP_ADD; first = first->a)
        chain[count++] = first;
    if (count < 2 || count >= sizeof parts / sizeof *parts) {
        struct value a, b;
        if (!jinja_eval(vm, env, n->a, &a) || !jinja_eval(vm, env, n->b, &b))
            return false;
        vm->line = n->line;
        return jinja_binary(vm, OP_ADD, a, b, out);
    }
    if (!jinja_eval(vm, env, first, &parts[0]))
        return false;
    bool plain = parts[0].kind == K_STRING && !parts[0].safe;
    for (uint32_t i = 1; i <= count; i++) {
        if (!jinja_eval(vm, env, chain[count - i]->b, &parts[i]))
            return false;
        plain = plain && parts[i].kind == K_STRING && !parts[i].safe;
        if (!plain) { /* another type: fold what there is, then go on by pairs */
            vm->line = n->line;
            for (uint32_t j = 1; j <= i; j++)
                if (!jinja_binary(vm, OP_ADD, parts[0], parts[j], &parts[0]))
                    return false;
            for (uint32_t j = i + 1; j <= count; j++)
                if (!jinja_eval(vm, env, chain[count - j]->b, &parts[1]) || !jinja_binary(vm, OP_ADD, parts[0], parts[1], &parts[0]))
                    return false;
            *out = parts[0];
            return true;
        }
    }
    size_t begin = build_begin(vm);
    for (uint32_t i = 0; i <= count; i++)
        if (!pile_add_text(vm, &vm->scratch, parts[i].text))
            return false;
    return build_end(vm, begin, out);
}

static bool eval_binary(struct vm *vm, struct env *env, const struct node *n, struct value *out)
{
    struct value a, b;
    if (n->op == OP_ADD)
        return eval_sum(vm, env, n, out);
    if (!jinja_eval(vm, env, n->a, &a) || !jinja_eval(vm, env, n->b, &b))
        return false;
    vm->line = n->line;
    if (n->op == OP_POW && n->flag && is_number(&a) && number_compare(a, INT_VALUE(0)) == -1) {
        struct value positive, power;
        return number_binary(vm, OP_SUB, INT_VALUE(0), a, &positive) && jinja_binary(vm, OP_POW, positive, b, &power) &&
               number_binary(vm, OP_SUB, INT_VALUE(0), power, out);
    }
    return jinja_binary(vm, n->op, a, b, out);
}

bool jinja_eval(struct vm *vm, struct env *env, const struct node *n, struct value *out)
{
    if (!jinja_step(vm) || !jinja_deep(vm))
        return false;
    struct value v;
    bool truth;
    switch (n->kind) {
    case N_CONST:
        *out = n->value;
        return true;
    case N_NAME:
        return eval_name(vm, env, n, out);
    case N_TUPLE:
    case N_LIST:
        return eval_items(vm, env, n, out);
    case N_DICT:
        return eval_dict(vm, env, n, out);
    case N_GETATTR:
        if (!jinja_eval(vm, env, n->a, &v))
            return false;
        vm->line = n->line;
        return jinja_getattr(vm, v, n->text, out);
    case N_GETITEM:
        return eval_getitem(vm, env, n, out);
    case N_CALL:
        return eval_call(vm, env, n, out);
    case N_FILTER:
        return jinja_eval_filter(vm, env, n, MISSING_VALUE, out);
    case N_TEST:
        return eval_test(vm, env, n, out);
    case N_NOT:
        if (!jinja_eval(vm, env, n->a, &v) || !jinja_truth(vm, v, &truth))
            return false;
        *out = BOOL_VALUE(!truth);
        return true;
    case N_NEG:
    case N_POS:
        return eval_unary(vm, env, n, out);
    case N_AND:
    case N_OR:
        return eval_logic(vm, env, n, out);
    case N_BINARY:
        return eval_binary(vm, env, n, out);
    case N_CONCAT:
        return eval_concat(vm, env, n, out);
    case N_COMPARE:
        return eval_compare(vm, env, n, out);
    case N_COND:
        return eval_condition(vm, env, n, out);
    default:
        vm->line = n->line;
        return jinja_fail(vm, "a slice cannot stand here");
    }
}
