/* Unigram, WordPiece and WordLevel, and the components that come with them. What is expected was taken from the package. */
#include "tiny.h"

#define UNIGRAM(extra)                                                                                                                \
    "{\"model\": {\"type\": \"Unigram\", \"unk_id\": 0, " extra "\"vocab\": [[\"<unk>\", 0], [\"a\", -1], [\"b\", -2], [\"c\", -2.5], " \
    "[\"ab\", -2.5], [\"abc\", -6], [\"bc\", -2.75], [\"cc\", -5.0], [\"\xE2\x96\x81\", -1.5], [\"\xE2\x96\x81" "a\", -2], [\"<0x64>\", -9]]}}"

Test(models, unigram_takes_the_highest_sum)
{
    struct tokenizer *t = tiny_open(UNIGRAM(""));
    tiny_expect(t, "abc", "a|bc");
    tiny_expect(t, "ab", "ab");
    tiny_expect(t, "bcab", "bc|ab");
    tiny_expect(t, "xyz", "<unk>"); /* unknown neighbours are one */
    tiny_expect(t, "axyzb", "a|<unk>|b");
    tiny_expect(t, "cccc", "cc|cc");
    tiny_expect(t, "ccc", "c|cc"); /* equal sums: the one found first */
    tiny_expect(t, "", "");
    tokenizer_close(t);
}

Test(models, unigram_byte_fallback)
{
    struct tokenizer *t = tiny_open(UNIGRAM("\"byte_fallback\": true, "));
    tiny_expect(t, "add", "a|<0x64>|<0x64>");
    tiny_expect(t, "adx", "a|<unk>"); /* x has no byte, so the whole stretch is unknown */
    tokenizer_close(t);
}

Test(models, unigram_never_makes_special_tokens_of_text)
{
    struct tokenizer *t = tiny_open("{\"added_tokens\": [{\"id\": 1, \"content\": \"<s>\", \"special\": true}], \"model\": {\"type\": \"Unigram\", \"unk_id\": 0, "
                                    "\"vocab\": [[\"<unk>\", 0], [\"<s>\", 0], [\"<\", -1], [\"s\", -1], [\">\", -1]]}}");
    tiny_expect(t, "<s>", "<|s|>");
    tiny_expect_sized(t, "<s>", 3, (struct encode_options){.parse_special = true}, "<s>");
    tokenizer_close(t);
}

Test(models, unigram_without_unk)
{
    struct tokenizer *t = tiny_open("{\"model\": {\"type\": \"Unigram\", \"vocab\": [[\"a\", -1]]}}");
    struct ids ids = {0};
    struct error err = {0};
    tiny_expect(t, "aa", "a|a");
    cr_expect_eq(tokenizer_encode(t, "ab", 2, (struct encode_options){0}, &ids, &err), STATUS_FAILED);
    cr_expect(strstr(err.text, "unk_id"), "%s", err.text);
    cr_expect_eq(ids.count, 0);
    ids_free(&ids);
    tokenizer_close(t);
}

/* A token ends inside a character, and one place is reached by no other way. */
Test(models, unigram_long_text)
{
    enum { LENGTH = 200000 };
    struct tokenizer *t = tiny_open(UNIGRAM(""));
    struct ids ids = {0};
    struct error err = {0};
    char *text = malloc(LENGTH);
    memset(text, 'c', LENGTH);
    cr_assert_eq(tokenizer_encode(t, text, LENGTH, (struct encode_options){0}, &ids, &err), STATUS_OK, "%s", err.text);
    cr_expect_eq(ids.count, LENGTH / 2);
    free(text);
    ids_free(&ids);
    tokenizer_close(t);
}

#define BERT(model)                                                                                                                   \
    "{\"pre_tokenizer\": {\"type\": \"BertPreTokenizer\"}, \"decoder\": {\"type\": \"WordPiece\"}, "                                   \
    "\"normalizer\": {\"type\": \"BertNormalizer\", \"clean_text\": true, \"handle_chinese_chars\": true, \"strip_accents\": null, "    \
    "\"lowercase\": true}, \"model\": " model "}"
#define WORDPIECE                                                                                                                     \
    "{\"type\": \"WordPiece\", \"unk_token\": \"?\", \"max_input_chars_per_word\": 6, \"vocab\": {\"?\": 0, \"un\": 1, \"##a\": 2, "     \
    "\"##ab\": 3, \"##le\": 4, \"a\": 5, \"able\": 6, \"\xE4\xB8\xAD\": 7, \"i\": 8, \".\": 9}}"

Test(models, wordpiece)
{
    struct tokenizer *t = tiny_open(BERT(WORDPIECE));
    tiny_expect(t, "unable", "un|##ab|##le");
    tiny_expect(t, "UNABLE a", "un|##ab|##le|a");
    tiny_expect(t, "unx a", "?|a"); /* the whole word is unknown */
    tiny_expect(t, "aaaaaa", "a|##a|##a|##a|##a|##a");
    tiny_expect(t, "aaaaaaa", "?"); /* over the limit of characters */
    tiny_expect(t, "\xE4\xB8\xAD\xE4\xB8\xAD" "a", "\xE4\xB8\xAD|\xE4\xB8\xAD|a");
    tiny_expect(t, "\xC4\xB0.", "i|.");
    tiny_expect_sized(t, "a\xCC\x81\0a .", 7, (struct encode_options){0}, "a|##a|.");
    tiny_expect(t, "un\xC2\xAD" "ab", "un|##ab"); /* the soft hyphen goes */
    tokenizer_close(t);
}

static void expect_decoded(const struct tokenizer *t, const int32_t *ids, size_t count, const char *want)
{
    struct detokenizer d;
    struct str out = {0};
    struct error err = {0};
    detokenizer_init(&d, t, true);
    for (size_t i = 0; i < count; i++)
        cr_assert_eq(detokenizer_add(&d, ids[i], &out, &err), STATUS_OK, "%s", err.text);
    detokenizer_finish(&d, &out);
    cr_expect_str_eq(str_text(&out), want, "got \"%s\"", str_text(&out));
    detokenizer_free(&d);
    str_free(&out);
}
#define EXPECT_DECODED(t, want, ...) expect_decoded(t, (int32_t[]){__VA_ARGS__}, sizeof((int32_t[]){__VA_ARGS__}) / sizeof(int32_t), want)

Test(models, wordpiece_decoder)
{
    struct tokenizer *t = tiny_open(BERT(WORDPIECE));
    EXPECT_DECODED(t, "unable. a i", 1, 3, 4, 9, 5, 8);
    tokenizer_close(t);
}

#define WORDLEVEL(vocab) "\"model\": {\"type\": \"WordLevel\", \"unk_token\": \"?\", \"vocab\": {\"?\": 0, " vocab "}}"

Test(models, wordlevel)
{
    struct tokenizer *t = tiny_open("{\"pre_tokenizer\": {\"type\": \"WhitespaceSplit\"}, " WORDLEVEL("\"one\": 1, \"two\": 2") "}");
    tiny_expect(t, "one two  three two", "one|two|?|two");
    tokenizer_close(t);
    t = tiny_open("{\"pre_tokenizer\": {\"type\": \"FixedLength\", \"length\": 3}, " WORDLEVEL("\"one\": 1, \"two\": 2, \"o\": 3") "}");
    tiny_expect(t, "onetwoo", "one|two|o");
    tiny_expect(t, "\xC3\xA9\xC3\xA9\xC3\xA9one", "?|one");
    tokenizer_close(t);
    t = tiny_open("{\"normalizer\": {\"type\": \"Nmt\"}, \"pre_tokenizer\": {\"type\": \"WhitespaceSplit\"}, " WORDLEVEL("\"one\": 1, \"two\": 2, \"o\": 3") "}");
    tiny_expect(t, "o\x01ne\xE2\x80\x8Btwo\xE2\x96\x81o\xC2\x8F", "one|two|o");
    tokenizer_close(t);
}

Test(models, ctc_decoder)
{
    struct tokenizer *t = tiny_open("{\"decoder\": {\"type\": \"CTC\"}, " WORDLEVEL("\"<pad>\": 1, \"|\": 2, \"a\": 3, \"b\": 4, \".\": 5") "}");
    EXPECT_DECODED(t, "aa b.", 3, 3, 1, 3, 2, 2, 4, 1, 1, 5, 5);
    tokenizer_close(t);
}

/* A map of one rule, a -> xy, as a double array by hand: unit 0 leads to 'a' = 0x61, which has a leaf at its offset. */
Test(models, precompiled)
{
    struct charsmap m;
    struct error err = {0};
    char bytes[4 + 4 * 512 + 8] = {0};
    uint32_t size = 4 * 512, units[512] = {0};
    units[0] = 1u << 10;                               /* children at 0 ^ 1 */
    units[1 ^ 'a'] = 'a' | 1u << 8 | (0x100u << 10);   /* a text ends here; its value at the node ^ 0x100 */
    units[(1 ^ 'a') ^ 0x100] = 1u << 31 | 1;           /* offset 1 of the replacements */
    memcpy(bytes, &size, 4);
    memcpy(bytes + 4, units, sizeof units);
    memcpy(bytes + 4 + sizeof units, "\0xy\0\0", 5);
    cr_assert_eq(charsmap_open(&m, bytes, 4 + sizeof units + 5, &err), STATUS_OK, "%s", err.text);
    struct str out = {0};
    charsmap_normalize(&m, "bab a\xCC\x81", 7, &out); /* of a grapheme only the replacement stays, as in the package */
    cr_expect_str_eq(str_text(&out), "bxyb xy");
    str_clear(&out);
    charsmap_normalize(&m, "a\xE1\xAB\xA5", 4, &out); /* U+1AE5 is newer than utf8proc */
    cr_expect_str_eq(str_text(&out), "xy");
    str_clear(&out);
    size_t length, with_size;
    const char *with;
    cr_assert(charsmap_find(&m, "a\xCC\x81", 3, true, &length, &with, &with_size));
    cr_expect_eq(length, 1);
    cr_expect_eq(with_size, 2);
    charsmap_free(&m);
    size = 4 * 513; /* longer than what is there */
    memcpy(bytes, &size, 4);
    cr_expect_eq(charsmap_open(&m, bytes, 4 + sizeof units, &err), STATUS_BAD_INPUT);
    cr_expect(strstr(err.text, "trie"), "%s", err.text);
    charsmap_free(&m);
    str_free(&out);
}
