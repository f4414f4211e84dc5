/* What a template is rendered with: the variables that a request and a model make together. */
#include <string.h>

#include "tokenizers/chat/chat.h"
#include "tokenizers/chat/object.h"

enum { MOST_KEYS = 1000 }; /* of a message, of template_kwargs: each is held against all before it */

/* Roles that APIs define are no text of a user's: a template may build a special token out of them ('<|' + role + '|>'). */
static bool is_known_role(const struct json *v)
{
    static const char *const roles[] = {"system", "developer", "user", "assistant", "tool", "function", "model", "ipython", "environment"};
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (json_is_text(v, roles[i]))
            return true;
    return false;
}

/* Keys without a value are dropped, and reasoning is there under both names that templates read. */
static enum status prepare_message(struct arena *arena, const struct json *message, uint32_t index, struct json *out, struct error *err)
{
    struct object o = {.arena = arena};
    if (message->kind != JSON_OBJECT)
        return error_set(err, STATUS_USAGE, "messages[%u] is %s; an object with a role is needed", index, json_kind_name(message));
    if (message->size > MOST_KEYS)
        return error_set(err, STATUS_USAGE, "messages[%u] has %u keys; at most %d are taken", index, message->size, MOST_KEYS);
    for (uint32_t i = 0; i < message->size; i++) {
        const struct json_member *m = &message->members[i];
        struct json value = m->value;
        if (value.kind == JSON_NULL)
            continue;
        if (m->key_size == 4 && memcmp(m->key, "role", 4) == 0)
            value.truth = is_known_role(&value);
        object_set_sized(&o, m->key, m->key_size, value);
    }
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    const struct json *reasoning = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names && !reasoning; i++)
        reasoning = object_get(&o, names[i]);
    if (reasoning) {
        struct json value = *reasoning;
        object_set(&o, "reasoning_content", value);
        if (!object_get(&o, "thinking"))
            object_set(&o, "thinking", value);
    }
    *out = object_json(&o);
    return o.failed ? error_memory(err, "a request") : STATUS_OK;
}

static enum status prepare_messages(struct arena *arena, const struct json *messages, struct json *out, struct error *err)
{
    if (!json_is(messages, JSON_ARRAY))
        return error_set(err, STATUS_USAGE, "messages is %s; a list of messages is needed", json_kind_name(messages));
    if (!messages->size)
        return error_set(err, STATUS_USAGE, "messages is empty; at least one message is needed");
    struct json *items = arena_array(arena, messages->size, sizeof *items);
    if (!items)
        return error_memory(err, "a request");
    for (uint32_t i = 0; i < messages->size; i++) {
        enum status status = prepare_message(arena, &messages->items[i], i, &items[i], err);
        if (status)
            return status;
    }
    *out = (struct json){.kind = JSON_ARRAY, .size = messages->size, .items = items};
    return STATUS_OK;
}

static struct json or_null(const struct json *v) { return v ? *v : (struct json){.kind = JSON_NULL}; }

enum status chat_context(struct arena *arena, const struct json *request, const struct chat_source *source, struct json *context,
                         struct error *err)
{
    struct object o = {.arena = arena};
    struct json messages;
    if (!json_is(request, JSON_OBJECT))
        return error_set(err, STATUS_USAGE, "a request is %s; an object with messages is needed", json_kind_name(request));
    enum status status = prepare_messages(arena, json_get(request, "messages"), &messages, err);
    if (status)
        return status;
    for (uint32_t i = 0; source && i < source->token_count; i++) {
        struct json value = source->tokens[i].value;
        value.truth = true;
        object_set_sized(&o, source->tokens[i].key, source->tokens[i].key_size, value);
    }
    const struct json *generate = json_get(request, "add_generation_prompt"), *kwargs = json_get(request, "template_kwargs");
    object_set(&o, "messages", messages);
    object_set(&o, "tools", or_null(json_get(request, "tools")));
    object_set(&o, "documents", or_null(json_get(request, "documents")));
    object_set(&o, "add_generation_prompt", json_given(generate) ? *generate : (struct json){.kind = JSON_BOOL});
    if (json_given(kwargs) && kwargs->kind != JSON_OBJECT)
        return error_set(err, STATUS_USAGE, "template_kwargs is %s; an object is needed", json_kind_name(kwargs));
    if (json_given(kwargs) && kwargs->size > MOST_KEYS)
        return error_set(err, STATUS_USAGE, "template_kwargs has %u keys; at most %d are taken", kwargs->size, MOST_KEYS);
    for (uint32_t i = 0; kwargs && kwargs->kind == JSON_OBJECT && i < kwargs->size; i++)
        object_set_sized(&o, kwargs->members[i].key, kwargs->members[i].key_size, kwargs->members[i].value);
    *context = object_json(&o);
    return o.failed ? error_memory(err, "a request") : STATUS_OK;
}
