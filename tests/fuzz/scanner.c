/* A pattern compiled to states against PCRE2. Input: the pattern, a NUL, the text. Seeds: the patterns of tokenizers/pre.c. */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "tokenizers/pattern.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    size_t length = zero ? (size_t)(zero - data) : size;
    const char *text = zero ? (const char *)zero + 1 : "", *regex = (const char *)data;
    size_t text_size = zero ? size - length - 1 : 0;
    struct pattern p = {0}, plain;
    struct error err = {0};
    if (!utf8_is_valid(text, text_size) || !utf8_is_valid(regex, length) || text_size > 200 || pattern_regex(&p, regex, length, &err) || !p.scanner) {
        pattern_free(&p);
        return 0;
    }
    plain = p;
    plain.scanner = NULL;
    struct pattern_run runs[2] = {0};
    struct pattern_place places[2] = {0};
    for (bool found = true, other = true; found;) {
        size_t start = 0, end = 0, plain_start = 0, plain_end = 0;
        if (pattern_next(&p, &runs[0], text, text_size, &places[0], &found, &start, &end, &err) ||
            pattern_next(&plain, &runs[1], text, text_size, &places[1], &other, &plain_start, &plain_end, &err))
            break;
        if (found != other || (found && (start != plain_start || end != plain_end)))
            abort();
    }
    pattern_run_free(&runs[0]);
    pattern_run_free(&runs[1]);
    pattern_free(&p);
    return 0;
}
