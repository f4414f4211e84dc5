/* Methods of strings. */
#include "tokenizers/chat/chat.h"

#include <string.h>

#include "base/utf8.h"

#define METHOD_OF(name) bool method_##name(struct vm *vm, struct value self, const struct args *args, struct value *out)

static bool none(struct vm *vm, const char *name, const struct args *args) { return jinja_bind(vm, name, "", args, NULL); }

/* ---- case and classes ----------------------------------------------------------------------------------------------- */

static bool change(struct vm *vm, const char *name, struct value self, const struct args *args, enum letter_case to, struct value *out)
{
    size_t begin = build_begin(vm);
    if (!none(vm, name, args) || !text_change_case(vm, &vm->scratch, self.text, to) || !build_end(vm, begin, out))
        return false;
    out->safe = self.safe;
    return true;
}

METHOD_OF(upper) { return change(vm, "upper", self, args, CASE_UPPER, out); }
METHOD_OF(lower) { return change(vm, "lower", self, args, CASE_LOWER, out); }
METHOD_OF(swapcase) { return change(vm, "swapcase", self, args, CASE_SWAP, out); }
METHOD_OF(casefold) { return change(vm, "casefold", self, args, CASE_FOLD, out); }

METHOD_OF(title)
{
    size_t begin = build_begin(vm);
    if (!none(vm, "title", args) || !text_title(vm, &vm->scratch, self.text) || !build_end(vm, begin, out))
        return false;
    out->safe = self.safe;
    return true;
}

METHOD_OF(capitalize)
{
    size_t begin = build_begin(vm);
    if (!none(vm, "capitalize", args) || !text_capitalize(vm, &vm->scratch, self.text) || !build_end(vm, begin, out))
        return false;
    out->safe = self.safe;
    return true;
}

/* All characters of a class; empty: what the empty string gives. */
static bool all(struct vm *vm, const char *name, struct value self, const struct args *args, bool is(uint32_t), bool empty, struct value *out)
{
    const struct text *t = self.text;
    bool result = t->size || empty;
    for (uint32_t at = 0, c; result && at < t->size;) {
        at += (uint32_t)utf8_decode(t->data + at, t->size - at, &c);
        result = is(c);
    }
    *out = BOOL_VALUE(result);
    return none(vm, name, args) && jinja_work(vm, t->size);
}

static bool is_alnum(uint32_t c) { return unicode_is_alpha(c) || unicode_is_numeric(c); }
static bool is_ascii(uint32_t c) { return c < 0x80; }

METHOD_OF(isalnum) { return all(vm, "isalnum", self, args, is_alnum, false, out); }
METHOD_OF(isalpha) { return all(vm, "isalpha", self, args, unicode_is_alpha, false, out); }
METHOD_OF(isascii) { return all(vm, "isascii", self, args, is_ascii, true, out); }
METHOD_OF(isdecimal) { return all(vm, "isdecimal", self, args, unicode_is_decimal, false, out); }
METHOD_OF(isdigit) { return all(vm, "isdigit", self, args, unicode_is_digit, false, out); }
METHOD_OF(isnumeric) { return all(vm, "isnumeric", self, args, unicode_is_numeric, false, out); }
METHOD_OF(isprintable) { return all(vm, "isprintable", self, args, unicode_is_printable, true, out); }
METHOD_OF(isspace) { return all(vm, "isspace", self, args, unicode_is_space, false, out); }

METHOD_OF(isidentifier)
{
    const struct text *t = self.text;
    bool result = t->size > 0;
    for (uint32_t at = 0, c; result && at < t->size;) {
        uint32_t n = (uint32_t)utf8_decode(t->data + at, t->size - at, &c);
        result = unicode_is_name(c, at == 0);
        at += n;
    }
    *out = BOOL_VALUE(result);
    return none(vm, "isidentifier", args) && jinja_work(vm, t->size);
}

static bool only_case(struct vm *vm, const char *name, struct value self, const struct args *args, bool upper, struct value *out)
{
    const struct text *t = self.text;
    bool some = false, wrong = false;
    for (uint32_t at = 0, c; !wrong && at < t->size;) {
        at += (uint32_t)utf8_decode(t->data + at, t->size - at, &c);
        bool is_upper = unicode_is_upper(c), is_lower = unicode_is_lower(c);
        wrong = (upper ? is_lower : is_upper) || unicode_is_title(c);
        some |= upper ? is_upper : is_lower;
    }
    *out = BOOL_VALUE(some && !wrong);
    return none(vm, name, args) && jinja_work(vm, t->size);
}

METHOD_OF(isupper) { return only_case(vm, "isupper", self, args, true, out); }
METHOD_OF(islower) { return only_case(vm, "islower", self, args, false, out); }

METHOD_OF(istitle)
{
    const struct text *t = self.text;
    bool some = false, wrong = false, in_word = false;
    for (uint32_t at = 0, c; !wrong && at < t->size;) {
        at += (uint32_t)utf8_decode(t->data + at, t->size - at, &c);
        bool upper = unicode_is_upper(c) || unicode_is_title(c), lower = unicode_is_lower(c);
        wrong = (upper && in_word) || (lower && !in_word);
        in_word = upper || lower;
        some |= in_word;
    }
    *out = BOOL_VALUE(some && !wrong);
    return none(vm, "istitle", args) && jinja_work(vm, t->size);
}

/* ---- trimming ------------------------------------------------------------------------------------------------------- */

static bool strip(struct vm *vm, const char *name, struct value self, const struct args *args, bool left, bool right, struct value *out)
{
    struct value v;
    const struct text *chars = NULL;
    if (!jinja_bind(vm, name, "chars? /", args, &v) || (v.kind != K_MISSING && v.kind != K_NONE && !jinja_as_text(vm, v, &chars)) ||
        !text_trim(vm, self.text, chars, left, right, out))
        return false;
    out->safe = self.safe;
    return true;
}

METHOD_OF(strip) { return strip(vm, "strip", self, args, true, true, out); }
METHOD_OF(lstrip) { return strip(vm, "lstrip", self, args, true, false, out); }
METHOD_OF(rstrip) { return strip(vm, "rstrip", self, args, false, true, out); }

static bool remove_affix(struct vm *vm, const char *name, struct value self, const struct args *args, bool suffix, struct value *out)
{
    struct value v;
    const struct text *what, *t = self.text;
    if (!jinja_bind(vm, name, "affix /", args, &v) || !jinja_as_text(vm, v, &what))
        return false;
    bool found = what->size <= t->size && memcmp(t->data + (suffix ? t->size - what->size : 0), what->data, what->size) == 0;
    uint32_t cut = found ? what->size : 0;
    if (!text_slice(vm, t, suffix ? 0 : cut, t->size - cut, out))
        return false;
    out->safe = self.safe;
    return true;
}

METHOD_OF(removeprefix) { return remove_affix(vm, "removeprefix", self, args, false, out); }
METHOD_OF(removesuffix) { return remove_affix(vm, "removesuffix", self, args, true, out); }

/* ---- finding -------------------------------------------------------------------------------------------------------- */

/* The part of self that start and end leave, in bytes. false in *inside: start lies behind the end. */
static bool window(struct vm *vm, struct value self, struct value vstart, struct value vend, uint32_t *from, uint32_t *to, bool *inside)
{
    int64_t count = text_count(self.text), start, end;
    if (!jinja_int_or(vm, vstart.kind == K_NONE ? MISSING_VALUE : vstart, 0, &start) ||
        !jinja_int_or(vm, vend.kind == K_NONE ? MISSING_VALUE : vend, count, &end) || !jinja_work(vm, self.text->size))
        return false;
    start = start < 0 ? (start + count < 0 ? 0 : start + count) : start;
    end = end < 0 ? (end + count < 0 ? 0 : end + count) : end > count ? count : end;
    *inside = start <= end;
    *from = text_offset(self.text, start > count ? (uint32_t)count : (uint32_t)start);
    *to = text_offset(self.text, (uint32_t)end);
    return true;
}

static int64_t char_index(const struct text *t, int64_t byte)
{
    int64_t index = 0;
    if (byte < 0 || text_count(t) == t->size)
        return byte;
    for (int64_t i = 0; i < byte; i++)
        index += ((unsigned char)t->data[i] & 0xC0) != 0x80;
    return index;
}

static bool find(struct vm *vm, const char *name, struct value self, const struct args *args, bool last, bool must, struct value *out)
{
    struct value v[3];
    const struct text *what;
    uint32_t from, to;
    bool inside;
    if (!jinja_bind(vm, name, "sub start? end? /", args, v) || !jinja_as_text(vm, v[0], &what) ||
        !window(vm, self, v[1], v[2], &from, &to, &inside))
        return false;
    int64_t at = -1;
    if (inside && last) {
        if (!text_find_last(vm, self.text, from, to, what, &at))
            return false;
    } else if (inside) {
        at = text_find(self.text, from, what);
        at = at >= 0 && at + what->size <= to ? at : -1;
    }
    if (at < 0 && must)
        return jinja_fail(vm, "substring not found");
    *out = INT_VALUE(char_index(self.text, at));
    return true;
}

METHOD_OF(find) { return find(vm, "find", self, args, false, false, out); }
METHOD_OF(rfind) { return find(vm, "rfind", self, args, true, false, out); }
METHOD_OF(index) { return find(vm, "index", self, args, false, true, out); }
METHOD_OF(rindex) { return find(vm, "rindex", self, args, true, true, out); }

METHOD_OF(count)
{
    struct value v[3];
    const struct text *what;
    uint32_t from, to;
    bool inside;
    int64_t count = 0;
    if (!jinja_bind(vm, "count", "sub start? end? /", args, v) || !jinja_as_text(vm, v[0], &what) ||
        !window(vm, self, v[1], v[2], &from, &to, &inside))
        return false;
    if (inside && !what->size)
        count = char_index(self.text, to) - char_index(self.text, from) + 1;
    for (int64_t at; inside && what->size && (at = text_find(self.text, from, what)) >= 0 && at + what->size <= to; count++)
        from = (uint32_t)at + what->size;
    *out = INT_VALUE(count);
    return true;
}

static bool affix(struct vm *vm, const char *name, struct value self, const struct args *args, bool end, struct value *out)
{
    struct value v[3];
    uint32_t from, to;
    bool inside, found = false;
    if (!jinja_bind(vm, name, "prefix start? end? /", args, v) || !window(vm, self, v[1], v[2], &from, &to, &inside))
        return false;
    bool tuple = v[0].kind == K_TUPLE;
    if (!tuple && v[0].kind != K_STRING)
        return jinja_fail(vm, "%s first arg must be str or a tuple of str, not %s", name, jinja_type(&v[0]));
    for (uint32_t i = 0; i < (tuple ? v[0].list->count : 1) && !found; i++) {
        const struct text *what;
        if (!jinja_as_text(vm, tuple ? v[0].list->items[i] : v[0], &what))
            return false;
        found = inside && what->size <= to - from && memcmp(self.text->data + (end ? to - what->size : from), what->data, what->size) == 0;
    }
    *out = BOOL_VALUE(found);
    return true;
}

METHOD_OF(startswith) { return affix(vm, "startswith", self, args, false, out); }
METHOD_OF(endswith) { return affix(vm, "endswith", self, args, true, out); }

METHOD_OF(replace)
{
    struct value v[3], new;
    const struct text *old, *t = self.text;
    int64_t count, at;
    if (!jinja_bind(vm, "replace", "old new count? /", args, v) || !jinja_as_text(vm, v[0], &old) || !jinja_int_or(vm, v[2], -1, &count))
        return false;
    if (v[1].kind != K_STRING)
        return jinja_fail(vm, "replace() argument 2 must be str, not %s", jinja_type(&v[1]));
    new = v[1];
    if (self.safe && !jinja_escape(vm, new, &new))
        return false;
    size_t begin = build_begin(vm);
    uint32_t from = 0;
    while (count != 0 && from <= t->size && (at = text_find(t, from, old)) >= 0) {
        uint32_t step = old->size, c;
        if (!old->size && from < t->size) /* between all characters */
            step = (uint32_t)utf8_decode(t->data + from, t->size - from, &c);
        if (!pile_add_slice(vm, &vm->scratch, t, from, (uint32_t)at - from) || !pile_add_text(vm, &vm->scratch, new.text) ||
            (!old->size && !pile_add_slice(vm, &vm->scratch, t, from, step)))
            return false;
        from = old->size ? (uint32_t)at + step : from + step + (from == t->size);
        count -= count > 0;
    }
    if ((from < t->size && !pile_add_slice(vm, &vm->scratch, t, from, t->size - from)) || !build_end(vm, begin, out))
        return false;
    out->safe = self.safe;
    return jinja_work(vm, t->size);
}

/* ---- joining and padding -------------------------------------------------------------------------------------------- */

METHOD_OF(join)
{
    struct value v, item;
    struct iter it;
    int more;
    if (!jinja_bind(vm, "join", "iterable /", args, &v) || !iter_begin(vm, v, &it))
        return false;
    size_t begin = build_begin(vm);
    for (uint32_t i = 0; (more = iter_next(vm, &it, &item)) > 0; i++) {
        if (self.safe ? !jinja_escape(vm, item, &item) : item.kind != K_STRING)
            return jinja_fail(vm, "sequence item %u: expected str instance, %s found", i, jinja_type(&item));
        if ((i && !pile_add_text(vm, &vm->scratch, self.text)) || !pile_add_text(vm, &vm->scratch, item.text))
            return false;
    }
    if (more < 0 || !build_end(vm, begin, out))
        return false;
    out->safe = self.safe;
    return true;
}

static bool pad(struct vm *vm, const char *name, struct value self, const struct args *args, bool left, bool right, struct value *out)
{
    static const struct text space = {.data = " ", .size = 1, .count = 1, .own = true};
    struct value v[2];
    const struct text *fill = &space;
    int64_t width, count = text_count(self.text);
    if (!jinja_bind(vm, name, "width fillchar? /", args, v) || !jinja_as_int(vm, v[0], &width) ||
        (v[1].kind != K_MISSING && !jinja_as_text(vm, v[1], &fill)))
        return false;
    if (text_count(fill) != 1)
        return jinja_fail(vm, "the fill character must be exactly one character long");
    int64_t total = width > count ? width - count : 0;
    int64_t before = !left ? 0 : !right ? total : total / 2 + (total & width & 1);
    size_t begin = build_begin(vm);
    if (!pile_repeat(vm, &vm->scratch, fill, before) || !pile_add_text(vm, &vm->scratch, self.text) ||
        !pile_repeat(vm, &vm->scratch, fill, total - before) || !build_end(vm, begin, out))
        return false;
    out->safe = self.safe;
    return true;
}

METHOD_OF(center) { return pad(vm, "center", self, args, true, true, out); }
METHOD_OF(rjust) { return pad(vm, "rjust", self, args, true, false, out); }
METHOD_OF(ljust) { return pad(vm, "ljust", self, args, false, true, out); }

METHOD_OF(zfill)
{
    static const struct text zero = {.data = "0", .size = 1, .count = 1, .own = true};
    struct value v;
    int64_t width;
    if (!jinja_bind(vm, "zfill", "width /", args, &v) || !jinja_as_int(vm, v, &width))
        return false;
    const struct text *t = self.text;
    uint32_t sign = t->size && (t->data[0] == '-' || t->data[0] == '+');
    size_t begin = build_begin(vm);
    if (!pile_add_slice(vm, &vm->scratch, t, 0, sign) || !pile_repeat(vm, &vm->scratch, &zero, width - text_count(t)) ||
        !pile_add_slice(vm, &vm->scratch, t, sign, t->size - sign) || !build_end(vm, begin, out))
        return false;
    out->safe = self.safe;
    return true;
}

METHOD_OF(expandtabs)
{
    static const struct text space = {.data = " ", .size = 1, .count = 1, .own = true};
    struct value v;
    int64_t size, column = 0;
    const struct text *t = self.text;
    if (!jinja_bind(vm, "expandtabs", "tabsize?", args, &v) || !jinja_int_or(vm, v, 8, &size))
        return false;
    size_t begin = build_begin(vm);
    for (uint32_t at = 0, n, c; at < t->size; at += n) {
        n = (uint32_t)utf8_decode(t->data + at, t->size - at, &c);
        int64_t gap = c == '\t' && size > 0 ? size - column % size : 0;
        if (!(c == '\t' ? pile_repeat(vm, &vm->scratch, &space, gap) : pile_add_slice(vm, &vm->scratch, t, at, n)))
            return false;
        column = c == '\n' || c == '\r' ? 0 : column + (c == '\t' ? gap : 1);
    }
    if (!build_end(vm, begin, out))
        return false;
    out->safe = self.safe;
    return true;
}

METHOD_OF(encode)
{
    (void)self, (void)args, (void)out;
    return jinja_fail(vm, "str.encode gives bytes, which templates here do not have");
}

METHOD_OF(translate)
{
    struct value table;
    const struct text *t = self.text;
    if (!jinja_bind(vm, "translate", "table /", args, &table))
        return false;
    if (table.kind != K_DICT)
        return jinja_fail(vm, "translate needs a dict, not %s", jinja_type(&table));
    size_t begin = build_begin(vm);
    for (uint32_t at = 0, n, c; at < t->size; at += n) {
        const struct value *found;
        n = (uint32_t)utf8_decode(t->data + at, t->size - at, &c);
        if (!dict_get(vm, table.dict, INT_VALUE(c), &found))
            return false;
        if (found && is_integer(found) && found->kind == K_INT && found->integer >= 0 && found->integer <= 0x10FFFF) {
            char bytes[4];
            if (!pile_add_like(vm, &vm->scratch, t, at, bytes, utf8_encode((uint32_t)found->integer, bytes)))
                return false;
        } else if (found && found->kind == K_STRING) {
            if (!pile_add_text(vm, &vm->scratch, found->text))
                return false;
        } else if (found && found->kind != K_NONE) {
            return jinja_fail(vm, "character mapping must give an integer, None or str");
        } else if (!found && !pile_add_slice(vm, &vm->scratch, t, at, n)) {
            return false;
        }
    }
    if (!build_end(vm, begin, out))
        return false;
    out->safe = self.safe;
    return true;
}
