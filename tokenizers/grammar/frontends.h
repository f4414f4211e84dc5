/* Each front end writes rules into a pool and gives the expression that stands for all of its text. They report what is wrong
 * with the text; a failure of the pool itself shows in pool->failed. */
#ifndef TOKENIZERS_GRAMMAR_FRONTENDS_H
#define TOKENIZERS_GRAMMAR_FRONTENDS_H

#include "base/json.h"
#include "base/str.h"
#include "tokenizers/grammar/expr.h"

enum status gbnf_rules(struct pool *p, const char *text, size_t size, expr *out, struct error *err);
enum status lark_rules(struct pool *p, const char *text, size_t size, expr *out, struct error *err);
struct grammar_arguments; /* tokenizers.h; NULL: the value is JSON */
enum status schema_rules(struct pool *p, const struct json *schema, const struct grammar_arguments *as, expr *out, struct error *err);

/* The one special token that is spelled so. */
expr special_token(struct pool *p, const char *text, size_t size);

#endif
