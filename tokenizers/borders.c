#include "tokenizers/borders.h"

#include <stdlib.h>

#include "tokenizers/unicode.h"

struct borders *borders_make(const struct vocabulary *v)
{
    struct borders *s = calloc(1, sizeof *s);
    for (uint32_t e = 0; s && e < v->count; e++) {
        size_t size;
        const char *text = vocabulary_entry(v, e, &size);
        uint32_t before = 0, c;
        for (size_t at = 0; at < size; before = c) {
            bool first = at == 0;
            at += text_next(text + at, size - at, &c);
            if (first)
                continue;
            if ((before | c) < 128) {
                s->ascii[before][c >> 6] |= (uint64_t)1 << (c & 63);
            } else {
                uint32_t place = borders_place(before, c);
                s->others[place >> 6] |= (uint64_t)1 << (place & 63);
            }
        }
    }
    return s;
}

size_t borders_next(const struct borders *s, const char *text, size_t size, size_t from)
{
    uint32_t before, c;
    size_t at = from + text_next(text + from, size - from, &before);
    for (size_t length; at < size; at += length, before = c) {
        length = text_next(text + at, size - at, &c);
        if (!borders_joined(s, before, c))
            break;
    }
    return at;
}
