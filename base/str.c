#include "base/str.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool reserve(struct str *s, size_t more)
{
    if (s->failed)
        return false;
    if (more < s->capacity - s->size)
        return true;
    size_t want = s->capacity ? s->capacity : 64;
    while (want - s->size <= more) {
        if (want > SIZE_MAX / 2) {
            s->failed = true;
            return false;
        }
        want *= 2;
    }
    char *data = realloc(s->data, want);
    if (!data) {
        s->failed = true;
        return false;
    }
    s->data = data;
    s->capacity = want;
    return true;
}

void str_add(struct str *s, const void *bytes, size_t size)
{
    if (!reserve(s, size))
        return;
    if (size)
        memcpy(s->data + s->size, bytes, size);
    s->size += size;
    s->data[s->size] = 0;
}

void str_add_text(struct str *s, const char *text) { str_add(s, text, strlen(text)); }

void str_add_char(struct str *s, char c) { str_add(s, &c, 1); }

void str_format(struct str *s, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0 || !reserve(s, (size_t)n))
        return;
    va_start(args, format);
    vsnprintf(s->data + s->size, (size_t)n + 1, format, args);
    va_end(args);
    s->size += (size_t)n;
}

void str_clear(struct str *s)
{
    s->size = 0;
    s->failed = false;
    if (s->data)
        s->data[0] = 0;
}

void str_free(struct str *s)
{
    free(s->data);
    *s = (struct str){0};
}

const char *str_text(const struct str *s) { return s->data ? s->data : ""; }
