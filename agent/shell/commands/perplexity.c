/* ingot perplexity: how well a model predicts a text. As llama.cpp measures it: the text in windows of --context tokens, each read
 * from nothing (its first token becomes BOS where the tokenizer adds one), the tokens behind its first half scored.
 *
 * With a base run (--save-logits, then --kl-base) also how far what the model says lies from it: the Kullback-Leibler divergence
 * of every scored token's distribution, how often both hold the same token for the best, how the right token's probability moved. */
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/shell/base_run.h"
#include "agent/shell/shell.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "runtime/ingot.h"

enum { TEXT_LIMIT = 1 << 30 };

struct sums {
    double sum, squares;
};

struct run {
    int32_t *tokens;  /* [windows, context] */
    size_t bytes, all; /* of the text; its tokens */
    struct base_run base;
    bool saving, comparing;
    float *logprobs, *other; /* [vocab] */
    float *kl;               /* [scored so far] */
    const int32_t *window;
    int64_t scored, same;
    struct sums nll, base_nll, divergence;
    double moved; /* squares of changes of the right token's probability */
    enum status status;
    struct error err;
};

static void add(struct sums *s, double v)
{
    s->sum += v;
    s->squares += v * v;
}

static double mean(const struct sums *s, int64_t n) { return s->sum / (double)n; }

/* Of the mean, as if tokens were independent. */
static double deviation(const struct sums *s, int64_t n)
{
    double m = mean(s, n), variance = s->squares / (double)n - m * m;
    return n > 1 && variance > 0 ? sqrt(variance / (double)(n - 1)) : 0;
}

/* ---- one row -------------------------------------------------------------------------------------------------------- */

/* *top: the lowest id of the largest. */
static bool log_softmax(const float *logits, int64_t vocab, float *out, int32_t *top)
{
    float most = logits[0];
    double sum = 0;
    *top = 0;
    for (int64_t i = 1; i < vocab; i++)
        if (logits[i] > most) {
            most = logits[i];
            *top = (int32_t)i;
        }
    for (int64_t i = 0; i < vocab; i++)
        sum += expf(logits[i] - most);
    float all = most + (float)log(sum);
    for (int64_t i = 0; i < vocab; i++)
        out[i] = logits[i] - all;
    return isfinite(all);
}

static void compare(struct run *r, int32_t top, int32_t right)
{
    int32_t base_top;
    if ((r->status = base_run_read(&r->base, right, r->other, &base_top, &r->err)))
        return;
    double kl = 0;
    for (int64_t i = 0; i < r->base.vocab; i++)
        kl += exp((double)r->other[i]) * ((double)r->other[i] - (double)r->logprobs[i]);
    double moved = exp((double)r->logprobs[right]) - exp((double)r->other[right]);
    r->kl[r->scored] = (float)kl;
    r->moved += moved * moved;
    r->same += top == base_top;
    add(&r->divergence, kl);
    add(&r->base_nll, -(double)r->other[right]);
}

/* On the engine's thread, while this one waits for the request's end. */
static void score(void *context, size_t position, const float *logits)
{
    struct run *r = context;
    if (r->status || position + 1 >= (size_t)r->base.context)
        return;
    int32_t right = r->window[position + 1], top;
    if (!log_softmax(logits, r->base.vocab, r->logprobs, &top)) {
        r->status = error_set(&r->err, STATUS_FAILED, "the logits of position %zu are not numbers; the weights may be damaged", position);
        return;
    }
    if (r->saving)
        r->status = base_run_write(&r->base, r->logprobs, right, &r->err);
    if (r->comparing)
        compare(r, top, right);
    add(&r->nll, -(double)r->logprobs[right]);
    r->scored++;
}

/* ---- the text ------------------------------------------------------------------------------------------------------- */

static enum status read_text(struct run *r, const char *path, const struct ingot_model *model, struct error *err)
{
    struct str text = {0};
    int32_t *first = NULL;
    size_t firsts = 0;
    struct arena arena = {0};
    char *data = NULL;
    size_t size = 0;
    enum status status;
    if (!strcmp(path, "-")) {
        status = file_read_all(STDIN_FILENO, TEXT_LIMIT, &text, err);
        data = text.data;
        size = text.size;
    } else {
        status = file_read(&arena, path, TEXT_LIMIT, &data, &size, err);
    }
    if (!status)
        status = (enum status)ingot_tokenize(model, data ? data : "", size, true, false, &r->tokens, &r->all, (struct ingot_error *)err);
    if (!status)
        status = (enum status)ingot_tokenize(model, "", 0, true, false, &first, &firsts, (struct ingot_error *)err);
    r->bytes = size;
    r->base.windows = (int64_t)r->all / r->base.context;
    if (!status && !r->base.windows)
        status = error_set(err, STATUS_BAD_INPUT, "the text has %zu tokens, a window has %" PRId64 ": take a longer text or a smaller --context", r->all,
                           r->base.context);
    for (int64_t i = 0; i < r->base.windows && firsts && !status; i++)
        r->tokens[i * r->base.context] = first[0];
    free(first);
    str_free(&text);
    arena_free(&arena);
    return status;
}

static enum status wait_for(struct ingot_session *session, const int32_t *ids, int64_t count, const struct ingot_request_options *o, struct error *err)
{
    struct ingot_request *request = NULL;
    struct ingot_event event;
    enum status status = (enum status)ingot_session_append(session, ids, (size_t)count, (struct ingot_error *)err);
    if (!status)
        status = (enum status)ingot_request_start(&request, session, o, (struct ingot_error *)err);
    while (!status && ingot_request_next(request, -1, &event))
        if (event.kind == INGOT_EVENT_ERROR)
            status = error_set(err, (enum status)event.error->status, "%s", event.error->text);
    ingot_request_free(request);
    return status;
}

/* The first half without logits: they are the larger part of a small model's work. */
static enum status run_window(struct run *r, struct ingot_engine *engine, const struct ingot_request_options *o, struct error *err)
{
    int64_t half = r->base.context / 2;
    struct ingot_session *session = NULL;
    struct ingot_request_options silent = *o;
    silent.row = NULL;
    struct ingot_request_options scored = *o;
    scored.rows_from = (size_t)half;
    enum status status = (enum status)ingot_session_open(&session, engine, (struct ingot_error *)err);
    if (!status)
        status = wait_for(session, r->window, half, &silent, err);
    if (!status)
        status = wait_for(session, r->window + half, r->base.context - half, &scored, err);
    if (!status && r->status) {
        *err = r->err;
        status = r->status;
    }
    ingot_session_close(session);
    return status;
}

static void show(const struct run *r, int64_t done, double start, bool terminal)
{
    double seconds = clock_seconds() - start, perplexity = exp(mean(&r->nll, r->scored));
    if (terminal)
        fprintf(stderr, "\r\033[Kwindow %" PRId64 " of %" PRId64 "  perplexity %.4f  %.0f s left", done, r->base.windows, perplexity,
                seconds / (double)done * (double)(r->base.windows - done));
    else
        log_line(LOG_VERBOSE, "window %" PRId64 " of %" PRId64 ": perplexity %.4f", done, r->base.windows, perplexity);
}

static enum status run_all(struct run *r, const struct settings *s, struct ingot_model *model, struct ingot_engine *engine, struct error *err)
{
    struct ingot_request_options o;
    ingot_request_defaults(model, &o);
    o.max_tokens = 0;
    o.row = score;
    o.row_context = r;
    bool terminal = isatty(STDERR_FILENO) && !s->quiet.value;
    double start = clock_seconds();
    enum status status = STATUS_OK;
    interrupt_catch();
    for (int64_t i = 0; i < r->base.windows && !status; i++) {
        r->window = r->tokens + i * r->base.context;
        status = interrupt_seen() ? error_set(err, STATUS_INTERRUPTED, "interrupted after %" PRId64 " of %" PRId64 " windows", i, r->base.windows)
                                  : run_window(r, engine, &o, err);
        if (!status)
            show(r, i + 1, start, terminal);
    }
    if (terminal)
        fputs("\r\033[K", stderr);
    return status;
}

/* ---- results -------------------------------------------------------------------------------------------------------- */

static int by_size(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void print(struct run *r, bool json)
{
    int64_t n = r->scored;
    double nll = mean(&r->nll, n), error = deviation(&r->nll, n), perplexity = exp(nll), bits = nll / log(2) * (double)r->all / (double)r->bytes;
    printf(json ? "{\"perplexity\": %.6f, \"stderr\": %.6f, \"nll\": %.6f, \"bits_per_byte\": %.6f, \"scored_tokens\": %" PRId64
                  ", \"text_tokens\": %zu, \"text_bytes\": %zu, \"windows\": %" PRId64 ", \"context\": %" PRId64
                : "perplexity     %.4f +/- %.4f\nnats/token     %.5f\nbits/byte      %.5f\nscored         %" PRId64
                  " tokens of %zu in %zu bytes, %" PRId64 " windows of %" PRId64 "\n",
           perplexity, perplexity * error, nll, bits, n, r->all, r->bytes, r->base.windows, r->base.context);
    if (r->comparing) {
        qsort(r->kl, (size_t)n, sizeof *r->kl, by_size);
        double base = mean(&r->base_nll, n);
        printf(json ? ", \"base_perplexity\": %.6f, \"ln_ratio\": %.6f, \"kl\": {\"mean\": %.7f, \"stderr\": %.7f, \"median\": %.7f, \"p99\": %.6f, "
                      "\"max\": %.6f}, \"same_top\": %.6f, \"rms_dp\": %.6f"
                    : "base           %.4f, ln of the ratio %.5f\nKL divergence  %.6f +/- %.6f, median %.6f, 99 %% %.5f, most %.5f\nsame best      %.4f\n"
                      "probability    of the right token moved by %.5f (RMS)\n",
               exp(base), nll - base, mean(&r->divergence, n), deviation(&r->divergence, n), (double)r->kl[n / 2], (double)r->kl[(n - 1) * 99 / 100],
               (double)r->kl[n - 1], (double)r->same / (double)n, sqrt(r->moved / (double)n));
    }
    if (json)
        printf("}\n");
}

static enum status prepare(struct run *r, const struct settings *s, struct error *err)
{
    size_t scored = (size_t)(r->base.windows * base_run_scored(r->base.context));
    r->logprobs = malloc((size_t)r->base.vocab * sizeof(float));
    r->other = malloc((size_t)r->base.vocab * sizeof(float));
    r->kl = malloc(scored * sizeof(float));
    if (!r->logprobs || !r->other || !r->kl)
        return error_memory(err, "probabilities");
    r->saving = s->save_logits.set;
    r->comparing = s->kl_base.set;
    return r->saving      ? base_run_create(&r->base, s->save_logits.value, r->tokens, err)
           : r->comparing ? base_run_open(&r->base, s->kl_base.value, r->tokens, err)
                          : STATUS_OK;
}

enum status command_perplexity(const struct settings *s, struct error *err)
{
    const char *name;
    struct settings changed = *s;
    struct ingot_model *model = NULL;
    struct ingot_engine *engine = NULL;
    struct ingot_model_info info;
    struct run r = {.base = {.writer.fd = -1, .context = s->context.set ? s->context.value : 512}};
    enum status status = settings_model(s, &name, err);
    if (!status && !s->text.set)
        status = error_set(err, STATUS_USAGE, "ingot perplexity needs --text FILE (-: standard input)");
    if (!status && s->save_logits.set && s->kl_base.set)
        status = error_set(err, STATUS_USAGE, "--save-logits keeps a base run and --kl-base compares with one: not both at once");
    if (!status && (r.base.context < 4 || r.base.context > 1 << 24))
        status = error_set(err, STATUS_USAGE, "--context must be 4 to 16777216");
    changed.context = (struct setting_SIZE){r.base.context, SET_BY_ARGUMENT};
    if (!status)
        status = shell_engine(&changed, name, 1, &model, &engine, err);
    if (!status) {
        ingot_model_info(model, &info);
        r.base.vocab = info.vocab;
        status = read_text(&r, s->text.value, model, err);
    }
    if (!status)
        status = prepare(&r, s, err);
    if (!status)
        status = run_all(&r, s, model, engine, err);
    if (!status && r.saving)
        status = base_run_commit(&r.base, err);
    if (!status)
        print(&r, s->json.value);
    base_run_close(&r.base);
    free(r.tokens);
    free(r.logprobs);
    free(r.other);
    free(r.kl);
    ingot_engine_close(engine);
    ingot_model_close(model);
    return status ? status : output_finish(stdout, err);
}
