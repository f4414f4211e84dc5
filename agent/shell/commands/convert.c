/* ingot convert: a model into another container or type. */
#include <unistd.h>

#include "agent/shell/shell.h"
#include "base/clock.h"
#include "base/log.h"
#include "runtime/ingot.h"

struct showing {
    bool terminal;
    double start, shown;
    uint64_t total;
};

/* The first call comes before anything is written: from then on Ctrl-C ends the work in order. */
static bool progress(void *context, uint64_t done, uint64_t total)
{
    struct showing *s = context;
    double now = clock_seconds();
    if (!done) {
        interrupt_catch();
        s->start = now;
        s->total = total;
    }
    if (s->terminal && (now - s->shown >= 0.1 || done == total)) {
        fprintf(stderr, "\r\033[K%3.0f %%  %.1f of %.1f MB  %.1f MB/s", total ? 100 * (double)done / (double)total : 100, (double)done / 1e6,
                (double)total / 1e6, (double)done / (now - s->start + 1e-3) / 1e6);
        s->shown = now;
    }
    return !interrupt_seen();
}

enum status command_convert(const struct settings *s, struct error *err)
{
    if (s->argument_count != 2)
        return error_set(err, STATUS_USAGE, "ingot convert needs SRC and DST: a model, and the folder or .gguf file to write");
    struct showing showing = {.terminal = isatty(STDERR_FILENO) && !s->quiet.value};
    struct ingot_convert_options o = {.to = s->to.value,
                                      .type = s->type.value,
                                      .imatrix = s->imatrix.value,
                                      .model.offline = s->offline.value,
                                      .progress = progress,
                                      .progress_context = &showing};
    enum status status = (enum status)ingot_convert(s->arguments[0], s->arguments[1], &o, (struct ingot_error *)err);
    if (showing.terminal && showing.shown > 0)
        fputs("\r\033[K", stderr);
    if (!status)
        log_line(LOG_SAY, "%s: %.1f MB of weights in %.1f s", s->arguments[1], (double)showing.total / 1e6, clock_seconds() - showing.start);
    return status;
}
