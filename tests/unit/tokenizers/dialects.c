/* Which dialect a template speaks: our own small templates, and the shared ones. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "tokenizers/tokenizers.h"

static void expect_dialect(const char *label, const char *text, size_t size, const char *dialect)
{
    struct chat_named named = {.name = "default", .text = text, .size = size};
    struct chat_source source = {.templates = &named, .count = 1};
    struct dialect_choice choice;
    struct error err;
    cr_assert_eq(dialect_detect(&choice, &source, text ? &named : NULL, NULL, &err), STATUS_OK);
    cr_expect_str_eq(dialect_name(choice.dialect), dialect, "%s: %s, %s", label, dialect_name(choice.dialect), choice.why);
    cr_expect(choice.why[0]);
    dialect_choice_free(&choice);
}

#define CALLS "{% for m in messages %}{{ m.content }}{% for c in m.tool_calls or [] %}"
#define ENDS "{% endfor %}{% endfor %}"

Test(dialects, from_what_is_rendered)
{
    static const char *const cases[][2] = {
        {"hermes", CALLS "<tool_call>\n{{ c.function | tojson }}\n</tool_call>" ENDS},
        /* a prompt that speaks of other forms tells nothing */
        {"mistral_v11", "Never write <tool_call> or <|python_tag|>." CALLS "[TOOL_CALLS]{{ c.function.name }}[ARGS]{{ c.function.arguments | tojson }}" ENDS},
        /* one that refuses objects, two calls and content */
        {"llama31", CALLS "{% if m.tool_calls | length > 1 or m.content or c.function.arguments is not string %}{{ raise_exception('no') }}{% endif %}"
                          "{\"name\": \"{{ c.function.name }}\", \"parameters\": {{ c.function.arguments }}}" ENDS},
        {"llama32_pythonic", CALLS "[{{ c.function.name }}({% for k, v in c.function.arguments.items() %}{{ k }}={{ v }},{% endfor %})]" ENDS},
        {"glm47", CALLS "<tool_call>{{ c.function.name }}{% for k, v in c.function.arguments.items() %}<arg_key>{{ k }}</arg_key><arg_value>{{ v }}"
                        "</arg_value>{% endfor %}</tool_call>" ENDS},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_dialect(cases[i][1], cases[i][1], strlen(cases[i][1]), cases[i][0]);
}

Test(dialects, from_text_or_nothing)
{
    static const char text[] = "{# calls look like <|tool_call_start|>[f()]<|tool_call_end|> #}{% for m in messages %}{{ m.content }}{% endfor %}";
    static const char broken[] = "{% if %}<|tools_prefix|>", plain[] = "{% for m in messages %}{{ m.content }}{% endfor %}";
    expect_dialect("text", text, sizeof text - 1, "lfm2");
    expect_dialect("broken", broken, sizeof broken - 1, "apertus");
    expect_dialect("plain", plain, sizeof plain - 1, "bare_json");
    expect_dialect("no template", NULL, 0, "bare_json");
}

/* What a dialect reads as reasoning: pairs of the template's text beside its own. */
Test(dialects, reasoning_of_derived_models)
{
    static const char llama[] = "{%- if '</think>' in text %}{% endif %}<|python_tag|>", plain[] = "<|python_tag|>";
    static const char both[] = "<|tools_prefix|> <think>";
    static const struct {
        const char *dialect, *text, *output, *reasoning, *content;
    } cases[] = {
        {"llama31", llama, "<think>\nr</think>\n\nHi", "r", "Hi"},
        {"llama31", plain, "<think>\nr</think>\n\nHi", "", "<think>\nr</think>\n\nHi"},
        {"apertus", both, "<|inner_prefix|>a<|inner_suffix|><think>b</think>c", "a\nb", "c"},
        {"functionary_v32", CALLS ">>>{{ c.function.name }}\n{{ c.function.arguments | tojson }}" ENDS "{# <think> #}",
         "<think>r</think>\n>>>all\nHi", "r", "Hi"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct chat_named named = {.name = "default", .text = cases[i].text, .size = strlen(cases[i].text)};
        struct chat_source source = {.templates = &named, .count = 1};
        struct dialect_choice choice;
        struct output *o;
        struct error err;
        cr_assert_eq(dialect_detect(&choice, &source, &named, NULL, &err), STATUS_OK);
        cr_expect_str_eq(dialect_name(choice.dialect), cases[i].dialect);
        cr_assert_eq(output_open(&o, choice.dialect, NULL, &err), STATUS_OK);
        for (const char *c = cases[i].output; *c; c++)
            cr_assert_eq(output_add(o, c, 1, &err), STATUS_OK);
        cr_assert_eq(output_end(o, false, &err), STATUS_OK);
        cr_expect_str_eq(output_answer(o)->reasoning, cases[i].reasoning, "%s", choice.why);
        cr_expect_str_eq(output_answer(o)->content, cases[i].content, "%s", choice.why);
        output_close(o);
        dialect_choice_free(&choice);
    }
}

Test(dialects, shared)
{
    static const char *const cases[][2] = {
        {"apertus", "apertus"}, {"command-r7b-tools", "command_r7b"}, {"cohere2", "command_r7b"}, {"deepseek-r1-distill-llama", "deepseek_r1"},
        {"deepseek-r1", "deepseek_r1"}, {"deepseek-v3", "deepseek_r1"}, {"deepseek-v3.1", "deepseek_v31"}, {"deepseek-v3.2", "deepseek_v32"},
        {"devstral-small", "mistral_v11"}, {"firefunction-v2", "firefunction"}, {"functionary-v3.1", "functionary_v31"},
        {"functionary-v3.2", "functionary_v32"}, {"gemma-4", "gemma4"}, {"glm-4.5", "glm45"}, {"glm-4.6", "glm45"}, {"gpt-oss", "gpt_oss"},
        {"granite-3.3", "granite3"}, {"granite-4.0", "granite4"}, {"hermes-2-pro-tools", "hermes"}, {"hunyuan-a13b-tools", "hunyuan_a13b"},
        {"kimi-k2", "kimi_k2"}, {"kimi-k2-mutating", "kimi_k2"}, {"kimi-k2-thinking", "kimi_k2"}, {"lfm2", "lfm2"}, {"lfm2.5", "lfm2"},
        {"llama-3.1", "llama31"}, {"llama-3.2", "llama31"}, {"llama-3.2-vision", "llama31"}, {"llama-4", "llama4_pythonic"},
        {"minimax-m2", "minimax_m2"}, {"ministral-3-reasoning", "magistral"}, {"mistral-7b-v0.3", "mistral_v3"}, {"mistral-nemo", "mistral_v3"},
        {"mistral-small-3.2", "mistral_v11"}, {"nemotron-3-nano", "qwen35"}, {"nemotron-nano-v2", "nemotron_v2"}, {"qwen2.5", "hermes"},
        {"qwen3", "hermes"}, {"qwen3-coder", "qwen3_coder"}, {"qwen3.5", "qwen35"}, {"qwq", "hermes"}, {"seed-oss", "seed_oss"},
        {"smollm3", "hermes"},
        {"alpaca", "bare_json"}, {"chatml", "bare_json"}, {"command-r-plus-tools", "bare_json"}, {"ernie-4.5", "bare_json"},
        {"falcon-rw-chat", "bare_json"}, {"gemma-2", "bare_json"}, {"gemma-3", "bare_json"}, {"glm-4", "bare_json"}, {"llama-2-chat", "bare_json"},
        {"llama-3", "bare_json"}, {"mistral-7b-v0.2", "bare_json"}, {"mixtral-8x7b", "bare_json"}, {"openchat-3.5", "bare_json"},
        {"phi-3-mini", "bare_json"}, {"phi-3.5-mini", "bare_json"}, {"phi-4", "bare_json"}, {"qwen2.5-vl", "bare_json"}, {"smollm2", "bare_json"},
        {"tinyllama-zephyr", "bare_json"}, {"vicuna", "bare_json"},
    };
    struct stat there;
    if (stat(TEST_SHARED "/templates", &there))
        cr_skip_test("shared/templates is absent");
    cr_expect_eq(sizeof cases / sizeof *cases, 63);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct arena arena = {0};
        struct error err;
        char path[4096], *text;
        size_t size;
        snprintf(path, sizeof path, "%s/templates/%s.jinja", TEST_SHARED, cases[i][0]);
        cr_assert_eq(file_read(&arena, path, 1 << 20, &text, &size, &err), STATUS_OK, "%s", err.text);
        expect_dialect(cases[i][0], text, size, cases[i][1]);
        arena_free(&arena);
    }
}
