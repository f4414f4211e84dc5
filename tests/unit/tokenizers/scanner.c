/* Scanners against PCRE2: the patterns that names stand for, and random ones, over random text. */
#include "tiny.h"

#include <stdlib.h>

#include "base/utf8.h"
#include "tokenizers/pre.h"
#include "tokenizers/scanner.h"

static uint32_t seed = 4711;
static uint32_t below(uint32_t n)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % n;
}

/* Characters that patterns tell apart, and some of everything. */
static uint32_t any_character(void)
{
    static const uint32_t known[] = {' ', ' ', '\n', '\r', '\t', '\'', 's', 'S', 0x17F, 'r', 'e', 'l', 'L', 'a', 'B', '1', '2', 0xBD, 0x660, '!', '/', '.', '_', 0xA0, 0x3000,
                                     0x85, 0x200B, 0x180E, 0x301, 0x20DD, 0x1C5, 0x2B0, 0x3042, 0x30A2, 0x4E2D, 0xAC00, 0x1F600, 0x20000, 0xE0100, 0xDC80, 0xDCFF, 0x10D50};
    if (below(4))
        return known[below(sizeof known / sizeof *known)];
    uint32_t c = below(4) ? below(0x3100) : below(0x110000);
    return c >= 0xD800 && c < 0xE000 ? 'x' : c;
}

static void random_text(struct str *out, bool small)
{
    str_clear(out);
    for (uint32_t i = below(24); i; i--) {
        if (small)
            str_add_char(out, "ab \n"[below(4)]);
        else
            text_add(out, any_character());
    }
}

/* All matches, by the scanner and without it. */
static void compare(const struct pattern *p, const struct str *text)
{
    struct pattern plain = *p;
    struct pattern_run runs[2] = {0};
    struct pattern_place places[2] = {0};
    plain.scanner = NULL;
    for (bool found = true; found;) {
        bool other;
        size_t start = 0, end = 0, plain_start = 0, plain_end = 0;
        struct error err = {0};
        cr_assert_eq(pattern_next(p, &runs[0], str_text(text), text->size, &places[0], &found, &start, &end, &err), STATUS_OK, "%s", err.text);
        cr_assert_eq(pattern_next(&plain, &runs[1], str_text(text), text->size, &places[1], &other, &plain_start, &plain_end, &err), STATUS_OK, "%s", err.text);
        cr_assert_eq(found, other, "/%s/ on \"%s\"", str_text(&p->source), str_text(text));
        cr_assert(!found || (start == plain_start && end == plain_end), "/%s/ on \"%s\": %zu-%zu, not %zu-%zu", str_text(&p->source), str_text(text), start, end,
                  plain_start, plain_end);
    }
    pattern_run_free(&runs[0]);
    pattern_run_free(&runs[1]);
}

Test(scanner, patterns_of_published_tokenizers)
{
    struct str text = {0};
    for (const struct pre_name *n = pre_names; n->name; n++)
        for (const struct pre_step *s = n->steps; s->kind != STEP_END; s++) {
            struct pattern p = {0};
            struct error err = {0};
            const char *regex = s->kind == STEP_GPT2 ? "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+" : s->regex;
            if (!regex)
                continue;
            cr_assert_eq(pattern_regex(&p, regex, strlen(regex), &err), STATUS_OK, "%s", err.text);
            bool compiles = !strstr(regex, "\\p{Han}") && !strstr(regex, "?+") && !strstr(regex, "\\b") && !strstr(regex, "(?=("); /* these stay with PCRE2 */
            cr_expect_eq(p.scanner != NULL, compiles, "%s", n->name);
            for (int round = 0; round < 400 && p.scanner; round++) {
                random_text(&text, false);
                compare(&p, &text);
            }
            pattern_free(&p);
        }
    str_free(&text);
}

static void random_pattern(struct str *out, int depth)
{
    static const char *const atoms[] = {"a", "b", " ", "\\n", "[ab]", "[^a]", "\\s", "\\S", "[^\\s]", "\\p{L}"};
    static const char *const counts[] = {"", "", "", "?", "*", "+", "{2}", "{1,3}", "{0,2}", "{2,}"};
    uint32_t parts = 1 + below(3);
    for (uint32_t i = 0; i < parts; i++) {
        if (depth && !below(4)) {
            str_add_text(out, below(3) ? "(?:" : "(");
            random_pattern(out, depth - 1);
            str_add_text(out, ")");
        } else {
            str_add_text(out, atoms[below(sizeof atoms / sizeof *atoms)]);
        }
        str_add_text(out, counts[below(sizeof counts / sizeof *counts)]);
        if (!below(8))
            str_add_text(out, (const char *[]){"(?!\\S)", "(?=a)", "$", "(?![ab])"}[below(4)]);
    }
    if (depth && below(2)) {
        str_add_char(out, '|');
        random_pattern(out, depth - 1);
    }
}

Test(scanner, random_patterns)
{
    struct str regex = {0}, text = {0};
    int compiled = 0;
    for (int round = 0; round < 3000; round++) {
        struct pattern p;
        struct error err = {0};
        str_clear(&regex);
        random_pattern(&regex, 3);
        cr_assert_eq(pattern_regex(&p, regex.data, regex.size, &err), STATUS_OK, "%s", err.text);
        compiled += p.scanner != NULL;
        for (int i = 0; i < 20 && p.scanner; i++) {
            random_text(&text, true);
            compare(&p, &text);
        }
        pattern_free(&p);
    }
    cr_expect_gt(compiled, 1000, "only %d compiled", compiled); /* the others may match nothing */
    str_free(&regex);
    str_free(&text);
}

/* What is not compiled must be left to PCRE2, not half understood. */
Test(scanner, leaves_the_rest)
{
    static const char *const rest[] = {"a??", "a++", "(?<=a)b", "\\bab", "^a", ".", "(a)\\1", "(?!ab)c", "\\w+", "[[:alpha:]]", "a*", "(?i:\xC3\xA9)", "\\p{Han}", "\\X"};
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++) {
        struct scanner *s;
        struct error err = {0};
        cr_assert_eq(scanner_compile(&s, rest[i], strlen(rest[i]), &err), STATUS_OK);
        cr_expect_null(s, "%s", rest[i]);
        scanner_free(s);
    }
}

/* Reading to the end from every start: the scanner gives up in time, PCRE2's limits hold. */
Test(scanner, long_lookahead)
{
    enum { LENGTH = 1 << 18 };
    struct pattern p;
    struct pattern_run run = {0};
    struct pattern_place place = {0};
    struct error err = {0};
    bool found = true;
    size_t start, end, count = 0;
    char *text = malloc(LENGTH);
    memset(text, 'a', LENGTH);
    cr_assert_eq(pattern_regex(&p, "a|a+b", 5, &err), STATUS_OK);
    cr_expect_not_null(p.scanner);
    while (!pattern_next(&p, &run, text, LENGTH, &place, &found, &start, &end, &err) && found)
        count++;
    cr_expect_eq(count, LENGTH);
    pattern_free(&p);
    pattern_run_free(&run);
    free(text);
}
