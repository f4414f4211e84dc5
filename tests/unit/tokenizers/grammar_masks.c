/* Masks are what trying every token would give; states, parts, lazy grammars. */
#include <stdlib.h>

#include "tests/unit/tokenizers/grammar.h"

/* Single bytes as tokens (some of them halves of characters), pieces of JSON and words, a special token and an end. */
static struct tokenizer *tiny(void)
{
    static const char *const words[] = {"{\\\"", "\\\":", "\\\", \\\"", "\\\"}", "ab", "abc", "bc", "true", "null", "12", "3.5", ",\\u0120", "\\u010a\\u0120\\u0120", "}}", "]]",
                                        "hello", "\\\"a\\\":1}", "\\u0120a", "\\u0120\\\"", "\\\\n", "1,\\u01202", "[[", "a<", "p>", "/p"};
    struct str json = {0};
    struct tokenizer *t;
    int id = 2, next = 0;
    str_add_text(&json, "{\"added_tokens\": [{\"id\": 0, \"content\": \"<end>\", \"special\": true}, {\"id\": 1, \"content\": \"<call>\", \"special\": true}],"
                        "\"decoder\": {\"type\": \"ByteLevel\"}, \"model\": {\"type\": \"BPE\", \"vocab\": {\"<end>\": 0, \"<call>\": 1");
    for (int b = 0; b < 256; b++) { /* GPT-2's characters for bytes */
        bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
        int c = printable ? b : 256 + next++;
        if (c == '"' || c == '\\')
            str_format(&json, ", \"\\%c\": %d", c, id++);
        else
            str_format(&json, ", \"\\u%04x\": %d", (unsigned)c, id++);
    }
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        str_format(&json, ", \"%s\": %d", words[i], id++);
    str_add_text(&json, "}, \"merges\": []}}");
    t = tiny_open(str_text(&json));
    str_free(&json);
    return t;
}

struct masks {
    struct tokenizer *t;
    struct grammar_vocabulary *v;
    uint32_t bits[64];
};

static struct masks masks_open(void)
{
    struct masks m = {.t = tiny()};
    struct error err = {0};
    cr_assert_eq(grammar_vocabulary_open(&m.v, m.t, (int32_t[]){0}, 1, &err), STATUS_OK, "%s", err.text);
    cr_assert_leq(grammar_vocabulary_words(m.v), 64u);
    return m;
}

static void masks_close(struct masks *m)
{
    grammar_vocabulary_close(m->v);
    tokenizer_close(m->t);
}

/* Every bit against the token tried on a copy. */
static void check_mask(struct masks *m, struct grammar_state *s, const char *where)
{
    struct error err = {0};
    int any = 0;
    cr_assert_eq(grammar_mask(s, m->v, m->bits, &err), STATUS_OK, "%s", err.text);
    for (int32_t id = 0; id < tokenizer_size(m->t); id++) {
        struct grammar_state *copy;
        bool bit = m->bits[id >> 5] >> (id & 31) & 1;
        size_t size;
        cr_assert_eq(grammar_state_copy(&copy, s, &err), STATUS_OK);
        bool fits = grammar_accept_token(copy, m->v, id, &err) == STATUS_OK;
        const char *piece = tokenizer_piece(m->t, id, &size);
        cr_assert_eq(bit, fits, "%s: token %d '%.*s': mask %d, trying %d", where, id, piece ? (int)size : 0, piece ? piece : "", bit, fits);
        any += bit;
        grammar_state_close(copy);
    }
    cr_assert_gt(any, 0, "%s: nothing is allowed", where);
}

/* Masks at every place of a text. */
static void check_walk(enum kind kind, const char *source, const char *text)
{
    struct masks m = masks_open();
    struct grammar *g = compiled(kind, source);
    struct grammar_state *s;
    struct error err = {0};
    cr_assert_eq(grammar_state_open(&s, g, &err), STATUS_OK);
    for (size_t i = 0; text[i]; i++) {
        check_mask(&m, s, source);
        cr_assert_eq(grammar_accept_bytes(s, text + i, 1, NULL, &err), STATUS_OK, "%s, byte %zu of %s", source, i, text);
    }
    check_mask(&m, s, source);
    cr_expect(grammar_complete(s));
    grammar_state_close(s);
    grammar_close(g);
    masks_close(&m);
}

Test(masks, of_every_place)
{
    check_walk(SCHEMA, "true", "{\"a\": [1, 2.5e3, true, null, \"\\u00e9ü🙂\"]}");
    check_walk(SCHEMA, "{\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"string\", \"maxLength\": 3}, \"ab\": {\"type\": \"integer\"}}, \"required\": [\"a\"]}",
               "{\"a\": \"abc\", \"ab\": 12, \"x\": []}");
    check_walk(SCHEMA, "{\"type\": \"array\", \"items\": {\"type\": \"string\", \"pattern\": \"^[a-c]+$\", \"minLength\": 2}, \"maxItems\": 3}", "[\"ab\", \"cab\"]");
    check_walk(SCHEMA, "{\"type\": \"array\", \"items\": {\"type\": \"string\", \"minLength\": 300, \"maxLength\": 100000}, \"maxItems\": 50}", "[]");
    check_walk(SCHEMA, "{\"type\": \"integer\", \"minimum\": 5, \"maximum\": 312}", "12");
    check_walk(REGEX, "(ab|abc|é)*", "ababcéab");
    check_walk(GBNF, "root ::= \"[\" root* \"]\" | num\nnum ::= [0-9]+ (\", \" num)?", "[[1, 2][]]");
    check_walk(LARK, "start: word (\" \" word)*\nword: /[a-z]{2,4}/", "hell ab");
}

Test(masks, long_counts)
{
    struct masks m = masks_open();
    struct grammar *g = compiled(SCHEMA, "{\"type\": \"string\", \"minLength\": 40, \"maxLength\": 100}");
    struct grammar_state *s;
    struct error err = {0};
    cr_assert_eq(grammar_state_open(&s, g, &err), STATUS_OK);
    cr_assert_eq(grammar_accept_bytes(s, "\"", 1, NULL, &err), STATUS_OK);
    for (int i = 0; i < 100; i++) {
        if (i < 3 || (i > 36 && i < 43) || i > 96)
            check_mask(&m, s, "counted");
        cr_assert_eq(grammar_accept_bytes(s, "a", 1, NULL, &err), STATUS_OK);
    }
    cr_expect_eq(grammar_accept_bytes(s, "a", 1, NULL, &err), STATUS_USAGE);
    check_mask(&m, s, "full");
    grammar_state_close(s);
    grammar_close(g);
    masks_close(&m);
}

Test(masks, random_answers_are_whole)
{
    /* whatever is chosen from masks, an answer that ended fits */
    static const char schema[] = "{\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"array\", \"items\": {\"enum\": [1, 2, \"ab\"]}, \"maxItems\": 3},"
                                 "\"b\": {\"type\": \"string\", \"maxLength\": 5}, \"c\": {\"type\": \"integer\", \"minimum\": -3, \"maximum\": 40}},"
                                 "\"required\": [\"a\", \"c\"], \"additionalProperties\": false}";
    struct masks m = masks_open();
    struct grammar *g = compiled(SCHEMA, schema);
    struct error err = {0};
    srand(7);
    for (int round = 0; round < 200; round++) {
        struct grammar_state *s;
        struct str text = {0};
        int steps = 0;
        cr_assert_eq(grammar_state_open(&s, g, &err), STATUS_OK);
        while (!grammar_ended(s) && steps++ < 2000) {
            int32_t chosen = -1;
            int seen = 0;
            cr_assert_eq(grammar_mask(s, m.v, m.bits, &err), STATUS_OK);
            for (int32_t id = 0; id < tokenizer_size(m.t); id++)
                if ((m.bits[id >> 5] >> (id & 31) & 1) && rand() % ++seen == 0)
                    chosen = id;
            cr_assert_geq(chosen, 0);
            cr_assert_eq(grammar_accept_token(s, m.v, chosen, &err), STATUS_OK, "%s", err.text);
            if (chosen)
                tokenizer_bytes(m.t, chosen, &text);
        }
        struct arena arena = {0};
        struct json v;
        bool whole;
        cr_expect_eq(json_parse(&arena, str_text(&text), text.size, NULL, &v, &err), STATUS_OK, "%s: %s", str_text(&text), err.text);
        cr_expect(beginning(g, str_text(&text), text.size, &whole) && whole);
        arena_free(&arena);
        str_free(&text);
        grammar_state_close(s);
    }
    grammar_close(g);
    masks_close(&m);
}

Test(masks, memory_is_bounded)
{
    /* every prefix is a state of its own; what is not needed is forgotten on the way */
    struct grammar *g = compiled(REGEX, "([ab]*a[ab]{40}c)*[ab]*");
    struct grammar_state *s, *copy;
    struct error err = {0};
    char text[1000];
    cr_assert_eq(grammar_state_open(&s, g, &err), STATUS_OK);
    srand(3);
    for (int i = 0; i < 200; i++) {
        for (size_t k = 0; k < sizeof text; k++)
            text[k] = "ab"[rand() % 2];
        cr_assert_eq(grammar_accept_bytes(s, text, sizeof text, NULL, &err), STATUS_OK, "%s", err.text);
    }
    cr_assert_eq(grammar_state_copy(&copy, s, &err), STATUS_OK);
    memset(text, 'b', sizeof text);
    text[0] = 'a';
    text[41] = 'c';
    cr_expect_eq(grammar_accept_bytes(copy, text, 42, NULL, &err), STATUS_OK);
    text[41] = 'b';
    text[42] = 'c';
    cr_expect_eq(grammar_accept_bytes(s, text, 43, NULL, &err), text[1] == 'a' ? STATUS_OK : STATUS_USAGE);
    grammar_state_close(s);
    grammar_state_close(copy);
    grammar_close(g);
}

/* ---- parts ---------------------------------------------------------------------------------------------------------- */

static struct grammar *calls(struct error *err)
{
    struct grammar_builder *b;
    struct grammar *g;
    struct arena arena = {0};
    struct json schema;
    grammar_part arguments;
    static const char text[] = "{\"type\": \"object\", \"properties\": {\"x\": {\"type\": \"integer\"}}, \"required\": [\"x\"], \"additionalProperties\": false}";
    cr_assert_eq(json_parse(&arena, text, strlen(text), NULL, &schema, err), STATUS_OK);
    cr_assert_eq(grammar_builder_open(&b, err), STATUS_OK);
    cr_assert_eq(grammar_part_schema(b, &schema, &arguments, err), STATUS_OK, "%s", err->text);
    grammar_part first = grammar_part_sequence(b, (grammar_part[]){grammar_part_text(b, "f ", 2), arguments}, 2);
    grammar_part second = grammar_part_text(b, "g", 1);
    grammar_part body = grammar_part_sequence(b, (grammar_part[]){grammar_part_choice(b, (grammar_part[]){first, second}, 2), grammar_part_text(b, ")>", 2)}, 2);
    struct grammar_marker markers[] = {{"<(", 2, false, body}, {"<call>", 6, true, body}};
    grammar_part root = grammar_part_lazy(b, markers, 2);
    cr_assert_eq(grammar_builder_finish(b, root, &g, err), STATUS_OK, "%s", err->text);
    grammar_builder_close(b);
    arena_free(&arena);
    return g;
}

Test(parts, lazy)
{
    struct error err = {0};
    struct grammar *g = calls(&err);
    bool whole;
    static const char *const in[] = {"", "no call at all <", "<<(g)>", "text <(f {\"x\": 1})>"}, *const out[] = {"<(h)>", "<(g)> more", "<(", "a<(f {})>"};
    for (int i = 0; i < 4; i++) {
        cr_expect(beginning(g, in[i], strlen(in[i]), &whole) && whole, "'%s'", in[i]);
        beginning(g, out[i], strlen(out[i]), &whole);
        cr_expect(!whole, "'%s'", out[i]);
    }
    struct masks m = masks_open();
    struct grammar_state *s;
    cr_assert_eq(grammar_state_open(&s, g, &err), STATUS_OK);
    check_mask(&m, s, "lazy");
    cr_assert_eq(grammar_accept_token(s, m.v, 1, &err), STATUS_OK, "%s", err.text); /* <call> */
    check_mask(&m, s, "behind the marker");
    cr_expect_eq(grammar_accept_bytes(s, "no", 2, NULL, &err), STATUS_USAGE);
    cr_expect_eq(grammar_accept_bytes(s, "f {", 3, NULL, &err), STATUS_OK);
    cr_expect_eq(grammar_accept_token(s, m.v, 0, &err), STATUS_USAGE, "ended in the middle");
    cr_expect_eq(grammar_accept_bytes(s, "\"x\":12})>", 9, NULL, &err), STATUS_OK);
    cr_expect_eq(grammar_accept_token(s, m.v, 0, &err), STATUS_OK, "%s", err.text);
    cr_expect(grammar_ended(s));
    grammar_state_close(s);
    grammar_close(g);
    masks_close(&m);
}

/* Text between tags: what is known without a walk (whole characters, '<' aside) and what is not. */
Test(parts, tags)
{
    static const char text[] = "<p=a>x<a\n\xC3\xA9</ab</p</pp></p>", schema[] = "{\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"string\"}}, \"required\": [\"a\"]}";
    struct masks m = masks_open();
    struct arena arena = {0};
    struct error err = {0};
    struct json v;
    struct grammar_builder *b;
    struct grammar *g;
    struct grammar_state *s;
    grammar_part part;
    cr_assert_eq(json_parse(&arena, schema, sizeof schema - 1, NULL, &v, &err), STATUS_OK);
    cr_assert_eq(grammar_builder_open(&b, &err), STATUS_OK);
    grammar_part between = grammar_part_text(b, ">", 1);
    struct grammar_arguments as = {.key = grammar_part_text(b, "<p=", 3), .value = {between, between, between, between, between, between},
                                   .close = grammar_part_text(b, "</p>", 4), .joint = grammar_part_text(b, "", 0), .until = "</p>"};
    cr_assert_eq(grammar_part_arguments(b, &v, &as, &part, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(grammar_builder_finish(b, part, &g, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(grammar_state_open(&s, g, &err), STATUS_OK);
    for (size_t i = 0; text[i]; i++) {
        check_mask(&m, s, "tags");
        cr_assert_eq(grammar_accept_bytes(s, text + i, 1, NULL, &err), STATUS_OK, "byte %zu", i);
    }
    check_mask(&m, s, "tags");
    cr_expect(grammar_complete(s));
    grammar_state_close(s);
    grammar_close(g);
    grammar_builder_close(b);
    arena_free(&arena);
    masks_close(&m);
}

Test(parts, forced)
{
    struct grammar *g = compiled(REGEX, "abc(d|e)fg?");
    struct grammar_state *s;
    struct str out = {0};
    struct error err = {0};
    cr_assert_eq(grammar_state_open(&s, g, &err), STATUS_OK);
    cr_assert_eq(grammar_forced(s, 100, &out, &err), STATUS_OK);
    cr_expect_str_eq(str_text(&out), "abc");
    str_clear(&out);
    cr_assert_eq(grammar_accept_bytes(s, "abce", 4, NULL, &err), STATUS_OK);
    cr_assert_eq(grammar_forced(s, 100, &out, &err), STATUS_OK);
    cr_expect_str_eq(str_text(&out), "f");
    str_free(&out);
    grammar_state_close(s);
    grammar_close(g);
}
