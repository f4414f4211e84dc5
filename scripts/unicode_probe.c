/* What PCRE2 and utf8proc of this system say about every character, for make_unicode_tables.py. Lines: P category
 * character (PCRE2) · U category character · C character class · L character lower · D and K character decomposition (hex). */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

static void print_members(const char *property)
{
    char pattern[32];
    int error;
    PCRE2_SIZE offset;
    snprintf(pattern, sizeof pattern, "\\p{%s}", property);
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &error, &offset, NULL);
    pcre2_match_data *match = pcre2_match_data_create(1, NULL);
    for (int c = 0; code && c < 0x110000; c++) {
        unsigned char text[4];
        if (c >= 0xD800 && c < 0xE000)
            continue;
        utf8proc_ssize_t n = utf8proc_encode_char(c, text);
        if (pcre2_match(code, text, (size_t)n, 0, 0, match, NULL) >= 0)
            printf("P %s %d\n", property, c);
    }
    pcre2_match_data_free(match);
    pcre2_code_free(code);
}

static void print_decomposition(int c, char kind, int options)
{
    unsigned char text[5];
    utf8proc_uint8_t *form;
    utf8proc_ssize_t n = utf8proc_encode_char(c, text);
    utf8proc_ssize_t m = utf8proc_map(text, n, &form, options);
    if (m > 0 && (m != n || memcmp(form, text, (size_t)n) != 0)) {
        printf("%c %d ", kind, c);
        for (utf8proc_ssize_t i = 0; i < m; i++)
            printf("%02x", form[i]);
        puts("");
    }
    free(form);
}

int main(void)
{
    static const char *const properties[] = {"Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No",  "Pc",        "Pd",
                                             "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Han", "Alphabetic"};
    for (size_t i = 0; i < sizeof properties / sizeof *properties; i++)
        print_members(properties[i]);
    for (int c = 0; c < 0x110000; c++) {
        if (c >= 0xD800 && c < 0xE000)
            continue;
        printf("U %s %d\n", utf8proc_category_string(c), c);
        if (utf8proc_get_property(c)->combining_class)
            printf("C %d %d\n", c, (int)utf8proc_get_property(c)->combining_class);
        if (utf8proc_tolower(c) != c)
            printf("L %d %d\n", c, utf8proc_tolower(c));
        if (!utf8proc_grapheme_break('a', c))
            printf("J %d\n", c);
        print_decomposition(c, 'D', UTF8PROC_STABLE | UTF8PROC_DECOMPOSE);
        print_decomposition(c, 'K', UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT);
    }
    return 0;
}
