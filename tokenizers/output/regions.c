/* The reader of a response_template: regions between anchors. Outside of all, text belongs to the field without an opening, or,
 * where there is none, is content as it stands; inside, only the region's own closing counts.
 *
 * An anchor counts when nothing that follows can change it (PCRE2's hard partial matching), so the answer is the same whatever
 * the pieces. Of each pattern the next match is kept: positions only grow, and every byte is searched a bounded number of times.
 */
#include <stdlib.h>

#include "base/utf8.h"
#include "tokenizers/output/schema.h"

enum { PATIENCE = 500000000 }; /* ns that the patterns of an answer may take; published ones take about a millisecond */
enum { BETWEEN = -1, ANCHOR = 2 * MAX_FIELDS, PATTERNS };

struct regions {
    const struct declaration *d;
    int field; /* the region that is open; BETWEEN */
    size_t open_at, body_at;
    struct pattern_match opened;
    struct next {
        int found; /* of pattern_match */
        size_t start, end;
        size_t through; /* no match begins before */
        size_t retry;   /* MATCH_PART: looked at again when the text is so long */
    } next[PATTERNS];   /* a field's opening, its closing, the anchor */
    size_t empty;       /* where an empty match counted last: another one there does not */
    size_t prompt;      /* bytes of `in` that the prompt wrote: they are no answer */
    bool given_up;      /* a pattern took too many steps: the rest is text */
    bool swallow;       /* the prompt opened the reasoning: the tag may be written again */
    struct pattern_run run;
};

static const struct field *open_field(const struct regions *r) { return r->field < 0 ? NULL : &r->d->fields[r->field]; }

/* ---- anchors --------------------------------------------------------------------------------------------------------- */

static bool search(struct output *o, const struct pattern *p, size_t from, struct pattern_match *out)
{
    struct error err = {0};
    enum status status = pattern_match(p, &o->regions->run, str_text(&o->in), o->limit, from, !o->ended, out, &err);
    o->failed |= status == STATUS_NO_ROOM;
    o->regions->given_up |= status;
    return !status && out->found != MATCH_NONE;
}

static size_t after(const struct output *o, size_t at)
{
    for (at++; at < o->limit && ((unsigned char)*in_at(o, at) & 0xC0) == 0x80;)
        at++;
    return at;
}

/* The next match of a pattern at or behind o->at, as far as it is known. */
static const struct next *look(struct output *o, const struct pattern *p, struct next *n)
{
    struct pattern_match match;
    bool empty_again = n->start == n->end && n->start == o->regions->empty;
    bool pending = n->found == MATCH_PART && !o->ended && o->limit < n->retry;
    if (n->found != MATCH_NONE && n->start >= o->at && (pending || (n->found == MATCH_WHOLE && !empty_again)))
        return n;
    size_t from = n->found == MATCH_PART ? n->start : n->through;
    from = from > o->at ? from : o->at;
    bool found = search(o, p, from, &match);
    if (found && match.found == MATCH_WHOLE && match.groups[0].start == match.groups[0].end &&
        match.groups[0].start == o->regions->empty)
        found = match.groups[0].start < o->limit && search(o, p, after(o, match.groups[0].start), &match);
    *n = (struct next){.found = found ? match.found : MATCH_NONE,
                       .through = o->limit - (o->ended ? 0 : utf8_unfinished(o->in.data, o->limit))};
    if (found) {
        n->start = n->through = match.groups[0].start;
        n->end = match.groups[0].end;
        size_t size = o->limit - n->start;
        n->retry = size < 256 ? 0 : o->limit + size / 8; /* an opening that may be long is looked at again now and then */
    }
    return n;
}

struct best {
    const struct next *next;
    const char *name;
    int pattern;
    size_t hold; /* a match may begin here: what stands before it is certain */
};

/* The earliest, then the longest, then an opening, then by name. */
static void consider(struct output *o, struct best *b, const struct pattern *p, int pattern, const char *name)
{
    const struct next *n = o->regions->given_up ? NULL : look(o, p, &o->regions->next[pattern]);
    if (!n || n->found == MATCH_NONE || o->regions->given_up)
        return;
    if (n->found == MATCH_PART || (!o->ended && n->start == n->end && n->end == o->limit)) {
        b->hold = n->start < b->hold ? n->start : b->hold;
        return;
    }
    bool better = !b->next || n->start < b->next->start;
    if (b->next && n->start == b->next->start) {
        better = n->end > b->next->end;
        if (n->end == b->next->end)
            better = (pattern < MAX_FIELDS) != (b->pattern < MAX_FIELDS) ? pattern < MAX_FIELDS : strcmp(name, b->name) < 0;
    }
    if (better) {
        b->next = n;
        b->pattern = pattern;
        b->name = name;
    }
}

static struct best find(struct output *o)
{
    const struct regions *r = o->regions;
    const struct declaration *d = r->d;
    struct best b = {.hold = o->limit};
    const struct field *open = open_field(r);
    if (open && open->has_close)
        consider(o, &b, &open->close, MAX_FIELDS + r->field, open->name);
    for (int i = 0; i < d->field_count && !open; i++)
        if (d->fields[i].has_open)
            consider(o, &b, &d->fields[i].open, i, d->fields[i].name);
    if (!open && d->implicit >= 0 && d->fields[d->implicit].has_close)
        consider(o, &b, &d->fields[d->implicit].close, MAX_FIELDS + d->implicit, d->fields[d->implicit].name);
    if (!open && d->implicit < 0) /* the head of a message is markup there */
        consider(o, &b, &d->anchor, ANCHOR, "");
    if (b.next && b.next->start >= b.hold)
        b.next = NULL;
    return b;
}

/* ---- text ------------------------------------------------------------------------------------------------------------ */

static const struct field *text_field(const struct regions *r)
{
    return r->field >= 0 ? open_field(r) : r->d->implicit >= 0 ? &r->d->fields[r->d->implicit] : NULL;
}

/* How text is told from here on. */
static void enter(struct output *o)
{
    const struct field *f = text_field(o->regions);
    o->verbatim = f && f->contents.keep_space && f->part != PART_CALLS;
    o->joint = f ? f->join : NULL;
}

/* What follows is trimmed, unless the field says otherwise. */
static void part_text(struct output *o)
{
    emit_markup(o);
    enter(o);
}

static void tell(struct output *o, size_t to)
{
    const struct regions *r = o->regions;
    const struct field *f = text_field(r);
    size_t from = o->at < r->prompt ? r->prompt : o->at;
    o->at = to;
    if (from >= to || (f && f->part == PART_CALLS && r->field >= 0))
        return;
    if (f && f->part == PART_REASONING)
        emit_reasoning(o, in_at(o, from), to - from);
    else
        emit_content(o, in_at(o, from), to - from);
}

/* ---- calls ----------------------------------------------------------------------------------------------------------- */

/* The named groups of the opening. */
static struct json captures_of(struct making_value *m, const struct field *f)
{
    struct json_member *list = arena_array(m->arena, PATTERN_GROUPS, sizeof *list);
    uint32_t count = 0;
    int number;
    const char *name;
    for (uint32_t i = 0; list && count < PATTERN_GROUPS && (name = pattern_name(&f->open, i, &number)); i++) {
        struct pattern_group g = m->o->regions->opened.groups[number];
        if (g.start <= g.end)
            list[count++] = (struct json_member){
                .key = name,
                .key_size = (uint32_t)strlen(name),
                .value = {.kind = JSON_STRING, .size = (uint32_t)(g.end - g.start), .text = in_at(m->o, g.start)}};
    }
    m->o->failed |= !list;
    return (struct json){.kind = JSON_OBJECT, .size = count, .members = list};
}

/* The region's text up to `to` as calls; nothing is told when it is none. */
static bool make_calls(struct output *o, size_t to, bool closed)
{
    struct regions *r = o->regions;
    const struct field *f = open_field(r);
    struct arena arena = {0};
    struct making_value m = {.o = o, .arena = &arena, .run = &r->run, .good = true, .unclosed = !closed};
    struct json value = contents_value(&m, &f->contents, in_at(o, r->body_at), to - r->body_at), captures = captures_of(&m, f);
    value = transform_value(&m, f, &captures, &value);
    o->quiet = true;
    bool good = m.good && !o->failed && declared_calls(&m, &value, f->contents.values);
    arena_free(&arena);
    if (!good)
        calls_reject(o);
    return good;
}

static void accept_calls(struct output *o)
{
    emit_markup(o);
    calls_accept(o);
}

static void break_calls(struct output *o, size_t end, bool cut)
{
    const struct regions *r = o->regions;
    size_t from = r->open_at < r->prompt ? r->prompt : r->open_at;
    if (cut)
        emit_markup(o);
    warn(o, cut ? "truncated" : "malformed", in_at(o, from), end - from);
    calls_accept(o);
    o->verbatim = false;
    if (!cut)
        emit_content(o, in_at(o, from), end - from);
}

static void close_calls(struct output *o, size_t body_end, size_t end)
{
    if (end <= o->regions->prompt)
        return;
    if (make_calls(o, body_end, true))
        accept_calls(o);
    else
        break_calls(o, end, false);
}

/* The output ended inside: complete JSON is a call, perhaps before a part of the closing anchor. The other parsers take what is
 * there, so a cut text is none of theirs; when the model stopped, it is a call with a warning. */
static void end_calls(struct output *o, size_t part)
{
    const struct field *f = open_field(o->regions);
    bool json = f->contents.kind == CONTENT_JSON, natural = !f->has_close || o->marked_end;
    bool good = (json || !o->cut) && (make_calls(o, o->limit, natural) || (part < o->limit && make_calls(o, part, natural)));
    if (!good) {
        break_calls(o, o->limit, o->cut);
        return;
    }
    if (!json && !natural)
        warn(o, "truncated", in_at(o, o->regions->open_at), o->limit - o->regions->open_at);
    accept_calls(o);
}

/* ---- regions --------------------------------------------------------------------------------------------------------- */

static void open_region(struct output *o, int field, const struct next *n)
{
    struct regions *r = o->regions;
    const struct field *f = &r->d->fields[field];
    r->open_at = n->start;
    r->body_at = n->end;
    search(o, &f->open, n->start, &r->opened); /* its groups */
    r->field = field;
    r->swallow = n->end <= r->prompt && f->part == PART_REASONING;
    if (f->part == PART_CALLS)
        return; /* white space before it goes only when it stands */
    part_text(o);
    if (f->part != PART_REASONING)
        return;
    const char *tag = arena_copy(&o->arena, in_at(o, n->start), n->end - n->start);
    o->failed |= !tag;
    emit_reasoning_begin(o, tag ? tag : "");
}

static void close_region(struct output *o, const struct next *n)
{
    struct regions *r = o->regions;
    const struct field *f = open_field(r);
    if (f && f->part == PART_CALLS)
        close_calls(o, n->start, n->end);
    else if (f && f->part == PART_REASONING)
        emit_reasoning_end(o);
    else
        emit_markup(o);
    r->field = BETWEEN;
    enter(o);
}

static void end_all(struct output *o, size_t part)
{
    struct regions *r = o->regions;
    const struct field *f = text_field(r);
    if (r->field >= 0 && f->part == PART_CALLS)
        end_calls(o, part);
    else if (f && f->part == PART_REASONING && !f->has_close)
        emit_reasoning_end(o);
    else if (f && f->part != PART_REASONING && !o->verbatim)
        emit_markup(o);
    r->field = BETWEEN;
    enter(o);
}

/* False: more text is needed. */
static bool past_repeated_tag(struct output *o)
{
    struct regions *r = o->regions;
    struct pattern_match match;
    size_t p = past_space(o, o->at);
    if (p == o->limit && !o->ended)
        return false;
    r->swallow = false;
    if (p < r->prompt || !search(o, &open_field(r)->open, p, &match) || match.groups[0].start != p)
        return true;
    if (match.found == MATCH_PART) {
        r->swallow = true;
        return false;
    }
    o->at = match.groups[0].end;
    return true;
}

bool declared_step(struct output *o)
{
    struct regions *r = o->regions;
    if (r->d->schema && o->ended)
        schema_read(o, r->d->schema, &r->run, r->prompt);
    if (r->d->schema)
        return false;
    if (r->swallow && !past_repeated_tag(o))
        return false;
    const struct next *pending = r->field >= 0 ? &r->next[MAX_FIELDS + r->field] : NULL;
    size_t part = pending && pending->found == MATCH_PART && pending->start >= o->at ? pending->start : o->limit;
    struct best b = find(o);
    struct next n = b.next ? *b.next : (struct next){0};
    if (!b.next) {
        tell(o, b.hold);
        if (o->ended)
            end_all(o, part);
        return false;
    }
    tell(o, n.start);
    o->at = n.end;
    r->empty = n.start == n.end ? n.start : r->empty;
    if (b.pattern < MAX_FIELDS)
        open_region(o, b.pattern, &n);
    else if (b.pattern == ANCHOR)
        emit_markup(o);
    else
        close_region(o, &n);
    return true;
}

/* ---- the prompt ------------------------------------------------------------------------------------------------------ */

/* Where the last match of p in text ends (begin: begins) that ends at or behind `least`; SIZE_MAX: there is none. */
static size_t last_match(struct regions *r, const struct pattern *p, const char *text, size_t size, size_t least, bool begin)
{
    size_t last = SIZE_MAX;
    struct pattern_match match;
    for (size_t at = 0; at <= size;) {
        if (pattern_match(p, &r->run, text, size, at, false, &match, NULL) || match.found != MATCH_WHOLE)
            break;
        struct pattern_group all = match.groups[0];
        if (all.end >= least && all.end > all.start)
            last = begin ? all.start : all.end;
        at = all.end > all.start ? all.end : all.end + 1;
        while (at < size && ((unsigned char)text[at] & 0xC0) == 0x80)
            at++;
    }
    return last;
}

/* What the prompt wrote of the message is read first, and not told: all behind the last anchor. Where that is too far away, an
 * opening that the prompt ends with. */
static size_t message_begin(struct regions *r, const char *tail, size_t size)
{
    size_t from = last_match(r, &r->d->anchor, tail, size, 0, false), end = size;
    while (end && out_space(tail[end - 1]))
        end--;
    for (int i = 0; i < r->d->field_count && from == SIZE_MAX; i++)
        if (r->d->fields[i].has_open)
            from = last_match(r, &r->d->fields[i].open, tail, size, end ? end : 1, true);
    return from < size ? from : size;
}

enum status declared_begin(struct output *o, struct error *err)
{
    struct regions *r = o->regions = calloc(1, sizeof *r);
    const char *tail = o->options.prompt_tail ? o->options.prompt_tail : "";
    size_t size = o->options.prompt_tail ? o->options.prompt_tail_size : 0;
    if (!r)
        return error_memory(err, "an output reader");
    *r = (struct regions){.d = o->dialect->declared, .field = BETWEEN, .empty = SIZE_MAX, .run.budget = PATIENCE};
    size_t from = r->d->schema ? 0 : message_begin(r, tail, size); /* a schema is for the answer; the prompt only helps */
    r->prompt = size - from;
    str_add(&o->in, tail + from, size - from);
    enter(o);
    o->touch = r->d->implicit >= 0;
    return o->in.failed ? error_memory(err, "an output reader") : STATUS_OK;
}

void declared_end(struct output *o)
{
    if (o->regions)
        pattern_run_free(&o->regions->run);
    free(o->regions);
}

const char *declared_reasoning(const struct output *o)
{
    const struct field *f = open_field(o->regions);
    return f && f->part == PART_REASONING ? f->close_text : NULL;
}
