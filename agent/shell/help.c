/* --help from the tables. */
#include "agent/shell/shell.h"

#include <string.h>

static const struct {
    unsigned group;
    const char *title;
} sections[] = {{~(GROUP_SAMPLING | GROUP_ENGINE | GROUP_COMMON), "Options"}, {GROUP_SAMPLING, "Sampling"}, {GROUP_ENGINE, "Model and machine"}, {GROUP_COMMON, "Common"}};

void help_program(FILE *out)
{
    fprintf(out, "ingot " INGOT_VERSION ": runs published transformer checkpoints on this machine\n\nUsage: ingot COMMAND [arguments] [options]\n\nCommands:\n");
    for (int i = 0; i < command_count; i++)
        fprintf(out, "  %-12s %s\n", commands[i].name, commands[i].help);
    fprintf(out, "\nA MODEL is a folder in Hugging Face layout, a .gguf file, a name on the Hub, or `default`.\n"
                 "`ingot COMMAND --help` lists a command's options. Start with: ingot run default \"Why is the sky blue?\"\n");
}

void help_command(FILE *out, const struct command *c)
{
    fprintf(out, "Usage: ingot %s %s [options]\n\n%s\n", c->name, c->arguments, c->help);
    for (size_t s = 0; s < sizeof sections / sizeof *sections; s++) {
        bool titled = false;
        for (int i = 0; i < option_count; i++) {
            const struct option *o = &options[i];
            if (!(o->group & sections[s].group) || !(o->group & (c->groups | GROUP_COMMON)))
                continue;
            if (!titled)
                fprintf(out, "\n%s:\n", sections[s].title);
            titled = true;
            char left[80];
            snprintf(left, sizeof left, "%s%c%s--%s%s%s", o->letter ? "-" : "", o->letter ? o->letter : ' ', o->letter ? ", " : "   ", o->name,
                     o->argument ? " " : "", o->argument ? o->argument : "");
            fprintf(out, "  %-34s %s\n", left, o->help);
        }
    }
}
