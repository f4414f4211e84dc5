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

enum { BLOCK = 64 };

/* Are s[0 .. BLOCK) well formed behind s[-3 .. 0), which are? The end may cut a character. All bytes are judged alike, so that the
 * compiler takes many at once: in text that is neither all ASCII nor all something else, branches are what costs. */
static bool is_good_block(const unsigned char *s)
{
    unsigned char bad = 0, special = 0;
    for (int i = 0; i < BLOCK; i++) {
        unsigned char b = s[i], inside = (unsigned char)((s[i - 1] >= 0xC0) | (s[i - 2] >= 0xE0) | (s[i - 3] >= 0xF0));
        bad |= (unsigned char)((inside ^ ((signed char)b < -64)) | ((b & 0xFE) == 0xC0));
        special |= (unsigned char)((s[i - 1] >= 0xF0) | ((s[i - 1] & 0xF2) == 0xE0));
    }
    for (int i = 0; i < BLOCK && special; i++) { /* overlong forms, surrogates, above U+10FFFF */
        unsigned char b = s[i], before = s[i - 1];
        bad |= (unsigned char)(((before == 0xE0) & (b < 0xA0)) | ((before == 0xED) & (b > 0x9F)) | (before >= 0xF5));
        bad |= (unsigned char)(((before == 0xF0) & (b < 0x90)) | ((before == 0xF4) & (b > 0x8F)));
    }
    return !bad;
}

static bool is_ascii_block(const unsigned char *s)
{
    unsigned char all = 0;
    for (int i = 0; i < BLOCK; i++)
        all |= s[i];
    return all < 0x80;
}

size_t utf8_valid_prefix(const char *text, size_t size)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t at = 0;
    while (at < size) {
        if (at >= 3) {
            while (size - at >= BLOCK && ((s[at - 1] < 0x80 && is_ascii_block(s + at)) || is_good_block(s + at)))
                at += BLOCK;
            while ((s[--at] & 0xC0) == 0x80) /* back to the last character, which the block's end may have cut */
                ;
        }
        for (size_t end = size - at > BLOCK ? at + BLOCK : size, n; at < end; at += n) {
            uint32_t c;
            n = utf8_decode(text + at, size - at, &c);
            /* a real U+FFFD is EF BF BD; any other way to it is an error */
            if (c == 0xFFFD && !(n == 3 && memcmp(text + at, "\xEF\xBF\xBD", 3) == 0))
                return at;
        }
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
