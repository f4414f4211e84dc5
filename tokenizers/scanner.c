#include "tokenizers/scanner.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "tokenizers/regex.h"
#include "tokenizers/unicode.h"

enum { MOST_STATES = 2048, MOST_CLASSES = 250, CATEGORIES = 32 };

/* ---- classes: characters that no set of the pattern tells apart ------------------------------------------------------------- */

struct classes {
    uint64_t members[MOST_CLASSES]; /* bit s: set s has it */
    uint32_t count;
};

/* The sets that have a character of this category within the ranges whose sets are in `ranges`. */
static uint64_t members_of(const struct regex *r, uint32_t category, uint64_t ranges)
{
    uint64_t members = 0;
    for (uint32_t s = 0; s < r->set_count; s++) {
        bool has = r->sets[s].categories >> category & 1 || ranges >> s & 1;
        members |= (uint64_t)(has != r->sets[s].negated) << s;
    }
    return members;
}

/* MOST_CLASSES when there are too many. */
static uint32_t class_of(struct classes *c, uint64_t members)
{
    for (uint32_t i = 0; i < c->count; i++)
        if (c->members[i] == members)
            return i;
    if (c->count == MOST_CLASSES)
        return MOST_CLASSES;
    c->members[c->count] = members;
    return c->count++;
}

static int compare_numbers(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* Where the sets of ranges change, sorted. */
static uint32_t boundaries(const struct regex *r, uint32_t *out)
{
    uint32_t count = 0, kept = 0;
    out[count++] = 0;
    for (uint32_t i = 0; i < r->range_count; i++) {
        out[count++] = r->ranges[i].low;
        out[count++] = r->ranges[i].high + 1;
    }
    qsort(out, count, sizeof *out, compare_numbers);
    for (uint32_t i = 0; i < count; i++)
        if (!kept || out[kept - 1] != out[i])
            out[kept++] = out[i];
    return kept;
}

static uint64_t sets_at(const struct regex *r, uint32_t c)
{
    uint64_t sets = 0;
    for (uint32_t s = 0; s < r->set_count; s++)
        for (uint32_t i = r->sets[s].first; i < r->sets[s].first + r->sets[s].count; i++)
            sets |= (uint64_t)(c >= r->ranges[i].low && c <= r->ranges[i].high) << s;
    return sets;
}

/* The category of every character of the table. The largest blocks are all letters: no look-up for each. */
static void fill_categories(uint8_t *out)
{
    static const struct regex_range letters[] = {{0x3400, 0x4DBF}, {0x4E00, 0x9FFF}, {0xAC00, 0xD7A3}, {0x20000, 0x2A6DF}, {0x30000, 0x3134A}};
    size_t block = 0, blocks = sizeof letters / sizeof *letters;
    for (uint32_t c = 0; c < SCANNER_TABLE; c++) {
        if (block < blocks && c == letters[block].low) {
            memset(out + c, UTF8PROC_CATEGORY_LO, letters[block].high - c + 1);
            c = letters[block++].high;
        } else {
            out[c] = regex_category(c);
        }
    }
}

/* False: too many classes, or ranges beyond the table. */
static bool make_classes(struct scanner *s, const struct regex *r, struct classes *c)
{
    uint32_t bounds[2 * REGEX_RANGES + 1], count = boundaries(r, bounds);
    if (bounds[count - 1] > SCANNER_TABLE && bounds[count - 1] <= 0x10FFFF)
        return false;
    fill_categories(s->classes);
    for (uint32_t i = 0; i < count && bounds[i] < SCANNER_TABLE; i++) {
        uint32_t end = i + 1 < count && bounds[i + 1] < SCANNER_TABLE ? bounds[i + 1] : SCANNER_TABLE;
        uint64_t ranges = sets_at(r, bounds[i]);
        uint32_t of[CATEGORIES];
        for (uint32_t k = 0; k < CATEGORIES; k++)
            of[k] = UINT32_MAX;
        for (uint32_t ch = bounds[i]; ch < end; ch++) {
            uint8_t k = s->classes[ch];
            if (of[k] == UINT32_MAX)
                of[k] = class_of(c, members_of(r, k, ranges));
            if (of[k] == MOST_CLASSES)
                return false;
            s->classes[ch] = (uint8_t)of[k];
        }
    }
    uint64_t ranges = sets_at(r, SCANNER_TABLE);
    for (uint32_t k = 0; k < CATEGORIES; k++) {
        uint32_t class = class_of(c, members_of(r, k, ranges));
        if (class == MOST_CLASSES)
            return false;
        s->beyond[k] = (uint8_t)class;
    }
    return true;
}

/* ---- states ------------------------------------------------------------------------------------------------------------------ */

/* Where the pattern can be, the preferred place first: only steps that wait for the next character. */
struct places {
    uint32_t list[REGEX_STEPS];
    uint32_t count;
    uint32_t seen[REGEX_STEPS], round; /* seen[step] == round: it had its place */
};

struct builder {
    const struct regex *r;
    const struct classes *classes;
    struct places *from, *to, *behind;
    uint32_t *pool;             /* the places of all states */
    size_t pool_count, pool_capacity;
    struct {
        size_t start;
        uint32_t count;
    } states[MOST_STATES];
    uint32_t state_count, stride;
    uint32_t *rows;
    bool failed; /* too many states */
    bool memory;
};

static void clear(struct places *p)
{
    p->count = 0;
    p->round++;
}

/* A step and what it leads to without a character. */
static void follow(const struct regex *r, struct places *p, uint32_t step)
{
    if (p->seen[step] == p->round)
        return;
    p->seen[step] = p->round;
    switch (r->steps[step].kind) {
    case REGEX_JUMP:
        follow(r, p, r->steps[step].a);
        break;
    case REGEX_SPLIT:
        follow(r, p, r->steps[step].a);
        follow(r, p, r->steps[step].b);
        break;
    default:
        p->list[p->count++] = step;
    }
}

/* What a step leads to, into the list of places at `at`. */
static void splice(struct builder *b, uint32_t step, uint32_t at)
{
    struct places *p = b->from, *more = b->behind;
    clear(more);
    follow(b->r, more, step);
    if (p->count + more->count > REGEX_STEPS) {
        b->failed = true;
        return;
    }
    memmove(p->list + at + more->count, p->list + at, (p->count - at) * sizeof *p->list);
    memcpy(p->list + at, more->list, more->count * sizeof *p->list);
    p->count += more->count;
}

/* What the next character (of a class; the last class is the end of the text) makes of the places in b->from, into b->to. True if a
 * match ends in front of it. Places that look ahead let through what is behind them for the same character: those go first. */
static bool advance(struct builder *b, uint32_t class)
{
    const struct regex *r = b->r;
    bool end = class == b->classes->count;
    uint64_t members = end ? 0 : b->classes->members[class];
    clear(b->to);
    for (uint32_t i = 0; i < b->from->count; i++) {
        uint32_t step = b->from->list[i];
        const struct regex_step *s = &r->steps[step];
        bool has = s->kind != REGEX_MATCH && members >> s->a & 1;
        if (b->from->seen[step] == b->from->round)
            continue; /* it was there in a better place */
        b->from->seen[step] = b->from->round;
        if (s->kind == REGEX_MATCH)
            return true;
        if (s->kind == REGEX_SET && has)
            follow(r, b->to, step + 1);
        if ((s->kind == REGEX_AHEAD && has) || (s->kind == REGEX_BEHIND && !has))
            splice(b, step + 1, i + 1);
    }
    return false;
}

/* The number of the state with the places in p. State 0 has none. */
static uint32_t state_of(struct builder *b, const struct places *p)
{
    for (uint32_t i = 0; i < b->state_count; i++)
        if (b->states[i].count == p->count && memcmp(b->pool + b->states[i].start, p->list, p->count * sizeof *p->list) == 0)
            return i;
    if (b->state_count == MOST_STATES)
        return b->failed = true, 0;
    if (!b->pool || b->pool_capacity - b->pool_count < p->count) {
        size_t capacity = b->pool_capacity * 2 + p->count + 64;
        uint32_t *pool = realloc(b->pool, capacity * sizeof *pool);
        if (!pool)
            return b->failed = b->memory = true, 0;
        b->pool = pool;
        b->pool_capacity = capacity;
    }
    memcpy(b->pool + b->pool_count, p->list, p->count * sizeof *p->list);
    b->states[b->state_count].start = b->pool_count;
    b->states[b->state_count].count = p->count;
    b->pool_count += p->count;
    return b->state_count++;
}

static void load(struct builder *b, uint32_t state)
{
    clear(b->from);
    b->from->count = b->states[state].count;
    memcpy(b->from->list, b->pool + b->states[state].start, b->from->count * sizeof *b->from->list);
}

static bool make_states(struct builder *b, struct scanner *s)
{
    uint32_t columns = b->classes->count + 1;
    while (1u << s->shift < columns || !s->shift)
        s->shift++;
    s->stride = b->stride = 1u << s->shift;
    s->end_class = (uint8_t)b->classes->count;
    clear(b->to);
    state_of(b, b->to);
    follow(b->r, b->to, 0);
    s->start = state_of(b, b->to) * b->stride;
    for (uint32_t state = 0; state < b->state_count && !b->failed; state++) {
        uint32_t *rows = realloc(s->rows, (size_t)(state + 1) * b->stride * sizeof *rows);
        if (!rows)
            return b->memory = true, false;
        s->rows = rows;
        for (uint32_t class = 0; class < columns && !b->failed; class++) {
            load(b, state);
            bool match = advance(b, class);
            uint32_t next = class < b->classes->count ? state_of(b, b->to) * b->stride : 0;
            rows[(size_t)state * b->stride + class] = next | match;
        }
    }
    return !b->failed;
}

/* Runs of letters, digits or blanks stay in one state: those are passed over without a look at its row. */
static bool make_loops(struct scanner *s, uint32_t count)
{
    s->loops = calloc(count, sizeof *s->loops);
    for (uint32_t state = 0; s->loops && state < count; state++) {
        const uint32_t *row = s->rows + (size_t)state * s->stride;
        struct scanner_loop *l = &s->loops[state];
        for (uint32_t c = 0; c < 128; c++)
            l->match |= row[s->classes[c]] == (state * s->stride | 1);
        for (uint32_t c = 0; c < 128 && state; c++)
            l->ascii[c >> 6] |= (uint64_t)(row[s->classes[c]] == (state * s->stride | l->match)) << (c & 63);
    }
    return s->loops;
}

enum status scanner_compile(struct scanner **out, const char *regex, size_t size, struct error *err)
{
    struct regex *r = malloc(sizeof *r);
    struct builder *b = calloc(1, sizeof *b);
    struct classes *c = calloc(1, sizeof *c);
    struct scanner *s = calloc(1, sizeof *s);
    *out = NULL;
    bool memory = !r || !b || !c || !s, good = false;
    if (!memory && regex_parse(r, regex, size)) {
        s->classes = malloc(SCANNER_TABLE);
        b->from = calloc(1, sizeof *b->from);
        b->to = calloc(1, sizeof *b->to);
        b->behind = calloc(1, sizeof *b->behind);
        b->r = r;
        b->classes = c;
        memory = !s->classes || !b->from || !b->to || !b->behind;
        good = !memory && make_classes(s, r, c) && make_states(b, s);
        memory |= b->memory;
        memory |= good && !make_loops(s, b->state_count);
        good &= !memory;
        free(b->from);
        free(b->to);
        free(b->behind);
        free(b->pool);
    }
    free(r);
    free(b);
    free(c);
    if (good)
        *out = s;
    else
        scanner_free(s);
    return memory ? error_memory(err, "a pattern") : STATUS_OK;
}

void scanner_free(struct scanner *s)
{
    if (!s)
        return;
    free(s->classes);
    free(s->rows);
    free(s->loops);
    free(s);
}

/* ---- running ----------------------------------------------------------------------------------------------------------------- */

/* The class of the character at p that is not ASCII; *length: its bytes. Inside text is UTF-8 (and lone surrogates), so only the end
 * has to be watched. */
static inline uint32_t class_at(const struct scanner *s, const unsigned char *p, size_t left, size_t *length)
{
    uint32_t c;
    if (p[0] < 0xE0 && left >= 2) {
        c = (uint32_t)(p[0] & 0x1F) << 6 | (p[1] & 0x3F);
        *length = 2;
    } else if (p[0] < 0xF0 && left >= 3) {
        c = (uint32_t)(p[0] & 0xF) << 12 | (uint32_t)(p[1] & 0x3F) << 6 | (p[2] & 0x3F);
        *length = 3;
    } else {
        *length = text_next((const char *)p, left, &c);
    }
    return c < SCANNER_TABLE ? s->classes[c] : s->beyond[regex_category(c)];
}

size_t scanner_match(const struct scanner *s, const char *text, size_t size, size_t from, size_t *read)
{
    const unsigned char *p = (const unsigned char *)text + from, *end = (const unsigned char *)text + size;
    const unsigned char *match = p;
    const uint32_t *rows = s->rows;
    uint32_t row = s->start;
    for (;;) {
        size_t length = 1;
        uint32_t class = p == end ? s->end_class : *p < 0x80 ? s->classes[*p] : class_at(s, p, (size_t)(end - p), &length);
        uint32_t next = rows[row + class];
        match = next & 1 ? p : match;
        p += length;
        if ((next & ~1u) == row) {
            const struct scanner_loop *l = &s->loops[row >> s->shift];
            const unsigned char *before = p;
            while (p < end && *p < 0x80 && l->ascii[*p >> 6] >> (*p & 63) & 1)
                p++;
            match = l->match && p > before ? p - 1 : match;
        }
        row = next & ~1u;
        if (!row) {
            p -= length;
            break;
        }
    }
    *read = (size_t)(p - (const unsigned char *)text);
    return (size_t)(match - (const unsigned char *)text);
}
