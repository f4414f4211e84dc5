/* The life of one answer: bytes in, end-of-turn marks held back, the mode machine, the answer out. */
#include <stdlib.h>

#include "tokenizers/output/output.h"

/* ---- markers --------------------------------------------------------------------------------------------------------- */

enum found word_at(const struct output *o, size_t at, const char *text, size_t size)
{
    size_t there = o->limit - at, n = there < size ? there : size;
    if (memcmp(in_at(o, at), text, n))
        return FOUND_NOT;
    return n == size ? FOUND : o->ended && o->mode != MODE_BLOCK ? FOUND_NOT : FOUND_PART;
}

bool part_at_end(const struct output *o, size_t at, const char *text)
{
    size_t there = o->limit - at;
    return o->ended && there < strlen(text) && !memcmp(in_at(o, at), text, there);
}

size_t past_space(const struct output *o, size_t at)
{
    while (at < o->limit && out_space(*in_at(o, at)))
        at++;
    return at;
}

static bool is_active(const struct output *o, const struct marker *m)
{
    const struct block *b;
    switch (m->role) {
    case MARK_THINK:
        return o->reasoning;
    case MARK_SECTION:
        return !o->section && o->broken < BROKEN_BLOCKS;
    case MARK_SECTION_END:
        return o->section == 2;
    case MARK_BLOCK:
        b = &o->dialect->blocks[m->index];
        if (o->dialect->section[0] && !o->section)
            return false;
        if ((b->flags & AT_LINE && !o->line) || (b->flags & AT_START && !o->start))
            return false;
        if (b->flags & (BARE | DECLARED) && !o->tool_count)
            return false;
        return o->broken < BROKEN_BLOCKS;
    default:
        return true;
    }
}

enum found marker_at(const struct output *o, size_t at, const struct marker **out)
{
    enum found found = FOUND_NOT;
    size_t longest = 0;
    for (int i = 0; i < o->marker_count; i++) {
        const struct marker *m = &o->markers[i];
        if (m->size <= longest || !is_active(o, m))
            continue;
        enum found here = word_at(o, at, m->text, m->size);
        if (here == FOUND_PART)
            return FOUND_PART;
        if (here == FOUND) {
            found = FOUND;
            longest = m->size;
            *out = m;
        }
    }
    return found;
}

static void add_marker(struct output *o, enum marker_role role, const char *text, int index)
{
    if (!text)
        return;
    o->markers[o->marker_count++] = (struct marker){.role = role, .text = text, .size = strlen(text), .index = index};
    o->first[(unsigned char)*text] = true;
}

static void add_markers(struct output *o, const struct dialect *d)
{
    for (int i = 0; i < MAX_THINK; i++)
        add_marker(o, MARK_THINK, d->think[i].open, i);
    for (int i = 0; i < MAX_MARKUP; i++)
        add_marker(o, MARK_MARKUP, d->markup[i], i);
    for (int i = 0; i < MAX_BLOCKS; i++)
        add_marker(o, MARK_BLOCK, d->blocks[i].open, i);
    for (int i = 0; i < 4; i++)
        add_marker(o, i % 2 ? MARK_SECTION_END : MARK_SECTION, d->section[i], i / 2);
}

/* ---- end-of-turn marks ----------------------------------------------------------------------------------------------- */

/* Marks that tokenizers of many families print; a dialect's own come on top. */
static const char *const common_ends[] = {
    "<|im_end|>", "</s>", "<|eot_id|>", "<|endoftext|>", "<|end_of_text|>", "<end_of_turn>", "<｜end▁of▁sentence｜>", "<eos>"};

static void add_ends(struct output *o, const struct dialect *d)
{
    for (size_t i = 0; i < sizeof common_ends / sizeof *common_ends; i++)
        o->ends[o->end_count++] = common_ends[i];
    for (int i = 0; i < MAX_ENDS && d->ends[i]; i++)
        o->ends[o->end_count++] = d->ends[i];
    for (int i = 0; i < o->end_count; i++)
        o->first_of_end[(unsigned char)*o->ends[i]] = true;
}

/* At in[at]: bytes of the mark there; 0: none; -1: perhaps, more bytes will tell. */
static int end_mark(const struct output *o, size_t at)
{
    size_t there = o->in.size - at;
    int part = 0;
    for (int i = 0; i < o->end_count; i++) {
        size_t n = strlen(o->ends[i]);
        if (memcmp(o->in.data + at, o->ends[i], there < n ? there : n))
            continue;
        if (there >= n)
            return (int)n;
        part = -1;
    }
    return part;
}

/* Moves limit over what cannot belong to end-of-turn marks at the very end of the output. */
static void find_limit(struct output *o)
{
    bool in_tail = o->tail > o->limit;
    size_t p = in_tail ? o->tail : o->limit;
    while (p < o->in.size) {
        char c = o->in.data[p];
        int n = o->first_of_end[(unsigned char)c] ? end_mark(o, p) : 0;
        if (n < 0)
            break;
        if (n) {
            if (!in_tail)
                o->limit = p;
            in_tail = true;
            p += (size_t)n;
        } else if (in_tail && out_space(c))
            p++;
        else {
            in_tail = false;
            p++;
        }
    }
    if (!in_tail)
        o->limit = p;
    o->tail = p;
    if (!o->ended)
        return;
    if (in_tail && p == o->in.size)
        o->marked_end = true;
    else
        o->limit = o->in.size;
}

/* ---- modes ----------------------------------------------------------------------------------------------------------- */

static void drop_to(struct output *o, size_t at)
{
    o->at = at;
    o->mode = MODE_TEXT;
}

static bool reasoning_step(struct output *o)
{
    if (o->swallow) {
        o->at = past_space(o, o->at);
        enum found again = o->at == o->limit && !o->ended ? FOUND_PART : text_at(o, o->at, o->think->open);
        if (again == FOUND_PART)
            return false;
        o->swallow = false;
        if (again == FOUND)
            o->at += strlen(o->think->open);
    }
    size_t p = o->at, n = strlen(o->think->close);
    enum found found = FOUND_NOT;
    while (p < o->limit && (*in_at(o, p) != *o->think->close || (found = word_at(o, p, o->think->close, n)) == FOUND_NOT)) {
        const char *next = memchr(in_at(o, p + 1), *o->think->close, o->limit - p - 1);
        p = next ? (size_t)(next - o->in.data) : o->limit;
    }
    emit_reasoning(o, in_at(o, o->at), p - o->at);
    o->at = p;
    if (found != FOUND)
        return false;
    emit_reasoning_end(o);
    o->line = o->reasoning = true;
    drop_to(o, p + n);
    return true;
}

enum step block_close(struct output *o)
{
    const char *close = o->block->close;
    if (!close)
        return STEP_CALL;
    size_t p = o->at = past_space(o, o->at);
    enum found found = text_at(o, p, close);
    if (found == FOUND || part_at_end(o, p, close)) {
        o->at = found == FOUND ? p + strlen(close) : o->limit;
        return STEP_CALL;
    }
    if (found == FOUND_PART || p == o->limit)
        return STEP_MORE;
    found = text_at(o, p, o->block->open); /* the next one opens: only the closing marker is missing */
    if (found == FOUND || part_at_end(o, p, o->block->open))
        return STEP_CALL;
    return found == FOUND_PART ? STEP_MORE : STEP_BROKEN;
}

static void accept_block(struct output *o)
{
    emit_markup(o);
    if (o->section == 1) { /* what stood before the section's first good call is text */
        emit_content(o, in_at(o, o->section_text), o->begin - o->section_text);
        emit_markup(o);
        o->section = 2;
    }
    calls_accept(o);
    o->line = !(o->block->flags & BARE); /* those end their line themselves */
    o->reasoning = true;
    o->start = false;
    drop_to(o, o->at);
}

static void text_block(struct output *o)
{
    calls_reject(o);
    if (o->section == 1) {
        o->mode = MODE_SECTION;
        o->at = o->text_to;
        return;
    }
    emit_content(o, in_at(o, o->begin), o->text_to - o->begin);
    o->line = o->text_to > o->begin && *in_at(o, o->text_to - 1) == '\n';
    o->start = o->reasoning = false;
    drop_to(o, o->text_to);
}

static void break_block(struct output *o)
{
    calls_reject(o);
    o->broken++;
    o->mode = MODE_BROKEN;
    o->at = o->begin + strlen(o->block->open);
}

/* The limit came in the middle: what is there is dropped, and told. */
static void cut_block(struct output *o)
{
    size_t from = o->section == 1 ? o->section_at : o->begin;
    calls_reject(o);
    emit_markup(o);
    warn(o, "truncated", in_at(o, from), o->limit - from);
    calls_accept(o);
    o->section = 0;
    drop_to(o, o->limit);
}

static bool block_step(struct output *o)
{
    o->text_to = o->begin + strlen(o->block->open);
    enum step step = o->block->read(o);
    switch (step == STEP_MORE && o->ended ? STEP_OPEN : step) {
    case STEP_MORE:
        return false;
    case STEP_CALL:
        accept_block(o);
        break;
    case STEP_TEXT:
        text_block(o);
        break;
    case STEP_BROKEN:
        break_block(o);
        break;
    case STEP_OPEN:
        (o->cut ? cut_block : calls_complete(o) ? accept_block : break_block)(o);
    }
    return true;
}

/* Looks for the end of a malformed block: past its closing marker, before the next opening. */
static bool broken_step(struct output *o)
{
    const char *close = o->block->close;
    enum found found = FOUND_NOT;
    size_t p = o->at;
    o->line = o->start = false;
    for (; p < o->limit; p++) {
        const struct marker *m = NULL;
        if (close && *in_at(o, p) == *close && (found = text_at(o, p, close)) != FOUND_NOT) {
            p += found == FOUND ? strlen(close) : 0;
            break;
        }
        if (!o->first[(unsigned char)*in_at(o, p)])
            continue;
        bool reasoning = o->reasoning;
        o->reasoning = false;
        found = marker_at(o, p, &m);
        o->reasoning = reasoning;
        if (found == FOUND_PART || (found == FOUND && m->role != MARK_MARKUP))
            break;
        found = FOUND_NOT;
    }
    o->at = p;
    if (found == FOUND_PART || (found == FOUND_NOT && !o->ended))
        return false;
    warn(o, "malformed", in_at(o, o->begin), p - o->begin);
    calls_accept(o);
    if (o->section == 1) {
        o->section_broken = true;
        o->mode = MODE_SECTION;
        return true;
    }
    emit_content(o, in_at(o, o->begin), p - o->begin);
    o->reasoning = false;
    drop_to(o, p);
    return true;
}

void block_open(struct output *o, const struct marker *m)
{
    o->begin = o->at;
    o->at += m->size;
    o->block = &o->dialect->blocks[m->index];
    o->quiet = o->block->flags & BARE;
    o->mode = MODE_BLOCK;
    memset(&o->b, 0, sizeof o->b);
}

static void section_is_text(struct output *o, size_t to)
{
    emit_content(o, in_at(o, o->section_at), to - o->section_at);
    o->section = 0;
    o->line = o->start = o->reasoning = false;
    drop_to(o, to);
}

/* The output ends in what begins a call. */
static bool begins_unit(const struct output *o, size_t at)
{
    for (int i = 0; i < MAX_BLOCKS && o->dialect->blocks[i].open; i++)
        if (part_at_end(o, at, o->dialect->blocks[i].open))
            return true;
    return false;
}

/* In a section where no call stands yet. Right behind the opening only a call may follow, else it was no opening. */
static bool section_step(struct output *o)
{
    const char *close = o->dialect->section[2 * o->section_index + 1];
    size_t p = past_space(o, o->at);
    for (; p < o->limit; p++) {
        const struct marker *m;
        enum found found = text_at(o, p, close), call = marker_at(o, p, &m);
        o->at = p;
        if (found == FOUND) {
            section_is_text(o, p + strlen(close));
            return true;
        }
        if (call == FOUND && m->role == MARK_BLOCK) {
            block_open(o, m);
            return true;
        }
        if (found == FOUND_PART || call == FOUND_PART)
            return false;
        if (!o->section_broken && o->cut && begins_unit(o, p))
            break;
        if (!o->section_broken) {
            section_is_text(o, o->section_text);
            return true;
        }
    }
    o->at = p;
    if (!o->ended)
        return false;
    if (o->cut && !o->section_broken) {
        o->begin = o->section_at;
        cut_block(o);
    } else
        section_is_text(o, o->limit);
    return true;
}

void reasoning_open(struct output *o, const struct marker *m)
{
    o->think = &o->dialect->think[m->index];
    o->mode = MODE_REASONING;
    o->at += m->size;
    emit_reasoning_begin(o, m->text);
}

static void open_marker(struct output *o, const struct marker *m)
{
    switch (m->role) {
    case MARK_THINK:
        reasoning_open(o, m);
        break;
    case MARK_BLOCK:
        block_open(o, m);
        break;
    case MARK_SECTION:
        o->section = 1;
        o->section_index = m->index;
        o->section_broken = false;
        o->section_at = o->at;
        o->at = o->section_text = o->at + m->size;
        o->mode = MODE_SECTION;
        break;
    case MARK_SECTION_END:
        o->section = 0;
        /* fall through */
    case MARK_MARKUP:
        emit_markup(o);
        o->at += m->size;
        o->line = true;
    }
}

bool text_step(struct output *o)
{
    size_t p = o->at;
    const struct marker *m = NULL;
    enum found found = FOUND_NOT;
    for (; p < o->limit; p++) {
        char c = *in_at(o, p);
        if (o->first[(unsigned char)c] && (found = marker_at(o, p, &m)) != FOUND_NOT)
            break;
        if (c == '\n')
            o->line = true;
        else if (!out_space(c))
            o->line = o->start = o->reasoning = false;
    }
    emit_content(o, in_at(o, o->at), p - o->at);
    o->at = p;
    if (found != FOUND)
        return false;
    open_marker(o, m);
    return true;
}

/* ---- the public side ------------------------------------------------------------------------------------------------- */

static void run(struct output *o)
{
    static bool (*const steps[])(struct output *) = {
        [MODE_TEXT] = text_step,     [MODE_REASONING] = reasoning_step, [MODE_BLOCK] = block_step,
        [MODE_BROKEN] = broken_step, [MODE_SECTION] = section_step,
    };
    bool (*own)(struct output *) = o->dialect->declared ? declared_step : o->dialect->harmony ? harmony_step : o->dialect->recipients ? recipients_step : NULL;
    while (!o->failed && (own && o->mode == MODE_TEXT ? own(o) : steps[o->mode](o)))
        ;
    if (own || (o->mode != MODE_TEXT && o->mode != MODE_REASONING) || o->at < 4096 || o->at < o->in.size / 2)
        return;
    memmove(o->in.data, o->in.data + o->at, o->in.size - o->at); /* at most as much as was read since the last time */
    o->in.size -= o->at;
    o->limit -= o->at;
    o->tail -= o->at;
    o->at = 0;
}

/* Where the prompt left off: inside a pair of reasoning tags? A dialect that has none of its own knows them all: what the prompt
 * has opened is open. */
static void read_prompt_tail(struct output *o)
{
    const struct dialect *d = o->dialect->think[0].open ? o->dialect : dialect_find("reasoning_tags", strlen("reasoning_tags"));
    const char *tail = o->options.prompt_tail;
    size_t size = tail ? o->options.prompt_tail_size : 0;
    while (size && out_space(tail[size - 1]))
        size--;
    for (int i = 0; i < MAX_THINK && d->think[i].open; i++) {
        size_t n = strlen(d->think[i].open);
        if (size < n || memcmp(tail + size - n, d->think[i].open, n))
            continue;
        o->think = &d->think[i];
        o->mode = MODE_REASONING;
        o->swallow = true;
        emit_reasoning_begin(o, o->think->open);
    }
}

enum status output_open(struct output **out, const struct dialect *d, const struct output_options *options, struct error *err)
{
    *out = NULL;
    const struct json *tools = options ? options->tools : NULL;
    if (tools && tools->kind != JSON_NULL && tools->kind != JSON_ARRAY)
        return error_set(err, STATUS_USAGE, "tools must be a list, not %s", json_kind_name(tools));
    for (uint32_t i = 0; json_is(tools, JSON_ARRAY) && i < tools->size; i++)
        if (tools->items[i].kind != JSON_OBJECT)
            return error_set(err, STATUS_USAGE, "tools[%u] is %s; an object with a name is needed", i, json_kind_name(&tools->items[i]));
    struct output *o = calloc(1, sizeof *o);
    if (!o)
        return error_memory(err, "an output reader");
    o->dialect = d;
    if (options)
        o->options = *options;
    o->tools = tools;
    o->tool_count = tools && tools->kind == JSON_ARRAY ? tools->size : 0;
    o->line = o->start = o->reasoning = true;
    add_markers(o, d);
    add_ends(o, d);
    enum status status = STATUS_OK;
    if (d->declared)
        status = declared_begin(o, err);
    else
        read_prompt_tail(o);
    if (d->harmony && !d->declared)
        harmony_begin(o);
    if (d->recipients && !d->declared)
        recipients_begin(o);
    o->options.prompt_tail = NULL;
    if (status)
        output_close(o);
    else
        *out = o;
    return status;
}

static enum status state_of(const struct output *o, struct error *err)
{
    bool failed = o->failed || o->in.failed || o->content_text.failed || o->reasoning_text.failed || o->space.failed;
    return failed ? error_memory(err, "a model's output") : STATUS_OK;
}

enum status output_add(struct output *o, const char *text, size_t size, struct error *err)
{
    str_add(&o->in, text, size);
    if (o->in.failed || !o->in.size)
        return state_of(o, err);
    find_limit(o);
    run(o);
    return state_of(o, err);
}

enum status output_end(struct output *o, bool cut, struct error *err)
{
    str_add(&o->in, "", 0);
    o->ended = true;
    o->cut = cut;
    if (!o->in.failed) {
        find_limit(o);
        run(o);
        emit_end(o);
        calls_accept(o);
        o->answer_calls = calloc(o->accepted + 1, sizeof *o->answer_calls);
        o->failed |= !o->answer_calls;
    }
    for (size_t i = 0; !o->failed && i < o->accepted; i++) {
        const struct call *c = &o->calls[i];
        o->answer_calls[i] = (struct output_call){.id = c->id,
                                                  .name = c->name,
                                                  .name_size = c->name_size,
                                                  .arguments = str_text(&c->arguments),
                                                  .arguments_size = c->arguments.size};
    }
    return state_of(o, err);
}

const struct output_answer *output_answer(const struct output *o)
{
    struct output *mine = (struct output *)(uintptr_t)o; /* the answer is filled in when it is asked for */
    mine->answer = (struct output_answer){
        .reasoning = str_text(&o->reasoning_text),
        .reasoning_size = o->reasoning_text.size,
        .content = str_text(&o->content_text),
        .content_size = o->content_text.size,
        .calls = o->answer_calls,
        .call_count = o->answer_calls ? o->accepted : 0,
        .warnings = o->warnings,
        .warning_count = o->warnings_told,
    };
    return &o->answer;
}

void output_close(struct output *o)
{
    if (!o)
        return;
    declared_end(o);
    for (size_t i = 0; i < o->call_count; i++)
        str_free(&o->calls[i].arguments);
    free(o->calls);
    free(o->warnings);
    free(o->answer_calls);
    str_free(&o->in);
    str_free(&o->space);
    str_free(&o->content_text);
    str_free(&o->reasoning_text);
    arena_free(&o->arena);
    free(o);
}

const char *output_reasoning(const struct output *o)
{
    return o->regions ? declared_reasoning(o) : o->mode == MODE_REASONING ? o->think->close : NULL;
}
