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

enum status source_open_script(struct source *s, const struct script *script, const struct ask *a, uint64_t seed, size_t prompt_tokens, struct error *err)
{
    const char *prompt = a->options.chat ? ingot_chat_text(a->options.chat, NULL) : a->text;
    *s = (struct source){.text = "", .left = a->options.max_tokens, .prompt_tokens = prompt_tokens, .reads = a->options.chat != NULL};
    s->one_call = s->reads && a->options.chat->one_call;
    for (uint32_t i = 0; i < script->root.size; i++) {
        const struct json *match = json_get(&script->root.items[i], "match"), *output = json_get(&script->root.items[i], "output");
        if (match->size && !memmem(prompt, strlen(prompt), match->text, match->size))
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
    return s->reads ? parts_open(&s->parts, a->options.chat, seed, err) : STATUS_OK;
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

static bool script_token(struct source *s, struct ingot_event *out)
{
    struct error err;
    *out = (struct ingot_event){.kind = INGOT_EVENT_TOKEN, .token = -1, .text = s->text, .size = script_piece(s->text, s->size)};
    s->parts.failed |= s->reads && parts_add(&s->parts, out->text, out->size, &err);
    s->text += out->size;
    s->size -= out->size;
    s->given++;
    s->left -= s->left > 0;
    if (s->one_call && s->parts.calls)
        s->size = 0;
    return true;
}

static bool script_next(struct source *s, struct ingot_event *out)
{
    struct error err;
    event_free(s->part);
    if ((s->part = s->reads ? parts_take(&s->parts) : NULL)) {
        *out = s->part->event;
        return true;
    }
    if (s->ended)
        return false;
    if (s->size && s->left)
        return script_token(s, out);
    if (s->reads && !s->cut) { /* what the reader held back comes before the end */
        s->cut = true;
        s->parts.failed |= parts_end(&s->parts, s->size > 0, &err) != STATUS_OK;
        return script_next(s, out);
    }
    s->ended = true;
    if (s->reads)
        parts_answer(&s->parts, &s->answer);
    *out = (struct ingot_event){.kind = INGOT_EVENT_DONE, .token = -1, .text = "", .finish = s->size ? INGOT_FINISH_LENGTH : INGOT_FINISH_STOP,
                                .prompt_tokens = s->prompt_tokens, .generated_tokens = s->given, .calls = s->answer.call_count, .answer = &s->answer};
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
    event_free(s->part);
    if (s->reads)
        parts_close(&s->parts);
    s->part = NULL;
    s->reads = false;
    s->request = NULL;
    s->session = NULL;
}
