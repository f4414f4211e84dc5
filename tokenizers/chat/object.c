#include "tokenizers/chat/object.h"

#include <string.h>

void object_set_sized(struct object *o, const char *key, uint32_t key_size, struct json value)
{
    for (uint32_t i = 0; i < o->count; i++)
        if (o->members[i].key_size == key_size && memcmp(o->members[i].key, key, key_size) == 0) {
            o->members[i].value = value;
            return;
        }
    if (o->count == o->capacity) {
        uint32_t capacity = o->capacity * 2 + 16;
        struct json_member *members = arena_array(o->arena, capacity, sizeof *members);
        if (!members) {
            o->failed = true;
            return;
        }
        if (o->count)
            memcpy(members, o->members, o->count * sizeof *members);
        o->members = members;
        o->capacity = capacity;
    }
    o->members[o->count++] = (struct json_member){.key = key, .key_size = key_size, .value = value};
}

void object_set(struct object *o, const char *key, struct json value) { object_set_sized(o, key, (uint32_t)strlen(key), value); }

struct object object_of(struct arena *arena, const struct json *v)
{
    struct object o = {.arena = arena};
    for (uint32_t i = 0; json_is(v, JSON_OBJECT) && i < v->size; i++)
        object_set_sized(&o, v->members[i].key, v->members[i].key_size, v->members[i].value);
    return o;
}

void object_remove(struct object *o, const char *key)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < o->count; i++)
        if (o->members[i].key_size != strlen(key) || memcmp(o->members[i].key, key, o->members[i].key_size) != 0)
            o->members[kept++] = o->members[i];
    o->count = kept;
}

struct json object_json(const struct object *o) { return (struct json){.kind = JSON_OBJECT, .size = o->count, .members = o->members}; }

const struct json *object_get(const struct object *o, const char *key)
{
    struct json v = object_json(o);
    return json_get(&v, key);
}

struct json json_text(const char *text, size_t size) { return (struct json){.kind = JSON_STRING, .size = (uint32_t)size, .text = text}; }
