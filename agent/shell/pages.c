/* The man page and the shells' completions, from the tables. Not for typing: `ingot --man-page`, `ingot --completion bash|zsh|fish`. */
#include <string.h>

#include "agent/shell/shell.h"

/* roff: a leading dot or a backslash would be a command. */
static void put_roff(FILE *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '\\')
            fputs("\\e", out);
        else if (*text == '-')
            fputs("\\-", out);
        else
            fputc(*text, out);
    }
}

void man_page(FILE *out)
{
    fprintf(out, ".TH INGOT 1 \"\" \"ingot " INGOT_VERSION "\" \"User Commands\"\n.SH NAME\ningot \\- runs published transformer checkpoints on this machine\n"
                 ".SH SYNOPSIS\n.B ingot\n.I command\n[arguments] [options]\n.SH COMMANDS\n");
    for (int i = 0; i < command_count; i++) {
        fprintf(out, ".TP\n.B ");
        put_roff(out, commands[i].name);
        fprintf(out, " \\fR");
        put_roff(out, commands[i].arguments);
        fprintf(out, "\n");
        put_roff(out, commands[i].help);
        fprintf(out, "\n");
    }
    fprintf(out, ".SH OPTIONS\nWhich command takes which option is shown by\n.BR \"ingot COMMAND \\-\\-help\" .\n");
    for (int i = 0; i < option_count; i++) {
        fprintf(out, ".TP\n.B ");
        if (options[i].letter)
            fprintf(out, "\\-%c\\fR, \\fB", options[i].letter);
        fprintf(out, "\\-\\-");
        put_roff(out, options[i].name);
        if (options[i].argument) {
            fprintf(out, " \\fI");
            put_roff(out, options[i].argument);
        }
        fprintf(out, "\n");
        put_roff(out, options[i].help);
        fprintf(out, "\n");
    }
    fprintf(out, ".SH EXIT STATUS\n0 done; 1 failed or no usable device; 2 wrong usage; 3 denied; 4 a bad or missing model or file; 5 does not fit in memory or\n"
                 "context; 6 network; 130 interrupted.\n.SH ENVIRONMENT\nEvery option can be set as INGOT_ and its name, as in INGOT_MAX_TOKENS or INGOT_CONFIG; arguments win over it, and it wins over the\nconfiguration file. Also INGOT_HOME, INGOT_ISA, INGOT_LOG, NO_COLOR; HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN,\n"
                 "HF_HUB_OFFLINE as for huggingface_hub.\n");
}

static void list_options(FILE *out, const struct command *c)
{
    for (int i = 0; i < option_count; i++)
        if (options[i].group & (c->groups | GROUP_COMMON))
            fprintf(out, " --%s", options[i].name);
}

bool completion(FILE *out, const char *shell)
{
    if (!strcmp(shell, "bash") || !strcmp(shell, "zsh")) {
        if (!strcmp(shell, "zsh"))
            fprintf(out, "#compdef ingot\nautoload -U +X bashcompinit && bashcompinit\n");
        fprintf(out, "_ingot() {\n  local word=${COMP_WORDS[COMP_CWORD]} words\n  if [ $COMP_CWORD -eq 1 ]; then words='");
        for (int i = 0; i < command_count; i++)
            fprintf(out, "%s ", commands[i].name);
        fprintf(out, "--help --version'\n  else case ${COMP_WORDS[1]} in\n");
        for (int i = 0; i < command_count; i++) {
            fprintf(out, "    %s) words='--help", commands[i].name);
            list_options(out, &commands[i]);
            fprintf(out, "' ;;\n");
        }
        fprintf(out, "  esac; fi\n  COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n}\ncomplete -o default -F _ingot ingot\n");
        return true;
    }
    if (strcmp(shell, "fish"))
        return false;
    for (int i = 0; i < command_count; i++) {
        fprintf(out, "complete -c ingot -n __fish_use_subcommand -a %s -d '%s'\n", commands[i].name, commands[i].help);
        for (int k = 0; k < option_count; k++)
            if (options[k].group & (commands[i].groups | GROUP_COMMON))
                fprintf(out, "complete -c ingot -n '__fish_seen_subcommand_from %s' -l %s%s\n", commands[i].name, options[k].name,
                        options[k].argument ? " -r" : "");
    }
    return true;
}
