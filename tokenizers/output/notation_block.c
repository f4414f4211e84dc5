/* How a dialect's first block has calls written, for models whose template prints none. */
#include "tokenizers/output/output.h"

/* "name" beside arguments, which are JSON. */
static void of_json(struct call_notation *n, const struct block *b, bool list)
{
    str_format(&n->before, "%s%s%s{\"name\": \"", b->read == bare_read ? "" : b->open, b->read == bare_read ? "" : "\n", list ? "[" : "");
    str_add_text(&n->between, "\", \"arguments\": ");
    str_format(&n->after, "}%s%s%s", list ? "]" : "", b->close ? "\n" : "", b->close ? b->close : "");
    if (list)
        str_add_text(&n->separator, "}, {\"name\": \"");
}

static void of_named(struct call_notation *n, const struct block *b, const char *section, const char *section_end)
{
    bool numbered = b->flags & KIMI_ID;
    str_format(&n->before, "%s%s%s", section, b->open, numbered ? "functions." : b->prefix ? b->prefix : "");
    if (numbered)
        str_format(&n->between, ":%c", NOTATION_INDEX);
    str_format(&n->between, "%s%s", b->separator, b->suffix ? "\n" : "");
    str_format(&n->after, "%s%s%s%s", b->suffix ? "\n" : "", b->suffix ? b->suffix : "", b->close, section_end);
}

static void add_attribute(struct str *out, const char *name)
{
    if (name)
        str_format(out, " %s=\"", name);
}

/* Tags stand in lines of their own. */
static void of_tags(struct call_notation *n, const struct block *b, const char *section, const char *section_end)
{
    const struct tag_words *w = b->words;
    const char *line = b->flags & EXACT ? "" : "\n"; /* readers take it off again */
    str_format(&n->before, "%s%s%s%s%s", section, *section ? "\n" : "", b->open, *w->head_open ? "\n" : "", w->head_open);
    add_attribute(&n->before, w->head_attribute);
    str_format(&n->between, "%s%s", w->head_attribute ? "\"" : "", w->head_end ? w->head_end : "");
    str_format(&n->key, "\n%s", w->param_open);
    add_attribute(&n->key, w->param_attribute);
    str_format(&n->value, "%s%s", w->param_attribute ? "\"" : "", w->param_end);
    str_format(&n->value, "%s%s%s", w->value_open ? "\n" : "", w->value_open ? w->value_open : "", line);
    str_add(&n->other, str_text(&n->value), n->value.size);
    str_format(&n->close, "%s%s", line, w->param_close);
    str_format(&n->after, "\n%s", w->head_close);
    if (strcmp(w->head_close, b->close))
        str_format(&n->after, "\n%s", b->close);
    str_format(&n->after, "%s%s", *section_end ? "\n" : "", section_end);
    n->members = true;
    n->until = w->param_close;
}

/* NAME(KEY=VALUE, ...), in a list or in lines. */
static void of_python(struct call_notation *n, const struct block *b)
{
    bool lines = b->flags & LINES, list = b->flags & LIST && !lines, bare = b->flags & BARE;
    str_format(&n->before, "%s%s", b->open, lines ? "\n" : !list ? " " : bare ? "" : "[");
    str_add_text(&n->between, "(");
    str_add_text(&n->value, "=");
    str_add_text(&n->other, "=");
    str_add_text(&n->joint, ", ");
    str_format(&n->after, ")%s%s", lines ? "\n" : list ? "]" : "", b->close ? b->close : "");
    if (lines || list)
        str_add_text(&n->separator, lines ? ")\n" : "), ");
    n->members = n->python = true;
    n->unmarked = bare && list;
}

/* call:NAME{KEY:VALUE,...} */
static void of_gemma(struct call_notation *n, const struct block *b)
{
    str_format(&n->before, "%s%s", b->open, b->prefix);
    str_add_text(&n->between, "{");
    str_add_text(&n->value, ":");
    str_add_text(&n->other, ":");
    str_add_text(&n->joint, ",");
    str_format(&n->after, "}%s", b->close);
    str_format(&n->separator, "}%s%s%s", b->close, b->open, b->prefix);
    n->members = true;
    n->mark = b->separator;
}

void notation_of_block(struct call_notation *n, const struct dialect *d)
{
    const struct block *b = &d->blocks[0];
    const char *section = d->section[0] ? d->section[0] : "", *section_end = d->section[1] ? d->section[1] : "";
    if ((b->read == json_read && !(b->flags & KEYED)) || b->read == bare_read)
        of_json(n, b, b->read == json_read && !(b->flags & ONE));
    else if (b->read == named_read)
        of_named(n, b, section, section_end);
    else if (b->read == tags_read && !(b->words->json_open))
        of_tags(n, b, section, section_end);
    else if (b->read == python_read)
        of_python(n, b);
    else if (b->read == gemma_read)
        of_gemma(n, b);
    else
        return;
    n->known = true;
    if (!n->separator.size && b->close) { /* the end of one call, then the next one's beginning */
        str_add(&n->separator, str_text(&n->after), n->after.size - strlen(section_end));
        if (n->separator.size && n->separator.data[n->separator.size - 1] != '\n')
            str_add_char(&n->separator, '\n');
        size_t from = strlen(section) + (b->read == tags_read && *section);
        str_add(&n->separator, str_text(&n->before) + from, n->before.size - from);
    }
}
