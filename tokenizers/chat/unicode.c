/* What Python's str knows about characters: classes and case. Simple mappings and categories are utf8proc's. */
#include "tokenizers/chat/chat.h"

#include <utf8proc.h>

#include "base/utf8.h"

struct span {
    uint32_t first, last;
};

/* Numeric_Type=Digit that are no decimals (superscripts, circled digits), and numeric ideographs. */
static const struct span digits[] = {
    {0xB2, 0xB3},     {0xB9, 0xB9},     {0x1369, 0x1371}, {0x19DA, 0x19DA}, {0x2070, 0x2070},   {0x2074, 0x2079},   {0x2080, 0x2089},
    {0x2460, 0x2468}, {0x2474, 0x247C}, {0x2488, 0x2490}, {0x24EA, 0x24EA}, {0x24F5, 0x24FD},   {0x24FF, 0x24FF},   {0x2776, 0x277E},
    {0x2780, 0x2788}, {0x278A, 0x2792}, {0x10A40, 0x10A43}, {0x10E60, 0x10E68}, {0x11052, 0x1105A}, {0x1F100, 0x1F10A},
};
static const struct span numerals[] = {
    {0x3405, 0x3405}, {0x3483, 0x3483}, {0x382A, 0x382A}, {0x3B4D, 0x3B4D}, {0x4E00, 0x4E00}, {0x4E03, 0x4E03}, {0x4E07, 0x4E07},
    {0x4E09, 0x4E09}, {0x4E5D, 0x4E5D}, {0x4E8C, 0x4E8C}, {0x4E94, 0x4E94}, {0x4E96, 0x4E96}, {0x4EBF, 0x4EC0}, {0x4EDF, 0x4EDF},
    {0x4EE8, 0x4EE8}, {0x4F0D, 0x4F0D}, {0x4F70, 0x4F70}, {0x5104, 0x5104}, {0x5146, 0x5146}, {0x5169, 0x5169}, {0x516B, 0x516B},
    {0x516D, 0x516D}, {0x5341, 0x5341}, {0x5343, 0x5345}, {0x534C, 0x534C}, {0x53C1, 0x53C4}, {0x56DB, 0x56DB}, {0x58F1, 0x58F1},
    {0x58F9, 0x58F9}, {0x5E7A, 0x5E7A}, {0x5EFE, 0x5EFF}, {0x5F0C, 0x5F0E}, {0x5F10, 0x5F10}, {0x62FE, 0x62FE}, {0x634C, 0x634C},
    {0x67D2, 0x67D2}, {0x6F06, 0x6F06}, {0x7396, 0x7396}, {0x767E, 0x767E}, {0x8086, 0x8086}, {0x842C, 0x842C}, {0x8CAE, 0x8CAE},
    {0x8CB3, 0x8CB3}, {0x8D30, 0x8D30}, {0x9621, 0x9621}, {0x9646, 0x9646}, {0x964C, 0x964C}, {0x9678, 0x9678}, {0x96F6, 0x96F6},
    {0xF96B, 0xF96B}, {0xF973, 0xF973}, {0xF978, 0xF978}, {0xF9B2, 0xF9B2}, {0xF9D1, 0xF9D1}, {0xF9D3, 0xF9D3}, {0xF9FD, 0xF9FD},
    {0x20001, 0x20001}, {0x20064, 0x20064}, {0x200E2, 0x200E2}, {0x20121, 0x20121}, {0x2092A, 0x2092A}, {0x20983, 0x20983},
    {0x2098C, 0x2098C}, {0x2099C, 0x2099C}, {0x20AEA, 0x20AEA}, {0x20AFD, 0x20AFD}, {0x20B19, 0x20B19}, {0x22390, 0x22390},
    {0x22998, 0x22998}, {0x23B1B, 0x23B1B}, {0x2626D, 0x2626D}, {0x2F890, 0x2F890},
};

static bool inside(uint32_t c, const struct span *spans, size_t count)
{
    for (size_t i = 0; i < count && spans[i].first <= c; i++)
        if (c <= spans[i].last)
            return true;
    return false;
}
#define INSIDE(c, spans) inside((c), (spans), sizeof(spans) / sizeof *(spans))

static utf8proc_category_t category(uint32_t c) { return utf8proc_category((utf8proc_int32_t)c); }

bool unicode_is_space(uint32_t c)
{
    return c == ' ' || (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x1F) ||
           (c >= 0x80 && (c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
                          c == 0x202F || c == 0x205F || c == 0x3000));
}

bool unicode_is_line_end(uint32_t c)
{
    return (c >= 10 && c <= 13) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

bool unicode_is_printable(uint32_t c)
{
    if (c < 0x7F)
        return c >= 0x20;
    switch (category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
        return false;
    default:
        return true;
    }
}

bool unicode_is_alpha(uint32_t c)
{
    utf8proc_category_t k = category(c);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

bool unicode_is_decimal(uint32_t c) { return c < 0x80 ? c >= '0' && c <= '9' : category(c) == UTF8PROC_CATEGORY_ND; }

bool unicode_is_digit(uint32_t c) { return unicode_is_decimal(c) || INSIDE(c, digits); }

bool unicode_is_numeric(uint32_t c)
{
    utf8proc_category_t k = category(c);
    return k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO || INSIDE(c, numerals);
}

/* The value of a decimal: blocks of ten begin at their zero, the block's characters being all Nd. */
int unicode_digit(uint32_t c)
{
    if (c < 0x80)
        return c >= '0' && c <= '9' ? (int)c - '0' : -1;
    if (!unicode_is_decimal(c))
        return -1;
    uint32_t first = c;
    while (c - first < 60 && first > 0 && unicode_is_decimal(first - 1))
        first--;
    return (int)((c - first) % 10);
}

bool unicode_is_upper(uint32_t c)
{
    return c < 0x80 ? c >= 'A' && c <= 'Z' : category(c) != UTF8PROC_CATEGORY_LT && utf8proc_isupper((utf8proc_int32_t)c);
}

bool unicode_is_lower(uint32_t c) { return c < 0x80 ? c >= 'a' && c <= 'z' : utf8proc_islower((utf8proc_int32_t)c) != 0; }

bool unicode_is_title(uint32_t c) { return c >= 0x80 && category(c) == UTF8PROC_CATEGORY_LT; }

bool unicode_is_cased(uint32_t c) { return unicode_is_upper(c) || unicode_is_lower(c) || unicode_is_title(c); }

bool unicode_is_name(uint32_t c, bool first)
{
    if (c < 0x80)
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (!first && c >= '0' && c <= '9');
    return unicode_is_alpha(c) || (!first && unicode_is_numeric(c));
}

struct special {
    uint32_t from, to[3];
};
#define SPECIAL_LOWER(...)
#define SPECIAL_UPPER(...)
#define SPECIAL_TITLE(...)
#define SPECIAL(type, ...) SPECIAL_##type(__VA_ARGS__)
#define ROW(from, a, b, c) {from, {a, b, c}},
static const struct special special_lower[] = {
#undef SPECIAL_LOWER
#define SPECIAL_LOWER(...) ROW(__VA_ARGS__)
#include "tokenizers/chat/special_case.def"
#undef SPECIAL_LOWER
#define SPECIAL_LOWER(...)
};
static const struct special special_upper[] = {
#undef SPECIAL_UPPER
#define SPECIAL_UPPER(...) ROW(__VA_ARGS__)
#include "tokenizers/chat/special_case.def"
#undef SPECIAL_UPPER
#define SPECIAL_UPPER(...)
};
static const struct special special_title[] = {
#undef SPECIAL_TITLE
#define SPECIAL_TITLE(...) ROW(__VA_ARGS__)
#include "tokenizers/chat/special_case.def"
};

static int find_special(uint32_t c, const struct special *table, size_t count, uint32_t out[3])
{
    for (size_t i = 0; i < count; i++)
        if (table[i].from == c) {
            int n = 0;
            while (n < 3 && table[i].to[n]) {
                out[n] = table[i].to[n];
                n++;
            }
            return n;
        }
    return 0;
}
#define FIND(c, table, out) find_special((c), (table), sizeof(table) / sizeof *(table), (out))

int unicode_map(uint32_t c, enum letter_case to, uint32_t out[3])
{
    if (c < 0x80) {
        bool upper = c >= 'A' && c <= 'Z', lower = c >= 'a' && c <= 'z';
        bool flip = to == CASE_SWAP ? upper || lower : to == CASE_LOWER || to == CASE_FOLD ? upper : lower;
        out[0] = flip ? c ^ 0x20 : c;
        return 1;
    }
    if (to == CASE_SWAP)
        return unicode_map(c, unicode_is_upper(c) ? CASE_LOWER : unicode_is_lower(c) ? CASE_UPPER : CASE_SWAP + 2, out);
    int n = to == CASE_LOWER ? FIND(c, special_lower, out) : to == CASE_UPPER ? FIND(c, special_upper, out)
            : to == CASE_TITLE ? FIND(c, special_title, out) : 0;
    if (n)
        return n;
    out[0] = c;
    if (to == CASE_LOWER)
        out[0] = (uint32_t)utf8proc_tolower((utf8proc_int32_t)c);
    else if (to == CASE_UPPER)
        out[0] = (uint32_t)utf8proc_toupper((utf8proc_int32_t)c);
    else if (to == CASE_TITLE)
        out[0] = (uint32_t)utf8proc_totitle((utf8proc_int32_t)c);
    else if (to == CASE_FOLD) {
        utf8proc_int32_t folded[4];
        int last = 0;
        utf8proc_ssize_t count = utf8proc_decompose_char((utf8proc_int32_t)c, folded, 4, UTF8PROC_CASEFOLD, &last);
        for (n = 0; n < 3 && n < count; n++)
            out[n] = (uint32_t)folded[n];
        return count > 0 ? n : 1;
    }
    return 1;
}

/* ---- whole strings -------------------------------------------------------------------------------------------------- */

static bool add_mapped(struct vm *vm, struct pile *p, const struct text *t, uint32_t at, uint32_t c, enum letter_case to)
{
    uint32_t mapped[3];
    int count = unicode_map(c, to, mapped);
    char bytes[12];
    size_t n = 0;
    for (int i = 0; i < count; i++)
        n += utf8_encode(mapped[i], bytes + n);
    return pile_add_like(vm, p, t, at, bytes, n);
}

/* Soft hyphens, apostrophes, marks: what stands inside words without being a letter. */
static bool is_ignorable(uint32_t c)
{
    utf8proc_category_t k = category(c);
    return c == '\'' || c == '.' || c == ':' || c == 0xB7 || c == 0x2018 || c == 0x2019 || c == '^' || c == '`' || c == 0xA8 ||
           c == 0xAD || c == 0xAF || c == 0xB4 || c == 0xB8 || k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_ME ||
           k == UTF8PROC_CATEGORY_CF || k == UTF8PROC_CATEGORY_LM || k == UTF8PROC_CATEGORY_SK;
}

/* Is the sigma at `at` the last letter of a word? */
static bool final_sigma(const struct text *t, uint32_t at)
{
    uint32_t before = at, c = 0;
    do {
        if (!before)
            return false;
        do
            before--;
        while (before && ((unsigned char)t->data[before] & 0xC0) == 0x80);
        utf8_decode(t->data + before, t->size - before, &c);
    } while (is_ignorable(c));
    if (!unicode_is_cased(c))
        return false;
    uint32_t after = at + 2;
    while (after < t->size) {
        after += (uint32_t)utf8_decode(t->data + after, t->size - after, &c);
        if (!is_ignorable(c))
            return !unicode_is_cased(c);
    }
    return true;
}

static bool add_lower(struct vm *vm, struct pile *p, const struct text *t, uint32_t at, uint32_t c)
{
    if (c == 0x3A3)
        return pile_add_like(vm, p, t, at, final_sigma(t, at) ? "\xCF\x82" : "\xCF\x83", 2);
    return add_mapped(vm, p, t, at, c, CASE_LOWER);
}

/* A run of ASCII at once: its letters change in place. */
static bool add_ascii(struct vm *vm, struct pile *p, const struct text *t, uint32_t at, uint32_t end, enum letter_case to)
{
    uint32_t mapped[3];
    size_t begin = p->size;
    if (!pile_add_slice(vm, p, t, at, end - at))
        return false;
    for (size_t i = begin; i < p->size; i++) {
        unicode_map((unsigned char)p->data[i], to, mapped);
        p->data[i] = (char)mapped[0];
    }
    return true;
}

bool text_change_case(struct vm *vm, struct pile *p, const struct text *t, enum letter_case to)
{
    for (uint32_t at = 0, n, c; at < t->size; at += n) {
        uint32_t end = at;
        while (end < t->size && (unsigned char)t->data[end] < 0x80)
            end++;
        n = end - at;
        if (n) {
            if (!add_ascii(vm, p, t, at, end, to))
                return false;
            continue;
        }
        n = (uint32_t)utf8_decode(t->data + at, t->size - at, &c);
        bool lower = to == CASE_LOWER || (to == CASE_SWAP && unicode_is_upper(c));
        if (!(lower ? add_lower(vm, p, t, at, c) : add_mapped(vm, p, t, at, c, to)))
            return false;
    }
    return true;
}

bool text_capitalize(struct vm *vm, struct pile *p, const struct text *t)
{
    for (uint32_t at = 0, n, c; at < t->size; at += n) {
        n = (uint32_t)utf8_decode(t->data + at, t->size - at, &c);
        if (!(at ? add_lower(vm, p, t, at, c) : add_mapped(vm, p, t, at, c, CASE_TITLE)))
            return false;
    }
    return true;
}

bool text_title(struct vm *vm, struct pile *p, const struct text *t)
{
    bool in_word = false;
    for (uint32_t at = 0, n, c; at < t->size; at += n) {
        n = (uint32_t)utf8_decode(t->data + at, t->size - at, &c);
        if (!(in_word ? add_lower(vm, p, t, at, c) : add_mapped(vm, p, t, at, c, CASE_TITLE)))
            return false;
        in_word = unicode_is_cased(c);
    }
    return true;
}
