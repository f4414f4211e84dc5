/* Containers that are handed over child by child instead of as a tree. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"

struct seen {
    struct str text;
    bool fail;
};

static int large(void *context, int depth, const char *key, size_t size)
{
    (void)context;
    return depth == 2 && size == 1 && (*key == 'v' || *key == 'w') ? *key : 0;
}

static enum status child(void *context, int which, const struct json_member *m, struct error *err)
{
    struct seen *s = context;
    str_format(&s->text, "%c ", which);
    if (m->key)
        str_add(&s->text, m->key, m->key_size);
    str_add_char(&s->text, '=');
    json_write(&s->text, &m->value);
    str_add_char(&s->text, ';');
    return s->fail ? error_set(err, STATUS_BAD_INPUT, "no more") : STATUS_OK;
}

static enum status parse(const char *text, struct seen *s, struct json *root, struct arena *arena, struct error *err)
{
    struct json_options options = {.unique = true, .large = large, .child = child, .context = s};
    return json_parse(arena, text, strlen(text), &options, root, err);
}

Test(json_large, children_come_in_order_and_leave_no_tree)
{
    struct seen s = {0};
    struct json root;
    struct arena arena = {0};
    struct error err = {0};
    const char *text = "{\"v\": [1], \"m\": {\"v\": {\"a\\n\": 1, \"b\": [\"\\u00e9\", {\"v\": {}}], \"b\": {\"w\": [2]}}, \"k\": 5, \"w\": [[], \"x\\t\"]}}";
    cr_assert_eq(parse(text, &s, &root, &arena, &err), STATUS_OK, "%s", err.text);
    cr_expect_str_eq(s.text.data, "v a\n=1;v b=[\"\xC3\xA9\",{\"v\":{}}];v b={\"w\":[2]};w =[];w =\"x\\t\";");
    const struct json *m = json_get(&root, "m");
    cr_expect(json_is(json_get(m, "v"), JSON_OBJECT) && json_get(m, "v")->size == 0);
    cr_expect(json_is(json_get(m, "w"), JSON_ARRAY) && json_get(m, "w")->size == 0);
    cr_expect_eq(json_get(&root, "v")->size, 1);
    str_free(&s.text);
    arena_free(&arena);
}

Test(json_large, errors_end_it)
{
    struct seen s = {.fail = true};
    struct json root;
    struct arena arena = {0};
    struct error err = {0};
    cr_expect_eq(parse("{\"m\": {\"v\": [1, 2]}}", &s, &root, &arena, &err), STATUS_BAD_INPUT);
    cr_expect_str_eq(err.text, "no more");
    cr_expect_str_eq(s.text.data, "v =1;");
    s.fail = false;
    cr_expect_eq(parse("{\"m\": {\"v\": [1, }}", &s, &root, &arena, &err), STATUS_BAD_INPUT);
    cr_expect_eq(parse("{\"m\": {\"v\": {\"a\": 1", &s, &root, &arena, &err), STATUS_BAD_INPUT);
    str_free(&s.text);
    arena_free(&arena);
}

Test(json_large, plain_numbers_and_blanks)
{
    struct json root;
    struct arena arena = {0};
    struct error err = {0};
    int64_t n = 7;
    const char *text = "  \n\t                    [   123456789012345678 ,\r\n 9223372036854775807, 9223372036854775808, -5, 1.0, 1e3,0]            ";
    cr_assert_eq(json_parse(&arena, text, strlen(text), NULL, &root, &err), STATUS_OK, "%s", err.text);
    cr_expect(json_int(&root.items[0], &n) && n == 123456789012345678);
    cr_expect(json_int(&root.items[1], &n) && n == INT64_MAX);
    cr_expect(!json_int(&root.items[2], &n));
    cr_expect(json_int(&root.items[3], &n) && n == -5);
    cr_expect(!json_int(&root.items[4], &n) && !json_int(&root.items[5], &n));
    cr_expect(json_int(&root.items[6], &n) && n == 0);
    arena_free(&arena);
}

Test(json_large, strings_of_every_length)
{
    for (size_t n = 0; n < 40; n++)
        for (size_t bad = 0; bad <= n; bad++) {
            char text[64] = "\"";
            struct json root;
            struct arena arena = {0};
            memset(text + 1, n % 2 ? 'a' : (char)0x7F, n);
            if (bad < n)
                text[1 + bad] = "\x1F\n\\"[n % 3];
            text[n + 1] = '"';
            enum status status = json_parse(&arena, text, n + 2, NULL, &root, NULL);
            cr_expect_eq(status == STATUS_OK, bad == n);
            if (!status)
                cr_expect_eq(root.size, n);
            arena_free(&arena);
        }
}

/* Children that are short arrays of plain strings take a way of their own, and all others must not notice. */
Test(json_large, short_arrays_and_their_neighbours)
{
    static const struct {
        const char *children, *seen; /* NULL: an error */
    } cases[] = {
        {"[]", "v =[];"},
        {"[\"a\"]", "v =[\"a\"];"},
        {"[ \"a\" ,\r\n\t\"b\"\n]", "v =[\"a\",\"b\"];"},
        {"[\"\", \"\"]", "v =[\"\",\"\"];"},
        {"[\"a\", \"b\", \"c\"]", "v =[\"a\",\"b\",\"c\"];"},
        {"[\"a\", \"\\n\"]", "v =[\"a\",\"\\n\"];"},
        {"[\"a\", 1], [\"x\", \"y\"]", "v =[\"a\",1];v =[\"x\",\"y\"];"},
        {"[[\"a\"], \"b\"]", "v =[[\"a\"],\"b\"];"},
        {"[\"a\", \"b\"], [\"c\", \"d\"], [\"e\", \"f\"]", "v =[\"a\",\"b\"];v =[\"c\",\"d\"];v =[\"e\",\"f\"];"}, /* the second and third by comparison */
        {"[\"a\",\"b\"],[\"c\",\"d\"] ,[\"e\",\"f\"]", "v =[\"a\",\"b\"];v =[\"c\",\"d\"];v =[\"e\",\"f\"];"},
        {"[\"a\", \"b\"], [\"c\",\"d\"], [\"e\", \"f\" ], [\"\", \"\"]", "v =[\"a\",\"b\"];v =[\"c\",\"d\"];v =[\"e\",\"f\"];v =[\"\",\"\"];"},
        {"[\"a\", \"b\"], [\"c\", \"d\", \"e\"], [\"f\"], 1", "v =[\"a\",\"b\"];v =[\"c\",\"d\",\"e\"];v =[\"f\"];v =1;"},
        {"[\"a\", \"b\"], [\"\\\"\", \"d\"], [\"e\", \"\\\\\"]", "v =[\"a\",\"b\"];v =[\"\\\"\",\"d\"];v =[\"e\",\"\\\\\"];"},
        {"[\"a\", \"b\"], [\"c\", \"d\"}", NULL},
        {"[\"a\", \"b\"], [\"c\", \"d\"] [\"e\", \"f\"]", NULL},
        {"[\"a\", \"b\"], [\"c\", \"d\"],", NULL},
        {"[\"a\", \"b\"], [\"c\", \"\t\"]", NULL},
        {"[\"a\",]", NULL},
        {"[\"a\" \"b\"]", NULL},
        {"[\"a\", \"b\"", NULL},
        {"[\"a\", \"b", NULL},
        {"[\"a\", \"\n\"]", NULL},
        {"[\"a\"}", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int pad = 0; pad < 40; pad++) { /* blanks are skipped in steps */
            struct seen s = {0};
            struct json root;
            struct arena arena = {0};
            struct error err = {0};
            char text[256];
            snprintf(text, sizeof text, "{\"m\": {\"v\": [%*s%s%*s]%*s}}%*s", pad, "", cases[i].children, pad, "", pad % 9, "", pad, "");
            enum status status = parse(text, &s, &root, &arena, &err);
            cr_assert_eq(status, cases[i].seen ? STATUS_OK : STATUS_BAD_INPUT, "%s: %s", text, err.text);
            if (cases[i].seen)
                cr_assert_str_eq(str_text(&s.text), cases[i].seen);
            str_free(&s.text);
            arena_free(&arena);
        }
}
