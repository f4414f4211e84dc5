/* How calls are written: as a template of our own prints them, as a dialect says. '@' stands for an id. */
#include <criterion/criterion.h>
#include <string.h>

#include "tokenizers/tokenizers.h"

static void check_part(const struct str *part, const char *expected, const char *what)
{
    char text[400];
    cr_assert_lt(part->size, sizeof text);
    for (size_t i = 0; i < part->size; i++)
        text[i] = part->data[i] == NOTATION_ID ? '@' : part->data[i];
    text[part->size] = 0;
    cr_expect_str_eq(text, expected, "%s is '%s'", what, text);
}

static void check(const char *dialect, const char *template, const char *before, const char *between, const char *separator, const char *after)
{
    struct error err;
    struct call_notation n;
    struct chat_template *t = NULL;
    if (template)
        cr_assert_eq(chat_compile(&t, "t", template, strlen(template), &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(call_notation_find(&n, dialect_find(dialect, strlen(dialect)), t, NULL, &err), STATUS_OK);
    cr_expect_eq(n.known, before != NULL, "%s", dialect);
    if (n.known && before) {
        check_part(&n.before, before, "before");
        check_part(&n.between, between, "between");
        check_part(&n.separator, separator, "separator");
        check_part(&n.after, after, "after");
    }
    call_notation_free(&n);
    chat_free(t);
}

#define HISTORY(call) "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for c in m.tool_calls %}" call "{% endfor %}<|im_end|>\n{% endfor %}"

Test(notation, as_templates_print_it)
{
    check("hermes", HISTORY("\n<tool_call>{{ {'name': c.function.name, 'arguments': c.function.arguments} | tojson }}</tool_call>"), "<tool_call>{\"name\": \"",
          "\", \"arguments\": ", "}</tool_call><tool_call>{\"name\": \"", "}</tool_call>");
    check("mistral_v3", HISTORY("{{ '[TOOL_CALLS] [' if loop.first else ', ' }}{{ {'name': c.function.name, 'arguments': c.function.arguments, 'id': c.id} | tojson }}"
                                "{{ ']' if loop.last }}"),
          "[TOOL_CALLS] [{\"name\": \"", "\", \"arguments\": ", ", \"id\": \"@\"}, {\"name\": \"", ", \"id\": \"@\"}]");
    check("deepseek_v31", HISTORY("<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>{{ c.function.name }}<｜tool▁sep｜>{{ c.function.arguments | tojson }}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"),
          "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>",
          "<｜tool▁call▁end｜><｜tool▁calls▁end｜>");
}

Test(notation, as_dialects_say)
{
    check("hermes", NULL, "<tool_call>\n{\"name\": \"", "\", \"arguments\": ", "}\n</tool_call>\n<tool_call>\n{\"name\": \"", "}\n</tool_call>");
    check("bare_json", NULL, "{\"name\": \"", "\", \"arguments\": ", "", "}");
    check("firefunction", NULL, "functools\n[{\"name\": \"", "\", \"arguments\": ", "}, {\"name\": \"", "}]");
}

Test(notation, arguments_that_are_no_json) { check("qwen3_coder", NULL, NULL, NULL, NULL, NULL); }
