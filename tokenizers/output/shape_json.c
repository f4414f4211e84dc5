/* J and L: an object, a list or several objects between markers. B: the same without markers, where only declared names make it a
 * call. */
#include "tokenizers/output/output.h"

static enum step start(struct output *o)
{
    const char *prefix = o->block->prefix;
    size_t p = o->at = past_space(o, o->at);
    enum found found = prefix && !o->b.json.prefix ? text_at(o, p, prefix) : FOUND_NOT;
    if (p == o->limit || found == FOUND_PART)
        return step_starved(o);
    if (found == FOUND) { /* internlm's second token */
        o->at = p + strlen(prefix);
        o->b.json.prefix = true;
        return STEP_CALL;
    }
    if (prefix && !o->b.json.prefix)
        return STEP_TEXT;
    char c = *in_at(o, p);
    if (!(c == '{' && o->block->flags & ONE) && !(c == '[' && o->block->flags & LIST))
        return o->section ? STEP_BROKEN : STEP_TEXT;
    json_calls_begin(o, p);
    return STEP_CALL;
}

/* Another payload behind the last one? STEP_TEXT: no. */
static enum step next(struct output *o)
{
    struct json_calls *j = &o->b.json;
    size_t p = j->look = past_space(o, j->look > o->at ? j->look : o->at);
    if (!(o->block->flags & (LINES | SEMICOLONS)))
        return STEP_TEXT;
    if (o->block->flags & SEMICOLONS && !j->semicolon) {
        if (p == o->limit)
            return o->ended ? STEP_TEXT : STEP_MORE;
        if (*in_at(o, p) != ';')
            return STEP_TEXT;
        o->at = p + 1; /* nothing but another call may follow */
        j->semicolon = true;
    }
    if (j->semicolon)
        p = j->look = past_space(o, j->look > o->at ? j->look : o->at);
    if (p == o->limit)
        return o->ended ? STEP_TEXT : STEP_MORE;
    if (*in_at(o, p) != '{')
        return STEP_TEXT;
    j->semicolon = false;
    json_calls_begin(o, p);
    return STEP_CALL;
}

enum step json_read(struct output *o)
{
    struct json_calls *j = &o->b.json;
    for (;;) {
        enum step step = j->state == CALLS_START ? start(o) : j->state == CALLS_INSIDE ? json_calls_read(o) : next(o);
        if (j->state == CALLS_BEHIND && step == STEP_TEXT && j->semicolon)
            return STEP_BROKEN;
        if (j->state == CALLS_BEHIND && step == STEP_TEXT)
            return o->block->close ? block_close(o) : json_behind(o);
        if (step != STEP_CALL)
            return step;
    }
}

/* ---- without markers ------------------------------------------------------------------------------------------------- */

static enum step bare_start(struct output *o)
{
    size_t p = o->begin;
    if (o->block->flags & FENCED) {
        enum found word = text_at(o, o->at, "json");
        if (word == FOUND_PART)
            return STEP_MORE;
        p = past_space(o, o->at + (word == FOUND ? 4 : 0));
        if (p == o->limit)
            return o->ended ? STEP_TEXT : STEP_MORE;
        if (*in_at(o, p) != '{' && *in_at(o, p) != '[')
            return STEP_TEXT;
    }
    json_calls_begin(o, p);
    return STEP_CALL;
}

enum step line_end(struct output *o, size_t from, size_t *looked)
{
    size_t p = from;
    while (p < o->limit && *in_at(o, p) != '\n' && out_space(*in_at(o, p)))
        p++;
    *looked = p;
    if (p == o->limit && !o->ended)
        return STEP_MORE;
    if (p < o->limit && *in_at(o, p) != '\n')
        return STEP_TEXT;
    o->at = p;
    return STEP_CALL;
}

/* Behind the payload only the fence and the line's end may stand. */
static enum step line_rest(struct output *o)
{
    struct json_calls *j = &o->b.json;
    size_t p = j->line > o->at ? j->line : o->at;
    if (o->block->flags & FENCED && !j->fence) {
        p = j->line = past_space(o, p);
        bool end = part_at_end(o, p, "```");
        enum found fence = text_at(o, p, "```");
        if (fence == FOUND_PART && !end)
            return STEP_MORE;
        j->fence = fence == FOUND || end;
        if (j->fence)
            p = end ? o->limit : p + 3;
        else if (p < o->limit)
            return STEP_TEXT;
    }
    j->line = p;
    return line_end(o, p, &j->line);
}

static enum step bare_end(struct output *o)
{
    struct json_calls *j = &o->b.json;
    const char *content;
    size_t size;
    enum step step = j->count ? line_rest(o) : STEP_TEXT;
    if (step == STEP_TEXT)
        o->text_to = o->at;
    if (step == STEP_CALL && j->content.size &&
        json_string_decode(o, in_at(o, j->content.at), j->content.size, &content, &size)) {
        emit_markup(o);
        emit_content(o, content, size);
    }
    return step;
}

/* Not JSON, or no call: text up to the line where that showed, so that no line is read more than twice. */
static enum step bare_text(struct output *o)
{
    size_t p = o->at;
    while (p > o->text_to && *in_at(o, p - 1) != '\n')
        p--;
    o->text_to = p > o->text_to ? p : o->text_to;
    return STEP_TEXT;
}

/* The output ended inside. Cut, what began like a declared call is dropped; else it is text, and the next line may hold a call.
 */
static enum step bare_open(struct output *o)
{
    struct json_calls *j = &o->b.json;
    if (o->cut && (j->count || j->name.size))
        return STEP_OPEN;
    o->broken++;
    const char *line = memchr(in_at(o, o->begin), '\n', o->limit - o->begin);
    o->text_to = line ? (size_t)(line + 1 - o->in.data) : o->limit;
    return STEP_TEXT;
}

enum step bare_read(struct output *o)
{
    struct json_calls *j = &o->b.json;
    for (;;) {
        enum step step = j->state == CALLS_START ? bare_start(o) : j->state == CALLS_INSIDE ? json_calls_read(o) : next(o);
        if (j->state == CALLS_BEHIND && step == STEP_TEXT)
            return bare_end(o);
        if (step == STEP_BROKEN)
            return bare_text(o);
        if (step == STEP_OPEN || (step == STEP_MORE && o->ended))
            return bare_open(o);
        if (step != STEP_CALL)
            return step;
    }
}
