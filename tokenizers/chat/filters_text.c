/* Filters over strings. */
#include "tokenizers/chat/chat.h"

#include <string.h>

#include "base/utf8.h"

#define STR(name) bool filter_##name(struct vm *vm, struct value self, const struct args *args, struct value *out)

static bool none(struct vm *vm, const char *name, const struct args *args)
{
    return jinja_bind(vm, name, "", args, NULL);
}

static bool change(struct vm *vm, const char *name, struct value self, const struct args *args, enum letter_case to, struct value *out)
{
    size_t begin = build_begin(vm);
    if (!none(vm, name, args) || !jinja_soft_str(vm, self, &self) || !text_change_case(vm, &vm->scratch, self.text, to) ||
        !build_end(vm, begin, out))
        return false;
    out->safe = self.safe;
    return true;
}

STR(upper) { return change(vm, "upper", self, args, CASE_UPPER, out); }
STR(lower) { return change(vm, "lower", self, args, CASE_LOWER, out); }

STR(capitalize)
{
    size_t begin = build_begin(vm);
    if (!none(vm, "capitalize", args) || !jinja_soft_str(vm, self, &self) || !text_capitalize(vm, &vm->scratch, self.text) ||
        !build_end(vm, begin, out))
        return false;
    out->safe = self.safe;
    return true;
}

/* Words begin behind white space and any of - ( { [ <; unlike str.title(), not behind an apostrophe. */
STR(title)
{
    if (!none(vm, "title", args) || !jinja_soft_str(vm, self, &self))
        return false;
    size_t begin = build_begin(vm);
    const struct text *t = self.text;
    for (uint32_t at = 0; at < t->size;) {
        uint32_t end = at, n = 0, c = 0;
        bool separator = false;
        while (end < t->size) { /* a run of separators, or of other characters */
            n = (uint32_t)utf8_decode(t->data + end, t->size - end, &c);
            bool is = unicode_is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
            if (end > at && is != separator)
                break;
            separator = is;
            end += n;
        }
        struct value word, tail;
        uint32_t first = (uint32_t)utf8_decode(t->data + at, end - at, &c);
        if (!text_slice(vm, t, at, first, &word) || !text_slice(vm, t, at + first, end - at - first, &tail) ||
            !text_change_case(vm, &vm->scratch, word.text, CASE_UPPER) || !text_change_case(vm, &vm->scratch, tail.text, CASE_LOWER))
            return false;
        at = end;
    }
    return build_end(vm, begin, out);
}

STR(trim)
{
    struct value v;
    const struct text *chars = NULL;
    if (!jinja_bind(vm, "trim", "chars?", args, &v) || !jinja_soft_str(vm, self, &self))
        return false;
    if (v.kind != K_MISSING && v.kind != K_NONE && !jinja_as_text(vm, v, &chars))
        return false;
    if (!jinja_work(vm, 0) || !text_trim(vm, self.text, chars, true, true, out))
        return false;
    out->safe = self.safe;
    return true;
}

STR(replace)
{
    struct value v[3], old, new;
    if (!jinja_bind(vm, "replace", "old new count?", args, v))
        return false;
    struct value count = v[2].kind == K_NONE ? MISSING_VALUE : v[2];
    if (vm->autoescape && ((v[0].kind == K_STRING && v[0].safe) || (v[1].kind == K_STRING && v[1].safe && !(self.kind == K_STRING && self.safe)))) {
        if (!jinja_escape(vm, self, &self))
            return false;
    } else if (!(vm->autoescape ? jinja_soft_str(vm, self, &self) : jinja_str(vm, self, &self))) {
        return false;
    }
    if (!jinja_soft_str(vm, v[0], &old) || !jinja_soft_str(vm, v[1], &new))
        return false;
    struct value items[3] = {old, new, count};
    return method_replace(vm, self, &(struct args){.items = items, .count = count.kind == K_MISSING ? 2 : 3}, out);
}

STR(string) { return none(vm, "string", args) && jinja_soft_str(vm, self, out); }

STR(safe)
{
    if (!none(vm, "safe", args) || !jinja_str(vm, self, out))
        return false;
    out->safe = true;
    return true;
}

STR(escape) { return none(vm, "escape", args) && jinja_escape(vm, self, out); }

STR(forceescape)
{
    if (!none(vm, "forceescape", args) || !jinja_str(vm, self, &self))
        return false;
    return jinja_escape(vm, self, out);
}

STR(format)
{
    struct value arguments;
    if (args->count && args->named_count)
        return jinja_fail(vm, "format takes positional or keyword arguments, not both");
    if (!jinja_soft_str(vm, self, &self))
        return false;
    if (!args->named_count)
        return list_new(vm, K_TUPLE, args->items, args->count, &arguments) && format_percent(vm, self, arguments, out);
    struct dict *d = dict_new(vm, args->named_count);
    for (uint32_t i = 0; d && i < args->named_count; i++)
        if (!dict_set(vm, d, TEXT_VALUE(args->named[i].name), args->named[i].value))
            return false;
    return d && format_percent(vm, self, (struct value){.kind = K_DICT, .dict = d}, out);
}

STR(center)
{
    struct value width;
    if (!jinja_bind(vm, "center", "width?", args, &width) || !jinja_soft_str(vm, self, &self))
        return false;
    if (width.kind == K_MISSING)
        width = INT_VALUE(80);
    return method_center(vm, self, &(struct args){.items = &width, .count = 1}, out);
}

/* ---- lines and words ------------------------------------------------------------------------------------------------ */

static bool indentation(struct vm *vm, struct value width, struct value *out)
{
    if (width.kind == K_STRING) {
        *out = width;
        return true;
    }
    int64_t n;
    size_t begin = build_begin(vm);
    static const struct text space = {.data = " ", .size = 1, .count = 1, .own = true};
    return jinja_int_or(vm, width, 4, &n) && pile_repeat(vm, &vm->scratch, &space, n) && build_end(vm, begin, out);
}

STR(indent)
{
    struct value v[3], gap, lines;
    bool first, blank;
    if (!jinja_bind(vm, "indent", "width? first? blank?", args, v) || !jinja_flag(vm, v[1], false, &first) ||
        !jinja_flag(vm, v[2], false, &blank) || !indentation(vm, v[0], &gap))
        return false;
    if (self.kind != K_STRING)
        return self.kind == K_UNDEFINED ? jinja_fail_undefined(vm, self)
                                        : jinja_fail(vm, "unsupported operand type(s) for +=: '%s' and 'str'", jinja_type(&self));
    if (self.safe && gap.kind == K_STRING && !gap.safe && v[0].kind == K_STRING)
        gap.safe = true;
    else if (!self.safe && gap.safe && !jinja_escape(vm, self, &self))
        return false;
    if (!method_splitlines(vm, self, &(struct args){0}, &lines))
        return false;
    size_t begin = build_begin(vm);
    uint32_t count = lines.list->count;
    bool newline_end = self.text->size && self.text->data[self.text->size - 1] == '\n'; /* Python adds one more newline before splitting */
    static const struct text empty_line = {.data = "", .own = true};
    for (uint32_t i = 0; i < count + (newline_end || !count); i++) {
        const struct text *line = i < count ? lines.list->items[i].text : &empty_line;
        bool indented = i == 0 ? first : blank || line->size;
        if ((i && !pile_add(vm, &vm->scratch, "\n", 1, true)) || (indented && !pile_add_text(vm, &vm->scratch, gap.text)) ||
            !pile_add_text(vm, &vm->scratch, line))
            return false;
    }
    if (!build_end(vm, begin, out))
        return false;
    out->safe = self.safe;
    return true;
}

STR(truncate)
{
    struct value v[4], end, head, space;
    int64_t length, leeway, size, end_size;
    bool kill;
    const struct text *t;
    if (!jinja_bind(vm, "truncate", "length? killwords? end? leeway?", args, v) || !jinja_int_or(vm, v[0], 255, &length) ||
        !jinja_flag(vm, v[1], false, &kill) || !jinja_int_or(vm, v[3].kind == K_NONE ? MISSING_VALUE : v[3], 5, &leeway))
        return false;
    end = v[2];
    if (end.kind == K_MISSING && !text_word(vm, "...", &end))
        return false;
    if (!jinja_as_text(vm, end, &t) || !jinja_length(vm, end, &end_size, NULL) || !jinja_length(vm, self, &size, NULL))
        return false;
    if (length < end_size || leeway < 0)
        return jinja_fail(vm, "truncate: the length must be at least %lld and the leeway not negative", (long long)end_size);
    if (size <= length + leeway) {
        *out = self;
        return true;
    }
    if (!jinja_slice(vm, self, NONE_VALUE, INT_VALUE(length - end_size), NONE_VALUE, &head))
        return false;
    if (!kill) {
        if (!text_word(vm, " ", &space) || !jinja_as_text(vm, head, &t))
            return false;
        int64_t at;
        bool safe = head.safe;
        if (!text_find_last(vm, t, 0, t->size, space.text, &at))
            return false;
        if (at >= 0 && !text_slice(vm, t, 0, (uint32_t)at, &head))
            return false;
        head.safe = safe;
    }
    return jinja_binary(vm, OP_ADD, head, end, out);
}

STR(wordcount)
{
    int64_t count = 0;
    bool inside = false;
    if (!none(vm, "wordcount", args) || !jinja_soft_str(vm, self, &self))
        return false;
    for (uint32_t at = 0, c; at < self.text->size;) { /* runs of letters, digits and _ */
        at += (uint32_t)utf8_decode(self.text->data + at, self.text->size - at, &c);
        bool word = c == '_' || unicode_is_alpha(c) || unicode_is_numeric(c);
        count += word && !inside;
        inside = word;
    }
    *out = INT_VALUE(count);
    return jinja_work(vm, self.text->size);
}

/* ---- HTML and URLs -------------------------------------------------------------------------------------------------- */

STR(striptags)
{
    if (!none(vm, "striptags", args) || !jinja_str(vm, self, &self))
        return false;
    const struct text *t = self.text;
    size_t begin = build_begin(vm);
    uint32_t at = 0;
    for (;;) { /* tags and comments out, as far as they are closed */
        const char *open = memchr(t->data + at, '<', t->size - at);
        if (!open)
            break;
        uint32_t from = (uint32_t)(open - t->data), left = t->size - from;
        bool comment = left >= 4 && memcmp(open, "<!--", 4) == 0;
        const char *close = comment ? memmem(open + 4, left - 4, "-->", 3) : memchr(open, '>', left);
        if (!close)
            break;
        if (!pile_add_slice(vm, &vm->scratch, t, at, from - at))
            return false;
        at = (uint32_t)(close - t->data) + (comment ? 3 : 1);
    }
    struct value plain, words;
    if (!pile_add_slice(vm, &vm->scratch, t, at, t->size - at) || !build_end(vm, begin, &plain) ||
        !method_split(vm, plain, &(struct args){0}, &words))
        return false;
    static const struct {
        const char *name, *text;
    } entities[] = {{"&amp;", "&"}, {"&lt;", "<"}, {"&gt;", ">"}, {"&quot;", "\""}, {"&#34;", "\""}, {"&#39;", "'"}, {"&nbsp;", "\xC2\xA0"}};
    begin = build_begin(vm);
    for (uint32_t i = 0; i < words.list->count; i++) {
        const struct text *w = words.list->items[i].text;
        if (i && !pile_add(vm, &vm->scratch, " ", 1, true))
            return false;
        for (uint32_t k = 0, n; k < w->size; k += n) {
            size_t e = 0;
            n = 1;
            while (e < sizeof entities / sizeof *entities &&
                   !(w->size - k >= strlen(entities[e].name) && memcmp(w->data + k, entities[e].name, strlen(entities[e].name)) == 0))
                e++;
            bool known = e < sizeof entities / sizeof *entities;
            if (known)
                n = (uint32_t)strlen(entities[e].name);
            if (!(known ? pile_add_like(vm, &vm->scratch, w, k, entities[e].text, strlen(entities[e].text)) : pile_add_slice(vm, &vm->scratch, w, k, 1)))
                return false;
        }
    }
    return build_end(vm, begin, out);
}

STR(xmlattr)
{
    struct value v;
    bool space, some = false;
    if (!jinja_bind(vm, "xmlattr", "autospace?", args, &v) || !jinja_flag(vm, v, true, &space))
        return false;
    if (self.kind != K_DICT)
        return jinja_fail(vm, "xmlattr needs a mapping, not %s", jinja_type(&self));
    size_t begin = build_begin(vm);
    for (uint32_t i = 0; i < self.dict->count; i++) {
        struct value key = self.dict->entries[i].key, value = self.dict->entries[i].value;
        const struct text *name;
        if (value.kind == K_NONE || value.kind == K_UNDEFINED)
            continue;
        if (!jinja_as_text(vm, key, &name))
            return false;
        for (uint32_t k = 0; k < name->size; k++)
            if (name->data[k] && strchr(" \t\n\r\f\v/>=", name->data[k]))
                return jinja_fail(vm, "xmlattr: the attribute name '%s' holds a character that none may have", QUOTE(name->data, name->size));
        if ((space || some) && !pile_add(vm, &vm->scratch, " ", 1, true))
            return false;
        some = true;
        if (!jinja_escape(vm, key, &key) || !jinja_escape(vm, value, &value) || !pile_add_text(vm, &vm->scratch, key.text) ||
            !pile_add_word(vm, &vm->scratch, "=\"") || !pile_add_text(vm, &vm->scratch, value.text) || !pile_add_word(vm, &vm->scratch, "\""))
            return false;
    }
    if (!build_end(vm, begin, out))
        return false;
    out->safe = vm->autoescape;
    return true;
}

static bool quote_url(struct vm *vm, const struct text *t, bool query)
{
    for (uint32_t i = 0; i < t->size; i++) {
        unsigned char c = (unsigned char)t->data[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c && c < 0x80 && strchr("_.-~", c)) ||
                     (c == '/' && !query);
        char escaped[4] = {'%', "0123456789ABCDEF"[c >> 4], "0123456789ABCDEF"[c & 15], 0};
        if (!(plain ? pile_add_slice(vm, &vm->scratch, t, i, 1)
                    : pile_add_like(vm, &vm->scratch, t, i, c == ' ' && query ? "+" : escaped, c == ' ' && query ? 1 : 3)))
            return false;
    }
    return true;
}

static bool quote_pair(struct vm *vm, struct value key, struct value value)
{
    return jinja_str(vm, key, &key) && jinja_str(vm, value, &value) && quote_url(vm, key.text, true) &&
           pile_add(vm, &vm->scratch, "=", 1, true) && quote_url(vm, value.text, true);
}

STR(urlencode)
{
    size_t begin = build_begin(vm);
    if (!none(vm, "urlencode", args))
        return false;
    if (self.kind == K_STRING || !iter_possible(self)) {
        if (!jinja_str(vm, self, &self) || !quote_url(vm, self.text, false))
            return false;
        return build_end(vm, begin, out);
    }
    struct value pairs = self, *items;
    uint32_t count;
    if (self.kind == K_DICT && !method_dict_items(vm, self, args, &pairs))
        return false;
    if (!iter_collect(vm, pairs, &items, &count))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        struct value *pair;
        uint32_t two;
        if (!iter_collect(vm, items[i], &pair, &two))
            return false;
        if (two != 2)
            return jinja_fail(vm, "urlencode needs pairs");
        if ((i && !pile_add(vm, &vm->scratch, "&", 1, true)) || !quote_pair(vm, pair[0], pair[1]))
            return false;
    }
    return build_end(vm, begin, out);
}
