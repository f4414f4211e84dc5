/* Pre-tokenizers by name: normalizer, then splits, one after the other, then bytes to their stand-ins. */
#include "tokenizers/pre.h"

#include <string.h>

/* ---- regexes ------------------------------------------------------------------------------------------------------------ */

#define SEED_CODER CONTRACTIONS LETTERS "|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+" TAIL
#define QWEN35 CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*" TAIL
#define UFAKZEKA "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" TAIL
#define MINICPM5 CONTRACTIONS LETTERS "|\\p{N}+| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" TAIL
#define EXAONE_MOE                                                                                                                    \
    CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"
/* white space in lengths that halve */
#define JAIS2                                                                                                                         \
    CONTRACTIONS LETTERS "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s{512}(?!\\S)|\\s{256}(?!\\S)|\\s{128}(?!\\S)|\\s{64}(?!\\S)|" \
                         "\\s{32}(?!\\S)|\\s{16}(?!\\S)|\\s{8}(?!\\S)|\\s{4}(?!\\S)|\\s{1,2}(?!\\S)|\\s{1}"
#define BAILING "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"

#define TEKKEN SIGN CAPITALS "*" SMALL "+|" SIGN CAPITALS "+" SMALL "*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" TAIL

#define YOUTU_WORDS SIGN CAPITALS "*" SMALL "+" CONTRACTIONS "?|" SIGN CAPITALS "+" SMALL "*" CONTRACTIONS "?|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" TAIL
#define YOUTU                                                                                                                         \
    "[\\x{AC00}-\\x{D7A3}\\x{3131}-\\x{318E}]+|"                                                                                      \
    "[\\x{FF01}\\x{2026}\\x{201C}\\x{201D}\\x{2018}\\x{2019}\\x{2014}\\x{FF1A}\\x{FF1B}\\x{FF0C}\\x{3001}-\\x{303F}\\x{FE30}-\\x{FE4F}]+|" \
    "[\\x{3105}-\\x{312F}]+|[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}]+"

/* the same with Chinese characters apart: moonshotai's tokenization_kimi.py */
#define NO_HAN "(?!\\p{Han})"
#define KIMI_CAPITALS "(?:" NO_HAN CAPITALS ")"
#define KIMI_SMALL "(?:" NO_HAN SMALL ")"
#define KIMI                                                                                                                          \
    "\\p{Han}+|" SIGN KIMI_CAPITALS "*" KIMI_SMALL "+" CONTRACTIONS "?|" SIGN KIMI_CAPITALS "+" KIMI_SMALL "*" CONTRACTIONS               \
    "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" TAIL

#define CJK "[\\x{4E00}-\\x{9FA5}\\x{800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+"
#define DEEPSEEK_LATIN \
    "\\s?[A-Za-z\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}\\x{F8}-\\x{1BA}\\x{1BC}-\\x{1BF}\\x{1C4}-\\x{293}" \
    "\\x{295}-\\x{2AF}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37B}-\\x{37D}\\x{37F}\\x{386}\\x{388}-\\x{38A}\\x{38C}" \
    "\\x{38E}-\\x{3A1}\\x{3A3}-\\x{3F5}\\x{3F7}-\\x{481}\\x{48A}-\\x{52F}\\x{531}-\\x{556}\\x{10A0}-\\x{10C5}" \
    "\\x{13A0}-\\x{13F5}\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{1CBA}\\x{1CBD}-\\x{1CBF}\\x{1D00}-\\x{1D2B}" \
    "\\x{1D6B}-\\x{1D77}\\x{1D79}-\\x{1D9A}\\x{1E00}-\\x{1F15}\\x{1F18}-\\x{1F1D}\\x{1F20}-\\x{1F45}" \
    "\\x{1F48}-\\x{1F4D}\\x{1F50}-\\x{1F57}\\x{1F59}\\x{1F5B}\\x{1F5D}\\x{1F5F}-\\x{1F7D}\\x{1F80}-\\x{1FB4}" \
    "\\x{1FB6}-\\x{1FBC}\\x{1FBE}\\x{1FC2}-\\x{1FC4}\\x{1FC6}-\\x{1FCC}\\x{1FD0}-\\x{1FD3}\\x{1FD6}-\\x{1FDB}" \
    "\\x{1FE0}-\\x{1FEC}\\x{1FF2}-\\x{1FF4}\\x{1FF6}-\\x{1FFC}\\x{2102}\\x{2107}\\x{210A}-\\x{2113}\\x{2115}" \
    "\\x{2119}-\\x{211D}\\x{2124}\\x{2126}\\x{2128}\\x{212A}-\\x{212D}\\x{212F}-\\x{2134}\\x{2139}" \
    "\\x{213C}-\\x{213F}\\x{2145}-\\x{2149}\\x{214E}\\x{2183}\\x{2184}\\x{2C00}-\\x{2C7B}\\x{2C7E}-\\x{2CE4}" \
    "\\x{2CEB}-\\x{2CEE}\\x{2CF2}\\x{2CF3}\\x{A640}-\\x{A66D}\\x{A680}-\\x{A69B}\\x{A722}-\\x{A76F}" \
    "\\x{A771}-\\x{A787}\\x{A78B}-\\x{A78E}\\x{AB70}-\\x{ABBF}\\x{FB00}-\\x{FB06}\\x{FB13}-\\x{FB17}" \
    "\\x{FF21}-\\x{FF3A}\\x{FF41}-\\x{FF5A}\\x{10400}-\\x{1044F}\\x{104B0}-\\x{104D3}\\x{104D8}-\\x{104FB}" \
    "\\x{10C80}-\\x{10CB2}\\x{10CC0}-\\x{10CF2}\\x{118A0}-\\x{118DF}\\x{1E900}-\\x{1E943}]+"
#define DEEPSEEK_PUNCTUATION \
    "\\s?[!-/:-~\\x{FF01}-\\x{FF0F}\\x{FF1A}-\\x{FF5E}\\x{2018}-\\x{201F}\\x{3000}-\\x{3002}]+"
#define DEEPSEEK3_CJK "[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}]+"
#define DEEPSEEK3                                                                                                                     \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*" TAIL

/* scripts without blanks between words */
#define AFMOE_ASIAN                                                                                                                   \
    "[\\x{4E00}-\\x{9FFF}\\x{3400}-\\x{4DBF}\\x{F900}-\\x{FAFF}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}\\x{FF65}-\\x{FF9F}"                      \
    "\\x{2F00}-\\x{2FDF}\\x{E40}-\\x{E7F}\\x{E80}-\\x{EFF}\\x{1780}-\\x{17FF}\\x{1000}-\\x{109F}\\x{AA60}-\\x{AA7F}"                        \
    "\\x{A9E0}-\\x{A9FF}\\x{AC00}-\\x{D7AF}\\x{1100}-\\x{11FF}]+"

#define SPARK                                                                                                                         \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+|[\\r\\n]|\\s+(?!\\S)|\\s+"

/* bloom: everything but white space and these signs of punctuation, the ideographic ones among them */
#define BLOOM " ?[^(\\s|.,!?\\x{2026}\\x{3002}\\x{FF0C}\\x{3001}\\x{964}\\x{6D4}\\x{60C})]+"

/* ---- steps ---------------------------------------------------------------------------------------------------------------- */

#define NFC {STEP_NFC, NULL}
#define SPLIT(regex) {STEP_SPLIT, regex}
#define DIGITS {STEP_DIGITS, NULL}
#define DIGIT_RUNS {STEP_DIGIT_RUNS, NULL}
#define PUNCTUATION {STEP_PUNCTUATION, NULL}
#define GPT2 {STEP_GPT2, NULL}   /* GPT-2's regex, then bytes */
#define BYTES {STEP_BYTES, NULL}
#define WHOLE PRE_WHOLE
#define BOS PRE_BOS

const struct pre_name pre_names[] = {
#define PRE(name, flags, ...) {name, flags, {__VA_ARGS__}},
#include "tokenizers/pre.def"
#undef PRE
    {NULL, 0, {{STEP_END, NULL}}}};

static enum status add_step(struct opening *o, const struct pre_step *step)
{
    switch (step->kind) {
    case STEP_NFC:
        return open_nfc(o, NULL);
    case STEP_SPLIT:
        return add_split_regex(o, step->regex);
    case STEP_DIGITS:
        return add_class_split(o, is_numeric, ISOLATED);
    case STEP_DIGIT_RUNS:
        return add_class_split(o, is_numeric, CONTIGUOUS);
    case STEP_PUNCTUATION:
        return add_class_split(o, is_punctuation, CONTIGUOUS);
    case STEP_GPT2:
        return add_byte_level(o, true);
    case STEP_BYTES:
        return add_byte_level(o, false);
    case STEP_END:
        break;
    }
    return STATUS_OK;
}

const struct pre_name *pre_get(const char *name, size_t size, struct error *err)
{
    for (const struct pre_name *n = pre_names; n->name; n++)
        if (strlen(n->name) == size && memcmp(n->name, name, size) == 0)
            return n;
    error_set(err, STATUS_BAD_INPUT,
              "tokenizer.ggml.pre is \"%s\", which is unknown: with a guess in its place the model would read wrong tokens", QUOTE(name, size));
    return NULL;
}

enum status pre_open(struct opening *o, const char *name, size_t size, unsigned *flags)
{
    const struct pre_name *n = pre_get(name, size, o->err);
    enum status status = n ? STATUS_OK : STATUS_BAD_INPUT;
    *flags = n ? n->flags : 0;
    for (const struct pre_step *s = n ? n->steps : NULL; !status && s->kind != STEP_END; s++)
        status = add_step(o, s);
    return status;
}
