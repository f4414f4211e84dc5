/* Any bytes as what a model wrote. The first byte chooses the dialect, the second how the output ends and what is known, the
 * third where it is cut: the answer must be the same whole, byte by byte and in random pieces; events must say what the answer
 * says; a call holds JSON; letters that no marker has must not get lost where no call was read. */
#include <stdint.h>
#include <stdio.h>

#include "tests/output_answer.h"

static const char tools_text[] = "[{\"type\": \"function\", \"function\": {\"name\": \"f\", \"parameters\": {\"type\": "
                                 "\"object\", \"properties\": {\"s\": {\"type\": \"string\"}, "
                                 "\"i\": {\"type\": \"integer\"}, \"n\": {\"type\": [\"string\", \"null\"]}, \"o\": {\"type\": "
                                 "\"object\"}, \"l\": {\"type\": \"array\", "
                                 "\"items\": {\"type\": \"string\"}}, \"b\": {\"type\": \"boolean\"}}}}}, {\"name\": "
                                 "\"get_weather\", \"parameters\": {\"type\": \"object\", "
                                 "\"properties\": {\"city\": {\"type\": \"string\"}, \"days\": {\"type\": \"integer\"}}}}]";
static const char *const tails[] = {"", "<think>\n", ">>>", "<|start|>assistant"};

static size_t one(void *context, size_t at)
{
    (void)context;
    return at + 1;
}

static size_t some(void *context, size_t at)
{
    uint32_t *seed = context;
    *seed = *seed * 1664525u + 1013904223u;
    return at + 1 + (*seed >> 16) % 9;
}

static size_t count(const char *text, size_t size, char c)
{
    size_t n = 0;
    for (size_t i = 0; i < size; i++)
        n += text[i] == c;
    return n;
}

#define expect(what) ((what) ? (void)0 : (fprintf(stderr, "not so: %s\n", #what), abort()))

static bool same(const struct str *a, const struct str *b)
{
    return a->size == b->size && !memcmp(str_text(a), str_text(b), a->size);
}

/* Declarations of our own, behind the table's dialects: regions by literals and patterns, a schema. */
static const char *const declarations[] = {
    "{\"start_anchor\": \"<|im_start|>assistant\", \"fields\": {\"thinking\": {\"open_pattern\": \"<think>\\\\s*\", \"close\": \"</think>\"}, "
    "\"content\": {\"close\": [\"<|im_end|>\", \"<|im\"]}, \"tool_calls\": {\"open_pattern\": \"<tool_call>\\\\s*(?:<function=(?P<name>\\\\w+)>)\", "
    "\"close_pattern\": \"\\\\s*</tool_call>\", \"content\": \"xml-inline\", \"content_args\": {\"tag_pattern\": "
    "\"<parameter=(?P<key>\\\\w+)>(?P<value>.*?)</parameter>\"}, \"transform\": {\"name\": \"{name}\", \"arguments\": \"{content}\"}}}}",
    "{\"start_anchor\": \"assistant\", \"fields\": {\"thinking\": {\"open\": [\"<think>\", \"[THINK]\"], \"close\": \"</think>\", \"content_args\": "
    "{\"strip\": false}}, \"tool_calls\": {\"open\": \"<tool_call>\", \"close\": \"</tool_call>\", \"content\": \"json\", \"content_args\": "
    "{\"unquoted_keys\": true, \"string_delims\": [[\"<|\", \"|>\"]]}}}}",
    "{\"type\": \"object\", \"properties\": {\"thinking\": {\"type\": \"string\", \"x-regex\": \"<think>(.*?)</think>\"}, \"tool_calls\": "
    "{\"type\": \"array\", \"x-regex-iterator\": \"<tool_call>(.*?)</tool_call>\", \"items\": {\"x-parser\": \"json\"}}}}",
};
enum { DECLARATIONS = sizeof declarations / sizeof *declarations };

static const struct dialect *declared_dialect(size_t i)
{
    static struct dialect_choice choices[DECLARATIONS];
    struct chat_source source = {0};
    struct chat_declaration text = {declarations[i], strlen(declarations[i])};
    *(i + 1 < DECLARATIONS ? &source.response_template : &source.response_schema) = text;
    if (!choices[i].dialect)
        expect(dialect_detect(&choices[i], &source, NULL, NULL, NULL) == STATUS_OK && !choices[i].warning[0]);
    return choices[i].dialect;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3)
        return 0;
    size_t dialects = 0;
    while (dialect_at(dialects))
        dialects++;
    size_t which = data[0] % (dialects + DECLARATIONS);
    const struct dialect *d = which < dialects ? dialect_at(which) : declared_dialect(which - dialects);
    const char *text = (const char *)data + 3, *tail = tails[data[1] >> 2 & 3];
    size_t n = size - 3;
    bool cut = data[1] & 1;
    uint32_t seed = data[2];
    struct arena arena = {0};
    struct json tools;
    expect(json_parse(&arena, tools_text, sizeof tools_text - 1, NULL, &tools, NULL) == STATUS_OK);
    struct told told = {0};
    struct str whole = {0}, bytes = {0}, pieces = {0}, calls = {0};
    struct output_options options = {.tools = data[1] & 2 ? &tools : NULL, .prompt_tail = tail, .prompt_tail_size = strlen(tail)};
    expect(read_output(d, options, text, n, cut, one, NULL, &bytes, NULL));
    expect(read_output(d, options, text, n, cut, some, &seed, &pieces, NULL));
    options.event = told_event;
    options.context = &told;
    expect(read_output(d, options, text, n, cut, NULL, NULL, &whole, &calls));
    expect(same(&whole, &bytes) && same(&whole, &pieces));
    expect(!told.wrong);
    struct str joined = {0};
    struct output_answer a = {.reasoning = str_text(&told.reasoning),
                              .reasoning_size = told.reasoning.size,
                              .content = str_text(&told.content),
                              .content_size = told.content.size};
    answer_text(&a, &joined);
    size_t text_part = joined.size - strlen("], \"warnings\": []}");
    expect(whole.size >= text_part && !memcmp(joined.data, whole.data, text_part));
    struct json v;
    expect(json_parse(&arena, whole.data, whole.size, NULL, &v, NULL) == STATUS_OK);
    if (!calls.size && strcmp(dialect_name(d), "gpt_oss"))
        for (const char *c = "qzQZ$@%"; *c; c++)
            expect(count(whole.data, whole.size, *c) >= count(text, n, *c));
    str_free(&joined);
    str_free(&whole);
    str_free(&bytes);
    str_free(&pieces);
    str_free(&calls);
    told_free(&told);
    arena_free(&arena);
    return 0;
}
