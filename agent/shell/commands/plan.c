/* ingot plan: what running a model would take. */
#include <string.h>

#include "agent/shell/shell.h"
#include "base/json.h"
#include "runtime/ingot.h"

/* null where it is not known */
static void json_rate(struct str *out, const char *key, double rate)
{
    if (rate > 0)
        str_format(out, ", \"%s\": %.1f", key, rate);
    else
        str_format(out, ", \"%s\": null", key);
}

/* Operations that the CPU has because the card cannot run them. */
static void json_fallback(struct str *out, const struct ingot_plan_lack *lack, bool more)
{
    str_format(out, "%s{\"operation\": \"%s\", \"format\": ", more ? ", " : "", lack->operation);
    str_format(out, *lack->format ? "\"%s\"" : "null", lack->format);
    str_format(out, ", \"count\": %d, \"weights_bytes\": %llu, \"device\": \"cpu\", \"reason\": ", lack->count, (unsigned long long)lack->weights_bytes);
    json_write_string(out, lack->reason, strlen(lack->reason));
    str_add_char(out, '}');
}

/* host: bytes per second of this machine's memory, measured; 0: no part runs on the CPU. */
static void print_json(const struct ingot_plan *p, double host)
{
    double rate = ingot_plan_decode_bound(p, host);
    struct str out = {0};
    str_format(&out, "{\"device\": \"%s\", \"context\": %lld, \"k_type\": \"%s\", \"v_type\": \"%s\", \"threads\": %d, \"weights_bytes\": %llu, ", p->device,
               (long long)p->context, p->k_type, p->v_type, p->threads, (unsigned long long)p->weights_bytes);
    str_format(&out, "\"kv_bytes_per_token\": %llu, \"kv_bytes\": %llu, \"recurrent_bytes\": %llu, \"rest_bytes\": %llu, \"scratch_bytes\": %llu, \"total_bytes\": %llu, \"available_bytes\": %llu, \"read_bytes_per_token\": %llu, \"fits\": %s, \"advice\": [",
               (unsigned long long)p->kv_bytes_per_token, (unsigned long long)p->kv_bytes, (unsigned long long)p->recurrent_bytes, (unsigned long long)p->rest_bytes, (unsigned long long)p->scratch_bytes,
               (unsigned long long)p->total_bytes, (unsigned long long)p->available_bytes, (unsigned long long)p->read_bytes, p->fits ? "true" : "false");
    for (int i = 0; i < p->advice_count; i++) {
        str_add_text(&out, i ? ", " : "");
        json_write_string(&out, p->advice[i], strlen(p->advice[i]));
    }
    str_add_text(&out, "], \"parts\": [");
    for (int i = 0; i < p->part_count; i++) {
        const struct ingot_plan_part *part = &p->parts[i];
        str_format(&out, "%s{\"device\": \"%s\", \"layers\": %d, \"stretches\": %d, \"shared\": %s, \"weights_bytes\": %llu, \"read_bytes_per_token\": %llu, ",
                   i ? ", " : "", part->device, part->layers, part->stretches, part->shared ? "true" : "false", (unsigned long long)part->weights_bytes,
                   (unsigned long long)part->read_bytes);
        str_format(&out, "\"kv_bytes\": %llu, \"scratch_bytes\": %llu, \"available_bytes\": %llu}", (unsigned long long)part->kv_bytes,
                   (unsigned long long)part->scratch_bytes, (unsigned long long)part->available_bytes);
    }
    str_format(&out, "], \"hand_overs\": %d, \"stream_rows\": ", p->hand_overs);
    str_format(&out, p->stream_rows ? "%d" : "null", p->stream_rows);
    str_format(&out, ", \"stream_bytes\": %llu, \"fallbacks\": [", (unsigned long long)(p->stream_rows ? p->stream_bytes : 0));
    for (int i = 0; i < p->lack_count; i++)
        json_fallback(&out, &p->lacks[i], i > 0);
    str_add_char(&out, ']');
    json_rate(&out, "decode_tokens_per_second_bound", strcmp(p->device, "cpu") ? 0 : rate); /* from what was measured alone */
    json_rate(&out, "decode_tokens_per_second_predicted", rate);
    str_add_text(&out, "}\n");
    fwrite(str_text(&out), 1, out.size, stdout);
    str_free(&out);
}

static void print_rate(const struct ingot_plan *p, double host)
{
    double rate = ingot_plan_decode_bound(p, host);
    if (rate <= 0)
        return;
    if (!strcmp(p->device, "cpu")) {
        printf("decode     at most %.1f tokens/s: %s once per token, at the %.1f GB/s measured now\n", rate,
               p->read_bytes < p->weights_bytes ? "the weights of chosen experts are read" : "every weight is read", host / 1e9);
        return;
    }
    printf("decode     predicted: at most %.1f tokens/s, if every weight is read once per token at nominal speed (", rate);
    for (int i = 0; i < (p->part_count ? p->part_count : 1); i++) {
        const char *device = p->part_count ? p->parts[i].device : p->device;
        double card = p->part_count ? p->parts[i].read_bandwidth : p->read_bandwidth;
        printf("%s%s %.0f GB/s%s", i ? ", " : "", device, (strcmp(device, "cpu") ? card : host) / 1e9, strcmp(device, "cpu") ? "" : " measured");
    }
    if (p->hand_overs)
        printf(", and each of %d hand-overs takes 20 us", p->hand_overs);
    printf(")\n");
}

static void print_text(const struct ingot_plan *p, double host)
{
    printf("device     %s, %d threads\ncontext    %lld tokens\n", p->device, p->threads, (long long)p->context);
    printf("weights    %10.1f MiB\nKV cache   %10.1f MiB   (%s/%s, %llu bytes per token", (double)p->weights_bytes / 0x1p20, (double)p->kv_bytes / 0x1p20, p->k_type, p->v_type,
           (unsigned long long)p->kv_bytes_per_token);
    if (p->recurrent_bytes)
        printf("; %.1f MiB are what recurrent layers remember, whatever the context", (double)p->recurrent_bytes / 0x1p20);
    printf(")\nscratch    %10.1f MiB\n", (double)p->scratch_bytes / 0x1p20);
    printf("total      %10.1f MiB\navailable  %10.1f MiB   %s\n", (double)p->total_bytes / 0x1p20, (double)p->available_bytes / 0x1p20,
           p->fits ? "fits" : "does NOT fit");
    if (p->rest_bytes)
        printf("at rest    %10.1f MiB   of the host's memory at most, for the cache of earlier prompts\n", (double)p->rest_bytes / 0x1p20);
    for (int i = 0; i < p->part_count; i++) {
        const struct ingot_plan_part *part = &p->parts[i];
        printf("%-10s %10.1f MiB of %.1f   %d layers%s, %.1f weights, %.1f KV cache\n", part->device,
               (double)(part->weights_bytes + part->kv_bytes + part->scratch_bytes) / 0x1p20, (double)part->available_bytes / 0x1p20, part->layers,
               part->shared ? " shared" : "", (double)part->weights_bytes / 0x1p20, (double)part->kv_bytes / 0x1p20);
    }
    for (int i = 0; i < p->lack_count; i++)
        printf("on the CPU %d x %s%s%s: %s\n", p->lacks[i].count, p->lacks[i].operation, *p->lacks[i].format ? " " : "", p->lacks[i].format, p->lacks[i].reason);
    print_rate(p, host);
    if (p->stream_rows)
        printf("prompts    pieces of %d tokens and more are the card's alone: %.1f MiB of the CPU's weights are sent for each, at 12 GB/s as is assumed\n",
               p->stream_rows, (double)p->stream_bytes / 0x1p20);
    for (int i = 0; i < p->advice_count; i++)
        printf("advice     %s\n", p->advice[i]);
}

enum status command_plan(const struct settings *s, struct error *err)
{
    const char *name;
    struct ingot_model *model = NULL;
    struct ingot_engine_options o;
    struct ingot_plan plan;
    enum status status = settings_model(s, &name, err);
    if (!status)
        status = shell_engine_options(s, &o, err);
    if (!status)
        status = shell_model(s, name, &model, err);
    if (!status && !(status = (enum status)ingot_plan_make(model, &o, &plan, (struct ingot_error *)err))) {
        bool host = !strncmp(plan.device, "cpu", 3); /* "cpu+cuda:0" too */
        double bandwidth = host ? ingot_read_bandwidth(s->no_mmap.value ? INGOT_PAGES_HUGE : INGOT_PAGES_FILE, plan.threads) : 0;
        s->json.value ? print_json(&plan, bandwidth) : print_text(&plan, bandwidth);
        if (!plan.fits)
            status = error_set(err, STATUS_NO_ROOM, "%s", s->json.value ? "" : "it does not fit: see the advice above");
    }
    ingot_model_close(model);
    return status;
}
