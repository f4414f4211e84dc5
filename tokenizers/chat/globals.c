/* Functions that every template finds: jinja2's own, and raise_exception and strftime_now of transformers. */
#include "tokenizers/chat/chat.h"

#include <stdio.h>
#include <string.h>

enum { MAX_RANGE = 100000, TIME_TEXT = 4096 };

static bool global_range(struct vm *vm, struct value self, const struct args *args, struct value *out)
{
    struct value v[3];
    int64_t n[3] = {0, 0, 1};
    (void)self;
    if (!jinja_bind(vm, "range", "start stop? step? /", args, v))
        return false;
    for (int i = 0; i < 3; i++)
        if (!jinja_int_or(vm, v[i], n[i], &n[i]))
            return false;
    if (v[1].kind == K_MISSING) {
        n[1] = n[0];
        n[0] = 0;
    }
    if (n[2] == 0)
        return jinja_fail(vm, "range() arg 3 must not be zero");
    __int128 span = n[2] > 0 ? (__int128)n[1] - n[0] : (__int128)n[0] - n[1];
    __int128 step = n[2] > 0 ? n[2] : -(__int128)n[2];
    __int128 count = span > 0 ? (span - 1) / step + 1 : 0;
    if (count > MAX_RANGE)
        return jinja_fail(vm, "range too big: the sandbox allows %d items", MAX_RANGE);
    struct range *r = jinja_alloc(vm, 1, sizeof *r);
    if (!r)
        return false;
    *r = (struct range){.start = n[0], .stop = n[1], .step = n[2], .count = (int64_t)count};
    *out = (struct value){.kind = K_RANGE, .range = r};
    return true;
}

/* dict(...): a mapping or pairs, and keywords. */
static bool build_dict(struct vm *vm, const char *name, const struct args *args, struct dict *d)
{
    if (args->count > 1)
        return jinja_fail(vm, "%s expected at most 1 argument, got %u", name, args->count);
    if (args->count && !dict_from_pairs(vm, d, args->items[0]))
        return false;
    for (uint32_t i = 0; i < args->named_count; i++)
        if (!dict_set(vm, d, TEXT_VALUE(args->named[i].name), args->named[i].value))
            return false;
    return true;
}

static bool global_dict(struct vm *vm, struct value self, const struct args *args, struct value *out)
{
    struct dict *d = dict_new(vm, 0);
    (void)self;
    *out = (struct value){.kind = K_DICT, .dict = d};
    return d && build_dict(vm, "dict", args, d);
}

bool method_dict_fromkeys(struct vm *vm, struct value self, const struct args *args, struct value *out)
{
    struct value v[2], *keys;
    uint32_t count;
    (void)self;
    if (!jinja_bind(vm, "fromkeys", "iterable value? /", args, v) || !iter_collect(vm, v[0], &keys, &count))
        return false;
    struct dict *d = dict_new(vm, count);
    for (uint32_t i = 0; d && i < count; i++)
        if (!dict_set(vm, d, keys[i], v[1].kind == K_MISSING ? NONE_VALUE : v[1]))
            return false;
    *out = (struct value){.kind = K_DICT, .dict = d};
    return d != NULL;
}

static bool global_namespace(struct vm *vm, struct value self, const struct args *args, struct value *out)
{
    struct namespace *ns = jinja_alloc(vm, 1, sizeof *ns);
    (void)self;
    if (!ns || !build_dict(vm, "namespace", args, &ns->attributes))
        return false;
    for (uint32_t i = 0; i < ns->attributes.count; i++) {
        struct value key = ns->attributes.entries[i].key;
        if (key.kind == K_STRING && key.text->size && key.text->data[0] == '_')
            return jinja_fail(vm, "a namespace cannot hold '%s': names with a leading underscore are refused",
                              QUOTE(key.text->data, key.text->size));
    }
    *out = (struct value){.kind = K_NAMESPACE, .space = ns};
    return true;
}

static bool global_cycler(struct vm *vm, struct value self, const struct args *args, struct value *out)
{
    struct value items;
    (void)self;
    if (!args->count || args->named_count)
        return jinja_fail(vm, "cycler() needs at least one item");
    struct cycler *c = jinja_alloc(vm, 1, sizeof *c);
    if (!c || !list_new(vm, K_TUPLE, args->items, args->count, &items))
        return false;
    c->items = items.list;
    *out = (struct value){.kind = K_CYCLER, .cycler = c};
    return true;
}

bool method_cycler_next(struct vm *vm, struct value self, const struct args *args, struct value *out)
{
    if (args->count || args->named_count)
        return jinja_fail(vm, "next() takes no arguments");
    *out = self.cycler->items->items[self.cycler->at];
    self.cycler->at = (self.cycler->at + 1) % self.cycler->items->count;
    return true;
}

bool method_cycler_reset(struct vm *vm, struct value self, const struct args *args, struct value *out)
{
    if (args->count || args->named_count)
        return jinja_fail(vm, "reset() takes no arguments");
    self.cycler->at = 0;
    *out = NONE_VALUE;
    return true;
}

static bool global_joiner(struct vm *vm, struct value self, const struct args *args, struct value *out)
{
    struct value separator;
    (void)self;
    struct joiner *j = jinja_alloc(vm, 1, sizeof *j);
    if (!j || !jinja_bind(vm, "joiner", "sep?", args, &separator) ||
        (separator.kind == K_MISSING && !text_word(vm, ", ", &separator)))
        return false;
    j->separator = separator;
    *out = (struct value){.kind = K_JOINER, .joiner = j};
    return true;
}

/* Filler text; jinja2's is random, this one is always the same. */
static bool global_lipsum(struct vm *vm, struct value self, const struct args *args, struct value *out)
{
    static const char paragraph[] = "Lorem ipsum dolor sit amet consectetuer adipiscing elit, sed diam nonummy nibh euismod tincidunt ut "
                                    "laoreet dolore magna aliquam erat volutpat.";
    struct value v[4];
    int64_t n;
    bool html;
    (void)self;
    if (!jinja_bind(vm, "lipsum", "n? html? min? max?", args, v) || !jinja_int_or(vm, v[0], 5, &n) || !jinja_flag(vm, v[1], true, &html))
        return false;
    size_t begin = build_begin(vm);
    for (int64_t i = 0; i < n; i++)
        if ((i && !pile_add_word(vm, &vm->scratch, html ? "\n" : "\n\n")) || (html && !pile_add_word(vm, &vm->scratch, "<p>")) ||
            !pile_add_word(vm, &vm->scratch, paragraph) || (html && !pile_add_word(vm, &vm->scratch, "</p>")))
            return false;
    if (!build_end(vm, begin, out))
        return false;
    out->safe = html;
    return true;
}

static bool global_raise_exception(struct vm *vm, struct value self, const struct args *args, struct value *out)
{
    struct value message;
    (void)self;
    if (!jinja_bind(vm, "raise_exception", "message", args, &message) || !jinja_str(vm, message, out))
        return false;
    return jinja_fail(vm, "%.*s", (int)(out->text->size < 1000 ? out->text->size : 1000), out->text->data);
}

/* strftime as Python's datetime.now() has it: no time zone, microseconds 0. */
static bool global_strftime_now(struct vm *vm, struct value self, const struct args *args, struct value *out)
{
    struct value v;
    const struct text *t;
    (void)self;
    if (!jinja_bind(vm, "strftime_now", "format", args, &v) || !jinja_as_text(vm, v, &t))
        return false;
    if (t->size > TIME_TEXT / 4 || memchr(t->data, 0, t->size))
        return jinja_fail(vm, "strftime_now: the format is too long or holds a NUL");
    char format[TIME_TEXT + 8], text[TIME_TEXT];
    size_t n = 0;
    for (uint32_t i = 0; i < t->size; i++) {
        char c = t->data[i], next = i + 1 < t->size ? t->data[i + 1] : 0;
        if (c == '%' && (next == 'f' || next == 'z' || next == 'Z')) {
            if (next == 'f')
                n += (size_t)sprintf(format + n, "000000");
            i++;
            continue;
        }
        format[n++] = c;
        if (c == '%' && next) {
            format[n++] = next;
            i++;
        }
    }
    format[n++] = '.'; /* tells an empty result from one that does not fit */
    format[n] = 0;
    size_t size = strftime(text, sizeof text, format, &vm->now);
    if (!size)
        return jinja_fail(vm, "strftime_now: the result is too long");
    return text_new(vm, text, size - 1, true, out);
}

static const struct function globals[] = {
    {"range", global_range, NULL},
    {"dict", global_dict, "<class 'dict'>"},
    {"namespace", global_namespace, "<class 'jinja2.utils.Namespace'>"},
    {"cycler", global_cycler, "<class 'jinja2.utils.Cycler'>"},
    {"joiner", global_joiner, "<class 'jinja2.utils.Joiner'>"},
    {"lipsum", global_lipsum, NULL},
    {"raise_exception", global_raise_exception, NULL},
    {"strftime_now", global_strftime_now, NULL},
};

const struct function *jinja_find_global(const struct text *name)
{
    for (size_t i = 0; i < sizeof globals / sizeof *globals; i++)
        if (text_is(name, globals[i].name))
            return &globals[i];
    return NULL;
}
