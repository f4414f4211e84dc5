/* A growing run of bytes. Appending never reports failure by itself: memory running out sets `failed`,
 * later appends do nothing, and the owner checks once at the end. data is NUL-terminated once anything was
 * appended (the NUL does not count in size), but may hold NULs of its own. */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <stdbool.h>
#include <stddef.h>

struct str {
    char *data;
    size_t size, capacity;
    bool failed;
};

void str_add(struct str *s, const void *bytes, size_t size);
void str_add_text(struct str *s, const char *text); /* NUL-terminated */
void str_add_char(struct str *s, char c);
void str_format(struct str *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
void str_clear(struct str *s); /* size 0, memory kept */
void str_free(struct str *s);
const char *str_text(const struct str *s); /* never NULL */

#endif
