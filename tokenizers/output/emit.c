/* What a reader found, into the answer and out as events. */
#include <stdlib.h>

#include "base/utf8.h"
#include "tokenizers/output/output.h"

static void tell(struct output *o, const struct output_event *e)
{
    if (o->options.event && !o->failed)
        o->options.event(o->options.context, e);
}

/* ---- text ------------------------------------------------------------------------------------------------------------ */

static void append(struct output *o, struct str *to, enum output_event_kind kind, const char *text, size_t size)
{
    if (!size)
        return;
    str_add(to, text, size);
    tell(o, &(struct output_event){.kind = kind, .text = text, .size = size});
}

/* White space goes out only before more text; what touches markup on its left never does (but for texts taken as they are). */
static void add_text(struct output *o, struct str *to, enum output_event_kind kind, const char *text, size_t size)
{
    if (o->touch) {
        while (size && !o->verbatim && out_space(*text))
            text++, size--;
        if (!size)
            return;
        const char *joint = o->joint ? o->joint : "\n";
        if (to->size)
            append(o, to, kind, joint, strlen(joint));
        o->touch = false;
    }
    size_t end = size;
    while (end && !o->verbatim && out_space(text[end - 1]))
        end--;
    if (end) {
        append(o, to, kind, str_text(&o->space), o->space.size);
        str_clear(&o->space);
        append(o, to, kind, text, end);
    }
    str_add(&o->space, text + end, size - end);
}

void emit_content(struct output *o, const char *text, size_t size) { add_text(o, &o->content_text, OUTPUT_CONTENT, text, size); }
void emit_reasoning(struct output *o, const char *text, size_t size)
{
    add_text(o, &o->reasoning_text, OUTPUT_REASONING, text, size);
}

void emit_markup(struct output *o)
{
    str_clear(&o->space);
    o->touch = true;
}

void emit_reasoning_begin(struct output *o, const char *tag)
{
    emit_markup(o);
    o->open_tag = tag;
}

void emit_reasoning_end(struct output *o)
{
    emit_markup(o);
    o->open_tag = NULL;
}

void emit_end(struct output *o)
{
    if (o->open_tag)
        warn(o, "unclosed-reasoning", o->open_tag, strlen(o->open_tag));
    else if (!o->marked_end)
        append(o, &o->content_text, OUTPUT_CONTENT, str_text(&o->space), o->space.size);
    str_clear(&o->space);
}

/* ---- warnings -------------------------------------------------------------------------------------------------------- */

void warn(struct output *o, const char *kind, const char *text, size_t size)
{
    if (o->warning_count == o->warning_capacity) {
        size_t capacity = o->warning_capacity ? 2 * o->warning_capacity : 8;
        struct output_warning *more = realloc(o->warnings, capacity * sizeof *more);
        if (!more) {
            o->failed = true;
            return;
        }
        o->warnings = more;
        o->warning_capacity = capacity;
    }
    char *copy = arena_copy(&o->arena, text, size);
    o->failed |= !copy;
    o->warnings[o->warning_count++] = (struct output_warning){.kind = kind, .text = copy ? copy : "", .size = copy ? size : 0};
}

static void tell_warnings(struct output *o)
{
    for (; o->warnings_told < o->warning_count; o->warnings_told++) {
        const struct output_warning *w = &o->warnings[o->warnings_told];
        tell(o, &(struct output_event){.kind = OUTPUT_WARNING, .warning = w->kind, .text = w->text, .size = w->size});
    }
}

/* ---- calls ----------------------------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t x) /* splitmix64 */
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* Nine letters or digits, as Mistral's templates want them: six from the seed, three count. */
static char *made_up_id(struct output *o, size_t number)
{
    static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    uint64_t bits = mix(o->options.id_seed);
    char id[9];
    for (int i = 0; i < 6; i++, bits /= 62)
        id[i] = digits[bits % 62];
    for (int i = 8; i > 5; i--, number /= 62)
        id[i] = digits[number % 62];
    return arena_copy(&o->arena, id, sizeof id);
}

static struct call *current(struct output *o) { return &o->calls[o->call_count - 1]; }

static void tell_begin(struct output *o, struct call *c)
{
    c->told = true;
    tell(o,
         &(struct output_event){.kind = OUTPUT_CALL, .index = c->index, .id = c->id, .name = c->name, .name_size = c->name_size});
}

static void tell_arguments(struct output *o, const struct call *c, const char *text, size_t size)
{
    if (size)
        tell(o, &(struct output_event){.kind = OUTPUT_ARGUMENTS, .index = c->index, .id = c->id, .text = text, .size = size});
}

void call_begin(struct output *o, const char *name, size_t size, const char *id, size_t id_size)
{
    if (o->call_count == o->call_capacity) {
        size_t capacity = o->call_capacity ? 2 * o->call_capacity : 8;
        struct call *more = realloc(o->calls, capacity * sizeof *more);
        if (!more) {
            o->failed = true;
            return;
        }
        o->calls = more;
        o->call_capacity = capacity;
    }
    struct call *c = &o->calls[o->call_count];
    *c = (struct call){.name_size = size, .index = o->told};
    c->name = arena_copy(&o->arena, name, size);
    c->id = id_size ? arena_copy(&o->arena, id, id_size) : made_up_id(o, o->told);
    if (!c->name || !c->id) {
        o->failed = true;
        return;
    }
    o->call_count++;
    o->told++;
    if (!o->quiet)
        tell_begin(o, c);
}

void call_add(struct output *o, const char *text, size_t size)
{
    if (o->failed)
        return;
    struct call *c = current(o);
    str_add(&c->arguments, text, size);
    if (c->told)
        tell_arguments(o, c, text, size);
}

void call_add_text(struct output *o, const char *text) { call_add(o, text, strlen(text)); }

void json_fix_controls(struct str *out, const char *text, size_t size)
{
    bool string = false, escaped = false;
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        if (string && c < 0x20)
            str_format(out, "\\u%04x", (unsigned)c);
        else
            str_add_char(out, (char)c);
        string = c == '"' && !escaped ? !string : string;
        escaped = string && c == '\\' && !escaped;
    }
}

void call_add_json(struct output *o, const char *text, size_t size)
{
    struct str fixed = {0};
    json_fix_controls(&fixed, text, size);
    o->failed |= fixed.failed;
    call_add(o, str_text(&fixed), fixed.size);
    str_free(&fixed);
}

void call_add_string(struct output *o, const char *text, size_t size, bool quotes)
{
    struct str json = {0};
    json_write_string(&json, text, size);
    o->failed |= json.failed;
    if (!json.failed)
        call_add(o, json.data + !quotes, json.size - 2 * !quotes);
    str_free(&json);
}

static void finish(struct output *o, struct call *c)
{
    if (c->told)
        tell(o, &(struct output_event){.kind = OUTPUT_CALL_END, .index = c->index, .id = c->id});
}

bool call_end(struct output *o)
{
    if (o->failed)
        return true;
    struct call *c = current(o);
    if (c->arguments.failed)
        o->failed = true;
    if (!utf8_is_valid(str_text(&c->arguments), c->arguments.size) || !utf8_is_valid(c->name, c->name_size))
        return false;
    c->complete = true;
    finish(o, c);
    return true;
}

bool call_code(struct output *o, const char *name, size_t size, size_t from, size_t to)
{
    while (from < to && out_space(*in_at(o, from)))
        from++;
    while (to > from && out_space(*in_at(o, to - 1)))
        to--;
    call_begin(o, name, size, NULL, 0);
    call_add_text(o, "{");
    if (to > from) {
        call_add_text(o, "\"code\": ");
        call_add_string(o, in_at(o, from), to - from, true);
    }
    call_add_text(o, "}");
    return call_end(o);
}

enum step call_unfinished(struct output *o)
{
    call_add_text(o, "}");
    warn(o, "truncated", in_at(o, o->begin), o->limit - o->begin);
    o->at = o->limit;
    return call_end(o) ? STEP_CALL : STEP_BROKEN;
}

bool calls_complete(const struct output *o)
{
    return o->options.one_call && o->call_count > o->accepted && o->calls[o->call_count - 1].complete;
}

void calls_accept(struct output *o)
{
    for (; o->accepted < o->call_count; o->accepted++) {
        struct call *c = &o->calls[o->accepted];
        if (o->tool_count && !tool_find(o, c->name, c->name_size))
            warn(o, "unknown-tool", c->name, c->name_size);
        if (c->told)
            continue;
        tell_begin(o, c);
        tell_arguments(o, c, str_text(&c->arguments), c->arguments.size);
        finish(o, c);
    }
    tell_warnings(o);
}

void calls_reject(struct output *o)
{
    while (o->call_count > o->accepted) {
        struct call *c = current(o);
        if (!c->told)
            o->told--; /* nobody saw its number */
        str_free(&c->arguments);
        o->call_count--;
    }
    o->warning_count = o->warnings_told;
}
