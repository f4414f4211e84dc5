/* JSON objects that are built or changed, on an arena: requests on their way to a template. */
#ifndef TOKENIZERS_CHAT_OBJECT_H
#define TOKENIZERS_CHAT_OBJECT_H

#include "base/arena.h"
#include "base/json.h"

/* Memory running out sets `failed`; whoever finishes checks once. */
struct object {
    struct arena *arena;
    struct json_member *members;
    uint32_t count, capacity;
    bool failed;
};

/* A copy of an object's members (of none if v is no object). */
struct object object_of(struct arena *arena, const struct json *v);
/* A key that is there already keeps its place and gets the new value. Keys and values are borrowed. */
void object_set(struct object *o, const char *key, struct json value);
void object_set_sized(struct object *o, const char *key, uint32_t key_size, struct json value);
void object_remove(struct object *o, const char *key);
const struct json *object_get(const struct object *o, const char *key); /* NULL: not there */
struct json object_json(const struct object *o);

struct json json_text(const char *text, size_t size); /* borrows */
static inline bool json_given(const struct json *v) { return v && v->kind != JSON_NULL; }

#endif
