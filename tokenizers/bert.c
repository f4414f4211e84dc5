/* BERT's basic tokenizer: its normalizer and its splitting at white space and punctuation. */
#include <utf8proc.h>

#include "tokenizers/internal.h"
#include "tokenizers/normal_form.h"

static bool is_control(uint32_t c)
{
    return c != '\t' && c != '\n' && c != '\r' && is_other(c);
}

/* The package's ranges; the gap from U+2B820 to U+2B91F is its own. */
static bool is_ideograph(uint32_t c)
{
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B81F) ||
           (c >= 0x2B920 && c <= 0x2CEAF) || (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

/* Cleans, and sets ideographs apart. */
static void clean(const struct normalizer *n, const struct str *in, struct str *out)
{
    for (size_t at = 0, size; at < in->size; at += size) {
        uint32_t c;
        size = text_next(in->data + at, in->size - at, &c);
        if (n->clean && (c == 0 || c == 0xFFFD || is_control(c)))
            continue;
        bool apart = n->ideographs && is_ideograph(c);
        if (apart)
            str_add_char(out, ' ');
        if (n->clean && is_white(c))
            str_add_char(out, ' ');
        else
            str_add(out, in->data + at, size);
        if (apart)
            str_add_char(out, ' ');
    }
}

static enum status run_bert(const struct normalizer *n, struct scratch *s, const struct str *in, struct str *out, struct error *err)
{
    struct str cleaned = {0}, decomposed = {0};
    const struct str *text = &cleaned;
    bool good = true;
    (void)s;
    clean(n, in, &cleaned);
    if (n->accents) {
        good = normal_form(0, str_text(&cleaned), cleaned.size, &decomposed);
        text = &decomposed;
    }
    for (size_t at = 0; at < text->size;) {
        uint32_t c;
        at += text_next(text->data + at, text->size - at, &c);
        if (n->accents && is_nonspacing(c))
            continue;
        if (n->lower && c == 0x130)
            str_add_text(out, "i\xCC\x87");
        else
            text_add(out, n->lower ? to_lower(c) : c);
    }
    good &= !cleaned.failed && !decomposed.failed;
    str_free(&cleaned);
    str_free(&decomposed);
    return good ? STATUS_OK : error_memory(err, "normalised text");
}

enum status add_bert_normalizer(struct opening *o, bool lower, bool accents)
{
    struct normalizer *n = add_normalizer(o);
    if (!n)
        return STATUS_BAD_INPUT;
    n->run = run_bert;
    n->clean = n->ideographs = true;
    n->lower = lower;
    n->accents = accents;
    return STATUS_OK;
}

enum status open_bert_normalizer(struct opening *o, const struct json *v)
{
    enum status status = add_bert_normalizer(o, true, false);
    if (status)
        return status;
    struct normalizer *n = &o->t->normalizers[o->t->normalizer_count - 1];
    if (!take_bool(o, v, "BertNormalizer", "clean_text", &n->clean) || !take_bool(o, v, "BertNormalizer", "handle_chinese_chars", &n->ideographs) ||
        !take_bool(o, v, "BertNormalizer", "lowercase", &n->lower))
        return STATUS_BAD_INPUT;
    n->accents = n->lower; /* null means: as lowercase */
    return take_bool(o, v, "BertNormalizer", "strip_accents", &n->accents) ? STATUS_OK : STATUS_BAD_INPUT;
}

enum status add_bert_pretokenizers(struct opening *o)
{
    enum status status = add_class_split(o, is_white, REMOVED);
    return status ? status : add_class_split(o, is_punctuation, ISOLATED);
}

enum status open_bert_pretokenizer(struct opening *o, const struct json *v) { return (void)v, add_bert_pretokenizers(o); }
