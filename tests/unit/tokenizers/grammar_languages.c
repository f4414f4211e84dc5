/* Regexes, GBNF and Lark: texts that belong to them and texts that do not. */
#include "tests/unit/tokenizers/grammar.h"

#define CHECK(...)                                                                                                             \
    static const struct language languages[] = {__VA_ARGS__};                                                                   \
    for (size_t i = 0; i < sizeof languages / sizeof *languages; i++)                                                          \
        check_language(&languages[i])

Test(grammar, regexes)
{
    CHECK({REGEX, "(a|ab)(c|bcd)", {"ac", "abc", "abcd", "abbcd"}, {"a", "abb"}}, {REGEX, "(a?){20}a{20}", {"aaaaaaaaaaaaaaaaaaaa"}, {"aaaaaaaaaaaaaaaaaaa"}},
          {REGEX, "[^\\d\\W]+\\.?", {"abc", "a_."}, {"a1", ".", ""}}, {REGEX, "(?i:straße)[é-ü]", {"STRAßEé", "straßeü"}, {"strasseé", "straßee"}},
          {REGEX, "^(?!ab)[a-c]{2}$", {"aa", "ba", "cb"}, {"ab", "a"}}, {REGEX, "(?=.*\\d)[a-z\\d]{3}", {"a1b", "12c"}, {"abc", "a1"}},
          {REGEX, "x{2,}|y{,2}", {"", "y", "yy", "xx", "xxxxx"}, {"x", "yyy"}}, {REGEX, "[]a]-[a\\-c]", {"]-a", "a--"}, {"b-a", "a-b"}},
          {REGEX, "\\u{1F642}\\x41\\ud83d\\ude42", {"🙂A🙂"}, {"🙂A"}}, {REGEX, "a{0}b|()", {"b", ""}, {"ab"}},
          {REGEX, ".\n.", {"a\nb", "é\nz"}, {"\n\n\n"}}, {REGEX, "(^a|b)(c$|d)", {"ac", "ad", "bc", "bd"}, {"a", "cd"}});
}

Test(grammar, refused_regexes)
{
    check_refused(REGEX, "(a", "byte 2: a group");
    check_refused(REGEX, "a)", "a ) without its (");
    check_refused(REGEX, "(a)\\1", "back references");
    check_refused(REGEX, "\\bx", "\\b");
    check_refused(REGEX, "(?<=a)b", "look-behind");
    check_refused(REGEX, "a{3,1}", "least");
    check_refused(REGEX, "[z-a]", "range");
    check_refused(REGEX, "*a", "repetition of nothing");
    check_refused(REGEX, "a(?!)", "no text");
    check_refused(REGEX, "(?=a)b", "no text");
}

Test(grammar, gbnf)
{
    CHECK({GBNF, "root ::= list\nlist ::= list \",\" item | item\nitem ::= [a-z]+", {"a", "a,bc,d"}, {"", ",a", "a,"}},
          {GBNF, "# one\nroot ::= (\"a\"\n | \"b\" # two\n )+ rest\nrest ::= | \"!\"", {"a", "abba!"}, {"", "!", "a!!"}},
          {GBNF, "root ::= e e e\ne ::= \"x\"? e2\ne2 ::= \"y\"*", {"", "x", "xyx", "xxx", "yyy"}, {"xxxx", "z"}},
          {GBNF, "root ::= a\na ::= \"(\" a \")\" a | \"\"", {"", "()", "(())()"}, {"(", "())"}},
          {GBNF, "root ::= a | b\na ::= a \"x\"\nb ::= \"ok\"", {"ok"}, {"x", "okx"}},
          {GBNF, "root ::= [^\"\\\\\\n] . \"\\t\\x41\\u00e9\"", {"aé\tAé"}, {"\"a\tAé"}}, {GBNF, "root ::= (\"ab\"){2,3} [0-9]{0,2}", {"abab", "ababab12"}, {"ab", "abab123"}});
    check_refused(GBNF, "root ::= other", "line 1: rule 'other' is not defined");
    check_refused(GBNF, "root ::= \"a\"\nroot ::= \"b\"", "line 2: rule 'root' is defined twice");
    check_refused(GBNF, "root ::= \"a", "closing quote");
    check_refused(GBNF, "start ::= \"a\"", "'root' is not defined");
    check_refused(GBNF, "root ::= \"a\" root", "no text");
    check_refused(GBNF, "root ::= \"\\q\"", "unknown escape");
}

Test(grammar, lark)
{
    CHECK({LARK, "start: sum\nsum: sum \"+\" NUM | NUM // left\nNUM: /[0-9]+/\n%ignore / +/", {"1", "1+2", "1 + 22 "}, {"+1", "1 2", " 1"}},
          {LARK, "start: \"x\"i ~ 2..3 [\"y\"] -> name\n  | A B\nA: \"a\"..\"c\"\nB: A{2} | \"/\"", {"xX", "xxXy", "bac", "c/"}, {"x", "a", "yy"}},
          {LARK, "%import common.INT\n%import common.CNAME -> NAME\nstart: NAME \"=\" INT", {"a_1=12"}, {"1=1", "a="}},
          {LARK, "start: W\nW: /[a-z]+/ & /..../ & ~\"stop\"", {"goes", "stup"}, {"stop", "abc", "abcde"}},
          {LARK, "start: \"<\" v \">\"\nv: %json {\"type\": [\"null\", \"integer\"]}", {"<null>", "<12>"}, {"<>", "<\"\">"}});
    check_refused(LARK, "start: A\nA: B\nB: A", "made of itself");
    check_refused(LARK, "start: a", "not defined");
    check_refused(LARK, "begin: \"a\"", "start is not defined");
    check_refused(LARK, "start: %json {\"uniqueItems\": true}", "#/uniqueItems");
    check_refused(LARK, "A: start\nstart: A", "cannot hold the rule");
}

Test(grammar, counts_are_not_copied)
{
    /* each of these would be hundreds of thousands of states */
    struct grammar *g = compiled(GBNF, "root ::= (\"ab\"{3,70000} \"c\"){2,90000}");
    bool whole;
    cr_expect(beginning(g, "abababcababab", 13, &whole) && !whole);
    cr_expect(beginning(g, "abababcabababc", 14, &whole) && whole);
    cr_expect(!beginning(g, "ababc", 5, &whole));
    grammar_close(g);
    char text[3001];
    memset(text, 'a', sizeof text);
    g = compiled(REGEX, "(a|aa){3000}|.{0,100000}b");
    cr_expect(beginning(g, text, 2999, &whole) && !whole);
    cr_expect(beginning(g, text, 3000, &whole) && whole);
    cr_expect(beginning(g, text, 3001, &whole) && whole);
    grammar_close(g);
}

Test(grammar, broken_ends)
{
    /* all of these were read beyond their end once, or could have been */
    static const char *const lark[] = {"start: \"\\", "start: /a\\", "start: %json {\"\\", "start: \"a", "start", "%ignore /", "start: (", "start: \"a\"..\"", "start: [[["};
    static const char *const gbnf[] = {"root ::= \"\\", "root ::= [\\", "root ::= [a-", "root ::= (", "root", "root ::= \"a\"{", "root ::= \"a\"{1,", "root ::= <"};
    static const char *const regexes[] = {"\\", "[", "[\\", "[a-", "[^", "(?", "(?P<", "(?#", "(?i", "a{1", "\\x4", "\\u", "\\u{1", "(?=", "i????$??\", \"y*\"*y*"};
    struct grammar *g;
    struct error err;
    for (size_t i = 0; i < sizeof lark / sizeof *lark; i++) {
        cr_expect_neq(grammar_compile_lark(&g, lark[i], strlen(lark[i]), &err), STATUS_OK, "%s", lark[i]);
        grammar_close(g);
    }
    for (size_t i = 0; i < sizeof gbnf / sizeof *gbnf; i++) {
        cr_expect_neq(grammar_compile_gbnf(&g, gbnf[i], strlen(gbnf[i]), &err), STATUS_OK, "%s", gbnf[i]);
        grammar_close(g);
    }
    for (size_t i = 0; i < sizeof regexes / sizeof *regexes; i++) {
        grammar_compile_regex(&g, regexes[i], strlen(regexes[i]), &err);
        grammar_close(g);
    }
}
