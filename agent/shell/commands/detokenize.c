/* ingot detokenize: ids to text, and the pieces in which a stream would have printed it. */
#include <unistd.h>

#include "agent/shell/commands/text.h"
#include "base/file.h"

struct request {
    const struct tokenizer *tokenizer;
    bool keep_special; /* where a line does not say */
};

/* A piece that was printed goes to both: text as it is, pieces as JSON. */
static void take_piece(struct str *piece, struct str *text, struct str *pieces)
{
    if (!piece->size)
        return;
    if (pieces->size)
        str_add_text(pieces, ", ");
    json_write_string(pieces, piece->data, piece->size);
    str_add(text, piece->data, piece->size);
    str_clear(piece);
}

static enum status write_text(const struct request *r, const struct json *ids, bool keep_special, struct str *out, struct error *err)
{
    struct detokenizer d;
    struct str text = {0}, pieces = {0}, piece = {0};
    enum status status = STATUS_OK;
    detokenizer_init(&d, r->tokenizer, keep_special);
    for (uint32_t i = 0; i < ids->size && !status; i++) {
        int64_t id;
        if (!json_int(&ids->items[i], &id) || id < 0 || id >= tokenizer_size(r->tokenizer))
            status = error_set(err, STATUS_USAGE, "entry %u of the ids is no id: ids are whole numbers of 0 to %d", i,
                               tokenizer_size(r->tokenizer) - 1);
        else
            status = detokenizer_add(&d, (int32_t)id, &piece, err);
        take_piece(&piece, &text, &pieces);
    }
    detokenizer_finish(&d, &piece);
    take_piece(&piece, &text, &pieces);
    str_add_text(out, "{\"text\": ");
    json_write_string(out, str_text(&text), text.size);
    str_add_text(out, ", \"pieces\": [");
    str_add(out, str_text(&pieces), pieces.size);
    str_add_text(out, "]}");
    out->failed |= text.failed || pieces.failed || piece.failed;
    detokenizer_free(&d);
    str_free(&text);
    str_free(&pieces);
    str_free(&piece);
    return status;
}

static enum status answer(const void *context, const struct json *line, struct str *out, struct error *err)
{
    const struct request *r = context;
    bool keep_special = r->keep_special;
    const struct json *ids = json_is(line, JSON_OBJECT) ? json_get(line, "ids") : line;
    if (!json_is(ids, JSON_ARRAY))
        return error_set(err, STATUS_USAGE, "a line must be [1, 2, 3] or {\"ids\": [1, 2, 3]}");
    if (!text_take_bool(line, "keep_special", &keep_special, err))
        return STATUS_USAGE;
    return write_text(r, ids, keep_special, out, err);
}

static enum status one_list(const struct request *r, struct error *err)
{
    struct str input = {0}, out = {0};
    struct arena arena = {0};
    struct json root;
    enum status status = file_read_all(STDIN_FILENO, TEXT_LIMIT, &input, err);
    if (!status)
        status = json_parse(&arena, str_text(&input), input.size, NULL, &root, err);
    if (!status)
        status = answer(r, &root, &out, err);
    if (!status)
        status = text_print_line(&out, err);
    str_free(&input);
    str_free(&out);
    arena_free(&arena);
    return status;
}

enum status command_detokenize(const struct settings *s, struct error *err)
{
    const char *model;
    struct tokenizer *t;
    enum status status = settings_model(s, &model, err);
    if (!status && s->argument_count > (s->model.set ? 0 : 1))
        status = error_set(err, STATUS_USAGE, "ingot detokenize reads its ids from standard input");
    if (!status)
        status = text_open_tokenizer(&t, model, s->offline.value, err);
    if (status)
        return status;
    struct request r = {t, s->keep_special.value};
    status = s->jsonl.value ? text_answer_lines(answer, &r, err) : one_list(&r, err);
    tokenizer_close(t);
    return status;
}
