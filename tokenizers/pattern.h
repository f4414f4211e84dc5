/* Patterns of tokenizer files: a literal string or a regex. Regexes are written for Oniguruma (Ruby's syntax, what the
 * `tokenizers` package runs); they are translated to PCRE2 where the two differ, and run with a step limit (R11). */
#ifndef TOKENIZERS_PATTERN_H
#define TOKENIZERS_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "base/status.h"
#include "base/str.h"
#include "tokenizers/threes.h"

struct pattern {
    struct str source;           /* as the file writes it */
    struct pcre2_real_code_8 *code; /* NULL: source is a literal string */
    struct scanner *scanner;        /* the same as a table; NULL where it cannot be compiled */
    struct threes threes;           /* the same where it groups digits */
};

/* {"String": "..."} or {"Regex": "..."}. what: the component's name for messages. */
enum status pattern_open(struct pattern *p, const struct json *v, const char *what, struct error *err);
enum status pattern_literal(struct pattern *p, const char *text, size_t size, struct error *err);
enum status pattern_regex(struct pattern *p, const char *regex, size_t size, struct error *err);
void pattern_free(struct pattern *p);

/* What one thread needs to run patterns; made at the first use. */
struct pattern_run {
    struct pcre2_real_match_data_8 *data;
    struct pcre2_real_match_context_8 *context;
    struct pcre2_real_jit_stack_8 *stack;
    int64_t started; /* clock_ns() of the first call; for pattern_match() less the time between calls: a model writes slowly */
    int64_t spent;   /* ns in pattern_match() */
    int64_t budget;  /* ns, and a millionth of it for each byte of text; 0: 5 s */
    uint32_t calls;
    uint64_t wasted; /* bytes that scanners looked at behind their matches */
};
void pattern_run_free(struct pattern_run *run);

/* The first match at or behind `from` in inside text (unicode.h). *found false: there is none. A regex that runs into
 * its limit is STATUS_FAILED and named. */
enum status pattern_find(const struct pattern *p, struct pattern_run *run, const char *text, size_t size, size_t from, bool *found,
                         size_t *start, size_t *end, struct error *err);

/* One match after the other; place starts as {0}. An empty match right behind the match before is passed over. */
struct pattern_place {
    size_t from, last;
    bool any; /* there was a match, and it ended at last */
    struct threes_run digits;
};
enum status pattern_next(const struct pattern *p, struct pattern_run *run, const char *text, size_t size, struct pattern_place *place,
                         bool *found, size_t *start, size_t *end, struct error *err);

/* A regex in Python's syntax (`re` with DOTALL), for pattern_match(). */
enum status pattern_python(struct pattern *p, const char *regex, size_t size, struct error *err);

/* The first match at or behind `from`, with its groups, in text that need not be UTF-8 and may go on. */
enum { PATTERN_GROUPS = 16 };
struct pattern_match {
    enum { MATCH_NONE, MATCH_PART, MATCH_WHOLE } found; /* PART: one may begin at groups[0].start; more text will tell */
    struct pattern_group {
        size_t start, end; /* start > end: the group took no part */
    } groups[PATTERN_GROUPS]; /* 0: all of it */
};
/* more: text may follow; then a match is told only when nothing that follows can change it. STATUS_FAILED: the step limit. */
enum status pattern_match(const struct pattern *p, struct pattern_run *run, const char *text, size_t size, size_t from, bool more,
                          struct pattern_match *out, struct error *err);
/* The number of a named group, -1: there is none. pattern_name: the name of the i-th one and its number, NULL behind the last. */
int pattern_group(const struct pattern *p, const char *name);
const char *pattern_name(const struct pattern *p, uint32_t i, int *number);
uint32_t pattern_group_count(const struct pattern *p); /* without 0 */

/* Oniguruma's syntax as PCRE2's (exposed for tests). */
enum status pattern_translate(const char *regex, size_t size, struct str *out, struct error *err);

#endif
