#include "tokenizers/regex.h"

#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"

/* ---- properties ---------------------------------------------------------------------------------------------------------- */

#define BIT(category) (1u << UTF8PROC_CATEGORY_##category)
#define LETTERS (BIT(LU) | BIT(LL) | BIT(LT) | BIT(LM) | BIT(LO))
#define MARKS (BIT(MN) | BIT(MC) | BIT(ME))
#define NUMBERS (BIT(ND) | BIT(NL) | BIT(NO))
#define PUNCTUATION (BIT(PC) | BIT(PD) | BIT(PS) | BIT(PE) | BIT(PI) | BIT(PF) | BIT(PO))
#define SYMBOLS (BIT(SM) | BIT(SC) | BIT(SK) | BIT(SO))
#define SEPARATORS (BIT(ZS) | BIT(ZL) | BIT(ZP))

static uint32_t property(const char *name, size_t size)
{
    static const struct {
        const char *name;
        uint32_t categories;
    } known[] = {{"L", LETTERS},   {"M", MARKS},     {"N", NUMBERS},   {"P", PUNCTUATION}, {"S", SYMBOLS},   {"Z", SEPARATORS}, {"Lu", BIT(LU)},
                 {"Ll", BIT(LL)},  {"Lt", BIT(LT)},  {"Lm", BIT(LM)},  {"Lo", BIT(LO)},    {"Mn", BIT(MN)},  {"Mc", BIT(MC)},   {"Me", BIT(ME)},
                 {"Nd", BIT(ND)},  {"Nl", BIT(NL)},  {"No", BIT(NO)},  {"Pc", BIT(PC)},    {"Pd", BIT(PD)},  {"Ps", BIT(PS)},   {"Pe", BIT(PE)},
                 {"Pi", BIT(PI)},  {"Pf", BIT(PF)},  {"Po", BIT(PO)},  {"Sm", BIT(SM)},    {"Sc", BIT(SC)},  {"Sk", BIT(SK)},   {"So", BIT(SO)}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strlen(known[i].name) == size && memcmp(known[i].name, name, size) == 0)
            return known[i].categories;
    return 0;
}

static const struct regex_range white[] = {{9, 13},         {0x20, 0x20},     {0x85, 0x85},     {0xA0, 0xA0},     {0x1680, 0x1680}, {0x2000, 0x200A},
                                           {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}};

/* ---- parsing --------------------------------------------------------------------------------------------------------------- */

struct parser {
    struct regex *r;
    const char *at, *end;
    bool caseless, failed;
    int depth;
};

static void fail(struct parser *p) { p->failed = true; }

static uint32_t add_step(struct parser *p, enum regex_kind kind, uint32_t a, uint32_t b)
{
    struct regex *r = p->r;
    if (r->step_count == REGEX_STEPS)
        return fail(p), 0;
    r->steps[r->step_count] = (struct regex_step){(uint8_t)kind, a, b};
    return r->step_count++;
}

static void add_range(struct parser *p, uint32_t low, uint32_t high)
{
    struct regex *r = p->r;
    if (r->range_count == REGEX_RANGES || low > high)
        return fail(p);
    r->ranges[r->range_count++] = (struct regex_range){low, high};
    r->sets[r->set_count].count++;
}

/* A character, in both cases where the pattern wants that: of ASCII only, with the two that fold to it. */
static void add_character(struct parser *p, uint32_t c)
{
    add_range(p, c, c);
    if (!p->caseless)
        return;
    bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (c >= 0x80)
        fail(p);
    if (letter)
        add_range(p, c ^ 0x20, c ^ 0x20);
    if ((c | 0x20) == 's')
        add_range(p, 0x17F, 0x17F);
    if ((c | 0x20) == 'k')
        add_range(p, 0x212A, 0x212A);
}

static struct regex_set *begin_set(struct parser *p)
{
    struct regex *r = p->r;
    if (r->set_count == REGEX_SETS - 1)
        fail(p), r->set_count = 0;
    r->sets[r->set_count] = (struct regex_set){.first = r->range_count};
    return &r->sets[r->set_count];
}

static bool same_set(const struct regex *r, const struct regex_set *a, const struct regex_set *b)
{
    return a->categories == b->categories && a->negated == b->negated && a->count == b->count &&
           (!a->count || memcmp(r->ranges + a->first, r->ranges + b->first, a->count * sizeof *r->ranges) == 0);
}

/* The number of the set that was begun, or of an equal one. */
static uint32_t end_set(struct parser *p)
{
    struct regex *r = p->r;
    const struct regex_set *s = &r->sets[r->set_count];
    for (uint32_t i = 0; i < r->set_count; i++)
        if (same_set(r, &r->sets[i], s)) {
            r->range_count = s->first;
            return i;
        }
    return r->set_count++;
}

static uint32_t next_character(struct parser *p)
{
    uint32_t c;
    p->at += utf8_decode(p->at, (size_t)(p->end - p->at), &c);
    return c;
}

/* \x{4E00}, \u4E00 behind the letter */
static uint32_t hexadecimal(struct parser *p, bool braces)
{
    uint32_t value = 0;
    int digits = 0;
    if (braces && (p->at == p->end || *p->at++ != '{'))
        fail(p);
    for (; p->at < p->end && digits < (braces ? 6 : 4); p->at++, digits++) {
        char c = *p->at;
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (digit < 0)
            break;
        value = value * 16 + (uint32_t)digit;
    }
    if (!digits || (!braces && digits != 4) || value > 0x10FFFF || (braces && (p->at == p->end || *p->at++ != '}')))
        fail(p);
    return value;
}

/* \p{L}, \P{L}, \pL at the p: its categories. */
static uint32_t parse_property(struct parser *p)
{
    bool negated = *p->at++ == 'P', braces = p->at < p->end && *p->at == '{';
    const char *name = p->at + braces, *end = braces ? memchr(p->at, '}', (size_t)(p->end - p->at)) : p->at + 1;
    if (p->at == p->end || !end)
        return fail(p), 0;
    if (braces && name < end && *name == '^') {
        negated = !negated;
        name++;
    }
    uint32_t categories = property(name, (size_t)(end - name));
    if (!categories || p->caseless)
        fail(p);
    p->at = end + braces;
    return negated ? ~categories : categories;
}

/* Behind a backslash: adds to the present set. *single: it was one character, put into *c and not added. */
static void parse_escape(struct parser *p, bool *single, uint32_t *c)
{
    *single = false;
    if (p->at == p->end)
        return fail(p);
    struct regex_set *s = &p->r->sets[p->r->set_count];
    char letter = *p->at;
    if (letter == 'p' || letter == 'P') {
        s->categories |= parse_property(p);
        return;
    }
    p->at++;
    if (letter == 's') {
        for (size_t i = 0; i < sizeof white / sizeof *white; i++)
            add_range(p, white[i].low, white[i].high);
        return;
    }
    if (letter == 'd') {
        s->categories |= BIT(ND);
        return;
    }
    static const char names[] = "tnrfv", values[] = "\t\n\r\f\v";
    const char *name = strchr(names, letter);
    *single = true;
    if (letter == 'x' || letter == 'u')
        *c = hexadecimal(p, letter == 'x');
    else if (name)
        *c = (uint32_t)values[name - names];
    else if ((letter >= '0' && letter <= '9') || (letter >= 'A' && letter <= 'Z') || (letter >= 'a' && letter <= 'z') || (letter & 0x80))
        fail(p);
    else
        *c = (uint32_t)letter;
}

/* One member of a class, or the low end of a range. */
static bool class_character(struct parser *p, uint32_t *c)
{
    bool single = true;
    if (*p->at == '[' || (*p->at == '&' && p->at + 1 < p->end && p->at[1] == '&'))
        return fail(p), false;
    if (*p->at == '\\') {
        p->at++;
        parse_escape(p, &single, c);
    } else {
        *c = next_character(p);
    }
    return single && !p->failed;
}

static void parse_class(struct parser *p)
{
    struct regex_set *s = begin_set(p);
    bool first = true;
    p->at++;
    if (p->at < p->end && *p->at == '^') {
        s->negated = true;
        p->at++;
    }
    for (; p->at < p->end && (*p->at != ']' || first) && !p->failed; first = false) {
        uint32_t low, high;
        if (!class_character(p, &low))
            continue;
        if (p->end - p->at >= 2 && p->at[0] == '-' && p->at[1] != ']') {
            p->at++;
            if (!class_character(p, &high) || (p->caseless && (low < 'a' || high > 'z')))
                return fail(p);
            add_range(p, low, high);
            if (p->caseless)
                return fail(p);
        } else {
            add_character(p, low);
        }
    }
    if (p->at == p->end)
        return fail(p);
    p->at++;
    add_step(p, REGEX_SET, end_set(p), 0);
}

static void parse_alternatives(struct parser *p);

/* (?!X), (?=X) of one set. */
static void parse_ahead(struct parser *p, enum regex_kind kind)
{
    uint32_t before = p->r->step_count;
    p->at += 3;
    parse_alternatives(p);
    if (p->failed || p->r->step_count != before + 1 || p->r->steps[before].kind != REGEX_SET || p->at == p->end || *p->at++ != ')')
        return fail(p);
    p->r->steps[before].kind = (uint8_t)kind;
}

static void parse_group(struct parser *p)
{
    size_t left = (size_t)(p->end - p->at);
    bool caseless = p->caseless;
    if (++p->depth > 50)
        return fail(p);
    if (left >= 3 && memcmp(p->at, "(?!", 3) == 0) {
        parse_ahead(p, REGEX_BEHIND);
    } else if (left >= 3 && memcmp(p->at, "(?=", 3) == 0) {
        parse_ahead(p, REGEX_AHEAD);
    } else {
        if (left >= 4 && memcmp(p->at, "(?i:", 4) == 0)
            p->caseless = true, p->at += 4;
        else if (left >= 3 && memcmp(p->at, "(?:", 3) == 0)
            p->at += 3;
        else if (left >= 2 && p->at[1] != '?' && p->at[1] != '*')
            p->at += 1;
        else
            return fail(p);
        parse_alternatives(p);
        if (p->at == p->end || *p->at++ != ')')
            fail(p);
    }
    p->caseless = caseless;
    p->depth--;
}

/* \S, \D, \W ... and single characters outside of brackets. */
static void parse_single(struct parser *p)
{
    struct regex_set *s = begin_set(p);
    bool single = true;
    uint32_t c = 0;
    if (*p->at != '\\') {
        c = next_character(p);
    } else if (p->end - p->at >= 2 && (p->at[1] == 'S' || p->at[1] == 'D')) {
        static const char lower[] = "\\s\\d";
        const char *at = p->at + 2;
        p->at = (at[-1] == 'S' ? lower : lower + 2) + 1;
        const char *end = p->end;
        p->end = p->at + 1;
        parse_escape(p, &single, &c);
        p->at = at;
        p->end = end;
        s->negated = true;
    } else {
        p->at++;
        parse_escape(p, &single, &c);
    }
    if (single)
        add_character(p, c);
    add_step(p, REGEX_SET, end_set(p), 0);
}

static void parse_atom(struct parser *p)
{
    uint32_t newline;
    switch (*p->at) {
    case '(':
        parse_group(p);
        break;
    case '[':
        parse_class(p);
        break;
    case '$': /* in front of a newline, or at the end: no other character comes */
        p->at++;
        begin_set(p)->negated = true;
        add_range(p, '\n', '\n');
        newline = end_set(p);
        add_step(p, REGEX_BEHIND, newline, 0);
        break;
    case '\\':
        if (p->end - p->at >= 2 && p->at[1] == 'z') {
            p->at += 2;
            begin_set(p)->negated = true;
            add_step(p, REGEX_BEHIND, end_set(p), 0);
            break;
        }
        parse_single(p);
        break;
    case '^':
    case '.':
    case '*':
    case '+':
    case '?':
    case '{':
    case '}':
        fail(p);
        break;
    default:
        parse_single(p);
    }
}

/* ? * + {m}, {m,}, {m,n} at p->at; false: none of them. */
static bool parse_count(struct parser *p, uint32_t *least, uint32_t *most)
{
    *least = *most = 1;
    if (p->at == p->end || !strchr("?*+{", *p->at) || !*p->at)
        return false;
    char c = *p->at++;
    if (c != '{') {
        *least = c == '+';
        *most = c == '?' ? 1 : UINT32_MAX;
    } else {
        bool comma = false;
        uint32_t numbers[2] = {0, UINT32_MAX};
        for (; p->at < p->end && *p->at != '}' && !p->failed; p->at++) {
            if (*p->at == ',' && !comma) {
                comma = true;
            } else if (*p->at >= '0' && *p->at <= '9') {
                uint32_t *n = &numbers[comma];
                *n = (*n == UINT32_MAX ? 0 : *n) * 10 + (uint32_t)(*p->at - '0');
                p->failed |= *n > 1000;
            } else {
                fail(p);
            }
        }
        if (p->at == p->end)
            fail(p);
        else
            p->at++;
        *least = numbers[0];
        *most = comma ? numbers[1] : numbers[0];
        p->failed |= *most < *least || *most == 0;
    }
    if (p->at < p->end && (*p->at == '+' || *p->at == '?')) /* possessive, lazy */
        fail(p);
    return true;
}

/* The steps from..count once more, at the end. */
static void repeat_steps(struct parser *p, uint32_t from, uint32_t count)
{
    for (uint32_t i = 0; i < count && !p->failed; i++) {
        struct regex_step s = p->r->steps[from + i];
        uint32_t by = p->r->step_count - (from + i);
        bool jump = s.kind == REGEX_SPLIT || s.kind == REGEX_JUMP;
        add_step(p, s.kind, jump ? s.a + by : s.a, s.kind == REGEX_SPLIT ? s.b + by : s.b);
    }
}

/* Puts a step in front of those that an atom has made: their jumps move by one. */
static void insert_step(struct parser *p, uint32_t at)
{
    struct regex *r = p->r;
    add_step(p, REGEX_JUMP, 0, 0);
    if (p->failed)
        return;
    memmove(r->steps + at + 1, r->steps + at, (r->step_count - at - 1) * sizeof *r->steps);
    for (uint32_t i = at + 1; i < r->step_count; i++) {
        struct regex_step *s = &r->steps[i];
        if (s->kind == REGEX_SPLIT || s->kind == REGEX_JUMP)
            s->a += s->a >= at, s->b += s->kind == REGEX_SPLIT && s->b >= at;
    }
}

static bool nullable(const struct regex *r, uint32_t from, uint32_t end, int depth)
{
    for (; from < end; from++) {
        const struct regex_step *s = &r->steps[from];
        if (s->kind == REGEX_SET || s->kind == REGEX_MATCH)
            return false;
        if (s->kind == REGEX_JUMP)
            from = s->a - 1;
        else if (s->kind == REGEX_SPLIT)
            return depth > 20 || nullable(r, s->a, end, depth + 1) || nullable(r, s->b, end, depth + 1);
    }
    return true;
}

static void parse_repeated(struct parser *p)
{
    uint32_t from = p->r->step_count, least, most;
    parse_atom(p);
    uint32_t count = p->r->step_count - from;
    if (p->failed || !parse_count(p, &least, &most) || p->failed)
        return;
    if (nullable(p->r, from, p->r->step_count, 0)) /* a loop of nothing has rules of its own */
        return fail(p);
    bool optional = least == 0;
    uint32_t copies = optional ? 1 : least;
    for (uint32_t i = 1; i < copies; i++)
        repeat_steps(p, from, count);
    uint32_t last = from + (copies - 1) * count; /* the copy that may repeat */
    if (most == UINT32_MAX) {
        uint32_t end = p->r->step_count;
        add_step(p, REGEX_SPLIT, last, end + 1);
    } else {
        for (uint32_t i = copies; i < most; i++) { /* each one more only behind the one before: all skips go to the end */
            uint32_t split = add_step(p, REGEX_SPLIT, 0, 0);
            if (p->failed)
                return;
            uint32_t rest = most - i;
            p->r->steps[split].a = split + 1;
            p->r->steps[split].b = split + rest * (count + 1);
            repeat_steps(p, from, count);
        }
    }
    if (!optional)
        return;
    insert_step(p, from);
    if (!p->failed)
        p->r->steps[from] = (struct regex_step){REGEX_SPLIT, from + 1, p->r->step_count};
}

static void parse_sequence(struct parser *p)
{
    while (p->at < p->end && *p->at != '|' && *p->at != ')' && !p->failed)
        parse_repeated(p);
}

static void parse_alternatives(struct parser *p)
{
    enum { MOST = 64 };
    uint32_t jumps[MOST], count = 0, from = p->r->step_count;
    parse_sequence(p);
    while (p->at < p->end && *p->at == '|' && !p->failed) {
        p->at++;
        if (count == MOST)
            return fail(p);
        insert_step(p, from);
        jumps[count] = add_step(p, REGEX_JUMP, 0, 0);
        if (p->failed)
            return;
        p->r->steps[from] = (struct regex_step){REGEX_SPLIT, from + 1, p->r->step_count};
        count++;
        from = p->r->step_count;
        parse_sequence(p);
    }
    for (uint32_t i = 0; i < count && !p->failed; i++)
        p->r->steps[jumps[i]].a = p->r->step_count;
}

bool regex_parse(struct regex *r, const char *text, size_t size)
{
    struct parser p = {.r = r, .at = text, .end = text + size};
    r->step_count = r->set_count = r->range_count = 0;
    parse_alternatives(&p);
    if (p.at != p.end)
        fail(&p);
    add_step(&p, REGEX_MATCH, 0, 0);
    return !p.failed && !nullable(r, 0, r->step_count - 1, 0);
}
