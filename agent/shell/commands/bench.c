/* ingot bench: prompt and generation speed, with the machine's own roof beside it. Tests and their names are llama-bench's:
 * pp512 computes 512 prompt tokens, tg128 generates 128; @dN: N tokens are in the cache before; xP: P sequences at once. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/shell/shell.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "runtime/ingot.h"

enum { LIST = 16, MOST_PARALLEL = 64 };

struct numbers {
    int64_t value[LIST];
    int count;
};

struct bench {
    const struct settings *s;
    struct ingot_model *model;
    struct ingot_engine *engine;
    struct ingot_model_info info;
    double read, dots; /* roofs: bytes, operations a second; 0: not measured */
    const char *dots_name;
    bool header;
    struct error *err;
};

static enum status read_list(const char *name, const char *text, int64_t low, struct numbers *out, struct error *err)
{
    out->count = 0;
    for (const char *at = text; *at;) {
        char *end;
        long long v = strtoll(at, &end, 10);
        if (end == at || (*end && *end != ',') || v < low || v > 1 << 24 || out->count == LIST)
            return error_set(err, STATUS_USAGE, "--%s: \"%s\" is no list of at most %d numbers from %lld", name, QUOTE(text, strlen(text)), LIST, (long long)low);
        out->value[out->count++] = v;
        at = *end ? end + 1 : end;
    }
    return STATUS_OK;
}

/* Ids that repeat from run to run and look like nothing. */
static enum status append_random(struct bench *b, struct ingot_session *session, int64_t count)
{
    int32_t *ids = malloc((size_t)count * sizeof *ids);
    if (!ids)
        return error_memory(b->err, "token ids");
    uint64_t state = 42;
    for (int64_t i = 0; i < count; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        ids[i] = (int32_t)((state >> 33) % (uint64_t)b->info.vocab);
    }
    enum status status = (enum status)ingot_session_append(session, ids, (size_t)count, (struct ingot_error *)b->err);
    free(ids);
    return status;
}

/* Runs one request on each session and waits for all. */
static enum status run_all(struct bench *b, struct ingot_session **sessions, int count, int64_t tokens, double *seconds)
{
    struct ingot_request *requests[MOST_PARALLEL] = {0};
    struct ingot_request_options o;
    ingot_request_defaults(b->model, &o);
    o.max_tokens = tokens;
    o.ignore_end = true;
    o.sampling = (struct ingot_sampling){.top_p = 1, .repeat_penalty = 1};
    double start = clock_seconds();
    enum status status = STATUS_OK;
    for (int i = 0; i < count && !status; i++)
        status = (enum status)ingot_request_start(&requests[i], sessions[i], &o, (struct ingot_error *)b->err);
    for (int i = 0; i < count; i++) {
        struct ingot_event e;
        while (!status && ingot_request_next(requests[i], -1, &e))
            if (e.kind == INGOT_EVENT_ERROR)
                status = error_set(b->err, (enum status)e.error->status, "%s", e.error->text);
    }
    *seconds = clock_seconds() - start;
    for (int i = 0; i < count; i++)
        ingot_request_free(requests[i]);
    return status;
}

/* One measurement: tokens per second in total. */
static enum status measure(struct bench *b, int64_t prompt, int64_t generate, int64_t depth, int parallel, double *rate)
{
    struct ingot_session *sessions[MOST_PARALLEL] = {0};
    enum status status = STATUS_OK;
    double seconds = 0;
    for (int i = 0; i < parallel && !status; i++) {
        status = (enum status)ingot_session_open(&sessions[i], b->engine, (struct ingot_error *)b->err);
        if (!status && depth)
            status = append_random(b, sessions[i], depth);
    }
    if (!status && depth)
        status = run_all(b, sessions, parallel, 0, &seconds);
    for (int i = 0; i < parallel && !status; i++) /* generation starts from one more token: its row is part of what is timed */
        status = append_random(b, sessions[i], generate ? 1 : prompt);
    if (!status)
        status = run_all(b, sessions, parallel, generate, &seconds);
    for (int i = 0; i < parallel; i++)
        ingot_session_close(sessions[i]);
    *rate = (double)((generate ? generate : prompt) * parallel) / seconds;
    return status;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void report(struct bench *b, const char *test, bool decode, int parallel, double *rates, int count)
{
    const char *format = b->s->format.set ? b->s->format.value : "md";
    const struct ingot_plan *p = ingot_engine_plan(b->engine);
    qsort(rates, (size_t)count, sizeof *rates, compare);
    double median = rates[count / 2], share = NAN;
    if (decode && parallel == 1 && b->read > 0) /* bytes that a token must read, over what the machine can read */
        share = median * (double)b->info.read_bytes / b->read;
    if (!decode && b->dots > 0) /* operations of weights alone, over what the machine can do */
        share = median * 2 * (double)b->info.products / b->dots;
    if (!strcmp(format, "json")) {
        struct str path = {0};
        json_write_string(&path, b->info.path, strlen(b->info.path));
        printf("{\"model\": %s, \"type\": \"%s\", \"weight_bytes\": %llu, \"threads\": %d, \"kv\": \"%s/%s\", \"test\": \"%s\", \"tokens_per_second\": %.2f, \"min\": %.2f, \"max\": %.2f, "
               "\"runs\": %d, \"read_gbps\": %.2f, \"dot_gops\": %.0f, \"roof_share\": ",
               str_text(&path), b->info.dtype, (unsigned long long)b->info.weight_bytes, p->threads, p->k_type, p->v_type, test, median, rates[0],
               rates[count - 1], count, b->read / 1e9, b->dots / 1e9);
        str_free(&path);
        isnan(share) ? printf("null}\n") : printf("%.3f}\n", share);
    } else if (!strcmp(format, "csv")) {
        if (!b->header)
            printf("model,type,weight_bytes,threads,kv,test,tokens_per_second,min,max,runs,read_gbps,dot_gops,roof_share\n");
        printf("%s,%s,%llu,%d,%s/%s,%s,%.2f,%.2f,%.2f,%d,%.2f,%.0f,", b->info.path, b->info.dtype, (unsigned long long)b->info.weight_bytes, p->threads,
               p->k_type, p->v_type, test, median, rates[0], rates[count - 1], count, b->read / 1e9, b->dots / 1e9);
        isnan(share) ? printf("\n") : printf("%.3f\n", share);
    } else {
        if (!b->header)
            printf("| test | tokens/s (median) | min | max | of the roof |\n|---|---|---|---|---|\n");
        printf("| %s | %.2f | %.2f | %.2f | ", test, median, rates[0], rates[count - 1]);
        isnan(share) ? printf(" |\n") : printf("%.0f %% |\n", 100 * share);
    }
    b->header = true;
    fflush(stdout);
}

static enum status bench_one(struct bench *b, int64_t prompt, int64_t generate, int64_t depth, int parallel, int repeats)
{
    char test[80];
    double rates[100], warm;
    enum status status = measure(b, prompt, generate, depth, parallel, &warm); /* pages, caches, clock */
    for (int i = 0; i < repeats && !status; i++)
        status = measure(b, prompt, generate, depth, parallel, &rates[i]);
    if (status)
        return status;
    int n = snprintf(test, sizeof test, "%s%lld", generate ? "tg" : "pp", (long long)(generate ? generate : prompt));
    if (depth)
        n += snprintf(test + n, sizeof test - (size_t)n, "@d%lld", (long long)depth);
    if (parallel > 1)
        snprintf(test + n, sizeof test - (size_t)n, " x%d", parallel);
    report(b, test, generate > 0, parallel, rates, repeats);
    return STATUS_OK;
}

static int64_t most(const struct numbers *n)
{
    int64_t v = 0;
    for (int i = 0; i < n->count; i++)
        v = n->value[i] > v ? n->value[i] : v;
    return v;
}

static enum ingot_pages pages(const struct bench *b) { return b->s->no_mmap.value ? INGOT_PAGES_HUGE : INGOT_PAGES_FILE; }

/* The roofs of this model: reading the kind of pages that its weights lie in, and the dot products that its type needs. */
static void measure_roofs(struct bench *b)
{
    static const char *const names[] = {[INGOT_DOTS_INT8] = "int8", [INGOT_DOTS_BF16] = "bf16", [INGOT_DOTS_F32] = "f32"};
    const struct ingot_plan *p = ingot_engine_plan(b->engine);
    if (strcmp(p->device, "cpu")) { /* a card's: nominal; of several devices: none */
        b->read = p->read_bandwidth;
        return;
    }
    int threads = p->threads;
    const char *type = b->info.dtype;
    enum ingot_dots dots = !strcmp(type, "BF16") ? INGOT_DOTS_BF16 : !strcmp(type, "F32") || !strcmp(type, "F16") ? INGOT_DOTS_F32 : INGOT_DOTS_INT8;
    b->read = ingot_read_bandwidth(pages(b), threads);
    b->dots = ingot_dot_peak(dots, threads);
    if (b->dots == 0 && dots == INGOT_DOTS_BF16) /* widened to floats there */
        b->dots = ingot_dot_peak(dots = INGOT_DOTS_F32, threads);
    double tiles = dots == INGOT_DOTS_INT8 ? ingot_dot_peak(INGOT_DOTS_BF16, threads) : 0;
    if (tiles > b->dots) /* AMX: quantised weights, too, are multiplied as bfloat16 */
        b->dots = tiles, dots = INGOT_DOTS_BF16;
    b->dots_name = names[dots];
}

static void say_roofs(struct bench *b)
{
    double read = b->read, dots = b->dots;
    const char *device = ingot_engine_plan(b->engine)->device;
    if (strcmp(device, "cpu")) {
        if (read > 0)
            log_line(LOG_SAY, "read roof (nominal, %s): %.1f GB/s", device, read / 1e9);
        return;
    }
    measure_roofs(b);
    log_line(LOG_SAY, "read roof (%s): %.1f GB/s before, %.1f after; %s roof: %.0f GOP/s before, %.0f after",
             pages(b) == INGOT_PAGES_HUGE ? "huge pages" : "pages of a file", read / 1e9, b->read / 1e9, b->dots_name, dots / 1e9, b->dots / 1e9);
}

enum status command_bench(const struct settings *s, struct error *err)
{
    struct numbers prompts, depths, parallels;
    struct settings changed = *s;
    struct bench b = {.s = s, .err = err};
    const char *name, *format = s->format.set ? s->format.value : "md";
    int64_t generate = s->max_tokens.set ? s->max_tokens.value : 128, repeats = s->repeats.set ? s->repeats.value : 5;
    enum status status = settings_model(s, &name, err);
    if (!status && strcmp(format, "csv") && strcmp(format, "json") && strcmp(format, "md"))
        status = error_set(err, STATUS_USAGE, "--format: %s is none of csv, json, md", QUOTE(format, strlen(format)));
    if (!status && (repeats < 1 || repeats > 100 || generate < 0 || generate > 1 << 20))
        status = error_set(err, STATUS_USAGE, "--repeats must be 1 to 100, -n 0 to 1048576");
    if (!status)
        status = read_list("prompt", s->prompt_sizes.set ? s->prompt_sizes.value : "512", 0, &prompts, err);
    if (!status)
        status = read_list("depth", s->depths.set ? s->depths.value : "0", 0, &depths, err);
    if (!status)
        status = read_list("parallel", s->parallel.set ? s->parallel.value : "1", 1, &parallels, err);
    if (!status && most(&parallels) > MOST_PARALLEL)
        status = error_set(err, STATUS_USAGE, "--parallel: at most %d", MOST_PARALLEL);
    if (status)
        return status;
    if (!s->context.set) { /* only what the tests need */
        int64_t longest = most(&prompts) > generate + 1 ? most(&prompts) : generate + 1;
        changed.context = (struct setting_SIZE){most(&depths) + longest + 1, SET_BY_ARGUMENT};
    }
    status = shell_engine(&changed, name, (int)most(&parallels), &b.model, &b.engine, err);
    if (!status) {
        ingot_model_info(b.model, &b.info);
        if (s->roof.value)
            measure_roofs(&b);
    }
    for (int p = 0; p < parallels.count && !status; p++)
        for (int d = 0; d < depths.count && !status; d++) {
            for (int i = 0; i < prompts.count && !status; i++)
                if (prompts.value[i])
                    status = bench_one(&b, prompts.value[i], 0, depths.value[d], (int)parallels.value[p], (int)repeats);
            if (generate && !status)
                status = bench_one(&b, 0, generate, depths.value[d], (int)parallels.value[p], (int)repeats);
        }
    if (!status && s->roof.value)
        say_roofs(&b);
    ingot_engine_close(b.engine);
    ingot_model_close(b.model);
    return status ? status : output_finish(stdout, err);
}
