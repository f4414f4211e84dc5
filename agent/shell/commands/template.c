/* ingot template: messages to the prompt that the model sees. */
#include <string.h>
#include <unistd.h>

#include "agent/shell/commands/text.h"
#include "base/file.h"
#include "base/log.h"

enum { COMPILED = 65 };

struct renderer {
    struct chat_source source;
    struct chat_template *compiled[COMPILED]; /* of source.templates, when first used */
    struct chat_abilities can[COMPILED];
    struct call_notation calls[COMPILED];
    bool strict; /* what a template refuses is an error */
    bool from_file; /* --template: there is one text, and template_name means nothing */
    bool any;       /* there is a model or a file */
};

/* ---- where the template comes from ---------------------------------------------------------------------------------- */

static enum status set_token(struct chat_source *s, const char *key, const char *text, struct error *err)
{
    struct json_member *tokens = arena_array(&s->arena, (size_t)s->token_count + 1, sizeof *tokens);
    if (!tokens)
        return error_memory(err, "special tokens");
    uint32_t count = 0;
    for (uint32_t i = 0; i < s->token_count; i++)
        if (strlen(key) != s->tokens[i].key_size || memcmp(key, s->tokens[i].key, s->tokens[i].key_size))
            tokens[count++] = s->tokens[i];
    tokens[count++] = (struct json_member){
        .key = key, .key_size = (uint32_t)strlen(key), .value = {.kind = JSON_STRING, .truth = true, .size = (uint32_t)strlen(text), .text = text}};
    s->tokens = tokens;
    s->token_count = count;
    return STATUS_OK;
}

static enum status open_renderer(struct renderer *r, const struct settings *s, struct error *err)
{
    enum status status = STATUS_OK;
    if (s->argument_count > 1)
        return error_set(err, STATUS_USAGE, "template takes one MODEL; the request comes on standard input");
    r->from_file = s->template_file.set != SET_NOWHERE;
    r->any = r->from_file || s->argument_count;
    r->strict = s->strict_template.value;
    if (!r->any && !s->jsonl.value)
        return error_set(err, STATUS_USAGE, "template needs a MODEL or --template FILE");
    if (s->argument_count)
        status = text_open_templates(&r->source, s->arguments[0], s->offline.value, err);
    if (!status && r->from_file)
        status = text_open_template_file(&r->source, s->template_file.value, err);
    if (!status && s->bos.set)
        status = set_token(&r->source, "bos_token", s->bos.value, err);
    if (!status && s->eos.set)
        status = set_token(&r->source, "eos_token", s->eos.value, err);
    return status;
}

static void close_renderer(struct renderer *r)
{
    for (int i = 0; i < COMPILED; i++)
        chat_free(r->compiled[i]), call_notation_free(&r->calls[i]);
    chat_source_close(&r->source);
}

/* ---- rendering ------------------------------------------------------------------------------------------------------ */

/* A string of the request, or NULL where it is absent or null. */
static enum status take_text(struct arena *arena, const struct json *request, const char *key, const char **out, struct error *err)
{
    const struct json *v = json_get(request, key);
    *out = NULL;
    if (!v || v->kind == JSON_NULL)
        return STATUS_OK;
    if (v->kind != JSON_STRING)
        return error_set(err, STATUS_USAGE, "\"%s\" must be a string, not %s", key, json_kind_name(v));
    *out = json_copy(arena, v);
    return *out ? STATUS_OK : error_memory(err, "a request");
}

/* {"template": "...", "context": {...}}: any text and its variables. */
static enum status render_text(struct arena *arena, const struct json *request, struct chat_text *out, struct error *err)
{
    const struct json *text = json_get(request, "template"), *context = json_get(request, "context");
    struct json none = {.kind = JSON_OBJECT};
    struct chat_template *t = NULL;
    const char *now;
    if (!json_is(text, JSON_STRING))
        return error_set(err, STATUS_USAGE, "\"template\" must be a string, not %s", json_kind_name(text));
    if (context && context->kind != JSON_OBJECT)
        return error_set(err, STATUS_USAGE, "\"context\" must be an object, not %s", json_kind_name(context));
    enum status status = take_text(arena, request, "now", &now, err);
    if (!status)
        status = chat_compile(&t, "template", text->text, text->size, err);
    if (!status)
        status = chat_render(t, context ? context : &none, now, NULL, out, err);
    chat_free(t);
    return status;
}

/* What the template can take, and how calls are written for it. */
static enum status probe(struct renderer *r, const struct chat_named *named, ptrdiff_t at, struct error *err)
{
    struct dialect_choice choice;
    chat_probe(r->compiled[at], &r->source, &r->can[at]);
    enum status status = dialect_detect(&choice, &r->source, named, NULL, err);
    if (status)
        return status;
    status = call_notation_find(&r->calls[at], choice.dialect, r->compiled[at], &r->source, err);
    dialect_choice_free(&choice);
    return status;
}

static enum status render_request(struct renderer *r, struct arena *arena, const struct json *request, struct chat_text *out,
                                  struct chat_notes *notes, struct error *err)
{
    const char *name, *now;
    const struct json *tools = json_get(request, "tools");
    struct json fitted = *request, context;
    enum status status = take_text(arena, request, "template_name", &name, err);
    if (!status)
        status = take_text(arena, request, "now", &now, err);
    if (status)
        return status;
    const struct chat_named *chosen = chat_choose(&r->source, r->from_file ? NULL : name, tools && tools->kind != JSON_NULL, err);
    if (!chosen)
        return STATUS_NOT_FOUND;
    ptrdiff_t at = chosen - r->source.templates;
    if (!r->compiled[at]) {
        if ((status = chat_compile(&r->compiled[at], chosen->name, chosen->text, chosen->size, err)))
            return status;
        if (!r->strict)
            status = probe(r, chosen, at, err);
    }
    if (!r->strict && !status)
        status = chat_adapt(arena, request, &r->can[at], &r->calls[at], now, &fitted, notes, err);
    if (!status)
        status = chat_context(arena, &fitted, &r->source, &context, err);
    return status ? status : chat_render(r->compiled[at], &context, now, NULL, out, err);
}

static enum status render(struct renderer *r, const struct json *request, struct chat_text *out, struct chat_notes *notes, struct error *err)
{
    struct arena arena = {0};
    enum status status;
    if (json_get(request, "template"))
        status = render_text(&arena, request, out, err);
    else if (!r->any)
        status = error_set(err, STATUS_USAGE, "a line needs \"template\" where neither MODEL nor --template is given");
    else
        status = render_request(r, &arena, request, out, notes, err);
    arena_free(&arena);
    return status;
}

static enum status answer(const void *context, const struct json *line, struct str *out, struct error *err)
{
    struct renderer *r = (struct renderer *)(uintptr_t)context; /* only the cache of compiled templates changes */
    struct chat_text text = {0};
    struct chat_notes notes = {0};
    enum status status = render(r, line, &text, &notes, err);
    if (!status) {
        str_add_text(out, "{\"text\": ");
        json_write_string(out, str_text(&text.text), text.text.size);
        for (int i = 0; i < notes.count; i++) {
            str_add_text(out, i ? ", {" : ", \"warnings\": [{");
            str_add_text(out, "\"kind\": \"adapted\", \"text\": ");
            json_write_string(out, notes.list[i].text, strlen(notes.list[i].text));
            str_add_text(out, i + 1 < notes.count ? "}" : "}]");
        }
        str_add_char(out, '}');
    }
    chat_text_free(&text);
    return status;
}

/* One request on stdin; the prompt goes out byte for byte. */
static enum status one_request(struct renderer *r, struct error *err)
{
    struct arena arena = {0};
    struct str input = {0};
    struct json request;
    struct chat_text text = {0};
    struct chat_notes notes = {0};
    enum status status = file_read_all(STDIN_FILENO, TEXT_LIMIT, &input, err);
    if (!status && (status = json_parse(&arena, str_text(&input), input.size, NULL, &request, err)))
        error_prefix(err, "the request on standard input");
    if (!status)
        status = render(r, &request, &text, &notes, err);
    for (int i = 0; i < notes.count && !status; i++)
        log_line(notes.list[i].reported ? LOG_SAY : LOG_VERBOSE, "the request was fitted to the template: %s", notes.list[i].text);
    if (!status && text.text.size)
        shell_print(str_text(&text.text), text.text.size);
    if (!status)
        status = output_finish(stdout, err);
    chat_text_free(&text);
    str_free(&input);
    arena_free(&arena);
    return status;
}

enum status command_template(const struct settings *s, struct error *err)
{
    struct renderer r = {0};
    enum status status = open_renderer(&r, s, err);
    if (!status)
        status = s->jsonl.value ? text_answer_lines(answer, &r, err) : one_request(&r, err);
    close_renderer(&r);
    return status;
}
