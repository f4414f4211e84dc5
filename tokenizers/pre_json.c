/* tokenizer.ggml.pre <-> "normalizer" and "pre_tokenizer" of tokenizer.json. A name is found only when every step is the
 * same: a nearly right regex gives wrong ids in a few places that nobody looks at. */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "tokenizers/pre.h"

/* \x{4E00} of our tables as the character itself: both regex engines read that, and files have it so. */
static void expand(const char *regex, size_t size, struct str *out)
{
    for (size_t i = 0; i < size; i++) {
        const char *close = size - i > 3 && !memcmp(regex + i, "\\x{", 3) ? memchr(regex + i, '}', size - i) : NULL;
        if (!close) {
            if (regex[i] == '\\' && i + 1 < size)
                str_add_char(out, regex[i++]);
            str_add_char(out, regex[i]);
            continue;
        }
        char text[4];
        str_add(out, text, utf8_encode((uint32_t)strtoul(regex + i + 3, NULL, 16), text));
        i = (size_t)(close - regex);
    }
}

/* ---- writing -------------------------------------------------------------------------------------------------------- */

static void write_split(struct str *out, const char *regex)
{
    struct str text = {0};
    expand(regex, strlen(regex), &text);
    str_add_text(out, "{\"type\":\"Split\",\"pattern\":{\"Regex\":");
    json_write_string(out, str_text(&text), text.size);
    str_add_text(out, "},\"behavior\":\"Isolated\",\"invert\":false}");
    out->failed |= text.failed;
    str_free(&text);
}

static void write_step(struct str *out, const struct pre_step *s)
{
    static const char *const fixed[] = {
        [STEP_DIGITS] = "{\"type\":\"Digits\",\"individual_digits\":true}",
        [STEP_DIGIT_RUNS] = "{\"type\":\"Digits\",\"individual_digits\":false}",
        [STEP_PUNCTUATION] = "{\"type\":\"Punctuation\",\"behavior\":\"Contiguous\"}",
        [STEP_GPT2] = "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true}",
        [STEP_BYTES] = "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":false}"};
    if (s->kind == STEP_SPLIT)
        write_split(out, s->regex);
    else
        str_add_text(out, fixed[s->kind]);
}

enum status pre_write(const char *name, size_t size, struct str *normalizer, struct str *pretokenizer, struct error *err)
{
    const struct pre_name *n = pre_get(name, size, err);
    if (!n)
        return STATUS_BAD_INPUT;
    bool nfc = n->steps[0].kind == STEP_NFC;
    str_add_text(normalizer, nfc ? "{\"type\":\"NFC\"}" : "null");
    const struct pre_step *first = n->steps + nfc;
    bool several = first[1].kind != STEP_END;
    if (several)
        str_add_text(pretokenizer, "{\"type\":\"Sequence\",\"pretokenizers\":[");
    for (const struct pre_step *s = first; s->kind != STEP_END; s++) {
        if (s != first)
            str_add_char(pretokenizer, ',');
        write_step(pretokenizer, s);
    }
    if (several)
        str_add_text(pretokenizer, "]}");
    return STATUS_OK;
}

/* ---- finding -------------------------------------------------------------------------------------------------------- */

enum { MOST_FOUND = 8 };

struct found {
    struct {
        enum step_kind kind;
        struct str regex;
    } steps[MOST_FOUND];
    int count;
    struct error *err;
};

static bool add_found(struct found *f, enum step_kind kind)
{
    if (f->count == MOST_FOUND)
        return error_set(f->err, STATUS_BAD_INPUT, "pre_tokenizer: over %d steps have no name in GGUF", MOST_FOUND), false;
    f->steps[f->count++].kind = kind;
    return true;
}

static bool is_true(const struct json *v, const char *key, bool missing)
{
    bool value = missing;
    json_bool(json_get(v, key), &value);
    return value;
}

/* Cutting matches out and keeping them, however the file puts it. */
static bool find_split(struct found *f, const struct json *v)
{
    const struct json *regex = json_get(json_get(v, "pattern"), "Regex"), *behavior = json_get(v, "behavior");
    bool invert = is_true(v, "invert", false);
    bool isolated = json_is_text(behavior, "Isolated") || (invert && json_is_text(behavior, "Removed"));
    if (!json_is(regex, JSON_STRING) || !isolated)
        return error_set(f->err, STATUS_BAD_INPUT, "pre_tokenizer: a Split without Regex, or that does not isolate its matches, has no name in GGUF"), false;
    if (!add_found(f, STEP_SPLIT))
        return false;
    expand(regex->text, regex->size, &f->steps[f->count - 1].regex);
    return true;
}

static bool find_step(struct found *f, const char *role, const char *list, const struct json *v)
{
    const struct json *type = json_get(v, "type");
    if (!v || v->kind == JSON_NULL)
        return true;
    if (json_is_text(type, "Sequence")) {
        const struct json *items = json_get(v, list);
        for (uint32_t i = 0; json_is(items, JSON_ARRAY) && i < items->size; i++)
            if (json_is_text(json_get(&items->items[i], "type"), "Sequence") || !find_step(f, role, list, &items->items[i]))
                return false;
        return true;
    }
    if (json_is_text(type, "NFC"))
        return add_found(f, STEP_NFC);
    if (json_is_text(type, "Split"))
        return find_split(f, v);
    if (json_is_text(type, "Digits"))
        return add_found(f, is_true(v, "individual_digits", false) ? STEP_DIGITS : STEP_DIGIT_RUNS);
    if (json_is_text(type, "Punctuation") && json_is_text(json_get(v, "behavior"), "Contiguous"))
        return add_found(f, STEP_PUNCTUATION);
    if (json_is_text(type, "ByteLevel") && !is_true(v, "add_prefix_space", true))
        return add_found(f, is_true(v, "use_regex", true) ? STEP_GPT2 : STEP_BYTES);
    return error_set(f->err, STATUS_BAD_INPUT, "%s: %s as it is set up here has no name in GGUF (tokenizer.ggml.pre)", role,
                     json_is(type, JSON_STRING) ? QUOTE(type->text, type->size) : "a step without type"),
           false;
}

static bool same_steps(const struct found *f, const struct pre_name *n)
{
    for (int i = 0; i < f->count; i++) {
        struct str regex = {0};
        if (n->steps[i].regex)
            expand(n->steps[i].regex, strlen(n->steps[i].regex), &regex);
        bool same = n->steps[i].kind == f->steps[i].kind && regex.size == f->steps[i].regex.size &&
                    (!regex.size || !memcmp(regex.data, f->steps[i].regex.data, regex.size));
        str_free(&regex);
        if (!same)
            return false;
    }
    return f->count == MOST_FOUND || n->steps[f->count].kind == STEP_END;
}

const char *pre_find(const struct json *normalizer, const struct json *pretokenizer, bool whole, struct error *err)
{
    struct found f = {.err = err};
    const char *name = NULL;
    error_set(err, STATUS_BAD_INPUT, "pre_tokenizer: a Sequence in a Sequence has no name in GGUF");
    if (find_step(&f, "normalizer", "normalizers", normalizer) && find_step(&f, "pre_tokenizer", "pretokenizers", pretokenizer)) {
        for (const struct pre_name *n = pre_names; n->name && !name; n++)
            if (!!(n->flags & PRE_WHOLE) == whole && same_steps(&f, n))
                name = n->name;
        if (!name)
            error_set(err, STATUS_BAD_INPUT,
                      "pre_tokenizer: its steps (the first splits by \"%s\") are none that has a name in GGUF (tokenizer.ggml.pre); readers would split text in other places",
                      f.count && f.steps[0].regex.size ? QUOTE(f.steps[0].regex.data, f.steps[0].regex.size) : "no regex");
    }
    for (int i = 0; i < f.count; i++)
        str_free(&f.steps[i].regex);
    return name;
}
