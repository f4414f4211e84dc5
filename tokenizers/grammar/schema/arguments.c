/* The arguments of a call where models write no JSON object: members between tags, or NAME=VALUE.
 *
 * What stands in a tag is text, and its reader goes by the declared type: a string is the text as it stands, anything else is read
 * as JSON. So a string is written raw, in UTF-8 and without the closing tag, and where both may come it must not look like the other
 * (output/reading.h). */
#include <stdlib.h>
#include <string.h>

#include "tokenizers/grammar/regex.h"
#include "tokenizers/grammar/schema/keywords.h"
#include "tokenizers/output/reading.h"
#include "tokenizers/tokenizers.h"

static const unsigned types_of_kind[] = {[JSON_NULL] = TYPE_NULL,     [JSON_BOOL] = TYPE_TRUE | TYPE_FALSE, [JSON_NUMBER] = TYPE_NUMBER,
                                         [JSON_STRING] = TYPE_STRING, [JSON_ARRAY] = TYPE_ARRAY,            [JSON_OBJECT] = TYPE_OBJECT};

static bool says_nothing(const struct literal *literals)
{
    for (const struct literal *l = literals; l; l = l->next) {
        if (l->negated || (l->schema->kind == JSON_BOOL && !l->schema->truth))
            return false;
        for (uint32_t i = 0; l->schema->kind == JSON_OBJECT && i < l->schema->size; i++)
            if (keyword_find(&l->schema->members[i]))
                return false;
    }
    return true;
}

expr texts_with(struct pool *p, const char *text)
{
    expr any = expr_repeat(p, chars_any(p, SPELL_UTF8), 0, UNLIMITED);
    return expr_concat(p, any, expr_concat(p, expr_text(p, text, strlen(text)), any));
}

/* Texts that a tag may not hold: its closing tag, and what would be read as something else than a string. */
static expr unfit_texts(struct schema *s, const char *until, const struct str *reserved)
{
    expr other = NONE;
    if (reserved->size) {
        enum status status = regex_expr(s->pool, str_text(reserved), reserved->size, (struct regex_options){.spelling = SPELL_UTF8}, &other, s->err);
        s->status = s->status ? s->status : status;
    }
    return expr_or2(s->pool, other, texts_with(s->pool, until));
}

/* The strings of a shape, raw. */
static expr raw_texts(struct schema *s, const struct shape *shape)
{
    expr e = NONE;
    if (!shape->has_values)
        return shape->types & TYPE_STRING ? text_contents(s, shape) : NONE;
    for (const struct value_link *v = shape->values; v; v = v->next)
        if (v->value->kind == JSON_STRING && value_fits(s, shape, v->value))
            e = expr_or2(s->pool, e, chars_text(s->pool, v->value->text, v->value->size, SPELL_UTF8));
    return e;
}

/* What a shape has beside strings, each kind behind its own words. */
static expr other_values(struct schema *s, const struct grammar_arguments *as, const struct shape *shape)
{
    struct pool *p = s->pool;
    expr e = NONE;
    for (const struct value_link *v = shape->has_values ? shape->values : NULL; v; v = v->next)
        if (v->value->kind != JSON_STRING && value_fits(s, shape, v->value))
            e = expr_or2(p, e, expr_concat(p, as->value[v->value->kind], value_expr(s, v->value)));
    for (int kind = JSON_NULL; kind <= JSON_OBJECT && !shape->has_values; kind++) {
        struct shape one = *shape;
        one.types &= kind == JSON_STRING ? 0 : types_of_kind[kind];
        if (one.types)
            e = expr_or2(p, e, expr_concat(p, as->value[kind], shape_expr(s, &one)));
    }
    return e;
}

static expr tagged_value(struct schema *s, const struct grammar_arguments *as, const struct json *declared, const struct literal *value)
{
    struct pool *p = s->pool;
    struct str reserved = {0};
    struct shapes shapes = {0};
    expr e = NONE;
    enum tag_reading reading = as->marked ? TAG_EITHER : tag_reading(declared, &reserved);
    if (reading == TAG_ANY && !says_nothing(value)) { /* a string in quotes is read as one too, whatever it holds */
        str_free(&reserved);
        return expr_concat(p, as->value[JSON_STRING], schema_call(s, value));
    }
    expr unfit = unfit_texts(s, as->until, &reserved);
    s->spelling = SPELL_UTF8;
    schema_expand(s, value, &shapes);
    for (uint32_t i = 0; i < shapes.count && !s->status; i++) {
        expr text = expr_minus(p, raw_texts(s, &shapes.list[i]), unfit);
        e = expr_or2(p, e, expr_concat(p, as->value[JSON_STRING], text));
        if (reading == TAG_ANY) /* any text will do */
            continue;
        s->spelling = SPELL_JSON;
        e = expr_or2(p, e, other_values(s, as, &shapes.list[i]));
        s->spelling = SPELL_UTF8;
    }
    s->spelling = SPELL_JSON;
    if (reserved.failed)
        pool_fail(p, STATUS_NO_ROOM, "the schema is too large");
    str_free(&reserved);
    free(shapes.list);
    return e;
}

expr bare_name(struct schema *s, expr name, const struct json *declared)
{
    static const char in_tags[] = "[^\\x00-\\x20\"\\\\&<>=(){}\\[\\],:;'`|\\x7f]+"; /* no space, quote, bracket or sign that ends one */
    static const char identifiers[] = "[^\\x00-,/:-@\\[-^`{-\\x7f]+";                  /* letters, digits, _ . - */
    const char *plain = s->arguments && s->arguments->until ? in_tags : identifiers;
    expr names = NONE;
    enum status status = regex_expr(s->pool, plain, strlen(plain), (struct regex_options){.spelling = s->spelling}, &names, s->err);
    s->status = s->status ? s->status : status;
    expr e = expr_and2(s->pool, name, names);
    if (e == NONE && declared)
        schema_refuse(s, declared, NULL, "its name has characters that do not fit in the model's calls");
    return e;
}

expr argument_expr(struct schema *s, expr name, const struct json *declared, const struct literal *value)
{
    struct pool *p = s->pool;
    const struct grammar_arguments *as = s->arguments;
    expr plain = bare_name(s, name, declared), e;
    s->arguments = NULL; /* values are JSON again, or text */
    e = as->until ? tagged_value(s, as, declared, value) : expr_concat(p, as->value[JSON_STRING], schema_call(s, value));
    s->arguments = as;
    return expr_concat(p, as->key, expr_concat(p, plain, expr_concat(p, e, as->close)));
}

expr arguments_expr(struct schema *s, const struct literal *literals)
{
    struct shapes shapes = {0};
    expr e = NONE;
    schema_expand(s, literals, &shapes);
    for (uint32_t i = 0; i < shapes.count && !s->status; i++) {
        if (shapes.list[i].has_values)
            schema_refuse(s, s->root, "enum", "whole objects cannot be listed for the arguments of a call");
        else if (shapes.list[i].types & TYPE_OBJECT)
            e = expr_or2(s->pool, e, shape_members(s, &shapes.list[i]));
    }
    free(shapes.list);
    s->arguments = NULL;
    return e;
}
