/* N of functionary 3.2: NAME\n{...} or all\ntext, joined by >>>, which the prompt ends with. */
#include "tokenizers/output/output.h"

enum { FIRST, HEADER, CONTENT };

static const char joint[] = ">>>";

static bool is_word(const struct output *o, struct span s, const char *word)
{
    return s.size == strlen(word) && !memcmp(in_at(o, s.at), word, s.size);
}

static bool is_name(char c)
{
    return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') || c == '_' || c == '.' || c == '-';
}

/* NAME\n at `at`, with something behind it that such a message can begin with. FOUND_PART also where the output has ended inside.
 */
static enum found header_at(const struct output *o, size_t at, struct span *name)
{
    size_t p = at;
    while (p < o->limit && is_name(*in_at(o, p)) && p - at <= NAME_LIMIT)
        p++;
    *name = (struct span){at, p - at};
    if (p == o->limit)
        return FOUND_PART;
    if (!name->size || *in_at(o, p) != '\n')
        return FOUND_NOT;
    if (is_word(o, *name, "all") || is_word(o, *name, "python"))
        return FOUND;
    while (p < o->limit && out_space(*in_at(o, p)) && p - at <= 2 * NAME_LIMIT)
        p++;
    return p == o->limit ? FOUND_PART : *in_at(o, p) == '{' ? FOUND : FOUND_NOT;
}

void recipients_begin(struct output *o)
{
    const char *tail = o->options.prompt_tail;
    size_t size = tail ? o->options.prompt_tail_size : 0;
    while (size && out_space(tail[size - 1]))
        size--;
    o->m.prompted = size >= 3 && !memcmp(tail + size - 3, joint, 3);
}

static bool open_message(struct output *o, size_t from, struct span name)
{
    o->at = name.at + name.size + 1;
    if (is_word(o, name, "all")) {
        emit_markup(o);
        o->m.state = CONTENT;
        return true;
    }
    o->m.state = CONTENT;
    o->begin = from;
    o->block = &o->dialect->blocks[0];
    o->quiet = false;
    o->mode = MODE_BLOCK;
    memset(&o->b, 0, sizeof o->b);
    o->b.json.state = MESSAGE_START;
    o->b.json.name = name;
    return true;
}

/* The output ended in a header: cut, it is dropped; else it is text. */
static bool end_in_header(struct output *o)
{
    if (o->cut) {
        emit_markup(o);
        warn(o, "truncated", in_at(o, o->at), o->limit - o->at);
    } else
        emit_content(o, in_at(o, o->at), o->limit - o->at);
    o->at = o->limit;
    return false;
}

/* Reasoning before the first message, in tags that a model fine-tuned from this one writes. */
static enum found first_reasoning(struct output *o)
{
    const struct marker *m = NULL;
    size_t p = past_space(o, o->at);
    enum found found = p == o->limit ? FOUND_NOT : marker_at(o, p, &m);
    if (found != FOUND || m->role != MARK_THINK)
        return found == FOUND_PART ? FOUND_PART : FOUND_NOT;
    o->at = p;
    reasoning_open(o, m);
    return FOUND;
}

static bool first(struct output *o)
{
    struct span name;
    enum found thought = first_reasoning(o);
    if (thought != FOUND_NOT)
        return thought == FOUND;
    enum found mark = o->m.prompted ? FOUND_NOT : text_at(o, o->at, joint);
    size_t from = o->at;
    if (o->at == o->limit || mark == FOUND_PART)
        return false;
    enum found found = o->m.prompted || mark == FOUND ? header_at(o, from + (mark == FOUND ? 3 : 0), &name) : FOUND_NOT;
    if (found == FOUND_PART)
        return o->ended && end_in_header(o);
    o->m.state = CONTENT;
    return found == FOUND ? open_message(o, from, name) : true;
}

bool recipients_step(struct output *o)
{
    if (o->m.state == FIRST)
        return first(o);
    struct span name;
    size_t p = o->at;
    enum found found = FOUND_NOT;
    for (; p < o->limit; p++) {
        found = *in_at(o, p) == '>' ? text_at(o, p, joint) : FOUND_NOT;
        if (found == FOUND)
            found = o->broken < BROKEN_BLOCKS ? header_at(o, p + 3, &name) : FOUND_NOT;
        if (found != FOUND_NOT)
            break;
    }
    emit_content(o, in_at(o, o->at), p - o->at);
    o->at = p;
    if (found == FOUND_PART && o->ended)
        return end_in_header(o);
    return found == FOUND && open_message(o, p, name);
}

/* Code for python: to the next message or the end. */
static enum step code(struct output *o)
{
    struct span name;
    enum found found = FOUND_NOT;
    for (; o->at < o->limit; o->at++) {
        found = *in_at(o, o->at) == '>' ? text_at(o, o->at, joint) : FOUND_NOT;
        if (found == FOUND)
            found = header_at(o, o->at + 3, &name);
        if (found != FOUND_NOT)
            break;
    }
    if (found != FOUND && !o->ended)
        return STEP_MORE;
    if (found != FOUND && o->cut)
        return STEP_OPEN;
    return call_code(o, "python", strlen("python"), o->b.json.payload, o->at) ? STEP_CALL : STEP_BROKEN;
}

static enum step body_end(struct output *o)
{
    o->at = past_space(o, o->at);
    enum found found = text_at(o, o->at, joint);
    if (part_at_end(o, o->at, joint)) {
        o->at = o->limit;
        return STEP_CALL;
    }
    return found == FOUND ? STEP_CALL : found == FOUND_PART ? STEP_MORE : STEP_BROKEN;
}

enum step recipient_read(struct output *o)
{
    struct json_calls *j = &o->b.json;
    bool python = is_word(o, j->name, "python");
    if (j->state == MESSAGE_START) {
        o->at = past_space(o, o->at);
        if (o->at == o->limit)
            return step_starved(o);
        j->payload = o->at;
        j->state = python ? MESSAGE_CODE : MESSAGE_BODY;
        if (*in_at(o, o->at) != '{' && !python)
            return STEP_TEXT;
        if (*in_at(o, o->at) == '{') {
            o->quiet = python; /* may turn out to be code */
            call_begin(o, in_at(o, j->name.at), j->name.size, NULL, 0);
            json_arguments_begin(o);
            j->state = MESSAGE_BODY;
        }
    }
    if (j->state == MESSAGE_CODE)
        return code(o);
    enum step step = json_body_read(o, body_end);
    if (!python || step == STEP_CALL || step == STEP_MORE || o->cut)
        return step;
    calls_reject(o);
    j->state = MESSAGE_CODE;
    o->at = j->payload;
    return code(o);
}
