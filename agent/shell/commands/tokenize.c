/* ingot tokenize: text to ids. */
#include <string.h>
#include <unistd.h>

#include "agent/shell/commands/text.h"
#include "base/base64.h"
#include "base/file.h"

struct request {
    const struct tokenizer *tokenizer;
    struct encode_options how; /* where a line does not say */
};

static enum status write_ids(const struct request *r, const char *text, size_t size, struct encode_options how, struct str *out, struct error *err)
{
    struct ids ids = {0};
    enum status status = tokenizer_encode(r->tokenizer, text, size, how, &ids, err);
    str_add_char(out, '[');
    for (size_t i = 0; i < ids.count && !status; i++)
        str_format(out, i ? ", %d" : "%d", ids.data[i]);
    str_add_char(out, ']');
    ids_free(&ids);
    return status;
}

static enum status answer(const void *context, const struct json *line, struct str *out, struct error *err)
{
    const struct request *r = context;
    struct encode_options how = r->how;
    if (!text_take_bool(line, "add_special", &how.add_special, err) || !text_take_bool(line, "parse_special", &how.parse_special, err))
        return STATUS_USAGE;
    const struct json *text = json_is(line, JSON_STRING) ? line : json_get(line, "text"), *coded = json_get(line, "base64");
    if (json_is(text, JSON_STRING) && !coded)
        return write_ids(r, text->text, text->size, how, out, err);
    if (text || !json_is(coded, JSON_STRING))
        return error_set(err, STATUS_USAGE, "a line must be \"text\", {\"text\": \"...\"} or {\"base64\": \"...\"}");
    struct str bytes = {0};
    enum status status = base64_decode(coded->text, coded->size, &bytes) ? STATUS_OK : error_set(err, STATUS_USAGE, "\"base64\" is no base64");
    if (!status)
        status = bytes.failed ? error_memory(err, "a line") : write_ids(r, str_text(&bytes), bytes.size, how, out, err);
    str_free(&bytes);
    return status;
}

static enum status one_text(const struct request *r, const char *argument, struct error *err)
{
    struct str text = {0}, out = {0};
    enum status status = STATUS_OK;
    if (argument)
        str_add_text(&text, argument);
    else
        status = file_read_all(STDIN_FILENO, TEXT_LIMIT, &text, err);
    if (!status)
        status = write_ids(r, str_text(&text), text.size, r->how, &out, err);
    if (!status)
        status = text_print_line(&out, err);
    str_free(&text);
    str_free(&out);
    return status;
}

enum status command_tokenize(const struct settings *s, struct error *err)
{
    const char *model;
    enum status status = settings_model(s, &model, err);
    if (status)
        return status;
    int first = s->model.set ? 0 : 1; /* the argument behind MODEL */
    bool has_text = s->argument_count > first && strcmp(s->arguments[first], "-") != 0;
    if (s->argument_count > first + 1 || (has_text && s->jsonl.value))
        return error_set(err, STATUS_USAGE, s->jsonl.value ? "--jsonl reads its texts from standard input"
                                                           : "ingot tokenize takes one text; put it in quotes");
    struct tokenizer *t;
    if ((status = text_open_tokenizer(&t, model, s->offline.value, err)))
        return status;
    struct request r = {t, {.add_special = !s->no_special.value, .parse_special = s->parse_special.value}};
    status = s->jsonl.value ? text_answer_lines(answer, &r, err) : one_text(&r, has_text ? s->arguments[first] : NULL, err);
    tokenizer_close(t);
    return status;
}
