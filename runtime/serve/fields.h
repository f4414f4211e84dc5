/* Reading a request's fields: what fields.c and messages.c share. */
#ifndef RUNTIME_SERVE_FIELDS_H
#define RUNTIME_SERVE_FIELDS_H

#include "runtime/serve/serve.h"

struct reading {
    struct ask *a;
    struct arena *arena;
    const struct json *body;
    struct ingot_model *model;
    const char **param; /* the field that an error is about */
    struct error *err;
    struct str request; /* of a chat: what ingot_chat_open() gets */
};

/* A field that is there and not null, else NULL. */
static inline const struct json *get(const struct reading *r, const char *key)
{
    const struct json *v = json_get(r->body, key);
    return v && v->kind != JSON_NULL ? v : NULL;
}

#define WRONG(r, key, ...) (*(r)->param = (key), error_set((r)->err, STATUS_USAGE, __VA_ARGS__))

/* messages.c: a chat's messages and tools, checked, as a prompt. */
enum status messages_read(struct reading *r, const struct ingot_chat_options *options);

#endif
