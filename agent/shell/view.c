/* An answer on the terminal: its text on stdout as it comes, reasoning and calls beside it. */
#include <string.h>
#include <unistd.h>

#include "agent/shell/shell.h"
#include "agent/shell/view.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "runtime/ingot.h"

/* Reasoning is for a person who watches: it goes to a terminal on stderr or nowhere. */
static bool watched(void) { return isatty(STDERR_FILENO); }

static void show_reasoning(struct view *v, const struct ingot_event *e)
{
    if (!v->reasons) {
        v->reasons = true;
        v->began = clock_seconds();
        if (watched() && !v->fold)
            fputs("\033[2m", stderr);
    }
    str_add(&v->reasoning, e->text, e->size);
    if (!watched())
        return;
    if (v->fold)
        fprintf(stderr, "\r\033[2mthinking, %.0f s ...\033[0m", clock_seconds() - v->began);
    else
        shell_write(stderr, e->text, e->size);
}

/* The last of it: folded to one line, or closed. */
static void end_reasoning(struct view *v)
{
    if (!v->reasons)
        return;
    v->reasons = false;
    if (!watched())
        return;
    if (v->fold)
        fprintf(stderr, "\r\033[K\033[2m(thought for %.1f s; /think shows it)\033[0m\n", clock_seconds() - v->began);
    else
        fputs("\033[0m\n", stderr);
}

enum status view_event(struct view *v, const struct ingot_event *e, struct error *err)
{
    if (e->kind == INGOT_EVENT_REASONING)
        show_reasoning(v, e);
    else if (e->kind != INGOT_EVENT_TOKEN)
        end_reasoning(v);
    bool text = v->reads ? e->kind == INGOT_EVENT_CONTENT : e->kind == INGOT_EVENT_TOKEN || e->kind == INGOT_EVENT_DONE;
    if (!text || !e->size)
        return STATUS_OK;
    shell_print(e->text, e->size);
    v->column = e->text[e->size - 1] != '\n';
    return output_finish(stdout, err);
}

void view_calls(struct view *v, const struct ingot_answer *a)
{
    struct str line = {0};
    if (a->call_count && v->column)
        putchar('\n');
    for (size_t i = 0; i < a->call_count; i++) {
        str_clear(&line);
        call_json(&line, &a->calls[i]);
        str_add_char(&line, '\n');
        shell_print(str_text(&line), line.size);
        v->column = false;
    }
    str_free(&line);
}

void view_warning(const struct ingot_event *e)
{
    static const struct {
        const char *kind, *words;
    } known[] = {
        {"truncated", "the token limit cut a call, which is left out"},
        {"malformed", "a call that does not read is left as text"},
        {"unknown-tool", "a tool was called that is not declared"},
        {"type", "an argument is not of its declared type"},
        {"unclosed-reasoning", "the answer ended while still reasoning"},
    };
    const char *words = e->name;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        words = strcmp(known[i].kind, e->name) ? words : known[i].words;
    log_line(LOG_SAY, "(%s: %s)", words, QUOTE(e->text, e->size));
}

void call_json(struct str *out, const struct ingot_call *c)
{
    str_add_text(out, "{\"name\": ");
    json_write_string(out, c->name, c->name_size);
    str_add_text(out, ", \"arguments\": ");
    str_add(out, c->arguments, c->arguments_size);
    str_add_text(out, ", \"id\": ");
    json_write_string(out, c->id, strlen(c->id));
    str_add_char(out, '}');
}

void view_free(struct view *v)
{
    end_reasoning(v);
    str_free(&v->reasoning);
}
