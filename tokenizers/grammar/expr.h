/* Languages as expressions over bytes: regular operators, intersection, complement, counted repetition and calls of rules.
 *
 * Expressions are numbers in a pool; equal ones are one (hash-consed), so states can be compared and remembered by number.
 * Instead of building an automaton, an expression is derived by what was read (Brzozowski 1964; Owens, Reppy, Turon 2009):
 * what is left of it is an expression again. Counted repetition stays a node with two numbers and is never copied out.
 *
 * Functions never report failure by themselves: a pool that ran out of memory or patience has `failed` set, everything is
 * then NONE, and the owner checks once at the end. */
#ifndef TOKENIZERS_GRAMMAR_EXPR_H
#define TOKENIZERS_GRAMMAR_EXPR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef uint32_t expr;
enum { NONE = 0, EMPTY = 1 }; /* no text; the empty text */
#define UNLIMITED UINT32_MAX

enum expr_kind { KIND_NONE, KIND_EMPTY, KIND_BYTES, KIND_CONCAT, KIND_OR, KIND_AND, KIND_NOT, KIND_REPEAT, KIND_CALL, KIND_MULTIPLE };

struct byte_set {
    uint64_t word[4];
};

/* Children have smaller numbers than their parent. */
struct expr_node {
    uint8_t kind;
    bool nullable;  /* the empty text is in it (calls do not count: see recogniser.c) */
    bool calls;     /* a CALL is inside; never under AND and NOT */
    bool logic;     /* an AND or NOT is inside */
    bool counts;    /* a REPEAT is inside whose bounds no token can use up */
    bool finite;    /* few texts: nothing is repeated without end */
    uint8_t alive;  /* whether AND and NOT hold any text: found out when asked */
    uint8_t whole;  /* whether it holds every plain character: found out when asked (plain.c) */
    uint8_t loops;  /* whether all text without '<' leads back to it: the same */
    uint16_t depth;
    uint32_t a, b;  /* BYTES: a = set. CONCAT: a b. OR, AND: b members at list a. NOT, REPEAT: a. CALL: a = rule. MULTIPLE: below */
    uint32_t lo, hi; /* REPEAT: bounds */
    struct byte_set first; /* no text in it begins with any other byte; spares most derivations their entry in a table */
};

struct rule {
    expr body;
    bool nullable, productive;
};

struct derived {
    uint32_t expr, symbol, result;
};

/* Decimal numbers that are multiples of modulus / 10^scale. A state is the remainder and how many decimals were read. */
struct multiple {
    uint64_t modulus;
    uint32_t scale;
};

struct pool {
    struct expr_node *nodes;
    uint32_t count, capacity;
    uint32_t *lists, list_count, list_capacity;
    struct byte_set *sets;
    uint32_t set_count, set_capacity;
    struct multiple *multiples;
    uint32_t multiple_count, multiple_capacity;
    struct rule *rules;
    uint32_t rule_count, rule_capacity;
    uint32_t *index, index_mask;      /* expression + 1 by hash */
    struct derived *derived;          /* by hash; symbol + 1, 0: free */
    uint32_t derived_count, derived_mask;
    /* Bytes that no set tells apart are one class, spoken for by its smallest byte. */
    uint8_t speaker[256];
    uint8_t speakers[256];
    int speaker_count;
    size_t bytes, limit;              /* memory */
    enum status failed;
    const char *reason;
};

/* What a derivation reads: a byte, or a whole call of a rule. */
enum { SYMBOL_CALL = 256 };

void pool_init(struct pool *p, size_t limit);
void pool_free(struct pool *p);
void pool_fail(struct pool *p, enum status status, const char *reason); /* the first counts */
bool pool_grow(struct pool *p, void *array, uint32_t *capacity, uint32_t wanted, size_t item);

expr expr_byte(struct pool *p, unsigned char byte);
expr expr_bytes(struct pool *p, const struct byte_set *set);
expr expr_text(struct pool *p, const char *text, size_t size);
expr expr_concat(struct pool *p, expr a, expr b);
expr expr_or(struct pool *p, const expr *members, uint32_t count);
expr expr_or2(struct pool *p, expr a, expr b);
/* AND and NOT take expressions without calls; the result is NONE where no text is left. */
expr expr_and(struct pool *p, const expr *members, uint32_t count);
expr expr_and2(struct pool *p, expr a, expr b);
expr expr_not(struct pool *p, expr a); /* of all byte strings */
expr expr_minus(struct pool *p, expr a, expr b);
expr expr_repeat(struct pool *p, expr a, uint32_t lo, uint32_t hi);
expr expr_call(struct pool *p, uint32_t rule);
/* Unsigned decimal digits (with decimals where scale > 0) of a multiple of modulus / 10^scale; modulus < 2^60 */
expr expr_multiple(struct pool *p, uint64_t modulus, uint32_t scale);
/* A choice of many texts, common beginnings shared. The list is sorted in place. */
struct text_range {
    const char *text;
    size_t size;
};
expr expr_texts(struct pool *p, struct text_range *texts, size_t count);

uint32_t pool_rule(struct pool *p); /* a new rule, its body NONE */

/* What is left of e behind a byte or a call. */
expr expr_derive(struct pool *p, expr e, uint32_t symbol);
bool expr_matches(struct pool *p, expr e, const char *text, size_t size); /* without calls */
bool expr_alive(struct pool *p, expr e);
/* The same as far as `limit` bytes can tell: bounds beyond are as good as none. */
expr expr_clamp(struct pool *p, expr e, uint32_t limit);

/* Forgets expressions from number count on, and everything derived. Clears a failure. */
void pool_truncate(struct pool *p, uint32_t count);

/* private to expr.c, derive.c, tidy.c */
struct byte_set expr_first(const struct pool *p, const struct expr_node *n);
expr expr_raw_and(struct pool *p, const expr *members, uint32_t count);
expr expr_raw_not(struct pool *p, expr a);
expr expr_multiple_state(struct pool *p, uint32_t multiple, uint32_t decimals, uint64_t remainder);
enum { BEFORE_DIGITS = UINT32_MAX, IN_INTEGER = UINT32_MAX - 1, AFTER_ZERO = UINT32_MAX - 2, AFTER_POINT = UINT32_MAX - 3 };

#endif
