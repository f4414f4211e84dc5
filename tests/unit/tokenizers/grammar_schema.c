/* JSON Schema: values that fit and values that do not; what is refused, and where. */
#include "tests/unit/tokenizers/grammar.h"

#define CHECK(...)                                                                                                             \
    static const struct language languages[] = {__VA_ARGS__};                                                                   \
    for (size_t i = 0; i < sizeof languages / sizeof *languages; i++)                                                          \
        check_language(&languages[i])

Test(schema, types_and_values)
{
    CHECK({SCHEMA, "true", {"1", "{\"a\": [null, true]}", "\"\\ud83d\\ude42\\/\""}, {"", "[1,]", "\"\\ud83d\"", "\"\\x\"", "01"}},
          {SCHEMA, "{\"type\": [\"integer\", \"null\"]}", {"0", "-12", "null"}, {"1.5", "\"\"", "+1", "--1"}},
          {SCHEMA, "{\"enum\": [\"a\\\"b\", 1.0, {\"k\": [1, 2]}, null]}", {"\"a\\\"b\"", "1", "1.0", "{\"k\":[1, 2]}", "null"}, {"2", "{}", "\"a\""}},
          {SCHEMA, "{\"type\": \"string\", \"enum\": [\"a\", 1, \"bb\"], \"minLength\": 2}", {"\"bb\""}, {"\"a\"", "1"}},
          {SCHEMA, "{\"not\": {\"enum\": [\"x\", 1, null]}, \"type\": [\"string\", \"integer\", \"null\"]}", {"\"y\"", "\"xx\"", "2", "11"}, {"\"x\"", "1", "null", "1.0"}});
}

Test(schema, numbers)
{
    CHECK({SCHEMA, "{\"type\": \"number\", \"minimum\": -1.5, \"exclusiveMaximum\": 20}", {"-1.5", "0", "19.999", "1e1", "1.9e+01", "-1e-07", "0.0"}, {"-1.51", "20", "2e1", "100"}},
          {SCHEMA, "{\"type\": \"integer\", \"minimum\": -13, \"maximum\": 1005}", {"-13", "-9", "0", "99", "1005"}, {"-14", "1006", "-20", "9999"}},
          {SCHEMA, "{\"type\": \"integer\", \"exclusiveMinimum\": 2.5, \"exclusiveMaximum\": 5}", {"3", "4"}, {"2", "5", "0"}},
          {SCHEMA, "{\"type\": \"integer\", \"multipleOf\": 7, \"minimum\": 20, \"maximum\": 50}", {"21", "28", "49"}, {"14", "20", "56", "5"}},
          {SCHEMA, "{\"type\": \"number\", \"multipleOf\": 0.25}", {"0", "-0.25", "1.50", "7"}, {"0.1", "0.255"}},
          {SCHEMA, "{\"type\": \"number\", \"minimum\": 1e-3, \"maximum\": 1e20}", {"0.001", "1e-3", "1e+20", "5e7", "100000000000000000000"}, {"0.0009", "9e-4", "1.1e20", "0"}},
          {SCHEMA, "{\"oneOf\": [{\"type\": \"integer\", \"multipleOf\": 4}, {\"type\": \"integer\", \"multipleOf\": 6}]}", {"4", "6", "8", "18"}, {"12", "24", "5"}},
          {SCHEMA, "{\"type\": \"number\", \"not\": {\"type\": \"integer\"}}", {"1.5", "-0.01"}, {"1", "1.0", "0"}});
}

Test(schema, strings)
{
    CHECK({SCHEMA, "{\"type\": \"string\", \"minLength\": 2, \"maxLength\": 3}", {"\"ab\"", "\"é🙂\\n\"", "\"\\u0041\\ud83d\\ude42b\""}, {"\"a\"", "\"abcd\"", "\"\""}},
          {SCHEMA, "{\"type\": \"string\", \"pattern\": \"b+$\", \"maxLength\": 4}", {"\"b\"", "\"aab\"", "\"\\\"bbb\""}, {"\"ba\"", "\"aaaab\""}},
          {SCHEMA, "{\"allOf\": [{\"pattern\": \"^a\"}, {\"pattern\": \"z$\"}], \"type\": \"string\"}", {"\"az\"", "\"abz\""}, {"\"a\"", "\"za\""}},
          {SCHEMA, "{\"type\": \"string\", \"not\": {\"pattern\": \"^x\"}}", {"\"\"", "\"ax\""}, {"\"x\"", "\"xa\""}},
          {SCHEMA, "{\"type\": \"string\", \"format\": \"date\"}", {"\"2024-02-29\"", "\"2000-02-29\"", "\"1999-12-31\""}, {"\"2023-02-29\"", "\"1900-02-29\"", "\"2024-04-31\"", "\"0000-01-01\""}},
          {SCHEMA, "{\"type\": \"string\", \"format\": \"ipv6\"}", {"\"::\"", "\"1:2:3:4:5:6:7:8\"", "\"::ffff:1.2.3.4\"", "\"1::8\""}, {"\"1:2:3\"", "\"1::2::3\"", "\"12345::\""}},
          {SCHEMA, "{\"type\": \"string\", \"format\": \"made-up\"}", {"\"anything\""}, {"1"}});
}

Test(schema, arrays)
{
    CHECK({SCHEMA, "{\"type\": \"array\", \"prefixItems\": [{\"const\": 1}, {\"const\": 2}], \"items\": {\"type\": \"null\"}, \"minItems\": 1, \"maxItems\": 4}",
           {"[1]", "[1, 2]", "[\n  1,\n  2,\n  null\n]", "[1,2,null,null]"}, {"[]", "[2]", "[1,2,null,null,null]", "[1,2,3]"}},
          {SCHEMA, "{\"type\": \"array\", \"items\": {\"enum\": [1, 2, 3]}, \"uniqueItems\": true, \"minItems\": 1}", {"[1]", "[2,1,3]"}, {"[]", "[1,1]", "[1,2,1]"}},
          {SCHEMA, "{\"type\": \"array\", \"items\": {\"type\": \"integer\"}, \"contains\": {\"minimum\": 5}, \"maxItems\": 3}", {"[5]", "[1,9,2]", "[1,2,7]"}, {"[]", "[1]", "[1,2,3,9]"}},
          {SCHEMA, "{\"type\": \"array\", \"items\": {\"type\": \"integer\"}, \"contains\": {\"const\": 1}, \"minContains\": 1, \"maxContains\": 2}", {"[1]", "[2,1,1,3]"}, {"[2]", "[1,1,1]"}},
          {SCHEMA, "{\"type\": \"array\", \"items\": [{\"type\": \"integer\"}], \"additionalItems\": false}", {"[]", "[1]"}, {"[1,2]", "[\"\"]"}},
          {SCHEMA, "{\"not\": {\"type\": \"array\", \"items\": {\"type\": \"integer\"}}, \"type\": \"array\"}", {"[\"\"]", "[1,null]"}, {"[]", "[1,2]"}});
}

Test(schema, objects)
{
    CHECK({SCHEMA, "{\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"integer\"}, \"b\": {\"type\": \"null\"}}, \"required\": [\"b\", \"z\"], \"additionalProperties\": {\"type\": \"boolean\"}}",
           {"{\"b\": null, \"z\": true}", "{\"a\":1,\"b\":null,\"z\":false,\"y\":true}"}, {"{\"b\":null}", "{\"b\":null,\"z\":1}", "{\"b\":null,\"z\":true,\"a\":true}"}},
          {SCHEMA, "{\"type\": \"object\", \"patternProperties\": {\"^x\": {\"type\": \"integer\"}, \"y$\": {\"minimum\": 5}}, \"additionalProperties\": false}",
           {"{}", "{\"xa\":1}", "{\"xy\":5,\"ay\":\"s\"}"}, {"{\"xy\":4}", "{\"a\":1}", "{\"xa\":\"\"}"}},
          {SCHEMA, "{\"type\": \"object\", \"properties\": {\"a\": true, \"b\": true, \"c\": true}, \"additionalProperties\": false, \"minProperties\": 1, \"maxProperties\": 2}",
           {"{\"a\":1}", "{\"a\":1,\"c\":2}", "{\"b\":1,\"c\":2}"}, {"{}", "{\"a\":1,\"b\":2,\"c\":3}"}},
          {SCHEMA, "{\"type\": \"object\", \"propertyNames\": {\"maxLength\": 2}, \"properties\": {\"long\": true, \"ok\": true}}", {"{}", "{\"ok\":1,\"x\":2}"}, {"{\"long\":1}", "{\"abc\":1}"}},
          {SCHEMA, "{\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"integer\"}}, \"if\": {\"properties\": {\"a\": {\"minimum\": 5}}, \"required\": [\"a\"]}, \"then\": {\"required\": [\"b\"]}, \"else\": {\"required\": [\"c\"]}}",
           {"{\"a\":7,\"b\":1}", "{\"a\":1,\"c\":1}", "{\"c\":1}"}, {"{\"a\":7}", "{\"a\":7,\"c\":1}", "{\"b\":1}"}},
          {SCHEMA, "{\"type\": \"object\", \"dependentRequired\": {\"a\": [\"b\"]}, \"properties\": {\"a\": true, \"b\": true}, \"additionalProperties\": false}", {"{}", "{\"b\":1}", "{\"a\":1,\"b\":1}"}, {"{\"a\":1}"}},
          {SCHEMA, "{\"allOf\": [{\"properties\": {\"a\": {\"type\": \"integer\"}}, \"required\": [\"a\"]}], \"properties\": {\"b\": true}, \"unevaluatedProperties\": false, \"type\": \"object\"}", {"{\"b\":1,\"a\":1}"}, {"{\"b\":1}", "{\"a\":1,\"c\":1}"}});
}

Test(schema, references)
{
    CHECK({SCHEMA, "{\"$defs\": {\"t\": {\"type\": \"object\", \"properties\": {\"v\": {\"type\": \"integer\"}, \"k\": {\"type\": \"array\", \"items\": {\"$ref\": \"#/$defs/t\"}}}, \"required\": [\"v\"], \"additionalProperties\": false}}, \"$ref\": \"#/$defs/t\"}",
           {"{\"v\":1}", "{\"v\": 1, \"k\": [{\"v\": 2, \"k\": []}]}"}, {"{\"k\":[]}", "{\"v\":1,\"k\":[{}]}"}},
          {SCHEMA, "{\"$defs\": {\"a/b~c\": {\"$anchor\": \"n\", \"type\": \"integer\"}}, \"anyOf\": [{\"$ref\": \"#n\"}, {\"type\": \"array\", \"items\": {\"$ref\": \"#/$defs/a~1b~0c\", \"minimum\": 3}}]}",
           {"1", "[3]"}, {"[1]", "\"\""}},
          {SCHEMA, "{\"$id\": \"http://x/y\", \"properties\": {\"n\": {\"anyOf\": [{\"type\": \"null\"}, {\"$ref\": \"http://x/y#\"}]}}, \"required\": [\"n\"], \"type\": \"object\", \"additionalProperties\": false}",
           {"{\"n\":null}", "{\"n\":{\"n\":null}}"}, {"{}", "{\"n\":{}}"}});
}

Test(schema, refused)
{
    check_refused(SCHEMA, "{\"properties\": {\"a\": {\"type\": \"array\", \"uniqueItems\": true}}}", "#/properties/a/uniqueItems");
    check_refused(SCHEMA, "{\"$ref\": \"http://else/where\"}", "#/$ref");
    check_refused(SCHEMA, "{\"type\": \"text\"}", "#/type");
    check_refused(SCHEMA, "{\"items\": 5}", "#/items: expected a schema");
    check_refused(SCHEMA, "{\"minLength\": -1, \"type\": \"string\"}", "#/minLength");
    check_refused(SCHEMA, "{\"unevaluatedItems\": false}", "#/unevaluatedItems");
    check_refused(SCHEMA, "{\"pattern\": \"(a)\\\\1\"}", "#/pattern");
    check_refused(SCHEMA, "{\"type\": \"integer\", \"minimum\": 5, \"maximum\": 4}", "no text");
    check_refused(SCHEMA, "{\"allOf\": [{\"type\": \"string\"}, {\"type\": \"null\"}]}", "no text");
    check_refused(SCHEMA, "{\"$ref\": \"#\"}", "$ref: it refers to itself");
    check_refused(SCHEMA, "{\"$ref\": \"#/$defs/a\", \"$defs\": {\"a\": {\"$ref\": \"#/$defs/b\"}, \"b\": {\"$ref\": \"#/$defs/a\"}}}", "$ref: it refers to itself");
    check_refused(SCHEMA, "{\"type\": \"string\", \"pattern\": \"((a{1,1000}){1,1000}){1,1001}b\"}", "multiply");
    check_refused(SCHEMA, "{\"type\": \"object\", \"$ref\": \"#\"}", "refers to itself");
    check_refused(SCHEMA, "{\"type\": \"object\", \"properties\": {\"a\": {\"$ref\": \"#\"}}, \"required\": [\"a\"]}", "no text");
    check_refused(SCHEMA, "[]", "a schema is an object");
    check_refused(SCHEMA, "{\"type\": \"object\", \"minProperties\": 3}", "minProperties");
}
