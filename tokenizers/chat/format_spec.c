/* Python's format(value, spec): [[fill]align][sign][z][#][0][width][grouping][.precision][type]. Nothing of a template's
 * text reaches printf as a format. */
#include "tokenizers/chat/chat.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

enum { LONGEST_PRECISION = 20000, LONGEST_GROUPED = 20000 };

struct spec {
    struct text fill;
    char align, sign, grouping, type; /* 0: not given */
    bool alternate, zero, no_minus_zero;
    int64_t width, precision; /* -1: not given */
};

static bool is_align(char c) { return c == '<' || c == '>' || c == '=' || c == '^'; }

static bool read_number(struct vm *vm, const struct text *t, uint32_t *at, int64_t *out)
{
    uint32_t from = *at;
    int64_t n = 0;
    while (*at < t->size && t->data[*at] >= '0' && t->data[*at] <= '9') {
        n = n * 10 + t->data[(*at)++] - '0';
        if (n > INT32_MAX)
            return jinja_fail(vm, "too many decimal digits in a format");
    }
    *out = *at > from ? n : -1;
    return true;
}

static bool read_spec(struct vm *vm, const struct text *t, struct spec *s)
{
    uint32_t at = 0, c;
    *s = (struct spec){.fill = {.data = " ", .size = 1, .count = 1, .own = true}, .width = -1, .precision = -1};
    bool filled = false;
    uint32_t first = t->size ? (uint32_t)utf8_decode(t->data, t->size, &c) : 0;
    if (first && first < t->size && is_align(t->data[first])) {
        s->fill = (struct text){.data = t->data, .size = first, .count = 1, .own = t->marks ? t->marks[0] : t->own};
        s->align = t->data[first];
        filled = true;
        at = first + 1;
    } else if (t->size && is_align(t->data[0])) {
        s->align = t->data[at++];
    }
    if (at < t->size && strchr("+- ", t->data[at]))
        s->sign = t->data[at++];
    if (at < t->size && t->data[at] == 'z')
        s->no_minus_zero = t->data[at++] != 0;
    if (at < t->size && t->data[at] == '#')
        s->alternate = t->data[at++] != 0;
    if (at < t->size && t->data[at] == '0') {
        s->zero = true;
        if (!filled)
            s->fill = (struct text){.data = "0", .size = 1, .count = 1, .own = true};
        at++;
    }
    if (!read_number(vm, t, &at, &s->width))
        return false;
    if (at < t->size && (t->data[at] == ',' || t->data[at] == '_'))
        s->grouping = t->data[at++];
    if (at < t->size && t->data[at] == '.') {
        at++;
        if (!read_number(vm, t, &at, &s->precision))
            return false;
        if (s->precision < 0)
            return jinja_fail(vm, "format specifier missing precision");
    }
    if (at < t->size)
        s->type = t->data[at++];
    return at == t->size || jinja_fail(vm, "invalid format specifier '%s'", QUOTE(t->data, t->size));
}

/* Adds body (with sign and prefix before it) padded to the width. */
static bool add_padded(struct vm *vm, struct pile *p, const struct spec *s, const char *prefix, const struct text *body, char align)
{
    int64_t size = (int64_t)strlen(prefix) + text_count(body), gap = s->width > size ? s->width - size : 0;
    int64_t left = align == '>' ? gap : align == '^' ? gap / 2 : 0, inside = align == '=' ? gap : 0;
    return pile_repeat(vm, p, &s->fill, left) && pile_add_word(vm, p, prefix) && pile_repeat(vm, p, &s->fill, inside) &&
           pile_add_text(vm, p, body) && pile_repeat(vm, p, &s->fill, gap - left - inside);
}

static bool format_text(struct vm *vm, struct pile *p, const struct text *t, const struct spec *s)
{
    struct value cut = TEXT_VALUE(t);
    if (s->type && s->type != 's')
        return jinja_fail(vm, "unknown format code '%c' for object of type 'str'", s->type);
    if (s->sign || s->no_minus_zero || s->align == '=' || s->grouping || s->alternate)
        return jinja_fail(vm, "sign, z, '=', '#' and grouping are not allowed in a string's format");
    if (s->precision >= 0 && s->precision < text_count(t) && !text_slice(vm, t, 0, text_offset(t, (uint32_t)s->precision), &cut))
        return false;
    return add_padded(vm, p, s, "", cut.text, s->align ? s->align : '<');
}

/* digits with a separator after each group, filled with zeros up to `width` characters if that is what pads. */
static bool group_digits(struct vm *vm, struct spec *s, const char *digits, size_t whole, const char *tail, size_t used, struct value *out)
{
    size_t group = s->type == 'b' || s->type == 'o' || s->type == 'x' || s->type == 'X' ? 4 : 3, want = whole;
    bool zeros = s->fill.size == 1 && s->fill.data[0] == '0' && (s->align == '=' || (!s->align && s->zero));
    size_t rest = strlen(tail) + used;
    if (zeros && s->width > LONGEST_GROUPED)
        return jinja_fail(vm, "a grouped number may be at most %d characters wide", LONGEST_GROUPED);
    while (zeros && (int64_t)(want + (want - 1) / group + rest) < s->width)
        want++;
    size_t begin = build_begin(vm);
    for (size_t i = 0; i < want; i++) {
        char c = i < want - whole ? '0' : digits[i - (want - whole)];
        if ((i && (want - i) % group == 0 && !pile_add(vm, &vm->scratch, &s->grouping, 1, true)) || !pile_add(vm, &vm->scratch, &c, 1, true))
            return false;
    }
    return pile_add_word(vm, &vm->scratch, tail) && build_end(vm, begin, out);
}

static bool finish_number(struct vm *vm, struct pile *p, struct spec *s, bool negative, const char *base, struct value digits)
{
    char prefix[4] = {0};
    size_t n = 0;
    if (negative)
        prefix[n++] = '-';
    else if (s->sign == '+' || s->sign == ' ')
        prefix[n++] = s->sign;
    memcpy(prefix + n, base, strlen(base));
    if (s->grouping) {
        size_t whole = strspn(digits.text->data, "0123456789abcdefABCDEF");
        struct value copy;
        if (s->type != 'x' && s->type != 'X')
            whole = strspn(digits.text->data, "0123456789");
        if (whole > digits.text->size)
            whole = digits.text->size;
        size_t begin = build_begin(vm); /* strspn wants a NUL behind */
        if (!pile_add_slice(vm, &vm->scratch, digits.text, 0, digits.text->size) || !pile_add(vm, &vm->scratch, "", 1, true) ||
            !build_end(vm, begin, &copy) || !group_digits(vm, s, copy.text->data, whole, copy.text->data + whole, strlen(prefix), &digits))
            return false;
    }
    return add_padded(vm, p, s, prefix, digits.text, s->align ? s->align : s->zero ? '=' : '>');
}

static bool format_integer(struct vm *vm, struct pile *p, struct value v, struct spec *s)
{
    struct value digits;
    int base = s->type == 'b' ? 2 : s->type == 'o' ? 8 : s->type == 'x' || s->type == 'X' ? 16 : 10;
    const char *prefix = !s->alternate || base == 10 ? "" : base == 2 ? "0b" : base == 8 ? "0o" : s->type == 'x' ? "0x" : "0X";
    if (s->no_minus_zero)
        return jinja_fail(vm, "z is not allowed in an integer's format");
    if (s->precision >= 0)
        return jinja_fail(vm, "precision not allowed in integer format specifier");
    if (s->type == 'c') {
        char bytes[4];
        if (v.kind != K_INT || v.integer < 0 || v.integer > 0x10FFFF || s->sign)
            return jinja_fail(vm, "%%c arg not in range(0x110000)");
        struct text t = {.data = bytes, .size = (uint32_t)utf8_encode((uint32_t)v.integer, bytes), .count = 1, .own = true};
        return add_padded(vm, p, s, "", &t, s->align ? s->align : '<');
    }
    size_t begin = build_begin(vm);
    if (!big_print_base(vm, &vm->scratch, v, base, s->type == 'X') || !pile_add(vm, &vm->scratch, "", 1, true) || !build_end(vm, begin, &digits) ||
        !text_slice(vm, digits.text, 0, digits.text->size - 1, &digits))
        return false;
    return finish_number(vm, p, s, v.kind == K_BIG ? v.big->negative : v.integer < 0, prefix, digits);
}

/* Without a type and with a precision: as %g, but with a point. */
static size_t general(char *out, size_t room, double d, int precision, bool alternate)
{
    size_t n = (size_t)snprintf(out, room, alternate ? "%#.*g" : "%.*g", precision, d);
    if (!strpbrk(out, ".en") && n + 2 < room) {
        memcpy(out + n, ".0", 3);
        n += 2;
    }
    return n;
}

static bool format_float(struct vm *vm, struct pile *p, double d, struct spec *s)
{
    struct value digits;
    char type = s->type;
    int64_t precision = s->precision < 0 ? 6 : s->precision;
    if (precision > LONGEST_PRECISION)
        return jinja_fail(vm, "a precision of more than %d digits", LONGEST_PRECISION);
    size_t room = (size_t)precision + 400;
    char *text = jinja_alloc(vm, room, 1);
    if (!text)
        return false;
    bool negative = signbit(d) && !isnan(d);
    d = negative ? -d : d;
    if (!isfinite(d)) {
        bool upper = type == 'E' || type == 'F' || type == 'G';
        strcpy(text, isnan(d) ? (upper ? "NAN" : "nan") : upper ? "INF" : "inf");
    } else if (!type && s->precision < 0) {
        float_print(d, text);
    } else if (!type) {
        general(text, room, d, precision ? (int)precision : 1, s->alternate);
    } else if (type == '%') {
        snprintf(text, room, s->alternate ? "%#.*f" : "%.*f", (int)precision, d * 100);
    } else {
        char format[8];
        snprintf(format, sizeof format, s->alternate ? "%%#.*%c" : "%%.*%c", type == 'n' ? 'g' : type);
        snprintf(text, room, format, (int)precision, d); /* type is one of eEfFgG */
    }
    if (type == '%')
        strcat(text, "%");
    if (s->no_minus_zero && !strpbrk(text, "123456789") && isfinite(d))
        negative = false;
    return text_word(vm, text, &digits) && finish_number(vm, p, s, negative, "", digits);
}

static bool format_number(struct vm *vm, struct pile *p, struct value v, struct spec *s)
{
    double d;
    if (v.kind != K_FLOAT && (!s->type || strchr("bcdoxXn", s->type)))
        return format_integer(vm, p, as_integer(v), s);
    if (s->type && !strchr("eEfFgGn%", s->type))
        return jinja_fail(vm, "unknown format code '%c' for object of type '%s'", s->type, jinja_type(&v));
    return number_as_double(vm, v, &d) && format_float(vm, p, d, s);
}

bool format_spec(struct vm *vm, struct pile *p, struct value v, const struct text *t)
{
    struct spec s;
    if (!t->size)
        return jinja_print(vm, p, v);
    if (v.kind != K_STRING && !is_number(&v))
        return jinja_fail(vm, "unsupported format string passed to %s.__format__", jinja_type(&v));
    if (!read_spec(vm, t, &s))
        return false;
    return v.kind == K_STRING ? format_text(vm, p, v.text, &s) : format_number(vm, p, v, &s);
}
