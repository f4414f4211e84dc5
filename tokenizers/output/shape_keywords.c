/* P, G and T: NAME(key=value, ...) in Python's notation, call:NAME{key:value, ...} in Gemma's. A value's end is found by its
 * brackets and strings; then it is written as JSON and goes out. */
#include "tokenizers/output/output.h"

enum { NAME_START = CALLS_OWN, NAME, OPEN, KEY_START, KEY, ASSIGN, VALUE, BEHIND_CALL, END };

struct notation {
    char open, close, assign;
};
static const struct notation python = {'(', ')', '='}, gemma = {'{', '}', ':'};

static bool is_gemma(const struct output *o) { return o->block->read == gemma_read; }
static const struct notation *notation(const struct output *o) { return is_gemma(o) ? &gemma : &python; }

static bool is_identifier(char c)
{
    return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') || c == '_' || c == '.' || c == '-' ||
           (unsigned char)c >= 0x80;
}

static enum step go(struct output *o, int state)
{
    o->b.words.state = state;
    return STEP_CALL;
}

/* What is not read here: text as long as no call was, else malformed. */
static enum step refuse(const struct output *o)
{
    return o->block->flags & BARE || (!o->b.words.count && o->b.words.state <= OPEN && !o->b.words.list) ? STEP_TEXT
                                                                                                         : STEP_BROKEN;
}

static enum step skip_space(struct output *o)
{
    o->at = past_space(o, o->at);
    return o->at == o->limit ? step_starved(o) : STEP_CALL;
}

/* ---- a call ---------------------------------------------------------------------------------------------------------- */

static enum step identifier(struct output *o, int then)
{
    struct keyword_calls *k = &o->b.words;
    while (o->at < o->limit && is_identifier(*in_at(o, o->at)))
        o->at++;
    if (o->at - k->mark > NAME_LIMIT)
        return refuse(o);
    if (o->at == o->limit)
        return step_starved(o);
    k->name = (struct span){k->mark, o->at - k->mark};
    return k->name.size ? go(o, then) : refuse(o);
}

static enum step open_call(struct output *o)
{
    static const char builtin[] = ".call";
    struct keyword_calls *k = &o->b.words;
    const char *name = in_at(o, k->name.at);
    size_t size = k->name.size, n = sizeof builtin - 1;
    if (*in_at(o, o->at) != notation(o)->open)
        return refuse(o);
    if (o->block->flags & CODE) { /* brave_search.call(...): else it is code */
        if (size <= n || memcmp(name + size - n, builtin, n))
            return STEP_TEXT;
        size -= n;
    }
    if (o->block->flags & BARE && !tool_find(o, name, size))
        return STEP_TEXT;
    call_begin(o, name, size, NULL, 0);
    call_add_text(o, "{");
    k->first = true;
    o->at++;
    return go(o, KEY_START);
}

static enum step close_call(struct output *o)
{
    call_add_text(o, "}");
    o->at++;
    o->b.words.count++;
    return call_end(o) ? go(o, BEHIND_CALL) : refuse(o);
}

static enum step key_start(struct output *o)
{
    if (*in_at(o, o->at) == notation(o)->close)
        return close_call(o);
    o->b.words.mark = o->at;
    return go(o, KEY);
}

static enum step assign(struct output *o)
{
    struct keyword_calls *k = &o->b.words;
    if (*in_at(o, o->at) != notation(o)->assign)
        return refuse(o); /* a value without a name */
    call_add_text(o, k->first ? "" : ", ");
    call_add_string(o, in_at(o, k->name.at), k->name.size, true);
    call_add_text(o, ": ");
    k->first = false;
    k->mark = ++o->at;
    return go(o, VALUE);
}

/* ---- values ---------------------------------------------------------------------------------------------------------- */

static bool write_value(struct output *o)
{
    struct str json = {0};
    size_t from = o->b.words.mark, size = o->at - from;
    bool good =
        is_gemma(o) ? gemma_write(&json, in_at(o, from), size, o->block->separator) : python_write(&json, in_at(o, from), size);
    o->failed |= json.failed;
    if (good)
        call_add(o, str_text(&json), json.size);
    str_free(&json);
    return good;
}

/* One byte of a value outside of strings: STEP_TEXT where the value ends before it. */
static enum step value_byte(struct output *o, char c)
{
    struct keyword_calls *k = &o->b.words;
    if (!k->depth && (c == ',' || c == notation(o)->close))
        return STEP_TEXT;
    if (c == '(' || c == '[' || c == '{') {
        if (k->depth == (int)sizeof k->nest)
            return STEP_BROKEN;
        k->nest[k->depth++] = c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (c == ')' || c == ']' || c == '}') {
        if (!k->depth || k->nest[--k->depth] != c)
            return STEP_BROKEN;
    } else if (!is_gemma(o) && (c == '"' || c == '\''))
        k->quote = c;
    else if (!is_identifier(c) && !out_space(c) && (!c || !strchr(",:+", c)) && !is_gemma(o))
        return STEP_BROKEN;
    return STEP_CALL;
}

/* Gemma's strings stand between marks. FOUND: one was passed. */
static enum found string_mark(struct output *o)
{
    const char *mark = o->block->separator;
    enum found found = is_gemma(o) ? text_at(o, o->at, mark) : FOUND_NOT;
    if (found == FOUND) {
        o->at += strlen(mark);
        o->b.words.quote ^= 1;
    }
    return found;
}

static enum step value(struct output *o)
{
    struct keyword_calls *k = &o->b.words;
    while (o->at < o->limit) {
        char c = *in_at(o, o->at);
        enum found mark = string_mark(o);
        if (mark == FOUND_PART)
            return STEP_MORE;
        if (mark == FOUND)
            continue;
        if (k->quote) {
            if (!is_gemma(o) && c == k->quote && !k->escaped)
                k->quote = 0;
            k->escaped = c == '\\' && !k->escaped;
            o->at++;
            continue;
        }
        enum step step = value_byte(o, c);
        if (step == STEP_BROKEN)
            return refuse(o);
        if (step == STEP_TEXT) {
            if (!write_value(o))
                return refuse(o);
            if (c != ',')
                return close_call(o);
            o->at++;
            return go(o, KEY_START);
        }
        o->at++;
    }
    return step_starved(o);
}

/* ---- several calls --------------------------------------------------------------------------------------------------- */

static enum step name_start(struct output *o)
{
    struct keyword_calls *k = &o->b.words;
    const char *prefix = o->block->prefix;
    if (k->list && *in_at(o, o->at) == ']') {
        o->at++;
        return go(o, END);
    }
    if (prefix) {
        enum found found = text_at(o, o->at, prefix);
        if (found != FOUND)
            return found == FOUND_PART ? STEP_MORE : refuse(o);
        o->at += strlen(prefix);
    }
    k->mark = o->at;
    return go(o, NAME);
}

static enum step behind_call(struct output *o)
{
    struct keyword_calls *k = &o->b.words;
    if (!k->list && !(o->block->flags & LINES))
        return go(o, END);
    o->at = past_space(o, o->at);
    if (o->at == o->limit)
        return o->ended && !k->list ? go(o, END) : step_starved(o);
    char c = *in_at(o, o->at);
    if (!k->list)
        return go(o, is_identifier(c) ? NAME_START : END);
    if (c != ',' && c != ']')
        return refuse(o);
    o->at++;
    return go(o, c == ',' ? NAME_START : END);
}

static enum step end(struct output *o)
{
    struct keyword_calls *k = &o->b.words;
    if (!(o->block->flags & BARE))
        return block_close(o);
    if (!k->count)
        return STEP_TEXT;
    return line_end(o, k->look > o->at ? k->look : o->at, &k->look);
}

static enum step keywords(struct output *o)
{
    struct keyword_calls *k = &o->b.words;
    for (;;) {
        bool behind_space = k->state == NAME_START || k->state == OPEN || k->state == KEY_START || k->state == ASSIGN;
        enum step step = behind_space ? skip_space(o) : STEP_CALL;
        if (step != STEP_CALL)
            return step;
        switch (k->state) {
        case NAME_START:
            step = name_start(o);
            break;
        case NAME:
            step = identifier(o, OPEN);
            break;
        case OPEN:
            step = open_call(o);
            break;
        case KEY_START:
            step = key_start(o);
            break;
        case KEY:
            step = identifier(o, ASSIGN);
            break;
        case ASSIGN:
            step = assign(o);
            break;
        case VALUE:
            step = value(o);
            break;
        case BEHIND_CALL:
            step = behind_call(o);
            break;
        default:
            return end(o);
        }
        if (step != STEP_CALL)
            return step;
    }
}

/* ---- the blocks ------------------------------------------------------------------------------------------------------ */

/* Without markers what stays open at the end was no call, unless it was cut and began like a declared one. */
static enum step bare_open(struct output *o)
{
    if (!(o->block->flags & BARE) || (o->cut && o->call_count > o->accepted))
        return STEP_OPEN;
    o->broken++;
    return STEP_TEXT;
}

enum step python_read(struct output *o)
{
    struct keyword_calls *k = &o->b.words;
    if (k->state == CALLS_START) {
        size_t p = o->at = *o->block->open == '[' ? o->begin : past_space(o, o->at);
        bool list = p < o->limit && *in_at(o, p) == '[' && o->block->flags & LIST;
        size_t inner = list ? past_space(o, p + 1) : p; /* JSON stands there too; a run of blanks is looked at again */
        if (inner == o->limit)
            return o->ended ? bare_open(o) : STEP_MORE;
        if (*in_at(o, inner) == '{' && !(o->block->flags & BARE) && o->block->flags & (list ? LIST : ONE)) {
            json_calls_begin(o, p);
            return json_read(o);
        }
        if (!list && !(o->block->flags & (LINES | ONE)))
            return STEP_TEXT;
        k->list = list;
        o->at = inner;
        k->state = NAME_START;
    }
    enum step step = k->state < CALLS_OWN ? json_read(o) : keywords(o);
    return step == STEP_OPEN || (step == STEP_MORE && o->ended) ? bare_open(o) : step;
}

enum step gemma_read(struct output *o)
{
    if (o->b.words.state == CALLS_START)
        o->b.words.state = NAME_START;
    return keywords(o);
}

/* Llama's <|python_tag|>: JSON calls, NAME.call(...), else code. */
enum step python_tag_read(struct output *o)
{
    struct keyword_calls *k = &o->b.words;
    if (k->state == CALLS_START) {
        o->at = past_space(o, o->at);
        if (o->at == o->limit)
            return step_starved(o);
        o->quiet = *in_at(o, o->at) != '{'; /* may turn out to be code at its end */
        if (o->quiet)
            k->state = NAME_START;
        else
            json_calls_begin(o, o->at);
    }
    if (!o->quiet)
        return json_read(o);
    enum step step = k->state == END + 1 ? STEP_TEXT : keywords(o);
    size_t rest = step == STEP_CALL ? past_space(o, o->at) : o->limit;
    if (step == STEP_MORE && !o->ended)
        return step;
    if (step == STEP_CALL && rest == o->limit && o->ended)
        return STEP_CALL;
    if (step == STEP_CALL && rest == o->limit)
        return STEP_MORE;
    k->state = END + 1;
    calls_reject(o);
    o->at = o->begin + strlen(o->block->open);
    return code_read(o);
}
