/* A chat's messages and tools, checked, become a prompt and a way to read the answer. */
#include <stdlib.h>
#include <string.h>

#include "runtime/serve/fields.h"

static const char *shown(const struct json *v, struct quoted *q)
{
    return json_is(v, JSON_STRING) ? quote(q, v->text, v->size) : json_kind_name(v);
}

/* ---- messages --------------------------------------------------------------------------------------------------------- */

static enum status check_content(struct reading *r, const struct json *content, uint32_t at)
{
    struct quoted q;
    for (uint32_t i = 0; content->kind == JSON_ARRAY && i < content->size; i++) {
        const struct json *part = &content->items[i], *type = json_get(part, "type");
        if (!json_is_text(type, "text") || !json_is(json_get(part, "text"), JSON_STRING))
            return WRONG(r, "messages", "messages[%u].content[%u]: only parts of type text are supported, not %s", at, i,
                         json_is(type, JSON_STRING) ? shown(type, &q) : "this");
    }
    return STATUS_OK;
}

static enum status check_calls(struct reading *r, const struct json *calls, uint32_t at)
{
    if (calls->kind != JSON_ARRAY)
        return WRONG(r, "messages", "messages[%u].tool_calls is %s; a list is needed", at, json_kind_name(calls));
    for (uint32_t i = 0; i < calls->size; i++)
        if (!json_is(json_get(json_get(&calls->items[i], "function"), "name"), JSON_STRING))
            return WRONG(r, "messages", "messages[%u].tool_calls[%u].function.name is missing", at, i);
    return STATUS_OK;
}

static enum status check_message(struct reading *r, const struct json *m, uint32_t at)
{
    static const char *const roles[] = {"system", "developer", "user", "assistant", "tool", "function"};
    const struct json *role = json_get(m, "role"), *content = json_get(m, "content"), *calls = json_get(m, "tool_calls");
    struct quoted q;
    bool known = false;
    if (m->kind != JSON_OBJECT)
        return WRONG(r, "messages", "messages[%u] is %s; an object is needed", at, json_kind_name(m));
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        known |= json_is_text(role, roles[i]);
    if (!known)
        return WRONG(r, "messages", "messages[%u].role is %s; system, developer, user, assistant or tool is needed", at, shown(role, &q));
    bool empty = !content || content->kind == JSON_NULL;
    if (!empty && content->kind != JSON_STRING && content->kind != JSON_ARRAY)
        return WRONG(r, "messages", "messages[%u].content is %s; a text or a list of parts is needed", at, json_kind_name(content));
    if (empty && !json_is_text(role, "assistant"))
        return WRONG(r, "messages", "messages[%u].content is missing", at);
    enum status status = empty ? STATUS_OK : check_content(r, content, at);
    return status || !calls || calls->kind == JSON_NULL ? status : check_calls(r, calls, at);
}

static enum status read_messages(struct reading *r)
{
    const struct json *messages = json_get(r->body, "messages");
    if (!json_is(messages, JSON_ARRAY))
        return WRONG(r, "messages", "messages is %s; a list is needed", json_kind_name(messages));
    if (!messages->size)
        return WRONG(r, "messages", "messages is empty: there is nothing to answer");
    for (uint32_t i = 0; i < messages->size; i++) {
        enum status status = check_message(r, &messages->items[i], i);
        if (status)
            return status;
    }
    str_add_text(&r->request, ", \"messages\": ");
    json_write(&r->request, messages);
    return STATUS_OK;
}

/* ---- tools ------------------------------------------------------------------------------------------------------------ */

static enum status check_tools(struct reading *r, const struct json *tools)
{
    struct quoted q;
    if (tools->kind != JSON_ARRAY)
        return WRONG(r, "tools", "tools is %s; a list is needed", json_kind_name(tools));
    for (uint32_t i = 0; i < tools->size; i++) {
        const struct json *type = json_get(&tools->items[i], "type"), *f = json_get(&tools->items[i], "function"), *name = json_get(f, "name");
        const struct json *parameters = json_get(f, "parameters");
        if (!json_is_text(type, "function"))
            return WRONG(r, "tools", "tools[%u].type is %s; function is the only type there is", i, shown(type, &q));
        if (!json_is(name, JSON_STRING) || !name->size)
            return WRONG(r, "tools", "tools[%u].function.name is missing", i);
        if (parameters && parameters->kind != JSON_OBJECT && parameters->kind != JSON_NULL)
            return WRONG(r, "tools", "tools[%u].function.parameters is %s; a JSON schema is needed", i, json_kind_name(parameters));
    }
    return STATUS_OK;
}

/* "none" hides the tools from the model, so that it calls none. */
static enum status read_tools(struct reading *r)
{
    const struct json *tools = get(r, "tools"), *choice = get(r, "tool_choice"), *parallel = get(r, "parallel_tool_calls");
    bool many = true;
    enum status status = tools ? check_tools(r, tools) : STATUS_OK;
    if (status)
        return status;
    if (parallel && !json_bool(parallel, &many))
        return WRONG(r, "parallel_tool_calls", "parallel_tool_calls is %s; true or false is needed", json_kind_name(parallel));
    if (!tools || !tools->size) {
        if (choice && !json_is_text(choice, "none") && !json_is_text(choice, "auto"))
            return WRONG(r, "tool_choice", "tool_choice asks for a tool, but tools is empty");
        return STATUS_OK;
    }
    if (json_is_text(choice, "none"))
        return STATUS_OK;
    str_add_text(&r->request, ", \"tools\": ");
    json_write(&r->request, tools);
    if (choice) {
        str_add_text(&r->request, ", \"tool_choice\": ");
        json_write(&r->request, choice);
    }
    str_add_text(&r->request, many ? "" : ", \"parallel_tool_calls\": false");
    return STATUS_OK;
}

/* ---- variables of the template ---------------------------------------------------------------------------------------- */

/* chat_template_kwargs, and what has a field of its own: reasoning_effort, enable_thinking. */
static enum status read_kwargs(struct reading *r)
{
    static const char *const efforts[] = {"none", "minimal", "low", "medium", "high", "xhigh", "max"};
    const struct json *kwargs = get(r, "chat_template_kwargs"), *effort = get(r, "reasoning_effort"), *think = get(r, "enable_thinking");
    struct quoted q;
    bool known = !effort, on = true;
    if (kwargs && kwargs->kind != JSON_OBJECT)
        return WRONG(r, "chat_template_kwargs", "chat_template_kwargs is %s; an object is needed", json_kind_name(kwargs));
    for (size_t i = 0; i < sizeof efforts / sizeof *efforts; i++)
        known |= json_is_text(effort, efforts[i]);
    if (!known)
        return WRONG(r, "reasoning_effort", "reasoning_effort is %s; none, minimal, low, medium, high, xhigh or max is needed", shown(effort, &q));
    if (think && !json_bool(think, &on))
        return WRONG(r, "enable_thinking", "enable_thinking is %s; true or false is needed", json_kind_name(think));
    if (json_is_text(effort, "none"))
        on = false;
    if (!kwargs && !effort && !think)
        return STATUS_OK;
    str_add_text(&r->request, ", \"template_kwargs\": {");
    if (effort) {
        str_add_text(&r->request, "\"reasoning_effort\": ");
        json_write(&r->request, effort);
    }
    if (think || !on) /* under both names that templates read */
        str_format(&r->request, "%s\"enable_thinking\": %s, \"thinking\": %s", effort ? ", " : "", on ? "true" : "false", on ? "true" : "false");
    for (uint32_t i = 0; kwargs && i < kwargs->size; i++) { /* these win: of a key given twice the last counts */
        str_add_text(&r->request, i || effort || think ? ", " : "");
        json_write_string(&r->request, kwargs->members[i].key, kwargs->members[i].key_size);
        str_add_text(&r->request, ": ");
        json_write(&r->request, &kwargs->members[i].value);
    }
    str_add_char(&r->request, '}');
    return STATUS_OK;
}

/* What the answer is held to; runtime/engine/constraint.c reads it. llama.cpp's clients send a schema or GBNF in fields of their own. */
static enum status read_format(struct reading *r)
{
    const struct json *format = get(r, "response_format"), *schema = get(r, "json_schema"), *budget = get(r, "thinking_budget");
    const struct json *grammar = get(r, "grammar");
    int64_t tokens = 0;
    if (format && format->kind != JSON_OBJECT)
        return WRONG(r, "response_format", "response_format is %s; an object with a type is needed", json_kind_name(format));
    if (format && schema)
        return WRONG(r, "json_schema", "json_schema and response_format exclude each other");
    if (budget && (!json_int(budget, &tokens) || tokens < 0))
        return WRONG(r, "thinking_budget", "thinking_budget is %s; a number of tokens is needed", json_kind_name(budget));
    if (format) {
        str_add_text(&r->request, ", \"response_format\": ");
        json_write(&r->request, format);
    } else if (schema) {
        str_add_text(&r->request, ", \"response_format\": {\"type\": \"json_schema\", \"json_schema\": {\"schema\": ");
        json_write(&r->request, schema);
        str_add_text(&r->request, "}}");
    } else if (grammar) {
        str_add_text(&r->request, ", \"response_format\": {\"type\": \"gbnf\", \"gbnf\": ");
        json_write(&r->request, grammar);
        str_add_char(&r->request, '}');
    }
    if (budget)
        str_format(&r->request, ", \"thinking_budget\": %lld", (long long)tokens);
    return STATUS_OK;
}

/* ---- all of it -------------------------------------------------------------------------------------------------------- */

static enum status open_chat(struct reading *r, const struct ingot_chat_options *options)
{
    struct ask *a = r->a;
    struct prompt *p = &a->prompts[0];
    if (r->request.failed)
        return error_memory(r->err, "a prompt");
    *r->param = "messages";
    enum status status = (enum status)ingot_chat_open(&a->options.chat, r->model, str_text(&r->request), r->request.size, options, (struct ingot_error *)r->err);
    static const char *const fields[] = {"response_format", "tool_choice"};
    for (size_t i = 0; i < sizeof fields / sizeof *fields && status; i++)
        if (!strncmp(r->err->text, fields[i], strlen(fields[i])))
            *r->param = fields[i];
    if (status)
        return status;
    const int32_t *ids = ingot_chat_tokens(a->options.chat, &p->count);
    p->ids = malloc((p->count + 1) * sizeof *p->ids);
    if (!p->ids)
        return error_memory(r->err, "a prompt");
    memcpy(p->ids, ids, p->count * sizeof *p->ids);
    a->prompt_count = 1;
    return STATUS_OK;
}

enum status messages_read(struct reading *r, const struct ingot_chat_options *options)
{
    str_add_text(&r->request, "{\"add_generation_prompt\": true");
    enum status status = read_messages(r);
    if (!status)
        status = read_tools(r);
    if (!status)
        status = read_kwargs(r);
    if (!status)
        status = read_format(r);
    str_add_char(&r->request, '}');
    if (!status)
        status = open_chat(r, options);
    str_free(&r->request);
    return status;
}
