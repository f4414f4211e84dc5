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

static int print_version(void)
{
    printf("ingot %s (%s)\ndevices: cpu (%d cores)\ninstruction sets: %s\n", INGOT_VERSION, INGOT_COMMIT, team_cores(), cpu_isa_name());
    return 0;
}

static int finish(enum status status, const struct error *err)
{
    if (status && err->text[0])
        fprintf(stderr, "ingot: %s\n", err->text);
    return status_exit_code(status);
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is a write error with words, not a silent end */
    struct error err = {0};
    if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
        help_program(argc < 2 ? stderr : stdout);
        return argc < 2 ? 2 : 0;
    }
    if (!strcmp(argv[1], "--version"))
        return print_version();
    if (!strcmp(argv[1], "--man-page"))
        return man_page(stdout), fflush(stdout) != 0;
    if (argc == 3 && !strcmp(argv[1], "--completion"))
        return completion(stdout, argv[2]) ? fflush(stdout) != 0 : 2;
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
        if (fflush(stdout) && !status)
            status = error_set(&err, STATUS_FAILED, "cannot write the result");
        settings_free(&s);
        return finish(status, &err);
    }
    return finish(error_set(&err, STATUS_USAGE, "there is no command %s; see `ingot --help`", QUOTE(argv[1], strlen(argv[1]))), &err);
}
