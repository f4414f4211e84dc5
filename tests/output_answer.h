/* What a reader of model output answers, as one JSON text to compare: fed whole or in pieces, as an answer or from its events. */
#ifndef TESTS_OUTPUT_ANSWER_H
#define TESTS_OUTPUT_ANSWER_H

#include <stdlib.h>
#include <string.h>

#include "tokenizers/tokenizers.h"

struct told {                             /* joined events */
    struct str reasoning, content, calls; /* calls: name and arguments of those that are complete */
    struct str open;                      /* the call that is being told */
    size_t index;
    bool inside, wrong; /* wrong: out of order */
};

static inline void told_event(void *context, const struct output_event *e)
{
    struct told *t = context;
    switch (e->kind) {
    case OUTPUT_REASONING:
        str_add(&t->reasoning, e->text, e->size);
        break;
    case OUTPUT_CONTENT:
        str_add(&t->content, e->text, e->size);
        break;
    case OUTPUT_CALL: /* a call that broke has no end */
        t->wrong |= e->index != t->index || strlen(e->id) == 0;
        t->index++;
        t->inside = true;
        str_clear(&t->open);
        json_write_string(&t->open, e->name, e->name_size);
        break;
    case OUTPUT_ARGUMENTS:
        t->wrong |= !t->inside || e->index + 1 != t->index;
        str_add(&t->open, e->text, e->size);
        break;
    case OUTPUT_CALL_END:
        t->wrong |= !t->inside;
        t->inside = false;
        str_add(&t->calls, str_text(&t->open), t->open.size);
        break;
    case OUTPUT_WARNING:
        break;
    }
}

static inline void told_free(struct told *t)
{
    str_free(&t->reasoning);
    str_free(&t->content);
    str_free(&t->calls);
    str_free(&t->open);
}

static inline void answer_text(const struct output_answer *a, struct str *out)
{
    str_add_text(out, "{\"reasoning\": ");
    json_write_string(out, a->reasoning, a->reasoning_size);
    str_add_text(out, ", \"content\": ");
    json_write_string(out, a->content, a->content_size);
    str_add_text(out, ", \"calls\": [");
    for (size_t i = 0; i < a->call_count; i++) {
        str_add_text(out, i ? ", [" : "[");
        json_write_string(out, a->calls[i].name, a->calls[i].name_size);
        str_add_text(out, ", ");
        str_add(out, a->calls[i].arguments, a->calls[i].arguments_size);
        str_add_char(out, ']');
    }
    str_add_text(out, "], \"warnings\": [");
    for (size_t i = 0; i < a->warning_count; i++) {
        str_add_text(out, i ? ", [\"" : "[\"");
        str_add_text(out, a->warnings[i].kind);
        str_add_text(out, "\", ");
        json_write_string(out, a->warnings[i].text, a->warnings[i].size);
        str_add_char(out, ']');
    }
    str_add_text(out, "]}");
}

/* Where to cut: a set of offsets as an increasing function of the last one. */
typedef size_t next_cut(void *context, size_t at);

/* Reads text in pieces (next NULL: whole) and appends its answer to out; calls of the answer alone, one after another, to calls
 * (may be NULL). False: memory. */
static inline bool read_output(const struct dialect *d, struct output_options options, const char *text, size_t size, bool cut,
                               next_cut *next, void *context, struct str *out, struct str *calls)
{
    struct output *o;
    struct error err;
    if (output_open(&o, d, &options, &err))
        return false;
    enum status status = STATUS_OK;
    for (size_t at = 0, to; at < size && !status; at = to) {
        to = next ? next(context, at) : size;
        to = to > size ? size : to;
        status = output_add(o, text + at, to - at, &err);
    }
    if (!status)
        status = output_end(o, cut, &err);
    if (!status)
        answer_text(output_answer(o), out);
    for (size_t i = 0; !status && calls && i < output_answer(o)->call_count; i++) {
        const struct output_call *c = &output_answer(o)->calls[i];
        json_write_string(calls, c->name, c->name_size);
        str_add(calls, c->arguments, c->arguments_size);
    }
    output_close(o);
    return !status;
}

#endif
