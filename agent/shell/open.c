/* From settings to models, engines and requests. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/shell/shell.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/utf8.h"
#include "runtime/ingot.h"

static struct ingot_error *outer(struct error *err) { return (struct ingot_error *)err; }

struct progress {
    char what[80];
    double start;
    uint64_t before; /* bytes that were there already */
    bool open;       /* the cursor stands in the line */
};

static void end_progress(struct progress *p)
{
    if (p->open)
        fputc('\n', stderr);
    *p = (struct progress){0};
}

/* One line that is rewritten; the last call (done == total) ends it. */
static void show_progress(void *context, const char *what, uint64_t done, uint64_t total)
{
    struct progress *p = context;
    double now = clock_seconds();
    if (p->open && strncmp(p->what, what, sizeof p->what - 1) != 0)
        end_progress(p);
    if (!p->open) {
        *p = (struct progress){.start = now, .before = done, .open = true};
        snprintf(p->what, sizeof p->what, "%s", what);
    }
    fprintf(stderr, "\r\033[K%s", p->what);
    if (total)
        fprintf(stderr, "  %3.0f %%  %.1f of %.1f MB", 100 * (double)done / (double)total, (double)done / 1e6, (double)total / 1e6);
    else
        fprintf(stderr, "  %.1f MB", (double)done / 1e6);
    if (now - p->start > 0.3) /* before, a rate would say nothing */
        fprintf(stderr, "  %.1f MB/s", (double)(done - p->before) / (now - p->start) / 1e6);
    if (total && done >= total)
        end_progress(p);
}

enum status shell_model_options(const struct settings *s, struct ingot_model_options *out, struct error *err)
{
    const char *quantize = s->quantize.set ? s->quantize.value : s->load_in_4bit.value ? "q4_k_m" : s->load_in_8bit.value ? "q8_0" : NULL;
    if (s->load_in_8bit.value + s->load_in_4bit.value + (s->quantize.set != SET_NOWHERE) > 1)
        return error_set(err, STATUS_USAGE, "--quantize, --load-in-8bit and --load-in-4bit each choose a type: give one of them");
    *out = (struct ingot_model_options){.offline = s->offline.value, .no_mmap = s->no_mmap.value, .mlock = s->mlock.value, .quantize = quantize};
    return STATUS_OK;
}

enum status shell_model(const struct settings *s, const char *name, struct ingot_model **out, struct error *err)
{
    struct progress progress = {0};
    struct ingot_model_options o;
    if (shell_model_options(s, &o, err))
        return STATUS_USAGE;
    o.sizes_only = !strcmp(s->command, "plan");
    if (isatty(STDERR_FILENO) && !s->quiet.value) {
        o.progress = show_progress;
        o.progress_context = &progress;
    }
    enum status status = (enum status)ingot_model_open(out, name, &o, outer(err));
    end_progress(&progress);
    if (!status && s->template_file.set && (status = (enum status)ingot_model_use_template(*out, s->template_file.value, outer(err)))) {
        ingot_model_close(*out);
        *out = NULL;
    }
    return status;
}

enum status shell_engine_options(const struct settings *s, struct ingot_engine_options *out, struct error *err)
{
    static const char *const dtypes[] = {"auto", "float32", "float16", "bfloat16"};
    bool known = !s->dtype.set;
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes && !known; i++)
        known = !strcmp(s->dtype.value, dtypes[i]);
    if (!known)
        return error_set(err, STATUS_USAGE, "--dtype: %s is none of auto, float32, float16, bfloat16", QUOTE(s->dtype.value, strlen(s->dtype.value)));
    if (s->dtype.set && strcmp(s->dtype.value, "auto"))
        log_line(LOG_SAY, "--dtype %s: weights stay as they are stored; the CPU multiplies them in the type its kernels are fastest in", s->dtype.value);
    if (s->threads.set && (s->threads.value < 1 || s->threads.value > 256))
        return error_set(err, STATUS_USAGE, "--threads must be 1 to 256");
    if (s->context.set && s->context.value < 1)
        return error_set(err, STATUS_USAGE, "--context must be at least 1");
    bool no_layers = s->gpu_layers.set && s->gpu_layers.value == 0;
    *out = (struct ingot_engine_options){.device = no_layers ? "cpu" : s->device.value,
                                         .gpu_layers = s->gpu_layers.value < 0 || s->gpu_layers.value > INT_MAX ? INT_MAX : (int)s->gpu_layers.value, /* -1: all */
                                         .cpu_networks = s->cpu_ffn.value < 0 ? -1 : s->cpu_ffn.value > INT_MAX ? INT_MAX : (int)s->cpu_ffn.value,
                                         .stream_rows = s->stream_rows.value < 0 ? -1 : s->stream_rows.value > INT_MAX ? INT_MAX : (int)s->stream_rows.value,
                                         .kv_host = !s->kv_host.set ? 0 : s->kv_host.value ? s->kv_host.value : -1,
                                         .kv = s->kv.value,
                                         .context = s->context.value,
                                         .threads = (int)s->threads.value,
                                         .reference = s->reference.value,
                                         .deterministic = s->deterministic.value,
                                         .memory = s->memory.set ? (uint64_t)s->memory.value : 0};
    return STATUS_OK;
}

enum status shell_engine(const struct settings *s, const char *name, int parallel, struct ingot_model **model, struct ingot_engine **engine,
                         struct error *err)
{
    struct ingot_engine_options o;
    *engine = NULL;
    *model = NULL;
    enum status status = shell_engine_options(s, &o, err);
    o.parallel = parallel;
    if (!status)
        status = shell_model(s, name, model, err);
    struct progress progress = {0};
    if (isatty(STDERR_FILENO) && !s->quiet.value) {
        o.progress = show_progress;
        o.progress_context = &progress;
    }
    if (!status)
        status = (enum status)ingot_engine_open(engine, *model, &o, outer(err));
    end_progress(&progress);
    if (status) {
        ingot_model_close(*model);
        *model = NULL;
        return status;
    }
    if (log_level() >= LOG_VERBOSE) {
        const struct ingot_plan *p = ingot_engine_plan(*engine);
        struct ingot_model_info info;
        char kernels[600];
        ingot_model_info(*model, &info);
        ingot_engine_describe(*engine, kernels, sizeof kernels);
        log_line(LOG_VERBOSE, "model: %s, %s, %.0fM parameters, mostly %s, %.0f MiB", info.path, info.family, (double)info.parameters / 1e6, info.dtype,
                 (double)info.weight_bytes / 0x1p20);
        log_line(LOG_VERBOSE, "device: %s, %d threads; %s", p->device, p->threads, kernels);
        log_line(LOG_VERBOSE, "context: %lld of the model's %lld tokens x %d sequences; KV cache K %s V %s, %.0f MiB if full; scratch %.0f MiB; %.1f GiB available",
                 (long long)p->context, (long long)info.context, p->parallel, p->k_type, p->v_type, (double)p->kv_bytes / 0x1p20,
                 (double)p->scratch_bytes / 0x1p20, (double)p->available_bytes / 0x1p30);
    }
    return STATUS_OK;
}

static enum status parse_bias(const char *text, struct ingot_bias *out, struct error *err)
{
    char *end;
    long id = strtol(text, &end, 10);
    bool right = end != text && *end == '=' && id >= 0 && id <= INT32_MAX;
    double value = right ? strtod(end + 1, &end) : 0;
    if (!right || *end || !(value >= -1000 && value <= 1000))
        return error_set(err, STATUS_USAGE, "--logit-bias: \"%s\" is not ID=V with V from -1000 to 1000", QUOTE(text, strlen(text)));
    *out = (struct ingot_bias){(int32_t)id, (float)value};
    return STATUS_OK;
}

enum status shell_request(const struct settings *s, const struct ingot_model *model, struct ingot_bias *bias, struct ingot_request_options *out,
                          struct error *err)
{
    ingot_request_defaults(model, out);
    struct ingot_sampling *p = &out->sampling;
    const struct {
        const struct setting_REAL *from;
        double *to, low, high;
        const char *name;
    } reals[] = {{&s->temperature, &p->temperature, 0, 100, "temperature"},
                 {&s->top_p, &p->top_p, 0, 1, "top-p"},
                 {&s->min_p, &p->min_p, 0, 1, "min-p"},
                 {&s->repeat_penalty, &p->repeat_penalty, 0.01, 100, "repeat-penalty"},
                 {&s->presence_penalty, &p->presence_penalty, -100, 100, "presence-penalty"},
                 {&s->frequency_penalty, &p->frequency_penalty, -100, 100, "frequency-penalty"}};
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) {
        if (!reals[i].from->set)
            continue;
        if (!(reals[i].from->value >= reals[i].low && reals[i].from->value <= reals[i].high))
            return error_set(err, STATUS_USAGE, "--%s must be %g to %g", reals[i].name, reals[i].low, reals[i].high);
        *reals[i].to = reals[i].from->value;
    }
    if ((s->top_k.set && s->top_k.value < 0) || (s->max_tokens.set && s->max_tokens.value < -1))
        return error_set(err, STATUS_USAGE, "--top-k and --max-tokens must not be negative");
    if (s->top_k.set)
        p->top_k = s->top_k.value;
    if (s->max_tokens.set)
        out->max_tokens = s->max_tokens.value;
    p->seeded = s->seed.set != SET_NOWHERE;
    p->seed = (uint64_t)s->seed.value;
    for (int i = 0; i < s->logit_bias.count; i++) {
        enum status status = parse_bias(s->logit_bias.value[i], &bias[i], err);
        if (status)
            return status;
    }
    p->bias = bias;
    p->bias_count = s->logit_bias.count;
    out->stop = s->stop.value;
    out->stop_count = s->stop.count;
    out->ignore_end = s->ignore_eos.value;
    return STATUS_OK;
}

enum status shell_chat(const struct settings *s, const struct ingot_model *model, const struct str *request, struct ingot_chat **out, struct error *err)
{
    struct ingot_chat_options o = {.strict_template = s->strict_template.value, .dialect = s->dialect.value};
    bool reported;
    const char *note, *why;
    enum status status = request->failed ? error_memory(err, "the prompt") : (enum status)ingot_chat_open(out, model, str_text(request), request->size, &o, outer(err));
    if (status)
        return status;
    for (int i = 0; (note = ingot_chat_note(*out, i, &reported)); i++)
        log_line(reported ? LOG_SAY : LOG_VERBOSE, "the messages were fitted to the template: %s", note);
    const char *dialect = ingot_chat_dialect(*out, &why);
    log_line(LOG_VERBOSE, "dialect: %s, %s", dialect, why);
    return STATUS_OK;
}

static enum status add_ids(const struct json *list, int32_t *ids, size_t *used, const char *path, struct error *err)
{
    for (uint32_t i = 0; i < list->size; i++) {
        int64_t id;
        if (!json_int(&list->items[i], &id) || id < INT32_MIN || id > INT32_MAX)
            return error_set(err, STATUS_BAD_INPUT, "%s: a token id is %s", path,
                             list->items[i].kind == JSON_NUMBER ? QUOTE(list->items[i].text, list->items[i].size) : json_kind_name(&list->items[i]));
        ids[(*used)++] = (int32_t)id;
    }
    return STATUS_OK;
}

enum status shell_read_ids(struct arena *arena, const char *path, int32_t **ids, size_t **lengths, size_t *count, struct error *err)
{
    char *text = NULL;
    size_t size = 0;
    struct str input = {0};
    struct json root;
    enum status status;
    if (!strcmp(path, "-")) {
        status = file_read_all(STDIN_FILENO, 1u << 30, &input, err);
        text = arena_copy(arena, str_text(&input), size = input.size);
        str_free(&input);
        if (!status && !text)
            status = error_memory(err, "token ids");
    } else {
        status = file_read(arena, path, 1u << 30, &text, &size, err);
    }
    if (status)
        return status;
    if ((status = json_parse(arena, text, size, NULL, &root, err)))
        return error_prefix(err, "%s", path), status;
    bool nested = root.kind == JSON_ARRAY && root.size && root.items[0].kind == JSON_ARRAY;
    size_t total = 0, used = 0;
    if (root.kind != JSON_ARRAY)
        return error_set(err, STATUS_BAD_INPUT, "%s: %s where a list of token ids is needed", path, json_kind_name(&root));
    *count = nested ? root.size : 1;
    for (size_t i = 0; i < *count; i++) {
        if (nested && root.items[i].kind != JSON_ARRAY)
            return error_set(err, STATUS_BAD_INPUT, "%s: list %zu is %s", path, i, json_kind_name(&root.items[i]));
        total += nested ? root.items[i].size : root.size;
    }
    *ids = arena_array(arena, total + 1, sizeof **ids);
    *lengths = arena_array(arena, *count + 1, sizeof **lengths);
    if (!*ids || !*lengths)
        return error_memory(err, "token ids");
    for (size_t i = 0; i < *count && !status; i++) {
        const struct json *list = nested ? &root.items[i] : &root;
        (*lengths)[i] = list->size;
        if (!list->size)
            return error_set(err, STATUS_BAD_INPUT, "%s: list %zu holds no token ids", path, i);
        status = add_ids(list, *ids, &used, path, err);
    }
    return status;
}

void shell_print(const char *text, size_t size) { shell_write(stdout, text, size); }

void shell_write(FILE *out, const char *text, size_t size)
{
    if (!isatty(fileno(out))) {
        fwrite(text, 1, size, out);
        return;
    }
    for (size_t at = 0; at < size;) {
        uint32_t c;
        size_t n = utf8_decode(text + at, size - at, &c);
        if (c == '\n' || c == '\t' || (utf8_is_printable(c) && c != 0xFFFD)) /* U+FFFD may stand for broken bytes */
            fwrite(text + at, 1, n, out);
        else
            fputs("\xEF\xBF\xBD", out);
        at += n;
    }
}
