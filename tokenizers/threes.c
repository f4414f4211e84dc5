#include "tokenizers/threes.h"

#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

#include "tokenizers/unicode.h"

#define BIT(category) (1u << UTF8PROC_CATEGORY_##category)

struct threes threes_of(const char *regex, size_t size)
{
    static const struct {
        const char *name;
        uint32_t categories;
    } digits[] = {{"\\d", BIT(ND)}, {"\\p{Nd}", BIT(ND)}, {"\\p{N}", BIT(ND) | BIT(NL) | BIT(NO)}};
    for (int form = 0; form < 3 * 2 * 2 * 2; form++) {
        const char *d = digits[form / 8].name, *open = form & 1 ? "(?:" : "(";
        bool takes = form & 2, bounded = form & 4;
        char tail[16] = "\\b", text[64];
        if (!bounded)
            snprintf(tail, sizeof tail, "(?!%s)", d);
        if (takes)
            snprintf(text, sizeof text, "%s{1,3}(?=%s%s{3})*%s)", d, open, d, tail);
        else
            snprintf(text, sizeof text, "(?=%s%s{3})+%s)", open, d, tail);
        if (strlen(text) == size && !memcmp(text, regex, size))
            return (struct threes){digits[form / 8].categories, takes, bounded};
    }
    return (struct threes){0};
}

/* \w of Oniguruma: no joiners, and the superscripts and fractions of Latin-1. */
static bool is_word_there(uint32_t c)
{
    bool latin = c == 0xB2 || c == 0xB3 || c == 0xB9 || (c >= 0xBC && c <= 0xBE);
    return latin || (is_word(c) && c != 0x200C && c != 0x200D);
}

static size_t digit(const struct threes *t, const char *text, size_t size, size_t at)
{
    uint32_t c;
    size_t length = text_next(text + at, size - at, &c);
    return t->categories >> regex_category(c) & 1 ? length : 0;
}

/* The run that begins at `at` with a digit. */
static struct threes_run count(const struct threes *t, const char *text, size_t size, size_t at)
{
    struct threes_run run = {.at = at, .end = at, .good = true};
    for (size_t length; run.end < size && (length = digit(t, text, size, run.end)); run.end += length)
        run.left++;
    uint32_t c;
    if (t->bounded && run.end < size)
        run.good = (text_next(text + run.end, size - run.end, &c), !is_word_there(c));
    return run;
}

static void pass(struct threes_run *run, const char *text, size_t size)
{
    uint32_t c;
    run->at += text_next(text + run->at, size - run->at, &c);
    run->left--;
}

bool threes_find(const struct threes *t, struct threes_run *run, const char *text, size_t size, size_t from, size_t empty, size_t *start, size_t *end)
{
    while (from < size) {
        if (from >= run->end) {
            if (!digit(t, text, size, from)) {
                uint32_t c;
                from += text_next(text + from, size - from, &c);
                continue;
            }
            *run = count(t, text, size, from);
        }
        while (run->at < from)
            pass(run, text, size);
        for (; run->good && run->left; pass(run, text, size)) {
            if (!t->takes && (run->left % 3 || run->at == empty))
                continue;
            *start = *end = run->at;
            for (size_t rest = run->left % 3 ? run->left % 3 : 3; t->takes && rest; rest--)
                *end += digit(t, text, size, *end);
            return true;
        }
        from = run->end;
    }
    return false;
}
