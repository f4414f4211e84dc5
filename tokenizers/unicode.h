/* Characters as the tokenizer components see them, and the text form that they work on.
 *
 * Inside, text is UTF-8 in which a stray byte (one that belongs to no character) stands as the lone surrogate
 * U+DC00 + byte, in three bytes. Real text never holds one, because a surrogate in the input is itself three stray
 * bytes. So every byte reaches the byte tokens, and regexes and normalizers see one ordinary unknown character. */
#ifndef TOKENIZERS_UNICODE_H
#define TOKENIZERS_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

/* Next character of inside text (size > 0): 1..4 bytes, never more than size. Broken text gives U+FFFD. */
size_t text_next(const char *text, size_t size, uint32_t *codepoint);

/* Writes a character, lone surrogates of stray bytes included; 1..4 bytes. */
size_t text_put(uint32_t codepoint, char out[4]);
void text_add(struct str *out, uint32_t codepoint);

/* Any bytes as inside text. keep_bytes: stray bytes become surrogates, else each maximal bad part is one U+FFFD.
 * marks (may be NULL): one for each byte of text; out_marks gets one for each byte of out. */
void text_enter(const char *text, size_t size, bool keep_bytes, const bool *marks, struct str *out, struct str *out_marks);

static inline bool text_is_stray(uint32_t c) { return c >= 0xDC80 && c <= 0xDCFF; }

/* Start of the character before `at` (at > 0). */
size_t text_before(const char *text, size_t at);

/* GPT-2's printable stand-in of each byte, and back (-1: not of the alphabet). */
extern const uint16_t byte_stand_in[256];
int stand_in_byte(uint32_t codepoint);

/* Classes as the `tokenizers` package has them; its parts follow different versions of Unicode (unicode_tables.def). */
bool is_white(uint32_t c);       /* White_Space */
bool is_numeric(uint32_t c);     /* Nd, Nl, No */
bool is_punctuation(uint32_t c); /* ASCII punctuation, or category P */
bool is_word(uint32_t c);        /* \w: alphabetic, marks, decimal digits, connectors, joiners */
bool is_accent(uint32_t c);      /* what StripAccents takes away: marks of every kind */
bool is_nonspacing(uint32_t c);  /* what BertNormalizer's strip_accents takes away: Mn */
bool is_other(uint32_t c);       /* what BertNormalizer's clean_text takes away: controls, formats, private use */
bool is_plain_form(uint32_t c);  /* normal forms leave it as it is: the package does not know it yet */
bool is_newly_joined(uint32_t c); /* joins the grapheme in front of it, which utf8proc does not know yet */
uint32_t to_lower(uint32_t c);   /* to one character; U+0130 has two and is the caller's */

/* utf8proc's number of the general category, as the package's regexes know it. */
uint8_t regex_category(uint32_t c);

/* What PCRE2 does not know yet of a property ("Lu", "L", "Han" ...), as members of a class; appended to out. */
void add_newer_members(const char *property, size_t size, struct str *out);

#endif
