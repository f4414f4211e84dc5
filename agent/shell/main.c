/* The `ingot` program: finds the command, reads its settings, turns its status into words and an exit code. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/shell/shell.h"
#include "base/team.h"
#include "kernels/ops.h"

const struct command commands[] = {
#define COMMAND(name, arguments, help, groups) {#name, arguments, help, groups, command_##name},
#include "agent/commands.def"
#undef COMMAND
    {0}};
const int command_count = sizeof commands / sizeof *commands - 1;

static int finish(enum status status, const struct error *err)
{
    if (status && err->text[0])
        fprintf(stderr, "ingot: %s\n", err->text);
    return status_exit_code(status);
}

/* What the program says about itself, from its own tables. */
static enum status print_about(const char *what, const char *shell, bool *known, struct error *err)
{
    *known = true;
    if (!strcmp(what, "--help") || !strcmp(what, "-h") || !strcmp(what, "help"))
        help_program(stdout);
    else if (!strcmp(what, "--version"))
        printf("ingot %s (%s)\ndevices: cpu (%d cores)\ninstruction sets: %s\n", INGOT_VERSION, INGOT_COMMIT, team_cores(), cpu_isa_name());
    else if (!strcmp(what, "--man-page"))
        man_page(stdout);
    else if (!strcmp(what, "--completion") && shell) {
        if (!completion(stdout, shell))
            return error_set(err, STATUS_USAGE, "--completion: %s is none of bash, zsh, fish", QUOTE(shell, strlen(shell)));
    } else
        *known = false;
    return output_finish(stdout, err);
}

int main(int argc, char **argv)
{
    static char output[1 << 16]; /* what is flushed at the end fails there, where the reason is told */
    signal(SIGPIPE, SIG_IGN);    /* a closed pipe is a write error with words, not a silent end */
    if (!isatty(STDOUT_FILENO))
        setvbuf(stdout, output, _IOFBF, sizeof output);
    struct error err = {0};
    if (argc < 2)
        return help_program(stderr), 2;
    bool known;
    enum status about = print_about(argv[1], argc > 2 ? argv[2] : NULL, &known, &err);
    if (known)
        return finish(about, &err);
    for (int i = 0; i < command_count; i++) {
        if (strcmp(argv[1], commands[i].name) != 0)
            continue;
        struct settings s = {0};
        bool help;
        enum status status = settings_parse(&s, &commands[i], argc - 2, argv + 2, &help, &err);
        if (!status && help)
            help_command(stdout, &commands[i]);
        else if (!status)
            status = commands[i].run(&s, &err);
        if (!status)
            status = output_finish(stdout, &err);
        settings_free(&s);
        return finish(status, &err);
    }
    return finish(error_set(&err, STATUS_USAGE, "there is no command %s; see `ingot --help`", QUOTE(argv[1], strlen(argv[1]))), &err);
}
