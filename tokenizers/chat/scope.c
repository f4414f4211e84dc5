/* Names -> slots, by the rules of jinja2's idtracking: each scope decides for each of its names, from the order of reading
 * and setting in its text, whether it starts as a variable of the context, of an outer scope, or undefined. Also here,
 * because they need the same walk: unknown filters, misplaced break, and which macros use caller, kwargs and varargs. */
#include "tokenizers/chat/chat.h"

#include <stdlib.h>
#include <string.h>

struct symbol {
    struct slot slot;
    bool stored;
};

struct symbols {
    struct symbols *parent;
    struct symbol *items;
    uint32_t count, capacity;
};

/* What holds for a statement because of what is around it. */
struct frame {
    struct symbols *symbols;
    bool soft, toplevel, in_loop;
    uint8_t escape; /* enum escaping */
};

struct resolver {
    struct compiler *c;
    struct arena arena; /* of symbols: gone after compiling */
    uint64_t work;
};

enum { MOST_WORK = 10000000 };

static bool resolve(struct resolver *r, struct node *n, struct frame frame);
static bool visit(struct resolver *r, struct symbols *s, const struct node *n, bool parameters);

static bool no_memory(struct resolver *r) { return compile_fail(r->c, 1, "out of memory or too complex"); }

/* ---- symbols -------------------------------------------------------------------------------------------------------- */

static struct symbol *own(const struct symbols *s, const struct text *name)
{
    for (uint32_t i = 0; i < s->count; i++)
        if (text_equal(s->items[i].slot.name, name))
            return &s->items[i];
    return NULL;
}

/* Where a name is found from s outward. */
static bool find(const struct symbols *s, const struct text *name, uint16_t *up, uint16_t *index)
{
    for (*up = 0; s; s = s->parent, (*up)++) {
        const struct symbol *symbol = own(s, name);
        if (symbol) {
            *index = (uint16_t)(symbol - s->items);
            return true;
        }
    }
    return false;
}

/* Names are looked for one after the other: a text with too many of them is refused before that takes long. */
static bool spend(struct resolver *r, const struct symbols *s)
{
    for (; s; s = s->parent)
        r->work += s->count + 1;
    return r->work <= MOST_WORK || compile_fail(r->c, 1, "the template has too many variables");
}

static struct symbol *define(struct resolver *r, struct symbols *s, const struct text *name)
{
    struct symbol *symbol = own(s, name);
    if (!spend(r, s))
        return NULL;
    if (symbol)
        return symbol;
    if (s->count == s->capacity) {
        uint32_t capacity = s->capacity ? s->capacity * 2 : 8;
        struct symbol *items = arena_array(&r->arena, capacity, sizeof *items);
        if (!items || capacity > UINT16_MAX) {
            no_memory(r);
            return NULL;
        }
        if (s->count)
            memcpy(items, s->items, s->count * sizeof *items);
        s->items = items;
        s->capacity = capacity;
    }
    symbol = &s->items[s->count++];
    *symbol = (struct symbol){.slot.name = name};
    return symbol;
}

static bool declare(struct resolver *r, struct symbols *s, const struct text *name)
{
    struct symbol *symbol = define(r, s, name);
    if (!symbol)
        return false;
    symbol->slot.load = LOAD_PARAMETER;
    symbol->stored = true;
    return true;
}

static bool load(struct resolver *r, struct symbols *s, const struct text *name)
{
    uint16_t up, index;
    if (!spend(r, s))
        return false;
    if (find(s, name, &up, &index))
        return true;
    struct symbol *symbol = define(r, s, name);
    if (symbol)
        symbol->slot.load = LOAD_RESOLVE;
    return symbol != NULL;
}

static void alias_or(struct symbols *s, struct symbol *symbol, enum load otherwise)
{
    struct slot *slot = &symbol->slot;
    slot->load = s->parent && find(s->parent, slot->name, &slot->up, &slot->index) ? LOAD_ALIAS : (uint8_t)otherwise;
}

static bool store(struct resolver *r, struct symbols *s, const struct text *name)
{
    struct symbol *symbol = own(s, name);
    if (!symbol) {
        if (!(symbol = define(r, s, name)))
            return false;
        alias_or(s, symbol, LOAD_UNDEFINED);
    }
    symbol->stored = true;
    return true;
}

static bool copy_symbols(struct resolver *r, const struct symbols *s, struct symbols *out)
{
    *out = *s;
    r->work += s->count;
    out->items = arena_array(&r->arena, s->capacity + 1, sizeof *out->items);
    if (!out->items || r->work > MOST_WORK)
        return no_memory(r);
    if (s->count)
        memcpy(out->items, s->items, s->count * sizeof *s->items);
    return true;
}

/* After an if: what any branch set is set here, and starts as it was outside. */
static bool merge_branches(struct resolver *r, struct symbols *s, struct symbols *branches, int count)
{
    uint32_t before = s->count;
    bool *was_stored = arena_array(&r->arena, before + 1, sizeof *was_stored);
    if (!was_stored)
        return no_memory(r);
    for (uint32_t i = 0; i < before; i++)
        was_stored[i] = s->items[i].stored;
    for (int b = 0; b < count; b++)
        for (uint32_t i = 0; i < branches[b].count; i++) {
            const struct symbol *from = &branches[b].items[i];
            struct symbol *to = i < before ? &s->items[i] : define(r, s, from->slot.name); /* a copy begins with what it copied */
            if (!to)
                return false;
            bool stored = to->stored || from->stored;
            *to = *from;
            to->stored = stored;
        }
    for (uint32_t i = 0; i < s->count; i++)
        if (s->items[i].stored && !(i < before && was_stored[i]))
            alias_or(s, &s->items[i], LOAD_RESOLVE);
    return true;
}

/* ---- analysing one scope's text ------------------------------------------------------------------------------------- */

static bool visit_list(struct resolver *r, struct symbols *s, const struct nodes *list)
{
    for (uint32_t i = 0; i < list->count; i++)
        if (!visit(r, s, list->items[i], false))
            return false;
    return true;
}

static bool visit_args(struct resolver *r, struct symbols *s, const struct call_args *args)
{
    return !args || (visit_list(r, s, &args->items) && visit_list(r, s, &args->named) && (!args->star || visit(r, s, args->star, false)) &&
                     (!args->stars || visit(r, s, args->stars, false)));
}

static bool visit_if(struct resolver *r, struct symbols *s, const struct node *n)
{
    struct symbols branches[3];
    const struct node *last = n;
    if (!visit(r, s, n->a, false) || !copy_symbols(r, s, &branches[0]) || !visit_list(r, &branches[0], &n->body) ||
        !copy_symbols(r, s, &branches[1]))
        return false;
    for (const struct node *e = n->c; e; e = e->c) {
        struct symbols body;
        if (!visit(r, &branches[1], e->a, false) || !copy_symbols(r, &branches[1], &body) || !visit_list(r, &body, &e->body) ||
            !merge_branches(r, &branches[1], &body, 1))
            return false;
        last = e;
    }
    return copy_symbols(r, s, &branches[2]) && visit_list(r, &branches[2], &last->orelse) && merge_branches(r, s, branches, 3);
}

/* Notes what n reads and sets in the scope around it; scopes of their own inside are left for later.
 * parameters: names that are set belong to the scope itself (targets of for and with). */
static bool visit(struct resolver *r, struct symbols *s, const struct node *n, bool parameters)
{
    if (!n)
        return true;
    switch (n->kind) {
    case N_NAME:
        return n->flag ? (parameters ? declare(r, s, n->text) : store(r, s, n->text)) : load(r, s, n->text);
    case N_NSREF:
        return load(r, s, n->text);
    case N_IF:
        return visit_if(r, s, n);
    case N_MACRO:
        return store(r, s, n->text);
    case N_SET:
        return visit(r, s, n->b, false) && visit(r, s, n->a, false);
    case N_SET_BLOCK:
        return visit(r, s, n->a, false);
    case N_FOR:
    case N_FILTER_BLOCK:
        return visit(r, s, n->b, false);
    case N_CALL_BLOCK:
        return visit(r, s, n->a, false);
    case N_WITH:
        for (uint32_t i = 1; i < n->items.count; i += 2)
            if (!visit(r, s, n->items.items[i], false))
                return false;
        return true;
    case N_BLOCK:
    case N_AUTOESCAPE:
        return true;
    default:
        for (uint32_t i = 0; i < n->items.count; i++)
            if (!visit(r, s, n->items.items[i], parameters))
                return false;
        return visit(r, s, n->a, false) && visit(r, s, n->b, false) && visit(r, s, n->c, false) && visit_args(r, s, n->args);
    }
}

/* ---- giving names their slots --------------------------------------------------------------------------------------- */

static struct frame inner(struct frame frame, struct symbols *s)
{
    *s = (struct symbols){.parent = frame.symbols};
    frame.symbols = s;
    frame.soft = frame.toplevel = false;
    return frame;
}

static bool finish(struct resolver *r, const struct symbols *s, struct scope **out)
{
    struct arena *arena = &r->c->template->arena;
    struct scope *scope = arena_alloc(arena, sizeof *scope);
    if (!scope || !(scope->slots = arena_array(arena, s->count + 1, sizeof *scope->slots)))
        return no_memory(r);
    for (uint32_t i = 0; i < s->count; i++)
        scope->slots[i] = s->items[i].slot;
    scope->count = s->count;
    *out = scope;
    return true;
}

static bool resolve_list(struct resolver *r, const struct nodes *list, struct frame frame)
{
    for (uint32_t i = 0; i < list->count; i++)
        if (!resolve(r, list->items[i], frame))
            return false;
    return true;
}

static bool resolve_name(struct resolver *r, struct node *n, const struct symbols *s)
{
    if (!spend(r, s))
        return false;
    if (find(s, n->text, &n->up, &n->slot))
        return true;
    return compile_fail(r->c, n->line, "'%s' is not known in this place", QUOTE(n->text->data, n->text->size));
}

static bool resolve_args(struct resolver *r, const struct call_args *args, struct frame frame)
{
    return !args || (resolve_list(r, &args->items, frame) && resolve_list(r, &args->named, frame) &&
                     (!args->star || resolve(r, args->star, frame)) && (!args->stars || resolve(r, args->stars, frame)));
}

static bool static_text(struct resolver *r, const char *word, const struct text **out)
{
    struct text *t = arena_alloc(&r->c->template->arena, sizeof *t);
    if (!t)
        return no_memory(r);
    *t = (struct text){.data = word, .size = (uint32_t)strlen(word), .count = (uint32_t)strlen(word), .own = true};
    *out = t;
    return true;
}

static bool declare_word(struct resolver *r, struct symbols *s, const char *word, int *slot)
{
    const struct text *name = NULL;
    if (!static_text(r, word, &name) || !declare(r, s, name))
        return false;
    *slot = (int)(own(s, name) - s->items);
    return true;
}

/* The loop's own if runs in a scope of its own, where the targets have other slots. */
static struct node *copy_target(struct resolver *r, const struct node *target)
{
    struct node *copy = node_new(r->c, target->kind, target->line);
    if (!copy)
        return NULL;
    *copy = *target;
    copy->items = (struct nodes){0};
    for (uint32_t i = 0; i < target->items.count; i++) {
        struct node *item = copy_target(r, target->items.items[i]);
        if (!item || !node_list_add(r->c, &copy->items, item))
            return NULL;
    }
    return copy;
}

static bool resolve_for(struct resolver *r, struct node *n, struct frame frame)
{
    struct symbols body, test, otherwise;
    struct frame body_frame = inner(frame, &body), test_frame = inner(frame, &test), else_frame = inner(frame, &otherwise);
    int slot;
    if (mentions_set_loop(n))
        return compile_fail(r->c, n->line, "can't assign to the special variable loop inside a for");
    n->extended = n->flag || mentions_read(&n->body, "loop") || mentions_scoped_block(&n->body);
    n->op = frame.escape;
    if (n->extended && !declare_word(r, &body, "loop", &slot)) /* slot 0 */
        return false;
    if (!visit(r, &body, n->a, true) || !visit_list(r, &body, &n->body) || !finish(r, &body, &n->scope))
        return false;
    body_frame.in_loop = true;
    if (n->c) {
        if (!visit(r, &test, n->a, true) || !visit(r, &test, n->c, false) || !finish(r, &test, &n->test_scope) ||
            !resolve(r, n->c, test_frame))
            return false;
        struct node *target = copy_target(r, n->a);
        if (!target || !resolve(r, target, test_frame) || !node_list_add(r->c, &n->items, target))
            return false;
    }
    if (n->flag) /* a recursive loop is a function of its own, and else stands behind its loop */
        else_frame.in_loop = false;
    if (n->orelse.count && (!visit_list(r, &otherwise, &n->orelse) || !finish(r, &otherwise, &n->else_scope) ||
                            !resolve_list(r, &n->orelse, else_frame)))
        return false;
    return resolve(r, n->b, frame) && resolve(r, n->a, body_frame) && resolve_list(r, &n->body, body_frame);
}

static bool resolve_macro(struct resolver *r, struct node *n, struct frame frame)
{
    struct signature *s = n->signature;
    struct symbols symbols;
    struct frame macro = inner(frame, &symbols);
    macro.in_loop = false;
    bool named_kwargs = false, named_varargs = false;
    s->caller = s->kwargs = s->varargs = -1;
    for (uint32_t i = 0; i < s->parameters.count; i++) {
        struct node *p = s->parameters.items[i];
        if (!declare(r, &symbols, p->text))
            return false;
        named_kwargs |= text_is(p->text, "kwargs");
        named_varargs |= text_is(p->text, "varargs");
        if (text_is(p->text, "caller")) {
            s->explicit_caller = true;
            if (mentions_read(&n->body, "caller") && i + s->defaults.count < s->parameters.count)
                return compile_fail(r->c, n->line, "the special parameter caller must have a default");
        }
    }
    if (mentions_read(&n->body, "caller") && !s->explicit_caller && !declare_word(r, &symbols, "caller", &s->caller))
        return false;
    if (mentions_read(&n->body, "kwargs") && !named_kwargs && !declare_word(r, &symbols, "kwargs", &s->kwargs))
        return false;
    if (mentions_read(&n->body, "varargs") && !named_varargs && !declare_word(r, &symbols, "varargs", &s->varargs))
        return false;
    if (!visit_list(r, &symbols, &s->defaults) || !visit_list(r, &symbols, &n->body) || !finish(r, &symbols, &n->scope))
        return false;
    for (uint32_t i = 0; i < s->parameters.count; i++)
        if (!resolve_name(r, s->parameters.items[i], &symbols))
            return false;
    if (!resolve_list(r, &s->defaults, macro) || !resolve_list(r, &n->body, macro))
        return false;
    if (n->kind == N_CALL_BLOCK)
        return !n->a || resolve(r, n->a, frame);
    n->flag = frame.toplevel;
    return resolve_name(r, n, frame.symbols);
}

static bool resolve_with(struct resolver *r, struct node *n, struct frame frame)
{
    struct symbols symbols;
    struct frame body = inner(frame, &symbols);
    for (uint32_t i = 0; i < n->items.count; i += 2)
        if (!visit(r, &symbols, n->items.items[i], true))
            return false;
    if (!visit_list(r, &symbols, &n->body) || !finish(r, &symbols, &n->scope))
        return false;
    for (uint32_t i = 0; i < n->items.count; i += 2)
        if (!resolve(r, n->items.items[i], body) || !resolve(r, n->items.items[i + 1], frame))
            return false;
    return resolve_list(r, &n->body, body);
}

static bool resolve_capture(struct resolver *r, struct node *n, struct frame frame)
{
    struct symbols symbols;
    struct frame body = inner(frame, &symbols);
    if (!visit_list(r, &symbols, &n->body) || (n->kind == N_FILTER_BLOCK && !visit(r, &symbols, n->b, false)) ||
        !finish(r, &symbols, &n->scope) || !resolve_list(r, &n->body, body) || (n->b && !resolve(r, n->b, body)))
        return false;
    n->flag = frame.toplevel;
    return !n->a || resolve(r, n->a, frame);
}

static bool resolve_autoescape(struct resolver *r, struct node *n, struct frame frame)
{
    struct symbols symbols;
    struct frame body = inner(frame, &symbols);
    if (!visit(r, &symbols, n->a, false) || !visit_list(r, &symbols, &n->body) || !finish(r, &symbols, &n->scope) ||
        !resolve(r, n->a, body))
        return false;
    body.escape = n->a->kind != N_CONST ? ESCAPE_ASK : n->a->value.kind == K_BOOL && n->a->value.truth ? ESCAPE_YES : ESCAPE_NO;
    return resolve_list(r, &n->body, body);
}

/* {% block %}: runs apart from its surroundings, over the context; a scoped one also sees what was set around it. */
static bool resolve_block(struct resolver *r, struct node *n, struct frame frame)
{
    for (const struct symbols *s = n->flag ? frame.symbols : NULL; s; s = s->parent)
        for (uint32_t i = 0; i < s->count; i++) {
            if (!s->items[i].stored)
                continue;
            struct node *name = node_new(r->c, N_NAME, n->line);
            if (!name || !node_list_add(r->c, &n->items, name))
                return false;
            name->text = s->items[i].slot.name;
            if (!resolve_name(r, name, frame.symbols))
                return false;
        }
    struct symbols symbols = {0};
    struct frame body = {.symbols = &symbols, .escape = frame.escape};
    int slot;
    if ((mentions_read(&n->body, "self") && !declare_word(r, &symbols, "self", &slot)) ||
        (mentions_read(&n->body, "super") && !declare_word(r, &symbols, "super", &slot)))
        return false;
    return visit_list(r, &symbols, &n->body) && finish(r, &symbols, &n->scope) && resolve_list(r, &n->body, body);
}

static bool resolve_if(struct resolver *r, struct node *n, struct frame frame)
{
    frame.soft = true;
    for (struct node *e = n; e; e = e->c)
        if (!resolve(r, e->a, frame) || !resolve_list(r, &e->body, frame) || !resolve_list(r, &e->orelse, frame))
            return false;
    return true;
}

static bool resolve_applied(struct resolver *r, struct node *n, struct frame frame)
{
    if (!n->function && !frame.soft)
        return compile_fail(r->c, n->line, "no %s named '%s'", n->kind == N_FILTER ? "filter" : "test",
                            QUOTE(n->text->data, n->text->size));
    return resolve(r, n->a, frame) && resolve_args(r, n->args, frame);
}

static bool resolve(struct resolver *r, struct node *n, struct frame frame)
{
    switch (n->kind) {
    case N_NAME:
    case N_NSREF:
        return resolve_name(r, n, frame.symbols);
    case N_IF:
        return resolve_if(r, n, frame);
    case N_FOR:
        return resolve_for(r, n, frame);
    case N_MACRO:
    case N_CALL_BLOCK:
        return resolve_macro(r, n, frame);
    case N_WITH:
        return resolve_with(r, n, frame);
    case N_SET_BLOCK:
    case N_FILTER_BLOCK:
        return resolve_capture(r, n, frame);
    case N_AUTOESCAPE:
        return resolve_autoescape(r, n, frame);
    case N_BLOCK:
        return resolve_block(r, n, frame);
    case N_BREAK:
    case N_CONTINUE:
        return frame.in_loop || compile_fail(r->c, n->line, "'%s' outside of a loop", n->kind == N_BREAK ? "break" : "continue");
    case N_FILTER:
    case N_TEST:
        return resolve_applied(r, n, frame);
    case N_COND:
        frame.soft = true;
        break;
    case N_SET:
        n->flag = frame.toplevel;
        break;
    case N_OUTPUT:
    case N_CONCAT:
        n->op = frame.escape;
        break;
    }
    return (!n->a || resolve(r, n->a, frame)) && (!n->b || resolve(r, n->b, frame)) && (!n->c || resolve(r, n->c, frame)) &&
           resolve_list(r, &n->items, frame) && resolve_args(r, n->args, frame);
}

bool compile_scopes(struct compiler *c)
{
    struct resolver r = {.c = c, .arena.limit = 64 << 20};
    struct symbols symbols = {0};
    struct frame root = {.symbols = &symbols, .toplevel = true};
    struct chat_template *t = c->template;
    t->self_slot = -1;
    bool ok = (!mentions_read(&t->body, "self") || declare_word(&r, &symbols, "self", &t->self_slot)) && visit_list(&r, &symbols, &t->body) &&
              finish(&r, &symbols, &t->scope) && resolve_list(&r, &t->body, root);
    arena_free(&r.arena);
    return ok;
}
