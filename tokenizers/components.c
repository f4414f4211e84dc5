/* Finds the function that opens a component, and reads typed keys. */
#include <string.h>

#include "tokenizers/internal.h"

struct component {
    enum role role;
    const char *name;
    enum status (*open)(struct opening *o, const struct json *v); /* NULL: not built yet */
};

static const struct component components[] = {
#define COMPONENT(role, name, open) {role, name, open},
#define PENDING(role, name) {role, name, NULL},
#include "tokenizers/components.def"
#undef COMPONENT
#undef PENDING
};

static const char *const role_keys[] = {"normalizer", "pre_tokenizer", "model", "post_processor", "decoder"};

enum status component_open(struct opening *o, enum role role, const struct json *v)
{
    const char *key = role_keys[role];
    if (role != ROLE_MODEL && (!v || v->kind == JSON_NULL))
        return STATUS_OK;
    if (!json_is(v, JSON_OBJECT))
        return error_set(o->err, STATUS_BAD_INPUT, "\"%s\" must be an object, not %s", key, json_kind_name(v));
    const struct json *type = json_get(v, "type");
    /* files of the package's first years leave the model's type out; then its keys tell which one it is */
    static const struct json bpe = {.kind = JSON_STRING, .text = "BPE", .size = 3}, unigram = {.kind = JSON_STRING, .text = "Unigram", .size = 7};
    if (!type && role == ROLE_MODEL)
        type = json_get(v, "merges") ? &bpe : json_get(v, "unk_id") ? &unigram : NULL;
    if (!json_is(type, JSON_STRING))
        return error_set(o->err, STATUS_BAD_INPUT, "\"%s\" needs a \"type\" that is a string", key);
    for (size_t i = 0; i < sizeof components / sizeof *components; i++) {
        const struct component *c = &components[i];
        if (c->role != role || !json_is_text(type, c->name))
            continue;
        return c->open ? c->open(o, v)
                       : error_set(o->err, STATUS_BAD_INPUT, "%s of type %s: this version of ingot cannot run it yet", key, c->name);
    }
    return error_set(o->err, STATUS_BAD_INPUT, "%s of type \"%s\" is unknown; a newer version of ingot may know it", key,
                     QUOTE(type->text, type->size));
}

static bool present(const struct json *v) { return v && v->kind != JSON_NULL; }

bool take_bool(struct opening *o, const struct json *v, const char *component, const char *key, bool *out)
{
    const struct json *value = json_get(v, key);
    if (!present(value) || json_bool(value, out))
        return true;
    error_set(o->err, STATUS_BAD_INPUT, "%s: \"%s\" must be true or false, not %s", component, key, json_kind_name(value));
    return false;
}

bool take_int(struct opening *o, const struct json *v, const char *component, const char *key, int64_t low, int64_t high, int64_t *out)
{
    const struct json *value = json_get(v, key);
    int64_t n;
    if (!present(value))
        return true;
    if (json_int(value, &n) && n >= low && n <= high) {
        *out = n;
        return true;
    }
    error_set(o->err, STATUS_BAD_INPUT, "%s: \"%s\" must be a whole number of %lld to %lld", component, key, (long long)low, (long long)high);
    return false;
}

bool take_text(struct opening *o, const struct json *v, const char *component, const char *key, struct str *out)
{
    const struct json *value = json_get(v, key);
    if (!present(value))
        return true;
    if (value->kind != JSON_STRING) {
        error_set(o->err, STATUS_BAD_INPUT, "%s: \"%s\" must be a string, not %s", component, key, json_kind_name(value));
        return false;
    }
    str_clear(out);
    str_add(out, value->text, value->size);
    return !out->failed || (error_memory(o->err, component), false);
}

static void *full(struct opening *o, const char *what)
{
    error_set(o->err, STATUS_BAD_INPUT, "over %d %s", MOST_STEPS, what);
    return NULL;
}

struct normalizer *add_normalizer(struct opening *o)
{
    struct tokenizer *t = o->t;
    return t->normalizer_count < MOST_STEPS ? &t->normalizers[t->normalizer_count++] : full(o, "normalizers");
}

struct pretokenizer *add_pretokenizer(struct opening *o)
{
    struct tokenizer *t = o->t;
    return t->pretokenizer_count < MOST_STEPS ? &t->pretokenizers[t->pretokenizer_count++] : full(o, "pre-tokenizers");
}

struct decoder *add_decoder(struct opening *o)
{
    struct tokenizer *t = o->t;
    return t->decoder_count < MOST_STEPS ? &t->decoders[t->decoder_count++] : full(o, "decoders");
}
