/* Normalizers: text to text. */
#include <string.h>

#include "base/base64.h"
#include "tokenizers/internal.h"
#include "tokenizers/normal_form.h"

enum status open_normalizers(struct opening *o, const struct json *v)
{
    const struct json *list = json_get(v, "normalizers");
    if (!json_is(list, JSON_ARRAY))
        return error_set(o->err, STATUS_BAD_INPUT, "normalizer Sequence: \"normalizers\" must be an array, not %s", json_kind_name(list));
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < list->size && !status; i++)
        status = component_open(o, ROLE_NORMALIZER, &list->items[i]);
    return status;
}

/* ---- normal forms ----------------------------------------------------------------------------------------------------- */

static enum status run_form(const struct normalizer *n, struct scratch *s, const struct str *in, struct str *out, struct error *err)
{
    (void)s;
    return normal_form(n->form, str_text(in), in->size, out) ? STATUS_OK : error_memory(err, "normalised text");
}

static enum status add_normal_form(struct opening *o, int form)
{
    struct normalizer *n = add_normalizer(o);
    if (!n)
        return STATUS_BAD_INPUT;
    n->run = run_form;
    n->form = form;
    return STATUS_OK;
}

enum status open_nfc(struct opening *o, const struct json *v) { return (void)v, add_normal_form(o, FORM_COMPOSED); }
enum status open_nfd(struct opening *o, const struct json *v) { return (void)v, add_normal_form(o, 0); }
enum status open_nfkc(struct opening *o, const struct json *v) { return (void)v, add_normal_form(o, FORM_COMPOSED | FORM_COMPATIBLE); }
enum status open_nfkd(struct opening *o, const struct json *v) { return (void)v, add_normal_form(o, FORM_COMPATIBLE); }

/* ---- characters -------------------------------------------------------------------------------------------------------- */

static enum status run_lowercase(const struct normalizer *n, struct scratch *s, const struct str *in, struct str *out, struct error *err)
{
    (void)n, (void)s, (void)err;
    for (size_t at = 0; at < in->size;) {
        uint32_t c;
        at += text_next(in->data + at, in->size - at, &c);
        if (c == 0x130) { /* the one character whose lower case is two: i and a dot above */
            str_add_text(out, "i\xCC\x87");
            continue;
        }
        text_add(out, to_lower(c));
    }
    return STATUS_OK;
}

static enum status run_strip_accents(const struct normalizer *n, struct scratch *s, const struct str *in, struct str *out, struct error *err)
{
    (void)n, (void)s, (void)err;
    for (size_t at = 0, size; at < in->size; at += size) {
        uint32_t c;
        size = text_next(in->data + at, in->size - at, &c);
        if (!is_accent(c))
            str_add(out, in->data + at, size);
    }
    return STATUS_OK;
}

static enum status run_bytes(const struct normalizer *n, struct scratch *s, const struct str *in, struct str *out, struct error *err)
{
    (void)n, (void)s, (void)err;
    for (size_t at = 0, size; at < in->size; at += size) {
        uint32_t c;
        size = text_next(in->data + at, in->size - at, &c);
        for (size_t i = 0; i < (text_is_stray(c) ? 1 : size); i++)
            text_add(out, byte_stand_in[text_is_stray(c) ? c & 0xFF : (unsigned char)in->data[at + i]]);
    }
    return STATUS_OK;
}

/* SentencePiece's rules for machine translation: controls go, other blanks become a space. */
static enum status run_nmt(const struct normalizer *n, struct scratch *s, const struct str *in, struct str *out, struct error *err)
{
    (void)n, (void)s, (void)err;
    for (size_t at = 0, size; at < in->size; at += size) {
        uint32_t c;
        size = text_next(in->data + at, in->size - at, &c);
        if ((c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F)
            continue;
        if (c == 9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 || (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 ||
            c == 0x2581 || c == 0xFEFF || c == 0xFFFD)
            str_add_char(out, ' ');
        else
            str_add(out, in->data + at, size);
    }
    return STATUS_OK;
}

static enum status add_simple(struct opening *o, enum status (*run)(const struct normalizer *, struct scratch *, const struct str *, struct str *, struct error *))
{
    struct normalizer *n = add_normalizer(o);
    if (!n)
        return STATUS_BAD_INPUT;
    n->run = run;
    return STATUS_OK;
}

enum status open_lowercase(struct opening *o, const struct json *v) { return (void)v, add_simple(o, run_lowercase); }
enum status open_strip_accents(struct opening *o, const struct json *v) { return (void)v, add_simple(o, run_strip_accents); }
enum status open_byte_level_normalizer(struct opening *o, const struct json *v)
{
    (void)v;
    o->t->keeps_bytes = true;
    return add_simple(o, run_bytes);
}

enum status open_nmt(struct opening *o, const struct json *v) { return (void)v, add_simple(o, run_nmt); }

static enum status run_precompiled(const struct normalizer *n, struct scratch *s, const struct str *in, struct str *out, struct error *err)
{
    (void)s, (void)err;
    charsmap_normalize(&n->map, str_text(in), in->size, out);
    return STATUS_OK;
}

enum status open_precompiled(struct opening *o, const struct json *v)
{
    const struct json *text = json_get(v, "precompiled_charsmap");
    struct normalizer *n = add_normalizer(o);
    struct str bytes = {0};
    if (!n)
        return STATUS_BAD_INPUT;
    n->run = run_precompiled;
    enum status status = STATUS_OK;
    if (!json_is(text, JSON_STRING) || !base64_decode(text->text, text->size, &bytes))
        status = error_set(o->err, STATUS_BAD_INPUT, "Precompiled: \"precompiled_charsmap\" must be base64");
    else
        status = bytes.failed ? error_memory(o->err, "precompiled_charsmap") : charsmap_open(&n->map, bytes.data, bytes.size, o->err);
    str_free(&bytes);
    return status;
}

/* ---- both ends ---------------------------------------------------------------------------------------------------------- */

static enum status run_strip(const struct normalizer *n, struct scratch *s, const struct str *in, struct str *out, struct error *err)
{
    (void)s, (void)err;
    size_t start = 0, end = in->size;
    uint32_t c;
    while (n->left && start < end) {
        size_t size = text_next(in->data + start, end - start, &c);
        if (!is_white(c))
            break;
        start += size;
    }
    while (n->right && end > start) {
        size_t before = text_before(in->data, end);
        text_next(in->data + before, end - before, &c);
        if (!is_white(c))
            break;
        end = before;
    }
    str_add(out, str_text(in) + start, end - start);
    return STATUS_OK;
}

enum status open_strip(struct opening *o, const struct json *v)
{
    struct normalizer *n = add_normalizer(o);
    if (!n)
        return STATUS_BAD_INPUT;
    n->run = run_strip;
    n->left = n->right = true;
    bool good = take_bool(o, v, "Strip", "strip_left", &n->left) && take_bool(o, v, "Strip", "strip_right", &n->right);
    return good ? STATUS_OK : STATUS_BAD_INPUT;
}

static enum status run_prepend(const struct normalizer *n, struct scratch *s, const struct str *in, struct str *out, struct error *err)
{
    (void)s, (void)err;
    if (in->size) {
        str_add(out, str_text(&n->content), n->content.size);
        str_add(out, in->data, in->size);
    }
    return STATUS_OK;
}

enum status open_prepend(struct opening *o, const struct json *v)
{
    struct normalizer *n = add_normalizer(o);
    if (!n)
        return STATUS_BAD_INPUT;
    n->run = run_prepend;
    return take_text(o, v, "Prepend", "prepend", &n->content) ? STATUS_OK : STATUS_BAD_INPUT;
}

enum status add_prepend(struct opening *o, const char *text)
{
    struct normalizer *n = add_normalizer(o);
    if (!n)
        return STATUS_BAD_INPUT;
    n->run = run_prepend;
    str_add_text(&n->content, text);
    return n->content.failed ? error_memory(o->err, "a normalizer") : STATUS_OK;
}

/* ---- Replace ------------------------------------------------------------------------------------------------------------- */

static enum status run_replace(const struct normalizer *n, struct scratch *s, const struct str *in, struct str *out, struct error *err)
{
    size_t done = 0, start, end;
    struct pattern_place place = {0};
    bool found;
    const char *text = str_text(in);
    for (;;) {
        enum status status = pattern_next(&n->pattern, &s->run, text, in->size, &place, &found, &start, &end, err);
        if (status)
            return status;
        if (!found)
            break;
        str_add(out, text + done, start - done);
        str_add(out, str_text(&n->content), n->content.size);
        done = end;
        if (out->failed)
            return error_memory(err, "normalised text");
        if (out->size > s->room)
            break; /* normalize() refuses it */
    }
    str_add(out, text + done, in->size - done);
    return STATUS_OK;
}

enum status open_replace(struct opening *o, const struct json *v)
{
    struct normalizer *n = add_normalizer(o);
    if (!n)
        return STATUS_BAD_INPUT;
    n->run = run_replace;
    enum status status = pattern_open(&n->pattern, json_get(v, "pattern"), "Replace", o->err);
    if (!status && !take_text(o, v, "Replace", "content", &n->content))
        status = STATUS_BAD_INPUT;
    return status;
}

enum status add_replace(struct opening *o, const char *from, const char *to)
{
    struct normalizer *n = add_normalizer(o);
    if (!n)
        return STATUS_BAD_INPUT;
    n->run = run_replace;
    str_add_text(&n->content, to);
    enum status status = pattern_literal(&n->pattern, from, strlen(from), o->err);
    return status ? status : n->content.failed ? error_memory(o->err, "a normalizer") : STATUS_OK;
}

/* ---- all of them ---------------------------------------------------------------------------------------------------------- */

enum status normalize(const struct tokenizer *t, struct scratch *s, const char *text, size_t size, struct str *out, struct error *err)
{
    struct str in = {0};
    str_add(out, text, size);
    s->room = MOST_GROWTH * size + (64 << 10);
    enum status status = STATUS_OK;
    for (int i = 0; i < t->normalizer_count && !status; i++) {
        struct str swap = in;
        in = *out;
        *out = swap;
        str_clear(out);
        const struct normalizer *n = &t->normalizers[i];
        status = n->run(n, s, &in, out, err);
        if (!status && out->size > s->room)
            status = error_set(err, STATUS_FAILED, "the normalizers of the tokenizer make over %d times as much of this text", MOST_GROWTH);
    }
    if (!status && (out->failed || in.failed))
        status = error_memory(err, "normalised text");
    str_free(&in);
    return status;
}
