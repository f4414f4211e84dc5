/* How a model writes a call: as its template prints one, else as its dialect's block says (notation_block.c). What a caller builds
 * from it is held against the dialect's own reader. */
#include <stdio.h>
#include <stdlib.h>

#include "tokenizers/output/output.h"

void call_notation_free(struct call_notation *n)
{
    struct str *texts[] = {NOTATION_TEXTS(n)};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        str_free(texts[i]);
    *n = (struct call_notation){0};
}

/* Bytes, with ids of probes as NOTATION_ID. */
static void add_with_ids(struct str *out, const char *text, size_t size)
{
    const size_t length = strlen(PROBE_ID) + 1;
    for (const char *id; (id = memmem(text, size, PROBE_ID, length - 1)) && (size_t)(id - text) + length <= size;) {
        str_add(out, text, (size_t)(id - text));
        str_add_char(out, NOTATION_ID);
        size -= (size_t)(id - text) + length;
        text = id + length;
    }
    str_add(out, text, size);
}

/* ---- what a template prints ------------------------------------------------------------------------------------------- */

static const char *find(const char *from, const char *end, const char *text) { return memmem(from, (size_t)(end - from), text, strlen(text)); }

/* The marker that opens a call (or a section of calls) whose name stands at `name`: the last of each kind, the first of those. */
static const char *find_open(const struct dialect *d, const char *from, const char *name)
{
    const char *open[MAX_BLOCKS + 2] = {d->section[0], d->section[2]}, *first = NULL;
    for (int i = 0; i < MAX_BLOCKS; i++)
        open[i + 2] = d->blocks[i].open;
    for (int i = 0; i < MAX_BLOCKS + 2; i++) {
        const char *last = NULL;
        for (const char *at = from; open[i] && (at = find(at, name, open[i])); at++)
            last = at;
        if (last && (!first || last < first))
            first = last;
    }
    return first;
}

/* Brackets of JSON that are still open behind a text, the innermost last; strings are passed. */
static int open_brackets(const char *from, const char *end, char stack[16])
{
    int depth = 0;
    bool quoted = false;
    for (; from < end; from++) {
        if (quoted && *from == '\\')
            from++;
        else if (*from == '"')
            quoted = !quoted;
        else if (!quoted && (*from == '{' || *from == '[') && depth < 16)
            stack[depth++] = *from == '{' ? '}' : ']';
        else if (!quoted && (*from == '}' || *from == ']') && depth)
            depth--;
    }
    return depth;
}

/* Where a call ends whose arguments end at `from`: behind its closing markers; without any, where its JSON closes. */
static const char *find_end(const struct dialect *d, const char *from, const char *end, const char *before, const char *name)
{
    const char *close[MAX_BLOCKS + 2] = {d->section[1], d->section[3]}, *last = NULL;
    for (int i = 0; i < MAX_BLOCKS; i++)
        close[i + 2] = d->blocks[i].close;
    for (int i = 0; i < MAX_BLOCKS + 2; i++) {
        const char *at = close[i] ? find(from, end, close[i]) : NULL;
        if (at && (!last || at + strlen(close[i]) > last))
            last = at + strlen(close[i]);
    }
    char stack[16];
    int depth = open_brackets(before, name, stack);
    for (; !last && depth && from < end; from++)
        depth -= *from == stack[depth - 1];
    return last ? last : from;
}

/* The arguments of the first call behind `from`: {"k": "v", "n": 1} in any spacing. */
static const char *find_arguments(const char *from, const char *end, const char **behind)
{
    struct arena arena = {0};
    struct json v;
    const char *found = NULL;
    for (const char *at = from; !found && (at = memchr(at, '{', (size_t)(end - at))); at++) {
        const char *close = memchr(at, '}', (size_t)(end - at));
        if (close && !json_parse(&arena, at, (size_t)(close + 1 - at), NULL, &v, NULL) && json_is_text(json_get(&v, "k"), "v")) {
            found = at;
            *behind = close + 1;
        }
    }
    arena_free(&arena);
    return found;
}

struct call_place {
    const char *open, *name, *arguments, *behind, *end;
    const struct tag_words *words; /* arguments are members between tags; NULL: a JSON object */
    struct place {
        const char *open, *key, *value, *close; /* close: behind the closing tag */
    } members[2];
};

/* A member behind `from`: KEY, and one byte as its value. */
static bool find_member(const struct tag_words *w, const char *from, const char *end, char key, char value, struct place *m)
{
    char attribute[64] = "";
    if (w->param_attribute)
        snprintf(attribute, sizeof attribute, " %s=\"", w->param_attribute);
    m->open = find(from, end, w->param_open);
    m->key = m->open ? m->open + strlen(w->param_open) + strlen(attribute) : end;
    if (m->key >= end || *m->key != key || memcmp(m->key - strlen(attribute), attribute, strlen(attribute)))
        return false;
    const char *behind = find(m->key, end, w->param_end), *tag = w->param_end;
    if (behind && w->value_open)
        behind = find(behind, end, tag = w->value_open);
    for (m->value = behind ? behind + strlen(tag) : end; m->value < end && out_space(*m->value);)
        m->value++;
    m->close = m->value < end && *m->value == value ? find(m->value, end, w->param_close) : NULL;
    m->close = m->close ? m->close + strlen(w->param_close) : NULL;
    return m->close;
}

static bool find_members(const struct dialect *d, struct call_place *p)
{
    for (int i = 0; i < MAX_BLOCKS && !p->words; i++)
        p->words = d->blocks[i].words;
    if (!p->words || !find_member(p->words, p->name, p->end, 'k', 'v', &p->members[0]) ||
        !find_member(p->words, p->members[0].close, p->end, 'n', '1', &p->members[1]))
        return false;
    p->behind = p->members[1].close;
    for (p->arguments = p->members[0].open; out_space(p->arguments[-1]); p->arguments--) {
    }
    return true;
}

static bool find_call(const struct dialect *d, const char *from, const char *end, struct call_place *p)
{
    *p = (struct call_place){.name = find(from, end, PROBE_NAME), .end = end};
    p->open = p->name ? find_open(d, from, p->name) : NULL;
    p->arguments = p->open ? find_arguments(p->name, end, &p->behind) : NULL;
    return p->arguments || (p->open && find_members(d, p));
}

/* What stands around the members that were found; the space before each is the first one's. */
static void take_members(struct call_notation *n, const struct call_place *p)
{
    const struct place *k = &p->members[0], *v = &p->members[1];
    static const char type[] = "\"number\"";
    const char *named = find(v->key + 1, v->value, type);
    n->members = true;
    n->until = p->words->param_close;
    str_add(&n->key, p->arguments, (size_t)(k->key - p->arguments));
    str_add(&n->value, k->key + 1, (size_t)(k->value - k->key - 1));
    str_add(&n->other, v->key + 1, (size_t)((named ? named + 1 : v->value) - v->key - 1));
    if (named) {
        str_add_char(&n->other, NOTATION_TYPE);
        named += sizeof type - 2;
        str_add(&n->other, named, (size_t)(v->value - named));
    }
    str_add(&n->close, k->value + 1, (size_t)(k->close - k->value - 1));
}

static void take_call(struct call_notation *n, const struct dialect *d, const struct call_place *p)
{
    call_notation_free(n);
    const char *behind_name = p->name + strlen(PROBE_NAME), *end = find_end(d, p->behind, p->end, p->open, p->name);
    add_with_ids(&n->before, p->open, (size_t)(p->name - p->open));
    add_with_ids(&n->between, behind_name, (size_t)(p->arguments - behind_name));
    add_with_ids(&n->after, p->behind, (size_t)(end - p->behind));
    if (p->words)
        take_members(n, p);
    n->known = true;
}

static void find_printed(struct call_notation *n, const struct dialect *d, const struct chat_template *t, const struct chat_source *source)
{
    struct chat_text plain = {0}, text = {0};
    probe_render(t, source, -1, &plain);
    for (int variant = PROBES - 1; variant >= 0; variant--) { /* the barest answer first */
        struct call_place p;
        bool one = variant & ONE_CALL;
        if ((one ? n->known : n->separator.size > 0 || !n->known) || !probe_render(t, source, variant, &text))
            continue;
        size_t same = 0;
        while (same < plain.text.size && same < text.text.size && plain.text.data[same] == text.text.data[same])
            same++;
        const char *from = str_text(&text.text) + same, *end = str_text(&text.text) + text.text.size;
        if (find_call(d, from, end, &p)) {
            const char *second = find(p.behind, end, PROBE_SECOND);
            if (one)
                take_call(n, d, &p);
            else if (second)
                add_with_ids(&n->separator, p.behind, (size_t)(second - p.behind));
        } else if (p.open && !n->partial) {
            add_with_ids(&n->before, p.open, (size_t)(p.name - p.open));
            str_add(&n->between, p.name + strlen(PROBE_NAME), 1);
            n->partial = true;
        }
        chat_text_free(&text);
        text = (struct chat_text){0};
    }
    chat_text_free(&plain);
}

/* ---- held against the reader ------------------------------------------------------------------------------------------- */

/* The dialect's reader finds this one call, and nothing beside it. */
static bool stands(const struct call_notation *n, const struct dialect *d)
{
    struct output *o;
    struct str text = {0};
    const struct str *json[] = {&n->before, &n->between, &n->after, NULL};
    const struct str *members[] = {&n->before, &n->between, &n->key, &n->value, &n->close, &n->joint, &n->key, &n->other, &n->close, &n->after, NULL};
    static const char *const object[] = {PROBE_NAME, "{\"k\": \"v\", \"n\": 1}", ""};
    char string[64] = "v";
    if (!n->until)
        snprintf(string, sizeof string, "%sv%s", n->mark ? n->mark : "\"", n->mark ? n->mark : "\"");
    const char *const one_by_one[] = {PROBE_NAME, "", "k", string, "", "", "n", "1", "", ""};
    const struct str **parts = n->members ? members : json;
    const char *const *values = n->members ? one_by_one : object;
    static const char declared[] = "[{\"name\": \"" PROBE_NAME "\"}]";
    struct arena arena = {0};
    struct json tools;
    for (int i = 0; parts[i]; i++) {
        for (size_t k = 0; k < parts[i]->size; k++)
            if (parts[i]->data[k] == NOTATION_ID)
                str_add_text(&text, PROBE_ID "0");
            else if (parts[i]->data[k] == NOTATION_TYPE)
                str_add_text(&text, "number");
            else if (parts[i]->data[k] == NOTATION_INDEX)
                str_add_text(&text, "0");
            else
                str_add_char(&text, parts[i]->data[k]);
        str_add_text(&text, values[i]);
    }
    bool good = !text.failed && !json_parse(&arena, declared, sizeof declared - 1, NULL, &tools, NULL) &&
                !output_open(&o, d, &(struct output_options){.tools = &tools}, NULL);
    if (good) {
        good = !output_add(o, str_text(&text), text.size, NULL) && !output_end(o, false, NULL);
        const struct output_answer *a = output_answer(o);
        good = good && a->call_count == 1 && !a->content_size && !a->reasoning_size && !strcmp(a->calls[0].name, PROBE_NAME) &&
               a->calls[0].arguments_size == strlen(object[1]) && !memcmp(a->calls[0].arguments, object[1], strlen(object[1]));
        output_close(o);
    }
    str_free(&text);
    arena_free(&arena);
    return good;
}

enum status call_notation_find(struct call_notation *out, const struct dialect *d, const struct chat_template *t, const struct chat_source *source,
                               struct error *err)
{
    *out = (struct call_notation){0};
    if (t)
        find_printed(out, d, t, source);
    if (!(out->known && stands(out, d))) {
        struct call_notation own = {0};
        notation_of_block(&own, d);
        if (own.known && !stands(&own, d))
            call_notation_free(&own);
        if (own.known || !out->partial) {
            call_notation_free(out);
            *out = own;
        }
    }
    const struct str *texts[] = {NOTATION_TEXTS(out)};
    bool failed = false;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        failed |= texts[i]->failed;
    if (!failed)
        return STATUS_OK;
    call_notation_free(out);
    return error_memory(err, "a form of calls");
}
