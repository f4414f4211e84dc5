/* Base64 (RFC 4648), strict: padded, no white space. */
#ifndef BASE_BASE64_H
#define BASE_BASE64_H

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"

/* Appends the bytes; false (and nothing appended) when text is no base64. */
bool base64_decode(const char *text, size_t size, struct str *out);

#endif
