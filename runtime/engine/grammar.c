/* Grammars of the public API: those of tokenizers/, by another name. */
#include "runtime/engine/engine.h"

enum ingot_status ingot_grammar_open_schema(struct ingot_grammar **out, const char *json, size_t size, struct ingot_error *err)
{
    struct arena arena = {0};
    struct json schema;
    *out = NULL;
    enum status status = json_parse(&arena, json, size, NULL, &schema, inner(err));
    if (!status)
        status = grammar_compile_schema((struct grammar **)out, &schema, inner(err));
    arena_free(&arena);
    return (enum ingot_status)status;
}

enum ingot_status ingot_grammar_open_regex(struct ingot_grammar **out, const char *text, size_t size, struct ingot_error *err)
{
    return (enum ingot_status)grammar_compile_regex((struct grammar **)out, text, size, inner(err));
}

enum ingot_status ingot_grammar_open_gbnf(struct ingot_grammar **out, const char *text, size_t size, struct ingot_error *err)
{
    return (enum ingot_status)grammar_compile_gbnf((struct grammar **)out, text, size, inner(err));
}

enum ingot_status ingot_grammar_open_lark(struct ingot_grammar **out, const char *text, size_t size, struct ingot_error *err)
{
    return (enum ingot_status)grammar_compile_lark((struct grammar **)out, text, size, inner(err));
}

void ingot_grammar_close(struct ingot_grammar *grammar) { grammar_close((struct grammar *)grammar); }
