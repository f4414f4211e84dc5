/* ingot parse: what a model wrote, as reasoning, content and tool calls. */
#include <string.h>
#include <unistd.h>

#include "agent/shell/commands/text.h"
#include "base/file.h"
#include "base/log.h"

struct parser {
    struct arena arena;
    struct dialect_choice choice; /* .dialect NULL: every line names its own */
    struct json tools;
    bool has_tools, deltas;
};

/* ---- which dialect --------------------------------------------------------------------------------------------------- */

static enum status find_dialect(const char *name, size_t size, struct dialect_choice *out, struct error *err)
{
    *out = (struct dialect_choice){.dialect = dialect_find(name, size)};
    return out->dialect ? STATUS_OK
                        : error_set(err, STATUS_USAGE, "there is no dialect %s; `ingot parse --list-dialects` names them all",
                                    QUOTE(name, size));
}

static enum status detect(const struct chat_source *source, const struct tokenizer *t, struct dialect_choice *out,
                          struct error *err)
{
    struct error none = {0};
    const struct chat_named *named = source->count ? chat_choose(source, NULL, true, &none) : NULL;
    enum status status = dialect_detect(out, source, named, t, err);
    if (!status && out->warning[0])
        log_line(LOG_WARN, "%s; answers are read as %s", out->warning, dialect_name(out->dialect));
    if (!status)
        log_line(LOG_VERBOSE, "dialect %s: %s", dialect_name(out->dialect), out->why);
    return status;
}

static enum status detect_file(const char *path, struct dialect_choice *out, struct error *err)
{
    struct chat_source source = {0};
    enum status status = text_open_template_file(&source, path, err);
    if (!status)
        status = detect(&source, NULL, out, err);
    chat_source_close(&source);
    return status;
}

/* The vocabulary only helps: a model without one that can be read still has its template. */
static enum status detect_model(const char *name, bool offline, struct dialect_choice *out, struct error *err)
{
    struct chat_source source = {0};
    struct tokenizer *t = NULL;
    struct error none = {0};
    enum status status = text_open_templates(&source, name, offline, err);
    if (!status && text_open_tokenizer(&t, name, offline, &none))
        log_line(LOG_VERBOSE, "%s: no vocabulary to look into: %s", name, none.text);
    if (!status)
        status = detect(&source, t, out, err);
    tokenizer_close(t);
    chat_source_close(&source);
    return status;
}

static enum status read_tools(struct parser *p, const char *path, struct error *err)
{
    char *text;
    size_t size;
    enum status status = file_read(&p->arena, path, TEXT_LIMIT, &text, &size, err);
    if (!status && (status = json_parse(&p->arena, text, size, NULL, &p->tools, err)))
        error_prefix(err, "%s", path);
    p->has_tools = !status;
    return status;
}

static enum status open_parser(struct parser *p, const struct settings *s, struct error *err)
{
    enum status status = STATUS_OK;
    int sources = (s->argument_count > 0) + (s->dialect.set != SET_NOWHERE) + (s->template_file.set != SET_NOWHERE);
    if (s->argument_count > 1)
        return error_set(err, STATUS_USAGE, "parse takes one MODEL; the output comes on standard input");
    if (!sources && !s->jsonl.value)
        return error_set(err, STATUS_USAGE, "parse needs a MODEL, --dialect NAME or --template FILE");
    p->deltas = s->deltas.value;
    if (s->dialect.set)
        status = find_dialect(s->dialect.value, strlen(s->dialect.value), &p->choice, err);
    else if (s->template_file.set)
        status = detect_file(s->template_file.value, &p->choice, err);
    else if (s->argument_count)
        status = detect_model(s->arguments[0], s->offline.value, &p->choice, err);
    return status || !s->tools_file.set ? status : read_tools(p, s->tools_file.value, err);
}

/* ---- answers --------------------------------------------------------------------------------------------------------- */

static void add_member(struct str *out, const char *key, const char *text, size_t size)
{
    str_format(out, "\"%s\": ", key);
    json_write_string(out, text, size);
}

/* A call's arguments on one line. */
static enum status add_arguments(struct str *out, const struct output_call *c, struct error *err)
{
    struct arena arena = {0};
    struct json v;
    enum status status = json_parse(&arena, c->arguments, c->arguments_size, NULL, &v, err);
    if (!status)
        json_write(out, &v);
    arena_free(&arena);
    return status;
}

static enum status add_calls(struct str *out, const struct output_answer *a, struct error *err)
{
    enum status status = STATUS_OK;
    str_add_text(out, ", \"tool_calls\": [");
    for (size_t i = 0; i < a->call_count && !status; i++) {
        const struct output_call *c = &a->calls[i];
        str_add_text(out, i ? ", {" : "{");
        add_member(out, "name", c->name, c->name_size);
        str_add_text(out, ", \"arguments\": ");
        status = add_arguments(out, c, err);
        str_add_text(out, ", ");
        add_member(out, "id", c->id, strlen(c->id));
        str_add_char(out, '}');
    }
    str_add_char(out, ']');
    return status;
}

static enum status add_answer(struct str *out, const struct output_answer *a, struct error *err)
{
    str_add_char(out, '{');
    add_member(out, "reasoning", a->reasoning, a->reasoning_size);
    str_add_text(out, ", ");
    add_member(out, "content", a->content, a->content_size);
    enum status status = add_calls(out, a, err);
    str_add_text(out, ", \"warnings\": [");
    for (size_t i = 0; i < a->warning_count; i++) {
        str_add_text(out, i ? ", {" : "{");
        add_member(out, "kind", a->warnings[i].kind, strlen(a->warnings[i].kind));
        str_add_text(out, ", ");
        add_member(out, "text", a->warnings[i].text, a->warnings[i].size);
        str_add_char(out, '}');
    }
    str_add_text(out, "]}");
    return status;
}

/* One event as OpenAI's delta, into the array that is being written. */
static void add_delta(void *context, const struct output_event *e)
{
    struct str *out = context;
    if (e->kind == OUTPUT_CALL_END || e->kind == OUTPUT_WARNING)
        return;
    str_add_text(out, out->size > 1 ? ", {" : "{");
    if (e->kind == OUTPUT_REASONING || e->kind == OUTPUT_CONTENT) {
        add_member(out, e->kind == OUTPUT_CONTENT ? "content" : "reasoning_content", e->text, e->size);
    } else {
        str_format(out, "\"tool_calls\": [{\"index\": %zu, ", e->index);
        if (e->kind == OUTPUT_CALL) {
            add_member(out, "id", e->id, strlen(e->id));
            str_add_text(out, ", \"type\": \"function\", \"function\": {");
            add_member(out, "name", e->name, e->name_size);
            str_add_text(out, ", \"arguments\": \"\"}}]");
        } else {
            str_add_text(out, "\"function\": {");
            add_member(out, "arguments", e->text, e->size);
            str_add_text(out, "}}]");
        }
    }
    str_add_char(out, '}');
}

static enum status feed(struct output *o, const struct json *text, const struct json *pieces, struct error *err)
{
    enum status status = STATUS_OK;
    if (!pieces)
        return output_add(o, text->text, text->size, err);
    for (uint32_t i = 0; i < pieces->size && !status; i++)
        status = output_add(o, pieces->items[i].text, pieces->items[i].size, err);
    return status;
}

struct parse_case {
    const struct dialect *dialect;
    struct dialect_choice own; /* of this case alone */
    struct json output;
    const struct json *pieces, *tools, *prompt_tail;
    bool cut;
};

static enum status parse_one(const struct parser *p, const struct parse_case *c, struct str *out, struct error *err)
{
    struct output *o;
    struct output_options how = {
        .tools = c->tools,
        .prompt_tail = c->prompt_tail ? c->prompt_tail->text : NULL,
        .prompt_tail_size = c->prompt_tail ? c->prompt_tail->size : 0,
        .event = p->deltas ? add_delta : NULL,
        .context = out,
    };
    enum status status = output_open(&o, c->dialect, &how, err);
    if (status)
        return status;
    if (p->deltas)
        str_add_char(out, '[');
    status = feed(o, &c->output, c->pieces, err);
    if (!status)
        status = output_end(o, c->cut, err);
    if (p->deltas)
        str_add_char(out, ']');
    else if (!status)
        status = add_answer(out, output_answer(o), err);
    output_close(o);
    return status;
}

/* ---- lines ----------------------------------------------------------------------------------------------------------- */

/* A member of the given kind; *out is NULL where it is absent or null. */
static enum status take(const struct json *line, const char *key, enum json_kind kind, const struct json **out, struct error *err)
{
    static const char *const kinds[] = {"null", "true or false", "a number", "a string", "a list", "an object"};
    const struct json *v = json_get(line, key);
    *out = v && v->kind != JSON_NULL ? v : NULL;
    if (*out && v->kind != kind)
        return error_set(err, STATUS_USAGE, "\"%s\" must be %s, not %s", key, kinds[kind], json_kind_name(v));
    return STATUS_OK;
}

static enum status take_dialect(const struct parser *p, const struct json *line, struct arena *arena, struct parse_case *c,
                                struct error *err)
{
    const struct json *name, *path = NULL;
    enum status status = take(line, "dialect", JSON_STRING, &name, err);
    if (!status)
        status = take(line, "template", JSON_STRING, &path, err);
    char *copy = status || name || !path ? NULL : json_copy(arena, path);
    if (!status && name)
        status = find_dialect(name->text, name->size, &c->own, err);
    else if (!status && path)
        status = copy ? detect_file(copy, &c->own, err) : error_memory(err, "a case");
    else if (!status && !p->choice.dialect)
        status = error_set(err, STATUS_USAGE,
                           "a line needs \"dialect\" or \"template\" where no MODEL, --dialect or --template is given");
    c->dialect = c->own.dialect ? c->own.dialect : p->choice.dialect;
    return status;
}

static enum status read_case(const struct parser *p, const struct json *line, struct arena *arena, struct parse_case *c,
                             struct error *err)
{
    const struct json *output, *finish;
    enum status status = line->kind == JSON_OBJECT
                             ? STATUS_OK
                             : error_set(err, STATUS_USAGE, "a line must be an object, not %s", json_kind_name(line));
    if (!status)
        status = take(line, "output", JSON_STRING, &output, err);
    if (!status)
        status = take(line, "pieces", JSON_ARRAY, &c->pieces, err);
    if (!status)
        status = take(line, "tools", JSON_ARRAY, &c->tools, err);
    if (!status)
        status = take(line, "prompt_tail", JSON_STRING, &c->prompt_tail, err);
    if (!status)
        status = take(line, "finish_reason", JSON_STRING, &finish, err);
    if (!status && !output && !c->pieces)
        status = error_set(err, STATUS_USAGE, "a line needs \"output\" or \"pieces\"");
    for (uint32_t i = 0; !status && c->pieces && i < c->pieces->size; i++)
        if (c->pieces->items[i].kind != JSON_STRING)
            status = error_set(err, STATUS_USAGE, "\"pieces\" must be a list of strings; item %u is %s", (unsigned)i,
                               json_kind_name(&c->pieces->items[i]));
    if (status)
        return status;
    c->output = output ? *output : (struct json){.kind = JSON_STRING, .text = ""};
    c->cut = json_is_text(finish, "length");
    c->tools = c->tools ? c->tools : p->has_tools ? &p->tools : NULL;
    return take_dialect(p, line, arena, c, err);
}

static enum status answer(const void *context, const struct json *line, struct str *out, struct error *err)
{
    struct arena arena = {0};
    struct parse_case c = {0};
    enum status status = read_case(context, line, &arena, &c, err);
    if (!status)
        status = parse_one(context, &c, out, err);
    dialect_choice_free(&c.own);
    arena_free(&arena);
    return status;
}

/* The whole of stdin is one output. */
static enum status one_output(const struct parser *p, struct error *err)
{
    struct str input = {0}, out = {0};
    enum status status = file_read_all(STDIN_FILENO, TEXT_LIMIT, &input, err);
    struct parse_case c = {.dialect = p->choice.dialect, .tools = p->has_tools ? &p->tools : NULL};
    if (!status && input.size > UINT32_MAX)
        status = error_set(err, STATUS_NO_ROOM, "an output over 4 GiB cannot be parsed");
    c.output = (struct json){.kind = JSON_STRING, .size = (uint32_t)input.size, .text = str_text(&input)};
    if (!status)
        status = parse_one(p, &c, &out, err);
    if (!status)
        status = text_print_line(&out, err);
    str_free(&out);
    str_free(&input);
    return status;
}

static enum status list_dialects(struct error *err)
{
    const struct dialect *d;
    for (size_t i = 0; (d = dialect_at(i)); i++)
        printf("%s\n", dialect_name(d));
    return output_finish(stdout, err);
}

enum status command_parse(const struct settings *s, struct error *err)
{
    struct parser p = {0};
    if (s->list_dialects.value)
        return list_dialects(err);
    enum status status = open_parser(&p, s, err);
    if (!status)
        status = s->jsonl.value ? text_answer_lines(answer, &p, err) : one_output(&p, err);
    dialect_choice_free(&p.choice);
    arena_free(&p.arena);
    return status;
}
