/* X of minimax_m3: every tag stands behind a mark; elements are named like the parameters, lists hold <item>, objects their
 * members. */
#include "tokenizers/output/output.h"

enum { HEAD, BODY, TAG };
enum { DEPTH = sizeof((struct element_calls *)0)->stack / sizeof(struct element) };

static const char mark[] = "]<]minimax[>[";

/* NAME up to '>' from e->mark on: STEP_CALL with o->at behind it. */
static enum step tag_end(struct output *o)
{
    struct element_calls *e = &o->b.elements;
    for (; o->at < o->limit; o->at++) {
        char c = *in_at(o, o->at);
        if (c == '\n' || c == '<' || o->at - e->mark > NAME_LIMIT)
            return STEP_BROKEN;
        if (c == '>') {
            o->at++;
            return STEP_CALL;
        }
    }
    return step_starved(o);
}

/* name="N" */
static enum step head(struct output *o)
{
    static const char before[] = " name=\"";
    struct element_calls *e = &o->b.elements;
    size_t n = sizeof before - 1;
    if (!e->mark)
        e->mark = o->at;
    enum step step = tag_end(o);
    if (step != STEP_CALL)
        return step;
    size_t size = o->at - e->mark;
    const char *text = in_at(o, e->mark);
    if (size < n + 3 || memcmp(text, before, n) || text[size - 2] != '"')
        return STEP_BROKEN;
    e->stack[0] = (struct element){.object = true, .schema = tool_find(o, text + n, size - n - 2)};
    call_begin(o, text + n, size - n - 2, NULL, 0);
    call_add_text(o, "{");
    e->depth = 1;
    e->mark = o->at;
    e->state = BODY;
    return STEP_CALL;
}

/* A child begins in the innermost element: a comma, its name. */
static bool open_element(struct output *o, struct span name)
{
    struct element_calls *e = &o->b.elements;
    struct element *parent = &e->stack[e->depth - 1];
    const char *text = in_at(o, name.at);
    bool item = name.size == 4 && !memcmp(text, "item", 4) && !(types_of(parent->schema) & TYPE_OBJECT);
    bool fresh = !parent->list && !parent->object;
    if (e->depth == DEPTH || (item && parent->object) || (!item && parent->list))
        return false;
    if (fresh) {
        parent->list = item;
        parent->object = !item;
        call_add_text(o, item ? "[" : "{");
    } else if (e->depth > 1 || e->some)
        call_add_text(o, ", ");
    e->some = true;
    if (!item) {
        call_add_string(o, text, name.size, true);
        call_add_text(o, ": ");
    }
    const struct json *schema = item ? tool_items(parent->schema) : tool_property(parent->schema, text, name.size);
    e->stack[e->depth++] = (struct element){.name = name, .schema = schema};
    return true;
}

static void write_leaf(struct output *o, const struct element *leaf, size_t from, size_t to)
{
    struct str json = {0};
    int types = types_of(leaf->schema);
    if (from == to && (types == TYPE_ARRAY || types == TYPE_OBJECT))
        str_add_text(&json, types == TYPE_ARRAY ? "[]" : "{}");
    else if (!value_write(&json, types, in_at(o, from), to - from))
        warn(o, "type", in_at(o, from), to - from);
    o->failed |= json.failed;
    call_add(o, str_text(&json), json.size);
    str_free(&json);
}

static bool close_element(struct output *o, struct span name, size_t text_to)
{
    struct element_calls *e = &o->b.elements;
    const struct element *closed = &e->stack[e->depth - 1];
    if (e->depth < 2 || closed->name.size != name.size || memcmp(in_at(o, closed->name.at), in_at(o, name.at), name.size))
        return false;
    if (closed->list || closed->object)
        call_add_text(o, closed->list ? "]" : "}");
    else
        write_leaf(o, closed, e->mark, text_to);
    e->depth--;
    return true;
}

/* Text up to the next mark. */
static enum step body(struct output *o)
{
    for (; o->at < o->limit; o->at++) {
        const char *next = memchr(in_at(o, o->at), *mark, o->limit - o->at);
        o->at = next ? (size_t)(next - o->in.data) : o->limit;
        enum found found = next ? text_at(o, o->at, mark) : FOUND_NOT;
        if (found == FOUND_PART)
            return STEP_MORE;
        if (found == FOUND) {
            o->b.elements.state = TAG;
            return STEP_CALL;
        }
        if (!next)
            break;
    }
    return step_starved(o);
}

static bool only_space(const struct output *o, size_t from, size_t to)
{
    while (from < to && out_space(*in_at(o, from)))
        from++;
    return from == to;
}

/* A mark stands at o->at, text from e->mark to there. */
static enum step tag(struct output *o)
{
    struct element_calls *e = &o->b.elements;
    size_t text = e->mark, text_to = o->at, name = o->at + sizeof mark - 1, at = o->at;
    if (name + 2 > o->limit)
        return step_starved(o);
    bool closing = *in_at(o, name + 1) == '/';
    e->mark = name + 1 + closing;
    o->at = e->mark < o->limit ? e->mark : o->limit;
    enum step step = *in_at(o, name) == '<' ? tag_end(o) : STEP_BROKEN;
    struct span word = {e->mark, o->at - e->mark - 1};
    e->mark = text;
    if (step != STEP_CALL) {
        o->at = at;
        return step;
    }
    const struct element *inner = &e->stack[e->depth - 1];
    bool container = inner->list || inner->object;
    if ((!closing || container) && !only_space(o, text, text_to))
        return STEP_BROKEN;
    if (closing && e->depth == 1) {
        call_add_text(o, "}");
        bool whole = word.size == 6 && !memcmp(in_at(o, word.at), "invoke", 6);
        return whole && call_end(o) ? STEP_TEXT : STEP_BROKEN;
    }
    if (!word.size || !(closing ? close_element(o, word, text_to) : open_element(o, word)))
        return STEP_BROKEN;
    e->mark = o->at;
    e->state = BODY;
    return STEP_CALL;
}

enum step elements_read(struct output *o)
{
    struct element_calls *e = &o->b.elements;
    for (;;) {
        enum step step = e->state == HEAD ? head(o) : e->state == BODY ? body(o) : tag(o);
        if (step == STEP_TEXT)
            return STEP_CALL; /* </invoke> */
        if (step != STEP_CALL && step != STEP_BROKEN && o->ended && !o->cut && e->depth == 1 && e->some)
            return call_unfinished(o);
        if (step != STEP_CALL)
            return step;
    }
}
