/* TOML 1.0 as configuration files use it, read into the same tree as JSON: tables, dotted keys, arrays of tables, inline tables,
 * all string forms, integers (hex, octal, binary too), floats, booleans. Dates and times are refused by name. No packaged C
 * reader exists; this one is small on purpose. */
#ifndef BASE_TOML_H
#define BASE_TOML_H

#include "base/json.h"

/* Parses text (UTF-8) into out, an object; everything is copied into the arena. STATUS_BAD_INPUT with the line. */
enum status toml_parse(struct arena *arena, const char *text, size_t size, struct json *out, struct error *err);

#endif
