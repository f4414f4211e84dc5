/* String formatting: 'a%s' % x, and str.format with its fields. */
#include "tokenizers/chat/chat.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

/* ---- % -------------------------------------------------------------------------------------------------------------- */

struct percent {
    struct vm *vm;
    struct value arguments;
    bool markup; /* values are escaped as they go in */
    uint32_t next;
    const struct text *format;
    uint32_t at;
};

struct conversion {
    bool alternate, zero, left, space, plus;
    int64_t width, precision; /* -1: not given */
};

static bool next_argument(struct percent *p, struct value *out)
{
    bool tuple = p->arguments.kind == K_TUPLE;
    uint32_t count = tuple ? p->arguments.list->count : 1;
    if (p->next >= count)
        return jinja_fail(p->vm, "not enough arguments for format string");
    *out = tuple ? p->arguments.list->items[p->next] : p->arguments;
    p->next++;
    return true;
}

/* (name): a member of the mapping becomes the argument. */
static bool named_argument(struct percent *p, struct value *out)
{
    uint32_t from = ++p->at;
    int depth = 1;
    for (; p->at < p->format->size; p->at++) {
        char c = p->format->data[p->at];
        depth += (c == '(') - (c == ')');
        if (!depth)
            break;
    }
    if (depth)
        return jinja_fail(p->vm, "incomplete format key");
    struct value key;
    const struct value *found;
    if (!text_slice(p->vm, p->format, from, p->at - from, &key))
        return false;
    p->at++;
    if (p->arguments.kind == K_UNDEFINED)
        return jinja_fail_undefined(p->vm, p->arguments);
    if (p->arguments.kind != K_DICT)
        return jinja_fail(p->vm, "format requires a mapping");
    if (!dict_get(p->vm, p->arguments.dict, key, &found))
        return false;
    if (!found)
        return jinja_fail(p->vm, "the format's key '%s' is missing", QUOTE(key.text->data, key.text->size));
    *out = *found;
    p->next = UINT32_MAX; /* the mapping is no positional argument any more */
    return true;
}

static bool percent_number(struct percent *p, int64_t *out, bool *minus)
{
    struct value v;
    if (p->at < p->format->size && p->format->data[p->at] == '*') {
        p->at++;
        if (!next_argument(p, &v) || !jinja_as_int(p->vm, v, out))
            return false;
        *minus = *out < 0;
        *out = *minus ? -*out : *out;
    } else {
        *out = 0;
        while (p->at < p->format->size && p->format->data[p->at] >= '0' && p->format->data[p->at] <= '9') {
            *out = *out * 10 + p->format->data[p->at++] - '0';
            if (*out > INT32_MAX)
                return jinja_fail(p->vm, "width or precision too big");
        }
    }
    return *out <= INT32_MAX || jinja_fail(p->vm, "width or precision too big");
}

static bool read_conversion(struct percent *p, struct conversion *c)
{
    bool minus = false;
    *c = (struct conversion){.width = -1, .precision = -1};
    for (; p->at < p->format->size; p->at++) {
        char f = p->format->data[p->at];
        if (f == '#')
            c->alternate = true;
        else if (f == '0')
            c->zero = true;
        else if (f == '-')
            c->left = true;
        else if (f == ' ')
            c->space = true;
        else if (f == '+')
            c->plus = true;
        else
            break;
    }
    if (!percent_number(p, &c->width, &minus))
        return false;
    c->left |= minus;
    minus = false;
    if (p->at < p->format->size && p->format->data[p->at] == '.') {
        p->at++;
        if (!percent_number(p, &c->precision, &minus))
            return false;
        c->precision = minus ? 0 : c->precision;
    }
    while (p->at < p->format->size && strchr("hlL", p->format->data[p->at]))
        p->at++;
    return p->at < p->format->size || jinja_fail(p->vm, "incomplete format");
}

/* The spec that does what the conversion asks, so that there is one way of padding. */
static bool apply(struct percent *p, const struct conversion *c, struct value v, char type)
{
    char spec[80];
    bool number = type != 's';
    size_t n = 0;
    if (c->left)
        spec[n++] = '<';
    else if (!number || !c->zero)
        spec[n++] = '>';
    if (number && (c->plus || c->space))
        spec[n++] = c->plus ? '+' : ' ';
    if (number && c->alternate)
        spec[n++] = '#';
    if (number && c->zero && !c->left)
        spec[n++] = '0';
    if (c->width > 0)
        n += (size_t)sprintf(spec + n, "%lld", (long long)c->width);
    bool real = strchr("eEfFgG", type) != NULL;
    if (c->precision >= 0 && (real || type == 's'))
        n += (size_t)sprintf(spec + n, ".%lld", (long long)c->precision);
    spec[n++] = type;
    struct text t = {.data = spec, .size = (uint32_t)n, .count = (uint32_t)n, .own = true};
    return format_spec(p->vm, &p->vm->scratch, v, &t);
}

static bool percent_integer(struct percent *p, struct conversion *c, struct value v, char type)
{
    bool decimal = type == 'd' || type == 'i' || type == 'u';
    if (v.kind == K_UNDEFINED)
        return jinja_fail_undefined(p->vm, v);
    if (v.kind == K_FLOAT && decimal) {
        if (!isfinite(v.real))
            return jinja_fail(p->vm, "cannot convert a float that is not finite to an integer");
        if (!big_from_double(p->vm, v.real, &v))
            return false;
    }
    if (!is_integer(&v))
        return jinja_fail(p->vm, "%%%c format: %s is required, not %s", type, decimal ? "a real number" : "an integer", jinja_type(&v));
    v = as_integer(v);
    if (c->precision >= 0) { /* at least that many digits: zeros inside the width */
        struct conversion digits = *c;
        bool negative = v.kind == K_BIG ? v.big->negative : v.integer < 0;
        digits.zero = true;
        digits.left = false;
        digits.width = c->precision + (negative || c->plus || c->space) + (c->alternate && !decimal ? 2 : 0);
        if (c->zero && !c->left && digits.width < c->width)
            digits.width = c->width;
        size_t begin = build_begin(p->vm);
        struct value text;
        if (!apply(p, &digits, v, decimal ? 'd' : type) || !build_end(p->vm, begin, &text))
            return false;
        return apply(p, &(struct conversion){.left = c->left, .width = c->width, .precision = -1}, text, 's');
    }
    return apply(p, c, v, decimal ? 'd' : type);
}

static bool percent_text(struct percent *p, const struct conversion *c, struct value v, char type)
{
    size_t begin = build_begin(p->vm);
    struct value text = v;
    if (type == 's' ? !jinja_print(p->vm, &p->vm->scratch, v)
                    : !(type == 'r' ? jinja_repr(p->vm, &p->vm->scratch, v) : jinja_ascii(p->vm, &p->vm->scratch, v)))
        return false;
    if (!build_end(p->vm, begin, &text))
        return false;
    text.safe = type == 's' && v.kind == K_STRING && v.safe;
    if (p->markup && !jinja_escape(p->vm, text, &text))
        return false;
    text.safe = false;
    return c->width <= 0 && c->precision < 0 ? pile_add_text(p->vm, &p->vm->scratch, text.text) : apply(p, c, text, 's');
}

static bool percent_char(struct percent *p, const struct conversion *c, struct value v)
{
    char bytes[4];
    struct value text = v;
    if (is_integer(&v) && v.kind != K_BIG) {
        v = as_integer(v);
        if (v.integer < 0 || v.integer > 0x10FFFF)
            return jinja_fail(p->vm, "%%c arg not in range(0x110000)");
        if (!text_new(p->vm, bytes, utf8_encode((uint32_t)v.integer, bytes), true, &text))
            return false;
    } else if (v.kind != K_STRING || text_count(v.text) != 1) {
        return jinja_fail(p->vm, "%%c requires int or char");
    }
    struct conversion whole = *c;
    whole.precision = -1;
    return percent_text(p, &whole, text, 's');
}

static bool percent_one(struct percent *p)
{
    struct value v = MISSING_VALUE;
    struct conversion c;
    double d;
    if (p->at < p->format->size && p->format->data[p->at] == '(' && !named_argument(p, &v))
        return false;
    if (p->at < p->format->size && p->format->data[p->at] == '%') {
        p->at++;
        return pile_add(p->vm, &p->vm->scratch, "%", 1, true);
    }
    if (!read_conversion(p, &c))
        return false;
    char type = p->format->data[p->at++];
    if (!strchr("diuoxXeEfFgGcrsa", type))
        return jinja_fail(p->vm, "unsupported format character '%s' at index %u", QUOTE(&type, (unsigned char)type < 0x80), p->at - 1);
    if (v.kind == K_MISSING && !next_argument(p, &v))
        return false;
    if (strchr("rsa", type))
        return percent_text(p, &c, v, type);
    if (type == 'c')
        return percent_char(p, &c, v);
    if (strchr("diuoxX", type))
        return percent_integer(p, &c, v, type);
    if (v.kind == K_UNDEFINED)
        return jinja_fail_undefined(p->vm, v);
    if (!is_number(&v))
        return jinja_fail(p->vm, "must be real number, not %s", jinja_type(&v));
    return number_as_double(p->vm, v, &d) && apply(p, &c, FLOAT_VALUE(d), type);
}

bool format_percent(struct vm *vm, struct value format, struct value arguments, struct value *out)
{
    struct percent p = {.vm = vm, .arguments = arguments, .markup = format.safe, .format = format.text};
    bool mapping = arguments.kind == K_DICT || arguments.kind == K_LIST || arguments.kind == K_UNDEFINED || arguments.kind == K_RANGE;
    size_t begin = build_begin(vm);
    while (p.at < p.format->size) {
        const char *sign = memchr(p.format->data + p.at, '%', p.format->size - p.at);
        uint32_t to = sign ? (uint32_t)(sign - p.format->data) : p.format->size;
        if (!pile_add_slice(vm, &vm->scratch, p.format, p.at, to - p.at))
            return false;
        p.at = to + (sign != NULL);
        if (sign && (!jinja_step(vm) || !percent_one(&p)))
            return false;
    }
    uint32_t count = arguments.kind == K_TUPLE ? arguments.list->count : 1;
    if (p.next < count && !mapping)
        return jinja_fail(vm, "not all arguments converted during string formatting");
    if (!build_end(vm, begin, out))
        return false;
    out->safe = format.safe;
    return true;
}

/* ---- str.format ----------------------------------------------------------------------------------------------------- */

struct fields {
    struct vm *vm;
    const struct args *args;
    const struct dict *mapping; /* format_map */
    int64_t automatic;          /* next number of {}, -1: numbers are given */
    bool markup;
};

static bool format_fields(struct fields *f, const struct text *t, int depth);

static bool first_value(struct fields *f, const struct text *name, struct value *out)
{
    struct vm *vm = f->vm;
    int64_t index = 0;
    bool digits = name->size > 0;
    for (uint32_t i = 0; i < name->size && digits; i++) {
        digits = name->data[i] >= '0' && name->data[i] <= '9';
        index = index < INT32_MAX ? index * 10 + name->data[i] - '0' : index;
    }
    if (!name->size || digits) {
        if (!name->size && f->automatic < 0)
            return jinja_fail(vm, "cannot switch from manual field specification to automatic field numbering");
        if (digits && f->automatic > 0)
            return jinja_fail(vm, "cannot switch from automatic field numbering to manual field specification");
        index = digits ? index : f->automatic++;
        if (digits)
            f->automatic = -1;
        if (f->mapping || index >= f->args->count)
            return jinja_fail(vm, "replacement index %lld out of range for positional args", (long long)index);
        *out = f->args->items[index];
        return true;
    }
    if (f->mapping) {
        const struct value *found = dict_find(f->mapping, name);
        if (found) {
            *out = *found;
            return true;
        }
    }
    for (uint32_t i = 0; !f->mapping && i < f->args->named_count; i++)
        if (text_equal(f->args->named[i].name, name)) {
            *out = f->args->named[i].value;
            return true;
        }
    return jinja_fail(vm, "the format's field '%s' was not given", QUOTE(name->data, name->size));
}

/* name.attribute[item]...: looked up as the sandbox allows. */
static bool field_value(struct fields *f, const struct text *name, struct value *out)
{
    struct vm *vm = f->vm;
    struct value part;
    uint32_t at = 0;
    while (at < name->size && name->data[at] != '.' && name->data[at] != '[')
        at++;
    if (!text_slice(vm, name, 0, at, &part) || !first_value(f, part.text, out))
        return false;
    while (at < name->size) {
        bool item = name->data[at++] == '[';
        uint32_t from = at;
        while (at < name->size && (item ? name->data[at] != ']' : name->data[at] != '.' && name->data[at] != '['))
            at++;
        if (from == at || (item && at == name->size))
            return jinja_fail(vm, "empty attribute or missing ']' in format string");
        if (!text_slice(vm, name, from, at - from, &part))
            return false;
        int64_t index = 0;
        bool digits = item;
        for (uint32_t i = 0; i < part.text->size && digits; i++) {
            digits = part.text->data[i] >= '0' && part.text->data[i] <= '9';
            index = index < INT32_MAX ? index * 10 + part.text->data[i] - '0' : index;
        }
        if (!(item ? jinja_getitem(vm, *out, digits ? INT_VALUE(index) : part, out) : jinja_getattr(vm, *out, part.text, out)))
            return false;
        at += item;
        if (item && at < name->size && name->data[at] != '.' && name->data[at] != '[')
            return jinja_fail(vm, "only '.' or '[' may follow ']' in format field specifier");
    }
    return true;
}

static bool convert(struct fields *f, char conversion, struct value *v)
{
    size_t begin = build_begin(f->vm);
    if (conversion != 'r' && conversion != 's' && conversion != 'a')
        return jinja_fail(f->vm, "unknown conversion specifier '%c'", conversion > ' ' && conversion < 0x7F ? conversion : '?');
    if (conversion == 's')
        return jinja_str(f->vm, *v, v);
    return (conversion == 'r' ? jinja_repr(f->vm, &f->vm->scratch, *v) : jinja_ascii(f->vm, &f->vm->scratch, *v)) &&
           build_end(f->vm, begin, v);
}

/* One {field!conversion:spec}, without its braces. */
static bool format_field(struct fields *f, const struct text *t, int depth)
{
    struct vm *vm = f->vm;
    struct value name, spec = TEXT_VALUE(&text_empty), v, text;
    uint32_t at = 0;
    bool bracket = false;
    for (; at < t->size; at++) {
        char c = t->data[at];
        if (c == '{')
            return jinja_fail(vm, "unexpected '{' in field name");
        bracket = c == '[' ? true : c == ']' ? false : bracket;
        if (!bracket && (c == '!' || c == ':'))
            break;
    }
    if (!text_slice(vm, t, 0, at, &name) || !field_value(f, name.text, &v))
        return false;
    if (at < t->size && t->data[at] == '!') {
        if (at + 1 >= t->size || (at + 2 < t->size && t->data[at + 2] != ':'))
            return jinja_fail(vm, "expected ':' after conversion specifier");
        if (!convert(f, t->data[at + 1], &v))
            return false;
        at += 2;
    }
    size_t begin;
    if (at < t->size) {
        begin = build_begin(vm);
        if (!text_slice(vm, t, at + 1, t->size - at - 1, &spec) || !format_fields(f, spec.text, depth + 1) || !build_end(vm, begin, &spec))
            return false;
    }
    if (!f->markup)
        return format_spec(vm, &vm->scratch, v, spec.text);
    if (v.kind == K_STRING && v.safe && spec.text->size)
        return jinja_fail(vm, "unsupported format specification for Markup");
    begin = build_begin(vm);
    if (!format_spec(vm, &vm->scratch, v, spec.text) || !build_end(vm, begin, &text))
        return false;
    text.safe = v.kind == K_STRING && v.safe;
    return jinja_escape(vm, text, &text) && pile_add_text(vm, &vm->scratch, text.text);
}

static bool format_fields(struct fields *f, const struct text *t, int depth)
{
    struct vm *vm = f->vm;
    if (depth > 2)
        return jinja_fail(vm, "max string recursion exceeded");
    uint32_t at = 0;
    while (at < t->size) {
        char c = t->data[at];
        uint32_t from = at, end;
        if (c != '{' && c != '}') {
            while (at < t->size && t->data[at] != '{' && t->data[at] != '}')
                at++;
            if (!pile_add_slice(vm, &vm->scratch, t, from, at - from))
                return false;
            continue;
        }
        if (at + 1 < t->size && t->data[at + 1] == c) {
            if (!pile_add_slice(vm, &vm->scratch, t, at, 1))
                return false;
            at += 2;
            continue;
        }
        if (c == '}')
            return jinja_fail(vm, "single '}' encountered in format string");
        int open = 1;
        for (end = at + 1; end < t->size; end++) {
            open += (t->data[end] == '{') - (t->data[end] == '}');
            if (!open)
                break;
        }
        if (open)
            return jinja_fail(vm, "expected '}' before end of string");
        struct value field;
        if (!jinja_step(vm) || !text_slice(vm, t, at + 1, end - at - 1, &field) || !format_field(f, field.text, depth))
            return false;
        at = end + 1;
    }
    return true;
}

static bool format_string(struct vm *vm, struct value self, struct fields *f, struct value *out)
{
    size_t begin = build_begin(vm);
    f->vm = vm;
    f->markup = self.safe;
    if (!format_fields(f, self.text, 1) || !build_end(vm, begin, out))
        return false;
    out->safe = self.safe;
    return true;
}

bool method_format(struct vm *vm, struct value self, const struct args *args, struct value *out)
{
    return format_string(vm, self, &(struct fields){.args = args}, out);
}

bool method_format_map(struct vm *vm, struct value self, const struct args *args, struct value *out)
{
    struct value mapping;
    struct dict none = {0};
    if (!jinja_bind(vm, "format_map", "mapping /", args, &mapping))
        return false;
    return format_string(vm, self, &(struct fields){.args = &(struct args){0}, .mapping = mapping.kind == K_DICT ? mapping.dict : &none}, out);
}
