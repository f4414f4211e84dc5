/* Which dialect a chat template speaks: the table of signs against what it renders for a history with calls, then against its
 * text, then against the vocabulary. */
#include <stdio.h>
#include <stdlib.h>

#include "tokenizers/output/declaration.h"

enum place { CALLS = 1, TEXT = 2, VOCABULARY = 4 };

#define LOOKUP PROBE_NAME

static const struct sign {
    const char *dialect;
    unsigned where;
    const char *mark, *also;
} signs[] = {
#define SIGN(name, places, text, more) {.dialect = #name, .where = (places), .mark = text, .also = more},
#include "tokenizers/output/signs.def"
#undef SIGN
};

struct search {
    const char *place; /* what is searched; NULL: the vocabulary */
    size_t place_size;
    const struct chat_named *named;
    const struct tokenizer *tokenizer;
};

static bool has(const char *text, size_t size, const char *mark) { return text && memmem(text, size, mark, strlen(mark)); }

static bool in_vocabulary(const struct search *s, const char *mark)
{
    return s->tokenizer && tokenizer_find(s->tokenizer, mark, strlen(mark)) >= 0;
}

static bool matches(const struct search *s, const struct sign *sign)
{
    const struct chat_named *n = s->named;
    if (!(s->place ? has(s->place, s->place_size, sign->mark) : in_vocabulary(s, sign->mark)))
        return false;
    return !sign->also || (s->place ? has(s->place, s->place_size, sign->also) : in_vocabulary(s, sign->also)) ||
           (n && has(n->text, n->size, sign->also));
}

static bool find_sign(const struct search *s, enum place where, struct dialect_choice *out)
{
    static const char *const words[] = {
        [CALLS] = "it renders calls with", [TEXT] = "its text has", [VOCABULARY] = "the vocabulary has"};
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++) {
        const struct sign *sign = &signs[i];
        if (!(sign->where & where) || !matches(s, sign))
            continue;
        out->dialect = dialect_find(sign->dialect, strlen(sign->dialect));
        snprintf(out->why, sizeof out->why, "%s %s%s%s", words[where], QUOTE(sign->mark, strlen(sign->mark)),
                 sign->also ? " and " : "", sign->also ? QUOTE(sign->also, strlen(sign->also)) : "");
        for (char *c = out->why; *c; c++)
            *c = *c == '\n' ? ' ' : *c;
        return true;
    }
    return false;
}

/* ---- probes ---------------------------------------------------------------------------------------------------------- */

static void write_function(struct str *out, const char *name)
{
    str_format(out,
               "{\"type\": \"function\", \"function\": {\"name\": \"%s\", \"description\": \"d\", \"parameters\": {\"type\": "
               "\"object\", "
               "\"properties\": {\"k\": {\"type\": \"string\", \"description\": \"d\"}, \"n\": {\"type\": \"integer\", "
               "\"description\": \"d\"}}, "
               "\"required\": []}}}",
               name);
}

static void write_call(struct str *out, const char *name, const char *id, const char *arguments, bool as_text)
{
    str_format(out, "{\"type\": \"function\", \"id\": \"%s\", \"function\": {\"name\": \"%s\", \"arguments\": ", id, name);
    if (as_text)
        json_write_string(out, arguments, strlen(arguments));
    else
        str_add_text(out, arguments);
    str_add_text(out, "}}");
}

/* A question, and where variant is not negative an answer that calls. */
static void write_request(struct str *out, int variant)
{
    str_add_text(out, "{\"template_kwargs\": {\"functions\": \"[]\", \"datetime\": \"2026-01-02\", \"bos_token\": \"\", "
                      "\"eos_token\": \"\"}, \"tools\": [");
    write_function(out, LOOKUP);
    str_add_text(out, ", ");
    write_function(out, PROBE_SECOND);
    str_add_text(out, "], \"messages\": [{\"role\": \"user\", \"content\": \"Q\"}");
    if (variant >= 0) {
        bool as_text = variant & AS_TEXT;
        str_format(out, ", {\"role\": \"assistant\"%s%s, \"tool_calls\": [", variant & NO_CONTENT ? "" : ", \"content\": \"A\"",
                   variant & NO_REASONING ? "" : ", \"reasoning_content\": \"R\"");
        write_call(out, LOOKUP, PROBE_ID "0", "{\"k\": \"v\", \"n\": 1}", as_text);
        if (!(variant & ONE_CALL)) {
            str_add_text(out, ", ");
            write_call(out, PROBE_SECOND, PROBE_ID "1", "{}", as_text);
        }
        str_add_text(out, "]}");
    }
    str_add_text(out, "]}");
}

bool probe_render(const struct chat_template *t, const struct chat_source *source, int variant, struct chat_text *out)
{
    struct arena arena = {0};
    struct str text = {0};
    struct json request, context;
    struct chat_limits limits = chat_default_limits;
    limits.steps = 1000000; /* a probe is small; its template may be anybody's */
    write_request(&text, variant);
    bool good = !text.failed && json_parse(&arena, str_text(&text), text.size, NULL, &request, NULL) == STATUS_OK &&
                chat_context(&arena, &request, source, &context, NULL) == STATUS_OK &&
                chat_render(t, &context, "2026-01-02T03:04:05", &limits, out, NULL) == STATUS_OK;
    str_free(&text);
    arena_free(&arena);
    return good;
}

/* What the calls add to the prompt. */
static bool find_rendered(struct search *s, const struct chat_template *t, const struct chat_source *source,
                          struct dialect_choice *out)
{
    struct chat_text plain = {0}, text = {0};
    probe_render(t, source, -1, &plain);
    bool printed = false, found = false;
    for (int variant = 0; variant < PROBES && !printed; variant++) {
        chat_text_free(&text);
        if (!probe_render(t, source, variant, &text))
            continue;
        size_t same = 0;
        while (same < plain.text.size && same < text.text.size && plain.text.data[same] == text.text.data[same])
            same++;
        s->place = str_text(&text.text) + same;
        s->place_size = text.text.size - same;
        printed = has(s->place, s->place_size, LOOKUP);
    }
    found = printed && find_sign(s, CALLS, out);
    chat_text_free(&plain);
    chat_text_free(&text);
    return found;
}

static void find_dialect(struct search *s, const struct chat_source *source, struct dialect_choice *out)
{
    struct chat_template *compiled = NULL;
    const struct chat_named *named = s->named;
    if (named && chat_compile(&compiled, named->name, named->text, named->size, NULL) == STATUS_OK) {
        bool found = find_rendered(s, compiled, source, out);
        chat_free(compiled);
        if (found)
            return;
    }
    if (named) {
        s->place = named->text;
        s->place_size = named->size;
        if (find_sign(s, TEXT, out))
            return;
    }
    s->place = NULL;
    if (!find_sign(s, VOCABULARY, out))
        snprintf(out->why, sizeof out->why, "nothing in %sthe vocabulary tells a form of calls", named ? "the template or " : "");
}

/* ---- reasoning tags -------------------------------------------------------------------------------------------------- */

static int think_count(const struct dialect *d)
{
    int n = 0;
    while (n < MAX_THINK && d->think[n].open)
        n++;
    return n;
}

static bool knows(const struct dialect *d, const struct think *pair)
{
    for (int i = 0; i < think_count(d); i++)
        if (!strcmp(d->think[i].open, pair->open))
            return true;
    return false;
}

/* One tag in the template's text is enough (some only cut old reasoning off, at its closing tag); of tokens both. */
static const char *thinks_in(const struct search *s, const struct think *pair)
{
    if (s->named && (has(s->named->text, s->named->size, pair->open) || has(s->named->text, s->named->size, pair->close)))
        return "the template's text";
    return in_vocabulary(s, pair->open) && in_vocabulary(s, pair->close) ? "the vocabulary" : NULL;
}

static enum status make_own(struct dialect_choice *c, struct error *err)
{
    if (c->own)
        return STATUS_OK;
    if (!(c->own = malloc(sizeof *c->own)))
        return error_memory(err, "a dialect");
    memcpy(c->own, c->dialect, sizeof *c->own);
    c->dialect = c->own;
    return STATUS_OK;
}

/* Pairs that the dialect does not know, into a copy of it. */
static enum status add_reasoning(const struct search *s, struct dialect_choice *out, struct error *err)
{
    const struct dialect *all = dialect_find("reasoning_tags", strlen("reasoning_tags"));
    int count = think_count(out->dialect);
    for (int i = 0; i < think_count(all) && count < MAX_THINK && !out->dialect->harmony; i++) {
        const struct think *pair = &all->think[i];
        const char *where = knows(out->dialect, pair) ? NULL : thinks_in(s, pair);
        if (!where)
            continue;
        enum status status = make_own(out, err);
        if (status)
            return status;
        out->own->think[count++] = *pair;
        size_t used = strlen(out->why);
        snprintf(out->why + used, sizeof out->why - used, "; %s has %s", where, pair->open);
    }
    return STATUS_OK;
}

/* ---- the model's own word --------------------------------------------------------------------------------------------- */

/* The end of a turn as the model's files name it, beside the marks that are known. */
static enum status add_end(const struct chat_source *source, struct dialect *d, struct error *err)
{
    for (uint32_t i = 0; i < source->token_count; i++) {
        const struct json_member *m = &source->tokens[i];
        int end = 0;
        if (m->key_size != 9 || memcmp(m->key, "eos_token", 9) || !m->value.size || memchr(m->value.text, 0, m->value.size))
            continue;
        while (end < MAX_ENDS && d->ends[end])
            end++;
        if (end < MAX_ENDS && !(d->ends[end] = json_copy(&d->declared->arena, &m->value)))
            return error_memory(err, "a dialect");
    }
    return STATUS_OK;
}

static enum status add_declaration(const struct chat_source *source, struct dialect_choice *out, struct error *err)
{
    bool regions = source && source->response_template.text;
    const struct chat_declaration *text = !source ? NULL : regions ? &source->response_template : &source->response_schema;
    struct declaration *d;
    struct error why = {0};
    if (!text || !text->text)
        return STATUS_OK;
    enum status status = (regions ? declaration_open_template : declaration_open_schema)(&d, text->text, text->size, &why);
    if (status == STATUS_BAD_INPUT) {
        snprintf(out->warning, sizeof out->warning, "the model's %.260s", why.text);
        return STATUS_OK;
    }
    if (status || (status = make_own(out, err))) {
        declaration_close(d);
        return error_memory(err, "a dialect");
    }
    out->own->declared = d;
    out->own->name = regions ? "response_template" : "response_schema";
    snprintf(out->why, sizeof out->why, "the model declares how its answers are read");
    return add_end(source, out->own, err);
}

enum status dialect_detect(struct dialect_choice *out, const struct chat_source *source, const struct chat_named *named,
                           const struct tokenizer *t, struct error *err)
{
    struct search search = {.named = named, .tokenizer = t};
    *out = (struct dialect_choice){.dialect = dialect_find("bare_json", 9)};
    find_dialect(&search, source, out);
    enum status status = add_reasoning(&search, out, err);
    if (!status)
        status = add_declaration(source, out, err);
    if (status)
        dialect_choice_free(out);
    return status;
}

void dialect_choice_free(struct dialect_choice *c)
{
    if (c->own)
        declaration_close(c->own->declared);
    free(c->own);
    *c = (struct dialect_choice){0};
}
