/* An answer read by a response schema: all at once, when nothing follows. */
#include <stdlib.h>

#include "tokenizers/output/schema.h"

/* Which bytes of the answer a regex of the schema has matched: what none has is content. */
struct cover {
    const char *text;
    size_t size;
    bool *bytes;
};

static void add(void *context, const char *from, const char *to)
{
    struct cover *c = context;
    if (from >= c->text && to <= c->text + c->size)
        memset(c->bytes + (from - c->text), true, (size_t)(to - from));
}

/* The head of a message, as the prompt ends with it, is markup. */
static bool ends_prompt(const struct output *o, size_t prompt, const char *text, size_t size)
{
    while (prompt && out_space(*in_at(o, prompt - 1)))
        prompt--;
    return size && size <= prompt && !memcmp(in_at(o, prompt - size), text, size);
}

static void tell_uncovered(struct output *o, const struct cover *c, size_t prompt)
{
    for (size_t at = 0, end; at < c->size; at = end) {
        end = at;
        while (end < c->size && c->bytes[end] == c->bytes[at])
            end++;
        size_t from = at, to = end;
        while (from < to && out_space(c->text[from]))
            from++;
        while (to > from && out_space(c->text[to - 1]))
            to--;
        if (c->bytes[at] || from == to || ends_prompt(o, prompt, c->text + from, to - from))
            continue;
        emit_markup(o);
        emit_content(o, c->text + from, to - from);
    }
}

static void tell_part(struct output *o, const struct json *v, bool reasoning)
{
    struct str text = {0};
    if (v->kind == JSON_STRING)
        str_add(&text, v->text, v->size);
    else
        json_write(&text, v); /* a list of parts */
    o->failed |= text.failed;
    emit_markup(o);
    o->verbatim = !reasoning;
    if (reasoning)
        emit_reasoning(o, str_text(&text), text.size);
    else
        emit_content(o, str_text(&text), text.size);
    o->verbatim = false;
    str_free(&text);
}

/* The message's members; false, and nothing told: its calls are none. */
static bool tell_message(struct output *o, struct making_value *m, const struct json *message)
{
    o->quiet = true;
    for (uint32_t i = 0; i < message->size; i++) {
        const struct json_member *member = &message->members[i];
        bool calls = part_named(member->key, member->key_size) == PART_CALLS && member->value.kind != JSON_NULL;
        if (calls && !declared_calls(m, &member->value, NULL)) {
            calls_reject(o);
            return m->good = false;
        }
    }
    for (enum part part = PART_REASONING; part >= PART_CONTENT; part--) /* reasoning goes first */
        for (uint32_t i = 0; i < message->size; i++) {
            const struct json_member *member = &message->members[i];
            if (part_named(member->key, member->key_size) == part && member->value.kind != JSON_NULL)
                tell_part(o, &member->value, part == PART_REASONING);
        }
    return true;
}

void schema_read(struct output *o, const struct schema *s, struct pattern_run *run, size_t prompt)
{
    struct arena arena = {0};
    struct making_value m = {.o = o, .arena = &arena, .run = run, .good = true};
    struct cover c = {.text = in_at(o, prompt), .size = o->limit > prompt ? o->limit - prompt : 0};
    struct matches told = {add, &c};
    c.bytes = calloc(c.size + 1, sizeof *c.bytes);
    o->failed |= !c.bytes;
    o->at = o->limit;
    struct json text = {.kind = JSON_STRING, .size = (uint32_t)c.size, .text = c.text}, message = {0};
    if (c.bytes && c.size && c.size <= UINT32_MAX)
        message = schema_value(&m, s, text, &told);
    if (message.kind == JSON_OBJECT && m.good && !o->failed && tell_message(o, &m, &message)) {
        tell_uncovered(o, &c, prompt);
        emit_markup(o);
    } else if (c.size) {
        if (!m.good)
            warn(o, o->cut ? "truncated" : "malformed", c.text, c.size);
        emit_content(o, c.text, c.size);
    }
    calls_accept(o);
    free(c.bytes);
    arena_free(&arena);
}
