/* Tokens -> tree: the statements. Expressions are in expressions.c. */
#include "tokenizers/chat/chat.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool compile_fail(struct compiler *c, uint32_t line, const char *format, ...)
{
    char words[ERROR_TEXT];
    va_list args;
    va_start(args, format);
    vsnprintf(words, sizeof words, format, args);
    va_end(args);
    c->vm.line = line;
    return jinja_fail(&c->vm, "%s", words);
}

const char *token_words(const struct token *t, struct quoted *out)
{
    static const char *const words[] = {
        [T_EOF] = "end of template", [T_DATA] = "text", [T_VARIABLE_BEGIN] = "{{", [T_VARIABLE_END] = "}}",
        [T_BLOCK_BEGIN] = "{%", [T_BLOCK_END] = "%}", [T_NAME] = "name", [T_STRING] = "string", [T_INTEGER] = "integer",
        [T_FLOAT] = "float", [T_ADD] = "+", [T_SUB] = "-", [T_DIV] = "/", [T_FLOORDIV] = "//", [T_MUL] = "*", [T_MOD] = "%",
        [T_POW] = "**", [T_TILDE] = "~", [T_LBRACKET] = "[", [T_RBRACKET] = "]", [T_LPAREN] = "(", [T_RPAREN] = ")",
        [T_LBRACE] = "{", [T_RBRACE] = "}", [T_EQ] = "==", [T_NE] = "!=", [T_GT] = ">", [T_GTEQ] = ">=", [T_LT] = "<",
        [T_LTEQ] = "<=", [T_ASSIGN] = "=", [T_DOT] = ".", [T_COLON] = ":", [T_PIPE] = "|", [T_COMMA] = ",", [T_SEMICOLON] = ";",
    };
    return t->kind == T_NAME ? quote(out, t->text->data, t->text->size) : words[t->kind];
}
#define WORDS(t) token_words((t), &(struct quoted){{0}})

struct node *node_new(struct compiler *c, enum node_kind kind, uint32_t line)
{
    struct node *n = arena_alloc(&c->template->arena, sizeof *n);
    if (!n) {
        compile_fail(c, line, "out of memory");
        return NULL;
    }
    n->kind = (uint8_t)kind;
    n->line = line;
    return n;
}

bool node_list_add(struct compiler *c, struct nodes *list, struct node *n)
{
    if (list->count == list->capacity) {
        uint32_t capacity = list->capacity ? list->capacity * 2 : 4;
        struct node **items = arena_array(&c->template->arena, capacity, sizeof *items);
        if (!items)
            return compile_fail(c, peek(c)->line, "out of memory");
        if (list->count)
            memcpy(items, list->items, list->count * sizeof *items);
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = n;
    return true;
}

bool at_name(const struct compiler *c, const char *name)
{
    const struct token *t = peek(c);
    return t->kind == T_NAME && text_is(t->text, name);
}

bool skip_token(struct compiler *c, enum token_kind kind)
{
    if (peek(c)->kind != kind)
        return false;
    advance(c);
    return true;
}

bool skip_name(struct compiler *c, const char *name)
{
    if (!at_name(c, name))
        return false;
    advance(c);
    return true;
}

const struct token *expect(struct compiler *c, enum token_kind kind, const char *words)
{
    const struct token *t = peek(c);
    if (t->kind == kind)
        return advance(c);
    compile_fail(c, t->line, "expected %s, got '%s'", words, WORDS(t));
    return NULL;
}

/* ---- bodies --------------------------------------------------------------------------------------------------------- */

static struct node *parse_statement(struct compiler *c);

/* One of the tags in ends ("endif" or "else|elif|endif"). */
static bool at_end(const struct compiler *c, const char *ends)
{
    const struct token *t = peek(c);
    for (const char *p = ends; p && *p; p += strcspn(p, "|"), p += *p == '|')
        if (t->kind == T_NAME && strcspn(p, "|") == t->text->size && memcmp(p, t->text->data, t->text->size) == 0)
            return true;
    return false;
}

static bool add_output(struct compiler *c, struct nodes *body, struct node **output, struct node *child)
{
    if (!child)
        return false;
    if (!*output) {
        *output = node_new(c, N_OUTPUT, child->line);
        if (!*output || !node_list_add(c, body, *output))
            return false;
    }
    return node_list_add(c, &(*output)->items, child) && node_over(c, *output, child);
}

static bool parse_data(struct compiler *c, struct nodes *body, struct node **output)
{
    const struct token *t = advance(c);
    struct node *n = node_new(c, N_DATA, t->line);
    if (n)
        n->text = t->text;
    return add_output(c, body, output, n);
}

static bool parse_print_tag(struct compiler *c, struct nodes *body, struct node **output)
{
    advance(c);
    return add_output(c, body, output, parse_tuple(c, true, NULL, false)) && expect(c, T_VARIABLE_END, "the end of {{ }}");
}

/* Until one of the ending tags, which stays the current token (NULL: until the end of the template). */
static bool parse_body(struct compiler *c, struct nodes *body, const char *ends)
{
    struct node *output = NULL;
    uint32_t line = peek(c)->line;
    if (++c->depth > TREE_DEPTH)
        return compile_fail(c, line, "more than %d blocks nested", TREE_DEPTH);
    for (;;) {
        const struct token *t = peek(c);
        if (t->kind == T_EOF)
            break;
        if (t->kind == T_DATA) {
            if (!parse_data(c, body, &output))
                return false;
            continue;
        }
        if (t->kind == T_VARIABLE_BEGIN) {
            if (!parse_print_tag(c, body, &output))
                return false;
            continue;
        }
        advance(c);
        output = NULL;
        if (ends && at_end(c, ends)) {
            c->depth--;
            return true;
        }
        if (peek(c)->kind == T_NAME && ends == NULL && strncmp(peek(c)->text->data, "end", 3) == 0 && peek(c)->text->size > 3)
            return compile_fail(c, t->line, "unexpected tag '%s'", WORDS(peek(c)));
        struct node *n = parse_statement(c);
        if (!n || !node_list_add(c, body, n) || !expect(c, T_BLOCK_END, "the end of the tag"))
            return false;
    }
    c->depth--;
    return ends ? compile_fail(c, peek(c)->line, "unexpected end of template; the tag '%s' of line %u is missing", ends, line) : true;
}

/* The body behind a tag: %} ... {% end. The ending tag is consumed if drop is set. */
static bool parse_block_body(struct compiler *c, struct nodes *body, const char *ends, bool drop)
{
    skip_token(c, T_COLON);
    if (!expect(c, T_BLOCK_END, "the end of the tag") || !parse_body(c, body, ends))
        return false;
    if (drop)
        advance(c);
    return true;
}

static bool over_bodies(struct compiler *c, struct node *n)
{
    for (uint32_t i = 0; i < n->body.count; i++)
        if (!node_over(c, n, n->body.items[i]))
            return false;
    for (uint32_t i = 0; i < n->orelse.count; i++)
        if (!node_over(c, n, n->orelse.items[i]))
            return false;
    return true;
}

/* ---- statements ----------------------------------------------------------------------------------------------------- */

static struct node *parse_if(struct compiler *c, uint32_t line)
{
    struct node *n = node_new(c, N_IF, line);
    if (!n || !(n->a = parse_tuple(c, false, NULL, false)) || !node_over(c, n, n->a) ||
        !parse_block_body(c, &n->body, "elif|else|endif", false))
        return NULL;
    struct node *last = n;
    while (skip_name(c, "elif")) { /* a chain through c, which is walked without recursion */
        struct node *more = node_new(c, N_IF, peek(c)->line);
        if (!more || !(more->a = parse_tuple(c, false, NULL, false)) || !parse_block_body(c, &more->body, "elif|else|endif", false) ||
            !over_bodies(c, more) || !node_over(c, n, more) || !node_over(c, n, more->a))
            return NULL;
        last->c = more;
        last = more;
    }
    if (skip_name(c, "else")) {
        if (!parse_block_body(c, &last->orelse, "endif", false) || !over_bodies(c, last) || (last != n && !node_over(c, n, last)))
            return NULL;
    }
    advance(c);
    return over_bodies(c, n) ? n : NULL;
}

static struct node *parse_for(struct compiler *c, uint32_t line)
{
    struct node *n = node_new(c, N_FOR, line);
    if (!n || !(n->a = parse_target(c, "in", false)))
        return NULL;
    if (!skip_name(c, "in")) {
        compile_fail(c, peek(c)->line, "expected 'in', got '%s'", WORDS(peek(c)));
        return NULL;
    }
    if (!(n->b = parse_tuple(c, false, "recursive", false)))
        return NULL;
    if (skip_name(c, "if") && !(n->c = parse_expression(c, true)))
        return NULL;
    n->flag = skip_name(c, "recursive");
    if (!parse_block_body(c, &n->body, "endfor|else", false))
        return NULL;
    if (skip_name(c, "else")) {
        if (!parse_block_body(c, &n->orelse, "endfor", true))
            return NULL;
    } else {
        advance(c);
    }
    return node_over(c, n, n->b) && (!n->c || node_over(c, n, n->c)) && over_bodies(c, n) ? n : NULL;
}

static struct node *parse_set(struct compiler *c, uint32_t line)
{
    struct node *target = parse_target(c, NULL, true);
    if (!target)
        return NULL;
    struct node *n = node_new(c, skip_token(c, T_ASSIGN) ? N_SET : N_SET_BLOCK, line);
    if (!n)
        return NULL;
    n->a = target;
    if (n->kind == N_SET)
        return (n->b = parse_tuple(c, true, NULL, false)) && node_over(c, n, n->b) ? n : NULL;
    if (peek(c)->kind == T_PIPE && !(n->b = parse_filter(c, NULL, false)))
        return NULL;
    return parse_block_body(c, &n->body, "endset", true) && over_bodies(c, n) ? n : NULL;
}

static struct node *parse_name_target(struct compiler *c)
{
    const struct token *t = expect(c, T_NAME, "a name");
    struct node *n = t ? node_new(c, N_NAME, t->line) : NULL;
    if (!n)
        return NULL;
    n->text = t->text;
    n->flag = true;
    static const char *const constants[] = {"true", "false", "none", "True", "False", "None"};
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        if (text_is(t->text, constants[i])) {
            compile_fail(c, t->line, "can't assign to '%s'", constants[i]);
            return NULL;
        }
    return n;
}

static bool parse_signature(struct compiler *c, struct node *n)
{
    struct signature *s = n->signature;
    if (!expect(c, T_LPAREN, "'('"))
        return false;
    while (peek(c)->kind != T_RPAREN) {
        if (s->parameters.count && !expect(c, T_COMMA, "','"))
            return false;
        struct node *name = parse_name_target(c);
        if (!name)
            return false;
        for (uint32_t i = 0; i < s->parameters.count; i++)
            if (text_equal(s->parameters.items[i]->text, name->text))
                return compile_fail(c, name->line, "the parameter '%s' occurs twice", QUOTE(name->text->data, name->text->size));
        if (skip_token(c, T_ASSIGN)) {
            struct node *value = parse_expression(c, true);
            if (!value || !node_list_add(c, &s->defaults, value) || !node_over(c, n, value))
                return false;
        } else if (s->defaults.count) {
            return compile_fail(c, name->line, "a parameter without a default follows one that has one");
        }
        if (!node_list_add(c, &s->parameters, name))
            return false;
    }
    advance(c);
    return true;
}

static struct node *new_macro(struct compiler *c, enum node_kind kind, uint32_t line)
{
    struct node *n = node_new(c, kind, line);
    if (n && !(n->signature = arena_alloc(&c->template->arena, sizeof *n->signature)))
        compile_fail(c, line, "out of memory");
    return n && n->signature ? n : NULL;
}

static struct node *parse_macro(struct compiler *c, uint32_t line)
{
    struct node *n = new_macro(c, N_MACRO, line);
    if (!n || !(n->a = parse_name_target(c)) || !parse_signature(c, n) || !parse_block_body(c, &n->body, "endmacro", true))
        return NULL;
    n->text = n->a->text;
    return over_bodies(c, n) ? n : NULL;
}

static struct node *parse_call_block(struct compiler *c, uint32_t line)
{
    struct node *n = new_macro(c, N_CALL_BLOCK, line);
    if (!n || (peek(c)->kind == T_LPAREN && !parse_signature(c, n)) || !(n->a = parse_expression(c, true)))
        return NULL;
    if (n->a->kind != N_CALL) {
        compile_fail(c, line, "a call block needs a call");
        return NULL;
    }
    return node_over(c, n, n->a) && parse_block_body(c, &n->body, "endcall", true) && over_bodies(c, n) ? n : NULL;
}

/* {% generation %}: transformers' tag is a call block around its body, which renders it. */
static struct node *parse_generation(struct compiler *c, uint32_t line)
{
    struct node *n = new_macro(c, N_CALL_BLOCK, line);
    return n && parse_block_body(c, &n->body, "endgeneration", true) && over_bodies(c, n) ? n : NULL;
}

static struct node *parse_filter_block(struct compiler *c, uint32_t line)
{
    struct node *n = node_new(c, N_FILTER_BLOCK, line);
    return n && (n->b = parse_filter(c, NULL, true)) && node_over(c, n, n->b) &&
                   parse_block_body(c, &n->body, "endfilter", true) && over_bodies(c, n)
               ? n
               : NULL;
}

static struct node *parse_with(struct compiler *c, uint32_t line)
{
    struct node *n = node_new(c, N_WITH, line);
    while (n && peek(c)->kind != T_BLOCK_END) { /* items: target, value, target, value */
        if (n->items.count && !expect(c, T_COMMA, "','"))
            return NULL;
        struct node *target = parse_target(c, NULL, false), *value;
        if (!target || !expect(c, T_ASSIGN, "'='") || !(value = parse_expression(c, true)) || !node_over(c, n, value) ||
            !node_list_add(c, &n->items, target) || !node_list_add(c, &n->items, value))
            return NULL;
    }
    return n && parse_block_body(c, &n->body, "endwith", true) && over_bodies(c, n) ? n : NULL;
}

static struct node *parse_block(struct compiler *c, uint32_t line)
{
    struct node *n = node_new(c, N_BLOCK, line);
    const struct token *name = n ? expect(c, T_NAME, "the block's name") : NULL;
    if (!name)
        return NULL;
    n->text = name->text;
    n->flag = skip_name(c, "scoped");
    bool required = skip_name(c, "required");
    for (uint32_t i = 0; i < c->template->blocks.count; i++)
        if (text_equal(c->template->blocks.items[i]->text, n->text)) {
            compile_fail(c, line, "the block '%s' is defined twice", QUOTE(n->text->data, n->text->size));
            return NULL;
        }
    if (!parse_block_body(c, &n->body, "endblock", true) || !node_list_add(c, &c->template->blocks, n))
        return NULL;
    if (peek(c)->kind == T_NAME && text_equal(peek(c)->text, n->text))
        advance(c);
    if (required) /* nothing can ever provide it */
        n->kind = N_NO_LOADER;
    return over_bodies(c, n) ? n : NULL;
}

static struct node *parse_autoescape(struct compiler *c, uint32_t line)
{
    struct node *n = node_new(c, N_AUTOESCAPE, line);
    return n && (n->a = parse_expression(c, true)) && node_over(c, n, n->a) &&
                   parse_block_body(c, &n->body, "endautoescape", true) && over_bodies(c, n)
               ? n
               : NULL;
}

static struct node *parse_print(struct compiler *c, uint32_t line)
{
    struct node *n = node_new(c, N_OUTPUT, line);
    while (n && peek(c)->kind != T_BLOCK_END) {
        if (n->items.count && !expect(c, T_COMMA, "','"))
            return NULL;
        struct node *value = parse_expression(c, true);
        if (!value || !node_over(c, n, value) || !node_list_add(c, &n->items, value))
            return NULL;
    }
    return n;
}

/* include, import, from, extends: read like jinja2, fail when reached, as there is no loader. */
static struct node *parse_loading(struct compiler *c, uint32_t line, const struct text *tag)
{
    struct node *n = node_new(c, N_NO_LOADER, line);
    if (!n || !(n->a = parse_expression(c, true)) || !node_over(c, n, n->a))
        return NULL;
    n->text = tag;
    if (text_is(tag, "import") && (!skip_name(c, "as") || !parse_name_target(c))) {
        compile_fail(c, line, "import needs 'as NAME'");
        return NULL;
    }
    while (peek(c)->kind == T_NAME || peek(c)->kind == T_COMMA)
        advance(c); /* names, ignore missing, with context */
    return n;
}

static struct node *parse_simple(struct compiler *c, uint32_t line, enum node_kind kind) { return node_new(c, kind, line); }
static struct node *parse_break(struct compiler *c, uint32_t line) { return parse_simple(c, line, N_BREAK); }
static struct node *parse_continue(struct compiler *c, uint32_t line) { return parse_simple(c, line, N_CONTINUE); }

static const struct {
    const char *tag;
    struct node *(*parse)(struct compiler *c, uint32_t line);
} statements[] = {
    {"if", parse_if},         {"for", parse_for},           {"set", parse_set},
    {"macro", parse_macro},   {"call", parse_call_block},   {"filter", parse_filter_block},
    {"with", parse_with},     {"generation", parse_generation}, {"block", parse_block},
    {"print", parse_print},   {"autoescape", parse_autoescape}, {"break", parse_break},
    {"continue", parse_continue},
};

static struct node *parse_statement(struct compiler *c)
{
    const struct token *t = expect(c, T_NAME, "the name of a tag");
    if (!t)
        return NULL;
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++)
        if (text_is(t->text, statements[i].tag))
            return statements[i].parse(c, t->line);
    if (text_is(t->text, "include") || text_is(t->text, "import") || text_is(t->text, "from") || text_is(t->text, "extends"))
        return parse_loading(c, t->line, t->text);
    compile_fail(c, t->line, "unknown tag '%s'", WORDS(t));
    return NULL;
}

bool compile_statements(struct compiler *c) { return parse_body(c, &c->template->body, NULL); }
