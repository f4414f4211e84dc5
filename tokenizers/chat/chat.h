/* The template engine's inside: values, the tree of a compiled template, and what its files offer each other.
 *
 *   text -> lexer.c -> parser.c, expressions.c -> scope.c (names become slots) -> tree
 *   tree + context -> render.c: execute.c (statements), evaluate.c (expressions) -> text with marks
 *
 * Semantics are Python's and jinja2 3.1's, in the sandbox that transformers sets up. Functions that compute return
 * false once jinja_fail() has set the message; the caller only passes that on. */
#ifndef TOKENIZERS_CHAT_CHAT_H
#define TOKENIZERS_CHAT_CHAT_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "base/arena.h"
#include "base/json.h"
#include "base/status.h"
#include "base/str.h"
#include "tokenizers/tokenizers.h"

/* ---- values --------------------------------------------------------------------------------------------------------- */

enum kind {
    K_MISSING, /* no value: a variable never set, an argument not given; never seen by a template */
    K_UNDEFINED,
    K_NONE,
    K_BOOL,
    K_INT,
    K_BIG, /* an integer that int64 cannot hold */
    K_FLOAT,
    K_STRING,
    K_LIST,
    K_TUPLE,
    K_DICT,
    K_RANGE,
    K_VIEW,     /* d.keys(), d.values(), d.items() */
    K_ITERATOR, /* what map, select, ... give: yields each item once */
    K_NAMESPACE,
    K_MACRO,
    K_LOOP,
    K_METHOD,   /* bound: 'abc'.upper */
    K_FUNCTION, /* range, raise_exception, ... */
    K_CYCLER,
    K_JOINER,
    K_SELF,  /* self, and self.NAME */
    K_BLOCK,
};

struct value {
    uint8_t kind; /* enum kind */
    bool safe;    /* K_STRING: Markup, not to be escaped again */
    union {
        bool truth;
        int64_t integer;
        double real;
        const struct big *big;
        const struct text *text;
        const struct list *list; /* K_LIST, K_TUPLE */
        const struct dict *dict;
        const struct range *range;
        const struct view *view;
        struct iter *iter;
        struct namespace *space;
        const struct macro *macro;
        struct loop *loop;
        const struct bound *bound;
        const struct function *function;
        struct cycler *cycler;
        struct joiner *joiner;
        const struct node *block;
        const struct undefined *undefined;
        const void *object;
    };
};

#define NONE_VALUE ((struct value){.kind = K_NONE})
#define MISSING_VALUE ((struct value){.kind = K_MISSING})
#define BOOL_VALUE(t) ((struct value){.kind = K_BOOL, .truth = (t)})
#define INT_VALUE(i) ((struct value){.kind = K_INT, .integer = (i)})
#define FLOAT_VALUE(d) ((struct value){.kind = K_FLOAT, .real = (d)})
#define TEXT_VALUE(t) ((struct value){.kind = K_STRING, .text = (t)})

enum { COUNT_UNKNOWN = UINT32_MAX };

/* A string, immutable. Every byte is marked as the template's own or the request's; most strings are of one kind,
 * and only where both meet is there a mark per byte. Slices share bytes and marks with what they were cut from. */
struct text {
    const char *data;  /* UTF-8 */
    const bool *marks; /* NULL: all bytes are as `own` says */
    uint32_t size;
    uint32_t count; /* code points */
    bool own;       /* from the template */
};

struct list {
    const struct value *items;
    uint32_t count;
    bool group; /* groupby's pair: has .grouper and .list */
};

struct entry {
    struct value key, value;
    uint32_t hash;
};

struct dict { /* in order of insertion */
    struct entry *entries;
    uint32_t count, capacity;
    uint32_t *index; /* hash table of entry numbers + 1, once there are more than a few */
    uint32_t index_size;
};

struct range {
    int64_t start, stop, step, count;
};

enum view_type { VIEW_KEYS, VIEW_VALUES, VIEW_ITEMS };
struct view {
    enum view_type type;
    const struct dict *dict;
};

struct namespace {
    struct dict attributes;
};

struct undefined {
    const struct text *name; /* the variable, attribute or key that was not there */
    const char *hint;        /* or the whole message */
    struct value element;    /* or a key that is no string */
    uint8_t owner;           /* enum kind of what was asked, K_MISSING for a variable */
    bool unsafe;             /* exists in Python, but the sandbox refuses it */
};

struct keyword {
    const struct text *name;
    struct value value;
};

struct args {
    const struct value *items;
    uint32_t count;
    const struct keyword *named;
    uint32_t named_count;
};

struct vm;
/* Methods, filters and tests alike: self is what they are applied to. */
typedef bool jinja_function(struct vm *vm, struct value self, const struct args *args, struct value *out);

struct function {
    const char *name;
    jinja_function *call; /* self is the function */
    const char *printed;  /* classes: how Python shows them */
};

struct method {
    uint8_t kind; /* enum kind of self */
    const char *name;
    jinja_function *call; /* NULL: the sandbox refuses it */
};

struct bound {
    struct value self;
    const struct method *method;
};

struct cycler {
    const struct list *items;
    uint32_t at;
};

struct joiner {
    struct value separator;
    bool used;
};

/* ---- the tree ------------------------------------------------------------------------------------------------------- */

enum node_kind {
    N_CONST, N_NAME, N_TUPLE, N_LIST, N_DICT, N_GETATTR, N_GETITEM, N_SLICE, N_CALL, N_FILTER, N_TEST,
    N_NOT, N_NEG, N_POS, N_AND, N_OR, N_BINARY, N_CONCAT, N_COMPARE, N_COND, N_NSREF, N_BUFFER,
    N_OUTPUT, N_DATA, N_IF, N_FOR, N_SET, N_SET_BLOCK, N_MACRO, N_CALL_BLOCK, N_FILTER_BLOCK, N_WITH,
    N_BLOCK, N_AUTOESCAPE, N_BREAK, N_CONTINUE, N_NO_LOADER,
};

enum operator { OP_ADD, OP_SUB, OP_MUL, OP_DIV, OP_FLOORDIV, OP_MOD, OP_POW };
enum comparison { CMP_EQ, CMP_NE, CMP_LT, CMP_LE, CMP_GT, CMP_GE, CMP_IN, CMP_NOT_IN };

struct nodes {
    struct node **items;
    uint32_t count, capacity;
};

struct call_args {
    struct nodes items;          /* positional */
    struct nodes named;          /* values of keywords */
    const struct text **names;   /* their names */
    struct node *star, *stars;   /* *args, **kwargs */
};

/* What a scope does with its variables when it is entered (jinja2's idtracking). */
enum load { LOAD_PARAMETER, LOAD_RESOLVE, LOAD_ALIAS, LOAD_UNDEFINED };
struct slot {
    const struct text *name;
    uint8_t load;       /* enum load */
    uint16_t up, index; /* LOAD_ALIAS: scopes outward from the parent, slot there */
};
struct scope {
    struct slot *slots;
    uint32_t count;
};

struct node {
    uint8_t kind;     /* enum node_kind */
    uint8_t op;       /* enum operator; N_COMPARE: unused; N_OUTPUT, N_CONCAT: enum escaping */
    bool flag;        /* N_FOR: recursive; N_NAME: a target; N_SET, N_MACRO: also seen by blocks; N_BLOCK: scoped */
    bool extended;    /* N_FOR: the body uses loop */
    uint16_t depth;   /* of the tree below */
    uint16_t up, slot; /* N_NAME, N_NSREF, N_MACRO: where the variable lies */
    uint32_t line;
    struct node *a, *b, *c;
    struct nodes items, body, orelse; /* N_FOR: items[0] is the target as the loop's own if sees it */
    const struct text *text, *attribute;
    struct value value;
    struct call_args *args;
    const uint8_t *ops; /* N_COMPARE: enum comparison each */
    jinja_function *function; /* N_FILTER, N_TEST; NULL: unknown, fails when reached */
    struct scope *scope, *test_scope, *else_scope;
    struct signature *signature; /* N_MACRO, N_CALL_BLOCK */
};

enum escaping { ESCAPE_NO, ESCAPE_YES, ESCAPE_ASK };

struct signature {
    struct nodes parameters; /* N_NAME each */
    struct nodes defaults;   /* of the last ones */
    int caller, kwargs, varargs; /* slots, -1: not mentioned in the body */
    bool explicit_caller;    /* a parameter is called caller */
};

struct chat_template {
    struct arena arena;
    char *name;
    struct nodes body;
    struct scope *scope;
    struct nodes blocks; /* N_BLOCK each */
    struct arena numbers; /* big integers of the text */
    int self_slot;       /* -1: self is not mentioned */
};

/* ---- running -------------------------------------------------------------------------------------------------------- */

/* Variables of one scope in one run. */
struct env {
    struct env *parent;
    struct dict *exported; /* what the template set at its top, as the blocks of this place see it; NULL: no blocks */
    struct value *slots;
};

struct macro {
    const struct node *node; /* N_MACRO or N_CALL_BLOCK */
    struct env *env;         /* where it was defined */
};

/* Bytes with a mark each, growing; used as a stack. */
struct pile {
    char *data;
    bool *marks;
    size_t size, capacity, limit;
};

enum iter_type {
    ITER_EMPTY, ITER_LIST, ITER_LIST_REVERSED, ITER_STRING, ITER_KEYS, ITER_VALUES, ITER_ITEMS, ITER_RANGE,
    ITER_NESTED, ITER_LAZY_ITEMS, ITER_MAP, ITER_SELECT, ITER_UNIQUE, ITER_BATCH, ITER_FILTERED,
};

struct iter {
    uint8_t type; /* enum iter_type */
    bool begun;
    union {
        struct {
            const struct value *items;
            uint32_t count, at;
        };
        struct {
            const struct text *text;
            uint32_t offset;
            bool safe;
        };
        struct {
            const struct dict *dict;
            uint32_t entry;
        };
        struct {
            int64_t next, step, left;
        };
        struct iter *inner;
        struct pipeline *pipeline;
    };
};

/* What a lazy filter does to each item. */
struct pipeline {
    struct value source;
    struct iter from;
    bool invert, case_sensitive, has_path, done;
    struct value path;      /* attribute=... */
    struct value fallback;  /* default=... */
    jinja_function *function;
    struct args args;
    struct dict *seen;
    int64_t size; /* batch */
    const struct node *loop; /* ITER_FILTERED: for ... if ... */
    struct env *env, *test_env;
};

struct loop {
    struct iter iter;
    struct value iterable;
    struct value current, before, after, changed;
    int64_t index0, length; /* length -1: not known yet */
    int depth0;
    const struct node *node; /* NULL: not recursive */
    struct env *env;
};

struct vm {
    const struct chat_template *template;
    struct arena arena;
    struct chat_limits limits;
    uint64_t steps;
    int depth;
    const char *stack; /* the address where rendering began: bounds what recursion may take */
    uint32_t line;
    struct pile out, scratch;
    struct dict *context, *exported; /* exported: see struct env */
    bool autoescape;
    struct tm now;
    uint64_t random;
    struct error *err;
    enum status status;
};

enum flow { FLOW_FAIL, FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE };

/* limits.c: counting, and the words of failure. */
bool jinja_fail(struct vm *vm, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool jinja_memory(struct vm *vm);
bool jinja_step_limit(struct vm *vm);
bool jinja_deep(struct vm *vm); /* recursion has used up its stack: fails; else true */
static inline bool jinja_step(struct vm *vm) { return ++vm->steps <= vm->limits.steps || jinja_step_limit(vm); }
/* Work over size bytes: a step for each 64. */
static inline bool jinja_work(struct vm *vm, uint64_t size)
{
    vm->steps += 1 + size / 64;
    return vm->steps <= vm->limits.steps || jinja_step_limit(vm);
}
void *jinja_alloc(struct vm *vm, size_t count, size_t size); /* zeroed; NULL after failing */
const char *jinja_type(const struct value *v);                /* Python's name of its type */

/* text.c: strings. */
bool pile_add(struct vm *vm, struct pile *p, const char *bytes, size_t size, bool own);
bool pile_add_word(struct vm *vm, struct pile *p, const char *word); /* NUL-terminated, the template's own */
bool pile_add_text(struct vm *vm, struct pile *p, const struct text *t);
bool pile_add_slice(struct vm *vm, struct pile *p, const struct text *t, uint32_t from, uint32_t size); /* bytes */
bool pile_add_like(struct vm *vm, struct pile *p, const struct text *t, uint32_t at, const char *bytes, size_t size); /* marked as t's byte at */
bool pile_repeat(struct vm *vm, struct pile *p, const struct text *t, int64_t times);
void pile_free(struct pile *p);
size_t build_begin(struct vm *vm);                            /* builds on vm->scratch */
bool build_end(struct vm *vm, size_t begin, struct value *out);
bool pile_take(struct vm *vm, struct pile *p, size_t begin, struct value *out);
bool text_new(struct vm *vm, const char *bytes, size_t size, bool own, struct value *out); /* copies */
bool text_word(struct vm *vm, const char *word, struct value *out);                        /* static, not copied */
bool text_slice(struct vm *vm, const struct text *t, uint32_t from, uint32_t size, struct value *out); /* bytes */
uint32_t text_count(const struct text *t);           /* code points */
uint32_t text_offset(const struct text *t, uint32_t index); /* of a code point, in bytes */
int64_t text_find(const struct text *t, uint32_t from, const struct text *what); /* bytes, -1 */
bool text_find_last(struct vm *vm, const struct text *t, uint32_t from, uint32_t to, const struct text *what, int64_t *at);
bool text_is(const struct text *t, const char *word);
bool text_equal(const struct text *a, const struct text *b);
int text_order(const struct text *a, const struct text *b);
bool text_trim(struct vm *vm, const struct text *t, const struct text *chars, bool left, bool right, struct value *out);
bool text_escape(struct vm *vm, struct pile *p, const struct text *t); /* HTML */
bool jinja_escape(struct vm *vm, struct value v, struct value *out);   /* markupsafe.escape */
bool jinja_as_text(struct vm *vm, struct value v, const struct text **out);
extern const struct text text_empty;

/* unicode.c: Python's classes and case. */
enum letter_case { CASE_LOWER, CASE_UPPER, CASE_TITLE, CASE_SWAP, CASE_FOLD };
bool unicode_is_space(uint32_t c);
bool unicode_is_line_end(uint32_t c);
bool unicode_is_printable(uint32_t c);
bool unicode_is_alpha(uint32_t c);
bool unicode_is_decimal(uint32_t c);
bool unicode_is_digit(uint32_t c);
bool unicode_is_numeric(uint32_t c);
bool unicode_is_upper(uint32_t c);
bool unicode_is_lower(uint32_t c);
bool unicode_is_title(uint32_t c);
bool unicode_is_cased(uint32_t c);
int unicode_digit(uint32_t c); /* 0..9, -1 */
bool unicode_is_name(uint32_t c, bool first);
int unicode_map(uint32_t c, enum letter_case to, uint32_t out[3]); /* number written */
bool text_change_case(struct vm *vm, struct pile *p, const struct text *t, enum letter_case to);
bool text_capitalize(struct vm *vm, struct pile *p, const struct text *t);
bool text_title(struct vm *vm, struct pile *p, const struct text *t);

/* big.c: integers of any size (up to BIG_LIMBS). */
enum { BIG_LIMBS = 2200 }; /* 32 bits each: about 21,000 digits */
struct big {
    bool negative;
    uint32_t size; /* limbs, the highest is not 0 */
    const uint32_t *limbs;
};
bool big_parse(struct vm *vm, const char *digits, size_t size, int base, bool negative, struct value *out);
bool big_print(struct vm *vm, struct pile *p, const struct big *b);
bool big_print_base(struct vm *vm, struct pile *p, struct value v, int base, bool upper); /* magnitude */
bool big_binary(struct vm *vm, enum operator op, struct value a, struct value b, struct value *out); /* K_INT, K_BIG */
bool big_from_double(struct vm *vm, double d, struct value *out);
double big_to_double(const struct big *b); /* infinite when too large */
int big_compare(struct value a, struct value b);
bool big_is_odd(const struct big *b);
bool big_negate(struct vm *vm, const struct big *b, struct value *out);

/* numbers.c */
bool is_number(const struct value *v);  /* bool, int, float */
bool is_integer(const struct value *v); /* bool, int */
struct value as_integer(struct value v); /* True -> 1 */
bool number_as_double(struct vm *vm, struct value v, double *out);
bool number_binary(struct vm *vm, enum operator op, struct value a, struct value b, struct value *out);
int number_compare(struct value a, struct value b); /* -1, 0, 1; 2: unordered */
size_t float_print(double d, char out[40]);         /* Python's repr */
bool number_parse_int(struct vm *vm, const struct text *t, int base, struct value *out, bool *valid);
bool number_parse_float(const struct text *t, double *out);
bool number_round(struct vm *vm, struct value v, int64_t digits, struct value *out);
bool jinja_as_int(struct vm *vm, struct value v, int64_t *out);

/* values.c */
bool jinja_undefined(struct vm *vm, const struct text *name, enum kind owner, struct value *out);
bool jinja_undefined_hint(struct vm *vm, const char *hint, struct value *out);
bool jinja_fail_undefined(struct vm *vm, struct value v);
bool jinja_truth(struct vm *vm, struct value v, bool *out);
bool jinja_equal(struct vm *vm, struct value a, struct value b, bool *out);
bool jinja_less(struct vm *vm, struct value a, struct value b, enum comparison op, bool *out);
bool jinja_same(struct value a, struct value b); /* Python's `is` */
bool jinja_hash(struct vm *vm, struct value v, uint32_t *out);
bool jinja_length(struct vm *vm, struct value v, int64_t *out, bool *has); /* has NULL: fails if there is none */
bool jinja_from_json(struct vm *vm, const struct json *j, struct value *out);
bool list_new(struct vm *vm, enum kind kind, const struct value *items, uint32_t count, struct value *out); /* keeps items */

/* dict.c */
bool dict_set(struct vm *vm, struct dict *d, struct value key, struct value value);
bool dict_get(struct vm *vm, const struct dict *d, struct value key, const struct value **out); /* NULL: absent */
const struct value *dict_find(const struct dict *d, const struct text *key);
struct dict *dict_new(struct vm *vm, uint32_t capacity);
bool dict_from_pairs(struct vm *vm, struct dict *d, struct value source);

/* print.c */
bool jinja_print(struct vm *vm, struct pile *p, struct value v);      /* str() */
bool jinja_repr(struct vm *vm, struct pile *p, struct value v);       /* repr() */
bool jinja_str(struct vm *vm, struct value v, struct value *out);     /* str() as a value, plain */
bool jinja_soft_str(struct vm *vm, struct value v, struct value *out); /* a string stays as it is */
bool jinja_ascii(struct vm *vm, struct pile *p, struct value v);      /* ascii() */

/* json_out.c */
bool filter_tojson(struct vm *vm, struct value self, const struct args *args, struct value *out);

/* iterate.c */
bool iter_begin(struct vm *vm, struct value v, struct iter *it);
int iter_next(struct vm *vm, struct iter *it, struct value *out); /* 1, 0 at the end, -1 failed */
bool iter_possible(struct value v);
bool iter_collect(struct vm *vm, struct value v, struct value **items, uint32_t *count);
bool iter_value(struct vm *vm, enum iter_type type, struct pipeline *p, struct value *out);
bool pipeline_attribute(struct vm *vm, struct value item, struct value path, struct value fallback, struct value *out);
bool jinja_ignore_case(struct vm *vm, struct value v, struct value *out);

/* lookup.c: attributes and items. */
bool jinja_getattr(struct vm *vm, struct value v, const struct text *name, struct value *out);
bool jinja_getitem(struct vm *vm, struct value v, struct value key, struct value *out);
bool jinja_attribute(struct vm *vm, struct value v, const struct text *name, struct value *out, bool *found);
bool jinja_slice(struct vm *vm, struct value v, struct value start, struct value stop, struct value step, struct value *out);

/* operators.c */
bool jinja_binary(struct vm *vm, enum operator op, struct value a, struct value b, struct value *out);
bool jinja_compare(struct vm *vm, enum comparison op, struct value a, struct value b, bool *out);
bool jinja_contains(struct vm *vm, struct value container, struct value v, bool *out);
bool jinja_sort(struct vm *vm, struct value *items, struct value *keys, uint32_t count, bool reverse);

/* arguments.c: parameters "a b? /": by name; '?' optional, what stands before '/' only by position. */
bool jinja_bind(struct vm *vm, const char *function, const char *spec, const struct args *args, struct value *out);
bool jinja_flag(struct vm *vm, struct value v, bool otherwise, bool *out); /* truth, or otherwise if K_MISSING */
bool jinja_int_or(struct vm *vm, struct value v, int64_t otherwise, int64_t *out);

/* evaluate.c */
bool jinja_eval(struct vm *vm, struct env *env, const struct node *n, struct value *out);
bool jinja_eval_args(struct vm *vm, struct env *env, const struct call_args *args, struct value caller, struct args *out);
bool jinja_eval_filter(struct vm *vm, struct env *env, const struct node *n, struct value buffer, struct value *out);
bool jinja_call(struct vm *vm, struct value callee, const struct args *args, struct value *out);

/* execute.c */
enum flow jinja_execute(struct vm *vm, struct env *env, const struct nodes *body);
struct env *jinja_enter(struct vm *vm, struct env *parent, const struct scope *scope, struct env *reuse);
bool jinja_assign(struct vm *vm, struct env *env, const struct node *target, struct value v);
bool jinja_run_block(struct vm *vm, struct env *env, const struct node *block);

/* macros.c, loops.c */
bool macro_call(struct vm *vm, const struct macro *m, const struct args *args, struct value *out);
enum flow loop_run(struct vm *vm, struct env *env, const struct node *n);
bool loop_recurse(struct vm *vm, struct loop *outer, const struct args *args, struct value *out);
bool loop_attribute(struct vm *vm, struct loop *l, const struct text *name, struct value *out, bool *found);
bool loop_length(struct vm *vm, struct loop *l, int64_t *out);

/* Tables: filters.def, tests.def, methods.def, globals.c. */
jinja_function *jinja_find_filter(const char *name, size_t size);
jinja_function *jinja_find_test(const char *name, size_t size);
const struct method *jinja_find_method(enum kind kind, const struct text *name);
const struct function *jinja_find_global(const struct text *name);
#define FILTER(name, function) jinja_function function;
#include "tokenizers/chat/filters.def"
#undef FILTER
#define TEST(name, function) jinja_function function;
#include "tokenizers/chat/tests.def"
#undef TEST
#define METHOD(kind, name, function) jinja_function function;
#define REFUSED(kind, name)
#include "tokenizers/chat/methods.def"
#undef METHOD
#undef REFUSED

/* format.c: % and str.format. */
bool format_percent(struct vm *vm, struct value format, struct value arguments, struct value *out);
bool format_spec(struct vm *vm, struct pile *p, struct value v, const struct text *spec);

/* ---- compiling ------------------------------------------------------------------------------------------------------ */

enum token_kind {
    T_EOF, T_DATA, T_VARIABLE_BEGIN, T_VARIABLE_END, T_BLOCK_BEGIN, T_BLOCK_END, T_NAME, T_STRING, T_INTEGER, T_FLOAT,
    T_ADD, T_SUB, T_DIV, T_FLOORDIV, T_MUL, T_MOD, T_POW, T_TILDE, T_LBRACKET, T_RBRACKET, T_LPAREN, T_RPAREN, T_LBRACE,
    T_RBRACE, T_EQ, T_NE, T_GT, T_GTEQ, T_LT, T_LTEQ, T_ASSIGN, T_DOT, T_COLON, T_PIPE, T_COMMA, T_SEMICOLON,
};

struct token {
    uint8_t kind;
    uint32_t line;
    const struct text *text; /* T_DATA, T_NAME, T_STRING */
    struct value value;      /* T_INTEGER, T_FLOAT */
};

enum { TREE_DEPTH = 200 }; /* nesting of expressions and blocks: what Python's own parser allows, too */

struct compiler {
    struct chat_template *template;
    struct vm vm; /* only its arena, err and line: strings and numbers are made by the same functions */
    struct token *tokens;
    uint32_t count, at, capacity;
    int depth;
};

bool compile_fail(struct compiler *c, uint32_t line, const char *format, ...) __attribute__((format(printf, 3, 4)));
bool compile_tokens(struct compiler *c, const char *text, size_t size); /* lexer.c */
bool compile_statements(struct compiler *c);                             /* parser.c */
bool compile_scopes(struct compiler *c);                                 /* scope.c */
const char *token_words(const struct token *t, struct quoted *out);

/* Shared by parser.c and expressions.c; NULL or false after failing. */
struct node *node_new(struct compiler *c, enum node_kind kind, uint32_t line);
bool node_list_add(struct compiler *c, struct nodes *list, struct node *n);
bool node_over(struct compiler *c, struct node *n, const struct node *child); /* depth of n at least that of child + 1 */
static inline const struct token *peek(const struct compiler *c) { return &c->tokens[c->at]; }
static inline const struct token *advance(struct compiler *c)
{
    const struct token *t = &c->tokens[c->at];
    c->at += t->kind != T_EOF;
    return t;
}
bool at_name(const struct compiler *c, const char *name);
bool skip_name(struct compiler *c, const char *name);
bool skip_token(struct compiler *c, enum token_kind kind);
const struct token *expect(struct compiler *c, enum token_kind kind, const char *words);
struct node *parse_expression(struct compiler *c, bool conditional);
struct node *parse_tuple(struct compiler *c, bool conditional, const char *end, bool parentheses);
struct node *parse_target(struct compiler *c, const char *end, bool with_namespace);
struct node *parse_primary(struct compiler *c, bool with_namespace);
struct node *parse_constant(struct compiler *c, uint32_t line, struct value v);
/* A node over two children (b may be NULL); NULL if a child is missing because it failed. */
struct node *node_above(struct compiler *c, enum node_kind kind, uint32_t line, struct node *a, struct node *b);

/* postfix.c */
struct node *parse_filter(struct compiler *c, struct node *n, bool begun);
struct node *parse_test(struct compiler *c, struct node *subject);
struct node *parse_call(struct compiler *c, struct node *callee);
struct node *parse_postfix(struct compiler *c, struct node *n);

/* mentions.c */
bool mentions_read(const struct nodes *body, const char *name);  /* read before it is set */
bool mentions_set_loop(const struct node *n);                    /* loop is the target of a set or for below n */
bool mentions_scoped_block(const struct nodes *body);

#endif
