#include "tokenizers/unicode.h"

#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"

size_t text_next(const char *text, size_t size, uint32_t *codepoint)
{
    const unsigned char *s = (const unsigned char *)text;
    if (s[0] < 0x80) {
        *codepoint = s[0];
        return 1;
    }
    if (size >= 3 && s[0] == 0xED && s[1] >= 0xB2 && s[1] <= 0xB3) {
        *codepoint = 0xD000u | (uint32_t)(s[1] & 0x3F) << 6 | (s[2] & 0x3F);
        return 3;
    }
    return utf8_decode(text, size, codepoint);
}

size_t text_put(uint32_t c, char out[4])
{
    if (!text_is_stray(c))
        return utf8_encode(c, out);
    out[0] = (char)0xED;
    out[1] = (char)(0x80 | (c >> 6 & 0x3F));
    out[2] = (char)(0x80 | (c & 0x3F));
    return 3;
}

void text_add(struct str *out, uint32_t c)
{
    char bytes[4];
    str_add(out, bytes, text_put(c, bytes));
}

void text_enter(const char *text, size_t size, bool keep_bytes, const bool *marks, struct str *out, struct str *out_marks)
{
    for (size_t at = 0; at < size;) {
        size_t good = utf8_valid_prefix(text + at, size - at);
        str_add(out, text + at, good);
        if (marks)
            str_add(out_marks, marks + at, good);
        at += good;
        if (at == size)
            return;
        uint32_t c;
        size_t bad = utf8_decode(text + at, size - at, &c);
        size_t before = out->size;
        if (!keep_bytes)
            text_add(out, 0xFFFD);
        for (size_t i = 0; keep_bytes && i < bad; i++)
            text_add(out, 0xDC00u + (unsigned char)text[at + i]);
        for (; marks && before < out->size; before++)
            str_add_char(out_marks, marks[at]);
        at += bad;
    }
}

size_t text_before(const char *text, size_t at)
{
    size_t start = at - 1;
    while (start > 0 && at - start < 4 && ((unsigned char)text[start] & 0xC0) == 0x80)
        start--;
    return start;
}

const uint16_t byte_stand_in[256] = {
    256, 257, 258, 259, 260, 261, 262, 263, 264, 265, 266, 267, 268, 269, 270, 271,
    272, 273, 274, 275, 276, 277, 278, 279, 280, 281, 282, 283, 284, 285, 286, 287,
    288, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47,
    48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63,
    64, 65, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79,
    80, 81, 82, 83, 84, 85, 86, 87, 88, 89, 90, 91, 92, 93, 94, 95,
    96, 97, 98, 99, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111,
    112, 113, 114, 115, 116, 117, 118, 119, 120, 121, 122, 123, 124, 125, 126, 289,
    290, 291, 292, 293, 294, 295, 296, 297, 298, 299, 300, 301, 302, 303, 304, 305,
    306, 307, 308, 309, 310, 311, 312, 313, 314, 315, 316, 317, 318, 319, 320, 321,
    322, 161, 162, 163, 164, 165, 166, 167, 168, 169, 170, 171, 172, 323, 174, 175,
    176, 177, 178, 179, 180, 181, 182, 183, 184, 185, 186, 187, 188, 189, 190, 191,
    192, 193, 194, 195, 196, 197, 198, 199, 200, 201, 202, 203, 204, 205, 206, 207,
    208, 209, 210, 211, 212, 213, 214, 215, 216, 217, 218, 219, 220, 221, 222, 223,
    224, 225, 226, 227, 228, 229, 230, 231, 232, 233, 234, 235, 236, 237, 238, 239,
    240, 241, 242, 243, 244, 245, 246, 247, 248, 249, 250, 251, 252, 253, 254, 255,
};

int stand_in_byte(uint32_t c)
{
    if (c < 256)
        return byte_stand_in[c] == c ? (int)c : -1;
    if (c > 323)
        return -1;
    c -= 256; /* the 68 bytes without a printable form of their own: 0..32, 127..160, 173 */
    return c <= 32 ? (int)c : c <= 66 ? (int)c + 94 : 173;
}

/* ---- classes ------------------------------------------------------------------------------------------------------------ */

enum table { /* in the order of unicode_tables.def */ newer_numeric, newer_punctuation, former_punctuation, newer_marks, more_word, newer_forms,
             newer_other, newer_nonspacing, former_nonspacing, newer_joined };

static const struct range {
    enum table table;
    uint32_t low, high;
} ranges[] = {
#define RANGE(table, low, high) {table, low, high},
#define NEWER(property, members)
#define LOWER(upper, lower)
#define CATEGORY(low, high, category)
#include "tokenizers/unicode_tables.def"
#undef RANGE
#undef LOWER
#undef NEWER
#undef CATEGORY
};

/* The ranges of one table lie side by side, in order. */
static bool in_table(enum table table, uint32_t c)
{
    size_t low = 0, high = sizeof ranges / sizeof *ranges;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const struct range *r = &ranges[middle];
        if (r->table == table && c >= r->low && c <= r->high)
            return true;
        if (r->table < table || (r->table == table && r->high < c))
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

bool is_white(uint32_t c)
{
    return (c >= 9 && c <= 13) || c == 32 || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
           c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_numeric(uint32_t c)
{
    if (c < 0x80)
        return c >= '0' && c <= '9';
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO || in_table(newer_numeric, c);
}

bool is_punctuation(uint32_t c)
{
    if (c < 0x80)
        return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c <= 126);
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    if (k >= UTF8PROC_CATEGORY_PC && k <= UTF8PROC_CATEGORY_PO)
        return !in_table(newer_punctuation, c);
    return in_table(former_punctuation, c);
}

bool is_word(uint32_t c)
{
    if (c < 0x80)
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    if (c == 0x200C || c == 0x200D)
        return true;
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_NL) || k == UTF8PROC_CATEGORY_PC || in_table(more_word, c);
}

bool is_accent(uint32_t c)
{
    if (c < 0x300)
        return false;
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return k >= UTF8PROC_CATEGORY_MN && k <= UTF8PROC_CATEGORY_ME && !in_table(newer_marks, c);
}

bool is_nonspacing(uint32_t c)
{
    if (c < 0x300)
        return false;
    bool is = utf8proc_category((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_MN;
    return is ? !in_table(newer_nonspacing, c) : in_table(former_nonspacing, c);
}

bool is_other(uint32_t c)
{
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return (k == UTF8PROC_CATEGORY_CC || k == UTF8PROC_CATEGORY_CF || k == UTF8PROC_CATEGORY_CO) && !in_table(newer_other, c);
}

bool is_newly_joined(uint32_t c) { return c >= 0x300 && in_table(newer_joined, c); }

bool is_plain_form(uint32_t c) { return c >= 0x300 && in_table(newer_forms, c); }

uint32_t to_lower(uint32_t c)
{
    static const struct {
        uint32_t upper, lower;
    } newer[] = {
#define RANGE(table, low, high)
#define NEWER(property, members)
#define LOWER(upper, lower) {upper, lower},
#define CATEGORY(low, high, category)
#include "tokenizers/unicode_tables.def"
#undef RANGE
#undef LOWER
#undef NEWER
#undef CATEGORY
    };
    if (c < 0x80)
        return c >= 'A' && c <= 'Z' ? c + 32 : c;
    for (size_t i = 0; c >= newer[0].upper && i < sizeof newer / sizeof *newer; i++)
        if (newer[i].upper == c)
            return newer[i].lower;
    return text_is_stray(c) ? c : (uint32_t)utf8proc_tolower((utf8proc_int32_t)c);
}

uint8_t regex_category(uint32_t c)
{
    static const struct {
        uint32_t low, high;
        uint8_t category;
    } newer[] = {
#define RANGE(table, low, high)
#define NEWER(property, members)
#define LOWER(upper, lower)
#define CATEGORY(low, high, category) {low, high, UTF8PROC_CATEGORY_##category},
#include "tokenizers/unicode_tables.def"
#undef RANGE
#undef LOWER
#undef NEWER
#undef CATEGORY
    };
    size_t low = 0, high = sizeof newer / sizeof *newer;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (c >= newer[middle].low && c <= newer[middle].high)
            return newer[middle].category;
        if (newer[middle].high < c)
            low = middle + 1;
        else
            high = middle;
    }
    return (uint8_t)utf8proc_category((utf8proc_int32_t)c);
}

void add_newer_members(const char *property, size_t size, struct str *out)
{
    static const struct {
        const char *property, *members;
    } newer[] = {
#define RANGE(table, low, high)
#define LOWER(upper, lower)
#define NEWER(property, members) {property, members},
#define CATEGORY(low, high, category)
#include "tokenizers/unicode_tables.def"
#undef RANGE
#undef LOWER
#undef NEWER
#undef CATEGORY
    };
    for (size_t i = 0; i < sizeof newer / sizeof *newer; i++) { /* "L" takes in all categories that begin with it */
        size_t n = strlen(newer[i].property);
        if ((n == size || (size == 1 && n == 2)) && memcmp(newer[i].property, property, size) == 0)
            str_add_text(out, newer[i].members);
    }
}
