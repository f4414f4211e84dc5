/* BPE and added tokens: ids of text. */
#include "tiny.h"

#define LETTERS "\"a\": 0, \"b\": 1, \"c\": 2, \"ab\": 3, \"bc\": 4, \"abc\": 5, \"d\": 6, \"aa\": 7"

Test(encode, lowest_rank_first_then_leftmost)
{
    struct tokenizer *t = tiny_open("{" MODEL("", LETTERS, "\"b c\", \"a b\", \"ab c\", [\"a\", \"a\"]") "}");
    tiny_expect(t, "abc", "a|bc"); /* "b c" ranks before "a b", and nothing joins a and bc */
    tiny_expect(t, "abd", "ab|d");
    tiny_expect(t, "aaa", "aa|a");
    tiny_expect(t, "axb", "ab"); /* no unknown token: x vanishes, and its neighbours meet */
    tiny_expect(t, "", "");
    tokenizer_close(t);
}

Test(encode, ignore_merges_takes_whole_pieces)
{
    struct tokenizer *t = tiny_open("{" MODEL("\"ignore_merges\": true, ", LETTERS, "\"b c\", \"a b\"") "}");
    tiny_expect(t, "abc", "abc");
    tiny_expect(t, "abca", "a|bc|a");
    tokenizer_close(t);
}

Test(encode, unknown_and_byte_tokens)
{
    struct tokenizer *t = tiny_open("{" MODEL("\"unk_token\": \"?\", \"fuse_unk\": true, ", "\"?\": 0, \"a\": 1", "") "}");
    tiny_expect(t, "xyazz", "?|a|?");
    tokenizer_close(t);
    t = tiny_open("{" MODEL("\"unk_token\": \"?\", ", "\"?\": 0, \"a\": 1", "") "}");
    tiny_expect(t, "xya", "?|?|a");
    tokenizer_close(t);
    t = tiny_open("{" MODEL("\"unk_token\": \"?\", \"byte_fallback\": true, ", "\"?\": 0, \"a\": 1, \"<0xC3>\": 2, \"<0xA9>\": 3", "") "}");
    tiny_expect(t, "a\xC3\xA9z", "a|<0xC3>|<0xA9>|?");
    tiny_expect(t, "\xC3", "<0xC3>"); /* a stray byte is its byte token */
    tiny_expect(t, "\xFF", "?");
    tokenizer_close(t);
}

Test(encode, marks_of_words)
{
    struct tokenizer *t = tiny_open("{" MODEL("\"end_of_word_suffix\": \"</w>\", \"continuing_subword_prefix\": \"##\", ",
                                              "\"a\": 0, \"##b\": 1, \"##b</w>\": 2, \"ab</w>\": 3, \"a</w>\": 4", "\"a ##b</w>\"") "}");
    tiny_expect(t, "ab", "ab</w>");
    tiny_expect(t, "abb", "a|##b|##b</w>");
    tiny_expect(t, "a", "a</w>");
    tokenizer_close(t);
}

#define ADDED(content, flags) "{\"id\": 9, \"content\": \"" content "\"" flags "}"

Test(encode, added_tokens_leftmost_then_longest)
{
    struct tokenizer *t = tiny_open("{\"added_tokens\": [" ADDED("<a>", ", \"special\": true") "," ADDED("bc", "") "," ADDED("bcd", "") "]," MODEL("", LETTERS, "") "}");
    tiny_expect(t, "abcda", "a|bcd|a");
    tiny_expect(t, "abca", "a|bc|a");
    tiny_expect(t, "a<a>a", "a|a|a"); /* special ones match only when asked for; < and > are unknown here */
    tiny_expect_sized(t, "a<a>a", 5, (struct encode_options){.parse_special = true}, "a|<a>|a");
    cr_expect_eq(tokenizer_find(t, "<a>", 3), 8); /* the file's id 9 is ignored: ids go on behind the vocabulary */
    cr_expect(tokenizer_is_special(t, 8));
    cr_expect_eq(tokenizer_size(t), 10);
    tokenizer_close(t);
}

Test(encode, added_tokens_swallow_blanks_and_spare_words)
{
    struct tokenizer *t = tiny_open("{\"added_tokens\": [" ADDED("<l>", ", \"lstrip\": true") "," ADDED("<r>", ", \"rstrip\": true") ","
                                    ADDED("dd", ", \"single_word\": true") "]," MODEL("", LETTERS ", \" \": 8", "") "}");
    tiny_expect(t, "a  <l>  a", "a|<l>| | |a");
    tiny_expect(t, "a \xE3\x80\x80<l>", "a|<l>"); /* any white space */
    tiny_expect(t, "a <r>  a", "a| |<r>|a");
    tiny_expect(t, "<r>  <l>", "<r>|<l>");
    tiny_expect(t, "a dd a", "a| |dd| |a");
    tiny_expect(t, "add a", "a|d|d| |a");
    tokenizer_close(t);
}

Test(encode, normalised_added_tokens)
{
    const char *json = "{\"normalizer\": {\"type\": \"Lowercase\"}, \"added_tokens\": [" ADDED("ABC", ", \"normalized\": true") "," ADDED("D", ", \"normalized\": false") "]," MODEL("", LETTERS, "") "}";
    struct tokenizer *t = tiny_open(json);
    struct detokenizer d;
    struct str out = {0};
    struct error err = {0};
    struct ids ids = {0};
    cr_assert_eq(tokenizer_encode(t, "aBcdD", 5, (struct encode_options){0}, &ids, &err), STATUS_OK);
    cr_assert_eq(ids.count, 3);
    cr_expect_eq(ids.data[0], tokenizer_find(t, "ABC", 3));
    cr_expect_eq(ids.data[1], 6);
    cr_expect_eq(ids.data[2], tokenizer_find(t, "D", 1));
    detokenizer_init(&d, t, true); /* it decodes in the form that it matches */
    cr_assert_eq(detokenizer_add(&d, ids.data[0], &out, &err), STATUS_OK);
    cr_expect_str_eq(str_text(&out), "abc");
    detokenizer_free(&d);
    str_free(&out);
    ids_free(&ids);
    tokenizer_close(t);
}

Test(encode, marked_text_gives_special_tokens_to_the_template_only)
{
    const char *json = "{\"added_tokens\": [" ADDED("<a>", ", \"special\": true") "," ADDED("bc", "") "]," MODEL("", LETTERS ", \"<\": 8, \">\": 9", "") "}";
    struct tokenizer *t = tiny_open(json);
    const char *text = "<a>bc<a>";
    bool trusted[8] = {true, true, true, false, false, false, false, false};
    struct ids ids = {0};
    struct error err = {0};
    cr_assert_eq(tokenizer_encode_marked(t, text, 8, trusted, false, &ids, &err), STATUS_OK);
    int32_t special = tokenizer_find(t, "<a>", 3), plain = tokenizer_find(t, "bc", 2);
    int32_t want[] = {special, plain, 8, 0, 9};
    cr_assert_eq(ids.count, 5);
    for (int i = 0; i < 5; i++)
        cr_expect_eq(ids.data[i], want[i]);
    trusted[6] = true; /* one byte of the second is the template's, two are not */
    ids.count = 0;
    cr_assert_eq(tokenizer_encode_marked(t, text, 8, trusted, false, &ids, &err), STATUS_OK);
    cr_expect_eq(ids.count, 5);
    ids_free(&ids);
    tokenizer_close(t);
}

Test(encode, marks_survive_a_normalizer)
{
    const char *json = "{\"normalizer\": {\"type\": \"Prepend\", \"prepend\": \"d\"}, \"added_tokens\": [" ADDED("<a>", ", \"special\": true, \"normalized\": true") "]," MODEL("", LETTERS ", \"<\": 8, \">\": 9", "") "}";
    struct tokenizer *t = tiny_open(json);
    bool trusted[6] = {true, true, true};
    struct ids ids = {0};
    struct error err = {0};
    cr_assert_eq(tokenizer_encode_marked(t, "<a><a>", 6, trusted, false, &ids, &err), STATUS_OK);
    cr_assert_eq(ids.count, 5);
    cr_expect_eq(ids.data[0], tokenizer_find(t, "<a>", 3));
    cr_expect_eq(ids.data[1], 6); /* the prepended d, then the user's characters */
    ids_free(&ids);
    tokenizer_close(t);
}

Test(encode, post_processors)
{
    const char *roberta = "{\"post_processor\": {\"type\": \"RobertaProcessing\", \"sep\": [\"b\", 1], \"cls\": [\"c\", 2]}," MODEL("", LETTERS, "") "}";
    struct tokenizer *t = tiny_open(roberta);
    tiny_expect_sized(t, "d", 1, (struct encode_options){.add_special = true}, "c|d|b");
    tiny_expect(t, "d", "d");
    tokenizer_close(t);
    t = tiny_open("{\"post_processor\": {\"type\": \"Sequence\", \"processors\": [{\"type\": \"ByteLevel\"}, {\"type\": \"TemplateProcessing\","
                  "\"single\": [{\"SpecialToken\": {\"id\": \"s\"}}, {\"Sequence\": {\"id\": \"A\"}}], \"special_tokens\": {\"s\": {\"id\": \"s\", \"ids\": [0, 1]}}}]}," MODEL("", LETTERS, "") "}");
    tiny_expect_sized(t, "d", 1, (struct encode_options){.add_special = true}, "a|b|d");
    tokenizer_close(t);
    tiny_refused("{\"post_processor\": {\"type\": \"BertProcessing\", \"sep\": [\"x\", 77], \"cls\": [\"c\", 2]}," MODEL("", LETTERS, "") "}", "77");
}

Test(encode, gaps_between_ids_cost_nothing)
{
    struct tokenizer *t = tiny_open("{" MODEL("", "\"a\": 0, \"b\": 2000000000, \"ab\": 1500000000", "\"a b\"") "}");
    struct ids ids = {0};
    struct error err = {0};
    cr_assert_eq(tokenizer_encode(t, "abb", 3, (struct encode_options){0}, &ids, &err), STATUS_OK);
    cr_assert_eq(ids.count, 2);
    cr_expect_eq(ids.data[0], 1500000000);
    cr_expect_eq(ids.data[1], 2000000000);
    size_t size;
    cr_expect_null(tokenizer_piece(t, 5, &size));
    cr_expect_eq(tokenizer_size(t), 2000000001);
    ids_free(&ids);
    tokenizer_close(t);
}
