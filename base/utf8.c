#include "base/utf8.h"

#include <string.h>

size_t utf8_decode(const char *text, size_t size, uint32_t *codepoint)
{
    const unsigned char *s = (const unsigned char *)text;
    unsigned char b = s[0];
    *codepoint = 0xFFFD;
    if (b < 0x80) {
        *codepoint = b;
        return 1;
    }
    size_t need;
    unsigned char low = 0x80, high = 0xBF; /* bounds of the second byte exclude overlong forms and surrogates */
    uint32_t c;
    if (b >= 0xC2 && b <= 0xDF) {
        need = 1;
        c = b & 0x1F;
    } else if ((b & 0xF0) == 0xE0) {
        need = 2;
        c = b & 0x0F;
        if (b == 0xE0)
            low = 0xA0;
        if (b == 0xED)
            high = 0x9F;
    } else if (b >= 0xF0 && b <= 0xF4) {
        need = 3;
        c = b & 0x07;
        if (b == 0xF0)
            low = 0x90;
        if (b == 0xF4)
            high = 0x8F;
    } else {
        return 1;
    }
    size_t n = 1;
    for (; n <= need; n++) {
        if (n >= size || s[n] < low || s[n] > high)
            return n;
        c = c << 6 | (s[n] & 0x3F);
        low = 0x80;
        high = 0xBF;
    }
    *codepoint = c;
    return n;
}

size_t utf8_encode(uint32_t c, char out[4])
{
    if (c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF))
        c = 0xFFFD;
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xC0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xE0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3F));
        out[2] = (char)(0x80 | (c & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3F));
    out[2] = (char)(0x80 | (c >> 6 & 0x3F));
    out[3] = (char)(0x80 | (c & 0x3F));
    return 4;
}

size_t utf8_valid_prefix(const char *text, size_t size)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t at = 0;
    while (at < size) {
        uint64_t word;
        while (at + 8 <= size && (memcpy(&word, text + at, 8), !(word & 0x8080808080808080u)))
            at += 8;
        while (at < size && s[at] < 0x80)
            at++;
        /* runs of two- and three-byte characters, the common case of text that is not English */
        while (at + 2 <= size && s[at] >= 0xC2 && s[at] <= 0xDF && (s[at + 1] & 0xC0) == 0x80)
            at += 2;
        while (at + 3 <= size && s[at] >= 0xE1 && s[at] <= 0xEC && (s[at + 1] & 0xC0) == 0x80 && (s[at + 2] & 0xC0) == 0x80)
            at += 3;
        if (at == size || s[at] < 0x80)
            continue;
        uint32_t c;
        size_t n = utf8_decode(text + at, size - at, &c);
        /* a real U+FFFD is EF BF BD; any other way to it is an error */
        if (c == 0xFFFD && !(n == 3 && memcmp(text + at, "\xEF\xBF\xBD", 3) == 0))
            return at;
        at += n;
    }
    return size;
}

size_t utf8_unfinished(const char *text, size_t size)
{
    for (size_t back = 1; back <= 3 && back <= size; back++) {
        unsigned char b = (unsigned char)text[size - back];
        if ((b & 0xC0) == 0x80)
            continue;
        size_t length = b >= 0xF0 ? 4 : b >= 0xE0 ? 3 : b >= 0xC0 ? 2 : 1;
        if (length <= back)
            return 0;
        uint32_t c; /* an ill-formed start is finished (as U+FFFD) already */
        return utf8_decode(text + size - back, back, &c) == back && b >= 0xC2 && b <= 0xF4 ? back : 0;
    }
    return 0;
}

bool utf8_is_printable(uint32_t c)
{
    return !(c < 0x20 || (c >= 0x7F && c < 0xA0) || (c >= 0x200E && c <= 0x200F) || (c >= 0x2028 && c <= 0x202E) ||
             (c >= 0x2066 && c <= 0x2069) || c == 0x061C || c == 0xFEFF || (c & 0xFFFE) == 0xFFFE);
}
