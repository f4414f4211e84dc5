/* Python's numbers: bool is an int, ints are exact, floats are doubles that print as the shortest text that reads back. */
#include "tokenizers/chat/chat.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

bool is_integer(const struct value *v) { return v->kind == K_BOOL || v->kind == K_INT || v->kind == K_BIG; }
bool is_number(const struct value *v) { return is_integer(v) || v->kind == K_FLOAT; }

struct value as_integer(struct value v) { return v.kind == K_BOOL ? INT_VALUE(v.truth) : v; }

static double to_double(struct value v)
{
    switch (v.kind) {
    case K_BOOL:
        return v.truth;
    case K_INT:
        return (double)v.integer;
    case K_BIG:
        return big_to_double(v.big);
    default:
        return v.real;
    }
}

bool number_as_double(struct vm *vm, struct value v, double *out)
{
    *out = to_double(v);
    return v.kind != K_BIG || isfinite(*out) || jinja_fail(vm, "int too large to convert to float");
}

bool jinja_as_int(struct vm *vm, struct value v, int64_t *out)
{
    if (v.kind == K_BIG)
        return jinja_fail(vm, "the integer is too large for this place");
    if (!is_integer(&v))
        return v.kind == K_UNDEFINED ? jinja_fail_undefined(vm, v) : jinja_fail(vm, "an integer was expected, not %s", jinja_type(&v));
    *out = as_integer(v).integer;
    return true;
}

/* ---- arithmetic ----------------------------------------------------------------------------------------------------- */

static bool float_divide(struct vm *vm, enum operator op, double a, double b, struct value *out)
{
    if (b == 0)
        return jinja_fail(vm, op == OP_DIV ? "float division by zero" : "float floor division or modulo by zero");
    if (op == OP_DIV) {
        *out = FLOAT_VALUE(a / b);
        return true;
    }
    double mod = fmod(a, b), div = (a - mod) / b; /* Python's float_divmod */
    if (mod != 0) {
        if ((b < 0) != (mod < 0)) {
            mod += b;
            div -= 1;
        }
    } else {
        mod = copysign(0, b);
    }
    double whole = floor(div);
    if (div != 0)
        whole += div - whole > 0.5;
    else
        whole = copysign(0, a / b);
    *out = FLOAT_VALUE(op == OP_MOD ? mod : whole);
    return true;
}

static bool float_power(struct vm *vm, double a, double b, struct value *out)
{
    if (a == 0 && b < 0)
        return jinja_fail(vm, "0.0 cannot be raised to a negative power");
    if (a < 0 && isfinite(a) && isfinite(b) && b != floor(b))
        return jinja_fail(vm, "a fractional power of a negative number is complex, which is not supported");
    double r = pow(a, b);
    if (isinf(r) && isfinite(a) && isfinite(b))
        return jinja_fail(vm, "Numerical result out of range");
    *out = FLOAT_VALUE(r);
    return true;
}

/* a / b of integers, rounded once where both fit into a double. */
static bool true_divide(struct vm *vm, struct value a, struct value b, struct value *out)
{
    if (b.kind == K_INT && b.integer == 0)
        return jinja_fail(vm, "division by zero");
    if (a.kind == K_INT && b.kind == K_INT) {
        *out = FLOAT_VALUE((double)((long double)a.integer / (long double)b.integer));
        return true;
    }
    double x = to_double(a), y = to_double(b);
    if (!isfinite(x) || !isfinite(y)) { /* the quotient may still fit */
        struct value whole;
        if (!big_binary(vm, OP_FLOORDIV, a, b, &whole))
            return false;
        x = to_double(whole);
        y = 1;
        if (!isfinite(x))
            return jinja_fail(vm, "integer division result too large for a float");
    }
    *out = FLOAT_VALUE(x / y);
    return true;
}

static bool integer_binary(struct vm *vm, enum operator op, struct value a, struct value b, struct value *out)
{
    if (op == OP_DIV)
        return true_divide(vm, a, b, out);
    if (op == OP_POW && (b.kind == K_BIG ? b.big->negative : b.integer < 0)) {
        if (a.kind == K_INT && a.integer == 0)
            return jinja_fail(vm, "0.0 cannot be raised to a negative power");
        return float_power(vm, to_double(a), to_double(b), out);
    }
    if ((op == OP_FLOORDIV || op == OP_MOD) && a.kind == K_INT && b.kind == K_INT && b.integer > 0) {
        int64_t q = a.integer / b.integer, r = a.integer % b.integer;
        *out = INT_VALUE(op == OP_MOD ? (r < 0 ? r + b.integer : r) : q - (r < 0));
        return true;
    }
    return big_binary(vm, op, a, b, out);
}

bool number_binary(struct vm *vm, enum operator op, struct value a, struct value b, struct value *out)
{
    if (is_integer(&a) && is_integer(&b))
        return integer_binary(vm, op, as_integer(a), as_integer(b), out);
    double x, y;
    if (!number_as_double(vm, a, &x) || !number_as_double(vm, b, &y))
        return false;
    switch (op) {
    case OP_ADD:
        *out = FLOAT_VALUE(x + y);
        return true;
    case OP_SUB:
        *out = FLOAT_VALUE(x - y);
        return true;
    case OP_MUL:
        *out = FLOAT_VALUE(x * y);
        return true;
    case OP_POW:
        return float_power(vm, x, y, out);
    default:
        return float_divide(vm, op, x, y, out);
    }
}

/* An integer against a double, exactly. */
static int compare_mixed(struct value integer, double d)
{
    if (isnan(d))
        return 2;
    if (isinf(d))
        return d > 0 ? -1 : 1;
    if (integer.kind == K_BIG) {
        double x = big_to_double(integer.big);
        if (x != d || !isfinite(x))
            return x < d ? -1 : 1;
        return 0; /* equal as doubles: close enough, Python would look at the last bits */
    }
    if (d >= 9223372036854775808.0)
        return -1;
    if (d < -9223372036854775808.0)
        return 1;
    int64_t whole = (int64_t)floor(d);
    if (integer.integer != whole)
        return integer.integer < whole ? -1 : 1;
    return d > floor(d) ? -1 : 0;
}

int number_compare(struct value a, struct value b)
{
    a = as_integer(a);
    b = as_integer(b);
    if (a.kind == K_INT && b.kind == K_INT)
        return (a.integer > b.integer) - (a.integer < b.integer);
    if (a.kind == K_FLOAT && b.kind == K_FLOAT)
        return isnan(a.real) || isnan(b.real) ? 2 : (a.real > b.real) - (a.real < b.real);
    if (a.kind == K_FLOAT) {
        int order = compare_mixed(b, a.real);
        return order == 2 ? 2 : -order;
    }
    if (b.kind == K_FLOAT)
        return compare_mixed(a, b.real);
    return big_compare(a, b);
}

/* ---- floats as text ------------------------------------------------------------------------------------------------- */

size_t float_print(double d, char out[40])
{
    if (!isfinite(d))
        return (size_t)sprintf(out, isnan(d) ? "nan" : d > 0 ? "inf" : "-inf");
    char digits[40];
    for (int precision = fabs(d) < 1e-300 ? 1 : 15; precision <= 17; precision++) {
        snprintf(digits, sizeof digits, "%.*e", precision - 1, d);
        if (strtod(digits, NULL) == d)
            break;
    }
    char *e = strchr(digits, 'e');
    int exponent = atoi(e + 1);
    char mantissa[24];
    size_t n = 0, sign = digits[0] == '-';
    for (char *c = digits + sign; c < e; c++)
        if (*c != '.')
            mantissa[n++] = *c;
    while (n > 1 && mantissa[n - 1] == '0')
        n--;
    size_t at = 0;
    if (sign)
        out[at++] = '-';
    if (exponent < -4 || exponent >= 16) {
        out[at++] = mantissa[0];
        if (n > 1) {
            out[at++] = '.';
            memcpy(out + at, mantissa + 1, n - 1);
            at += n - 1;
        }
        return at + (size_t)sprintf(out + at, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
    }
    if (exponent < 0) {
        out[at++] = '0';
        out[at++] = '.';
        for (int i = -1; i > exponent; i--)
            out[at++] = '0';
    }
    for (size_t i = 0; i < n || (int)i <= exponent; i++) {
        out[at++] = i < n ? mantissa[i] : '0';
        if ((int)i == exponent) {
            out[at++] = '.';
            if (i + 1 >= n)
                out[at++] = '0';
        }
    }
    out[at] = 0;
    return at;
}

/* ---- text as numbers ------------------------------------------------------------------------------------------------ */

/* The number in t in plain ASCII without white space around it or underscores inside: NULL if there are characters
 * that no number has. Other scripts' decimals count. out has room for t->size + 1. */
static char *plain_number(const struct text *t, char *out, size_t *size)
{
    size_t n = 0;
    uint32_t from = 0, to = t->size, c;
    while (from < to) {
        size_t step = utf8_decode(t->data + from, to - from, &c);
        if (!unicode_is_space(c))
            break;
        from += (uint32_t)step;
    }
    while (to > from) {
        uint32_t last = to - 1;
        while (last > from && ((unsigned char)t->data[last] & 0xC0) == 0x80)
            last--;
        utf8_decode(t->data + last, to - last, &c);
        if (!unicode_is_space(c))
            break;
        to = last;
    }
    for (uint32_t at = from; at < to;) {
        at += (uint32_t)utf8_decode(t->data + at, to - at, &c);
        int digit = unicode_digit(c);
        if (digit < 0 && (c >= 0x80 || !c))
            return NULL;
        out[n++] = digit >= 0 ? (char)('0' + digit) : (char)c;
    }
    out[n] = 0;
    *size = n;
    return out;
}

static int base_of(const char *s)
{
    char x = s[0] == '0' ? s[1] | 0x20 : 0;
    return x == 'x' ? 16 : x == 'o' ? 8 : x == 'b' ? 2 : 0;
}

static int letter_value(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'z' ? (c | 0x20) - 'a' + 10 : 99;
}

bool number_parse_int(struct vm *vm, const struct text *t, int base, struct value *out, bool *valid)
{
    *valid = false;
    if (base != 0 && (base < 2 || base > 36))
        return jinja_fail(vm, "int() base must be >= 2 and <= 36, or 0");
    size_t size;
    char *room = jinja_alloc(vm, (size_t)t->size + 1, 1), *s = room ? plain_number(t, room, &size) : NULL;
    if (!room)
        return false;
    if (!s || !size)
        return true;
    bool negative = *s == '-';
    s += *s == '-' || *s == '+';
    int prefix = base_of(s);
    if (prefix && (base == 0 || base == prefix)) {
        base = prefix;
        s += 2;
        s += *s == '_';
    } else if (base == 0) {
        if (s[0] == '0' && strspn(s, "0_") != strlen(s))
            return true;
        base = 10;
    }
    size_t n = 0;
    char *digits = s;
    for (size_t i = 0; s[i]; i++) {
        if (s[i] == '_' && i && s[i + 1] && s[i - 1] != '_' && s[i + 1] != '_')
            continue;
        if (letter_value(s[i]) >= base)
            return true;
        digits[n++] = s[i];
    }
    if (!n)
        return true;
    *valid = true;
    return big_parse(vm, digits, n, base, negative, out);
}

bool number_parse_float(const struct text *t, double *out)
{
    char small[400], *room = t->size < sizeof small ? small : malloc((size_t)t->size + 1);
    size_t size = 0, n = 0;
    char *s = room ? plain_number(t, room, &size) : NULL;
    bool valid = s && size > 0 && !strpbrk(s, "xXpP(");
    if (valid) {
        for (size_t i = 0; i < size && valid; i++) {
            bool between = s[i] == '_' && i && letter_value(s[i - 1]) < 10 && letter_value(s[i + 1]) < 10;
            if (between)
                continue;
            valid = s[i] != '_' && (unsigned char)s[i] > ' ';
            s[n++] = s[i];
        }
        s[n] = 0;
        char *end;
        *out = strtod(s, &end);
        valid = valid && end == s + n && n > 0;
    }
    if (room != small)
        free(room);
    return valid;
}

/* ---- rounding ------------------------------------------------------------------------------------------------------- */

static bool round_integer(struct vm *vm, struct value v, int64_t digits, struct value *out)
{
    if (digits >= 0) {
        *out = v;
        return true;
    }
    struct value unit, rest, twice;
    if (digits < -5000) {
        *out = INT_VALUE(0);
        return true;
    }
    if (!big_binary(vm, OP_POW, INT_VALUE(10), INT_VALUE(-digits), &unit) || !big_binary(vm, OP_MOD, v, unit, &rest) ||
        !big_binary(vm, OP_SUB, v, rest, out) || !big_binary(vm, OP_MUL, rest, INT_VALUE(2), &twice))
        return false;
    int order = big_compare(twice, unit);
    if (order == 0) { /* half goes to the even neighbour */
        struct value quotient, odd;
        if (!big_binary(vm, OP_FLOORDIV, v, unit, &quotient) || !big_binary(vm, OP_MOD, quotient, INT_VALUE(2), &odd))
            return false;
        order = odd.integer ? 1 : -1;
    }
    return order < 0 || big_binary(vm, OP_ADD, *out, unit, out);
}

bool number_round(struct vm *vm, struct value v, int64_t digits, struct value *out)
{
    if (v.kind != K_FLOAT)
        return round_integer(vm, as_integer(v), digits, out);
    double d = v.real;
    *out = v;
    if (!isfinite(d) || digits > 323)
        return true;
    if (digits < -308) {
        *out = FLOAT_VALUE(copysign(0, d));
        return true;
    }
    if (digits >= 0) {
        char text[700];
        snprintf(text, sizeof text, "%.*f", (int)digits, d);
        *out = FLOAT_VALUE(strtod(text, NULL));
        return true;
    }
    double unit = pow(10, (double)-digits);
    double q = nearbyint(d / unit);
    *out = FLOAT_VALUE(q * unit);
    return isfinite(out->real) || jinja_fail(vm, "rounded value too large to represent");
}
