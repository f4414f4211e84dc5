/* H: gpt-oss writes messages: <|start|>assistant<|channel|>CHANNEL to=RECIPIENT <|constrain|>TYPE<|message|>BODY<|end|>. The
 * recipient stands before or behind the channel; the prompt wrote the first <|start|>assistant. */
#include "tokenizers/output/output.h"

enum { BETWEEN, HEADER, CONTENT, REASONING }; /* between messages, in a header, in a body that is text */
enum { HEADER_LIMIT = 600 };

static const char analysis[] = "analysis";
static const char start[] = "<|start|>", channel[] = "<|channel|>", message[] = "<|message|>";
static const char *const endings[] = {"<|end|>", "<|call|>", "<|return|>"};

/* A body ends behind its mark, or before the next header. *to: where to read on. */
static enum found ending_at(const struct output *o, size_t at, size_t *to)
{
    if (*in_at(o, at) != '<')
        return FOUND_NOT;
    bool part = false;
    for (int i = 0; i < 5; i++) {
        const char *word = i < 3 ? endings[i] : i == 3 ? start : channel;
        enum found found = text_at(o, at, word);
        part |= found == FOUND_PART;
        *to = at + (i < 3 ? strlen(word) : 0);
        if (found == FOUND)
            return FOUND;
    }
    return part ? FOUND_PART : FOUND_NOT;
}

/* ---- headers --------------------------------------------------------------------------------------------------------- */

/* Between messages a header begins with its mark, or with the recipient alone. */
static bool between(struct output *o)
{
    static const char *const openings[] = {start, channel, message, "to="};
    size_t p = past_space(o, o->at);
    bool part = false;
    if (p == o->limit)
        return false; /* white space at the end is held, and counts as content if nothing follows */
    for (int i = 0; i < 4; i++) {
        enum found found = text_at(o, p, openings[i]);
        part |= found == FOUND_PART;
        if (found == FOUND) {
            emit_markup(o);
            o->at = p;
            o->m.state = HEADER;
            o->m.mark = p + (i == 0 ? strlen(start) : 0);
            return true;
        }
    }
    if (part)
        return false;
    o->m.state = CONTENT;
    return true;
}

/* KEY's word in a header: up to white space or the next mark. */
static struct span word_behind(const struct output *o, size_t from, size_t to, const char *key)
{
    const char *found = memmem(in_at(o, from), to - from, key, strlen(key));
    struct span word = {found ? (size_t)(found - o->in.data) + strlen(key) : to, 0};
    while (word.at + word.size < to && !out_space(*in_at(o, word.at + word.size)) && *in_at(o, word.at + word.size) != '<')
        word.size++;
    return word;
}

static void begin_call(struct output *o, size_t from, size_t to)
{
    while (from < to && *in_at(o, from) != '<' && *in_at(o, from) != ' ' && memcmp(in_at(o, from), "to=", 3))
        from++; /* the role is markup whatever becomes of the rest */
    o->begin = past_space(o, from);
    o->block = &o->dialect->blocks[0];
    o->quiet = false;
    o->mode = MODE_BLOCK;
    memset(&o->b, 0, sizeof o->b);
    o->b.json.state = MESSAGE_START;
}

static void begin_body(struct output *o, bool reasoning)
{
    o->m.state = reasoning ? REASONING : CONTENT;
    if (reasoning)
        emit_reasoning_begin(o, "<|channel|>analysis");
}

static bool open_message(struct output *o, size_t to)
{
    size_t from = o->m.mark;
    struct span recipient = word_behind(o, from, to, "to="), name = word_behind(o, from, to, channel);
    emit_markup(o);
    o->at = to + sizeof message - 1;
    if (recipient.size) {
        begin_call(o, from, to);
        o->b.json.name = recipient;
        o->m.state = BETWEEN;
        return true;
    }
    begin_body(o, name.size == strlen(analysis) && !memcmp(in_at(o, name.at), analysis, name.size));
    return true;
}

/* A prompt may end behind <|start|>, or behind <|message|>: then the output goes on in that body. */
void harmony_begin(struct output *o)
{
    const char *tail = o->options.prompt_tail, *last = NULL, *next = tail;
    size_t size = tail ? o->options.prompt_tail_size : 0, n = sizeof channel - 1;
    while (size && out_space(tail[size - 1]))
        size--;
    if (size >= sizeof start - 1 && !memcmp(tail + size - (sizeof start - 1), start, sizeof start - 1)) {
        o->m.state = HEADER; /* the role comes first */
        return;
    }
    if (size < sizeof message - 1 || memcmp(tail + size - (sizeof message - 1), message, sizeof message - 1))
        return;
    while ((next = memmem(next, size - (size_t)(next - tail), channel, n)))
        last = next += n;
    begin_body(o, last && size - (size_t)(last - tail) > strlen(analysis) && !memcmp(last, analysis, strlen(analysis)));
}

static bool header(struct output *o)
{
    size_t from = o->m.mark > o->at ? o->m.mark : o->at;
    size_t there = o->limit - from, window = there < HEADER_LIMIT ? there : HEADER_LIMIT; /* the same whatever the pieces */
    const char *found = memmem(in_at(o, from), window, message, sizeof message - 1);
    if (found)
        return open_message(o, (size_t)(found - o->in.data));
    if (window < HEADER_LIMIT && !o->ended)
        return false;
    if (o->cut && window < HEADER_LIMIT) {
        warn(o, "truncated", in_at(o, o->at), o->limit - o->at);
        o->at = o->limit;
        return false;
    }
    o->m.state = CONTENT; /* no header after all: its mark is text */
    emit_content(o, in_at(o, o->at), 1);
    o->at++;
    return true;
}

/* ---- bodies ---------------------------------------------------------------------------------------------------------- */

static bool body_text(struct output *o)
{
    size_t p = o->at, to = p;
    enum found found = FOUND_NOT;
    while (p < o->limit && (found = ending_at(o, p, &to)) == FOUND_NOT)
        p++;
    (o->m.state == REASONING ? emit_reasoning : emit_content)(o, in_at(o, o->at), p - o->at);
    o->at = p;
    if (found != FOUND)
        return false;
    emit_reasoning_end(o);
    o->at = to;
    o->m.state = BETWEEN;
    return true;
}

bool harmony_step(struct output *o)
{
    switch (o->m.state) {
    case BETWEEN:
        if (o->ended && past_space(o, o->at) == o->limit) {
            emit_content(o, in_at(o, o->at), o->limit - o->at);
            o->at = o->limit;
        }
        return o->at < o->limit && between(o);
    case HEADER:
        return header(o);
    default:
        return body_text(o);
    }
}

static bool is_function(const struct output *o)
{
    static const char functions[] = "functions.";
    struct span name = o->b.json.name;
    return name.size >= sizeof functions && !memcmp(in_at(o, name.at), functions, sizeof functions - 1);
}

/* functions.f is f; any other recipient keeps its whole name. */
static struct span function_name(const struct output *o)
{
    struct span name = o->b.json.name;
    size_t skip = is_function(o) ? strlen("functions.") : 0;
    return (struct span){name.at + skip, name.size - skip};
}

/* A body that is no object, up to its end. */
static enum step code(struct output *o)
{
    size_t to = o->at, from = o->b.json.payload, next;
    enum found found = FOUND_NOT;
    while (to < o->limit && (found = ending_at(o, to, &next)) == FOUND_NOT)
        to++;
    o->at = to;
    if (found != FOUND && !o->ended)
        return STEP_MORE;
    if (found != FOUND && o->cut)
        return STEP_OPEN;
    to = found == FOUND ? to : o->limit;
    o->at = found == FOUND ? next : to;
    struct span name = function_name(o);
    return call_code(o, in_at(o, name.at), name.size, from, to) ? STEP_CALL : STEP_BROKEN;
}

static enum step as_code(struct output *o)
{
    o->b.json.state = MESSAGE_CODE;
    o->at = o->b.json.payload;
    return code(o);
}

static enum step body_end(struct output *o)
{
    size_t p = o->at = past_space(o, o->at), to = p;
    enum found found = p == o->limit ? FOUND_PART : ending_at(o, p, &to);
    if (part_at_end(o, p, endings[0]) || part_at_end(o, p, endings[1]) || part_at_end(o, p, endings[2])) {
        o->at = o->limit;
        return STEP_CALL;
    }
    if (found == FOUND_PART)
        return STEP_MORE;
    if (found == FOUND)
        o->at = to;
    return found == FOUND ? STEP_CALL : STEP_BROKEN;
}

enum step harmony_read(struct output *o)
{
    struct json_calls *j = &o->b.json;
    if (j->state == MESSAGE_START) {
        o->at = past_space(o, o->at);
        if (o->at == o->limit && !o->ended)
            return STEP_MORE;
        j->payload = o->at;
        j->state = MESSAGE_CODE;
        if (o->at < o->limit && *in_at(o, o->at) == '{') {
            o->quiet = !is_function(o); /* may turn out to be code */
            struct span name = function_name(o);
            call_begin(o, in_at(o, name.at), name.size, NULL, 0);
            json_arguments_begin(o);
            j->state = MESSAGE_BODY;
        }
    }
    if (j->state == MESSAGE_CODE)
        return code(o);
    enum step step = json_body_read(o, body_end);
    if (is_function(o) || step == STEP_CALL || step == STEP_MORE || o->cut)
        return step;
    calls_reject(o);
    return as_code(o);
}
