/* The template language: small cases of our own, each a template, its variables and its text (NULL: an error). */
#include <criterion/criterion.h>
#include <string.h>

#include "tokenizers/tokenizers.h"

struct sample {
    const char *template, *context, *text;
};

static void check(const struct sample *samples, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct sample *c = &samples[i];
        struct arena arena = {0};
        struct json context;
        struct error err = {0};
        struct chat_template *t = NULL;
        struct chat_text out = {0};
        cr_assert_eq(json_parse(&arena, c->context, strlen(c->context), NULL, &context, &err), STATUS_OK, "%s: %s", c->context, err.text);
        enum status status = chat_compile(&t, "t", c->template, strlen(c->template), &err);
        if (!status)
            status = chat_render(t, &context, "2026-01-02T03:04:05", NULL, &out, &err);
        if (c->text) {
            cr_expect_eq(status, STATUS_OK, "%s: %s", c->template, err.text);
            cr_expect_str_eq(str_text(&out.text), c->text, "%s: got '%s'", c->template, str_text(&out.text));
        } else {
            cr_expect_eq(status, STATUS_BAD_INPUT, "%s: no error", c->template);
            cr_expect(strstr(err.text, "t, line "), "%s: no name and line in '%s'", c->template, err.text);
            cr_expect_eq(out.text.size, 0);
        }
        chat_text_free(&out);
        chat_free(t);
        arena_free(&arena);
    }
}
#define CHECK(...)                                                                                                             \
    static const struct sample samples[] = {__VA_ARGS__};                                                                       \
    check(samples, sizeof samples / sizeof *samples)

Test(render, white_space)
{
    CHECK({"a\n  {% if true %}\n b\n  {% endif %}\nc\n", "{}", "a\n b\nc"}, {"a \n {{- 1 -}} \n b", "{}", "a1b"},
          {"x\n  {%+ if true +%}\ny{% endif %}", "{}", "x\n  \ny"}, {"{% raw %}{{ x }}{% endraw %}", "{}", "{{ x }}"}, {"a\r\nb\r", "{}", "a\nb"},
          {"{# c #}\n d", "{}", " d"}, {"{{ '}}' }}", "{}", "}}"});
}

Test(render, lookup)
{
    CHECK({"{{ p.items is callable }}{{ p['items'] }}", "{\"p\": {\"items\": 1}}", "True1"}, {"{{ a.b is defined }}", "{\"a\": {}}", "False"},
          {"{{ a.b.c is defined }}", "{\"a\": {}}", NULL}, {"{{ l[-1] }}{{ l[9] }}", "{\"l\": [1, 2]}", "2"}, {"{{ l[::-1] }}", "{\"l\": [1, 2]}", "[2, 1]"},
          {"{{ s[1:3] }}{{ s[-1] }}", "{\"s\": \"aéî🙂\"}", "éî🙂"}, {"{{ x.y }}", "{}", NULL}, {"{{ x }}|", "{}", "|"}, {"{{ none.x }}|", "{}", "|"});
}

Test(render, numbers)
{
    CHECK({"{{ x }} {{ y }} {{ z }}", "{\"x\": 1, \"y\": 1.0, \"z\": 123456789012345678901}", "1 1.0 123456789012345678901"},
          {"{{ 7 // -2 }} {{ -7 % 3 }} {{ 7 / 2 }}", "{}", "-4 2 3.5"}, {"{{ 2 ** 100 }}", "{}", "1267650600228229401496703205376"},
          {"{{ -2 ** 2 }} {{ -2 ** n }}", "{\"n\": 2}", "4 -4"}, {"{{ 10 ** 30 // 7 ** 20 }} {{ -(10 ** 30) % 7 ** 20 }}", "{}", "12532542894196 12048762300458197"},
          {"{{ 0.1 + 0.2 }} {{ 1e16 }} {{ 1e-5 }} {{ 5e-324 }}", "{}", "0.30000000000000004 1e+16 1e-05 5e-324"}, {"{{ 1 / 0 }}", "{}", NULL},
          {"{{ 2.5|round }} {{ 1234|round(-2) }} {{ '12'|int + 1 }}", "{}", "2.0 1200 13"}, {"{{ 9223372036854775807 + 1 }}", "{}", "9223372036854775808"},
          {"{{ 'a' + 1 }}", "{}", NULL}, {"{{ 'a' ~ 1 }}", "{}", "a1"}, {"{{ 10 ** (10 ** 10) }}", "{}", NULL});
}

Test(render, printing)
{
    CHECK({"{{ [none, true, 'it\\'s', \"a'b\\\"\"] }}", "{}", "[None, True, \"it's\", 'a\\'b\"']"}, {"{{ {'a': (1,)} }}", "{}", "{'a': (1,)}"},
          {"{{ d|tojson }}", "{\"d\": {\"b\": 1.0, \"a\": [\"é\\n\", null]}}", "{\"b\": 1.0, \"a\": [\"é\\n\", null]}"},
          {"{{ d|tojson(indent=1) }}", "{\"d\": {\"a\": [1, {}]}}", "{\n \"a\": [\n  1,\n  {}\n ]\n}"},
          {"{{ 'é🙂'|tojson(ensure_ascii=true) }}", "{}", "\"\\u00e9\\ud83d\\ude42\""}, {"{{ x|tojson }}", "{}", NULL},
          {"{{ d|tojson(separators=(',',':'), sort_keys=true) }}", "{\"d\": {\"b\": 1, \"a\": 2}}", "{\"a\":2,\"b\":1}"});
}

Test(render, loops_and_macros)
{
    CHECK({"{% for x in l %}{{ loop.index }}{{ x }}{% if not loop.last %},{% endif %}{% endfor %}", "{\"l\": [\"a\", \"b\"]}", "1a,2b"},
          {"{% for n in t recursive %}{{ n.v }}{% if n.k %}({{ loop(n.k) }}){% endif %}{% endfor %}", "{\"t\": [{\"v\": 1, \"k\": [{\"v\": 2}]}]}", "1(2)"},
          {"{% for x in [1,2,3] if x != 2 %}{{ loop.index }}{{ x }};{% endfor %}", "{}", "11;23;"},
          {"{% for x in [1,2] %}{% break %}{% else %}e{% endfor %}", "{}", "e"}, {"{% break %}", "{}", NULL},
          {"{% set n = 1 %}{% for x in [1] %}{% set n = 2 %}{% endfor %}{{ n }}", "{}", "1"},
          {"{% set n = namespace(v=1) %}{% for x in [1] %}{% set n.v = 2 %}{% endfor %}{{ n.v }}", "{}", "2"},
          {"{% macro m(a, b=a) %}{{ a }}{{ b }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, k=4) }}", "{}", "12(3,){'k': 4}"},
          {"{% macro m() %}[{{ caller(1) }}]{% endmacro %}{% call(x) m() %}{{ x }}{% endcall %}", "{}", "[1]"},
          {"{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", "{}", NULL}, {"{{ l|map('upper')|join('-') }}", "{\"l\": [\"a\", \"b\"]}", "A-B"},
          {"{% macro m() %}{{ x }}{% endmacro %}{{ m() }}{% set x = 1 %}{{ m() }}", "{\"x\": 5}", "1"});
}

Test(render, sandbox)
{
    CHECK({"{{ ''.__class__ }}|", "{}", "|"}, {"{{ ''.__class__.__mro__ }}", "{}", NULL}, {"{{ l.append(1) }}", "{\"l\": []}", NULL},
          {"{% include 'x' %}", "{}", NULL}, {"{{ '{0.__class__.__mro__}'.format(1) }}", "{}", NULL}, {"{{ range(100001) }}", "{}", NULL},
          {"{{ x|nope }}", "{}", NULL}, {"{% if false %}{{ x|nope }}{% endif %}ok", "{}", "ok"}, {"{% set n = namespace(_a=1) %}", "{}", NULL},
          {"{{ raise_exception('stop') }}", "{}", NULL}, {"{{ strftime_now('%d %b %Y %H:%M') }}", "{}", "02 Jan 2026 03:04"});
}

Test(render, text)
{
    CHECK({"{{ 'ß ŉ'|upper }}{{ 'ΑΣ'|lower }}", "{}", "SS ʼNας"}, {"{{ \"it's a-b\"|title }}|{{ \"it's\".title() }}", "{}", "It's A-B|It'S"},
          {"{{ ' a b '.split() }}{{ 'a,b'.split(',', 1) }}", "{}", "['a', 'b']['a', 'b']"}, {"{{ '%05.1f|%-4d|%s' % (2.25, 3, none) }}", "{}", "002.2|3   |None"},
          {"{{ '{:>4}|{a[0]!r}'.format(1, a=['x']) }}", "{}", "   1|'x'"}, {"{{ ('<'|safe) + '<' }}{{ '<' ~ '<'|safe }}", "{}", "<&lt;<<"},
          {"{{ '%2000000000d' % 1 }}", "{}", NULL}, {"{{ 'a\\tb'.expandtabs(4) }}{{ 'abc'|replace('b', '') }}", "{}", "a   bac"});
}
