/* Configuration files: YAML (.yaml, .yml), TOML (.toml), else JSON. Keys are option names with '_' for '-', at the top or in the
 * section that `backend` names, so that a file with one section per backend works:
 *
 *     backend = "local"
 *     model = "default"
 *     [local]
 *     device = "auto"
 *     max_new_tokens = 512
 *
 * Other sections are other backends' and are passed over; an unknown key is an error. Arguments and environment win over the file. */
#include <stdlib.h>
#include <string.h>

#include "agent/shell/shell.h"
#include "agent/shell/yaml.h"
#include "base/file.h"
#include "base/json.h"
#include "base/toml.h"

/* Names that other tools' files use. */
static const struct {
    const char *key, *option;
} aliases[] = {{"max_new_tokens", "max-tokens"}, {"torch_dtype", "dtype"},     {"context_window", "context"},
               {"repetition_penalty", "repeat-penalty"}, {"n_ctx", "context"}, {"n_threads", "threads"}};

static const struct option *find(const char *key, size_t size)
{
    char name[64];
    if (size >= sizeof name)
        return NULL;
    for (size_t i = 0; i < size; i++)
        name[i] = key[i] == '_' ? '-' : key[i];
    name[size] = 0;
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
        if (strlen(aliases[i].key) == size && !memcmp(aliases[i].key, key, size))
            snprintf(name, sizeof name, "%s", aliases[i].option);
    for (int i = 0; i < option_count; i++)
        if (!strcmp(options[i].name, name) && strcmp(name, "config"))
            return &options[i];
    return NULL;
}

static enum status set_one(struct settings *s, const struct option *o, const struct json *v, struct error *err)
{
    char text[4096];
    if (v->kind == JSON_ARRAY && o->kind == OPTION_LIST) {
        for (uint32_t i = 0; i < v->size; i++) {
            enum status status = set_one(s, o, &v->items[i], err);
            if (status)
                return status;
        }
        return STATUS_OK;
    }
    if (v->kind == JSON_BOOL)
        snprintf(text, sizeof text, "%s", v->truth ? "true" : "false");
    else if ((v->kind == JSON_STRING || v->kind == JSON_NUMBER) && v->size < sizeof text)
        snprintf(text, sizeof text, "%.*s", (int)v->size, v->text);
    else
        return error_set(err, STATUS_USAGE, "%s is %s where a value is needed", o->name, json_kind_name(v));
    return settings_set(s, o, text, SET_BY_FILE, err);
}

/* Keys of a local backend that are no options: what they ask for is done, or refused. */
static enum status set_special(struct settings *s, const struct command *c, const struct json_member *m, bool *known, struct error *err)
{
    struct json key = {.kind = JSON_STRING, .size = m->key_size, .text = m->key};
    bool truth = m->value.kind == JSON_BOOL && m->value.truth;
    *known = true;
    if (json_is_text(&key, "backend") || json_is_text(&key, "api_key"))
        return STATUS_OK; /* a local model needs no key */
    if (json_is_text(&key, "do_sample")) {
        if (m->value.kind != JSON_BOOL)
            return error_set(err, STATUS_USAGE, "do_sample is %s where true or false is needed", json_kind_name(&m->value));
        if (!truth && s->temperature.set <= SET_BY_FILE)
            s->temperature = (struct setting_REAL){0, SET_BY_FILE};
        return STATUS_OK;
    }
    bool eight = json_is_text(&key, "load_in_8bit"), four = json_is_text(&key, "load_in_4bit");
    if (eight || four) {
        if (truth && s->quantize.set <= SET_BY_FILE && c->groups & GROUP_ENGINE)
            s->quantize = (struct setting_TEXT){eight ? "q8_0" : "q4_k_m", SET_BY_FILE};
        return STATUS_OK;
    }
    *known = false;
    return STATUS_OK;
}

static enum status apply(struct settings *s, const struct command *c, const struct json *section, const char *path, struct error *err)
{
    for (uint32_t i = 0; i < section->size; i++) {
        const struct json_member *m = &section->members[i];
        const struct option *o = find(m->key, m->key_size);
        bool known;
        enum status status = set_special(s, c, m, &known, err);
        if (status)
            return error_prefix(err, "%s", path), status;
        if (known || m->value.kind == JSON_OBJECT || m->value.kind == JSON_NULL)
            continue;
        if (!o)
            return error_set(err, STATUS_USAGE, "%s: there is no option %s", path, QUOTE(m->key, m->key_size));
        if (!(o->group & (c->groups | GROUP_COMMON)) || settings_source(s, o) > SET_BY_FILE)
            continue; /* another command's, or said closer by */
        if ((status = set_one(s, o, &m->value, err)))
            return error_prefix(err, "%s", path), status;
    }
    return STATUS_OK;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

enum status settings_read_file(struct settings *s, const struct command *c, const char *path, struct error *err)
{
    char *text;
    size_t size;
    struct json root = {0};
    enum status status = file_read(&s->arena, path, 1 << 20, &text, &size, err);
    if (status)
        return status;
    struct json_options unique = {.unique = true};
    if (ends_with(path, ".yaml") || ends_with(path, ".yml"))
        status = yaml_read(&s->arena, text, size, &root, err);
    else if (ends_with(path, ".toml"))
        status = toml_parse(&s->arena, text, size, &root, err);
    else
        status = json_parse(&s->arena, text, size, &unique, &root, err);
    if (status)
        return error_prefix(err, "%s", path), status;
    if (root.kind != JSON_OBJECT || !root.size)
        return error_set(err, STATUS_BAD_INPUT, "%s: holds no settings", path);
    const struct json *base = json_get(&root, "base"), *backend = json_get(&root, "backend");
    if (!backend)
        backend = json_get(base, "backend");
    const struct json *section = json_is(backend, JSON_STRING) ? json_get_sized(&root, backend->text, backend->size) : NULL;
    if (!(status = apply(s, c, &root, path, err)) && json_is(base, JSON_OBJECT))
        status = apply(s, c, base, path, err);
    return !status && json_is(section, JSON_OBJECT) ? apply(s, c, section, path, err) : status;
}
