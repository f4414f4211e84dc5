/* The program around the library: settings from arguments, environment and a configuration file; one function per
 * command. Results go to stdout, everything else to stderr. */
#ifndef AGENT_SHELL_SHELL_H
#define AGENT_SHELL_SHELL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/status.h"
#include "base/str.h"

/* A setting knows whether somebody set it, and where. */
enum setting_source { SET_NOWHERE, SET_BY_FILE, SET_BY_ENVIRONMENT, SET_BY_ARGUMENT };

struct setting_FLAG { bool value; enum setting_source set; };
struct setting_TEXT { const char *value; enum setting_source set; };
struct setting_INT { int64_t value; enum setting_source set; };
struct setting_SIZE { int64_t value; enum setting_source set; };
struct setting_REAL { double value; enum setting_source set; };
struct setting_LIST { const char **value; int count; enum setting_source set; };

/* One struct for all commands: s->max_tokens.value, s->max_tokens.set. Which options a command accepts is in the tables. */
struct settings {
    struct arena arena;
#define OPTION(field, name, letter, kind, argument, group, help) struct setting_##kind field;
#include "agent/options.def"
#undef OPTION
    const char *command;
    const char **arguments; /* what is no option, in order; "-" stands for stdin */
    int argument_count;
};

enum option_kind { OPTION_FLAG, OPTION_TEXT, OPTION_INT, OPTION_SIZE, OPTION_REAL, OPTION_LIST };
enum option_group {
    GROUP_COMMON = 1, GROUP_SAMPLING = 1 << 1, GROUP_ENGINE = 1 << 2, GROUP_OUTPUT = 1 << 3, GROUP_LINES = 1 << 4, GROUP_TOKENIZE = 1 << 5,
    GROUP_DETOKENIZE = 1 << 6, GROUP_TEMPLATE = 1 << 7, GROUP_STRICT = 1 << 8, GROUP_IDS = 1 << 9, GROUP_LOGITS = 1 << 10, GROUP_CHAT = 1 << 11,
    GROUP_RUN = 1 << 12, GROUP_RESUME = 1 << 13, GROUP_SERVE = 1 << 14, GROUP_PARALLEL = 1 << 15, GROUP_BENCH = 1 << 16, GROUP_PLAN = 1 << 17,
    GROUP_INSPECT = 1 << 18, GROUP_CONVERT = 1 << 19, GROUP_REMOVE = 1 << 20, GROUP_LENGTH = 1 << 21, GROUP_PERPLEXITY = 1 << 22,
    GROUP_PARSE = 1 << 23, GROUP_DIALECT = 1 << 24, GROUP_TOOLS = 1 << 25, GROUP_GRAMMAR = 1 << 26,
};

struct option {
    const char *name, *argument, *help;
    char letter;
    enum option_kind kind;
    unsigned group;
    size_t offset; /* in struct settings */
};
extern const struct option options[];
extern const int option_count;

struct command {
    const char *name, *arguments, *help;
    unsigned groups;
    enum status (*run)(const struct settings *s, struct error *err);
};
extern const struct command commands[];
extern const int command_count;

#define COMMAND(name, arguments, help, groups) enum status command_##name(const struct settings *s, struct error *err);
#include "agent/commands.def"
#undef COMMAND

/* Where an option's present value comes from. */
enum setting_source settings_source(const struct settings *s, const struct option *o);
/* Arguments behind the command's name; for what they leave open the environment (INGOT_MAX_TOKENS ...), then the file of
 * --config or INGOT_CONFIG.
 * STATUS_USAGE names the option. *help is set when --help was asked for. */
enum status settings_parse(struct settings *s, const struct command *c, int argc, char **argv, bool *help, struct error *err);
void settings_free(struct settings *s);
/* Configuration files (settings_file.c): keys are option names with '_'; unknown keys are errors. */
enum status settings_read_file(struct settings *s, const struct command *c, const char *path, struct error *err);
/* One value as text into an option's field; for arguments, files and tests alike. */
enum status settings_set(struct settings *s, const struct option *o, const char *text, enum setting_source source, struct error *err);

void help_program(FILE *out);
void help_command(FILE *out, const struct command *c);
/* The same tables as a man page, and as completions for bash, zsh or fish (false: another shell). */
void man_page(FILE *out);
bool completion(FILE *out, const char *shell);

/* The first argument, or --model: what the command works on. STATUS_USAGE if there is none. */
enum status settings_model(const struct settings *s, const char **model, struct error *err);

/* Ends the line of stdout's results safely: STATUS_FAILED if writing failed (full disk, closed pipe). */
enum status output_finish(FILE *out, struct error *err);

/* ---- models (open.c) ------------------------------------------------------------------------------------------------ */

struct ingot_model;
struct ingot_engine;
struct ingot_engine_options;
struct ingot_request_options;
struct ingot_event;

/* What the settings say about opening a model; STATUS_USAGE for options that exclude each other. */
struct ingot_model_options;
enum status shell_model_options(const struct settings *s, struct ingot_model_options *out, struct error *err);
/* The model that the settings name, with progress on a terminal; --template replaces its chat template. */
enum status shell_model(const struct settings *s, const char *name, struct ingot_model **out, struct error *err);
/* What the settings say about running; STATUS_USAGE for values that no engine could take. */
enum status shell_engine_options(const struct settings *s, struct ingot_engine_options *out, struct error *err);
/* Both, and with -v what was chosen and why. parallel: sequences that run together. */
enum status shell_engine(const struct settings *s, const char *name, int parallel, struct ingot_model **model, struct ingot_engine **engine,
                         struct error *err);
/* The model's sampling defaults with the settings over them. bias: [s->logit_bias.count] of the caller. */
struct ingot_bias;
enum status shell_request(const struct settings *s, const struct ingot_model *model, struct ingot_bias *bias,
                          struct ingot_request_options *out, struct error *err);

/* A chat request (JSON text) as the settings say: --strict-template, --dialect. What was done to it is said on stderr. */
struct ingot_chat;
enum status shell_chat(const struct settings *s, const struct ingot_model *model, const struct str *request, struct ingot_chat **out, struct error *err);

/* What --schema, --grammar or --regex name; GRAMMAR_NONE: nothing. The text lives in the arena or the settings. */
struct grammar_source {
    enum { GRAMMAR_NONE, GRAMMAR_SCHEMA, GRAMMAR_GBNF, GRAMMAR_LARK, GRAMMAR_REGEX } kind;
    const char *text;
    size_t size;
};
enum status shell_grammar_source(const struct settings *s, struct arena *arena, struct grammar_source *out, struct error *err);
/* The same compiled; NULL: nothing. The caller closes it. */
struct ingot_grammar;
enum status shell_grammar(const struct settings *s, struct ingot_grammar **out, struct error *err);
/* The same as a member of a chat's request, ", \"response_format\": ..."; nothing where nothing is named. */
enum status shell_grammar_format(const struct settings *s, struct str *out, struct error *err);

/* A JSON list of ids, or a list of such lists, from a file ("-": stdin): sequences one after another in *ids, their lengths in
 * *lengths. Both in the arena. */
enum status shell_read_ids(struct arena *arena, const char *path, int32_t **ids, size_t **lengths, size_t *count, struct error *err);

/* Text of a model on its way to stdout (or another stream): on a terminal without control characters (R23). */
void shell_print(const char *text, size_t size);
void shell_write(FILE *out, const char *text, size_t size);

/* Ctrl-C sets a flag instead of ending the program; a second one within the same wait ends it. */
void interrupt_catch(void);
bool interrupt_seen(void);
void interrupt_clear(void);

/* Reads lines of stdin for --jsonl: *line lives until the next call. *end is set behind the last. Lines over limit bytes
 * are STATUS_BAD_INPUT for that line alone: the rest of it is skipped. */
struct line_reader {
    FILE *in;
    struct str line;
    size_t limit;
};
enum status line_read(struct line_reader *r, const char **line, size_t *size, bool *end, struct error *err);

#endif
