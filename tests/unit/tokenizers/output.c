/* Readers of model output: our own cases for every dialect and rule (tests/data/output.jsonl), and the shared ones. Each is read
 * whole, byte by byte, in two pieces cut anywhere, and from its events. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>

#include "base/file.h"
#include "tests/output_answer.h"

static const char tools_text[] =
    "[{\"type\": \"function\", \"function\": {\"name\": \"f\", \"parameters\": {\"type\": \"object\", \"properties\": {\"s\": "
    "{\"type\": \"string\"}, "
    "\"i\": {\"type\": \"integer\"}, \"n\": {\"type\": [\"string\", \"null\"]}, \"o\": {\"type\": \"object\"}, \"l\": {\"type\": "
    "\"array\", "
    "\"items\": {\"type\": \"string\"}}, \"b\": {\"type\": \"boolean\"}}}}}, {\"name\": \"g\"}, {\"name\": \"python\"}]";

static size_t one(void *context, size_t at)
{
    (void)context;
    return at + 1;
}

static size_t two(void *context, size_t at)
{
    const size_t *cut = context;
    return at < *cut ? *cut : SIZE_MAX;
}

static const char *text_of(const struct str *s) { return str_text(s); }

/* Reads a case in every way; the answer to the whole is in out. */
static void read_everyway(const struct dialect *d, struct output_options options, const char *text, size_t size, bool cut,
                          struct str *out)
{
    struct told told = {0};
    struct str calls = {0}, again = {0};
    struct output_options telling = options;
    telling.event = told_event;
    telling.context = &told;
    cr_assert(read_output(d, telling, text, size, cut, one, NULL, out, &calls));
    cr_expect_not(told.wrong, "%s: events out of order: %s", dialect_name(d), text_of(out));
    for (size_t at = 0; at <= size; at++) {
        str_clear(&again);
        cr_assert(read_output(d, options, text, size, cut, at ? two : NULL, &at, &again, NULL));
        cr_assert_str_eq(text_of(&again), text_of(out), "%s, cut at %zu of %.*s", dialect_name(d), at, (int)size, text);
    }
    struct str joined = {0};
    struct output_answer a = {.reasoning = str_text(&told.reasoning),
                              .reasoning_size = told.reasoning.size,
                              .content = str_text(&told.content),
                              .content_size = told.content.size};
    answer_text(&a, &joined);
    cr_expect_eq(strncmp(text_of(out), text_of(&joined), joined.size - strlen("], \"warnings\": []}")), 0,
                 "%s: told %s, answered %s", dialect_name(d), text_of(&joined), text_of(out));
    if (!strstr(text_of(out), "[\"truncated\"") && !strstr(text_of(out), "[\"malformed\""))
        cr_expect_str_eq(text_of(&told.calls), text_of(&calls), "%s", text_of(out));
    told_free(&told);
    str_free(&joined);
    str_free(&again);
    str_free(&calls);
}

static void parse(struct arena *arena, const char *text, size_t size, struct json *out)
{
    struct error err;
    cr_assert_eq(json_parse(arena, text, size, NULL, out, &err), STATUS_OK, "%s: %.*s", err.text, (int)size, text);
}

static const struct dialect *dialect_of(const struct json *c)
{
    const struct json *name = json_get(c, "dialect");
    const struct dialect *d = name ? dialect_find(name->text, name->size) : NULL;
    cr_assert_not_null(d);
    return d;
}

/* {"reasoning", "content", "calls": [[name, arguments]], "warnings": [[kind, text]]}, as answer_text() writes it. */
static void expect_answer(const struct json *c, const char *name, const struct str *answer)
{
    static const char *const keys[] = {"reasoning", "content", "calls", "warnings"};
    struct arena arena = {0};
    struct json got;
    parse(&arena, text_of(answer), answer->size, &got);
    for (int i = 0; i < 4; i++) {
        struct str want_text = {0}, got_text = {0};
        json_write(&want_text, json_get(c, keys[i]));
        json_write(&got_text, json_get(&got, keys[i]));
        cr_expect_str_eq(text_of(&got_text), text_of(&want_text), "%s of %s", keys[i], name);
        str_free(&want_text);
        str_free(&got_text);
    }
    arena_free(&arena);
}

typedef void each_line(const struct json *line, void *context);

static void lines_of(const char *path, each_line *each, void *context)
{
    struct arena file = {0};
    struct error err;
    char *text;
    size_t size;
    cr_assert_eq(file_read(&file, path, 16 << 20, &text, &size, &err), STATUS_OK, "%s", err.text);
    for (char *end; size && (end = memchr(text, '\n', size)); size -= (size_t)(end + 1 - text), text = end + 1) {
        struct arena arena = {0};
        struct json line;
        parse(&arena, text, (size_t)(end - text), &line);
        each(&line, context);
        arena_free(&arena);
    }
    arena_free(&file);
}

static void read_case(const struct dialect *d, const struct json *c, const struct json *tools)
{
    const struct json *output = json_get(c, "output"), *tail = json_get(c, "prompt_tail");
    struct str answer = {0};
    struct output_options options = {
        .tools = tools, .prompt_tail = tail ? tail->text : NULL, .prompt_tail_size = tail ? tail->size : 0};
    read_everyway(d, options, output->text, output->size, json_get(c, "cut") != NULL, &answer);
    expect_answer(c, dialect_name(d), &answer);
    str_free(&answer);
}

static void own_case(const struct json *c, void *context) { read_case(dialect_of(c), c, context); }

Test(output, own_cases)
{
    struct arena arena = {0};
    struct json tools;
    parse(&arena, tools_text, sizeof tools_text - 1, &tools);
    lines_of(TEST_DATA "/output.jsonl", own_case, &tools);
    arena_free(&arena);
}

/* {"response_template" or "response_schema", "cases": [...]}, or "refused": what the warning speaks of
 * (tests/reference/declared.py). */
static void declared_line(const struct json *line, void *context)
{
    const struct json *template = json_get(line, "response_template"), *cases = json_get(line, "cases"), *refused = json_get(line, "refused");
    struct str text = {0};
    struct dialect_choice choice;
    struct error err;
    json_write(&text, template ? template : json_get(line, "response_schema"));
    struct chat_declaration declaration = {str_text(&text), text.size};
    struct chat_source source = {0};
    *(template ? &source.response_template : &source.response_schema) = declaration;
    cr_assert_eq(dialect_detect(&choice, &source, NULL, NULL, &err), STATUS_OK);
    if (refused) {
        char *word = strndup(refused->text, refused->size);
        cr_expect(strstr(choice.warning, word), "%s: %s", choice.warning, text_of(&text));
        cr_expect_str_eq(dialect_name(choice.dialect), "bare_json");
        free(word);
    } else {
        cr_expect_str_eq(choice.warning, "");
        cr_expect_str_eq(dialect_name(choice.dialect), template ? "response_template" : "response_schema");
    }
    for (uint32_t i = 0; cases && i < cases->size; i++)
        read_case(choice.dialect, &cases->items[i], json_get(&cases->items[i], "tools") ? context : NULL);
    dialect_choice_free(&choice);
    str_free(&text);
}

Test(output, declared)
{
    struct arena arena = {0};
    struct json tools;
    parse(&arena, tools_text, sizeof tools_text - 1, &tools);
    lines_of(TEST_DATA "/declared.jsonl", declared_line, &tools);
    arena_free(&arena);
}

static void mark_seen(const struct json *c, void *context)
{
    bool *seen = context;
    for (size_t i = 0; dialect_at(i); i++)
        seen[i] |= dialect_at(i) == dialect_of(c);
}

Test(output, every_dialect_has_a_case)
{
    bool seen[100] = {false};
    lines_of(TEST_DATA "/output.jsonl", mark_seen, seen);
    for (size_t i = 0; dialect_at(i); i++) {
        cr_expect(seen[i], "%s", dialect_name(dialect_at(i)));
        if (i)
            cr_expect_lt(strcmp(dialect_name(dialect_at(i - 1)), dialect_name(dialect_at(i))), 0);
    }
    cr_expect_null(dialect_find("no such", 7));
}

static void shared_case(const struct json *c, void *context)
{
    const struct json *output = json_get(c, "output"), *tail = json_get(c, "prompt_tail"), *expect = json_get(c, "expect");
    struct output_options options = {.tools = json_get(c, "tools"), .prompt_tail = tail->text, .prompt_tail_size = tail->size};
    struct str answer = {0};
    struct arena arena = {0};
    struct json got;
    read_everyway(context, options, output->text, output->size, json_is_text(json_get(c, "finish_reason"), "length"), &answer);
    parse(&arena, text_of(&answer), answer.size, &got);
    const struct json *note = json_get(c, "note"), *reasoning = json_get(expect, "reasoning"),
                      *content = json_get(expect, "content");
    const char *name = dialect_name(context);
    cr_expect(json_get(&got, "reasoning")->size == reasoning->size && json_get(&got, "content")->size == content->size,
              "%s: %.*s: %s", name, (int)note->size, note->text, text_of(&answer));
    cr_expect_eq(json_get(&got, "calls")->size, json_get(expect, "tool_calls")->size, "%s: %.*s: %s", name, (int)note->size,
                 note->text, text_of(&answer));
    arena_free(&arena);
    str_free(&answer);
}

Test(output, shared_cases, .timeout = 600)
{
    DIR *folder = opendir(TEST_SHARED "/toolcalls");
    if (!folder)
        cr_skip_test("shared/toolcalls is absent");
    size_t files = 0;
    for (struct dirent *entry; (entry = readdir(folder));) {
        const char *dot = strrchr(entry->d_name, '.');
        char path[4096];
        if (!dot || strcmp(dot, ".jsonl"))
            continue;
        const struct dialect *d = dialect_find(entry->d_name, (size_t)(dot - entry->d_name));
        cr_assert_not_null(d, "%s", entry->d_name);
        snprintf(path, sizeof path, "%s/toolcalls/%s", TEST_SHARED, entry->d_name);
        lines_of(path, shared_case, (void *)(uintptr_t)d);
        files++;
    }
    closedir(folder);
    cr_expect_eq(files, 52);
}

/* Ids: nine letters or digits, one each, and others with another seed. */
Test(output, made_up_ids)
{
    static const char text[] = "<tool_call>{\"name\": \"f\"}</tool_call><tool_call>{\"name\": \"f\"}</tool_call>";
    char ids[4][10] = {""};
    for (int i = 0; i < 2; i++) {
        struct output *o;
        struct error err;
        struct output_options options = {.id_seed = (uint64_t)i};
        cr_assert_eq(output_open(&o, dialect_find("hermes", 6), &options, &err), STATUS_OK);
        cr_assert_eq(output_add(o, text, sizeof text - 1, &err), STATUS_OK);
        cr_assert_eq(output_end(o, false, &err), STATUS_OK);
        const struct output_answer *a = output_answer(o);
        cr_assert_eq(a->call_count, 2);
        for (int k = 0; k < 2; k++) {
            cr_expect_eq(strlen(a->calls[k].id), 9);
            snprintf(ids[2 * i + k], 10, "%s", a->calls[k].id);
        }
        output_close(o);
    }
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < i; k++)
            cr_expect_str_neq(ids[i], ids[k]);
}

/* The arguments of a marked call go out while they come. */
Test(output, arguments_stream)
{
    static const struct {
        const char *dialect, *text, *told;
    } cases[] = {
        {"hermes", "<tool_call>{\"name\": \"f\", \"arguments\": {\"s\": \"ab", "\"f\"{\"s\": \"ab"},
        {"mistral_v11", "[TOOL_CALLS]f[ARGS]{\"s\": ", "\"f\"{\"s\": "},
        {"qwen3_coder", "<tool_call>\n<function=f>\n<parameter=s>\nab\"c", "\"f\"{\"s\": \"ab\\\"c"},
        {"gpt_oss", "<|channel|>commentary to=functions.f<|message|>{\"s", "\"f\"{\"s"},
        {"lfm2", "<|tool_call_start|>[f(i=1, s=", "\"f\"{\"i\": 1, \"s\": "},
        {"gemma4", "<|tool_call>call:f{i:1,s:", "\"f\"{\"i\": 1, \"s\": "},
        {"glm45", "<tool_call>f\n<arg_key>s</arg_key>\n<arg_value>ab", "\"f\"{\"s\": \"ab"},
        {"bare_json", "{\"name\": \"f\", \"arguments\": {\"s\": \"ab", ""},
    };
    struct arena arena = {0};
    struct json tools;
    parse(&arena, tools_text, sizeof tools_text - 1, &tools);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct told told = {0};
        struct output *o;
        struct error err;
        struct output_options options = {.tools = &tools, .event = told_event, .context = &told};
        cr_assert_eq(output_open(&o, dialect_find(cases[i].dialect, strlen(cases[i].dialect)), &options, &err), STATUS_OK);
        cr_assert_eq(output_add(o, cases[i].text, strlen(cases[i].text), &err), STATUS_OK);
        cr_expect_str_eq(text_of(&told.open), cases[i].told, "%s", cases[i].dialect);
        output_close(o);
        told_free(&told);
    }
    arena_free(&arena);
}

static void count_calls(void *context, const struct output_event *e) { *(int *)context += e->kind == OUTPUT_CALL_END; }

/* An answer that is ended behind its first call has that call, though its list stays open. */
Test(output, the_first_call_is_enough)
{
    static const struct {
        const char *dialect, *text;
    } cases[] = {
        {"mistral_v3", "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"s\": \"a\"}, \"id\": \"123456789\"}, {\"name\""},
        {"jamba", "<tool_calls>[{\"name\": \"f\", \"arguments\": {\"s\": \"a\"}}]</tool_calls>"},
        {"lfm2", "<|tool_call_start|>[f(s=\"a\")]<|tool_call_end|>"},
        {"hermes", "<tool_call>{\"name\": \"f\", \"arguments\": {\"s\": \"a\"}}</tool_call>"},
        {"qwen3_coder", "<tool_call>\n<function=f>\n<parameter=s>\na\n</parameter>\n</function>\n</tool_call>"},
    };
    struct arena arena = {0};
    struct json tools;
    parse(&arena, tools_text, sizeof tools_text - 1, &tools);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct output *o;
        struct error err;
        int calls = 0;
        struct output_options options = {.tools = &tools, .event = count_calls, .context = &calls, .one_call = true};
        cr_assert_eq(output_open(&o, dialect_find(cases[i].dialect, strlen(cases[i].dialect)), &options, &err), STATUS_OK);
        for (const char *c = cases[i].text; *c && !calls; c++)
            cr_assert_eq(output_add(o, c, 1, &err), STATUS_OK);
        cr_assert_eq(output_end(o, false, &err), STATUS_OK);
        const struct output_answer *a = output_answer(o);
        cr_assert(calls == 1 && a->call_count == 1, "%s", cases[i].dialect);
        cr_expect(!a->warning_count && !a->content_size && strstr(a->calls[0].arguments, "\"a\""), "%s", cases[i].dialect);
        output_close(o);
    }
    arena_free(&arena);
}

Test(output, tools_must_be_a_list)
{
    struct output *o;
    struct error err;
    struct json object = {.kind = JSON_OBJECT};
    struct output_options options = {.tools = &object};
    cr_expect_eq(output_open(&o, dialect_find("hermes", 6), &options, &err), STATUS_USAGE);
    cr_expect_null(o);
    output_close(o);
}

/* Deep, endless, repeated: an answer comes, and soon (a quadratic reader would run into the time limit). */
Test(output, hostile, .timeout = 60)
{
    static const char *const units[][2] = {
        {"hermes", "<tool_call>{\"a"},
        {"hermes", "<tool_call>"},
        {"hermes", " "},
        {"hermes", "<|im_end|>"},
        {"hermes", "<think>"},
        {"hermes", "<tool_call>{\"name\": \"f\", \"arguments\": {\"s\": ["},
        {"qwen3_coder", "<tool_call><function=f><parameter=s></parameter> "},
        {"bare_json", "{\"name\": \"f\", \"arguments\": {\n"},
        {"bare_json", "[\n"},
        {"tool_call_text", "TOOL_CALL: f(s=\"\n"},
        {"lfm2", "<|tool_call_start|>[f(s=[[("},
        {"gemma4", "<|tool_call>call:f{s:<|\"|>"},
        {"gpt_oss", "<|channel|>commentary to=f<|message|>{"},
        {"kimi_k2", "<|tool_calls_section_begin|><|tool_call_begin|>f:0<|tool_call_argument_begin|>{\""},
        {"minimax_m3", "]<]minimax[>[<tool_call>]<]minimax[>[<invoke name=\"f\">]<]minimax[>[<s>"},
        {"functionary_v32", "all\n>>>f\n{\""},
        {"deepseek_v32", "<｜DSML｜function_calls><｜DSML｜invoke name=\"f\">"},
        {"glm45", "<tool_call>f<arg_key>s</arg_key><arg_value></arg_value> "},
        {"llama31", "{\"name\": \"f\", \"parameters\": {}}; "},
        {"mistral_v3", "[TOOL_CALLS]f[ARGS]{\""},
    };
    struct arena arena = {0};
    struct json tools;
    parse(&arena, tools_text, sizeof tools_text - 1, &tools);
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        struct str text = {0}, answer = {0};
        while (text.size < 200000)
            str_add_text(&text, units[i][1]);
        struct output_options options = {.tools = &tools};
        cr_expect(read_output(dialect_find(units[i][0], strlen(units[i][0])), options, text.data, text.size, false, one, NULL,
                              &answer, NULL));
        str_free(&answer);
        str_free(&text);
    }
    arena_free(&arena);
}
