/* tokenizer.model: SentencePiece's file, written here by hand. What is expected was taken from sentencepiece 0.2.3. */
#include "tiny.h"

enum { NORMAL = 1, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE };
enum { UNIGRAM = 1, BPE, WORD, CHAR };

static void add_varint(struct str *out, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        str_add_char(out, (char)(value | 0x80));
    str_add_char(out, (char)value);
}

static void add_message(struct str *out, uint32_t number, const char *bytes, size_t size)
{
    add_varint(out, number << 3 | 2);
    add_varint(out, size);
    str_add(out, bytes, size);
}

static void add_number(struct str *out, uint32_t number, uint64_t value)
{
    add_varint(out, number << 3);
    add_varint(out, value);
}

static void add_piece(struct str *out, const char *text, float score, int type)
{
    struct str piece = {0};
    add_message(&piece, 1, text, strlen(text));
    str_add_char(&piece, 2 << 3 | 5);
    str_add(&piece, &score, 4);
    add_number(&piece, 3, (uint64_t)type);
    add_message(out, 1, piece.data, piece.size);
    str_free(&piece);
}

struct settings {
    int model;
    bool extra, suffix, bytes;
};

static struct str finish(struct str file, struct settings s)
{
    struct str spec = {0};
    add_number(&spec, 3, (uint64_t)s.model);
    add_number(&spec, 24, s.suffix);
    add_number(&spec, 35, s.bytes);
    add_message(&file, 2, spec.data, spec.size);
    str_clear(&spec);
    add_number(&spec, 4, s.extra);
    add_message(&file, 3, str_text(&spec), spec.size);
    str_free(&spec);
    return file;
}

static struct tokenizer *open(struct str file)
{
    struct tokenizer *t;
    struct error err = {0};
    cr_assert_eq(tokenizer_open_bytes(&t, "tiny.model", file.data, file.size, &err), STATUS_OK, "%s", err.text);
    str_free(&file);
    return t;
}

static void refused(struct str file, const char *word)
{
    struct tokenizer *t = NULL;
    struct error err = {0};
    cr_assert_eq(tokenizer_open_bytes(&t, "tiny.model", str_text(&file), file.size, &err), STATUS_BAD_INPUT);
    cr_assert_null(t);
    cr_expect(strstr(err.text, word), "\"%s\" does not name %s", err.text, word);
    str_free(&file);
}

static void expect_text(const struct tokenizer *t, const char *text, const char *want)
{
    struct detokenizer d;
    struct ids ids = {0};
    struct str out = {0};
    struct error err = {0};
    cr_assert_eq(tokenizer_encode(t, text, strlen(text), (struct encode_options){0}, &ids, &err), STATUS_OK, "%s", err.text);
    detokenizer_init(&d, t, true);
    for (size_t i = 0; i < ids.count; i++)
        cr_assert_eq(detokenizer_add(&d, ids.data[i], &out, &err), STATUS_OK, "%s", err.text);
    detokenizer_finish(&d, &out);
    cr_expect_str_eq(str_text(&out), want);
    ids_free(&ids);
    str_free(&out);
    detokenizer_free(&d);
}

#define M "\xE2\x96\x81"

static struct str bpe_pieces(void)
{
    struct str f = {0};
    add_piece(&f, "<unk>", 0, UNKNOWN);
    add_piece(&f, "<s>", 0, CONTROL);
    add_piece(&f, M, -9, NORMAL);
    add_piece(&f, "a", -10, NORMAL);
    add_piece(&f, "b", -11, NORMAL);
    add_piece(&f, "ab", -1, NORMAL);
    add_piece(&f, M "a", -2, NORMAL);
    add_piece(&f, "abb", -3, NORMAL);
    add_piece(&f, "@@", -4, USER_DEFINED);
    add_piece(&f, "bb", -2.5f, UNUSED);
    add_piece(&f, "bbbb", -0.5f, NORMAL);
    return f;
}

Test(pieces, bpe)
{
    struct tokenizer *t = open(finish(bpe_pieces(), (struct settings){.model = BPE}));
    tiny_expect(t, "ab", M "|ab");
    tiny_expect(t, "a b", M "a|" M "|b");
    tiny_expect(t, "  ab ", M "|" M "|" M "|ab|" M);
    tiny_expect(t, "abb", M "|abb");
    tiny_expect(t, "bb", M "|b|b"); /* an unused piece is taken apart again */
    tiny_expect(t, "bbbb", M "|bbbb"); /* but is a step on the way */
    tiny_expect(t, "a@@b", M "a|@@|b");
    tiny_expect(t, "@@@", M "|@@|<unk>");
    tiny_expect(t, "axyb", M "a|<unk>|b");
    tiny_expect(t, "<s>", M "|<unk>"); /* text is never a control piece */
    tiny_expect(t, " ", M "|" M);
    tiny_expect(t, "", "");
    tiny_expect_sized(t, "ab", 2, (struct encode_options){.add_special = true}, "<s>|" M "|ab");
    tiny_expect_sized(t, "<s>ab", 5, (struct encode_options){.parse_special = true}, "<s>|" M "|ab");
    expect_text(t, "  ab ", "  ab ");
    expect_text(t, "@@@", "@@ \xE2\x81\x87 ");
    tokenizer_close(t);
}

Test(pieces, extra_blanks)
{
    struct tokenizer *t = open(finish(bpe_pieces(), (struct settings){.model = BPE, .extra = true}));
    tiny_expect(t, "  ab   b ", M "|ab|" M "|b");
    tiny_expect(t, "   ", "");
    expect_text(t, "  ab   b ", "ab b");
    tokenizer_close(t);
}

Test(pieces, characters)
{
    struct tokenizer *t = open(finish(bpe_pieces(), (struct settings){.model = CHAR}));
    tiny_expect(t, "ab@@b", M "|a|b|@@|b");
    tokenizer_close(t);
}

static struct str unigram_pieces(void)
{
    struct str f = {0};
    add_piece(&f, "<unk>", 0, UNKNOWN);
    add_piece(&f, M, -3, NORMAL);
    add_piece(&f, "a", -2, NORMAL);
    add_piece(&f, "b", -2.5f, NORMAL);
    add_piece(&f, "ab", -3.5f, NORMAL);
    add_piece(&f, "aa", -4, NORMAL);
    add_piece(&f, "@a@", -4, USER_DEFINED);
    add_piece(&f, "zz", 0, UNUSED);
    add_piece(&f, "z", -5, NORMAL);
    return f;
}

Test(pieces, unigram)
{
    struct tokenizer *t = open(finish(unigram_pieces(), (struct settings){.model = UNIGRAM}));
    tiny_expect(t, "abab", M "|ab|ab");
    tiny_expect(t, "aaaa", M "|aa|aa");
    tiny_expect(t, "aaaaa", M "|a|aa|aa");
    tiny_expect(t, "@a@a", M "|@a@|a");
    tiny_expect(t, "a @", M "|a|" M "|<unk>");
    tiny_expect(t, "zz", M "|z|z");
    tiny_expect(t, "xx y", M "|<unk>|" M "|<unk>");
    tokenizer_close(t);
    t = open(finish(unigram_pieces(), (struct settings){.model = UNIGRAM, .extra = true, .suffix = true}));
    tiny_expect(t, "ab a", "ab|" M "|a|" M);
    tokenizer_close(t);
}

Test(pieces, bytes)
{
    struct str f = unigram_pieces();
    for (int i = 0; i < 256; i++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", i);
        add_piece(&f, text, 0, BYTE);
    }
    struct tokenizer *t = open(finish(f, (struct settings){.model = UNIGRAM, .bytes = true}));
    tiny_expect(t, "\xC3\xA9", M "|<0xC3>|<0xA9>");
    tiny_expect(t, "\xFF", M "|<0xFF>"); /* no byte is lost */
    expect_text(t, "\xC3\xA9", "\xC3\xA9");
    tokenizer_close(t);
}

Test(pieces, refused)
{
    struct str f = {0};
    add_piece(&f, "a", 0, NORMAL);
    refused(finish(f, (struct settings){.model = BPE}), "unk");
    f = bpe_pieces();
    add_piece(&f, "a", 0, NORMAL);
    refused(finish(f, (struct settings){.model = BPE}), "twice");
    f = bpe_pieces();
    add_piece(&f, "<0x41>", 0, BYTE);
    refused(finish(f, (struct settings){.model = BPE}), "byte_fallback");
    f = bpe_pieces();
    add_piece(&f, "", 0, NORMAL);
    refused(finish(f, (struct settings){.model = BPE}), "piece 11");
    refused(finish(bpe_pieces(), (struct settings){.model = BPE, .bytes = true}), "<0x00>");
    refused(finish(bpe_pieces(), (struct settings){.model = WORD}), "WORD");
    f = finish(bpe_pieces(), (struct settings){.model = BPE});
    f.size -= 1;
    refused(f, "cut short");
    f = (struct str){0};
    str_add(&f, "\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", 12); /* a length of more than ten bytes */
    refused(f, "cut short");
    f = (struct str){0};
    str_add(&f, "\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F" "a", 10); /* a length beyond the file */
    refused(f, "cut short");
}

/* tiktoken's form; the published ones are told apart by their number of ranks. */
static struct str bytes_and(const char *more, bool tekken)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    struct str f = {0};
    for (int i = 0; i < 256; i++) {
        if (tekken)
            str_format(&f, "%s{\"rank\": %d, \"token_bytes\": \"%c%c==\", \"token_str\": null}", i ? ", " : "", i, digits[i >> 2], digits[(i & 3) << 4]);
        else
            str_format(&f, "%c%c== %d\n", digits[i >> 2], digits[(i & 3) << 4], i);
    }
    str_add_text(&f, more);
    return f;
}

Test(pieces, tekken)
{
    struct str vocab = bytes_and(", {\"rank\": 256, \"token_bytes\": \"YWI=\", \"token_str\": \"ab\"}, {\"rank\": 257, \"token_bytes\": \"YmM=\", "
                                 "\"token_str\": \"bc\"}, {\"rank\": 258, \"token_bytes\": \"YWJj\", \"token_str\": \"abc\"}", true);
    struct str f = {0};
    str_format(&f, "{\"config\": {\"pattern\": \"[a-z]+|[^a-z]\", \"default_vocab_size\": 260, \"default_num_special_tokens\": 2}, "
                   "\"special_tokens\": [{\"rank\": 0, \"token_str\": \"<s>\", \"is_control\": true}], \"vocab\": [%s]}", str_text(&vocab));
    struct tokenizer *t = open(f);
    tiny_expect(t, "abc", "ab|c"); /* the last rank is beyond the vocabulary */
    tiny_expect(t, "abcbc", "ab|c|bc");
    tiny_expect(t, "ab ab", "ab|\xC4\xA0|ab");
    tiny_expect_sized(t, "a", 1, (struct encode_options){.add_special = true}, "<s>|a");
    tiny_expect_sized(t, "<SPECIAL_1>", 11, (struct encode_options){.parse_special = true}, "<SPECIAL_1>");
    cr_expect_eq(tokenizer_find(t, "ab", 2), 258);
    cr_expect_eq(tokenizer_size(t), 260);
    cr_expect_eq(tokenizer_bos(t), 0);
    expect_text(t, "ab \xC3\xA9\xFF", "ab \xC3\xA9\xEF\xBF\xBD");
    tokenizer_close(t);
    str_free(&vocab);
}

Test(pieces, ranks_refused)
{
    refused(bytes_and("", false), "256 ranks");
    refused(bytes_and("YWI=\n", false), "line 257");
    refused(bytes_and("Y.I= 256\n", false), "base64");
    refused(bytes_and("AA== 256\n", false), "twice");
    refused(bytes_and("YWI= 99999999999\n", false), "line 257");
}
