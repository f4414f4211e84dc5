/* Integers of any size, as Python has them, up to a limit: sign and magnitude in limbs of 32 bits, lowest first. Plain
 * schoolbook arithmetic; numbers in prompts are short. */
#include "tokenizers/chat/chat.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* An operand: the limbs of either kind of integer. */
struct limbs {
    bool negative;
    uint32_t size;
    const uint32_t *at;
    uint32_t small[2];
};

static void open_limbs(struct value v, struct limbs *out)
{
    if (v.kind == K_BIG) {
        *out = (struct limbs){.negative = v.big->negative, .size = v.big->size, .at = v.big->limbs};
        return;
    }
    uint64_t m = v.integer < 0 ? -(uint64_t)v.integer : (uint64_t)v.integer;
    *out = (struct limbs){.negative = v.integer < 0, .size = m >> 32 ? 2 : m != 0, .small = {(uint32_t)m, (uint32_t)(m >> 32)}};
    out->at = out->small;
}

/* The value that limbs[0..size) make; small enough ones become K_INT. */
static bool close_limbs(struct vm *vm, const uint32_t *limbs, uint32_t size, bool negative, struct value *out)
{
    while (size && !limbs[size - 1])
        size--;
    if (size <= 2) {
        uint64_t m = (size > 0 ? limbs[0] : 0) | (size > 1 ? (uint64_t)limbs[1] << 32 : 0);
        if (m <= INT64_MAX || (negative && m == (uint64_t)1 << 63)) {
            *out = INT_VALUE(negative ? (int64_t)-m : (int64_t)m);
            return true;
        }
    }
    if (size > BIG_LIMBS)
        return jinja_fail(vm, "an integer of more than %d bits", BIG_LIMBS * 32);
    struct big *b = arena_raw(&vm->arena, sizeof *b + size * sizeof *limbs);
    if (!b)
        return jinja_memory(vm);
    memcpy(b + 1, limbs, size * sizeof *limbs);
    *b = (struct big){.negative = negative, .size = size, .limbs = (const uint32_t *)(b + 1)};
    *out = (struct value){.kind = K_BIG, .big = b};
    return true;
}

static int compare_magnitude(const struct limbs *a, const struct limbs *b)
{
    if (a->size != b->size)
        return a->size < b->size ? -1 : 1;
    for (uint32_t i = a->size; i-- > 0;)
        if (a->at[i] != b->at[i])
            return a->at[i] < b->at[i] ? -1 : 1;
    return 0;
}

static uint32_t add_magnitude(const struct limbs *a, const struct limbs *b, uint32_t *out)
{
    uint64_t carry = 0;
    uint32_t n = a->size > b->size ? a->size : b->size;
    for (uint32_t i = 0; i < n; i++) {
        carry += (uint64_t)(i < a->size ? a->at[i] : 0) + (i < b->size ? b->at[i] : 0);
        out[i] = (uint32_t)carry;
        carry >>= 32;
    }
    out[n] = (uint32_t)carry;
    return n + 1;
}

/* a - b, a not below b. */
static uint32_t subtract_magnitude(const struct limbs *a, const struct limbs *b, uint32_t *out)
{
    int64_t borrow = 0;
    for (uint32_t i = 0; i < a->size; i++) {
        int64_t d = (int64_t)a->at[i] - (i < b->size ? b->at[i] : 0) + borrow;
        out[i] = (uint32_t)d;
        borrow = d < 0 ? -1 : 0;
    }
    return a->size;
}

static bool add_signed(struct vm *vm, const struct limbs *a, const struct limbs *b, struct value *out)
{
    uint32_t sum[BIG_LIMBS + 2], size;
    bool negative = a->negative;
    if (a->negative == b->negative) {
        size = add_magnitude(a, b, sum);
    } else if (compare_magnitude(a, b) >= 0) {
        size = subtract_magnitude(a, b, sum);
    } else {
        size = subtract_magnitude(b, a, sum);
        negative = b->negative;
    }
    return close_limbs(vm, sum, size, negative, out);
}

static bool multiply(struct vm *vm, const struct limbs *a, const struct limbs *b, struct value *out)
{
    uint32_t product[BIG_LIMBS + 2] = {0};
    if (a->size + b->size > BIG_LIMBS + 1)
        return jinja_fail(vm, "an integer of more than %d bits", BIG_LIMBS * 32);
    if (!jinja_work(vm, (uint64_t)a->size * b->size * 4))
        return false;
    for (uint32_t i = 0; i < a->size; i++) {
        uint64_t carry = 0;
        for (uint32_t j = 0; j < b->size; j++) {
            carry += (uint64_t)a->at[i] * b->at[j] + product[i + j];
            product[i + j] = (uint32_t)carry;
            carry >>= 32;
        }
        product[i + b->size] = (uint32_t)carry;
    }
    return close_limbs(vm, product, a->size + b->size, a->negative != b->negative, out);
}

/* limbs = limbs / small; returns the remainder. */
static uint32_t divide_small(uint32_t *limbs, uint32_t size, uint32_t small)
{
    uint64_t rest = 0;
    for (uint32_t i = size; i-- > 0;) {
        rest = rest << 32 | limbs[i];
        limbs[i] = (uint32_t)(rest / small);
        rest %= small;
    }
    return (uint32_t)rest;
}

/* Knuth's algorithm D: rest (size a->size + 1) holds a on entry, the remainder after; both shifted by `shift` bits. */
static void divide_long(uint32_t *rest, uint32_t rest_size, const uint32_t *by, uint32_t size, uint32_t *quotient)
{
    for (uint32_t j = rest_size - size; j-- > 0;) {
        uint64_t top = (uint64_t)rest[j + size] << 32 | rest[j + size - 1];
        uint64_t q = top / by[size - 1], r = top % by[size - 1];
        while (q >> 32 || q * by[size - 2] > (r << 32 | rest[j + size - 2])) {
            q--;
            r += by[size - 1];
            if (r >> 32)
                break;
        }
        int64_t borrow = 0;
        uint64_t carry = 0;
        for (uint32_t i = 0; i < size; i++) {
            carry += q * by[i];
            int64_t d = (int64_t)rest[i + j] - (int64_t)(uint32_t)carry + borrow;
            rest[i + j] = (uint32_t)d;
            borrow = d < 0 ? -1 : 0;
            carry >>= 32;
        }
        int64_t d = (int64_t)rest[j + size] - (int64_t)carry + borrow;
        rest[j + size] = (uint32_t)d;
        if (d < 0) { /* one too many: add the divisor back */
            q--;
            uint64_t sum = 0;
            for (uint32_t i = 0; i < size; i++) {
                sum += (uint64_t)rest[i + j] + by[i];
                rest[i + j] = (uint32_t)sum;
                sum >>= 32;
            }
            rest[j + size] += (uint32_t)sum;
        }
        quotient[j] = (uint32_t)q;
    }
}

/* Quotient rounded down and its remainder, which has the divisor's sign. */
static bool divide(struct vm *vm, struct value va, struct value vb, bool want_rest, struct value *out)
{
    struct limbs a, b;
    open_limbs(va, &a);
    open_limbs(vb, &b);
    if (!b.size)
        return jinja_fail(vm, "integer division or modulo by zero");
    if (!jinja_work(vm, (uint64_t)a.size * b.size * 4))
        return false;
    uint32_t quotient[BIG_LIMBS + 2] = {0}, rest[BIG_LIMBS + 2] = {0}, by[BIG_LIMBS + 1];
    uint32_t quotient_size = 0, rest_size;
    memcpy(rest, a.at, a.size * sizeof *rest);
    if (b.size == 1) {
        memcpy(quotient, a.at, a.size * sizeof *quotient);
        rest[0] = divide_small(quotient, a.size, b.at[0]);
        rest_size = 1;
        quotient_size = a.size;
    } else if (compare_magnitude(&a, &b) < 0) {
        rest_size = a.size;
    } else {
        int shift = __builtin_clz(b.at[b.size - 1]);
        for (uint32_t i = b.size; i-- > 0;)
            by[i] = b.at[i] << shift | (shift && i ? b.at[i - 1] >> (32 - shift) : 0);
        rest[a.size] = shift ? a.at[a.size - 1] >> (32 - shift) : 0;
        for (uint32_t i = a.size; i-- > 0;)
            rest[i] = a.at[i] << shift | (shift && i ? a.at[i - 1] >> (32 - shift) : 0);
        divide_long(rest, a.size + 1, by, b.size, quotient);
        quotient_size = a.size - b.size + 1;
        for (uint32_t i = 0; i < b.size; i++)
            rest[i] = rest[i] >> shift | (shift && i + 1 < b.size ? rest[i + 1] << (32 - shift) : 0);
        rest_size = b.size;
    }
    struct value q, r;
    if (!close_limbs(vm, quotient, quotient_size, a.negative != b.negative, &q) || !close_limbs(vm, rest, rest_size, a.negative, &r))
        return false;
    bool adjust = a.negative != b.negative && !(r.kind == K_INT && r.integer == 0);
    if (want_rest) {
        *out = r;
        return !adjust || big_binary(vm, OP_ADD, r, vb, out);
    }
    *out = q;
    return !adjust || big_binary(vm, OP_SUB, q, INT_VALUE(1), out);
}

static bool power(struct vm *vm, struct value base, struct value exponent, struct value *out)
{
    struct value result = INT_VALUE(1);
    if (base.kind == K_INT && (base.integer == 0 || base.integer == 1 || base.integer == -1)) {
        bool odd = exponent.kind == K_BIG ? big_is_odd(exponent.big) : exponent.integer & 1;
        bool zero = exponent.kind == K_INT && exponent.integer == 0;
        *out = zero ? INT_VALUE(1) : base.integer == -1 && !odd ? INT_VALUE(1) : base;
        return true;
    }
    if (exponent.kind == K_BIG || exponent.integer > BIG_LIMBS * 32)
        return jinja_fail(vm, "an integer of more than %d bits", BIG_LIMBS * 32);
    for (uint64_t e = (uint64_t)exponent.integer; e; e >>= 1) {
        if (e & 1 && !big_binary(vm, OP_MUL, result, base, &result))
            return false;
        if (e > 1 && !big_binary(vm, OP_MUL, base, base, &base))
            return false;
    }
    *out = result;
    return true;
}

bool big_binary(struct vm *vm, enum operator op, struct value a, struct value b, struct value *out)
{
    if (a.kind == K_INT && b.kind == K_INT) {
        int64_t r;
        bool over = op == OP_ADD   ? __builtin_add_overflow(a.integer, b.integer, &r)
                    : op == OP_SUB ? __builtin_sub_overflow(a.integer, b.integer, &r)
                    : op == OP_MUL ? __builtin_mul_overflow(a.integer, b.integer, &r)
                                   : true;
        if (!over) {
            *out = INT_VALUE(r);
            return true;
        }
    }
    struct limbs x, y;
    open_limbs(a, &x);
    open_limbs(b, &y);
    switch (op) {
    case OP_SUB:
        y.negative = !y.negative;
        return add_signed(vm, &x, &y, out);
    case OP_ADD:
        return add_signed(vm, &x, &y, out);
    case OP_MUL:
        return multiply(vm, &x, &y, out);
    case OP_FLOORDIV:
    case OP_MOD:
        return divide(vm, a, b, op == OP_MOD, out);
    default:
        return power(vm, a, b, out);
    }
}

static int digit_value(char c) { return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10; }

bool big_parse(struct vm *vm, const char *digits, size_t size, int base, bool negative, struct value *out)
{
    uint32_t limbs[BIG_LIMBS + 1], used = 0;
    if (!jinja_work(vm, size * (size / 16 + 1)))
        return false;
    for (size_t i = 0; i < size; i++) {
        uint64_t carry = (uint64_t)digit_value(digits[i]);
        for (uint32_t j = 0; j < used; j++) {
            carry += (uint64_t)limbs[j] * (uint32_t)base;
            limbs[j] = (uint32_t)carry;
            carry >>= 32;
        }
        if (carry && used == BIG_LIMBS)
            return jinja_fail(vm, "an integer of more than %d bits", BIG_LIMBS * 32);
        if (carry)
            limbs[used++] = (uint32_t)carry;
    }
    return close_limbs(vm, limbs, used, negative, out);
}

bool big_print_base(struct vm *vm, struct pile *p, struct value v, int base, bool upper)
{
    struct limbs a;
    uint32_t limbs[BIG_LIMBS + 1];
    open_limbs(v, &a);
    if (!jinja_work(vm, (uint64_t)a.size * a.size * 8))
        return false;
    memcpy(limbs, a.at, a.size * sizeof *limbs);
    size_t begin = p->size;
    uint32_t size = a.size;
    do {
        uint32_t digit = size ? divide_small(limbs, size, (uint32_t)base) : 0;
        char c = (upper ? "0123456789ABCDEF" : "0123456789abcdef")[digit];
        if (!pile_add(vm, p, &c, 1, true))
            return false;
        while (size && !limbs[size - 1])
            size--;
    } while (size);
    for (size_t i = begin, j = p->size - 1; i < j; i++, j--) {
        char c = p->data[i];
        p->data[i] = p->data[j];
        p->data[j] = c;
    }
    return true;
}

bool big_print(struct vm *vm, struct pile *p, const struct big *b)
{
    size_t begin = p->size;
    struct value v = {.kind = K_BIG, .big = b};
    if ((b->negative && !pile_add_word(vm, p, "-")) || !big_print_base(vm, p, v, 10, false))
        return false;
    return p->size - begin <= 4301 || jinja_fail(vm, "an integer of more than 4300 digits is not printed");
}

bool big_from_double(struct vm *vm, double d, struct value *out)
{
    uint32_t limbs[40] = {0};
    int exponent;
    double f = frexp(fabs(d), &exponent); /* |d| = f * 2^exponent, f has 53 bits */
    if (exponent <= 0) {
        *out = INT_VALUE(0);
        return true;
    }
    uint64_t m = (uint64_t)ldexp(f, 53);
    int shift = exponent - 53;
    if (shift <= 0) {
        m = shift > -64 ? m >> -shift : 0;
        shift = 0;
    }
    int at = shift / 32, bits = shift % 32;
    limbs[at] = (uint32_t)(m << bits);
    limbs[at + 1] = (uint32_t)(m >> (32 - bits));
    limbs[at + 2] = bits ? (uint32_t)(m >> 32 >> (32 - bits)) : 0;
    return close_limbs(vm, limbs, 40, d < 0, out);
}

/* Rounded to nearest even: the top 64 bits with a sticky bit below. */
double big_to_double(const struct big *b)
{
    uint32_t n = b->size;
    int shift = __builtin_clz(b->limbs[n - 1]);
    uint64_t top = (uint64_t)b->limbs[n - 1] << 32 | (n > 1 ? b->limbs[n - 2] : 0);
    uint32_t next = n > 2 ? b->limbs[n - 3] : 0;
    if (shift)
        top = top << shift | next >> (32 - shift);
    bool sticky = shift ? (next << shift) != 0 : next != 0;
    for (uint32_t i = 0; i + 3 < n && !sticky; i++)
        sticky = b->limbs[i] != 0;
    uint64_t m = top >> 11, half = top & 0x7FF;
    if (half > 0x400 || (half == 0x400 && (sticky || m & 1)))
        m++;
    double d = ldexp((double)m, (int)n * 32 - shift - 53);
    return b->negative ? -d : d;
}

int big_compare(struct value a, struct value b)
{
    struct limbs x, y;
    open_limbs(a, &x);
    open_limbs(b, &y);
    if (x.negative != y.negative)
        return x.negative ? -1 : 1;
    int order = compare_magnitude(&x, &y);
    return x.negative ? -order : order;
}

bool big_is_odd(const struct big *b) { return b->limbs[0] & 1; }

bool big_negate(struct vm *vm, const struct big *b, struct value *out)
{
    return close_limbs(vm, b->limbs, b->size, !b->negative, out);
}
