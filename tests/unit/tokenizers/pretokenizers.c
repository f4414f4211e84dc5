/* Pre-tokenizers and normalizers: text in, pieces out. */
#include "tiny.h"

/* The pieces of text under `parts` (keys of tokenizer.json), joined by '|'. */
static void expect(const char *parts, const char *text, const char *want)
{
    struct str json = {0}, got = {0}, normal = {0};
    str_format(&json, "{%s, " MODEL("", "\"a\": 0", "") "}", parts);
    struct tokenizer *t = tiny_open(json.data);
    struct scratch s = {0};
    struct error err = {0};
    cr_assert_eq(normalize(t, &s, text, strlen(text), &normal, &err), STATUS_OK, "%s", err.text);
    str_add(&s.cut.text, str_text(&normal), normal.size);
    s.cut.first = true;
    cr_assert_eq(pretokenize(t, t->pretokenizer_count, &s, &s.cut, &err), STATUS_OK, "%s", err.text);
    for (size_t i = 0; i < s.cut.pieces.count; i++) {
        const struct piece *p = &s.cut.pieces.list[i];
        if (i)
            str_add_char(&got, '|');
        str_add(&got, s.cut.text.data + p->start, p->end - p->start);
    }
    cr_expect_str_eq(str_text(&got), want, "%s on \"%s\": \"%s\" instead of \"%s\"", parts, text, str_text(&got), want);
    scratch_free(&s);
    str_free(&json);
    str_free(&got);
    str_free(&normal);
    tokenizer_close(t);
}

#define SPLIT(pattern, rest) "\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": " pattern rest "}"
#define PRE(type, rest) "\"pre_tokenizer\": {\"type\": \"" type "\"" rest "}"
#define DASH "{\"String\": \"-\"}, \"behavior\": "

Test(pretokenizers, behaviours)
{
    expect(SPLIT(DASH, "\"Isolated\""), "-a--b-", "-|a|-|-|b|-");
    expect(SPLIT(DASH, "\"Removed\""), "-a--b-", "a|b");
    expect(SPLIT(DASH, "\"MergedWithPrevious\""), "-a--b-", "-|a-|-|b-");
    expect(SPLIT(DASH, "\"MergedWithNext\""), "-a--b-", "-a|-|-b|-");
    expect(SPLIT(DASH, "\"Contiguous\""), "-a--b-", "-|a|--|b|-");
    expect(SPLIT(DASH, "\"Removed\", \"invert\": true"), "-a--b-", "-|-|-|-");
    expect(SPLIT("{\"Regex\": \"a*\"}, \"behavior\": ", "\"Isolated\""), "baac", "b|aa|c"); /* empty matches cut, but give nothing */
}

Test(pretokenizers, regexes_see_only_their_piece)
{
    const char *two = "\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"pattern\": {\"String\": \"x\"}},"
                      "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\s+(?!\\\\S)|\\\\S+\"}}]}";
    expect(two, "  a  x", " | |a|  |x"); /* the x behind the blanks is not seen */
    expect(two, "  xa", "  |x|a");
}

Test(pretokenizers, oniguruma_classes)
{
    /* U+0085 and U+00A0 are white space, U+180E is not (PCRE2's own \s says otherwise) */
    expect(SPLIT("{\"Regex\": \"\\\\s\"}, \"behavior\": ", "\"Removed\""), "a\xC2\x85" "b\xC2\xA0" "c\xE1\xA0\x8E" "d", "a|b|c\xE1\xA0\x8E" "d");
    expect(SPLIT("{\"Regex\": \"[\\\\p{L}&&[^ab]]+\"}, \"behavior\": ", "\"Isolated\""), "xyabz", "xy|ab|z");
    expect(SPLIT("{\"Regex\": \"[a[bc]d]+\"}, \"behavior\": ", "\"Isolated\""), "xabcdx", "x|abcd|x");
    expect(SPLIT("{\"Regex\": \"(?i:'s)\"}, \"behavior\": ", "\"Isolated\""), "a'S'\xC5\xBF", "a|'S|'\xC5\xBF"); /* U+017F folds to s */
    expect(SPLIT("{\"Regex\": \"\\\\p{Lo}+\"}, \"behavior\": ", "\"Isolated\""), "a\xF0\xB1\x8D\x90" "b", "a|\xF0\xB1\x8D\x90|b"); /* U+31350: Unicode 15 */
}

Test(pretokenizers, digits_and_punctuation)
{
    expect(PRE("Digits", ", \"individual_digits\": true"), "a12\xC2\xBD", "a|1|2|\xC2\xBD");
    expect(PRE("Digits", ""), "a12\xC2\xBD" "b", "a|12\xC2\xBD|b");
    expect(PRE("Punctuation", ""), "a+b..", "a|+|b|.|.");
    expect(PRE("Punctuation", ", \"behavior\": \"Contiguous\""), "a+b..", "a|+|b|..");
    expect(PRE("Whitespace", ""), "ab +- c", "ab|+-|c");
    expect(PRE("WhitespaceSplit", ""), " ab +-\xE3\x80\x80" "c", "ab|+-|c");
    expect(PRE("CharDelimiterSplit", ", \"delimiter\": \"b\""), "abcb", "a|c");
}

Test(pretokenizers, byte_level)
{
    expect(PRE("ByteLevel", ", \"add_prefix_space\": false"), "a b's 'S \xC3\xA9\n", "a|\xC4\xA0" "b|'s|\xC4\xA0'|S|\xC4\xA0\xC3\x83\xC2\xA9|\xC4\x8A");
    expect(PRE("ByteLevel", ", \"add_prefix_space\": true, \"use_regex\": false"), "a b", "\xC4\xA0" "a\xC4\xA0" "b");
    expect(PRE("ByteLevel", ", \"add_prefix_space\": true, \"use_regex\": false"), " a", "\xC4\xA0" "a");
}

#define MARK "\xE2\x96\x81"
Test(pretokenizers, metaspace)
{
    expect(PRE("Metaspace", ""), "a b", MARK "a|" MARK "b");
    expect(PRE("Metaspace", ", \"prepend_scheme\": \"never\", \"split\": false"), "a b", "a" MARK "b");
    expect(PRE("Metaspace", ""), " a", MARK "a");
    expect(PRE("Metaspace", ", \"add_prefix_space\": false"), "a b", "a|" MARK "b");
    expect("\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Digits\"}, {\"type\": \"Metaspace\", \"prepend_scheme\": \"first\"}]}",
           "a1b", MARK "a|1|b");
}

#define NORM(type, rest) "\"normalizer\": {\"type\": \"" type "\"" rest "}"
Test(normalizers, forms)
{
    expect(NORM("NFC", ""), "e\xCC\x81 x", "\xC3\xA9 x");
    expect(NORM("NFD", ""), "\xC3\xA9", "e\xCC\x81");
    expect(NORM("NFKC", ""), "\xEF\xAC\x81\xC2\xBD", "fi1\xE2\x81\x84" "2");
    expect(NORM("NFKD", ""), "\xEF\xAC\x81\xC3\xA9", "fie\xCC\x81");
    expect(NORM("NFD", ""), "a\xCC\x81\xCC\x96", "a\xCC\x96\xCC\x81"); /* class 220 before 230 */
    expect(NORM("NFC", ""), "\xEA\xB0\x80\xE1\x86\xA8", "\xEA\xB0\x81"); /* Hangul */
}

Test(normalizers, others)
{
    expect(NORM("Lowercase", ""), "\xC4\xB0" "A\xC3\x89", "i\xCC\x87" "a\xC3\xA9");
    expect(NORM("StripAccents", ""), "e\xCC\x81\xC3\xA9", "e\xC3\xA9");
    expect(NORM("Strip", ""), " \xC2\xA0 a b\n", "a b");
    expect(NORM("Strip", ", \"strip_left\": false"), " a ", " a");
    expect(NORM("Replace", ", \"pattern\": {\"String\": \" \"}, \"content\": \"_\""), "a  b", "a__b");
    expect(NORM("Replace", ", \"pattern\": {\"Regex\": \"[ab]+\"}, \"content\": \"\""), "xabyb", "xy");
    expect(NORM("Prepend", ", \"prepend\": \"x\""), "a", "xa");
    expect(NORM("Prepend", ", \"prepend\": \"x\""), "", "");
    expect("\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": []}", "a", "a");
}

Test(patterns, limits_end_with_words)
{
    struct pattern p;
    struct pattern_run run = {0};
    struct error err = {0};
    bool found;
    size_t start, end;
    char text[20000];
    memset(text, 'a', sizeof text);
    text[sizeof text - 1] = 'b';
    cr_assert_eq(pattern_regex(&p, "(a+)+$", 6, &err), STATUS_OK);
    cr_expect_eq(pattern_find(&p, &run, text, sizeof text, 0, &found, &start, &end, &err), STATUS_FAILED);
    cr_expect(strstr(err.text, "(a+)+$"));
    pattern_free(&p);
    pattern_run_free(&run);
}

Test(patterns, what_cannot_be_translated_is_refused)
{
    static const char *const regexes[] = {"[a[^b]]", "[\\W]", "[^a&&[b]]", "[[:frob:]]", "a\\"};
    for (size_t i = 0; i < sizeof regexes / sizeof *regexes; i++) {
        struct pattern p;
        struct error err = {0};
        cr_expect_eq(pattern_regex(&p, regexes[i], strlen(regexes[i]), &err), STATUS_BAD_INPUT, "%s", regexes[i]);
        pattern_free(&p);
    }
}
