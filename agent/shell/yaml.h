#ifndef AGENT_SHELL_YAML_H
#define AGENT_SHELL_YAML_H

#include "base/json.h"

/* Reads YAML text into a JSON tree; everything lives in the arena. STATUS_BAD_INPUT with the line. */
enum status yaml_read(struct arena *arena, const char *text, size_t size, struct json *out, struct error *err);

#endif
