/* Filters over numbers and over any value. */
#include "tokenizers/chat/chat.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define ANY(name) bool filter_##name(struct vm *vm, struct value self, const struct args *args, struct value *out)

ANY(abs)
{
    bool negative;
    if (!jinja_bind(vm, "abs", "", args, NULL))
        return false;
    if (!is_number(&self))
        return self.kind == K_UNDEFINED ? jinja_fail_undefined(vm, self) : jinja_fail(vm, "bad operand type for abs(): '%s'", jinja_type(&self));
    *out = self = as_integer(self);
    if (self.kind == K_FLOAT) {
        *out = FLOAT_VALUE(fabs(self.real));
        return true;
    }
    negative = self.kind == K_BIG ? self.big->negative : self.integer < 0;
    return !negative || big_binary(vm, OP_SUB, INT_VALUE(0), self, out);
}

ANY(default)
{
    struct value v[2];
    bool falsy, truth;
    if (!jinja_bind(vm, "default", "default_value? boolean?", args, v) || !jinja_flag(vm, v[1], false, &falsy) || !jinja_truth(vm, self, &truth))
        return false;
    bool use = self.kind == K_UNDEFINED || (falsy && !truth);
    *out = !use ? self : v[0].kind == K_MISSING ? TEXT_VALUE(&text_empty) : v[0];
    return true;
}

ANY(attr)
{
    struct value v;
    const struct text *name;
    bool found;
    if (!jinja_bind(vm, "attr", "name", args, &v) || !jinja_as_text(vm, v, &name))
        return false;
    if (self.kind == K_UNDEFINED)
        return jinja_getattr(vm, self, name, out);
    return jinja_attribute(vm, self, name, out, &found) && (found || jinja_undefined(vm, name, self.kind, out));
}

/* int(float): towards zero, whatever its size. */
static bool truncate_float(struct vm *vm, double d, struct value *out)
{
    if (fabs(d) < 9e18) {
        *out = INT_VALUE((int64_t)d);
        return true;
    }
    return big_from_double(vm, d, out);
}

ANY(int)
{
    struct value v[2];
    int64_t base;
    bool valid;
    double d;
    if (!jinja_bind(vm, "int", "default? base?", args, v) || !jinja_int_or(vm, v[1], 10, &base))
        return false;
    struct value fallback = v[0].kind == K_MISSING ? INT_VALUE(0) : v[0];
    if (is_integer(&self)) {
        *out = as_integer(self);
        return true;
    }
    if (self.kind == K_FLOAT) {
        if (isinf(self.real))
            return jinja_fail(vm, "cannot convert float infinity to integer");
        *out = fallback;
        return isnan(self.real) || truncate_float(vm, self.real, out);
    }
    if (self.kind == K_UNDEFINED)
        return jinja_fail_undefined(vm, self);
    *out = fallback;
    if (self.kind != K_STRING)
        return true;
    if (!number_parse_int(vm, self.text, base < 0 || base > 36 ? -1 : (int)base, out, &valid))
        return false;
    if (valid)
        return true;
    *out = fallback;
    return !number_parse_float(self.text, &d) || !isfinite(d) || truncate_float(vm, d, out);
}

ANY(float)
{
    struct value v;
    double d;
    if (!jinja_bind(vm, "float", "default?", args, &v))
        return false;
    *out = v.kind == K_MISSING ? FLOAT_VALUE(0) : v;
    if (self.kind == K_UNDEFINED)
        return jinja_fail_undefined(vm, self);
    if (is_number(&self)) {
        if (!number_as_double(vm, self, &d))
            return false;
        *out = FLOAT_VALUE(d);
    } else if (self.kind == K_STRING && number_parse_float(self.text, &d)) {
        *out = FLOAT_VALUE(d);
    }
    return true;
}

/* floor or ceil of value * 10**precision, divided by 10**precision. */
static bool round_directed(struct vm *vm, struct value self, int64_t precision, bool up, struct value *out)
{
    struct value unit, scaled;
    if (!number_binary(vm, OP_POW, INT_VALUE(10), INT_VALUE(precision), &unit) || !number_binary(vm, OP_MUL, self, unit, &scaled))
        return false;
    if (scaled.kind == K_FLOAT) {
        if (!isfinite(scaled.real))
            return jinja_fail(vm, "cannot convert a float that is not finite to an integer");
        if (!truncate_float(vm, up ? ceil(scaled.real) : floor(scaled.real), &scaled))
            return false;
    }
    return number_binary(vm, OP_DIV, scaled, unit, out);
}

ANY(round)
{
    struct value v[2];
    int64_t precision;
    const struct text *method = NULL;
    if (!jinja_bind(vm, "round", "precision? method?", args, v))
        return false;
    if (v[1].kind != K_MISSING && !jinja_as_text(vm, v[1], &method))
        return false;
    bool common = !method || text_is(method, "common"), up = method && text_is(method, "ceil");
    if (!common && !up && !text_is(method, "floor"))
        return jinja_fail(vm, "round: the method must be common, ceil or floor");
    if (!is_number(&self))
        return self.kind == K_UNDEFINED ? jinja_fail_undefined(vm, self) : jinja_fail(vm, "'%s' cannot be rounded", jinja_type(&self));
    if (common && v[0].kind == K_NONE && self.kind == K_FLOAT) {
        if (!isfinite(self.real))
            return jinja_fail(vm, "cannot convert a float that is not finite to an integer");
        return number_round(vm, self, 0, out) && truncate_float(vm, out->real, out);
    }
    if (!jinja_int_or(vm, v[0].kind == K_NONE ? MISSING_VALUE : v[0], 0, &precision))
        return false;
    if (common)
        return number_round(vm, self, precision, out);
    if (precision > 400 || precision < -400)
        return jinja_fail(vm, "round: the precision is out of range");
    return round_directed(vm, self, precision, up, out);
}

ANY(filesizeformat)
{
    static const char *const prefixes[2][8] = {{"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"}, {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"}};
    struct value v;
    bool binary;
    double bytes, base, unit;
    char text[400];
    if (!jinja_bind(vm, "filesizeformat", "binary?", args, &v) || !jinja_flag(vm, v, false, &binary))
        return false;
    if (is_number(&self) ? !number_as_double(vm, self, &bytes) : !(self.kind == K_STRING && number_parse_float(self.text, &bytes)))
        return self.kind == K_UNDEFINED ? jinja_fail_undefined(vm, self) : jinja_fail(vm, "could not convert to float: %s", jinja_type(&self));
    base = binary ? 1024 : 1000;
    if (bytes == 1)
        return text_word(vm, "1 Byte", out);
    if (bytes < base) {
        snprintf(text, sizeof text, "%.0f Bytes", trunc(bytes));
        return text_new(vm, text, strlen(text), true, out);
    }
    int i = 0;
    for (unit = base * base; i < 7 && !(bytes < unit); i++)
        unit *= base;
    snprintf(text, sizeof text, "%.1f %s", base * bytes / unit, prefixes[binary][i]);
    return text_new(vm, text, strlen(text), true, out);
}

jinja_function *jinja_find_filter(const char *name, size_t size)
{
    static const struct {
        const char *name;
        jinja_function *function;
    } filters[] = {
#define FILTER(name, function) {name, function},
#include "tokenizers/chat/filters.def"
#undef FILTER
    };
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++)
        if (strlen(filters[i].name) == size && memcmp(filters[i].name, name, size) == 0)
            return filters[i].function;
    return NULL;
}
