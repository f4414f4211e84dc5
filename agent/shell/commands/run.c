/* ingot run: one answer, streamed. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/shell/shell.h"
#include "agent/shell/view.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "runtime/ingot.h"

enum { INPUT_LIMIT = 256 << 20 };

static const char *const finishes[] = {"stop", "length", "cancelled"};

/* One answer: what was printed, and how it ended. */
struct answer {
    struct view view;
    struct str text, tokens; /* text: of an answer that no chat reads; tokens: JSON list without brackets */
    struct ingot_event done; /* its answer lives as long as the request */
};

static enum status write_event(const struct ingot_event *e, struct error *err)
{
    static const char *const kinds[] = {
        [INGOT_EVENT_PROMPT_TOKEN] = "prompt_token", [INGOT_EVENT_TOKEN] = "token",         [INGOT_EVENT_REASONING] = "reasoning",
        [INGOT_EVENT_CONTENT] = "content",           [INGOT_EVENT_CALL] = "call",           [INGOT_EVENT_ARGUMENTS] = "arguments",
        [INGOT_EVENT_CALL_END] = "call_end",         [INGOT_EVENT_WARNING] = "warning",     [INGOT_EVENT_DONE] = "done",
        [INGOT_EVENT_ERROR] = "error",
    };
    struct str line = {0};
    str_format(&line, "{\"event\": \"%s\"", kinds[e->kind]);
    if (e->kind == INGOT_EVENT_TOKEN)
        str_format(&line, ", \"token\": %d", e->token);
    if (e->kind >= INGOT_EVENT_CALL && e->kind <= INGOT_EVENT_CALL_END)
        str_format(&line, ", \"index\": %zu", e->index);
    if (e->kind == INGOT_EVENT_CALL || e->kind == INGOT_EVENT_WARNING) {
        str_add_text(&line, e->kind == INGOT_EVENT_CALL ? ", \"name\": " : ", \"kind\": ");
        json_write_string(&line, e->name, strlen(e->name));
    }
    if (e->kind == INGOT_EVENT_CALL) {
        str_add_text(&line, ", \"id\": ");
        json_write_string(&line, e->id, strlen(e->id));
    }
    str_add_text(&line, ", \"text\": ");
    json_write_string(&line, e->text ? e->text : "", e->size);
    if (e->kind == INGOT_EVENT_DONE)
        str_format(&line, ", \"finish_reason\": \"%s\", \"prompt_tokens\": %zu, \"completion_tokens\": %zu", finishes[e->finish], e->prompt_tokens,
                   e->generated_tokens);
    str_add_text(&line, "}\n");
    fwrite(str_text(&line), 1, line.size, stdout);
    str_free(&line);
    return output_finish(stdout, err);
}

static enum status collect(const struct settings *s, struct ingot_request *request, struct answer *a, struct error *err)
{
    struct ingot_event e;
    bool stream = !s->json.value && !s->events.value;
    for (;;) {
        if (interrupt_seen())
            ingot_request_cancel(request);
        if (!ingot_request_next(request, 50, &e))
            continue;
        if (e.kind == INGOT_EVENT_ERROR)
            return error_set(err, (enum status)e.error->status, "%s", e.error->text);
        enum status status = s->events.value ? write_event(&e, err) : STATUS_OK;
        if (stream)
            status = view_event(&a->view, &e, err);
        if (status) /* nobody reads on: computing more would be for nothing */
            return status;
        if (e.kind == INGOT_EVENT_TOKEN || e.kind == INGOT_EVENT_DONE)
            str_add(&a->text, e.text, e.size);
        if (e.kind == INGOT_EVENT_WARNING && !s->json.value)
            view_warning(&e);
        if (e.kind == INGOT_EVENT_TOKEN)
            str_format(&a->tokens, "%s%d", a->tokens.size ? ", " : "", e.token);
        if (e.kind == INGOT_EVENT_DONE) {
            a->done = e;
            return STATUS_OK;
        }
    }
}

/* What a chat read: "text" is the content; the rest stands where there is some. */
static void write_parts(struct str *line, const struct ingot_answer *a)
{
    json_write_string(line, a->content, a->content_size);
    if (a->reasoning_size) {
        str_add_text(line, ", \"reasoning\": ");
        json_write_string(line, a->reasoning, a->reasoning_size);
    }
    for (size_t i = 0; i < a->call_count; i++) {
        str_add_text(line, i ? ", " : ", \"tool_calls\": [");
        call_json(line, &a->calls[i]);
        str_add_text(line, i + 1 < a->call_count ? "" : "]");
    }
    for (size_t i = 0; i < a->warning_count; i++) {
        str_format(line, "%s{\"kind\": \"%s\", \"text\": ", i ? ", " : ", \"warnings\": [", a->warnings[i].kind);
        json_write_string(line, a->warnings[i].text, a->warnings[i].size);
        str_add_text(line, i + 1 < a->warning_count ? "}" : "}]");
    }
}

static void finish_answer(const struct settings *s, struct answer *a, bool has_text)
{
    const struct ingot_event *e = &a->done;
    if (s->json.value) {
        struct str line = {0};
        str_format(&line, "{\"tokens\": [%s], \"text\": ", str_text(&a->tokens));
        if (e->answer)
            write_parts(&line, e->answer);
        else if (has_text)
            json_write_string(&line, str_text(&a->text), a->text.size);
        else
            str_add_text(&line, "null");
        str_format(&line, ", \"finish_reason\": \"%s\", \"prompt_tokens\": %zu, \"completion_tokens\": %zu}\n", finishes[e->finish], e->prompt_tokens,
                   e->generated_tokens);
        fwrite(str_text(&line), 1, line.size, stdout);
        str_free(&line);
    } else if (!s->events.value) {
        if (!has_text)
            printf("%s", str_text(&a->tokens));
        if (e->answer)
            view_calls(&a->view, e->answer);
        if (a->view.column || !e->answer || !e->answer->call_count)
            putchar('\n');
        fflush(stdout);
        if (e->finish == INGOT_FINISH_LENGTH)
            log_line(LOG_SAY, "(cut by the token limit after %zu tokens)", e->generated_tokens);
        if ((isatty(STDERR_FILENO) || s->verbose.value) && e->generated_tokens > 1)
            log_line(LOG_SAY, "[prompt %zu tokens in %.2f s, answer %zu tokens at %.1f tokens/s]", e->prompt_tokens, e->prompt_seconds,
                     e->generated_tokens, (double)(e->generated_tokens - 1) / (e->generate_seconds > 0 ? e->generate_seconds : 1e-9));
    }
}

static enum status answer(const struct settings *s, struct ingot_engine *engine, const struct ingot_request_options *o, const int32_t *ids,
                          size_t count, struct error *err)
{
    struct ingot_error *e = (struct ingot_error *)err;
    struct ingot_session *session = NULL;
    struct ingot_request *request = NULL;
    struct answer a = {.view.reads = o->chat != NULL};
    struct ingot_model_info info;
    ingot_model_info(ingot_engine_model(engine), &info);
    enum status status = (enum status)ingot_session_open(&session, engine, e);
    if (!status)
        status = (enum status)ingot_session_append(session, ids, count, e);
    if (!status)
        status = (enum status)ingot_request_start(&request, session, o, e);
    if (!status)
        status = collect(s, request, &a, err);
    if (!status && (a.text.failed || a.tokens.failed))
        status = error_memory(err, "the answer");
    if (!status)
        finish_answer(s, &a, info.has_tokenizer);
    view_free(&a.view);
    if (!status && a.done.finish == INGOT_FINISH_CANCELLED)
        status = STATUS_INTERRUPTED;
    ingot_request_free(request);
    ingot_session_close(session);
    str_free(&a.text);
    str_free(&a.tokens);
    return status;
}

/* --tools FILE: a list of tools, as JSON; bare functions are wrapped as OpenAI's clients send them. */
static enum status add_tools(struct str *out, const char *path, struct error *err)
{
    struct arena arena = {0};
    struct json tools;
    char *text;
    size_t size;
    enum status status = file_read(&arena, path, 16 << 20, &text, &size, err);
    if (!status && (status = json_parse(&arena, text, size, NULL, &tools, err)))
        error_prefix(err, "%s", path);
    if (!status && tools.kind != JSON_ARRAY)
        status = error_set(err, STATUS_BAD_INPUT, "%s: %s where a list of tools is needed", path, json_kind_name(&tools));
    str_add_text(out, ", \"tools\": [");
    for (uint32_t i = 0; !status && i < tools.size; i++) {
        const struct json *tool = &tools.items[i], *f = json_get(tool, "function");
        if (!json_is(json_get(f ? f : tool, "name"), JSON_STRING))
            status = error_set(err, STATUS_BAD_INPUT, "%s: tool %u has no name", path, i);
        str_add_text(out, i ? ", " : "");
        str_add_text(out, f ? "" : "{\"type\": \"function\", \"function\": ");
        json_write(out, tool);
        str_add_text(out, f ? "" : "}");
    }
    str_add_char(out, ']');
    arena_free(&arena);
    return status;
}

/* The prompt: arguments behind the model, then stdin where something is piped in (or nothing else was given). */
static enum status read_prompt(const struct settings *s, struct str *prompt, struct error *err)
{
    struct stat st;
    for (int i = s->model.set ? 0 : 1; i < s->argument_count; i++) {
        if (prompt->size)
            str_add_char(prompt, ' ');
        str_add_text(prompt, s->arguments[i]);
    }
    bool piped = fstat(STDIN_FILENO, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISREG(st.st_mode) || S_ISSOCK(st.st_mode));
    bool given = prompt->size > 0;
    if (!piped && given)
        return STATUS_OK;
    if (!piped && isatty(STDIN_FILENO))
        log_line(LOG_SAY, "(type the prompt, then Ctrl-D)");
    if (given)
        str_add_char(prompt, '\n');
    enum status status = file_read_all(STDIN_FILENO, INPUT_LIMIT, prompt, err);
    while (prompt->size && prompt->data[prompt->size - 1] == '\n') /* the newline that ends a text file is no part of it */
        prompt->data[--prompt->size] = 0;
    if (!status && !prompt->size)
        status = error_set(err, STATUS_USAGE, "the prompt is empty: give it as an argument or on standard input");
    return status;
}

/* A conversation of at most two messages, as JSON for the template. */
static enum status write_request(struct str *out, const struct settings *s, const struct str *prompt, struct error *err)
{
    str_add_text(out, "{\"messages\": [");
    if (s->system.value) {
        str_add_text(out, "{\"role\": \"system\", \"content\": ");
        json_write_string(out, s->system.value, strlen(s->system.value));
        str_add_text(out, "}, ");
    }
    str_add_text(out, "{\"role\": \"user\", \"content\": ");
    json_write_string(out, str_text(prompt), prompt->size);
    str_add_text(out, "}], \"add_generation_prompt\": true");
    if (s->thinking_budget.set)
        str_format(out, ", \"thinking_budget\": %lld", (long long)s->thinking_budget.value);
    enum status status = s->tools_file.set ? add_tools(out, s->tools_file.value, err) : STATUS_OK;
    if (!status)
        status = shell_grammar_format(s, out, err);
    str_add_char(out, '}');
    return status;
}

static enum status open_prompt(const struct settings *s, struct ingot_model *model, struct ingot_chat **chat, int32_t **ids, size_t *count, struct error *err)
{
    struct str prompt = {0}, request = {0};
    enum status status = read_prompt(s, &prompt, err);
    if (!status && s->raw.value) {
        status = (enum status)ingot_tokenize(model, str_text(&prompt), prompt.size, true, true, ids, count, (struct ingot_error *)err);
    } else if (!status && !(status = write_request(&request, s, &prompt, err))) {
        request.failed |= prompt.failed;
        status = shell_chat(s, model, &request, chat, err);
    }
    str_free(&prompt);
    str_free(&request);
    return status;
}

static enum status answer_prompt(const struct settings *s, struct ingot_engine *engine, struct ingot_request_options *o, struct error *err)
{
    struct ingot_chat *chat = NULL;
    int32_t *ids = NULL;
    size_t count = 0;
    if (s->raw.value && s->tools_file.set)
        return error_set(err, STATUS_USAGE, "--tools needs the chat template, which --raw leaves out");
    enum status status = open_prompt(s, ingot_engine_model(engine), &chat, &ids, &count, err);
    const int32_t *prompt = chat ? ingot_chat_tokens(chat, &count) : ids;
    o->chat = chat;
    if (chat)
        o->grammar = NULL; /* the chat holds the answer to it, behind its reasoning */
    if (!status)
        status = answer(s, engine, o, prompt, count, err);
    ingot_chat_close(chat);
    free(ids);
    return status;
}

enum status command_run(const struct settings *s, struct error *err)
{
    const char *name;
    struct arena arena = {0};
    struct ingot_model *model = NULL;
    struct ingot_engine *engine = NULL;
    struct ingot_request_options o;
    int32_t *ids = NULL;
    size_t *lengths = NULL, count = 0;
    struct ingot_grammar *grammar = NULL;
    enum status status = settings_model(s, &name, err);
    struct ingot_bias *bias = arena_array(&arena, (size_t)s->logit_bias.count + 1, sizeof *bias);
    if (!status && !bias)
        status = error_memory(err, "options");
    if (!status && s->tokens.set)
        status = shell_read_ids(&arena, s->tokens.value, &ids, &lengths, &count, err);
    if (!status) /* before the model: a mistake in it is told at once */
        status = shell_grammar(s, &grammar, err);
    if (!status)
        status = shell_engine(s, name, 1, &model, &engine, err);
    interrupt_catch(); /* from here on Ctrl-C ends the answer in order; before, it just ends the program */
    if (!status)
        status = shell_request(s, model, bias, &o, err);
    if (!status)
        o.grammar = grammar;
    if (!status && s->tokens.set) {
        for (size_t i = 0; i < count && !status; ids += lengths[i++])
            status = answer(s, engine, &o, ids, lengths[i], err);
    } else if (!status) {
        status = answer_prompt(s, engine, &o, err);
    }
    if (!status)
        status = output_finish(stdout, err);
    ingot_engine_close(engine);
    ingot_model_close(model);
    ingot_grammar_close(grammar);
    arena_free(&arena);
    return status;
}
