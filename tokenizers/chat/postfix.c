/* Tokens -> tree: what follows a value: .name, [item], (arguments), |filter, is test. */
#include "tokenizers/chat/chat.h"

#include <string.h>

#define WORDS(t) token_words((t), &(struct quoted){{0}})

static bool parse_keyword(struct compiler *c, struct call_args *args, struct node *over_node)
{
    const struct text *name = advance(c)->text;
    advance(c);
    for (uint32_t i = 0; i < args->named.count; i++)
        if (text_equal(args->names[i], name))
            return compile_fail(c, peek(c)->line, "the argument '%s' occurs twice", QUOTE(name->data, name->size));
    struct node *value = parse_expression(c, true);
    uint32_t count = args->named.count;
    const struct text **names = arena_array(&c->template->arena, count + 1, sizeof *names);
    if (!names)
        return compile_fail(c, peek(c)->line, "out of memory");
    if (count)
        memcpy(names, args->names, count * sizeof *names);
    names[count] = name;
    args->names = names;
    return value && node_over(c, over_node, value) && node_list_add(c, &args->named, value);
}

static bool parse_argument(struct compiler *c, struct call_args *args, struct node *n)
{
    struct node *value;
    const struct token *t = peek(c);
    bool named = t->kind == T_NAME && c->tokens[c->at + 1].kind == T_ASSIGN;
    bool allowed = t->kind == T_MUL ? !args->star && !args->stars
                   : t->kind == T_POW || named ? !args->stars
                                               : !args->star && !args->stars && !args->named.count;
    if (!allowed)
        return compile_fail(c, t->line, "invalid order of arguments in a call");
    if (named)
        return parse_keyword(c, args, n);
    if (t->kind == T_MUL || t->kind == T_POW)
        advance(c);
    if (!(value = parse_expression(c, true)) || !node_over(c, n, value))
        return false;
    if (t->kind == T_MUL)
        args->star = value;
    else if (t->kind == T_POW)
        args->stars = value;
    else
        return node_list_add(c, &args->items, value);
    return true;
}

/* (...) into n->args. */
static bool parse_arguments(struct compiler *c, struct node *n)
{
    struct call_args *args = n->args = arena_alloc(&c->template->arena, sizeof *args);
    if (!args)
        return compile_fail(c, n->line, "out of memory");
    if (!expect(c, T_LPAREN, "'('"))
        return false;
    bool first = true;
    while (peek(c)->kind != T_RPAREN) {
        if (!first) {
            if (!expect(c, T_COMMA, "',' or ')'"))
                return false;
            if (peek(c)->kind == T_RPAREN)
                break;
        }
        first = false;
        if (!parse_argument(c, args, n))
            return false;
    }
    return expect(c, T_RPAREN, "')'") != NULL;
}

struct node *parse_call(struct compiler *c, struct node *callee)
{
    struct node *n = node_above(c, N_CALL, peek(c)->line, callee, NULL);
    return n && parse_arguments(c, n) ? n : NULL;
}

/* What stands in [...]: an expression or a slice. */
static struct node *parse_subscribed(struct compiler *c)
{
    uint32_t line = peek(c)->line;
    struct node *parts[3] = {0};
    if (peek(c)->kind != T_COLON) {
        if (!(parts[0] = parse_expression(c, true)))
            return NULL;
        if (peek(c)->kind != T_COLON)
            return parts[0];
    }
    for (int i = 1; i < 3 && skip_token(c, T_COLON); i++) {
        enum token_kind kind = peek(c)->kind;
        if (kind != T_COLON && kind != T_RBRACKET && kind != T_COMMA && !(parts[i] = parse_expression(c, true)))
            return NULL;
    }
    struct node *n = node_above(c, N_SLICE, line, parts[0], parts[1]);
    if (!n || !node_over(c, n, parts[2]))
        return NULL;
    n->c = parts[2];
    return n;
}

static struct node *parse_subscript(struct compiler *c, struct node *n)
{
    const struct token *t = advance(c);
    if (t->kind == T_DOT) {
        const struct token *name = advance(c);
        if (name->kind == T_NAME) {
            if ((n = node_above(c, N_GETATTR, t->line, n, NULL)))
                n->text = name->text;
            return n;
        }
        if (name->kind != T_INTEGER) {
            compile_fail(c, name->line, "expected a name or number behind '.'");
            return NULL;
        }
        struct node *index = parse_constant(c, t->line, name->value);
        return index ? node_above(c, N_GETITEM, t->line, n, index) : NULL;
    }
    struct node *tuple = node_new(c, N_TUPLE, t->line);
    while (tuple && peek(c)->kind != T_RBRACKET) {
        if (tuple->items.count && !expect(c, T_COMMA, "','"))
            return NULL;
        struct node *part = parse_subscribed(c);
        if (!part || !node_over(c, tuple, part) || !node_list_add(c, &tuple->items, part))
            return NULL;
    }
    if (!tuple || !expect(c, T_RBRACKET, "']'"))
        return NULL;
    return node_above(c, N_GETITEM, t->line, n, tuple->items.count == 1 ? tuple->items.items[0] : tuple);
}

struct node *parse_postfix(struct compiler *c, struct node *n)
{
    while (n) {
        enum token_kind kind = peek(c)->kind;
        if (kind == T_DOT || kind == T_LBRACKET)
            n = parse_subscript(c, n);
        else if (kind == T_LPAREN)
            n = parse_call(c, n);
        else
            break;
    }
    return n;
}

/* ---- filters and tests ---------------------------------------------------------------------------------------------- */

/* A name, perhaps with dots in it. */
static const struct text *parse_dotted(struct compiler *c)
{
    const struct token *t = expect(c, T_NAME, "a name");
    const struct text *name = t ? t->text : NULL;
    while (name && skip_token(c, T_DOT)) {
        if (!(t = expect(c, T_NAME, "a name")))
            return NULL;
        struct text *joined = arena_alloc(&c->template->arena, sizeof *joined);
        char *data = arena_raw(&c->template->arena, (size_t)name->size + t->text->size + 2);
        if (!joined || !data) {
            compile_fail(c, t->line, "out of memory");
            return NULL;
        }
        memcpy(data, name->data, name->size);
        data[name->size] = '.';
        memcpy(data + name->size + 1, t->text->data, t->text->size);
        *joined = (struct text){.data = data, .size = name->size + 1 + t->text->size, .own = true};
        name = joined;
    }
    return name;
}

/* |a|b(...)...: applied to n, or to the block around (NULL). begun: the first name stands without its bar. */
struct node *parse_filter(struct compiler *c, struct node *n, bool begun)
{
    while (begun || peek(c)->kind == T_PIPE) {
        if (!begun)
            advance(c);
        begun = false;
        uint32_t line = peek(c)->line;
        const struct text *name = parse_dotted(c);
        if (!name)
            return NULL;
        struct node *buffer = n ? n : node_new(c, N_BUFFER, line);
        if (!buffer || !(n = node_above(c, N_FILTER, line, buffer, NULL)))
            return NULL;
        n->text = name;
        n->function = jinja_find_filter(name->data, name->size);
        if (peek(c)->kind == T_LPAREN && !parse_arguments(c, n))
            return NULL;
    }
    return n;
}

static bool test_has_operand(const struct compiler *c)
{
    switch (peek(c)->kind) {
    case T_STRING:
    case T_INTEGER:
    case T_FLOAT:
    case T_LBRACKET:
    case T_LBRACE:
        return true;
    case T_NAME:
        return !at_name(c, "else") && !at_name(c, "or") && !at_name(c, "and");
    default:
        return false;
    }
}

struct node *parse_test(struct compiler *c, struct node *subject)
{
    uint32_t line = advance(c)->line;
    bool negated = skip_name(c, "not");
    const struct text *name = parse_dotted(c);
    struct node *n = name ? node_above(c, N_TEST, line, subject, NULL) : NULL;
    if (!n)
        return NULL;
    n->text = name;
    n->function = jinja_find_test(name->data, name->size);
    if (peek(c)->kind == T_LPAREN) {
        if (!parse_arguments(c, n))
            return NULL;
    } else if (test_has_operand(c)) {
        if (at_name(c, "is")) {
            compile_fail(c, line, "tests with 'is' cannot be chained");
            return NULL;
        }
        struct node *operand = parse_primary(c, false);
        if (!operand || !(operand = parse_postfix(c, operand)) || !node_over(c, n, operand))
            return NULL;
        if (!(n->args = arena_alloc(&c->template->arena, sizeof *n->args)) || !node_list_add(c, &n->args->items, operand)) {
            compile_fail(c, line, "out of memory");
            return NULL;
        }
    }
    return negated ? node_above(c, N_NOT, line, n, NULL) : n;
}
