/* Log probabilities as OpenAI's clients read them: chat's list of objects, and the legacy form's parallel lists. */
#include "base/utf8.h"
#include "runtime/serve/serve.h"

static void token_json(struct str *out, const struct str *bytes, bool legacy)
{
    if (!legacy || utf8_is_valid(str_text(bytes), bytes->size)) {
        json_write_string(out, str_text(bytes), bytes->size);
        return;
    }
    str_add_text(out, "\"bytes:"); /* as OpenAI spells tokens that are no text, so that they stay apart */
    for (size_t i = 0; i < bytes->size; i++)
        str_format(out, "\\\\x%02x", (unsigned char)bytes->data[i]);
    str_add_char(out, '"');
}

static struct str token_bytes(struct exchange *x, int32_t id)
{
    struct str bytes = {0};
    if (x->served->model->tokenizer)
        tokenizer_bytes(x->served->model->tokenizer, id, &bytes);
    return bytes;
}

static void chat_entry(struct exchange *x, struct str *out, int32_t id, float logprob)
{
    struct str bytes = token_bytes(x, id);
    str_add_text(out, "{\"token\": ");
    token_json(out, &bytes, false);
    str_format(out, ", \"logprob\": %.9g, \"bytes\": [", (double)logprob);
    for (size_t i = 0; i < bytes.size; i++)
        str_format(out, "%s%d", i ? ", " : "", (unsigned char)bytes.data[i]);
    str_add_text(out, "]");
    str_free(&bytes);
}

void logprobs_chat(struct exchange *x, struct str *out, const struct ingot_event *e)
{
    chat_entry(x, out, e->token, e->logprob);
    str_add_text(out, ", \"top_logprobs\": [");
    for (int i = 0; i < e->top_count; i++) {
        str_add_text(out, i ? ", " : "");
        chat_entry(x, out, e->top[i].id, e->top[i].logprob);
        str_add_char(out, '}');
    }
    str_add_text(out, "]}");
}

static size_t characters(const char *text, size_t size)
{
    size_t n = 0;
    for (size_t i = 0; i < size; i++)
        n += ((unsigned char)text[i] & 0xC0) != 0x80;
    return n;
}

static void legacy_top(struct exchange *x, struct str *out, int32_t id, float logprob, bool first)
{
    struct str bytes = token_bytes(x, id);
    str_add_text(out, first ? "" : ", ");
    token_json(out, &bytes, true);
    str_format(out, ": %.9g", (double)logprob);
    str_free(&bytes);
}

/* One entry of the legacy lists; e NULL: the prompt's first token, which nothing predicts. */
void logprobs_legacy(struct exchange *x, struct choice *c, int32_t id, const struct ingot_event *e)
{
    struct str *tokens = &c->legacy[0], *values = &c->legacy[1], *top = &c->legacy[2];
    const char *comma = tokens->size ? ", " : "";
    struct str bytes = token_bytes(x, id);
    str_add_text(tokens, comma);
    token_json(tokens, &bytes, true);
    str_format(&c->offsets, "%s%zu", comma, c->offset);
    c->offset += characters(str_text(&bytes), bytes.size);
    str_free(&bytes);
    if (!e) {
        str_add_text(values, "null");
        str_add_text(top, "null");
        return;
    }
    str_format(values, "%s%.9g", comma, (double)e->logprob);
    str_format(top, "%s{", comma);
    bool own = false;
    for (int i = 0; i < e->top_count; i++) {
        legacy_top(x, top, e->top[i].id, e->top[i].logprob, i == 0);
        own |= e->top[i].id == id;
    }
    if (!own)
        legacy_top(x, top, id, e->logprob, e->top_count == 0);
    str_add_char(top, '}');
}

void logprobs_legacy_object(struct str *out, struct choice *c)
{
    str_format(out, "{\"tokens\": [%s], \"token_logprobs\": [%s], \"top_logprobs\": [%s], \"text_offset\": [%s]}", str_text(&c->legacy[0]),
               str_text(&c->legacy[1]), str_text(&c->legacy[2]), str_text(&c->offsets));
    for (int i = 0; i < 3; i++)
        str_clear(&c->legacy[i]);
    str_clear(&c->offsets);
}
