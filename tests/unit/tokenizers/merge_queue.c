/* Large files, whose merges a second thread looks up, open as small ones do. */
#include "tiny.h"

enum { LETTERS = 24, PAD = 1 << 20 /* blanks that make a file large */ };

/* Letters (of which one is escaped in the file), all pairs, and what a letter and a pair make of the first letters. `after` stands behind
 * the last merge. */
static void write_file(struct str *out, bool large, bool merges_first, const char *after)
{
    struct str vocab = {0}, merges = {0};
    int id = 0;
    for (int a = 0; a < LETTERS; a++)
        str_format(&vocab, "%s\"%s%c\": %d", a ? ",\n  " : "", a ? "" : "\\", a ? 'a' + a : '"', id++);
    for (int a = 1; a < LETTERS; a++)
        for (int b = 0; b < LETTERS; b++) {
            const char *escape = b ? "" : "\\";
            char last = b ? (char)('a' + b) : '"';
            str_format(&vocab, ", \"%c%s%c\": %d", 'a' + a, escape, last, id++);
            str_format(&merges, "%s[\"%c\", \"%s%c\"]", merges.size ? "," : "", 'a' + a, escape, last);
        }
    for (int a = 1; a < LETTERS; a++)
        for (int b = 1; b < LETTERS; b++)
            for (int c = 1; c < LETTERS; c++) {
                str_format(&vocab, ", \"%c%c%c\": %d", 'a' + a, 'a' + b, 'a' + c, id++);
                str_format(&merges, ",\n        [\n   \"%c%c\", \"%c\"]", 'a' + a, 'a' + b, 'a' + c);
            }
    str_add_text(&merges, after);
    str_format(out, "%*s{\"model\": {\"type\": \"BPE\", ", large ? PAD : 0, "");
    str_format(out, merges_first ? "\"merges\": [%s], \"vocab\": {%s}}}" : "\"vocab\": {%2$s}, \"merges\": [%1$s]}}", str_text(&merges), str_text(&vocab));
    str_free(&vocab);
    str_free(&merges);
}

static struct tokenizer *open_file(bool large, bool merges_first)
{
    struct str file = {0};
    struct tokenizer *t;
    struct error err = {0};
    write_file(&file, large, merges_first, "");
    cr_assert_eq(file.size > PAD, large);
    cr_assert_eq(tokenizer_open_memory(&t, "a file", file.data, file.size, &err), STATUS_OK, "%s", err.text);
    str_free(&file);
    return t;
}

Test(merge_queue, order_and_size_change_nothing)
{
    struct tokenizer *plain = open_file(false, false);
    cr_assert_eq(plain->bpe.merge_count, (LETTERS - 1) * LETTERS + (LETTERS - 1) * (LETTERS - 1) * (LETTERS - 1));
    for (int form = 1; form < 4; form++)
        for (int round = 0; round < 5; round++) {
            struct tokenizer *t = open_file(form & 1, form & 2);
            cr_assert_eq(t->bpe.merge_count, plain->bpe.merge_count);
            cr_assert_eq(memcmp(t->bpe.merges, plain->bpe.merges, plain->bpe.merge_count * sizeof *plain->bpe.merges), 0);
            tokenizer_close(t);
        }
    tokenizer_close(plain);
}

Test(merge_queue, errors_come_out)
{
    static const struct {
        const char *after, *words;
    } cases[] = {
        {", [\"b\", \"unheard\"]", "\"unheard\" is not in the vocabulary"},
        {", [\"unheard\", \"b\"]", "\"unheard\" is not in the vocabulary"},
        {", [\"bcd\", \"bcd\"]", "\"bcdbcd\" is not in the vocabulary"},
        {", [\"b\"]", "merge 12719 must be"},
        {", \"bc\"", "must have two parts"},
        {", [\"b\", \"\xFF\"]", "not UTF-8"},
        {", [\"unheard\", \"\xFF\"]", "not UTF-8"},
        {", {", "JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int form = 0; form < 4; form++) {
            struct str file = {0};
            struct tokenizer *t;
            struct error err = {0};
            write_file(&file, form & 1, form & 2, cases[i].after);
            cr_assert_eq(tokenizer_open_memory(&t, "a file", file.data, file.size, &err), STATUS_BAD_INPUT);
            cr_assert(strstr(err.text, cases[i].words), "%s: %s", cases[i].after, err.text);
            str_free(&file);
        }
}
