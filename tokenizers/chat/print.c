/* Values as text: Python's str() and repr(). Numbers, brackets and words are the template's own; strings keep their marks. */
#include "tokenizers/chat/chat.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

static bool print_int(struct vm *vm, struct pile *p, int64_t i)
{
    char text[32];
    return pile_add(vm, p, text, (size_t)snprintf(text, sizeof text, "%" PRId64, i), true);
}

static bool repr_string(struct vm *vm, struct pile *p, const struct text *t, bool ascii)
{
    bool single = memchr(t->data, '\'', t->size), twice = memchr(t->data, '"', t->size);
    char quotation = single && !twice ? '"' : '\'';
    uint32_t plain = 0;
    if (!pile_add(vm, p, &quotation, 1, true))
        return false;
    for (uint32_t at = 0, n; at < t->size; at += n) {
        uint32_t c;
        char escape[16];
        int size = 0;
        n = (uint32_t)utf8_decode(t->data + at, t->size - at, &c);
        if (c == (uint32_t)quotation || c == '\\')
            size = sprintf(escape, "\\%c", (char)c);
        else if (c == '\n' || c == '\r' || c == '\t')
            size = sprintf(escape, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
        else if (!unicode_is_printable(c) || (ascii && c >= 0x80))
            size = sprintf(escape, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", c);
        if (!size)
            continue;
        if (!pile_add_slice(vm, p, t, plain, at - plain) || !pile_add_like(vm, p, t, at, escape, (size_t)size))
            return false;
        plain = at + n;
    }
    return pile_add_slice(vm, p, t, plain, t->size - plain) && pile_add(vm, p, &quotation, 1, true);
}

static bool repr(struct vm *vm, struct pile *p, struct value v, bool ascii);

static bool repr_items(struct vm *vm, struct pile *p, const struct list *l, const char *open, const char *close, bool ascii)
{
    if (!pile_add_word(vm, p, open))
        return false;
    for (uint32_t i = 0; i < l->count; i++)
        if ((i && !pile_add_word(vm, p, ", ")) || !repr(vm, p, l->items[i], ascii))
            return false;
    return pile_add_word(vm, p, close);
}

static bool repr_dict(struct vm *vm, struct pile *p, const struct dict *d, bool ascii)
{
    if (!pile_add_word(vm, p, "{"))
        return false;
    for (uint32_t i = 0; i < d->count; i++)
        if ((i && !pile_add_word(vm, p, ", ")) || !repr(vm, p, d->entries[i].key, ascii) || !pile_add_word(vm, p, ": ") ||
            !repr(vm, p, d->entries[i].value, ascii))
            return false;
    return pile_add_word(vm, p, "}");
}

static bool repr_view(struct vm *vm, struct pile *p, const struct view *view, bool ascii)
{
    static const char *const names[] = {"dict_keys([", "dict_values([", "dict_items(["};
    if (!pile_add_word(vm, p, names[view->type]))
        return false;
    for (uint32_t i = 0; i < view->dict->count; i++) {
        const struct entry *e = &view->dict->entries[i];
        bool pair = view->type == VIEW_ITEMS;
        if ((i && !pile_add_word(vm, p, ", ")) || (pair && !pile_add_word(vm, p, "(")) ||
            (view->type != VIEW_VALUES && !repr(vm, p, e->key, ascii)) || (pair && !pile_add_word(vm, p, ", ")) ||
            (view->type != VIEW_KEYS && !repr(vm, p, e->value, ascii)) || (pair && !pile_add_word(vm, p, ")")))
            return false;
    }
    return pile_add_word(vm, p, "])");
}

static bool repr_object(struct vm *vm, struct pile *p, struct value v)
{
    char text[200];
    switch (v.kind) {
    case K_RANGE:
        if (v.range->step == 1)
            snprintf(text, sizeof text, "range(%" PRId64 ", %" PRId64 ")", v.range->start, v.range->stop);
        else
            snprintf(text, sizeof text, "range(%" PRId64 ", %" PRId64 ", %" PRId64 ")", v.range->start, v.range->stop, v.range->step);
        break;
    case K_LOOP: {
        int64_t length;
        if (!loop_length(vm, v.loop, &length))
            return false;
        snprintf(text, sizeof text, "<LoopContext %" PRId64 "/%" PRId64 ">", v.loop->index0 + 1, length);
        break;
    }
    case K_METHOD:
        snprintf(text, sizeof text, "<built-in method %s of %s object>", v.bound->method->name, jinja_type(&v.bound->self));
        break;
    case K_FUNCTION:
        if (v.function->printed)
            return pile_add_word(vm, p, v.function->printed);
        snprintf(text, sizeof text, "<function %s>", v.function->name);
        break;
    case K_MACRO:
        if (!v.macro->node->text)
            return pile_add_word(vm, p, "<Macro anonymous>");
        return pile_add_word(vm, p, "<Macro ") && repr_string(vm, p, v.macro->node->text, false) && pile_add_word(vm, p, ">");
    default:
        snprintf(text, sizeof text, "<%s object>", jinja_type(&v));
    }
    return pile_add_word(vm, p, text);
}

static bool repr(struct vm *vm, struct pile *p, struct value v, bool ascii)
{
    if (!jinja_step(vm) || !jinja_deep(vm))
        return false;
    char number[40];
    switch (v.kind) {
    case K_MISSING:
    case K_UNDEFINED:
        return pile_add_word(vm, p, "Undefined");
    case K_NONE:
        return pile_add_word(vm, p, "None");
    case K_BOOL:
        return pile_add_word(vm, p, v.truth ? "True" : "False");
    case K_INT:
        return print_int(vm, p, v.integer);
    case K_BIG:
        return big_print(vm, p, v.big);
    case K_FLOAT:
        return pile_add(vm, p, number, float_print(v.real, number), true);
    case K_STRING:
        if (!v.safe)
            return repr_string(vm, p, v.text, ascii);
        return pile_add_word(vm, p, "Markup(") && repr_string(vm, p, v.text, ascii) && pile_add_word(vm, p, ")");
    case K_LIST:
        return repr_items(vm, p, v.list, "[", "]", ascii);
    case K_TUPLE:
        return repr_items(vm, p, v.list, "(", v.list->count == 1 ? ",)" : ")", ascii);
    case K_DICT:
        return repr_dict(vm, p, v.dict, ascii);
    case K_VIEW:
        return repr_view(vm, p, v.view, ascii);
    case K_NAMESPACE:
        return pile_add_word(vm, p, "<Namespace ") && repr_dict(vm, p, &v.space->attributes, ascii) && pile_add_word(vm, p, ">");
    default:
        return repr_object(vm, p, v);
    }
}

bool jinja_repr(struct vm *vm, struct pile *p, struct value v) { return repr(vm, p, v, false); }
bool jinja_ascii(struct vm *vm, struct pile *p, struct value v) { return repr(vm, p, v, true); }

bool jinja_print(struct vm *vm, struct pile *p, struct value v)
{
    if (v.kind == K_STRING)
        return pile_add_text(vm, p, v.text);
    return v.kind == K_UNDEFINED || v.kind == K_MISSING || repr(vm, p, v, false);
}

bool jinja_str(struct vm *vm, struct value v, struct value *out)
{
    if (v.kind == K_STRING) {
        *out = TEXT_VALUE(v.text);
        return true;
    }
    size_t begin = build_begin(vm);
    return jinja_print(vm, &vm->scratch, v) && build_end(vm, begin, out);
}

bool jinja_soft_str(struct vm *vm, struct value v, struct value *out)
{
    if (v.kind != K_STRING)
        return jinja_str(vm, v, out);
    *out = v;
    return true;
}
