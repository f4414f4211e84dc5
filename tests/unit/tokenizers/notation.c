/* How calls are written: as a template of our own prints them, as a dialect says. '@' stands for an id, '#' for a type's name,
 * '%' for a number. */
#include <criterion/criterion.h>
#include <string.h>

#include "tokenizers/tokenizers.h"

static void check_part(const struct str *part, const char *expected, const char *what)
{
    char text[400];
    cr_assert_lt(part->size, sizeof text);
    for (size_t i = 0; i < part->size; i++)
        text[i] = part->data[i] == NOTATION_ID ? '@' : part->data[i] == NOTATION_TYPE ? '#' : part->data[i] == NOTATION_INDEX ? '%' : part->data[i];
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
    check("kimi_k2", NULL, "<|tool_calls_section_begin|><|tool_call_begin|>functions.", ":%<|tool_call_argument_begin|>",
          "<|tool_call_end|>\n<|tool_call_begin|>functions.", "<|tool_call_end|><|tool_calls_section_end|>");
    check("bare_json", NULL, "{\"name\": \"", "\", \"arguments\": ", "", "}");
    check("firefunction", NULL, "functools\n[{\"name\": \"", "\", \"arguments\": ", "}, {\"name\": \"", "}]");
}

/* The members of a call's arguments, as "key|value|other|close|joint". */
static void check_members(const char *dialect, const char *template, const char *around, const char *members)
{
    struct error err;
    struct call_notation n;
    struct chat_template *t = NULL;
    struct str text = {0};
    if (template)
        cr_assert_eq(chat_compile(&t, "t", template, strlen(template), &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(call_notation_find(&n, dialect_find(dialect, strlen(dialect)), t, NULL, &err), STATUS_OK);
    cr_assert(n.known && n.members, "%s", dialect);
    str_format(&text, "%s|%s|%s|%s", str_text(&n.before), str_text(&n.between), str_text(&n.separator), str_text(&n.after));
    check_part(&text, around, dialect);
    text.size = 0;
    str_format(&text, "%s|%s|%s|%s|%s", str_text(&n.key), str_text(&n.value), str_text(&n.other), str_text(&n.close), str_text(&n.joint));
    check_part(&text, members, dialect);
    str_free(&text);
    call_notation_free(&n);
    chat_free(t);
}

#define MEMBERS(member) "{% for k, v in c.function.arguments.items() %}" member "{% endfor %}"

Test(notation, members_between_tags)
{
    check_members("qwen3_coder", HISTORY("\n<tool_call>\n<function={{ c.function.name }}>\n" MEMBERS("<parameter={{ k }}>\n{{ v }}\n</parameter>\n") "</function>\n</tool_call>"),
                  "<tool_call>\n<function=|>|\n</function>\n</tool_call><tool_call>\n<function=|\n</function>\n</tool_call>",
                  "\n<parameter=|>\n|>\n|\n</parameter>|");
    check_members("deepseek_v32",
                  HISTORY("<｜DSML｜function_calls><｜DSML｜invoke name=\"{{ c.function.name }}\">"
                          MEMBERS("<｜DSML｜parameter name=\"{{ k }}\" string=\"{{ 'true' if v is string else 'false' }}\">{{ v }}</｜DSML｜parameter>")
                          "</｜DSML｜invoke></｜DSML｜function_calls>"),
                  "<｜DSML｜function_calls><｜DSML｜invoke name=\"|\">|</｜DSML｜invoke></｜DSML｜function_calls><｜DSML｜function_calls><｜DSML｜invoke name=\"|"
                  "</｜DSML｜invoke></｜DSML｜function_calls>",
                  "<｜DSML｜parameter name=\"|\" string=\"true\">|\" string=\"false\">|</｜DSML｜parameter>|");
    check_members("kimi_k3",
                  HISTORY("<|open|>tools<|sep|><|open|>call tool=\"{{ c.function.name }}\"<|sep|>"
                          MEMBERS("<|open|>argument key=\"{{ k }}\" type=\"{{ 'string' if v is string else 'number' }}\"<|sep|>{{ v }}<|close|>argument<|sep|>")
                          "<|close|>call<|sep|><|close|>tools<|sep|>"),
                  "<|open|>tools<|sep|><|open|>call tool=\"|\"<|sep|>|<|close|>call<|sep|><|close|>tools<|sep|><|open|>tools<|sep|><|open|>call tool=\"|"
                  "<|close|>call<|sep|><|close|>tools<|sep|>",
                  "<|open|>argument key=\"|\" type=\"string\"<|sep|>|\" type=\"#\"<|sep|>|<|close|>argument<|sep|>|");
    check_members("glm45", NULL, "<tool_call>||\n</tool_call>\n<tool_call>|\n</tool_call>",
                  "\n<arg_key>|</arg_key>\n<arg_value>|</arg_key>\n<arg_value>|</arg_value>|");
    check_members("minimax_m2", NULL,
                  "<minimax:tool_call>\n<invoke name=\"|\">|\n</invoke>\n<invoke name=\"|\n</invoke>\n</minimax:tool_call>",
                  "\n<parameter name=\"|\">|\">|</parameter>|");
}

Test(notation, members_as_python_has_them)
{
    check_members("olmo3", NULL, "<function_calls>\n|(|)\n|)\n</function_calls>", "|=|=||, ");
    check_members("lfm2", NULL, "<|tool_call_start|>[|(|), |)]<|tool_call_end|>", "|=|=||, ");
    check_members("llama32_pythonic", NULL, "[|(|), |)]", "|=|=||, ");
    check_members("tool_call_text", NULL, "TOOL_CALL: |(||)", "|=|=||, ");
    check_members("gemma4", NULL, "<|tool_call>call:|{|}<tool_call|><|tool_call>call:|}<tool_call|>", "|:|:||,");
}

Test(notation, that_is_not_known)
{
    check("minimax_m3", NULL, NULL, NULL, NULL, NULL); /* members within members */
}
