/* Options from the command line. All knowledge about them is in agent/options.def. */
#include "agent/shell/shell.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

const struct option options[] = {
#define OPTION(field, name, letter, kind, argument, group, help) \
    {name, argument, help, letter, OPTION_##kind, GROUP_##group, offsetof(struct settings, field)},
#include "agent/options.def"
#undef OPTION
};
const int option_count = sizeof options / sizeof *options;

static enum status bad_value(const struct option *o, const char *text, const char *wanted, struct error *err)
{
    return error_set(err, STATUS_USAGE, "--%s: \"%s\" is not %s", o->name, QUOTE(text, strlen(text)), wanted);
}

static bool parse_int(const char *text, bool suffix, int64_t *out)
{
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (end == text || errno)
        return false;
    int64_t unit = 1;
    if (suffix && *end) {
        const char *at = strchr("KMGT", *end >= 'a' ? *end - 32 : *end);
        if (!at)
            return false;
        unit = (int64_t)1 << 10 * (at - "KMGT" + 1);
        end++;
        if (*end == 'i')
            end++;
        if (*end == 'B')
            end++;
    }
    return !*end && !__builtin_mul_overflow((int64_t)v, unit, out);
}

enum status settings_set(struct settings *s, const struct option *o, const char *text, enum setting_source source, struct error *err)
{
    void *field = (char *)s + o->offset;
    switch (o->kind) {
    case OPTION_FLAG: {
        struct setting_FLAG *f = field;
        bool on = !text || !strcmp(text, "true") || !strcmp(text, "yes") || !strcmp(text, "on") || !strcmp(text, "1");
        if (!on && strcmp(text, "false") && strcmp(text, "no") && strcmp(text, "off") && strcmp(text, "0"))
            return bad_value(o, text, "true or false", err);
        *f = (struct setting_FLAG){on, source};
        return STATUS_OK;
    }
    case OPTION_TEXT: {
        struct setting_TEXT *f = field;
        *f = (struct setting_TEXT){arena_copy(&s->arena, text, strlen(text)), source};
        return f->value ? STATUS_OK : error_memory(err, "options");
    }
    case OPTION_INT:
    case OPTION_SIZE: {
        struct setting_INT *f = field;
        if (!parse_int(text, o->kind == OPTION_SIZE, &f->value))
            return bad_value(o, text, "a whole number", err);
        f->set = source;
        return STATUS_OK;
    }
    case OPTION_REAL: {
        struct setting_REAL *f = field;
        char *end;
        f->value = strtod(text, &end);
        if (end == text || *end || !isfinite(f->value))
            return bad_value(o, text, "a number", err);
        f->set = source;
        return STATUS_OK;
    }
    case OPTION_LIST: {
        struct setting_LIST *f = field;
        const char **more = arena_array(&s->arena, (size_t)f->count + 1, sizeof *more);
        if (!more)
            return error_memory(err, "options");
        if (f->count)
            memcpy(more, f->value, (size_t)f->count * sizeof *more);
        if (!(more[f->count] = arena_copy(&s->arena, text, strlen(text))))
            return error_memory(err, "options");
        *f = (struct setting_LIST){more, f->count + 1, source};
        return STATUS_OK;
    }
    }
    return STATUS_OK;
}

/* `-ngl` and `-o csv` are what llama.cpp's users type. */
static const struct option *find(const struct command *c, const char *argument, size_t size)
{
    bool is_long = size > 2 && argument[1] == '-';
    for (int i = 0; i < option_count; i++) {
        const struct option *o = &options[i];
        if (!(o->group & (c->groups | GROUP_COMMON)))
            continue;
        if (is_long ? strlen(o->name) == size - 2 && memcmp(o->name, argument + 2, size - 2) == 0
                    : (size == 2 && o->letter == argument[1]) || (size == 4 && !memcmp(argument, "-ngl", 4) && !strcmp(o->name, "gpu-layers")) ||
                          (size == 2 && argument[1] == 'o' && !strcmp(o->name, "format")))
            return o;
    }
    return NULL;
}

static enum status parse_one(struct settings *s, const struct command *c, int argc, char **argv, int *at, struct error *err)
{
    const char *argument = argv[*at];
    const char *equals = argument[1] == '-' ? strchr(argument, '=') : NULL;
    size_t size = equals ? (size_t)(equals - argument) : strlen(argument);
    const struct option *o = find(c, argument, size);
    if (!o)
        return error_set(err, STATUS_USAGE, "ingot %s has no option %s; see `ingot %s --help`", c->name, QUOTE(argument, size), c->name);
    if (o->kind == OPTION_FLAG)
        return settings_set(s, o, equals ? equals + 1 : NULL, SET_BY_ARGUMENT, err);
    if (equals)
        return settings_set(s, o, equals + 1, SET_BY_ARGUMENT, err);
    if (*at + 1 >= argc)
        return error_set(err, STATUS_USAGE, "--%s needs a value (%s)", o->name, o->argument);
    return settings_set(s, o, argv[++*at], SET_BY_ARGUMENT, err);
}

enum setting_source settings_source(const struct settings *s, const struct option *o)
{
    const void *field = (const char *)s + o->offset;
    switch (o->kind) {
    case OPTION_FLAG: return ((const struct setting_FLAG *)field)->set;
    case OPTION_TEXT: return ((const struct setting_TEXT *)field)->set;
    case OPTION_REAL: return ((const struct setting_REAL *)field)->set;
    case OPTION_LIST: return ((const struct setting_LIST *)field)->set;
    default: return ((const struct setting_INT *)field)->set;
    }
}

/* INGOT_MAX_TOKENS and the like: every option's name, for what the arguments left open. */
static enum status read_environment(struct settings *s, const struct command *c, struct error *err)
{
    for (int i = 0; i < option_count; i++) {
        const struct option *o = &options[i];
        char name[80] = "INGOT_";
        size_t n = strlen(name);
        for (const char *at = o->name; *at && n < sizeof name - 1; at++)
            name[n++] = *at == '-' ? '_' : (char)(*at >= 'a' && *at <= 'z' ? *at - 32 : *at);
        name[n] = 0;
        const char *value = getenv(name);
        if (!value || !*value || !(o->group & (c->groups | GROUP_COMMON)) || settings_source(s, o) == SET_BY_ARGUMENT)
            continue;
        enum status status = settings_set(s, o, value, SET_BY_ENVIRONMENT, err);
        if (status)
            return error_prefix(err, "%s", name), status;
    }
    return STATUS_OK;
}

enum status settings_parse(struct settings *s, const struct command *c, int argc, char **argv, bool *help, struct error *err)
{
    *help = false;
    s->command = c->name;
    s->arguments = arena_array(&s->arena, (size_t)argc + 1, sizeof *s->arguments);
    if (!s->arguments)
        return error_memory(err, "options");
    bool only_arguments = false;
    for (int i = 0; i < argc; i++) {
        if (only_arguments || argv[i][0] != '-' || !argv[i][1]) {
            s->arguments[s->argument_count++] = argv[i];
            continue;
        }
        if (!strcmp(argv[i], "--")) {
            only_arguments = true;
            continue;
        }
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            *help = true;
            return STATUS_OK;
        }
        enum status status = parse_one(s, c, argc, argv, &i, err);
        if (status)
            return status;
    }
    enum status status = read_environment(s, c, err);
    if (!status && s->config.set)
        status = settings_read_file(s, c, s->config.value, err);
    if (!status && s->trust_remote_code.set && s->trust_remote_code.value)
        status = error_set(err, STATUS_USAGE, "--trust-remote-code: code from a checkpoint is never run; ingot has the model families built in");
    if (s->quiet.value)
        log_set_level(LOG_WARN);
    if (s->verbose.value)
        log_set_level(LOG_VERBOSE);
    return status;
}

void settings_free(struct settings *s) { arena_free(&s->arena); }

enum status settings_model(const struct settings *s, const char **model, struct error *err)
{
    if (s->model.set)
        *model = s->model.value;
    else if (s->argument_count)
        *model = s->arguments[0];
    else
        return error_set(err, STATUS_USAGE, "ingot %s needs a model: a folder, a .gguf file, a Hub name, or `default`", s->command);
    return STATUS_OK;
}
