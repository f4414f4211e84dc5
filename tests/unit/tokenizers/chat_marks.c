/* Every byte of a prompt knows whether it is the template's own or came with the request. */
#include <criterion/criterion.h>
#include <string.h>

#include "tokenizers/tokenizers.h"

/* marks: one character per byte of the text, '.' for the template's own, 'u' for the request's. */
static void check(const char *template, const char *context, const char *text, const char *marks)
{
    struct arena arena = {0};
    struct json root;
    struct error err = {0};
    struct chat_template *t = NULL;
    struct chat_text out = {0};
    char got[200] = {0};
    cr_assert_eq(json_parse(&arena, context, strlen(context), NULL, &root, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(chat_compile(&t, "t", template, strlen(template), &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(chat_render(t, &root, NULL, NULL, &out, &err), STATUS_OK, "%s: %s", template, err.text);
    for (size_t i = 0; i < out.text.size && i < sizeof got - 1; i++)
        got[i] = out.marks[i] ? '.' : 'u';
    cr_expect_str_eq(str_text(&out.text), text, "%s", template);
    cr_expect_str_eq(got, marks, "%s: %s", template, got);
    chat_text_free(&out);
    chat_free(t);
    arena_free(&arena);
}

Test(marks, follow_the_bytes)
{
    const char *c = "{\"u\": \"Ab c\", \"l\": [\"x\", \"y\"], \"d\": {\"k\": \"v\"}, \"n\": 12}";
    check("<{{ u }}>", c, "<Ab c>", ".uuuu.");
    check("{{ '[' + u + ']' }}", c, "[Ab c]", ".uuuu.");
    check("{{ 'a' ~ u ~ n }}", c, "aAb c12", ".uuuu..");
    check("{{ ('  ' + u + ' ')|trim }}", c, "Ab c", "uuuu");
    check("{{ ('-' + u)|upper }}", c, "-AB C", ".uuuu");
    check("{{ u.replace('b', '<>') }}", c, "A<> c", "u..uu");
    check("{{ 'a b'.replace(' ', u) }}", c, "aAb cb", ".uuuu.");
    check("{{ ('x' + u).split(' ')[0] }}{{ u[::-1] }}", c, "xAbc bA", ".uuuuuu");
    check("{{ l|join(', ') }}", c, "x, y", "u..u");
    check("{{ '%s=%d' % (u, n) }}", c, "Ab c=12", "uuuu...");
    check("{{ '{}-{a}'.format(u, a='z') }}", c, "Ab c-z", "uuuu..");
    check("{{ d|tojson }}", c, "{\"k\": \"v\"}", "..u....u..");
    check("{{ l }}", c, "['x', 'y']", "..u....u..");
    check("{% set v %}({{ u }}){% endset %}{{ v }}{% for ch in u %}{{ ch }}.{% endfor %}", c, "(Ab c)A.b. .c.", ".uuuu.u.u.u.u.");
    check("{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m(u) }}", c, "<Ab c>", ".uuuu.");
    check("{{ ('<' + u)|e }}", c, "&lt;Ab c", "....uuuu");
}

/* Special tokens of the model and roles that APIs define are the template's own. */
Test(marks, context)
{
    struct json_member token = {.key = "bos_token", .key_size = 9, .value = {.kind = JSON_STRING, .size = 3, .text = "<s>"}};
    struct chat_source source = {.tokens = &token, .token_count = 1};
    const char *request = "{\"messages\": [{\"role\": \"user\", \"content\": \"user\", \"x\": null}, {\"role\": \"odd\", \"reasoning\": \"r\"}],"
                          " \"template_kwargs\": {\"k\": 1}}";
    const char *template = "{{ bos_token }}{% for m in messages %}{{ m.role }}{{ m.content }}{{ m.thinking }}{{ m.reasoning_content }}{{ m|length }}"
                           "{% endfor %}{{ tools is none }}{{ add_generation_prompt }}{{ k }}{{ eos_token is defined }}";
    struct arena arena = {0};
    struct json root, context;
    struct error err = {0};
    struct chat_template *t;
    struct chat_text out;
    cr_assert_eq(json_parse(&arena, request, strlen(request), NULL, &root, &err), STATUS_OK);
    cr_assert_eq(chat_context(&arena, &root, &source, &context, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(chat_compile(&t, "t", template, strlen(template), &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(chat_render(t, &context, NULL, NULL, &out, &err), STATUS_OK, "%s", err.text);
    cr_expect_str_eq(str_text(&out.text), "<s>useruser2oddrr4TrueFalse1False");
    const char *marks = ".......uuuu.uuuuu................";
    for (size_t i = 0; i < out.text.size; i++)
        cr_expect_eq(out.marks[i], marks[i] == '.', "byte %zu", i);
    chat_text_free(&out);
    chat_free(t);
    arena_free(&arena);
}

Test(marks, requests_that_are_none)
{
    static const char *const wrong[] = {"[]", "{}", "{\"messages\": []}", "{\"messages\": [1]}", "{\"messages\": {}}",
                                        "{\"messages\": [{\"role\": \"user\"}], \"template_kwargs\": 1}"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct arena arena = {0};
        struct json root, context;
        struct error err = {0};
        cr_assert_eq(json_parse(&arena, wrong[i], strlen(wrong[i]), NULL, &root, &err), STATUS_OK);
        cr_expect_neq(chat_context(&arena, &root, NULL, &context, &err), STATUS_OK, "%s", wrong[i]);
        cr_expect(err.text[0]);
        arena_free(&arena);
    }
}
