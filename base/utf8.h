/* UTF-8: decoding with replacement, validation, classes that output code needs. Unicode properties proper
 * (letters, normal forms) come from utf8proc where they are needed. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Decodes one character of text (size > 0). A malformed sequence gives U+FFFD and consumes its maximal
 * ill-formed part (Unicode 3.9, D93b), as browsers and Python do. Returns the bytes consumed, 1..4. */
size_t utf8_decode(const char *text, size_t size, uint32_t *codepoint);

/* Writes one character (surrogates and values above U+10FFFF as U+FFFD) into out[4]; returns 1..4. */
size_t utf8_encode(uint32_t codepoint, char out[4]);

/* First byte that does not belong to well-formed UTF-8, or size. */
size_t utf8_valid_prefix(const char *text, size_t size);
static inline bool utf8_is_valid(const char *text, size_t size) { return utf8_valid_prefix(text, size) == size; }

/* Bytes at the end of text that begin a character but do not finish it (0..3): what a stream holds back. */
size_t utf8_unfinished(const char *text, size_t size);

/* False for controls (C0, C1, DEL), bidirectional controls, line separators, noncharacters and U+FFFD itself
 * never (it is printable): what may be shown on a terminal. */
bool utf8_is_printable(uint32_t codepoint);

#endif
