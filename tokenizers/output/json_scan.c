#include "tokenizers/output/json_scan.h"

#include <string.h>

enum { VALUE, FIRST_VALUE, FIRST_KEY, KEY, COLON, AFTER, STRING, ESCAPE, HEX, NUMBER, LITERAL, DONE };
enum { SIGN, ZERO, WHOLE, POINT, FRACTION, EXPONENT, EXPONENT_SIGN, EXPONENT_DIGITS };

static bool is_space(unsigned char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
static bool is_digit(unsigned char c) { return c >= '0' && c <= '9'; }
static bool in_object(const struct json_scan *s) { return s->objects[(s->depth - 1) / 64] >> ((s->depth - 1) % 64) & 1; }

static unsigned open_container(struct json_scan *s, bool object)
{
    if (s->depth == JSON_SCAN_DEPTH)
        return SCAN_BAD;
    uint64_t bit = (uint64_t)1 << (s->depth % 64), *word = &s->objects[s->depth / 64];
    *word = object ? *word | bit : *word & ~bit;
    s->depth++;
    s->state = object ? FIRST_KEY : FIRST_VALUE;
    return SCAN_BEGIN;
}

/* A value has ended; level is that of the value. */
static unsigned end_value(struct json_scan *s, unsigned event)
{
    s->level = s->depth;
    s->state = s->depth ? AFTER : DONE;
    return event | (s->depth ? 0u : (unsigned)SCAN_DONE);
}

static unsigned begin_value(struct json_scan *s, unsigned char c)
{
    static const char *const literals[] = {"true", "false", "null"};
    s->level = s->depth;
    if (c == '{' || c == '[')
        return open_container(s, c == '{');
    if (c == '"') {
        s->state = STRING;
        s->key = false;
        return SCAN_BEGIN | SCAN_STRING;
    }
    if (c == '-' || is_digit(c)) {
        s->state = NUMBER;
        s->number = c == '-' ? SIGN : c == '0' ? ZERO : WHOLE;
        return SCAN_BEGIN;
    }
    for (int i = 0; i < 3; i++)
        if (c == (unsigned char)literals[i][0]) {
            s->state = LITERAL;
            s->literal = literals[i] + 1;
            return SCAN_BEGIN;
        }
    return SCAN_BAD;
}

static unsigned close_container(struct json_scan *s, unsigned char c)
{
    if ((c == '}') != in_object(s))
        return SCAN_BAD;
    s->depth--;
    return end_value(s, SCAN_END);
}

static unsigned after_value(struct json_scan *s, unsigned char c)
{
    if (c == ',') {
        s->state = in_object(s) ? KEY : VALUE;
        return 0;
    }
    return c == '}' || c == ']' ? close_container(s, c) : is_space(c) ? 0u : (unsigned)SCAN_BAD;
}

/* One more character of a number: its new place, or -1 where it does not belong to it. */
static int number_next(int at, unsigned char c)
{
    bool digit = is_digit(c), exponent = c == 'e' || c == 'E';
    switch (at) {
    case SIGN:
        return !digit ? -1 : c == '0' ? ZERO : WHOLE;
    case ZERO:
        return c == '.' ? POINT : exponent ? EXPONENT : -1;
    case WHOLE:
        return digit ? WHOLE : c == '.' ? POINT : exponent ? EXPONENT : -1;
    case POINT:
        return digit ? FRACTION : -1;
    case FRACTION:
        return digit ? FRACTION : exponent ? EXPONENT : -1;
    case EXPONENT:
        return digit ? EXPONENT_DIGITS : c == '+' || c == '-' ? EXPONENT_SIGN : -1;
    default:
        return digit ? EXPONENT_DIGITS : -1;
    }
}

static unsigned number_byte(struct json_scan *s, unsigned char c)
{
    int next = number_next(s->number, c);
    if (next >= 0) {
        s->number = (uint8_t)next;
        return 0;
    }
    if (!s->depth || s->number == SIGN || s->number == POINT || s->number == EXPONENT || s->number == EXPONENT_SIGN)
        return SCAN_BAD;
    s->state = AFTER;
    int level = s->depth;
    unsigned event = after_value(s, c);
    if (!(event & SCAN_END)) /* else the container's end is told too: of both, the inner one has level + 1 */
        s->level = level;
    return event | SCAN_END_BEFORE;
}

static unsigned string_byte(struct json_scan *s, unsigned char c)
{
    if (c == '\\')
        s->state = ESCAPE;
    if (c != '"')
        return c < 0x20 ? SCAN_CONTROL : 0;
    if (!s->key)
        return end_value(s, SCAN_END);
    s->level = s->depth;
    s->state = COLON;
    return SCAN_KEY;
}

static unsigned key_byte(struct json_scan *s, unsigned char c)
{
    if (c == '}' && s->state == FIRST_KEY)
        return close_container(s, c);
    if (c != '"')
        return is_space(c) ? 0 : SCAN_BAD;
    s->level = s->depth;
    s->state = STRING;
    s->key = true;
    return SCAN_STRING;
}

static unsigned escape_byte(struct json_scan *s, unsigned char c)
{
    if (s->state == ESCAPE) {
        if (!c || !strchr("\"\\/bfnrtu", c))
            return SCAN_BAD;
        s->state = c == 'u' ? HEX : STRING;
        s->hex = 4;
        return 0;
    }
    if (!is_digit(c) && !((c | 32) >= 'a' && (c | 32) <= 'f'))
        return SCAN_BAD;
    if (!--s->hex)
        s->state = STRING;
    return 0;
}

static unsigned literal_byte(struct json_scan *s, unsigned char c)
{
    if (*s->literal) {
        if (c != (unsigned char)*s->literal++)
            return SCAN_BAD;
        return 0;
    }
    if (!s->depth)
        return SCAN_BAD;
    int level = s->depth;
    s->state = AFTER;
    unsigned event = after_value(s, c);
    if (!(event & SCAN_END))
        s->level = level;
    return event | SCAN_END_BEFORE;
}

unsigned json_scan_byte(struct json_scan *s, unsigned char c)
{
    switch (s->state) {
    case STRING:
        return string_byte(s, c);
    case ESCAPE:
    case HEX:
        return escape_byte(s, c);
    case FIRST_VALUE:
        if (c == ']')
            return close_container(s, c);
        return is_space(c) ? 0 : begin_value(s, c);
    case VALUE:
        return is_space(c) ? 0 : begin_value(s, c);
    case FIRST_KEY:
    case KEY:
        return key_byte(s, c);
    case COLON:
        if (c == ':')
            s->state = VALUE;
        return c == ':' || is_space(c) ? 0 : SCAN_BAD;
    case AFTER:
        return after_value(s, c);
    case NUMBER:
        return number_byte(s, c);
    case LITERAL:
        return literal_byte(s, c);
    default:
        return SCAN_BAD;
    }
}
