/* Contents of strings: lengths, patterns, formats. */
#include <stdlib.h>
#include <string.h>

#include "tokenizers/grammar/regex.h"
#include "tokenizers/grammar/schema/schema.h"

static const struct {
    const char *name, *regex;
} formats[] = {
#define FORMAT(name, regex) {name, regex},
#include "tokenizers/grammar/schema/formats.def"
#undef FORMAT
};

bool text_format(struct schema *s, const struct json *format, expr *out)
{
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (json_is_text(format, formats[i].name)) {
            enum status status = regex_expr(s->pool, formats[i].regex, strlen(formats[i].regex), (struct regex_options){.spelling = s->spelling}, out,
                                            s->err);
            s->status = s->status ? s->status : status;
            return true;
        }
    return false;
}

bool text_pattern(struct schema *s, const struct json *schema, const char *keyword, const char *pattern, size_t size, expr *out)
{
    struct error wrong;
    if (regex_expr(s->pool, pattern, size, (struct regex_options){.spelling = s->spelling, .search = true}, out, &wrong))
        return schema_refuse(s, schema, keyword, "%s", wrong.text);
    return true;
}

expr text_contents(struct schema *s, const struct shape *shape)
{
    struct pool *p = s->pool;
    bool canonical = shape->has_text || s->spelling != SPELL_JSON, all = shape->min_length == 0 && shape->max_length == UNLIMITED;
    for (const struct value_link *x = shape->excluded; x; x = x->next)
        canonical |= x->value->kind == JSON_STRING;
    if (shape->min_length > shape->max_length)
        return NONE;
    expr e = expr_repeat(p, canonical ? chars_any(p, s->spelling) : chars_json(p), shape->min_length, shape->max_length);
    if (shape->has_text)
        e = all ? shape->text : expr_and2(p, shape->text, e);
    for (const struct value_link *x = shape->excluded; x; x = x->next)
        if (x->value->kind == JSON_STRING)
            e = expr_minus(p, e, chars_text(p, x->value->text, x->value->size, s->spelling));
    return e;
}

bool text_matches(struct schema *s, expr contents, const char *text, uint32_t size)
{
    struct str quoted = {0};
    if (s->spelling != SPELL_JSON)
        return expr_matches(s->pool, contents, text, size);
    json_write_string(&quoted, text, size);
    if (quoted.failed)
        pool_fail(s->pool, STATUS_NO_ROOM, "the schema is too large");
    bool matches = !quoted.failed && expr_matches(s->pool, contents, quoted.data + 1, quoted.size - 2);
    str_free(&quoted);
    return matches;
}

expr text_quoted(struct schema *s, expr contents)
{
    expr fit = s->unfit == NONE ? contents : expr_minus(s->pool, contents, s->unfit);
    return expr_concat(s->pool, s->mark, expr_concat(s->pool, fit, s->mark));
}

expr text_of_literals(struct schema *s, const struct literal *literals)
{
    struct pool *p = s->pool;
    struct shapes shapes = {0};
    expr e = NONE;
    schema_expand(s, literals, &shapes);
    for (uint32_t i = 0; i < shapes.count && !s->status; i++) {
        struct shape *shape = &shapes.list[i];
        if (!(shape->types & TYPE_STRING))
            continue;
        if (!shape->has_values) { /* in the one spelling that names have */
            shape->text = shape->has_text ? shape->text : expr_repeat(p, chars_any(p, s->spelling), 0, UNLIMITED);
            shape->has_text = true;
            e = expr_or2(p, e, text_contents(s, shape));
        }
        for (const struct value_link *v = shape->values; v; v = v->next)
            if (v->value->kind == JSON_STRING && value_fits(s, shape, v->value))
                e = expr_or2(p, e, chars_text(p, v->value->text, v->value->size, s->spelling));
    }
    free(shapes.list);
    return e;
}
