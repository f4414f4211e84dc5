/* JSON, TOML, UTF-8 and messages. */
#include <criterion/criterion.h>
#include <string.h>

#include "base/json.h"
#include "base/toml.h"
#include "base/utf8.h"

static char *round_trip(struct arena *arena, const char *text)
{
    struct json v;
    struct error err;
    struct str out = {0};
    if (json_parse(arena, text, strlen(text), NULL, &v, &err))
        return NULL;
    json_write(&out, &v);
    char *copy = arena_copy(arena, str_text(&out), out.size);
    str_free(&out);
    return copy;
}

Test(text, json_keeps_order_and_numbers)
{
    struct arena arena = {0};
    static const char *const same[] = {"{\"b\":1,\"a\":1.0,\"c\":1e400,\"d\":123456789012345678901234567890}", "[]", "{}", "\"\\u0000\"", "[-0,0.10,1E5]", "null"};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        cr_assert_str_eq(round_trip(&arena, same[i]), same[i]);
    cr_assert_str_eq(round_trip(&arena, "\"\\ud83d\\ude00 \\ud800 \\/\""), "\"\xF0\x9F\x98\x80 \xEF\xBF\xBD /\"");
    static const char *const wrong[] = {"", "{", "[1,]", "01", "1.", "+1", "NaN", "\"\\x\"", "\"\n\"", "{\"a\" 1}", "[1] 2", "\xFF", "tru", "'a'", "[\"\xED\xA0\x80\"]"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        cr_assert_null(round_trip(&arena, wrong[i]), "%s", wrong[i]);
    arena_free(&arena);
}

Test(text, json_depth_and_duplicates)
{
    struct arena arena = {0};
    struct json v;
    struct error err;
    char deep[4001];
    memset(deep, '[', 2000);
    memset(deep + 2000, ']', 2000);
    cr_assert_eq(json_parse(&arena, deep, 4000, NULL, &v, &err), STATUS_BAD_INPUT);
    cr_assert(strstr(err.text, "deep"), "%s", err.text);
    const char *twice = "{\"a\": 1, \"b\": 2, \"a\": 3}";
    int64_t n;
    cr_assert_eq(json_parse(&arena, twice, strlen(twice), NULL, &v, &err), STATUS_OK);
    cr_assert(json_int(json_get(&v, "a"), &n) && n == 3, "the last one wins");
    cr_assert_eq(json_parse(&arena, twice, strlen(twice), &(struct json_options){.unique = true}, &v, &err), STATUS_BAD_INPUT);
    cr_assert(strstr(err.text, "\"a\""), "%s", err.text);
    double d;
    cr_assert(!json_int(&(struct json){.kind = JSON_NUMBER, .text = "5.0", .size = 3}, &n));
    cr_assert(!json_double(&(struct json){.kind = JSON_NUMBER, .text = "1e400", .size = 5}, &d));
    arena_free(&arena);
}

Test(text, toml)
{
    static const struct {
        const char *toml, *json; /* NULL: an error */
    } cases[] = {
        {"a = 1\nb.c = \"x\" # so\n[t]\nd = [1, 2.5, 'y']\n[t.u]\ne = true\n", "{\"a\":1,\"b\":{\"c\":\"x\"},\"t\":{\"d\":[1,2.5,\"y\"],\"u\":{\"e\":true}}}"},
        {"[[p]]\nn = 0x1F\n[[p]]\nn = 1_000\n", "{\"p\":[{\"n\":31},{\"n\":1000}]}"},
        {"i = { a = 1, b = \"\\u00e9\" }", "{\"i\":{\"a\":1,\"b\":\"\xC3\xA9\"}}"},
        {"m = \"\"\"\nfirst\nsecond\\\n   third\"\"\"", "{\"m\":\"first\\nsecondthird\"}"},
        {"\"quoted key\" = 'C:\\x'", "{\"quoted key\":\"C:\\\\x\"}"},
        {"a = 1\na = 2", NULL},
        {"a = ", NULL},
        {"a = 1979-05-27", NULL},
        {"[a\nb = 1", NULL},
        {"a = \"x", NULL},
        {"a = {b = 1}\n[a]\nc = 2", NULL},
        {"a = nope", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct arena arena = {0};
        struct json v;
        struct error err = {0};
        struct str out = {0};
        enum status status = toml_parse(&arena, cases[i].toml, strlen(cases[i].toml), &v, &err);
        cr_assert_eq(status, cases[i].json ? STATUS_OK : STATUS_BAD_INPUT, "case %zu: %s", i, err.text);
        if (!status) {
            json_write(&out, &v);
            cr_assert_str_eq(str_text(&out), cases[i].json);
        } else {
            cr_assert(strstr(err.text, "line"), "case %zu: %s", i, err.text);
        }
        str_free(&out);
        arena_free(&arena);
    }
}

Test(text, utf8_replaces_maximal_parts)
{
    static const struct {
        const char *bytes;
        size_t used;
        uint32_t c;
    } cases[] = {{"A", 1, 'A'}, {"\xC3\xA9", 2, 0xE9}, {"\xE2\x82\xAC", 3, 0x20AC}, {"\xF0\x9F\x98\x80", 4, 0x1F600}, {"\xC0\x80", 1, 0xFFFD}, {"\xED\xA0\x80", 1, 0xFFFD},
                 {"\xE2\x82", 2, 0xFFFD}, {"\xF4\x90\x80\x80", 1, 0xFFFD}, {"\xF0\x9F\x41", 2, 0xFFFD}, {"\x80", 1, 0xFFFD}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t c;
        cr_assert_eq(utf8_decode(cases[i].bytes, strlen(cases[i].bytes), &c), cases[i].used, "case %zu", i);
        cr_assert_eq(c, cases[i].c, "case %zu", i);
    }
    cr_assert_eq(utf8_unfinished("a\xF0\x9F\x98", 4), 3);
    cr_assert_eq(utf8_unfinished("a\xC3\xA9", 3), 0);
    cr_assert_eq(utf8_unfinished("\xFF", 1), 0);
    cr_assert(!utf8_is_valid("a\xED\xA0\x80", 4) && utf8_is_valid("\xEF\xBF\xBD", 3));
}

Test(text, messages_are_safe_to_print)
{
    struct error err;
    char big[70000];
    memset(big, 'n', sizeof big);
    error_set(&err, STATUS_BAD_INPUT, "tensor %s", QUOTE("\033[2Jevil\xE2\x80\xAE\xFF", 12));
    cr_assert(!strchr(err.text, 033) && !strstr(err.text, "\xE2\x80\xAE") && utf8_is_valid(err.text, strlen(err.text)) && strstr(err.text, "evil"), "%s", err.text);
    error_set(&err, STATUS_BAD_INPUT, "tensor %s is odd", QUOTE(big, sizeof big));
    cr_assert(strlen(err.text) < 120 && strstr(err.text, "...") && strstr(err.text, "is odd"));
    error_prefix(&err, "%s", "file");
    cr_assert(strncmp(err.text, "file: tensor", 12) == 0);
}

/* The plain twin of utf8_valid_prefix(): character by character. */
static size_t plain_valid_prefix(const char *text, size_t size)
{
    size_t at = 0;
    for (size_t n; at < size; at += n) {
        uint32_t c;
        n = utf8_decode(text + at, size - at, &c);
        if (c == 0xFFFD && !(n == 3 && memcmp(text + at, "\xEF\xBF\xBD", 3) == 0))
            return at;
    }
    return size;
}

/* Blocks are judged as a whole: every kind of character, whole, cut or damaged, at every place of one. */
Test(utf8, blocks_are_judged_as_characters_are)
{
    static const char *const parts[] = {"a", "\xC3\xA9", "\xE3\x81\x82", "\xF0\x9F\x99\x82", "\xEF\xBF\xBD", "\xED\x9F\xBF", "\xF4\x8F\xBF\xBF",
                                        "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80",
                                        "\xFF", "\x80", "\xE3\x81", "\xF0\x9F\x99", "\xC3"};
    enum { SIZE = 200, PARTS = sizeof parts / sizeof *parts };
    static const char *const fillers[] = {"a", "\xC3\xA9", "\xE3\x81\x82", "\xF0\x9F\x99\x82"};
    for (size_t f = 0; f < 4; f++)
        for (size_t p = 0; p < PARTS; p++)
            for (size_t place = 0; place < SIZE; place++) {
                char text[SIZE + 16];
                size_t size = 0, step = strlen(fillers[f]), n = strlen(parts[p]);
                for (; size + step <= place; size += step)
                    memcpy(text + size, fillers[f], step);
                memcpy(text + size, parts[p], n);
                for (size += n; size + step <= SIZE; size += step)
                    memcpy(text + size, fillers[f], step);
                cr_assert_eq(utf8_valid_prefix(text, size), plain_valid_prefix(text, size), "part %zu at %zu of %zu in filler %zu", p, place, size, f);
                cr_assert_eq(utf8_valid_prefix(text, place + n < size ? place + n : size), plain_valid_prefix(text, place + n < size ? place + n : size));
            }
}
