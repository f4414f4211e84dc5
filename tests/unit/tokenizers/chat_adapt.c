/* Requests fitted to templates: each sample is a template of our own that lacks something, a request, and the prompt that must
 * come of it. Everything the request says stays in. */
#include <criterion/criterion.h>
#include <string.h>

#include "tokenizers/tokenizers.h"

struct sample {
    const char *template, *request, *text, *notes; /* notes: of the steps, with blanks between */
};

enum marks { NOT_ASKED, OWN, FOREIGN };

/* dialect: how calls are printed; NULL: it is not known. marks: of the first <tool_call>. */
static void check_as(const char *dialect, enum marks marks, const struct sample *samples, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct sample *c = &samples[i];
        struct arena arena = {0};
        struct json request, fitted, context;
        struct error err = {0};
        struct chat_template *t;
        struct chat_text out = {0};
        struct chat_abilities can;
        struct chat_notes notes;
        char said[400] = "";
        cr_assert_eq(json_parse(&arena, c->request, strlen(c->request), NULL, &request, &err), STATUS_OK, "%s: %s", c->request, err.text);
        cr_assert_eq(chat_compile(&t, "t", c->template, strlen(c->template), &err), STATUS_OK, "%s: %s", c->template, err.text);
        chat_probe(t, NULL, &can);
        struct call_notation calls = {0};
        if (dialect)
            cr_assert_eq(call_notation_find(&calls, dialect_find(dialect, strlen(dialect)), t, NULL, &err), STATUS_OK);
        enum status status = chat_adapt(&arena, &request, &can, dialect ? &calls : NULL, "2026-01-02T03:04:05", &fitted, &notes, &err);
        if (!status)
            status = chat_context(&arena, &fitted, NULL, &context, &err);
        if (!status)
            status = chat_render(t, &context, "2026-01-02T03:04:05", NULL, &out, &err);
        for (int k = 0; k < notes.count; k++) {
            strcat(said, k ? " " : "");
            strcat(said, notes.list[k].text);
        }
        if (c->text) {
            cr_expect_eq(status, STATUS_OK, "%s: %s", c->template, err.text);
            cr_expect_str_eq(str_text(&out.text), c->text, "%s: got '%s'", c->template, str_text(&out.text));
            cr_expect_str_eq(said, c->notes, "%s: did '%s'", c->template, said);
        } else {
            cr_expect_eq(status, STATUS_BAD_INPUT, "%s: no error", c->template);
            cr_expect(strstr(err.text, c->notes), "%s: '%s'", c->template, err.text);
        }
        const char *marker = marks ? strstr(str_text(&out.text), "<tool_call>") : NULL;
        cr_expect(!marks || (marker && out.marks[marker - str_text(&out.text)] == (marks == OWN)), "%s: whose are the marks in '%s'?", c->template, str_text(&out.text));
        call_notation_free(&calls);
        chat_text_free(&out);
        chat_free(t);
        arena_free(&arena);
    }
}
#define CHECK_AS(dialect, marks, ...) check_as(dialect, marks, &(const struct sample){__VA_ARGS__}, 1)
#define CHECK(...)                                                                                                             \
    static const struct sample samples[] = {__VA_ARGS__};                                                                       \
    check_as(NULL, NOT_ASKED, samples, sizeof samples / sizeof *samples)

#define PLAIN "{% for m in messages %}{{ m.role[0] }}:{{ m.content + '' }};{% endfor %}"
#define NO_SYSTEM "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}{{ m.role[0] }}:{{ m.content + '' }};{% endfor %}"
#define ALTERNATE "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('no') }}{% endif %}{{ m.role[0] }}:{{ m.content + '' }};{% endfor %}"
#define FIRST_SYSTEM "{% for m in messages %}{% if m.role != 'system' or loop.first %}{{ m.role[0] }}:{{ m.content + '' }};{% endif %}{% endfor %}"
#define CALLS(arguments) "{% for t in tools %}[{{ t.function.name }} {{ t.function.description }}]{% endfor %}{% for m in messages %}{{ m.role[0] }}:{{ m.content + '' }}" \
    "{% for c in m.tool_calls %}<{{ c.function.name }} " arguments ">{% endfor %};{% endfor %}"
#define OBJECT_CALLS CALLS("{% for k, v in c.function.arguments.items() %}{{ k }}={{ v }}{% endfor %}")
#define TEXT_CALLS CALLS("{{ c.function.arguments + '' }}")
#define ONE_CALL "{% for m in messages %}{% if m.tool_calls %}{% if m.tool_calls | length > 1 %}{{ raise_exception('one') }}{% endif %}{% endif %}{% endfor %}" OBJECT_CALLS
#define TOOL "\"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\", \"description\": \"d\", \"parameters\": {}}}], "
#define CALL(id, arguments) "{\"id\": \"" id "\", \"type\": \"function\", \"function\": {\"name\": \"f\", \"arguments\": " arguments "}}"

Test(adapt, nothing_to_do)
{
    CHECK({PLAIN, "{\"messages\": [{\"role\": \"system\", \"content\": \"S\"}, {\"role\": \"user\", \"content\": \"U\"}]}", "s:S;u:U;", ""});
}

Test(adapt, roles)
{
    CHECK({NO_SYSTEM, "{\"messages\": [{\"role\": \"system\", \"content\": \"S\"}, {\"role\": \"user\", \"content\": \"U\"}]}", "u:S\n\nU;", "system-into-user"},
          {NO_SYSTEM, "{\"messages\": [{\"role\": \"developer\", \"content\": \"S\"}, {\"role\": \"user\", \"content\": \"U\"}]}", "u:S\n\nU;",
           "developer-to-system system-into-user"},
          {NO_SYSTEM, "{\"messages\": [{\"role\": \"system\", \"content\": \"S\"}]}", "u:S;", "system-into-user"},
          {FIRST_SYSTEM, "{\"messages\": [{\"role\": \"system\", \"content\": \"S\"}, {\"role\": \"user\", \"content\": \"U\"}, {\"role\": \"system\", \"content\": \"T\"}]}",
           "s:S\n\nT;u:U;", "systems-to-front"},
          {ALTERNATE, "{\"messages\": [{\"role\": \"user\", \"content\": \"A\"}, {\"role\": \"user\", \"content\": \"B\"}, {\"role\": \"assistant\", \"content\": \"C\"},"
                      "{\"role\": \"assistant\", \"content\": \"D\"}, {\"role\": \"user\", \"content\": \"E\"}]}",
           "u:A\n\nB;a:C\n\nD;u:E;", "merge-turns"});
}

Test(adapt, parts)
{
    CHECK({PLAIN, "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"A\"}, {\"type\": \"text\", \"text\": \"B\"}]}]}", "u:A\nB;",
           "parts-to-text"},
          {PLAIN, "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image_url\", \"image_url\": {}}]}]}", NULL, "messages[0].content[0]"},
          {"{% for m in messages %}{{ m.role[0] }}:{% for p in m.content %}{{ p.text }}{% endfor %};{% endfor %}",
           "{\"messages\": [{\"role\": \"user\", \"content\": \"AB\"}]}", "u:AB;", "text-to-parts"});
}

Test(adapt, calls)
{
    CHECK({OBJECT_CALLS, "{" TOOL "\"messages\": [{\"role\": \"assistant\", \"content\": null, \"tool_calls\": [" CALL("c", "\"{\\\"n\\\": 1.0}\"") "]}]}", "[f d]a:<f n=1.0>;",
           "arguments-to-object content-to-empty"},
          {TEXT_CALLS, "{" TOOL "\"messages\": [{\"role\": \"assistant\", \"content\": \"\", \"tool_calls\": [" CALL("c", "{\"n\": 1.0, \"l\": [1]}") "]}]}",
           "[f d]a:<f {\"n\": 1.0, \"l\": [1]}>;", "arguments-to-text"},
          {OBJECT_CALLS, "{" TOOL "\"messages\": [{\"role\": \"assistant\", \"content\": \"\", \"tool_calls\": [" CALL("c", "\"[]\"") "]}]}", "[f d]a:<f >;",
           "arguments that are no JSON object count as {}: [] arguments-to-object"},
          {ONE_CALL, "{" TOOL "\"messages\": [{\"role\": \"assistant\", \"content\": \"A\", \"tool_calls\": [" CALL("c", "{\"n\": 1}") ", " CALL("d", "{\"n\": 2}") "]},"
                     "{\"role\": \"tool\", \"tool_call_id\": \"d\", \"content\": \"R2\"}, {\"role\": \"tool\", \"tool_call_id\": \"c\", \"content\": \"R1\"}]}",
           "[f d]a:A<f n=1>;t:R1;a:<f n=2>;t:R2;", "split-calls"});
}

Test(adapt, a_user_behind_a_result)
{
    static const char refuses[] = "{% for m in messages %}{% if m.role == 'user' and not loop.first and messages[loop.index0 - 1].role == 'tool' %}{{ raise_exception('no') }}"
                                  "{% endif %}{% endfor %}" OBJECT_CALLS;
#define TURNS "\"messages\": [{\"role\": \"user\", \"content\": \"U\"}, {\"role\": \"assistant\", \"content\": \"A\", \"tool_calls\": [" CALL("c", "{\"n\": 1}") "]}," \
              "{\"role\": \"tool\", \"tool_call_id\": \"c\", \"content\": \"R\"}, {\"role\": \"user\", \"content\": \"V\"}]}"
    static const char refuses_empty[] = "{% for m in messages %}{% if m.role == 'assistant' and not m.content and not m.tool_calls or m.role == 'user' and not loop.first and "
                                        "messages[loop.index0 - 1].role == 'tool' %}{{ raise_exception('no') }}{% endif %}{% endfor %}" OBJECT_CALLS;
    CHECK({refuses, "{" TOOL TURNS, "[f d]u:U;a:A<f n=1>;t:R;a:;u:V;", "reply-to-results"},
          {refuses_empty, "{" TOOL TURNS, "[f d]u:U;a:A<f n=1>;t:R;a: ;u:V;", "reply-to-results"}, {OBJECT_CALLS, "{" TOOL TURNS, "[f d]u:U;a:A<f n=1>;t:R;u:V;", ""});
}

/* A template that shows tools and results, and drops the calls between them. */
Test(adapt, calls_that_a_template_drops)
{
    static const char drops[] = "{% for t in tools %}[{{ t.function.name }} {{ t.function.description }}]{% endfor %}{% for m in messages %}{{ m.role[0] }}:{{ m.content }};{% endfor %}";
#define HISTORY(content, calls) "{" TOOL "\"messages\": [{\"role\": \"assistant\", \"content\": " content ", \"tool_calls\": [" calls "]}]}"
    CHECK_AS("hermes", OWN, drops, HISTORY("\"\"", CALL("c", "{\"n\": 1, \"s\": \"x\"}")),
             "[f d]a:<tool_call>\n{\"name\": \"f\", \"arguments\": {\"n\": 1, \"s\": \"x\"}}\n</tool_call>;", "print-calls");
    CHECK_AS("lfm2", NOT_ASKED, drops, HISTORY("null", CALL("c", "{\"n\": true, \"s\": \"x\"}") ", " CALL("d", "{}")),
             "[f d]a:<|tool_call_start|>[f(n=True, s=\"x\"), f()]<|tool_call_end|>;", "print-calls");
    CHECK_AS("qwen3_coder", FOREIGN, drops,
             HISTORY("\"A\"", CALL("c", "\"{\\\"s\\\": \\\"</tool_call>\\\"}\"")),
             "[f d]a:A\n<tool_call>\n<function=f>\n<parameter=s>\n</tool_call>\n</parameter>\n</function>\n</tool_call>;", "arguments-to-object print-calls");
    CHECK({drops, HISTORY("\"A\"", CALL("c", "{}")), "[f d]a:A;", ""});
    CHECK_AS("hermes", NOT_ASKED, OBJECT_CALLS, HISTORY("\"\"", CALL("c", "{\"n\": 1}")), "[f d]a:<f n=1>;", "");
}

Test(adapt, a_template_without_tools)
{
    CHECK({PLAIN, "{\"messages\": [{\"role\": \"user\", \"content\": \"U\"}, {\"role\": \"assistant\", \"content\": null, \"tool_calls\": [" CALL("c", "\"{\\\"n\\\": 1}\"") "]},"
                  "{\"role\": \"tool\", \"tool_call_id\": \"c\", \"content\": \"R\"}]}",
           "u:U;a:<tool_call>\n{\"name\": \"f\", \"arguments\": {\"n\": 1}}\n</tool_call>;u:<tool_response>\nR\n</tool_response>;", "tools-into-system"});
    struct arena arena = {0};
    struct json request, fitted;
    struct error err;
    struct chat_template *t;
    struct chat_abilities can;
    struct chat_notes notes;
    const char *text = "{" TOOL "\"messages\": [{\"role\": \"user\", \"content\": \"U\"}]}";
    cr_assert_eq(json_parse(&arena, text, strlen(text), NULL, &request, &err), STATUS_OK);
    cr_assert_eq(chat_compile(&t, "t", PLAIN, strlen(PLAIN), &err), STATUS_OK);
    chat_probe(t, NULL, &can);
    cr_assert_eq(chat_adapt(&arena, &request, &can, NULL, NULL, &fitted, &notes, &err), STATUS_OK);
    const struct json *messages = json_get(&fitted, "messages"), *system = json_get(&messages->items[0], "content");
    cr_assert_eq(messages->size, 2);
    cr_expect(memmem(system->text, system->size, "{\"name\": \"f\", \"description\": \"d\"", 32), "%.*s", (int)system->size, system->text);
    cr_expect(notes.calls_as_text);
    cr_expect(json_is(json_get(&fitted, "tools"), JSON_NULL));
    chat_free(t);
    arena_free(&arena);
}

Test(adapt, many_messages_take_linear_time)
{
    struct str text = {0};
    struct arena arena = {0};
    struct json request, fitted;
    struct error err;
    struct chat_template *t;
    struct chat_abilities can;
    struct chat_notes notes;
    str_add_text(&text, "{\"messages\": [{\"role\": \"user\", \"content\": \"A\"}");
    for (int i = 0; i < 200000; i++)
        str_add_text(&text, i % 2 ? ", {\"role\": \"user\", \"content\": \"A\"}" : ", {\"role\": \"system\", \"content\": \"B\"}");
    str_add_text(&text, "]}");
    cr_assert_eq(json_parse(&arena, str_text(&text), text.size, NULL, &request, &err), STATUS_OK);
    cr_assert_eq(chat_compile(&t, "t", ALTERNATE, strlen(ALTERNATE), &err), STATUS_OK);
    chat_probe(t, NULL, &can);
    cr_assert_eq(chat_adapt(&arena, &request, &can, NULL, NULL, &fitted, &notes, &err), STATUS_OK);
    cr_expect_eq(json_get(&fitted, "messages")->size, 1);
    chat_free(t);
    arena_free(&arena);
    str_free(&text);
}
