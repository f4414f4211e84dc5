/* Tokens -> tree: expressions, by jinja2's grammar (conditional, or, and, not, comparison, + -, ~, * / // %, **, unary,
 * postfix, filters and tests). */
#include "tokenizers/chat/chat.h"

#include <string.h>

#define WORDS(t) token_words((t), &(struct quoted){{0}})

static struct node *parse_unary(struct compiler *c, bool with_filter);
static struct node *parse_primary(struct compiler *c, bool with_namespace);
static struct node *parse_postfix(struct compiler *c, struct node *n);

bool node_over(struct compiler *c, struct node *n, const struct node *child)
{
    if (child && child->depth >= n->depth)
        n->depth = child->depth + 1;
    return n->depth <= TREE_DEPTH || compile_fail(c, n->line, "nested more than %d deep", TREE_DEPTH);
}

/* A node over two children (b may be NULL); NULL if a child is missing because it failed. */
static struct node *over(struct compiler *c, enum node_kind kind, uint32_t line, struct node *a, struct node *b)
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
        if (!(right = parse_unary(c, true)) || !(left = over(c, N_BINARY, line, left, right)))
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
        if (!(right = parse_pow(c)) || !(left = over(c, N_BINARY, line, left, right)))
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
    struct node *n = over(c, N_CONCAT, line, first, NULL);
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
        if (!(right = parse_concat(c)) || !(left = over(c, N_BINARY, line, left, right)))
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
        if (!n && !(n = over(c, N_COMPARE, line, first, NULL)))
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
    return n ? over(c, N_NOT, line, n, NULL) : NULL;
}

static struct node *parse_and(struct compiler *c)
{
    uint32_t line = peek(c)->line;
    struct node *left = parse_not(c), *right;
    while (left && skip_name(c, "and"))
        left = (right = parse_not(c)) ? over(c, N_AND, line, left, right) : NULL;
    return left;
}

static struct node *parse_or(struct compiler *c)
{
    uint32_t line = peek(c)->line;
    struct node *left = parse_and(c), *right;
    while (left && skip_name(c, "or"))
        left = (right = parse_and(c)) ? over(c, N_OR, line, left, right) : NULL;
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
        n = over(c, N_COND, line, test, then);
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

/* ---- primary and postfix -------------------------------------------------------------------------------------------- */

static struct node *parse_constant(struct compiler *c, uint32_t line, struct value v)
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

static struct node *parse_primary(struct compiler *c, bool with_namespace)
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

static struct node *parse_call(struct compiler *c, struct node *callee)
{
    struct node *n = over(c, N_CALL, peek(c)->line, callee, NULL);
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
    struct node *n = over(c, N_SLICE, line, parts[0], parts[1]);
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
            if ((n = over(c, N_GETATTR, t->line, n, NULL)))
                n->text = name->text;
            return n;
        }
        if (name->kind != T_INTEGER) {
            compile_fail(c, name->line, "expected a name or number behind '.'");
            return NULL;
        }
        struct node *index = parse_constant(c, t->line, name->value);
        return index ? over(c, N_GETITEM, t->line, n, index) : NULL;
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
    return over(c, N_GETITEM, t->line, n, tuple->items.count == 1 ? tuple->items.items[0] : tuple);
}

static struct node *parse_postfix(struct compiler *c, struct node *n)
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
        if (!buffer || !(n = over(c, N_FILTER, line, buffer, NULL)))
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

static struct node *parse_test(struct compiler *c, struct node *subject)
{
    uint32_t line = advance(c)->line;
    bool negated = skip_name(c, "not");
    const struct text *name = parse_dotted(c);
    struct node *n = name ? over(c, N_TEST, line, subject, NULL) : NULL;
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
    return negated ? over(c, N_NOT, line, n, NULL) : n;
}

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
        n = n ? over(c, t->kind == T_SUB ? N_NEG : N_POS, t->line, n, NULL) : NULL;
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
