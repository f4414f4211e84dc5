/* Streaming detokenisation: what is printed when. */
#include "tiny.h"

/* Feeds ids; pieces joined by '|', the rest behind '!'. */
static void expect(const char *parts, const char *vocab, const int32_t *ids, size_t count, bool keep, const char *want)
{
    struct str json = {0}, got = {0}, piece = {0};
    str_format(&json, "{%s \"model\": {\"type\": \"BPE\", \"vocab\": {%s}, \"merges\": []}}", parts, vocab);
    struct tokenizer *t = tiny_open(json.data);
    struct detokenizer d;
    struct error err = {0};
    detokenizer_init(&d, t, keep);
    for (size_t i = 0; i < count; i++) {
        cr_assert_eq(detokenizer_add(&d, ids[i], &piece, &err), STATUS_OK);
        if (i)
            str_add_char(&got, '|');
        str_add(&got, str_text(&piece), piece.size);
        str_clear(&piece);
    }
    str_add_char(&got, '!');
    detokenizer_finish(&d, &got);
    cr_expect_str_eq(got.data, want, "\"%s\" instead of \"%s\"", got.data, want);
    detokenizer_free(&d);
    str_free(&json);
    str_free(&got);
    str_free(&piece);
    tokenizer_close(t);
}
#define IDS(...) (int32_t[]){__VA_ARGS__}, sizeof((int32_t[]){__VA_ARGS__}) / sizeof(int32_t)

Test(detokenizer, byte_level_holds_half_characters_back)
{
    const char *vocab = "\"\xC3\x83\": 0, \"\xC2\xA9\": 1, \"\xC4\xA0" "a\": 2, \"\xE4\xB8\xAD\": 3"; /* bytes C3, A9, " a"; 3 is no stand-in */
    const char *decoder = "\"decoder\": {\"type\": \"ByteLevel\"},";
    expect(decoder, vocab, IDS(2, 0, 1, 2), true, " a||\xC3\xA9| a!");
    expect(decoder, vocab, IDS(0, 0, 1), true, "|\xEF\xBF\xBD|\xC3\xA9!");
    expect(decoder, vocab, IDS(0, 2), true, "|\xEF\xBF\xBD a!");
    expect(decoder, vocab, IDS(2, 0), true, " a|!\xEF\xBF\xBD");
    expect(decoder, vocab, IDS(1, 3), true, "\xEF\xBF\xBD|\xE4\xB8\xAD!");
}

#define PIECES "\"decoder\": {\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Replace\", \"pattern\": {\"String\": \"\xE2\x96\x81\"}, \"content\": \" \"}," \
               "{\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"}, {\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}]},"

Test(detokenizer, pieces_and_byte_tokens)
{
    const char *vocab = "\"\xE2\x96\x81\xE2\x96\x81" "a\": 0, \"<0xC3>\": 1, \"<0xA9>\": 2, \"<0xff>\": 3, \"<0xF0>\": 4, \"<0x9F>\": 5";
    expect(PIECES, vocab, IDS(0, 1, 2, 0), true, " a||\xC3\xA9|  a!"); /* one blank is taken off the start, and only there */
    expect(PIECES, vocab, IDS(1, 0), true, "|\xEF\xBF\xBD  a!");
    expect(PIECES, vocab, IDS(3), true, "\xEF\xBF\xBD!");
    expect(PIECES, vocab, IDS(4, 5), true, "|!\xEF\xBF\xBD\xEF\xBF\xBD");
}

Test(detokenizer, special_tokens_and_holes)
{
    const char *added = "\"added_tokens\": [{\"id\": 1, \"content\": \"<s>\", \"special\": true}, {\"id\": 2, \"content\": \"<t>\", \"special\": false}],"
                        "\"decoder\": {\"type\": \"Fuse\"},";
    expect(added, "\"a\": 0", IDS(1, 0, 2), false, "|a|<t>!");
    expect(added, "\"a\": 0", IDS(1, 0, 2), true, "<s>|a|<t>!");
    expect("\"decoder\": {\"type\": \"Fuse\"},", "\"a\": 0, \"b\": 5", IDS(0, 3, 5), true, "a||b!");
}

Test(detokenizer, other_decoders)
{
    expect("", "\"a\": 0, \"b\": 1", IDS(0, 1), true, "a| b!"); /* none: joined by blanks */
    expect("\"decoder\": {\"type\": \"Metaspace\"},", "\"\xE2\x96\x81" "a\": 0, \"b\xE2\x96\x81\": 1", IDS(0, 0, 1), true, "a| a|b !");
    expect("\"decoder\": {\"type\": \"Metaspace\", \"prepend_scheme\": \"never\"},", "\"\xE2\x96\x81" "a\": 0", IDS(0, 0), true, " a| a!");
    expect("\"decoder\": {\"type\": \"BPEDecoder\"},", "\"a</w>\": 0, \"b\": 1", IDS(0, 1, 0, 0), true, "a| b|a| a!");
}

Test(detokenizer, copies_are_independent)
{
    struct tokenizer *t = tiny_open("{\"decoder\": {\"type\": \"ByteLevel\"}," MODEL("", "\"\xC3\x83\": 0, \"\xC2\xA9\": 1, \"a\": 2", "") "}");
    struct detokenizer a, b;
    struct str out = {0};
    struct error err = {0};
    detokenizer_init(&a, t, true);
    cr_assert_eq(detokenizer_add(&a, 0, &out, &err), STATUS_OK);
    cr_assert_eq(detokenizer_copy(&b, &a, &err), STATUS_OK);
    cr_assert_eq(detokenizer_add(&a, 1, &out, &err), STATUS_OK);
    cr_expect_str_eq(str_text(&out), "\xC3\xA9");
    str_clear(&out);
    cr_assert_eq(detokenizer_add(&b, 2, &out, &err), STATUS_OK);
    cr_expect_str_eq(str_text(&out), "\xEF\xBF\xBD" "a");
    cr_expect_eq(detokenizer_add(&b, 3, &out, &err), STATUS_USAGE);
    cr_expect_eq(detokenizer_add(&b, -1, &out, &err), STATUS_USAGE);
    detokenizer_free(&a);
    detokenizer_free(&b);
    str_free(&out);
    tokenizer_close(t);
}
