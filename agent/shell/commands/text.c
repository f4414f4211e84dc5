#include "agent/shell/commands/text.h"

#include <errno.h>
#include <string.h>

#include "base/file.h"
#include "base/files/tensors.h"
#include "runtime/ingot.h"

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static enum status open_gguf(struct tokenizer **out, const char *path, struct error *err)
{
    struct tensor_set *set;
    enum status status = gguf_open(&set, path, MAPPING_FILE, err);
    if (status)
        return status;
    status = tokenizer_open_gguf(out, set, err);
    if (status)
        error_prefix(err, "%s", path);
    tensor_set_close(set);
    return status;
}

enum status text_open_tokenizer(struct tokenizer **out, const char *name, bool offline, struct error *err)
{
    char model[4096];
    *out = NULL;
    enum status found = (enum status)ingot_find_model(name, offline, model, sizeof model, (struct ingot_error *)err);
    if (found)
        return found;
    if (file_is_folder(model)) {
        enum status status = tokenizer_open(out, model, err);
        return status == STATUS_NOT_FOUND ? error_set(err, status, "%s: the folder holds no tokenizer.json, tekken.json or tokenizer.model", QUOTE(model, strlen(model))) : status;
    }
    if (gguf_is(model) || ends_with(model, ".gguf"))
        return open_gguf(out, model, err);
    return tokenizer_open(out, model, err);
}

static enum status open_gguf_templates(struct chat_source *out, const char *path, struct error *err)
{
    struct tensor_set *set;
    struct tokenizer *tokenizer = NULL;
    enum status status = gguf_open(&set, path, MAPPING_FILE, err);
    if (status)
        return status;
    status = chat_source_open_gguf(out, set, tokenizer, err);
    if (status)
        error_prefix(err, "%s", path);
    tensor_set_close(set);
    return status;
}

enum status text_open_templates(struct chat_source *out, const char *name, bool offline, struct error *err)
{
    char model[4096];
    enum status found = (enum status)ingot_find_model(name, offline, model, sizeof model, (struct ingot_error *)err);
    if (found)
        return found;
    if (file_is_folder(model))
        return chat_source_open(out, model, err);
    if (gguf_is(model))
        return open_gguf_templates(out, model, err);
    char folder[4096]; /* a lone tokenizer.json: what lies beside it counts */
    const char *slash = strrchr(model, '/');
    size_t n = slash ? (size_t)(slash - model) : 0;
    if (n >= sizeof folder)
        return error_set(err, STATUS_USAGE, "%s: the path is too long", QUOTE(model, strlen(model)));
    memcpy(folder, model, n);
    memcpy(folder + n, n ? "" : ".", n ? 1 : 2);
    return chat_source_open(out, folder, err);
}

enum status text_open_template_file(struct chat_source *out, const char *path, struct error *err)
{
    char *text;
    struct chat_named *one = arena_alloc(&out->arena, sizeof *one);
    enum status status = one ? file_read(&out->arena, path, 4 << 20, &text, &one->size, err) : error_memory(err, "a template");
    if (status)
        return status;
    one->name = arena_copy(&out->arena, path, strlen(path));
    one->text = text;
    out->templates = one;
    out->count = 1;
    return one->name ? STATUS_OK : error_memory(err, "a template");
}

enum status text_print_line(struct str *text, struct error *err)
{
    str_add_char(text, '\n');
    if (text->failed)
        return error_memory(err, "the result");
    fwrite(text->data, 1, text->size, stdout);
    return output_finish(stdout, err);
}

/* One line: parsed and answered; *status says how. Only what is no fault of the line itself is returned. */
static enum status answer_line(text_answer *answer, const void *context, const char *line, size_t size, enum status *status, struct error *err)
{
    struct arena arena = {0};
    struct str out = {0};
    struct error wrong = {0};
    struct json root;
    struct json_options limits = {.depth = 100, .unique = true};
    if (!*status)
        *status = json_parse(&arena, line, size, &limits, &root, &wrong);
    else
        wrong = *err; /* the line was too long to be read */
    if (!*status)
        *status = answer(context, &root, &out, &wrong);
    if (*status) {
        str_clear(&out);
        str_add_text(&out, "{\"error\": ");
        json_write_string(&out, wrong.text, strlen(wrong.text));
        str_add_char(&out, '}');
    }
    enum status printed = text_print_line(&out, err);
    str_free(&out);
    arena_free(&arena);
    return printed;
}

enum status text_answer_lines(text_answer *answer, const void *context, struct error *err)
{
    struct line_reader reader = {.in = stdin, .limit = TEXT_LIMIT};
    bool end = false, failed = false;
    enum status fatal = STATUS_OK;
    while (!fatal) {
        const char *line;
        size_t size;
        enum status status = line_read(&reader, &line, &size, &end, err);
        if (end)
            break;
        if (status == STATUS_NO_ROOM)
            fatal = status;
        else
            fatal = answer_line(answer, context, line, size, &status, err);
        failed |= status != STATUS_OK;
    }
    if (!fatal && ferror(stdin))
        fatal = error_set(err, STATUS_FAILED, "cannot read standard input: %s", error_errno(errno));
    str_free(&reader.line);
    if (!fatal && failed) {
        err->text[0] = 0;
        err->status = fatal = STATUS_FAILED;
    }
    return fatal;
}

bool text_take_bool(const struct json *line, const char *key, bool *out, struct error *err)
{
    const struct json *v = json_get(line, key);
    if (!v || v->kind == JSON_NULL || json_bool(v, out))
        return true;
    error_set(err, STATUS_USAGE, "\"%s\" must be true or false, not %s", key, json_kind_name(v));
    return false;
}
