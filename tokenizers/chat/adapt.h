/* Fitting a request to what a template takes: what templates can do (probe.c), and the steps that change a request
 * (adapt.c, adapt_calls.c), one a line of adapt.def. */
#ifndef TOKENIZERS_CHAT_ADAPT_H
#define TOKENIZERS_CHAT_ADAPT_H

#include "tokenizers/chat/object.h"
#include "tokenizers/tokenizers.h"

/* A request on its way through the steps. A step returns whether it changed anything; failures are left in `status`. */
struct adapting {
    struct arena *arena;
    const struct chat_abilities *can;
    const struct call_notation *calls; /* NULL: not known */
    const char *now;
    struct object request;
    struct json *messages; /* ours to change: each an object */
    uint32_t count;
    struct json tools;     /* an array, or null */
    struct chat_notes *notes;
    enum status status;
    struct error *err;
};

#define STEP(function, name, reported) bool adapt_##function(struct adapting *a);
#include "tokenizers/chat/adapt.def"
#undef STEP

/* Memory ran out: false, so that a step can return it. */
bool adapt_failed(struct adapting *a);
void adapt_note(struct adapting *a, bool reported, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* A message with one key set; with key NULL a copy. */
void adapt_set(struct adapting *a, struct json *message, const char *key, struct json value);
struct json adapt_message(struct adapting *a, const char *role, struct json content);
void adapt_put_front(struct adapting *a, struct json message);
bool adapt_is(const struct json *message, const char *role);
struct json adapt_content(const struct json *message); /* null if there is none */
/* Contents joined: texts with the separator between them, or all as one list of parts if any is one. Null counts as nothing. */
struct json adapt_join(struct adapting *a, const struct json *contents, uint32_t count, const char *separator);
/* Puts text in front of what the first system message says, or makes one. */
void adapt_add_system(struct adapting *a, const struct str *text);
/* A str's bytes as a value on the arena; frees the str. */
struct json adapt_take(struct adapting *a, struct str *text);

#endif
