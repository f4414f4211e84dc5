/* X and K: <function=NAME> <parameter=KEY>VALUE</parameter> ... </function>, in the words of the dialect's table row. Values are
 * text; JSON is written while reading. A string goes out piece by piece, other values when they are complete.
 *
 * A value ends at the first closing tag that the next parameter, the function's end or the end of the output follows. */
#include "base/utf8.h"
#include "tokenizers/output/output.h"

enum { HEAD, HEAD_LIST, BODY, PARAM_LIST, VALUE_START, VALUE, CLOSED, BEHIND };

static const struct tag_words *words(const struct output *o) { return o->block->words; }
static enum step refuse(const struct output *o) { return o->section ? STEP_BROKEN : STEP_TEXT; }

/* ---- attribute lists ------------------------------------------------------------------------------------------------- */

/* The value of NAME="..." in a list; false if it is not there. &quot; &amp; &lt; &gt; are decoded, &amp; last. */
static bool attribute(struct output *o, size_t from, size_t to, const char *name, const char **text, size_t *size)
{
    size_t n = strlen(name);
    for (size_t p = from; p + n + 2 <= to; p++) {
        bool word = p == from || out_space(*in_at(o, p - 1));
        if (!word || memcmp(in_at(o, p), name, n) || memcmp(in_at(o, p + n), "=\"", 2))
            continue;
        const char *value = in_at(o, p + n + 2), *end = memchr(value, '"', to - (p + n + 2));
        if (!end)
            return false;
        *text = value;
        *size = (size_t)(end - value);
        return true;
    }
    return false;
}

static char *decode_entities(struct output *o, const char *text, size_t size, size_t *out)
{
    static const struct {
        const char *entity;
        char c;
    } entities[] = {{"&quot;", '"'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&amp;", '&'}};
    char *copy = arena_copy(&o->arena, text, size);
    size_t n = 0;
    for (size_t i = 0; copy && i < size; i++) {
        copy[n] = text[i];
        for (int e = 0; e < 4; e++) {
            size_t length = strlen(entities[e].entity);
            if (size - i >= length && !memcmp(text + i, entities[e].entity, length)) {
                copy[n] = entities[e].c;
                i += length - 1;
                break;
            }
        }
        n++;
    }
    o->failed |= !copy;
    *out = copy ? n : 0;
    return copy;
}

/* Looks for the list's end from tags.mark on: STEP_CALL with o->at behind it, *to at its first byte. */
static enum step list_end(struct output *o, const char *end, size_t *to)
{
    struct tag_calls *t = &o->b.tags;
    for (; o->at < o->limit; o->at++) {
        char c = *in_at(o, o->at);
        t->quoted ^= c == '"';
        if (c == '\n' || (c == '<' && !t->quoted && *end != '<') || o->at - t->mark > NAME_LIMIT)
            return STEP_BROKEN;
        if (t->quoted || c != *end)
            continue;
        enum found found = text_at(o, o->at, end);
        if (found == FOUND_PART)
            return STEP_MORE;
        if (found == FOUND) {
            *to = o->at;
            o->at += strlen(end);
            return STEP_CALL;
        }
    }
    return step_starved(o);
}

/* The name in a list: an attribute's value, or the list itself. */
static bool list_name(struct output *o, size_t to, const char *name, const char **text, size_t *size)
{
    size_t from = o->b.tags.mark;
    if (name)
        return attribute(o, from, to, name, text, size) && *size && (*text = decode_entities(o, *text, *size, size));
    while (to > from && out_space(*in_at(o, to - 1)))
        to--;
    while (from < to && out_space(*in_at(o, from)))
        from++;
    *text = in_at(o, from);
    *size = to - from;
    return *size;
}

/* ---- head ------------------------------------------------------------------------------------------------------------ */

static void begin_list(struct output *o, int state)
{
    o->b.tags.mark = o->at;
    o->b.tags.quoted = false;
    o->b.tags.state = state;
}

static enum step head(struct output *o)
{
    const char *open = words(o)->head_open;
    if (o->block->flags & DECLARED || !*open) { /* the opening is the head's own */
        begin_list(o, HEAD_LIST);
        return STEP_CALL;
    }
    size_t p = o->at = past_space(o, o->at);
    enum found found = p == o->limit ? FOUND_PART : text_at(o, p, open);
    if (found != FOUND)
        return found == FOUND_NOT ? refuse(o) : step_starved(o);
    o->at = p + strlen(open);
    begin_list(o, HEAD_LIST);
    return STEP_CALL;
}

static enum step begin(struct output *o, const char *name, size_t size)
{
    struct tag_calls *t = &o->b.tags;
    t->schema = tool_find(o, name, size);
    if (o->block->flags & DECLARED && !t->schema)
        return STEP_TEXT;
    call_begin(o, name, size, NULL, 0);
    call_add_text(o, "{");
    t->first = true;
    t->state = BODY;
    return STEP_CALL;
}

/* glm: the name ends where the first tag begins. */
static enum step glm_head(struct output *o)
{
    struct tag_calls *t = &o->b.tags;
    size_t from = past_space(o, t->mark), to = from;
    while (to < o->limit && !out_space(*in_at(o, to)) && *in_at(o, to) != '<')
        to++;
    if (to - from > NAME_LIMIT)
        return refuse(o);
    size_t next = t->look = past_space(o, t->look > to ? t->look : to);
    if (next == o->limit) {
        t->mark = from;
        return step_starved(o);
    }
    enum found param = text_at(o, next, words(o)->param_open), close = text_at(o, next, words(o)->head_close);
    if (to == from || (param == FOUND_NOT && close == FOUND_NOT))
        return refuse(o);
    if (param == FOUND_PART || close == FOUND_PART)
        return STEP_MORE;
    o->at = next;
    return begin(o, in_at(o, from), to - from);
}

static enum step head_list(struct output *o)
{
    const char *name;
    size_t to, size;
    if (!words(o)->head_end)
        return glm_head(o);
    enum step step = list_end(o, words(o)->head_end, &to);
    if (step != STEP_CALL)
        return step == STEP_BROKEN && o->block->flags & DECLARED ? STEP_TEXT : step;
    if (!list_name(o, to, words(o)->head_attribute, &name, &size))
        return STEP_BROKEN;
    return begin(o, name, size);
}

/* ---- parameters ------------------------------------------------------------------------------------------------------ */

static void begin_value(struct output *o)
{
    struct tag_calls *t = &o->b.tags;
    t->mark = t->look = t->sent = o->at;
    t->raw = t->types == TYPE_STRING;
    t->some = false;
    t->state = VALUE;
    if (t->raw)
        call_add_text(o, "\"");
}

static enum step body(struct output *o)
{
    const struct tag_words *w = words(o);
    struct tag_calls *t = &o->b.tags;
    size_t p = o->at = past_space(o, o->at);
    if (p == o->limit)
        return t->closed && o->ended && !o->cut ? STEP_TEXT : step_starved(o); /* STEP_TEXT: only the end is missing */
    enum found param = text_at(o, p, w->param_open), close = text_at(o, p, w->head_close);
    enum found json = w->json_open && t->first ? text_at(o, p, w->json_open) : FOUND_NOT;
    if (o->ended && t->closed && !o->cut && (part_at_end(o, p, w->param_open) || part_at_end(o, p, w->head_close)))
        return STEP_TEXT;
    if (close == FOUND) {
        o->at = p + strlen(w->head_close);
        call_add_text(o, "}");
        t->state = BEHIND;
        return call_end(o) ? STEP_CALL : STEP_BROKEN;
    }
    if (param == FOUND || json == FOUND) {
        t->json = param != FOUND;
        o->at = p + strlen(t->json ? w->json_open : w->param_open);
        begin_list(o, PARAM_LIST);
        return STEP_CALL;
    }
    return param == FOUND_PART || close == FOUND_PART || json == FOUND_PART ? STEP_MORE : STEP_BROKEN;
}

/* What the markup or the schema says about the value that begins. */
static void choose_types(struct output *o, size_t to, const char *key, size_t size)
{
    struct tag_calls *t = &o->b.tags;
    const char *said;
    size_t n;
    const struct json *property = t->schema ? tool_property(t->schema, key, size) : NULL;
    t->types = types_of(property);
    if (!words(o)->param_attribute)
        return;
    if (attribute(o, t->mark, to, "string", &said, &n))
        t->types = n == 4 && !memcmp(said, "true", 4) ? TYPE_STRING : TYPE_ANY & ~TYPE_STRING;
    else if (words(o)->json_open && attribute(o, t->mark, to, "type", &said, &n) && type_named(said, n))
        t->types = type_named(said, n);
}

static enum step param_list(struct output *o)
{
    struct tag_calls *t = &o->b.tags;
    const char *key;
    size_t to, size;
    enum step step = list_end(o, words(o)->param_end, &to);
    if (step != STEP_CALL)
        return step;
    if (t->json) {
        t->types = TYPE_OBJECT;
        begin_value(o);
        return STEP_CALL;
    }
    if (!list_name(o, to, words(o)->param_attribute, &key, &size))
        return STEP_BROKEN;
    if (!words(o)->param_attribute && (memchr(key, '<', size) || memchr(key, '\n', size)))
        return STEP_BROKEN;
    choose_types(o, to, key, size);
    if (!t->first)
        call_add_text(o, ", ");
    t->first = false;
    call_add_string(o, key, size, true);
    call_add_text(o, ": ");
    t->state = VALUE_START;
    return STEP_CALL;
}

static enum step value_start(struct output *o)
{
    const char *open = words(o)->value_open;
    if (open) {
        o->at = past_space(o, o->at);
        enum found found = o->at == o->limit ? FOUND_PART : text_at(o, o->at, open);
        if (found != FOUND)
            return found == FOUND_PART ? step_starved(o) : STEP_BROKEN;
        o->at += strlen(open);
    }
    begin_value(o);
    return STEP_CALL;
}

/* ---- values ---------------------------------------------------------------------------------------------------------- */

/* Size of the line break at `at` (before: that ends there), 0 if there is none. */
static size_t line_break(const struct output *o, size_t at, size_t end)
{
    if (at < end && *in_at(o, at) == '\n')
        return 1;
    return end - at >= 2 && at < end && *in_at(o, at) == '\r' && *in_at(o, at + 1) == '\n' ? 2 : 0;
}

static size_t line_break_before(const struct output *o, size_t from, size_t end)
{
    if (end == from || *in_at(o, end - 1) != '\n')
        return 0;
    return end - from >= 2 && *in_at(o, end - 2) == '\r' ? 2 : 1;
}

/* A string's bytes up to `to` are certain, but for a line break that may be the last. */
static void stream_string(struct output *o, size_t to, bool last)
{
    struct tag_calls *t = &o->b.tags;
    bool exact = o->block->flags & EXACT;
    if (!exact && !t->some) {
        if (!last && (to == t->mark || (to - t->mark == 1 && *in_at(o, t->mark) == '\r')))
            return; /* the first line break may be half there */
        t->sent += line_break(o, t->mark, to);
        t->some = true;
    }
    size_t end = to;
    if (!exact)
        end -= line_break_before(o, t->sent, end);
    if (!last) {
        if (!exact && end > t->sent && *in_at(o, end - 1) == '\r' && end == to)
            end--;
        end -= utf8_unfinished(in_at(o, t->sent), end - t->sent);
    }
    if (end > t->sent)
        call_add_string(o, in_at(o, t->sent), end - t->sent, false);
    t->sent = end > t->sent ? end : t->sent;
}

static enum step end_value(struct output *o, size_t end)
{
    struct tag_calls *t = &o->b.tags;
    struct str json = {0};
    const struct tag_words *w = words(o);
    bool good = true;
    if (t->raw) {
        stream_string(o, end, true);
        call_add_text(o, "\"");
    } else {
        size_t from = t->mark, to = end;
        if (!(o->block->flags & EXACT)) {
            from += line_break(o, from, to);
            to -= line_break_before(o, from, to);
        }
        good = value_write(&json, t->types, in_at(o, from), to - from);
        if (!good)
            warn(o, "type", in_at(o, t->mark), end - t->mark);
        o->failed |= json.failed;
    }
    if (t->json) { /* the whole object stands there: its members are ours */
        size_t n = json.size;
        bool object = good && n >= 2;
        if (object)
            call_add(o, json.data + 1, n - 2);
        str_free(&json);
        t->first = t->json = false;
        o->at = end + strlen(w->json_close);
        t->state = BODY;
        return object ? STEP_CALL : STEP_BROKEN;
    }
    if (!t->raw)
        call_add(o, str_text(&json), json.size);
    str_free(&json);
    t->closed = true;
    o->at = end + strlen(w->param_close);
    t->state = BODY;
    return STEP_CALL;
}

static enum step value(struct output *o)
{
    struct tag_calls *t = &o->b.tags;
    const char *close = t->json ? words(o)->json_close : words(o)->param_close;
    for (; o->at < o->limit; o->at++) {
        const char *next = memchr(in_at(o, o->at), *close, o->limit - o->at);
        o->at = next ? (size_t)(next - o->in.data) : o->limit;
        if (o->at == o->limit)
            break;
        enum found found = text_at(o, o->at, close);
        if (found == FOUND_PART)
            break;
        if (found == FOUND) {
            t->look = o->at + strlen(close);
            t->state = CLOSED;
            break;
        }
    }
    if (t->raw)
        stream_string(o, o->at, false);
    return t->state == CLOSED ? STEP_CALL : o->at == o->limit ? step_starved(o) : STEP_MORE;
}

/* A closing tag stands at o->at. Does what follows say that the value ends here? */
static enum step closed(struct output *o)
{
    const struct tag_words *w = words(o);
    struct tag_calls *t = &o->b.tags;
    size_t p = t->look = past_space(o, t->look);
    if (p == o->limit)
        return o->ended ? end_value(o, o->at) : STEP_MORE;
    enum found param = text_at(o, p, w->param_open), close = text_at(o, p, w->head_close);
    if (param == FOUND || close == FOUND || part_at_end(o, p, w->param_open) || part_at_end(o, p, w->head_close))
        return end_value(o, o->at);
    if (param == FOUND_PART || close == FOUND_PART)
        return STEP_MORE;
    t->state = VALUE;
    o->at++; /* part of the value */
    return STEP_CALL;
}

/* ---- the block ------------------------------------------------------------------------------------------------------- */

static enum step behind(struct output *o)
{
    if (strcmp(words(o)->head_close, o->block->close) == 0)
        return STEP_CALL;
    enum step step = block_close(o);
    return step == STEP_BROKEN && o->block->flags & DECLARED ? STEP_CALL : step;
}

enum step tags_read(struct output *o)
{
    static enum step (*const states[])(struct output *) = {
        [HEAD] = head,   [HEAD_LIST] = head_list, [BODY] = body, [PARAM_LIST] = param_list, [VALUE_START] = value_start,
        [VALUE] = value, [CLOSED] = closed,
    };
    struct tag_calls *t = &o->b.tags;
    for (;;) {
        if (t->state == BEHIND)
            return behind(o);
        bool in_body = t->state == BODY;
        enum step step = states[t->state](o);
        if (step == STEP_TEXT && in_body)
            return call_unfinished(o);
        if (step != STEP_CALL)
            return step;
    }
}
