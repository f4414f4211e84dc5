/* ingot chat: a conversation on the terminal. Ctrl-C stops the answer, not the program. */
#include <editline/readline.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/shell/shell.h"
#include "agent/shell/view.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "runtime/ingot.h"

/* Messages are kept as JSON objects, the form that templates read. */
struct chat {
    const struct settings *s;
    struct ingot_model *model;
    struct ingot_engine *engine;
    struct ingot_session *session;
    struct ingot_request_options options;
    struct str *messages; /* each {"role": ..., "content": ...} */
    struct str reasoning; /* of the last answer */
    int count, capacity;
    bool has_system;
    size_t prompt_tokens, reused, generated;
    double prompt_seconds, generate_seconds;
    struct error *err;
};

/* Takes the message over. */
static bool add_json(struct chat *c, struct str m)
{
    if (c->count == c->capacity) {
        int capacity = c->capacity ? c->capacity * 2 : 16;
        struct str *more = realloc(c->messages, (size_t)capacity * sizeof *more);
        if (!more)
            return str_free(&m), false;
        c->messages = more;
        c->capacity = capacity;
    }
    c->messages[c->count++] = m;
    return !m.failed;
}

static bool add_message(struct chat *c, const char *role, const char *text, size_t size)
{
    struct str m = {0};
    str_format(&m, "{\"role\": \"%s\", \"content\": ", role);
    json_write_string(&m, text, size);
    str_add_char(&m, '}');
    return add_json(c, m);
}

/* An answer as templates read it in a history: with what was thought and called. */
static bool add_answer(struct chat *c, const struct ingot_answer *a)
{
    struct str m = {0};
    str_add_text(&m, "{\"role\": \"assistant\", \"content\": ");
    json_write_string(&m, a->content, a->content_size);
    if (a->reasoning_size) {
        str_add_text(&m, ", \"reasoning_content\": ");
        json_write_string(&m, a->reasoning, a->reasoning_size);
    }
    for (size_t i = 0; i < a->call_count; i++) {
        str_add_text(&m, i ? ", {\"id\": " : ", \"tool_calls\": [{\"id\": ");
        json_write_string(&m, a->calls[i].id, strlen(a->calls[i].id));
        str_add_text(&m, ", \"type\": \"function\", \"function\": {\"name\": ");
        json_write_string(&m, a->calls[i].name, a->calls[i].name_size);
        str_add_text(&m, ", \"arguments\": ");
        str_add(&m, a->calls[i].arguments, a->calls[i].arguments_size);
        str_add_text(&m, i + 1 < a->call_count ? "}}" : "}}]");
    }
    str_add_char(&m, '}');
    return add_json(c, m);
}

static void drop_messages(struct chat *c, int keep)
{
    while (c->count > keep)
        str_free(&c->messages[--c->count]);
}

static void write_messages(const struct chat *c, struct str *out)
{
    str_add_char(out, '[');
    for (int i = 0; i < c->count; i++) {
        str_add_text(out, i ? ", " : "");
        str_add(out, str_text(&c->messages[i]), c->messages[i].size);
    }
    str_add_char(out, ']');
}

/* Sets (or, with "", removes) the system message at the head; the conversation after it stays. */
static bool set_system(struct chat *c, const char *text)
{
    if (c->has_system) {
        str_free(&c->messages[0]);
        memmove(c->messages, c->messages + 1, (size_t)--c->count * sizeof *c->messages);
        c->has_system = false;
    }
    if (!*text)
        return true;
    if (!add_message(c, "system", text, strlen(text)))
        return false;
    struct str m = c->messages[c->count - 1];
    memmove(c->messages + 1, c->messages, (size_t)(c->count - 1) * sizeof *c->messages);
    c->messages[0] = m;
    return c->has_system = true;
}

/* ---- one answer --------------------------------------------------------------------------------------------------------- */

static enum status print_answer(struct chat *c, struct ingot_request *request)
{
    struct view view = {.fold = true, .reads = true};
    struct ingot_event e;
    enum status status = STATUS_OK;
    for (;;) {
        if (interrupt_seen())
            ingot_request_cancel(request);
        if (!ingot_request_next(request, 50, &e))
            continue;
        status = e.kind == INGOT_EVENT_ERROR ? error_set(c->err, (enum status)e.error->status, "%s", e.error->text) : view_event(&view, &e, c->err);
        if (status || e.kind == INGOT_EVENT_DONE)
            break;
        if (e.kind == INGOT_EVENT_WARNING)
            view_warning(&e);
    }
    if (!status) {
        view_calls(&view, e.answer);
        if (!add_answer(c, e.answer))
            status = error_memory(c->err, "the conversation");
    }
    str_clear(&c->reasoning);
    str_add(&c->reasoning, str_text(&view.reasoning), view.reasoning.size);
    view_free(&view);
    if (status)
        return status;
    printf(e.finish == INGOT_FINISH_CANCELLED ? " [stopped]\n" : "\n");
    if (e.finish == INGOT_FINISH_LENGTH)
        log_line(LOG_SAY, "(cut after %zu tokens)", e.generated_tokens);
    c->prompt_tokens = e.prompt_tokens;
    c->reused = e.reused_tokens;
    c->generated = e.generated_tokens;
    c->prompt_seconds = e.prompt_seconds;
    c->generate_seconds = e.generate_seconds;
    return STATUS_OK;
}

/* The session takes the new prompt; what it has in common with the old one is not computed again. */
static enum status follow(struct chat *c, const struct ingot_chat *chat)
{
    size_t count, before, kept;
    const int32_t *ids = ingot_chat_tokens(chat, &count);
    ingot_session_tokens(c->session, &before);
    enum status status = (enum status)ingot_session_sync(c->session, ids, count, &kept, (struct ingot_error *)c->err);
    if (!status && kept < before)
        log_line(LOG_VERBOSE, "the template writes earlier turns anew: %zu of %zu tokens are computed again", before - kept, before);
    return status;
}

static enum status answer(struct chat *c)
{
    struct str text = {0};
    struct ingot_chat *chat = NULL;
    struct ingot_request *request = NULL;
    str_add_text(&text, "{\"add_generation_prompt\": true, \"messages\": ");
    write_messages(c, &text);
    if (c->s->thinking_budget.set)
        str_format(&text, ", \"thinking_budget\": %lld", (long long)c->s->thinking_budget.value);
    str_add_char(&text, '}');
    enum status status = shell_chat(c->s, c->model, &text, &chat, c->err);
    if (!status)
        status = follow(c, chat);
    interrupt_clear();
    c->options.chat = chat;
    if (!status)
        status = (enum status)ingot_request_start(&request, c->session, &c->options, (struct ingot_error *)c->err);
    if (!status)
        status = print_answer(c, request);
    interrupt_clear();
    ingot_request_free(request);
    ingot_chat_close(chat);
    str_free(&text);
    return status;
}

/* ---- saving ------------------------------------------------------------------------------------------------------------- */

/* FILE holds the messages; FILE.state the session's tokens and cache. */
static enum status save(struct chat *c, const char *path)
{
    struct str out = {0};
    char state[4096];
    str_add_text(&out, "{\"messages\": ");
    write_messages(c, &out);
    str_add_text(&out, "}\n");
    snprintf(state, sizeof state, "%s.state", path);
    enum status status = out.failed ? error_memory(c->err, "the conversation") : file_replace(path, str_text(&out), out.size, c->err);
    if (!status)
        status = (enum status)ingot_session_save(c->session, state, (struct ingot_error *)c->err);
    str_free(&out);
    return status;
}

static enum status resume(struct chat *c, const char *path)
{
    struct arena arena = {0};
    char *text, state[4096];
    size_t size;
    struct json root;
    enum status status = file_read(&arena, path, 256 << 20, &text, &size, c->err);
    if (!status && (status = json_parse(&arena, text, size, NULL, &root, c->err)))
        error_prefix(c->err, "%s", path);
    const struct json *messages = status ? NULL : json_get(&root, "messages");
    if (!status && !json_is(messages, JSON_ARRAY))
        status = error_set(c->err, STATUS_BAD_INPUT, "%s: no saved conversation (a list \"messages\" is needed)", path);
    for (uint32_t i = 0; !status && i < messages->size; i++) {
        const struct json *role = json_get(&messages->items[i], "role"), *content = json_get(&messages->items[i], "content");
        struct str m = {0};
        bool known = json_is_text(role, "system") || json_is_text(role, "user") || json_is_text(role, "assistant");
        if (!known || !json_is(content, JSON_STRING))
            status = error_set(c->err, STATUS_BAD_INPUT, "%s: messages[%u] is no message", path, i);
        else if (json_write(&m, &messages->items[i]), !add_json(c, m))
            status = error_memory(c->err, "the conversation");
        c->has_system |= !status && i == 0 && json_is_text(role, "system");
    }
    snprintf(state, sizeof state, "%s.state", path);
    if (!status && file_exists(state)) {
        struct ingot_session *loaded;
        struct ingot_error why;
        if (!ingot_session_load(&loaded, c->engine, state, &why)) {
            ingot_session_close(c->session);
            c->session = loaded;
        } else {
            log_line(LOG_WARN, "%s; the conversation is computed again", why.text);
        }
    }
    arena_free(&arena);
    return status;
}

/* ---- commands ----------------------------------------------------------------------------------------------------------- */

static void show_stats(const struct chat *c)
{
    size_t tokens;
    ingot_session_tokens(c->session, &tokens);
    printf("context %zu of %lld tokens; last prompt %zu tokens (%zu from the cache) in %.2f s; last answer %zu tokens at %.1f tokens/s\n", tokens,
           (long long)ingot_engine_plan(c->engine)->context, c->prompt_tokens, c->reused, c->prompt_seconds, c->generated,
           c->generated > 1 && c->generate_seconds > 0 ? (double)(c->generated - 1) / c->generate_seconds : 0.0);
}

static const char *behind(const char *line, const char *command)
{
    size_t n = strlen(command);
    if (strncmp(line, command, n) != 0 || (line[n] && line[n] != ' '))
        return NULL;
    return line + n + strspn(line + n, " ");
}

static bool has_role(const struct chat *c, int at, const char *role)
{
    struct arena arena = {0};
    struct json m;
    struct error ignored;
    const struct str *text = &c->messages[at];
    bool same = !json_parse(&arena, str_text(text), text->size, NULL, &m, &ignored) && json_is_text(json_get(&m, "role"), role);
    arena_free(&arena);
    return same;
}

/* A line that begins with '/'. *end: the user wants to leave. Errors are said, the conversation goes on. */
static enum status obey(struct chat *c, const char *line, bool *end)
{
    const char *rest;
    if (behind(line, "/exit") || behind(line, "/quit") || behind(line, "/bye"))
        return *end = true, STATUS_OK;
    if (behind(line, "/undo")) {
        int keep = c->count;
        if (keep == c->has_system)
            return error_set(c->err, STATUS_USAGE, "there is nothing to take back");
        while (keep > c->has_system && !has_role(c, keep - 1, "user"))
            keep--;
        drop_messages(c, keep > c->has_system ? keep - 1 : c->has_system);
        printf("(%d messages left)\n", c->count);
        return STATUS_OK;
    }
    if (behind(line, "/retry")) {
        if (c->count && has_role(c, c->count - 1, "assistant"))
            drop_messages(c, c->count - 1);
        c->options.sampling.seed++; /* with --seed the same answer would come again */
        return c->count > c->has_system ? answer(c) : error_set(c->err, STATUS_USAGE, "there is nothing to answer yet");
    }
    if ((rest = behind(line, "/system"))) {
        if (!set_system(c, rest))
            return error_memory(c->err, "the conversation");
        printf(*rest ? "(system message set)\n" : "(no system message)\n");
        return STATUS_OK;
    }
    if (behind(line, "/think")) {
        shell_print(str_text(&c->reasoning), c->reasoning.size);
        printf(c->reasoning.size ? "\n" : "(the last answer came without reasoning)\n");
        return STATUS_OK;
    }
    if (behind(line, "/stats"))
        return show_stats(c), STATUS_OK;
    if ((rest = behind(line, "/save"))) {
        if (!*rest)
            return error_set(c->err, STATUS_USAGE, "/save needs a file name");
        enum status status = save(c, rest);
        if (!status)
            printf("saved: %s, %s.state\n", rest, rest);
        return status;
    }
    printf("/undo        take the last question and its answer back\n/retry       answer the last question again\n"
           "/system TEXT set the system message (nothing: remove it)\n/think       the reasoning of the last answer\n/stats       tokens and speed\n"
           "/save FILE   save; go on later with --resume FILE\n/exit        leave (also Ctrl-D)\n");
    return behind(line, "/help") ? STATUS_OK : error_set(c->err, STATUS_USAGE, "there is no command %s", QUOTE(line, strcspn(line, " ")));
}

static char *history_path(char *out, size_t size)
{
    const char *home = getenv("INGOT_HOME"), *state = getenv("XDG_STATE_HOME"), *user = getenv("HOME");
    if (home && *home)
        snprintf(out, size, "%s", home);
    else if (state && *state)
        snprintf(out, size, "%s/ingot", state);
    else if (user && *user)
        snprintf(out, size, "%s/.local/state/ingot", user);
    else
        return NULL; /* no home, no history: not into whatever folder this is */
    if (file_make_folders(out, NULL))
        return NULL;
    size_t n = strlen(out);
    snprintf(out + n, size - n, "/chat-history");
    return out;
}

static enum status converse(struct chat *c)
{
    char path[4096], *history = isatty(STDIN_FILENO) ? history_path(path, sizeof path) : NULL;
    bool end = false;
    using_history();
    if (history)
        read_history(history);
    interrupt_catch();
    while (!end) {
        interrupt_clear();
        char *line = readline(isatty(STDIN_FILENO) ? "> " : "");
        if (!line && interrupt_seen()) { /* Ctrl-C at the prompt: a fresh line */
            putchar('\n');
            continue;
        }
        if (!line && isatty(STDOUT_FILENO))
            putchar('\n'); /* Ctrl-D: the shell's prompt gets a line of its own */
        if (!line)
            break;
        enum status status = STATUS_OK;
        int before = c->count;
        if (*line) {
            add_history(line);
            if (history)
                write_history(history);
        }
        if (*line == '/')
            status = obey(c, line, &end);
        else if (*line && !add_message(c, "user", line, strlen(line)))
            status = error_memory(c->err, "the conversation");
        else if (*line && (status = answer(c)))
            drop_messages(c, before); /* a question without an answer is taken back */
        free(line);
        if (status && ferror(stdout))
            return status; /* nobody reads the answers */
        if (status)
            fprintf(stderr, "ingot: %s\n", c->err->text);
    }
    return STATUS_OK;
}

enum status command_chat(const struct settings *s, struct error *err)
{
    const char *name;
    struct arena arena = {0};
    struct chat c = {.s = s, .err = err};
    struct ingot_error *e = (struct ingot_error *)err;
    struct ingot_bias *bias = arena_array(&arena, (size_t)s->logit_bias.count + 1, sizeof *bias);
    enum status status = bias ? settings_model(s, &name, err) : error_memory(err, "options");
    if (!status)
        status = shell_engine(s, name, 1, &c.model, &c.engine, err);
    if (!status)
        status = shell_request(s, c.model, bias, &c.options, err);
    if (!status)
        status = (enum status)ingot_session_open(&c.session, c.engine, e);
    if (!status && s->resume.set)
        status = resume(&c, s->resume.value);
    if (!status && s->system.set && !set_system(&c, s->system.value))
        status = error_memory(err, "the conversation");
    if (!status) {
        log_line(LOG_SAY, "%s, %lld tokens of context. /help lists commands, Ctrl-C stops an answer, Ctrl-D leaves.", name,
                 (long long)ingot_engine_plan(c.engine)->context);
        status = converse(&c);
    }
    drop_messages(&c, 0);
    str_free(&c.reasoning);
    free(c.messages);
    ingot_session_close(c.session);
    ingot_engine_close(c.engine);
    ingot_model_close(c.model);
    arena_free(&arena);
    return status;
}
