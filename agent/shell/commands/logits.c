/* ingot logits: every row's logits as a NumPy file. */
#include <math.h>
#include <string.h>

#include "agent/shell/shell.h"
#include "base/file.h"
#include "runtime/ingot.h"

struct rows {
    struct file_writer writer;
    int64_t vocab;
    size_t done;
    enum status status;
    struct error err;
};

/* On the engine's thread, while this one waits for the request's end. */
static void write_row(void *context, size_t position, const float *logits)
{
    struct rows *r = context;
    if (r->status)
        return;
    for (int64_t i = 0; i < r->vocab; i++)
        if (!isfinite(logits[i])) {
            r->status = error_set(&r->err, STATUS_FAILED, "the logits of position %zu are not numbers; the weights may be damaged", position);
            return;
        }
    r->status = file_writer_write(&r->writer, logits, (size_t)r->vocab * sizeof *logits, &r->err); /* little-endian hosts only */
    r->done++;
}

/* NumPy format 1.0: magic, header length, a Python dict padded to 64 bytes. */
static enum status write_header(struct rows *r, size_t rows)
{
    char header[128], text[100];
    int n = snprintf(text, sizeof text, "{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %lld), }", rows, (long long)r->vocab);
    memset(header, ' ', sizeof header);
    memcpy(header, "\x93NUMPY\x01\x00\x76\x00", 10); /* 118 = 128 - 10 */
    memcpy(header + 10, text, (size_t)n);
    header[127] = '\n';
    return file_writer_write(&r->writer, header, sizeof header, &r->err);
}

static enum status compute(struct ingot_engine *engine, const int32_t *ids, size_t count, const struct ingot_request_options *o, struct error *err)
{
    struct ingot_session *session = NULL;
    struct ingot_request *request = NULL;
    struct ingot_error *e = (struct ingot_error *)err;
    struct ingot_event event;
    enum status status = (enum status)ingot_session_open(&session, engine, e);
    if (!status)
        status = (enum status)ingot_session_append(session, ids, count, e);
    if (!status)
        status = (enum status)ingot_request_start(&request, session, o, e);
    while (!status && ingot_request_next(request, -1, &event))
        if (event.kind == INGOT_EVENT_ERROR)
            status = error_set(err, (enum status)event.error->status, "%s", event.error->text);
    ingot_request_free(request);
    ingot_session_close(session);
    return status;
}

enum status command_logits(const struct settings *s, struct error *err)
{
    const char *name;
    struct arena arena = {0};
    struct ingot_model *model = NULL;
    struct ingot_engine *engine = NULL;
    struct rows rows = {.writer.fd = -1};
    int32_t *ids = NULL;
    size_t *lengths = NULL, count = 0, total = 0;
    enum status status = settings_model(s, &name, err);
    if (!status && (!s->tokens.set || !s->out.set))
        status = error_set(err, STATUS_USAGE, "ingot logits needs --tokens FILE and --out FILE.npy");
    if (!status)
        status = shell_read_ids(&arena, s->tokens.value, &ids, &lengths, &count, err);
    if (!status)
        status = shell_engine(s, name, 1, &model, &engine, err);
    if (!status) {
        struct ingot_model_info info;
        struct ingot_request_options o;
        ingot_model_info(model, &info);
        ingot_request_defaults(model, &o);
        o.max_tokens = 0;
        o.chunk = (int)s->chunk.value;
        o.row = write_row;
        o.row_context = &rows;
        o.last_row = s->last.value;
        rows.vocab = info.vocab;
        for (size_t i = 0; i < count; i++)
            total += lengths[i];
        status = file_writer_begin(&rows.writer, s->out.value, err);
        if (!status && (status = write_header(&rows, s->last.value ? count : total)))
            *err = rows.err;
        for (size_t i = 0; i < count && !status; ids += lengths[i++])
            if (!(status = compute(engine, ids, lengths[i], &o, err)) && (status = rows.status))
                *err = rows.err;
        if (!status)
            status = file_writer_commit(&rows.writer, err);
    }
    file_writer_abandon(&rows.writer);
    ingot_engine_close(engine);
    ingot_model_close(model);
    arena_free(&arena);
    return status;
}
