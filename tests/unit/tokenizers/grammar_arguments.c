/* Arguments that models write as tags or as Python's: what fits their schema, as the readers of such calls take it. */
#include "tests/unit/tokenizers/grammar.h"

enum notation { TAGS, MARKED, PYTHON };

static struct grammar *arguments(enum notation notation, const char *source, struct error *err)
{
    struct arena arena = {0};
    struct json schema;
    struct grammar_builder *b;
    struct grammar *g = NULL;
    grammar_part part;
    cr_assert_eq(json_parse(&arena, source, strlen(source), NULL, &schema, err), STATUS_OK, "%s: %s", source, err->text);
    cr_assert_eq(grammar_builder_open(&b, err), STATUS_OK);
    struct grammar_arguments as = {.key = grammar_part_text(b, "<p=", notation == PYTHON ? 0 : 3), .python = notation == PYTHON,
                                   .close = grammar_part_text(b, "</p>", notation == PYTHON ? 0 : 4), .until = notation == PYTHON ? NULL : "</p>",
                                   .joint = grammar_part_text(b, ", ", notation == PYTHON ? 2 : 0), .marked = notation == MARKED};
    for (int kind = JSON_NULL; kind <= JSON_OBJECT; kind++) {
        const char *text = notation == PYTHON ? "=" : notation == TAGS ? ">" : kind == JSON_STRING ? " s>" : kind == JSON_NUMBER ? " n>" : " o>";
        as.value[kind] = grammar_part_text(b, text, strlen(text));
    }
    if (!grammar_part_arguments(b, &schema, &as, &part, err))
        cr_assert_eq(grammar_builder_finish(b, part, &g, err), STATUS_OK, "%s: %s", source, err->text);
    grammar_builder_close(b);
    arena_free(&arena);
    return g;
}

static void check(enum notation notation, struct language l)
{
    struct error err = {0};
    struct grammar *g = arguments(notation, l.source, &err);
    cr_assert(g, "%s: %s", l.source, err.text);
    check_texts(g, &l);
    grammar_close(g);
}

#define ONE(schema) "{\"type\": \"object\", \"properties\": {\"a\": " schema "}, \"required\": [\"a\"], \"additionalProperties\": false}"

Test(arguments, strings_stand_raw)
{
    check(TAGS, (struct language){.source = ONE("{\"type\": \"string\"}"),
                                  .in = {"<p=a></p>", "<p=a>x \"y\"\n{\\é</p</p>", "<p=a>12</p>", "<p=a>null</p>", "<p=a><p=a></p>"},
                                  .out = {"", "<p=a>x</p>y</p>", "<p=b>x</p>", "<p=a>x</p><p=a>x</p>", "<p=a>x"}});
    check(TAGS, (struct language){.source = ONE("{\"enum\": [\"a\\\"b\", \"c\"]}"), .in = {"<p=a>a\"b</p>", "<p=a>c</p>"}, .out = {"<p=a>\"c\"</p>", "<p=a>d</p>"}});
    check(TAGS, (struct language){.source = ONE("{\"type\": \"string\", \"pattern\": \"^\\\"?[a-c]+$\", \"maxLength\": 3}"),
                                  .in = {"<p=a>\"ab</p>", "<p=a>abc</p>"}, .out = {"<p=a></p>", "<p=a>abca</p>", "<p=a>d</p>", "<p=a>\\\"a</p>"}});
}

Test(arguments, others_are_json)
{
    check(TAGS, (struct language){.source = ONE("{\"type\": \"integer\", \"maximum\": 12}"), .in = {"<p=a>12</p>", "<p=a>-3</p>"}, .out = {"<p=a>13</p>", "<p=a>\"1\"</p>", "<p=a></p>"}});
    check(TAGS, (struct language){.source = ONE("{\"type\": \"object\", \"properties\": {\"s\": {\"type\": \"string\", \"maxLength\": 2}}, \"additionalProperties\": false}"),
                                  .in = {"<p=a>{}</p>", "<p=a>{\"s\": \"\\\"b\"}</p>"}, .out = {"<p=a>{\"s\": abc}</p>", "<p=a>{\"s\": \"abc\"}</p>"}});
    /* a reference says no type to the reader, who takes what is JSON as JSON */
    check(TAGS, (struct language){.source = "{\"properties\": {\"a\": {\"$ref\": \"#/$defs/t\"}}, \"required\": [\"a\"], \"additionalProperties\": false, \"$defs\": {\"t\": {\"type\": \"string\"}}}",
                                  .in = {"<p=a>\"12\"</p>"}, .out = {"<p=a>12</p>", "<p=a>x</p>"}});
    check(TAGS, (struct language){.source = ONE("{\"description\": \"anything\"}"), .in = {"<p=a>{</p>", "<p=a>[1]</p>", "<p=a>\"x\"</p>"}, .out = {"<p=a></p></p>"}});
}

Test(arguments, text_that_looks_like_another_value)
{
    check(TAGS, (struct language){.source = ONE("{\"type\": [\"string\", \"null\"]}"), .in = {"<p=a>null</p>", "<p=a> null</p>", "<p=a>12</p>"}});
    check(TAGS, (struct language){.source = ONE("{\"type\": [\"string\", \"integer\"], \"maximum\": 5, \"minimum\": 0}"),
                                  .in = {"<p=a>5</p>", "<p=a>five</p>", "<p=a>5 or 6</p>"}, .out = {"<p=a>6</p>", "<p=a> 7 </p>"}});
    check(TAGS, (struct language){.source = ONE("{\"anyOf\": [{\"type\": \"string\"}, {\"type\": \"array\", \"items\": {\"type\": \"integer\"}}]}"),
                                  .in = {"<p=a>[1, 2]</p>", "<p=a>[x</p>"}, .out = {"<p=a>[\"x\"]</p>", "<p=a> [] </p>"}});
    check(MARKED, (struct language){.source = ONE("{\"type\": [\"string\", \"integer\", \"array\"], \"maximum\": 5, \"minItems\": 1}"),
                                    .in = {"<p=a s>6</p>", "<p=a n>5</p>", "<p=a o>[1]</p>", "<p=a s>[]</p>"}, .out = {"<p=a n>6</p>", "<p=a>5</p>", "<p=a o>5</p>", "<p=a o>[]</p>"}});
}

Test(arguments, of_an_object)
{
    check(TAGS, (struct language){.source = "{\"properties\": {\"a\": {\"type\": \"string\"}, \"b\": {\"type\": \"integer\"}, \"c\": {\"const\": 1}}, \"required\": [\"b\"], \"additionalProperties\": false}",
                                  .in = {"<p=b>1</p>", "<p=a>x</p><p=b>1</p>", "<p=a>x</p><p=b>1</p><p=c>1</p>"},
                                  .out = {"", "<p=a>x</p>", "<p=b>1</p><p=a>x</p>", "<p=b>1</p><p=d>1</p>"}});
    check(TAGS, (struct language){.source = "{\"type\": \"object\"}", .in = {"", "<p=any>x</p><p=other>[</p>"}, .out = {"<p=a b>x</p>", "<p=a>x</p>y"}});
    check(TAGS, (struct language){.source = "{\"type\": \"object\", \"maxProperties\": 1, \"additionalProperties\": {\"type\": \"integer\"}}",
                                  .in = {"", "<p=any>1</p>"}, .out = {"<p=a>1</p><p=b>1</p>", "<p=a>x</p>"}});
    check(PYTHON, (struct language){.source = "{\"properties\": {\"a\": {\"type\": \"string\"}, \"b\": {\"type\": \"array\", \"items\": {\"type\": [\"boolean\", \"null\"]}}}, \"required\": [\"b\"], \"additionalProperties\": false}",
                                    .in = {"a=\"x\", b=[True, None]", "b=[]"}, .out = {"", "b=[true]", "a=x, b=[]", "a=\"x\"b=[]", "a=\"x\", "}});
}

Test(arguments, that_cannot_be_held)
{
    struct error err;
    cr_expect(!arguments(TAGS, "{\"properties\": {\"a b\": {}}, \"required\": [\"a b\"]}", &err));
    cr_expect(strstr(err.text, "#/properties/a b") != NULL, "%s", err.text);
    cr_expect(!arguments(TAGS, "{\"enum\": [{\"a\": 1}]}", &err));
    cr_expect(!arguments(TAGS, ONE("{\"$dynamicRef\": \"#x\"}"), &err));
    cr_expect(strstr(err.text, "$dynamicRef") != NULL, "%s", err.text);
}
