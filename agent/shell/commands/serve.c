/* ingot serve: the OpenAI protocol over HTTP. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/shell/shell.h"
#include "base/log.h"
#include "runtime/ingot.h"

/* The first asks for an orderly end, a second one does not wait for it. */
static void on_stop(int number)
{
    static volatile sig_atomic_t asked;
    if (asked)
        _exit(128 + number);
    asked = 1;
    ingot_serve_stop();
}

/* While models load (or are fetched) Ctrl-C simply ends the program. */
static void say_ready(void *context, const char *address)
{
    struct sigaction action = {.sa_handler = on_stop};
    (void)context;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    log_line(LOG_SAY, "listening on %s (OpenAI base URL: %s/v1); Ctrl-C ends", address, address);
}

enum status command_serve(const struct settings *s, struct error *err)
{
    static const char *const standard[] = {"default"};
    struct ingot_serve_options o = {.models = s->arguments,
                                    .model_count = s->argument_count,
                                    .alias = s->alias.value,
                                    .template_file = s->template_file.value,
                                    .chat = {.strict_template = s->strict_template.value, .dialect = s->dialect.value},
                                    .host = s->host.value,
                                    .port = (int)s->port.value,
                                    .api_key_file = s->api_key_file.value,
                                    .no_auth = s->no_auth.value,
                                    .allow_origins = s->allow_origin.value,
                                    .allow_hosts = s->allow_host.value,
                                    .allow_origin_count = s->allow_origin.count,
                                    .allow_host_count = s->allow_host.count,
                                    .body_limit = (size_t)s->body_limit.value,
                                    .idle_unload = (int)s->idle_unload.value,
                                    .scripted = s->scripted.value,
                                    .ready = say_ready};
    if (s->model.set) {
        o.models = &s->model.value;
        o.model_count = 1;
    }
    if (!o.model_count) {
        o.models = standard;
        o.model_count = 1;
    }
    enum status status = shell_engine_options(s, &o.engine, err);
    if (!status)
        status = shell_model_options(s, &o.model, err);
    if (status)
        return status;
    char *end = NULL;
    long parallel = s->parallel.set ? strtol(s->parallel.value, &end, 10) : 4;
    if (parallel < 1 || parallel > 512 || (end && *end))
        return error_set(err, STATUS_USAGE, "--parallel: \"%s\" is not a number from 1 to 512", QUOTE(s->parallel.value, strlen(s->parallel.value)));
    o.engine.parallel = (int)parallel;
    if (s->port.set && (s->port.value < 1 || s->port.value > 65535))
        return error_set(err, STATUS_USAGE, "--port must be 1 to 65535");
    if (s->idle_unload.value < 0 || s->idle_unload.value > 1 << 30 || s->body_limit.value < 0)
        return error_set(err, STATUS_USAGE, "--idle-unload and --body-limit must not be negative");
    return (enum status)ingot_serve(&o, (struct ingot_error *)err);
}
