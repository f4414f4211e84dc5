/* Vocabularies in GGUF metadata, built in memory. */
#include "tiny.h"

#include <stdlib.h>

enum { KEYS = 16 };
struct file {
    struct tensor_set set;
    struct meta metas[KEYS];
    struct str data[KEYS];
};

static struct str *add(struct file *f, const char *key, enum meta_type type, enum meta_type element, uint64_t count)
{
    f->metas[f->set.meta_count] = (struct meta){.key = key, .type = type, .element = element, .count = count};
    f->set.metas = f->metas;
    return &f->data[f->set.meta_count++];
}

static void add_text(struct file *f, const char *key, const char *text) { str_add(add(f, key, META_STRING, META_STRING, strlen(text)), text, strlen(text)); }
static void add_flag(struct file *f, const char *key, bool value) { str_add_char(add(f, key, META_BOOL, META_BOOL, 0), value); }
static void add_number(struct file *f, const char *key, uint32_t value) { str_add(add(f, key, META_U32, META_U32, 0), &value, 4); }

/* texts are separated by newlines */
static void add_texts(struct file *f, const char *key, const char *texts)
{
    uint64_t count = 0;
    struct str s = {0};
    for (const char *at = texts, *end; *at; at = *end ? end + 1 : end, count++) {
        end = strchrnul(at, '\n');
        uint64_t size = (uint64_t)(end - at);
        str_add(&s, &size, 8);
        str_add(&s, at, size);
    }
    *add(f, key, META_ARRAY, META_STRING, count) = s;
}

#define NUMBERS(f, key, type, kind, ...)                                                                                              \
    str_add(add(f, key, META_ARRAY, kind, sizeof((type[]){__VA_ARGS__}) / sizeof(type)), (type[]){__VA_ARGS__}, sizeof((type[]){__VA_ARGS__}))

static enum status open(struct file *f, struct tokenizer **t, struct error *err)
{
    for (int i = 0; i < f->set.meta_count; i++)
        f->metas[i].data = (const unsigned char *)str_text(&f->data[i]);
    enum status status = tokenizer_open_gguf(t, &f->set, err);
    for (int i = 0; i < f->set.meta_count; i++)
        str_free(&f->data[i]);
    return status;
}

static struct tokenizer *open_good(struct file *f)
{
    struct tokenizer *t;
    struct error err = {0};
    cr_assert_eq(open(f, &t, &err), STATUS_OK, "%s", err.text);
    return t;
}

static void refused(struct file *f, const char *word)
{
    struct tokenizer *t;
    struct error err = {0};
    cr_assert_eq(open(f, &t, &err), STATUS_BAD_INPUT);
    cr_assert(strstr(err.text, word), "\"%s\" does not name %s", err.text, word);
}

#define MARK "\xE2\x96\x81"
static void add_pieces(struct file *f)
{
    add_text(f, "tokenizer.ggml.model", "llama");
    add_texts(f, "tokenizer.ggml.tokens", "<unk>\n<s>\n</s>\n<0x41>\n" MARK "\na\nb\nab\n" MARK "a\n<user>\nunused");
    NUMBERS(f, "tokenizer.ggml.token_type", int32_t, META_I32, 2, 3, 3, 6, 1, 1, 1, 1, 1, 4, 5);
}

Test(gguf, pieces_by_score)
{
    struct file f = {0};
    add_pieces(&f);
    NUMBERS(&f, "tokenizer.ggml.scores", float, META_F32, 0, 0, 0, 0, -5, -6, -7, -2, -1, 0, 0);
    struct tokenizer *t = open_good(&f);
    tiny_expect(t, "ab", MARK "a|b"); /* the better score joins first */
    tiny_expect(t, "bab", MARK "|b|ab");
    tiny_expect(t, "a<user>a", MARK "a|<user>|" MARK "a"); /* cut out first, and the prefix comes again */
    tiny_expect(t, "aA\xC2\xA9", MARK "a|<0x41>|<unk>");
    tiny_expect_sized(t, "</s>a", 5, (struct encode_options){true, true}, "<s>|</s>|" MARK "a");
    cr_expect_eq(tokenizer_bos(t), 1);
    cr_expect_eq(tokenizer_eos(t), 2);
    tokenizer_close(t);
}

Test(gguf, pieces_without_prefix)
{
    struct file f = {0};
    add_pieces(&f);
    NUMBERS(&f, "tokenizer.ggml.scores", float, META_F32, 0, 0, 0, 0, -5, -6, -7, -1, -2, 0, 0);
    add_flag(&f, "tokenizer.ggml.add_space_prefix", false);
    add_flag(&f, "tokenizer.ggml.add_bos_token", false);
    add_flag(&f, "tokenizer.ggml.add_eos_token", true);
    add_number(&f, "tokenizer.ggml.eot_token_id", 9);
    struct tokenizer *t = open_good(&f);
    int32_t ends[4];
    tiny_expect_sized(t, "ab a", 4, (struct encode_options){.add_special = true}, "ab|" MARK "a|</s>");
    cr_expect_eq(tokenizer_end_ids(t, ends, 4), 2);
    cr_expect(ends[0] == 2 && ends[1] == 9);
    tokenizer_close(t);
}

static void add_bytes(struct file *f, const char *pre)
{
    add_text(f, "tokenizer.ggml.model", "gpt2");
    if (pre)
        add_text(f, "tokenizer.ggml.pre", pre);
    add_texts(f, "tokenizer.ggml.tokens", "a\nb\n1\n2\nab\n12\n\xC4\xA0\n\xC4\xA0" "a\n<|end|>\nabb");
    NUMBERS(f, "tokenizer.ggml.token_type", int32_t, META_I32, 1, 1, 1, 1, 1, 1, 1, 1, 3, 1);
}

Test(gguf, bytes_by_name)
{
    struct file f = {0};
    add_bytes(&f, "smollm");
    add_texts(&f, "tokenizer.ggml.merges", "a b\n1 2\n\xC4\xA0 a");
    add_number(&f, "tokenizer.ggml.eos_token_id", 8);
    struct tokenizer *t = open_good(&f);
    tiny_expect(t, "ab a12", "ab|\xC4\xA0" "a|1|2"); /* digits one by one */
    tiny_expect(t, "abb", "ab|b");
    tiny_expect_sized(t, "a<|end|>", 8, (struct encode_options){.parse_special = true}, "a|<|end|>");
    cr_expect_eq(tokenizer_eos(t), 8);
    tokenizer_close(t);

    f = (struct file){0};
    add_bytes(&f, "llama-bpe");
    add_texts(&f, "tokenizer.ggml.merges", "a b\n1 2");
    add_number(&f, "tokenizer.ggml.bos_token_id", 1000000000); /* beyond the vocabulary: ignored */
    t = open_good(&f);
    tiny_expect_sized(t, "abb12", 5, (struct encode_options){.add_special = true}, "abb|12"); /* whole pieces */
    tokenizer_close(t);
}

Test(gguf, every_name_compiles)
{
    static const char *const names[] = {
#define PRE(name, flags, ...) name,
#include "tokenizers/pre.def"
#undef PRE
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct file f = {0};
        add_bytes(&f, names[i]);
        add_texts(&f, "tokenizer.ggml.merges", "a b\n1 2");
        struct tokenizer *t = open_good(&f);
        tiny_expect(t, "ab", "ab");
        tokenizer_close(t);
    }
}

/* Names that cut digits from the right. */
Test(gguf, digits_in_threes)
{
    static const struct {
        const char *name, *text, *expected;
    } cases[] = {
        {"llama-bpe", "1212", "12|1|2"}, {"afmoe", "1212", "1|2|12"},   {"superbpe", "1212", "1|2|12"},
        {"tiny_aya", "1212", "1|2|12"},  {"afmoe", "1212a", "1|2|12|a"}, {"tiny_aya", "1212a", "12|1|2|a"},
        {"tiny_aya", "1212 12", "1|2|12|\xC4\xA0|12"}, {"superbpe", "12121212", "12|12|1|2|12"}, {"afmoe", "121", "12|1"}, {"chameleon", "1212", "1|2|1|2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct file f = {0};
        add_bytes(&f, cases[i].name);
        add_texts(&f, "tokenizer.ggml.merges", "a b\n1 2");
        struct tokenizer *t = open_good(&f);
        tiny_expect(t, cases[i].text, cases[i].expected);
        tokenizer_close(t);
    }
}

/* A run of digits is counted once: patterns that look to its end from every place took hours, or an engine's last step. */
Test(gguf, long_numbers)
{
    static const char *const names[] = {"afmoe", "superbpe", "tiny_aya", "cohere2moe"};
    enum { DIGITS = 1 << 20 };
    char *text = malloc(DIGITS);
    cr_assert(text);
    memset(text, '1', DIGITS);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct file f = {0};
        add_bytes(&f, names[i]);
        add_texts(&f, "tokenizer.ggml.merges", "a b\n1 2");
        struct tokenizer *t = open_good(&f);
        struct ids ids = {0};
        struct error err;
        cr_assert_eq(tokenizer_encode(t, text, DIGITS, (struct encode_options){0}, &ids, &err), STATUS_OK, "%s", err.text);
        cr_expect_eq(ids.count, DIGITS);
        ids_free(&ids);
        tokenizer_close(t);
    }
    free(text);
}

Test(gguf, refused)
{
    struct file f = {0};
    add_bytes(&f, "frob");
    add_texts(&f, "tokenizer.ggml.merges", "a b");
    refused(&f, "frob");
    f = (struct file){0};
    add_bytes(&f, "gpt-2");
    refused(&f, "tokenizer.ggml.merges");
    f = (struct file){0};
    add_bytes(&f, "gpt-2");
    add_texts(&f, "tokenizer.ggml.merges", "ab");
    refused(&f, "two parts");
    f = (struct file){0};
    add_bytes(&f, "gpt-2");
    add_texts(&f, "tokenizer.ggml.merges", "a zzz");
    refused(&f, "zzz");
    f = (struct file){0};
    add_text(&f, "tokenizer.ggml.model", "frob");
    add_texts(&f, "tokenizer.ggml.tokens", "a");
    refused(&f, "frob");
    f = (struct file){0};
    add_text(&f, "tokenizer.ggml.model", "plamo2");
    add_texts(&f, "tokenizer.ggml.tokens", "a");
    refused(&f, "scores");
    f = (struct file){0};
    add_text(&f, "tokenizer.ggml.model", "plamo2");
    add_texts(&f, "tokenizer.ggml.tokens", "a");
    NUMBERS(&f, "tokenizer.ggml.scores", float, META_F32, 0);
    refused(&f, "<0x00>");
    f = (struct file){0};
    add_text(&f, "tokenizer.ggml.model", "rwkv");
    add_texts(&f, "tokenizer.ggml.tokens", "a");
    refused(&f, "0x00");
    f = (struct file){0};
    add_text(&f, "tokenizer.ggml.model", "rwkv");
    add_texts(&f, "tokenizer.ggml.tokens", "a\n\\x0");
    refused(&f, "escape");
    f = (struct file){0};
    add_text(&f, "tokenizer.ggml.model", "llama");
    refused(&f, "tokenizer.ggml.tokens");
    f = (struct file){0};
    add_pieces(&f);
    refused(&f, "scores");
    f = (struct file){0};
    add_pieces(&f);
    NUMBERS(&f, "tokenizer.ggml.scores", float, META_F32, 0, 0);
    refused(&f, "scores");
}

Test(gguf, none)
{
    struct file f = {0};
    struct tokenizer *t;
    struct error err = {0};
    cr_expect_eq(open(&f, &t, &err), STATUS_NOT_FOUND);
    add_text(&f, "tokenizer.ggml.model", "no_vocab");
    cr_expect_eq(open(&f, &t, &err), STATUS_NOT_FOUND);
}

#define M "\xE2\x96\x81"
Test(gguf, bert)
{
    struct file f = {0};
    add_text(&f, "tokenizer.ggml.model", "bert");
    add_texts(&f, "tokenizer.ggml.tokens", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n" M "un\nable\n" M "a\n[unused0]");
    add_number(&f, "tokenizer.ggml.padding_token_id", 0);
    add_number(&f, "tokenizer.ggml.unknown_token_id", 1);
    add_number(&f, "tokenizer.ggml.cls_token_id", 2);
    add_number(&f, "tokenizer.ggml.seperator_token_id", 3);
    add_number(&f, "tokenizer.ggml.mask_token_id", 4);
    struct tokenizer *t = open_good(&f);
    tiny_expect(t, "UNable \xC3\xA0 x", "un|##able|a|[UNK]");
    tiny_expect_sized(t, "a [MASK]", 8, (struct encode_options){.add_special = true, .parse_special = true}, "[CLS]|a|[MASK]|[SEP]");
    tokenizer_close(t);
}

Test(gguf, unigram)
{
    struct file f = {0};
    add_text(&f, "tokenizer.ggml.model", "t5");
    add_texts(&f, "tokenizer.ggml.tokens", "<pad>\n</s>\n<unk>\n" M "\na\nb\nab\n@a@");
    NUMBERS(&f, "tokenizer.ggml.scores", float, META_F32, 0, 0, 0, -3, -2, -2.5f, -3.5f, -4);
    NUMBERS(&f, "tokenizer.ggml.token_type", int32_t, META_I32, 3, 3, 2, 1, 1, 1, 1, 4);
    add_flag(&f, "tokenizer.ggml.add_space_prefix", true);
    add_flag(&f, "tokenizer.ggml.remove_extra_whitespaces", true);
    struct tokenizer *t = open_good(&f);
    tiny_expect(t, "  abab  x ", M "|ab|ab|" M "|<unk>");
    tiny_expect(t, "@a@a", M "|@a@|a");
    tiny_expect_sized(t, "a", 1, (struct encode_options){.add_special = true}, M "|a|</s>");
    tokenizer_close(t);
}

/* Merges of characters, by the model's name or by the pre-tokenizer's. */
static void of_characters(const char *model, const char *pre, bool bos)
{
    struct file f = {0};
    add_text(&f, "tokenizer.ggml.model", model);
    if (pre)
        add_text(&f, "tokenizer.ggml.pre", pre);
    add_texts(&f, "tokenizer.ggml.tokens", "<unk>\n<bos>\na\nb\n" M "\nab\n" M "ab\n<0xC3>\n<0xA9>");
    NUMBERS(&f, "tokenizer.ggml.token_type", int32_t, META_I32, 2, 3, 1, 1, 1, 1, 1, 6, 6);
    add_texts(&f, "tokenizer.ggml.merges", "a b\n" M " ab");
    add_number(&f, "tokenizer.ggml.bos_token_id", 1);
    struct tokenizer *t = open_good(&f);
    tiny_expect(t, "ab ab\xC3\xA9", "ab|" M "ab|<0xC3>|<0xA9>");
    tiny_expect_sized(t, "a", 1, (struct encode_options){.add_special = true}, bos ? "<bos>|a" : "a");
    tokenizer_close(t);
}

Test(gguf, pieces_by_merges)
{
    of_characters("gemma4", NULL, true);
    of_characters("gpt2", "granite-embed-multi-311m", true);
    of_characters("gpt2", "sarvam-moe", false);
}

/* Words between blanks, which are lost; by the model's name or by the pre-tokenizer's. */
static void of_words(const char *model, const char *pre, bool lower)
{
    struct file f = {0};
    add_text(&f, "tokenizer.ggml.model", model);
    add_text(&f, "tokenizer.ggml.pre", pre);
    if (lower)
        add_flag(&f, "tokenizer.ggml.normalizer.lowercase", true);
    add_texts(&f, "tokenizer.ggml.tokens", "<s>\n</s>\n<unk>\na\nb\nab\n\xE4\xBD\xA0\nA");
    NUMBERS(&f, "tokenizer.ggml.token_type", int32_t, META_I32, 3, 3, 2, 1, 1, 1, 1, 1);
    add_texts(&f, "tokenizer.ggml.merges", "a b");
    add_number(&f, "tokenizer.ggml.bos_token_id", 0);
    add_number(&f, "tokenizer.ggml.unknown_token_id", 2);
    struct tokenizer *t = open_good(&f);
    tiny_expect(t, " ab\n\xE2\x80\x83" "b  a \xE4\xBD\xA0x ", "ab|b|a|\xE4\xBD\xA0|<unk>");
    tiny_expect(t, "Aba", lower ? "ab|a" : "A|b|a");
    tokenizer_close(t);
}

Test(gguf, words_between_blanks)
{
    of_words("whitespace", "whitespace", false);
    of_words("whitespace", "whitespace", true);
    of_words("gpt2", "whitespace", false);
}

/* The cheapest pieces from the end; of equally cheap ways the longer next piece. */
Test(gguf, plamo)
{
    struct file f = {0};
    struct str texts = {0}, types = {0}, scores = {0};
    static const struct {
        const char *text;
        int32_t type;
        float score;
    } pieces[] = {{"a", 1, -1}, {"b", 1, -1}, {"ab", 1, -2}, {"ba", 1, -1.5f}, {"c", 1, -1500}, {"dd", 1, -3000}, {"[op]", 3, 0}, {"\xE4\xBD\xA0", 1, -3}};
    enum { PIECES = sizeof pieces / sizeof *pieces };
    for (int i = 0; i < 256 + PIECES; i++) {
        if (i < 256)
            str_format(&texts, "%s<0x%02X>", i ? "\n" : "", (unsigned)i);
        else
            str_format(&texts, "\n%s", pieces[i - 256].text);
        str_add(&types, &(int32_t){i < 256 ? 6 : pieces[i - 256].type}, 4);
        str_add(&scores, &(float){i < 256 ? 0 : pieces[i - 256].score}, 4);
    }
    add_text(&f, "tokenizer.ggml.model", "plamo2");
    add_texts(&f, "tokenizer.ggml.tokens", str_text(&texts));
    str_add(add(&f, "tokenizer.ggml.token_type", META_ARRAY, META_I32, 256 + PIECES), str_text(&types), types.size);
    str_add(add(&f, "tokenizer.ggml.scores", META_ARRAY, META_F32, 256 + PIECES), str_text(&scores), scores.size);
    struct tokenizer *t = open_good(&f);
    tiny_expect(t, "ab", "ab");   /* as cheap as a and b */
    tiny_expect(t, "aba", "a|ba");
    tiny_expect(t, "ac", "a|<0x63>");         /* bytes are cheaper than this piece */
    tiny_expect(t, "ddd", "<0x64>|<0x64>|<0x64>"); /* this one is dearer than anything may be */
    tiny_expect(t, "[op]\xE4\xBD\xA0", "<0x5B>|<0x6F>|<0x70>|<0x5D>|\xE4\xBD\xA0"); /* typed text is no control token */
    tiny_expect_sized(t, "[op]\xFF\xC3\xA9", 7, (struct encode_options){.parse_special = true}, "[op]|<0xFF>|<0xC3>|<0xA9>");
    tokenizer_close(t);
    str_free(&texts);
    str_free(&types);
    str_free(&scores);
}

Test(gguf, rwkv)
{
    struct file f = {0};
    struct str texts = {0}, types = {0};
    str_add_text(&texts, "<s>"); /* as Python prints bytes */
    for (int i = 0; i < 256; i++)
        str_format(&texts, i == '\\' ? "\n\\\\" : i == '\t' ? "\n\\t" : i > ' ' && i < 0x7F ? "\n%c" : "\n\\x%02x", i);
    str_add_text(&texts, "\nab\nabcd\n\\n\\n\n\\xe4\\xbd\\xa0\nit\\'s\n[PAD]");
    for (int32_t i = 0; i < 263; i++)
        str_add(&types, &(int32_t){i == 0 ? 3 : i == 262 ? 5 : 1}, 4);
    add_text(&f, "tokenizer.ggml.model", "rwkv");
    add_texts(&f, "tokenizer.ggml.tokens", str_text(&texts));
    str_add(add(&f, "tokenizer.ggml.token_type", META_ARRAY, META_I32, 263), str_text(&types), types.size);
    struct tokenizer *t = open_good(&f);
    tiny_expect(t, "abcabcd", "ab|c|abcd");
    tiny_expect(t, "\n\n\n", "\xC4\x8A\xC4\x8A|\xC4\x8A"); /* Ċ stands for a line break */
    tiny_expect(t, "it's\t\\", "it's|\xC4\x89|\\");
    tiny_expect(t, "[PAD]", "[|P|A|D|]");
    struct ids ids = {0};
    struct error err;
    cr_assert_eq(tokenizer_encode(t, "\xE4\xBD\xA0\xE5\xFF", 5, (struct encode_options){0}, &ids, &err), STATUS_OK);
    cr_expect(ids.count == 3 && ids.data[0] == 260 && ids.data[1] == 0xE5 + 1 && ids.data[2] == 0xFF + 1); /* bytes that are no text too */
    ids_free(&ids);
    tokenizer_close(t);
    str_free(&texts);
    str_free(&types);
}
