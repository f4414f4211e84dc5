/* What a template may use up, and that deep nesting ends in an error, not on the stack. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizers/tokenizers.h"

static enum status run(const char *template, size_t size, const struct chat_limits *limits, struct error *err)
{
    struct json none = {.kind = JSON_OBJECT};
    struct chat_template *t = NULL;
    struct chat_text out = {0};
    enum status status = chat_compile(&t, "t", template, size, err);
    if (!status)
        status = chat_render(t, &none, NULL, limits, &out, err);
    chat_text_free(&out);
    chat_free(t);
    return status;
}

static void expect_limit(const char *template, const char *word)
{
    struct error err = {0};
    cr_expect_eq(run(template, strlen(template), NULL, &err), STATUS_BAD_INPUT, "%s", template);
    cr_expect(strstr(err.text, word), "%s: '%s' lacks '%s'", template, err.text, word);
}

Test(limits, each_is_named)
{
    expect_limit("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "steps");
    expect_limit("{{ range(99999)|map('string')|join(',') * 99999 }}", "memory");
    expect_limit("{% set s = 'a' * 100000 %}{% for i in range(10000) %}{{ s }}{% endfor %}", "output");
    expect_limit("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "deep");
    expect_limit("{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}", "deep");
    expect_limit("{% set n = namespace(l=[]) %}{% for i in range(99999) %}{% set n.l = [n.l] %}{% endfor %}{{ n.l }}", "deep");
    expect_limit("{% set n = namespace(l=[1]) %}{% for i in range(99) %}{% set n.l = n.l|map('string') %}{% endfor %}{{ n.l|list|length }}"
                 "{% set n.s = 'a' %}{% for i in range(99) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
                 "memory");
}

Test(limits, are_the_callers)
{
    struct error err = {0};
    struct chat_limits limits = chat_default_limits;
    limits.output = 10;
    cr_expect_eq(run("0123456789", 10, &limits, &err), STATUS_OK, "%s", err.text);
    limits.steps = 20;
    cr_expect_eq(run("{% for i in range(50) %}{% endfor %}", 36, &limits, &err), STATUS_BAD_INPUT);
}

Test(limits, nesting)
{
    static const char *const parts[][3] = {{"{{ ", "(", "1"}, {"{{ ", "-", "1"}, {"{{ ", "not ", "1"}, {"{{ ", "[", "1"}, {"{{ ", "{1:", "1"},
                                           {"", "{% if 1 %}", ""}, {"", "{% for i in x %}", ""}, {"{{ 1", "+1", ""}, {"{{ 1", "|abs", ""},
                                           {"{{ a", ".b", ""}, {"{{ ", "a if b else ", "1"}, {"{{ a", "()", ""}, {"{{ ", "f(", ""}, {"{{ 1 ", "is odd ", ""}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        struct str s = {0};
        struct error err = {0};
        str_add_text(&s, parts[i][0]);
        for (int k = 0; k < 100000; k++)
            str_add_text(&s, parts[i][1]);
        str_add_text(&s, parts[i][2]);
        cr_expect_eq(run(str_text(&s), s.size, NULL, &err), STATUS_BAD_INPUT, "%s", parts[i][1]);
        cr_expect(err.text[0]);
        str_free(&s);
    }
}
