/* Where an answer's tokens come from. A script stands in for a model in tests of clients: its text goes out word by word. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "runtime/serve/serve.h"

struct script {
    struct arena arena;
    struct json root;
};

enum status script_open(struct script **out, const char *path, struct error *err)
{
    struct script *s = calloc(1, sizeof *s);
    char *text;
    size_t size;
    *out = NULL;
    if (!s)
        return error_memory(err, "a script");
    enum status status = file_read(&s->arena, path, 64 << 20, &text, &size, err);
    if (!status && (status = json_parse(&s->arena, text, size, NULL, &s->root, err)))
        error_prefix(err, "%s", path);
    bool right = !status && s->root.kind == JSON_ARRAY;
    for (uint32_t i = 0; right && i < s->root.size; i++)
        right = json_is(json_get(&s->root.items[i], "match"), JSON_STRING) && json_is(json_get(&s->root.items[i], "output"), JSON_STRING);
    if (!status && !right)
        status = error_set(err, STATUS_BAD_INPUT, "%s: a list of {\"match\": text, \"output\": text} is needed", path);
    if (status) {
        script_close(s);
        return status;
    }
    *out = s;
    return STATUS_OK;
}

void script_close(struct script *s)
{
    if (s)
        arena_free(&s->arena);
    free(s);
}

enum status source_open_engine(struct source *s, struct ingot_session *session, const struct ingot_request_options *o, struct error *err)
{
    s->session = session;
    return (enum status)ingot_request_start(&s->request, session, o, (struct ingot_error *)err);
}

void source_open_script(struct source *s, const struct script *script, struct arena *arena, const struct ask *a, size_t prompt_tokens)
{
    *s = (struct source){.arena = arena, .text = "", .left = a->options.max_tokens, .prompt_tokens = prompt_tokens};
    for (uint32_t i = 0; i < script->root.size; i++) {
        const struct json *match = json_get(&script->root.items[i], "match"), *output = json_get(&script->root.items[i], "output");
        if (match->size && !memmem(a->text, strlen(a->text), match->text, match->size))
            continue;
        s->text = output->text;
        s->size = output->size;
        break;
    }
    for (int i = 0; i < a->options.stop_count; i++) {
        size_t n = strlen(a->options.stop[i]);
        const char *at = n ? memmem(s->text, s->size, a->options.stop[i], n) : NULL;
        if (at)
            s->size = (size_t)(at - s->text);
    }
}

/* A word with the blanks behind it, at most 16 bytes, whole characters. */
static size_t script_piece(const char *text, size_t size)
{
    size_t n = 0;
    while (n < size && n < 16 && text[n] != ' ')
        n++;
    while (n < size && n < 16 && text[n] == ' ')
        n++;
    while (n < size && ((unsigned char)text[n] & 0xC0) == 0x80)
        n++;
    return n;
}

static bool script_next(struct source *s, struct ingot_event *out)
{
    if (s->ended)
        return false;
    *out = (struct ingot_event){.kind = INGOT_EVENT_TOKEN, .token = -1, .text = s->text};
    if (s->size && s->left) {
        out->size = script_piece(s->text, s->size);
        s->text += out->size;
        s->size -= out->size;
        s->given++;
        s->left -= s->left > 0;
        return true;
    }
    s->ended = true;
    out->kind = INGOT_EVENT_DONE;
    out->finish = s->size ? INGOT_FINISH_LENGTH : INGOT_FINISH_STOP;
    out->prompt_tokens = s->prompt_tokens;
    out->generated_tokens = s->given;
    return true;
}

bool source_next(struct source *s, int timeout_ms, struct ingot_event *out)
{
    return s->request ? ingot_request_next(s->request, timeout_ms, out) : script_next(s, out);
}

void source_close(struct source *s)
{
    ingot_request_free(s->request);
    ingot_session_close(s->session);
    s->request = NULL;
    s->session = NULL;
}
