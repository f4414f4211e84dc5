/* Calls written as JSON, read while they come: {"name", "arguments"}, lists of it, {"NAME": {...}}. The arguments go out as the
 * model wrote them as soon as the name is known. */
#include <stdio.h>

#include "tokenizers/output/output.h"

enum key { KEY_OTHER, KEY_NAME, KEY_ARGUMENTS, KEY_ID, KEY_CALLS, KEY_CONTENT };

static const struct {
    const char *text;
    enum key key;
} keys[] = {
    {"name", KEY_NAME},  {"tool_name", KEY_NAME},  {"arguments", KEY_ARGUMENTS}, {"parameters", KEY_ARGUMENTS},
    {"id", KEY_ID},      {"tool_call_id", KEY_ID}, {"tool_calls", KEY_CALLS},    {"content", KEY_CONTENT},
    {"type", KEY_OTHER},
};

/* "arguments" and "parameters" are two names of one thing: of both, the first row that is there counts. */
static const struct json *member(const struct json *item, enum key key)
{
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const struct json *v = keys[i].key == key ? json_get(item, keys[i].text) : NULL;
        if (v)
            return v;
    }
    return NULL;
}

static void stream_to(struct output *o, size_t at)
{
    struct json_calls *j = &o->b.json;
    call_add(o, in_at(o, j->sent), at - j->sent);
    j->sent = at;
}

/* Raw control characters would break the client's JSON. */
static void stream_control(struct output *o, size_t at)
{
    char escape[8];
    stream_to(o, at);
    snprintf(escape, sizeof escape, "\\u%04x", (unsigned)(unsigned char)*in_at(o, at));
    call_add(o, escape, 6);
    o->b.json.sent = at + 1;
}

/* ---- one call -------------------------------------------------------------------------------------------------------- */

static bool begin_call(struct output *o)
{
    struct json_calls *j = &o->b.json;
    const char *name, *id = NULL;
    size_t size, id_size = 0;
    if (!json_string_decode(o, in_at(o, j->name.at), j->name.size, &name, &size) || !size)
        return false;
    if (j->id.size && !json_string_decode(o, in_at(o, j->id.at), j->id.size, &id, &id_size))
        return false;
    if (id_size && memchr(id, 0, id_size))
        id_size = 0; /* ids are C strings to those who read them */
    call_begin(o, name, size, id, id_size);
    j->begun = true;
    return true;
}

static bool is_object(struct output *o, const char *text, size_t size)
{
    struct arena arena = {0};
    struct json v;
    bool good = json_value(&arena, text, size, &v, &o->failed) && v.kind == JSON_OBJECT;
    arena_free(&arena);
    return good;
}

/* Arguments that were held: an object, a string that holds one, null. */
static bool add_arguments(struct output *o, const char *text, size_t size)
{
    const char *inner;
    if (size && *text == '{') {
        call_add_json(o, text, size);
        return true;
    }
    if (!size || *text == 'n') {
        call_add_text(o, "{}");
        return true;
    }
    if (*text != '"' || !json_string_decode(o, text, size, &inner, &size))
        return false;
    while (size && out_space(*inner))
        inner++, size--;
    if (size && !is_object(o, inner, size))
        return false;
    call_add(o, size ? inner : "{}", size ? size : 2);
    return true;
}

/* A key that came twice: the last one counts, so the item is read as a whole. What went out already stays incomplete. */
static bool again(struct output *o, size_t end)
{
    struct json_calls *j = &o->b.json;
    struct arena arena = {0};
    struct str text = {0}, args = {0};
    struct json item;
    json_fix_controls(&text, in_at(o, j->item_at), end - j->item_at);
    o->failed |= text.failed;
    bool good = json_value(&arena, str_text(&text), text.size, &item, &o->failed);
    const struct json *name = good ? member(&item, KEY_NAME) : NULL, *v = good ? member(&item, KEY_ARGUMENTS) : NULL;
    good = json_is(name, JSON_STRING) && name->size;
    if (good) {
        if (j->begun) {
            o->call_count--;
            str_free(&o->calls[o->call_count].arguments);
        }
        call_begin(o, name->text, name->size, NULL, 0);
        if (v)
            json_write(&args, v);
        o->failed |= args.failed;
        good = add_arguments(o, str_text(&args), args.size) && call_end(o);
    }
    str_free(&args);
    str_free(&text);
    arena_free(&arena);
    return good;
}

static bool end_item(struct output *o, size_t end)
{
    struct json_calls *j = &o->b.json;
    j->in_item = false;
    j->count++;
    if (o->block->flags & BARE && !j->args.size)
        return false;
    if (j->again)
        return again(o, end);
    if (!j->name.size)
        return false;
    if (!j->begun && (!begin_call(o) || !add_arguments(o, in_at(o, j->args.at), j->args.size)))
        return false;
    return call_end(o);
}

/* ---- members --------------------------------------------------------------------------------------------------------- */

static bool begin_item(struct output *o, size_t at, char c)
{
    struct json_calls *j = &o->b.json;
    static const struct span none;
    if (c != '{')
        return false;
    j->in_item = true;
    j->begun = j->again = j->known = false;
    j->item_at = at;
    j->name = j->id = j->args = none;
    return true;
}

static bool end_key(struct output *o, size_t end)
{
    struct json_calls *j = &o->b.json;
    const char *key = in_at(o, j->string_at) + 1;
    size_t size = end - j->string_at - 1;
    bool known = false;
    j->key = KEY_OTHER;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strlen(keys[i].text) == size && !memcmp(keys[i].text, key, size)) {
            j->key = keys[i].key;
            known = true;
        }
    if (o->block->flags & KEYED && j->in_item && j->scan.level == j->item_level + 1) {
        if (j->name.size)
            return false; /* one name, one object */
        j->key = KEY_ARGUMENTS;
        j->name = (struct span){j->string_at, end + 1 - j->string_at};
    }
    bool first = j->in_item && !j->known && j->scan.level == j->item_level + 1;
    j->known |= known;
    return known || !first || !(o->block->flags & BARE); /* an object that begins like no call is none */
}

static bool declared(struct output *o, struct span name)
{
    const char *text;
    size_t size;
    return json_string_decode(o, in_at(o, name.at), name.size, &text, &size) && tool_find(o, text, size);
}

static bool begin_member(struct output *o, size_t at, char c)
{
    struct json_calls *j = &o->b.json;
    j->value_at = at;
    if (j->key == KEY_CALLS && o->block->flags & WRAPPED && !j->item_level) {
        j->in_item = false;
        j->wrapped = true;
        j->item_level = 2;
        return c == '[';
    }
    if (j->key != KEY_ARGUMENTS || c != '{' || j->args.size || !j->name.size || o->quiet)
        return true;
    if (o->block->flags & OWN_IDS && !j->id.size)
        return true; /* the id may still come */
    if (!begin_call(o))
        return false;
    j->streaming = true;
    j->sent = at;
    return true;
}

static bool end_member(struct output *o, size_t end)
{
    struct json_calls *j = &o->b.json;
    struct span value = {j->value_at, end - j->value_at};
    struct span *to = j->key == KEY_NAME ? &j->name : j->key == KEY_ARGUMENTS ? &j->args : j->key == KEY_ID ? &j->id : NULL;
    bool string = *in_at(o, value.at) == '"';
    if (j->streaming) {
        stream_to(o, end);
        j->streaming = false;
    }
    if (j->key == KEY_CONTENT && string)
        j->content = value;
    if (j->key == KEY_NAME && (!string || (o->block->flags & BARE && !declared(o, value))))
        return false;
    if (!to || (j->key == KEY_ID && (!string || value.size == 2)))
        return true;
    j->again |= to->size && j->key != KEY_ID;
    *to = value;
    return true;
}

static bool end_value(struct output *o, int level, size_t end)
{
    struct json_calls *j = &o->b.json;
    if (j->in_item && level == j->item_level + 1)
        return end_member(o, end);
    if (j->in_item && level == j->item_level)
        return end_item(o, end);
    if (j->wrapped && level == 1 && j->key == KEY_CONTENT && *in_at(o, j->value_at) == '"')
        j->content = (struct span){j->value_at, end - j->value_at};
    return true;
}

static bool take(struct output *o, unsigned event, size_t at)
{
    struct json_calls *j = &o->b.json;
    int level = j->scan.level;
    if (event & SCAN_STRING)
        j->string_at = at;
    if (event & SCAN_CONTROL && j->streaming)
        stream_control(o, at);
    if (event & SCAN_END_BEFORE && !end_value(o, event & SCAN_END ? level + 1 : level, at))
        return false;
    if (event & SCAN_KEY && ((j->in_item && level == j->item_level + 1) || (j->wrapped && level == 1)) && !end_key(o, at))
        return false;
    if (event & SCAN_BEGIN) {
        if (level == j->item_level && !j->in_item)
            return begin_item(o, at, *in_at(o, at));
        if (j->in_item && level == j->item_level + 1)
            return begin_member(o, at, *in_at(o, at));
        if (j->wrapped && level == 1)
            j->value_at = at;
    }
    return !(event & SCAN_END) || end_value(o, level, at + 1);
}

/* ---- payloads -------------------------------------------------------------------------------------------------------- */

void json_calls_begin(struct output *o, size_t at)
{
    struct json_calls *j = &o->b.json;
    memset(&j->scan, 0, sizeof j->scan);
    j->in_item = j->wrapped = j->streaming = false;
    j->payload = o->at = at;
    j->item_level = *in_at(o, at) == '[';
    j->state = CALLS_INSIDE;
}

enum step json_calls_read(struct output *o)
{
    struct json_calls *j = &o->b.json;
    while (o->at < o->limit) {
        unsigned event = json_scan_byte(&j->scan, (unsigned char)*in_at(o, o->at));
        if (event & SCAN_BAD || (event && !take(o, event, o->at)))
            return STEP_BROKEN;
        o->at++;
        if (event & SCAN_DONE) {
            j->state = CALLS_BEHIND;
            return STEP_CALL;
        }
    }
    if (j->streaming)
        stream_to(o, o->at);
    return step_starved(o);
}

bool json_arguments_begin(struct output *o)
{
    struct json_calls *j = &o->b.json;
    char c = *in_at(o, o->at);
    memset(&j->scan, 0, sizeof j->scan);
    j->payload = j->sent = o->at;
    j->streaming = c == '{';
    return c == '{' || c == '"';
}

enum step json_arguments_read(struct output *o)
{
    struct json_calls *j = &o->b.json;
    while (o->at < o->limit) {
        unsigned event = json_scan_byte(&j->scan, (unsigned char)*in_at(o, o->at));
        if (event & SCAN_BAD)
            return STEP_BROKEN;
        if (event & SCAN_CONTROL && j->streaming)
            stream_control(o, o->at);
        o->at++;
        if (!(event & SCAN_DONE))
            continue;
        if (j->streaming)
            stream_to(o, o->at);
        else if (!add_arguments(o, in_at(o, j->payload), o->at - j->payload))
            return STEP_BROKEN;
        return call_end(o) ? STEP_CALL : STEP_BROKEN;
    }
    if (j->streaming)
        stream_to(o, o->at);
    return step_starved(o);
}

enum step json_body_read(struct output *o, enum step (*end)(struct output *))
{
    struct json_calls *j = &o->b.json;
    if (j->state == MESSAGE_BODY) {
        enum step step = json_arguments_read(o);
        if (step != STEP_CALL)
            return step;
        j->state = MESSAGE_END;
    }
    return end(o);
}

enum step json_behind(struct output *o)
{
    if (o->at == o->limit)
        return o->ended ? STEP_CALL : STEP_MORE;
    return *in_at(o, o->at) == '}' || *in_at(o, o->at) == ']' ? STEP_BROKEN : STEP_CALL;
}
