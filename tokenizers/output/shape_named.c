/* N: a name, a separator, a JSON object. Code behind a token is the call of `python` that it is. */
#include "tokenizers/output/output.h"

enum { PREFIX = CALLS_OWN, NAME_START, NAME, CALL_ID, SEPARATOR, ARGUMENTS_START, ARGUMENTS, SUFFIX, CLOSE };

/* What is not read here: as text where nothing promised a call yet, else as a malformed one. */
static enum step refuse(const struct output *o) { return o->section ? STEP_BROKEN : STEP_TEXT; }

static bool is_name(char c) { return (unsigned char)c > ' ' && !strchr("{}[]<>()\"'`,;=", c); }

/* Every state but NAME and ARGUMENTS begins behind white space. */
static enum step skip_space(struct output *o)
{
    o->at = past_space(o, o->at);
    return o->at == o->limit ? step_starved(o) : STEP_CALL;
}

static enum step go(struct output *o, int state)
{
    o->b.json.state = state;
    return STEP_CALL;
}

/* A word that has to stand here, or may (else: the state to go to without it; 0: refused). */
static enum step pass(struct output *o, const char *word, int then, int without)
{
    enum found found = word ? text_at(o, o->at, word) : FOUND_NOT;
    if (found == FOUND_PART)
        return STEP_MORE;
    if (found == FOUND)
        o->at += strlen(word);
    return found == FOUND || !word ? go(o, then) : without ? go(o, without) : refuse(o);
}

static enum step prefix(struct output *o)
{
    if (*in_at(o, o->at) == '[' && o->block->flags & LIST) {
        json_calls_begin(o, o->at); /* mistral: the older list under the newer name */
        return STEP_CALL;
    }
    return pass(o, o->block->prefix, NAME_START, 0);
}

static enum step name(struct output *o)
{
    struct json_calls *j = &o->b.json;
    while (o->at < o->limit && is_name(*in_at(o, o->at)))
        o->at++;
    if (o->at - j->name.at > NAME_LIMIT)
        return refuse(o);
    if (o->at == o->limit)
        return step_starved(o);
    j->name.size = o->at - j->name.at;
    return j->name.size ? go(o, o->block->flags & OWN_IDS ? CALL_ID : SEPARATOR) : refuse(o);
}

/* [CALL_ID]id: nine letters or digits, but whatever stands there is taken. */
static enum step call_id(struct output *o)
{
    static const char word[] = "[CALL_ID]";
    enum found found = text_at(o, o->at, word);
    size_t from = o->at + sizeof word - 1, to = from;
    if (found != FOUND)
        return found == FOUND_PART ? STEP_MORE : go(o, SEPARATOR);
    while (to < o->limit && is_name(*in_at(o, to)) && to - from < NAME_LIMIT)
        to++;
    if (to == o->limit)
        return step_starved(o);
    o->b.json.id = (struct span){from, to - from};
    o->at = to;
    return go(o, SEPARATOR);
}

/* functions.NAME:INDEX is the id; the name is inside. */
static void begin_kimi(struct output *o, const char *id, size_t size)
{
    static const char prefix[] = "functions.";
    const char *name = id;
    size_t n = size, digits = 0;
    if (n > sizeof prefix && !memcmp(name, prefix, sizeof prefix - 1)) {
        name += sizeof prefix - 1;
        n -= sizeof prefix - 1;
    }
    while (digits < n && name[n - 1 - digits] >= '0' && name[n - 1 - digits] <= '9')
        digits++;
    if (digits && n > digits + 1 && name[n - 1 - digits] == ':')
        n -= digits + 1;
    call_begin(o, name, n, id, size);
}

static void begin(struct output *o)
{
    struct json_calls *j = &o->b.json;
    if (o->block->flags & KIMI_ID)
        begin_kimi(o, in_at(o, j->name.at), j->name.size);
    else
        call_begin(o, in_at(o, j->name.at), j->name.size, in_at(o, j->id.at), j->id.size);
}

/* An object; nothing at all and null are an empty one. */
static enum step arguments_start(struct output *o)
{
    if (json_arguments_begin(o)) {
        begin(o);
        return go(o, ARGUMENTS);
    }
    enum found null = text_at(o, o->at, "null"), end = o->block->close ? text_at(o, o->at, o->block->close) : FOUND_NOT;
    if (null == FOUND_PART || end == FOUND_PART)
        return STEP_MORE;
    if (null != FOUND && end != FOUND)
        return refuse(o);
    begin(o);
    call_add_text(o, "{}");
    o->at += null == FOUND ? 4 : 0;
    go(o, SUFFIX);
    return call_end(o) ? STEP_CALL : STEP_BROKEN;
}

static enum step arguments(struct output *o)
{
    enum step step = json_arguments_read(o);
    if (step == STEP_CALL)
        go(o, SUFFIX);
    return step;
}

static enum step suffix(struct output *o)
{
    if (!o->block->suffix)
        return go(o, CLOSE);
    o->at = past_space(o, o->at);
    if (part_at_end(o, o->at, o->block->suffix))
        o->at = o->limit;
    return o->at == o->limit && o->ended ? go(o, CLOSE) : pass(o, o->block->suffix, CLOSE, CLOSE);
}

enum step named_read(struct output *o)
{
    struct json_calls *j = &o->b.json;
    const struct block *b = o->block;
    if (j->state == CALLS_START)
        j->state = PREFIX;
    for (;;) {
        enum step step =
            j->state < SUFFIX && j->state != NAME && j->state != ARGUMENTS && j->state >= CALLS_OWN ? skip_space(o) : STEP_CALL;
        if (step != STEP_CALL)
            return step;
        switch (j->state) {
        case PREFIX:
            step = prefix(o);
            break;
        case NAME_START:
            j->name.at = o->at;
            step = go(o, NAME);
            break;
        case NAME:
            step = name(o);
            break;
        case CALL_ID:
            step = call_id(o);
            break;
        case SEPARATOR: /* tokenisers before v11 print no [ARGS] */
            step = pass(o, b->separator, ARGUMENTS_START, b->flags & OWN_IDS && *in_at(o, o->at) == '{' ? ARGUMENTS_START : 0);
            break;
        case ARGUMENTS_START:
            step = arguments_start(o);
            break;
        case ARGUMENTS:
            step = arguments(o);
            break;
        case SUFFIX:
            step = suffix(o);
            break;
        case CLOSE:
            return b->close ? block_close(o) : json_behind(o);
        default:
            return json_read(o);
        }
        if (step != STEP_CALL)
            return step;
    }
}

/* Everything behind the token, to the end. */
enum step code_read(struct output *o)
{
    if (!o->ended)
        return STEP_MORE;
    if (o->cut)
        return STEP_OPEN;
    size_t from = past_space(o, o->at);
    if (from == o->limit)
        return STEP_TEXT;
    o->at = o->limit;
    return call_code(o, "python", strlen("python"), from, o->limit) ? STEP_CALL : STEP_BROKEN;
}
