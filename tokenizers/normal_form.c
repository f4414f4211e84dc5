#include "tokenizers/normal_form.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "tokenizers/unicode.h"

struct characters {
    int32_t *list;
    size_t count, capacity;
    bool failed;
};

static int32_t *more(struct characters *c, size_t n)
{
    if (c->capacity - c->count < n) {
        size_t capacity = c->capacity ? c->capacity * 2 : 256;
        while (capacity - c->count < n)
            capacity *= 2;
        int32_t *list = realloc(c->list, capacity * sizeof *list);
        if (!list) {
            c->failed = true;
            return NULL;
        }
        c->list = list;
        c->capacity = capacity;
    }
    return c->list + c->count;
}

static int combining_class(int32_t c) { return c < 0x300 ? 0 : utf8proc_get_property(c)->combining_class; }

/* Puts marks into canonical order: a counting sort per run. utf8proc's own is an insertion sort, which a text of
 * stacked marks makes quadratic. */
static bool order_marks(int32_t *list, size_t count)
{
    int32_t *sorted = NULL;
    for (size_t i = 0, end; i < count; i = end) {
        end = i + 1;
        if (!combining_class(list[i]))
            continue;
        bool ordered = true;
        for (int before = combining_class(list[i]), k; end < count && (k = combining_class(list[end])); end++, before = k)
            ordered &= before <= k;
        if (ordered)
            continue;
        size_t at[257] = {0}, n = end - i;
        int32_t *room = realloc(sorted, n * sizeof *room);
        if (!room) {
            free(sorted);
            return false;
        }
        sorted = room;
        for (size_t j = i; j < end; j++)
            at[combining_class(list[j]) + 1]++;
        for (int k = 0; k < 256; k++)
            at[k + 1] += at[k];
        for (size_t j = i; j < end; j++)
            sorted[at[combining_class(list[j])]++] = list[j];
        memcpy(list + i, sorted, n * sizeof *sorted);
    }
    free(sorted);
    return true;
}

/* Characters that every form leaves as they are, and that nothing composes or is ordered across: stray bytes, and those
 * that the package's version of Unicode does not have. */
static bool is_border(uint32_t c) { return text_is_stray(c) || is_plain_form(c); }

/* A stretch without borders. */
static void form_stretch(int form, const char *text, size_t size, struct characters *c, struct str *out)
{
    int options = UTF8PROC_STABLE | (form & FORM_COMPOSED ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) | (form & FORM_COMPATIBLE ? UTF8PROC_COMPAT : 0);
    c->count = 0;
    for (size_t at = 0; at < size && !c->failed;) {
        uint32_t codepoint;
        at += text_next(text + at, size - at, &codepoint);
        enum { LONGEST = 32 }; /* U+FDFA, the longest decomposition, has 18 characters */
        int32_t *to = more(c, LONGEST);
        int boundary = 0;
        utf8proc_ssize_t n = to ? utf8proc_decompose_char((int32_t)codepoint, to, LONGEST, options, &boundary) : 0;
        if (to && (n < 0 || n > LONGEST)) {
            to[0] = (int32_t)codepoint;
            n = 1;
        }
        c->count += (size_t)n;
    }
    if (c->failed || !order_marks(c->list, c->count)) {
        c->failed = true;
        return;
    }
    if (form & FORM_COMPOSED) {
        utf8proc_ssize_t n = utf8proc_normalize_utf32(c->list, (utf8proc_ssize_t)c->count, options);
        c->count = n < 0 ? c->count : (size_t)n;
    }
    for (size_t i = 0; i < c->count; i++)
        text_add(out, (uint32_t)c->list[i]);
}

/* Does a character stay as it is in this form, and join nothing in front of it? (NFC_Quick_Check=Yes of UAX 15, and less where that
 * is dear to know.) Two of them side by side are a place where text can be cut. */
static inline bool is_stable(int form, uint32_t c)
{
    if (c < 0x80)
        return true;
    if (form != FORM_COMPOSED)
        return false;
    if (c < 0x300 || (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3041 && c <= 0x3096) || (c >= 0x309B && c <= 0x30FF) || (c >= 0xAC00 && c <= 0xD7A3))
        return true;
    if ((c >= 0x1100 && c <= 0x11FF) || (c >= 0xD7B0 && c <= 0xD7FF) || is_border(c)) /* the parts of Hangul join by rule, not by table */
        return false;
    const utf8proc_property_t *p = utf8proc_get_property((utf8proc_int32_t)c);
    bool decomposes = p->decomp_seqindex != UINT16_MAX && p->decomp_type == 0;
    return !p->combining_class && !decomposes && (p->comb_index == UINT16_MAX || p->comb_index < 0x8000);
}

/* The end of the stable characters from `at`; *last: where the last of them begins. */
static size_t stable_end(int form, const char *text, size_t size, size_t at, size_t *last)
{
    uint64_t word;
    *last = at;
    while (at < size) {
        size_t start = at;
        while (at + 8 <= size && (memcpy(&word, text + at, 8), !(word & 0x8080808080808080u)))
            at += 8;
        if (at > start)
            *last = at - 1;
        if (at == size)
            break;
        uint32_t c;
        size_t n = text_next(text + at, size - at, &c);
        if (!is_stable(form, c))
            break;
        *last = at;
        at += n;
    }
    return at;
}

bool normal_form(int form, const char *text, size_t size, struct str *out)
{
    struct characters c = {0};
    for (size_t at = 0; at < size;) {
        size_t last, end = stable_end(form, text, size, at, &last);
        /* the last of them may take the marks that follow */
        size_t start = end < size ? last : end;
        str_add(out, text + at, start - at);
        at = start;
        for (bool stable = false, before; at < size; stable = before) { /* up to two stable characters in a row, or a border */
            uint32_t codepoint;
            size_t n = text_next(text + at, size - at, &codepoint);
            before = at > start && is_stable(form, codepoint);
            if (is_border(codepoint) || (before && stable))
                break;
            at += n;
        }
        if (at > start)
            form_stretch(form, text + start, at - start, &c, out);
        uint32_t codepoint;
        for (size_t n; at < size; at += n) {
            n = text_next(text + at, size - at, &codepoint);
            if (!is_border(codepoint))
                break;
            str_add(out, text + at, n);
        }
    }
    free(c.list);
    return !c.failed && !out->failed;
}
