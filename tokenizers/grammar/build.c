/* Grammars whole from one text, or put together from parts. */
#include <stdlib.h>
#include <string.h>

#include "tokenizers/grammar/frontends.h"
#include "tokenizers/grammar/grammar.h"
#include "tokenizers/grammar/regex.h"
#include "tokenizers/grammar/vocabulary.h"

enum { MOST_MEMORY = 128 << 20 }; /* bytes of one grammar with all that it learns */

struct grammar_builder {
    struct pool pool;
};

expr special_token(struct pool *p, const char *text, size_t size)
{
    return expr_concat(p, expr_byte(p, SPECIAL_BYTE), expr_text(p, text, size));
}

enum status grammar_builder_open(struct grammar_builder **out, struct error *err)
{
    if (!(*out = calloc(1, sizeof **out)))
        return error_memory(err, "a grammar");
    pool_init(&(*out)->pool, MOST_MEMORY);
    pool_rule(&(*out)->pool); /* rule 0: the whole text */
    return STATUS_OK;
}

void grammar_builder_close(struct grammar_builder *b)
{
    if (b)
        pool_free(&b->pool);
    free(b);
}

/* ---- parts ---------------------------------------------------------------------------------------------------------- */

enum status grammar_part_schema(struct grammar_builder *b, const struct json *schema, grammar_part *out, struct error *err)
{
    static const struct json anything = {.kind = JSON_BOOL, .truth = true};
    return schema_rules(&b->pool, schema ? schema : &anything, NULL, out, err);
}

enum status grammar_part_arguments(struct grammar_builder *b, const struct json *schema, const struct grammar_arguments *as, grammar_part *out,
                                   struct error *err)
{
    return schema_rules(&b->pool, schema, as, out, err);
}

enum status grammar_part_regex(struct grammar_builder *b, const char *text, size_t size, grammar_part *out, struct error *err)
{
    return regex_expr(&b->pool, text, size, (struct regex_options){.spelling = SPELL_UTF8}, out, err);
}

enum status grammar_part_gbnf(struct grammar_builder *b, const char *text, size_t size, grammar_part *out, struct error *err)
{
    return gbnf_rules(&b->pool, text, size, out, err);
}

enum status grammar_part_lark(struct grammar_builder *b, const char *text, size_t size, grammar_part *out, struct error *err)
{
    return lark_rules(&b->pool, text, size, out, err);
}

grammar_part grammar_part_text(struct grammar_builder *b, const char *text, size_t size) { return expr_text(&b->pool, text, size); }
grammar_part grammar_part_token(struct grammar_builder *b, const char *text, size_t size) { return special_token(&b->pool, text, size); }

grammar_part grammar_part_free(struct grammar_builder *b)
{
    return expr_repeat(&b->pool, chars_any(&b->pool, SPELL_UTF8), 0, UNLIMITED);
}

grammar_part grammar_part_sequence(struct grammar_builder *b, const grammar_part *parts, size_t count)
{
    expr e = EMPTY;
    while (count-- > 0)
        e = expr_concat(&b->pool, parts[count], e);
    return e;
}

grammar_part grammar_part_choice(struct grammar_builder *b, const grammar_part *parts, size_t count)
{
    return expr_or(&b->pool, parts, (uint32_t)count);
}

grammar_part grammar_part_repeat(struct grammar_builder *b, grammar_part part, uint32_t least, uint32_t most)
{
    return least > most ? NONE : expr_repeat(&b->pool, part, least, most);
}

/* Text up to the first marker, which it ends with: texts that end with the marker and hold none before. */
grammar_part grammar_part_lazy(struct grammar_builder *b, const struct grammar_marker *markers, size_t count)
{
    struct pool *p = &b->pool;
    expr text = grammar_part_free(b), any = NONE, e;
    for (size_t i = 0; i < count; i++)
        if (!markers[i].token)
            any = expr_or2(p, any, expr_text(p, markers[i].text, markers[i].size));
    expr holds = expr_concat(p, text, expr_concat(p, any, text));
    expr without = expr_minus(p, text, holds); /* special tokens are no text: it cannot hold them */
    e = without;
    for (size_t i = 0; i < count; i++) {
        expr until;
        if (markers[i].token) {
            until = expr_concat(p, without, special_token(p, markers[i].text, markers[i].size));
        } else {
            expr ends = expr_concat(p, text, expr_text(p, markers[i].text, markers[i].size));
            expr goes_on = expr_concat(p, text, expr_concat(p, any, chars_any(p, SPELL_UTF8)));
            until = expr_minus(p, ends, expr_concat(p, goes_on, text));
        }
        e = expr_or2(p, e, expr_concat(p, until, markers[i].then));
    }
    return e;
}

enum status grammar_builder_finish(struct grammar_builder *b, grammar_part root, struct grammar **out, struct error *err)
{
    if (!b->pool.failed)
        b->pool.rules[0].body = root;
    enum status status = grammar_finish(out, &b->pool, err);
    pool_init(&b->pool, MOST_MEMORY);
    pool_rule(&b->pool);
    return status;
}

/* ---- one text ------------------------------------------------------------------------------------------------------- */

typedef enum status front(struct grammar_builder *b, const char *text, size_t size, grammar_part *out, struct error *err);

static enum status finish(struct grammar_builder *b, enum status status, grammar_part root, struct grammar **out, struct error *err)
{
    *out = NULL;
    if (!status)
        status = grammar_builder_finish(b, root, out, err);
    grammar_builder_close(b);
    return status;
}

static enum status compile(struct grammar **out, front *part, const char *text, size_t size, struct error *err)
{
    struct grammar_builder *b;
    grammar_part root = NONE;
    enum status status = grammar_builder_open(&b, err);
    if (status)
        return status;
    status = part(b, text, size, &root, err);
    return finish(b, status, root, out, err);
}

enum status grammar_compile_schema(struct grammar **out, const struct json *schema, struct error *err)
{
    struct grammar_builder *b;
    grammar_part root = NONE;
    enum status status = grammar_builder_open(&b, err);
    if (status)
        return status;
    status = grammar_part_schema(b, schema, &root, err);
    return finish(b, status, root, out, err);
}

enum status grammar_compile_regex(struct grammar **out, const char *text, size_t size, struct error *err) { return compile(out, grammar_part_regex, text, size, err); }
enum status grammar_compile_gbnf(struct grammar **out, const char *text, size_t size, struct error *err) { return compile(out, grammar_part_gbnf, text, size, err); }
enum status grammar_compile_lark(struct grammar **out, const char *text, size_t size, struct error *err) { return compile(out, grammar_part_lark, text, size, err); }
