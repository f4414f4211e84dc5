/* How the text between two tags is read, for those who make models write such text. */
#ifndef TOKENIZERS_OUTPUT_READING_H
#define TOKENIZERS_OUTPUT_READING_H

#include "base/json.h"
#include "base/str.h"

enum tag_reading {
    TAG_ANY,    /* its schema names no types: as JSON if it is JSON, else as a string */
    TAG_TEXT,   /* as a string, whatever it holds */
    TAG_JSON,   /* as JSON; it is never a string */
    TAG_EITHER, /* as a value of one of the other types if it looks like one, else as a string */
};

/* schema: the parameter's own, NULL: undeclared. TAG_EITHER appends to `reserved` a regex of the texts that look like others (and
 * perhaps of a few that do not). reserved may fail; the caller frees it. */
enum tag_reading tag_reading(const struct json *schema, struct str *reserved);

#endif
