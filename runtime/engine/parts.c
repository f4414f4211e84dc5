/* An answer's text on its way into events: reasoning, content, calls. */
#include <stdlib.h>
#include <string.h>

#include "runtime/engine/engine.h"

static const enum ingot_event_kind kinds[] = {
    [OUTPUT_REASONING] = INGOT_EVENT_REASONING, [OUTPUT_CONTENT] = INGOT_EVENT_CONTENT,   [OUTPUT_CALL] = INGOT_EVENT_CALL,
    [OUTPUT_ARGUMENTS] = INGOT_EVENT_ARGUMENTS, [OUTPUT_CALL_END] = INGOT_EVENT_CALL_END, [OUTPUT_WARNING] = INGOT_EVENT_WARNING,
};

/* Name and id of a call, the kind of a warning: both in one piece of memory. */
static bool copy_names(struct event_node *node, const struct output_event *e)
{
    const char *name = e->kind == OUTPUT_CALL ? e->name : e->warning, *id = e->kind == OUTPUT_CALL ? e->id : "";
    size_t name_size = strlen(name) + 1, id_size = strlen(id) + 1;
    node->name = malloc(name_size + id_size);
    if (!node->name)
        return false;
    memcpy(node->name, name, name_size);
    memcpy(node->name + name_size, id, id_size);
    node->event.name = node->name;
    node->event.id = node->name + name_size;
    return true;
}

static void take(void *context, const struct output_event *e)
{
    struct parts *r = context;
    struct event_node *node = r->failed ? NULL : event_new(kinds[e->kind]);
    bool named = e->kind == OUTPUT_CALL || e->kind == OUTPUT_WARNING;
    if (!node || !event_text(node, e->text ? e->text : "", e->size) || (named && !copy_names(node, e))) {
        event_free(node);
        r->failed = true;
        return;
    }
    node->event.index = e->index;
    r->calls += e->kind == OUTPUT_CALL_END;
    *r->end = node;
    r->end = &node->next;
}

enum status parts_open(struct parts *r, const struct ingot_chat *chat, uint64_t seed, struct error *err)
{
    enum { TAIL = 1024 }; /* the head of the answer's message is in it, with what a template wrote behind it */
    const struct str *text = &chat->prompt.text;
    size_t tail = text->size < TAIL ? text->size : TAIL;
    *r = (struct parts){.end = &r->list};
    struct output_options o = {.prompt_tail = str_text(text) + text->size - tail,
                               .prompt_tail_size = tail,
                               .tools = chat->tools.kind == JSON_ARRAY ? &chat->tools : NULL,
                               .one_call = chat->one_call,
                               .id_seed = seed,
                               .event = take,
                               .context = r};
    return output_open(&r->output, chat->dialect, &o, err);
}

enum status parts_add(struct parts *r, const char *text, size_t size, struct error *err)
{
    enum status status = size ? output_add(r->output, text, size, err) : STATUS_OK;
    return !status && r->failed ? error_memory(err, "an answer's text") : status;
}

enum status parts_end(struct parts *r, bool cut, struct error *err)
{
    enum status status = output_end(r->output, cut, err);
    return !status && r->failed ? error_memory(err, "an answer's text") : status;
}

struct event_node *parts_take(struct parts *r)
{
    struct event_node *node = r->list;
    if (node) {
        r->list = node->next;
        node->next = NULL;
        if (!r->list)
            r->end = &r->list;
    }
    return node;
}

/* The public answer and the reader's have one layout. */
_Static_assert(sizeof(struct ingot_answer) == sizeof(struct output_answer), "struct ingot_answer mirrors struct output_answer");
_Static_assert(sizeof(struct ingot_call) == sizeof(struct output_call), "struct ingot_call mirrors struct output_call");
_Static_assert(sizeof(struct ingot_warning) == sizeof(struct output_warning), "struct ingot_warning mirrors struct output_warning");

void parts_answer(const struct parts *r, struct ingot_answer *out) { memcpy(out, output_answer(r->output), sizeof *out); }

void parts_close(struct parts *r)
{
    for (struct event_node *node; (node = parts_take(r));)
        event_free(node);
    output_close(r->output);
    r->output = NULL;
}
