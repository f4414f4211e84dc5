/* ingot inspect: what a checkpoint holds. */
#include <inttypes.h>
#include <string.h>

#include "agent/shell/shell.h"
#include "base/json.h"
#include "models/model.h"
#include "runtime/ingot.h"

/* A metadata value as JSON; long arrays show their beginning. */
static void write_meta(struct str *out, const struct meta *m)
{
    static const int bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    bool array = m->type == META_ARRAY;
    enum meta_type type = array ? m->element : m->type;
    uint64_t count = array ? m->count : 1, shown = count < 8 ? count : 8, at = 0, size;
    if (array)
        str_add_char(out, '[');
    for (uint64_t i = 0; i < shown; i++) {
        str_add_text(out, i ? ", " : "");
        const unsigned char *p = m->data + i * (uint64_t)bytes[type];
        float f;
        double d;
        int64_t n = 0;
        if (type == META_STRING && array) {
            const char *text = meta_next_string(m, &at, &size);
            json_write_string(out, text, size);
        } else if (type == META_STRING) {
            json_write_string(out, (const char *)m->data, m->count > 400 ? 400 : m->count);
        } else if (type == META_F32) {
            memcpy(&f, p, 4);
            json_write_double(out, (double)f);
        } else if (type == META_F64) {
            memcpy(&d, p, 8);
            json_write_double(out, d);
        } else if (type == META_BOOL) {
            str_add_text(out, *p ? "true" : "false");
        } else {
            memcpy(&n, p, (size_t)bytes[type]);
            int shift = 64 - 8 * bytes[type]; /* signed types are extended */
            if (type == META_I8 || type == META_I16 || type == META_I32)
                n = (int64_t)((uint64_t)n << shift) >> shift;
            str_format(out, "%" PRId64, n);
        }
    }
    if (array)
        str_format(out, "%s]", count > shown ? ", \"...\"" : "");
}

static void write_shape(struct str *out, const struct tensor *t)
{
    str_add_char(out, '[');
    for (int d = 0; d < t->dims; d++)
        str_format(out, "%s%" PRId64, d ? ", " : "", t->shape[d]);
    str_add_char(out, ']');
}

static void print_summary(const struct settings *s, const struct tensor_set *set, const char *name)
{
    uint64_t count[STORAGE_COUNT] = {0}, bytes[STORAGE_COUNT] = {0};
    struct str out = {0};
    for (int64_t i = 0; i < set->tensor_count; i++) {
        count[set->tensors[i].type]++;
        bytes[set->tensors[i].type] += set->tensors[i].bytes;
    }
    if (s->json.value) {
        str_add_text(&out, "{\"path\": ");
        json_write_string(&out, name, strlen(name));
        str_format(&out, ", \"files\": %d, \"tensors\": %" PRId64 ", \"bytes\": %" PRIu64 ", \"types\": {", set->file_count, set->tensor_count, set->data_bytes);
        bool first = true;
        for (int i = 0; i < STORAGE_COUNT; i++)
            if (count[i]) {
                str_format(&out, "%s\"%s\": {\"tensors\": %" PRIu64 ", \"bytes\": %" PRIu64 "}", first ? "" : ", ", storage_types[i].name, count[i], bytes[i]);
                first = false;
            }
        str_add_text(&out, "}, \"metadata\": {");
        for (int64_t i = 0; i < set->meta_count; i++) {
            str_add_text(&out, i ? ", " : "");
            json_write_string(&out, set->metas[i].key, strlen(set->metas[i].key));
            str_add_text(&out, ": ");
            write_meta(&out, &set->metas[i]);
        }
        str_add_text(&out, "}}\n");
    } else {
        str_format(&out, "%s: %d file%s, %" PRId64 " tensors, %.1f MiB\n", name, set->file_count, set->file_count > 1 ? "s" : "", set->tensor_count,
                   (double)set->data_bytes / 0x1p20);
        for (int i = 0; i < STORAGE_COUNT; i++)
            if (count[i])
                str_format(&out, "  %-8s %6" PRIu64 " tensors %10.1f MiB%s\n", storage_types[i].name, count[i], (double)bytes[i] / 0x1p20,
                           format_find((enum storage)i) ? "" : "   (no kernel reads this type)");
        for (int64_t i = 0; i < set->meta_count; i++) {
            str_format(&out, "  %s = ", set->metas[i].key);
            size_t before = out.size;
            write_meta(&out, &set->metas[i]);
            if (out.size - before > 100) {
                out.size = before + 100;
                str_add_text(&out, "...");
            }
            str_add_char(&out, '\n');
        }
    }
    shell_print(str_text(&out), out.size);
    str_free(&out);
}

static void print_tensors(const struct settings *s, const struct tensor_set *set)
{
    struct str out = {0};
    for (int64_t i = 0; i < set->tensor_count; i++) {
        const struct tensor *t = &set->tensors[i];
        str_clear(&out);
        if (s->json.value) {
            str_add_text(&out, "{\"name\": ");
            json_write_string(&out, t->name, strlen(t->name));
            str_format(&out, ", \"type\": \"%s\", \"shape\": ", storage_types[t->type].name);
            write_shape(&out, t);
            str_format(&out, ", \"bytes\": %" PRIu64 "}\n", t->bytes);
        } else {
            str_format(&out, "%-48s %-8s ", t->name, storage_types[t->type].name);
            write_shape(&out, t);
            str_add_char(&out, '\n');
        }
        shell_print(str_text(&out), out.size);
    }
    str_free(&out);
}

enum status command_inspect(const struct settings *s, struct error *err)
{
    const char *name;
    char path[4096];
    struct tensor_set *set = NULL;
    enum status status = settings_model(s, &name, err);
    if (!status)
        status = (enum status)ingot_find_model(name, s->offline.value, path, sizeof path, (struct ingot_error *)err);
    if (!status)
        status = gguf_is(path) ? gguf_open(&set, path, MAPPING_FILE, err) : safetensors_open(&set, path, MAPPING_FILE, err);
    if (!status) {
        print_summary(s, set, path);
        if (s->tensors.value)
            print_tensors(s, set);
        status = output_finish(stdout, err);
    }
    tensor_set_close(set);
    return status;
}
