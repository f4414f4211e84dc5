/* Strict JSON, a byte at a time: where keys and values begin and end, while the text is still coming. Raw control characters in
 * strings are let through and reported; everything else that json_parse() would refuse is refused, at its first wrong byte
 * (broken UTF-8 apart, which the owner checks). */
#ifndef TOKENIZERS_OUTPUT_JSON_SCAN_H
#define TOKENIZERS_OUTPUT_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { JSON_SCAN_DEPTH = 400 };

struct json_scan { /* zeroed: expects a value, or white space before it */
    uint8_t state;
    uint8_t number;                             /* where in a number */
    uint8_t hex;                                /* digits of \u still to come */
    bool key;                                   /* the string being read is a key */
    const char *literal;                        /* what is left of true, false, null */
    int depth;                                  /* open containers */
    int level;                                  /* containers around what the last event speaks of */
    uint64_t objects[JSON_SCAN_DEPTH / 64 + 1]; /* a bit per open container */
};

enum json_event {
    SCAN_BAD = 1,         /* not JSON; nothing may follow */
    SCAN_STRING = 2,      /* a string, key or value, begins with this byte */
    SCAN_KEY = 4,         /* a key ends with this byte */
    SCAN_BEGIN = 8,       /* a value begins with this byte */
    SCAN_END = 16,        /* a string, array or object ends with this byte */
    SCAN_END_BEFORE = 32, /* a number or literal ended before this byte */
    SCAN_CONTROL = 64,    /* a raw control character in a string */
    SCAN_DONE = 128,      /* the outermost value, a container or a string, ends with this byte */
};

unsigned json_scan_byte(struct json_scan *s, unsigned char c); /* a set of json_event */

#endif
