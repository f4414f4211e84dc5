#include "agent/shell/base_run.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char magic[8] = "ingotKL1";
enum { HEADER = 24 };

static void header(const struct base_run *b, unsigned char out[HEADER])
{
    uint32_t vocab = (uint32_t)b->vocab, context = (uint32_t)b->context;
    uint64_t windows = (uint64_t)b->windows;
    memcpy(out, magic, 8);
    memcpy(out + 8, &vocab, 4);
    memcpy(out + 12, &context, 4);
    memcpy(out + 16, &windows, 8);
}

static size_t row_bytes(const struct base_run *b) { return 8 + 2 * (size_t)b->vocab; }

static enum status take_row(struct base_run *b, struct error *err)
{
    b->row = malloc(row_bytes(b));
    return b->row ? STATUS_OK : error_memory(err, "a row of probabilities");
}

enum status base_run_create(struct base_run *b, const char *path, const int32_t *tokens, struct error *err)
{
    unsigned char head[HEADER];
    header(b, head);
    enum status status = take_row(b, err);
    if (!status)
        status = file_writer_begin(&b->writer, path, err);
    if (!status)
        status = file_writer_write(&b->writer, head, sizeof head, err);
    return status ? status : file_writer_write(&b->writer, tokens, (size_t)(b->windows * b->context) * 4, err);
}

enum status base_run_write(struct base_run *b, const float *logprobs, int32_t right, struct error *err)
{
    float best = -INFINITY;
    for (int64_t i = 0; i < b->vocab; i++)
        best = logprobs[i] > best ? logprobs[i] : best;
    memcpy(b->row, &best, 4);
    memcpy(b->row + 4, &logprobs[right], 4);
    for (int64_t i = 0; i < b->vocab; i++) {
        float steps = (best - logprobs[i]) * (1 / BASE_STEP) + 0.5f;
        uint16_t code = steps < 65535 ? (uint16_t)steps : 65535;
        memcpy(b->row + 8 + 2 * i, &code, 2);
    }
    return file_writer_write(&b->writer, b->row, row_bytes(b), err);
}

enum status base_run_commit(struct base_run *b, struct error *err) { return b->row && !b->file ? file_writer_commit(&b->writer, err) : STATUS_OK; }

/* Sizes come from this run, so nothing of the file is multiplied: it has to have exactly the bytes that these ask for. */
enum status base_run_open(struct base_run *b, const char *path, const int32_t *tokens, struct error *err)
{
    unsigned char head[HEADER];
    uint32_t vocab, context;
    header(b, head);
    enum status status = mapping_open(&b->file, path, MAPPING_FILE, err);
    if (status)
        return status;
    const unsigned char *data = b->file->data;
    if (b->file->size < HEADER || memcmp(data, magic, 8))
        return error_set(err, STATUS_BAD_INPUT, "%s: no file that `ingot perplexity --save-logits` wrote", path);
    memcpy(&vocab, data + 8, 4);
    memcpy(&context, data + 12, 4);
    if (vocab != (uint32_t)b->vocab)
        return error_set(err, STATUS_BAD_INPUT, "%s: of a model with %" PRIu32 " tokens; this one has %" PRId64, path, vocab, b->vocab);
    if (context != (uint32_t)b->context)
        return error_set(err, STATUS_BAD_INPUT, "%s: of windows of %" PRIu32 " tokens; say --context %" PRIu32, path, context, context);
    size_t text = (size_t)(b->windows * b->context) * 4;
    if (memcmp(data, head, HEADER) || b->file->size - HEADER < text || memcmp(data + HEADER, tokens, text))
        return error_set(err, STATUS_BAD_INPUT, "%s: of another text, or of other tokens for it", path);
    if (b->file->size - HEADER - text != (size_t)(b->windows * base_run_scored(b->context)) * row_bytes(b))
        return error_set(err, STATUS_BAD_INPUT, "%s: %zu bytes are not what its header asks for; the file is damaged", path, b->file->size);
    b->at = data + HEADER + text;
    return take_row(b, err);
}

enum status base_run_read(struct base_run *b, int32_t right, float *logprobs, int32_t *top, struct error *err)
{
    memcpy(b->row, b->at, row_bytes(b));
    b->at += row_bytes(b);
    float best;
    memcpy(&best, b->row, 4);
    if (mapping_lost(b->file))
        return error_set(err, STATUS_FAILED, "%s: the file became shorter while it was read", b->file->path);
    bool found = false;
    *top = 0;
    for (int64_t i = 0; i < b->vocab; i++) {
        uint16_t code;
        memcpy(&code, b->row + 8 + 2 * i, 2);
        logprobs[i] = best - (float)code * BASE_STEP;
        if (!code && !found) {
            *top = (int32_t)i;
            found = true;
        }
    }
    if (!found || !(best <= 1e-3f && best >= -100))
        return error_set(err, STATUS_BAD_INPUT, "%s: a row whose best log probability is %g; the file is damaged", b->file->path, (double)best);
    memcpy(&logprobs[right], b->row + 4, 4);
    if (!(logprobs[right] <= best && logprobs[right] > -INFINITY))
        return error_set(err, STATUS_BAD_INPUT, "%s: a token's log probability is %g; the file is damaged", b->file->path, (double)logprobs[right]);
    return STATUS_OK;
}

void base_run_close(struct base_run *b)
{
    file_writer_abandon(&b->writer);
    mapping_close(b->file);
    free(b->row);
}
