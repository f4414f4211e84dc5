/* What a model said about a text, kept to compare another with it.
 *
 *   "ingotKL1" | u32 vocabulary | u32 context | u64 windows | i32 tokens [windows, context]
 *   | a row for each scored token, in order: float32 log probabilities of the best token and of the right one, u16 [vocabulary]:
 *     how far each token lies below the best in steps of BASE_STEP, at most 65535
 *
 * Little-endian. 24 nats below the best a token's probability is under 4e-11: what lies lower is kept as that. */
#ifndef AGENT_SHELL_BASE_RUN_H
#define AGENT_SHELL_BASE_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/file.h"
#include "base/mapping.h"

#define BASE_STEP (24.0f / 65535.0f)

struct base_run {
    int64_t vocab, context, windows;
    /* one of both */
    struct file_writer writer;
    struct mapping *file;
    const unsigned char *at; /* the next row of file */
    unsigned char *row;      /* [8 + 2 * vocab] */
};

/* Tokens: [windows, context]. The file appears when it is committed. */
enum status base_run_create(struct base_run *b, const char *path, const int32_t *tokens, struct error *err);
enum status base_run_write(struct base_run *b, const float *logprobs, int32_t right, struct error *err);
enum status base_run_commit(struct base_run *b, struct error *err);
/* vocab, context and windows are set by the caller: STATUS_BAD_INPUT where the file is damaged, or of another text, context or
 * vocabulary. */
enum status base_run_open(struct base_run *b, const char *path, const int32_t *tokens, struct error *err);
/* The next row: [vocab] log probabilities, that of the right token exact; *top: its best token. */
enum status base_run_read(struct base_run *b, int32_t right, float *logprobs, int32_t *top, struct error *err);
void base_run_close(struct base_run *b); /* what was not committed is gone */

/* Scored in each window: the tokens behind its first half. */
static inline int64_t base_run_scored(int64_t context) { return context - 1 - context / 2; }

#endif
