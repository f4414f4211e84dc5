/* What the commands that handle only text share. */
#ifndef AGENT_SHELL_COMMANDS_TEXT_H
#define AGENT_SHELL_COMMANDS_TEXT_H

#include "agent/shell/shell.h"
#include "base/json.h"
#include "tokenizers/tokenizers.h"

enum { TEXT_LIMIT = 256 << 20 }; /* bytes of one input text or line */

/* The tokenizer of MODEL: a folder, a GGUF (a vocabulary alone too), a lone tokenizer.json. */
enum status text_open_tokenizer(struct tokenizer **out, const char *name, bool offline, struct error *err);

/* The chat templates of MODEL, or the one in a file, into a zeroed source. */
enum status text_open_templates(struct chat_source *out, const char *name, bool offline, struct error *err);
enum status text_open_template_file(struct chat_source *out, const char *path, struct error *err);

/* Answers every line of stdin through `answer`, which appends JSON to out. A line that fails answers {"error": "..."} and
 * the others go on; then the result is STATUS_FAILED without words, because each line has its own. */
typedef enum status text_answer(const void *context, const struct json *line, struct str *out, struct error *err);
enum status text_answer_lines(text_answer *answer, const void *context, struct error *err);

/* Prints what is in text and a newline. */
enum status text_print_line(struct str *text, struct error *err);

/* Optional keys of a request line; false with a message if they have the wrong type. */
bool text_take_bool(const struct json *line, const char *key, bool *out, struct error *err);

#endif
