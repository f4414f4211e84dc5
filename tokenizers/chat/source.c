/* Where a model keeps its templates and special tokens: files beside its configuration, or a GGUF's metadata. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/utf8.h"
#include "tokenizers/chat/chat.h"

enum { LARGEST_FILE = 64 << 20, LARGEST_TEMPLATE_FILE = 4 << 20, MOST_TEMPLATES = 64, MOST_TOKENS = 256 };

static enum status add_template(struct chat_source *s, const char *name, size_t name_size, const char *text, size_t size, struct error *err)
{
    for (int i = 0; i < s->count; i++)
        if (strlen(s->templates[i].name) == name_size && memcmp(s->templates[i].name, name, name_size) == 0)
            return error_set(err, STATUS_BAD_INPUT, "two chat templates are called '%s'", QUOTE(name, name_size));
    if (s->count == MOST_TEMPLATES)
        return error_set(err, STATUS_BAD_INPUT, "more than %d chat templates", MOST_TEMPLATES);
    struct chat_named *templates = arena_array(&s->arena, (size_t)s->count + 1, sizeof *templates);
    char *copy = arena_copy(&s->arena, name, name_size), *kept = arena_copy(&s->arena, text, size);
    if (!templates || !copy || !kept)
        return error_memory(err, "chat templates");
    if (s->count)
        memcpy(templates, s->templates, (size_t)s->count * sizeof *templates);
    templates[s->count] = (struct chat_named){.name = copy, .text = kept, .size = size};
    s->templates = templates;
    s->count++;
    return STATUS_OK;
}

static enum status add_token(struct chat_source *s, const char *key, size_t key_size, const char *text, size_t size, struct error *err)
{
    for (uint32_t i = 0; i < s->token_count; i++)
        if (s->tokens[i].key_size == key_size && memcmp(s->tokens[i].key, key, key_size) == 0)
            return STATUS_OK; /* the first file that names it wins */
    if (s->token_count == MOST_TOKENS)
        return STATUS_OK;
    if (!s->tokens && !(s->tokens = arena_array(&s->arena, MOST_TOKENS, sizeof *s->tokens)))
        return error_memory(err, "special tokens");
    char *copy = arena_copy(&s->arena, key, key_size), *kept = arena_copy(&s->arena, text, size);
    if (!copy || !kept)
        return error_memory(err, "special tokens");
    s->tokens[s->token_count++] = (struct json_member){
        .key = copy, .key_size = (uint32_t)key_size, .value = {.kind = JSON_STRING, .truth = true, .size = (uint32_t)size, .text = kept}};
    return STATUS_OK;
}

/* ---- a folder ------------------------------------------------------------------------------------------------------- */

/* A file that may be missing: then *text is NULL. */
static enum status read_optional(struct arena *arena, const char *folder, const char *name, size_t limit, char **text, size_t *size, struct error *err)
{
    char *path = file_join(arena, folder, name);
    *text = NULL;
    if (!path)
        return error_memory(err, "a path");
    if (!file_exists(path))
        return STATUS_OK;
    return file_read(arena, path, limit, text, size, err);
}

static enum status read_json(struct arena *arena, const char *folder, const char *name, struct json *out, bool *found, struct error *err)
{
    char *text;
    size_t size;
    enum status status = read_optional(arena, folder, name, LARGEST_FILE, &text, &size, err);
    *found = !status && text;
    if (!*found)
        return status;
    status = json_parse(arena, text, size, NULL, out, err);
    if (!status && out->kind != JSON_OBJECT)
        status = error_set(err, STATUS_BAD_INPUT, "expected an object, found %s", json_kind_name(out));
    if (status)
        error_prefix(err, "%s/%s", QUOTE(folder, strlen(folder)), name);
    return status;
}

/* bos_token and the like: a string, or an added token with its content. */
static enum status take_tokens(struct chat_source *s, const struct json *config, struct error *err)
{
    for (uint32_t i = 0; i < config->size; i++) {
        const struct json_member *m = &config->members[i];
        const struct json *v = &m->value;
        if (m->key_size < 7 || memcmp(m->key + m->key_size - 6, "_token", 6) != 0)
            continue;
        if (v->kind == JSON_OBJECT)
            v = json_get(v, "content");
        enum status status = json_is(v, JSON_STRING) ? add_token(s, m->key, m->key_size, v->text, v->size, err) : STATUS_OK;
        if (status)
            return status;
    }
    return STATUS_OK;
}

/* chat_template: one text, or a list of {name, template}. */
static enum status take_config_templates(struct chat_source *s, const struct json *v, struct error *err)
{
    if (json_is(v, JSON_STRING))
        return add_template(s, "default", 7, v->text, v->size, err);
    for (uint32_t i = 0; json_is(v, JSON_ARRAY) && i < v->size; i++) {
        const struct json *name = json_get(&v->items[i], "name"), *text = json_get(&v->items[i], "template");
        if (!json_is(name, JSON_STRING) || !json_is(text, JSON_STRING))
            return error_set(err, STATUS_BAD_INPUT, "chat_template[%u] needs a name and a template, both strings", i);
        enum status status = add_template(s, name->text, name->size, text->text, text->size, err);
        if (status)
            return status;
    }
    for (uint32_t i = 0; json_is(v, JSON_OBJECT) && i < v->size; i++) {
        const struct json_member *m = &v->members[i];
        enum status status = json_is(&m->value, JSON_STRING) ? add_template(s, m->key, m->key_size, m->value.text, m->value.size, err)
                                                             : error_set(err, STATUS_BAD_INPUT, "chat_template's texts must be strings");
        if (status)
            return status;
    }
    if (v && v->kind != JSON_STRING && v->kind != JSON_ARRAY && v->kind != JSON_OBJECT && v->kind != JSON_NULL)
        return error_set(err, STATUS_BAD_INPUT, "chat_template must be a string or a list, not %s", json_kind_name(v));
    return STATUS_OK;
}

static int is_template_file(const struct dirent *entry)
{
    size_t n = strlen(entry->d_name);
    return n > 6 && strcmp(entry->d_name + n - 6, ".jinja") == 0 && file_is_plain_name(entry->d_name, n);
}

static enum status take_additional(struct chat_source *s, struct arena *arena, const char *folder, struct error *err)
{
    char *path = file_join(arena, folder, "additional_chat_templates");
    struct dirent **names;
    if (!path)
        return error_memory(err, "a path");
    if (!file_is_folder(path))
        return STATUS_OK;
    int count = scandir(path, &names, is_template_file, alphasort);
    if (count < 0)
        return error_set(err, STATUS_FAILED, "%s: %s", QUOTE(path, strlen(path)), error_errno(errno));
    enum status status = STATUS_OK;
    for (int i = 0; i < count; i++) {
        char *text;
        size_t size;
        if (!status)
            status = read_optional(arena, path, names[i]->d_name, LARGEST_TEMPLATE_FILE, &text, &size, err);
        if (!status && text)
            status = add_template(s, names[i]->d_name, strlen(names[i]->d_name) - 6, text, size, err);
        free(names[i]);
    }
    free(names);
    return status;
}

static enum status take_declaration(struct chat_source *s, const struct json *v, struct chat_declaration *out, struct error *err)
{
    struct str text = {0};
    if (!v || v->kind == JSON_NULL)
        return STATUS_OK;
    json_write(&text, v);
    *out = (struct chat_declaration){.text = text.failed ? NULL : arena_copy(&s->arena, str_text(&text), text.size), .size = text.size};
    str_free(&text);
    return out->text ? STATUS_OK : error_memory(err, "a response template");
}

static enum status open_folder(struct chat_source *s, struct arena *arena, const char *folder, struct error *err)
{
    struct json config = {0}, map = {0}, processor = {0};
    bool has_config, has_map, has_processor;
    char *text;
    size_t size;
    enum status status = read_optional(arena, folder, "chat_template.jinja", LARGEST_TEMPLATE_FILE, &text, &size, err);
    if (!status && text)
        status = add_template(s, "default", 7, text, size, err);
    if (!status)
        status = take_additional(s, arena, folder, err);
    if (!status && !(status = read_json(arena, folder, "tokenizer_config.json", &config, &has_config, err)) && has_config) {
        if (!s->count)
            status = take_config_templates(s, json_get(&config, "chat_template"), err);
        if (!status)
            status = take_tokens(s, &config, err);
        if (!status)
            status = take_declaration(s, json_get(&config, "response_template"), &s->response_template, err);
        if (!status)
            status = take_declaration(s, json_get(&config, "response_schema"), &s->response_schema, err);
        if (status)
            error_prefix(err, "%s/tokenizer_config.json", QUOTE(folder, strlen(folder)));
    }
    if (!status && !(status = read_json(arena, folder, "special_tokens_map.json", &map, &has_map, err)) && has_map)
        status = take_tokens(s, &map, err);
    if (!status && !s->count && !(status = read_json(arena, folder, "chat_template.json", &processor, &has_processor, err)) && has_processor)
        status = take_config_templates(s, json_get(&processor, "chat_template"), err); /* where processors kept it */
    return status;
}

enum status chat_source_open(struct chat_source *out, const char *folder, struct error *err)
{
    struct arena arena = {0};
    *out = (struct chat_source){0};
    enum status status = open_folder(out, &arena, folder, err);
    arena_free(&arena);
    if (status)
        chat_source_close(out);
    return status;
}

void chat_source_close(struct chat_source *s)
{
    arena_free(&s->arena);
    *s = (struct chat_source){0};
}

/* ---- GGUF ----------------------------------------------------------------------------------------------------------- */

/* The vocabulary's spelling of a token; false if there is none. */
static bool token_text(const struct tensor_set *set, const struct tokenizer *t, int64_t id, const char **text, size_t *size)
{
    const struct meta *tokens;
    uint64_t at = 0, length = 0;
    if (id < 0 || id > INT32_MAX)
        return false;
    if (t && (*text = tokenizer_piece(t, (int32_t)id, size)))
        return true;
    if (meta_array(set, "tokenizer.ggml.tokens", META_STRING, &tokens, NULL) || !tokens || (uint64_t)id >= tokens->count)
        return false;
    for (int64_t i = 0; i <= id; i++)
        *text = meta_next_string(tokens, &at, &length);
    *size = (size_t)length;
    return *text != NULL;
}

static enum status take_gguf_tokens(struct chat_source *s, const struct tensor_set *set, const struct tokenizer *t, struct error *err)
{
    static const char *const keys[][2] = {
        {"bos_token", "tokenizer.ggml.bos_token_id"},       {"eos_token", "tokenizer.ggml.eos_token_id"},
        {"unk_token", "tokenizer.ggml.unknown_token_id"},   {"sep_token", "tokenizer.ggml.separator_token_id"},
        {"sep_token", "tokenizer.ggml.seperator_token_id"}, {"pad_token", "tokenizer.ggml.padding_token_id"},
        {"cls_token", "tokenizer.ggml.cls_token_id"},       {"mask_token", "tokenizer.ggml.mask_token_id"},
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        int64_t id = -1;
        bool found = false;
        const char *text;
        size_t size;
        enum status status = meta_int(set, keys[i][1], &id, &found, err);
        if (!status && found && token_text(set, t, id, &text, &size) && utf8_is_valid(text, size))
            status = add_token(s, keys[i][0], strlen(keys[i][0]), text, size, err);
        if (status)
            return status;
    }
    return STATUS_OK;
}

static enum status take_gguf_template(struct chat_source *s, const struct tensor_set *set, const char *key, const char *name, size_t name_size,
                                      struct error *err)
{
    const char *text = NULL;
    uint64_t size = 0;
    bool found = false;
    enum status status = meta_string(set, key, &text, &size, &found, err);
    return status || !found ? status : add_template(s, name, name_size, text, (size_t)size, err);
}

static enum status open_gguf(struct chat_source *s, const struct tensor_set *set, const struct tokenizer *t, struct error *err)
{
    enum status status = take_gguf_template(s, set, "tokenizer.chat_template", "default", 7, err);
    const struct meta *names = NULL;
    if (!status && meta_find(set, "tokenizer.chat_templates"))
        status = meta_array(set, "tokenizer.chat_templates", META_STRING, &names, err);
    uint64_t at = 0, size = 0;
    for (uint64_t i = 0; !status && names && i < names->count && i < MOST_TEMPLATES; i++) {
        const char *name = meta_next_string(names, &at, &size);
        char *key = arena_format(&s->arena, "tokenizer.chat_template.%.*s", size < 1000 ? (int)size : 1000, name);
        if (!key)
            return error_memory(err, "chat templates");
        if (!(size == 7 && memcmp(name, "default", 7) == 0 && s->count))
            status = take_gguf_template(s, set, key, name, (size_t)size, err);
    }
    return status ? status : take_gguf_tokens(s, set, t, err);
}

enum status chat_source_open_gguf(struct chat_source *out, const struct tensor_set *set, const struct tokenizer *t, struct error *err)
{
    *out = (struct chat_source){0};
    enum status status = open_gguf(out, set, t, err);
    if (status)
        chat_source_close(out);
    return status;
}

/* ---- the choice ----------------------------------------------------------------------------------------------------- */

static const struct chat_named *named(const struct chat_source *s, const char *name)
{
    for (int i = 0; i < s->count; i++)
        if (strcmp(s->templates[i].name, name) == 0)
            return &s->templates[i];
    return NULL;
}

const struct chat_named *chat_choose(const struct chat_source *s, const char *template_name, bool has_tools, struct error *err)
{
    if (!s->count) {
        error_set(err, STATUS_NOT_FOUND, "the model has no chat template; give one with --template FILE");
        return NULL;
    }
    const struct chat_named *found = NULL;
    if (template_name)
        found = named(s, template_name);
    else if (has_tools)
        found = named(s, "tool_use");
    if (!found && !template_name)
        found = s->count == 1 ? &s->templates[0] : named(s, "default");
    if (!found) {
        struct str names = {0};
        for (int i = 0; i < s->count; i++)
            str_format(&names, i ? ", %s" : "%s", s->templates[i].name);
        const char *wanted = template_name ? template_name : "default";
        error_set(err, STATUS_NOT_FOUND, "the model has no chat template '%s'; it has: %.600s", QUOTE(wanted, strlen(wanted)), str_text(&names));
        str_free(&names);
    }
    return found;
}
