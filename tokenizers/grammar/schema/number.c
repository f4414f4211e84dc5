/* Numbers: ranges and multiples over the digits as they are written. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizers/grammar/schema/schema.h"

enum { MOST_DIGITS = 400 };

/* ---- decimals ------------------------------------------------------------------------------------------------------- */

bool decimal_read(struct schema *s, const char *text, uint32_t size, struct decimal *out)
{
    char *digits = schema_alloc(s, size + MOST_DIGITS + 1);
    int64_t scale = 0, exponent = 0;
    uint32_t count = 0, at = 0;
    bool point = false, minus;
    *out = (struct decimal){.digits = "", .negative = size && text[0] == '-'};
    if (!digits)
        return false;
    for (at = out->negative; at < size && (text[at] | 32) != 'e'; at++) {
        if (text[at] == '.') {
            point = true;
            continue;
        }
        scale += point;
        if (count || text[at] != '0')
            digits[count++] = text[at];
    }
    if (at < size) {
        minus = text[++at] == '-';
        for (at += text[at] == '-' || text[at] == '+'; at < size; at++)
            exponent = exponent > MOST_DIGITS ? exponent : exponent * 10 + (text[at] - '0');
        scale -= minus ? -exponent : exponent;
    }
    while (scale > 0 && count && digits[count - 1] == '0')
        count--, scale--;
    while (scale < 0 && count && scale >= -MOST_DIGITS)
        digits[count++] = '0', scale++;
    if (!count)
        scale = 0, out->negative = false;
    if (scale < 0 || scale > MOST_DIGITS || count > MOST_DIGITS)
        return schema_refuse(s, s->root, NULL, "the number %s has too many digits", QUOTE(text, size));
    out->digits = digits;
    out->count = count;
    out->scale = (uint32_t)scale;
    return true;
}

static uint32_t whole_digits(const struct decimal *d) { return d->count > d->scale ? d->count - d->scale : 0; }
static char digit_at(const struct decimal *d, int64_t place) /* 0: ones, -1: tenths ... */
{
    int64_t i = (int64_t)d->count - d->scale - 1 - place;
    return i >= 0 && i < d->count ? d->digits[i] : '0';
}

static int compare_magnitude(const struct decimal *a, const struct decimal *b)
{
    int64_t high = whole_digits(a) > whole_digits(b) ? whole_digits(a) : whole_digits(b), low = a->scale > b->scale ? a->scale : b->scale;
    for (int64_t place = high; place >= -low; place--)
        if (digit_at(a, place) != digit_at(b, place))
            return digit_at(a, place) < digit_at(b, place) ? -1 : 1;
    return 0;
}

int decimal_compare(const struct decimal *a, const struct decimal *b)
{
    if (a->negative != b->negative)
        return a->negative ? -1 : 1;
    return a->negative ? -compare_magnitude(a, b) : compare_magnitude(a, b);
}

bool decimal_is_integer(const struct decimal *d) { return d->scale == 0; }

static bool decimal_value(const struct decimal *d, uint64_t *out)
{
    *out = 0;
    for (uint32_t i = 0; i < d->count; i++) {
        if (*out >= 1ull << 56)
            return false;
        *out = *out * 10 + (uint64_t)(d->digits[i] - '0');
    }
    return true;
}

bool decimal_divides(const struct decimal *d, const struct decimal *by)
{
    uint64_t modulus, remainder = 0;
    if (!decimal_value(by, &modulus) || !modulus)
        return false;
    for (uint32_t i = 0; i < d->count; i++)
        remainder = (uint64_t)(((unsigned __int128)remainder * 10 + (uint64_t)(d->digits[i] - '0')) % modulus);
    for (uint32_t i = d->scale; i < by->scale; i++) /* both as multiples of the smaller unit */
        remainder = (uint64_t)((unsigned __int128)remainder * 10 % modulus);
    for (uint32_t i = by->scale; i < d->scale; i++)
        modulus = modulus > UINT64_MAX / 10 ? 0 : modulus * 10;
    if (d->scale > by->scale) { /* more decimals than the unit has: never a multiple */
        return d->count == 0;
    }
    return remainder == 0;
}

/* ---- digits --------------------------------------------------------------------------------------------------------- */

static expr digit(struct pool *p, int lo, int hi)
{
    struct byte_set set = {{0}};
    for (int c = lo; c <= hi; c++)
        set.word[0] |= 1ull << c;
    return expr_bytes(p, &set);
}
static expr digits(struct pool *p, uint32_t lo, uint32_t hi) { return expr_repeat(p, digit(p, '0', '9'), lo, hi); }

/* Digit texts as long as `from`, not below it. */
static expr at_least(struct pool *p, const char *from, uint32_t n)
{
    expr e = EMPTY;
    for (uint32_t i = n; i-- > 0;)
        e = expr_or2(p, expr_concat(p, digit(p, from[i], from[i]), e), expr_concat(p, digit(p, from[i] + 1, '9'), digits(p, n - i - 1, n - i - 1)));
    return e;
}

static expr at_most(struct pool *p, const char *to, uint32_t n)
{
    expr e = EMPTY;
    for (uint32_t i = n; i-- > 0;)
        e = expr_or2(p, expr_concat(p, digit(p, to[i], to[i]), e), expr_concat(p, digit(p, '0', to[i] - 1), digits(p, n - i - 1, n - i - 1)));
    return e;
}

/* Whole numbers from `from` to `to` without leading zeros; to NULL: without end. "" is 0. */
static expr whole_range(struct pool *p, const char *from, uint32_t n, const char *to, uint32_t m)
{
    expr e = NONE, first = digit(p, '1', '9');
    if (to && (n > m || (n == m && memcmp(from, to, n) > 0)))
        return NONE;
    if (n == 0) {
        e = expr_byte(p, '0');
        if (to && m == 0)
            return e;
        from = "1";
        n = 1;
    }
    if (to && n == m)
        return expr_or2(p, e, expr_and2(p, at_least(p, from, n), at_most(p, to, m)));
    e = expr_or2(p, e, at_least(p, from, n));
    if (!to)
        return expr_or2(p, e, expr_concat(p, first, digits(p, n, UNLIMITED)));
    if (m > n + 1)
        e = expr_or2(p, e, expr_concat(p, first, digits(p, n, m - 2)));
    return expr_or2(p, e, expr_and2(p, at_most(p, to, m), expr_concat(p, first, digits(p, m - 1, m - 1))));
}

/* The next whole number up or down, into out. */
static uint32_t step_whole(const char *text, uint32_t n, bool up, char *out)
{
    memcpy(out + 1, text, n);
    out[0] = '0';
    for (uint32_t i = n + 1; i-- > 0;) {
        if (up ? out[i] < '9' : out[i] > '0') {
            out[i] = (char)(out[i] + (up ? 1 : -1));
            break;
        }
        out[i] = up ? '0' : '9';
    }
    uint32_t zeros = 0;
    while (zeros < n + 1 && out[zeros] == '0')
        zeros++;
    memmove(out, out + zeros, n + 1 - zeros);
    return n + 1 - zeros;
}

/* ---- ranges of magnitudes ------------------------------------------------------------------------------------------- */

/* Decimals behind the point that are at least, or at most, those given. */
static expr decimals_least(struct pool *p, const char *f, uint32_t n, bool exclusive)
{
    expr all = digits(p, 0, UNLIMITED), e = exclusive ? expr_concat(p, all, expr_concat(p, digit(p, '1', '9'), all)) : all;
    for (uint32_t i = n; i-- > 0;)
        e = expr_or2(p, expr_concat(p, digit(p, f[i], f[i]), e), expr_concat(p, digit(p, f[i] + 1, '9'), all));
    return e;
}

static expr decimals_most(struct pool *p, const char *f, uint32_t n, bool exclusive)
{
    expr all = digits(p, 0, UNLIMITED), e = exclusive ? NONE : expr_repeat(p, expr_byte(p, '0'), 0, UNLIMITED);
    for (uint32_t i = n; i-- > 0;) {
        e = expr_or2(p, expr_concat(p, digit(p, f[i], f[i]), e), expr_concat(p, digit(p, '0', f[i] - 1), all));
        e = expr_or2(p, EMPTY, e);
    }
    return e;
}

/* Decimals with their point, or nothing where they may be none. */
static expr with_point(struct pool *p, expr decimals)
{
    expr some = expr_and2(p, decimals, digits(p, 1, UNLIMITED)), e = expr_concat(p, expr_byte(p, '.'), some);
    return p->nodes[decimals].nullable ? expr_or2(p, EMPTY, e) : e;
}

/* The whole part as digits, the decimals as digits. */
struct split {
    char whole[MOST_DIGITS + 2], decimals[2 * MOST_DIGITS + 2];
    uint32_t n, f;
};

static void split_decimal(const struct decimal *d, struct split *out)
{
    out->n = whole_digits(d);
    memcpy(out->whole, d->digits, out->n);
    out->f = d->scale;
    for (uint32_t i = 0; i < d->scale; i++)
        out->decimals[i] = digit_at(d, -(int64_t)i - 1);
}

/* Unsigned decimal numbers in a range; both bounds are not negative. */
static expr plain_range(struct pool *p, const struct bound *lo, const struct bound *hi)
{
    struct split a, b = {.n = 0};
    char up[MOST_DIGITS + 3], down[MOST_DIGITS + 3];
    expr any = with_point(p, digits(p, 0, UNLIMITED)), e;
    split_decimal(&lo->at, &a);
    if (hi->given)
        split_decimal(&hi->at, &b);
    expr first = whole_range(p, a.whole, a.n, a.whole, a.n), least = decimals_least(p, a.decimals, a.f, lo->exclusive);
    if (hi->given && a.n == b.n && memcmp(a.whole, b.whole, a.n) == 0)
        return expr_concat(p, first, with_point(p, expr_and2(p, least, decimals_most(p, b.decimals, b.f, hi->exclusive))));
    uint32_t n = step_whole(a.whole, a.n, true, up);
    e = expr_concat(p, first, with_point(p, least));
    if (!hi->given)
        return expr_or2(p, e, expr_concat(p, whole_range(p, up, n, NULL, 0), any));
    if (b.n) {
        uint32_t m = step_whole(b.whole, b.n, false, down);
        e = expr_or2(p, e, expr_concat(p, whole_range(p, up, n, down, m), any));
    }
    expr last = whole_range(p, b.whole, b.n, b.whole, b.n);
    return expr_or2(p, e, expr_concat(p, last, with_point(p, decimals_most(p, b.decimals, b.f, hi->exclusive))));
}

/* Exponents from lo to hi as they are written behind e. */
static expr exponent_range(struct pool *p, int lo, int hi, bool from_below, bool to_above)
{
    expr e = NONE, zeros = expr_repeat(p, expr_byte(p, '0'), 0, 2), plus = expr_repeat(p, expr_byte(p, '+'), 0, 1);
    char a[16], b[16];
    if (to_above || hi >= 0) {
        int n = lo > 0 && !from_below ? snprintf(a, sizeof a, "%d", lo) : 0, m = hi > 0 ? snprintf(b, sizeof b, "%d", hi) : 0;
        expr range = whole_range(p, a, (uint32_t)n, to_above ? NULL : b, (uint32_t)m);
        e = expr_concat(p, plus, expr_concat(p, zeros, range));
    }
    if (from_below || lo < 0) {
        int n = snprintf(a, sizeof a, "%d", hi < -1 && !to_above ? -hi : 1), m = snprintf(b, sizeof b, "%d", -lo);
        expr range = whole_range(p, a, (uint32_t)n, from_below ? NULL : b, (uint32_t)m);
        e = expr_or2(p, e, expr_concat(p, expr_byte(p, '-'), expr_concat(p, zeros, range)));
    }
    return e;
}

/* d = mantissa * 10^exponent, 1 <= mantissa < 10; d is not 0. */
static int normalised(const struct decimal *d, struct decimal *mantissa)
{
    uint32_t zeros = 0;
    while (d->digits[zeros] == '0')
        zeros++;
    uint32_t count = d->count - zeros;
    int exponent = (int)count - 1 - (int)d->scale;
    while (count > 1 && d->digits[zeros + count - 1] == '0')
        count--;
    *mantissa = (struct decimal){d->digits + zeros, count, count - 1, false};
    return exponent;
}

/* The same range written with an exponent behind one digit: 1e-07, 2.5e+20. */
static expr exponent_numbers(struct pool *p, const struct bound *lo, const struct bound *hi)
{
    static const struct bound one = {.at = {.digits = "1", .count = 1}, .given = true};
    static const struct bound ten = {.at = {.digits = "10", .count = 2}, .given = true, .exclusive = true};
    struct byte_set letters = {{0, 1ull << ('e' - 64) | 1ull << ('E' - 64), 0, 0}};
    expr mark = expr_bytes(p, &letters), any = plain_range(p, &one, &ten), e = NONE;
    struct bound a = *lo, b = *hi;
    bool zero = lo->at.count == 0;
    int from = zero ? 0 : normalised(&lo->at, &a.at), to = hi->given && hi->at.count ? normalised(&hi->at, &b.at) : 0;
    if (hi->given && !hi->at.count)
        return NONE;
#define ADD(mantissa, exponents) e = expr_or2(p, e, expr_concat(p, mantissa, expr_concat(p, mark, exponents)))
    if (!zero && hi->given && from == to) {
        ADD(plain_range(p, &a, &b), exponent_range(p, from, from, false, false));
        return e;
    }
    if (!zero)
        ADD(plain_range(p, &a, &ten), exponent_range(p, from, from, false, false));
    if (hi->given)
        ADD(plain_range(p, &one, &b), exponent_range(p, to, to, false, false));
    if (zero || !hi->given || from + 1 <= to - 1)
        ADD(any, exponent_range(p, from + 1, to - 1, zero, !hi->given));
#undef ADD
    return e;
}

static expr whole_numbers(struct pool *p, const struct bound *lo, const struct bound *hi)
{
    struct split a, b = {.n = 0};
    char up[MOST_DIGITS + 3], down[MOST_DIGITS + 3];
    split_decimal(&lo->at, &a);
    uint32_t n = a.n, m = 0;
    memcpy(up, a.whole, a.n);
    if (a.f || lo->exclusive)
        n = step_whole(a.whole, a.n, true, up);
    if (hi->given) {
        split_decimal(&hi->at, &b);
        m = b.n;
        memcpy(down, b.whole, b.n);
        if (!b.f && hi->exclusive) {
            if (!m)
                return NONE;
            m = step_whole(b.whole, b.n, false, down);
        }
    }
    return whole_range(p, up, n, hi->given ? down : NULL, m);
}

/* ---- shapes --------------------------------------------------------------------------------------------------------- */

static expr multiples(struct schema *s, const struct shape *shape, bool whole)
{
    struct pool *p = s->pool;
    expr e = NONE;
    for (const struct multiple_of *m = shape->multiples; m; m = m->next) {
        uint64_t modulus = 0;
        uint32_t scale = m->of.scale;
        if (!decimal_value(&m->of, &modulus) || scale > 30) {
            schema_refuse(s, s->root, NULL, "multipleOf with so many digits cannot be decided");
            return NONE;
        }
        if (!whole && scale == 0) /* 4.0 is a multiple of 2 */
            scale = 1, modulus *= 10;
        expr one = expr_multiple(p, modulus, scale);
        if (m->negated)
            one = expr_raw_not(p, one);
        e = e == NONE ? one : expr_raw_and(p, (expr[]){e, one}, 2);
    }
    return e;
}

/* Magnitudes in a range, with all that holds for them. */
static expr magnitudes(struct schema *s, const struct shape *shape, const struct bound *lo, const struct bound *hi)
{
    struct pool *p = s->pool;
    bool whole = !(shape->types & TYPE_FRACTION);
    expr e = whole ? whole_numbers(p, lo, hi) : plain_range(p, lo, hi), of = multiples(s, shape, whole);
    if (!(shape->types & TYPE_INTEGER)) { /* a decimal that is not 0 */
        expr all = digits(p, 0, UNLIMITED), fraction = expr_concat(p, all, expr_concat(p, digit(p, '1', '9'), all));
        e = expr_and2(p, e, expr_concat(p, digits(p, 1, UNLIMITED), expr_concat(p, expr_byte(p, '.'), fraction)));
    } else if (!whole && of == NONE && !shape->excluded) {
        e = expr_or2(p, e, exponent_numbers(p, lo, hi));
    }
    return of == NONE ? e : expr_and2(p, e, of);
}

static expr unbounded(struct schema *s, const struct shape *shape)
{
    struct pool *p = s->pool;
    bool whole = !(shape->types & TYPE_FRACTION);
    expr of = multiples(s, shape, whole), minus = expr_repeat(p, expr_byte(p, '-'), 0, 1);
    expr number = expr_or2(p, expr_byte(p, '0'), expr_concat(p, digit(p, '1', '9'), digits(p, 0, UNLIMITED)));
    if (shape->multiples && !shape->multiples->next && !shape->multiples->negated)
        return expr_concat(p, minus, of); /* writes numbers as they should be by itself */
    if (!whole) {
        struct byte_set letters = {{0, 1ull << ('e' - 64) | 1ull << ('E' - 64), 0, 0}}, signs = {{1ull << '+' | 1ull << '-', 0, 0, 0}};
        expr sign = expr_repeat(p, expr_bytes(p, &signs), 0, 1);
        number = expr_concat(p, number, expr_repeat(p, expr_concat(p, expr_byte(p, '.'), digits(p, 1, UNLIMITED)), 0, 1));
        if (of == NONE && !shape->excluded)
            number = expr_concat(p, number, expr_repeat(p, expr_concat(p, expr_bytes(p, &letters), expr_concat(p, sign, digits(p, 1, UNLIMITED))), 0, 1));
    }
    return expr_concat(p, minus, of == NONE ? number : expr_and2(p, number, of));
}

/* All ways to write a number that is left out. */
static expr spellings(struct schema *s, const struct json *v)
{
    struct pool *p = s->pool;
    struct decimal d;
    if (!decimal_read(s, v->text, v->size, &d))
        return NONE;
    struct bound at = {.at = d, .given = true};
    at.at.negative = false;
    expr e = plain_range(p, &at, &at), minus = expr_byte(p, '-');
    return d.count ? (d.negative ? expr_concat(p, minus, e) : e) : expr_concat(p, expr_repeat(p, minus, 0, 1), e);
}

expr number_expr(struct schema *s, const struct shape *shape)
{
    static const struct bound zero = {.at = {.digits = ""}, .given = true}, none = {.given = false};
    struct pool *p = s->pool;
    struct bound lo = shape->minimum, hi = shape->maximum;
    expr e = NONE;
    if (!(shape->types & TYPE_NUMBER))
        return NONE;
    if (!lo.given && !hi.given && (shape->types & TYPE_INTEGER)) {
        e = unbounded(s, shape);
    } else {
        int order = lo.given && hi.given ? decimal_compare(&lo.at, &hi.at) : -1;
        if (order > 0 || (order == 0 && (lo.exclusive || hi.exclusive)))
            return NONE;
        if (!hi.given || !hi.at.negative)
            e = magnitudes(s, shape, lo.given && !lo.at.negative ? &lo : &zero, &hi);
        if (!lo.given || lo.at.negative) { /* negative numbers, without -0 */
            struct bound near = hi.given && hi.at.negative ? hi : zero, far = lo.given ? lo : none;
            near.at.negative = far.at.negative = false;
            near.exclusive |= !near.at.count;
            e = expr_or2(p, e, expr_concat(p, expr_byte(p, '-'), magnitudes(s, shape, &near, &far)));
        }
    }
    for (const struct value_link *x = shape->excluded; x; x = x->next)
        if (x->value->kind == JSON_NUMBER)
            e = expr_minus(p, e, spellings(s, x->value));
    return e;
}
