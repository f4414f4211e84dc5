/* How a model writes a call whose arguments are JSON: as its template prints one, else as its dialect's block says. What a caller
 * builds from it is held against the dialect's own reader. */
#include <stdlib.h>

#include "tokenizers/output/output.h"

void call_notation_free(struct call_notation *n)
{
    str_free(&n->before);
    str_free(&n->between);
    str_free(&n->separator);
    str_free(&n->after);
    n->known = n->partial = false;
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
};

static bool find_call(const struct dialect *d, const char *from, const char *end, struct call_place *p)
{
    p->open = p->arguments = NULL;
    p->name = find(from, end, PROBE_NAME);
    p->open = p->name ? find_open(d, from, p->name) : NULL;
    p->arguments = p->open ? find_arguments(p->name, end, &p->behind) : NULL;
    p->end = end;
    return p->arguments;
}

static void take_call(struct call_notation *n, const struct dialect *d, const struct call_place *p)
{
    call_notation_free(n);
    const char *behind_name = p->name + strlen(PROBE_NAME), *end = find_end(d, p->behind, p->end, p->open, p->name);
    add_with_ids(&n->before, p->open, (size_t)(p->name - p->open));
    add_with_ids(&n->between, behind_name, (size_t)(p->arguments - behind_name));
    add_with_ids(&n->after, p->behind, (size_t)(end - p->behind));
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

/* ---- what a dialect says ---------------------------------------------------------------------------------------------- */

static void write_block(struct call_notation *n, const struct dialect *d)
{
    const struct block *b = &d->blocks[0];
    const char *section = d->section[0] ? d->section[0] : "", *section_end = d->section[1] ? d->section[1] : "", *close = b->close ? b->close : "";
    if (b->read == json_read && !(b->flags & KEYED)) {
        bool list = !(b->flags & ONE);
        str_format(&n->before, "%s\n%s{\"name\": \"", b->open, list ? "[" : "");
        str_add_text(&n->between, "\", \"arguments\": ");
        str_format(&n->after, "}%s%s%s", list ? "]" : "", b->close ? "\n" : "", close);
        if (list)
            str_add_text(&n->separator, "}, {\"name\": \"");
    } else if (b->read == bare_read) {
        str_add_text(&n->before, "{\"name\": \"");
        str_add_text(&n->between, "\", \"arguments\": ");
        str_add_text(&n->after, "}");
    } else if (b->read == named_read && !(b->flags & KIMI_ID)) {
        str_format(&n->before, "%s%s%s", section, b->open, b->prefix ? b->prefix : "");
        str_format(&n->between, "%s%s", b->separator, b->suffix ? "\n" : "");
        str_format(&n->after, "%s%s%s%s", b->suffix ? "\n" : "", b->suffix ? b->suffix : "", close, section_end);
    } else {
        return;
    }
    n->known = true;
    if (!n->separator.size && b->close) {
        str_add(&n->separator, str_text(&n->after), n->after.size - strlen(section_end));
        str_add_char(&n->separator, '\n');
        str_add(&n->separator, str_text(&n->before) + strlen(section), n->before.size - strlen(section));
    }
}

/* The dialect's reader finds this one call, and nothing beside it. */
static bool stands(const struct call_notation *n, const struct dialect *d)
{
    struct output *o;
    struct str text = {0};
    const struct str *parts[] = {&n->before, &n->between, &n->after};
    static const char *const values[] = {PROBE_NAME, "{\"k\": \"v\", \"n\": 1}", ""};
    static const char declared[] = "[{\"name\": \"" PROBE_NAME "\"}]";
    struct arena arena = {0};
    struct json tools;
    for (int i = 0; i < 3; i++) {
        for (size_t k = 0; k < parts[i]->size; k++)
            if (parts[i]->data[k] == NOTATION_ID)
                str_add_text(&text, PROBE_ID "0");
            else
                str_add_char(&text, parts[i]->data[k]);
        str_add_text(&text, values[i]);
    }
    bool good = !text.failed && !json_parse(&arena, declared, sizeof declared - 1, NULL, &tools, NULL) &&
                !output_open(&o, d, &(struct output_options){.tools = &tools}, NULL);
    if (good) {
        good = !output_add(o, str_text(&text), text.size, NULL) && !output_end(o, false, NULL);
        const struct output_answer *a = output_answer(o);
        good = good && a->call_count == 1 && !a->content_size && !a->reasoning_size && !strcmp(a->calls[0].name, PROBE_NAME);
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
    if (!out->partial && !(out->known && stands(out, d))) {
        call_notation_free(out);
        write_block(out, d);
        if (out->known && !stands(out, d))
            call_notation_free(out);
    }
    if (!out->before.failed && !out->between.failed && !out->after.failed && !out->separator.failed)
        return STATUS_OK;
    call_notation_free(out);
    return error_memory(err, "a form of calls");
}
