/* Tokens -> tree: expressions, by jinja2's grammar (conditional, or, and, not, comparison, + -, ~, * / // %, **, unary,
 * postfix, filters and tests). */
#include "tokenizers/chat/chat.h"

#include <string.h>

#define WORDS(t) token_words((t), &(struct quoted){{0}})

static struct node *parse_unary(struct compiler *c, bool with_filter);

bool node_over(struct compiler *c, struct node *n, const struct node *child)
{
    if (child && child->depth >= n->depth)
        n->depth = child->depth + 1;
    return n->depth <= TREE_DEPTH || compile_fail(c, n->line, "nested more than %d deep", TREE_DEPTH);
}

/* A node over two children (b may be NULL); NULL if a child is missing because it failed. */
struct node *node_above(struct compiler *c, enum node_kind kind, uint32_t line, struct node *a, struct node *b)
{
    struct node *n = node_new(c, kind, line);
    if (!n || !node_over(c, n, a) || !node_over(c, n, b))
        return NULL;
    n->a = a;
    n->b = b;
    return n;
}

/* ---- binary operators, loosest first -------------------------------------------------------------------------------- */

/* Numbers that jinja2 computes when it compiles. */
static bool is_constant(const struct node *n)
{
    if (n->kind == N_NEG || n->kind == N_POS)
        return is_constant(n->a);
    return n->kind == N_CONST || (n->kind == N_BINARY && is_constant(n->a) && is_constant(n->b));
}

/* jinja2 writes a computed -2 into Python text, where -2 ** n is -(2 ** n): flag. */
static struct node *parse_pow(struct compiler *c)
{
    uint32_t line = peek(c)->line;
    struct node *left = parse_unary(c, true), *right;
    while (left && skip_token(c, T_POW)) {
        if (!(right = parse_unary(c, true)) || !(left = node_above(c, N_BINARY, line, left, right)))
            return NULL;
        left->op = OP_POW;
        left->flag = is_constant(left->a) && !is_constant(right);
    }
    return left;
}

static struct node *parse_product(struct compiler *c)
{
    uint32_t line = peek(c)->line;
    struct node *left = parse_pow(c), *right;
    while (left) {
        enum token_kind kind = peek(c)->kind;
        if (kind != T_MUL && kind != T_DIV && kind != T_FLOORDIV && kind != T_MOD)
            break;
        advance(c);
        if (!(right = parse_pow(c)) || !(left = node_above(c, N_BINARY, line, left, right)))
            return NULL;
        left->op = kind == T_MUL ? OP_MUL : kind == T_DIV ? OP_DIV : kind == T_FLOORDIV ? OP_FLOORDIV : OP_MOD;
    }
    return left;
}

static struct node *parse_concat(struct compiler *c)
{
    uint32_t line = peek(c)->line;
    struct node *first = parse_product(c);
    if (!first || peek(c)->kind != T_TILDE)
        return first;
    struct node *n = node_above(c, N_CONCAT, line, first, NULL);
    if (!n || !node_list_add(c, &n->items, first))
        return NULL;
    n->a = NULL;
    while (skip_token(c, T_TILDE)) {
        struct node *more = parse_product(c);
        if (!more || !node_over(c, n, more) || !node_list_add(c, &n->items, more))
            return NULL;
    }
    return n;
}

static struct node *parse_sum(struct compiler *c)
{
    uint32_t line = peek(c)->line;
    struct node *left = parse_concat(c), *right;
    while (left && (peek(c)->kind == T_ADD || peek(c)->kind == T_SUB)) {
        enum operator op = advance(c)->kind == T_ADD ? OP_ADD : OP_SUB;
        if (!(right = parse_concat(c)) || !(left = node_above(c, N_BINARY, line, left, right)))
            return NULL;
        left->op = (uint8_t)op;
    }
    return left;
}

static bool comparison(struct compiler *c, uint8_t *op)
{
    switch (peek(c)->kind) {
    case T_EQ:
        *op = CMP_EQ;
        break;
    case T_NE:
        *op = CMP_NE;
        break;
    case T_LT:
        *op = CMP_LT;
        break;
    case T_LTEQ:
        *op = CMP_LE;
        break;
    case T_GT:
        *op = CMP_GT;
        break;
    case T_GTEQ:
        *op = CMP_GE;
        break;
    case T_NAME:
        if (at_name(c, "in")) {
            *op = CMP_IN;
        } else if (at_name(c, "not") && c->tokens[c->at + 1].kind == T_NAME && text_is(c->tokens[c->at + 1].text, "in")) {
            *op = CMP_NOT_IN;
            advance(c);
        } else {
            return false;
        }
        break;
    default:
        return false;
    }
    advance(c);
    return true;
}

static struct node *parse_comparison(struct compiler *c)
{
    uint32_t line = peek(c)->line;
    struct node *first = parse_sum(c), *n = NULL;
    uint8_t op, *ops = NULL;
    uint32_t room = 0;
    while (first && comparison(c, &op)) {
        if (!n && !(n = node_above(c, N_COMPARE, line, first, NULL)))
            return NULL;
        struct node *right = parse_sum(c);
        if (!right || !node_over(c, n, right) || !node_list_add(c, &n->items, right))
            return NULL;
        if (n->items.count > room) {
            uint8_t *more = arena_array(&c->template->arena, room * 2 + 4, 1);
            if (!more) {
                compile_fail(c, line, "out of memory");
                return NULL;
            }
            if (room)
                memcpy(more, ops, room);
            n->ops = ops = more;
            room = room * 2 + 4;
        }
        ops[n->items.count - 1] = op;
    }
    return n ? n : first;
}

static struct node *parse_not(struct compiler *c)
{
    uint32_t line = peek(c)->line;
    if (!skip_name(c, "not"))
        return parse_comparison(c);
    if (++c->depth > TREE_DEPTH) {
        compile_fail(c, line, "nested more than %d deep", TREE_DEPTH);
        return NULL;
    }
    struct node *n = parse_not(c);
    c->depth--;
    return n ? node_above(c, N_NOT, line, n, NULL) : NULL;
}

static struct node *parse_and(struct compiler *c)
{
    uint32_t line = peek(c)->line;
    struct node *left = parse_not(c), *right;
    while (left && skip_name(c, "and"))
        left = (right = parse_not(c)) ? node_above(c, N_AND, line, left, right) : NULL;
    return left;
}

static struct node *parse_or(struct compiler *c)
{
    uint32_t line = peek(c)->line;
    struct node *left = parse_and(c), *right;
    while (left && skip_name(c, "or"))
        left = (right = parse_and(c)) ? node_above(c, N_OR, line, left, right) : NULL;
    return left;
}

struct node *parse_expression(struct compiler *c, bool conditional)
{
    uint32_t line = peek(c)->line;
    if (++c->depth > TREE_DEPTH) {
        compile_fail(c, line, "nested more than %d deep", TREE_DEPTH);
        return NULL;
    }
    struct node *n = parse_or(c);
    while (n && conditional && skip_name(c, "if")) {
        struct node *then = n, *test = parse_or(c), *otherwise = NULL;
        if (!test || (skip_name(c, "else") && !(otherwise = parse_expression(c, true))))
            return NULL;
        n = node_above(c, N_COND, line, test, then);
        if (!n || !node_over(c, n, otherwise))
            return NULL;
        n->c = otherwise;
    }
    c->depth--;
    return n;
}

/* ---- tuples and targets --------------------------------------------------------------------------------------------- */

static bool tuple_ends(const struct compiler *c, const char *end)
{
    enum token_kind kind = peek(c)->kind;
    return kind == T_VARIABLE_END || kind == T_BLOCK_END || kind == T_RPAREN || (end && at_name(c, end));
}

enum element { ELEMENT_EXPRESSION, ELEMENT_CONDITIONAL, ELEMENT_TARGET, ELEMENT_NAMESPACE };

static struct node *parse_elements(struct compiler *c, enum element element, const char *end, bool parentheses)
{
    uint32_t line = peek(c)->line;
    struct node *tuple = node_new(c, N_TUPLE, line);
    bool commas = false;
    while (tuple) {
        if (tuple->items.count && !expect(c, T_COMMA, "','"))
            return NULL;
        if (tuple_ends(c, end))
            break;
        struct node *n = element <= ELEMENT_CONDITIONAL ? parse_expression(c, element == ELEMENT_CONDITIONAL)
                                                        : parse_primary(c, element == ELEMENT_NAMESPACE);
        if (!n || !node_over(c, tuple, n) || !node_list_add(c, &tuple->items, n))
            return NULL;
        if (peek(c)->kind != T_COMMA)
            break;
        commas = true;
    }
    if (!tuple || commas)
        return tuple;
    if (tuple->items.count)
        return tuple->items.items[0];
    if (!parentheses) {
        compile_fail(c, line, "expected an expression, got '%s'", WORDS(peek(c)));
        return NULL;
    }
    return tuple;
}

struct node *parse_tuple(struct compiler *c, bool conditional, const char *end, bool parentheses)
{
    return parse_elements(c, conditional ? ELEMENT_CONDITIONAL : ELEMENT_EXPRESSION, end, parentheses);
}

static bool make_target(struct compiler *c, struct node *n)
{
    if (n->kind == N_NSREF)
        return true;
    if (n->kind == N_NAME) {
        n->flag = true;
        return true;
    }
    if (n->kind != N_TUPLE)
        return compile_fail(c, n->line, "can't assign to an expression that is no name");
    for (uint32_t i = 0; i < n->items.count; i++)
        if (!make_target(c, n->items.items[i]))
            return false;
    return true;
}

struct node *parse_target(struct compiler *c, const char *end, bool with_namespace)
{
    struct node *n = parse_elements(c, with_namespace ? ELEMENT_NAMESPACE : ELEMENT_TARGET, end, false);
    return n && make_target(c, n) ? n : NULL;
}

/* ---- primary --------------------------------------------------------------------------------------------------------- */

struct node *parse_constant(struct compiler *c, uint32_t line, struct value v)
{
    struct node *n = node_new(c, N_CONST, line);
    if (n)
        n->value = v;
    return n;
}

static struct node *parse_named(struct compiler *c, bool with_namespace)
{
    const struct token *t = advance(c);
    if (text_is(t->text, "true") || text_is(t->text, "True"))
        return parse_constant(c, t->line, BOOL_VALUE(true));
    if (text_is(t->text, "false") || text_is(t->text, "False"))
        return parse_constant(c, t->line, BOOL_VALUE(false));
    if (text_is(t->text, "none") || text_is(t->text, "None"))
        return parse_constant(c, t->line, NONE_VALUE);
    bool reference = with_namespace && skip_token(c, T_DOT);
    struct node *n = node_new(c, reference ? N_NSREF : N_NAME, t->line);
    if (!n)
        return NULL;
    n->text = t->text;
    if (reference) {
        const struct token *name = expect(c, T_NAME, "a name");
        if (!name)
            return NULL;
        n->attribute = name->text;
    }
    return n;
}

static struct node *parse_strings(struct compiler *c)
{
    const struct token *first = advance(c);
    if (peek(c)->kind != T_STRING)
        return parse_constant(c, first->line, TEXT_VALUE(first->text));
    size_t size = first->text->size;
    for (uint32_t i = c->at; c->tokens[i].kind == T_STRING; i++)
        size += c->tokens[i].text->size;
    struct text *t = arena_alloc(&c->template->arena, sizeof *t);
    char *data = arena_raw(&c->template->arena, size + 1);
    if (!t || !data) {
        compile_fail(c, first->line, "out of memory");
        return NULL;
    }
    *t = (struct text){.data = data, .size = first->text->size, .count = COUNT_UNKNOWN, .own = true};
    memcpy(data, first->text->data, t->size);
    while (peek(c)->kind == T_STRING) {
        const struct text *more = advance(c)->text;
        memcpy(data + t->size, more->data, more->size);
        t->size += more->size;
    }
    text_count(t);
    return parse_constant(c, first->line, TEXT_VALUE(t));
}

static struct node *parse_list(struct compiler *c)
{
    struct node *n = node_new(c, N_LIST, advance(c)->line);
    while (n && peek(c)->kind != T_RBRACKET) {
        if (n->items.count && !expect(c, T_COMMA, "','"))
            return NULL;
        if (peek(c)->kind == T_RBRACKET)
            break;
        struct node *item = parse_expression(c, true);
        if (!item || !node_over(c, n, item) || !node_list_add(c, &n->items, item))
            return NULL;
    }
    return n && expect(c, T_RBRACKET, "']'") ? n : NULL;
}

static struct node *parse_dict(struct compiler *c)
{
    struct node *n = node_new(c, N_DICT, advance(c)->line); /* items: key, value, key, value */
    while (n && peek(c)->kind != T_RBRACE) {
        if (n->items.count && !expect(c, T_COMMA, "','"))
            return NULL;
        if (peek(c)->kind == T_RBRACE)
            break;
        struct node *key = parse_expression(c, true), *value;
        if (!key || !expect(c, T_COLON, "':'") || !(value = parse_expression(c, true)) || !node_over(c, n, key) ||
            !node_over(c, n, value) || !node_list_add(c, &n->items, key) || !node_list_add(c, &n->items, value))
            return NULL;
    }
    return n && expect(c, T_RBRACE, "'}'") ? n : NULL;
}

struct node *parse_primary(struct compiler *c, bool with_namespace)
{
    const struct token *t = peek(c);
    struct node *n;
    switch (t->kind) {
    case T_NAME:
        return parse_named(c, with_namespace);
    case T_STRING:
        return parse_strings(c);
    case T_INTEGER:
    case T_FLOAT:
        advance(c);
        return parse_constant(c, t->line, t->value);
    case T_LPAREN:
        advance(c);
        if (++c->depth > TREE_DEPTH) {
            compile_fail(c, t->line, "nested more than %d deep", TREE_DEPTH);
            return NULL;
        }
        n = parse_tuple(c, true, NULL, true);
        c->depth--;
        return n && expect(c, T_RPAREN, "')'") ? n : NULL;
    case T_LBRACKET:
        return parse_list(c);
    case T_LBRACE:
        return parse_dict(c);
    default:
        compile_fail(c, t->line, "unexpected '%s'", WORDS(t));
        return NULL;
    }
}

/* ---- unary operators ------------------------------------------------------------------------------------------------- */

static struct node *parse_unary(struct compiler *c, bool with_filter)
{
    const struct token *t = peek(c);
    struct node *n;
    if (t->kind == T_SUB || t->kind == T_ADD) {
        advance(c);
        if (++c->depth > TREE_DEPTH) {
            compile_fail(c, t->line, "nested more than %d deep", TREE_DEPTH);
            return NULL;
        }
        n = parse_unary(c, false);
        c->depth--;
        n = n ? node_above(c, t->kind == T_SUB ? N_NEG : N_POS, t->line, n, NULL) : NULL;
    } else {
        n = parse_primary(c, false);
    }
    n = n ? parse_postfix(c, n) : NULL;
    while (n && with_filter) {
        if (peek(c)->kind == T_PIPE)
            n = parse_filter(c, n, false);
        else if (at_name(c, "is"))
            n = parse_test(c, n);
        else if (peek(c)->kind == T_LPAREN)
            n = parse_call(c, n);
        else
            break;
    }
    return n;
}
