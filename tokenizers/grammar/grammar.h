/* A compiled grammar: rules as expressions, and what the recogniser has learnt about them.
 *
 * Front ends (schema/, regex.c, gbnf.c, lark.c) write rules into the pool; grammar_finish() takes out what can never end and
 * refuses what is empty. recogniser.c then reads bytes; mask.c reads all tokens of a vocabulary at once. */
#ifndef TOKENIZERS_GRAMMAR_GRAMMAR_H
#define TOKENIZERS_GRAMMAR_GRAMMAR_H

#include <pthread.h>
#include <stdatomic.h>

#include "tokenizers/grammar/expr.h"
#include "tokenizers/tokenizers.h"

/* The recogniser is Earley's (1970) with expressions in place of dotted rules: an item is what is left of a rule and the set
 * where the rule began. Sets are kept once each (hash-consed), so a text that comes by the same place again finds the same
 * set, its transitions and its masks. */
struct item {
    uint32_t rule;
    expr left;
    uint32_t origin;
};

struct waiter {
    uint32_t rule; /* that an item waits for */
    uint32_t item;
};

struct set {
    uint32_t items, kernel_count, item_count; /* kernel first, then what follows from it */
    uint32_t waiters, waiter_count;
    uint32_t *next;                           /* by class of byte; 0: not known yet */
    struct inner *inner;                      /* mask.c; NULL: not known yet */
    struct inner *mask;
    bool accepts;                             /* the whole text may end here */
};
enum { SET_OUTSIDE = 0, SET_DEAD = 1 };       /* OUTSIDE: origin of the whole text */

struct recogniser {
    struct set *sets;
    uint32_t set_count, set_capacity;
    struct item *items;
    uint32_t item_count, item_capacity;
    struct waiter *waiters;
    uint32_t waiter_count, waiter_capacity;
    uint32_t *index, index_mask; /* set by hash of its kernel, 0: free */
    /* while a set is being made */
    struct item *kernel;
    uint32_t kernel_count, kernel_capacity;
    uint32_t *seen, seen_mask, *predicted, predicted_capacity, round;
};

struct grammar {
    atomic_int references;
    pthread_mutex_t lock; /* guards all below, once states exist */
    struct pool pool;
    struct recogniser r;
    uint8_t class_of[256];
    int class_count;
    uint32_t start;       /* the set before the first byte */
    expr any_char;        /* one character in UTF-8 */
    uint32_t frozen;      /* expressions of the grammar itself; those behind were derived */
    struct grammar_state *states;
    uint64_t vocabulary;  /* whose masks are remembered */
};

struct grammar_state {
    struct grammar *grammar;
    struct grammar_state *next, **link; /* the grammar's list */
    uint32_t set;
    bool ended; /* took a token that ends the answer */
};

/* Makes a grammar whose texts are those of rule 0 of pool, which is taken over in any case. */
enum status grammar_finish(struct grammar **out, struct pool *pool, struct error *err);
/* The pool's failure as an error. */
enum status pool_error(const struct pool *p, const char *what, struct error *err);

/* Recogniser; the lock held. Sets are SET_DEAD when the pool failed. */
enum status recogniser_open(struct grammar *g, struct error *err);
void recogniser_free(struct recogniser *r);
uint32_t set_step(struct grammar *g, uint32_t set, unsigned char byte);
/* The set of one item on its own: (left, from OUTSIDE). */
uint32_t set_alone(struct grammar *g, expr left);
/* The set right behind a rule that began in origin. */
uint32_t set_behind(struct grammar *g, uint32_t rule, uint32_t origin);
/* Forgets what no state needs when memory grows beyond its limit. STATUS_NO_ROOM: all of it is needed. */
enum status recogniser_tidy(struct grammar *g, struct error *err);

/* Plain characters (nothing that JSON escapes) that are allowed whatever they are, at least: how many. */
uint32_t plain_reach(struct grammar *g, expr e);
/* Whether whole characters are allowed without end, '<' aside: what stands between tags. */
bool text_loops(struct grammar *g, expr e);

/* tidy.c: the recogniser empty but for the two fixed sets; one set anew with its numbers translated. */
bool recogniser_reset(struct grammar *g);
uint32_t set_renew(struct grammar *g, const struct item *kernel, uint32_t count, const expr *exprs, const uint32_t *sets);

void inner_free(struct inner *inner);

#endif
