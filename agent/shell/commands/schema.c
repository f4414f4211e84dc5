/* ingot schema: whether a schema or grammar allows texts, as whole answers and as beginnings. */
#include "agent/shell/commands/text.h"

static enum status answer(const void *context, const struct json *line, struct str *out, struct error *err)
{
    struct grammar_state *state;
    size_t at = 0;
    if (line->kind != JSON_STRING)
        return error_set(err, STATUS_USAGE, "a line must be a JSON string that holds a text, not %s", json_kind_name(line));
    enum status status = grammar_state_open(&state, (struct grammar *)context, err);
    if (status)
        return status;
    status = grammar_accept_bytes(state, line->text, line->size, &at, err);
    bool accepted = status == STATUS_OK, refused = status == STATUS_USAGE;
    if (accepted || refused)
        str_format(out, "{\"accepted\": %s, \"complete\": %s, \"at\": %zu}", accepted ? "true" : "false",
                   accepted && grammar_complete(state) ? "true" : "false", at);
    grammar_state_close(state);
    return accepted || refused ? STATUS_OK : status;
}

static enum status compile(const struct grammar_source *source, struct grammar **out, struct error *err)
{
    struct arena arena = {0};
    struct json schema;
    enum status status = STATUS_OK;
    switch (source->kind) {
    case GRAMMAR_SCHEMA:
        status = json_parse(&arena, source->text, source->size, NULL, &schema, err);
        if (!status)
            status = grammar_compile_schema(out, &schema, err);
        break;
    case GRAMMAR_GBNF:
        status = grammar_compile_gbnf(out, source->text, source->size, err);
        break;
    case GRAMMAR_LARK:
        status = grammar_compile_lark(out, source->text, source->size, err);
        break;
    case GRAMMAR_REGEX:
        status = grammar_compile_regex(out, source->text, source->size, err);
        break;
    case GRAMMAR_NONE:
        status = error_set(err, STATUS_USAGE, "give --schema FILE, --grammar FILE.gbnf or FILE.lark, or --regex R");
        break;
    }
    arena_free(&arena);
    return status;
}

enum status command_schema(const struct settings *s, struct error *err)
{
    struct arena arena = {0};
    struct grammar_source source;
    struct grammar *g = NULL;
    enum status status = shell_grammar_source(s, &arena, &source, err);
    if (!status && s->argument_count)
        status = error_set(err, STATUS_USAGE, "ingot schema reads its texts from standard input");
    if (!status && !s->jsonl.value)
        status = error_set(err, STATUS_USAGE, "ingot schema needs --jsonl: every line of standard input is a JSON string");
    if (!status)
        status = compile(&source, &g, err);
    if (!status)
        status = text_answer_lines(answer, g, err);
    grammar_close(g);
    arena_free(&arena);
    return status;
}
