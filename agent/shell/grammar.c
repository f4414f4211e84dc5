/* --schema, --grammar and --regex: what an answer is held to. */
#include <string.h>

#include "agent/shell/shell.h"
#include "base/file.h"
#include "base/json.h"
#include "runtime/ingot.h"

enum { GRAMMAR_LIMIT = 64 << 20 }; /* bytes */

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

enum status shell_grammar_source(const struct settings *s, struct arena *arena, struct grammar_source *out, struct error *err)
{
    *out = (struct grammar_source){.kind = GRAMMAR_NONE};
    if ((s->schema.set != SET_NOWHERE) + (s->grammar.set != SET_NOWHERE) + (s->regex.set != SET_NOWHERE) > 1)
        return error_set(err, STATUS_USAGE, "--schema, --grammar and --regex exclude each other");
    if (s->regex.set) {
        *out = (struct grammar_source){GRAMMAR_REGEX, s->regex.value, strlen(s->regex.value)};
        return STATUS_OK;
    }
    const char *path = s->schema.set ? s->schema.value : s->grammar.set ? s->grammar.value : NULL;
    if (!path)
        return STATUS_OK;
    char *text;
    out->kind = s->schema.set ? GRAMMAR_SCHEMA : ends_with(path, ".lark") ? GRAMMAR_LARK : GRAMMAR_GBNF;
    enum status status = file_read(arena, path, GRAMMAR_LIMIT, &text, &out->size, err);
    out->text = text;
    if (!status && out->kind == GRAMMAR_GBNF && !ends_with(path, ".gbnf") && !memmem(text, out->size, "::=", 3))
        out->kind = GRAMMAR_LARK; /* any other name: rules are told by their sign */
    return status;
}

enum status shell_grammar_format(const struct settings *s, struct str *out, struct error *err)
{
    static const char *const types[] = {[GRAMMAR_GBNF] = "gbnf", [GRAMMAR_LARK] = "lark", [GRAMMAR_REGEX] = "regex"};
    struct arena arena = {0};
    struct grammar_source source;
    enum status status = shell_grammar_source(s, &arena, &source, err);
    if (!status && source.kind == GRAMMAR_SCHEMA) {
        str_add_text(out, ", \"response_format\": {\"type\": \"json_schema\", \"json_schema\": {\"schema\": ");
        str_add(out, source.text, source.size);
        str_add_text(out, "}}");
    } else if (!status && source.kind != GRAMMAR_NONE) {
        str_format(out, ", \"response_format\": {\"type\": \"%s\", \"%s\": ", types[source.kind], types[source.kind]);
        json_write_string(out, source.text, source.size);
        str_add_char(out, '}');
    }
    arena_free(&arena);
    return status;
}

enum status shell_grammar(const struct settings *s, struct ingot_grammar **out, struct error *err)
{
    struct arena arena = {0};
    struct grammar_source source;
    struct ingot_error *e = (struct ingot_error *)err;
    enum ingot_status (*const open[])(struct ingot_grammar **, const char *, size_t, struct ingot_error *) = {
        [GRAMMAR_SCHEMA] = ingot_grammar_open_schema, [GRAMMAR_GBNF] = ingot_grammar_open_gbnf,
        [GRAMMAR_LARK] = ingot_grammar_open_lark, [GRAMMAR_REGEX] = ingot_grammar_open_regex};
    *out = NULL;
    enum status status = shell_grammar_source(s, &arena, &source, err);
    if (!status && source.kind != GRAMMAR_NONE)
        status = (enum status)open[source.kind](out, source.text, source.size, e);
    arena_free(&arena);
    return status;
}
